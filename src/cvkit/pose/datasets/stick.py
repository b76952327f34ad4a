"""Generated stick figures: landmarks with left and right, clutter and occlusion that a small network learns quickly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from cvkit._checks import check_integer, check_interval, check_size
from cvkit.pose.datasets.landmarks import LandmarkData
from cvkit.pose.skeletons import STICK_FIGURE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import Size

__all__ = ["stick_figures"]

_FINE = 3  # pictures are drawn so many times larger, then averaged


def stick_figures(
    count: int,
    *,
    size: Size = (64, 64),
    occluders: float = 0.5,
    clutter: int = 4,
    rng: np.random.Generator | None = None,
) -> LandmarkData:
    """Draw stick figures that face the viewer, in varied poses, colours and surroundings.

    The figure's left limbs are on the viewer's right and look like its right ones: only their place tells them apart,
    so a mirrored picture with its joints traded is a valid picture.

    Parameters
    ----------
    count : int
        Number of pictures.
    size : tuple of int, default (64, 64)
        Height and width, at least 16 each.
    occluders : float, default 0.5
        Share of pictures with a patch that covers part of the figure; joints below it are labelled but hidden.
    clutter : int, default 4
        Most strokes and blobs in the background.
    rng : numpy.random.Generator, optional
        By default a fresh one with seed 0.

    Returns
    -------
    LandmarkData
        uint8 pictures ``(N, H, W, 3)``, eleven joints of `STICK_FIGURE`; visibility 2 seen, 1 hidden, 0 outside the
        picture.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from cvkit.pose import stick_figures
    >>> data = stick_figures(3, size=(48, 32))
    >>> data.images.shape, data.images.dtype
    ((3, 48, 32, 3), dtype('uint8'))
    """
    count = check_integer("count", count, minimum=0)
    height, width = check_size("size", size, minimum=16)
    check_interval("occluders", occluders, 0, 1)
    check_integer("clutter", clutter, minimum=0)
    rng = np.random.default_rng(0) if rng is None else rng
    images = np.zeros((count, height, width, 3), np.uint8)
    keypoints = np.zeros((count, len(STICK_FIGURE), 2), np.float32)
    visibility = np.zeros((count, len(STICK_FIGURE)), np.float32)
    for i in range(count):
        places, head = _pose(rng, height, width)
        images[i], covered = _picture(rng, height, width, places, head, occluders, clutter)
        inside = (places >= -0.5).all(1) & (places < np.array([width, height]) - 0.5).all(1)
        keypoints[i] = places
        visibility[i] = np.where(inside, np.where(covered, 1, 2), 0)
    return LandmarkData(images, keypoints, visibility, skeleton=STICK_FIGURE)


def _pose(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.float64], float]:
    """Return the joints ``(11, 2)`` and the head's radius, for a figure that fills a good part of the picture."""
    lean = math.radians(rng.uniform(-25, 25))

    def step(start: NDArray[np.float64], length: float, degrees: float) -> NDArray[np.float64]:
        """Go `length` from `start`, `degrees` from straight down towards the viewer's right, with the figure's lean."""
        angle = math.radians(degrees) + lean
        return start + length * np.array([math.sin(angle), math.cos(angle)])

    hip = np.zeros(2)
    neck = step(hip, 1.0, 180 + rng.uniform(-12, 12))
    radius = rng.uniform(0.2, 0.28)
    head = step(neck, radius + 0.1, 180 + rng.uniform(-15, 15))
    limbs = []
    for side in (1, -1):  # left limbs on the viewer's right
        shoulder = rng.uniform(15, 150)
        elbow = step(neck, rng.uniform(0.42, 0.55), side * shoulder)
        hand = step(elbow, rng.uniform(0.42, 0.55), side * (shoulder + rng.uniform(-70, 100)))
        limbs += [elbow, hand]
    for side in (1, -1):
        thigh = rng.uniform(8, 65)
        knee = step(hip, rng.uniform(0.55, 0.7), side * thigh)
        limbs += [knee, step(knee, rng.uniform(0.55, 0.7), side * (thigh + rng.uniform(-60, 20)))]
    places = np.stack([head, neck, *limbs[:4], hip, *limbs[4:]])
    low, high = places.min(0) - radius, places.max(0) + radius
    scale = rng.uniform(0.6, 1.0) * min(width / (high - low)[0], height / (high - low)[1])
    room = np.array([width, height]) - scale * (high - low)
    corner = rng.uniform(-0.1, 1.1, 2) * room  # now and then a limb leaves the picture
    return (places - low) * scale + corner - 0.5, radius * scale


