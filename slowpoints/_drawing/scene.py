"""What a figure of points among trajectories holds, whoever draws it: Matplotlib or Plotly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.types import RealArray
from slowpoints._core.without_torch import without_torch
from slowpoints._drawing.coloring import MOST_LABELS, Coloring, coloring_of, values_of_trials
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.marks import Group, groups_of
from slowpoints._drawing.view import View, check_finite, given_projection, pca_of, view_of
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted

MOST_TRIALS = 8
"""So many trials are drawn if there are more: one sees what they do, and the points among them."""

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
    color_points_by: Any,
    eigenvectors: str | None,
) -> Scene:
    """Check what a figure is given, and return what it shows."""
    arguments.instance(
        caller, "fixed_points", fixed_points, FixedPoints, "a slowpoints.FixedPoints"
    )
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if eigenvectors is not None:
        arguments.choice(caller, "eigenvectors", eigenvectors, ("unstable", "slow"))
    points = _shown_points(caller, fixed_points)
    if state_traj is None:
        state_traj = np.zeros((0, 1, fixed_points.n_states or n_axes))
    else:
        size = points.n_states if points.n else None
        state_traj = states_of(caller, state_traj, size, "the points in `fixed_points`")
    n_trials, n_time, n_states = state_traj.shape
    trials = _trials(caller, plot_batch_idx, n_trials, values_of_trials(caller, color_by, n_trials))
    first_step = arguments.whole(
        caller, "plot_start_time", plot_start_time, least=-n_time, most=n_time - 1
    )
    first_step %= n_time
    if points.n == 0:
        points = FixedPoints(xstar=np.zeros((0, n_states)))
    shown = state_traj[trials, first_step:].astype(np.float64)
    check_finite(caller, "state_traj", shown)
    is_valid = True if fixed_points.valid is None else np.asarray(fixed_points.valid)
    rows = np.flatnonzero(np.broadcast_to(is_valid, fixed_points.n))
    coloring = coloring_of(
        caller,
        color_by,
        color_points_by,
        (n_trials, n_time),
        trials,
        first_step,
        rows,
        fixed_points.n,
        None if points.cond_id is None else np.asarray(points.cond_id),
        config,
    )
    if projection is not None:
        seen = given_projection(caller, projection, n_states, n_axes)
    else:  # of what is drawn and of all other trials, so that figures of some trials compare
        samples = state_traj[:, first_step:].reshape(-1, n_states)
        seen = pca_of(samples if n_trials else points.xstar, n_axes)
    view = view_of(caller, points, shown, first_step, n_axes, seen)
    segments = [] if eigenvectors is None else _segments(caller, points, view, eigenvectors)
    title = _describe(points, len(trials), n_trials)
    return Scene(
        points, rows, view, groups_of(points), coloring, segments, trials, first_step, title
    )


# ---- input -------------------------------------------------------------------------------------


def states_of(
    caller: str, state_traj: Any, n_states: int | None, of: str = "the points"
) -> Shaped[np.ndarray, "trials time n_states"]:
    """Return trajectories as vectors: those of pairs and layers are laid one after another."""
    parts = jax.tree.leaves(state_traj)
    are_parts = [len(getattr(part, "shape", ())) >= 3 for part in parts]
    if parts and all(are_parts) and not hasattr(state_traj, "shape"):
        parts = [np.asarray(part) for part in jax.tree.map(without_torch, parts)]
        if len({part.shape[:2] for part in parts}) == 1:
            vectors = [part.reshape(*part.shape[:2], -1) for part in parts]
            state_traj = np.concatenate(vectors, axis=2)
    states = np.asarray(arguments.trajectories(caller, "state_traj", state_traj, nonempty=True))
    if n_states is not None and states.shape[-1] != n_states:
        was = f"has {states.shape[-1]} column{'s' * (states.shape[-1] != 1)}, its last axis"
        hint = arguments.if_transposed(states.shape, n_states)
        expected = f"{n_states}, the number of states of {of}"
        raise ValueError(
            f"{caller}: `state_traj` {was}; expected {expected}"
            + (f".{hint}" if hint else f"{arguments.TO_VECTORS}.")
        )
    return states


def _trials(
    caller: str,
    plot_batch_idx: Any,
    n_trials: int,
    values: Shaped[np.ndarray, " trials"] | None,
) -> Int[np.ndarray, " shown"]:
    """Return the trials to draw: of many, some of each condition."""
    if plot_batch_idx is None or n_trials == 0:
        return _some_trials(n_trials, values)
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


def _some_trials(
    n_trials: int, values: Shaped[np.ndarray, " trials"] | None
) -> Int[np.ndarray, " shown"]:
    """Return at most `MOST_TRIALS` trials, evenly spaced, or one of each of more conditions."""
    if n_trials <= MOST_TRIALS:
        return np.arange(n_trials)
    order, conditions = np.arange(n_trials), [np.arange(n_trials)]
    if values is not None:
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(values[order][1:] != values[order][:-1]) + 1
        conditions = np.split(order, starts)
    if len(conditions) > MOST_LABELS:  # numbers on a scale
        conditions = [order]
    each = max(1, MOST_TRIALS // len(conditions))
    spaced = [
        rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).round().astype(int)]
        for rows in conditions
    ]
    return np.sort(np.concatenate(spaced))


def _shown_points(caller: str, fixed_points: FixedPoints) -> FixedPoints:
    """Return the valid rows, checked and NumPy-backed."""
    points = fixed_points.to_numpy().compact()
    if points.n == 0:
        return FixedPoints()
    if points.xstar is None:
        raise ValueError(f"`fixed_points` has {points.n} row(s) but no `xstar`.")
    if points.F_xstar is not None and points.F_xstar.shape != points.xstar.shape:
        was, expected = f"has shape {points.F_xstar.shape}", f"{points.xstar.shape}, as `xstar` has"
        arguments.refuse(caller, "fixed_points.F_xstar", was, expected, ValueError)
    for name in ("xstar", "F_xstar"):
        value = getattr(points, name)
        if value is not None:
            points = points.replace(**{name: value.astype(np.float64)})
    check_finite(caller, "fixed_points.xstar", points.xstar)
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
