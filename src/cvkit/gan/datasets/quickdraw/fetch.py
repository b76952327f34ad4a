"""Download official files: over https only, resumed, capped, checked, and in place only when whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit._errors import DataError
from cvkit._files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message

    from cvkit._types import StrPath

__all__ = ["BUCKET", "download"]

BUCKET = "https://storage.googleapis.com/quickdraw_dataset"
"""The public bucket of the data set."""

Format = Literal["numpy_bitmap", "simplified", "raw", "binary", "sketchrnn"]

# Folder in the bucket and suffix; raw and simplified files have one name, so each format has its own folder here too.
_FORMATS = {
    "numpy_bitmap": ("full/numpy_bitmap", ".npy"),
    "simplified": ("full/simplified", ".ndjson"),
    "raw": ("full/raw", ".ndjson"),
    "binary": ("full/binary", ".bin"),
    "sketchrnn": ("sketchrnn", ".npz"),
}
_BLOCK = 1 << 18


def download(
    classes: Sequence[str],
    formats: Sequence[Format] = ("numpy_bitmap",),
    root: StrPath = "quickdraw",
    *,
    base: str = BUCKET,
    max_bytes: int = 2 << 30,
    timeout: float = 30.0,
    attempts: int = 3,
    context: ssl.SSLContext | None = None,
    progress: bool = False,
) -> list[Path]:
    """Download official files of some classes.

    A file that is there is left alone. What was loaded of an interrupted one is kept as ``.part`` and continued, if
    the server still has the same version. A file takes its name only when it has the announced length and, where the
    server states one, the announced MD5 sum.

    Parameters
    ----------
    classes : sequence of str
        Official class names, such as ``"The Eiffel Tower"``.
    formats : sequence of {'numpy_bitmap', 'simplified', 'raw', 'binary', 'sketchrnn'}
        Which files of each.
    root : path-like, default "quickdraw"
        Folder; each format has a subfolder, as `load` finds them.
    base : str, default the public bucket
        An ``https`` address; nothing else is opened, nor followed to.
    max_bytes : int, default 2 GiB
        Largest file.
    timeout : float, default 30.0
        Seconds without a byte before an attempt ends.
    attempts : int, default 3
        How often a broken connection is taken up again, for each file.
    context : ssl.SSLContext, optional
        For private mirrors with their own certificate. Default: certificates are checked as the system says.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    list of Path
        The files, class by class.

    Raises
    ------
    ValueError
        If the address is no https address, or a name or format is wrong.
    DataError
        If a file cannot be had; the error names its address.

    Examples
    --------
    >>> from cvkit.gan import quickdraw
    >>> quickdraw.download(["cat"], ["numpy_bitmap"], "quickdraw")  # doctest: +SKIP
    [PosixPath('quickdraw/numpy_bitmap/cat.npy')]
    """
    if urlsplit(base).scheme != "https":
        raise ValueError(f"`base` must be an https address; got {base!r}")
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"`classes` must be a sequence of class names; got {classes!r}")
    for name in classes:
        if not name.strip() or name.startswith(".") or any(c in "/\\\0" or not c.isprintable() for c in name):
            raise ValueError(f"`classes` must be names of the data set; got {name!r}")
    for kind in formats:
        check_choice("formats", kind, tuple(_FORMATS))
    limits = Limits(
        check_integer("max_bytes", max_bytes, minimum=1),
        check_interval("timeout", timeout, 0, low_open=True),
        check_integer("attempts", attempts, minimum=1),
    )
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _HttpsOnly())
    files = []
    for name in classes:
        for kind in formats:
            folder, suffix = _FORMATS[kind]
            path = Path(root, kind, name + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(f"{base.rstrip('/')}/{folder}/{quote(name + suffix)}", path, opener, limits, progress)
            files.append(path)
    return files


class Limits(NamedTuple):
    """What a download may cost."""

    max_bytes: int
    timeout: float
    attempts: int


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirections to https addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise DataError(f"{req.full_url}: redirects to {newurl!r}, which is no https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, path: Path, opener: urllib.request.OpenerDirector, limits: Limits, progress: bool = False) -> None:
    """Load one file unless it is there; continue a part of the same version."""
    if path.exists():
        return
    part, tag = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.etag")
    error: Exception | None = None
    for _ in range(limits.attempts):
        try:
            if _attempt(url, part, tag, opener, limits, progress):
                part.replace(path)
                tag.unlink(missing_ok=True)
                sync_folder(path.parent)
                return
            error = None
        except urllib.error.HTTPError as failure:
            with failure:
                if failure.code == 416:  # the part does not fit the file any more
                    part.unlink(missing_ok=True)
                elif failure.code < 500:
                    raise DataError(f"{url}: the server says {failure.code} {failure.reason}") from None
            error = failure
        except (urllib.error.URLError, OSError, http.client.HTTPException) as failure:
            if isinstance(getattr(failure, "reason", None), ssl.SSLError):
                raise DataError(f"{url}: no secure connection: {failure}") from failure
            error = failure
    raise DataError(f"{url}: broke off {limits.attempts} times; what was loaded is kept: {error or 'too short'}")


def _attempt(
    url: str, part: Path, tag: Path, opener: urllib.request.OpenerDirector, limits: Limits, progress: bool
) -> bool:
    """Load what is missing; return whether the part is now whole and checked."""
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310 - checked: https
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text())
    with opener.open(request, timeout=limits.timeout) as answer:
        headers: Message = answer.headers
        have = have if answer.status == 206 and headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        length = headers.get("Content-Length", "")
        total = have + int(length) if length.isascii() and length.isdigit() else None
        if total is not None and total > limits.max_bytes:
            raise DataError(f"{url}: {total} bytes; at most {limits.max_bytes} are loaded")
        # Only a strong tag promises that a later part continues this one.
        etag = headers.get("ETag", "")
        if etag.startswith('"'):
            tag.write_text(etag)
        else:
            tag.unlink(missing_ok=True)
        _receive(answer, url, part, have, total, limits.max_bytes, progress)
    if total is not None and part.stat().st_size < total:
        return False
    expected = _md5_of(headers)
    if expected is not None and _md5(part) != expected:
        part.unlink()
        raise DataError(f"{url}: the MD5 sum is not the announced one; the file was removed")
    return True


def _receive(
    answer: IO[bytes], url: str, part: Path, have: int, total: int | None, max_bytes: int, progress: bool
) -> None:
    from tqdm import tqdm

    with (
        part.open("r+b" if have else "wb") as file,
        tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.name[1:-5],
            disable=None if progress else True,
        ) as bar,
    ):
        file.seek(have)
        file.truncate()
        while block := answer.read(_BLOCK):
            have += len(block)
            if have > max_bytes:
                file.truncate(0)
                raise DataError(f"{url}: more than {max_bytes} bytes")
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())


def _md5_of(headers: Message) -> bytes | None:
    """Return the MD5 sum that the server announces, of a whole file."""
    for line in headers.get_all("x-goog-hash", []):
        for item in line.split(","):
            name, _, value = item.strip().partition("=")
            if name == "md5":
                try:
                    return base64.b64decode(value, validate=True)
                except binascii.Error:
                    return None
    return None


def _md5(path: Path) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
