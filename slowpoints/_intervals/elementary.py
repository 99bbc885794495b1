"""Elementary functions in float64 with proven bounds of their error, on NumPy arrays.

No library that we know of states a proven error for its `exp` or `tanh`. These are made of sums,
products and quotients only, of which IEEE 754 says exactly how they round, and the comments count
the roundings. Each function returns its values, and for each a bound of the absolute error. The
bounds are several times larger than the errors are (a test compares them with `python-flint`).
"""

import math
from typing import Any

import numpy as np

ROUNDING = 2.0**-53
"""The largest relative error of one sum, product, quotient or square root in float64."""

TINY = 2.0**-1000
"""Covers what underflow costs: less than `2^-1022` for each operation, even where it flushes."""

_RELATIVE = 8 * ROUNDING

# ln 2 in two parts. The first has 32 bits, so that its product with a whole number is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG2_E = 1.44269504088896338700

# pi/2 in three parts; the first two have 33 bits each.
_HALF_PI = 1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21
_MOST_TURNS = 2.0**20  # of a quarter each; their products with 33 bits are exact

Bounded = tuple[Any, Any]
"""Values, and bounds of their absolute errors."""


def exp(x: Any) -> Bounded:
    """Return `exp(x)`.

    `exp(x) = 2^k exp(r)` with `|r| <= 0.35`. `r` is off by at most 0.8 roundings, as a sum of three
    terms whose first difference is below 0.36; Horner's rule for 14 terms of Taylor's series by at
    most 2.4 roundings of 1, and `exp(r)` is at least 0.7; the terms left out are below 0.1
    roundings. This makes 5 relative roundings, of which we allow 8. Scaling is exact, or
    underflows.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        k = np.rint(np.clip(x, -2000.0, 2000.0) * _LOG2_E)
        # Beyond this, the result over- or underflows whatever the remainder is.
        r = np.clip((x - k * _LN2_HIGH) - k * _LN2_LOW, -0.35, 0.35)
        value = np.ldexp(_horner(r, 0), np.where(np.isnan(k), 0, k).astype(np.int32))
        value = np.where(np.isnan(x), np.nan, value)
        return value, _RELATIVE * value + TINY


def expm1(x: Any) -> Bounded:
    """Return `exp(x) - 1`, with a small relative error also near zero.

    For `|x| <= 0.35` this is `x` times a sum that is at least 0.84. Horner's rule is off by at most
    3 roundings, the product adds one, and we allow 8.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        e, error = exp(x)
        far = e - 1
        near = x * _horner(np.clip(x, -0.35, 0.35), 1)
        is_near = np.abs(x) <= 0.35
        value = np.where(is_near, near, far)
        error = np.where(is_near, _RELATIVE * np.abs(near), error + ROUNDING * np.abs(far))
        return value, error * (1 + 2**-40) + TINY


def tanh(x: Any) -> Bounded:
    """Return `tanh(x)`, as `-t / (2 + t)` with `t = expm1(-2 |x|)`, between -1 and 0.

    The derivative by `t` is `2 / (2 + t)^2`, which is at most 2.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        t, error = expm1(-2 * np.abs(x))
        value = -t / (2 + t)
        return np.copysign(value, x), 2.01 * error + 4 * ROUNDING * value + TINY


def sinh(x: Any) -> Bounded:
    """Return `sinh(x)`, as `(t + t / (1 + t)) / 2` with `t = expm1(|x|)`.

    The derivative by `t` is at most 1.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        t, error = expm1(np.abs(x))
        value = np.where(np.isinf(t), t, 0.5 * (t + t / (1 + t)))
        return np.copysign(value, x), 1.01 * error + 4 * ROUNDING * value + TINY


def logistic(x: Any) -> Bounded:
    """Return `1 / (1 + exp(-x))`, from `e = exp(-|x|)`, by which its derivative is at most 1."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        e, error = exp(-np.abs(x))
        value = np.where(x >= 0, 1.0, e) / (1 + e)
        return value, 1.01 * error + 4 * ROUNDING * value + TINY


def log(x: Any) -> Bounded:
    """Return `log(x)`: the library's value `y`, and a bound of its error that `exp` proves.

    `log(x) = y + log(x exp(-y))`, and `|log(1 + w)| <= |w| / (1 - |w|)`.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        y = np.log(x)
        e, error = exp(-y)
        w = np.abs(x * e - 1) + x * error + 4 * ROUNDING
        return y, _log1p_bound(w) * (1 + 2**-40)


def log1p(x: Any) -> Bounded:
    """Return `log(1 + x)`, likewise: `log(1 + x) = y + log(1 + (x - expm1(y)) exp(-y))`."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        y = np.log1p(x)
        t, error = expm1(y)
        e, error_of_e = exp(-y)
        w = (np.abs(x - t) * (1 + 2**-40) + error) * (e + error_of_e)
        return y, _log1p_bound(w) * (1 + 2**-40) + TINY


def sin(x: Any) -> Bounded:
    """Return `sin(x)`; see `_turned`."""
    return _turned(x, 0)


def cos(x: Any) -> Bounded:
    """Return `cos(x)`; see `_turned`."""
    return _turned(x, 1)


def sqrt(x: Any) -> Bounded:
    """Return the square root, which IEEE 754 rounds correctly; NaN below zero."""
    with np.errstate(all="ignore"):
        value = np.sqrt(np.asarray(x, np.float64))
        return value, ROUNDING * value


def _horner(r: Any, first: int) -> Any:
    """Return the sum over `j` of `r^j / (j + first)!`, to 14 terms.

    The last term left out is below `0.35^14 / 14!`, which is 0.05 roundings.
    """
    total = np.zeros_like(r)
    for j in reversed(range(14)):
        total = total * r + 1 / math.factorial(j + first)
    return total


def _log1p_bound(w: Any) -> Any:
    return np.where(w < 0.5, w / (1 - np.minimum(w, 0.5)), np.inf)


def _turned(x: Any, quarters: int) -> Bounded:
    """Return `sin(x + quarters pi / 2)`.

    What is left after quarter turns, at most 0.79, is off by at most three roundings of 1; Taylor's
    series to degree 19, evaluated by Horner's rule, by at most four more. Very large arguments get
    the whole range from -1 to 1.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        k = np.rint(x / (_HALF_PI[0] + _HALF_PI[1]))
        r = ((x - k * _HALF_PI[0]) - k * _HALF_PI[1]) - k * _HALF_PI[2]
        known = np.abs(k) <= _MOST_TURNS
        r = np.where(known, r, 0.0)
        turn = np.where(known, k, 0.0).astype(np.int64) + quarters
        square = r * r
        sine, cosine = np.zeros_like(r), np.zeros_like(r)
        for j in reversed(range(10)):
            sine = (-1) ** j / math.factorial(2 * j + 1) + sine * square
            cosine = (-1) ** j / math.factorial(2 * j) + cosine * square
        value = np.where(turn % 2 == 1, cosine, sine * r) * np.where(turn % 4 >= 2, -1.0, 1.0)
        value = np.where(known, value, 0.0 * x)
        return value, np.where(known, _RELATIVE, 1.0)
