"""Newton's method for a minimum of `q` at a kink, as of a ReLU unit, where `q` has no gradient."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._network.network import may_have_kinks
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.curvature import residual_and_curvature
from slowpoints._solvers.termination import End, rounding_of_q

_PLACE = 1e-7
"""Of the state's size: a row ends after a step that is no longer than this."""

_MOST = 30
"""So many steps a row takes at most."""

_PROBES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""Of the state's size: so far to both sides, along the gradient of `q`, kinks are looked for. The
steps before end next to them, but not on them. The last is there to tell kinks from bends."""

_JUMP = 1e-3
"""A slope has a kink between two places if it changes by more than this fraction of itself."""

_BEND = 5.0
"""And if it changes by less than this many times as much between places ten times as far apart:
where it has no kink, it changes by ten times as much."""

_KINKS = 12
"""So many kinks may meet where a row ends."""

_LEFT = 1e-3
"""Of the change of the Jacobian from one side to the other, at most this fraction is no kink's."""

_BESIDE = 1e-6
"""Of the state's size: so far from a kink it is looked whether `q` rises with the distance."""

_N_AROUND = 96
"""In so many directions."""

_ZERO, _N_COMBINED = 1e-2, 300
"""Of the longest gradient beside kinks: a convex combination of them that is no longer than this is
zero, and so many steps are taken to find the shortest."""

_FIRST_SHIFT, _LARGER = 1e-6, 30.0
"""What is added to the Hessian of `q` where it is not positive definite, as a fraction of its mean
diagonal, and by how much that grows each time."""

_GOLDEN, _SECTIONS = (5**0.5 - 1) / 2, 42
"""The golden section, and how many take 1 to below `1e-8`."""

_MATRICES = 12
"""How many matrices of `n_states` x `n_states` float64 each lane holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    shift: Float[Array, " lanes"]
    n_steps: Int[Array, " lanes"]
    probe: Int[Array, " lanes"]  # kinks are looked for as far away as this one of `_PROBES`


class _Sides(NamedTuple):
    """What there is on both sides of kinks, if there are some."""

    q: Float[Array, "*lanes"]
    found: Bool[Array, "*lanes"]  # whether there are some
    understood: Bool[Array, "*lanes"]  # whether what changes from side to side is due to them
    probe: Int[Array, "*lanes"]  # which of the probes has found them
    normals: Float[Array, "*lanes kinks n_states"]  # orthonormal, or zero
    beyond: Float[Array, "*lanes kinks"]  # how far the state is beyond the kinks, along these
    descent: Float[Array, "*lanes n_states"]  # minus the gradient of `q`, as on the first side
    hessian: Float[Array, "*lanes n_states n_states"]  # of `q`, on the first side
    lowest: Bool[Array, "*lanes"]  # whether `q` rises with the distance from the kinks
    away: Float[Array, "*lanes n_states"]  # if not, a way on which it falls


class KinkNewton(AbstractRowSolver):
    """Newton's method for minima of `q` on a kink, or where up to twelve of them meet.

    From one side of kinks to the other, the Jacobian changes by a matrix whose rows are spanned by
    the kinks' normals. So Jacobians on both sides tell where the kinks are, and Newton's method
    with that as a constraint (Nocedal & Wright 2006, ch. 18.1) leads to where `q` has no slope
    along them. There `q` has a minimum if zero is a convex combination of its gradients in the
    regions that meet (Clarke 1983), and it rises in all directions. Otherwise the row leaves some
    of the kinks along the shortest combination, on which it falls (Burke, Lewis & Overton 2005).
    Both are looked at in 96 directions.

    Attributes:
        polish: whether a row goes on below `tol_q`.
        lanes: how many rows are in work at a time.
    """

    polish: bool
    lanes: int = 1

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the Jacobians and Hessians of both sides take."""
        return super().bytes_per_lane(n_states) + 8 * _MATRICES * n_states**2

    def concerns(self, F: Transition) -> bool:
        """Return whether the network may have kinks."""
        return may_have_kinks(F)

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        none, zero = start.n_iters, jnp.zeros_like(start.q)
        return _State(x, start.q, zero, none, start.end, zero, none, none)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Go to the kinks that are there, and along them to the lowest `q` on Newton's way."""
        eye = jnp.eye(state.x.shape[-1], dtype=state.x.dtype)
        sides = jax.vmap(partial(_both_sides, F))(state.x, inputs, state.probe)
        size = jnp.abs(jnp.trace(sides.hessian, axis1=-2, axis2=-1)) / len(eye)
        H = sides.hessian + (state.shift * size)[:, None, None] * eye
        d = jax.vmap(_step_along)(H, sides)
        finite = jnp.all(jnp.isfinite(d), axis=-1)
        x_size = 1 + jnp.linalg.norm(state.x, axis=-1)
        settled = finite & (jnp.linalg.norm(d, axis=-1) <= _PLACE * x_size)
        start = state.x - jnp.einsum("lk,lkn->ln", sides.beyond, sides.normals)
        way = jnp.where(finite[:, None], state.x + d - start, 0)
        way = jnp.where((settled & ~sides.lowest)[:, None], sides.away, way)
        x, q = jax.vmap(partial(_lowest_on, F))(start, way, inputs)

        # A row that has left a kink may end where there is none; others have nothing to do here.
        concerned = sides.understood & (sides.found | (state.n_steps > 0))
        lower = finite & concerned & (q <= sides.q + rounding_of_q(q, x))
        far = jnp.linalg.norm(x - state.x, axis=-1) > _PLACE * x_size
        # A row that gets no further may be where other kinks are, too, but not as exactly.
        further = jnp.where(finite, sides.probe + 1, state.probe)
        probe = jnp.where(lower & far, 0, further)
        shift = jnp.where(finite, 0, jnp.maximum(_FIRST_SHIFT, _LARGER * state.shift))

        n_iters, n_steps = state.n_iters + 1, state.n_steps + 1
        lost = ~concerned | (probe >= len(_PROBES) - 1) | (settled & ~sides.found)
        lost |= (n_steps >= _MOST) | (n_iters >= stopping.max_iters)
        end = jnp.where(lost, End.STUCK, End.NONE)
        at_kink = settled & lower & sides.found & sides.lowest
        end = jnp.where(at_kink, End.KINK, end)
        dq = jnp.where(lower, sides.q - q, state.dq)
        x, q = jnp.where(lower[:, None], x, state.x), jnp.where(lower, q, sides.q)
        if not self.polish:
            end = jnp.where(q < stopping.tol_q, End.TOLERANCE, end)
        return _State(x, q, dq, n_iters, end, shift, n_steps, probe)


