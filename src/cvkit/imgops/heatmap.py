"""Maps in colour, alone and over the picture they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit._checks import check_interval
from cvkit.imgops._kinds import Unpacked, is_tensor, mask_scale, quantize, unpack, unpack_mask
from cvkit.imgops._merge import TICK, lerp
from cvkit.imgops._pixels import Values, namespace, pack_channels, scaled, unscaled
from cvkit.imgops.colormaps import Colormap, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, Image, ImageT

__all__ = ["apply_colormap", "overlay"]

_PIECE = 1 << 16  # pixels handled at once


def apply_colormap(
    image: ImageT,
    colormap: Colormap = "ember",
    *,
    channel_axis: int | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Colour a single-channel picture by a colour map.

    Parameters
    ----------
    image : Image
        Pillow image with one channel, array ``(H, W)`` or ``(H, W, 1)``, tensor ``(H, W)``, ``(1, H, W)`` or ``(N,
        1, H, W)``.
    colormap : {'ember', 'lagoon', 'balance', 'gray'} or ndarray of shape (K, 3), default 'ember'
        Name of a colour map, or a table of colours, uint8 or floats in [0, 1].
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    data_range : sequence of two floats, optional
        Values of the first and the last colour; by default [0, 255], [0, 65535] or, for floats, [0, 1]. Values
        outside are clipped.

    Returns
    -------
    Image
        The same kind with red, green and blue: Pillow RGB, array ``(H, W, 3)``, tensor ``(3, H, W)`` or ``(N, 3, H,
        W)``. Arrays and tensors of floats keep their dtype, in [0, 1], and NaN; those of uint16 keep theirs;
        everything else becomes uint8, NaN the first colour. Between the table's entries colours are interpolated,
        so float tensors are differentiable.

    Raises
    ------
    TypeError
        If image or map are of the wrong kind.
    ValueError
        If the picture has several channels or the name is unknown.

    See Also
    --------
    colormap : The table itself.
    overlay : A map over the picture it belongs to.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import apply_colormap
    >>> apply_colormap(np.array([[0, 255]], dtype=np.uint8), "gray").tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    table = table_of(colormap)
    opened = unpack(image, channel_axis=channel_axis, alpha=False, data_range=data_range)
    if opened.colors != 1:
        hint = "; a batch of maps (N, H, W) is `maps[:, None]`" if opened.kind == "tensor" else ""
        raise ValueError(f"`image` must have one channel; got {opened.colors}{hint}")
    if is_tensor(opened.pixels):
        return pack_channels(opened, _colored(scaled(opened, opened.pixels), table))  # type: ignore[return-value]
    depth = opened.dtype if opened.kind == "array" and not opened.integer else "uint8"
    depth = "uint16" if opened.dtype == "uint16" and opened.kind != "pillow" else depth
    out = _empty_colors(opened, depth)
    levels = _levels(opened, table, depth)
    for rows in _rows(opened):
        part: Any = opened.pixels[:, :, rows]
        if levels is not None:
            out[:, :, rows] = np.moveaxis(levels[part[:, 0]], -1, 1)
        else:
            out[:, :, rows] = _whole(_colored(scaled(opened, part), table), depth, table[0])
    return pack_channels(_as_depth(opened, depth), out)  # type: ignore[return-value]


def overlay(
    image: ImageT,
    map: Image,  # noqa: A002  the field's word, here and in `Explanation.maps`
    *,
    alpha: float = 0.5,
    colormap: Colormap = "ember",
    fade: bool = False,
    channel_axis: int | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Lay a map in colour over the picture it belongs to.

    Parameters
    ----------
    image : Image
        Picture with one or three colour channels, with alpha or without. Floats must lie in [0, 1] or in
        `data_range`: a picture that was normalised for a network has to be brought back first.
    map : Image
        Values of the picture's height and width: array or tensor ``(H, W)``, for a batch ``(N, H, W)`` or ``(N, 1,
        H, W)``, or a Pillow image with one channel. Floats in [0, 1], or bool, uint8, uint16. It may be of another
        kind than the picture.
    alpha : float, default 0.5
        Share of the map in [0, 1].
    colormap : {'ember', 'lagoon', 'balance', 'gray'} or ndarray of shape (K, 3), default 'ember'
        Name of a colour map, or a table of colours, uint8 or floats in [0, 1].
    fade : bool, default False
        Multiply the share by the map itself, so that the picture stays as it is where the map is 0.
    channel_axis : int, optional
        Axis of the picture's channels where it is not the usual one.
    data_range : sequence of two floats, optional
        Lowest and highest value of the picture.

    Returns
    -------
    Image
        Kind, dtype and range of the picture, its alpha untouched; a grey picture becomes one with red, green and blue.
        Floating-point tensors are differentiable with respect to picture and map.

    Raises
    ------
    TypeError
        If picture or map are of the wrong kind.
    ValueError
        If their sizes differ, or floats lie outside their range or are NaN.

    See Also
    --------
    cvkit.imgops.apply_colormap : The map alone.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import overlay
    >>> photo = np.full((2, 3, 3), 100, dtype=np.uint8)
    >>> overlay(photo, np.zeros((2, 3)), alpha=0.5, colormap="gray")[0, 0].tolist()
    [50, 50, 50]
    """
    alpha = check_interval("alpha", alpha, 0.0, 1.0)
    table = table_of(colormap)
    opened = unpack(image, channel_axis=channel_axis, data_range=data_range)
    if opened.colors not in {1, 3}:
        raise ValueError(f"`image` must have one or three colour channels; got {opened.colors}")
    values: Any = unpack_mask(map, opened, name="map")
    _check_within("map", values, 0.0, mask_scale(values, "map"))
    if not opened.integer:
        _check_within("image", opened.pixels, opened.low, opened.high)
    if is_tensor(opened.pixels):
        laid = _laid(opened, opened.pixels, values, table, alpha, fade)
        return pack_channels(opened, laid)  # type: ignore[return-value]
    if opened.dtype == "bool":
        opened = replace(_as_depth(opened, "uint8"), pixels=np.asarray(opened.pixels, np.uint8) * 255, low=0, high=255)
    out = _empty_colors(opened, opened.dtype)
    for rows in _rows(opened):
        part: Any = opened.pixels[:, :, rows]
        out[:, :, rows] = _laid(opened, part, values[:, :, rows], table, alpha, fade)
    return pack_channels(opened, out)  # type: ignore[return-value]


