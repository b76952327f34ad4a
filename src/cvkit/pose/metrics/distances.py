"""Distances between predicted and labelled places, and the lengths they are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cvkit._checks import check_choice, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import ArrayLike

__all__ = ["ReferenceLength", "reference_length"]

ReferenceLength = Literal["interocular", "interpupil", "box", "box_max", "torso", "head"]
"""What a distance is divided by, see `reference_length`."""
LENGTHS: tuple[ReferenceLength, ...] = ("interocular", "interpupil", "box", "box_max", "torso", "head")

_OUTER_CORNERS = {68: (36, 45), 98: (60, 72), 29: (8, 9), 19: (6, 11)}
_PUPILS: dict[int, tuple[Any, Any]] = {
    68: (slice(36, 42), slice(42, 48)),
    98: ([96], [97]),
    29: ([16], [17]),
    19: ([7], [10]),
}
_TORSO = {16: (13, 2), 14: (9, 2), 17: (5, 12)}  # left shoulder and right hip


def to_numpy(value: ArrayLike) -> NDArray[Any]:
    """Return an array or tensor as a NumPy array, from any device."""
    if isinstance(value, np.ndarray):
        return value
    detach = getattr(value, "detach", None)
    if detach is None:
        return np.asarray(value)
    tensor = detach().cpu()
    return np.asarray(tensor.double() if tensor.is_floating_point() else tensor)


def places(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return key points as float64 ``(N, J, 2)``."""
    points = to_numpy(value)
    if points.ndim != 3 or points.shape[-1] != 2:
        raise ValueError(f"`{name}` must be (N, J, 2); got {shown(value)}")
    return points.astype(np.float64)


def visible(visibility: ArrayLike | None, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where joints are labelled: visibility > 0 and finite coordinates."""
    finite = np.asarray(np.isfinite(points).all(-1))
    if visibility is None:
        return np.asarray(finite)
    given = to_numpy(visibility)
    if given.shape != points.shape[:2]:
        raise ValueError(f"`visibility` must be (N, J), here {points.shape[:2]}; got {shown(visibility)}")
    return np.asarray(finite & (given > 0))


def distances(
    predicted: ArrayLike,
    keypoints: ArrayLike,
    visibility: ArrayLike | None,
    normalizer: ArrayLike | float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return distances ``(N, J)`` over a length a sample, and which count; NaN predictions are infinitely far."""
    given, wanted = places("predicted", predicted), places("keypoints", keypoints)
    if given.shape != wanted.shape:
        raise ValueError(f"`predicted` must be {wanted.shape} as `keypoints`; got {shown(predicted)}")
    known = visible(visibility, wanted)
    difference = np.where(known[..., None], given - np.where(known[..., None], wanted, 0.0), 0.0)
    apart = np.hypot(difference[..., 0], difference[..., 1])
    apart = np.where(np.isnan(apart), np.inf, apart)
    given_length = to_numpy(normalizer)  # type: ignore[arg-type]
    if given_length.dtype.kind not in "buif" or given_length.shape not in {(), (1,), (len(wanted),)}:
        raise ValueError(f"`normalizer` must be a number or (N,), here ({len(wanted)},); got {shown(normalizer)}")
    length = np.broadcast_to(given_length.astype(np.float64), (len(wanted),))
    usable = np.isfinite(length) & (length > 0)
    if bool((~usable & known.any(1)).any()):
        raise ValueError("`normalizer` must be positive and finite for every sample with a labelled joint")
    return apart / np.where(usable, length, 1.0)[:, None], known


def reference_length(
    kind: ReferenceLength,
    keypoints: ArrayLike,
    visibility: ArrayLike | None = None,
    *,
    boxes: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the length that each sample's errors are measured against.

    Parameters
    ----------
    kind : {'interocular', 'interpupil', 'box', 'box_max', 'torso', 'head'}
        Outer eye corners (19, 29, 68 and 98 points; 19-point faces use the eyes' outer ends); middles of the eyes or
        pupils (the same); square root of the box's area; its longer side; left shoulder to right hip (14, 16, 17
        joints); 0.6 times the diagonal of the head box, as MPII has it.
    keypoints : array or Tensor of shape (N, J, 2)
        Labelled places.
    visibility : array or Tensor of shape (N, J), optional
        Which joints are labelled (> 0).
    boxes : array or Tensor of shape (N, 4), optional
        ``(left, top, right, bottom)`` of the object, or of the head for ``"head"``; by default the box around the
        labelled joints (not for ``"head"``).

    Returns
    -------
    ndarray of shape (N,)
        Lengths in the key points' unit; NaN where a joint that is needed has no label.

    Raises
    ------
    ValueError
        If `kind` is unknown, doesn't suit the number of joints, or needs `boxes`; if boxes are turned around.

    References
    ----------
    .. [1] C. Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV workshops 2013 (outer corners).
    .. [2] M. Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014
       (head).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import reference_length
    >>> face = np.zeros((1, 68, 2))
    >>> face[0, 36], face[0, 45] = (10, 20), (40, 60)
    >>> reference_length("interocular", face)
    array([50.])
    """
    check_choice("kind", kind, LENGTHS)
    points = places("keypoints", keypoints)
    known = visible(visibility, points)
    points = np.where(known[..., None], points, np.nan)
    if kind == "interocular":
        first, second = _lookup(_OUTER_CORNERS, kind, points.shape[1])
        return _apart(points[:, first], points[:, second])
    if kind == "interpupil":
        first, second = _lookup(_PUPILS, kind, points.shape[1])
        return _apart(points[:, first].mean(1), points[:, second].mean(1))
    if kind == "torso":
        first, second = _lookup(_TORSO, kind, points.shape[1])
        return _apart(points[:, first], points[:, second])
    if boxes is None:
        if kind == "head":
            raise ValueError("`boxes` must be given for the kind 'head': the boxes of the heads")
        low = np.where(known[..., None], points, np.inf).min(1, initial=np.inf)
        high = np.where(known[..., None], points, -np.inf).max(1, initial=-np.inf)
        sides = np.where(np.isfinite(low) & np.isfinite(high), high - low, np.nan)
    else:
        given = to_numpy(boxes).astype(np.float64)
        if given.shape != (len(points), 4):
            raise ValueError(f"`boxes` must be (N, 4), here ({len(points)}, 4); got {shown(boxes)}")
        sides = given[:, 2:] - given[:, :2]
        if (sides < 0).any():
            raise ValueError(
                f"`boxes` must be (left, top, right, bottom) with left <= right, top <= bottom; got {shown(boxes)}"
            )
    if kind == "box":
        return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))
    if kind == "box_max":
        return np.asarray(sides.max(1))
    return np.asarray(0.6 * np.hypot(sides[:, 0], sides[:, 1]))


def _apart(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]))


def _lookup(table: dict[int, Any], kind: str, joints: int) -> tuple[Any, Any]:
    if joints not in table:
        raise ValueError(
            f"`kind` {kind!r} is known for {sorted(table)} joints; got {joints}. Pass your own lengths instead"
        )
    first, second = table[joints]
    return first, second
