"""Fixed points as exactly as a network's precision allows, their sizes, speeds and spacing."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._core.arrays import power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_by_one
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64, with_precision

SIZE = 1.0
"""States are given in units of their own size (`InUnits`), so this is the size of a typical one. It
counts for those that are at the origin, where a network rounds as elsewhere."""

_COPIES = 100
"""Copies of a point differ by so many units in the last place, after Newton's method, or less."""

GIVEN = 1e-3
"""An attractor is refined by no more than this, relative to its size: it is a point that was found,
and not just a state that leads to one."""


def working_dtype(F: Transition, x: RealArray, u: RealArray) -> np.dtype[Any]:
    """Return float64, or the type of `x` if the network does not compute in float64."""
    narrow = jnp.asarray(x)
    wide = computes_in_float64(F)
    return np.dtype(np.float64) if wide else np.dtype(narrow.dtype)


def enabled(dtype: np.dtype[Any]) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which JAX computes in `dtype`."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def refined_points(
    F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
) -> Float[np.ndarray, "n n_states"]:
    """Return fixed points in the precision of `x`, from ones of a lower precision.

    Newton's method is run for a few steps, and a step counts only if the speed falls.
    """
    if len(x) == 0:
        return x
    rows = np.arange(power_of_two(len(x))) % len(x)
    with enabled(x.dtype):
        F = with_precision(F, x.dtype)
        return np.asarray(_refined(F, jnp.asarray(x[rows]), jnp.asarray(u[rows])))[: len(x)]


_NEWTON_STEPS = 6
"""From float32 to float64 it takes one or two; more if a point is about to merge with another."""


@functools.partial(CompiledOnce, runs="briefly")
def _refined(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Float[Array, "n n_states"]:
    def one(row: tuple[Array, Array]) -> Array:
        x, u = row

        def residual(x: Array) -> Array:
            return F(x, u).astype(x.dtype) - x

        def step(x: Array, _: None) -> tuple[Array, None]:
            new = x - lapack.solve(jax.jacfwd(residual)(x), residual(x))
            better = jnp.linalg.norm(residual(new)) < jnp.linalg.norm(residual(x))
            return jnp.where(better, new, x), None  # NaN is not better

        return jax.lax.scan(step, x, None, length=_NEWTON_STEPS)[0]

    return one_by_one(one, (x, u))


def displacements(
    F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
) -> Float[np.ndarray, "n n_states"]:
    """Return by what states move in one step, in the precision of `x`."""
    with enabled(x.dtype):
        F = with_precision(F, x.dtype)
        return np.asarray(_displacements(F, jnp.asarray(x), jnp.asarray(u)))


@CompiledOnce
def _displacements(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Float[Array, "n n_states"]:
    return jax.vmap(F)(x, u).astype(x.dtype) - x


def speeds(
    F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
) -> Float[np.ndarray, " n"]:
    """Return how far states move in one step, in the precision of `x`."""
    return np.linalg.norm(displacements(F, x, u), axis=1)


def size_of(x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, " n"]:
    """Return the size of states that are given in units of their own size, for thresholds."""
    return SIZE + np.linalg.norm(x, axis=-1)


def spacing(
    x: Float[np.ndarray, "n n_states"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the distance from each point to the nearest other one of its group.

    Points that differ from it by no more than rounding are copies of it, and no others.

    For a point that is alone, it is the point's own norm, or the size of states if that is more.
    """
    if len(x) == 0:
        return np.zeros(0, x.dtype)
    rows = np.arange(power_of_two(len(x))) % len(x)
    with enabled(x.dtype):
        found = np.asarray(_spacing(x[rows], group[rows], rows))[: len(x)]
    return np.where(np.isfinite(found), found, np.maximum(SIZE, np.linalg.norm(x, axis=1)))


@CompiledOnce
def _spacing(
    x: Float[Array, "n n_states"], group: Int[Array, " n"], number: Int[Array, " n"]
) -> Float[Array, " n"]:
    def one(row: tuple[Array, Array, Array]) -> Array:
        own, own_group, own_number = row
        others = (group == own_group) & (number != own_number)
        apart = jnp.linalg.norm(x - own, axis=1)
        others &= apart > _COPIES * jnp.finfo(x.dtype).eps * (SIZE + jnp.linalg.norm(own))
        return jnp.min(jnp.where(others, apart, jnp.inf))

    return jax.lax.map(one, (x, group, number))
