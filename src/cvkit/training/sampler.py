"""Which samples a step sees: a pure function of (seed, step), so that no position has to be stored."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from cvkit._checks import check_integer
from cvkit.training.distributed import World
from cvkit.training.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ResumableSampler", "Sampled"]

B = TypeVar("B")


class ResumableSampler:
    """Shuffled batches without end, the batch of a step found without counting there.

    The order is one permutation an epoch, put one after another without a gap: every sample is seen exactly once an
    epoch, no batch is short, and a batch may hold the end of one epoch and the beginning of the next.

    Parameters
    ----------
    length : int
        Number of samples, at least 1.
    batch_size : int
        Samples a step over all processes, at least 1; it may exceed `length`.
    seed : int, default 0
        Seed of the permutations.
    shuffle : bool, default True
        False takes the samples in their own order in every epoch.

    Examples
    --------
    >>> sampler = ResumableSampler(5, 2, seed=3)
    >>> epoch = torch.cat([sampler.indices(step) for step in range(5)])[:5]
    >>> sorted(epoch.tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, length: int, batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.length = check_integer("length", length, minimum=1)
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.seed = check_integer("seed", seed)
        self.shuffle = bool(shuffle)
        self._orders: OrderedDict[int, torch.Tensor] = OrderedDict()

    def order(self, epoch: int) -> torch.Tensor:
        """Return the permutation of an epoch, int64 of shape (length,)."""
        if epoch not in self._orders:
            if self.shuffle:
                order = torch.randperm(self.length, generator=generator(self.seed, epoch, "order"))
            else:
                order = torch.arange(self.length)
            self._orders[epoch] = order
            while len(self._orders) > 2:
                self._orders.popitem(last=False)
        return self._orders[epoch]

    def indices(self, step: int) -> torch.Tensor:
        """Return the samples of a step for the whole global batch.

        Parameters
        ----------
        step : int
            At least 0.

        Returns
        -------
        Tensor of shape (batch_size,)
            int64. `World.share` gives the slice of one process.
        """
        first = check_integer("step", step, minimum=0) * self.batch_size
        last = first + self.batch_size
        parts = []
        while first < last:
            epoch, start = divmod(first, self.length)
            part = self.order(epoch)[start : start + last - first]
            parts.append(part)
            first += len(part)
        return torch.cat(parts)

    def epoch(self, step: int) -> int:
        """Return the epoch that the first sample of a step belongs to."""
        return check_integer("step", step, minimum=0) * self.batch_size // self.length

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_orders": OrderedDict()}


@dataclass(frozen=True)
class Sampled(Generic[B]):
    """Batches of a sampler, fetched by a function: what `train` takes as its batches.

    Parameters
    ----------
    sampler : ResumableSampler
        Which samples.
    fetch : callable
        From the indices of this process (a Tensor of shape (batch_size / processes,), int64, on the CPU) to a batch.
    world : World, optional
        The processes; alone by default.

    Examples
    --------
    >>> images = torch.arange(6) * 10
    >>> batches = Sampled(ResumableSampler(6, 2, shuffle=False), lambda indices: images[indices])
    >>> next(batches(1))
    tensor([20, 30])
    """

    sampler: ResumableSampler
    fetch: Callable[[torch.Tensor], B]
    world: World = field(default_factory=World)

    def __call__(self, start: int) -> Iterator[B]:
        """Give the batches from step `start` on, without end."""
        for step in itertools.count(start):
            yield self.fetch(self.world.share(self.sampler.indices(step)))
