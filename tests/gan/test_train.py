from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cvkit import gan, training
from cvkit._errors import CheckpointError, WeightsError
from cvkit.gan.datasets import ImageSet
from cvkit.io import load_image

NAMES = ("dots", "bars")


def data(count=24, side=8, channels=1, seed=0):
    """Two classes that any eye tells apart: noise and stripes."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, channels, side, side), np.uint8)
    labels = np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        if label:
            image[:, rng.integers(0, side)] = 255
        else:
            image[:, rng.integers(0, side, 4), rng.integers(0, side, 4)] = 255
    return ImageSet(images, labels, NAMES)


TINY = gan.preset(
    "sketch28", latent_size=4, generator_width=4, discriminator_width=4, batch_size=4, warmup=8, penalty_interval=2,
    augment=gan.DiffAugment(translation=0.2),
)  # fmt: skip


def fit(out, steps, known=None, **options):
    options = {"model": TINY, "sheet_every": None, "log_every": 3, "progress": False, "seed": 5, **options}
    return gan.fit(data() if known is None else known, out=out, steps=steps, **options)


def contents(folder):
    """Digest of every tensor file of the newest checkpoint."""
    files = [f for f in training.find_checkpoint(folder).glob("*.safetensors") if not f.name.startswith("extra")]
    assert files
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    torch.set_num_threads(1)
    run = fit(folder, 9)
    return contents(folder), run.history, run.model.sample(NAMES, 3)


@pytest.mark.fault("NVlabs/stylegan3#61")
@pytest.mark.fault("AlexiaJM/RelativisticGAN#11")
@pytest.mark.fault("NVlabs/stylegan2-ada-pytorch#108")
@pytest.mark.parametrize("cut", range(10))
def test_a_run_cut_anywhere_equals_an_unbroken_one(tmp_path, unbroken, cut):
    expected, history, samples = unbroken
    if cut:
        fit(tmp_path, cut)
    run = fit(tmp_path, 9)
    assert contents(tmp_path) == expected  # networks, average and moments, byte for byte
    assert torch.equal(run.model.sample(NAMES, 3), samples)
    rows = [row for row in run.history if row["step"] % 3 == 0]
    assert rows == [row for row in history if row["step"] % 3 == 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"loss": "hinge", "spectral_norm": True}, {"loss": "wasserstein", "gradient_penalty": 1.0, "r1": 0.0, "r2": 0.0},
     {"generator_blocks": 1, "loss": "least-squares"}, {"loss": "non-saturating", "betas": (0.5, 0.9)}],
)  # fmt: skip
def test_every_kind_of_recipe_resumes_exactly(tmp_path, changes):
    recipe = gan.preset(TINY, **changes)
    fit(tmp_path / "whole", 8, model=recipe)
    for steps in (3, 4, 8):
        fit(tmp_path / "cut", steps, model=recipe)
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:cpu emulates bfloat16")
def test_low_precision_resumes_exactly_too(tmp_path):
    fit(tmp_path / "whole", 8, precision="bfloat16")
    fit(tmp_path / "cut", 5, precision="bfloat16")
    fit(tmp_path / "cut", 8, precision="bfloat16")
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(tmp_path / name, 3, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_steps_only_say_when_to_stop(tmp_path):
    fit(tmp_path / "short", 3)
    fit(tmp_path / "long", 6, checkpoint_every=3)
    short = training.read_tensors(tmp_path / "short", "modules.generator")
    long = training.read_tensors(tmp_path / "long" / "step-00000003", "modules.generator")
    assert all(torch.equal(short[name], long[name]) for name in short)


def test_the_run_returns_a_sampler_of_the_average(tmp_path):
    run = fit(tmp_path, 4)
    assert run.model.names == NAMES
    assert run.model.preset == TINY
    assert (run.step, run.finished, run.directory) == (4, True, tmp_path)
    averaged = training.read_tensors(tmp_path, "averages.generator")
    own = dict(run.model.network.named_parameters())
    assert all(torch.equal(value, averaged[name]) for name, value in own.items())
    live = training.read_tensors(tmp_path, "modules.generator")
    assert any(not torch.equal(live[name], value) for name, value in averaged.items())


def test_a_finished_run_returns_at_once_with_its_model_and_log(tmp_path):
    first = fit(tmp_path, 4)
    again = fit(tmp_path, 4)
    assert again.history == first.history
    assert torch.equal(again.model.sample(NAMES), first.model.sample(NAMES))


def test_a_checkpoint_and_a_run_load_as_samplers(tmp_path):
    run = fit(tmp_path, 6, checkpoint_every=3)
    images = run.model.sample(NAMES, 2)
    assert torch.equal(gan.Sampler.load(tmp_path).sample(NAMES, 2), images)
    assert torch.equal(gan.Sampler.load(tmp_path / "step-00000006").sample(NAMES, 2), images)
    assert not torch.equal(gan.Sampler.load(tmp_path / "step-00000003").sample(NAMES, 2), images)


def test_the_log_holds_the_metrics_by_name(tmp_path):
    rows = fit(tmp_path, 6).history
    assert [row["step"] for row in rows] == [3, 6]
    assert {"loss_discriminator", "loss_generator", "penalty", "spread", "logit_real", "logit_fake"} <= set(rows[0])
    assert all(np.isfinite(list(row.values())).all() for row in rows)


@pytest.mark.fault("NVlabs/stylegan2-ada-pytorch#69")
def test_another_recipe_is_refused_naming_the_key_and_both_values(tmp_path):
    fit(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"generator_width = 4, now (it is )?8"):
        fit(tmp_path, 4, model=gan.preset(TINY, generator_width=8))
    with pytest.raises(CheckpointError, match=r"r1"):
        fit(tmp_path, 4, model=gan.preset(TINY, r1=0.3))
    with pytest.raises(CheckpointError, match=r"seed = 5, now (it is )?6"):
        fit(tmp_path, 4, seed=6)


def test_other_data_are_refused(tmp_path):
    fit(tmp_path, 2)
    with pytest.raises(CheckpointError, match="sha256"):
        fit(tmp_path, 4, data(seed=1))
    renamed = data()
    with pytest.raises(CheckpointError, match="classes"):
        fit(tmp_path, 4, ImageSet(renamed.images, renamed.labels, ("x", "y")))


def test_a_run_can_be_told_to_begin_or_to_go_on(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        fit(tmp_path, 2, resume="require")
    fit(tmp_path, 2, resume="never")
    fit(tmp_path, 3, resume="require")
    with pytest.raises(CheckpointError, match="already"):
        fit(tmp_path, 4, resume="never")


def test_sheets_are_written_at_intervals_and_at_the_end_without_touching_the_run(tmp_path):
    fit(tmp_path / "with", 5, sheet_every=2)
    fit(tmp_path / "without", 5)
    names = sorted(path.name for path in (tmp_path / "with" / "sheets").iterdir())
    assert names == ["step-00000002.png", "step-00000004.png", "step-00000005.png"]
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    assert not (tmp_path / "without" / "sheets").exists()
    sheet = np.asarray(load_image(tmp_path / "with" / "sheets" / names[-1]))
    assert sheet.ndim == 2
    assert sheet.shape[1] > 10 * 8 * 2


def test_sheets_of_many_classes_show_the_first_twenty(tmp_path):
    images = np.zeros((25, 8, 8), np.uint8)
    fit(tmp_path, 1, (images, np.arange(25)), sheet_every=1, collapse="ignore")
    sheet = np.asarray(load_image(tmp_path / "sheets" / "step-00000001.png"))
    assert sheet.shape[0] == 20 * (8 * 2 + 4) + 4


@pytest.mark.parametrize(("side", "channels"), [((8, 8), 1), ((9, 13), 3), ((28, 28), 1), ((17, 8), 5)])
def test_any_size_and_channel_count_is_learnt(tmp_path, side, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, channels, *side), dtype=np.uint8)
    run = fit(tmp_path, 2, (images, np.arange(6) % 2))
    assert run.model.sample([0, 1]).shape == (2, channels, *side)


def test_networks_of_ones_own_are_trained_in_place(tmp_path):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4 + 2, 64)

        def forward(self, latents, labels):
            one_hot = nn.functional.one_hot(labels, 2).float()
            return torch.tanh(self.linear(torch.cat([latents, one_hot], 1))).view(-1, 1, 8, 8)

    torch.manual_seed(0)
    generator, discriminator = Mine(), gan.Discriminator(2, size=(8, 8), width=4)
    before = generator.linear.weight.detach().clone()
    run = fit(tmp_path, 3, networks=(generator, discriminator))
    assert not torch.equal(generator.linear.weight, before)
    assert run.model.sample(NAMES).shape == (2, 1, 8, 8)
    with pytest.raises(WeightsError, match="holds no sampler"):
        gan.Sampler.load(tmp_path)


def test_read_only_memory_mapped_data_are_taken_and_left_alone(tmp_path):
    known = data()
    np.save(tmp_path / "images.npy", known.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    fit(tmp_path / "mapped", 2, (mapped, known.labels))
    fit(tmp_path / "plain", 2, (known.images.copy(), known.labels))
    assert contents(tmp_path / "mapped") == contents(tmp_path / "plain")


def test_a_time_budget_ends_the_run_whole(tmp_path):
    run = fit(tmp_path, 10**6, max_seconds=0.0)
    assert not run.finished
    assert run.step >= 1
    assert gan.Sampler.load(tmp_path).names == NAMES


def test_non_finite_numbers_stop_the_run_naming_the_step(tmp_path):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.calls = 0

        def forward(self, images, labels):
            self.calls += 1
            return images.mean((1, 2, 3)) * self.scale * (float("nan") if self.calls > 6 else 1.0)

    networks = (gan.Generator(2, size=(8, 8), width=4, latent_size=4), Broken())
    plain = gan.preset(TINY, r1=0.0, r2=0.0)
    with pytest.raises(training.DivergenceError, match=r"step 2: .*discriminator is not finite"):
        fit(tmp_path, 9, networks=networks, model=plain, checkpoint_every=2)
    kept = training.read_tensors(tmp_path, "modules.generator")
    assert all(torch.isfinite(value).all() for value in kept.values() if value.is_floating_point())


@pytest.mark.fault("ajbrock/BigGAN-PyTorch#91")
def test_a_collapsed_generator_is_told_of_or_stopped(tmp_path):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.picture = nn.Parameter(torch.zeros(2, 1, 8, 8))

        def forward(self, latents, labels):
            return torch.tanh(self.picture[labels])

    def networks():
        torch.manual_seed(0)
        return Constant(), gan.Discriminator(2, size=(8, 8), width=4)

    options = {"log_every": 1, "batch_size": 8}
    with pytest.warns(RuntimeWarning, match="step 10: collapse within classes"):
        fit(tmp_path / "warn", 11, networks=networks(), **options)
    with pytest.raises(training.DivergenceError, match="collapse within classes"):
        fit(tmp_path / "stop", 11, networks=networks(), collapse="stop", **options)
    fit(tmp_path / "ignore", 11, networks=networks(), collapse="ignore", **options)


def test_writers_get_every_row(tmp_path):
    rows: list[dict[str, float]] = []
    run = fit(tmp_path, 6, writers=[rows.append])
    assert tuple(rows) == run.history


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model": "sketch64"}, ValueError, "`model` must be one of"),
        ({"collapse": "panic"}, ValueError, "`collapse` must be one of"),
        ({"sheet_every": 0}, ValueError, "`sheet_every` must be at least 1"),
        ({"batch_size": 1}, ValueError, "`batch_size` must be at least 2"),
        ({"networks": (nn.Identity(),)}, ValueError, "a generator and a discriminator"),
        ({"networks": [nn.Identity(), nn.Identity()]}, TypeError, "a generator and a discriminator"),
        ({"networks": (nn.Identity(), None)}, TypeError, "a generator and a discriminator"),
        ({"precision": "float16"}, ValueError, "`precision`"),
        ({"steps": 0}, ValueError, "`steps`"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        gan.fit(data(), **{"model": TINY, "out": tmp_path / "run", "steps": 2, **options})
    assert not (tmp_path / "run").exists()


def test_nothing_is_printed(tmp_path, capsys):
    fit(tmp_path, 2, progress=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_short_run_learns_what_the_classes_look_like(tmp_path):
    # No translation here: where the diversity is position alone, it makes the generator settle on one.
    still = gan.DiffAugment(translation=0.0)
    recipe = gan.preset(TINY, generator_width=16, discriminator_width=16, batch_size=32, latent_size=16, augment=still)
    known = data(400)
    run = fit(tmp_path, 400, known, model=recipe, log_every=50)
    images = run.model.sample(NAMES, 100).float() / 255
    # A bar fills one row: its brightest row is far brighter than that of scattered dots.
    brightest = images[:, 0].mean(-1).amax(-1)
    right = (brightest[:100] < 0.5).float().mean() + (brightest[100:] > 0.5).float().mean()
    assert right > 1.5  # 1 where the label is ignored, 2 where it is always right
    # And not one bar for all.
    assert len(images[100:, 0].mean(-1).argmax(-1).unique()) >= 4
    assert run.history[-1]["spread"] > 0.5


@pytest.mark.slow
def test_real_drawings_are_learnt_for_a_few_steps(tmp_path, real_data):
    with np.load(real_data / "quickdraw" / "bitmaps_9x2000.npz", allow_pickle=False) as file:
        known = ImageSet(file["images"], file["labels"], tuple(file["names"]))
    run = gan.fit(known, out=tmp_path, steps=20, progress=False, log_every=10)
    assert run.model.sample("cat", 2).shape == (2, 1, 28, 28)
    assert (tmp_path / "sheets" / "step-00000020.png").exists()


@pytest.mark.slow
def test_two_processes_train_one_generator(tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    worker = Path(__file__).with_name("fit_worker.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, str(worker), str(tmp_path)], env=environment, check=True, timeout=240)
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["step"] == 6
    assert gan.Sampler.load(tmp_path / "run").sample([0, 1]).shape == (2, 1, 8, 8)
    assert len(list((tmp_path / "run" / "sheets").iterdir())) == 2
