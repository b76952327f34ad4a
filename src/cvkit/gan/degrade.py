"""Faults of drawings: what training shows a judge, and what its robustness is stated on.

Images are floats in [0, 1] with 0 the paper.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FAULTS", "degrade"]


def degrade(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return images of which about `share` got some faults, each of random strength.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W)
        Floats in [0, 1], 0 is paper.
    share : float
        Share of images to degrade, in [0, 1].
    generator : torch.Generator
        Draws everything.

    Returns
    -------
    Tensor of shape (N, C, H, W)
        Floats in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from cvkit.gan.degrade import degrade
    >>> images = torch.zeros(4, 1, 28, 28)
    >>> degrade(images, 0.0, torch.Generator()).equal(images)
    True
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    def some(chance: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) < chance

    if share == 0 or not count:
        return images
    out = _moved(images, generator)
    out = torch.where(some(0.2), F.max_pool2d(out, 3, 1, 1) * uniform(0.6, 1.0), out)
    out = out + uniform(0, 1) * some(0.4) * (_blurred(out) - out)
    out = out * (torch.rand(out.shape, generator=generator) >= uniform(0, 0.25) * some(0.3))
    paper = uniform(0, 0.3) * some(0.3)
    out = paper + (uniform(0.45, 1.0) - paper).clamp_min(0) * out
    noise = torch.randn(out.shape, generator=generator) * uniform(0, 0.2) * some(0.6)
    out = out + torch.where(some(0.6), noise.abs(), noise)
    return torch.where(some(share), out.clamp(0, 1), images)


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images shifted by up to three pixels, turned and scaled a little; paper comes in from outside."""
    count, _, height, width = images.shape
    random = torch.rand(5, count, generator=generator) * 2 - 1
    angle, wide, high = 0.2 * random[0], 1 + 0.15 * random[1], 1 + 0.15 * random[2]
    across, down = random[3] * 6 / width, random[4] * 6 / height
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([cos * wide, -sin * high, across, sin * wide, cos * high, down], dim=1).reshape(count, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blurred(images: Tensor) -> Tensor:
    """Return images blurred by the binomial kernel (1, 4, 6, 4, 1) / 16 along both axes."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    channels = images.shape[1]
    rows = F.conv2d(images, kernel.reshape(1, 1, 5, 1).expand(channels, 1, 5, 1), padding=(2, 0), groups=channels)
    return F.conv2d(rows, kernel.reshape(1, 1, 1, 5).expand(channels, 1, 1, 5), padding=(0, 2), groups=channels)


def _noise(levels: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    def add(images: Tensor, generator: torch.Generator) -> Tensor:
        return (images + torch.randn(images.shape, generator=generator).abs() * levels / 255).clamp(0, 1)

    return add


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    padded = F.pad(images, (2, 2, 2, 2))
    height, width = images.shape[2:]
    steps = torch.randint(0, 5, (len(images), 2), generator=generator).tolist()
    moved = [padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(steps)]
    return torch.stack(moved) if moved else images


def _gaps(images: Tensor, generator: torch.Generator) -> Tensor:
    return images * (torch.rand(images.shape, generator=generator) >= 0.15)


FAULTS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = MappingProxyType(
    {
        "noise 5": _noise(5),
        "noise 10": _noise(10),
        "noise 20": _noise(20),
        "noise 40": _noise(40),
        "blur": lambda images, _: _blurred(images),
        "shift 2": _shift,
        "gaps": _gaps,
        "low contrast": lambda images, _: images * 0.5,
        "grey paper": lambda images, _: 0.2 + 0.8 * images,
        "thick lines": lambda images, _: F.max_pool2d(images, 3, 1, 1),
    }
)
"""Faults of fixed strength: name to a function of images in [0, 1], (N, C, H, W), and a generator.

``noise s``: half-normal grey noise of s levels. ``blur``: binomial, 5 x 5. ``shift 2``: up to two pixels along both
axes. ``gaps``: 15 % of the pixels lost. ``thick lines``: largest of 3 x 3.
"""
