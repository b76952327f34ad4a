"""Histograms: how often each value occurs in every channel, and the statistics and thresholds that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from cvkit._checks import check_choice, check_instance, check_integer, shown
from cvkit.imgops import thresholds
from cvkit.imgops._counting import bin_edges, count_bins, has_edges, is_batch, pixel_weights, select
from cvkit.imgops._kinds import unpack, unpack_mask
from cvkit.imgops.distances import DISTANCES, DistanceKind, wasserstein

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike as Numbers

    from cvkit._types import Array, Image

__all__ = ["Histogram", "histogram"]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of the values of every colour channel, and what follows from them.

    Made by `histogram`; may also be built from counts of your own.

    Parameters
    ----------
    counts : ndarray of shape (C, bins) or (N, C, bins)
        How many pixels of each channel fall into each bin; int64, or float64 where pixels were weighted.
    edges : ndarray of shape (bins + 1,)
        Edges of the bins, rising, float64. A bin holds the values from its left edge (included) to its right one
        (excluded; the last bin includes it).
    missing : ndarray of shape (C,) or (N, C)
        How many NaN were left out, int64.
    discrete : bool, default False
        Whether each bin stands for the one value at its centre, as it does for integer images with a bin a level.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import histogram
    >>> photo = np.array([[0, 50, 50], [200, 200, 255]], dtype=np.uint8)
    >>> h = histogram(photo)
    >>> h.counts.shape, int(h.counts[0, 200])
    ((1, 256), 2)
    >>> h.percentile([0, 50, 100])
    array([[  0.,  50., 255.]])
    >>> h.otsu()
    array([50.])
    """

    counts: Array
    edges: Array
    missing: Array
    discrete: bool = False

    def __post_init__(self) -> None:
        counts, edges, missing = self.counts, self.edges, self.missing
        for name, value in (("counts", counts), ("edges", edges), ("missing", missing)):
            check_instance(name, value, np.ndarray, "a NumPy array")
        if counts.ndim not in {2, 3} or edges.ndim != 1 or counts.shape[-1] != edges.size - 1 or edges.size < 2:
            raise ValueError(
                "`counts` must have shape (C, bins) or (N, C, bins) and `edges` (bins + 1,); "
                f"got {counts.shape} and {edges.shape}"
            )
        if not bool((edges[1:] > edges[:-1]).all()):
            raise ValueError(f"`edges` must rise; got {shown(edges.tolist())}")
        if missing.shape != counts.shape[:-1]:
            raise ValueError(f"`missing` must have shape {counts.shape[:-1]}; got {missing.shape}")

    def __add__(self, other: Histogram) -> Histogram:
        if not isinstance(other, Histogram):
            return NotImplemented
        self._check_bins(other)
        if self.counts.shape != other.counts.shape:
            raise ValueError(f"histograms of shapes {self.counts.shape} and {other.counts.shape} cannot be added")
        return Histogram(self.counts + other.counts, self.edges, self.missing + other.missing, self.discrete)

    @property
    def centers(self) -> Array:
        """Middle of each bin, an ndarray of shape (bins,)."""
        found: Array = (self.edges[:-1] + self.edges[1:]) / 2
        return found

    @property
    def total(self) -> Array:
        """Number of pixels counted (or sum of their weights), an ndarray of shape (C,) or (N, C)."""
        found: Array = self.counts.sum(-1)
        return found

    def density(self) -> Array:
        """Return the share of each bin.

        Returns
        -------
        ndarray of shape (C, bins) or (N, C, bins)
            Sums to 1 over the bins; zeros where nothing was counted.
        """
        total = self.total[..., None].astype(np.float64)
        found: Array = np.divide(self.counts, total, out=np.zeros(self.counts.shape), where=total > 0)
        return found

    def cdf(self) -> Array:
        """Return the share of pixels in each bin and all bins before it.

        Returns
        -------
        ndarray of shape (C, bins) or (N, C, bins)
            Rises to exactly 1; zeros where nothing was counted.
        """
        summed = np.cumsum(self.counts, axis=-1)
        last = summed[..., -1:].astype(np.float64)
        found: Array = np.divide(summed, last, out=np.zeros(self.counts.shape), where=last > 0)
        return found

    def percentile(self, q: Numbers) -> Array:
        """Return the values below which a given percentage of the pixels lie.

        Parameters
        ----------
        q : float or sequence of float
            Percentages in [0, 100].

        Returns
        -------
        ndarray of shape (C,) or (N, C), followed by the shape of `q`
            Where a bin stands for one value, the smallest value with at least `q` percent of the pixels at or below
            it (what `numpy.percentile` calls ``"inverted_cdf"``); else interpolated inside the bin. NaN where nothing
            was counted.
        """
        try:
            wanted = np.asarray(q, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"`q` must be numbers; got {shown(q)}") from None
        if not bool(np.all((wanted >= 0) & (wanted <= 100))):
            raise ValueError(f"`q` must lie in [0, 100]; got {shown(q)}")
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        found = np.stack([self._quantiles(row, wanted.ravel()) for row in rows]) if len(rows) else rows[:, :0]
        return cast("Array", found.reshape(self.counts.shape[:-1] + wanted.shape))

    def _quantiles(self, row: Array, q: Array) -> Array:
        occupied = np.flatnonzero(row)
        if occupied.size == 0:
            return np.full(q.size, np.nan)
        summed = np.cumsum(row)
        target = q * summed[-1] / 100
        index = np.clip(np.searchsorted(summed, target), occupied[0], occupied[-1])
        if self.discrete:
            return cast("Array", self.centers[index])
        inside = np.clip((target - (summed[index] - row[index])) / row[index], 0, 1)
        found: Array = self.edges[index] + inside * np.diff(self.edges)[index]
        return found

    def mean(self) -> Array:
        """Return the mean value of each channel, taking every bin at its centre.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            NaN where nothing was counted.
        """
        return self._moment(self.centers)

    def std(self) -> Array:
        """Return the standard deviation of each channel, taking every bin at its centre.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            NaN where nothing was counted.
        """
        off = (self.centers - np.nan_to_num(self.mean())[..., None]) ** 2
        return np.sqrt(self._moment(off))

    def _moment(self, values: Array) -> Array:
        total = self.total.astype(np.float64)
        found: Array = np.divide(
            (self.counts * values).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0
        )
        return found

    def entropy(self, base: float = 2.0) -> Array:
        """Return Shannon's entropy of each channel.

        Parameters
        ----------
        base : float, default 2.0
            Base of the logarithm: 2 gives bits.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            From 0 (one bin holds everything, or there is nothing) to the logarithm of the number of bins.
        """
        if not base > 1:
            raise ValueError(f"`base` must be greater than 1; got {base}")
        p = self.density()
        found: Array = -np.sum(p * np.log(p, out=np.zeros_like(p), where=p > 0), axis=-1) / np.log(base) + 0.0
        return found

    def otsu(self) -> Array:
        """Return the thresholds of largest variance between two classes.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            A pixel belongs to the upper class if its value is greater. Where all pixels are equal it is their value;
            NaN where nothing was counted.

        References
        ----------
        N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979), Eq. (18).
        """
        return self._threshold(lambda row: thresholds.otsu_bin(row, self.centers))

    def multi_otsu(self, classes: int = 3) -> Array:
        """Return the thresholds of largest variance between several classes.

        Parameters
        ----------
        classes : int, default 3
            Number of classes, at least 2.

        Returns
        -------
        ndarray of shape (C, classes - 1) or (N, C, classes - 1)
            Rising thresholds; class k holds the values above threshold k - 1 and up to threshold k. Where fewer
            values than classes occur, the surplus thresholds repeat the largest value, so that the surplus classes
            are empty.

        References
        ----------
        P.-S. Liao, T.-S. Chen, P.-C. Chung, "A fast algorithm for multilevel thresholding", J. Inf. Sci. Eng. 17
        (2001), Eq. (18); solved here by dynamic programming over prefix sums.
        """
        classes = check_integer("classes", classes, minimum=2)
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        found = np.full((len(rows), classes - 1), np.nan)
        for row, out in zip(rows, found, strict=True):
            if row.any():
                out[:] = self._split_values()[thresholds.multi_otsu_bins(row, self.centers, classes)]
        return found.reshape(*self.counts.shape[:-1], classes - 1)

    def triangle(self) -> Array:
        """Return the thresholds farthest below the line from the peak to the end of the longer tail.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            As `otsu`.

        References
        ----------
        G. W. Zack, W. E. Rogers, S. A. Latt, "Automatic measurement of sister chromatid exchange frequency", J.
        Histochem. Cytochem. 25 (1977).
        """
        return self._threshold(thresholds.triangle_bin)

    def li(self) -> Array:
        """Return the thresholds of least cross entropy, the minimum over all of them.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            As `otsu`.

        References
        ----------
        C. H. Li, C. K. Lee, "Minimum cross entropy thresholding", Pattern Recognition 26 (1993), Eq. (7). Values are
        measured from the centre of the lowest bin.
        """
        return self._threshold(lambda row: thresholds.li_bin(row, self.centers - self.centers[0]))

    def yen(self) -> Array:
        """Return the thresholds of largest correlation criterion.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            As `otsu`.

        References
        ----------
        J. C. Yen, F. J. Chang, S. Chang, "A new criterion for automatic multilevel thresholding", IEEE Trans. Image
        Processing 4 (1995), Eq. (4).
        """
        return self._threshold(thresholds.yen_bin)

    def isodata(self) -> Array:
        """Return the first thresholds that lie halfway between the means of their two classes.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            As `otsu`.

        References
        ----------
        T. W. Ridler, S. Calvard, "Picture thresholding using an iterative selection method", IEEE Trans. SMC 8 (1978).
        """
        return self._threshold(lambda row: thresholds.isodata_bin(row, self.centers))

    def minimum(self) -> Array:
        """Return the lowest points between two peaks, after smoothing until only two are left.

        More than 1024 bins are joined to at most that many first.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            As `otsu`.

        Raises
        ------
        ValueError
            If a channel's histogram has no two peaks.

        References
        ----------
        J. M. S. Prewitt, M. L. Mendelsohn, "The analysis of cell images", Ann. N. Y. Acad. Sci. 128 (1966).
        """
        return self._threshold(thresholds.minimum_bin)

    def _split_values(self) -> Array:
        """Return the threshold that a split after each bin stands for: the bin's value, or its right edge."""
        return self.centers if self.discrete else self.edges[1:]

    def _threshold(self, method: Callable[[Array], int]) -> Array:
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        found = np.full(len(rows), np.nan)
        for i, row in enumerate(rows):
            occupied = np.flatnonzero(row)
            if occupied.size:
                found[i] = self._split_values()[method(row) if occupied.size > 1 else int(occupied[0])]
        return found.reshape(self.counts.shape[:-1])

    def distance(self, other: Histogram, kind: DistanceKind = "wasserstein") -> Array:
        """Return how far the distributions are from another histogram's, channel by channel.

        Both are divided by their totals first, so that images of different sizes compare.

        Parameters
        ----------
        other : Histogram
            A histogram with the same bins and channels, or one channel for all.
        kind : {'chi-square', 'chi-square-alt', 'bhattacharyya', 'intersection', 'correlation', 'kl', 'wasserstein'}
            Sums over bins with shares p (this) and q (other): ``(p - q)^2 / p`` where p > 0; ``2 (p - q)^2 / (p + q)``;
            ``sqrt(1 - sum sqrt(p q))``; ``min(p, q)`` and Pearson's correlation, which are similarities, 1 for equal
            ones; ``p log(p / q)``, infinite where only q is empty; area between the cumulative distributions, in the
            image's units.

        Returns
        -------
        ndarray of shape (C,) or (N, C)
            NaN where either histogram counted nothing.

        Examples
        --------
        >>> import numpy as np
        >>> from cvkit.imgops import histogram
        >>> dark = np.full((4, 4), 10, np.uint8)
        >>> histogram(dark).distance(histogram(dark + np.uint8(5)))
        array([5.])
        """
        check_choice("kind", kind, [*DISTANCES, "wasserstein"])
        check_instance("other", other, Histogram)
        self._check_bins(other)
        try:
            shape = np.broadcast_shapes(self.counts.shape, other.counts.shape)
        except ValueError:
            raise ValueError(
                f"`other` must have the channels of this histogram, {self.counts.shape[:-1]}, or one; "
                f"got {other.counts.shape[:-1]}"
            ) from None
        p, q = np.broadcast_to(self.density(), shape), np.broadcast_to(other.density(), shape)
        empty = np.broadcast_to((self.total == 0) | (other.total == 0), shape[:-1])
        found = wasserstein(p, q, self.centers) if kind == "wasserstein" else DISTANCES[kind](p, q)
        return np.where(empty, np.nan, found)

    def _check_bins(self, other: Histogram) -> None:
        if not np.array_equal(self.edges, other.edges) or self.discrete != other.discrete:
            raise ValueError(
                f"histograms must have the same bins; got {self.edges.size - 1} from {self.edges[0]:g} to "
                f"{self.edges[-1]:g} and {other.edges.size - 1} from {other.edges[0]:g} to {other.edges[-1]:g}"
            )


