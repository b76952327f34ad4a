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

_BLOCK = 16  # outputs of a product: more would multiply more zeros, fewer would call more often


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
    return _plan(gaussian_kernel(sigma, truncate), 1, length, length, _BLOCK)


@lru_cache(maxsize=64)
def down_plan(length: int) -> Plan:
    """Return the plan that smooths by [1, 4, 6, 4, 1] / 16 and keeps every second pixel."""
    return _plan(np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0, 2, length, (length + 1) // 2, _BLOCK)


@lru_cache(maxsize=64)
def up_plan(length: int, count: int) -> Plan:
    """Return the plan that puts zeros between `length` pixels and smooths by [1, 4, 6, 4, 1] / 8, for `count` outputs.

    Before the first pixel comes the second, after the last one that one again, as in OpenCV.
    """
    block = 2 * _BLOCK
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
    if not is_tensor(values):
        return _array_rows(cast("Array", values), plan)
    matrix, index = _beside(plan, values)
    blocks = values.index_select(-1, index).unfold(-1, len(plan.matrix), plan.stride) @ matrix
    *rest, count, block = blocks.shape
    return blocks.reshape(*rest, count * block)[..., : plan.count]


def along_columns(values: Values, plan: Plan) -> Values:
    """Return values (..., L, W) filtered along their last axis but one, (..., count, W)."""
    if not is_tensor(values):
        return _array_columns(cast("Array", values), plan)
    matrix, index = _beside(plan, values)
    windows = values.index_select(-2, index).unfold(-2, len(plan.matrix), plan.stride)
    blocks = matrix.T @ windows.swapaxes(-1, -2)
    *rest, count, block, width = blocks.shape
    return blocks.reshape(*rest, count * block, width)[..., : plan.count, :]


def _array_rows(values: Array, plan: Plan) -> Array:
    """Filter along the last axis; only the blocks at the ends need a copy of their inputs."""
    matrix = plan.matrix.astype(values.dtype)
    (taps, block), (first, last, shift) = matrix.shape, _inner_blocks(plan)
    out = np.empty((*values.shape[:-1], -(-plan.count // block), block), values.dtype)
    for k in [*range(first), *range(last, out.shape[-2])]:
        near = plan.index[k * plan.stride : k * plan.stride + taps]
        np.matmul(values[..., near], matrix, out=out[..., k, :])
    if first < last and values.size:
        windows = np.lib.stride_tricks.sliding_window_view(values, taps, -1)
        start = first * plan.stride + shift
        inner = windows[..., start :: plan.stride, :][..., : last - first, :]
        np.matmul(inner, matrix, out=out[..., first:last, :])
    return out.reshape(*values.shape[:-1], out.shape[-2] * block)[..., : plan.count]


def _array_columns(values: Array, plan: Plan) -> Array:
    """Filter along the last axis but one."""
    matrix = np.ascontiguousarray(plan.matrix.T, values.dtype)
    (block, taps), (first, last, shift) = matrix.shape, _inner_blocks(plan)
    *rest, _, width = values.shape
    out = np.empty((*rest, -(-plan.count // block), block, width), values.dtype)
    for k in [*range(first), *range(last, out.shape[-3])]:
        near = plan.index[k * plan.stride : k * plan.stride + taps]
        np.matmul(matrix, values[..., near, :], out=out[..., k, :, :])
    if first < last and values.size:
        windows = np.lib.stride_tricks.sliding_window_view(values, taps, -2).swapaxes(-1, -2)
        start = first * plan.stride + shift
        inner = windows[..., start :: plan.stride, :, :][..., : last - first, :, :]
        np.matmul(matrix, inner, out=out[..., first:last, :, :])
    return out.reshape(*rest, out.shape[-3] * block, width)[..., : plan.count, :]


def _inner_blocks(plan: Plan) -> tuple[int, int, int]:
    """Return the blocks, first and last (excluded), that don't reach over an end, and where input 0 of block 0 lies."""
    taps, block = plan.matrix.shape
    index, blocks = plan.index, -(-plan.count // block)
    shift = 0 if plan.count == 0 else int(index[len(index) // 2]) - len(index) // 2
    straight = index == np.arange(len(index)) + shift
    plain = [bool(straight[k * plan.stride : k * plan.stride + taps].all()) for k in range(blocks)]
    first = plain.index(True) if True in plain else blocks
    last = blocks - plain[::-1].index(True) if True in plain else blocks
    return first, last, shift


def _beside(plan: Plan, values: Any) -> tuple[Any, Any]:
    """Return matrix and index as tensors in the dtype and on the device of the values."""
    torch = namespace(values)
    matrix = torch.from_numpy(plan.matrix).to(device=values.device, dtype=values.dtype)
    return matrix, torch.from_numpy(plan.index).to(values.device)
