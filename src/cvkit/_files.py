"""Write a file whole or not at all."""

from __future__ import annotations

import os
import platform
import secrets
import stat
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvkit._types import StrPath

__all__ = ["replacing", "sync_folder"]


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Yield a temporary file beside `path` to be filled; on leaving it takes the place of `path` at once.

    The bytes are on disk before the name points to them, so a crash leaves the old file or the new one, and after an
    error the old file is still there. A symbolic link is followed, the mode is that of the old file or follows the
    umask. What a killed process of this machine left behind is removed by the next call for the same path.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file")
    machine = zlib.crc32(platform.node().encode())
    stem = f".{target.name}.tmp-{machine:08x}-"
    _remove_stale(target.parent, stem)
    part = target.parent / f"{stem}{os.getpid()}-{secrets.token_hex(4)}"
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        mode = stat.S_IMODE((target if target.exists() else part).stat().st_mode)
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: StrPath) -> None:
    """Bring a folder's names to disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems refuse to sync folders; the names are then as safe as they get.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove_stale(folder: Path, stem: str) -> None:
    """Remove temporary files of processes that are no more."""
    if not folder.is_dir():
        return
    for name in os.listdir(folder):  # noqa: PTH208 - names alone are wanted, one call
        owner = name.removeprefix(stem).split("-")[0]
        if not name.startswith(stem) or not owner.isdecimal():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            (folder / name).unlink(missing_ok=True)
        except (OSError, OverflowError):
            continue
