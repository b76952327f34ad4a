"""From raw maps to what is shown: resize, normalise, fuse over layers, and tell where there is nothing to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FUSIONS",
    "NORMALIZATIONS",
    "Fusion",
    "Normalization",
    "fuse_maps",
    "normalize_maps",
    "per_sample",
    "resize_maps",
]

Normalization: TypeAlias = Literal["max", "minmax", "abs", "percentile", "none"]
Fusion: TypeAlias = Literal["mean", "max", "product", "tanh-max"]
NORMALIZATIONS: tuple[Normalization, ...] = ("max", "minmax", "abs", "percentile", "none")
FUSIONS: tuple[Fusion, ...] = ("mean", "max", "product", "tanh-max")

_NOTHING = 1e-6  # a positive part below this share of the largest magnitude is rounding
_SHALLOW_SCALE = 2.0  # LayerCAM, section III-D: gamma = 2
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Return ``(N,)`` values in a shape that broadcasts against ``(N, ...)``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps ``(N, *S)`` linearly, with the pixel grid of photographs (corners are not aligned)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    if maps.dim() - 1 not in _MODES:
        raise ValueError(f"maps of {maps.dim() - 1} dimensions cannot be resized; ask for the layer's size")
    if maps.shape[0] == 0:
        return maps.new_zeros((0, *size))
    # Shrinking (a layer finer than the input) averages over what falls into a pixel.
    antialias = maps.dim() == 3 and any(new < old for new, old in zip(size, maps.shape[1:], strict=True))
    mode = _MODES[maps.dim() - 1]
    return F.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=False, antialias=antialias)[:, 0]


def _extreme(maps: Tensor, kind: Literal["amax", "amin"]) -> Tensor:
    """Return the largest or smallest value of each map, ``(N,)``."""
    flat = maps.flatten(1)
    if flat.shape[1] == 0:
        return flat.new_zeros(flat.shape[0])
    return flat.amax(1) if kind == "amax" else flat.amin(1)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole per sample, 0 where the whole is 0."""
    safe = torch.where(whole > 0, whole, torch.ones_like(whole))
    return part / per_sample(safe, part)


def normalize_maps(raw: Tensor, size: Sequence[int], kind: Normalization) -> tuple[Tensor, Tensor]:
    """Return maps of the given size and, per sample, whether there was nothing to show.

    ``"max"``: ReLU, resize, divide by the maximum. ``"minmax"``: resize, then the range becomes [0, 1]. ``"abs"``:
    magnitude, resize, divide by the maximum. ``"percentile"``: as ``"abs"``, the maximum being the 99th percentile,
    clipped. ``"none"``: resize only.
    """
    finite = torch.isfinite(raw).flatten(1).all(1)
    raw = torch.where(per_sample(finite, raw), raw, torch.zeros_like(raw))
    magnitude = _extreme(raw.abs(), "amax")
    if kind == "none":
        return resize_maps(raw, size), ~finite
    if kind == "minmax":
        maps = resize_maps(raw, size)
        low, high = _extreme(maps, "amin"), _extreme(maps, "amax")
        nothing = ~finite | (high - low <= _NOTHING * magnitude)
        return _divided(maps - per_sample(low, maps), high - low, nothing), nothing
    positive = raw.relu() if kind == "max" else raw.abs()
    nothing = ~finite | (_extreme(positive, "amax") <= _NOTHING * magnitude)
    maps = resize_maps(positive, size)
    top = _extreme(maps, "amax")
    if kind == "percentile" and maps.numel():
        high = maps.detach().flatten(1).quantile(0.99, dim=1)
        return _divided(maps, torch.where(high > 0, high, top), nothing).clamp(max=1.0), nothing
    return _divided(maps, top, nothing), nothing


def _divided(maps: Tensor, by: Tensor, nothing: Tensor) -> Tensor:
    """Return maps divided per sample, 0 where there is nothing to show: one pass over maps of the input's size."""
    return maps / per_sample(torch.where(nothing | (by <= 0), torch.inf, by), maps)


def fuse_maps(maps: Sequence[Tensor], kind: Fusion, *, rescale: bool = True) -> Tensor:
    """Fuse the layers' normalised maps, and bring the largest value of each sample back to 1, unless told not to.

    ``"tanh-max"`` is LayerCAM's: ``tanh(2 M)`` for every layer but the last, which lifts the weak maps of shallow
    layers, then the maximum.
    """
    if len(maps) == 1:
        return maps[0]
    if kind == "tanh-max":
        maps = [*((_SHALLOW_SCALE * m).tanh() for m in maps[:-1]), maps[-1]]
    stack = torch.stack(list(maps))
    if kind == "mean":
        fused = stack.mean(0)
    elif kind == "product":
        fused = stack.prod(0)
    else:
        fused = stack.amax(0)
    return _share(fused, _extreme(fused, "amax")) if rescale else fused
