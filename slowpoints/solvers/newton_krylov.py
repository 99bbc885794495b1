"""Newton's method on `F(x) - x` that never forms a Jacobian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slowpoints.objective import half_squared_norm
from slowpoints.solvers.base import AbstractRowSolver, Found, Stopping, rounding_floor
from slowpoints.solvers.krylov import gcr
from slowpoints.transition import Transition


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    done: Bool[Array, " lanes"]
    settled: Bool[Array, " lanes"]


class NewtonKrylov(AbstractRowSolver):
    """Inexact Newton steps (Knoll & Keyes 2004) with backtracking on `q`: fast for large networks.

    A trained network is close to low-rank around its slow manifold, so a few Krylov vectors solve
    `(I - J) d = F(x) - x` well enough. A row for which no step length lowers `q` ends where it is:
    near a slow point that is no fixed point, or where the Krylov space was too small.

    Attributes:
        n_vectors: the dimension of the Krylov space.
        n_lengths: how many step lengths are tried, each a quarter of the one before.
        lanes: how many rows are in work at a time.
    """

    n_vectors: int = 10
    n_lengths: int = 4
    lanes: int = 128

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        done = jnp.zeros_like(start.settled)
        return _State(x, start.q, start.dq, start.n_iters, done, start.settled)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Take one Newton step per row, of the length that lowers `q` most."""
        F_x, jvp = jax.linearize(lambda x: jax.vmap(F)(x, inputs), state.x)
        r = F_x - state.x
        q = half_squared_norm(r)
        d, _ = gcr(lambda p: p - jvp(p), r, min(self.n_vectors, r.shape[-1]))

        lengths = jnp.asarray([0.25**k for k in range(self.n_lengths)], r.dtype)
        tries = state.x + lengths[:, None, None] * d
        q_tries = half_squared_norm(tries - jax.vmap(jax.vmap(F), (0, None))(tries, inputs))
        q_tries = jnp.where(jnp.isfinite(q_tries), q_tries, jnp.inf)
        best = jnp.argmin(q_tries, axis=0)
        row = jnp.arange(r.shape[0])
        x_new, q_new = tries[best, row], q_tries[best, row]

        better = q_new < q
        x = jnp.where(better[:, None], x_new, state.x)
        q_end = jnp.where(better, q_new, q)
        dq = jnp.where(better, q - q_new, state.dq)
        converged = q_end < jnp.maximum(stopping.tol_q, rounding_floor(x))
        done = converged | ~better | (dq <= stopping.tol_dq)
        return _State(x, q_end, dq, state.n_iters + 1, done, converged)
