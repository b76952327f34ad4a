"""Generated pictures whose answer is known: one shape of a class, distractors that say nothing, a textured background.

For tests, examples and the demo: a classifier trained on them must look at the shape, and the mask of the shape is
known. Class names are the shapes' names; colours, places, sizes and angles are drawn at random and say nothing about
the class.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvkit._checks import check_choice, check_integer, check_interval, check_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["SHAPES", "Pairs", "Scenes", "ShapeNet", "accuracy", "pairs", "scenes", "train"]

SHAPES: tuple[str, ...] = ("disc", "square", "triangle", "cross", "ring", "bars")
"""Class names, in the order of their indices."""

_DEFAULT_SEED = 0


class Scenes(NamedTuple):
    """Pictures with one object each.

    Attributes
    ----------
    images : Tensor of shape (N, 3, H, W)
        uint8, or float32 in [0, 1].
    labels : Tensor of shape (N,)
        Class indices.
    masks : Tensor of shape (N, H, W)
        bool: the object.
    names : tuple of str
        Class names.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    names: tuple[str, ...]


class Pairs(NamedTuple):
    """Pictures with two objects of different classes each.

    Attributes
    ----------
    images : Tensor of shape (N, 3, H, W)
        uint8, or float32 in [0, 1].
    labels : Tensor of shape (N, 2)
        Class indices.
    masks : Tensor of shape (N, 2, H, W)
        bool: the objects, in the order of the labels.
    names : tuple of str
        Class names.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    names: tuple[str, ...]


def _inside(shape: str, u: Array, v: Array) -> Array:
    """Return where a shape of half-size 1 around the origin is, in its own coordinates."""
    radius = np.hypot(u, v)
    inside: Array
    if shape == "disc":
        inside = radius <= 0.95
    elif shape == "square":
        inside = np.maximum(abs(u), abs(v)) <= 0.8
    elif shape == "triangle":
        inside = (v <= 0.7) & (v >= 1.9 * abs(u) - 1.0)
    elif shape == "cross":
        inside = (np.minimum(abs(u), abs(v)) <= 0.28) & (np.maximum(abs(u), abs(v)) <= 1.0)
    elif shape == "ring":
        inside = (radius <= 1.0) & (radius >= 0.6)
    else:  # bars: two in parallel
        inside = (abs(abs(u) - 0.6) <= 0.24) & (abs(v) <= 0.95)
    return inside


def _texture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return a smooth two-colour texture with grain, (H, W, 3) in [0, 1]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    wave = np.zeros((height, width))
    for _ in range(3):
        frequency = rng.uniform(1.0, 7.0)
        angle, phase = rng.uniform(0.0, 2 * math.pi, 2)
        wave += np.sin(2 * math.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    share = ((wave + 3.0) / 6.0)[..., None]
    first, second = rng.uniform(0.2, 0.6, (2, 3))
    texture: Array = share * first + (1.0 - share) * second + rng.normal(0.0, 0.03, (height, width, 3))
    return texture


def _far_colour(rng: np.random.Generator, background: Array) -> Array:
    """Return a colour that stands off the background."""
    mean = background.mean((0, 1))
    for _ in range(20):
        colour: Array = rng.uniform(0.0, 1.0, 3)
        if abs(colour - mean).max() > 0.4:
            return colour
    return np.where(mean > 0.5, 0.0, 1.0)


def _draw_distractors(rng: np.random.Generator, image: Array, count: int, free: Array) -> None:
    """Draw short lines and dots, which are of no class, where nothing else is."""
    height, width = free.shape
    y, x = np.mgrid[:height, :width].astype(float)
    side = min(height, width)
    for _ in range(count):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        angle, length = rng.uniform(0, math.pi), side * rng.uniform(0.0, 0.16)
        along = np.clip((x - cx) * math.cos(angle) + (y - cy) * math.sin(angle), -length, length)
        distance = np.hypot(x - cx - along * math.cos(angle), y - cy - along * math.sin(angle))
        image[(distance <= side * 0.025) & free] = _far_colour(rng, image)


def _draw_object(rng: np.random.Generator, image: Array, shape: str, cy: float, cx: float, radius: float) -> Array:
    """Draw a shape, and return its mask."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(float)
    angle = rng.uniform(-0.4, 0.4)
    u = ((x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)) / radius
    v = ((y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)) / radius
    mask = _inside(shape, u, v)
    colour = _far_colour(rng, image)
    image[mask] = colour + rng.normal(0.0, 0.03, (int(mask.sum()), 3))
    return mask


