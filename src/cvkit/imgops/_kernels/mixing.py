"""Mixing any number of images by weights that sum to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit.imgops._kernels.memory import in_parts, memory_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvkit._types import Array

__all__ = ["mix_by_weights"]

_CHUNK = 1 << 15  # pixels mixed at once, three floats each


def mix_by_weights(
    images: list[Array], weights: list[Array], scale: float, limits: tuple[float, float], threads: int = 1
) -> tuple[Array, float]:
    """Return ``p0 + sum w_i / scale (p_i - p0)`` of integer images (N, C, H, W), half up, clipped.

    Also returns by how much the weights' sum differs from 1 at worst. Chunks stay in the cache, where the weights of an
    interleaved image are repeated for its channels instead of being broadcast.
    """
    result = np.empty_like(images[0])
    worst = [0.0]
    for n in range(len(result)):
        order = _planar_or_interleaved(images[0][n])
        sources = [np.ascontiguousarray(image[n].transpose(order)) for image in images]
        shares = [np.ascontiguousarray(weight[n % len(weight)].transpose(order)).reshape(-1) for weight in weights]
        target = result[n].transpose(order)
        out = target if target.flags.c_contiguous else np.empty(target.shape, target.dtype)
        repeats = sources[0].shape[2] if order[2] == 0 else 1
        planes = 1 if repeats > 1 else sources[0].shape[0]
        flat = [source.reshape(planes, -1) for source in sources]
        for plane in range(planes):
            parts, into = [source[plane] for source in flat], out.reshape(planes, -1)[plane]
            work = _mixer(parts, shares, into, repeats, scale, limits, worst)
            in_parts(work, shares[0].size, threads, _CHUNK)
        if out is not target:
            target[...] = out
    return result, max(worst)


def _planar_or_interleaved(planes: Array) -> tuple[int, ...]:
    """Return the order of axes of (C, H, W) that comes nearest to its memory, with the channels first or last."""
    order = memory_order(planes)
    if planes.shape[0] == 1 or order[0] == 0:
        return 0, *(axis for axis in order if axis)
    return (*(axis for axis in order if axis), 0) if order[2] == 0 else (0, 1, 2)


def _mixer(
    sources: list[Array],
    shares: list[Array],
    out: Array,
    repeats: int,
    scale: float,
    limits: tuple[float, float],
    worst: list[float],
) -> Callable[[int, int], None]:
    """Return the work on pixels start to stop of flat images, in which `repeats` values share a weight."""
    step = _CHUNK

    def work(first: int, last: int) -> None:
        off = 0.0
        room = np.empty((3, step * repeats), np.float64)
        for start in range(first, last, step):
            stop = min(start + step, last)
            pixels = slice(start * repeats, stop * repeats)
            chosen = [share[start:stop] for share in shares]
            error = _sum_error(chosen, scale)
            off = max(off, error)
            if error == np.inf:
                continue  # NaN among the weights, which the caller refuses
            # 8-bit values times whole weights up to 255, or steps of 2^-15, are exact in the 24 bits of float32.
            narrow = out.dtype.itemsize == 1 and all(_fits_float32(share) for share in chosen)
            kind: Any = np.float32 if narrow else np.float64
            base, change, weight = (row.view(kind)[: pixels.stop - pixels.start] for row in room)
            np.copyto(base, sources[0][pixels])
            total = base if len(sources) == 1 else base * kind(scale)
            if total is base and scale != 1:
                total *= kind(scale)
            for source, share in zip(sources[1:], chosen[1:], strict=True):
                np.copyto(change, source[pixels])
                change -= base
                for k in range(repeats):
                    weight[k::repeats] = share
                change *= weight
                total += change
            total += kind(scale / 2)
            if scale != 1:
                # A whole number and a half over an odd `scale` is never whole, and farther from it than rounding
                # reaches.
                total /= kind(scale)
            if error or limits[0] < 0 or any(share.size and share.min() < 0 for share in chosen):
                np.clip(np.floor(total, out=total), *limits, out=total)
            # Weights that are not negative and sum to one leave nothing to clip, and conversion rounds down by itself.
            np.copyto(out[pixels], total, casting="unsafe")
        worst.append(off)

    return work


def _fits_float32(share: Array) -> bool:
    if share.dtype.kind != "f":
        return share.dtype.itemsize == 1
    steps = share * np.float32(1 << 15)
    return bool((np.rint(steps) == steps).all())


def _sum_error(shares: list[Array], scale: float) -> float:
    """Return the largest difference of the weights' sum from 1; infinite where it is NaN."""
    kind: Any = np.uint32 if shares[0].dtype.kind != "f" else shares[0].dtype
    total = shares[0].astype(kind)
    for share in shares[1:]:
        total += share
    if (total == kind.type(scale) if shares[0].dtype.kind == "f" else total == int(scale)).all():
        return 0.0
    worst = float(np.abs(total.astype(np.float64) / scale - 1).max())
    return np.inf if np.isnan(worst) else worst
