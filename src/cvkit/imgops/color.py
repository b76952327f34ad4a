"""Colour: the sRGB curve and linear light, luma, CIELAB and OKLab.

The curve is IEC 61966-2-1's, CIELAB that of CIE 15 with the white of sRGB (D65, 2 degrees), OKLab as published in [1]_.
The matrices of CIELAB follow from the primaries, so that white has no colour to the last digit.

References
----------
.. [1] B. Ottosson, "A perceptual color space for image processing", 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cvkit._checks import check_choice
from cvkit.imgops._kinds import from_numpy, quantize, unpack, working
from cvkit.imgops._pixels import namespace, pack_channels, scaled, unscaled
from cvkit.imgops._spaces import (
    LUMA,
    decode,
    encode,
    lab_from_rgb,
    oklab_from_rgb,
    rgb_from_lab,
    rgb_from_oklab,
    weighted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Image, ImageT

__all__ = [
    "lab_to_rgb",
    "linear_to_srgb",
    "luma",
    "oklab_to_rgb",
    "rgb_to_lab",
    "rgb_to_oklab",
    "srgb_to_linear",
]


def srgb_to_linear(
    image: ImageT,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Decode the sRGB curve: from stored values to linear light.

    Parameters
    ----------
    image : Image
        Pillow image, array ``(H, W)`` or ``(H, W, C)``, or tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha, which has no curve and is left alone; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].

    Returns
    -------
    Image
        The same kind, dtype and range. Eight bits are too few for linear light: dark levels fall together. Use 16
        bit or floats for what is to be encoded again. Floats are not clipped.

    Raises
    ------
    TypeError
        If the image is of no kind that holds plain colours.
    ValueError
        If its shape, axis or range do not fit.

    See Also
    --------
    linear_to_srgb : The way back.

    References
    ----------
    IEC 61966-2-1: v / 12.92 up to 0.04045, else ((v + 0.055) / 1.055) ** 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import srgb_to_linear
    >>> srgb_to_linear(np.array([[0.0, 0.5, 1.0]])).round(4)
    array([[0.    , 0.214, 1.    ]])
    """
    return _curve(image, decode, channel_axis, alpha, data_range)


def linear_to_srgb(
    image: ImageT,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Encode linear light by the sRGB curve.

    Parameters
    ----------
    image : Image
        Pillow image, array ``(H, W)`` or ``(H, W, C)``, or tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha, which has no curve and is left alone; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].

    Returns
    -------
    Image
        The same kind, dtype and range. Floats are not clipped.

    Raises
    ------
    TypeError
        If the image is of no kind that holds plain colours.
    ValueError
        If its shape, axis or range do not fit.

    See Also
    --------
    srgb_to_linear : The way there.

    References
    ----------
    IEC 61966-2-1: 12.92 l up to 0.0031308, else 1.055 l ** (1 / 2.4) - 0.055.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import linear_to_srgb
    >>> linear_to_srgb(np.array([[0.0, 0.5, 1.0]])).round(4)
    array([[0.    , 0.7354, 1.    ]])
    """
    return _curve(image, encode, channel_axis, alpha, data_range)


def luma(
    image: ImageT,
    *,
    weights: Literal["601", "709"] = "601",
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Return the weighted mean of red, green and blue, as stored: a grey picture.

    Parameters
    ----------
    image : Image
        Pillow image, array or tensor with three colour channels; one with a single colour channel is its own luma.
    weights : {'601', '709'}, default '601'
        Weights of Rec. 601 (0.299, 0.587, 0.114) or Rec. 709 (0.2126, 0.7152, 0.0722).
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].

    Returns
    -------
    Image
        The same kind and dtype with one colour channel: Pillow L, array ``(H, W)``, tensor ``(1, H, W)`` or ``(N,
        1, H, W)``; with alpha LA, ``(H, W, 2)``, ``(2, H, W)`` or ``(N, 2, H, W)``. Integers are rounded half up.

    Raises
    ------
    ValueError
        If there are neither one nor three colour channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import luma
    >>> luma(np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8))
    array([[76, 29]], dtype=uint8)
    """
    check_choice("weights", weights, LUMA)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if opened.colors not in {1, 3}:
        raise ValueError(f"`image` must have one or three colour channels; got {opened.colors}")
    gray = weighted(opened.color, LUMA[weights]) if opened.colors == 3 else opened.color
    if opened.integer:
        # The exact sums are multiples of 1e-4, so a hair above half is certain to be half.
        gray = quantize(np.asarray(gray, np.float64) + 1e-9, opened.low, opened.high, opened.dtype)
    if opened.alpha:
        xp = namespace(opened.pixels)
        gray = xp.concatenate([gray, opened.pixels[:, -1:]], 1)
    return pack_channels(opened, gray)  # type: ignore[return-value]


def rgb_to_lab(
    image: Image, *, channel_axis: int | None = None, data_range: Sequence[float] | None = None
) -> ArrayLike:
    """Convert an sRGB picture to CIELAB.

    Parameters
    ----------
    image : Image
        Picture with three colour channels and no alpha.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].

    Returns
    -------
    ndarray or Tensor
        Lightness in [0, 100] and the two colour axes, in the layout of the image (Pillow: ``(H, W, 3)``); floats
        keep their dtype, integers become float32. Differentiable for floating-point tensors.

    Raises
    ------
    ValueError
        If there are not exactly three channels.

    References
    ----------
    CIE 15:2004, section 8.2.1, with the white of sRGB.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import rgb_to_lab
    >>> rgb_to_lab(np.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])).round(1) + 0.0
    array([[[100. ,   0. ,   0. ],
            [ 53.2,  80.1,  67.2]]])
    """
    return _to_space(image, lab_from_rgb, channel_axis, data_range)


