"""Tone: changing every value by a given curve, the same everywhere in the image."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from cvkit._checks import check_integer, check_interval, shown
from cvkit.imgops import _steps
from cvkit.imgops._kinds import unpack
from cvkit.imgops.luts import Lut, apply_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ImageT

__all__ = [
    "curve",
    "gamma",
    "invert",
    "levels",
    "log",
    "posterize",
    "sigmoid",
    "solarize",
]


def gamma(
    image: ImageT,
    exponent: float,
    *,
    gain: float = 1.0,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Raise values, scaled to [0, 1], to a power.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    exponent : float
        Positive; below 1 lightens, above 1 darkens, 1 changes nothing.
    gain : float, default 1.0
        Factor on the result, which is clipped to the range.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If `exponent` is not positive or `gain` is negative.

    Notes
    -----
    Differentiable for float tensors; where a value is exactly the bottom of the range the gradient is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import gamma
    >>> gamma(np.array([[0, 64, 255]], dtype=np.uint8), 0.5)
    array([[  0, 128, 255]], dtype=uint8)
    """
    return Lut.gamma(exponent, gain)(
        image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, threads=threads
    )


def log(
    image: ImageT,
    *,
    gain: float = 1.0,
    inverse: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Lighten by a logarithm, or darken by a power of two.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    gain : float, default 1.0
        Factor on the result, which is clipped to the range.
    inverse : bool, default False
        Whether to take ``gain * (2 ** v - 1)`` instead of ``gain * log2(1 + v)``, values v scaled to [0, 1].
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If `gain` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import log
    >>> log(np.array([[0, 64, 255]], dtype=np.uint8))
    array([[  0,  82, 255]], dtype=uint8)
    """
    return Lut.log(gain, inverse=inverse)(
        image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, threads=threads
    )


def sigmoid(
    image: ImageT,
    *,
    cutoff: float = 0.5,
    gain: float = 10.0,
    inverse: bool = False,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Raise contrast around a value by an S-shaped curve.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    cutoff : float, default 0.5
        The value, as a share of the range, that becomes the middle of the range.
    gain : float, default 10.0
        Steepness of ``1 / (1 + exp(gain * (cutoff - v)))``, values v scaled to [0, 1].
    inverse : bool, default False
        Whether to take one minus that.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import sigmoid
    >>> sigmoid(np.array([[0, 64, 255]], dtype=np.uint8))
    array([[  2,  20, 253]], dtype=uint8)
    """
    return Lut.sigmoid(cutoff, gain, inverse=inverse)(
        image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, threads=threads
    )


def invert(
    image: ImageT,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Exchange dark and light.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import invert
    >>> invert(np.array([[0, 64, 255]], dtype=np.uint8))
    array([[255, 191,   0]], dtype=uint8)
    """
    return Lut.invert()(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, threads=threads)


def posterize(
    image: ImageT,
    levels: int,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Leave only so many evenly spaced values.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    levels : int
        Number of different values in each channel, at least 2; each stands for an equal share of the range.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If `levels` is less than 2.

    Notes
    -----
    The gradient is zero everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import posterize
    >>> posterize(np.array([[0, 100, 130, 255]], dtype=np.uint8), 2)
    array([[  0,   0, 255, 255]], dtype=uint8)
    """
    return Lut.posterize(levels)(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range, threads=threads)


def solarize(
    image: ImageT,
    threshold: float | None = None,
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Invert the values from a threshold upwards.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    threshold : float, optional
        In the units of the image; by default the middle of the range.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If `threshold` lies outside the range.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import solarize
    >>> solarize(np.array([[0, 100, 130, 255]], dtype=np.uint8))
    array([[  0, 100, 125,   0]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    threads = check_integer("threads", threads, minimum=1)
    middle = (opened.low + opened.high) / 2
    value = middle if threshold is None else check_interval("threshold", threshold, opened.low, opened.high)
    step = _steps.Solarize((value - opened.low) / (opened.high - opened.low))
    return cast("ImageT", apply_steps(opened, [step], threads=threads))


def levels(
    image: ImageT,
    *,
    black: float | None = None,
    white: float | None = None,
    gamma: float = 1.0,
    out_black: float | None = None,
    out_white: float | None = None,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Stretch the values between a black and a white point.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    black, white : float, optional
        Values, in the units of the image, that become the darkest and the lightest; by default the ends of the range.
        What lies beyond is clipped.
    gamma : float, default 1.0
        Positive; above 1 lightens the midtones: the stretched values, from 0 to 1, are raised to ``1 / gamma``.
    out_black, out_white : float, optional
        Values that the darkest and the lightest become; by default the ends of the range. Exchanged they invert.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If a value lies outside the range, or black is not less than white.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import levels
    >>> levels(np.array([[20, 120, 220]], dtype=np.uint8), black=20, white=220)
    array([[  0, 128, 255]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    threads = check_integer("threads", threads, minimum=1)
    low, span = opened.low, opened.high - opened.low
    ends = {"black": black, "white": white, "out_black": out_black, "out_white": out_white}
    if black is not None and white is not None and black >= white:
        raise ValueError(f"`black` must be less than `white`; got {black:g} and {white:g}")
    places = {
        name: float(name.endswith("white"))
        if value is None
        else (check_interval(name, value, low, opened.high) - low) / span
        for name, value in ends.items()
    }
    return cast("ImageT", apply_steps(opened, Lut.levels(gamma=gamma, **places).steps, threads=threads))


def curve(
    image: ImageT,
    points: Sequence[tuple[float, float]],
    *,
    channel_axis: int | None = None,
    alpha: bool | None = None,
    data_range: Sequence[float] | None = None,
    threads: int = 1,
) -> ImageT:
    """Change values by a smooth curve through points.

    Parameters
    ----------
    image : Pillow image, ndarray or Tensor
        An image of any kind, or a batch.
    points : sequence of (float, float)
        At least two points (value before, value after), in the units of the image, rising in the first. Between them
        runs a cubic that rises and falls only where the points do; before the first and after the last it is level.
    channel_axis : int, optional
        The axis of the channels where it is not the usual one (last for arrays, third from the end for tensors).
    alpha : bool, optional
        Whether the last channel is alpha, which is left alone; by default where there are two or four channels.
    data_range : (low, high), optional
        Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and F.
    threads : int, default 1
        Number of threads for integer images; results do not depend on it.

    Returns
    -------
    Pillow image, ndarray or Tensor
        The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.

    Raises
    ------
    ValueError
        If there are fewer than two points, the first values do not rise, or one lies outside the range.

    References
    ----------
    F. N. Fritsch, J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci.
    Stat. Comput. 5 (1984), Eq. (6).

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import curve
    >>> curve(np.array([[0, 64, 128, 255]], dtype=np.uint8), [(0, 0), (64, 32), (255, 255)])
    array([[  0,  32,  85, 255]], dtype=uint8)
    """
    opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
    threads = check_integer("threads", threads, minimum=1)
    low, high = opened.low, opened.high
    if not hasattr(points, "__iter__") or not all(hasattr(point, "__len__") and len(point) == 2 for point in points):
        raise ValueError(f"`points` must be pairs (value before, value after); got {shown(points)}")
    scaled = [[(check_interval("points", v, low, high) - low) / (high - low) for v in point] for point in points]
    if not all(first[0] < second[0] for first, second in pairwise(scaled)):
        raise ValueError(f"`points` must rise in their first values; got {shown(points)}")
    step = Lut.curve([(x, y) for x, y in scaled]).steps
    return cast("ImageT", apply_steps(opened, step, threads=threads))
