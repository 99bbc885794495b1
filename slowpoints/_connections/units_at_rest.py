"""`units_at_rest`: the units of states next to fixed points of a network."""

import numpy as np
from jaxtyping import Float, Shaped

from slowpoints._connections.refined_points import displacements
from slowpoints._core.units import heard_entries, small_entries, units_of
from slowpoints._network.base import Transition
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians


def units_at_rest(
    F: Transition,
    x: Shaped[np.ndarray, "n n_states"],
    u: Shaped[np.ndarray, "n n_inputs"],
    *others: Shaped[np.ndarray, "_ n_states"] | None,
) -> Float[np.ndarray, " n_states"]:
    """Return the unit of each entry of the states, as `units_of` does.

    Entries that seem silent at fixed points are looked at in the network itself.

    Args:
        F: the network.
        x: the fixed points.
        u: their inputs.
        others: further states.
    """
    if not small_entries(x).any():
        return units_of(x, *others)
    linear = jacobians(F, FixedPoints(xstar=x, inputs=u)).to_numpy()
    F_x = x + displacements(F, x, u.astype(x.dtype)).astype(np.float64)
    heard = heard_entries(x, linear.J_xstar, F_x, linear.continuous_time)
    return units_of(x, *others, heard=heard)
