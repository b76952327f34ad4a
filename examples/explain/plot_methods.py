"""
Which method?
=============

All methods on the same pictures, measured against masks that are known. A method is a name or an object that holds its
constants; `METHODS` lists the names.
"""

from pathlib import Path

import numpy as np
import torch

from cvkit import imgops
from cvkit.explain import METHODS, IntegratedGradients, SmoothGrad, explain, overlay, synthetic
from cvkit.explain.metrics import energy_in_mask, pointing_game
from cvkit.weights import load_tensors

HERE = Path(__file__).parent if "__file__" in globals() else Path()
model = synthetic.ShapeNet(4)
model.load_state_dict({name: value.float() for name, value in load_tensors(HERE / "shapes.safetensors").items()})
model.eval()

# %%
# Two objects in each picture, and the class of one of them is asked for. So a map can fail in two ways: it can miss the
# object, or it can light the other one too because it does not know what was asked.

scenes = synthetic.pairs(24, rng=np.random.default_rng(5))
asked, masks, other = scenes.labels[:, 0], scenes.masks[:, 0], scenes.masks[:, 1]

# %%
# The measures: *pointing*, how often the brightest place lies on the object that was asked for; *energy*, which share
# of the map lies on it; *other*, which share lies on the other object. Methods that need hundreds of forwards a picture
# are left out of the table.

costly = {"smoothgrad", "vargrad", "squaregrad", "sscam", "iscam"}
results = {}
print(f"{'method':20} {'pointing':>8} {'energy':>8} {'other':>8}")
for name, method in METHODS.items():
    if name in costly:
        continue
    maps = explain(model, scenes.images, method=method, target=asked).maps
    results[name] = maps
    right = pointing_game(maps, masks).float().mean()
    print(f"{name:20} {right:8.2f} {energy_in_mask(maps, masks).mean():8.2f} {energy_in_mask(maps, other).mean():8.2f}")

# %%
# Class activation maps
# ---------------------
#
# Coarse, and sure of the object. EigenCAM, KPCA-CAM and FEM look for what is strong, not for a class: they light both
# objects, or the wrong one. Ask something else for a second opinion on a class.


def sheet(names):
    """Return a row of pictures for each method."""
    shown = (scenes.images[:6] * 255).round().to(torch.uint8)
    rows = [shown, *(overlay(shown, results[name][:6, None]) for name in names)]
    titles = [f"asked: {scenes.names[label]}" for label in asked[:6].tolist()]
    pictures = torch.cat(rows).movedim(1, -1).numpy()
    return imgops.contact_sheet(pictures, columns=6, scale=2, row_labels=["picture", *names], column_labels=titles)


figure_gradients = sheet(["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "ablationcam", "scorecam"])

# %%
figure_unasked = sheet(["eigencam", "kpcacam", "fem", "eigengradcam"])

# %%
# Input attribution
# -----------------
#
# As fine as the picture, and as noisy as the gradient. Averages over noise cost one backward a sample.

results["smoothgrad"] = explain(model, scenes.images, method=SmoothGrad(samples=12), target=asked).maps
results["integrated, grey"] = explain(model, scenes.images, method=IntegratedGradients(baseline=0.5), target=asked).maps
figure_inputs = sheet(
    ["saliency", "smoothgrad", "inputxgradient", "integratedgradients", "integrated, grey", "guidedgradcam"]
)

# %%
# Integrated gradients add up: the attributions of a picture sum to its score minus the baseline's. ``delta`` says by
# how much the sum over so many points misses that, so it can be seen when they are too few.

for steps in (8, 32, 128):
    found = explain(model, scenes.images[:6], method=IntegratedGradients(steps=steps), target=asked[:6])
    print(f"{steps:4} points: largest miss {found.delta.abs().max():.3f}")

# %%
# A method of your own is a function of activations and gradients.


def positive(activations, gradients):
    """Only what speaks for the class, place by place."""
    return (activations * gradients.clamp(min=0)).sum(1)


results["your own"] = explain(model, scenes.images, method=positive, target=asked).maps
figure_own = sheet(["your own"])
