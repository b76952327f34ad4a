import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cvkit import pose, training
from cvkit._errors import CheckpointError

CODEC = pose.GaussianCodec((32, 32), (8, 8), sigma=1.0)
QUICK = pose.Recipe(learning_rate=5e-3, warmup=16, horizon=10_000, half_life=40)


def network(seed=0, **options):
    return pose.StackedHourglass(
        11, **{"stacks": 1, "depth": 1, "features": 8, "generator": torch.Generator().manual_seed(seed), **options}
    )


def fit(data, out, **options):
    return pose.fit(
        data,
        **{
            "model": network(),
            "codec": CODEC,
            "out": out,
            "steps": 4,
            "batch_size": 4,
            "recipe": QUICK,
            "log_every": 1,
            **options,
        },
    )


@pytest.fixture(scope="module")
def data():
    return pose.stick_figures(12, size=(32, 32))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.fault("bearpaw/pytorch-pose#58")
@pytest.mark.fault("bearpaw/pytorch-pose#15")
def test_same_seed_same_bytes_and_another_seed_other_ones(data, tmp_path):
    state = torch.get_rng_state()
    runs = [fit(data, tmp_path / str(i), seed=i // 2) for i in range(3)]
    assert torch.equal(torch.get_rng_state(), state)
    assert same(runs[0].model.network, runs[1].model.network)
    assert not same(runs[0].model.network, runs[2].model.network)
    assert runs[0].history == runs[1].history


@pytest.mark.parametrize("cut", range(5))
def test_a_run_that_was_cut_equals_an_unbroken_one(data, tmp_path, cut):
    whole = fit(data, tmp_path / "whole")
    if cut:
        fit(data, tmp_path / "cut", steps=cut)
    resumed = fit(
        data, tmp_path / "cut", model=network(seed=9) if cut else network()
    )  # the weights come from the checkpoint
    assert same(whole.model.network, resumed.model.network)
    assert whole.history == resumed.history


def test_the_model_is_trained_in_place_and_the_average_predicts(data, tmp_path):
    model = network()
    before = model.conv1.weight.detach().clone()
    run = fit(data, tmp_path / "a", model=model)
    assert not torch.equal(model.conv1.weight, before)
    assert run.model.network is not model
    plain = fit(data, tmp_path / "b", model=model, recipe=replace(QUICK, half_life=0))
    assert plain.model.network is model
    assert not model.training
    for folder, made in (("a", run), ("b", plain)):
        again = pose.Estimator.load(tmp_path / folder)
        assert same(again.network, made.model.network)
        assert (again.codec, again.skeleton, again.preprocess) == (
            made.model.codec,
            made.model.skeleton,
            made.model.preprocess,
        )


@pytest.mark.parametrize(
    "codec",
    [
        pose.UDPCodec((32, 32), (8, 8), radius=1.5),
        pose.IntegralCodec((32, 32), (8, 8)),
        pose.OneHotCodec((32, 32), (8, 8), sigma=1.0),
        pose.SimCCCodec((32, 32), 1, sigma=1.5),
    ],
    ids=lambda c: type(c).__name__,
)
def test_every_codec_trains(data, tmp_path, codec):
    model = network(stacks=2) if codec.channels(1) == 1 else pose.StackedHourglass(33, stacks=2, depth=1, features=8)
    if isinstance(codec, pose.SimCCCodec):
        model = pose.SimCCHead(model, codec, (8, 8))
    run = fit(data, tmp_path, model=model, codec=codec, steps=12, recipe=replace(QUICK, augmentation=None), valid=data)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert math.isfinite(run.history[-1]["valid_epe"])


@pytest.mark.fault("open-mmlab/mmpose#989")
def test_starts_no_workers_and_leaves_the_threads_alone(data, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a worker process or another number of threads")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    monkeypatch.setattr("torch.set_num_threads", refuse)
    before = torch.get_num_threads()
    assert fit(data, tmp_path, steps=2).step == 2
    assert torch.get_num_threads() == before


def test_defaults_need_nothing_but_data_and_a_folder(data, tmp_path):
    run = pose.fit(data[:4], out=tmp_path, steps=1, batch_size=2)
    assert run.model.codec.input_size == (64, 64)
    assert run.model.predict(data.images[:2]).keypoints.shape == (2, 11, 2)


def test_arrays_and_tensors_are_data_too(data, tmp_path):
    parts = (data.images, torch.from_numpy(data.keypoints), data.visibility)
    run = fit(parts, tmp_path / "a", skeleton=pose.STICK_FIGURE)
    assert same(run.model.network, fit(data, tmp_path / "b").model.network)
    with pytest.raises(ValueError, match="skeleton"):
        fit(parts, tmp_path / "c")
    with pytest.raises(TypeError, match="train"):
        fit([1, 2], tmp_path / "c", skeleton=pose.STICK_FIGURE)
    with pytest.raises(ValueError, match="4 parts"):
        fit((*parts, 1), tmp_path / "c", skeleton=pose.STICK_FIGURE)
    with pytest.raises(ValueError, match="at least one"):
        fit(data[:0], tmp_path / "c")


def test_pictures_that_do_not_fit_in_memory_give_the_same_run(data, tmp_path, monkeypatch):
    held = fit(data, tmp_path / "held")
    monkeypatch.setattr("cvkit.pose.train._IN_MEMORY", 0)
    assert same(fit(data, tmp_path / "cut").model.network, held.model.network)


@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#78")
def test_recipe_and_data_are_stored_and_compared(data, tmp_path):
    fit(data, tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="learning_rate"):
        fit(data, tmp_path, recipe=replace(QUICK, learning_rate=1e-3))
    with pytest.raises(CheckpointError, match="sha256"):
        fit(pose.stick_figures(12, size=(32, 32), rng=np.random.default_rng(1)), tmp_path)
    with pytest.raises(CheckpointError):
        fit(data, tmp_path, resume="never")
    document = training.read_document(tmp_path, "meta")
    assert document["estimator"]["codec"]["kind"] == "GaussianCodec"


def test_flipping_without_pairs_is_refused_before_anything_is_written(data, tmp_path):
    sided = pose.Skeleton("s", pose.STICK_FIGURE.joints)
    with pytest.raises(ValueError, match="left and right"):
        fit(data.with_skeleton(sided), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    still = replace(QUICK, augmentation=pose.Augmentation(flip=0))
    assert fit(data.with_skeleton(sided), tmp_path / "x", recipe=still).step == 4


def test_rate_rises_and_falls_by_pictures_not_steps():
    recipe = pose.Recipe(learning_rate=1.0, warmup=100, horizon=1100)
    rates = [recipe.rate(images) for images in range(0, 3000, 50)]
    assert rates[0] == 0
    assert max(rates) == recipe.rate(100) == 1.0
    assert recipe.rate(600) == pytest.approx(0.51)
    assert recipe.rate(1100) == recipe.rate(10**9) == pytest.approx(0.02)
    for options in ({"learning_rate": 0}, {"warmup": -1}, {"horizon": 10}, {"clip": 0}, {"half_life": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            pose.Recipe(**options)


@pytest.mark.fault("tpfister/caffe-heatmap#17")
@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#27")
@pytest.mark.fault("ZheC/Realtime_Multi-Person_Pose_Estimation#224")
def test_a_collapsed_network_is_noticed(data, tmp_path):
    dead = network()
    with torch.no_grad():
        dead.score[0].weight.zero_()
        dead.score[0].bias.zero_()
    frozen = replace(QUICK, learning_rate=1e-12, collapse_after=8)
    with pytest.raises(training.DivergenceError, match="collapsed"):
        fit(data, tmp_path / "a", model=dead, recipe=frozen)
    assert fit(data, tmp_path / "b", model=dead, recipe=replace(frozen, collapse_after=0)).step == 4


@pytest.mark.fault("microsoft/human-pose-estimation.pytorch#17")
@pytest.mark.fault("microsoft/human-pose-estimation.pytorch#45")
@pytest.mark.fault("xingyizhou/pytorch-pose-hg-3d#16")
@pytest.mark.slow
@pytest.mark.fault("bearpaw/pytorch-pose#33")
@pytest.mark.fault("microsoft/human-pose-estimation.pytorch#8")
def test_training_and_evaluation_mode_agree_after_training(tmp_path):
    data = pose.stick_figures(64, size=(32, 32))
    model = network(features=16)
    fit(data, tmp_path, model=model, steps=60, batch_size=16, recipe=replace(QUICK, half_life=0), log_every=20)
    images = data.crops(pose.Preprocess((32, 32))).images.float() / 255
    with torch.no_grad():
        evaluated, trained = model.eval()(images), model.train()(images)
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())
    assert (evaluated - trained).abs().mean() < 0.35 * trained.abs().mean()


@pytest.mark.slow
def test_learns_stick_figures(tmp_path):
    train = pose.stick_figures(1500, size=(64, 64))
    unseen = pose.stick_figures(100, size=(64, 64), rng=np.random.default_rng(99))
    codec = pose.SoftmaxCodec((64, 64), (16, 16))
    recipe = pose.Recipe(learning_rate=1e-2, horizon=6_000, augmentation=pose.Augmentation(rotation=15, scale=0.15))
    run = pose.fit(train, codec=codec, out=tmp_path, valid=unseen, recipe=recipe, steps=300)
    assert run.history[-1]["valid_pck"] > 0.75
    assert run.history[-1]["valid_epe"] < 4


@pytest.mark.slow
@pytest.mark.fault("princeton-vl/pytorch_stacked_hourglass#27")
def test_overfits_eight_real_pictures_with_gaps(real_data, tmp_path):
    mice = pose.read_landmarks(real_data / "landmarks" / "mirror_mouse")[:8]
    size = (96, 96)
    codec = pose.SoftmaxCodec(size, (24, 24))
    recipe = pose.Recipe(learning_rate=1e-2, warmup=200, horizon=4000, half_life=100, augmentation=None)
    model = pose.StackedHourglass(17, stacks=1, depth=3, features=32)
    run = pose.fit(mice, model=model, codec=codec, out=tmp_path, recipe=recipe, steps=200, batch_size=8, valid=mice)
    found = run.model.predict(list(mice.images))
    metric = pose.PCK(0.05)
    metric.update(
        found.keypoints,
        mice.keypoints,
        mice.visibility,
        normalizer=pose.reference_length("box_max", mice.keypoints, mice.visibility),
    )
    assert metric.compute().mean == 1.0


@pytest.mark.slow
@pytest.mark.fault("HRNet/HigherHRNet-Human-Pose-Estimation#11")
@pytest.mark.filterwarnings("ignore:cpu emulates bfloat16")
def test_two_hundred_steps_in_bfloat16_stay_finite(tmp_path):
    data = pose.stick_figures(32, size=(32, 32))
    run = fit(data, tmp_path, steps=200, precision="bfloat16", log_every=50)
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def launch_worker(out, cuts, processes):
    """Run fit_worker.py, under torchrun on loopback for several processes."""
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    command = [sys.executable, *launcher, str(Path(__file__).with_name("fit_worker.py")), str(out), *map(str, cuts)]
    out.mkdir()
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, timeout=240)


@pytest.mark.slow
def test_two_processes_with_half_the_batch_equal_one_with_the_whole(tmp_path):
    # The halves hold different numbers of labels: means over labels have to be those of the whole batch.
    for name, cuts, processes in (("one", [6], 1), ("two", [6], 2), ("cut", [2, 5, 6], 2)):
        launch_worker(tmp_path / name, cuts, processes)
    for codec in ("gaussian", "udp", "integral", "softmax"):
        one, two, cut = (
            training.read_tensors(tmp_path / name / codec, "modules.network") for name in ("one", "two", "cut")
        )
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-6, atol=1e-6)
            assert torch.equal(cut[key], two[key])
    rows = [json.loads((tmp_path / name / "rank-0.json").read_text()) for name in ("one", "two")]
    assert [row["processes"] for row in rows] == [1, 2]
    for ours, theirs in zip(rows[0]["history"], rows[1]["history"], strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


def test_tensors_have_their_channels_first_and_arrays_last(data, tmp_path):
    options = {"skeleton": data.skeleton, "codec": CODEC, "recipe": QUICK, "steps": 1, "batch_size": 4}
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    first = pose.fit((images, torch.from_numpy(data.keypoints)), out=tmp_path / "a", **options)
    last = pose.fit((data.images, data.keypoints), out=tmp_path / "b", **options)
    assert first.history[-1]["loss"] == last.history[-1]["loss"]


def test_unseen_data_may_be_a_tuple_and_must_have_the_same_joints(data, tmp_path):
    options = {"recipe": QUICK, "steps": 1, "batch_size": 4, "progress": False}
    unseen = data[:3]
    run = pose.fit(data, valid=(unseen.images, unseen.keypoints, unseen.visibility), out=tmp_path / "a", **options)
    same = pose.fit(data, valid=unseen, out=tmp_path / "b", **options)
    assert run.history[-1]["valid_epe"] == same.history[-1]["valid_epe"]
    two = pose.LandmarkData(data.images, data.keypoints[:, :2], skeleton=pose.Skeleton("two", ["a", "b"]))
    with pytest.raises(ValueError, match="`valid` must have the 11 joints of `train`; got 2"):
        pose.fit(data, valid=two, out=tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_a_coordinate_codec_gets_a_default_network_too(data, tmp_path):
    run = pose.fit(data, codec=pose.SimCCCodec((32, 24)), out=tmp_path, steps=1, batch_size=4, progress=False)
    assert run.model.predict(data.images[:2]).keypoints.shape == (2, 11, 2)
    assert pose.Estimator.load(tmp_path).network.heatmap_size == (8, 6)


def test_outputs_that_do_not_fit_are_named_at_the_first_step(data, tmp_path):
    options = {"recipe": QUICK, "steps": 1, "batch_size": 4, "progress": False}
    with pytest.raises(ValueError, match="`model` must give outputs with an axis of stacks"):
        pose.fit(data, model=torch.nn.Conv2d(3, 11, 4, 4), codec=CODEC, out=tmp_path / "a", **options)
    for codec, message in ((pose.SimCCCodec((32, 32)), "bins of x and y"), (pose.UDPCodec((32, 32), (8, 8)), "shape")):
        network = pose.StackedHourglass(11, stacks=1, depth=1, features=8)
        with pytest.raises(ValueError, match=f"`outputs` must .*{message}"):
            pose.fit(data, model=network, codec=codec, out=tmp_path / message, **options)


def test_data_without_a_single_label_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="`train` must hold at least one labelled joint"):
        pose.fit((data.images, data.keypoints * np.nan), skeleton=data.skeleton, out=tmp_path, steps=1)
