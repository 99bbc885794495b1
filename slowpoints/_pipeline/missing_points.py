"""Whether points are missing: what the points that a search kept say about others."""

import math

import numpy as np
from jaxtyping import Int

from slowpoints._linear_algebra.signs import PLACE, neutral_directions, signs_of, sums_by_input
from slowpoints._pipeline.parts import are, count_of
from slowpoints._pipeline.rows_of_search import RowsOfSearch
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status

_SAMPLE = 64
"""So many points are looked at to see whether they lie on a line of fixed points."""

_ALONG = 0.9
"""Points lie on a line if the nearest other point is in its direction: the cosine of the angle is
at least this."""

_GAP = 1 / 3
"""The nearest other point on a line of fixed points is at most this fraction of the way to the
farthest. Two or three isolated points are no curve, even if the direction of each leads to the
next; four that are evenly spaced are."""

_MANY = 5
"""So many points that a single row each has met are no accident."""

_TOWARDS_OTHERS = (
    "They may be found from other states, such as those that the network runs to under this input "
    "(`simulate`), with more noise, with `search_between=True` or `coverage`, or by the solver "
    "`Adam`, whose first steps leave the neighbourhood of a stable point, where others stay."
)


def told_of_many_more(rows: RowsOfSearch) -> list[str]:
    """Say if the slow points that most rows ended at may have kept them from fixed points."""
    if rows.kept.status is None:
        return []
    at_points = (rows.status == Status.FIXED_POINT) & (rows.point >= 0)
    n_slow = int(np.sum(rows.status == Status.SLOW_POINT))
    n_rows = np.bincount(rows.point[at_points])
    n_rows = n_rows[n_rows > 0]
    n_once = int(np.sum(n_rows == 1))
    if n_once < _MANY or 2 * n_once < n_rows.size or 2 * n_slow < rows.fps.n:
        return []
    return [
        f"{n_once} of {count_of(n_rows.size, 'fixed point')} were met by a single start, and "
        "most starts led to slow points. There may be many more fixed points: rows of the "
        "solver `BoundedNewton` end at no slow point."
    ]


def told_by_signs(rows: RowsOfSearch) -> list[str]:
    """Say whether the signs of `det(I - J)` show that points are missing."""
    J, status = rows.kept.J_xstar, rows.kept.status
    dropped = (rows.status == Status.FIXED_POINT) & (rows.dropped_by != "")
    if J is None or rows.kept.n == 0 or dropped.any():
        return []
    exact = np.ones(rows.kept.n, bool) if status is None else status == Status.FIXED_POINT
    exact |= rows.on_continuum
    signs = signs_of(rows.kept[exact])
    if not exact.any():
        return []
    if not signs.all():
        unknown = np.flatnonzero(exact)[signs == 0]
        known = rows.kept.at_kink
        at_kink = np.zeros(unknown.size, bool) if known is None else known[unknown]
        lines = [_told_of_kinks(int(at_kink.sum()))] if at_kink.any() else []
        return lines if at_kink.all() else lines + _told_of_continua(rows, unknown[~at_kink])
    inputs = rows.kept.inputs
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


def _told_of_kinks(n: int) -> str:
    return (
        f"{count_of(n, 'fixed point')} {are(n)} at a kink of the network, where the Jacobian "
        "jumps: eigenvalues, type and stability are those of one side. Whether points are missing "
        "cannot be told from signs of det(I - J) then."
    )


def _told_of_continua(rows: RowsOfSearch, points: Int[np.ndarray, " k"]) -> list[str]:
    """Say which of some points, at which `I - J` is singular, sample a line of fixed points."""
    n_unfinished = int(rows.on_continuum[points].sum())
    name = "point" if n_unfinished else "fixed point"
    shown = points[np.linspace(0, points.size - 1, min(points.size, _SAMPLE)).astype(int)]
    dimensions, in_line = _continua_at(rows.kept, points, shown)
    if 2 * len(dimensions) < len(shown):
        told = f"I - J is singular at {count_of(points.size, name)} as far as can be told, as at a"
        if 2 * in_line < len(shown):
            return [
                f"{told} fold: there may be one point each, two or none. It looks the same on a "
                "line or ring of slow states that is not quite even, as starts slide along it to "
                "the few points at rest: `slow_manifold` shows where states are slow."
            ]
        return [
            f"{told} fold or on a line of fixed points: they are too few, too far apart or too "
            "close together to tell."
        ]
    dimension = int(np.median(dimensions))
    what = {1: "curve", 2: "surface"}.get(dimension, f"set of {dimension} dimensions")
    along = "its direction" if dimension == 1 else "its directions"
    lines = [
        f"{count_of(points.size, name)} lie on a {what}: I - J is singular along {along}, in "
        "which the nearest other points are. They sample a continuum, such as a line or ring "
        "attractor; how many there are depends on the starts and on `tol_unique`."
    ]
    if n_unfinished:
        lines.append(
            f"{n_unfinished} of these {are(n_unfinished)} unfinished, because Newton's steps "
            f"lead along the {what}. More iterations would not make them more exact."
        )
    return lines


def _continua_at(
    kept: FixedPoints, points: Int[np.ndarray, " k"], shown: Int[np.ndarray, " m"]
) -> tuple[list[int], int]:
    """Look from some of the singular points for a continuum on which they lie with the others.

    Returns:
        The dimension of the continuum, of each of the points that are `shown` and lie on one; and
        how many of those shown have their nearest neighbour in a direction along which `I - J`
        vanishes.
    """
    x = np.asarray(kept.xstar, np.float64)
    u = None if kept.inputs is None else np.asarray(kept.inputs)
    dimensions, in_line = [], 0
    for row in shown.tolist():
        others = points[points != row]
        if u is not None:  # points under another input are not of the same set
            others = others[(u[others] == u[row]).all(axis=1)]
        if not others.size:
            continue
        neutral = neutral_directions(kept, row)
        away = x[others] - x[row]
        length = np.maximum(np.linalg.norm(away, axis=1), np.finfo(float).tiny)
        along = np.linalg.norm(away @ neutral, axis=1) >= _ALONG * length
        in_line += int(along[np.argmin(length)])
        # Nearer ones may be the same point, since rows at a fold scatter along it.
        unlocated = PLACE * max(math.sqrt(x.shape[1]), float(np.linalg.norm(x[row])))
        nearest_apart = np.argmin(np.where(length > unlocated, length, np.inf))
        gap = length[nearest_apart]
        if along[nearest_apart] and unlocated < gap <= _GAP * length.max():
            dimensions.append(neutral.shape[1])
    return dimensions, in_line
