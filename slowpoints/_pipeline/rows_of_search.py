"""`RowsOfSearch`: what became of each row, which is its point, what dropped it, and why it ended.

`account` counts these rows, and puts them in words.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from slowpoints._linear_algebra.signs import signs_of
from slowpoints._network.base import Transition
from slowpoints._network.trapping.trapping_box import is_outside
from slowpoints._pipeline.select import distance_from, is_on_its_way, spread
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.neighbours import nearest
from slowpoints._points.status import Status
from slowpoints._points.traced import traced_for
from slowpoints._points.unique import unique
from slowpoints._solvers.termination import rounding_floor

EDGE = 1e-3
"""So close to the edge of a rule, relative to it, the search may have rounded to the other side."""


class RowsOfSearch:
    """The rows of a search, and the points that they belong to.

    Attributes:
        fps: the rows.
        kept: the points that are kept.
        rules: the arguments of `find_fixed_points` that drop points.
        within_conditions: whether only points with the same `cond_id` can count as one.
        F: the network, if it is known.
        tol: rows at most this far apart count as one point.
        q: `[n]` the speeds of the rows, in float64.
        status: `[n]` how the search of each row ended.
        labels: the numbers of the conditions of the kept points, and of the rows; all 0 if not
            `within_conditions`.
        point: `[n]` the number of the kept point that each row is at, and -1 if there is none.
        distance: `[n]` how far from that point it is.
        typical: the mean distance of the initial states from their centroid; 0 if it is not known,
            or each row has a point.
        scaled: `[n]` how far each row without a point is from that centroid, in units of `typical`.
        dropped_by: `[n]` the rule that drops each row.
        on_continuum: which of the kept points are unfinished, with a `q` of no more than rounding.
        level: `[n]` which rows are at such points.
        falling: `[n]` which of the other unfinished rows were cut off by `max_iters`.
        stalled: `[n]` which of them the solver left before that.
        going_on: `[n]` which of them are at no fixed point or slow point that is kept.
        outside: `[n]` which rows left the states that no trajectory leaves.
    """

    def __init__(
        self,
        unique_fps: FixedPoints,
        all_fps: FixedPoints,
        within_conditions: bool,
        rules: dict[str, Any],
        max_iters: int,
        F: Transition | None,
    ):
        self.fps, self.rules, self.within_conditions = all_fps, rules, within_conditions
        self.F = F
        self.kept = unique_fps.to_numpy().compact()
        self.tol = all_fps.tol_unique
        self.q = np.asarray(all_fps.qstar, np.float64)
        self.status = np.array(all_fps.status)
        valid = self.status < Status.ESCAPED
        if all_fps.valid is not None:
            valid &= np.asarray(all_fps.valid)
        self.labels = self._labels()
        self.point, self.distance = self._nearest_kept(np.flatnonzero(valid))
        left = valid & (self.point < 0)
        self.typical, self.scaled = self._distance_from_starts(left)
        self.dropped_by = self._dropped_by(left)
        self.on_continuum = self._on_continuum()
        self.level = self._level()
        unfinished = (self.status == Status.UNFINISHED) & ~self.level
        self.falling, self.stalled = self._cut_off_or_stalled(unfinished, max_iters)
        self.outside = self._outside()
        self.going_on = self._going_on(unfinished)

    # ---- the points of the rows ----------------------------------------------------------------

    def _labels(self) -> tuple[Int[np.ndarray, " points"], Int[np.ndarray, " n"]]:
        """Return the numbers of the conditions of the kept points, and of the rows."""
        if not self.within_conditions:
            return np.zeros(self.kept.n, int), np.zeros(self.fps.n, int)
        both = [np.asarray(fps.cond_id) for fps in (self.kept, self.fps)]
        numbers = np.unique(np.concatenate(both), return_inverse=True)[1]
        return numbers[: self.kept.n], numbers[self.kept.n :]

    def _nearest_kept(
        self, rows: Int[np.ndarray, " k"]
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return for each row the kept point that it is at, and how far from it it is."""
        point, distance = np.full(self.fps.n, -1), np.full(self.fps.n, np.inf)
        point[rows], distance[rows] = nearest(
            places(self.fps, rows),
            places(self.kept, np.arange(self.kept.n)),
            self.tol * (1 + 1e-9),  # distances are computed in another way than `unique` does
            (self.labels[1][rows], self.labels[0]),
        )
        return point, distance

    def distinct(self, rows: Bool[np.ndarray, " n"], tol: float) -> Int[np.ndarray, " points"]:
        """Return a row for each of the distinct points of these rows."""
        # All rows are passed on, so that the search's own program is run again.
        fps = self.fps.replace(valid=rows, cond_id=self.labels[1])
        kept = unique(fps, tol, within_conditions=self.within_conditions)
        return np.flatnonzero(np.asarray(kept.valid))

    # ---- why rows have no kept point -----------------------------------------------------------

    def _distance_from_starts(
        self, left: Bool[np.ndarray, " n"]
    ) -> tuple[float, Float[np.ndarray, " n"]]:
        """Return `typical` and `scaled`; distances only if a rule drops rows for them."""
        scaled = np.zeros(left.size)
        if self.fps.x_init is None or not left.any():
            return 0.0, scaled
        start = spread(np.asarray(self.fps.x_init))
        typical = float(start.distance)
        if self.rules["outlier_distance_scale"] is not None and typical > 0:
            scaled[left] = distance_from(start, np.asarray(self.fps.xstar)[left]) / typical
        return typical, scaled

    def _dropped_by(self, left: Bool[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Return the first rule that drops each row that is left without a kept point."""
        dropped_by = np.full(left.size, "", "<U22")
        scale = self.rules["outlier_distance_scale"]
        if scale is not None:
            is_far = left & (self.scaled > scale)
            dropped_by[is_far] = "outlier_distance_scale"
            left = left & ~is_far
        threshold = self.rules["final_q_threshold"]
        if threshold:
            dropped_by[left & ~(self.q < threshold)] = "final_q_threshold"
            left = left & (self.q < threshold)
        if not self.rules["keep_unfinished"]:
            on_its_way = is_on_its_way(np.asarray(self.fps.xstar), self.q, self.status)
            dropped_by[left & on_its_way] = "keep_unfinished"
            left = left & ~on_its_way
        if self.kept.n >= self.rules["max_n_unique"]:
            dropped_by[left] = "max_n_unique"
        elif self.rules["outlier_q_scale"] is not None:
            dropped_by[left] = "outlier_q_scale"
        else:
            dropped_by[left] = "unknown"
            if scale is not None:
                dropped_by[left & (self.scaled > scale * (1 - EDGE))] = "outlier_distance_scale"
            if threshold:
                dropped_by[left & (self.q >= threshold * (1 - EDGE))] = "final_q_threshold"
        return dropped_by

    # ---- why rows are unfinished, or escaped ---------------------------------------------------

    def _on_continuum(self) -> Bool[np.ndarray, " points"]:
        """Return which kept points are unfinished although their `q` is no more than rounding.

        Newton's step there is long only because `I - J` is singular, as far as can be told. On a
        line or ring of fixed points rows come to rest nowhere in particular.
        """
        J, q, status = self.kept.J_xstar, self.kept.qstar, self.kept.status
        found = np.zeros(self.kept.n, bool)
        if J is None or q is None or status is None:
            return found
        found |= (status == Status.UNFINISHED) & (q <= np.asarray(rounding_floor(self.kept.xstar)))
        found[found] = signs_of(self.kept[found]) == 0
        return found

    def _level(self) -> Bool[np.ndarray, " n"]:
        """Return which rows are unfinished and at a kept point `on_continuum`."""
        is_kept = self.point >= 0
        level = self.status == Status.UNFINISHED
        level[is_kept] &= self.on_continuum[self.point[is_kept]]
        return level & is_kept

    def _cut_off_or_stalled(
        self, unfinished: Bool[np.ndarray, " n"], max_iters: int
    ) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Return which rows `max_iters` cut off, and which ones the solver left before."""
        if self.fps.n_iters is None:
            return np.zeros(self.fps.n, bool), np.zeros(self.fps.n, bool)
        cut_off = np.asarray(self.fps.n_iters) >= max_iters
        return unfinished & cut_off, unfinished & ~cut_off

    def _outside(self) -> Bool[np.ndarray, " n"]:
        """Return which rows left the states that no trajectory leaves; none if `F` is not known."""
        if self.F is None or not np.any(self.status == Status.ESCAPED):
            return np.zeros(self.fps.n, bool)
        network = traced_for("account", self.F, self.fps)
        return is_outside(network, np.asarray(self.fps.xstar))

    def _going_on(self, unfinished: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which rows have somewhere to go: not those at a kept fixed point or slow point."""
        if self.kept.status is None:
            return unfinished
        is_kept = self.point >= 0
        settled = np.isin(self.kept.status, [Status.FIXED_POINT, Status.SLOW_POINT])
        going_on = unfinished.copy()
        going_on[is_kept] &= ~settled[self.point[is_kept]]
        return going_on


def places(fps: FixedPoints, rows: Int[np.ndarray, " k"]) -> list[np.ndarray]:
    """Return the states and the inputs of some rows."""
    arrays = (fps.xstar, fps.inputs)
    return [np.asarray(array)[rows] for array in arrays if array is not None]