def _lowest_on(
    F: Transition,
    start: Float[Array, " n_states"],
    way: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
) -> tuple[Float[Array, " n_states"], Float[Array, ""]]:
    """Return where `q` is lowest from `start` to the end of the way, and that `q`.

    By golden sections (Nocedal & Wright 2006, ch. 3.5): where the way crosses another kink, that is
    where `q` is often lowest, and there the next step has to find it.
    """

    def q_at(t: Array) -> Array:
        x = start + t * way
        return half_squared_norm(F(x, u) - x)

    def shrink(ends: Array, _: None) -> tuple[Array, None]:
        low, high = ends
        inner = jnp.stack([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)])
        q = jax.vmap(q_at)(inner)
        left = q[0] < q[1]
        return jnp.where(left, jnp.stack([low, inner[1]]), jnp.stack([inner[0], high])), None

    ends = varying(jnp.array([0, 1], start.dtype), (F, start, way, u))
    (low, high), _ = jax.lax.scan(shrink, ends, None, length=_SECTIONS)
    parts = jnp.stack([jnp.ones_like(low), (low + high) / 2, jnp.zeros_like(low)])
    q = jax.vmap(q_at)(parts)
    best = _where_largest(-jnp.where(jnp.isfinite(q), q, jnp.inf))
    return start + parts[best] * way, q[best]


def _step_along(H: Float[Array, "n_states n_states"], sides: _Sides) -> Float[Array, " n_states"]:
    """Return the step to the kinks that leads down along them."""
    C = sides.normals
    right = jnp.concatenate([sides.descent[:, None], C.T], axis=1)
    solutions = lapack.cholesky_solve(lapack.cholesky(H), right)
    along, across = solutions[:, 0], solutions[:, 1:]
    unused = jnp.diag(jnp.sum(jnp.square(C), axis=1) < 0.5).astype(H.dtype)
    factor = lapack.cholesky(C @ across + unused)
    return along - across @ lapack.cholesky_solve(factor, C @ along + sides.beyond)


