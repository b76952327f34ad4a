"""
Apart, edit, together
=====================

Take a picture apart by its histogram, edit shadows, midtones and highlights each on their own, and put it together
again. Where nothing was edited nothing changes, bit for bit.
"""

import numpy as np

from cvkit import imgops

# %%
# A picture with too much contrast
# --------------------------------
#
# Generated: a dark room with a window. The room is almost black, the sky almost white. Any Pillow image, array or
# tensor would do; the functions give back what they get.

HEIGHT, WIDTH = 168, 252
rng = np.random.default_rng(5)
y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)


def box(left, top, right, bottom, soft=1.5):
    """Coverage of a rectangle with soft edges."""
    inside = np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y))
    return np.clip(inside / soft + 0.5, 0, 1)[..., None]


def over(picture, coverage, color):
    """Paint a colour where it covers."""
    return picture * (1 - coverage) + np.asarray(color) * coverage


light = np.exp(-(np.hypot((x - 150) / 120, (y - 130) / 60) ** 2))[..., None]
stripes = 0.012 * np.sin(x / 4.0)[..., None]
room = np.array([0.05, 0.042, 0.038]) + stripes + light * np.array([0.16, 0.13, 0.1])
clouds = sum(np.sin(x / (9 * k) + 2 * k) * np.cos(y / (5 * k) + k) / k for k in (1, 2, 3))[..., None]
sky = np.array([0.80, 0.87, 0.97]) + 0.035 * clouds - 0.0009 * y[..., None]
hill = np.clip((y - 84 - 8 * np.sin(x / 23)) / 2 + 0.5, 0, 1)[..., None]
view = over(sky, hill, [0.42, 0.52, 0.33]) + 0.02 * np.sin(x / 3 + y / 2)[..., None] * hill
frame = box(82, 16, 218, 122)
panes = box(90, 24, 146, 114) + box(154, 24, 210, 114)
picture = over(room, frame, [0.20, 0.15, 0.11])
picture = picture * (1 - panes) + view * panes
table = box(24, 132, 236, 141)
picture = over(picture, table, [0.17, 0.10, 0.06])
for left, height, color in ((40, 26, [0.15, 0.05, 0.05]), (58, 18, [0.05, 0.11, 0.13]), (186, 30, [0.13, 0.11, 0.04])):
    picture = over(picture, box(left, 132 - height, left + 14, 132), color)
picture = picture + rng.normal(0, 0.006, picture.shape)
photo = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
figure_photo = photo

# %%
# Its histogram
# -------------
#
# `histogram` counts all channels at once and knows statistics and thresholds. Two crowds of pixels stand at the ends;
# the yellow lines are the thresholds that Otsu's method finds for three classes.

gray = imgops.luma(photo)
cuts = imgops.histogram(gray).multi_otsu(3)[0]
print("thresholds:", cuts)
figure_histogram = imgops.draw_histogram(imgops.histogram(photo), size=(150, 512), scale="sqrt", marks=cuts)

# %%
# Apart
# -----
#
# `tone_masks` turns thresholds (or a number of classes) into soft masks that sum to *exactly* one at every pixel.

masks = imgops.tone_masks(photo, cuts.tolist(), softness=0.8)
shadows, midtones, highlights = masks
assert (masks.sum(0) == 1).all()
figure_masks = imgops.contact_sheet(
    [(mask * 255 + 0.5).astype(np.uint8) for mask in masks], columns=3, labels=["shadows", "midtones", "highlights"]
)

# %%
# Edit
# ----
#
# Edit the whole picture once for each mask, without thinking of borders. Curves join with ``@`` and are rounded once.

brighten = imgops.Lut.gamma(0.55) @ imgops.Lut.levels(black=0.01, white=0.8)
lifted = brighten(photo)
richer = imgops.clahe(photo, clip_limit=1.5, grid_size=(4, 6), by="luma")
deeper = imgops.Lut.curve([(0.0, 0.0), (0.6, 0.45), (1.0, 0.97)])(photo)
figure_edits = imgops.contact_sheet([lifted, richer, deeper], columns=3, labels=["lifted", "richer", "deeper"])

# %%
# Together
# --------
#
# `blend_by_masks` takes each edit where its mask is: ``p0 + sum m_i (p_i - p0)``, exactly rounded.

result = imgops.blend_by_masks([lifted, richer, deeper], masks)
figure_before_after = imgops.contact_sheet([photo, result], columns=2, labels=["before", "after"])
figure_histogram_after = imgops.draw_histogram(imgops.histogram(result), size=(150, 512), scale="sqrt")

# %%
# No edit, no change
# ------------------
#
# Leave two regions as they are, and their pixels keep every bit.

only_shadows = imgops.blend_by_masks([lifted, photo, photo], masks)
untouched = shadows == 0
assert (only_shadows[untouched] == photo[untouched]).all()
print(f"{untouched.mean():.0%} of the pixels are bit for bit what they were")
figure_only_shadows = imgops.contact_sheet([photo, only_shadows], columns=2, labels=["before", "shadows lifted"])

# %%
# For comparison: one curve for all
# ---------------------------------
#
# Equalizing spreads the histogram over the whole range, and takes the drawing out of the sky, which was well
# exposed, and the calm out of the dark.

figure_equalized = imgops.contact_sheet(
    [imgops.equalize(photo, by="luma"), result], columns=2, labels=["equalized", "by regions"]
)
