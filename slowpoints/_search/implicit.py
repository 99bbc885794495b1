"""Fixed points as differentiable functions of the network and its inputs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from slowpoints._linear_algebra import lapack
from slowpoints._network.base import Transition
from slowpoints._solvers.termination import NEWTON_TOLERANCE

_MOST_ENTRIES = 2**24
"""How many entries of Jacobians are computed at a time."""

CLOSE = 1e-2
"""From a row that did not converge but has a derivative, Newton's step is at most this part of the
state, or of the start if that is larger."""

ACCURATE = 1e-2
"""And the next step is at most this part of the first. Half of how much `I - J` changes over the
first step, relative to itself, is that ratio (Deuflhard 2004, ch. 2), so twice the ratio is about
the relative error of the derivative."""


def differentiable(
    F: Transition,
    x: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    converged: Bool[Array, " n"],
    maybe: Bool[Array, " n"],
    x_init: Float[Array, "n n_states"],
) -> Float[Array, "n n_states"]:
    """Return `x`, with the derivative that fixed points have by the implicit function theorem.

    `x = F(x, u)` implies `(I - J) dx = dF`, where `dF` is the change of `F` at a fixed `x`. How `x`
    was found does not matter, so the derivative takes no memory of the iterations. Rows that have
    not converged, or whose `I - J` is singular, have the derivative zero.

    Args:
        F: the transition; derivatives reach its leaves.
        x: `[n, n_states]` the fixed points. No derivative goes through this argument.
        inputs: `[n, n_inputs]` the inputs.
        converged: `[n]` which rows are fixed points.
        maybe: `[n]` which others have a derivative as well if they are close to a fixed point.
        x_init: `[n, n_states]` where the rows started, which says how large states are.
    """
    parameters, structure = eqx.partition(F, eqx.is_inexact_array)

    # Everything is passed as an argument: when the rule runs, what this function closes over may be
    # gone.
    @jax.custom_jvp
    def solution(parameters: Any, inputs: Array, x: Array, *which: Array) -> Array:
        return x

    @solution.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
        parameters, inputs, _, *which = primals
        x = solution(*primals)  # with its own derivative, so that second derivatives are right too

        def step(parameters: Any, inputs: Array) -> Array:
            # A network that holds numbers of float64 may step in float64, whatever its state is.
            return jax.vmap(eqx.combine(parameters, structure))(x, inputs).astype(x.dtype)

        _, dF = jax.jvp(step, (parameters, inputs), tangents[:2])
        return x, _solve(eqx.combine(parameters, structure), x, inputs, dF, *which)

    return solution(parameters, inputs, jax.lax.stop_gradient(x), converged, maybe, x_init)


def _solve(
    F: Transition,
    x: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    dF: Float[Array, "n n_states"],
    converged: Bool[Array, " n"],
    maybe: Bool[Array, " n"],
    x_init: Float[Array, "n n_states"],
) -> Float[Array, "n n_states"]:
    eye = jnp.eye(x.shape[1], dtype=x.dtype)

    def one(row: tuple[Array, ...]) -> Array:
        x, u, dF, converged, maybe, x_init = row
        A = eye - jax.jacfwd(F)(x, u).astype(x.dtype)
        factors = lapack.lu_factor(jax.lax.stop_gradient(A))
        pivots = jnp.abs(jnp.diagonal(factors.LU))
        regular = jnp.min(pivots) > 10 * jnp.finfo(x.dtype).eps * jnp.max(pivots)
        size = jnp.maximum(jnp.linalg.norm(x), jnp.linalg.norm(x_init))
        near = maybe & _is_near(lambda x: F(x, u).astype(x.dtype) - x, x, size, factors)
        use = (converged | near) & regular & jnp.all(jnp.isfinite(A))
        factors = factors._replace(LU=jnp.where(use, factors.LU, eye))
        return jnp.where(use, lapack.solve(jnp.where(use, A, eye), dF, factors), 0)

    at_a_time = max(1, _MOST_ENTRIES // max(1, x.shape[1] ** 2))
    rows = (x, inputs, dF, converged, maybe, x_init)
    if x.shape[0] <= at_a_time:
        return jax.vmap(lambda *row: one(row))(*rows)
    return jax.lax.map(one, rows, batch_size=at_a_time)


def _is_near(
    residual: Callable[[Array], Array],
    x: Float[Array, " n_states"],
    size: Float[Array, ""],
    factors: lapack.Factors,
) -> Bool[Array, ""]:
    """Return whether the derivative at `x` is that of a fixed point close by."""
    x, factors = jax.lax.stop_gradient((x, factors))
    d = lapack.lu_solve(factors, jax.lax.stop_gradient(residual(x)))
    again = lapack.lu_solve(factors, jax.lax.stop_gradient(residual(x + d)))
    first, second = jnp.linalg.norm(d), jnp.linalg.norm(again)
    rounding = NEWTON_TOLERANCE * size
    return (first <= CLOSE * size + rounding) & (second <= ACCURATE * first + rounding)
