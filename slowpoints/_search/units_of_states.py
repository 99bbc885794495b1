"""`units_of_states`: the units in which a search computes, from its starts and what it came to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from slowpoints._core.arrays import in_chunks
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._core.units import APART, unit_of
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime

USUAL = 2.0**7
"""States of this size, or of its inverse, are in units in which networks are usually written: those
of a network of tanh units are, though its starts may be smaller than its points."""

_ASTRAY = 2.0**20
"""A row that is larger by this factor than half of the others has gone astray."""

_PEAK = 2.0
"""The largest state of a unit, relative to its root mean square: between that of a saturating unit,
which is little more than 1, and that of noise, which is about 4 in 100,000 states."""

_LIMITS = 2.0**-60, 2.0**60
"""A unit is a number in float32, and so is its square."""

_MOST_STATES = 1024
"""The Jacobian of so many states has a million entries."""


def units_of_states(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    found: Float[Array, "n n_states"] | None = None,
    rows: Bool[np.ndarray, " n"] | None = None,
) -> Float[RealArray, " n_states"]:
    """Return a unit for each entry of the states, all of them 1 if they are of a usual size.

    It is the same for all entries unless some are larger than others by a factor of `2**10`. Where
    the states are of no usual size, it depends on what follows them as well: they may be close to
    the origin only because the search starts there.

    Args:
        F: the network.
        x: `[n, n_states]` states from which a search starts.
        u: `[n, n_inputs]` their inputs.
        found: `[n, n_states]` what a search has come to, if there was one. Only after that, large
            states have a unit above 1: they may have come from far away, to points near the origin.
            Starts that are much larger, as on trajectories that grow, say no more than that.
        rows: `[n]` which of the states count; by default, all of them.
    """
    if isinstance(x, Tracer) or not x.is_fully_addressable:
        return _units(_sizes(x, jnp), _sizes(_next(F, x, u), jnp), np.inf, jnp).astype(x.dtype)
    rows = np.ones(x.shape[0], bool) if rows is None else rows
    most = np.inf if found is None else USUAL
    sizes = near = _sizes(np.asarray(x)[rows], np)
    if found is not None:  # but small entries may be small only there
        reached = _sizes(np.asarray(found)[rows], np)
        largest = np.max(reached, initial=0)
        far = np.max(sizes, initial=0) > APART * largest > 0
        near = np.maximum(np.minimum(sizes, largest) if far else sizes, reached)
        sizes = np.maximum(sizes, reached)
    if np.all(_units(sizes, sizes, most, np) == 1):
        return np.ones(x.shape[1], x.dtype)
    after = _sizes(np.asarray(in_chunks(_next_of_rows, F, _AT_A_TIME, x, u))[rows], np)
    return _units(near, after, most, np).astype(x.dtype)


def balanced_units(
    F: Transition,
    x: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    unit: Float[RealArray, " n_states"],
) -> Float[RealArray, " n_states"]:
    """Return a unit for each entry of the states, such that entries act on each other alike.

    They are those that balance the Jacobian (Parlett & Reinsch 1969), which tell how entries differ
    in scale even where a search has not come close to a point. `unit` is kept if they hardly do, or
    if there are too many entries for a Jacobian.
    """
    from scipy.linalg import matrix_balance  # only here: few searches need it

    if x.size > _MOST_STATES:
        return unit
    J = np.asarray(_jacobian(F, x, u))
    if not np.all(np.isfinite(J)):
        return unit
    _, (scale, _) = matrix_balance(J, permute=False, separate=True)
    if np.max(scale) <= APART * np.min(scale):
        return unit
    scale = scale / unit_of(float(np.max(scale)))
    common = unit_of(float(np.max(np.abs(np.asarray(x, np.float64)) / scale)))
    return np.clip(common * scale, *_LIMITS).astype(x.dtype)


@CompiledOnce
def _jacobian(F: Transition, x: Array, u: Array) -> Array:
    return jax.jacrev(F)(x, u)


def _next(F: Transition, x: Array, u: Array) -> Array:
    # The rate of change of a state has a unit of its own.
    return x if isinstance(F, ContinuousTime) else jax.vmap(F)(x, u)


_AT_A_TIME = 64
_next_of_rows = CompiledOnce(_next)


def _sizes(x: Any, xp: Any) -> Any:
    """Return the size of each entry: its largest in all rows, but for those astray, over `_PEAK`.

    A mean or a median would be small for an entry that is often close to zero.
    """
    size = xp.abs(x)
    length = xp.max(xp.where(xp.isfinite(size), size, 0), axis=1, initial=0)
    usual = xp.sort(length)[x.shape[0] // 2] if x.shape[0] else 0
    counts = (length <= _ASTRAY * usual)[:, None] & xp.isfinite(size)
    return xp.max(xp.where(counts, size, 0), axis=0, initial=0) / _PEAK


def _units(sizes: Any, after: Any, most: float, xp: Any) -> Any:
    """Return a power of two for each entry, from its size and its size after a step.

    Sizes up to `most` are usual. Entries that are always zero have the unit of the largest. Where
    steps lead far away, as those of a cubic map do, the states themselves tell.
    """

    def power(size: Any) -> Any:
        return xp.clip(2.0 ** xp.round(xp.log2(xp.where(size > 0, size, 1))), *_LIMITS)

    def largest_and_usual(sizes: Any) -> tuple[Any, Any, Any]:
        largest = xp.max(sizes, initial=0)
        least = xp.min(xp.where(sizes > 0, sizes, largest), initial=largest)
        usual = (largest == 0) | ((largest <= most) & (largest >= 1 / USUAL))
        return largest, usual, largest > APART * least

    largest, usual, apart = largest_and_usual(sizes)
    asked = ~usual | apart
    with_next = xp.maximum(sizes, xp.minimum(after, xp.maximum(largest, 1)))
    largest, usual, apart = largest_and_usual(with_next)
    common = xp.where(usual, 1.0, power(largest))
    own = xp.where(with_next > 0, power(with_next), power(largest))
    return xp.where(asked & apart, own, xp.where(asked, common, 1.0))
