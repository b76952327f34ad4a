"""Files in and out for the commands: find pictures, and bring results to a folder all at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cvkit._errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["check_picture", "find_pictures", "staged"]

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".pbm", ".pgm", ".ppm"}
_WRITABLE = _PICTURES - {".pbm"}


def find_pictures(paths: Iterable[str]) -> list[Path]:
    """Return the picture files among paths, and those in folders (not in folders within), each once."""
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ImageError(f"{path}: no such file")
        inside = (
            sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _PICTURES) if path.is_dir() else [path]
        )
        if not inside:
            raise ImageError(f"{path}: no picture in this folder")
        found += inside
    return list(dict.fromkeys(found))


def check_picture(path: str) -> Path:
    """Return a path that a picture can be written to, or raise before anything is computed."""
    picture = Path(path)
    if picture.suffix.lower() not in _WRITABLE:
        raise ValueError(f"`--out` must end in one of {', '.join(sorted(_WRITABLE))}; got {path}")
    if not picture.parent.is_dir():
        raise ValueError(f"`--out`: there is no folder {picture.parent}")
    return picture


@contextmanager
def staged(out: str) -> Iterator[Path]:
    """Yield a folder to write results to; they reach `out`, which may exist, only if all went well."""
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise ValueError(f"`--out` must be a folder; {target} is a file")
    nearest = target.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"`--out` must be a folder that can be written; {nearest} cannot")
    # Beside the target, so that moving is renaming.
    stage = Path(tempfile.mkdtemp(prefix=".cvkit-", dir=nearest))
    try:
        yield stage
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(stage.iterdir()):
            file.replace(target / file.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
