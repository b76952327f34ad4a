"""The speed tricks of imgops, each in one function with a fallback; the plain twins live in ``tests/reference``.

All of them work on views (N, C, H, W) as `cvkit.imgops._kinds.unpack` makes them, write into fresh memory in the
order of their input, and give the same integers for every number of threads.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["count_bytes", "count_words", "in_parts", "map_levels", "memory_order"]

_CHUNK = 1 << 15  # elements handled at once: 16-bit buffers of this length stay in the second-level cache
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
    needs no eightfold copy.
    """
    pixels = pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels
    count, channels = pixels.shape[:2]
    counts = np.zeros((count, channels, 256), np.int64)
    if pixels.size == 0:
        return counts
    for n in range(count):
        chosen = None if mask is None else np.ascontiguousarray(mask[n % mask.shape[0], 0]).view(np.uint8)
        counts[n] = _count_image(pixels[n], chosen)
    return counts


def _count_image(planes: Array, mask: Array | None) -> Array:
    """Count one image (C, H, W): interleaved ones in one pass where Pillow has a mode for them."""
    channels, height, width = planes.shape
    if not _pillow_counts():
        return np.stack([_bincount_bytes(plane, mask) for plane in planes])
    chosen = None if mask is None else _mapped("L", mask, (width, height))
    mode = {3: "RGB", 4: "RGBA"}.get(channels)
    pixels = planes.transpose(1, 2, 0)
    if mode and pixels.flags.c_contiguous:
        counted = _mapped(mode, pixels, (width, height)).histogram(chosen)
        return np.array(counted, np.int64).reshape(channels, 256)
    planar = [np.ascontiguousarray(plane) for plane in planes]
    return np.array([_mapped("L", plane, (width, height)).histogram(chosen) for plane in planar], np.int64)


def _mapped(mode: str, array: Array, size: tuple[int, int]) -> PILModule.Image:
    """Return a contiguous array as a Pillow image, sharing memory where Pillow can (L and RGBA)."""
    return PILModule.frombuffer(mode, size, array, "raw", mode, 0, 1)


@cache
def _pillow_counts() -> bool:
    """Return whether Pillow counts as expected."""
    try:
        probe = np.array([[0, 7, 7], [255, 7, 1]], np.uint8)
        image = _mapped("L", probe, (3, 2))
        counted = image.histogram(_mapped("L", (probe == 7).astype(np.uint8), (3, 2)))
        return (
            image.histogram() == np.bincount(probe.ravel(), minlength=256).tolist() and counted[7] == sum(counted) == 3
        )
    except Exception:  # noqa: BLE001  (whatever a future Pillow raises, the slow way is right)
        return False


def _bincount_bytes(plane: Array, mask: Array | None) -> Array:
    return np.bincount((plane if mask is None else plane[mask != 0]).ravel(), minlength=256)


def count_words(values: Array, low: int, high: int, weights: Array | None = None) -> Array:
    """Return how often each whole number from `low` to `high` occurs in a flat integer array; others count at the ends.

    Chunks keep the 64-bit copy that `numpy.bincount` needs in the cache.
    """
    levels = high - low + 1
    counts = np.zeros(levels, np.int64 if weights is None else np.float64)
    whole = values.dtype != np.bool_ and (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max) == (low, high)
    for start in range(0, values.size, 1 << 16):
        part = slice(start, start + (1 << 16))
        index = values[part].astype(np.int64)
        if low:
            index -= low
        if not whole:
            np.clip(index, 0, levels - 1, out=index)
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


