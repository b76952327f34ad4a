import numpy as np
import pytest
import torch
from PIL import Image

from cvkit import pose


@pytest.mark.fault("HuangJunJie2017/UDP-Pose#12")
def test_dots_lie_on_the_joints_within_half_a_pixel():
    points = np.array([[20.3, 30.8], [41.0, 12.5]])
    skeleton = pose.Skeleton("s", ["a", "b"])
    drawn = pose.draw_pose(np.zeros((60, 60, 3)), points, skeleton, radius=3)
    for x, y in points:
        part = drawn[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9].sum(-1)
        rows, columns = np.mgrid[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
        assert abs((columns * part).sum() / part.sum() - x) < 0.1
        assert abs((rows * part).sum() / part.sum() - y) < 0.1


@pytest.mark.parametrize("kind", ["array", "pillow", "tensor", "float"])
def test_the_pictures_kind_comes_back_and_it_is_left_alone(kind):
    data = pose.stick_figures(1, size=(48, 64))
    image = {
        "array": data.images[0],
        "pillow": Image.fromarray(data.images[0]),
        "tensor": torch.from_numpy(data.images[0]).permute(2, 0, 1),
        "float": data.images[0].astype(np.float32) / 255,
    }[kind]
    before = np.asarray(image).copy()
    drawn = pose.draw_pose(image, torch.from_numpy(data.keypoints[0]), pose.STICK_FIGURE)
    assert type(drawn) is (Image.Image if kind == "pillow" else type(image))
    assert np.asarray(drawn).shape == before.shape
    assert np.asarray(drawn).dtype == before.dtype
    np.testing.assert_array_equal(np.asarray(image), before)
    assert (np.asarray(drawn) != before).any()


def test_what_is_unsure_or_missing_is_not_drawn():
    image, skeleton = np.zeros((40, 40, 3), np.uint8), pose.Skeleton("s", ["a", "b"], edges=[(0, 1)])
    points = np.array([[[10.0, 10.0], [30.0, 30.0]]])
    both = pose.draw_pose(image, points, skeleton)
    assert both[20, 20].any()
    one = pose.draw_pose(image, points, skeleton, scores=[[0.9, 0.2]], threshold=0.5)
    assert one[10, 10].any()
    assert not one[20, 20].any()
    assert not one[30, 30].any()
    gone = points.copy()
    gone[0, 0] = np.nan
    assert not pose.draw_pose(image, gone, skeleton)[10, 10].any()
    assert (pose.draw_pose(image, points[:0], skeleton) == image).all()
    several = pose.draw_pose(
        image, np.concatenate([points, points[..., ::-1] * [1, 0.5]]), skeleton, scores=np.ones((2, 2))
    )
    assert (several != both).any()


def test_sides_have_their_own_colours():
    colors = pose.joint_colors(pose.MPII)
    left, right = pose.MPII.index("left wrist"), pose.MPII.index("right wrist")
    assert colors[left][0] > colors[left][2]  # red
    assert colors[right][2] > colors[right][0]  # blue
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert len(pose.joint_colors(pose.HAND21)) == 21


def test_errors_are_named():
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="keypoints"):
        pose.draw_pose(image, np.zeros((3, 2)), pose.STICK_FIGURE)
    with pytest.raises(ValueError, match="scores"):
        pose.draw_pose(image, np.zeros((2, 11, 2)), pose.STICK_FIGURE, scores=np.zeros(11))
    with pytest.raises(TypeError, match="skeleton"):
        pose.draw_pose(image, np.zeros((11, 2)), "mpii")
    with pytest.raises(ValueError, match="opacity"):
        pose.draw_pose(image, np.zeros((11, 2)), pose.STICK_FIGURE, opacity=2)


def test_nothing_to_draw_still_gives_a_new_picture():
    picture = np.full((20, 30, 3), 7, np.uint8)
    for skeleton in (pose.STICK_FIGURE, pose.Skeleton("dots", ["a", "b"])):
        drawn = pose.draw_pose(picture, np.zeros((0, len(skeleton), 2)), skeleton)
        assert np.array_equal(drawn, picture)
        assert not np.shares_memory(drawn, picture)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0}, "`radius`"),
        ({"width": -1}, "`width`"),
        ({"scores": [1, 2]}, "`scores` must be"),
        ({"scores": [[1] * 11] * 2}, "`scores` must be"),
    ],
)
def test_wrong_options_of_drawing_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pose.draw_pose(np.zeros((20, 30, 3), np.uint8), np.zeros((11, 2)), pose.STICK_FIGURE, **options)
