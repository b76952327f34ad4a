"""Percentage of correct key points, with the published ways to take its mean and the area under its curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from cvkit._checks import check_choice, check_instance, check_interval, shown
from cvkit.pose.metrics.distances import distances, reference_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cvkit._types import ArrayLike
    from cvkit.pose.skeleton import Skeleton

Mean = Literal["count", "joint"]
Definition = Literal["official", "per-joint", "all-joints"]

__all__ = ["PCK", "PCKCurve", "PCKResult", "PCKh"]


class PCKResult(NamedTuple):
    """What `PCK` and `PCKh` found.

    Attributes
    ----------
    mean : float
        Share of correct joints by the chosen mean; NaN if nothing was labelled.
    per_joint : ndarray of shape (J,)
        Share a joint; NaN for joints never labelled.
    counts : ndarray of shape (J,)
        Labels a joint.
    """

    mean: float
    per_joint: NDArray[np.float64]
    counts: NDArray[np.int64]

    def by_group(self, skeleton: Skeleton) -> dict[str, float]:
        """Return the share of each part of a body: head, shoulder, elbow, ... as published tables have them.

        Parameters
        ----------
        skeleton : Skeleton
            Its `groups` are the parts.

        Returns
        -------
        dict of str to float
            Plain mean of the shares of the part's joints, left and right alike; NaN if none was ever labelled.

        Raises
        ------
        ValueError
            If the skeleton has another number of joints.

        Examples
        --------
        >>> import numpy as np
        >>> from cvkit.pose import MPII, PCKResult
        >>> shares = np.arange(16) / 16
        >>> round(PCKResult(0.5, shares, np.ones(16, np.int64)).by_group(MPII)["ankle"], 5)  # joints 0 and 5
        0.15625
        """
        if len(skeleton) != len(self.per_joint):
            raise ValueError(f"`skeleton` must have {len(self.per_joint)} joints; got {len(skeleton)}")
        result = {}
        for name, part in skeleton.groups.items():
            shares = self.per_joint[[skeleton.index(joint) for joint in part]]
            known = shares[~np.isnan(shares)]
            result[name] = float(known.mean()) if known.size else float("nan")
        return result


class PCK:
    """Share of joints whose distance from the label is at most `threshold` times a reference length; an accumulator.

    Parameters
    ----------
    threshold : float, default 0.1
        Share of the reference length.
    mean : {'count', 'joint'}, default 'count'
        Over all labels at once, or over the joints' own shares (joints never labelled left out).
    strict : bool, default False
        Count distances below the threshold only, not those equal to it.

    Raises
    ------
    ValueError
        If `threshold` is negative or `mean` unknown.

    Notes
    -----
    Hits are counted in integers, so the result does not depend on batches or on the order of merging. A prediction that
    is NaN is a miss.

    References
    ----------
    .. [1] Y. Yang, D. Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", TPAMI 2013, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import PCK
    >>> pck = PCK(0.1)
    >>> labels = np.zeros((1, 3, 2))
    >>> pck.update([[[1.0, 0.0], [9.0, 0.0], [20.0, 0.0]]], labels, normalizer=100.0)
    >>> round(pck.compute().mean, 4)
    0.6667
    """

    def __init__(
        self, threshold: float = 0.1, *, mean: Literal["count", "joint"] = "count", strict: bool = False
    ) -> None:
        self.threshold = check_interval("threshold", threshold, 0)
        self.mean: Mean = check_choice("mean", mean, ("count", "joint"))
        self.strict = strict
        self._counter = _Counter([self.threshold], strict)

    def update(
        self,
        predicted: ArrayLike,
        keypoints: ArrayLike,
        visibility: ArrayLike | None = None,
        *,
        normalizer: ArrayLike | float,
    ) -> None:
        """Add samples.

        Parameters
        ----------
        predicted, keypoints : array or Tensor of shape (N, J, 2)
            Predicted and labelled places in the same pixels.
        visibility : array or Tensor of shape (N, J), optional
            Which joints are labelled (> 0); labels that are NaN never count.
        normalizer : float or array of shape (N,)
            The reference length of each sample, such as `reference_length` gives.
        """
        self._counter.update(*distances(predicted, keypoints, visibility, normalizer))

    def merge(self, other: PCK) -> PCK:
        """Return an accumulator of both sets of samples.

        Parameters
        ----------
        other : PCK
            With the same settings.

        Returns
        -------
        PCK
            A new one.
        """
        check_instance("other", other, PCK)
        if (self.threshold, self.mean, self.strict) != (other.threshold, other.mean, other.strict):
            raise ValueError("`other` must have the same threshold, mean and strictness")
        merged = PCK(self.threshold, mean=self.mean, strict=self.strict)
        merged._counter = self._counter.merge(other._counter)
        return merged

    def compute(self) -> PCKResult:
        """Return the shares so far.

        Returns
        -------
        PCKResult
            ``mean``, ``per_joint``, ``counts``.
        """
        hits, counts = self._counter.hits[0], self._counter.counts
        return PCKResult(_mean(hits, counts, self.mean), _share(hits, counts), counts.copy())


class PCKh:
    """PCK against the size of the head on MPII's sixteen joints, with the mean of one of three published programs.

    Parameters
    ----------
    threshold : float, default 0.5
        Share of the head's size.
    definition : {'official', 'per-joint', 'all-joints'}, default 'official'
        ``"official"``: fourteen joints without pelvis and thorax, all labels counted alike, distances equal to the
        threshold are correct. ``"per-joint"``: the same joints, plain mean of their shares, below the threshold only.
        ``"all-joints"``: all sixteen joints, all labels alike, below the threshold only. They differ by about a point;
        never compare across.

    Raises
    ------
    ValueError
        If `threshold` is negative or `definition` unknown.

    Notes
    -----
    The head's size is 0.6 times the diagonal of its box. The widely quoted "Mean@0.1" of one program reads its curve at
    0.11.

    References
    ----------
    .. [1] M. Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import PCKh
    >>> metric = PCKh()
    >>> labels = np.zeros((1, 16, 2))
    >>> predicted = labels + np.arange(16)[:, None] * [1.0, 0.0]
    >>> metric.update(predicted, labels, heads=[[0, 0, 12, 16]])  # 0.6 * 20 = 12; half is 6
    >>> metric.compute().mean == 6 / 14  # joints 0 to 5; pelvis (6 pixels off) and thorax don't count
    True
    """

    def __init__(
        self, threshold: float = 0.5, *, definition: Literal["official", "per-joint", "all-joints"] = "official"
    ) -> None:
        self.threshold = check_interval("threshold", threshold, 0)
        self.definition: Definition = check_choice("definition", definition, ("official", "per-joint", "all-joints"))
        self._counter = _Counter([self.threshold], strict=definition != "official")

    def update(
        self, predicted: ArrayLike, keypoints: ArrayLike, visibility: ArrayLike | None = None, *, heads: ArrayLike
    ) -> None:
        """Add samples.

        Parameters
        ----------
        predicted, keypoints : array or Tensor of shape (N, 16, 2)
            Predicted and labelled places in the same pixels, joints in MPII's order.
        visibility : array or Tensor of shape (N, 16), optional
            Which joints are labelled (> 0).
        heads : array or Tensor of shape (N, 4)
            Boxes of the heads, ``(left, top, right, bottom)``.
        """
        _check_mpii(keypoints)
        length = reference_length("head", keypoints, visibility, boxes=heads)
        self._counter.update(*distances(predicted, keypoints, visibility, length))

    def merge(self, other: PCKh) -> PCKh:
        """Return an accumulator of both sets of samples.

        Parameters
        ----------
        other : PCKh
            With the same settings.

        Returns
        -------
        PCKh
            A new one.
        """
        check_instance("other", other, PCKh)
        if (self.threshold, self.definition) != (other.threshold, other.definition):
            raise ValueError("`other` must have the same threshold and definition")
        merged = PCKh(self.threshold, definition=self.definition)
        merged._counter = self._counter.merge(other._counter)
        return merged

    def compute(self) -> PCKResult:
        """Return the shares so far.

        Returns
        -------
        PCKResult
            ``mean``, ``per_joint`` (all sixteen), ``counts``.
        """
        hits, counts = self._counter.hits[0], self._counter.counts
        used = slice(None) if self.definition == "all-joints" or len(counts) < 16 else [*range(6), *range(8, 16)]
        how: Literal["count", "joint"] = "joint" if self.definition == "per-joint" else "count"
        return PCKResult(_mean(hits[used], counts[used], how), _share(hits, counts), counts.copy())


class PCKCurve:
    """PCK at many thresholds, and the area under the curve as published programs take it; an accumulator.

    Parameters
    ----------
    thresholds : {'pckh', 'pixels'} or sequence of float, default 'pckh'
        ``"pckh"``: 0, 0.01, ..., 0.5 (the area of MPII's program; divide by head sizes). ``"pixels"``: 0, 0.05, ...,
        0.95 (a left Riemann sum; divide by a fixed length, 30 pixels in the published program). Or your own, rising.
    strict : bool, default False
        Count distances below each threshold only.

    Raises
    ------
    ValueError
        If thresholds are not rising numbers from 0.

    Notes
    -----
    The area is the plain mean of the curve over its thresholds, in both published cases.

    References
    ----------
    .. [1] M. Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import PCKCurve
    >>> curve = PCKCurve([0.0, 0.5, 1.0])
    >>> curve.update([[[3.0, 4.0]]], np.zeros((1, 1, 2)), normalizer=10.0)
    >>> curve.curve.tolist(), round(curve.auc, 4)
    ([0.0, 1.0, 1.0], 0.6667)
    """

    def __init__(
        self, thresholds: Literal["pckh", "pixels"] | Sequence[float] = "pckh", *, strict: bool = False
    ) -> None:
        if isinstance(thresholds, str):
            check_choice("thresholds", thresholds, ("pckh", "pixels"))
            values = [i / 100 for i in range(51)] if thresholds == "pckh" else [i / 20 for i in range(20)]
        else:
            values = [check_interval("thresholds", value, 0) for value in thresholds]
            if not values or values != sorted(set(values)):
                raise ValueError(f"`thresholds` must be rising numbers; got {shown(thresholds)}")
        self.thresholds = tuple(values)
        self.strict = strict
        self._counter = _Counter(values, strict)

    def update(
        self,
        predicted: ArrayLike,
        keypoints: ArrayLike,
        visibility: ArrayLike | None = None,
        *,
        normalizer: ArrayLike | float,
    ) -> None:
        """Add samples.

        Parameters
        ----------
        predicted, keypoints : array or Tensor of shape (N, J, 2)
            Predicted and labelled places in the same pixels.
        visibility : array or Tensor of shape (N, J), optional
            Which joints are labelled (> 0).
        normalizer : float or array of shape (N,)
            The reference length of each sample.
        """
        self._counter.update(*distances(predicted, keypoints, visibility, normalizer))

    def merge(self, other: PCKCurve) -> PCKCurve:
        """Return an accumulator of both sets of samples.

        Parameters
        ----------
        other : PCKCurve
            With the same settings.

        Returns
        -------
        PCKCurve
            A new one.
        """
        check_instance("other", other, PCKCurve)
        if (self.thresholds, self.strict) != (other.thresholds, other.strict):
            raise ValueError("`other` must have the same thresholds and strictness")
        merged = PCKCurve(self.thresholds, strict=self.strict)
        merged._counter = self._counter.merge(other._counter)
        return merged

    @property
    def curve(self) -> NDArray[np.float64]:
        """Share of correct joints at each threshold, all labels alike."""
        hits, total = self._counter.hits.sum(1), self._counter.counts.sum()
        return np.asarray(hits / total if total else np.full(len(hits), np.nan))

    @property
    def auc(self) -> float:
        """Mean of the curve."""
        return float(self.curve.mean())


class _Counter:
    """Hits ``(T, J)`` at each threshold and labels ``(J,)``, in integers."""

    def __init__(self, thresholds: Sequence[float], strict: bool) -> None:
        self.thresholds = np.asarray(thresholds, np.float64)
        self.strict = strict
        self.hits: NDArray[np.int64] = np.zeros((len(thresholds), 0), np.int64)
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)

    def update(self, apart: NDArray[np.float64], known: NDArray[np.bool_]) -> None:
        limits = self.thresholds[:, None, None]
        hit = (apart < limits) if self.strict else (apart <= limits)
        self._add((hit & known).sum(1), known.sum(0))

    def merge(self, other: _Counter) -> _Counter:
        merged = _Counter(self.thresholds.tolist(), self.strict)
        for part in (self, other):
            merged._add(part.hits, part.counts)
        return merged

    def _add(self, hits: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        if not len(counts):
            return
        if not len(self.counts):
            self.hits, self.counts = hits.astype(np.int64), counts.astype(np.int64)
        elif len(counts) != len(self.counts):
            raise ValueError(f"`keypoints` must have {len(self.counts)} joints as before; got {len(counts)}")
        else:
            self.hits, self.counts = self.hits + hits, self.counts + counts


def _share(hits: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def _mean(hits: NDArray[np.int64], counts: NDArray[np.int64], how: Literal["count", "joint"]) -> float:
    if not counts.sum():
        return float("nan")
    if how == "count":
        return float(hits.sum() / counts.sum())
    return float(_share(hits, counts)[counts > 0].mean())


def _check_mpii(keypoints: ArrayLike) -> None:
    shape = tuple(np.shape(keypoints))
    if len(shape) != 3 or shape[1] != 16:
        raise ValueError(f"`keypoints` must be (N, 16, 2), MPII's joints; got {shown(keypoints)}")
