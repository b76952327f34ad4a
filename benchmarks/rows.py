"""The row that every benchmark writes, and the table made of rows.

A benchmark calls `measure` with our function and the peers' (run in turn, so that a drifting machine is fair to all),
collects `Row` objects and ends with `report(rows, name)`: the table goes to standard output; on request the rows go as
JSON lines to ``benchmarks/results/<name>.jsonl`` and the table to ``docs/benchmarks/<name>.inc``.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Row", "measure", "report", "table"]


@dataclass(frozen=True)
class Row:
    """One job at one size: median milliseconds of ours and of one peer, with the spread and the ratio."""

    job: str
    size: str
    ours_ms: float
    ours_spread: float  # (largest - smallest) / median
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
        for name, job_call in jobs.items():
            gc.collect()
            start = time.perf_counter()
            for _ in range(calls):
                job_call()
            times[name].append((time.perf_counter() - start) * 1e3 / calls)
    own = statistics.median(times[""])
    rows = []
    for name in peers:
        other = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[""], times[name], strict=True))
        spread = [(max(t) - min(t)) / statistics.median(t) for t in (times[""], times[name])]
        goal = (goals or {}).get(name)
        rows.append(Row(job, size, own, spread[0], name, other, spread[1], ratio, goal, note))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a reStructuredText list table."""
    head = ["job", "size", "cvkit ms", "peer", "peer ms", "ratio", "goal", "note"]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in [head, *([r.job, r.size, f"{r.ours_ms:.3g}", r.peer, f"{r.peer_ms:.3g}", f"{r.ratio:.2f}",
                           "" if r.goal is None else f"{r.goal:g}", r.note] for r in rows)]:  # fmt: skip
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


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
        (here / "results" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        (here.parent / "docs" / "benchmarks").mkdir(exist_ok=True)
        (here.parent / "docs" / "benchmarks" / f"{name}.inc").write_text(table(rows))
