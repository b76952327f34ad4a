"""Where a heatmap peaks, to the pixel and below it: argmax, quarter offset, Taylor, DARK and a weighted fit.

All functions take maps ``(..., h, w)`` and return places ``(x, y)`` in *map* pixels, for all maps at once. Near its
peak a Gaussian's logarithm is a quadratic, so that any three pixels a side give its centre exactly; the methods differ
in what noise does to them.

References
----------
.. [1] A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks", ECCV 2016 (quarter offset).
.. [2] F. Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020, Eq.
   (4)-(9).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_interval, shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DECODERS", "Decoder", "Peaks", "blur", "find_peaks"]

Decoder = Literal["argmax", "quarter", "taylor", "dark", "fit"]
"""How `find_peaks` goes below the pixel."""


class Peaks(NamedTuple):
    """Peaks of heatmaps.

    Attributes
    ----------
    places : Tensor of shape (..., 2)
        ``(x, y)`` in map pixels, NaN for maps without a peak.
    heights : Tensor of shape (...)
        Largest value of each map, 0 without a peak.
    """

    places: Tensor
    heights: Tensor


def find_peaks(heatmaps: Tensor, method: Decoder = "taylor", *, sigma: float = 2.0) -> Peaks:
    """Return the highest place of each map.

    Parameters
    ----------
    heatmaps : Tensor of shape (..., h, w)
        Floating point.
    method : {'taylor', 'fit', 'dark', 'quarter', 'argmax'}, default 'taylor'
        ``"argmax"``: the highest pixel. ``"quarter"``: a quarter pixel towards the higher neighbour on each axis.
        ``"taylor"``: Newton's step on the logarithm, from a 3x3 stencil that is moved inside at the border: exact for a
        Gaussian anywhere on the map. ``"dark"``: the same after a blur, except where the blur would reach over the
        border. ``"fit"``: least-squares quadratic through the logarithms of the 5x5 pixels around the peak, weighted by
        the squared heat: exact too, and calm under noise. Maps in half precision are fitted for ``"taylor"`` too: their
        rounding is noise.
    sigma : float, default 2.0
        Standard deviation of the blur of ``"dark"`` in map pixels.

    Returns
    -------
    Peaks
        ``places (..., 2)``, float32 or float64, and ``heights (...)``. A constant map, or one that holds NaN or
        infinity, has no peak: NaN and 0. Maps of one pixel have theirs at (0, 0). A map that is negative everywhere has
        its peak where it is least negative; only the pixel is found then.

    Raises
    ------
    ValueError
        If `method` is unknown or a map is empty.
    TypeError
        If `heatmaps` is no floating tensor.

    References
    ----------
    .. [1] F. Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020, Eq.
       (4)-(9).

    Examples
    --------
    >>> import torch
    >>> from cvkit.pose import find_peaks
    >>> y, x = torch.arange(8.0)[:, None], torch.arange(10.0)
    >>> bump = torch.exp(-((x - 9.3) ** 2 + (y - 2.6) ** 2) / 8)
    >>> find_peaks(bump).places
    tensor([9.3000, 2.6000])
    >>> find_peaks(bump, "argmax").places
    tensor([9., 3.])
    """
    check_choice("method", method, DECODERS)
    check_interval("sigma", sigma, 0, low_open=True)
    check_instance("heatmaps", heatmaps, Tensor, "a floating-point tensor")
    if not heatmaps.is_floating_point():
        raise TypeError(f"`heatmaps` must be a floating-point tensor; got {shown(heatmaps)}")
    if heatmaps.ndim < 2 or 0 in heatmaps.shape[-2:]:
        raise ValueError(f"`heatmaps` must be (..., h, w) with h and w at least 1; got {shown(heatmaps)}")
    return peaks_of(heatmaps, method, sigma)


def peaks_of(heatmaps: Tensor, method: Decoder, sigma: float) -> Peaks:
    """Do the work of `find_peaks` on checked arguments."""
    lead = heatmaps.shape[:-2]
    maps = heatmaps.flatten(0, -3) if heatmaps.ndim > 2 else heatmaps[None]
    pixel, heights, good = _highest_pixels(maps)
    if method == "dark":
        places = _dark(maps, pixel, sigma)
    elif method == "taylor" and maps.dtype in {torch.float16, torch.bfloat16}:
        places = _fit(maps, pixel)  # rounding is noise
    else:
        places = DECODERS[method](maps, pixel)
    places = torch.where(good[:, None], places, math.nan)
    heights = torch.where(good, heights.to(_wide(heights)), 0.0)
    return Peaks(places.reshape(*lead, 2), heights.reshape(lead))


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _highest_pixels(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first highest pixel ``(M, 2)`` of maps ``(M, h, w)``, its height, and whether the map has a peak.

    The maximum of each row, then of the rows, then the place within the one best row: the large reduction is one
    without indices, which runs several times faster than an argmax over the whole map and finds the same first pixel.
    """
    rows = maps.amax(-1)
    heights, y = rows.max(-1)
    best = maps.gather(1, y[:, None, None].expand(-1, 1, maps.shape[-1]))[:, 0]
    x = best.argmax(-1)
    good = torch.isfinite(heights)
    if maps.shape[-1] * maps.shape[-2] > 1:
        lowest = maps.amin((-2, -1))
        good = good & torch.isfinite(lowest) & (lowest < heights)
    return torch.stack((x, y), -1), heights, good


