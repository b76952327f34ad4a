"""
Quick, Draw! from file to bitmap
================================

The files of Quick, Draw! come as pen strokes or as finished 28 x 28 bitmaps. This page writes a small folder of the
official formats, with generated drawings, and reads it back. The same lines read the real files.
"""

import tempfile
from pathlib import Path

import numpy as np

from cvkit.gan import quickdraw
from cvkit.imgops import contact_sheet

# %%
# A folder of official files
# --------------------------
# ``quickdraw.download(["cat", "fish"], ["numpy_bitmap", "simplified"], folder)`` fetches real ones into the same
# subfolders.

folder = Path(tempfile.mkdtemp())
classes = ["house", "star", "umbrella", "fish", "tree", "ice cream"]
files = quickdraw.write_generated(folder, classes, 60, formats=["numpy_bitmap", "simplified", "raw"], dirty=0.1)
print([str(file.relative_to(folder)) for file in files[:3]])

# %%
# Bitmaps come from the bitmap files, and the game's verdict from the stroke files beside them, once a sample has
# shown that row k is drawing k in both.

data = quickdraw.load(folder)
print(data, "recognised:", data.recognized.mean().round(2))

rows = [np.flatnonzero(data.labels == label)[:12] for label in range(len(data.names))]
figure_classes = contact_sheet(255 - data.images[np.concatenate(rows)], columns=12, row_labels=data.names, scale=2)

# %%
# What the game did not recognise: scribbles, things begun, other things. Bitmap files hold them too, unmarked.

figure_unrecognised = contact_sheet(255 - data.images[~data.recognized][:24], columns=12, scale=2)

# %%
# From raw strokes to the bitmap
# ------------------------------
# Raw strokes are in pixels of someone's screen. `simplify` brings them into a frame of 256 pixels and keeps the few
# points that matter; `rasterize` draws them as the published bitmaps were drawn, to a fifth of a grey level on average.

raw = list(quickdraw.iter_drawings(folder / "raw" / "umbrella.ndjson"))[4]
simplified = quickdraw.simplify([raw])
print(sum(map(len, raw.strokes)), "points, simplified", int(simplified.point_counts[0]))

sizes = [quickdraw.rasterize(simplified, size=size)[0] for size in (28, 56, 112, 224)]
figure_sizes = contact_sheet([255 - image for image in sizes], columns=4)

# %%
# Thin and thick pens, on the same strokes:

pens = [quickdraw.rasterize(simplified, size=112, line_width=width)[0] for width in (4, 8, 16, 32)]
figure_pens = contact_sheet([255 - image for image in pens], columns=4)
