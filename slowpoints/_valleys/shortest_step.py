"""Newton's step where `I - J` takes a direction to zero, as on a line of points."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._linear_algebra import lapack
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.units import errors_of_flows
from slowpoints._solvers.termination import SINGULAR, rounding_floor

_ROUNDINGS = 50
"""On the way back along a line, the residual is at most so many roundings of a state, since a step
adds up as many terms. In tails of `exp` and `tanh`, it is 1e10 roundings and more."""


def rounded(F: Transition, y: Float[Array, " n_states"]) -> Float[Array, ""]:
    """Return the `q` that rounding, or the errors of flows, may leave at a point on a line."""
    return _ROUNDINGS**2 * rounding_floor(y) + errors_of_flows(F, y) ** 2 / 2


def flattened(
    A: Float[Array, "n_states n_states"],
) -> tuple[Float[Array, "n_states n_states"], Float[Array, ""]]:
    """Return a Cholesky factor of `A.T @ A` with a shift, and the shift.

    A solution by it leaves out the directions that `A` takes to zero, and times the shift it is
    what a vector has of these.
    """
    gram = A.T @ A
    shift = SINGULAR * (1 + jnp.trace(gram) / len(A))
    return lapack.cholesky(gram + shift * jnp.eye(len(A), dtype=A.dtype)), shift


def shortest_step(
    F: Transition,
    row: tuple[
        Float[Array, " n_states"],
        Float[Array, " n_inputs"],
        Float[Array, "n_states n_states"],
        Float[Array, " n_states"],
    ],
) -> Float[Array, ""]:
    """Return the length of the shortest solution of `A d = r`, or infinity if there is none.

    What is out of the reach of `A` has to be rounding, however large the rest of `r` is: there is
    no point where `x` drifts by `1e-9`. A second step takes away what the first left for the bends
    of `F`.
    """
    x, u, A, r = row
    factor, _ = flattened(A)
    d = lapack.cholesky_solve(factor, A.T @ r)
    y = x + d
    after = F(y, u) - y
    y = y + lapack.cholesky_solve(factor, A.T @ after)
    solved = half_squared_norm(F(y, u) - y) <= rounded(F, y)
    return jnp.where(solved, jnp.linalg.norm(d), jnp.inf)


def slopes(
    F: Transition, y: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
) -> Float[Array, "n_states n_states"]:
    """Return `I - J`."""
    J = jax.jacrev(lambda y: F(y, u).astype(y.dtype))(y)
    return jnp.eye(y.size, dtype=y.dtype) - J


def size_of(x: Float[Array, " n_states"]) -> Float[Array, ""]:
    """Return the size of a state, to which lengths are compared."""
    return jnp.maximum(np.sqrt(x.size), jnp.linalg.norm(x))
