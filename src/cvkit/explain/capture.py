"""Activations and gradients of chosen layers, for people who run the forward themselves.

`capture` keeps what a layer put out, *before* anything after it can change it in place: the layer's output is kept and
a clone is handed on. Gradients are taken with `torch.autograd.grad`, so that no parameter's ``.grad`` is touched, and
there are no backward hooks, which fail on in-place operations.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cvkit._checks import check_instance
from cvkit.explain._layers import LayerLike, resolve_layers, watched
from cvkit.explain._state import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Capture", "capture", "kept_and_passed_on"]


def _shares_storage(tensor: Tensor, inputs: tuple[Any, ...]) -> bool:
    """Whether a module's output lies in the memory of one of its inputs (views, in-place operations, `Identity`)."""
    storage = tensor.untyped_storage().data_ptr()
    return any(isinstance(item, Tensor) and item.untyped_storage().data_ptr() == storage for item in inputs)


def kept_and_passed_on(output: Tensor, inputs: tuple[Any, ...], *, cut: bool) -> tuple[Tensor, Tensor]:
    """Return the tensor to keep and the one to hand on to the rest of the model.

    With `cut` a graph starts here: what is kept becomes a leaf that requires a gradient. The two never share memory,
    and what is kept never lies in memory that an earlier layer's output owns.
    """
    kept = output.clone() if _shares_storage(output, inputs) else output
    if cut:
        kept = kept.detach()
        if kept.is_inference():
            kept = kept.clone()
        kept.requires_grad_()
    return kept, kept.clone()


@dataclass
class Capture:
    """What the layers put out while a `capture` block was open; also usable after it.

    Attributes
    ----------
    names : tuple of str
        The layers, in the order in which they were asked for.
    calls : dict of str to list of Tensor
        For each layer the outputs of its calls, oldest first.
    """

    names: tuple[str, ...]
    calls: dict[str, list[Tensor]] = field(default_factory=dict)

    def activation(self, name: str | None = None, occurrence: int | None = None) -> Tensor:
        """Return the output of one layer.

        Parameters
        ----------
        name : str, optional
            The layer; may be left out where only one was asked for.
        occurrence : int, optional
            Which call, from 0, or from the end if negative; needed where the layer was called more than once.

        Returns
        -------
        Tensor
            The output as the layer gave it.

        Raises
        ------
        ValueError
            If the layer was not asked for, not called, or called more than once and `occurrence` does not say which.
        """
        if name is None:
            if len(self.names) != 1:
                raise ValueError(f"`name` must be one of {', '.join(map(repr, self.names))}")
            name = self.names[0]
        if name not in self.names:
            raise ValueError(f"`name` must be one of {', '.join(map(repr, self.names))}; got {name!r}")
        calls = self.calls.get(name, [])
        return calls[pick_call(name, [tuple(call.shape) for call in calls], occurrence)]

    def gradient(
        self, scores: Tensor, name: str | None = None, occurrence: int | None = None, *, create_graph: bool = False
    ) -> Tensor:
        """Return the gradient of the summed scores with respect to one layer's output.

        The graph is kept, so that several scores can be asked for; it goes with the tensors.

        Parameters
        ----------
        scores : Tensor
            Scores of any shape, computed from this forward; their sum is differentiated.
        name, occurrence
            As for `activation`.
        create_graph : bool, default False
            Whether the gradient itself can be differentiated.

        Returns
        -------
        Tensor
            The gradient, of the activation's shape; zeros if the scores do not depend on the layer.

        Raises
        ------
        ValueError
            If the scores have no graph, or as for `activation`.
        """
        activation = self.activation(name, occurrence)
        if not all(tensor.requires_grad for tensor in [scores, activation]):
            raise ValueError("`scores` must come from a forward that ran with grad mode on, inside the capture block")
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            scores, activation, torch.ones_like(scores), retain_graph=True, create_graph=create_graph, allow_unused=True
        )
        return torch.zeros_like(activation) if found[0] is None else found[0]


def pick_call(name: str, shapes: Sequence[tuple[int, ...]], occurrence: int | None) -> int:
    """Return the index of the call that is meant, or raise an error that lists the calls."""
    listed = "; ".join(f"{i}: {shape}" for i, shape in enumerate(shapes))
    if not shapes:
        raise ValueError(f"layer {name!r} was not called (with a floating tensor as output) in this forward")
    if occurrence is None:
        if len(shapes) > 1:
            raise ValueError(
                f"layer {name!r} was called {len(shapes)} times ({listed}); say which call with `occurrence=`"
            )
        return 0
    if not -len(shapes) <= occurrence < len(shapes):
        raise ValueError(f"`occurrence` of layer {name!r} must be one of its calls ({listed}); got {occurrence}")
    return occurrence % len(shapes)


@contextmanager
def capture(model: nn.Module, layers: LayerLike | Sequence[LayerLike]) -> Iterator[Capture]:
    """Record the outputs of layers while the block is open.

    The forward is the caller's: mode, grad mode, autocast and device are left alone, and nothing is left on the model
    when the block ends, also by an exception. If a layer's output has no graph although grad mode is on (frozen
    parameters), a graph starts there.

    Parameters
    ----------
    model : Module
        The model. Compiled models must be run eagerly by the caller (``torch.compiler.set_stance("force_eager")``):
        hooks that are added after compilation do not fire.
    layers : str, Module or sequence of them
        Dotted names, patterns with ``*``, or modules.

    Yields
    ------
    Capture
        The record, filled by the calls of the model inside the block, in this thread.

    Raises
    ------
    ValueError
        If a layer is not a part of the model.

    Examples
    --------
    >>> import torch
    >>> from cvkit.explain import capture, cam
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> with capture(model, "0") as seen:
    ...     logits = model(torch.zeros(2, 3, 7, 9))
    >>> seen.activation().shape
    torch.Size([2, 4, 5, 7])
    >>> cam.gradcam(seen.activation(), seen.gradient(logits[:, 1])).shape
    torch.Size([2, 5, 7])
    """
    inner = unwrap(check_instance("model", model, nn.Module))
    modules = resolve_layers(inner, layers)
    record = Capture(tuple(modules), {name: [] for name in modules})
    calls = record.calls

    def keep(name: str, _occurrence: int, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        cut = torch.is_grad_enabled() and not output.requires_grad and not torch.is_inference_mode_enabled()
        kept, passed_on = kept_and_passed_on(output, inputs, cut=cut)
        calls[name].append(kept)
        return passed_on

    with watched(modules, keep):
        yield record
