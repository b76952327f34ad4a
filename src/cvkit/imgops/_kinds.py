"""The kinds door: any image in, one plain view of its pixels; any result out, as the kind of image that came in.

How to use it::

    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)

- ``opened.pixels``: a view (N, C, H, W), not copied where that can be avoided, never to be written to. A torch tensor
  if and only if the image is a floating-point tensor (any device, still part of its graph); everything else, integer
  tensors included, is a NumPy array of native byte order. Interleaved images keep their memory: the view is merely
  strided.
- ``opened.colors``: number of colour channels, always the first ones; ``opened.color`` is ``pixels[:, :colors]``.
- ``opened.alpha``: whether the last channel is alpha; ``opened.opacity`` is ``pixels[:, -1:]`` or None. (RGBX has
  four channels, three colours and no alpha: the padding is carried along untouched.)
- ``opened.low``, ``opened.high``: the range of the values, integers for integer images (``opened.integer`` tells).
- ``opened.pack(result)``: a result (N, C, H, W) back in the kind, dtype, device and memory format (Pillow: mode,
  info) that came in; never aliases the input. Floats are cast; integer images want integers (`quantize` makes them).
- ``opened.pack_color(color)``: the same for new colour channels (N, colors, H, W); alpha and padding stay the image's
  own.
- Two images of the same kind: `unpack` both, then ``check_same_kind(a, b)`` raises if kind, dtype, device, size or
  range differ.
- A mask or map of weights: ``unpack_mask(mask, opened)`` gives a bool, integer or float view (N or 1, 1, H, W) in the
  library and on the device of ``opened.pixels``; select with ``!= 0`` or divide by ``mask_scale(view)`` for weights
  in [0, 1].
- Integer results: compute exactly or in float64, then ``quantize(values, low, high, dtype)``: half up, clipped.
- Half precision: compute on ``working(pixels)`` (float16 and bfloat16 become float32); ``pack`` casts back.
- Memory order: make NumPy results with ``np.empty_like(pixels)``, which keeps the strides' order, so that `pack` need
  not copy.
- Importing this module imports no torch: tensors are recognised through `sys.modules`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeGuard, cast

import numpy as np
from PIL import Image as PILModule

from cvkit._checks import check_finite, check_integer, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Array, ArrayLike, Image

__all__ = [
    "Unpacked",
    "check_same_kind",
    "from_numpy",
    "is_tensor",
    "mask_scale",
    "quantize",
    "unpack",
    "unpack_mask",
    "working",
]

# Pillow modes that are read as they are: colours, whether the last channel is alpha, and the dtype of the array.
_MODES: dict[str, tuple[int, bool, str]] = {
    "1": (1, False, "bool"),
    "L": (1, False, "uint8"),
    "LA": (1, True, "uint8"),
    "RGB": (3, False, "uint8"),
    "RGBA": (3, True, "uint8"),
    "RGBX": (3, False, "uint8"),
    "I;16": (1, False, "uint16"),
    "I;16L": (1, False, "uint16"),
    "I;16B": (1, False, "uint16"),
    "I;16N": (1, False, "uint16"),
    "I": (1, False, "int32"),
    "F": (1, False, "float32"),
}
# The others hold no plain colours; the conversion that gives them.
_CONVERSIONS = {"P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}

# The range that a dtype stands for, where it is not asked for.
_RANGES: dict[str, tuple[int, int]] = {"bool": (0, 1), "uint8": (0, 255), "uint16": (0, 65535)}
# Orders of three axes that bring the channel axis to the front and back; `numpy.moveaxis` takes ten times as long.
_TO_FRONT = {-1: (2, 0, 1), -2: (1, 0, 2), -3: (0, 1, 2)}
_FROM_FRONT = {-1: (1, 2, 0), -2: (1, 0, 2), -3: (0, 1, 2)}
_INTEGERS = frozenset({"bool", "uint8", "uint16", "int16", "int32"})
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
# Asking NumPy for the name takes forty times as long; other byte orders are not in here.
_NAMES = {np.dtype(name): name for name in (_INTEGERS | _FLOATS) - {"bfloat16"}}


@dataclass(frozen=True, eq=False)
class Unpacked:
    """An image taken apart: pixels (N, C, H, W), where colour and alpha lie, the range, and the way back."""

    pixels: ArrayLike
    colors: int
    alpha: bool
    low: float
    high: float
    kind: Literal["pillow", "array", "tensor"]
    dtype: str
    source: Image
    axis: int | None  # of the channels in the source, counted from its end; None where it has no such axis
    name: str = "image"

    @property
    def integer(self) -> bool:
        """Whether values are whole numbers (bool counts as 0 and 1)."""
        return self.dtype in _INTEGERS

    @property
    def color(self) -> ArrayLike:
        """The colour channels, a view (N, colors, H, W)."""
        return self.pixels[:, : self.colors]

    @property
    def opacity(self) -> ArrayLike | None:
        """The alpha channel, a view (N, 1, H, W), or None."""
        return self.pixels[:, -1:] if self.alpha else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    def pack(self, result: ArrayLike) -> Image:
        """Return `result` (N, C, H, W) as the kind of image that came in."""
        if self.kind == "tensor":
            return _pack_tensor(result, self)
        array = _pack_array(cast("Array", result), self)
        return _to_pillow(array, cast("PILModule.Image", self.source)) if self.kind == "pillow" else array

    def pack_color(self, color: ArrayLike) -> Image:
        """Return the image with new colour channels (N, colors, H, W) and its own alpha or padding."""
        if self.pixels.shape[1] == self.colors:
            return self.pack(color)
        rest = self.pixels[:, self.colors :]
        if is_tensor(rest):
            import torch

            return self.pack(torch.cat([cast("Tensor", color).to(rest.dtype), rest], dim=1))
        whole = np.empty_like(cast("Array", self.pixels))
        whole[:, : self.colors] = cast("Array", color)
        whole[:, self.colors :] = cast("Array", rest)
        return self.pack(whole)


def unpack(
    image: Image,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    name: str = "image",
    needs_range: bool = True,
) -> Unpacked:
    """Take an image of any kind apart.

    `needs_range=False` lets int16, int32 and Pillow's I and F pass without `data_range` (their dtype's limits, or 0 and
    1, are then the range); for functions that find the range by themselves.
    """
    if isinstance(image, PILModule.Image):
        return _unpack_pillow(image, channel_axis, alpha, data_range, name, needs_range)
    if is_tensor(image):
        return _unpack_tensor(image, channel_axis, alpha, data_range, name, needs_range)
    if isinstance(image, np.ndarray):
        return _unpack_array(image, channel_axis, alpha, data_range, name, needs_range)
    hint = "; convert it with `numpy.asarray`" if hasattr(image, "__array__") or hasattr(image, "__iter__") else ""
    raise TypeError(f"`{name}` must be a Pillow image, a NumPy array or a torch tensor; got {shown(image)}{hint}")


def unpack_mask(mask: Image, like: Unpacked, *, name: str = "mask") -> ArrayLike:
    """Return a mask or map of weights as a view (N or 1, 1, H, W) in the library and on the device of `like.pixels`.

    A mask is a Pillow image of mode 1, L, I;16 or F, an array (H, W) or (H, W, 1), or a tensor (H, W), (1, H, W),
    (N, H, W) or (N, 1, H, W), of `like`'s height and width.
    """
    if isinstance(mask, PILModule.Image):
        if mask.mode not in {"1", "L", "I;16", "I;16L", "I;16B", "F"}:
            raise TypeError(f"`{name}` must be of mode 1, L, I;16 or F, got {mask.mode!r}; use `{name}.convert('L')`")
        view: ArrayLike = _native(_from_pillow(mask))
    elif is_tensor(mask):
        view = mask
    elif isinstance(mask, np.ndarray):
        view = _native(mask[..., 0] if mask.ndim == 3 and mask.shape[-1] == 1 else mask)
    else:
        raise TypeError(f"`{name}` must be a Pillow image, a NumPy array or a torch tensor; got {shown(mask)}")
    if _dtype_name(view) not in _INTEGERS | _FLOATS | {"int64"}:
        raise TypeError(f"`{name}` must hold booleans, integers or floats; got {shown(mask)}")
    height, width = like.size
    count = like.pixels.shape[0]
    if view.ndim == 2:
        view = view[None, None]
    elif view.ndim == 3:
        view = view[:, None]
    fits = view.ndim == 4 and view.shape[1] == 1 and view.shape[0] in {1, count}
    if not fits or tuple(view.shape[2:]) != (height, width):
        batch = f", ({count}, {height}, {width}) or ({count}, 1, {height}, {width})" if count != 1 else ""
        raise ValueError(
            f"`{name}` must have the image's height and width, ({height}, {width}){batch}; got {shown(mask)}"
        )
    return _beside(view, like.pixels)


def mask_scale(view: ArrayLike, name: str = "mask") -> float:
    """Return the value that means full weight: 1 for bool and floats, 255 and 65535 for 8 and 16 bit."""
    kind = _dtype_name(view)
    if kind in _FLOATS:
        return 1.0
    if kind not in _RANGES:
        raise TypeError(f"`{name}` must be bool, uint8, uint16 or floating point where it weighs; got dtype {kind}")
    return float(_RANGES[kind][1])


def check_same_kind(first: Unpacked, second: Unpacked) -> None:
    """Raise unless two images agree in kind, dtype, device, shape, channels and range."""
    for what, a, b in (
        ("kind", first.kind, second.kind),
        ("mode", _mode(first), _mode(second)),
        ("dtype", first.dtype, second.dtype),
        ("device", str(getattr(first.source, "device", "")), str(getattr(second.source, "device", ""))),
    ):
        if a != b:
            raise TypeError(f"`{second.name}` must have the {what} of `{first.name}`, {a}; got {b}")
    shapes = tuple(np.shape(first.pixels)), tuple(np.shape(second.pixels))
    if shapes[0] != shapes[1] or first.colors != second.colors:
        described = [f"{x.shape[2]} x {x.shape[3]} with {x.shape[1]} channels" for x in (first.pixels, second.pixels)]
        if shapes[0][0] != shapes[1][0]:
            described = [
                f"{x.shape[0]} images of {text}"
                for x, text in zip((first.pixels, second.pixels), described, strict=True)
            ]
        raise ValueError(f"`{second.name}` must have the size of `{first.name}`, {described[0]}; got {described[1]}")
    if (first.low, first.high) != (second.low, second.high):
        raise ValueError(f"`{second.name}` must have the range of `{first.name}`; got {(second.low, second.high)}")


def _mode(opened: Unpacked) -> str:
    return opened.source.mode if isinstance(opened.source, PILModule.Image) else ""


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Return whether `value` is a torch tensor, without importing torch."""
    module = sys.modules.get("torch")
    return module is not None and isinstance(value, module.Tensor)


