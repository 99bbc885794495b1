"""What the colours of trajectories and points say, if that is not their kind."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from slowpoints._core import arguments

# Paul Tol's muted colours, in an order in which the first ones differ in lightness as well.
_CONDITIONS = ("#332288", "#CC6677", "#44AA99", "#999933", "#AA4499", "#88CCEE", "#117733")

MOST_LABELS = 12
"""Whole numbers with more different values than this are drawn on a scale of colours, since a
legend with a line for each of them would be longer than the figure is high."""


@dataclass(frozen=True)
class Coloring:
    """How trajectories, and perhaps points, are coloured.

    Attributes:
        values: `[shown, steps]` numbers on a scale of colours, or `None`.
        limits: the ends of the scale.
        name: what the scale or the labels are.
        labels: what is told apart by `colors`, a name each, in the order of the legend.
        colors: a colour for each label.
        of_trajectory: `[shown]` the label of each trajectory by its place in `labels`, or `None` if
            they all look the same.
        of_point: `[n]` the same for points, or `None` if their colours show their kind.
    """

    values: Float[np.ndarray, "shown steps"] | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    name: str = ""
    labels: tuple[str, ...] = ()
    colors: tuple[Any, ...] = ()
    of_trajectory: Int[np.ndarray, " shown"] | None = None
    of_point: Int[np.ndarray, " n"] | None = None


def coloring_of(
    caller: str,
    color_by: Any,
    shape: tuple[int, int],
    trials: Int[np.ndarray, " shown"],
    first_step: int,
    cond_id: Shaped[np.ndarray, " n"] | None,
    name: str,
) -> Coloring:
    """Return what `color_by` asks for, where `shape` is that of all trials and time steps."""
    n_trials, n_time = shape
    if color_by is None:
        return Coloring()
    if isinstance(color_by, str):
        if arguments.choice(caller, "color_by", color_by, ("time", "cond_id")) == "cond_id":
            if cond_id is None:
                was = "is 'cond_id', but `fixed_points.cond_id` is None"
                arguments.refuse(caller, "color_by", was, "points that have conditions", ValueError)
            return _labelled(np.zeros(0), cond_id, "condition")
        steps = np.arange(first_step, n_time, dtype=np.float64)
        return _scaled(np.broadcast_to(steps, (len(trials), steps.size)), name or "time step $t$")
    values = np.asarray(color_by)
    values = values.astype(str) if values.dtype.kind == "O" else values
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
        return _scaled(values[trials, first_step:].astype(np.float64), name or "value")
    if values.dtype.kind == "U" or (
        values.dtype.kind != "f" and np.unique(values).size <= MOST_LABELS
    ):
        known = cond_id is not None and np.isin(cond_id, values).all()
        return _labelled(values[trials], cond_id if known else None, name or "condition")
    columns = np.broadcast_to(values[trials, None], (len(trials), n_time - first_step))
    return _scaled(columns.astype(np.float64), name or "value")


def _scaled(values: Float[np.ndarray, "shown steps"], name: str) -> Coloring:
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    return Coloring(values, (float(low), float(high)), name)


def _labelled(
    of_trials: Shaped[np.ndarray, " shown"], of_points: Shaped[np.ndarray, " n"] | None, name: str
) -> Coloring:
    every = [of_trials] if of_trials.size else []
    every += [] if of_points is None else [of_points]
    labels = np.unique(np.concatenate(every))
    colors = _CONDITIONS[: len(labels)]
    if len(labels) > len(_CONDITIONS):
        places = np.linspace(0, 1, len(labels))
        colors = tuple(tuple(color) for color in scale_of_colors()(places).tolist())
    return Coloring(
        name=name,
        labels=tuple(str(label) for label in labels.tolist()),
        colors=colors,
        of_trajectory=np.searchsorted(labels, of_trials) if of_trials.size else None,
        of_point=None if of_points is None else np.searchsorted(labels, of_points),
    )


def scale_of_colors() -> Any:
    """Return Matplotlib's "viridis" without its lightest fifth, which is hardly seen on white."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, 256))
    return LinearSegmentedColormap.from_list("viridis without its end", colors)
