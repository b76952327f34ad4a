"""What all formats share: class names in file names, files written whole or not at all, arrays without pickle."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from cvkit._errors import DataError
from cvkit._files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvkit._types import Array, StrPath

__all__ = ["class_of", "open_file", "read_header", "written"]

_PREFIX = re.compile(r"^(?:full[_/])?(?:numpy_bitmap|simplified|raw|binary|sketchrnn)[_/](?=.)")


def class_of(path: Path) -> str:
    """Return the class that a file name speaks of: official names, quoted or with the bucket's folder before them."""
    name = unquote(path.name).rpartition(".")[0] or path.name
    name = name.removesuffix(".full") if path.suffix == ".npz" else name
    return _PREFIX.sub("", name)


@contextmanager
def open_file(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a file for reading; a failing disk, a folder or a missing file is a `DataError`."""
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{os.fspath(path)}: no such file") from None
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error


@contextmanager
def written(path: StrPath) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place when the block ends well, and vanishes otherwise."""
    with replacing(path) as part, part.open("wb") as file:
        yield file


def read_header(file: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Return shape, Fortran order and dtype of an npy file whose header comes next; `label` names it in errors."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"npy version {version[0]}.{version[1]} is not read")
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{label}: not an npy file: {reason}") from None
    return header


def check_bytes(shape: tuple[int, ...], dtype: np.dtype[np.generic], left: int, label: str) -> int:
    """Return the number of bytes that the header promises, if the file holds exactly as many after the header."""
    if any(side < 0 for side in shape):
        raise DataError(f"{label}: the header gives a negative shape {shape}")
    promised = dtype.itemsize
    for side in shape:
        promised *= side
    if promised != left:
        kind = "truncated" if left < promised else "longer than its header says"
        raise DataError(f"{label}: {kind}: {promised} bytes of data expected after the header, {left} found")
    return promised


def read_array(file: IO[bytes], size: int, label: str, kinds: str) -> Array:
    """Read one npy file of `size` bytes, of a dtype whose kind is one of `kinds`."""
    shape, fortran, dtype = read_header(file, label)
    if dtype.hasobject or dtype.kind not in kinds:
        raise DataError(f"{label}: arrays of dtype {dtype} are not read here")
    promised = check_bytes(shape, dtype, size - file.tell(), label)
    data = file.read(promised)
    if len(data) != promised:
        raise DataError(f"{label}: truncated: {promised} bytes of data expected after the header, {len(data)} found")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