def working(pixels: ArrayLike) -> ArrayLike:
    """Return half-precision pixels as float32, all others as they are."""
    if is_tensor(pixels):
        return pixels.float() if pixels.dtype.itemsize == 2 and pixels.dtype.is_floating_point else pixels
    array = cast("Array", pixels)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def quantize(values: Array, low: float, high: float, dtype: str) -> Array:
    """Return float values rounded half up, clipped to [low, high], as an integer or boolean array."""
    rounded = np.floor(values + 0.5)
    np.clip(rounded, low, high, out=rounded)
    return rounded.astype(dtype)


# Ranges


def _range(dtype: str, data_range: Sequence[float] | None, needed: bool, name: str, what: str) -> tuple[float, float]:
    """Return the range of the values: the dtype's, or the one that was asked for, checked."""
    if data_range is None:
        if not needed and dtype in {"int16", "int32"}:
            limits = np.iinfo(dtype)
            return limits.min, limits.max
        if needed and (dtype in {"int16", "int32"} or what == "F"):
            raise ValueError(f"`data_range` is needed for `{name}` of {what}: pass (low, high)")
        return _RANGES.get(dtype, (0.0, 1.0))
    if isinstance(data_range, str | bytes) or not hasattr(data_range, "__iter__"):
        raise TypeError(f"`data_range` must be two numbers (low, high); got {shown(data_range)}")
    parts = tuple(data_range)
    if len(parts) != 2:
        raise ValueError(f"`data_range` must be two numbers (low, high); got {shown(data_range)}")
    low, high = check_finite("data_range[0]", parts[0]), check_finite("data_range[1]", parts[1])
    if low >= high:
        raise ValueError(f"`data_range` must be (low, high) with low < high; got ({low:g}, {high:g})")
    if dtype in _INTEGERS:
        bottom, top = (0, 1) if dtype == "bool" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        if low != int(low) or high != int(high) or low < bottom or high > top:
            raise ValueError(f"`data_range` of {dtype} must be integers in [{bottom}, {top}]; got ({low:g}, {high:g})")
        return int(low), int(high)
    return low, high


