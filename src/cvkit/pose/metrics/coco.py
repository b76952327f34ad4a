"""Object key-point similarity and COCO's average precision and recall, equal to the reference program's in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cvkit._checks import check_instance, shown
from cvkit._errors import DataError
from cvkit.pose.metrics.distances import places, to_numpy, visible
from cvkit.pose.skeletons import COCO17

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import ArrayLike, StrPath

__all__ = ["CocoAP", "coco_evaluate", "oks"]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AREAS = {"": (0.0, 1e10), "M": (32.0**2, 96.0**2), "L": (96.0**2, 1e10)}
_MOST = 20  # detections an image and category
_PAIRS_AT_ONCE = 100_000


def oks(
    predicted: ArrayLike,
    keypoints: ArrayLike,
    visibility: ArrayLike | None,
    areas: ArrayLike,
    *,
    sigmas: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Return the object key-point similarity of each prediction with its label.

    Parameters
    ----------
    predicted, keypoints : array or Tensor of shape (N, J, 2)
        Predicted and labelled places in pixels.
    visibility : array or Tensor of shape (N, J), optional
        Which joints are labelled (> 0).
    areas : array or Tensor of shape (N,)
        Area of each object in square pixels.
    sigmas : sequence of float, optional
        One a joint; COCO's seventeen by default.

    Returns
    -------
    ndarray of shape (N,)
        In [0, 1]; NaN where nothing is labelled.

    Raises
    ------
    ValueError
        If shapes don't fit, `sigmas` has another length than the joints, or a number is negative.

    References
    ----------
    .. [1] COCO key-point evaluation: mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2)).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import oks
    >>> labels = np.zeros((1, 17, 2))
    >>> round(float(oks(labels + 5.0, labels, None, [100.0**2])[0]), 6)
    0.776402
    """
    given, wanted = places("predicted", predicted), places("keypoints", keypoints)
    if given.shape != wanted.shape:
        raise ValueError(f"`predicted` must be {wanted.shape} as `keypoints`; got {shown(predicted)}")
    size = np.asarray(to_numpy(areas), np.float64)
    if size.shape != wanted.shape[:1] or not (size >= 0).all():
        raise ValueError(f"`areas` must be (N,), here {wanted.shape[:1]}, and not negative; got {shown(areas)}")
    known = visible(visibility, wanted)
    squares = ((given - np.where(known[..., None], wanted, 0.0)) ** 2).sum(-1)
    return _similarity(squares, known, size, _variances(sigmas, wanted.shape[1]))


def _variances(sigmas: Sequence[float] | None, joints: int) -> NDArray[np.float64]:
    values = np.asarray(COCO17.sigmas if sigmas is None else sigmas, np.float64)
    if values.shape != (joints,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"`sigmas` must be {joints} positive numbers, one a joint; got {shown(sigmas)}")
    return np.asarray((values * 2) ** 2)


