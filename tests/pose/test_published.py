import logging
import os

import pytest
import torch

from cvkit import pose, weights
from cvkit._errors import WeightsError
from reference import pose_hourglass


def network(stem="bearpaw", joints=16, stacks=2, **options):
    net = pose.StackedHourglass(joints, stacks=stacks, depth=2, features=8, stem=stem, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5 * name.endswith("running_var"))
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module.", "model.module.", "model.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_first_layout_loads_with_any_prefix(prefix, wrapped):
    net = network()
    state = {prefix + name: value for name, value in net.state_dict().items()}
    found = pose.load_published({"state_dict": state, "epoch": 3} if wrapped else state)
    images = torch.rand(1, 3, 32, 16)
    assert torch.equal(found.network(images), net(images))
    assert found.network(images).shape == (1, 2, 16, 8, 4)  # every stack, in eval mode too
    assert found.skeleton is pose.MPII


@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#7")
def test_preprocessing_belongs_to_the_weights():
    first = pose.load_published(network().state_dict()).preprocess
    second = pose.load_published(pose_hourglass.newell_state(network("newell"))).preprocess
    assert first.mean == (0.4404, 0.4440, 0.4327)
    assert first.std == (1.0, 1.0, 1.0)  # the published deviation is never divided by
    assert second.mean == (0.0, 0.0, 0.0)
    grey = torch.full((1, 3, 2, 2), 0.5)
    torch.testing.assert_close(first.normalize(grey)[0, :, 0, 0], torch.tensor([0.0596, 0.0560, 0.0673]))


