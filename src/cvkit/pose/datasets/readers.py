"""Readers of labelled landmark folders: CSV of coordinates, DeepLabCut's CSV, COCO json and .pts files.

`read_landmarks` looks at what a folder holds and takes the reader that fits. Files are untrusted: only text, JSON and
images are read, and a damaged file raises one error that names it.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit._errors import DataError
from cvkit.pose.datasets.landmarks import LandmarkData
from cvkit.pose.skeleton import Skeleton, sided_names
from cvkit.pose.skeletons import AFLW19, COCO17, COCO_WHOLEBODY, COFW29, FACE68, HAND21, MPII, WFLW98

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cvkit._types import StrPath

__all__ = ["read_coco", "read_deeplabcut", "read_landmarks", "read_points_csv", "read_pts"]

_KNOWN = {len(s): s for s in (COCO17, COCO_WHOLEBODY, COFW29, FACE68, HAND21, MPII, WFLW98, AFLW19)}
_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".gif"}
_LARGEST = 256 * 2**20  # bytes of one label file


def read_landmarks(folder: StrPath, *, skeleton: Skeleton | None = None) -> LandmarkData:
    r"""Read a folder of pictures with landmarks, whatever the common form of its labels.

    Parameters
    ----------
    folder : str or path-like
        Holds a CSV or JSON file of labels, or ``.pts`` files beside the pictures. A label file may be given itself.
    skeleton : Skeleton, optional
        What the joints are; by default known from the number of points, or made from the file's names.

    Returns
    -------
    LandmarkData
        Paths, places and what the labels say of visibility.

    Raises
    ------
    DataError
        If the folder or its labels are missing, of no known form, or damaged.

    See Also
    --------
    read_points_csv : One row a picture: name, x0, y0, x1, y1, ...
    read_deeplabcut : DeepLabCut's three header rows.
    read_coco : COCO json.
    read_pts : A ``.pts`` file a picture.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.io import save_image
    >>> from cvkit.pose import read_landmarks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(np.zeros((12, 16, 3), np.uint8), Path(folder, "a.png"))
    ...     _ = Path(folder, "labels.csv").write_text("name,x0,y0,x1,y1\na.png,1,2,3,4\n")
    ...     data = read_landmarks(folder)
    >>> data.keypoints[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    path = Path(folder)
    if path.is_file():
        return _read_file(path, skeleton)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    labels = sorted([*path.glob("*.csv"), *path.glob("*.json"), *path.glob("annotations/*.json")])
    problems = []
    for file in labels:
        try:
            return _read_file(file, skeleton)
        except DataError as error:
            problems.append(str(error))
    if any(path.glob("*.pts")):
        return read_pts(path, skeleton=skeleton)
    raise DataError(
        "; ".join(problems) if problems else f"{path}: holds no landmarks (looked for .csv, .json and .pts files)"
    )


def _read_file(path: Path, skeleton: Skeleton | None) -> LandmarkData:
    if path.suffix.lower() == ".json":
        return read_coco(path, skeleton=skeleton)
    if path.suffix.lower() == ".csv":
        with _Opened(path) as lines:
            first = next(lines, "")
        return (read_deeplabcut if first.split(",")[0].strip() == "scorer" else read_points_csv)(
            path, skeleton=skeleton
        )
    raise DataError(f"{path}: labels must be a .csv or .json file")


class _Opened:
    """Lines of a text file, with every error turned into one that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            size = self.path.stat().st_size
            if size > _LARGEST:
                raise DataError(f"{self.path}: larger than {_LARGEST >> 20} MiB")
            return iter(self.path.read_text(encoding="utf-8-sig").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: cannot be read ({error})") from error

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""


def _rows(path: Path) -> list[list[str]]:
    with _Opened(path) as lines:
        try:
            return [row for row in csv.reader(lines, strict=True) if row]
        except csv.Error as error:
            raise DataError(f"{path}: is no CSV ({error})") from error


def _numbers(path: Path, row: int, cells: Sequence[str]) -> list[float]:
    """Return numbers; an empty cell is NaN."""
    try:
        return [float(cell) if cell.strip() else math.nan for cell in cells]
    except ValueError as error:
        raise DataError(f"{path}: row {row} holds something that is no number ({error})") from error


def _find(root: Path, name: str, where: str, index: Mapping[str, Sequence[Path]]) -> Path:
    """Return a picture's path inside `root`: as named, or by its last parts anywhere below; never outside."""
    given = Path(name.replace("\\", "/"))
    if not given.is_absolute() and ".." not in given.parts and (root / given).is_file():
        return root / given
    found = index.get(given.name, ())
    for count in range(2, len(given.parts) + 1):  # of several, the one that shares most of the path
        closer = [path for path in found if path.parts[-count:] == given.parts[-count:]]
        found = closer or found
    if not found:
        raise DataError(f"{where}: there is no picture {name!r} in {root}")
    if len(found) > 1:
        raise DataError(f"{where}: there are several pictures {name!r} in {root}, such as {found[0]} and {found[1]}")
    return found[0]


def _index(root: Path) -> dict[str, list[Path]]:
    """Return the pictures below `root` by their names."""
    index: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _ENDINGS:
            index.setdefault(path.name, []).append(path)
    return index


def read_points_csv(path: StrPath, *, images: StrPath | None = None, skeleton: Skeleton | None = None) -> LandmarkData:
    r"""Read a CSV with one row a picture: its name, then x and y of each point.

    Parameters
    ----------
    path : str or path-like
        The CSV; a first row without numbers is a header. Empty cells and negative coordinates pairs ``-1, -1`` are
        unlabelled.
    images : str or path-like, optional
        Folder of the pictures, searched with its subfolders; by default that of the CSV.
    skeleton : Skeleton, optional
        By default made of the header's names where it has them (``nose_x, nose_y``), pairs among them; else known from
        the number of points (68 points are a face), or numbered points.

    Returns
    -------
    LandmarkData
        Pictures are used whole.

    Raises
    ------
    DataError
        If the file is missing or damaged, or a picture is missing.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from cvkit.pose import read_points_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 6)).save(pathlib.Path(folder, "a.png"))
    ...     _ = pathlib.Path(folder, "points.csv").write_text("name,x0,y0,x1,y1\na.png,1,2,3,\n")
    ...     data = read_points_csv(pathlib.Path(folder, "points.csv"))
    ...     data.keypoints[0, 0].tolist(), data.visibility.tolist()
    ([1.0, 2.0], [[2.0, 0.0]])
    """
    path = Path(path)
    rows = _rows(path)
    joints = None
    if rows and not _is_number(rows[0][-1]):
        joints = _header_names(rows[0][1:])
        rows = rows[1:]
    elif rows and not rows[0][0].strip() and all(_is_number(cell) for cell in rows[0][1:]):
        rows = rows[1:]  # a header of column numbers
    if not rows:
        raise DataError(f"{path}: holds no rows")
    width = len(rows[0])
    if width < 3 or width % 2 == 0:
        raise DataError(f"{path}: rows must be a name and pairs of x and y; got {width} columns")
    root = path.parent if images is None else Path(images)
    index = _index(root)
    names, points = [], []
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise DataError(f"{path}: row {number} has {len(row)} columns, the first one {width}")
        names.append(_find(root, row[0], str(path), index))
        points.append(_numbers(path, number, row[1:]))
    keypoints = np.asarray(points, np.float32).reshape(len(rows), -1, 2)
    keypoints[(keypoints < 0).all(-1)] = np.nan
    keypoints[~np.isfinite(keypoints).all(-1)] = np.nan
    made = _guess(keypoints.shape[1]) if joints is None else _named("points", joints)
    return LandmarkData(names, keypoints, skeleton=skeleton or made)


def _header_names(cells: Sequence[str]) -> list[str] | None:
    """Return the points' names in a header such as "nose_x, nose_y, ...", None where it only numbers them."""
    names = []
    for pair in zip(cells[::2], cells[1::2], strict=False):
        stems = []
        for axis, cell in zip("xy", pair, strict=True):
            after, before = rf"(.*[^\s_.:-])[\s_.:-]+{axis}", rf"{axis}[\s_.:-]+([^\s_.:-].*)"
            found = re.fullmatch(after, cell.strip(), re.I) or re.fullmatch(before, cell.strip(), re.I)
            stems.append(found[1] if found else None)
        if stems[0] is None or stems[0] != stems[1]:
            return None
        names.append(stems[0])
    numbered = len({re.sub(r"\d+", "", name) for name in names}) <= 1
    return None if numbered or len(set(names)) != len(names) else names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _guess(joints: int, name: str = "points") -> Skeleton:
    return _KNOWN.get(joints) or Skeleton(name, [f"point {i}" for i in range(joints)])


def read_deeplabcut(path: StrPath, *, images: StrPath | None = None, skeleton: Skeleton | None = None) -> LandmarkData:
    r"""Read DeepLabCut's ``CollectedData.csv``: rows of scorer, body parts and coordinates, then one row a picture.

    Parameters
    ----------
    path : str or path-like
        The CSV. Empty cells are unlabelled.
    images : str or path-like, optional
        Folder that the names are relative to; by default that of the CSV. Names are also searched by their last part.
    skeleton : Skeleton, optional
        By default made of the body parts' names; parts that differ in left and right alone are pairs.

    Returns
    -------
    LandmarkData
        Pictures are used whole.

    Raises
    ------
    DataError
        If the file is missing or damaged, or a picture is missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.io import save_image
    >>> from cvkit.pose import read_deeplabcut
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(np.zeros((12, 16, 3), np.uint8), Path(folder, "a.png"))
    ...     rows = ["scorer,me,me,me,me", "bodyparts,head,head,tail,tail", "coords,x,y,x,y", "a.png,1,2,3,4"]
    ...     _ = Path(folder, "labels.csv").write_text("\n".join(rows))
    ...     data = read_deeplabcut(Path(folder, "labels.csv"))
    >>> data.keypoints[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    path = Path(path)
    rows = _rows(path)
    heads = [row[0].strip() for row in rows[:4]]
    if heads[:1] != ["scorer"] or "bodyparts" not in heads or "coords" not in heads:
        raise DataError(f"{path}: must begin with the rows scorer, bodyparts and coords")
    if "individuals" in heads:
        raise DataError(f"{path}: several individuals a picture are not read")
    first = next((i for i, cell in enumerate(rows[heads.index("coords")]) if cell.strip() == "x"), 0)
    parts = [cell.strip() for cell in rows[heads.index("bodyparts")][first::2]]
    body = rows[heads.index("coords") + 1 :]
    if first < 1 or not parts or not body:
        raise DataError(f"{path}: holds no labels")
    root = path.parent if images is None else Path(images)
    index = _index(root)
    names, points = [], []
    for number, row in enumerate(body, start=1):
        if len(row) != first + 2 * len(parts):
            raise DataError(f"{path}: picture {number} has {len(row) - first} coordinates for {len(parts)} parts")
        names.append(_find(root, "/".join(row[:first]), str(path), index))
        points.append(_numbers(path, number, row[first:]))
    keypoints = np.asarray(points, np.float32).reshape(len(body), len(parts), 2)
    keypoints[~np.isfinite(keypoints).all(-1)] = np.nan
    try:
        made = Skeleton(path.parent.name or "deeplabcut", parts, pairs=_mirrored(parts))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return LandmarkData(names, keypoints, skeleton=skeleton or made)


def _mirrored(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return names that differ in left and right alone, as pairs."""
    pairs, sided = [], sided_names(names)
    taken: set[str] = set()
    for name in names:
        others = [name.replace(*words) for words in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))]
        for other in (*others, sided.get(name, name)):
            if other != name and other in names and not taken & {name, other}:
                pairs.append((name, other))
                taken |= {name, other}
                break
    return pairs


