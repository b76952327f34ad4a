"""Slow oracles of simplification and rasterising, one stroke and one sample at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def resample(points, step=1.0):
    jumps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(jumps)])
    if along[-1] == 0:
        return points[:1]
    keep = np.concatenate([[True], jumps > 0])
    at = np.arange(0, along[-1], step)
    inner = np.stack([np.interp(at, along[keep], points[keep, i]) for i in (0, 1)], axis=1)
    return np.concatenate([inner, points[-1:]])


def douglas_peucker(points, epsilon):
    if len(points) < 3:
        return points
    chord, offset = points[-1] - points[0], points[1:-1] - points[0]
    length = np.hypot(*chord)
    if length == 0:
        distance = np.hypot(*offset.T)
    else:
        distance = np.abs(offset[:, 0] * chord[1] - offset[:, 1] * chord[0]) / length
    split = int(distance.argmax()) + 1
    if distance[split - 1] <= epsilon:
        return points[[0, -1]]
    left, right = douglas_peucker(points[: split + 1], epsilon), douglas_peucker(points[split:], epsilon)
    return np.concatenate([left[:-1], right])


def simplify(strokes, epsilon=2.0):
    flat = np.concatenate(strokes)
    low = flat.min(axis=0)
    side = (flat.max(axis=0) - low).max() or 1.0
    return [np.floor(douglas_peucker(resample((s - low) * (255.0 / side)), epsilon) + 0.5) for s in strokes]


def rasterize(strokes, size=28, line_width=16.0, padding=16.0, samples=15):
    """Every pixel from samples x samples points, each inside a stroke or not; strokes one over another."""
    scale = size / (256 + 2 * padding + line_width)
    flat = np.concatenate(strokes)
    shift = padding + line_width / 2 + (256 - flat.max(axis=0)) / 2
    grid = (np.arange(size * samples) + 0.5) / samples
    x, y = np.meshgrid(grid, grid)
    paper = np.ones((size, size))
    for stroke in strokes:
        points = (stroke + shift) * scale
        ends = [(points[0], points[0])] if len(points) == 1 else pairwise(points)
        inside = np.zeros(x.shape, bool)
        for a, b in ends:
            d = b - a
            t = np.clip(((x - a[0]) * d[0] + (y - a[1]) * d[1]) / (d @ d), 0, 1) if d @ d > 0 else 0.0
            inside |= (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 <= (line_width / 2 * scale) ** 2
        paper *= 1 - inside.reshape(size, samples, size, samples).mean(axis=(1, 3))
    return (1 - paper) * 255
