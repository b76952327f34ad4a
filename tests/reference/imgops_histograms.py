"""Slow oracles for histograms and tone, written from the papers and the published rules, one pixel at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np


def count(values, low, high, bins):
    """Half-open bins but for the last; values outside count at the ends; NaN is left out."""
    counts = [0] * bins
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    for value in values:
        if math.isnan(value):
            continue
        place = sum(value >= edge for edge in edges) - 1
        counts[min(max(place, 0), bins - 1)] += 1
    return counts


def opencv_equalize(plane):
    """`cv2.equalizeHist`: float32 scale, round half to even."""
    counts = [int((plane == v).sum()) for v in range(256)]
    first = next(v for v in range(256) if counts[v])
    if counts[first] == plane.size:
        return plane.copy()
    scale = np.float32(255.0) / np.float32(plane.size - counts[first])
    table, total = [0] * 256, 0
    for v in range(first + 1, 256):
        total += counts[v]
        table[v] = min(int(np.rint(np.float32(total) * scale)), 255)
    return np.array(table, np.uint8)[plane]


def pillow_equalize(plane):
    """`PIL.ImageOps.equalize`."""
    counts = [int((plane == v).sum()) for v in range(256)]
    occupied = [c for c in counts if c]
    step = (plane.size - occupied[-1]) // 255 if len(occupied) > 1 else 0
    if step == 0:
        return plane.copy()
    table, total = [], step // 2
    for v in range(256):
        table.append(min(total // step, 255))
        total += counts[v]
    return np.array(table, np.uint8)[plane]


def between_variance(counts, values, splits):
    """Otsu's criterion for classes that end at the bins in `splits`."""
    counts, values = np.asarray(counts, float), np.asarray(values, float)
    total = counts.sum()
    mean = (counts * values).sum() / total
    result = 0.0
    for start, stop in itertools.pairwise([0, *[s + 1 for s in splits], len(counts)]):
        weight = counts[start:stop].sum()
        if weight:
            own = (counts[start:stop] * values[start:stop]).sum() / weight
            result += weight / total * (own - mean) ** 2
    return result


def best_splits(counts, values, classes):
    """The largest criterion over all choices of splits."""
    choices = itertools.combinations(range(len(counts) - 1), classes - 1)
    return max(between_variance(counts, values, splits) for splits in choices)


def cross_entropy(counts, values, split):
    """Li's criterion: sum over pixels of v log(v / mean of its class)."""
    total = 0.0
    for part in (slice(0, split + 1), slice(split + 1, None)):
        c, v = np.asarray(counts[part], float), np.asarray(values[part], float)
        if c.sum():
            mean = (c * v).sum() / c.sum()
            total += sum(n * x * math.log(x / mean) for n, x in zip(c, v, strict=True) if n and x > 0)
    return total


def clahe(plane, clip_limit, rows, columns):
    """OpenCV's CLAHE of an 8-bit plane, pixel by pixel in float32."""
    f = np.float32
    height, width = plane.shape
    down = across = 0
    if height % rows or width % columns:
        down, across = rows - height % rows, columns - width % columns

    def mirrored(i, size):
        while not 0 <= i < size:
            i = -i if i < 0 else 2 * (size - 1) - i
            if size == 1:
                return 0
        return i

    tile_h, tile_w = (height + down) // rows, (width + across) // columns
    area = tile_h * tile_w
    tables = {}
    for r, c in itertools.product(range(rows), range(columns)):
        counts = [0] * 256
        for y, x in itertools.product(range(r * tile_h, (r + 1) * tile_h), range(c * tile_w, (c + 1) * tile_w)):
            counts[plane[mirrored(y, height), mirrored(x, width)]] += 1
        if clip_limit > 0:
            limit = max(int(clip_limit * area / 256), 1)
            excess = sum(max(n - limit, 0) for n in counts)
            counts = [min(n, limit) + excess // 256 for n in counts]
            rest = excess % 256
            if rest:
                step = max(256 // rest, 1)
                for i in range(0, 256, step):
                    if rest == 0:
                        break
                    counts[i] += 1
                    rest -= 1
        scale = f(255) / f(area)
        summed = np.cumsum(counts)
        tables[r, c] = [min(int(np.rint(f(s) * scale)), 255) for s in summed]
    out = np.empty_like(plane)
    for y, x in itertools.product(range(height), range(width)):
        ty = f(y) * (f(1) / f(tile_h)) - f(0.5)
        tx = f(x) * (f(1) / f(tile_w)) - f(0.5)
        y0, x0 = math.floor(ty), math.floor(tx)
        ya, xa = f(ty - f(y0)), f(tx - f(x0))
        y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
        y0, x0 = max(y0, 0), max(x0, 0)
        v = plane[y, x]
        top = f(tables[y0, x0][v]) * (f(1) - xa) + f(tables[y0, x1][v]) * xa
        bottom = f(tables[y1, x0][v]) * (f(1) - xa) + f(tables[y1, x1][v]) * xa
        out[y, x] = min(max(int(np.rint(top * (f(1) - ya) + bottom * ya)), 0), 255)
    return out


def matched(values, reference):
    """Each value gets the reference's value at its middle rank, by straight lines between its middle ranks."""

    def ranks(numbers):
        known = sorted(set(numbers))
        return known, [(sum(n < v for n in numbers) + sum(n == v for n in numbers) / 2) / len(numbers) for v in known]

    source, shares = ranks(values)
    target, wanted = ranks(reference)
    table = {}
    for value, share in zip(source, shares, strict=True):
        if share <= wanted[0]:
            table[value] = target[0]
        elif share >= wanted[-1]:
            table[value] = target[-1]
        else:
            i = max(k for k in range(len(wanted)) if wanted[k] <= share)
            part = (share - wanted[i]) / (wanted[i + 1] - wanted[i])
            table[value] = target[i] + part * (target[i + 1] - target[i])
    return [table[v] for v in values]


def triangle(counts):
    """Zack's threshold: the bin with the largest perpendicular distance under the line from the peak to the far end."""
    counts = [float(c) for c in counts]
    occupied = [i for i, c in enumerate(counts) if c]
    peak = counts.index(max(counts))
    first, last = occupied[0], occupied[-1]
    end = first if peak - first >= last - peak else last
    a, b = (end, 0.0), (peak, counts[peak])
    length = math.hypot(b[0] - a[0], b[1] - a[1])
    best, found = -math.inf, None
    order = range(end, peak) if end < peak else range(end, peak, -1)
    for i in order:
        distance = ((counts[peak] * abs(i - end)) - abs(peak - end) * counts[i]) / length
        if distance > best + 1e-12:
            best, found = distance, i
    return found


def minimum_between_peaks(counts, most=10_000):
    """Smooth by a running mean of three until at most two maxima are left; the lowest bin between two, else None."""
    heights = [float(count) for count in counts]
    for _ in range(most):
        last = len(heights) - 1
        heights = [sum(heights[min(max(i + d, 0), last)] for d in (-1, 0, 1)) / 3 for i in range(last + 1)]
        peaks, rising, top = [], True, 0
        for i in range(1, last + 1):
            if heights[i] > heights[i - 1]:
                rising, top = True, i
            elif heights[i] < heights[i - 1]:
                if rising:
                    peaks.append(i - 1)
                rising = False
        if rising and heights[last] > min(heights):
            peaks.append(top if top == last else last)
        if len(peaks) < 3:
            break
    if len(peaks) != 2:
        return None
    return min(range(peaks[0], peaks[1] + 1), key=lambda i: heights[i])
