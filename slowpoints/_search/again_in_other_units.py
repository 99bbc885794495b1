"""A second search, for rows where states are of another size than where they started."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.arrays import beside, rows_of, with_library
from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._points.status import Status
from slowpoints._search.units_of_states import balanced_units, units_of_states


def again_in_other_units(
    search: Callable[[Array, Array, RealArray], dict[str, Array]],
    F: Transition,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    found: dict[str, Array],
) -> dict[str, Array]:
    """Search once more for fixed points of rows that came to none, if they call for other units.

    Starts of norm 1 do not tell that the points are at 1e6, or that some entries of them are.
    """
    if not found["xstar"].is_fully_addressable:
        return found
    x, status = found["xstar"], np.asarray(found["status"])
    asked = status < Status.ESCAPED
    other = units_of_states(F, x_init, inputs, x, asked)
    if np.all(other == other[0]) or np.any(unit != unit[0]):
        # Fixed points are as exact as they can be, as their entries are of one size.
        asked = (status == Status.UNFINISHED) | (status == Status.SLOW_POINT)
        other = units_of_states(F, x_init, inputs, x, asked)
    if not np.any(asked):
        return found
    if np.any(other != unit) or np.all(status >= Status.UNFINISHED):
        lowest = np.argmin(np.where(asked, np.asarray(found["qstar"]), np.inf))
        other = balanced_units(F, rows_of(x, lowest), rows_of(inputs, lowest), other)
    if np.all(other == unit):
        return found
    again = search(x_init, inputs, other)
    better = asked & (np.asarray(again["status"]) == Status.FIXED_POINT)
    chosen = {}
    for name, value in found.items():
        xp, new, old = with_library(again[name], value)
        chosen[name] = beside(xp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old), value)
    return chosen
