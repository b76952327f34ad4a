"""Train the judge that the package ships: nine classes, rows 0 to 1599 of each official file; rows 1600 to 1999 test.

    python tools/make_judge.py DATA [--out FILE] [--steps N] [--seed S]

DATA is the nine-class ``.npz`` of plain arrays (``images``, ``labels``, ``names``, ``rows``) or a folder of official
``numpy_bitmap`` files ``apple.npy`` ... ``rainbow.npy``; both hold the same rows and give the same judge on the same
processor, build and thread count. The drawings are Google's Quick, Draw! data set, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from cvkit.gan import Judge, quickdraw, robustness, train_classifier

CLASSES = ("apple", "bicycle", "bowtie", "cat", "diamond", "eye", "fish", "lollipop", "rainbow")
TRAIN, TEST = 1600, 2000  # first row that is not trained on, first row that is not tested on


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/cvkit/gan/_data/sketch9-judge.safetensors"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = quickdraw.load(options.data, classes=CLASSES, limit=TEST, flags="ignore")
    train, test = data[data.rows < TRAIN], data[(data.rows >= TRAIN) & (data.rows < TEST)]
    judge = train_classifier(train, steps=options.steps, seed=options.seed)
    table = robustness(judge, test)
    about = {
        "data": "Quick, Draw! by Google (quickdraw.withgoogle.com/data), CC BY 4.0; trained by the cvkit developers",
        "train": f"rows 0 to {TRAIN - 1} of each class, {len(train)} drawings",
        "test": f"rows {TRAIN} to {TEST - 1} of each class, {len(test)} drawings",
        "training": f"tools/make_judge.py --steps {options.steps} --seed {options.seed} --threads {options.threads}",
        "accuracy": json.dumps({name: round(value, 4) for name, value in table.items()}),
        "torch": torch.__version__,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Judge(judge.network, judge.names, about).save(options.out)
    correct = judge.recognized(test)
    classes = {name: round(float(correct[test.labels == i].mean()), 4) for i, name in enumerate(test.names)}
    sys.stdout.write(json.dumps({"file": str(options.out), **about, "classes": classes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
