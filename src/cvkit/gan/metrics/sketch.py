"""How clean drawings are, apart from what they show: ink, paper, stroke width, grey levels, variety."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_integer, shown
from cvkit.gan.datasets.imageset import _plain

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = ["InkStatistics", "ink_statistics", "spread", "wasserstein"]

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class InkStatistics:
    """Ink and stroke statistics of a set of drawings.

    Parameters
    ----------
    ink : ndarray of shape (N,)
        Mean grey level over 255: how much of each image is ink.
    paper : ndarray of shape (N,)
        Share of each image that is exactly 0.
    grey : ndarray of shape (N,)
        Share of each image that is neither paper nor ink: above 0, below 128.
    width : ndarray of shape (N,)
        Mean stroke width of each image in pixels, NaN for an empty one.
    levels : ndarray of shape (256,)
        Share of all pixels at each grey level.

    Examples
    --------
    >>> from cvkit import gan
    >>> ink = gan.metrics.ink_statistics(gan.quickdraw.generate(["sun"], 20).images)
    >>> bool(0.4 < ink.paper.mean() < 0.9), bool(1.0 < ink.width.mean() < 2.5)
    (True, True)
    """

    ink: Array
    paper: Array
    grey: Array
    width: Array
    levels: Array

    @property
    def empty(self) -> float:
        """Share of images with hardly any ink: less than half a percent."""
        return float((self.ink < 0.005).mean())

    def summary(self) -> dict[str, float]:
        """Return the means as plain numbers."""
        width = self.width[np.isfinite(self.width)]
        return {
            "ink": float(self.ink.mean()),
            "paper": float(self.paper.mean()),
            "grey": float(self.grey.mean()),
            "width": float(width.mean()) if len(width) else 0.0,
            "empty": self.empty,
        }

    def distances(self, other: InkStatistics) -> dict[str, float]:
        """Return how far two sets are apart in each statistic.

        Parameters
        ----------
        other : InkStatistics
            The other set's.

        Returns
        -------
        dict of str to float
            Wasserstein distances of the distributions of ``ink``, ``paper`` and ``grey`` (shares), ``width`` (pixels)
            and ``levels`` (grey levels).
        """
        table = {}
        for name in ("ink", "paper", "grey", "width"):
            mine, theirs = (getattr(x, name) for x in (self, other))
            table[name] = wasserstein(mine[np.isfinite(mine)], theirs[np.isfinite(theirs)])
        table["levels"] = float(np.abs(np.cumsum(self.levels) - np.cumsum(other.levels)).sum())
        return table


def ink_statistics(images: ArrayLike) -> InkStatistics:
    r"""Measure ink, paper and strokes of drawings with white ink on black.

    Stroke width is :math:`2 A / P`, area of ink over half its outline, the outline being the total variation: exact
    for long strokes, whose area is width times length and whose outline is twice the length.

    Parameters
    ----------
    images : ndarray or Tensor of shape (N, H, W) or (N, 1, H, W)
        uint8.

    Returns
    -------
    InkStatistics
        A value an image, and the grey histogram.

    Raises
    ------
    TypeError, ValueError
        If the images are of another kind, or none.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.metrics import ink_statistics
    >>> image = np.zeros((1, 28, 28), np.uint8)
    >>> image[0, 10:13] = 255
    >>> round(float(ink_statistics(image).width[0]), 6), round(float(ink_statistics(image).ink[0]), 3)
    (3.0, 0.107)
    """
    plain = _plain(images)
    if plain.dtype != np.uint8:
        raise TypeError(f"`images` must be uint8; got {shown(images)}")
    if plain.ndim == 4 and plain.shape[1] == 1:
        plain = plain[:, 0]
    if plain.ndim != 3 or not plain.size:
        raise ValueError(f"`images` must have shape (N, H, W), at least one; got {shown(images)}")
    parts = [_measured(plain[i : i + _CHUNK]) for i in range(0, len(plain), _CHUNK)]
    ink, paper, grey, width = (np.concatenate([part[i] for part in parts]) for i in range(4))
    return InkStatistics(ink, paper, grey, width, np.bincount(plain.ravel(), minlength=256) / plain.size)


def _measured(images: Array) -> tuple[Array, Array, Array, Array]:
    grey = images.astype(np.float32) / 255
    area = grey.sum(axis=(1, 2), dtype=np.float64)
    outline = _outline(grey)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.where(outline > 0, 2 * area / outline, np.nan)
    faint = (images > 0) & (images < 128)
    return grey.mean(axis=(1, 2), dtype=np.float64), (images == 0).mean(axis=(1, 2)), faint.mean(axis=(1, 2)), width


def _outline(grey: Array) -> Array:
    """Return the total variation of each image, (N,), by the mean of forward and backward differences."""
    total = np.zeros(len(grey))
    for down in (1, -1):
        for right in (1, -1):
            rows = grey[:, ::down, ::right]
            dy = np.diff(rows, axis=1, append=rows[:, -1:])
            dx = np.diff(rows, axis=2, append=rows[:, :, -1:])
            total += np.sqrt(dx**2 + dy**2).sum(axis=(1, 2), dtype=np.float64)
    return total / 4


def wasserstein(a: ArrayLike, b: ArrayLike) -> float:
    """Return the first Wasserstein distance of two samples of numbers.

    Parameters
    ----------
    a, b : ndarray or Tensor of shape (N,), (M,)
        Finite numbers, at least one each.

    Returns
    -------
    float
        Area between the two distribution functions.

    Examples
    --------
    >>> from cvkit.gan.metrics.sketch import wasserstein
    >>> wasserstein([0.0, 1.0], [0.5, 1.5])
    0.5
    """
    x, y = (np.sort(np.asarray(_plain(value), np.float64).ravel()) for value in (a, b))
    if not len(x) or not len(y):
        raise ValueError("`a` and `b` must hold at least one number each")
    both = np.sort(np.concatenate([x, y]))
    shares = [np.searchsorted(value, both[:-1], side="right") / len(value) for value in (x, y)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(both)).sum())


def spread(images: ArrayLike, labels: ArrayLike, *, pairs: int = 1000, rng: np.random.Generator | None = None) -> Array:
    """Return the mean distance of two images of each class: how much variety a class has.

    Parameters
    ----------
    images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
        uint8.
    labels : ndarray or Tensor of shape (N,)
        Class indices.
    pairs : int, default 1000
        Random pairs of a class; all where there are fewer.
    rng : numpy.random.Generator, optional
        Draws the pairs. Default: a fresh one with seed 0.

    Returns
    -------
    ndarray of shape (K,)
        Mean root of the mean squared difference, in grey levels; NaN for a class of fewer than two images.

    Examples
    --------
    >>> from cvkit import gan
    >>> from cvkit.gan.metrics import spread
    >>> data = gan.quickdraw.generate(["sun", "star"], 20)
    >>> bool((spread(data.images, data.labels) > 40).all())
    True
    """
    pairs = check_integer("pairs", pairs, minimum=1)
    rng = np.random.default_rng(0) if rng is None else rng
    plain, of = _plain(images), _plain(labels)
    flat = plain.reshape(len(plain), -1)
    out = np.full(int(of.max(initial=-1)) + 1, np.nan)
    for label in range(len(out)):
        rows = np.flatnonzero(of == label)
        if len(rows) < 2:
            continue
        if len(rows) * (len(rows) - 1) // 2 <= pairs:
            first, second = np.triu_indices(len(rows), 1)
        else:
            first = rng.integers(0, len(rows), pairs)
            second = (first + rng.integers(1, len(rows), pairs)) % len(rows)
        difference = flat[rows[first]].astype(np.float32) - flat[rows[second]]
        out[label] = np.sqrt((difference**2).mean(axis=1)).mean()
    return out
