"""Lines, dots and text on pictures, with smooth edges: what skeletons and labels need.

A shape covers each pixel by a share in [0, 1], found from the distance of the pixel's centre to the shape's edge; later
shapes lie on earlier ones. Places are (x, y), pixel centres at whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from PIL import Image as PILModule
from PIL import ImageColor, ImageDraw, ImageFont

from cvkit._checks import check_choice, check_finite, check_instance, check_interval, shown
from cvkit.imgops._kinds import Unpacked, is_tensor, unpack
from cvkit.imgops._merge import Rule, Window, merge_images, place
from cvkit.imgops._pixels import Values, as_tensor_like
from cvkit.imgops._spaces import LUMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, ArrayLike, Image, ImageT

__all__ = ["draw_lines", "draw_points", "draw_text"]

Color: TypeAlias = "str | Sequence[float] | Array"
"""A name or '#rrggbb', or red, green and blue in [0, 1] (an array of uint8: in [0, 255])."""

Anchor: TypeAlias = Literal[
    "top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right"
]
ANCHORS: dict[str, tuple[float, float]] = {
    "top-left": (0.0, 0.0),
    "top": (0.5, 0.0),
    "top-right": (1.0, 0.0),
    "left": (0.0, 0.5),
    "center": (0.5, 0.5),
    "right": (1.0, 0.5),
    "bottom-left": (0.0, 1.0),
    "bottom": (0.5, 1.0),
    "bottom-right": (1.0, 1.0),
}  # share of the box that lies left of and above the place


def draw_lines(
    image: ImageT,
    segments: ArrayLike | Sequence[object],
    color: Color = "red",
    width: float = 2.0,
    *,
    opacity: float = 1.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Draw straight lines with round ends.

    Parameters
    ----------
    image : Image
        Picture with one or three colour channels.
    segments : ndarray or Tensor of shape (K, 2, 2)
        The two ends of each line as (x, y). Lines with an end that is NaN or infinite are left out.
    color : str, sequence of three floats or ndarray of shape (3,) or (K, 3), default 'red'
        One colour, or one for each line: a name or ``'#rrggbb'``, or red, green and blue in [0, 1] (uint8 arrays:
        [0, 255]). On a grey picture its luma is drawn.
    width : float, default 2.0
        Width in pixels.
    opacity : float, default 1.0
        Share of the colour in [0, 1].
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        A copy with the lines on it: kind, dtype and size of the picture. Every image of a batch gets the same lines.

    Raises
    ------
    TypeError
        If the picture is of no kind that holds plain colours.
    ValueError
        If shapes do not fit, or a colour or number is out of range.

    See Also
    --------
    draw_points : Dots.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import draw_lines
    >>> draw_lines(np.zeros((3, 4), dtype=np.uint8), [[[0, 1], [3, 1]]], "white", 1.0)
    array([[  0,   0,   0,   0],
           [255, 255, 255, 255],
           [  0,   0,   0,   0]], dtype=uint8)
    """
    ends = _places("segments", segments, (2, 2))
    width = check_interval("width", width, 0.0, low_open=True)
    canvas = _open(image, channel_axis, alpha, data_range)
    return _draw(canvas, ends, rgb_colors(color, len(ends)), width / 2.0, opacity)  # type: ignore[return-value]


