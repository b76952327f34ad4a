import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import STICK_FIGURE, stick_figures


@given(st.integers(0, 3), st.integers(16, 70), st.integers(16, 70))
def test_shapes_dtypes_and_labels(count, height, width):
    data = stick_figures(count, size=(height, width))
    assert data.images.shape == (count, height, width, 3)
    assert data.images.dtype == np.uint8
    inside = ((data.keypoints >= -0.5) & (data.keypoints < np.array([width, height]) - 0.5)).all(-1)
    assert ((data.visibility > 0) == inside).all()
    assert set(np.unique(data.visibility)) <= {0, 1, 2}


def test_same_seed_same_bytes_and_the_generator_advances():
    first, second = stick_figures(3), stick_figures(3)
    assert first.images.tobytes() == second.images.tobytes()
    rng = np.random.default_rng(5)
    assert stick_figures(2, rng=rng).images.tobytes() != stick_figures(2, rng=rng).images.tobytes()


def test_joints_lie_on_the_figure():
    data = stick_figures(60, size=(96, 96), occluders=0, clutter=0, rng=np.random.default_rng(1))
    hits = []
    for image, points, seen in zip(data.images.astype(float), data.keypoints, data.visibility, strict=True):
        ground = np.median(image.reshape(-1, 3), axis=0)
        for name, (x, y), v in zip(STICK_FIGURE.joints, points, seen, strict=True):
            if v and name != "head":  # a head may be a ring
                hits.append(np.abs(image[round(float(y)), round(float(x))] - ground).sum() > 60)
    assert np.mean(hits) > 0.97


def test_occluders_hide_joints_and_left_is_on_the_viewers_right_on_average():
    data = stick_figures(200, occluders=1.0)
    assert 0.05 < (data.visibility == 1).mean() < 0.3
    assert (stick_figures(50, occluders=0).visibility != 1).all()
    left, right = (data.keypoints[:, STICK_FIGURE.index(f"{side} hand"), 0] for side in ("left", "right"))
    assert (left > right).mean() > 0.8


def test_pictures_vary():
    data = stick_figures(20)
    assert len({image.tobytes() for image in data.images}) == 20
    assert data.keypoints.std(0).min() > 4


def test_errors_are_named():
    with pytest.raises(ValueError, match="size"):
        stick_figures(1, size=(8, 64))
    with pytest.raises(ValueError, match="occluders"):
        stick_figures(1, occluders=2)
    with pytest.raises(ValueError, match="count"):
        stick_figures(-1)
    with pytest.raises(ValueError, match="clutter"):
        stick_figures(1, clutter=-1)
