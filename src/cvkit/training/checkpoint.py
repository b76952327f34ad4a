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
from typing import TYPE_CHECKING

import torch

from cvkit._checks import check_integer
from cvkit._errors import CheckpointError, WeightsError
from cvkit._files import sync_folder
from cvkit.training.trees import Json, pack
from cvkit.weights import save_tensors, sha256

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cvkit._types import StrPath
    from cvkit.training.state import State

__all__ = [
    "VERSION",
    "FORMAT",
    "MANIFEST",
    "checkpoints",
    "digest",
    "environment",
    "parts",
    "prune",
    "remove_temporaries",
    "save_checkpoint",
    "step_of",
]

VERSION = 1
"""Version of the format; a checkpoint of a later version is refused."""

FORMAT = "cvkit.training"
"""What the manifest says the directory is."""

MANIFEST = "manifest.json"
"""The file that makes a checkpoint complete."""

_NAME = re.compile(r"step-(\d{8,})")
_PART = re.compile(r"[a-z]+(\.[A-Za-z0-9_-]+)?")


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
    >>> from cvkit.training import State, read_document, read_tensors
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.Adam(network.parameters())}, step=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(folder, state, documents={"meta": {"kind": "example"}})
    ...     path.name, sorted(read_tensors(path, "modules.network")), read_document(folder, "meta")
    ('step-00000005', ['bias', 'weight'], {'kind': 'example'})
    """
    directory = Path(directory)
    texts, tensors = _contents(state, documents or {}, extra or {})
    target = directory / f"step-{state.step:08d}"
    temporary = directory / f".tmp-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_temporaries(directory)
        temporary.mkdir()
        for name, group in tensors.items():
            save_tensors(temporary / name, group)
        for name, text in texts.items():
            _write(temporary / name, text)
        _write(temporary / MANIFEST, _manifest(state.step, temporary))
        sync_folder(temporary)
        _put(temporary, target)
        sync_folder(directory)
    except (OSError, WeightsError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{target}: can't be written: {error}") from error
    return target


def _contents(
    state: State, documents: Mapping[str, Json], extra: Mapping[str, Mapping[str, torch.Tensor]]
) -> tuple[dict[str, bytes], dict[str, dict[str, torch.Tensor]]]:
    """Return the JSON files and the tensors of the safetensors files, by file name."""
    trees, tensors = {}, {}
    groups = {f"extra.{name}": dict(group) for name, group in extra.items()}
    for part, tree in {**parts(state), **groups}.items():
        if _PART.fullmatch(part) is None:
            raise ValueError(f"the name of a part must be letters, digits, `_` and `-`; got {part!r}")
        trees[part], found = pack(tree, part)
        if found:
            tensors[f"{part}.safetensors"] = found
    head: dict[str, Json] = {
        "step": state.step,
        "images": state.images,
        "seed": state.seed,
        "batch_size": state.batch_size,
        "precision": state.precision,
        "environment": dict(environment(state)),
        "trees": trees,
    }
    texts = {f"{name}.json": _json(f"{name}.json", document) for name, document in {**documents, "state": head}.items()}
    return texts, tensors


def _json(name: str, document: Json) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def parts(state: State) -> dict[str, object]:
    """Return the trees that a state consists of, by the names of their files."""
    return {
        **{f"modules.{name}": module.state_dict() for name, module in state.modules.items()},
        **{f"optimizers.{name}": optimizer.state_dict() for name, optimizer in state.optimizers.items()},
        **{f"averages.{name}": average.module.state_dict() for name, average in state.averages.items()},
        **{f"schedules.{name}": schedule.state_dict() for name, schedule in state.schedules.items()},
        "tensors": state.tensors,
        "numbers": state.numbers,
    }


def _manifest(step: int, directory: Path) -> bytes:
    files: dict[str, Json] = {
        path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(directory.iterdir())
    }
    body: dict[str, Json] = {"format": FORMAT, "version": VERSION, "step": step, "files": files}
    return json.dumps({"body": body, "sha256": digest(body)}, separators=(",", ":")).encode()


def digest(body: Mapping[str, Json]) -> str:
    """Return the SHA-256 of a JSON object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.training import State
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for state.step in (10, 20, 30, 40):
    ...         _ = save_checkpoint(folder, state)
    ...     prune(folder, keep=2, spare=[10])
    ...     [path.name for path in checkpoints(folder)]
    ['step-00000010', 'step-00000030', 'step-00000040']
    """
    keep = check_integer("keep", keep, minimum=1)
    complete = checkpoints(directory)
    for path in complete[:-keep]:
        if step_of(path) not in spare:
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

    Examples
    --------
    >>> from cvkit.training import State
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)})
    >>> environment(state)["device"]
    'cpu'
    """
    device = state.world.device
    return {
        "torch": torch.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": state.world.size,
    }


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

    Examples
    --------
    >>> checkpoints("no such folder")
    []
    """
    directory = Path(directory)
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name, -1 if it has none."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1
