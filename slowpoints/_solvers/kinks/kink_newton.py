"""Newton's method for minima of `q` at kinks, as of ReLU units, where `q` has no gradient."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import of_first_rows, varying
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping
from slowpoints._solvers.kinks.corner import Corner, Held, corner_at, first
from slowpoints._solvers.kinks.sides import Sides, has_sides
from slowpoints._solvers.termination import End, rounding_of_q

_PLACE, _GAIN = 1e-7, 1e-6
"""Of the state's size: a row ends after a step that is no longer than this, if `q` has a slope
along it that changes it by no more than this part."""

_NO_STEP = 1e-9
"""Of the state's size: a step that is no longer than this is none, if `q` stays the same."""

_MOST, _MOST_ALONE = 300, 40
"""So many steps a row takes at most, and so many before it meets a kink: one for each kink that it
comes to or leaves, of which there are some 100 on the way through 256 random units."""

_MOST_WAITS = 15
"""A row takes so many steps while it stays where it is, until it is looked at."""

_BESIDE, _N_BESIDE = (1e-6, 1e-8), 64
"""Of the state's size: so far from a corner it is looked whether `q` rises, in so many directions
off several kinks, in as many others, and in those off one kink."""

_AT_A_TIME = 64
"""In so many of these directions it is looked at a time."""

_AWAY = 1e-2
"""Of the state's size: so far, at most, a row goes in a direction in which `q` falls."""

_FIRST_SHIFT, _LARGER, _SMALLER = 1e-6, 30.0, 0.1
"""What is added to the Hessian of `q` where it is not positive definite, as a fraction of its mean
diagonal, and by how much that grows each time, and shrinks after a step."""

_SECTIONS, _PARTS = 11, 9
"""So many times, the part of a way on which `q` is lowest is divided into so many."""

_MATRICES = 30
"""How many matrices of `n_states` x `n_states` float64 each lane holds."""


class _State(NamedTuple):
    x: Float[Array, "*lanes n_states"]
    q: Float[Array, "*lanes"]
    dq: Float[Array, "*lanes"]
    n_iters: Int[Array, "*lanes"]
    end: Int[Array, "*lanes"]
    shift: Float[Array, "*lanes"]
    n_steps: Int[Array, "*lanes"]
    met: Bool[Array, "*lanes"]  # whether the row has been at a kink
    n_waits: Int[Array, "*lanes"]  # so many steps the row has been where it is
    held: Held


