"""What the colours of trajectories and points say, if that is not their kind."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig

# Paul Tol's muted colours, in an order in which the first ones differ in lightness as well.
_CONDITIONS = ("#332288", "#CC6677", "#44AA99", "#999933", "#AA4499", "#88CCEE", "#117733")

MOST_LABELS = 12
"""Whole numbers with more different values than this are drawn on a scale of colours, since a
legend with a line for each of them would be longer than the figure is high."""


@dataclass(frozen=True)
class Scale:
    """A scale of colours, Matplotlib's `Normalize` and `Colormap`, and what its numbers are."""

    norm: Any
    cmap: Any
    name: str
    extend: str | None = None
    """At which ends numbers go on beyond the scale, in Matplotlib's words; `None` if that is known
    to `norm`."""

    def of(self, values: Float[np.ndarray, " n"]) -> list[tuple[float, ...]]:
        """Return the colour of each value; white for NaN, a point without a number."""
        known = ~np.isnan(values)
        colors = np.asarray(self.cmap(self.norm(np.where(known, values, self.norm.vmin))))
        return [tuple(c) for c in np.where(known[:, None], colors, 1.0).tolist()]


@dataclass(frozen=True)
class Coloring:
    """How trajectories, and perhaps points, are coloured.

    Attributes:
        scale: the scale of `values` and `point_values`, or `None` if there are none.
        values: `[shown, steps]` numbers on the scale, or `None`.
        point_values: `[n]` the same for points, or `None`.
        name: what the labels are.
        labels: what is told apart by `colors`, a name each, in the order of the legend.
        colors: a colour for each label.
        of_trajectory: `[shown]` the label of each trajectory by its place in `labels`, or `None` if
            they all look the same.
        of_point: `[n]` the same for points, or `None` if their colours show their kind.
    """

    scale: Scale | None = None
    values: Float[np.ndarray, "shown steps"] | None = None
    point_values: Float[np.ndarray, " n"] | None = None
    name: str = ""
    labels: tuple[str | int, ...] = ()
    colors: tuple[Any, ...] = ()
    of_trajectory: Int[np.ndarray, " shown"] | None = None
    of_point: Int[np.ndarray, " n"] | None = None

    @property
    def colors_points(self) -> bool:
        """Whether colours of points tell something else than their kind."""
        return self.of_point is not None or self.point_values is not None

    def of_points(self, rows: Any) -> list[Any] | None:
        """Return the colours of points, or `None` if these show their kind."""
        if self.scale is not None and self.point_values is not None:
            return self.scale.of(self.point_values[rows])
        return None if self.of_point is None else [self.colors[k] for k in self.of_point[rows]]


def coloring_of(
    caller: str,
    color_by: Any,
    color_points_by: Any,
    shape: tuple[int, int],
    trials: Int[np.ndarray, " shown"],
    first_step: int,
    valid: Int[np.ndarray, " n"],
    n_points: int,
    cond_id: Shaped[np.ndarray, " n"] | None,
    config: PlotConfig,
) -> Coloring:
    """Return what `color_by` and `color_points_by` ask for.

    Args:
        caller: the public function.
        color_by: what colours of trajectories tell.
        color_points_by: what colours of points tell.
        shape: that of all trials and time steps.
        trials: which trials are drawn.
        first_step: the first time step that is drawn.
        valid: which rows of the caller's points are drawn.
        n_points: how many rows these are.
        cond_id: the condition of each point that is drawn.
        config: has the scale of colours and its label.
    """
    name = "" if config.clabel == PlotConfig.clabel else config.clabel
    of_points = _of_points(caller, color_points_by, valid, n_points)
    of_trials, at_steps, kind = _of_trials(
        caller, color_by, shape, trials, first_step, cond_id is not None or not valid.size
    )
    if kind == "cond_id":
        of_points, kind = (cond_id if of_points is None else of_points), "condition"
    elif of_trials is not None and of_points is None:
        of_points = _conditions_among(of_trials, cond_id)
    if of_trials is not None and not _are_labels(of_trials):
        columns = (len(trials), shape[1] - first_step)
        at_steps = np.broadcast_to(of_trials[trials, None], columns).astype(np.float64)
        of_trials = None
    point_values = None
    if of_points is not None and not _are_labels(of_points):
        of_points, point_values = None, of_points.astype(np.float64)
    scale = _scale(caller, config, name or kind or "value", at_steps, point_values)
    labelled = None if of_trials is None else of_trials[trials]
    if labelled is None and of_points is None:
        return Coloring(scale, at_steps, point_values)
    # Words in the order of all trials, drawn or not.
    every = np.concatenate([each for each in (of_trials, of_points) if each is not None])
    labels, colors = _labels(caller, config, every)
    return Coloring(
        scale,
        at_steps,
        point_values,
        name or "condition",
        tuple(labels.tolist()),
        colors,
        None if labelled is None else _places(labels, labelled.astype(every.dtype)),
        None if of_points is None else _places(labels, of_points.astype(every.dtype)),
    )


