"""`Ball`: arrays of midpoints and radii, and arithmetic whose results hold every true value.

Rump's way (Rump 1999, "Fast and parallel interval arithmetic"): midpoints are computed as usual, by
NumPy and BLAS, and radii take in what rounding can have done, by bounds known beforehand. Radii are
sums of numbers that are not negative, so that computing them costs a relative error only, which
`_wider` more than covers.

A ball with a radius is *unknown* if that or the midpoint is not finite. It then holds every number,
the infinities and NaN, as of a square root below zero, and no comparison takes it for a proof.
Functions of what is unknown are unknown, however few values they have: the hyperbolic tangent of
NaN is not between -1 and 1. Midpoints without radii are what they are, NaN and infinities included.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from slowpoints._intervals.elementary import ROUNDING, TINY, Bounded


def _wider(radius: Any) -> Any:
    """Return a radius that was computed with at most 2^12 roundings, made larger by as much."""
    return radius * (1 + 2.0**-40) + TINY


@dataclasses.dataclass(frozen=True)
class Ball:
    """All real arrays whose entries differ from `mid` by at most `rad`.

    Attributes:
        mid: midpoints, float64.
        rad: radii of the same shape; `None` if the midpoints are the values themselves.
    """

    mid: Any
    rad: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the midpoints."""
        return np.shape(self.mid)

    @property
    def radius(self) -> Any:
        """The radii; 0 for exact values."""
        return np.float64(0) if self.rad is None else self.rad

    @property
    def is_known(self) -> Any:
        """Where the ball holds real numbers only."""
        return np.isfinite(self.mid) & np.isfinite(self.radius)

    @property
    def is_ordered(self) -> Any:
        """Where it does not hold NaN, which is not below, above or at any number."""
        return ~np.isnan(self.mid) if self.rad is None else self.is_known

    @property
    def magnitude(self) -> Any:
        """A bound of the absolute values."""
        return _wider(np.abs(self.mid) + self.radius)

    def bounds(self) -> tuple[Any, Any]:
        """Return the lower and the upper ends."""
        if self.rad is None:
            return self.mid, self.mid
        with np.errstate(all="ignore"):
            known = np.isfinite(self.mid)  # an overflow may have had either sign
            low = np.where(known, np.nextafter(self.mid - self.rad, -np.inf), -np.inf)
            high = np.where(known, np.nextafter(self.mid + self.rad, np.inf), np.inf)
            return low, high

    def map(self, move: Callable[[Any], Any]) -> "Ball":
        """Return the ball with `move` applied to midpoints and radii, such as a transposition."""
        return Ball(move(self.mid), None if self.rad is None else move(self.rad))

    def __add__(self, other: "Ball") -> "Ball":
        with np.errstate(all="ignore"):
            mid = self.mid + other.mid
            return Ball(mid, _wider(self.radius + other.radius + ROUNDING * np.abs(mid)))

    def __neg__(self) -> "Ball":
        return Ball(-self.mid, self.rad)

    def __sub__(self, other: "Ball") -> "Ball":
        return self + -other

    def __mul__(self, other: "Ball") -> "Ball":
        with np.errstate(all="ignore"):
            mid = self.mid * other.mid
            rad = ROUNDING * np.abs(mid)
            if other.rad is not None:
                rad = rad + np.abs(self.mid) * other.rad
            if self.rad is not None:
                rad = rad + self.rad * (np.abs(other.mid) + other.radius)
            return Ball(mid, _wider(rad))

    def __truediv__(self, other: "Ball") -> "Ball":
        with np.errstate(all="ignore"):
            # Smaller than any value of the divisor, or below zero if that may vanish.
            least = (np.abs(other.mid) - other.radius) * (1 - 2.0**-40)
            mid = self.mid / other.mid
            # An underflow of the product would be divided as well.
            rad = (self.radius + np.abs(mid) * other.radius + TINY) / least
            rad = rad + ROUNDING * np.abs(mid)
            safe = (least > TINY) & np.isfinite(other.mid)
            return Ball(np.where(safe, mid, 0.0), np.where(safe, _wider(rad), np.inf))

    def sum(self, axes: tuple[int, ...]) -> "Ball":
        """Return the sum along axes, in whatever order it is computed."""
        count = int(np.prod([self.shape[axis] for axis in axes]))
        with np.errstate(all="ignore"):
            mid = np.sum(self.mid, axis=axes)
            rad = np.sum(self.radius + _gamma(count) * np.abs(self.mid), axis=axes)
            rad = np.where(np.isfinite(mid), rad, np.inf)
            return Ball(mid, _wider(rad * (1 + _gamma(count)) + count * TINY))


