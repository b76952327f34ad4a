"""Labels: class indices of any integer dtype, or class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from cvkit._checks import check_integer, shown

if TYPE_CHECKING:
    from cvkit._types import ArrayLike

__all__ = ["Labels", "class_indices"]

Labels: TypeAlias = "int | str | Sequence[int | str] | ArrayLike"
"""One class or several, as indices or as names."""


def class_indices(labels: Labels, names: Sequence[str], *, argument: str = "labels") -> torch.Tensor:
    """Return labels or names as class indices, int64 of shape (K,); see `Sampler.indices`."""
    if isinstance(labels, torch.Tensor | np.ndarray):
        values = torch.as_tensor(labels).reshape(-1)
        if values.numel() and (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool):
            raise TypeError(f"`{argument}` must be integers or class names; got {shown(labels)}")
        asked: list[int | str] = values.tolist()
    elif isinstance(labels, str) or not isinstance(labels, Sequence):
        asked = [labels]
    else:
        asked = list(labels)
    return torch.tensor([_class_index(label, names, argument) for label in asked], dtype=torch.int64)


def _class_index(label: int | str, names: Sequence[str], argument: str) -> int:
    if isinstance(label, str):
        if label not in names:
            raise ValueError(f"`{argument}` must name classes among {', '.join(map(repr, names))}; got {label!r}")
        return list(names).index(label)
    try:
        index = check_integer(argument, label)
    except TypeError:
        raise TypeError(f"`{argument}` must be integers or class names; got {shown(label)}") from None
    if not 0 <= index < len(names):
        raise ValueError(f"`{argument}` must lie in 0..{len(names) - 1} for {len(names)} classes; got {index}")
    return index
