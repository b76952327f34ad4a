import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import pose
from cvkit.pose.codecs.base import labelled, to_input, to_map

SIZES = [((64, 48), (16, 12)), ((37, 50), (9, 13)), ((20, 64), (5, 16)), ((256, 192), (64, 48))]


def codecs(input_size=(64, 48), heatmap_size=(16, 12)):
    return [
        *(
            pose.GaussianCodec(input_size, heatmap_size, 1.5, decoder)
            for decoder in ("taylor", "fit", "dark", "quarter", "argmax")
        ),
        pose.UDPCodec(input_size, heatmap_size, radius=2.5),
        pose.IntegralCodec(input_size, heatmap_size),
        pose.SoftmaxCodec(input_size, heatmap_size),
        pose.SimCCCodec(input_size),
        pose.SimCCCodec(input_size, decoder="fit"),
        pose.OneHotCodec(input_size, heatmap_size),
        pose.OneHotCodec(input_size, heatmap_size, splat="bilinear"),
    ]


def name(codec):
    return f"{type(codec).__name__}-{getattr(codec, 'decoder', getattr(codec, 'splat', ''))}"


# How far a codec's round trip may be off inside the map, in input pixels at stride 4.
INSIDE = {
    "GaussianCodec-quarter": 1.6,
    "GaussianCodec-argmax": 2.01,
    "GaussianCodec-dark": 2e-3,
    "IntegralCodec-": 2e-2,
    "OneHotCodec-nearest": 2.01,
    "OneHotCodec-bilinear": 0.2,
}


@pytest.mark.parametrize("codec", codecs((128, 96), (32, 24)), ids=name)
@given(seed=st.integers(0, 10**6), joints=st.integers(1, 3), count=st.integers(1, 2))
def test_decoding_inverts_encoding_inside_the_map(codec, seed, joints, count):
    generator = torch.Generator().manual_seed(seed)
    points = 28 + torch.rand(count, joints, 2, generator=generator) * torch.tensor([96 - 57, 128 - 57.0])
    targets = codec.encode(points)
    found = codec.decode(codec.ideal_output(targets))
    assert found.keypoints.shape == points.shape
    assert (found.keypoints - points).abs().max() <= INSIDE.get(name(codec), 1e-4)
    assert (found.scores > (0.75 if isinstance(codec, pose.SoftmaxCodec) else 0.85)).all()


EXACT = [
    *(pose.GaussianCodec((64, 48), (16, 12), decoder=decoder) for decoder in ("taylor", "fit")),
    pose.GaussianCodec((64, 48), (16, 12), sigma=1.0),
    pose.UDPCodec((64, 48), (16, 12)),
    pose.SoftmaxCodec((64, 48), (16, 12)),
    pose.SimCCCodec((64, 48)),
    pose.SimCCCodec((64, 48), decoder="fit"),
]


@pytest.mark.fault("1adrianb/2D-and-3D-face-alignment#13")
@pytest.mark.fault("anibali/eval-mpii-pose#1")
@pytest.mark.fault("princeton-vl/pose-hg-demo#16")
@pytest.mark.parametrize("codec", EXACT, ids=name)
def test_round_trip_and_bias_on_a_grid_over_the_whole_picture(codec):
    across, down = torch.linspace(-0.45, 47.45, 53), torch.linspace(-0.45, 63.45, 71)
    points = torch.cartesian_prod(across, down).reshape(53, 71, 2)
    ideal = codec.ideal_output(codec.encode(points))
    error = codec.decode(ideal).keypoints - points
    assert error.abs().max() <= 1e-4
    assert error.mean((0, 1)).abs().max() <= 1e-5
    half = codec.decode(ideal.half()).keypoints - points
    assert half.abs().max() <= 1e-2
    assert half.mean((0, 1)).abs().max() <= 1e-3


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_outputs_that_are_negative_everywhere_have_their_peak_where_they_are_least_so(codec):
    points = torch.tensor([[[21.3, 30.2], [-0.4, 63.4]]])  # the second in the very corner
    ideal = codec.ideal_output(codec.encode(points))
    found = codec.decode(ideal - ideal.amax() - 1.5)
    pixel = pose.GaussianCodec((64, 48), (16, 12), 1.5, "argmax").decode(
        pose.GaussianCodec((64, 48), (16, 12), 1.5).encode(points).heatmaps
    )
    assert found.keypoints.isfinite().all()
    if isinstance(codec, pose.IntegralCodec | pose.SoftmaxCodec | pose.SimCCCodec):  # logits have no sign
        torch.testing.assert_close(found, codec.decode(ideal), rtol=0, atol=2e-5)
    else:
        step = 1.0 if name(codec) == "GaussianCodec-quarter" else 0.0
        slack = 1.51 if isinstance(codec, pose.UDPCodec) else 1e-5  # the grids of its pixels lie otherwise
        assert (found.keypoints - pixel.keypoints).abs().max() <= step + slack
        assert (found.scores < 0).all()


