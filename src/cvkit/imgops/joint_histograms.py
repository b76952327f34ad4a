"""Joint histograms: how often values of several channels, or several images, occur together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cvkit._checks import check_integer
from cvkit.imgops._counting import (
    as_numpy,
    bin_edges,
    chosen_values,
    has_edges,
    is_batch,
    pixel_weights,
    plane_of,
    select,
)
from cvkit.imgops._kinds import unpack, unpack_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, Image

__all__ = ["JointHistogram", "joint_histogram"]


@dataclass(frozen=True, eq=False)
class JointHistogram:
    """Counts of how often values of several channels occur together.

    Made by `joint_histogram`.

    Parameters
    ----------
    counts : ndarray of shape (bins,) * D or (N,) + (bins,) * D
        Counts for D channels together, int64, or float64 where pixels were weighted.
    edges : ndarray of shape (bins + 1,)
        Edges of the bins, the same for every channel.
    missing : ndarray of shape () or (N,)
        How many pixels were left out because a channel was NaN.
    channels : int
        D, the number of channels.
    """

    counts: Array
    edges: Array
    missing: Array
    channels: int

    def __add__(self, other: JointHistogram) -> JointHistogram:
        if not isinstance(other, JointHistogram):
            return NotImplemented
        if self.counts.shape != other.counts.shape or not np.array_equal(self.edges, other.edges):
            raise ValueError("joint histograms must have the same bins and channels to be added")
        return JointHistogram(self.counts + other.counts, self.edges, self.missing + other.missing, self.channels)

    def density(self) -> Array:
        """Return the share of each cell.

        Returns
        -------
        ndarray of the shape of `counts`
            Sums to 1 over the bins; zeros where nothing was counted.
        """
        axes = tuple(range(-self.channels, 0))
        total = self.counts.sum(axes, keepdims=True).astype(np.float64)
        found: Array = np.divide(self.counts, total, out=np.zeros(self.counts.shape), where=total > 0)
        return found

    def marginal(self, channel: int) -> Array:
        """Return the counts of one channel alone.

        Parameters
        ----------
        channel : int
            Index among the joined channels.

        Returns
        -------
        ndarray of shape (bins,) or (N, bins)
            Sums over the other channels.
        """
        kept = check_integer("channel", channel, minimum=0, maximum=self.channels - 1) - self.channels
        found: Array = self.counts.sum(tuple(axis for axis in range(-self.channels, 0) if axis != kept))
        return found

    def entropy(self, base: float = 2.0) -> Array:
        """Return Shannon's joint entropy.

        Parameters
        ----------
        base : float, default 2.0
            Base of the logarithm: 2 gives bits.

        Returns
        -------
        ndarray of shape () or (N,)
            From 0 to D times the logarithm of the number of bins.
        """
        if not base > 1:
            raise ValueError(f"`base` must be greater than 1; got {base}")
        p = self.density()
        terms = p * np.log(p, out=np.zeros_like(p), where=p > 0)
        found: Array = -terms.sum(tuple(range(-self.channels, 0))) / np.log(base) + 0.0
        return found

    def mutual_information(self, base: float = 2.0) -> Array:
        """Return how much the channels tell of each other: the sum of their entropies less the joint one.

        Parameters
        ----------
        base : float, default 2.0
            Base of the logarithm: 2 gives bits.

        Returns
        -------
        ndarray of shape () or (N,)
            0 for independent channels (with more than two: their total correlation).
        """
        alone = []
        for channel in range(self.channels):
            counts = self.marginal(channel)
            single = JointHistogram(counts, self.edges, self.missing, 1)
            alone.append(single.entropy(base))
        return np.asarray(sum(alone) - self.entropy(base))


def joint_histogram(
    image: Image,
    *others: Image,
    bins: int | Sequence[float] = 32,
    channels: Sequence[int] | None = None,
    data_range: Sequence[float] | None = None,
    mask: Image | None = None,
    weights: Image | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
) -> JointHistogram:
    """Count how often values of several channels occur together.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind.
    *others : Pillow image, ndarray or Tensor
        More images of the same size, whose colour channels follow the first one's.
    bins : int or sequence of float, default 32
        Number of evenly wide bins for each channel, or their edges.
    channels : sequence of int, optional
        Which colour channels to join, by default all of them; at most four.
    data_range : (low, high), optional
        Range that the bins cover, as in `histogram`.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where it is not zero are counted; shape (H, W), or (N, H, W) for a batch.
    weights : Pillow image, ndarray or Tensor, optional
        How much each pixel counts, as in `histogram`.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.

    Returns
    -------
    JointHistogram
        Counts of shape (bins,) * D for D channels, with the batch in front for (N, C, H, W). Pixels with a NaN among
        the joined channels are left out.

    Raises
    ------
    ValueError
        If there are more than four channels, or more than 2^24 cells, or sizes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import joint_histogram
    >>> a = np.array([[0, 0, 255, 255]], np.uint8)
    >>> joint_histogram(a, a, bins=2).counts
    array([[2, 0],
           [0, 2]])
    >>> float(joint_histogram(a, a, bins=2).mutual_information())
    1.0
    """
    options = {"channel_axis": channel_axis, "alpha": alpha, "data_range": data_range}
    opened = unpack(image, **options, needs_range=not has_edges(bins))  # type: ignore[arg-type]
    planes = [opened.color]
    for i, other in enumerate(others):
        more = unpack(other, **options, needs_range=not has_edges(bins), name=f"others[{i}]")  # type: ignore[arg-type]
        if more.size != opened.size or more.pixels.shape[0] != opened.pixels.shape[0]:
            raise ValueError(f"`others[{i}]` must have the size of `image`, {opened.size}; got {more.size}")
        if (more.low, more.high) != (opened.low, opened.high):
            raise ValueError(f"`others[{i}]` must have the range of `image`; pass `data_range` or convert it")
        planes.append(more.color)
    flat = [as_numpy(plane)[:, c] for plane in planes for c in range(plane.shape[1])]
    if channels is not None:
        flat = [flat[check_integer("channels", c, minimum=0, maximum=len(flat) - 1)] for c in channels]
    edges, _ = bin_edges(bins, opened)
    count = edges.size - 1
    if not 1 <= len(flat) <= 4 or count ** len(flat) > 1 << 24:
        raise ValueError(f"at most 4 channels and 2^24 cells can be joined; got {len(flat)} channels of {count} bins")
    chosen = select(opened, mask, skip_transparent=False)
    weight = None if weights is None else pixel_weights(unpack_mask(weights, opened, name="weights"))
    rows = [
        _joint([plane[n] for plane in flat], edges, plane_of(chosen, n), plane_of(weight, n))
        for n in range(len(flat[0]))
    ]
    counts = np.stack([row[0] for row in rows]) if rows else np.zeros((0,) + (count,) * len(flat), np.int64)
    missing = np.array([row[1] for row in rows], np.int64)
    if not is_batch(opened):
        counts, missing = counts[0], missing[0]
    return JointHistogram(counts, edges, missing, len(flat))


def _joint(planes: list[Array], edges: Array, chosen: Array | None, weights: Array | None) -> tuple[Array, int]:
    """Count several planes (H, W) of one image together."""
    bins = edges.size - 1
    flat = [chosen_values(plane, chosen) for plane in planes]
    weight = None if weights is None else chosen_values(weights, chosen)
    counts = np.zeros(bins ** len(flat), np.int64 if weight is None else np.float64)
    missing = 0
    for start in range(0, flat[0].size, 1 << 16):
        part = slice(start, start + (1 << 16))
        index: Array = np.zeros(flat[0][part].shape, np.intp)
        known = np.ones(index.shape, np.bool_)
        for values in flat:
            found = np.clip(np.searchsorted(edges, values[part], side="right") - 1, 0, bins - 1)
            known &= ~np.isnan(values[part])
            index = index * bins + found
        kept = None if weight is None else weight[part][known]
        counts += np.bincount(index[known], kept, minlength=counts.size)
        missing += int(np.count_nonzero(~known))
    return counts.reshape((bins,) * len(flat)), missing
