"""States forward in rounds, until it is known of each what it has settled on."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._attractors.examined import examined
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import (
    Known,
    Rows,
    arrived,
    is_same,
    points_near,
    rounding_of,
    same_distance,
)
from slowpoints._attractors.repeating import LONGEST_FROM_AFAR, leaving, period_of, resting_point
from slowpoints._attractors.running import least_with_all_digits, run, trajectories, vanished
from slowpoints._connections.refined_points import size_of
from slowpoints._network.base import Transition
from slowpoints._network.time_scale import TimeSteps

_FIRST_STEPS = 128
"""The first round is so long, and each later one as long as all before it."""

_EXAMINED_AFTER = 512
"""After so many steps, trajectories are examined that are on nothing known."""

_AGAIN = 4
"""And again after so many times as many, and after the last one."""

_EXAMINED_STEPS = 4096
"""So many steps of a trajectory are looked at, or as many as it has gone, if these are more."""

_MOST_EXAMINED_STEPS = 16_384

_EXAMINED_AT_ONCE = 64
"""So many trajectories are examined at a time at most: one at first, then four, and so on. Most
others are on the same attractors."""

_NUMBERS_EXAMINED = 2**25
"""The entries of their states that are held at a time: 256 MB in float64."""

_MOST_POINTS = 64
"""In each round, Newton's method starts from so many states at most."""

_MOST_EXAMINED = 64
"""So many trajectories are examined under each input that turn out to be on nothing known."""

_SLOW = 1e-2
"""States that move by less than this part of their size may be near a fixed point."""

_SLOWING = 0.7
"""They are, only if they have slowed down to this part in the second half of a round."""

_APART = (1e-2, 1e-4, 1e-6)
"""Newton's method starts from states that are this far apart, as a part of their size: closer ones
if the first lead to no point that rows have come to."""

_SAME_PLACE = 1e-3
"""States at rest this close to each other, as a part of their size, are at one place of a line."""

_FAR = 1e6
"""States farther out than this, in units of where they were after a few steps, have left."""

_NOT_EXAMINED = f"not examined, after {_MOST_EXAMINED} other trajectories under this input had been"


_GAVE_UP = "the integrator gave up: see `flow`"