@pytest.mark.parametrize("codec", codecs(), ids=name)
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 0.1])
def test_constant_outputs_have_no_peak(codec, value):
    shape = codec.ideal_output(codec.encode(torch.full((1, 2, 2), 9.0))).shape
    for dtype in (torch.float32, torch.float64, torch.float16):
        found = codec.decode(torch.full(shape, value, dtype=dtype))
        if isinstance(codec, pose.IntegralCodec):  # its mean is the middle, and the score says how vague that is
            assert (found.keypoints - torch.tensor([23.5, 31.5])).abs().max() < 1e-4
            assert (found.scores < 0.3).all()
        else:
            assert found.keypoints.isnan().all()
            assert (found.scores == 0).all()


@pytest.mark.fault("open-mmlab/mmpose#23")
@pytest.mark.fault("donnyyou/torchcv#4")
@pytest.mark.fault("open-mmlab/mmpose#344")
@pytest.mark.fault("open-mmlab/mmpose#2342")
@pytest.mark.fault("microsoft/human-pose-estimation.pytorch#31")
@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_no_loop_over_joints_or_images_either_way(codec):
    def calls(count):
        points = 9 + 20 * torch.rand(count, count, 2)
        with torch.profiler.profile() as recorded:
            codec.decode(codec.ideal_output(codec.encode(points)))
        return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))

    calls(1)
    assert calls(2) == calls(9)


@pytest.mark.fault("ilovepose/DarkPose#33")
@pytest.mark.fault("open-mmlab/mmpose#291")
@pytest.mark.fault("open-mmlab/mmpose#2890")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", range(12))
def test_every_codec_on_unequal_sides_one_joint_and_one_image(kind, sizes):
    codec = codecs(*sizes)[kind]
    point = torch.tensor([[[sizes[0][1] * 0.4, sizes[0][0] * 0.45]]])
    targets = codec.encode(point)
    found = codec.decode(codec.ideal_output(targets))
    assert found.keypoints.shape == (1, 1, 2)
    assert (found.keypoints - point).norm() < 3.5
    assert codec.channels(7) in {7, 21}
    stacked = codec.ideal_output(targets)[:, None].expand(-1, 2, *[-1] * (targets.heatmaps.ndim - 1))
    assert torch.isfinite(codec.loss(stacked, targets))


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_nothing_visible_gives_empty_targets_and_no_loss(codec):
    points = torch.rand(2, 3, 2) * 40
    targets = codec.encode(points, torch.zeros(2, 3))
    assert (targets.weights == 0).all()
    assert (targets.heatmaps == 0).all()
    outputs = torch.rand_like(codec.ideal_output(targets)).requires_grad_()
    loss = codec.loss(outputs, targets)
    loss.backward()
    assert loss == 0
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("codec", codecs(), ids=name)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e9, 1e9])
def test_places_that_are_no_places_have_weight_zero(codec, bad):
    points = torch.tensor([[[bad, 10.0], [10.0, bad], [20.0, 20.0]]])
    targets = codec.encode(points)
    assert targets.weights.tolist() == [[0, 0, 1]]
    assert torch.isfinite(targets.heatmaps).all()
    assert torch.isfinite(targets.keypoints).all()


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_visibility_of_all_kinds_means_the_same(codec):
    points = torch.rand(1, 4, 2) * 40
    numbers = torch.tensor([[0, 1, 2, 0]])
    expected = codec.encode(points, numbers)
    for visibility in (numbers > 0, numbers.float() / 2, numbers.numpy(), (numbers > 0).numpy()):
        found = codec.encode(points, visibility)
        assert torch.equal(found.weights, expected.weights)
        assert torch.equal(found.heatmaps, expected.heatmaps)
    assert expected.weights.tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_maps_without_a_peak_give_nan_and_no_score(codec):
    shape = codec.ideal_output(codec.encode(torch.full((1, 2, 2), 9.0))).shape
    for value in (float("nan"), float("inf")):
        maps = torch.rand(shape)
        maps[:, : shape[1] // 2] = value
        found = codec.decode(maps)
        assert found.keypoints[0, 0].isnan().all()
        assert found.scores[0, 0] == 0
        assert found.keypoints[0, 1].isfinite().all()


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_half_precision_maps(codec):
    points = 12 + torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([24.0, 40.0])
    ideal = codec.ideal_output(codec.encode(points))
    full = codec.decode(ideal).keypoints
    for dtype in (torch.float16, torch.bfloat16):
        found = codec.decode(ideal.to(dtype))
        assert found.keypoints.dtype == torch.float32
        if name(codec) not in {"GaussianCodec-argmax", "GaussianCodec-quarter"}:  # those may turn at a tie
            assert (found.keypoints - full).abs().max() < (0.01 if dtype == torch.float16 else 0.15)


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_double_stays_double(codec):
    targets = codec.encode(torch.full((1, 1, 2), 20.0, dtype=torch.float64))
    assert targets.heatmaps.dtype == torch.float64
    assert codec.decode(codec.ideal_output(targets)).keypoints.dtype == torch.float64
    assert codec.encode(torch.full((1, 1, 2), 20)).heatmaps.dtype == torch.float32  # whole numbers


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_batches_do_not_mix_and_empty_ones_pass(codec):
    points = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(2)) * 40
    ideal = codec.ideal_output(codec.encode(points))
    whole = codec.decode(ideal)
    parts = [codec.decode(part[None]) for part in ideal]
    torch.testing.assert_close(torch.cat([p.keypoints for p in parts]), whole.keypoints, rtol=0, atol=1e-5)
    assert codec.encode(torch.zeros(0, 2, 2)).weights.shape == (0, 2)
    assert codec.decode(ideal[:0]).keypoints.shape == (0, 2, 2)


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_non_contiguous_and_read_only_input(codec):
    array = np.random.default_rng(0).uniform(5, 40, (2, 3, 2)).astype(np.float32)
    array.flags.writeable = False
    expected = codec.encode(torch.tensor(array))
    found = codec.encode(array)
    assert torch.equal(found.heatmaps, expected.heatmaps)
    ideal = codec.ideal_output(expected)
    strange = ideal.transpose(-1, -2).contiguous().transpose(-1, -2)
    torch.testing.assert_close(codec.decode(strange).keypoints, codec.decode(ideal).keypoints)


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_mirroring_outputs_matches_mirrored_points(codec):
    points = torch.tensor([[[11.0, 30.0], [30.3, 40.2]]])
    mirrored = torch.stack((47 - points[..., 0], points[..., 1]), -1)[:, [1, 0]]
    direct = codec.decode(codec.ideal_output(codec.encode(points))).keypoints
    outputs = codec.ideal_output(codec.encode(mirrored))
    back = codec.decode(codec.mirror(outputs, (1, 0))).keypoints
    tolerance = (
        4.01 if name(codec) in {"GaussianCodec-argmax", "GaussianCodec-quarter", "OneHotCodec-nearest"} else 1e-3
    )
    assert (back - direct).abs().max() <= tolerance
    stacked = codec.mirror(torch.stack((outputs, outputs), 1), (1, 0))  # an axis of stacks may be there
    assert torch.equal(stacked[:, 1], codec.mirror(outputs, (1, 0)))


