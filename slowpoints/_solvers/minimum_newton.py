"""Newton's method for a minimum of `q`, from close by: where exactly a slow point is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._solvers import lapack
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.loops import one_by_one, varying
from slowpoints._solvers.termination import End
from slowpoints._transition.base import Transition
from slowpoints._transition.speed import half_squared_norm

_PLACE = 1e-5
"""Of the state's size: a row ends after a step that is no longer than this. The next one would be
about as long as the square of that."""

_MOST = 12
"""So many steps a row takes at most: along a flat valley, in which there is no place to agree on,
they do not shrink."""

_FIRST_SHIFT, _LARGER = 1e-8, 100.0
"""What is added to the Hessian of `q` where it is not positive definite or its step leads up, as a
fraction of its mean diagonal, and the ratio of each such fraction to the one before."""

_MATRICES = 7
"""How many matrices of `n_states` x `n_states` float64 each lane holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    shift: Float[Array, " lanes"]
    n_steps: Int[Array, " lanes"]


class MinimumNewton(AbstractRowSolver):
    """Newton's method for minima of `q`, with the whole Hessian (Nocedal & Wright 2006, ch. 3.3).

    Rows come to a slow point along the valley that leads there, and the solver before ends them as
    soon as they have little to gain. By then they may be farther apart than two points are. Here
    they take a few more steps, until they agree.

    Attributes:
        polish: whether a row goes on below `tol_q`.
        lanes: how many rows are in work at a time.
    """

    polish: bool
    lanes: int = 1

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the Hessian and what it is made of take."""
        return super().bytes_per_lane(n_states) + 8 * _MATRICES * n_states**2

    def takes(self, end: Any, q: Any) -> Any:
        """Return which rows it continues with: those at minima."""
        return (end == End.MINIMUM) & (abs(q) < np.inf)

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        none = start.n_iters
        return _State(x, start.q, start.dq, none, start.end, jnp.zeros_like(start.q), none)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Take one step, if `q` does not rise; else shift the Hessian."""
        x = state.x
        eye = jnp.eye(x.shape[-1], dtype=x.dtype)

        def derivatives(x: Array, u: Array) -> tuple[Array, Array, Array]:
            F_x, jvp = jax.linearize(lambda x: F(x, u), x)
            r = F_x - x
            columns = varying(eye, F_x)
            A = eye - jax.vmap(jvp, out_axes=1)(columns)
            bend = jax.linearize(jax.grad(lambda x: jnp.dot(jax.lax.stop_gradient(r), F(x, u))), x)
            S = jax.vmap(bend[1], out_axes=1)(columns)
            return r, r @ A, A.T @ A + (S + S.T) / 2

        r, g, H = jax.vmap(derivatives)(x, inputs)
        q = half_squared_norm(r)
        size = jnp.trace(H, axis1=-2, axis2=-1) / x.shape[-1]
        shifted = H + (state.shift * jnp.abs(size))[:, None, None] * eye

        def solved(lane: tuple[Array, Array]) -> Array:
            H, g = lane
            return lapack.cholesky_solve(lapack.cholesky(H), g)

        d = one_by_one(solved, (shifted, g))
        finite = jnp.all(jnp.isfinite(d), axis=-1)
        y = x + jnp.where(finite[:, None], d, 0)
        q_new = half_squared_norm(jax.vmap(F)(y, inputs) - y)
        length, x_size = jnp.linalg.norm(d, axis=-1), 1 + jnp.linalg.norm(x, axis=-1)
        rounding = 4 * jnp.finfo(q.dtype).eps * jnp.sqrt(2 * q) * x_size
        better = finite & (q_new <= q + rounding)
        n_steps = state.n_steps + 1

        over = (better & (length <= _PLACE * x_size)) | (n_steps >= _MOST)
        over |= state.n_iters + 1 >= stopping.max_iters  # it is at a minimum, if not as exactly
        end = jnp.where(over, End.MINIMUM, End.NONE)
        q_end = jnp.where(better, q_new, q)
        if not self.polish:
            end = jnp.where(q_end < stopping.tol_q, End.TOLERANCE, end)
        larger = jnp.maximum(_FIRST_SHIFT, _LARGER * state.shift)
        return _State(
            jnp.where(better[:, None], y, x),
            q_end,
            jnp.where(better, q - q_new, jnp.where(jnp.isfinite(state.dq), state.dq, 0)),
            state.n_iters + 1,
            end,
            jnp.where(better, 0, larger),
            n_steps,
        )
