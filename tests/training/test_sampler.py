from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cvkit import training
from strategies import SEEDS

LENGTHS = st.integers(1, 23)
BATCHES = st.integers(1, 31)


def stream(sampler, steps):
    return torch.cat([sampler.indices(step) for step in range(steps)])


@given(LENGTHS, BATCHES, SEEDS)
@example(1, 1, 0)
@example(1, 5, 0)
@example(5, 5, 0)
def test_every_epoch_holds_every_sample_once(length, batch_size, seed):
    sampler = training.ResumableSampler(length, batch_size, seed=seed)
    steps = -(-3 * length // batch_size)
    seen = stream(sampler, steps)
    for epoch in range(3):
        assert sorted(seen[epoch * length : (epoch + 1) * length].tolist()) == list(range(length))


@given(LENGTHS, BATCHES, SEEDS, st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_a_batch_depends_on_seed_and_step_alone(length, batch_size, seed, steps):
    used = training.ResumableSampler(length, batch_size, seed=seed)
    for step in steps:
        fresh = training.ResumableSampler(length, batch_size, seed=seed)
        assert torch.equal(used.indices(step), fresh.indices(step))


@pytest.mark.fault("huggingface/accelerate#4233")
@pytest.mark.fault("meta-pytorch/data#1437")
def test_a_cut_at_any_batch_of_three_epochs_changes_no_sample():
    length, batch_size = 12, 4
    whole = stream(training.ResumableSampler(length, batch_size), 9)
    for cut in range(10):  # epoch ends are 3, 6 and 9
        first = [training.ResumableSampler(length, batch_size).indices(s) for s in range(cut)]
        second = training.ResumableSampler(length, batch_size)
        rest = [second.indices(step) for step in range(cut, 9)]
        assert torch.equal(torch.cat(first + rest), whole)


@pytest.mark.fault("huggingface/accelerate#2157")
def test_epochs_are_in_different_orders():
    sampler = training.ResumableSampler(50, 50)
    assert not torch.equal(sampler.indices(0), sampler.indices(1))
    assert not torch.equal(sampler.indices(0), training.ResumableSampler(50, 50, seed=1).indices(0))


@given(st.integers(1, 4), st.integers(1, 5), LENGTHS, st.integers(0, 9))
def test_the_slices_of_all_processes_make_the_batch(processes, part, length, step):
    sampler = training.ResumableSampler(length, processes * part)
    slices = [training.World(rank, processes).share(sampler.indices(step)) for rank in range(processes)]
    assert torch.equal(torch.cat(slices), sampler.indices(step))


def test_without_shuffling_samples_come_in_their_order():
    sampler = training.ResumableSampler(3, 2, shuffle=False)
    assert stream(sampler, 3).tolist() == [0, 1, 2, 0, 1, 2]


def test_epochs_are_counted_by_the_first_sample():
    sampler = training.ResumableSampler(5, 2)
    assert [sampler.epoch(step) for step in range(6)] == [0, 0, 0, 1, 1, 2]


def test_far_steps_cost_no_more_than_near_ones():
    sampler = training.ResumableSampler(7, 3)
    assert len(sampler.indices(10**12)) == 3
    assert len(sampler._orders) <= 2


def test_samplers_pickle_without_their_cache():
    sampler = training.ResumableSampler(9, 4, seed=5)
    sampler.indices(0)
    copy = pickle.loads(pickle.dumps(sampler))
    assert not copy._orders
    assert torch.equal(copy.indices(3), sampler.indices(3))


def test_sampled_gives_each_process_its_part_from_a_step_on():
    sampler = training.ResumableSampler(10, 4, seed=1)
    batches = training.Sampled(sampler, lambda indices: indices * 10, training.World(1, 2))
    stream_from_3 = batches(3)
    assert torch.equal(next(stream_from_3), sampler.indices(3)[2:] * 10)
    assert torch.equal(next(stream_from_3), sampler.indices(4)[2:] * 10)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, 1), ValueError, "`length` must be at least 1"),
        ((1, 0), ValueError, "`batch_size`"),
        ((2.0, 1), TypeError, "`length`"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        training.ResumableSampler(*arguments)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="`step`"):
        training.ResumableSampler(3, 1).indices(-1)
