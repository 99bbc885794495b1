"""What all static figures are made of: axes, lines, points, a legend, a file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._drawing.coloring import Coloring
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.marks import Group
from slowpoints._drawing.scene import Segment
from slowpoints._drawing.view import View

if TYPE_CHECKING:
    import matplotlib.figure

FAINTEST = 0.35
"""Lines are never more translucent than this: at 0.15 a single one vanishes in print."""

_OF_COLORS = 1.0
"""How opaque lines are whose colours tell something: others would not be those of the scale."""

_SMALLER, _PALE = 0.7, "0.88"
"""The area of a pale mark, as a part of that of another one, and its grey, which is darker than the
white of the rings at which trajectories begin."""

KIND_BY_SHAPE = "kind by shape"
"""The name of marks whose colours tell something else than their kind."""

_FONT_SIZE = 10.0
"""Sizes of marks and lines are for text of this size, in points, and grow with it."""


@contextlib.contextmanager
def style(config: PlotConfig) -> Iterator[None]:
    """Draw with text of the size that is asked for, and marks and lines to go with it.

    Text in PDF and PS files stays text, which programs for figures can edit.
    """
    import matplotlib

    changes: Any = {"pdf.fonttype": 42, "ps.fonttype": 42}
    if config.font_size is not None:
        scale = config.font_size / _FONT_SIZE
        changes["font.size"] = config.font_size
        changes["axes.titlesize"] = changes["axes.labelsize"] = config.font_size
        for name in ("xtick", "ytick"):
            changes[f"{name}.labelsize"] = 0.9 * config.font_size
            changes[f"{name}.major.size"] = 3.5 * scale
            changes[f"{name}.major.width"] = 0.8 * scale
        changes["legend.fontsize"] = 0.9 * config.font_size
        changes["axes.linewidth"] = 0.8 * scale
    with matplotlib.rc_context(changes):
        yield


def scale_of_marks() -> float:
    """Return how large marks and lines are, as a factor."""
    import matplotlib

    return float(matplotlib.rcParams["font.size"]) / _FONT_SIZE


def axis_labels(view: View, config: PlotConfig) -> list[str]:
    """Return the labels of all axes, with the explained variance where there is one."""
    given = [config.xlabel, config.ylabel, ""]
    labels = [own or name for own, name in zip(given, view.names, strict=False)]
    words = " of variance" if len(labels) == 2 else ""  # slanted axes are short
    for k, ratio in enumerate(view.projection.variance):
        labels[k] += f" ({100 * ratio:.1f} %{words})"
    return labels


def new_figure(config: PlotConfig) -> "matplotlib.figure.Figure":
    """Return an empty figure of the size that is asked for."""
    if config.show:
        from matplotlib import pyplot as plt

        return plt.figure(figsize=config.figsize, layout="constrained")
    from matplotlib.figure import Figure

    # Not pyplot's, which would open a window and hold on to the figure.
    return Figure(figsize=config.figsize, layout="constrained")


def draw_trajectories(
    ax: Any,
    trajectories: Float[np.ndarray, "shown steps axes"],
    coloring: Coloring,
    config: PlotConfig,
    ends: bool = True,
) -> None:
    """Draw each trajectory, and mark where it begins and where it ends, if `ends`."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    n_shown, n_steps, _ = trajectories.shape
    if n_shown == 0:
        return
    scale = scale_of_marks()
    name = "trajectory" if n_shown == 1 else "trajectories"
    look: dict[str, Any] = {"color": config.color, "linewidth": 0.7 * scale, "zorder": 1}
    # Points are what a figure is of: trajectories are behind them, and paler the more there are.
    look["alpha"] = float(np.clip(1.5 / n_shown, FAINTEST, 0.7))
    if coloring.of_trajectory is not None or coloring.values is not None:
        look |= {"alpha": _OF_COLORS, "linewidth": 1.0 * scale}  # hues of pale lines look alike
    moves = n_steps > 1 and np.ptp(trajectories, axis=1).any()
    if not moves:
        look["marker"] = "."  # a line through a single place is invisible
    # Spelled out, so that "lw" replaces "linewidth" rather than clash with it.
    look |= normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)
    colors: list[Any] = [look["color"]] * n_shown
    labels = [f"{name} ({n_shown})", *["_nolegend_"] * (n_shown - 1)]
    if coloring.of_trajectory is not None:
        labels = ["_nolegend_"] * n_shown
        for k, label in enumerate(coloring.labels):
            of_label = np.flatnonzero(coloring.of_trajectory == k)
            for i in of_label:
                colors[i] = coloring.colors[k]
            if of_label.size:
                labels[of_label[0]] = f"{coloring.name} {label} ({of_label.size})"
    if coloring.values is not None and moves:
        _draw_scaled(ax, trajectories, coloring, look | {"label": labels[0]})
    else:
        for trajectory, color, label in zip(trajectories, colors, labels, strict=True):
            ax.plot(*trajectory.T, **(look | {"color": color, "label": label}))
    if not moves or not ends:
        return
    mark = {"linestyle": "none", "zorder": 1.5, "markeredgewidth": 0.7 * scale}
    mark |= {"markersize": 3.5 * scale, "alpha": 0.8, "label": "_nolegend_"}
    edge = "0.3" if coloring.values is not None else None
    for at, marker, name in ((0, "o", "start"), (-1, "s", "end")):
        for i in range(n_shown):
            color = edge or colors[i]
            face = "white" if at == 0 else color
            ax.plot(
                *trajectories[i, at, :, None],
                marker=marker,
                markerfacecolor=face,
                markeredgecolor=color,
                **(mark | ({"label": name} if i == 0 else {})),
            )


