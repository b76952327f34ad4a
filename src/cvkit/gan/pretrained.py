"""Weights that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal

from cvkit._checks import check_choice
from cvkit.gan.judge import Judge

__all__ = ["pretrained_judge"]

_JUDGES = {"sketch9": "sketch9-judge.safetensors"}


def pretrained_judge(name: Literal["sketch9"] = "sketch9") -> Judge:
    """Return a judge that comes with the package.

    Parameters
    ----------
    name : {'sketch9'}
        ``sketch9`` knows apple, bicycle, bowtie, cat, diamond, eye, fish, lollipop and rainbow. It was trained on
        rows 0 to 1599 of the official 28 x 28 bitmaps of each (Quick, Draw! by Google, CC BY 4.0); ``.about`` holds
        its accuracy on rows 1600 to 1999, clean and under each fault.

    Returns
    -------
    Judge
        A new one at each call, on the CPU, in eval mode.

    Examples
    --------
    >>> from cvkit import gan
    >>> gan.pretrained_judge().names[:3]
    ('apple', 'bicycle', 'bowtie')
    """
    check_choice("name", name, tuple(_JUDGES))
    with as_file(files("cvkit.gan") / "_data" / _JUDGES[name]) as path:
        return Judge.load(path)
