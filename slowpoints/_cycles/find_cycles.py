"""`find_cycles`: cycles as fixed points of a map of all their points at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import in_chunks, place_of, power_of_two, rows_of, with_library
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import Number, RealArray
from slowpoints._cycles.cycles import distance_between, is_cycle, least_period
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.iterate import Loop, iterate
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trace import traced
from slowpoints._pipeline.find_fixed_points import find_fixed_points
from slowpoints._points.covering import keep_first
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.status import Status
from slowpoints._points.unique import condition_numbers

_AT_A_TIME = 64
"""The number of points whose images are computed at a time."""


def find_cycles(
    F: Any,
    x_init: Float[RealArray, "n k n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    *,
    tol_unique: Number = 1e-3,
    compute_jacobians: bool = True,
    decompose_jacobians: bool = True,
    **settings: Any,
) -> FixedPoints:
    """Search for the cycles of `k` steps, and of the numbers of steps that divide `k`.

    Searches for all points of a cycle at once (multiple shooting), from `k` states for each row.
    From the same number of starts it finds more than a search for fixed points of `iterate(F, k)`,
    especially for large `k` and strongly unstable cycles. There the `k`-th iterate is steep, and
    Newton's method reaches its fixed points from only a few states.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x_init: `[n, k, n_states]` where the `k` points of each row start. They need not follow one
            another: states drawn independently try more combinations than parts of trajectories.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant inputs.
        tol_unique: two loops of `k` states count as one if they are at most this far apart, each
            taken as one vector of all its states and the input, whichever state they start from.
            Points of different cycles are never merged, however close they are.
        compute_jacobians: whether to fill `J_xstar` and `dFdu`.
        decompose_jacobians: whether to fill the eigenvalues, eigenvectors and `is_stable` as well.
        settings: other keywords of [`find_fixed_points`][slowpoints.find_fixed_points]. Thresholds
            for `q` and distances of outliers refer to all `k` points of a row together.

    Returns:
        One row per point of each cycle, so that a cycle has exactly `period` rows, in their order
        along it, with `cycle_id` as [`cycles`][slowpoints.cycles] gives it. Rows of `period` 0 and
        `cycle_id` -1 are on slow cycles: the steps almost lead back, with a `q` below the
        threshold, but there is no cycle. All other fields refer to `k` steps, as for
        [`iterate`][slowpoints.iterate]: `F_xstar`, `qstar`, `status` (a fixed point of `k` steps is
        on a cycle, and a slow point on a slow one), and Jacobians with their eigenvalues, which are
        the multipliers of the cycle over `k` steps. Inside `jit` there are as many rows as states
        in `x_init`, or `k` times `max_n_unique`, and the points are the `valid` ones.

    Raises:
        ValueError: if an argument has the wrong shape or range.
        TypeError: if `F` is not of a known kind, or in continuous time.
    """
    F = as_transition(F)
    caller = "find_cycles"
    x_init = arguments.array(caller, "x_init", x_init, ("n", "k", "n_states"), floating=True)
    if 0 in x_init.shape[1:]:
        was = f"has shape {tuple(x_init.shape)}"
        arguments.refuse(caller, "x_init", was, "at least one state for each cycle", ValueError)
    arguments.check_precision(caller, "x_init", x_init.dtype)
    arguments.number(caller, "tol_unique", tol_unique)
    arguments.flag(caller, "compute_jacobians", compute_jacobians)
    arguments.flag(caller, "decompose_jacobians", decompose_jacobians)
    n, k, n_states = x_init.shape
    dtype = jax.dtypes.canonicalize_dtype(x_init.dtype)
    inputs = arguments.inputs_of_rows(caller, inputs, n, "row of `x_init`", dtype)
    F = traced(caller, F, n_states, inputs.shape[1], dtype)
    over_k = iterate(F, k)
    loops, _ = find_fixed_points(
        Loop(F, k),
        x_init.reshape(n, k * n_states),
        inputs,
        tol_unique=tol_unique,
        compute_jacobians=False,
        **settings,
    )
    condition = condition_numbers(loops) if settings.get("within_conditions", False) else None
    fps = _points(over_k, loops, *_cycles(F, loops, condition, k), k)
    if not isinstance(fps.valid, Tracer):
        fps = fps.compact()
    if compute_jacobians:
        fps = jacobians(over_k, fps)
        fps = decompose(fps) if decompose_jacobians else fps
    return fps


def _cycles(
    F: Transition, loops: FixedPoints, condition: Shaped[RealArray, " n"] | None, k: int
) -> tuple[Bool[RealArray, " n"], Int[RealArray, " n"], Bool[RealArray, " n"]]:
    """Return which loops are kept, their periods, and whether they are cycles or slow ones."""
    n = loops.n
    given = loops.valid, loops.xstar, loops.inputs, loops.qstar, condition
    xp, valid, x, u, q, condition = with_library(*given)
    valid = xp.ones(n, bool) if valid is None else valid
    if n == 0:
        return valid, xp.zeros(0, np.int32), valid
    rows = np.arange(n)
    if xp is np:
        # The number of loops found varies; powers of two keep the number of compilations small.
        rows = np.arange(power_of_two(n)) % n
    valid = valid[rows] & (np.arange(rows.size) < n)
    x, u, q = (a[rows] for a in (x, u, q))
    condition = None if condition is None else condition[rows]
    tol = xp.asarray(loops.tol_unique, x.dtype)
    orbit = x.reshape(rows.size, k, -1)
    kept = _kept(F, orbit, u, q, valid, condition, tol)
    return jax.tree.map(lambda a: a[:n], jax.device_get(kept) if xp is np else kept)


@CompiledOnce
def _kept(
    F: Transition,
    orbit: Float[Array, "n k n_states"],
    u: Float[Array, "n n_inputs"],
    q: Float[Array, " n"],
    valid: Bool[Array, " n"],
    condition: Shaped[Array, " n"] | None,
    tol: Float[Array, ""],
) -> tuple[Bool[Array, " n"], Int[Array, " n"], Bool[Array, " n"]]:
    """Keep the loop of lowest `q` among those that are shifts of each other, to within `tol`."""
    order = jnp.lexsort((q, ~valid))
    distance = jnp.hypot(distance_between(orbit), jnp.linalg.norm(u[:, None] - u, axis=2))
    near = distance <= tol
    if condition is not None:
        near &= condition[:, None] == condition
    place = jnp.arange(q.size)
    is_earlier = place < place[:, None]
    kept_in_order = keep_first(valid[order], near[order][:, order] & is_earlier)
    kept = jnp.zeros_like(valid).at[order].set(kept_in_order)
    return kept, least_period(orbit, tol), is_cycle(F, orbit, u, tol)


def _points(
    over_k: Transition,
    loops: FixedPoints,
    kept: Bool[RealArray, " n"],
    period: Int[RealArray, " n"],
    closed: Bool[RealArray, " n"],
    k: int,
) -> FixedPoints:
    """Return the points of all loops, one row each, those of the first loop first."""
    row, place = np.repeat(np.arange(loops.n), k), np.tile(np.arange(k), loops.n)
    on_host = isinstance(kept, np.ndarray)
    labels = None if loops.cond_id is None else rows_of(loops.cond_id, row)
    xp, like = (np, loops.xstar) if on_host else (jnp, None)
    loops = loops.to_numpy() if on_host else loops
    x, u = loops.xstar.reshape(row.size, loops.n_states // k), loops.inputs[row]
    F_x, q = in_chunks(_after_steps, over_k, _AT_A_TIME, x, u)
    number = xp.cumsum(kept & closed, dtype=np.int32) - 1
    fps = FixedPoints(
        xstar=x,
        F_xstar=F_x,
        inputs=u,
        qstar=q,
        dq=loops.dq[row],
        n_iters=loops.n_iters[row],
        valid=kept[row] & (place < period[row]),
        period=xp.where(closed, period, 0)[row],
        cycle_id=xp.where(kept & closed, number, -1)[row],
        # Newton's method has the last word.
        status=xp.where(
            ~closed & (loops.status == Status.FIXED_POINT),
            np.int8(Status.SLOW_POINT),
            loops.status,
        )[row],
        tol_unique=loops.tol_unique,
        dtype=loops.dtype,
    )
    fps = fps if like is None else jax.device_put(fps, place_of(like))
    return fps.replace(cond_id=labels)  # which may be of any type, such as strings


@CompiledOnce
def _after_steps(
    over_k: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> tuple[Float[Array, "n n_states"], Float[Array, " n"]]:
    F_x = jax.vmap(over_k)(x, u).astype(x.dtype)
    return F_x, half_squared_norm(x - F_x)
