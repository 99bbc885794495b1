"""`ShortestSteps`: the shortest way to states at which a network is slow, for `slow_manifold`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.termination import End

_PART = 0.1
"""A step is to leave this part of the residual. To leave more of it takes more steps, and to leave
less moves the state along directions in which the network is slow."""

_BELOW = 0.5
"""But it need not leave less than this part of the residual that is asked for."""

_MOST_PRODUCTS = 50
"""Directions in which the network is not slow are covered by some ten to thirty products."""

_LENGTHS = (1.0, 0.25, 0.0625)
"""Which parts of a step are tried."""

_PATIENCE = 5
"""A row is given up after so many consecutive steps that each lowered `q` by less than half."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    n_poor: Int[Array, " lanes"]


class ShortestSteps(AbstractRowSolver):
    """Steps that bring `q` below `tol_q` and go no farther than they have to.

    Newton's step leads to a fixed point, and along a slow manifold, on which `I - J` is almost
    singular, it leads far away. Here the linear equations are solved by conjugate gradients
    (Björck 1996, "Numerical methods for least squares problems", sec. 7.4) only until the residual
    is small enough, which leaves out the directions of the smallest singular values (Morozov's
    discrepancy principle: Hansen 1998, "Rank-deficient and discrete ill-posed problems", ch. 6). A
    row that is slow already does not move. `q` never rises.

    Attributes:
        lanes: how many rows are in work at a time.
    """

    lanes: int = 64

    @property
    def refines(self) -> bool:
        """Below the rounding of float32 states, `q` does not fall."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Steps are made of products with the Jacobian and its transpose."""
        return True

    @property
    def may_run_side_by_side(self) -> bool:
        """No matrices are decomposed."""
        return True

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        return _State(*Found.nothing(x), n_poor=jnp.zeros(x.shape[0], int))

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Take one step per row, unless it is slow already."""
        x = state.x

        def residual(x: Array) -> Array:
            return jax.vmap(F)(x, inputs) - x

        r, pushed = jax.linearize(residual, x)
        q = half_squared_norm(r)
        slow = q < stopping.tol_q
        target = jnp.maximum(_PART * jnp.sqrt(2 * q), _BELOW * jnp.sqrt(2 * stopping.tol_q))
        d = _least_squares(lambda d: -pushed(d), r, jnp.where(slow, jnp.inf, target))
        tried = jnp.stack([x + part * d for part in _LENGTHS])
        q_tried = half_squared_norm(jax.vmap(residual)(tried))
        q_tried = jnp.where(jnp.isfinite(q_tried), q_tried, jnp.inf)
        q_new = jnp.min(q_tried, axis=0)
        better = (q_new < q) & ~slow
        # A product with a mask and not an index, which cannot be lowered in float64 inside `jit`.
        chosen = (q_tried == q_new) & (jnp.cumsum(q_tried == q_new, axis=0) == 1) & better
        x = x + jnp.sum(jnp.where(chosen[:, :, None], tried - x, 0), axis=0)
        dq, q = jnp.where(better, q - q_new, state.dq), jnp.where(better, q_new, q)
        n_poor = jnp.where(dq > q, 0, state.n_poor + 1)
        end = jnp.where(~better | (n_poor >= _PATIENCE), End.STUCK, End.NONE)
        end = jnp.where(q < stopping.tol_q, End.TOLERANCE, end)
        return _State(x, q, dq, state.n_iters + 1, end, n_poor)


def _least_squares(
    A: Callable[[Array], Array], r: Float[Array, "lanes n_states"], target: Float[Array, " lanes"]
) -> Float[Array, "lanes n_states"]:
    """Return short solutions of `A d = r` that leave no more than `target` of `r`."""
    transposed = jax.linear_transpose(A, r)

    def dot(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=-1)

    def unfinished(rest: Array, steepness: Array) -> Array:
        return (jnp.sqrt(dot(rest, rest)) > target) & (steepness > 0)

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        d, rest, p, steepness, n = carry
        on = unfinished(rest, steepness)
        Ap = A(p)
        square = dot(Ap, Ap)
        length = jnp.where(on & (square > 0), steepness / jnp.where(square > 0, square, 1), 0)
        d, rest = d + length[:, None] * p, rest - length[:, None] * Ap
        (s,) = transposed(rest)
        new = jnp.where(on, dot(s, s), steepness)
        ratio = new / jnp.where(steepness > 0, steepness, 1)
        p = jnp.where(on[:, None], s + ratio[:, None] * p, p)
        return d, rest, p, jnp.where(on & (square > 0), new, 0), n + 1

    (s,) = transposed(r)
    carry = (jnp.zeros_like(r), r, s, dot(s, s), jnp.zeros((), int))
    return jax.lax.while_loop(
        lambda c: jnp.any(unfinished(c[1], c[3])) & (c[4] < _MOST_PRODUCTS), body, carry
    )[0]
