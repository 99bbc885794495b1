"""Exact trust-region steps in a small subspace, with the curvature of `q`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.types import Number
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_by_one, varying
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trapping.trapping_box import is_outside, kept_inside
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.radius import first_radius, longest_radius
from slowpoints._solvers.subproblem import minimise_within
from slowpoints._solvers.subspaces import gradient_krylov_space, slow_space, whole_space
from slowpoints._solvers.termination import (
    ESCAPE_Q,
    End,
    is_far,
    rounding_floor,
    rounding_of_q,
    step_is_negligible,
)

DENSE_LIMIT = 1024
"""Up to this many states, Jacobians are formed and factorised. The Krylov space of larger networks
leaves many rows at slow points without an end, and is no quicker."""

_MATRICES = 6
"""How many matrices of `n_states` x `n_states` float64 each lane with a Jacobian holds."""

_N_SLOW = 5
"""How many slow directions the subspace has; trained networks have as many as their task has
variables."""

WHOLE = 16
"""Up to this many states, all directions are searched, in the precision of the states: in so few
dimensions that costs little."""

_N_VECTORS = 30
"""The dimension of the Krylov space in which larger networks are searched."""

_SETTLED = 1e-5
"""A row is at a minimum if its step is predicted to lower `q` by less than this fraction: even 1000
such steps would then lower it by less than 1 %."""

_SHRINK, _N_RADII = 0.2, 3
"""How many radii are tried at once, and the ratio of each to the one before: computing a step costs
much, trying it costs little."""

_WORTH = 1e-3
"""A step is taken if `q` falls by at least this fraction of the predicted decrease, and by more
than rounding."""

_UNRESOLVED = 30.0
"""If `I - J` is smaller than this many rounding errors, as along a line of fixed points, steps are
damped: otherwise they would follow nothing but the rounding."""

_CURVED_AFTER = 4
"""After this many consecutive iterations with little gain, the exact curvature of `q` is used.
Earlier, far from any point, Gauss-Newton steps are better."""

_FALLING = 0.9
"""A row is not given up if its last step lowered `q` by a tenth: after many steps along a valley,
it may have come to its end."""

_TAIL_AFTER = 10
"""After this many consecutive iterations with little gain, a row is in a tail if it is where no
trajectory stays and no step helps, or if it is far from its start with a `q` as low as at fixed
points. Near a fixed point, steps gain much."""

_N_CORRECTIONS = 2
"""How often a step is corrected for what the linear model missed. On a ring of slow states the
first correction lets steps grow threefold, the second by a third; more bring nothing."""

_LONGEST_CORRECTION = 0.75
"""The longest correction, as a fraction of the step: a longer one says that the series does not
converge. Transtrum & Sethna (2012) bound it in the same way, and about twice as tightly."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    radius: Float[Array, " lanes"]
    n_poor: Int[Array, " lanes"]
    mark: Float[Array, " lanes"]  # the first `q`, and then each that is half of the one before
    n_since: Int[Array, " lanes"]  # how many iterations ago that was
    curved: Bool[Array, " lanes"]
    start: Float[Array, "lanes n_states"]


class _Model(NamedTuple):
    """A model of `q` around states, in a subspace, in units of the residual's length."""

    r: Float[Array, "lanes n_states"]  # the residual
    q: Float[Array, " lanes"]
    scale: Float[Array, " lanes"]  # the residual's length
    V: Float[Array, "lanes m n_states"]  # as in `Subspace`; so are the next two
    AV: Float[Array, "lanes m n_states"]
    outside: Callable[[Array], tuple[Array, Array]]
    Q: Float[Array, "lanes m m"]  # axes in the subspace along which there are no mixed terms
    eigenvalues: Float[Array, "lanes m"]  # the second derivatives along them
    gradient: Float[Array, "lanes m"]  # and the first
    dtype: Any  # the precision of the linear algebra


class _Tries(NamedTuple):
    """The steps that minimise the model within each of a few radii."""

    y: Float[Array, "lanes tries m"]  # in terms of `V`
    shift: Float[Array, "lanes tries"]
    predicted: Float[Array, "lanes tries"]
    radius: Float[Array, "lanes tries"]
    length: Float[Array, "lanes tries"]


class _Step(NamedTuple):
    """The steps that rows have just tried, and the quantities by which these are judged."""

    d: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]  # before the step
    q_new: Float[Array, " lanes"]
    gain: Float[Array, " lanes"]  # as a fraction of what was predicted
    predicted: Float[Array, " lanes"]
    radius: Float[Array, " lanes"]
    length: Float[Array, " lanes"]
    better: Bool[Array, " lanes"]


