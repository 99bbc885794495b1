"""Where legends, scales of colours and boxes of three axes are on a figure, hiding nothing."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._drawing.coloring import Coloring, Scale
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import KIND_BY_SHAPE, extent_of_box, finish, new_figure, style

NARROW = 6.0
"""The legend is below the axes of figures that are narrower than this, in inches: beside them, it
would take up half of the width."""

_GAP = 0.04
"""Between the labels of the axes and the legend, as a part of the axes."""

_HANDLE, _DASHED_HANDLE = 1.4, 2.6
"""The length of lines in a legend, in letters: the longer one shows a dash, a dot and a dash."""

_STILL = 0.01
"""A legend that would move by less than this part of the axes stays: nobody would see it."""


def draw_legend(ax: Any) -> None:
    """Draw the legend beside the axes, or below them in a narrow figure."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    inside = ax.figure  # which may be a part of a figure
    below = bool(inside.bbox.width < NARROW * inside.dpi)
    corner = "upper center" if below else "upper left"
    make = partial(ax.legend, handles, labels)
    legend = _legend(make, below, inside, loc=corner, borderaxespad=0.0)
    place, moved = np.zeros(2), True
    while moved:  # making room for the legend moves the labels that it is beside
        inside.canvas.figure.draw_without_rendering()
        (_, bottom), (right, _) = ax.transAxes.inverted().transform(_extent(ax))
        before, place = place, np.array([0.5, bottom - _GAP] if below else [right + _GAP, 1.0])
        moved = np.abs(place - before).max() > _STILL
        legend.set_bbox_to_anchor(tuple(place), ax.transAxes)


def _legend(make: "partial[Any]", below: bool, fig: Any, **look: Any) -> Any:
    """Make a legend, below the axes in two columns if these are not wider than the figure."""
    look |= {"frameon": False, "columnspacing": 1.0, "handlelength": _HANDLE, "handletextpad": 0.6}
    legend = make(ncols=2 if below else 1, **look)
    if any(line.is_dashed() for line in legend.get_lines()):
        legend.remove()
        look["handlelength"] = _DASHED_HANDLE
        legend = make(ncols=2 if below else 1, **look)
    if below and legend.get_window_extent().width > fig.bbox.width:
        legend.remove()
        legend = make(ncols=1, **look)
    return _legible(legend, make.args[0])


def _legible(legend: Any, handles: Any) -> Any:
    """Make lines of a legend opaque, and all grey that has its colours from a scale."""
    for line in legend.get_lines():
        line.set_alpha(0.8)  # one translucent line by itself is hardly seen
    for mark, handle in zip(legend.legend_handles, handles, strict=True):
        if hasattr(handle, "get_segments") and handle.get_array() is not None:
            mark.set_color("0.4")  # a colour of the scale would be that of some number
        if getattr(handle, "get_gid", lambda: None)() == KIND_BY_SHAPE:  # error bars have none
            mark.set_facecolors("0.75")
    return legend


def is_narrow(config: PlotConfig) -> bool:
    """Return whether a legend is below, and panels are above each other."""
    return config.figsize[0] < NARROW


def draw_figure_legend(fig: Any, ax: Any, config: PlotConfig) -> None:
    """Draw the legend of one panel beside all of them, or below them in a narrow figure.

    Unlike a legend of the axes themselves, it takes no width from these where it is below.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    below = is_narrow(config)
    place = "outside lower center" if below else "outside right upper"
    _legend(partial(fig.legend, handles, labels), below, fig, loc=place)


def draw_names_below(fig: Any, named: dict[str, Any]) -> None:
    """Draw one legend for all panels, below them, in as many columns as there is room for."""
    for n_columns in range(min(5, len(named)), 0, -1):
        legend = fig.legend(
            named.values(),
            named.keys(),
            loc="outside lower center",
            ncols=n_columns,
            frameon=False,
            columnspacing=1.2,
            handlelength=_HANDLE,
            handletextpad=0.6,
        )
        if n_columns == 1 or legend.get_window_extent().width <= fig.bbox.width:
            _legible(legend, named.values())
            return
        legend.remove()


def named_in_panels(axes: Iterable[Any]) -> dict[str, Any]:
    """Return the marks and lines of all panels by name, without how many each panel has."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(re.sub(r" \(\d+\)$", "", label), handle)
    if "trajectories" in found:
        found.pop("trajectory", None)  # of a panel that has one
    return found


def draw_plane(ax: Any, config: PlotConfig, title: str | None, draw: Callable[[Any], None]) -> Any:
    """Draw on axes that are given; or on a new figure, which is then written and shown.

    Args:
        ax: the axes, whose title is that of `config`; or `None`.
        config: the looks.
        title: what a new figure shows, if `config` has no title.
        draw: called with the axes; draws everything but the title and the legend.

    Returns:
        The figure.
    """
    if ax is not None:
        draw(ax)
        if config.title:
            ax.set_title(config.title)
        if config.show_legend:
            draw_legend(ax)
        return ax.figure
    with style(config):
        fig = new_figure(config)
        ax = fig.add_subplot()
        draw(ax)
        if words := title if config.title == "" else config.title:
            ax.set_title(words)
        if config.show_legend:
            draw_figure_legend(fig, ax, config)
        finish(fig, config)
    return fig


def draw_color_bar(ax: Any, coloring: Coloring) -> Any:
    """Draw the scale of colours beside the axes, if colours are numbers, and return it."""
    if coloring.scale is None:
        return None
    side = "left" if hasattr(ax, "get_zlim") else "right"
    return color_bar_beside(ax.figure, ax, coloring.scale, side)


