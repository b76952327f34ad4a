"""Landmarks and heatmaps drawn on pictures of any kind."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

from cvkit import imgops
from cvkit._checks import check_instance, check_interval, shown
from cvkit.pose.metrics.distances import to_numpy
from cvkit.pose.preprocess import photo_size
from cvkit.pose.skeleton import Skeleton

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import ArrayLike, ImageT

__all__ = ["draw_pose", "joint_colors"]


def joint_colors(skeleton: Skeleton) -> NDArray[np.float64]:
    """Return a colour a joint: reds and oranges on the left, blues and greens on the right, gold in the middle.

    Parameters
    ----------
    skeleton : Skeleton
        The first joint of each pair counts as left if its name does not say otherwise.

    Returns
    -------
    ndarray of shape (J, 3)
        Red, green, blue in [0, 1].

    Examples
    --------
    >>> from cvkit.pose import MPII, joint_colors
    >>> joint_colors(MPII).shape
    (16, 3)
    """
    check_instance("skeleton", skeleton, Skeleton)
    side = [0] * len(skeleton)
    for first, second in skeleton.pairs:
        a, b = int(first), int(second)
        if "right" in skeleton.joints[a].lower():
            a, b = b, a
        side[a], side[b] = 1, -1
    left = [joint for joint, value in enumerate(side) if value > 0]
    colors = np.tile((1.0, 0.8, 0.1), (len(skeleton), 1))
    for rank, joint in enumerate(left):
        share = rank / max(len(left) - 1, 1)
        colors[joint] = colorsys.hsv_to_rgb(0.95 + 0.12 * share, 0.85, 1.0)
        colors[skeleton.flip[joint]] = colorsys.hsv_to_rgb(0.45 + 0.17 * share, 0.85, 1.0)
    return colors


def draw_pose(
    image: ImageT,
    keypoints: ArrayLike,
    skeleton: Skeleton,
    *,
    scores: ArrayLike | None = None,
    threshold: float = 0.0,
    radius: float | None = None,
    width: float | None = None,
    opacity: float = 1.0,
) -> ImageT:
    """Draw the skeletons of one or several objects on a picture.

    Parameters
    ----------
    image : Pillow image, ndarray of shape (H, W) or (H, W, C), Tensor of shape (C, H, W)
        The picture.
    keypoints : array or Tensor of shape (J, 2) or (N, J, 2)
        Places ``(x, y)`` in its pixels; NaN is not drawn.
    skeleton : Skeleton
        Says which joints are joined.
    scores : array or Tensor of shape (J,) or (N, J), optional
        Joints with a score of at most `threshold` are not drawn, nor the lines to them.
    threshold : float, default 0.0
        See `scores`.
    radius : float, optional
        Of the dots in pixels; by default by the picture's size, smaller for many joints.
    width : float, optional
        Of the lines in pixels; by default two thirds of `radius`.
    opacity : float, default 1.0
        In [0, 1].

    Returns
    -------
    same kind as `image`
        A new picture.

    Raises
    ------
    ValueError
        If shapes don't fit, or `radius` or `width` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import STICK_FIGURE, draw_pose, stick_figures
    >>> data = stick_figures(1)
    >>> drawn = draw_pose(data.images[0], data.keypoints[0], STICK_FIGURE)
    >>> drawn.shape, bool((drawn != data.images[0]).any())
    ((64, 64, 3), True)
    """
    check_instance("skeleton", skeleton, Skeleton)
    check_interval("opacity", opacity, 0, 1)
    points = to_numpy(keypoints).astype(np.float64)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1:] != (len(skeleton), 2):
        raise ValueError(f"`keypoints` must be ({len(skeleton)}, 2) or (N, {len(skeleton)}, 2); got {shown(keypoints)}")
    if scores is not None:
        sure = to_numpy(scores).astype(np.float64)
        sure = sure[None] if sure.ndim == 1 else sure
        if sure.shape != points.shape[:2]:
            raise ValueError(f"`scores` must be ({len(points)}, {len(skeleton)}); got {shown(scores)}")
        points = np.where((sure > threshold)[..., None], points, np.nan)
    height, across = photo_size(image)
    if radius is None:
        radius = max(1.0, min(height, across) / (90 if len(skeleton) <= 25 else 160))
    check_interval("radius", radius, 0, low_open=True)
    line = radius * 2 / 3 if width is None else check_interval("width", width, 0, low_open=True)
    colors = joint_colors(skeleton)
    if skeleton.lines and len(points):
        ends = np.asarray(skeleton.lines)
        segments = points[:, ends].reshape(-1, 2, 2)
        tints = np.tile((colors[ends[:, 0]] + colors[ends[:, 1]]) / 2, (len(points), 1))
        image = imgops.draw_lines(image, segments, tints, line, opacity=opacity)
    return imgops.draw_points(image, points.reshape(-1, 2), np.tile(colors, (len(points), 1)), radius, opacity=opacity)