def _both_sides(
    F: Transition,
    x: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    first_probe: Int[Array, ""],
) -> _Sides:
    """Look for kinks, and at both sides of them."""
    F_x, vjp = jax.vjp(lambda x: F(x, u), x)
    r = F_x - x
    descent = r - vjp(r)[0]
    length = jnp.linalg.norm(descent)
    direction = descent / jnp.where(length > 0, length, 1)
    x_size = 1 + jnp.linalg.norm(x)
    distances = x_size * jnp.asarray(_PROBES, x.dtype)

    def slope(t: Array) -> Array:
        """Return how the residual changes along the direction, at a distance."""
        return jax.jvp(lambda x: F(x, u), (x + t * direction,), (direction,))[1] - direction

    n = len(_PROBES)
    slopes = jax.vmap(slope)(jnp.concatenate([distances, -distances]))
    jump = jnp.linalg.norm(slopes[:n] - slopes[n:], axis=1)
    sizes = jnp.linalg.norm(slopes[:n], axis=1) + jnp.linalg.norm(slopes[n:], axis=1)
    has_kink = (jump > _JUMP * sizes)[:-1] & (jump[1:] <= _BEND * jump[:-1])
    has_kink &= jnp.arange(n - 1) >= first_probe
    probe = jax.lax.argmax(has_kink, 0, jnp.int32)
    h = distances[probe]

    def side(t: Array) -> tuple[Array, Array, Array]:
        r, _, A, H = residual_and_curvature(F, x + t * direction, u)
        return r + t * (A @ direction), A, H  # the residual as this side would go on to `x`

    r, A, H = jax.lax.map(side, jnp.stack([h, -h]))
    # On the kinks, both sides have the same residual: there, `change @ step` is minus `offset`.
    found = jnp.any(has_kink)
    change, offset = jnp.where(found, A[1] - A[0], 0), r[0] - r[1]
    normals, left = _rows_spanned(change)
    columns = change @ normals.T
    unused = jnp.diag(jnp.sum(jnp.square(columns), axis=0) == 0).astype(x.dtype)
    factor = lapack.cholesky(columns.T @ columns + unused)
    beyond = lapack.cholesky_solve(factor, columns.T @ offset)
    understood = (left <= _LEFT) & jnp.all(jnp.isfinite(beyond))
    lowest, away = _around(F, x, u, x_size, normals, beyond, A[0])
    q = half_squared_norm(F_x - x)
    descent = A[0].T @ r[0]
    return _Sides(q, found, understood, probe, normals, beyond, descent, H[0], lowest, away)


def _around(
    F: Transition,
    x: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    x_size: Float[Array, ""],
    normals: Float[Array, "kinks n_states"],
    beyond: Float[Array, " kinks"],
    A: Float[Array, "n_states n_states"],
) -> tuple[Bool[Array, ""], Float[Array, " n_states"]]:
    """Return whether `q` rises all around the place on the kinks, and if not, where it falls."""

    def gradient(y: Array) -> Array:
        F_y, vjp = jax.vjp(lambda y: F(y, u), y)
        r = F_y - y
        return vjp(r)[0] - r

    around = jnp.asarray(_directions(), x.dtype) @ normals
    gradients = jax.vmap(gradient)(x - beyond @ normals + _BESIDE * x_size * around)
    shortest = _shortest_combination(gradients @ normals.T)
    longest = jnp.max(jnp.linalg.norm(gradients @ normals.T, axis=1))
    is_zero = jnp.linalg.norm(shortest) <= _ZERO * longest
    rises = jnp.sum(gradients * around, axis=1)
    steepest = around[_where_largest(-rises)]
    away = jnp.where(is_zero, steepest, -shortest @ normals)
    # Twice as far as to where `q` would be lowest if nothing else changed.
    fall = -jnp.dot(away, gradients[_where_largest(around @ away)])
    bend = jnp.sum(jnp.square(A @ away))
    away = jnp.where(bend > 0, 2 * fall / jnp.where(bend > 0, bend, 1), 0) * away
    return is_zero & jnp.all(rises >= 0), away


def _where_largest(values: Float[Array, " n"]) -> Int[Array, ""]:
    # `argmax` of numbers cannot be lowered in float64 inside another `jit`.
    return jax.lax.argmax(values >= jnp.max(values), 0, jnp.int32)


def _shortest_combination(vectors: Float[Array, "m k"]) -> Float[Array, " k"]:
    """Return the shortest convex combination of vectors (Frank & Wolfe 1956)."""

    def nearer(w: Array, _: None) -> tuple[Array, None]:
        change = vectors[_where_largest(-(vectors @ w))] - w
        squared = jnp.sum(jnp.square(change))
        part = -jnp.dot(w, change) / jnp.where(squared > 0, squared, 1)
        return w + jnp.clip(part, 0, 1) * change, None

    return jax.lax.scan(nearer, vectors[0], None, length=_N_COMBINED)[0]


def _rows_spanned(
    matrix: Float[Array, "n_states n_states"],
) -> tuple[Float[Array, "kinks n_states"], Float[Array, ""]]:
    """Return an orthonormal basis of a matrix's rows, and what part of the matrix is not in it."""
    whole = jnp.linalg.norm(matrix)

    def take_one(left: Array, _: None) -> tuple[Array, Array]:
        sizes = jnp.sum(jnp.square(left), axis=1)
        row = left[_where_largest(sizes)]
        size = jnp.linalg.norm(row)
        used = size > 0.1 * _LEFT * whole
        vector = jnp.where(used, row / jnp.where(used, size, 1), 0)
        return left - (left @ vector)[:, None] * vector, vector

    left, vectors = jax.lax.scan(take_one, matrix, None, length=_KINKS)
    return vectors, jnp.linalg.norm(left) / jnp.where(whole > 0, whole, 1)


@cache
def _directions() -> Float[np.ndarray, "around kinks"]:
    """Return the directions in which it is looked around, in terms of the normals."""
    axes = np.concatenate([np.eye(_KINKS), -np.eye(_KINKS)])
    others = np.random.default_rng(0).standard_normal((_N_AROUND - len(axes), _KINKS))
    return np.concatenate([axes, others / np.linalg.norm(others, axis=1, keepdims=True)])
