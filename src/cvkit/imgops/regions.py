"""Taking an image apart by tone and putting edited versions together again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, SupportsIndex, cast

import numpy as np

from cvkit._checks import check_finite, check_integer, check_interval, shown
from cvkit.imgops._counting import level_counts, natural_levels, select
from cvkit.imgops._kernels.blending import mask_bytes
from cvkit.imgops._kernels.mixing import mix_by_weights
from cvkit.imgops._kinds import (
    Unpacked,
    check_same_kind,
    from_numpy,
    is_tensor,
    mask_scale,
    quantize,
    unpack,
    unpack_mask,
    working,
)
from cvkit.imgops._luma import check_luma, luma_plane
from cvkit.imgops._merge import TICK
from cvkit.imgops.histograms import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Array, ArrayLike, Image, ImageT

__all__ = ["blend_by_masks", "tone_masks"]

STEPS = 1 << 15  # masks are whole multiples of 1 / STEPS, so that float32 adds them up without error

_BLOCK = 1 << 18  # pixels handled at once


def tone_masks(
    image: Image,
    thresholds: int | Sequence[float] | None = None,
    *,
    softness: float = 0.5,
    mask: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ArrayLike:
    """Return a mask for each range of tones, from dark to light; everywhere the masks sum to exactly one.

    Edit the whole image once for each mask, then put the edits together with `blend_by_masks`.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image with one colour channel, or three whose luma (Rec. 601) is looked at.
    thresholds : int or sequence of float, optional
        A number of classes, to be found by Otsu's method for each image; or rising values, in the units of the image,
        between which the masks change: a value belongs to the lighter class if it is greater. By default the range is
        cut in three: shadows, midtones, highlights.
    softness : float, default 0.5
        How soft the masks change, from 0 (hard edges) to 1 (as soft as goes without three masks meeting): the width
        of a transition as a share of the distance to the nearer neighbouring threshold or end of the range.
    mask : Pillow image, ndarray or Tensor, optional
        Where `thresholds` is a number: only pixels where this is not zero are looked at to find them.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.

    Returns
    -------
    ndarray or Tensor of shape (K, H, W), or (K, N, H, W) for a batch
        float32 in [0, 1], multiples of 2^-15; a tensor on the image's device for tensors, else an array. NaN pixels
        belong to the first mask. For float tensors with a gradient the masks pass on the slope of their transitions.

    Raises
    ------
    TypeError
        If the image is of a kind that has no plain colours.
    ValueError
        If thresholds do not rise or lie outside the range, or the image has neither one nor three colours.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import blend_by_masks, tone_masks
    >>> photo = np.array([[10, 120, 250]], dtype=np.uint8)
    >>> shadows, midtones, highlights = tone_masks(photo, softness=0)
    >>> shadows
    array([[1., 0., 0.]], dtype=float32)
    >>> blend_by_masks([photo + np.uint8(5), photo, photo], [shadows, midtones, highlights])
    array([[ 15, 120, 250]], dtype=uint8)
    """
    softness = check_interval("softness", softness, 0.0, 1.0)
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    check_luma(opened)
    plane = luma_plane(opened)
    cuts = _thresholds(opened, plane, thresholds, mask)
    masks = [_masks_of(opened, plane[n, 0], cuts[n % len(cuts)], softness) for n in range(plane.shape[0])]
    return _stack(opened, masks, cuts.shape[1] + 1)


def blend_by_masks(
    images: Sequence[ImageT],
    masks: ArrayLike | Sequence[Image],
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Put images together, each where its mask is: ``p0 + sum m_i (p_i - p0)``.

    Where all images agree, the result is that value bit for bit, whatever the masks: no edit means no change.

    Parameters
    ----------
    images : sequence of Pillow image, ndarray or Tensor
        At least one image; all of the same kind, dtype and size.
    masks : ndarray or Tensor of shape (K, H, W) or (K, N, H, W), or sequence of images
        A mask for each image, as `tone_masks` makes them: floats in [0, 1], bool, or integers that stand for them
        (uint8, uint16). Together they sum to one everywhere, up to the rounding of 8-bit masks.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels. Where the images
        differ in alpha, each weighs as much as it covers.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
        Results of integer images are clipped to it.
    threads : int, default 1
        Number of threads for 8-bit images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind and dtype. Integers are the exact value, rounded half up. Differentiable for float tensors, with
        respect to images and masks.

    Raises
    ------
    TypeError
        If the images are not all of one kind and dtype.
    ValueError
        If numbers or sizes differ, or the masks do not sum to one or have negative values.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import blend_by_masks
    >>> black, white = np.zeros((1, 3), np.uint8), np.full((1, 3), 255, np.uint8)
    >>> right = np.array([[0.0, 0.5, 1.0]])
    >>> blend_by_masks([black, white], [1 - right, right])
    array([[  0, 128, 255]], dtype=uint8)
    """
    threads = check_integer("threads", threads, minimum=1)
    count = len(images)
    if count == 0:
        raise ValueError("`images` must hold at least one image; got none")
    if len(masks) != count:
        raise ValueError(f"`masks` must hold a mask for each of {count} images; got {len(masks)}")
    opened = [
        unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, name=f"images[{i}]")
        for i, image in enumerate(images)
    ]
    for other in opened[1:]:
        check_same_kind(opened[0], other)
    weights = [unpack_mask(masks[i], opened[0], name=f"masks[{i}]") for i in range(count)]
    for weight in weights[1:]:
        if weight.dtype != weights[0].dtype:
            raise TypeError(f"`masks` must all have the same dtype; got {weights[0].dtype} and {weight.dtype}")
    scale = mask_scale(weights[0], "masks[0]")
    if scale == 1:
        _check_signs(weights)
    if opened[0].integer:
        return cast("ImageT", _blend_integers(opened, cast("list[Array]", weights), scale, threads))
    return cast("ImageT", _blend_floats(opened, weights, scale))


