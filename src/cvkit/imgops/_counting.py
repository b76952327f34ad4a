"""Counting pixels: which of them, into which bins, for every dtype; where all statistics begin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast, overload

import numpy as np

from cvkit._checks import check_integer, shown
from cvkit.imgops._kernels.counting import count_bytes, count_values, count_words
from cvkit.imgops._kinds import Unpacked, is_tensor, mask_scale, unpack_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, ArrayLike, Image

__all__ = [
    "MOST_LEVELS",
    "as_numpy",
    "bin_edges",
    "chosen_values",
    "count_bins",
    "has_edges",
    "is_batch",
    "level_counts",
    "natural_levels",
    "pixel_weights",
    "plane_of",
    "select",
]

# Integer ranges of up to so many levels are counted level by level.
MOST_LEVELS = 65536


def level_counts(opened: Unpacked, levels: int, mask: Array | None) -> Array:
    """Count the colours on `levels` evenly spaced levels of the range, ends included: (N, colors, levels) int64.

    Integer images whose range has just so many values are counted exactly; other values go to the nearest level. This
    is what equalising and matching start from, for all dtypes alike.
    """
    span = opened.high - opened.low
    if opened.integer and levels == span + 1:
        return count_integers(opened, mask, None)
    half = span / (levels - 1) / 2
    edges = np.linspace(opened.low - half, opened.high + half, levels + 1)
    return count_planes(as_numpy(opened.color), edges, mask, None)[0]


def natural_levels(opened: Unpacked, levels: int | None = None) -> int:
    """Return how many levels to work with: each integer value one, 256 for floats, 65536 for wide integer ranges."""
    if levels is not None:
        return check_integer("levels", levels, minimum=2, maximum=MOST_LEVELS)
    return min(int(opened.high - opened.low) + 1, MOST_LEVELS) if opened.integer else 256


def select(opened: Unpacked, mask: Image | None, *, skip_transparent: bool = False) -> Array | None:
    """Return which pixels a statistic is taken of, a boolean array (N or 1, 1, H, W), or None for all."""
    chosen = None if mask is None else as_numpy(unpack_mask(mask, opened))
    if chosen is not None and chosen.dtype != np.bool_:
        chosen = chosen != 0
    if skip_transparent and opened.opacity is not None:
        visible = as_numpy(opened.opacity) != 0
        chosen = visible if chosen is None else chosen & visible
    return chosen


def pixel_weights(view: ArrayLike) -> Array:
    """Return weights as float64, full weight being 1."""
    scale = mask_scale(view, "weights")
    array = as_numpy(view).astype(np.float64) / scale
    if not bool(np.all(array >= 0)):
        raise ValueError("`weights` must not be negative or NaN")
    return array


def as_numpy(pixels: ArrayLike) -> Array:
    """Return pixels as a NumPy array; half precision of torch becomes float32."""
    if is_tensor(pixels):
        detached = pixels.detach().cpu()
        return cast("Array", (detached.float() if detached.dtype.itemsize == 2 else detached).numpy())
    return cast("Array", pixels)


def is_batch(opened: Unpacked) -> bool:
    """Return whether the image came as a batch (N, C, H, W)."""
    return opened.kind == "tensor" and cast("Array", opened.source).ndim == 4


def has_edges(bins: int | Sequence[float] | None) -> bool:
    """Return whether `bins` lists edges."""
    return bins is not None and hasattr(bins, "__len__")


def bin_edges(bins: int | Sequence[float] | None, opened: Unpacked) -> tuple[Array, bool]:
    """Return the edges of the bins and whether each bin stands for one level."""
    if has_edges(bins):
        try:
            edges = np.asarray(bins, np.float64)
        except (TypeError, ValueError):
            edges = np.empty(0)
        if edges.ndim != 1 or edges.size < 2 or not bool(np.all(np.isfinite(edges)) and np.all(np.diff(edges) > 0)):
            raise ValueError(f"`bins` must be a number or at least two rising, finite edges; got {shown(bins)}")
        return edges, False
    low, high = opened.low, opened.high
    levels = int(high - low) + 1 if opened.integer else 0
    if bins is None:
        count = levels if 0 < levels <= MOST_LEVELS else 256
    else:
        count = check_integer("bins", cast("int", bins), minimum=1, maximum=1 << 24)
    if opened.integer:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, count + 1), count == levels


def count_bins(
    opened: Unpacked, edges: Array, discrete: bool, chosen: Array | None, weights: Array | None
) -> tuple[Array, Array]:
    """Count into (N, C, bins), and the NaN into (N, C)."""
    if opened.integer and opened.high - opened.low < MOST_LEVELS:
        if not discrete:
            opened = _one_level_wider(opened)
        counts = count_integers(opened, chosen, weights)
        if not discrete:
            levels = np.arange(opened.low, opened.high + 1)
            where = np.clip(np.searchsorted(edges, levels, side="right") - 1, 0, edges.size - 2)
            rows = counts.reshape(-1, counts.shape[-1])
            merged = [np.bincount(where, row, minlength=edges.size - 1) for row in rows]
            counts = np.array(merged, counts.dtype).reshape(*counts.shape[:2], edges.size - 1)
        return counts, np.zeros(counts.shape[:2], np.int64)
    return count_planes(as_numpy(opened.color), edges, chosen, weights)


def _one_level_wider(opened: Unpacked) -> Unpacked:
    """Widen the range by a level at each end, so that what lies outside falls into the end bins, however narrow."""
    lowest, highest = (0, 1) if opened.dtype == "bool" else (np.iinfo(opened.dtype).min, np.iinfo(opened.dtype).max)
    return replace(opened, low=max(opened.low - 1, lowest), high=min(opened.high + 1, highest))


def count_integers(opened: Unpacked, chosen: Array | None, weights: Array | None) -> Array:
    """Count every level of an integer image: (N, colors, high - low + 1)."""
    color = cast("Array", opened.color)
    low, high = int(opened.low), int(opened.high)
    if color.dtype in {np.dtype(np.uint8), np.dtype(np.bool_)} and weights is None:
        counts = count_bytes(color, chosen)
        inner = counts[..., low : high + 1].copy()
        inner[..., 0] += counts[..., :low].sum(-1)
        inner[..., -1] += counts[..., high + 1 :].sum(-1)
        return inner
    count, channels = color.shape[:2]
    result = np.zeros((count, channels, high - low + 1), np.int64 if weights is None else np.float64)
    for n in range(count):
        where = plane_of(chosen, n)
        weight = None if weights is None else chosen_values(plane_of(weights, n), where)
        for c in range(channels):
            values = chosen_values(color[n, c], where)
            result[n, c] = count_words(values, low, high, weight)
    return result


def count_planes(color: Array, edges: Array, chosen: Array | None, weights: Array | None) -> tuple[Array, Array]:
    """Count floats (or any numbers) into bins given by their edges."""
    count, channels = color.shape[:2]
    counts = np.zeros((count, channels, edges.size - 1), np.int64 if weights is None else np.float64)
    missing = np.zeros((count, channels), np.int64)
    for n in range(count):
        where = plane_of(chosen, n)
        weight = None if weights is None else chosen_values(plane_of(weights, n), where)
        for c in range(channels):
            counts[n, c], missing[n, c] = count_values(chosen_values(color[n, c], where), edges, weight)
    return counts, missing


@overload
def plane_of(per_image: None, n: int) -> None: ...
@overload
def plane_of(per_image: Array, n: int) -> Array: ...
def plane_of(per_image: Array | None, n: int) -> Array | None:
    """Return what belongs to image n from (N or 1, 1, H, W): a plane (H, W)."""
    return None if per_image is None else per_image[n % per_image.shape[0], 0]


def chosen_values(plane: Array, chosen: Array | None) -> Array:
    """Return the chosen values of a plane (H, W) as a flat array."""
    return plane.reshape(-1) if chosen is None else plane[chosen]
