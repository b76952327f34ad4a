"""Perceptually even colour maps, computed by rule.

A map is a curve through OKLab: lightness moves one way, hue turns at a steady rate, chroma follows a few given
points. The curve is then walked at constant speed, that is, equal steps of the value are equal distances in OKLab,
so that a map shows no edges that the data do not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from cvkit._checks import check_choice, check_integer, shown
from cvkit.imgops._spaces import rgb_from_oklab

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = ["COLORMAPS", "colormap"]

Colormap: TypeAlias = "Literal['ember', 'lagoon', 'balance', 'gray'] | Array"
"""The name of a colour map, or a table of colours."""


@dataclass(frozen=True)
class _Arm:
    """One stretch of a curve through OKLab: lightness and hue change evenly, chroma eases from knot to knot."""

    lightness: tuple[float, float]
    hue: tuple[float, float]  # degrees
    chroma: tuple[float, ...]


# Chroma stays inside the sRGB gamut for the lightness and hue at each point (a test holds that).
_CURVES: dict[str, tuple[_Arm, ...]] = {
    # Black-violet, magenta, orange, pale yellow: for heat maps.
    "ember": (_Arm((0.14, 0.965), (282.0, 466.0), (0.055, 0.145, 0.205, 0.160, 0.085)),),
    # Deep blue, teal, green, pale yellow.
    "lagoon": (_Arm((0.16, 0.965), (285.0, 108.0), (0.075, 0.081, 0.081, 0.118, 0.095)),),
    # Blue, near-white in the middle, red: for signed values.
    "balance": (
        _Arm((0.38, 0.97), (258.0, 240.0), (0.125, 0.10, 0.05, 0.0)),
        _Arm((0.97, 0.38), (43.0, 25.0), (0.0, 0.05, 0.10, 0.125)),
    ),
}

COLORMAPS: tuple[str, ...] = (*_CURVES, "gray")
"""Names of the colour maps: ``'ember'``, ``'lagoon'``, ``'gray'`` grow lighter, ``'balance'`` is for signed values."""


def colormap(name: Literal["ember", "lagoon", "balance", "gray"] = "ember", *, levels: int = 256) -> Array:
    """Return a perceptually even colour map as a table.

    Parameters
    ----------
    name : {'ember', 'lagoon', 'balance', 'gray'}, default 'ember'
        ``'ember'`` runs from black through violet, red and orange to pale yellow, ``'lagoon'`` from dark blue
        through green to pale yellow, ``'gray'`` is the plain ramp of stored values; all three grow lighter all the
        way, so they survive printing in grey. ``'balance'`` runs from blue through near-white, its middle, to red,
        equally dark at both ends.
    levels : int, default 256
        Number of colours, at least 2.

    Returns
    -------
    ndarray of shape (levels, 3)
        Red, green and blue, uint8. Neighbours are equally far apart along a curve in OKLab before rounding to 8 bits
        (``'gray'``: equally far apart as stored).

    Raises
    ------
    ValueError
        If the name is unknown or there are fewer than two levels.

    See Also
    --------
    apply_colormap : Colour a picture by a map.

    Examples
    --------
    >>> from cvkit.imgops import colormap
    >>> colormap().shape
    (256, 3)
    >>> colormap("gray", levels=3).tolist()
    [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    check_choice("name", name, COLORMAPS)
    levels = check_integer("levels", levels, minimum=2)
    return np.floor(curve(name, levels) * 255.0 + 0.5).astype(np.uint8)


def table_of(colors: Colormap) -> Array:
    """Return a named map, or a user's table of uint8 or of floats in [0, 1], as float64 (K, 3) in [0, 1], read-only."""
    if isinstance(colors, str):
        return curve(check_choice("colormap", colors, COLORMAPS), 256)
    if not isinstance(colors, np.ndarray):
        raise TypeError(f"`colormap` must be a name or an array of shape (K, 3); got {shown(colors)}")
    if colors.ndim != 2 or colors.shape[1] != 3 or len(colors) < 2:
        raise ValueError(f"`colormap` must have shape (K, 3) with K >= 2; got {colors.shape}")
    if colors.dtype == np.uint8:
        return colors / 255.0
    if colors.dtype.kind != "f":
        raise TypeError(f"`colormap` must be uint8 or floats in [0, 1]; got {colors.dtype}")
    if not ((colors >= 0) & (colors <= 1)).all():
        raise ValueError("`colormap` of floats must lie in [0, 1]")
    return colors.astype(np.float64)


@cache
def curve(name: str, levels: int) -> Array:
    """Return a map as float64 sRGB (levels, 3) in [0, 1], read-only: evenly spaced points of its curve in OKLab."""
    if name == "gray":
        rgb: Array = np.repeat(np.linspace(0.0, 1.0, levels)[:, None], 3, axis=1)
        rgb.flags.writeable = False
        return rgb
    path = np.concatenate([_walk(arm) for arm in _CURVES[name]])
    steps = np.hypot.reduce(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0.0, length[-1], levels)
    even = np.stack([np.interp(at, length, axis) for axis in path.T], axis=1)
    rgb = np.clip(rgb_from_oklab(even[:, :, None, None])[:, :, 0, 0], 0.0, 1.0)
    rgb.flags.writeable = False
    return rgb


def _walk(arm: _Arm) -> Array:
    """Return many points of an arm in OKLab, (4096, 3)."""
    t = np.linspace(0.0, 1.0, 4096)
    hue = np.radians(arm.hue[0] + (arm.hue[1] - arm.hue[0]) * t)
    lightness = arm.lightness[0] + (arm.lightness[1] - arm.lightness[0]) * t
    place = t * (len(arm.chroma) - 1)
    left = np.minimum(place.astype(int), len(arm.chroma) - 2)
    ease = 0.5 - 0.5 * np.cos(np.pi * (place - left))
    knots = np.asarray((*arm.chroma, arm.chroma[-1]))
    chroma = knots[left] * (1.0 - ease) + knots[left + 1] * ease
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
