"""`plot_account`: where the rows of a search went, and how long they took."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import finish, new_figure, scale_of_marks, style
from slowpoints._drawing.layout import draw_figure_legend, is_narrow
from slowpoints._pipeline.account import Account, account
from slowpoints._pipeline.parts import Part, all_points, brief, count_of
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status

if TYPE_CHECKING:
    import matplotlib.figure

# The marks that points of a status have in other figures, and two for rows that end at no point.
_MARKS = {
    Status.FIXED_POINT: ("o", "#0072B2"),
    Status.SLOW_POINT: ("*", "#56B4E9"),
    Status.WITHIN_TOLERANCE: ("p", "#B3B3B3"),
    Status.UNFINISHED: ("h", "#4D4D4D"),
    Status.ESCAPED: ("x", "#D55E00"),
    Status.NOT_FINITE: ("+", "#000000"),
}

_MANY = 5000
"""More rows of a kind than this have smaller and translucent marks, and vector formats hold them as
an image."""

_BAR = 0.35
"""The height of a bar, as a part of the distance to the next one; the words need the rest."""

_LEAST_BARS = 4
"""Fewer bars are no higher than if there were so many."""

_HALF = 0.5
"""Where a row that took no iteration is on the logarithmic axis."""


def plot_account(
    unique_fps: FixedPoints, all_fps: FixedPoints, config: PlotConfig | None = None, **rules: Any
) -> "matplotlib.figure.Figure":
    """Draw what became of the rows of a search: see [`account`][slowpoints.account].

    On the left, a bar for each part of the account says how many rows ended alike, at how many
    distinct points, and which rule dropped these. On the right, each row's `q` is drawn against the
    iterations that it took, with the mark of its status; rows whose points are dropped are pale.
    The threshold `final_q_threshold` is a line. Rows with `q = 0` are at the bottom, and those with
    no finite `q` are counted in the legend.

    Args:
        unique_fps: the points that were kept.
        all_fps: all rows, with `qstar`, `status`, `tol_unique` and `n_iters`.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. If the figure is
            narrower than 6 inches, the panels are above each other. `xlabel` and `ylabel` are those
            of the panel of rows; `kwargs` and `color` have no effect.
        **rules: the settings that the search was given, as in `account`, such as
            `final_q_threshold`.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind, or a rule of another name.
        ValueError: if a field is missing, or a rule is out of range.
    """
    caller = "plot_account"
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    told = account(unique_fps, all_fps, **rules)
    if all_fps.n_iters is None:
        expected = "the iterations that each row took"
        arguments.refuse(caller, "all_fps.n_iters", "is None", expected, ValueError)
    default = inspect.signature(account).parameters["final_q_threshold"].default
    threshold = rules.get("final_q_threshold", default)

    with style(config):
        fig: Any = new_figure(config)
        left, right = fig.subplots(*((2, 1) if is_narrow(config) else (1, 2)))
        _draw_bars(left, told)
        _draw_rows(right, all_fps.to_numpy(), told, threshold, config)
        if config.title is not None:
            kept = count_of(unique_fps.compact().n, "point")
            rows = f"{told.n_rows:,} start{'' if told.n_rows == 1 else 's'}"
            left.set_title(config.title or f"{rows}, {kept} kept")
        if config.show_legend:
            draw_figure_legend(fig, right, config)
        finish(fig, config)
    return fig


def _draw_bars(ax: Any, told: Account) -> None:
    """Draw a bar for each part, with its words above it."""
    from matplotlib.ticker import MaxNLocator

    for place, part in enumerate(told.parts):
        color = _MARKS[part.status][1]
        dropped = {"facecolor": "none", "hatch": "////"} if part.dropped_by else {"color": color}
        ax.barh(place, part.n_rows, _BAR, align="edge", edgecolor=color, linewidth=0.8, **dropped)
        ax.annotate(_words(part), (0, place), (1, 3), textcoords="offset points", fontsize="small")
    ax.set_ylim(max(len(told.parts), _LEAST_BARS) - 0.4, -0.6)  # the first one is on top
    ax.set(yticks=[], xlim=(0, max(told.n_rows, 1)))
    ax.set_xlabel("starts")
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _words(part: Part) -> str:
    """Say what a part is in the words of the account."""
    text = f"{part.n_rows:,} {part.status}"
    if part.status == Status.WITHIN_TOLERANCE:
        text = f"{part.n_rows:,} stopped at q < tol_q, at {count_of(all_points(part), 'state')}"
    elif part.status < Status.WITHIN_TOLERANCE:
        text = f"{part.n_rows:,} at {count_of(all_points(part), str(part.status))}"
    if part.status >= Status.ESCAPED:
        return text
    if part.dropped_by:
        return f"{text}, dropped by {part.dropped_by}"
    return f"{text}, {'kept' if part.n_points else 'already counted'}"


def _draw_rows(
    ax: Any, fps: FixedPoints, told: Account, threshold: Any, config: PlotConfig
) -> None:
    """Draw `q` against the iterations of each row, rare kinds of rows on top."""
    q = np.asarray(fps.qstar, np.float64)
    finite = np.isfinite(q)
    is_zero, at_once = finite & (q <= 0), finite & (fps.n_iters < 1)
    # Zeros are two decades below all others on this logarithmic axis.
    floor = 10.0 ** (np.floor(np.log10(q[finite & ~is_zero].min(initial=1.0))) - 2)
    places = np.stack([np.maximum(fps.n_iters, _HALF), np.where(is_zero, floor, q)])
    dropped = told.dropped_by != ""
    kinds = [
        (s, d, finite & (fps.status == s) & (dropped == d)) for s in Status for d in (False, True)
    ]
    for order, (status, is_dropped, rows) in enumerate(sorted(kinds, key=lambda k: -k[2].sum())):
        if rows.any():
            _draw_kind(ax, places[:, rows], status, is_dropped, order)
    width = 0.8 * scale_of_marks()
    if threshold:
        label = f"final_q_threshold = {brief(threshold)}"
        ax.axhline(threshold, color="0.2", linestyle="--", linewidth=width, zorder=1, label=label)
    if is_zero.any():
        label = f"q = 0 ({is_zero.sum():,})"
        ax.axhline(floor, color="0.6", linestyle=":", linewidth=width, zorder=1, label=label)
    for number, text in (
        (at_once.sum(), f"no iteration, drawn at {_HALF}"),
        (np.sum(~finite), "q not finite, not drawn"),
    ):
        if number:
            ax.plot([], [], " ", label=f"{text} ({number:,})")
    ax.set(xscale="log", yscale="log")
    _plain_ticks(ax)
    ax.set_xlabel(config.xlabel or "iterations")
    ax.set_ylabel(config.ylabel or "$q$")
    ax.grid(config.grid)
    ax.spines[["top", "right"]].set_visible(False)


def _plain_ticks(ax: Any) -> None:
    """Write whole numbers at the ticks of the axis of iterations, some even within a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = ax.get_xlim()
    ax.set_xlim(low / 1.3, high * 1.3)
    within = (1, 2, 5) if high < 50 * low else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=within))
    ax.xaxis.set_major_formatter("{x:,g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_kind(
    ax: Any,
    places: Float[np.ndarray, "2 k"],
    status: Status,
    is_dropped: bool,
    order: int,
) -> None:
    """Draw rows of one status that are all kept or all dropped."""
    marker, color = _MARKS[status]
    many = places.shape[1] > _MANY
    look: dict[str, Any] = {"marker": marker, "color": color}
    if marker not in "x+":
        look = {"marker": marker, "edgecolors": color}
        look["facecolors"] = "none" if is_dropped else color
    look["linewidths"] = 0.8 * scale_of_marks() if is_dropped or marker in "x+" else 0.0
    size = (30 if marker == "*" else 18) * scale_of_marks() ** 2
    label = f"{status}{', dropped' if is_dropped else ''} ({places.shape[1]:,})"
    ax.scatter([], [], s=size, label=label, **look)  # for the legend, at its full size
    look |= {"s": size / 3, "alpha": 0.4} if many else {"s": size, "alpha": 0.8}
    ax.scatter(*places, zorder=2 + order / 100, rasterized=many, **look)