def _named(name: str, joints: Sequence[str], edges: Sequence[tuple[int, int]] = ()) -> Skeleton:
    """Return a skeleton of these joints: the known one if they are its own, else with pairs by left and right."""
    known = _KNOWN.get(len(joints))
    if known is not None and [joint.lower().replace("_", " ") for joint in joints] == list(known.joints):
        return known
    return Skeleton(name, joints, pairs=_mirrored(joints), edges=edges)


def read_coco(path: StrPath, *, images: StrPath | None = None, skeleton: Skeleton | None = None) -> LandmarkData:
    """Read key points from COCO json, one object an entry.

    Parameters
    ----------
    path : str or path-like
        The JSON file.
    images : str or path-like, optional
        Folder of the pictures, searched with its subfolders; by default that of the JSON file.
    skeleton : Skeleton, optional
        By default made from the category's names and lines (COCO's own seventeen are `COCO17`); without names known
        from the number of points.

    Returns
    -------
    LandmarkData
        One entry an object with at least one labelled point, crowds left out; boxes as labelled.

    Raises
    ------
    DataError
        If the file is missing or damaged, or a picture is missing.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.io import save_image
    >>> from cvkit.pose import read_coco
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(np.zeros((12, 16, 3), np.uint8), Path(folder, "a.png"))
    ...     document = {
    ...         "images": [{"id": 1, "file_name": "a.png"}],
    ...         "categories": [{"id": 1, "name": "thing", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]}],
    ...         "annotations": [
    ...             {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [0, 0, 8, 8]}
    ...         ],
    ...     }
    ...     _ = Path(folder, "labels.json").write_text(json.dumps(document))
    ...     data = read_coco(Path(folder, "labels.json"))
    >>> data.keypoints[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    path = Path(path)
    with _Opened(path) as lines:
        text = "\n".join(lines)
    try:
        document = json.loads(text)
        files = {entry["id"]: str(entry["file_name"]) for entry in document["images"]}
        entries = [e for e in document["annotations"] if not e.get("iscrowd") and "keypoints" in e]
        flat = [np.asarray(e["keypoints"], np.float64).ravel() for e in entries]
        boxes = [np.asarray(e["bbox"], np.float64) if "bbox" in e else None for e in entries]
        owners = [files[e["image_id"]] for e in entries]
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise DataError(f"{path}: is no COCO json with key points ({type(error).__name__}: {error})") from error
    if not flat or len({part.size for part in flat}) != 1 or flat[0].size % 3:
        raise DataError(f"{path}: must hold objects with 3 numbers a key point, as many for all")
    points = np.stack(flat).reshape(len(flat), -1, 3)
    keep = np.asarray((points[..., 2] > 0).any(1))
    if not keep.any():
        raise DataError(f"{path}: holds no labelled key points")
    if skeleton is None:
        try:
            skeleton = _skeleton_of(document, points.shape[1])
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: has damaged categories ({error})") from error
    root = path.parent if images is None else Path(images)
    index = _index(root)
    names = [_find(root, owner, str(path), index) for owner in owners]
    keypoints = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
    return LandmarkData(
        [name for name, kept in zip(names, keep, strict=True) if kept],
        keypoints[keep],
        np.minimum(points[keep][..., 2], 2),
        skeleton=skeleton,
        boxes=_corners(boxes, keypoints)[keep],
    )


def _skeleton_of(document: Mapping[str, Any], joints: int) -> Skeleton:
    """Return the skeleton of the category's names and lines; without them the known one of that many joints."""
    for category in document.get("categories", ()):
        names = category.get("keypoints", ()) if isinstance(category, Mapping) else ()
        if len(names) == joints and len(set(map(str, names))) == joints:
            edges = [
                (a - 1, b - 1)
                for a, b in category.get("skeleton", ())
                if 0 < a <= joints and 0 < b <= joints and a != b
            ]
            return _named(str(category.get("name", "coco")), [str(name) for name in names], edges)
    return _guess(joints)


