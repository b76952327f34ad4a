"""Everyday things as clean pen strokes, each in several styles; `generate` makes them look drawn by hand.

Every function takes a random generator and returns the strokes of one drawing, arrays (P, 2) of x and y with y pointing
down, in a box of about [0, 1]. Which parts are there, how many, and how they are built differs from call to call, since
a set whose classes have one picture each would teach a generator to have one picture a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cvkit._types import Array

__all__ = ["SHAPES"]

Rng = np.random.Generator
Strokes = list["Array"]
Point = tuple[float, float]

_STEP = 0.05  # distance of the points of a line, so that a wobble can bend it


def _line(*corners: Point) -> Array:
    """Return a stroke through corners, with points between them."""
    xy = np.array(corners, np.float64)
    jumps = np.hypot(*np.diff(xy, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(jumps)])
    inner = np.linspace(0.0, along[-1], max(2, int(along[-1] / _STEP) + 1))
    at = np.sort(np.concatenate([inner, along[1:-1]]))
    return np.stack([np.interp(at, along, xy[:, 0]), np.interp(at, along, xy[:, 1])], axis=1)


def _arc(x: float, y: float, rx: float, ry: float, begin: float = 0.0, turn: float = 360.0) -> Array:
    """Return a part of an ellipse, from an angle in degrees (0 is right, 90 is down) through a turn."""
    count = max(6, int(abs(turn) / 360.0 * 6.5 * max(rx, ry) / _STEP))
    angle = np.radians(np.linspace(begin, begin + turn, count))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _round(rng: Rng, x: float, y: float, rx: float, ry: float) -> Array:
    """Return a closed ellipse begun anywhere, either way round, not quite closed or a bit too far."""
    return _arc(x, y, rx, ry, rng.uniform(0, 360), rng.choice([-1, 1]) * rng.normal(362, 9))


def _curve(*knots: Point) -> Array:
    """Return a smooth stroke through knots (Catmull-Rom)."""
    p = np.array([knots[0], *knots, knots[-1]], np.float64)
    t = np.linspace(0.0, 1.0, 7)[:-1, None]
    parts = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        parts.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.concatenate([*parts, p[-1:]])


def _box(rng: Rng, left: float, top: float, right: float, bottom: float) -> Strokes:
    """Return a rectangle: in one stroke from any corner, in two, or in four."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    first = int(rng.integers(4))
    c = [corners[(first + i) % 4] for i in range(5)]
    kind = rng.random()
    if kind < 0.6:
        return [_line(*c)]
    if kind < 0.85:
        return [_line(*c[:3]), _line(*c[2:])]
    return [_line(a, b) for a, b in pairwise(c)]


def _cup(rng: Rng) -> Strokes:
    slant, height = rng.uniform(0.0, 0.14), rng.uniform(0.55, 1.0)
    left, right = 0.0, 0.7
    strokes = [_curve((left, 0), (left + slant * 0.4, height * 0.6), (left + slant, height))]
    strokes += [_line((left + slant, height), (right - slant, height)), _line((right - slant, height), (right, 0))]
    if rng.random() < 0.4:
        strokes = [np.concatenate(strokes)]
    strokes.append(
        _round(rng, 0.35, 0.0, 0.35, rng.uniform(0.05, 0.12)) if rng.random() < 0.6 else _line((0, 0), (right, 0))
    )
    side, size = (right, 1.0) if rng.random() < 0.75 else (left, -1.0)
    size *= rng.uniform(0.16, 0.3)
    top, low = height * rng.uniform(0.12, 0.25), height * rng.uniform(0.6, 0.8)
    strokes.append(
        _curve((side, top), (side + size, top), (side + size, low), (side - np.sign(size) * slant * 0.6, low))
    )
    if rng.random() < 0.35:
        strokes.append(
            _curve(
                (side, top + 0.08), (side + size * 0.6, top + 0.1), (side + size * 0.6, low - 0.1), (side, low - 0.08)
            )
        )
    if rng.random() < 0.3:
        for x in rng.uniform(0.1, 0.25) + 0.2 * np.arange(rng.integers(1, 4)):
            strokes.append(_curve((x, -0.15), (x + 0.05, -0.22), (x - 0.03, -0.3), (x + 0.03, -0.4)))
    if rng.random() < 0.25:
        strokes.append(_curve((-0.15, height + 0.03), (0.3, height + 0.1), (0.85, height + 0.03)))
    return strokes


