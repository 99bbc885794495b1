"""How large the states of a network are, unit by unit, on the host."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from slowpoints._network.units import APART

ROUNDED = 2.0**-24
"""A unit whose states are smaller than this part of the largest one is silent: they are no more
than the rounding of float32 states, and say nothing about its scale."""

_LARGEST_EXPONENT = 100
"""Units are numbers in float32 as well."""


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
