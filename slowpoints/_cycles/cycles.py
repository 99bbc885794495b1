"""`cycles`: the cycle that each fixed point of `iterate(F, k)` lies on, and its period."""

import contextlib
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import Scalar
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_after_another
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.iterate import Loop, check_n_steps
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for
from slowpoints._solvers.termination import JUDGED_DENSELY


def cycles(F: Any, fps: FixedPoints, k: int, tol: Scalar | None = None) -> FixedPoints:
    """Fill the least periods of fixed points of `iterate(F, k)`, and group the points by cycle.

    The period of a point is the smallest divisor `d` of `k` such that `d` steps return every state
    on its orbit to itself. A fixed point therefore has period 1. Two points lie on the same cycle
    if they have the same period and the same input, and iterating from one reaches the other.
    Orbits are compared as a whole, as one vector of `k` states, so two cycles that share a state to
    within `tol` are still told apart.

    A slow cycle almost closes after `k` steps although there is no cycle nearby; just before a
    fold, for example, a slow cycle is found where the two cycles will appear. It gets period 0. To
    tell it from a true cycle, Newton's method is run on all `k` states in float64: next to a slow
    cycle it does not converge to within `tol`. This is done if `k * n_states` is at most 1024.

    Runs inside `jit` and `vmap`, in memory that grows with the square of the rows.

    Args:
        F: the transition of one step, or anything that
            [`as_transition`][slowpoints.as_transition] takes.
        fps: points of `iterate(F, k)` with `xstar` and `inputs`.
        k: how many steps these are fixed points of.
        tol: the Euclidean distance up to which two states are the same; by default
            `fps.tol_unique`.

    Returns:
        `fps` with `period` `[n]` and `cycle_id` `[n]`. The period is 0 for invalid rows, for slow
        cycles, and for rows that are not back within `tol` after `k` steps. Cycles are numbered
        from 0 in the order of their first rows; rows of period 0 have the number -1.

    Raises:
        ValueError: if `fps` has no `xstar` or no `inputs`, or they do not fit the model, or `k` is
            below 1.
        TypeError: if `k` is not a whole number, or `F` is in continuous time, or `xstar` is in half
            precision.
    """
    F = as_transition(F)
    if isinstance(F, ContinuousTime):
        raise TypeError(
            "cycles: `F` is in continuous time, which has no steps to count; expected a map, such "
            "as `flow(F, duration)`."
        )
    k = check_n_steps("cycles", k)
    arguments.fields("cycles", fps, FixedPoints, "xstar", "inputs")
    F = traced_for("cycles", F, fps)
    if tol is not None:
        arguments.number("cycles", "tol", tol)
    wide = np.dtype(fps.xstar.dtype) == np.float64  # which JAX would narrow
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        x = jnp.asarray(fps.xstar)
        u = jnp.asarray(fps.inputs, x.dtype)
        valid = jnp.ones(fps.n, bool) if fps.valid is None else jnp.asarray(fps.valid)
        tol = jnp.asarray(fps.tol_unique if tol is None else tol, x.dtype)
        period, cycle_id = _cycles(F, x, u, valid, tol, k)
    return fps.replace(period=period, cycle_id=cycle_id)


