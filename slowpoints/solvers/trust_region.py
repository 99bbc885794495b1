"""Gauss-Newton steps in a trust region, without a Jacobian: the robust solver at any size."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints.objective import half_squared_norm
from slowpoints.precision import low_precision
from slowpoints.solvers.base import (
    AbstractRowSolver,
    Found,
    Stopping,
    at_rest,
    check_settings,
    landed,
    rounding_floor,
)
from slowpoints.solvers.krylov import steihaug
from slowpoints.transition import Transition, with_precision
from slowpoints.types import Number


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    done: Bool[Array, " lanes"]
    settled: Bool[Array, " lanes"]
    last_move: Float[Array, " lanes"]
    radius: Float[Array, " lanes"]


class TrustRegion(AbstractRowSolver):
    """Levenberg-Marquardt's matrix-free relative (Steihaug 1983; Nocedal & Wright 2006, ch. 10).

    Each step minimises the linearised `||F(x) - x||^2` within a radius by conjugate gradients, on
    products with `J` and its transpose. Far from a fixed point that is nearly the gradient of `q`,
    close to one Newton's step. `q` never rises, and rows come to rest at fixed points or at slow
    points, the positive local minima of `q`.

    Attributes:
        dtype: the precision of the linear algebra.
        n_vectors: the most conjugate gradient iterations of a step.
        forcing: they end when the gradient has fallen to this part.
        radius: the first radius, as a part of the state's size.
        rtol: a row ends when its step is predicted to lower `q` by less than this part.
        xtol: a row ends when its step is below this part of the state's size.
        lanes: how many rows are in work at a time.
    """

    dtype: Any = eqx.field(static=True, default=np.float32)
    n_vectors: int = 30
    forcing: Number = 0.01
    radius: Number = 0.3
    rtol: Number = 1e-5
    xtol: Number = 1e-7
    lanes: int = 64

    def __check_init__(self):
        numbers = ("forcing", "radius", "rtol", "xtol")
        check_settings(self, numbers=numbers, counts=("n_vectors", "lanes"))

    @property
    def needs_forward_mode(self) -> bool:
        """Newton's and Gauss-Newton steps are made of products with the Jacobian."""
        return True

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        no, radius = start.settled, self.radius * (1 + jnp.linalg.norm(x, axis=-1))
        still = jnp.zeros_like(start.q)
        return _State(x, start.q, start.dq, start.n_iters, no, no, still, radius)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Try one step per row, and adapt its radius to how well `q` was predicted."""
        x = state.x
        r = jax.vmap(F)(x, inputs) - x
        q = half_squared_norm(r)
        scale = jnp.sqrt(jnp.maximum(2 * q, jnp.finfo(q.dtype).tiny))

        dtype = low_precision(F, x, inputs, self.dtype)
        F_low, x_low, u_low = with_precision(F, dtype), x.astype(dtype), inputs.astype(dtype)
        _, jvp = jax.linearize(lambda x: jax.vmap(F_low)(x, u_low).astype(dtype), x_low)
        vjp = jax.linear_transpose(jvp, x_low)
        d, rest, at_edge = steihaug(
            lambda p: p - jvp(p),
            lambda p: p - vjp(p)[0],
            (r / scale[:, None]).astype(dtype),
            (state.radius / scale).astype(dtype),
            self.n_vectors,
            self.forcing,
        )
        d = d.astype(x.dtype) * scale[:, None]
        unsolved = jnp.sum(jnp.square(rest), axis=-1).astype(x.dtype)
        predicted = q * (1 - unsolved)

        x_new = x + d
        q_new = half_squared_norm(jax.vmap(F)(x_new, inputs) - x_new)
        better = q_new < q
        size, move = 1 + jnp.linalg.norm(x, axis=-1), jnp.linalg.norm(d, axis=-1)
        gain = (q - q_new) / jnp.maximum(predicted, jnp.finfo(q.dtype).tiny)
        wider = jnp.where((gain > 0.75) & at_edge, 2 * state.radius, state.radius)
        radius = jnp.minimum(jnp.where(gain > 0.25, wider, 0.25 * move), size)

        x = jnp.where(better[:, None], x_new, x)
        q_end = jnp.where(better, q_new, q)
        dq = jnp.where(better, q - q_new, state.dq)
        last_move = jnp.where(better, move, state.last_move)
        converged = (move <= self.xtol * size) & ~at_edge & (unsolved < 0.25)
        # Where `J` is rounded to 1, the gradient of a small `q` is rounded away.
        resolved = q > 1e6 * rounding_floor(x)
        stationary = (predicted <= self.rtol * q) & resolved
        at_floor = (q_end < rounding_floor(x)) | (radius < self.xtol * size)
        still = at_rest(last_move, size) | (better & landed(q_new, predicted, q) & ~at_edge)
        settled = converged | stationary | (at_floor & still)
        below = (q_end < stopping.tol_q) | (dq <= stopping.tol_dq)
        done = settled | at_floor | below | ~jnp.isfinite(q)
        n_iters = state.n_iters + 1
        # Where `I - J` is ill-conditioned, a row creeps up to its fixed point; in a tail it runs.
        at_end = (n_iters >= stopping.max_iters) & (last_move <= 1e-3 * size)
        settled = settled | below | at_end
        return _State(x, q_end, dq, n_iters, done, settled, last_move, radius)
