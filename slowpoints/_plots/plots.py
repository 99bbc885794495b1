"""Static figures of fixed points among the trajectories, in the trajectories' principal components.

Matplotlib and scikit-learn are imported when a figure is made, so that importing the package stays
cheap.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._core import arguments
from slowpoints._core.status import Status, counted
from slowpoints._core.types import RealArray
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.linear_dynamics import decay

if TYPE_CHECKING:
    import matplotlib.figure

_N_TRIALS = 30  # the documented default of `plot_batch_idx`

# Okabe & Ito's colour-blind-safe palette; every colour has its own shape, for print in grey.
_STABLE = ("o", "#0072B2")
_UNSTABLE = ("X", "#D55E00")
_UNKNOWN = ("d", "#7F7F7F")
# Points that are not known to be fixed points.
_OTHERS = {
    Status.SLOW_POINT: ("slow point", "*", "#56B4E9"),
    Status.WITHIN_TOLERANCE: ("point within tolerance", "p", "#B3B3B3"),
    Status.UNFINISHED: ("unfinished point", "h", "#4D4D4D"),
}
# By index, so that an index looks the same in every figure; the last one also stands for all above.
_BY_INDEX = (
    ("^", "#E69F00"),
    ("s", "#D55E00"),
    ("D", "#CC79A7"),
    ("P", "#009E73"),
    ("v", "#000000"),
)


@dataclass
class PlotConfig:
    """What a figure looks like and where it goes.

    Attributes:
        title: the title; `""` for one that says what is shown, `None` for none.
        xlabel: the first axis' label, to which the explained variance is appended; `""` for "PC 1".
        ylabel: the second axis' label, likewise.
        figsize: width and height in inches.
        grid: whether to draw grid lines.
        save_path: file to write; its suffix chooses the format, and missing folders are made.
        show: whether to call `matplotlib.pyplot.show`. If not, pyplot never learns of the figure.
        time_steps_per_second: for animations; no effect here.
        fps: for animations; no effect here.
        repeat: for animations; no effect here.
        show_progress_bar: for animations; no effect here.
        render_backend: for animations; no effect here.
        render_workers: for animations; no effect here.
        render_start_method: for animations; no effect here.
        show_legend: whether to draw the legend, beside the axes.
        color: colour of the trajectories, which are drawn translucent.
        clabel: label of a colour bar; no effect here, where the legend explains the colours.
        kwargs: `matplotlib.lines.Line2D` properties of the trajectories, such as
            `{"linewidth": 2}`; these win over `color` and `rasterized`.
        savefig_kwargs: arguments of `Figure.savefig`; these win over the three below.
        rasterized: whether vector formats hold the trajectories as an image, to keep files small.
        save_dpi: resolution of the file.
        save_bbox_inches: `"tight"` to trim the margins, `None` for Matplotlib's setting.
        save_format: file format; `None` leaves it to the suffix.
        verbose: whether to print the axes' contents and the file's name.
    """

    title: str | None = ""
    xlabel: str = ""
    ylabel: str = ""
    figsize: tuple[int | float, int | float] = (10, 6)
    grid: bool = False
    save_path: str | os.PathLike[str] | None = None
    show: bool = True
    time_steps_per_second: int | None = None
    fps: int = 30
    repeat: bool = True
    show_progress_bar: bool = True
    render_backend: str | None = None
    render_workers: int | None = None
    render_start_method: str | None = None
    show_legend: bool = True
    color: Any = "black"
    clabel: str = "Value"
    kwargs: dict[str, Any] | None = None
    savefig_kwargs: dict[str, Any] | None = None
    rasterized: bool | None = None
    save_dpi: int = 300
    save_bbox_inches: str | None = "tight"
    save_format: str | None = None
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.kwargs is None:
            self.kwargs = {}

    @classmethod
    def for_static_plot(cls, **kwargs: Any) -> "PlotConfig":
        """Return a configuration without a time base, whatever `kwargs` says of one."""
        settings: dict[str, Any] = kwargs | {"time_steps_per_second": None}
        return cls(**settings)

    def to_matplotlib_kwargs(self) -> dict[str, Any]:
        """Return `kwargs`, with `rasterized` where only the field of that name is set."""
        given = dict(self.kwargs or {})
        if self.rasterized is not None:
            given.setdefault("rasterized", self.rasterized)
        return given

    def to_savefig_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `Figure.savefig`."""
        fields = {"dpi": self.save_dpi}
        fields |= {"bbox_inches": self.save_bbox_inches, "format": self.save_format}
        fields = {name: value for name, value in fields.items() if value is not None}
        return fields | (self.savefig_kwargs or {})