def _alpha(channels: int, alpha: bool | None, name: str) -> bool:
    """Return whether the last of so many channels is alpha."""
    if alpha is None:
        return channels in {2, 4}
    if not isinstance(alpha, bool):
        raise TypeError(f"`alpha` must be True, False or None; got {shown(alpha)}")
    if alpha and channels < 2:
        raise ValueError(f"`alpha=True` needs at least two channels; `{name}` has {channels}")
    return alpha


# Pillow


def _unpack_pillow(
    image: PILModule.Image,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
    name: str,
    needs_range: bool,
) -> Unpacked:
    mode = image.mode
    if mode not in _MODES:
        target = _CONVERSIONS.get(mode, "RGB")
        if mode == "P" and "transparency" in image.info:
            target = "RGBA"
        way = "`PIL.ImageCms.profileToProfile`" if mode == "LAB" else f"`{name}.convert({target!r})`"
        raise TypeError(f"`{name}` of Pillow mode {mode!r} holds no plain colours; use {way}")
    if channel_axis is not None:
        raise ValueError(f"`channel_axis` is for arrays and tensors; `{name}` is a Pillow image of mode {mode!r}")
    colors, has_alpha, dtype = _MODES[mode]
    if alpha is not None and not isinstance(alpha, bool):
        raise TypeError(f"`alpha` must be True, False or None; got {shown(alpha)}")
    if alpha and not has_alpha:
        raise ValueError(f"`alpha=True` needs a Pillow image with alpha; `{name}` is of mode {mode!r}")
    if alpha is False and has_alpha:
        colors, has_alpha = colors + 1, False
    low, high = _range(dtype, data_range, needs_range, name, f"Pillow mode {mode}" if mode != "F" else "F")
    array = _native(_from_pillow(image))
    view = array[None, None] if array.ndim == 2 else array.transpose(2, 0, 1)[None]
    return Unpacked(view, colors, has_alpha, low, high, "pillow", dtype, image, None if array.ndim == 2 else -1, name)


