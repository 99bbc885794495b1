"""`plot_flip_flop`: memories on a cube, and what lies between them."""

from typing import Any

import numpy as np

from slowpoints._classical.searched import (
    checked_input,
    for_paper,
    given_points,
    searched,
    visited,
    warn_if_not_visited_under,
)
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.view import given_projection
from slowpoints._plots.fixed_points import plot_fixed_points_2d, plot_fixed_points_3d
from slowpoints._points.fixed_points import FixedPoints

_CALLER = "plot_flip_flop"


def plot_flip_flop(
    model: Any,
    state_traj: Any,
    inputs: Any,
    config: PlotConfig | None = None,
    *,
    dimensions: int = 3,
    projection: Any = None,
    random_seed: int = 0,
    points: Any = None,
) -> tuple[Any, FixedPoints]:
    """Search a network that stores bits, and draw its memories and the saddles between them.

    The figure of Sussillo & Barak (2013, fig. 3): memories at the corners, saddles on the edges and
    faces between them, the directions in which states leave these, and some trajectories.

    Args:
        model: the network: anything that [`as_transition`][slowpoints.as_transition] takes.
        state_traj: `[trials, time, n_states]` states that it visits during the task, such as
            [`simulate`][slowpoints.simulate] returns, or a pair or layers of them.
        inputs: `[n_inputs]` the constant input under which it holds its memories, such as zeros.
        config: the looks; `None` for a figure of 85 mm by 105 mm with text of 8 points, which is
            shown.
        dimensions: 3, or 2 for networks of one or two bits.
        projection: see [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]; by default the
            principal components.
        random_seed: of the states that are searched from.
        points: the fixed points that an earlier call returned, if they are not to be searched for
            again.

    Returns:
        The figure, and the fixed points.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite.

    Warns:
        UserWarning: if a step under this input ends farther from the state that follows, in the
            median, than twice what states move in a step.
    """
    dimensions = arguments.whole(_CALLER, "dimensions", dimensions, least=2, most=3)
    seed = arguments.whole(_CALLER, "random_seed", random_seed, least=0)
    u = checked_input(_CALLER, "inputs", inputs)
    config = for_paper(_CALLER, config, 3.35, 4.13)
    where = visited(_CALLER, model, state_traj, len(u))
    if points is not None:
        given_points(_CALLER, "points", points, where.states.shape[2])
    if projection is not None:  # before the search
        given_projection(_CALLER, projection, where.states.shape[2], dimensions)
    warn_if_not_visited_under(_CALLER, where, u)
    fps = searched(where, u, seed) if points is None else points
    plot: Any = plot_fixed_points_3d if dimensions == 3 else plot_fixed_points_2d
    look = {"projection": projection, "eigenvectors": "unstable"}
    return plot(fps, np.asarray(where.states), config, **look), fps
