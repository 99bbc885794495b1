"""Static figures of fixed points among the trajectories, in the trajectories' principal components.

Matplotlib and scikit-learn are imported when a figure is made, so that importing the package stays
cheap.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._core import arguments
from slowpoints._core.status import Status, counted
from slowpoints._core.types import RealArray
from slowpoints._plots.config import PlotConfig
from slowpoints._plots.drawing import (
    axis_labels,
    draw_legend,
    draw_points,
    finish,
    new_figure,
    style_axes,
)
from slowpoints._plots.marks import Group, groups_of
from slowpoints._plots.view import View, check_finite, view_of
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.figure

_N_TRIALS = 30  # the documented default of `plot_batch_idx`


def plot_fixed_points_2d(
    fixed_points: FixedPoints,
    state_traj: Float[RealArray, "trials time n_states"],
    config: PlotConfig | None = None,
    plot_batch_idx: Sequence[int | np.integer] | Int[RealArray, " shown"] | None = None,
    plot_start_time: int = 0,
) -> "matplotlib.figure.Figure":
    """Draw fixed points and trajectories in the plane of the first two principal components.

    The components are those of the trajectories shown, and the fixed points are projected onto
    them. Stable points, and unstable ones by their index (the number of unstable directions), have
    their own shapes and colours, and so have slow points and others whose `status` is not that of a
    fixed point. One-dimensional states are drawn as a return map, the next state
    against the state, where fixed points lie on the diagonal.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses `xstar`, and where they are
            there `F_xstar`, `is_stable`, `eigval_J_xstar` and `status`.
        state_traj: `[trials, time, n_states]` the trajectories.
        config: the looks; `None` is `PlotConfig()`, which shows the figure.
        plot_batch_idx: the trials to draw; `None` for the first 30.
        plot_start_time: the first time step to draw.

    Returns:
        The figure.

    Raises:
        ValueError: if an argument has the wrong shape, is out of range or is not finite.
    """
    return _plot(fixed_points, state_traj, config, plot_batch_idx, plot_start_time, n_axes=2)


def plot_fixed_points_3d(
    fixed_points: FixedPoints,
    state_traj: Float[RealArray, "trials time n_states"],
    config: PlotConfig | None = None,
    plot_batch_idx: Sequence[int | np.integer] | Int[RealArray, " shown"] | None = None,
    plot_start_time: int = 0,
) -> "matplotlib.figure.Figure":
    """Draw fixed points and trajectories in the first three principal components.

    As [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d], with one more axis, and the same
    scale on all of them. For states of fewer than three dimensions the third axis is time, and the
    fixed points stand where the trajectories end.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses `xstar`, and where they are
            there `F_xstar`, `is_stable`, `eigval_J_xstar` and `status`.
        state_traj: `[trials, time, n_states]` the trajectories.
        config: the looks; `None` is `PlotConfig()`, which shows the figure.
        plot_batch_idx: the trials to draw; `None` for the first 30.
        plot_start_time: the first time step to draw.

    Returns:
        The figure.

    Raises:
        ValueError: if an argument has the wrong shape, is out of range or is not finite.
    """
    return _plot(fixed_points, state_traj, config, plot_batch_idx, plot_start_time, n_axes=3)


def _plot(
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig | None,
    plot_batch_idx: Any,
    plot_start_time: int,
    n_axes: int,
) -> "matplotlib.figure.Figure":
    caller = f"plot_fixed_points_{n_axes}d"
    arguments.instance(
        caller, "fixed_points", fixed_points, FixedPoints, "a slowpoints.FixedPoints"
    )
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    states, first_step = _select(caller, state_traj, plot_batch_idx, plot_start_time)
    points = _shown_points(fixed_points, n_states=states.shape[2])
    view = view_of(points, states, first_step, n_axes)
    labels = axis_labels(view, config)

    fig = new_figure(config)
    # Matplotlib would sort whole artists by depth and bury the points under the trajectories.
    ax: Any = fig.add_subplot(
        **({"projection": "3d", "computed_zorder": False} if n_axes == 3 else {})
    )
    _draw_trajectories(ax, view.trajectories, config)
    groups = groups_of(points)
    draw_points(ax, view.points, groups)
    _draw_guides(ax, view, groups)
    style_axes(ax, view, config)
    for axis, label in zip("xyz", labels, strict=False):
        getattr(ax, f"set_{axis}label")(label)
    if config.title is not None:
        ax.set_title(config.title or _describe(points, len(states), len(state_traj)))
    if config.show_legend:
        draw_legend(ax, anchor=(1.02 if n_axes == 2 else 1.1, 1.0))
    if config.verbose:
        print(f"Axes: {'; '.join(labels)}.")
    finish(fig, config)
    return fig


# ---- input -------------------------------------------------------------------------------------


def _select(
    caller: str, state_traj: Any, plot_batch_idx: Any, plot_start_time: int
) -> tuple[Float[np.ndarray, "shown time n_states"], int]:
    """Return the part of the trajectories to draw, and its first time step."""
    axes = ("trials", "time", "n_states")
    states = np.asarray(arguments.array(caller, "state_traj", state_traj, axes, nonempty=True))
    n_trials, n_time, _ = states.shape
    if plot_batch_idx is None:
        plot_batch_idx = range(min(_N_TRIALS, n_trials))
    trials = np.asarray(
        arguments.array(caller, "plot_batch_idx", plot_batch_idx, ("shown",), nonempty=True)
    )
    if not np.issubdtype(trials.dtype, np.integer):
        was, expected = f"has dtype {trials.dtype}", "whole numbers, the trials to draw"
        arguments.refuse(caller, "plot_batch_idx", was, expected, TypeError)
    if trials.min() < -n_trials or trials.max() >= n_trials:
        was = f"is from {trials.min()} to {trials.max()}"
        expected = f"at most {n_trials - 1}, since `state_traj` has {n_trials} trial(s)"
        arguments.refuse(caller, "plot_batch_idx", was, expected, ValueError)
    first_step = arguments.whole(
        caller, "plot_start_time", plot_start_time, least=-n_time, most=n_time - 1
    )
    first_step %= n_time
    shown = states[trials, first_step:].astype(np.float64)
    check_finite("state_traj", shown)
    return shown, first_step


def _shown_points(fixed_points: FixedPoints, n_states: int) -> FixedPoints:
    """Return the valid rows, checked and NumPy-backed."""
    points = fixed_points.to_numpy().compact()
    if points.n == 0:
        return FixedPoints(xstar=np.zeros((0, n_states)))
    if points.xstar is None:
        raise ValueError(f"`fixed_points` has {points.n} row(s) but no `xstar`.")
    for name in ("xstar", "F_xstar"):
        value = getattr(points, name)
        if value is None:
            continue
        if value.shape[1] != n_states:
            raise ValueError(
                f"`fixed_points.{name}` has shape {value.shape}, expected ({points.n}, {n_states}) "
                f"to go with the {n_states} state(s) of `state_traj`."
            )
        points = points.replace(**{name: value.astype(np.float64)})
    check_finite("fixed_points.xstar", points.xstar)
    return points


# ---- words -------------------------------------------------------------------------------------


def _describe(fps: FixedPoints, n_shown: int, n_trials: int) -> str:
    fixed = np.full(fps.n, Status.FIXED_POINT) if fps.status is None else fps.status
    points = counted(fixed) if fps.n else "No fixed points"
    trials = f"{n_trials} trajector{'y' if n_trials == 1 else 'ies'}"
    return f"{points}, {trials if n_shown == n_trials else f'{n_shown} of {trials}'}"


# ---- drawing -----------------------------------------------------------------------------------


def _draw_trajectories(
    ax: Any, trajectories: Float[np.ndarray, "shown steps axes"], config: PlotConfig
) -> None:
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    n_shown, n_steps, _ = trajectories.shape
    style = {"color": config.color, "linewidth": 0.7, "zorder": 1}
    style["alpha"] = np.clip(4 / n_shown, 0.15, 0.7)  # light where many lie on each other
    style["label"] = f"{'trajectory' if n_shown == 1 else 'trajectories'} ({n_shown})"
    if n_steps == 0 or not np.ptp(trajectories, axis=1).any():
        style["marker"] = "."  # a line through a single place is invisible
    # Spelled out, so that "lw" replaces "linewidth" rather than clash with it.
    style |= normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)
    for trajectory in trajectories:
        ax.plot(*trajectory.T, **style)
        style["label"] = "_nolegend_"


def _draw_guides(ax: Any, view: View, groups: list[Group]) -> None:
    """Draw what the fixed points are to be seen against, where the axes are not all components."""
    if view.time_span is not None:
        for group in groups:
            for x, y, _ in view.points[group.rows]:  # a state that stays, all the time
                ax.plot([x, x], [y, y], view.time_span, color=group.color, linewidth=0.8, zorder=2)
    if view.is_return_map:
        values = np.concatenate([view.trajectories[..., :2].ravel(), view.points[:, :2].ravel()])
        ends = [values.min(), values.max()] if values.size else []
        floor = [] if view.time_span is None else [[view.time_span[0]] * len(ends)]
        style = {"color": "0.4", "linestyle": "--", "linewidth": 0.8, "zorder": 2}
        ax.plot(ends, ends, *floor, label="$x_{t+1} = x_t$", **style)
