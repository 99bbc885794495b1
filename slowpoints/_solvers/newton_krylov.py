"""Newton's method on `F(x) - x` that never forms a Jacobian."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.types import Number
from slowpoints._linear_algebra.krylov import gcr
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trapping.trapping_box import kept_inside
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping, check_settings
from slowpoints._solvers.radius import drawn, first_radius, longest_radius
from slowpoints._solvers.termination import End, rounding_floor

_AT_REST = 1e-5
"""At a fixed point the moves shrink with `q`. If `q` only fades, as in the tails of saturating
units, they stay above this fraction of the state's size."""

_AHEAD = 0.5
"""The share of the rows whose first step is the network's own."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    move: Float[Array, "lanes n_states"]
    radius: Float[Array, " lanes"]
    predicted: Float[Array, " lanes"]
    n_poor: Int[Array, " lanes"]
    ahead: Bool[Array, " lanes"]


class NewtonKrylov(AbstractRowSolver):
    """Inexact Newton steps (Knoll & Keyes 2004) with backtracking on `q`: fast at any size.

    A trained network is close to low-rank around its slow manifold, so a few Krylov vectors solve
    `(I - J) d = F(x) - x` well enough. A row for which no step length lowers `q` ends where it is:
    either it is near a slow point that is not a fixed point, or the Krylov space was too small.

    In networks of more than `n_vectors` states, about half of the rows start with a step of the
    network itself, if that lowers `q`. It removes the part of an initial state's noise that the
    network forgets at once. It leads fewer rows astray, but also leads away from some saddles. A
    Krylov space that holds all directions needs no such help.

    Steps are no longer than a radius, because long steps leave the basins of saddles. The first
    radius differs from row to row, and is computed from the row's own state. The radius grows and
    shrinks with the success of the linear model.

    Only the residual is computed in the precision of the state; everything else is computed in
    `dtype`. With a state in float64 this is iterative refinement (Wilkinson 1963). Along a
    direction with eigenvalue `1 - s`, rounding of the residual makes a point uncertain by
    `eps / s`, so in float32 one point would turn into many.

    Attributes:
        dtype: the precision of the linear algebra.
        n_vectors: the dimension of the Krylov space.
        n_lengths: how many step lengths are tried, each `shrink` times the one before.
        shrink: the ratio of each step length to the one before.
        radius: the longest first step, as a fraction of the square root of `n_states`; each row has
            its own, which is larger or smaller by a factor of up to `e`.
        xtol: a row ends when its step is below this fraction of the state's size.
        patience: a row is abandoned after this many consecutive iterations that each lowered `q` by
            less than half.
        polish: whether a row continues below `tol_q`, until its step is negligible.
        lanes: how many rows are in work at a time.
    """

    dtype: Any = eqx.field(static=True, default=np.float32)
    n_vectors: int = 10
    n_lengths: int = 4
    shrink: Number = 0.25
    radius: Number = 0.15
    xtol: Number = 1e-7
    patience: int = 50
    polish: bool = True
    lanes: int = 128

    def __check_init__(self):
        numbers = ("shrink", "radius", "xtol")
        counts = ("n_vectors", "n_lengths", "patience", "lanes")
        check_settings(self, numbers=numbers, counts=counts, flags=("polish",))

    @property
    def refines(self) -> bool:
        """The residual in float64 makes up for linear algebra in lower precision."""
        return True

    @property
    def rescales(self) -> bool:
        """Lengths of steps are compared with 1."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Newton's and Gauss-Newton steps are made of products with the Jacobian."""
        return True

    @property
    def may_run_side_by_side(self) -> bool:
        """No matrices are decomposed."""
        return True

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        radius, none = first_radius(x, self.radius), start.n_iters
        move = jnp.zeros_like(x)
        # From digits that the radius does not depend on.
        ahead = (drawn(x) * 2**10 % 1 < _AHEAD) & (x.shape[-1] > self.n_vectors)
        return _State(x, start.q, start.dq, none, start.end, move, radius, start.q, none, ahead)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Judge the last move in full precision, and choose the next."""
        inside = kept_inside(F)
        x = inside(state.x + state.move)
        F_x = jax.vmap(F)(x, inputs)
        r = F_x - x
        q = half_squared_norm(r)
        better = q < state.q
        x = jnp.where(better[:, None], x, state.x)
        begun = jnp.isfinite(state.q)
        dq = jnp.where(better & begun, state.q - q, state.dq)
        moved = jnp.linalg.norm(state.move, axis=-1)
        gain = (state.q - q) / state.predicted
        wider = jnp.maximum(state.radius, jnp.minimum(2 * state.radius, longest_radius(x)))
        wider = jnp.where((gain > 0.75) & (moved >= 0.99 * state.radius), wider, state.radius)
        radius = jnp.where(begun & (gain < 0.25), 0.5 * moved, wider)
        n_poor = jnp.where(begun & ~(q <= 0.5 * state.q), state.n_poor + 1, 0)

        tiny = jnp.finfo(q.dtype).tiny
        scale = jnp.sqrt(jnp.maximum(2 * q, tiny))[:, None]
        d, rest = self._newton_direction(F, inputs, x, r / scale)
        d, unsolved = d.astype(x.dtype) * scale, rest > 0.5
        x_size, d_size = 1 + jnp.linalg.norm(x, axis=-1), jnp.linalg.norm(d, axis=-1)
        part = jnp.minimum(1, radius / jnp.maximum(d_size, tiny))
        length, hopeful, q_ahead = self._choose_length(F, inputs, x, part[:, None] * d, q, F_x)
        part = part * length
        move = inside(x + part[:, None] * d) - x
        # All of the residual but `rest` falls in proportion to the step.
        predicted = jnp.maximum((1 - jnp.square(1 - part)) * (1 - jnp.square(rest)) * q, tiny)
        ahead = state.ahead & ~begun & (q_ahead < q)
        move = jnp.where(ahead[:, None], r, move)
        hopeful |= ahead
        predicted = jnp.where(ahead, jnp.nan, predicted)  # which leaves the radius as it is

        at_floor = (q < rounding_floor(x)) & (moved <= _AT_REST * x_size)
        # If `r` is out of the reach of `I - J`, as at a slow point, the solution is small too.
        xtol = max(self.xtol, float(jnp.finfo(x.dtype).eps))
        root = better & (((d_size <= xtol * x_size) & ~unsolved) | at_floor)
        q = jnp.where(better, q, state.q)
        stuck = ~better | ~hopeful | (dq <= stopping.tol_dq) | ~jnp.isfinite(d_size)
        stuck |= n_poor >= self.patience
        end = jnp.where(stuck, End.STUCK, End.NONE)
        if not self.polish:
            end = jnp.where(q < stopping.tol_q, End.TOLERANCE, end)
        end = jnp.where(root & (end != End.TOLERANCE), End.ROOT, end)
        move = jnp.where((end != End.NONE)[:, None], 0, move)
        return _State(
            x, q, dq, state.n_iters + 1, end, move, radius, predicted, n_poor, state.ahead
        )

    def _newton_direction(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        x: Float[Array, "lanes n_states"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes n_states"], Float[Array, " lanes"]]:
        dtype = self.dtype
        F = with_precision(F, dtype)
        x, inputs, r = (a.astype(dtype) for a in (x, inputs, r))
        _, jvp = jax.linearize(lambda x: jax.vmap(F)(x, inputs).astype(dtype), x)
        d, rest = gcr(lambda p: p - jvp(p), r, min(self.n_vectors, r.shape[-1]))
        return d, jnp.linalg.norm(rest, axis=-1)

    def _choose_length(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        x: Float[Array, "lanes n_states"],
        d: Float[Array, "lanes n_states"],
        q: Float[Array, " lanes"],
        F_x: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, " lanes"], Bool[Array, " lanes"], Float[Array, " lanes"]]:
        """Return the part of `d` to go, whether `q` falls there, and the `q` at `F_x`."""
        dtype = self.dtype
        F = with_precision(F, dtype)
        x_low, d_low, u, ahead = (a.astype(dtype) for a in (x, d, inputs, F_x))
        lengths = jnp.asarray([[self.shrink**k] for k in range(self.n_lengths)], dtype)
        # Together, so that the network is compiled once.
        tries = jnp.concatenate([x_low + lengths[:, :, None] * d_low, ahead[None]])
        tries = kept_inside(F)(tries)
        q_tries = half_squared_norm(tries - jax.vmap(jax.vmap(F), (0, None))(tries, u))
        q_tries = jnp.where(jnp.isfinite(q_tries), q_tries, jnp.inf)
        q_tries, q_ahead = q_tries[:-1], q_tries[-1]
        # Close to a fixed point, `q` in this precision is only rounding, and says nothing.
        blind = 8 * rounding_floor(x_low)
        full = (q_tries[0] < 0.5 * q) | (q_tries[0] < blind)
        lowest = jnp.min(q_tries, axis=0)
        best = jnp.max(jnp.where(q_tries == lowest, lengths, 0), axis=0)
        return jnp.where(full, 1, best).astype(x.dtype), full | (lowest < q), q_ahead