def _similarity(
    squares: NDArray[np.float64], known: NDArray[np.bool_], areas: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of exp(-d^2 / variance / (area + eps) / 2) over `known`, NaN where there are none."""
    exponent = squares / variances / (areas + np.spacing(1))[:, None] / 2
    similar = np.where(known, np.exp(-np.where(known, exponent, 0.0)), 0.0)
    similar = np.where(np.isnan(similar), 0.0, similar)
    count = known.sum(1)
    return np.asarray(np.where(count > 0, similar.sum(1) / np.maximum(count, 1), np.nan))


def coco_evaluate(
    ground_truth: Mapping[str, Any] | StrPath,
    detections: Sequence[Mapping[str, Any]] | StrPath,
    *,
    sigmas: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return COCO's average precision and recall of key-point detections.

    Parameters
    ----------
    ground_truth : dict or path
        COCO json: ``images``, ``annotations``, ``categories``.
    detections : list of dict or path
        COCO results: ``image_id``, ``category_id``, ``keypoints`` (3 J numbers), ``score``.
    sigmas : sequence of float, optional
        One a joint; COCO's seventeen by default.

    Returns
    -------
    dict
        ``AP``, ``AP50``, ``AP75``, ``APM``, ``APL``, ``AR``, ``AR50``, ``AR75``, ``ARM``, ``ARL``; -1 where there is
        nothing to find.

    Raises
    ------
    DataError
        If a file is missing or no JSON.
    ValueError
        If an entry lacks a field, has a wrong number of key points, or names an unknown image.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its key-point evaluation page.

    Examples
    --------
    >>> from cvkit.pose import coco_evaluate
    >>> points = [10.0 * i for i in range(17)]
    >>> flat = [value for x in points for value in (x, x, 2)]
    >>> person = {
    ...     "id": 1,
    ...     "image_id": 7,
    ...     "category_id": 1,
    ...     "keypoints": flat,
    ...     "num_keypoints": 17,
    ...     "area": 1e4,
    ...     "bbox": [0, 0, 160, 160],
    ... }
    >>> truth = {"images": [{"id": 7}], "annotations": [person], "categories": [{"id": 1, "name": "person"}]}
    >>> found = [{"image_id": 7, "category_id": 1, "keypoints": flat, "score": 0.9}]
    >>> round(coco_evaluate(truth, found)["AP"], 12)
    1.0
    """
    truth, found = _read_if_path(ground_truth), _read_if_path(detections)
    metric = CocoAP(sigmas=sigmas)
    metric.update(truth, found)
    return metric.compute()


def _read_if_path(given: Any) -> Any:
    if not isinstance(given, str) and not hasattr(given, "__fspath__"):
        return given
    try:
        return json.loads(Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{given}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{given}: is no JSON ({error})") from error


class _Truth(NamedTuple):
    image: int | str
    category: int
    keypoints: NDArray[np.float64]  # (J, 3)
    area: float
    box: NDArray[np.float64]
    crowd: bool
    ignored: bool


class _Found(NamedTuple):
    image: int | str
    category: int
    keypoints: NDArray[np.float64]  # (J, 3)
    area: float
    score: float


class CocoAP:
    """COCO's average precision and recall for key points; an accumulator.

    Parameters
    ----------
    sigmas : sequence of float, optional
        One a joint; COCO's seventeen by default.

    Notes
    -----
    Follows the reference program to the last rule: at most 20 detections an image, ten thresholds, 101 recall levels,
    stable sorting by score, matches of a crowd or of people without labelled joints ignored, areas from the ground
    truth's ``area``. Images may come in any order and in any split; each image with all of its people and detections at
    once.

    Examples
    --------
    >>> from cvkit.pose import CocoAP
    >>> metric = CocoAP()
    >>> metric.update({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}, [])
    >>> metric.compute()["AP"]
    -1.0
    """

    def __init__(self, *, sigmas: Sequence[float] | None = None) -> None:
        self._sigmas = tuple(float(s) for s in (COCO17.sigmas or () if sigmas is None else sigmas))
        self._variances = _variances(self._sigmas, len(self._sigmas))
        self._images: dict[int | str, None] = {}
        self._categories: dict[int, None] = {}
        self._truths: list[_Truth] = []
        self._founds: list[_Found] = []

    def update(self, ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> None:
        """Add images with their people and detections.

        Parameters
        ----------
        ground_truth : dict
            COCO json: ``images``, ``annotations``, ``categories``.
        detections : list of dict
            COCO results on these images.
        """
        check_instance("ground_truth", ground_truth, Mapping, "a mapping, as COCO json gives")  # type: ignore[type-abstract]
        if not {"images", "annotations"} <= set(ground_truth):
            raise ValueError("`ground_truth` must have `images` and `annotations`")
        for part in ("images", "categories"):
            if any(not isinstance(entry, Mapping) or "id" not in entry for entry in ground_truth.get(part, ())):
                raise ValueError(f"`ground_truth` must have an `id` in each of its {part}")
        images = dict.fromkeys(image["id"] for image in ground_truth["images"])
        repeated = images.keys() & self._images.keys()
        if repeated:
            raise ValueError(f"`ground_truth` must not name an image twice; image {next(iter(repeated))!r} came before")
        annotations = ground_truth["annotations"]
        if any("image_id" not in entry for entry in annotations):
            raise ValueError("`ground_truth` must have an `image_id` in each of its annotations")
        truths = [self._truth(entry) for entry in annotations if entry["image_id"] in images]
        categories = [category["id"] for category in ground_truth.get("categories", ())]
        founds = [self._found(entry, images) for entry in detections]
        self._images.update(images)
        self._categories.update(dict.fromkeys(categories or (t.category for t in truths)))
        self._truths += truths
        self._founds += founds

    def _points(self, what: str, entry: Mapping[str, Any]) -> NDArray[np.float64]:
        check_instance(what, entry, Mapping, "entries that are mappings")  # type: ignore[type-abstract]
        for name in ("image_id", "category_id", "keypoints", "bbox" if what == "ground_truth" else "score"):
            if name not in entry:
                raise ValueError(f"`{what}` must have the field {name!r}; got one with {sorted(entry)}")
        points = np.asarray(entry["keypoints"], np.float64)
        if points.size != 3 * len(self._sigmas):
            raise ValueError(f"`{what}` must have 3 x {len(self._sigmas)} key points; got {points.size} numbers")
        return points.reshape(-1, 3)

    def _truth(self, entry: Mapping[str, Any]) -> _Truth:
        points = self._points("ground_truth", entry)
        crowd = bool(entry.get("iscrowd", 0))
        labelled = entry.get("num_keypoints", int((points[:, 2] > 0).sum()))
        box = np.asarray(entry["bbox"], np.float64)
        if box.shape != (4,):
            raise ValueError(f"`ground_truth` must have a `bbox` (x, y, width, height); got {shown(entry['bbox'])}")
        area = float(entry.get("area", box[2] * box[3]))
        return _Truth(entry["image_id"], entry["category_id"], points, area, box, crowd, crowd or labelled == 0)

    def _found(self, entry: Mapping[str, Any], images: Mapping[int | str, None]) -> _Found:
        points = self._points("detections", entry)
        if entry["image_id"] not in images:
            raise ValueError(f"`detections` must be on images of `ground_truth`; got image {entry['image_id']!r}")
        spread = points[:, :2].max(0) - points[:, :2].min(0)
        return _Found(
            entry["image_id"], entry["category_id"], points, float(spread[0] * spread[1]), float(entry["score"])
        )

    def merge(self, other: CocoAP) -> CocoAP:
        """Return an accumulator of both sets of images.

        Parameters
        ----------
        other : CocoAP
            With the same sigmas and other images.

        Returns
        -------
        CocoAP
            A new one.
        """
        check_instance("other", other, CocoAP)
        if self._sigmas != other._sigmas:
            raise ValueError("`other` must have the same sigmas")
        repeated = self._images.keys() & other._images.keys()
        if repeated:
            raise ValueError(f"`other` must hold other images; both hold {next(iter(repeated))!r}")
        merged = CocoAP(sigmas=self._sigmas)
        for part in (self, other):
            merged._images.update(part._images)
            merged._categories.update(part._categories)
            merged._truths += part._truths
            merged._founds += part._founds
        return merged

    def compute(self) -> dict[str, float]:
        """Return the ten figures.

        Returns
        -------
        dict
            ``AP``, ``AP50``, ``AP75``, ``APM``, ``APL`` and the same for ``AR``; -1 where there is nothing to find.
        """
        precision = np.full((len(self._categories), len(_AREAS), len(_THRESHOLDS), len(_RECALLS)), -1.0)
        recall = np.full(precision.shape[:-1], -1.0)
        images = {image: i for i, image in enumerate(sorted(self._images, key=_order))}
        for c, category in enumerate(sorted(self._categories)):
            truths = [t for t in self._truths if t.category == category]
            founds = [f for f in self._founds if f.category == category]
            _evaluate(images, truths, founds, self._variances, precision[c], recall[c])
        result = {}
        for name, table in (("AP", precision), ("AR", recall)):
            result[name] = _known_mean(table[:, 0])
            result[f"{name}50"] = _known_mean(table[:, 0, 0])
            result[f"{name}75"] = _known_mean(table[:, 0, 5])
            result[f"{name}M"] = _known_mean(table[:, 1])
            result[f"{name}L"] = _known_mean(table[:, 2])
        return result


def _order(image: int | str) -> tuple[bool, int | str]:
    return isinstance(image, str), image


def _known_mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _evaluate(
    images: Mapping[int | str, int],
    truths: Sequence[_Truth],
    founds: Sequence[_Found],
    variances: NDArray[np.float64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> None:
    """Fill precision ``(A, T, R)`` and recall ``(A, T)`` of one category."""
    # Detections by image, best first, equal scores in the order they came; at most 20 an image.
    scores = np.asarray([f.score for f in founds], np.float64)
    home = np.asarray([images[f.image] for f in founds], np.int64)
    order = np.lexsort((-scores, home))
    home, scores = home[order], scores[order]
    rank = np.arange(len(home)) - np.searchsorted(home, home)
    best_ones = rank < _MOST
    home, scores, rank = home[best_ones], scores[best_ones], rank[best_ones]
    founds = [founds[i] for i in order[best_ones]]
    where = np.asarray([images[t.image] for t in truths], np.int64)
    truth_order = np.argsort(where, kind="stable")
    truths, where = [truths[i] for i in truth_order], where[truth_order]
    slot = np.arange(len(where)) - np.searchsorted(where, where)
    matched, ignored, gone = _match(len(images), truths, where, slot, founds, home, rank, variances)
    # All detections of the category, best first.
    best = np.argsort(-scores, kind="stable")
    for a in range(len(_AREAS)):
        wanted = int((~gone[a]).sum())
        if not wanted:
            continue
        hit, out = matched[a][:, best], ignored[a][:, best]
        true = np.cumsum(hit & ~out, axis=1).astype(np.float64)
        false = np.cumsum(~hit & ~out, axis=1).astype(np.float64)
        for t in range(len(_THRESHOLDS)):
            recall[a, t], precision[a, t] = _curve(true[t], false[t], wanted)


def _curve(true: NDArray[np.float64], false: NDArray[np.float64], wanted: int) -> tuple[float, NDArray[np.float64]]:
    """Return the last recall, and precision at the 101 recall levels."""
    sampled = np.zeros(len(_RECALLS))
    if not len(true):
        return 0.0, sampled
    reached = true / wanted
    exact = true / (false + true + np.spacing(1))
    exact = np.maximum.accumulate(exact[::-1])[::-1]
    index = np.searchsorted(reached, _RECALLS, side="left")
    inside = index < len(exact)
    sampled[inside] = exact[index[inside]]
    return float(reached[-1]), sampled


def _match(
    count: int,
    truths: Sequence[_Truth],
    where: NDArray[np.int64],
    slot: NDArray[np.int64],
    founds: Sequence[_Found],
    home: NDArray[np.int64],
    rank: NDArray[np.int64],
    variances: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Match greedily in all images at once: first every image's best detection, then every second best, and so on.

    Returns whether detections matched and are ignored, ``(A, T, D)``, and which truths are ignored, ``(A, G)``.
    """
    most = int(slot.max(initial=-1)) + 1
    shape = (len(_AREAS), len(_THRESHOLDS), len(founds))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    limits = np.asarray(list(_AREAS.values()))
    area = np.asarray([t.area for t in truths], np.float64)
    never = np.asarray([t.ignored for t in truths], bool)
    gone = np.asarray(never | (area < limits[:, :1]) | (area > limits[:, 1:]))  # (A, G)
    similar = np.full((len(founds), most), -1.0)
    pairs = _pairs(where, home, count)
    for start in range(0, len(pairs[0]), _PAIRS_AT_ONCE):
        d, g = (index[start : start + _PAIRS_AT_ONCE] for index in pairs)
        similar[d, slot[g]] = _pair_similarity([founds[i] for i in d], [truths[i] for i in g], variances)
    crowd, out = np.zeros((count, most), bool), np.zeros((len(_AREAS), count, most), bool)
    crowd[where, slot] = [t.crowd for t in truths]
    out[:, where, slot] = gone
    taken = np.zeros((len(_AREAS), len(_THRESHOLDS), count, most), bool)
    start_at = np.minimum(_THRESHOLDS, 1 - 1e-10)[None, :, None, None]
    for r in range(int(rank.max(initial=-1)) + 1):
        now = np.flatnonzero(rank == r)
        at = home[now]
        values = similar[now][None, None]  # (1, 1, I, G)
        free = (~taken[:, :, at] | crowd[at]) & (values >= start_at)
        hit, choice, to_ignored = _choose(values, free, out[:, None, at])
        matched[:, :, now], ignored[:, :, now] = hit, hit & to_ignored
        a, t, i = np.nonzero(hit)
        taken[a, t, at[i], choice[a, t, i]] = True
    size = np.asarray([f.area for f in founds], np.float64)
    outside = np.asarray((size < limits[:, :1]) | (size > limits[:, 1:]))
    ignored |= ~matched & outside[:, None]
    return matched, ignored, gone


def _choose(
    values: NDArray[np.float64], free: NDArray[np.bool_], out: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """Choose the most similar free truth, real before ignored, the last of equals: found, its slot, ignored."""
    if not values.shape[-1]:
        nothing = np.zeros(free.shape[:-1], bool)
        return nothing, nothing.astype(np.int64), nothing
    real, other = free & ~out, free & out
    use_other = np.asarray(~real.any(-1))
    candidates = np.where(use_other[..., None], other, real)
    ranked = np.where(candidates, values, -np.inf)[..., ::-1]
    choice = values.shape[-1] - 1 - ranked.argmax(-1)
    return np.asarray(candidates.any(-1)), choice, use_other


def _pairs(
    where: NDArray[np.int64], home: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of all pairs of a detection and a truth on one image."""
    people = np.bincount(where, minlength=count)
    first = np.concatenate(([0], np.cumsum(people)[:-1])) if count else np.zeros(0, np.int64)
    each = people[home]
    d = np.repeat(np.arange(len(home)), each)
    within = np.arange(len(d)) - np.repeat(np.cumsum(each) - each, each)
    return d, first[home[d]] + within


def _pair_similarity(
    founds: Sequence[_Found], truths: Sequence[_Truth], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the similarity of each pair. Truths without a label compare with their doubled box, joint by joint."""
    given = np.stack([f.keypoints for f in founds])
    wanted = np.stack([t.keypoints for t in truths])
    boxes = np.stack([t.box for t in truths])
    areas = np.asarray([t.area for t in truths], np.float64)
    labelled = np.asarray(wanted[..., 2] > 0)
    nothing = np.asarray(~labelled.any(1))
    low, high = boxes[:, None, :2] - boxes[:, None, 2:], boxes[:, None, :2] + boxes[:, None, 2:] * 2
    beyond = np.maximum(0, low - given[..., :2]) + np.maximum(0, given[..., :2] - high)
    difference = np.where(nothing[:, None, None], beyond, given[..., :2] - wanted[..., :2])
    squares = difference[..., 0] ** 2 + difference[..., 1] ** 2
    return _similarity(squares, labelled | nothing[:, None], areas, variances)
