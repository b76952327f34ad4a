"""Slow oracles of the measures, a pair at a time, straight from the papers."""

from __future__ import annotations

import numpy as np


def frechet(a, b):
    """Heusel et al. 2017, Eq. (6); the matrix root by the eigenvalues of the product."""
    ca, cb = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    eigenvalues = np.linalg.eigvals(ca @ cb)
    root = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * root


def kernel(a, b, degree=3, gamma=None, constant=1.0):
    """Binkowski et al. 2018, the unbiased estimator."""
    gamma = 1 / a.shape[1] if gamma is None else gamma

    def k(x, y):
        return (gamma * float(x @ y) + constant) ** degree

    n, m = len(a), len(b)
    rr = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    ff = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    rf = sum(k(x, y) for x in a for y in b) / (n * m)
    return rr + ff - 2 * rf


def radii(points, k):
    return [sorted(np.linalg.norm(p - q) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)]


def precision(real, fake, k):
    """Kynkaanniemi et al. 2019, Eq. (1): which fakes lie in a ball of a real."""
    balls = radii(real, k)
    return np.mean([any(np.linalg.norm(r - f) < ball for r, ball in zip(real, balls, strict=True)) for f in fake])


def density(real, fake, k):
    """Naeem et al. 2020, Eq. (4)."""
    balls = radii(real, k)
    return sum(np.linalg.norm(r - f) < ball for r, ball in zip(real, balls, strict=True) for f in fake) / (
        k * len(fake)
    )


def coverage(real, fake, k):
    """Naeem et al. 2020, Eq. (5)."""
    balls = radii(real, k)
    return np.mean([any(np.linalg.norm(r - f) < ball for f in fake) for r, ball in zip(real, balls, strict=True)])
