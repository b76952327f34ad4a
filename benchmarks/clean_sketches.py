"""What cleaning drops from real drawings, class by class, and what a generator gains by it.

    python benchmarks/clean_sketches.py bitmaps_9x2000.npz --out DIR [--gain] [--steps 600]

Cleans rows 0 to 1599 of each class; rows 1600 to 1999 are the test split and are left alone. ``DIR/dropped.png`` shows
what was dropped. With ``--gain`` generators are trained for the same number of steps on the set as it is and on what is
left of it, and again with a fifth of the labels made wrong, and are measured by the shipped judge, which no rule of
the cleaning knows. Numbers go to ``DIR/cleaning.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkit import gan
from cvkit.io import save_image

if TYPE_CHECKING:
    from cvkit.gan.datasets import ImageSet


def spoil(data: ImageSet, share: float, seed: int = 0) -> tuple[ImageSet, np.ndarray]:
    """Give a share of the rows another class's label; return the set and which rows."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(data)) < share
    labels = np.array(data.labels)
    labels[wrong] = (labels[wrong] + rng.integers(1, len(data.names), int(wrong.sum()))) % len(data.names)
    return replace(data, labels=labels), wrong


def measured(data: ImageSet, test: ImageSet, out: Path, steps: int) -> dict[str, float]:
    """Train on `data` and judge 2,000 samples."""
    run = gan.fit(data, model="sketch28", out=out, steps=steps, sheet_every=None, progress=False)
    found = gan.evaluate(run.model, real=test, n=2000).fake
    return {
        name: round(float(getattr(found, name)), 4) for name in ("recognized", "worst_class", "frechet", "coverage")
    }


def main() -> None:
    """Print the tables and store them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gain", action="store_true")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    everything = gan.quickdraw.read_arrays(options.data)
    rows = everything.rows
    train, test = everything[np.flatnonzero(rows < 1600)], everything[np.flatnonzero(rows >= 1600)]
    options.out.mkdir(parents=True, exist_ok=True)

    report = gan.clean(train, test=test)
    print(report.table())
    print(len(report.kept), "of", len(train), "kept,", len(report.leaks), "copies of test drawings")
    save_image(gan.dropped_sheet(train, report, columns=24), options.out / "dropped.png")
    result: dict[str, object] = {"kept": len(report.kept), "leaks": len(report.leaks), "reasons": report.counts()}
    spoilt, wrong = spoil(train, 0.2)
    other = gan.clean(spoilt)
    dropped = ~np.isin(np.arange(len(train)), other.kept)
    result["wrong labels dropped"] = round(float(dropped[wrong].mean()), 4)
    result["right labels dropped"] = round(float(dropped[~wrong].mean()), 4)
    print({key: result[key] for key in ("wrong labels dropped", "right labels dropped")})
    if options.gain:
        sets = {"as it is": train, "cleaned": train[report.kept], "a fifth mislabelled": spoilt,
                "a fifth mislabelled, cleaned": spoilt[other.kept]}  # fmt: skip
        for name, data in sets.items():
            result[name] = measured(data, test, options.out / name.replace(" ", "-").replace(",", ""), options.steps)
            print(name, len(data), result[name], flush=True)
    (options.out / "cleaning.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