def _window(maps: Tensor, pixel: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``side x side`` pixels around `pixel` with their columns and rows, moved to lie inside the map.

    On maps smaller than the window its last pixels repeat, with their true columns and rows.
    """
    height, width = maps.shape[-2:]
    steps = torch.arange(side, device=maps.device)
    x0 = (pixel[:, 0] - side // 2).clamp(0, max(width - side, 0))
    y0 = (pixel[:, 1] - side // 2).clamp(0, max(height - side, 0))
    x, y = (x0[:, None] + steps).clamp_max(width - 1), (y0[:, None] + steps).clamp_max(height - 1)
    flat = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    values = maps.flatten(1).gather(1, flat).reshape(-1, side, side)
    return values.to(_wide(maps)), x, y


def _newton(
    gradient: tuple[Tensor, Tensor], hessian: tuple[Tensor, Tensor, Tensor], free: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the step ``-H^-1 g`` to the top of a quadratic, ``(M, 2)``, and which axes have a top.

    An axis that is not `free` or not concave has none, its step is 0; where the two axes together have no top, each is
    solved alone.
    """
    (gx, gy), (hxx, hxy, hyy) = gradient, hessian
    top_x, top_y = (hxx < 0) & free[0], (hyy < 0) & free[1]
    determinant = hxx * hyy - hxy * hxy
    joint = top_x & top_y & (determinant > 1e-6 * hxx * hyy)
    safe = torch.where(joint, determinant, 1.0)
    alone_x = torch.where(top_x, -gx / torch.where(top_x, hxx, 1.0), 0.0)
    alone_y = torch.where(top_y, -gy / torch.where(top_y, hyy, 1.0), 0.0)
    dx = torch.where(joint, (hxy * gy - hyy * gx) / safe, alone_x)
    dy = torch.where(joint, (hxy * gx - hxx * gy) / safe, alone_y)
    return torch.stack((dx, dy), -1), torch.stack((top_x, top_y), -1)


def _near(place: Tensor, pixel: Tensor) -> Tensor:
    """Keep a refined place within one pixel of the highest one: noise must not throw it away."""
    home = pixel.to(place.dtype)
    return torch.minimum(torch.maximum(place, home - 1), home + 1)


def _argmax(maps: Tensor, pixel: Tensor) -> Tensor:
    return pixel.to(_wide(maps))


def _quarter(maps: Tensor, pixel: Tensor) -> Tensor:
    """Go a quarter pixel towards the higher neighbour; nowhere at a tie or where a neighbour is missing."""
    height, width = maps.shape[-2:]
    last = pixel.new_tensor([width - 1, height - 1])
    ahead, behind = torch.minimum(pixel + 1, last), (pixel - 1).clamp_min(0)
    x, y = pixel.unbind(-1)
    index = torch.stack(
        (y * width + ahead[:, 0], y * width + behind[:, 0], ahead[:, 1] * width + x, behind[:, 1] * width + x)
    )
    right, left, below, above = maps.flatten(1).gather(1, index.T).unbind(-1)
    step = torch.stack((right - left, below - above), -1).sign() * 0.25
    inside = (pixel > 0) & (pixel < last)
    return pixel.to(_wide(maps)) + torch.where(inside, step, 0).to(_wide(maps))


def _taylor(maps: Tensor, pixel: Tensor) -> Tensor:
    """Newton's step on log h from the centre of a 3x3 stencil that lies inside the map (DARK, Eq. 9)."""
    values, x, y = _window(maps, pixel, 3)
    log = values.clamp_min(1e-30).log()
    gx, gy = (log[:, 1, 2] - log[:, 1, 0]) / 2, (log[:, 2, 1] - log[:, 0, 1]) / 2
    hxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0]
    hyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1]
    hxy = (log[:, 2, 2] - log[:, 0, 2] - log[:, 2, 0] + log[:, 0, 0]) / 4
    free = (maps.shape[-1] >= 3, maps.shape[-2] >= 3)
    if not all(free):
        hxy = torch.zeros_like(hxy)
    step, top = _newton((gx, gy), (hxx, hxy, hyy), free)
    centre = torch.stack((x[:, 1], y[:, 1]), -1)
    return _near(torch.where(top, centre.to(step.dtype) + step, pixel.to(step.dtype)), pixel)