def histogram(
    image: Image,
    *,
    bins: int | Sequence[float] | None = None,
    data_range: Sequence[float] | None = None,
    mask: Image | None = None,
    weights: Image | None = None,
    skip_transparent: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
) -> Histogram:
    """Count the values of every colour channel.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind; alpha is not counted.
    bins : int or sequence of float, optional
        Number of evenly wide bins, or their edges. By default one for each level of an integer image (256 for 8 bit,
        65536 for 16 bit; 256 where `data_range` spans more) and 256 for floats.
    data_range : (low, high), optional
        Range that the bins cover, by default the dtype's; [0, 1] for floats; needed for int16, int32 and Pillow's I
        and F. For integer images the bins reach from low - 0.5 to high + 0.5, so that every level has the same share
        of them.
    mask : Pillow image, ndarray or Tensor, optional
        Only pixels where it is not zero are counted; shape (H, W), or (N, H, W) for a batch.
    weights : Pillow image, ndarray or Tensor, optional
        How much each pixel counts, of the same shape as a mask: integers count from 0 to 1 (255 or 65535), floats as
        they are.
    skip_transparent : bool, default False
        Whether to leave out pixels whose alpha is zero.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha; by default it is where there are two or four channels.

    Returns
    -------
    Histogram
        Counts of shape (C, bins), or (N, C, bins) for a batch (N, C, H, W). Values outside the range are counted in
        the end bins, NaN are left out and counted in ``missing``. Always NumPy arrays.

    Raises
    ------
    TypeError
        If the image is of a kind that has no plain colours.
    ValueError
        If bins, range or shapes make no sense.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import histogram
    >>> ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    >>> histogram(ramp).counts.max()
    np.int64(1)
    >>> histogram(ramp / 255.0, bins=4).counts
    array([[64, 64, 64, 64]])
    """
    opened = unpack(
        image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, needs_range=not has_edges(bins)
    )
    edges, discrete = bin_edges(bins, opened)
    chosen = select(opened, mask, skip_transparent=skip_transparent)
    weight = None if weights is None else pixel_weights(unpack_mask(weights, opened, name="weights"))
    counts, missing = count_bins(opened, edges, discrete, chosen, weight)
    if not is_batch(opened):
        counts, missing = counts[0], missing[0]
    return Histogram(counts, edges, missing, discrete)
