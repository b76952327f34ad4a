"""Counting levels: Pillow's loop for bytes, `numpy.bincount` in the cache for all else."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["count_bytes", "count_tiles", "count_values", "count_words"]

_STRETCH = 1 << 20  # bytes handed to Pillow at once
_WORDS = 1 << 18  # words of four bytes copied to a place of their own before they are counted


def count_bytes(pixels: Array, mask: Array | None = None) -> Array:
    """Return how often each of 256 values occurs: (N, C, 256) int64 from (N, C, H, W) uint8 or bool.

    `mask` is boolean, (N or 1, 1, H, W). Pillow's counting loop is two to ten times as fast as `numpy.bincount` and
    needs no eightfold copy; where it is not to be had, that is the fallback.
    """
    pixels = pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels
    counts = np.zeros((*pixels.shape[:2], 256), np.int64)
    if pixels.size == 0:
        return counts
    quick = _pillow_counts()
    count = _count_flat if quick else _bincount_bytes
    for n in range(pixels.shape[0]):
        flat, step = _interleaved(pixels[n]) if quick and mask is None else (None, 0)
        if flat is not None:
            counts[n] = _count_interleaved(flat, step)[: pixels.shape[1]]
            continue
        for c in range(pixels.shape[1]):
            chosen = None if mask is None else mask[n % len(mask), 0]
            counts[n, c] = _count_plane(pixels[n, c], chosen, count)
    return counts


def _interleaved(planes: Array) -> tuple[Array | None, int]:
    """Return the bytes between the first and the last value of planes (C, H, W), and the channels that alternate there.

    None unless whole pixels of two to four bytes lie one after another; the planes may leave their last channel out.
    """
    channels, height, width = planes.shape
    step = planes.strides[2] if width > 1 else 0
    if channels < 2 or not channels <= step <= 4 or planes.strides != (1, step * width, step):
        return None, 0
    size = (height * width - 1) * step + channels  # what follows the last colour may not be ours to read
    return np.lib.stride_tricks.as_strided(planes, (size,), (1,), writeable=False), step


def _count_interleaved(flat: Array, channels: int) -> Array:
    """Count the bytes of two to four channels that alternate: (channels, 256).

    Pillow counts four bands at once faster than one. With three channels the pattern repeats after three words of
    four bytes, so every third word goes together; that costs half of what picking the channels would.
    """
    period = 3 if channels == 3 else 1
    words = flat[: flat.size // (4 * period) * 4 * period].view(np.uint32).reshape(-1, period)
    bands = np.zeros((period, 4, 256), np.int64)
    room = np.empty((period, min(_WORDS, len(words))), np.uint32)
    for start in range(0, len(words), _WORDS if period > 1 else _STRETCH):
        part = words[start : start + (_WORDS if period > 1 else _STRETCH)]
        if period > 1:
            np.copyto(room[:, : len(part)], part.T)
        for i in range(period):
            one = room[i, : len(part)] if period > 1 else part[:, 0]
            bands[i] += _pillow_count("RGBA", one, (len(part), 1)).reshape(4, 256)
    counts = np.zeros((channels, 256), np.int64)
    for place, band in enumerate(bands.reshape(-1, 256)):
        counts[place % channels] += band
    for place, value in enumerate(flat[words.size * 4 :].tolist()):
        counts[place % channels, value] += 1
    return counts


def _count_plane(plane: Array, mask: Array | None, count: Callable[[Array], Array]) -> Array:
    """Count a plane (H, W): as it lies where it is contiguous, else copied in stretches that stay in the cache.

    Hidden pixels are made zeros, which costs a fraction of picking the others, and taken off that count.
    """
    if mask is None and plane.flags.c_contiguous:
        return count(plane.reshape(-1))
    height, width = plane.shape
    rows = min(max(1, _STRETCH // width), height)
    room = np.empty((rows, width), np.uint8)
    total = np.zeros(256, np.int64)
    for top in range(0, height, rows):
        part = room[: min(rows, height - top)]
        if mask is None:
            part[:] = plane[top : top + rows]
        else:
            np.multiply(plane[top : top + rows], mask[top : top + rows], out=part)
        total += count(part.reshape(-1))
    if mask is not None:
        total[0] -= mask.size - np.count_nonzero(mask)
    return total


def _count_flat(values: Array) -> Array:
    """Count contiguous bytes by Pillow, as an image of one row or of rows of `_STRETCH`."""
    whole = values.size // _STRETCH * _STRETCH
    total = np.zeros(256, np.int64)
    if whole:
        total += _pillow_count("L", values[:whole], (_STRETCH, whole // _STRETCH))
    if whole < values.size:
        total += _pillow_count("L", values[whole:], (values.size - whole, 1))
    return total


def _bincount_bytes(values: Array) -> Array:
    return count_words(values, 0, 255)


def count_tiles(plane: Array, tile: tuple[int, int]) -> Array:
    """Count 256 values in every tile of a plane (H, W) of whole tiles: (tiles, 256), row by row."""
    height, width = tile
    if plane.size < _STRETCH or not _pillow_counts():
        # One count of all values together: below a million pixels, calls for each tile cost more than they save.
        parts = plane.reshape(plane.shape[0] // height, height, -1, width)
        tiles = parts.shape[0] * parts.shape[2]
        kind: Any = np.uint16 if tiles <= 256 else np.int64
        index = (np.arange(tiles, dtype=kind) << 8).reshape(parts.shape[0], 1, -1, 1) + parts
        return np.bincount(index.reshape(-1), minlength=tiles << 8).reshape(tiles, 256)
    counts = [
        _mapped("L", np.ascontiguousarray(plane[top : top + height, left : left + width]), (width, height)).histogram()
        for top in range(0, plane.shape[0], height)
        for left in range(0, plane.shape[1], width)
    ]
    return np.array(counts, np.int64)


def _pillow_count(mode: str, array: Array, size: tuple[int, int]) -> Array:
    """Return the counts of a mapped array, 256 a band; `struct` reads the list three times as fast as `numpy.array`."""
    counts = _mapped(mode, array, size).histogram()
    return np.frombuffer(struct.pack(f"{len(counts)}q", *counts), np.int64)


def _mapped(mode: str, array: Array, size: tuple[int, int]) -> PILModule.Image:
    """Return a contiguous array as a Pillow image, sharing memory where Pillow can (L and RGBA)."""
    return PILModule.frombuffer(mode, size, array, "raw", mode, 0, 1)


@cache
def _pillow_counts() -> bool:
    """Return whether Pillow counts as expected."""
    try:
        probe = np.array([[0, 7, 7], [255, 7, 1]], np.uint8)
        return bool(_mapped("L", probe, (3, 2)).histogram() == np.bincount(probe.ravel(), minlength=256).tolist())
    except Exception:  # noqa: BLE001  (whatever a future Pillow raises, the slow way is right)
        return False


def count_words(values: Array, low: int, high: int, weights: Array | None = None) -> Array:
    """Return how often each whole number from `low` to `high` occurs in a flat integer array; others count at the ends.

    Chunks keep the 64-bit copy that `numpy.bincount` needs in the cache.
    """
    levels = high - low + 1
    counts = np.zeros(levels, np.int64 if weights is None else np.float64)
    whole = values.dtype != np.bool_ and (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max) == (low, high)
    for start in range(0, values.size, 1 << 17):
        part = slice(start, start + (1 << 17))
        index = values[part]
        if not whole or low:
            index = np.clip(index.astype(np.int64) - low, 0, levels - 1)
        counts += np.bincount(index, None if weights is None else weights[part], minlength=levels)
    return counts


def count_values(values: Array, edges: Array, weights: Array | None = None) -> tuple[Array, int]:
    """Count flat floats into bins with these edges; return counts and the number of NaN, which are left out.

    Bins are half open but for the last; values outside are counted in the end bins. Evenly spaced edges are found by
    one multiplication and put right by looking at the edges themselves, so that the result is the same as by
    searching.
    """
    bins = edges.size - 1
    counts = np.zeros(bins, np.int64 if weights is None else np.float64)
    missing = 0
    scale = bins / (edges[-1] - edges[0])
    even = bool(np.all(np.abs((edges - edges[0]) * scale - np.arange(bins + 1)) < 0.25))  # no edge off by a bin
    for start in range(0, values.size, 1 << 16):
        part = values[start : start + (1 << 16)].astype(np.float64)
        weight = None if weights is None else weights[start : start + (1 << 16)]
        known = ~np.isnan(part)
        if not known.all():
            missing += part.size - int(np.count_nonzero(known))
            part = part[known]
            weight = None if weight is None else weight[known]
        np.clip(part, edges[0], edges[-1], out=part)
        if even:
            index = ((part - edges[0]) * scale).astype(np.intp)
            np.clip(index, 0, bins - 1, out=index)
            index -= part < edges[index]
            index += (part >= edges[index + 1]) & (index < bins - 1)
        else:
            index = np.clip(np.searchsorted(edges, part, side="right") - 1, 0, bins - 1)
        counts += np.bincount(index, weight, minlength=bins)
    return counts, missing
