"""Which states that seem to be at rest are next to unstable points, and will leave them."""

import numpy as np
from jaxtyping import Float, Int

from slowpoints._connections.refined_points import enabled, refined_points, size_of
from slowpoints._linear_algebra.linear_dynamics import growth_rates
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision
from slowpoints._network.time_scale import as_given, length_of_step
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians

_SAME = 1e-6
"""States at rest this close to each other, relative to their size, are next to the same point."""

_LEAVES = 37.0
"""A state leaves a point if deviations may grow by so many powers of e: from rounding to its size.
On a line of fixed points, rounding makes them grow as well, but not by as much."""


def unstable_points(
    F: Transition,
    x: Float[np.ndarray, "m n_states"],
    u: Float[np.ndarray, "m n_inputs"],
    max_steps: int,
) -> tuple[Float[np.ndarray, "k n_states"], Int[np.ndarray, " m"]]:
    """Return the unstable points next to states that are at rest to rounding.

    Beside a saddle whose eigenvalue is `1 + d`, that is so within `1 / d` roundings.

    Args:
        F: the network, in units of states.
        x: the states.
        u: their inputs.
        max_steps: within so many steps, states have to leave a point that counts.

    Returns:
        The points, and for each state the number of its point, or -1.
    """
    group, first = _groups(x, u)
    if first.size == 0:
        return x, group
    with enabled(x.dtype):
        given = with_precision(as_given(F), x.dtype)
    point = refined_points(given, x[first], u[first])
    with enabled(x.dtype):
        linear = decompose(jacobians(given, FixedPoints(xstar=point, inputs=u[first])))
    rates = growth_rates(np.asarray(linear.eigval_J_xstar), linear.continuous_time)
    growth = rates.max(axis=1) * (length_of_step(F) or 1)
    is_near = np.linalg.norm(point - x[first], axis=1) <= _SAME * size_of(x[first])
    counts = is_near & (growth * max_steps > _LEAVES)
    return point[counts], np.where(counts, counts.cumsum() - 1, -1)[group]


def _groups(
    x: Float[np.ndarray, "m n_states"], u: Float[np.ndarray, "m n_inputs"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " k"]]:
    """Return the group of each state, and the first state of each: those next to the same point."""
    group, first = np.full(len(x), -1), []
    while (group < 0).any():
        i = int((group < 0).argmax())
        same = (u == u[i]).all(axis=1)
        same &= np.linalg.norm(x - x[i], axis=1) <= _SAME * size_of(x[i : i + 1])
        same[i] = True
        group[same & (group < 0)] = len(first)
        first.append(i)
    return group, np.array(first, int)
