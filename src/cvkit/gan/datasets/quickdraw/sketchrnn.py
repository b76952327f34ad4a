"""The sketch-rnn ``.npz``: object arrays of pen offsets, read by walking the opcodes and executing nothing.

NumPy stores an object array as a pickle, and unpickling runs what the file says. Here the opcodes are walked instead:
a small allow-list of them moves numbers, texts, bytes and tuples about, the five names that NumPy writes for arrays
stand for inert records, and everything else is refused. No name is imported and nothing is called.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import warnings
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit._checks import check_integer
from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw._files import open_file, read_header, written
from cvkit.gan.datasets.quickdraw.bitmaps import _archive, read_member
from cvkit.gan.datasets.quickdraw.drawing import Drawing, StrokeSet, _offsets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cvkit._types import Array, StrPath

__all__ = ["SketchParts", "read_sketchrnn", "write_sketchrnn"]

_MAX_BYTES = 1 << 30  # of one unfolded part; the largest official ones are about 60 MB
_PARTS = ("train", "valid", "test")
_DTYPES = {code: np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "f2", "f4", "f8")}
_MODULES = {"numpy.core.multiarray", "numpy._core.multiarray"}


class SketchParts(NamedTuple):
    """The three parts of a sketch-rnn file."""

    train: StrokeSet
    valid: StrokeSet
    test: StrokeSet


def read_sketchrnn(path: StrPath, *, max_bytes: int = _MAX_BYTES) -> SketchParts:
    """Read a sketch-rnn ``.npz`` without executing anything that it holds.

    Parameters
    ----------
    path : path-like
        A zip with ``train.npy``, ``valid.npy`` and ``test.npy``, each an object array of arrays (L, 3): dx, dy, and 1
        where the pen is lifted after the point.
    max_bytes : int, default 1 GiB
        Refuse a part that unfolds to more.

    Returns
    -------
    SketchParts
        ``.train``, ``.valid`` and ``.test`` in absolute coordinates; a drawing begins at its first offset from the
        origin.

    Raises
    ------
    DataError
        If the file is missing, damaged or holds anything but such arrays.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> suns = quickdraw.generate(["sun"], 4).strokes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_sketchrnn(Path(folder, "sun.npz"), suns[:2], suns[2:3], suns[3:])
    ...     [len(part) for part in quickdraw.read_sketchrnn(Path(folder, "sun.npz"))]
    [2, 1, 1]
    """
    label = os.fspath(path)
    max_bytes = check_integer("max_bytes", max_bytes, minimum=1)
    parts = []
    with open_file(path) as file, _archive(file, label) as archive:
        for part in _PARTS:
            if f"{part}.npy" not in archive.namelist():
                raise DataError(f"{label}: holds no member '{part}.npy'; expected train, valid and test")
            where = f"{label}: member '{part}.npy'"
            parts.append(_part(read_member(archive, f"{part}.npy", label, max_bytes), where))
    return SketchParts(*parts)


def _part(data: bytes, label: str) -> StrokeSet:
    file = io.BytesIO(data)
    shape, _, dtype = read_header(file, label)
    if dtype != np.dtype(object) or len(shape) != 1:
        raise DataError(f"{label}: expected a list of arrays (an object array); the header says {dtype} {shape}")
    items = _walk(file, label)
    if len(items) != shape[0]:
        raise DataError(f"{label}: {shape[0]} drawings expected, {len(items)} found")
    offsets, left = [], len(data)
    for i, item in enumerate(items):
        offsets.append(_offset_array(item, f"{label}: drawing {i}"))
        left -= len(item.state[4])  # type: ignore[attr-defined]
        # One array may be listed many times; the official files never do, and memory is bounded by the file's size.
        if left < 0:
            raise DataError(f"{label}: drawing {i}: the drawings hold more data than the file")
    return _strokes(offsets)


def _strokes(offsets: Sequence[Array]) -> StrokeSet:
    """Return drawings of absolute points from arrays of offsets and pen lifts."""
    lengths = np.array([len(item) for item in offsets], np.int64)
    ends = _offsets(lengths)
    flat = np.concatenate([np.zeros((0, 3)), *offsets])
    walked = np.cumsum(flat[:, :2], axis=0)
    before = np.concatenate([np.zeros((1, 2)), walked])[ends[:-1]]
    points = walked - np.repeat(before, lengths, axis=0)
    lift = flat[:, 2] != 0
    lift[ends[1:][lengths > 0] - 1] = True
    stroke_ends = np.concatenate([[0], np.flatnonzero(lift) + 1])
    return StrokeSet(points, stroke_ends, np.concatenate([[0], np.cumsum(lift)])[ends])


# --- the walk
# ------------------------------------------------------------------------------------------------------------


class _Name(NamedTuple):
    """A name that the file mentions; it stands for itself and is never looked up."""

    module: str
    name: str


@dataclass(slots=True)
class _Record:
    """An array or a dtype that the file describes."""

    kind: str
    arguments: tuple[object, ...]
    state: tuple[object, ...] = field(default=())


class _Refused(Exception):  # noqa: N818
    """What the file holds is not on the allow-list."""


_PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINFLOAT"),
}
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SKIP = {"PROTO", "FRAME"}


def _walk(file: io.BytesIO, label: str) -> list[object]:
    """Return the items of the object array that the opcodes describe."""
    machine = _Machine()
    try:
        # Strange escapes in a text warn before the text is refused.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            for opcode, argument, position in pickletools.genops(file):
                try:
                    if opcode.name == "STOP":
                        return machine.result()
                    machine.step(opcode.name, argument)
                except (_Refused, IndexError, TypeError, KeyError) as error:
                    reason = str(error) if isinstance(error, _Refused) else "the stack does not fit"
                    raise DataError(f"{label}: byte {position}: opcode {opcode.name} refused: {reason}") from None
    except (ValueError, OverflowError, MemoryError, UnicodeDecodeError, struct.error) as error:
        raise DataError(f"{label}: damaged or truncated: {error}") from None
    raise DataError(f"{label}: truncated: no end of the array")


class _Machine:
    """Stack, marks and memo of the walk."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        stack = self.stack
        if name in _PUSH:
            stack.append(argument)
        elif name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[int(argument)] = stack[-1]  # type: ignore[call-overload]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(self.memo[int(argument)])  # type: ignore[call-overload]
        elif name in _CONSTANT:
            stack.append(_CONSTANT[name])
        elif name in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self.pop_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in {"APPEND", "APPENDS"}:
            items = self.pop(1) if name == "APPEND" else self.pop_mark()
            self.list_on_top().extend(items)
        elif name in {"GLOBAL", "STACK_GLOBAL"}:
            parts = str(argument).split(" ") if name == "GLOBAL" else self.pop(2)
            stack.append(_known(*map(str, parts)))
        elif name == "REDUCE":
            callee, arguments = self.pop(2)
            stack.append(_described(callee, arguments))
        elif name == "BUILD":
            (state,) = self.pop(1)
            record = stack[-1]
            if not isinstance(record, _Record) or not isinstance(state, tuple) or record.state:
                raise _Refused("it builds what is no array")
            record.state = state
        elif name not in _SKIP:
            raise _Refused("no array needs it")

    def pop(self, count: int) -> list[object]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise _Refused("the stack is empty")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def pop_mark(self) -> list[object]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def list_on_top(self) -> list[object]:
        top = self.stack[-1]
        if not isinstance(top, list):
            raise _Refused("it appends to what is no list")
        return top

    def result(self) -> list[object]:
        if len(self.stack) != 1:
            raise _Refused("the stack does not end with one array")
        (array,) = self.stack
        if not isinstance(array, _Record) or array.kind != "array" or len(array.state) != 5:
            raise _Refused("the file does not describe an array")
        _, _, dtype, _, items = array.state
        if (
            not isinstance(dtype, _Record)
            or dtype.arguments[:1] not in {("O8",), ("O",), ("|O",)}
            or not isinstance(items, list)
        ):
            raise _Refused("the array holds no list of arrays")
        return items


