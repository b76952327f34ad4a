"""Part four: train a conditional GAN on sketches, and let an independent classifier say what it recognises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cvkit import gan
from cvkit.demo._inputs import BUDGET
from cvkit.demo._part import Part, Picture
from cvkit.io import to_pillow

if TYPE_CHECKING:
    from pathlib import Path

    from cvkit._types import Array
    from cvkit.gan import Sampler
    from cvkit.gan.datasets import ImageSet

__all__ = ["part"]

STEPS, DRAWINGS = 450, 500  # on generated sketches; drawings a class
JUDGE_STEPS = 220
JUDGED, SHOWN = 100, 12  # samples a class
WITHOUT_END = 10_000_000  # steps, where a budget of seconds ends the training
TEXT = (
    "A conditional GAN was trained on {source}: {count} drawings of {classes} classes. The sheet has one row a "
    "class, in the order asked for; its grey levels are the samples' own. An independent classifier, trained on "
    "real drawings only, says how often it recognises the class that was asked for, beside held-out real drawings"
    " and beside chance. Recognising is not enough, since a generator that draws one good picture a class would "
    "be recognised too: the spread within a class is the mean distance between two samples of a class, as a share"
    " of that between two real drawings of it."
)


def part(sketches: ImageSet | None, budget: float | None, seed: int, scratch: Path, *, progress: bool) -> Part:
    """Train on the drawings, or on generated ones, for a fixed number of steps or `budget` seconds."""
    data = generated(seed, scratch / "sketches") if sketches is None else sketches
    train, test = data.split(test=0.2, seed=seed)
    judge = gan.train_classifier(train, steps=JUDGE_STEPS, seed=seed)
    seconds = BUDGET if budget is None and sketches is not None else budget
    run = gan.fit(
        train,
        out=scratch / "gan-run",
        steps=STEPS if seconds is None else WITHOUT_END,
        seed=seed,
        max_seconds=seconds,
        sheet_every=None,
        progress=progress,
    )
    found = measure(run.model, judge, test, seed)
    names = list(data.names)
    drawn = gan.sample_sheet(draw(run.model, SHOWN, seed + 1), names, columns=SHOWN)
    source = "generated sketches, read from files in the official formats" if sketches is None else "real drawings"
    curves = {
        label: ([row["step"] for row in run.history], [row[key] for row in run.history])
        for label, key in (("discriminator", "loss_discriminator"), ("generator", "loss_generator"))
    }
    return Part(
        key="gan",
        title="Sketches from labels",
        text=TEXT.format(source=source, count=len(train), classes=len(names)),
        results={"steps": run.step, "classes": names, "drawings": len(train), **found},
        pictures=[
            Picture(
                "sketches-real", to_pillow(gan.sample_sheet(*rows_of(test, SHOWN), columns=SHOWN)), "Held-out drawings."
            ),
            Picture("sketches", to_pillow(drawn), "Samples, a row a class."),
        ],
        facts=[
            ("recognised as asked, samples", f"{found['recognised']:.1%}"),
            ("recognised, held-out real drawings", f"{found['recognised_real']:.1%}"),
            ("chance", f"{found['chance']:.1%}"),
            ("spread within a class, against real drawings", f"{found['spread_against_real']:.2f}"),
            *((f"recognised as asked, {name}", f"{rate:.0%}") for name, rate in found["recognised_by_class"].items()),
        ],
        curves=curves,
        curves_caption="Losses of the two players",
        folders={"gan-run": run.directory},
    )


def generated(seed: int, folder: Path) -> ImageSet:
    """Write generated strokes in the official formats and read them back like downloaded ones."""
    gan.quickdraw.write_generated(folder, n=DRAWINGS, rng=np.random.default_rng(seed))
    return gan.quickdraw.load(folder)


def draw(sampler: Sampler, n: int, seed: int) -> Array:
    """Return n samples of each class, class-ordered, as an array (K * n, H, W) or (K * n, C, H, W)."""
    samples = sampler.sample(list(sampler.names), n=n, generator=torch.Generator().manual_seed(seed)).numpy()
    return samples[:, 0] if samples.shape[1] == 1 else samples


def rows_of(data: ImageSet, n: int) -> tuple[Array, list[str]]:
    """Return the first n images of each class that has so many, class-ordered, and the names of these classes."""
    known = [index for index, count in enumerate(data.counts) if count >= n]
    rows = np.concatenate([np.flatnonzero(data.labels == index)[:n] for index in known])
    return np.asarray(data.images[rows]), [data.names[index] for index in known]


def measure(sampler: Sampler, judge: gan.Judge, test: ImageSet, seed: int) -> dict[str, Any]:
    """Return how often samples are taken for what was asked for, beside real drawings and chance, and their spread."""
    names = list(sampler.names)
    samples = draw(sampler, JUDGED, seed)
    labels = np.repeat(np.arange(len(names)), JUDGED)
    right = judge.recognized((samples, labels))
    by_class = right.reshape(len(names), JUDGED).mean(1)
    ink, real_ink = (float((images > 127).mean()) for images in (samples, test.images))
    return {
        "recognised": round(float(right.mean()), 4),
        "recognised_real": round(float(judge.recognized(test).mean()), 4),
        "chance": round(1 / len(names), 4),
        "recognised_by_class": {name: round(float(rate), 4) for name, rate in zip(names, by_class, strict=True)},
        "spread_against_real": round(spread(samples, labels) / spread(test.images, test.labels), 4),
        "ink": round(ink, 4),
        "ink_real": round(real_ink, 4),
    }


def spread(images: Array, labels: Array, most: int = 100) -> float:
    """Return the mean over classes of the mean distance between two images of a class."""
    means = []
    for index in np.unique(labels):
        rows = np.asarray(images[np.flatnonzero(labels == index)[:most]], np.float64).reshape(-1, images[0].size)
        squares = (rows**2).sum(1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0))
        means.append(distances.sum() / max(1, len(rows) * (len(rows) - 1)))
    return float(np.mean(means))
