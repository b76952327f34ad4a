"""Generated drawings in the official formats: for tests, demonstrations and first steps without a download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit.gan.datasets.imageset import ImageSet, check_names
from cvkit.gan.datasets.quickdraw.bitmaps import write_bitmaps
from cvkit.gan.datasets.quickdraw.drawing import Drawing, StrokeSet
from cvkit.gan.datasets.quickdraw.ndjson import write_ndjson
from cvkit.gan.datasets.quickdraw.raster import fit_frame, rasterize, simplify
from cvkit.gan.datasets.quickdraw.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, StrPath

__all__ = ["GENERATED", "generate", "generate_drawings", "write_generated"]

GENERATED: tuple[str, ...] = tuple(SHAPES)
"""Names of the classes that can be generated."""

Format = Literal["numpy_bitmap", "raw", "simplified"]


def generate_drawings(
    word: str, n: int, *, dirty: float = 0.0, rng: np.random.Generator | None = None
) -> list[Drawing]:
    """Draw one everyday thing n times, as raw drawings with times.

    Every drawing has its own style, parts and proportions, and a hand's faults: wobbling lines, gaps and overshoots
    where lines meet, slant, turn, uneven scale, strokes in another order.

    Parameters
    ----------
    word : str
        One of `GENERATED`.
    n : int
        How many.
    dirty : float, default 0.0
        Share of drawings that a game would not recognise: scribbles, unfinished ones, other things. They carry
        ``recognized=False``.
    rng : numpy.random.Generator, optional
        The same state gives the same drawings. Default: a fresh one with seed 0.

    Returns
    -------
    list of Drawing
        Raw drawings, in device pixels, y down.

    Raises
    ------
    ValueError
        If the word is unknown.

    Examples
    --------
    >>> from cvkit.gan import quickdraw
    >>> suns = quickdraw.generate_drawings("sun", 2)
    >>> suns[0].word, suns[0].is_raw, len(suns[0].strokes) > 5
    ('sun', True, True)
    """
    check_choice("word", word, GENERATED)
    n = check_integer("n", n, minimum=0)
    dirty = check_interval("dirty", dirty, 0, 1)
    rng = np.random.default_rng(0) if rng is None else rng
    strokes, recognized = _clean_strokes(word, n, dirty, rng)
    drawn = _by_hand(StrokeSet.of(strokes), rng)
    return [_told(word, list(drawn[i]), bool(recognized[i]), rng) for i in range(n)]


def generate(
    classes: Sequence[str] | None = None, n: int = 100, *, dirty: float = 0.0, rng: np.random.Generator | None = None
) -> ImageSet:
    """Return a labelled set of generated drawings: bitmaps, simplified strokes and flags.

    Parameters
    ----------
    classes : sequence of str, optional
        Names among `GENERATED`. Default: all.
    n : int, default 100
        Drawings a class.
    dirty : float, default 0.0
        Share of drawings that no one would recognise, as in `generate_drawings`.
    rng : numpy.random.Generator, optional
        The same state gives the same set. Default: a fresh one with seed 0.

    Returns
    -------
    ImageSet
        ``n`` rows a class, class by class.

    Examples
    --------
    >>> from cvkit.gan import quickdraw
    >>> data = quickdraw.generate(["house", "star"], 5)
    >>> data.images.shape, data.names
    ((10, 28, 28), ('house', 'star'))
    """
    names = GENERATED if classes is None else check_names("classes", classes, GENERATED)
    rng = np.random.default_rng(0) if rng is None else rng
    drawings = [drawing for name in names for drawing in generate_drawings(name, n, dirty=dirty, rng=rng)]
    strokes = simplify(drawings)
    return ImageSet(
        rasterize(strokes),
        np.repeat(np.arange(len(names)), n),
        names,
        recognized=np.array([bool(drawing.recognized) for drawing in drawings], bool),
        strokes=strokes,
        rows=np.tile(np.arange(n), len(names)),
    )


def write_generated(
    root: StrPath,
    classes: Sequence[str] | None = None,
    n: int = 100,
    *,
    formats: Sequence[Format] = ("numpy_bitmap", "simplified"),
    dirty: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[Path]:
    """Write generated drawings as files of the official formats, so that what reads them reads the real ones too.

    Parameters
    ----------
    root : path-like
        Folder; made where it is not there.
    classes : sequence of str, optional
        Names among `GENERATED`. Default: all.
    n : int, default 100
        Drawings a class.
    formats : sequence of {'numpy_bitmap', 'simplified', 'raw'}
        Which files. Each lies in a subfolder of its format's name: ``numpy_bitmap/sun.npy``, ``simplified/sun.ndjson``.
    dirty : float, default 0.0
        Share of drawings that no one would recognise.
    rng : numpy.random.Generator, optional
        The same state gives the same files. Default: a fresh one with seed 0.

    Returns
    -------
    list of Path
        The files, class by class.

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.gan import quickdraw
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = quickdraw.write_generated(folder, ["sun"], 4)
    ...     data = quickdraw.load(folder)
    >>> [file.name for file in files], data.names, len(data)
    (['sun.npy', 'sun.ndjson'], ('sun',), 4)
    """
    names = GENERATED if classes is None else check_names("classes", classes, GENERATED)
    for kind in formats:
        check_choice("formats", kind, ("numpy_bitmap", "simplified", "raw"))
    rng = np.random.default_rng(0) if rng is None else rng
    files: list[Path] = []
    for name in names:
        drawings = generate_drawings(name, n, dirty=dirty, rng=rng)
        strokes = simplify(drawings)
        for kind in dict.fromkeys(formats):
            path = Path(root, kind, f"{name}.npy" if kind == "numpy_bitmap" else f"{name}.ndjson")
            path.parent.mkdir(parents=True, exist_ok=True)
            files.append(path)
            if kind == "numpy_bitmap":
                write_bitmaps(path, rasterize(strokes))
            elif kind == "raw":
                write_ndjson(path, drawings)
            else:
                write_ndjson(path, (_simplified(d, strokes[i]) for i, d in enumerate(drawings)))
    return files


def _simplified(drawing: Drawing, strokes: list[Array]) -> Drawing:
    return Drawing(
        tuple(strokes), drawing.word, drawing.recognized, drawing.key_id, drawing.country, drawing.timestamp, None
    )


def _clean_strokes(word: str, n: int, dirty: float, rng: np.random.Generator) -> tuple[list[list[Array]], Array]:
    """Return the strokes of n drawings before the hand touches them, and whether each is what it should be."""
    recognized = rng.random(n) >= dirty
    others = [name for name in GENERATED if name != word]
    strokes = []
    for good in recognized:
        if good:
            strokes.append(SHAPES[word](rng))
            continue
        kind = rng.integers(3)
        if kind == 0:
            strokes.append([np.cumsum(rng.normal(0, 0.2, (int(rng.integers(8, 40)), 2)), axis=0)])
        elif kind == 1:
            strokes.append(SHAPES[word](rng)[:1])
        else:
            strokes.append(SHAPES[others[rng.integers(len(others))]](rng))
    return strokes, recognized


def _by_hand(strokes: StrokeSet, rng: np.random.Generator) -> StrokeSet:
    """Bend, shift and turn clean strokes as a hand does; all drawings at once."""
    strokes = fit_frame(strokes)
    xy, ends = strokes.points / 255.0 - 0.5, strokes.strokes
    counts = np.diff(ends)
    stroke = np.repeat(np.arange(len(counts)), counts)
    owner = np.repeat(np.arange(len(strokes)), strokes.stroke_counts)
    place = ((np.arange(len(xy)) - ends[:-1][stroke]) / np.maximum(counts - 1, 1)[stroke])[:, None]
    jumps = np.zeros(len(xy))
    jumps[1:] = np.hypot(*np.diff(xy, axis=0).T) * (np.diff(stroke) == 0)
    length = np.bincount(stroke, jumps, len(counts))
    steady = rng.lognormal(0.0, 0.35, len(strokes))[owner]  # some hands are steadier
    # Wobble: a few slow waves along the stroke, less on short strokes.
    reach = 0.018 * steady * np.minimum(1.0, 0.25 + length)
    moved = xy.astype(np.float64)
    for wave in (1, 2, 3):
        size = rng.normal(0, 1.0 / wave, (len(counts), 2)) * reach[:, None]
        moved += size[stroke] * np.sin(np.pi * wave * 2 * place + rng.uniform(0, 2 * np.pi, len(counts))[stroke, None])
    # Whole strokes land a little off, and both ends miss: gaps and overshoots.
    for weight in (1.0, (1 - place) ** 3, place**3):
        moved += (rng.normal(0, 0.014, (len(counts), 2)) * steady[:, None])[stroke] * weight
    matrix = _affine(len(strokes), rng)
    return StrokeSet(np.einsum("pij,pj->pi", matrix[owner[stroke]], moved), ends, strokes.drawings)


def _affine(count: int, rng: np.random.Generator) -> Array:
    """Return matrices of a small turn, slant and uneven scale, (count, 2, 2)."""
    angle, slant = rng.normal(0, 0.09, count), rng.normal(0, 0.08, count)
    wide = np.exp(rng.normal(0, 0.13, count))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    shape = np.stack([wide, slant, np.zeros(count), 1 / wide], axis=1).reshape(-1, 2, 2)
    return np.asarray(turn @ shape)


def _told(word: str, strokes: list[Array], recognized: bool, rng: np.random.Generator) -> Drawing:
    """Place a drawing on a device and give every point a time, and the drawing what a file says of it."""
    side, corner = rng.uniform(250, 900), rng.uniform(20, 300, 2)
    placed = tuple(np.round((stroke + 0.5) * side + corner, 1) for stroke in strokes)
    times, clock = [], 0.0
    for stroke in placed:
        steps = rng.uniform(10, 24, len(stroke))
        times.append(np.floor(clock + np.cumsum(steps)))
        clock = float(times[-1][-1]) + rng.uniform(80, 600)
    day, hour, minute, second = (int(rng.integers(low, high)) for low, high in ((1, 32), (0, 24), (0, 60), (0, 60)))
    stamp = f"2017-03-{day:02d} {hour:02d}:{minute:02d}:{second:02d}.00000 UTC"
    key = int(rng.integers(1 << 52, 1 << 53))
    return Drawing(placed, word, recognized, key, str(rng.choice(["US", "GB", "DE", "JP", "BR"])), stamp, tuple(times))
