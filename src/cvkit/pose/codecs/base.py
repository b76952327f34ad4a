"""What all codecs share: the protocol, the records, and how places on the picture map to places on a heatmap.

A codec turns key points in input pixels into the target of a loss (`encode`) and the network's output back into key
points in input pixels (`decode`). Pixel centres lie at integers in both grids and the map covers [-0.5, W - 0.5) input
pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cvkit._checks import check_instance, check_size, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size

__all__ = ["Codec", "Grid", "Keypoints", "Targets", "check_keypoints", "check_maps", "labelled", "to_input", "to_map"]

Grid = Literal["centers", "corners"]
"""How the two grids lie on each other: the outer borders of the pixels meet, or the centres of the corner pixels do."""


class Targets(NamedTuple):
    """What a codec asks of the network for some key points.

    Attributes
    ----------
    heatmaps : Tensor of shape (N, C, h, w)
        Maps (for `SimCCCodec` vectors, ``(N, J, bins)``), zero for joints without a label.
    weights : Tensor of shape (N, J)
        1 for labelled joints, 0 for the others.
    keypoints : Tensor of shape (N, J, 2)
        The places ``(x, y)`` themselves in input pixels, zero where the weight is.
    """

    heatmaps: Tensor
    weights: Tensor
    keypoints: Tensor


class Keypoints(NamedTuple):
    """Decoded key points.

    Attributes
    ----------
    keypoints : Tensor of shape (N, J, 2)
        Places ``(x, y)`` in input pixels; NaN where a map has no peak (constant, or not finite).
    scores : Tensor of shape (N, J)
        How sure: the height of the peak for heatmaps, see each codec; 0 where there is no peak.
    """

    keypoints: Tensor
    scores: Tensor


@runtime_checkable
class Codec(Protocol):
    """The way between key points and network outputs; all codecs of this package follow it, and so may yours."""

    @property
    def input_size(self) -> Size:
        """Height and width of the network's input."""
        ...

    def channels(self, joints: int) -> int:
        """Return the number of channels that a network needs for `joints` joints."""
        ...

    def encode(self, keypoints: ArrayLike, visibility: ArrayLike | None = None) -> Targets:
        """Return the targets of key points ``(N, J, 2)`` in input pixels."""
        ...

    def decode(self, outputs: Tensor) -> Keypoints:
        """Return the key points in outputs of one stack."""
        ...

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the loss that suits the codec, a scalar; outputs may have an axis of stacks, ``(N, S, ...)``.

        It is a mean over the labelled joints, weighted by ``targets.weights``: on that rest runs on several processes.
        """
        ...

    def mirror(self, outputs: Tensor, flip: Sequence[int]) -> Tensor:
        """Return outputs for mirrored pictures as if for the pictures themselves; joints trade places by `flip`."""
        ...

    def ideal_output(self, targets: Targets) -> Tensor:
        """Return the output of a network that has learned these targets perfectly."""
        ...


def labelled(keypoints: Tensor, visibility: Tensor | None, input_size: Size) -> Tensor:
    """Return where joints count, boolean ``(N, J)``: visibility > 0, finite coordinates, inside the picture."""
    limits = keypoints.new_tensor([input_size[1], input_size[0]]) - 0.5
    inside = ((keypoints >= -0.5) & (keypoints < limits)).all(-1)  # NaN compares false
    return inside if visibility is None else inside & (visibility > 0)


def check_keypoints(keypoints: ArrayLike, visibility: ArrayLike | None) -> tuple[Tensor, Tensor | None]:
    """Return both as tensors, key points ``(N, J, 2)`` in float32 or float64 and visibility ``(N, J)``."""
    points = _tensor(keypoints)
    if points.ndim != 3 or points.shape[-1] != 2:
        raise ValueError(f"`keypoints` must be (N, J, 2); got {shown(keypoints)}")
    if points.is_complex() or points.dtype == torch.bool:
        raise TypeError(f"`keypoints` must hold numbers; got {shown(keypoints)}")
    if points.dtype != torch.float64:
        points = points.to(torch.float32)
    if visibility is None:
        return points, None
    seen = _tensor(visibility).to(points.device)
    if seen.shape != points.shape[:-1]:
        raise ValueError(f"`visibility` must be (N, J), here {tuple(points.shape[:-1])}; got {shown(visibility)}")
    return points, seen


def _tensor(values: ArrayLike) -> Tensor:
    """Return a tensor; arrays are copied, since a read-only one must not be shared."""
    return values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))


def check_maps(name: str, outputs: Tensor, shape: tuple[int, ...], *, of: int = 1) -> Tensor:
    """Return `outputs` if they are floating with the trailing `shape` and a channel axis that `of` divides."""
    check_instance(name, outputs, Tensor, "a floating-point tensor")
    if not outputs.is_floating_point():
        raise TypeError(f"`{name}` must be a floating-point tensor; got {shown(outputs)}")
    if outputs.ndim != len(shape) + 2 or tuple(outputs.shape[2:]) != shape:
        wanted = ", ".join(str(side) for side in shape)
        hint = "; take one stack, outputs[:, -1]" if outputs.ndim == len(shape) + 3 else ""
        raise ValueError(f"`{name}` must be (N, J, {wanted}); got {shown(outputs)}{hint}")
    if outputs.shape[1] % of:
        raise ValueError(f"`{name}` must have {of} channels a joint; got {outputs.shape[1]} channels")
    return outputs


def check_sizes(input_size: object, heatmap_size: object) -> tuple[Size, Size]:
    """Return both sizes as (height, width)."""
    return check_size("input_size", input_size), check_size("heatmap_size", heatmap_size)


def to_map(points: Tensor, input_size: Size, map_size: Size, grid: Grid = "centers") -> Tensor:
    """Map places ``(..., 2)`` from input pixels to map pixels."""
    scale, shift = _scale_and_shift(points, input_size, map_size, grid)
    return (points - shift) / scale  # centers: (x + 0.5) / s - 0.5


def to_input(points: Tensor, input_size: Size, map_size: Size, grid: Grid = "centers") -> Tensor:
    """Map places ``(..., 2)`` from map pixels to input pixels: the exact inverse of `to_map`."""
    scale, shift = _scale_and_shift(points, input_size, map_size, grid)
    return points * scale + shift


def _scale_and_shift(points: Tensor, input_size: Size, map_size: Size, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return `s` and `t` of ``x_input = s * x_map + t`` for x and y."""
    pairs = ((input_size[1], map_size[1]), (input_size[0], map_size[0]))
    if grid == "corners":  # a side of one pixel has no corners apart: it keeps the scale of its centre
        scales = [(a - 1) / (b - 1) if a > 1 and b > 1 else float(a) / b for a, b in pairs]
        shifts = [0.0 if a > 1 and b > 1 else (a / b - 1) / 2 for a, b in pairs]
    else:
        scales = [a / b for a, b in pairs]
        shifts = [(s - 1) / 2 for s in scales]
    return points.new_tensor(scales), points.new_tensor(shifts)
