"""``cvkit gan fit | sample``: train a conditional GAN on sketches, and draw from it; see also `_gan_data`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvkit.cli._gan_data import add_actions
from cvkit.cli._output import check_picture
from cvkit.cli._training import add_training, chosen_device, report, training_options

if TYPE_CHECKING:
    import argparse

    from cvkit.cli._doctor import Commands

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add all commands of the group."""
    group = commands.add_parser("gan", help="train a conditional GAN on sketches and draw from it")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    fit = actions.add_parser(
        "fit",
        help="train",
        description="Train a conditional GAN on Quick, Draw! files. A run that was cut goes on by itself.",
    )
    fit.add_argument("data", metavar="DATA", help="file or folder: npy, ndjson, bin or npz")
    fit.add_argument("--classes", type=_names, metavar="A,B", help="classes to read (default: all)")
    fit.add_argument("--model", default="sketch28", metavar="NAME", help="recipe (default: %(default)s)")
    add_training(fit, steps=20_000)
    fit.set_defaults(run=_fit)
    sample = actions.add_parser(
        "sample", help="draw", description="Draw a sheet from a trained generator, a row a class."
    )
    sample.add_argument("model", metavar="RUN", help="folder of a run, a checkpoint, or a saved sampler")
    sample.add_argument("--out", required=True, metavar="FILE", help="picture to write")
    sample.add_argument("--classes", type=_names, metavar="A,B", help="rows of the sheet (default: all classes)")
    sample.add_argument("-n", type=int, default=8, metavar="N", help="drawings a class (default: 8)")
    sample.add_argument("--truncation", type=float, metavar="X", help="keep latent numbers within X: fewer oddities")
    sample.add_argument("--scale", type=int, default=2, metavar="N", help="enlarge every pixel (default: 2)")
    sample.add_argument("--ink", action="store_true", help="dark ink on light paper")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all chance (default: 0)")
    sample.set_defaults(run=_sample)
    add_actions(actions)


def _fit(args: argparse.Namespace) -> int:
    device = chosen_device(args.device)
    from cvkit import gan

    data = gan.quickdraw.load(args.data, classes=args.classes)
    run = gan.fit(data, model=args.model, **training_options(args, device))
    return report(run)


def _sample(args: argparse.Namespace) -> int:
    from cvkit._checks import check_integer

    out = check_picture(args.out)
    count = check_integer("-n", args.n, minimum=1)
    import torch

    from cvkit import gan
    from cvkit.io import save_image

    sampler = gan.Sampler.load(args.model)
    names = args.classes or list(sampler.names)
    generator = torch.Generator().manual_seed(check_integer("--seed", args.seed, minimum=0))
    images = sampler.sample(names, n=count, truncation=args.truncation, generator=generator)
    sheet = gan.sample_sheet(images, names, scale=args.scale, invert=args.ink)
    save_image(sheet, out)
    return 0


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
