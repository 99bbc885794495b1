"""The default solver: trust-region steps in a small subspace, solved exactly."""

import abc
from collections.abc import Callable
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
    AbstractSolver,
    Found,
    Report,
    Stopping,
    check_settings,
)
from slowpoints.solvers.krylov import arnoldi
from slowpoints.solvers.loops import varying
from slowpoints.solvers.subproblem import minimise_within
from slowpoints.solvers.termination import End, rounding_floor, step_is_negligible
from slowpoints.transition import Transition, with_precision
from slowpoints.types import Number

DENSE_LIMIT = 256
"""Up to how many states Jacobians are formed and factorised for rows that need it."""

_N_SLOW = 8
"""Directions of the second space; five of them are slow ones."""

_SETTLED = 1e-5
"""A row is at a minimum if its step is predicted to lower `q` by less than this part: then even
1000 such steps would lower it by less than 1 %."""

_SHRINK, _N_RADII = 0.2, 3
"""Radii that are tried at once, each this part of the one before: a step costs much, trying it
little."""

_WORTH = 1e-3
"""The least part of the predicted decrease that makes a step, as long as it is not rounding."""

_UNRESOLVED = 30.0
"""Where `I - J` is smaller than this many roundings, as along a line of fixed points, steps are
damped: they would follow nothing but the rounding."""

_LONGEST = 0.25
"""No radius grows beyond this part of the root of `n_states`, or of a longer state: longer steps
come down in other basins, and a trained GRU of 16 units lost saddles."""

_LEAVE_AFTER = 8
"""Iterations in a row with little gain after which a row leaves the Krylov space."""

_CURVED_AFTER = 4
"""Iterations in a row with little gain after which the exact curvature of `q` is used: earlier,
far from any point, Gauss-Newton steps are the better ones."""

_LONGEST_CORRECTION = 0.75
"""The longest second-order correction, as a part of the step (Transtrum & Sethna 2012): a longer
one says that the series does not converge."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    radius: Float[Array, " lanes"]
    n_poor: Int[Array, " lanes"]
    curved: Bool[Array, " lanes"]


class _Step(NamedTuple):
    """What is judged of the steps that rows have just tried."""

    q: Float[Array, " lanes"]  # before the step
    predicted: Float[Array, " lanes"]
    length: Float[Array, " lanes"]
    radius: Float[Array, " lanes"]
    better: Bool[Array, " lanes"]


class AbstractSubspace(eqx.Module):
    """Which directions a step may take."""

    @abc.abstractmethod
    def span(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes m n_states"], Float[Array, "lanes m n_states"]]:
        """Return an orthonormal basis `V`, in rows, and `(I - J) V`.

        Args:
            F: the network in the precision of the linear algebra.
            x: `[lanes, n_states]` states.
            inputs: `[lanes, n_inputs]` inputs.
            r: `[lanes, n_states]` the residuals `F(x) - x`, scaled to length one.
        """


class WholeSpace(AbstractSubspace):
    """All directions."""

    def span(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes m n_states"], Float[Array, "lanes m n_states"]]:
        """Return the unit vectors, and the transposed `I - J`."""
        A = _dense(F, x, inputs)
        V = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), A.shape)
        return V, jnp.swapaxes(A, 1, 2)


class KrylovSpace(AbstractSubspace):
    """The powers of `I - J` times the residual: what trained networks need as a rule.

    Close to their slow manifold, the residual is made of the few directions that the network does
    not forget at once, and so is the step.
    """

    n_vectors: int

    def span(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes m n_states"], Float[Array, "lanes m n_states"]]:
        """Return a basis made by Arnoldi's process."""
        _, jvp = jax.linearize(lambda x: jax.vmap(F)(x, inputs), x)
        return arnoldi(lambda p: p - jvp(p), r, min(self.n_vectors, x.shape[-1]))


