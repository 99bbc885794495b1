"""The few rows that are looked at once more, on the host, when a search is over."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.units import InUnits

AT_A_TIME = 8
"""So many rows are looked at in one call of a program, one after another."""


def rows_in_units(
    F: Transition,
    unit: Float[RealArray, " n_states"],
    inputs: Float[Array, "n n_inputs"],
    *states: Float[Array, "n n_states"],
) -> tuple[InUnits, Float[np.ndarray, "n n_inputs"], tuple[Float[np.ndarray, "n n_states"], ...]]:
    """Return a network in its units, inputs, and states, all in the precision of verdicts."""
    dtype = np.dtype(np.float64) if computes_in_float64(F) else states[0].dtype
    in_unit = np.asarray(unit, dtype)
    network = InUnits(with_precision(F, dtype), in_unit)
    return network, np.asarray(inputs, dtype), tuple(np.asarray(a, dtype) / in_unit for a in states)


def some_at_a_time(
    program: Callable[..., tuple[Any, ...]], F: Transition, *rows: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return what a program returns for rows, of which there is at least one.

    It is called with the network, the number of rows, and so many that it serves any number.
    """
    n, parts = len(rows[0]), []
    for start in range(0, n, AT_A_TIME):
        here = np.arange(start, min(start + AT_A_TIME, n))
        filled = np.resize(here, AT_A_TIME)
        told = program(F, np.array(here.size), *(a[filled] for a in rows))
        parts.append([np.asarray(a)[: here.size] for a in told])
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))
