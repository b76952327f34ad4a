"""W3C Compositing and Blending Level 1, one pixel at a time: slow, in exact fractions where roots allow it."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["OPERATORS", "SEPARABLE", "blend", "composite_pixel", "half_up", "pillow_over_pixel"]


def _root(x):
    """The square root of a fraction to 30 digits."""
    scale = 10**60
    return Fraction(math.isqrt(int(x * scale)), 10**30)


def multiply(b, s):
    return b * s


def screen(b, s):
    return 1 - (1 - b) * (1 - s)


def hard_light(b, s):
    return multiply(b, 2 * s) if 2 * s <= 1 else screen(b, 2 * s - 1)


def overlay(b, s):
    return hard_light(s, b)


def color_dodge(b, s):
    if b == 0:
        return b
    return s if s == 1 else min(b * 0 + 1, b / (1 - s))


def color_burn(b, s):
    if b == 1:
        return b
    return s if s == 0 else 1 - min(b * 0 + 1, (1 - b) / s)


def soft_light(b, s):
    if 2 * s <= 1:
        return b - (1 - 2 * s) * b * (1 - b)
    d = ((16 * b - 12) * b + 4) * b if 4 * b <= 1 else _root(b)
    return b + (2 * s - 1) * (d - b)


SEPARABLE = {
    "normal": lambda b, s: s,
    "multiply": multiply,
    "screen": screen,
    "overlay": overlay,
    "darken": min,
    "lighten": max,
    "color-dodge": color_dodge,
    "color-burn": color_burn,
    "hard-light": hard_light,
    "soft-light": soft_light,
    "difference": lambda b, s: abs(b - s),
    "exclusion": lambda b, s: b + s - 2 * b * s,
}


def lum(c):
    return Fraction(3, 10) * c[0] + Fraction(59, 100) * c[1] + Fraction(11, 100) * c[2]


def clip_color(c):
    level, low, high = lum(c), min(c), max(c)
    if low < 0:
        c = [level + (x - level) * level / (level - low) for x in c]
    if high > 1:
        c = [level + (x - level) * (1 - level) / (high - level) for x in c]
    return c


def set_lum(c, level):
    d = level - lum(c)
    return clip_color([x + d for x in c])


def sat(c):
    return max(c) - min(c)


def set_sat(c, s):
    low, middle, high = sorted(range(3), key=lambda i: c[i])
    result = [Fraction(0)] * 3
    if c[high] > c[low]:
        result[middle] = (c[middle] - c[low]) * s / (c[high] - c[low])
        result[high] = s
    result[low] = Fraction(0)
    return result


NON_SEPARABLE = {
    "hue": lambda b, s: set_lum(set_sat(s, sat(b)), lum(b)),
    "saturation": lambda b, s: set_lum(set_sat(b, sat(s)), lum(b)),
    "color": lambda b, s: set_lum(s, lum(b)),
    "luminosity": lambda b, s: set_lum(b, lum(s)),
}

OPERATORS = {
    "clear": lambda a, b: (0, 0),
    "copy": lambda a, b: (1, 0),
    "destination": lambda a, b: (0, 1),
    "source-over": lambda a, b: (1, 1 - a),
    "destination-over": lambda a, b: (1 - b, 1),
    "source-in": lambda a, b: (b, 0),
    "destination-in": lambda a, b: (0, a),
    "source-out": lambda a, b: (1 - b, 0),
    "destination-out": lambda a, b: (0, 1 - a),
    "source-atop": lambda a, b: (b, 1 - a),
    "destination-atop": lambda a, b: (1 - b, a),
    "xor": lambda a, b: (1 - b, 1 - a),
    "lighter": lambda a, b: (1, 1),
}


def blend(mode, b, s):
    """B(Cb, Cs) of two pixels; grey ones stand for red = green = blue in the last four modes."""
    if mode in SEPARABLE:
        return [SEPARABLE[mode](x, y) for x, y in zip(b, s, strict=True)]
    if len(b) == 1:
        return NON_SEPARABLE[mode](b * 3, s * 3)[:1]
    return NON_SEPARABLE[mode](b, s)


def composite_pixel(source, source_alpha, backdrop, backdrop_alpha, mode="normal", operator="source-over"):
    """Colour and alpha of the result, from values in [0, 1]; the backdrop where a keeping operator meets nothing."""
    a, b = source_alpha, backdrop_alpha
    fa, fb = OPERATORS[operator](a, b)
    keeping = OPERATORS[operator](0, b)[1] == 1
    if (a == 0 and keeping) or operator == "destination":
        return list(backdrop), b
    mixed = [(1 - b) * s + b * x for s, x in zip(source, blend(mode, backdrop, source), strict=True)]
    color = [a * fa * s + b * fb * c for s, c in zip(mixed, backdrop, strict=True)]
    alpha = a * fa + b * fb
    if operator == "lighter":
        color, alpha = [min(x, 1) for x in color], min(alpha, 1)
    return [x / alpha if alpha else Fraction(0) for x in color], alpha


def half_up(x):
    """The nearest integer, halves up."""
    return math.floor(x + Fraction(1, 2))


def pillow_over_pixel(source, source_alpha, backdrop, backdrop_alpha):
    """Pillow's `alpha_composite` on 8-bit integers."""
    if source_alpha == 0:
        return list(backdrop), backdrop_alpha
    rest = backdrop_alpha * (255 - source_alpha)
    out = source_alpha * 255 + rest
    first = source_alpha * 255 * 255 * 128 // out
    second = 255 * 128 - first
    color = []
    for s, d in zip(source, backdrop, strict=True):
        c = s * first + d * second + (128 << 7)
        color.append(((c >> 8) + c) >> 8 >> 7)
    return color, (((out + 128) >> 8) + out + 128) >> 8