def _known(module: str, name: str) -> _Name:
    if (module in _MODULES and name == "_reconstruct") or (module == "numpy" and name in {"ndarray", "dtype"}):
        return _Name(module, name)
    if (module, name) == ("_codecs", "encode"):
        return _Name(module, name)
    raise _Refused(f"it names {module}.{name}")


def _described(callee: object, arguments: object) -> object:
    """Return what a call of a known name describes, without calling it."""
    if not isinstance(callee, _Name) or not isinstance(arguments, tuple):
        raise _Refused("it calls what is no known name")
    if callee.name == "_reconstruct":
        return _Record("array", arguments)
    if callee.name == "dtype":
        return _Record("dtype", arguments)
    if (
        callee.name == "encode"
        and len(arguments) == 2
        and isinstance(arguments[0], str)
        and arguments[1] in {"latin1", "latin-1"}
    ):
        return arguments[0].encode("latin-1")
    raise _Refused(f"it calls {callee.name} with what is not expected")


def _offset_array(item: object, label: str) -> Array:
    """Return the array (L, 3) that a record describes."""
    if not isinstance(item, _Record) or item.kind != "array" or len(item.state) != 5:
        raise DataError(f"{label}: not an array")
    _, shape, dtype, fortran, data = item.state
    plain = _dtype(dtype)
    if (
        plain is None
        or not isinstance(shape, tuple)
        or len(shape) != 2
        or shape[1] != 3
        or not isinstance(shape[0], int)
    ):
        raise DataError(f"{label}: expected numbers of shape (L, 3): dx, dy, lift")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != shape[0] * 3 * plain.itemsize:
        raise DataError(f"{label}: its bytes do not fit its shape {shape}")
    array = np.frombuffer(raw, plain).reshape(shape, order="F" if fortran else "C").astype(np.float64)
    if not (np.abs(array) <= 1e7).all():
        raise DataError(f"{label}: a number is not finite or beyond 1e7")
    return array


