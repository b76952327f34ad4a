"""Raw and simplified ndjson: one drawing a line, read and written as a stream."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_instance
from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw._files import open_file, written
from cvkit.gan.datasets.quickdraw.drawing import Drawing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvkit._types import Array, StrPath

__all__ = ["iter_ndjson", "write_ndjson"]

_MAX_LINE = 4 << 20  # bytes; the longest official lines are well below 100 kB
_MAX_POINTS = 1 << 16  # in a drawing; 20 seconds of a mouse give about 1500
_LIMIT = 1e7  # coordinates beyond it are damage


def iter_ndjson(path: StrPath) -> Iterator[Drawing]:
    """Yield the drawings of an official ndjson file, raw or simplified, one at a time.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    Drawing
        In the order of the file; raw drawings carry times.

    Raises
    ------
    DataError
        If the file is missing or a line is damaged; the error names file and line.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> drawing = quickdraw.Drawing((np.array([[0, 0], [255, 9]]),), word="line", recognized=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_ndjson(Path(folder, "line.ndjson"), [drawing])
    ...     [d.strokes[0].tolist() for d in quickdraw.iter_ndjson(Path(folder, "line.ndjson"))]
    [[[0.0, 0.0], [255.0, 9.0]]]
    """
    label = os.fspath(path)
    with open_file(path) as file:
        number = 0
        while line := file.readline(_MAX_LINE + 1):
            number += 1
            if len(line) > _MAX_LINE:
                raise DataError(f"{label}: line {number} is longer than {_MAX_LINE} bytes")
            if line.strip():
                yield _parse(line, f"{label}: line {number}")


def write_ndjson(path: StrPath, drawings: Iterable[Drawing]) -> None:
    """Write drawings as ndjson: raw where they carry times, simplified elsewhere.

    Parameters
    ----------
    path : path-like
        The file, which appears whole or not at all.
    drawings : iterable of Drawing
        The drawings, in order; taken one at a time.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_ndjson(Path(folder, "sun.ndjson"), quickdraw.generate_drawings("sun", 2))
    ...     len(Path(folder, "sun.ndjson").read_bytes().splitlines())
    2
    """
    with written(path) as file:
        for drawing in drawings:
            record = {
                "word": check_instance("drawings", drawing, Drawing).word,
                "countrycode": drawing.country,
                "timestamp": drawing.timestamp,
                "recognized": drawing.recognized,
                "key_id": str(drawing.key_id),
                "drawing": _axes(drawing),
            }
            file.write(json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _axes(drawing: Drawing) -> list[list[list[float]]]:
    """Return strokes as the files have them: x values, y values and, in raw files, times."""
    strokes = [[_numbers(stroke[:, 0]), _numbers(stroke[:, 1])] for stroke in map(np.asarray, drawing.strokes)]
    for stroke, times in zip(strokes, drawing.times or (), strict=drawing.times is not None):
        stroke.append(_numbers(np.asarray(times)))
    return strokes


def _numbers(values: Array) -> list[float]:
    """Return Python numbers, whole ones as integers."""
    return [int(value) if float(value).is_integer() else float(value) for value in values.tolist()]


def _parse(line: bytes, label: str) -> Drawing:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{label}: not JSON (the file may be truncated): {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("drawing"), list):
        raise DataError(f"{label}: expected an object with a list 'drawing'")
    strokes, times = _strokes(record["drawing"], label)
    recognized = record.get("recognized")
    return Drawing(
        tuple(strokes),
        word=_text(record, "word", label),
        recognized=recognized if isinstance(recognized, bool) else None,
        key_id=_key(record, label),
        country=_text(record, "countrycode", label),
        timestamp=_text(record, "timestamp", label),
        times=times,
    )


def _strokes(listed: list[object], label: str) -> tuple[tuple[Array, ...], tuple[Array, ...] | None]:
    """Return strokes and, where the drawing is raw, times. All numbers become one array; strokes are views of it."""
    flat: list[object] = []
    lengths: list[int] = []
    kinds = set[int]()
    for index, stroke in enumerate(listed):
        if not isinstance(stroke, list) or len(stroke) not in {2, 3} or any(type(axis) is not list for axis in stroke):
            raise DataError(f"{label}: stroke {index} must be lists of numbers: [xs, ys] or [xs, ys, ts]")
        if len({len(axis) for axis in stroke}) > 1:
            raise DataError(f"{label}: stroke {index} has lists of different lengths {[len(axis) for axis in stroke]}")
        kinds.add(len(stroke))
        lengths.append(len(stroke[0]))
        for axis in stroke:
            flat += axis
    if len(kinds) > 1:
        raise DataError(f"{label}: some strokes have times and some have not")
    if sum(lengths) > _MAX_POINTS:
        raise DataError(f"{label}: more than {_MAX_POINTS} points in one drawing")
    axes = max(kinds, default=2)
    numbers, at, strokes, times = _numbers_of(flat, label), 0, [], []
    for length in lengths:
        block = numbers[at : at + axes * length].reshape(axes, length)
        strokes.append(block[:2].T)
        times.append(block[-1])
        at += axes * length
    return tuple(strokes), tuple(times) if axes == 3 else None


def _numbers_of(values: list[object], label: str) -> Array:
    # A list of numbers alone becomes an array of numbers; texts, nothing, lists and huge integers do not. Truth values
    # do, among numbers, so they are looked for.
    try:
        numbers = np.array(values) if values else np.zeros(0)
    except ValueError:
        numbers = np.array(None)
    if bool in set(map(type, values)):
        raise DataError(f"{label}: expected strokes of numbers, not truth values")
    if numbers.dtype.kind not in "if" or numbers.ndim != 1:
        raise DataError(f"{label}: expected strokes of numbers")
    if not (np.abs(numbers) <= _LIMIT).all():
        raise DataError(f"{label}: a number is not finite or beyond {_LIMIT:g}")
    return numbers.astype(np.float64)


def _text(record: dict[str, object], key: str, label: str) -> str:
    value = record.get(key, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{label}: {key!r} must be text")
    return value


def _key(record: dict[str, object], label: str) -> int:
    value = record.get("key_id", 0)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise DataError(f"{label}: 'key_id' must be an integer below 2**64")
    return value