def _finish(images: list[Array], dtype: Literal["uint8", "float32"]) -> Tensor:
    """Return pictures as a tensor (N, 3, H, W)."""
    stack = np.clip(np.stack(images), 0.0, 1.0).transpose(0, 3, 1, 2)
    pixels = np.floor(stack * 255.0 + 0.5).astype(np.uint8)
    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    return whole if dtype == "uint8" else whole.float() / 255.0


def _checked(count: int, size: object, classes: int, distractors: int, dtype: str) -> tuple[int, tuple[int, int]]:
    check_integer("classes", classes, minimum=2, maximum=len(SHAPES))
    check_integer("distractors", distractors, minimum=0)
    check_choice("dtype", dtype, ("uint8", "float32"))
    return check_integer("count", count, minimum=1), check_size("size", size, minimum=24)


def scenes(
    count: int,
    *,
    size: tuple[int, int] = (48, 48),
    classes: int = 4,
    distractors: int = 5,
    dtype: Literal["uint8", "float32"] = "float32",
    rng: np.random.Generator | None = None,
) -> Scenes:
    """Generate pictures with one object each.

    Parameters
    ----------
    count : int
        How many pictures. Classes take turns, so that any run of `classes` pictures has each once.
    size : tuple of int, default (48, 48)
        Height and width, at least 24.
    classes : int, default 4
        How many of `SHAPES`, from the first.
    distractors : int, default 5
        How many short lines and dots, never on the object.
    dtype : {'float32', 'uint8'}
        float32 in [0, 1], or uint8.
    rng : numpy.random.Generator, optional
        A passed one advances; without it a fresh one with seed 0.

    Returns
    -------
    Scenes
        Images, labels, masks and class names.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> batch = scenes(8, size=(32, 40))
    >>> batch.images.shape, batch.labels.tolist()
    (torch.Size([8, 3, 32, 40]), [0, 1, 2, 3, 0, 1, 2, 3])
    """
    count, (height, width) = _checked(count, size, classes, distractors, dtype)
    rng = np.random.default_rng(_DEFAULT_SEED) if rng is None else rng
    images, masks = [], []
    for i in range(count):
        image = _texture(rng, height, width)
        radius = min(height, width) * rng.uniform(0.18, 0.28)
        cy, cx = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
        mask = _draw_object(rng, image, SHAPES[i % classes], cy, cx, radius)
        _draw_distractors(rng, image, distractors, ~_grown(mask))
        images.append(image)
        masks.append(mask)
    labels = torch.arange(count) % classes
    return Scenes(_finish(images, dtype), labels, torch.from_numpy(np.stack(masks)), SHAPES[:classes])


def pairs(
    count: int,
    *,
    size: tuple[int, int] = (48, 64),
    classes: int = 4,
    distractors: int = 5,
    dtype: Literal["uint8", "float32"] = "float32",
    rng: np.random.Generator | None = None,
) -> Pairs:
    """Generate pictures with two objects of different classes, side by side.

    Parameters
    ----------
    count : int
        How many pictures.
    size : tuple of int, default (48, 64)
        Height and width, at least 24.
    classes : int, default 4
        How many of `SHAPES`, from the first.
    distractors : int, default 5
        How many short lines and dots, never on an object.
    dtype : {'float32', 'uint8'}
        float32 in [0, 1], or uint8.
    rng : numpy.random.Generator, optional
        A passed one advances; without it a fresh one with seed 0.

    Returns
    -------
    Pairs
        Images, labels, masks and class names; the first object is the left one.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> batch = pairs(3)
    >>> batch.masks.shape, bool((batch.masks.sum(1) > 1).any())
    (torch.Size([3, 2, 48, 64]), False)
    """
    count, (height, width) = _checked(count, size, classes, distractors, dtype)
    rng = np.random.default_rng(_DEFAULT_SEED) if rng is None else rng
    images, masks, labels = [], [], []
    for _ in range(count):
        image = _texture(rng, height, width)
        kinds = rng.choice(classes, 2, replace=False)
        both = []
        for place, kind in enumerate(kinds):
            radius = min(height, width / 2) * rng.uniform(0.18, 0.26)
            left = place * width / 2
            cy, cx = rng.uniform(radius, height - radius), rng.uniform(left + radius, left + width / 2 - radius)
            both.append(_draw_object(rng, image, SHAPES[kind], cy, cx, radius))
        both[1] &= ~both[0]
        _draw_distractors(rng, image, distractors, ~_grown(both[0] | both[1]))
        images.append(image)
        masks.append(np.stack(both))
        labels.append(kinds)
    return Pairs(
        _finish(images, dtype),
        torch.from_numpy(np.stack(labels)).long(),
        torch.from_numpy(np.stack(masks)),
        SHAPES[:classes],
    )


