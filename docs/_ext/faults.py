"""Make the page of public faults from the `fault` markers of the tests."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

__all__ = ["collect", "setup"]

HEAD = """\
Faults that stay fixed
======================

Each row is a fault that somebody met in a public project, and the test that keeps its kind out of cvkit.

.. list-table::
   :header-rows: 1
   :widths: 35 65

   * - reported as
     - held by
"""


def collect(tests: Path) -> list[tuple[str, str]]:
    """Return (issue, test) for every ``@pytest.mark.fault("owner/repo#n")`` below `tests`."""
    rows = []
    for path in sorted(tests.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                rows += [
                    (str(argument.value), f"{path.relative_to(tests.parent).as_posix()}::{node.name}")
                    for mark in node.decorator_list
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"
                    for argument in mark.args
                    if isinstance(argument, ast.Constant)
                ]
    return sorted(rows, key=lambda row: (row[0].lower(), row[1]))


def write(app: Any) -> None:
    """Write ``explanation/faults.rst`` before the sources are read."""
    folder = Path(app.srcdir)
    lines = [f"   * - {issue}\n     - ``{test}``\n" for issue, test in collect(folder.parent / "tests")]
    target = folder / "_generated" / "faults.rst"
    target.parent.mkdir(exist_ok=True)
    target.write_text(HEAD + "".join(lines or ["   * - none yet\n     - \n"]), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