# Masks


def _thresholds(
    opened: Unpacked, plane: ArrayLike, thresholds: int | Sequence[float] | None, mask: Image | None
) -> Array:
    """Return the thresholds, rising, as (N or 1, K - 1)."""
    low, high = opened.low, opened.high
    if thresholds is None:
        return low + (high - low) * np.array([[1 / 3, 2 / 3]])
    if isinstance(thresholds, SupportsIndex):
        classes = check_integer("thresholds", thresholds, minimum=1)
        if classes == 1:
            return np.zeros((1, 0))
        gray = replace(opened, pixels=plane, colors=1, alpha=False)
        levels = natural_levels(opened)
        half = (high - low) / (levels - 1) / 2
        counts = level_counts(gray, levels, select(opened, mask))
        edges = np.linspace(low - half, high + half, levels + 1)
        found = Histogram(counts, edges, np.zeros(counts.shape[:2], np.int64), discrete=True).multi_otsu(classes)[:, 0]
        return np.nan_to_num(found, nan=high)
    given: object = thresholds
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"`thresholds` must be a whole number or a sequence of numbers; got {shown(thresholds)}")
    values = np.array([[check_finite(f"thresholds[{i}]", value) for i, value in enumerate(thresholds)]])
    if not bool(np.all((values >= low) & (values <= high)) and np.all(np.diff(values) >= 0)):
        raise ValueError(f"`thresholds` must rise within [{low:g}, {high:g}]; got {shown(thresholds)}")
    return values


def _masks_of(opened: Unpacked, plane: ArrayLike, cuts: Array, softness: float) -> ArrayLike:
    """Return the masks (K, H, W) of one plane of luma (H, W)."""
    centers, widths = _transitions(opened, cuts, softness)
    if is_tensor(plane):
        return _tensor_masks(plane, centers, widths)
    array = cast("Array", plane)
    masks = np.empty((len(cuts) + 1, *array.shape), np.float32)
    if opened.integer and opened.high - opened.low < 65536:
        low, high = int(opened.low), int(opened.high)
        tables = _mask_tables(np.arange(low, high + 1, dtype=np.float64), centers, widths)
        for rows in _blocks(array.shape):
            part = array[rows].astype(np.int32)
            index = np.clip(part, low, high) - low
            for table, mask in zip(tables, masks, strict=True):
                np.take(table, index, out=mask[rows], mode="clip")
        return masks
    for rows in _blocks(array.shape):
        masks[:, rows] = _mask_tables(array[rows].astype(np.float64), centers, widths)
    return masks


