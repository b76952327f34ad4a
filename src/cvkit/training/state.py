"""What a run consists of, and the update that never lets a non-finite number through."""

from __future__ import annotations

import math
import warnings
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit.training.distributed import World
from cvkit.training.precision import probe_bfloat16
from cvkit.training.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cvkit.training.ema import Average

__all__ = [
    "DivergenceError",
    "Precision",
    "State",
    "Stateful",
    "Update",
    "check_finite_so_far",
    "update",
]

Precision: TypeAlias = Literal["float32", "bfloat16", "auto"]
"""Precision of the forward computation; parameters and moments stay in float32. ``"auto"`` is bfloat16 on devices that
compute it natively: the same call then gives other numbers on another machine."""


class DivergenceError(RuntimeError):
    """Numbers went bad: a loss or gradient was not finite, or a monitor gave a verdict.

    Attributes
    ----------
    step : int
        The step, counted from 0, whose update was refused or that was judged.
    where : str
        The tensor, such as ``"gradient of generator: block.conv.weight"``, or the verdict.
    """

    def __init__(self, step: int, where: str, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.where = where

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[int, str, str]]:
        return type(self), (self.step, self.where, str(self))


@runtime_checkable
class Stateful(Protocol):
    """Anything whose position can be stored, such as a learning-rate scheduler of torch."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Go to a position."""
        ...


class _Suspect(NamedTuple):
    """The numbers of one update, on the device until the next sync."""

    step: int
    optimizer: str
    parameters: list[torch.nn.Parameter]
    loss: torch.Tensor
    norms: torch.Tensor


@dataclass
class _Guard:
    """The non-finite flag and what is needed to name the tensor that raised it."""

    found: torch.Tensor
    suspects: deque[_Suspect] = field(default_factory=lambda: deque(maxlen=10_000))


@dataclass
class State:
    """Everything that a step may change and a checkpoint holds.

    Parameters
    ----------
    modules : dict of str to torch.nn.Module
        The networks, already on their device. Names become file names: letters, digits, ``_`` and ``-``.
    optimizers : dict of str to torch.optim.Optimizer
        One or several.
    averages : dict of str to Average, optional
        Averaged copies.
    schedules : dict of str to Stateful, optional
        Objects with a position, such as schedulers of torch. A schedule that is a function of `images` needs no entry.
    tensors : dict of str to Tensor, optional
        Further tensors, such as a running sign statistic.
    numbers : dict of str to float, optional
        Further numbers, such as the probability of an augmentation.
    seed : int, default 0
        Seed of all randomness.
    batch_size : int, default 1
        Samples a step over all processes.
    precision : {'float32', 'bfloat16', 'auto'}, default 'float32'
        Precision of what runs inside `autocast`. ``'auto'`` becomes bfloat16 where the device has it, else float32.
    world : World, optional
        The processes; alone on the CPU by default. ``world.device`` is where draws are made.
    step : int, default 0
        Steps done; inside a step function, the number of the step, counted from 0.
    images : int, default 0
        Samples seen.

    Examples
    --------
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)}, batch_size=4)
    >>> state.share(torch.randn(4, 3, generator=state.generator("latents"))).shape
    torch.Size([4, 3])
    """

    modules: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averages: dict[str, Average] = field(default_factory=dict)
    schedules: dict[str, Stateful] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 1
    precision: Precision = "float32"
    world: World = field(default_factory=World)
    step: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed)
        check_integer("batch_size", self.batch_size, minimum=1)
        check_choice("precision", self.precision, ("float32", "bfloat16", "auto"))
        if self.precision != "float32":
            native = probe_bfloat16(self.world.device).native
            if self.precision == "auto":
                self.precision = "bfloat16" if native else "float32"
            elif not native:
                warnings.warn(f"{self.world.device} emulates bfloat16: slower than float32", stacklevel=3)
        if self.batch_size % self.world.size:
            raise ValueError(
                f"`batch_size` counts the samples of all processes and must be a multiple of their number, "
                f"{self.world.size}; got {self.batch_size}"
            )
        for name, module in self.modules.items():
            for key, tensor in module.named_parameters():
                if tensor.device.type != self.world.device.type:
                    raise ValueError(
                        f"`modules`: {name}.{key} is on {tensor.device}, the run computes on {self.world.device}"
                    )
        self.forget_bad_numbers()
        self._agreed: set[str] = set()

    def forget_bad_numbers(self) -> None:
        """Lift the ban on updates that a non-finite number left; `restore` does so."""
        self._guard = _Guard(torch.zeros((), device=self.world.device))

    def generator(self, purpose: str, *, device: torch.device | str | None = None) -> torch.Generator:
        """Make the random generator of this step for a purpose, on the device of the run unless `device` is given.

        Draw for the whole global batch, then take `share` of it.
        """
        return generator(self.seed, self.step, purpose, self.world.device if device is None else device)

    def share(self, values: torch.Tensor) -> torch.Tensor:
        """Return this process's slice of a tensor whose first axis is the global batch."""
        return self.world.share(values)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward computation runs at `precision`."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16)


class Update(NamedTuple):
    """What `update` saw, as tensors on the device: no number was waited for."""

    loss: torch.Tensor
    gradient_norm: torch.Tensor


