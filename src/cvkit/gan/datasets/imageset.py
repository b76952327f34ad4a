"""A labelled set of small uint8 images: what every reader gives and every measure and trainer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit._checks import check_integer, check_interval, shown

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike
    from cvkit.gan.datasets.quickdraw.drawing import StrokeSet

__all__ = ["ImageSet", "Split"]

Index = int | slice | Sequence[int]


class Split(NamedTuple):
    """The two parts of a set."""

    train: ImageSet
    test: ImageSet


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images, labels and class names, with what else is known of each row.

    Parameters
    ----------
    images : ndarray of shape (N, H, W) or (N, C, H, W)
        uint8; may be a memory map.
    labels : ndarray of shape (N,)
        Class indices in [0, K), any integer dtype; kept as int64.
    names : sequence of str
        The K class names.
    recognized : ndarray of shape (N,), optional
        Whether the game recognised each drawing.
    strokes : StrokeSet, optional
        The drawings the images were made of.
    rows : ndarray of shape (N,), optional
        The row of each image in the file that it came from.

    Raises
    ------
    TypeError
        If images are not uint8 or labels not integers.
    ValueError
        If shapes disagree, a name comes twice, or a label lies outside [0, K).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.datasets import ImageSet
    >>> data = ImageSet(np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 1, 0]), ["cat", "fish"])
    >>> data
    ImageSet(4 images of (28, 28), 2 classes)
    >>> data[data.labels == 1].images.shape
    (2, 28, 28)
    """

    images: Array
    labels: Array
    names: tuple[str, ...]
    recognized: Array | None = None
    strokes: StrokeSet | None = None
    rows: Array | None = None

    def __post_init__(self) -> None:
        images = _plain(self.images)
        if images.dtype != np.uint8:
            raise TypeError(f"`images` must be uint8 in [0, 255]; got {shown(images)}")
        if images.ndim not in {3, 4}:
            raise ValueError(f"`images` must have shape (N, H, W) or (N, C, H, W); got {shown(images)}")
        names = tuple(str(name) for name in self.names)
        if len(set(names)) != len(names):
            raise ValueError(f"`names` must differ; got {shown(names)}")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "labels", _check_labels(_plain(self.labels), len(images), len(names)))
        for name in ("recognized", "strokes", "rows"):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != len(images):
                raise ValueError(f"`{name}` must have one entry for each of {len(images)} images; got {len(value)}")
        if self.recognized is not None:
            object.__setattr__(self, "recognized", _plain(self.recognized).astype(bool))
        if self.rows is not None:
            object.__setattr__(self, "rows", _plain(self.rows).astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Array | Sequence[int]) -> ImageSet:
        """Return the chosen rows as a set: an index array may repeat rows, a mask must have N entries."""
        if isinstance(index, int | np.integer):
            number = range(len(self))[int(index)]
            index = slice(number, number + 1)
        elif not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.int64) if index.size == 0 else index
            if index.dtype.kind not in "iub" or index.ndim != 1:
                raise IndexError(f"a set is indexed by an integer, a slice, integers or a mask; got {shown(index)}")
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            recognized=None if self.recognized is None else self.recognized[index],
            strokes=None if self.strokes is None else self.strokes[index],
            rows=None if self.rows is None else self.rows[index],
        )

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} images of {self.images.shape[1:]}, {len(self.names)} classes)"

    @property
    def counts(self) -> Array:
        """Number of rows of each class, (K,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    def select(self, classes: Sequence[str]) -> ImageSet:
        """Return the rows of some classes, renumbered in the order given.

        Parameters
        ----------
        classes : sequence of str
            Names to keep.

        Returns
        -------
        ImageSet
            Those rows, in their old order.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        wanted = check_names("classes", classes, self.names)
        numbers = np.full(len(self.names), -1)
        numbers[[self.names.index(name) for name in wanted]] = np.arange(len(wanted))
        chosen = self[numbers[self.labels] >= 0]
        return replace(chosen, labels=numbers[chosen.labels], names=wanted)

    def split(self, test: float = 0.2, seed: int = 0) -> Split:
        """Split each class at random.

        Parameters
        ----------
        test : float, default 0.2
            Share of each class that goes to the test part, rounded half up.
        seed : int, default 0
            The same seed gives the same parts.

        Returns
        -------
        Split
            ``.train`` and ``.test``, rows in their old order.

        Examples
        --------
        >>> import numpy as np
        >>> from cvkit.gan.datasets import ImageSet
        >>> data = ImageSet(np.zeros((10, 8, 8), np.uint8), np.arange(10) % 2, ["a", "b"])
        >>> train, test = data.split(test=0.2, seed=0)
        >>> len(train), test.counts.tolist()
        (8, [1, 1])
        """
        share = check_interval("test", test, 0, 1)
        seed = check_integer("seed", seed, minimum=0)
        chosen = np.zeros(len(self), bool)
        for label in range(len(self.names)):
            rows = np.flatnonzero(self.labels == label)
            # A generator a class: adding a class leaves the others' parts as they were.
            order = np.random.default_rng([seed, label]).permutation(len(rows))
            chosen[rows[order[: int(len(rows) * share + 0.5)]]] = True
        return Split(self[~chosen], self[chosen])

    @staticmethod
    def concatenate(parts: Sequence[ImageSet]) -> ImageSet:
        """Put sets one after another; classes of the same name become one.

        Parameters
        ----------
        parts : sequence of ImageSet
            Sets of one image shape.

        Returns
        -------
        ImageSet
            All rows. What is not known of every part is dropped.

        Raises
        ------
        ValueError
            If there is no part, or image shapes differ.
        """
        if not parts:
            raise ValueError("`parts` must hold at least one set")
        shapes = {part.images.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"all images must have one shape; got {sorted(shapes)}")
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        labels = [np.array([names.index(name) for name in part.names], np.int64)[part.labels] for part in parts]
        strokes = [part.strokes for part in parts if part.strokes is not None]
        return ImageSet(
            parts[0].images if len(parts) == 1 else np.concatenate([part.images for part in parts]),
            np.concatenate(labels),
            names,
            recognized=_joined([part.recognized for part in parts]),
            strokes=type(strokes[0]).concatenate(strokes) if strokes and len(strokes) == len(parts) else None,
            rows=_joined([part.rows for part in parts]),
        )


def check_names(argument: str, wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return class names that are all known and differ."""
    if isinstance(wanted, str):
        raise TypeError(f"`{argument}` must be a sequence of class names; got {wanted!r}")
    wanted = tuple(wanted)
    for name in wanted:
        if name not in known:
            raise ValueError(f"`{argument}` names {name!r}, which is none of {shown(list(known), 200)}")
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"`{argument}` must differ; got {shown(wanted)}")
    return wanted


def _plain(value: ArrayLike) -> Array:
    """Return an array; a tensor comes over without a copy where it can."""
    numpy = getattr(value, "detach", None)
    return value.detach().cpu().numpy() if numpy is not None else np.asarray(value)  # type: ignore[union-attr]


def _check_labels(labels: Array, count: int, classes: int) -> Array:
    if labels.dtype.kind not in "iu":
        raise TypeError(f"`labels` must be integers; got {shown(labels)}")
    if labels.shape != (count,):
        raise ValueError(f"`labels` must have shape ({count},), one for each image; got {shown(labels)}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(f"`labels` must lie in [0, {classes}); got {labels[wrong[0]]} at row {wrong[0]}")
    return labels.astype(np.int64)


def _joined(values: Sequence[Array | None]) -> Array | None:
    known = [value for value in values if value is not None]
    return np.concatenate(known) if known and len(known) == len(values) else None
