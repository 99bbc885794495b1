"""`plot_branches`: families of fixed points or of closed orbits against their parameter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._arclength.steps import hermite
from slowpoints._closed_orbits.orbit_branches import OrbitBranch, OrbitBranches, OrbitEvent
from slowpoints._continuation.branches import Branch, Branches, Event
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import finish, new_figure, style
from slowpoints._drawing.layout import draw_legend, label_once
from slowpoints._drawing.marks import MARKS
from slowpoints._drawing.view import affine_map, fit_pca, given_projection

if TYPE_CHECKING:
    import matplotlib.figure

# By index: attractors solid and blue; saddles dashed, in the colours of their marks elsewhere.
_LINES = (
    ("stable", "-", MARKS[0][1]),
    ("index 1", "--", MARKS[1][1]),
    ("index 2", "-.", MARKS[2][1]),
    ("index 3 or more", ":", "#000000"),  # the mark's colour is too light for a line
)
_PARTS = 8
"""Each step along a branch is drawn as so many straight lines, which look like a curve."""

_UNKNOWN = ("index unknown", ":", "#7F7F7F")
_EVENTS = {
    "fold": ("fold", "o"),
    "branch_point": ("branch point", "s"),
    "flip": ("flip", "^"),
    "neimark_sacker": ("Neimark-Sacker point", "D"),
    "hopf": ("Hopf point", "D"),
    "border_collision": ("border collision", "X"),
    "period_doubling": ("period doubling", "^"),
    "torus": ("torus", "D"),
    "change_of_stability": ("change of stability", "P"),
}


def plot_branches(
    branches: Branches | OrbitBranches,
    config: PlotConfig | None = None,
    *,
    ax: Any = None,
    projection: Any = None,
) -> "matplotlib.figure.Figure":
    """Draw one number of the state against the parameter, and mark where stability changes.

    Branches are solid where they are stable, and otherwise dashed, according to their index. Of
    closed orbits, the largest and the smallest number on each orbit are drawn.

    Args:
        branches: what [`continuation`][slowpoints.continuation] returns. To draw points and closed
            orbits together, draw both on the same `ax`, with the same `projection`.
        config: the looks; `None` is `PlotConfig()`, which shows the figure. Its `kwargs` are
            properties of the lines, and its `color` has no effect.
        ax: axes to draw on. The figure is then neither shown nor written to a file.
        projection: what is drawn of a state: `[n_states]` a vector, such as a readout, for their
            product; the same with a name for the axis, as in `{"choice": readout}`; or a linear
            transformer that has been fitted, such as scikit-learn's `PCA`, for its first
            component. By default it is the first principal component of all states of the
            branches, or the state itself if it is one number.

    Returns:
        The figure.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if `projection` has another length than the states, or is not linear.
    """
    caller = "plot_branches"
    kinds, named = (Branches, OrbitBranches), "slowpoints.Branches or slowpoints.OrbitBranches"
    arguments.instance(caller, "branches", branches, kinds, named)
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if ax is not None and not hasattr(ax, "plot"):
        arguments.refuse(caller, "ax", arguments.found(ax), "Axes of Matplotlib", TypeError)
    mean, direction, label = _direction(caller, branches, projection)
    if ax is not None:
        _draw(ax, branches, mean, direction, label, config, config.title)
        return ax.figure
    with style(config):
        fig = new_figure(config)
        title = f"{len(branches)} branches" if config.title == "" else config.title
        _draw(fig.add_subplot(), branches, mean, direction, label, config, title)
        finish(fig, config)
    return fig


def _draw(
    axes: Any,
    branches: Branches | OrbitBranches,
    mean: Any,
    direction: Float[np.ndarray, " n_states"],
    label: str,
    config: PlotConfig,
    title: str | None,
) -> None:
    """Draw the branches, their events, labels and a legend."""
    for number, branch in enumerate(branches.branches):
        places = np.array([event.place for event in branches.events if event.branch == number])
        if isinstance(branch, OrbitBranch):
            lines = _lines_of_orbits(branch, mean, direction)
        else:
            lines = [_line(branch, mean, direction, branches.span[1] - branches.span[0])]
        for line in lines:
            _draw_branch(axes, branch, line, places, config)
    for kind, (name, marker) in _EVENTS.items():
        events = [event for event in branches.events if event.kind == kind]
        if events:
            height = np.stack([_extremes(event, mean, direction) for event in events])
            axes.plot(
                np.repeat([event.s for event in events], height.shape[1]),
                height.ravel(),
                marker,
                color="white",
                markeredgecolor="black",
                zorder=3,
                label=f"{name} ({len(events)})",
            )
    axes.set_xlim(*sorted(branches.span))
    axes.set_xlabel(config.xlabel or "parameter $s$")
    axes.set_ylabel(config.ylabel or label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(config.grid)
    if title:
        axes.set_title(title)
    label_once(axes)
    if config.show_legend:
        draw_legend(axes)


def _extremes(
    event: Event | OrbitEvent, mean: Any, direction: Float[np.ndarray, " n_states"]
) -> Float[np.ndarray, " k"]:
    """Return the height of a point, or the largest and the smallest height on an orbit."""
    if isinstance(event, Event):
        return np.atleast_1d((event.xstar - mean) @ direction)
    heights = (event.states - mean) @ direction
    return np.array([heights.max(), heights.min()])


def _direction(
    caller: str, branches: Branches | OrbitBranches, projection: Any
) -> tuple[Any, Any, str]:
    states = [
        branch.states.reshape(-1, branch.states.shape[2])
        if isinstance(branch, OrbitBranch)
        else branch.xstar
        for branch in branches.branches
    ]
    x = np.concatenate(states).astype(np.float64) if states else np.zeros((1, 1))
    if projection is not None:
        if isinstance(projection, Mapping) or hasattr(projection, "transform"):
            seen = given_projection(caller, projection, x.shape[1], 1)
            mean, axes = affine_map(caller, seen, x.shape[1])
            return mean, axes[:, 0], seen.names[0]
        vector = arguments.array(caller, "projection", projection, (x.shape[1],), finite=True)
        return 0.0, np.asarray(vector, np.float64), "projection of the state"
    if x.shape[1] == 1:
        return 0.0, np.ones(1), "state $x$"
    mean, components, _ = fit_pca(x, 1)
    return mean, components[0], "state, PC 1"


def _line(
    branch: Branch, mean: Any, direction: Float[np.ndarray, " n_states"], span: float
) -> Float[np.ndarray, "m 2"]:
    """Return `s` and the height along a branch, `_PARTS` places for each step and the last point.

    Tangents are those of the states and of `s` as a part of the span.
    """
    points = np.column_stack([branch.s, (branch.xstar - mean) @ direction])
    along, in_span = branch.tangent[:, :-1] @ direction, span * branch.tangent[:, -1]
    tangents = np.column_stack([in_span, along])
    steps = np.column_stack([branch.xstar, branch.s / span])
    length = np.linalg.norm(np.diff(steps, axis=0), axis=1)[:, None, None]
    ends, slopes = ((a[:-1, None], a[1:, None]) for a in (points, tangents))
    theta = (np.arange(_PARTS) / _PARTS)[:, None]
    return np.concatenate([hermite(theta, ends, slopes, length).reshape(-1, 2), points[-1:]])


def _lines_of_orbits(
    branch: OrbitBranch, mean: Any, direction: Float[np.ndarray, " n_states"]
) -> list[Float[np.ndarray, "m 2"]]:
    """Return lines, as `_line` does, of the largest and of the smallest height on each orbit."""
    heights, k = (branch.states - mean) @ direction, np.arange(len(branch))
    places = np.arange((len(branch) - 1) * _PARTS + 1) / _PARTS
    s = np.interp(places, k, branch.s)
    extremes = (heights.max(axis=1), heights.min(axis=1))
    return [np.column_stack([s, np.interp(places, k, extreme)]) for extreme in extremes]


def _draw_branch(
    ax: Any,
    branch: Branch | OrbitBranch,
    line: Float[np.ndarray, "m 2"],
    places: Float[np.ndarray, " events"],
    config: PlotConfig,
) -> None:
    """Draw the pieces of a branch, each in the line of its index, from event to event."""
    look = np.clip(branch.index, -1, len(_LINES) - 1)
    first = [0, *(np.flatnonzero(np.diff(look)) + 1)]
    cuts = [0]
    for k in first[1:]:
        between = places[(places >= k - 1) & (places <= k)]
        cuts.append(round(_PARTS * (between[0] if between.size else k)))
    for k, start, end in zip(first, cuts, [*cuts[1:], len(line) - 1], strict=True):
        name, style, color = _LINES[look[k]] if look[k] >= 0 else _UNKNOWN
        properties = {"linestyle": style, "color": color} | config.to_matplotlib_kwargs()
        ax.plot(*line[start : end + 1].T, label=name, **properties)
