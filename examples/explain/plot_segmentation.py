"""
Segmentation and detection
==========================

A class is not the only thing to ask about. A *target* is any function from the model's output to one number a picture:
the logits of a region, a box that was found, how much one class beats another.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cvkit import imgops
from cvkit.explain import Contrast, DetectedBox, Region, SegXResCAM, explain, overlay, synthetic
from cvkit.weights import load_tensors

# %%
# A model that says a class for every place
# -----------------------------------------
#
# The features of a trained classifier with a new head, trained further for a few seconds to tell background and four
# shapes apart. Two objects stand in each picture.

HERE = Path(__file__).parent if "__file__" in globals() else Path()
classifier = synthetic.ShapeNet(4)
classifier.load_state_dict({name: value.float() for name, value in load_tensors(HERE / "shapes.safetensors").items()})


class Segmenter(nn.Module):
    """``(N, 3, H, W)`` to logits ``(N, 5, H, W)``; class 0 is the background."""

    def __init__(self, features):
        super().__init__()
        self.features = features
        self.context = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        """Return logits of the input's size."""
        logits = self.head(self.context(self.features(x)))
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def truth(data):
    """Return the class of every pixel, (N, H, W)."""
    labels = torch.zeros(data.masks.shape[0], *data.masks.shape[-2:], dtype=torch.int64)
    for side in (0, 1):
        labels = torch.where(data.masks[:, side], data.labels[:, side, None, None] + 1, labels)
    return labels


torch.manual_seed(0)
model = Segmenter(copy.deepcopy(classifier.features)).eval()
data = synthetic.pairs(256, rng=np.random.default_rng(0))
wanted = F.avg_pool2d(F.one_hot(truth(data), 5).movedim(-1, 1).float(), 4)  # shares of the classes in each place
weight = torch.tensor([0.2, 1, 1, 1, 1])  # the background is nearly everywhere
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(150):
    rows = slice(step % 16 * 16, step % 16 * 16 + 16)
    loss = F.cross_entropy(model.head(model.context(model.features(data.images[rows]))), wanted[rows], weight=weight)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
pictures = synthetic.pairs(6, rng=np.random.default_rng(9))
names = ["background", *pictures.names]
with torch.no_grad():
    found = model(pictures.images).argmax(1)
right = (found == truth(pictures)).float().mean()
overlap = ((found == truth(pictures)) & (found > 0)).sum() / ((found > 0) | (truth(pictures) > 0)).sum()
print(f"{right:.0%} of the pixels are right; intersection over union of the objects {overlap:.2f}")


def sheet(*rows, labels):
    """Return pictures, then maps over them."""
    shown = (pictures.images * 255).round().to(torch.uint8)
    parts = torch.cat([shown, *(overlay(shown, maps[:, None].float()) for maps in rows)])
    return imgops.contact_sheet(parts.movedim(1, -1).numpy(), columns=6, scale=2, row_labels=["picture", *labels])


figure_found = sheet(found / 4, labels=["classes found"])

# %%
# Why did these pixels become this class?
# ---------------------------------------
#
# `Region` sums the logits of a class over a mask: here those of the left object over the places that were given its
# class. That is Grad-CAM for segmentation. `SegXResCAM` keeps the gradient of small windows apart instead of averaging
# it over the picture, so the map stays near the region.

asked = pictures.labels[:, 0] + 1
regions = found == asked[:, None, None]
target = Region(asked, regions)
layer = "features.3"
gradcam = explain(model, pictures.images, target=target, layer=layer)
segxres = explain(model, pictures.images, target=target, layer=layer, method=SegXResCAM(window=2))
hirescam = explain(model, pictures.images, target=target, layer=layer, method="hirescam")
figure_region = sheet(
    regions, gradcam.maps, segxres.maps, hirescam.maps, labels=["region", "Grad-CAM", "Seg-XRes-CAM", "HiResCAM"]
)
print("asked:", *[names[label] for label in asked.tolist()])

# %%
# Where the class was given to no pixel there is nothing to explain: the map is zero, and ``degenerate`` says so.

print("degenerate:", gradcam.degenerate.tolist())

# %%
# One pixel will do as a region: what does the class in the middle of an object rest on?

pixels = torch.zeros(6, 48, 64, dtype=torch.bool)
for pixel, mask in zip(pixels, pictures.masks[:, 0], strict=True):
    y, x = mask.nonzero().float().mean(0).round().int().tolist()
    pixel[y, x] = True
one = explain(model, pictures.images, target=Region(asked, pixels), layer=layer, method="hirescam")
figure_pixel = sheet(pixels, one.maps, labels=["pixel", "HiResCAM"])

# %%
# A function will do as a target
# ------------------------------
#
# How much does the left object's class beat the right one's, over the whole picture? `Contrast` asks that of a
# classifier; of any other output, a function does.

sides = pictures.labels + 1


def beats(logits):
    """Return the mean logit of one class less that of the other."""
    mean = logits.mean((2, 3))
    return (mean.gather(1, sides[:, :1]) - mean.gather(1, sides[:, 1:]))[:, 0]


contrast = explain(model, pictures.images, target=beats, layer=layer, method="hirescam")
whole = explain(
    classifier, pictures.images, target=Contrast(pictures.labels[:, 0], pictures.labels[:, 1]), method="hirescam"
)
figure_contrast = sheet(contrast.maps, whole.maps, labels=["segmenter", "classifier"])

# %%
# Boxes
# -----
#
# A detector returns a list of dicts, one a picture, with ``boxes``, ``labels`` and ``scores``. `DetectedBox` follows
# one box: the score and the overlap of the detections that answer to it. This detector puts a box around each class
# that the segmenter finds.


class Detector(nn.Module):
    """Boxes around the classes of a segmenter; the score is the mean probability inside."""

    def __init__(self, segmenter):
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x):
        """Return a list of detections."""
        detections = []
        for probabilities in self.segmenter(x).softmax(1):
            boxes, labels, scores = [], [], []
            for label in range(1, 5):
                inside = probabilities.argmax(0) == label
                if inside.sum() < 40:
                    continue
                ys, xs = inside.nonzero(as_tuple=True)
                boxes.append(torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float())
                labels.append(label)
                scores.append(probabilities[label][inside].mean())
            detections.append(
                {
                    "boxes": torch.stack(boxes) if boxes else torch.zeros(0, 4),
                    "labels": torch.tensor(labels, dtype=torch.int64),
                    "scores": torch.stack(scores) if scores else torch.zeros(0),
                }
            )
        return detections


detector = Detector(model).eval()
with torch.no_grad():
    detections = detector(pictures.images)
best = [int(detection["scores"].argmax()) for detection in detections]
boxes = torch.stack([detection["boxes"][i] for detection, i in zip(detections, best, strict=True)])
detected = explain(detector, pictures.images, target=DetectedBox(boxes), layer="segmenter.features.3")
inside = torch.zeros(6, 48, 64)
for mask, (x0, y0, x1, y1) in zip(inside, boxes.int().tolist(), strict=True):
    mask[y0:y1, x0:x1] = 1
figure_boxes = sheet(inside, detected.maps, labels=["box", "Grad-CAM"])
