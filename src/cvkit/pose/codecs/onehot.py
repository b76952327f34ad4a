"""One pixel a joint, blurred: the target of cascaded pyramid networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cvkit._checks import check_choice, check_interval, check_size
from cvkit.pose.codecs.base import Keypoints, Targets, check_keypoints, check_maps, labelled, to_input, to_map
from cvkit.pose.codecs.peaks import blur_radius, peaks_of
from cvkit.pose.losses import masked_mse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["OneHotCodec"]


@dataclass(frozen=True)
class OneHotCodec:
    """A single pixel is set for each joint and the map is blurred and scaled to height 1.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    heatmap_size : tuple of int
        Height and width of its heatmaps.
    sigma : float, default 2.0
        Standard deviation of the blur in heatmap pixels, at least 0.5.
    splat : {'nearest', 'bilinear'}, default 'nearest'
        Set the nearest pixel, as published (the place is then known to half a pixel at best), or share the joint among
        the four pixels around it, which keeps its place.

    Raises
    ------
    ValueError
        If a size, `sigma` or `splat` is out of range.

    Notes
    -----
    Decoding fits a parabola to the logarithm of the heat around the highest pixel (the ``"fit"`` of `find_peaks`). The
    round trip of ``"nearest"`` is within half a heatmap pixel an axis, that of ``"bilinear"`` within 0.05 away from the
    border.

    References
    ----------
    .. [1] Y. Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018, and its published
       training data
       code (blurred one-hot targets).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import OneHotCodec
    >>> codec = OneHotCodec(input_size=(64, 48), heatmap_size=(16, 12))
    >>> targets = codec.encode(torch.tensor([[[21.0, 30.0]]]))
    >>> float(targets.heatmaps.max())
    1.0
    >>> codec.decode(targets.heatmaps).keypoints.round(decimals=3)  # the centre of the nearest pixel
    tensor([[[21.5000, 29.5000]]])
    """

    input_size: Size
    heatmap_size: Size
    sigma: float = 2.0
    splat: Literal["nearest", "bilinear"] = "nearest"

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "heatmap_size", check_size("heatmap_size", self.heatmap_size))
        check_interval("sigma", self.sigma, 0.5)
        check_choice("splat", self.splat, ("nearest", "bilinear"))

    def channels(self, joints: int) -> int:
        """Return the number of channels for `joints` joints: one each."""
        return joints

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return heatmaps ``(N, J, h, w)``, weights and places for key points ``(N, J, 2)`` in input pixels."""
        points, seen = check_keypoints(keypoints, visibility)
        weights = labelled(points, seen, self.input_size)
        places = torch.where(weights[..., None], points, 0.0)
        x, y = to_map(places, self.input_size, self.heatmap_size).unbind(-1)
        across, down = self._hot(x, self.heatmap_size[1]), self._hot(y, self.heatmap_size[0])
        # The blur is separable, and so is the mark: blur a row and a column, then multiply.
        across, down = across @ self._kernel(across) * weights[..., None], down @ self._kernel(down)
        heatmaps = down[..., :, None] * across[..., None, :]
        top = heatmaps.amax((-2, -1), keepdim=True)
        return Targets(heatmaps / torch.where(top > 0, top, 1.0), weights.to(points.dtype), places)

    def _hot(self, centre: Tensor, size: int) -> Tensor:
        """Return a row with the mark of `centre` in it."""
        steps = torch.arange(size, device=centre.device, dtype=centre.dtype)
        centre = centre.clamp(0, size - 1)[..., None]
        if self.splat == "bilinear":
            return (1 - (steps - centre).abs()).clamp_min(0)
        return (steps == torch.floor(centre + 0.5)).to(centre.dtype)

    def _kernel(self, row: Tensor) -> Tensor:
        """Return the blur of a row as a matrix: a Gaussian cut at 2.5 sigma; what leaves the map is lost."""
        steps = torch.arange(row.shape[-1], device=row.device, dtype=row.dtype)
        distance = steps - steps[:, None]
        kernel = torch.exp(-(distance**2) / (2 * self.sigma**2))
        return torch.where(distance.abs() <= blur_radius(self.sigma), kernel, 0.0)

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return key points in input pixels, with the height of each peak, for heatmaps ``(N, J, h, w)``."""
        check_maps("outputs", outputs, self.heatmap_size)
        peaks = peaks_of(outputs, "fit", self.sigma)
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
