"""Cost of the training engine: driver over a bare loop, checkpoint, averaged parameters against the naive loop.

The bare loop is the shortest that trains: forward, backward, step. The driver does the same and finds non-finite
numbers, logs means and saves the last step. Run it alone on the machine: ``python benchmarks/bench_training.py
[--write]``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rows import Row, measure, report, spread
from torch import nn
from torch.nn import functional as F

from cvkit import training

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS, BATCH = 80, 32


def network(width: int) -> nn.Module:
    """A classifier of 28x28 images of the kind that the submodules train."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(4):
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def data(length: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    generator = training.generator(0, 0, "data")
    images = torch.randint(0, 256, (length, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return images, torch.arange(length) % 10


def bare(width: int, *, clip: bool = False) -> None:
    """The loop that most people write."""
    net, (images, labels) = network(width), data()
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for step in range(STEPS):
        chosen = order[(step * BATCH) % len(images) :][:BATCH]
        loss = F.cross_entropy(net(images[chosen] / 255), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def driven(width: int, *, clip: float | None = None) -> None:
    """The same through `train`, with log rows and the final checkpoint."""
    net, (images, labels) = network(width), data()
    state = training.State({"net": net}, {"net": torch.optim.Adam(net.parameters(), fused=True)}, batch_size=BATCH)
    held = training.InMemory({"images": images, "labels": labels})

    def step(state: training.State, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        loss = F.cross_entropy(net(batch["images"] / 255), batch["labels"])
        return {"loss": training.update(state, "net", loss, clip=clip).loss}

    batches = training.Sampled(training.ResumableSampler(len(held), BATCH), held)
    with tempfile.TemporaryDirectory() as folder:
        training.train(state, step, batches, model=net, out=folder, steps=STEPS, log_every=20, progress=False)


def naive_average(target: nn.Module, source: nn.Module, decay: float) -> None:
    """Parameter by parameter, as most code does it."""
    with torch.no_grad():
        for a, b in zip(target.parameters(), source.parameters(), strict=True):
            a.mul_(decay).add_(b, alpha=1 - decay)
        for a, b in zip(target.buffers(), source.buffers(), strict=True):
            a.copy_(b)


def deep(layers: int, width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width)) for _ in range(layers)))


def checkpoint_rows() -> list[Row]:
    """A checkpoint against the unsafe way: ``torch.save`` onto a path, no flush, no checksum."""
    with tempfile.TemporaryDirectory() as folder:
        return _checkpoint_rows(Path(folder))


def _checkpoint_rows(folder: Path) -> list[Row]:
    rows = []
    for layers, width in ((20, 64), (20, 512)):
        net = deep(layers, width)
        state = training.State({"net": net}, {"net": torch.optim.Adam(net.parameters())})
        training.update(state, "net", net(torch.ones(4, width)).mean())
        numbers = 3 * sum(p.numel() for p in net.parameters())

        def ours(state: training.State = state) -> None:
            training.save_checkpoint(folder / "ours", state)

        def load(state: training.State = state) -> None:
            training.restore(state, folder / "ours")

        def unsafe(net: nn.Module = net, state: training.State = state) -> None:
            torch.save({"net": net.state_dict(), "optimizer": state.optimizers["net"].state_dict()}, folder / "peer.pt")

        def unsafe_load() -> None:
            torch.load(folder / "peer.pt", weights_only=True)

        size = f"{4 * numbers / 2**20:.1f} MiB"
        rows += measure("checkpoint, flushed and hashed", size, ours, {"torch.save, neither": unsafe}, rounds=5)
        rows += measure("restore, verified", size, load, {"torch.load, not": unsafe_load}, rounds=5)
    return rows


def processor_time(job: str, size: str, ours: Callable[[], None], peer: Callable[[], None], name: str) -> Row:
    """Compare processor times, which neighbours on the machine disturb less than they do the clock on the wall."""
    times: dict[Callable[[], None], list[float]] = {ours: [], peer: []}
    for round_ in range(6):
        for call, taken in times.items():
            start = time.process_time()
            call()
            if round_:  # the first warms up
                taken.append((time.process_time() - start) * 1e3)
    middle = [statistics.median(taken) for taken in times.values()]
    spreads = [spread(taken) for taken in times.values()]
    ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
    return Row(job, size, middle[0], spreads[0], name, middle[1], spreads[1], ratio, 1.03, "processor time")


def driver_rows() -> list[Row]:
    job = f"driver, {STEPS} steps"
    return [
        processor_time(job, "32 x 28 x 28, 16", lambda: driven(16), lambda: bare(16), "bare loop"),
        processor_time(job, "32 x 28 x 28, 32", lambda: driven(32), lambda: bare(32), "bare loop"),
        processor_time(
            f"{job}, clipped",
            "32 x 28 x 28, 16",
            lambda: driven(16, clip=1.0),
            lambda: bare(16, clip=True),
            "bare loop",
        ),
    ]


def average_rows() -> list[Row]:
    rows: list[Row] = []
    for layers, width in ((200, 16), (20, 256)):
        live = deep(layers, width)
        ours, other = training.Average(live), training.Average(live)
        calls = {"naive loop": lambda m=live, o=other: naive_average(o.module, m, 0.99)}
        size = f"{4 * layers} x {width}"
        rows += measure("averaged parameters", size, lambda m=live, a=ours: a.update(m, decay=0.99), calls, rounds=25)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=["driver", "average", "checkpoint"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"driver": driver_rows, "average": average_rows, "checkpoint": checkpoint_rows}
    rows = [row for name, part in parts.items() if arguments.only in {None, name} for row in part()]
    report(rows, "training", write=arguments.write)


if __name__ == "__main__":
    main()
