"""`plot_line_attractor`: a curve of slow points, what the network reads and does along it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._core import arguments
from slowpoints._drawing.coloring import Coloring
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import draw_trajectories, finish, new_figure, scale_of_marks, style
from slowpoints._drawing.layout import draw_figure_legend, is_narrow
from slowpoints._drawing.marks import groups_of
from slowpoints._drawing.scene import states_of
from slowpoints._drawing.view import check_finite, fit_pca, given_projection
from slowpoints._modes.line_attractor import LineAttractor

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

# A light and wide line, and a dark and thin one: told apart in print in grey as well.
_DIRECTION = ("#E58FBF", 2.6, "right eigenvector")
_SELECTION = ("#00573F", 1.4, "selection vector")


def plot_line_attractor(
    line: LineAttractor,
    config: PlotConfig | None = None,
    *,
    projection: Any = None,
    state_traj: Any = None,
    unit: str | None = None,
) -> "matplotlib.figure.Figure":
    """Draw a line attractor in a plane, and the drift and the time constants along it.

    As in fig. 5 and 6 of Mante et al. (2013). The left panel has the points, with the marks of
    their kinds, the curve through them and, at up to 8 of them, the right eigenvector of the
    slowest mode and its selection vector, both of norm 1 before they are projected: of a vector
    that is short here, most is outside the plane. The right panels have the drift and the time
    constant of the slowest mode against the place along the curve. They are below the left one if
    what this shows is more than twice as long as it is high.

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
        unit: what times are in, such as `"ms"` if `line` was made with `dt=10` for steps of 10 ms;
            by default the axes say "unit of `dt`" there.

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
    n_states = line.curve.shape[1]
    x = line.points.xstar.astype(np.float64)
    mean, axes, names = np.zeros(n_states), None, []
    if projection is not None:
        seen = given_projection(caller, projection, n_states, 2)
        names, origin = list(seen.names), seen.of(np.zeros(n_states))
        axes = seen.of(np.eye(n_states)) - origin
        mean = -np.linalg.pinv(axes).T @ origin  # what a transformer subtracts
    states = None
    if state_traj is not None:
        states = states_of(caller, state_traj, n_states)
        check_finite("state_traj", states)
    if axes is None:
        padded = np.pad(x, ((0, 0), (0, max(0, 2 - n_states))))
        mean, components, variance = fit_pca(padded, 2)
        mean, axes = mean[:n_states], components[:, :n_states].T
        names = [f"PC {k + 1} ({100 * v:.1f} %)" for k, v in enumerate(variance)]

    with style(config):
        fig: Any = new_figure(config)
        paths = None if states is None else (states - mean) @ axes
        shown = [(x - mean) @ axes] + ([] if paths is None else [paths.reshape(-1, 2)])
        length, height = np.ptp(np.concatenate(shown), axis=0)
        plane, drift, lasting = _panels(fig, config, is_long=bool(length > _LONG * height))
        if paths is not None:
            faint = replace(config, color="0.5") if config.color == "black" else config
            draw_trajectories(plane, paths, Coloring(), faint)
        _draw_line(plane, line, x, mean, axes)
        plane.set_xlabel(config.xlabel or names[0])
        plane.set_ylabel(config.ylabel or names[1])
        plane.set_aspect("equal", adjustable="datalim")
        plane.spines[["top", "right"]].set_visible(False)
        plane.grid(config.grid)
        one, several = (unit, unit) if unit else _units(line)
        _draw_drift(drift, line, one)
        _draw_time_constants(lasting, line, several)
        if config.title is not None:
            kind = "Ring" if line.is_closed else "Line"
            words = f"{kind} of length {line.length:.3g} through {line.points.n} points"
            plane.set_title(config.title or words)
        if config.show_legend:
            draw_figure_legend(fig, plane, config)
        finish(fig, config)
    return fig


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
    ax: Any,
    line: LineAttractor,
    x: Float[np.ndarray, "n n_states"],
    mean: Float[np.ndarray, " n_states"],
    axes: Float[np.ndarray, "n_states 2"],
) -> None:
    """Draw the points, the curve through those that are on it, and vectors at some of these."""
    there, on = (x - mean) @ axes, line.is_on_curve
    curve = ((line.curve - mean) @ axes)[_rows(line)]
    if line.is_closed:
        curve = np.concatenate([curve, curve[:1]])
    scale = scale_of_marks()
    ax.plot(*curve.T, color="black", linewidth=scale, zorder=2, label="curve")
    rows = np.flatnonzero(_rows(line))
    rows = rows[np.unique(np.round(np.linspace(0, rows.size - 1, _SEGMENTS)).astype(int))]
    # Axes that are not of norm 1 stretch the points and the vectors alike.
    size = _LENGTH * np.ptp(there, axis=0).max() / np.linalg.norm(axes, axis=0).max()
    for vectors, (color, width, name) in (
        (line.direction, _DIRECTION),
        (line.selection, _SELECTION),
    ):
        unit = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True)
        half = size * unit @ axes / 2
        known = np.isfinite(half).all(axis=1)
        look: dict[str, Any] = {"color": color, "linewidth": width * scale, "zorder": 3.5}
        for place, way in zip(there[rows][known], half[known], strict=True):
            ax.plot(*np.stack([place - way, place + way]).T, **look)
        missing = "" if known.all() else f" (not of {np.sum(~known)} complex pairs)"
        ax.plot([], [], color=color, linewidth=width * scale, label=f"{name}{missing}")
    for group in groups_of(line.points):
        look: dict[str, Any] = {"marker": group.marker, "color": group.color, "edgecolors": "black"}
        label = f"{group.name} ({group.rows.sum()})"
        ax.scatter(
            *there[group.rows].T,
            s=14 * scale**2,
            linewidths=0.4 * scale,
            zorder=3,
            label=label,
            **look,
        )
    if not on.all():
        off: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.4", "zorder": 2}
        off |= {"s": 60 * scale**2, "linewidths": 0.8 * scale}
        ax.scatter(*there[~on].T, label=f"not on the curve ({np.sum(~on)})", **off)