def shared(caller: str, config: PlotConfig, colorings: list[Coloring]) -> list[Coloring]:
    """Return colourings of several panels in which the same labels and numbers look the same."""
    if len({(each.of_point is None) for each in colorings if each.colors_points}) > 1:
        was, expected = "has words in one panel and numbers in another", "the same in all panels"
        arguments.refuse(caller, "color_points_by", was, expected, ValueError)
    name = next((each.scale.name for each in colorings if each.scale is not None), "")
    numbers = [of for each in colorings for of in (each.values, each.point_values)]
    if scale := _scale(caller, config, name, *numbers):
        colorings = [
            each if each.scale is None else replace(each, scale=scale) for each in colorings
        ]
    parts = [np.array(each.labels) for each in colorings if each.labels]
    if not parts:
        return colorings
    labels, colors = _labels(caller, config, np.concatenate(parts))
    found = []
    for each in colorings:
        place = _places(labels, np.array(each.labels, labels.dtype))
        of = [None if at is None else place[at] for at in (each.of_trajectory, each.of_point)]
        changes: dict[str, Any] = {"of_trajectory": of[0], "of_point": of[1]}
        found.append(replace(each, labels=tuple(labels.tolist()), colors=colors, **changes))
    return found


def _conditions_among(of_trials: Any, cond_id: Any) -> Any:
    """Return the conditions of points if all of them are among those of trials."""
    if cond_id is None:
        return None
    if of_trials.dtype.kind != "f" or cond_id.dtype.kind not in "biuf":
        return cond_id if np.isin(cond_id, of_trials).all() else None
    # The same numbers, though one of the two may have been rounded to float32.
    of_trials, cond_id = of_trials.astype(np.float32), cond_id.astype(np.float32)
    return cond_id if np.isin(cond_id, of_trials).all() else None


def values_of_trials(
    caller: str, color_by: Any, n_trials: int
) -> Shaped[np.ndarray, " trials"] | None:
    """Return labels or numbers of the trials, if `color_by` is that."""
    if color_by is None or isinstance(color_by, str):
        return None
    values = _labels_of(caller, "color_by", color_by)
    return values if values.shape == (n_trials,) else None


def _labels_of(caller: str, name: str, given: Any) -> Shaped[np.ndarray, "..."]:
    """Return numbers as they are, and all else as words."""
    try:
        values = np.asarray(given)
    except ValueError:
        was, expected = f"{arguments.found(given)}, of rows of several lengths", "labels or numbers"
        arguments.refuse(caller, name, was, expected, ValueError)
    return values.astype(str) if values.dtype.kind == "O" else values


def _of_trials(
    caller: str,
    color_by: Any,
    shape: tuple[int, int],
    trials: Int[np.ndarray, " shown"],
    first_step: int,
    has_conditions: bool,
) -> tuple[Any, Any, str]:
    """Return labels or numbers of all trials, or numbers `[shown, steps]`, and what they are."""
    n_trials, n_time = shape
    if color_by is None:
        return None, None, ""
    if isinstance(color_by, str):
        if arguments.choice(caller, "color_by", color_by, ("time", "cond_id")) == "cond_id":
            if not has_conditions:
                was = "is 'cond_id', but `fixed_points.cond_id` is None"
                arguments.refuse(caller, "color_by", was, "points that have conditions", ValueError)
            return None, None, "cond_id"
        steps = np.arange(first_step, n_time, dtype=np.float64)
        return None, np.broadcast_to(steps, (len(trials), steps.size)), "time step $t$"
    values = _labels_of(caller, "color_by", color_by)
    if values.dtype.kind in "biuf":
        axes = (n_trials,), (n_trials, n_time)
        values = np.asarray(arguments.array(caller, "color_by", color_by, *axes, finite=True))
    elif values.dtype.kind != "U" or values.shape != (n_trials,):
        was = f"has shape {values.shape} and dtype {values.dtype}"
        expected = (
            "'time', 'cond_id', labels or numbers of the trials, "
            f"({n_trials},), or numbers at all steps, {(n_trials, n_time)}"
        )
        arguments.refuse(caller, "color_by", was, expected, ValueError)
    if values.ndim == 2:
        return None, values[trials, first_step:].astype(np.float64), ""
    return values, None, ""


