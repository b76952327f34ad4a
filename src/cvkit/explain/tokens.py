"""Grids of tokens: transformers' activations, ``(N, T, C)`` or channels-last ``(N, *S, C)``, as maps ``(N, C, *S)``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvkit._checks import check_integer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Tokens", "infer_channels_last", "infer_tokens"]

_MOST_PREFIX_TOKENS = 16
_SKEW = 1.4  # by how much one axis is longer than another that belongs to a grid of the same proportions


@dataclass(frozen=True)
class Tokens:
    """How a layer's output holds a grid.

    Parameters
    ----------
    grid : tuple of int, optional
        Size of the grid, (rows, columns) for images. Not needed with `channels_last`.
    prefix : int, default 0
        How many tokens (class, registers) come before the grid.
    channels_last : bool, default False
        Whether the output is ``(N, *S, C)``, as in Swin, instead of ``(N, T, C)``. Of images and volumes `explain` sees
        that by itself where the shape can be read in no other way; of signals it has to be said.

    Examples
    --------
    >>> import torch
    >>> Tokens(grid=(2, 3), prefix=1).to_grid(torch.zeros(1, 7, 5)).shape
    torch.Size([1, 5, 2, 3])
    """

    grid: tuple[int, ...] | None = None
    prefix: int = 0
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_integer("prefix", self.prefix, minimum=0)
        if self.channels_last:
            if self.grid is not None or self.prefix:
                raise ValueError(
                    "`grid` and `prefix` are for token sequences; with `channels_last` the shape says it all"
                )
        elif self.grid is None:
            raise ValueError("`grid` is needed unless `channels_last` is set")
        else:
            for i, side in enumerate(self.grid):
                check_integer(f"grid[{i}]", side, minimum=1)

    def to_grid(self, output: Tensor) -> Tensor:
        """Return a layer's output as maps ``(N, C, *S)``.

        Parameters
        ----------
        output : Tensor of shape (N, T, C) or (N, ..., C)
            What the layer gave.

        Returns
        -------
        Tensor of shape (N, C, ...)
            The maps.

        Raises
        ------
        ValueError
            If the number of tokens is not that of prefix and grid.
        """
        if self.channels_last:
            if output.dim() < 3:
                raise ValueError(f"channels-last activations must have shape (N, *S, C); got {tuple(output.shape)}")
            return output.movedim(-1, 1)
        assert self.grid is not None
        count = math.prod(self.grid) + self.prefix
        if output.dim() != 3 or output.shape[1] != count:
            raise ValueError(
                f"tokens of grid {self.grid} and prefix {self.prefix} have shape (N, {count}, C); "
                f"got {tuple(output.shape)}"
            )
        grid = output[:, self.prefix :].mT
        return grid.reshape(*grid.shape[:2], *self.grid)

    def from_grid(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return maps in the layer's own form; prefix tokens are those of `output`, repeated as needed.

        Parameters
        ----------
        maps : Tensor of shape (K * N, C, ...)
            Maps; K whole batches one after the other.
        output : Tensor of shape (N, T, C) or (N, ..., C)
            What the layer gave.

        Returns
        -------
        Tensor of shape (K * N, T, C) or (K * N, ..., C)
            The maps as the rest of the model expects them.
        """
        if self.channels_last:
            return maps.movedim(1, -1)
        body = maps.flatten(2).mT
        head = output[:, : self.prefix].to(body.dtype)
        return torch.cat([head.repeat(body.shape[0] // max(output.shape[0], 1), 1, 1), body], 1)


def infer_tokens(count: int, size: Sequence[int]) -> Tokens | None:
    """Return how `count` tokens cover an input of the given size by square patches, or None.

    The grid follows from a patch side that divides every side of the input, never from a square root, so that grids
    need not be square; what is left over, at most a third of the grid, is the prefix. The fewest prefix tokens win.
    """
    found: list[Tokens] = []
    for patch in range(1, min(size) + 1):
        if all(side % patch == 0 for side in size):
            grid = tuple(side // patch for side in size)
            prefix = count - math.prod(grid)
            few = 0 <= prefix <= min(_MOST_PREFIX_TOKENS, math.prod(grid) // 3)  # a sequence of states is no grid
            if few and math.prod(grid) > 1:
                found.append(Tokens(grid, prefix))
    return min(found, key=lambda tokens: tokens.prefix, default=None)


def infer_channels_last(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Return whether an output of shape ``(N, a, b, ...)`` can only be a grid with the channels at the end.

    That is so where the axes before the last cover the input of the given size by patches, the last is the longest by
    far, and the axes after the second are no grid of the input: with square patches where they do not even have its
    proportions, with others (tubes of video) where the last is far longer than the input itself. Of signals nothing can
    be told.
    """
    first, last = shape[1:-1], shape[2:]
    if len(size) < 2 or 0 in shape or shape[-1] < _SKEW * max(first) or math.prod(first) == 1:
        return False
    pairs = list(zip(size, first, strict=True))
    scales = [count / side for count, side in zip(last, size, strict=True)]
    patches = [{p for p in range(1, side + 1) if -(-side // p) == count} for side, count in pairs]
    beyond = scales[-1] >= _SKEW and min(scales) < 1
    return (bool(set.intersection(*patches)) and max(scales) >= _SKEW * min(scales)) or (all(patches) and beyond)