def _dark(maps: Tensor, pixel: Tensor, sigma: float) -> Tensor:
    """Taylor on the blurred map; within reach of the border, where a blur would move the peak, on the map itself."""
    smooth = blur(maps.to(_wide(maps)), sigma)
    highest = _highest_pixels(smooth)[0]
    reach = blur_radius(sigma) + 1
    last = pixel.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1])
    inner = ((highest >= reach) & (last - highest >= reach)).all(-1, keepdim=True)
    return torch.where(
        inner, _taylor(smooth, highest), _fit(maps, pixel) if maps.dtype != _wide(maps) else _taylor(maps, pixel)
    )


def _fit(maps: Tensor, pixel: Tensor) -> Tensor:
    """Top of the quadratic through log h on a 5x5 window inside the map, by least squares with weights h^2.

    The error of log h is that of h divided by h, so these weights make all errors alike. Half precision rounds in
    proportion to h, which weighs against additive noise: there the weights are h. Solved in float64: 25 numbers a map.
    """
    if min(maps.shape[-2:]) < 3:
        return _taylor(maps, pixel)
    values, x, y = _window(maps, pixel, 5)
    heat = values.double() / values.amax((-2, -1), keepdim=True).clamp_min(1e-30)
    dx, dy = (x - pixel[:, :1]).double()[:, None, :], (y - pixel[:, 1:]).double()[:, :, None]
    dx, dy = dx.expand(-1, 5, 5), dy.expand(-1, 5, 5)
    terms = torch.stack((torch.ones_like(dx), dx, dy, dx * dx / 2, dx * dy, dy * dy / 2), -1)
    terms = terms.flatten(1, 2)  # (M, 25, 6)
    log = heat.clamp_min(1e-30).log().flatten(1)[..., None]
    power = 2.0 if maps.dtype == _wide(maps) else 1.0
    given = heat.clamp_min(0).pow(power).flatten(1)[..., None]
    # The second round weights by the heat that the first one fitted: noise no longer weighs itself.
    first = _least_squares(terms, log, given)
    fitted = (terms @ first[..., None]).clamp_max(0.5)
    concave = ((first[:, 3] < 0) & (first[:, 5] < 0))[:, None, None]
    weights = torch.where(concave, (power * fitted).exp(), given)
    solved = _least_squares(terms, log, torch.where(log > -69, weights, 0.0))
    step, _ = _newton((solved[:, 1], solved[:, 2]), (solved[:, 3], solved[:, 4], solved[:, 5]), (True, True))
    return _near(pixel.double() + step, pixel).to(_wide(maps))


def _least_squares(terms: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Return the six weighted least-squares coefficients, 0 where there is no solution."""
    weighted = (weights * terms).mT
    ridge = 1e-14 * torch.eye(6, dtype=terms.dtype, device=terms.device)
    solved = torch.linalg.solve_ex(weighted @ terms + ridge, weighted @ values)[0][..., 0]
    return torch.where(torch.isfinite(solved).all(-1, keepdim=True), solved, 0.0)


def blur_radius(sigma: float) -> int:
    """Return how far the kernel of `blur` reaches: 5 pixels for a sigma of 2."""
    return max(1, math.ceil(2.5 * sigma))


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps ``(..., h, w)`` with a Gaussian cut at 2.5 sigma, normalised over the pixels that exist."""
    radius = blur_radius(sigma)
    steps = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        weights = kernel.reshape(shape)
        padding = (radius, 0) if shape[2] == -1 else (0, radius)
        present = F.conv2d(torch.ones_like(flat[:1]), weights, padding=padding)
        flat = F.conv2d(flat, weights, padding=padding) / present
    return flat.reshape(maps.shape)


DECODERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "taylor": _taylor,
    "fit": _fit,
    "dark": _taylor,  # of the blurred map, see `_dark`
    "quarter": _quarter,
    "argmax": _argmax,
}
