"""Which of the points that a search found are points at all."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from slowpoints.fixed_points import FixedPoints
from slowpoints.objective import half_squared_norm
from slowpoints.precision import check_precision, computes_in_float64
from slowpoints.solvers import Found, LevenbergMarquardt, Stopping
from slowpoints.solvers.base import rounding_floor
from slowpoints.transition import Transition, as_transition, with_precision

DENSE_LIMIT = 1024
"""Networks of more states are not verified: the algebra is dense."""


def escaping(F: Any, fps: FixedPoints) -> Bool[Array, " n"]:
    """Return which rows are neither a fixed point nor a slow point.

    In the tails of saturating units, `q` falls without end: it is below any threshold somewhere,
    and products with `I - J` are too ill-conditioned there for a search to notice. Here Newton's
    step is computed densely and in float64. If it is short, the row is a fixed point. Else
    Levenberg-Marquardt goes on from there: from a slow point it does not get away.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: points with `xstar` and `inputs`. Invalid rows are not judged.

    Returns:
        `[n]` true for rows that lead nowhere. None do if `F` does not compute in float64, or has
        more than `DENSE_LIMIT` states.

    Raises:
        TypeError: if the states are in half precision.
    """
    F = as_transition(F)
    x, u = jnp.asarray(fps.xstar), jnp.asarray(fps.inputs)
    start = x if fps.x_init is None else jnp.asarray(fps.x_init)
    check_precision("escaping", "fps.xstar", x.dtype)
    n, n_states = x.shape
    none = jnp.zeros(n, bool)
    if n == 0 or n_states > DENSE_LIMIT or not computes_in_float64(F, x, u):
        return none
    valid = ~none if fps.valid is None else jnp.asarray(fps.valid)
    with jax.enable_x64(True):
        if any(isinstance(a, Tracer) for a in (x, u, valid)):
            return _gets_away(F, x, u, start, valid & _far_from_fixed_point(F, x, u, start))
        # Powers of two keep the number of compilations small.
        rows = np.arange(1 << (n - 1).bit_length()) % n
        far = np.asarray(_far_from_fixed_point(F, x[rows], u[rows], start[rows]))[:n]
        rows = np.flatnonzero(np.asarray(valid) & far)
        if rows.size == 0:
            return none
        padded = np.resize(rows, 1 << int(rows.size - 1).bit_length())
        suspects = (x[padded], u[padded], start[padded])
        away = _gets_away(F, *suspects, jnp.ones(padded.size, bool))
        out = np.zeros(n, bool)
        out[rows] = np.asarray(away)[: rows.size]
        return jnp.asarray(out)


@eqx.filter_jit
def _far_from_fixed_point(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    x_init: Float[Array, "n n_states"],
) -> Bool[Array, " n"]:
    F = with_precision(F, np.float64)

    def one(row: tuple[Array, ...]) -> Array:
        x, u, x_init = row
        A = jnp.eye(x.shape[0], dtype=x.dtype) - jax.jacfwd(F)(x, u)
        r = F(x, u) - x
        d = jnp.linalg.solve(A, r)
        # Where every state is a fixed point `I - J` is singular, but the search goes nowhere.
        exact = half_squared_norm(r) <= rounding_floor(x)
        exact &= ~(_is_far(x, x_init) & _is_singular(A))
        return ~exact & ~(jnp.linalg.norm(d) <= 1e-4 * (1 + jnp.linalg.norm(x)))

    return _by_row(one, x, u, x_init)


@eqx.filter_jit
def _gets_away(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    x_init: Float[Array, "n n_states"],
    suspects: Bool[Array, " n"],
) -> Bool[Array, " n"]:
    F = with_precision(F, np.float64)
    # Next to no damping: along the tail the curvature is smaller than any other by far.
    solver = LevenbergMarquardt(damping=1e-12, lanes=16)
    stopping = Stopping(jnp.asarray(100), jnp.zeros(()), jnp.zeros(()))
    start = Found.nothing(x.astype(np.float64))
    found = solver.resume(F, start, u.astype(np.float64), stopping, suspects)
    # Far out in a tail, where units are saturated to the last digit, rows come to rest as well.
    moved = jnp.linalg.norm(found.x - start.x, axis=-1)
    far = moved > 0.1 * (1 + jnp.linalg.norm(start.x, axis=-1))
    far |= jax.vmap(_is_far)(found.x, x_init)

    def singular(row: tuple[Array, Array]) -> Array:
        x, u = row
        return _is_singular(jnp.eye(x.shape[0], dtype=x.dtype) - jax.jacfwd(F)(x, u))

    return suspects & (~found.settled | (far & _by_row(singular, found.x, u)))


def _is_far(x: Float[Array, " n_states"], x_init: Float[Array, " n_states"]) -> Bool[Array, ""]:
    """Return whether a search went farther than its initial state is from zero."""
    return jnp.linalg.norm(x - x_init) > 1 + jnp.linalg.norm(x_init)


def _is_singular(A: Float[Array, "n_states n_states"]) -> Bool[Array, ""]:
    """Return whether a matrix has lost a direction to rounding."""
    pivots = jnp.abs(jnp.diagonal(jax.scipy.linalg.lu(A)[2]))
    return ~(jnp.min(pivots) > 1e-10 * jnp.max(pivots))


def _by_row(one: Callable[..., Array], *rows: Array) -> Bool[Array, " n"]:
    """Map over rows in float64, as many at a time as their Jacobians leave memory for."""
    at_a_time = max(1, 2**22 // rows[0].shape[1] ** 2)
    return jax.lax.map(one, tuple(a.astype(np.float64) for a in rows), batch_size=at_a_time)
