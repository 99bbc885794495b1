"""`Sum`: what is known of a number, as a sum of products of symbols that is linear in each."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

_MOST_TERMS = 12
"""Gated units have four terms. Longer sums count as unknown."""

ROUNDED = 2e-7
"""The sum of numbers in a program, such as 0.9, 0.1 and -1, may differ from zero by this fraction
of the largest, since they are rounded to float32."""

Sum = dict[frozenset[int], float]
"""Coefficients of products of symbols, by the symbols' numbers; the first are the states."""


class Range(NamedTuple):
    """What a symbol can be; if `is_open`, it is neither of the ends."""

    low: float
    high: float
    is_open: bool


ANYTHING = Range(-math.inf, math.inf, True)


def unknown(shape: tuple[int, ...]) -> Any:
    """Return numbers of which nothing is known, as an array of sums: `None` each."""
    return np.broadcast_to(np.array(None, object), shape)


def plus(a: Sum | None, b: Sum | None) -> Sum | None:
    """Return a sum of two; `None` if one is unknown, or if it is long."""
    if a is None or b is None:
        return None
    total = dict(a)
    for symbols, number in b.items():
        total[symbols] = sum_of((total.get(symbols, 0.0), number))
    return total if len(total) <= _MOST_TERMS else None


def times(a: Sum | None, b: Sum | None) -> Sum | None:
    """Return a product; `None` if that is not known, or not linear in each symbol."""
    if a is None or b is None:
        return None
    total: Sum = {}
    for (s, p), (t, r) in itertools.product(a.items(), b.items()):
        if s & t:  # no longer linear in this symbol
            return None
        total[s | t] = total.get(s | t, 0.0) + p * r
    return total if len(total) <= _MOST_TERMS else None


def sum_of(numbers: Sequence[float]) -> float:
    """Return a sum, which is zero if it is nothing but rounding."""
    total = sum(numbers)
    largest = max(map(abs, numbers), default=0.0)
    return 0.0 if abs(total) <= ROUNDED * largest < math.inf else total


def negative(a: Sum | None) -> Sum | None:
    """Return a sum with the other sign."""
    return times(a, {frozenset(): -1.0})


def elementwise(function: Callable[..., Any], *arrays: Any) -> Any:
    """Return what a function makes of each entry of arrays of sums."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))  # a number may stand for an array
    parts = (np.broadcast_to(a, shape).ravel() for a in arrays)
    entries = [function(*one) for one in zip(*parts, strict=True)]
    return np.fromiter(entries, object, len(entries)).reshape(shape)


def of_numbers(values: Any) -> Any:
    """Return numbers that are part of the program as sums."""
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        return unknown(values.shape)
    return elementwise(lambda value: {frozenset(): float(value)}, values)


def finite_product(a: float, b: float) -> float:
    """Return a product in which zero times infinity is zero: one factor is zero at that end."""
    return 0.0 if a == 0 or b == 0 else a * b
