"""The row that every benchmark writes, and the table made of rows.

A benchmark calls `measure` with our function and the peers' (run in turn, so that a drifting machine is fair to all),
collects `Row` objects and ends with `report(rows, name)`: the table goes to standard output; on request the rows go as
JSON lines to ``benchmarks/results/<name>.jsonl`` and the table to ``docs/benchmarks/<name>.inc``. ``python
benchmarks/rows.py`` makes all tables anew from the stored rows.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Row", "in_processes", "measure", "report", "spread", "table"]


@dataclass(frozen=True)
class Row:
    """One job at one size: median milliseconds of ours and of one peer, with the spread and the ratio."""

    job: str
    size: str
    ours_ms: float
    ours_spread: float  # from the first quartile to the third, over the median
    peer: str
    peer_ms: float
    peer_spread: float
    ratio: float  # median over rounds of ours / peer, pair by pair
    goal: float | None = None
    note: str = ""


def measure(
    job: str,
    size: str,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    calls: int = 1,
    goals: Mapping[str, float] | None = None,
    note: str = "",
) -> list[Row]:
    """Time `ours` and every peer in turn, `rounds` times after a warm-up, and return a row a peer.

    For jobs of less than a millisecond, each time is the mean of so many `calls` on end.
    """
    jobs = {"": ours, **peers}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job_call in jobs.values():
        job_call()
    for _ in range(rounds):
        gc.collect()
        for name, job_call in jobs.items():
            start = time.perf_counter()
            for _ in range(calls):
                job_call()
            times[name].append((time.perf_counter() - start) * 1e3 / calls)
    own = statistics.median(times[""])
    rows = []
    for name in peers:
        other = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[""], times[name], strict=True))
        spreads = [spread(t) for t in (times[""], times[name])]
        goal = (goals or {}).get(name)
        rows.append(Row(job, size, own, spreads[0], name, other, spreads[1], ratio, goal, note))
    return rows


def in_processes(sweeps: int, sweep: Callable[..., list[Row]], *args: object) -> list[Row]:
    """Go through all jobs several times, each in a fresh process; return of each job the row with the middle ratio.

    A spell in which something else slows the machine outlasts the rounds of one job, but hits another in each sweep;
    and short calls differ from process to process.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [pool.submit(sweep, *args) for _ in range(sweeps)]
        rows = zip(*(one.result() for one in found), strict=True)
        return [sorted(same, key=lambda row: row.ratio)[len(same) // 2] for same in rows]


def spread(times: list[float]) -> float:
    """Return the distance from the first quartile to the third, over the median; 0 for a single time."""
    if len(times) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / middle


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a reStructuredText list table: spreads in brackets, ratios that miss their goal in bold."""
    head = ["job", "size", "cvkit ms", "peer", "peer ms", "ratio", "goal", "note"]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in [head, *(_cells(row) for row in rows)]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    ratio = f"{row.ratio:.2f}" if row.ratio >= 0.1 else f"{row.ratio:.2g}"
    if row.goal is not None and row.ratio > row.goal:
        ratio = f"**{ratio}**"
    ours, theirs = _time(row.ours_ms, row.ours_spread), _time(row.peer_ms, row.peer_spread)
    return [row.job, row.size, ours, row.peer, theirs, ratio, "" if row.goal is None else f"{row.goal:g}", row.note]


def _time(milliseconds: float, around: float) -> str:
    value = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
    return f"{value} ({100 * around:.0f}\N{NO-BREAK SPACE}%)" if around else value


def report(rows: Sequence[Row], name: str, *, write: bool = False) -> None:
    """Print the rows; with `write` also store them and their table (``benchmarks/results``, ``docs/benchmarks``)."""
    for r in rows:
        goal = "" if r.goal is None else f"  goal {r.goal:g} {'ok' if r.ratio <= r.goal else 'MISSED'}"
        ours, theirs = f"{r.ours_ms:9.3f} ms", f"{r.peer:>22} {r.peer_ms:9.3f} ms"
        print(f"{r.job:34} {r.size:>12} {ours}  {theirs}  ratio {r.ratio:6.3f}{goal}  {r.note}")
    if write:
        here = Path(__file__).resolve().parent
        (here / "results").mkdir(exist_ok=True)
        lines = [json.dumps({**asdict(r), "python": platform.python_version()}) for r in rows]
        (here / "results" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (here.parent / "docs" / "benchmarks").mkdir(exist_ok=True)
        (here.parent / "docs" / "benchmarks" / f"{name}.inc").write_text(table(rows), encoding="utf-8")


def main() -> None:
    """Make the tables of the docs anew from the stored rows."""
    here = Path(__file__).resolve().parent
    for path in sorted((here / "results").glob("*.jsonl")):
        stored = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = {field.name for field in fields(Row)}
        rows = [Row(**{key: value for key, value in row.items() if key in names}) for row in stored]
        (here.parent / "docs" / "benchmarks" / f"{path.stem}.inc").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
