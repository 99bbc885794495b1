"""Units of states: what they are measured in, so that thresholds mean the same in all of them."""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

APART = 2.0**10
"""Units whose sizes differ by more than this factor have scales of their own. In trained networks,
some units are much weaker than others, but hardly any by so much."""

ROUNDED = 2.0**-24
"""A unit whose states are smaller than this part of the largest one is silent: they are no more
than the rounding of float32 states, and say nothing about its scale."""

_RESTS = 2.0**-4
"""An entry rests if it is this close to where its own rate would bring it, relative to its size.
What decays by itself is as far away from there as it is large."""

_LARGEST_EXPONENT = 100
"""Units are numbers in float32 as well."""


def unit_of(size: float) -> Float[np.ndarray, ""]:
    """Return the power of two next to a size, or 1 if it is zero or not finite."""
    if not (0 < size < math.inf):
        return np.array(1.0)
    return np.array(2.0 ** round(min(max(math.log2(size), -1000), 1000)))


def units_of(
    *states: Shaped[Any, "_ n_states"] | None, heard: Bool[np.ndarray, " n_states"] | None = None
) -> Float[np.ndarray, " n_states"]:
    """Return the unit of each entry of the states, a power of two next to its largest size.

    It is the same for all entries, that of the largest one, unless some differ by more than
    `APART`. Entries that are silent have the unit of the largest one. Without any state other than
    zero there is no size to be known, and all units are 1.

    Args:
        states: rows of states, in which NaN and infinities do not count; `None` is left out.
        heard: entries that are not silent, however small they are, as `heard_entries` tells.
    """
    sizes = _sizes(states)
    largest = sizes.max(initial=0.0)
    if largest == 0:
        return np.ones(sizes.shape)
    counts = sizes > ROUNDED * largest
    sizes = np.where(counts if heard is None else counts | heard, sizes, largest)
    if not largest > APART * sizes.min():
        sizes = np.full(sizes.shape, largest)
    exponents = np.clip(np.round(np.log2(sizes)), -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return 2.0**exponents


def relative_units(
    *states: Shaped[Any, "_ n_states"] | None,
    silent: float = ROUNDED,
    heard: Bool[np.ndarray, " n_states"] | None = None,
) -> Float[np.ndarray, " n_states"]:
    """Return units in which to measure distances: a power of two for each entry, the largest 1.

    Entries have one unit if their sizes, in order, differ by at most `APART` from one to the next.
    So states of like size are measured as they are, and if some entries are given in another unit,
    the shape stays the same. Entries that are silent beside the next larger group, and all that are
    smaller still, have the unit of the largest.

    Args:
        states: rows of states, as for `units_of`.
        silent: entries that are no larger than this part of the next larger group are silent.
        heard: entries that are not silent, as for `units_of`.
    """
    sizes = _sizes(states)
    order = np.argsort(-sizes, kind="stable")
    falling = sizes[order]
    is_first = np.append(True, falling[:-1] > APART * falling[1:])[: sizes.size]
    group = is_first.cumsum() - 1
    largest = falling[is_first]  # of each group
    is_silent = np.logical_or.accumulate(largest <= silent * np.append(largest[:1], largest)[:-1])
    own = ~is_silent[group] if heard is None else ~is_silent[group] | heard[order]
    exponents = np.log2(np.where(own, largest[group], 1) / np.where(own, falling[:1], 1))
    units = np.empty(sizes.shape)
    units[order] = 2.0 ** np.maximum(np.round(exponents), -_LARGEST_EXPONENT)
    return units


def small_entries(x: Shaped[Any, "n n_states"]) -> Bool[np.ndarray, " n_states"]:
    """Return which entries are silent unless something tells that they are not; zero always is."""
    sizes = _sizes((x,))
    return (sizes > 0) & (sizes <= ROUNDED * sizes.max(initial=0.0))


def heard_entries(
    x: Shaped[Any, "n n_states"],
    J: Shaped[Any, "n n_states n_states"],
    F_x: Shaped[Any, "n n_states"] | None = None,
    continuous_time: bool = False,
) -> Bool[np.ndarray, " n_states"]:
    """Return which entries of states are small beside others, and yet no mere rounding.

    Units of some are given in another scale: one that follows others of 1e6 by slopes of 1e-12 is
    at 1e-6. Two things tell. No other entry, when it changes by its own size, moves such an entry
    by more than `APART` times that of the entry: rounding of a sum of large terms is moved by far
    more. And where the states are at rest, the entry is as well, as measured by its own size and
    rate: what is on its way to zero is not.

    Args:
        x: states.
        J: Jacobians there.
        F_x: the states and how far they move, as in `F_xstar`; without it, only the Jacobians tell.
        continuous_time: whether `J` is that of a flow.
    """
    x, J = np.asarray(x, np.float64), np.asarray(J, np.float64)
    finite = np.isfinite(J).all(axis=(1, 2))
    x, J = x[finite], J[finite]
    heard, sizes = small_entries(x), _sizes((x,))
    largest = sizes.max(initial=0.0)
    if not heard.any():
        return heard
    if F_x is not None:
        at_rest = _at_rest(x, J, np.asarray(F_x, np.float64)[finite], continuous_time, heard)
        heard[heard] = at_rest
    slopes = np.abs(J).max(axis=0)
    np.fill_diagonal(slopes, 0.0)
    while True:  # an entry that is silent after all may be the one that moves another
        own = np.where(heard | (sizes > ROUNDED * largest), sizes, largest)
        moved = (slopes * own).max(axis=1) > APART * sizes
        if not (heard & moved).any():
            return heard
        heard &= ~moved


def _at_rest(
    x: Float[np.ndarray, "n n_states"],
    J: Float[np.ndarray, "n n_states n_states"],
    F_x: Float[np.ndarray, "n n_states"],
    continuous_time: bool,
    entries: Bool[np.ndarray, " n_states"],
) -> Bool[np.ndarray, " k"]:
    """Return which of these entries rest, in most rows in which they are about as large as ever."""
    slope = np.diagonal(J, axis1=1, axis2=2)[:, entries]
    x, F_x = x[:, entries], F_x[:, entries]
    rate = slope if continuous_time else slope - 1
    rests = np.abs(F_x - x) <= _RESTS * np.abs(rate * x)
    counts = np.abs(x) >= np.abs(x).max(axis=0, initial=0.0) / 4
    return 2 * (rests & counts).sum(axis=0) > counts.sum(axis=0)


def _sizes(states: tuple[Shaped[Any, "_ n_states"] | None, ...]) -> Float[np.ndarray, " n_states"]:
    """Return the largest size of each entry."""
    return np.max([_largest(np.abs(np.asarray(x, np.float64))) for x in states if x is not None], 0)


def _largest(sizes: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, " n_states"]:
    return np.where(np.isfinite(sizes), sizes, 0.0).max(axis=0, initial=0.0)
