"""The speed tricks of imgops, each in one function with a fallback; the plain twins live in ``tests/reference``.

All of them work on views (N, C, H, W) as `cvkit.imgops._kinds.unpack` makes them, write into fresh memory in the
order of their input, and give the same integers for every number of threads.
"""

from __future__ import annotations

import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["count_bytes", "count_tiles", "count_words", "in_parts", "map_levels", "memory_order"]

_CHUNK = 1 << 17  # elements handled at once: 16-bit buffers of this length stay in the second-level cache
_STRETCH = 1 << 20  # bytes handed to Pillow at once
_PIXELS = 1 << 15  # pixels mapped through four tables at once, of which each needs 40 bytes
_WORDS = 1 << 18  # words of four bytes copied to a place of their own before they are counted
_SMALL = 1 << 16  # bytes below which building tables of pairs costs more than it saves


def in_parts(work: Callable[[int, int], None], total: int, threads: int = 1, grain: int = 1) -> None:
    """Call ``work(start, stop)`` for parts of ``range(total)`` on so many threads, cut at multiples of `grain`."""
    parts = max(1, min(threads, total // max(grain, 1)))
    if parts == 1:
        work(0, total)
        return
    bounds = [total * i // parts // grain * grain for i in range(parts)] + [total]
    with ThreadPoolExecutor(parts) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in pairwise(bounds)]:
            done.result()


def memory_order(pixels: Array) -> tuple[int, ...]:
    """Return the axes from the largest stride to the smallest: transposing by it gives the order in memory."""
    return tuple(sorted(range(pixels.ndim), key=lambda axis: (-abs(pixels.strides[axis]), axis)))


def _dense(pixels: Array) -> tuple[Array, tuple[int, ...]]:
    """Return the pixels in memory order, contiguous (copied only where they are not), and that order.

    Axes of length one go to the front: their strides mean nothing.
    """
    order = memory_order(pixels)
    order = tuple(sorted(order, key=lambda axis: pixels.shape[axis] != 1))
    return np.ascontiguousarray(pixels.transpose(order)), order


# Counting


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


# Tables


def map_levels(pixels: Array, tables: Array, threads: int = 1) -> Array:
    """Return ``tables[c][pixel]`` for uint8 or uint16 pixels (N, C, H, W); tables (C, 256 or 65536) of that dtype."""
    dense, order = _dense(pixels)
    result = np.empty_like(dense)
    channel = order.index(1)
    same = tables.shape[0] == 1 or bool((tables == tables[:1]).all())
    if same or pixels.shape[1] == 1:
        _map_flat(dense.reshape(-1), result.reshape(-1), tables[:1], threads)
    elif channel == dense.ndim - 1 and tables.shape[0] <= 4:
        _map_flat(dense.reshape(-1), result.reshape(-1), tables, threads)
    else:
        source, target = np.moveaxis(dense, channel, 0), np.moveaxis(result, channel, 0)
        for c in range(tables.shape[0]):
            _map_channel(source[c], target[c], tables[c : c + 1], threads)
    return result.transpose(np.argsort(order))


def _map_channel(source: Array, target: Array, tables: Array, threads: int) -> None:
    """Map one channel: plane by plane where the planes are contiguous, else through a copy."""
    if source.flags.c_contiguous:
        _map_flat(source.reshape(-1), target.reshape(-1), tables, threads)
    elif source.ndim == 3 and source[0].flags.c_contiguous:
        for plane, out in zip(source, target, strict=True):
            _map_flat(plane.reshape(-1), out.reshape(-1), tables, threads)
    else:
        copied = np.ascontiguousarray(source)
        mapped = np.empty_like(copied)
        _map_flat(copied.reshape(-1), mapped.reshape(-1), tables, threads)
        target[...] = mapped


def _map_flat(source: Array, target: Array, tables: Array, threads: int) -> None:
    """Map a flat array in which `len(tables)` channels alternate."""
    if tables.dtype == np.uint8 and source.size >= _SMALL and sys.byteorder == "little":
        _map_pairs(source, target, tables, threads)
        return
    channels = tables.shape[0]
    for c in range(channels):
        every = slice(c, None, channels)
        if channels == 1:
            in_parts(lambda i, j: _take(tables[0], source[i:j], target[i:j]), source.size, threads, _CHUNK)
        else:
            target[every] = tables[c].take(source[every], mode="clip")


def _take(table: Array, source: Array, target: Array, offsets: Array | None = None) -> None:
    """`target = table[source + offsets]` in chunks, for which the offsets repeat.

    ``mode="wrap"`` with ``out=`` avoids NumPy's buffered path and looks at the index least; one index for all chunks is
    twice as fast as letting NumPy allocate its own for each.
    """
    step = _CHUNK if offsets is None else len(offsets)
    room = np.empty(min(step, source.size), np.intp)
    for start in range(0, source.size, step):
        part = slice(start, start + step)
        index = room[: len(source[part])]
        np.copyto(index, source[part])
        if offsets is not None:
            index += offsets[: len(index)]
        np.take(table, index, out=target[part], mode="wrap")


def _map_pairs(source: Array, target: Array, tables: Array, threads: int) -> None:
    """Map two bytes at once through tables of 65536 pairs: five to seven times as fast as ``table[source]``.

    With C interleaved channels the pairs repeat with a period of C / 2 (C even) or C (C odd); there are as many
    tables of pairs and a constant vector of offsets picks among them.
    """
    channels = tables.shape[0]
    period = channels // 2 if channels % 2 == 0 else channels
    wide = tables.astype(np.uint16)
    pairs = [(wide[(2 * i + 1) % channels][:, None] << 8) | wide[2 * i % channels][None, :] for i in range(period)]
    table = pairs[0].ravel() if period == 1 else np.concatenate([pair.ravel() for pair in pairs])
    offsets = _pair_offsets(period) if period > 1 else None
    even = source.size // 2
    source16, target16 = source[: 2 * even].view(np.uint16), target[: 2 * even].view(np.uint16)
    in_parts(lambda i, j: _take(table, source16[i:j], target16[i:j], offsets), even, threads, _CHUNK // period * period)
    if source.size % 2:
        target[-1] = tables[(source.size - 1) % channels][source[-1]]


@cache
def _pair_offsets(period: int) -> Array:
    """Return where in joined tables of pairs to look for the pairs of a chunk, of which so many kinds alternate."""
    return np.tile(np.arange(period, dtype=np.intp) << 16, _CHUNK // period)


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
    even = bool(np.all(np.abs(np.diff(edges) * scale - 1) < 0.25))
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


# Mixing


def mix_by_weights(
    images: list[Array], weights: list[Array], scale: float, limits: tuple[float, float], threads: int = 1
) -> tuple[Array, float]:
    """Return ``p0 + sum w_i / scale (p_i - p0)`` of integer images (N, C, H, W), half up, clipped.

    Also returns by how much the weights' sum differs from 1 at worst. Chunks stay in the cache, where the weights of an
    interleaved image are repeated for its channels instead of being broadcast.
    """
    result = np.empty_like(images[0])
    worst = [0.0]
    for n in range(len(result)):
        order = _planar_or_interleaved(images[0][n])
        sources = [np.ascontiguousarray(image[n].transpose(order)) for image in images]
        shares = [np.ascontiguousarray(weight[n % len(weight)].transpose(order)).reshape(-1) for weight in weights]
        target = result[n].transpose(order)
        out = target if target.flags.c_contiguous else np.empty(target.shape, target.dtype)
        repeats = sources[0].shape[2] if order[2] == 0 else 1
        planes = 1 if repeats > 1 else sources[0].shape[0]
        flat = [source.reshape(planes, -1) for source in sources]
        for plane in range(planes):
            parts, into = [source[plane] for source in flat], out.reshape(planes, -1)[plane]
            work = _mixer(parts, shares, into, repeats, scale, limits, worst)
            in_parts(work, shares[0].size, threads, _CHUNK // 4)
        if out is not target:
            target[...] = out
    return result, max(worst)


def _planar_or_interleaved(planes: Array) -> tuple[int, ...]:
    """Return the order of axes of (C, H, W) that comes nearest to its memory, with the channels first or last."""
    order = memory_order(planes)
    if planes.shape[0] == 1 or order[0] == 0:
        return 0, *(axis for axis in order if axis)
    return (*(axis for axis in order if axis), 0) if order[2] == 0 else (0, 1, 2)


def _mixer(
    sources: list[Array],
    shares: list[Array],
    out: Array,
    repeats: int,
    scale: float,
    limits: tuple[float, float],
    worst: list[float],
) -> Callable[[int, int], None]:
    """Return the work on pixels start to stop of flat images, in which `repeats` values share a weight."""
    step = _CHUNK // 4

    def work(first: int, last: int) -> None:
        off = 0.0
        room = np.empty((3, step * repeats), np.float64)
        for start in range(first, last, step):
            stop = min(start + step, last)
            pixels = slice(start * repeats, stop * repeats)
            chosen = [share[start:stop] for share in shares]
            error = _sum_error(chosen, scale)
            off = max(off, error)
            # 8-bit values times whole weights up to 255, or steps of 2^-15, are exact in the 24 bits of float32.
            narrow = out.dtype.itemsize == 1 and all(_fits_float32(share) for share in chosen)
            kind: Any = np.float32 if narrow else np.float64
            base, change, weight = (row.view(kind)[: pixels.stop - pixels.start] for row in room)
            np.copyto(base, sources[0][pixels])
            total = base if len(sources) == 1 else base * kind(scale)
            if total is base and scale != 1:
                total *= kind(scale)
            for source, share in zip(sources[1:], chosen[1:], strict=True):
                np.copyto(change, source[pixels])
                change -= base
                for k in range(repeats):
                    weight[k::repeats] = share
                change *= weight
                total += change
            total += kind(scale / 2)
            if scale != 1:
                # A whole number and a half over an odd `scale` is never whole, and farther from it than rounding
                # reaches.
                total /= kind(scale)
            if error or limits[0] < 0 or any(share.size and share.min() < 0 for share in chosen):
                np.clip(np.floor(total, out=total), *limits, out=total)
            # Weights that are not negative and sum to one leave nothing to clip, and conversion rounds down by itself.
            np.copyto(out[pixels], total, casting="unsafe")
        worst.append(off)

    return work


def _fits_float32(share: Array) -> bool:
    if share.dtype.kind != "f":
        return share.dtype.itemsize == 1
    steps = share * np.float32(1 << 15)
    return bool((np.rint(steps) == steps).all())


def _sum_error(shares: list[Array], scale: float) -> float:
    """Return the largest difference of the weights' sum from 1; infinite where it is NaN."""
    kind: Any = np.uint32 if shares[0].dtype.kind != "f" else shares[0].dtype
    total = shares[0].astype(kind)
    for share in shares[1:]:
        total += share
    if (total == kind.type(scale) if shares[0].dtype.kind == "f" else total == int(scale)).all():
        return 0.0
    worst = float(np.abs(total.astype(np.float64) / scale - 1).max())
    return np.inf if np.isnan(worst) else worst


# Tiles


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
