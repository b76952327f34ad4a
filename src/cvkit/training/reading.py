"""Reading checkpoints: every file is compared with the manifest before anything in it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from cvkit._errors import CheckpointError, WeightsError
from cvkit.training.checkpoint import FORMAT, MANIFEST, VERSION, checkpoints, digest, parts, step_of
from cvkit.training.trees import Json, unpack
from cvkit.weights import load_tensors, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvkit._types import StrPath
    from cvkit.training.state import State

__all__ = ["find_checkpoint", "read_document", "read_tensors", "restore"]

Entries: TypeAlias = "Mapping[str, tuple[int, str]]"

_MAX_JSON = 64 * 2**20


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

    Examples
    --------
    >>> find_checkpoint("no such folder")
    Traceback (most recent call last):
        ...
    cvkit._errors.CheckpointError: no such folder: does not exist
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
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

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.training import State, save_checkpoint
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_checkpoint(folder, state, documents={"meta": {"classes": ["cat", "dog"]}})
    ...     read_document(folder)
    {'classes': ['cat', 'dog']}
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

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.training import State, save_checkpoint
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_checkpoint(folder, state)
    ...     sorted(read_tensors(folder, "modules.network"))
    ['bias', 'weight']
    """
    checkpoint = find_checkpoint(path)
    entries = _entries(checkpoint)
    trees = _head(checkpoint, entries)["trees"]
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

    Examples
    --------
    >>> import tempfile
    >>> from cvkit.training import State, save_checkpoint
    >>> network = torch.nn.Linear(2, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)}, step=7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_checkpoint(folder, state)
    ...     state.step = 0
    ...     written_by = restore(state, folder)
    >>> state.step, written_by["device"]
    (7, 'cpu')
    """
    checkpoint = find_checkpoint(path)
    entries = _entries(checkpoint)
    head = _head(checkpoint, entries)
    trees = _trees(state, checkpoint, entries, head["trees"])
    modules = {f"modules.{name}": module for name, module in state.modules.items()}
    modules |= {f"averages.{name}": average.module for name, average in state.averages.items()}
    for name, module in modules.items():
        _check_fit(checkpoint / f"{name}.safetensors", module.state_dict(), trees[name])
    for name, optimizer in state.optimizers.items():
        _check_optimizer(checkpoint / f"optimizers.{name}.safetensors", optimizer, trees[f"optimizers.{name}"])
    for name, kept in {"tensors": set(state.tensors), "numbers": set(state.numbers)}.items():
        if not trees[name].keys() >= kept:
            odd = ", ".join(sorted(kept - trees[name].keys()))
            raise CheckpointError(f"{checkpoint / 'state.json'}: holds no {name} named {odd}")

    # Everything fits: from here on nothing is refused.
    for name, module in modules.items():
        _load_module(module, trees[name])
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(trees[f"optimizers.{name}"])
    for name, schedule in state.schedules.items():
        schedule.load_state_dict(trees[f"schedules.{name}"])
    _load_tensors(state.tensors, trees["tensors"])
    state.numbers.update(trees["numbers"])
    state.step, state.images = head["step"], head["images"]
    state.forget_bad_numbers()
    return dict(head["environment"])


def _trees(
    state: State, checkpoint: Path, entries: Entries, documents: Mapping[str, Json]
) -> dict[str, dict[str, Any]]:
    """Read all parts of a run's state, after every file of the checkpoint was verified."""
    own = parts(state)
    stored = {name for name in documents if not name.startswith("extra.")}
    if stored != set(own):
        odd = ", ".join(sorted(stored ^ set(own)))
        raise CheckpointError(f"{checkpoint}: belongs to another kind of run; parts that differ: {odd}")
    for name in entries.keys() - {f"{part}.safetensors" for part in own}:
        _verified(checkpoint, entries, name)
    # The counters of unfused optimisers live on the CPU; `Optimizer.load_state_dict` moves the moments itself.
    places = {name: "cpu" if name.startswith("optimizers.") else state.world.device for name in own}
    return {name: _tree(checkpoint, entries, documents, name, place) for name, place in places.items()}


