"""``cvkit explain``: where a packaged classifier looks in photographs."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cvkit.cli._demo import integers
from cvkit.cli._output import find_pictures, staged

if TYPE_CHECKING:
    import argparse

    from PIL.Image import Image as PILImage

    from cvkit.cli._doctor import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="show where a classifier looks in photographs",
        description="Explain a classifier with packaged ImageNet weights (extra `demo`): one picture for each "
        "photograph and class, with the map laid over, and explanations.json.",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="picture files or folders")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; it may exist")
    parser.add_argument(
        "--model", default="efficientnet-lite0", metavar="NAME", help="packaged classifier (default: %(default)s)"
    )
    parser.add_argument("--target", type=integers, metavar="N,N", help="ImageNet classes (default: the most probable)")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="how many of the most probable (default: 1)")
    parser.add_argument("--method", default="gradcam", metavar="NAME", help="way of explaining (default: %(default)s)")
    parser.add_argument("--layer", metavar="NAME", help="layer to explain (default: the last with positions)")
    parser.add_argument("--opacity", type=float, default=0.5, metavar="X", help="of the map (default: %(default)s)")
    parser.add_argument("--colormap", default="ember", metavar="NAME", help="of the map (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from cvkit._checks import check_choice, check_integer, check_interval
    from cvkit.io import load_image, save_image

    files = find_pictures(args.photos)
    check_integer("--top", args.top, minimum=1, maximum=1000)
    check_interval("--opacity", args.opacity, 0, 1)
    targets = [check_integer("--target", index, minimum=0, maximum=999) for index in args.target or ()]
    photos = [load_image(file, mode="RGB") for file in files]

    from cvkit.demo._inputs import MODELS
    from cvkit.explain import METHODS

    check_choice("--method", args.method, list(METHODS))
    missing = [name for name in MODELS[check_choice("--model", args.model, list(MODELS))] if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{args.model} needs {' and '.join(missing)}: python -m pip install 'cvkit-torch[demo]'"
        )
    from cvkit.demo._photo import load

    network, found = load(args.model), []
    with staged(args.out) as folder:
        for file, photo in zip(files, photos, strict=True):
            for record, picture in _explained(network, photo, targets, args):
                record = {"photo": str(file), "picture": f"{file.stem}-{record['class']}.png", **record}
                if (folder / record["picture"]).exists():
                    raise ValueError(f"{file}: another photograph has the same name")
                save_image(picture, folder / record["picture"])
                found.append(record)
        (folder / "explanations.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for record in found:
        print(f"{record['picture']}: class {record['class']}, probability {record['probability']:.3f}")
    return 0


def _explained(
    network: Any, photo: PILImage, targets: list[int], args: argparse.Namespace
) -> list[tuple[dict[str, Any], PILImage]]:
    """Explain one photograph for each class: facts, and the photograph with the map laid over."""
    import torch

    from cvkit.demo._photo import CROP, LAYER, SIZE, peak
    from cvkit.explain import explain_many, overlay
    from cvkit.geometry import prepare, warp

    ready = prepare(photo, SIZE, crop_fraction=CROP, mode="bicubic")
    inputs = (ready.tensor * 255 - 127) / 128  # these weights' own range
    with torch.no_grad():
        probabilities = network(inputs).softmax(1)[0]
    classes = targets or probabilities.topk(args.top).indices.tolist()
    layer = args.layer or LAYER
    results = []
    for index, one in zip(
        classes, explain_many(network, inputs, classes, method=args.method, layer=layer), strict=True
    ):
        values = one.maps[0].float()
        spread = warp(values.numpy(), ready.to_photo, (photo.height, photo.width)).clip(0, 1)
        x, y = peak(values, ready.to_photo)
        facts = {
            "class": index,
            "probability": round(float(probabilities[index]), 6),
            "method": args.method,
            "layer": list(one.layer),
            "brightest": [round(x, 1), round(y, 1)],
            "degenerate": bool(one.degenerate[0]),
        }
        results.append((facts, overlay(photo, spread, alpha=args.opacity, colormap=args.colormap)))
    return results
