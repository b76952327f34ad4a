"""Checkpoints that are whole or absent, hold no pickle, and are verified when read.

A checkpoint is a directory ``step-00001000`` of safetensors and JSON files. It is written beside its place as
``.tmp-PID``; every file is flushed to the disk, the manifest with the SHA-256 of every other file last; then the
directory is renamed. A directory without a valid manifest is no checkpoint. The bytes of the tensor files depend on
the state alone.

=============================  =================================================================
``modules.NAME.safetensors``   parameters and buffers, keys as in ``state_dict()``
``averages.NAME.safetensors``  the same of the averaged copies
``optimizers.NAME...``         moments and counters
``schedules.NAME...``, ...     further parts; only where they hold tensors
``state.json``                 step, numbers, what is no tensor, memory formats, ties, environment
``meta.json``, ...             documents of the caller
``manifest.json``              format, version, SHA-256 and length of each file
=============================  =================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from cvkit._checks import check_integer
from cvkit._errors import CheckpointError
from cvkit.training.trees import Json, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cvkit._types import StrPath
    from cvkit.training.state import State

__all__ = [
    "VERSION",
    "checkpoints",
    "environment",
    "find_checkpoint",
    "prune",
    "read_document",
    "read_tensors",
    "remove_temporaries",
    "restore",
    "save_checkpoint",
]

VERSION = 1
"""Version of the format; a checkpoint of a later version is refused."""

_FORMAT = "cvkit.training"
_NAME = re.compile(r"step-(\d{8,})")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MAX_JSON = 64 * 2**20


# --- writing ----------------------------------------------------------------------------------------------------------


def save_checkpoint(
    directory: StrPath,
    state: State,
    *,
    documents: Mapping[str, Json] | None = None,
    extra: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
) -> Path:
    """Write the state as ``directory/step-%08d``.

    Parameters
    ----------
    directory : str or path-like
        Folder of the run; made if missing.
    state : State
        What to store.
    documents : mapping of str to JSON value, optional
        Stored as ``NAME.json``; ``"meta"`` is what loaders for inference read.
    extra : mapping of str to mapping of str to Tensor, optional
        Stored as ``extra.NAME.safetensors``.

    Returns
    -------
    pathlib.Path
        The checkpoint.

    Raises
    ------
    CheckpointError
        If it can't be written, for instance on a full disk. Earlier checkpoints are untouched then.
    TypeError
        If the state holds something that is neither a tensor nor a plain value.

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.training import State
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.Adam(network.parameters())}, step=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(folder, state, documents={"meta": {"kind": "example"}})
    ...     path.name, sorted(read_tensors(path, "modules.network")), read_document(folder, "meta")
    ('step-00000005', ['bias', 'weight'], {'kind': 'example'})
    """
    directory = Path(directory)
    files = _files(state, documents or {}, extra or {})
    target = directory / f"step-{state.step:08d}"
    temporary = directory / f".tmp-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_temporaries(directory)
        temporary.mkdir()
        entries: dict[str, Json] = {}
        for name, content in files.items():
            _write(temporary / name, content)
            entries[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        _write(temporary / "manifest.json", _manifest(state.step, entries))
        _sync(temporary)
        _put(temporary, target)
        _sync(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{target}: can't be written: {error}") from error
    return target


def _files(
    state: State, documents: Mapping[str, Json], extra: Mapping[str, Mapping[str, torch.Tensor]]
) -> dict[str, bytes]:
    """Return the content of every file but the manifest."""
    trees, tensors = {}, {}
    for part, tree in _parts(state).items():
        trees[part], tensors[part] = pack(tree, part)
    for name, group in extra.items():
        trees[f"extra.{name}"], tensors[f"extra.{name}"] = pack(dict(group), f"extra.{name}")
    head: dict[str, Json] = {
        "step": state.step,
        "images": state.images,
        "seed": state.seed,
        "batch_size": state.batch_size,
        "precision": state.precision,
        "environment": dict(environment(state)),
        "trees": trees,
    }
    files = {}
    for part, group in tensors.items():
        if _PART.fullmatch(part.partition(".")[2] or part) is None:
            raise ValueError(f"the name of a part must be letters, digits, `_` and `-`; got {part!r}")
        if group:
            files[f"{part}.safetensors"] = safetensors.torch.save(group)
    for name, document in {"state": head, **documents}.items():
        files[f"{name}.json"] = json.dumps(document, allow_nan=False).encode()
    return files


def _parts(state: State) -> dict[str, object]:
    """Return the trees that a state consists of, by the names of their files."""
    return {
        **{f"modules.{name}": module.state_dict() for name, module in state.modules.items()},
        **{f"optimizers.{name}": optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        **{f"averages.{name}": average.module.state_dict() for name, average in state.averages.items()},
        **{f"schedules.{name}": schedule.state_dict() for name, schedule in state.schedules.items()},
        "tensors": state.tensors,
        "numbers": state.numbers,
    }


def _manifest(step: int, entries: Mapping[str, Json]) -> bytes:
    body = {"format": _FORMAT, "version": VERSION, "step": step, "files": dict(entries)}
    return json.dumps({"body": body, "sha256": _digest(body)}, separators=(",", ":")).encode()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Flush the entries of a directory, where the system can open one."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:  # pragma: no cover - Windows opens no directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(temporary: Path, target: Path) -> None:
    """Rename; what lay there already (damaged, or of the same step) is moved aside first and removed last."""
    aside = target.with_name(f".tmp-{os.getpid()}-old")
    if target.exists():
        target.rename(aside)
    temporary.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def remove_temporaries(directory: Path, *, foreign: bool = False) -> None:
    """Remove what killed writers left; of other processes that still live only if `foreign` (the folder is locked)."""
    for path in directory.glob(".tmp-*"):
        owner = path.name.split("-")[1]
        if foreign or not owner.isdigit() or int(owner) == os.getpid() or not _lives(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def prune(directory: StrPath, *, keep: int, spare: Collection[int] = ()) -> None:
    """Remove all but the newest checkpoints.

    Parameters
    ----------
    directory : str or path-like
        Folder of the run.
    keep : int
        How many complete checkpoints stay, at least 1.
    spare : collection of int, optional
        Steps that stay besides.
    """
    keep = check_integer("keep", keep, minimum=1)
    complete = checkpoints(directory)
    for path in complete[:-keep]:
        if _step(path) not in spare:
            # The name goes first, so that a half-removed directory is never taken for a checkpoint.
            gone = path.with_name(f".tmp-{os.getpid()}-{path.name}")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def environment(state: State) -> dict[str, Json]:
    """Describe what must stay the same for a resumed run to equal an unbroken one bit for bit.

    Parameters
    ----------
    state : State
        The run.

    Returns
    -------
    dict
        ``torch``, ``processor``, ``threads``, ``device`` and ``processes``.
    """
    device = state.world.device
    return {
        "torch": torch.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": state.world.size,
    }


# --- reading ----------------------------------------------------------------------------------------------------------


def checkpoints(directory: StrPath) -> list[Path]:
    """List the complete checkpoints of a run, oldest first.

    Parameters
    ----------
    directory : str or path-like
        Folder of the run; it need not exist.

    Returns
    -------
    list of pathlib.Path
        The directories that have a manifest. Their files are verified when read.
    """
    directory = Path(directory)
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and (path / "manifest.json").is_file()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def find_checkpoint(path: StrPath) -> Path:
    """Return the checkpoint at a path: itself, or the newest complete one of a run's folder.

    Parameters
    ----------
    path : str or path-like
        A checkpoint or the folder of a run.

    Returns
    -------
    pathlib.Path
        The checkpoint.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        return path
    complete = checkpoints(path)
    if not complete:
        raise CheckpointError(f"{path}: no checkpoint there" if path.exists() else f"{path}: does not exist")
    return complete[-1]


