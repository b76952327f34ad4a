"""The speed tricks of blending 8-bit pictures; the plain twin of all of them is the float64 path of `_merge`.

Each works on short stretches that stay in the second-level cache, gives exactly the rounded result, and is taken
only where its conditions hold; everything else goes the plain way.
"""

from __future__ import annotations

import sys
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILModule

from cvkit.imgops._kernels.memory import dense, in_parts
from cvkit.imgops.modes import BLEND, SEPARABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array
    from cvkit.imgops._kinds import Unpacked

__all__ = [
    "add_bytes",
    "blend_bytes",
    "mask_bytes",
    "mix_bytes",
    "over_pillow",
    "over_words",
    "paired",
    "small_fraction",
    "snapped_share",
]

_CHUNK = 1 << 18  # elements of 16 bit handled at once
_BYTES = 1 << 20  # elements of 8 bit handled at once
_LOOKED_UP = 1 << 17  # pairs of bytes looked up at once, of which each needs an index of 8 bytes
_FLOATS = 1 << 16  # elements of float32 handled at once
_WORDS = 1 << 15  # pixels of 32 bit handled at once
_LANES = np.uint32(0x00FF00FF)
_OPAQUE = np.uint32(0xFF000000)


def paired(below: Array, above: Array, kernel: Callable[[Array, Array, Array], None], threads: int = 1) -> Array:
    """Return what a kernel on flat bytes makes of two pictures (N, C, H, W), in the memory order of the first."""
    ground, order = dense(below)
    layer = above if above.shape == below.shape else np.broadcast_to(above, below.shape)
    layer = np.ascontiguousarray(layer.transpose(order))
    result = np.empty_like(ground)
    flat = [x.reshape(-1) for x in (ground, layer, result)]
    if threads == 1:
        kernel(*flat)
    else:
        in_parts(lambda start, stop: kernel(*(x[start:stop] for x in flat)), result.size, threads)
    return result.transpose(np.argsort(order))


# Opaque on opaque: flat bytes


def blend_bytes(mode: str, opacity: float) -> Callable[[Array, Array, Array], None]:
    """Return the kernel of a separable mode at an opacity."""
    if opacity == 1.0 and mode in _DIRECT:
        return _DIRECT[mode]
    if mode == "normal":
        return mix_bytes(opacity)
    table = _pair_table(mode, opacity)

    def look_up(b: Array, s: Array, out: Array) -> None:
        # Any formula costs one gather from 64 KB, which stay in the cache.
        room = min(_LOOKED_UP, len(out))
        pairs, index = np.empty(room, np.uint16), np.empty(room, np.intp)
        for part in _parts(len(out), _LOOKED_UP):
            pair = pairs[: len(out[part])]
            np.copyto(pair, b[part])
            pair <<= 8
            pair |= s[part]
            place = index[: len(pair)]
            np.copyto(place, pair)
            np.take(table, place, out=out[part], mode="wrap")

    return look_up


@lru_cache(maxsize=32)
def _pair_table(mode: str, opacity: float) -> Array:
    """Return the exactly rounded result for all pairs of backdrop (rows) and source levels, flat."""
    levels = np.arange(256) / 255.0
    b, s = (x[None, None] for x in np.meshgrid(levels, levels, indexing="ij"))
    mixed = b + (BLEND[mode](b, s) - b) * opacity
    table: Array = np.floor(mixed * 255.0 + (0.5 + 2.0**-35)).astype(np.uint8)
    return table.reshape(-1)


def _multiply(b: Array, s: Array, out: Array) -> None:
    product = np.empty(min(_CHUNK, len(out)), np.uint16)
    for part in _parts(len(out), _CHUNK):
        p = product[: len(out[part])]
        np.copyto(p, s[part])
        p *= b[part]
        _divide(p, out[part])


