"""`account`: what became of the rows of a search, counted and in words."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._network.as_transition import as_transition
from slowpoints._pipeline.missing_points import told_by_signs, told_of_many_more
from slowpoints._pipeline.parts import Part, are, count_of, sentence
from slowpoints._pipeline.rows_of_search import EDGE, RowsOfSearch, places
from slowpoints._pipeline.told_apart import told_of_merged, told_of_near, told_of_repeated
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.neighbours import nearest
from slowpoints._points.status import Status, counted
from slowpoints._points.traced import traced_for
from slowpoints._solvers.kinks.smooth import may_have_kinks

SIZEABLE = 0.05
"""A search warns of dropped slow points, and of unfinished rows that no other rule would drop, if
at least this share of the rows ended there. A slow point that the network passes attracts a good
part of the states that it visits; fewer rows are mentioned in the account only."""

LINGERING = 100
"""A warning counts a slow point only if this many steps move a state by no more than the initial
states lie from their centroid. Between any two fixed points there are minima of `q` that a state
leaves within a few steps, and nobody looks for those."""

_AT_A_KINK = (
    "Searches with another solver than the default one, or with more than 1,024 states, may "
    "stay at kinks, as of ReLU units. "
)


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
        return "\n".join((f"Of {count_of(self.n_rows, 'start')}:", *(f"  {x}" for x in self.lines)))


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
    with np.errstate(over="ignore", invalid="ignore"):  # of states whose squares are not finite
        return _told(RowsOfSearch(unique_fps, all_fps, within_conditions, rules, limit, F))


def _told(rows: RowsOfSearch) -> Account:
    """Count, and put it in words."""
    parts, lines, warned = _in_parts(rows)
    lines += _found_between(rows) + _advice(rows) + _far_away(rows) + told_of_many_more(rows)
    n_merged, of_merged, are_isolated = told_of_merged(rows)
    if are_isolated and rows.tol == FixedPoints.tol_unique:  # who chose another knows of it
        warned += of_merged
    n_near, of_near = told_of_near(rows)
    warning = ""
    if rows.fps.n and rows.kept.n == 0 and rows.rules["max_n_unique"] > 0:
        warning = f"No point is kept. Of {count_of(rows.fps.n, 'start')}: {' '.join(lines)}"
    elif warned:
        warning = f"Of {count_of(rows.fps.n, 'start')}, {' '.join(warned)}"
    # Where points are counted more than once, neither their distances nor a sum over them tell
    # anything else; and where some do not count, a sum over the others tells nothing.
    of_signs = [] if are_isolated else told_by_signs(rows)
    lines += of_merged + (told_of_repeated(rows) or of_near + of_signs)
    return Account(
        rows.fps.n, tuple(parts), rows.dropped_by, n_merged, n_near, tuple(lines), warning
    )


# ---- the parts -----------------------------------------------------------------------------------


def _in_parts(rows: RowsOfSearch) -> tuple[list[Part], list[str], list[str]]:
    """Return the rows that ended alike, a sentence on each part, and those to warn with."""
    parts, lines, warned = [], [], []
    counted_already = np.zeros(rows.kept.n, bool)
    for status in Status:
        for rule in ("", *rows.rules, "unknown"):
            these = (rows.status == status) & (rows.dropped_by == rule)
            if not these.any():
                continue
            part, q = _part(rows, status, rule, these, counted_already)
            parts.append(part)
            farthest = float(rows.scaled[these].max())
            of_rows = rows.level, rows.falling, rows.stalled, rows.outside
            why = (int(of[these].sum()) for of in of_rows)
            is_known = rows.F is not None
            lines.append(sentence(part, q, farthest, rows.rules, *why, is_known=is_known))
            if _calls_for_a_change(rows, part, these):
                warned.append(lines[-1])
    return parts, lines, warned


def _part(
    rows: RowsOfSearch,
    status: Status,
    rule: str,
    these: Bool[np.ndarray, " n"],
    counted_already: Bool[np.ndarray, " points"],
) -> tuple[Part, list[tuple[float, int]]]:
    """Return the part, and for each of its points the lowest `q` and the number of rows.

    Kept points are marked as counted.
    """
    q = rows.q[these]
    n_points, n_shared, points = None, 0, []
    if status >= Status.ESCAPED or (status == Status.UNFINISHED and rule):
        pass
    elif not rule:
        reached = np.unique(rows.point[these])
        reached = reached[reached >= 0]  # rows that are not valid may have none
        n_shared = int(counted_already[reached].sum())
        n_points = reached.size - n_shared
        counted_already[reached] = True
    else:
        points = _dropped_points(rows, these)
        n_points = len(points)
    q_range = (float(q.min()), float(q.max()))
    return Part(status, rule, int(these.sum()), n_points, q_range, n_shared), points


def _dropped_points(rows: RowsOfSearch, these: Bool[np.ndarray, " n"]) -> list[tuple[float, int]]:
    """Return the lowest `q` and the number of rows of each point of these rows, by rising `q`."""
    first = rows.distinct(these, rows.tol)
    of_rows = np.flatnonzero(these)
    place, _ = nearest(
        places(rows.fps, of_rows),
        places(rows.fps, first),
        rows.tol * (1 + 1e-9),
        (rows.labels[1][of_rows], rows.labels[1][first]),
    )
    counts = np.bincount(place[place >= 0], minlength=first.size)
    return sorted(zip(rows.q[first].tolist(), counts.tolist(), strict=True))


def _calls_for_a_change(rows: RowsOfSearch, part: Part, these: Bool[np.ndarray, " n"]) -> bool:
    """Return whether `find_fixed_points` warns of a part."""
    if part.status == Status.FIXED_POINT:
        return part.dropped_by in ("outlier_distance_scale", "final_q_threshold")
    if part.dropped_by == "keep_unfinished":
        return part.n_rows >= SIZEABLE * rows.fps.n
    if (part.status, part.dropped_by) != (Status.SLOW_POINT, "final_q_threshold"):
        return False
    lingers = LINGERING * np.sqrt(2 * rows.q[these]) <= (rows.typical or math.inf)
    return bool(lingers.sum() >= SIZEABLE * rows.fps.n and lingers.any())


# ---- what else is to be said ---------------------------------------------------------------------


def _found_between(rows: RowsOfSearch) -> list[str]:
    """Say how many points no row led to."""
    n = 0 if rows.kept.hits is None else int(np.sum(np.asarray(rows.kept.hits) == 0))
    if n == 0:
        return []
    one = n == 1
    return [
        f"{count_of(n, 'further fixed point')} {'was' if one else 'were'} found from states "
        f"between others, and {'has' if one else 'have'} 0 `hits`."
    ]


def _advice(rows: RowsOfSearch) -> list[str]:
    """Say what may take unfinished rows further, and what cannot."""
    if not rows.going_on.any():
        return []
    lines = []
    if (rows.going_on & rows.falling).any():
        lines.append("More `max_iters` takes searches further that ended while q was falling.")
    if (rows.going_on & rows.stalled).any():
        lines.append(
            "More `max_iters` changes nothing where the solver made no more progress. "
            f"{_AT_A_KINK if _may_have_kinks(rows) else ''}In a flat valley, a solver with "
            "more `patience` may get further. More starts, or `coverage`, may lead to other "
            "points."
        )
    if not lines:
        lines.append(
            "More `max_iters`, or a solver with more `patience`, may take unfinished searches "
            "further."
        )
    return lines


def _may_have_kinks(rows: RowsOfSearch) -> bool:
    """Return whether the network may have kinks, as it may if it is not known."""
    return rows.F is None or may_have_kinks(traced_for("account", rows.F, rows.fps))


def _far_away(rows: RowsOfSearch) -> list[str]:
    """Say which kept points are farther out than all initial states, and by how much."""
    if rows.fps.x_init is None or rows.kept.status is None or rows.kept.n == 0:
        return []
    start = np.asarray(rows.fps.x_init, np.float64)
    start = start[np.isfinite(start).all(axis=1)]
    if not start.size:
        return []
    centroid = start.mean(axis=0)
    farthest = np.linalg.norm(start - centroid, axis=1).max()
    away = np.linalg.norm(np.asarray(rows.kept.xstar, np.float64) - centroid, axis=1)
    far = (away > (1 + EDGE) * farthest) & (farthest > 0)
    n = int(np.sum(far))
    if n == 0:
        return []
    one = n == 1
    what = counted(rows.kept.status[far])
    times = away[far].max() / farthest
    how_far = f"{times:.1f} times as far" if times >= 1.05 else f"{times - 1:.1%} farther"
    told = (
        f"{what} that {are(n)} kept {'is' if one else 'are'} farther from the centre of the "
        f"initial states than any of these ({'' if one else 'up to '}{how_far}), where the "
        "network need not ever be."
    )
    if np.any(rows.kept.status[far] == Status.UNFINISHED):
        told += (
            " `fps.status` tells unfinished points from fixed points, and `slow_manifold` "
            "samples where the network is slow near states that it visits."
        )
    return [told]
