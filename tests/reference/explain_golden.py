"""Make the golden numbers of peers that cannot live beside the CPU build of torch.

Run by hand in an environment that has them (torch, torchvision, grad-cam), from the repository's root:

    python tests/reference/explain_golden.py

It writes ``tests/reference/explain_golden.json``: raw maps of pytorch-grad-cam on a small network whose weights and
input are made from the formula below, so that no file of weights is needed. Maps are taken before the peer resizes or
normalises them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


def wave(shape: tuple[int, ...], seed: float, scale: float) -> Tensor:
    """Return numbers that look random and are the same everywhere: a sine of large steps."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(count * 12.9898 + seed * 78.233) * 43758.5453).frac().mul(scale).view(shape).float()


class GoldenNet(nn.Module):
    """Two convolutions, a stride, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.tail = nn.Conv2d(8, 5, 3, stride=2)
        self.head = nn.Linear(5, 4)
        self.act = nn.ReLU()
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(wave(tuple(parameter.shape), i + 1.0, 0.35 if parameter.dim() > 1 else 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv2(torch.relu(self.conv1(x))))
        return self.head(torch.relu(self.tail(x)).mean((2, 3)))


def golden_input() -> Tensor:
    """Return two pictures of 9 x 12."""
    return wave((2, 3, 9, 12), 0.5, 1.0).abs()


TARGETS = (1, 3)


def main() -> None:
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, x = GoldenNet().eval(), golden_input()
    kinds = {
        "gradcam": peer.GradCAM, "hirescam": peer.HiResCAM, "elementwise": peer.GradCAMElementWise,
        "xgradcam": peer.XGradCAM, "layercam": peer.LayerCAM, "eigencam": peer.EigenCAM,
        "eigengradcam": peer.EigenGradCAM, "ablationcam": peer.AblationCAM, "scorecam": peer.ScoreCAM,
        "gradcam++": peer.GradCAMPlusPlus,
    }  # fmt: skip
    maps: dict[str, object] = {}
    for name, kind in kinds.items():
        raws: list[object] = []

        class Raw(kind):  # type: ignore[misc,valid-type]
            def get_cam_image(self, *args: object, **kwargs: object) -> object:
                image = super().get_cam_image(*args, **kwargs)
                raws.append(image)  # noqa: B023  # read before the next turn
                return image

        with Raw(model=model, target_layers=[model.conv2]) as cam:
            cam(input_tensor=x, targets=[ClassifierOutputTarget(t) for t in TARGETS])
        maps[name] = [[round(float(v), 9) for v in row.flatten()] for row in raws[0]]  # type: ignore[attr-defined]
    versions = {"torch": torch.__version__, "grad-cam": "1.5.7", "python": sys.version.split()[0]}
    content = {"made_with": versions, "layer": "conv2", "size": [9, 12], "targets": list(TARGETS), "maps": maps}
    (HERE / "explain_golden.json").write_text(json.dumps(content), encoding="ascii")
    print({name: len(m) for name, m in maps.items()})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
