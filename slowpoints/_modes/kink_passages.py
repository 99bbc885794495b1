"""How states pass a slow point at a kink, where the network is linear on either side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core.programs import CompiledOnce
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.linear_dynamics import count_unstable
from slowpoints._modes.slow_direction import DEFECTIVE, slow_direction
from slowpoints._network.base import Transition

_ACROSS = 1e-4
"""So far to both sides of a point, relative to the size of its state, the Jacobians are compared
that differ at a kink: well above the rounding of states in float32."""

_ALIKE = 0.1
"""At a kink, the Jacobian changes over a quarter of the way by as much as over all of it, but for
this share. Where it only bends, it changes by a quarter. The change is that of a single kink if its
second singular value is at most this share of the first."""


class ThroughKink(NamedTuple):
    """Passages through kinks, a row for each point; in pairs, what is before and what is behind."""

    is_at_kink: Any
    is_passage: Any
    rate: Any  # [n, 2], lambda - 1, in continuous time lambda
    length: Any  # [n, 2], along `v`: how far from the kink the speed has doubled
    v: Any  # [n, 2, n_states]
    l: Any  # [n, 2, n_states] # noqa: E741
    n_unstable: Any
    fold_distance: Any


@CompiledOnce
def through_kinks(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    along: Float[Array, " n_inputs"],
    continuous_time: bool,
) -> ThroughKink:
    """Return how states pass points at kinks.

    On either side, the network is taken to be the linear map that it is next to the kink, which has
    a fixed point of its own on the other side, where it is none. States come to the kink along the
    slow direction of the side before it, and leave it along that of the side behind it.
    """

    def one(point: tuple[Array, Array]) -> ThroughKink:
        return _through_kink(F, *point, along, continuous_time)

    return jax.lax.map(one, (x, u))


def _through_kink(
    F: Transition, x: Array, u: Array, along: Array, continuous_time: bool
) -> ThroughKink:
    """Return how states pass one point."""

    def moved(x: Array, u: Array) -> Array:  # how far a state moves per step or unit of time
        return F(x, u) - (0 if continuous_time else x)

    step = moved(x, u)
    speed = jnp.linalg.norm(step)
    size = _ACROSS * jnp.maximum(jnp.linalg.norm(x), jnp.sqrt(1.0 * x.size))
    ahead = size * step / jnp.where(speed > 0, speed, 1)
    sides = jnp.stack([-ahead, ahead])

    def jacobians(offsets: Array) -> Array:
        return jax.vmap(lambda y: jax.jacfwd(moved)(y, u))(x + offsets)

    is_moving = jnp.isfinite(step).all() & (speed > 0)
    is_at_kink, J, change = _kink_between(jacobians, sides, is_moving, x.dtype)
    # change = b w^T, where the kink is at w . (x' - x) = 0.
    b, singular, w = lapack.svd(change)
    is_single = (singular[1:] <= _ALIKE * singular[0]).all()
    w, b = w[0], b[:, 0] * singular[0]
    sign = jnp.where(w @ step < 0, -1, 1).astype(x.dtype)
    w, b = sign * w, sign * b

    before_and_behind = (_side(J[k], w, x.dtype, continuous_time) for k in (0, 1))
    rate, v, l, inverse, unstable, is_simple = (  # noqa: E741
        jnp.stack(pair) for pair in zip(*before_and_behind, strict=True)
    )
    centre = -inverse @ step  # of each side, relative to x
    # Where the line through the centre along `v` crosses the kink.
    before = -(w @ centre[0]) / (w @ v[0])
    crossing = centre[0] + before * v[0]
    behind = l[1] @ (crossing - centre[1])
    length = jnp.stack([-before, behind])
    is_passage = is_at_kink & is_single & is_simple.all() & (rate[0] < 0) & (rate[1] > 0)
    is_passage &= (length > 0).all()
    if not continuous_time:
        is_passage &= rate[0] > -1
    # The input moves the centre and the kink, of which the change of `dF/du` tells by how much.
    by_input = jax.vmap(lambda y: jax.jvp(lambda u: moved(y, u), (u,), (along,))[1])(x + sides)
    kink_moves = b @ (by_input[1] - by_input[0]) / jnp.maximum(b @ b, jnp.finfo(x.dtype).tiny)
    centre_moves = -inverse[0] @ by_input[0]
    fold_distance = -(w @ centre[0]) / (w @ centre_moves + kink_moves)
    return ThroughKink(is_at_kink, is_passage, rate, length, v, l, unstable.max(), fold_distance)


def _kink_between(
    jacobians: Callable[[Array], Array], sides: Array, is_moving: Array, dtype: Any
) -> tuple[Array, Array, Array]:
    """Return whether there is a kink between two sides, the Jacobians there, and their change.

    If there is none, they are the identity, and the change is 0.
    """
    J = jacobians(sides)
    change = J[1] - J[0]
    nearer = jacobians(sides / 4)
    is_finite = jnp.isfinite(J).all() & is_moving
    moves = jnp.linalg.norm(change)
    rounding = jnp.sqrt(jnp.finfo(dtype).eps) * jnp.linalg.norm(J)
    is_at_kink = (
        is_finite
        & (moves > rounding)
        & (jnp.linalg.norm(change - (nearer[1] - nearer[0])) <= _ALIKE * moves)
    )
    J = jnp.where(is_at_kink, J, jnp.eye(J.shape[1], dtype=dtype))  # what LAPACK can take
    return is_at_kink, J, jnp.where(is_at_kink, change, 0)


def _side(J: Array, w: Array, dtype: Any, continuous_time: bool) -> tuple[Any, ...]:
    """Return how states move on one side of a kink, with directions that lead through it.

    Returns:
        The slow rate, its right and left vectors, the inverse of the Jacobian, how many other
        directions are unstable, and whether the slow one is real and single.
    """
    slow = slow_direction(J)
    forwards = jnp.where(w @ slow.v < 0, -1, 1).astype(dtype)
    others = jnp.where(slow.is_slowest, -0.5, slow.rates)  # which is stable
    unstable = count_unstable(others if continuous_time else 1 + others, continuous_time)
    is_simple = jnp.abs(slow.overlap) > DEFECTIVE * jnp.sqrt(jnp.finfo(dtype).eps)
    is_simple &= jnp.all(~slow.is_slowest | (slow.rates.imag == 0))
    directions = forwards * slow.v, forwards * slow.l
    return slow.rate, *directions, lapack.inverse(J), unstable, is_simple
