"""`cover`: choose one representative per point, greedily in the order of `q`, on plain arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Real, Shaped

from slowpoints._core.arrays import put, rounded_up, with_library
from slowpoints._core.types import RealArray, Scalar

# How many rows are compared at a time: enough for fast matrix products, but few enough that a block
# costs little if only some points are distinct.
_BLOCK = 256


def cover(
    xstar: Real[RealArray, "n n_states"],
    inputs: Real[RealArray, "n n_inputs"] | None,
    qstar: Real[RealArray, " n"] | None,
    valid: Bool[RealArray, " n"] | None,
    tol: Scalar,
    condition: Shaped[RealArray, " n"] | None = None,
) -> tuple[Int[RealArray, " n"], Int[RealArray, " padded"], Int[RealArray, ""]]:
    """Choose one row per point, by the rules that [`unique`][slowpoints.unique] documents.

    Distances are computed in float64, whatever JAX's global setting. The choice has no gradient.

    Args:
        xstar: `[n, n_states]` the points; one row at least.
        inputs: `[n, n_inputs]` their inputs, or `None`.
        qstar: `[n]` the speeds, or `None`; a lower speed is better.
        valid: `[n]` which rows take part, or `None` for all.
        tol: the largest distance at which two rows count as one point.
        condition: `[n]` labels; rows with different labels never count as one point.

    Returns:
        The row that stands for each row, `[n]`: itself for a survivor, and -1 for a row that takes
        no part; the row numbers of the survivors, best first, at the front of an array whose other
        entries mean nothing; and how many rows survive. In NumPy's arrays unless an argument is
        traced or there are many rows.
    """
    n = xstar.shape[0]
    given = xstar, inputs, qstar, valid, condition
    traced = any(isinstance(array, Tracer) for array in (*given, tol))
    if not traced and n <= _MOST_ON_HOST:
        on_host: tuple[Any, ...] = tuple(a if a is None else np.asarray(a) for a in given)
        return _survivors_on_host(*on_host, tol=float(tol))
    with jax.enable_x64(True):
        tol = jnp.asarray(tol, jnp.float64)
        filled = *lax.stop_gradient((xstar, inputs, qstar, valid)), condition
        if not traced and rounded_up(n) != n:
            filled = _filled_up(*filled)
        owner, ranking, n_survivors = _survivors(*filled, tol)
        if owner.size != n:
            owner = put(np.asarray(owner)[:n])
        return owner, ranking, n_survivors


def told_of_survivors(
    owner: Int[RealArray, " n"],
    hits: Shaped[RealArray, " n"] | None,
    status: Shaped[RealArray, " n"] | None,
) -> tuple[Bool[RealArray, " n"], Int[RealArray, " n"], Shaped[RealArray, " n"] | None]:
    """Return what is told of each survivor by all rows that it stands for.

    Args:
        owner: the row that stands for each row, as `cover` returns it.
        hits: `[n]` how many rows each row stands for, or `None` for one each.
        status: `[n]` how the rows' searches ended, or `None`.

    Returns:
        Which rows survive; for how many rows each row stands, 0 for those that do not survive; and
        each row's status, which for a survivor is the most certain of those of its rows.
    """
    xp, owner, hits, status = with_library(owner, hits, status)
    n = owner.size
    own = xp.arange(n, dtype=owner.dtype)
    weight = xp.ones(n, np.int32) if hits is None else xp.asarray(hits, np.int32)
    survives = owner == own
    slot = xp.where(owner < 0, n, owner)  # one more than there are, and left out again
    counts, best = xp.zeros(n + 1, np.int32), None
    if xp is np:
        np.add.at(counts, slot, weight)
    else:
        counts = counts.at[slot].add(weight)
    if status is not None:
        # The codes rise as certainty falls; numbers that are none are the least certain.
        least = np.iinfo(np.int8).max
        rank = xp.where(status > 0, status, least)
        best = xp.full(n + 1, least, rank.dtype)
        if xp is np:
            np.minimum.at(best, slot, rank)
        else:
            best = best.at[slot].min(rank)
        best = xp.where(survives & (best[:n] < least), best[:n], status).astype(status.dtype)
    return survives, counts[:n], best


_MOST_ON_HOST = 2**12
"""Up to so many rows, the host takes less time than it takes to compile the program."""


def _survivors_on_host(
    xstar: Real[np.ndarray, "n n_states"],
    inputs: Real[np.ndarray, "n n_inputs"] | None,
    qstar: Real[np.ndarray, " n"] | None,
    valid: Bool[np.ndarray, " n"] | None,
    condition: Shaped[np.ndarray, " n"] | None,
    tol: float,
) -> tuple[Any, Any, Any]:
    """Return what `cover` returns."""
    n = len(xstar)
    parts = [xstar] if inputs is None else [xstar, inputs]
    points = np.concatenate(parts, axis=1, dtype=np.float64)
    q = np.zeros(n) if qstar is None else qstar.astype(np.float64)
    usable = np.isfinite(points).all(axis=1) & np.isfinite(q)
    usable &= True if valid is None else valid
    owner, ranking = np.full(n, -1, np.int32), []
    with np.errstate(all="ignore"):  # points may be as far apart as numbers can be
        weights = np.cos(np.arange(points.shape[1]))
        place = np.sum(points * weights, axis=1)
        # Two points are no farther apart along one direction than they are, but for rounding.
        size = np.max(np.abs(points[usable]), initial=0)
        rounding = 4 * np.finfo(float).eps * points.shape[1] ** 1.5 * size
        reach = tol * np.linalg.norm(weights) * (1 + 1e-6) + rounding
        along = np.argsort(place)
        ordered = place[along]
        is_open = usable.copy()
        for row in np.lexsort((place, np.where(usable, q, np.inf))):
            if not is_open[row]:
                continue
            near = np.arange(n)
            if np.isfinite(reach) and np.isfinite(place[row]):
                first, last = np.searchsorted(ordered, place[row] + reach * np.array([-1, 1]))
                near = along[first : last + 1]
            near = near[is_open[near]]
            if condition is not None:
                near = near[condition[near] == condition[row]]
            near = near[np.linalg.norm(points[near] - points[row], axis=1) <= tol]
            is_open[near] = is_open[row] = False
            owner[near] = owner[row] = row
            ranking.append(row)
    return owner, np.array(ranking, int), np.array(len(ranking))


def _filled_up(
    xstar: Any, inputs: Any, qstar: Any, valid: Any, condition: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Return the arrays padded with invalid rows, so that few sizes have to be compiled."""
    n = xstar.shape[0]
    rows = np.minimum(np.arange(rounded_up(n)), n - 1)
    x, u, q, valid, condition = (
        a if a is None else np.asarray(a)[rows] for a in (xstar, inputs, qstar, valid, condition)
    )
    there = np.arange(rows.size) < n
    return x, u, q, there if valid is None else there & valid, condition


