"""What is explained: one number per sample, computed from a model's output.

A target is a class index, a tensor of indices, one of the objects below, or any function of the output that returns a
tensor ``(N,)``. The objects below read the *logits* (the tensor that `select` finds in the output) unless they say
otherwise; a plain function reads what the model returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cvkit._checks import check_finite, check_instance, check_integer, check_interval, shown
from cvkit._types import Array

__all__ = [
    "Comparison",
    "Contrast",
    "DetectedBox",
    "EmbeddingSimilarity",
    "LogitPlusLogProbability",
    "Probability",
    "Region",
    "Select",
    "Target",
    "TargetLike",
]

Index: TypeAlias = int | Tensor | Sequence[int] | Array
"""A class, or one class a sample."""

Select: TypeAlias = Callable[[Any], Tensor]
"""Picks the logits out of a model's output."""


class Target(ABC):
    """A score per sample, computed from the logits ``(N, ...)`` or, if `reads` says so, from the whole output."""

    reads: ClassVar[Literal["logits", "output"]] = "logits"

    @abstractmethod
    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)``."""

    def rows(self, start: int, stop: int) -> Target:  # noqa: ARG002
        """Return the target of some of the samples; the same one unless it holds data per sample."""
        return self


def index_of(name: str, index: Index, rows: int, classes: int, device: torch.device) -> Tensor:
    """Return checked class indices ``(N,)``."""
    if isinstance(index, bool):
        raise TypeError(f"`{name}` must be a class index; got {index!r}")
    if isinstance(index, list | tuple):
        index = torch.as_tensor([check_integer(f"{name}[{i}]", item) for i, item in enumerate(index)])
    if isinstance(index, np.ndarray):
        index = torch.as_tensor(index)
    if isinstance(index, Tensor) and index.dim() > 0:
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"`{name}` must hold integers; got {shown(index)}")
        if index.shape != (rows,):
            raise ValueError(
                f"`{name}` must have one class for each of the {rows} samples; got shape {tuple(index.shape)}"
            )
        indices = index.detach().to(device=device, dtype=torch.long)
    else:
        value = check_integer(name, index.item() if isinstance(index, Tensor) else index)  # type: ignore[arg-type]
        indices = torch.full((rows,), value, device=device)
    if rows and (int(indices.min()) < 0 or int(indices.max()) >= classes):
        wrong = indices[(indices < 0) | (indices >= classes)][0].item()
        raise ValueError(f"`{name}` must lie in [0, {classes - 1}]; got {wrong}")
    return indices


def _per_class(logits: object, what: str) -> Tensor:
    """Return the logits if they are ``(N, K)`` or ``(N, K, *S)``."""
    tensor = check_instance("output", logits, Tensor, f"a tensor for {what}")
    if tensor.dim() < 2:
        raise ValueError(f"{what} needs logits of shape (N, K, ...); got {tuple(tensor.shape)}")
    return tensor


def _rows_of(index: Index, start: int, stop: int) -> Index:
    """Return the indices of some samples."""
    if isinstance(index, Tensor):
        return index[start:stop] if index.dim() else index
    return index if isinstance(index, int) or np.ndim(index) == 0 else index[start:stop]


@dataclass(frozen=True)
class ClassScore(Target):
    """The logit of a class."""

    index: Index

    def __call__(self, output: Any) -> Tensor:
        logits = _per_class(output, "a class")
        index = index_of("target", self.index, logits.shape[0], logits.shape[1], logits.device)
        return logits.gather(1, index[:, None])[:, 0]

    def rows(self, start: int, stop: int) -> ClassScore:
        return replace(self, index=_rows_of(self.index, start, stop))


@dataclass(frozen=True)
class Side(Target):
    """The logit of a one-logit classifier, signed so that it speaks for the side (0 or 1) that is meant."""

    index: Index

    def __call__(self, output: Any) -> Tensor:
        logits: Tensor = output.reshape(output.shape[0])
        index = index_of("target", self.index, logits.shape[0], 2, logits.device)
        return logits * (2 * index - 1)

    def rows(self, start: int, stop: int) -> Side:
        return replace(self, index=_rows_of(self.index, start, stop))


@dataclass(frozen=True)
class Probability(Target):
    """The softmax probability of a class.

    Parameters
    ----------
    index : int, Tensor of shape (N,) or sequence of int
        The class, or one class a sample.

    Examples
    --------
    >>> import torch
    >>> Probability(1)(torch.tensor([[0.0, 0.0], [0.0, 100.0]]))
    tensor([0.5000, 1.0000])
    """

    index: Index

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of logits ``(N, K)``."""
        logits = _per_class(output, "Probability")
        return ClassScore(self.index)(logits.float().softmax(1) if logits.dtype.itemsize < 4 else logits.softmax(1))

    def rows(self, start: int, stop: int) -> Probability:
        """Return the target of some of the samples."""
        return replace(self, index=_rows_of(self.index, start, stop))


