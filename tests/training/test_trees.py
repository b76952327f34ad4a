from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.training.trees import pack, unpack

TENSORS = st.lists(st.integers(0, 3), max_size=3).map(lambda shape: torch.arange(math.prod(shape)).reshape(shape))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5) | TENSORS
KEYS = st.text(max_size=4) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


@given(TREES)
def test_a_tree_comes_back_through_json(tree):
    document, tensors = pack(tree, "tree")
    text = json.dumps(document, allow_nan=False)
    assert same(unpack(json.loads(text), tensors), tree)


def test_two_tensors_of_one_path_do_not_collide():
    tree = {"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)}
    document, tensors = pack(tree, "tree")
    assert same(unpack(document, tensors), tree)


def test_the_optimiser_state_of_torch_comes_back():
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(layer.parameters(), betas=(0.0, 0.9), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    document, tensors = pack(state, "adam")
    assert same(unpack(json.loads(json.dumps(document)), tensors), state)
    assert "state.0.exp_avg" in tensors


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, 1j])
def test_other_values_are_refused_by_place(value):
    with pytest.raises(TypeError, match=r"schedule: `a\.1` is a \w+"):
        pack({"a": [0, value]}, "schedule")


@pytest.mark.parametrize(
    "document", [{"$pairs": 3}, {"$pairs": [[1]]}, {"$pairs": [1, 2]}, {"$float": "x"}, {"$bytes": "zz"}]
)
def test_damaged_documents_are_refused(document):
    with pytest.raises(ValueError, match=r"damaged|convert|non-hexadecimal"):
        unpack(document, {})


def test_a_missing_tensor_is_a_key_error():
    with pytest.raises(KeyError):
        unpack({"$tensor": "a"}, {})