def _from_pillow(image: PILModule.Image) -> Array:
    """Return the pixels as an array (H, W) or (H, W, C); a size of zero included."""
    width, height = image.size
    if 0 in image.size:
        bands = len(image.getbands())
        return np.zeros((height, width) if bands == 1 else (height, width, bands), _MODES[image.mode][2])
    return np.asarray(image)


def _to_pillow(array: Array, source: PILModule.Image) -> PILModule.Image:
    """Return an array as a Pillow image of the mode of `source`, with its `info`."""
    size = (array.shape[1], array.shape[0])
    if 0 in size:
        image = PILModule.new(source.mode, size)
    elif source.mode == "RGBX":
        image = PILModule.frombytes("RGBX", size, array.tobytes())
    elif source.mode == "I;16B":
        image = PILModule.frombytes("I;16B", size, array.astype(">u2").tobytes())
    else:
        image = PILModule.fromarray(array)
    image.info = dict(source.info)
    return image


# NumPy


def _unpack_array(
    image: Array,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
    name: str,
    needs_range: bool,
) -> Unpacked:
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(f"`{name}` is a masked array; pass `{name}.data` and, where there is one, `mask=~{name}.mask`")
    dtype = _dtype_name(image)
    _check_dtype(dtype, name, "{0}.astype(numpy.float32)")
    if image.ndim not in {2, 3}:
        raise ValueError(f"`{name}` must have shape (H, W) or (H, W, C); got {image.shape}")
    low, high = _range(dtype, data_range, needs_range, name, f"dtype {dtype}")
    array = _native(np.asarray(image))
    if image.ndim == 2:
        _refuse_axis(channel_axis, name)
        colors, has_alpha = 1, _alpha(1, alpha, name)
        return Unpacked(array[None, None], colors, has_alpha, low, high, "array", dtype, image, None, name)
    axis = _channel_axis(channel_axis, image.shape, -1, name)
    view = array.transpose(_TO_FRONT[axis])[None]
    channels = view.shape[1]
    has_alpha = _alpha(channels, alpha, name)
    return Unpacked(view, channels - has_alpha, has_alpha, low, high, "array", dtype, image, axis, name)


def _pack_array(result: Array, opened: Unpacked) -> Array:
    """Return (1, C, H, W) as a contiguous, writeable array of the source's layout and dtype that is not the source."""
    planes = result[0]
    array = planes[0] if opened.axis is None else planes.transpose(_FROM_FRONT[opened.axis])
    dtype = np.dtype(opened.dtype) if opened.kind != "array" else cast("Array", opened.source).dtype
    array = np.ascontiguousarray(array, dtype=dtype)
    if not array.flags.writeable or np.may_share_memory(array, cast("Array", opened.pixels)):
        array = array.copy()
    return array


# torch


