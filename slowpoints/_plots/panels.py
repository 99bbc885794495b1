"""`plot_panels`: contexts, conditions or periods of a task side by side."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slowpoints._core import arguments
from slowpoints._drawing.coloring import shared
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import finish, new_figure, style
from slowpoints._drawing.layout import color_bar_beside, draw_names_below, named_in_panels
from slowpoints._drawing.scene import Eigenvectors, Scene, scene_of, states_of
from slowpoints._drawing.view import given_projection, pca_of
from slowpoints._plots.fixed_points import draw_scene
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.figure

_CALLER = "plot_panels"

_MOST_BESIDE = 4
"""More panels than these are in several rows."""


def plot_panels(
    fixed_points: Mapping[str, FixedPoints],
    state_traj: Any = None,
    config: PlotConfig | None = None,
    plot_batch_idx: Any = None,
    plot_start_time: int = 0,
    *,
    projection: Any = None,
    color_by: Any = None,
    color_points_by: Any = None,
    eigenvectors: Eigenvectors | None = None,
) -> "matplotlib.figure.Figure":
    """Draw a panel for each context, condition or period of a task, on axes that they share.

    The panels have one projection, one range, one legend, and the same colours for the same labels
    and numbers. Each is drawn as by [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d].

    Args:
        fixed_points: by the name of the panel, its points, such as `{"motion context": fps[
            fps.cond_id == 0], "colour context": fps[fps.cond_id == 1]}`.
        state_traj: by the name of the panel, its trajectories `[trials, time, n_states]`; or the
            same trajectories for all; or `None`.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its title, if there is
            one, is above all panels.
        plot_batch_idx: the trials to draw, for all panels or by name; `None` for 8 of each panel,
            some of each condition that `color_by` tells apart, up to 12.
        plot_start_time: the first time step to draw.
        projection: for all panels, such as the result of [`task_axes`][slowpoints.task_axes]; by
            default the principal components of all trajectories together.
        color_by: for all panels, or by name.
        color_points_by: for all panels, or by name; `None` for a panel, and NaN for a point, that
            has no number, which is white beside others that have.
        eigenvectors: `"unstable"` or `"slow"`.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are no panels, or as `plot_fixed_points_2d` does for one of them.
    """
    _check_panels(fixed_points)
    config = PlotConfig() if config is None else config
    arguments.instance(_CALLER, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    own = {name: _of_panel("state_traj", state_traj, name, fixed_points) for name in fixed_points}
    seen, n_states = _plane(fixed_points, own, plot_start_time, projection)
    nothing = FixedPoints() if n_states is None else FixedPoints(xstar=np.zeros((0, n_states)))
    of_points = _colors_of_points(fixed_points, color_points_by)
    scenes = [
        scene_of(
            f"{_CALLER}, panel {name!r}",
            points if points.n else nothing,
            own[name],
            config,
            _of_panel("plot_batch_idx", plot_batch_idx, name, fixed_points),
            plot_start_time,
            2,
            seen,
            _of_panel("color_by", color_by, name, fixed_points),
            of_points[name],
            eigenvectors,
        )
        for name, points in fixed_points.items()
    ]
    return _figure(dict(zip(map(str, fixed_points), scenes, strict=True)), config)


def _figure(panels: dict[str, Scene], config: PlotConfig) -> Any:
    """Draw scenes on axes that they share."""
    scenes = list(panels.values())
    colorings = shared(_CALLER, config, [scene.coloring for scene in scenes])
    n_columns = min(len(scenes), _MOST_BESIDE)
    n_rows = -(-len(scenes) // n_columns)
    if config.figsize == PlotConfig.figsize:
        width = config.figsize[0]
        config = replace(config, figsize=(width, 0.9 * width / n_columns * n_rows + 0.8))
    bare = replace(config, show_legend=False, title="")
    with style(config):
        fig: Any = new_figure(config)
        grid = fig.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
        axes = grid.ravel()[: len(scenes)].tolist()
        for ax in grid.ravel()[len(scenes) :]:
            ax.remove()
        each_panel = zip(axes, panels, scenes, colorings, strict=True)
        for k, (ax, name, scene, coloring) in enumerate(each_panel):
            is_lowest = k + n_columns >= len(axes)
            _draw_panel(ax, replace(scene, coloring=coloring), bare, name, is_lowest)
        if config.title:
            fig.suptitle(config.title)
        if config.show_legend:
            scale = next((each.scale for each in colorings if each.scale is not None), None)
            if scale is not None:
                color_bar_beside(fig, axes, scale)
            draw_names_below(fig, named_in_panels(axes))
        finish(fig, config)
    return fig


def _colors_of_points(panels: Mapping[str, FixedPoints], given: Any) -> dict[str, Any]:
    """Return what colours of points tell in each panel."""
    own = {name: _of_panel("color_points_by", given, name, panels) for name in panels}
    try:
        kinds = {np.asarray(each).dtype.kind for each in own.values() if each is not None}
    except ValueError:  # rows of several lengths, which the panel refuses by its name
        return own
    if kinds and kinds <= {"f", "i", "u"}:
        none = {name: np.full(points.n, np.nan) for name, points in panels.items()}
        return {name: none[name] if each is None else each for name, each in own.items()}
    return own


def _check_panels(fixed_points: Mapping[str, FixedPoints]) -> None:
    """Check that there are panels, and that each of them has points."""
    arguments.instance(_CALLER, "fixed_points", fixed_points, Mapping, "a dict of names and points")
    if not fixed_points:
        arguments.refuse(_CALLER, "fixed_points", "is empty", "a panel or more", ValueError)
    for name, points in fixed_points.items():
        expected = "a slowpoints.FixedPoints"
        arguments.instance(_CALLER, f"fixed_points[{name!r}]", points, FixedPoints, expected)


def _draw_panel(ax: Any, scene: Scene, config: PlotConfig, name: str, is_lowest: bool) -> None:
    """Draw a panel, with labels of the first axis if there is no panel below."""
    draw_scene(ax, scene, config, name, alone=False)
    if scene.view.is_return_map:
        ax.set_aspect("equal", adjustable="box")  # the limits are those of all panels
    label = ax.get_xlabel().replace(" % of variance)", " %)")  # which has to be shorter
    ax.label_outer()
    if is_lowest:
        ax.set_xlabel(label)
        ax.tick_params(labelbottom=True)


def _of_panel(argument: str, given: Any, name: str, panels: Mapping[str, Any]) -> Any:
    """Return what is given for a panel, if each has its own, or else for all of them."""
    if not isinstance(given, Mapping) or not set(given) & set(panels):
        return given
    expected = f"one for each panel, {', '.join(map(repr, panels))}"
    for other in panels:
        if other not in given:
            arguments.refuse(_CALLER, argument, f"has no {other!r}", expected, ValueError)
    for other in given:
        if other not in panels:
            arguments.refuse(_CALLER, argument, f"has {other!r}", expected, ValueError)
    return given[name]


def _plane(
    points: Mapping[str, FixedPoints], own: Mapping[str, Any], first: int, projection: Any
) -> tuple[Any, int | None]:
    """Return the projection that all panels share, and how many states there are, if known."""
    sizes = {each.n_states for each in points.values() if each.n_states}
    if len(sizes) > 1:
        was = f"has points of {' and '.join(map(str, sorted(sizes)))} states"
        arguments.refuse(_CALLER, "fixed_points", was, "points of one network", ValueError)
    n_states = next(iter(sizes), None)
    shown = []
    for name, each in own.items():
        if each is None:
            continue
        caller = f"{_CALLER}, panel {name!r}"
        whose = "the points" if sizes else "the other panels"
        states = states_of(caller, each, n_states, whose)
        _, n_time, n_states = states.shape
        start = arguments.whole(caller, "plot_start_time", first, least=-n_time, most=n_time - 1)
        shown.append(states[:, start:].reshape(-1, n_states))
    if n_states is None:
        return None, None
    if projection is not None:
        return given_projection(_CALLER, projection, n_states, 2), n_states
    shown = shown or [np.asarray(each.xstar) for each in points.values() if each.n]
    return pca_of(np.concatenate([np.zeros((0, n_states)), *shown]), 2), n_states
