"""Smoothing, resizing and soft masks. Pictures with alpha go through premultiplied colours, so no fringe appears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from PIL import Image as PILModule

from cvkit._checks import check_choice, check_interval, check_size, shown
from cvkit.geometry import resize as resize_opaque
from cvkit.geometry.resizing import resample
from cvkit.imgops._kernels.bands import along_columns, along_rows, smooth_plan
from cvkit.imgops._kinds import Unpacked, is_tensor, quantize, unpack, working
from cvkit.imgops._pixels import Values, namespace, pack_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvkit._types import Array, Image, ImageT, Size

__all__ = ["feather", "gaussian_blur", "resize"]

WIDE = frozenset({"uint16", "int16", "int32", "float64"})  # dtypes that need float64 on the way


def gaussian_blur(
    image: ImageT,
    sigma: float | tuple[float, float],
    *,
    truncate: float = 4.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Smooth a picture by a Gaussian.

    Parameters
    ----------
    image : Image
        Pillow image, array ``(H, W)`` or ``(H, W, C)``, or tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``.
    sigma : float or tuple of two floats
        Standard deviation in pixels, at least 0; two are those along rows' axis (vertical) and columns' axis
        (horizontal).
    truncate : float, default 4.0
        Where the Gaussian ends, in standard deviations; its weights sum to 1.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        The same kind, dtype and size. The picture is mirrored at the centres of its outermost pixels. Colours are
        weighted by alpha. 8-bit pictures are computed in float32 and rounded half up, 16-bit ones in float64.

    Raises
    ------
    ValueError
        If `sigma` or `truncate` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import gaussian_blur
    >>> image = np.zeros((1, 5), dtype=np.uint8)
    >>> image[0, 2] = 255
    >>> gaussian_blur(image, 0.5).tolist()
    [[0, 27, 201, 27, 0]]
    """
    vertical, horizontal = _sigmas(sigma)
    truncate = check_interval("truncate", truncate, 0.0, 100.0, low_open=True)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, needs_range=False)
    if opened.dtype == "uint8" and not opened.alpha and min(opened.size) > 0 and min(vertical, horizontal) > 0.0:
        return opened.pack(_smooth_bytes(opened, vertical, horizontal, truncate))  # type: ignore[return-value]
    return _filtered(opened, lambda planes: smoothed(planes, vertical, horizontal, truncate))  # type: ignore[return-value]