@pytest.mark.parametrize("codec", codecs(), ids=name)
def test_is_a_codec_and_errors_name_the_argument(codec):
    assert isinstance(codec, pose.Codec)
    good = codec.ideal_output(codec.encode(torch.full((1, 2, 2), 9.0)))
    with pytest.raises(ValueError, match="outputs"):
        codec.decode(good[..., :-1])
    with pytest.raises(ValueError, match=r"outputs\[:, -1\]"):
        codec.decode(good[:, None])
    with pytest.raises(TypeError, match="floating"):
        codec.decode(good.long())
    with pytest.raises(TypeError, match="outputs"):
        codec.decode(good.numpy())
    with pytest.raises(ValueError, match="keypoints"):
        codec.encode(torch.zeros(3, 2))
    with pytest.raises(TypeError, match="keypoints"):
        codec.encode(torch.zeros(1, 3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="visibility"):
        codec.encode(torch.zeros(1, 3, 2), torch.zeros(1, 2))


@given(
    st.floats(-50, 300),
    st.floats(-50, 300),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from(["centers", "corners"]),
)
def test_map_and_input_places_are_inverse(x, y, height, width, h, w, grid):
    point = torch.tensor([x, y], dtype=torch.float64)
    there = to_map(point, (height, width), (h, w), grid)
    torch.testing.assert_close(to_input(there, (height, width), (h, w), grid), point, rtol=1e-12, atol=1e-9)


@pytest.mark.fault("HRNet/HRNet-Facial-Landmark-Detection#63")
def test_borders_and_corners_meet_as_said():
    size, maps = (64, 256), (16, 64)
    centers = to_map(torch.tensor([[-0.5, -0.5], [255.5, 63.5]]), size, maps)
    torch.testing.assert_close(centers, torch.tensor([[-0.5, -0.5], [63.5, 15.5]]))
    corners = to_map(torch.tensor([[0.0, 0.0], [255.0, 63.0]]), size, maps, "corners")
    torch.testing.assert_close(corners, torch.tensor([[0.0, 0.0], [63.0, 15.0]]))


@pytest.mark.fault("princeton-vl/pose-hg-train#33")
def test_labels_end_where_the_picture_ends():
    points = torch.tensor([[[-0.5, 0.0], [-0.51, 0.0], [47.49, 63.49], [47.5, 0.0], [0.0, 63.5]]])
    assert labelled(points, None, (64, 48)).tolist() == [[True, False, True, False, False]]
