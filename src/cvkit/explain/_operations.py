"""Rules and taps for single operations: how ReLU is differentiated, and where biases enter.

They work on *functions*, not on modules: ``F.relu``, ``torch.relu``, ``Tensor.relu_``, ``clamp(min=0)`` and
``threshold(0, 0)`` in somebody's forward are seen as well as ``nn.ReLU`` and ``nn.ReLU6``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from cvkit.explain._call import Call

__all__ = ["BiasTaps", "ReLURule", "check_python"]

_ATEN = torch.ops.aten  # what an exported program calls

# ------------------------------------------------------------------------------ rules for ReLU


class _GuidedReLU(torch.autograd.Function):
    """ReLU, or ReLU with an upper bound, whose backward pass lets only positive gradients through.

    If guided, also only where ReLU itself would: the input was positive and below the bound.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float | None, guided: bool, inplace: bool) -> Tensor:
        if guided:
            ctx.save_for_backward(x > 0 if high is None else (x > 0) & (x < high))
        if inplace:
            ctx.mark_dirty(x)
            return x.clamp_(min=0, max=high)
        return x.clamp(min=0, max=high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        g = grads[0].clamp(min=0)
        return (g * ctx.saved_tensors[0] if ctx.saved_tensors else g), None, None, None


_RELUS = frozenset({F.relu, torch.relu, Tensor.relu, F.relu6, _ATEN.relu.default, _ATEN.relu6.default})
_RELUS_IN_PLACE = frozenset({F.relu_, torch.relu_, Tensor.relu_, _ATEN.relu_.default, _ATEN.relu6_.default})
_CLAMPS = frozenset(
    {
        torch.clamp, Tensor.clamp, torch.clip, Tensor.clip, torch.clamp_min, Tensor.clamp_min, F.hardtanh,
        _ATEN.clamp.default, _ATEN.clamp_min.default, _ATEN.clip.default, _ATEN.hardtanh.default,
    }
)  # fmt: skip
_CLAMPS_IN_PLACE = frozenset(
    {
        torch.clamp_, Tensor.clamp_, torch.clip_, Tensor.clip_, Tensor.clamp_min_, F.hardtanh_,
        torch.clamp_min_, _ATEN.clamp_.default, _ATEN.clamp_min_.default, _ATEN.clip_.default, _ATEN.hardtanh_.default,
    }
)  # fmt: skip
_TANHS = frozenset({F.hardtanh, F.hardtanh_, _ATEN.hardtanh.default, _ATEN.hardtanh_.default})
_THRESHOLDS = frozenset({F.threshold, torch.threshold, _ATEN.threshold.default})
_THRESHOLDS_IN_PLACE = frozenset({F.threshold_, torch.threshold_, _ATEN.threshold_.default})  # type: ignore[attr-defined]
_SIXES = frozenset({F.relu6, _ATEN.relu6.default, _ATEN.relu6_.default})
_LOWS, _HIGHS = ("min", "min_val"), ("max", "max_val")


def _given(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, names: tuple[str, ...], default: Any) -> Any:
    """Return an argument by place or by one of its names."""
    return args[place] if len(args) > place else next((kwargs[name] for name in names if name in kwargs), default)


def _bound_of_relu(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Return the upper bound of a call that is a ReLU (infinite where there is none); None for any other call."""
    if func in _SIXES:
        return 6.0
    if func in _RELUS or func in _RELUS_IN_PLACE:
        return math.inf
    if func in _THRESHOLDS or func in _THRESHOLDS_IN_PLACE:
        zeros = [_given(args, kwargs, place, (name,), None) for place, name in ((1, "threshold"), (2, "value"))]
        return math.inf if zeros == [0, 0] else None
    if func not in _CLAMPS and func not in _CLAMPS_IN_PLACE:
        return None
    tanh = func in _TANHS
    low = _given(args, kwargs, 1, _LOWS, -1.0 if tanh else None)
    high = _given(args, kwargs, 2, _HIGHS, 1.0 if tanh else None)
    if not isinstance(low, int | float) or low != 0 or isinstance(high, Tensor):
        return None
    return math.inf if high is None else float(high)


def check_python(call: Call, method: str) -> None:
    """Raise if a part of the model is TorchScript, whose operations no rule here sees."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in call.setup.model.modules()):
        raise ValueError(
            f"{method} works on single operations, which TorchScript hides: explain the module `model` was made from"
        )


class ReLURule(TorchFunctionMode):
    """Replaces ReLU, in all its spellings, for as long as the mode is on in this thread."""

    def __init__(self, *, guided: bool) -> None:
        super().__init__()
        self.guided = guided

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        bound = _bound_of_relu(func, args, kwargs)
        if bound is None:
            return func(*args, **kwargs)
        x = _given(args, kwargs, 0, ("input", "self"), None)
        inplace = func in _RELUS_IN_PLACE or func in _CLAMPS_IN_PLACE or func in _THRESHOLDS_IN_PLACE
        if func in (F.relu, F.relu6, F.hardtanh, F.threshold):
            place = 3 if func in (F.hardtanh, F.threshold) else 1
            inplace = bool(_given(args, kwargs, place, ("inplace",), False))
        return _GuidedReLU.apply(x, None if bound == math.inf else bound, self.guided, inplace)  # type: ignore[no-untyped-call]


# ------------------------------------------------------------------------------ biases

_AFFINE = frozenset(
    {
        F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.linear,
        F.batch_norm, _ATEN.conv1d.default, _ATEN.conv2d.default, _ATEN.conv3d.default, _ATEN.conv_transpose1d.default,
        _ATEN.conv_transpose2d.input, _ATEN.conv_transpose3d.input, _ATEN.linear.default, _ATEN.batch_norm.default,
        _ATEN.conv1d.padding, _ATEN.conv2d.padding, _ATEN.conv3d.padding,
    }
)  # fmt: skip
_LINEARS = frozenset({F.linear, _ATEN.linear.default})
_NORMS = {F.batch_norm: (1, 2, 3, 4), _ATEN.batch_norm.default: (3, 4, 1, 2)}  # places of mean, variance, weight, bias


class BiasTaps(TorchFunctionMode):
    """Notes, for each affine operation of a forward, its output and its bias: ``f(x) = L x + b``."""

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func not in _AFFINE:
            return out
        bias = _bias_of(func, args, kwargs)
        if bias is None or not out.requires_grad:
            return out
        shape = (1, -1, *[1] * (out.dim() - 2)) if func not in _LINEARS else (-1,)
        self.taps.append((out, bias.reshape(shape).expand_as(out)))
        return out.clone()


def _bias_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the bias of an affine operation; of a batch norm in eval mode its constant part."""

    def given(place: int, name: str) -> Any:
        return args[place] if len(args) > place else kwargs.get(name)

    if func not in _NORMS:
        bias = given(2, "bias")
        return bias if isinstance(bias, Tensor) else None
    if given(5, "training"):
        return None  # statistics of the batch: not affine in the input
    names = ("running_mean", "running_var", "weight", "bias")
    mean, var, weight, bias = (given(place, name) for place, name in zip(_NORMS[func], names, strict=True))
    eps = args[7] if len(args) > 7 else kwargs.get("eps", 1e-5)
    shift = -mean / (var + eps).sqrt()
    shift = shift if weight is None else shift * weight
    implicit: Tensor = shift if bias is None else shift + bias
    return implicit