def color_bar_beside(fig: Any, axes: Any, scale: Scale, side: str = "right") -> Any:
    """Draw a scale of colours beside one panel, or beside several that share it."""
    from matplotlib.cm import ScalarMappable

    shown = ScalarMappable(scale.norm, scale.cmap)
    look = {"location": side, "shrink": 0.6, "aspect": 25, "extend": scale.extend}
    return fig.colorbar(shown, ax=axes, label=scale.name, **look)


def fill_figure(ax: Any, color_bar: Any) -> None:
    """Make a box of three axes as large as the figure leaves room for, next to all else on it.

    Matplotlib's own layouts do not know how far the labels of such a box reach, so that the figure
    is to have none.
    """
    fig, legend = ax.figure, ax.get_legend()
    fig.draw_without_rendering()

    def size(artist: Any) -> tuple[float, float]:
        box = artist.get_window_extent()
        return box.width / fig.bbox.width, box.height / fig.bbox.height

    pad = 0.1 / np.array(fig.get_size_inches())
    low, high = pad.copy(), 1 - pad
    if ax.get_title():
        high[1] -= size(ax.title)[1] + pad[1]
    below = fig.get_figwidth() < NARROW
    if legend is not None and below:
        low[1] += size(legend)[1] + pad[1]
    elif legend is not None:
        high[0] -= size(legend)[0] + 2 * pad[0]
    if color_bar is not None:
        color_bar.ax.set_box_aspect(None)
        color_bar.ax.set_position((6 * pad[0], 0.3, 2 * pad[0], 0.45))
        (x, _), _ = fig.transFigure.inverted().transform(color_bar.ax.get_tightbbox().get_points())
        color_bar.ax.set_position((7 * pad[0] - x, 0.3, 2 * pad[0], 0.45))
        low[0] = 10 * pad[0] - x
    ax.set_position((*low, *(high - low)))
    _zoom(ax, low, high)
    if legend is not None:
        right = fig.transFigure.inverted().transform(_extent(ax))[1, 0]
        place = (0.5, low[1] - pad[1]) if below else (right + 2 * pad[0], high[1])
        legend.set_bbox_to_anchor(place, fig.transFigure)


_LARGEST = 1.5
"""No box is drawn larger than so many times what Matplotlib would draw."""


def _zoom(ax: Any, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]) -> None:
    """Choose the size at which a box and its labels just fit between corners of the figure."""
    zoom, middle = _LARGEST, (low + high) / 2
    for _ in range(12):  # labels keep their size, so that less is gained than the box shrinks
        ax.set_box_aspect(ax.get_box_aspect(), zoom=zoom)
        ax.figure.draw_without_rendering()
        if any([_clear_of_ticks(axis) for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]):
            ax.figure.draw_without_rendering()
        first, last = ax.figure.transFigure.inverted().transform(_extent(ax))
        reach = np.maximum((middle - first) / (middle - low), (last - middle) / (high - middle))
        if reach.max() <= 1.001:  # the axes themselves, which are counted, reach up to 1
            return
        zoom /= reach.max()


_OWN_PAD = 21.0
"""Matplotlib puts labels of three axes so far from these, in points, if `labelpad` is 0. Its points
are those of a cube: where the box is thin, labels come too close."""

_CLEAR = 1.0
"""The middle of a label is so far from labels of ticks, in sizes of the text: half its own height,
and a gap."""


def _clear_of_ticks(axis: Any) -> bool:
    """Move the label of an axis away from it if it touches those of ticks; return whether it did.

    Distances are along the axis as it is drawn and at a right angle to it, in pixels.
    """
    ends = axis.axes.transData.transform(axis.line.get_xydata())
    along = (ends[1] - ends[0]) / max(np.linalg.norm(ends[1] - ends[0]), 1.0)
    label = axis.label.get_window_extent()
    middle = np.array([label.x0 + label.x1, label.y0 + label.y1]) / 2 - ends.mean(axis=0)
    across = np.array([-along[1], along[0]])
    across *= np.sign(across @ middle)
    letters = axis.label.get_fontsize() * axis.get_figure().dpi / 72
    away = float(across @ middle)
    if away < 1:  # an axis that is seen from its end has no side
        return False
    reach = (float(np.array([label.width, label.height]) @ np.abs(along)) + letters) / 2
    missing = 0.0
    low, high = axis.get_view_interval()
    for tick in axis.get_major_ticks():  # `get_ticklabels` would put them elsewhere
        if not low <= tick.get_loc() <= high or not tick.label1.get_text():
            continue
        corners = tick.label1.get_window_extent().corners() - ends.mean(axis=0)
        place = (corners - middle) @ along
        if -reach <= place.max() and place.min() <= reach:
            missing = max(missing, float((corners @ across).max()) + _CLEAR * letters - away)
    if missing < 1:
        return False
    axis.labelpad += missing / away * (axis.labelpad + _OWN_PAD)
    return True


def _extent(ax: Any) -> Float[np.ndarray, "2 2"]:
    """Return the corners of the axes with their labels, in pixels."""
    others = [artist for artist in (ax.get_legend(), ax.title) if artist is not None]
    for artist in others:
        artist.set_visible(False)
    corners = ax.get_tightbbox().get_points()
    for artist in others:
        artist.set_visible(True)
    if hasattr(ax, "get_zlim"):
        first, last = extent_of_box(ax)
        corners = np.array([np.minimum(corners[0], first), np.maximum(corners[1], last)])
    return corners


def label_once(ax: Any) -> None:
    """Leave a label to the first of several lines of one kind, for the legend to have it once."""
    handles, labels = ax.get_legend_handles_labels()
    first = {label: handle for handle, label in reversed(list(zip(handles, labels, strict=True)))}
    for handle, label in zip(handles, labels, strict=True):
        if first[label] is not handle:
            handle.set_label("_" + label)
