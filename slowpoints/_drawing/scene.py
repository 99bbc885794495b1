"""What a figure of points among trajectories holds, whoever draws it: Matplotlib or Plotly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from slowpoints._core import arguments
from slowpoints._core.types import RealArray
from slowpoints._drawing.coloring import Coloring, coloring_of
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.marks import Group, groups_of
from slowpoints._drawing.view import View, check_finite, given_projection, pca_of, view_of
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted

MOST_TRIALS = 30
"""So many trials are drawn if there are more: one sees what they do, and can tell them apart."""

LONGEST = 0.08
"""Segments along eigenvectors reach so far to each side, as a part of the points' and trajectories'
range, where the eigenvalue is the largest of those shown. Longer ones would cross one another."""

Trials = Sequence[int | np.integer] | Int[RealArray, " shown"]
Eigenvectors = Literal["unstable", "slow"]


@dataclass(frozen=True)
class Segment:
    """A line through a point along one of its eigenvectors."""

    row: int
    ends: Float[np.ndarray, "2 axes"]
    is_unstable: bool


@dataclass(frozen=True)
class Scene:
    """Points, trajectories and what is drawn at the points.

    Attributes:
        points: the valid points.
        rows: `[n]` which rows of the caller's points these are.
        view: where they and the trajectories are.
        groups: which points look alike.
        coloring: what colours say, if they do not say the kind of a point.
        segments: lines along eigenvectors.
        trials: `[shown]` which trials are drawn.
        first_step: the first time step that is drawn.
        title: what is shown, in words.
    """

    points: FixedPoints
    rows: Int[np.ndarray, " n"]
    view: View
    groups: list[Group]
    coloring: Coloring
    segments: list[Segment]
    trials: Int[np.ndarray, " shown"]
    first_step: int
    title: str


def scene_of(
    caller: str,
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig,
    plot_batch_idx: Any,
    plot_start_time: int,
    n_axes: int,
    projection: Any,
    color_by: Any,
    eigenvectors: str | None,
) -> Scene:
    """Check what a figure is given, and return what it shows."""
    arguments.instance(
        caller, "fixed_points", fixed_points, FixedPoints, "a slowpoints.FixedPoints"
    )
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if eigenvectors is not None:
        arguments.choice(caller, "eigenvectors", eigenvectors, ("unstable", "slow"))
    if state_traj is None:
        state_traj = np.zeros((0, 1, fixed_points.n_states))
    else:
        state_traj = np.asarray(
            arguments.trajectories(caller, "state_traj", state_traj, nonempty=True)
        )
    n_trials, n_time, n_states = state_traj.shape
    trials = _trials(caller, plot_batch_idx, n_trials)
    first_step = arguments.whole(
        caller, "plot_start_time", plot_start_time, least=-n_time, most=n_time - 1
    )
    first_step %= n_time
    points = _shown_points(caller, fixed_points, state_traj.shape)
    shown = state_traj[trials, first_step:].astype(np.float64)
    check_finite("state_traj", shown)
    coloring = coloring_of(
        caller,
        color_by,
        (n_trials, n_time),
        trials,
        first_step,
        None if points.cond_id is None else np.asarray(points.cond_id),
        "" if config.clabel == PlotConfig.clabel else config.clabel,
    )
    if projection is not None:
        seen = given_projection(caller, projection, n_states, n_axes)
    else:  # of what is drawn and of all other trials, so that figures of some trials compare
        samples = state_traj[:, first_step:].reshape(-1, n_states)
        seen = pca_of(samples if n_trials else points.xstar, n_axes)
    view = view_of(points, shown, first_step, n_axes, seen)
    segments = [] if eigenvectors is None else _segments(caller, points, view, eigenvectors)
    title = _describe(points, len(trials), n_trials)
    is_valid = True if fixed_points.valid is None else np.asarray(fixed_points.valid)
    rows = np.flatnonzero(np.broadcast_to(is_valid, fixed_points.n))
    return Scene(
        points, rows, view, groups_of(points), coloring, segments, trials, first_step, title
    )


# ---- input -------------------------------------------------------------------------------------


def _trials(caller: str, plot_batch_idx: Any, n_trials: int) -> Int[np.ndarray, " shown"]:
    """Return the trials to draw."""
    if plot_batch_idx is None or n_trials == 0:
        return np.linspace(0, n_trials - 1, min(MOST_TRIALS, n_trials)).round().astype(int)
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
    return trials.astype(int) % n_trials


def _shown_points(
    caller: str, fixed_points: FixedPoints, shape: tuple[int, int, int]
) -> FixedPoints:
    """Return the valid rows, checked and NumPy-backed, for trajectories of a shape."""
    points = fixed_points.to_numpy().compact()
    if points.n == 0:
        return FixedPoints(xstar=np.zeros((0, shape[-1])))
    if points.xstar is None:
        raise ValueError(f"`fixed_points` has {points.n} row(s) but no `xstar`.")
    n_states = points.xstar.shape[1]
    if shape[-1] != n_states:
        was = f"has {shape[-1]} column{'s' * (shape[-1] != 1)}, its last axis"
        hint = arguments.if_transposed(shape, n_states)
        expected = f"{n_states}, the number of states of the points in `fixed_points`"
        raise ValueError(
            f"{caller}: `state_traj` {was}; expected {expected}"
            + (f".{hint}" if hint else f"{arguments.TO_VECTORS}.")
        )
    if points.F_xstar is not None and points.F_xstar.shape != points.xstar.shape:
        was, expected = f"has shape {points.F_xstar.shape}", f"{points.xstar.shape}, as `xstar` has"
        arguments.refuse(caller, "fixed_points.F_xstar", was, expected, ValueError)
    for name in ("xstar", "F_xstar"):
        value = getattr(points, name)
        if value is not None:
            points = points.replace(**{name: value.astype(np.float64)})
    check_finite("fixed_points.xstar", points.xstar)
    return points


# ---- eigenvectors ------------------------------------------------------------------------------


def _segments(caller: str, points: FixedPoints, view: View, which: str) -> list[Segment]:
    """Return lines along the unstable eigenvectors, and along the slowest stable one if asked for.

    A complex pair has two lines, along the real and the imaginary part of its eigenvector, which
    span the plane in which the state turns.
    """
    if view.is_return_map:
        was, expected = f"is {which!r}", "None, since a return map has no directions"
        arguments.refuse(caller, "eigenvectors", was, expected, ValueError)
    if points.n == 0:
        return []
    if points.eigvec_J_xstar is None or points.eigval_J_xstar is None:
        was = f"is {which!r}, but `fixed_points.eigvec_J_xstar` is None"
        expected = "points with eigenvectors, as slowpoints.decompose computes them"
        arguments.refuse(caller, "eigenvectors", was, expected, ValueError)
    values, vectors = points.eigval_J_xstar, points.eigvec_J_xstar
    size = np.abs(values.real if points.continuous_time else values)
    index = np.asarray(points.n_unstable())  # -1 if it is not known, and nothing is drawn
    folded = values.real + 1j * np.abs(values.imag)  # the same number for both of a pair
    lines, n_components = [], len(view.projection.names)
    for row, k in np.argwhere((index >= 0)[:, None] & (values.imag >= 0)):
        # Eigenvalues fall, so that the first stable one is the slowest.
        is_unstable = bool(k < index[row])
        is_slowest = index[row] < values.shape[1] and np.isclose(
            folded[row, k], folded[row, index[row]]
        )
        if is_unstable or (which == "slow" and is_slowest):
            lines.append((row, size[row, k], vectors[row, :, k].real, is_unstable))
            if values[row, k].imag > 0:
                lines.append((row, size[row, k], vectors[row, :, k].imag, is_unstable))
    longest = max((length for _, length, _, _ in lines), default=1.0) or 1.0
    states = np.concatenate([view.points, view.trajectories.reshape(-1, view.points.shape[1])])
    reach = LONGEST * float(np.max(np.ptp(states[:, :n_components], axis=0))) or 1.0
    found = []
    for row, length, vector, is_unstable in lines:
        along = vector / max(np.linalg.norm(vector), np.finfo(np.float64).tiny)
        away = reach * length / longest * along * np.array([[-1.0], [1.0]])
        ends = view.projection.of(points.xstar[row] + away)
        time = np.broadcast_to(view.points[row, n_components:], (2, len(view.names) - n_components))
        found.append(Segment(int(row), np.concatenate([ends, time], axis=1), is_unstable))
    return found


# ---- words -------------------------------------------------------------------------------------


def _describe(fps: FixedPoints, n_shown: int, n_trials: int) -> str:
    fixed = np.full(fps.n, Status.FIXED_POINT) if fps.status is None else fps.status
    points = counted(fixed) if fps.n else "No fixed points"
    if n_trials == 0:
        return points
    trials = f"{n_trials} trajector{'y' if n_trials == 1 else 'ies'}"
    return f"{points}, {trials if n_shown == n_trials else f'{n_shown} of {trials}'}"
