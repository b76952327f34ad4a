"""What a method is: a frozen object that holds only its constants, and turns a call into raw maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import torch
from torch import Tensor

from cvkit.explain._call import Attribution, Call

if TYPE_CHECKING:
    from cvkit.explain._maps import Normalization

__all__ = ["ActivationMethod", "FunctionMethod", "MapFunction", "Method", "noise_generators"]

MapFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A user's own method: activations and gradients ``(N, C, *S)`` to raw maps ``(N, *S)``."""


class Method(ABC):
    """A way to explain. Objects are frozen and hold constants only."""

    normalize: ClassVar[Normalization] = "max"
    """How raw maps become maps in [0, 1], unless the caller says otherwise."""
    layered: ClassVar[bool] = True
    """Whether it works at layers of the model (otherwise at its input)."""
    layer_count: ClassVar[int] = 1
    """How many layers it takes where none is named."""
    gradient: ClassVar[bool] = True
    """Whether it takes gradients at layers."""
    random: ClassVar[bool] = False
    """Whether it draws random numbers."""
    differentiable: ClassVar[bool] = True
    """Whether its maps can carry a graph."""

    @abstractmethod
    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of a call."""


class ActivationMethod(Method):
    """A method that is a function of one layer's activations and gradients."""

    @abstractmethod
    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        activations = call.activations
        gradients = call.gradients if self.gradient else activations  # what is not asked for is not computed
        return Attribution(tuple(self.map(A, g) for A, g in zip(activations, gradients, strict=True)))


@dataclass(frozen=True)
class FunctionMethod(ActivationMethod):
    """A user's own function of activations and gradients."""

    function: MapFunction

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the function's value, checked."""
        raw = self.function(A, g)
        if not isinstance(raw, Tensor):
            raise TypeError(f"`method` must return a tensor (N, *S); got {type(raw).__name__}")
        if raw.shape != (A.shape[0], *A.shape[2:]):
            raise ValueError(f"`method` must return maps of shape {(A.shape[0], *A.shape[2:])}; got {tuple(raw.shape)}")
        return raw


def noise_generators(call: Call) -> list[torch.Generator]:
    """Return one generator a sample, so that a sample's noise depends on its own seed and not on the batch it is in."""
    return [torch.Generator().manual_seed(seed) for seed in call.seeds]


def draw_normal(generators: list[torch.Generator], like: Tensor) -> Tensor:
    """Return standard normal noise of the shape of `like`, each sample from its own generator."""
    if not generators:
        return torch.zeros_like(like)
    rows = [torch.randn(like.shape[1:], generator=g, dtype=torch.float32) for g in generators]
    return torch.stack(rows).to(like)
