"""What all measures share: checked features, distances in blocks, progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cvkit._checks import check_integer, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cvkit._types import Array, ArrayLike

__all__ = ["blocks", "check_pair", "nearest", "squared_distances", "watched"]

T = TypeVar("T")


def check_features(name: str, features: ArrayLike, *, minimum: int) -> Array:
    """Return finite features (N, D) as float32 or float64, N at least `minimum`."""
    tensor = getattr(features, "detach", None)
    plain = features.detach().cpu().numpy() if tensor is not None else np.asarray(features)  # type: ignore[union-attr]
    if plain.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` must be numbers; got {shown(features)}")
    plain = plain if plain.dtype in {np.dtype(np.float32), np.dtype(np.float64)} else plain.astype(np.float64)
    if plain.ndim != 2 or plain.shape[1] == 0:
        raise ValueError(f"`{name}` must have shape (N, D), a row a sample; got {shown(features)}")
    if len(plain) < minimum:
        raise ValueError(f"`{name}` must hold at least {minimum} rows; got {len(plain)}")
    if not np.isfinite(plain).all():
        raise ValueError(f"`{name}` must be finite")
    return np.asarray(plain)


def check_pair(real: ArrayLike, fake: ArrayLike, *, minimum: int = 1) -> tuple[Array, Array]:
    """Return two sets of features of one length and one dtype."""
    a, b = check_features("real", real, minimum=minimum), check_features("fake", fake, minimum=minimum)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"`real` and `fake` must have features of one length; got {a.shape[1]} and {b.shape[1]}")
    common = np.result_type(a, b)
    return a.astype(common, copy=False), b.astype(common, copy=False)


def blocks(count: int, size: int) -> list[slice]:
    """Return slices that cover `count` rows, each of at most `size`."""
    size = check_integer("chunk", size, minimum=1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def watched(items: Iterable[T], what: str, progress: bool) -> Iterator[T]:
    """Yield items under a progress bar, which is silent unless asked for and on a terminal."""
    if not progress:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, disable=None, leave=False)


def squared_distances(a: Array, b: Array) -> Array:
    """Return squared Euclidean distances (len(a), len(b)); what rounding cannot tell from zero is zero."""
    mine, theirs = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    distances = (-2.0 * a) @ b.T
    distances += mine[:, None]
    distances += theirs
    rounding = 16 * np.finfo(a.dtype).eps * (mine + theirs.max(initial=0.0))
    distances[distances <= rounding[:, None]] = 0.0
    return np.asarray(distances)


def centred(a: Array, b: Array) -> tuple[Array, Array]:
    """Return both sets shifted by one mean: distances stay, rounding errors shrink."""
    mean = a.mean(axis=0, dtype=np.float64).astype(a.dtype)
    return a - mean, b - mean


def nearest(queries: Array, base: Array, k: int, *, same: bool, chunk: int, progress: bool = False) -> Array:
    """Return the distance of each query to its k-th nearest row of `base`, (N,); `same` leaves the row itself out."""
    out = np.empty(len(queries), base.dtype)
    for rows in watched(blocks(len(queries), chunk), "neighbours", progress):
        distances = squared_distances(queries[rows], base)
        if same:
            distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        out[rows] = np.sqrt(np.partition(distances, k - 1, axis=1)[:, k - 1])
    return out