@dataclass(frozen=True)
class LogitPlusLogProbability(Target):
    """Logit plus log-probability of a class (the "residual softmax" target of ShapleyCAM).

    Parameters
    ----------
    index : int, Tensor of shape (N,) or sequence of int
        The class, or one class a sample.

    References
    ----------
    Cai, "CAMs as Shapley Value-based Explainers", arXiv:2501.06261, section on the residual softmax target.

    Examples
    --------
    >>> import torch
    >>> LogitPlusLogProbability(1)(torch.tensor([[0.0, 0.0]]))
    tensor([-0.6931])
    """

    index: Index

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of logits ``(N, K)``."""
        logits = _per_class(output, "LogitPlusLogProbability")
        return ClassScore(self.index)(logits + logits.log_softmax(1))

    def rows(self, start: int, stop: int) -> LogitPlusLogProbability:
        """Return the target of some of the samples."""
        return replace(self, index=_rows_of(self.index, start, stop))


@dataclass(frozen=True)
class Contrast(Target):
    """One class against another: logit of `index` minus `weight` times the logit of `against`.

    Parameters
    ----------
    index : int, Tensor of shape (N,) or sequence of int
        The class that speaks for.
    against : int, Tensor of shape (N,) or sequence of int
        The class that speaks against.
    weight : float, default 1.0
        How much the second counts.

    Examples
    --------
    >>> import torch
    >>> Contrast(0, 1)(torch.tensor([[3.0, 1.0]]))
    tensor([2.])
    """

    index: Index
    against: Index
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_finite("weight", self.weight)

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of logits ``(N, K)``."""
        logits = _per_class(output, "Contrast")
        against = index_of("against", self.against, logits.shape[0], logits.shape[1], logits.device)
        return ClassScore(self.index)(logits) - self.weight * ClassScore(against)(logits)

    def rows(self, start: int, stop: int) -> Contrast:
        """Return the target of some of the samples."""
        index, against = (_rows_of(item, start, stop) for item in (self.index, self.against))
        return replace(self, index=index, against=against)


