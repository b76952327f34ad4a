from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import training
from strategies import SEEDS


@given(SEEDS, st.integers(1, 9), st.integers(0, 6))
def test_batches_hold_the_asked_samples_in_order(seed, length, size):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (length, 3, 2), dtype=np.uint8)
    labels = torch.arange(length)
    data = training.InMemory({"images": images, "labels": labels})
    indices = torch.from_numpy(rng.integers(0, length, size))
    batch = data(indices)
    assert len(data) == length
    assert batch["images"].dtype == torch.uint8
    assert np.array_equal(batch["images"].numpy(), images[indices.numpy()])
    assert torch.equal(batch["labels"], indices)


def test_read_only_and_non_contiguous_arrays_are_fine():
    images = np.arange(24, dtype=np.uint8).reshape(4, 6)
    images.flags.writeable = False
    data = training.InMemory({"a": images, "b": images[:, ::-1], "c": images[::-1]})
    batch = data(torch.tensor([1]))
    assert batch["a"].tolist() == [[6, 7, 8, 9, 10, 11]]
    assert batch["b"].tolist() == [[11, 10, 9, 8, 7, 6]]
    assert batch["c"].tolist() == [[12, 13, 14, 15, 16, 17]]


def test_batches_are_copies():
    held = torch.zeros(3)
    data = training.InMemory({"x": held})
    data(torch.tensor([0]))["x"].fill_(5)
    assert held.tolist() == [0, 0, 0]


def test_sets_pickle():
    data = pickle.loads(pickle.dumps(training.InMemory({"x": torch.arange(3)})))
    assert data(torch.tensor([2]))["x"].tolist() == [2]


@pytest.mark.parametrize("tensors", [{}, {"a": torch.zeros(2), "b": torch.zeros(3)}])
def test_lengths_must_agree(tensors):
    with pytest.raises(ValueError, match="one common length"):
        training.InMemory(tensors)


def test_the_share_of_memory_is_checked():
    with pytest.raises(ValueError, match="`share`"):
        training.InMemory({"a": torch.zeros(1)}, share=2)
