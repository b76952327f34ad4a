"""Scores of altered activations: the model, run on from one layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cvkit.explain._call import MANY
from cvkit.explain._graphs import fill_from
from cvkit.explain._layers import named_layers, watched
from cvkit.explain._setup import Forward, grad_mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit.explain._call import Call

__all__ = ["scores_from_layer"]


def scores_from_layer(call: Call, which: int, count: int, fill: Callable[[Tensor, int, int], object]) -> Tensor:
    """Return the scores ``(count, N)`` of altered activations of one layer, without a graph, in passes.

    ``fill(buffer, start, stop)`` writes the altered activations of numbers `start` to `stop` into a buffer
    ``(stop - start, N, C, *S)``, whose entries are unaltered copies to begin with.
    """
    A = call.activations[which].detach()
    passes = -(-count // call.copies_per_pass(A))
    block = -(-count // max(passes, 1))  # passes of one size
    # Channels-last weights pay above a layer of many positions.
    forward = call.setup.many if call.has_positions(A, 64) and count >= MANY else None
    restart = _Restart(call, which, A, forward)
    scores = []
    for start in call.setup.show(range(0, count, max(block, 1)), passes):
        stop = min(start + block, count)
        scores.append(restart.scores(stop - start, partial(fill_from, fill, start, stop)))
    return torch.cat(scores) if scores else A.new_zeros(0, call.rows)


@dataclass
class _Restart:
    """A call's model with altered activations at one layer.

    The part below the layer runs on the batch alone, and the altered copies take the layer's output's place. Where the
    rest of the model also reads something of the batch's own size (a skip connection around the layer, the inputs'
    ``size(0)``), the rest is mapped over the copies; where that fails too, the inputs are repeated. An unaltered copy
    in the first pass, which must give back the score, tells.
    """

    call: Call
    which: int
    A: Tensor
    forward: Forward | None
    way: Literal["alone", "mapped", "whole"] | None = None  # found by the first pass

    def scores(self, copies: int, fill: Callable[[Tensor], object]) -> Tensor:
        """Return the scores of one pass of altered activations."""
        with grad_mode(enabled=False):
            if self.way is not None:
                return self._passed(self.way, self._buffer(copies, fill))
            ways: tuple[Literal["alone", "mapped"], ...] = ("alone", "mapped")
            for way in ways:
                try:
                    scores = self._passed(way, self._buffer(copies + 1, fill))
                except Exception:  # noqa: BLE001, S112  # whatever a model raises that finds its batch size wrong
                    continue
                if self._is_score(scores[0]):
                    self.way = way
                    return scores[1:]
            self.way = "whole"
            return self._passed(self.way, self._buffer(copies, fill))

    def _passed(self, way: Literal["alone", "mapped", "whole"], maps: Tensor) -> Tensor:
        """Return the scores ``(K, N)`` of maps ``(K, N, C, *S)`` at the layer."""
        call = self.call
        if way == "mapped":  # `vmap` shows the model a batch of its own size

            def scores(copy: Tensor) -> Tensor:
                return call.resolved.scores(self._output(call.copied_inputs(), copy[None], None), call.rows)

            return torch.vmap(scores)(maps)
        inputs = call.copied_inputs() if way == "alone" else call.repeated_inputs(len(maps))
        output = self._output(inputs, maps, self.forward)
        return call.resolved.grouped_scores(output, call.rows, len(maps), wary=way == "alone")

    def _buffer(self, copies: int, fill: Callable[[Tensor], object]) -> Tensor:
        """Return copies of the activations, the last of them altered."""
        maps = self.A.expand(copies, *self.A.shape).clone(memory_format=torch.contiguous_format)
        fill(maps)
        return maps

    def _is_score(self, scores: Tensor) -> bool:
        """Whether scores are those of the call."""
        base = self.call.scores.detach()
        scale = base.abs().amax() if base.numel() else base.sum()
        return bool(((scores - base).abs() <= 1e-3 * scale + 1e-6).all())

    def _output(self, inputs: Any, maps: Tensor, forward: Forward | None) -> Any:
        """Run the model with the layer call's output replaced by maps ``(K, N, C, *S)``."""
        assert self.call.calls is not None
        at, own = self.call.calls[self.which], self.call.output_of(self.which)
        flat = maps.flatten(0, 1)
        new = (flat if at.tokens is None else at.tokens.from_grid(flat, own)).to(own.dtype)
        if forward is not None and new.dim() == 4:
            new = new.contiguous(memory_format=torch.channels_last)

        def put(_name: str, occurrence: int, _output: Tensor, _inputs: tuple[Any, ...]) -> Tensor | None:
            return new if occurrence == at.occurrence else None

        with watched({at.name: named_layers(self.call.setup.model)[at.name]}, put):
            return self.call.run(inputs, forward)
