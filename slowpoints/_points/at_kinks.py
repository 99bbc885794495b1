"""`at_kinks`: at which points the Jacobian jumps, so that it is that of one side."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._core.arrays import in_chunks
from slowpoints._core.programs import CompiledOnce
from slowpoints._linear_algebra.signs import units_of_points
from slowpoints._network.base import Transition
from slowpoints._points.fixed_points import FixedPoints

_REACH = (4e-6, 1e-6)
"""How far slopes are looked at to both sides of a point, as parts of the size of each state. In
float32, a point is known to about a tenth of the shorter one."""

_N_DIRECTIONS = 4
"""A kink runs along none of so many directions."""

_JUMP = 1e-4
"""Slopes jump if they differ by this part of their size. Rounding in float32 is 1e-6, and a unit
that takes a hundredth of a step differs by 1e-2."""

_REMAINS = 0.5
"""Of a jump, this part and more is left at a quarter of the distance; of a bend, a quarter."""

_AT_A_TIME = 16
"""The number of points that the program is compiled for."""


def at_kinks(F: Transition, fps: FixedPoints, x: Array, u: Array) -> Bool[Array, " n"]:
    """Return at which points slopes differ from side to side. Not inside `jit`.

    Args:
        F: the traced network.
        fps: the points, which tell the sizes of states.
        x: `[n, n_states]` the points.
        u: `[n, n_inputs]` their inputs.
    """
    unit = np.broadcast_to(np.asarray(units_of_points(fps), x.dtype), x.shape)
    return in_chunks(_at_kinks, F, _AT_A_TIME, x, u, jnp.asarray(unit))


@CompiledOnce
def _at_kinks(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    unit: Float[Array, "n n_states"],
) -> Bool[Array, " n"]:
    signs = np.random.RandomState(0).choice([-1.0, 1.0], (_N_DIRECTIONS, x.shape[1]))

    def one(x: Array, u: Array, unit: Array) -> Array:
        def slope(at: Array, along: Array) -> Array:
            return jax.jvp(lambda x: F(x, u), (at,), (along,))[1] / unit

        def jumps(along: Array) -> Array:
            reach = jnp.asarray([*_REACH, *(-part for part in _REACH)], x.dtype)
            slopes = jax.vmap(lambda part: slope(x + part * along, along))(reach)
            far, near = jnp.max(jnp.abs(slopes[:2] - slopes[2:]), axis=1)
            return (near > _JUMP * jnp.max(jnp.abs(slopes))) & (near > _REMAINS * far)

        return jnp.any(jax.vmap(jumps)(unit * jnp.asarray(signs, x.dtype)))

    return jax.vmap(one)(x, u, unit)
