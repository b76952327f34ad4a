"""``cvkit imgops``: tone, histogram and blending operations on picture files and folders."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from cvkit.cli._output import find_pictures, staged

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from cvkit.cli._doctor import Commands

__all__ = ["add_parser"]

Edit: TypeAlias = Callable[["PILImage"], "PILImage"]
Number = TypeVar("Number", int, float)
Option: TypeAlias = tuple[str, dict[str, Any]]

_KEPT = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm"}  # other endings become .png
_BY: Option = (
    "--by",
    {"choices": ["channel", "luma"], "default": "channel", "help": "each channel, or brightness alone"},
)


class _Operation(NamedTuple):
    """One operation: its help, its options, and the function that makes an edit of them."""

    help: str
    make: Callable[[argparse.Namespace], Edit]
    options: tuple[Option, ...] = ()


def add_parser(commands: Commands) -> None:
    """Add the command and its operations."""
    parser = commands.add_parser(
        "imgops",
        help="edit pictures by tone, histogram and blending",
        description="Edit picture files, or all pictures of folders. Results keep their names and come to a folder of "
        "their own, all or none.",
    )
    operations = parser.add_subparsers(title="operations", metavar="NAME", required=True)
    for name, operation in _OPERATIONS.items():
        sub = operations.add_parser(
            name, help=operation.help, description=operation.help[:1].upper() + operation.help[1:] + "."
        )
        sub.add_argument("images", nargs="+", metavar="IMAGE", help="picture files or folders")
        sub.add_argument("--out", required=True, metavar="DIR", help="folder for the results; it may exist")
        sub.add_argument("--quiet", action="store_true", help="no progress bar")
        for flag, settings in operation.options:
            sub.add_argument(flag, **settings)
        sub.set_defaults(run=_run, make=operation.make)


def _run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from cvkit.io import load_image, save_image

    files = find_pictures(args.images)
    names = _names(files, Path(args.out))
    edit = args.make(args)
    with staged(args.out) as folder:
        # None: no bar where standard error is no terminal.
        for file, name in zip(tqdm(files, unit="picture", disable=True if args.quiet else None), names, strict=True):
            picture = load_image(file)
            try:
                edited = edit(picture)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file}: {error}") from error
            save_image(edited, folder / name)
    return 0


def _names(files: list[Path], out: Path) -> list[str]:
    """Return the names of the results, which must be distinct and must not replace an input."""
    names = [file.name if file.suffix.lower() in _KEPT else f"{file.stem}.png" for file in files]
    taken: dict[str, Path] = {}
    for file, name in zip(files, names, strict=True):
        if name in taken:
            raise ValueError(f"{taken[name]} and {file} would both become {name}")
        taken[name] = file
        if (out / name).exists() and any((out / name).samefile(other) for other in files):
            raise ValueError(f"`--out` must not be the folder of the pictures: {out / name} would be replaced")
    return names


def _equalize(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.equalize(image, method=args.method, by=args.by)


def _clahe(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.clahe(image, clip_limit=args.clip_limit, grid_size=args.grid_size, by=args.by)


def _match(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import load_image

    reference = load_image(args.reference)
    return lambda image: imgops.match_histograms(image, reference)


def _transfer(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import load_image

    reference = load_image(args.reference)
    return lambda image: imgops.transfer_color(image, reference, method=args.method, strength=args.strength)


def _autocontrast(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.autocontrast(image, args.low, args.high, by=args.by)


def _gamma(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.gamma(image, args.exponent, gain=args.gain)


def _levels(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.levels(
        image, black=args.black, white=args.white, gamma=args.gamma, out_black=args.out_black, out_white=args.out_white
    )


def _curve(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.curve(image, args.points)


def _log(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.log(image, gain=args.gain, inverse=args.inverse)


def _sigmoid(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.sigmoid(image, cutoff=args.cutoff, gain=args.gain)


def _posterize(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.posterize(image, args.levels)


def _solarize(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.solarize(image, args.threshold)


def _invert(_: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return imgops.invert


def _threshold(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.threshold(image, args.value)


def _blend(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import load_image

    source = load_image(args.source)
    mask = None if args.mask is None else load_image(args.mask, mode="L")
    return lambda image: imgops.composite(
        source,
        image,
        mode=args.mode,
        operator=args.operator,
        opacity=args.opacity,
        mask=mask,
        offset=args.offset,
        space=args.space,
    )


def _dissolve(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import load_image

    other = load_image(args.other)
    return lambda image: imgops.dissolve(image, other, args.share)


def _watermark(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import load_image

    if not args.text and args.mark is None:
        raise ValueError("`--text` or `--mark` must say what the mark is")
    mark = args.text if args.mark is None else load_image(args.mark)
    return lambda image: imgops.watermark(image, mark, position=args.position, opacity=args.opacity)


def _blur(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.gaussian_blur(image, args.sigma)


def _resize(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.resize(image, args.size, mode=args.mode)


def _colormap(args: argparse.Namespace) -> Edit:
    from cvkit import imgops

    return lambda image: imgops.apply_colormap(image, args.map)


def _histogram(args: argparse.Namespace) -> Edit:
    from cvkit import imgops
    from cvkit.io import to_pillow

    return lambda image: to_pillow(imgops.draw_histogram(imgops.histogram(image), scale=args.scale))


def _two(text: str, kind: Callable[[str], Number], name: str) -> tuple[Number, Number]:
    try:
        first, second = map(kind, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two {name} with a comma between, got {text!r}") from None
    return first, second


def _pair(text: str) -> tuple[int, int]:
    """Parse ``8,8``."""
    return _two(text, int, "whole numbers")


def _point(text: str) -> tuple[float, float]:
    """Parse ``128,180.5``."""
    return _two(text, float, "numbers")


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _number(default: float | None, text: str, **more: Any) -> dict[str, Any]:
    shown = "" if default is None else f" (default: {default:g})"
    return {"type": float, "default": default, "metavar": "X", "help": text + shown, **more}


_REFERENCE: Option = ("--reference", {"required": True, "metavar": "FILE", "help": "the picture to follow"})
_OPERATIONS = {
    "equalize": _Operation(
        "spread the histogram evenly",
        _equalize,
        (("--method", {"choices": ["opencv", "pillow"], "default": "opencv", "help": "whose rounding rule"}), _BY),
    ),
    "clahe": _Operation(
        "equalize locally, with limited contrast",
        _clahe,
        (
            ("--clip-limit", _number(2.0, "limit of the contrast")),
            (
                "--grid-size",
                {"type": _pair, "default": (8, 8), "metavar": "ROWS,COLUMNS", "help": "tiles (default: 8,8)"},
            ),
            _BY,
        ),
    ),
    "match": _Operation("give pictures the histogram of another", _match, (_REFERENCE,)),
    "transfer": _Operation(
        "give pictures the colours of another",
        _transfer,
        (
            _REFERENCE,
            (
                "--method",
                {"choices": ["reinhard", "monge-kantorovich"], "default": "reinhard", "help": "by which statistics"},
            ),
            ("--strength", _number(1.0, "0 leaves the picture, 1 transfers in full")),
        ),
    ),
    "autocontrast": _Operation(
        "stretch the tones to the whole range",
        _autocontrast,
        (
            ("--low", _number(0.0, "percent of dark pixels to ignore")),
            ("--high", _number(0.0, "percent of light ones")),
            _BY,
        ),
    ),
    "gamma": _Operation(
        "raise the tones to a power",
        _gamma,
        (("--exponent", _number(None, "below 1 lightens", required=True)), ("--gain", _number(1.0, "factor"))),
    ),
    "levels": _Operation(
        "set black point, white point and gamma",
        _levels,
        (
            ("--black", _number(None, "tone that becomes black")),
            ("--white", _number(None, "tone that becomes white")),
            ("--gamma", _number(1.0, "above 1 lightens the middle")),
            ("--out-black", _number(None, "darkest tone of the result")),
            ("--out-white", _number(None, "lightest tone of the result")),
        ),
    ),
    "curve": _Operation(
        "bend the tones by a smooth curve through points",
        _curve,
        (
            (
                "--points",
                {
                    "type": _point,
                    "nargs": "+",
                    "required": True,
                    "metavar": "BEFORE,AFTER",
                    "help": "tones before and after, rising, such as 0,0 128,180 255,255",
                },
            ),
        ),
    ),
    "log": _Operation(
        "lighten the dark tones by a logarithm",
        _log,
        (
            ("--gain", _number(1.0, "factor")),
            ("--inverse", {"action": "store_true", "help": "darken by the power of two instead"}),
        ),
    ),
    "sigmoid": _Operation(
        "raise the contrast of the middle tones",
        _sigmoid,
        (("--cutoff", _number(0.5, "middle, as a share of the range")), ("--gain", _number(10.0, "steepness"))),
    ),
    "posterize": _Operation(
        "keep a few tones only",
        _posterize,
        (("--levels", {"type": int, "required": True, "metavar": "N", "help": "tones a channel"}),),
    ),
    "solarize": _Operation(
        "invert the tones from a threshold on", _solarize, (("--threshold", _number(None, "by default the middle")),)
    ),
    "invert": _Operation("turn the tones round", _invert),
    "threshold": _Operation(
        "make pictures black and white",
        _threshold,
        (
            (
                "--value",
                {
                    "type": _number_or_name,
                    "default": "otsu",
                    "metavar": "X",
                    "help": "a tone, or a method (default: otsu)",
                },
            ),
        ),
    ),
    "blend": _Operation(
        "lay a picture over pictures",
        _blend,
        (
            ("--with", {"dest": "source", "required": True, "metavar": "FILE", "help": "the picture on top"}),
            (
                "--mode",
                {"default": "normal", "metavar": "NAME", "help": "blend mode of the W3C (default: %(default)s)"},
            ),
            (
                "--operator",
                {"default": "source-over", "metavar": "NAME", "help": "Porter-Duff operator (default: %(default)s)"},
            ),
            ("--opacity", _number(1.0, "of the picture on top")),
            ("--mask", {"metavar": "FILE", "help": "grey picture: white shows the picture on top"}),
            ("--offset", {"type": _pair, "default": (0, 0), "metavar": "ROW,COLUMN", "help": "its top-left corner"}),
            ("--space", {"choices": ["srgb", "linear"], "default": "srgb", "help": "where to mix"}),
        ),
    ),
    "dissolve": _Operation(
        "mix pictures with another of their size",
        _dissolve,
        (
            ("--with", {"dest": "other", "required": True, "metavar": "FILE", "help": "the other picture"}),
            ("--share", _number(0.5, "of the other picture")),
        ),
    ),
    "watermark": _Operation(
        "put a mark on pictures",
        _watermark,
        (
            ("--text", {"default": "", "metavar": "TEXT", "help": "the mark, in letters"}),
            ("--mark", {"metavar": "FILE", "help": "or a small picture, whose alpha counts"}),
            (
                "--position",
                {"default": "bottom-right", "metavar": "NAME", "help": "where, or tile (default: %(default)s)"},
            ),
            ("--opacity", _number(0.5, "of the mark")),
        ),
    ),
    "blur": _Operation(
        "smooth by a Gaussian", _blur, (("--sigma", _number(None, "its standard deviation in pixels", required=True)),)
    ),
    "resize": _Operation(
        "give pictures another size",
        _resize,
        (
            ("--size", {"type": _pair, "required": True, "metavar": "HEIGHT,WIDTH", "help": "in pixels"}),
            (
                "--mode",
                {"choices": ["nearest", "bilinear", "bicubic"], "default": "bilinear", "help": "how to interpolate"},
            ),
        ),
    ),
    "colormap": _Operation(
        "turn grey pictures into colours",
        _colormap,
        (("--map", {"default": "ember", "metavar": "NAME", "help": "the colour map (default: %(default)s)"}),),
    ),
    "histogram": _Operation(
        "draw the histograms",
        _histogram,
        (("--scale", {"choices": ["linear", "sqrt", "log"], "default": "linear", "help": "of the counts"}),),
    ),
}
