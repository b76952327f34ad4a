"""
Where does a model look?
========================

One call answers: `explain` hooks a layer, asks for the gradient of the class's score, and leaves the model as it was.
"""

from pathlib import Path

import numpy as np
import torch

from cvkit import imgops
from cvkit.explain import explain, explain_many, layers, overlay, synthetic
from cvkit.explain.metrics import energy_in_mask, pointing_game
from cvkit.weights import load_tensors

# %%
# A model and pictures
# --------------------
#
# Any torch model will do. This one tells four shapes apart, on generated pictures whose background and lines say
# nothing about the class; ``shapes.safetensors`` lies beside this page.

HERE = Path(__file__).parent if "__file__" in globals() else Path()
model = synthetic.ShapeNet(4)
model.load_state_dict({name: value.float() for name, value in load_tensors(HERE / "shapes.safetensors").items()})
model.eval()

pictures = synthetic.scenes(8, rng=np.random.default_rng(7))
names = [pictures.names[label] for label in pictures.labels.tolist()]


def sheet(images, *rows, labels=(), columns=()):
    """Return pictures in the first row and maps over them in the others."""
    shown = (images * 255).round().to(torch.uint8)
    parts = torch.cat([shown, *(overlay(shown, maps[:, None]) for maps in rows)])
    return imgops.contact_sheet(
        parts.movedim(1, -1).numpy(), columns=len(images), scale=2, row_labels=labels or None, column_labels=columns
    )


figure_pictures = sheet(pictures.images, columns=names)

# %%
# The call
# --------
#
# Without further arguments it is Grad-CAM, at the last layer that still has places, for the predicted class.

result = explain(model, pictures.images)
print("layer:", *result.layer)
print("predicted:", *[pictures.names[i] for i in result.target.tolist()])
print("maps:", tuple(result.maps.shape), "from", tuple(result.raw.shape))

# %%
# `overlay` lays a map over its picture and gives back the kind that it was given.

figure_maps = sheet(pictures.images, result.maps, labels=["picture", "Grad-CAM"], columns=names)

# %%
# Is it right?
# ------------
#
# The shape's mask is known here, so the maps can be measured: does the brightest place lie on the shape, and which
# share of the map does?

print("pointing:", pointing_game(result.maps, pictures.masks).tolist())
print("energy:  ", [round(share, 2) for share in energy_in_mask(result.maps, pictures.masks).tolist()])

# %%
# Two classes in one picture
# --------------------------
#
# A map belongs to a class. `explain_many` asks for several and runs the model once.

both = synthetic.pairs(4, rng=np.random.default_rng(3))
first, second = explain_many(model, both.images, [both.labels[:, 0], both.labels[:, 1]])
wanted = [[pictures.names[i] for i in both.labels[:, side].tolist()] for side in (0, 1)]
figure_two = sheet(
    both.images, first.maps, second.maps, labels=["picture", "one class", "the other"],
    columns=[f"{a}, {b}" for a, b in zip(*wanted, strict=True)],
)  # fmt: skip
print("one:      ", *wanted[0])
print("the other:", *wanted[1])

# %%
# Another layer
# -------------
#
# `layers` lists what a forward runs through, and what fits. Early layers see finely and know little; `LayerCAM` is made
# for them.

for info in layers(model, pictures.images[:1]):
    if info.fits and info.kind == "ReLU":
        print(f"{info.name:12} {info.kind:6} {'x'.join(map(str, info.grid))}")

early = explain(model, pictures.images, layer="features.1.2", method="layercam")
late = explain(model, pictures.images, layer="features.3.2", method="layercam")
fused = explain(model, pictures.images, layer=["features.1.2", "features.3.2"], method="layercam", fuse="max")
figure_layers = sheet(
    pictures.images, early.maps, late.maps, fused.maps, labels=["picture", "early", "late", "both"], columns=names
)

# %%
# Nothing is left behind
# ----------------------
#
# Hooks, gradients, modes and flags are what they were, also when something raises.

assert not any(module._forward_hooks for module in model.modules())
assert all(parameter.grad is None for parameter in model.parameters())
try:
    explain(model, pictures.images, layer="features.9")
except ValueError as error:
    print(error)