class SubspaceTrustRegion(AbstractRowSolver):
    """Steps that minimise a model of `q` exactly within a radius, in a subspace of few directions.

    Up to 16 states, the subspace is all of space. Up to 1,024, it contains Newton's step and the
    network's slow directions, from a factorised Jacobian; above that, it is a Krylov space with the
    gradient of `q`. If `q` falls slowly, the model is given the exact curvature of `q`, with which
    rows approach slow points as quickly as fixed points (Conn, Gould & Toint 2000, ch. 7).

    What the model misses along a step is corrected for in all directions (Transtrum & Sethna 2012,
    who call it geodesic acceleration), so that rows follow curved valleys with long steps.

    Attributes:
        radius: the first radius, as in `KrylovTrustRegion`; so are the next three attributes.
        patience: a row is given up if so many iterations do not lower `q` by half, nor the last one
            by a tenth.
        polish: whether a row goes on below `tol_q`.
        dtype: the precision of the linear algebra.
        lanes: how many rows are in work at a time. Matrices are factorised one at a time, so more
            lanes save little, and many of them would be idle while the last rows end.
    """

    radius: Number
    patience: int
    polish: bool
    dtype: Any = eqx.field(static=True)
    lanes: int = 4

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that a basis, and a factorised Jacobian if there is one, take."""
        matrices = 8 * _MATRICES * n_states**2 if n_states <= DENSE_LIMIT else 0
        return super().bytes_per_lane(n_states) + matrices

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        radius = jnp.full_like(start.q, self.radius * np.sqrt(x.shape[-1]))
        no, none = jnp.zeros_like(start.end, bool), start.n_iters
        return _State(
            *(x, start.q, start.dq, none, start.end, radius),
            *(none, start.q, none, no, x),
        )

    def start_with(self, x_init: Float[Array, "n n_states"]) -> dict[str, Array]:
        """Return the first radius of each row, and where it started."""
        return {"radius": first_radius(x_init, self.radius), "start": x_init}

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Minimise the model of `q` within a few radii at once, and take the longest good step."""
        x, model = state.x, self._model(F, inputs, state)
        tries = _tries(model, state.radius)
        inside_box = kept_inside(F)

        def moved(d: Array) -> tuple[Array, Array]:
            x_new = inside_box(x[:, None] + d)
            r_new = jax.vmap(jax.vmap(F, (0, None)))(x_new, inputs) - x_new
            q_new = half_squared_norm(r_new)
            return r_new, jnp.where(jnp.isfinite(q_new), q_new, jnp.inf)

        d, q_new = _corrected(moved, model, tries)
        q, step = model.q, _longest_good(x, model.q, d, q_new, tries)
        at_edge = step.length >= 0.99 * step.radius
        wider = jnp.where((step.gain > 0.75) & at_edge, 2.5 * step.radius, step.radius)
        wider = jnp.minimum(wider, jnp.maximum(step.radius, longest_radius(x)))
        shorter = 0.25 * jnp.minimum(step.radius, step.length)
        radius = jnp.where(~step.better | (step.gain < 0.25), shorter, wider)

        x = jnp.where(step.better[:, None], inside_box(x + step.d), x)
        dq = jnp.where(step.better, q - step.q_new, state.dq)
        q_end = jnp.where(step.better, step.q_new, q)
        n_poor = jnp.where(~(q_end <= 0.5 * q), state.n_poor + 1, 0)
        curved = state.curved | (n_poor >= _CURVED_AFTER)
        mark = jnp.minimum(state.mark, q)
        halved = q_end <= 0.5 * mark
        mark = jnp.where(halved, q_end, mark)
        n_since = jnp.where(halved, 0, state.n_since + 1)
        end = self._end(state, stopping, step, x, q_end, n_poor, n_since, is_outside(F, x))
        return _State(
            x, q_end, dq, state.n_iters + 1, end, radius, n_poor, mark, n_since, curved, state.start
        )

    def _model(
        self, F: Transition, inputs: Float[Array, "lanes n_inputs"], state: _State
    ) -> _Model:
        """Return the model of `q` around the states."""
        x = state.x
        F_x, vjp = jax.vjp(lambda x: jax.vmap(F)(x, inputs), x)
        r = F_x - x
        q = half_squared_norm(r)
        scale = jnp.sqrt(jnp.maximum(2 * q, jnp.finfo(x.dtype).tiny))

        small = x.shape[1] <= WHOLE
        dtype = x.dtype if small else self.dtype
        F_low, x_low, u_low = with_precision(F, dtype), x.astype(dtype), inputs.astype(dtype)

        def network(x: Array, u: Array) -> Array:
            return F_low(x, u).astype(dtype)

        unit = (r / scale[:, None]).astype(dtype)
        if small:
            space = whole_space(network, x_low, u_low)
        elif x.shape[1] <= DENSE_LIMIT:
            space = slow_space(network, x_low, u_low, unit, _N_SLOW)
        else:
            space = gradient_krylov_space(network, x_low, u_low, unit, _N_VECTORS)
        V, AV = space.V.astype(x.dtype), space.AV.astype(x.dtype)

        # In units of the residual's length, `r(x + V y) = r - AV y`.
        B = jnp.einsum("lid,ljd->lij", AV, AV)
        B = B + self._curvature(network, x_low, u_low, space.V, r, state.curved)
        empty = jnp.sum(jnp.square(V), axis=-1) < 0.5
        B = B + jnp.where(empty[:, :, None] & np.eye(V.shape[1], dtype=bool), 1, 0)
        eigenvalues, Q = one_by_one(lapack.eigh, jnp.where(jnp.isfinite(B), B, 0))

        # At a slow point this is a small difference of large numbers.
        unit = r / scale[:, None]
        gradient = jnp.einsum("lmd,ld->lm", V, unit - vjp(unit)[0])
        gradient = -jnp.einsum("lij,...li->...lj", Q, gradient)
        return _Model(r, q, scale, V, AV, space.outside, Q, eigenvalues, gradient, dtype)

    def _curvature(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        V: Float[Array, "lanes m n_states"],
        r: Float[Array, "lanes n_states"],
        curved: Bool[Array, " lanes"],
    ) -> Float[Array, "lanes m m"]:
        """Return `V (sum_i r_i Hess F_i) V^T` for the lanes that ask for it, else zero."""
        r = r.astype(x.dtype)

        def some() -> Array:
            def one(x: Array, u: Array, r: Array, V: Array) -> Array:
                gradient = jax.grad(lambda x: jnp.dot(r, F(x, u)))
                products = jax.vmap(lambda v: jax.jvp(gradient, (x,), (v,))[1])(V)
                S = V @ products.T
                return (S + S.T) / 2

            return jax.vmap(one)(x, inputs, r, V)

        lanes, m, _ = V.shape
        none = varying(jnp.zeros((lanes, m, m), V.dtype), (F, x, inputs, V))
        S = jax.lax.cond(jnp.any(curved), some, lambda: none)
        return jnp.where(curved[:, None, None], S, 0)

    def _end(
        self,
        state: _State,
        stopping: Stopping,
        step: _Step,
        x: Float[Array, "lanes n_states"],
        q: Float[Array, " lanes"],
        n_poor: Int[Array, " lanes"],
        n_since: Int[Array, " lanes"],
        outside: Bool[Array, " lanes"],
    ) -> Int[Array, " lanes"]:
        """Return why rows that have just come to `x` end, or that they do not."""
        inside = step.length < 0.99 * step.radius
        negligible = step_is_negligible(step.length, x) & inside
        root = (negligible & (step.predicted > 0.5 * step.q)) | (q <= rounding_floor(x))
        creeping = step.better & (step.q - q < stopping.tol_dq)
        minimum = state.curved & inside & (step.predicted < _SETTLED * step.q)
        lost = ~step.better & (step.radius <= 1e-12 * (1 + jnp.linalg.norm(x, axis=-1)))
        in_tail = (outside & ~step.better) | ((q < ESCAPE_Q) & is_far(x, state.start))
        in_tail &= n_poor >= _TAIL_AFTER
        given_up = (n_since >= self.patience) & (q > _FALLING * step.q)
        stuck = lost | given_up | creeping | in_tail | ~jnp.isfinite(step.q)
        end = jnp.where(stuck, End.STUCK, End.NONE)
        end = jnp.where(minimum, End.MINIMUM, end)
        end = jnp.where(root, End.ROOT, end)
        return end if self.polish else jnp.where(q < stopping.tol_q, End.TOLERANCE, end)