class KinkNewton(AbstractRowSolver):
    """Newton's method for minima of `q` on kinks, and where many of them meet.

    On given sides of its kinks, the network is smooth. A row that some kinks hold takes Newton's
    step along these, to where `q` is lowest on the way. Often that is at another kink, which holds
    it from then on: this is the method of active sets (Nocedal & Wright 2006, ch. 16.5). Where the
    step is zero, `q` is looked at in many directions around. If it falls in one, the row goes there
    and no kink holds it any more. If it rises in all, zero is a convex combination of the gradients
    around, and the row is at a minimum (Clarke 1983).

    Attributes:
        polish: whether a row goes on below `tol_q`.
        lanes: how many rows are in work at a time.
    """

    polish: bool
    lanes: int = 1

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the Hessian, the normals and what is made of them take."""
        return super().bytes_per_lane(n_states) + 8 * _MATRICES * n_states**2

    def concerns(self, F: Transition) -> bool:
        """Return whether the network's program shows kinks."""
        return has_sides(F)

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`, which no kink holds."""
        start = Found.nothing(x)
        none, zero = start.n_iters, jnp.zeros_like(start.q)
        nowhere = jnp.zeros(zero.shape, bool)
        held = Held.none(x)
        return _State(x, start.q, zero, none, start.end, zero, none, nowhere, none, held)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Go along the kinks that hold each row, or leave them."""
        kinks = Sides(F, state.x[0], inputs[0])
        state = jax.vmap(partial(_step, F, kinks))(state, inputs)
        n_iters, n_steps = state.n_iters + 1, state.n_steps + 1
        over = n_steps >= jnp.where(state.met, _MOST, _MOST_ALONE)
        over |= n_iters >= stopping.max_iters
        end = jnp.where((state.end == End.NONE) & over, End.STUCK, state.end)
        if not self.polish:
            end = jnp.where(state.q < stopping.tol_q, End.TOLERANCE, end)
        return state._replace(n_iters=n_iters, end=end, n_steps=n_steps)


def _step(F: Transition, kinks: Sides, state: _State, u: Float[Array, " n_inputs"]) -> _State:
    """Return the state of one row after a step, or after a change of what holds it."""
    x, x_size = state.x, 1 + jnp.linalg.norm(state.x)
    corner = corner_at(kinks, x, u, state.held)
    d = _step_along(corner, state.shift)
    is_finite = jnp.all(jnp.isfinite(d))
    small = jnp.linalg.norm(d) <= _PLACE * x_size
    small &= jnp.abs(corner.descent @ d) <= _GAIN * corner.q + rounding_of_q(corner.q, x)
    # A row is looked at where it is if no step leads on. Where more kinks meet than there are
    # directions, what holds it is not unique, and it may take up one after another.
    over = is_finite & (state.n_waits >= _MOST_WAITS)
    waits = ~over & (~is_finite | jnp.any(corner.redundant))

    settled = over | (small & ~waits & (state.shift <= _FIRST_SHIFT))
    rises, away = _all_around(F, corner, d, settled, x + jnp.where(small, d, 0), u, x_size)
    goes_away = settled & ~rises
    way = jnp.where(goes_away, away, jnp.where(waits, 0, d))
    y, new_q, q, part, width = _lowest_on(F, x, way, u)
    lower = new_q <= q + rounding_of_q(q, x)
    y, new_q = jnp.where(lower, y, x), jnp.where(lower, new_q, q)
    moved = jnp.linalg.norm(y - x) > _NO_STEP * x_size
    moved |= q - new_q > _GAIN * q + rounding_of_q(q, x)

    held = corner.held.without(corner.redundant | goes_away)
    met, is_new = _met(kinks, x, way, part, width, u, held)
    held = jax.tree.map(lambda a, b: jnp.where(waits, a, b), held, met)

    ends = settled & (rises | ~moved)
    at_kink = rises & jnp.any(corner.leads) & ~corner.is_torn
    stays = ~(waits | moved | is_new | (state.shift > _FIRST_SHIFT))
    n_waits = jnp.where(stays, _MOST_WAITS, state.n_waits + 1)
    smaller = jnp.where(state.shift > _FIRST_SHIFT, _SMALLER * state.shift, 0)
    return state._replace(
        x=y,
        q=new_q,
        dq=q - new_q,
        end=jnp.where(ends, jnp.where(at_kink, End.KINK, End.STUCK), End.NONE),
        shift=jnp.where(is_finite, smaller, jnp.maximum(_FIRST_SHIFT, _LARGER * state.shift)),
        met=state.met | jnp.any(held.holds),
        n_waits=jnp.where(moved, 0, n_waits),
        held=held,
    )


def _step_along(corner: Corner, shift: Float[Array, ""]) -> Float[Array, " n_states"]:
    """Return Newton's step to the kinks and along them."""
    H, basis = corner.hessian, corner.basis
    scale = jnp.abs(jnp.trace(H)) / len(H)
    along = corner.along(corner.along(H).T) + scale * basis @ basis.T
    factor = lapack.cholesky(along + shift * scale * jnp.eye(len(H), dtype=H.dtype))
    descent = corner.along(corner.descent - H @ corner.across)
    return corner.across + corner.along(lapack.cholesky_solve(factor, descent))


def _lowest_on(
    F: Transition,
    x: Float[Array, " n_states"],
    way: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
) -> tuple[Float[Array, " n_states"], Array, Array, Array, Array]:
    """Return where `q` is lowest on a way, that `q`, `q` at `x`, at which part, and how exactly."""

    def q_at(t: Array) -> Array:
        y = x + t * way
        q = half_squared_norm(F(y, u) - y)
        return jnp.where(jnp.isfinite(q), q, jnp.inf)

    def shrink(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = ends
        parts = low + (high - low) * jnp.arange(_PARTS + 1) / _PARTS
        best = _where_lowest(jax.vmap(q_at)(parts))
        return (parts[jnp.maximum(best - 1, 0)], parts[jnp.minimum(best + 1, _PARTS)]), None

    ends = varying((jnp.zeros((), x.dtype), jnp.ones((), x.dtype)), (F, x, way, u))
    (low, high), _ = jax.lax.scan(shrink, ends, None, length=_SECTIONS)
    parts = jnp.stack([jnp.ones_like(low), (low + high) / 2, jnp.zeros_like(low)])
    q = jax.vmap(q_at)(parts)
    best = _where_lowest(q)
    return x + parts[best] * way, q[best], q[-1], parts[best], high - low


def _met(
    kinks: Sides,
    x: Float[Array, " n_states"],
    way: Float[Array, " n_states"],
    part: Float[Array, ""],
    width: Float[Array, ""],
    u: Float[Array, " n_inputs"],
    held: Held,
) -> tuple[Held, Bool[Array, ""]]:
    """Return the kinks that hold a row after a way, and whether it has met any of them there."""
    ends = part + width * jnp.array([-1, 1])
    before, after = jax.vmap(lambda t: kinks.natural(x + t * way, u))(ends)
    new = ((before != after) & (part < 1)).at[held.kink].set(False, mode="drop")
    old = jnp.zeros(kinks.n, bool).at[held.kink].set(held.holds, mode="drop")
    upper = jnp.zeros(kinks.n, bool).at[held.kink].set(held.upper, mode="drop")
    in_use = 2 * old.astype(np.int32) + new  # the old ones first
    n_slots = held.kink.size
    in_use, kink = jax.lax.top_k(in_use, min(kinks.n, n_slots))
    empty = (0, n_slots - kink.size)
    in_use, kink, upper = (jnp.pad(a, empty) for a in (in_use, kink, upper[kink]))
    return Held(kink, upper & (in_use > 0)).without(in_use == 0), jnp.any(new)


def _all_around(
    F: Transition,
    corner: Corner,
    d: Float[Array, " n_states"],
    asked: Bool[Array, ""],
    x: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    x_size: Float[Array, ""],
) -> tuple[Bool[Array, ""], Float[Array, " n_states"]]:
    """Return whether `q` rises all around a corner, and if not, a way on which it falls."""
    any_ways = np.random.default_rng(0).standard_normal((2, _N_BESIDE, x.size))
    several, others = _of_length_one(jnp.asarray(any_ways, x.dtype))
    off = _of_length_one(corner.ways_off())
    down = _of_length_one(jnp.stack([jnp.zeros_like(d), d, corner.along(corner.descent)]))
    ways = jnp.concatenate([down, off, -off, _of_length_one(several @ off), others])
    lengths = x_size * jnp.array(_BESIDE, x.dtype)

    def q_along(ways: Array) -> Array:
        at = x + lengths[:, None, None] * ways
        return jax.vmap(jax.vmap(lambda x: half_squared_norm(F(x, u) - x)))(at).min(axis=0)

    n_asked = jnp.where(asked, len(ways), 0).astype(np.int32)
    q = of_first_rows(q_along, n_asked, (ways,), _AT_A_TIME)
    return jnp.all(q >= q[0] - rounding_of_q(q[0], x)), _AWAY * x_size * ways[_where_lowest(q)]


def _of_length_one(rows: Float[Array, "*n n_states"]) -> Float[Array, "*n n_states"]:
    lengths = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / jnp.where(lengths > 0, lengths, 1)


def _where_lowest(values: Float[Array, " n"]) -> Int[Array, ""]:
    return first(values <= jnp.min(values))
