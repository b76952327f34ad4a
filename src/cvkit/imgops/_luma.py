"""Luma of an opened image and colours moved by a change of luma: what masks by tone and tone on luma are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from cvkit.imgops._kinds import Unpacked, working

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = ["check_luma", "luma_plane", "moved"]

_ROWS = 1 << 18  # pixels handled at once


def check_luma(opened: Unpacked) -> None:
    """Raise unless luma is defined: one colour channel is its own, three are red, green and blue."""
    if opened.colors not in {1, 3}:
        raise ValueError(f"luma needs one or three colour channels; `{opened.name}` has {opened.colors}")


def luma_plane(opened: Unpacked) -> ArrayLike:
    """Return 0.299 R + 0.587 G + 0.114 B (Rec. 601, as stored) as (N, 1, H, W).

    Integer images give integers, the exact value rounded half up; half precision gives float32.
    """
    color = opened.color
    if opened.colors == 1:
        return color if opened.integer else working(color).clip(opened.low, opened.high)
    if not opened.integer:
        color = working(color).clip(opened.low, opened.high)
        return cast("ArrayLike", 0.299 * color[:, 0:1] + 0.587 * color[:, 1:2] + 0.114 * color[:, 2:3])
    array = cast("Array", color)
    count, _, height, width = array.shape
    plane = np.empty((count, 1, height, width), array.dtype)
    step = max(1, _ROWS // max(width, 1))
    kind = np.int64 if array.dtype == np.int32 else np.int32
    for n in range(count):
        for top in range(0, height, step):
            rows = slice(top, top + step)
            red, green, blue = _inside(array[n, :, rows], opened)
            mixed = np.multiply(red, 299, dtype=kind)
            mixed += np.multiply(green, 587, dtype=kind)
            mixed += np.multiply(blue, 114, dtype=kind)
            mixed += 500
            plane[n, 0, rows] = mixed // 1000
    return plane


def moved(opened: Unpacked, before: ArrayLike, after: ArrayLike) -> ArrayLike:
    """Return the colours shifted by the change of luma, clipped to the range: chroma stays what it was.

    `before` and `after` are (N, 1, H, W) of the dtype of `luma_plane`.
    """
    color = opened.color
    if not opened.integer:
        inside = working(color).clip(opened.low, opened.high)
        return cast("ArrayLike", (inside + (after - before)).clip(opened.low, opened.high))
    array = cast("Array", color)
    result = np.empty_like(array)
    count, _, height, width = array.shape
    step = max(1, _ROWS // max(width, 1))
    kind = np.int64 if array.dtype == np.int32 else np.int32
    for n in range(count):
        for top in range(0, height, step):
            rows = slice(top, top + step)
            change = np.subtract(cast("Array", after)[n, :, rows], cast("Array", before)[n, :, rows], dtype=kind)
            result[n, :, rows] = np.clip(_inside(array[n, :, rows], opened) + change, opened.low, opened.high)
    return result


def _inside(rows: Array, opened: Unpacked) -> Array:
    """Return integers clipped to the range, where it is not that of all their values."""
    kind = rows.dtype
    full = kind == np.bool_ or (np.iinfo(kind).min, np.iinfo(kind).max) == (opened.low, opened.high)
    return rows if full else np.clip(rows, opened.low, opened.high)