@dataclass(frozen=True)
class Comparison(Target):
    """A class against the mean of several others, which may differ from sample to sample.

    Parameters
    ----------
    index : int, Tensor of shape (N,) or sequence of int
        The class that speaks for.
    others : Tensor of shape (N, R)
        The classes that speak against.
    weight : float, default 1.0
        How much their mean counts.

    Examples
    --------
    >>> import torch
    >>> Comparison(0, torch.tensor([[1, 2]]), 0.5)(torch.tensor([[3.0, 1.0, 3.0]]))
    tensor([2.])
    """

    index: Index
    others: Tensor
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_instance("others", self.others, Tensor, "a tensor of classes (N, R)")
        if self.others.dim() != 2 or self.others.is_floating_point() or self.others.dtype == torch.bool:
            raise ValueError(f"`others` must be integers of shape (N, R); got {shown(self.others)}")
        check_finite("weight", self.weight)

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of logits ``(N, K)``."""
        logits = _per_class(output, "Comparison")
        score = ClassScore(self.index)(logits)
        others = self.others.to(device=logits.device, dtype=torch.long)
        if others.shape[0] != logits.shape[0]:
            raise ValueError(f"`others` must have a row for each of the {logits.shape[0]} samples; got {shown(others)}")
        if others.numel() == 0:
            return score
        if int(others.min()) < 0 or int(others.max()) >= logits.shape[1]:
            wrong = others[(others < 0) | (others >= logits.shape[1])][0].item()
            raise ValueError(f"`others` must lie in [0, {logits.shape[1] - 1}]; got {wrong}")
        return score - self.weight * logits.gather(1, others).mean(1)

    def rows(self, start: int, stop: int) -> Comparison:
        """Return the target of some of the samples."""
        return replace(self, index=_rows_of(self.index, start, stop), others=self.others[start:stop])


def _where_wins(logits: Tensor, index: Tensor) -> Tensor:
    """Return where ``(N, *S)`` a class has the largest logit."""
    winners = logits.detach().argmax(1)
    return winners == index.view(-1, *[1] * (winners.dim() - 1))


@dataclass(frozen=True)
class Region(Target):
    """Segmentation: the logits of a class summed over a region (Seg-Grad-CAM).

    Parameters
    ----------
    index : int, Tensor of shape (N,) or sequence of int
        The class, or one class a sample.
    mask : Tensor of shape (H, W) or (N, H, W), optional
        The region, of the output's spatial rank: bool, or weights. Without it, the places where the class wins; methods
        that alter the input or a layer keep the region of the inputs as they were given.

    References
    ----------
    Vinogradova, Dibrov, Myers, "Towards interpretable semantic segmentation via gradient-weighted class activation
    mapping", AAAI 2020, arXiv:2002.11434, Eq. (3): the logit of Grad-CAM becomes the sum of the logits over the region.

    Examples
    --------
    >>> import torch
    >>> Region(1, torch.tensor([[True, False]]))(torch.tensor([[[[0.0, 0.0]], [[5.0, 7.0]]]]))
    tensor([5.])
    """

    index: Index
    mask: Tensor | None = None
    _taken: tuple[int, int] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.mask is not None:
            check_instance("mask", self.mask, Tensor, "a tensor (H, W) or (N, H, W)")

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of logits ``(N, K, *S)``."""
        logits = _per_class(output, "Region")
        if logits.dim() < 3:
            raise ValueError(f"Region needs logits of shape (N, K, *S); got {tuple(logits.shape)}")
        index = index_of("target", self.index, logits.shape[0], logits.shape[1], logits.device)
        rows = torch.arange(logits.shape[0], device=logits.device)
        plane = logits[rows, index]  # (N, *S)
        if self.mask is None:
            mask = _where_wins(logits, index)
        else:
            mask = self.mask.to(logits.device)
            if self._taken and mask.dim() == plane.dim():
                mask = mask[slice(*self._taken)]
            if mask.shape not in (plane.shape, plane.shape[1:]):
                raise ValueError(
                    f"`mask` must have shape {tuple(plane.shape[1:])} or {tuple(plane.shape)}; got {tuple(mask.shape)}"
                )
        return (plane * mask.to(plane.dtype)).flatten(1).sum(1)

    def settled(self, logits: Tensor) -> Region:
        """Return the target with the region that these logits ``(N, K, *S)`` have, where none is given."""
        if self.mask is not None or logits.dim() < 3:
            return self
        index = index_of("target", self.index, logits.shape[0], logits.shape[1], logits.device)
        return Region(index, _where_wins(logits, index))

    def rows(self, start: int, stop: int) -> Region:
        """Return the target of some of the samples."""
        first = self._taken[0] if self._taken else 0
        return replace(self, index=_rows_of(self.index, start, stop), _taken=(first + start, first + stop))


