"""Gradients of scores, and small questions about a layer's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from cvkit.explain.tokens import Tokens

__all__ = ["at_least_float", "fill_from", "gradients_of", "count_positions", "same_memory", "shows"]


def at_least_float(tensor: Tensor) -> Tensor:
    """Return half-precision tensors in float32."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def fill_from(fill: Callable[[Tensor, int, int], object], start: int, stop: int, buffer: Tensor) -> None:
    """Fill the last ``stop - start`` entries of a buffer."""
    fill(buffer[len(buffer) - (stop - start) :], start, stop)


def gradients_of(
    scores: Tensor, at: Sequence[Tensor], *, retain_graph: bool = False, create_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the summed scores; None where they do not depend on a tensor."""
    wanted = [tensor for tensor in at if tensor.requires_grad]
    if not wanted:
        return tuple(None for _ in at)
    found = iter(
        torch.autograd.grad(
            scores,
            wanted,
            torch.ones_like(scores),
            retain_graph=retain_graph or create_graph,
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return tuple(next(found) if tensor.requires_grad else None for tensor in at)


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same values in the same memory, whatever their shapes."""
    return a.numel() == b.numel() and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def count_positions(output: Tensor, tokens: Tokens | None) -> int:
    """Return the number of spatial positions of a layer's output."""
    grid = output if tokens is None else tokens.to_grid(output)
    return grid.shape[2:].numel()


def shows(gradient: Tensor, tokens: Tokens | None) -> bool:
    """Whether a gradient is not zero on the grid (prefix tokens alone show nothing)."""
    grid = gradient if tokens is None else tokens.to_grid(gradient)
    return grid.numel() == 0 or bool((grid != 0).any())
