"""Applying tables of evenly spaced levels to images of every dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from cvkit.imgops._kernels.tables import map_levels
from cvkit.imgops._kinds import Unpacked, is_tensor, quantize, working

if TYPE_CHECKING:
    from torch import Tensor

    from cvkit._types import Array, ArrayLike, Image

__all__ = ["apply_integers", "apply_levels", "interpolate"]

_CHUNK = 1 << 16


def apply_levels(opened: Unpacked, tables: Array, *, threads: int = 1) -> Image:
    """Map the colours through float64 tables (N or 1, colors or 1, L) with values in [0, 1], ends included.

    An integer image with just L levels gets the rounded values; other images are interpolated between the levels.
    Values outside the range are clipped to it, NaN is kept.
    """
    span = opened.high - opened.low
    if opened.integer and tables.shape[-1] == span + 1:
        return apply_integers(
            opened, quantize(opened.low + tables * span, opened.low, opened.high, opened.dtype), threads=threads
        )
    return opened.pack_color(interpolate(opened, opened.color, tables))


def apply_integers(opened: Unpacked, tables: Array, *, threads: int = 1) -> Image:
    """Map the colours of an integer image through tables (N or 1, colors or 1, high - low + 1) of its own values."""
    pixels = cast("Array", opened.pixels)
    if pixels.dtype == np.int32:
        return opened.pack_color(_take_wide(opened, tables))
    bits, whole = _whole_tables(opened, tables)
    pixels = pixels.view(bits)
    if len(whole) == 1:
        return opened.pack(map_levels(pixels, whole[0], threads).view(opened.dtype))
    result = np.empty_like(pixels)
    for n in range(len(pixels)):
        result[n : n + 1] = map_levels(pixels[n : n + 1], whole[n], threads)
    return opened.pack(result.view(opened.dtype))


def _whole_tables(opened: Unpacked, tables: Array) -> tuple[str, Array]:
    """Extend tables to all values of the dtype and to all channels: unsigned (N or 1, C or 1, 256 or 65536)."""
    if opened.dtype == "uint8" and tables.shape[-1] == 256 and opened.pixels.shape[1] == opened.colors:
        return "u1", tables
    dtype = np.dtype(opened.dtype)
    bits = "u1" if dtype.itemsize == 1 else "u2"
    size = 256 if dtype.itemsize == 1 else 65536
    values = np.arange(size, dtype=bits)
    values = (values != 0 if dtype == np.bool_ else values.view(dtype)).astype(np.int64)
    index = np.clip(values - int(opened.low), 0, int(opened.high - opened.low))
    whole = tables[..., index].astype(dtype).view(bits)
    channels = opened.pixels.shape[1]
    if channels == opened.colors:
        return bits, whole
    kept = np.broadcast_to(values.astype(dtype).view(bits), (len(whole), channels - opened.colors, size))
    color = np.broadcast_to(whole, (len(whole), opened.colors, size))
    return bits, np.concatenate([color, kept], axis=1)


def _take_wide(opened: Unpacked, tables: Array) -> Array:
    """Map 32-bit integers, which have no table of all their values, chunk by chunk."""
    color = cast("Array", opened.color)
    low, high = int(opened.low), int(opened.high)
    result = np.empty_like(color)
    for n in range(color.shape[0]):
        for c in range(color.shape[1]):
            table = tables[n % len(tables), c % tables.shape[1]]
            for row, out in zip(color[n, c], result[n, c], strict=True):
                np.take(table, np.clip(row.astype(np.int64), low, high) - low, out=out, mode="clip")
    return result


def interpolate(opened: Unpacked, color: ArrayLike, tables: Array) -> ArrayLike:
    """Return colours (N, colors, H, W) mapped through tables by linear interpolation between the levels.

    Float images only lose what their dtype cannot hold; wide integers are rounded half up. Differentiable for
    tensors, where the slope is that of the table.
    """
    if is_tensor(color):
        return _interpolate_tensor(opened, cast("Tensor", working(color)), tables)
    array = cast("Array", color)
    result = np.empty_like(array)
    levels = np.arange(tables.shape[-1], dtype=np.float64)
    scale = levels[-1] / (opened.high - opened.low)
    span = opened.high - opened.low
    for n in range(array.shape[0]):
        for c in range(array.shape[1]):
            table = opened.low + span * tables[n % len(tables), c % tables.shape[1]]
            for rows in _row_blocks(array.shape[2:]):
                # np.interp clips to the ends by itself and keeps NaN.
                values = np.interp((array[n, c, rows].astype(np.float64) - opened.low) * scale, levels, table)
                result[n, c, rows] = (
                    quantize(values, opened.low, opened.high, opened.dtype) if opened.integer else values
                )
    return result


def _row_blocks(size: tuple[int, ...]) -> list[slice]:
    step = max(1, _CHUNK // max(size[1], 1))
    return [slice(top, top + step) for top in range(0, size[0], step)]


def _interpolate_tensor(opened: Unpacked, color: Tensor, tables: Array) -> Tensor:
    import torch

    levels = tables.shape[-1]
    span = opened.high - opened.low
    whole = opened.low + span * np.broadcast_to(
        tables, (color.shape[0] if len(tables) > 1 else 1, color.shape[1] if tables.shape[1] > 1 else 1, levels)
    )
    place = ((color - opened.low) * ((levels - 1) / span)).clamp(0, levels - 1)
    index = place.detach().nan_to_num(0.0).floor().clamp(max=levels - 2).long()
    inside = place - index
    table = torch.from_numpy(np.ascontiguousarray(whole)).to(device=color.device, dtype=color.dtype)
    table = table.expand(color.shape[0], color.shape[1], levels).reshape(*color.shape[:2], levels)
    flat = index.flatten(2)
    left = table.gather(2, flat).view(color.shape)
    right = table.gather(2, flat + 1).view(color.shape)
    found: Tensor = left + inside * (right - left)
    return found
