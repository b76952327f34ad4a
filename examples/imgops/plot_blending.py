"""
Blending two pictures
=====================

All 16 blend modes and 13 operators of W3C Compositing and Blending Level 1, cross-dissolve, blending by bands and by
gradients: one call each, the same for Pillow images, arrays and tensors.
"""

import numpy as np

from cvkit import imgops

# %%
# Two pictures
# ------------
#
# The backdrop holds hills under a sky; the source is a wheel of hues with soft edges. Both are generated.

HEIGHT, WIDTH = 108, 144
y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)

sky = np.stack([0.35 + 0.004 * y, 0.55 + 0.003 * y, 0.9 - 0.002 * y], axis=-1)
for depth, shade in enumerate([(0.42, 0.52, 0.50), (0.28, 0.42, 0.30), (0.16, 0.28, 0.17)]):
    ridge = 55 + 16 * depth + 9 * np.sin(x / (19 - 4 * depth) + 2.1 * depth) + 4 * np.sin(x / 7.3 + depth)
    inside = np.clip(y - ridge + 0.5, 0, 1)[..., None]
    sky = sky * (1 - inside) + np.array(shade) * (0.8 + 0.004 * (HEIGHT - y))[..., None] * inside
backdrop = imgops.draw_points(np.clip(sky, 0, 1), [[112, 24]], (1.0, 0.93, 0.7), 11)

radius = np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
angle = np.arctan2(y - HEIGHT / 2, x - WIDTH / 2)
hues = 0.5 + 0.5 * np.cos(angle[..., None] - np.array([0.0, 2.1, 4.2]))
spokes = 0.6 + 0.4 * np.cos(radius / 5.0)[..., None]
coverage = np.clip((46 - radius) / 10, 0, 1)
source = np.concatenate([hues * spokes, coverage[..., None]], axis=-1)

backdrop, source = (np.floor(image * 255 + 0.5).astype(np.uint8) for image in (backdrop, source))
checks = np.where(((x // 9 + y // 9) % 2 == 0)[..., None], 170, 215).astype(np.uint8).repeat(3, axis=-1)
figure_inputs = imgops.contact_sheet([backdrop, imgops.composite(source, checks)], labels=["backdrop", "source"])

# %%
# Modes
# -----
#
# A mode says how colours mix where both pictures are. Integer results are the exact result, rounded half up.

results = [imgops.composite(source, backdrop, mode=mode) for mode in imgops.MODES]
figure_modes = imgops.contact_sheet(results, columns=4, labels=imgops.MODES)

# %%
# Operators
# ---------
#
# An operator says what remains of each picture. Here the backdrop has a transparent right half; checks show through.

cut = np.concatenate([backdrop, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=-1)
cut[..., 3] = imgops.feather((x < WIDTH / 2).astype(np.uint8) * 255, 6.0)
results = [imgops.composite(source, cut, operator=operator) for operator in imgops.OPERATORS]
shown = [imgops.composite(result, checks) for result in results]
figure_operators = imgops.contact_sheet(shown, columns=4, labels=imgops.OPERATORS)

# %%
# Light instead of stored values
# ------------------------------
#
# Half red and half green give a dark olive as stored, as most programs mix them, and a lighter yellow as light.

green, red = np.full((40, 200, 3), (0, 200, 0), np.uint8), np.full((40, 200, 3), (220, 0, 0), np.uint8)
ramp = np.linspace(0, 1, 200, dtype=np.float32)[None].repeat(40, axis=0)
pair = [imgops.composite(red, green, mask=ramp, space=space) for space in ("srgb", "linear")]
figure_light = imgops.contact_sheet(pair, columns=1, row_labels=["stored", "light"])

# %%
# From one picture to another
# ---------------------------
#
# A dissolve mixes the two everywhere alike.

other = imgops.composite(source, backdrop, mode="luminosity")
figure_dissolve = imgops.contact_sheet(
    [imgops.dissolve(backdrop, other, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)],
    columns=5,
    labels=["0", "0.25", "0.5", "0.75", "1"],
)

# %%
# Without a seam
# --------------
#
# Two pictures side by side: cut hard, feathered, and blended band by band, which hides the seam in the coarse structure
# and leaves detail sharp.

rng = np.random.default_rng(0)
grain = imgops.gaussian_blur(rng.random((HEIGHT, WIDTH)), 0.8)[..., None]
evening = np.clip(backdrop / 255.0 * [1.15, 0.75, 0.55] + 0.25 * (grain - 0.5), 0, 1)
morning = np.clip(backdrop / 255.0 * [0.8, 0.95, 1.1] + 0.25 * (grain[:, ::-1] - 0.5), 0, 1)
evening, morning = (np.floor(image * 255 + 0.5).astype(np.uint8) for image in (evening, morning))
left = (x < WIDTH / 2).astype(float)
figure_seam = imgops.contact_sheet(
    [
        imgops.composite(evening, morning, mask=left),
        imgops.composite(evening, morning, mask=imgops.feather(left, 30.0)),
        imgops.pyramid_blend(evening, morning, left, levels=4),
    ],
    columns=3,
    labels=["cut", "feathered", "by bands"],
)

# %%
# By gradients
# ------------
#
# A patch from another picture keeps its gradients and takes its colours from the place it is put into. With mixed
# gradients the stronger one counts, so that the ridge shows through where the patch is even.

balloon = np.full((56, 48, 3), (176, 170, 160), np.uint8)
balloon = imgops.draw_lines(balloon, [[[19, 31], [22, 42]], [[29, 31], [26, 42]]], "#5a4632", 1)
for size, color in ((15, "#c8402e"), (10, "#f0c040"), (5, "#c8402e")):
    balloon = imgops.draw_points(balloon, [[24, 19]], color, size)
balloon = imgops.draw_lines(balloon, [[[22, 44], [26, 44]]], "#5a4632", 4)
place = (18, 14)
everywhere = np.ones(balloon.shape[:2], dtype=bool)
figure_gradients = imgops.contact_sheet(
    [
        imgops.composite(balloon, backdrop, offset=place),
        imgops.poisson_blend(balloon, backdrop, everywhere, offset=place),
        imgops.poisson_blend(balloon, backdrop, everywhere, mode="mixed", offset=place),
    ],
    columns=3,
    labels=["pasted", "normal", "mixed"],
)
