"""The official ``numpy_bitmap`` files, and an ``.npz`` of plain arrays that holds a whole labelled set."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

from cvkit._checks import check_instance, check_integer, shown
from cvkit._errors import DataError
from cvkit.gan.datasets.imageset import ImageSet
from cvkit.gan.datasets.quickdraw._files import check_bytes, open_file, read_array, read_header, written

if TYPE_CHECKING:
    from cvkit._types import Array, StrPath

__all__ = ["MAX_BYTES", "open_bitmaps", "read_arrays", "write_arrays", "write_bitmaps"]

MAX_BYTES = 4 << 30
"""Most bytes that an ``.npz`` may unfold to, unless asked otherwise."""

_KINDS = {"images": "u", "labels": "iu", "names": "U", "rows": "iu", "recognized": "b"}


def open_bitmaps(path: StrPath) -> Array:
    """Map an official ``numpy_bitmap`` file into memory.

    Parameters
    ----------
    path : path-like
        An npy file of shape (N, 784), (N, 1, 784), (N, 28, 28) or (N, 1, 28, 28), uint8.

    Returns
    -------
    ndarray of shape (N, 28, 28)
        uint8, read-only; rows are read from disk when they are looked at.

    Raises
    ------
    DataError
        If the file is missing, truncated, longer than its header says, or of another form.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_bitmaps(Path(folder, "cat.npy"), np.zeros((3, 28, 28), np.uint8))
    ...     quickdraw.open_bitmaps(Path(folder, "cat.npy")).shape
    (3, 28, 28)
    """
    label = os.fspath(path)
    with open_file(path) as file:
        shape, fortran, dtype = read_header(file, label)
        if dtype != np.uint8 or fortran or len(shape) < 2 or shape[1:] not in {(784,), (1, 784), (28, 28), (1, 28, 28)}:
            order = " in Fortran order" if fortran else ""
            raise DataError(
                f"{label}: expected uint8 bitmaps of shape (N, 784); the header says {dtype} {shape}{order}"
            )
        start = file.tell()
        check_bytes(shape, dtype, os.fstat(file.fileno()).st_size - start, label)
        if shape[0] == 0:
            return np.zeros((0, 28, 28), np.uint8)
        return np.memmap(file, np.uint8, mode="r", offset=start, shape=(shape[0], 28, 28))


def write_bitmaps(path: StrPath, images: Array) -> None:
    """Write bitmaps as an official ``numpy_bitmap`` file.

    Parameters
    ----------
    path : path-like
        The file, which appears whole or not at all.
    images : ndarray of shape (N, 28, 28), (N, 1, 28, 28) or (N, 784)
        uint8.

    Raises
    ------
    TypeError, ValueError
        If the images are of another form.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_bitmaps(Path(folder, "cat.npy"), np.zeros((3, 28, 28), np.uint8))
    ...     np.load(Path(folder, "cat.npy")).shape
    (3, 784)
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"`images` must be uint8; got {shown(images)}")
    if images.ndim < 2 or images.shape[1:] not in {(784,), (28, 28), (1, 28, 28)}:
        raise ValueError(f"`images` must have shape (N, 28, 28) or (N, 784); got {shown(images)}")
    flat = np.ascontiguousarray(images.reshape(len(images), 784))
    with written(path) as file:
        np.lib.format.write_array(file, flat, version=(1, 0), allow_pickle=False)


def read_arrays(path: StrPath, *, max_bytes: int = MAX_BYTES) -> ImageSet:
    """Read an ``.npz`` of plain arrays.

    Parameters
    ----------
    path : path-like
        A zip of npy files: ``images`` (N, H, W) or (N, C, H, W) uint8, ``labels`` (N,) integers, ``names`` (K,)
        strings; ``rows`` and ``recognized`` (N,) where known. Other members are ignored.
    max_bytes : int, default 4 GiB
        Refuse a file that unfolds to more.

    Returns
    -------
    ImageSet
        The set.

    Raises
    ------
    DataError
        If the file is missing, damaged or of another form.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_arrays(Path(folder, "set.npz"), quickdraw.generate(["sun"], 2))
    ...     quickdraw.read_arrays(Path(folder, "set.npz")).names
    ('sun',)
    """
    label = os.fspath(path)
    max_bytes = check_integer("max_bytes", max_bytes, minimum=1)
    arrays = _read_members(path, label, max_bytes)
    missing = [name for name in ("images", "labels", "names") if name not in arrays]
    if missing:
        raise DataError(f"{label}: holds no array {missing[0]!r}; expected images, labels and names")
    try:
        names = arrays["names"]
        if names.ndim != 1:
            raise ValueError(f"`names` must have shape (K,); got {shown(names)}")
        return ImageSet(
            arrays["images"],
            arrays["labels"],
            tuple(names.tolist()),
            recognized=arrays.get("recognized"),
            rows=arrays.get("rows"),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{label}: {error}") from None


def write_arrays(path: StrPath, data: ImageSet) -> None:
    """Write a set as an ``.npz`` of plain arrays, compressed; strokes are left out.

    Parameters
    ----------
    path : path-like
        The file, which appears whole or not at all.
    data : ImageSet
        The set.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.gan import quickdraw
    >>> data = quickdraw.generate(["sun", "fish"], 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     quickdraw.write_arrays(Path(folder, "set.npz"), data)
    ...     quickdraw.read_arrays(Path(folder, "set.npz"))
    ImageSet(6 images of (28, 28), 2 classes)
    """
    data = check_instance("data", data, ImageSet)
    arrays = {"images": data.images, "labels": data.labels, "names": np.array(data.names, np.str_)}
    arrays |= {
        name: value for name, value in (("rows", data.rows), ("recognized", data.recognized)) if value is not None
    }
    with written(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date: the same set gives the same bytes.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)


def member_names(path: StrPath) -> set[str]:
    """Return the names of the arrays in an ``.npz``."""
    label = os.fspath(path)
    with open_file(path) as file, _archive(file, label) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def _archive(file: IO[bytes], label: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        raise DataError(f"{label}: not an npz file (a zip): {error}") from None


def read_member(archive: zipfile.ZipFile, name: str, label: str, limit: int) -> bytes:
    """Return one member, unfolded, if it is not larger than `limit` bytes."""
    info = archive.getinfo(name)
    if info.file_size > limit:
        raise DataError(f"{label}: member {name!r} unfolds to {info.file_size} bytes; at most {limit} are read")
    try:
        with archive.open(info) as member:
            return member.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{label}: member {name!r} is damaged: {error}") from None


def _read_members(path: StrPath, label: str, max_bytes: int) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with open_file(path) as file, _archive(file, label) as archive:
        for name in archive.namelist():
            key = name.removesuffix(".npy")
            if key in _KINDS and key not in arrays:
                data = read_member(archive, name, label, max_bytes)
                max_bytes -= len(data)
                arrays[key] = read_array(io.BytesIO(data), len(data), f"{label}: member {name!r}", _KINDS[key])
    return arrays
