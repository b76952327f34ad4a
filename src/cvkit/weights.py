"""Tensors on disk: safetensors files that give back what went in, and one guarded door for foreign checkpoints.

A file holds named tensors and some text, and reading it runs no code. Memory formats (channels-last) and ties (two
names for one tensor) are no part of the safetensors format; `save_tensors` notes them in the file's metadata and
`load_tensors` restores both. Any safetensors reader can open the files, and any safetensors file can be read here.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cvkit._checks import check_integer, shown
from cvkit._errors import WeightsError
from cvkit._files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import StrPath

__all__ = ["WeightsError", "import_torch", "load_metadata", "load_tensors", "save_tensors", "sha256"]

_KEY = "cvkit"  # one key: the order in which safetensors writes several changes from run to run
_UNSUPPORTED = {torch.complex128, torch.complex32}
_TORCH_FLOOR = "2.10"  # CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10) both got round `weights_only`


def save_tensors(path: StrPath, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors to a safetensors file, whole or not at all.

    The bytes depend on names, values, dtypes, memory formats and metadata alone, so equal states give equal files.
    They are on disk when the function returns; after an error the old file is still there. A symbolic link is
    followed.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist.
    tensors : mapping of str to Tensor
        Of any shape, memory format and device; a name that shares all of another's memory is stored once. Overlapping
        views are stored in full, each by itself.
    metadata : mapping of str to str, optional
        Text to go with them.

    Raises
    ------
    TypeError
        If a value is no dense tensor with values, or is of a dtype that the format lacks (complex128).
    cvkit.weights.WeightsError
        If writing fails.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "net.safetensors"
    >>> save_tensors(path, {"weight": torch.arange(3.0)}, metadata={"note": "three"})
    >>> load_tensors(path)["weight"], load_metadata(path)
    (tensor([0., 1., 2.]), {'note': 'three'})
    >>> folder.cleanup()
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"`tensors` must be a mapping of names to tensors; got {shown(tensors)}")
    stored, ties, strides = _flatten(tensors)
    text = dict(metadata or {})
    if not all(isinstance(part, str) for pair in text.items() for part in pair):
        raise TypeError(f"`metadata` must map strings to strings; got {shown(text)}")
    note = {key: value for key, value in (("metadata", text), ("strides", strides), ("ties", ties)) if value}
    header = {_KEY: json.dumps(note, sort_keys=True)} if note else None
    try:
        with replacing(path) as part:
            save_file(stored, part, metadata=header)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path}: cannot be written: {error}") from error


def load_tensors(path: StrPath, *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Parameters
    ----------
    path : path-like
        A file of `save_tensors` or any other safetensors file.
    device : str or torch.device, default 'cpu'
        Where the tensors go.

    Returns
    -------
    dict of str to Tensor
        In the order of their names, with the memory formats and ties that `save_tensors` found: tied names give the
        same tensor object. They own their memory: what happens to the file later does not reach them.

    Raises
    ------
    cvkit.weights.WeightsError
        If the file is missing, damaged or no safetensors file.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "net.safetensors"
    ...     save_tensors(path, {"w": torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)})
    ...     load_tensors(path)["w"].is_contiguous(memory_format=torch.channels_last)
    True
    """
    device = torch.device(device)
    path = _existing(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            note = _note(path, file.metadata())
            # Without the copy the tensors would be views of the mapped file and change with it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {error}") from error
    _restore(path, tensors, note)
    # A tied pair must stay one object, whatever the device.
    moved = {id(tensor): tensor.to(device) for tensor in tensors.values()}
    return {name: moved[id(tensors[name])] for name in sorted(tensors)}


def load_metadata(path: StrPath) -> dict[str, str]:
    """Read the text that goes with a file's tensors, not the tensors.

    Parameters
    ----------
    path : path-like
        A safetensors file.

    Returns
    -------
    dict of str to str
        What `save_tensors` was given, or the plain metadata of another program's file.

    Raises
    ------
    cvkit.weights.WeightsError
        If the file is missing, damaged or no safetensors file.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(pathlib.Path(folder) / "a", {}, metadata={"classes": "cat, dog"})
    ...     load_metadata(pathlib.Path(folder) / "a")
    {'classes': 'cat, dog'}
    """
    path = _existing(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = file.metadata() or {}
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {error}") from error
    text = _note(path, found).get("metadata", {}) if _KEY in found else found
    return {str(key): str(value) for key, value in text.items()}


def import_torch(path: StrPath, *, max_bytes: int = 4 * 2**30, device: str | torch.device = "cpu") -> object:
    """Read a checkpoint that ``torch.save`` wrote, to convert it once with `save_tensors`.

    Such files are pickles. This is the one place where cvkit opens any, through ``torch.load(weights_only=True)``: only
    tensors and plain containers are built, anything else is an error, and there is no fallback. Prefer safetensors
    for files from strangers all the same: that restriction has been broken twice (CVE-2025-32434, CVE-2026-24747).

    Parameters
    ----------
    path : path-like
        A ``.pt``, ``.pth``, ``.th``, ``.ckpt`` or ``.bin`` file; the name does not matter.
    max_bytes : int, default 4 GiB
        Larger files are refused, and archives that would unpack to more.
    device : str or torch.device, default 'cpu'
        Where the tensors go.

    Returns
    -------
    object
        What was saved: most often a dict of tensors, or a dict with one under ``"state_dict"``.

    Raises
    ------
    cvkit.weights.WeightsError
        If the file is missing, too large, damaged, or holds anything but tensors and plain containers.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "old.pt"
    ...     torch.save({"weight": torch.ones(2)}, path)
    ...     import_torch(path)
    {'weight': tensor([1., 1.])}
    """
    max_bytes = check_integer("max_bytes", max_bytes, minimum=1)
    device = torch.device(device)
    path = _existing(path)
    if torch.__version__ < _TORCH_FLOOR:  # compares as versions do
        raise WeightsError(f"{path}: torch {torch.__version__} reads pickles unsafely; version 2.10 or later is needed")
    try:
        size = _unpacked_size(path)
        if size > max_bytes:
            raise WeightsError(f"{path}: {size} bytes are more than `max_bytes` ({max_bytes})")
        return torch.load(path, map_location=device, weights_only=True)
    except WeightsError:
        raise
    except Exception as error:
        # A damaged pickle raises anything; nothing is tried after a refusal.
        reason = str(error).split("\n", maxsplit=1)[0]
        raise WeightsError(f"{path}: not a checkpoint of plain tensors: {reason}") from error


def sha256(path: StrPath) -> str:
    """Return the SHA-256 of a file's bytes: a flipped bit in a file of tensors loads without any other sign.

    Parameters
    ----------
    path : path-like
        Any file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    cvkit.weights.WeightsError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "empty"
    ...     path.touch()
    ...     sha256(path)[:16]
    'e3b0c44298fc1c14'
    """
    path = _existing(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def _existing(path: StrPath) -> Path:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    return path


def _unpacked_size(path: Path) -> int:
    """Return the bytes of a file, or of what its zip archive unpacks to."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    return size


def _flatten(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], dict[str, list[int]]]:
    """Return contiguous tensors that share no memory, the ties (name to stored name) and the strides of the others."""
    stored: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    strides: dict[str, list[int]] = {}
    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name]
        _check_tensor(name, tensor)
        tensor = tensor.detach()
        view = (tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())
        place = (tensor.device, tensor.data_ptr(), view)
        if tensor.numel() and place in seen:
            ties[name] = seen[place]
            continue
        seen[place] = name
        plain = tensor
        storage = tensor.untyped_storage()
        if not _stands_alone(tensor) or storage.data_ptr() in storages:
            plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
        storages.add(storage.data_ptr())
        usual = torch.empty(tensor.shape, device="meta").stride()
        if tensor.stride() != usual and _is_dense(tuple(tensor.shape), tensor.stride()):
            strides[name] = list(tensor.stride())
        stored[name] = plain
    return stored, ties, strides


def _stands_alone(tensor: Tensor) -> bool:
    """Say whether a tensor can be written as it lies in memory, which saves a copy."""
    as_read = tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()
    return as_read and tensor.untyped_storage().nbytes() == tensor.nbytes


def _check_tensor(name: object, tensor: object) -> None:
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"`tensors` must have strings other than '__metadata__' as names; got {shown(name)}")
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"`tensors[{name!r}]` must be a tensor; got {shown(tensor)}")
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype in _UNSUPPORTED:
        raise TypeError(f"`tensors[{name!r}]` cannot be stored: {tensor.layout}, {tensor.device}, {tensor.dtype}")


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Say whether strides fill a block of memory without gap or overlap, in any order of axes."""
    expected = 1
    for stride, side in sorted((stride, side) for stride, side in zip(strides, shape, strict=True) if side != 1):
        if stride != expected or side == 0:
            return False
        expected *= side
    return True


def _note(path: Path, found: Mapping[str, str] | None) -> dict[str, Any]:
    """Return our own entry of a file's metadata, which is as untrusted as the rest."""
    if not found or _KEY not in found:
        return {}
    try:
        note = json.loads(found[_KEY])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged metadata: {error}") from None
    if not isinstance(note, dict) or not all(isinstance(part, dict) for part in note.values()):
        raise WeightsError(f"{path}: damaged metadata: tables expected")
    return note


def _restore(path: Path, tensors: dict[str, Tensor], note: Mapping[str, Any]) -> None:
    """Bring back memory formats and ties."""
    for name, strides in note.get("strides", {}).items():
        if name not in tensors or not _fits(tensors[name], strides):
            raise WeightsError(f"{path}: damaged metadata: strides {shown(strides)} of {name!r}")
        plain = tensors[name]
        tensors[name] = torch.empty_strided(plain.shape, strides, dtype=plain.dtype).copy_(plain)
    owners = dict(tensors)
    for name, owner in note.get("ties", {}).items():
        if name in tensors or not isinstance(owner, str) or owner not in owners:
            raise WeightsError(f"{path}: damaged metadata: {name!r} tied to {shown(owner)}")
        tensors[name] = owners[owner]


def _fits(tensor: Tensor, strides: object) -> TypeGuard[list[int]]:
    """Say whether strides from a file fill exactly the memory of a tensor."""
    if not isinstance(strides, list) or len(strides) != tensor.ndim or not all(type(s) is int for s in strides):
        return False
    return all(0 <= s < 2**63 for s in strides) and _is_dense(tensor.shape, strides)
