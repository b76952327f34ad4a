"""Pixels in the order of memory, and work on parts of it by several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["dense", "in_parts", "memory_order"]


def in_parts(work: Callable[[int, int], None], total: int, threads: int = 1, grain: int = 1) -> None:
    """Call ``work(start, stop)`` for parts of ``range(total)`` on so many threads, cut at multiples of `grain`."""
    parts = max(1, min(threads, total // max(grain, 1)))
    if parts == 1:
        work(0, total)
        return
    bounds = [total * i // parts // grain * grain for i in range(parts)] + [total]
    with ThreadPoolExecutor(parts) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in pairwise(bounds)]:
            done.result()


def memory_order(pixels: Array) -> tuple[int, ...]:
    """Return the axes from the largest stride to the smallest: transposing by it gives the order in memory."""
    return tuple(sorted(range(pixels.ndim), key=lambda axis: (-abs(pixels.strides[axis]), axis)))


def dense(pixels: Array) -> tuple[Array, tuple[int, ...]]:
    """Return the pixels in memory order, contiguous (copied only where they are not), and that order.

    Axes of length one go to the front: their strides mean nothing.
    """
    order = memory_order(pixels)
    order = tuple(sorted(order, key=lambda axis: pixels.shape[axis] != 1))
    return np.ascontiguousarray(pixels.transpose(order)), order
