"""`search_between_points`: further fixed points, from states between those that are known.

A search from states that the network visits finds the attractors, and often none of the saddles
that separate them, from which a visited state is far away. But where two attractors are known,
there is a saddle on the way from one to the other, and it is not far from the straight line. So
once the first points are known, few further starts find the others.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.arrays import beside, in_chunks, put
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.units import units_of
from slowpoints._linear_algebra.cores import one_thread_for_lapack
from slowpoints._linear_algebra.signs import signs_of
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._pipeline.select import select
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.neighbours import nearest, pairs
from slowpoints._points.status import Status
from slowpoints._points.unique import unique
from slowpoints._search.optimize_batch import optimize_batch

_STATES_BETWEEN = 9
"""At so many states `q` is computed on the way from one point to another: enough to see a minimum
in the middle third, and few beside the 100 or more evaluations that a row of a search takes."""

_OFF_THE_MIDDLE = 0.03
"""Of the distance between two of these states, they are that much off the even division. At the
very middle of a symmetric network, a unit such as `sign(x)` has a point that is nowhere around."""

_TOO_NEAR = 0.1
"""A start so near a known point, relative to the length of the way on which it lies, would lead
there."""

_TOO_NEAR_IF_COMPLETE = 1 / 3
"""As `_TOO_NEAR`, where the signs are those of a complete set. Then most minima of `q` on ways are
due to known points beside them. But signs of missing points may cancel, and of a minimum as far
from all known points as in the middle of a way between neighbours nothing is known."""

_MINIMA, _HALFWAY = 4, 16
"""A round has at most a quarter of the search's rows, which may all start at minima of `q`, and a
sixteenth halfway on ways without one, which fewer points lie near. If a round finds nothing, it is
the last one."""

_ROWS_OF_A_POINT = 2
"""With fewer rows for each point that is known, more starts like the first ones find as many."""

_ENTRIES_AT_A_TIME, _MOST_AT_A_TIME = 2**16, 2048
"""How many entries the states have for which `q` is computed at a time, and how many these are at
most."""

_MOST_POINTS = 1024
"""Where more points than this are known under one input, nothing is searched for between them, as
there are half a million ways."""

_ALIKE = 1e-4
"""An entry of the states whose range is no more than this part of its size is the same at all
points, as far as float32 can tell."""

_POINTS_AT_A_TIME = 8
"""The signs of so many points are computed at a time: on a line of fixed points the first tell."""


class _Starts(NamedTuple):
    """States to start from, each on the way from one point to another."""

    x: Float[np.ndarray, "k n_states"]
    origin: Int[np.ndarray, " k"]
    """The number of the first of the two points."""
    length: Float[np.ndarray, "k 2"]
    """How far they are apart, as `_scales` measure it."""
    is_halfway: Bool[np.ndarray, " k"]
    """Whether it is a state halfway; else `q` has a minimum there, as seen along the way."""

    def rows(self, rows: Any) -> "_Starts":
        return _Starts(*(array[rows] for array in self))

    def and_these(self, more: "_Starts") -> "_Starts":
        return _Starts(*map(np.concatenate, zip(self, more, strict=True)))


def search_between_points(
    F: Transition,
    fps: FixedPoints,
    start: Any,
    n_rows: int,
    *,
    rules: dict[str, Any],
    search: dict[str, Any],
) -> FixedPoints:
    """Return `fps` and, after them, fixed points found from states between them.

    Such states are minima of `q` along straight lines from one point to another under the same
    input, which any saddle near the line makes. Where the signs of `det(I - J)` do not sum to 1, so
    that points are missing if states stay bounded, they are also states halfway between points.
    Ways between points of positive sign come first, since the attractors are among these, and short
    ones before long ones. What is found is a known point in the next round.

    There is nothing to search for between fewer than two points, nor where `I - J` is singular, as
    on a line of fixed points; and if there are fewer than two of the `n_rows` rows for each point,
    it is more starts that are missing.

    Args:
        F: the traced network.
        fps: the points that are known, with `status` and Jacobians, on one device or the host.
        start: where the rows of the search started, as `select` takes it.
        n_rows: how many rows there were.
        rules: which points are kept: settings of `select`.
        search: how to search: settings of `optimize_batch`.

    Returns:
        The points. The `hits` of those that are new are 0, since no row of the search led to them,
        and their `x_init` is the state between others.
    """
    exact = np.flatnonzero(np.asarray(fps.status) == Status.FIXED_POINT)
    if not 2 <= exact.size <= n_rows // _ROWS_OF_A_POINT:
        return fps
    known, n_found = fps[exact].to_numpy(), 0
    known = known[np.lexsort(known.xstar.T)]  # so that the order of the rows plays no part
    within_conditions = rules["within_conditions"]
    unit, scales = units_of(known.xstar, known.F_xstar, known.x_init), _scales(known.xstar)
    looked_at, n_left = np.zeros(0, int), n_rows
    waiting = _Starts(known.xstar[:0], looked_at, np.zeros((0, 2)), np.zeros(0, bool))
    with one_thread_for_lapack():
        signs = _signs(known, unit)
        while n_left and signs.all():
            group = _groups(known, within_conditions)
            is_whole = np.bincount(group, weights=signs)[group] == 1
            first, second = _ways(known.xstar, group, signs, looked_at, n_rows)
            looked_at = np.concatenate([looked_at, _number(first, second)])
            if first.size:
                waiting = waiting.and_these(_starts(F, known, scales, first, second))
            most = min(n_left, n_rows // _MINIMA), n_rows // _HALFWAY
            taken = _apart(waiting, scales, known.xstar, group, is_whole, *most)
            new = _search(F, known, waiting.rows(taken), start, rules, search)
            if new.n == 0:
                break
            waiting = waiting.rows(np.setdiff1d(np.arange(len(waiting.x)), taken))
            n_left, n_found = n_left - taken.size, n_found + new.n
            signs = np.concatenate([signs, _signs(new, unit)])
            known = FixedPoints.concatenate([known, new])
    if n_found == 0:
        return fps
    joined = FixedPoints.concatenate([fps.to_numpy(), known[known.n - n_found :]])
    # A slow point may be as good as at one of them.
    joined = unique(joined, fps.tol_unique, within_conditions=within_conditions).compact()
    names = [name for name in FixedPoints.array_fields if getattr(joined, name) is not None]
    return joined.replace(**{k: beside(getattr(joined, k), getattr(fps, k)) for k in names})


def _scales(x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, "2 n_states"]:
    """Return two ways to measure states: as they are, and each entry by its range at the points.

    By the former, entries that are small beside others have no say; by the latter, those that
    hardly matter have too much. So a start is worth a search if it is a minimum by either, and
    takes the place of another only if it is near by both. Entries that differ by no more than
    rounding from point to point, as those of saturated units, are not made larger.
    """
    size, reach = np.max(np.abs(x), axis=0), np.ptp(x, axis=0)
    scale = np.where(reach > _ALIKE * size, reach, size)
    scale = np.where(scale > 0, scale, np.max(scale, initial=0) or 1)
    return np.stack([np.ones_like(scale), scale]).astype(x.dtype)


def _signs(fps: FixedPoints, unit: Float[np.ndarray, " n_states"]) -> Int[np.ndarray, " n"]:
    """Return the signs of `det(I - J)`, or zeros from the first ones that are not known."""
    signs = np.zeros(fps.n, int)
    for at in range(0, fps.n, _POINTS_AT_A_TIME):
        rows = slice(at, at + _POINTS_AT_A_TIME)
        signs[rows] = signs_of(fps[rows], unit)
        if not signs[rows].all():
            break
    return signs


def _groups(fps: FixedPoints, within_conditions: bool) -> Int[np.ndarray, " n"]:
    """Return a number for each point, the same for points of the same network and condition.

    As for `unique`, inputs that are at most `tol_unique` apart are the same.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    inputs, group = np.unique(np.asarray(fps.inputs), axis=0, return_inverse=True)
    group = group.reshape(-1)
    if len(inputs) > 1:
        first, second, _ = pairs([inputs], [inputs], fps.tol_unique)
        size = len(inputs), len(inputs)
        same = coo_array((np.ones(first.size), (first, second)), size)
        group = connected_components(same)[1][group]
    if within_conditions:
        label = np.unique(np.asarray(fps.cond_id), return_inverse=True)[1]
        group = np.unique(np.stack([group, label]), axis=1, return_inverse=True)[1].reshape(-1)
    return group


