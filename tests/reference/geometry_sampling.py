"""Slow sampling, one output pixel at a time, straight from the definitions."""

from __future__ import annotations

import math

import numpy as np


def warp_bilinear(image, matrix, size, fill):
    """Sample every output pixel at its place in the source; four neighbours, what lies outside is `fill`."""
    height, width = image.shape[:2]
    linear, offset = matrix[:, :2], matrix[:, 2]
    result = np.zeros((*size, *image.shape[2:]))
    for v in range(size[0]):
        for u in range(size[1]):
            x, y = np.linalg.solve(linear, np.array([u, v]) - offset)
            left, top = math.floor(x), math.floor(y)
            for row in (top, top + 1):
                for column in (left, left + 1):
                    weight = (1 - abs(x - column)) * (1 - abs(y - row))
                    inside = 0 <= row < height and 0 <= column < width
                    result[v, u] += weight * (image[row, column] if inside else fill)
    return result


def resample_axis(values, count, mode, start=0.0, stop=None):
    """Resample a 1-D signal with the kernel widened by the factor of shrinking; weights sum to 1 inside the signal."""
    length = len(values)
    stop = length if stop is None else stop
    step = (stop - start) / count
    widening = max(step, 1.0)
    result = []
    for i in range(count):
        center = start + (i + 0.5) * step
        weights = [_kernel(abs(j + 0.5 - center) / widening, mode) for j in range(length)]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return np.array(result)


def _kernel(d, mode):
    if mode == "bilinear":
        return max(1 - d, 0.0)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    if d < 2:
        return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return 0.0


def centroid(image):
    """Return the centre of gravity (x, y) of a grey picture."""
    rows, columns = np.indices(image.shape)
    return np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()


def blob(size, place, sigma=1.7):
    """Return a smooth bright dot at (x, y) in [0, 1]."""
    rows, columns = np.indices(size)
    return np.exp(-((columns - place[0]) ** 2 + (rows - place[1]) ** 2) / (2 * sigma**2))
