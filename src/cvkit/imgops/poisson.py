"""Blending gradients instead of colours: Poisson image editing [1]_.

The field of gradients is the source's inside the region and the backdrop's around it, on the rectangle that bounds
the region; colours with these gradients and the backdrop's frame solve a Poisson equation, which sines diagonalise
[2]_. On long sides they do so along one axis only; along the other, elimination solves an equation for each sine [3]_.

References
----------
.. [1] P. Pérez, M. Gangnet and A. Blake, "Poisson image editing", SIGGRAPH 2003.
.. [2] J. M. Di Martino, G. Facciolo and E. Meinhardt-Llopis, "Poisson image editing", Image Processing On Line 6, 2016.
.. [3] R. W. Hockney, "A fast direct solution of Poisson's equation using Fourier analysis", J. ACM 12, 1965.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cvkit._checks import check_choice, check_integer
from cvkit.imgops._kinds import Unpacked, is_tensor, quantize, unpack, unpack_mask, working
from cvkit.imgops._merge import Window, place
from cvkit.imgops._pixels import Values, as_tensor_like, namespace
from cvkit.imgops._spaces import LUMA, weighted
from cvkit.imgops.compositing import check_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, Image, ImageT

__all__ = ["poisson_blend"]

_SHORT = 255  # sides up to which sines along both axes are quickest
_LONG = 800  # sides above which the sine transform goes through the FFT
_PIECE = 1 << 18  # values handled by the FFT at once
_COLUMNS = 1 << 10  # columns eliminated at once


def poisson_blend(
    source: Image,
    backdrop: ImageT,
    mask: Image,
    *,
    mode: Literal["normal", "mixed", "monochrome"] = "normal",
    offset: tuple[int, int] = (0, 0),
    shrink: int = 3,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
) -> ImageT:
    """Blend a region of one picture into another without a seam.

    Parameters
    ----------
    source : Image
        Pillow image, array or tensor of the backdrop's kind and dtype, with its colours or a single grey one, of
        any size.
    backdrop : Image
        What the region is put into.
    mask : Image
        The region, of the source's height and width: what is not 0.
    mode : {'normal', 'mixed', 'monochrome'}, default 'normal'
        Take the source's gradients; at each place the stronger of the two pictures' gradients (for writing and
        things with holes); or the gradients of the source's luma, which keeps its texture and drops its colour.
    offset : tuple of two ints, default (0, 0)
        Row and column of the source's top-left corner on the backdrop. What lies outside is cut off.
    shrink : int, default 3
        Shrink the region by so many pixels, as OpenCV does, beyond which the backdrop's gradients count. With the
        default a region thinner than seven pixels leaves no trace; 0 takes it as it is.
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four.
    data_range : sequence of two floats, optional
        Lowest and highest value.

    Returns
    -------
    Image
        Kind, dtype and size of the backdrop, alpha untouched. Pixels outside the rectangle that bounds the region,
        and on its frame, are the backdrop's bit for bit; results are clipped to the range. Regions may touch the
        border, be empty or a single pixel. Differentiable for floating-point tensors.

    Raises
    ------
    TypeError
        If kind or dtype of the two pictures differ.
    ValueError
        If their channels or the mask's size do not fit.

    Notes
    -----
    Results differ from OpenCV's by less than a level, as that cuts digits off and this rounds, and by a few levels on
    regions of several megapixels, where its transforms lose digits that these keep; grey is not rounded before its
    gradients are taken. OpenCV's mixed mode compares other quantities than the paper, which this follows.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import poisson_blend
    >>> ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (20, 1))
    >>> bright = ramp + np.uint8(50)
    >>> blended = poisson_blend(bright, ramp, np.ones((20, 20), dtype=bool))  # the same gradients: nothing changes
    >>> bool((blended == ramp).all())
    True
    """
    check_choice("mode", mode, ("normal", "mixed", "monochrome"))
    shrink = check_integer("shrink", shrink, minimum=0)
    options = {"channel_axis": channel_axis, "alpha": alpha, "data_range": data_range}
    below = unpack(backdrop, name="backdrop", **options)  # type: ignore[arg-type]
    above = unpack(source, name="source", **options)  # type: ignore[arg-type]
    check_layers(above, below)
    if mode == "monochrome" and above.colors not in {1, 3}:
        raise ValueError(f"`mode` 'monochrome' needs one or three colour channels; got {above.colors}")
    region: Any = unpack_mask(mask, above)
    region = region.detach().cpu().numpy() if is_tensor(region) else region
    window = place(above.size, below.size, offset)
    if is_tensor(below.pixels):
        result: Values = below.pixels.clone()
    else:
        pixels: Any = below.pixels
        result = pixels.copy(order="K")
    for n in range(result.shape[0]):
        chosen = region[n % region.shape[0], 0] != 0
        result = _blended(result, n, below, above, chosen[window.above], window, mode, shrink)
    return below.pack(result)  # type: ignore[return-value]


def _blended(
    result: Values, n: int, below: Unpacked, above: Unpacked, region: Array, window: Window, mode: str, shrink: int
) -> Values:
    """Write image `n` of a result, whose region of the window is given."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if len(rows) == 0 or min(rows[-1] - rows[0], columns[-1] - columns[0]) < 2:
        return result  # no pixel inside the frame
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = _shrunk(region[box], shrink)
    grounds, sources = (_moved(place, box) for place in (window.below, window.above))
    ground = _floats(below, result[n : n + 1, : below.colors, grounds[0], grounds[1]])
    layers: Any = above.pixels
    source = _floats(above, layers[n % layers.shape[0] :][:1, : above.colors, sources[0], sources[1]])
    if mode == "monochrome" and above.colors == 3:
        source = weighted(source, LUMA["601"])
    source = source + ground * 0.0  # a grey source serves all colours
    weights = as_tensor_like(inside.astype(np.float64), ground) if is_tensor(ground) else inside.astype(ground.dtype)
    # One channel after another: the same values in a third of the memory.
    channels = [slice(c, c + 1) for c in range(below.colors)]
    xp = namespace(ground)
    inner: Any = xp.concatenate([_solve(ground[:, c], source[:, c], weights, mode == "mixed") for c in channels], 1)
    inner = xp.clip(inner, below.low, below.high)
    if below.integer:
        inner = quantize(inner, below.low, below.high, below.dtype)
    target = slice(grounds[0].start + 1, grounds[0].stop - 1), slice(grounds[1].start + 1, grounds[1].stop - 1)
    if is_tensor(result):
        result = result.clone()
        inner = inner.to(result.dtype)
    result[n : n + 1, : below.colors, target[0], target[1]] = inner
    return result