def _of_points(
    caller: str, given: Any, valid: Int[np.ndarray, " n"], n_points: int
) -> Shaped[np.ndarray, " n"] | None:
    """Return labels or numbers of the points that are drawn."""
    if given is None:
        return None
    values = _labels_of(caller, "color_points_by", given)
    if values.dtype.kind != "U":
        values = np.asarray(arguments.array(caller, "color_points_by", given, (n_points,)))
        if np.isinf(values).any():
            was = f"holds {np.isinf(values).sum()} values that are infinite"
            expected = "finite numbers, and NaN for points without a number"
            arguments.refuse(caller, "color_points_by", was, expected, ValueError)
    elif values.shape != (n_points,):
        was, expected = f"has shape {values.shape}", f"a label or number of each row, ({n_points},)"
        arguments.refuse(caller, "color_points_by", was, expected, ValueError)
    return values[valid]


def _are_labels(values: Shaped[np.ndarray, " m"]) -> bool:
    """Return whether values are told apart by name: words, and few different whole numbers."""
    kind = values.dtype.kind
    return kind == "U" or (kind != "f" and np.unique(values).size <= MOST_LABELS)


def _scale(
    caller: str, config: PlotConfig, name: str, *values: Float[np.ndarray, "..."] | None
) -> Scale | None:
    """Return the scale of colours of values, from the least to the largest if not given."""
    from matplotlib.colors import BoundaryNorm, Normalize

    every = [each[~np.isnan(each)].ravel() for each in values if each is not None]
    if not every:
        return None
    norm, cmap = config.norm, _cmap(caller, config)
    if norm is None or isinstance(norm, Normalize):
        norm = Normalize() if norm is None else copy.copy(norm)  # the caller's is left as it is
        numbers = np.concatenate(every)
        norm.autoscale_None(numbers if numbers.size else np.array([0.0, 1.0]))
        try:
            norm(numbers)
            if not isinstance(norm, BoundaryNorm):
                norm.inverse(0.5)  # as scales of colours do
        except ValueError as error:
            was = f"is a {type(norm).__name__} for numbers from {numbers.min()} to {numbers.max()}"
            arguments.refuse(caller, "config.norm", was, f"another one ({error})", ValueError)
        return Scale(norm, cmap, name, _beyond(norm, numbers))
    limits = np.asarray(arguments.array(caller, "config.norm", norm, (2,), finite=True))
    if limits[0] > limits[1]:
        was = f"is {tuple(limits.tolist())}"
        arguments.refuse(caller, "config.norm", was, "the lower end first", ValueError)
    norm = Normalize(*limits.tolist())
    return Scale(norm, cmap, name, _beyond(norm, np.concatenate(every)))


def _beyond(norm: Any, numbers: Float[np.ndarray, " m"]) -> str | None:
    """Return at which ends of a scale there are numbers that it does not tell from its end."""
    from matplotlib.colors import BoundaryNorm

    if isinstance(norm, BoundaryNorm) or numbers.size == 0:
        return None
    rounding = 1e-6 * (norm.vmax - norm.vmin)  # that of float32
    below, above = numbers.min() < norm.vmin - rounding, numbers.max() > norm.vmax + rounding
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"


def _labels(
    caller: str, config: PlotConfig, every: Shaped[np.ndarray, " m"]
) -> tuple[Shaped[np.ndarray, " k"], tuple[Any, ...]]:
    """Return what is told apart, and its colours in the order of a scale if it has an order.

    Numbers are in their own order, and words in that in which they come.
    """
    labels, first = np.unique(every, return_index=True)
    if every.dtype.kind == "U":
        labels = every[np.sort(first)]
    if every.dtype.kind == "U" and len(labels) <= len(_CONDITIONS) and config.cmap is None:
        return labels, _CONDITIONS[: len(labels)]
    places = np.linspace(0, 1, len(labels))
    return labels, tuple(tuple(color) for color in _cmap(caller, config)(places).tolist())


def _places(
    labels: Shaped[np.ndarray, " k"], values: Shaped[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Return where each value is among the labels."""
    place = {label: k for k, label in enumerate(labels.tolist())}
    return np.array([place[value] for value in values.tolist()], int)


def _cmap(caller: str, config: PlotConfig) -> Any:
    """Return the colours of numbers, from low to high."""
    import matplotlib
    from matplotlib.colors import Colormap, LinearSegmentedColormap

    cmap = config.cmap
    if cmap is None:  # the lightest fifth of "viridis" is hardly seen on white
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, 256))
        return LinearSegmentedColormap.from_list("viridis without its end", colors)
    if isinstance(cmap, Colormap):
        return cmap
    if not isinstance(cmap, str) or cmap not in matplotlib.colormaps:
        was, expected = f"is {cmap!r}", "the name of a colour map of Matplotlib, or a Colormap"
        arguments.refuse(caller, "config.cmap", was, expected, ValueError)
    return matplotlib.colormaps[cmap]
