"""State dictionaries as JSON plus tensors: what `pickle` would do, for the few kinds of value that states hold.

Dictionaries, lists, tuples, numbers, strings, booleans, None and tensors, nested; anything else is refused by name.
Memory formats and ties are kept: a tensor is stored contiguous, with its strides beside it, and a tensor that occurs
twice is stored once.
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
"""A JSON document and the tensors that it refers to, contiguous."""

_TENSOR, _TUPLE, _PAIRS, _FLOAT = "$tensor", "$tuple", "$pairs", "$float"


def pack(tree: object, name: str) -> Packed:
    """Take a tree apart; `name` is what errors call it.

    Parameters
    ----------
    tree : object
        Nested dicts, lists, tuples, numbers, strings, None and tensors.
    name : str
        For error messages.

    Returns
    -------
    document : Json
        The tree with a reference in the place of every tensor.
    tensors : dict of str to Tensor
        Contiguous; keyed by their path in the tree, joined by dots.

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
    seen: dict[tuple[object, ...], str] = {}

    def visit(value: object, path: str) -> Json:
        if isinstance(value, torch.Tensor):
            return _reference(value, path, tensors, seen)
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {_FLOAT: repr(value)}
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


def _reference(
    value: torch.Tensor, path: str, tensors: dict[str, torch.Tensor], seen: dict[tuple[object, ...], str]
) -> Json:
    value = value.detach()
    place = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
    if value.numel() and place in seen:
        return {_TENSOR: seen[place]}
    seen[place] = path
    # A copy: what is written must not change under the writer's hands, and a stored tensor never keeps a larger one
    # alive.
    tensors[path] = value.to("cpu", copy=True, memory_format=torch.contiguous_format)
    reference: dict[str, Json] = {_TENSOR: path}
    if value.stride() != tensors[path].stride() and _is_dense(value):
        reference["strides"] = list(value.stride())
    return reference


def _is_dense(value: torch.Tensor) -> bool:
    """Whether the tensor fills its memory without overlap or gap, in any order of axes."""
    extent = 1
    for size, stride in sorted(zip(value.shape, value.stride(), strict=True), key=lambda axis: axis[1]):
        if size == 1:
            continue
        if stride != extent:
            return False
        extent *= size
    return True


def unpack(document: Json, tensors: Mapping[str, torch.Tensor], device: torch.device | str = "cpu") -> Any:
    """Put a tree together again; see `pack`.

    Parameters
    ----------
    document : Json
        From `pack`.
    tensors : mapping of str to Tensor
        From `pack`.
    device : torch.device or str, default "cpu"
        Where the tensors go.

    Returns
    -------
    object
        The tree. Tensors have their strides again, and tied ones are one object.

    Raises
    ------
    KeyError
        If a tensor is missing.
    ValueError
        If the document is none of ours.
    """
    made: dict[str, torch.Tensor] = {}

    def visit(value: Json) -> Any:
        if isinstance(value, list):
            return [visit(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _TENSOR in value:
            key = str(value[_TENSOR])
            if key not in made:
                made[key] = _placed(tensors[key], value.get("strides"), device)
            return made[key]
        if _TUPLE in value:
            return tuple(visit(value[_TUPLE]))
        if _PAIRS in value:
            return {visit(key): visit(item) for key, item in _pairs(value[_PAIRS])}
        if _FLOAT in value:
            return float(str(value[_FLOAT]))
        return {key: visit(item) for key, item in value.items()}

    return visit(document)


def _pairs(value: Json) -> list[list[Json]]:
    pairs = value if isinstance(value, list) else []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dictionary in the document is damaged")
    return [pair for pair in pairs if isinstance(pair, list)]


def _placed(tensor: torch.Tensor, strides: Json, device: torch.device | str) -> torch.Tensor:
    if strides is None:
        return tensor.to(device)
    if not isinstance(strides, list) or len(strides) != tensor.ndim:
        raise ValueError("the strides of a tensor are damaged")
    order = [int(stride) for stride in strides if isinstance(stride, int)]
    made = torch.empty_strided(tensor.shape, order, dtype=tensor.dtype, device=device)
    return made.copy_(tensor)
