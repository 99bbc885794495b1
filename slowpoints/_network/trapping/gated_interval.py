"""`gated_interval`: the interval that a unit never leaves, from the sum that its next state is."""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from slowpoints._network.trapping.sums import ROUNDED, Range, Sum, finite_product, plus, sum_of

_MOST_SYMBOLS = 8
"""Gated units have two or three symbols. Of units with more, no interval is known."""

_GATED = 1e-3
"""A unit is gated if it moves by less than this fraction of what it does with open gates."""


def gated_interval(
    i: int,
    next_state: Sum | None,
    ranges_of_symbols: Sequence[Range],
    n_states: int,
    continuous_time: bool,
) -> tuple[float, float] | None:
    """Return the ends of the interval that unit `i` never leaves, if its gate may be closed.

    `None` if there is none, as far as can be told. Where each symbol is at an end of its range,
    a unit has to move towards a place, by no more than the way there, or not at all; and not at
    all only where a symbol that never is at its end would be. Elsewhere, its move is a mean of
    these.

    Args:
        i: which unit.
        next_state: its next state, or `dx/dt`; the first symbols are the states of all units.
        ranges_of_symbols: what each symbol can be.
        n_states: how many units there are.
        continuous_time: whether it is `dx/dt`.
    """
    move = next_state if continuous_time else plus(next_state, {frozenset((i,)): -1.0})
    if move is None:
        return None
    symbols = sorted(frozenset[int]().union(*move) - {i})
    if len(symbols) > _MOST_SYMBOLS or min(symbols, default=math.inf) < n_states:
        return None
    # In other words, so that units that are alike are looked at once.
    places = {symbol: place for place, symbol in enumerate(symbols)} | {i: -1}
    terms = ((tuple(sorted(places[s] for s in product)), c) for product, c in move.items())
    ranges = tuple(ranges_of_symbols[s] for s in symbols)
    return _interval(tuple(terms), ranges, continuous_time)


@functools.lru_cache(maxsize=1024)
def _interval(
    move: tuple[tuple[tuple[int, ...], float], ...],
    ranges: tuple[Range, ...],
    continuous_time: bool,
) -> tuple[float, float] | None:
    """Return what `gated_interval` does.

    Args:
        move: products of symbols, -1 for the unit's own state, and their coefficients.
        ranges: what the symbols can be.
        continuous_time: whether the unit may move by more than the way there.
    """
    places, slopes, moves = [], [], dict[tuple[float, ...], bool]()
    for ends in itertools.product(*(known[:2] for known in ranges)):
        constants, factors = [0.0], [0.0]
        for product, number in move:
            value = functools.reduce(finite_product, (ends[s] for s in product if s >= 0), number)
            (factors if product[:1] == (-1,) else constants).append(value)
        constant, slope = sum_of(constants), sum_of(factors)
        rests = slope == constant == 0
        if not rests and not (slope < 0 and (continuous_time or slope >= -1 - ROUNDED)):
            return None
        if not rests:
            places.append(-constant / slope)
        slopes.append(abs(slope))
        reached = zip(ends, ranges, strict=True)
        closed = tuple(end for end, known in reached if not known.is_open)
        moves[closed] = moves.get(closed, False) or not rests
    if not all(moves.values()) or not np.isfinite(places).all():
        return None
    low, high = min(places), max(places)
    return (low, high) if low < high and min(slopes) < _GATED * max(slopes) else None