def draw_points(
    image: ImageT,
    points: ArrayLike | Sequence[object],
    color: Color = "red",
    radius: float = 3.0,
    *,
    opacity: float = 1.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Draw round dots.

    Parameters
    ----------
    image : Image
        Picture with one or three colour channels.
    points : ndarray or Tensor of shape (K, 2)
        Centres as (x, y). Those that are NaN or infinite are left out.
    color : str, sequence of three floats or ndarray of shape (3,) or (K, 3), default 'red'
        One colour, or one for each dot: a name or ``'#rrggbb'``, or red, green and blue in [0, 1] (uint8 arrays:
        [0, 255]). On a grey picture its luma is drawn.
    radius : float, default 3.0
        Radius in pixels.
    opacity : float, default 1.0
        Share of the colour in [0, 1].
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        A copy with the dots on it: kind, dtype and size of the picture. Every image of a batch gets the same dots.

    Raises
    ------
    TypeError
        If the picture is of no kind that holds plain colours.
    ValueError
        If shapes do not fit, or a colour or number is out of range.

    See Also
    --------
    draw_lines : Lines.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import draw_points
    >>> draw_points(np.zeros((3, 3), dtype=np.uint8), [[1, 1]], "white", 0.5)
    array([[  0,   0,   0],
           [  0, 255,   0],
           [  0,   0,   0]], dtype=uint8)
    """
    centres = _places("points", points, (2,))
    radius = check_interval("radius", radius, 0.0, low_open=True)
    canvas = _open(image, channel_axis, alpha, data_range)
    ends = np.stack([centres, centres], axis=1)
    return _draw(canvas, ends, rgb_colors(color, len(ends)), radius, opacity)  # type: ignore[return-value]


def draw_text(
    image: ImageT,
    text: str,
    position: Sequence[float],
    color: Color = "white",
    *,
    size: float = 12.0,
    anchor: Anchor = "top-left",
    opacity: float = 1.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Write text in Pillow's own font.

    Parameters
    ----------
    image : Image
        Picture with one or three colour channels.
    text : str
        One line or several.
    position : sequence of two floats
        Where the anchor of the text's box is put, as (x, y).
    color : str or sequence of three floats, default 'white'
        A name or ``'#rrggbb'``, or red, green and blue in [0, 1]. On a grey picture its luma is drawn.
    size : float, default 12.0
        Size of the font in pixels.
    anchor : {'top-left', 'top', 'top-right', 'left', 'center', 'right', 'bottom-left', 'bottom', 'bottom-right'}
        Which point of the box lies at `position`; by default ``'top-left'``.
    opacity : float, default 1.0
        Share of the colour in [0, 1].
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        A copy with the text on it: kind, dtype and size of the picture. What does not fit is cut off.

    Raises
    ------
    TypeError
        If `text` is no string or the picture of no kind that holds plain colours.
    ValueError
        If a colour, number or anchor is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import draw_text
    >>> int(draw_text(np.zeros((20, 40), dtype=np.uint8), "cat", (2, 2)).max()) > 200
    True
    """
    check_instance("text", text, str, "a string")
    check_choice("anchor", anchor, ANCHORS)
    canvas = _open(image, channel_axis, alpha, data_range)
    x, y = _pair("position", position)
    share = text_coverage(text, check_interval("size", size, 1.0, 1000.0))
    left, top = ANCHORS[anchor]
    corner = round(y - top * share.shape[0]), round(x - left * share.shape[1])
    color_rgb = rgb_colors(color, 1)[0]
    layer = Layer(np.broadcast_to(color_rgb, (*share.shape, 3)), share, corner)
    return canvas.pack(paint(canvas, layer, opacity))  # type: ignore[return-value]


@dataclass(frozen=True)
class Layer:
    """Straight colours (h, w, 3) and coverage (h, w) in [0, 1], and the row and column of their top-left corner."""

    color: Array
    coverage: Array
    corner: tuple[int, int]


def paint(canvas: Unpacked, layer: Layer, opacity: float) -> Values:
    """Return the pixels of the picture with a layer over it, (N, C, H, W)."""
    opacity = check_interval("opacity", opacity, 0.0, 1.0)
    height, width = layer.coverage.shape
    window = place((height, width), canvas.size, layer.corner)
    color, coverage = layer.color[window.above], layer.coverage[window.above][..., None]
    if canvas.colors == 1:
        color = (color @ np.array(LUMA["601"]))[..., None]
    planes = np.moveaxis(np.concatenate([color, coverage], axis=-1), -1, 0)
    pixels: Any = np.ascontiguousarray(planes)[None]
    if is_tensor(canvas.pixels):
        pixels = as_tensor_like(pixels, canvas.pixels)
    whole = (slice(0, planes.shape[1]), slice(0, planes.shape[2]))
    above = replace(canvas, pixels=pixels, alpha=True, low=0.0, high=1.0, dtype="float64")
    return merge_images(canvas, above, Window(window.below, whole), Rule(), opacity, None, 1)


def text_coverage(text: str, size: float) -> Array:
    """Return how much of each pixel a text covers, (h, w) in [0, 1], as high as a b and a g."""
    font = ImageFont.load_default(size)
    ruler = ImageDraw.Draw(PILModule.new("L", (1, 1)))
    box = ruler.textbbox((0, 0), text, font=font)
    full = ruler.textbbox((0, 0), "\n".join("|bg" for _ in text.split("\n")), font=font)
    left, top = math.floor(box[0]), math.floor(min(box[1], full[1]))
    width, height = max(math.ceil(box[2]) - left, 0), max(math.ceil(max(box[3], full[3])) - top, 0)
    if 0 in {width, height}:
        return np.zeros((height, width))
    picture = PILModule.new("L", (width, height))
    ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=font)
    return np.asarray(picture) / 255.0


