"""``cvkit demo``: the four jobs, on generated or on real input."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvkit.cli._doctor import Commands

__all__ = ["add_parser", "integers"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="run the four jobs and write pictures, figures and a page",
        description="Run the four jobs, offline, and write pictures, results.json and index.html. "
        "Without options everything is generated; with real input the same command does real work.",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; it may exist")
    parser.add_argument("--photo", metavar="FILE", help="explain this photograph and edit it by tone")
    parser.add_argument(
        "--model", default="efficientnet-lite0", metavar="NAME", help="classifier for --photo (default: %(default)s)"
    )
    parser.add_argument(
        "--target", type=integers, metavar="N,N", help="ImageNet classes to explain (default: the most probable)"
    )
    parser.add_argument("--sketches", metavar="PATH", help="train on these Quick, Draw! files")
    parser.add_argument("--landmarks", metavar="DIR", help="train on this folder of pictures with landmarks")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="training time of each trained part")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all chance (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from cvkit import demo

    page = demo.run(
        args.out,
        photo=args.photo,
        model=args.model,
        target=args.target,
        sketches=args.sketches,
        landmarks=args.landmarks,
        budget=args.budget,
        seed=args.seed,
        progress=not args.quiet,
    )
    print(page)
    return 0


def integers(text: str) -> list[int]:
    """Parse ``243,282``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between, got {text!r}") from None
