"""Short filters along an axis as products with band matrices, block by block: many times as fast as sliding them.

A plan says how: outputs come in blocks of `matrix.shape[1]`, each a product of `matrix.shape[0]` neighbouring inputs
with the matrix; the next block starts `stride` inputs on. `index` extends the axis over its ends. Arrays and tensors
alike; products are differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cvkit.imgops._kinds import is_tensor
from cvkit.imgops._pixels import Values, namespace

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = ["Plan", "along_columns", "along_rows", "down_plan", "gaussian_kernel", "reflected", "smooth_plan", "up_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A filter along an axis of one length."""

    matrix: Array  # float64 (taps, block)
    stride: int
    index: Array
    count: int  # outputs


def reflected(first: int, last: int, length: int) -> Array:
    """Return the indices `first` to `last` (excluded) of an axis mirrored at the centres of its outermost pixels."""
    index = np.arange(first, last)
    if length == 1:
        return index * 0
    index = np.abs(index) % (2 * (length - 1))
    return np.minimum(index, 2 * (length - 1) - index)


def gaussian_kernel(sigma: float, truncate: float) -> Array:
    """Return the weights of a Gaussian at whole distances up to `truncate` sigma, of sum 1."""
    radius = int(truncate * sigma + 0.5)
    distance = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) if radius else np.ones(1)
    return weights / weights.sum()  # type: ignore[no-any-return]


@lru_cache(maxsize=32)
def smooth_plan(sigma: float, truncate: float, length: int) -> Plan:
    """Return the plan of a Gaussian over an axis, mirrored at its ends."""
    return _plan(gaussian_kernel(sigma, truncate), 1, length, length, 32)


@lru_cache(maxsize=64)
def down_plan(length: int) -> Plan:
    """Return the plan that smooths by [1, 4, 6, 4, 1] / 16 and keeps every second pixel."""
    return _plan(np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0, 2, length, (length + 1) // 2, 32)


@lru_cache(maxsize=64)
def up_plan(length: int, count: int) -> Plan:
    """Return the plan that puts zeros between `length` pixels and smooths by [1, 4, 6, 4, 1] / 8, for `count` outputs.

    Before the first pixel comes the second, after the last one that one again, as in OpenCV.
    """
    block = 64
    matrix = np.zeros((block // 2 + 2, block))
    for j in range(block // 2):
        matrix[j : j + 3, 2 * j] = (0.125, 0.75, 0.125)
        matrix[j + 1 : j + 3, 2 * j + 1] = 0.5
    blocks = -(-count // block)
    index = reflected(-1, blocks * block // 2 + 1, length)
    index[length + 1 :] = length - 1
    return Plan(matrix, block // 2, index, count)


def _plan(kernel: Array, step: int, length: int, count: int, block: int) -> Plan:
    """Return the plan of a symmetric kernel around every `step`-th pixel."""
    radius = len(kernel) // 2
    block = min(block, count) or 1
    matrix = np.zeros((step * (block - 1) + len(kernel), block))
    for j in range(block):
        matrix[step * j : step * j + len(kernel), j] = kernel
    blocks = -(-count // block)
    last = step * block * (blocks - 1) + len(matrix) - radius
    return Plan(matrix, step * block, reflected(-radius, last, length), count)


def along_rows(values: Values, plan: Plan) -> Values:
    """Return values (..., L) filtered along their last axis, (..., count)."""
    matrix, index = _beside(plan, values)
    padded = values.index_select(-1, index) if is_tensor(values) else np.take(values, index, -1)
    taps, stride = len(plan.matrix), plan.stride
    windows = (
        padded.unfold(-1, taps, stride) if is_tensor(values) else _windows(cast("Array", padded), taps, stride, -1)
    )
    blocks = windows @ matrix
    *rest, count, block = blocks.shape
    return blocks.reshape(*rest, count * block)[..., : plan.count]


def along_columns(values: Values, plan: Plan) -> Values:
    """Return values (..., L, W) filtered along their last axis but one, (..., count, W)."""
    matrix, index = _beside(plan, values)
    padded = values.index_select(-2, index) if is_tensor(values) else np.take(values, index, -2)
    taps, stride = len(plan.matrix), plan.stride
    windows = (
        padded.unfold(-2, taps, stride) if is_tensor(values) else _windows(cast("Array", padded), taps, stride, -2)
    )
    blocks = matrix.T @ windows.swapaxes(-1, -2)
    *rest, count, block, width = blocks.shape
    return blocks.reshape(*rest, count * block, width)[..., : plan.count, :]


def _windows(padded: Array, taps: int, stride: int, axis: int) -> Array:
    """Return overlapping stretches: (..., blocks, taps) or, for the last axis but one, (..., blocks, W, taps)."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis)
    return windows[..., ::stride, :] if axis == -1 else windows[..., ::stride, :, :]


def _beside(plan: Plan, values: Values) -> tuple[Any, Any]:
    """Return matrix and index in the library, dtype and device of the values."""
    if not is_tensor(values):
        return plan.matrix.astype(values.dtype), plan.index
    torch = namespace(values)
    matrix = torch.from_numpy(plan.matrix).to(device=values.device, dtype=values.dtype)
    return matrix, torch.from_numpy(plan.index).to(values.device)
