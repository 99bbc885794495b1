"""`Regions`: which side of its kinks a piecewise-linear network is supposed to be on.

While a `Regions` is in force, a maximum is taken to be the operand that is supposed to be the
larger, and so the network is affine. What was supposed is checked afterwards, by the differences
that are noted on the way.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
from jaxtyping import Bool

from slowpoints._intervals.balls import Ball
from slowpoints._intervals.enclosure import Enclosure, NotCovered, chosen


class Regions:
    """A region for each row of a program.

    Args:
        first_is_larger: `[n_rows, n_kinks]` for each maximum of the program, in the order in which
            it meets them, whether the first operand is supposed to be the larger.
    """

    def __init__(self, first_is_larger: Bool[np.ndarray, "n_rows n_kinks"]):
        self.first_is_larger = first_is_larger
        self._low: list[Any] = []
        self._high: list[Any] = []
        self.n_kinks = 0
        """How many maxima of numbers that depend on the state the program has met."""

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Suppose these regions, for one pass through the program."""
        self._low, self._high, self.n_kinks = [], [], 0
        token = IN_FORCE.set(self)
        try:
            yield
        finally:
            IN_FORCE.reset(token)

    def maximum(self, a: Enclosure, b: Enclosure, difference: Ball) -> Enclosure:
        """Return the operand that is supposed to be the larger, and note their difference."""
        n_rows = len(self.first_is_larger)
        if a.shape.count(n_rows) != 1:
            raise NotCovered("a maximum whose axis of rows is not known")
        axis = a.shape.index(n_rows)
        shape = np.moveaxis(np.zeros(a.shape, bool), axis, 0).shape
        count = int(np.prod(shape[1:], dtype=int))
        part = self.first_is_larger[:, self.n_kinks : self.n_kinks + count]
        if part.shape[1] < count:  # while kinks are still being counted
            part = np.ones((n_rows, count), bool)
        self.n_kinks += count
        first = np.moveaxis(part.reshape(shape), 0, axis)
        low, high = difference.bounds()
        for ends, noted in ((low, self._low), (high, self._high)):
            signed = np.moveaxis(np.broadcast_to(ends, a.shape), axis, 0).reshape(n_rows, count)
            noted.append(signed)
        return chosen(first, a, b)

    def verdict(self) -> tuple[Any, Any]:
        """Return for which rows the last pass proves that all that was supposed holds, or not."""
        low, high = (np.concatenate(ends, axis=1) for ends in (self._low, self._high))
        first = self.first_is_larger
        holds = np.where(first, low > 0, high < 0).all(axis=1)
        fails = np.where(first, high < 0, low > 0).any(axis=1)
        return holds, fails


IN_FORCE: ContextVar[Regions | None] = ContextVar("IN_FORCE", default=None)
"""What `max` supposes, if anything."""
