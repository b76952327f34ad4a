"""Part three: train a one-stack hourglass on landmarks and measure it on pictures it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cvkit import pose
from cvkit.demo._inputs import BUDGET
from cvkit.demo._part import Part, Picture
from cvkit.imgops import contact_sheet
from cvkit.io import to_pillow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image as PILImage

    from cvkit._types import Array
    from cvkit.demo._part import Value
    from cvkit.pose import LandmarkData

__all__ = ["part"]

TRAIN, TEST, STEPS = 1200, 200, 260  # generated stick figures
SHOWN, SIDE = 12, 176
LABELS = {
    "pck": "PCK",
    "pck_mean_places": "PCK of the mean places",
    "mean_error_px": "mean error in pixels",
    "nme_box": "mean error by the root of the box's area",
}
WITHOUT_END = 10_000_000  # steps, where a budget of seconds ends the training
THRESHOLD = 0.1
TEXT = (
    "A one-stack hourglass was trained on {source}: {count} pictures with {joints} landmarks each. It then found "
    "the landmarks in {unseen} pictures it had not seen. PCK is the share of landmarks nearer to their place than"
    " a tenth of the longer side of the box around all of them; beside it stands a guess that always answers with"
    " the training set's mean places."
)


def part(landmarks: LandmarkData | None, budget: float | None, seed: int, scratch: Path, *, progress: bool) -> Part:
    """Train on the pictures, or on stick figures, for a fixed number of steps or `budget` seconds."""
    if landmarks is None:
        data = pose.stick_figures(TRAIN + TEST, rng=np.random.default_rng(seed))
        train, test = data[:TRAIN], data[TRAIN:]
    else:
        train, test = landmarks.split(test=0.2, seed=seed)
    seconds = BUDGET if budget is None and landmarks is not None else budget
    run = pose.fit(
        train,
        out=scratch / "pose-run",
        steps=STEPS if seconds is None else WITHOUT_END,
        seed=seed,
        max_seconds=seconds,
        progress=progress,
    )
    photos = [to_pillow(test.photo(index)) for index in range(len(test))]
    found = run.model.predict(photos)
    measured = measure(found.keypoints, mean_places(train, photos), test)
    source = "generated stick figures" if landmarks is None else "real pictures"
    return Part(
        key="pose",
        title="Landmarks",
        text=TEXT.format(source=source, count=len(train), joints=len(test.skeleton), unseen=len(test)),
        results={
            "steps": run.step,
            "pictures": len(train),
            "unseen": len(test),
            "joints": len(test.skeleton),
            **measured,
        },
        pictures=[picture(photos, found.keypoints, test.skeleton)],
        facts=[(label, f"{measured[key]:.3f}") for key, label in LABELS.items()],
        curves={"training loss": ([row["step"] for row in run.history], [row["loss"] for row in run.history])},
        curves_caption="Training loss of the hourglass",
        folders={"pose-run": run.directory},
    )


def mean_places(train: LandmarkData, photos: Sequence[PILImage], most: int = 200) -> Array:
    """Return the mean places of the training set, scaled to each photograph: a guess without looking."""
    some = train[:most]
    sizes = np.array([to_pillow(some.photo(index)).size for index in range(len(some))], np.float64)
    places = np.where((some.visibility > 0)[..., None], (some.keypoints + 0.5) / sizes[:, None], np.nan)
    own = np.array([photo.size for photo in photos], np.float64)
    return np.asarray(np.nanmean(places, 0) * own[:, None] - 0.5)


def measure(found: Array, guess: Array, test: LandmarkData) -> dict[str, Value]:
    """Return PCK, the mean error in pixels and the normalised mean error, and PCK of the guess."""
    side = pose.reference_length("box_max", test.keypoints, test.visibility)
    pck, chance, error, nme = pose.PCK(THRESHOLD), pose.PCK(THRESHOLD), pose.EPE(), pose.NME("box")
    pck.update(found, test.keypoints, test.visibility, normalizer=side)
    chance.update(guess, test.keypoints, test.visibility, normalizer=side)
    error.update(found, test.keypoints, test.visibility)
    nme.update(found, test.keypoints, test.visibility)
    return {
        "pck": round(pck.compute().mean, 4),
        "pck_mean_places": round(chance.compute().mean, 4),
        "mean_error_px": round(error.compute(), 3),
        "nme_box": round(nme.compute().nme, 4),
    }


def picture(photos: Sequence[PILImage], found: Array, skeleton: pose.Skeleton) -> Picture:
    """Return unseen pictures with what was found."""
    cells = []
    for photo, places in zip(photos[:SHOWN], found, strict=False):
        factor = SIDE / max(photo.size)
        size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
        large = np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        scale = np.array(size) / photo.size
        cells.append(pose.draw_pose(large, (places + 0.5) * scale - 0.5, skeleton))
    sheet = contact_sheet(cells, columns=6)
    return Picture("pose", Image.fromarray(sheet), "Unseen pictures and the landmarks that were found in them.")
