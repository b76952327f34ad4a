"""A picture of a histogram, without a plotting library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_choice, check_finite, check_instance, check_size
from cvkit.imgops.histograms import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from cvkit._types import Array

__all__ = ["draw_histogram"]

_BACKGROUND = np.array([22.0, 24.0, 29.0])
_GRID = np.array([44.0, 47.0, 54.0])
_MARK = np.array([255.0, 214.0, 90.0])
_GRAY = np.array([[205.0, 208.0, 214.0]])
# Red, green and blue add up to a neutral grey where all three overlap.
_RGB = np.array([[172.0, 20.0, 24.0], [18.0, 150.0, 32.0], [24.0, 46.0, 180.0]])
_OTHERS = np.array([[222.0, 142.0, 50.0], [60.0, 170.0, 190.0], [170.0, 96.0, 210.0], [150.0, 180.0, 60.0]])


def draw_histogram(
    histogram: Histogram,
    *,
    size: tuple[int, int] = (200, 512),
    scale: Literal["linear", "sqrt", "log"] = "linear",
    marks: Sequence[float] = (),
) -> Array:
    """Draw a histogram: filled curves on a dark ground, which add up where channels overlap.

    Parameters
    ----------
    histogram : Histogram
        The histogram of one image.
    size : (height, width), default (200, 512)
        Size of the picture in pixels, at least (8, 8).
    scale : {'linear', 'sqrt', 'log'}, default 'linear'
        What the height of a column is proportional to: the count, its root, or the logarithm of the count plus one.
        The highest column of all channels just fits.
    marks : sequence of float, optional
        Values to mark by upright lines, thresholds for example; those outside the range are left out.

    Returns
    -------
    ndarray of shape (height, width, 3)
        uint8 RGB. One channel is drawn in light grey, three in red, green and blue.

    Raises
    ------
    ValueError
        If the histogram is of a batch, or the size is too small.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import draw_histogram, histogram
    >>> photo = np.arange(256, dtype=np.uint8).reshape(16, 16)
    >>> draw_histogram(histogram(photo), size=(60, 128), marks=[85.5, 170.5]).shape
    (60, 128, 3)
    """
    check_instance("histogram", histogram, Histogram)
    height, width = check_size("size", size, minimum=8)
    check_choice("scale", scale, ("linear", "sqrt", "log"))
    counts = histogram.counts.astype(np.float64)
    if counts.ndim != 2:
        raise ValueError(f"`histogram` must be of one image; got counts of shape {counts.shape}, a batch")
    columns = _columns(counts, width)
    columns = np.log1p(columns) if scale == "log" else np.sqrt(columns) if scale == "sqrt" else columns
    tallest = columns.max(initial=0.0)
    heights = columns / tallest * (height - 4) if tallest > 0 else columns
    # Share of each pixel that lies under the curve: its lowest row is row height - 1.
    floor = np.arange(height - 1, -1, -1, dtype=np.float64)[:, None]
    picture = np.tile(_BACKGROUND, (height, width, 1))
    for quarter in (1, 2, 3):
        picture[:, width * quarter // 4] = _GRID
    for channel, color in zip(heights, _colors(len(heights)), strict=True):
        picture += np.clip(channel[None, :] - floor, 0, 1)[..., None] * color
    for value in marks:
        place = (check_finite("marks", value) - histogram.edges[0]) / (histogram.edges[-1] - histogram.edges[0])
        if 0 <= place <= 1:
            picture[:, min(int(place * width), width - 1)] = _MARK
    return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)


def _columns(counts: Array, width: int) -> Array:
    """Return a height for each column (C, width): the bin there, or the highest of several, so that no peak is lost."""
    bins = counts.shape[1]
    if bins <= width:
        return counts[:, np.arange(width) * bins // width]
    starts = np.arange(width) * bins // width
    return np.maximum.reduceat(counts, starts, axis=1)


def _colors(channels: int) -> Array:
    if channels == 1:
        return _GRAY
    return _RGB if channels == 3 else np.resize(_OTHERS, (channels, 3))
