"""Which of the points that a search found are points at all."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from slowpoints.fixed_points import FixedPoints
from slowpoints.objective import half_squared_norm
from slowpoints.precision import computes_in_float64
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
    """
    F = as_transition(F)
    x, u = jnp.asarray(fps.xstar), jnp.asarray(fps.inputs)
    n, n_states = x.shape
    none = jnp.zeros(n, bool)
    if n == 0 or n_states > DENSE_LIMIT or not computes_in_float64(F, x, u):
        return none
    valid = ~none if fps.valid is None else jnp.asarray(fps.valid)
    with jax.enable_x64(True):
        if any(isinstance(a, Tracer) for a in (x, u, valid)):
            return _gets_away(F, x, u, valid & _far_from_fixed_point(F, x, u))
        # Powers of two keep the number of compilations small.
        rows = np.arange(1 << (n - 1).bit_length()) % n
        suspects = np.asarray(valid) & np.asarray(_far_from_fixed_point(F, x[rows], u[rows]))[:n]
        rows = np.flatnonzero(suspects)
        if rows.size == 0:
            return none
        padded = np.resize(rows, 1 << int(rows.size - 1).bit_length())
        away = _gets_away(F, x[padded], u[padded], jnp.ones(padded.size, bool))
        out = np.zeros(n, bool)
        out[rows] = np.asarray(away)[: rows.size]
        return jnp.asarray(out)


@eqx.filter_jit
def _far_from_fixed_point(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Bool[Array, " n"]:
    F = with_precision(F, np.float64)

    def one(row: tuple[Array, Array]) -> Array:
        x, u = row
        A = jnp.eye(x.shape[0], dtype=x.dtype) - jax.jacfwd(F)(x, u)
        r = F(x, u) - x
        d = jnp.linalg.solve(A, r)
        exact = half_squared_norm(r) <= rounding_floor(x)  # also where every state is one
        return ~exact & ~(jnp.linalg.norm(d) <= 1e-4 * (1 + jnp.linalg.norm(x)))

    at_a_time = max(1, 2**22 // x.shape[1] ** 2)
    return jax.lax.map(one, (x.astype(np.float64), u.astype(np.float64)), batch_size=at_a_time)


@eqx.filter_jit
def _gets_away(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
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
    return suspects & (~found.settled | (far & _is_singular(F, found.x, u)))


def _is_singular(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Bool[Array, " n"]:
    """Return where `I - J` has lost a direction to rounding."""

    def one(row: tuple[Array, Array]) -> Array:
        x, u = row
        A = jnp.eye(x.shape[0], dtype=x.dtype) - jax.jacfwd(F)(x, u)
        pivots = jnp.abs(jnp.diagonal(jax.scipy.linalg.lu(A)[2]))
        return ~(jnp.min(pivots) > 1e-10 * jnp.max(pivots))

    return jax.lax.map(one, (x, u.astype(x.dtype)))
