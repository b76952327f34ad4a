"""Time to average gradients over processes, time of a step, and what both say about a hundred machines.

``torchrun --standalone --nproc-per-node 2 benchmarks/bench_reduce.py`` measures messages, ``python
benchmarks/bench_reduce.py`` steps, on one thread, and computes the table of `docs/explanation/hundred_machines.rst`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkit import gan, pose, training

if TYPE_CHECKING:
    from collections.abc import Callable

MEBIBYTES = (0.001, 1, 4, 16, 64)
LINKS = {"10 Gbit/s Ethernet": (50e-6, 1.25e9), "100 Gbit/s": (10e-6, 12.5e9)}  # seconds a message, bytes a second


def reduce_ms(world: training.World, mebibytes: float) -> float:
    """Return the median time to average fifty tensors of so many MiB in all."""
    count = max(int(mebibytes * 2**20 / 4 / 50), 1)
    gradients = [torch.ones(count) for _ in range(50)]
    times = []
    for _ in range(12):
        world.barrier()
        start = time.perf_counter()
        world.average_(gradients, torch.zeros(()))
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def seconds_a_step(step: Callable[[], object], times: int) -> float:
    step()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def sketch_step() -> tuple[str, int, int, float]:
    """Generator and discriminator of the sketch preset, 64 drawings a step: name, messages, bytes, seconds."""
    recipe = gan.preset("sketch28")
    images = np.random.default_rng(0).integers(0, 256, (640, 28, 28), dtype=np.uint8)
    labels = np.arange(640) % 9
    times: list[float] = []

    def note(_: training.Row) -> None:
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        run = gan.fit((images, labels), model=recipe, out=folder, steps=12, batch_size=64, log_every=1,
                      sheet_every=None, writers=[note], progress=False)  # fmt: skip
        files = training.find_checkpoint(run.directory).glob("modules.*.safetensors")
        size = sum(file.stat().st_size for file in files)
    return "sketch28, 64 drawings", 2, size, statistics.median(np.diff(times[1:]))


def hourglass_step(stacks: int, batch: int) -> tuple[str, int, int, float]:
    """A stacked hourglass for 16 joints, pictures of 256 x 256."""
    network = pose.StackedHourglass(16, stacks=stacks).train()
    codec = pose.GaussianCodec((256, 256), (64, 64), sigma=1.0)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 256, 256, generator=generator)
    targets = codec.encode(torch.rand(batch, 16, 2, generator=generator) * 256)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        codec.loss(network(images), targets).backward()
        optimizer.step()

    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    return f"hourglass, {stacks} stacks, {batch} pictures", 1, size, seconds_a_step(step, 2)


def ring_seconds(size: int, messages: int, machines: int, link: tuple[float, float]) -> float:
    """Time of an all-reduce on a ring: each machine sends 2 (p - 1) pieces of a p-th of the message."""
    latency, bandwidth = link
    return messages * 2 * (machines - 1) * latency + 2 * (machines - 1) / machines * size / bandwidth


def main() -> None:
    torch.set_num_threads(1)
    with training.processes() as world:
        if world.size > 1:
            for size in MEBIBYTES:
                taken = reduce_ms(world, size)
                if world.is_main:
                    print(f"{world.size} processes, {size:7.3f} MiB: {taken:8.2f} ms")
            return
    for name, messages, size, seconds in (sketch_step(), hourglass_step(2, 4), hourglass_step(8, 4)):
        print(f"{name}: {size / 2**20:.1f} MiB in {messages} messages, {seconds * 1e3:.0f} ms a step on one thread")
        for link, figures in LINKS.items():
            shares = []
            for machines in (2, 10, 100):
                waiting = ring_seconds(size, messages, machines, figures)
                shares.append(f"{machines}: {waiting * 1e3:.1f} ms, {seconds / (seconds + waiting):.1%} busy")
            print(f"    {link}: {'; '.join(shares)}")


if __name__ == "__main__":
    main()
