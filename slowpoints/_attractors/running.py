"""Many states forward, side by side: for a number of steps, or with all states on the way."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._connections.refined_points import enabled
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision


def run(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    n_steps: int,
) -> Float[np.ndarray, "n n_states"]:
    """Return the states after a number of steps, in the precision of `x`."""
    if len(x) == 0 or n_steps == 0:
        return x
    rows = np.arange(n_of_program(len(x))) % len(x)
    with enabled(x.dtype):
        F = with_precision(F, x.dtype)
        end = _run(F, jnp.asarray(x[rows]), jnp.asarray(u[rows]), jnp.asarray(n_steps, np.int32))
        return np.asarray(end)[: len(x)]


def trajectories(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    n_samples: int,
    stride: int | Int[np.ndarray, " n_samples"] = 1,
) -> Float[np.ndarray, "n n_samples n_states"]:
    """Return the next states of each row, `stride` steps apart, in the precision of `x`."""
    rows = np.arange(n_of_program(len(x))) % max(len(x), 1)
    strides = np.broadcast_to(np.asarray(stride, np.int32), n_samples)
    with enabled(x.dtype):
        F = with_precision(F, x.dtype)
        found = _trajectories(F, *map(jnp.asarray, (x[rows], u[rows], strides)))
        return np.moveaxis(np.asarray(found), 0, 1)[: len(x)]


def vanished(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    n_steps: int,
) -> Bool[np.ndarray, "n n_states"]:
    """Return which entries become zero, nearly, because they were too small for the numbers."""
    rows = np.arange(n_of_program(len(x))) % max(len(x), 1)
    with enabled(x.dtype):
        F = with_precision(F, x.dtype)
        arguments = jnp.asarray(x[rows]), jnp.asarray(u[rows]), jnp.asarray(n_steps, np.int32)
        return np.asarray(_vanished(F, *arguments))[: len(x)]


def least_with_all_digits(dtype: Any) -> float:
    """Return the size below which the last digits of numbers are too small for a precision."""
    info = np.finfo(dtype)
    return float(info.tiny / info.eps)


def n_of_program(n: int) -> int:
    """Return for how many rows the program is compiled that runs so many: a power of four.

    Rows that have settled leave, and in few sizes little is compiled for those that are left.
    """
    return 4 ** math.ceil(math.log(max(n, 1), 4) - 1e-9)


@functools.partial(CompiledOnce, runs="long")
def _run(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    n_steps: Int[Array, ""],
) -> Float[Array, "n n_states"]:
    return _after(F, x, u, n_steps)


def _after(F: Transition, x: Array, u: Array, n_steps: Int[Array, ""]) -> Array:
    def step(_: Any, x: Array) -> Array:
        return jax.vmap(F)(x, u).astype(x.dtype)

    return jax.lax.fori_loop(0, n_steps, step, x)


@functools.partial(CompiledOnce, runs="long")
def _trajectories(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    strides: Int[Array, " n_samples"],
) -> Float[Array, "n_samples n n_states"]:
    def sample(x: Array, stride: Array) -> tuple[Array, Array]:
        x = _after(F, x, u, stride)
        return x, x

    return jax.lax.scan(sample, x, strides)[1]


@functools.partial(CompiledOnce, runs="long")
def _vanished(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    n_steps: Int[Array, ""],
) -> Bool[Array, "n n_states"]:
    # The square of such a number is none, and no step takes much more than the square of one.
    small, least = jnp.sqrt(jnp.finfo(x.dtype).tiny), least_with_all_digits(x.dtype)

    def step(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        before, lost = state
        x = jax.vmap(F)(before, u).astype(before.dtype)
        return x, (jnp.abs(x) < least) & (lost | ((before != 0) & (jnp.abs(before) < small)))

    return jax.lax.fori_loop(0, n_steps, step, (x, jnp.zeros(x.shape, bool)))[1]
