import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvkit import geometry, pose, weights
from cvkit._errors import CheckpointError, ImageError, WeightsError


class Bright(torch.nn.Module):
    """Stands for a perfect network: its heatmap j is the j-th colour channel's brightness, averaged to a quarter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.inner = torch.nn.Dropout(0.5)

    def forward(self, images):
        assert not self.inner.training
        return (self.scale * torch.nn.functional.avg_pool2d(images, 4))[:, None]


RGB = pose.Skeleton("rgb", ["left", "right", "middle"], [(0, 1)])


def estimator(size=(64, 64), **options):
    codec = pose.GaussianCodec(size, (size[0] // 4, size[1] // 4), decoder="fit")
    return pose.Estimator(Bright(), codec, RGB, pose.Preprocess(size, **options))


def photo(height, width, points, sigma=7.0):
    x, y = np.arange(width), np.arange(height)[:, None]
    channels = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points]
    return (np.stack(channels, -1) * 255 + 0.5).astype(np.uint8)


POINTS = np.array([[40.0, 30.0], [75.0, 50.0], [60.0, 25.0]])


@pytest.mark.fault("HuangJunJie2017/UDP-Pose#12")
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_places_come_back_in_the_photographs_own_pixels(fit):
    found = estimator(fit=fit).predict(photo(80, 120, POINTS))
    assert found.keypoints.shape == (1, 3, 2)
    if fit != "pad":  # there, the grey bars are brighter than the dots' surroundings
        np.testing.assert_allclose(found.keypoints[0], POINTS, atol=0.3)
    assert found.keypoints.dtype == found.scores.dtype == np.float64


@pytest.mark.fault("1adrianb/face-alignment#115")
def test_every_kind_of_photograph_alike(tmp_path):
    array = photo(80, 120, POINTS)
    Image.fromarray(array).save(tmp_path / "a.png")
    model = estimator(fit="stretch")
    expected = model.predict(array).keypoints
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for one in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), tensor, tensor.float() / 255):
        np.testing.assert_allclose(model.predict(one).keypoints, expected, atol=0.02)
    for several in (
        [array, tmp_path / "a.png", tensor],
        np.stack([array] * 3),
        torch.stack([tensor] * 3),
        (array,) * 3,
    ):
        np.testing.assert_allclose(model.predict(several).keypoints, np.tile(expected, (3, 1, 1)), atol=0.02)
    assert model.predict([]).keypoints.shape == (0, 3, 2)


@pytest.mark.fault("1adrianb/face-alignment#312")
def test_batches_make_no_difference():
    photos = [photo(70 + i, 90, POINTS + i) for i in range(5)]
    model = estimator(fit="stretch")
    sizes = []
    model.network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    whole = model.predict(photos)
    np.testing.assert_allclose(model.predict(photos, batch_size=2).keypoints, whole.keypoints, atol=1e-5)
    assert sizes == [5, 2, 2, 1]  # the network sees whole batches


def test_boxes_of_one_and_of_several_photographs():
    array = photo(160, 200, POINTS)
    model = estimator()
    boxes = np.array([[20, 10, 95, 70], [10, 0, 100, 80]])
    found = model.predict(array, boxes=boxes)
    assert found.keypoints.shape == (2, 3, 2)
    np.testing.assert_allclose(found.keypoints, np.stack([POINTS, POINTS]), atol=0.4)
    paired = model.predict([array, array], boxes=torch.from_numpy(boxes))
    np.testing.assert_allclose(paired.keypoints, found.keypoints)
    with pytest.raises(ValueError, match="boxes"):
        model.predict([array, array], boxes=boxes[:1])
    with pytest.raises(ValueError, match="boxes"):
        model.predict(array, boxes=[1, 2, 3, 4])


@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#22")
def test_flip_test_needs_no_shift():
    plain = estimator(fit="stretch")
    model = pose.Estimator(
        plain.network, plain.codec, pose.Skeleton("dots", ["red", "green", "blue"]), plain.preprocess
    )
    array = photo(64, 64, [[20.3, 30.0], [43.0, 31.2], [5.0, 20.0]])
    found, direct = model.predict(array, flip_test=True), model.predict(array)
    np.testing.assert_allclose(found.keypoints, direct.keypoints, atol=1e-3)
    sided = pose.Skeleton("s", ["left", "right", "middle"])
    with pytest.raises(ValueError, match="left and right"):
        pose.Estimator(Bright(), model.codec, sided, model.preprocess).predict(array, flip_test=True)


def test_network_is_left_as_it_was():
    model = estimator(fit="stretch")
    model.network.train()
    frozen = torch.nn.BatchNorm2d(1).eval()
    model.network.frozen = frozen
    state = torch.get_rng_state()
    model.predict(photo(64, 64, POINTS))
    assert model.network.training
    assert model.network.inner.training
    assert not frozen.training  # each module keeps its own mode
    assert torch.equal(torch.get_rng_state(), state)
    assert model.network.scale.grad is None
    with pytest.raises(ImageError):
        model.predict("gone.png")
    assert model.network.training


def small(codec=None, **options):
    codec = codec or pose.GaussianCodec((32, 24), (8, 6), sigma=1.0)
    network = pose.StackedHourglass(codec.channels(3), stacks=2, depth=1, features=8, **options)
    if isinstance(codec, pose.SimCCCodec):
        network = pose.SimCCHead(network, codec, (8, 6))
    return pose.Estimator(network, codec, RGB, pose.Preprocess((32, 24), mean=(0.1, 0.2, 0.3), fit="stretch"))


CODECS = [
    pose.GaussianCodec((32, 24), (8, 6), sigma=1.0, decoder="dark"),
    pose.UDPCodec((32, 24), (8, 6), radius=2.0),
    pose.IntegralCodec((32, 24), (8, 6), regularizer="kl"),
    pose.SimCCCodec((32, 24), 1),
    pose.OneHotCodec((32, 24), (8, 6)),
    pose.SoftmaxCodec((32, 24), (8, 6)),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: type(c).__name__)
def test_saved_and_loaded_it_is_the_same(codec, tmp_path):
    model = small(codec)
    model.save(tmp_path / "model.safetensors")
    again = pose.Estimator.load(tmp_path / "model.safetensors")
    assert (again.codec, again.skeleton, again.preprocess) == (model.codec, model.skeleton, model.preprocess)
    assert not again.network.training
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    for flip_test in (False, True):
        for a, b in zip(
            model.predict(pictures, flip_test=flip_test), again.predict(pictures, flip_test=flip_test), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("codec", [CODECS[0], CODECS[3]], ids=lambda c: type(c).__name__)
def test_weights_come_back_in_their_dtype_and_memory_format(codec, dtype, tmp_path):
    model = small(codec)
    model.network.to(dtype=dtype, memory_format=torch.channels_last)
    model.save(tmp_path / "model.safetensors")
    again = pose.Estimator.load(tmp_path / "model.safetensors")
    before, after = model.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype, name
        assert value.stride() == after[name].stride(), name
        assert torch.equal(value, after[name]), name
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model.predict(picture).keypoints, again.predict(picture).keypoints)


def test_own_networks_need_to_be_passed(tmp_path):
    model = estimator()
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="network"):
        pose.Estimator.load(tmp_path / "model.safetensors")
    again = pose.Estimator.load(tmp_path / "model.safetensors", network=Bright())
    assert isinstance(again.network, Bright)


def test_files_that_are_no_estimator_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        pose.Estimator.load(tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError):
        pose.Estimator.load(tmp_path)
    weights.save_tensors(tmp_path / "plain.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match="no estimator"):
        pose.Estimator.load(tmp_path / "plain.safetensors")
    weights.save_tensors(tmp_path / "text.safetensors", {"a": torch.zeros(1)}, metadata={"estimator": "{"})
    with pytest.raises(WeightsError, match="no JSON"):
        pose.Estimator.load(tmp_path / "text.safetensors")
    config = small().config
    for change in (
        {"codec": {"kind": "os.system"}},
        {"codec": {**config["codec"], "sigma": "x"}},
        {"skeleton": {"name": "a"}},
        {"preprocess": {}},
        {"network": {"kind": "StackedHourglass", "joints": 10**9}},
        {"network": {"kind": "SimCCHead"}},
        {"network": {**config["network"], "features": 12}},
    ):
        weights.save_tensors(
            tmp_path / "bad.safetensors",
            small().network.state_dict(),
            metadata={"estimator": json.dumps({**config, **change})},
        )
        with pytest.raises(WeightsError, match=r"bad\.safetensors"):
            pose.Estimator.load(tmp_path / "bad.safetensors")
    whole = {name: value.long() for name, value in small().network.state_dict().items()}
    weights.save_tensors(tmp_path / "bad.safetensors", whole, metadata={"estimator": json.dumps(config)})
    with pytest.raises(WeightsError, match=r"should be floating .* and is torch\.int64"):
        pose.Estimator.load(tmp_path / "bad.safetensors")


def test_parts_are_checked():
    model = small()
    with pytest.raises(ValueError, match="input size"):
        pose.Estimator(model.network, model.codec, RGB, pose.Preprocess((64, 64)))
    for position, message in enumerate(("network", "codec", "skeleton", "preprocess")):
        parts = [model.network, model.codec, model.skeleton, model.preprocess]
        parts[position] = 3
        with pytest.raises(TypeError, match=message):
            pose.Estimator(*parts)
    with pytest.raises(AttributeError):
        model.codec = None
    with pytest.raises(ValueError, match="batch_size"):
        model.predict(photo(64, 64, POINTS), batch_size=0)


def test_maps_back_through_the_same_matrix_as_the_picture():
    preprocess = pose.Preprocess((64, 64), fit="stretch")
    prepared = preprocess.frame(photo(80, 120, POINTS))
    inside = geometry.transform_points(geometry.invert(prepared.to_photo), POINTS)
    np.testing.assert_allclose(geometry.transform_points(prepared.to_photo, inside), POINTS, atol=1e-9)


@pytest.mark.parametrize("head", [False, True])
def test_an_estimator_with_a_folded_network_comes_back_from_its_file(tmp_path, head):
    network = pose.fold_batch_norm(pose.StackedHourglass(11, stacks=2, depth=1, features=8))
    codec = pose.GaussianCodec((32, 24), (8, 6), sigma=1.0)
    if head:
        codec = pose.SimCCCodec((32, 24))
        network = pose.SimCCHead(network, codec, (8, 6))
    estimator = pose.Estimator(network, codec, pose.STICK_FIGURE, pose.Preprocess((32, 24)))
    estimator.save(tmp_path / "folded.safetensors")
    again = pose.Estimator.load(tmp_path / "folded.safetensors")
    photos = pose.stick_figures(2, size=(40, 30)).images
    assert np.array_equal(again.predict(photos).keypoints, estimator.predict(photos).keypoints)


def _with_description(path, change):
    network = pose.StackedHourglass(11, stacks=1, depth=1, features=8)
    estimator = pose.Estimator(
        network, pose.GaussianCodec((32, 24), (8, 6)), pose.STICK_FIGURE, pose.Preprocess((32, 24))
    )
    config = estimator.config
    change(config)
    weights.save_tensors(path, network.state_dict(), metadata={"estimator": json.dumps(config)})


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["network"].update(stacks=10**9),
        lambda config: config["network"].update(blocks=10**9),
        lambda config: config["network"].update(features=4 * 10**7),
        lambda config: config["network"].update(joints=10**10),
        lambda config: config["network"].update(folded=True),
        lambda config: config["preprocess"].update(input_size=[64, 64]),
        lambda config: config.update(network=[1]),
        lambda config: config.update(network={"kind": "SimCCHead", "network": 3}),
        lambda config: config.update(codec="GaussianCodec"),
    ],
)
def test_a_description_that_does_not_fit_its_tensors_is_one_error_and_costs_nothing(tmp_path, change):
    _with_description(tmp_path / "a.safetensors", change)
    with pytest.raises(WeightsError, match="does not hold a fitting estimator"):
        pose.Estimator.load(tmp_path / "a.safetensors")


def test_a_network_of_another_dtype_and_a_coordinate_head_come_back(tmp_path):
    codec = pose.SimCCCodec((32, 24))
    head = pose.SimCCHead(pose.StackedHourglass(11, stacks=1, depth=1, features=8), codec, (8, 6))
    estimator = pose.Estimator(head.bfloat16(), codec, pose.STICK_FIGURE, pose.Preprocess((32, 24)))
    estimator.save(tmp_path / "a.safetensors")
    again = pose.Estimator.load(tmp_path / "a.safetensors")
    for name, value in again.network.state_dict().items():
        assert torch.equal(value.to(head.state_dict()[name].dtype), head.state_dict()[name])
