"""Starting weights drawn from a given generator, so that building a network for a run leaves the global one alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from cvkit.gan.conditioning import ClassProjection, ConditionalBatchNorm2d

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["build", "initialise_"]

M = TypeVar("M", bound=nn.Module)


def build(make: Callable[[], M], *, generator: torch.Generator) -> M:
    """Make a network on the CPU whose every random number comes from `generator`."""
    # Constructors of torch draw weights from the global generator; on the meta device nothing is drawn.
    with torch.device("meta"):
        network = make()
    network = network.to_empty(device="cpu")
    initialise_(network, generator=generator)
    return network


@torch.no_grad()
def initialise_(network: nn.Module, *, generator: torch.Generator | None = None) -> None:
    r"""Draw all weights anew, in place: normal with variance 1 / (3 fan-in), biases 0.

    The fan-in of a transposed convolution counts the inputs that meet in one output: the kernel's area divided by the
    strides. Embeddings are standard normal, that of `ClassProjection` has standard deviation :math:`1/\sqrt d`;
    batch norm starts with gain 1 and shift 0. Vectors of spectral norm are drawn and then turned by 15 power steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            _normal(module, module.in_channels * math.prod(module.kernel_size), generator)
        elif isinstance(module, nn.ConvTranspose2d):
            meeting = math.prod(module.kernel_size) / math.prod(module.stride)
            _normal(module, module.in_channels * meeting, generator)
        elif isinstance(module, nn.Linear):
            _normal(module, module.in_features, generator)
        elif isinstance(module, nn.Embedding):
            _weight(module).normal_(generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
        elif isinstance(module, ConditionalBatchNorm2d):
            module.gain.zero_()
            module.shift.zero_()
    for module in network.modules():
        if isinstance(module, ClassProjection):
            _weight(module.embedding).div_(math.sqrt(module.embedding.embedding_dim))
    for module in network.modules():
        if is_parametrized(module, "weight"):
            _start_power_iteration(module, generator)


def _weight(module: nn.Module) -> torch.Tensor:
    """Return the tensor that is trained: under spectral norm, the one before division."""
    inner: Any = module
    weight: torch.Tensor = inner.parametrizations.weight.original if is_parametrized(module, "weight") else inner.weight
    return weight


def _normal(
    module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, fan_in: float, generator: torch.Generator | None
) -> None:
    _weight(module).normal_(std=1.0 / math.sqrt(3.0 * fan_in), generator=generator)
    if module.bias is not None:
        module.bias.zero_()


def _start_power_iteration(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the vectors of spectral norm and let them find the largest singular value, as their constructor does."""
    outer: Any = module
    norm = outer.parametrizations.weight[0]
    matrix = _weight(module).movedim(norm.dim, 0).flatten(1)
    u = F.normalize(torch.empty_like(norm._u).normal_(generator=generator), dim=0)
    v = norm._v
    for _ in range(15):
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    norm._u.copy_(u)
    norm._v.copy_(v)
