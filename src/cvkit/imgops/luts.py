"""Tone curves that compose: any number of them is applied to an image in one pass, rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cvkit._checks import check_finite, check_integer, check_interval, shown
from cvkit.imgops import _steps
from cvkit.imgops._apply import apply_integers
from cvkit.imgops._kinds import Unpacked, is_tensor, quantize, unpack, working
from cvkit.imgops._pixels import namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import Array, ArrayLike, Image, ImageT
    from cvkit.imgops._steps import Step

__all__ = ["Lut", "apply_steps"]

# Added before rounding, so that an exact half that float64 misses by its last bits still goes up.
_TICK = 1e-9
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Lut:
    """A tone curve, or several one after the other, applied to images in a single pass.

    Curves are functions of values in [0, 1], whatever the dtype of the image that they are applied to: 0 stands for
    the bottom of its range, 1 for the top. ``a @ b`` does `b` first, then `a`; nothing is rounded in between. For 8-
    and 16-bit images the curve is evaluated once for each level in float64 and applied as a table; floats go through
    the formulas themselves and stay differentiable.

    Made by `Lut.gamma`, `Lut.levels`, `Lut.curve` and so on, by `Lut.from_table`, or from an image by `equalize_lut`,
    `autocontrast_lut` and `match_lut`.

    Parameters
    ----------
    steps : tuple
        The curves, in the order in which they are applied; none changes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.imgops import Lut
    >>> brighten = Lut.gamma(0.5) @ Lut.levels(black=0.1, white=0.9)
    >>> photo = np.array([[0, 64, 128, 255]], dtype=np.uint8)
    >>> brighten(photo)
    array([[  0, 111, 181, 255]], dtype=uint8)
    >>> (Lut.invert() @ Lut.invert())(photo)
    array([[  0,  64, 128, 255]], dtype=uint8)
    """

    steps: tuple[Step, ...] = ()

    def __matmul__(self, other: Lut) -> Lut:
        if not isinstance(other, Lut):
            return NotImplemented
        counts = {step.channels for step in self.steps + other.steps if step.channels is not None}
        if len(counts) > 1:
            raise ValueError(f"curves for {' and '.join(map(str, sorted(counts)))} channels cannot be joined")
        return Lut(other.steps + self.steps)

    def __call__(
        self,
        image: ImageT,
        *,
        channel_axis: int | None = None,
        alpha: bool | None = None,
        data_range: Sequence[float] | None = None,
        threads: int = 1,
    ) -> ImageT:
        """Apply the curves to an image.

        Parameters
        ----------
        image : Pillow image, ndarray or Tensor
            An image of any kind, or a batch; alpha is left alone. Values outside the range are clipped to it.
        channel_axis : int, optional
            The axis of the channels where it is not the usual one.
        alpha : bool, optional
            Whether the last channel is alpha; by default it is where there are two or four channels.
        data_range : (low, high), optional
            Range of the values, by default the dtype's, [0, 1] for floats; needed for int16, int32 and Pillow's I and
            F.
        threads : int, default 1
            Number of threads; results do not depend on it.

        Returns
        -------
        Pillow image, ndarray or Tensor
            The same kind, dtype and shape. Integers are rounded half up; NaN stays NaN.
        """
        threads = check_integer("threads", threads, minimum=1)
        opened = unpack(image, channel_axis=channel_axis, alpha=alpha, data_range=data_range)
        return cast("ImageT", apply_steps(opened, self.steps, threads=threads))

    def table(self, levels: int = 256) -> Array:
        """Return the values at evenly spaced levels.

        Parameters
        ----------
        levels : int, default 256
            How many levels of [0, 1], both ends included.

        Returns
        -------
        ndarray of shape (C, levels)
            float64 in [0, 1]; one row where all channels share the curve.
        """
        levels = check_integer("levels", levels, minimum=2)
        return cast("Array", _evaluate(self.steps, levels)[0])

    @staticmethod
    def from_table(table: ArrayLike) -> Lut:
        """Return the curve through the values of a table.

        Parameters
        ----------
        table : ndarray or Tensor of shape (L,) or (C, L)
            Values at L evenly spaced levels, for all channels or for each of them: uint8 or uint16 in their own
            range, floats in [0, 1].

        Returns
        -------
        Lut
            An integer image with L levels gets the table's values; others are interpolated.
        """
        values = table.detach().cpu().numpy() if is_tensor(table) else np.asarray(table)
        if values.ndim not in {1, 2} or values.shape[-1] < 2 or values.dtype.name not in {
            "uint8",
            "uint16",
            "float16",
            "float32",
            "float64",
        }:  # fmt: skip
            raise ValueError(f"`table` must be uint8, uint16 or floats of shape (L,) or (C, L); got {shown(table)}")
        top = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        scaled = np.atleast_2d(values).astype(np.float64) / top
        if not bool(np.all((scaled >= 0) & (scaled <= 1))):
            raise ValueError("`table` must lie in [0, 1] where it holds floats")
        return Lut((_steps.Table(scaled[None]),))

    @staticmethod
    def gamma(exponent: float, gain: float = 1.0) -> Lut:
        """Return ``gain * v ** exponent``.

        Parameters
        ----------
        exponent : float
            Positive; below 1 lightens.
        gain : float, default 1.0
            Not negative.

        Returns
        -------
        Lut
            The curve.
        """
        return Lut(
            (_steps.Gamma(check_interval("exponent", exponent, 0.0, low_open=True), check_interval("gain", gain, 0.0)),)
        )

    @staticmethod
    def levels(
        black: float = 0.0, white: float = 1.0, gamma: float = 1.0, out_black: float = 0.0, out_white: float = 1.0
    ) -> Lut:
        """Return ``out_black + (out_white - out_black) * clip((v - black) / (white - black)) ** (1 / gamma)``.

        Parameters
        ----------
        black, white : float
            Values in [0, 1] that become the darkest and the lightest; black < white.
        gamma : float, default 1.0
            Positive; above 1 lightens the midtones.
        out_black, out_white : float
            Values in [0, 1] that the darkest and the lightest become; exchanged they invert.

        Returns
        -------
        Lut
            The curve.
        """
        black, white = check_interval("black", black, 0.0, 1.0), check_interval("white", white, 0.0, 1.0)
        if black >= white:
            raise ValueError(f"`black` must be less than `white`; got {black:g} and {white:g}")
        return Lut(
            (
                _steps.Levels(
                    black,
                    white,
                    check_interval("gamma", gamma, 0.0, low_open=True),
                    check_interval("out_black", out_black, 0.0, 1.0),
                    check_interval("out_white", out_white, 0.0, 1.0),
                ),
            )
        )

    @staticmethod
    def curve(points: Sequence[tuple[float, float]]) -> Lut:
        """Return the monotone cubic through points.

        Parameters
        ----------
        points : sequence of (float, float)
            At least two points (value before, value after) in [0, 1], rising in the first.

        Returns
        -------
        Lut
            The curve; before the first and after the last point it is level.

        References
        ----------
        F. N. Fritsch, J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J.
        Sci. Stat. Comput. 5 (1984), Eq. (6).
        """
        pairs = hasattr(points, "__iter__") and all(hasattr(point, "__len__") and len(point) == 2 for point in points)
        knots = np.array(
            [[check_interval("points", v, 0.0, 1.0) for v in point] for point in (points if pairs else ())], np.float64
        )
        if knots.ndim != 2 or knots.shape[1] != 2 or len(knots) < 2 or not bool(np.all(np.diff(knots[:, 0]) > 0)):
            raise ValueError(f"`points` must be at least two points (x, y) with rising x; got {shown(points)}")
        x, y = knots.T.copy()
        return Lut((_steps.Curve(x, y, _steps.pchip_slopes(x, y)),))

    @staticmethod
    def log(gain: float = 1.0, *, inverse: bool = False) -> Lut:
        """Return ``gain * log2(1 + v)``, or its inverse's form ``gain * (2 ** v - 1)``.

        Parameters
        ----------
        gain : float, default 1.0
            Not negative.
        inverse : bool, default False
            Whether to use the second form, which darkens.

        Returns
        -------
        Lut
            The curve.
        """
        return Lut((_steps.Log(check_interval("gain", gain, 0.0), bool(inverse)),))

    @staticmethod
    def sigmoid(cutoff: float = 0.5, gain: float = 10.0, *, inverse: bool = False) -> Lut:
        """Return ``1 / (1 + exp(gain * (cutoff - v)))``.

        Parameters
        ----------
        cutoff : float, default 0.5
            The value that becomes one half.
        gain : float, default 10.0
            Steepness.
        inverse : bool, default False
            Whether to return one minus that.

        Returns
        -------
        Lut
            The curve.
        """
        return Lut((_steps.Sigmoid(check_finite("cutoff", cutoff), check_finite("gain", gain), bool(inverse)),))

    @staticmethod
    def invert() -> Lut:
        """Return ``1 - v``.

        Returns
        -------
        Lut
            The curve.
        """
        return Lut((_steps.Invert(),))

    @staticmethod
    def posterize(levels: int) -> Lut:
        """Return a staircase of so many evenly spaced values.

        Parameters
        ----------
        levels : int
            Number of different values, at least 2; each stands for an equal share of the range.

        Returns
        -------
        Lut
            The curve, whose gradient is zero.
        """
        return Lut((_steps.Posterize(check_integer("levels", levels, minimum=2)),))

    @staticmethod
    def solarize(threshold: float = 0.5) -> Lut:
        """Return the curve that inverts values from a threshold upwards.

        Parameters
        ----------
        threshold : float, default 0.5
            In [0, 1].

        Returns
        -------
        Lut
            The curve.
        """
        return Lut((_steps.Solarize(check_interval("threshold", threshold, 0.0, 1.0)),))

    @staticmethod
    def threshold(value: float = 0.5) -> Lut:
        """Return 1 for values greater than a threshold, else 0.

        Parameters
        ----------
        value : float, default 0.5
            The threshold.

        Returns
        -------
        Lut
            The curve, whose gradient is zero.
        """
        return Lut((_steps.Threshold(np.array([[check_finite("value", value)]])),))


def apply_steps(opened: Unpacked, steps: Sequence[Step], *, threads: int = 1) -> Image:
    """Apply curves to an opened image: as tables to integers of up to 65536 levels, by formula to all others."""
    for step in steps:
        if step.channels not in {None, opened.colors}:
            raise ValueError(
                f"the curve is for {step.channels} colour channels; `{opened.name}` has {opened.colors} (see `alpha`)"
            )
    low, high = opened.low, opened.high
    if opened.integer and high - low < 65536:
        values = low + _evaluate(steps, int(high - low) + 1) * (high - low)
        return apply_integers(opened, quantize(values + _TICK, low, high, opened.dtype), threads=threads)
    color = opened.color
    if is_tensor(color):
        return opened.pack_color(_through(working(color), steps, low, high))
    array = cast("Array", color)
    result = np.empty_like(array)
    rows = max(1, _BLOCK // max(array.shape[1] * array.shape[3], 1))
    for n in range(len(array)):
        own = [_for_image(step, n) for step in steps]
        for top in range(0, array.shape[2], rows):
            part = (slice(n, n + 1), slice(None), slice(top, top + rows))
            raw = working(array[part]) if not opened.integer else array[part].astype(np.float64)
            after = cast("Array", _through(raw, own, low, high))
            result[part] = quantize(after + _TICK, low, high, opened.dtype) if opened.integer else after
    return opened.pack_color(result)


def _for_image(step: Step, n: int) -> Step:
    """Return a step for image n alone, where it holds tables for each image of a batch."""
    if isinstance(step, _steps.Table) and len(step.tables) > 1:
        return _steps.Table(step.tables[n : n + 1])
    if isinstance(step, _steps.Threshold) and len(step.thresholds) > 1:
        return _steps.Threshold(step.thresholds[n : n + 1])
    if isinstance(step, _steps.Stretch) and len(step.black) > 1:
        return _steps.Stretch(step.black[n : n + 1], step.white[n : n + 1])
    return step


def _through(values: ArrayLike, steps: Sequence[Step], low: float, high: float) -> ArrayLike:
    xp = namespace(values)
    scaled: ArrayLike = values if (low, high) == (0, 1) else (values - low) / (high - low)
    for step in steps:
        scaled = step(scaled)
    scaled = xp.clip(scaled, 0.0, 1.0)
    return scaled if (low, high) == (0, 1) else xp.clip(low + scaled * (high - low), low, high)


@lru_cache(maxsize=4)
def _even_levels(levels: int) -> Array:
    """Return [0, 1] in so many levels, (1, 1, levels, 1), not to be written to."""
    values = np.linspace(0.0, 1.0, levels)[None, None, :, None]
    values.flags.writeable = False
    return values


def _evaluate(steps: Sequence[Step], levels: int) -> Array:
    """Return the curves at evenly spaced levels: (N or 1, C or 1, levels) float64 in [0, 1]."""
    values: Any = _even_levels(levels)
    for step in steps:
        values = step(values)
    return cast("Array", np.clip(values[..., 0], 0.0, 1.0))
