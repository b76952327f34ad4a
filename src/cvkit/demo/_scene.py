"""A generated landscape with deep shadows and bright lights, for the part of the demo that edits by tone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cvkit._types import Array, Size

__all__ = ["landscape"]

RIDGES = (  # height of the ridge line, roughness, colour far to near
    (0.52, 0.10, (116, 128, 158)),
    (0.60, 0.13, (78, 92, 112)),
    (0.72, 0.10, (40, 52, 50)),
    (0.84, 0.06, (16, 20, 16)),
)


def landscape(size: Size = (360, 540), *, rng: np.random.Generator | None = None) -> Array:
    """Draw an evening landscape: a bright sky with a sun, four ridges that darken towards the viewer, a little grain.

    Parameters
    ----------
    size : tuple of int, default (360, 540)
        Height and width.
    rng : numpy.random.Generator, optional
        Source of the ridges and the grain; ``None`` means a fresh one with seed 0.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
    """
    rng = np.random.default_rng(0) if rng is None else rng
    height, width = size
    y = np.linspace(0.0, 1.0, height)[:, None]
    x = np.linspace(0.0, width / height, width)[None, :]
    sky = np.array([70, 104, 176]) * (1 - y[..., None]) + np.array([255, 214, 160]) * y[..., None]
    image = np.broadcast_to(sky, (height, width, 3)).copy()
    distance = np.hypot(x - 0.72 * width / height, y - 0.34)
    glow = np.exp(-((distance / 0.30) ** 2))[..., None]
    image += glow * (np.array([255, 236, 190]) - image) * 0.85
    image[distance < 0.055] = (255, 250, 232)
    for level, roughness, colour in RIDGES:
        line = level + roughness * (ridge(width, rng) - 0.5)
        ground = y >= line[None, :]
        depth = np.clip((y - line[None, :]) / 0.25, 0.0, 1.0)[..., None]
        shade = np.array(colour) * (1.15 - 0.55 * depth)
        image = np.where(ground[..., None], shade, image)
    image += rng.normal(0.0, 2.5, (height, width, 1))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def ridge(width: int, rng: np.random.Generator) -> Array:
    """Return a ridge line in about [0, 1]: sines of doubling frequency and halving height."""
    x = np.linspace(0.0, 1.0, width)
    line = np.zeros(width)
    for octave in range(7):
        phase = rng.uniform(0.0, 2 * np.pi)
        line += 0.5 ** (octave + 1) * np.sin(2 * np.pi * 1.7 * 2**octave * x + phase)
    return 0.5 + 0.5 * line
