"""Batches made item by item, in worker processes if wanted, and batches of other people's loaders."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from cvkit._checks import check_choice, check_integer
from cvkit._errors import DataError
from cvkit.training.distributed import World
from cvkit.training.seeds import generator
from cvkit.training.state import Stateful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cvkit.training.sampler import ResumableSampler

__all__ = ["Loader", "Replayed"]

T = TypeVar("T")
B = TypeVar("B")

_Place = tuple[int, int, int]  # step, position in the global batch, index


class _Items(Dataset[T]):
    """The data set that torch's loader sees: a place is made into an item, with a generator of its own."""

    def __init__(self, item: Callable[[int, torch.Generator], T], seed: int) -> None:
        self.item = item
        self.seed = seed

    def __getitem__(self, place: _Place) -> T:
        step, position, index = place
        try:
            return self.item(index, generator(self.seed, step, f"item {position}"))
        except Exception as error:
            raise DataError(f"sample {index}, wanted at step {step}: {type(error).__name__}: {error}") from error


class _Places:
    """The places of the batches of one process, from a step on, without end."""

    def __init__(self, sampler: ResumableSampler, world: World, start: int) -> None:
        self.sampler = sampler
        self.world = world
        self.start = start

    def __iter__(self) -> Iterator[list[_Place]]:
        positions = self.world.share(torch.arange(self.sampler.batch_size)).tolist()
        step = self.start
        while True:
            indices = self.world.share(self.sampler.indices(step)).tolist()
            yield [(step, position, index) for position, index in zip(positions, indices, strict=True)]
            step += 1


