"""Quick, Draw!: readers and writers of every published format, a rasteriser, generated drawings.

The data set is Google's, licensed CC BY 4.0 (googlecreativelab/quickdraw-dataset); whoever shows drawings of it, or
what was trained on them, names it.
"""

from __future__ import annotations

from cvkit.gan.datasets.quickdraw.binary import iter_binary, write_binary
from cvkit.gan.datasets.quickdraw.bitmaps import open_bitmaps, read_arrays, write_arrays, write_bitmaps
from cvkit.gan.datasets.quickdraw.drawing import Drawing, StrokeSet
from cvkit.gan.datasets.quickdraw.fetch import BUCKET, download
from cvkit.gan.datasets.quickdraw.generate import GENERATED, generate, generate_drawings, write_generated
from cvkit.gan.datasets.quickdraw.load import check_order, iter_drawings, load
from cvkit.gan.datasets.quickdraw.ndjson import iter_ndjson, write_ndjson
from cvkit.gan.datasets.quickdraw.raster import fit_frame, rasterize, simplify
from cvkit.gan.datasets.quickdraw.sketchrnn import SketchParts, read_sketchrnn, write_sketchrnn

__all__ = [
    "BUCKET",
    "GENERATED",
    "Drawing",
    "SketchParts",
    "StrokeSet",
    "check_order",
    "download",
    "fit_frame",
    "generate",
    "generate_drawings",
    "iter_binary",
    "iter_drawings",
    "iter_ndjson",
    "load",
    "open_bitmaps",
    "rasterize",
    "read_arrays",
    "read_sketchrnn",
    "simplify",
    "write_arrays",
    "write_binary",
    "write_bitmaps",
    "write_generated",
    "write_ndjson",
    "write_sketchrnn",
]