def read_document(path: StrPath, name: str = "meta") -> Any:
    """Read one JSON document of a checkpoint, verified.

    Parameters
    ----------
    path : str or path-like
        A checkpoint, or the folder of a run (then the newest).
    name : str, default "meta"
        Which document.

    Returns
    -------
    object
        What was given to `save_checkpoint`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or foreign.
    """
    checkpoint = find_checkpoint(path)
    return _document(checkpoint, _entries(checkpoint), name)


def read_tensors(path: StrPath, name: str, *, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Read the tensors of one part of a checkpoint, verified; the other parts are not touched.

    Parameters
    ----------
    path : str or path-like
        A checkpoint, or the folder of a run (then the newest).
    name : str
        The part, such as ``"averages.generator"``, ``"modules.network"`` or ``"extra.NAME"``.
    device : torch.device or str, default "cpu"
        Where the tensors go.

    Returns
    -------
    dict of str to Tensor
        Tied tensors under each of their names, memory formats as they were: a module's part fits `load_state_dict`.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or foreign.
    """
    checkpoint = find_checkpoint(path)
    entries = _entries(checkpoint)
    trees = _document(checkpoint, entries, "state")["trees"]
    if name not in trees:
        raise CheckpointError(f"{checkpoint}: holds no part {name!r}, only {', '.join(map(repr, sorted(trees)))}")
    tree = _tree(checkpoint, entries, trees, name, device)
    return {key: value for key, value in tree.items() if isinstance(value, torch.Tensor)}


def restore(state: State, path: StrPath) -> dict[str, Any]:
    """Bring a state back to a checkpoint, bit for bit; all of it or, after an error, none.

    Parameters
    ----------
    state : State
        Built as the stored one was: same networks, optimisers and names. It is changed in place.
    path : str or path-like
        A checkpoint, or the folder of a run (then the newest).

    Returns
    -------
    dict
        The ``environment`` that wrote the checkpoint; compare it with `environment`.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or foreign, or does not fit the state; the message names the file.
    """
    checkpoint = find_checkpoint(path)
    entries = _entries(checkpoint)
    head = _document(checkpoint, entries, "state")
    device = state.world.device
    parts = _parts(state)
    stored = {name for name in head["trees"] if not name.startswith("extra.")}
    if stored != set(parts):
        odd = ", ".join(sorted(stored ^ set(parts)))
        raise CheckpointError(f"{checkpoint}: belongs to another kind of run; parts that differ: {odd}")
    trees = {name: _tree(checkpoint, entries, head["trees"], name, device) for name in parts}
    modules = {f"modules.{name}": module for name, module in state.modules.items()}
    modules |= {f"averages.{name}": average.module for name, average in state.averages.items()}
    for name, module in modules.items():
        _check_fit(checkpoint / f"{name}.safetensors", module.state_dict(), trees[name])
    for name, optimizer in state.optimizers.items():
        _check_optimizer(checkpoint / f"optimizers.{name}.safetensors", optimizer, trees[f"optimizers.{name}"])

    for name, module in modules.items():
        _load_module(module, trees[name])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(trees[f"optimizers.{name}"])
    for name, schedule in state.schedules.items():
        schedule.load_state_dict(trees[f"schedules.{name}"])
    state.tensors.update(trees["tensors"])
    state.numbers.update(trees["numbers"])
    state.step, state.images = head["step"], head["images"]
    return dict(head["environment"])


def _entries(checkpoint: Path) -> dict[str, Any]:
    """Read and verify the manifest; return its table of files."""
    path = checkpoint / "manifest.json"
    manifest = _json(path, _bytes(path, _MAX_JSON))
    body = manifest.get("body") if isinstance(manifest, dict) else None
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: not the manifest of a cvkit checkpoint")
    if body.get("version") != VERSION:
        raise CheckpointError(f"{path}: format version {body.get('version')!r}; this cvkit reads version {VERSION}")
    if manifest.get("sha256") != _digest(body):
        raise CheckpointError(f"{path}: damaged: its checksum does not match")
    if _NAME.fullmatch(checkpoint.name) and _step(checkpoint) != body["step"]:
        raise CheckpointError(f"{path}: is of step {body['step']}, in a directory named {checkpoint.name}")
    return dict(body["files"])


def _content(checkpoint: Path, entries: Mapping[str, Any], name: str) -> bytes:
    """Read a file whole and compare it with the manifest."""
    path = checkpoint / name
    if name not in entries:
        raise CheckpointError(f"{path}: not part of this checkpoint")
    entry = entries[name]
    content = _bytes(path, entry["bytes"])
    if len(content) != entry["bytes"]:
        raise CheckpointError(f"{path}: damaged: {len(content)} bytes where {entry['bytes']} were written")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: damaged: its checksum does not match the manifest")
    return content


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > limit:
        raise CheckpointError(f"{path}: damaged: longer than the {limit} bytes it may have")
    return content


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: no JSON") from error


def _document(checkpoint: Path, entries: Mapping[str, Any], name: str) -> Any:
    return _json(checkpoint / f"{name}.json", _content(checkpoint, entries, f"{name}.json"))


def _tree(
    checkpoint: Path, entries: Mapping[str, Any], trees: Mapping[str, Json], name: str, device: torch.device | str
) -> Any:
    """Read one part: its JSON tree and, where there are any, its tensors."""
    file = f"{name}.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    if file in entries:
        try:
            tensors = safetensors.torch.load(_content(checkpoint, entries, file))
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{checkpoint / file}: damaged: {error}") from error
    try:
        # The counters of unfused optimisers live on the CPU; `Optimizer.load_state_dict` moves the moments itself.
        return unpack(trees[name], tensors, "cpu" if name.startswith("optimizers.") else device)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint / file}: a tensor is missing or damaged: {error}") from error


def _check_fit(path: Path, own: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Compare names, shapes and dtypes of a module with what was stored."""
    if set(own) != set(stored):
        odd = ", ".join(sorted(set(own) ^ set(stored))[:5])
        raise CheckpointError(f"{path}: made by another network; names that differ: {odd}")
    for key, value in own.items():
        other = stored[key]
        if isinstance(value, torch.Tensor) and (value.shape != other.shape or value.dtype != other.dtype):
            raise CheckpointError(
                f"{path}: `{key}` is {tuple(other.shape)} {other.dtype}; "
                f"the network has {tuple(value.shape)} {value.dtype}"
            )


def _check_optimizer(path: Path, optimizer: torch.optim.Optimizer, stored: Mapping[str, Any]) -> None:
    own = [len(group["params"]) for group in optimizer.param_groups]
    other = [len(group["params"]) for group in stored["param_groups"]]
    if own != other:
        raise CheckpointError(f"{path}: made for parameter groups of sizes {other}; this optimiser has {own}")


def _load_module(module: torch.nn.Module, stored: Mapping[str, Any]) -> None:
    """Copy values in; a parameter or buffer of another memory format takes over the stored one."""
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and value.stride() != stored[key].stride():
            value.data = torch.empty_like(stored[key], device=value.device)
    module.load_state_dict(dict(stored))