def resize(
    image: ImageT,
    size: Size,
    *,
    mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Resize a picture, antialiased where it shrinks, colours weighted by alpha.

    Parameters
    ----------
    image : Image
        Pillow image, array ``(H, W)`` or ``(H, W, C)``, or tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``.
    size : tuple of two ints
        New height and width.
    mode : {'bilinear', 'nearest', 'bicubic'}
        Kernel, as in `cvkit.geometry.resize`, which this is for pictures without alpha.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        The same kind, dtype and range. What is wholly transparent has the colour 0.

    Raises
    ------
    ValueError
        If the picture has no pixel or the size is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import resize
    >>> edge = np.array([[[200, 255], [0, 0]]], dtype=np.uint8)  # light and opaque beside black and transparent
    >>> resize(edge, (1, 1)).tolist()
    [[[200, 128]]]
    """
    check_choice("mode", mode, ("nearest", "bilinear", "bicubic"))
    height, width = check_size("size", size)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, needs_range=False)
    if not opened.alpha and opened.kind == "pillow":
        return resize_opaque(image, (height, width), mode=mode)
    if 0 in opened.size:
        raise ValueError(f"`image` must have at least one pixel; got size {opened.size}")

    def resampled(planes: Values) -> Values:
        for axis, count in ((-2, height), (-1, width)):
            planes = resample(planes, axis, 0, planes.shape[axis], count, mode)
        return planes

    return _filtered(opened, resampled)  # type: ignore[return-value]


def feather(mask: ImageT, radius: float, *, inside: bool = False) -> ImageT:
    """Soften the edge of a mask.

    Parameters
    ----------
    mask : Image
        Pillow image of mode 1, L, I;16 or F, array ``(H, W)`` or tensor ``(H, W)``, ``(1, H, W)`` or ``(N, 1, H, W)``.
    radius : float
        About how far the edge spreads to either side, in pixels: twice the standard deviation of the Gaussian that
        smooths it.
    inside : bool, default False
        Let the mask fade inwards only, so that it stays 0 where it was 0.

    Returns
    -------
    Image
        The same kind and dtype; masks of bool become float32 in [0, 1], Pillow's mode 1 becomes L.

    Raises
    ------
    TypeError
        If a Pillow image is of another mode.
    ValueError
        If the mask has several channels or `radius` lies outside [0, 20000].

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import feather
    >>> feather(np.array([[0, 0, 0, 255, 255, 255]], dtype=np.uint8), 2.0).tolist()
    [[2, 15, 77, 178, 240, 253]]
    """
    radius = check_interval("radius", radius, 0.0, 2e4)
    if isinstance(mask, PILModule.Image) and mask.mode == "I":
        raise TypeError("`mask` must be of mode 1, L, I;16 or F, got 'I'; use `mask.convert('L')`")
    # Floats lie in [0, 1], as everywhere in masks.
    limits = (0.0, 1.0) if isinstance(mask, PILModule.Image) and mask.mode == "F" else None
    opened = unpack(mask, alpha=False, data_range=limits, name="mask")
    if opened.colors != 1:
        raise ValueError(f"`mask` must have one channel; got {opened.colors}")
    if opened.dtype == "bool":
        opened = unpack(_as_weights(opened), alpha=False, name="mask")

    def softened(planes: Values) -> Values:
        soft = smoothed(planes, radius / 2.0, radius / 2.0, 4.0)
        if not inside:
            return soft
        xp, low, high = namespace(soft), opened.low, opened.high
        # Outside a straight edge the smoothed mask is at most half: the upper half, stretched, ends at the edge.
        return xp.minimum(xp.clip(2.0 * soft - high, low, high), planes)

    return _filtered(opened, softened)  # type: ignore[return-value]


def smoothed(planes: Values, vertical: float, horizontal: float, truncate: float = 4.0) -> Values:
    """Return float planes (..., H, W) smoothed along both axes."""
    height, width = planes.shape[-2:]
    if height and vertical > 0.0:
        planes = along_columns(planes, smooth_plan(vertical, truncate, height))
    if width and horizontal > 0.0:
        planes = along_rows(planes, smooth_plan(horizontal, truncate, width))
    return planes


def _smooth_bytes(opened: Unpacked, vertical: float, horizontal: float, truncate: float) -> Array:
    """Return 8-bit pixels (N, C, H, W) smoothed, a strip of rows at a time, so that floats stay in the cache."""
    pixels: Any = opened.pixels
    count, channels, height, width = pixels.shape
    down, across = smooth_plan(vertical, truncate, height), smooth_plan(horizontal, truncate, width)
    upright, level = (np.ascontiguousarray(m, np.float32) for m in (down.matrix.T, across.matrix))
    rows = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).reshape(count, height, width * channels)
    out = np.empty((count, height, width, channels), np.uint8)
    taps, block = level.shape
    radius = (taps - block) // 2
    blocks = -(-width // block)
    padded = np.empty((channels, len(upright), len(across.index)), np.float32)
    inner = padded[..., radius : radius + width]
    # All blocks of columns as one batch of products: (blocks, channels * rows, taps), overlapping.
    windows = np.lib.stride_tricks.sliding_window_view(padded.reshape(-1, padded.shape[-1]), taps, 1)
    windows = windows[:, ::block][:, :blocks].transpose(1, 0, 2)
    for n in range(count):
        for top in range(0, height, down.stride):
            index = down.index[top : top + len(down.matrix)]
            strip = upright @ rows[n, index].astype(np.float32)
            inner[...] = strip.reshape(-1, width, channels).transpose(2, 0, 1)
            padded[..., :radius] = inner[..., across.index[:radius]]
            padded[..., radius + width :] = inner[..., across.index[radius + width :]]
            smooth = windows @ level
            smooth += 0.5  # the weights sum to 1, so nothing leaves [0, 255.5)
            # A block's row is one item of so many bytes: turning these round is cheap, single bytes are not.
            items = smooth.astype(np.uint8).view(f"V{block}").reshape(blocks, channels, len(upright))
            planes = np.ascontiguousarray(items.transpose(1, 2, 0)).view(np.uint8)
            part = out[n, top : top + down.stride]
            for c in range(channels):
                part[..., c] = planes[c, : len(part), :width]
    return out.transpose(0, 3, 1, 2)


def to_planes(opened: Unpacked) -> Values:
    """Return the pixels as float planes in memory, unscaled, colours premultiplied by alpha in [0, 1]."""
    pixels: Any = opened.pixels
    if is_tensor(pixels):
        planes: Values = working(pixels)
    else:
        planes = np.ascontiguousarray(pixels, np.float64 if opened.dtype in WIDE else np.float32)
    if not opened.alpha:
        return planes
    alpha = _unit_alpha(opened, planes)
    return namespace(planes).concatenate([(planes[:, : opened.colors] - opened.low) * alpha, alpha], 1)


def from_planes(opened: Unpacked, planes: Values) -> Values:
    """Return float planes as pixels of the picture: straight colours, rounded half up for integers."""
    if opened.alpha:
        xp = namespace(planes)
        alpha = xp.clip(planes[:, -1:], 0.0, 1.0)
        seen = alpha > 1e-6
        color = xp.where(seen, planes[:, :-1] / xp.where(seen, alpha, 1.0), 0.0) + opened.low
        planes = xp.concatenate([color, alpha * (opened.high - opened.low) + opened.low], 1)
    if opened.integer:
        return quantize(planes, opened.low, opened.high, opened.dtype)
    return planes


def _filtered(opened: Unpacked, function: Callable[[Values], Values]) -> Image:
    """Return the picture with its planes sent through a linear filter."""
    result = from_planes(opened, function(to_planes(opened)))
    pixels: Any = opened.pixels
    return opened.pack(result) if result.shape[1] == pixels.shape[1] else pack_channels(opened, result)


def _unit_alpha(opened: Unpacked, planes: Values) -> Values:
    return (planes[:, -1:] - opened.low) / (opened.high - opened.low)


def _as_weights(opened: Unpacked) -> Image:
    """Return a boolean mask as one of weights: float32, or Pillow L."""
    source: Any = opened.source
    if opened.kind == "pillow":
        return cast("Image", source.convert("L"))
    return source.float() if is_tensor(source) else cast("Image", source.astype(np.float32))


def _sigmas(sigma: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(sigma, tuple | list):
        if len(sigma) != 2:
            raise ValueError(f"`sigma` must be one number or two (vertical, horizontal); got {shown(sigma)}")
        return check_interval("sigma[0]", sigma[0], 0.0, 1e4), check_interval("sigma[1]", sigma[1], 0.0, 1e4)
    value = check_interval("sigma", sigma, 0.0, 1e4)
    return value, value
