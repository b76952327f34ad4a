"""Move the pixels of a picture by an affine map; mirror a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
from PIL import Image as PillowImage

from cvkit._checks import check_choice, check_size, shown
from cvkit.geometry.matrices import compose, invert, is_tensor, resize_matrix, widest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cvkit._types import Array, ArrayLike, ImageT, Size

__all__ = ["flip", "warp"]

Fill: TypeAlias = float | Sequence[float] | Literal["edge"]

_MODES = ("nearest", "bilinear", "bicubic")
_LARGEST_STEP = (
    64  # samples per output pixel and axis; a map that shrinks further is a mistake or hardly shows anything
)


def warp(
    image: ImageT,
    matrix: ArrayLike,
    size: Size,
    *,
    mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    fill: Fill = 0.0,
    antialias: bool = False,
) -> ImageT:
    """Move a picture by an affine map: the pixel at ``p`` goes to ``transform_points(matrix, p)``.

    Every output pixel is sampled at its place in the source. Channels are treated independently; where transparent
    pixels carry a colour, premultiply first.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (N, C, H, W)
        Any dtype and range. Pillow's palette and 1-bit images are refused.
    matrix : ndarray or Tensor of shape (2, 3) or (N, 2, 3)
        From source to output places, ``(x, y)`` with pixel centres at integers. N maps need a tensor image with
        channels, and give a batch; an array serves tensors too.
    size : (int, int)
        Height and width of the output.
    mode : {'bilinear', 'nearest', 'bicubic'}
        How to interpolate. Bicubic is Keys' kernel with a = -0.75, the usual one for warping, and may overshoot floats.
    fill : float, sequence of C floats, or 'edge', default 0.0
        What lies outside the source, in the image's own units; pixels at the border blend with it. ``'edge'`` repeats
        the border.
    antialias : bool, default False
        Average over each output pixel's footprint where the map shrinks, by several samples an axis. On a GPU this
        waits for the device once.

    Returns
    -------
    same kind as `image`
        Of `size`, with the image's dtype, device and memory format; integers are rounded half up. For tensors
        differentiable with respect to image and matrix.

    Raises
    ------
    TypeError
        For an image of another kind, or an array image with a tensor matrix.
    ValueError
        For shapes that do not fit, or a matrix that cannot be inverted.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.geometry import translation_matrix
    >>> dot = np.zeros((3, 4), np.uint8)
    >>> dot[1, 1] = 9
    >>> warp(dot, translation_matrix((2, 1)), (3, 4))
    array([[0, 0, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 9]], dtype=uint8)
    """
    check_choice("mode", mode, _MODES)
    size = check_size("size", size)
    result: Any
    if is_tensor(image):
        result = _warp_tensor(cast("Tensor", image), matrix, size, mode, fill, antialias)
    elif is_tensor(matrix):
        raise TypeError("`matrix` must be an array unless `image` is a tensor")
    elif isinstance(image, PillowImage.Image):
        if image.mode in {"1", "P", "PA"}:
            raise TypeError(
                f"`image` has Pillow mode {image.mode!r}, which cannot be interpolated; convert it to 'L' or 'RGBA'"
            )
        result = pillow_like(_warp_array(np.asarray(image), np.asarray(matrix), size, mode, fill, antialias), image)
    elif isinstance(image, np.ndarray):
        result = _warp_array(image, np.asarray(matrix), size, mode, fill, antialias)
    else:
        raise TypeError(f"`image` must be a Pillow image, an array or a tensor; got {shown(image)}")
    return cast("ImageT", result)


def flip(image: ImageT) -> ImageT:
    """Mirror a picture left and right.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (H, W), (C, H, W) or (N, C, H, W)
        Any dtype and mode.

    Returns
    -------
    same kind as `image`
        A new picture. The points that go with it come from `flip_points`.

    Examples
    --------
    >>> import numpy as np
    >>> flip(np.array([[1, 2, 3]]))
    array([[3, 2, 1]])
    """
    result: Any
    if is_tensor(image):
        tensor = cast("Tensor", image)
        if not 2 <= tensor.ndim <= 4:
            raise ValueError(f"`image` must have shape (H, W), (C, H, W) or (N, C, H, W); got {tuple(tensor.shape)}")
        result = keep_format(tensor.flip(-1), tensor)
    elif isinstance(image, PillowImage.Image):
        result = image.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT)
    elif isinstance(image, np.ndarray):
        if image.ndim not in {2, 3}:
            raise ValueError(f"`image` must have shape (H, W) or (H, W, C); got {image.shape}")
        result = np.ascontiguousarray(image[:, ::-1])
    else:
        raise TypeError(f"`image` must be a Pillow image, an array or a tensor; got {shown(image)}")
    return cast("ImageT", result)


def round_like(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return floats as `dtype`: integers rounded half up and clipped to its range."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    if dtype.kind == "b":
        return cast("Array", values >= 0.5)
    info = np.iinfo(dtype)
    # The upper end of 64-bit integers is no float; the largest float below it is.
    high = info.max - 2047 if info.bits == 64 else info.max
    return np.clip(np.floor(values + 0.5), info.min, high).astype(dtype)


def pillow_like(array: Array, like: PillowImage.Image) -> PillowImage.Image:
    """Wrap an array as a Pillow image of the same mode, colour profile and other information as `like`."""
    height, width = array.shape[:2]
    made = PillowImage.frombytes(like.mode, (width, height), np.ascontiguousarray(array).tobytes())
    made.info = dict(like.info)
    return made


def keep_format(result: Tensor, like: Tensor) -> Tensor:
    """Return `result` in the memory format of `like`."""
    import torch

    last = (
        like.ndim == result.ndim == 4
        and like.is_contiguous(memory_format=torch.channels_last)
        and not like.is_contiguous()
    )
    return result.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _steps(inverse: Any) -> tuple[int, int]:
    """Return how many samples down and across an output pixel's footprint needs."""
    step = [
        float((inverse[..., 0, i] ** 2 + inverse[..., 1, i] ** 2).max()) ** 0.5 if min(inverse.shape) else 1.0
        for i in (0, 1)
    ]
    across, down = (min(max(math.ceil(s - 1e-6), 1), _LARGEST_STEP) for s in step)
    return down, across


