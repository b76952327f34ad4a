"""Cross-dissolve: from one picture to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cvkit._checks import check_integer, check_interval
from cvkit.imgops._kernels.blending import mix_bytes, paired
from cvkit.imgops._kernels.memory import in_parts
from cvkit.imgops._kinds import Unpacked, check_same_kind, is_tensor, quantize, unpack
from cvkit.imgops._merge import TICK, lerp
from cvkit.imgops._pixels import Values, namespace, scaled, unscaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ImageT

__all__ = ["dissolve"]

_PIECE = 1 << 15  # pixels handled at once


def dissolve(
    first: ImageT,
    second: ImageT,
    t: float,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    r"""Mix two pictures, :math:`(1 - t) a + t b`.

    Parameters
    ----------
    first, second : Image
        Pillow images, arrays or tensors of the same kind, dtype, size and channels.
    t : float
        Share of `second` in [0, 1].
    channel_axis : int, optional
        Axis of the channels where it is not the usual one.
    alpha : bool, optional
        Whether the last channel is alpha; by default where there are two or four. Colours are weighted by their alpha.
    data_range : sequence of two floats, optional
        Lowest and highest value; by default [0, 255], [0, 65535] or, for floats, [0, 1].
    threads : int, default 1
        Number of threads for arrays and Pillow images. Results do not depend on it.

    Returns
    -------
    Image
        Kind, dtype and size of the pictures; `first` bit for bit at 0 and `second` at 1. Integers are exactly
        rounded, half up. Differentiable for floating-point tensors; NaN is kept, and floats outside the range are not
        clipped.

    Raises
    ------
    TypeError
        If kind or dtype of the pictures differ.
    ValueError
        If their sizes or channels differ, or `t` lies outside [0, 1].

    See Also
    --------
    composite : With `mask`, a share of its own for each pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import dissolve
    >>> dissolve(np.array([[0, 100]], dtype=np.uint8), np.array([[255, 101]], dtype=np.uint8), 0.5).tolist()
    [[128, 101]]
    """
    t = check_interval("t", t, 0.0, 1.0)
    threads = check_integer("threads", threads, minimum=1)
    options = {"channel_axis": channel_axis, "alpha": alpha, "data_range": data_range}
    one = unpack(first, name="first", **options)  # type: ignore[arg-type]
    two = unpack(second, name="second", **options)  # type: ignore[arg-type]
    check_same_kind(one, two)
    if is_tensor(one.pixels):
        return one.pack(unscaled(one, _mixed(one, scaled(one, one.pixels), scaled(two, two.pixels), t)))  # type: ignore[return-value]
    return one.pack(_mixed_arrays(one, two, t, threads))  # type: ignore[return-value]


def _mixed_arrays(one: Unpacked, two: Unpacked, t: float, threads: int) -> Values:
    """Mix arrays piece by piece."""
    a, b = one.pixels, two.pixels
    pixels: Any = a
    if t in {0.0, 1.0}:
        return a if t == 0.0 else b
    if one.dtype == "uint8" and not one.alpha and (one.low, one.high) == (0, 255):
        return paired(pixels, np.asarray(b), mix_bytes(t), threads)
    out = np.empty_like(pixels)
    height, width = one.size
    step = max(1, _PIECE // max(width, 1))

    def work(start: int, stop: int) -> None:
        for top in range(start, stop, step):
            rows = slice(top, min(top + step, stop))
            parts = [scaled(one, np.ascontiguousarray(x[:, :, rows])) for x in (a, b)]
            mixed = _mixed(one, parts[0], parts[1], t)
            if one.integer:
                mixed = mixed * (one.high - one.low) + (one.low + TICK)
                out[:, :, rows] = quantize(mixed, one.low, one.high, one.dtype)
            else:
                out[:, :, rows] = unscaled(one, mixed)

    in_parts(work, height, threads)
    return out


def _mixed(opened: Unpacked, a: Values, b: Values, t: float) -> Values:
    """Mix pixels in [0, 1]; with alpha, the share of the second colour is that of its alpha."""
    if not opened.alpha:
        return lerp(a, b, t)
    xp = namespace(a)
    alpha = lerp(a[:, -1:], b[:, -1:], t)
    share = xp.where(alpha == 0.0, t, t * b[:, -1:] / xp.where(alpha == 0.0, 1.0, alpha))
    color = lerp(a[:, : opened.colors], b[:, : opened.colors], share)
    return xp.concatenate([color, alpha], 1)
