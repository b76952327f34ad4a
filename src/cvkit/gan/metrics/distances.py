"""Distances between two sets of features: Fréchet and kernel.

References
----------
M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
arXiv:1706.08500. M. Bińkowski et al., "Demystifying MMD GANs", 2018, arXiv:1801.01401.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit._checks import check_finite, check_integer
from cvkit.gan.metrics._features import blocks, check_pair, watched

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = ["KernelDistance", "frechet_distance", "kernel_distance"]


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    r"""Return the Fréchet distance of two sets of features, each taken as a normal distribution.

    .. math:: d = \|\mu_r - \mu_f\|^2 + \operatorname{tr}\bigl(\Sigma_r + \Sigma_f - 2 (\Sigma_r \Sigma_f)^{1/2}\bigr)

    The last trace is the sum of the singular values of :math:`L_r^T L_f` for any factors :math:`\Sigma = L L^T`, so
    no matrix root is taken, nothing becomes complex, and fewer rows than features do no harm (the estimate is still
    biased then: always state N).

    Parameters
    ----------
    real : ndarray or Tensor of shape (N, D)
        Features, at least two rows.
    fake : ndarray or Tensor of shape (M, D)
        Features, at least two rows.

    Returns
    -------
    float
        The squared distance, 0 for identical sets.

    Raises
    ------
    ValueError
        If lengths differ, rows are too few, or a value is not finite.

    References
    ----------
    Heusel et al. 2017, arXiv:1706.08500, Eq. (6).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import frechet_distance
    >>> features = np.random.default_rng(0).normal(size=(50, 8))
    >>> round(frechet_distance(features, features + 0.5), 6)
    2.0
    """
    a, b = check_pair(real, fake, minimum=2)
    means, factors, total = [], [], 0.0
    for features in (a, b):
        mean = features.mean(axis=0, dtype=np.float64)
        factor = _factor(features, mean)
        means.append(mean)
        factors.append(factor)
        total += float((factor**2).sum())
    cross = float(np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum())
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + total - 2.0 * cross)


def _factor(features: Array, mean: Array) -> Array:
    """Return L (D, R) with L L^T the unbiased covariance, R the smaller of D and N."""
    if len(features) <= features.shape[1]:
        return np.asarray((features - mean).T / np.sqrt(len(features) - 1))
    covariance = np.zeros((features.shape[1],) * 2)
    for rows in blocks(len(features), 4096):
        part = features[rows] - mean
        covariance += part.T @ part
    values, vectors = np.linalg.eigh(covariance / (len(features) - 1))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


class KernelDistance(NamedTuple):
    """A kernel distance, and its standard deviation over subsets (0 where all rows were used at once)."""

    value: float
    spread: float


def kernel_distance(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    subsets: int | None = None,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    constant: float = 1.0,
    rng: np.random.Generator | None = None,
    chunk: int = 2048,
    progress: bool = False,
) -> KernelDistance:
    r"""Return the unbiased squared maximum mean discrepancy under the polynomial kernel.

    .. math:: k(x, y) = (\gamma\, x^T y + c)^{\text{degree}}

    Unbiased means that its expectation does not depend on N, that it can be negative, and that it is slightly
    negative for two identical sets, whose pairs of equal rows count in the mixed term only.

    Parameters
    ----------
    real : ndarray or Tensor of shape (N, D)
        Features, at least two rows.
    fake : ndarray or Tensor of shape (M, D)
        Features, at least two rows.
    subsets : int, optional
        Average over so many random subsets, as most papers do. Default: all rows at once.
    subset_size : int, default 1000
        Rows of a subset, at most N and M.
    degree : int, default 3
        Of the kernel.
    gamma : float, optional
        Of the kernel. Default: 1 / D.
    constant : float, default 1.0
        c of the kernel.
    rng : numpy.random.Generator, optional
        Draws the subsets. Default: a fresh one with seed 0.
    chunk : int, default 2048
        Rows of a block of the kernel's matrix: bounds memory.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    KernelDistance
        ``.value`` and ``.spread``.

    References
    ----------
    Bińkowski et al. 2018, arXiv:1801.01401, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import kernel_distance
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(200, 8)), rng.normal(size=(200, 8))
    >>> bool(abs(kernel_distance(a, b).value) < 0.05 < kernel_distance(a, b + 1).value)
    True
    """
    a, b = check_pair(real, fake, minimum=2)
    degree = check_integer("degree", degree, minimum=1)
    scale = 1.0 / a.shape[1] if gamma is None else check_finite("gamma", gamma)
    constant = check_finite("constant", constant)
    subset_size = min(check_integer("subset_size", subset_size, minimum=2), len(a), len(b))
    if subsets is None:
        return KernelDistance(_discrepancy(a, b, scale, constant, degree, chunk, progress), 0.0)
    count = check_integer("subsets", subsets, minimum=1)
    rng = np.random.default_rng(0) if rng is None else rng
    values = []
    for _ in watched(range(count), "kernel distance", progress):
        x = a[rng.choice(len(a), subset_size, replace=False)]
        y = b[rng.choice(len(b), subset_size, replace=False)]
        values.append(_discrepancy(x, y, scale, constant, degree, chunk, False))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _discrepancy(a: Array, b: Array, gamma: float, constant: float, degree: int, chunk: int, progress: bool) -> float:
    n, m = len(a), len(b)
    pairs = [("rr", a, a), ("ff", b, b), ("rf", a, b)]
    sums = dict.fromkeys(("rr", "ff", "rf"), 0.0)
    todo = [(key, x, y, rows) for key, x, y in pairs for rows in blocks(len(x), chunk)]
    for key, x, y, rows in watched(todo, "kernel distance", progress):
        sums[key] += float(_power(gamma * (x[rows] @ y.T) + constant, degree).sum(dtype=np.float64))
    for key, x in (("rr", a), ("ff", b)):
        own = np.einsum("nd,nd->n", x, x, dtype=np.float64)
        sums[key] -= float(((gamma * own + constant) ** degree).sum())
    return sums["rr"] / (n * (n - 1)) + sums["ff"] / (m * (m - 1)) - 2.0 * sums["rf"] / (n * m)


def _power(base: Array, degree: int) -> Array:
    """Return a small whole power by products, several times as quick as the general power."""
    out = base.copy() if degree > 1 else base
    for _ in range(degree - 1):
        out *= base
    return out
