"""Time to average gradients over processes, by size: what `docs/explanation/hundred_machines.rst` is computed from.

Start it with ``torchrun --standalone --nproc-per-node 2 benchmarks/bench_reduce.py``.
"""

from __future__ import annotations

import statistics
import time

import torch

from cvkit import training

MEBIBYTES = (0.001, 1, 4, 16, 64)


def main() -> None:
    torch.set_num_threads(1)
    with training.processes() as world:
        for size in MEBIBYTES:
            count = max(int(size * 2**20 / 4 / 50), 1)
            gradients = [torch.ones(count) for _ in range(50)]  # fifty tensors, as a network has
            times = []
            for _ in range(12):
                world.barrier()
                start = time.perf_counter()
                world.average_(gradients, torch.zeros(()))
                times.append((time.perf_counter() - start) * 1e3)
            if world.is_main:
                best, middle = min(times), statistics.median(times)
                print(f"{world.size} processes, {size:7.3f} MiB: median {middle:8.2f} ms, best {best:8.2f} ms")


if __name__ == "__main__":
    main()
