"""The blend modes and Porter-Duff operators of W3C Compositing and Blending Level 1 [1]_, as formulas.

Values lie in [0, 1]; `b` is the backdrop and `s` the source, (N, C, H, W), arrays or tensors: one formula serves both.
Gradients are finite everywhere, at the kinks and corners too.

References
----------
.. [1] W3C, "Compositing and Blending Level 1", sections 9 and 10; the same formulas stand in ISO 32000-1, section 11.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from cvkit.imgops._pixels import Values, namespace
from cvkit.imgops._spaces import weighted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODES", "OPERATORS"]

Mode: TypeAlias = Literal[
    "normal",
    "multiply",
    "screen",
    "overlay",
    "darken",
    "lighten",
    "color-dodge",
    "color-burn",
    "hard-light",
    "soft-light",
    "difference",
    "exclusion",
    "hue",
    "saturation",
    "color",
    "luminosity",
]
Operator: TypeAlias = Literal[
    "clear",
    "copy",
    "destination",
    "source-over",
    "destination-over",
    "source-in",
    "destination-in",
    "source-out",
    "destination-out",
    "source-atop",
    "destination-atop",
    "xor",
    "lighter",
]


# Separable modes: a channel of the result depends on that channel alone.


def _normal(_: Values, s: Values) -> Values:
    return s


def _multiply(b: Values, s: Values) -> Values:
    return b * s


def _screen(b: Values, s: Values) -> Values:
    return b + s * (1.0 - b)  # never above 1 by a last bit


def _overlay(b: Values, s: Values) -> Values:
    return _hard_light(s, b)


def _darken(b: Values, s: Values) -> Values:
    return namespace(b).minimum(b, s)


def _lighten(b: Values, s: Values) -> Values:
    return namespace(b).maximum(b, s)


def _color_dodge(b: Values, s: Values) -> Values:
    # 1 where b >= 1 - s, but 0 where b = 0 and s = 1.
    xp = namespace(b)
    free = 1.0 - s
    full = free <= b
    return xp.where(full, xp.where(b == 0.0, b, 1.0), b / xp.where(full, 1.0, free))


def _color_burn(b: Values, s: Values) -> Values:
    # 0 where s <= 1 - b, but 1 where b = 1 and s = 0.
    xp = namespace(b)
    missing = 1.0 - b
    empty = s <= missing
    return xp.where(empty, xp.where(b == 1.0, b, 0.0), 1.0 - missing / xp.where(empty, 1.0, s))


def _hard_light(b: Values, s: Values) -> Values:
    xp = namespace(b)
    return xp.where(s <= 0.5, b * (2.0 * s), _screen(b, 2.0 * s - 1.0))


def _soft_light(b: Values, s: Values) -> Values:
    xp = namespace(b)
    root = xp.sqrt(xp.clip(b, min=0.25))  # the root has no slope at 0, where it is not used
    target = xp.where(b <= 0.25, ((16.0 * b - 12.0) * b + 4.0) * b, root)
    lean = 2.0 * s - 1.0
    return xp.where(s <= 0.5, b + lean * b * (1.0 - b), b + lean * (target - b))


def _difference(b: Values, s: Values) -> Values:
    xp = namespace(b)
    return xp.maximum(b, s) - xp.minimum(b, s)


def _exclusion(b: Values, s: Values) -> Values:
    return b + s - 2.0 * b * s


# Non-separable modes: hue, saturation and lightness of the pixel.


def _hue(b: Values, s: Values) -> Values:
    return _set_lum(_set_sat(s, _sat(b)), _lum(b))


def _saturation(b: Values, s: Values) -> Values:
    return _set_lum(_set_sat(b, _sat(s)), _lum(b))


def _color(b: Values, s: Values) -> Values:
    return _set_lum(s, _lum(b))


def _luminosity(b: Values, s: Values) -> Values:
    return _set_lum(b, _lum(s))


def _lum(c: Values) -> Values:
    return weighted(c, (0.3, 0.59, 0.11)) if c.shape[1] == 3 else c


def _sat(c: Values) -> Values:
    return _highest(c) - _lowest(c)


def _lowest(c: Values) -> Values:
    return namespace(c).amin(c, 1)[:, None]


def _highest(c: Values) -> Values:
    return namespace(c).amax(c, 1)[:, None]


def _set_lum(c: Values, lum: Values) -> Values:
    return _clip_color(c + (lum - _lum(c)))


def _set_sat(c: Values, sat: Values) -> Values:
    # Lowest to 0, highest to `sat`, the middle one in proportion; a grey pixel has no saturation to spread.
    xp = namespace(c)
    low = _lowest(c)
    spread = _highest(c) - low
    return (c - low) * (sat / xp.where(spread == 0.0, 1.0, spread))


def _clip_color(c: Values) -> Values:
    """Pull a colour towards its lightness until it lies in [0, 1]."""
    xp = namespace(c)
    lum, low, high = _lum(c), _lowest(c), _highest(c)
    below, above = low < 0.0, high > 1.0
    c = xp.where(below, lum + (c - lum) * (lum / xp.where(below, lum - low, 1.0)), c)
    c = xp.where(above, lum + (c - lum) * ((1.0 - lum) / xp.where(above, high - lum, 1.0)), c)
    return xp.clip(c, 0.0, 1.0)


SEPARABLE: dict[str, Callable[[Values, Values], Values]] = {
    "normal": _normal,
    "multiply": _multiply,
    "screen": _screen,
    "overlay": _overlay,
    "darken": _darken,
    "lighten": _lighten,
    "color-dodge": _color_dodge,
    "color-burn": _color_burn,
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": _difference,
    "exclusion": _exclusion,
}
NON_SEPARABLE: dict[str, Callable[[Values, Values], Values]] = {
    "hue": _hue,
    "saturation": _saturation,
    "color": _color,
    "luminosity": _luminosity,
}
BLEND = {**SEPARABLE, **NON_SEPARABLE}

MODES: tuple[str, ...] = tuple(BLEND)
"""The 16 blend modes of W3C Compositing and Blending Level 1, by name."""


# Porter-Duff: the shares (Fa, Fb) of source and backdrop, from their alphas.
SHARES: dict[str, Callable[[Values, Values], tuple[Values, Values]]] = {
    "clear": lambda a, b: (a * 0.0, b * 0.0),
    "copy": lambda a, b: (a * 0.0 + 1.0, b * 0.0),
    "destination": lambda a, b: (a * 0.0, b * 0.0 + 1.0),
    "source-over": lambda a, b: (b * 0.0 + 1.0, 1.0 - a),
    "destination-over": lambda a, b: (1.0 - b, a * 0.0 + 1.0),
    "source-in": lambda a, b: (b, a * 0.0),
    "destination-in": lambda a, b: (b * 0.0, a),
    "source-out": lambda a, b: (1.0 - b, a * 0.0),
    "destination-out": lambda a, b: (b * 0.0, 1.0 - a),
    "source-atop": lambda a, b: (b, 1.0 - a),
    "destination-atop": lambda a, b: (1.0 - b, a),
    "xor": lambda a, b: (1.0 - b, 1.0 - a),
    "lighter": lambda a, b: (a * 0.0 + 1.0, b * 0.0 + 1.0),
}

OPERATORS: tuple[str, ...] = tuple(SHARES)
"""The 12 Porter-Duff operators and ``'lighter'``, by name."""

# Operators that leave the backdrop alone where the source is transparent, beside it too.
KEEPING = frozenset(
    {"destination", "source-over", "destination-over", "destination-out", "source-atop", "xor", "lighter"}
)
# Operators whose result over an opaque backdrop is opaque.
COVERING = frozenset({"destination", "source-over", "destination-over", "source-atop", "lighter"})
