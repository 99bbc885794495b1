"""All fixed points of a network that is driven along few directions, as by weights of low rank.

The states are divided along these directions only.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.enclosure import Enclosure, NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.krawczyk import settled
from slowpoints._linear_algebra.signs import inverses
from slowpoints._proofs.branch_and_prune import (
    SMALLEST,
    Parts,
    SettledParts,
    branch,
    distinct,
    joined,
    narrowed,
)
from slowpoints._proofs.lifting import depends_on_all, lifted, returned

_NEGLIGIBLE = 1e-5
"""Directions that are driven less than this, relative to the one that is driven most, are not
divided along: where they lead is bounded instead. Weights of low rank that are stored as one matrix
in float32 have directions of 1e-7 besides those of their rank."""

_REST = 1e-3
"""What the other directions hold is at most this share of the box. Otherwise, `I - A` is singular,
or nearly so, and the states are not known from what drives them."""

_MOST_ENTRIES = 2**24
"""Networks with more slopes than this by what their nonlinear operations return are left to other
methods: some ten arrays of that size, 128 MB each, would be in use at a time."""

_AT_A_TIME = 2**22
"""Boxes are looked at with all units together as long as their Jacobians have no more entries."""

_MOST_UNDECIDED = 64
"""So many parts that are not decided along the few directions are looked at with all units. More of
them are around a line of fixed points, of which no part is ever decided."""


@dataclasses.dataclass(frozen=True)
class _Drive:
    """Where the fixed points of a box are: at `origin + along z`, but for `rest`.

    There, `z = gather (y(x) - y_centre)`, where `y(x)` is what the network's nonlinear operations
    return. That follows from `x = F(x)`, whatever `A` and `B` (see `lifting`) are exactly.

    Attributes:
        origin: `[n_states]`.
        along: `[n_states, k]` the directions.
        rest: `[n_states]` by how much a fixed point may differ.
        gather: `[k, n_returned]`.
        y_centre: `[n_returned]` what is returned at the centre of the box.
        z: `[k]` what `z` can be over the box.
        smallest: `[k]` how far apart in `z` two states are that `rest` does not tell apart.
    """

    origin: Float[np.ndarray, " n_states"]
    along: Float[np.ndarray, "n_states k"]
    rest: Float[np.ndarray, " n_states"]
    gather: Float[np.ndarray, "k n_returned"]
    y_centre: Ball
    z: Ball
    smallest: Float[np.ndarray, " k"]

    @property
    def n_slopes(self) -> int:
        """How many slopes a box has, by what is returned and by the states."""
        return (self.along.shape[0] + self.gather.shape[1]) * self.along.shape[1]

    def states(self, z: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, for `z` `[n, k]`."""
        return matmul(z, Ball(self.along.T)) + Ball(self.origin, self.rest)


