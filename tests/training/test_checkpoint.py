from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from cvkit import training
from cvkit._errors import CheckpointError
from cvkit.training import checkpoint
from cvkit.weights import load_tensors
from reference.training_problems import (
    digests,
    equal,
    fill,
    gan_batches,
    gan_state,
    gan_step,
    line_state,
    quiet_init,
    snapshot,
)


def trained(steps=3, **options):
    state = gan_state(**options)
    for _ in training.iterate(state, gan_step, gan_batches(), steps=steps):
        pass
    return state


def test_a_state_comes_back_bit_for_bit_and_goes_on_alike(tmp_path):
    state = trained()
    training.save_checkpoint(tmp_path, state)
    again = gan_state()
    fill(again.modules.values(), seed=9)
    training.restore(again, tmp_path)
    assert equal(snapshot(again), snapshot(state))
    assert (again.step, again.images, again.numbers) == (3, 18, state.numbers)
    assert torch.equal(again.tensors["sign"], state.tensors["sign"])
    for run in (state, again):
        for _ in training.iterate(run, gan_step, gan_batches(), steps=6):
            pass
    assert equal(snapshot(again), snapshot(state))
    assert again.schedules["generator"].state_dict() == state.schedules["generator"].state_dict()


def test_the_directory_holds_what_the_format_says(tmp_path):
    path = training.save_checkpoint(
        tmp_path, trained(), documents={"meta": {"kind": "x"}}, extra={"codec": {"sigma": torch.ones(2)}}
    )
    assert path.name == "step-00000003"
    assert sorted(f.name for f in path.iterdir()) == [
        "averages.generator.safetensors",
        "extra.codec.safetensors",
        "manifest.json",
        "meta.json",
        "modules.discriminator.safetensors",
        "modules.generator.safetensors",
        "optimizers.discriminator.safetensors",
        "optimizers.generator.safetensors",
        "state.json",
        "tensors.safetensors",
    ]
    body = json.loads((path / "manifest.json").read_text())["body"]
    assert (body["format"], body["version"], body["step"]) == ("cvkit.training", 1, 3)
    assert set(body["files"]) == {f.name for f in path.iterdir()} - {"manifest.json"}
    plain = load_tensors(path / "modules.generator.safetensors")
    assert set(plain) == set(gan_state().modules["generator"].state_dict())


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        training.save_checkpoint(tmp_path / name, trained())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    training.restore(again := gan_state(), tmp_path / "a")
    training.save_checkpoint(tmp_path / "c", again)
    assert digests(tmp_path / "c") == digests(tmp_path / "a")


def convolution(optimizer, *, channels_last):
    net = quiet_init(lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)))
    fill([net])
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    return training.State({"net": net}, {"net": optimizer(net.parameters())}, averages={"net": training.Average(net)})


def convolve(state, steps):
    net = state.modules["net"]
    while state.step < steps:
        x = torch.randn(2, 4, 9, 7, generator=state.generator("x")).to(memory_format=torch.channels_last)
        training.update(state, "net", net(x).square().mean())
        state.averages["net"].update(net, decay=0.9)
        state.step += 1


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("rebuilt_channels_last", [True, False])
def test_memory_formats_of_parameters_and_moments_come_back(tmp_path, fused, rebuilt_channels_last):
    """A fused Adam with channels-last parameters and contiguous moments is silently wrong."""

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=0.1, fused=fused)

    state = convolution(adam, channels_last=True)
    convolve(state, 2)
    training.save_checkpoint(tmp_path, state)
    again = convolution(adam, channels_last=rebuilt_channels_last)
    training.restore(again, tmp_path)
    moment = again.optimizers["net"].state_dict()["state"][0]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    assert not moment.is_contiguous()
    assert again.averages["net"].module[0].weight.is_contiguous(memory_format=torch.channels_last)
    for run in (state, again):
        convolve(run, 4)
    assert equal(snapshot(again), snapshot(state))