def _check_fill(fill: Fill, channels: int) -> Array | None:
    """Return a value for each channel, or None for the border's own."""
    if isinstance(fill, str):
        check_choice("fill", fill, ("edge",))
        return None
    try:
        values = np.asarray(fill, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`fill` must be a number, one for each channel, or 'edge'; got {shown(fill)}") from None
    if not np.all(np.isfinite(values)):
        raise ValueError(f"`fill` must be finite; got {shown(fill)}")
    if values.shape not in {(), (channels,)}:
        raise ValueError(f"`fill` must be one number or one for each of the {channels} channels; got {shown(fill)}")
    return np.broadcast_to(values, (channels,))


def _warp_array(image: Array, matrix: Array, size: Size, mode: str, fill: Fill, antialias: bool) -> Array:
    if image.ndim not in {2, 3} or 0 in image.shape[:2]:
        raise ValueError(f"`image` must have shape (H, W) or (H, W, C) with at least one pixel; got {image.shape}")
    if image.dtype.kind not in "buif":
        raise TypeError(f"`image` must hold real numbers; got dtype {image.dtype}")
    if matrix.shape != (2, 3):
        raise ValueError(f"`matrix` must have shape (2, 3) for an array or Pillow image; got {matrix.shape}")
    planes = image if image.ndim == 3 else image[:, :, None]
    outside = _check_fill(fill, planes.shape[2])
    kind = np.float32 if image.dtype in {np.dtype(np.float16), np.dtype(np.float32)} else np.float64
    down, across = _steps(invert(matrix)) if antialias else (1, 1)
    fine = (size[0] * down, size[1] * across)
    sampled = _sample_array(
        planes.astype(kind), invert(compose(matrix, resize_matrix(size, fine))), fine, mode, outside
    )
    if antialias:
        sampled = sampled.reshape(size[0], down, size[1], across, -1).mean((1, 3))
    result = round_like(sampled, image.dtype)
    return result if image.ndim == 3 else result[:, :, 0]


def _taps(place: Array, mode: str) -> tuple[Array, list[Array]]:
    """Return the first source index of each place (float64) and the weights of that index and the following ones."""
    if mode == "nearest":
        return np.floor(place + 0.5).astype(np.int64), [np.ones_like(place)]
    base = np.floor(place)
    t = place - base
    if mode == "bilinear":
        return base.astype(np.int64), [1.0 - t, t]
    # Keys (1981), Eq. (4) with a = -0.75, at the distances 1 + t, t, 1 - t, 2 - t.
    a = -0.75
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (1 + t, 2 - t)]
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    return base.astype(np.int64) - 1, [far[0], near[0], near[1], far[1]]


def _sample_array(image: Array, inverse: Array, size: Size, mode: str, fill: Array | None) -> Array:
    """Sample (H, W, C) floats at the places ``inverse (x, y, 1)`` of every output pixel."""
    height, width = image.shape[:2]
    rows, columns = np.arange(size[0], dtype=np.float64)[:, None], np.arange(size[1], dtype=np.float64)
    limit = 2.0**40  # far outside any picture, and still a whole number in int64
    x, y = (np.clip(a * columns + b * rows + c, -limit, limit) for a, b, c in inverse)
    left, across = _taps(x, mode)
    top, down = _taps(y, mode)
    result = np.zeros((*size, image.shape[2]), image.dtype)
    outside = image.dtype.type(0) if fill is None else fill.astype(image.dtype)
    for i, weight_y in enumerate(down):
        row = top + i
        for j, weight_x in enumerate(across):
            column = left + j
            weight = weight_y * weight_x
            # A pixel of weight 0 must not spread its NaN.
            used = weight != 0
            if fill is not None:
                used = used & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixels = image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
            result += weight[:, :, None].astype(image.dtype) * np.where(used[:, :, None], pixels, outside)
    return result


