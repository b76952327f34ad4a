"""Copies among images: exact ones by hash, near ones by distance, within a set and across a split."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_integer, check_interval, shown
from cvkit.gan.datasets.imageset import _plain
from cvkit.gan.metrics._features import blocks, squared_distances, watched

if TYPE_CHECKING:
    from cvkit._types import Array, ArrayLike

__all__ = ["find_copies"]


def find_copies(
    images: ArrayLike,
    of: ArrayLike | None = None,
    *,
    near: float = 0.0,
    chunk: int = 1024,
    progress: bool = False,
) -> Array:
    """Return for each image an earlier one, or one of another set, that it is a copy of.

    Parameters
    ----------
    images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
        uint8.
    of : ndarray or Tensor of shape (M, H, W) or (M, C, H, W), optional
        Where to look for originals. Default: among the images themselves, at lower rows.
    near : float, default 0.0
        Largest distance of a near copy: root of the mean squared difference in grey levels of the images blurred by
        (1, 2, 1) / 4 along both axes. 0 finds exact copies only, in time proportional to N; above it every pair is
        compared.
    chunk : int, default 1024
        Rows of a block of distances: bounds memory.
    progress : bool, default False
        Show a bar on a terminal.

    Returns
    -------
    ndarray of shape (N,)
        Row of the original, -1 where there is none. Originals among the images are no copies themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan import find_copies
    >>> images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    >>> find_copies(images[[0, 1, 0, 2, 1]]).tolist()
    [-1, -1, 0, -1, 1]
    """
    near = check_interval("near", near, 0)
    chunk = check_integer("chunk", chunk, minimum=1)
    mine = _checked("images", images)
    base = mine if of is None else _checked("of", of)
    if base.shape[1:] != mine.shape[1:]:
        raise ValueError(f"`of` must hold images of shape {mine.shape[1:]}; got {shown(base)}")
    copies = _exact(mine, None if of is None else base)
    if near > 0 and mine.size and base.size:
        copies = _near(mine, None if of is None else base, copies, near, chunk, progress)
    return copies


def _checked(name: str, images: ArrayLike) -> Array:
    plain = _plain(images)
    if plain.dtype != np.uint8 or plain.ndim not in {3, 4}:
        raise TypeError(f"`{name}` must be uint8 of shape (N, H, W) or (N, C, H, W); got {shown(images)}")
    return plain


def _exact(images: Array, of: Array | None) -> Array:
    seen: dict[bytes, int] = {}
    for row, image in enumerate(() if of is None else of):
        seen.setdefault(_digest(image), row)
    copies = np.full(len(images), -1, np.int64)
    for row, image in enumerate(images):
        digest = _digest(image)
        copies[row] = seen.get(digest, -1) if of is not None else seen.setdefault(digest, row)
        if of is None and copies[row] == row:
            copies[row] = -1
    return copies


def _digest(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _near(images: Array, of: Array | None, copies: Array, near: float, chunk: int, progress: bool) -> Array:
    """Add near copies: of the nearest original in another set, or of the earliest row that is no copy itself."""
    mine = _blurred(images)
    base = mine if of is None else _blurred(of)
    limit = near**2 * mine.shape[1]
    copies = copies.copy()
    for rows in watched(blocks(len(mine), chunk), "near copies", progress):
        if of is not None:
            distances = squared_distances(mine[rows], base)
            nearest = distances.argmin(axis=1)
            hit = (distances[np.arange(len(nearest)), nearest] <= limit) & (copies[rows] < 0)
            copies[rows] = np.where(hit, nearest, copies[rows])
            continue
        distances = squared_distances(mine[rows], base[: rows.stop])
        close = distances <= limit
        for place in np.flatnonzero(close.sum(axis=1) > 1):
            row = rows.start + int(place)
            if copies[row] < 0:
                earlier = np.flatnonzero(close[place, :row] & (copies[:row] < 0))
                copies[row] = earlier[0] if len(earlier) else -1
    return copies


def _blurred(images: Array) -> Array:
    """Return images blurred by (1, 2, 1) / 4 along both axes, as float32 rows."""
    edge = [(0, 0)] * (images.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(images, edge).astype(np.float32)
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    both = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return np.asarray(both.reshape(len(images), -1) / 16)
