"""How a model is run: under which autocast, and through which tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit.explain._setup import Forward

__all__ = ["PRECISIONS", "Precision", "autocast_factory", "channels_last_forward", "usable_forward"]

Precision = Literal["bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _default_forward(model: nn.Module, inputs: Any) -> Any:
    return model(inputs)


def autocast_factory(device: torch.device, precision: Precision | None) -> Callable[[], AbstractContextManager[object]]:
    """Return what the forward runs in: the caller's autocast or the precision asked for.

    The cache of casted weights stays out of it: entries made here, without grad mode, would be found by the caller's
    own training step in the same autocast block, and have no gradient.
    """
    kind = device.type
    if precision is not None:
        return lambda: torch.autocast(kind, dtype=PRECISIONS[precision], cache_enabled=False)
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        return lambda: torch.autocast(kind, dtype=dtype, cache_enabled=False)
    return nullcontext


class _Holder(nn.Module):
    """A model with a forward of the caller's, so that its tensors can be replaced for one run."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, inputs: object) -> object:
        return self.function(self.model, inputs)


def usable_forward(
    model: nn.Module, forward: Callable[[nn.Module, Any], Any] | None
) -> Callable[[nn.Module, Any], Any]:
    """Return a forward that works for models built under inference mode too, through clones of their tensors."""
    forward = forward or _default_forward
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not any(tensor.is_inference() for tensor in named.values()):
        return forward
    with torch.inference_mode(mode=False):
        clones = {
            f"model.{name}": tensor.clone().requires_grad_(tensor.requires_grad) for name, tensor in named.items()
        }
    holder = _Holder(model, forward)

    def run(_model: nn.Module, inputs: object) -> object:
        return torch.func.functional_call(holder, clones, (inputs,))

    return run


def channels_last_forward(model: nn.Module, forward: Forward | None, image: Tensor) -> Forward | None:
    """Return a forward through channels-last copies of the convolutions' weights, where that is the faster form.

    On CPUs, two-dimensional convolutions are. The rule is fixed, not a measurement, so that a call always gives the
    same bytes; the parameters themselves stay as they are. None where it does not apply.
    """
    if image.device.type != "cpu" or image.dim() != 4 or min(image.shape[2:]) < 64:
        return None
    weights = {name: weight for name, weight in model.named_parameters() if weight.dim() == 4}
    if not weights or any(weight.is_inference() for weight in weights.values()):
        return None
    holder = _Holder(model, forward or _default_forward)
    copies: dict[str, Tensor] = {}

    def run(_model: nn.Module, inputs: object) -> object:
        if not copies:  # on first use: most methods never come here
            for name, weight in weights.items():
                copies[f"model.{name}"] = weight.detach().contiguous(memory_format=torch.channels_last)
        return torch.func.functional_call(holder, copies, (inputs,))

    return run
