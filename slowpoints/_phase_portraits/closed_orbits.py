"""`plot_closed_orbits`: closed orbits, coloured by their phase, beside their multipliers."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import finish, new_figure, scale_of_marks, style
from slowpoints._drawing.layout import draw_figure_legend, draw_plane, is_narrow
from slowpoints._drawing.view import given_projection, pca_of
from slowpoints._phase_portraits.attractors import checked_looks

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_PHASES = "twilight_shifted"
"""Colours that end where they begin, as phases do."""

_STABLE, _UNSTABLE = "#0072B2", "#D55E00"
_STABLE_MARK, _UNSTABLE_MARK = "o", "X"


def plot_closed_orbits(
    orbits: ClosedOrbits,
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
    projection: Any = None,
) -> "matplotlib.figure.Figure":
    """Draw closed orbits in the plane of their states, and what becomes of deviations from them.

    On the left, the colour is the phase, from 0 to 1 once round, and a wider line is a stable
    orbit. On the right are the Floquet multipliers in continuous time, of which those outside the
    unit circle grow, and the Lyapunov exponents by their number for maps. Orbits that are not
    resolved are left out, and the title says how many there are.

    Args:
        orbits: what [`closed_orbits`][slowpoints.closed_orbits] returns.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` and
            `color` have no effect.
        ax: axes to draw the orbits on, and nothing beside them. The figure is then neither shown
            nor written to a file, and a title is drawn only if `config` has one.
        projection: from states to the plane, as for
            [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]; by default their first two
            principal components.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if the projection has the wrong shape.
    """
    caller = "plot_closed_orbits"
    arguments.instance(caller, "orbits", orbits, ClosedOrbits, "a slowpoints.ClosedOrbits")
    config = checked_looks(caller, config, ax)
    rows = np.flatnonzero(orbits.is_resolved).tolist()
    n_states = orbits.states.shape[2]
    if projection is None:
        plane = pca_of(orbits.states[rows].reshape(-1, n_states), 2)
    else:
        plane = given_projection(caller, projection, n_states, 2)

    def draw(axes: Any) -> None:
        for row in rows:
            curve = np.asarray(plane.of(orbits.states[row]))
            curve = np.pad(curve, ((0, 0), (0, 2 - curve.shape[1])))
            _draw_orbit(axes, curve, bool(orbits.is_stable[row]), config)
        names = (*plane.names, "", "")
        axes.set_xlabel(config.xlabel or names[0])
        axes.set_ylabel(config.ylabel or names[1])
        axes.autoscale_view()
        axes.grid(config.grid)
        _draw_color_bar(axes)

    if ax is not None:
        return draw_plane(ax, config, None, draw)
    with style(config):
        fig = new_figure(config)
        left, right = fig.subplots(*((2, 1) if is_narrow(config) else (1, 2)))
        draw(left)
        if np.isfinite(orbits.multipliers[rows]).any():
            _draw_multipliers(right, orbits, rows)
        else:
            _draw_exponents(right, orbits, rows)
        right.grid(config.grid)
        n, missing = len(rows), len(orbits) - len(rows)
        title = f"{n} closed orbit{'s' * (n != 1)}"
        title += f"; {missing} not resolved" if missing else ""
        if words := title if config.title == "" else config.title:
            fig.suptitle(words)
        if config.show_legend:
            draw_figure_legend(fig, right, config)
        finish(fig, config)
    return fig


def _draw_orbit(ax: Any, curve: Float[np.ndarray, "k 2"], stable: bool, config: PlotConfig) -> None:
    """Draw a closed curve whose colour is the phase."""
    from matplotlib.collections import LineCollection

    ends = np.concatenate([curve, curve[:1]])
    width = (2.5 if stable else 1.2) * scale_of_marks()
    ax.plot(*ends.T, color="0.3", lw=width + 0.8 * scale_of_marks())  # an edge for light phases
    lines = LineCollection(
        np.stack([ends[:-1], ends[1:]], axis=1).tolist(),
        cmap=_PHASES,
        array=np.arange(len(curve)) / max(len(curve), 1),
        linewidths=width,
        capstyle="round",
        zorder=2.1,
        rasterized=config.rasterized,
    )
    lines.set_clim(0, 1)
    ax.add_collection(lines)


def _draw_color_bar(ax: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(0, 1), _PHASES)
    ax.figure.colorbar(scale, ax=ax, label="phase", ticks=[0, 0.5, 1], shrink=0.6, aspect=25)


def _draw_multipliers(ax: Any, orbits: ClosedOrbits, rows: list[int]) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(angle), np.sin(angle), color="0.5", lw=0.8)
    for stable in (True, False):
        own = [row for row in rows if bool(orbits.is_stable[row]) == stable]
        values = orbits.multipliers[own].ravel()
        if own:
            mark, color, name = _look(stable)
            look = {"color": color, "mec": "black", "mew": 0.5, "ms": 6 * scale_of_marks()}
            ax.plot(np.real(values), np.imag(values), mark, label=f"{name} ({len(own)})", **look)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="Re of multiplier", ylabel="Im of multiplier")


def _draw_exponents(ax: Any, orbits: ClosedOrbits, rows: list[int]) -> None:
    ax.axhline(0, color="0.5", lw=0.8)
    named: set[bool] = set()
    for row in rows:
        stable = bool(orbits.is_stable[row])
        mark, color, name = _look(stable)
        n = sum(bool(orbits.is_stable[other]) == stable for other in rows)
        label = None if stable in named else f"{name} ({n})"
        named.add(stable)
        number = 1 + np.arange(orbits.exponents.shape[1])
        look = {"color": color, "mec": "black", "mew": 0.5, "ms": 6 * scale_of_marks()}
        ax.plot(number, orbits.exponents[row], f"{mark}-", lw=1, label=label, **look)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="number of the exponent", ylabel="Lyapunov exponent (1 / step)")


def _look(stable: bool) -> tuple[str, str, str]:
    if stable:
        return _STABLE_MARK, _STABLE, "stable orbit"
    return _UNSTABLE_MARK, _UNSTABLE, "unstable orbit"
