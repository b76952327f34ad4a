from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cvkit import training
from cvkit._errors import DataError


def noisy(index, generator):
    return torch.cat([torch.tensor([float(index)]), torch.rand(2, generator=generator)])


def global_draws(index, generator):
    """What careless data sets do: draw from every global generator there is."""
    return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])  # noqa: NPY002


def failing(index, generator, *, bad):
    if index == bad:
        raise KeyError("no such drawing")
    return index


def dying(index, generator, *, bad):
    if index == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def take(loader, start, count):
    batches = loader(start)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def sampler(**options):
    return training.ResumableSampler(10, 4, **{"seed": 2, **options})


def test_batches_follow_the_sampler_and_items_draw_from_their_place():
    batches = take(training.Loader(noisy, sampler()), 0, 3)
    for step, batch in enumerate(batches):
        assert torch.equal(batch[:, 0].long(), sampler().indices(step))
    draws = torch.cat([batch[:, 1] for batch in batches])
    assert len(draws.unique()) == len(draws)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (2, "fork"), (2, "spawn"), (2, "forkserver")])
def test_workers_change_nothing_however_they_begin(workers, method):
    plain = take(training.Loader(noisy, sampler()), 1, 4)
    ours = take(training.Loader(noisy, sampler(), workers=workers, start_method=method), 1, 4)
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))


def test_a_loader_can_begin_at_any_step():
    whole = take(training.Loader(noisy, sampler()), 0, 6)
    for cut in range(6):
        rest = take(training.Loader(noisy, sampler()), cut, 6 - cut)
        assert all(torch.equal(a, b) for a, b in zip(whole[cut:], rest, strict=True))


def test_processes_share_the_items_of_one():
    whole = take(training.Loader(noisy, sampler()), 0, 3)
    parts = [take(training.Loader(noisy, sampler(), world=training.World(rank, 2)), 0, 3) for rank in range(2)]
    assert all(torch.equal(w, torch.cat([a, b])) for w, a, b in zip(whole, *parts, strict=True))


@pytest.mark.slow
@pytest.mark.fault("pytorch/pytorch#5059")
@pytest.mark.fault("Lightning-AI/pytorch-lightning#20412")
def test_even_careless_items_draw_other_numbers_in_every_worker():
    def draws():
        batches = take(training.Loader(global_draws, sampler(), workers=2, start_method="fork"), 0, 5)
        return torch.cat(batches)

    first, second = draws(), draws()
    assert torch.equal(first[:, 2], second[:, 2])  # torch's and NumPy's own seeding of workers repeats with our seed
    for column in first.T:
        assert len(column.unique()) == len(column)


def test_the_global_generators_are_left_alone():
    before = torch.get_rng_state()
    take(training.Loader(noisy, sampler()), 0, 2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_failing_item_is_named(workers):
    bad = int(sampler().indices(2)[1])
    loader = training.Loader(partial(failing, bad=bad), sampler(), workers=workers)
    with pytest.raises(DataError, match=rf"sample {bad}, wanted at step \d: KeyError: 'no such drawing'"):
        take(loader, 0, 4)


# torch raises from its signal handler, at times while it opens files itself: those are then left to the collector.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.slow
@pytest.mark.fault("pytorch/pytorch#8976")
@leaves_files_open
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_worker_is_reported_as_such(method):
    bad = int(sampler().indices(3)[0])
    loader = training.Loader(partial(dying, bad=bad), sampler(), workers=2, start_method=method)
    with pytest.raises(DataError, match="a data-loading process died"):
        take(loader, 0, 5)


@pytest.mark.slow
@leaves_files_open
@pytest.mark.parametrize(
    "loader",
    [
        training.Loader(noisy, sampler(), workers=2),
        training.Replayed(DataLoader(torch.arange(60), batch_size=2, num_workers=2)),
    ],
)
def test_a_worker_that_dies_while_its_batch_is_used_is_reported_with_the_next(loader):
    batches = loader(0)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    time.sleep(0.5)  # work with the batch: the signal comes here and must not raise
    with pytest.raises(DataError, match="a data-loading process died"):
        next(batches)


@pytest.mark.slow
def test_workers_end_with_their_iterator():
    batches = training.Loader(noisy, sampler(), workers=2)(0)
    next(batches)
    children = multiprocessing.active_children()
    assert len(children) == 2
    batches.close()
    del batches
    deadline = time.monotonic() + 10
    while any(child.is_alive() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(child.is_alive() for child in children)


def test_batches_can_be_collated_otherwise():
    loader = training.Loader(failing_never, sampler(), collate=tuple)
    assert take(loader, 0, 1) == [tuple(sampler().indices(0).tolist())]


def test_items_that_make_no_batch_are_reported_as_such():
    def ragged(index, generator):
        return torch.zeros(index + 1)

    loader = training.Loader(ragged, sampler())
    with pytest.raises(DataError, match=r"items can't be made into a batch: RuntimeError: .*stack expects"):
        take(loader, 0, 1)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_errors_of_a_foreign_loader_stay_what_they_are(workers):
    loader = DataLoader([1, 2, 3, 4], batch_size=1, num_workers=workers, collate_fn=refusing)
    with pytest.raises(OSError, match="no such disk"):
        take(training.Replayed(loader), 0, 1)


def refusing(items):
    raise OSError("no such disk")


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_foreign_loader_keeps_its_workers_for_the_next_epoch(known, monkeypatch):
    if not known:  # a torch that keeps its handling of signals elsewhere
        monkeypatch.setattr(torch.utils.data, "_utils", None)
    loader = DataLoader(torch.arange(4), batch_size=2, num_workers=1, persistent_workers=True)
    assert [batch.tolist() for batch in take(training.Replayed(loader), 0, 5)] == [[0, 1], [2, 3]] * 2 + [[0, 1]]
    children = multiprocessing.active_children()
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
    assert multiprocessing.active_children() == children
    assert loader._iterator._worker_pids_set


def failing_never(index, generator):
    return index


def test_loaders_pickle():
    loader = pickle.loads(pickle.dumps(training.Loader(noisy, sampler(), workers=0)))
    assert torch.equal(take(loader, 1, 1)[0], take(training.Loader(noisy, sampler()), 1, 1)[0])
    assert pickle.loads(pickle.dumps(training.Replayed([1, 2])))(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"workers": -1}, "`workers`"), ({"start_method": "thread"}, "`start_method`"), ({"prefetch": 0}, "`prefetch`")],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        training.Loader(noisy, sampler(), **options)


def test_a_loader_of_torch_is_replayed_to_the_wanted_step():
    loader = DataLoader(torch.arange(7), batch_size=3)
    whole = take(training.Replayed(loader), 0, 7)
    for cut in range(7):
        rest = take(training.Replayed(loader), cut, 7 - cut)
        assert all(torch.equal(a, b) for a, b in zip(whole[cut:], rest, strict=True))


class StatefulList:
    """A loader that knows where it is, as torchdata's does."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        while self.position < 3:
            self.position += 1
            yield self.position
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_a_stateful_loader_goes_on_where_it_stands():
    loader = StatefulList()
    assert take(training.Replayed(loader), 0, 2) == [1, 2]
    again = StatefulList()
    again.load_state_dict(loader.state_dict())
    assert take(training.Replayed(again), 2, 3) == [3, 1, 2]


def test_an_empty_loader_ends():
    assert list(training.Replayed([])(0)) == []
