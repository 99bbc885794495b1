"""`plot_eigenvalues`: the eigenvalues of fixed points on the complex plane."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Complex, Float

from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import scale_of_marks
from slowpoints._drawing.layout import draw_plane
from slowpoints._drawing.marks import Group, groups_of
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_LEAST_REACH = 1.3
"""The axes of a map reach this far from 0 or farther, to have room for the numbers around the unit
circle."""

_ROOM = 1.08
"""The axes reach past the farthest eigenvalue by this factor."""

_LEAST_SHAPE = 0.4
"""In continuous time, the shorter axis is this part of the longer one or more, so that eigenvalues
on a line do not make a figure that is a line."""

_ZOOM = 0.5
"""If all eigenvalues of a map are, with 1, in a square of less than this part of the whole, as
those of units with a slow leak are, only that square is shown."""

_ZOOMED_ROOM = 1.25
"""The square is larger than what is in it by this factor, and half of that farther to the right, to
have room for the numbers."""

_WITHIN = 0.93
"""Numbers are written where they are within this part of the axes, so that none is cut off."""

_GAP = 0.055
"""Circles with time constants are this far apart, as a part of the axis: somewhat more than the
height of small letters at one column's width."""

_GAP_ON_AXIS = 0.09
"""On an axis, they are this far apart: the width of some letters."""

_GREY = "0.45"