def _corners(boxes: Sequence[NDArray[np.float64] | None], keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(left, top, right, bottom)``: as labelled, or around the points where there is none."""
    corners = np.zeros((len(boxes), 4))
    for i, box in enumerate(boxes):
        if box is not None and box.shape == (4,) and np.isfinite(box).all() and box[2] > 0 and box[3] > 0:
            corners[i] = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        else:
            known = keypoints[i][np.isfinite(keypoints[i]).all(-1)]
            low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.ones(2))
            corners[i] = (*low, *np.maximum(high, low + 1))
    return corners


def read_pts(folder: StrPath, *, skeleton: Skeleton | None = None) -> LandmarkData:
    r"""Read a folder of pictures with a ``.pts`` file each, as 300W and its relatives have them.

    Parameters
    ----------
    folder : str or path-like
        Pictures and files of the same stem. Coordinates count from 1 and are brought to pixel centres at integers from
        0.
    skeleton : Skeleton, optional
        By default known from the number of points (68 are a face). Files with another number than the first are
        refused.

    Returns
    -------
    LandmarkData
        Boxes are those around the points.

    Raises
    ------
    DataError
        If there are none, or one is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cvkit.io import save_image
    >>> from cvkit.pose import read_pts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(np.zeros((12, 16, 3), np.uint8), Path(folder, "a.png"))
    ...     _ = Path(folder, "a.pts").write_text("version: 1\nn_points: 2\n{\n2 3\n4 5\n}\n")
    ...     data = read_pts(folder)
    >>> data.keypoints[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    root = Path(folder)
    files = sorted(root.glob("*.pts"))
    if not files:
        raise DataError(f"{root}: holds no .pts files")
    pictures: dict[str, list[Path]] = {}
    for path in root.iterdir():
        if path.suffix.lower() in _ENDINGS:
            pictures.setdefault(path.stem, []).append(path)
    names, points = [], []
    for file in files:
        found = pictures.get(file.stem, ())
        if len(found) != 1:
            what = "are several pictures" if found else "is no picture"
            raise DataError(f"{file}: there {what} of that name beside it")
        names.append(found[0])
        points.append(_pts(file))
        if len(points[-1]) != len(points[0]):
            raise DataError(f"{file}: has {len(points[-1])} points, {files[0].name} has {len(points[0])}")
    keypoints = np.stack(points) - 1.0
    return LandmarkData(
        names,
        keypoints,
        skeleton=skeleton or _guess(keypoints.shape[1]),
        boxes=_corners([None] * len(names), keypoints),
    )


def _pts(path: Path) -> NDArray[np.float64]:
    with _Opened(path) as lines:
        text = " ".join(lines)
    try:
        body = text[text.index("{") + 1 : text.rindex("}")].split()
        points = np.asarray([float(cell) for cell in body], np.float64).reshape(-1, 2)
    except ValueError as error:
        raise DataError(f"{path}: is no .pts file ({error})") from error
    said = re.search(r"n_points:\s*(\d+)", text[: text.index("{")])
    if said and int(said[1]) != len(points):
        raise DataError(f"{path}: has {len(points)} points, not {said[1]} as it says")
    return points
