import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit import geometry, pose


def test_finite_places_are_seen_and_nan_is_not():
    points = np.array([[[1, 2], [np.nan, 3]]])
    data = pose.LandmarkData(np.zeros((1, 8, 8, 3), np.uint8), points, skeleton=pose.Skeleton("s", ["a", "b"]))
    assert data.visibility.tolist() == [[2, 0]]
    given_ = pose.LandmarkData(np.zeros((1, 8, 8, 3), np.uint8), points, np.ones((1, 2), bool), skeleton=data.skeleton)
    assert given_.visibility.tolist() == [[1, 0]]


@given(st.floats(0, 1), st.integers(0, 5))
def test_split_keeps_every_picture_once(share, seed):
    data = pose.stick_figures(7, size=(16, 16))
    train, test = data.split(test=share, seed=seed)
    assert len(train) + len(test) == 7
    assert len(test) == int(share * 7 + 0.5)
    together = np.concatenate([train.keypoints, test.keypoints])
    np.testing.assert_array_equal(np.sort(together.ravel()), np.sort(data.keypoints.ravel()))
    again = data.split(test=share, seed=seed)[1]
    np.testing.assert_array_equal(again.keypoints, test.keypoints)


def test_indexing_by_slices_numbers_and_booleans(tmp_path):
    data = pose.stick_figures(5, size=(16, 16))
    for index in (slice(1, 4), [1, 2, 3], np.array([0, 1, 1, 1, 0], bool)):
        part = data[index]
        np.testing.assert_array_equal(part.keypoints, data.keypoints[1:4])
        np.testing.assert_array_equal(part.images, data.images[1:4])
    listed = pose.LandmarkData(
        list(data.images),
        data.keypoints,
        data.visibility,
        skeleton=data.skeleton,
        boxes=np.tile([0, 0, 16, 16], (5, 1)),
    )
    assert len(listed[[4]].images) == 1
    assert listed[[4]].boxes.shape == (1, 4)


def test_crops_carry_points_there_and_back(tmp_path):
    data = pose.stick_figures(3, size=(48, 64))
    paths = []
    for i, image in enumerate(data.images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    boxes = np.array([[5, 5, 40, 40]] * 3)
    for images in (paths, [Image.fromarray(i) for i in data.images], data.images):
        for box in (None, boxes):
            found = pose.LandmarkData(images, data.keypoints, data.visibility, skeleton=data.skeleton, boxes=box).crops(
                pose.Preprocess((32, 32))
            )
            assert found.images.shape == (3, 3, 32, 32)
            assert found.images.dtype == torch.uint8
            back = geometry.transform_points(found.to_photo.numpy(), found.keypoints.numpy().astype(float))
            np.testing.assert_allclose(back, data.keypoints, atol=1e-4)


def test_progress_and_empty_sets():
    seen = []
    data = pose.stick_figures(2, size=(16, 16))
    data.crops(pose.Preprocess((16, 16)), progress=seen.append)
    assert seen == [1, 2]
    assert data[[]].crops(pose.Preprocess((16, 16))).keypoints.shape == (0, 11, 2)


def test_fingerprint_tells_data_apart(tmp_path):
    data, other = (
        pose.stick_figures(2, size=(16, 16)),
        pose.stick_figures(2, size=(16, 16), rng=np.random.default_rng(1)),
    )
    assert data.fingerprint == pose.stick_figures(2, size=(16, 16)).fingerprint
    prints = [data.fingerprint, other.fingerprint, data[[0]].fingerprint]
    moved = pose.LandmarkData(data.images, data.keypoints + 1, data.visibility, skeleton=data.skeleton)
    painted = pose.LandmarkData(data.images + 1, data.keypoints, data.visibility, skeleton=data.skeleton)
    prints += [moved.fingerprint, painted.fingerprint]
    assert len({p["sha256"] for p in prints}) == len(prints)
    tensors = pose.LandmarkData(
        [torch.from_numpy(i) for i in data.images], data.keypoints, data.visibility, skeleton=data.skeleton
    )
    assert tensors.fingerprint == data.fingerprint
    named = pose.LandmarkData(["a/x.png", tmp_path / "y.png"], data.keypoints, data.visibility, skeleton=data.skeleton)
    assert named.fingerprint["count"] == 2


def test_errors_are_named():
    skeleton, images = pose.Skeleton("s", ["a", "b"]), np.zeros((2, 8, 8, 3), np.uint8)
    points = np.zeros((2, 2, 2))
    for changes, message in (
        ({"keypoints": points[:1]}, "keypoints"),
        ({"keypoints": np.zeros((2, 3, 2))}, "2 joints"),
        ({"visibility": np.zeros((2, 3))}, "visibility"),
        ({"boxes": np.zeros((1, 4))}, "boxes"),
    ):
        with pytest.raises(ValueError, match=message):
            pose.LandmarkData(**{"images": images, "keypoints": points, "skeleton": skeleton, **changes})
    with pytest.raises(TypeError, match="skeleton"):
        pose.LandmarkData(images, points, skeleton="mpii")
    with pytest.raises(ValueError, match="test"):
        pose.LandmarkData(images, points, skeleton=skeleton).split(test=2)


def test_a_single_index_is_refused_with_a_hint_and_tensors_with_a_graph_are_taken():
    data = pose.stick_figures(3, size=(20, 20))
    with pytest.raises(TypeError, match=r"data\[\[0\]\]; got 0"):
        data[0]
    points = torch.zeros(3, 11, 2, requires_grad=True)
    assert pose.LandmarkData(data.images, points, skeleton=data.skeleton).keypoints.shape == (3, 11, 2)
