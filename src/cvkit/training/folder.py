"""The folder of a run: one writer at a time, what may differ when it goes on, and what is written there.

::

    out/log.csv            one row an interval
    out/step-00001000/     checkpoints; see `cvkit.training.checkpoint`
    out/.lock              held while a process trains
"""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from cvkit._checks import check_choice
from cvkit._errors import CheckpointError
from cvkit.training.checkpoint import (
    checkpoints,
    environment,
    prune,
    remove_temporaries,
    save_checkpoint,
)
from cvkit.training.log import CsvLog, Means, Row, row_from_text, row_to_text
from cvkit.training.reading import read_document, read_tensors, restore
from cvkit.training.state import State, check_finite_so_far

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from cvkit.training.distributed import World
    from cvkit.training.trees import Json

__all__ = ["Folder", "opened"]


class Folder:
    """What a run writes, and where it goes on; made by `opened`."""

    def __init__(
        self,
        path: Path,
        world: World,
        fingerprint: Mapping[str, Json],
        *,
        meta: Json,
        keep: int,
        best: tuple[str, Literal["min", "max"]] | None,
        writers: Sequence[Callable[[Row], None]],
    ) -> None:
        if best is not None:
            check_choice("best[1]", best[1], ("min", "max"))
        self.path = path
        self.world = world
        # What a checkpoint would give back (tuples become lists), and refused now rather than at the first save.
        self.fingerprint: dict[str, Json] = _through_json("fingerprint", dict(fingerprint))
        self.meta: Json = _through_json("meta", meta)
        self.keep = keep
        self.best = best
        self.writers = writers
        self.log = CsvLog(path / "log.csv")
        self.means = Means()
        self.top: tuple[int, float] | None = None  # step and value of the best evaluation
        self.saved = -1

    def resume(self, state: State, resume: str, may_change: Collection[str], *, steps: int) -> None:
        """Bring state and log to the newest complete checkpoint, or begin anew; leave the log of a finished run."""
        path = self._choose(resume)
        if path is None:
            if self.world.is_main:
                self.log.cut(0)
            return
        document = _check_same_run(path, self.fingerprint, may_change)
        _warn_of_environment(state, restore(state, path))
        self.means.restore(read_tensors(path, "extra.log"))
        self.top = None if document["best"] is None else (document["best"][0], float(document["best"][1]))
        self.saved = state.step
        if self.world.is_main and state.step < steps:
            self.log.cut(document["rows"], last=row_from_text(document["last"]))

    def _choose(self, resume: str) -> Path | None:
        """Return the checkpoint to go on from, the same on all processes, or None to begin."""
        complete = checkpoints(self.path) if self.world.is_main else []
        step = self.world.first(int(complete[-1].name.removeprefix("step-")) if complete else -1)
        if step < 0 and resume == "require":
            raise CheckpointError(f"{self.path}: no checkpoint to resume from")
        if step >= 0 and resume == "never":
            raise CheckpointError(f"{self.path}: holds a run at step {step} already; resume it or take another folder")
        return self.path / f"step-{step:08d}" if step >= 0 else None

    def report(self, state: State, scores: Row) -> Row:
        """Read the metrics, stop at bad numbers, write a row."""
        check_finite_so_far(state)
        row: Row = {"step": state.step, "images": state.images, **self.means.read(self.world), **scores}
        if self.best is not None and scores:
            if self.best[0] not in scores:
                raise ValueError(f"`best` names {self.best[0]!r}, the scores are {', '.join(scores)}")
            value, sign = scores[self.best[0]], 1.0 if self.best[1] == "max" else -1.0
            if self.top is None or sign * value > sign * self.top[1]:
                self.top = (state.step, value)
        if self.world.is_main:
            self.log.append(row)
            for write in self.writers:
                write(row)
        return row

    def is_best(self, step: int) -> bool:
        """Whether the evaluation at this step was the best so far."""
        return self.top is not None and self.top[0] == step

    def save(self, state: State) -> None:
        """Write a checkpoint of a state without bad numbers, then remove old ones."""
        check_finite_so_far(state)
        held = self.means.reduce(self.world)
        if self.world.is_main and state.step != self.saved:
            rows = self.log.rows
            run: dict[str, Json] = {
                "fingerprint": self.fingerprint,
                "rows": len(rows),
                "last": dict(row_to_text(rows[-1])) if rows else {},
                "best": None if self.top is None else [self.top[0], repr(self.top[1])],
            }
            save_checkpoint(self.path, state, documents={"meta": self.meta, "run": run}, extra={"log": held})
            prune(self.path, keep=self.keep, spare=() if self.top is None else (self.top[0],))
        self.saved = state.step

    def save_alone(self, state: State) -> None:
        """Save where one process suffices; of several, one alone can't."""
        if self.world.size == 1 and state.step > 0:
            self.save(state)

    def finish(self, state: State, scores: Row) -> None:
        """Write what the end of this session adds to the log; a run that goes on takes it back."""
        means = self.means.read(self.world)
        written = bool(self.log.rows) and self.log.rows[-1]["step"] == state.step
        if not self.world.is_main or not (means or scores) or (written and not scores):
            return
        if means:
            self.log.append({"step": state.step, "images": state.images, **means, **scores})
        else:
            self.log.cut(len(self.log.rows), last={**self.log.rows[-1], **scores})
        for write in self.writers:
            write(self.log.rows[-1])


