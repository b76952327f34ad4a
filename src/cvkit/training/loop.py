"""The driver: steps are plain functions of (state, batch), and every step yields a record.

`iterate` is the bare loop. `train` puts around it what a run needs: resuming, the log, checkpoints, evaluation,
signals and a time budget. A step function does its own forward passes and calls `update` once an optimiser::

    def step(state, batch):
        with state.autocast():
            loss = F.mse_loss(state.modules["network"](batch["x"]), batch["y"])
        return {"loss": update(state, "network", loss, clip=1.0).loss}
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit._errors import DataError
from cvkit.training.folder import opened
from cvkit.training.log import Row, progress_bar
from cvkit.training.signals import stop_on_signals
from cvkit.training.state import DivergenceError, State

if TYPE_CHECKING:
    from collections.abc import Collection

    import torch

    from cvkit._types import StrPath
    from cvkit.training.distributed import World
    from cvkit.training.trees import Json

__all__ = ["Batches", "Record", "Resume", "Run", "Step", "iterate", "train"]

B = TypeVar("B")
M = TypeVar("M")

Step: TypeAlias = Callable[[State, B], Mapping[str, "torch.Tensor | float"]]
"""One step of training: changes the state through `update` and returns metrics, 0-d tensors left on the device."""

Batches: TypeAlias = Callable[[int], Iterator[B]]
"""Gives the batches of this process from a step on."""

Resume: TypeAlias = Literal["auto", "never", "require"]
"""Whether a run goes on from the newest checkpoint in its folder: if there is one, never, or in any case."""


@dataclass(frozen=True)
class Record:
    """What one step gave: the metrics are on the device until `read`.

    Attributes
    ----------
    step : int
        Steps done, this one included.
    images : int
        Samples seen.
    metrics : mapping of str to Tensor or float
        As the step function returned them.
    """

    step: int
    images: int
    metrics: Mapping[str, torch.Tensor | float]

    def read(self) -> Row:
        """Wait for the device and return the metrics as numbers."""
        return {name: float(value) for name, value in self.metrics.items()}


@dataclass(frozen=True)
class Run(Generic[M]):
    """A trained model, its log and where it lies.

    Attributes
    ----------
    model : object
        What was trained, in the form its submodule defines.
    history : tuple of dict
        The rows of ``log.csv``, those of earlier sessions of the run too: ``step``, ``images`` and means of the metrics
        over the interval that ends there. Of several processes, process 0 has them.
    directory : pathlib.Path
        The folder: checkpoints and ``log.csv``.
    step : int
        Steps done.
    finished : bool
        False if the time budget ended the run before its last step.
    """

    model: M
    history: tuple[Row, ...]
    directory: Path
    step: int
    finished: bool


def iterate(state: State, step: Step[B], batches: Batches[B], *, steps: int) -> Generator[Record, None, None]:
    """Train step by step: the bare driver.

    Nothing waits for the device. Call `check_finite_so_far` now and then: an update with a non-finite number and all
    that follow are left out until then.

    Parameters
    ----------
    state : State
        The run; it begins at ``state.step``.
    step : callable
        ``(state, batch) -> metrics``.
    batches : callable
        ``start -> iterator of batches``, such as `Sampled`.
    steps : int
        Where to stop.

    Yields
    ------
    Record
        One a step.

    Raises
    ------
    DataError
        If the batches end too early.

    Examples
    --------
    >>> import torch
    >>> from cvkit.training import update
    >>> network = torch.nn.Linear(1, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)}, batch_size=2)
    >>> def step(state, batch):
    ...     return {"loss": update(state, "network", state.modules["network"](batch).square().mean()).loss}
    >>> records = list(iterate(state, step, lambda start: iter([torch.ones(2, 1)] * 5), steps=5))
    >>> records[-1].step, records[-1].read()["loss"] < records[0].read()["loss"]
    (5, True)
    """
    stream = batches(state.step)
    try:
        while state.step < steps:
            # The batch.
            try:
                batch = next(stream)
            except StopIteration:
                raise DataError(f"the batches ended at step {state.step} of {steps}") from None
            # The step.
            metrics = step(state, batch)
            # Buffers, such as running statistics, are those of process 0 everywhere.
            state.world.broadcast_(_buffers(state))
            # The count.
            state.step += 1
            state.images += state.batch_size
            yield Record(state.step, state.images, metrics)
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _buffers(state: State) -> list[torch.Tensor]:
    if state.world.size == 1:
        return []
    modules = [*state.modules.values(), *(average.module for average in state.averages.values())]
    return [buffer for module in modules for buffer in module.buffers()]


def train(
    state: State,
    step: Step[B],
    batches: Batches[B],
    *,
    model: M,
    out: StrPath,
    steps: int,
    meta: Json = None,
    fingerprint: Mapping[str, Json] | None = None,
    may_change: Collection[str] = (),
    resume: Resume = "auto",
    checkpoint_every: int = 1000,
    keep: int = 2,
    best: tuple[str, Literal["min", "max"]] | None = None,
    log_every: int = 50,
    evaluate: Callable[[State], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    monitor: Callable[[State, Row], str | None] | None = None,
    writers: Sequence[Callable[[Row], None]] = (),
    max_seconds: float | None = None,
    progress: bool = True,
) -> Run[M]:
    """Train to a step count, resuming by itself, and leave checkpoints and a log.

    Parameters
    ----------
    state : State
        The run at its beginning: it is brought to the newest checkpoint and trained in place.
    step : callable
        ``(state, batch) -> metrics``; see `iterate`.
    batches : callable
        ``start -> iterator of batches``; see `iterate`.
    model : object
        What ``Run.model`` shall be: a record around the networks of `state`.
    out : str or path-like
        Folder of the run.
    steps : int
        Total number of steps, those of earlier sessions included.
    meta : JSON value, optional
        Description that loaders for inference need; ``read_document(path, "meta")`` gives it back.
    fingerprint : mapping of str to JSON value, optional
        Preset and data. A resumed run must have the same; seed, batch size and precision are compared besides.
    may_change : collection of str, optional
        Keys of the fingerprint that may differ, dots between levels.
    resume : {'auto', 'never', 'require'}
        Go on from the newest complete checkpoint if there is one; refuse a folder that has one; insist on one.
    checkpoint_every : int, default 1000
        Steps between checkpoints. The last step is always saved.
    keep : int, default 2
        Newest checkpoints that stay.
    best : tuple of str and {'min', 'max'}, optional
        A metric of `evaluate`, and which of its values is best: that checkpoint stays too.
    log_every : int, default 50
        Steps between rows of ``log.csv``; there the device is waited for and bad numbers end the run.
    evaluate : callable, optional
        ``state -> numbers`` for the log. It may switch modules to eval mode; their modes are restored. All processes
        call it, the numbers of process 0 count.
    evaluate_every : int, optional
        Steps between evaluations; by default only after the last step.
    monitor : callable, optional
        ``(state, row) -> verdict or None``, asked at every row: a verdict such as ``"discriminator saturated"`` ends
        the run.
    writers : sequence of callable, optional
        Called with every row, such as `tensorboard_writer`.
    max_seconds : float, optional
        Time budget of this call: the run stops and is saved once it is spent.
    progress : bool, default True
        Whether to show a bar if standard error is a terminal.

    Returns
    -------
    Run
        Model, log and folder. A finished run returns at once.

    Raises
    ------
    CheckpointError
        If the folder belongs to another run, a file is damaged, or a checkpoint can't be written.
    DivergenceError
        If a loss or gradient is not finite, or the monitor gave a verdict. The last good checkpoint stays.
    KeyboardInterrupt, SystemExit
        After SIGINT, or with code 143 after SIGTERM: the step is finished and saved first.

    See Also
    --------
    cvkit.training : A whole fit as an example.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from cvkit.training import update
    >>> network = torch.nn.Linear(1, 1)
    >>> state = State({"network": network}, {"network": torch.optim.SGD(network.parameters(), lr=0.1)}, batch_size=2)
    >>> def step(state, batch):
    ...     return {"loss": update(state, "network", network(batch).square().mean()).loss}
    >>> def batches(start):
    ...     while True:
    ...         yield torch.ones(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(state, step, batches, model=network, out=folder, steps=20, log_every=10)
    >>> [(row["step"], row["images"]) for row in run.history]
    [(10, 20), (20, 40)]
    """
    check_choice("resume", resume, ("auto", "never", "require"))
    steps = check_integer("steps", steps, minimum=1)
    for name, count in {"checkpoint_every": checkpoint_every, "log_every": log_every, "keep": keep}.items():
        check_integer(name, count, minimum=1)
    if evaluate_every is not None:
        check_integer("evaluate_every", evaluate_every, minimum=1)
    limit = math.inf if max_seconds is None else time.monotonic() + check_interval("max_seconds", max_seconds, 0.0)
    own = {"seed": state.seed, "batch_size": state.batch_size, "precision": state.precision, **(fingerprint or {})}
    world = state.world

    with ExitStack() as stack:
        # Resume.
        folder = stack.enter_context(opened(Path(out), world, own, meta=meta, keep=keep, best=best, writers=writers))
        folder.resume(state, resume, may_change, steps=steps)
        if state.step >= steps:
            folder.finish(state, {})
            return Run(model, tuple(folder.log.rows), folder.path, state.step, finished=True)
        world.broadcast_(_memory(state))
        bar = stack.enter_context(progress_bar(steps, state.step, shown=progress and world.is_main))
        request = stack.enter_context(stop_on_signals())
        records = iterate(state, step, batches, steps=steps)
        stack.callback(records.close)

        ending = scoring = False
        while not ending:
            # Train.
            try:
                record = next(records)
            except DataError:
                folder.save_alone(state)  # nothing is lost: the state is whole between two steps
                raise
            folder.means.add(record.metrics)
            bar.update()
            # Report, at steps that don't depend on where the run is cut.
            scoring = evaluate is not None and _due(record.step, evaluate_every)
            reporting = scoring or _due(record.step, log_every)
            if reporting:
                row = folder.report(state, _scores(evaluate, state) if scoring else {})
                bar.set_postfix(_shown(row), refresh=False)
                _judge(monitor, state, row)
            # Save.
            asked = request.signal is not None or time.monotonic() >= limit
            ending = record.step == steps or _agreed(world, asked, reporting=reporting)
            if ending or _due(record.step, checkpoint_every) or (scoring and folder.is_best(record.step)):
                folder.save(state)

        # End.
        scored = evaluate is None or scoring or state.step < steps
        folder.finish(state, {} if scored else _scores(evaluate, state))
        run = Run(model, tuple(folder.log.rows), folder.path, state.step, finished=state.step >= steps)
    request.end()
    return run


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _agreed(world: World, asked: bool, *, reporting: bool) -> bool:
    """Tell whether any process was asked to stop; on GPUs only where the device is waited for anyway."""
    if world.size > 1 and world.device.type != "cpu" and not reporting:
        return False  # pragma: cuda
    return world.any(asked)


def _scores(evaluate: Callable[[State], Mapping[str, float]] | None, state: State) -> Row:
    """Evaluate and bring every module back to the mode it was in."""
    if evaluate is None:
        return {}
    modes = [(module, module.training) for top in state.modules.values() for module in top.modules()]
    try:
        return {name: float(value) for name, value in evaluate(state).items()}
    finally:
        for module, training in modes:
            module.training = training


def _judge(monitor: Callable[[State, Row], str | None] | None, state: State, row: Row) -> None:
    verdict = None if monitor is None else monitor(state, row)
    if verdict is not None:
        raise DivergenceError(state.step, verdict, f"step {state.step}: {verdict}")


def _shown(row: Row) -> dict[str, str]:
    return {name: f"{value:.4g}" for name, value in row.items() if name not in {"step", "images"}}


def _memory(state: State) -> list[torch.Tensor]:
    """All parameters and buffers, averaged ones too."""
    modules = [*state.modules.values(), *(average.module for average in state.averages.values())]
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
