"""Tone by curves that are found from the image itself: thresholds, and limits to stretch between."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from cvkit._checks import check_choice, check_finite, check_integer, check_interval
from cvkit.imgops import _steps
from cvkit.imgops._counting import as_numpy, level_counts, natural_levels, plane_of, select
from cvkit.imgops._kinds import Unpacked, from_numpy, is_tensor, unpack, working
from cvkit.imgops._luma import check_luma, luma_plane
from cvkit.imgops.histograms import Histogram
from cvkit.imgops.luts import Lut, apply_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Array, ArrayLike, Image, ImageT
    from cvkit.imgops._steps import Step

__all__ = ["autocontrast", "autocontrast_lut", "threshold"]

ThresholdMethod: TypeAlias = Literal["otsu", "triangle", "li", "yen", "isodata", "minimum"]


def threshold(
    image: ImageT,
    value: float | Sequence[float] | ThresholdMethod = "otsu",
    *,
    mask: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Make every value the top of the range where it is greater than a threshold, else the bottom.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    value : float, sequence of float or {'otsu', 'triangle', 'li', 'yen', 'isodata', 'minimum'}, default 'otsu'
        The threshold in the units of the image, one for all colour channels or one for each; or how to find it, for
        every channel of every image by itself (see `Histogram`).
    mask : Pillow image, ndarray or Tensor, optional
        Where the threshold is to be found: only pixels where this is not zero are looked at.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If the threshold is of another form, or a method finds none.

    Notes
    -----
    The gradient is zero everywhere. With float images the threshold is found on 256 bins.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import threshold
    >>> threshold(np.array([[10, 20, 200, 210]], dtype=np.uint8))
    array([[  0,   0, 255, 255]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    threads = check_integer("threads", threads, minimum=1)
    cuts = (_found_thresholds(opened, value, mask) - opened.low) / (opened.high - opened.low)
    # A hair more, so that a level that equals the threshold is never above it.
    step = _steps.Threshold(cuts + 1e-12 if opened.integer else cuts)
    return cast("ImageT", apply_steps(opened, [step], threads=threads))


def _found_thresholds(opened: Unpacked, value: object, mask: Image | None) -> Array:
    """Return the thresholds in the image's units, (N or 1, colors or 1)."""
    if isinstance(value, str):
        check_choice("value", value, ("otsu", "triangle", "li", "yen", "isodata", "minimum"))
        found: Array = getattr(_counted(opened, opened.color, select(opened, mask)), value)()
        return np.nan_to_num(found, nan=opened.high)
    if hasattr(value, "__len__"):
        given = np.array([[check_finite("value", v) for v in value]])  # type: ignore[attr-defined]
        if given.shape[1] not in {1, opened.colors}:
            raise ValueError(
                f"`value` must be one threshold or one for each of {opened.colors} channels; got {value!r}"
            )
        return given
    return np.array([[check_finite("value", value)]])  # type: ignore[arg-type]


def _counted(opened: Unpacked, color: ArrayLike, chosen: Array | None) -> Histogram:
    """Return the histogram of planes on the image's own levels (256 for floats)."""
    plain = replace(opened, pixels=color, colors=color.shape[1], alpha=False)
    count = natural_levels(opened)
    half = (opened.high - opened.low) / (count - 1) / 2
    counts = level_counts(plain, count, chosen)
    edges = np.linspace(opened.low - half, opened.high + half, count + 1)
    return Histogram(counts, edges, np.zeros(counts.shape[:2], np.int64), discrete=True)


