"""`plot_flow_field`: where states move to, and how fast, in a plane through chosen points."""

import contextlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import Number, RealArray
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.layout import draw_plane
from slowpoints._drawing.section import (
    check_inputs,
    checked_points,
    draw_marks,
    extent_of,
    grid_between,
    section_of,
)
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.trace import traced
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_AT_A_TIME = 4096
"""So many states are evaluated at a time, which bounds the memory that networks of thousands of
units take, and costs nothing."""

_DARKEST = 0.6
"""The colours are the first part of Matplotlib's YlGnBu, and fast places are in its middle."""

_SLOWEST = 1.0
"""The colours begin at this percentile of `log10 q`: at a grid point that happens to be at a fixed
point, `q` is 0 or rounding, which would leave one colour for all the rest."""


def plot_flow_field(
    F: Any,
    plane: FixedPoints | Float[RealArray, "m d"] | None,
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "1 n_inputs"],
    config: PlotConfig | None = None,
    *,
    ax: "matplotlib.axes.Axes | None" = None,
    fixed_points: FixedPoints | None = None,
    n_arrows: int = 20,
    n_speed: int = 200,
    margin: Number = 0.25,
) -> "matplotlib.figure.Figure":
    """Draw in which direction and how fast states move, in a plane of the state space.

    Arrows have the direction of `F(x, u) - x`, projected onto the plane, at states `x` of the plane
    (in continuous time, of `f(x, u)`). What points out of the plane is lost in a picture, so the
    length of an arrow is the share of the flow that is in the plane: at full length, all of it is,
    and short arrows say that states leave the plane. The title has the median share. The colour is
    `log10 q` of the whole flow.

    Fixed points in the plane have the marks that they have in
    [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d]. Of points outside the plane, the
    projection is drawn, hollow, and the legend says how far away they are.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        plane: the plane. If states have two numbers, it is the plane of these, and the points that
            are given here only say which part of it to draw. Else it is one of:

            - points, `FixedPoints` or `[m, n_states]`, of which there are three or more: the plane
              of their first two principal components through their mean. Three points are all in
              that plane.
            - a matrix `[n_states, 2]`, such as two readout vectors: the plane that its columns
              span, through the mean of `fixed_points`. The first axis is along the first column,
              the second one at a right angle to it.
            - `None`: the same as `fixed_points`.
        inputs: `[n_inputs]` or `[1, n_inputs]` the constant input.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` are
            properties of the arrows (`matplotlib.axes.Axes.quiver`), and its `color` has no effect.
        ax: axes to draw on. The figure is then neither shown nor written to a file, and a title is
            drawn only if `config` has one.
        fixed_points: the points to mark, all under the input `inputs`; only `valid` rows are drawn.
            By default those of `plane`, if these are `FixedPoints`.
        n_arrows: how many arrows there are along the longer side.
        n_speed: at how many places along the longer side `q` is computed.
        margin: how far the figure reaches past the points, as a part of their extent.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or range or is not finite, if points do not
            span a plane, if `fixed_points` are under another input, or if the model does not map
            states to states.
    """
    caller = "plot_flow_field"
    F = as_transition(F)
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if ax is not None and not hasattr(ax, "quiver"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    n_arrows = arguments.whole(caller, "n_arrows", n_arrows, least=1)
    n_speed = arguments.whole(caller, "n_speed", n_speed, least=2)
    margin = arguments.number(caller, "margin", margin, finite=True)
    if fixed_points is None and isinstance(plane, FixedPoints):
        fixed_points = plane
    points = checked_points(caller, "fixed_points", fixed_points)
    section = section_of(caller, F.n_states, plane, points)
    dtype = section.origin.dtype
    u = arguments.array(caller, "inputs", inputs, ("n_inputs",), (1, "n_inputs"), finite=True)
    u = np.asarray(u).reshape(-1).astype(dtype)
    if points is not None:
        check_inputs(caller, points, "inputs", u)
    n_states = section.origin.size
    low, high = extent_of(section, points, float(margin))
    arrows, speed = (grid_between(low, high, n) for n in (n_arrows, n_speed))
    places = np.concatenate([arrows.reshape(-1, 2), speed.reshape(-1, 2)]).astype(dtype)
    narrow = jax.dtypes.canonicalize_dtype(dtype)
    F = traced(caller, F, n_states, u.size, narrow, states="plane", forward_mode=False)
    with jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext():
        given = (jnp.asarray(a) for a in (section.origin, section.axes, places, u))
        flow, size = _flow(F, *given)
        flow, size = np.asarray(flow, np.float64), np.asarray(size, np.float64)
    n = arrows.size // 2
    with np.errstate(divide="ignore"):
        log_q = np.log10(0.5 * size[n:] ** 2).reshape(speed.shape[:2])
    directions, share = _shares(flow[:n], size[:n])

    def draw(ax: Any) -> None:
        _draw_speed(ax, log_q, low, high)
        _draw_arrows(ax, arrows.reshape(-1, 2), directions, config)
        if points is not None:
            draw_marks(ax, points, section)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.set_xlabel(config.xlabel or section.names[0])
        ax.set_ylabel(config.ylabel or section.names[1])
        ax.grid(config.grid)

    plain = n_states == 2 or np.isnan(share)
    words = "Flow and speed" if plain else f"{share:.0%} of the flow is in the plane (median)"
    return draw_plane(ax, config, words, draw)


@CompiledOnce
def _flow(
    F: Transition,
    origin: Float[Array, " n_states"],
    axes: Float[Array, "2 n_states"],
    places: Float[Array, "m 2"],
    u: Float[Array, " n_inputs"],
) -> tuple[Float[Array, "m 2"], Float[Array, " m"]]:
    """Return the flow in the plane, and the norm of the whole flow, at places of the plane."""

    def one(place: Float[Array, " 2"]) -> tuple[Array, Array]:
        x = origin + place @ axes
        moved = F.f(x, u) if isinstance(F, ContinuousTime) else F(x, u) - x
        return axes @ moved, jnp.linalg.norm(moved)

    return jax.lax.map(one, places, batch_size=_AT_A_TIME)


# ---- drawing -------------------------------------------------------------------------------------


def _draw_speed(ax: Any, log_q: Float[np.ndarray, "rows columns"], low: Any, high: Any) -> None:
    """Draw `log10 q` as an image, with a colour bar."""
    finite = np.isfinite(log_q)
    broken = np.isnan(log_q) | (log_q == np.inf)
    image = ax.imshow(
        np.ma.masked_where(broken, log_q),
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        cmap=_colors(),
        vmin=np.percentile(log_q[finite], _SLOWEST) if finite.any() else 0,
        vmax=log_q[finite].max() if finite.any() else 1,
        zorder=0,
    )
    beside = ax.inset_axes((1.03, 0, 0.045, 1))  # a part of the axes, which the legend avoids
    text = r"$\log_{10} q$" + (f"; {broken.mean():.1%} not finite, grey" if broken.any() else "")
    ax.figure.colorbar(image, cax=beside, extend="min", label=text)


def _colors() -> Any:
    """Return a light map of colours, on which black arrows and all marks are seen."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    shades = matplotlib.colormaps["YlGnBu"](np.linspace(0, _DARKEST, 256))
    return LinearSegmentedColormap.from_list("speed", shades).with_extremes(bad="0.6")


def _shares(
    flow: Float[np.ndarray, "k 2"], size: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "k 2"], float]:
    """Return the flow in the plane as a part of the whole flow, and its median length.

    NaN where nothing moves, or the flow is not finite.
    """
    moves = np.isfinite(size) & (size > 0)
    part = np.full(flow.shape, np.nan)
    part[moves] = flow[moves] / size[moves, None]
    share = float(np.median(np.linalg.norm(part[moves], axis=1))) if moves.any() else np.nan
    return part, share


def _draw_arrows(
    ax: Any,
    places: Float[np.ndarray, "k 2"],
    directions: Float[np.ndarray, "k 2"],
    config: PlotConfig,
) -> None:
    """Draw the flow's direction and its share in the plane."""
    moves = np.isfinite(directions).all(axis=1)
    apart = np.unique(places[:, 0])
    cell = np.diff(apart).min() if apart.size > 1 else 1.0
    look: dict[str, Any] = {"color": "black", "width": 0.004, "zorder": 2, "pivot": "mid"}
    look |= {"angles": "xy", "scale_units": "xy", "scale": 1 / (0.9 * cell)}
    look |= config.to_matplotlib_kwargs()
    ax.quiver(*places[moves].T, *directions[moves].T, **look)
    label = "flow; length: share of it in the plane"
    color = look["color"]
    ax.plot([], [], color=color, linestyle="", marker=r"$\rightarrow$", label=label)