def _tries(model: _Model, radius: Float[Array, " lanes"]) -> _Tries:
    """Return the steps that minimise the model within this radius and a few shorter ones."""
    scale, eigenvalues, gradient = model.scale, model.eigenvalues, model.gradient
    radii = radius[:, None] * _SHRINK ** np.arange(_N_RADII)
    least = (_UNRESOLVED * float(jnp.finfo(model.dtype).eps)) ** 2
    y, shift = minimise_within(eigenvalues + least, gradient, radii / scale[:, None])
    shift = shift + least
    lower = gradient[:, None] * y + 0.5 * eigenvalues[:, None] * jnp.square(y)
    predicted = -jnp.sum(lower, axis=-1)
    predicted = jnp.square(scale)[:, None] * predicted
    y = scale[:, None, None] * jnp.einsum("lij,ltj->lti", model.Q, y)
    return _Tries(y, shift, predicted, radii, jnp.linalg.norm(y, axis=-1))


def _corrected(
    moved: Callable[[Array], tuple[Array, Array]], model: _Model, tries: _Tries
) -> tuple[Float[Array, "lanes tries n_states"], Float[Array, "lanes tries"]]:
    """Return the steps, corrected where that lowers `q`, and `q` after them.

    `moved` tells the residuals and `q` after steps.
    """
    r, V, AV = model.r, model.V, model.AV
    first = jnp.einsum("ltm,lmd->ltd", tries.y, V)
    expected = r[:, None] - jnp.einsum("ltm,lmd->ltd", tries.y, AV)
    shifted = model.eigenvalues + tries.shift.T[:, :, None]  # [tries, lanes, m]
    inverse = 1 / jnp.maximum(shifted, jnp.finfo(r.dtype).tiny)
    r_new, q_new = moved(first)
    d, corrected = first, first
    for _ in range(_N_CORRECTIONS):  # as a loop of JAX's, steps would take a tenth longer
        # Outside of the subspace, Newton's step corrects for what the model missed. Inside,
        # where `I - J` may be close to singular, the model's own step does.
        missed = jnp.where(jnp.isfinite(r_new), r_new - expected, 0)
        outside, left = (a.astype(r.dtype) for a in model.outside(missed.astype(model.dtype)))
        inside = jnp.einsum("lmd,ltd->tlm", AV, left)
        inside = jnp.einsum("lij,...li->...lj", model.Q, inside) * inverse
        inside = jnp.einsum("lij,tlj->lti", model.Q, inside)
        after = corrected + outside + jnp.einsum("ltm,lmd->ltd", inside, V)
        converges = jnp.linalg.norm(after - first, axis=-1) <= _LONGEST_CORRECTION * tries.length
        corrected = jnp.where(converges[:, :, None], after, corrected)
        r_new, q_after = moved(corrected)
        lower = q_after < q_new
        d, q_new = jnp.where(lower[:, :, None], corrected, d), jnp.where(lower, q_after, q_new)
    return d, q_new


