"""The last digits: Newton steps whose residual is computed in float64."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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
    step: Float[Array, "lanes n_states"]


class Refinement(AbstractRowSolver):
    """Iterative refinement (Wilkinson 1963) of rows that are close to a fixed point.

    Along a direction with eigenvalue `1 - s` a residual that is only rounding leaves a point
    uncertain by `eps / s`, so that float32 makes many points of one. Here only `F(x) - x` is
    computed in float64; the correction is solved for in the search's own precision. A step that
    does not lower `q` at least `reduction`-fold is taken back and ends the row: near a slow point
    there is no fixed point to go to.

    `F` is the transition in float64, `coarse` the same in the search's precision.

    Attributes:
        coarse: the transition in the search's precision.
        dtype: the search's precision.
        n_vectors: the dimension of the Krylov space.
        rtol: a row ends when its step is below this part of its size.
        reduction: what each step must divide `q` by.
        lanes: how many rows are in work at a time.
    """

    coarse: Transition
    dtype: Any = eqx.field(static=True)
    n_vectors: int = 10
    rtol: float = 1e-7
    reduction: float = 4.0
    lanes: int = 128

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        done = jnp.zeros_like(start.settled)
        return _State(x, start.q, start.dq, start.n_iters, done, start.settled, jnp.zeros_like(x))

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Judge the last step, and take the next."""
        x = state.x + state.step
        r = jax.vmap(F)(x, inputs) - x
        q = half_squared_norm(r)
        better = q * self.reduction < state.q
        x = jnp.where(better[:, None], x, state.x)
        dq = jnp.where(better, jnp.where(jnp.isfinite(state.q), state.q - q, 0), state.dq)

        scale = jnp.sqrt(jnp.maximum(2 * q, jnp.finfo(q.dtype).tiny))[:, None]
        x_search, u_search, b = (a.astype(self.dtype) for a in (x, inputs, r / scale))
        _, jvp = jax.linearize(lambda x: jax.vmap(self.coarse)(x, u_search), x_search)
        d, rest = gcr(lambda p: p - jvp(p).astype(p.dtype), b, min(self.n_vectors, b.shape[-1]))
        d = d.astype(x.dtype) * scale
        size = jnp.linalg.norm(d, axis=-1)
        small = size <= self.rtol * (1 + jnp.linalg.norm(x, axis=-1))
        # Where `r` is out of the reach of `I - J`, as at a slow point, the "solution" is small too.
        solved = (jnp.linalg.norm(rest, axis=-1) < 0.5) | (q < rounding_floor(x))
        done = ~better | small | ~jnp.isfinite(size)
        q = jnp.where(better, q, state.q)
        step = jnp.where(done[:, None], 0, d)
        return _State(x, q, dq, state.n_iters + 1, done, small & solved, step)


def computes_in_float64(F: Transition, n_states: int, n_inputs: int) -> bool:
    """Return whether `F` gives float64 states for float64 states."""
    x, u = (jax.ShapeDtypeStruct((size,), np.float64) for size in (n_states, n_inputs))
    try:
        return eqx.filter_eval_shape(F, x, u).dtype == np.float64
    except Exception:
        # A model that insists on its own precision may refuse another in any way of its own. The
        # search is then as precise as the model.
        return False
