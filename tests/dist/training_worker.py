"""What each of several processes does, started by ``torchrun``: ``training_worker.py CASE FOLDER``.

Results go to ``FOLDER/CASE-RANK.json``; an assertion that fails ends the job with a non-zero code.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest
import torch
from torch import nn

from cvkit import training
from cvkit.training import checkpoint as checkpoint_module
from cvkit.training import log as log_module
from reference.training_problems import BATCH, digests, fill, gan_fit, gan_state, gan_step, quiet_init, snapshot


def fingerprint(state):
    """Return a digest of all numbers of a state."""
    content = hashlib.sha256()
    for key, value in sorted(snapshot(state).items()):
        content.update(key.encode() + value.contiguous().numpy().tobytes())
    return content.hexdigest()


def suite(world, out):
    """Everything that needs no death, in one start."""
    results = {"rank": world.rank, "size": world.size}
    resume(world, out, results)
    parity(world, out)
    only_main_writes(world, out)
    bad_number(world, out, results)
    batch_statistics(world, results)
    denominators(world)
    accumulation(world, results)
    means(world, results)
    disagreement(world, results)
    stop(world, out, results)
    results["share"] = world.share(torch.arange(BATCH)).tolist()
    results["any"] = [world.any(world.rank == 1), world.any(False)]
    results["first"] = world.first(world.rank + 7)
    world.barrier()
    return results


def resume(world, out, results):
    """A run cut at each of some steps equals an unbroken one bit for bit."""
    state = gan_state(world)
    gan_fit(out / "whole", 9, state=state)
    results["fingerprint"] = fingerprint(state)
    for cut in (2, 4, 7):
        gan_fit(out / f"cut{cut}", cut, state=gan_state(world))
        state = gan_state(world)
        fill(state.modules.values(), seed=world.rank)  # whatever is in memory, the checkpoint counts
        gan_fit(out / f"cut{cut}", 9, state=state)
        assert fingerprint(state) == results["fingerprint"]
        if world.is_main:
            assert digests(out / f"cut{cut}") == digests(out / "whole")
            assert (out / f"cut{cut}/log.csv").read_bytes() == (out / "whole/log.csv").read_bytes()


def parity(world, out):
    """Networks without batch statistics; compared with one process by the test."""
    state = gan_state(world, batch_norm=False)
    fill(state.modules.values(), seed=world.rank)  # process 0's values count
    gan_fit(out / "parity", 8, state=state)


def only_main_writes(world, out):
    """Another process that opens a file for writing fails."""
    if not world.is_main:

        def refuse(*_, **__):
            raise AssertionError("only process 0 writes")

        saved = checkpoint_module.save_tensors, log_module.CsvLog.append, Path.mkdir
        checkpoint_module.save_tensors = log_module.CsvLog.append = Path.mkdir = refuse
    gan_fit(out / "quiet", 4, state=gan_state(world))
    if not world.is_main:
        checkpoint_module.save_tensors, log_module.CsvLog.append, Path.mkdir = saved


def bad_number(world, out, results):
    """A loss that is bad on one process stops all, at the same step."""

    def step(state, batch):
        if state.step == 5 and world.rank == 1:
            batch = {"x": batch["x"] * float("inf")}
        return gan_step(state, batch)

    with pytest.raises(training.DivergenceError) as caught:
        gan_fit(out / "bad", 12, state=gan_state(world), step=step)
    results["bad"] = [caught.value.step, caught.value.where]


def batch_statistics(world, results):
    """Two forwards through batch norm, spectral norm and a plain buffer before one backward."""
    d = quiet_init(
        lambda: nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6)), nn.BatchNorm1d(6), nn.Linear(6, 1)
        )
    )
    d.register_buffer("seen", torch.zeros(()))
    state = training.State({"d": d}, {"d": torch.optim.SGD(d.parameters(), lr=0.1)}, batch_size=8, world=world)

    def step(state, batch):
        d.seen += batch.sum()
        loss = (d(batch) - d(batch * 2)).square().mean()
        return {"loss": training.update(state, "d", loss).loss}

    sampler = training.ResumableSampler(30, 8)
    data = torch.randn(30, 5, generator=training.generator(0, 0, "data"))
    for _ in training.iterate(state, step, training.Sampled(sampler, data.__getitem__, world), steps=3):
        pass
    results["buffers"] = fingerprint(state)


def denominators(world):
    """A loss that divides by a count of its own batch equals that of the whole batch."""
    x = torch.randn(8, 3, generator=training.generator(0, 0, "x"), dtype=torch.float64)
    weight = (torch.arange(8) < 5).double()[:, None]  # the processes hold 4 and 1 of the counted samples

    def gradient(world, x, weight):
        net = quiet_init(lambda: nn.Linear(3, 1).double())
        fill([net])
        state = training.State({"n": net}, {"n": torch.optim.SGD(net.parameters(), lr=1.0)}, batch_size=8, world=world)
        loss = (net(x).square() * weight).sum() / world.mean(weight.sum())
        training.update(state, "n", loss)
        return net.weight

    torch.testing.assert_close(
        gradient(world, world.share(x), world.share(weight)),
        gradient(training.World(), x, weight),
        rtol=1e-12,
        atol=1e-12,
    )


def accumulation(world, results):
    """Parts of parts: two parts on each process."""
    state = gan_state(world, batch_norm=False)
    g = state.modules["generator"]
    latents = state.share(torch.randn(12, 4, generator=state.generator("latents")))
    result = training.update(state, "generator", (g(part).square().mean() for part in latents.chunk(2)), clip=0.01)
    results["accumulated"] = [result.gradient_norm.item(), g[3].weight.sum().item()]


def means(world, results):
    """Rows hold means over the processes."""
    held = training.Means()
    for step in range(3):
        held.add({"loss": torch.tensor(float(step + 10 * world.rank))})
    results["mean"] = held.read(world)
    results["world mean"] = world.mean(torch.tensor([1.0, 2.0 * world.rank])).tolist()


def disagreement(world, results):
    """Processes that train different numbers of parameters are told so instead of hanging."""
    net = nn.Linear(2, 1 + world.rank)
    state = training.State({"n": net}, {"n": torch.optim.SGD(net.parameters(), lr=0.1)}, batch_size=2, world=world)
    loss = net(torch.ones(1, 2)).mean()
    with pytest.raises(RuntimeError, match="number of gradients of n differs between the processes"):
        training.update(state, "n", loss)


def stop(world, out, results):
    """A signal to one process ends the run on all, after the same step, saved."""

    def step(state, batch):
        if state.step == 4 and world.rank == 1:
            signal.raise_signal(signal.SIGTERM)
        return gan_step(state, batch)

    try:
        run = gan_fit(out / "stopped", 50, state=gan_state(world), step=step)
        results["stopped"] = [run.step, run.finished]
    except SystemExit as error:
        results["stopped"] = error.code


def train_on(world, out):
    """Train on in the same folder: for deaths, signals and other numbers of processes."""

    def step(state, batch):
        (out / f"pid-{world.rank}").write_text(str(os.getpid()))
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        return gan_step(state, batch)

    run = gan_fit(
        out / "run",
        int(os.environ["STEPS"]),
        state=gan_state(world, batch_norm=False),
        step=step,
        checkpoint_every=int(os.environ.get("CHECKPOINT_EVERY", "2")),
    )
    return {"step": run.step}


def main():
    torch.set_num_threads(1)
    case, out = sys.argv[1], Path(sys.argv[2])
    with training.processes("cpu", timeout=30) as world:
        results = {"suite": suite, "train_on": train_on}[case](world, out)
        (out / f"{case}-{world.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
