"""`select`: which of the distinct points are kept."""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core import arguments
from slowpoints._core.arrays import with_library
from slowpoints._core.types import Number, RealArray, Scalar
from slowpoints._network.as_transition import as_transition
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._points.traced import traced_for
from slowpoints._points.unique import unique
from slowpoints._search.check_search import check_search
from slowpoints._search.optimize_batch import optimize_batch
from slowpoints._solvers.adam import Adam
from slowpoints._solvers.base import AbstractSolver
from slowpoints._solvers.termination import rounding_floor


class Spread(NamedTuple):
    """Where initial states are, and how far apart."""

    centroid: Float[RealArray, " n_states"]
    distance: Float[RealArray, ""]
    """The mean distance of the states from the centroid."""


def select(
    F: Any,
    fps: FixedPoints,
    x_init: Float[RealArray, "k n_states"] | Spread | None = None,
    *,
    outlier_distance_scale: Number | None = 10.0,
    outlier_q_scale: Number | None = None,
    final_q_threshold: Number | None = 1e-8,
    max_n_unique: Number = np.inf,
    keep_unfinished: bool = True,
    within_conditions: bool = False,
    solver: AbstractSolver | None = None,
    max_iters: int | Int[Array, ""] = 5000,
    tol_q: Scalar = 1e-12,
    tol_dq: Scalar = 1e-20,
) -> FixedPoints:
    """Keep the distinct points that a search is meant to find, by rules that can be switched off.

    The rules are, in this order: drop points far from the initial states; continue the search from
    points with an outlying `q`, and merge equal points again; drop points with a high `q`; if asked
    to, drop those at which no row came to an end; keep the best. [`account`][slowpoints.account]
    says for each row whether its point was kept, and if not, why.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: points with `xstar`, `inputs` and `qstar`. Only those that `unique` marked as `valid`
            count.
        x_init: `[k, n_states]` the states that the search started from, or their `Spread` if
            several processes hold them. By default, the initial states of all rows of `fps`, valid
            or not; so pass them if rows were dropped from `fps` before.
        outlier_distance_scale: drop points farther from the centroid of `x_init` than this many
            times the mean distance of `x_init` from it; `None` keeps all.
        outlier_q_scale: continue the search from points with `q` above this many times the median;
            `None` skips this. Jacobians and what follows from them are dropped, because points may
            move.
        final_q_threshold: keep points with `q` below this; `None` or 0 keeps all.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        keep_unfinished: whether to keep points at which no row came to an end, since iterations or
            progress ran out while `q` was falling. Those whose `q` is no more than rounding, as on
            a line of fixed points, are kept in any case.
        within_conditions: whether only points with the same `cond_id` can count as one.
        solver: how to continue the search: see [`optimize_batch`][slowpoints.optimize_batch], also
            for the next three arguments. None of these is used without `outlier_q_scale`.
        max_iters: the largest number of further iterations of a row.
        tol_q: a `q` that is low enough, or `final_q_threshold` if that is less.
        tol_dq: a row ends when `q` changes by less than this.

    Returns:
        The points that are kept, without gaps. Inside `jit`, where shapes are static, there are as
        many rows as before, or `max_n_unique` rows with the best first, and the points that are
        kept are the `valid` ones.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a field that is needed is missing, or a setting is out of range.
    """
    caller = "select"
    F = as_transition(F)
    max_iters, tol_q, tol_dq, *_ = check_search(caller, solver, max_iters, tol_q, tol_dq)
    rules = check_selection(
        caller,
        outlier_distance_scale=outlier_distance_scale,
        outlier_q_scale=outlier_q_scale,
        final_q_threshold=final_q_threshold,
        max_n_unique=max_n_unique,
    )
    outlier_distance_scale, outlier_q_scale, final_q_threshold, max_n_unique = rules
    arguments.flag(caller, "keep_unfinished", keep_unfinished)
    arguments.flag(caller, "within_conditions", within_conditions)
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs", "qstar")
    F = traced_for(caller, F, fps)
    given = (F, fps, x_init, *rules[:2], max_iters, tol_q, tol_dq)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))
    if outlier_distance_scale is not None:
        start = _spread_of(caller, fps, x_init)
        fps = _exclude(fps, _is_far(fps.xstar, start, outlier_distance_scale))
    if outlier_q_scale is not None:
        fps = fps if traced else fps.compact()
        search = {
            "solver": solver,
            "max_iters": max_iters,
            "tol_q": ending_tolerance(solver, tol_q, final_q_threshold),
            "tol_dq": tol_dq,
        }
        fps = _search_on(F, fps, outlier_q_scale, search)
        fps = unique(fps, fps.tol_unique, within_conditions=within_conditions)
    if final_q_threshold:
        _, q = with_library(fps.qstar)
        fps = _exclude(fps, ~(q < final_q_threshold))
    if not keep_unfinished and fps.status is not None:
        _, x, q, status = with_library(fps.xstar, fps.qstar, fps.status)
        fps = _exclude(fps, is_on_its_way(x, q, status))
    if traced:
        return _best(fps, int(max_n_unique)) if max_n_unique < fps.n else fps
    return at_most(fps.compact(), max_n_unique)


def at_most(fps: FixedPoints, n: Number) -> FixedPoints:
    """Return the points of the lowest `q`, so many at most, in their order.

    Points that no row led to, but a search between others, come after all that some row led to.
    """
    if n >= fps.n:
        return fps
    is_last = np.zeros(fps.n, bool) if fps.hits is None else np.asarray(fps.hits) == 0
    return fps[np.sort(np.lexsort((np.asarray(fps.qstar), is_last))[: int(n)])]


