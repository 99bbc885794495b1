"""States forward in rounds, until it is known of each what it has settled on."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._attractors.examined import examined
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import (
    SAME,
    Known,
    Rows,
    arrived,
    covers,
    points_near,
    rounding_of,
)
from slowpoints._attractors.running import run
from slowpoints._connections.refined_points import size_of
from slowpoints._network.base import Transition

_FIRST_STEPS = 128
"""The first round is so long, and each later one as long as all before it."""

_EXAMINED_AFTER = 512
"""From so many steps on, trajectories are examined that are on nothing known."""

_EXAMINED_STEPS = 4096
"""So many steps of a trajectory are looked at, or as many as it has gone, if these are more."""

_EXAMINED_AT_ONCE = 4
"""So many trajectories are examined at a time. Most of the others are on the same attractors."""

_NUMBERS_EXAMINED = 2**25
"""The entries of their states that are held at a time: 256 MB in float64."""

_MOST_POINTS = 64
"""In each round, Newton's method starts from so many states at most."""

MOST_EXAMINED = 64
"""So many trajectories are examined in all that turn out to be on nothing that is known."""

_SLOW = 1e-2
"""States that move by less than this part of their size may be near a fixed point."""

_SLOWING = 0.7
"""They are, only if they have slowed down to this part in the second half of a round."""

_APART = 1e-2
"""Newton's method starts from states that are this far apart, as a part of their size."""

SAME_PLACE = 1e-3
"""States at rest this close to each other, as a part of their size, are at one place of a line."""

_FAR = 1e6
"""States farther out than this, in units of where they were after a few steps, have left."""

NOT_EXAMINED = f"not examined, after {MOST_EXAMINED} other trajectories had been"
AT_REST = "at rest to rounding, but not at a fixed point: float64 states may tell"


