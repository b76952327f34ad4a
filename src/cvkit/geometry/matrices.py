"""Affine maps of pixel coordinates as plain 2x3 matrices: builders, exact inverse, composition, points.

A matrix ``[[a, b, c], [d, e, f]]`` maps the place ``(x, y)`` of a source picture to
``(a x + b y + c, d x + e y + f)`` of an output picture. Places are ``(x, y)`` with pixel *centres* at integers, so a
picture of width ``W`` spans [-0.5, W - 0.5]; sizes are ``(height, width)``. Nothing is ever rounded to whole pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, cast, overload

import numpy as np

from cvkit._checks import check_integer, check_size, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cvkit._types import Array, ArrayLike, Size

__all__ = [
    "compose",
    "crop_matrix",
    "flip_matrix",
    "flip_points",
    "invert",
    "resize_matrix",
    "rotation_matrix",
    "scale_matrix",
    "transform_points",
    "translation_matrix",
]

A = TypeVar("A", "Array", "Tensor")
Numbers: TypeAlias = Union[float, "Array"]
ArrayPair: TypeAlias = Union[Sequence[float], Sequence["Array"], "Array"]


@overload
def translation_matrix(offset: ArrayPair) -> Array: ...
@overload
def translation_matrix(offset: Tensor) -> Tensor: ...
def translation_matrix(offset: ArrayPair | Tensor) -> ArrayLike:
    """Move every place by an offset.

    Parameters
    ----------
    offset : pair of numbers, ndarray or Tensor of shape (..., 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        float64 for numbers and arrays; of the offset's dtype and device for a tensor.

    Examples
    --------
    >>> translation_matrix((3, -2)).tolist()
    [[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]]
    """
    x, y = _alike(*_pair("offset", offset))
    return cast("ArrayLike", _stack(1.0, 0.0, x, 0.0, 1.0, y))


@overload
def rotation_matrix(degrees: Numbers, center: ArrayPair = ...) -> Array: ...
@overload
def rotation_matrix(degrees: Tensor, center: ArrayPair | Tensor = ...) -> Tensor: ...
def rotation_matrix(degrees: Numbers | Tensor, center: ArrayPair | Tensor = (0.0, 0.0)) -> ArrayLike:
    """Turn counter-clockwise, as seen on the screen, about a point that stays where it is.

    Quarter turns are exact. For a picture's middle the centre is ``((W - 1) / 2, (H - 1) / 2)``.

    Parameters
    ----------
    degrees : float, ndarray or Tensor of shape (...)
        The angle in degrees.
    center : pair of numbers, ndarray or Tensor of shape (..., 2), default (0.0, 0.0)
        ``(x, y)`` in pixels.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        float64 for numbers and arrays; of the tensor's dtype and device otherwise.

    Examples
    --------
    A quarter turn takes the place right of the centre to the place above it.

    >>> transform_points(rotation_matrix(90, center=(5, 5)), [[6, 5]]).tolist()
    [[5.0, 4.0]]
    """
    angle, x, y = _alike(_numbers("degrees", degrees), *_pair("center", center))
    cos, sin = _cos_sin(angle)
    # p' = c + R (p - c); y points down, hence the sign of the sines.
    return cast("ArrayLike", _stack(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


@overload
def scale_matrix(scale_x: Numbers, scale_y: Numbers | None = ..., *, center: ArrayPair = ...) -> Array: ...
@overload
def scale_matrix(scale_x: Tensor, scale_y: Tensor | None = ..., *, center: ArrayPair | Tensor = ...) -> Tensor: ...
def scale_matrix(
    scale_x: Numbers | Tensor, scale_y: Numbers | Tensor | None = None, *, center: ArrayPair | Tensor = (0.0, 0.0)
) -> ArrayLike:
    """Stretch about a point that stays where it is.

    Parameters
    ----------
    scale_x : float, ndarray or Tensor of shape (...)
        Factor of the first coordinate; above 1 enlarges.
    scale_y : float, ndarray or Tensor of shape (...), optional
        Factor of the second coordinate, `scale_x` by default.
    center : pair of numbers, ndarray or Tensor of shape (..., 2), default (0.0, 0.0)
        ``(x, y)`` in pixels.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        float64 for numbers and arrays; of the tensor's dtype and device otherwise.

    See Also
    --------
    resize_matrix : The map that goes with resizing a whole picture.

    Examples
    --------
    >>> transform_points(scale_matrix(2, center=(10, 10)), [[11, 9]]).tolist()
    [[12.0, 8.0]]
    """
    factors = [_numbers("scale_x", scale_x), _numbers("scale_y", scale_x if scale_y is None else scale_y)]
    sx, sy, x, y = _alike(*factors, *_pair("center", center))
    return cast("ArrayLike", _stack(sx, 0.0, x - sx * x, 0.0, sy, y - sy * y))


@overload
def crop_matrix(center: ArrayPair, size: ArrayPair, output_size: Size, *, rotation: Numbers = ...) -> Array: ...
@overload
def crop_matrix(
    center: Tensor, size: ArrayPair | Tensor, output_size: Size, *, rotation: Numbers | Tensor = ...
) -> Tensor: ...
def crop_matrix(
    center: ArrayPair | Tensor, size: ArrayPair | Tensor, output_size: Size, *, rotation: Numbers | Tensor = 0.0
) -> ArrayLike:
    """Map a window of the source, which may be turned, onto a whole output picture.

    Parameters
    ----------
    center : pair of numbers, ndarray or Tensor of shape (..., 2)
        Middle of the window, ``(x, y)`` in source pixels.
    size : pair of numbers, ndarray or Tensor of shape (..., 2)
        The window's ``(height, width)`` in source pixels; need not be whole.
    output_size : (int, int)
        Height and width of the output picture.
    rotation : float, ndarray or Tensor of shape (...), default 0.0
        By how many degrees the content turns counter-clockwise.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        float64 for numbers and arrays; of the tensor's dtype and device otherwise.

    Raises
    ------
    ValueError
        If the window's size is not positive. A tensor is not looked at, which would wait for the device.

    Examples
    --------
    The middle of the window becomes the middle of the output.

    >>> transform_points(crop_matrix((40.5, 20), (32, 64), (16, 16)), [[40.5, 20]]).tolist()
    [[7.5, 7.5]]
    """
    height, width = check_size("output_size", output_size)
    window = _pair("size", size)
    if not any(is_tensor(side) for side in window) and not all(np.all(side > 0) for side in window):
        raise ValueError(f"`size` must be positive (height, width); got {shown(size)}")
    cx, cy, window_height, window_width, angle = _alike(
        *_pair("center", center), *window, _numbers("rotation", rotation)
    )
    cos, sin = _cos_sin(angle)
    sx, sy = width / window_width, height / window_height
    # p' = S R (p - c) + (size' - 1) / 2
    a, b, d, e = sx * cos, sx * sin, -sy * sin, sy * cos
    moved = _stack(a, b, (width - 1) / 2 - a * cx - b * cy, d, e, (height - 1) / 2 - d * cx - e * cy)
    return cast("ArrayLike", moved)


def resize_matrix(old: Size, new: Size) -> Array:
    """Map a picture's places when the whole of it is resized.

    With scale = new / old the map is ``x' = (x + 0.5) * scale - 0.5``: the edges of both pictures fall together.

    Parameters
    ----------
    old, new : (int, int)
        Height and width before and after.

    Returns
    -------
    ndarray of shape (2, 3)
        float64.

    Examples
    --------
    >>> resize_matrix((10, 10), (5, 20)).tolist()
    [[2.0, 0.0, 0.5], [0.0, 0.5, -0.25]]
    """
    old_height, old_width = check_size("old", old)
    new_height, new_width = check_size("new", new)
    sx, sy = new_width / old_width, new_height / old_height
    return np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5]])


def flip_matrix(width: int) -> Array:
    """Mirror left and right: ``x' = W - 1 - x``.

    Parameters
    ----------
    width : int
        The picture's width.

    Returns
    -------
    ndarray of shape (2, 3)
        float64.

    Examples
    --------
    >>> transform_points(flip_matrix(10), [[0, 3]]).tolist()
    [[9.0, 3.0]]
    """
    return np.array([[-1.0, 0.0, check_integer("width", width, minimum=1) - 1.0], [0.0, 1.0, 0.0]])


def invert(matrix: A) -> A:
    """Return the map from the output back to the source, by the closed formula.

    Parameters
    ----------
    matrix : ndarray or Tensor of shape (..., 2, 3)
        Affine maps.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        Arrays come back as float64, tensors in their dtype. Differentiable.

    Raises
    ------
    ValueError
        If an array holds a map that cannot be inverted. A tensor is not looked at (that would wait for the device):
        such a map gives infinite or NaN entries.

    Examples
    --------
    >>> invert(translation_matrix((3, -2))).tolist()
    [[1.0, 0.0, -3.0], [0.0, 1.0, 2.0]]
    """
    (a, b, c), (d, e, f) = _entries("matrix", matrix)
    determinant = a * e - b * d
    if not is_tensor(matrix) and not np.all(np.isfinite(determinant) & (determinant != 0)):
        raise ValueError("`matrix` cannot be inverted: its linear part has no finite, non-zero determinant")
    a, b, d, e = e / determinant, 0 - b / determinant, 0 - d / determinant, a / determinant
    return cast("A", _stack(a, b, -(a * c + b * f), d, e, -(d * c + e * f)))


def compose(first: A, /, *others: A) -> A:
    """Return the one map that does the same as several, one after the other.

    Parameters
    ----------
    first, *others : ndarray or Tensor of shape (..., 2, 3)
        Affine maps in the order in which they are applied; leading axes broadcast. All arrays or all tensors.

    Returns
    -------
    ndarray or Tensor of shape (..., 2, 3)
        Arrays come back as float64, tensors in their common dtype. Differentiable.

    Raises
    ------
    TypeError
        If arrays and tensors are mixed.

    Examples
    --------
    >>> both = compose(translation_matrix((1, 0)), scale_matrix(2))
    >>> transform_points(both, [[0, 0]]).tolist()
    [[2.0, 0.0]]
    """
    result = first
    _entries("first", first)
    for i, other in enumerate(others):
        if is_tensor(other) != is_tensor(first):
            raise TypeError(f"`others[{i}]` must be of the same kind as `first`; got {shown(other)}, {shown(first)}")
        (a, b, c), (d, e, f) = _entries("first", result)
        (p, q, r), (s, t, u) = _entries(f"others[{i}]", other)
        result = _stack(
            p * a + q * d, p * b + q * e, p * c + q * f + r, s * a + t * d, s * b + t * e, s * c + t * f + u
        )
    return result if is_tensor(result) else cast("A", np.array(result, dtype=np.float64))


@overload
def transform_points(matrix: ArrayLike, points: Tensor) -> Tensor: ...
@overload
def transform_points(matrix: Array, points: Array | Sequence[Sequence[float]]) -> Array: ...
def transform_points(matrix: ArrayLike, points: ArrayLike | Sequence[Sequence[float]]) -> ArrayLike:
    """Move points by affine maps.

    Parameters
    ----------
    matrix : ndarray or Tensor of shape (2, 3) or (N, 2, 3)
        One map, or one for each row of `points`. An array serves tensors too.
    points : ndarray, nested sequence or Tensor of shape (..., 2), or (N, J, 2) and (J, 2) for N maps
        ``(x, y)`` in pixels. NaN stays NaN.

    Returns
    -------
    ndarray or Tensor of shape (..., 2) or (N, J, 2)
        The kind, device and floating dtype of `points` (integers become float64), worked out in the wider of both
        dtypes. Differentiable.

    Raises
    ------
    TypeError
        If the points are an array and the matrix is a tensor.

    Examples
    --------
    >>> transform_points(resize_matrix((10, 10), (20, 20)), [[0, 0], [9, 9]]).tolist()
    [[0.5, 0.5], [18.5, 18.5]]
    """
    if is_tensor(points):
        (maps, wide), dtype = _as_tensors(matrix, points)
        return cast("Tensor", _move(maps, wide, dtype))
    if is_tensor(matrix):
        raise TypeError("`points` must be a tensor if `matrix` is one; got an array (use `torch.from_numpy`)")
    places = np.asarray(points)
    kind = places.dtype if places.dtype.kind == "f" else np.dtype(np.float64)
    return cast("Array", _move(np.asarray(matrix, dtype=np.float64), places.astype(np.float64), kind))


def _move(matrix: Any, points: Any, kind: Any) -> Any:
    """Apply maps to points of one kind and wide dtype, and return `kind`."""
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"`points` must have shape (..., 2), x and y last; got {tuple(points.shape)}")
    (a, b, c), (d, e, f) = _entries("matrix", matrix)
    if a.ndim:
        if (
            a.ndim != 1
            or points.ndim not in {2, 3}
            or (points.ndim == 3 and len(points) not in {1, len(a)} and len(a) != 1)
        ):
            raise ValueError(
                "`points` must have shape (N, J, 2) or (J, 2) for `matrix` of shape (N, 2, 3); "
                f"got {tuple(points.shape)} and {tuple(matrix.shape)}"
            )
        a, b, c, d, e, f = (entry[:, None] for entry in (a, b, c, d, e, f))
    x, y = points[..., 0], points[..., 1]
    # Written out, since a matrix product may run in a reduced precision on some devices.
    moved = [a * x + b * y + c, d * x + e * y + f]
    if is_tensor(points):
        import torch

        return torch.stack(moved, -1).to(kind)
    return np.stack(moved, -1).astype(kind)


def flip_points(points: A, width: int) -> A:
    """Mirror points left and right: ``x' = W - 1 - x``. Left and right *names* are the skeleton's business.

    Parameters
    ----------
    points : ndarray or Tensor of shape (..., 2)
        ``(x, y)`` in pixels.
    width : int
        The picture's width.

    Returns
    -------
    ndarray or Tensor of shape (..., 2)
        The kind and floating dtype of `points`.

    Examples
    --------
    >>> import numpy as np
    >>> flip_points(np.array([[0.0, 5.0], [2.5, 5.0]]), width=4).tolist()
    [[3.0, 5.0], [0.5, 5.0]]
    """
    return transform_points(flip_matrix(width), points)


def is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating dtype that a device knows."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def _as_tensors(matrix: Any, points: Any) -> tuple[tuple[Tensor, Tensor], torch.dtype]:
    """Bring a matrix of either kind beside tensor points: both in the wider dtype, and the dtype of the result."""
    import torch

    if not is_tensor(matrix):
        matrix = torch.as_tensor(np.array(matrix, dtype=np.float64)).to(points.device, widest(points.device))
    elif matrix.device != points.device:
        raise ValueError(f"`matrix` and `points` must be on one device; got {matrix.device} and {points.device}")
    kind = points.dtype if points.dtype.is_floating_point else widest(points.device)
    wide = torch.promote_types(matrix.dtype, kind)
    return (matrix.to(wide), points.to(wide)), kind


def _numbers(name: str, value: Any) -> Any:
    """Return a tensor as it is, anything else as a finite float64 array."""
    if is_tensor(value):
        return value
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be numbers; got {shown(value)}") from None
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"`{name}` must be finite; got {shown(value)}")
    return numbers


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """Split a value whose last axis, or which itself, has two parts."""
    if isinstance(value, tuple | list) and any(is_tensor(part) for part in value):
        if len(value) != 2:
            raise ValueError(f"`{name}` must have two parts; got {len(value)}")
        return _numbers(name, value[0]), _numbers(name, value[1])
    numbers = _numbers(name, value)
    if numbers.ndim < 1 or numbers.shape[-1] != 2:
        raise ValueError(f"`{name}` must have two parts (shape (..., 2)); got shape {tuple(numbers.shape)}")
    return numbers[..., 0], numbers[..., 1]


def _alike(*values: Any) -> tuple[Any, ...]:
    """Return the values as tensors of one floating dtype and device if one of them is a tensor, else as they are."""
    tensors = [value for value in values if is_tensor(value)]
    if not tensors:
        return values
    import torch

    device = tensors[0].device
    if any(tensor.device != device for tensor in tensors):
        raise ValueError(f"tensors must be on one device; got {', '.join(str(t.device) for t in tensors)}")
    kinds = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point] or [widest(device)]
    kind = reduce(torch.promote_types, kinds)
    return tuple(v.to(kind) if is_tensor(v) else torch.as_tensor(v, dtype=kind, device=device) for v in values)


def _entries(name: str, matrix: Any) -> list[list[Any]]:
    """Split a matrix into its two rows of three entries."""
    if not is_tensor(matrix):
        matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (2, 3):
        raise ValueError(f"`{name}` must have shape (2, 3) or (N, 2, 3); got {tuple(matrix.shape)}")
    return [[matrix[..., i, j] for j in range(3)] for i in range(2)]


def _cos_sin(degrees: Any) -> tuple[Any, Any]:
    """Cosine and sine of degrees, exact for quarter turns."""
    xp: Any = import_module("torch") if is_tensor(degrees) else np
    radians = xp.deg2rad(degrees)
    quarter = degrees % 90 == 0
    cos, sin = xp.cos(radians), xp.sin(radians)
    return xp.where(quarter, xp.round(cos), cos), xp.where(quarter, xp.round(sin), sin)


def _stack(*entries: Any) -> Any:
    """Put six broadcastable entries, numbers and either arrays or tensors, together to matrices (..., 2, 3)."""
    entries = _alike(*entries)
    if is_tensor(entries[0]):
        import torch

        stacked: Any = torch.stack(list(torch.broadcast_tensors(*entries)), -1)  # type: ignore[no-untyped-call]
    else:
        stacked = np.stack(np.broadcast_arrays(*(np.asarray(entry, dtype=np.float64) for entry in entries)), -1)
    return stacked.reshape(*stacked.shape[:-1], 2, 3)
