import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import pose
from cvkit.pose.augment import Draws

NOTHING = pose.Augmentation(rotation=0, rotation_share=0, scale=0, translation=0, flip=0, color=0)
MOVES = {
    "rotation": {"rotation": 40.0, "rotation_share": 1.0},
    "scale": {"scale": 0.3},
    "translation": {"translation": 0.15},
    "flip": {"flip": 1.0},
    "half_body": {"half_body": 1.0},
    "color": {"color": 0.4},
    "brightness": {"brightness": 0.2},
    "occlusion": {"occlusion": 1.0, "occluder": 0.4},
    "all": {
        "rotation": 30.0,
        "rotation_share": 0.7,
        "scale": 0.2,
        "translation": 0.1,
        "flip": 0.5,
        "half_body": 0.3,
        "color": 0.3,
        "brightness": 0.1,
        "occlusion": 0.5,
    },
}
SIZE = (96, 128)


def only(**options):
    return pose.Augmentation(
        **{"rotation": 0, "rotation_share": 0, "scale": 0, "translation": 0, "flip": 0, "color": 0, **options}
    )


def dots(points, size=SIZE, sigma=1.2):
    """One picture a joint, dark but for a soft dot where the joint is."""
    x, y = torch.arange(size[1]), torch.arange(size[0])[:, None]
    d = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return 0.5 * torch.exp(-d / (2 * sigma**2))[:, None].expand(-1, 3, -1, -1)


def centroid(heat):
    x, y = torch.arange(heat.shape[-1]), torch.arange(heat.shape[-2])
    return torch.stack(((heat.sum(-2) * x).sum(-1), (heat.sum(-1) * y).sum(-1)), -1) / heat.sum((-2, -1))[..., None]


def room(place, boxes):
    """How far places are from the border and from the nearest occluder."""
    scale = torch.tensor([SIZE[1], SIZE[0]])
    border = torch.minimum(place, scale - 1 - place).amin(-1)
    apart = (place[:, None] - boxes[..., :2] * scale).abs() - boxes[..., 2:] * scale / 2
    covered = torch.where((boxes[..., 2:] > 0).all(-1), apart.amax(-1), torch.inf)
    return torch.minimum(border, covered.amin(-1))


@pytest.mark.fault("bearpaw/pytorch-pose#115")
@pytest.mark.parametrize("move", MOVES, ids=str)
@given(seed=st.integers(0, 10**6))
def test_picture_and_points_agree_on_a_bright_dot(move, seed):
    generator = torch.Generator().manual_seed(seed)
    # Eleven pictures of the same figure, each with a dot at one of its joints.
    figure = torch.tensor([44.0, 28.0]) + torch.rand(11, 2, generator=generator) * torch.tensor([40.0, 40.0])
    keypoints, visibility = figure.expand(11, 11, 2), torch.full((11, 11), 2)
    augmentation = only(**MOVES[move])
    one = augmentation.draw(1, generator)
    draws = Draws(*(value.expand(11, *value.shape[1:]) for value in one))
    moved = augmentation.apply(dots(figure), keypoints, visibility, draws, skeleton=pose.STICK_FIGURE)
    empty = augmentation.apply(torch.zeros(11, 3, *SIZE), keypoints, visibility, draws, skeleton=pose.STICK_FIGURE)
    joint = torch.arange(11)
    if bool(draws.flipped[0]):
        joint = torch.tensor(pose.STICK_FIGURE.flip)
    place = moved.keypoints[torch.arange(11), joint]
    zoom = torch.pdist(moved.keypoints[0]).max() / torch.pdist(figure).max()
    whole = room(place, draws.boxes) > 4.5 * max(1.2 * float(zoom), 1)
    # What is brighter than without the dot is the dot, all of it: nothing here knows where it should be.
    found = centroid(moved.images - empty.images)
    if bool(whole.any()):
        assert (found - place[:, None])[whole].abs().max() < 0.1
    if move in {"flip", "color", "brightness", "translation"}:
        assert whole.sum() >= 6  # the comparison took place


def test_nothing_changes_nothing():
    images, keypoints, visibility = torch.rand(2, 3, 9, 7), torch.rand(2, 4, 2) * 6, torch.tensor([[0, 1, 2, 2]] * 2)
    found = NOTHING(images, keypoints, visibility)
    torch.testing.assert_close(found.images, images)
    torch.testing.assert_close(found.keypoints, keypoints)
    assert torch.equal(found.visibility, visibility)


@pytest.mark.fault("bearpaw/pytorch-pose#34")
@pytest.mark.fault("roboflow/rf-detr#1358")
def test_flip_is_exact_and_trades_joints():
    images = torch.rand(1, 3, 8, 10)
    keypoints = torch.arange(22.0).reshape(1, 11, 2) % 8
    visibility = torch.arange(11)[None] % 3
    found = only(flip=1.0)(images, keypoints, visibility, skeleton=pose.STICK_FIGURE)
    order = list(pose.STICK_FIGURE.flip)
    torch.testing.assert_close(found.images, images.flip(-1))
    torch.testing.assert_close(found.keypoints[..., 0], 9 - keypoints[:, order, 0])  # W - 1 - x
    torch.testing.assert_close(found.keypoints[..., 1], keypoints[:, order, 1])
    assert torch.equal(found.visibility, visibility[:, order])
    again = only(flip=1.0)(found.images, found.keypoints, found.visibility, skeleton=pose.STICK_FIGURE)
    torch.testing.assert_close(again.keypoints, keypoints)
    assert torch.equal(again.visibility, visibility)


