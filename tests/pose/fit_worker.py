"""Train small pose networks on one or several processes; started by test_train.py, under torchrun for several.

``fit_worker.py FOLDER CUT...``: for each codec train to every cut in turn, in one folder; the last is the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cvkit import pose, training

SIZE, MAPS = (24, 32), (6, 8)
CODECS = {
    "gaussian": pose.GaussianCodec(SIZE, MAPS, sigma=1.0),
    "udp": pose.UDPCodec(SIZE, MAPS),
    "integral": pose.IntegralCodec(SIZE, MAPS, regularizer="js"),
    "softmax": pose.SoftmaxCodec(SIZE, MAPS),
}


def network(channels: int, seed: int) -> nn.Module:
    """Two convolutions without batch statistics, ``(N, 3, H, W) -> (N, 1, channels, H/4, W/4)``.

    No bias at the end: under a softmax it has no gradient but rounding, which Adam would blow up.
    """
    end = nn.Conv2d(6, channels, 3, padding=1, bias=False)
    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh(), end, nn.Unflatten(0, (-1, 1)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return net


def data() -> pose.LandmarkData:
    """Pictures of which the first half of each batch has few labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, *SIZE, 3), dtype=np.uint8)
    keypoints = rng.uniform(0, 24, (12, 3, 2)).astype(np.float32)
    visibility = (rng.random((12, 3)) < np.linspace(0.1, 1, 12)[:, None]).astype(np.int64)
    return pose.LandmarkData(images, keypoints, visibility, skeleton=pose.Skeleton("three", ["a", "b", "c"]))


def main(out: Path, cuts: list[int]) -> None:
    torch.set_num_threads(1)
    recipe = pose.Recipe(learning_rate=1e-2, warmup=8, horizon=1000, augmentation=pose.Augmentation(flip=0.0))
    with training.processes() as world:
        for name, codec in CODECS.items():
            for cut in cuts:
                model = network(codec.channels(3), seed=world.rank)  # process 0's values count, and the checkpoint's
                run = pose.fit(
                    data(), out=out / name, model=model, codec=codec, recipe=recipe, steps=cut, batch_size=4,
                    log_every=1, progress=False,
                )  # fmt: skip
        (out / f"rank-{world.rank}.json").write_text(json.dumps({"processes": world.size, "history": run.history}))
        world.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(cut) for cut in sys.argv[2:]])
