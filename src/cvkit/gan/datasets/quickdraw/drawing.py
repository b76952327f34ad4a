"""Drawings as pen strokes: one with what the file says about it, and many of them stored flat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, overload

import numpy as np

from cvkit._checks import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvkit._types import Array

__all__ = ["Drawing", "StrokeSet"]


@dataclass(frozen=True, eq=False, slots=True)
class Drawing:
    """One drawing and what its file says about it.

    Parameters
    ----------
    strokes : tuple of ndarray of shape (P, 2)
        One array a stroke: x and y of every point, y pointing down.
    word : str, default ""
        What was asked for.
    recognized : bool or None
        Whether the game recognised it; None where the file does not say.
    key_id : int, default 0
        The drawing's own number, below 2**64.
    country : str, default ""
        Two letters.
    timestamp : str, default ""
        As in the files: ``"2017-03-01 20:41:36.70725 UTC"``.
    times : tuple of ndarray of shape (P,), optional
        Milliseconds since the first touch; raw files only.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> line = quickdraw.Drawing((np.array([[0, 0], [255, 128]]),), word="line")
    >>> len(line.strokes), line.is_raw
    (1, False)
    """

    strokes: tuple[Array, ...]
    word: str = ""
    recognized: bool | None = None
    key_id: int = 0
    country: str = ""
    timestamp: str = ""
    times: tuple[Array, ...] | None = None

    @property
    def is_raw(self) -> bool:
        """Whether the points carry times, as only raw files have them."""
        return self.times is not None


class StrokeSet(Sequence["list[Array]"]):
    """Many drawings in three flat arrays: cheap to hold, to index and to rasterise.

    ``strokes[i]`` is the list of the i-th drawing's strokes, each an array (P, 2) of x and y; a slice, an array of
    indices or a mask gives another `StrokeSet`.

    Parameters
    ----------
    points : ndarray of shape (P, 2)
        All points, float32, drawing by drawing.
    strokes : ndarray of shape (S + 1,)
        Where each stroke begins in `points`, and the end of the last.
    drawings : ndarray of shape (N + 1,)
        Where each drawing begins among the strokes, and the end of the last.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> square = [np.array([[0, 0], [255, 0], [255, 255], [0, 255], [0, 0]])]
    >>> both = quickdraw.StrokeSet.of([square, [np.array([[0, 0], [255, 255]])]])
    >>> len(both), len(both[1][0]), len(both[[1, 1, 0]])
    (2, 2, 3)
    """

    __slots__ = ("drawings", "points", "strokes")

    def __init__(self, points: Array, strokes: Array, drawings: Array) -> None:
        self.points = np.ascontiguousarray(points, np.float32)
        self.strokes = np.ascontiguousarray(strokes, np.int64)
        self.drawings = np.ascontiguousarray(drawings, np.int64)
        if self.points.ndim != 2 or self.points.shape[1] != 2:
            raise ValueError(f"`points` must have shape (P, 2); got {shown(points)}")
        _check_offsets("strokes", self.strokes, len(self.points))
        _check_offsets("drawings", self.drawings, len(self.strokes) - 1)

    @classmethod
    def of(cls, drawings: Iterable[Drawing | Sequence[Array]]) -> StrokeSet:
        """Collect drawings, or plain lists of strokes.

        Parameters
        ----------
        drawings : iterable of Drawing or of sequences of ndarray of shape (P, 2)
            The drawings, in order.

        Returns
        -------
        StrokeSet
            The same drawings, stored flat.

        Raises
        ------
        ValueError
            If a stroke is no array (P, 2).
        """
        points: list[Array] = []
        per_drawing: list[int] = []
        for drawing in drawings:
            strokes = drawing.strokes if isinstance(drawing, Drawing) else drawing
            for stroke in strokes:
                array = np.asarray(stroke, np.float32)
                if array.ndim != 2 or array.shape[1] != 2:
                    raise ValueError(f"a stroke must have shape (P, 2): x and y; got {shown(stroke)}")
                points.append(array)
            per_drawing.append(len(strokes))
        flat = np.concatenate(points) if points else np.zeros((0, 2), np.float32)
        return cls(flat, _offsets([len(stroke) for stroke in points]), _offsets(per_drawing))

    def __len__(self) -> int:
        return len(self.drawings) - 1

    @overload
    def __getitem__(self, index: int | np.integer) -> list[Array]: ...
    @overload
    def __getitem__(self, index: slice | Array | Sequence[int]) -> StrokeSet: ...
    def __getitem__(self, index: int | np.integer | slice | Array | Sequence[int]) -> list[Array] | StrokeSet:
        if isinstance(index, int | np.integer):
            number = range(len(self))[int(index)]
            first, last = self.drawings[number], self.drawings[number + 1]
            ends = self.strokes[first : last + 1]
            return [self.points[a:b] for a, b in pairwise(ends)]
        chosen = np.arange(len(self))[index]
        strokes, drawing_ends = _gather(self.drawings, chosen)
        points, stroke_ends = _gather(self.strokes, strokes)
        return StrokeSet(self.points[points], stroke_ends, drawing_ends)

    def __iter__(self) -> Iterator[list[Array]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"StrokeSet({len(self)} drawings, {len(self.strokes) - 1} strokes, {len(self.points)} points)"

    @property
    def stroke_counts(self) -> Array:
        """Number of strokes of each drawing, (N,)."""
        return np.diff(self.drawings)

    @property
    def point_counts(self) -> Array:
        """Number of points of each drawing, (N,)."""
        return np.diff(self.strokes[self.drawings])

    @staticmethod
    def concatenate(parts: Sequence[StrokeSet]) -> StrokeSet:
        """Put several sets one after another.

        Parameters
        ----------
        parts : sequence of StrokeSet
            The sets, in order.

        Returns
        -------
        StrokeSet
            All their drawings.
        """
        points = np.concatenate([np.zeros((0, 2), np.float32), *(part.points for part in parts)])
        strokes = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.strokes) for part in parts)])
        drawings = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.drawings) for part in parts)])
        return StrokeSet(points, _offsets(strokes), _offsets(drawings))


def _offsets(lengths: Array | Sequence[int]) -> Array:
    """Return the beginnings of consecutive runs of these lengths, and the end of the last."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _gather(offsets: Array, chosen: Array) -> tuple[Array, Array]:
    """Return the indices of the items of the chosen runs, in order, and the new offsets."""
    lengths = np.diff(offsets)[chosen]
    ends = _offsets(lengths)
    items = np.arange(ends[-1]) + np.repeat(offsets[:-1][chosen] - ends[:-1], lengths)
    return items, ends


def _check_offsets(name: str, offsets: Array, total: int) -> None:
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ValueError(f"`{name}` must rise from 0 to {total}; got {shown(offsets)}")
