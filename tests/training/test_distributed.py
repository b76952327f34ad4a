from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cvkit import training
from reference.training_problems import gan_fit, gan_state

WORKER = Path(__file__).resolve().parent.parent / "dist" / "training_worker.py"


def launch(processes, case, out, **environment):
    """Start a job under torchrun on loopback, in a process group of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    variables = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [*command, str(WORKER), case, str(out)],
        env=variables,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(job, seconds=150):
    """Wait for the job; end its whole group if it takes too long."""
    try:
        output, _ = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        output, _ = job.communicate()
        pytest.fail(f"the job did not end:\n{output[-3000:]}")
    return output


def results(out, case, processes):
    return [json.loads((out / f"{case}-{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The suite of cases that need no death, run once by two processes."""
    out = tmp_path_factory.mktemp("two")
    job = launch(2, "suite", out)
    output = finish(job)
    assert job.returncode == 0, output[-5000:]
    return out, results(out, "suite", 2)


def close(a, b, tolerance=1e-6):
    for part in ("modules.generator", "modules.discriminator", "averages.generator"):
        ours, theirs = training.read_tensors(a, part), training.read_tensors(b, part)
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_two_processes_resume_exactly_and_hold_the_same_numbers(two):
    _, (first, second) = two
    assert (first["rank"], second["rank"], first["size"]) == (0, 1, 2)
    assert first["fingerprint"] == second["fingerprint"]


@pytest.mark.slow
def test_two_processes_with_half_the_batch_equal_one_with_the_whole(two, tmp_path):
    out, _ = two
    gan_fit(tmp_path, 8, state=gan_state(batch_norm=False))
    close(out / "parity", tmp_path)
    ours, theirs = [(path / "log.csv").read_text().splitlines() for path in (out / "parity", tmp_path)]
    assert ours[0] == theirs[0]
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert [float(x) for x in a.split(",")] == pytest.approx([float(x) for x in b.split(",")], rel=1e-5)


@pytest.mark.slow
@pytest.mark.fault("huggingface/accelerate#4164")
def test_only_process_0_writes(two):
    out, _ = two
    assert training.find_checkpoint(out / "quiet").name == "step-00000004"


@pytest.mark.slow
def test_a_bad_number_on_one_process_stops_all_at_the_same_step(two):
    out, found = two
    assert [result["bad"] for result in found] == [[5, "loss of discriminator"]] * 2
    assert training.find_checkpoint(out / "bad").name == "step-00000004"


@pytest.mark.slow
@pytest.mark.fault("pytorch/pytorch#175024")
@pytest.mark.fault("pytorch/pytorch#22095")
def test_two_forwards_before_one_backward_work_and_buffers_agree(two):
    _, (first, second) = two
    assert first["buffers"] == second["buffers"]


@pytest.mark.slow
def test_accumulation_under_two_processes_equals_one_batch(two):
    state = gan_state(batch_norm=False)
    g = state.modules["generator"]
    latents = torch.randn(12, 4, generator=state.generator("latents"))
    result = training.update(state, "generator", g(latents).square().mean(), clip=0.01)
    for found in two[1]:
        assert found["accumulated"] == pytest.approx([result.gradient_norm.item(), g[3].weight.sum().item()], rel=1e-5)


@pytest.mark.slow
def test_small_exchanges_say_the_same_to_all(two):
    _, found = two
    assert [result["share"] for result in found] == [[0, 1, 2], [3, 4, 5]]
    for result in found:
        assert result["mean"] == {"loss": 6.0}
        assert result["world mean"] == [1.0, 1.0]
        assert result["any"] == [True, False]
        assert result["first"] == 7


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step(two):
    out, (first, second) = two
    assert first["stopped"] == [5, False]
    assert second["stopped"] == 143
    assert training.find_checkpoint(out / "stopped").name == "step-00000005"


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_others_go_on_from_its_checkpoint(tmp_path):
    job = launch(2, "train_on", tmp_path, STEPS="100000", STEP_SECONDS="0.01")
    wait_for(lambda: training.checkpoints(tmp_path / "run"))
    os.kill(int((tmp_path / "pid-1").read_text()), signal.SIGKILL)
    begun = time.monotonic()
    finish(job)
    assert job.returncode != 0
    assert time.monotonic() - begun < 60
    steps = int(training.find_checkpoint(tmp_path / "run").name[5:]) + 2

    # Another number of processes: the batch is that of all, so the run goes on, exact up to rounding.
    job = launch(3, "train_on", tmp_path, STEPS=str(steps))
    output = finish(job)
    assert job.returncode == 0, output[-5000:]
    assert "won't be exact bit for bit: it had processes 2, now 3" in output
    gan_fit(tmp_path / "one", steps, state=gan_state(batch_norm=False))
    close(tmp_path / "run", tmp_path / "one", tolerance=1e-5)


