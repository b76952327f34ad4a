"""Giving an image the histogram of another, or one that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from cvkit._checks import check_choice, check_instance, check_integer, shown
from cvkit.imgops._apply import apply_integers
from cvkit.imgops._counting import MOST_LEVELS, as_numpy, level_counts, natural_levels, plane_of, select
from cvkit.imgops._kinds import Unpacked, from_numpy, is_tensor, quantize, unpack, working
from cvkit.imgops._steps import Table
from cvkit.imgops.histograms import Histogram
from cvkit.imgops.luts import Lut

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from cvkit._types import Array, ArrayLike, Image, ImageT

    Distribution: TypeAlias = tuple[Array, Array]  # values in [0, 1], rising, and how often each occurs (none zero)

__all__ = ["match_histograms", "match_lut", "specify_histogram"]

Ranks = Literal["middle", "skimage"]

_TICK = 1e-9  # pushes exact halves that float64 misses by its last bits over the edge


def match_histograms(
    image: ImageT,
    reference: Image,
    *,
    method: Ranks = "middle",
    mask: Image | None = None,
    reference_mask: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    reference_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Change the values of an image so that their distribution becomes that of a reference.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch; every colour channel of every image is matched by itself. Alpha is left alone.
    reference : Pillow image, ndarray or Tensor
        An image of any kind, size and dtype with as many colour channels, or with one that serves all; or a batch of
        as many. Its range is stretched to that of the image.
    method : {'middle', 'skimage'}, default 'middle'
        Which share of pixels a value stands for: those below it and half of those equal to it, which gets the mean of
        the reference right; or all of those up to it, as in scikit-image (there the results are floats, or
        truncated).
    mask, reference_mask : Pillow image, ndarray or Tensor, optional
        Only pixels where these are not zero are counted; the change is applied to all. If nothing is counted, nothing
        changes.
    skip_transparent : bool, default False
        Whether to leave pixels whose alpha is zero uncounted, in both images.
    channel_axis : int, optional
        The axis of the channels, in both images, where it is not the usual one (last for arrays, third from the end
        for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, in both images; by default it is where there are two or four channels.
    data_range, reference_range : (low, high), optional
        Range of the values of each image, by default the dtype's, [0, 1] for floats; needed for int16, int32 and
        Pillow's I and F. If both images have the same dtype `data_range` serves for both.
    threads : int, default 1
        Number of threads for the pass over integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape as `image`. Integers are rounded half up. Matching an image to itself changes
        nothing. NaN stays NaN and is not counted. The gradient is zero (see `soft_match`).

    Raises
    ------
    TypeError
        If an image is of a kind that has no plain colours.
    ValueError
        If the numbers of channels or images do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import match_histograms
    >>> dark = np.array([[0, 10, 20, 30]], dtype=np.uint8)
    >>> match_histograms(dark, np.array([[100, 120], [140, 160]], dtype=np.uint8))
    array([[100, 120, 140, 160]], dtype=uint8)
    """
    threads = check_integer("threads", threads, minimum=1)
    check_choice("method", method, ("middle", "skimage"))
    opened, other = _open_both(image, reference, channel_axis, alpha, data_range, reference_range)
    chosen = select(opened, mask, skip_transparent=skip_transparent)
    there = select(other, reference_mask, skip_transparent=skip_transparent)
    targets = _distributions(other, there)
    return cast("ImageT", _matched(opened, chosen, targets, method, threads))