_VANISHED = (
    "at rest where a fixed point repels, since what would carry it away became too small for its "
    "numbers, and so zero"
)


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
        self._dtype, self.n_exponents = dtype, n_exponents
        self._given_up: dict[int, str] = {}
        self._started = x
        self._n_examined = np.zeros(group.max(initial=0) + 1, int)

    def run(self, max_steps: int) -> None:
        """Run all states forward until each has settled, or has taken `max_steps`."""
        done, next_examined = 0, _EXAMINED_AFTER
        while done < max_steps and (active := self._open()).size:
            length = min(max(done, _FIRST_STEPS), max_steps - done)
            rows = self._forward(active, length)
            done += length
            self.n_steps[active] = done
            self._settle_escaped(active, rows)
            self._settle(active, rows, self.known)
            slow = self._find_points(active, rows)
            self._settle_resting(active, rows, max(done, _EXAMINED_AFTER))
            if done >= next_examined or done == max_steps:
                next_examined = _AGAIN * done
                # What comes to a point need not be looked at, if it can take further steps.
                moves = np.full(len(active), True) if done == max_steps else ~slow
                if not isinstance(self._F, TimeSteps):
                    self._find_cycles(active, rows, moves)
                room = _NUMBERS_EXAMINED // rows.end.shape[1]
                n_steps = max(_EXAMINED_STEPS, min(done, room, _MOST_EXAMINED_STEPS))
                self._examine(active, rows, moves, n_steps, done == max_steps)

    def reason(self, row: int) -> str:
        """Return why it is not known what a row has settled on."""
        return self._given_up.get(row) or self.reasons.get(row, _NOT_EXAMINED)

    def _open(self) -> Int[np.ndarray, " k"]:
        rows = np.flatnonzero(self.attractor < 0)
        return rows[~np.isin(rows, list(self._given_up))]

    def _forward(self, active: Int[np.ndarray, " k"], n_steps: int) -> Rows:
        """Run some rows forward, and return them."""
        u = self._u[active]
        middle = run(self._F, self.x[active], u, n_steps // 2)
        end = run(self._F, middle, u, n_steps - n_steps // 2)
        self.x[active] = end
        with np.errstate(invalid="ignore"):
            moved = np.linalg.norm(run(self._F, end, u, 1) - end, axis=1)
            rests = moved <= rounding_of(self._F, end)
        return Rows(u, self._group[active], middle, end, moved, rests)

    def _settle_escaped(self, active: Int[np.ndarray, " k"], rows: Rows) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            stays = np.linalg.norm(rows.end, axis=1) <= _FAR
        if isinstance(self._F, TimeSteps):
            gave_up = np.isnan(rows.end).any(axis=1)
            self._given_up |= dict.fromkeys(active[gave_up].tolist(), _GAVE_UP)
            stays |= gave_up
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
        """Settle rows on an attractor, and add it unless it is known."""
        if rows.size == 0:
            return
        alike = (number for number, other in enumerate(self.known) if is_same(other, one))
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

    def _find_points(self, active: Int[np.ndarray, " k"], rows: Rows) -> Bool[np.ndarray, " k"]:
        """Look for the fixed points that rows come to, and settle those that are there.

        Returns:
            Which rows have slowed down, as they do on their way to a point.
        """
        with np.errstate(invalid="ignore"):
            before = run(self._F, rows.middle, rows.u, 1) - rows.middle
            slows = rows.moved <= _SLOWING * np.linalg.norm(before, axis=1)
            slow = rows.rests | (slows & (rows.moved <= _SLOW * size_of(rows.end)))
        distances = list(_APART)
        while distances:
            # What still moves comes again in the next round; what rests does not.
            counts = slow if len(distances) == len(_APART) else rows.rests
            left = np.flatnonzero(counts & (self.attractor[active] < 0))
            if left.size == 0:
                break
            chosen = left[_apart(rows[left], distances[0])]
            x, u = rows.end[chosen].astype(self._dtype), rows.u[chosen].astype(self._dtype)
            found = points_near(self._F, x, u, rows.group[chosen], self.n_exponents)
            points = {id(point): point for point in found if point is not None}
            self._settle(active, rows, list(points.values()))
            if np.sum(counts & (self.attractor[active] < 0)) == left.size:
                distances.pop(0)
        return slow

    def _find_cycles(
        self, active: Int[np.ndarray, " k"], rows: Rows, moves: Bool[np.ndarray, " k"]
    ) -> None:
        """Look for short cycles that rows come to, and settle those that are there.

        Many rows at a time, so that few are left to be examined one by one.
        """
        left = np.flatnonzero(moves & (self.attractor[active] < 0))
        most = max(1, _NUMBERS_EXAMINED // (2 * LONGEST_FROM_AFAR * rows.end.shape[1]))
        for start in range(0, left.size, most):
            part = left[start : start + most]
            states = trajectories(self._F, rows.end[part], rows.u[part], 2 * LONGEST_FROM_AFAR)
            period = period_of(self._F, states)
            for k in np.unique(period[period > 1]).tolist():
                self._find_cycles_of(k, part[period == k], active, rows)

    def _find_cycles_of(
        self, k: int, here: Int[np.ndarray, " j"], active: Int[np.ndarray, " k"], rows: Rows
    ) -> None:
        while (open_rows := here[self.attractor[active[here]] < 0]).size:
            chosen = open_rows[:_MOST_POINTS]
            x, u = rows.end[chosen].astype(self._dtype), rows.u[chosen].astype(self._dtype)
            found = points_near(self._F, x, u, rows.group[chosen], self.n_exponents, k)
            cycles = {id(one): one for one in found if one is not None and len(one.x) > 1}
            self._settle(active, rows, list(cycles.values()))
            if np.sum(self.attractor[active[here]] < 0) == open_rows.size:
                return

    def _settle_resting(self, active: Int[np.ndarray, " k"], rows: Rows, n_steps: int) -> None:
        """Settle rows at rest where nothing attracts, as on a line of fixed points.

        What rests to rounding may yet move in the precision of the attractors, as beside a saddle.
        """
        left = np.flatnonzero(rows.rests & (self.attractor[active] < 0))
        if left.size == 0:
            return
        start, u = rows.end[left].astype(self._dtype), rows.u[left].astype(self._dtype)
        x = run(self._F, start, u, n_steps)
        still = np.linalg.norm(run(self._F, x, u, 1) - x, axis=1) <= rounding_of(self._F, x)
        still &= np.linalg.norm(x - start, axis=1) <= _SAME_PLACE * size_of(x)
        while still.any():
            i = int(np.flatnonzero(still)[0])
            point = resting_point(self._F, x[i], u[i], int(rows.group[left[i]]), self.n_exponents)
            here = still & (rows.group[left] == rows.group[left[i]])
            is_one = point is not None and point.attracts
            limit = same_distance(x) if is_one else _SAME_PLACE * size_of(x)
            here &= np.linalg.norm(x - x[i], axis=1) <= limit
            if point is not None:
                stay = np.flatnonzero(here)
                if not point.attracts:
                    stay = stay[~self._leaving(point, active[left[stay]], start[stay], n_steps)]
                self._add(point, active[left[stay]])
                self.x[active[left[stay]]] = x[stay]
                self.n_steps[active[left[stay]]] += n_steps
            still &= ~here

    def _leaving(
        self,
        point: Known,
        rows: Int[np.ndarray, " k"],
        x: Float[np.ndarray, "k n_states"],
        n_steps: int,
    ) -> Bool[np.ndarray, " k"]:
        """Return which rows leave a point that repels, or would but for the least of numbers.

        Args:
            point: the point.
            rows: the numbers of rows that rest there.
            x: where they are.
            n_steps: after so many more steps, they rest there still.
        """
        u = self._u[rows].astype(x.dtype)
        n_before = int(self.n_steps[rows].max())
        lost = vanished(self._F, self._started[rows], self._u[rows], n_before)
        lost = lost | vanished(self._F, x, u, n_steps)
        x = run(self._F, x, u, n_steps)
        lost &= np.abs(x) < least_with_all_digits(x.dtype)
        least = np.sqrt(np.finfo(x.dtype).tiny)
        x = np.where(lost, np.copysign(least, self._started[rows]), x)
        leaves = leaving(self._F, x, u, point)
        gave_up = rows[leaves & lost.any(axis=1)].tolist()
        self._given_up |= dict.fromkeys(gave_up, _VANISHED)
        return leaves

    def _examine(
        self,
        active: Int[np.ndarray, " k"],
        rows: Rows,
        moves: Bool[np.ndarray, " k"],
        n_steps: int,
        last: bool,
    ) -> None:
        """Examine rows that are on nothing known, a few at a time, and settle others like them."""
        most = max(1, min(_EXAMINED_AT_ONCE, _NUMBERS_EXAMINED // (n_steps * rows.end.shape[1])))
        at_a_time = 1  # most networks have one attractor of this kind, if any
        self.reasons = {}
        while (left := self._not_examined(active, rows, moves)).size:
            chosen = left[np.unique(np.linspace(0, left.size - 1, at_a_time).astype(int))]
            at_a_time = min(most, 4 * at_a_time)
            np.add.at(self._n_examined, rows.group[chosen], 1)
            x, u = rows.end[chosen].astype(self._dtype), rows.u[chosen].astype(self._dtype)
            groups = rows.group[chosen]
            arguments = n_steps, self.n_exponents, last
            found, ends, steps = examined(self._F, x, u, groups, *arguments)
            n_known = len(self.known)
            for i, one, end, n_further in zip(chosen.tolist(), found, ends, steps, strict=True):
                if isinstance(one, str):
                    self.reasons[int(active[i])] = one
                elif self.attractor[active[i]] < 0:
                    here = self._come_to(one, active, rows)
                    self._add(one, active[np.union1d(here, [i])])
                    if i not in here:  # it came there only later
                        self.x[active[i]] = end
                        self.n_steps[active[i]] += n_further
            if len(self.known) == n_known and not last:
                return  # these go on, and so do all the others

    def _not_examined(
        self, active: Int[np.ndarray, " k"], rows: Rows, moves: Bool[np.ndarray, " k"]
    ) -> Int[np.ndarray, " j"]:
        """Return which rows are on nothing known and have not been examined in this round."""
        left = np.flatnonzero(moves & (self.attractor[active] < 0))
        left = left[self._n_examined[rows.group[left]] < _MOST_EXAMINED]
        return left[np.array([int(active[i]) not in self.reasons for i in left], bool)]


def _apart(rows: Rows, distance: float) -> Int[np.ndarray, " k"]:
    """Return rows that are apart from each other by a part of their size, the slowest first."""
    chosen: list[int] = []
    for i in np.argsort(rows.moved, kind="stable").tolist():
        others = [j for j in chosen if rows.group[j] == rows.group[i]]
        apart = np.linalg.norm(rows.end[others] - rows.end[i], axis=1)
        if not (apart <= distance * size_of(rows.end[i : i + 1])).any():
            chosen.append(i)
        if len(chosen) == _MOST_POINTS:
            break
    return np.array(chosen, int)