def _warp_tensor(image: Tensor, matrix: ArrayLike, size: Size, mode: str, fill: Fill, antialias: bool) -> Tensor:
    import torch

    if not 2 <= image.ndim <= 4 or 0 in image.shape[-2:]:
        raise ValueError(
            "`image` must have shape (H, W), (C, H, W) or (N, C, H, W) with at least one pixel; "
            f"got {tuple(image.shape)}"
        )
    wide = widest(image.device)
    if not isinstance(matrix, torch.Tensor):
        invert(np.asarray(matrix))  # raises where an array cannot be inverted
        matrix = torch.as_tensor(np.array(matrix, dtype=np.float64)).to(image.device, wide)
    elif matrix.device != image.device:
        raise ValueError(f"`matrix` and `image` must be on one device; got {matrix.device} and {image.device}")
    if tuple(matrix.shape[-2:]) != (2, 3) or matrix.ndim > 3 or (matrix.ndim == 3 and image.ndim == 2):
        raise ValueError(
            "`matrix` must have shape (2, 3), or (N, 2, 3) for images with channels; "
            f"got {tuple(matrix.shape)} and `image` of shape {tuple(image.shape)}"
        )
    maps = matrix.to(wide).reshape(-1, 2, 3)
    planes = image[None, None] if image.ndim == 2 else image[None] if image.ndim == 3 else image
    if len(maps) != len(planes) and 1 not in {len(maps), len(planes)}:
        raise ValueError(f"`matrix` must be one map or one for each of {len(planes)} images; got {len(maps)}")
    outside = _check_fill(fill, planes.shape[1])
    down, across = _steps(invert(maps.detach())) if antialias else (1, 1)
    fine = (size[0] * down, size[1] * across)
    refine = torch.as_tensor(resize_matrix(size, fine)).to(maps)
    sampled = _sample_tensor(planes, invert(compose(maps, refine)), fine, mode, outside)
    if antialias:
        sampled = sampled.reshape(*sampled.shape[:2], size[0], down, size[1], across).mean((3, 5))
    result = round_tensor(sampled, image.dtype)
    if image.ndim == 4 or matrix.ndim == 3:
        return keep_format(result, image)
    return result[0] if image.ndim == 3 else result[0, 0]


def working_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the floating dtype in which pictures of `dtype` are worked on."""
    import torch

    if dtype in {torch.float32, torch.float64}:
        return dtype
    small = {torch.uint8, torch.int8, torch.uint16, torch.int16, torch.bool, torch.float16, torch.bfloat16}
    return torch.float32 if dtype in small else widest(device)


def round_tensor(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return floats as `dtype`: integers rounded half up and clipped to its range."""
    import torch

    if dtype.is_floating_point:
        return values.to(dtype)
    if dtype == torch.bool:
        return values >= 0.5
    info = torch.iinfo(dtype)
    high = info.max - 2047 if info.bits == 64 else info.max
    return (values + 0.5).floor().clamp(info.min, high).to(dtype)


def _sample_tensor(planes: Tensor, inverse: Tensor, size: Size, mode: str, fill: Array | None) -> Tensor:
    """Sample (N, C, H, W) at the places ``inverse (x, y, 1)`` of every output pixel; N maps or one, N images or one."""
    import torch
    import torch.nn.functional as F

    kind = working_dtype(planes.dtype, planes.device)
    height, width = planes.shape[-2:]
    batch = min(len(planes), len(inverse)) and max(len(planes), len(inverse))
    if batch == 0 or planes.shape[1] == 0:
        return planes.new_zeros((batch, planes.shape[1], *size), dtype=kind)
    rows = torch.arange(size[0], dtype=inverse.dtype, device=inverse.device)[:, None]
    columns = torch.arange(size[1], dtype=inverse.dtype, device=inverse.device)
    x, y = (a * columns + b * rows + c for a, b, c in (row[..., None, None].unbind(1) for row in inverse.unbind(1)))
    # Places in float64 first: only the small difference to the final grid's dtype is lost.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1).to(kind).expand(batch, -1, -1, -1)
    padding = "border" if fill is None else "zeros"
    floats = planes.to(kind).expand(batch, -1, -1, -1)
    sampled = F.grid_sample(floats, grid, mode, padding, align_corners=False)
    if fill is not None and fill.any():
        covered = F.grid_sample(torch.ones_like(floats[:, :1]), grid, mode, padding, align_corners=False)
        sampled = sampled + (1 - covered) * torch.as_tensor(np.array(fill)).to(sampled)[:, None, None]
    return sampled