def _screen(b: Array, s: Array, out: Array) -> None:
    # 255 - (255 - b) (255 - s) / 255; the quotient is never a half, so none is turned around
    product, other = np.empty(min(_CHUNK, len(out)), np.uint16), np.empty(min(_CHUNK, len(out)), np.uint8)
    for part in _parts(len(out), _CHUNK):
        p, q = product[: len(out[part])], other[: len(out[part])]
        np.invert(s[part], out=q)
        np.copyto(p, q)
        np.invert(b[part], out=q)
        p *= q
        _divide(p, out[part])
        np.invert(out[part], out=out[part])


def _difference(b: Array, s: Array, out: Array) -> None:
    # b + s - 2 min(b, s), modulo 256 throughout: no room is needed besides the result
    for part in _parts(len(out), _CHUNK):
        o = out[part]
        np.minimum(b[part], s[part], out=o)
        np.add(o, o, out=o)
        np.subtract(b[part], o, out=o)
        np.add(o, s[part], out=o)


def add_bytes(b: Array, s: Array, out: Array) -> None:
    """Add with saturation: s + min(b, 255 - s), eight bits wide throughout."""
    for part in _parts(len(out), _BYTES):
        o = out[part]
        np.invert(s[part], out=o)
        np.minimum(o, b[part], out=o)
        np.add(o, s[part], out=o)


def _copy(_: Array, s: Array, out: Array) -> None:
    np.copyto(out, s)


def _darken(b: Array, s: Array, out: Array) -> None:
    np.minimum(b, s, out=out)


def _lighten(b: Array, s: Array, out: Array) -> None:
    np.maximum(b, s, out=out)


_DIRECT: dict[str, Callable[[Array, Array, Array], None]] = {
    "normal": _copy,
    "multiply": _multiply,
    "screen": _screen,
    "darken": _darken,
    "lighten": _lighten,
    "difference": _difference,
}


def mix_bytes(t: float) -> Callable[[Array, Array, Array], None]:
    """Return the kernel of (1 - t) b + t s: in whole numbers of 16 bit where a fraction serves, else in float32."""
    fraction = small_fraction(t)
    return _mix_floats(t) if fraction is None else _mix_words(*fraction)


def _mix_words(m: int, whole: int) -> Callable[[Array, Array, Array], None]:
    """Return the kernel of ((whole - m) b + m s + whole / 2) // whole, which never leaves 16 bit up to whole = 256."""
    half = whole // 2

    def mix(b: Array, s: Array, out: Array) -> None:
        first, second = np.empty((2, min(_CHUNK, len(out))), np.uint16)
        for part in _parts(len(out), _CHUNK):
            f, g = first[: len(out[part])], second[: len(out[part])]
            np.copyto(f, b[part])
            np.copyto(g, s[part])
            f *= whole - m
            g *= m
            f += g
            f += half
            f //= whole
            np.copyto(out[part], f, casting="unsafe")

    return mix


def _mix_floats(t: float) -> Callable[[Array, Array, Array], None]:
    share = np.float32(snapped_share(t))
    rest = np.float32(1.0) - share
    # Results other than halves are 1e-3 away from one at the snapped share, float32 errs by 5e-5 at most.
    half = np.float32(0.5 + 2.0**-12)

    def mix(b: Array, s: Array, out: Array) -> None:
        first, second = np.empty((2, min(_FLOATS, len(out))), np.float32)
        for part in _parts(len(out), _FLOATS):
            f, g = first[: len(out[part])], second[: len(out[part])]
            np.multiply(b[part], rest, out=f)
            np.multiply(s[part], share, out=g)
            f += g
            f += half
            np.copyto(out[part], f, casting="unsafe")

    return mix


def small_fraction(t: float) -> tuple[int, int] | None:
    """Return the simplest m / n with n up to 256 that gives the same rounded results as `t` for all pairs of bytes."""
    low, high = _same_results(t)
    whole = np.arange(1, 257)
    found = np.rint(whole * (t if low == high else (low + high) / 2.0))
    shares = found / whole
    fits = np.abs(shares - t) < 2.0**-40 if low == high else (shares > low + 2.0**-40) & (shares < high - 2.0**-40)
    first = int(np.argmax(fits))
    return (int(found[first]), int(whole[first])) if fits[first] else None


