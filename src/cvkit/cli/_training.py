"""What the two ``fit`` commands share: options, device, and the last line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import torch

    from cvkit.training import Run

__all__ = ["add_training", "chosen_device", "report", "training_options"]


def add_training(parser: argparse.ArgumentParser, *, steps: int) -> None:
    """Add the options of a run."""
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run; one that exists is continued")
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help="when to stop (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all chance (default: 0)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures a step (default: the recipe's)")
    parser.add_argument(
        "--resume", choices=["auto", "never", "require"], default="auto", help="go on with a run that exists"
    )
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, metavar="N", help="steps between rows of the log")
    parser.add_argument("--max-seconds", type=float, metavar="X", help="stop, saved, after this time")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the forward passes (default: float32)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def chosen_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` takes an accelerator that is there."""
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else accelerator
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"`--device` must be auto or a device of torch such as cpu or cuda; got {name!r}") from None


def training_options(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return the options as `fit` takes them; those that were not given keep its defaults."""
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder; {out} is a file")
    given = {
        "batch_size": args.batch_size,
        "checkpoint_every": args.checkpoint_every,
        "log_every": args.log_every,
        "max_seconds": args.max_seconds,
    }
    return {
        "out": out,
        "steps": args.steps,
        "seed": args.seed,
        "resume": args.resume,
        "device": device,
        "precision": args.precision,
        "progress": not args.quiet,
        **{name: value for name, value in given.items() if value is not None},
    }


def report(run: Run[Any]) -> int:
    """Say where the run is and how far it came."""
    last = run.history[-1] if run.history else {}
    figures = ", ".join(
        f"{name} {value:.4g}" for name, value in last.items() if name != "step" and isinstance(value, float)
    )
    print(f"{run.directory}: step {run.step}" + (f" ({figures})" if figures else ""))
    return 0
