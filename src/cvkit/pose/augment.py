"""Augmentation of whole batches on their device: pictures and key points move together.

All choices of a batch are drawn first (`Augmentation.draw`), then applied (`Augmentation.apply`), so that several
processes can draw for the whole batch and apply their own part. Nothing loops over pictures or joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cvkit import geometry
from cvkit._checks import check_instance, check_interval, shown
from cvkit.pose.skeleton import Skeleton

__all__ = ["Augmentation", "Draws", "Sample"]


class Sample(NamedTuple):
    """Pictures with their key points.

    Attributes
    ----------
    images : Tensor of shape (N, C, H, W)
        Floats in [0, 1].
    keypoints : Tensor of shape (N, J, 2)
        Places ``(x, y)`` in the pictures' pixels.
    visibility : Tensor of shape (N, J)
        0 unlabelled, 1 labelled but hidden, 2 seen.
    """

    images: Tensor
    keypoints: Tensor
    visibility: Tensor


class Draws(NamedTuple):
    """The choices for N pictures, each a tensor whose first axis counts them.

    Attributes
    ----------
    degrees, scale, shift, flipped, half, color, brightness, boxes, paint : Tensor
        Turn; size factor; shift as a share of the size ``(N, 2)``; whether mirrored; half of the body (0 all, 1 upper,
        2 lower); factor a channel ``(N, 3)``; added brightness ``(N,)``; occluders ``(N, K, 4)`` as middle and size in
        shares of the picture, of size 0 where there is none; their colours ``(N, K, 3)``.
    """

    degrees: Tensor
    scale: Tensor
    shift: Tensor
    flipped: Tensor
    half: Tensor
    color: Tensor
    brightness: Tensor
    boxes: Tensor
    paint: Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far pictures are turned, scaled, shifted, mirrored, cut to half a body, recoloured and covered.

    Parameters
    ----------
    rotation : float, default 30.0
        Standard deviation of the turn in degrees, cut at twice that.
    rotation_share : float, default 0.6
        Share of pictures that are turned.
    scale : float, default 0.25
        Standard deviation of the size factor around 1, cut at that.
    translation : float, default 0.05
        Largest shift on each axis as a share of the picture's size.
    flip : float, default 0.5
        Share of pictures that are mirrored; joints trade places by the skeleton's pairs.
    half_body : float, default 0.0
        Share of pictures that are cut to the upper or the lower half of the body, where at least three of its joints
        are labelled. The skeleton must have groups ``"upper"`` and ``"lower"``.
    color : float, default 0.2
        Each channel is multiplied by up to 1 plus or minus this.
    brightness : float, default 0.0
        Added to all channels, up to plus or minus this.
    occlusion : float, default 0.0
        Share of pictures that get covered by up to two boxes of one colour; joints below them become hidden (visibility
        1).
    occluder : float, default 0.3
        Largest side of such a box as a share of the picture's.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks", ECCV 2016, section 3.2 (rotation and scale).
    .. [2] Z. Wang et al., "MSCOCO Keypoints Challenge 2018", Joint Recognition Challenge Workshop at ECCV 2018
       (half-body).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import MPII, Augmentation
    >>> images, keypoints = torch.rand(2, 3, 32, 24), torch.rand(2, 16, 2) * 20
    >>> generator = torch.Generator().manual_seed(0)
    >>> moved = Augmentation()(images, keypoints, torch.full((2, 16), 2), skeleton=MPII, generator=generator)
    >>> moved.images.shape, moved.keypoints.shape
    (torch.Size([2, 3, 32, 24]), torch.Size([2, 16, 2]))
    """

    rotation: float = 30.0
    rotation_share: float = 0.6
    scale: float = 0.25
    translation: float = 0.05
    flip: float = 0.5
    half_body: float = 0.0
    color: float = 0.2
    brightness: float = 0.0
    occlusion: float = 0.0
    occluder: float = 0.3

    def __post_init__(self) -> None:
        """Check the fields."""
        check_interval("rotation", self.rotation, 0, 180)
        check_interval("scale", self.scale, 0, 0.9)
        for name in (
            "translation",
            "rotation_share",
            "flip",
            "half_body",
            "color",
            "brightness",
            "occlusion",
            "occluder",
        ):
            check_interval(name, getattr(self, name), 0, 1)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Draws:
        """Draw the choices for `count` pictures, on the generator's device.

        Parameters
        ----------
        count : int
            Number of pictures N.
        generator : torch.Generator, optional
            By default a fresh one with seed 0.

        Returns
        -------
        Draws
            One row a picture.
        """
        generator = torch.Generator().manual_seed(0) if generator is None else generator

        def uniform(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, device=generator.device)

        def normal() -> Tensor:
            return torch.randn(count, generator=generator, device=generator.device)

        degrees = (normal() * self.rotation).clamp(-2 * self.rotation, 2 * self.rotation)
        halves = torch.where(uniform() < 0.5, 1, 2)
        size = uniform(2, 2) * self.occluder * (uniform(2, 1) < 0.75)
        return Draws(
            degrees=torch.where(uniform() < self.rotation_share, degrees, 0.0),
            scale=1 + (normal() * self.scale).clamp(-self.scale, self.scale),
            shift=(2 * uniform(2) - 1) * self.translation,
            flipped=uniform() < self.flip,
            half=torch.where(uniform() < self.half_body, halves, 0),
            color=1 + (2 * uniform(3) - 1) * self.color,
            brightness=(2 * uniform() - 1) * self.brightness,
            boxes=torch.cat((uniform(2, 2), torch.where(uniform(1, 1) < self.occlusion, size, 0.0)), -1),
            paint=uniform(2, 3),
        )

    def apply(
        self, images: Tensor, keypoints: Tensor, visibility: Tensor, draws: Draws, *, skeleton: Skeleton | None = None
    ) -> Sample:
        """Apply choices that were drawn.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W)
            Floats in [0, 1].
        keypoints : Tensor of shape (N, J, 2)
            Places in the pictures' pixels; NaN where unlabelled.
        visibility : Tensor of shape (N, J)
            > 0 is labelled.
        draws : Draws
            One row a picture, on the pictures' device. Where `flip` or `half_body` is 0, so are their choices.
        skeleton : Skeleton, optional
            Needed for flipping and half bodies.

        Returns
        -------
        Sample
            Of the same sizes and dtypes (whole-number places become float32). Joints that leave the picture get
            visibility 0.

        Raises
        ------
        ValueError
            If shapes don't fit, or mirroring or halving needs a skeleton or what it lacks.
        """
        order, halves = self._check(images, keypoints, visibility, skeleton)
        if any(len(values) != len(images) for values in draws):
            raise ValueError(f"`draws` must have one row a picture, {len(images)}; got {len(draws.degrees)}")
        if order is None:  # choices of another augmentation, which mirrors: here joints would not trade places
            draws = draws._replace(flipped=torch.zeros_like(draws.flipped))
        if not keypoints.is_floating_point():
            keypoints = keypoints.float()
        height, width = images.shape[-2:]
        matrix = self._matrices(keypoints, visibility, draws, halves, height, width)
        moved = geometry.warp(images, matrix, (height, width), fill=0.5)
        points = geometry.transform_points(matrix, keypoints).to(keypoints.dtype)
        if order is not None:
            mirrored = draws.flipped.to(points.device)
            points = torch.where(mirrored[:, None, None], points[:, order], points)
            visibility = torch.where(mirrored[:, None], visibility[:, order], visibility)
        seen = _shade(moved, draws)
        visibility = _cover(seen, points, visibility, draws)
        limit = points.new_tensor([width, height]) - 0.5
        inside = ((points >= -0.5) & (points < limit)).all(-1)
        return Sample(seen, points, torch.where(inside, visibility, torch.zeros_like(visibility)))

    def __call__(
        self,
        images: Tensor,
        keypoints: Tensor,
        visibility: Tensor,
        *,
        skeleton: Skeleton | None = None,
        generator: torch.Generator | None = None,
    ) -> Sample:
        """Draw and apply at once.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W)
            Floats in [0, 1].
        keypoints : Tensor of shape (N, J, 2)
            Places in the pictures' pixels.
        visibility : Tensor of shape (N, J)
            > 0 is labelled.
        skeleton : Skeleton, optional
            Needed for flipping and half bodies.
        generator : torch.Generator, optional
            By default a fresh one with seed 0.

        Returns
        -------
        Sample
            Of the same sizes.
        """
        draws = self.draw(len(images), generator)
        draws = Draws(*(value.to(images.device) for value in draws))
        return self.apply(images, keypoints, visibility, draws, skeleton=skeleton)

    def _check(
        self, images: Tensor, keypoints: Tensor, visibility: Tensor, skeleton: Skeleton | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Check shapes; return the order of joints in a mirror and which joints belong to each half ``(3, J)``."""
        for name, value in (("images", images), ("keypoints", keypoints), ("visibility", visibility)):
            check_instance(name, value, Tensor, "a tensor")
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(f"`images` must be a floating-point tensor (N, C, H, W); got {shown(images)}")
        if keypoints.ndim != 3 or keypoints.shape[0] != len(images) or keypoints.shape[-1] != 2:
            raise ValueError(f"`keypoints` must be (N, J, 2) with N = {len(images)}; got {shown(keypoints)}")
        if visibility.shape != keypoints.shape[:2]:
            raise ValueError(f"`visibility` must be {tuple(keypoints.shape[:2])}; got {shown(visibility)}")
        if not self.flip and not self.half_body:
            return None, None
        check_instance("skeleton", skeleton, Skeleton, "a skeleton, which flipping and half bodies need")
        assert skeleton is not None
        if len(skeleton) != keypoints.shape[1]:
            raise ValueError(f"`skeleton` must have {keypoints.shape[1]} joints as `keypoints`; got {len(skeleton)}")
        device = images.device
        order = torch.tensor(skeleton.check_flip(), device=device) if self.flip else None
        if not self.half_body:
            return order, None
        missing = {"upper", "lower"} - set(skeleton.groups)
        if missing:
            raise ValueError(
                f"`skeleton` must have the groups 'upper' and 'lower' for half bodies; it lacks {sorted(missing)}"
            )
        halves = torch.ones(3, len(skeleton), dtype=torch.bool, device=device)
        for row, name in ((1, "upper"), (2, "lower")):
            halves[row] = False
            halves[row, [skeleton.index(joint) for joint in skeleton.groups[name]]] = True
        return order, halves

    def _matrices(
        self,
        keypoints: Tensor,
        visibility: Tensor,
        draws: Draws,
        halves: Tensor | None,
        height: int,
        width: int,
    ) -> Tensor:
        """Return the maps ``(N, 2, 3)`` in float64: cut out a window, turn, scale, shift, mirror."""
        size = torch.tensor([width, height], dtype=torch.float64, device=keypoints.device)
        center, zoom = ((size - 1) / 2).expand(len(keypoints), 2), draws.scale.double()
        if halves is not None:
            center, fitted = _half_windows(keypoints.double(), visibility, halves[draws.half], size, center)
            zoom = zoom * fitted
        matrix = geometry.crop_matrix(
            center - draws.shift.double() * size,
            torch.stack((height / zoom, width / zoom), -1),
            (height, width),
            rotation=draws.degrees.double(),
        )
        mirror = torch.as_tensor(geometry.flip_matrix(width), device=matrix.device)
        return torch.where(draws.flipped[:, None, None], geometry.compose(matrix, mirror.expand_as(matrix)), matrix)


def _half_windows(
    keypoints: Tensor, visibility: Tensor, chosen: Tensor, size: Tensor, middle: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the middle and the zoom of windows around the chosen joints, or of all if less than three are known."""
    known = (visibility > 0) & torch.isfinite(keypoints).all(-1) & chosen
    use = (known.sum(-1) >= 3) & ~chosen.all(-1)
    low = torch.where(known[..., None], keypoints, torch.inf).amin(1)
    high = torch.where(known[..., None], keypoints, -torch.inf).amax(1)
    low, high = (torch.where(use[:, None], value, middle) for value in (low, high))
    zoom = (size / ((high - low).clamp_min(1.0) * 1.5)).amin(-1).clamp(0.5, 4.0)
    return (low + high) / 2, torch.where(use, zoom, 1.0)


def _shade(images: Tensor, draws: Draws) -> Tensor:
    """Return recoloured and covered pictures."""
    color = draws.color if images.shape[1] == 3 else draws.color[:, :1]
    shaded = (images * color[:, :, None, None] + draws.brightness[:, None, None, None]).clamp(0, 1)
    images = shaded.to(images.dtype)
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) / width
    y = torch.arange(height, device=images.device) / height
    for k in range(draws.boxes.shape[1]):  # two boxes
        cx, cy, w, h = draws.boxes[:, k].unbind(-1)
        across = (x - cx[:, None]).abs() < w[:, None] / 2
        down = (y - cy[:, None]).abs() < h[:, None] / 2
        paint = draws.paint[:, k, :, None, None]
        paint = paint if images.shape[1] == 3 else paint[:, :1]
        images = torch.where((down[:, None, :, None] & across[:, None, None, :]), paint.to(images.dtype), images)
    return images


def _cover(images: Tensor, points: Tensor, visibility: Tensor, draws: Draws) -> Tensor:
    """Return visibility with seen joints below a box as hidden: 2 becomes 1."""
    place = points / points.new_tensor([images.shape[-1], images.shape[-2]])
    apart = (place[:, :, None] - draws.boxes[:, None, :, :2]).abs()
    below = (apart < draws.boxes[:, None, :, 2:] / 2).all(-1).any(-1)
    return torch.where(below & (visibility > 1), torch.ones_like(visibility), visibility)