def snapped_share(t: float) -> float:
    """Return the share in the middle of all those that give the same rounded results for all pairs of bytes."""
    low, high = _same_results(t)
    return t if low == high else (low + high) / 2.0


def _same_results(t: float) -> tuple[float, float]:
    """Return the ends of the open interval of shares that give the same rounded results for all pairs of bytes.

    The results change where ``d t`` is a half for a difference d of two bytes, at odd multiples of 1 / 2d; both ends
    are `t` itself where it is one of these.
    """
    d = np.arange(1, 256)
    steps = np.floor(d * t - 0.5 + 2.0**-35)  # of the last half at or below
    low = (2.0 * steps + 1.0) / (2.0 * d)
    high = (2.0 * steps + 3.0) / (2.0 * d)
    nearest = float(low.max())
    if abs(nearest - t) < 2.0**-40 or not 0.0 < t < 1.0:
        return t, t
    return max(nearest, 0.0), min(float(high.min()), 1.0)


def _divide(p: Array, out: Array) -> None:
    """Write 16-bit products of two bytes, divided by 255 and rounded, as bytes."""
    p += 127
    p //= 255
    np.copyto(out, p, casting="unsafe")


# A mask of bytes


def mask_bytes(below: Array, above: Array, mask: Array, threads: int = 1) -> Array:
    """Return (1 - m) b + m s for pictures (N, C, H, W) of bytes, in the order of the first.

    Masks are (N, 1, H, W), bytes or floats, which are clipped to [0, 1]; NaN is 0.
    """
    ground, order = dense(below)
    layer = np.ascontiguousarray(np.broadcast_to(above, below.shape).transpose(order))
    weights = np.broadcast_to(mask, (below.shape[0], 1, *below.shape[2:]))
    result = np.empty_like(ground)
    if order[-1] == 1 and below.shape[1] > 1:
        spread = np.ascontiguousarray(weights.transpose(order))
        b, s, m, out = (x.reshape(-1) for x in (ground, layer, spread, result))
        _masked(b, s, m, out, below.shape[1], threads)
    else:
        wide = np.broadcast_to(weights, below.shape).transpose(order)
        for i in range(len(ground)):
            b, s, m, out = (np.ascontiguousarray(x[i]).reshape(-1) for x in (ground, layer, wide, result))
            _masked(b, s, m, out, 1, threads)
    return result.transpose(np.argsort(order))


def _masked(b: Array, s: Array, mask: Array, out: Array, channels: int, threads: int) -> None:
    """Mix flat bytes by a mask of one value for so many neighbours."""
    pixels = _CHUNK // channels
    stretch = _masked_bytes if mask.dtype == np.uint8 else _masked_floats
    in_parts(
        lambda start, stop: stretch(b, s, mask, out, channels, range(start, stop, pixels), stop), len(mask), threads
    )


def _masked_floats(b: Array, s: Array, mask: Array, out: Array, channels: int, starts: range, stop: int) -> None:
    for first in starts:
        last = min(first + starts.step, stop)
        part = slice(first * channels, last * channels)
        weights = np.clip(np.nan_to_num(mask[first:last].astype(np.float64), nan=0.0), 0.0, 1.0)
        step = s[part].astype(np.float64)
        step -= b[part]
        step *= weights if channels == 1 else np.repeat(weights, channels)
        step += b[part]
        step += 0.5 + 2.0**-35
        np.copyto(out[part], step, casting="unsafe")


