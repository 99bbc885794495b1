"""Why a row ends."""

import enum

import jax.numpy as jnp
from jaxtyping import Array, Float


class End(enum.IntEnum):
    """What a solver says of a row that it ends."""

    NONE = 0
    ROOT = 1
    MINIMUM = 2
    TOLERANCE = 3
    STUCK = 4


def rounding_floor(x: Float[Array, "*lanes n_states"]) -> Float[Array, "*lanes"]:
    """Return the `q` below which `x - F(x)` is only the rounding of its terms."""
    eps = 2 * jnp.finfo(x.dtype).eps
    return 0.5 * eps**2 * (1 + jnp.sum(jnp.square(x), axis=-1))


def step_is_negligible(length, x):
    eps = jnp.finfo(x.dtype).eps
    return length <= max(1e-8, 10 * eps) * (1 + jnp.linalg.norm(x, axis=-1))