def _take(table: Array, source: Array, target: Array) -> None:
    """`target = table[source]` in chunks; ``mode="clip"`` with ``out=`` avoids NumPy's buffered path."""
    for start in range(0, source.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        np.take(table, source[part], out=target[part], mode="clip")


def _map_pairs(source: Array, target: Array, tables: Array, threads: int) -> None:
    """Map two bytes at once through tables of 65536 pairs: five to seven times as fast as ``table[source]``.

    With C interleaved channels the pairs repeat with a period of C / 2 (C even) or C (C odd); there are as many
    tables of pairs and a constant vector of offsets picks among them.
    """
    channels = tables.shape[0]
    period = channels // 2 if channels % 2 == 0 else channels
    wide = tables.astype(np.uint16)
    pairs = [(wide[(2 * i + 1) % channels][:, None] << 8) | wide[2 * i % channels][None, :] for i in range(period)]
    table = np.concatenate([pair.ravel() for pair in pairs])
    even = source.size // 2
    source16, target16 = source[: 2 * even].view(np.uint16), target[: 2 * even].view(np.uint16)
    step = _CHUNK // period * period
    offsets = np.resize(np.arange(period, dtype=np.intp) << 16, step)

    def work(first: int, last: int) -> None:
        index = np.empty(step, np.intp)
        for start in range(first, last, step):
            stop = min(start + step, last)
            part: Array = source16[start:stop]
            if period > 1:
                part = np.add(part, offsets[: stop - start], out=index[: stop - start])
            np.take(table, part, out=target16[start:stop], mode="clip")

    in_parts(work, even, threads, step)
    if source.size % 2:
        target[-1] = tables[(source.size - 1) % channels][source[-1]]


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
        for start in range(first, last, step):
            stop = min(start + step, last)
            pixels = slice(start * repeats, stop * repeats)
            chosen = [share[start:stop] for share in shares]
            off = max(off, _sum_error(chosen, scale))
            # 8-bit values times whole weights up to 255, or steps of 2^-15, are exact in the 24 bits of float32.
            narrow = out.dtype.itemsize == 1 and all(_fits_float32(share) for share in chosen)
            kind: Any = np.float32 if narrow else np.float64
            base = sources[0][pixels].astype(kind)
            total = base * kind(scale)
            for source, share in zip(sources[1:], chosen[1:], strict=True):
                change = source[pixels].astype(kind)
                change -= base
                weight = share.astype(kind)
                change *= np.repeat(weight, repeats) if repeats > 1 else weight
                total += change
            total += kind(scale / 2)
            if scale != 1:
                # A whole number and a half over an odd `scale` is never whole, and farther from it than rounding
                # reaches.
                total /= kind(scale)
            np.floor(total, out=total)
            np.clip(total, *limits, out=total)
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
    kind = np.int64 if shares[0].dtype.kind != "f" else np.float64
    total = shares[0].astype(kind)
    for share in shares[1:]:
        total += share
    worst = float(np.abs(total / scale - 1).max()) if total.size else 0.0
    return worst if worst == worst else np.inf  # noqa: PLR0124  (NaN)


# Tiles


def interpolate_tiles(
    plane: Array, tables: Array, tile: tuple[int, int], top: int, dtype: np.dtype[Any], threads: int = 1
) -> Array:
    """Map a plane (H, W) of levels 0 to `top` through the tables (rows, columns, levels) of its four nearest tiles.

    The arithmetic is OpenCV's, operation by operation in float32, rounded half to even. In a strip of rows between the same
    two rows of tiles, four tables laid out by column between tiles turn the look-ups into plain gathers.
    """
    height, width = plane.shape
    levels = tables.shape[2]
    upper, lower, down = _neighbours(height, tile[0], tables.shape[0])
    left, right, across = _neighbours(width, tile[1], tables.shape[1])
    # Columns with the same two neighbours form a cell.
    edges = np.flatnonzero(np.diff(left, prepend=-1) | np.diff(right, prepend=-1))
    cells = np.cumsum(np.isin(np.arange(width), edges)) - 1
    kind: Any = np.uint16 if len(edges) * levels <= 1 << 16 else np.int64
    offsets = (cells * levels).astype(kind)
    across, back = across.astype(np.float32), (np.float32(1) - across).astype(np.float32)
    down, up = down.astype(np.float32)[:, None], (np.float32(1) - down).astype(np.float32)[:, None]
    floats = tables.astype(np.float32)
    result = np.empty((height, width), dtype)
    rows = max(1, 2 * _CHUNK // max(width, 1))

    def work(first: int, last: int) -> None:
        buffers = np.empty((3, rows, width), np.float32)
        y = first
        while y < last:
            strip = int(np.searchsorted(lower[y:last] + upper[y:last], lower[y] + upper[y], side="right")) + y
            corners = [
                np.ascontiguousarray(floats[row][columns[edges]]).reshape(-1)
                for row in (upper[y], lower[y])
                for columns in (left, right)
            ]
            for start in range(y, strip, rows):
                part = slice(start, min(start + rows, strip))
                index = plane[part].astype(kind)
                index += offsets
                above, below, spare = buffers[:, : index.shape[0]]
                for target, (a, b) in ((above, corners[:2]), (below, corners[2:])):
                    np.take(a, index, out=target, mode="clip")
                    np.multiply(target, back, out=target)
                    np.take(b, index, out=spare, mode="clip")
                    np.multiply(spare, across, out=spare)
                    np.add(target, spare, out=target)
                np.multiply(above, up[part], out=above)
                np.multiply(below, down[part], out=below)
                np.add(above, below, out=above)
                np.rint(above, out=above)
                np.clip(above, 0, top, out=above)
                np.copyto(result[part], above, casting="unsafe")
            y = strip

    in_parts(work, height, threads)
    return result


def _neighbours(size: int, tile: int, tiles: int) -> tuple[Array, Array, Array]:
    """Return for each pixel along an axis the tiles before and after it, and how far it is on its way, in float32."""
    place = np.arange(size, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    before = np.floor(place)
    index = before.astype(np.int64)
    return np.maximum(index, 0), np.minimum(index + 1, tiles - 1), place - before
