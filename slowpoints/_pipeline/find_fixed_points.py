"""`find_fixed_points`: the whole way from initial states to analysed fixed points."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray, Scalar
from slowpoints._core.warn import warn
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._pipeline.account import account
from slowpoints._pipeline.across_processes import (
    check_agreement,
    refused_together,
    searches_together,
    spread_across_processes,
    unique_across_processes,
)
from slowpoints._pipeline.between import search_between_points
from slowpoints._pipeline.select import at_most, check_selection, select
from slowpoints._pipeline.settings import (
    CALLER,
    Selection,
    Settings,
    Stages,
    Start,
    check_conditions,
    check_flags,
    check_stages,
    devices_of,
    settings_of,
    what_must_agree,
)
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.status import Status
from slowpoints._points.unique import unique
from slowpoints._search.check_search import check_rows, check_search
from slowpoints._search.optimize_batch import optimize_batch
from slowpoints._solvers.base import AbstractSolver
from slowpoints._solvers.report import Report


def find_fixed_points(
    F: Any,
    x_init: Float[RealArray, "n n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    *,
    solver: AbstractSolver | None = None,
    max_iters: int | Int[Array, ""] = 5000,
    tol_q: Scalar = 1e-12,
    tol_dq: Scalar = 1e-20,
    cond_id: Shaped[RealArray, " n"] | None = None,
    tol_unique: Number = 1e-3,
    within_conditions: bool = False,
    outlier_distance_scale: Number | None = 10.0,
    outlier_q_scale: Number | None = None,
    final_q_threshold: Number | None = 1e-8,
    max_n_unique: Number = np.inf,
    keep_unfinished: bool = True,
    search_between: bool = False,
    compute_jacobians: bool = True,
    decompose_jacobians: bool = True,
    memory_limit: int | None = None,
    rows_at_a_time: int | None = None,
    progress: Callable[[FixedPoints], None] | None = None,
    report: Report | None = None,
    mesh: Mesh | Literal["local"] | None = "local",
    across_processes: bool = False,
) -> tuple[FixedPoints, FixedPoints]:
    """Search from each state, and keep and linearise the distinct fixed points.

    In this order: optimise; drop rows that are not finite or that escaped, such as those in the
    tails of saturating units, whose `q` is low but falls without end; keep one row per point; drop
    far points; continue the search from points with an outlying `q`; drop points with a high `q`
    and, if asked to, those at which no row came to an end; keep the best; if asked to, search for
    fixed points between those that are kept; compute Jacobians and eigenvalues.

    States that a network visits lead to its attractors, and often to none of the saddles between
    them. With `search_between`, states between the first points are searched from as well: minima
    of `q` on straight lines from one fixed point to another and, where the signs of `det(I - J)`
    show that points are missing (see [`degree`][slowpoints.degree]), states halfway. These are at
    most as many as `x_init`, and few if they find nothing. What they lead to is among the points
    with 0 `hits`, and no row of the second result. Nothing is searched for between points where
    `I - J` is singular, as on a line attractor; where there are more than half as many fixed points
    as rows, so that more starts find as many, or more than 1,024 under one input; where a rule has
    dropped a fixed point or `progress` ended the search. If `max_n_unique` limits the points, those
    that rows led to come first.

    Outside `jit`, the points that are kept are returned without gaps. Inside, where shapes are
    static, there are as many rows as initial states, or `max_n_unique` if that is given, and the
    points that are kept are the `valid` rows.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x_init: `[n, n_states]` the states to start from.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant inputs.
        solver: see [`optimize_batch`][slowpoints.optimize_batch], also for the next four arguments.
        max_iters: the largest number of iterations of a row.
        tol_q: a `q` that is low enough, or `final_q_threshold` if that is less; rows of most
            solvers go on below it unless told otherwise.
        tol_dq: a row ends when an iteration changes `q` by less than this (Adam: times the learning
            rate).
        cond_id: `[n]` condition numbers, which are passed on to the result.
        tol_unique: points at most this far apart, in the joint `(x, u)` space, count as one.
        within_conditions: whether only points with the same `cond_id` can count as one.
        outlier_distance_scale: drop points farther from the centroid of `x_init` than this many
            times the mean distance of `x_init` from it; `None` keeps all.
        outlier_q_scale: continue the search from points with `q` above this many times the median;
            `None` skips this.
        final_q_threshold: keep points with `q` below this; `None` or 0 keeps all.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        keep_unfinished: whether to keep points at which no row came to an end, since iterations or
            progress ran out while `q` was falling. Those whose `q` is no more than rounding, as on
            a line of fixed points, are kept in any case.
        search_between: whether to search from states between the fixed points that rows led to, as
            said above; with Jacobians, and not inside `jit`.
        compute_jacobians: whether to fill `J_xstar` and `dFdu`.
        decompose_jacobians: whether to fill the eigenvalues, eigenvectors and `is_stable` as well.
        memory_limit: the bytes that the search may take besides its result; by default a quarter of
            the machine's memory.
        rows_at_a_time: search in chunks of this many rows; by default as many as fit.
        progress: called with the rows of each chunk when it is done. If it raises `StopIteration`,
            the search ends there, and both results are about the rows up to the end of that chunk.
        report: called on the host every few iterations.
        mesh: divide the rows among the devices of this mesh. `"local"` means all of this process's
            devices if there is more than one, and `None` the default device. Inside `jit`, the
            default means `None`.
        across_processes: whether all processes of a job of `jax.distributed` make this call
            together, each with states of its own; not inside `jit`. The distinct points are then
            those of all processes together, the same in each process, while the second result
            holds only the rows of this process. If one of them raises an error, all of them do.

    Returns:
        The distinct points, with the number of rows at each in `hits`, and all `n` rows of the
        search in the order of `x_init`. `status` says for each row how its search ended, and
        [`account`][slowpoints.account] what was dropped.

    Raises:
        ValueError: if an argument has the wrong shape or range, or an input is not finite, or the
            model does not map states to states.
        TypeError: if an argument is of the wrong kind.

    With `across_processes`, the process that refuses its input raises one of these errors, and the
    others a `ValueError` that says which process it was, and why. An argument that has to be the
    same everywhere, such as the model or a tolerance, and is not, is a `ValueError` in all.

    Warns:
        UserWarning: if rows that ended at fixed points are dropped for their distance or their
            `q`; if many rows that ended at slow points or unfinished are; or if no point is kept.
            The warning says why, and which setting keeps them. There are no warnings inside `jit`.
    """
    together = partial(refused_together, CALLER, searches_together(CALLER, across_processes))
    with together():
        F = as_transition(F)
        numbers = check_search(
            CALLER, solver, max_iters, tol_q, tol_dq, memory_limit, rows_at_a_time
        )
        selection = Selection(
            tol_unique, outlier_distance_scale, outlier_q_scale, final_q_threshold, max_n_unique
        )
        selection = Selection(*check_selection(CALLER, **selection._asdict()))
        stages = Stages(search_between, compute_jacobians, decompose_jacobians, across_processes)
        check_flags(within_conditions, keep_unfinished, stages)
        arguments.function(CALLER, "progress", progress)
        arguments.function(CALLER, "report", report)
        arguments.devices(CALLER, mesh)
        # Whatever the solver, points are verified by Newton's method in the end.
        start = Start(*check_rows(CALLER, F, x_init, inputs, cond_id, forward_mode=True))
        check_conditions(within_conditions, start.cond_id)
        settings = settings_of(solver, numbers, selection, within_conditions, keep_unfinished)
        check_stages(stages, start.is_traced)
        mesh = devices_of(mesh, start.is_traced)
        texts = what_must_agree(start, settings) if across_processes else {}
    if across_processes:
        check_agreement(CALLER, **texts)
    with together():
        all_fps, stopped = _search_rows(start, settings, mesh, progress, report, across_processes)
    return _keep_and_linearise(start, settings, stages, all_fps, stopped), all_fps


# ---- the stages ----------------------------------------------------------------------------------


def _search_rows(
    start: Start,
    settings: Settings,
    mesh: Mesh | None,
    progress: Callable[[FixedPoints], None] | None,
    report: Report | None,
    across_processes: bool,
) -> tuple[FixedPoints, bool]:
    """Search from all rows; return what they ended at, and whether `progress` ended the search."""
    stopped = False

    def watched(rows: FixedPoints) -> None:
        nonlocal stopped
        try:
            progress(rows)  # pyright: ignore[reportOptionalCall]
        except StopIteration:
            stopped = not across_processes  # or processes would differ in what they search for
            raise

    all_fps = optimize_batch(
        start.F,
        start.x_init,
        start.inputs,
        cond_id=start.cond_id,
        progress=None if progress is None else watched,
        report=report,
        mesh=mesh,
        **settings.limits,
        **settings.search,
    )
    all_fps = all_fps.replace(tol_unique=settings.tol_unique)
    if mesh is not None and not start.is_traced:
        # What is left is little. Condition numbers may be of a type that no device holds.
        numbers = all_fps.replace(cond_id=None)
        all_fps = jax.device_put(numbers, mesh.devices.flat[0]).replace(cond_id=all_fps.cond_id)
    if across_processes:
        jax.block_until_ready(all_fps)  # an error of the search is raised here, if not before
    return all_fps, stopped


def _keep_and_linearise(
    start: Start, settings: Settings, stages: Stages, all_fps: FixedPoints, stopped: bool
) -> FixedPoints:
    """Go from the rows of a search to the points that are returned, stage by stage."""
    F = start.F
    fps, starts = _distinct(all_fps, settings, stages.across_processes)
    n_exact, n_rows = 0, 0
    if stages.search_between:
        n_exact, n_rows = _n_fixed_points(fps), int(np.asarray(fps.hits).sum())
    fps = select(F, fps, starts, **settings.rules, **settings.search)
    if not start.is_traced:
        _warn_of_dropped(F, fps, all_fps, settings)
    if stages.compute_jacobians:
        fps = jacobians(F, fps)
        # If a rule has dropped a fixed point, the signs of the others tell nothing.
        if stages.search_between and not stopped and n_exact == _n_fixed_points(fps):
            fps = _with_points_between(F, fps, starts, n_rows, settings)
        fps = decompose(fps) if stages.decompose_jacobians else fps
    return fps


def _distinct(
    all_fps: FixedPoints, settings: Settings, across_processes: bool
) -> tuple[FixedPoints, Any]:
    """Return one row per point, and where the search started; of all processes, if asked to."""
    within_conditions = settings.rules["within_conditions"]
    if not across_processes:
        fps = unique(all_fps, settings.tol_unique, within_conditions=within_conditions)
        return fps, all_fps.x_init
    fps = unique_across_processes(all_fps, within_conditions=within_conditions)
    starts = spread_across_processes(all_fps.x_init)
    cond_id = fps.cond_id
    fps = jax.tree.map(jnp.asarray, fps.replace(cond_id=None)).replace(cond_id=cond_id)
    return fps, starts


def _warn_of_dropped(
    F: Transition, fps: FixedPoints, all_fps: FixedPoints, settings: Settings
) -> None:
    """Warn if what was dropped calls for a change of the settings."""
    max_iters = int(settings.search["max_iters"])
    told = account(fps, all_fps, max_iters=max_iters, F=F, **settings.rules)
    if told.warning:
        warn(f"{CALLER}: {told.warning}")


def _with_points_between(
    F: Transition, fps: FixedPoints, starts: Any, n_rows: int, settings: Settings
) -> FixedPoints:
    """Search for fixed points between those that are known, and keep the best of all."""
    # How many points are kept is decided when all are known.
    kept = settings.rules | {"outlier_q_scale": None, "max_n_unique": np.inf}
    how = settings.search | settings.limits
    fps = search_between_points(F, fps, starts, n_rows, rules=kept, search=how)
    return at_most(fps, settings.rules["max_n_unique"])


def _n_fixed_points(fps: FixedPoints) -> int:
    exact = np.asarray(fps.status) == Status.FIXED_POINT
    return int(np.sum(exact if fps.valid is None else exact & np.asarray(fps.valid)))