class Settling:
    """Where all states are, and what is known of them.

    Attributes:
        x: `[n, n_states]` the last state of each, in units.
        n_steps: `[n]` how many steps it took.
        attractor: `[n]` the number of what it settled on, -1 if that is not known.
        known: the attractors.
        n_exponents: how many exponents they have.
        reasons: for rows that are not settled, why.
    """

    def __init__(
        self,
        F: Transition,
        x: Float[np.ndarray, "n n_states"],
        u: Float[np.ndarray, "n n_inputs"],
        group: Int[np.ndarray, " n"],
        dtype: np.dtype[Any],
        n_exponents: int,
    ):
        """Begin with all states where they start.

        Args:
            F: the network, in units.
            x: the states, in the precision to run in.
            u: their inputs.
            group: the numbers of these.
            dtype: the precision in which attractors are computed.
            n_exponents: how many exponents to give.
        """
        self.x, self.n_steps = x.copy(), np.zeros(len(x), int)
        self.attractor = np.full(len(x), -1)
        self.known: list[Known] = []
        self.reasons: dict[int, str] = {}
        self._F, self._u, self._group = F, u, group
        self._dtype, self.n_exponents, self._n_examined = dtype, n_exponents, 0
        self._rests = np.zeros(len(x), bool)

    def run(self, max_steps: int) -> None:
        """Run all states forward until each has settled, or has taken `max_steps`."""
        done = 0
        while done < max_steps and (active := self._open()).size:
            length = min(max(done, _FIRST_STEPS), max_steps - done)
            rows = self._forward(active, length)
            done += length
            self.n_steps[active] = done
            self._settle_escaped(active, rows)
            self._settle(active, rows, self.known)
            self._find_points(active, rows)
            if done >= _EXAMINED_AFTER or done == max_steps:
                self._examine(active, rows, max(_EXAMINED_STEPS, done), done == max_steps)

    def reason(self, row: int) -> str:
        """Return why it is not known what a row has settled on."""
        if self._rests[row]:
            return AT_REST
        return self.reasons.get(row, NOT_EXAMINED)

    def _open(self) -> Int[np.ndarray, " k"]:
        return np.flatnonzero(self.attractor < 0)

    def _forward(self, active: Int[np.ndarray, " k"], n_steps: int) -> Rows:
        """Run some rows forward, and return them."""
        u = self._u[active]
        middle = run(self._F, self.x[active], u, n_steps // 2)
        end = run(self._F, middle, u, n_steps - n_steps // 2)
        self.x[active] = end
        with np.errstate(invalid="ignore"):
            moved = np.linalg.norm(run(self._F, end, u, 1) - end, axis=1)
            rests = self._rests[active] = moved <= rounding_of(end)
        return Rows(u, self._group[active], middle, end, moved, rests)

    def _settle_escaped(self, active: Int[np.ndarray, " k"], rows: Rows) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            stays = np.linalg.norm(rows.end, axis=1) <= _FAR
        for group in np.unique(rows.group[~stays]).tolist():
            left = active[~stays & (rows.group == group)]
            unknown = np.full(self.n_exponents, np.nan)
            self._add(
                Known(
                    AttractorKind.ESCAPE, group, self.x[left[:1]], unknown, unknown, attracts=False
                ),
                left,
            )

    def _add(self, one: Known, rows: Int[np.ndarray, " k"]) -> None:
        """Add an attractor, unless it is known, and settle rows on it."""
        if rows.size == 0:
            return
        alike = (
            number
            for number, other in enumerate(self.known)
            if other is one
            or (other.kind == one.kind == AttractorKind.ESCAPE and other.group == one.group)
        )
        number = next(alike, len(self.known))
        if number == len(self.known):
            self.known.append(one)
        self.attractor[rows] = number

    def _settle(self, active: Int[np.ndarray, " k"], rows: Rows, known: list[Known]) -> None:
        """Settle the rows that have come to some of the known attractors."""
        # What attracts by its linearisation tells more than a cloud of states.
        for one in sorted(known, key=lambda one: one.kind):
            self._add(one, active[self._come_to(one, active, rows)])

    def _come_to(
        self, one: Known, active: Int[np.ndarray, " k"], rows: Rows
    ) -> Int[np.ndarray, " j"]:
        """Return which rows have come to an attractor, of those that have come to none."""
        left = np.flatnonzero((self.attractor[active] < 0) & (rows.group == one.group))
        return left[arrived(self._F, rows[left], one, self._dtype)]

    def _find_points(self, active: Int[np.ndarray, " k"], rows: Rows) -> None:
        """Look for the fixed points that rows come to, and settle those that are there."""
        left = np.flatnonzero(self.attractor[active] < 0)
        with np.errstate(invalid="ignore"):
            before = run(self._F, rows.middle[left], rows.u[left], 1) - rows.middle[left]
            slows = rows.moved[left] <= _SLOWING * np.linalg.norm(before, axis=1)
            slow = rows.moved[left] <= _SLOW * size_of(rows.end[left])
        left = left[rows.rests[left] | (slow & slows)]
        chosen = left[_apart(rows.end[left], rows.moved[left], rows.group[left])[:_MOST_POINTS]]
        if chosen.size == 0:
            return
        x, u = rows.end[chosen].astype(self._dtype), rows.u[chosen].astype(self._dtype)
        found = points_near(self._F, x, u, rows.group[chosen], self.n_exponents)
        points = {id(point): point for point in found if point is not None}
        self._settle(active, rows, self._unknown_of(points.values()))
        for i, point in zip(chosen, found, strict=True):
            # At rest where nothing attracts: on a line of fixed points, or on a saddle.
            if self.attractor[active[i]] < 0 and rows.rests[i] and point is not None:
                near = np.linalg.norm(rows.end - point.x[0], axis=1) <= SAME_PLACE
                near &= rows.rests & (rows.group == point.group) & (self.attractor[active] < 0)
                if near[i]:
                    self._add(point, active[near])

    def _unknown_of(self, points: Iterable[Known]) -> list[Known]:
        """Return which points are not known yet."""
        return [
            point
            for point in points
            if not any(
                one.kind == point.kind
                and one.group == point.group
                and np.linalg.norm(one.x[0] - point.x[0]) <= SAME * size_of(one.x)[0]
                for one in self.known
            )
        ]

    def _examine(self, active: Int[np.ndarray, " k"], rows: Rows, n_steps: int, last: bool) -> None:
        """Examine rows that are on nothing known, a few at a time, and settle others like them."""
        room = _NUMBERS_EXAMINED // (n_steps * rows.end.shape[1])
        at_a_time = 1  # most networks have one attractor of this kind, if any
        self.reasons = {}
        while self._n_examined < MOST_EXAMINED:
            left = np.flatnonzero(self.attractor[active] < 0)
            left = left[[int(active[i]) not in self.reasons for i in left]]
            if left.size == 0:
                return
            chosen = left[np.unique(np.linspace(0, left.size - 1, at_a_time).astype(int))]
            at_a_time = max(1, min(_EXAMINED_AT_ONCE, room))
            self._n_examined += chosen.size
            x, u = rows.end[chosen].astype(self._dtype), rows.u[chosen].astype(self._dtype)
            found = examined(self._F, x, u, rows.group[chosen], n_steps, self.n_exponents)
            n_known = len(self.known)
            for i, one in zip(chosen.tolist(), found, strict=True):
                if isinstance(one, str):
                    self.reasons[int(active[i])] = one
                elif self.attractor[active[i]] < 0:
                    alike = (other for other in self.known if covers(other, one))
                    same = next(alike, one)
                    self._add(same, active[i : i + 1])
                    self._add(same, active[self._come_to(one, active, rows)])
            if len(self.known) == n_known and not last:
                return  # these go on, and so do all the others


def _apart(
    x: Float[np.ndarray, "n d"], speed: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " k"]:
    """Return rows that are apart from each other, the slowest first."""
    chosen: list[int] = []
    for i in np.argsort(speed, kind="stable").tolist():
        others = [j for j in chosen if group[j] == group[i]]
        near = np.linalg.norm(x[others] - x[i], axis=1) <= _APART * size_of(x[i : i + 1])
        if not near.any():
            chosen.append(i)
        if len(chosen) == _MOST_POINTS:
            break
    return np.array(chosen, int)
