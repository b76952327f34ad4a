"""
From pictures to heatmaps to landmarks
======================================

A small hourglass learns generated stick figures in a few seconds. We look at what it is asked for, what it answers,
and where it puts the joints on figures that it has not seen.
"""

# %%
# The data
# --------
# The figure's left (red) and right (blue) limbs look the same; only their place tells them apart. Patches hide some
# joints.

import tempfile

import numpy as np
import torch
from PIL import Image

from cvkit import pose
from cvkit.imgops import contact_sheet, overlay

train = pose.stick_figures(500)
unseen = pose.stick_figures(40, rng=np.random.default_rng(1))


def enlarge(picture, scale=3):
    """Return a picture with larger pixels, so that thin lines show."""
    return np.asarray(
        Image.fromarray(picture).resize((picture.shape[1] * scale, picture.shape[0] * scale), Image.Resampling.NEAREST)
    )


def drawn(picture, keypoints, scale=3):
    """Return an enlarged picture with its skeleton."""
    return pose.draw_pose(enlarge(picture, scale), (keypoints + 0.5) * scale - 0.5, pose.STICK_FIGURE)


figure_data = contact_sheet([drawn(train.images[i], train.keypoints[i]) for i in range(6)], columns=6)

# %%
# What the network is asked for
# -----------------------------
# One map a joint, at a quarter of the resolution, that sums to one around the joint's exact place.

codec = pose.SoftmaxCodec((64, 64), (16, 16))
targets = codec.encode(train.keypoints[:1], train.visibility[:1])


def over(picture, maps):
    """Lay each map, scaled to its own maximum, over the picture."""
    large = enlarge(picture, 2)
    cells = []
    for heat in maps:
        wide = torch.nn.functional.interpolate(heat[None, None], size=large.shape[:2], mode="bilinear")[0, 0]
        cells.append(overlay(large, (wide / wide.max().clamp_min(1e-9)).numpy(), alpha=0.8, fade=True))
    return contact_sheet(cells, columns=6, labels=list(pose.STICK_FIGURE.joints))


figure_targets = over(train.images[0], targets.heatmaps[0])

# %%
# Training
# --------
# `fit` makes a one-stack hourglass, turns, scales and mirrors the pictures, and would go on where it stopped if it
# were cut off.

recipe = pose.Recipe(
    learning_rate=0.01,
    warmup=500,
    horizon=2500,
    half_life=500,
    augmentation=pose.Augmentation(rotation=15, scale=0.15),
)
with tempfile.TemporaryDirectory() as folder:
    run = pose.fit(
        train, codec=codec, recipe=recipe, out=folder, steps=120, batch_size=16, valid=unseen, progress=False
    )
print(f"{run.history[-1]['valid_pck']:.0%} of unseen joints within a tenth of the figure's size")

# %%
# What it answers
# ---------------

with torch.no_grad():
    logits = run.model.network(torch.from_numpy(unseen.images[:1]).permute(0, 3, 1, 2) / 255)[0, -1]
figure_answers = over(unseen.images[0], logits.flatten(1).softmax(-1).reshape(logits.shape))

# %%
# Landmarks on unseen figures
# ---------------------------
# `Estimator.predict` takes photographs of any size and gives places in their own pixels.

found = run.model.predict(unseen.images[:12])
figure_found = contact_sheet([drawn(p, k) for p, k in zip(unseen.images[:12], found.keypoints, strict=True)], columns=6)
