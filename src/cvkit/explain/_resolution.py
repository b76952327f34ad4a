"""A target made ready for one model: which class it is, and its scores of whatever the model returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvkit._checks import check_instance, shown
from cvkit.explain._tree import children, first_tensor, floating, take_rows, tensors
from cvkit.explain.targets import ClassScore, Region, Side, Target, index_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit.explain.targets import Select, TargetLike

__all__ = ["Resolved", "resolve_target", "select_logits"]


@dataclass(frozen=True)
class Resolved:
    """A target made ready for one model: scores of outputs, and the class indices where there are any."""

    function: Target | Callable[[Any], Tensor]
    select: Select | None
    index: Tensor | None

    @property
    def of_class(self) -> bool:
        """Whether a class of logits ``(N, K)`` is explained, by its logit."""
        return isinstance(self.function, ClassScore)

    @property
    def reads_output(self) -> bool:
        """Whether the whole output is read, and not the logits alone."""
        return not isinstance(self.function, Target) or self.function.reads == "output"

    @property
    def sliceable(self) -> bool:
        """Whether the target of some of the samples is known."""
        return isinstance(self.function, Target)

    def rows(self, start: int, stop: int) -> Resolved:
        """Return the target of some of the samples."""
        assert isinstance(self.function, Target)
        index = None if self.index is None else self.index[start:stop]
        return replace(self, function=self.function.rows(start, stop), index=index)

    def scores(self, output: Any, rows: int) -> Tensor:
        """Return the checked scores ``(N,)`` of a model's output."""
        return _scores(self.function, _seen(self.function, output, self.select), rows)

    def grouped_scores(self, output: Any, rows: int, copies: int, *, wary: bool = False) -> Tensor:
        """Return the checked scores ``(copies, N)`` of a model's output for `copies` whole batches, one after another.

        An output that has not one row for each copied sample would give every copy the scores of the first; what a
        function reads of it is not known, so that the wary refuse any part of the batch's own size.
        """
        if copies == 1:
            return self.scores(output, rows)[None]
        if wary and self.reads_output and any(tensor.dim() and tensor.shape[0] == rows for tensor in tensors(output)):
            raise ValueError("the model's output has parts of the batch's own size")
        seen, total = _seen(self.function, output, self.select), rows * copies
        parts = [take_rows(seen, k * rows, (k + 1) * rows, total) for k in range(copies)]
        if any(part is seen for part in parts):
            raise ValueError(
                f"the model's output must have one row for each of the {total} copies of samples that went in (with "
                f"`chunk={rows}` it sees its own batch size only); got {shown(seen)}"
            )
        return torch.stack([_scores(self.function, part, rows) for part in parts])


def select_logits(output: Any, select: Select | None) -> Tensor | None:
    """Return the logits: what `select` picks, else `.logits` or ``["logits"]``, else the first floating tensor."""
    if select is not None:
        return check_instance("select", select(output), Tensor, "a function that returns a tensor")
    if isinstance(output, Tensor):
        return output if floating(output) else None
    for key, value in children(output):
        if key == "logits" and isinstance(value, Tensor):
            return value
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else first_tensor(output)


def _seen(function: Target | Callable[[Any], Tensor], output: Any, select: Select | None) -> Any:
    """Return what a target reads of a model's output."""
    if isinstance(function, Target):
        if function.reads == "output":
            return output
        logits = select_logits(output, select)
        if logits is None:
            raise TypeError(f"the model's output holds no floating tensor; got {shown(output)}")
        return logits
    return output if select is None else select(output)


def _scores(function: Target | Callable[[Any], Tensor], seen: Any, rows: int) -> Tensor:
    """Return the checked scores of what a target reads."""
    scores = function(seen)
    if not isinstance(scores, Tensor):
        raise TypeError(f"`target` must return a tensor of shape ({rows},); got {shown(scores)}")
    if scores.shape != (rows,):
        raise ValueError(
            f"`target` must return one score for each of the {rows} samples; got shape {tuple(scores.shape)}"
        )
    return scores


def resolve_target(target: TargetLike, output: Any, select: Select | None, rows: int) -> Resolved:
    """Return the target made ready; the predicted class (or side) where none was asked for."""
    if callable(target):
        if not isinstance(target, Target) or target.reads == "output":
            return Resolved(target, select, None)
        index, logits = getattr(target, "index", None), select_logits(output, select)
        if index is not None and logits is not None and logits.dim() > 1:
            index = index_of("target", index, rows, logits.shape[1], logits.device)
        if isinstance(target, Region) and logits is not None:
            target = target.settled(logits)
        return Resolved(target, select, index if isinstance(index, Tensor) else None)
    logits = select_logits(output, select)
    if logits is None:
        raise TypeError(
            f"the model's output holds no floating tensor, so `target` must be a function; got {shown(output)}"
        )
    one_logit = logits.shape in ((rows,), (rows, 1))
    if not one_logit and (logits.dim() != 2 or logits.shape[0] != rows):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} are not class scores (N, K) of {rows} samples: `target` must be a "
            "function of the output that returns one score a sample (for segmentation see `Region`)"
        )
    if target is None:
        if one_logit:
            target = (logits.detach().reshape(rows) >= 0).long()
        else:
            if logits.shape[1] == 0:
                raise ValueError("the model's output has no classes")
            target = logits.detach().argmax(1)
    index = index_of("target", target, rows, 2 if one_logit else logits.shape[1], logits.device)
    return Resolved(Side(index) if one_logit else ClassScore(index), select, index)
