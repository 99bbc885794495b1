"""All fixed points of a network that is driven, or read, along few directions.

As by weights of low rank. The states are divided along these directions only.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.krawczyk import settled
from slowpoints._proofs.branch_and_prune import (
    SMALLEST,
    Parts,
    SettledParts,
    branch,
    distinct,
    joined,
    narrowed,
)
from slowpoints._proofs.few_directions import FewDirections, driven, read
from slowpoints._proofs.lifting import solved_states

_AT_A_TIME = 2**22
"""Boxes are looked at with all units together as long as their Jacobians have no more entries."""

_MOST_IMAGES = 100
"""Boxes with one fixed point are replaced by their images as long as these are smaller, so often at
most: from there, no Newton's method leads on, as states are known only as far as the box is."""

_MOST_UNDECIDED = 64
"""So many parts that are not decided along the few directions are looked at with all units. More of
them are around a line of fixed points, of which no part is ever decided."""


class _MapOfFew:
    """The map of `z` for rows of boxes.

    Over a box of `z`, it holds one map for each deviation of the states that `z` leaves open.
    """

    def __init__(self, program: EnclosedProgram, n_rows: int, few: FewDirections):
        self._program, self.n_rows, self._few = program, n_rows, few

    def value(self, z: Ball) -> Ball:
        """Return what `z` can be at the next step, `[n, k]`."""
        y = self._few.returned(self._program, self._filled_up(z), with_slopes=False)
        return self._few.gathered(y.value).map(lambda a: a[: z.shape[0]])

    def linearised(self, z: Ball) -> tuple[Ball, Ball]:
        """Return what `value` returns, and the slopes over `z`, `[n, k, k]`."""
        y = self._few.returned(self._program, self._filled_up(z))
        slope = Ball(np.zeros(1)) if y.slope is None else y.slope
        slope, value = matmul(self._few.gather, slope), self._few.gathered(y.value)
        first = slice(z.shape[0])
        return value.map(lambda a: a[first]), slope.map(lambda a: a[first])

    def states(self, z: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`."""
        x = self._few.states(self._program, self._filled_up(z))
        return x.map(lambda a: a[: z.shape[0]])

    def _filled_up(self, z: Ball) -> Ball:
        rows = np.minimum(np.arange(self.n_rows), z.shape[0] - 1)
        return z.map(lambda a: a[rows])


def by_few_dimensions(
    program: Callable[[int], EnclosedProgram], low: Any, high: Any, most: Any, found: SettledParts
) -> bool:
    """Find all fixed points in a box, if they are along at most half as many directions as states.

    With `y(x)` for what the network's nonlinear operations return, `F(x) = a + A x + B y(x)`, and
    so `x = (I - A)^-1 (a + B y(x))` at a fixed point: as many directions lead away from one state
    as `(I - A)^-1 B` has singular values that count. Where these are many, the operations may read
    few directions of the states. Boxes along either are divided and pruned as those of states are;
    what is left of each is proven to hold one fixed point with all units.
    The units of networks of low rank may be of any kind. If they are piecewise linear, as with
    `relu`, parts number no more than the regions into which their kinks cut these few dimensions
    (Pals et al. 2024, "Inferring stochastic low-rank recurrent neural networks from neural data").

    Args:
        program: returns the network for so many boxes.
        low: `[n_states]` the lowest state.
        high: `[n_states]` the highest.
        most: look at no more parts than this.
        found: takes what is found.

    Returns:
        Whether the network is of this kind.
    """
    try:
        one_row = program(1)
        solved = solved_states(one_row, low, high)
        few = None if solved is None else driven(solved) or read(one_row, solved)
        if few is None:
            return False
        z_low, z_high = few.z.bounds()
        side = z_high - z_low
        smallest = np.maximum(few.smallest, SMALLEST * np.where(side > 0, side, 1.0))

        @functools.cache
        def map_of_few(n: int) -> _MapOfFew:
            n_rows = one_row.free_length(n)
            return _MapOfFew(program(n_rows), n_rows, few)

        parts = SettledParts(map_of_few, smallest, few.n_slopes)
        branch(parts, z_low, z_high, most)
    except NotCovered:
        return False
    found.n_left, found.share_left = parts.n_left, parts.share_left
    single, undecided = joined(parts.single, z_low.size), joined(parts.given_up, z_low.size)
    found.n_more_given_up = max(0, len(undecided.low) - _MOST_UNDECIDED)
    boxes = [undecided.where(slice(_MOST_UNDECIDED))]
    for start in range(0, len(single.low), parts.at_a_time):
        some = single.where(slice(start, start + parts.at_a_time))
        boxes.append(narrowed(parts.program(len(some.low)), some, _MOST_IMAGES))
    z, states = joined(boxes, z_low.size), []
    for start in range(0, len(z.low), parts.at_a_time):
        some = from_bounds(*z.where(slice(start, start + parts.at_a_time)))
        states.append(map_of_few(len(some.mid)).states(some))
    none = np.zeros((0, low.size))
    mids, radii = ([none, *(getattr(x, name) for x in states)] for name in ("mid", "radius"))
    _look_at_all_units(found, Ball(np.concatenate(mids), np.concatenate(radii)), low, high)
    return True


def _look_at_all_units(found: SettledParts, x: Ball, low: Any, high: Any) -> None:
    """Decide about boxes of states, each of which may hold a fixed point."""
    below, above = x.bounds()
    rows = np.flatnonzero(np.all((below <= high) & (above >= low), axis=1))
    centre, inner, outer = x.mid[rows], np.zeros(rows.size), np.zeros(rows.size)
    at_a_time = max(1, _AT_A_TIME // low.size**2)
    for start in range(0, rows.size, at_a_time):
        some = slice(start, start + at_a_time)
        candidates = x.map(lambda a, some=some: a[rows[some]])
        program = found.program(candidates.shape[0])
        centre[some], inner[some], outer[some] = settled(program, candidates)
    alone = outer > 0
    is_open = rows[~alone]
    centre, inner, outer = centre[alone], inner[alone], outer[alone, None]
    around = Parts(centre - outer, centre + outer)
    kept, doubtful = distinct(centre, inner, around, low, high)
    found.points = centre[kept]
    open_boxes = Parts(below[is_open], above[is_open]), around.where(doubtful)
    found.given_up += [part for part in open_boxes if len(part.low)]
