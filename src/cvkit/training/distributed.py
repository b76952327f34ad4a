"""Several processes under ``torchrun``, through `torch.distributed` alone.

Every process trains on its slice of the global batch; gradients are averaged in one all-reduce an update; process 0
alone writes. One process is the same code with nothing to exchange.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from cvkit._checks import check_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["World", "processes"]


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees them.

    Parameters
    ----------
    rank : int, default 0
        Number of this process.
    size : int, default 1
        Number of processes.
    device : torch.device, default cpu
        Where this process computes.

    Examples
    --------
    >>> import torch
    >>> World(rank=1, size=2).share(torch.arange(6))
    tensor([3, 4, 5])
    >>> World().mean(torch.tensor(4.0))
    tensor(4.)
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, values: torch.Tensor) -> torch.Tensor:
        """Return this process's slice of a tensor whose first axis is the global batch."""
        if len(values) % self.size:
            raise ValueError(f"a global batch of {len(values)} can't be shared evenly by {self.size} processes")
        part = len(values) // self.size
        return values[self.rank * part : (self.rank + 1) * part]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Average a tensor over the processes, without gradient; every process has to call.

        A loss that divides by a count, such as the number of visible keypoints, divides by the mean count: then the
        average of the gradients is the gradient over the whole batch.
        """
        if self.size == 1:
            return value.detach()
        total = value.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return (total / self.size).to(value.device)

    def any(self, claim: bool) -> bool:
        """Tell whether the claim holds on any process; every process has to call."""
        if self.size == 1:
            return claim
        found = torch.tensor([float(claim)], device=self.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found.item())

    def first(self, number: int) -> int:
        """Return process 0's integer on all of them; every process has to call."""
        if self.size == 1:
            return number
        told = torch.tensor([number], device=self.device)
        dist.broadcast(told, src=0)
        return int(told.item())

    def check_same(self, name: str, number: int) -> None:
        """Raise on all processes if an integer is not the same on all of them; every process has to call."""
        if self.size == 1:
            return
        ends = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(ends, op=dist.ReduceOp.MAX)
        high, low = int(ends[0].item()), -int(ends[1].item())
        if high != low:
            raise RuntimeError(f"the {name} differs between the processes: from {low} to {high}")

    def broadcast_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite the tensors by those of process 0, one message a dtype."""
        if self.size == 1:
            return
        kinds: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor.detach())
        for group in kinds.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group]).to(self.device)
            dist.broadcast(flat, src=0)
            parts = torch.split(flat, [tensor.numel() for tensor in group])
            for tensor, part in zip(group, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def average_(self, tensors: Sequence[torch.Tensor], claim: torch.Tensor) -> torch.Tensor:
        """Average tensors of one dtype over the processes in place, and a 0-d claim with them in the same message."""
        if self.size == 1:
            return claim
        flat = torch.cat([*(tensor.reshape(-1) for tensor in tensors), claim.to(tensors[0].dtype).reshape(1)])
        dist.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [*(tensor.numel() for tensor in tensors), 1])
        torch._foreach_copy_(list(tensors), [p.view(t.shape) for p, t in zip(parts[:-1], tensors, strict=True)])
        return parts[-1].view(())

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def processes(device: torch.device | str = "cpu", *, timeout: float = 600.0) -> Iterator[World]:
    """Join the processes that ``torchrun`` started; without it, this process is alone.

    The process group (gloo on CPU, nccl on CUDA) is made from torchrun's environment and ended with the context. A
    group that exists already is used and left as it is.

    Parameters
    ----------
    device : torch.device or str, default "cpu"
        Kind of device. ``"cuda"`` under torchrun is the GPU with the number of the local rank.
    timeout : float, default 600.0
        Seconds after which a process that waits for another gives up with an error.

    Yields
    ------
    World
        What this process needs to know.

    Examples
    --------
    >>> with processes() as world:
    ...     world.size
    1
    """
    device = torch.device(device)
    seconds = check_finite("timeout", timeout)
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))  # pragma: cuda
    exists = dist.is_available() and dist.is_initialized()
    if not (exists or launched):
        yield World(device=device)
        return
    owned = not exists
    if owned:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=seconds))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if owned:
            dist.destroy_process_group()