def plot_fixed_points_2d(
    fixed_points: FixedPoints,
    state_traj: Float[RealArray, "trials time n_states"],
    config: PlotConfig | None = None,
    plot_batch_idx: Sequence[int | np.integer] | Int[RealArray, " shown"] | None = None,
    plot_start_time: int = 0,
) -> "matplotlib.figure.Figure":
    """Draw fixed points and trajectories in the plane of the first two principal components.

    The components are those of the trajectories shown, and the fixed points are projected onto
    them. Stable points, and unstable ones by their index (the number of unstable directions), have
    their own shapes and colours, and so have slow points and others whose `status` is not that of a
    fixed point. One-dimensional states are drawn as a return map, the next state
    against the state, where fixed points lie on the diagonal.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses `xstar`, and where they are
            there `F_xstar`, `is_stable`, `eigval_J_xstar` and `status`.
        state_traj: `[trials, time, n_states]` the trajectories.
        config: the looks; `None` is `PlotConfig()`, which shows the figure.
        plot_batch_idx: the trials to draw; `None` for the first 30.
        plot_start_time: the first time step to draw.

    Returns:
        The figure.

    Raises:
        ValueError: if an argument has the wrong shape, is out of range or is not finite.
    """
    return _plot(fixed_points, state_traj, config, plot_batch_idx, plot_start_time, n_axes=2)


def plot_fixed_points_3d(
    fixed_points: FixedPoints,
    state_traj: Float[RealArray, "trials time n_states"],
    config: PlotConfig | None = None,
    plot_batch_idx: Sequence[int | np.integer] | Int[RealArray, " shown"] | None = None,
    plot_start_time: int = 0,
) -> "matplotlib.figure.Figure":
    """Draw fixed points and trajectories in the first three principal components.

    As [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d], with one more axis, and the same
    scale on all of them. For states of fewer than three dimensions the third axis is time, and the
    fixed points stand where the trajectories end.

    Args:
        fixed_points: the points; only `valid` rows are drawn. Uses `xstar`, and where they are
            there `F_xstar`, `is_stable`, `eigval_J_xstar` and `status`.
        state_traj: `[trials, time, n_states]` the trajectories.
        config: the looks; `None` is `PlotConfig()`, which shows the figure.
        plot_batch_idx: the trials to draw; `None` for the first 30.
        plot_start_time: the first time step to draw.

    Returns:
        The figure.

    Raises:
        ValueError: if an argument has the wrong shape, is out of range or is not finite.
    """
    return _plot(fixed_points, state_traj, config, plot_batch_idx, plot_start_time, n_axes=3)


def _plot(
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig | None,
    plot_batch_idx: Any,
    plot_start_time: int,
    n_axes: int,
) -> "matplotlib.figure.Figure":
    caller = f"plot_fixed_points_{n_axes}d"
    arguments.instance(
        caller, "fixed_points", fixed_points, FixedPoints, "a slowpoints.FixedPoints"
    )
    config = PlotConfig() if config is None else config
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    states, first_step = _select(caller, state_traj, plot_batch_idx, plot_start_time)
    points = _shown_points(fixed_points, n_states=states.shape[2])
    view = _view(points, states, first_step, n_axes)
    labels = _axis_labels(view, config)

    fig = _new_figure(config)
    # Matplotlib would sort whole artists by depth and bury the points under the trajectories.
    ax: Any = fig.add_subplot(
        **({"projection": "3d", "computed_zorder": False} if n_axes == 3 else {})
    )
    _draw_trajectories(ax, view.trajectories, config)
    groups = _groups(points)
    _draw_points(ax, view.points, groups)
    _draw_guides(ax, view, groups)
    _style_axes(ax, view, config)
    for axis, label in zip("xyz", labels, strict=False):
        getattr(ax, f"set_{axis}label")(label)
    if config.title is not None:
        ax.set_title(config.title or _describe(points, len(states), len(state_traj)))
    if config.show_legend:
        _draw_legend(ax, anchor=(1.02 if n_axes == 2 else 1.1, 1.0))
    if config.verbose:
        print(f"Axes: {'; '.join(labels)}.")
    _finish(fig, config)
    return fig


