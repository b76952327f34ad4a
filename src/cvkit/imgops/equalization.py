"""Global histogram equalisation, by OpenCV's rule and by Pillow's, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from cvkit._checks import check_choice, check_integer
from cvkit.imgops._apply import apply_integers, apply_levels, interpolate
from cvkit.imgops._counting import level_counts, natural_levels, select
from cvkit.imgops._kinds import Unpacked, quantize, unpack
from cvkit.imgops._luma import check_luma, luma_plane, moved
from cvkit.imgops._steps import Table
from cvkit.imgops.luts import Lut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, Image, ImageT

__all__ = ["equalize", "equalize_lut"]


def equalize(
    image: ImageT,
    *,
    method: Literal["opencv", "pillow"] = "opencv",
    by: Literal["channel", "luma"] = "channel",
    mask: Image | None = None,
    levels: int | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Spread the values so that their cumulative histogram becomes as straight as it can.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch; every channel of every image is equalised by itself. Alpha is left alone.
    method : {'opencv', 'pillow'}, default 'opencv'
        Whose rule to follow. With 8 bit the results are those of ``cv2.equalizeHist`` and ``PIL.ImageOps.equalize``,
        bit for bit. OpenCV's takes the lowest value to the bottom of the range; Pillow's does not, moves nothing
        where there are fewer pixels than levels, and may move much when applied twice.
    by : {'channel', 'luma'}, default 'channel'
        Equalise each colour channel, or equalise luma (Rec. 601) and move all channels by its change, which keeps hues.
    mask : Pillow image, ndarray or Tensor, optional
        The histogram is taken of the pixels where this is not zero; its table is applied to all. An empty mask
        changes nothing.
    levels : int, optional
        Number of levels that float images are counted on, by default 256; values between levels are interpolated.
        Integer images have their own.
    skip_transparent : bool, default False
        Whether to leave pixels whose alpha is zero out of the histogram.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for the pass over the pixels; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. A channel with a single value keeps it. NaN stays NaN and is not counted. For
        float tensors the result is differentiable with the table held fixed (see `soft_equalize` for the table's own
        gradient).

    Raises
    ------
    TypeError
        If the image is of a kind that has no plain colours.
    ValueError
        If an option or a shape makes no sense.

    Notes
    -----
    With counts h, their running sum c, total N and first occupied level i, OpenCV's table is
    ``round((c[v] - h[i]) / (N - h[i]) * 255)``, computed in float32 and rounded half to even for 8 bit as there, in
    float64 and half up for other ranges. Pillow's is ``(step // 2 + c[v - 1]) // step`` with ``step = (N - h[last])
    // 255``.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import equalize
    >>> equalize(np.array([[100, 101], [101, 102]], dtype=np.uint8))
    array([[  0, 170],
           [170, 255]], dtype=uint8)
    """
    check_choice("method", method, ("opencv", "pillow"))
    check_choice("by", by, ("channel", "luma"))
    threads = check_integer("threads", threads, minimum=1)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    chosen = select(opened, mask, skip_transparent=skip_transparent)
    count = natural_levels(opened, None if opened.integer else levels)
    if 0 in opened.pixels.shape:
        return cast("ImageT", opened.pack(opened.pixels))
    if by == "luma" and opened.colors != 1:
        return cast("ImageT", _equalize_luma(opened, method, chosen, count))
    counts = level_counts(opened, count, chosen)
    if opened.integer and count == opened.high - opened.low + 1:
        return cast("ImageT", apply_integers(opened, _integer_tables(opened, counts, method), threads=threads))
    return cast("ImageT", apply_levels(opened, _float_tables(counts, method)))


