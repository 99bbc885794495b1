"""Units of states: what they are measured in, so that thresholds mean the same in all of them."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.flow import Flow, flows_in

APART = 2.0**10
"""Units whose sizes differ by more than this factor have scales of their own. In trained networks,
some units are much weaker than others, but hardly any by so much."""

ROUNDED = 2.0**-24
"""A unit whose states are smaller than this part of the largest one is silent: they are no more
than the rounding of float32 states, and say nothing about its scale."""

_LARGEST_EXPONENT = 100
"""Units are numbers in float32 as well."""


class InUnits(Transition):
    """A map of states in units of `unit`: `y` stands for the state `x = unit * y`.

    Attributes:
        F: the map of the states `x`.
        unit: a power of two, by which numbers are multiplied without rounding, or one for each
            entry of the state.
    """

    F: Transition
    unit: Float[RealArray, ""] | Float[RealArray, " n_states"]

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows, in the same units."""
        unit = jnp.asarray(self.unit, x.dtype)
        return self.F(unit * x, u).astype(x.dtype) / unit


def in_units(F: Transition, unit: Any) -> Transition:
    """Return a network of states in units of `unit`; one in continuous time remains one."""
    if isinstance(F, ContinuousTime):
        return ContinuousTime(InUnits(F.f, unit))
    if isinstance(F, Flow):
        atol = None if F.atol is None else F.atol / unit
        return dataclasses.replace(F, f=InUnits(F.f, unit), atol=atol)
    return InUnits(F, unit)


def errors_of_flows(F: Transition, x: Float[RealArray, "*n n_states"]) -> Any:
    """Return how long the error after each `x` may be by flows in `F`, in the largest unit."""
    if isinstance(F, InUnits):
        return errors_of_flows(F.F, F.unit * x) / F.unit.max()
    return sum(flow.error(x) for flow in flows_in(F))


def unit_of(size: float) -> Float[np.ndarray, ""]:
    """Return the power of two next to a size, or 1 if it is zero or not finite."""
    if not (0 < size < math.inf):
        return np.array(1.0)
    return np.array(2.0 ** round(min(max(math.log2(size), -1000), 1000)))


def units_of(*states: Shaped[Any, "_ n_states"] | None) -> Float[np.ndarray, " n_states"]:
    """Return the unit of each entry of the states, a power of two next to its largest size.

    It is the same for all entries, that of the largest one, unless some differ by more than
    `APART`. Entries that are silent have the unit of the largest one. Without any state other than
    zero there is no size to be known, and all units are 1.

    Args:
        states: rows of states, in which NaN and infinities do not count; `None` is left out.
    """
    sizes = _sizes(states)
    largest = sizes.max(initial=0.0)
    if largest == 0:
        return np.ones(sizes.shape)
    sizes = np.where(sizes > ROUNDED * largest, sizes, largest)
    if not largest > APART * sizes.min():
        sizes = np.full(sizes.shape, largest)
    exponents = np.clip(np.round(np.log2(sizes)), -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return 2.0**exponents


def relative_units(
    *states: Shaped[Any, "_ n_states"] | None, silent: float = ROUNDED
) -> Float[np.ndarray, " n_states"]:
    """Return units in which to measure distances: a power of two for each entry, the largest 1.

    Entries have one unit if their sizes, in order, differ by at most `APART` from one to the next.
    So states of like size are measured as they are, and if some entries are given in another unit,
    the shape stays the same. Entries that are silent beside the next larger group, and all that are
    smaller still, have the unit of the largest.

    Args:
        states: rows of states, as for `units_of`.
        silent: entries that are no larger than this part of the next larger group are silent.
    """
    sizes = _sizes(states)
    order = np.argsort(-sizes, kind="stable")
    falling = sizes[order]
    is_first = np.append(True, falling[:-1] > APART * falling[1:])[: sizes.size]
    largest = falling[is_first]  # of each group
    is_silent = np.logical_or.accumulate(largest <= silent * np.append(largest[:1], largest)[:-1])
    exponents = np.log2(np.where(is_silent, 1, largest) / np.where(is_silent, 1, largest[:1]))
    units = np.empty(sizes.shape)
    units[order] = 2.0 ** np.maximum(np.round(exponents), -_LARGEST_EXPONENT)[is_first.cumsum() - 1]
    return units


def _sizes(states: tuple[Shaped[Any, "_ n_states"] | None, ...]) -> Float[np.ndarray, " n_states"]:
    """Return the largest size of each entry."""
    return np.max([_largest(np.abs(np.asarray(x, np.float64))) for x in states if x is not None], 0)


def _largest(sizes: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, " n_states"]:
    return np.where(np.isfinite(sizes), sizes, 0.0).max(axis=0, initial=0.0)
