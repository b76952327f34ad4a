"""Part two: take a picture apart by its histogram, edit each range of tones, and blend the edits back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cvkit import imgops
from cvkit.demo._part import Part, Picture
from cvkit.demo._scene import landscape

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from cvkit._types import Array

__all__ = ["part"]

MOST, GAP = 480, 4  # longer side of one picture of a sheet, and what lies between, in pixels
NAMES = ("shadows", "middle tones", "highlights")
TEXT = (
    "Two thresholds found in the histogram take the picture apart into shadows, middle tones and highlights, as "
    "three soft masks that sum to one exactly. The shadows are lifted, the highlights calmed, each edit done on "
    "the whole picture; blending by the masks puts the edits together. Equalising the histogram is shown beside "
    "it. Blending without an edit gives the picture back bit for bit: that is checked here, not assumed."
)


def part(photo: PILImage | None, seed: int) -> Part:
    """Edit the photograph, or a generated landscape."""
    image = landscape(rng=np.random.default_rng(seed)) if photo is None else np.asarray(photo)
    masks = np.asarray(imgops.tone_masks(image, len(NAMES)))
    edits = [imgops.gamma(image, 0.75), image, imgops.gamma(image, 1.15)]
    edited = imgops.blend_by_masks(edits, masks)
    equalized = imgops.equalize(image, by="luma")
    unchanged = bool(np.array_equal(imgops.blend_by_masks([image] * len(NAMES), masks), image))
    before, after = luma_entropy(image), luma_entropy(edited)
    dark = [float((imgops.luma(picture) < 32).mean()) for picture in (image, edited)]
    shares = {name: round(float(mask.mean()), 4) for name, mask in zip(NAMES, masks, strict=True)}
    return Part(
        key="tone",
        title="Apart, edit, together",
        text=TEXT,
        results={
            "share_of_tones": shares,
            "masks_sum_to_one": bool((masks.sum(0) == 1).all()),
            "no_edit_changes_nothing": unchanged,
            "entropy_before": before,
            "entropy_after": after,
            "dark_pixels_before": round(dark[0], 4),
            "dark_pixels_after": round(dark[1], 4),
        },
        pictures=[tones(image, masks), result(image, edited, equalized)],
        facts=[
            ("masks sum to one", "yes, exactly" if (masks.sum(0) == 1).all() else "no"),
            ("blending without an edit", "changes nothing" if unchanged else "changes the picture"),
            ("entropy of the luma, before and after", f"{before:.2f} and {after:.2f} bits"),
            ("pixels darker than level 32, before and after", f"{dark[0]:.1%} and {dark[1]:.1%}"),
        ],
    )


def luma_entropy(image: Array) -> float:
    """Return the entropy of the luma's histogram in bits."""
    return round(float(np.ravel(imgops.histogram(imgops.luma(image)).entropy())[0]), 4)


def reduced(image: Array) -> Array:
    """Return the picture small enough for the report."""
    factor = min(1.0, MOST / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) if factor < 1 else image


def tones(image: Array, masks: Array) -> Picture:
    """Return the picture and the parts it was taken into."""
    shown = [reduced(image), *(reduced(np.rint(image * mask[..., None]).astype(np.uint8)) for mask in masks)]
    sheet = imgops.contact_sheet(shown, labels=["picture", *NAMES], columns=2)
    return Picture("tone-apart", Image.fromarray(sheet), "The picture, and the three parts it was taken into.")


def result(image: Array, edited: Array, equalized: Array) -> Picture:
    """Return before, after and the equalised picture above their histograms."""
    columns = []
    for whole in (image, edited, equalized):
        shown = reduced(whole)
        height, width = shown.shape[:2]
        bars = imgops.draw_histogram(imgops.histogram(whole), size=(max(64, height // 3), width), scale="sqrt")
        columns.append(np.vstack([shown, np.full((GAP, width, 3), 255, np.uint8), bars]))
    sheet = imgops.contact_sheet(columns, column_labels=["before", "edited by tone", "equalised"], columns=3)
    caption = "Before, after the edit by ranges of tone, and equalised, each above its histogram."
    return Picture("tone-result", Image.fromarray(sheet), caption)