def _solve(ground: Values, source: Values, inside: Values, mixed: bool) -> Values:
    """Return the inner pixels (1, C, h - 2, w - 2) whose gradients are the field and whose frame is the backdrop's."""
    xp = namespace(ground)
    divergence: Values = 0.0
    for axis in (-2, -1):
        slope_b, slope_s = xp.diff(ground, axis=axis), xp.diff(source, axis=axis)
        share = inside[..., :-1, :] if axis == -2 else inside[..., :-1]
        if mixed:
            slope_s = xp.where(xp.abs(slope_s) > xp.abs(slope_b), slope_s, slope_b)
        field = slope_b + (slope_s - slope_b) * share
        turn = xp.diff(field, axis=axis)
        divergence = divergence + (turn[..., 1:-1] if axis == -2 else turn[..., 1:-1, :])
    # The frame's known values go to the right-hand side.
    frame = ground + 0.0
    frame[..., 1:-1, 1:-1] = 0.0
    known = (
        frame[..., :-2, 1:-1] + frame[..., 2:, 1:-1] + frame[..., 1:-1, :-2] + frame[..., 1:-1, 2:]
    )  # fmt: skip
    right = divergence - known
    height, width = right.shape[-2:]
    if not is_tensor(right) and max(height, width) > _SHORT:
        return np.stack([[_solve_by_lines(plane) for plane in right[0]]])
    spectrum = _sines(_sines(right, -1), -2)
    values = _eigenvalues(height)[:, None] + _eigenvalues(width)
    values = as_tensor_like(values, right) if is_tensor(right) else values.astype(right.dtype)
    scale = 4.0 / ((height + 1) * (width + 1))
    return _sines(_sines(spectrum / values, -2), -1) * scale


