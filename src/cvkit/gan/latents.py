"""Latent vectors: truncated draws, and walks that stay where latents lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from cvkit._checks import check_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["slerp", "truncated_normal"]


def truncated_normal(
    shape: Sequence[int], limit: float, *, generator: torch.Generator, device: torch.device | str | None = None
) -> torch.Tensor:
    r"""Draw from the standard normal distribution cut off at :math:`\pm` `limit`.

    One uniform draw a number and the inverse distribution function, in float64: no redrawing until all fit.

    Parameters
    ----------
    shape : sequence of int
        Shape of the result.
    limit : float
        Above 0.
    generator : torch.Generator
        Where the numbers come from.
    device : torch.device or str, optional
        Where the result goes; that of `generator` by default.

    Returns
    -------
    Tensor
        float32, every value in [-limit, limit].

    References
    ----------
    Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, arXiv:1809.11096,
    section 3.1.

    Examples
    --------
    >>> import torch
    >>> bool(truncated_normal((1000,), 0.5, generator=torch.Generator()).abs().max() <= 0.5)
    True
    """
    limit = check_interval("limit", limit, 0.0, low_open=True)
    uniform = torch.rand(tuple(shape), generator=generator, device=generator.device, dtype=torch.float64)
    share = math.erf(limit / math.sqrt(2.0))
    drawn = math.sqrt(2.0) * torch.erfinv((2.0 * uniform - 1.0) * share)
    return drawn.clamp(-limit, limit).to(device=device or generator.device, dtype=torch.float32)


def slerp(start: torch.Tensor, end: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Interpolate directions on the great circle and lengths linearly; nearly parallel vectors on the straight line."""
    lengths = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    one, two = start / lengths[0].clamp_min(1e-12), end / lengths[1].clamp_min(1e-12)
    angle = torch.acos((one * two).sum(-1, keepdim=True).clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    flat = sine < 1e-4
    weights = [torch.where(flat, s, torch.sin(s * angle) / sine.clamp_min(1e-4)) for s in (1.0 - share, share)]
    walk: torch.Tensor = (weights[0] * one + weights[1] * two) * torch.lerp(lengths[0], lengths[1], share)
    return walk
