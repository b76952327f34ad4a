"""Find drawings that are not worth training on, and say of each why.

Quick, Draw! holds what people drew in twenty seconds: some did not know the word, some did not finish, some wrote
text or drew something else. Each rule below is a small function from data to a mask and a reason; `clean` puts them
in order.

References
----------
T. DeVries, M. Drozdzal and G. W. Taylor, "Instance Selection for GANs", 2020, arXiv:2007.15255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_instance, check_integer, check_interval
from cvkit.gan.datasets.folder import DataLike, as_image_set
from cvkit.gan.duplicates import find_copies
from cvkit.gan.judge import Judge, train_classifier
from cvkit.gan.metrics._features import check_features, nearest, watched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvkit._types import Array, ArrayLike
    from cvkit.gan.datasets.imageset import ImageSet

__all__ = ["CleaningReport", "clean", "cross_fit", "dropped_sheet", "select_instances"]


@dataclass(frozen=True, eq=False)
class CleaningReport:
    """Which rows are kept, and why the others are not.

    Parameters
    ----------
    kept : ndarray of shape (M,)
        Rows that passed all rules, rising.
    reasons : ndarray of shape (N,)
        For each row the first rule that it broke, in words; empty for kept rows.
    scores : mapping of str to ndarray of shape (N,)
        What the rules looked at: ``ink``, ``strokes``, ``points``, ``margin``, ``density``, where they were asked for.
    leaks : ndarray of shape (L, 2)
        Training row and test row of each copy across the split.
    names : tuple of str
        The class names.
    labels : ndarray of shape (N,)
        The labels, for the table.
    """

    kept: Array
    reasons: Array
    scores: Mapping[str, Array]
    leaks: Array
    names: tuple[str, ...]
    labels: Array

    @property
    def dropped(self) -> Array:
        """Rows that broke a rule, rising."""
        return np.flatnonzero(self.reasons != "")

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many rows each rule dropped, by reason and class name."""
        table: dict[str, dict[str, int]] = {}
        for reason in sorted(set(self._kinds()) - {""}):
            hit = np.bincount(self.labels[self._kinds() == reason], minlength=len(self.names))
            table[str(reason)] = dict(zip(self.names, hit.tolist(), strict=True))
        return table

    def table(self) -> str:
        """Return the counts in plain text: a line a class, a column a reason."""
        counts = self.counts()
        total = np.bincount(self.labels, minlength=len(self.names))
        kept = np.bincount(self.labels[self.kept], minlength=len(self.names))
        width = max([len(name) for name in self.names] + [5]) + 2
        heads = ["rows", "kept", *counts]
        lines = [f"{'class':{width}}" + "".join(f"{head:>{max(9, len(head) + 2)}}" for head in heads)]
        for label, name in enumerate(self.names):
            cells = [total[label], kept[label], *(by_class[name] for by_class in counts.values())]
            lines.append(
                f"{name:{width}}" + "".join(f"{c:>{max(9, len(h) + 2)}}" for c, h in zip(cells, heads, strict=True))
            )
        return "\n".join(lines)

    def _kinds(self) -> Array:
        """Return the reasons without the row that they name."""
        return np.array([reason.split(":")[0] for reason in self.reasons], np.str_)


