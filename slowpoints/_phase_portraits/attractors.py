"""`plot_attractors` and `plot_lyapunov`: what states settle on, and its exponents."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._attractors.attractors import Attractors
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.lyapunov import LyapunovExponents
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import scale_of_marks
from slowpoints._drawing.layout import draw_plane
from slowpoints._drawing.view import Projection, given_projection, pca_of

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# As for index 0 to 3 and the conditions: every two are told apart with colour-blind eyes as well.
COLORS = ("#0072B2", "#D55E00", "#E69F00", "#882255", "#44AA99", "#000000", "#AA4499", "#999933")
MOST_NAMED = len(COLORS)
"""So many attractors have a colour and a name in the legend; all others are grey."""

OTHERS = "0.6"

_MARKS = {
    AttractorKind.FIXED_POINT: "o",
    AttractorKind.CYCLE: "s",
    AttractorKind.TORUS: ".",
    AttractorKind.CHAOS: ".",
}


def plot_attractors(
    attractors: Attractors,
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
    projection: Any = None,
) -> "matplotlib.figure.Figure":
    """Draw attractors in the plane of their states, with the shares of the starts that they have.

    Fixed points and cycles are marks, closed orbits are lines, and tori and chaotic attractors are
    dots, one for each of their states. States that escaped, and those of which it is not known,
    are in the legend only. The eight attractors of the largest shares have a colour each, and all
    others are grey.

    Args:
        attractors: what [`attractors`][slowpoints.attractors] returns.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` and
            `color` have no effect; `rasterized` is about the dots.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.
        projection: from states to the plane, as for
            [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]; by default their first two
            principal components.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if the projection has the wrong shape.
    """
    caller = "plot_attractors"
    arguments.instance(caller, "attractors", attractors, Attractors, "a slowpoints.Attractors")
    config = checked_looks(caller, config, ax)
    shown = np.flatnonzero(attractors.kind < AttractorKind.ESCAPE).tolist()
    states = attractors.states if attractors.states.shape[1] else attractors.x[:, None]
    n_states = states.shape[2]
    if projection is None:
        plane = pca_of(states[shown].reshape(-1, n_states), 2)
    else:
        plane = given_projection(caller, projection, n_states, 2)

    def draw(axes: Any) -> None:
        for place, row in enumerate(shown):
            look = _look(attractors, row, place, config)
            draw_attractor(axes, AttractorKind(attractors.kind[row]), _in(plane, states[row]), look)
        if len(shown) > MOST_NAMED:
            n, share = len(shown) - MOST_NAMED, attractors.share[shown[MOST_NAMED:]].sum()
            axes.plot([], [], "o", color=OTHERS, label=f"{n} others: {100 * share:.1f} %")
        for row in np.flatnonzero(attractors.kind >= AttractorKind.ESCAPE).tolist():
            axes.plot([], [], " ", label=name_of(attractors, row))
        axes.set_xlabel(config.xlabel or _label(plane, 0))
        axes.set_ylabel(config.ylabel or _label(plane, 1))
        axes.grid(config.grid)
        axes.margins(0.1)

    n = len(shown)
    title = f"{n} attractor{'s' * (n != 1)}, and the shares of {len(attractors.attractor)} starts"
    return draw_plane(ax, config, title, draw)


def plot_lyapunov(
    exponents: LyapunovExponents | Attractors,
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
) -> "matplotlib.figure.Figure":
    """Draw Lyapunov exponents by their number, with the 95 % intervals of their errors.

    Args:
        exponents: what [`lyapunov`][slowpoints.lyapunov] returns, a line for each trajectory; or
            what [`attractors`][slowpoints.attractors] returns, a line for each attractor.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` and
            `color` have no effect.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
    """
    caller = "plot_lyapunov"
    expected = "a slowpoints.LyapunovExponents or a slowpoints.Attractors"
    kinds = (LyapunovExponents, Attractors)
    if not isinstance(exponents, kinds):
        was = arguments.found(exponents)
        arguments.refuse(caller, "exponents", was, expected, TypeError)
    config = checked_looks(caller, config, ax)
    if isinstance(exponents, Attractors):
        rows = np.flatnonzero(np.isfinite(exponents.exponents).any(axis=1)).tolist()
        values, errors = exponents.exponents[rows], exponents.exponent_errors[rows]
        names = [name_of(exponents, row) for row in rows]
    else:
        values = exponents.exponents.reshape(-1, exponents.exponents.shape[-1])
        errors = exponents.errors.reshape(values.shape)
        names = [f"trajectory {row}" if len(values) > 1 else "" for row in range(len(values))]
    number = 1 + np.arange(values.shape[1])

    def draw(axes: Any) -> None:
        axes.axhline(0, color="0.5", lw=0.8)
        for place, (own, error, name) in enumerate(zip(values, errors, names, strict=True)):
            is_named = place < MOST_NAMED
            color = COLORS[place] if is_named else OTHERS
            finite = np.isfinite(own)
            axes.errorbar(
                number[finite],
                own[finite],
                error[finite],
                fmt="o-",
                ms=4 * scale_of_marks(),
                lw=1,
                capsize=2,
                color=color,
                label=name if is_named and name else None,
            )
        if lost := int(np.sum(np.isneginf(values))):
            axes.plot([], [], " ", label=f"not drawn: {lost} of minus infinity")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(config.xlabel or "number of the exponent")
        axes.set_ylabel(config.ylabel or "Lyapunov exponent (1 / step)")
        axes.grid(config.grid)

    return draw_plane(ax, config, "Lyapunov exponents", draw)


def checked_looks(caller: str, config: PlotConfig | None, ax: Any) -> PlotConfig:
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if ax is not None and not hasattr(ax, "scatter"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    return config


def _in(plane: Projection, states: Float[np.ndarray, "k n_states"]) -> Float[np.ndarray, "k 2"]:
    """Return states in the plane; where there is one axis only, the second one is empty."""
    found = np.asarray(plane.of(states))
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _label(plane: Projection, axis: int) -> str:
    return plane.names[axis] if axis < len(plane.names) else ""


def name_of(attractors: Attractors, row: int) -> str:
    kind, period = AttractorKind(attractors.kind[row]), attractors.period[row]
    steps = (
        "" if kind == AttractorKind.FIXED_POINT or np.isnan(period) else f" of {period:.4g} steps"
    )
    return f"{kind}{steps}: {100 * attractors.share[row]:.1f} %"


def _look(attractors: Attractors, row: int, place: int, config: PlotConfig) -> dict[str, Any]:
    is_named = place < MOST_NAMED
    return {
        "color": COLORS[place] if is_named else OTHERS,
        "label": name_of(attractors, row) if is_named else None,
        "rasterized": config.rasterized,
        "zorder": 3 if is_named else 2,
    }


def draw_attractor(
    ax: Any, kind: AttractorKind, states: Float[np.ndarray, "k 2"], look: dict[str, Any]
) -> None:
    if kind == AttractorKind.CLOSED_ORBIT:
        ax.plot(*np.concatenate([states, states[:1]]).T, lw=1.5, **look)
        return
    size = (3 if _MARKS[kind] == "." else 6) * scale_of_marks()
    states = states[:1] if kind == AttractorKind.FIXED_POINT else states
    edge = {} if _MARKS[kind] == "." else {"mec": "black", "mew": 0.5}
    ax.plot(*states.T, _MARKS[kind], ms=size, **edge, **look)
