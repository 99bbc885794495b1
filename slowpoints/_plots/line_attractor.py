"""`plot_line_attractor`: a curve of slow points, what the network reads and does along it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.coloring import Coloring
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import draw_trajectories, finish, new_figure, scale_of_marks, style
from slowpoints._drawing.layout import draw_figure_legend, draw_legend, is_narrow
from slowpoints._drawing.marks import groups_of
from slowpoints._drawing.scene import states_of
from slowpoints._drawing.section import checked_points
from slowpoints._drawing.view import affine_map, check_finite, fit_pca, given_projection
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._plots.along_the_line import (
    LARGE,
    SMALL,
    Plane,
    draw_drift,
    draw_time_constants,
    places_of,
    rows_of,
    units_of,
)
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.figure

_SEGMENTS = 8
"""Of so many points or fewer, spread along the curve, the vectors are drawn."""

_LENGTH = 0.22
"""A vector of norm 1 that lies in the plane is drawn at this part of the longer side of the points'
extent; more of the line would be hidden by them, and less leaves no direction to be seen."""

_LONG = 2.0
"""A plane that is longer than high by this factor is drawn across the figure: beside the other
panels it would be a strip, since its axes have one scale, without which angles are not true."""

_HIGHER = 1.6
"""Three panels above each other need a figure so much higher than that of a single one."""

# A light and wide line, and a dark and thin one: told apart in print in grey as well.
_DIRECTION = ("#E58FBF", 2.6, "right eigenvector")
_SELECTION = ("#00573F", 1.4, "selection vector")


def plot_line_attractor(
    line: LineAttractor,
    config: PlotConfig | None = None,
    *,
    projection: Any = None,
    state_traj: Any = None,
    fixed_points: FixedPoints | None = None,
    unit: str | None = None,
    vectors: bool = True,
    ax: Any = None,
) -> "matplotlib.figure.Figure":
    """Draw a line attractor in a plane, and the drift and the time constants along it.

    As in fig. 5 and 6 of Mante et al. (2013). The left panel has the points, with the marks of
    their kinds, the curve through them and, at up to 8 of them, the right eigenvector of the
    slowest mode and its selection vector, both of norm 1 before they are projected: of a vector
    that is short here, most is outside the plane. The right panels have the drift and the time
    constant of the slowest mode against the place along the curve. They are below the left one if
    what this shows is more than twice as long as it is high. Along a ring that goes once around its
    middle in the plane, places are angles there, in degrees, and the drift is in degrees as well.

    Args:
        line: what [`line_attractor`][slowpoints.line_attractor] returns.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `color` and
            `kwargs` (properties of lines) are those of the trajectories, and its labels those of
            the left panel. In figures narrower than 6 inches the panels are above each other.
        projection: names and directions of the axes, such as a readout and the effect of an input,
            as for [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]. By default the first
            two principal components of the points.
        state_traj: `[trials, time, n_states]` trajectories to draw behind the line, or a pair or
            layers of them; by default none.
        fixed_points: points of a search, to draw with the marks of their kinds instead of those of
            the line; those near the curve also where the drift is 0.
        unit: what times are in, such as `"ms"` if `line` was made with `dt=10` for steps of 10 ms;
            by default the axes say "unit of `dt`" there.
        vectors: whether to draw eigenvectors and selection vectors.
        ax: axes to draw the left panel on, and nothing else. The figure is then neither shown nor
            written to a file, and a title is drawn only if `config` has one.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite.
    """
    caller = "plot_line_attractor"
    arguments.instance(caller, "line", line, LineAttractor, "a slowpoints.LineAttractor")
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if unit is not None:
        arguments.instance(caller, "unit", unit, str, "a str such as 'ms', or None")
    if ax is not None and not hasattr(ax, "scatter"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    vectors = arguments.flag(caller, "vectors", vectors)
    n_states = line.curve.shape[1]
    found = _checked_points(caller, fixed_points, n_states)
    states = None if state_traj is None else states_of(caller, state_traj, n_states)
    plane = _plane(caller, line, projection)
    paths = None
    if states is not None:
        check_finite(caller, "state_traj", states)
        paths = plane.of(states.astype(np.float64))
    if ax is not None:
        _draw_plane(ax, line, plane, paths, found, config, vectors)
        if config.title:
            ax.set_title(config.title)
        if config.show_legend:
            draw_legend(ax)
        return ax.figure
    shown = [plane.of(line.points.xstar)] + ([] if paths is None else [paths.reshape(-1, 2)])
    length, height = np.ptp(np.concatenate(shown), axis=0)
    if is_narrow(config) and config.figsize == PlotConfig.for_column().figsize:
        config = replace(config, figsize=(config.figsize[0], _HIGHER * config.figsize[1]))
    with style(config):
        fig: Any = new_figure(config)
        left, drift, lasting = _panels(fig, config, is_long=bool(length > _LONG * height))
        _draw_plane(left, line, plane, paths, found, config, vectors)
        one, several = (unit, unit) if unit else units_of(line)
        places = places_of(line, plane)
        draw_drift(drift, line, places, found, one)
        draw_time_constants(lasting, line, places, several)
        if config.title is not None:
            kind = "Ring" if line.is_closed else "Line"
            words = f"{kind} of length {line.length:.3g} through {line.points.n} points"
            left.set_title(config.title or words)
        if config.show_legend:
            draw_figure_legend(fig, left, config)
        finish(fig, config)
    return fig


def _plane(caller: str, line: LineAttractor, projection: Any) -> Plane:
    """Return the plane that is asked for, or that of the principal components of the points."""
    n_states = line.curve.shape[1]
    if projection is not None:
        seen = given_projection(caller, projection, n_states, 2)
        mean, axes = affine_map(caller, seen, n_states)
        return Plane(mean, axes, seen.names)
    x = line.points.xstar.astype(np.float64)
    padded = np.pad(x, ((0, 0), (0, max(0, 2 - n_states))))
    mean, components, variance = fit_pca(padded, 2)
    names = tuple(f"PC {k + 1} ({100 * v:.1f} %)" for k, v in enumerate(variance))
    return Plane(mean[:n_states], components[:, :n_states].T, names)


def _checked_points(
    caller: str, fixed_points: FixedPoints | None, n_states: int
) -> FixedPoints | None:
    points = checked_points(caller, "fixed_points", fixed_points)
    if points is not None and points.n and points.n_states != n_states:
        was = f"has {points.n_states} states"
        arguments.refuse(caller, "fixed_points", was, f"{n_states}, as `line` has", ValueError)
    return points


def _draw_plane(
    ax: Any,
    line: LineAttractor,
    plane: Plane,
    paths: Float[np.ndarray, "trials time 2"] | None,
    found: FixedPoints | None,
    config: PlotConfig,
    vectors: bool,
) -> None:
    """Draw the left panel."""
    if paths is not None:
        faint = replace(config, color="0.5") if config.color == "black" else config
        draw_trajectories(ax, paths, Coloring(), faint)
    _draw_line(ax, line, plane, found, vectors)
    ax.set_xlabel(config.xlabel or plane.names[0])
    ax.set_ylabel(config.ylabel or plane.names[1])
    ax.set_aspect("equal", adjustable="box" if line.is_closed else "datalim")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(config.grid)


def _panels(fig: Any, config: PlotConfig, is_long: bool) -> tuple[Any, Any, Any]:
    """Return the axes of the plane, of the drift and of the time constants."""
    if is_narrow(config):
        grid = fig.add_gridspec(3, 1, height_ratios=(1 if is_long else 2, 1, 1))
        plane, drift, lasting = grid[0], grid[1], grid[2]
    elif is_long:
        grid = fig.add_gridspec(2, 2)
        plane, drift, lasting = grid[0, :], grid[1, 0], grid[1, 1]
    else:
        grid = fig.add_gridspec(2, 2, width_ratios=(1.6, 1))
        plane, drift, lasting = grid[:, 0], grid[0, 1], grid[1, 1]
    first = fig.add_subplot(drift)
    return fig.add_subplot(plane), first, fig.add_subplot(lasting, sharex=first)


def _draw_line(
    ax: Any, line: LineAttractor, plane: Plane, found: FixedPoints | None, vectors: bool
) -> None:
    """Draw the points, the curve through those that are on it, and vectors at some of these."""
    there, on = plane.of(line.points.xstar), line.is_on_curve
    curve = plane.of(line.curve)[rows_of(line)]
    if line.is_closed:
        curve = np.concatenate([curve, curve[:1]])
    scale = scale_of_marks()
    ax.plot(*curve.T, color="black", linewidth=scale, zorder=2, label="curve")
    if vectors:
        _draw_vectors(ax, line, plane)
    marked = line.points if found is None else found
    size = SMALL if found is None else LARGE
    places = plane.of(marked.xstar) if marked.n else np.zeros((0, 2))
    for group in groups_of(marked):
        look = {"marker": group.marker, "color": group.color, "edgecolors": "black", "zorder": 3}
        if found is not None:
            look["zorder"] = 4  # rather than the vectors, which are on the way of the curve
        label = f"{group.name} ({group.rows.sum()})"
        look |= {"s": size * scale**2, "linewidths": 0.4 * scale, "label": label}
        ax.scatter(*places[group.rows].T, **look)
    if not on.all():
        off: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.4", "zorder": 2}
        off |= {"s": 60 * scale**2, "linewidths": 0.8 * scale}
        ax.scatter(*there[~on].T, label=f"not on the curve ({np.sum(~on)})", **off)


def _draw_vectors(ax: Any, line: LineAttractor, plane: Plane) -> None:
    """Draw the right eigenvector and the selection vector at some points along the curve."""
    there, scale = plane.of(line.points.xstar), scale_of_marks()
    rows = np.flatnonzero(rows_of(line))
    rows = rows[np.unique(np.round(np.linspace(0, rows.size - 1, _SEGMENTS)).astype(int))]
    # Axes that are not of norm 1 stretch the points and the vectors alike.
    size = _LENGTH * np.ptp(there, axis=0).max() / np.linalg.norm(plane.axes, axis=0).max()
    for vectors, (color, width, name) in (
        (line.direction, _DIRECTION),
        (line.selection, _SELECTION),
    ):
        unit = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True)
        half = size * unit @ plane.axes / 2
        known = np.isfinite(half).all(axis=1)
        look: dict[str, Any] = {"color": color, "linewidth": width * scale, "zorder": 3.5}
        for place, way in zip(there[rows][known], half[known], strict=True):
            ax.plot(*np.stack([place - way, place + way]).T, **look)
        missing = "" if known.all() else f" (not of {np.sum(~known)} complex pairs)"
        ax.plot([], [], color=color, linewidth=width * scale, label=f"{name}{missing}")
