"""Normalised mean error with its failure rate, curve and area, and the end-point error in pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit._checks import check_choice, check_instance, check_interval
from cvkit.pose.metrics.distances import LENGTHS, ReferenceLength, distances, reference_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cvkit._types import ArrayLike

__all__ = ["EPE", "NME", "NMEResult"]


class NMEResult(NamedTuple):
    """What `NME` found.

    Attributes
    ----------
    nme : float
        Mean over images of the mean over their labelled joints of distance / length; infinite if a prediction is
        missing (NaN).
    failure_rate : float
        Share of images whose error is above the threshold.
    auc : float
        Area under the cumulative error distribution from 0 to the threshold, divided by it: 1 is perfect.
    images : int
        Images with a labelled joint.
    """

    nme: float
    failure_rate: float
    auc: float
    images: int


class NME:
    """Mean error of each image's landmarks divided by a reference length; an accumulator.

    Parameters
    ----------
    normalizer : {'interocular', 'interpupil', 'box', 'box_max', 'torso', 'head'}, default 'interocular'
        See `reference_length`; `update` also takes your own lengths.
    threshold : float, default 0.1
        Where failures begin and the area ends.

    Raises
    ------
    ValueError
        If `normalizer` is unknown or `threshold` not positive.

    Notes
    -----
    Sums over images are exact (``math.fsum``), so batches and the order of merging make no difference. The area is that
    under the step function of the errors itself, without a grid.

    References
    ----------
    .. [1] X. Wang, L. Bo, L. Fuxin, "Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression", ICCV 2019,
       section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import NME
    >>> nme = NME()
    >>> labels = np.zeros((2, 68, 2))
    >>> labels[:, 45] = (100, 0)
    >>> nme.update(labels + [[[5.0, 0.0]], [[0.0, 20.0]]], labels)
    >>> [round(value, 6) for value in nme.compute()]
    [0.125, 0.5, 0.25, 2]
    """

    def __init__(self, normalizer: ReferenceLength = "interocular", *, threshold: float = 0.1) -> None:
        self.normalizer: ReferenceLength = check_choice("normalizer", normalizer, LENGTHS)
        self.threshold = check_interval("threshold", threshold, 0, low_open=True)
        self._errors: list[float] = []

    @property
    def errors(self) -> NDArray[np.float64]:
        """The error of each image with a labelled joint, in the order they came."""
        return np.asarray(self._errors, np.float64)

    def update(
        self,
        predicted: ArrayLike,
        keypoints: ArrayLike,
        visibility: ArrayLike | None = None,
        *,
        boxes: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> None:
        """Add images.

        Parameters
        ----------
        predicted, keypoints : array or Tensor of shape (N, J, 2)
            Predicted and labelled places in the same pixels.
        visibility : array or Tensor of shape (N, J), optional
            Which joints are labelled (> 0).
        boxes : array or Tensor of shape (N, 4), optional
            ``(left, top, right, bottom)`` for the normalisers that use them.
        lengths : array of shape (N,), optional
            Your own reference lengths.
        """
        if lengths is None:
            lengths = reference_length(self.normalizer, keypoints, visibility, boxes=boxes)
        apart, known = distances(predicted, keypoints, visibility, lengths)
        count = known.sum(1)
        # Row by row over contiguous memory: the same number whatever else is in the batch.
        total = np.ascontiguousarray(np.where(known, apart, 0.0)).sum(1)
        self._errors.extend((total[count > 0] / count[count > 0]).tolist())

    def merge(self, other: NME) -> NME:
        """Return an accumulator of both sets of images.

        Parameters
        ----------
        other : NME
            With the same settings.

        Returns
        -------
        NME
            A new one.
        """
        check_instance("other", other, NME)
        if (self.normalizer, self.threshold) != (other.normalizer, other.threshold):
            raise ValueError("`other` must have the same normaliser and threshold")
        merged = NME(self.normalizer, threshold=self.threshold)
        merged._errors = self._errors + other._errors
        return merged

    def compute(self) -> NMEResult:
        """Return the figures so far; NaN if there was no image.

        Returns
        -------
        NMEResult
            ``nme``, ``failure_rate``, ``auc``, ``images``.
        """
        errors, count = self.errors, len(self._errors)
        if not count:
            return NMEResult(math.nan, math.nan, math.nan, 0)
        # Area under the step function: each image adds what is left of the interval right of its error.
        area = math.fsum(np.clip(1 - errors / self.threshold, 0, None)) / count
        return NMEResult(math.fsum(errors) / count, float((errors > self.threshold).sum() / count), area, count)

    def ced(self, thresholds: Sequence[float]) -> NDArray[np.float64]:
        """Return the cumulative error distribution: the share of images with an error of at most each threshold.

        Parameters
        ----------
        thresholds : sequence of float
            Errors.

        Returns
        -------
        ndarray
            One share a threshold.
        """
        errors = np.sort(self.errors)
        found = np.searchsorted(errors, np.asarray(thresholds, np.float64), side="right")
        return np.asarray(found / len(errors) if len(errors) else np.full(len(found), np.nan))


class EPE:
    """Mean distance between prediction and label in pixels, over all labelled joints (end-point error); an accumulator.

    Notes
    -----
    Infinite as soon as one prediction is missing (NaN).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import EPE
    >>> epe = EPE()
    >>> epe.update([[[3.0, 4.0], [0.0, 1.0]]], np.zeros((1, 2, 2)))
    >>> epe.compute()
    3.0
    """

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._count = 0

    def update(self, predicted: ArrayLike, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> None:
        """Add samples.

        Parameters
        ----------
        predicted, keypoints : array or Tensor of shape (N, J, 2)
            Predicted and labelled places in the same pixels.
        visibility : array or Tensor of shape (N, J), optional
            Which joints are labelled (> 0).
        """
        apart, known = distances(predicted, keypoints, visibility)
        self._sums.extend(apart[known].tolist())
        self._count += int(known.sum())

    def merge(self, other: EPE) -> EPE:
        """Return an accumulator of both sets of samples.

        Parameters
        ----------
        other : EPE
            Another one.

        Returns
        -------
        EPE
            A new one.
        """
        check_instance("other", other, EPE)
        merged = EPE()
        merged._sums, merged._count = self._sums + other._sums, self._count + other._count
        return merged

    def compute(self) -> float:
        """Return the mean so far, NaN if nothing was labelled.

        Returns
        -------
        float
            In pixels.
        """
        return math.fsum(self._sums) / self._count if self._count else math.nan
