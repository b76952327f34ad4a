"""Tensors inside nested outputs: tuples, lists, dicts, data classes and records with a `logits` field."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

__all__ = ["children", "first_tensor", "floating", "map_tensors", "replace_tensor", "take_rows", "tensors"]


def _is_record(tree: object) -> bool:
    """Whether a value is an object whose fields we look into."""
    if isinstance(tree, type | torch.nn.Module):
        return False
    return dataclasses.is_dataclass(tree) or isinstance(tree, SimpleNamespace) or hasattr(tree, "logits")


def children(tree: object) -> list[tuple[Any, Any]]:
    """Return the (key, value) pairs one level down; empty for a leaf."""
    if isinstance(tree, Tensor | str | bytes):
        return []
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    if _is_record(tree):
        slots = [field.name for field in dataclasses.fields(tree)] if dataclasses.is_dataclass(tree) else []
        named = {name: getattr(tree, name) for name in slots if hasattr(tree, name)}  # some have no `__dict__`
        return list({**named, **getattr(tree, "__dict__", {})}.items())
    return []


def _rebuilt(tree: Any, values: dict[Any, Any]) -> Any:
    """Return a copy of a container in which the named children are replaced."""
    if isinstance(tree, Mapping):
        new = copy.copy(tree)
        for key, value in values.items():
            new[key] = value  # type: ignore[index]
        return new
    if isinstance(tree, list | tuple):
        items = [values.get(i, item) for i, item in enumerate(tree)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    new = copy.copy(tree)
    for key, value in values.items():
        object.__setattr__(new, key, value)  # frozen data classes too
    return new


def tensors(tree: object) -> Iterator[Tensor]:
    """Yield the tensors of a tree, depth first."""
    if isinstance(tree, Tensor):
        yield tree
    for _, value in children(tree):
        yield from tensors(value)


def floating(tensor: Tensor) -> bool:
    """Whether a tensor can have a gradient."""
    return tensor.is_floating_point()


def first_tensor(tree: object, wanted: Callable[[Tensor], bool] = floating) -> Tensor | None:
    """Return the first tensor, depth first, that is wanted."""
    return next((tensor for tensor in tensors(tree) if wanted(tensor)), None)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return the tree with `function` applied to its tensors; parts that do not change are shared."""
    if isinstance(tree, Tensor):
        return function(tree)
    changed = {}
    for key, value in children(tree):
        new = map_tensors(function, value)
        if new is not value:
            changed[key] = new
    return _rebuilt(tree, changed) if changed else tree


def replace_tensor(tree: Any, old: Tensor, new: Tensor) -> Any:
    """Return the tree with one tensor, found by identity, replaced wherever it occurs."""
    return map_tensors(lambda tensor: new if tensor is old else tensor, tree)


def take_rows(tree: Any, start: int, stop: int, rows: int) -> Any:
    """Return rows `start` to `stop` of everything in a tree that has `rows` rows.

    Tensors are sliced along their first axis, and a list of one entry a row (as detectors return) is sliced itself.
    What has another length is shared.
    """
    if isinstance(tree, Tensor):
        return tree[start:stop] if tree.dim() and tree.shape[0] == rows else tree
    if isinstance(tree, list) and len(tree) == rows:
        inside = list(tensors(tree))
        if not inside or any(tensor.dim() == 0 or tensor.shape[0] != rows for tensor in inside):
            return tree[start:stop]
    changed = {}
    for key, value in children(tree):
        new = take_rows(value, start, stop, rows)
        if new is not value:
            changed[key] = new
    return _rebuilt(tree, changed) if changed else tree
