"""Turn the hand-written ``docs/inventories/*.txt`` into the files that intersphinx reads, so that no network is needed.

Each text file begins with ``# project, version, base address``; every further line is ``name domain:role path``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["build"]


def build(source: Path, target: Path) -> dict[str, tuple[str, str]]:
    """Write one ``.inv`` a text file and return the value for `intersphinx_mapping`."""
    target.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for text in sorted(source.glob("*.txt")):
        head, *lines = text.read_text(encoding="utf-8").splitlines()
        project, version, address = (part.strip() for part in head.removeprefix("#").split(","))
        rows = [line.split() for line in lines if line.strip()]
        body = "".join(f"{name} {role} 1 {path} -\n" for name, role, path in rows)
        header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: {version}\n"
        header += "# The remainder of this file is compressed using zlib.\n"
        file = target / f"{text.stem}.inv"
        file.write_bytes(header.encode() + zlib.compress(body.encode()))
        mapping[text.stem] = (address, str(file))
    return mapping
