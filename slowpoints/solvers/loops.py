"""Loops inside `jax.shard_map`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


def varying(carry: Any, with_all: Any) -> Any:
    """Return a loop's start, unchanged, with the type that its end has inside `shard_map`.

    There, an array's type says along which axes of the mesh it varies. Constants do along none,
    and what becomes of them in a loop does along all that some array of `with_all` varies along.
    """
    # A zero made of all arrays, which the compiler sees through.
    zero = jnp.zeros((), int)
    for leaf in jax.tree.leaves(eqx.filter(with_all, eqx.is_array)):
        zero = zero + jnp.where(jnp.any(leaf == leaf), 0, 0)

    def cast(leaf: Array) -> Array:
        return leaf | (zero != 0) if leaf.dtype == bool else leaf + zero.astype(leaf.dtype)

    return jax.tree.map(cast, carry)
