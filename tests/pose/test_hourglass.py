import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.pose import (
    GaussianCodec,
    IntegralCodec,
    OneHotCodec,
    SimCCCodec,
    SimCCHead,
    SoftmaxCodec,
    StackedHourglass,
    UDPCodec,
    fold_batch_norm,
    hourglass,
)
from reference import pose_hourglass


def small(joints=3, **options):
    return StackedHourglass(joints, **{"stacks": 2, "depth": 2, "features": 8, **options})


def randomised(network, seed=0):
    """Give every parameter and running statistic a value of its own, so that nothing hides behind ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                drawn = torch.rand(value.shape, generator=generator, dtype=value.dtype)
                value.copy_(drawn + 0.5 if name.endswith("running_var") else drawn - 0.3)
    return network


@pytest.mark.parametrize(
    ("stacks", "count", "tensors"),
    [(1, 3_586_960, 377), (2, 6_730_912, 684), (4, 13_018_816, 1298), (8, 25_594_624, 2526)],
)
def test_published_sizes_to_the_digit(stacks, count, tensors):
    with torch.device("meta"):
        network = StackedHourglass(16, stacks=stacks)
    assert sum(p.numel() for p in network.parameters()) == count
    assert len(network.state_dict()) == tensors


@pytest.mark.parametrize(("stacks", "count"), [(1, 3_426_448), (2, 6_570_400), (8, 25_434_112)])
def test_the_second_stem_has_its_own_size(stacks, count):
    with torch.device("meta"):
        network = StackedHourglass(16, stacks=stacks, stem="newell")
    assert sum(p.numel() for p in network.parameters()) == count


@settings(max_examples=15)
@given(
    stacks=st.integers(1, 3),
    depth=st.integers(1, 3),
    blocks=st.integers(1, 2),
    channels=st.integers(1, 4),
    joints=st.integers(1, 4),
    stem=st.sampled_from(["bearpaw", "newell"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_shape_in_a_quarter_out(stacks, depth, blocks, channels, joints, stem, height, width):
    network = StackedHourglass(
        joints, stacks=stacks, depth=depth, features=4, blocks=blocks, channels=channels, stem=stem
    ).eval()
    outputs = network(torch.rand(2, channels, height, width))
    assert outputs.shape == (2, stacks, joints, -(-height // 4), -(-width // 4))
    last = network(torch.rand(2, channels, height, width), last_only=True)
    assert last.shape == (2, 1, *outputs.shape[2:])


@pytest.mark.fault("ilovepose/DarkPose#21")
@pytest.mark.fault("shunsukesaito/PIFu#92")
@pytest.mark.fault("bearpaw/pytorch-pose#39")
@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#21")
@pytest.mark.parametrize("size", [(96, 96), (240, 320), (250, 190)])
def test_sizes_that_do_not_divide_work_or_are_refused(size):
    images = torch.rand(1, 3, *size)
    with torch.inference_mode():
        assert small(depth=4, stacks=1)(images).shape[-2:] == (-(-size[0] // 4), -(-size[1] // 4))
        with pytest.raises(ValueError, match="multiples of 64"):
            small(depth=4, stacks=1, uneven="refuse")(images)


def test_padding_is_zeros_below_and_right():
    network = randomised(small()).eval()
    images = torch.rand(2, 3, 23, 37)
    padded = torch.zeros(2, 3, 32, 48)
    padded[..., :23, :37] = images
    assert torch.equal(network(images), network(padded)[..., :6, :10])


@pytest.mark.parametrize("stacks", [1, 2])
def test_agrees_with_the_second_layout_written_out(stacks):
    network = randomised(small(stem="newell", stacks=stacks)).double().eval()
    images = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    state = pose_hourglass.newell_state(network)
    expected = pose_hourglass.newell(state, images, stacks, depth=2)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


def test_last_only_is_the_last_stack_bit_for_bit():
    network = randomised(small(stacks=3)).eval()
    images = torch.rand(1, 3, 16, 32)
    assert torch.equal(network(images, last_only=True)[:, 0], network(images)[:, -1])


def test_checkpointing_changes_no_number():
    plain, recomputed = small(), small(checkpointing=True)
    images = torch.rand(2, 3, 32, 16)
    for network in (plain, recomputed):
        network(images).square().sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(plain.state_dict().values(), recomputed.state_dict().values(), strict=True):
        assert torch.equal(a, b)  # running statistics counted the batch once


def test_checkpointing_recomputes_each_stack():
    calls = []
    network = small(checkpointing=True)
    network.hg[0].register_forward_hook(lambda *_: calls.append(1))
    network(torch.rand(2, 3, 16, 16)).sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("stem", ["bearpaw", "newell"])
@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_folding_keeps_the_output(stem, format_):
    network = randomised(small(stem=stem)).eval()
    folded = fold_batch_norm(network).to(memory_format=format_)
    images = torch.rand(2, 3, 32, 16)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == 3 * 19 + 1 + network.stacks


def test_folding_is_exact_in_float64_and_leaves_the_network_alone():
    network = randomised(small()).double().train()
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norm(network)
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    assert network.training
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))
    torch.testing.assert_close(folded(images), network.eval()(images), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(fold_batch_norm(folded)(images), folded(images), rtol=0, atol=0)


@pytest.mark.parametrize("weight", [1.0, -1.0, 1e-3, -1e-3, 1e-12, -1e-12, 0.0, 1e-40])
@pytest.mark.parametrize("bias", [0.7, 0.0, -0.7])
def test_folding_holds_for_norms_of_any_sign_and_size(weight, bias):
    network = randomised(small(stacks=1)).eval()
    with torch.no_grad():
        for module in network.modules():
            if hasattr(module, "bn1"):
                module.bn1.weight[::2] = weight
                module.bn1.bias[::2] = bias
    images = torch.rand(1, 3, 16, 32)
    with torch.no_grad():
        expected = network.double()(images.double())
        torch.testing.assert_close(fold_batch_norm(network)(images.double()), expected, rtol=1e-9, atol=1e-9)
        single = fold_batch_norm(network.float())(images)
        assert (single - expected).abs().max() <= 2e-5 * expected.abs().max()


@pytest.mark.parametrize("stacks", [1, 2, 3])
def test_folding_merges_what_hands_heatmaps_on_and_skips_those_nobody_asks_for(stacks):
    network = randomised(small(stacks=stacks)).double().eval()
    folded = fold_batch_norm(network)
    images = torch.rand(2, 3, 16, 32, dtype=torch.float64)
    calls = []
    for s, head in enumerate(folded.score):
        head.register_forward_hook(lambda *_, s=s: calls.append(s))
    torch.testing.assert_close(folded(images), network(images), rtol=1e-11, atol=1e-11)
    assert calls == list(range(stacks))
    calls.clear()
    torch.testing.assert_close(folded(images, last_only=True), network(images, last_only=True), rtol=1e-11, atol=1e-11)
    assert calls == [stacks - 1]
    assert not any(name.startswith("score_") for name in folded.state_dict())


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 8, 5, 7), (3, 8, 16, 4), (0, 8, 3, 3)])
def test_the_quick_pointwise_convolution_is_the_plain_one(format_, shape):
    folded = fold_batch_norm(randomised(small(stacks=1)))
    layer = folded.fc[0][0]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(memory_format=format_)
    plain = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    with torch.no_grad():  # without a graph: the quick way
        torch.testing.assert_close(layer(x), plain)
    inputs = x.clone().requires_grad_()
    layer(inputs).sum().backward()  # with one: the plain way
    torch.testing.assert_close(inputs.grad, layer.weight.sum(0).expand_as(inputs.grad))


@pytest.mark.parametrize("folded", [False, True])
def test_numbers_without_a_graph_are_those_with_one_and_the_images_stay(folded):
    network = randomised(small(stacks=3)).eval()
    network = fold_batch_norm(network) if folded else network
    images = torch.rand(2, 3, 32, 16)
    before = images.clone()
    with_graph = network(images.requires_grad_()).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(network(images), with_graph, rtol=1e-6 * folded, atol=1e-6 * folded)
    assert torch.equal(images.detach(), before)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(network(images)).all()


def seen(network, images, **options):
    """Return the output and the numbers of pictures that the first layer was called with."""
    sizes = []
    plain = network.conv1.forward
    network.conv1.forward = lambda x: sizes.append(len(x)) or plain(x)  # not a hook: those change what happens
    try:
        return network(images, **options), sizes
    finally:
        del network.conv1.forward


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize(
    ("number", "largest", "sizes"), [(5, 2, [2, 2, 1]), (4, 1, [1] * 4), (3, 0, [1] * 3), (2, 2, [2]), (0, 1, [0])]
)
def test_folded_networks_take_large_batches_in_pieces(monkeypatch, number, largest, sizes, last_only):
    network = fold_batch_norm(randomised(small(stacks=3)))
    images = torch.rand(number, 3, 24, 18, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, once = seen(network, images, last_only=last_only)
        assert once == [number]
        monkeypatch.setattr(hourglass, "_LARGEST", largest * 4 * 4 * 12 * 9)  # features / 2, float32, half of the size
        pieces, found = seen(network, images, last_only=last_only)
    assert found == sizes
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)


def test_pieces_fit_the_caches_whatever_the_size_and_the_dtype():
    network = fold_batch_norm(StackedHourglass(2, stacks=1))
    with torch.no_grad():
        for images, count in [
            (torch.empty(9, 3, 256, 256), 2),
            (torch.empty(9, 3, 128, 128), 8),
            (torch.empty(9, 3, 64, 64), 32),
            (torch.empty(9, 3, 512, 512), 1),
            (torch.empty(9, 3, 256, 256, dtype=torch.bfloat16), 4),
            (torch.empty(9, 3, 1, 1), 2**24),
            (torch.empty(9, 3, 256, 256, device="meta"), None),
        ]:
            assert network._images_at_once(images) == count


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")  # of tracing itself
def test_what_watches_the_layers_sees_the_whole_batch(monkeypatch):
    monkeypatch.setattr(hourglass, "_LARGEST", 1)
    network, images = randomised(small()).eval(), torch.rand(3, 3, 16, 16)
    folded = fold_batch_norm(network)
    assert seen(folded, images)[1] == [3]  # a graph may be wanted
    with torch.no_grad():
        assert seen(network, images)[1] == [3]  # not folded: its norms may look at the batch
        assert seen(folded, images)[1] == [1, 1, 1]
        for register in (
            folded.hg[1].register_forward_hook,
            folded.hg[1].register_forward_pre_hook,
            torch.nn.modules.module.register_module_forward_hook,
            torch.nn.modules.module.register_module_forward_pre_hook,
        ):
            handle = register(lambda *_: None)
            assert seen(folded, images)[1] == [3]
            handle.remove()
        traced = torch.jit.trace(folded, images[:2])
        torch.testing.assert_close(traced(images), folded(images), rtol=1e-5, atol=1e-6)


def test_a_folded_network_copies_and_pickles():
    folded = fold_batch_norm(randomised(small()))
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        for again in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
            assert torch.equal(again(images), folded(images))
            assert again.config == folded.config


def _tied(change):
    network = small(stacks=3)
    change(network)
    return randomised(network).double().eval()


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.hg, "1", net.hg[0]),
        lambda net: setattr(net.hg[0].hg[0], "1", net.hg[0].hg[0][0]),
        lambda net: setattr(net.res, "1", net.hg[0].hg[0][0]),
        lambda net: setattr(net.fc_, "1", net.fc_[0]),
        lambda net: (setattr(net.fc, "1", net.fc[0]), setattr(net.score, "1", net.score[0])),
        lambda net: setattr(net.res[1][0].conv1, "weight", net.res[0][0].conv1.weight),
        lambda net: setattr(net.res[1][0], "bn2", net.res[0][0].bn2),
        lambda net: setattr(net.res[1][0], "bn1", torch.nn.BatchNorm2d(8, affine=False)),
        lambda net: setattr(net.fc[0], "1", torch.nn.BatchNorm2d(8, affine=False)),
    ],
)
def test_folding_holds_for_tied_layers_and_norms_without_affine(change):
    network = _tied(change)
    images = torch.rand(2, 3, 20, 36, dtype=torch.float64)
    torch.testing.assert_close(fold_batch_norm(network)(images), network(images), rtol=1e-10, atol=1e-10)


def test_folding_knows_synchronised_norms():
    network = randomised(small()).double().eval()
    images = torch.rand(2, 3, 20, 36, dtype=torch.float64)
    wanted = network(images)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    torch.testing.assert_close(fold_batch_norm(synchronised)(images), wanted, rtol=1e-10, atol=1e-10)


def test_norms_that_cannot_fold_are_refused():
    network = small()
    network.res[1][0].bn2 = torch.nn.GroupNorm(2, 4)
    with pytest.raises(TypeError, match="got a GroupNorm as 'bn2'"):
        fold_batch_norm(network)
    network = small()
    network.res[1][0].bn3 = torch.nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="running statistics"):
        fold_batch_norm(network)


def test_same_generator_same_weights_and_the_global_one_is_left_alone():
    state = torch.get_rng_state()
    first, second = (small(generator=torch.Generator().manual_seed(5)) for _ in range(2))
    other = small()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert torch.equal(other.conv1.weight, small().conv1.weight)


def test_initial_weights_follow_the_usual_rule():
    weight = StackedHourglass(4, stacks=1, depth=1, features=64).layer3[0].conv2.weight.detach()
    bound = (32 * 9) ** -0.5
    assert weight.abs().max() <= bound
    assert abs(float(weight.std()) - bound / 3**0.5) < 0.03 * bound


def test_config_builds_it_again():
    network = small(stem="newell", blocks=2, uneven="refuse", channels=1)
    again = StackedHourglass(**network.config)
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in network.state_dict().items()
    ]


def test_train_and_eval_give_all_stacks_and_batches_do_not_mix_in_eval():
    network = randomised(small())
    images = torch.rand(3, 3, 16, 16)
    assert network.train()(images).shape == network.eval()(images).shape == (3, 2, 3, 4, 4)
    one_by_one = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(one_by_one, network(images))


def test_empty_batch():
    assert small().eval()(torch.zeros(0, 3, 16, 16)).shape == (0, 2, 3, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"joints": 0}, "joints"),
        ({"stacks": 0}, "stacks"),
        ({"depth": 0}, "depth"),
        ({"features": 6}, "multiple of 4"),
        ({"stem": "other"}, "stem"),
        ({"uneven": "crop"}, "uneven"),
        ({"blocks": 0}, "blocks"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        StackedHourglass(**options)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match=r"`images` must be floating-point; got .*uint8"):
        small()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least one pixel"):
        small()(torch.zeros(1, 3, 0, 8))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        small()(torch.zeros(3, 16, 16))
    with pytest.raises(TypeError, match="images"):
        small()([1, 2])
    with pytest.raises(TypeError, match="network"):
        fold_batch_norm(torch.nn.Linear(1, 1))


def test_exports_with_a_dynamic_batch():
    network = randomised(small(stacks=1)).eval()
    images = torch.rand(2, 3, 16, 16)
    program = torch.export.export(
        network, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, strict=False
    )
    more = torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(program.module()(more), network(more))


class Decoded(torch.nn.Module):
    """From images to places and scores."""

    def __init__(self, network, codec):
        super().__init__()
        self.network, self.codec = network, codec

    def forward(self, images):
        options = {} if isinstance(self.network, SimCCHead) else {"last_only": True}
        found = self.codec.decode(self.network(images, **options)[:, -1])
        return found.keypoints, found.scores


@pytest.mark.fault("open-mmlab/mmpose#541")
@pytest.mark.fault("open-mmlab/mmpose#576")
@pytest.mark.fault("ivadomed/ivadomed#852")
@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#305")
@pytest.mark.parametrize(
    ("codec", "folded"),
    [
        (GaussianCodec((16, 24), (4, 6), 1.0), True),
        (UDPCodec((16, 24), (4, 6), radius=1.5), False),
        (SoftmaxCodec((16, 24), (4, 6)), False),
        *(
            pytest.param(codec, False, marks=pytest.mark.slow)
            for codec in (
                *(GaussianCodec((16, 24), (4, 6), 1.0, decoder) for decoder in ("fit", "dark", "quarter", "argmax")),
                IntegralCodec((16, 24), (4, 6)),
                OneHotCodec((16, 24), (4, 6)),
                *(SimCCCodec((16, 24), decoder=decoder) for decoder in ("taylor", "fit", "argmax", "mean")),
            )
        ),
    ],
)
def test_exports_with_decoding_inside(codec, folded):
    network = randomised(small(joints=codec.channels(2), stacks=2, depth=1)).eval()
    if isinstance(codec, SimCCCodec):
        network = SimCCHead(network, codec, (4, 6))
    whole = Decoded(fold_batch_norm(network) if folded else network, codec).eval()
    dynamic = {"images": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(whole, (torch.rand(2, 3, 16, 24),), dynamic_shapes=dynamic, strict=False)
        images = torch.rand(5, 3, 16, 24)
        for found, expected in zip(program.module()(images), whole(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    names = {str(node.target) for node in program.graph.nodes}
    assert not any("mkldnn" in name for name in names)  # what other runtimes know
