"""Coordinates as two classifications, a vector of fine bins a joint and axis (SimCC), and the head that gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from cvkit._checks import check_choice, check_instance, check_integer, check_interval, check_size, shown
from cvkit.pose.codecs.base import Keypoints, Targets, check_keypoints, check_maps, labelled
from cvkit.pose.losses import kl_divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["SimCCCodec", "SimCCHead"]


@dataclass(frozen=True)
class SimCCCodec:
    """Each axis is cut into `split` bins a pixel and the joint is the bin that wins: fine places without fine heatmaps.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    split : int, default 2
        Bins a pixel.
    sigma : float, default 6.0
        Standard deviation of the soft labels in bins, at least 0.5.
    decoder : {'taylor', 'fit', 'argmax', 'mean'}, default 'taylor'
        The top of the parabola through the three logits around the best bin; the same by least squares through all bins
        within 1.5 sigma of the best one, which is calmer under noise (both exact for Gaussian labels to the border);
        the best bin; or the mean of the softmax. Logits in half precision are fitted for ``"taylor"`` too: their
        rounding is noise.

    Raises
    ------
    ValueError
        If a size or number is out of range.

    Notes
    -----
    Outputs and targets are vectors ``(N, J, W split + H split)``: the bins of x, then those of y; `SimCCHead` makes
    them from heatmaps. Bin b covers input pixels ``[b / split - 0.5, (b + 1) / split - 0.5)``. The outputs are
    *logits*. The score is the product of the two largest probabilities relative to those of the labels, at most 1.

    References
    ----------
    .. [1] Y. Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022,
       section 3.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import SimCCCodec
    >>> codec = SimCCCodec(input_size=(64, 48))
    >>> targets = codec.encode(torch.tensor([[[20.3, 63.0]]]))
    >>> targets.heatmaps.shape
    torch.Size([1, 1, 224])
    >>> codec.decode(codec.ideal_output(targets)).keypoints
    tensor([[[20.3000, 63.0000]]])
    """

    input_size: Size
    split: int = 2
    sigma: float = 6.0
    decoder: Literal["taylor", "fit", "argmax", "mean"] = "taylor"

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        check_integer("split", self.split, minimum=1)
        check_interval("sigma", self.sigma, 0.5)
        check_choice("decoder", self.decoder, ("taylor", "fit", "argmax", "mean"))

    @property
    def bins(self) -> tuple[int, int]:
        """Number of bins of x and of y."""
        return self.input_size[1] * self.split, self.input_size[0] * self.split

    def channels(self, joints: int) -> int:
        """Return the number of heatmap channels below a `SimCCHead` for `joints` joints: one each."""
        return joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return soft labels ``(N, J, bins)``, each half summing to 1, weights and places for key points."""
        points, seen = check_keypoints(keypoints, visibility)
        weights = labelled(points, seen, self.input_size)
        places = torch.where(weights[..., None], points, 0.0)
        halves = []
        for axis, count in enumerate(self.bins):
            centre = (places[..., axis : axis + 1] + 0.5) * self.split - 0.5
            steps = torch.arange(count, device=places.device, dtype=places.dtype)
            label = torch.softmax(-((steps - centre) ** 2) / (2 * self.sigma**2), -1)
            halves.append(label * weights[..., None])
        return Targets(torch.cat(halves, -1), weights.to(points.dtype), places)

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return key points in input pixels and scores for logits ``(N, J, bins)``."""
        check_maps("outputs", outputs, (sum(self.bins),))
        wide = outputs if outputs.dtype == torch.float64 else outputs.float()
        found = torch.isfinite(outputs).all(-1)
        places, scores = [], []
        rounded = outputs.dtype in {torch.float16, torch.bfloat16}
        for logits in torch.split(wide, list(self.bins), -1):
            p = logits.softmax(-1)
            found = found & ((logits.amax(-1) > logits.amin(-1)) | (logits.shape[-1] == 1))
            places.append((self._place(logits, p, rounded) + 0.5) / self.split - 0.5)
            scores.append((p.amax(-1) * (math.sqrt(2 * math.pi) * self.sigma)).clamp_max(1.0))
        keypoints = torch.where(found[..., None], torch.stack(places, -1), math.nan)
        return Keypoints(keypoints, torch.where(found, scores[0] * scores[1], 0.0))

    def _place(self, logits: Tensor, p: Tensor, rounded: bool) -> Tensor:
        """Return the place in bins."""
        count = logits.shape[-1]
        if self.decoder == "mean":
            return (p * torch.arange(count, device=p.device, dtype=p.dtype)).sum(-1)
        best = logits.argmax(-1)
        if self.decoder == "argmax" or count < 3:
            return best.to(logits.dtype)
        reach = 1
        if self.decoder == "fit" or rounded:
            reach = max(1, min(math.floor(1.5 * self.sigma), (count - 1) // 2))
        middle = best.clamp(reach, count - 1 - reach)
        near = torch.arange(-reach, reach + 1, device=p.device)
        values = logits.gather(-1, middle[..., None] + near)
        values = values - values.amax(-1, keepdim=True)
        d = near.to(values.dtype)
        # Least squares of a + b d + c d^2 on evenly spaced d; with three bins, the parabola through them.
        n, s2, s4 = 2 * reach + 1, (d**2).sum(), (d**4).sum()
        slope = (values * d).sum(-1) / s2
        curve = (n * (values * d**2).sum(-1) - s2 * values.sum(-1)) / (n * s4 - s2 * s2)
        concave = curve < 0
        step = torch.where(concave, -slope / (2 * torch.where(concave, curve, -1.0)), 0.0)
        place = torch.where(concave, middle.to(logits.dtype) + step, best.to(logits.dtype))
        far = (reach + 1) // 2  # noise must not throw it away
        return torch.minimum(torch.maximum(place, best - float(far)), best + float(far))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the KL divergence of both axes, averaged over them and over labelled joints, summed over stacks."""
        if outputs.shape[-1] != sum(self.bins):
            raise ValueError(
                f"`outputs` must be (..., {sum(self.bins)}), the bins of x and y that a `SimCCHead` gives; "
                f"got {shown(outputs)}"
            )
        given = torch.split(outputs, list(self.bins), -1)
        wanted = torch.split(targets.heatmaps, list(self.bins), -1)
        x, y = (kl_divergence(g, w, targets.weights) for g, w in zip(given, wanted, strict=True))
        return (x + y) / 2

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return logits ``(..., J, bins)`` for mirrored pictures as if for the pictures themselves."""
        x, y = torch.split(outputs[..., list(flip), :], list(self.bins), -1)
        return torch.cat((x.flip(-1), y), -1)

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return logits whose softmax is the targets' labels."""
        return targets.heatmaps.clamp_min(1e-30).log()


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer whose weights are not drawn yet."""
    return nn.Linear(inputs, outputs, device="meta").to_empty(device=torch.get_default_device())


class SimCCHead(nn.Module):
    """A network that gives heatmaps, with two linear layers behind it that read bins of x and y from each of them.

    Parameters
    ----------
    network : Module
        Gives heatmaps ``(N, S, J, h, w)``.
    codec : SimCCCodec
        Says how many bins there are.
    heatmap_size : tuple of int
        Height and width of the network's heatmaps.
    generator : torch.Generator, optional
        Source of the initial weights, on the CPU; by default a fresh one with seed 0.

    Notes
    -----
    ``head(images)`` returns logits ``(N, S, J, bins)``, the joints sharing the layers' weights.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import SimCCCodec, SimCCHead, StackedHourglass
    >>> network = StackedHourglass(3, stacks=1, depth=1, features=8)
    >>> head = SimCCHead(network, SimCCCodec(input_size=(32, 24)), heatmap_size=(8, 6))
    >>> head(torch.zeros(2, 3, 32, 24)).shape
    torch.Size([2, 1, 3, 112])
    """

    def __init__(
        self,
        network: nn.Module,
        codec: SimCCCodec,
        heatmap_size: Size,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_instance("codec", codec, SimCCCodec)
        check_instance("network", network, nn.Module)
        height, width = check_size("heatmap_size", heatmap_size)
        self.network = network
        self.heatmap_size = (height, width)
        self.x, self.y = (_linear(height * width, bins) for bins in codec.bins)
        if self.x.weight.is_meta:
            return  # nothing to draw
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        bound = (height * width) ** -0.5
        with torch.no_grad():
            for parameter in (*self.x.parameters(), *self.y.parameters()):
                parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, S, J, bins)``."""
        flat = cast("Tensor", self.network(images)).flatten(-2)
        return torch.cat((self.x(flat), self.y(flat)), -1)