def _longest_good(
    x: Float[Array, "lanes n_states"],
    q: Float[Array, " lanes"],
    d: Float[Array, "lanes tries n_states"],
    q_new: Float[Array, "lanes tries"],
    tries: _Tries,
) -> _Step:
    """Return the longest step that gains a tenth of what was predicted, or else the best one."""
    gain = (q[:, None] - q_new) / jnp.maximum(tries.predicted, jnp.finfo(x.dtype).tiny)
    good = (gain > 0.1) & (q_new < q[:, None])
    lowest = q_new <= jnp.min(q_new, axis=1, keepdims=True)
    pick = _first(jnp.where(jnp.any(good, axis=1, keepdims=True), good, lowest))

    def picked(a: Array) -> Array:
        return jnp.sum(a, axis=1, where=pick.reshape(*pick.shape, *[1] * (a.ndim - 2)))

    of_tries = d, q_new, gain, tries.predicted, tries.radius, tries.length
    d, q_new, gain, predicted, radius, length = map(picked, of_tries)
    better = (q - q_new > rounding_of_q(q, x)) & (gain > _WORTH)
    return _Step(d, q, q_new, gain, predicted, radius, length, better)


def _first(of: Bool[Array, "lanes tries"]) -> Bool[Array, "lanes tries"]:
    """Return a mask of the first true value of each lane."""
    # Not by `argmax`, which cannot be lowered in float64 inside another `jit`.
    before = jnp.zeros_like(of[:, 0])
    columns = []
    for column in of.T:
        columns.append(column & ~before)
        before = before | column
    return jnp.stack(columns, axis=1)