def _members(group: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " k"]]:
    """Return the numbers of the points of each group, in the order of the groups."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _number(first: Any, second: Any) -> Any:
    """Return a number for each pair of points `first < second`, whatever points are added later."""
    return second * (second - 1) // 2 + first


def _ways(
    x: Float[np.ndarray, "n n_states"],
    group: Int[np.ndarray, " n"],
    signs: Int[np.ndarray, " n"],
    looked_at: Int[np.ndarray, " k"],
    most: int,
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return the points at both ends of the next ways."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for members in _members(group):
        if 2 <= members.size <= _MOST_POINTS:
            second, first = np.tril_indices(members.size, -1)
            length = _distances(x[members], x[members])[first, second]
            found.append((members[first], members[second], length))
    first, second, length = map(np.concatenate, zip(*found, strict=True))
    is_next = ~np.isin(_number(first, second), looked_at)
    first, second, length = first[is_next], second[is_next], length[is_next]
    between_attractors = (signs[first] > 0) & (signs[second] > 0)
    order = np.lexsort((length, ~between_attractors))[:most]
    return first[order], second[order]


def _starts(
    F: Transition,
    known: FixedPoints,
    scales: Float[np.ndarray, "2 n_states"],
    first: Int[np.ndarray, " m"],
    second: Int[np.ndarray, " m"],
) -> _Starts:
    """Return the minima of `q` on ways, and the states halfway on those that have none."""
    x, u = known.xstar, known.inputs
    part = np.arange(1, _STATES_BETWEEN + 1, dtype=x.dtype)[:, None] + x.dtype.type(_OFF_THE_MIDDLE)
    part /= _STATES_BETWEEN + 1
    states = (1 - part) * x[first][:, None] + part * x[second][:, None]
    rows = states.reshape(-1, x.shape[1]), np.repeat(u[first], _STATES_BETWEEN, axis=0)
    at_a_time = min(max(1, _ENTRIES_AT_A_TIME // max(1, x.shape[1])), _MOST_AT_A_TIME)
    q = np.asarray(in_chunks(_speeds, (F, put(scales)), at_a_time, *map(put, rows)))
    q = q.reshape(-1, _STATES_BETWEEN, 2)
    is_start = np.zeros(q.shape[:2], bool)
    is_start[:, 1:-1] = np.any((q[:, 1:-1] <= q[:, :-2]) & (q[:, 1:-1] <= q[:, 2:]), axis=-1)
    is_halfway = ~np.any(is_start, axis=1)
    is_start[np.flatnonzero(is_halfway), _STATES_BETWEEN // 2] = True
    way, place = np.nonzero(is_start)
    apart = (x[first] - x[second]).astype(np.float64)
    length = np.linalg.norm(apart[:, None] / scales, axis=2)
    return _Starts(states[way, place], first[way], length[way], is_halfway[way])


@CompiledOnce
def _speeds(network: tuple[Transition, Array], x: Array, u: Array) -> Array:
    F, scales = network
    return half_squared_norm((x - jax.vmap(F)(x, u))[:, None] / scales)


def _apart(
    starts: _Starts,
    scales: Float[np.ndarray, "2 n_states"],
    x: Float[np.ndarray, "n n_states"],
    group: Int[np.ndarray, " n"],
    is_whole: Bool[np.ndarray, " n"],
    most: int,
    most_halfway: int,
) -> Int[np.ndarray, " k"]:
    """Return which starts to take, of which none is close to a known point or to another one."""
    whole, own = is_whole[starts.origin], group[starts.origin]
    reach = np.where(whole, _TOO_NEAR_IF_COMPLETE, _TOO_NEAR)[:, None] * starts.length

    def is_near(rows: Any, there: Any) -> Any:
        """Return which rows are near any of some states."""
        near = [
            _distances(starts.x[rows] / scale, there / scale) <= within[:, None]
            for scale, within in zip(scales, reach[rows].T, strict=True)
        ]
        return np.any(np.all(near, axis=0), axis=1)

    near_known, of_group = np.zeros(own.size, bool), _members(group)
    for rows in _members(own) if own.size else ():
        near_known[rows] = is_near(rows, x[of_group[own[rows[0]]]])
    asked = np.flatnonzero(~(starts.is_halfway & whole) & ~near_known)
    asked = asked[np.lexsort((starts.length[asked, 0], starts.is_halfway[asked]))]
    taken = np.zeros(0, int)
    for row in asked:
        is_full = starts.is_halfway[row] and starts.is_halfway[taken].sum() == most_halfway
        if taken.size == most or is_full:
            break
        others = starts.x[taken[own[taken] == own[row]]]
        if not is_near([row], others)[0]:
            taken = np.append(taken, row)
    return taken


def _distances(
    x: Float[np.ndarray, "n n_states"], y: Float[np.ndarray, "m n_states"]
) -> Float[np.ndarray, "n m"]:
    x, y = x.astype(np.float64), y.astype(np.float64)
    squared = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T
    return np.sqrt(np.maximum(squared, 0))


def _search(
    F: Transition,
    known: FixedPoints,
    starts: _Starts,
    start: Any,
    rules: dict[str, Any],
    search: dict[str, Any],
) -> FixedPoints:
    """Return the fixed points that starts lead to and that are not known, with Jacobians."""
    if not len(starts.x):
        return known[:0]
    within_conditions = rules["within_conditions"]
    label = None if known.cond_id is None else known.cond_id[starts.origin]
    u = known.inputs[starts.origin]
    fps = optimize_batch(F, put(starts.x), put(u), cond_id=label, **search)
    fps = fps.to_numpy().replace(tol_unique=known.tol_unique)
    fps = fps.replace(valid=fps.status == Status.FIXED_POINT)
    fps = unique(fps, known.tol_unique, within_conditions=within_conditions)
    fps = select(F, fps, start, **rules)
    labels = np.zeros(fps.n, int), np.zeros(known.n, int)
    if within_conditions:
        both = np.concatenate([np.asarray(points.cond_id) for points in (fps, known)])
        numbers = np.unique(both, return_inverse=True)[1]
        labels = numbers[: fps.n], numbers[fps.n :]
    of_known = [known.xstar, known.inputs]
    place, _ = nearest([fps.xstar, fps.inputs], of_known, known.tol_unique, labels)
    fps = fps[place < 0]
    return jacobians(F, fps.replace(hits=np.zeros(fps.n, np.int32))).to_numpy()
