"""`plot_connections`: points and the trajectories between them, in the points' plane."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._connections.connections import Connections, Edges
from slowpoints._connections.outcome import Outcome
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import (
    axis_labels,
    draw_points,
    finish,
    new_figure,
    style,
    style_axes,
)
from slowpoints._drawing.layout import draw_legend
from slowpoints._drawing.marks import Group, groups_of
from slowpoints._drawing.view import Projection, View, check_finite, fit_pca
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_MARGIN = 0.5
"""A trajectory that leaves is drawn until it is beyond the points by this part of their range."""

_LUMA = np.array([0.2126, 0.7152, 0.0722])
_LIGHTEST = 0.75
"""Colours with a larger luma, which are those of index 3 and of 5 and more, fill marks with black
edges well, but a thin line in them is hardly seen on white."""


def plot_connections(
    connections: Connections,
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.figure.Figure":
    """Draw points and the trajectories that leave the saddles among them.

    The plane is that of the first two principal components of the points. Points have the marks
    that they have in [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d], and trajectories
    the colour of the saddle that they leave. Those along other directions than an eigenvector are
    thinner, and those that arrived nowhere are grey and dashed.

    Args:
        connections: what [`connections`][slowpoints.connections] returns. With `n_path=0`, the
            trajectories are straight lines.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` are
            properties of the lines, and its `color` has no effect.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if the points are not finite.
    """
    caller = "plot_connections"
    arguments.instance(caller, "connections", connections, Connections, "a slowpoints.Connections")
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if ax is not None and not hasattr(ax, "scatter"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    points, edges = connections.points, connections.edges
    valid = np.ones(points.n, bool) if points.valid is None else points.valid.astype(bool)
    shown = points[valid].replace(valid=None)
    xstar = np.zeros((0, 2)) if shown.xstar is None else shown.xstar.astype(np.float64)
    check_finite("plot_connections", "connections.points.xstar", xstar)
    plane, view = _plane(xstar)
    groups = groups_of(shown) if shown.n else []

    def draw(axes: Any, title: str | None) -> None:
        lines = [plane(line) for line in _lines(points, edges)]
        is_first = edges.direction < connections.index[edges.saddle]
        saddle = (np.cumsum(valid) - 1)[edges.saddle]
        _draw_edges(axes, lines, edges, is_first, groups, saddle, view, config)
        draw_points(axes, view.points, groups)
        style_axes(axes, view, config)
        for axis, label in zip("xy", axis_labels(view, config), strict=True):
            getattr(axes, f"set_{axis}label")(label)
        if xstar.shape[1] == 1:  # the second axis means nothing
            axes.set(yticks=[], ylabel="")
        if title:
            axes.set_title(title)
        if config.show_legend:
            draw_legend(axes)

    if ax is not None:
        draw(ax, config.title)
        return ax.figure  # pyright: ignore[reportReturnType]
    with style(config):
        fig = new_figure(config)
        title = str(connections).splitlines()[0].split(";")[0] if config.title == "" else None
        draw(fig.add_subplot(), config.title or title)
        finish(fig, config)
    return fig


def _plane(xstar: Float[np.ndarray, "n n_states"]) -> tuple[Any, View]:
    """Return the projection onto the points' first two components, and the points in it."""
    states = xstar if len(xstar) else np.zeros((1, xstar.shape[1]))
    # One state has one component; the second axis is then empty.
    states = np.pad(states, ((0, 0), (0, max(0, 2 - states.shape[1]))))
    mean, components, variance = fit_pca(states, 2)

    def plane(x: Float[np.ndarray, "k n_states"]) -> Float[np.ndarray, "k 2"]:
        return (np.pad(x, ((0, 0), (0, mean.size - x.shape[1]))) - mean) @ components.T

    return plane, View(
        trajectories=np.zeros((0, 0, 2)),
        points=plane(xstar),
        projection=Projection(plane, ("PC 1", "PC 2"), variance),
        is_return_map=False,
        time_span=None,
    )


def _lines(points: FixedPoints, edges: Edges) -> Any:
    """Yield the states of each trajectory, from the saddle to the point where it arrived."""
    for saddle, target, path, end in zip(
        edges.saddle, edges.attractor, edges.path, edges.end, strict=True
    ):
        last = end if target < 0 else points.xstar[target]
        yield np.concatenate([points.xstar[saddle][None], path, last[None]]).astype(np.float64)


def _draw_edges(
    ax: Any,
    lines: list[Any],
    edges: Edges,
    is_first: Bool[np.ndarray, " m"],
    groups: list[Group],
    saddle: Int[np.ndarray, " m"],
    view: View,
    config: PlotConfig,
) -> None:
    """Draw all trajectories, and name each kind of them for the legend."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    own = normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)
    for order, group in enumerate(groups):
        leaves = (edges.attractor >= 0) & group.rows[saddle]
        for chosen, words, width in (
            (leaves & is_first, "eigenvectors", 1.6),
            (leaves & ~is_first, "other directions", 0.6),
        ):
            is_all = np.array_equal(chosen, leaves)  # then nothing is to be told apart
            label = f"from {group.name}{'' if is_all else ', ' + words} ({chosen.sum()})"
            color = _seen_on_white(group.color)
            # Lower indices on top, eigenvectors on top of other directions.
            style = {"color": color, "linewidth": width, "zorder": 1 + width / (1 + order)}
            style |= own
            _draw_all(ax, [lines[i] for i in np.flatnonzero(chosen)], style, label)
    for outcome in Outcome:
        chosen = np.flatnonzero((edges.attractor < 0) & (edges.outcome == outcome))
        style = {"color": "0.6", "linewidth": 1.0, "linestyle": "--", "zorder": 1} | own
        _draw_all(
            ax, [_within(lines[i], view) for i in chosen], style, f"{outcome} ({len(chosen)})"
        )


def _seen_on_white(color: str) -> Any:
    """Return the colour of a mark, darker if a thin line in it could not be seen."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(color))
    return tuple((rgb if rgb @ _LUMA < _LIGHTEST else 0.6 * rgb).tolist())


def _draw_all(ax: Any, lines: list[Any], style: dict[str, Any], label: str) -> None:
    for line in lines:
        ax.plot(*line.T, **({"label": label} | style))
        label = "_nolegend_"


def _within(line: Float[np.ndarray, "k 2"], view: View) -> Float[np.ndarray, "j 2"]:
    """Return a trajectory up to where it is beyond the points, or no longer finite."""
    low, high = view.points.min(axis=0), view.points.max(axis=0)
    margin = _MARGIN * max(1e-3, float(np.max(high - low)))
    inside = ((line >= low - margin) & (line <= high + margin)).all(axis=1)
    return line[: len(line) if inside.all() else int(np.argmin(inside))]
