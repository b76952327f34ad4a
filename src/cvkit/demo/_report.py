"""Write what the parts of the demo found: pictures, ``results.json`` and one self-contained page."""

from __future__ import annotations

import json
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cvkit import __version__, _html
from cvkit.imgops import contact_sheet
from cvkit.io import save_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image as PILImage

    from cvkit.demo._part import Part

__all__ = ["write"]

WIDTH = 720  # of one picture of the overview, in pixels
INTRODUCTION = (
    "cvkit does four jobs: it explains where a model looks, takes images apart by their histogram and blends them"
    " back, finds landmarks, and generates sketches from labels. Each part below did its job on the spot. The "
    "figures of all parts are in results.json beside this page."
)


def write(out: Path, parts: Sequence[Part]) -> Path:
    """Write everything to a folder inside `out` first, then move it into place, the page last; return the page."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".demo-", dir=out))
    try:
        names = _fill(staging, parts)
        for name in names:
            target = out / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            (staging / name).replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out / "index.html"


def _fill(folder: Path, parts: Sequence[Part]) -> list[str]:
    """Write all files to `folder` and return their names, the page last."""
    names = []
    for part in parts:
        for picture in part.pictures:
            names.append(f"{picture.name}.png")
            save_image(picture.image, folder / names[-1])
        for name, source in part.folders.items():
            names.append(name)
            shutil.copytree(source, folder / name)
    names.append("overview.png")
    save_image(_overview(parts), folder / names[-1])
    results = {"cvkit": __version__, **{part.key: dict(part.results) for part in parts}}
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    (folder / "index.html").write_text(_page(parts), encoding="utf-8")
    return [*names, "results.json", "index.html"]


def _overview(parts: Sequence[Part]) -> PILImage:
    """Return the last picture of each part, under its title, in two columns of about one height."""
    cells = []
    for part in parts:
        if part.pictures:
            image = part.pictures[-1].image.convert("RGB")
            image = image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))), Image.Resampling.LANCZOS)
            cells.append(contact_sheet([image], column_labels=[part.title], gap=8, text_size=20.0))
    sides = min(
        product((0, 1), repeat=len(cells)),
        key=lambda sides: max(sum(c.height for c, s in zip(cells, sides, strict=True) if s == k) for k in (0, 1)),
    )
    columns = [[cell for cell, side in zip(cells, sides, strict=True) if side == k] for k in (0, 1)]
    sheets = [_stack(column) for column in columns if column]
    canvas = Image.new("RGB", (sum(sheet.width for sheet in sheets), max(sheet.height for sheet in sheets)), "white")
    left = 0
    for sheet in sheets:
        canvas.paste(sheet, (left, 0))
        left += sheet.width
    return canvas


def _stack(pictures: Sequence[PILImage]) -> PILImage:
    """Return pictures below each other."""
    sheet = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet


def _page(parts: Sequence[Part]) -> str:
    """Return the page: a section a part, with its pictures, its figures, and the curves of what was trained."""
    blocks = [_html.paragraph(INTRODUCTION)]
    for part in parts:
        blocks += [_html.heading(part.title), _html.paragraph(part.text)]
        blocks += [_html.figure(picture.image, picture.caption) for picture in part.pictures]
        if part.facts:
            blocks.append(_html.table(("figure", "value"), part.facts))
        if part.curves:
            blocks.append(_html.line_plot(part.curves, part.curves_caption, x_label="step"))
    return _html.page("cvkit demo", *blocks)
