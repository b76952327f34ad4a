"""Gaussian, pyramid steps and Poisson equation written out: one pixel or one dense system at a time."""

from __future__ import annotations

import numpy as np

__all__ = ["blur_line", "down_line", "mirror", "pyramid_blend", "solve_poisson", "up_line"]


def mirror(i, n):
    """The index that stands for `i` in an axis of n pixels mirrored at the centres of its ends."""
    while n > 1 and not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i if n > 1 else 0


def blur_line(line, sigma, truncate=4.0):
    radius = int(truncate * sigma + 0.5)
    weights = [np.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    taps = [sum(w * line[mirror(i + k - radius, len(line))] for k, w in enumerate(weights)) for i in range(len(line))]
    return np.array(taps) / sum(weights)


def down_line(line):
    kernel = [1, 4, 6, 4, 1]
    n = len(line)
    return np.array([sum(w * line[mirror(i + k - 2, n)] for k, w in enumerate(kernel)) / 16 for i in range(0, n, 2)])


def up_line(line, count):
    n = len(line)
    before, after = line[1 if n > 1 else 0], line[-1]
    long = [before, *line, after]
    out = []
    for i in range(count):
        j = i // 2 + 1
        out.append((long[j - 1] + 6 * long[j] + long[j + 1]) / 8 if i % 2 == 0 else (long[j] + long[j + 1]) / 2)
    return np.array(out)


def _both(plane, step, sizes=(None, None)):
    arguments = [() if s is None else (s,) for s in sizes]
    rows = np.array([step(row, *arguments[1]) for row in plane])
    return np.array([step(column, *arguments[0]) for column in rows.T]).T


def pyramid_blend(a, b, mask, levels):
    """The recipe with two Laplacian pyramids and a Gaussian one."""
    pyramids = []
    for plane in (a, b):
        bands = []
        for _ in range(levels):
            small = _both(plane, down_line)
            bands.append(plane - _both(small, up_line, plane.shape))
            plane = small
        pyramids.append([*bands, plane])
    masks = [mask]
    for _ in range(levels):
        masks.append(_both(masks[-1], down_line))
    mixed = [m * x + (1 - m) * y for x, y, m in zip(*pyramids, masks, strict=True)]
    result = mixed.pop()
    while mixed:
        band = mixed.pop()
        result = band + _both(result, up_line, band.shape)
    return result


def solve_poisson(ground, source, inside, mixed=False):
    """Colours of one plane whose gradients are the field's and whose frame is the ground's, by a dense system."""
    height, width = ground.shape

    def slope(y0, x0, y1, x1):
        b, s = ground[y1, x1] - ground[y0, x0], source[y1, x1] - source[y0, x0]
        if mixed and abs(s) <= abs(b):
            s = b
        return s if inside[y0, x0] else b

    unknown = {(y, x): i for i, (y, x) in enumerate((y, x) for y in range(1, height - 1) for x in range(1, width - 1))}
    matrix, right = np.zeros((len(unknown), len(unknown))), np.zeros(len(unknown))
    for (y, x), i in unknown.items():
        matrix[i, i] = -4
        right[i] = slope(y, x, y, x + 1) - slope(y, x - 1, y, x) + slope(y, x, y + 1, x) - slope(y - 1, x, y, x)
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if near in unknown:
                matrix[i, unknown[near]] = 1
            else:
                right[i] -= ground[near]
    result = ground.astype(float).copy()
    solved = np.linalg.solve(matrix, right)
    for place, i in unknown.items():
        result[place] = solved[i]
    return result