@contextmanager
def opened(
    path: Path,
    world: World,
    fingerprint: Mapping[str, Json],
    *,
    meta: Json = None,
    keep: int = 2,
    best: tuple[str, Literal["min", "max"]] | None = None,
    writers: Sequence[Callable[[Row], None]] = (),
) -> Iterator[Folder]:
    """Hold the folder for one writer; the system frees the lock however the process ends, so none is ever stale."""
    folder = Folder(path, world, fingerprint, meta=meta, keep=keep, best=best, writers=writers)
    if not world.is_main:
        yield folder
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("w")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be the folder of a run: {error.strerror}") from error
    with lock as file:
        _lock(file.fileno(), path)
        remove_temporaries(path, foreign=True)
        folder.log.load()
        yield folder


def _through_json(name: str, value: Json) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{name}` must be what JSON can hold: {error}") from None


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows; there nothing keeps two runs apart
        return
    try:
        # A lock of the process, not of the open file: children that data loaders fork don't hold it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CheckpointError(f"{path}: another process is training there") from None


def _check_same_run(checkpoint: Path, own: Mapping[str, Json], may_change: Collection[str]) -> dict[str, Any]:
    """Refuse a checkpoint of other settings or data, naming the key and both values; return its document."""
    document: dict[str, Any] = read_document(checkpoint, "run")
    kinds = {"fingerprint": dict, "rows": int, "last": dict, "best": list | None}
    if not all(isinstance(document.get(key, ...), kind) for key, kind in kinds.items()):
        raise CheckpointError(f"{checkpoint / 'run.json'}: not the document of a run")
    stored, mine = dict(_flat(document["fingerprint"])), dict(_flat(dict(own)))
    for key in sorted(stored.keys() | mine.keys()):
        free = any(key == name or key.startswith(f"{name}.") for name in may_change)
        before, now = stored.get(key, "(nothing)"), mine.get(key, "(nothing)")
        if before != now and not free:
            raise CheckpointError(f"{checkpoint}: made with {key} = {before!r}, now {now!r}; take another folder")
    return document


def _flat(tree: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    if isinstance(tree, dict) and (tree or not path):
        for key, value in tree.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, tree


def _warn_of_environment(state: State, stored: Mapping[str, Json]) -> None:
    """Warn where the run goes on in surroundings in which it can't be exact."""
    own = environment(state)
    odd = [f"{key} {stored.get(key)!r}, now {own[key]!r}" for key in own if stored.get(key) != own[key]]
    if odd and state.world.is_main:
        warnings.warn(f"the resumed run won't be exact bit for bit: it had {'; '.join(odd)}", stacklevel=4)