def lab_to_rgb(lab: ArrayLike, *, channel_axis: int | None = None, clip: bool = True) -> ArrayLike:
    """Convert CIELAB to sRGB.

    Parameters
    ----------
    lab : ndarray of shape (H, W, 3) or Tensor of shape (3, H, W) or (N, 3, H, W)
        Floating-point CIELAB values as `rgb_to_lab` gives them.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    clip : bool, default True
        Clip colours that sRGB does not hold to [0, 1].

    Returns
    -------
    ndarray or Tensor
        sRGB values of the same shape and dtype.

    Raises
    ------
    TypeError
        If the values are not floating point.
    ValueError
        If there are not exactly three channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import lab_to_rgb
    >>> lab_to_rgb(np.array([[[53.2408, 80.0925, 67.2032]]])).round(3) + 0.0
    array([[[1., 0., 0.]]])
    """
    return _from_space(lab, rgb_from_lab, "lab", channel_axis, clip)


def rgb_to_oklab(
    image: Image, *, channel_axis: int | None = None, data_range: Sequence[float] | None = None
) -> ArrayLike:
    """Convert an sRGB picture to OKLab.

    Parameters
    ----------
    image : Image
        Picture with three colour channels and no alpha.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].

    Returns
    -------
    ndarray or Tensor
        Lightness in [0, 1] and the two colour axes, in the layout of the image (Pillow: ``(H, W, 3)``); floats keep
        their dtype, integers become float32. Differentiable for floating-point tensors.

    Raises
    ------
    ValueError
        If there are not exactly three channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import rgb_to_oklab
    >>> rgb_to_oklab(np.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])).round(3) + 0.0
    array([[[1.   , 0.   , 0.   ],
            [0.628, 0.225, 0.126]]])
    """
    return _to_space(image, oklab_from_rgb, channel_axis, data_range)


def oklab_to_rgb(oklab: ArrayLike, *, channel_axis: int | None = None, clip: bool = True) -> ArrayLike:
    """Convert OKLab to sRGB.

    Parameters
    ----------
    oklab : ndarray of shape (H, W, 3) or Tensor of shape (3, H, W) or (N, 3, H, W)
        Floating-point OKLab values as `rgb_to_oklab` gives them.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    clip : bool, default True
        Clip colours that sRGB does not hold to [0, 1].

    Returns
    -------
    ndarray or Tensor
        sRGB values of the same shape and dtype.

    Raises
    ------
    TypeError
        If the values are not floating point.
    ValueError
        If there are not exactly three channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import oklab_to_rgb
    >>> oklab_to_rgb(np.array([[[1.0, 0.0, 0.0]]])).round(3)
    array([[[1., 1., 1.]]])
    """
    return _from_space(oklab, rgb_from_oklab, "oklab", channel_axis, clip)


def _curve(
    image: ImageT,
    curve: Any,
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
) -> ImageT:
    """Send the colours of an image through a curve on [0, 1]; 8 and 16 bit go through a table."""
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    color: Any = opened.color
    if opened.dtype in {"uint8", "uint16"} and color.size > 65536:
        levels = np.arange(np.iinfo(opened.dtype).max + 1)
        table = unscaled(opened, curve(np.clip(scaled(opened, levels), 0.0, 1.0)))
        result = table[color]
    elif opened.integer:
        result = unscaled(opened, curve(np.clip(scaled(opened, color), 0.0, 1.0)))
    else:
        result = unscaled(opened, curve(scaled(opened, color)))
    return opened.pack_color(result)  # type: ignore[return-value]


def _to_space(image: Image, convert: Any, channel_axis: int | None, data_range: Sequence[float] | None) -> ArrayLike:
    opened = unpack(image, channel_axis=channel_axis, alpha=False, data_range=data_range)
    if opened.colors != 3:
        raise ValueError(f"`image` must have three channels, red, green and blue; got {opened.colors}")
    result = convert(scaled(opened, opened.pixels))
    if not opened.integer:
        return opened.pack(result)  # type: ignore[return-value]
    planes = np.moveaxis(result, 1, opened.axis or -1).astype(np.float32)
    if opened.kind != "tensor":
        return np.ascontiguousarray(planes[0])
    source: Any = opened.source
    tensor = from_numpy(np.ascontiguousarray(planes if source.ndim == 4 else planes[0]))
    return tensor.to(source.device)


def _from_space(values: ArrayLike, convert: Any, name: str, channel_axis: int | None, clip: bool) -> ArrayLike:
    opened = unpack(values, channel_axis=channel_axis, alpha=False, name=name, data_range=None, needs_range=False)
    if opened.integer or opened.kind == "pillow":
        raise TypeError(f"`{name}` must be a floating-point array or tensor; got {opened.dtype}")
    if opened.colors != 3:
        raise ValueError(f"`{name}` must have three channels; got {opened.colors}")
    result = convert(working(opened.pixels))
    return opened.pack(namespace(result).clip(result, 0.0, 1.0) if clip else result)  # type: ignore[return-value]
