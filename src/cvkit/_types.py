"""Aliases shared by all submodules. Nothing here imports torch at run time."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from torch import Tensor

__all__ = ["Array", "ArrayLike", "Image", "ImageT", "Size", "StrPath"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""A NumPy array of any dtype; docstrings say which."""

ArrayLike: TypeAlias = Union[Array, "Tensor"]
"""A NumPy array or a torch tensor."""

Image: TypeAlias = Union["PILImage", Array, "Tensor"]
"""A Pillow image, an array ``(H, W)`` or ``(H, W, C)``, or a tensor ``(H, W)``, ``(C, H, W)`` or ``(N, C, H, W)``."""

ImageT = TypeVar("ImageT", bound=Image)
"""One kind of image: what goes in comes out."""

Size: TypeAlias = tuple[int, int]
"""Height and width."""

StrPath: TypeAlias = str | PathLike[str]
"""A path."""