@jax.jit
def _survivors(
    xstar: Real[RealArray, "n n_states"],
    inputs: Real[RealArray, "n n_inputs"] | None,
    qstar: Real[RealArray, " n"] | None,
    valid: Bool[RealArray, " n"] | None,
    condition: Shaped[RealArray, " n"] | None,
    tol: Float[Array, ""],
) -> tuple[Int[Array, " n"], Int[Array, " padded"], Int[Array, ""]]:
    """Return what `cover` returns."""
    parts = [xstar] if inputs is None else [xstar, inputs]
    points = jnp.concatenate([jnp.asarray(part, jnp.float64) for part in parts], axis=1)
    n = points.shape[0]
    q = jnp.zeros(n) if qstar is None else jnp.asarray(qstar, jnp.float64)
    usable = jnp.isfinite(points).all(axis=1) & jnp.isfinite(q)
    if valid is not None:
        usable &= valid
    n_usable = jnp.sum(usable, dtype=jnp.int32)

    block = min(_BLOCK, n)
    padded = -(-n // block) * block
    order = _order(points, jnp.where(usable, q, jnp.inf))
    order = order[jnp.minimum(jnp.arange(padded), n - 1)]
    ranking, n_survivors, places = _greedy_cover(
        points[order], order, condition, n_usable, tol, block
    )
    taken = jnp.where(jnp.arange(padded) < n_usable, order, n)
    owner = jnp.full(n, -1, jnp.int32).at[taken].set(ranking[places], mode="drop")
    return owner, ranking, n_survivors


def _order(points: Float[Array, "n d"], q: Float[Array, " n"]) -> Int[Array, " n"]:
    """Return the row numbers by rising `q`; ties are broken by the points, not by their order."""
    # cos(0), cos(1), ... are linearly independent over the rationals: distinct points do not tie.
    weights = jnp.cos(jnp.arange(points.shape[1], dtype=points.dtype))
    projection = jnp.sum(points * weights, axis=1)
    rows = lax.iota(jnp.int32, q.size)
    return lax.sort((q, projection, rows), num_keys=2)[-1]


def _greedy_cover(
    points: Float[Array, "padded d"],
    rows: Int[Array, " padded"],
    condition: Shaped[RealArray, " n"] | None,
    n_usable: Int[Array, ""],
    tol: Float[Array, ""],
    block: int,
) -> tuple[Int[Array, " padded"], Int[Array, ""], Int[Array, " padded"]]:
    """Go through the first `n_usable` points in order, a block at a time, and keep a cover.

    Kept points are moved to the front of the arrays, over entries that are no longer needed.
    Returns the moved `rows`, how many were kept, and for each point the place among these of the
    one that stands for it.
    """
    # The origin is a typical point; a mean could be carried off by a single diverged row.
    origin = points[n_usable // 2]

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        points, rows, places, n_kept, start = state
        is_usable = start + jnp.arange(block) < n_usable
        labels = None if condition is None else jnp.asarray(condition)[rows]
        is_open, near, owner = _drop_known(points, labels, origin, tol, n_kept, start, is_usable)
        kept = keep_first(is_open, near)
        slots = jnp.where(kept, n_kept + jnp.cumsum(kept, dtype=jnp.int32) - 1, rows.size)
        # Rows that are open and not kept are near an earlier row of the block that is.
        own = jnp.where(kept, jnp.arange(block), lax.argmax(near & kept, 1, jnp.int32))
        owner = jnp.where(is_open, slots[own], owner)
        places = lax.dynamic_update_slice_in_dim(places, owner, start, 0)
        points = points.at[slots].set(_block_at(points, start, block), mode="drop")
        rows = rows.at[slots].set(_block_at(rows, start, block), mode="drop")
        return points, rows, places, n_kept + jnp.sum(kept, dtype=jnp.int32), start + block

    zero = jnp.zeros((), jnp.int32)
    _, rows, places, n_kept, _ = lax.while_loop(
        lambda state: state[-1] < n_usable,
        step,
        (points, rows, jnp.zeros(rows.size, jnp.int32), zero, zero),
    )
    return rows, n_kept, places


def _drop_known(
    points: Float[Array, "padded d"],
    labels: Shaped[Array, " padded"] | None,
    origin: Float[Array, " d"],
    tol: Float[Array, ""],
    n_kept: Int[Array, ""],
    start: Int[Array, ""],
    is_open: Bool[Array, " block"],
) -> tuple[Bool[Array, " block"], Bool[Array, "block block"], Int[Array, " block"]]:
    """Close the rows of the block at `start` that are near one of the `n_kept` first points.

    If there are labels, only rows with the same label are compared. Returns which rows are still
    open, (if any is) which earlier open rows each one is near, and which of the first points each
    row that was closed is near, the best of them.
    """
    size = is_open.size
    block = _block_at(points, start, size)
    slots = jnp.arange(size, dtype=jnp.int32)
    n_tiles = (n_kept + size - 1) // size

    def compare(state: tuple[Array, ...]) -> tuple[Array, ...]:
        tile, is_open, _, owner = state
        # The last tile is the block itself, so that the program holds one comparison, not two.
        is_own = tile == n_tiles
        tile_start = jnp.where(is_own, start, tile * size)
        is_earlier = (slots < slots[:, None]) & is_open
        wanted = jnp.where(is_own, is_earlier, tile_start + slots < n_kept) & is_open[:, None]
        if labels is not None:
            own, others = (_block_at(labels, at, size) for at in (start, tile_start))
            wanted &= own[:, None] == others
        near = _near(block, _block_at(points, tile_start, size), origin, tol, wanted)
        closes = near.any(axis=1) & ~is_own
        owner = jnp.where(closes, tile_start + lax.argmax(near, 1, jnp.int32), owner)
        return tile + 1, is_open & ~closes, near, owner

    _, is_open, near, owner = lax.while_loop(
        lambda state: (state[0] <= n_tiles) & state[1].any(),
        compare,
        (jnp.zeros((), jnp.int32), is_open, jnp.zeros((size, size), bool), slots),
    )
    return is_open, near, owner


def keep_first(
    is_open: Bool[Array, " block"], near: Bool[Array, "block block"]
) -> Bool[Array, " block"]:
    """Return the open rows, except those near an earlier row that is itself returned."""

    def decide(state: tuple[Array, Array]) -> tuple[Array, Array]:
        # Every open row without an open neighbour before it is safe, so a round decides many.
        is_open, kept = state
        is_first = is_open & ~(near & is_open).any(axis=1)
        return is_open & ~is_first & ~(near & is_first).any(axis=1), kept | is_first

    none = jnp.zeros_like(is_open)
    _, kept = lax.while_loop(lambda state: state[0].any(), decide, (is_open, none))
    return kept


def _near(
    a: Float[Array, "k d"],
    b: Float[Array, "m d"],
    origin: Float[Array, " d"],
    tol: Float[Array, ""],
    wanted: Bool[Array, "k m"],
) -> Bool[Array, "k m"]:
    """Return which `wanted` pairs of rows of `a` and `b` are at most `tol` apart.

    A matrix product decides all pairs except those whose distance is within its rounding error of
    `tol`; for these, the distance is computed from the differences.
    """
    a0, b0 = a - origin, b - origin
    sizes = jnp.sum(a0**2, axis=1)[:, None] + jnp.sum(b0**2, axis=1)
    # `lax.dot`, as `a0 @ b0.T` would fall to float32 under `vmap` of `jit` with x64 off.
    squared = sizes - 2 * lax.dot(a0, b0.T, precision="highest")
    error = 4 * (a.shape[1] + 4) * jnp.finfo(a.dtype).eps * sizes
    limit = tol * jnp.abs(tol)  # a traced tolerance may be negative, and then nothing is near
    # Overflow makes both comparisons false, and leaves the pair open.
    is_near = squared + error < limit
    is_far = squared - error > limit

    def settle(state: tuple[Array, Array]) -> tuple[Array, Array]:
        # One open pair per row of `a` at a time; a row rarely has several.
        near, is_open = state
        column = lax.argmax(is_open, axis=1, index_dtype=jnp.int32)
        chosen = is_open & (column[:, None] == jnp.arange(b.shape[0]))
        is_near = jnp.sqrt(jnp.sum((a - b[column]) ** 2, axis=1)) <= tol
        return near | (chosen & is_near[:, None]), is_open & ~chosen

    unsettled = (is_near & wanted, wanted & ~is_near & ~is_far)
    near, _ = lax.while_loop(lambda state: state[1].any(), settle, unsettled)
    return near


def _block_at(array: Array, start: Int[Array, ""], size: int) -> Array:
    return lax.dynamic_slice_in_dim(array, start, size)
