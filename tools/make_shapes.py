"""Train the small classifier of shapes that the gallery's pages explain.

    python tools/make_shapes.py examples/explain/shapes.safetensors

It knows the first four of `cvkit.explain.synthetic.SHAPES` on pictures of 48 x 48; stored in half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cvkit.explain import synthetic
from cvkit.weights import save_tensors


def main() -> None:
    """Train, measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = synthetic.scenes(4000, rng=np.random.default_rng(0))
    network = synthetic.ShapeNet(4)
    synthetic.train(network, data, steps=options.steps)
    unseen = synthetic.scenes(400, rng=np.random.default_rng(1))
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    accuracy = synthetic.accuracy(network, unseen)
    save_tensors(options.out, state, metadata={"made by": "tools/make_shapes.py", "accuracy": f"{accuracy:.4f}"})


if __name__ == "__main__":
    main()
