"""Compositing: one picture on another by the blend modes and operators of W3C Compositing and Blending Level 1 [1]_.

References
----------
.. [1] W3C, "Compositing and Blending Level 1".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit.imgops._kernels.blending import over_pillow
from cvkit.imgops._kinds import Unpacked, unpack, unpack_mask
from cvkit.imgops._merge import Rule, Window, merge_images, place
from cvkit.imgops.modes import MODES, NON_SEPARABLE, OPERATORS, Mode, Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Image, ImageT
    from cvkit.imgops._pixels import Values

__all__ = ["composite"]


def composite(
    source: Image,
    backdrop: ImageT,
    *,
    mode: Mode = "normal",
    operator: Operator = "source-over",
    opacity: float = 1.0,
    mask: Image | None = None,
    offset: tuple[int, int] = (0, 0),
    premultiplied: bool = False,
    space: Literal["srgb", "linear"] = "srgb",
    method: Literal["exact", "pillow"] = "exact",
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    r"""Put a picture on a backdrop.

    With colours :math:`C`, alphas :math:`\alpha`, the blend mode :math:`B` and the operator's shares :math:`F`,

    .. math::

       C_s' &= (1 - \alpha_b)\, C_s + \alpha_b\, B(C_b, C_s) \\
       \alpha_o &= \alpha_s F_a + \alpha_b F_b \\
       C_o &= (\alpha_s F_a C_s' + \alpha_b F_b C_b) / \alpha_o

    where :math:`\alpha_s` is the source's alpha times `opacity` times `mask`, 0 beside the source.

    Parameters
    ----------
    source : Image
        Pillow image, array or tensor of the backdrop's kind and dtype. It has the backdrop's colours or a single
        grey one, with alpha or without, and any size; a single picture serves a whole batch.
    backdrop : Image
        What the source is put on.
    mode : str, default 'normal'
        How the colours mix, one of `MODES`: ``'normal'``, ``'multiply'``, ``'screen'``, ``'overlay'``, ``'darken'``,
        ``'lighten'``, ``'color-dodge'``, ``'color-burn'``, ``'hard-light'``, ``'soft-light'``, ``'difference'``,
        ``'exclusion'``, ``'hue'``, ``'saturation'``, ``'color'``, ``'luminosity'``. The last four need one or three
        colour channels.
    operator : str, default 'source-over'
        Which parts of the two remain, one of `OPERATORS`: ``'source-over'``, ``'clear'``, ``'copy'``,
        ``'destination'``, ``'destination-over'``, ``'source-in'``, ``'destination-in'``, ``'source-out'``,
        ``'destination-out'``, ``'source-atop'``, ``'destination-atop'``, ``'xor'``, ``'lighter'``. It acts on the
        whole backdrop: beside the source, where its alpha counts as 0, ``'copy'`` or ``'source-in'`` leave nothing.
    opacity : float, default 1.0
        Factor in [0, 1] on the source's alpha.
    mask : Image, optional
        Factors on the source's alpha, of the source's height and width: bool, uint8, uint16 or floats in [0, 1].
        NaN is 0 for integer images.
    offset : tuple of two ints, default (0, 0)
        Row and column of the source's top-left corner on the backdrop. What lies outside is cut off.
    premultiplied : bool, default False
        Colours are multiplied by their alpha, in both pictures and in the result. Colours above alpha are clipped
        to it.
    space : {'srgb', 'linear'}, default 'srgb'
        Mix colours as they are stored, or as linear light.
    method : {'exact', 'pillow'}, default 'exact'
        ``'pillow'`` gives Pillow's ``alpha_composite`` bit for bit, which is off by one here and there: for 8-bit
        pictures of two or four channels, both with alpha, and the defaults of all other options but `offset`.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].
    threads : int, default 1
        Number of threads for arrays and Pillow images. Results do not depend on it.

    Returns
    -------
    Image
        Kind, dtype, mode and size of the backdrop. Integers are the exact result rounded half up (16-bit modes
        other than ``'normal'`` on a translucent backdrop: to within 1e-10 of a half). Values outside the range are
        clipped. Where the source's alpha is 0, operators that keep the backdrop there return it bit for bit. A
        backdrop without alpha is an opaque canvas: what an operator makes transparent shows black.

    Raises
    ------
    TypeError
        If kind or dtype of the two pictures differ, or one of them holds no plain colours.
    ValueError
        If their channels or batches do not fit, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import composite
    >>> black = np.array([[[0, 0, 0, 128]]], dtype=np.uint8)
    >>> white = np.full((1, 2, 3), 255, dtype=np.uint8)
    >>> composite(black, white).tolist()
    [[[127, 127, 127], [255, 255, 255]]]
    >>> composite(black, white, space="linear").tolist()
    [[[187, 187, 187], [255, 255, 255]]]
    """
    check_choice("mode", mode, MODES)
    check_choice("operator", operator, OPERATORS)
    check_choice("space", space, ("srgb", "linear"))
    check_choice("method", method, ("exact", "pillow"))
    opacity = check_interval("opacity", opacity, 0.0, 1.0)
    threads = check_integer("threads", threads, minimum=1)
    options = {"channel_axis": channel_axis, "alpha": alpha, "data_range": data_range}
    below = unpack(backdrop, name="backdrop", **options)  # type: ignore[arg-type]
    above = unpack(source, name="source", **options)  # type: ignore[arg-type]
    check_layers(above, below)
    if mode in NON_SEPARABLE and below.colors not in {1, 3}:
        raise ValueError(f"`mode` {mode!r} needs one or three colour channels; got {below.colors}")
    weights = None if mask is None else unpack_mask(mask, above)
    window = place(above.size, below.size, offset)
    if method == "pillow":
        defaults = (mode, operator, opacity, mask, premultiplied, space) == (
            "normal",
            "source-over",
            1.0,
            None,
            False,
            "srgb",
        )
        return below.pack(_pillow_result(below, above, window, defaults))  # type: ignore[return-value]
    rule = Rule(mode, operator, bool(premultiplied), space == "linear")
    return below.pack(merge_images(below, above, window, rule, opacity, weights, threads))  # type: ignore[return-value]


def _pillow_result(below: Unpacked, above: Unpacked, window: Window, defaults: bool) -> Values:
    """Return source-over by Pillow's rule."""
    fits = below.dtype == "uint8" and below.alpha and above.alpha and below.colors in {1, 3}
    if not (fits and defaults and (below.low, below.high) == (0, 255)):
        raise ValueError("`method` 'pillow' is for 8-bit pictures with alpha and no options but `offset`")
    pixels: Any = below.pixels
    layer: Any = above.pixels
    layer = layer[:, :, window.above[0], window.above[1]]
    if above.colors != below.colors:
        layer = np.concatenate([np.repeat(layer[:, :1], below.colors, 1), layer[:, -1:]], 1)
    if 0 in window.size or 0 in pixels.shape:
        return pixels
    if window.size == below.size:
        return over_pillow(pixels, layer)
    out = pixels.copy(order="K")
    out[:, :, window.below[0], window.below[1]] = over_pillow(pixels[:, :, window.below[0], window.below[1]], layer)
    return out


def check_layers(above: Unpacked, below: Unpacked) -> None:
    """Raise unless one picture can be put on the other: the same kind, dtype, device and range, colours that fit."""
    for what, a, b in (
        ("kind", below.kind, above.kind),
        ("dtype", below.dtype, above.dtype),
        ("device", str(getattr(below.source, "device", "")), str(getattr(above.source, "device", ""))),
    ):
        if a != b:
            raise TypeError(f"`{above.name}` must have the {what} of `{below.name}`, {a}; got {b}")
    if above.colors not in {1, below.colors}:
        raise ValueError(
            f"`{above.name}` must have the {below.colors} colour channels of `{below.name}`, or one; got {above.colors}"
        )
    count = below.pixels.shape[0]
    if above.pixels.shape[0] not in {1, count}:
        raise ValueError(f"`{above.name}` must hold one image or {count}; got {above.pixels.shape[0]}")
