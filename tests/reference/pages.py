"""The code in the tables of the pages about moving from another library, to be run by tests."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "migration"


def rows(page):
    """The rows of the tables of a page: (code there, code here, note)."""
    text = (PAGES / page).read_text()
    for item in re.split(r"\n   \* - ", text)[1:]:
        cells = re.split(r"\n     -(?: |(?=\n)|$)", item.split("\n\n")[0])
        if len(cells) == 3:
            yield tuple(" ".join(cell.split()) for cell in cells)


def call(cell):
    """The code of a cell that is one call and nothing else."""
    found = re.fullmatch(r"``([^`]*\(.*\)[^`]*)``", cell)
    return found.group(1) if found else None