def match_lut(
    image: Image,
    reference: Image,
    *,
    method: Ranks = "middle",
    mask: Image | None = None,
    reference_mask: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    reference_range: Sequence[float] | None = None,
) -> Lut:
    """Return the curve that `match_histograms` would apply, to join it with others or use it on other images.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        A single image of any kind.
    reference : Pillow image, ndarray or Tensor
        The image whose distribution is wanted.
    method : {'middle', 'skimage'}, default 'middle'
        As in `match_histograms`.
    mask, reference_mask : Pillow image, ndarray or Tensor, optional
        Only pixels where these are not zero are counted.
    skip_transparent : bool, default False
        Whether to leave pixels whose alpha is zero uncounted.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range, reference_range : (low, high), optional
        Range of the values of each image, as in `match_histograms`.

    Returns
    -------
    Lut
        A curve for each colour channel, on the levels of integer images, on 65536 for floats.

    Raises
    ------
    ValueError
        If there is more than one image, or the numbers of channels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import match_lut
    >>> dark = np.array([[0, 10, 20, 30]], dtype=np.uint8)
    >>> match_lut(dark, dark + np.uint8(50))(dark)
    array([[50, 60, 70, 80]], dtype=uint8)
    """
    check_choice("method", method, ("middle", "skimage"))
    opened, other = _open_both(image, reference, channel_axis, alpha, data_range, reference_range)
    if opened.pixels.shape[0] != 1 or other.pixels.shape[0] != 1:
        raise ValueError("`image` and `reference` must be single images; got a batch")
    targets = _distributions(other, select(other, reference_mask, skip_transparent=skip_transparent))
    levels = natural_levels(opened) if opened.integer else MOST_LEVELS
    counts = level_counts(opened, levels, select(opened, mask, skip_transparent=skip_transparent))
    tables = _tables(counts, targets, method)
    if opened.integer:
        # What the image itself would get: whole values.
        span = opened.high - opened.low
        tables = (quantize(opened.low + tables * span + _TICK, opened.low, opened.high, "float64") - opened.low) / span
    return Lut((Table(tables),))


