"""What may be asked of a row on the way to its verdict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.termination import NEWTON_TOLERANCE, SINGULAR, rounding_floor
from slowpoints._valleys.reduction import RELATIVE_DECREASE, falls_along_floor
from slowpoints._valleys.shortest_step import flattened, rounded, shortest_step, size_of
from slowpoints._valleys.tails import is_in_a_tail

_PARTS = (1.0, 1 / 8, 1 / 64)
"""Parts of Newton's step. Where `q` falls along one of them as it does near a root, there is no
minimum, whatever the solver made of it in lower precision."""

Question = Callable[..., Any]
"""From a network, whether it has forward-mode derivatives, a state, where it started, its input and
whatever else is known, to an answer."""


class Newton(NamedTuple):
    """What Newton's steps from a state tell."""

    steps: Float[RealArray, "*rows three"]  # the lengths of the first three
    residual: Float[RealArray, "*rows"]  # the length of `F(x) - x`
    size: Float[RealArray, "*rows"]  # of the state
    singular: Bool[RealArray, "*rows"]
    is_rounding: Bool[RealArray, "*rows"]  # the residual after two steps
    at_floor: Bool[RealArray, "*rows"]  # the residual before them


def _linearised(F: Transition, forward_mode: bool, x: Array, u: Array) -> tuple[Array, Array]:
    """Return `I - J` and `F(x) - x`."""
    jacobian = jax.jacfwd if forward_mode else jax.jacrev
    return jnp.eye(x.size, dtype=x.dtype) - jacobian(F)(x, u), F(x, u) - x


def newton(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Newton:
    """Take three of Newton's steps with the same Jacobian."""
    factors = lapack.lu_factor(_linearised(F, forward_mode, x, u)[0])
    pivots = jnp.abs(jnp.diagonal(factors.LU))
    singular = ~(jnp.min(pivots) > SINGULAR * jnp.maximum(1, jnp.max(pivots)))

    def step(y: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        r = F(y, u) - y
        d = lapack.lu_solve(factors, r)
        return y + d, (half_squared_norm(r), jnp.linalg.norm(d), rounded(F, y))

    # In a loop, the network is compiled once.
    _, (q, steps, rounding) = jax.lax.scan(step, varying(x, (F, x, u)), None, length=3)
    size = size_of(x)
    at_floor = q[0] <= rounding_floor(x)
    return Newton(steps, jnp.sqrt(2 * q[0]), size, singular, q[2] <= rounding[2], at_floor)


def shortest(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return the length of the shortest step to a root."""
    return shortest_step(F, (x, u, *_linearised(F, forward_mode, x, u)))


def falls(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return whether `q` falls along Newton's step as near a root, or along a valley's floor."""
    A, r = _linearised(F, forward_mode, x, u)
    d = lapack.lu_solve(lapack.lu_factor(A), r)
    parts = jnp.asarray(_PARTS, x.dtype)
    after = jax.vmap(lambda part: F(x + part * d, u) - (x + part * d))(parts)
    near_root = jnp.any(half_squared_norm(after) <= (1 - 0.5 * parts) * half_squared_norm(r))
    return near_root | falls_along_floor(F, x, u)


def is_minimum(
    F: Transition,
    forward_mode: bool,
    x: Array,
    x_init: Array,
    u: Array,
    near: Array,
    size: Array,
) -> Array:
    """Return whether Newton's method for the minimum of `q` hardly lowers it.

    `near` says whether there is a drift along a line, where what a step gains may be how the state
    is rounded.
    """
    A, r = _linearised(F, forward_mode, x, u)
    g, q = r @ A, half_squared_norm(r)

    def gradient(x: Array) -> Array:
        # Its Jacobian is the part of the Hessian of `q` with second derivatives of `F`.
        return jax.grad(lambda x: jnp.dot(r, F(x, u)))(x)

    if forward_mode:
        bend = jnp.dot(g, jax.jvp(gradient, (x,), (g,))[1])
    else:
        bend = jnp.dot(g, jax.grad(lambda x: jnp.dot(g, gradient(x)))(x))
    # What a step along the gradient gains is at most what the best step gains.
    curvature = jnp.sum(jnp.square(A @ g)) + bend
    gains = jnp.sum(jnp.square(g)) ** 2 > 2 * RELATIVE_DECREASE * q * curvature

    def by_hessian() -> Array:
        S = (jax.jacfwd if forward_mode else jax.jacrev)(gradient)(x)
        H = A.T @ A + (S + S.T) / 2
        # Along a line of slow points, the smallest eigenvalue is zero but for rounding.
        shift = jnp.where(near, jnp.finfo(x.dtype).eps * jnp.trace(H), 0)
        cholesky = lapack.cholesky(H + shift * jnp.eye(x.size, dtype=x.dtype))
        d = lapack.cholesky_solve(cholesky, g)
        short = near & (jnp.linalg.norm(d) <= NEWTON_TOLERANCE * size)
        found = short | (0.5 * jnp.dot(g, d) < RELATIVE_DECREASE * q)
        return found | (jnp.max(jnp.abs(g)) == 0)

    level = ~gains | near
    return jax.lax.cond(level, by_hessian, lambda: varying(level & False, level))


def is_on_a_line(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return whether a row at a singular root is on a straight line of roots, and in no tail.

    A row in a tail came there along the direction that `I - J` takes to zero: on the way back along
    it, the residual rises. On a line it does not, and a row that came from the side has no such
    way.
    """
    factor, shift = flattened(_linearised(F, forward_mode, x, u)[0])
    flat = x - x_init
    for _ in range(3):  # each time, what is not flat shrinks by the factor `shift`
        flat = shift * lapack.cholesky_solve(factor, flat)

    def is_root(t: Array) -> Array:
        y = x - t * flat
        return half_squared_norm(F(y, u) - y) <= rounded(F, y)

    return jnp.all(jax.vmap(is_root)(jnp.linspace(0.25, 1, 4, dtype=x.dtype)))


def in_a_tail(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return whether a row is in a tail, of any number of states."""
    return is_in_a_tail(F, x[None], x_init[None], u[None])[0]
