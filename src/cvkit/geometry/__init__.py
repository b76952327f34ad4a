"""Where pixels go: affine maps, warping, flipping and resizing, the same for pictures and for points.

Places are ``(x, y)`` with pixel *centres* at integers, sizes are ``(height, width)``, resizing is
``x' = (x + 0.5) * scale - 0.5`` and mirroring ``x' = W - 1 - x``. A matrix always maps source places to output
places, for `warp` as for `transform_points`.
"""

from __future__ import annotations

from cvkit.geometry.matrices import (
    compose,
    crop_matrix,
    flip_matrix,
    flip_points,
    invert,
    resize_matrix,
    rotation_matrix,
    scale_matrix,
    transform_points,
    translation_matrix,
)
from cvkit.geometry.resizing import Prepared, prepare, resize
from cvkit.geometry.warping import flip, warp

__all__ = [
    "Prepared",
    "compose",
    "crop_matrix",
    "flip",
    "flip_matrix",
    "flip_points",
    "invert",
    "prepare",
    "resize",
    "resize_matrix",
    "rotation_matrix",
    "scale_matrix",
    "transform_points",
    "translation_matrix",
    "warp",
]
