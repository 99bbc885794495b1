"""`Part`: rows of a search that ended in the same way, and the sentence that describes them."""

import dataclasses
import math
from typing import Any

from slowpoints._points.status import Status

_LISTED = 12  # this many slow points are listed one by one; of more, only the lowest and highest

_STALLED = "because the solver made no more progress"


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows of a search that ended in the same way.

    Attributes:
        status: how their search ended.
        dropped_by: the argument of `find_fixed_points` that drops them, such as
            `"final_q_threshold"`; empty if their points are kept, or if they have none;
            `"unknown"` if no rule of the settings drops them.
        n_rows: how many rows these are.
        n_points: the number of distinct points that they ended at and that no part before this one
            counts, so that over the parts whose points are kept these add up to the number of kept
            points; `None` for unfinished rows that are dropped, and for rows that have no point.
        q_range: their lowest and their highest `q`; NaN if the rows are not finite.
        n_shared: at how many kept points they ended that a part before this one counts. A row that
            was cut off next to a fixed point ended at that point, for example.
    """

    status: Status
    dropped_by: str
    n_rows: int
    n_points: int | None
    q_range: tuple[float, float]
    n_shared: int = 0


def sentence(
    part: Part,
    points: list[tuple[float, int]],
    farthest: float,
    rules: dict[str, Any],
    n_level: int = 0,
    n_falling: int = 0,
    n_stalled: int = 0,
    n_outside: int = 0,
    is_known: bool = True,
) -> str:
    """Say what became of the rows of a part, and how to keep them if they were dropped.

    Args:
        part: the rows.
        points: for each of their points the lowest `q` and the number of rows, by rising `q`.
        farthest: the largest distance of these rows from the centroid of the initial states, as a
            multiple of the mean distance of the initial states from it.
        rules: the arguments of `find_fixed_points` that drop points.
        n_level: of how many of the rows, if these are unfinished, `q` is no more than rounding.
        n_falling: how many of the others were cut off by `max_iters`.
        n_stalled: how many of the others the solver left before that.
        n_outside: how many of the rows, if these escaped, are where no trajectory stays.
        is_known: whether the network is known, and so `n_outside`.
    """
    n, rule = part.n_rows, part.dropped_by
    if part.status == Status.NOT_FINITE:
        return f"{n} {'is' if n == 1 else 'are'} NaN or infinite."
    if part.status == Status.ESCAPED:
        where = _where(n, n_outside) if is_known else _SOMEWHERE
        return f"{n} escaped: {where} (Start closer to states that the network visits.)"
    text = _ended(part, n_level, n_falling, n_stalled)
    if not rule:
        return text + _kept(part)
    single = part.n_points == 1
    if rule == "unknown":
        verb, them = ("is", "it") if single else ("are", "them")
        return (
            f"{text}, which {verb} not kept although none of these settings drops {them}. "
            "`account` takes the settings that the search was given; several processes that search "
            "together judge by the initial states of all of them."
        )
    if rule == "keep_unfinished":
        return f"{text}; `keep_unfinished=True` keeps {'it' if n == 1 else 'them'}."
    value = f"`{rule}` = {brief(rules[rule])}"
    if rule == "outlier_distance_scale":
        text = f"{text}, far from the initial states: {value} drops {'it' if single else 'them'}."
        if part.status == Status.UNFINISHED:
            return text
        return f"{text} {rule}={brief(_above(farthest))} keeps {'it' if single else 'them'}."
    if rule == "max_n_unique":
        return f"{text}, which {value} leaves out."
    if rule == "outlier_q_scale":
        return f"{text}, from which {value} had the search go on to another point."
    if part.status == Status.UNFINISHED:
        return f"{text}, not below {value}."
    return f"{text} that {'is' if single else 'are'} not below {value}: {_not_below(part, points)}"


def _ended(part: Part, n_level: int, n_falling: int, n_stalled: int) -> str:
    """Say how many rows ended, and at what."""
    n = part.n_rows
    if part.status == Status.WITHIN_TOLERANCE:
        return f"{n} stopped at q < `tol_q`, at {count_of(all_points(part), 'distinct state')}"
    if part.status != Status.UNFINISHED:
        return f"{n} ended at {count_of(all_points(part), str(part.status))}"
    if n_level == n:
        return f"{n} ended unfinished, {_q_range(part)}, which is no more than rounding"
    text = f"{n} ended unfinished{_why(n_falling, n_stalled)}, {_q_range(part)}"
    return f"{text}, which is no more than rounding for {n_level}" if n_level else text


def _not_below(part: Part, points: list[tuple[float, int]]) -> str:
    """List points by their `q`, which a threshold drops, and say which threshold keeps them."""
    alike = _by_q(points)
    shown = alike if len(alike) <= _LISTED else [alike[0], alike[-1]]
    listed = ", ".join(shown)
    if len(alike) > _LISTED:
        listed = f"the lowest and the highest are {listed}"
    single, rule = part.n_points == 1, part.dropped_by
    low, high = (_above(points[i][0]) for i in (0, -1))
    advice = f"{rule}={brief(low)} keeps {'it' if single else 'the lowest'}"
    if not single:
        advice = (
            f"{rule}={brief(high)} keeps them"
            if low == high
            else (f"{advice}, {rule}={brief(high)} all of them")
        )
    return f"{listed}. {advice}."


_SOMEWHERE = (
    "no point is there. Either q falls without end on their way, as in the tails of saturated "
    "units, or they left the states that no trajectory leaves; `account` with `F` says which."
)


def _where(n: int, n_outside: int) -> str:
    """Say where rows escaped to: along a tail, or out of the states that a network stays within."""
    if n_outside == n:
        return (
            "they left the states that no trajectory leaves, such as those from -1 to 1 of a GRU. "
            "Outside, units move back, but slowly where gates are closed, and no point is there."
        )
    left = f"{n_outside} left the states that no trajectory leaves; of the others, "
    return (
        f"{left if n_outside else ''}q falls without end on their way and no point is there, as in "
        "the tails of saturated units."
    )


def _why(n_falling: int, n_stalled: int) -> str:
    """Say why rows are unfinished; nothing if that is not known."""
    if n_falling and n_stalled:
        return f", {n_falling} while q was falling and {n_stalled} {_STALLED}"
    return ", while q was falling" if n_falling else f", {_STALLED}" if n_stalled else ""


def _kept(part: Part) -> str:
    """Say how many of the points of a part, none of which are dropped, are kept for these rows."""
    k, shared = part.n_points, part.n_shared
    if part.status == Status.UNFINISHED:
        if k == 0:
            return f", at {count_of(shared, 'point')} that {are(shared)} counted above."
        if shared:
            of_all = f"{all_points(part)} points that are kept"
            return f", at {of_all}, of which {shared} {are(shared)} counted above."
        return f"; {count_of(k, 'point')} of these {are(k)} kept."
    slow = f" {_q_range(part)}" if part.status == Status.SLOW_POINT else ""
    if shared == 0:
        return f"{slow}, which {are(k)} kept."
    near = "within `tol_unique` of points that are counted above"
    if k == 0:
        return f"{slow}, {near}."
    return f"{slow}, of which {k} {are(k)} kept and {shared} {are(shared)} {near}."


def all_points(part: Part) -> int | None:
    """Return at how many distinct points the rows of a part ended, counted already or not."""
    return None if part.n_points is None else part.n_points + part.n_shared


def _by_q(points: list[tuple[float, int]]) -> list[str]:
    """Write the `q` and the number of rows of each point; once for all that are written alike."""
    rows: dict[str, list[int]] = {}
    for q, n_rows in points:
        rows.setdefault(brief(q), []).append(n_rows)
    return [
        f"q = {q} ({'' if len(n) == 1 else f'{len(n)} points, '}{count_of(sum(n), 'start')})"
        for q, n in rows.items()
    ]


def _q_range(part: Part) -> str:
    low, high = map(brief, part.q_range)
    return f"with q = {low}" if low == high else f"with q from {low} to {high}"


def _above(q: float) -> float:
    """Return a number of one digit that is above `q`."""
    if not 0 < q < math.inf:
        return 1.0 if q > 0 else 1e-30
    unit = 10.0 ** math.floor(math.log10(q))
    shown = max(q, float(brief(q)))  # which is rounded
    return next(k * unit for k in range(1, 12) if float(brief(k * unit)) > shown)


def brief(value: Any) -> str:
    """Write a number with two digits, such as 1.2e-7."""
    text = f"{float(value):.2g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def count_of(n: int | None, name: str) -> str:
    """Write a number of things, such as "1 row" or "2 rows"."""
    return f"{n} {name}{'' if n == 1 else 's'}"


def are(n: int | None) -> str:
    """Return the verb for a number of things."""
    return "is" if n == 1 else "are"
