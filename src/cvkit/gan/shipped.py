"""The generator that comes with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal

from cvkit._checks import check_choice
from cvkit.gan.sample import Sampler

__all__ = ["pretrained"]

_SAMPLERS = {"sketch9": "sketch9-generator.safetensors"}


def pretrained(name: Literal["sketch9"] = "sketch9") -> Sampler:
    """Return a sampler that comes with the package.

    Parameters
    ----------
    name : {'sketch9'}
        ``sketch9`` draws apple, bicycle, bowtie, cat, diamond, eye, fish, lollipop and rainbow, 28 x 28, white on
        black. It was trained on rows 0 to 1599 of the official bitmaps of each (Quick, Draw! by Google, CC BY 4.0) by
        the recipe in its `preset`; the page on the recipe says what was measured.

    Returns
    -------
    Sampler
        A new one at each call, on the CPU, in eval mode.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> from cvkit import gan
    >>> gan.pretrained("sketch9").sample(["cat", "fish"], n=2).shape
    torch.Size([4, 1, 28, 28])
    """
    check_choice("name", name, tuple(_SAMPLERS))
    with as_file(files("cvkit.gan") / "_data" / _SAMPLERS[name]) as path:
        return Sampler.load(path)