def test_tied_parameters_are_stored_once_and_stay_tied(tmp_path):
    def build():
        net = quiet_init(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
        net[1].weight = net[0].weight
        return training.State({"net": net}, {"net": torch.optim.SGD(net.parameters(), lr=0.1)})

    state = build()
    fill(state.modules.values(), seed=3)
    path = training.save_checkpoint(tmp_path, state)
    again = build()
    training.restore(again, tmp_path)
    assert again.modules["net"][1].weight is again.modules["net"][0].weight
    assert equal(snapshot(again), snapshot(state))
    assert (path / "modules.net.safetensors").stat().st_size < 400  # 9 + 3 + 3 numbers and a header
    tensors = training.read_tensors(tmp_path, "modules.net")
    assert tensors["1.weight"] is tensors["0.weight"]


def test_optimisers_remember_rates_and_every_setting(tmp_path):
    state = line_state(optimizer=torch.optim.Adam, lr=0.1, betas=(0.5, 0.25))
    state.optimizers["network"].param_groups[0]["lr"] = 0.017
    training.save_checkpoint(tmp_path, state)
    again = line_state(optimizer=torch.optim.Adam, lr=0.3)
    training.restore(again, tmp_path)
    group = again.optimizers["network"].param_groups[0]
    assert (group["lr"], group["betas"]) == (0.017, (0.5, 0.25))


def test_numbers_that_json_lacks_come_back(tmp_path):
    state = line_state()
    state.numbers |= {"nan": float("nan"), "inf": float("inf"), "tiny": 5e-324, "third": 1 / 3}
    training.save_checkpoint(tmp_path, state)
    again = line_state()
    again.numbers |= dict.fromkeys(state.numbers, 0.0)
    training.restore(again, tmp_path)
    assert again.numbers["nan"] != again.numbers["nan"]
    assert {k: v for k, v in again.numbers.items() if k != "nan"} == {
        k: v for k, v in state.numbers.items() if k != "nan"
    }


def test_saving_changes_nothing_in_the_state(tmp_path):
    state = trained()
    before = snapshot(state)
    training.save_checkpoint(tmp_path, state)
    assert equal(snapshot(state), before)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä", "a.b"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    net = nn.Linear(1, 1)
    state = training.State({name: net}, {"net": torch.optim.SGD(net.parameters(), lr=0.1)})
    with pytest.raises(ValueError, match="letters, digits"):
        training.save_checkpoint(tmp_path, state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("document", "error"), [(float("nan"), ValueError), ({1}, TypeError)])
def test_documents_that_are_no_json_are_refused(tmp_path, document, error):
    with pytest.raises(error, match=r"meta\.json"):
        training.save_checkpoint(tmp_path, line_state(), documents={"meta": document})
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_stored_is_refused_by_place(tmp_path):
    state = line_state()
    state.schedules["odd"] = torch.optim.lr_scheduler.LambdaLR(state.optimizers["network"], lambda step: 1.0)
    state.numbers["odd"] = {1, 2}
    with pytest.raises(TypeError, match="numbers: `odd` is a set"):
        training.save_checkpoint(tmp_path, state)


@pytest.mark.fault("howervoo/speechturn#15")
def test_what_killed_writers_left_is_removed_and_what_living_ones_write_is_not(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".tmp-{gone.pid}", f".tmp-{os.getpid()}", f".tmp-{os.getpid()}-old", ".tmp-odd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("x")
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / f".tmp-{living.pid}").mkdir()
    try:
        training.save_checkpoint(tmp_path, line_state())
        assert sorted(p.name for p in tmp_path.iterdir()) == [f".tmp-{living.pid}", "step-00000000"]
    finally:
        living.communicate(b"\n")
    training.save_checkpoint(tmp_path, line_state())
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000000"]


def test_saving_over_a_damaged_checkpoint_mends_it(tmp_path):
    path = training.save_checkpoint(tmp_path, line_state())
    (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError):
        training.restore(line_state(), path)
    training.save_checkpoint(tmp_path, line_state())
    training.restore(line_state(), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_error_while_writing_leaves_the_earlier_ones_and_no_temporary(tmp_path, monkeypatch):
    state = line_state()
    training.save_checkpoint(tmp_path, state)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write", fail)
    state.step = 1
    with pytest.raises(CheckpointError, match=r"step-00000001: can.t be written.*No space left"):
        training.save_checkpoint(tmp_path, state)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000000"]
    training.restore(line_state(), tmp_path)


def fill_disk(folder):
    """Save on a disk that has room for no file above 50 kB; the second checkpoint needs 400 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state = line_state()
    state.tensors["large"] = torch.zeros(100_000)
    training.save_checkpoint(folder, state)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    state.step = 1
    try:
        training.save_checkpoint(folder, state)
    except CheckpointError as error:
        sys.exit("step-00000001: can't be written" not in str(error))
    sys.exit(2)


@pytest.mark.fault("harvard-edge/cs249r_book#2068")
@pytest.mark.slow
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=fill_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000000"]
    state = line_state()
    state.tensors["large"] = torch.ones(100_000)
    training.restore(state, tmp_path)
    assert not state.tensors["large"].any()


def save_on_and_on(folder):
    """Save larger and larger steps of a state of 400 kB whose numbers are its step."""
    state = line_state()
    found = training.checkpoints(folder)
    state.step = int(found[-1].name[5:]) if found else 0
    while True:
        state.step += 1
        state.tensors["large"] = torch.full((100_000,), float(state.step))
        training.save_checkpoint(folder, state)
        training.prune(folder, keep=2)


@pytest.mark.slow
@pytest.mark.fault("Lightning-AI/pytorch-lightning#688")
def test_fifty_writers_killed_at_random_moments_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    newest, left = 0, 0
    for _ in range(50):
        writer = context.Process(target=save_on_and_on, args=(tmp_path,))
        writer.start()
        time.sleep(0.04 + 0.16 * rng.random())
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        temporaries = list(tmp_path.glob(".tmp-*"))
        assert len(temporaries) <= 1
        left += len(temporaries)
        if not training.checkpoints(tmp_path):
            continue
        state = line_state()
        training.restore(state, tmp_path)
        assert state.step >= newest
        assert (state.tensors["large"] == state.step).all()
        newest = state.step
    assert newest > 5
    assert left > 5  # else the kills came at harmless moments
    state.step += 1
    training.save_checkpoint(tmp_path, state)
    assert not list(tmp_path.glob(".tmp-*"))


def saved_steps(folder):
    return [int(p.name[5:]) for p in training.checkpoints(folder)]


def test_pruning_keeps_the_newest_and_the_spared(tmp_path):
    state = line_state()
    for step in (1, 2, 3, 100_000_000, 5):
        state.step = step
        training.save_checkpoint(tmp_path, state)
    assert saved_steps(tmp_path) == [1, 2, 3, 5, 100_000_000]
    training.prune(tmp_path, keep=2, spare=[2])
    assert saved_steps(tmp_path) == [2, 5, 100_000_000]
    assert len(list(tmp_path.iterdir())) == 3
    training.prune(tmp_path, keep=7)
    assert saved_steps(tmp_path) == [2, 5, 100_000_000]


def test_pruning_counts_only_complete_ones(tmp_path):
    state = line_state()
    state.step = 1
    training.save_checkpoint(tmp_path, state)
    for name in ("step-00000002", "step-x", "other"):
        (tmp_path / name).mkdir()
    training.prune(tmp_path, keep=1)
    assert saved_steps(tmp_path) == [1]
    assert (tmp_path / "other").is_dir()


def test_keep_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`keep`"):
        training.prune(tmp_path, keep=0)


def test_no_folder_holds_no_checkpoints(tmp_path):
    assert training.checkpoints(tmp_path / "none") == []
    assert training.checkpoints(Path(__file__)) == []


def test_the_environment_says_what_exactness_depends_on():
    assert set(training.environment(line_state())) == {"torch", "processor", "threads", "device", "processes"}
