"""`cycles`: which of the fixed points of several steps lie on which cycle, and of what period."""

import contextlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints import arguments
from slowpoints.diagnosis import check_points
from slowpoints.fixed_points import FixedPoints
from slowpoints.flow import ContinuousTime
from slowpoints.iteration import check_n_steps
from slowpoints.transition import Transition, as_transition
from slowpoints.types import Scalar


def cycles(F: Any, fps: FixedPoints, k: int, tol: Scalar | None = None) -> FixedPoints:
    """Fill the least periods of fixed points of `iterate(F, k)`, and group the points by cycle.

    The period of a point is the least divisor `d` of `k` for which `d` steps lead back to it, so
    fixed points have the period 1. Points are on one cycle if they have the same period and the
    same input, and the steps from one lead to the other.

    Runs inside `jit` and `vmap`, in memory that grows with the square of the rows.

    Args:
        F: the transition of one step, or anything that
            [`as_transition`][slowpoints.as_transition] takes.
        fps: points of `iterate(F, k)` with `xstar` and `inputs`.
        k: how many steps these are fixed points of.
        tol: how close, in Euclidean distance, is the same state; `fps.tol_unique` if `None`.

    Returns:
        `fps` with `period` `[n]`, 0 for rows that `k` steps do not lead back to within `tol` (such
        as slow points) and for invalid rows; and `cycle_id` `[n]`, which numbers the cycles from 0
        in the order of their first rows, and is -1 where the period is 0.

    Raises:
        ValueError: if `fps` has no `xstar` or no `inputs`, or they do not fit the model, or `k` is
            below 1.
        TypeError: if `k` is not a whole number, or `F` is in continuous time, or `xstar` is in half
            precision.
    """
    F = as_transition(F)
    if isinstance(F, ContinuousTime):
        raise TypeError("cycles: `F` is in continuous time, which has no steps to count.")
    k = check_n_steps("cycles", k)
    arguments.fields("cycles", fps, FixedPoints, "xstar", "inputs")
    check_points("cycles", F, fps)
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


@eqx.filter_jit
def _cycles(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    valid: Bool[Array, " n"],
    tol: Float[Array, ""],
    k: int,
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    def step(x: Array, _: None) -> tuple[Array, Array]:
        x = jax.vmap(F)(x, u).astype(x.dtype)
        return x, x

    _, orbit = jax.lax.scan(step, x, None, length=k)
    return grouped(x, u, orbit, valid, tol)


def grouped(
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    orbit: Float[Array, "k n n_states"],
    valid: Bool[Array, " n"],
    tol: Float[Array, ""],
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Return the periods and the numbers of cycles, given where 1 to `k` steps lead."""
    k = orbit.shape[0]
    period = jnp.zeros(x.shape[0], np.int32)
    for d in reversed([d for d in range(1, k + 1) if k % d == 0]):
        period = jnp.where(jnp.linalg.norm(orbit[d - 1] - x, axis=1) <= tol, d, period)
    period = jnp.where(valid, period, 0)
    return period, _numbered(_together(x, u, orbit, period, tol), period > 0)


def _together(
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    orbit: Float[Array, "k n n_states"],
    period: Int[Array, " n"],
    tol: Float[Array, ""],
) -> Bool[Array, "n n"]:
    """Return which points the steps from which points lead to, or the other way round."""

    def reached(row: tuple[Array, ...]) -> Array:
        orbit, u_own, period_own = row
        distance = jnp.linalg.norm(orbit[:, None] - x, axis=2).min(axis=0)
        return (distance <= tol) & jnp.all(u == u_own, axis=1) & (period == period_own)

    near = jax.lax.map(reached, (jnp.moveaxis(orbit, 1, 0), u, period))
    return near | near.T


def _numbered(near: Bool[Array, "n n"], counted: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Number the groups of `counted` rows that are near each other, directly or through others."""
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
