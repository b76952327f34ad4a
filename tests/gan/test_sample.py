from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from cvkit import gan
from cvkit._errors import CheckpointError, WeightsError
from cvkit.weights import load_metadata, load_tensors, save_tensors

NAMES = ("cat", "apple", "fish")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Recorder(nn.Module):
    """Stands in for a generator: draws the label as a grey level and the first latent number as brightness."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm1d(1)
        self.batches = []
        self.modes = []

    def forward(self, latents, labels):
        self.batches.append(len(latents))
        self.modes.append(self.training)
        level = (labels.float() * 20 + latents[:, 0].clamp(-3, 3)) / 127.5 - 0.5
        return level.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) + self.weight


@pytest.fixture
def sampler():
    torch.manual_seed(0)
    return gan.Sampler(gan.Generator(3, width=4, latent_size=6), NAMES, 6, gan.preset("sketch28", latent_size=6))


@pytest.fixture
def recorder():
    return gan.Sampler(Recorder(), NAMES, 6)


def test_n_images_of_each_class_in_the_order_asked_for(recorder):
    images = recorder.sample(["fish", "cat"], n=4, truncation=1e-3)
    assert images.shape == (8, 1, 8, 8)
    assert images.dtype == torch.uint8
    levels = images[:, 0, 0, 0].tolist()
    assert levels == [104] * 4 + [64] * 4


@pytest.mark.parametrize(
    "labels",
    [["apple", "fish"], [1, 2], (1, "fish"), np.array([1, 2], np.uint8), torch.tensor([1, 2], dtype=torch.int16)],
)
def test_names_and_any_integers_mean_the_same(sampler, labels):
    assert torch.equal(sampler.sample(labels, 2), sampler.sample(torch.tensor([1, 2]), 2))


def test_one_label_alone_is_a_class_too(sampler):
    for label in ("fish", 2, np.int64(2), torch.tensor(2)):
        assert torch.equal(sampler.sample(label, 3), sampler.sample(["fish"], 3))


def test_the_same_seed_gives_the_same_bytes_and_a_generator_advances(sampler):
    state = torch.get_rng_state()
    one = generator(3)
    first, second = sampler.sample("cat", 5, generator=one), sampler.sample("cat", 5, generator=one)
    assert torch.equal(first, sampler.sample("cat", 5, generator=generator(3)))
    assert not torch.equal(first, second)
    assert torch.equal(sampler.sample("cat", 5), sampler.sample("cat", 5, generator=generator(0)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.fault("autonomousvision/graf#8")
def test_the_class_asked_for_matters(sampler):
    assert not torch.equal(sampler.sample("cat", 2), sampler.sample("fish", 2))


def test_empty_requests_give_empty_batches_of_the_right_shape(sampler):
    assert sampler.sample("cat", 0).shape == (0, 1, 28, 28)
    assert sampler.sample([], 4).shape == (0, 1, 28, 28)
    assert sampler.sample(torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 28, 28)


def test_large_requests_run_in_chunks(recorder):
    recorder.sample("cat", 600)
    assert recorder.network.batches == [256, 256, 88]


def test_every_module_gets_its_own_mode_back_also_after_an_error(recorder):
    network = recorder.network
    network.train()
    network.norm.eval()
    recorder.sample("cat", 2)
    assert network.modes == [False]
    assert (network.training, network.norm.training) == (True, False)
    with torch.no_grad():
        network.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="NaN"):
        recorder.sample("cat", 2)
    assert (network.training, network.norm.training) == (True, False)


def test_sampling_leaves_weights_statistics_and_gradients_alone(sampler):
    sampler.network.train()
    before = {name: value.clone() for name, value in sampler.network.state_dict().items()}
    images = sampler.sample([0, 1, 2], 4)
    assert not images.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in sampler.network.state_dict().items())
    assert all(parameter.grad is None for parameter in sampler.network.parameters())


def test_without_truncation_latents_are_standard_normal(sampler):
    drawn = sampler.latents(5000, generator=generator())
    assert drawn.shape == (5000, 6)
    assert drawn.std().item() == pytest.approx(1.0, abs=0.02)
    assert drawn.abs().max() > 3.5


@pytest.mark.parametrize("truncation", [0.0, -1.0, math.nan])
def test_truncation_is_checked(sampler, truncation):
    with pytest.raises(ValueError, match="`truncation` must"):
        sampler.sample("cat", truncation=truncation)


def test_decoding_gives_each_latent_its_class(recorder):
    latents = torch.zeros(3, 6)
    assert recorder.decode(latents, ["fish", "cat", "apple"])[:, 0, 0, 0].tolist() == [104, 64, 84]
    assert recorder.decode(latents, "fish")[:, 0, 0, 0].tolist() == [104] * 3
    with pytest.raises(ValueError, match="`labels` must hold one class, or 3; got 2"):
        recorder.decode(latents, [0, 1])
    with pytest.raises(ValueError, match=r"`latents` must have shape \(N, 6\)"):
        recorder.decode(torch.zeros(3, 5), 0)
    with pytest.raises(TypeError, match="`latents` must be Tensor"):
        recorder.decode([[0.0] * 6], 0)


def test_walks_begin_and_end_at_the_latents_drawn_and_keep_their_length(sampler):
    seen = []
    inner = sampler.network
    inner.register_forward_pre_hook(lambda module, args: seen.append(args))
    images = sampler.interpolate("cat", "fish", steps=5, n=2, generator=generator(1))
    assert images.shape == (10, 1, 28, 28)
    latents, labels = seen[0]
    ends = sampler.latents(4, generator=generator(1))
    torch.testing.assert_close(latents.view(2, 5, 6)[:, 0], ends[:2])
    torch.testing.assert_close(latents.view(2, 5, 6)[:, -1], ends[2:])
    lengths = latents.view(2, 5, 6).norm(dim=-1)
    torch.testing.assert_close(lengths[:, 2], (lengths[:, 0] + lengths[:, -1]) / 2)
    assert labels.view(2, 5).tolist() == [[0, 0, 2, 2, 2]] * 2


def test_walks_need_two_steps(sampler):
    with pytest.raises(ValueError, match="`steps` must be at least 2"):
        sampler.interpolate(0, 1, steps=1)


def test_a_saved_sampler_comes_back_with_everything(sampler, tmp_path):
    sampler.sample([0, 1], 2)
    sampler.save(tmp_path / "sampler.safetensors")
    again = gan.Sampler.load(tmp_path / "sampler.safetensors")
    assert (again.names, again.latent_size, again.preset) == (sampler.names, sampler.latent_size, sampler.preset)
    assert torch.equal(again.sample(NAMES, 3), sampler.sample(NAMES, 3))
    assert not again.network.training
    assert not any(parameter.requires_grad for parameter in again.network.parameters())


def test_a_channels_last_network_is_stored_too(sampler, tmp_path):
    sampler.network.to(memory_format=torch.channels_last)
    sampler.save(tmp_path / "s.safetensors")
    again = gan.Sampler.load(tmp_path / "s.safetensors")
    assert torch.equal(again.sample(NAMES, 3), sampler.sample(NAMES, 3))


def test_half_precision_takes_half_the_room_and_changes_little(sampler, tmp_path):
    sampler.save(tmp_path / "whole.safetensors")
    sampler.save(tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.safetensors", "half.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    again = gan.Sampler.load(tmp_path / "half.safetensors")
    assert all(value.dtype == torch.float32 for value in again.network.parameters())
    difference = again.sample(NAMES, 3).int() - sampler.sample(NAMES, 3).int()
    assert difference.abs().max() <= 2


def test_names_of_any_script_survive(tmp_path):
    sampler = gan.Sampler(gan.Generator(2, width=4), ["Eiffelturm", "\u732b <b>\n"], 64)
    sampler.save(tmp_path / "s.safetensors")
    assert gan.Sampler.load(tmp_path / "s.safetensors").names == sampler.names


def test_calibration_gives_batch_norm_the_statistics_of_its_own_images(sampler):
    before = {name: value.clone() for name, value in sampler.network.state_dict().items()}
    norms = [norm.norm for norm in sampler.network.norms]
    for norm in norms:
        norm.running_mean.add_(3.0)
    calibrated = sampler.calibrated()
    inputs = []
    for norm in calibrated.network.norms:
        norm.norm.register_forward_hook(lambda module, args, output: inputs.append((args[0], output)))
    calibrated.sample(NAMES, 200, generator=generator(1))
    for features, normal in inputs[: len(norms)]:
        assert features.shape == normal.shape
        assert normal.mean((0, 2, 3)).abs().max() < 0.3
        assert (normal.std((0, 2, 3)) - 1).abs().max() < 0.3
    # The sampler itself stays as it was, and so do weights and modes.
    assert calibrated.network is not sampler.network
    assert all(
        torch.equal(norm.running_mean, before[f"norms.{i}.norm.running_mean"] + 3) for i, norm in enumerate(norms)
    )
    assert not calibrated.network.training
    assert [norm.norm.momentum for norm in calibrated.network.norms] == [norm.momentum for norm in norms]
    for name, value in calibrated.network.named_parameters():
        assert torch.equal(value, before[name])
    again = sampler.calibrated()
    assert torch.equal(again.sample(NAMES, 2), calibrated.sample(NAMES, 2))


def test_calibration_follows_the_frequencies_of_the_classes(sampler):
    with torch.no_grad():
        sampler.network.embedding.weight[2] += 5.0
    only = sampler.calibrated([0, 0, 1]).network.norms[0].norm.running_mean
    assert not torch.allclose(only, sampler.calibrated().network.norms[0].norm.running_mean, atol=0.1)
    torch.testing.assert_close(sampler.calibrated([0.0, 0.0, 7.0]).network.norms[0].norm.running_mean, only)
    for wrong in ([1, 1], [1, 1, -1], [0, 0, 0], [[1, 1, 1]]):
        with pytest.raises(ValueError, match="`frequencies` must be a number >= 0 for each of 3 classes"):
            sampler.calibrated(wrong)
    with pytest.raises(ValueError, match="`images` must be at least 256"):
        sampler.calibrated(images=100)


def test_networks_without_batch_norm_need_no_calibration():
    class Plain(nn.Module):
        def forward(self, latents, labels):
            return torch.zeros(len(latents), 1, 8, 8)

    sampler = gan.Sampler(Plain(), ["a"], 2)
    assert sampler.calibrated() is sampler


def damaged(path, **changes):
    """Write the file at `path` again with other entries in its description."""
    description = json.loads(load_metadata(path)["sampler"])
    for key, value in changes.items():
        if value is None:
            del description[key]
        elif isinstance(value, dict):
            description[key].update(value)
        else:
            description[key] = value
    save_tensors(path, load_tensors(path), metadata={"sampler": json.dumps(description)})


@pytest.mark.fault("lucidrains/lightweight-gan#124")
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "other"}, "holds no sampler"),
        ({"version": 2}, "version 2; this cvkit reads version 1"),
        ({"names": ["a"]}, "a name for each of the network's 3 classes; got 1"),
        ({"names": None}, "names"),
        ({"latent_size": "many"}, "latent_size"),
        ({"preset": {"gamma": 1}}, "no setting 'gamma'"),
        ({"generator": {"width": 5}}, "must have shape"),
        ({"generator": {"blocks": 2}}, "names that differ"),
        ({"generator": {"width": 2**40}}, "sampler.safetensors"),
        ({"generator": {"blocks": 2**40}}, "`blocks` must be at most 256"),
        ({"generator": {"size": [2**30, 2**30]}}, "sampler.safetensors"),
        ({"generator": {"depth": 3}}, "depth"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused_naming_file_and_fault(sampler, tmp_path, changes, match):
    path = tmp_path / "sampler.safetensors"
    sampler.save(path)
    damaged(path, **changes)
    with pytest.raises(WeightsError, match=match) as caught:
        gan.Sampler.load(path)
    assert "sampler.safetensors" in str(caught.value)


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_tensors(path, {"x": torch.zeros(2)})
    with pytest.raises(WeightsError, match="holds no sampler"):
        gan.Sampler.load(path)
    for text in ("{", "[1]", '"text"', "[" * 100_000):
        save_tensors(path, {"x": torch.zeros(2)}, metadata={"sampler": text})
        with pytest.raises(WeightsError, match=r"other\.safetensors"):
            gan.Sampler.load(path)
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        gan.Sampler.load(path)
    with pytest.raises(WeightsError, match=r"missing\.safetensors"):
        gan.Sampler.load(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match=str(tmp_path.name)):
        gan.Sampler.load(tmp_path)


def test_only_our_generator_can_be_stored(recorder, tmp_path):
    with pytest.raises(TypeError, match="`network` must be a Generator, to be stored"):
        recorder.save(tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())


def test_records_are_frozen_and_checked(sampler):
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.latent_size = 3
    with pytest.raises(ValueError, match="each once"):
        gan.Sampler(Recorder(), ["a", "a"], 4)
    with pytest.raises(ValueError, match="at least one name"):
        gan.Sampler(Recorder(), [], 4)
    with pytest.raises(ValueError, match="3 classes; got 2"):
        gan.Sampler(sampler.network, ["a", "b"], 6)
    with pytest.raises(TypeError, match="`network` must be Module"):
        gan.Sampler(None, ["a"], 4)
    with pytest.raises(ValueError, match="`latent_size` must be at least 1"):
        gan.Sampler(Recorder(), ["a"], 0)
    with pytest.raises(TypeError, match="`preset` must be Preset"):
        gan.Sampler(Recorder(), ["a"], 4, {"r1": 1})


def test_networks_without_parameters_sample_on_the_cpu():
    class Plain(nn.Module):
        def forward(self, latents, labels):
            return torch.zeros(len(latents), 1, 8, 8)

    assert gan.Sampler(Plain(), ["a"], 2).sample("a").device.type == "cpu"