def _draw(canvas: Unpacked, ends: Array, colors: Array, radius: float, opacity: float) -> Image:
    """Draw capsules: all points within `radius` of the line between two ends."""
    height, width = canvas.size
    reach = radius + 1.0
    known = np.isfinite(ends).all(axis=(1, 2))
    ends, colors = ends[known], colors[known]
    low, high = ends.min(axis=1) - reach, ends.max(axis=1) + reach
    seen = (high >= 0).all(axis=1) & (low[:, 0] < width) & (low[:, 1] < height)
    ends, colors, low, high = ends[seen], colors[seen], low[seen], high[seen]
    if len(ends) == 0 or 0 in {height, width}:
        return canvas.pack(paint(canvas, Layer(np.zeros((0, 0, 3)), np.zeros((0, 0)), (0, 0)), opacity))
    left, top = np.maximum(np.floor(low.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(high.max(axis=0)) + 1, (width, height)).astype(int)
    tint = np.zeros((bottom - top, right - left, 3))  # premultiplied
    share = np.zeros((bottom - top, right - left))
    for (start, stop), color, box in zip(ends, colors, np.hstack([low, high]), strict=True):
        x0, y0 = np.maximum(np.floor(box[:2]), (left, top)).astype(int)
        x1, y1 = np.minimum(np.ceil(box[2:]) + 1, (right, bottom)).astype(int)
        cover = np.clip(radius + 0.5 - _distance(x0, x1, y0, y1, start, stop), 0.0, min(1.0, 2.0 * radius))
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        tint[part] = tint[part] * (1.0 - cover)[..., None] + color * cover[..., None]
        share[part] += (1.0 - share[part]) * cover
    straight = tint / np.where(share == 0.0, 1.0, share)[..., None]
    return canvas.pack(paint(canvas, Layer(straight, share, (int(top), int(left))), opacity))


def _distance(x0: int, x1: int, y0: int, y1: int, start: Array, stop: Array) -> Array:
    """Return the distance of every pixel centre of a box to a line between two points."""
    along = stop - start
    x, y = np.arange(x0, x1)[None, :] - start[0], np.arange(y0, y1)[:, None] - start[1]
    square = float(along @ along)
    t = np.clip((x * along[0] + y * along[1]) / square, 0.0, 1.0) if square > 0.0 else 0.0
    return np.hypot(x - t * along[0], y - t * along[1])  # type: ignore[no-any-return]


def _open(image: ImageT, channel_axis: int | None, alpha: bool | None, data_range: Sequence[float] | None) -> Unpacked:
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if opened.colors not in {1, 3}:
        raise ValueError(f"`image` must have one or three colour channels; got {opened.colors}")
    return opened


def _places(name: str, values: object, shape: tuple[int, ...]) -> Array:
    """Return places as float64 (K, *shape)."""
    array = values.detach().cpu().double().numpy() if is_tensor(values) else np.asarray(values)
    if array.dtype.kind not in "iuf" and array.size:
        raise TypeError(f"`{name}` must hold numbers; got {shown(values)}")
    array = array.astype(np.float64)
    if array.size == 0:
        return array.reshape(0, *shape)
    if array.shape[1:] != shape:
        wanted = ", ".join(str(n) for n in shape) + ("," if not shape else "")
        raise ValueError(f"`{name}` must have shape (K, {wanted}); got {array.shape}")
    return array


def _pair(name: str, values: Sequence[float]) -> tuple[float, float]:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__") or len(values) != 2:
        raise TypeError(f"`{name}` must be two numbers (x, y); got {shown(values)}")
    return check_finite(f"{name}[0]", values[0]), check_finite(f"{name}[1]", values[1])


def rgb_colors(color: Color, count: int, name: str = "color") -> Array:
    """Return colours as floats (count, 3) in [0, 1]."""
    if isinstance(color, str):
        try:
            values = np.array(ImageColor.getrgb(color)[:3]) / 255.0
        except ValueError:
            raise ValueError(f"`{name}` must be a colour's name or '#rrggbb'; got {shown(color)}") from None
    else:
        values = np.asarray(color)
        if values.dtype.kind not in "iuf":
            raise TypeError(f"`{name}` must be a name or numbers; got {shown(color)}")
        values = values / 255.0 if values.dtype == np.uint8 else values.astype(np.float64)
    if values.shape not in {(3,), (count, 3)}:
        raise ValueError(f"`{name}` must have shape (3,) or ({count}, 3); got {values.shape}")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        hint = "for 8-bit values pass '#rrggbb' or a uint8 array"
        raise ValueError(f"`{name}` must lie in [0, 1], got {shown(color)}; {hint}")
    return np.broadcast_to(values, (count, 3))
