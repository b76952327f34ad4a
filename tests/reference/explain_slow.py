"""Class activation maps, loop by loop from the papers, in NumPy float64; one sample at a time.

A, g are (C, *S); everything is written with the papers' indices, nothing is shared with the library.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def places(A):
    """Yield the spatial positions."""
    return itertools.product(*(range(side) for side in A.shape[1:]))


def cam(A, weights):
    """Zhou et al. 2016, Eq. (2)."""
    out = np.zeros(A.shape[1:])
    for s in places(A):
        out[s] = sum(weights[k] * A[(k, *s)] for k in range(A.shape[0]))
    return out


def gradcam(A, g):
    """Selvaraju et al. 2017, Eqs. (1), (2)."""
    Z = A[0].size
    weights = [sum(g[(k, *s)] for s in places(A)) / Z for k in range(A.shape[0])]
    return cam(A, weights)


def gradcam_plus_plus(A, g):
    """Chattopadhay et al. 2018, Eqs. (5), (19), with second and third derivatives g^2 and g^3."""
    weights = []
    for k in range(A.shape[0]):
        total = sum(A[(k, *s)] for s in places(A))
        weight = 0.0
        for s in places(A):
            second, third = g[(k, *s)] ** 2, g[(k, *s)] ** 3
            denominator = 2 * second + total * third
            alpha = second / denominator if denominator > 0 else 0.0
            weight += alpha * max(g[(k, *s)], 0.0)
        weights.append(weight)
    return cam(A, weights)


def smooth_gradcam_plus_plus(A, gradients):
    """Omeiza et al. 2019, Eqs. (8), (9)."""
    weights = []
    for k in range(A.shape[0]):
        total = sum(A[(k, *s)] for s in places(A))
        weight = 0.0
        for s in places(A):
            d1 = sum(g[(k, *s)] for g in gradients) / len(gradients)
            d2 = sum(g[(k, *s)] ** 2 for g in gradients) / len(gradients)
            d3 = sum(g[(k, *s)] ** 3 for g in gradients) / len(gradients)
            denominator = 2 * d2 + total * d3
            weight += (d2 / denominator if denominator > 0 else 0.0) * max(d1, 0.0)
        weights.append(weight)
    return cam(A, weights)


def xgradcam(A, g):
    """Fu et al. 2020, Eq. (8)."""
    weights = []
    for k in range(A.shape[0]):
        total = sum(A[(k, *s)] for s in places(A))
        weights.append(sum(A[(k, *s)] / total * g[(k, *s)] for s in places(A)) if abs(total) > 1e-12 else 0.0)
    return cam(A, weights)


def hirescam(A, g):
    """Draelos, Carin 2020, Eq. (4)."""
    out = np.zeros(A.shape[1:])
    for s in places(A):
        out[s] = sum(g[(k, *s)] * A[(k, *s)] for k in range(A.shape[0]))
    return out


def elementwise(A, g):
    out = np.zeros(A.shape[1:])
    for s in places(A):
        out[s] = sum(max(g[(k, *s)] * A[(k, *s)], 0.0) for k in range(A.shape[0]))
    return out


def layercam(A, g):
    """Jiang et al. 2021, Eqs. (5) to (7)."""
    out = np.zeros(A.shape[1:])
    for s in places(A):
        out[s] = sum(max(g[(k, *s)], 0.0) * A[(k, *s)] for k in range(A.shape[0]))
    return out


def eigencam(A, center=False):
    """Muhammad, Yeasin 2020, Eq. (3), by a whole singular value decomposition."""
    X = A.reshape(A.shape[0], -1).T
    mean = X.mean(1)
    if center:
        X = X - X.mean(0)
        mean = X.mean(1)
    _, _, V = np.linalg.svd(X, full_matrices=True)
    projection = X @ V[0]
    if projection @ mean < 0:
        projection = -projection
    return projection.reshape(A.shape[1:])


def kpcacam(A, kernel, gamma, offset):
    """Kernel PCA as in the textbooks: centred kernel matrix, first component times the root of its value."""
    X = A.reshape(A.shape[0], -1).T
    n = len(X)
    K = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if kernel == "rbf":
                K[i, j] = math.exp(-gamma * ((X[i] - X[j]) ** 2).sum())
            else:
                K[i, j] = X[i] @ X[j]
                if kernel == "sigmoid":
                    K[i, j] = math.tanh(gamma * K[i, j] + offset)
    J = np.eye(n) - np.full((n, n), 1 / n)
    values, vectors = np.linalg.eigh(J @ K @ J)
    projection = vectors[:, -1] * math.sqrt(max(values[-1], 0.0))
    mean = X.mean(1)
    if projection @ (mean - mean.mean()) < 0:
        projection = -projection
    return projection.reshape(A.shape[1:]), values


def fem(A, k):
    """Fuad et al. 2020: binary maps by the k-sigma rule, weighted by the channels' means."""
    out = np.zeros(A.shape[1:])
    for c in range(A.shape[0]):
        mean, deviation = A[c].mean(), A[c].std()
        if deviation <= 1e-12 * max(abs(mean), 1e-300):
            continue
        for s in places(A):
            if A[(c, *s)] >= mean + k * deviation:
                out[s] += mean
    return out


