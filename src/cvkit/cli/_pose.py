"""``cvkit pose fit | predict``: train a landmark network, and find landmarks in pictures."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from cvkit.cli._output import find_pictures, staged
from cvkit.cli._training import add_training, chosen_device, report, training_options

if TYPE_CHECKING:
    import argparse

    from cvkit.cli._doctor import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add both commands."""
    group = commands.add_parser("pose", help="train a landmark network and find landmarks in pictures")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    fit = actions.add_parser(
        "fit",
        help="train",
        description="Train a stacked hourglass on a folder of pictures with landmarks (CSV, COCO json, DeepLabCut or "
        ".pts). A run that was cut goes on by itself.",
    )
    fit.add_argument("data", metavar="DATA", help="folder of pictures and labels, or the label file")
    fit.add_argument(
        "--valid", type=float, default=0.1, metavar="X", help="share held out to measure on (default: 0.1)"
    )
    add_training(fit, steps=2_000)
    fit.set_defaults(run=_fit)
    predict = actions.add_parser(
        "predict", help="find landmarks", description="Find landmarks: pictures with them drawn in, and keypoints.json."
    )
    predict.add_argument("model", metavar="RUN", help="folder of a run, a checkpoint, or a saved estimator")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="picture files or folders")
    predict.add_argument("--out", required=True, metavar="DIR", help="folder for the results; it may exist")
    predict.add_argument("--flip-test", action="store_true", help="average with the mirror image")
    predict.add_argument(
        "--threshold", type=float, default=0.0, metavar="X", help="draw landmarks with a higher score only"
    )
    predict.set_defaults(run=_predict)


def _fit(args: argparse.Namespace) -> int:
    from cvkit._checks import check_interval

    share = check_interval("--valid", args.valid, 0, 1, high_open=True)
    device = chosen_device(args.device)
    from cvkit import pose

    data = pose.read_landmarks(args.data)
    train, valid = data.split(test=share, seed=args.seed) if share else (data, None)
    run = pose.fit(train, valid=valid, **training_options(args, device))
    return report(run)


def _predict(args: argparse.Namespace) -> int:
    files = find_pictures(args.images)
    names = [f"{file.stem}.png" for file in files]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"several pictures would become {min(twice)}")
    from cvkit import pose
    from cvkit.io import load_image, save_image

    estimator = pose.Estimator.load(args.model)
    photos = [load_image(file, mode="RGB") for file in files]
    found = estimator.predict(photos, flip_test=args.flip_test)
    records = []
    with staged(args.out) as folder:
        for file, name, photo, places, scores in zip(files, names, photos, found.keypoints, found.scores, strict=True):
            drawn = pose.draw_pose(photo, places, estimator.skeleton, scores=scores, threshold=args.threshold)
            save_image(drawn, folder / name)
            keypoints = [[_number(x), _number(y)] for x, y in places.tolist()]
            records.append(
                {"image": str(file), "keypoints": keypoints, "scores": [_number(s) for s in scores.tolist()]}
            )
        document = {"joints": list(estimator.skeleton.joints), "pictures": records}
        (folder / "keypoints.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _number(value: float) -> float | None:
    """Return a number that JSON holds: not-a-number becomes null."""
    return round(value, 4) if math.isfinite(value) else None
