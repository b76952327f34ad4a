"""Train the generator that ships as ``gan.pretrained("sketch9")``.

    python tools/make_sketch9.py bitmaps_9x2000.npz --run RUN --out src/cvkit/gan/_data/sketch9.safetensors

Trains on rows 0 to 1599 of each class; the other rows stay unseen, for measures. It resumes if it was interrupted. The
drawings are from Quick, Draw! (Google), CC BY 4.0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cvkit import gan
from cvkit.gan.datasets import ImageSet

RECIPE = gan.preset("sketch28", horizon=250_000)


def main() -> None:
    """Train, or go on training, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--steps", type=int, default=3900)
    arguments = parser.parse_args()
    with np.load(arguments.data, allow_pickle=False) as file:
        rows = file["rows"] < 1600
        data = ImageSet(file["images"][rows], file["labels"][rows], tuple(str(name) for name in file["names"]))
    torch.set_num_threads(1)
    run = gan.fit(data, model=RECIPE, out=arguments.run, steps=arguments.steps, seed=0, checkpoint_every=250)
    run.model.save(arguments.out, half=True)


if __name__ == "__main__":
    main()
