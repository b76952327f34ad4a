from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan.datasets import ImageSet
from cvkit.gan.datasets import quickdraw as q


def make(n=10, classes=3, **known):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 5, 7), dtype=np.uint8)
    return ImageSet(images, np.arange(n) % classes, [f"c{i}" for i in range(classes)], **known)


def test_rows_of_everything_known_go_together():
    strokes = q.StrokeSet.of([[np.full((2, 2), i)] for i in range(10)])
    data = make(recognized=np.arange(10) % 2 == 0, strokes=strokes, rows=np.arange(10) + 100)
    part = data[np.array([7, 2, 2])]
    assert part.images.tobytes() == data.images[[7, 2, 2]].tobytes()
    assert part.labels.tolist() == [1, 2, 2]
    assert part.recognized.tolist() == [False, True, True]
    assert part.rows.tolist() == [107, 102, 102]
    assert [s[0][0, 0] for s in part.strokes] == [7, 2, 2]


@pytest.mark.parametrize(
    ("index", "rows"), [(3, [3]), (-1, [9]), (slice(1, 8, 3), [1, 4, 7]), ([], []), ([True] * 2 + [False] * 8, [0, 1])]
)
def test_every_index_gives_a_set(index, rows):
    data = make()
    assert data[index].images.tolist() == data.images[rows].tolist()


@pytest.mark.parametrize("index", [10, -11, [0.5], [[0]], ["a"], [True]])
def test_a_wrong_index_is_an_index_error(index):
    with pytest.raises(IndexError):
        make()[index]


def test_iteration_ends():
    assert sum(len(row) for row in make()) == 10


def test_tensors_come_in():
    data = ImageSet(torch.zeros(2, 1, 8, 9, dtype=torch.uint8), torch.tensor([0, 1]), ["a", "b"])
    assert isinstance(data.images, np.ndarray)
    assert data.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"images": np.zeros((2, 3, 3))}, TypeError, "images"),
        ({"images": np.zeros((2, 9), np.uint8)}, ValueError, "shape"),
        ({"labels": np.zeros(2)}, TypeError, "labels"),
        ({"labels": np.zeros(3, int)}, ValueError, r"\(2,\)"),
        ({"labels": np.array([0, 2])}, ValueError, "got 2 at row 1"),
        ({"labels": np.array([-1, 0])}, ValueError, "got -1 at row 0"),
        ({"names": ["a", "a"]}, ValueError, "differ"),
        ({"rows": np.arange(3)}, ValueError, "rows"),
        ({"recognized": np.ones(1, bool)}, ValueError, "recognized"),
    ],
)
def test_bad_parts_are_named(change, error, says):
    good = {"images": np.zeros((2, 3, 3), np.uint8), "labels": np.array([0, 1]), "names": ["a", "b"]}
    with pytest.raises(error, match=says):
        ImageSet(**(good | change))


@given(st.integers(0, 60), st.integers(1, 4), st.floats(0, 1), st.integers(0, 5))
def test_a_split_is_a_partition_in_proportion(n, classes, share, seed):
    data = make(n, classes, rows=np.arange(n))
    train, test = data.split(test=share, seed=seed)
    assert sorted([*train.rows, *test.rows]) == list(range(n))
    assert test.counts.tolist() == [int(c * share + 0.5) for c in data.counts]
    again = data.split(test=share, seed=seed)
    assert again.test.rows.tolist() == test.rows.tolist()
    assert (np.diff(train.rows) > 0).all()


def test_another_seed_splits_otherwise():
    data = make(60, 2, rows=np.arange(60))
    assert data.split(0.5, seed=0).test.rows.tolist() != data.split(0.5, seed=1).test.rows.tolist()


def test_select_renumbers_in_the_order_given():
    data = make(9, 3, rows=np.arange(9))
    part = data.select(["c2", "c0"])
    assert part.names == ("c2", "c0")
    assert part.rows.tolist() == [0, 2, 3, 5, 6, 8]
    assert part.labels.tolist() == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(("classes", "error"), [("c0", TypeError), (["dog"], ValueError), (["c0", "c0"], ValueError)])
def test_select_refuses_unknown_and_double_names(classes, error):
    with pytest.raises(error, match="classes"):
        make().select(classes)


def test_concatenate_joins_classes_by_name_and_drops_what_is_not_known_of_all():
    a, b = make(4, 2, rows=np.arange(4)), make(3, 3)
    both = ImageSet.concatenate([a, b])
    assert both.names == ("c0", "c1", "c2")
    assert both.labels.tolist() == [0, 1, 0, 1, 0, 1, 2]
    assert both.rows is None
    assert ImageSet.concatenate([a, a]).rows.tolist() == [0, 1, 2, 3] * 2


def test_concatenate_refuses_nothing_and_different_shapes():
    with pytest.raises(ValueError, match="at least one"):
        ImageSet.concatenate([])
    other = ImageSet(np.zeros((1, 4, 4), np.uint8), np.array([0]), ["a"])
    with pytest.raises(ValueError, match="one shape"):
        ImageSet.concatenate([make(), other])