@CompiledOnce
def _cycles(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    valid: Bool[Array, " n"],
    tol: Float[Array, ""],
    k: int,
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    def step(x: Array, _: None) -> tuple[Array, Array]:
        return jax.vmap(F)(x, u).astype(x.dtype), x

    end, orbit = jax.lax.scan(step, x, None, length=k)
    orbit = jnp.moveaxis(orbit, 0, 1)
    valid &= jnp.linalg.norm(end - x, axis=1) <= tol
    period = jnp.where(valid & is_cycle(F, orbit, u, tol), least_period(orbit, tol), 0)
    near = distance_between(orbit) <= tol
    near &= jnp.all(u[:, None] == u, axis=2) & (period[:, None] == period)
    return period, _numbered(near, period > 0)


def _numbered(near: Bool[Array, "n n"], counted: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Number the groups of `counted` rows that are linked by chains of rows near each other."""
    n = counted.size
    near = near & counted & counted[:, None]
    rows = jnp.arange(n, dtype=np.int32)

    def spread(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        first, _ = carry
        new = jnp.minimum(first, jnp.where(near, first, n).min(axis=1, initial=n))
        return new, first

    # The first row of each group, as far as it is known, until nothing changes.
    first, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[0] != carry[1]), spread, (rows, rows - 1)
    )
    leads = counted & (first == rows)
    number = jnp.cumsum(leads, dtype=np.int32) - 1
    return jnp.where(counted, number[first], -1) if n else rows


def least_period(orbit: Float[Array, "n k n_states"], tol: Float[Array, ""]) -> Int[Array, " n"]:
    """Return the smallest shift, among the divisors of `k`, that maps each orbit onto itself.

    The whole orbit has to match, because a single state can come close to another state of its own
    orbit long before the orbit closes.
    """
    n, k, _ = orbit.shape
    period = jnp.full(n, k, np.int32)
    for d in reversed([d for d in range(1, k) if k % d == 0]):
        period = jnp.where(_norm(jnp.roll(orbit, d, axis=1) - orbit) <= tol, d, period)
    return period


def distance_between(orbit: Float[Array, "n k n_states"]) -> Float[Array, "n n"]:
    """Return the distance between each pair of orbits, minimised over shifts along the orbit.

    All states count, because two cycles that lie close together, as just past a fold, can share one
    state to within the tolerance, but not all of them.
    """

    def from_one(own: Float[Array, "k n_states"]) -> Float[Array, " n"]:
        shifted = (jnp.roll(own, shift, axis=0) for shift in range(own.shape[0]))
        return reduce(jnp.minimum, (_norm(orbit - states) for states in shifted))

    return jax.lax.map(from_one, orbit)


def is_cycle(
    F: Transition,
    orbit: Float[Array, "n k n_states"],
    u: Float[Array, "n n_inputs"],
    tol: Float[Array, ""],
) -> Bool[Array, " n"]:
    """Return which orbits are cycles, as opposed to slow cycles, which only almost close.

    Just before a fold at which two cycles will appear, `q` can be below any threshold although
    there is no cycle yet. Newton's method, run in float64 on all `k` states at once, tells the two
    apart: next to a cycle it converges to within `tol` of each state, and otherwise it does not. An
    orbit that closes to within the rounding of its own precision is a cycle too. This covers
    rotations, for which Newton's method has no unique solution.

    If an orbit has more than `JUDGED_DENSELY` numbers, every orbit counts as a cycle.
    """
    n, k, n_states = orbit.shape
    if n == 0 or k * n_states > JUDGED_DENSELY:
        return jnp.ones(n, bool)
    wide = computes_in_float64(F)
    parameters, structure = eqx.partition(F, eqx.is_array)

    # JAX's own rules for batches and derivatives would mix the precisions inside and outside.
    @jax.custom_batching.custom_vmap
    def judge(parameters: Any, x: Array, u: Array, tol: Array) -> Array:
        rounding = 2 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(x, axis=1)
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            dtype = np.dtype(np.float64) if wide else x.dtype
            loop = Loop(with_precision(eqx.combine(parameters, structure), dtype), k)
            rows = (x.astype(dtype), u.astype(dtype), rounding.astype(dtype))
            return _newton_agrees(loop, *rows, tol.astype(dtype))

    @judge.def_vmap
    def judge_each(axis_size: int, in_batched: Any, *arguments: Any) -> Any:
        return one_after_another(judge, in_batched, arguments), True

    return judge(*jax.lax.stop_gradient((parameters, orbit.reshape(n, -1), u, tol)))


@CompiledOnce
def _newton_agrees(
    loop: Loop,
    x: Float[Array, "n d"],
    u: Float[Array, "n n_inputs"],
    rounding: Float[Array, " n"],
    tol: Float[Array, ""],
) -> Bool[Array, " n"]:
    small = np.sqrt(jnp.finfo(x.dtype).eps)

    def one(row: tuple[Array, ...]) -> Array:
        x, u, rounding = row

        def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
            x, _, n_steps = carry
            A = jnp.eye(x.size, dtype=x.dtype) - jax.jacfwd(loop)(x, u)
            d = lapack.solve(A, loop(x, u) - x)
            return x + d, jnp.linalg.norm(d) / size, n_steps + 1

        # The tolerance is a length of states as well, for orbits around the origin.
        size = jnp.maximum(jnp.maximum(jnp.linalg.norm(x), tol), jnp.finfo(x.dtype).tiny)
        start = (x, jnp.full_like(rounding, jnp.inf), jnp.zeros((), np.int32))
        end, size, _ = jax.lax.while_loop(
            lambda carry: (carry[1] > small) & (carry[2] < _NEWTON_STEPS), step, start
        )
        farthest = jnp.linalg.norm((end - x).reshape(loop.k, -1), axis=1).max()
        is_exact = jnp.linalg.norm(loop(x, u) - x) <= rounding
        return is_exact | ((size <= small) & (farthest <= tol + rounding))

    at_a_time = max(1, 2**22 // x.shape[1] ** 2)  # as many as their Jacobians leave memory for
    return jax.lax.map(one, (x, u, rounding), batch_size=at_a_time)


_NEWTON_STEPS = 8
"""From where a search ended, Newton's method takes two or three steps, if it converges at all."""


def _norm(difference: Float[Array, "n k n_states"]) -> Float[Array, " n"]:
    """Return the length of each orbit, taken as one vector."""
    return jnp.sqrt(jnp.sum(jnp.square(difference), axis=(1, 2)))