def test_unlabelled_joints_stay_unlabelled_and_lost_ones_become_so():
    keypoints = torch.tensor([[[float("nan"), 3.0], [1.0, 5.0], [30.0, 5.0]]])
    found = only(translation=0.9)(
        torch.rand(1, 3, 32, 32), keypoints, torch.tensor([[0, 2, 2]]), generator=torch.Generator().manual_seed(1)
    )
    inside = ((found.keypoints >= -0.5) & (found.keypoints < 31.5)).all(-1)
    assert torch.equal(found.visibility > 0, inside)
    assert not inside.all()


def test_half_body_shows_one_half_larger():
    data = pose.stick_figures(40, size=(96, 96), occluders=0)
    keypoints, visibility = torch.from_numpy(data.keypoints), torch.from_numpy(data.visibility)
    augmentation = only(half_body=1.0)
    draws = augmentation.draw(40, torch.Generator().manual_seed(0))
    assert set(draws.half.tolist()) == {1, 2}
    found = augmentation.apply(torch.rand(40, 3, 96, 96), keypoints, visibility, draws, skeleton=pose.STICK_FIGURE)
    whole = 0
    for i, half in enumerate(draws.half.tolist()):
        part = list(pose.STICK_FIGURE.groups["upper" if half == 1 else "lower"])
        before, after = keypoints[i, part], found.keypoints[i, part]
        if (visibility[i, part] > 0).all():
            whole += 1
            assert ((after > 0) & (after < 95)).all()  # all of the half is there
            extent = (before.amax(0) - before.amin(0)).amax()
            wanted = torch.clamp(4 * extent, max=64.0)  # two thirds of the picture, unless that is more than fourfold
            torch.testing.assert_close((after.amax(0) - after.amin(0)).amax(), wanted)
            middle = (after.amax(0) + after.amin(0)) / 2
            torch.testing.assert_close(middle, torch.full((2,), 47.5), rtol=0, atol=1e-3)
    assert whole > 20


def test_half_body_needs_three_labelled_joints():
    keypoints, visibility = torch.rand(1, 11, 2) * 30, torch.zeros(1, 11)
    visibility[0, :2] = 2
    images = torch.rand(1, 3, 32, 32)
    found = only(half_body=1.0)(images, keypoints, visibility, skeleton=pose.STICK_FIGURE)
    torch.testing.assert_close(found.images, images)


def test_color_and_brightness_stay_in_range_and_move_no_point():
    images, keypoints = torch.rand(4, 3, 8, 8), torch.rand(4, 2, 2) * 7
    found = only(color=0.5, brightness=0.3)(images, keypoints, torch.full((4, 2), 2))
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert (found.images - images).abs().max() > 0.05
    torch.testing.assert_close(found.keypoints, keypoints)
    grey = only(color=0.5)(images[:, :1], keypoints, torch.full((4, 2), 2))
    assert grey.images.shape == (4, 1, 8, 8)


def test_occlusion_covers_and_hides():
    keypoints = torch.rand(50, 5, 2, generator=torch.Generator().manual_seed(0)) * 31
    images = torch.zeros(50, 3, 32, 32)
    found = only(occlusion=1.0, occluder=0.9)(
        images, keypoints, torch.full((50, 5), 2), generator=torch.Generator().manual_seed(2)
    )
    hidden = found.visibility == 1
    assert 0.05 < hidden.float().mean() < 0.6
    assert (found.visibility > 0).all()
    x, y = keypoints.round().long().unbind(-1)
    painted = found.images.amax(1)[torch.arange(50)[:, None], y.clamp(0, 31), x.clamp(0, 31)] > 0
    assert (painted == hidden).float().mean() > 0.95
    assert torch.equal(only(occlusion=0.0)(images, keypoints, torch.full((50, 5), 2)).images, images)