def _clock(rng: Rng) -> Strokes:
    strokes = [_round(rng, 0, 0, 1, rng.uniform(0.9, 1.1))]
    hour, minute = rng.uniform(0, 2 * np.pi, 2) if rng.random() < 0.6 else (0.0, -np.pi / 2)
    for angle, length in ((hour, rng.uniform(0.35, 0.5)), (minute, rng.uniform(0.6, 0.8))):
        strokes.append(_line((0, 0), (length * np.cos(angle), length * np.sin(angle))))
    if rng.random() < 0.25:
        strokes[-2:] = [np.concatenate([strokes[-2][::-1], strokes[-1]])]
    ticks = int(rng.choice([0, 4, 4, 12, 12]))
    for angle in np.arange(ticks) * 2 * np.pi / max(ticks, 1):
        inner = rng.uniform(0.76, 0.86)
        strokes.append(
            _line((inner * np.cos(angle), inner * np.sin(angle)), (0.95 * np.cos(angle), 0.95 * np.sin(angle)))
        )
    if rng.random() < 0.2:
        strokes += [_arc(s * 0.65, -0.95, 0.25, 0.2, 180, 180) for s in (-1, 1)]
    return strokes


def _envelope(rng: Rng) -> Strokes:
    height = rng.uniform(0.55, 0.8)
    strokes = _box(rng, 0, 0, 1, height)
    tip = height * rng.uniform(0.4, 0.7)
    if rng.random() < 0.7:
        strokes.append(_line((0, 0), (0.5, tip), (1, 0)))
    else:
        strokes += [_line((0, 0), (0.5, tip)), _line((1, 0), (0.5, tip))]
    if rng.random() < 0.35:
        strokes += [_line((0, height), (0.38, tip * 0.75)), _line((1, height), (0.62, tip * 0.75))]
    if rng.random() < 0.15:
        strokes.append(_round(rng, 0.5, tip, 0.07, 0.07))
    return strokes


def _fish(rng: Rng) -> Strokes:
    fat, tail = rng.uniform(0.25, 0.45), rng.uniform(0.2, 0.4)
    if rng.random() < 0.5:
        strokes = [_curve((1.35, -tail), (0.95, 0), (0.5, fat), (0, 0), (0.5, -fat), (0.95, 0), (1.35, tail))]
        strokes.append(
            _curve((1.35, -tail), (1.25, 0), (1.35, tail)) if rng.random() < 0.5 else _line((1.35, -tail), (1.35, tail))
        )
    else:
        strokes = [_round(rng, 0.5, 0, 0.5, fat), _line((0.97, 0), (1.35, -tail), (1.35, tail), (0.97, 0))]
    eye = _round(rng, 0.2, -fat * 0.25, 0.05, 0.05)
    strokes.append(eye if rng.random() < 0.7 else _line((0.2, -fat * 0.25), (0.22, -fat * 0.2)))
    if rng.random() < 0.5:
        strokes.append(_curve((0.33, -fat * 0.6), (0.4, 0), (0.33, fat * 0.6)))
    if rng.random() < 0.4:
        strokes.append(_curve((0.4, -fat * 0.95), (0.5, -fat * 1.5), (0.75, -fat * 0.8)))
    if rng.random() < 0.3:
        strokes.append(_curve((0.02, 0.03), (0.1, 0.07), (0.16, 0.03)))
    if rng.random() < 0.25:
        for x in (0.5, 0.65):
            strokes.append(_arc(x, 0, 0.06, 0.09, -90, 180))
    flip = rng.choice([-1.0, 1.0], p=[0.3, 0.7])
    return [stroke * (flip, 1.0) for stroke in strokes]