def clean(
    data: DataLike,
    *,
    test: DataLike | None = None,
    flag: bool = True,
    ink: float | None = 4.5,
    strokes: tuple[int, int] | None = (1, 64),
    points: tuple[int, int] | None = (4, 1024),
    near_copies: float | None = 6.0,
    margin: float | None = -1.0,
    density: float | None = 0.02,
    folds: int = 3,
    steps: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> CleaningReport:
    """Find drawings that are not worth training on.

    The rules, in order; the first that a row breaks is its reason. None switches a rule off.

    Parameters
    ----------
    data : ImageSet, or tuple of images and labels
        The training split. A test split is never cleaned: that would make the test easier.
    test : ImageSet, or tuple of images and labels, optional
        The test split, only to find training rows that are copies of test rows (leaks). It is not changed.
    flag : bool, default True
        Drop what the game did not recognise, where the set knows it.
    ink : float or None, default 4.5
        Drop drawings whose logarithm of ink lies further from its class's median than so many robust standard
        deviations (1.4826 times the median distance): nearly empty, or scribbled full.
    strokes, points : (int, int) or None
        Fewest and most strokes and points, where the set has strokes.
    near_copies : float or None, default 6.0
        Drop all but the first of near copies at most so far apart, see `find_copies`; 0 finds exact copies only.
    margin : float or None, default -1.0
        Drop drawings that classifiers, each trained on the other folds, take for another class: log-probability of
        its label minus the largest other one, below this value.
    density : float or None, default 0.02
        Drop this share of each class, those farthest from their 5th neighbour of the class, in the features of the same
        classifiers.
    folds : int, default 3
        Folds of the cross-fit: no row is scored by a classifier that has seen it.
    steps : int, default 500
        Training steps of each of these classifiers.
    seed : int, default 0
        Of folds and classifiers.
    progress : bool, default False
        Show bars on a terminal.

    Returns
    -------
    CleaningReport
        ``.kept`` rows, a reason for each other row, scores, leaks.

    Examples
    --------
    >>> from cvkit import gan
    >>> data = gan.quickdraw.generate(["sun", "star"], 60, dirty=0.2)
    >>> report = gan.clean(data, margin=None, density=None)
    >>> len(report.kept) == int(data.recognized.sum()), sorted(report.counts())
    (True, ['unrecognised'])
    """
    known = as_image_set(data)
    reasons = np.full(len(known), "", dtype="<U64")
    scores: dict[str, Array] = {}
    copies_of = None if test is None else as_image_set(test)
    if flag and known.recognized is not None:
        _give(reasons, ~known.recognized, "unrecognised")
    if ink is not None:
        scores["ink"] = _ink_rule(reasons, known, check_interval("ink", ink, 0, low_open=True))
    for name, limits in (("strokes", strokes), ("points", points)):
        if limits is not None and known.strokes is not None:
            counts = known.strokes.stroke_counts if name == "strokes" else known.strokes.point_counts
            scores[name] = counts
            low, high = (check_integer(name, limit, minimum=0) for limit in limits)
            _give(reasons, counts < low, f"few {name}")
            _give(reasons, counts > high, f"many {name}")
    leaks = np.zeros((0, 2), np.int64)
    if near_copies is not None:
        leaks = _copy_rules(reasons, known, copies_of, near_copies, progress)
    if margin is not None or density is not None:
        _classifier_rules(reasons, scores, known, margin, density, folds, steps, seed, progress)
    kept = np.flatnonzero(reasons == "")
    return CleaningReport(kept, reasons, scores, leaks, known.names, known.labels)


def _give(reasons: Array, broken: Array, reason: str) -> None:
    """Write a reason where a rule is broken and no earlier one was."""
    reasons[broken & (reasons == "")] = reason


def _ink_rule(reasons: Array, data: ImageSet, limit: float) -> Array:
    ink = np.zeros(len(data))
    for start in range(0, len(data), 4096):
        rows = data.images[start : start + 4096]
        ink[start : start + 4096] = rows.reshape(len(rows), -1).mean(axis=1) / 255
    log = np.log(ink + 1e-3)
    for label in range(len(data.names)):
        mine = data.labels == label
        if not mine.any():
            continue
        middle = np.median(log[mine])
        # A floor keeps a class of nearly equal drawings from dropping its own.
        scale = max(1.4826 * float(np.median(np.abs(log[mine] - middle))), 0.05)
        _give(reasons, mine & (log < middle - limit * scale), "little ink")
        _give(reasons, mine & (log > middle + limit * scale), "much ink")
    return ink


def _copy_rules(reasons: Array, data: ImageSet, test: ImageSet | None, near: float, progress: bool) -> Array:
    near = check_interval("near_copies", near, 0)
    leaks = np.zeros((0, 2), np.int64)
    if test is not None:
        of = find_copies(data.images, test.images, near=near, progress=progress)
        leaks = np.stack([np.flatnonzero(of >= 0), of[of >= 0]], axis=1)
        for row, original in leaks:
            _give_row(reasons, row, f"copy of test: row {original}")
    # Each class by itself for near copies; exact ones are looked for among all, since one drawing may carry two labels.
    for row, original in enumerate(find_copies(data.images)):
        _give_row(reasons, row, f"copy: row {original}" if original >= 0 else "")
    if near > 0:
        for label in range(len(data.names)):
            rows = np.flatnonzero((data.labels == label) & (reasons == ""))
            for place, original in enumerate(find_copies(data.images[rows], near=near, progress=progress)):
                _give_row(reasons, rows[place], f"near copy: row {rows[original]}" if original >= 0 else "")
    return leaks


def _give_row(reasons: Array, row: int, reason: str) -> None:
    if not reasons[row]:
        reasons[row] = reason


def _classifier_rules(
    reasons: Array,
    scores: dict[str, Array],
    data: ImageSet,
    margin: float | None,
    density: float | None,
    folds: int,
    steps: int,
    seed: int,
    progress: bool,
) -> None:
    """Score what is left by classifiers that have not seen it."""
    rows = np.flatnonzero(reasons == "")
    if not len(rows):
        return
    margins, distances = cross_fit(data[rows], folds=folds, steps=steps, seed=seed, progress=progress)
    if margin is not None:
        scores["margin"] = np.full(len(data), np.nan)
        scores["margin"][rows] = margins
        _give(reasons, scores["margin"] < margin, "looks like another class")
    if density is not None:
        share = check_interval("density", density, 0, 1)
        scores["density"] = np.full(len(data), np.nan)
        scores["density"][rows] = distances
        for label in range(len(data.names)):
            mine = rows[data.labels[rows] == label]
            far = mine[np.argsort(-distances[data.labels[rows] == label], kind="stable")]
            lone = np.zeros(len(data), bool)
            lone[far[: int(len(far) * share)]] = True
            _give(reasons, lone, "unlike its class")


def cross_fit(
    data: DataLike, *, folds: int = 3, steps: int = 500, k: int = 5, seed: int = 0, progress: bool = False
) -> tuple[Array, Array]:
    """Score each drawing by a classifier that was not trained on it.

    Parameters
    ----------
    data : ImageSet, or tuple of images and labels
        The drawings.
    folds : int, default 3
        Parts; each is scored by a classifier trained on the others.
    steps : int, default 500
        Training steps of each.
    k : int, default 5
        Which neighbour of the class gives the distance.
    seed : int, default 0
        Of folds and classifiers.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    margins : ndarray of shape (N,)
        Log-probability of the label minus the largest other one.
    distances : ndarray of shape (N,)
        Distance to the k-th neighbour of its class and fold in the classifier's features, over the median of that
        class and fold: large is lonely.

    Examples
    --------
    >>> from cvkit import gan
    >>> data = gan.quickdraw.generate(["sun", "star"], 40)
    >>> margins, distances = gan.cross_fit(data, folds=2, steps=25)
    >>> bool((margins > 0).mean() > 0.8), distances.shape
    (True, (80,))
    """
    known = as_image_set(data)
    folds = check_integer("folds", folds, minimum=2)
    k = check_integer("k", k, minimum=1)
    fold = _folds(known, folds, check_integer("seed", seed, minimum=0))
    margins, distances = np.zeros(len(known)), np.zeros(len(known))
    for part in watched(range(folds), "cross-fit", progress):
        mine = np.flatnonzero(fold == part)
        others = known[fold != part]
        if not len(mine) or not len(others):
            continue
        # Small and quick: it need only tell classes apart, and it is never the judge of what is trained afterwards.
        judge = train_classifier(
            others, steps=steps, batch_size=64, seed=seed + 1000 * (part + 1), width=8, features=64
        )
        margins[mine] = _margins(judge, known[mine])
        features = judge.features(known.images[mine])
        for label in range(len(known.names)):
            rows = np.flatnonzero(known.labels[mine] == label)
            distances[mine[rows]] = _loneliness(features[rows], k)
    return margins, distances


def _folds(data: ImageSet, folds: int, seed: int) -> Array:
    """Return a part for each row, as even as can be within each class."""
    fold = np.zeros(len(data), np.int64)
    for label in range(len(data.names)):
        rows = np.flatnonzero(data.labels == label)
        order = np.random.default_rng([seed, label, folds]).permutation(len(rows))
        fold[rows[order]] = (np.arange(len(rows)) + label) % folds
    return fold


def _margins(judge: Judge, data: ImageSet) -> Array:
    logits = judge.logits(data.images).astype(np.float64)
    rows = np.arange(len(logits))
    own = logits[rows, data.labels]
    logits[rows, data.labels] = -np.inf
    # A difference of log-probabilities is a difference of logits; a set of one class has no other.
    return np.asarray(own - logits.max(axis=1))


def _loneliness(features: Array, k: int) -> Array:
    if len(features) < 3:
        return np.ones(len(features))
    far = nearest(features, features, min(k, len(features) - 1), same=True, chunk=1024)
    return np.asarray(far / max(float(np.median(far)), 1e-12))


def select_instances(features: ArrayLike, labels: ArrayLike, *, keep: float = 0.8) -> Array:
    """Return the rows of each class that are likeliest under a normal distribution of its features.

    A generator of limited size draws better if it need not learn rare cases: fewer, likelier rows trade variety for
    fidelity.

    Parameters
    ----------
    features : ndarray or Tensor of shape (N, D)
        Features of any model that is not the judge of the outcome.
    labels : ndarray or Tensor of shape (N,)
        Class indices.
    keep : float, default 0.8
        Share of each class to keep, rounded up.

    Returns
    -------
    ndarray of shape (M,)
        Rows, rising.

    References
    ----------
    DeVries et al. 2020, arXiv:2007.15255, Eq. (1), with the covariance shrunk by a hundredth towards its mean variance.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan import select_instances
    >>> features = np.array([[0.0], [0.1], [-0.1], [0.05], [9.0]])
    >>> select_instances(features, np.zeros(5, int), keep=0.8).tolist()
    [0, 1, 2, 3]
    """
    share = check_interval("keep", keep, 0, 1)
    plain = check_features("features", features, minimum=1).astype(np.float64)
    of = np.asarray(labels)
    if of.shape != (len(plain),):
        raise ValueError(f"`labels` must have shape ({len(plain)},); got {of.shape}")
    kept = []
    for label in np.unique(of):
        rows = np.flatnonzero(of == label)
        offset = plain[rows] - plain[rows].mean(axis=0)
        covariance = offset.T @ offset / max(1, len(rows) - 1)
        spread = float(np.trace(covariance)) / len(covariance)
        covariance = 0.99 * covariance + (0.01 * spread + 1e-12) * np.eye(len(covariance))
        distance = np.einsum("nd,dn->n", offset, np.linalg.solve(covariance, offset.T))
        kept.append(rows[np.argsort(distance, kind="stable")[: int(np.ceil(len(rows) * share - 1e-9))]])
    return np.sort(np.concatenate(kept))


def dropped_sheet(data: DataLike, report: CleaningReport, *, columns: int = 16, scale: int = 2) -> Array:
    """Draw what was dropped: a row of pictures a reason, the worst first where the rule has a score.

    Parameters
    ----------
    data : ImageSet, or tuple of images and labels
        What was cleaned.
    report : CleaningReport
        What `clean` said of it.
    columns : int, default 16
        Most pictures a reason.
    scale : int, default 2
        Pixels of the sheet a pixel of a drawing.

    Returns
    -------
    ndarray of shape (H, W, 3)
        uint8: ink dark on paper, the reason and its count at the left of each row. A first row shows kept drawings.

    Examples
    --------
    >>> from cvkit import gan
    >>> data = gan.quickdraw.generate(["sun", "star"], 40, dirty=0.2)
    >>> report = gan.clean(data, margin=None, density=None)
    >>> gan.dropped_sheet(data, report).ndim
    3
    """
    from cvkit.imgops import contact_sheet

    known = as_image_set(data)
    check_instance("report", report, CleaningReport)
    columns = check_integer("columns", columns, minimum=1)
    kinds = report._kinds()
    if len(kinds) != len(known):
        raise ValueError(f"`report` must be about this set of {len(known)} rows; it is about {len(kinds)}")
    groups = {"kept": report.kept[np.linspace(0, len(report.kept) - 1, min(columns, len(report.kept))).astype(int)]}
    for reason in sorted(set(kinds) - {""}):
        groups[reason] = _worst_first(report, np.flatnonzero(kinds == reason), reason)[:columns]
    pictures, labels = [], []
    for reason, rows in groups.items():
        count = len(report.kept) if reason == "kept" else int((kinds == reason).sum())
        labels.append(f"{reason} ({count})")
        shown_ = 255 - known.images[rows].reshape(len(rows), *known.images.shape[-2:])
        blank = np.full((columns - len(rows), *shown_.shape[1:]), 255, np.uint8)
        pictures += [np.repeat(image[..., None], 3, axis=2) for image in (*shown_, *blank)]
    sheet = contact_sheet(pictures, columns=columns, row_labels=labels, gap=2, scale=scale)
    return np.asarray(sheet)


def _worst_first(report: CleaningReport, rows: Array, reason: str) -> Array:
    by = {"looks like another class": ("margin", 1), "unlike its class": ("density", -1)}
    by |= {"little ink": ("ink", 1), "much ink": ("ink", -1)}
    if reason not in by or by[reason][0] not in report.scores:
        return rows
    name, sign = by[reason]
    return np.asarray(rows[np.argsort(sign * report.scores[name][rows], kind="stable")])
