"""Landmarks beside pytorch-stacked-hourglass and pycocotools: targets, decoding, loss, inference, average precision.

Batch 32, 16 joints, 64 x 64 heatmaps, two stacks; inference of hg2 on 32 pictures of 256 x 256 and on 4. Peers are
called as their own training and evaluation code calls them. All jobs are gone through three times, each time in a fresh
process; the row with the middle ratio stands. Run it alone on the machine:
``python benchmarks/bench_pose.py [--write] [--only NAME] [--sweeps N]``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings

import numpy as np
import torch
from rows import Row, in_processes, measure, report

from cvkit import pose, training

BATCH, JOINTS, SIDE = 32, 16, 64
PEER = "pytorch-stacked-hourglass"


def peer(name: str) -> object:
    """Import a module of the peer, whose import warns on today's Pythons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return __import__(f"stacked_hourglass.{name}", fromlist=["x"])


def encoding() -> list[Row]:
    draw = peer("utils.imutils").draw_labelmap
    places = 4 + 248 * torch.rand(BATCH, JOINTS, 2, generator=torch.Generator().manual_seed(0))
    codec = pose.GaussianCodec((256, 256), (SIDE, SIDE), sigma=1.0)

    def loop() -> None:
        for points in places / 4:
            target = torch.zeros(JOINTS, SIDE, SIDE)
            for joint in range(JOINTS):
                target[joint], _ = draw(target[joint], points[joint], 1, type="Gaussian")

    return measure(
        "encode targets",
        f"{BATCH}x{JOINTS}x{SIDE}x{SIDE}",
        lambda: codec.encode(places),
        {PEER: loop},
        rounds=21,
        calls=3,
        goals={PEER: 1 / 15},
        note="exact centres, no cut-off",
    )


def decoding() -> list[Row]:
    predictions = peer("utils.evaluation").final_preds_untransformed
    codec = pose.GaussianCodec((256, 256), (SIDE, SIDE), sigma=1.0)
    places = 4 + 248 * torch.rand(BATCH, JOINTS, 2, generator=torch.Generator().manual_seed(0))
    heatmaps = codec.encode(places).heatmaps
    heatmaps += 0.01 * torch.rand(heatmaps.shape, generator=torch.Generator().manual_seed(1))
    fit = pose.GaussianCodec((256, 256), (SIDE, SIDE), sigma=1.0, decoder="fit")
    size, theirs = f"{BATCH}x{JOINTS}x{SIDE}x{SIDE}", {PEER: lambda: predictions(heatmaps, (SIDE, SIDE))}
    return [
        *measure(
            "decode (Taylor)",
            size,
            lambda: codec.decode(heatmaps),
            theirs,
            goals={PEER: 1 / 2},
            note="theirs: quarter offset",
        ),
        *measure("decode (weighted fit)", size, lambda: fit.decode(heatmaps), theirs, note="theirs: quarter offset"),
    ]


def loss() -> list[Row]:
    mse = peer("loss").joints_mse_loss
    generator = torch.Generator().manual_seed(0)
    outputs = torch.rand(BATCH, 2, JOINTS, SIDE, SIDE, generator=generator).requires_grad_()
    heatmaps = torch.rand(BATCH, JOINTS, SIDE, SIDE, generator=generator)
    weights = torch.ones(BATCH, JOINTS)
    listed = [outputs[:, s].detach().clone().requires_grad_() for s in range(2)]

    def ours() -> None:
        outputs.grad = None
        pose.masked_mse(outputs, heatmaps, weights).backward()

    def theirs() -> None:
        for output in listed:
            output.grad = None
        sum(mse(output, heatmaps, weights[..., None]) for output in listed).backward()

    return measure(
        "loss, forward and backward", f"{BATCH}x2x{JOINTS}x{SIDE}x{SIDE}", ours, {PEER: theirs}, goals={PEER: 1 / 15}
    )


