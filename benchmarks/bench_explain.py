"""`cvkit.explain` beside a plain forward and beside pytorch-grad-cam, torch-cam and captum.

One residual network of 18 layers, untrained, on pictures of 224 x 224, two threads. Peers that are not installed are
left out. Run with

    python benchmarks/bench_explain.py [--write] [--rounds 5] [--sweeps 3]

All jobs are gone through `--sweeps` times, each in a fresh process, and of each job the sweep with the middle ratio
stands. `--write` stores the rows and the table of the docs. pytorch-grad-cam needs torchvision, and so an environment
of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rows import Row, in_processes, measure, report
from torch import Tensor, nn

from cvkit.explain import cam, capture, explain

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILY = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")


class Block(nn.Module):
    """A basic residual block."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += shortcut
        return self.relu(out)


class ResNet18(nn.Module):
    """The usual residual network of 18 layers."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        widths, before = (64, 128, 256, 512), 64
        for i, width in enumerate(widths):
            stage = nn.Sequential(Block(before, width, 1 if i == 0 else 2), Block(width, width, 1))
            setattr(self, f"layer{i + 1}", stage)
            before = width
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


def peak_mib(call: Callable[[], object]) -> float:
    """Return by how many MiB a call raises the resident memory at its peak (Linux)."""
    call()
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark

    def read(field: str) -> float:
        return int(re.search(rf"{field}:\s+(\d+) kB", status.read_text(encoding="ascii")).group(1)) / 1024  # type: ignore[union-attr]

    before = read("VmRSS")
    call()
    return max(read("VmHWM") - before, 0.01)


def against_forward(model: nn.Module, x: Tensor, rounds: int) -> list[Row]:
    """Time of the Grad-CAM family at one named layer over that of one plain forward."""

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    rows = []
    for name in FAMILY:
        job = f"{name}, layer4"
        rows += measure(
            job, "8x3x224x224", lambda name=name: explain(model, x, method=name, layer="layer4"),
            {"plain forward": forward}, rounds=3 * rounds, goals={"plain forward": 1.05},
        )  # fmt: skip
    rows += measure(
        "gradcam, layer found", "8x3x224x224", lambda: explain(model, x), {"plain forward": forward}, rounds=rounds,
        note="keeps a whole graph",
    )  # fmt: skip
    ours, plain = peak_mib(lambda: explain(model, x, layer="layer4")), peak_mib(forward)
    rows.append(
        Row(
            "gradcam, peak memory (MiB, not ms)",
            "8x3x224x224",
            ours,
            0.0,
            "plain forward",
            plain,
            0.0,
            ours / plain,
            1.2,
        )
    )
    return rows


def quiet(call: Callable[[], object]) -> object:
    """Run a peer without its progress bars."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def against_grad_cam(model: nn.Module, x: Tensor, rounds: int) -> list[Row]:
    """The same jobs by pytorch-grad-cam."""
    try:
        from pytorch_grad_cam import AblationCAM, EigenCAM, GradCAM, ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        print("pytorch-grad-cam is not installed: its rows are left out")
        return []

    def theirs(kind: type, layer: str, batch: Tensor) -> Callable[[], object]:
        def call() -> object:
            with kind(model=model, target_layers=[getattr(model, layer)]) as peer:
                peer.batch_size = 32
                return quiet(lambda: peer(input_tensor=batch, targets=[ClassifierOutputTarget(3)] * len(batch)))

        return call

    def ours(method: str, layer: str, batch: Tensor, **options: object) -> Callable[[], object]:
        return lambda: explain(model, batch, method=method, layer=layer, target=3, **options)

    one = x[:1]
    jobs = [
        ("gradcam, layer4", "8x3x224x224", ours("gradcam", "layer4", x), theirs(GradCAM, "layer4", x), rounds, 0.4, ""),
        ("eigencam, layer1", "8x3x224x224", ours("eigencam", "layer1", x), theirs(EigenCAM, "layer1", x), 2, 0.1, ""),
        ("eigencam, layer2", "8x3x224x224", ours("eigencam", "layer2", x), theirs(EigenCAM, "layer2", x), rounds, 0.1,
         "the forward alone takes more"),
        ("ablationcam, layer1, 64 channels", "1x3x224x224", ours("ablationcam", "layer1", one),
         theirs(AblationCAM, "layer1", one), rounds, 0.6, ""),
        ("ablationcam, layer4, 512 channels", "1x3x224x224", ours("ablationcam", "layer4", one),
         theirs(AblationCAM, "layer4", one), 2, 0.01, ""),
        ("scorecam, layer1, 64 channels", "1x3x224x224", ours("scorecam", "layer1", one),
         theirs(ScoreCAM, "layer1", one), rounds, 0.9, ""),
        ("scorecam, layer1, bf16", "1x3x224x224", ours("scorecam", "layer1", one, precision="bf16"),
         theirs(ScoreCAM, "layer1", one), rounds, 0.45, ""),
    ]  # fmt: skip
    rows = []
    for job, size, call, peers_call, count, goal, note in jobs:
        rows += measure(job, size, call, {"grad-cam": peers_call}, rounds=count, goals={"grad-cam": goal}, note=note)
    rows += eigen_maps(model, x, rounds)
    exact, low = (ours("scorecam", "layer1", one, **o)().raw.flatten() for o in ({}, {"precision": "bf16"}))
    ranks = torch.stack([exact, low]).argsort(1).argsort(1).double()
    print(f"Score-CAM, bf16 against float32: rank correlation {torch.corrcoef(ranks)[0, 1]:.5f} (goal 0.99)")
    return rows


def eigen_maps(model: nn.Module, x: Tensor, rounds: int) -> list[Row]:
    """EigenCAM's map from given activations, without the forward that both need."""
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    with torch.no_grad(), capture(model, "layer2") as seen:
        model(x)
    A = seen.activation()
    return measure(
        "eigencam's map alone, layer2", "8x128x28x28", lambda: cam.eigencam(A, center=True),
        {"grad-cam": lambda: get_2d_projection(A.numpy().copy())}, rounds=rounds, goals={"grad-cam": 0.1},
    )  # fmt: skip


def against_others(model: nn.Module, x: Tensor, rounds: int) -> list[Row]:
    """Grad-CAM by captum and torch-cam."""
    peers: dict[str, Callable[[], object]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImportError):
            from captum.attr import LayerGradCam

            peers["captum"] = lambda: LayerGradCam(model, model.layer4).attribute(x, target=3)
        with contextlib.suppress(ImportError):
            from torchcam.methods import GradCAM

            def by_torchcam() -> object:
                with GradCAM(model, "layer4") as extractor:
                    return extractor([3] * len(x), model(x))

            peers["torch-cam"] = by_torchcam
    if not peers:
        return []
    return measure(
        "gradcam, layer4", "8x3x224x224", lambda: explain(model, x, layer="layer4", target=3), peers, rounds=rounds
    )


PARTS = {"forward": against_forward, "grad-cam": against_grad_cam, "others": against_others}


def sweep(rounds: int, only: str | None) -> list[Row]:
    """Measure all jobs, or those of one part, once."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model, x = ResNet18().eval(), torch.rand(8, 3, 224, 224)
    return [row for name, part in PARTS.items() if only in {None, name} for row in part(model, x, rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweeps", type=int, default=3)
    parser.add_argument("--only", choices=list(PARTS))
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for all jobs")
    report(in_processes(options.sweeps, sweep, options.rounds, options.only), "explain", write=options.write)


if __name__ == "__main__":
    main()
