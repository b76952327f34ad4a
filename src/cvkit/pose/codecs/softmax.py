"""Heatmaps as distributions: trained by cross entropy, read by a fit around the peak."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvkit._checks import check_interval, check_size
from cvkit.pose.codecs.base import Keypoints, Targets, check_keypoints, check_maps, to_input
from cvkit.pose.codecs.gaussian import gaussian_targets
from cvkit.pose.codecs.peaks import peaks_of
from cvkit.pose.losses import kl_divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["SoftmaxCodec"]


@dataclass(frozen=True)
class SoftmaxCodec:
    """Each map is softmaxed and trained towards a Gaussian by cross entropy: of all codecs the quickest to learn.

    A squared error has to raise one peak out of hundreds of zeros and learns nothing at first; here the pixels of a map
    compete, and the gradient never vanishes. Decoding fits the peak as `GaussianCodec` with ``"fit"`` does, so that
    ``decode`` inverts ``encode`` over the whole map, border included.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    heatmap_size : tuple of int
        Height and width of its maps.
    sigma : float, default 1.0
        Standard deviation of the targets in map pixels, at least 0.5.

    Raises
    ------
    ValueError
        If a size or `sigma` is out of range.

    Notes
    -----
    Outputs are *logits*; `decode` applies the softmax. The score is the height of the peak relative to that of the
    target's Gaussian, at most 1. Grids and labels are those of `GaussianCodec`.

    References
    ----------
    .. [1] A. Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", arXiv:1801.07372,
       section 4.1.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import SoftmaxCodec
    >>> codec = SoftmaxCodec(input_size=(64, 48), heatmap_size=(16, 12))
    >>> targets = codec.encode(torch.tensor([[[20.0, 63.4]]]))
    >>> codec.decode(codec.ideal_output(targets)).keypoints
    tensor([[[20.0000, 63.4000]]])
    """

    input_size: Size
    heatmap_size: Size
    sigma: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "heatmap_size", check_size("heatmap_size", self.heatmap_size))
        check_interval("sigma", self.sigma, 0.5)

    def channels(self, joints: int) -> int:
        """Return the number of channels for `joints` joints: one each."""
        return joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return maps ``(N, J, h, w)`` that sum to 1, weights and places for key points in input pixels."""
        points, seen = check_keypoints(keypoints, visibility)
        return normalised(gaussian_targets(points, seen, self.input_size, self.heatmap_size, self.sigma, "centers"))

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return key points in input pixels and scores for logits ``(N, J, h, w)``."""
        check_maps("outputs", outputs, self.heatmap_size)
        wide = outputs if outputs.dtype == torch.float64 else outputs.float()
        p = wide.flatten(2).softmax(-1).reshape(wide.shape)
        # A softmax of infinities is NaN already; a constant map stays constant: neither has a peak.
        peaks = peaks_of(p, "fit", self.sigma)
        scores = (peaks.heights * (2 * math.pi * self.sigma**2)).clamp_max(1.0)
        return Keypoints(to_input(peaks.places, self.input_size, self.heatmap_size), scores)

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the divergence from the targets of labelled joints, summed over stacks (`kl_divergence`)."""
        return kl_divergence(outputs, targets.heatmaps, targets.weights)

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return logits ``(..., J, h, w)`` for mirrored pictures as if for the pictures themselves."""
        return outputs.flip(-1)[..., list(flip), :, :]

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return logits whose softmax is the targets' maps, 0 at the highest pixel."""
        return logits_of(targets.heatmaps)


def logits_of(maps: Tensor) -> Tensor:
    """Return the logarithms of maps, 0 at the highest pixel: half precision is finest there."""
    logits = maps.clamp_min(1e-30).log()
    return logits - logits.amax((-2, -1), keepdim=True)


def normalised(targets: Targets) -> Targets:
    """Return targets whose maps sum to 1 where there is a label."""
    total = targets.heatmaps.sum((-2, -1), keepdim=True)
    return targets._replace(heatmaps=targets.heatmaps / torch.where(total > 0, total, 1.0))
