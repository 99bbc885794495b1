"""`plane_grid` and `plot_basins`: on what each state of a plane settles."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._attractors.attractors import Attractors
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.layout import draw_plane
from slowpoints._drawing.section import (
    Section,
    check_inputs,
    checked_points,
    draw_marks,
    extent_of,
    grid_between,
    section_of,
)
from slowpoints._phase_portraits.attractors import (
    COLORS,
    MOST_NAMED,
    OTHERS,
    checked_looks,
    draw_attractor,
    name_of,
)
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_TINT = 0.5
"""Basins have their attractor's colour, mixed with so much white that marks are seen on it."""

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----", "++++", "||||")
"""Basins differ in these as well, so that they are told apart in grey."""

_OTHERS, _ESCAPE, _UNDECIDED = MOST_NAMED, MOST_NAMED + 1, MOST_NAMED + 2
_LOOKS = {
    _OTHERS: (OTHERS, OTHERS, ""),
    _ESCAPE: ("0.85", "0.85", ""),
    _UNDECIDED: ("white", "black", "oo"),
}

_EVEN = 1e-3
"""States may be so far from an even grid, as a part of a cell, as rounding in float32 puts them."""


def plane_grid(
    plane: FixedPoints | Float[RealArray, "m d"] | None,
    n: int = 100,
    *,
    fixed_points: FixedPoints | None = None,
    margin: Number = 0.25,
) -> Float[np.ndarray, "rows columns n_states"]:
    """Return the states of a grid in a plane of the state space.

    It is the plane that [`plot_flow_field`][slowpoints.plot_flow_field] draws with the same
    arguments. [`plot_basins`][slowpoints.plot_basins] shows on what these states settle.

    Args:
        plane: the plane. If states have two numbers, it is the plane of these, and the points that
            are given here only say which part of it to take. Else it is one of:

            - points, `FixedPoints` or `[m, n_states]`, of which there are three or more: the plane
              of their first two principal components through their mean. Three points are all in
              that plane.
            - a matrix `[n_states, 2]`, such as two readout vectors: the plane that its columns
              span, through the mean of `fixed_points`.
            - `None`: the same as `fixed_points`.
        n: how many states there are along the longer side.
        fixed_points: points that the grid is to reach as well; only `valid` rows count.
        margin: how far the grid reaches past the points, as a part of their extent.

    Returns:
        `[rows, columns, n_states]` the states.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or range or is not finite, or if points do
            not span a plane.
    """
    caller = "plane_grid"
    n = arguments.whole(caller, "n", n, least=3)  # the shorter side is half as long
    margin = arguments.number(caller, "margin", margin, finite=True)
    points = checked_points(caller, "fixed_points", fixed_points)
    section = section_of(caller, None, plane, points)
    places = grid_between(*extent_of(section, points, float(margin)), n)
    states = section.origin + places @ section.axes.astype(np.float64)
    return states.astype(section.origin.dtype)


def plot_basins(
    attractors: Attractors,
    states: Float[RealArray, "rows columns n_states"],
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
    fixed_points: FixedPoints | None = None,
) -> "matplotlib.figure.Figure":
    """Draw the basins of attractors in a plane of the state space.

    The states of a grid in that plane have been run forward, and around each is a cell in a tint
    of the colour that its attractor has in [`plot_attractors`][slowpoints.plot_attractors]. It is
    a slice through the basins: nothing is projected, and basins that do not meet the plane are not
    seen. Shares are those of the slice. Beyond eight attractors all are grey. States that escaped,
    and those of which it is not known, have looks of their own.

    Attractors themselves are drawn where they are in the plane.

    ```python
    states = slowpoints.plane_grid(fps, 150)
    found = slowpoints.attractors(F, states.reshape(-1, fps.n_states), inputs)
    slowpoints.plot_basins(found, states, fixed_points=fps)
    ```

    Args:
        attractors: what [`attractors`][slowpoints.attractors] returns for the states, all under
            the same input.
        states: `[rows, columns, n_states]` the states that it was given, on an even grid with axes
            at right angles, as [`plane_grid`][slowpoints.plane_grid] returns them, or
            `x0 + t[:, None, None] * b + s[:, None] * a`. Coordinates in the figure are along
            these axes, and from the place of the plane that is closest to the origin.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` and
            `color` have no effect.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.
        fixed_points: points to mark, under the same input, saddles for example; only `valid` rows
            are drawn. Of those outside the plane, the projection is drawn, hollow, and the legend
            says how far away they are.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or is not finite, if the states are on no
            such grid, or if attractors or points are under different inputs.
    """
    caller = "plot_basins"
    arguments.instance(caller, "attractors", attractors, Attractors, "a slowpoints.Attractors")
    config = checked_looks(caller, config, ax)
    states = _checked_states(caller, states, attractors)
    points = checked_points(caller, "fixed_points", fixed_points)
    u = attractors.inputs
    if (u != u[0]).any():
        was = f"differ between the rows, of which there are {len(u)}"
        arguments.refuse(caller, "attractors.inputs", was, "the same input for all", ValueError)
    if points is not None:
        check_inputs(caller, points, "attractors.inputs", u[0])
    section = _section(caller, states)
    corners = section.across(states[[0, -1], [0, -1]].astype(np.float64))
    half = (corners[1] - corners[0]) / (2 * np.array([states.shape[1] - 1, states.shape[0] - 1]))
    low, high = corners[0] - half, corners[1] + half
    look_of = _look_of(attractors)

    def draw(axes: Any) -> None:
        _draw_cells(axes, look_of[attractors.attractor].reshape(states.shape[:2]), low, high)
        _draw_names(axes, attractors, look_of)
        for row in np.flatnonzero(look_of < MOST_NAMED).tolist():
            if section.distance(attractors.states[row]).max(initial=0) <= np.linalg.norm(half):
                look = {"color": COLORS[look_of[row]], "zorder": 2}
                kind = AttractorKind(attractors.kind[row])
                draw_attractor(axes, kind, section.across(attractors.states[row]), look)
        if points is not None:
            draw_marks(axes, points, section)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        axes.set_xlabel(config.xlabel or section.names[0])
        axes.set_ylabel(config.ylabel or section.names[1])
        axes.grid(config.grid)

    n = int(np.sum(attractors.kind < AttractorKind.ESCAPE))
    return draw_plane(ax, config, f"{n} basin{'s' * (n != 1)} in a plane", draw)


