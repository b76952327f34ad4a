"""One door for every format: files and folders of Quick, Draw! become a labelled set, flags joined."""

from __future__ import annotations

import os
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cvkit._checks import check_choice, check_integer
from cvkit._errors import DataError
from cvkit.gan.datasets.imageset import ImageSet, check_names
from cvkit.gan.datasets.quickdraw._files import class_of
from cvkit.gan.datasets.quickdraw.binary import iter_binary
from cvkit.gan.datasets.quickdraw.bitmaps import member_names, open_bitmaps, read_arrays
from cvkit.gan.datasets.quickdraw.drawing import Drawing, StrokeSet
from cvkit.gan.datasets.quickdraw.ndjson import iter_ndjson
from cvkit.gan.datasets.quickdraw.raster import fit_frame, rasterize, simplify
from cvkit.gan.datasets.quickdraw.sketchrnn import read_sketchrnn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cvkit._types import Array, StrPath

__all__ = ["check_order", "iter_drawings", "load"]

_FOLDERS = ("numpy_bitmap", "simplified", "raw", "binary", "sketchrnn")
_SUFFIXES = (".npy", ".ndjson", ".bin", ".npz")
_SAMPLE = 32  # rows compared before flags are joined
_TOLERANCE = 8.0  # grey levels; the same drawing differs by less than 2, another by 20 and more


def load(
    path: StrPath,
    *,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    flags: Literal["auto", "require", "ignore"] = "auto",
) -> ImageSet:
    """Read Quick, Draw! files of any format, one or a folder of them, as a labelled set.

    Parameters
    ----------
    path : path-like
        One file, or a folder. Files lie in the folder itself or in its subfolders ``numpy_bitmap``, ``simplified``,
        ``raw``, ``binary`` and ``sketchrnn``; the class is the file's name (official names, quoted or with the
        bucket's folder before them). An ndjson file of several words, and an ``.npz`` of plain arrays, bring their
        own class names.
    classes : sequence of str, optional
        Read these classes, in this order. Default: all, sorted by name.
    limit : int, optional
        Read the first so many rows of each class only.
    flags : {'auto', 'require', 'ignore'}
        Whether to join the ``recognized`` flag of strokes to bitmaps of the same class: where there are strokes, or
        an error where a class lacks them, or never. Row order is checked on a sample before, see `check_order`.

    Returns
    -------
    ImageSet
        Bitmaps are official ones where there are any, else drawn from the strokes. ``.recognized`` and ``.strokes``
        are there if known of every row. The bitmaps of a single npy file stay on disk, as a memory map.

    Raises
    ------
    DataError
        If a file is missing, damaged or foreign, if bitmaps and strokes don't go together, or if there is nothing to
        read.

    Warns
    -----
    UserWarning
        If flags are known of some classes only, so that ``.recognized`` is None.

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = quickdraw.write_generated(folder, ["star", "fish"], 6, dirty=0.5)
    ...     data = quickdraw.load(folder, classes=["star"])
    >>> data, int(data.recognized.sum())
    (ImageSet(6 images of (28, 28), 1 classes), 3)
    """
    check_choice("flags", flags, ("auto", "require", "ignore"))
    limit = None if limit is None else check_integer("limit", limit, minimum=1)
    if classes is not None:
        classes = check_names("classes", classes, tuple(classes))
    found = _find(Path(path))
    if Path(path).is_file():
        parts = [_load_class(name, files, limit, flags) for name, files in found.items()]
    else:
        parts = [_load_class(n, f, limit, flags) for n, f in found.items() if _wanted(n, f, classes)]
    if not parts:
        raise _missing(path, classes or (), tuple(found))
    partly = len({part.recognized is None for part in parts}) > 1
    data = ImageSet.concatenate(parts)
    if classes is not None:
        missing = [name for name in classes if name not in data.names]
        if missing:
            raise _missing(path, missing, data.names)
        data = data.select(classes)
    if partly and flags == "auto":
        known = [part.names[0] for part in parts if part.recognized is not None]
        text = f"{os.fspath(path)}: the flag `recognized` is known of {', '.join(known)} only, so it is left out"
        warnings.warn(text, stacklevel=2)
    return data