def _transitions(opened: Unpacked, cuts: Array, softness: float) -> tuple[Array, Array]:
    """Return the middle and the width of the transition at each threshold."""
    # Halfway to the next level for integers, so that hard and soft masks agree on which side a level lies.
    centers = np.floor(cuts) + 0.5 if opened.integer else cuts
    gaps = np.diff(np.concatenate([[opened.low], cuts, [opened.high]]))
    return centers, softness * np.minimum(gaps[:-1], gaps[1:]) if len(cuts) else gaps[:0]


def _mask_tables(values: Array, centers: Array, widths: Array) -> Array:
    """Return the masks of float64 values, (K, *shape) float32 in steps of 2^-15."""
    # Whole numbers of steps above each threshold, falling with the threshold: their differences are never negative.
    above = [np.full(values.shape, STEPS, np.int32)]
    for center, width in zip(centers, widths, strict=True):
        if width > 0:
            place = np.clip((values - center) / width + 0.5, 0, 1)
            share = place * place * (3 - 2 * place)
        else:
            share = (values > center).astype(np.float64)
        steps = np.nan_to_num(np.floor(share * STEPS + 0.5)).astype(np.int32)
        above.append(np.minimum(steps, above[-1]))
    above.append(np.zeros(values.shape, np.int32))
    return np.stack([(upper - lower) for upper, lower in pairwise(above)]).astype(np.float32) / np.float32(STEPS)


def _tensor_masks(plane: Tensor, centers: Array, widths: Array) -> Tensor:
    """Return the masks of a float tensor (H, W), (K, H, W) float32 in steps of 2^-15, with the transitions' slope."""
    import torch

    above = [torch.ones_like(plane, dtype=torch.float32)]
    for center, width in zip(centers.tolist(), widths.tolist(), strict=True):
        if width > 0:
            place = ((plane - center) / width + 0.5).nan_to_num(0.0).clamp(0, 1)
            share = (place * place * (3 - 2 * place)).float()
        else:
            share = (plane > center).float()
        rounded = torch.minimum((share.detach() * STEPS + 0.5).floor() / STEPS, above[-1].detach())
        above.append(_rounded(share, rounded))
    above.append(torch.zeros_like(above[0]))
    return torch.stack([upper - lower for upper, lower in pairwise(above)])