def _masked_bytes(b: Array, s: Array, mask: Array, out: Array, channels: int, starts: range, stop: int) -> None:

    # Repeating the mask within a stretch is much cheaper than broadcasting it over the channels.
    weights, product, other = np.empty((3, min(starts.step, stop) * channels), np.uint16)
    for first in starts:
        last = min(first + starts.step, stop)
        part = slice(first * channels, last * channels)
        count = part.stop - part.start
        w, p, q = weights[:count], product[:count], other[:count]
        for k in range(channels):
            w[k::channels] = mask[first:last]
        np.copyto(p, s[part])
        p *= w
        w ^= 255
        np.copyto(q, b[part])
        q *= w
        p += q
        _divide(p, out[part])


# Translucent on anything: pixels as words of 32 bit


def over_words(below: Array, above: Array, threads: int = 1) -> Array | None:
    """Return source-over of pictures (N, 4, H, W) of bytes, alpha last, or None on machines of the other byte order."""
    if sys.byteorder != "little":
        return None
    last = (0, 2, 3, 1)
    ground = np.ascontiguousarray(below.transpose(last))
    layer = np.ascontiguousarray(np.broadcast_to(above, below.shape).transpose(last))
    result = np.empty_like(ground)
    d, s, out = (x.reshape(-1).view(np.uint32) for x in (ground, layer, result))

    def work(start: int, stop: int) -> None:
        room = np.empty((6, _WORDS), np.uint32)
        for first in range(start, stop, _WORDS):
            part = slice(first, min(first + _WORDS, stop))
            buffers = room[:, : part.stop - part.start]
            if d[part].min() >= _OPAQUE:
                _over_opaque(d[part], s[part], out[part], buffers)
            else:
                _over_translucent(d[part], s[part], out[part], buffers)

    in_parts(work, len(out), threads)
    return result.transpose(0, 3, 1, 2)


def _over_opaque(d: Array, s: Array, out: Array, room: Array) -> None:
    """Mix two channels at once in the halves of a word; division by 255 is exact in each half."""
    a, rest, x, y, _, _ = room
    np.right_shift(s, 24, out=a)
    np.bitwise_xor(a, 255, out=rest)
    for shift in (0, 8):
        np.right_shift(s, shift, out=x)
        x &= _LANES if shift == 0 else np.uint32(255)
        x *= a
        np.right_shift(d, shift, out=y)
        y &= _LANES if shift == 0 else np.uint32(255)
        y *= rest
        x += y
        x += np.uint32(0x00800080)
        np.right_shift(x, 8, out=y)
        y &= _LANES
        x += y
        if shift == 0:
            x >>= 8
            np.bitwise_and(x, _LANES, out=out)
        else:
            x &= np.uint32(0xFF00)
            out |= x
    out |= _OPAQUE


def _over_translucent(d: Array, s: Array, out: Array, room: Array) -> None:
    """Go from the backdrop's colour towards the source's by as / ao, in steps of 2^-24."""
    a, b, share, x, y, place = room
    np.right_shift(s, 24, out=a)
    np.right_shift(d, 24, out=b)
    np.left_shift(a, 8, out=place)
    place |= b
    np.take(_share_table(), place, out=share, mode="clip")
    # ao = a + b - a b, in bytes
    np.multiply(a, b, out=x)
    x += 128
    np.right_shift(x, 8, out=y)
    x += y
    x >>= 8
    a += b
    a -= x
    np.left_shift(a, 24, out=out)
    for shift in (0, 8, 16):
        np.right_shift(s, shift, out=x)
        x &= np.uint32(255)
        np.right_shift(d, shift, out=y)
        y &= np.uint32(255)
        x -= y
        x *= share  # modulo 2^32, which the sum below undoes
        y <<= 24
        x += y
        x += _HALF
        x >>= 24
        x <<= shift
        out |= x


# With this offset and the corrections below, all pairs of alphas times all differences of colour come out exactly
# rounded, halves up (a test goes through them).
_HALF = np.uint32((1 << 23) + 122)
_CORRECTIONS = {
    1: ((67, 178), (107, 202), (116, 167), (167, 149), (176, 233), (197, 59), (208, 121), (247, 142), (251, 218)),
    -1: ((77, 142), (163, 244), (166, 101), (181, 131), (254, 133)),
}


