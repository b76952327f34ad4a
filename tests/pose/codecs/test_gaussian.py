import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cvkit.pose import GaussianCodec, UDPCodec
from reference import pose_heatmaps

SIZES = st.sampled_from([((256, 256), (64, 64)), ((256, 192), (64, 48)), ((100, 60), (25, 15)), ((90, 130), (30, 26))])


@pytest.mark.fault("princeton-vl/pose-hg-train#33")
@pytest.mark.fault("1adrianb/face-alignment#141")
@given(sizes=SIZES, u=st.floats(0, 1), v=st.floats(0, 1), decoder=st.sampled_from(["taylor", "fit"]))
@example(((256, 256), (64, 64)), 0.0, 0.0, "taylor")
@example(((256, 192), (64, 48)), 1.0, 1.0, "taylor")
@example(((256, 192), (64, 48)), 0.0, 1.0, "fit")
def test_round_trip_within_a_ten_thousandth_of_a_pixel_over_the_whole_map(sizes, u, v, decoder):
    (height, width), _ = sizes
    codec = GaussianCodec(*sizes, decoder=decoder)
    point = torch.tensor([[[-0.45 + u * (width - 0.1), -0.45 + v * (height - 0.1)]]])
    heatmaps = codec.encode(point).heatmaps
    assert (codec.decode(heatmaps).keypoints - point).abs().max() <= 1e-4
    if sizes[0] == (256, 192):  # the stride of 4 that the bar is set for
        assert (codec.decode(heatmaps.half()).keypoints - point).abs().max() <= 1e-2


@given(seed=st.integers(0, 10**6), sigma=st.floats(0.5, 3))
def test_encoding_agrees_with_the_slow_form(seed, sigma):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-6, 30, (2, 3, 2))
    points[0, 0, rng.integers(2)] = np.nan
    seen = rng.integers(0, 3, (2, 3))
    codec = GaussianCodec((24, 20), (6, 7), sigma)
    found = codec.encode(points, seen)
    maps, weights = pose_heatmaps.encode(points, seen, (24, 20), (6, 7), sigma)
    np.testing.assert_allclose(found.heatmaps.numpy(), maps, rtol=1e-12, atol=2e-18)
    np.testing.assert_array_equal(found.weights.numpy(), weights)


@pytest.mark.fault("ilovepose/DarkPose#14")
def test_a_joint_off_the_picture_leaves_nothing_on_the_map():
    targets = GaussianCodec((64, 64), (16, 16)).encode(torch.tensor([[[-0.9, 20.0], [63.6, 20.0]]]))
    assert targets.weights.sum() == 0
    assert targets.heatmaps.abs().sum() == 0


def test_neighbouring_places_have_different_maps():
    codec = GaussianCodec((64, 64), (16, 16))
    first, second = (codec.encode(torch.tensor([[[20.0 + d, 20.0]]])).heatmaps for d in (0.0, 0.01))
    assert not torch.equal(first, second)


def test_no_denormal_numbers():
    heatmaps = GaussianCodec((256, 256), (64, 64), sigma=1.0).encode(torch.tensor([[[3.0, 250.0]]])).heatmaps
    tiny = torch.finfo(torch.float32).tiny
    assert ((heatmaps == 0) | (heatmaps > tiny)).all()


def test_scores_are_the_heights():
    codec = GaussianCodec((64, 64), (16, 16))
    heatmaps = codec.encode(torch.tensor([[[21.5, 21.5]]])).heatmaps
    assert codec.decode(0.25 * heatmaps).scores.tolist() == [[0.25]]


def test_encoding_makes_no_loop_over_joints_or_images():
    from torch.profiler import profile

    def calls(count, codec):
        points = torch.rand(count, count, 2) * 60
        with profile() as recorded:
            codec.encode(points)
        return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))

    for codec in (GaussianCodec((64, 64), (16, 16)), UDPCodec((64, 64), (16, 16))):
        calls(1, codec)
        assert calls(2, codec) == calls(9, codec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.2}, "sigma"),
        ({"decoder": "x"}, "decoder"),
        ({"heatmap_size": (4,)}, "heatmap_size"),
        ({"input_size": (0, 4)}, "input_size"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianCodec(**{"input_size": (8, 8), "heatmap_size": (4, 4), **options})


@pytest.mark.fault("open-mmlab/mmpose#994")
@given(sizes=SIZES, u=st.floats(0, 1), v=st.floats(0, 1))
@example(((256, 256), (64, 64)), 1.0, 1.0)
@example(((256, 192), (64, 48)), 0.0, 0.0)
def test_udp_round_trip_uses_one_scale_both_ways(sizes, u, v):
    (height, width), _ = sizes
    codec = UDPCodec(*sizes)
    point = torch.tensor([[[-0.45 + u * (width - 0.1), -0.45 + v * (height - 0.1)]]])
    maps = codec.encode(point).heatmaps
    assert (codec.decode(maps).keypoints - point).abs().max() <= 1e-4
    assert (codec.decode(maps.half()).keypoints - point).abs().max() <= 1e-2


def test_udp_under_noise():
    generator = torch.Generator().manual_seed(0)
    codec = UDPCodec((256, 192), (64, 48))
    points = torch.rand(60, 16, 2, generator=generator) * torch.tensor([191.0, 255.0])
    maps = codec.encode(points).heatmaps
    error = (codec.decode(maps + 0.01 * torch.randn(maps.shape, generator=generator)).keypoints - points).norm(dim=-1)
    assert error.mean() < 0.08


def test_udp_channels_are_disc_and_two_offsets():
    targets = UDPCodec((65, 65), (17, 17), radius=2.0).encode(
        torch.tensor([[[30.0, 34.0], [0.0, 0.0]]]), torch.tensor([[1, 0]])
    )
    disc, dx, dy = targets.heatmaps[0, :3]
    assert targets.heatmaps[0, 3:].abs().sum() == 0
    assert disc[8, 7] == 1
    assert dx[8, 7] == pytest.approx((7.5 - 7) / 2)
    assert dy[8, 7] == pytest.approx((8.5 - 8) / 2)
    assert set(disc.unique().tolist()) == {0.0, 1.0}


def test_udp_loss_asks_for_offsets_inside_the_disc_alone():
    codec = UDPCodec((64, 64), (16, 16))
    targets = codec.encode(torch.tensor([[[30.0, 30.0]]]))
    assert codec.loss(targets.heatmaps, targets) == 0
    outside, inside = targets.heatmaps.clone(), targets.heatmaps.clone()
    outside[0, 1, 0, 0] = 5
    inside[0, 1, 7, 7] += 1
    assert codec.loss(outside, targets) == 0
    assert codec.loss(inside, targets) == pytest.approx(1 / float(targets.heatmaps[0, 0].sum()))
    with pytest.raises(ValueError, match="3 channels"):
        codec.decode(torch.rand(1, 4, 16, 16))


def test_udp_marks_the_nearest_pixel_of_maps_finer_than_the_picture():
    codec = UDPCodec((16, 12), (32, 24), radius=1.0)
    corners = torch.tensor([[[-0.5, -0.5], [11.49, 15.49], [-0.5, 15.49], [5.3, 7.7]]])
    targets = codec.encode(corners)
    assert (targets.heatmaps[:, ::3].sum((-2, -1)) >= 1).all()
    torch.testing.assert_close(codec.decode(targets.heatmaps).keypoints, corners, rtol=0, atol=1e-4)
