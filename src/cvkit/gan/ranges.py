"""The only crossings between uint8 images and what networks see."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from cvkit._checks import shown

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = ["to_signed", "to_uint8"]


@overload
def to_signed(images: torch.Tensor) -> torch.Tensor: ...
@overload
def to_signed(images: Array) -> Array: ...
def to_signed(images: ArrayLike) -> ArrayLike:
    """Return uint8 images as float32 in [-1, 1]: 0 becomes -1, 255 becomes 1.

    Parameters
    ----------
    images : ndarray or Tensor
        uint8, of any shape.

    Returns
    -------
    ndarray or Tensor
        float32 of the same kind, shape and device: ``images / 127.5 - 1``.

    Raises
    ------
    TypeError
        For any other dtype. Floats would be of a range that can't be seen.

    Examples
    --------
    >>> import numpy as np
    >>> to_signed(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    if isinstance(images, torch.Tensor):
        if images.dtype != torch.uint8:
            raise TypeError(f"`images` must be uint8 in [0, 255]; got {shown(images)}")
        return images.to(torch.float32).div_(127.5).sub_(1.0)
    if getattr(images, "dtype", None) != np.uint8:
        raise TypeError(f"`images` must be uint8 in [0, 255]; got {shown(images)}")
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


@overload
def to_uint8(images: torch.Tensor) -> torch.Tensor: ...
@overload
def to_uint8(images: Array) -> Array: ...
def to_uint8(images: ArrayLike) -> ArrayLike:
    """Return images in [-1, 1] as uint8, rounded half up; the range is fixed and never stretched.

    Parameters
    ----------
    images : ndarray or Tensor
        Floating, of any shape. Values outside [-1, 1] are clipped.

    Returns
    -------
    ndarray or Tensor
        uint8 of the same kind, shape and device.

    Raises
    ------
    TypeError
        If `images` isn't floating.
    ValueError
        If a value is NaN.

    Examples
    --------
    >>> import torch
    >>> to_uint8(torch.tensor([-1.5, -1.0, 0.0, 1.0])).tolist()
    [0, 0, 128, 255]
    """
    if isinstance(images, torch.Tensor):
        if not images.is_floating_point():
            raise TypeError(f"`images` must be floating in [-1, 1]; got {shown(images)}")
        if bool(images.isnan().any()):
            raise ValueError("`images` must not hold NaN")
        return images.detach().float().add(1.0).mul_(127.5).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    if getattr(getattr(images, "dtype", None), "kind", None) != "f":
        raise TypeError(f"`images` must be floating in [-1, 1]; got {shown(images)}")
    if np.isnan(images).any():
        raise ValueError("`images` must not hold NaN")
    scaled: Array = (images.astype(np.float32) + np.float32(1.0)) * np.float32(127.5) + np.float32(0.5)
    return np.clip(np.floor(scaled), 0, 255).astype(np.uint8)