class _Collate:
    """What makes items into a batch, with a failure named as one of the data."""

    def __init__(self, collate: Callable[[list[Any]], object]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> object:
        try:
            return self.collate(items)
        except Exception as error:
            raise DataError(f"items can't be made into a batch: {type(error).__name__}: {error}") from error


class _Workers:
    """The worker processes of an iterator of torch's, if it has any, and whether torch watches them.

    torch raises from its handler of SIGCHLD, whatever the main thread is doing: an optimiser's step would be left half
    done. So they are watched only while a batch is waited for. A torch without the names below watches all the time.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.processes = getattr(batches, "_workers", [])
        self.signals: Any = getattr(getattr(torch.utils.data, "_utils", None), "signal_handling", None)
        self.known = hasattr(batches, "_worker_pids_set") and all(
            hasattr(self.signals, name)
            for name in ("_set_worker_pids", "_remove_worker_pids", "_error_if_any_worker_fails")
        )

    def watch(self) -> None:
        """Let the death of one raise a RuntimeError from now on, and at once if it has come already."""
        if self.known and not self.batches._worker_pids_set:
            self.signals._set_worker_pids(id(self.batches), tuple(process.pid for process in self.processes))
            self.batches._worker_pids_set = True
            self.signals._error_if_any_worker_fails()

    def unwatch(self) -> None:
        if self.known and self.batches._worker_pids_set:
            self.signals._remove_worker_pids(id(self.batches))
            self.batches._worker_pids_set = False

    def one_died(self, *, within: float) -> bool:
        """Tell whether a process has ended, which may be known some time after its pipes have closed."""
        deadline = time.monotonic() + within
        while all(process.is_alive() for process in self.processes):
            if not self.processes or time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def _watched(batches: Iterator[B]) -> Iterator[B]:
    """Pass the batches on; a worker's death is raised as a DataError by the request for a batch, and nowhere else."""
    workers = _Workers(batches)
    try:
        while True:
            try:
                workers.watch()
                batch = next(batches)
                workers.unwatch()
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not workers.one_died(within=1.0):
                    raise
                raise DataError(f"a data-loading process died: {error}") from error
            yield batch
    finally:
        if not workers.one_died(within=0.0):
            workers.watch()  # as torch had it: a loader may keep its workers for another epoch


def _ignore_interrupt(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; what follows from it is the trainer's to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Loader(Generic[T]):
    """Batches whose items are read and augmented one by one, in worker processes if wanted.

    Every item gets a generator that depends on (seed, step, place in the global batch) alone: the batches are the same
    for any number of workers or processes, and after any resume.

    Parameters
    ----------
    item : callable
        ``(index, generator) -> item``, with all randomness from the `torch.Generator`. It must pickle where workers are
        not forked.
    sampler : ResumableSampler
        Which samples.
    world : World, optional
        The processes; alone by default.
    workers : int, default 0
        Worker processes; 0 makes the items in this one.
    collate : callable, optional
        From a list of items to a batch; by default torch's, which stacks tensors.
    start_method : {'fork', 'spawn', 'forkserver'}, optional
        How workers begin; by default as Python does.
    prefetch : int, default 2
        Batches that each worker makes ahead.

    Examples
    --------
    >>> from cvkit.training import ResumableSampler
    >>> def item(index, generator):
    ...     return index + torch.rand((), generator=generator)
    >>> loader = Loader(item, ResumableSampler(4, 2, shuffle=False))
    >>> batches = loader(0)
    >>> first, second = next(batches), next(batches)
    >>> torch.equal(next(loader(1)), second)  # from step 1 on
    True
    """

    def __init__(
        self,
        item: Callable[[int, torch.Generator], T],
        sampler: ResumableSampler,
        *,
        world: World | None = None,
        workers: int = 0,
        collate: Callable[[list[T]], object] | None = None,
        start_method: str | None = None,
        prefetch: int = 2,
    ) -> None:
        self.item = item
        self.sampler = sampler
        self.world = World() if world is None else world
        self.workers = check_integer("workers", workers, minimum=0)
        self.collate = collate
        self.start_method = check_choice("start_method", start_method, (None, "fork", "spawn", "forkserver"))
        self.prefetch = check_integer("prefetch", prefetch, minimum=1)

    def __call__(self, start: int) -> Iterator[object]:
        """Give the batches of this process from step `start` on, without end; closing the iterator ends the workers.

        Raises
        ------
        DataError
            If an item can't be made, naming it, if items can't be made into a batch, or if a worker process died. The
            last comes with the request for a batch too, never while one is used.
        """
        loader: DataLoader[T] = DataLoader(
            _Items(self.item, self.sampler.seed),
            batch_sampler=_Places(self.sampler, self.world, start),
            num_workers=self.workers,
            collate_fn=_Collate(self.collate or default_collate),
            multiprocessing_context=self.start_method if self.workers else None,
            prefetch_factor=self.prefetch if self.workers else None,
            worker_init_fn=_ignore_interrupt,
            generator=generator(self.sampler.seed, start, "workers"),  # else torch draws from the global one
        )
        yield from _watched(iter(loader))


class Replayed(Generic[B]):
    """Batches of a loader that is not ours, epoch after epoch.

    A loader with ``state_dict`` and ``load_state_dict`` goes on where it stands; put it among ``State.schedules``, so
    that checkpoints hold its position. Any other is run through from its beginning to the wanted step when a run is
    resumed, which is exact if the loader repeats itself, and costs the reading.

    Parameters
    ----------
    loader : iterable
        Such as a `torch.utils.data.DataLoader`. Its batches are those of one process.

    Examples
    --------
    >>> batches = Replayed(["a", "b", "c"])(4)
    >>> next(batches), next(batches)
    ('b', 'c')
    """

    def __init__(self, loader: Iterable[B]) -> None:
        self.loader = loader

    def __call__(self, start: int) -> Iterator[B]:
        """Give the batches from step `start` on, without end unless the loader is empty.

        Raises
        ------
        DataError
            If a worker process of a `torch.utils.data.DataLoader` died; what the loader raises itself goes through.
        """
        skipped = start if not isinstance(self.loader, Stateful) else 0
        while True:
            count = 0
            for batch in _watched(iter(self.loader)):
                count += 1
                if skipped:
                    skipped -= 1
                    continue
                yield batch
            if count == 0:
                return
