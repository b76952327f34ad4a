"""Distances between distributions on the same bins: pure functions on the last axis, for `Histogram.distance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cvkit._types import Array

__all__ = ["DISTANCES", "DistanceKind", "wasserstein"]

DistanceKind: TypeAlias = Literal[
    "chi-square", "chi-square-alt", "bhattacharyya", "intersection", "correlation", "kl", "wasserstein"
]


def _chi_square(p: Array, q: Array) -> Array:
    """Pearson's: sum (p - q)^2 / p over the bins that p occupies."""
    found: Array = np.sum(np.divide((p - q) ** 2, p, out=np.zeros_like(p), where=p > 0), axis=-1)
    return found


def _chi_square_alt(p: Array, q: Array) -> Array:
    """Symmetric: 2 sum (p - q)^2 / (p + q)."""
    both = p + q
    found: Array = 2 * np.sum(np.divide((p - q) ** 2, both, out=np.zeros_like(p), where=both > 0), axis=-1)
    return found


def _bhattacharyya(p: Array, q: Array) -> Array:
    """Hellinger's form: sqrt(1 - sum sqrt(p q)); the clip takes away rounding below zero."""
    found: Array = np.sqrt(np.clip(1 - np.sum(np.sqrt(p * q), axis=-1), 0, None))
    return found


def _intersection(p: Array, q: Array) -> Array:
    """Sum min(p, q): a similarity, 1 for equal distributions."""
    found: Array = np.sum(np.minimum(p, q), axis=-1)
    return found


def _correlation(p: Array, q: Array) -> Array:
    """Pearson's correlation of the bins: a similarity; 1 where neither varies, 0 where one alone does not."""
    p, q = p - p.mean(-1, keepdims=True), q - q.mean(-1, keepdims=True)
    pp, qq, pq = (np.sum(a * b, axis=-1) for a, b in ((p, p), (q, q), (p, q)))
    flat = np.where((pp == 0) & (qq == 0), 1.0, 0.0)
    found: Array = np.divide(pq, np.sqrt(pp * qq), out=flat, where=pp * qq > 0)
    return found


def _kl(p: Array, q: Array) -> Array:
    """Kullback and Leibler: sum p log(p / q) in nats; infinite where q is empty and p is not."""
    ratio = np.divide(p, q, out=np.full(p.shape, np.inf), where=q > 0)
    logs = np.log(ratio, out=np.zeros(p.shape), where=p > 0)
    found: Array = np.sum(p * logs, axis=-1)
    return found


def wasserstein(p: Array, q: Array, values: Array) -> Array:
    """Earth mover's distance in one dimension: the area between the cumulative distributions over the bins' values."""
    found: Array = np.sum(np.abs(np.cumsum(p - q, axis=-1))[..., :-1] * np.diff(values), axis=-1)
    return found


DISTANCES: Mapping[str, Callable[[Array, Array], Array]] = {
    "chi-square": _chi_square,
    "chi-square-alt": _chi_square_alt,
    "bhattacharyya": _bhattacharyya,
    "intersection": _intersection,
    "correlation": _correlation,
    "kl": _kl,
}