def plot_eigenvalues(
    fixed_points: FixedPoints,
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
    dt: Number | None = None,
) -> "matplotlib.figure.Figure":
    """Draw the eigenvalues of the Jacobian at each point on the complex plane.

    Eigenvalues have the mark of their point's kind, which is that of
    [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]. What grows is outside the unit
    circle, or in continuous time to the right of the imaginary axis. If all eigenvalues of a map
    are in a small part of the plane near 1, as those of units with a slow leak are, only that part
    and its arc of the circle are drawn.

    The second scales are those of time. For a map, a time constant `-1 / log|lambda|` belongs to a
    radius and a frequency `angle(lambda) / (2 pi)` to an angle, so time constants are written on
    circles and frequencies around the unit circle; the frequencies of the lower half are those of
    the upper half, negative. In continuous time, time constants `-1 / Re(lambda)` are on the top
    axis and frequencies `Im(lambda) / (2 pi)` on the right axis. Time constants of what grows are
    negative.

    Args:
        fixed_points: the points, with `eigval_J_xstar`; only `valid` rows are drawn. If these are
            the `k` leading eigenvalues only, the horizontal axis says so. Eigenvalues that are not
            finite are counted in the legend.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` and
            `color` have no effect; `rasterized` is about the marks.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.
        dt: how long a step takes (in continuous time, a unit of time of `f`), for time constants
            and frequencies. By default they are in steps, or in the unit of time of `f`.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are no eigenvalues, or `dt` is not positive.
    """
    caller = "plot_eigenvalues"
    what = "a slowpoints.FixedPoints"
    arguments.instance(caller, "fixed_points", fixed_points, FixedPoints, what)
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if ax is not None and not hasattr(ax, "scatter"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    step = 1.0 if dt is None else float(arguments.positive(caller, "dt", dt))
    points = fixed_points.to_numpy().compact()
    if points.eigval_J_xstar is None:
        expected = "the points' eigenvalues: call `decompose` first"
        name = "fixed_points.eigval_J_xstar"
        arguments.refuse(caller, name, "is None", expected, ValueError)
    values = points.eigval_J_xstar.astype(np.complex128)
    own_unit = "unit of time of $f$" if points.continuous_time else "step"
    unit = own_unit if dt is None else "unit of time"

    def draw(ax: Any) -> None:
        ax.set_aspect("equal")
        if points.continuous_time:
            _draw_half_planes(ax, values, step, unit)
        else:
            _draw_circles(ax, values, step, unit)
        _draw_marks(ax, values, groups_of(points) if points.n else [], config)
        k, n_states = values.shape[1], points.n_all_modes
        leading = f" ({k} leading of {n_states} eigenvalues)" if k < n_states else ""
        ax.set_xlabel(config.xlabel or rf"Re $\lambda${leading}")
        ax.set_ylabel(config.ylabel or r"Im $\lambda$")
        ax.grid(config.grid)

    status = np.full(points.n, Status.FIXED_POINT) if points.status is None else points.status
    return draw_plane(ax, config, f"Eigenvalues of {counted(status)}", draw)


def _draw_marks(
    ax: Any, values: Complex[np.ndarray, "n k"], groups: list[Group], config: PlotConfig
) -> None:
    """Draw the eigenvalues of each kind of point, those of fewer points on top."""
    finite = np.isfinite(values)
    size, edge = (30, 0.5) if values.size <= 1000 else (16, 0.3)
    scale = scale_of_marks()
    for group in groups:
        shown = values[group.rows][finite[group.rows]]
        ax.scatter(
            np.real(shown),
            np.imag(shown),
            s=size * scale**2 * (1.8 if group.marker == "*" else 1.0),  # a star is mostly air
            marker=group.marker,
            color=group.color,
            edgecolors="black",
            linewidths=edge * scale,
            zorder=3 - group.rows.sum() / (len(values) + 1),
            rasterized=config.rasterized,
            label=f"{group.name} ({group.rows.sum()})",
        )
    if not finite.all():
        ax.plot([], [], " ", label=f"not drawn: {np.sum(~finite)} that are not finite")


# ---- a map: time constants are radii, frequencies angles -----------------------------------------


def _draw_circles(ax: Any, values: Complex[np.ndarray, "n k"], step: float, unit: str) -> None:
    """Draw the unit circle with frequencies around it, and circles of equal time constants."""
    from matplotlib.patches import Circle
    from matplotlib.ticker import MaxNLocator

    shown = values[np.isfinite(values)]
    center, reach = _window(shown)
    ax.set(xlim=(center - reach, center + reach), ylim=(-reach, reach))
    _draw_cross(ax)
    scale = scale_of_marks()
    ax.plot([], [], color="0.2", linewidth=scale, label=f"unit circle (cycles per {unit})")
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.2", linewidth=scale, zorder=1.5))
    turns = np.exp(1j * np.linspace(0, np.pi, 721))
    farthest = np.angle(turns[_inside(turns, center, _WITHIN * reach)]).max(initial=0.0)
    highest = farthest / (2 * np.pi * step)
    steps = MaxNLocator(5, steps=[1, 2, 5, 10])
    for frequency in steps.tick_values(0, highest):
        if 0 < frequency <= highest * (1 + 1e-9):
            angle = 2 * np.pi * frequency * step
            there = np.array([np.cos(angle), np.sin(angle)])
            mark = (2, 0, np.degrees(angle) - 90)  # a short line across the circle
            ax.plot(*there, marker=mark, color="0.2", markersize=5 * scale, zorder=2)
            _write(ax, f"{frequency:.6g}", there, outward=True)

    span = max(0.0, center - reach), center + reach
    radii = _time_constants(lambda tau: np.exp(-step / tau), step, span, 1.0, _GAP * 2 * reach)
    if not radii:
        return
    ax.plot([], [], ":", color=_GREY, linewidth=0.8 * scale, label=_named(unit))
    direction = _freest_direction(shown, np.array(list(radii.values())), center, reach)
    for tau, radius in radii.items():
        style = {"edgecolor": _GREY, "linestyle": ":", "linewidth": 0.8 * scale, "zorder": 1}
        ax.add_patch(Circle((0, 0), radius, fill=False, **style))
        _write(ax, f"{tau:g}", radius * direction)


def _window(values: Complex[np.ndarray, " m"]) -> tuple[float, float]:
    """Return the centre, on the real axis, and half the side of the square that is shown.

    That is the whole unit circle, unless the eigenvalues and 1 are all in a much smaller square.
    """
    whole = max(_LEAST_REACH, _ROOM * np.abs(values).max(initial=0.0))
    low, high = np.real(values).min(initial=1.0), np.real(values).max(initial=1.0)
    reach = _ZOOMED_ROOM * max((high - low) / 2, np.abs(np.imag(values)).max(initial=0.0), 1e-3)
    if reach > _ZOOM * whole:
        return 0.0, float(whole)
    return float((low + high) / 2 + (_ZOOMED_ROOM - 1) / 2 * reach), float(reach)


def _inside(
    places: Complex[np.ndarray, "*k"], center: float, reach: float
) -> Bool[np.ndarray, "*k"]:
    return (np.abs(np.real(places) - center) <= reach) & (np.abs(np.imag(places)) <= reach)


def _named(unit: str) -> str:
    """Return the name of a scale of time constants."""
    return f"time constant ({'steps' if unit == 'step' else unit})"


def _freest_direction(
    values: Complex[np.ndarray, " m"],
    radii: Float[np.ndarray, " circles"],
    center: float,
    reach: float,
) -> Float[np.ndarray, " 2"]:
    """Return the direction in which the places on the circles are farthest from eigenvalues.

    It points into the lower half, since the upper one has the frequencies.
    """
    turns = np.exp(-1j * np.radians(np.arange(3, 161)))
    places = radii[:, None] * turns
    away = np.abs(values - places[..., None]).min(axis=2, initial=2 * reach)
    away = np.where(_inside(places, center, _WITHIN * reach), away, -1.0).min(axis=0)
    best = turns[np.argmax(away)]
    return np.array([best.real, best.imag])


def _write(ax: Any, text: str, place: Float[np.ndarray, " 2"], outward: bool = False) -> None:
    """Write a small number at or outward of a place, in front of what is there."""
    from matplotlib.patheffects import withStroke

    side = np.round(place / np.linalg.norm(place)).astype(int) if outward else (0, 0)
    ax.annotate(
        text,
        place,
        5 * scale_of_marks() * place if outward else (0, 0),
        textcoords="offset points",
        ha=("center", "left", "right")[side[0]],
        va=("center", "bottom", "top")[side[1]],
        fontsize="x-small",
        color="0.25",
        zorder=4,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


# ---- continuous time: time constants and frequencies are further axes ----------------------------


def _draw_half_planes(ax: Any, values: Complex[np.ndarray, "n k"], step: float, unit: str) -> None:
    """Draw the imaginary axis, and axes of time constants and frequencies."""
    shown = values[np.isfinite(values)]
    spans = []
    for part in (np.real(shown), np.imag(shown)):
        low, high = part.min(initial=0.0), part.max(initial=0.0)
        spans.append([low, high])
    longest = max(*(high - low for low, high in spans), 1e-12)
    for span in spans:
        missing = max(0.0, _LEAST_SHAPE * longest - (span[1] - span[0]))
        room = missing / 2 + (_ROOM - 1) * longest
        span[:] = span[0] - room, span[1] + room
    ax.set(xlim=spans[0], ylim=spans[1])
    _draw_cross(ax)
    ax.axvline(0, color="0.2", linewidth=scale_of_marks(), zorder=1.5, label="imaginary axis")
    width = spans[0][1] - spans[0][0]
    gap = _GAP_ON_AXIS * width
    ticks = _time_constants(lambda tau: -step / tau, step, spans[0], 0.0, gap)
    top = ax.secondary_xaxis("top")
    top.set_xticks([*ticks.values(), 0.0], [*(f"{tau:g}" for tau in ticks), r"$\infty$"])
    top.set_xlabel(_named(unit))
    right = ax.secondary_yaxis(
        "right",
        functions=(lambda y: y / (2 * np.pi * step), lambda f: f * 2 * np.pi * step),
    )
    right.set_ylabel(f"frequency (cycles per {unit})")


def _time_constants(
    place: Callable[[float], Any], step: float, span: Any, neutral: float, gap: float
) -> dict[float, float]:
    """Return round time constants and their places, far enough from each other and from neutral.

    Args:
        place: where a time constant belongs.
        step: how long a step takes.
        span: the range of places.
        neutral: the place of what neither grows nor decays.
        gap: the least distance between two of them.
    """
    decade = np.floor(np.log10(step))
    sizes = [m * 10.0**e for e in np.arange(decade - 6, decade + 7) for m in (1, 2, 5)]
    chosen = {}
    for sign in (1, -1):  # from short to long time constants, on both sides
        last, apart = np.inf, gap if sign > 0 else 2 * gap  # frequencies are outside the circle
        for size in sizes:
            with np.errstate(over="ignore"):
                there = float(place(sign * size))
            inside = span[0] + gap <= there <= span[1] - gap
            if inside and abs(there - neutral) >= apart and abs(there - last) >= gap:
                chosen[sign * float(f"{size:g}")] = last = there
    return chosen


def _draw_cross(ax: Any) -> None:
    """Draw the real and the imaginary axis, faintly, and few ticks."""
    from matplotlib.ticker import MaxNLocator

    for line, axis in ((ax.axhline, ax.xaxis), (ax.axvline, ax.yaxis)):
        line(0, color="0.85", linewidth=0.6, zorder=0.5)
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
