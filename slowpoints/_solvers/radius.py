"""How far steps may go: the first ones another way for each row, and none into other basins."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.types import Number

_LONGEST = 0.25
"""No radius grows beyond this part of the root of `n_states`, or of a longer state: longer steps
come down in other basins, and a trained GRU of 16 units lost saddles."""


def first_radius(x: Float[Array, "lanes n_states"], part: Number) -> Float[Array, " lanes"]:
    """Return `part` times the root of `n_states`, times another factor `1/e ... e` for each row.

    Rows differ in how far they dare to go, whatever their order: a portfolio of searches.
    """
    radius = part * np.sqrt(x.shape[-1]) * jnp.exp(2 * drawn(x) - 1)
    return radius.astype(x.dtype)


def longest_radius(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return how far radii may grow."""
    return _LONGEST * jnp.maximum(np.sqrt(x.shape[-1]), jnp.linalg.norm(x, axis=-1))


def drawn(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return a number in [0, 1) for each row, which looks random and depends on the row alone."""
    bits = jax.lax.bitcast_convert_type(x.astype(np.float32), np.uint32)
    weights = 2 * np.arange(x.shape[-1], dtype=np.uint32) + np.uint32(2654435769)
    total = jnp.sum(bits * weights, axis=-1, dtype=np.uint32) * np.uint32(2246822519)
    return (total >> 8).astype(np.float32) / 2**24