def specify_histogram(
    image: ImageT,
    target: Histogram | ArrayLike,
    *,
    mask: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Change the values of an image so that their distribution becomes one that is asked for.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch; every colour channel of every image by itself. Alpha is left alone.
    target : Histogram, or ndarray or Tensor of shape (L,) or (C, L)
        A histogram in the units of the image; or how often each of L values evenly spaced over the range, ends
        included, is wanted, in any unit. One channel serves all.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where this is not zero are counted; the change is applied to all.
    skip_transparent : bool, default False
        Whether to leave pixels whose alpha is zero uncounted.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for the pass over integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape, as from `match_histograms`.

    Raises
    ------
    ValueError
        If the target is negative, empty, or of the wrong shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import specify_histogram
    >>> ramp = np.arange(8, dtype=np.uint8).reshape(2, 4)
    >>> specify_histogram(ramp, np.array([1.0, 0.0, 1.0]))
    array([[  0,   0,  32,  96],
           [159, 223, 255, 255]], dtype=uint8)
    """
    threads = check_integer("threads", threads, minimum=1)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if isinstance(target, Histogram):
        counts, values = target.counts, (target.centers - opened.low) / (opened.high - opened.low)
        if counts.ndim != 2:
            raise ValueError(f"`target` must be the histogram of one image; got counts of shape {counts.shape}")
    else:
        check_instance("target", target, object)
        array = target.detach().cpu().numpy() if is_tensor(target) else np.asarray(target)
        if array.ndim not in {1, 2} or array.shape[-1] < 2 or array.dtype.kind not in "uif":
            raise ValueError(f"`target` must be numbers of shape (L,) or (C, L); got {shown(target)}")
        counts = np.atleast_2d(array).astype(np.float64)
        values = np.linspace(0, 1, counts.shape[1])
    if not bool(np.all(counts >= 0) and np.all(np.isfinite(counts)) and np.all(counts.sum(-1) > 0)):
        raise ValueError("`target` must hold counts that are finite, not negative and not all zero")
    if len(counts) not in {1, opened.colors}:
        raise ValueError(f"`target` must have one channel or {opened.colors}, as the image; got {len(counts)}")
    targets = [[(np.clip(values[row > 0], 0, 1), row[row > 0]) for row in counts]]
    chosen = select(opened, mask, skip_transparent=skip_transparent)
    return cast("ImageT", _matched(opened, chosen, targets, "middle", threads))


def _open_both(
    image: Image,
    reference: Image,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
    reference_range: Sequence[float] | None,
) -> tuple[Unpacked, Unpacked]:
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    other = open_reference(reference, opened, channel_axis, alpha, data_range, reference_range)
    if other.colors not in {1, opened.colors}:
        raise ValueError(
            f"`reference` must have one colour channel or {opened.colors}, as the image; got {other.colors}"
        )
    if other.pixels.shape[0] not in {1, opened.pixels.shape[0]}:
        count = opened.pixels.shape[0]
        raise ValueError(f"`reference` must be one image or as many as `image`, {count}; got {other.pixels.shape[0]}")
    return opened, other


def open_reference(
    reference: Image,
    opened: Unpacked,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
    reference_range: Sequence[float] | None,
) -> Unpacked:
    """Take a reference apart; the image's `data_range` serves for it too where both have the same dtype."""
    axis = channel_axis if getattr(reference, "ndim", 2) > 2 else None
    if reference_range is None and data_range is not None:
        found = unpack(reference, channel_axis=axis, alpha=alpha, name="reference", needs_range=False)
        reference_range = data_range if found.dtype == opened.dtype else None
    return unpack(reference, channel_axis=axis, alpha=alpha, data_range=reference_range, name="reference")


def _distributions(opened: Unpacked, chosen: Array | None) -> list[list[Distribution]]:
    """Return the distribution of each channel of each image."""
    span = opened.high - opened.low
    if opened.integer and span < MOST_LEVELS:
        values = np.linspace(0, 1, int(span) + 1)
        counts = level_counts(opened, int(span) + 1, chosen)
        return [[(values[row > 0], row[row > 0]) for row in image] for image in counts]
    array = as_numpy(opened.color)
    found = []
    for n in range(array.shape[0]):
        rows = []
        for plane in array[n]:
            values, counts = _known(plane, plane_of(chosen, n), opened)
            rows.append((values, counts))
        found.append(rows)
    return found


def _known(plane: Array, where: Array | None, opened: Unpacked) -> Distribution:
    """Return the different values of a plane, scaled to [0, 1], and how often each occurs."""
    flat = (plane if where is None else plane[where]).reshape(-1).astype(np.float64)
    inside = np.clip((flat[~np.isnan(flat)] - opened.low) / (opened.high - opened.low), 0, 1)
    return np.unique(inside, return_counts=True)


def _shares(counts: Array, method: str) -> Array:
    """Return the share of pixels that each value stands for."""
    summed = np.cumsum(counts, dtype=np.float64)
    found: Array = (summed - counts / 2) / summed[-1] if method == "middle" else summed / summed[-1]
    return found


def _tables(counts: Array, targets: list[list[Distribution]], method: str) -> Array:
    """Return tables (N, C, levels) with values in [0, 1] from the counts of each level."""
    tables = np.empty(counts.shape)
    for n, c in np.ndindex(*counts.shape[:2]):
        row = counts[n, c]
        values, wanted = targets[n % len(targets)][c % len(targets[0])]
        if values.size == 0 or not row.any():
            tables[n, c] = np.linspace(0, 1, row.size)
        else:
            tables[n, c] = np.interp(_shares(row, method), _shares(wanted, method), values)
    return tables


def _matched(
    opened: Unpacked, chosen: Array | None, targets: list[list[Distribution]], method: str, threads: int
) -> Image:
    low, span = opened.low, opened.high - opened.low
    if opened.integer and span < MOST_LEVELS:
        tables = _tables(level_counts(opened, int(span) + 1, chosen), targets, method)
        whole = quantize(low + tables * span + _TICK, low, opened.high, opened.dtype)
        return apply_integers(opened, whole, threads=threads)
    array = as_numpy(working(opened.color))
    result = np.empty(array.shape, np.float64)
    for n, c in np.ndindex(*array.shape[:2]):
        values, wanted = targets[n % len(targets)][c % len(targets[0])]
        plane = array[n, c].astype(np.float64)
        known, counts = _known(plane, plane_of(chosen, n), opened)
        if known.size == 0 or values.size == 0:
            result[n, c] = plane
            continue
        after = np.interp(_shares(counts, method), _shares(wanted, method), values)
        # Values that were not counted, because a mask hides them, are interpolated.
        place = (plane - low) / span
        wanted = np.interp(place, known, after)
        # What stays where it is keeps its last bit, which scaling there and back may not.
        result[n, c] = np.where(wanted == place, plane, low + span * wanted)
    if opened.integer:
        return opened.pack_color(quantize(result + _TICK, low, opened.high, opened.dtype))
    color = opened.color
    if is_tensor(color):
        import torch

        # Adding zero times the image keeps the graph, in which the gradient is zero.
        matched = from_numpy(result).to(color.device)
        return opened.pack_color(matched + torch.zeros_like(color) * color.clamp(low, opened.high))
    return opened.pack_color(result)
