"""Newton's method for a minimum of `q`, from close by: where exactly a slow point is."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_by_one
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.curvature import residual_and_curvature
from slowpoints._solvers.termination import End, rounding_of_q

_PLACE = 1e-5
"""Of the state's size: a row ends after a step that is no longer than this. The next one would be
about as long as the square of that."""

_MOST = 30
"""So many steps a row takes at most: along a flat valley, in which there is no place to agree on,
they do not shrink."""

_FIRST_SHIFT, _LARGER, _SMALLER = 1e-6, 30.0, 0.1
"""What is added to the Hessian of `q` where it is not positive definite or its step leads up, as a
fraction of its mean diagonal, and by how much that grows each time, and shrinks after a step that
leads down."""

_MATRICES = 7
"""How many matrices of `n_states` x `n_states` float64 each lane holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    move: Float[Array, "lanes n_states"]
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
        none, shift = start.n_iters, jnp.zeros_like(start.q)
        dq = jnp.zeros_like(start.dq)
        return _State(x, start.q, dq, none, start.end, jnp.zeros_like(x), shift, none)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Judge the last move, and choose the next; where `q` rose, with a shifted Hessian."""
        x = state.x + state.move
        eye = jnp.eye(x.shape[-1], dtype=x.dtype)

        def solved(lane: tuple[Array, Array]) -> Array:
            H, g = lane
            return lapack.cholesky_solve(lapack.cholesky(H), g)

        r, g, _, H = jax.vmap(partial(residual_and_curvature, F))(x, inputs)
        q, x_size = half_squared_norm(r), 1 + jnp.linalg.norm(x, axis=-1)
        better = q <= state.q + rounding_of_q(q, x)
        size = jnp.abs(jnp.trace(H, axis1=-2, axis2=-1)) / x.shape[-1]
        d = one_by_one(solved, (H + (state.shift * size)[:, None, None] * eye, g))
        finite = jnp.all(jnp.isfinite(d), axis=-1)
        # A row that has to go back finds its way from there.
        move = jnp.where((better & finite)[:, None], d, 0)
        smaller = jnp.where(state.shift > _FIRST_SHIFT, _SMALLER * state.shift, 0)
        larger = jnp.maximum(_FIRST_SHIFT, _LARGER * state.shift)
        came = jnp.any(state.move != 0, axis=-1)
        shift = jnp.where(better & finite, jnp.where(came, smaller, state.shift), larger)

        n_iters, n_steps = state.n_iters + 1, state.n_steps + 1
        last = better & finite & (jnp.linalg.norm(move, axis=-1) <= _PLACE * x_size)
        # A row that has to end elsewhere is at a minimum, too, if not as exactly.
        over = last | (n_steps >= _MOST) | (n_iters >= stopping.max_iters)
        begun = jnp.isfinite(state.q)
        dq = jnp.where(better & begun, state.q - q, state.dq)
        x, q = jnp.where(better[:, None], x, state.x), jnp.where(better, q, state.q)
        x = jnp.where(last[:, None], x + move, x)
        end = jnp.where(over, End.MINIMUM, End.NONE)
        if not self.polish:
            end = jnp.where(q < stopping.tol_q, End.TOLERANCE, end)
        return _State(x, q, dq, n_iters, end, move, shift, n_steps)
