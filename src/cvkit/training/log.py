"""Records of a run: metrics stay on the device until read; a CSV file that can be cut back; a progress bar."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from tqdm import tqdm

from cvkit._errors import CheckpointError
from cvkit._files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvkit._types import StrPath
    from cvkit.training.distributed import World

__all__ = ["CsvLog", "Means", "Row", "tensorboard_writer"]

Row: TypeAlias = dict[str, float]
"""One line of the log: ``step``, ``images`` and the metrics by name."""


class Means:
    """Means of metrics over an interval, kept on the device until they are read.

    Examples
    --------
    >>> from cvkit.training.distributed import World
    >>> means = Means()
    >>> for loss in (1.0, 2.0):
    ...     means.add({"loss": torch.tensor(loss)})
    >>> means.read(World())
    {'loss': 1.5}
    """

    def __init__(self) -> None:
        self._held: dict[str, list[torch.Tensor | float]] = {}
        self._reduced: dict[str, torch.Tensor] = {}

    def add(self, metrics: Mapping[str, torch.Tensor | float]) -> None:
        """Hold the metrics of one step: 0-d tensors or numbers."""
        for name, value in metrics.items():
            # A copy: a step function may return a tensor that it goes on changing.
            held = value.detach().clone() if isinstance(value, torch.Tensor) else float(value)
            self._held.setdefault(name, []).append(held)

    def reduce(self, world: World) -> dict[str, torch.Tensor]:
        """Average what is held over the processes and return it, float64 on the CPU, one value a step."""
        if self._held:
            names = list(self._held)
            counts = [len(self._held[name]) for name in names]
            flat = world.mean(_numbers([value for name in names for value in self._held[name]]))
            for name, part in zip(names, torch.split(flat, counts), strict=True):
                earlier = self._reduced.get(name)
                self._reduced[name] = part.clone() if earlier is None else torch.cat([earlier, part])
            self._held.clear()
        return dict(self._reduced)

    def restore(self, reduced: Mapping[str, torch.Tensor]) -> None:
        """Go back to what `reduce` returned."""
        self._held.clear()
        self._reduced = dict(reduced)

    def read(self, world: World) -> Row:
        """Return the mean of each metric over its steps and begin anew; waits for the device."""
        row = {name: math.fsum(values.tolist()) / len(values) for name, values in self.reduce(world).items()}
        self._reduced.clear()
        return row


def _numbers(values: Sequence[torch.Tensor | float]) -> torch.Tensor:
    """Bring numbers from wherever they are to the CPU, float64; the device is waited for once."""
    tensors = [value.reshape(()).float() for value in values if isinstance(value, torch.Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else [])
    return torch.tensor([next(read) if isinstance(v, torch.Tensor) else v for v in values], dtype=torch.float64)


class CsvLog:
    """A CSV file of rows, flushed row by row, that can be cut back to an earlier length.

    Numbers are written so that they read back exactly. A metric that appears later adds a column; the file is then
    written anew in one piece.

    Parameters
    ----------
    path : str or path-like
        The file; `load` reads what it holds.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = CsvLog(f"{folder}/log.csv")
    ...     log.append({"step": 10, "loss": 0.5})
    ...     log.append({"step": 20, "loss": 0.25})
    ...     log.cut(1)
    ...     log.rows
    [{'step': 10, 'loss': 0.5}]
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.rows: list[Row] = []

    def load(self) -> None:
        """Read the rows that the file holds already."""
        self.rows = _read(self.path) if self.path.exists() else []

    def cut(self, count: int, *, last: Row | None = None) -> None:
        """Keep the first `count` rows, the last of them replaced by `last` if that is given."""
        self.rows = self.rows[:count]
        if last and self.rows:
            self.rows[-1] = dict(last)
        self._rewrite()

    def append(self, row: Row) -> None:
        """Write one row."""
        known = self._columns()
        self.rows.append(row)
        if self._columns() != known:
            self._rewrite()
            return
        try:
            with self.path.open("a", newline="") as file:
                file.write(_line([_text(row.get(column)) for column in known]))
        except OSError as error:
            raise CheckpointError(f"{self.path}: can't be written: {error}") from error

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def _rewrite(self) -> None:
        columns = self._columns()
        lines = [_line(columns)] if columns else []
        lines += [_line([_text(row.get(column)) for column in columns]) for row in self.rows]
        try:
            with replacing(self.path) as part:
                part.write_text("".join(lines), newline="")
        except OSError as error:
            raise CheckpointError(f"{self.path}: can't be written: {error}") from error


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def row_to_text(row: Row) -> dict[str, str]:
    """Write the numbers of a row so that they read back exactly, also what JSON has no word for."""
    return {name: _text(value) for name, value in row.items()}


def row_from_text(row: Mapping[str, str]) -> Row:
    """Read what `row_to_text` wrote."""
    return {name: _number(text) for name, text in row.items()}


def _text(value: float | None) -> str:
    return "" if value is None else repr(value)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _read(path: Path) -> list[Row]:
    """Read the rows that are whole; a row torn by a killed process ends the reading."""
    rows: list[Row] = []
    with path.open(newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    reader = csv.reader(lines)
    columns = next(reader, [])
    for cells in reader:
        if len(cells) != len(columns):
            break
        try:
            rows.append({c: _number(cell) for c, cell in zip(columns, cells, strict=True) if cell})
        except ValueError:
            break
    return rows


def tensorboard_writer(directory: StrPath, *, start: int = 0) -> Callable[[Row], None]:
    """Return a function that writes rows as TensorBoard events; needs the extra ``cvkit-torch[tensorboard]``.

    Parameters
    ----------
    directory : str or path-like
        Where the events go.
    start : int, default 0
        Events of an earlier attempt from this step on are hidden.

    Returns
    -------
    callable
        To pass as one of the `writers` of `train`.

    Examples
    --------
    >>> write = tensorboard_writer("runs/mine/events")  # doctest: +SKIP
    >>> write({"step": 10, "images": 640, "loss": 0.25})  # doctest: +SKIP
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("TensorBoard is missing; install `cvkit-torch[tensorboard]`") from None
    writer = SummaryWriter(str(directory), purge_step=start)

    def write(row: Row) -> None:
        step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, step)
        writer.flush()

    return write


def progress_bar(steps: int, start: int, *, shown: bool) -> tqdm[Any]:
    """Return a bar with rate and time left, on standard error; silent unless that is a terminal."""
    bar: tqdm[Any] = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None if shown else True)
    return bar
