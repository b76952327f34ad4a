"""The state contract: what a call may touch for its duration, and how all of it is put back.

A call holds one lock per model, runs the model in eval mode (flag by flag, without calling ``eval()``, which a model
may override) and leaves training flags, buffers, grad mode and random states bit for bit as they were, also when it
raises. Nothing is stored on the model; the locks live in a dictionary of weak references.
"""

from __future__ import annotations

import random
import sys
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["preserved", "unwrap"]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()
_STANCE_LOCK = threading.RLock()  # the stance of torch.compile is one for the whole process


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside `torch.compile`, `DataParallel` and `DistributedDataParallel` wrappers.

    Hooks on a wrapper do not fire, and replicas would each see a part of the batch.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _lock_of(model: nn.Module) -> threading.RLock:
    """Return the lock of a model, the same one for as long as the model lives."""
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(model, threading.RLock())


def _is_compiled(model: nn.Module) -> bool:
    """Whether the model, or a part of it, was compiled in any of the three forms."""
    if "torch._dynamo" not in sys.modules:
        return False
    return any(
        "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
    """Run compiled parts eagerly: hooks that are added after compilation never fire in compiled code."""
    if not _is_compiled(model):
        yield
        return
    with _STANCE_LOCK, torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _training_flags(model: nn.Module, *, evaluate: bool) -> Iterator[None]:
    """Keep each module's `training` flag; with `evaluate` all are off meanwhile."""
    # A frozen TorchScript module has no flag.
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    try:
        if evaluate:
            for module, training in flags:
                if training:
                    module.training = False
        yield
    finally:
        for module, training in flags:
            if module.training != training:
                module.training = training


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are equal, NaN equal to NaN."""
    if a.shape != b.shape:
        return False
    if torch.equal(a, b):
        return True
    return a.is_floating_point() and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124  # x != x: NaN


@contextmanager
def _buffers(model: nn.Module) -> Iterator[None]:
    """Keep the values and the identity of all buffers."""
    kept: list[tuple[nn.Module, str, Tensor, Tensor]] = []
    with torch.no_grad():
        for module in model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device.type != "meta":
                    kept.append((module, name, buffer, buffer.clone()))
    try:
        yield
    finally:
        for module, name, buffer, value in kept:
            if isinstance(module, torch.jit.ScriptModule):
                pass  # hands out its buffers as ever new objects
            elif module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            # Only what changed is written: writing would raise the version of a tensor that some graph of the caller
            # holds.
            if not _same(buffer, value):
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(value)


@contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    """Keep the global random states of Python, NumPy and torch (CPU, and the device in use)."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    on_cuda = device.type == "cuda" and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state(device) if on_cuda else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)  # pragma: cuda


@contextmanager
def _grad_mode() -> Iterator[None]:
    """Leave inference mode, start without a graph, and restore the caller's mode whatever hooks did to it."""
    enabled = torch.is_grad_enabled()
    inference = torch.is_inference_mode_enabled()
    try:
        with torch.inference_mode(mode=False) if inference else nullcontext():
            torch.set_grad_enabled(False)
            yield
    finally:
        torch.set_grad_enabled(enabled)


@contextmanager
def preserved(model: nn.Module, device: torch.device, *, evaluate: bool = True) -> Iterator[None]:
    """Hold the model for one call: locked, in eval mode, eager, without grad mode; all is restored at the end."""
    with ExitStack() as stack:
        stack.enter_context(_lock_of(model))
        stack.enter_context(_eager(model))
        stack.enter_context(_random_states(device))
        stack.enter_context(_buffers(model))
        stack.enter_context(_training_flags(model, evaluate=evaluate))
        stack.enter_context(_grad_mode())
        yield
