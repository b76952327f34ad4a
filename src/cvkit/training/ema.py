"""Averaged parameters: an exponential moving average that copies buffers.

Parameters are averaged; buffers are copied from the live network. Averaging them breaks what they hold: running
statistics lag twice, counters are no numbers to average, and the power-iteration vectors of spectral norm lose their
unit length.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from cvkit._checks import check_instance, check_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Average", "half_life_decay", "lerp_"]


def lerp_(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], weight: float) -> None:
    """Move every target towards its source by `weight`, in place: ``target += weight * (source - target)``."""
    # One call for all tensors: on a GPU a handful of kernel launches instead of one a tensor.
    if targets:
        torch._foreach_lerp_(list(targets), list(sources), weight)


def half_life_decay(images: float, half_life: float) -> float:
    """Return the decay of one update that saw `images` when weights halve every `half_life` images.

    Parameters
    ----------
    images : float
        Images of one update: the global batch size.
    half_life : float
        Images after which an old parameter counts half; 0 keeps no memory.

    Returns
    -------
    float
        ``0.5 ** (images / half_life)``.

    Examples
    --------
    >>> half_life_decay(64, 64)
    0.5
    >>> half_life_decay(64, 0)
    0.0
    """
    images = check_interval("images", images, 0.0)
    half_life = check_interval("half_life", half_life, 0.0)
    return 0.0 if half_life == 0.0 else float(0.5 ** (images / half_life))


class Average:
    """A copy of a module whose parameters follow the live ones slowly.

    Parameters
    ----------
    module : torch.nn.Module
        The live module. It is copied once, with memory formats; the copy is in eval mode and needs no gradient.

    Attributes
    ----------
    module : torch.nn.Module
        The averaged copy.

    Examples
    --------
    >>> import torch
    >>> live = torch.nn.Linear(1, 1, bias=False)
    >>> average = Average(live)
    >>> before = average.module.weight.item()
    >>> with torch.no_grad():
    ...     _ = live.weight.add_(1.0)
    >>> average.update(live, decay=0.75)
    >>> round(average.module.weight.item() - before, 4)
    0.25
    """

    def __init__(self, module: torch.nn.Module) -> None:
        check_instance("module", module, torch.nn.Module)
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: torch.nn.Module, *, decay: float) -> None:
        """Average the parameters of `module` in and copy its buffers.

        Parameters
        ----------
        module : torch.nn.Module
            The live module, built like the one that was copied.
        decay : float
            In [0, 1]: the share of the old average that stays. 0 copies, 1 freezes.
        """
        decay = check_interval("decay", decay, 0.0, 1.0)
        targets, sources = list(self.module.parameters()), list(module.parameters())
        floating = [i for i, target in enumerate(targets) if target.is_floating_point() or target.is_complex()]
        lerp_([targets[i] for i in floating], [sources[i].detach() for i in floating], 1.0 - decay)
        for i in set(range(len(targets))) - set(floating):
            targets[i].copy_(sources[i])
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(module.buffers()))