def _unpack_tensor(
    image: Tensor,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
    name: str,
    needs_range: bool,
) -> Unpacked:
    import torch

    dtype = _dtype_name(image)
    _check_dtype(dtype, name, "{0}.float()")
    if image.layout != torch.strided:
        raise TypeError(f"`{name}` must be a dense tensor, got layout {image.layout}; use `{name}.to_dense()`")
    if image.ndim not in {2, 3, 4}:
        raise ValueError(f"`{name}` must have shape (H, W), (C, H, W) or (N, C, H, W); got {tuple(image.shape)}")
    low, high = _range(dtype, data_range, needs_range, name, f"dtype {dtype}")
    if image.ndim == 2:
        _refuse_axis(channel_axis, name)
        view, axis = image[None, None], None
    else:
        axis = _channel_axis(channel_axis, tuple(image.shape), -3, name)
        view = image.movedim(axis, -3)
        view = view[None] if image.ndim == 3 else view
    channels = view.shape[1]
    has_alpha = _alpha(channels, alpha, name)
    pixels: ArrayLike = view if image.dtype.is_floating_point else view.cpu().numpy()
    return Unpacked(pixels, channels - has_alpha, has_alpha, low, high, "tensor", dtype, image, axis, name)


def _pack_tensor(result: ArrayLike, opened: Unpacked) -> Tensor:
    """Return (N, C, H, W) as a new tensor of the source's layout, dtype, device and memory format."""
    source = cast("Tensor", opened.source)
    if is_tensor(result):
        tensor = result
    else:
        array = cast("Array", result)
        tensor = from_numpy(array.copy() if np.may_share_memory(array, cast("Array", opened.pixels)) else array)
    tensor = tensor.to(device=source.device, dtype=source.dtype)
    if opened.axis is None:
        tensor = tensor[0, 0]
    else:
        tensor = (tensor[0] if source.ndim == 3 else tensor).movedim(-3, opened.axis)
    return _like_memory(tensor, source)


def _like_memory(tensor: Tensor, source: Tensor) -> Tensor:
    """Return `tensor` dense, in channels-last order where `source` is, in memory of its own."""
    import torch

    if source.ndim == 4 and not source.is_contiguous() and source.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    elif source.ndim == 3 and not source.is_contiguous() and source.permute(1, 2, 0).is_contiguous():
        tensor = tensor.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    else:
        tensor = tensor.contiguous()
    shares = tensor.numel() and tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return tensor.clone() if shares else tensor


# Shared


def _check_dtype(dtype: str, name: str, conversion: str) -> None:
    if dtype not in _INTEGERS | _FLOATS:
        known = "bool, uint8, uint16, int16, int32 or a floating-point dtype"
        raise TypeError(f"`{name}` must be {known}, got {dtype}; use `{conversion.format(name)}`")


def _refuse_axis(channel_axis: int | None, name: str) -> None:
    if channel_axis is not None:
        raise ValueError(f"`channel_axis` needs an axis of channels; `{name}` has shape (H, W)")


def _channel_axis(channel_axis: int | None, shape: tuple[int, ...], usual: int, name: str) -> int:
    """Return the channel axis counted from the end."""
    if channel_axis is None:
        if shape[usual] > 4 and len(shape) == 3:
            layout = "(H, W, C)" if usual == -1 else "(C, H, W)"
            raise ValueError(
                f"`{name}` of shape {shape} would have {shape[usual]} channels if read as {layout}; "
                f"if that is meant pass `channel_axis={usual}`, else the axis that holds the channels"
            )
        axis = usual
    else:
        axis = check_integer("channel_axis", channel_axis, minimum=-len(shape), maximum=len(shape) - 1)
        axis = axis if axis < 0 else axis - len(shape)
        if axis < -3:
            raise ValueError(f"`channel_axis` must not be the first axis of a batch; got {channel_axis}")
    if shape[axis] == 0:
        raise ValueError(f"`{name}` must have at least one channel; got shape {shape}")
    return axis


def from_numpy(array: Array) -> Tensor:
    """Return an array as a tensor, copied where torch could not map it."""
    import torch

    unfit = not array.flags.writeable or any(stride < 0 for stride in array.strides)
    return torch.from_numpy(array.copy() if unfit else array)


def _native(array: Array) -> Array:
    """Return the array in native byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _dtype_name(value: ArrayLike) -> str:
    if is_tensor(value):
        return str(value.dtype).removeprefix("torch.")
    dtype = cast("Array", value).dtype
    return _NAMES.get(dtype) or dtype.name


def _beside(view: ArrayLike, pixels: ArrayLike) -> ArrayLike:
    """Return `view` in the library and on the device of `pixels`."""
    if is_tensor(pixels):
        return (view if is_tensor(view) else from_numpy(cast("Array", view))).to(pixels.device)
    return view.detach().cpu().numpy() if is_tensor(view) else view