def equalize_lut(
    image: Image,
    *,
    method: Literal["opencv", "pillow"] = "opencv",
    mask: Image | None = None,
    levels: int | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> Lut:
    """Return the curve that `equalize` would apply to an image, to join it with others or use it on other images.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        A single image of any kind.
    method : {'opencv', 'pillow'}, default 'opencv'
        Whose rule to follow, as in `equalize`.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where this is not zero are counted.
    levels : int, optional
        Number of levels that float images are counted on, by default 256.
    skip_transparent : bool, default False
        Whether to leave out pixels whose alpha is zero.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.

    Returns
    -------
    Lut
        A curve for each colour channel.

    Raises
    ------
    ValueError
        If there is more than one image.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import equalize, equalize_lut
    >>> photo = np.array([[100, 101], [101, 102]], dtype=np.uint8)
    >>> bool((equalize_lut(photo)(photo) == equalize(photo)).all())
    True
    """
    check_choice("method", method, ("opencv", "pillow"))
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if opened.pixels.shape[0] != 1:
        raise ValueError(f"`image` must be a single image; got a batch of {opened.pixels.shape[0]}")
    count = natural_levels(opened, None if opened.integer else levels)
    counts = level_counts(opened, count, select(opened, mask, skip_transparent=skip_transparent))
    if opened.integer and count == opened.high - opened.low + 1:
        tables = _integer_tables(opened, counts, method)
        return Lut((Table((tables.astype(np.float64) - opened.low) / (opened.high - opened.low)),))
    return Lut((Table(_float_tables(counts, method)),))


def _equalize_luma(opened: Unpacked, method: str, chosen: Array | None, count: int) -> Image:
    check_luma(opened)
    before = luma_plane(opened)
    gray = replace(opened, pixels=before, colors=1, alpha=False)
    counts = level_counts(gray, count, chosen)
    if opened.integer and count == opened.high - opened.low + 1:
        tables = _integer_tables(gray, counts, method)
        after = np.empty_like(cast("Array", before))
        for n in range(len(after)):
            plain = replace(gray, pixels=before[n : n + 1], kind="array", source=after, axis=None)
            after[n, 0] = cast("Array", apply_integers(plain, tables[n : n + 1]))
        return opened.pack_color(moved(opened, before, after))
    return opened.pack_color(moved(opened, before, interpolate(gray, before, _float_tables(counts, method))))


def _integer_tables(opened: Unpacked, counts: Array, method: str) -> Array:
    """Return tables (N, C, levels) of the image's own values."""
    if method == "opencv" and (opened.low, opened.high) == (0, 255):
        return opencv_tables(counts).astype(opened.dtype)
    shares = _float_tables(counts, method)
    return quantize(opened.low + shares * (opened.high - opened.low), opened.low, opened.high, opened.dtype)


def _float_tables(counts: Array, method: str) -> Array:
    """Return tables (N, C, levels) with values in [0, 1]."""
    return opencv_shares(counts) if method == "opencv" else pillow_shares(counts)


def opencv_tables(counts: Array) -> Array:
    """Return OpenCV's tables for counts (..., 256): float32 throughout, rounded half to even."""
    before, rest = _after_the_first(counts)
    scale = np.float32(255) / np.maximum(rest, 1).astype(np.float32)
    table = np.rint(before.astype(np.float32) * scale)
    np.clip(table, 0, 255, out=table)
    found: Array = np.where(rest > 0, table, np.arange(256, dtype=np.float32))
    return found


def opencv_shares(counts: Array) -> Array:
    """Return OpenCV's tables for counts (..., levels), in float64 from 0 to 1."""
    before, rest = _after_the_first(counts)
    found: Array = np.clip(before / np.maximum(rest, 1), 0, 1)
    return np.where(rest > 0, found, np.linspace(0, 1, counts.shape[-1]))


def _after_the_first(counts: Array) -> tuple[Array, Array]:
    """Return the cumulated counts and the total (..., 1), both without the first level that occurs.

    That total is 0 where fewer than two levels occur, for which the image stays what it is.
    """
    first = np.take_along_axis(counts, np.argmax(counts > 0, -1)[..., None], -1)
    before = np.cumsum(counts, -1)
    before -= first
    return before, before[..., -1:]


def pillow_shares(counts: Array) -> Array:
    """Return Pillow's tables for counts (..., levels), whole steps divided by the top level."""
    top = counts.shape[-1] - 1
    last = np.take_along_axis(counts, top - np.argmax(counts[..., ::-1] > 0, -1)[..., None], -1)
    summed = np.cumsum(counts, -1)
    step = (summed[..., -1:] - last) // top
    found: Array = np.minimum((step // 2 + summed - counts) // np.maximum(step, 1), top) / top
    return np.where(step > 0, found, np.linspace(0, 1, counts.shape[-1]))