def _drive(program: EnclosedProgram, low: Any, high: Any) -> _Drive | None:
    """Return what drives the states of a box, or `None` if that is not known or not of low rank.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n_states = low.size
    box = from_bounds(low[None], high[None])
    n_returned = returned(program, depends_on_all(box)).shape[1]
    if not 0 < n_returned <= _MOST_ENTRIES // n_states - n_states:
        return None
    A, B, y = lifted(program, box, n_returned)
    if not all(np.all(ball.is_known) for ball in (A, B, y)):
        return None
    centre, eye = Ball(box.mid), Ball(np.eye(n_states))
    y_centre = returned(program, depends_on_all(centre)).value.map(lambda a: a[0])
    off_x, off_y = box.rad[0], (y - y_centre).magnitude
    # (I - A) (x - c) = F(c) - c + B (y - y_c), of which the left side is solved.
    R = Ball(np.nan_to_num(inverses((eye.mid - A.mid)[None])[0]))
    residual = (program.value(centre) - centre).map(lambda a: a[0][:, None])
    origin = Ball(box.mid[0]) + matmul(R, residual).map(lambda a: a[:, 0])
    M, unsolved = matmul(R, B), eye - matmul(R, eye - A)
    if not all(np.all(ball.is_known) for ball in (origin, M, unsolved)):
        return None
    scale = np.where(off_x > 0, off_x, np.max(off_x, initial=0.0) or 1.0)
    with np.errstate(all="ignore"):
        driven = M.mid * off_y / scale[:, None]
    if not np.isfinite(driven).all():
        return None
    U, s, Vt = np.linalg.svd(driven, full_matrices=False)
    rank = int(np.sum(s > _NEGLIGIBLE * s[0]))
    if not 0 < 2 * rank <= n_states:
        return None
    U, s, Vt = U[:, :rank], s[:rank], Vt[:rank]
    along = scale[:, None] * U * s
    gather = np.divide(Vt, off_y, out=np.zeros_like(Vt), where=off_y > 0)
    rest = (M - matmul(Ball(along), Ball(gather))).magnitude @ off_y
    rest = (rest + unsolved.magnitude @ off_x + origin.radius) * (1 + 2.0**-30)
    if not np.all(rest <= _REST * scale):
        return None  # as where I - A is singular
    z = matmul(Ball(gather), (y - y_centre).map(lambda a: a[:, None])).map(lambda a: a[:, 0])
    blurred = np.abs(U.T / scale / s[:, None]) @ rest
    return _Drive(origin.mid, along, rest, gather, y_centre, z, 4 * blurred)


class _DrivenMap:
    """The map of `z` whose fixed points are those of the network, for rows of boxes.

    Over a box of `z`, it holds one map for each deviation of the states within `rest`.
    """

    def __init__(self, program: EnclosedProgram, n_rows: int, drive: _Drive):
        self._program, self.n_rows, self._drive = program, n_rows, drive

    def value(self, z: Ball) -> Ball:
        """Return what `z` can be at the next step, `[n, k]`."""
        x = self._drive.states(self._filled_up(z))
        y = returned(self._program, depends_on_all(x))
        return self._gathered(y).map(lambda a: a[: z.shape[0]])

    def linearised(self, z: Ball) -> tuple[Ball, Ball]:
        """Return what `value` returns, and the slopes over `z`, `[n, k, k]`."""
        x = self._drive.states(self._filled_up(z))
        along = np.broadcast_to(self._drive.along, (self.n_rows, *self._drive.along.shape))
        y = returned(self._program, Enclosure(x, Ball(along)))
        slope = Ball(np.zeros(1)) if y.slope is None else y.slope
        slope = matmul(Ball(self._drive.gather), slope)
        value = self._gathered(y)
        first = slice(z.shape[0])
        return value.map(lambda a: a[first]), slope.map(lambda a: a[first])

    def _filled_up(self, z: Ball) -> Ball:
        rows = np.minimum(np.arange(self.n_rows), z.shape[0] - 1)
        return z.map(lambda a: a[rows])

    def _gathered(self, y: Enclosure) -> Ball:
        return matmul(y.value - self._drive.y_centre, Ball(self._drive.gather.T))


def by_few_dimensions(
    program: Callable[[int], EnclosedProgram], low: Any, high: Any, most: Any, found: SettledParts
) -> bool:
    """Find all fixed points in a box, if they are along at most half as many directions as states.

    With `y(x)` for what the network's nonlinear operations return, `F(x) = a + A x + B y(x)`, and
    so `x = (I - A)^-1 (a + B y(x))` at a fixed point: as many directions lead away from one state
    as `(I - A)^-1 B` has singular values that count. Boxes along these are divided and pruned as
    those of states are; what is left of each is proven to hold one fixed point with all units.
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
        drive = _drive(one_row, low, high)
        if drive is None:
            return False
        z_low, z_high = drive.z.bounds()
        side = z_high - z_low
        smallest = np.maximum(drive.smallest, SMALLEST * np.where(side > 0, side, 1.0))

        @functools.cache
        def driven(n: int) -> _DrivenMap:
            n_rows = one_row.free_length(n)
            return _DrivenMap(program(n_rows), n_rows, drive)

        parts = SettledParts(driven, smallest, drive.n_slopes)
        branch(parts, z_low, z_high, most)
    except NotCovered:
        return False
    found.n_left, found.share_left = parts.n_left, parts.share_left
    single, undecided = joined(parts.single, z_low.size), joined(parts.given_up, z_low.size)
    found.n_more_given_up = max(0, len(undecided.low) - _MOST_UNDECIDED)
    boxes = [undecided.where(slice(_MOST_UNDECIDED))]
    for start in range(0, len(single.low), parts.at_a_time):
        some = single.where(slice(start, start + parts.at_a_time))
        boxes.append(narrowed(parts.program(len(some.low)), some))
    z = joined(boxes, z_low.size)
    _look_at_all_units(found, drive.states(from_bounds(*z)), low, high)
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
