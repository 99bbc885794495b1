"""The panels of `plot_line_attractor` that show what happens along the curve."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._drawing.drawing import scale_of_marks
from slowpoints._drawing.marks import groups_of
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status

SMALL, LARGE = 14, 30
"""The areas of marks of points along the line, and of fixed points that stand out from it."""


class Plane(NamedTuple):
    """The plane of the left panel: `(x - mean) @ axes`."""

    mean: Float[np.ndarray, " n_states"]
    axes: Float[np.ndarray, "n_states 2"]
    names: tuple[str, ...]

    def of(self, x: Any) -> Any:
        return (np.asarray(x, np.float64) - self.mean) @ self.axes


def rows_of(line: LineAttractor) -> Bool[np.ndarray, " n"]:
    """Return which points are on the curve; all, if none is."""
    on = line.is_on_curve
    return on if on.any() else np.ones_like(on)


def units_of(line: LineAttractor) -> tuple[str, str]:
    """Return what times are in: one, and several."""
    if line.dt != 1:
        return "unit of `dt`", "unit of `dt`"
    if line.points.continuous_time:
        return "unit of time of $f$", "unit of time of $f$"
    return "step", "steps"


class Places(NamedTuple):
    """Where points are along the curve, for the panels on the right.

    Attributes:
        at: `[n]` the place of each point.
        rate: `[n]` how fast places change per unit of length.
        label: what they are.
        unit: what they are in, for rates.
        are_angles: whether they are angles.
    """

    at: Float[np.ndarray, " n"]
    rate: Float[np.ndarray, " n"]
    label: str
    unit: str
    are_angles: bool


def places_of(line: LineAttractor, plane: Plane) -> Places:
    """Return angles, of a ring that goes around its middle once and never back; else lengths."""
    around = _around(line, plane)
    if line.is_closed and around is not None:
        at, rate = around
        return Places(at, rate, "angle in the plane (degrees)", "degrees ", True)
    return Places(line.arclength, np.ones(line.points.n), "place along the curve", "", False)


def _around(line: LineAttractor, plane: Plane) -> tuple[Any, Any] | None:
    """Return the angle of each point around the middle of a ring, and its change with length."""
    curve = plane.of(line.curve)
    middle = curve - curve[rows_of(line)].mean(axis=0)
    at = np.arctan2(middle[:, 1], middle[:, 0])
    steps = np.angle(np.exp(1j * np.diff(at[rows_of(line)], append=at[rows_of(line)][:1])))
    once = np.isclose(abs(steps.sum()), 2 * np.pi) and (np.all(steps > 0) or np.all(steps < 0))
    if not once:
        return None
    tangent = line.tangent @ plane.axes
    turned = middle[:, 0] * tangent[:, 1] - middle[:, 1] * tangent[:, 0]
    return np.degrees(at), np.degrees(turned / np.sum(middle**2, axis=1))


def draw_drift(
    ax: Any,
    line: LineAttractor,
    places: Places,
    found: FixedPoints | None,
    unit: str,
) -> None:
    """Draw the drift along the curve, on which the state comes to rest where it falls through 0."""
    scale = scale_of_marks()
    ax.axhline(0, color="0.6", linewidth=0.8 * scale, zorder=1)
    known = np.isfinite(line.drift)
    on = np.flatnonzero(rows_of(line) & known)
    on = on[np.argsort(places.at[on])]
    drift = line.drift * places.rate
    look: dict[str, Any] = {
        "color": "black",
        "linewidth": 0.8 * scale,
        "markersize": 5 * scale,
        "zorder": 2,
    }
    ax.plot(places.at[on], drift[on], ".-", **look)
    if found is not None:
        _draw_rests(ax, line, places, found)
    ax.set_ylabel(f"drift\n({places.unit}per {unit})")  # in one line, longer than the axis
    ax.ticklabel_format(axis="y", scilimits=(-2, 3))
    _name_places(ax, places)
    if not ax.get_subplotspec().is_last_row():  # the panel below has the same axis
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")
    ax.spines[["top", "right"]].set_visible(False)
    if not known.all():
        ax.plot([], [], " ", label=f"not known, not drawn ({np.sum(~known)})")
        _legend_above(ax)


def _draw_rests(ax: Any, line: LineAttractor, places: Places, found: FixedPoints) -> None:
    """Mark the fixed points that are near the curve where they are along it, at a drift of 0."""
    if found.status is not None:
        found = found[found.status == Status.FIXED_POINT]  # at a slow point it is not 0
    if found.n == 0:
        return
    away = np.linalg.norm(found.xstar[:, None] - line.curve[None, rows_of(line)], axis=2)
    nearest = np.flatnonzero(rows_of(line))[away.argmin(axis=1)]
    gap = np.max(np.diff(np.sort(line.arclength)), initial=0.0)
    at = places.at[nearest] + places.rate[nearest] * np.einsum(
        "nd,nd->n", found.xstar - line.curve[nearest], line.tangent[nearest]
    )
    if places.are_angles:
        at = (at + 180) % 360 - 180
    scale = scale_of_marks()
    for group in groups_of(found):
        rows = group.rows & (away.min(axis=1) <= gap)
        look: dict[str, Any] = {"marker": group.marker, "color": group.color, "zorder": 3}
        look |= {"edgecolors": "black", "s": LARGE * scale**2, "linewidths": 0.4 * scale}
        ax.scatter(at[rows], np.zeros(rows.sum()), **look)


def _name_places(ax: Any, places: Places) -> None:
    ax.set_xlabel(places.label)
    if places.are_angles:
        ax.set_xlim(-180, 180)
        ax.set_xticks(range(-180, 181, 90))


def draw_time_constants(ax: Any, line: LineAttractor, places: Places, unit: str) -> None:
    """Draw how long the slowest modes last; hollow where deviations grow."""
    scale, last = scale_of_marks(), np.isfinite(line.time_constant)
    for grows, face in ((False, "black"), (True, "white")):
        rows = rows_of(line) & last & ((line.time_constant < 0) == grows)
        if rows.any():
            look: dict[str, Any] = {"markeredgecolor": "black", "markerfacecolor": face}
            look |= {"markersize": 4 * scale, "markeredgewidth": 0.8 * scale}
            label = "grows" if grows else "decays"
            place, lasts = places.at[rows], np.abs(line.time_constant[rows])
            ax.plot(place, lasts, "o", label=label, **look)
    ax.set_yscale("log")
    _show_two_powers_of_ten(ax)
    ax.set_ylabel(f"time constant\n({unit})")
    _name_places(ax, places)
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
