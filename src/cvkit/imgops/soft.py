"""Differentiable counterparts of counting, equalising and matching, for floating-point tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cvkit._checks import check_integer, shown
from cvkit.imgops._counting import is_batch
from cvkit.imgops._kinds import Unpacked, is_tensor, mask_scale, unpack, unpack_mask, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from cvkit._types import Image

__all__ = ["soft_equalize", "soft_histogram", "soft_match"]


def soft_histogram(
    image: Tensor,
    *,
    bins: int = 256,
    data_range: Sequence[float] | None = None,
    mask: Image | None = None,
    weights: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
) -> Tensor:
    """Count the values of every colour channel so that the counts have a gradient.

    Each pixel splits its vote between the two bins whose centres it lies between, by distance.

    Parameters
    ----------
    image : Tensor
        Floating-point image (H, W), (C, H, W) or batch (N, C, H, W); alpha is not counted.
    bins : int, default 256
        Number of evenly wide bins, at least 2.
    data_range : (low, high), optional
        Range that the bins cover, by default [0, 1]. Values outside count in the end bins.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where it is not zero are counted; shape (H, W), or (N, H, W) for a batch.
    weights : Pillow image, ndarray or Tensor, optional
        How much each pixel counts, of the same shape as a mask; floats may have a gradient.
    channel_axis : int, optional
        The axis of the channels where it is not the third from the end.
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.

    Returns
    -------
    Tensor of shape (C, bins) or (N, C, bins)
        Counts, of the image's dtype (float32 for half precision) and on its device. They sum to the number of pixels
        counted; NaN are not. Takes memory for a few numbers a pixel, whatever the number of bins.

    Raises
    ------
    TypeError
        If the image is not a floating-point tensor.

    Notes
    -----
    The gradient is that of straight lines between bin centres: exact in between, with a kink at each centre.

    Examples
    --------
    >>> import torch
    >>> from cvkit.imgops import soft_histogram
    >>> soft_histogram(torch.tensor([[0.25, 0.5, 0.75]]), bins=2)
    tensor([[1.5000, 1.5000]])
    """
    opened = _open(image, channel_axis, alpha, data_range, "image")
    bins = check_integer("bins", bins, minimum=2)
    votes = _votes(opened, mask)
    if weights is not None:
        view = cast("Tensor", unpack_mask(weights, opened, name="weights"))
        share = view / mask_scale(view, "weights")
        votes = share.to(votes.dtype) if mask is None else votes * share
    counts = _soft_counts(opened, bins, votes)
    return counts if is_batch(opened) else counts[0]


def soft_equalize(
    image: Tensor,
    *,
    bins: int = 256,
    mask: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> Tensor:
    """Spread the values evenly, with a gradient through the histogram as well as through the values.

    Parameters
    ----------
    image : Tensor
        Floating-point image (H, W), (C, H, W) or batch (N, C, H, W); alpha is left alone.
    bins : int, default 256
        Number of bins that are counted.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where this is not zero are counted.
    channel_axis : int, optional
        The axis of the channels where it is not the third from the end.
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default [0, 1].

    Returns
    -------
    Tensor
        The share of pixels below each value, stretched to the range: the same shape and dtype. Close to `equalize`,
        which counts hard and takes the lowest value to the bottom. NaN stays NaN.

    Raises
    ------
    TypeError
        If the image is not a floating-point tensor.

    Examples
    --------
    >>> import torch
    >>> from cvkit.imgops import soft_equalize
    >>> dark = torch.linspace(0.0, 0.5, 6).reshape(2, 3)
    >>> soft_equalize(dark, bins=16).diff().mean().round(decimals=2)
    tensor(0.1800)
    """
    opened = _open(image, channel_axis, alpha, data_range, "image")
    bins = check_integer("bins", bins, minimum=2)
    shares = _soft_cdf(_soft_counts(opened, bins, _votes(opened, mask)))
    return cast("Tensor", opened.pack_color(_scaled(_read(_place(opened, bins), shares), opened)))


def soft_match(
    image: Tensor,
    reference: Tensor,
    *,
    bins: int = 256,
    mask: Image | None = None,
    reference_mask: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> Tensor:
    """Give an image the histogram of a reference, with a gradient through both histograms.

    Parameters
    ----------
    image : Tensor
        Floating-point image (H, W), (C, H, W) or batch (N, C, H, W); alpha is left alone.
    reference : Tensor
        Floating-point image of any size with as many colour channels, or a batch of as many.
    bins : int, default 256
        Number of bins that are counted.
    mask, reference_mask : Pillow image, ndarray or Tensor, optional
        Only pixels where these are not zero are counted.
    channel_axis : int, optional
        The axis of the channels, in both images, where it is not the third from the end.
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.
    data_range : (low, high), optional
        Range of the values of both images, by default [0, 1].

    Returns
    -------
    Tensor
        The same shape and dtype as `image`. Close to `match_histograms`; NaN stays NaN.

    Raises
    ------
    TypeError
        If an image is not a floating-point tensor.
    ValueError
        If the numbers of channels or images do not fit.

    Examples
    --------
    >>> import torch
    >>> from cvkit.imgops import soft_match
    >>> dark, light = torch.linspace(0, 0.5, 100).reshape(10, 10), torch.linspace(0.5, 1, 100).reshape(10, 10)
    >>> bool((soft_match(dark, light, bins=32) - light).abs().max() < 0.02)
    True
    """
    opened = _open(image, channel_axis, alpha, data_range, "image")
    other = _open(reference, channel_axis, alpha, data_range, "reference")
    bins = check_integer("bins", bins, minimum=2)
    if other.colors != opened.colors or other.pixels.shape[0] not in {1, opened.pixels.shape[0]}:
        raise ValueError(
            f"`reference` must have {opened.colors} colour channels and be one image or as many as `image`; "
            f"got {shown(reference)}"
        )
    shares = _read(_place(opened, bins), _soft_cdf(_soft_counts(opened, bins, _votes(opened, mask))))
    wanted = _soft_cdf(_soft_counts(other, bins, _votes(other, reference_mask))).to(shares)
    return cast("Tensor", opened.pack_color(_scaled(_invert(shares, wanted), opened)))


def _open(
    image: Tensor, channel_axis: int | None, alpha: bool | None, data_range: Sequence[float] | None, name: str
) -> Unpacked:
    if not is_tensor(image) or not image.dtype.is_floating_point:
        raise TypeError(f"`{name}` must be a floating-point tensor; got {shown(image)}")
    return unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, name=name)


def _votes(opened: Unpacked, mask: Image | None) -> Tensor:
    """Return 1 for pixels that are counted, else 0: (N or 1, 1, H, W)."""
    color = cast("Tensor", working(opened.color))
    if mask is None:
        return color.new_ones((1, 1, 1, 1))
    return (cast("Tensor", unpack_mask(mask, opened)) != 0).to(color.dtype)


def _place(opened: Unpacked, bins: int) -> Tensor:
    """Return where values lie on the axis of bins: bin k reaches from k to k + 1."""
    color = cast("Tensor", working(opened.color))
    return (color - opened.low) * (bins / (opened.high - opened.low))


def _soft_counts(opened: Unpacked, bins: int, votes: Tensor) -> Tensor:
    """Count into (N, C, bins); each pixel votes for the two nearest centres."""
    place = (_place(opened, bins) - 0.5).clamp(0, bins - 1)
    known = ~place.isnan()
    place = place.nan_to_num(0.0)
    left = place.detach().floor().clamp(max=bins - 2).long()
    votes = votes * known
    share = place - left
    counts = place.new_zeros((*place.shape[:2], bins))
    counts = counts.scatter_add(2, left.flatten(2), (votes * (1 - share)).flatten(2))
    return counts.scatter_add(2, left.flatten(2) + 1, (votes * share).flatten(2))


def _soft_cdf(counts: Tensor) -> Tensor:
    """Return the share of votes up to each edge of the bins, (N, C, bins + 1), strictly rising from 0 to 1."""
    import torch

    # A trace in every bin keeps the curve invertible and the gradient finite where nothing was counted.
    counts = counts + 1e-6 * counts.detach().mean(2, keepdim=True).clamp(min=1e-6)
    summed = counts.cumsum(2)
    summed = summed / summed[:, :, -1:]
    return torch.cat([torch.zeros_like(summed[:, :, :1]), summed], 2)


def _read(place: Tensor, table: Tensor) -> Tensor:
    """Return a table over whole places 0 .. bins, read at real ones."""
    bins = table.shape[2] - 1
    place = place.clamp(0, bins)
    left = place.detach().nan_to_num(0.0).floor().clamp(max=bins - 1).long()
    low, high = (table.gather(2, (left + k).flatten(2)).view(place.shape) for k in (0, 1))
    return low + (place - left) * (high - low)


def _invert(shares: Tensor, table: Tensor) -> Tensor:
    """Return where on the axis of bins, scaled to [0, 1], a rising table reaches these shares."""
    import torch

    bins = table.shape[2] - 1
    table = table.expand(*shares.shape[:2], -1).contiguous()
    # Half a pixel from the ends, and clear of the traces in empty bins: the lowest value reaches the lowest one
    # counted.
    least = max(0.5 / max(shares[0, 0].numel(), 1), 4e-6) if shares.numel() else 0.0
    flat = shares.flatten(2).clamp(least, 1 - least)
    right = torch.searchsorted(table.detach(), flat.detach().nan_to_num(0.0).contiguous()).clamp(1, bins)
    low, high = table.gather(2, right - 1), table.gather(2, right)
    return ((right - 1 + (flat - low) / (high - low)) / bins).view(shares.shape)


def _scaled(values: Tensor, opened: Unpacked) -> Tensor:
    return opened.low + (opened.high - opened.low) * values