def iter_drawings(path: StrPath) -> Iterator[Drawing]:
    """Yield the drawings of a stroke file of any format, one at a time.

    Parameters
    ----------
    path : path-like
        An ndjson, official stroke ``.bin`` or sketch-rnn ``.npz`` file.

    Yields
    ------
    Drawing
        In the order of the file. A sketch-rnn file is read whole: train, valid, then test drawings.

    Raises
    ------
    DataError
        If the file is missing, damaged or holds no strokes.

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (file,) = quickdraw.write_generated(folder, ["sun"], 3, formats=["raw"])
    ...     sum(drawing.is_raw for drawing in quickdraw.iter_drawings(file))
    3
    """
    path = Path(path)
    word = class_of(path)
    match path.suffix.lower():
        case ".ndjson":
            yield from iter_ndjson(path)
        case ".bin":
            yield from iter_binary(path, word=word)
        case ".npz":
            for part in read_sketchrnn(path):
                yield from (Drawing(tuple(strokes), word) for strokes in part)
        case _:
            raise DataError(f"{os.fspath(path)}: expected a stroke file: .ndjson, .bin or .npz")


def check_order(
    images: Array, strokes: StrokeSet, *, sample: int = _SAMPLE, tolerance: float = _TOLERANCE
) -> int | None:
    """Check on a sample that row k of the bitmaps shows drawing k.

    Parameters
    ----------
    images : ndarray of shape (N, 28, 28)
        Official bitmaps.
    strokes : StrokeSet
        N simplified drawings.
    sample : int, default 32
        How many rows to draw and compare, evenly spread, the first and the last among them.
    tolerance : float, default 8.0
        Largest mean difference in grey levels between a bitmap and its drawing.

    Returns
    -------
    int or None
        The first row that does not fit, or None.

    Raises
    ------
    ValueError
        If the counts differ.

    Examples
    --------
    >>> from cvkit.gan import quickdraw
    >>> suns = quickdraw.generate(["sun"], 20)
    >>> quickdraw.check_order(suns.images, suns.strokes) is None
    True
    >>> quickdraw.check_order(suns.images[::-1], suns.strokes)
    0
    """
    if len(images) != len(strokes):
        raise ValueError(f"`images` and `strokes` must be as many; got {len(images)} and {len(strokes)}")
    count = min(check_integer("sample", sample, minimum=1), len(images))
    rows = (
        np.unique(np.linspace(0, len(images) - 1, count).round().astype(np.int64)) if count else np.zeros(0, np.int64)
    )
    drawn = rasterize(strokes[rows])
    error = np.abs(drawn.astype(np.int16) - images[rows].reshape(drawn.shape)).mean(axis=(1, 2))
    wrong = np.flatnonzero(error > tolerance)
    return int(rows[wrong[0]]) if len(wrong) else None


Files = dict[str, Path]


def _find(path: Path) -> dict[str, Files]:
    """Return for each class, sorted, its files by kind; whole sets in one file are classes of their own here."""
    if path.is_file():
        if path.suffix.lower() not in _SUFFIXES:
            raise DataError(f"{path}: expected a file of one of {', '.join(_SUFFIXES)}")
        return {class_of(path): {_kind(path): path}}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found: dict[str, Files] = {}
    # Later folders give way to earlier ones: simplified strokes cost less than raw ones.
    for folder in (path, *(path / name for name in _FOLDERS)):
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.is_file() and file.suffix.lower() in _SUFFIXES and not file.name.startswith("."):
                found.setdefault(class_of(file), {}).setdefault(_kind(file), file)
    return dict(sorted(found.items()))


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return "arrays" if "images" in member_names(path) else "sketchrnn"
    return suffix


def _wanted(name: str, files: Files, classes: Sequence[str] | None) -> bool:
    return classes is None or name in classes or "arrays" in files


def _missing(path: StrPath, wanted: Sequence[str], known: Sequence[str]) -> DataError:
    if not known:
        return DataError(f"{os.fspath(path)}: holds no Quick, Draw! file ({', '.join(_SUFFIXES)})")
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return DataError(f"{os.fspath(path)}: holds no class {wanted[0]!r}; there are {listed}")