@cache
def _share_table() -> Array:
    """Return as / ao in steps of 2^-24 for all pairs of alphas, source's first, flat."""
    a, b = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    whole = 255 * a + b * (255 - a)
    shares = (255 * a * (1 << 25) + whole) // np.maximum(2 * whole, 1)
    for step, pairs in _CORRECTIONS.items():
        shares[tuple(np.transpose(pairs))] += step
    words: Array = shares.astype(np.uint32)
    return words.reshape(-1)


# Pillow's own rule


def over_pillow(below: Array, above: Array) -> Array:
    """Return Pillow's alpha composite of pictures (N, 2 or 4, H, W) of bytes, alpha last."""
    mode = "RGBA" if below.shape[1] == 4 else "LA"
    ground = np.ascontiguousarray(below.transpose(0, 2, 3, 1))
    layer = np.ascontiguousarray(np.broadcast_to(above, below.shape).transpose(0, 2, 3, 1))
    result = np.empty_like(ground)
    # A stretch of rows at a time, so that Pillow's result is still in the cache when it is copied.
    rows = max(1, _BYTES // max(ground.shape[2] * len(mode), 1))
    for n, top in product(range(len(ground)), range(0, ground.shape[1], rows)):
        part = slice(top, top + rows)
        size = (ground.shape[2], len(ground[n, part]))
        pictures = [PILModule.frombuffer(mode, size, x[n, part], "raw", mode, 0, 1) for x in (ground, layer)]
        merged = PILModule.alpha_composite(*pictures)
        if mode == "RGBA" and _pillow_writes():
            _write(merged, result[n, part])
        else:
            result[n, part] = np.asarray(merged)
    return result.transpose(0, 3, 1, 2)


def _write(picture: PILModule.Image, target: Array) -> None:
    """Let Pillow copy an RGBA picture into an array, five times as fast as `numpy.asarray`."""
    mapped = PILModule.frombuffer("RGBA", picture.size, target, "raw", "RGBA", 0, 1)
    core: Any = mapped.im
    core.paste(picture.im, (0, 0, *picture.size))


@cache
def _pillow_writes() -> bool:
    """Return whether Pillow writes into an array that it was mapped on."""
    try:
        probe = np.zeros((2, 3, 4), np.uint8)
        _write(PILModule.new("RGBA", (3, 2), (1, 2, 3, 4)), probe)
        return bool((probe == [1, 2, 3, 4]).all())
    except Exception:  # noqa: BLE001  (whatever a future Pillow raises, the slow way is right)
        return False


# Which kernel


def fast_pixels(
    below: Unpacked, above: Unpacked, ground: Array, layer: Array, mode: str, operator: str, opacity: float,
    mask: Array | None, threads: int,
) -> Array | None:  # fmt: skip
    """Return the result for the overlap of two 8-bit pictures (N, C, H, W), or None where no kernel gives it."""
    plain = mode == "normal" and operator == "source-over"
    if mask is not None and (above.alpha or not (mask.dtype == np.uint8 or mask.dtype.kind == "f")):
        return None
    if below.alpha:
        both = above.alpha and below.colors == above.colors == 3
        return over_words(ground, layer, threads) if both and plain and opacity == 1.0 and mask is None else None
    if above.alpha or mask is not None:
        weights = layer[:, -1:] if mask is None else mask
        color = layer[:, : above.colors]
        return mask_bytes(ground[:, : below.colors], color, weights, threads) if plain and opacity == 1.0 else None
    color = layer[:, : above.colors]
    if operator in {"source-over", "source-atop"} and mode in SEPARABLE:
        return paired(ground[:, : below.colors], color, blend_bytes(mode, opacity), threads)
    if operator == "lighter" and mode == "normal" and opacity == 1.0:
        return paired(ground[:, : below.colors], color, add_bytes, threads)
    return None


def _parts(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
