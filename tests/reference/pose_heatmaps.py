"""Heatmaps one pixel and one joint at a time, straight from the formulas."""

import math

import numpy as np


def encode(keypoints, visibility, input_size, heatmap_size, sigma):
    """h = exp(-((x - x_h)^2 + (y - y_h)^2) / (2 sigma^2)) with x_h = (x + 0.5) / s - 0.5."""
    n, joints, _ = keypoints.shape
    (height, width), (h, w) = input_size, heatmap_size
    maps, weights = np.zeros((n, joints, h, w)), np.zeros((n, joints))
    for i in range(n):
        for j in range(joints):
            x, y = (float(v) for v in keypoints[i, j])
            seen = visibility is None or visibility[i, j] > 0
            if not seen or not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
                continue
            weights[i, j] = 1
            cx, cy = (x + 0.5) / (width / w) - 0.5, (y + 0.5) / (height / h) - 0.5
            for row in range(h):
                for column in range(w):
                    maps[i, j, row, column] = math.exp(-((column - cx) ** 2 + (row - cy) ** 2) / (2 * sigma**2))
    return maps, weights


def argmax(heat):
    """The first highest pixel, (x, y)."""
    best, place = -math.inf, (0, 0)
    for y in range(heat.shape[0]):
        for x in range(heat.shape[1]):
            if heat[y, x] > best:
                best, place = heat[y, x], (x, y)
    return place


def quarter(heat):
    """A quarter towards the higher neighbour where both exist."""
    x, y = argmax(heat)
    fx, fy = float(x), float(y)
    if 0 < x < heat.shape[1] - 1:
        fx += 0.25 * np.sign(heat[y, x + 1] - heat[y, x - 1])
    if 0 < y < heat.shape[0] - 1:
        fy += 0.25 * np.sign(heat[y + 1, x] - heat[y - 1, x])
    return fx, fy


def taylor(heat):
    """DARK Eq. (9) on the raw map, at the argmax moved one pixel inside."""
    x, y = argmax(heat)
    x, y = min(max(x, 1), heat.shape[1] - 2), min(max(y, 1), heat.shape[0] - 2)
    log = np.log(np.maximum(heat.astype(np.float64), 1e-30))
    g = np.array([(log[y, x + 1] - log[y, x - 1]) / 2, (log[y + 1, x] - log[y - 1, x]) / 2])
    hxx = log[y, x + 1] - 2 * log[y, x] + log[y, x - 1]
    hyy = log[y + 1, x] - 2 * log[y, x] + log[y - 1, x]
    hxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    step = -np.linalg.solve(np.array([[hxx, hxy], [hxy, hyy]]), g)
    return x + step[0], y + step[1]


def fit(heat):
    """Weighted least squares of a quadratic to log h on 5x5 pixels, then again with the fitted heat as weights."""
    x0, y0 = argmax(heat)
    left, top = min(max(x0 - 2, 0), heat.shape[1] - 5), min(max(y0 - 2, 0), heat.shape[0] - 5)
    rows, logs, values = [], [], []
    for y in range(top, top + 5):
        for x in range(left, left + 5):
            rows.append([1, x, y, x * x / 2, x * y, y * y / 2])
            logs.append(math.log(max(heat[y, x], 1e-30)))
            values.append(max(heat[y, x], 0))
    a, b, w = np.array(rows, float), np.array(logs), np.array(values) ** 2
    for _ in range(2):
        root = np.sqrt(w)
        c = np.linalg.lstsq(a * root[:, None], b * root, rcond=None)[0]
        w = np.where(np.array(values) > 1e-30, np.exp(2 * np.minimum(a @ c, 0.5)), 0)
    return tuple(-np.linalg.solve([[c[3], c[4]], [c[4], c[5]]], c[1:3]))