def _laid(opened: Unpacked, pixels: Values, values: Values, table: Array, alpha: float, fade: bool) -> Values:
    """Return pixels under a map in colour, with the picture's alpha or padding."""
    xp = namespace(pixels)
    ground = scaled(opened, pixels)
    top = _to_float(values, ground) / mask_scale(values)
    share = alpha * top if fade else top * 0.0 + alpha
    color = lerp(ground[:, : opened.colors], _colored(top, table), share)
    if opened.integer:
        low, high = opened.low, opened.high
        color = quantize(color * (high - low) + (low + TICK), low, high, opened.dtype)
    else:
        color = unscaled(opened, color)
    rest = pixels[:, opened.colors :]
    return xp.concatenate([color, rest], 1) if rest.shape[1] else color


def _colored(values: Values, table: Array) -> Values:
    """Return values (N, 1, H, W) in [0, 1] as colours (N, 3, H, W), interpolated between the entries of a table."""
    xp = namespace(values)
    if is_tensor(values):
        entries: Any = xp.from_numpy(table.copy()).to(device=values.device, dtype=values.dtype)
    else:
        entries = table.astype(values.dtype)
    place = xp.clip(values[:, 0], 0.0, 1.0) * (len(table) - 1)
    known = xp.where(place == place, place, 0.0)  # noqa: PLR0124  NaN indexes nothing
    left = xp.clip(xp.floor(known), max=len(table) - 2)
    index: Any = left.long() if is_tensor(values) else left.astype(np.intp)
    share = (place - left)[..., None]
    return xp.moveaxis(lerp(entries[index], entries[index + 1], share), -1, 1)


def _to_float(values: Values, like: Values) -> Values:
    """Return a map as floats of the dtype of `like`."""
    return values.to(like.dtype) if is_tensor(values) else np.asarray(values, like.dtype)


def _levels(opened: Unpacked, table: Array, depth: str) -> Array | None:
    """Return the colours of all levels, (256 or 65536, 3), for 8- and 16-bit pictures with enough pixels."""
    if opened.dtype not in {"uint8", "uint16"}:
        return None
    count = int(np.iinfo(opened.dtype).max) + 1
    pixels: Any = opened.pixels
    if count > 256 and pixels.size < count:
        return None
    levels = scaled(opened, np.arange(count)[None, None, None])
    return np.ascontiguousarray(_whole(_colored(levels, table), depth, table[0])[0, :, 0].T)


def _whole(colors: Array, depth: str, first: Array) -> Array:
    """Return colours in [0, 1] as values of a dtype; integers have the first colour for NaN."""
    if depth not in {"uint8", "uint16"}:
        return colors
    high = int(np.iinfo(depth).max)
    colors = np.where(np.isnan(colors), first[:, None, None], colors)
    return quantize(colors * high + TICK, 0, high, depth)


def _as_depth(opened: Unpacked, depth: str) -> Unpacked:
    """Return the image with another dtype, so that results of that dtype can be packed like it."""
    if opened.dtype == depth:
        return opened
    source: Any = opened.source
    if opened.kind == "array":
        source = np.empty(0, depth)
    elif opened.kind == "tensor":
        torch = namespace(source)
        source = torch.empty_like(source, dtype=getattr(torch, depth))
    return replace(opened, dtype=depth, source=source)


def _empty_colors(opened: Unpacked, depth: str) -> Array:
    """Return room for the picture with three colours, interleaved where the source is."""
    pixels: Any = opened.pixels
    count, channels, height, width = pixels.shape
    channels += 3 - opened.colors
    if opened.kind == "tensor":
        return np.empty((count, channels, height, width), depth)
    return np.moveaxis(np.empty((count, height, width, channels), depth), -1, 1)


def _rows(opened: Unpacked) -> list[slice]:
    """Return slices of rows, each with a handful of pixels."""
    height, width = opened.size
    step = max(1, _PIECE // max(width, 1))
    return [slice(top, top + step) for top in range(0, height, step)]


def _check_within(name: str, values: Values, low: float, high: float) -> None:
    """Raise unless all values lie in a range; NaN lies in none."""
    if str(values.dtype).removeprefix("torch.") in {"bool", "uint8", "uint16"}:
        return
    if not bool(((values >= low) & (values <= high)).all()):
        found = values.detach().double().cpu().numpy() if is_tensor(values) else values
        with np.errstate(invalid="ignore"):
            seen = "NaN" if np.isnan(found).any() else f"[{found.min():g}, {found.max():g}]"
        raise ValueError(f"`{name}` of floats must lie in [{low:g}, {high:g}]; got {seen}")