def _flower(rng: Rng) -> Strokes:
    heart, count = rng.uniform(0.12, 0.22), int(rng.integers(5, 9))
    strokes = [_round(rng, 0, 0, heart, heart)]
    turn = rng.uniform(0, 360)
    size = rng.uniform(0.9, 1.3) * np.pi * heart / count * 2
    if rng.random() < 0.55:
        for angle in turn + np.arange(count) * 360 / count:
            x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            strokes.append(
                _arc(x * (heart + size * 0.6), y * (heart + size * 0.6), size * 0.8, size * 0.8, angle - 150, 300)
            )
    else:
        angle = np.radians(turn + np.linspace(0, 360, 10 * count + 1))
        radius = heart * 1.25 + size * 1.3 * np.abs(np.sin((angle - angle[0]) * count / 2))
        strokes.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    length = rng.uniform(0.7, 1.2)
    if rng.random() < 0.85:
        bend = rng.normal(0, 0.1)
        strokes.append(_curve((0, heart + size * 1.2), (bend, 0.7), (0, length + 0.4)))
        for side in rng.permutation([-1.0, 1.0])[: rng.integers(0, 3)]:
            y = rng.uniform(0.8, 1.0)
            strokes.append(
                _curve(
                    (bend / 2, y),
                    (side * 0.2, y - 0.22),
                    (side * 0.42, y - 0.2),
                    (side * 0.22, y - 0.03),
                    (bend / 2, y),
                )
            )
    return strokes


def _house(rng: Rng) -> Strokes:
    height, roof, over = rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.55), rng.choice([0.0, rng.uniform(0.05, 0.15)])
    kind = rng.random()
    if kind < 0.15:
        strokes = [_line((0, 0), (0, height), (1, height), (1, 0), (0.5, -roof), (0, 0), (1, 0))]
    else:
        strokes = _box(rng, 0, 0, 1, height)
        gable = [(-over, 0.0), (0.5, -roof), (1 + over, 0.0)]
        if kind < 0.3:
            gable = [(-over, 0.0), (0.22, -roof * 0.8), (0.78, -roof * 0.8), (1 + over, 0.0)]
        strokes.append(_line(*gable))
    if rng.random() < 0.8:
        x = rng.choice([0.4, 0.12, 0.6])
        strokes.append(_line((x, height), (x, height * 0.45), (x + 0.22, height * 0.45), (x + 0.22, height)))
    if rng.random() < 0.65:
        for x in ([0.08, 0.7], [0.68], [0.7])[rng.integers(3)]:
            strokes += _box(rng, x, height * 0.2, x + 0.2, height * 0.2 + 0.2)
            if rng.random() < 0.5:
                strokes += [
                    _line((x + 0.1, height * 0.2), (x + 0.1, height * 0.2 + 0.2)),
                    _line((x, height * 0.2 + 0.1), (x + 0.2, height * 0.2 + 0.1)),
                ]
    if rng.random() < 0.35:
        strokes.append(_line((0.7, -roof * 0.6), (0.7, -roof), (0.85, -roof), (0.85, -roof * 0.3)))
    return strokes


def _ice_cream(rng: Rng) -> Strokes:
    depth, wide = rng.uniform(0.8, 1.2), rng.uniform(0.32, 0.42)
    strokes = [_line((-wide, 0), (0, depth), (wide, 0))]
    if rng.random() < 0.6:
        strokes.append(_line((-wide, 0), (wide, 0)))
    scoops = int(rng.choice([1, 1, 1, 2, 3]))
    if scoops == 1:
        strokes.append(_arc(0, 0, wide * rng.uniform(1.0, 1.15), rng.uniform(0.35, 0.5), 180, 180))
    elif scoops == 2:
        strokes += [_arc(0, 0, wide * 1.05, 0.33, 180, 180), _arc(0, -0.3, wide * 0.85, 0.32, 160, 220)]
    else:
        strokes += [_arc(s * wide * 0.52, -0.05, wide * 0.55, 0.28, 150, 240) for s in (-1, 1)] + [
            _arc(0, -0.25, wide * 0.6, 0.3, 160, 220)
        ]
    if rng.random() < 0.5:
        for k in (0.3, 0.6):
            strokes += [
                _line((-wide * (1 - k), depth * k), (wide * (0.7 - k), 0.0 + depth * 0.1)),
                _line((wide * (1 - k), depth * k), (wide * (k - 0.7), depth * 0.1)),
            ]
    if rng.random() < 0.3:
        strokes.append(_round(rng, 0, -0.5 - 0.2 * (scoops > 1), 0.07, 0.07))
    return strokes


