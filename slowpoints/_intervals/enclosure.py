"""`Enclosure`: what a network's intermediate values and their slopes can be over a box of states.

A slope of `y` over a box is a matrix `S` with `y(a) - y(b) = S (a - b)`; an enclosure holds one for
each two states `a`, `b` of the box. Slopes follow the chain rule, and unlike derivatives they also
exist at the kinks of units such as `relu`.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from slowpoints._intervals.balls import Ball, hull


class NotCovered(Exception):
    """An operation that no rule covers; the message names it. `certify` reports it as a reason."""


class Computed(abc.ABC):
    """A value of a program that is more than an exact array.

    The interpreter itself does nothing with one but take the rows of a stack, or make rows of one,
    by its `map`.
    """

    @abc.abstractmethod
    def map(self, move: Callable[[Any, int], Any]) -> "Computed":
        """Apply `move(array, extra)`, where `extra` counts the axes at the end that stay."""


@dataclasses.dataclass(frozen=True)
class Enclosure(Computed):
    """Values over a box of states, and their slopes.

    Attributes:
        value: the values, of the shape that the program has.
        slope: slopes, with one more axis at the end, along the state, which may be of length 1 if
            the slopes along all of it are the same; `None` for values that do not depend on the
            state.
    """

    value: Ball
    slope: Ball | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.value.shape

    def map(self, move: Callable[[Any, int], Any]) -> "Enclosure":
        """Apply `move(array, extra)`, where `extra` counts the axes at the end that stay."""
        slope = None if self.slope is None else self.slope.map(lambda a: move(a, 1))
        return Enclosure(self.value.map(lambda a: move(a, 0)), slope)


@dataclasses.dataclass(frozen=True)
class Decision(Computed):
    """Truth values of which some are not known, as where a box reaches across a threshold."""

    is_true: Any
    is_false: Any

    def map(self, move: Callable[[Any, int], Any]) -> "Decision":
        """Apply `move(array, 0)` to what is known."""
        return Decision(move(self.is_true, 0), move(self.is_false, 0))

    def settled(self) -> "Decision | np.ndarray":
        """Return an array of truth values if all are known."""
        return self.is_true if np.all(self.is_true | self.is_false) else self


def enclosure_of(value: Any) -> Enclosure:
    """Return a value of the program as an enclosure; arrays are exact."""
    if isinstance(value, Enclosure):
        return value
    if isinstance(value, Decision):
        raise NotCovered("arithmetic with an undecided comparison")
    if isinstance(value, Computed):
        raise NotCovered(f"arithmetic with a {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise NotCovered("complex arithmetic")
    if array.dtype.kind in "iu" and np.any(np.abs(array.astype(np.float64)) > 2.0**53):
        raise NotCovered("whole numbers above 2^53")
    return Enclosure(Ball(array.astype(np.float64)))


def chained(value: Ball, *parts: tuple[Ball, Ball | None]) -> Enclosure:
    """Return `value` with the slope that the chain rule gives.

    Args:
        value: the values.
        *parts: for each operand the derivative by it, elementwise, and its own slope.
    """
    total = None
    for derivative, slope in parts:
        if slope is not None:
            term = derivative.map(lambda a: np.asarray(a)[..., None]) * slope
            total = term if total is None else total + term
    if total is not None and total.shape[:-1] != value.shape:
        shape = (*value.shape, total.shape[-1])
        total = total.map(lambda a: np.broadcast_to(a, shape))
    return Enclosure(value, total)


def hull_of(a: Enclosure, b: Enclosure) -> Enclosure:
    """Return what is `a` or `b`, whose choice changes without a jump, as in a maximum."""
    value = hull(a.value, b.value)
    if a.slope is None and b.slope is None:
        return Enclosure(value)
    length = max(e.slope.shape[-1] for e in (a, b) if e.slope is not None)
    return Enclosure(value, hull(with_slope(a, length), with_slope(b, length)))


def chosen(where: Any, a: Enclosure, b: Enclosure) -> Enclosure:
    """Return the entries of `a` where `where` is true, and of `b` elsewhere."""

    def choose(a: Ball, b: Ball, where: Any) -> Ball:
        mid = np.where(where, a.mid, b.mid)
        if a.rad is None and b.rad is None:
            return Ball(mid)
        return Ball(mid, np.where(where, a.radius, b.radius))

    value = choose(a.value, b.value, where)
    if a.slope is None and b.slope is None:
        return Enclosure(value)
    zero = Ball(np.zeros(1))
    slope_a, slope_b = a.slope or zero, b.slope or zero
    slope = choose(slope_a, slope_b, np.asarray(where)[..., None])
    length = max(slope_a.shape[-1], slope_b.shape[-1])
    return Enclosure(value, slope.map(lambda s: np.broadcast_to(s, (*value.shape, length))))


def with_slope(e: Enclosure, length: int) -> Ball:
    """Return the slope along a state of this length, which is 0 if there is none."""
    slope = e.slope or Ball(np.zeros(1))
    return slope.map(lambda a: np.broadcast_to(a, (*e.shape, length)))


def with_a_jump(e: Enclosure, jumps: Any) -> Enclosure:
    """Return `e` with no bound of its slopes where `jumps`: the function may have a jump there."""
    if not np.any(jumps):
        return e
    length = 1 if e.slope is None else e.slope.shape[-1]
    slope = e.slope or Ball(np.zeros((*e.shape, length)))
    rad = np.where(np.asarray(jumps)[..., None], np.inf, slope.radius)
    return Enclosure(e.value, Ball(slope.mid, np.broadcast_to(rad, slope.shape)))


@runtime_checkable
class Enclosing(Protocol):
    """A map of boxes, one for each row, such as a `Program`."""

    def value(self, x: Ball, /) -> Ball:
        """Return what `x` can be mapped to, `[n, n_states]`, for boxes `[n, n_states]`."""
        ...

    def linearised(self, x: Ball, /) -> tuple[Ball, Ball]:
        """Return what `value` returns, and the slopes over `x`, `[n, n_states, n_states]`."""
        ...
