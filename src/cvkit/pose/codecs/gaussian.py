"""Gaussian heatmaps whose centre is not rounded, and UDP's corner-aligned maps with offsets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvkit._checks import check_choice, check_interval, check_size
from cvkit.pose.codecs.base import (
    Grid,
    Keypoints,
    Targets,
    check_keypoints,
    check_maps,
    labelled,
    to_input,
    to_map,
)
from cvkit.pose.codecs.peaks import DECODERS, Decoder, blur, peaks_of
from cvkit.pose.losses import labelled_mean, masked_mse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["GaussianCodec", "UDPCodec"]


@dataclass(frozen=True)
class GaussianCodec:
    """Heatmaps that hold a Gaussian of height 1 around each joint, centred exactly where the joint is.

    ``decode(encode(p))`` gives `p` back within 1e-4 input pixels in float32 over the whole map, border included, with
    the decoders ``"taylor"`` and ``"fit"``. Under noise ``"fit"`` is the best of the five.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    heatmap_size : tuple of int
        Height and width of its heatmaps.
    sigma : float, default 2.0
        Standard deviation in heatmap pixels, at least 0.5.
    decoder : {'taylor', 'fit', 'dark', 'quarter', 'argmax'}, default 'taylor'
        See `find_peaks`.

    Raises
    ------
    ValueError
        If a size, `sigma` or `decoder` is out of range.

    Notes
    -----
    Grids lie border on border, ``x_map = (x + 0.5) / s - 0.5`` with one scale s an axis. Joints are labelled where
    visibility > 0 and the place is finite and inside [-0.5, W - 0.5) x [-0.5, H - 0.5). Scores are the heights of the
    peaks.

    References
    ----------
    .. [1] F. Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020, section
       3.2.

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import GaussianCodec
    >>> codec = GaussianCodec(input_size=(256, 192), heatmap_size=(64, 48))
    >>> targets = codec.encode(torch.tensor([[[10.3, 250.0], [300.0, 7.0]]]))
    >>> targets.heatmaps.shape, targets.weights
    (torch.Size([1, 2, 64, 48]), tensor([[1., 0.]]))
    >>> codec.decode(targets.heatmaps).keypoints[0, 0]
    tensor([ 10.3000, 250.0000])
    """

    input_size: Size
    heatmap_size: Size
    sigma: float = 2.0
    decoder: Decoder = "taylor"

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "heatmap_size", check_size("heatmap_size", self.heatmap_size))
        check_interval("sigma", self.sigma, 0.5)
        check_choice("decoder", self.decoder, DECODERS)

    def channels(self, joints: int) -> int:
        """Return the number of channels for `joints` joints: one each."""
        return joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return heatmaps ``(N, J, h, w)``, weights and places for key points ``(N, J, 2)`` in input pixels."""
        points, seen = check_keypoints(keypoints, visibility)
        return gaussian_targets(points, seen, self.input_size, self.heatmap_size, self.sigma, "centers")

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return key points in input pixels, with the height of each peak, for heatmaps ``(N, J, h, w)``."""
        check_maps("outputs", outputs, self.heatmap_size)
        peaks = peaks_of(outputs, self.decoder, self.sigma)
        return Keypoints(to_input(peaks.places, self.input_size, self.heatmap_size), peaks.heights)

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the squared error of labelled joints, summed over stacks (`masked_mse`)."""
        return masked_mse(outputs, targets.heatmaps, targets.weights)

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return heatmaps ``(..., J, h, w)`` for mirrored pictures as if for the pictures themselves."""
        return outputs.flip(-1)[..., list(flip), :, :]

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return the heatmaps themselves."""
        return targets.heatmaps