def _ladder(rng: Rng) -> Strokes:
    wide, lean, rungs = rng.uniform(0.3, 0.5), rng.normal(0, 0.15), int(rng.integers(4, 8))
    taper = rng.choice([0.0, rng.uniform(0, 0.12)])
    strokes = [_line((lean + taper, 0), (0, 1.2)), _line((lean + wide - taper, 0), (wide, 1.2))]
    for k in (np.arange(rungs) + 0.5) / rungs:
        left, right = (lean + taper) * (1 - k), (lean + wide - taper) * (1 - k) + wide * k
        strokes.append(_line((left, 1.2 * k), (right, 1.2 * k)))
    return strokes


def _mushroom(rng: Rng) -> Strokes:
    cap, stem, long = rng.uniform(0.35, 0.6), rng.uniform(0.12, 0.22), rng.uniform(0.4, 0.65)
    strokes = [_arc(0, 0, 0.6, cap, 180, 180)]
    strokes.append(
        _line((-0.6, 0), (0.6, 0)) if rng.random() < 0.5 else _curve((-0.6, 0), (0, rng.uniform(0.05, 0.15)), (0.6, 0))
    )
    if rng.random() < 0.3:
        strokes = [np.concatenate(strokes)]
    foot = stem * rng.uniform(0.9, 1.5)
    if rng.random() < 0.6:
        strokes.append(
            _curve(
                (-stem, 0.05),
                (-stem, long * 0.6),
                (-foot, long),
                (0, long * 1.08),
                (foot, long),
                (stem, long * 0.6),
                (stem, 0.05),
            )
        )
    else:
        strokes += [_line((-stem, 0.03), (-foot, long), (foot, long), (stem, 0.03))]
    for x, y in np.array([[-0.3, -0.4], [0.05, -0.6], [0.32, -0.3], [-0.02, -0.25]])[: rng.integers(0, 5)]:
        strokes.append(_round(rng, x, y * cap * 1.1, rng.uniform(0.05, 0.1), rng.uniform(0.05, 0.09)))
    return strokes


def _star(rng: Rng) -> Strokes:
    turn = -90 + rng.normal(0, 6)
    if rng.random() < 0.5:
        at = np.radians(turn + 144 * np.arange(6) + 72 * rng.integers(5))
        return [_line(*zip(np.cos(at), np.sin(at), strict=True))]
    points = int(rng.choice([5, 5, 5, 5, 6, 4]))
    inner = rng.uniform(0.36, 0.5)
    at = np.radians(turn + np.arange(2 * points + 1) * 180 / points)
    radius = np.where(np.arange(2 * points + 1) % 2 == 0, 1.0, inner)
    return [np.roll(_line(*zip(radius * np.cos(at), radius * np.sin(at), strict=True)), 0, axis=0)]


def _sun(rng: Rng) -> Strokes:
    radius, count = rng.uniform(0.35, 0.6), int(rng.integers(6, 14))
    strokes = [_round(rng, 0, 0, radius, radius * rng.uniform(0.9, 1.1))]
    turn, near = rng.uniform(0, 360), radius * rng.uniform(1.1, 1.3)
    kind = rng.random()
    for i, angle in enumerate(np.radians(turn + np.arange(count) * 360 / count)):
        far = near + rng.uniform(0.25, 0.45) * (0.6 if kind > 0.6 and i % 2 else 1.0)
        c, s = np.cos(angle), np.sin(angle)
        if kind < 0.15:
            c1, s1, c2, s2 = *(f(angle - 0.2) for f in (np.cos, np.sin)), *(f(angle + 0.2) for f in (np.cos, np.sin))
            strokes.append(_line((near * c1, near * s1), (far * c, far * s), (near * c2, near * s2)))
        else:
            strokes.append(_line((near * c, near * s), (far * c, far * s)))
    if rng.random() < 0.3:
        strokes += [_round(rng, s * radius * 0.35, -radius * 0.25, 0.05, 0.06) for s in (-1, 1)]
        strokes.append(_arc(0, 0, radius * 0.55, radius * 0.55, 25, 130))
    return strokes