def _draw_scaled(
    ax: Any,
    trajectories: Float[np.ndarray, "shown steps axes"],
    coloring: Coloring,
    look: dict[str, Any],
) -> None:
    """Draw trajectories whose colour changes along them."""
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    look = {key: value for key, value in look.items() if key not in ("color", "marker")}
    assert coloring.values is not None and coloring.scale is not None
    n_steps = trajectories.shape[1]
    pieces = np.stack([trajectories[:, :-1], trajectories[:, 1:]], axis=2)
    values = coloring.values[:, : n_steps - 1]
    if (values == values[:, :1]).all():  # whole lines, which have no seams
        pieces, values = trajectories[:, None], values[:, :1]
    is_3d = trajectories.shape[2] == 3
    look.setdefault("capstyle", "round")  # of pieces, others leave gaps in a bend
    lines: Any = (Line3DCollection if is_3d else LineCollection)(
        pieces.reshape(-1, *pieces.shape[2:]).tolist(),
        cmap=coloring.scale.cmap,
        norm=coloring.scale.norm,
        **look,
    )
    lines.set_array(values.ravel())
    if is_3d:
        ax.add_collection3d(lines)
    else:
        ax.add_collection(lines)
    ax.auto_scale_xyz(*trajectories.reshape(-1, 3).T) if is_3d else ax.autoscale_view()


def draw_segments(ax: Any, segments: list[Segment], groups: list[Group]) -> None:
    """Draw lines along eigenvectors, in the colour of their point, the stable ones dashed."""
    from matplotlib.patheffects import Normal, Stroke

    scale = scale_of_marks()
    look = {
        "linewidth": 1.8 * scale,
        "path_effects": [Stroke(linewidth=2.8 * scale, foreground="black"), Normal()],
        "zorder": 2.5,
    }
    for is_unstable, style, name in (
        (True, "-", "unstable eigenvectors"),
        (False, (0, (1.5, 1)), "slowest stable eigenvectors"),
    ):
        shown = [segment for segment in segments if segment.is_unstable == is_unstable]
        for segment in shown:
            color = next(group.color for group in groups if group.rows[segment.row])
            ax.plot(*segment.ends.T, color=color, linestyle=style, label="_nolegend_", **look)
        if shown:  # in the legend, the colour of no kind of points
            nowhere = [[]] * shown[0].ends.shape[1]
            ax.plot(*nowhere, color="0.75", linestyle=style, label=name, **look)


def draw_points(
    ax: Any,
    points: Float[np.ndarray, "n axes"],
    groups: list[Group],
    coloring: Coloring | None = None,
) -> None:
    """Draw each group of points with its mark, and name it for the legend."""
    size, edge = (60, 0.8) if len(points) <= 100 else (28, 0.5)
    scale = scale_of_marks()
    # Shading by depth would make colours differ from those in the legend.
    depthshade = {"depthshade": False} if points.shape[1] == 3 else {}
    for group in groups:
        own = None if coloring is None else coloring.of_points(group.rows)
        color: Any = group.color if own is None else own
        # A star is mostly air.
        part = _SMALLER if group.is_pale else 1.8 if group.marker == "*" else 1.0
        look: dict[str, Any] = {
            "s": part * size * scale**2,
            "marker": group.marker,
            "facecolors": _PALE if group.is_pale else color,
            "edgecolors": color if group.is_pale else "black",
            "linewidths": edge * scale,
            "zorder": 2.9 if group.is_pale else 3,
        }
        name = f"{group.name} ({group.rows.sum()})"
        gid = None if own is None else KIND_BY_SHAPE
        ax.scatter(*points[group.rows].T, label=name, gid=gid, **look, **depthshade)
    of_point = None if coloring is None else coloring.of_point
    if coloring is not None and of_point is not None:
        of_lines = coloring.of_trajectory
        for k, label in enumerate(coloring.labels):
            if of_lines is not None and (np.any(of_lines == k) or not np.any(of_point == k)):
                continue  # the lines of trajectories say it, or there is nothing to say
            nowhere = np.zeros((points.shape[1], 0))
            ax.scatter(
                *nowhere,
                color=coloring.colors[k],
                marker="s",
                label=f"{coloring.name} {label} ({np.sum(of_point == k)})",
            )