def test_same_seed_same_bytes_and_parts_agree_with_the_whole():
    images, keypoints, visibility = torch.rand(6, 3, 16, 16), torch.rand(6, 11, 2) * 15, torch.full((6, 11), 2)
    augmentation = pose.Augmentation(half_body=0.3, occlusion=0.5)
    state = torch.get_rng_state()
    first, second = (
        augmentation(
            images, keypoints, visibility, skeleton=pose.STICK_FIGURE, generator=torch.Generator().manual_seed(4)
        )
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    draws = augmentation.draw(6, torch.Generator().manual_seed(4))
    part = augmentation.apply(
        images[3:], keypoints[3:], visibility[3:], Draws(*(v[3:] for v in draws)), skeleton=pose.STICK_FIGURE
    )
    for a, b in zip(part, first, strict=True):
        torch.testing.assert_close(a, b[3:])


def test_draws_have_the_said_ranges():
    draws = pose.Augmentation(
        rotation=20, rotation_share=1, scale=0.2, translation=0.1, flip=0.5, half_body=0.5, color=0.3
    ).draw(2000)
    assert draws.degrees.abs().max() <= 40
    assert 15 < float(draws.degrees.std()) < 20
    assert 0.8 <= draws.scale.min() <= draws.scale.max() <= 1.2
    assert draws.shift.abs().max() <= 0.1
    assert 0.45 < draws.flipped.float().mean() < 0.55
    assert 0.45 < (draws.half > 0).float().mean() < 0.55
    assert 0.7 <= draws.color.min() <= draws.color.max() <= 1.3


def test_uses_no_loop_over_pictures_or_joints():
    from torch.profiler import profile

    def calls(count, skeleton=pose.STICK_FIGURE):
        joints = len(skeleton)
        images, keypoints = torch.rand(count, 3, 12, 12), torch.rand(count, joints, 2) * 11
        with profile() as recorded:
            pose.Augmentation(half_body=0.5, occlusion=0.5)(
                images, keypoints, torch.full((count, joints), 2), skeleton=skeleton
            )
        return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))

    calls(1)
    assert calls(2) == calls(7) == calls(3, pose.MPII) == calls(3, pose.COCO17)


def test_errors_are_named():
    images, keypoints, visibility = torch.rand(2, 3, 8, 8), torch.rand(2, 11, 2), torch.ones(2, 11)
    augmentation = pose.Augmentation()
    with pytest.raises(TypeError, match="skeleton"):
        augmentation(images, keypoints, visibility)
    with pytest.raises(ValueError, match="11 joints"):
        augmentation(images, keypoints, visibility, skeleton=pose.MPII)
    with pytest.raises(ValueError, match="left and right"):
        augmentation(images, keypoints, visibility, skeleton=pose.Skeleton("s", pose.STICK_FIGURE.joints))
    with pytest.raises(ValueError, match="upper"):
        only(half_body=1.0)(images, keypoints, visibility, skeleton=pose.Skeleton("s", [f"{i}" for i in range(11)]))
    with pytest.raises(ValueError, match="images"):
        augmentation((images * 255).byte(), keypoints, visibility, skeleton=pose.STICK_FIGURE)
    with pytest.raises(TypeError, match="images"):
        augmentation(images.numpy(), keypoints, visibility, skeleton=pose.STICK_FIGURE)
    with pytest.raises(ValueError, match="keypoints"):
        augmentation(images, keypoints[:1], visibility, skeleton=pose.STICK_FIGURE)
    with pytest.raises(ValueError, match="visibility"):
        augmentation(images, keypoints, visibility[:, 1:], skeleton=pose.STICK_FIGURE)
    for name in ("rotation", "scale", "flip", "occluder"):
        with pytest.raises(ValueError, match=name):
            pose.Augmentation(**{name: -1})
    assert np.isfinite(augmentation.rotation)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pictures_keep_their_dtype(dtype):
    images = torch.rand(2, 3, 20, 24).to(dtype)
    moved = only(color=0.3, occlusion=1.0)(images, torch.rand(2, 11, 2) * 18, torch.full((2, 11), 2))
    assert moved.images.dtype == dtype


def test_whole_number_places_are_not_cut_to_whole_pixels():
    images, keypoints, visibility = torch.rand(2, 3, 20, 24), torch.arange(44).reshape(2, 11, 2) % 19, torch.ones(2, 11)
    augmentation = pose.Augmentation()
    found = augmentation(images, keypoints, visibility, skeleton=pose.STICK_FIGURE)
    wanted = augmentation(images, keypoints.float(), visibility, skeleton=pose.STICK_FIGURE)
    assert found.keypoints.dtype == torch.float32
    assert torch.equal(found.keypoints, wanted.keypoints)


def test_mirroring_drawn_elsewhere_is_left_out_where_joints_could_not_trade_places():
    images, keypoints, visibility = torch.rand(2, 3, 20, 24), torch.rand(2, 11, 2) * 18, torch.ones(2, 11)
    draws = only(flip=1.0).draw(2)
    found = NOTHING.apply(images, keypoints, visibility, draws)
    torch.testing.assert_close(found.keypoints, keypoints)
    torch.testing.assert_close(found.images, images)


def test_draws_need_one_row_a_picture_and_parts_must_be_tensors():
    images, keypoints, visibility = torch.rand(2, 3, 8, 8), torch.rand(2, 11, 2), torch.ones(2, 11)
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"`draws` must have one row a picture, 2; got {count}"):
            NOTHING.apply(images, keypoints, visibility, NOTHING.draw(count))
    with pytest.raises(TypeError, match="`keypoints` must be a tensor"):
        NOTHING(images, keypoints.numpy(), visibility)
    with pytest.raises(TypeError, match="`visibility` must be a tensor"):
        NOTHING(images, keypoints, visibility.tolist())
