"""Coordinates as the expectation of a softmaxed map (integral regression, DSNT) with its regularisers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_interval, check_size, shown
from cvkit.pose.codecs.base import Keypoints, Targets, check_keypoints, check_maps, to_input, to_map
from cvkit.pose.codecs.gaussian import gaussian_targets
from cvkit.pose.codecs.softmax import logits_of, normalised
from cvkit.pose.losses import coordinate_loss, js_divergence, kl_divergence, map_variances, variance_regularizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["IntegralCodec", "expectation"]


def expectation(logits: Tensor) -> Tensor:
    """Return the mean place, ``(x, y)`` in map pixels, of the softmax of each map; differentiable.

    Parameters
    ----------
    logits : Tensor of shape (..., h, w)
        Maps before the softmax.

    Returns
    -------
    Tensor of shape (..., 2)
        Inside [0, w - 1] x [0, h - 1].

    Raises
    ------
    ValueError
        If the maps have no two axes, or are empty.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import expectation
    >>> expectation(torch.zeros(3, 5))
    tensor([2., 1.])
    """
    check_instance("logits", logits, Tensor)
    if logits.ndim < 2 or 0 in logits.shape[-2:]:
        raise ValueError(f"`logits` must be (..., h, w) with h and w at least 1; got {shown(logits)}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    p = logits.flatten(-2).softmax(-1).reshape(logits.shape)
    across = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)
    down = torch.arange(p.shape[-2], device=p.device, dtype=p.dtype)
    return torch.stack(((p.sum(-2) * across).sum(-1), (p.sum(-1) * down).sum(-1)), -1)


@dataclass(frozen=True)
class IntegralCodec:
    """Maps are softmaxed and the joint lies at their mean, so that the places themselves can be trained.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    heatmap_size : tuple of int
        Height and width of its maps.
    sigma : float, default 1.0
        Standard deviation of the Gaussian towards which the regulariser pulls the softmaxed map, in map pixels.
    regularizer : {'kl', 'js', 'variance', 'none'}, default 'kl'
        What is added to the distance in `loss`.
    strength : float, default 1.0
        Its weight.

    Raises
    ------
    ValueError
        If a size, `sigma`, `strength` or `regularizer` is out of range.

    Notes
    -----
    The outputs are *logits*: `decode` applies the softmax itself, so that a map need not sum to one. Away from the
    border the round trip is exact up to rounding; within about 3 sigma of it the Gaussian is cut and its mean moves
    inside, by the nature of the method. The score is sigma over the map's standard deviation, at most 1. A map with
    NaN or infinity gives NaN and 0, a constant one its middle with a low score.

    References
    ----------
    .. [1] A. Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", arXiv:1801.07372, Eq.
       (2)-(9).
    .. [2] X. Sun et al., "Integral Human Pose Regression", ECCV 2018, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import IntegralCodec
    >>> codec = IntegralCodec(input_size=(64, 48), heatmap_size=(16, 12))
    >>> targets = codec.encode(torch.tensor([[[20.0, 30.5]]]))
    >>> round(float(targets.heatmaps.sum()), 4)
    1.0
    >>> codec.decode(codec.ideal_output(targets)).keypoints.round(decimals=2)
    tensor([[[20.0000, 30.5000]]])
    """

    input_size: Size
    heatmap_size: Size
    sigma: float = 1.0
    regularizer: Literal["kl", "js", "variance", "none"] = "kl"
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "heatmap_size", check_size("heatmap_size", self.heatmap_size))
        check_interval("sigma", self.sigma, 0.5)
        check_choice("regularizer", self.regularizer, ("js", "kl", "variance", "none"))
        check_interval("strength", self.strength, 0)

    def channels(self, joints: int) -> int:
        """Return the number of channels for `joints` joints: one each."""
        return joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return maps ``(N, J, h, w)`` that sum to 1, weights and places for key points in input pixels."""
        points, seen = check_keypoints(keypoints, visibility)
        return normalised(gaussian_targets(points, seen, self.input_size, self.heatmap_size, self.sigma, "centers"))

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return mean places in input pixels and scores for logits ``(N, J, h, w)``."""
        check_maps("outputs", outputs, self.heatmap_size)
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        places = expectation(outputs)
        found = torch.isfinite(outputs).all(-1).all(-1) & torch.isfinite(places).all(-1)
        spread = map_variances(outputs).mean(-1).sqrt()
        scores = torch.where(found, (self.sigma / spread.clamp_min(1e-12)).clamp_max(1.0), 0.0)
        places = torch.where(found[..., None], places, math.nan)
        return Keypoints(to_input(places, self.input_size, self.heatmap_size), scores)

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the distance in map pixels plus the regulariser, of labelled joints, summed over stacks."""
        wanted = to_map(targets.keypoints, self.input_size, self.heatmap_size)
        loss = coordinate_loss(expectation(outputs), wanted, targets.weights)
        if self.regularizer == "js":
            extra = js_divergence(outputs, targets.heatmaps, targets.weights)
        elif self.regularizer == "kl":
            extra = kl_divergence(outputs, targets.heatmaps, targets.weights)
        elif self.regularizer == "variance":
            extra = variance_regularizer(outputs, targets.weights, sigma=self.sigma)
        else:
            return loss
        return loss + self.strength * extra

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return heatmaps ``(..., J, h, w)`` for mirrored pictures as if for the pictures themselves."""
        return outputs.flip(-1)[..., list(flip), :, :]

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return logits whose softmax is the targets' maps, 0 at the highest pixel."""
        return logits_of(targets.heatmaps)
