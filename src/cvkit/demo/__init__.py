"""The main job: show what cvkit does, offline, on generated or on real input, and write it down in one folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cvkit.demo import _gan, _photo, _pose, _report, _shapes, _tone
from cvkit.demo._inputs import check_inputs
from cvkit.demo._scene import landscape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import StrPath

__all__ = ["landscape", "run"]


def run(
    out: StrPath,
    *,
    photo: StrPath | None = None,
    model: str = "efficientnet-lite0",
    target: Sequence[int] | None = None,
    sketches: StrPath | None = None,
    landmarks: StrPath | None = None,
    budget: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Run the demo and write its pictures, ``results.json`` and ``index.html``.

    Everything that was named is read and checked first; nothing is written before all parts are done.

    Parameters
    ----------
    out : path
        Folder for the results; it may exist.
    photo : path, optional
        A photograph, to be explained with a packaged ImageNet classifier and edited by tone. By default a small
        classifier is trained on generated pictures whose object masks are known, and a generated landscape is edited.
    model : {'efficientnet-lite0'}, default 'efficientnet-lite0'
        The packaged classifier for `photo`; needs the extra ``demo``.
    target : sequence of int, optional
        ImageNet classes to explain in `photo`, each in 0..999; by default the three most probable ones.
    sketches : path, optional
        Quick, Draw! drawings, a file or a folder in any official format; by default strokes are generated.
    landmarks : path, optional
        A folder of pictures with landmarks; by default stick figures are generated.
    budget : float, optional
        Seconds of training for each of the two trained parts, more than 0; by default 120 for a part with real input,
        and a short fixed number of steps for generated data.
    seed : int, default 0
        Seed of everything that is drawn at random.
    progress : bool, default True
        Show progress bars where standard error is a terminal.

    Returns
    -------
    pathlib.Path
        The page ``index.html``.

    Raises
    ------
    ImageError
        If `photo` is missing, damaged or not an image.
    DataError
        If `sketches` or `landmarks` are missing, damaged or of no known format.
    ValueError
        If an argument is outside its range, or `out` is not a folder that can be written.
    ModuleNotFoundError
        If `photo` is given without the packages of the extra ``demo``.

    Examples
    --------
    >>> from cvkit import demo
    >>> demo.run("demo", photo="missing.png")
    Traceback (most recent call last):
    cvkit._errors.ImageError: missing.png: no such file
    """
    inputs = check_inputs(out, photo, model, target, sketches, landmarks, budget, seed)
    with tempfile.TemporaryDirectory(prefix="cvkit-demo-") as name:
        scratch = Path(name)
        parts = [
            _shapes.part(seed) if inputs.photo is None else _photo.part(inputs.photo, model, inputs.targets),
            _tone.part(inputs.photo, seed),
            _pose.part(inputs.landmarks, inputs.budget, seed, scratch, progress=progress),
            _gan.part(inputs.sketches, inputs.budget, seed, scratch, progress=progress),
        ]
        return _report.write(inputs.out, parts)