def _rows(line: LineAttractor) -> Bool[np.ndarray, " n"]:
    """Return which points are on the curve; all, if none is."""
    on = line.is_on_curve
    return on if on.any() else np.ones_like(on)


def _units(line: LineAttractor) -> tuple[str, str]:
    """Return what times are in: one, and several."""
    if line.dt != 1:
        return "unit of `dt`", "unit of `dt`"
    if line.points.continuous_time:
        return "unit of time of $f$", "unit of time of $f$"
    return "step", "steps"


def _draw_drift(ax: Any, line: LineAttractor, unit: str) -> None:
    """Draw the drift along the curve, on which the state comes to rest where it falls through 0."""
    scale = scale_of_marks()
    ax.axhline(0, color="0.6", linewidth=0.8 * scale, zorder=1)
    known = np.isfinite(line.drift)
    on = _rows(line) & known
    look: dict[str, Any] = {
        "color": "black",
        "linewidth": 0.8 * scale,
        "markersize": 5 * scale,
        "zorder": 2,
    }
    ax.plot(line.arclength[on], line.drift[on], ".-", **look)
    ax.set_ylabel(f"drift\n(per {unit})")  # in one line, longer than the axis
    ax.ticklabel_format(axis="y", scilimits=(-2, 3))
    if ax.get_subplotspec().is_last_row():
        ax.set_xlabel("place along the curve")
    else:  # the panel below has the same axis
        ax.tick_params(labelbottom=False)
    ax.spines[["top", "right"]].set_visible(False)
    if not known.all():
        ax.plot([], [], " ", label=f"not known, not drawn ({np.sum(~known)})")
        _legend_above(ax)


def _draw_time_constants(ax: Any, line: LineAttractor, unit: str) -> None:
    """Draw how long the slowest modes last; hollow where deviations grow."""
    scale, last = scale_of_marks(), np.isfinite(line.time_constant)
    for grows, face in ((False, "black"), (True, "white")):
        rows = _rows(line) & last & ((line.time_constant < 0) == grows)
        if rows.any():
            look: dict[str, Any] = {"markeredgecolor": "black", "markerfacecolor": face}
            look |= {"markersize": 4 * scale, "markeredgewidth": 0.8 * scale}
            label = "grows" if grows else "decays"
            place, lasts = line.arclength[rows], np.abs(line.time_constant[rows])
            ax.plot(place, lasts, "o", label=label, **look)
    ax.set_yscale("log")
    _show_two_powers_of_ten(ax)
    ax.set_ylabel(f"time constant\n({unit})")
    ax.set_xlabel("place along the curve")
    ax.spines[["top", "right"]].set_visible(False)
    if not last.all():
        ax.plot([], [], " ", label=f"infinite, not drawn ({np.sum(~last)})")
    if ax.get_legend_handles_labels()[0]:
        _legend_above(ax)


def _legend_above(ax: Any) -> None:
    """Draw the legend above the axes, within which its marks look like data."""
    look = {"fontsize": "small", "frameon": False, "borderaxespad": 0.0, "handletextpad": 0.2}
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, columnspacing=1.0, **look)


def _show_two_powers_of_ten(ax: Any) -> None:
    """Let the axis of time constants reach from one power of ten to another, and label no others.

    With fewer of them in view, Matplotlib labels 2, 3, 4 and 6 times 10 ** 3 as well, a crowd.
    """
    from matplotlib.ticker import NullFormatter

    low, high = np.log10(ax.get_ylim())
    if np.floor(high) - np.ceil(low) < 1:
        ax.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    ax.yaxis.set_minor_formatter(NullFormatter())