@pytest.mark.parametrize(
    ("stacks", "stored", "tensors", "dead"),
    [
        (1, 4_364_048, 407, 937_600),
        (2, 8_429_088, 742, 1_858_688),
        (4, 16_559_168, 1412, 3_700_864),
        (8, 32_819_328, 2752, 7_385_216),
    ],
)
def test_second_layout_at_its_published_size(stacks, stored, tensors, dead, caplog):
    state = pose_hourglass.newell_state(pose.StackedHourglass(16, stacks=stacks, stem="newell"))
    learned = sum(
        v.numel() for k, v in state.items() if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert (learned, len(state)) == (stored, tensors)
    with caplog.at_level(logging.INFO, logger="cvkit.pose.published"):
        found = pose.load_published({f"model.module.{name}": value for name, value in state.items()})
    assert f"({dead} numbers)" in caplog.text
    assert sum(p.numel() for p in found.network.parameters()) == stored - dead


def test_second_layout_gives_what_its_own_program_gives():
    state = pose_hourglass.newell_state(network("newell"))
    images = torch.rand(2, 3, 32, 16)
    expected = pose_hourglass.newell(state, images, stacks=2, depth=2)
    torch.testing.assert_close(pose.load_published(state).network(images), expected, rtol=1e-4, atol=1e-3)


def test_blocks_depth_and_channels_are_read_from_the_tensors():
    net = network(blocks=2, channels=1, stacks=1)
    assert pose.load_published(net.state_dict()).network.config == net.config


def test_files_of_both_kinds(tmp_path):
    net = network()
    torch.save({"state_dict": net.state_dict(), "best_acc": 0.9}, tmp_path / "old.pth.tar")
    weights.save_tensors(tmp_path / "new.safetensors", net.state_dict())
    for name in ("old.pth.tar", "new.safetensors"):
        found = pose.load_published(tmp_path / name).network.state_dict()
        assert all(torch.equal(a, b) for a, b in zip(found.values(), net.state_dict().values(), strict=True))


def test_old_files_without_counters_load():
    state = {k: v for k, v in network().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert pose.load_published(state).network.stacks == 2


@pytest.mark.parametrize("stem", ["bearpaw", "newell"])
def test_another_joint_set_gets_new_heads_that_share_nothing(stem):
    net = network(stem)
    state = net.state_dict() if stem == "bearpaw" else pose_hourglass.newell_state(net)
    found = pose.load_published(state, skeleton=pose.STICK_FIGURE)
    assert found.network(torch.rand(1, 3, 16, 16)).shape[2] == 11
    kept, heads = 0, 0
    for name, value in found.network.state_dict().items():
        old = net.state_dict()[name]
        if name.startswith("score"):
            heads += 1
            assert value.data_ptr() != old.data_ptr()
            assert value.shape != old.shape or not torch.equal(value, old)
        else:
            kept += 1
            assert torch.equal(value, old)
    assert heads == 6
    again = pose.load_published(state, skeleton=pose.STICK_FIGURE)
    assert torch.equal(again.network.score[0].weight, found.network.score[0].weight)
    other = pose.load_published(state, skeleton=pose.STICK_FIGURE, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(other.network.score[0].weight, found.network.score[0].weight)


def test_seventeen_joints_get_numbered_points():
    assert pose.load_published(network(joints=5).state_dict()).skeleton.joints[4] == "point 4"


@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#49")
def test_errors_name_file_and_tensors(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        pose.load_published(tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="is no stacked hourglass"):
        pose.load_published({"fc.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="must hold tensors alone"):
        pose.load_published({"state_dict": {"a": 1}})
    with pytest.raises(WeightsError, match="must be a state dict"):
        pose.load_published({})
    state = network().state_dict()
    missing = {k: v for k, v in state.items() if k != "layer1.0.bn2.weight"}
    with pytest.raises(WeightsError, match=r"lacks: layer1\.0\.bn2\.weight"):
        pose.load_published(missing)
    with pytest.raises(WeightsError, match=r"unknown tensors: extra"):
        pose.load_published({**state, "extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"another shape: bn1\.bias"):
        pose.load_published({**state, "bn1.bias": torch.zeros(9)})
    second = pose_hourglass.newell_state(network("newell"))
    for unknown in ("pre.9.weight", "hgs.0.0.up1.bn7.weight", "hgs.0.0.low2.bn1.weight"):
        with pytest.raises(WeightsError, match="unknown tensor"):
            pose.load_published({**second, unknown: torch.zeros(1)})


@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#49")
def test_a_file_can_be_told_from_another_by_its_hash(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(network().state_dict(), path)
    digest = weights.sha256(path)
    for beginning in (digest[:8], digest.upper(), digest[:12]):
        assert pose.load_published(path, sha256=beginning).network.stacks == 2
    other = "0" * 8 if digest[0] != "0" else "1" * 8
    with pytest.raises(WeightsError, match=rf"net\.pth: is another file.*{digest}"):
        pose.load_published(path, sha256=other)
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        pose.load_published(tmp_path / "gone.pth", sha256=other)
    for wrong in ("1234567", "xyzxyzxyz", digest + "0"):
        with pytest.raises(ValueError, match="hexadecimal"):
            pose.load_published(path, sha256=wrong)
    with pytest.raises(TypeError, match="state dict"):
        pose.load_published(network().state_dict(), sha256=other)


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_does_nothing(tmp_path):
    torch.save({"state_dict": _Evil(str(tmp_path / "made"))}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        pose.load_published(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arch", ["hg1", "hg2"])
def test_first_layout_gives_what_another_program_gives(arch):
    peer = pytest.importorskip("stacked_hourglass")
    other = getattr(peer, arch)(pretrained=False)
    found = pose.load_published({f"module.{name}": value for name, value in other.state_dict().items()})
    assert sum(p.numel() for p in found.network.parameters()) == sum(p.numel() for p in other.parameters())
    images = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        expected = torch.stack(list(other.eval()(images)), 1)
        torch.testing.assert_close(found.network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("conv1.weight", torch.zeros(()), "conv1.weight has shape"),
        ("fc.0.0.weight", torch.zeros(3), "fc.0.0.weight has shape"),
        ("fc.0.0.weight", torch.zeros(6, 6, 1, 1), "multiple of 4; got 6"),
        ("score.0.weight", torch.zeros(0, 8, 1, 1), "`joints` must be at least 1"),
        ("hg.0.hg.99999.0.0.bn1.weight", torch.zeros(8), "lacks"),
        ("score.99999999.weight", torch.zeros(16, 8, 1, 1), "lacks"),
        ("fc.0.0.weight", torch.zeros(1, 1, 1, 1).expand(200_000, 200_000, 1, 1), "less memory"),
        ("fc.0.0.weight", torch.zeros(80_000, 1, 1, 1), "lacks"),
        ("conv1.weight", torch.zeros(2, 3, 7, 7, dtype=torch.int8), "torch.int8"),
        ("conv1.weight", torch.zeros(2, 3, 7, 7, dtype=torch.complex64), "torch.complex64"),
        ("conv1.weight", torch.zeros(2, 3, 7, 7).to_sparse(), "sparse"),
        ("conv1.weight", torch.zeros(2, 3, 7, 7, device="meta"), "conv1.weight"),
    ],
)
def test_hostile_tensors_are_refused_by_name_before_memory_is_asked_for(key, value, message):
    state = network().state_dict()
    with pytest.raises(WeightsError, match=f"the state dict: .*{message}"):
        pose.load_published({**state, key: value})
