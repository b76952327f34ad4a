"""Sending levels through the tables of the nearest tiles, interpolated between them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit.imgops._kernels.memory import in_parts

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = ["interpolate_tiles"]

_PIXELS = 1 << 15  # pixels mapped through four tables at once, of which each needs 40 bytes


def interpolate_tiles(
    plane: Array, tables: Array, tile: tuple[int, int], dtype: np.dtype[Any], threads: int = 1
) -> Array:
    """Map a plane (H, W) of levels from 0 through the tables (rows, columns, levels) of its four nearest tiles.

    The arithmetic is OpenCV's, operation by operation in float32, rounded half to even. In a strip of rows between
    the same two rows of tiles, tables laid out by column between tiles turn the four look-ups into one plain gather.
    """
    height, width = plane.shape
    levels = tables.shape[2]
    upper, lower, down = _neighbours(height, tile[0], tables.shape[0])
    left, right, across = _neighbours(width, tile[1], tables.shape[1])
    # Columns with the same two neighbours form a cell.
    edges = np.flatnonzero(np.diff(left, prepend=-1) | np.diff(right, prepend=-1))
    offsets = (np.searchsorted(edges, np.arange(width), side="right") - 1) * levels
    across, back = across.astype(np.float32), (np.float32(1) - across).astype(np.float32)
    down, up = down.astype(np.float32)[:, None], (np.float32(1) - down).astype(np.float32)[:, None]
    # Four float32 of 4 bytes, gathered as one number of 16: upper and lower table to the left, then to the right.
    floats = tables.astype(np.float32)
    sides = floats[:, left[edges]], floats[:, right[edges]]
    sideways = np.stack([back, back, across, across], 1).reshape(-1)
    result = np.empty((height, width), dtype)
    rows = max(1, _PIXELS // max(width, 1))

    def work(first: int, last: int) -> None:
        places = np.empty((rows, width), np.intp)
        table = np.empty((len(edges), levels, 4), np.float32)
        fours = table.view(np.complex128).reshape(-1)
        gathered = np.empty((rows, width), np.complex128)
        mixed = np.empty((rows, width), np.complex64)
        above, below = np.empty((2, rows, width), np.float32)
        y = first
        while y < last:
            strip = int(np.searchsorted(lower[y:last] + upper[y:last], lower[y] + upper[y], side="right")) + y
            for place, (side, row) in enumerate(product(sides, (upper[y], lower[y]))):
                table[..., place] = side[row]
            for start in range(y, strip, rows):
                part = slice(start, min(start + rows, strip))
                rooms = (places, gathered, mixed, above, below)
                index, four, two, up_part, low_part = (room[: part.stop - part.start] for room in rooms)
                np.copyto(index, plane[part])
                index += offsets
                np.take(fours, index, out=four, mode="wrap")
                flat = four.view(np.float32)
                flat *= sideways
                pairs = four.view(np.complex64)
                np.add(pairs[:, 0::2], pairs[:, 1::2], out=two)
                pair = two.view(np.float32)
                np.multiply(pair[:, 0::2], up[part], out=up_part)
                np.multiply(pair[:, 1::2], down[part], out=low_part)
                up_part += low_part
                # Weights sum to one within a last bit, so nothing rounds beyond the ends.
                np.copyto(result[part], np.rint(up_part, out=up_part), casting="unsafe")
            y = strip

    in_parts(work, height, threads)
    return result


def _neighbours(size: int, tile: int, tiles: int) -> tuple[Array, Array, Array]:
    """Return for each pixel along an axis the tiles before and after it, and how far it is on its way, in float32."""
    place = np.arange(size, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    before = np.floor(place)
    index = before.astype(np.int64)
    return np.maximum(index, 0), np.minimum(index + 1, tiles - 1), place - before
