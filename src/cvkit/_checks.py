"""Checks for public doors: each returns the value it was given, or raises one error that names the argument."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["check_choice", "check_finite", "check_instance", "check_integer", "check_interval", "check_size", "shown"]

T = TypeVar("T")


def shown(value: object, limit: int = 80) -> str:
    """Return a short description of a value for an error message, never a whole array."""
    shape = getattr(value, "shape", None)
    if shape is not None and getattr(value, "dtype", None) is not None:
        return f"{type(value).__name__} of shape {tuple(shape)} and dtype {getattr(value, 'dtype', None)}"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def check_choice(name: str, value: T, choices: Collection[T]) -> T:
    """Return `value` if it is one of `choices`."""
    try:
        known = value in choices
    except TypeError:
        known = False
    if not known:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}; got {shown(value)}")
    return value


def check_integer(name: str, value: SupportsIndex, *, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return `value` as a Python integer between `minimum` and `maximum`, both included."""
    if isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer; got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer; got {shown(value)}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {number}")
    if maximum is not None and number > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}; got {number}")
    return number


def check_finite(name: str, value: SupportsFloat) -> float:
    """Return `value` as a finite Python float."""
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"`{name}` must be a number; got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"`{name}` must be a number; got {shown(value)}") from None
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite; got {number}")
    return number


def check_interval(
    name: str,
    value: SupportsFloat,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a finite float inside an interval, whose ends belong to it unless said otherwise."""
    number = check_finite(name, value)
    inside = (low < number if low_open else low <= number) and (number < high if high_open else number <= high)
    if not inside:
        left = "(" if low_open or low == -math.inf else "["
        right = ")" if high_open or high == math.inf else "]"
        raise ValueError(f"`{name}` must lie in {left}{low:g}, {high:g}{right}; got {number:g}")
    return number


def check_size(name: str, value: object, *, minimum: int = 1) -> tuple[int, int]:
    """Return `value` as (height, width)."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise TypeError(f"`{name}` must be two integers (height, width); got {shown(value)}")
    parts = tuple(value)
    if len(parts) != 2:
        raise ValueError(f"`{name}` must be two integers (height, width); got {shown(value)}")
    height, width = (check_integer(f"{name}[{i}]", part, minimum=minimum) for i, part in enumerate(parts))
    return height, width


def check_instance(name: str, value: object, kind: type[T], expected: str | None = None) -> T:
    """Return `value` if it is an instance of `kind`; `expected` describes it in words."""
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` must be {expected or kind.__name__}; got {shown(value)}")
    return value
