"""Blending band by band: coarse structure over wide zones, fine detail over narrow ones [1]_.

References
----------
.. [1] P. J. Burt and E. H. Adelson, "A multiresolution spline with application to image mosaics", ACM Transactions on
   Graphics 2(4), 1983.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit._checks import check_integer, shown
from cvkit.imgops._kernels.bands import along_columns, along_rows, down_plan, up_plan
from cvkit.imgops._kinds import Unpacked, check_same_kind, is_tensor, mask_scale, unpack, unpack_mask, working
from cvkit.imgops._pixels import Values, namespace
from cvkit.imgops.filters import WIDE, from_planes, to_planes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, ArrayLike, Image, ImageT

__all__ = ["collapse_pyramid", "laplacian_pyramid", "pyramid_blend"]


def pyramid_blend(
    first: ImageT,
    second: ImageT,
    mask: Image,
    *,
    levels: int | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    r"""Blend two pictures band by band: no seam in the coarse, no ghosts in the fine.

    Each band of the Laplacian pyramids :math:`L` is mixed by the mask smoothed to that band,
    :math:`L_k(b) + G_k(m) (L_k(a) - L_k(b))`. As bands are linear, that is :math:`b` plus one collapsed pyramid of
    :math:`a - b`.

    Parameters
    ----------
    first, second : Image
        Pillow images, arrays or tensors of the same kind, dtype, size and channels.
    mask : Image
        Share of `first`, of its height and width: bool, uint8, uint16 or floats in [0, 1].
    levels : int, optional
        Number of halvings; by default as many as leave the coarsest band at least four pixels in its shorter side.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four. Colours are then premultiplied.
    data_range : sequence of two floats, optional
        Lowest and highest value, which integer results are clipped to.

    Returns
    -------
    Image
        Kind, dtype and size of the pictures. Integers are computed in floating point, rounded half up and clipped;
        floats may overshoot a little at strong edges. Differentiable for floating-point tensors.

    Raises
    ------
    TypeError
        If kind or dtype of the pictures differ.
    ValueError
        If their sizes differ or `levels` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import pyramid_blend
    >>> dark, light = np.zeros((8, 8), dtype=np.uint8), np.full((8, 8), 200, dtype=np.uint8)
    >>> left = np.zeros((8, 8), dtype=bool)
    >>> left[:, :4] = True
    >>> pyramid_blend(dark, light, left, levels=1)[0].tolist()
    [3, 6, 27, 75, 130, 169, 192, 200]
    """
    options = {"channel_axis": channel_axis, "alpha": alpha, "data_range": data_range}
    one = unpack(first, name="first", **options)  # type: ignore[arg-type]
    two = unpack(second, name="second", **options)  # type: ignore[arg-type]
    check_same_kind(one, two)
    height, width = one.size
    most = max(min(height, width) // 4, 1).bit_length() - 1
    levels = most if levels is None else check_integer("levels", levels, minimum=0, maximum=30)
    weights: Any = unpack_mask(mask, one)
    scale = mask_scale(weights)
    if 0 in {height, width}:
        return two.pack(from_planes(two, to_planes(two) + 0.0))  # type: ignore[return-value]
    tensor = is_tensor(one.pixels)
    kind: Any = working(two.pixels).dtype if tensor else np.float64 if one.dtype in WIDE else np.float32
    weights = weights.to(kind) if is_tensor(weights) else np.ascontiguousarray(weights, kind)
    shares = [namespace(weights).clip(weights / scale, 0.0, 1.0)]
    for _ in range(levels):
        shares.append(halved(shares[-1]))
    if tensor or one.alpha:
        ground = to_planes(two)
        return two.pack(from_planes(two, ground + _mixed(to_planes(one) - ground, shares)))  # type: ignore[return-value]
    return two.pack(_mixed_by_plane(one, two, shares))  # type: ignore[return-value]


def _mixed_by_plane(one: Unpacked, two: Unpacked, shares: list[Values]) -> Array:
    """Blend opaque arrays one plane after another, which takes a third of the memory."""
    pixels: Any = two.pixels
    out: Array = np.empty_like(pixels)
    for n in range(len(pixels)):
        own = [share[n % len(share)] for share in shares]
        for c in range(pixels.shape[1]):
            above, below = (replace(x, pixels=x.pixels[n : n + 1, c : c + 1], colors=1) for x in (one, two))
            ground = to_planes(below)
            out[n, c] = from_planes(two, ground + _mixed(to_planes(above) - ground, own))[0, 0]
    return out


def laplacian_pyramid(image: ArrayLike, levels: int) -> list[ArrayLike]:
    """Take planes apart into bands, each half as large as the one before.

    Parameters
    ----------
    image : ndarray or Tensor of shape (..., H, W)
        Floating-point planes: the last two axes are height and width, for arrays too.
    levels : int
        Number of halvings.

    Returns
    -------
    list of ndarray or Tensor
        `levels` bands of differences, fine to coarse, and the smallest picture. Band k has size
        ``((H + 2**k - 1) // 2**k, ...)``.

    Raises
    ------
    TypeError
        If the planes are not floating point.
    ValueError
        If they have fewer than two axes or no pixel, or `levels` is negative.

    See Also
    --------
    collapse_pyramid : The way back.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import collapse_pyramid, laplacian_pyramid
    >>> planes = np.arange(35.0).reshape(5, 7)
    >>> bands = laplacian_pyramid(planes, 2)
    >>> [band.shape for band in bands]
    [(5, 7), (3, 4), (2, 2)]
    >>> bool(np.allclose(collapse_pyramid(bands), planes))
    True
    """
    levels = check_integer("levels", levels, minimum=0, maximum=30)
    planes: Values = _check_planes("image", image)
    bands = []
    for _ in range(levels):
        coarse = halved(planes)
        bands.append(planes - doubled(coarse, planes.shape[-2:]))
        planes = coarse
    return [*bands, planes + 0.0 if levels == 0 else planes]


def collapse_pyramid(bands: Sequence[ArrayLike]) -> ArrayLike:
    """Put the bands of `laplacian_pyramid` together.

    Parameters
    ----------
    bands : sequence of ndarray or Tensor
        Bands, fine to coarse.

    Returns
    -------
    ndarray or Tensor
        Planes of the finest band's shape.

    Raises
    ------
    ValueError
        If there is no band, or a band has not half the size of the one before.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import collapse_pyramid
    >>> collapse_pyramid([np.zeros((1, 3)), np.ones((1, 2))])
    array([[1., 1., 1.]])
    """
    if len(bands) == 0:
        raise ValueError("`bands` must hold at least one band")
    checked: list[Values] = [_check_planes(f"bands[{i}]", band) for i, band in enumerate(bands)]
    for i, (fine, coarse) in enumerate(pairwise(checked)):
        wanted = tuple((side + 1) // 2 for side in fine.shape[-2:])
        if tuple(coarse.shape[-2:]) != wanted:
            raise ValueError(f"`bands[{i + 1}]` must have size {wanted}; got {tuple(coarse.shape[-2:])}")
    planes = checked[-1]
    for band in reversed(checked[:-1]):
        planes = band + doubled(planes, band.shape[-2:])
    return planes if len(checked) > 1 else planes + 0.0  # type: ignore[no-any-return]


def halved(planes: Values) -> Values:
    """Return planes (..., H, W) smoothed and halved, ((H + 1) // 2, (W + 1) // 2)."""
    height, width = planes.shape[-2:]
    return along_rows(along_columns(planes, down_plan(height)), down_plan(width))


def doubled(planes: Values, size: tuple[int, int]) -> Values:
    """Return planes enlarged to a size whose half they have."""
    height, width = planes.shape[-2:]
    return along_columns(along_rows(planes, up_plan(width, size[1])), up_plan(height, size[0]))


def _mixed(difference: Values, shares: Sequence[Values]) -> Values:
    """Return the collapsed pyramid of a difference whose bands are weighted by those of a mask."""
    if len(shares) == 1:
        return difference * shares[0]
    coarse = halved(difference)
    size = difference.shape[-2:]
    # L m + up(below), where L = difference - up(coarse)
    band = (difference - doubled(coarse, size)) * shares[0]
    return band + doubled(_mixed(coarse, shares[1:]), size)


def _check_planes(name: str, planes: ArrayLike) -> ArrayLike:
    """Return floating-point planes with at least one pixel."""
    if is_tensor(planes):
        floating = planes.dtype.is_floating_point
    else:
        floating = isinstance(planes, np.ndarray) and planes.dtype.kind == "f"
    if not floating:
        raise TypeError(f"`{name}` must be a floating-point array or tensor; got {shown(planes)}")
    if planes.ndim < 2 or 0 in planes.shape[-2:]:
        raise ValueError(f"`{name}` must have shape (..., H, W) with at least one pixel; got {tuple(planes.shape)}")
    return planes
