"""`account`: what became of the rows of a search, counted and in words."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._linear_algebra.signs import PLACE, neutral_directions, signs_of, sums_by_input
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.network import may_have_kinks
from slowpoints._network.trapping import is_outside
from slowpoints._pipeline.parts import Part, are, brief, count_of, sentence
from slowpoints._pipeline.select import is_on_its_way
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.neighbours import nearest, pairs
from slowpoints._points.status import Status, counted
from slowpoints._points.traced import traced_for
from slowpoints._points.unique import unique
from slowpoints._solvers.termination import rounding_floor

SIZEABLE = 0.05
"""A search warns of dropped slow points, and of unfinished rows that no other rule would drop, if
at least this share of the rows ended there. A slow point that the network passes attracts a good
part of the states that it visits; fewer rows are mentioned in the account only."""

LINGERING = 100
"""A warning counts a slow point only if this many steps move a state by no more than the initial
states lie from their centroid. Between any two fixed points there are minima of `q` that a state
leaves within a few steps, and nobody looks for those."""

_EDGE = 1e-3
"""So close to the edge of a rule, relative to it, the search may have rounded to the other side."""

SCATTER = 1e-5
"""Rows at one fixed point agree in each state to `1e-6` or so, or to the rounding of a large one.
Rows that are ten times as far apart look like several points."""

_SAMPLE = 64
"""So many points are looked at to see whether they lie on a line of fixed points."""

_ALONG = 0.9
"""Points lie on a line if the nearest other point is in its direction: the cosine of the angle is
at least this."""

_GAP = 1 / 3
"""The nearest other point on a line of fixed points is at most this fraction of the way to the
farthest. Two or three isolated points are no curve, even if the direction of each leads to the
next; four that are evenly spaced are."""

ROUNDED = 8
"""Rows at one fixed point are at most about this many units of rounding apart, relative to the size
of the state (its norm, or `sqrt(n_states)` if that is larger). A float32 row is called a fixed
point if Newton's step is at most 4 such units long, and two rows may lie on opposite sides of it.
"""

_MANY = 5
"""So many points that a single row each has met are no accident."""

_AT_A_KINK = (
    "Where very many kinks meet, as of ReLU units, or with another solver than the default one, "
    "rows may stay at kinks. "
)

_TOWARDS_OTHERS = (
    "`search_between=True` may find them, and so may starts with more noise, or the solver `Adam`, "
    "whose first steps leave the neighbourhood of a stable point, where rows of other solvers stay."
)

NEAR = 3
"""Kept points closer than this many `tol_unique` are reported: rows at a single point that scatter
somewhat more than `tol_unique` would be kept as two such points."""


@dataclasses.dataclass(frozen=True)
class Account:
    """What became of the rows of a search. `str(account)` says so in a few lines.

    Attributes:
        n_rows: how many rows there are.
        parts: the rows that ended alike, each row in one of the parts.
        dropped_by: `[n_rows]` for each row the argument of `find_fixed_points` that drops its
            point, such as `"outlier_distance_scale"`; `""` if none does; `"unknown"` if its point
            is not among those that are kept, although no rule of these settings drops it.
        n_merged: how many points seem to be hidden in others because `tol_unique` merges them: some
            rows at fixed points lie farther from the kept point than rounding explains.
        n_near: how many pairs of kept points are less than 3 `tol_unique` apart.
        lines: the account in sentences.
        warning: what `find_fixed_points` warns of, and empty if nothing calls for a change: fixed
            points that are dropped, slow points that are dropped if at least 5 % of the rows
            ended at them and a state lingers there for 100 steps, rows that are dropped since they
            are unfinished if these are 5 % at least, and a search that keeps nothing.
    """

    n_rows: int
    parts: tuple[Part, ...]
    dropped_by: Shaped[np.ndarray, " n_rows"] = dataclasses.field(repr=False, compare=False)
    n_merged: int
    n_near: int
    lines: tuple[str, ...] = dataclasses.field(repr=False)
    warning: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return "\n".join((f"Of {count_of(self.n_rows, 'row')}:", *(f"  {x}" for x in self.lines)))


def account(
    unique_fps: FixedPoints,
    all_fps: FixedPoints,
    *,
    within_conditions: bool = False,
    outlier_distance_scale: Number | None = 10.0,
    outlier_q_scale: Number | None = None,
    final_q_threshold: Number | None = 1e-8,
    max_n_unique: Number = np.inf,
    keep_unfinished: bool = True,
    max_iters: Number = 5000,
    F: Any = None,
) -> Account:
    """Say what became of every row of a search, what was dropped, and how to keep it.

    `account` takes what [`find_fixed_points`][slowpoints.find_fixed_points] returned and the
    settings that it was given, which have the same defaults. A row counts as kept if a kept point
    is within `tol_unique` of it. Any other row is counted under the first rule that drops it. The
    account is computed on the host, so it does not work inside `jit`, but it takes the results of
    `jit`.

    Args:
        unique_fps: the points that were kept.
        all_fps: all rows, with `status` and `tol_unique`.
        within_conditions: see `find_fixed_points`, also for the other settings.
        outlier_distance_scale: points farther from the initial states are dropped.
        outlier_q_scale: the search went on from points of higher `q`.
        final_q_threshold: points of higher `q` are dropped.
        max_n_unique: at most this many points are kept.
        keep_unfinished: points at which no row came to an end are kept.
        max_iters: unfinished rows of so many iterations were cut off; the solver left the others
            before, because it made no more progress.
        F: the network, or anything that [`as_transition`][slowpoints.as_transition] takes, so that
            kinks are named as a reason only if it may have some, and rows are counted that left the
            states that no trajectory leaves.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a field that it takes is missing, or a setting is out of range.
    """
    caller = "account"
    needed = ("cond_id",) if arguments.flag(caller, "within_conditions", within_conditions) else ()
    for name, fps, fields in (
        ("unique_fps", unique_fps, ("xstar", *needed)),
        ("all_fps", all_fps, ("xstar", "qstar", "status", *needed)),
    ):
        arguments.instance(caller, name, fps, FixedPoints, "a slowpoints.FixedPoints")
        for field in fields:
            if getattr(fps, field) is None:
                arguments.refuse(
                    caller, f"{name}.{field}", "is None", f"the rows' {field}", ValueError
                )
    sizes = (unique_fps.n_states, unique_fps.n_inputs), (all_fps.n_states, all_fps.n_inputs)
    if sizes[0] != sizes[1]:
        was = f"has {sizes[0][0]} states and {sizes[0][1]} inputs"
        expected = f"those of `all_fps`, {sizes[1][0]} and {sizes[1][1]}"
        arguments.refuse(caller, "unique_fps", was, expected, ValueError)
    scales = {
        "outlier_distance_scale": outlier_distance_scale,
        "outlier_q_scale": outlier_q_scale,
        "final_q_threshold": final_q_threshold,
    }
    rules = {k: arguments.number(caller, k, v, or_none=True) for k, v in scales.items()}
    most = arguments.whole(caller, "max_n_unique", max_n_unique, or_infinite=True)
    # In the order in which the search applies them.
    rules["keep_unfinished"] = arguments.flag(caller, "keep_unfinished", keep_unfinished)
    rules["max_n_unique"] = most
    limit: int = arguments.whole(caller, "max_iters", max_iters, least=1)
    F = None if F is None else as_transition(F)
    return _Rows(unique_fps, all_fps, within_conditions, rules, limit, F).account()


class _Rows:
    """The rows of a search, and the points that they belong to."""

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
        self.labels = np.zeros(self.kept.n, int), np.zeros(all_fps.n, int)
        if within_conditions:
            both = [np.asarray(fps.cond_id) for fps in (self.kept, all_fps)]
            numbers = np.unique(np.concatenate(both), return_inverse=True)[1]
            self.labels = numbers[: self.kept.n], numbers[self.kept.n :]
        self.point, self.distance = np.full(all_fps.n, -1), np.full(all_fps.n, np.inf)
        rows = np.flatnonzero(valid)
        self.point[rows], self.distance[rows] = nearest(
            self._places(all_fps, rows),
            self._places(self.kept, np.arange(self.kept.n)),
            self.tol * (1 + 1e-9),  # distances are computed in another way than `unique` does
            (self.labels[1][rows], self.labels[0]),
        )
        self.dropped_by = self._dropped_by(valid & (self.point < 0))
        self.on_continuum = self._on_continuum()
        is_kept = self.point >= 0
        self.level = self.status == Status.UNFINISHED
        self.level[is_kept] &= self.on_continuum[self.point[is_kept]]
        self.level &= is_kept
        unfinished = (self.status == Status.UNFINISHED) & ~self.level
        self.falling = self.stalled = np.zeros(all_fps.n, bool)  # if the iterations are not known
        if all_fps.n_iters is not None:
            cut_off = np.asarray(all_fps.n_iters) >= max_iters
            self.falling, self.stalled = unfinished & cut_off, unfinished & ~cut_off
        self.outside = np.zeros(all_fps.n, bool)  # if the network is not known
        if F is not None and np.any(self.status == Status.ESCAPED):
            network = traced_for("account", F, all_fps)
            self.outside = is_outside(network, np.asarray(all_fps.xstar))
        # Rows at a fixed point or slow point that is kept have nowhere to go.
        self.going_on = unfinished
        if self.kept.status is not None:
            settled = np.isin(self.kept.status, [Status.FIXED_POINT, Status.SLOW_POINT])
            self.going_on[is_kept] &= ~settled[self.point[is_kept]]

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

    @staticmethod
    def _places(fps: FixedPoints, rows: Int[np.ndarray, " k"]) -> list[np.ndarray]:
        """Return the states and the inputs of some rows."""
        arrays = (fps.xstar, fps.inputs)
        return [np.asarray(array)[rows] for array in arrays if array is not None]

    def _dropped_by(self, left: Bool[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        dropped_by = np.full(left.size, "", "<U22")
        self.typical, self.scaled = 0.0, np.zeros(left.size)
        scale = self.rules["outlier_distance_scale"]
        if self.fps.x_init is not None and left.any():
            start = np.asarray(self.fps.x_init)
            with np.errstate(invalid="ignore"):
                from_first = np.subtract(start, start[0], dtype=np.float64)  # as the search does it
                centroid = start[0] + from_first.mean(axis=0)
                self.typical = float(np.linalg.norm(start - centroid, axis=1).mean())
            if scale is not None and self.typical > 0:
                there = np.asarray(self.fps.xstar)[left]
                self.scaled[left] = np.linalg.norm(there - centroid, axis=1) / self.typical
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
                dropped_by[left & (self.scaled > scale * (1 - _EDGE))] = "outlier_distance_scale"
            if threshold:
                dropped_by[left & (self.q >= threshold * (1 - _EDGE))] = "final_q_threshold"
        return dropped_by

    def account(self) -> Account:
        """Count, and put it in words."""
        parts, lines, warned = [], [], []
        self.counted = np.zeros(self.kept.n, bool)
        for status in Status:
            for rule in ("", *self.rules, "unknown"):
                rows = (self.status == status) & (self.dropped_by == rule)
                if not rows.any():
                    continue
                part, q = self._part(status, rule, rows)
                parts.append(part)
                farthest = float(self.scaled[rows].max())
                of_rows = self.level, self.falling, self.stalled, self.outside
                why = (int(of[rows].sum()) for of in of_rows)
                lines.append(sentence(part, q, farthest, self.rules, *why))
                if self._calls_for_a_change(part, rows):
                    warned.append(lines[-1])
        lines += self._found_between() + self._advice() + self._far_away() + self._many_more()
        n_merged, of_merged = self._merged()
        n_near, of_near = self._near()
        warning = ""
        if self.fps.n and self.kept.n == 0 and self.rules["max_n_unique"] > 0:
            warning = f"None of the {self.fps.n} rows is kept: {' '.join(lines)}"
        elif warned:
            warning = f"Of {count_of(self.fps.n, 'row')}, {' '.join(warned)}"
        # Where points are counted more than once, neither their distances nor a sum over them tell
        # anything else.
        lines += of_merged + (self._repeated() or of_near + self._signs())
        return Account(
            self.fps.n, tuple(parts), self.dropped_by, n_merged, n_near, tuple(lines), warning
        )

    def _found_between(self) -> list[str]:
        """Say how many points no row led to."""
        n = 0 if self.kept.hits is None else int(np.sum(np.asarray(self.kept.hits) == 0))
        if n == 0:
            return []
        one = n == 1
        return [
            f"{count_of(n, 'further fixed point')} {'was' if one else 'were'} found from states "
            f"between others, and {'has' if one else 'have'} 0 `hits`."
        ]

    def _advice(self) -> list[str]:
        """Say what may take unfinished rows further, and what cannot."""
        if not self.going_on.any():
            return []
        lines = []
        if (self.going_on & self.falling).any():
            lines.append("More `max_iters` takes rows further that ended while q was falling.")
        if (self.going_on & self.stalled).any():
            lines.append(
                "More `max_iters` changes nothing where the solver made no more progress. "
                f"{_AT_A_KINK if self._may_have_kinks() else ''}In a flat valley, a solver with "
                "more `patience` may get further. More starts, or `coverage`, may lead to other "
                "points."
            )
        if not lines:
            lines.append(
                "More `max_iters`, or a solver with more `patience`, may take unfinished rows "
                "further."
            )
        return lines

    def _may_have_kinks(self) -> bool:
        return self.F is None or may_have_kinks(traced_for("account", self.F, self.fps))

    def _many_more(self) -> list[str]:
        """Say if the slow points that most rows ended at may have kept them from fixed points."""
        if self.kept.status is None:
            return []
        at_points = (self.status == Status.FIXED_POINT) & (self.point >= 0)
        n_slow = int(np.sum(self.status == Status.SLOW_POINT))
        n_rows = np.bincount(self.point[at_points])
        n_rows = n_rows[n_rows > 0]
        n_once = int(np.sum(n_rows == 1))
        if n_once < _MANY or 2 * n_once < n_rows.size or 2 * n_slow < self.fps.n:
            return []
        return [
            f"{n_once} of {count_of(n_rows.size, 'fixed point')} were met by a single row, and "
            "most rows ended at slow points. There may be many more fixed points: rows of the "
            "solver `BoundedNewton` end at no slow point."
        ]

    def _far_away(self) -> list[str]:
        """Say which kept points are farther out than all initial states, and by how much."""
        if self.fps.x_init is None or self.kept.status is None or self.kept.n == 0:
            return []
        start = np.asarray(self.fps.x_init, np.float64)
        start = start[np.isfinite(start).all(axis=1)]
        if not start.size:
            return []
        centroid = start.mean(axis=0)
        farthest = np.linalg.norm(start - centroid, axis=1).max()
        away = np.linalg.norm(np.asarray(self.kept.xstar, np.float64) - centroid, axis=1)
        far = (away > (1 + _EDGE) * farthest) & (farthest > 0)
        n = int(np.sum(far))
        if n == 0:
            return []
        one = n == 1
        what = counted(self.kept.status[far])
        times = away[far].max() / farthest
        how_far = f"{times:.1f} times as far" if times >= 1.05 else f"{times - 1:.1%} farther"
        told = (
            f"{what} that {are(n)} kept {'is' if one else 'are'} farther from the centre of the "
            f"initial states than any of these ({'' if one else 'up to '}{how_far}), where the "
            "network need not ever be."
        )
        if np.any(self.kept.status[far] == Status.UNFINISHED):
            told += (
                " `fps.status` tells unfinished points from fixed points, and `slow_manifold` "
                "samples where the network is slow near states that it visits."
            )
        return [told]

    def _signs(self) -> list[str]:
        """Say whether the signs of `det(I - J)` show that points are missing."""
        J, status = self.kept.J_xstar, self.kept.status
        dropped = (self.status == Status.FIXED_POINT) & (self.dropped_by != "")
        if J is None or self.kept.n == 0 or dropped.any():
            return []
        exact = np.ones(self.kept.n, bool) if status is None else status == Status.FIXED_POINT
        exact |= self.on_continuum
        signs = signs_of(self.kept[exact])
        if not exact.any():
            return []
        if not signs.all():
            return self._continua(np.flatnonzero(exact)[signs == 0])
        inputs = self.kept.inputs
        sums = sums_by_input(signs, None if inputs is None else inputs[exact])
        wrong = sums[sums != 1]
        told = "The signs of det(I - J) at the fixed points sum to"
        if sums.size == 1 and wrong.size == 0:
            return [f"{told} 1, as for a complete set of a network whose states stay bounded."]
        if sums.size == 1:
            n_missing = abs(1 - int(sums[0]))
            return [
                f"{told} {sums[0]}, not 1: at least {count_of(n_missing, 'point')} "
                f"{are(n_missing)} missing, if the network's states stay bounded. {_TOWARDS_OTHERS}"
            ]
        if wrong.size == 0:
            return [f"{told} 1 under each of {sums.size} inputs, as for complete sets."]
        return [
            f"{told} another number than 1 under {wrong.size} of {sums.size} inputs: points are "
            f"missing there, if the network's states stay bounded. {_TOWARDS_OTHERS}"
        ]

    def _continua(self, rows: Int[np.ndarray, " k"]) -> list[str]:
        """Say which of some points, at which `I - J` is singular, sample a line of fixed points."""
        n_unfinished = int(self.on_continuum[rows].sum())
        name = "point" if n_unfinished else "fixed point"
        shown = rows[np.linspace(0, rows.size - 1, min(rows.size, _SAMPLE)).astype(int)]
        x = np.asarray(self.kept.xstar, np.float64)
        u = None if self.kept.inputs is None else np.asarray(self.kept.inputs)
        dimensions, in_line = [], 0
        for row in shown.tolist():
            others = rows[rows != row]
            if u is not None:  # points under another input are not of the same set
                others = others[(u[others] == u[row]).all(axis=1)]
            if not others.size:
                continue
            neutral = neutral_directions(self.kept, row)
            away = x[others] - x[row]
            length = np.maximum(np.linalg.norm(away, axis=1), np.finfo(float).tiny)
            along = np.linalg.norm(away @ neutral, axis=1) >= _ALONG * length
            in_line += along[np.argmin(length)]
            # Nearer ones may be the same point, since rows at a fold scatter along it.
            unlocated = PLACE * max(math.sqrt(x.shape[1]), float(np.linalg.norm(x[row])))
            nearest_apart = np.argmin(np.where(length > unlocated, length, np.inf))
            gap = length[nearest_apart]
            if along[nearest_apart] and unlocated < gap <= _GAP * length.max():
                dimensions.append(neutral.shape[1])
        if 2 * len(dimensions) < len(shown):
            told = (
                f"I - J is singular at {count_of(rows.size, name)} as far as can be told, as at a"
            )
            if 2 * in_line < len(shown):
                return [f"{told} fold: there may be one point each, two or none."]
            return [
                f"{told} fold or on a line of fixed points: they are too few, too far apart or too "
                "close together to tell."
            ]
        dimension = int(np.median(dimensions))
        what = {1: "curve", 2: "surface"}.get(dimension, f"set of {dimension} dimensions")
        along = "its direction" if dimension == 1 else "its directions"
        lines = [
            f"{count_of(rows.size, name)} lie on a {what}: I - J is singular along {along}, in "
            "which the nearest other points are. They sample a continuum, such as a line or ring "
            "attractor; how many there are depends on the starts and on `tol_unique`."
        ]
        if n_unfinished:
            lines.append(
                f"{n_unfinished} of these {are(n_unfinished)} unfinished, because Newton's steps "
                f"lead along the {what}. More iterations would not make them more exact."
            )
        return lines

    def _part(
        self, status: Status, rule: str, rows: Bool[np.ndarray, " n"]
    ) -> tuple[Part, list[tuple[float, int]]]:
        """Return the part, and for each of its points the lowest `q` and the number of rows."""
        q = self.q[rows]
        n_points, n_shared, points = None, 0, []
        if status >= Status.ESCAPED or (status == Status.UNFINISHED and rule):
            pass
        elif not rule:
            reached = np.unique(self.point[rows])
            n_shared = int(self.counted[reached].sum())
            n_points = reached.size - n_shared
            self.counted[reached] = True
        else:
            first = self._distinct(rows, self.tol)
            of_rows = np.flatnonzero(rows)
            place, _ = nearest(
                self._places(self.fps, of_rows),
                self._places(self.fps, first),
                self.tol * (1 + 1e-9),
                (self.labels[1][of_rows], self.labels[1][first]),
            )
            counts = np.bincount(place[place >= 0], minlength=first.size)
            points = sorted(zip(self.q[first].tolist(), counts.tolist(), strict=True))
            n_points = first.size
        with np.errstate(invalid="ignore"):
            q_range = (float(q.min()), float(q.max()))
        return Part(status, rule, int(rows.sum()), n_points, q_range, n_shared), points

    def _calls_for_a_change(self, part: Part, rows: Bool[np.ndarray, " n"]) -> bool:
        if part.status == Status.FIXED_POINT:
            return part.dropped_by in ("outlier_distance_scale", "final_q_threshold")
        if part.dropped_by == "keep_unfinished":
            return part.n_rows >= SIZEABLE * self.fps.n
        if (part.status, part.dropped_by) != (Status.SLOW_POINT, "final_q_threshold"):
            return False
        lingers = LINGERING * np.sqrt(2 * self.q[rows]) <= (self.typical or math.inf)
        return bool(lingers.sum() >= SIZEABLE * self.fps.n and lingers.any())

    def _distinct(self, rows: Bool[np.ndarray, " n"], tol: float) -> Int[np.ndarray, " points"]:
        """Return a row for each of the distinct points of these rows."""
        # All rows are passed on, so that the search's own program is run again.
        fps = self.fps.replace(valid=rows, cond_id=self.labels[1])
        kept = unique(fps, tol, within_conditions=self.within_conditions)
        return np.flatnonzero(np.asarray(kept.valid))

    def _merged(self) -> tuple[int, list[str]]:
        exact = (self.status == Status.FIXED_POINT) & (self.point >= 0)
        if not exact.any():
            return 0, []
        size = np.linalg.norm(np.asarray(self.fps.xstar)[exact], axis=1)
        explained = SCATTER * (math.sqrt(self.fps.n_states) + float(size.max()))
        apart = exact & (self.distance > explained)
        if explained >= self.tol or not apart.any():
            return 0, []
        n_points = np.unique(self.point[exact]).size
        n_merged = max(self._distinct(exact, explained).size - n_points, 0)
        if n_merged == 0:
            return 0, []
        line = (
            f"{apart.sum()} at fixed points lie up to {brief(self.distance[apart].max())} from "
            f"the point that is kept for them, which is more than rounding explains: "
            f"{count_of(n_merged, 'further point')} may be there, nearer than `tol_unique` = "
            f"{brief(self.tol)}. A lower `tol_unique` tells them apart."
        )
        return n_merged, [line]

    def _repeated(self) -> list[str]:
        """Say if `tol_unique` is so low that rounding alone makes several points of one.

        Points at which `I - J` is singular are left out: on a line of fixed points rows come to
        rest as close together as may be.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        J, status, xstar = self.kept.J_xstar, self.kept.status, np.asarray(self.kept.xstar)
        if status is None or self.kept.n < 2:
            return []
        exact = status == Status.FIXED_POINT
        if J is not None:
            exact[exact] = signs_of(self.kept[exact]) != 0
        norms = np.linalg.norm(xstar.astype(np.float64), axis=1)
        size = max(math.sqrt(xstar.shape[1]), float(norms.max()))
        place = ROUNDED * float(np.finfo(xstar.dtype).eps) * size
        if self.tol >= place:
            return []
        points = self._places(self.kept, np.flatnonzero(exact))
        own, other, _ = pairs(points, points, place)
        label = self.labels[0][exact]
        together = (own < other) & (label[own] == label[other])
        if not together.any():
            return []
        n, own, other = label.size, own[together], other[together]
        n_places, of = connected_components(coo_array((np.ones(own.size), (own, other)), (n, n)))
        shared = np.bincount(of, minlength=n_places) > 1
        n_repeated = np.unique([own, other]).size
        return [
            f"Rounding leaves a point's place uncertain by about {brief(place)}, and `tol_unique` "
            f"= {brief(self.tol)} is below that: {n_repeated} of the kept points are at only "
            f"{count_of(int(shared.sum()), 'place')}, so that points are counted more than once. A "
            "higher `tol_unique` counts each once."
        ]

    def _near(self) -> tuple[int, list[str]]:
        kept = self._places(self.kept, np.arange(self.kept.n))
        own, other, distance = pairs(kept, kept, NEAR * self.tol)
        together = (own < other) & (self.labels[0][own] == self.labels[0][other])
        n_near = int(together.sum())
        if n_near == 0:
            return 0, []
        line = (
            f"{count_of(n_near, 'pair')} of kept points are less than {NEAR} `tol_unique` apart, "
            f"the nearest {brief(distance[together].min())}. On a line or ring of fixed points "
            "they are a sample of it; else they may be one point, which a higher `tol_unique` "
            "shows."
        )
        return n_near, [line]
