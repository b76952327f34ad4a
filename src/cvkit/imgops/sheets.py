"""Many pictures on one sheet, and a mark on one picture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from cvkit._checks import check_choice, check_instance, check_integer, check_interval, shown
from cvkit.imgops._kinds import Unpacked, is_tensor, unpack
from cvkit.imgops._merge import Rule, merge_images, place
from cvkit.imgops._pixels import Values, as_tensor_like, namespace, pack_channels, unscaled
from cvkit.imgops._spaces import LUMA
from cvkit.imgops.compositing import check_layers
from cvkit.imgops.drawing import ANCHORS, Color, Layer, paint, rgb_colors, text_coverage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvkit._types import Array, Image, ImageT

__all__ = ["contact_sheet", "watermark"]


def contact_sheet(
    images: Iterable[ImageT],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    gap: int = 4,
    scale: int = 1,
    background: Color = "white",
    color: Color = "black",
    text_size: float = 12.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Put pictures beside and below each other.

    Parameters
    ----------
    images : iterable of images, or a batch
        Pictures of one kind and dtype, of any sizes: Pillow images, arrays or tensors; or a tensor ``(N, C, H,
        W)``, or an array whose first axis counts pictures. Each lies in the middle of its cell, which is as large
        as the largest; grey ones become coloured and opaque ones gain alpha where others are.
    columns : int, optional
        Pictures in a row; by default about as many as there are rows.
    labels : sequence of str, optional
        A line below each picture.
    row_labels : sequence of str, optional
        A word left of each row.
    column_labels : sequence of str, optional
        A word above each column.
    gap : int, default 4
        Pixels around each picture.
    scale : int, default 1
        Enlarge every pixel so many times; for small pictures.
    background : str or sequence of three floats, default 'white'
        Colour of the sheet: a name or ``'#rrggbb'``, or red, green and blue in [0, 1].
    color : str or sequence of three floats, default 'black'
        Colour of the text.
    text_size : float, default 12.0
        Size of the font in pixels.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value; the range is fixed, no picture is stretched.

    Returns
    -------
    Image
        The sheet, of the pictures' kind and dtype. Pixels of the pictures are on it bit for bit.

    Raises
    ------
    TypeError
        If the pictures are of different kinds or dtypes.
    ValueError
        If there is no picture, or labels are too many or too few.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import contact_sheet
    >>> contact_sheet(np.zeros((6, 28, 28), dtype=np.uint8), columns=3, gap=2).shape
    (62, 92)
    """
    columns = None if columns is None else check_integer("columns", columns, minimum=1)
    gap, scale = check_integer("gap", gap, minimum=0), check_integer("scale", scale, minimum=1)
    text_size = check_interval("text_size", text_size, 1.0, 1000.0)
    opened = _opened(images, channel_axis, alpha, data_range)
    columns = columns or math.ceil(math.sqrt(len(opened)))
    columns = min(columns, len(opened))
    count_rows = -(-len(opened) // columns)
    words = [
        _coverages(name, texts, count, text_size)
        for name, texts, count in (
            ("labels", labels, len(opened)),
            ("row_labels", row_labels, count_rows),
            ("column_labels", column_labels, columns),
        )
    ]
    cell_height = max(x.size[0] for x in opened) * scale
    cell_width = max([max(x.size[1] for x in opened) * scale, *(w.shape[1] for w in (*words[0], *words[2]))])
    below, left, above = (_extent(w, axis, gap) for w, axis in zip(words, (0, 1, 0), strict=True))
    step = (cell_height + below + gap, cell_width + gap)
    size = (count_rows * step[0] + gap + above, columns * step[1] + gap + left)
    sheet = _blank(opened, size, rgb_colors(background, 1, "background")[0])
    tint = rgb_colors(color, 1)[0]
    for i, one in enumerate(opened):
        row, column = divmod(i, columns)
        top, side = above + gap + row * step[0], left + gap + column * step[1]
        height, width = one.size[0] * scale, one.size[1] * scale
        _put(sheet, one, (top + (cell_height - height) // 2, side + (cell_width - width) // 2), scale)
    for i in range(len(opened)):
        row, column = divmod(i, columns)
        top, side = above + gap + row * step[0], left + gap + column * step[1]
        if words[0]:
            sheet = _write(sheet, words[0][i], tint, (top + cell_height + gap, side + cell_width // 2), ANCHORS["top"])
        if words[1] and column == 0:
            sheet = _write(sheet, words[1][row], tint, (top + cell_height // 2, left), ANCHORS["right"])
        if words[2] and row == 0:
            sheet = _write(sheet, words[2][column], tint, (above, side + cell_width // 2), ANCHORS["bottom"])
    return pack_channels(sheet, sheet.pixels)  # type: ignore[return-value]


def watermark(
    image: ImageT,
    mark: str | Image,
    *,
    position: Literal[
        "top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right", "tile"
    ] = "bottom-right",
    opacity: float = 0.5,
    margin: int = 8,
    size: float | None = None,
    color: Color = "white",
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    r"""Put a mark on a picture: a text or a small picture.

    Parameters
    ----------
    image : Image
        Picture; a text needs one or three colour channels.
    mark : str or Image
        Text in Pillow's own font, or a picture of the same kind and dtype, whose alpha counts. One that is larger
        than the picture is cut off.
    position : str, default 'bottom-right'
        Where the mark goes: ``'top-left'``, ``'top'``, ``'top-right'``, ``'left'``, ``'center'``, ``'right'``,
        ``'bottom-left'``, ``'bottom'``, ``'bottom-right'``, or ``'tile'`` to repeat it all over the picture.
    opacity : float, default 0.5
        Factor in [0, 1] on the mark's alpha.
    margin : int, default 8
        Pixels to the picture's edge, and between tiles.
    size : float, optional
        Size of the font in pixels; by default a sixteenth of the shorter side and at least 10.
    color : str or sequence of three floats, default 'white'
        Colour of the text.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        Kind, dtype and size of the picture; where the mark's alpha is 0, the picture bit for bit.

    Raises
    ------
    TypeError
        If a mark's kind or dtype is not the picture's.
    ValueError
        If channels do not fit, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import watermark
    >>> photo = np.zeros((40, 60, 3), dtype=np.uint8)
    >>> marked = watermark(photo, "cvkit", opacity=0.5)
    >>> int(marked[20:].max()) > 100, int(marked[:20].max())
    (True, 0)
    """
    check_choice("position", position, (*ANCHORS, "tile"))
    opacity = check_interval("opacity", opacity, 0.0, 1.0)
    margin = check_integer("margin", margin, minimum=0)
    below = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    if isinstance(mark, str):
        if below.colors not in {1, 3}:
            raise ValueError(f"`image` must have one or three colour channels; got {below.colors}")
        points = max(10.0, min(below.size) / 16.0) if size is None else check_interval("size", size, 1.0, 1000.0)
        share = text_coverage(mark, points)
        corner = (
            (0, 0) if position == "tile" else _corner((share.shape[0], share.shape[1]), below.size, position, margin)
        )
        share = _tiled_coverage(share, below.size, margin) if position == "tile" else share
        tint = np.broadcast_to(rgb_colors(color, 1)[0], (*share.shape, 3))
        return below.pack(paint(below, Layer(tint, share, corner), opacity))  # type: ignore[return-value]
    above = unpack(mark, name="mark", channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    check_layers(above, below)
    if position != "tile" or 0 in above.size:
        corner = _corner(above.size, below.size, "center" if position == "tile" else position, margin)
        window = place(above.size, below.size, corner)
        return below.pack(merge_images(below, above, window, Rule(), opacity, None, 1))  # type: ignore[return-value]
    above, weight = _tiled(above, below.size, margin)
    window = place(below.size, below.size, (0, 0))
    return below.pack(merge_images(below, above, window, Rule(), opacity, weight, 1))  # type: ignore[return-value]


# Sheets


def _opened(
    images: Iterable[Image],
    channel_axis: int | None,
    alpha: bool | None,
    data_range: Sequence[float] | None,
) -> list[Unpacked]:
    """Take all pictures apart; they must be of one kind, dtype and device."""
    if not hasattr(images, "__iter__"):
        raise TypeError(f"`images` must be several pictures; got {shown(images)}")
    found = []
    for i, image in enumerate(images):
        one = unpack(image, name=f"images[{i}]", channel_axis=channel_axis, alpha=alpha, data_range=data_range)
        if one.pixels.shape[0] != 1:
            raise ValueError(f"`images[{i}]` must be a single picture; got a batch of {one.pixels.shape[0]}")
        found.append(one)
    if not found:
        raise ValueError("`images` must hold at least one picture")
    colors = max(one.colors for one in found)
    for one in found:
        check_layers(one, replace(found[0], colors=colors))
    return found


def _blank(opened: list[Unpacked], size: tuple[int, int], background: Array) -> Unpacked:
    """Return an empty sheet with the colours and alpha that all pictures need."""
    first = opened[0]
    colors, alpha = max(one.colors for one in opened), any(one.alpha for one in opened)
    tint = list(background) if colors == 3 else [float(background @ LUMA["601"])] * colors
    values = unscaled(first, np.array([*tint, 1.0][: colors + alpha])[None, :, None, None])
    filled: Values = np.ascontiguousarray(np.broadcast_to(values, (1, colors + alpha, *size)))
    like: Values = first.pixels
    filled = as_tensor_like(filled, like) if is_tensor(like) else filled.astype(like.dtype)
    return replace(first, pixels=filled, colors=colors, alpha=alpha)


def _put(sheet: Unpacked, one: Unpacked, corner: tuple[int, int], scale: int) -> None:
    """Copy a picture onto a sheet of our own."""
    pixels: Values = one.pixels
    target: Values = sheet.pixels
    if scale != 1:
        repeat = namespace(pixels).repeat_interleave if is_tensor(pixels) else np.repeat
        pixels = repeat(repeat(pixels, scale, 2), scale, 3)
    rows, columns = (slice(start, start + side) for start, side in zip(corner, pixels.shape[2:], strict=True))
    target[:, : sheet.colors, rows, columns] = pixels[:, : one.colors]
    if sheet.alpha:
        target[:, -1:, rows, columns] = pixels[:, -1:] if one.alpha else one.high


def _write(
    sheet: Unpacked, share: Array, color: Array, place: tuple[int, int], anchor: tuple[float, float]
) -> Unpacked:
    """Return the sheet with a text whose box lies with shares `anchor` (left, above) of a place (row, column)."""
    corner = place[0] - round(anchor[1] * share.shape[0]), place[1] - round(anchor[0] * share.shape[1])
    tint = np.broadcast_to(color, (*share.shape, 3))
    return replace(sheet, pixels=paint(sheet, Layer(tint, share, corner), 1.0))


def _coverages(name: str, texts: Sequence[str] | None, count: int, size: float) -> list[Array]:
    """Return the coverage of every label."""
    if texts is None:
        return []
    if isinstance(texts, str):
        raise TypeError(f"`{name}` must be a sequence of strings; got {texts!r}")
    if len(texts) != count:
        raise ValueError(f"`{name}` must hold {count} strings; got {len(texts)}")
    return [text_coverage(check_instance(f"{name}[{i}]", text, str, "a string"), size) for i, text in enumerate(texts)]


def _extent(words: list[Array], axis: int, gap: int) -> int:
    """Return how much room labels take along an axis, with a gap."""
    return max(word.shape[axis] for word in words) + gap if words else 0


# Marks


def _corner(mark: tuple[int, int], picture: tuple[int, int], position: str, margin: int) -> tuple[int, int]:
    """Return the row and column of a mark's corner."""
    left, top = ANCHORS[position]
    free = picture[0] - mark[0] - 2 * margin, picture[1] - mark[1] - 2 * margin
    return margin + math.floor(top * free[0]), margin + math.floor(left * free[1])


def _tiles(side: int, full: int, margin: int) -> Array:
    """Return which row (or column) of a mark lies at each of a picture's; -1 between marks."""
    return np.maximum(np.arange(full) % max(side + margin, 1) - margin, -1)


def _tiled_coverage(share: Array, size: tuple[int, int], margin: int) -> Array:
    """Return a text's coverage repeated over a picture."""
    rows, columns = (_tiles(side, full, margin) for side, full in zip(share.shape, size, strict=True))
    if share.size == 0:
        return np.zeros(size)
    return np.where((rows < 0)[:, None] | (columns < 0), 0.0, share[rows[:, None], columns])


def _tiled(mark: Unpacked, size: tuple[int, int], margin: int) -> tuple[Unpacked, Values]:
    """Return a mark repeated over a picture, and where it lies: weights (1, 1, H, W)."""
    rows, columns = (_tiles(side, full, margin) for side, full in zip(mark.size, size, strict=True))
    pixels: Values = mark.pixels
    weight: Values = ((rows >= 0)[:, None] & (columns >= 0))[None, None]
    if is_tensor(pixels):
        weight = as_tensor_like(weight, pixels)
    return replace(mark, pixels=pixels[:, :, rows][:, :, :, columns]), weight
