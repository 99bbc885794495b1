"""How long steps may be: the first radius differs from row to row, and all radii are bounded."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.types import Number

_LONGEST = 0.25
"""Radii grow up to this multiple of the square root of `n_states`, or of the state's norm if that
is larger. Longer steps end in other basins of attraction, and lose saddles of trained GRUs."""


def first_radius(x: Float[Array, "lanes n_states"], part: Number) -> Float[Array, " lanes"]:
    """Return `part * sqrt(n_states)` for each row, times a factor of its own from `1/e` to `e`.

    The factor depends only on the state of the row, and not on its place. Bold and cautious rows
    together make a portfolio of searches, which finds more points than any single radius.
    """
    radius = part * np.sqrt(x.shape[-1]) * jnp.exp(2 * drawn(x) - 1)
    return radius.astype(x.dtype)


def longest_radius(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return the largest radius that each row may reach."""
    return _LONGEST * typical_length(x)


def typical_length(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return the square root of `n_states`, or the state's norm if that is larger."""
    return jnp.maximum(np.sqrt(x.shape[-1]), jnp.linalg.norm(x, axis=-1))


def drawn(x: Float[Array, "lanes n_states"]) -> Float[Array, " lanes"]:
    """Return a number in [0, 1) for each row, which looks random and depends on the row alone."""
    bits = jax.lax.bitcast_convert_type(x.astype(np.float32), np.uint32)
    weights = 2 * np.arange(x.shape[-1], dtype=np.uint32) + np.uint32(2654435769)
    total = jnp.sum(bits * weights, axis=-1, dtype=np.uint32) * np.uint32(2246822519)
    return (total >> 8).astype(np.float32) / 2**24
