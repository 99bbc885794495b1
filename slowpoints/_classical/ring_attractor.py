"""`plot_ring_attractor`: a ring of slow points, drift along it, and where states come to rest."""

from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._classical.searched import (
    checked_input,
    for_paper,
    given_points,
    line_through,
    points_near,
    searched,
    visited,
    warn_if_not_visited_under,
)
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.view import given_projection
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._plots.line_attractor import plot_line_attractor
from slowpoints._points.fixed_points import FixedPoints

_CALLER = "plot_ring_attractor"


def plot_ring_attractor(
    model: Any,
    state_traj: Any,
    inputs: Any,
    config: PlotConfig | None = None,
    *,
    projection: Any = None,
    q_max: Any = None,
    unit: str | None = None,
    random_seed: int = 0,
    points: Any = None,
    ring: Any = None,
) -> tuple[Any, FixedPoints, LineAttractor]:
    """Find the ring, or the line, on which a network holds a value, and draw it with its drift.

    Rings of trained networks are rings of slow points, with a few fixed points among them, between
    which held values drift. The panels show the ring with its fixed points, and against the angle,
    how fast states drift, and how long the slowest mode lasts.

    Args:
        model: the network: anything that [`as_transition`][slowpoints.as_transition] takes.
        state_traj: `[trials, time, n_states]` states while it holds values, such as those of the
            delay, or a pair or layers of them.
        inputs: `[n_inputs]` the constant input under which it holds them.
        config: the looks; `None` for a figure of 180 mm by 85 mm with text of 8 points, which is
            shown. In `PlotConfig.for_column(1)`, the panels are above each other.
        projection: names and directions of the axes, such as `{"cosine": w[0], "sine": w[1]}` of a
            readout: angles are those in this plane, around the middle of the ring; see
            [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]. By default the principal
            components of the ring.
        q_max: the speed `q`, half of the squared length of a step, below which a state counts as
            slow, as in [`slow_manifold`][slowpoints.slow_manifold]; by default 4 times the median
            `q` of `state_traj`.
        unit: what a step is called on the axes, such as `"10 ms"`.
        random_seed: of the states that are searched from.
        points: the fixed points that an earlier call returned, if they are not to be searched for
            again.
        ring: the ring that an earlier call returned, likewise.

    Returns:
        The figure, whose first three axes are those of the drift, of the plane and of the time
        constants; the fixed points; and the ring.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite, or no slow points are found.

    Warns:
        UserWarning: if a step under this input ends farther from the state that follows, in the
            median, than twice what states move in a step. States under noise, or of other epochs
            of a trial too, may pass: the cleanest are those that the network is run to under this
            input alone, such as `simulate(model, inputs, states[:, k])` with `k` in the delay.
    """
    seed = arguments.whole(_CALLER, "random_seed", random_seed, least=0)
    u = checked_input(_CALLER, "inputs", inputs)
    q_max = None if q_max is None else float(arguments.positive(_CALLER, "q_max", q_max))
    config = for_paper(_CALLER, config, 7.09, 3.35, columns=(2,))
    if unit is not None:
        arguments.instance(_CALLER, "unit", unit, str, "a str such as '10 ms', or None")
    where = visited(_CALLER, model, state_traj, len(u))
    n_states = where.states.shape[2]
    if projection is not None:  # before the search
        given_projection(_CALLER, projection, n_states, 2)
    if points is not None:
        given_points(_CALLER, "points", points, n_states)
    if ring is not None:
        given_points(_CALLER, "ring", ring, n_states, line=True)
    warn_if_not_visited_under(_CALLER, where, u)
    fps = searched(where, u, seed) if points is None else points
    held: Float[np.ndarray, "n n_states"] = where.states.reshape(-1, n_states)
    ring = line_through(where, held, u, None, q_max) if ring is None else ring
    near = points_near(fps, ring)
    look = {"projection": projection, "fixed_points": near, "unit": unit, "vectors": False}
    return plot_line_attractor(ring, config, **look), fps, ring
