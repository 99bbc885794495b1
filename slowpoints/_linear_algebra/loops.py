"""Loops that run inside `jax.shard_map`, and loops that take the place of a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from slowpoints._core.mesh_axes import alike


def one_after_another(fn: Callable[..., Any], in_batched: Any, arguments: tuple[Any, ...]) -> Any:
    """Apply `fn` to each element of a batch in turn, for use in a rule of `jax.custom_batching`.

    Args:
        fn: the function.
        in_batched: a pytree of the structure of `arguments` that says which leaves have a batch
            axis.
        arguments: the arguments of `fn`. At least one leaf has a batch axis.
    """
    flat, treedef = jax.tree.flatten(arguments)
    flat_b = jax.tree.leaves(in_batched)

    def one(batched: list[Array]) -> Any:
        rest = iter(batched)
        own = [next(rest) if is_b else a for a, is_b in zip(flat, flat_b, strict=True)]
        return fn(*jax.tree.unflatten(treedef, own))

    return jax.lax.map(one, [a for a, is_b in zip(flat, flat_b, strict=True) if is_b])


def varying(carry: Any, with_all: Any) -> Any:
    """Return a loop's initial carry with the type that the carry has after the first iteration.

    Inside `shard_map`, the type of an array includes the mesh axes along which it varies. A
    constant varies along none of them, but the loop combines it with the arrays of `with_all`, and
    from then on it varies along their axes too. The values stay the same.
    """
    leaves, structure = jax.tree.flatten(carry)
    others = jax.tree.leaves(eqx.filter(with_all, eqx.is_array))
    return jax.tree.unflatten(structure, alike([*leaves, *others])[: len(leaves)])


def one_by_one(decompose: Callable[..., Any], lanes: Any) -> Any:
    """Decompose the matrix of each lane in turn, which takes about as long as a batch.

    XLA distributes a batch over its threads, and one of them waits for the others. If two searches,
    or the loops of two devices, do this at the same time, all threads can end up waiting, for ever.
    """
    return jax.lax.map(decompose, lanes)


_AT_A_TIME = 64


def of_first_rows(
    f: Callable[..., Any],
    n_rows: Int[Array, ""],
    rows: tuple[Array, ...],
    at_a_time: int = _AT_A_TIME,
) -> Any:
    """Apply a function of several rows to the first `n_rows`, `at_a_time` of them.

    So the same program serves any number of rows, and those that only fill it up take no time. The
    results for these are zero, or mean nothing.
    """
    n = rows[0].shape[0]
    size = min(at_a_time, n)

    def body(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        start, out = carry
        first = jnp.minimum(start, n - size)
        some = (jax.lax.dynamic_slice_in_dim(a, first, size) for a in rows)
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=first, axis=0)
        return start + size, jax.tree.map(put, out, f(*some))

    like = jax.eval_shape(f, *(a[:size] for a in rows))
    out = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), like)
    carry = varying((jnp.zeros_like(n_rows), out), (n_rows, rows))
    return jax.lax.while_loop(lambda carry: carry[0] < n_rows, body, carry)[1]


def of_first_rows_in_turn(
    f: Callable[..., Any], n_rows: Int[Array, ""], rows: tuple[Array, ...]
) -> Any:
    """Apply a function of one row to each of the first `n_rows`, and compile it for one row only.

    See `of_first_rows`.
    """

    def of_one(*row: Array) -> Any:
        return jax.tree.map(lambda a: a[None], f(*(a[0] for a in row)))

    return of_first_rows(of_one, n_rows, rows, at_a_time=1)