def autocontrast(
    image: ImageT,
    low: float = 0.0,
    high: float = 0.0,
    *,
    by: Literal["channel", "luma"] = "channel",
    mask: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Stretch the values so that they fill the range.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    low, high : float, default 0.0
        Percentages of the darkest and of the lightest pixels that may be clipped.
    by : {'channel', 'luma'}, default 'channel'
        Stretch each colour channel by itself, or take the limits of luma (Rec. 601) for all of them, which keeps the
        colour balance.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where this is not zero are looked at.
    skip_transparent : bool, default False
        Whether to leave out pixels whose alpha is zero.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If percentages lie outside [0, 100] or leave nothing.

    Notes
    -----
    The limits are values of the image: the smallest with at least `low` percent of the pixels at or below it, and the
    largest with at least `high` percent at or above it; values outside the range count as its ends. Where both limits
    are equal the channel is left as it is. For float tensors the result is differentiable, through the two pixels that
    set the limits as well.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import autocontrast
    >>> autocontrast(np.array([[50, 100, 150]], dtype=np.uint8))
    array([[  0, 128, 255]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    threads = check_integer("threads", threads, minimum=1)
    chosen = select(opened, mask, skip_transparent=skip_transparent)
    _looked_at(opened, low, high, by)
    if 0 in opened.pixels.shape:
        return cast("ImageT", opened.pack(opened.pixels))
    if is_tensor(opened.pixels):
        return cast("ImageT", opened.pack_color(_stretched(opened, low, high, by, chosen)))
    black, white = _limits(opened, low, high, by, chosen)
    return cast("ImageT", apply_steps(opened, [_stretch(opened, black, white)], threads=threads))


def autocontrast_lut(
    image: Image,
    low: float = 0.0,
    high: float = 0.0,
    *,
    by: Literal["channel", "luma"] = "channel",
    mask: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> Lut:
    """Return the curve that `autocontrast` would apply to an image, to join it with others or use it elsewhere.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        A single image of any kind.
    low, high : float, default 0.0
        Percentages of the darkest and of the lightest pixels that may be clipped.
    by : {'channel', 'luma'}, default 'channel'
        Stretch each colour channel by itself, or take the limits of luma (Rec. 601) for all of them, which keeps the
        colour balance.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where this is not zero are looked at.
    skip_transparent : bool, default False
        Whether to leave out pixels whose alpha is zero.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.

    Returns
    -------
    Lut
        A curve for each colour channel.

    Raises
    ------
    ValueError
        If percentages lie outside [0, 100] or leave nothing, or there is more than one image.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import Lut, autocontrast_lut
    >>> photo = np.array([[50, 100, 150]], dtype=np.uint8)
    >>> (Lut.invert() @ autocontrast_lut(photo))(photo)
    array([[255, 128,   0]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if opened.pixels.shape[0] != 1:
        raise ValueError(f"`image` must be a single image; got a batch of {opened.pixels.shape[0]}")
    black, white = _limits(opened, low, high, by, select(opened, mask, skip_transparent=skip_transparent))
    return Lut((_stretch(opened, black, white),))


def _looked_at(opened: Unpacked, low: float, high: float, by: str) -> tuple[float, float, ArrayLike]:
    """Check the options and return them with the planes whose limits are sought."""
    low, high = check_interval("low", low, 0.0, 100.0), check_interval("high", high, 0.0, 100.0)
    if low + high >= 100:
        raise ValueError(f"`low` and `high` must leave something; got {low:g} and {high:g} percent")
    check_choice("by", by, ("channel", "luma"))
    if by == "channel":
        return low, high, opened.color
    check_luma(opened)
    return low, high, luma_plane(opened)


def _limits(opened: Unpacked, low: float, high: float, by: str, chosen: Array | None) -> tuple[Array, Array]:
    """Return the black and the white point of the image, each (N, colors or 1); NaN where nothing is known."""
    low, high, planes = _looked_at(opened, low, high, by)
    if opened.integer and opened.high - opened.low < 65536:
        found = _counted(opened, planes, chosen)
        mirrored = Histogram(found.counts[..., ::-1], -found.edges[::-1], found.missing, discrete=True)
        return found.percentile(low), -mirrored.percentile(high)
    array = np.clip(as_numpy(planes), opened.low, opened.high)
    limits = np.full((2, *array.shape[:2]), np.nan)
    for n, c in np.ndindex(*array.shape[:2]):
        plane = array[n, c]
        values = np.sort(plane[plane_of(chosen, n)] if chosen is not None else plane, axis=None)
        values = values[: values.size - int(np.count_nonzero(np.isnan(values)))]  # NaN sort last
        if values.size:
            first, last = _ranks(values.size, low, high)
            limits[:, n, c] = values[first], values[last]
    return limits[0], limits[1]


def _ranks(count: int, low: float, high: float) -> tuple[int, int]:
    """Return the ranks, from 0, of the smallest value with `low` percent up to it and the largest with `high`."""
    before, after = (max(math.ceil(count * percent / 100) - 1, 0) for percent in (low, high))
    return before, count - 1 - after


def _stretched(opened: Unpacked, low: float, high: float, by: str, chosen: Array | None) -> Tensor:
    """Return a tensor's colours stretched between its limits: these are pixels, and pass their gradient on."""
    import torch

    low, high, found = _looked_at(opened, low, high, by)
    planes = cast("Tensor", working(found)).clamp(opened.low, opened.high).flatten(2)
    color = cast("Tensor", working(opened.color))
    known = ~planes.detach().isnan()
    if chosen is not None:
        known &= from_numpy(chosen).to(known.device).flatten(2)
    bottom, top = torch.full_like(planes[:, :, 0:1], opened.low), torch.full_like(planes[:, :, 0:1], opened.high)
    for n, c in np.ndindex(*planes.shape[:2]):
        place = known[n, c].nonzero()[:, 0]
        if place.numel():
            order = place[planes.detach()[n, c, place].argsort()]
            first, last = _ranks(len(order), low, high)
            if planes[n, c, order[first]] < planes[n, c, order[last]]:
                bottom[n, c], top[n, c] = planes[n, c, order[first]], planes[n, c, order[last]]
    share = ((color - bottom[..., None]) / (top - bottom)[..., None]).clamp(0, 1)
    return opened.low + (opened.high - opened.low) * share


def _stretch(opened: Unpacked, black: Array, white: Array) -> Step:
    """Return the curve from black and white points (N, C) of the image; a channel without contrast keeps itself."""
    low, span = opened.low, opened.high - opened.low
    flat = ~(black < white)  # NaN included
    start = np.where(flat, 0.0, (black - low) / span)
    return _steps.Stretch(start, np.where(flat, 1.0, (white - low) / span))