def spread(x_init: Float[RealArray, "n n_states"]) -> Spread:
    """Return where initial states are, and how far apart."""
    xp, x = with_library(x_init)
    # NumPy adds rows up one after another, and rounds each time.
    wide = {"dtype": np.float64} if xp is np else {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without states, there is no mean
        # Relative to one of them, so that the mean of identical states does not round.
        first = xp.mean(x[:1], axis=0)
        centroid = (first + xp.mean(x - first, axis=0, **wide)).astype(x.dtype)
        typical = xp.mean(xp.linalg.norm(x - centroid, axis=1), **wide)
    return Spread(centroid, typical.astype(x.dtype))


def _spread_of(caller: str, fps: FixedPoints, x_init: Any) -> Spread:
    if isinstance(x_init, Spread):
        return x_init
    if x_init is not None:
        axes = ("k", fps.n_states)
        return spread(arguments.array(caller, "x_init", x_init, axes, floating=True))
    if fps.x_init is None:
        raise ValueError(
            f"{caller}: `x_init` is None, and so is `fps.x_init`; expected the states that the "
            "search started from, or `outlier_distance_scale=None`, which drops no far points."
        )
    return spread(fps.x_init)


def ending_tolerance(
    solver: AbstractSolver | None, tol_q: Scalar, final_q_threshold: Number | None
) -> Scalar:
    """Return the `q` below which rows may end: what is kept has to be below both.

    Rows that end together, as with `Adam(joint=True)`, end at `tol_q` as documented; most of them
    come far below it.
    """
    if not final_q_threshold or (solver is not None and solver.couples_rows):
        return tol_q
    if isinstance(tol_q, Tracer):
        return jnp.minimum(tol_q, final_q_threshold)
    return min(tol_q, final_q_threshold)


def _exclude(fps: FixedPoints, bad: Bool[RealArray, " n"]) -> FixedPoints:
    xp, valid, bad = with_library(fps.valid, bad)
    return fps.replace(valid=~bad if valid is None else xp.asarray(valid, bool) & ~bad)


def _is_far(
    x: Float[RealArray, "n n_states"],
    start: Spread,
    scale: Scalar,
) -> Bool[RealArray, " n"]:
    distance = distance_from(start, x)
    _, distance, typical, scale = with_library(distance, start.distance, scale)
    # Identical initial states have no scale to judge by.
    return (typical > 0) & (distance > scale * typical)


def distance_from(start: Spread, x: Float[RealArray, "n n_states"]) -> Float[RealArray, " n"]:
    """Return how far states are from the centroid of the initial states."""
    xp, x, centroid = with_library(x, start.centroid)
    with np.errstate(all="ignore"):
        return xp.linalg.norm(x - centroid, axis=1)


def is_on_its_way(
    x: Float[RealArray, "n n_states"], q: Float[RealArray, " n"], status: Int[RealArray, " n"]
) -> Bool[RealArray, " n"]:
    """Return which rows ended with a `q` that was not as low as it gets.

    On a line of fixed points, rows are unfinished too, for Newton's steps lead along it. But their
    `q` is no more than rounding there.
    """
    with np.errstate(over="ignore"):
        return (status == Status.UNFINISHED) & (q > rounding_floor(x))


def _search_on(F: Any, fps: FixedPoints, scale: Number, search: dict[str, Any]) -> FixedPoints:
    if fps.n == 0:
        return fps
    valid = jnp.ones(fps.n, bool) if fps.valid is None else fps.valid
    median = jnp.nanmedian(jnp.where(valid, fps.qstar, jnp.nan))
    if isinstance(search["solver"], Adam):
        # As documented, rows that are not searched further have no influence on those that are.
        search = search | {"solver": dataclasses.replace(search["solver"], joint=False)}
    again = optimize_batch(F, fps.xstar, fps.inputs, **search)
    take = valid & (fps.qstar > scale * median) & again.valid & (again.qstar < fps.qstar)

    def merged(name: str) -> Array:
        new, old = getattr(again, name), getattr(fps, name)
        return jnp.where(take.reshape((-1,) + (1,) * (old.ndim - 1)), new, old)

    names = ("xstar", "F_xstar", "qstar", "dq", "status")
    changes = {name: merged(name) for name in names if getattr(fps, name) is not None}
    if fps.n_iters is not None:
        changes["n_iters"] = fps.n_iters + jnp.where(take, again.n_iters, 0)
    # What was computed for the points before they moved is no longer true of them.
    changes |= dict.fromkeys(_OF_ONE_PLACE)
    return fps.replace(**changes, valid=valid)


_OF_ONE_PLACE = (
    "J_xstar",
    "dFdu",
    "eigval_J_xstar",
    "eigvec_J_xstar",
    "is_stable",
    "at_kink",
    "period",
    "cycle_id",
)


def _best(fps: FixedPoints, size: int) -> FixedPoints:
    valid = jnp.ones(fps.n, bool) if fps.valid is None else jnp.asarray(fps.valid)
    fps = fps.replace(valid=valid)
    order = jnp.lexsort((fps.qstar, ~valid))
    return fps[order[:size]]


def check_selection(caller: str, **settings: Any) -> list[Any]:
    """Check the settings that say which points are kept, for all functions that take them.

    Returns:
        The settings in their order, as Python's own types.

    Raises:
        TypeError: if one is of the wrong kind, or one that decides what is compiled is traced.
        ValueError: if one is out of range.
    """
    for name in ("tol_unique", "final_q_threshold", "max_n_unique"):
        if isinstance(settings.get(name), Tracer):
            was, expected = "is traced", "a number that is known before compilation"
            arguments.refuse(caller, name, was, expected, TypeError)
    return [
        arguments.whole(caller, name, value, or_infinite=True)
        if name == "max_n_unique"
        else arguments.number(caller, name, value, or_none=name != "tol_unique")
        for name, value in settings.items()
    ]
