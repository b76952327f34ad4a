"""Measures by nearest neighbours: fidelity and diversity apart, and how much was learnt by heart.

References
----------
T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019, arXiv:1904.06991.
M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, arXiv:2002.09797.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit._checks import check_integer
from cvkit.gan.metrics._features import (
    blocks,
    centred,
    check_features,
    check_pair,
    nearest,
    squared_distances,
    watched,
)

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = [
    "DensityCoverage",
    "Memorization",
    "PrecisionRecall",
    "density_coverage",
    "memorization",
    "precision_recall",
]


class PrecisionRecall(NamedTuple):
    """Share of fakes that lie among the reals, and of reals that lie among the fakes."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """How densely fakes lie among the reals (1 as reals do), and the share of reals with a fake near by."""

    density: float
    coverage: float


class Memorization(NamedTuple):
    """How near fakes are to the training set beside unseen reals, and the share of near copies."""

    ratio: float
    copies: float


def precision_recall(
    real: ArrayLike, fake: ArrayLike, *, k: int = 3, chunk: int = 1024, progress: bool = False
) -> PrecisionRecall:
    """Return improved precision and recall.

    A point lies among a set if it is nearer to one of its points than that point's k-th neighbour in the set, or
    coincides with it.

    Parameters
    ----------
    real : ndarray or Tensor of shape (N, D)
        Features, more than k rows.
    fake : ndarray or Tensor of shape (M, D)
        Features, more than k rows; as many as reals, or the measures are not comparable.
    k : int, default 3
        Which neighbour gives the radius.
    chunk : int, default 1024
        Rows of a block of distances: bounds memory.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    PrecisionRecall
        ``.precision`` and ``.recall`` in [0, 1].

    References
    ----------
    Kynkäänniemi et al. 2019, arXiv:1904.06991, Eq. (1) and (2).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import precision_recall
    >>> features = np.random.default_rng(0).normal(size=(100, 4))
    >>> precision_recall(features, features)
    PrecisionRecall(precision=1.0, recall=1.0)
    """
    a, b, k = _checked(real, fake, k)
    radius_real = nearest(a, a, k, same=True, chunk=chunk, progress=progress)
    radius_fake = nearest(b, b, k, same=True, chunk=chunk, progress=progress)
    inside_real, inside_fake = np.zeros(len(b), bool), np.zeros(len(a), bool)
    real_limit, fake_limit = _limit(radius_real), _limit(radius_fake)
    for rows in watched(blocks(len(a), chunk), "precision and recall", progress):
        distances = squared_distances(a[rows], b)
        inside_real |= (distances <= real_limit[rows, None]).any(axis=0)
        inside_fake[rows] = (distances <= fake_limit).any(axis=1)
    return PrecisionRecall(float(inside_real.mean()), float(inside_fake.mean()))


def density_coverage(
    real: ArrayLike, fake: ArrayLike, *, k: int = 5, chunk: int = 1024, progress: bool = False
) -> DensityCoverage:
    """Return density and coverage.

    Parameters
    ----------
    real : ndarray or Tensor of shape (N, D)
        Features, more than k rows.
    fake : ndarray or Tensor of shape (M, D)
        Features; as many as reals, or coverage is not comparable.
    k : int, default 5
        Which neighbour gives the radius.
    chunk : int, default 1024
        Rows of a block of distances: bounds memory.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    DensityCoverage
        ``.density``, from 0 and about 1 for identical distributions; ``.coverage`` in [0, 1].

    References
    ----------
    Naeem et al. 2020, arXiv:2002.09797, Eq. (4) and (5).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import density_coverage
    >>> features = np.random.default_rng(0).normal(size=(100, 4))
    >>> density_coverage(features, features)
    DensityCoverage(density=1.0, coverage=1.0)
    """
    a, b, k = _checked(real, fake, k, fakes=1)
    radius = nearest(a, a, k, same=True, chunk=chunk, progress=progress)
    limit, hits, covered = _limit(radius), 0, np.zeros(len(a), bool)
    for rows in watched(blocks(len(a), chunk), "density and coverage", progress):
        inside = squared_distances(a[rows], b) <= limit[rows, None]
        near = np.count_nonzero(inside, axis=1)
        hits += int(near.sum())
        covered[rows] = near > 0
    return DensityCoverage(hits / (k * len(b)), float(covered.mean()))


def memorization(
    train: ArrayLike, fake: ArrayLike, held_out: ArrayLike, *, chunk: int = 1024, progress: bool = False
) -> Memorization:
    """Return how much nearer to the training set fakes lie than reals that were not trained on.

    Parameters
    ----------
    train : ndarray or Tensor of shape (N, D)
        Features of what was trained on.
    fake : ndarray or Tensor of shape (M, D)
        Features of samples.
    held_out : ndarray or Tensor of shape (L, D)
        Features of reals that were not trained on.
    chunk : int, default 1024
        Rows of a block of distances: bounds memory.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    Memorization
        ``.ratio``: median distance of fakes to their nearest training row, over that of held-out reals: about 1 is
        right, far below 1 is learning by heart (or too little variety), 0 copies. ``.copies``: share of fakes that
        lie nearer than 99 % of the held-out reals: about 0.01 is right.

    Raises
    ------
    ValueError
        If half of the held-out reals are in the training set, so that there is nothing to compare with.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import memorization
    >>> rng = np.random.default_rng(0)
    >>> train, held_out = rng.normal(size=(300, 4)), rng.normal(size=(100, 4))
    >>> memorization(train, train[:50], held_out)
    Memorization(ratio=0.0, copies=1.0)
    """
    a, b = check_pair(train, fake)
    a, c = check_pair(a, check_features("held_out", held_out, minimum=1))
    b, c = centred(a, b.astype(a.dtype))[1], centred(a, c)[1]
    a = centred(a, a)[0]
    of_fakes = nearest(b, a, 1, same=False, chunk=chunk, progress=progress)
    of_reals = nearest(c, a, 1, same=False, chunk=chunk, progress=progress)
    middle = float(np.median(of_reals))
    if middle == 0:
        raise ValueError("`held_out` must not be part of `train`: half of its rows are")
    return Memorization(float(np.median(of_fakes)) / middle, float((of_fakes <= np.quantile(of_reals, 0.01)).mean()))


def _limit(radius: Array) -> Array:
    """Return the largest squared distance that is nearer than a radius, by more than two ways of summing can differ.

    It is not below 0, so that a point which coincides with another is near it even where its k-th neighbour does too.
    """
    return np.asarray(radius**2 * (1 - 64 * np.finfo(radius.dtype).eps))


def _checked(real: ArrayLike, fake: ArrayLike, k: int, fakes: int | None = None) -> tuple[Array, Array, int]:
    k = check_integer("k", k, minimum=1)
    a, b = check_pair(real, fake)
    for name, features, least in (("real", a, k + 1), ("fake", b, k + 1 if fakes is None else fakes)):
        if len(features) < least:
            raise ValueError(f"`{name}` must hold more than k = {k} rows; got {len(features)}")
    return *centred(a, b), k
