"""How a photograph becomes a network's input, kept beside the weights because it belongs to them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from cvkit import geometry
from cvkit._checks import check_choice, check_finite, check_instance, check_interval, check_size, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, Image, Size

__all__ = ["Preprocess"]


@dataclass(frozen=True)
class Preprocess:
    """Framing and normalisation of the input.

    Parameters
    ----------
    input_size : tuple of int
        Height and width of the network's input.
    mean : sequence of three float, default (0.0, 0.0, 0.0)
        Subtracted from red, green and blue in [0, 1].
    std : sequence of three float, default (1.0, 1.0, 1.0)
        What the difference is divided by.
    fit : {'pad', 'stretch', 'crop'}, default 'pad'
        How a whole photograph is brought to the size: with bars of mid grey, stretched, or its middle cut out.
    margin : float, default 1.25
        A box is enlarged by this factor, and on one side to the input's proportions, before it is cut out.

    Raises
    ------
    ValueError
        If a size or number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.pose import Preprocess
    >>> preprocess = Preprocess((64, 64))
    >>> found = preprocess.frame(np.zeros((100, 200, 3), np.uint8), box=(50, 20, 130, 100))
    >>> found.tensor.shape
    torch.Size([1, 3, 64, 64])
    >>> (found.to_photo @ [31.5, 31.5, 1]).tolist()  # the middle of the box
    [89.5, 59.5]
    """

    input_size: Size
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    fit: Literal["pad", "stretch", "crop"] = "pad"
    margin: float = 1.25

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        for name in ("mean", "std"):
            given = getattr(self, name)
            if isinstance(given, str) or not hasattr(given, "__iter__"):
                raise TypeError(f"`{name}` must be three numbers; got {shown(given)}")
            values = tuple(check_finite(name, value) for value in given)
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise ValueError(f"`{name}` must be three {'positive ' * (name == 'std')}numbers; got {shown(values)}")
            object.__setattr__(self, name, values)
        check_choice("fit", self.fit, ("pad", "stretch", "crop"))
        check_interval("margin", self.margin, 0, low_open=True)

    @property
    def config(self) -> dict[str, object]:
        """The arguments that build this record again, in plain JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def frame(self, photo: Image, box: Sequence[float] | Array | None = None) -> geometry.Prepared:
        """Cut a photograph, or the part of it in a box, to the input size, not yet normalised.

        Parameters
        ----------
        photo : Pillow image, ndarray of shape (H, W) or (H, W, C), or Tensor of shape (C, H, W)
            uint8, uint16 or floats in [0, 1].
        box : sequence of four float, optional
            ``(left, top, right, bottom)`` in the photograph's pixels: pixels left to right - 1 and top to bottom - 1
            belong to it.

        Returns
        -------
        Prepared
            ``tensor (1, 3, H, W)``, float32 in [0, 1], and ``to_photo (2, 3)``, the map back to the photograph's
            pixels.

        Raises
        ------
        ValueError
            If the box is not four finite numbers, or empty.
        """
        if box is None:
            return geometry.prepare(photo, self.input_size, fit=self.fit)
        if len(box) != 4:
            raise ValueError(f"`box` must be (left, top, right, bottom); got {shown(box)}")
        left, top, right, bottom = (check_finite("box", value) for value in box)
        if right <= left or bottom <= top:
            raise ValueError(
                f"`box` must be (left, top, right, bottom) with left < right and top < bottom; got {shown(box)}"
            )
        height, width = self.input_size
        # The smallest window of the input's proportions around the enlarged box; edges of pixels lie at halves.
        scale = max((bottom - top) / height, (right - left) / width) * self.margin
        x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
        rows, columns = photo_size(photo)
        # Only the part that is seen is brought to floats: photographs may be large and boxes many.
        (x0, x1), (y0, y1) = _reach(x, width * scale, columns), _reach(y, height * scale, rows)
        part = _part(photo, x0, y0, x1, y1)
        seen = geometry.prepare(part, photo_size(part), fit="stretch").tensor
        window = (height * scale, width * scale)
        onto = geometry.crop_matrix((x - x0, y - y0), window, self.input_size)
        tensor = geometry.warp(seen, onto, self.input_size, fill=0.5, antialias=True)
        return geometry.Prepared(tensor, geometry.invert(geometry.crop_matrix((x, y), window, self.input_size)))

    def normalize(self, images: Tensor) -> Tensor:
        """Return images ``(N, 3, H, W)`` in [0, 1] with mean subtracted and divided by std.

        Parameters
        ----------
        images : Tensor of shape (N, 3, H, W)
            Floating point.

        Returns
        -------
        Tensor
            A new one.

        Raises
        ------
        TypeError
            If they are not floating-point.
        ValueError
            If they have another shape.
        """
        check_instance("images", images, Tensor)
        if not images.is_floating_point():
            raise TypeError(f"`images` must be floating-point in [0, 1]; got {shown(images)}")
        if images.ndim < 3 or images.shape[-3] != 3:
            raise ValueError(f"`images` must be (N, 3, H, W); got {shown(images)}")
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


def photo_size(photo: Image) -> tuple[int, int]:
    """Return the height and width of a picture of any kind."""
    if isinstance(photo, Tensor) and photo.ndim >= 2:
        return int(photo.shape[-2]), int(photo.shape[-1])
    if isinstance(photo, np.ndarray) and photo.ndim >= 2:
        return photo.shape[0], photo.shape[1]
    if isinstance(photo, PillowImage.Image):
        return photo.height, photo.width
    raise TypeError(f"a picture must be a Pillow image, an array or a tensor; got {shown(photo)}")


def _reach(center: float, length: float, limit: int) -> tuple[int, int]:
    """Return the first and the last pixel plus one that a window touches on an axis, with room for interpolation."""
    first = min(max(math.floor(center - length / 2) - 2, 0), max(limit - 1, 0))
    return first, max(min(math.ceil(center + length / 2) + 3, limit), min(first + 1, limit))


def _part(photo: Image, left: int, top: int, right: int, bottom: int) -> Image:
    """Return a part of a picture of any kind, sharing memory where it can."""
    if isinstance(photo, Tensor):
        return photo[..., top:bottom, left:right]
    if isinstance(photo, np.ndarray):
        return photo[top:bottom, left:right]
    return photo.crop((left, top, right, bottom))


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to uint8."""
    return (images * 255 + 0.5).clamp(0, 255).to(torch.uint8)
