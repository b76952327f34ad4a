"""Compositing in floating point: the W3C equation on values in [0, 1], and its use on whole images piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit._checks import check_integer, shown
from cvkit.imgops._kernels.blending import fast_pixels
from cvkit.imgops._kernels.memory import in_parts
from cvkit.imgops._kinds import Unpacked, is_tensor, mask_scale, quantize, working
from cvkit.imgops._pixels import Values, namespace, scaled, unscaled
from cvkit.imgops._spaces import decode, encode
from cvkit.imgops.modes import BLEND, COVERING, KEEPING, SHARES

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = ["TICK", "Rule", "Window", "lerp", "merge", "merge_images", "place", "weighted_layer"]

TICK = 2.0**-35
"""Added before rounding, so that an exact half that float64 misses by its last bits still goes up: a few last bits
of 65535, and far below the distance of any other result of 8-bit values from a half."""

_PIECE = 1 << 15  # pixels handled at once


@dataclass(frozen=True)
class Rule:
    """How a source is put on a backdrop."""

    mode: str = "normal"
    operator: str = "source-over"
    premultiplied: bool = False
    linear: bool = False


@dataclass(frozen=True)
class Window:
    """Where a source lies on a backdrop, clipped to it: slices of rows and columns of both."""

    below: tuple[slice, slice]
    above: tuple[slice, slice]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        rows, columns = self.below
        return rows.stop - rows.start, columns.stop - columns.start


def place(source: tuple[int, int], backdrop: tuple[int, int], offset: tuple[int, int]) -> Window:
    """Return where a source of a size lies if its top-left corner is put at `offset` (row, column); may be empty."""
    if not hasattr(offset, "__len__") or len(offset) != 2:
        raise TypeError(f"`offset` must be two integers (row, column); got {shown(offset)}")
    below, above = [], []
    for i, start in enumerate(offset):
        start = check_integer(f"offset[{i}]", start)
        first = min(max(start, 0), backdrop[i])
        last = max(min(start + source[i], backdrop[i]), first)
        below.append(slice(first, last))
        above.append(slice(first - start, last - start) if last > first else slice(0, 0))
    return Window((below[0], below[1]), (above[0], above[1]))


def merge(cb: Values, ab: Values, cs: Values, a: Values, rule: Rule) -> tuple[Values, Values]:
    """Return colour and alpha of the result from those of backdrop (cb, ab) and source (cs, a), values in [0, 1].

    `ab` None is a canvas without alpha, opaque, and so is its result; `a` None is an opaque source. Values outside
    [0, 1] are clipped, NaN is kept. Where the source is transparent, operators that keep the backdrop return it bit
    for bit.
    """
    if rule.operator == "destination":
        return cb, ab
    xp = namespace(cb)
    color, alpha = xp.clip(cb, 0.0, 1.0), None if ab is None else xp.clip(ab, 0.0, 1.0)
    cs, a = xp.clip(cs, 0.0, 1.0), None if a is None else xp.clip(a, 0.0, 1.0)
    if rule.linear:
        color, cs = _curved(color, alpha, rule, decode), _curved(cs, a, rule, decode)
    join = _join_premultiplied if rule.premultiplied else _join
    result, opaque = join(color, alpha, cs, a, rule)
    if rule.linear:
        result = _curved(result, opaque, rule, encode)
    if a is not None and rule.operator in KEEPING:
        hidden = a == 0.0
        result = _kept(result, cb, hidden)
        opaque = None if ab is None else _kept(opaque, ab, hidden)
    return result, opaque


def _join(cb: Values, ab: Values, cs: Values, a: Values, rule: Rule) -> tuple[Values, Values]:
    """Merge straight colours: Co = Cb + (as Fa / ao) (Cs' - Cb), which is (as Fa Cs' + ab Fb Cb) / ao."""
    xp = namespace(cb)
    blended = BLEND[rule.mode](cb, cs)
    # Cs' = (1 - ab) Cs + ab B(Cb, Cs)
    source = blended if ab is None or rule.mode == "normal" else lerp(cs, blended, ab)
    if ab is None and rule.operator in {"source-over", "source-atop"}:
        return (source + cb * 0.0 if a is None else lerp(cb, source, a)), None
    a = xp.ones_like(cb[:, :1]) if a is None else a
    b = xp.ones_like(cb[:, :1]) if ab is None else ab
    top, bottom, alpha = _shares(a, b, rule.operator)
    safe = xp.where(alpha == 0.0, 1.0, alpha)
    if rule.operator == "lighter":
        color = xp.clip(source * (top / safe) + cb * (bottom / safe), max=1.0)
    else:
        color = lerp(cb, source, top / safe)
    color = xp.where(alpha == 0.0, 0.0, color)
    if ab is not None:
        return color, alpha
    return (color if rule.operator in COVERING else color * alpha), None


def _join_premultiplied(cb: Values, ab: Values, cs: Values, a: Values, rule: Rule) -> tuple[Values, Values]:
    """Merge premultiplied colours: co = Fa ((1 - ab) cs + as ab B) + Fb cb."""
    xp = namespace(cb)
    a = xp.ones_like(cb[:, :1]) if a is None else a
    b = xp.ones_like(cb[:, :1]) if ab is None else ab
    cb, cs = xp.minimum(cb, b), xp.minimum(cs, a)
    source = cs
    if rule.mode != "normal":
        source = (1.0 - b) * cs + a * b * BLEND[rule.mode](_straight(cb, b), _straight(cs, a))
    share_a, share_b = SHARES[rule.operator](a, b)
    _, _, alpha = _shares(a, b, rule.operator)
    color = share_a * source + share_b * cb
    if rule.operator == "lighter":
        color = xp.minimum(color, alpha)
    return color, None if ab is None else alpha


def _shares(a: Values, b: Values, operator: str) -> tuple[Values, Values, Values]:
    """Return as Fa, ab Fb and ao."""
    share_a, share_b = SHARES[operator](a, b)
    top, bottom = a * share_a, b * share_b
    if operator == "source-over":
        return top, bottom, lerp(b, b * 0.0 + 1.0, a)
    alpha = top + bottom
    return top, bottom, namespace(a).clip(alpha, max=1.0) if operator == "lighter" else alpha


def _straight(color: Values, alpha: Values) -> Values:
    """Return premultiplied colours divided by their alpha, 0 where that is 0."""
    xp = namespace(color)
    return xp.clip(xp.where(alpha == 0.0, 0.0, color / xp.where(alpha == 0.0, 1.0, alpha)), max=1.0)


def _curved(color: Values, alpha: Values, rule: Rule, curve: Any) -> Values:
    """Return the colours sent through a curve, by way of straight ones where they are premultiplied."""
    if not rule.premultiplied or alpha is None:
        return curve(color)
    return curve(_straight(color, alpha)) * alpha


def _kept(result: Values, raw: Values, hidden: Values) -> Values:
    """Return `raw` where `hidden`, bit for bit, with the gradient of `result` where the two agree but for rounding."""
    xp = namespace(result)
    if is_tensor(result):
        result = xp.where(hidden, result + (raw - result).detach(), result)
    return xp.where(hidden & (result != raw), raw, result)


def lerp(start: Values, end: Values, t: Values) -> Values:
    """Return ``start + (end - start) t``, exactly `start` at 0 and exactly `end` at 1."""
    step = end - start
    if isinstance(t, float):
        return start + step * t if t < 0.5 else end - step * (1.0 - t)
    return namespace(step).where(t < 0.5, start + step * t, end - step * (1.0 - t))


# Whole images


def weighted_layer(above: Unpacked, opacity: float, mask: Values, premultiplied: bool) -> tuple[Values, Values]:
    """Return the source's colour and its alpha times opacity times mask, in [0, 1]; None where all of that is 1.

    Premultiplied colours are clipped to the source's own alpha and weighted like it.
    """
    xp = namespace(above.pixels)
    color, weight = scaled(above, above.color), None
    if above.alpha:
        weight = xp.clip(scaled(above, above.opacity), 0.0, 1.0)
    share = _share(above, opacity, mask)
    if share is None:
        return color, weight
    if premultiplied:
        color = xp.clip(color, 0.0, 1.0)
        color = (color if weight is None else xp.minimum(color, weight)) * share
    return color, share if weight is None else weight * share


def _share(above: Unpacked, opacity: float, mask: Values) -> Values:
    """Return opacity times mask, (N or 1, 1, H, W) in [0, 1], or None where that is 1."""
    share: Values = None
    if mask is not None:
        kind: Any = working(above.pixels)
        if is_tensor(mask):
            share = mask.to(kind.dtype) / mask_scale(mask)
        else:
            own = np.float64 if above.integer else kind.dtype
            share = np.asarray(mask, np.result_type(mask, own) if mask.dtype.kind == "f" else own) / mask_scale(mask)
        share = namespace(share).clip(share, 0.0, 1.0)
        if above.integer:
            share = np.nan_to_num(share, nan=0.0)
    if opacity != 1.0:
        if share is None:
            share = namespace(above.pixels).ones_like(scaled(above, above.pixels[:, :1]))
        share = share * opacity
    return share


def merge_images(
    below: Unpacked, above: Unpacked, window: Window, rule: Rule, opacity: float, mask: Values, threads: int
) -> Values:
    """Return the pixels of the whole result, (N, C, H, W) of the backdrop's dtype."""
    if is_tensor(below.pixels):
        return _merge_tensors(below, above, window, rule, opacity, mask)
    fast = _merge_bytes(below, above, window, rule, opacity, mask, threads)
    if fast is not None:
        return fast
    pixels: Any = below.pixels
    out = pixels.copy(order="K")
    if rule.operator not in KEEPING:
        _clear_outside(out, below, window)
    height, width = window.size
    step = max(1, _PIECE // max(width, 1))

    def work(start: int, stop: int) -> None:
        for top in range(start, stop, step):
            _merge_rows(out, below, above, window, rule, opacity, mask, slice(top, min(top + step, stop)))

    if width and out.shape[0]:
        in_parts(work, height, threads)
    return out


def _merge_bytes(
    below: Unpacked, above: Unpacked, window: Window, rule: Rule, opacity: float, mask: Values, threads: int
) -> Array | None:
    """Return the result by one of the kernels for 8-bit pictures, or None."""
    if not below.dtype == above.dtype == "uint8" or below.high - below.low != 255 or rule.linear or rule.premultiplied:
        return None
    pixels: Any = below.pixels
    layers: Any = above.pixels
    ground = pixels[:, :, window.below[0], window.below[1]]
    layer = layers[:, :, window.above[0], window.above[1]]
    weights = None if mask is None else mask[:, :, window.above[0], window.above[1]]
    part = fast_pixels(below, above, ground, layer, rule.mode, rule.operator, opacity, weights, threads)
    if part is None or part.shape == pixels.shape:
        return part
    out: Array = pixels.copy(order="K")
    out[:, : part.shape[1], window.below[0], window.below[1]] = part
    return out


def _clear_outside(out: Values, below: Unpacked, window: Window) -> None:
    """Make everything transparent, or black where there is no alpha, except the window."""
    channels = out.shape[1] if below.alpha else below.colors
    kept = out[:, :channels, window.below[0], window.below[1]].copy()
    out[:, :channels] = below.low
    out[:, :channels, window.below[0], window.below[1]] = kept


def _merge_rows(
    out: Array,
    below: Unpacked,
    above: Unpacked,
    window: Window,
    rule: Rule,
    opacity: float,
    mask: Values,
    rows: slice,
) -> None:
    """Write some rows of the window, counted from its top."""
    first, last = rows.start, rows.stop
    target = slice(window.below[0].start + first, window.below[0].start + last), window.below[1]
    origin = slice(window.above[0].start + first, window.above[0].start + last), window.above[1]
    view = out[:, :, target[0], target[1]]
    ground = _part(below, view)
    layer = _part(above, above.pixels[:, :, origin[0], origin[1]])
    mask = None if mask is None else mask[:, :, origin[0], origin[1]]
    source, weight = weighted_layer(layer, opacity, mask, rule.premultiplied)
    backdrop_alpha = None if ground.opacity is None else scaled(ground, ground.opacity)
    color, alpha = merge(scaled(ground, ground.color), backdrop_alpha, source, weight, rule)
    hidden = weight == 0.0 if weight is not None and rule.operator in KEEPING else None
    _store(view[:, : below.colors], color, below, hidden)
    if alpha is not None:
        _store(view[:, -1:], alpha, below, hidden)


def _store(view: Array, values: Array, below: Unpacked, hidden: Array | None) -> None:
    """Write values in [0, 1] into a view of the result, except where the source is hidden."""
    low, high = below.low, below.high
    if below.integer:
        values = quantize(values * (high - low) + (low + TICK), low, high, below.dtype)
    else:
        values = unscaled(below, values)
    if hidden is None:
        view[...] = values
    else:
        np.copyto(view, values, where=~hidden, casting="same_kind")


def _part(opened: Unpacked, pixels: Values) -> Unpacked:
    """Return some rows of an image as planes in memory."""
    return Unpacked(
        np.ascontiguousarray(pixels),
        opened.colors,
        opened.alpha,
        opened.low,
        opened.high,
        opened.kind,
        opened.dtype,
        opened.source,
        opened.axis,
        opened.name,
    )


def _merge_tensors(
    below: Unpacked, above: Unpacked, window: Window, rule: Rule, opacity: float, mask: Values
) -> Values:
    """Merge floating-point tensors, differentiably."""
    torch = namespace(below.pixels)
    pixels: Any = below.pixels
    place_below = (slice(None), slice(None), *window.below)
    place_above = (slice(None), slice(None), *window.above)
    source, weight = weighted_layer(above, opacity, mask, rule.premultiplied)
    weight = None if weight is None else weight[place_above]
    ground = scaled(below, pixels)[place_below]
    backdrop_alpha = ground[:, -1:] if below.alpha else None
    color, alpha = merge(ground[:, : below.colors], backdrop_alpha, source[place_above], weight, rule)
    color = color.expand(-1, below.colors, -1, -1)
    part = unscaled(below, color if alpha is None else torch.cat([color, alpha], 1)).to(pixels.dtype)
    if weight is not None and rule.operator in KEEPING:
        part = _kept(part, pixels[place_below], weight == 0.0)
    if window.size == below.size:
        return part
    out = pixels.clone() if rule.operator in KEEPING else torch.full_like(pixels, below.low)
    out[place_below] = part
    return out
