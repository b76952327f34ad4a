"""State dictionaries as JSON plus tensors: what `pickle` would do, for the few kinds of value that states hold.

Dictionaries, lists, tuples, numbers, strings, bytes, booleans, None and tensors, nested; anything else is refused by
name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Json", "Packed", "pack", "unpack"]

Json: TypeAlias = Union[bool, int, float, str, list["Json"], dict[str, "Json"], None]  # noqa: UP007 - names itself
"""What a JSON document holds."""

Packed: TypeAlias = tuple[Json, dict[str, torch.Tensor]]
"""A JSON document and the tensors that it refers to."""

_TENSOR, _TUPLE, _PAIRS, _FLOAT, _BYTES = "$tensor", "$tuple", "$pairs", "$float", "$bytes"


def pack(tree: object, name: str) -> Packed:
    """Take a tree apart; `name` is what errors call it.

    Parameters
    ----------
    tree : object
        Nested dicts, lists, tuples, numbers, strings, bytes, None and tensors.
    name : str
        For error messages.

    Returns
    -------
    document : Json
        The tree with a reference in the place of every tensor.
    tensors : dict of str to Tensor
        The tensors themselves, not copied; keyed by their path in the tree, joined by dots.

    Raises
    ------
    TypeError
        For any other kind of value, naming its place.

    Examples
    --------
    >>> document, tensors = pack({"lr": 0.1, "betas": (0.0, 0.9), "moment": torch.zeros(2)}, "adam")
    >>> document
    {'lr': 0.1, 'betas': {'$tuple': [0.0, 0.9]}, 'moment': {'$tensor': 'moment'}}
    >>> unpack(document, tensors)["betas"]
    (0.0, 0.9)
    """
    tensors: dict[str, torch.Tensor] = {}

    def visit(value: object, path: str) -> Json:
        if isinstance(value, torch.Tensor):
            key = path or "_"
            while key in tensors:  # {"a": {"b": x}, "a.b": y}
                key += "_"
            tensors[key] = value.detach()
            return {_TENSOR: key}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {_FLOAT: repr(value)}
        if isinstance(value, bytes):
            return {_BYTES: value.hex()}
        if isinstance(value, tuple):
            return {_TUPLE: [visit(item, _join(path, i)) for i, item in enumerate(value)]}
        if isinstance(value, list):
            return [visit(item, _join(path, i)) for i, item in enumerate(value)]
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: visit(item, _join(path, key)) for key, item in value.items()}
            pairs = [[visit(key, path), visit(item, _join(path, key))] for key, item in value.items()]
            return {_PAIRS: list(pairs)}
        raise TypeError(f"{name}: `{path}` is a {type(value).__name__}, which a checkpoint can't hold")

    return visit(tree, ""), tensors


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def unpack(document: Json, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Put a tree together again; see `pack`.

    Parameters
    ----------
    document : Json
        From `pack`.
    tensors : mapping of str to Tensor
        From `pack`.

    Returns
    -------
    object
        The tree, with the very tensors of `tensors` in their places.

    Raises
    ------
    KeyError
        If a tensor is missing.
    ValueError
        If the document is none of ours.
    """
    if isinstance(document, list):
        return [unpack(item, tensors) for item in document]
    if not isinstance(document, dict):
        return document
    if _TENSOR in document:
        return tensors[str(document[_TENSOR])]
    if _TUPLE in document:
        return tuple(unpack(document[_TUPLE], tensors))
    if _PAIRS in document:
        return {unpack(key, tensors): unpack(item, tensors) for key, item in _pairs(document[_PAIRS])}
    if _FLOAT in document:
        return float(str(document[_FLOAT]))
    if _BYTES in document:
        return bytes.fromhex(str(document[_BYTES]))
    return {key: unpack(item, tensors) for key, item in document.items()}


def _pairs(value: Json) -> list[list[Json]]:
    pairs = value if isinstance(value, list) else []
    if pairs is not value or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dictionary in the document is damaged")
    return [pair for pair in pairs if isinstance(pair, list)]
