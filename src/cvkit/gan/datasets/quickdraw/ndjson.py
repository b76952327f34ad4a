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
    strokes, times, raw = [], [], []
    points = 0
    for index, stroke in enumerate(record["drawing"]):
        if not isinstance(stroke, list) or len(stroke) not in {2, 3}:
            raise DataError(f"{label}: stroke {index} must be [xs, ys] or [xs, ys, ts]")
        axes = [_axis(values, f"{label}: stroke {index}") for values in stroke]
        if len({len(axis) for axis in axes}) > 1:
            raise DataError(f"{label}: stroke {index} has lists of different lengths {[len(axis) for axis in axes]}")
        points += len(axes[0])
        if points > _MAX_POINTS:
            raise DataError(f"{label}: more than {_MAX_POINTS} points in one drawing")
        strokes.append(np.stack(axes[:2], axis=1))
        times.append(axes[-1])
        raw.append(len(stroke) == 3)
    if len(set(raw)) > 1:
        raise DataError(f"{label}: some strokes have times and some have not")
    recognized = record.get("recognized")
    return Drawing(
        tuple(strokes),
        word=_text(record, "word", label),
        recognized=recognized if isinstance(recognized, bool) else None,
        key_id=_key(record, label),
        country=_text(record, "countrycode", label),
        timestamp=_text(record, "timestamp", label),
        times=tuple(times) if raw and raw[0] else None,
    )


def _axis(values: object, label: str) -> Array:
    if not isinstance(values, list) or any(type(value) not in {int, float} for value in values):
        raise DataError(f"{label}: expected lists of numbers")
    if not all(-_LIMIT <= value <= _LIMIT for value in values):
        raise DataError(f"{label}: a number is not finite or beyond {_LIMIT:g}")
    return np.array(values, np.float64)


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
