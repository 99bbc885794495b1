"""Levenberg-Marquardt on the residual `F(x) - x`, with the dense Jacobian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.types import Number
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_by_one, varying
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping, check_settings
from slowpoints._solvers.termination import End, rounding_floor

_MATRICES = 6
"""How many matrices of `n_states` x `n_states` float64 each row in work holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    damping: Float[Array, " lanes"]
    rejected: Bool[Array, " lanes"]
    last_move: Float[Array, " lanes"]


class LevenbergMarquardt(AbstractRowSolver):
    """Damped Gauss-Newton steps (Levenberg 1944; Marquardt 1963): robust, up to about 500 units.

    It converges quadratically to zeros of `q`, and linearly to its positive local minima, the slow
    points. `q` never rises. Each row in work takes several `n_states x n_states` matrices.

    Attributes:
        rtol: a row ends when no step that can be trusted would lower `q` by this fraction.
        xtol: a row ends when its step is below this fraction of the state's size.
        damping: the first damping, relative to the mean squared column norm of `I - J`.
        max_step: the longest step, as a fraction of the state's size.
        polish: whether a row continues below `tol_q`, until its step is negligible.
        lanes: how many rows are in work at a time.
    """

    rtol: Number = 1e-5
    xtol: Number = 1e-7
    damping: Number = 1e-2
    max_step: Number = 0.5
    polish: bool = True
    lanes: int = 128

    def __check_init__(self):
        numbers = ("rtol", "xtol", "damping", "max_step")
        check_settings(self, numbers=numbers, counts=("lanes",), flags=("polish",))

    @property
    def refines(self) -> bool:
        """Close to a fold, float32 cannot tell a fixed point from a slow one."""
        return True

    @property
    def rescales(self) -> bool:
        """Lengths of steps are compared with 1."""
        return True

    @property
    def follows_valleys(self) -> bool:
        """Steps are straight, and short where a valley bends."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Newton's and Gauss-Newton steps are made of products with the Jacobian."""
        return True

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the Jacobian, the normal equations and their factors take."""
        return super().bytes_per_lane(n_states) + 8 * _MATRICES * n_states**2

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        damping = jnp.full_like(start.q, self.damping)
        no, still = jnp.zeros_like(start.end, bool), jnp.zeros_like(damping)
        return _State(x, start.q, start.dq, start.n_iters, start.end, damping, no, still)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Try one damped step per row."""
        eye = jnp.eye(state.x.shape[-1], dtype=state.x.dtype)

        def equations(x: Array, u: Array, damping: Array) -> tuple[Array, ...]:
            F_x, jvp = jax.linearize(lambda x: F(x, u), x)
            r = F_x - x
            # Outside of the loop, XLA would keep products with the identity beside the loop's own.
            basis, _ = jax.lax.optimization_barrier((varying(eye, F_x), F_x))
            A = eye - jax.vmap(jvp, out_axes=1)(basis)  # the Newton step solves A d = r
            gram, g = A.T @ A, A.T @ r
            return r, gram, g, damping * jnp.mean(jnp.diagonal(gram))

        def solved(lane: tuple[Array, ...]) -> Array:
            gram, g, shift = lane
            return lapack.cholesky_solve(lapack.cholesky(gram + shift * eye), g)

        def bounded(x: Array, r: Array, d: Array, g: Array, shift: Array) -> tuple[Array, ...]:
            shorter = self.max_step * (1 + jnp.linalg.norm(x)) / jnp.linalg.norm(d)
            d = d * jnp.minimum(1, shorter)
            predicted = 0.5 * jnp.dot(d, g + shift * d)
            return half_squared_norm(r), d, predicted, shorter < 1

        r, gram, g, shift = jax.vmap(equations)(state.x, inputs, state.damping)
        d = one_by_one(solved, (gram, g, shift))
        q, d, predicted, at_limit = jax.vmap(bounded)(state.x, r, d, g, shift)
        x_new = state.x + d
        q_new = half_squared_norm(x_new - jax.vmap(F)(x_new, inputs))
        better = q_new < q
        gain = (q - q_new) / jnp.maximum(predicted, jnp.finfo(q.dtype).tiny)
        relax = jnp.where(gain > 0.9, 0.01, jnp.where(gain > 0.25, 0.1, 1.0))
        damping = state.damping * jnp.where(better, relax, 8.0)

        x = jnp.where(better[:, None], x_new, state.x)
        dq = jnp.where(better, q - q_new, state.dq)
        q_end = jnp.where(better, q_new, q)
        size, move = 1 + jnp.linalg.norm(x, axis=-1), jnp.linalg.norm(d, axis=-1)
        last_move = jnp.where(better, move, state.last_move)
        at_floor = q_end < rounding_floor(x)
        # In the tails of saturating units `q` falls as far, but not as predicted, or only slowly.
        landed = better & (q_new < 1e-4 * q) & (predicted > 0.75 * q) & ~at_limit
        still = (last_move <= 1e-5 * size) | landed
        # A step may also be short because the damping has not come down yet.
        eps = jnp.finfo(q.dtype).eps
        free = state.rejected | (state.damping <= jnp.maximum(1e-9, 10 * eps))
        small = move <= self.xtol * size
        # If units are saturated to the last digit, `q` is 0 and steps are small as well.
        rests = free & (small | (predicted <= self.rtol * q))
        stuck = rests | at_floor | (damping > 1e6) | (dq <= stopping.tol_dq) | ~jnp.isfinite(q)
        end = jnp.where(stuck, End.STUCK, End.NONE)
        end = jnp.where(at_floor & still, End.ROOT, end)
        if not self.polish:
            end = jnp.where(q_end < stopping.tol_q, End.TOLERANCE, end)
        damping = jnp.maximum(damping, eps)
        return _State(x, q_end, dq, state.n_iters + 1, end, damping, ~better, last_move)
