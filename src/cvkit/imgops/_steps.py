"""Tone curves as pure functions of values in [0, 1], for arrays and tensors alike: what a `Lut` is made of.

Values come as (N, C, H, W); a step clips them to [0, 1] first and keeps NaN. Results may leave [0, 1]: the next step,
or the end, clips them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cvkit.imgops._kinds import is_tensor
from cvkit.imgops._pixels import Values, namespace

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = [
    "Curve",
    "Gamma",
    "Invert",
    "Levels",
    "Log",
    "Posterize",
    "Sigmoid",
    "Solarize",
    "Step",
    "Stretch",
    "Table",
    "Threshold",
    "pchip_slopes",
]

# Pushes values that should be whole, and miss it by their last bits, over the edge.
_TICK = 1e-9


class Step(Protocol):
    """A tone curve."""

    @property
    def channels(self) -> int | None:
        """Number of colour channels it is made for; None serves any."""
        ...

    def __call__(self, values: Values, /) -> Values:
        """Return the curve's values at `values`."""
        ...


def _constants(array: Array, values: Values) -> Values:
    """Return constants in the library, dtype and on the device of `values`."""
    if is_tensor(values):
        import torch

        return torch.from_numpy(np.array(array)).to(device=values.device, dtype=values.dtype)
    return array.astype(values.dtype)


def _power(base: Values, exponent: float) -> Values:
    """Return ``base ** exponent`` for base >= 0, with a gradient of zero, not infinity, at zero."""
    xp = namespace(base)
    if exponent == 1:
        return base
    positive = base > 0
    # NaN is not positive either: it must not become zero.
    return xp.where(positive, xp.where(positive, base, xp.ones_like(base)) ** exponent, base * 0.0)


def _unit(values: Values) -> Values:
    return namespace(values).clip(values, 0.0, 1.0)


@dataclass(frozen=True)
class Gamma:
    """``gain * v ** exponent``."""

    exponent: float
    gain: float = 1.0
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        powered = _power(_unit(values), self.exponent)
        return powered if self.gain == 1 else self.gain * powered


@dataclass(frozen=True)
class Levels:
    """``clip((v - black) / (white - black)) ** (1 / gamma)``, then stretched from out_black to out_white."""

    black: float
    white: float
    gamma: float
    out_black: float
    out_white: float
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        inside = _unit((_unit(values) - self.black) / (self.white - self.black))
        return self.out_black + (self.out_white - self.out_black) * _power(inside, 1 / self.gamma)


@dataclass(frozen=True)
class Log:
    """``gain * log2(1 + v)``, or ``gain * (2 ** v - 1)``."""

    gain: float
    inverse: bool
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        xp = namespace(v)
        return self.gain * (xp.exp2(v) - 1 if self.inverse else xp.log2(1 + v))


@dataclass(frozen=True)
class Sigmoid:
    """``1 / (1 + exp(gain * (cutoff - v)))``, or one minus that."""

    cutoff: float
    gain: float
    inverse: bool
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        # tanh form: no overflow for any gain.
        curve = 0.5 + 0.5 * namespace(v).tanh(0.5 * self.gain * (v - self.cutoff))
        return 1 - curve if self.inverse else curve


@dataclass(frozen=True)
class Invert:
    """``1 - v``."""

    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        return 1 - _unit(values)


@dataclass(frozen=True)
class Posterize:
    """So many evenly spaced values, each standing for an equal share of the range."""

    levels: int
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        xp = namespace(v)
        # Adding v * 0 keeps NaN, and the graph of a tensor whose gradient is zero.
        return xp.clip(xp.floor(v * self.levels + _TICK), 0, self.levels - 1) / (self.levels - 1) + v * 0.0


@dataclass(frozen=True)
class Solarize:
    """``1 - v`` from the threshold upwards."""

    threshold: float
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        return namespace(v).where(v >= self.threshold - _TICK, 1 - v, v)


@dataclass(frozen=True, eq=False)
class Threshold:
    """1 above the threshold of the channel, else 0; thresholds (N or 1, C or 1)."""

    thresholds: Array

    @property
    def channels(self) -> int | None:
        return None if self.thresholds.shape[1] == 1 else int(self.thresholds.shape[1])

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        above = v > _constants(self.thresholds[:, :, None, None], v)
        return namespace(v).where(above, namespace(v).ones_like(v), v * 0.0)