def _picture(
    rng: np.random.Generator,
    height: int,
    width: int,
    places: NDArray[np.float64],
    head: float,
    occluders: float,
    clutter: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the picture and which joints are covered."""
    ground, ink = _colors(rng)
    canvas = PillowImage.fromarray(_background(rng, height, width, ground))
    canvas = canvas.resize((width * _FINE, height * _FINE), PillowImage.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    side = min(height, width) * _FINE
    for _ in range(int(rng.integers(0, clutter + 1))):
        _clutter(rng, draw, canvas.size, side, ground)
    fine = (places + 0.5) * _FINE - 0.5
    stroke = max(2, round(side * rng.uniform(0.018, 0.045)))
    for a, b in STICK_FIGURE.lines[1:]:
        draw.line([tuple(fine[a]), tuple(fine[b])], fill=ink, width=stroke)
    draw.line([tuple(fine[0]), tuple(fine[1])], fill=ink, width=stroke)
    for x, y in fine[1:]:  # round joints
        draw.ellipse([x - stroke / 2, y - stroke / 2, x + stroke / 2, y + stroke / 2], fill=ink)
    (x, y), r = fine[0].tolist(), head * _FINE
    filled = rng.random() < 0.5
    draw.ellipse([x - r, y - r, x + r, y + r], fill=ink if filled else None, outline=ink, width=stroke)
    covered = np.zeros(len(places), bool)
    if rng.random() < occluders:
        covered = _occlude(rng, draw, fine, side)
    pixels = np.asarray(canvas.reduce(_FINE), np.float32)
    noisy = pixels + rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(0, 8))
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8), covered


def _colors(rng: np.random.Generator) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return a background colour and an ink that stands out from it."""
    ground = rng.uniform(40, 255, 3)
    dark = ground.mean() > 128
    ink = rng.uniform(0, 70, 3) if dark else rng.uniform(185, 255, 3)
    red, green, blue = (int(value) for value in ink)
    return ground, (red, green, blue)


def _background(rng: np.random.Generator, height: int, width: int, ground: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a slope of light between two nearby colours."""
    angle = rng.uniform(0, 2 * math.pi)
    x, y = np.arange(width) / width - 0.5, np.arange(height) / height - 0.5
    slope = math.cos(angle) * x + math.sin(angle) * y[:, None]
    shift = rng.uniform(-45, 45, 3)
    return np.clip(ground + slope[..., None] * shift, 0, 255).astype(np.uint8)


def _clutter(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: tuple[int, int], side: int, ground: NDArray[np.float64]
) -> None:
    """Draw one stroke or blob in a colour near the background's."""
    red, green, blue = (int(v) for v in np.clip(ground + rng.uniform(-60, 60, 3), 0, 255))
    start = rng.uniform(0, 1, 2) * size
    if rng.random() < 0.5:
        end = start + rng.normal(0, 0.35 * side, 2)
        draw.line([tuple(start), tuple(end)], fill=(red, green, blue), width=int(rng.integers(2, max(3, side // 16))))
    else:
        w, h = rng.uniform(0.05, 0.3, 2) * side
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape([start[0], start[1], start[0] + w, start[1] + h], fill=(red, green, blue))


def _occlude(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, fine: NDArray[np.float64], side: int
) -> NDArray[np.bool_]:
    """Draw a patch near one of the joints and return which joints it covers."""
    middle = fine[rng.integers(len(fine))] + rng.normal(0, 0.05 * side, 2)
    w, h = rng.uniform(0.08, 0.22, 2) * side
    red, green, blue = (int(v) for v in rng.uniform(0, 255, 3))
    draw.rectangle(
        [middle[0] - w / 2, middle[1] - h / 2, middle[0] + w / 2, middle[1] + h / 2], fill=(red, green, blue)
    )
    return np.asarray((np.abs(fine - middle) <= np.array([w, h]) / 2).all(1))
