"""Sample sheets: one row a class, bytes as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkit._checks import check_integer, shown
from cvkit.imgops import contact_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, ArrayLike

__all__ = ["sample_sheet"]


def sample_sheet(
    images: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int = 2,
    invert: bool = False,
) -> ArrayLike:
    """Put class-ordered images on one sheet, a row a class with its name before it.

    The value range is fixed: 0 is black and 255 white whatever the images hold. A sheet that stretches each picture to
    its own range hides a washed-out or collapsed generator.

    Parameters
    ----------
    images : ndarray or Tensor of shape (K * n, C, H, W), or (K * n, H, W)
        uint8, `n` images of the first class, then `n` of the second, as `Sampler.sample` gives them. C is 1 to 4.
    names : sequence of str, optional
        The K class names.
    columns : int, optional
        Images a row, when there are no names; by default all in about a square.
    scale : int, default 2
        Enlarge every pixel so many times.
    invert : bool, default False
        Show ``255 - value``: white on black sketches become ink on paper.

    Returns
    -------
    ndarray of shape (H', W') or (H', W', 3), or Tensor of shape (C', H', W')
        uint8, of the kind given.

    Raises
    ------
    TypeError
        If `images` is not uint8.
    ValueError
        If there is no image, or the images don't divide by the names.

    Examples
    --------
    >>> import torch
    >>> images = torch.zeros(6, 1, 28, 28, dtype=torch.uint8)
    >>> sample_sheet(images, ["cat", "apple"], scale=1).shape[0]
    1
    """
    scale = check_integer("scale", scale, minimum=1)
    batch = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)
    if batch.dtype != np.uint8:
        raise TypeError(f"`images` must be uint8 in [0, 255]; got {shown(images)}")
    if batch.ndim not in {3, 4} or not len(batch) or (batch.ndim == 4 and not 1 <= batch.shape[1] <= 4):
        expected = "of shape (N, C, H, W) or (N, H, W), N >= 1, C from 1 to 4"
        raise ValueError(f"`images` must be {expected}; got {shown(images)}")
    if names is not None:
        if isinstance(names, str) or not len(names) or len(batch) % len(names):
            raise ValueError(
                f"`images` must hold as many images for each of `names`; got {len(batch)} for {shown(names)}"
            )
        columns = len(batch) // len(names)
    if invert:
        batch = 255 - batch
    pictures = batch[:, None] if batch.ndim == 3 else batch
    sheet: torch.Tensor = contact_sheet(
        torch.from_numpy(np.ascontiguousarray(pictures)), columns=columns, row_labels=names, scale=scale, gap=2 * scale
    )
    if isinstance(images, torch.Tensor):
        return sheet
    array: Array = sheet.numpy()
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
