"""The gallery's scraper: it shows every variable named ``figure...`` that a block of an example has bound.

A figure is a Pillow image or a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4). Small pictures are enlarged by
whole factors, so that single pixels stay visible. matplotlib is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sphinx_gallery.scrapers import figure_rst

__all__ = ["scraper"]

WIDTH = 480


def scraper(_block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Write the figures of one block and return the text that shows them."""
    names = block_vars["example_globals"]
    paths = []
    for name in sorted(key for key in names if key.startswith("figure")):
        picture = as_picture(names.pop(name))
        path = next(block_vars["image_path_iterator"])
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])


def as_picture(figure: Any) -> Image.Image:
    """Return a Pillow image at least about `WIDTH` pixels wide."""
    picture = figure if isinstance(figure, Image.Image) else Image.fromarray(np.asarray(figure))
    factor = WIDTH // picture.width
    if factor >= 2:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return picture.convert("RGBA" if "A" in picture.mode else "RGB")
