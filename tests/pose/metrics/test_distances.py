import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import reference_length
from cvkit.pose.metrics.distances import distances


def test_every_kind_by_hand():
    face = np.zeros((1, 68, 2))
    face[0, 36], face[0, 45] = (0, 0), (30, 40)
    assert reference_length("interocular", face).tolist() == [50]
    face[0, 36:42], face[0, 42:48] = (10, 10), (13, 14)
    assert reference_length("interpupil", face).tolist() == [5]
    wflw = np.zeros((1, 98, 2))
    wflw[0, 72], wflw[0, 97] = (3, 4), (6, 8)
    assert reference_length("interocular", wflw).tolist() == [5]
    assert reference_length("interpupil", wflw).tolist() == [10]
    body = np.zeros((1, 16, 2))
    body[0, 13] = (5, 12)  # left shoulder; right hip at the origin
    assert reference_length("torso", body).tolist() == [13]
    points = np.array([[[0, 0], [4, 9], [2, 3]]], float)
    assert reference_length("box", points).tolist() == [6]
    assert reference_length("box_max", points).tolist() == [9]
    assert reference_length("box", points, boxes=[[0, 0, 16, 4]]).tolist() == [8]
    assert reference_length("head", points, boxes=[[0, 0, 3, 4]]).tolist() == [3]


def test_unlabelled_joints_give_nan_or_leave_the_box():
    face = np.random.default_rng(0).normal(size=(2, 68, 2))
    seen = np.ones((2, 68))
    seen[1, 36] = 0
    assert np.isnan(reference_length("interocular", face, seen)).tolist() == [False, True]
    points = np.array([[[0, 0], [4, 9], [99, 99]]], float)
    assert reference_length("box", points, [[1, 1, 0]]).tolist() == [6]
    assert np.isnan(reference_length("box_max", points, [[0, 0, 0]])).all()


def test_errors_are_named():
    with pytest.raises(ValueError, match="kind"):
        reference_length("nose", np.zeros((1, 68, 2)))
    with pytest.raises(ValueError, match="5"):
        reference_length("interocular", np.zeros((1, 5, 2)))
    with pytest.raises(ValueError, match="boxes"):
        reference_length("head", np.zeros((1, 16, 2)))
    with pytest.raises(ValueError, match="boxes"):
        reference_length("box", np.zeros((1, 16, 2)), boxes=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="keypoints"):
        reference_length("box", np.zeros((16, 2)))
    with pytest.raises(ValueError, match="predicted"):
        distances(np.zeros((1, 3, 2)), np.zeros((1, 2, 2)), None)
    with pytest.raises(ValueError, match="visibility"):
        distances(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="normalizer"):
        distances(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), None, 0.0)


@given(st.integers(0, 10**6))
def test_arrays_tensors_and_lists_alike(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 2))
    predicted.flags.writeable = labels.flags.writeable = False
    expected, _ = distances(predicted, labels, None, 2.0)
    for kind in (lambda a: torch.tensor(a, requires_grad=True), lambda a: a.tolist()):
        np.testing.assert_array_equal(distances(kind(predicted), kind(labels), None, 2.0)[0], expected)
    half, _ = distances(torch.tensor(predicted, dtype=torch.bfloat16), labels, None)
    assert half.dtype == np.float64


def test_missing_predictions_are_infinitely_far_and_missing_labels_do_not_count():
    apart, known = distances([[[np.nan, 0], [1, 1]]], [[[0, 0], [np.nan, 1.0]]], None)
    assert apart[0, 0] == np.inf
    assert known.tolist() == [[True, False]]


def test_boxes_turned_around_are_refused_and_no_joints_have_no_length():
    with pytest.raises(ValueError, match="left <= right"):
        reference_length("box", np.zeros((1, 5, 2)), boxes=[[10, 10, 0, 20]])
    assert np.isnan(reference_length("box", np.zeros((2, 0, 2)))).all()
