"""Part one on generated pictures: train a small classifier, explain it, measure the maps against known masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkit.demo._part import Part, Picture
from cvkit.explain import explain, overlay
from cvkit.explain.metrics import energy_in_mask, pointing_game
from cvkit.explain.synthetic import ShapeNet, accuracy, scenes, train
from cvkit.imgops import contact_sheet
from cvkit.io import to_pillow

if TYPE_CHECKING:
    from cvkit.explain import Explanation
    from cvkit.explain.synthetic import Scenes

__all__ = ["part"]

TRAIN, TEST, SHOWN = 1600, 400, 8
TEXT = (
    "A small classifier was trained to tell shapes apart, on generated pictures with distracting lines and dots. "
    "Grad-CAM then says where it looks on pictures it has not seen. Since the shape's mask is known, the maps can"
    " be measured: how often the brightest place lies on the shape (pointing), and which share of the map's sum "
    "does (energy), beside a random map's."
)


def part(seed: int) -> Part:
    """Train, explain, measure."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    model = ShapeNet(generator=generator)
    losses = train(model, scenes(TRAIN, rng=rng), generator=generator)
    test = scenes(TEST, rng=rng)
    found = explain(model, test.images, target=test.labels)
    noise = torch.rand(found.maps.shape, generator=generator)
    rates = {
        "accuracy": accuracy(model, test),
        "pointing_accuracy": share(pointing_game(found.maps, test.masks)),
        "pointing_accuracy_random_map": share(pointing_game(noise, test.masks)),
        "energy_in_mask": share(energy_in_mask(found.maps, test.masks)),
        "energy_in_mask_random_map": share(energy_in_mask(noise, test.masks)),
    }
    return Part(
        key="explain",
        title="Where does a model look?",
        text=TEXT,
        results={**rates, "layer": ", ".join(found.layer), "pictures": TEST},
        pictures=[picture(test, found)],
        facts=[(name.replace("_", " "), f"{value:.3f}") for name, value in rates.items()],
        curves={"training loss": (list(range(len(losses))), losses)},
        curves_caption="Training loss of the classifier",
    )


def share(values: torch.Tensor) -> float:
    """Return the mean of one value a picture."""
    return round(float(values.double().mean()), 4)


def picture(test: Scenes, found: Explanation) -> Picture:
    """Return the first pictures above their maps and masks."""
    images = (test.images[:SHOWN] * 255).round().to(torch.uint8)
    maps = overlay(images, found.maps[:SHOWN, None])
    masks = (test.masks[:SHOWN, None] * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    sheet = contact_sheet(
        torch.cat([images, maps, masks]),
        columns=SHOWN,
        scale=2,
        row_labels=["picture", "Grad-CAM", "truth"],
        column_labels=[test.names[label] for label in test.labels[:SHOWN].tolist()],
    )
    caption = "Pictures that the classifier has not seen, where Grad-CAM says it looks, and where the shape is."
    return Picture("explain", to_pillow(sheet), caption)