# ---- input -------------------------------------------------------------------------------------


def _select(
    caller: str, state_traj: Any, plot_batch_idx: Any, plot_start_time: int
) -> tuple[Float[np.ndarray, "shown time n_states"], int]:
    """Return the part of the trajectories to draw, and its first time step."""
    axes = ("trials", "time", "n_states")
    states = np.asarray(arguments.array(caller, "state_traj", state_traj, axes, nonempty=True))
    n_trials, n_time, _ = states.shape
    if plot_batch_idx is None:
        plot_batch_idx = range(min(_N_TRIALS, n_trials))
    trials = np.asarray(
        arguments.array(caller, "plot_batch_idx", plot_batch_idx, ("shown",), nonempty=True)
    )
    if not np.issubdtype(trials.dtype, np.integer):
        was, expected = f"has dtype {trials.dtype}", "whole numbers, the trials to draw"
        arguments.refuse(caller, "plot_batch_idx", was, expected, TypeError)
    if trials.min() < -n_trials or trials.max() >= n_trials:
        was = f"is from {trials.min()} to {trials.max()}"
        expected = f"at most {n_trials - 1}, since `state_traj` has {n_trials} trial(s)"
        arguments.refuse(caller, "plot_batch_idx", was, expected, ValueError)
    first_step = arguments.whole(
        caller, "plot_start_time", plot_start_time, least=-n_time, most=n_time - 1
    )
    first_step %= n_time
    shown = states[trials, first_step:].astype(np.float64)
    _check_finite("state_traj", shown)
    return shown, first_step


def _shown_points(fixed_points: FixedPoints, n_states: int) -> FixedPoints:
    """Return the valid rows, checked and NumPy-backed."""
    points = fixed_points.to_numpy().compact()
    if points.n == 0:
        return FixedPoints(xstar=np.zeros((0, n_states)))
    if points.xstar is None:
        raise ValueError(f"`fixed_points` has {points.n} row(s) but no `xstar`.")
    for name in ("xstar", "F_xstar"):
        value = getattr(points, name)
        if value is None:
            continue
        if value.shape[1] != n_states:
            raise ValueError(
                f"`fixed_points.{name}` has shape {value.shape}, expected ({points.n}, {n_states}) "
                f"to go with the {n_states} state(s) of `state_traj`."
            )
        points = points.replace(**{name: value.astype(np.float64)})
    _check_finite("fixed_points.xstar", points.xstar)
    return points