def _tree(rng: Rng) -> Strokes:
    trunk, long = rng.uniform(0.07, 0.15), rng.uniform(0.4, 0.7)
    kind = rng.random()
    if kind < 0.35:  # a cloud of leaves
        bumps = int(rng.integers(6, 11))
        angle = np.radians(100 + np.linspace(0, 340, 8 * bumps))
        radius = 0.42 + 0.08 * np.abs(np.sin(np.linspace(0, np.pi * bumps, 8 * bumps)))
        strokes = [np.stack([radius * 1.1 * np.cos(angle), -0.35 + radius * np.sin(angle)], axis=1)]
    elif kind < 0.6:
        strokes = [_round(rng, 0, -0.35, rng.uniform(0.35, 0.5), rng.uniform(0.38, 0.5))]
    elif kind < 0.85:  # a fir of one to three tiers
        tiers = int(rng.integers(1, 4))
        strokes = []
        for i in range(tiers):
            y, wide = 0.05 - i * 0.38, 0.5 - 0.1 * i
            strokes.append(_line((-wide, y), (0, y - 0.6 + 0.05 * i), (wide, y), (-wide, y)))
    else:  # bare branches
        strokes = []
        for side, y in ((-1, 0.0), (1, -0.15), (-1, -0.3), (1, -0.45)):
            reach = rng.uniform(0.25, 0.5)
            strokes.append(_line((0, y), (side * reach, y - rng.uniform(0.2, 0.4))))
        return [_line((0, long), (0, -0.8)), *strokes]
    strokes += [_line((-trunk, 0.08), (-trunk, long)), _line((trunk, 0.08), (trunk, long))]
    if rng.random() < 0.5:
        strokes[-2:] = [np.concatenate([strokes[-2], strokes[-1][::-1]])]
    if rng.random() < 0.2:
        strokes.append(_line((-0.7, long), (0.7, long)))
    return strokes


def _umbrella(rng: Rng) -> Strokes:
    high, ribs = rng.uniform(0.5, 0.75), int(rng.integers(2, 6))
    strokes = [_arc(0, 0, 0.8, high, 180, 180)]
    if rng.random() < 0.75:
        wide = 1.6 / ribs
        scallops = [_arc(-0.8 + wide * (i + 0.5), 0, wide / 2, wide * 0.25, 180, 180) for i in range(ribs)]
        strokes += [np.concatenate(scallops)] if rng.random() < 0.6 else scallops
    else:
        strokes.append(_line((-0.8, 0), (0.8, 0)))
    if rng.random() < 0.35:
        strokes += [
            _curve((0, -high), (x * 0.6, -high * 0.5), (x, 0)) for x in (-0.8 + 1.6 / ribs * np.arange(1, ribs))
        ]
    end = rng.uniform(0.6, 0.9)
    hook = rng.uniform(0.1, 0.18) * rng.choice([-1.0, 1.0])
    top = rng.choice([-high, 0.0, -high - 0.12])
    strokes.append(
        np.concatenate(
            [
                _line((0, top), (0, end)),
                _curve((0, end), (hook * 0.3, end + 0.13), (hook * 1.3, end + 0.13), (hook * 2, end)),
            ]
        )
    )
    return strokes


SHAPES: Mapping[str, Callable[[Rng], Strokes]] = MappingProxyType(
    {
        "clock": _clock,
        "cup": _cup,
        "envelope": _envelope,
        "fish": _fish,
        "flower": _flower,
        "house": _house,
        "ice cream": _ice_cream,
        "ladder": _ladder,
        "mushroom": _mushroom,
        "star": _star,
        "sun": _sun,
        "tree": _tree,
        "umbrella": _umbrella,
    }
)
"""What can be drawn: class name to the function that draws one."""