def _rounded(share: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, with the gradient of `share`: the difference below is exact, hence so is the sum's value."""
    # share - share.detach() is exactly zero, and adding zero changes nothing.
    return rounded + (share - share.detach())


def _stack(opened: Unpacked, masks: list[ArrayLike], count: int) -> ArrayLike:
    """Return masks of each image, (K, H, W), as one array or tensor: (K, H, W), or (K, N, H, W) for a batch."""
    batch = opened.kind == "tensor" and cast("Tensor", opened.source).ndim == 4
    if not masks:
        masks = [np.zeros((count, *opened.size), np.float32)]
        whole: ArrayLike = masks[0][:, None][:, :0]
    elif is_tensor(masks[0]):
        import torch

        whole = torch.stack(cast("list[Tensor]", masks), 1) if batch else masks[0]
    else:
        whole = np.stack(cast("list[Array]", masks), 1) if batch else masks[0]
    if opened.kind == "tensor" and not is_tensor(whole):
        import torch

        return from_numpy(cast("Array", whole)).to(cast("Tensor", opened.source).device)
    return whole


def _blocks(size: tuple[int, ...]) -> list[slice]:
    step = max(1, _BLOCK // max(size[1], 1))
    return [slice(top, top + step) for top in range(0, size[0], step)]


# Blending


def _check_signs(weights: Sequence[ArrayLike]) -> None:
    """Raise where a weight is negative by more than the sum may be off: with a sum of one, none is then too large."""
    for i, weight in enumerate(weights):
        known = weight.detach() if is_tensor(weight) else weight
        least = float(known.min()) if 0 not in known.shape else 0.0
        if least < -1e-3:
            raise ValueError(f"`masks[{i}]` must lie in [0, 1]; got {least:g}")


def _check_sum(worst: float, count: int, scale: float) -> None:
    """Raise where the weights' sum differs from one by more than half a step of each (floats: a thousandth)."""
    if not worst <= 1e-3 + (count / 2 / scale if scale != 1 else 0.0):
        raise ValueError(f"`masks` must sum to one everywhere; they are off by up to {worst:g}")


def _blend_floats(opened: list[Unpacked], weights: Sequence[ArrayLike], scale: float) -> Image:
    first = opened[0]
    shares = [weight / scale if scale != 1 else weight for weight in weights]
    total: ArrayLike = shares[0] * 1.0
    for share in shares[1:]:
        total = total + share
    known = total.detach() if is_tensor(total) else total
    _check_sum(float((known - 1).__abs__().max()) if 0 not in total.shape else 0.0, len(shares), scale)
    if first.alpha:
        shares = _covering(opened, shares)
    base = working(first.pixels)
    result = base
    for image, share in zip(opened[1:], shares[1:], strict=True):
        result = result + share * (working(image.pixels) - base)
    return first.pack(result)


def _covering(opened: list[Unpacked], shares: Sequence[ArrayLike]) -> list[ArrayLike]:
    """Return weights for all channels: colours weigh by the alpha that they come with, alpha itself does not."""
    colors = opened[0].colors
    covers = [share * working(image.pixels[:, -1:]) for image, share in zip(opened, shares, strict=True)]
    if is_tensor(covers[0]):
        return [*_covering_tensors(cast("list[Tensor]", covers), cast("list[Tensor]", list(shares)), colors)]
    total = sum(covers[1:], covers[0])
    found: list[ArrayLike] = []
    for cover, share in zip(covers, shares, strict=True):
        color = np.where(total == 0, share, np.divide(cover, total, out=np.zeros_like(total), where=total != 0))
        found.append(np.concatenate([color] * colors + [np.broadcast_to(cast("Array", share), color.shape)], 1))
    return found


def _covering_tensors(covers: list[Tensor], shares: list[Tensor], colors: int) -> list[Tensor]:
    import torch

    total = sum(covers[1:], covers[0])
    clear = total == 0
    divisor = torch.where(clear, torch.ones_like(total), total)  # keeps the gradient finite where nothing covers
    found = []
    for cover, share in zip(covers, shares, strict=True):
        color = torch.where(clear, share, cover / divisor)
        found.append(torch.cat([color.expand(-1, colors, -1, -1), share.expand_as(color)], 1))
    return found


def _blend_integers(opened: list[Unpacked], weights: list[Array], scale: float, threads: int) -> Image:
    first = opened[0]
    images = [cast("Array", image.pixels) for image in opened]
    if first.alpha:
        opacities = [image[:, -1] for image in images]
        if not all(np.array_equal(opacities[0], other) for other in opacities[1:]):
            plain_shares = [weight.astype(np.float64) / scale for weight in weights]
            off = np.abs(sum(plain_shares[1:], plain_shares[0]) - 1)
            _check_sum(float(off.max(initial=0.0)), len(weights), scale)
            shares = _covering(opened, plain_shares)
            total = images[0].astype(np.float64)
            for image, share in zip(images[1:], shares[1:], strict=True):
                total += share * (image.astype(np.float64) - images[0])
            return first.pack(quantize(total + TICK, first.low, first.high, first.dtype))
    plain = len(images) == 2 and scale == 255 and images[0].dtype == np.uint8 and (first.low, first.high) == (0, 255)
    if plain and bool((weights[0] == ~weights[1]).all()):
        # Two pictures of bytes and a mask of bytes that sums to 255 exactly have a kernel of their own.
        return first.pack(mask_bytes(images[0], images[1], weights[1], threads))
    mixed, worst = mix_by_weights(images, weights, scale, (first.low, first.high), threads)
    _check_sum(worst, len(weights), scale)
    return first.pack(mixed)