def inference() -> list[Row]:
    network = pose.StackedHourglass(16, stacks=2).eval()
    other = peer("model").hg2(pretrained=False).eval()
    other.load_state_dict(network.state_dict())
    folded = pose.fold_batch_norm(network).to(memory_format=torch.channels_last)
    rows = []
    for number, rounds in ((BATCH, 3), (4, 11)):
        images = torch.rand(number, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        fast = images.to(memory_format=torch.channels_last)
        note = "same weights; folded, channels-last"
        rows += beside(folded, fast, other, images, note, rounds=rounds, goals={PEER: 1 / 1.4})
    if training.probe_bfloat16("cpu").native:  # emulated, it is slower than float32
        note = "the same in bfloat16; theirs in float32"
        half, fast = folded.to(torch.bfloat16), fast.to(torch.bfloat16)
        rows += beside(half, fast, other, images, note, rounds=5, tolerance=0.05)
    return rows


def beside(
    network: torch.nn.Module,
    fast: torch.Tensor,
    other: torch.nn.Module,
    images: torch.Tensor,
    note: str,
    *,
    rounds: int,
    goals: dict[str, float] | None = None,
    tolerance: float = 1e-3,
) -> list[Row]:
    with torch.inference_mode():
        ours, theirs = network(fast[:4])[:, -1].float(), other(images[:4])[-1]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)

        return measure(
            f"inference, hg2{', bfloat16' if fast.dtype == torch.bfloat16 else ''}",
            "x".join(map(str, images.shape)),
            lambda: network(fast, last_only=True),
            {PEER: lambda: other(images)},
            rounds=rounds,
            goals=goals,
            note=note,
        )


def average_precision() -> list[Row]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = people(900, 5000)

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            side = COCO()
            side.dataset = json.loads(json.dumps(truth))
            side.createIndex()
            evaluation = COCOeval(side, side.loadRes([dict(f) for f in found]), "keypoints")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()

    return measure(
        "COCO AP",
        "5000 detections",
        lambda: pose.coco_evaluate(truth, found),
        {"pycocotools": theirs},
        rounds=5,
        goals={"pycocotools": 1.0},
        note="equal to 1e-9",
    )


def people(images: int, detections: int) -> tuple[dict[str, list[dict[str, object]]], list[dict[str, object]]]:
    """Random people and detections near and far from them."""
    rng = np.random.default_rng(0)
    truth = {
        "images": [{"id": i} for i in range(images)],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    found = []
    while len(found) < detections:
        image, size, corner = int(rng.integers(images)), rng.uniform(20, 250), rng.uniform(0, 300, 2)
        points = np.concatenate([corner + size * rng.random((17, 2)), rng.integers(0, 3, (17, 1))], 1)
        truth["annotations"].append(
            {
                "id": len(truth["annotations"]) + 1,
                "image_id": image,
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "iscrowd": 0,
                "num_keypoints": int((points[:, 2] > 0).sum()),
                "area": float(0.6 * size**2),
                "bbox": [*corner.tolist(), size, size],
            }
        )
        for spread in (0.01, 0.04, 0.2):
            moved = points.copy()
            moved[:, :2] += rng.normal(0, spread * size, (17, 2))
            found.append(
                {"image_id": image, "category_id": 1, "keypoints": moved.ravel().tolist(), "score": float(rng.random())}
            )
    return truth, found[:detections]


JOBS = {"encode": encoding, "decode": decoding, "loss": loss, "inference": inference, "ap": average_precision}


def sweep(only: str | None) -> list[Row]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return [row for name, job in JOBS.items() if only in {None, name} for row in job()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the rows and the table")
    parser.add_argument("--only", choices=JOBS, help="run one job")
    parser.add_argument("--sweeps", type=int, default=3, help="how often to go through all jobs (default: 3)")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for all jobs")
    report(in_processes(options.sweeps, sweep, options.only), "pose", write=options.write)


if __name__ == "__main__":
    main()