class GradientKrylovSpace(AbstractSubspace):
    """A Krylov space and the gradient of `q`, which it need not contain."""

    n_vectors: int

    def span(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes m n_states"], Float[Array, "lanes m n_states"]]:
        """Return a basis made by Arnoldi's process, with one vector added."""
        _, jvp = jax.linearize(lambda x: jax.vmap(F)(x, inputs), x)
        vjp = jax.linear_transpose(jvp, x)
        V, AV = arnoldi(lambda p: p - jvp(p), r, min(self.n_vectors, x.shape[-1]))
        g = r - vjp(r)[0]
        size = jnp.linalg.norm(g, axis=-1, keepdims=True)
        for _ in range(2):
            g = g - jnp.einsum("lk,lkd->ld", jnp.einsum("lkd,ld->lk", V, g), V)
        norm = jnp.linalg.norm(g, axis=-1, keepdims=True)
        left = norm > 10 * jnp.finfo(x.dtype).eps * size
        g = g * jnp.where(left, 1 / jnp.where(left, norm, 1), 0)
        V = jnp.concatenate([V, g[:, None]], axis=1)
        return V, jnp.concatenate([AV, (g - jvp(g))[:, None]], axis=1)


class SlowSpace(AbstractSubspace):
    """Newton's step, the gradient of `q`, and the directions in which `I - J` is smallest.

    The last are found by inverse iteration on `(I - J)^T (I - J)` with the factorised Jacobian
    (Golub & Van Loan 2013, ch. 8.2): a step is bounded in the directions in which the network is
    slow, and Newton's in all others, in which it is linear enough.
    """

    n_vectors: int

    def span(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        r: Float[Array, "lanes n_states"],
    ) -> tuple[Float[Array, "lanes m n_states"], Float[Array, "lanes m n_states"]]:
        """Return a basis made of solutions with the factorised Jacobian."""
        A = _dense(F, x, inputs)
        n_states = x.shape[1]
        some = np.random.RandomState(0).randn(n_states, self.n_vectors - 3).astype(x.dtype)

        def one(lane: tuple[Array, Array]) -> Array:
            A, r = lane
            factors = jax.scipy.linalg.lu_factor(A)
            forth = _columns_of_length_one(jax.scipy.linalg.lu_solve(factors, some, trans=1))
            slow = jax.scipy.linalg.lu_solve(factors, jnp.column_stack([forth, r]))
            vectors = jnp.column_stack([slow, r, A.T @ r])
            return jnp.linalg.qr(_columns_of_length_one(vectors))[0].T

        V = _one_by_one(one, (A, r))
        return V, jnp.einsum("lij,lkj->lki", A, V)


def _dense(F: Any, x: Array, inputs: Array) -> Float[Array, "lanes n_states n_states"]:
    """Return every lane's `I - J`."""
    eye = jnp.eye(x.shape[-1], dtype=x.dtype)
    return eye - jax.vmap(jax.jacfwd(F))(x, inputs)


def _one_by_one(decompose: Callable[..., Any], lanes: Any) -> Any:
    """Decompose the lanes' matrices one after another, which takes as long as a batch.

    Where the loops of several devices decompose batches at the same time, XLA's threads can come to
    wait for each other for ever.
    """
    return jax.lax.map(decompose, lanes)


def _columns_of_length_one(vectors: Float[Array, "d m"]) -> Float[Array, "d m"]:
    # Where `I - J` is singular, its solutions are not finite.
    vectors = jnp.where(jnp.isfinite(vectors), vectors, 0)
    largest = jnp.max(jnp.abs(vectors), axis=0)
    vectors = vectors / jnp.where(largest > 0, largest, 1)
    norm = jnp.linalg.norm(vectors, axis=0)
    return vectors / jnp.where(norm > 0, norm, 1)


class SubspaceTrustRegion(AbstractRowSolver):
    """The rows' part of `KrylovTrustRegion`: steps in one kind of subspace.

    Attributes:
        subspace: which directions steps may take.
        radius: see `KrylovTrustRegion`, as for the next four.
        patience: how long a row may creep.
        polish: whether a row goes on below `tol_q`.
        dtype: the precision of the linear algebra.
        lanes: how many rows are in work at a time.
        leaves: whether rows end as soon as another subspace would serve them better.
        curvature: whether the model gets the exact curvature of `q` where `q` falls slowly.
    """

    subspace: AbstractSubspace
    radius: Number
    patience: int
    polish: bool
    dtype: Any = eqx.field(static=True)
    lanes: int
    leaves: bool = eqx.field(static=True)
    curvature: bool = eqx.field(static=True)

    @property
    def phase(self) -> str:
        """What a report calls the rows' phase."""
        return type(self.subspace).__name__

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        # Rows differ in how far they dare to go, whatever their order: a portfolio of searches.
        radius = self.radius * np.sqrt(x.shape[-1]) * jnp.exp(2 * _content(x) - 1)
        no, none = jnp.zeros_like(start.end, bool), start.n_iters
        return _State(x, start.q, start.dq, none, start.end, radius.astype(x.dtype), none, no)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Minimise the model of `q` within a few radii at once, and take the longest good step."""
        x, tiny = state.x, jnp.finfo(state.x.dtype).tiny
        F_x, vjp = jax.vjp(lambda x: jax.vmap(F)(x, inputs), x)
        r = F_x - x
        q = half_squared_norm(r)
        scale = jnp.sqrt(jnp.maximum(2 * q, tiny))

        dtype = low_precision(F, x, inputs, self.dtype)
        F_low, x_low, u_low = with_precision(F, dtype), x.astype(dtype), inputs.astype(dtype)

        def network(x: Array, u: Array) -> Array:
            return F_low(x, u).astype(dtype)

        unit = (r / scale[:, None]).astype(dtype)
        V_low, AV_low = self.subspace.span(network, x_low, u_low, unit)
        V, AV = V_low.astype(x.dtype), AV_low.astype(x.dtype)
        m = V.shape[1]

        # In units of the residual's length, `r(x + V y) = r - AV y`.
        B = jnp.einsum("lid,ljd->lij", AV, AV)
        if self.curvature:
            B = B + self._curvature(network, x_low, u_low, V_low, r, state.curved)
        empty = jnp.sum(jnp.square(V), axis=-1) < 0.5
        B = B + jnp.where(empty[:, :, None] & np.eye(m, dtype=bool), 1, 0)
        eigenvalues, Q = _one_by_one(jnp.linalg.eigh, jnp.where(jnp.isfinite(B), B, 0))

        def rotated(v: Array) -> Array:
            return jnp.einsum("lij,...li->...lj", Q, v)

        # At a slow point this is a small difference of large numbers.
        unit = r / scale[:, None]
        gradient = -rotated(jnp.einsum("lmd,ld->lm", V, unit - vjp(unit)[0]))
        radii = state.radius[:, None] * _SHRINK ** np.arange(_N_RADII)
        least = (_UNRESOLVED * float(jnp.finfo(dtype).eps)) ** 2
        y, shift = minimise_within(eigenvalues + least, gradient, radii / scale[:, None])
        shift = shift + least
        predicted = -jnp.sum(
            gradient[:, None] * y + 0.5 * eigenvalues[:, None] * jnp.square(y), axis=-1
        )
        predicted = jnp.square(scale)[:, None] * predicted
        y = scale[:, None, None] * jnp.einsum("lij,ltj->lti", Q, y)

        def moved(y: Array) -> tuple[Array, Array, Array]:
            d = jnp.einsum("ltm,lmd->ltd", y, V)
            x_new = x[:, None] + d
            r_new = jax.vmap(jax.vmap(F, (0, None)))(x_new, inputs) - x_new
            q_new = half_squared_norm(r_new)
            return d, r_new, jnp.where(jnp.isfinite(q_new), q_new, jnp.inf)

        # What the linear model missed is the second derivative along the step, to leading order;
        # corrected for it, the step follows a curved valley (Transtrum & Sethna 2012).
        d, r_new, q_new = moved(y)
        missed = r_new - r[:, None] + jnp.einsum("ltm,lmd->ltd", y, AV)
        projected = jnp.einsum("lmd,ltd->ltm", AV, jnp.where(jnp.isfinite(missed), missed, 0))
        projected = jnp.einsum("lij,lti->ltj", Q, projected)
        inverse = 1 / jnp.maximum(eigenvalues[:, None] + shift[:, :, None], tiny)
        correction = jnp.einsum("lij,ltj->lti", Q, projected * inverse)
        length, extra = jnp.linalg.norm(y, axis=-1), jnp.linalg.norm(correction, axis=-1)
        use = extra <= _LONGEST_CORRECTION * length
        d_2, _, q_2 = moved(y + jnp.where(use[:, :, None], correction, 0))
        lower = q_2 < q_new
        d, q_new = jnp.where(lower[:, :, None], d_2, d), jnp.where(lower, q_2, q_new)

        gain = (q[:, None] - q_new) / jnp.maximum(predicted, tiny)
        good = (gain > 0.1) & (q_new < q[:, None])
        lowest = q_new <= jnp.min(q_new, axis=1, keepdims=True)
        pick = _first(jnp.where(jnp.any(good, axis=1, keepdims=True), good, lowest))

        def picked(a: Array) -> Array:
            return jnp.sum(a, axis=1, where=pick.reshape(*pick.shape, *[1] * (a.ndim - 2)))

        d, q_new, gain, predicted, tried, length = map(
            picked, (d, q_new, gain, predicted, radii, length)
        )
        rounding = 4 * jnp.finfo(q.dtype).eps * scale * (1 + jnp.linalg.norm(x, axis=-1))
        better = (q - q_new > rounding) & (gain > _WORTH)
        at_edge = length >= 0.99 * tried
        wider = jnp.where((gain > 0.75) & at_edge, 2.5 * tried, tried)
        size = jnp.maximum(np.sqrt(x.shape[-1]), jnp.linalg.norm(x, axis=-1))
        wider = jnp.minimum(wider, jnp.maximum(tried, _LONGEST * size))
        shorter = 0.25 * jnp.minimum(tried, length)
        radius = jnp.where(~better | (gain < 0.25), shorter, wider)

        x = jnp.where(better[:, None], x + d, x)
        dq = jnp.where(better, q - q_new, state.dq)
        q_end = jnp.where(better, q_new, q)
        poor = ~(q_end <= 0.5 * q)
        n_poor = jnp.where(poor, state.n_poor + 1, 0)
        curved = state.curved | (n_poor >= _CURVED_AFTER)
        step = _Step(q, predicted, length, tried, better)
        end = self._end(state, stopping, step, x, q_end, n_poor)
        return _State(x, q_end, dq, state.n_iters + 1, end, radius, n_poor, curved)

    def _end(
        self,
        state: _State,
        stopping: Stopping,
        step: "_Step",
        x: Float[Array, "lanes n_states"],
        q: Float[Array, " lanes"],
        n_poor: Int[Array, " lanes"],
    ) -> Int[Array, " lanes"]:
        """Return why rows end that have just come to `x`."""
        inside = step.length < 0.99 * step.radius
        negligible = step_is_negligible(step.length, x) & inside
        root = (negligible & (step.predicted > 0.5 * step.q)) | (q <= rounding_floor(x))
        creeping = step.better & (step.q - q < stopping.tol_dq)
        if self.leaves:
            minimum = jnp.zeros_like(root)
            stuck = (inside & (step.predicted < 0.25 * step.q)) | (n_poor >= _LEAVE_AFTER)
        else:
            minimum = state.curved & inside & (step.predicted < _SETTLED * step.q)
            lost = ~step.better & (step.radius <= 1e-12 * (1 + jnp.linalg.norm(x, axis=-1)))
            stuck = lost | (n_poor >= self.patience)
        stuck |= creeping | ~jnp.isfinite(step.q)
        end = jnp.where(stuck, End.STUCK, End.NONE)
        end = jnp.where(minimum, End.MINIMUM, end)
        end = jnp.where(root, End.ROOT, end)
        return end if self.polish else jnp.where(q < stopping.tol_q, End.TOLERANCE, end)

    def _curvature(
        self,
        F: Callable[[Array, Array], Array],
        x: Float[Array, "lanes n_states"],
        inputs: Float[Array, "lanes n_inputs"],
        V: Float[Array, "lanes m n_states"],
        r: Float[Array, "lanes n_states"],
        curved: Bool[Array, " lanes"],
    ) -> Float[Array, "lanes m m"]:
        """Return `V (sum_i r_i Hess F_i) V^T` of the lanes that ask for it, zero of others."""
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


class KrylovTrustRegion(AbstractSolver):
    """Exact trust-region steps in small subspaces: the default solver.

    Each step minimises a model of `q` exactly within a radius, in a subspace of a few directions
    (Conn, Gould & Toint 2000, ch. 7), and is corrected for the second derivative along it, as
    geodesic acceleration does (Transtrum & Sethna 2012), so that rows follow curved valleys.

    1. In the Krylov space of `I - J` and the residual (Brown & Saad 1990), the model is
       Gauss-Newton's. No Jacobian is formed. Most rows end here, at fixed points.
    2. Rows that this space cannot serve go on in another: up to 256 states that of Newton's step
       and the network's slow directions, from a factorised Jacobian, and beyond, a larger Krylov
       space with the gradient of `q`. Where `q` falls slowly, the model gets the exact curvature of
       `q`, with which slow points are approached as quickly as fixed points.

    Networks of at most `n_vectors` states are searched in the whole space from the start. In
    larger ones, every other row starts from the network's next state, if that has the lower `q`.

    How far the first step may go decides which points are found: long steps leave the basins of
    saddles. It is another for each row, from the row's own state, so that neither the order of rows
    nor their number matters. `q` never rises.

    Attributes:
        n_vectors: the dimension of the Krylov space.
        radius: the first radius, as a part of the root of `n_states`; each row has its own, larger
            or smaller by a factor of up to `e`.
        patience: a row is given up after so many iterations in a row of which each lowered `q` by
            less than half.
        polish: whether a row goes on below `tol_q`, until it is at a fixed point or a slow point.
            Without, it ends as soon as `q` is below `tol_q`: with `tol_q=1e-5`, say, rows stay
            spread along a slow manifold.
        dtype: the precision of the linear algebra; that of the state is float64, if the network
            computes in it.
        lanes: how many rows are in work at a time.
    """

    n_vectors: int = 16
    radius: Number = 0.3
    patience: int = 50
    polish: bool = True
    dtype: Any = eqx.field(static=True, default=np.float32)
    lanes: int = 32

    def __check_init__(self):
        counts = ("n_vectors", "patience", "lanes")
        check_settings(self, numbers=("radius",), counts=counts, flags=("polish",))

    @property
    def refines(self) -> bool:
        """The residual in float64 makes up for linear algebra in less."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Steps are made of products with the Jacobian."""
        return True

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row to its end, in the second space if the first cannot."""
        x = x_init
        if x.shape[1] > self.n_vectors:
            # A few directions cannot hold an initial state's noise in all of them. A step of the
            # network takes off what it forgets at once, but leads away from some saddles.
            F_x = jax.vmap(F)(x, inputs)
            slower = half_squared_norm(F_x - jax.vmap(F)(F_x, inputs)) < half_squared_norm(x - F_x)
            slower &= _content(x) * 2**10 % 1 < 0.5
            x = jnp.where(slower[:, None], F_x, x)
        found = Found.nothing(x)
        left = jnp.ones(x_init.shape[0], bool)
        for solver in self._phases(x_init.shape[1]):
            found = solver.resume(F, found, inputs, stopping, left, report)
            left = (found.end == End.STUCK) & jnp.isfinite(found.q)
        return found

    def _phases(self, n_states: int) -> tuple["SubspaceTrustRegion", ...]:
        def rows(subspace: AbstractSubspace, *, first: bool, **changes: Any) -> SubspaceTrustRegion:
            names = ("radius", "patience", "polish", "dtype", "lanes")
            settings = {name: getattr(self, name) for name in names} | changes
            return SubspaceTrustRegion(
                subspace=subspace, leaves=first, curvature=not first, **settings
            )

        if n_states <= self.n_vectors:
            return (rows(WholeSpace(), first=False, dtype=np.float64),)
        if n_states <= DENSE_LIMIT:
            second: AbstractSubspace = SlowSpace(_N_SLOW)
        else:
            second = GradientKrylovSpace(2 * self.n_vectors)
        return rows(KrylovSpace(self.n_vectors), first=True), rows(second, first=False)


def _first(of: Bool[Array, "lanes tries"]) -> Bool[Array, "lanes tries"]:
    """Return where the first true value of each lane is."""
    # Not by `argmax`, which cannot be lowered in float64 inside another `jit`.
    before = jnp.zeros_like(of[:, 0])
    columns = []
    for column in of.T:
        columns.append(column & ~before)
        before = before | column
    return jnp.stack(columns, axis=1)


def _content(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return a number in [0, 1) for each row, which looks random and depends on nothing else."""
    bits = jax.lax.bitcast_convert_type(x.astype(np.float32), np.uint32)
    weights = 2 * np.arange(x.shape[-1], dtype=np.uint32) + np.uint32(2654435769)
    total = jnp.sum(bits * weights, axis=-1, dtype=np.uint32) * np.uint32(2246822519)
    return (total >> 8).astype(np.float32) / 2**24
