"""Loops inside `jax.shard_map`, and in the place of a batch."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


def one_after_another(fn: Callable[..., Any], in_batched: Any, arguments: tuple[Any, ...]) -> Any:
    """Return `fn` of each of a batch of arguments, as the rule of a `jax.custom_batching` needs it.

    Args:
        fn: the function.
        in_batched: which leaves of the arguments have a batch axis, in the arguments' structure.
        arguments: those of `fn`; one leaf at least has a batch axis.
    """
    flat, treedef = jax.tree.flatten(arguments)
    flat_b = jax.tree.leaves(in_batched)

    def one(batched: list[Array]) -> Any:
        rest = iter(batched)
        own = [next(rest) if is_b else a for a, is_b in zip(flat, flat_b, strict=True)]
        return fn(*jax.tree.unflatten(treedef, own))

    return jax.lax.map(one, [a for a, is_b in zip(flat, flat_b, strict=True) if is_b])


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


def one_by_one(decompose: Callable[..., Any], lanes: Any) -> Any:
    """Decompose the lanes' matrices one after another, which takes as long as a batch.

    Where the loops of several devices decompose batches at the same time, XLA's threads can come to
    wait for each other for ever.
    """
    return jax.lax.map(decompose, lanes)