def _grown(mask: Array) -> Array:
    """Return a mask with a margin of two pixels."""
    padded = np.pad(mask, 2)
    height, width = mask.shape
    grown: Array = np.logical_or.reduce([padded[i : i + height, j : j + width] for i in range(5) for j in range(5)])
    return grown


class ShapeNet(nn.Module):
    """A small classifier of the shapes: four convolutions, global average pooling, one linear layer.

    Its last convolution sees the picture at a quarter of its size, so maps are not too coarse.

    Parameters
    ----------
    classes : int, default 4
        Number of classes.
    width : int, default 16
        Channels of the first convolution.
    generator : torch.Generator, optional
        For the weights; without it a fresh one with seed 0.

    Examples
    --------
    >>> import torch
    >>> ShapeNet()(torch.zeros(2, 3, 48, 48)).shape
    torch.Size([2, 4])
    """

    def __init__(self, classes: int = 4, *, width: int = 16, generator: torch.Generator | None = None) -> None:
        super().__init__()
        sizes = [3, width, width * 3 // 2, width * 2, width * 2]
        blocks: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(sizes)):
            side, stride = (5, 2) if i == 0 else (3, 1)
            # The random numbers that constructors would draw from the global state are skipped: weights come from
            # `generator`.
            convolution = nn.utils.skip_init(  # type: ignore[no-untyped-call]
                nn.Conv2d, before, after, side, stride=stride, padding=side // 2, bias=False
            )
            pool = [nn.MaxPool2d(2)] if i == 1 else []
            blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True), *pool))
        self.features = nn.Sequential(*blocks)
        self.head = nn.utils.skip_init(nn.Linear, sizes[-1], classes)  # type: ignore[no-untyped-call]
        generator = torch.Generator().manual_seed(_DEFAULT_SEED) if generator is None else generator
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    fan_in = module.weight[0].numel()
                    module.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W), float in [0, 1]."""
        pooled: Tensor = self.features(images - 0.5).mean((2, 3))
        logits: Tensor = self.head(pooled)
        return logits


def train(
    model: nn.Module,
    data: Scenes,
    *,
    steps: int = 600,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a classifier on generated pictures, in place, and leave it in eval mode.

    Parameters
    ----------
    model : Module
        From images (N, 3, H, W) to logits (N, K).
    data : Scenes
        What to train on.
    steps : int, default 600
        Optimiser steps.
    batch_size : int, default 32
        Pictures a step.
    learning_rate : float, default 1e-2
        The largest rate of the one-cycle schedule.
    generator : torch.Generator, optional
        For the order of the pictures; without it a fresh one with seed 0.
    on_step : callable, optional
        Called with (step, loss) after each step.

    Returns
    -------
    list of float
        The losses.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> losses = train(ShapeNet(width=4), scenes(16, size=(24, 24)), steps=2, batch_size=8)
    >>> len(losses)
    2
    """
    check_integer("steps", steps, minimum=1)
    check_integer("batch_size", batch_size, minimum=2)
    check_interval("learning_rate", learning_rate, 0.0, low_open=True)
    generator = torch.Generator().manual_seed(_DEFAULT_SEED) if generator is None else generator
    images = data.images.float() / 255.0 if data.images.dtype == torch.uint8 else data.images
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-3)
    losses = []
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, 10 * (step + 1) / steps) * (1.0 - step / steps) + 1e-6
        rows = torch.randint(images.shape[0], (batch_size,), generator=generator)
        loss = F.cross_entropy(model(images[rows]), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step, losses[-1])
    model.zero_grad()
    model.eval()
    return losses


def accuracy(model: nn.Module, data: Scenes, *, batch_size: int = 64) -> float:
    """Return the share of pictures that a model classifies rightly, in its present mode.

    Parameters
    ----------
    model : Module
        From images (N, 3, H, W) to logits (N, K).
    data : Scenes
        Pictures with labels.
    batch_size : int, default 64
        Pictures at a time.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> 0.0 <= accuracy(ShapeNet(width=4).eval(), scenes(8, size=(24, 24))) <= 1.0
    True
    """
    images = data.images.float() / 255.0 if data.images.dtype == torch.uint8 else data.images
    with torch.no_grad():
        right = [
            (model(part).argmax(1) == labels).sum().item()
            for part, labels in zip(torch.split(images, batch_size), torch.split(data.labels, batch_size), strict=True)
        ]
    return float(sum(right)) / len(data.labels)