def _load_class(name: str, files: Files, limit: int | None, flags: str) -> ImageSet:
    if "arrays" in files:
        data = read_arrays(files["arrays"])
        if limit is not None:
            rank = np.zeros(len(data), np.int64)
            for label in range(len(data.names)):
                mine = data.labels == label
                rank[mine] = np.arange(mine.sum())
            data = data[rank < limit]
        return data
    source = next((files[kind] for kind in (".ndjson", ".bin") if kind in files), None)
    if ".npy" in files:
        return _load_bitmaps(name, files[".npy"], source, limit, flags)
    if source is not None:
        return _load_strokes(name, source, limit)
    strokes = _framed(StrokeSet.concatenate(read_sketchrnn(files["sketchrnn"]))[:limit])
    return ImageSet(
        rasterize(strokes), np.zeros(len(strokes), np.int64), (name,), strokes=strokes, rows=np.arange(len(strokes))
    )


def _load_bitmaps(name: str, path: Path, source: Path | None, limit: int | None, flags: str) -> ImageSet:
    images = open_bitmaps(path)[:limit]
    data = ImageSet(images, np.zeros(len(images), np.int64), (name,), rows=np.arange(len(images)))
    if source is None and flags == "require":
        raise DataError(f"{path}: no strokes of {name!r} beside it, from which to join the flags")
    if source is None or flags == "ignore":
        return data
    drawings = list(islice(iter_drawings(source), len(images) + (limit is None)))
    if len(drawings) != len(images):
        more = "more" if len(drawings) > len(images) else str(len(drawings))
        raise DataError(
            f'{path}: {len(images)} bitmaps, but {source} holds {more} drawings; flags="ignore" leaves them out'
        )
    strokes = _simplified(drawings)
    wrong = check_order(images, strokes)
    if wrong is not None:
        raise DataError(
            f'{path}: bitmap {wrong} does not show drawing {wrong} of {source}; flags="ignore" leaves them out'
        )
    return ImageSet(data.images, data.labels, data.names, _flags(drawings), strokes, data.rows)


def _load_strokes(name: str, path: Path, limit: int | None) -> ImageSet:
    drawings, seen = [], dict[str, int]()
    for drawing in iter_drawings(path):
        word = drawing.word or name
        seen[word] = seen.get(word, 0) + 1
        if limit is None or seen[word] <= limit:
            drawings.append(drawing)
        elif len(seen) == 1 and path.suffix.lower() == ".bin":
            break
    names = tuple(seen) or (name,)
    labels = np.array([names.index(drawing.word or name) for drawing in drawings], np.int64)
    strokes = _simplified(drawings)
    return ImageSet(rasterize(strokes), labels, names, _flags(drawings), strokes, np.arange(len(drawings)))


def _simplified(drawings: Sequence[Drawing]) -> StrokeSet:
    """Return simplified strokes: raw drawings are simplified, others taken as they are."""
    raw = np.array([drawing.is_raw for drawing in drawings], bool)
    strokes = StrokeSet.of(drawings)
    if not raw.any():
        return strokes
    # One order in, the same order out, whatever the mix.
    order = np.argsort(np.concatenate([np.flatnonzero(raw), np.flatnonzero(~raw)]))
    return StrokeSet.concatenate([simplify(strokes[raw]), strokes[~raw]])[order]


def _framed(strokes: StrokeSet) -> StrokeSet:
    """Return strokes in [0, 255]: drawings that lie there are taken as they are, others are shifted and scaled."""
    outside = np.array([any(((s < 0) | (s > 255)).any() for s in drawing) for drawing in strokes], bool)
    if not outside.any():
        return strokes
    order = np.argsort(np.concatenate([np.flatnonzero(outside), np.flatnonzero(~outside)]))
    return StrokeSet.concatenate([fit_frame(strokes[outside]), strokes[~outside]])[order]


def _flags(drawings: Sequence[Drawing]) -> Array | None:
    flags = [drawing.recognized for drawing in drawings]
    return None if any(flag is None for flag in flags) else np.array(flags, bool)