def update(
    state: State, name: str, loss: torch.Tensor | Iterable[torch.Tensor], *, clip: float | None = None
) -> Update:
    """Compute the gradients of a loss and let one optimiser step, unless a number is not finite.

    Gradients are taken with respect to the parameters of this optimiser only, averaged over the processes in one
    message, and clipped. If the loss or a gradient is not finite on any process, nothing is updated, now or later: the
    run stops at the next call of `check_finite_so_far`, which names the step and the tensor. With a fused optimiser
    the decision stays on the device; the others are asked from the host, which on a CPU costs nothing.

    Parameters
    ----------
    state : State
        The run.
    name : str
        Which of ``state.optimizers`` steps.
    loss : Tensor of shape () or iterable of such tensors
        A mean over this process's samples. Several are taken as equal parts of the batch, whose mean is the loss: from
        a generator each graph is freed before the next is built, which is gradient accumulation.
    clip : float, optional
        Largest norm of all gradients together.

    Returns
    -------
    Update
        ``loss`` (of this process) and ``gradient_norm`` (before clipping), both 0-d and detached.

    Raises
    ------
    KeyError
        If there is no such optimiser.
    ValueError
        If `loss` is empty, or needs no gradient.

    Examples
    --------
    >>> network = torch.nn.Linear(1, 1, bias=False)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.5)})
    >>> before = network.weight.item()
    >>> result = update(state, "network", network(torch.ones(1, 1)).mean())
    >>> round(before - network.weight.item(), 4)
    0.5
    >>> parts = (network(x[None]).mean() for x in torch.ones(4, 1))  # four parts, accumulated
    >>> update(state, "network", parts, clip=1.0).gradient_norm
    tensor(1.)
    """
    optimizer = state.optimizers[name]
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    optimizer.zero_grad(set_to_none=True)

    # Gradients of the mean over the parts.
    losses = []
    for part in (loss,) if isinstance(loss, torch.Tensor) else loss:
        if not part.requires_grad or part.ndim:
            raise ValueError("`loss` must be 0-d tensors that need a gradient")
        torch.autograd.backward(part, inputs=parameters)
        losses.append(part.detach())
    if not losses:
        raise ValueError("`loss` is empty")
    mean = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
    trained = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in trained if p.grad is not None]
    if len(losses) > 1:
        torch._foreach_div_(gradients, len(losses))

    # One message averages the gradients; a loss that is bad anywhere makes the claim bad everywhere.
    if name not in state._agreed:
        state.world.check_same(f"number of gradients of {name}", sum(g.numel() for g in gradients))
        state._agreed.add(name)
    claim = state.world.average_(gradients, mean) if gradients else mean
    norms = torch.stack(torch._foreach_norm(gradients)) if gradients else mean.new_zeros(1)
    total = torch.linalg.vector_norm(norms)
    if clip is not None:
        limit = check_interval("clip", clip, 0.0, low_open=True)
        torch._foreach_mul_(gradients, (limit / (total + 1e-6)).clamp(max=1.0))

    guard = state._guard
    guard.found = torch.maximum(guard.found, (total + claim).isfinite().logical_not().to(guard.found.dtype))
    if guard.found.device.type != "cpu" or bool(guard.found):
        guard.suspects.append(_Suspect(state.step, name, trained, claim, norms))
    _step_unless(optimizer, guard.found)
    return Update(mean, total)


def _step_unless(optimizer: torch.optim.Optimizer, found: torch.Tensor) -> None:
    """Step if `found` is zero: the fused kernels look at it themselves, so that nobody waits for the device."""
    if getattr(optimizer, "_step_supports_amp_scaling", False) and found.device.type != "cpu":
        optimizer.found_inf = found  # type: ignore[attr-defined]  # pragma: cuda
        optimizer.step()  # pragma: cuda
    elif not bool(found):
        optimizer.step()


def check_finite_so_far(state: State) -> None:
    """Wait for the device and raise if an update was refused since the last call.

    Parameters
    ----------
    state : State
        The run.

    Raises
    ------
    DivergenceError
        Naming the step and the tensor. All processes raise together, as they share gradients and losses.

    Examples
    --------
    >>> network = torch.nn.Linear(1, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.5)})
    >>> _ = update(state, "network", network(torch.ones(1, 1)).mean() / 0)
    >>> check_finite_so_far(state)
    Traceback (most recent call last):
        ...
    cvkit.training.state.DivergenceError: step 0: the loss of network is not finite; nothing was updated since
    """
    guard = state._guard
    suspects = list(guard.suspects)
    guard.suspects.clear()
    if not bool(guard.found):
        return
    names = {id(p): f"{n}.{key}" for n, module in state.modules.items() for key, p in module.named_parameters()}
    for suspect in suspects:
        bad = [
            p for p, norm in zip(suspect.parameters, suspect.norms.tolist(), strict=False) if not math.isfinite(norm)
        ]
        if math.isfinite(suspect.loss.item()) and not bad:
            continue
        # A loss that is not finite explains the gradients; otherwise the first gradient is named.
        where = f"loss of {suspect.optimizer}"
        if math.isfinite(suspect.loss.item()):
            where = f"gradient of {names.get(id(bad[0]), 'a parameter')} in the update of {suspect.optimizer}"
        raise DivergenceError(
            suspect.step, where, f"step {suspect.step}: the {where} is not finite; nothing was updated since"
        )
    raise DivergenceError(state.step, "unknown", f"by step {state.step} a loss or gradient was not finite")