def _dtype(record: object) -> np.dtype[np.generic] | None:
    if not isinstance(record, _Record) or record.kind != "dtype" or not record.arguments:
        return None
    plain = _DTYPES.get(str(record.arguments[0]).lstrip("<>|="))
    order = record.state[1] if len(record.state) > 1 else "<"
    return plain if plain is None or order not in {">", "<"} else plain.newbyteorder(str(order))  # type: ignore[arg-type]


# --- writing
# -------------------------------------------------------------------------------------------------------------


def write_sketchrnn(
    path: StrPath,
    train: StrokeSet | Iterable[Drawing | Sequence[Array]],
    valid: StrokeSet | Iterable[Drawing | Sequence[Array]] = (),
    test: StrokeSet | Iterable[Drawing | Sequence[Array]] = (),
) -> None:
    """Write drawings as a sketch-rnn ``.npz``.

    Parameters
    ----------
    path : path-like
        The file, which appears whole or not at all.
    train, valid, test : StrokeSet, or iterable of Drawing or of sequences of ndarray of shape (P, 2)
        The three parts; coordinates are rounded half up to integers.

    Raises
    ------
    ValueError
        If an offset does not fit 16 bits.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_sketchrnn(Path(folder, "sun.npz"), quickdraw.generate(["sun"], 2).strokes)
    ...     len(quickdraw.read_sketchrnn(Path(folder, "sun.npz")).train)
    2
    """
    with written(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, part in zip(_PARTS, (train, valid, test), strict=True):
            strokes = part if isinstance(part, StrokeSet) else StrokeSet.of(part)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, _npy([_stroke3(drawing) for drawing in strokes]))


def _stroke3(drawing: list[Array]) -> Array:
    """Return a drawing as offsets and pen lifts, int16."""
    points = np.floor(np.concatenate([np.zeros((1, 2)), *drawing]) + 0.5)
    steps = np.diff(points, axis=0)
    if not (np.abs(steps) < 1 << 15).all():
        raise ValueError("a sketch-rnn file holds offsets of 16 bits; bring the drawings into [0, 255] first")
    out = np.zeros((len(steps), 3), "<i2")
    out[:, :2] = steps
    ends = np.cumsum([len(stroke) for stroke in drawing if len(stroke)], dtype=np.int64) - 1
    out[ends, 2] = 1
    return out


def _npy(arrays: Sequence[Array]) -> bytes:
    """Return an npy file of an object array, as NumPy writes it: protocol 2, opcodes written by hand."""
    out = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (len(arrays),)}
    np.lib.format.write_array_header_1_0(out, header)
    out.write(b"\x80\x02")
    begin = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02%bK\x00K\x01\x87R(K\x03U\x01%cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK%ct"
    out.write(begin + b"(K\x01" + _integer(len(arrays)) + b"\x85" + dtype % (b"O8", b"|", b"\x3f") + b"b\x89](")
    for array in arrays:
        data = array.tobytes()
        out.write(begin + b"(K\x01" + _integer(len(array)) + b"K\x03\x86" + dtype % (b"i2", b"<", b"\x00") + b"b\x89")
        out.write(b"T" + struct.pack("<i", len(data)) + data + b"tb")
    out.write(b"etb.")
    return out.getvalue()


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
