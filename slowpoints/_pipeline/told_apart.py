"""Whether `tol_unique` tells the points of a search apart: points that it merges, or splits."""

import math

import numpy as np
from jaxtyping import Int

from slowpoints._linear_algebra.signs import signs_of
from slowpoints._pipeline.parts import brief, count_of
from slowpoints._pipeline.rows_of_search import RowsOfSearch, places
from slowpoints._points.jacobians import jacobians
from slowpoints._points.neighbours import pairs
from slowpoints._points.status import Status
from slowpoints._search.units_of_states import USUAL

SCATTER = 1e-5
"""Rows at one fixed point agree in each state to `1e-6` or so, or to the rounding of a large one.
Rows that are ten times as far apart look like several points."""

ROUNDED = 8
"""Rows at one fixed point are at most about this many units of rounding apart, relative to the size
of the state (its norm, or `sqrt(n_states)` if that is larger). A float32 row is called a fixed
point if Newton's step is at most 4 such units long, and two rows may lie on opposite sides of it.
"""

_SAMPLE = 16
"""Of so many points that hide others, the Jacobians are looked at."""

NEAR = 3
"""Kept points closer than this many `tol_unique` are reported: rows at a single point that scatter
somewhat more than `tol_unique` would be kept as two such points."""


def told_of_merged(rows: RowsOfSearch) -> tuple[int, list[str], bool]:
    """Return how many points seem to be hidden in others, say so, and whether these are isolated.

    Rows at a point where `I - J` is singular may lie beside it on a line of fixed points.
    """
    exact = (rows.status == Status.FIXED_POINT) & (rows.point >= 0)
    if not exact.any():
        return 0, [], False
    size = np.linalg.norm(np.asarray(rows.fps.xstar)[exact], axis=1)
    explained = SCATTER * (_unit(rows) * math.sqrt(rows.fps.n_states) + float(size.max()))
    apart = exact & (rows.distance > explained)
    if explained >= rows.tol or not apart.any():
        return 0, [], False
    n_points = np.unique(rows.point[exact]).size
    n_merged = max(rows.distinct(exact, explained).size - n_points, 0)
    if n_merged == 0:
        return 0, [], False
    line = (
        f"{apart.sum()} at fixed points lie up to {brief(rows.distance[apart].max())} from "
        f"the point that is kept for them, which is more than rounding explains: "
        f"{count_of(n_merged, 'further point')} may be there, nearer than `tol_unique` = "
        f"{brief(rows.tol)}. A lower `tol_unique` tells them apart."
    )
    return n_merged, [line], _are_isolated(rows, np.flatnonzero(apart))


def _are_isolated(rows: RowsOfSearch, apart: Int[np.ndarray, " k"]) -> bool:
    """Return whether `I - J` is regular at a kept point that stands for one of these rows.

    As far as that is known, and where both are under the same input.
    """
    points = rows.point[apart]
    if rows.kept.inputs is not None:
        own, other = np.asarray(rows.fps.inputs)[apart], np.asarray(rows.kept.inputs)[points]
        points = points[(own == other).all(axis=1)]
    some = rows.kept[np.unique(points)[:_SAMPLE]]
    if some.n == 0:
        return False
    if some.J_xstar is None and rows.F is not None:
        some = jacobians(rows.F, some).to_numpy()
    return some.J_xstar is not None and bool(signs_of(some).any())


def _unit(rows: RowsOfSearch) -> float:
    """Return the size of states in which the search computed: 1, or theirs if they are small."""
    states = [np.asarray(x) for x in (rows.fps.x_init, rows.fps.xstar) if x is not None]
    largest = max(float(np.max(np.abs(x), where=np.isfinite(x), initial=0)) for x in states)
    return largest if 0 < largest < 1 / USUAL else 1.0


def told_of_repeated(rows: RowsOfSearch) -> list[str]:
    """Say if `tol_unique` is so low that rounding alone makes several points of one.

    Points at which `I - J` is singular are left out: on a line of fixed points rows come to
    rest as close together as may be.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    J, status, xstar = rows.kept.J_xstar, rows.kept.status, np.asarray(rows.kept.xstar)
    if status is None or rows.kept.n < 2:
        return []
    exact = status == Status.FIXED_POINT
    if J is not None:
        exact[exact] = signs_of(rows.kept[exact]) != 0
    norms = np.linalg.norm(xstar.astype(np.float64), axis=1)
    size = max(math.sqrt(xstar.shape[1]), float(norms.max()))
    place = ROUNDED * float(np.finfo(xstar.dtype).eps) * size
    if rows.tol >= place:
        return []
    points = places(rows.kept, np.flatnonzero(exact))
    own, other, _ = pairs(points, points, place)
    label = rows.labels[0][exact]
    together = (own < other) & (label[own] == label[other])
    if not together.any():
        return []
    n, own, other = label.size, own[together], other[together]
    n_places, of = connected_components(coo_array((np.ones(own.size), (own, other)), (n, n)))
    shared = np.bincount(of, minlength=n_places) > 1
    n_repeated = np.unique([own, other]).size
    return [
        f"Rounding leaves a point's place uncertain by about {brief(place)}, and `tol_unique` "
        f"= {brief(rows.tol)} is below that: {n_repeated} of the kept points are at only "
        f"{count_of(int(shared.sum()), 'place')}, so that points are counted more than once. A "
        "higher `tol_unique` counts each once."
    ]


def told_of_near(rows: RowsOfSearch) -> tuple[int, list[str]]:
    """Return how many pairs of kept points are close together, and say so."""
    kept = places(rows.kept, np.arange(rows.kept.n))
    own, other, distance = pairs(kept, kept, NEAR * rows.tol)
    together = (own < other) & (rows.labels[0][own] == rows.labels[0][other])
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
