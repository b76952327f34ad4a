"""Localization: whether maps light the object whose place is known."""

from __future__ import annotations

import torch
from torch import Tensor

from cvkit._checks import check_instance, check_integer

__all__ = ["energy_in_mask", "pointing_game"]


def _checked(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps in at least float32 and bool masks of one shape."""
    check_instance("maps", maps, Tensor, "a tensor of maps (N, *S)")
    check_instance("masks", masks, Tensor, "a tensor of masks (N, *S)")
    if maps.dim() < 2 or not maps.is_floating_point():
        raise ValueError(
            f"`maps` must be floating, of shape (N, *S); got shape {tuple(maps.shape)} and dtype {maps.dtype}"
        )
    if masks.shape != maps.shape:
        raise ValueError(f"`masks` must have the shape of `maps`, {tuple(maps.shape)}; got {tuple(masks.shape)}")
    return (maps.float() if maps.dtype.itemsize < 4 else maps), (masks != 0).to(maps.device)


def pointing_game(maps: Tensor, masks: Tensor, *, tolerance: int = 0) -> Tensor:
    r"""Whether the largest value of each map lies on its object.

    A map without a largest value (constant, or not finite anywhere) misses. Where several places share the largest
    value, all of them must lie on the object, so that a flat map gains nothing.

    Parameters
    ----------
    maps : Tensor of shape (N, \*S)
        Maps, of any range.
    masks : Tensor of shape (N, \*S)
        Objects: bool, or numbers of which those other than 0 count.
    tolerance : int, default 0
        How many positions, along each axis, the largest value may lie off the object.

    Returns
    -------
    Tensor of shape (N,)
        bool.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018, arXiv:1608.00507, section 4.1 (with a
    tolerance of 15 pixels, as a ball; here as a box).

    Examples
    --------
    >>> import torch
    >>> pointing_game(torch.tensor([[0.1, 0.9], [0.9, 0.1]]), torch.tensor([[False, True], [False, True]]))
    tensor([ True, False])
    """
    maps, masks = _checked(maps, masks)
    tolerance = check_integer("tolerance", tolerance, minimum=0)
    for axis in range(1, masks.dim()) if tolerance else ():
        grown = masks
        for step in range(1, min(tolerance, masks.shape[axis] - 1) + 1):
            length = masks.shape[axis] - step
            ahead = torch.zeros_like(masks)
            ahead.narrow(axis, step, length).copy_(masks.narrow(axis, 0, length))
            ahead.narrow(axis, 0, length).logical_or_(masks.narrow(axis, step, length))
            grown = grown | ahead
        masks = grown
    flat, inside = maps.flatten(1), masks.flatten(1)
    if flat.shape[1] == 0:
        return torch.zeros(flat.shape[0], dtype=torch.bool, device=flat.device)
    values = torch.where(torch.isfinite(flat), flat, torch.full_like(flat, -torch.inf))
    top = values.amax(1, keepdim=True)
    peaks = values == top
    return (inside | ~peaks).all(1) & (top[:, 0] > values.amin(1))


def energy_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Which share of each map's sum lies on its object (the energy-based pointing game).

    Negative and non-finite values count as 0; a map without a positive value has the share 0.

    Parameters
    ----------
    maps : Tensor of shape (N, \*S)
        Maps.
    masks : Tensor of shape (N, \*S)
        Objects: bool, or numbers of which those other than 0 count.

    Returns
    -------
    Tensor of shape (N,)
        Shares in [0, 1]. A constant map has the object's share of the area.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Wang et al., "Score-CAM", CVPRW 2020, arXiv:1910.01279, section 4.3.

    Examples
    --------
    >>> import torch
    >>> energy_in_mask(torch.tensor([[1.0, 3.0]]), torch.tensor([[False, True]]))
    tensor([0.7500])
    """
    maps, masks = _checked(maps, masks)
    energy = torch.where(torch.isfinite(maps), maps, torch.zeros_like(maps)).relu().flatten(1)
    if energy.shape[1]:  # shares do not depend on the scale, sums of very large or small values do
        top = energy.amax(1, keepdim=True)
        energy = energy / torch.where(top > 0, top, torch.ones_like(top))
    whole = energy.sum(1)
    share = (energy * masks.flatten(1)).sum(1) / torch.where(whole > 0, whole, torch.ones_like(whole))
    return torch.where(whole > 0, share, torch.zeros_like(share)).clamp(0.0, 1.0)
