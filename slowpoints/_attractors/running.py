"""Many states forward, side by side: for a number of steps, or with all states on the way."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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