def segxrescam(A, g, window):
    """Hasany et al. 2023, Eq. (4): gradients averaged over windows, brought back by repetition."""
    out = np.zeros(A.shape[1:])
    for s in places(A):
        lows = [window * (i // window) for i in s]
        ranges = [range(low, min(low + window, side)) for low, side in zip(lows, A.shape[1:], strict=True)]
        cells = list(itertools.product(*ranges))
        for k in range(A.shape[0]):
            out[s] += A[(k, *s)] * sum(g[(k, *cell)] for cell in cells) / len(cells)
    return out


def unit(a):
    """Bring an array to [0, 1]; a constant one to 0."""
    return (a - a.min()) / (a.max() - a.min()) if a.max() > a.min() else np.zeros_like(a)


def softmax(values):
    e = np.exp(np.asarray(values) - max(values))
    return e / e.sum()


def resize(a, size):
    """Linear resize along each axis, half-pixel centres, edges held."""
    for axis, new in enumerate(size):
        old = a.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(a.ndim)])
        a = np.take(a, low, axis) * (1 - share) + np.take(a, high, axis) * share
    return a


def ablation_weights(A, head):
    """Desai, Ramaswamy 2020, Eq. (3), without the division by the score; `head` maps activations to the score."""
    y = head(A)
    weights = []
    for k in range(A.shape[0]):
        without = A.copy()
        without[k] = 0.0
        weights.append(y - head(without))
    return np.array(weights)


def scorecam(A, image, score):
    """Wang et al. 2020, Algorithm 1; `score` maps an image to its logit."""
    base = score(np.zeros_like(image))
    gains = [score(image * unit(resize(A[k], image.shape[1:]))) - base for k in range(A.shape[0])]
    return cam(A, softmax(gains))


def scorecam_class(A, image, probability):
    """The authors' code: probabilities as weights, constant channels left out."""
    out = np.zeros(A.shape[1:])
    for k in range(A.shape[0]):
        if A[k].max() > A[k].min():
            out += probability(image * unit(resize(A[k], image.shape[1:]))) * A[k]
    return out


def iscam(A, image, score, samples):
    """Naidu et al. 2020: scores averaged over mask * i / N."""
    gains = []
    for k in range(A.shape[0]):
        mask = unit(resize(A[k], image.shape[1:]))
        gains.append(sum(score(image * mask * i / samples) for i in range(1, samples + 1)) / samples)
    return cam(A, softmax(gains))


def groupcam(A, g, image, blurred, score, groups, quantile):
    """Zhang et al. 2021."""
    out = np.zeros(A.shape[1:])
    weights = [g[k].mean() for k in range(A.shape[0])]
    bounds = [round(A.shape[0] * i / groups) for i in range(groups + 1)]
    dark = score(blurred)
    for start, stop in itertools.pairwise(bounds):
        mask = np.maximum(sum(weights[k] * A[k] for k in range(start, stop)), 0.0)
        mask = unit(np.where(mask >= np.quantile(mask, quantile), mask, 0.0))
        seen = resize(mask, image.shape[1:])
        out += (score(image * seen + blurred * (1 - seen)) - dark) * mask
    return out