def gaussian_targets(
    points: Tensor, seen: Tensor | None, input_size: Size, map_size: Size, sigma: float, grid: Grid
) -> Targets:
    """Return Gaussian targets as outer products of one row and one column a joint."""
    weights = labelled(points, seen, input_size)
    places = torch.where(weights[..., None], points, 0.0)
    x, y = to_map(places, input_size, map_size, grid).unbind(-1)
    across = _bell(x, map_size[1], sigma) * weights[..., None]
    heatmaps = _bell(y, map_size[0], sigma)[..., :, None] * across[..., None, :]
    return Targets(heatmaps, weights.to(points.dtype), places)


def _bell(centre: Tensor, size: int, sigma: float) -> Tensor:
    """Return ``exp(-(x - c)^2 / (2 sigma^2))`` for x = 0..size-1, zero where below 1e-18.

    Products of two such tails would be denormal numbers, which processors handle many times slower; so would exp
    itself be below -87, which the clamp keeps it from.
    """
    steps = torch.arange(size, device=centre.device, dtype=centre.dtype)
    apart = steps - centre[..., None]
    exponent = (apart * apart * (-0.5 / (sigma * sigma))).clamp_min(-42.0)  # exp(-42) < 1e-18
    return F.threshold(torch.exp(exponent), 1e-18, 0.0)


