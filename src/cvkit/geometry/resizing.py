"""Resize a picture; prepare a photograph for a network and find the way back to its pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from PIL import Image as PillowImage

from cvkit._checks import check_choice, check_interval, check_size, shown
from cvkit.geometry.matrices import compose, crop_matrix, invert, is_tensor, translation_matrix
from cvkit.geometry.warping import keep_format, pillow_like, round_like, round_tensor, working_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Array, Image, ImageT, Size

__all__ = ["Prepared", "prepare", "resize"]

Mode = Literal["nearest", "bilinear", "bicubic"]

_PILLOW = {
    "nearest": PillowImage.Resampling.NEAREST,
    "bilinear": PillowImage.Resampling.BILINEAR,
    "bicubic": PillowImage.Resampling.BICUBIC,
}


def resize(image: ImageT, size: Size, *, mode: Mode = "bilinear") -> ImageT:
    """Resize a whole picture, antialiased where it shrinks.

    Pixel centres follow `resize_matrix`: ``x' = (x + 0.5) * scale - 0.5``. The kernel is the triangle or Keys' cubic
    with a = -0.5, widened by the factor of shrinking, as in Pillow. Arrays and tensors have independent channels;
    Pillow weighs the colours of its transparent modes by alpha.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (N, C, H, W)
        Any dtype and range. Pillow's palette and 1-bit images need ``mode='nearest'``.
    size : (int, int)
        New height and width.
    mode : {'bilinear', 'nearest', 'bicubic'}
        Bicubic may overshoot floats. Nearest takes the pixel under the new pixel's centre, without antialiasing.

    Returns
    -------
    same kind as `image`
        With the image's dtype, device and memory format. 8-bit arrays agree with Pillow bit for bit, other integers
        (and 8-bit tensors) are rounded half up, once. Differentiable for floating tensors.

    Raises
    ------
    TypeError
        For an image of another kind, or a Pillow mode that cannot be interpolated.
    ValueError
        For an image without pixels or a size below 1.

    Examples
    --------
    >>> import numpy as np
    >>> resize(np.array([[0.0, 1.0]]), (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    check_choice("mode", mode, _PILLOW)
    size = check_size("size", size)
    result: Any
    if is_tensor(image):
        result = _resize_tensor(cast("Tensor", image), size, mode)
    elif isinstance(image, PillowImage.Image):
        result = _resize_pillow(image, size, mode)
    elif isinstance(image, np.ndarray):
        result = _resize_array(image, size, mode)
    else:
        raise TypeError(f"`image` must be a Pillow image, an array or a tensor; got {shown(image)}")
    return cast("ImageT", result)


class Prepared(NamedTuple):
    """A photograph as a network wants it, and the way back.

    Attributes
    ----------
    tensor : Tensor of shape (1, 3, H, W)
        float32 in [0, 1], RGB.
    to_photo : ndarray of shape (2, 3)
        float64, from the tensor's places to the photograph's: ``transform_points(to_photo, points)`` takes points
        back, and ``warp(maps, to_photo, photo_size)`` maps.
    """

    tensor: Tensor
    to_photo: Array


def prepare(
    photo: Image,
    size: Size,
    *,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    crop_fraction: float = 1.0,
    fill: float | Sequence[float] = 0.5,
    mode: Mode = "bilinear",
) -> Prepared:
    """Bring a photograph to a network's size and return the exact way back to its pixels.

    Normalising by a mean and a deviation is left to the caller, who knows the network.

    Parameters
    ----------
    photo : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (1, C, H, W)
        1, 2, 3 or 4 channels: grey, grey and alpha, RGB, RGBA. uint8, uint16 (also Pillow's ``I;16``) or floats in
        [0, 1]. Grey is repeated, transparency is laid over `fill`.
    size : (int, int)
        The network's height and width.
    fit : {'crop', 'pad', 'stretch'}
        Cut the largest middle window of the network's proportions, or show all of the photograph between bars of
        `fill`, or stretch it. Padding rounds the content to whole pixels, which `to_photo` accounts for.
    crop_fraction : float, default 1.0
        Share of that window's sides which is kept, in (0, 1]. The usual "resize to 256, crop 224" is ``224 / 256``.
    fill : float or sequence of 3 floats, default 0.5
        Colour in [0, 1] of bars and behind transparency.
    mode : {'bilinear', 'bicubic', 'nearest'}
        How to interpolate, see `resize`.

    Returns
    -------
    Prepared
        ``tensor`` of shape (1, 3, H, W), float32 in [0, 1] (on the device of a tensor photograph), and ``to_photo``
        of shape (2, 3).

    Raises
    ------
    TypeError
        For an image of another kind, dtype or Pillow mode.
    ValueError
        For floats outside [0, 1], several pictures, or another number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.geometry import transform_points
    >>> found = prepare(np.zeros((100, 300, 3), np.uint8), (50, 50))
    >>> found.tensor.shape
    torch.Size([1, 3, 50, 50])
    >>> transform_points(found.to_photo, [[24.5, 24.5]]).tolist()
    [[149.5, 49.5]]
    """
    check_choice("fit", fit, ("crop", "pad", "stretch"))
    check_choice("mode", mode, _PILLOW)
    height, width = check_size("size", size)
    check_interval("crop_fraction", crop_fraction, 0.0, 1.0, low_open=True)
    colour = _check_colour(fill)
    planes = _as_rgb(photo, colour)
    old_height, old_width = (
        (planes.height, planes.width) if isinstance(planes, PillowImage.Image) else planes.shape[-2:]
    )
    if fit == "crop":
        scale = max(height / old_height, width / old_width)
        window = (height / scale * crop_fraction, width / scale * crop_fraction)
    else:
        window = (old_height * crop_fraction, old_width * crop_fraction)
    content = (height, width)
    if fit == "pad":
        scale = min(height / window[0], width / window[1])
        content = tuple(min(max(round(side * scale), 1), whole) for side, whole in zip(window, content, strict=True))  # type: ignore[assignment]
    top, left = (height - content[0]) // 2, (width - content[1]) // 2
    tensor = _place(_cut(planes, window, content, mode), (height, width), (top, left), colour)
    onto = crop_matrix(((old_width - 1) / 2, (old_height - 1) / 2), window, content)
    return Prepared(tensor, invert(compose(onto, translation_matrix((left, top)))))


def _check_colour(fill: float | Sequence[float]) -> Array:
    values = np.asarray(fill, dtype=np.float32)
    if values.shape not in {(), (3,)} or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"`fill` must be one or three numbers in [0, 1]; got {shown(fill)}")
    return np.broadcast_to(values, (3,))


def _as_rgb(photo: Image, colour: Array) -> PillowImage.Image | Array | Tensor:
    """Return an 8-bit picture as Pillow RGB, anything else as float32 planes (3, H, W)."""
    if isinstance(photo, PillowImage.Image):
        if photo.mode.startswith("I;16"):
            return _as_rgb(np.asarray(photo).astype(np.uint16), colour)
        return _pillow_rgb(photo, colour)
    if not isinstance(photo, np.ndarray) and not is_tensor(photo):
        raise TypeError(f"`photo` must be a Pillow image, an array or a tensor; got {shown(photo)}")
    planes: Any = photo
    tensor = is_tensor(photo)
    if tensor and planes.ndim == 4 and len(planes) == 1:
        planes = planes[0]
    if planes.ndim == 2:
        planes = planes[None]
    elif planes.ndim == 3 and not tensor:
        planes = planes.transpose(2, 0, 1)
    if planes.ndim != 3 or 0 in planes.shape or planes.shape[0] > 4:
        places = "(H, W), (C, H, W) or (1, C, H, W)" if tensor else "(H, W) or (H, W, C)"
        raise ValueError(f"`photo` must have shape {places} with 1 to 4 channels; got {tuple(photo.shape)}")
    kind = str(planes.dtype).removeprefix("torch.")
    if kind == "uint8" and not tensor:
        return _pillow_rgb(_array_to_pillow(planes), colour)
    if kind not in {"uint8", "uint16", "float16", "bfloat16", "float32", "float64"}:
        raise TypeError(f"`photo` must be uint8, uint16 or floating; got dtype {kind}")
    floats = planes.float() if tensor else planes.astype(np.float32)
    if kind.startswith("uint"):
        floats = floats / (255 if kind == "uint8" else 65535)
    elif not ((floats >= 0) & (floats <= 1)).all():
        raise ValueError("`photo` of floats must lie in [0, 1]")
    return cast("Array | Tensor", _flatten(floats, colour))


def _flatten(planes: Any, colour: Array) -> Any:
    """Return 1 to 4 float planes as RGB, transparency over a colour."""
    count = planes.shape[0]
    back: Any = colour[:, None, None]
    if is_tensor(planes):
        import torch

        back = torch.as_tensor(np.array(back)).to(planes)
    ones = back * 0 + 1
    if count in {1, 3}:
        return planes * ones
    alpha = planes[-1:]
    return planes[:-1] * alpha + back * (1 - alpha)


def _array_to_pillow(planes: Array) -> PillowImage.Image:
    """Wrap uint8 planes (C, H, W) as Pillow L, LA, RGB or RGBA."""
    count, height, width = planes.shape
    pixels = np.ascontiguousarray(planes.transpose(1, 2, 0))
    return PillowImage.frombytes(("L", "LA", "RGB", "RGBA")[count - 1], (width, height), pixels.tobytes())


def _pillow_rgb(photo: PillowImage.Image, colour: Array) -> PillowImage.Image:
    """Return an 8-bit Pillow image as RGB, transparency over a colour."""
    if photo.mode in {"I", "F"}:
        raise TypeError(
            f"`photo` has Pillow mode {photo.mode!r}, whose range is unknown; pass an array of floats in [0, 1]"
        )
    if 0 in photo.size:
        raise ValueError(f"`photo` must have at least one pixel; got size {photo.size}")
    if photo.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in photo.info:
        shade = tuple(math.floor(255 * float(part) + 0.5) for part in colour)
        back = PillowImage.new("RGBA", photo.size, (*shade, 255))
        photo = PillowImage.alpha_composite(back, photo.convert("RGBA"))
    return photo.convert("RGB")


def _cut(planes: Any, window: tuple[float, float], size: Size, mode: str) -> Any:
    """Return the middle window (height, width) resized, as float32 planes (3, H, W) in [0, 1]."""
    if isinstance(planes, PillowImage.Image):
        across, down = ((max((whole - part) / 2, 0.0), min((whole + part) / 2, float(whole)))
                        for whole, part in zip(planes.size, window[::-1], strict=True))  # fmt: skip
        cut = planes.resize(size[::-1], _PILLOW[mode], box=(across[0], down[0], across[1], down[1]))
        return np.asarray(cut, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    for axis, whole, part, new in zip((-2, -1), planes.shape[-2:], window, size, strict=True):
        planes = resample(planes, axis, (whole - part) / 2, (whole + part) / 2, new, mode)
    return planes.clip(0, 1)


def _place(content: Any, size: Size, corner: tuple[int, int], colour: Array) -> Tensor:
    """Lay float planes of either kind on a canvas (1, 3, H, W)."""
    import torch

    planes = content if is_tensor(content) else torch.from_numpy(np.ascontiguousarray(content))
    height, width = planes.shape[-2:]
    if (height, width) == size:
        return planes[None].contiguous()
    canvas = torch.as_tensor(np.array(colour)).to(planes)[:, None, None].repeat(1, *size)
    top, left = corner
    canvas[:, top : top + height, left : left + width] = planes
    return canvas[None]


def taps(length: int, start: float, stop: float, count: int, mode: str) -> tuple[Array, Array]:
    """Return the source indices and weights (count, K) that resample the stretch [start, stop) of an axis.

    Edges are meant, not centres: pixel ``i`` covers [i, i + 1). Weights outside the axis are dropped and the rest
    brought to sum 1.
    """
    step = (stop - start) / count
    centers = start + (np.arange(count) + 0.5) * step
    if mode == "nearest":
        index = np.clip(np.floor(centers), 0, length - 1).astype(np.int64)
        return index[:, None], np.ones((count, 1))
    widening = max(step, 1.0)
    support = (1.0 if mode == "bilinear" else 2.0) * widening
    first = np.floor(centers - support)
    index = first[:, None] + np.arange(math.ceil(2 * support) + 1)
    distance = np.abs(index + 0.5 - centers[:, None]) / widening
    weights = _kernel(distance, mode) * ((index >= 0) & (index < length))
    return np.clip(index, 0, length - 1).astype(np.int64), weights / weights.sum(1, keepdims=True)


def _kernel(d: Array, mode: str) -> Array:
    """Return the triangle, or Keys' cubic with a = -0.5, at distances `d` >= 0."""
    if mode == "bilinear":
        return np.maximum(1.0 - d, 0.0)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


def resample(planes: Any, axis: Literal[-2, -1] | int, start: float, stop: float, count: int, mode: str) -> Any:
    """Resample the stretch [start, stop) of one of the last two axes of float planes, array or tensor alike."""
    index, weights = taps(planes.shape[axis], start, stop, count, mode)
    tensor = is_tensor(planes)
    if tensor:
        import torch

        index, weights = torch.from_numpy(index).to(planes.device), torch.from_numpy(weights).to(planes)  # type: ignore[assignment]
    result: Any = 0
    for k in range(index.shape[1]):
        weight = weights[:, k] if axis == -1 else weights[:, k, None]
        part = planes.index_select(axis, index[:, k]) if tensor else np.take(planes, index[:, k], axis)
        result = result + part * (weight if tensor else weight.astype(planes.dtype))
    return result


def _resize_pillow(image: PillowImage.Image, size: Size, mode: Mode) -> PillowImage.Image:
    if image.mode in {"1", "P", "PA"} and mode != "nearest":
        raise TypeError(
            f"`image` has Pillow mode {image.mode!r}, which cannot be interpolated; "
            "convert it to 'L' or 'RGBA', or use mode='nearest'"
        )
    if 0 in image.size:
        raise ValueError(f"`image` must have at least one pixel; got size {image.size}")
    if image.mode.startswith("I;16"):
        return pillow_like(_resize_array(np.asarray(image), size, mode), image)
    return image.resize(size[::-1], _PILLOW[mode])


def _resize_array(image: Array, size: Size, mode: Mode) -> Array:
    if image.ndim not in {2, 3} or 0 in image.shape[:2]:
        raise ValueError(f"`image` must have shape (H, W) or (H, W, C) with at least one pixel; got {image.shape}")
    if image.dtype.kind not in "buif":
        raise TypeError(f"`image` must hold real numbers; got dtype {image.dtype}")
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] != 3:
        # One channel at a time: Pillow would weigh the colours of 2 and 4 channels by alpha.
        channels = [_resize_array(image[:, :, i], size, mode) for i in range(image.shape[2])]
        return np.stack(channels, -1) if channels else np.zeros((*size, 0), np.uint8)
    if image.dtype == np.uint8:
        picture = PillowImage.frombytes(
            "L" if image.ndim == 2 else "RGB", image.shape[1::-1], np.ascontiguousarray(image).tobytes()
        )
        return np.array(picture.resize(size[::-1], _PILLOW[mode]))
    planes = image if image.ndim == 2 else image.transpose(2, 0, 1)
    planes = planes.astype(np.float32 if image.dtype in {np.dtype(np.float16), np.dtype(np.float32)} else np.float64)
    for axis, new in zip((-2, -1), size, strict=True):
        planes = resample(planes, axis, 0, planes.shape[axis], new, mode)
    result = round_like(planes, image.dtype)
    return result if image.ndim == 2 else np.ascontiguousarray(result.transpose(1, 2, 0))


def _resize_tensor(image: Tensor, size: Size, mode: Mode) -> Tensor:
    import torch.nn.functional as F

    if not 2 <= image.ndim <= 4 or 0 in image.shape[-2:]:
        raise ValueError(
            "`image` must have shape (H, W), (C, H, W) or (N, C, H, W) with at least one pixel; "
            f"got {tuple(image.shape)}"
        )
    lead = image.shape[:-2]
    if 0 in lead:
        return image.new_zeros((*lead, *size))
    planes = image.to(working_dtype(image.dtype, image.device)).reshape(1, -1, *image.shape[-2:])
    if mode == "nearest":
        planes = F.interpolate(planes, size, mode="nearest-exact")
    elif size[1] == 1:
        # The antialiased kernel of torch 2.13 scales columns of width 1 wrongly: scale across, then the column as a
        # row.
        planes = F.interpolate(planes, (planes.shape[-2], 1), mode=mode, align_corners=False, antialias=True)
        planes = F.interpolate(planes.mT, (1, size[0]), mode=mode, align_corners=False, antialias=True)
    else:
        planes = F.interpolate(planes, size, mode=mode, align_corners=False, antialias=True)
    return keep_format(round_tensor(planes, image.dtype).reshape(*lead, *size), image)
