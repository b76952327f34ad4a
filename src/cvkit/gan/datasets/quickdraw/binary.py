"""The official stroke ``.bin``: packed little-endian records, no header.

A record is u64 key, two letters of country, i8 flag, u32 unix time, u16 number of strokes; then for each stroke u16
number of points, all x and all y as bytes.
"""

from __future__ import annotations

import os
import struct
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

import numpy as np

from cvkit._checks import check_instance
from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw._files import open_file, written
from cvkit.gan.datasets.quickdraw.drawing import Drawing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvkit._types import Array, StrPath

__all__ = ["iter_binary", "write_binary"]

_HEAD = struct.Struct("<Q2sbIH")
_COUNT = struct.Struct("<H")


def iter_binary(path: StrPath, *, word: str = "") -> Iterator[Drawing]:
    """Yield the drawings of an official stroke ``.bin`` file, one at a time.

    Parameters
    ----------
    path : path-like
        The file.
    word : str, default ""
        What the drawings show; the file does not say.

    Yields
    ------
    Drawing
        Simplified drawings, in the order of the file.

    Raises
    ------
    DataError
        If the file is missing, ends within a drawing, or holds what no such file holds; the error names file and byte.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> sun = quickdraw.generate(["sun"], 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_binary(Path(folder, "sun.bin"), [quickdraw.Drawing(tuple(sun.strokes[0]))])
    ...     [drawing.recognized for drawing in quickdraw.iter_binary(Path(folder, "sun.bin"))]
    [False]
    """
    label = os.fspath(path)
    with open_file(path) as file:
        at = 0
        while head := file.read(_HEAD.size):
            drawing, size = _record(file, head, at, label, word)
            yield drawing
            at += size


def _record(file: IO[bytes], head: bytes, at: int, label: str, word: str) -> tuple[Drawing, int]:
    start = f"{label}: byte {at}"
    if len(head) < _HEAD.size:
        raise DataError(f"{start}: truncated: {len(head)} of {_HEAD.size} bytes of a drawing's head")
    key, country, flag, stamp, count = _HEAD.unpack(head)
    if flag not in {0, 1} or not country.isascii() or not country.decode("ascii").isprintable():
        raise DataError(f"{start}: not a stroke file: country {country!r}, flag {flag}")
    size, strokes = _HEAD.size, []
    for index in range(count):
        (points,) = _COUNT.unpack(_exactly(file, _COUNT.size, start, index))
        data = np.frombuffer(_exactly(file, 2 * points, start, index), np.uint8)
        strokes.append(data.reshape(2, points).T)
        size += _COUNT.size + 2 * points
    when = datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Drawing(tuple(strokes), word, bool(flag), key, country.decode("ascii"), when), size


def _exactly(file: IO[bytes], count: int, start: str, stroke: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise DataError(f"{start}: truncated: the drawing that begins here ends within stroke {stroke}")
    return data


def write_binary(path: StrPath, drawings: Iterable[Drawing]) -> None:
    """Write simplified drawings as an official stroke ``.bin`` file.

    Parameters
    ----------
    path : path-like
        The file, which appears whole or not at all.
    drawings : iterable of Drawing
        Drawings with whole coordinates in [0, 255]; a flag that is not known is written as not recognised, a time
        that is not known as 1970.

    Raises
    ------
    ValueError
        If a drawing does not fit the format.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> line = quickdraw.Drawing((np.array([[0, 0], [255, 9]]),), country="DE")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_binary(Path(folder, "line.bin"), [line])
    ...     Path(folder, "line.bin").stat().st_size
    23
    """
    with written(path) as file:
        for number, drawing in enumerate(drawings):
            file.write(_packed(check_instance("drawings", drawing, Drawing), f"drawing {number}"))


def _packed(drawing: Drawing, label: str) -> bytes:
    country = drawing.country.encode("ascii", "replace") or b"  "
    if len(country) != 2 or len(drawing.strokes) > 0xFFFF or not 0 <= drawing.key_id < 1 << 64:
        raise ValueError(f"{label}: the format holds two letters of country, 65535 strokes and keys below 2**64")
    head = _HEAD.pack(
        drawing.key_id, country, bool(drawing.recognized), _seconds(drawing.timestamp, label), len(drawing.strokes)
    )
    return head + b"".join(_stroke(np.asarray(stroke), label) for stroke in drawing.strokes)


def _stroke(stroke: Array, label: str) -> bytes:
    if len(stroke) > 0xFFFF or not np.isin(stroke, np.arange(256)).all():
        raise ValueError(f"{label}: the format holds whole coordinates in [0, 255], 65535 a stroke; simplify it first")
    return _COUNT.pack(len(stroke)) + np.ascontiguousarray(stroke.T, np.uint8).tobytes()


def _seconds(stamp: str, label: str) -> int:
    if not stamp:
        return 0
    try:
        seconds = datetime.fromisoformat(stamp.removesuffix(" UTC")[:19]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"{label}: the timestamp {stamp!r} is none of this data set") from None
    if not 0 <= seconds < 1 << 32:
        raise ValueError(f"{label}: the timestamp {stamp!r} does not fit 32 bits")
    return int(seconds)