def _check_finite(name: str, values: Float[np.ndarray, "..."]) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{name}`, of shape {values.shape} where it is drawn, has "
            f"{np.sum(~np.isfinite(values))} value(s) that are not finite; expected none."
        )


# ---- coordinates -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """The coordinates to draw, one column per axis of the figure.

    `variance` has one ratio per principal component: none for a return map, and none for the time
    axis, which comes last and reaches over `time_span` where there is one.
    """

    trajectories: Float[np.ndarray, "shown steps axes"]
    points: Float[np.ndarray, "n axes"]
    names: tuple[str, ...]
    variance: tuple[float, ...]
    is_return_map: bool
    time_span: tuple[float, float] | None


def _view(
    points: FixedPoints,
    states: Float[np.ndarray, "shown time n_states"],
    first_step: int,
    n_axes: int,
) -> _View:
    n_shown, n_time, n_states = states.shape
    if n_states == 1:
        image = points.xstar if points.F_xstar is None else points.F_xstar
        _check_finite("fixed_points.F_xstar", image)
        trajectories = np.concatenate([states[:, :-1], states[:, 1:]], axis=2)
        coordinates = np.concatenate([points.xstar, image], axis=1)
        names, variance = ("state $x_t$", "next state $x_{t+1}$"), ()
    else:
        mean, components, variance = _fit_pca(states.reshape(-1, n_states), min(n_axes, n_states))
        trajectories = (states - mean) @ components.T
        coordinates = (points.xstar - mean) @ components.T
        names = tuple(f"PC {k + 1}" for k in range(len(components)))
    time_span = None
    if len(names) < n_axes:
        time_span = (float(first_step), float(first_step + n_time - 1))
        steps = first_step + np.arange(trajectories.shape[1], dtype=np.float64)
        times = np.broadcast_to(steps[:, None], (n_shown, steps.size, 1))
        trajectories = np.concatenate([trajectories, times], axis=2)
        coordinates = np.concatenate([coordinates, np.full((points.n, 1), time_span[1])], axis=1)
        names = (*names, "time step $t$")
    return _View(trajectories, coordinates, names, variance, n_states == 1, time_span)


def _fit_pca(
    samples: Float[np.ndarray, "samples n_states"], n_components: int
) -> tuple[Float[np.ndarray, " n_states"], Float[np.ndarray, "k n_states"], tuple[float, ...]]:
    """Return the mean, the directions `[k, n_states]` and their shares of the variance."""
    from sklearn.decomposition import PCA

    mean = samples.mean(axis=0)
    rounding = 4 * np.finfo(np.float64).eps * np.abs(samples).max()
    if np.ptp(samples, axis=0).max() <= rounding:
        # No direction stands out, and PCA would divide by the variance.
        return samples[0], np.eye(n_components, samples.shape[1]), (0.0,) * n_components
    centred = samples - mean
    # PCA finds no more directions than there are samples. Samples at the mean change none of those
    # there are, and let it complete the basis.
    missing = max(0, n_components - len(samples))
    centred = np.concatenate([centred, np.zeros((missing, centred.shape[1]))])
    pca = PCA(n_components=n_components, random_state=0).fit(centred)
    return mean, np.asarray(pca.components_), tuple(float(r) for r in pca.explained_variance_ratio_)


def _axis_labels(view: _View, config: PlotConfig) -> list[str]:
    given = [config.xlabel, config.ylabel, ""]
    labels = [own or name for own, name in zip(given, view.names, strict=False)]
    for k, ratio in enumerate(view.variance):
        labels[k] += f" ({100 * ratio:.1f} % of variance)"
    return labels


def _describe(fps: FixedPoints, n_shown: int, n_trials: int) -> str:
    fixed = np.full(fps.n, Status.FIXED_POINT) if fps.status is None else fps.status
    points = counted(fixed) if fps.n else "No fixed points"
    trials = f"{n_trials} trajector{'y' if n_trials == 1 else 'ies'}"
    return f"{points}, {trials if n_shown == n_trials else f'{n_shown} of {trials}'}"


# ---- drawing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Points that look the same."""

    rows: Bool[np.ndarray, " n"]
    name: str
    marker: str
    color: str


def _groups(points: FixedPoints) -> list[_Group]:
    """Sort fixed points by stability and index, as far as these are known, and others by status.

    Where there is no status, all count as fixed points.
    """
    if points.status is None:
        return _fixed_groups(points)
    exact = points.status == Status.FIXED_POINT
    groups = _fixed_groups(points[exact])
    for i, group in enumerate(groups):
        rows = np.zeros(points.n, bool)
        rows[exact] = group.rows
        groups[i] = replace(group, rows=rows)
    for status, style in _OTHERS.items():
        groups.append(_Group(points.status == status, *style))
    rest = ~exact & ~np.isin(points.status, list(_OTHERS))
    groups.append(_Group(rest, "point, status unknown", *_UNKNOWN))
    return [group for group in groups if group.rows.any()]


def _fixed_groups(points: FixedPoints) -> list[_Group]:
    stable = points.is_stable
    if stable is None and points.has_decomposed_jacobians:
        stable = np.asarray(decay(points.eigval_J_xstar, points.continuous_time)).all(axis=1)
    if stable is None:
        everything = np.ones(points.n, dtype=bool)
        unknown = _Group(everything, "fixed point, stability unknown", *_UNKNOWN)
        return [unknown] if points.n else []
    stable = stable.astype(bool)
    groups = [_Group(stable, "stable fixed point", *_STABLE)]
    index = np.full(points.n, -1)  # unknown, as where a Jacobian was not finite
    if points.has_decomposed_jacobians:
        index = np.asarray(points.n_unstable())
    for k, style in enumerate(_BY_INDEX, start=1):
        is_last = k == len(_BY_INDEX)
        rows = ~stable & ((index >= k) if is_last else (index == k))
        if rows.any():
            name = _index_name(int(index[rows].min()), int(index[rows].max()), points.n_states)
            groups.append(_Group(rows, name, *style))
    groups.append(_Group(~stable & (index < 1), "unstable fixed point", *_UNSTABLE))
    return [group for group in groups if group.rows.any()]


def _index_name(low: int, high: int, n_states: int) -> str:
    if low < high:
        return f"unstable, index {low} to {high}"
    return f"{'repeller' if low == n_states else 'saddle'}, index {low}"


def _new_figure(config: PlotConfig) -> "matplotlib.figure.Figure":
    if config.show:
        from matplotlib import pyplot as plt

        return plt.figure(figsize=config.figsize, layout="constrained")
    from matplotlib.figure import Figure

    # Not pyplot's, which would open a window and hold on to the figure.
    return Figure(figsize=config.figsize, layout="constrained")


def _draw_trajectories(
    ax: Any, trajectories: Float[np.ndarray, "shown steps axes"], config: PlotConfig
) -> None:
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    n_shown, n_steps, _ = trajectories.shape
    style = {"color": config.color, "linewidth": 0.7, "zorder": 1}
    style["alpha"] = np.clip(4 / n_shown, 0.15, 0.7)  # light where many lie on each other
    style["label"] = f"{'trajectory' if n_shown == 1 else 'trajectories'} ({n_shown})"
    if n_steps == 0 or not np.ptp(trajectories, axis=1).any():
        style["marker"] = "."  # a line through a single place is invisible
    # Spelled out, so that "lw" replaces "linewidth" rather than clash with it.
    style |= normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)
    for trajectory in trajectories:
        ax.plot(*trajectory.T, **style)
        style["label"] = "_nolegend_"


def _draw_points(ax: Any, points: Float[np.ndarray, "n axes"], groups: list[_Group]) -> None:
    size, edge = (70, 0.8) if len(points) <= 100 else (30, 0.4)
    # Shading by depth would make colours differ from those in the legend.
    depthshade = {"depthshade": False} if points.shape[1] == 3 else {}
    for group in groups:
        ax.scatter(
            *points[group.rows].T,
            s=size,
            marker=group.marker,
            color=group.color,
            edgecolors="white",
            linewidths=edge,
            zorder=3,
            label=f"{group.name} ({group.rows.sum()})",
            **depthshade,
        )


def _draw_guides(ax: Any, view: _View, groups: list[_Group]) -> None:
    """Draw what the fixed points are to be seen against, where the axes are not all components."""
    if view.time_span is not None:
        for group in groups:
            for x, y, _ in view.points[group.rows]:  # a state that stays, all the time
                ax.plot([x, x], [y, y], view.time_span, color=group.color, linewidth=0.8, zorder=2)
    if view.is_return_map:
        values = np.concatenate([view.trajectories[..., :2].ravel(), view.points[:, :2].ravel()])
        ends = [values.min(), values.max()] if values.size else []
        floor = [] if view.time_span is None else [[view.time_span[0]] * len(ends)]
        style = {"color": "0.4", "linestyle": "--", "linewidth": 0.8, "zorder": 2}
        ax.plot(ends, ends, *floor, label="$x_{t+1} = x_t$", **style)


def _style_axes(ax: Any, view: _View, config: PlotConfig) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(view.names) == 3:
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        # Distances are comparable between components, but not between states and time.
        ax.set_aspect("equal" if view.time_span is None else "equalxy", adjustable="datalim")
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        if view.is_return_map:
            ax.set_aspect("equal", adjustable="datalim")
    ax.grid(config.grid, **({"alpha": 0.3} if config.grid else {}))


def _draw_legend(ax: Any, anchor: tuple[float, float]) -> None:
    """Draw the legend to the right of the axes, where it hides nothing."""
    legend = ax.legend(loc="upper left", bbox_to_anchor=anchor, borderaxespad=0.0, frameon=False)
    for line in legend.get_lines():
        line.set_alpha(0.8)  # one translucent line by itself is hardly seen


def _finish(fig: "matplotlib.figure.Figure", config: PlotConfig) -> None:
    if config.save_path:
        Path(config.save_path).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(config.save_path, **config.to_savefig_kwargs())
        if config.verbose:
            print(f"Saved {os.fspath(config.save_path)}.")
    if config.show:
        from matplotlib import pyplot as plt

        plt.show()
