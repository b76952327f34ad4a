"""What one formula for arrays and tensors needs: their library, values in [0, 1], and the way back to a picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image as PILModule

from cvkit.imgops._kinds import Unpacked, from_numpy, is_tensor, quantize, working

if TYPE_CHECKING:
    from cvkit._types import Array, Image

__all__ = ["Values", "as_tensor_like", "namespace", "pack_channels", "scaled", "unscaled"]

Values: TypeAlias = Any
"""An array or a tensor: one formula serves both."""


def namespace(values: Values) -> Any:
    """Return the library of an array or a tensor: numpy or torch."""
    return sys.modules["torch"] if is_tensor(values) else np


def as_tensor_like(array: Array, like: Values) -> Values:
    """Return an array as a tensor with the dtype and on the device of another."""
    return from_numpy(array).to(device=like.device, dtype=like.dtype)


def scaled(opened: Unpacked, pixels: Values) -> Values:
    """Return pixels as floats in [0, 1]: float64 for integers, half precision as float32."""
    if opened.integer:
        pixels = np.asarray(pixels, np.float64)
    values = working(pixels)
    if (opened.low, opened.high) == (0, 1):
        return values
    return (values - opened.low) / (opened.high - opened.low)


def unscaled(opened: Unpacked, values: Values) -> Values:
    """Return floats in [0, 1] as pixels: rounded half up for integers."""
    low, high = opened.low, opened.high
    if (low, high) != (0, 1):
        values = values * (high - low) + low
    return quantize(values, low, high, opened.dtype) if opened.integer else values


def pack_channels(opened: Unpacked, result: Values) -> Image:
    """Return (N, C, H, W) with another number of channels as the kind of image that came in.

    One channel of an array with the usual axis becomes (H, W); a tensor keeps its axes, and one of shape (H, W)
    gains one.
    """
    channels = result.shape[1]
    if opened.kind == "tensor":
        return _pack_tensor_channels(opened, result)
    flat = channels == 1 and (opened.kind == "pillow" or opened.axis in {None, -1})
    axis = None if flat else (opened.axis or -1)
    if isinstance(opened.source, PILModule.Image):
        opened = replace(opened, source=_with_channels(opened, opened.source, channels))
    return replace(opened, axis=axis).pack(result)


def _with_channels(opened: Unpacked, source: PILModule.Image, channels: int) -> PILModule.Image:
    """Return a picture of the mode, and with the `info`, that a result with so many channels has."""
    if opened.dtype == "uint8" and len(source.getbands()) != channels:
        info = source.info
        source = PILModule.new(("L", "LA", "RGB", "RGBA")[channels - 1], (1, 1))
        source.info = dict(info)
    elif opened.dtype not in {"uint8", "bool"} and channels != 1:
        raise TypeError(
            f"`{opened.name}` of Pillow mode {source.mode!r} has no coloured counterpart there; "
            f"use `numpy.asarray({opened.name})`"
        )
    return source


def _pack_tensor_channels(opened: Unpacked, result: Values) -> Image:
    source: Any = opened.source
    if source.ndim > 2:
        return opened.pack(result)
    if result.shape[1] == 1:
        return opened.pack(result)
    return replace(opened, source=source[None], axis=-3).pack(result)