def _solve_by_lines(right: Array) -> Array:
    """Solve the equation on a plane (h, w) by sines along one axis and elimination along the other."""
    across = _effort(right.shape[1]) <= _effort(right.shape[0])
    values = np.array(right if across else right.T, order="C")
    length = values.shape[1]
    # Some lines at a time, so that the odd continuation that the FFT needs stays in the cache.
    step = len(values) if length <= _LONG else max(1, _PIECE // length)
    pieces = [slice(start, start + step) for start in range(0, len(values), step)]
    for piece in pieces:
        values[piece] = _sines(values[piece], -1)
    _eliminate(values, _eigenvalues(length) - 2.0)
    for piece in pieces:
        values[piece] = _sines(values[piece], -1) * (2.0 / (length + 1))
    return values if across else values.T


def _effort(length: int) -> int:
    """Return about how long the sine transform takes for each value of a line of this length."""
    if length <= _LONG:
        return length // 16
    # The FFT goes by the prime factors of its length, and by a convolution where these are large.
    rest, total, factor = 2 * (length + 1), 0, 2
    while factor * factor <= rest:
        if rest % factor:
            factor += 1
        else:
            rest, total = rest // factor, total + factor
    return min(total + rest, 150)


def _eliminate(right: Array, diagonal: Array) -> None:
    """Solve ``x[i - 1] + diagonal x[i] + x[i + 1] = right[i]`` for every column, zero at both ends, in place.

    The diagonal is below -2, so elimination needs no exchange of rows; in float64 its error is far below float32.
    """
    for start in range(0, right.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        solved = right[:, part].astype(np.float64)
        pivots = np.empty_like(solved)
        pivot, before = np.zeros((2, solved.shape[1]))
        for row, inverse in zip(solved, pivots, strict=True):
            np.subtract(diagonal[part], pivot, out=inverse)
            pivot = np.reciprocal(inverse, out=inverse)
            row -= before
            row *= pivot
            before = row
        for i in range(len(solved) - 2, -1, -1):
            solved[i] -= pivots[i] * solved[i + 1]
        right[:, part] = solved


def _sines(values: Values, axis: int) -> Values:
    """Return the sine transform (DST-I without factors) along one of the last two axes."""
    length = values.shape[axis]
    if length <= _LONG:
        matrix = _sine_matrix(length)
        matrix = as_tensor_like(matrix.copy(), values) if is_tensor(values) else matrix.astype(values.dtype)
        return values @ matrix if axis == -1 else matrix @ values
    xp = namespace(values)
    zero = values[..., :1] * 0.0 if axis == -1 else values[..., :1, :] * 0.0
    odd = xp.concatenate([zero, values, zero, -xp.flip(values, (axis,))], axis)
    spectrum: Values = xp.fft.rfft(odd, None, axis).imag
    part = spectrum[..., 1 : length + 1] if axis == -1 else spectrum[..., 1 : length + 1, :]
    return part * -0.5


@lru_cache(maxsize=8)
def _sine_matrix(length: int) -> Array:
    steps = np.arange(1, length + 1)
    return np.sin(np.pi / (length + 1) * np.outer(steps, steps))  # type: ignore[no-any-return]


def _eigenvalues(length: int) -> Array:
    """Return the eigenvalues of the second difference with zero ends."""
    angles: Array = np.pi * np.arange(1, length + 1) / (length + 1)
    return 2.0 * np.cos(angles) - 2.0


def _shrunk(region: Array, by: int) -> Array:
    """Return a region shrunk by so many pixels."""
    side = 2 * by + 1
    padded = np.pad(region, by)
    across = np.lib.stride_tricks.sliding_window_view(padded, side, 0).all(-1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(across, side, 1).all(-1))


def _moved(start: tuple[slice, slice], box: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return a box of the window in the picture."""
    rows, columns = (slice(s.start + b.start, s.start + b.stop) for s, b in zip(start, box, strict=True))
    return rows, columns


def _floats(opened: Unpacked, pixels: Values) -> Values:
    """Return pixels as float planes: float32 for 8 bit, float64 for wider integers."""
    if is_tensor(pixels):
        return working(pixels)
    return np.ascontiguousarray(
        pixels, np.float32 if opened.dtype in {"bool", "uint8", "float16", "float32"} else np.float64
    )
