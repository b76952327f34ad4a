"""What a call is made of: the model, the batch and the options; a layer's call; what a method found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from cvkit.explain._graphs import same_memory
from cvkit.explain.tokens import Tokens, infer_channels_last, infer_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cvkit.explain.targets import Select

__all__ = ["Attribution", "Forward", "LayerCall", "Seen", "Setup", "as_grid", "fitness", "grad_mode"]

T = TypeVar("T")

Forward: TypeAlias = Callable[[nn.Module, Any], Any]
"""Runs a model on inputs."""


@contextmanager
def grad_mode(enabled: bool) -> Iterator[None]:
    """Set the grad mode, and restore it whatever hooks inside did to it."""
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(enabled)
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer: its name, which call, and how its output is a grid (None: as it is)."""

    name: str
    occurrence: int
    tokens: Tokens | None = None


@dataclass(frozen=True)
class Setup:
    """What stays fixed during one explanation."""

    model: nn.Module
    forward: Forward
    layers: Mapping[str, nn.Module] | None  # None: found from the forward
    autocast: Callable[[], AbstractContextManager[object]]
    spatial: tuple[int, ...]  # of the inputs
    layer_count: int = 1  # how many to find
    select: Select | None = None
    tokens: Tokens | None = None
    occurrence: int | None = None
    chunk: int | None = None
    differentiable: bool = False
    progress: bool = False
    gradient: bool = True  # whether the method takes gradients at layers
    many: Forward | None = None  # the same forward with weights in channels-last form, for many passes

    @property
    def mixes_rows(self) -> bool:
        """Whether a sample's output depends on what else is in its batch: a batch norm that uses its statistics."""
        norms = (module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        return any(norm.training or norm.running_mean is None for norm in norms)

    def show(self, steps: Iterable[T], total: int) -> Iterable[T]:
        """Return the steps, with a progress bar if one was asked for."""
        if not self.progress:
            return steps
        from tqdm import tqdm

        return tqdm(steps, total=total, disable=None)


@dataclass(frozen=True)
class Attribution:
    """What a method found: a raw map ``(N, *S)`` per layer; attributions and a completeness gap where it has them."""

    raw: tuple[Tensor, ...]
    attributions: Tensor | None = None
    delta: Tensor | None = None


def as_grid(output: Tensor, spatial: Sequence[int], tokens: Tokens | None) -> Tokens | None:
    """Return how a layer's output is a grid: None for ``(N, C, *S)``; raise if it is none."""
    if tokens is not None:
        tokens.to_grid(output)  # raises where it does not fit
        return tokens
    if output.dim() == len(spatial) + 2:
        return Tokens(channels_last=True) if infer_channels_last(output.shape, spatial) else None
    if output.dim() == 3 and len(spatial) > 1:
        inferred = infer_tokens(output.shape[1], spatial)
        if inferred is not None:
            return inferred
    raise ValueError(
        f"an activation of shape {tuple(output.shape)} is no map of an input with {len(spatial)} spatial axes; for "
        "token sequences say `tokens=Tokens(grid=(rows, columns), prefix=...)`, for channels-last outputs "
        "`tokens=Tokens(channels_last=True)`"
    )


def fitness(
    setup: Setup, module: nn.Module, output: Tensor, rows: int, logits: Tensor | None
) -> tuple[bool, Tokens | None]:
    """Return whether a layer's output is a grid, and how; the selected output itself does not count."""
    if output.dim() < 3 or output.shape[0] != rows or not output.requires_grad:
        return False, None
    if isinstance(module, nn.RNNBase):  # a sequence of states is no grid of patches
        return False, None
    if logits is not None and same_memory(output, logits):
        return False, None
    try:
        return True, as_grid(output, setup.spatial, setup.tokens)
    except ValueError:
        return False, None


@dataclass
class Seen:
    """One module call of a discovery pass."""

    name: str
    occurrence: int
    output: Tensor
    version: int
