"""What a method is: a frozen object that holds only its constants, and turns a call into raw maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from cvkit.explain._setup import Attribution

if TYPE_CHECKING:
    from cvkit.explain._call import Call
    from cvkit.explain._maps import Fusion, Normalization

__all__ = [
    "ActivationMethod",
    "FunctionMethod",
    "InputMethod",
    "MapFunction",
    "Method",
    "Traits",
    "draw_normal",
    "noise_generators",
]

MapFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A user's own method: activations and gradients ``(N, C, *S)`` to raw maps ``(N, *S)``."""


@dataclass(frozen=True)
class Traits:
    """What a method needs, and how its maps are shown.

    Attributes
    ----------
    normalize : str
        How raw maps become maps in [0, 1], unless the caller says otherwise.
    fuse : str
        How the maps of several layers become one, unless the caller says otherwise.
    layered : bool
        Whether it works at layers of the model (otherwise at its input).
    layer_count : int
        How many layers it takes where none is named.
    gradient : bool
        Whether it takes gradients: at layers, or of the first forward at the input.
    random : bool
        Whether it draws random numbers.
    differentiable : bool
        Whether its maps can carry a graph.
    """

    normalize: Normalization = "max"
    fuse: Fusion = "mean"
    layered: bool = True
    layer_count: int = 1
    gradient: bool = True
    random: bool = False
    differentiable: bool = True


class Method(ABC):
    """A way to explain. Objects are frozen and hold constants only.

    Examples
    --------
    >>> from cvkit.explain import METHODS, Method
    >>> isinstance(METHODS["gradcam"], Method)
    True
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits()

    def rows(self, start: int, stop: int, image: Tensor) -> Method:  # noqa: ARG002
        """Return the method for some of the samples of a batch; the same one unless it holds data per sample."""
        return self

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
        gradients = call.gradients if self.traits.gradient else activations  # what is not asked for is not computed
        return Attribution(tuple(self.map(A, g) for A, g in zip(activations, gradients, strict=True)))


class InputMethod(Method):
    """A method that gives every input value a signed attribution."""

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(normalize="abs", layered=False)

    @abstractmethod
    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return attributions ``(N, C, *S)``, and the completeness gap ``(N,)`` where there is one."""

    def reduce(self, attributions: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of attributions: by default their largest magnitude over the channels."""
        return attributions.abs().amax(1)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw map of a call."""
        attributions, delta = self.input_attributions(call)
        return Attribution((self.reduce(attributions),), attributions, delta)


@dataclass(frozen=True)
class FunctionMethod(ActivationMethod):
    """A user's own function of activations and gradients."""

    function: MapFunction

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the function's value, checked."""
        raw: object = self.function(A, g)
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


def value_range(image: Tensor) -> Tensor:
    """Return the range of each sample's values, ``(N, 1, ...)``: what noise is measured by."""
    flat = image.detach().flatten(1)
    span = flat.amax(1) - flat.amin(1) if flat.shape[0] else flat.sum(1)
    return span.view(-1, *[1] * (image.dim() - 1))