def style_axes(ax: Any, view: View, config: PlotConfig) -> None:
    """Set scales, ticks, spines and grid."""
    from matplotlib.ticker import MaxNLocator

    if len(view.names) == 3:
        grown = _FONT_SIZE * (
            scale_of_marks() - 1
        )  # Matplotlib keeps the distance, whatever the text
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.labelpad += 1.6 * grown
            axis.set_tick_params(pad=3.5 + 0.4 * grown)
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axis.pane.set_facecolor("white")
            axis.pane.set_edgecolor("0.8")
            axis.pane.set_closed(True)  # or the box lacks its edge at the left
        _fill_box(ax, view)
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        if view.is_return_map:
            ax.set_aspect("equal", adjustable="datalim")
    ax.grid(config.grid, **({"alpha": 0.3} if config.grid else {}))


_THINNEST = 0.4
"""The box is at least so thin: an axis along which nothing happens keeps room for its ticks."""


def _fill_box(ax: Any, view: View) -> None:
    """Give the three axes the limits of the data, and the same scale where they can be compared."""
    drawn = np.concatenate([view.points, view.trajectories.reshape(-1, 3)])
    if len(drawn) == 0:
        return
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    width = high - low
    widest = float(width[: len(view.projection.names)].max()) or 1.0
    shape = np.maximum(width / widest, _THINNEST)
    if view.time_span is not None:  # time is compared with nothing
        shape[2] = 1.0
        shown = np.where([True, True, False], shape * widest, max(width[2], 1.0))
    else:
        shown = shape * widest
    margin = 0.04 * shown
    low, high = (low + high - shown) / 2 - margin, (low + high + shown) / 2 + margin
    for axis, a, b in zip("xyz", low, high, strict=True):
        getattr(ax, f"set_{axis}lim")(a, b)
    ax.set_box_aspect(shape)


def extent_of_box(ax: Any) -> Float[np.ndarray, "2 2"]:
    """Return the corners of a box of three axes with its labels, in pixels.

    Matplotlib's own extents have the axes and their labels, but not the box's edges at the back.
    """
    from matplotlib.transforms import Bbox
    from mpl_toolkits.mplot3d.proj3d import proj_transform

    x, y, z = (a.ravel() for a in np.meshgrid(ax.get_xbound(), ax.get_ybound(), ax.get_zbound()))
    x, y, _ = proj_transform(x, y, z, ax.get_proj())
    corners = ax.transData.transform(np.column_stack([x, y]))
    box = Bbox([corners.min(axis=0), corners.max(axis=0)])
    labelled = [axis.get_tightbbox() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]
    return Bbox.union([box, *(each for each in labelled if each is not None)]).get_points()


def _trimmed(fig: "matplotlib.figure.Figure") -> Any:
    """Return what is drawn on a figure with a box of three axes, and a margin, in inches."""
    import matplotlib
    from matplotlib.transforms import Bbox

    fig.draw_without_rendering()
    drawn = []
    for ax in fig.axes:
        if not hasattr(ax, "get_zlim"):
            drawn.append(ax.get_tightbbox())
            continue
        drawn.append(Bbox(extent_of_box(ax)))
        others = [ax.get_legend(), ax.title if ax.get_title() else None]
        drawn += [artist.get_window_extent() for artist in others if artist is not None]
    inches = Bbox.union(drawn).transformed(fig.dpi_scale_trans.inverted())
    return inches.padded(matplotlib.rcParams["savefig.pad_inches"])


def finish(fig: "matplotlib.figure.Figure", config: PlotConfig) -> None:
    """Write and show the figure, if that is asked for."""
    if config.save_path:
        Path(config.save_path).parent.mkdir(parents=True, exist_ok=True)
        how = config.to_savefig_kwargs()
        if how.get("bbox_inches") == "tight" and any(hasattr(ax, "get_zlim") for ax in fig.axes):
            how["bbox_inches"] = _trimmed(fig)
        fig.savefig(config.save_path, **how)
        if config.verbose:
            print(f"Saved {os.fspath(config.save_path)}.")
    if config.show:
        from matplotlib import pyplot as plt

        plt.show()