def _checked_states(
    caller: str, states: Any, attractors: Attractors
) -> Float[np.ndarray, "rows columns n_states"]:
    """Return the states of a grid, those at which the trajectories started."""
    n, n_states = attractors.end.shape
    axes = ("rows", "columns", n_states)
    states = arguments.array(caller, "states", states, axes, floating=True, finite=True)
    arguments.check_precision(caller, "states", states.dtype)
    rows, columns = states.shape[:2]
    if min(rows, columns) < 2 or rows * columns != n:
        was = f"has shape {tuple(states.shape)}"
        expected = f"two or more rows and columns, of the {n} states of `attractors`"
        arguments.refuse(caller, "states", was, expected, ValueError)
    return np.asarray(states)


def _section(caller: str, states: Float[np.ndarray, "rows columns n_states"]) -> Section:
    """Return the plane of a grid, with coordinates along its rows and columns."""
    rows, columns, n_states = states.shape
    x = states.astype(np.float64)
    steps = np.stack([(x[0, -1] - x[0, 0]) / (columns - 1), (x[-1, 0] - x[0, 0]) / (rows - 1)])
    sizes = np.linalg.norm(steps, axis=1)
    places = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    off = np.linalg.norm(x - x[0, 0] - places @ steps, axis=2).max()
    rounding = 4 * np.finfo(states.dtype).eps * np.abs(x).max()
    allowed = _EVEN * sizes.min() + rounding
    if sizes.min() <= rounding or off > allowed or abs(steps[0] @ steps[1]) > allowed * sizes.max():
        was = f"of shape {states.shape} are on no even grid with axes at right angles"
        expected = "states as `plane_grid` returns them"
        arguments.refuse(caller, "states", was, expected, ValueError)
    axes = steps / sizes[:, None]
    names = ("axis 1 of the plane", "axis 2 of the plane")
    if n_states == 2 and np.abs(axes - np.eye(2)).max() <= _EVEN:
        names = ("state $x_1$", "state $x_2$")
    origin = x[0, 0] - axes.T @ (axes @ x[0, 0])
    return Section(origin, axes, x.reshape(-1, n_states), names)


def _look_of(attractors: Attractors) -> Int[np.ndarray, " k"]:
    """Return the look of each row: one of its own, or that of all others, or of no attractor."""
    look = np.minimum(np.arange(len(attractors)), _OTHERS)
    look[attractors.kind == AttractorKind.ESCAPE] = _ESCAPE
    look[attractors.kind == AttractorKind.UNDECIDED] = _UNDECIDED
    return look


def _paint(look: int) -> tuple[Any, str, str]:
    """Return the colour of cells, and that and the kind of their hatches."""
    from matplotlib.colors import to_rgb

    if look in _LOOKS:
        return _LOOKS[look]
    tint = tuple(1 - _TINT * (1 - np.array(to_rgb(COLORS[look]))))
    return tint, COLORS[look], _HATCHES[look]


def _draw_cells(ax: Any, look: Int[np.ndarray, "rows columns"], low: Any, high: Any) -> None:
    """Colour the cells, and hatch them."""
    from matplotlib.colors import ListedColormap

    colors = ListedColormap([_paint(k)[0] for k in range(_UNDECIDED + 1)])
    padded = np.pad(look, 1, mode="edge")  # hatches reach from middle to middle
    sides = [
        a + (b - a) * (np.arange(-1, k + 1) + 0.5) / k
        for a, b, k in zip(low, high, look.shape[::-1], strict=True)
    ]
    for k in np.unique(look).tolist():
        _, color, hatch = _paint(k)
        if hatch:
            own = ax.contourf(*sides, padded == k, [0.5, 1.5], colors="none", hatches=[hatch])
            own.set(edgecolor=color, linewidth=0, zorder=1)
    extent = (low[0], high[0], low[1], high[1])
    ax.imshow(
        look,
        cmap=colors,
        vmin=-0.5,
        vmax=_UNDECIDED + 0.5,
        extent=extent,
        origin="lower",
        interpolation="nearest",
        zorder=0,
    )


def _draw_names(ax: Any, attractors: Attractors, look_of: Int[np.ndarray, " k"]) -> None:
    """Put all that cells are coloured by into the legend."""
    for k in np.unique(look_of).tolist():
        rows = np.flatnonzero(look_of == k)
        name = name_of(attractors, int(rows[0]))
        if k >= _OTHERS:
            what = {_OTHERS: f"{len(rows)} others", _ESCAPE: "escape", _UNDECIDED: "undecided"}[k]
            name = f"{what}: {100 * attractors.share[rows].sum():.1f} %"
        tint, color, hatch = _paint(k)
        ax.fill([], [], facecolor=tint, hatch=hatch, edgecolor=color, linewidth=0.5, label=name)