def matmul(a: Ball, b: Ball) -> Ball:
    """Return the product of (stacks of) matrices.

    `|fl(A B) - A B| <= gamma_k |A| |B|` with `gamma_k = k u / (1 - k u)` holds for every order of
    the sums, with or without fused multiplication (Higham 2002, section 3.5), and so for every BLAS
    that does not use Strassen's method, which those of NumPy do not.
    """
    count = a.shape[-1]
    gamma = _gamma(count)
    with np.errstate(all="ignore"):
        mid = a.mid @ b.mid
        rad = np.abs(a.mid) @ (gamma * np.abs(b.mid) + b.radius + TINY)
        if a.rad is not None:
            rad = rad + a.rad @ (np.abs(b.mid) + b.radius)
        rad = np.where(np.isfinite(mid), rad, np.inf)
        return Ball(mid, _wider(rad * (1 + 2 * gamma) + count * TINY))


def _gamma(count: int) -> float:
    return 1.001 * (count + 4) * ROUNDING  # for less than 2^40 terms


def from_bounds(low: Any, high: Any) -> Ball:
    """Return a ball that holds all values from `low` to `high`."""
    with np.errstate(all="ignore"):
        mid = 0.5 * low + 0.5 * high
        return Ball(mid, _wider(np.maximum(high - mid, mid - low)))


def hull(a: Ball, b: Ball) -> Ball:
    """Return a ball that holds both."""
    (a_low, a_high), (b_low, b_high) = a.bounds(), b.bounds()
    return from_bounds(np.minimum(a_low, b_low), np.maximum(a_high, b_high))


def monotone(function: Callable[[Any], Bounded], x: Ball, *, rising: bool = True) -> Ball:
    """Return the values of a monotone function, from those at the ends of `x`."""
    if x.rad is None:
        return Ball(*function(x.mid))
    ends = x.bounds() if rising else x.bounds()[::-1]
    with np.errstate(all="ignore"):
        (low, low_error), (high, high_error) = map(function, ends)
        values = from_bounds(
            np.nextafter(low - low_error, -np.inf), np.nextafter(high + high_error, np.inf)
        )
    return known_where(values, x.is_known)


def clipped(x: Ball, low: float, high: float) -> Ball:
    """Return `x` without what is known to be out of range, such as a `tanh` above 1.

    What is unknown stays so, since NaN is not in any range.
    """
    below, above = x.bounds()
    inside = (below >= low) & (above <= high)
    narrow = from_bounds(np.clip(below, low, high), np.clip(above, low, high))
    radius = np.broadcast_to(x.radius, np.shape(x.mid))
    result = Ball(np.where(inside, x.mid, narrow.mid), np.where(inside, radius, narrow.rad))
    return known_where(result, x.is_known)


def known_where(x: Ball, where: Any) -> Ball:
    """Return `x`, unknown elsewhere."""
    return x if np.all(where) else Ball(x.mid, np.where(where, x.radius, np.inf))


def power(x: Ball, exponent: int) -> Ball:
    """Return `x` to the power of a whole number, from the ends of `x`.

    Powers of what is unknown are unknown, since those of its ends overflow; but NaN to the power of
    0 is 1, as the standard has it.
    """
    if exponent < 0:
        return Ball(np.float64(1)) / power(x, -exponent)
    if exponent == 0:
        return Ball(np.ones(x.shape))
    low, high = (_repeated(Ball(end), exponent) for end in x.bounds())
    ends = hull(low, high)
    if exponent % 2:
        return ends
    below, above = x.bounds()
    top = ends.bounds()[1]
    through_zero = from_bounds(np.zeros(x.shape), top)
    crosses = (below < 0) & (above > 0)
    return Ball(
        np.where(crosses, through_zero.mid, ends.mid), np.where(crosses, through_zero.rad, ends.rad)
    )


def _repeated(x: Ball, exponent: int) -> Ball:
    result, square = Ball(np.float64(1)), x
    while exponent:
        if exponent & 1:
            result = result * square
        square, exponent = square * square, exponent >> 1
    return result
