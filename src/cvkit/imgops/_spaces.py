"""Formulas of colour on values (N, 3, H, W) in [0, 1], for arrays and tensors alike, with finite gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cvkit.imgops._pixels import Values, namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array

__all__ = [
    "LUMA",
    "decode",
    "encode",
    "lab_from_rgb",
    "mix",
    "oklab_from_rgb",
    "rgb_from_lab",
    "rgb_from_oklab",
    "weighted",
]

LUMA: dict[str, tuple[float, float, float]] = {"601": (0.299, 0.587, 0.114), "709": (0.2126, 0.7152, 0.0722)}

# Chromaticities of the primaries and of the white of sRGB, as X, Y, Z with Y = 1 for the white.
_PRIMARIES = np.array([[0.64, 0.33, 0.03], [0.30, 0.60, 0.10], [0.15, 0.06, 0.79]]).T
_WHITE = np.array([0.3127, 0.3290, 1.0 - 0.3127 - 0.3290]) / 0.3290
RGB_TO_XYZ: Array = _PRIMARIES * np.linalg.solve(_PRIMARIES, _WHITE)
XYZ_TO_RGB: Array = np.linalg.inv(RGB_TO_XYZ)

# OKLab's two matrices: linear sRGB to cone responses, their cube roots to L, a, b.
_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_LMS_TO_RGB = np.linalg.inv(_RGB_TO_LMS)
_OKLAB_TO_LMS = np.linalg.inv(_LMS_TO_OKLAB)
_KNEE = 6.0 / 29.0  # of CIELAB's cube root


def decode(v: Values) -> Values:
    """Return linear light from sRGB values."""
    xp = namespace(v)
    return xp.where(v <= 0.04045, v / 12.92, ((xp.clip(v, min=0.04045) + 0.055) / 1.055) ** 2.4)


def encode(light: Values) -> Values:
    """Return sRGB values from linear light."""
    xp = namespace(light)
    return xp.where(light <= 0.0031308, 12.92 * light, 1.055 * xp.clip(light, min=0.0031308) ** (1.0 / 2.4) - 0.055)


def lab_from_rgb(rgb: Values) -> Values:
    """Return CIELAB from sRGB values."""
    xp = namespace(rgb)
    t = mix(decode(rgb), RGB_TO_XYZ / _WHITE[:, None])
    root = xp.where(t > _KNEE**3, xp.clip(t, min=_KNEE**3) ** (1.0 / 3.0), t / (3.0 * _KNEE**2) + 4.0 / 29.0)
    x, y, z = root[:, 0:1], root[:, 1:2], root[:, 2:3]
    return xp.concatenate([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], 1)


def rgb_from_lab(lab: Values) -> Values:
    """Return sRGB values from CIELAB."""
    xp = namespace(lab)
    y = (lab[:, 0:1] + 16.0) / 116.0
    root = xp.concatenate([y + lab[:, 1:2] / 500.0, y, y - lab[:, 2:3] / 200.0], 1)
    t = xp.where(root > _KNEE, root**3, 3.0 * _KNEE**2 * (root - 4.0 / 29.0))
    return encode(mix(t, XYZ_TO_RGB * _WHITE))


def oklab_from_rgb(rgb: Values) -> Values:
    """Return OKLab from sRGB values."""
    xp = namespace(rgb)
    lms = xp.clip(mix(decode(rgb), _RGB_TO_LMS), min=1e-30)  # the cube root has no slope at 0
    return mix(lms ** (1.0 / 3.0), _LMS_TO_OKLAB)


def rgb_from_oklab(oklab: Values) -> Values:
    """Return sRGB values from OKLab."""
    return encode(mix(mix(oklab, _OKLAB_TO_LMS) ** 3, _LMS_TO_RGB))


def mix(values: Values, matrix: Array) -> Values:
    """Return the channels multiplied by a 3 x 3 matrix."""
    return namespace(values).concatenate([weighted(values, row) for row in matrix], 1)


def weighted(values: Values, weights: Sequence[float] | Array) -> Values:
    """Return the weighted sum of three channels, (N, 1, H, W)."""
    first, second, third = (float(weight) for weight in weights)
    return values[:, 0:1] * first + values[:, 1:2] * second + values[:, 2:3] * third
