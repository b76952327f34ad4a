"""Thresholds from histograms: pure functions of one row of counts, each by the paper that its docstring names.

Every function takes counts (bins,) of which at least two bins are occupied, most also the bins' values, and returns
the index of the last bin of the lower class (`multi_otsu_bins`: several such indices). `Histogram.otsu` and its
siblings call these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = [
    "isodata_bin",
    "li_bin",
    "minimum_bin",
    "multi_otsu_bins",
    "otsu_bin",
    "triangle_bin",
    "yen_bin",
]

_MOST_BINS = 1024  # that are smoothed until two peaks are left


def otsu_bin(counts: Array, values: Array) -> int:
    """Return the split of largest variance between the classes (the first one of several).

    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979), Eq. (18).
    """
    mass = np.cumsum(counts, dtype=np.float64)[:-1]
    # Moments about the first value: exact for whole levels, and free of cancellation for others.
    moment = np.cumsum(counts * (values - values[0]), dtype=np.float64)
    total, mean = mass[-1] + counts[-1], moment[-1]
    weights = mass * (total - mass)
    variance = np.zeros_like(weights)
    np.divide((mean * mass - total * moment[:-1]) ** 2, weights, out=variance, where=weights > 0)
    return int(np.argmax(variance))


def multi_otsu_bins(counts: Array, values: Array, classes: int) -> Array:
    """Return the `classes` - 1 splits of largest variance between the classes, by dynamic programming over prefix sums.

    The best last split moves right as the right end does (the cost has the Monge property), so each layer is found by
    halving: O(classes * bins * log bins) time and O(bins) memory. Where fewer bins than classes are occupied the
    surplus splits repeat the last occupied bin.

    P.-S. Liao, T.-S. Chen, P.-C. Chung, "A fast algorithm for multilevel thresholding", J. Inf. Sci. Eng. 17 (2001),
    Eq. (18).
    """
    occupied = np.flatnonzero(counts)
    mass = np.concatenate([[0.0], np.cumsum(counts[occupied], dtype=np.float64)])
    shifted = values[occupied] - values[occupied[0]]
    moment = np.concatenate([[0.0], np.cumsum(counts[occupied] * shifted, dtype=np.float64)])
    size = occupied.size
    used = min(classes, size)

    # best[j]: largest sum over the classes so far of moment^2 / mass, for the first j occupied bins.
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.where(mass > 0, moment**2 / mass, 0.0)
    splits = []
    for layer in range(2, used + 1):
        best, split = _next_layer(best, mass, moment, layer)
        splits.append(split)
    ends = []
    right = size
    for split in reversed(splits):
        right = int(split[right])
        ends.append(right - 1)
    found = [int(occupied[end]) for end in reversed(ends)]
    return np.array(found + [int(occupied[-1])] * (classes - used), np.int64)


def _next_layer(best: Array, mass: Array, moment: Array, layer: int) -> tuple[Array, Array]:
    """Add one class: ``new[j] = max_i best[i] + (moment[j] - moment[i])^2 / (mass[j] - mass[i])``, i >= layer - 1."""
    size = best.size - 1
    new = np.full(size + 1, -np.inf)
    split = np.zeros(size + 1, np.int64)
    # Open intervals [first, last] of right ends, with the range [low, high] that their best split lies in.
    first, last = np.array([layer]), np.array([size])
    low, high = np.array([layer - 1]), np.array([size - 1])
    while first.size:
        middle = (first + last) // 2
        stop = np.minimum(high, middle - 1)
        lengths = stop - low + 1
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        i = np.arange(lengths.sum()) - np.repeat(starts - low, lengths)
        j = np.repeat(middle, lengths)
        gain = best[i] + (moment[j] - moment[i]) ** 2 / (mass[j] - mass[i])
        top = np.maximum.reduceat(gain, starts)
        # The first candidate that reaches the maximum.
        place = np.where(gain == np.repeat(top, lengths), i, size)
        chosen = np.minimum.reduceat(place, starts)
        new[middle], split[middle] = top, chosen
        left, right = first < middle, middle < last
        first, last, low, high = (
            np.concatenate([first[left], middle[right] + 1]),
            np.concatenate([middle[left] - 1, last[right]]),
            np.concatenate([low[left], chosen[right]]),
            np.concatenate([chosen[left], high[right]]),
        )
    return new, split


def triangle_bin(counts: Array) -> int:
    """Return the bin farthest below the line from the peak to the far end of the histogram's longer tail.

    G. W. Zack, W. E. Rogers, S. A. Latt, "Automatic measurement of sister chromatid exchange frequency", J. Histochem.
    Cytochem. 25 (1977).
    """
    occupied = np.flatnonzero(counts)
    peak, first, last = int(np.argmax(counts)), int(occupied[0]), int(occupied[-1])
    mirrored = peak - first < last - peak
    if mirrored:
        counts = counts[::-1]
        peak, first = counts.size - 1 - peak, counts.size - 1 - last
    steps = np.arange(peak - first, dtype=np.float64)
    # Distance from the line through (0, 0) and (peak - first, height), up to a constant factor.
    below = counts[peak] * steps - (peak - first) * counts[first:peak].astype(np.float64)
    found = first + int(np.argmax(below))
    return counts.size - 1 - found if mirrored else found


def li_bin(counts: Array, values: Array) -> int:
    """Return the split of least cross entropy between the image and its two class means.

    `values` are measured from the bottom of the range and not negative. The minimum over all splits is taken, so
    there is no start value and no tolerance.

    C. H. Li, C. K. Lee, "Minimum cross entropy thresholding", Pattern Recognition 26 (1993), Eq. (7).
    """
    mass = np.cumsum(counts, dtype=np.float64)
    moment = np.cumsum(counts * values, dtype=np.float64)
    below, above = moment[:-1], moment[-1] - moment[:-1]
    inside = (mass[:-1] > 0) & (mass[:-1] < mass[-1])
    criterion = np.full(counts.size - 1, -np.inf)
    low_mean = below[inside] / mass[:-1][inside]
    high_mean = above[inside] / (mass[-1] - mass[:-1][inside])
    # x log x -> 0; the means are positive wherever the moments are.
    criterion[inside] = below[inside] * _log(low_mean) + above[inside] * _log(high_mean)
    return int(np.argmax(criterion))


def _log(values: Array) -> Array:
    return np.log(values, out=np.zeros_like(values), where=values > 0)


def yen_bin(counts: Array) -> int:
    """Return the split of largest correlation criterion.

    J. C. Yen, F. J. Chang, S. Chang, "A new criterion for automatic multilevel thresholding", IEEE Trans. Image
    Processing 4 (1995), Eq. (4).
    """
    p = counts / counts.sum()
    mass = np.cumsum(p)[:-1]
    squares = np.cumsum(p**2)
    rest = np.cumsum(p[::-1] ** 2)[::-1][1:]
    inside = (np.cumsum(counts)[:-1] > 0) & (np.cumsum(counts[::-1])[::-1][1:] > 0)
    criterion = np.full(counts.size - 1, -np.inf)
    criterion[inside] = 2 * np.log(mass[inside] * (1 - mass[inside])) - np.log(squares[:-1][inside] * rest[inside])
    return int(np.argmax(criterion))


def isodata_bin(counts: Array, values: Array) -> int:
    """Return the first split that lies halfway between the means of its two classes.

    T. W. Ridler, S. Calvard, "Picture thresholding using an iterative selection method", IEEE Trans. SMC 8 (1978).
    """
    mass = np.cumsum(counts, dtype=np.float64)
    moment = np.cumsum(counts * (values - values[0]), dtype=np.float64)
    occupied = np.flatnonzero(counts)
    splits = np.arange(occupied[0], occupied[-1])
    low_mean = moment[splits] / mass[splits]
    high_mean = (moment[-1] - moment[splits]) / (mass[-1] - mass[splits])
    halfway = (low_mean + high_mean) / 2 + values[0]
    fits = (values[splits] <= halfway) & (halfway < values[splits + 1])
    return int(splits[np.argmax(fits)])


def minimum_bin(counts: Array, *, most_passes: int = 10_000) -> int:
    """Return the lowest bin between the two peaks that are left after smoothing by a running mean of three.

    Passes that are needed grow with the square of the number of bins, so more than 1024 are joined to at most that many
    first; the middle of the lowest of these is returned.

    J. M. S. Prewitt, M. L. Mendelsohn, "The analysis of cell images", Ann. N. Y. Acad. Sci. 128 (1966).
    """
    joined = -(-counts.size // _MOST_BINS)
    smooth = np.add.reduceat(counts, np.arange(0, counts.size, joined)).astype(np.float64)
    peaks: list[int] = []
    for _ in range(most_passes):
        padded = np.pad(smooth, 1, mode="edge")
        smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        peaks = _peaks(smooth)
        if len(peaks) < 3:
            break
    if len(peaks) != 2:
        raise ValueError(
            "the method 'minimum' needs a histogram with two peaks after smoothing; this one has "
            + (f"still {len(peaks)}: count into fewer bins" if len(peaks) > 2 else f"{len(peaks)}")
        )
    lowest = int(peaks[0] + np.argmin(smooth[peaks[0] : peaks[1] + 1]))
    return min(lowest * joined + joined // 2, counts.size - 1)


def _peaks(smooth: Array) -> list[int]:
    """Return the local maxima; a plateau counts once, at its last bin."""
    slope = np.sign(np.diff(smooth))
    moving = np.flatnonzero(slope)
    if moving.size == 0:
        return []
    signs = slope[moving]
    tops = [int(moving[i + 1]) for i in range(moving.size - 1) if signs[i] > 0 > signs[i + 1]]
    starts = [int(moving[0])] if signs[0] < 0 else []
    ends = [smooth.size - 1] if signs[-1] > 0 else []
    return starts + tops + ends