def _by_joint(maps: Tensor, axis: int) -> Tensor:
    """Split an axis of 3 J channels into joints and their three channels."""
    return maps.reshape(*maps.shape[:axis], maps.shape[axis] // 3, 3, *maps.shape[axis + 1 :])


@dataclass(frozen=True)
class UDPCodec:
    """Unbiased data processing: corner-aligned grids, and maps of offsets beside a disc around each joint.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    heatmap_size : tuple of int
        Height and width of its heatmaps.
    radius : float, default 3.5
        Radius of the disc in heatmap pixels (published: 0.0546875 times the larger side of the map).

    Raises
    ------
    ValueError
        If a size or the radius is out of range.

    Notes
    -----
    Three channels a joint, in the order disc, x offset, y offset. The disc is 1 within `radius` of the joint, at its
    nearest pixel in any case, and must not cover the whole map, which would have no peak; there the offsets are
    ``(joint - pixel) / radius``. Decoding finds the highest place of the blurred disc and averages what the
    pixels around it say, each by its heat, so that it inverts encoding to the border. The grids lie corner centre on
    corner centre, ``x_map = x (w - 1) / (W - 1)``, in both directions. Scores are the heights of the blurred disc.

    References
    ----------
    .. [1] J. Huang et al., "The Devil Is in the Details: Delving Into Unbiased Data Processing for Human Pose
       Estimation", CVPR
       2020, Eq. (20)-(24).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import UDPCodec
    >>> codec = UDPCodec(input_size=(256, 192), heatmap_size=(64, 48))
    >>> targets = codec.encode(torch.tensor([[[10.3, 255.4]]]))
    >>> targets.heatmaps.shape
    torch.Size([1, 3, 64, 48])
    >>> codec.decode(targets.heatmaps).keypoints
    tensor([[[ 10.3000, 255.4000]]])
    """

    input_size: Size
    heatmap_size: Size
    radius: float = 3.5

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "heatmap_size", check_size("heatmap_size", self.heatmap_size))
        check_interval("radius", self.radius, 1.0)

    def channels(self, joints: int) -> int:
        """Return the number of channels for `joints` joints: three each."""
        return 3 * joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return maps ``(N, 3 J, h, w)``, weights and places for key points ``(N, J, 2)`` in input pixels."""
        points, seen = check_keypoints(keypoints, visibility)
        weights = labelled(points, seen, self.input_size)
        places = torch.where(weights[..., None], points, 0.0)
        x, y = to_map(places, self.input_size, self.heatmap_size, "corners").unbind(-1)
        height, width = self.heatmap_size
        dx = (x[..., None] - torch.arange(width, device=x.device))[..., None, :] / self.radius
        dy = (y[..., None] - torch.arange(height, device=x.device))[..., :, None] / self.radius
        # Maps finer than the picture may have a joint further than the radius from its nearest pixel.
        nearest = dx.square().amin(-1, keepdim=True) + dy.square().amin(-2, keepdim=True)
        disc = (dx * dx + dy * dy <= nearest.clamp_min(1.0)) & weights[..., None, None]
        maps = torch.stack((disc.to(points.dtype), torch.where(disc, dx, 0.0), torch.where(disc, dy, 0.0)), 2)
        return Targets(maps.flatten(1, 2), weights.to(points.dtype), places)

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return key points in input pixels, with the height of each disc, for maps ``(N, 3 J, h, w)``."""
        check_maps("outputs", outputs, self.heatmap_size, of=3)
        maps = outputs.to(torch.float64 if outputs.dtype == torch.float64 else torch.float32)
        maps = _by_joint(maps, 1)
        heat = maps[:, :, 0]
        height, width = self.heatmap_size
        # Blur by a third of the radius a side: the disc's plateau gets a middle, noise on it is averaged.
        peaks = peaks_of(blur(heat, max(0.5, self.radius / 3)), "argmax", 1.0)
        centre = torch.nan_to_num(peaks.places)
        x, y = torch.arange(width, device=heat.device), torch.arange(height, device=heat.device)
        near_x = (x - centre[..., :1]).abs() <= 2
        near_y = (y - centre[..., 1:]).abs() <= 2
        votes = heat.clamp_min(0) * (near_y[..., :, None] & near_x[..., None, :])
        total = votes.sum((-2, -1))
        found = total > 0
        said_x = (votes * (x + self.radius * maps[:, :, 1])).sum((-2, -1)) / torch.where(found, total, 1.0)
        said_y = (votes * (y[:, None] + self.radius * maps[:, :, 2])).sum((-2, -1)) / torch.where(found, total, 1.0)
        places = torch.where(found[..., None], torch.stack((said_x, said_y), -1), peaks.places)
        places = places + 0 * peaks.places  # NaN where there is no peak
        flat = heat.amax((-2, -1)) == heat.amin((-2, -1))  # a blurred constant is one up to rounding alone
        if height * width > 1:
            places = torch.where(flat[..., None], math.nan, places)
            peaks = peaks._replace(heights=torch.where(flat, 0.0, peaks.heights))
        return Keypoints(to_input(places, self.input_size, self.heatmap_size, "corners"), peaks.heights)

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the squared errors of discs and of offsets inside them, of labelled joints, summed over stacks."""
        outputs = outputs.float() if outputs.dtype != torch.float64 else outputs
        stacks = outputs if outputs.ndim == 5 else outputs[:, None]
        if stacks.ndim != 5 or stacks.shape[2:] != targets.heatmaps.shape[1:]:
            raise ValueError(
                f"`outputs` must have the targets' shape, {tuple(targets.heatmaps.shape)}, or that with an axis of "
                f"stacks after the first; got {tuple(outputs.shape)}"
            )
        wanted = _by_joint(targets.heatmaps, 1)
        given = _by_joint(stacks, 2)
        disc = wanted[:, :, 0]
        heat_loss = masked_mse(given[:, :, :, 0], disc, targets.weights)
        inside = disc[:, None, :, None]
        offsets = (given[:, :, :, 1:] - wanted[:, None, :, 1:]) * inside
        area = disc.sum((-2, -1)).clamp_min(1.0)
        per_joint = offsets.square().sum((1, 3, 4, 5)) / area
        return heat_loss + labelled_mean(per_joint, targets.weights, "labelled")

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return maps ``(..., 3 J, h, w)`` for mirrored pictures as if for the pictures: x offsets change sign."""
        signs = outputs.new_tensor([1.0, -1.0, 1.0])[:, None, None]
        maps = _by_joint(outputs.flip(-1), outputs.ndim - 3)[..., list(flip), :, :, :]
        return (maps * signs).flatten(-4, -3)

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return the maps themselves."""
        return targets.heatmaps