@pytest.mark.slow
def test_a_terminated_job_saves_first(tmp_path):
    job = launch(2, "train_on", tmp_path, STEPS="100000", STEP_SECONDS="0.01", CHECKPOINT_EVERY="100000")
    wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    time.sleep(0.5)
    os.kill(job.pid, signal.SIGTERM)
    finish(job)
    assert job.returncode != 0
    training.restore(gan_state(batch_norm=False), tmp_path / "run")
    assert not list((tmp_path / "run").glob(".tmp-*"))


def test_without_torchrun_a_process_is_alone():
    with training.processes() as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        assert world.any(True)
        assert not world.any(False)
        assert world.first(5) == 5
        tensors = [torch.ones(2)]
        world.broadcast_(tensors)
        assert world.average_(tensors, torch.tensor(3.0)) == 3.0
        assert tensors[0].tolist() == [1, 1]
        world.check_same("number", 3)
        world.barrier()


def test_a_group_that_exists_is_used_and_left(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with training.processes() as world:
            assert (world.rank, world.size) == (0, 1)
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_batches_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="a global batch of 5 can't be shared evenly by 2"):
        training.World(0, 2).share(torch.arange(5))


def test_means_need_no_gradient():
    value = torch.ones((), requires_grad=True) * 2
    assert not training.World().mean(value).requires_grad


def test_the_time_limit_is_checked():
    with pytest.raises(ValueError, match="`timeout`"), training.processes(timeout=float("inf")):
        pass


# --- without other processes: what one of two equal ones does ---------------------------------------------------------


@pytest.fixture
def twins(monkeypatch):
    """Let every message come back as if the other process had said the same; return the list of messages."""
    said = []

    def all_reduce(tensor, op=torch.distributed.ReduceOp.SUM):
        said.append((tensor.numel(), op))
        if op == torch.distributed.ReduceOp.SUM:
            tensor.mul_(2)

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    monkeypatch.setattr("torch.distributed.broadcast", lambda tensor, src: said.append((tensor.numel(), "broadcast")))
    monkeypatch.setattr("torch.distributed.barrier", lambda: said.append((0, "barrier")))
    return said


def test_an_update_sends_one_message_and_averages(twins):
    twin, alone = gan_state(training.World(0, 2)), gan_state()
    for state in (twin, alone):
        g = state.modules["generator"]
        training.update(state, "generator", g(torch.ones(4, 4)).square().mean())
    count = sum(p.numel() for p in twin.modules["generator"].parameters())
    # The first update also compares the number of gradients.
    assert [size for size, _ in twins] == [2, count + 1]
    for a, b in zip(twin.modules["generator"].parameters(), alone.modules["generator"].parameters(), strict=True):
        assert torch.equal(a, b)


def test_exchanges_keep_dtypes_and_shapes(twins):
    world = training.World(0, 2)
    value = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(world.mean(value), value)
    assert value.tolist() == [[1, 2]]
    assert world.any(True)
    assert not world.any(False)
    assert world.first(7) == 7
    world.check_same("number", 5)
    tensors = [torch.ones(2, 3), torch.arange(4), torch.zeros(2, dtype=torch.float64)]
    world.broadcast_(tensors)
    assert [size for size, kind in twins if kind == "broadcast"] == [1, 6, 4, 2]
    assert tensors[1].tolist() == [0, 1, 2, 3]
    claim = world.average_([torch.ones(2)], torch.tensor(3.0))
    assert claim == 3.0
    world.barrier()


def test_numbers_that_differ_are_told_apart(monkeypatch):
    def other_said(tensor, op):
        tensor.copy_(torch.maximum(tensor, torch.tensor([9, -9])))

    monkeypatch.setattr("torch.distributed.all_reduce", other_said)
    with pytest.raises(RuntimeError, match="the count differs between the processes: from 4 to 9"):
        training.World(0, 2).check_same("count", 4)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_processes_trains_and_the_first_alone_writes(twins, tmp_path, rank):
    world = training.World(rank, 2)
    gan_fit(tmp_path, 5, state=gan_state(world))
    assert (tmp_path / "log.csv").exists() == (rank == 0)
    assert len(training.checkpoints(tmp_path)) == (2 if rank == 0 else 0)


@pytest.mark.parametrize("exists", [False, True])
def test_torchruns_environment_makes_a_group_and_ends_it(monkeypatch, exists):
    calls = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: exists)
    monkeypatch.setattr(
        "torch.distributed.init_process_group", lambda backend, timeout: calls.append((backend, timeout.seconds))
    )
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: calls.append("end"))
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with training.processes(timeout=60) as world:
        assert (world.rank, world.size, world.is_main) == (1, 2, False)
    assert calls == ([] if exists else [("gloo", 60), "end"])
