"""Two processes train a tiny GAN together and report whether they agree; started by test_train.py under torchrun."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from cvkit import gan, training


def main(out: Path) -> None:
    torch.set_num_threads(1)
    recipe = gan.preset("sketch28", latent_size=4, generator_width=4, discriminator_width=4, batch_size=8)
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8)
    with training.processes() as world:
        rank = world.rank
        for steps in (3, 6):
            run = gan.fit(
                (images, np.arange(32) % 2), model=recipe, out=out / "run", steps=steps, sheet_every=3, progress=False
            )
        digest = hashlib.sha256()
        for value in run.model.network.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        (out / f"rank-{rank}.json").write_text(json.dumps({"step": run.step, "digest": digest.hexdigest()}))
        world.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