def _entries(checkpoint: Path) -> dict[str, tuple[int, str]]:
    """Read and verify the manifest; return length and SHA-256 of each file."""
    path = checkpoint / MANIFEST
    manifest = _json(path)
    body = manifest.get("body") if isinstance(manifest, dict) else None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not the manifest of a cvkit checkpoint")
    if body.get("version") != VERSION:
        raise CheckpointError(f"{path}: format version {body.get('version')!r}; this cvkit reads version {VERSION}")
    if manifest.get("sha256") != digest(body):
        raise CheckpointError(f"{path}: damaged: its checksum does not match")
    if step_of(checkpoint) not in {-1, body["step"]}:
        raise CheckpointError(f"{path}: is of step {body['step']}, in a directory named {checkpoint.name}")
    try:
        return {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in body["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: its table of files is none") from error


def _verified(checkpoint: Path, entries: Entries, name: str) -> Path:
    """Compare a file with the manifest."""
    path = checkpoint / name
    if name not in entries:
        raise CheckpointError(f"{path}: not part of this checkpoint")
    size, expected = entries[name]
    try:
        found = path.stat().st_size
        if found != size:
            raise CheckpointError(f"{path}: damaged: {found} bytes where {size} were written")
        if sha256(path) != expected:
            raise CheckpointError(f"{path}: damaged: its checksum does not match the manifest")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return path


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_JSON + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > _MAX_JSON:
        raise CheckpointError(f"{path}: damaged: longer than the {_MAX_JSON} bytes it may have")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: no JSON") from error


def _document(checkpoint: Path, entries: Entries, name: str) -> Any:
    return _json(_verified(checkpoint, entries, f"{name}.json"))


def _head(checkpoint: Path, entries: Entries) -> dict[str, Any]:
    """Read the document of the state, whose parts are of the right kinds then."""
    head = _document(checkpoint, entries, "state")
    kinds = {"step": int, "images": int, "environment": dict, "trees": dict}
    if not isinstance(head, dict) or not all(isinstance(head.get(key), kind) for key, kind in kinds.items()):
        raise CheckpointError(f"{checkpoint / 'state.json'}: not the state of a run")
    return head


def _tree(
    checkpoint: Path,
    entries: Entries,
    trees: Mapping[str, Json],
    name: str,
    device: torch.device | str,
) -> dict[str, Any]:
    """Read one part: its JSON tree and, where there are any, its tensors."""
    file = f"{name}.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    if file in entries:
        try:
            tensors = load_tensors(_verified(checkpoint, entries, file), device=device)
        except WeightsError as error:
            raise CheckpointError(f"{error}") from error
    try:
        tree = unpack(trees[name], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint / file}: a tensor is missing or damaged: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{checkpoint / 'state.json'}: {name} is no state")
    return tree


def _check_fit(path: Path, own: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Compare names, shapes and dtypes of a module with what was stored."""
    if set(own) != set(stored):
        odd = ", ".join(sorted(set(own) ^ set(stored))[:5])
        raise CheckpointError(f"{path}: made by another network; names that differ: {odd}")
    for key, value in own.items():
        other = stored[key]
        if not isinstance(value, torch.Tensor):
            continue
        if not isinstance(other, torch.Tensor):
            raise CheckpointError(f"{path}: `{key}` is no tensor")
        if value.shape != other.shape or value.dtype != other.dtype:
            raise CheckpointError(
                f"{path}: `{key}` is {tuple(other.shape)} {other.dtype}; "
                f"the network has {tuple(value.shape)} {value.dtype}"
            )


def _check_optimizer(path: Path, optimizer: torch.optim.Optimizer, stored: Mapping[str, Any]) -> None:
    own = [len(group["params"]) for group in optimizer.param_groups]
    try:
        other = [len(group["params"]) for group in stored["param_groups"]]
        dict(stored["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not the state of an optimiser") from error
    if own != other:
        raise CheckpointError(f"{path}: made for parameter groups of sizes {other}; this optimiser has {own}")


def _load_module(module: torch.nn.Module, stored: Mapping[str, Any]) -> None:
    """Copy values in; a parameter or buffer of another memory format takes over the stored one."""
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and value.stride() != stored[key].stride():
            value.data = torch.empty_like(stored[key], device=value.device)
    module.load_state_dict(dict(stored))


def _load_tensors(own: dict[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> None:
    """Copy values in, in place where they fit: a step function may hold the tensor."""
    for name, value in stored.items():
        mine = own.get(name)
        if mine is not None and mine.shape == value.shape and mine.dtype == value.dtype:
            mine.copy_(value)
        else:
            own[name] = value
