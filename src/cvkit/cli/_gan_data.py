"""``cvkit gan clean | download | evaluate``: sort drawings, fetch them, measure what was learnt from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvkit.cli._output import check_picture

if TYPE_CHECKING:
    import argparse

    from cvkit.gan.datasets import ImageSet

__all__ = ["add_actions"]


def add_actions(actions: argparse._SubParsersAction[Any]) -> None:
    """Add the three commands to the group ``gan``."""
    clean = actions.add_parser(
        "clean",
        help="sort out bad drawings",
        description="Drop drawings that are not worth training on, and say why. A test set is only compared with.",
    )
    clean.add_argument("data", metavar="DATA", help="file or folder of drawings to train on")
    clean.add_argument("--out", required=True, metavar="FILE.npz", help="what is kept, as an npz of plain arrays")
    clean.add_argument("--test", metavar="DATA", help="test set: copies of it are dropped from the training set")
    clean.add_argument("--sheet", metavar="FILE.png", help="picture of what was dropped and why")
    clean.add_argument("--report", metavar="FILE.json", help="row and reason of every dropped drawing")
    clean.add_argument("--steps", type=int, default=500, metavar="N", help="steps of each classifier (default: 500)")
    clean.add_argument("--quick", action="store_true", help="leave out the rules that train classifiers")
    _add_reading(clean)
    clean.set_defaults(run=_clean)

    download = actions.add_parser(
        "download", help="fetch official files", description="Download Quick, Draw! files of some classes over https."
    )
    download.add_argument("classes", nargs="+", metavar="CLASS", help='official class names, such as "ice cream"')
    download.add_argument("--out", required=True, metavar="DIR", help="folder")
    download.add_argument("--formats", type=_names, default=["numpy_bitmap"], metavar="A,B",
                          help="numpy_bitmap, simplified, raw, binary, sketchrnn (default: numpy_bitmap)")  # fmt: skip
    download.set_defaults(run=_download)

    evaluate = actions.add_parser(
        "evaluate", help="measure a generator", description="Measure a generator against drawings it has not seen."
    )
    evaluate.add_argument("model", metavar="RUN", help="folder of a run, a checkpoint, or a saved sampler")
    evaluate.add_argument("data", metavar="DATA", help="file or folder of real drawings, not trained on")
    evaluate.add_argument("--train", metavar="DATA", help="what was trained on: adds the memorisation ratio")
    evaluate.add_argument("--judge", metavar="FILE", help="judge to ask (default: the one of nine classes)")
    evaluate.add_argument("--out", metavar="FILE.json", help="write all figures as JSON")
    evaluate.add_argument("-n", type=int, metavar="N", help="samples (default: half of the drawings)")
    evaluate.add_argument("--steps", type=int, default=0, metavar="N",
                          help="steps of the classifiers of GAN-train and GAN-test (default: leave out)")  # fmt: skip
    _add_reading(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=_names, metavar="A,B", help="classes to read (default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="first so many rows of each class only")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all chance (default: 0)")


def _clean(args: argparse.Namespace) -> int:
    sheet = None if args.sheet is None else check_picture(args.sheet)
    out = _target(args.out, ".npz")
    report_file = None if args.report is None else _target(args.report, ".json")
    from cvkit import gan
    from cvkit.io import save_image

    data = _read(args.data, args)
    test = None if args.test is None else _read(args.test, args)
    margin, density = (None, None) if args.quick else (-1.0, 0.02)
    report = gan.clean(data, test=test, margin=margin, density=density, steps=args.steps, seed=args.seed, progress=True)
    gan.quickdraw.write_arrays(out, data[report.kept])
    if sheet is not None:
        save_image(gan.dropped_sheet(data, report), sheet)
    if report_file is not None:
        rows = {str(row): str(report.reasons[row]) for row in report.dropped}
        _write(report_file, {"counts": report.counts(), "dropped": rows, "leaks": report.leaks.tolist()})
    print(report.table())
    print(f"kept {len(report.kept)} of {len(data)}; {len(report.leaks)} copies of test drawings")
    return 0


def _download(args: argparse.Namespace) -> int:
    from cvkit.gan import quickdraw

    for path in quickdraw.download(args.classes, args.formats, args.out, progress=True):
        print(path)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    out = None if args.out is None else _target(args.out, ".json")
    from cvkit import gan

    sampler = gan.Sampler.load(args.model)
    judge = None if args.judge is None else gan.Judge.load(args.judge)
    args.classes = args.classes or list(sampler.names)
    real = _read(args.data, args)
    train = None if args.train is None else _read(args.train, args)
    result = gan.evaluate(
        sampler, real, judge=judge, train=train, n=args.n, classifier_steps=args.steps, seed=args.seed, progress=True
    )
    if out is not None:
        _write(out, result.to_dict())
    print(result.table())
    return 0


def _read(path: str, args: argparse.Namespace) -> ImageSet:
    from cvkit.gan import quickdraw

    return quickdraw.load(path, classes=args.classes, limit=args.limit)


def _target(path: str, suffix: str) -> Path:
    """Return a path whose folder is there, before anything long begins."""
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise ValueError(f"{path}: expected a name that ends with {suffix}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent}: no such folder")
    return target


def _write(path: Path, record: dict[str, Any]) -> None:
    from cvkit._files import replacing

    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