@dataclass(frozen=True, eq=False)
class Stretch:
    """``(v - black) / (white - black)`` with black and white points (N or 1, C or 1)."""

    black: Array
    white: Array

    @property
    def channels(self) -> int | None:
        return None if self.black.shape[1] == 1 else int(self.black.shape[1])

    def __call__(self, values: Values, /) -> Values:
        v = _unit(values)
        black, white = (_constants(point[:, :, None, None], v) for point in (self.black, self.white))
        return (v - black) / (white - black)


@dataclass(frozen=True, eq=False)
class Curve:
    """A piecewise cubic through knots (x, y) with slopes there; constant before the first and after the last."""

    x: Array
    y: Array
    slopes: Array
    channels: int | None = None

    def __call__(self, values: Values, /) -> Values:
        xp = namespace(values)
        v = xp.clip(_unit(values), float(self.x[0]), float(self.x[-1]))
        piece = sum((v >= float(knot) for knot in self.x[1:-1]), xp.zeros(v.shape, dtype=xp.int64))
        piece = piece.to(v.device) if is_tensor(v) else piece
        step = np.diff(self.x)
        x, y0, y1, h, d0, d1 = (
            _constants(c, v)[piece]
            for c in (self.x[:-1], self.y[:-1], self.y[1:], step, self.slopes[:-1] * step, self.slopes[1:] * step)
        )
        # Cubic Hermite form: t in [0, 1] within the piece.
        t = (v - x) / h
        return y0 + t * (d0 + t * (3 * (y1 - y0) - 2 * d0 - d1 + t * (2 * (y0 - y1) + d0 + d1)))


def pchip_slopes(x: Array, y: Array) -> Array:
    """Return slopes that make the cubic through the knots monotone wherever the knots are.

    Inner slopes are the weighted harmonic mean of the two neighbouring secants, zero where these differ in sign; end
    slopes are one-sided three-point estimates, limited so that they do not overshoot.

    F. N. Fritsch, J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci.
    Stat. Comput. 5 (1984), Eq. (6).
    """
    h = np.diff(x)
    secant = np.diff(y) / h
    if x.size == 2:
        return np.repeat(secant, 2)
    slopes = np.zeros(x.size)
    left, right = secant[:-1], secant[1:]
    same = left * right > 0
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes[1:-1] = np.where(same, (w1 + w2) / (w1 / left + w2 / right), 0.0)
    slopes[0] = _end_slope(h[0], h[1], secant[0], secant[1])
    slopes[-1] = _end_slope(h[-1], h[-2], secant[-1], secant[-2])
    return slopes


def _end_slope(h0: float, h1: float, s0: float, s1: float) -> float:
    slope = ((2 * h0 + h1) * s0 - h0 * s1) / (h0 + h1)
    if slope * s0 <= 0:
        return 0.0
    return 3 * s0 if s0 * s1 <= 0 and abs(slope) > abs(3 * s0) else slope


@dataclass(frozen=True, eq=False)
class Table:
    """Values at evenly spaced levels of [0, 1], (N or 1, C or 1, L), with straight lines between them."""

    tables: Array

    @property
    def channels(self) -> int | None:
        return None if self.tables.shape[1] == 1 else int(self.tables.shape[1])

    def __call__(self, values: Values, /) -> Values:
        top = self.tables.shape[-1] - 1
        place = _unit(values) * top
        return _interpolate_tensor(place, self.tables) if is_tensor(place) else _interpolate(place, self.tables)


def _interpolate(place: Array, tables: Array) -> Array:
    """Return tables at real indices; NaN gives NaN."""
    shape = np.broadcast_shapes(place.shape[:2], tables.shape[:2])
    result = np.empty((*shape, *place.shape[2:]), place.dtype)
    levels = np.arange(tables.shape[-1])
    for n, c in np.ndindex(*shape):
        table = tables[n % len(tables), c % tables.shape[1]]
        result[n, c] = np.interp(place[n % len(place), c % place.shape[1]], levels, table)
    return result


def _interpolate_tensor(place: Any, tables: Array) -> Any:
    import torch

    top = tables.shape[-1] - 1
    index = place.detach().nan_to_num(0.0).floor().clamp(0, top - 1).long()
    whole = _constants(tables, place).expand(place.shape[0], place.shape[1], -1)
    left = whole.gather(2, index.flatten(2)).view(place.shape)
    right = whole.gather(2, index.flatten(2) + 1).view(place.shape)
    return torch.lerp(left, right, place - index)