@dataclass(frozen=True)
class EmbeddingSimilarity(Target):
    """Cosine similarity of an embedding ``(N, D)`` to a reference.

    Parameters
    ----------
    reference : Tensor of shape (D,) or (N, D)
        The embedding to be near to.

    Examples
    --------
    >>> import torch
    >>> EmbeddingSimilarity(torch.tensor([1.0, 0.0]))(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    tensor([1., 0.])
    """

    reference: Tensor

    def __post_init__(self) -> None:
        check_instance("reference", self.reference, Tensor, "a tensor (D,) or (N, D)")

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of embeddings ``(N, D)``."""
        embedding = check_instance("output", output, Tensor, "a tensor for EmbeddingSimilarity")
        reference = self.reference.detach().to(embedding)
        if embedding.dim() != 2 or reference.shape not in (embedding.shape, embedding.shape[1:]):
            raise ValueError(
                f"EmbeddingSimilarity needs embeddings (N, D) and a reference (D,) or (N, D); "
                f"got {tuple(embedding.shape)} and {tuple(reference.shape)}"
            )
        return torch.nn.functional.cosine_similarity(embedding, reference.expand_as(embedding), dim=1)

    def rows(self, start: int, stop: int) -> EmbeddingSimilarity:
        """Return the target of some of the samples."""
        return self if self.reference.dim() == 1 else replace(self, reference=self.reference[start:stop])


def _overlaps(boxes: Tensor, box: Tensor) -> Tensor:
    """Return the intersection over union of boxes ``(M, 4)`` with one box, corners (x0, y0, x1, y1)."""
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    shared = (high - low).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    union = areas + (box[2:] - box[:2]).clamp(min=0).prod() - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(union))


@dataclass(frozen=True)
class DetectedBox(Target):
    """Detection: score and overlap of the detections that answer to one box a sample.

    Reads the model's whole output: a list of dicts ``{"boxes": (M, 4), "labels": (M,), "scores": (M,)}``, one a sample.
    The score of a sample is the sum of ``scores + overlap`` over its detections of the class whose overlap with the box
    is at least `overlap`; 0 where there is none.

    Parameters
    ----------
    box : Tensor of shape (4,) or (N, 4)
        Corners (x0, y0, x1, y1) in pixels.
    index : int, optional
        The class that counts; without it, all.
    overlap : float, default 0.5
        The intersection over union from which a detection counts.

    Examples
    --------
    >>> import torch
    >>> found = {
    ...     "boxes": torch.tensor([[0.0, 0.0, 2.0, 2.0]]),
    ...     "labels": torch.tensor([3]),
    ...     "scores": torch.tensor([0.5]),
    ... }
    >>> DetectedBox(torch.tensor([0.0, 0.0, 2.0, 2.0]), 3)([found])
    tensor([1.5000])
    """

    box: Tensor
    index: int | None = None
    overlap: float = 0.5
    reads: ClassVar[Literal["logits", "output"]] = "output"

    def __post_init__(self) -> None:
        check_instance("box", self.box, Tensor, "a tensor (4,) or (N, 4)")
        check_interval("overlap", self.overlap, 0.0, 1.0)
        if self.box.shape[-1:] != (4,) or self.box.dim() > 2:
            raise ValueError(f"`box` must have shape (4,) or (N, 4); got {tuple(self.box.shape)}")

    def __call__(self, output: Any) -> Tensor:
        """Return the scores ``(N,)`` of a list of N dicts."""
        if not isinstance(output, Sequence) or not all(isinstance(item, dict) for item in output):
            raise TypeError(f"DetectedBox needs a list of dicts, one a sample; got {shown(output)}")
        scores = []
        for i, found in enumerate(output):
            box = (self.box if self.box.dim() == 1 else self.box[i]).to(found["boxes"])
            overlaps = _overlaps(found["boxes"], box)
            counts = overlaps.detach() >= self.overlap
            if self.index is not None:
                counts = counts & (found["labels"] == self.index)
            scores.append(((found["scores"] + overlaps) * counts).sum())
        return torch.stack(scores)

    def rows(self, start: int, stop: int) -> DetectedBox:
        """Return the target of some of the samples."""
        return self if self.box.dim() == 1 else replace(self, box=self.box[start:stop])


TargetLike: TypeAlias = Index | Target | Callable[[Any], Tensor] | None
"""What `target=` takes."""
