"""Figures of fixed points among the trajectories, in two and in three dimensions.

Matplotlib, Plotly and scikit-learn are imported when a figure is made, so that importing the
package stays cheap.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import (
    axis_labels,
    draw_points,
    draw_segments,
    draw_trajectories,
    finish,
    new_figure,
    style,
    style_axes,
)
from slowpoints._drawing.layout import (
    draw_color_bar,
    draw_figure_legend,
    draw_legend,
    fill_figure,
    is_narrow,
)
from slowpoints._drawing.marks import Group
from slowpoints._drawing.scene import Eigenvectors, Scene, Trials, scene_of
from slowpoints._drawing.view import View
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.figure


def plot_fixed_points_2d(
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig | None = None,
    plot_batch_idx: Trials | None = None,
    plot_start_time: int = 0,
    *,
    ax: Any = None,
    projection: Any = None,
    color_by: Any = None,
    color_points_by: Any = None,
    eigenvectors: Eigenvectors | None = None,
) -> "matplotlib.figure.Figure":
    """Draw fixed points and trajectories in a plane, by default that of the principal components.

    The components are those of all trajectories, drawn or not, and the fixed points are projected
    onto them. Stable points, and unstable ones by their index (the number of unstable directions),
    have their own shapes and colours, and so have slow points and others whose `status` is not that
    of a fixed point. Unfinished points are pale and behind the others. Trajectories begin at a
    small ring and end at a small square. One-dimensional states are drawn as a return map, the next
    state against the state, where fixed points lie on the diagonal.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses `xstar`, and where they are
            there `F_xstar`, `is_stable`, `eigval_J_xstar`, `eigvec_J_xstar`, `cond_id` and
            `status`.
        state_traj: `[trials, time, n_states]` the trajectories, or a pair or layers of them, such
            as `(h, c)` of an LSTM, each `[trials, time, n]`; `None` draws the points alone, in
            their own principal components.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. For papers and talks
            there are [`PlotConfig.for_column`][slowpoints.PlotConfig.for_column] and
            [`PlotConfig.for_slide`][slowpoints.PlotConfig.for_slide].
        plot_batch_idx: the trials to draw; `None` for all, or for 8 of them, evenly spaced; of
            conditions that `color_by` tells apart, some of each.
        plot_start_time: the first time step to draw.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.
        projection: `{"choice": direction, "motion": direction}`, the names of the axes and the
            directions `[n_states]` whose products with the states are drawn, such as those of
            [`task_axes`][slowpoints.task_axes], a readout vector, or a selection vector; or
            `[n_states, 2]`, a matrix of such directions; or a transformer that has been fitted,
            such as scikit-learn's `PCA`, of which the first components are drawn.
        color_by: what colours tell: `"time"`; `"cond_id"`, the condition of each point; an array
            `[trials]`, the condition or a number of each trial; or an array `[trials, time]`, a
            number at each step. Numbers have colours in their order, those of `config.cmap`; up to
            12 different whole numbers are conditions in the legend, and others are on a scale. If
            all conditions of the points are among those of the trials, the points have their
            colours as well, and only shapes tell the kinds of points.
        color_points_by: `[n]` a label or a number of each row of `fixed_points`, such as its output
            or its coherence, which its colour tells, on the scale of the trajectories if these have
            numbers. White for NaN.
        eigenvectors: `"unstable"` for segments through each point along its unstable eigenvectors;
            `"slow"` for these and the slowest stable one, dashed. Their lengths are proportional to
            the size of the eigenvalue (in continuous time, of its real part). A complex pair has
            two, which span the plane in which the state turns.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape, is out of range or is not finite, or if
            `fixed_points` has no eigenvectors or conditions and these are asked for.
    """
    caller = "plot_fixed_points_2d"
    config = PlotConfig() if config is None else config
    if ax is not None and (not hasattr(ax, "scatter") or hasattr(ax, "get_zlim")):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    scene = scene_of(
        caller,
        fixed_points,
        state_traj,
        config,
        plot_batch_idx,
        plot_start_time,
        2,
        projection,
        color_by,
        color_points_by,
        eigenvectors,
    )
    return _draw(scene, config, ax)


def plot_fixed_points_3d(
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig | None = None,
    plot_batch_idx: Trials | None = None,
    plot_start_time: int = 0,
    *,
    ax: Any = None,
    projection: Any = None,
    color_by: Any = None,
    color_points_by: Any = None,
    eigenvectors: Eigenvectors | None = None,
    interactive: bool = False,
) -> Any:
    """Draw fixed points and trajectories in three dimensions.

    As [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d], with one more axis, and the same
    scale on all of them. For states of fewer than three dimensions the third axis is time, and the
    fixed points stand where the trajectories end.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses the same fields.
        state_traj: `[trials, time, n_states]` the trajectories, or a pair or layers of
            them, or `None`.
        config: the looks; `None` is `PlotConfig()`, which shows the figure.
        plot_batch_idx: the trials to draw; `None` for all, or for 8 of them, evenly spaced; of
            conditions that `color_by` tells apart, some of each.
        plot_start_time: the first time step to draw.
        ax: three-dimensional axes to draw on, from `fig.add_subplot(projection="3d")`.
        projection: names and directions of the axes, a matrix `[n_states, 3]`, or a transformer
            that has been fitted.
        color_by: `"time"`, `"cond_id"`, or an array `[trials]` or `[trials, time]`.
        color_points_by: `[n]` labels or numbers of the points.
        eigenvectors: `"unstable"` or `"slow"`.
        interactive: whether to return a figure of Plotly, which can be turned and tells more of
            each point under the pointer. It is written to `config.save_path`, if that is given, as
            one HTML file that loads nothing from elsewhere, and opened in a browser if
            `config.show`.

    Returns:
        The figure, of Matplotlib, or of Plotly if it is interactive.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape, is out of range or is not finite, or if
            `fixed_points` has no eigenvectors or conditions and these are asked for.
        ImportError: if `interactive` and Plotly is not installed.
    """
    caller = "plot_fixed_points_3d"
    config = PlotConfig() if config is None else config
    interactive = arguments.flag(caller, "interactive", interactive)
    if ax is not None and (not hasattr(ax, "get_zlim") or interactive):
        was = "is given for an interactive figure" if interactive else arguments.found(ax)
        expected = "None" if interactive else "three-dimensional Axes of Matplotlib"
        arguments.refuse(caller, "ax", was, expected, TypeError)
    scene = scene_of(
        caller,
        fixed_points,
        state_traj,
        config,
        plot_batch_idx,
        plot_start_time,
        3,
        projection,
        color_by,
        color_points_by,
        eigenvectors,
    )
    if interactive:
        from slowpoints._drawing.interactive import interactive_figure

        return interactive_figure(scene, config)
    return _draw(scene, config, ax)


def _draw(scene: Scene, config: PlotConfig, ax: Any) -> "matplotlib.figure.Figure":
    """Draw on axes that are given, or make a figure, write it and show it."""
    if ax is not None:
        draw_scene(ax, scene, config, config.title, alone=False)
        return ax.figure
    with style(config):
        fig = new_figure(config)
        draw_scene(new_axes(fig, len(scene.view.names)), scene, config, config.title or scene.title)
        finish(fig, config)
    return fig


def new_axes(fig: Any, n_axes: Literal[2, 3] | int) -> Any:
    """Add axes for a scene to a figure."""
    if n_axes == 2:
        return fig.add_subplot()
    fig.set_layout_engine("none")  # see `fill_figure`
    # Matplotlib would sort whole artists by depth and bury the points under the trajectories.
    return fig.add_subplot(projection="3d", computed_zorder=False)


def draw_scene(
    ax: Any,
    scene: Scene,
    config: PlotConfig,
    title: str | None,
    *,
    ends: bool = True,
    alone: bool = True,
) -> None:
    """Draw everything that a scene holds, with labels and a legend.

    Where trajectories begin and end is marked if `ends`. If the axes are `alone` on their figure,
    they may take all of it.
    """
    view, coloring = scene.view, scene.coloring
    labels = axis_labels(view, config)
    draw_trajectories(ax, view.trajectories, coloring, config, ends)
    draw_segments(ax, scene.segments, scene.groups)
    draw_points(ax, view.points, scene.groups, coloring)
    _draw_guides(ax, view, scene.groups)
    style_axes(ax, view, config)
    for axis, label in zip("xyz", labels, strict=False):
        getattr(ax, f"set_{axis}label")(label)
    if title and config.title is not None:
        ax.set_title(title)
    color_bar = draw_color_bar(ax, coloring) if config.show_legend else None
    if config.show_legend and alone and len(labels) == 2 and is_narrow(config):
        draw_figure_legend(ax.figure, ax, config)
    elif config.show_legend:
        draw_legend(ax)
    if alone and len(labels) == 3:
        fill_figure(ax, color_bar)
    if config.verbose:
        print(f"Axes: {'; '.join(labels)}.")


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
        line = {"color": "0.4", "linestyle": "--", "linewidth": 0.8, "zorder": 2}
        ax.plot(ends, ends, *floor, label="$x_{t+1} = x_t$", **line)
