"""`search_until`: rounds of search, until there is nothing left to find or the budget ends."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, PRNGKeyArray

from slowpoints._completeness.kinds_of_start import KINDS, Known
from slowpoints._completeness.rows_in_vain import Vain
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.types import Number, RealArray, Scalar
from slowpoints._linear_algebra.signs import signs_of
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.trace import traced
from slowpoints._pipeline.select import check_selection, ending_tolerance, select
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.neighbours import nearest
from slowpoints._points.status import Status
from slowpoints._points.unique import unique
from slowpoints._search.check_search import check_search
from slowpoints._search.optimize_batch import optimize_batch
from slowpoints._search.sample import check_draw, check_trajectories, sample_states
from slowpoints._solvers.base import AbstractSolver

_EVEN = 0.5
"""This part of a round's rows is divided evenly among the kinds of start, so that each goes on
being tried; the rest goes to those that found points lately."""

_LEAST_COMPILED = 16
"""Jacobians of so few points take less time than a program for still fewer takes to compile."""

_MEMORY = 0.7
"""What a kind of start found counts this much less after each round."""


@dataclasses.dataclass(frozen=True)
class Rounds:
    """How a search in rounds went: see [`search_until`][slowpoints.search_until].

    Attributes:
        ended_by: `"coverage and degree"`; `"coverage"`, if no degree was asked for or it is not
            known; `"max_rows"` if the budget ended first; or `"progress"` if that function ended
            the search.
        n_rows: how many rows were searched.
        coverage: with a confidence of 95 %, at least this share of further starts, drawn like those
            of the last rounds, would find nothing new: they would lead to points that are known, or
            to none. The confidence is that of the whole search, however often it looked whether it
            may end.
        degree: the sum of the signs of `det(I - J)` at the fixed points, see
            [`degree`][slowpoints.degree]; `None` if some point's sign is not known.
        found: for each kind of start, how many rows had it, and how many points these found that
            were not known.
    """

    ended_by: str
    n_rows: int
    coverage: float
    degree: int | None
    found: dict[str, tuple[int, int]]

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {new} in {rows}" for name, (rows, new) in self.found.items())
        signs = "is not known" if self.degree is None else f"is {self.degree}"
        return (
            f"Ended by {self.ended_by} after {self.n_rows} starts. At least {self.coverage:.1%} of "
            f"further starts would find nothing new (95 % sure); the sum of signs {signs}. New "
            f"points by the kind of start: {kinds}."
        )


def search_until(
    F: Any,
    state_traj: Float[RealArray, "trials time n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "1 n_inputs"],
    *,
    coverage: Number = 0.99,
    degree: int | None = 1,
    max_rows: int = 2**14,
    key: PRNGKeyArray | int,
    noise_scale: Number = 0.0,
    valid_bxt: Bool[RealArray, "trials time"] | None = None,
    rows_at_a_time: int = 128,
    solver: AbstractSolver | None = None,
    max_iters: int = 5000,
    tol_q: Scalar = 1e-12,
    tol_dq: Scalar = 1e-20,
    tol_unique: Number = 1e-3,
    outlier_distance_scale: Number | None = None,
    outlier_q_scale: Number | None = None,
    final_q_threshold: Number | None = 1e-8,
    max_n_unique: Number = np.inf,
    keep_unfinished: bool = True,
    compute_jacobians: bool = True,
    decompose_jacobians: bool = True,
    progress: Callable[[FixedPoints], None] | None = None,
) -> tuple[FixedPoints, FixedPoints, Rounds]:
    """Search in rounds until enough of the points are known, or the budget runs out.

    The first round starts from states of the trajectories, as
    [`sample_states`][slowpoints.sample_states] draws them. Later rounds also start from such states
    with wider noise; between points that are known, and at the fourth corner of parallelograms of
    three; on the way from a saddle along its unstable directions; and anywhere in the box of all
    that was seen. Kinds of start that find new points get more of the rows.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        state_traj: `[trials, time, n_states]` states that the network visits.
        inputs: `[n_inputs]` or `[1, n_inputs]` the constant input.
        coverage: continue until, with a confidence of 95 %, at least this share of starts would
            find nothing new, be it points that are known or none: a number from 0 to below 1. 0.99
            takes 368 rows in a row that find nothing; more, if rounds after the first one have
            found points: 784 after ten of them.
        degree: continue until the signs of `det(I - J)` sum to this number, which is 1 for the
            complete set of a network with bounded states; see [`degree`][slowpoints.degree]. `None`
            for networks for which it is not known. If some sign cannot be told, as on a line of
            fixed points, coverage alone decides.
        max_rows: search from no more states than this.
        key: a JAX random key, or a whole number as its seed.
        noise_scale: standard deviation of the noise that is added to states of the first round.
        valid_bxt: `[trials, time]` which states may be drawn.
        rows_at_a_time: the rows of a round.
        solver: see [`find_fixed_points`][slowpoints.find_fixed_points], also for the following
            arguments.
        max_iters: the largest number of iterations of a row.
        tol_q: a `q` that is low enough.
        tol_dq: a row ends when an iteration changes `q` by less than this.
        tol_unique: points at most this far apart count as one.
        outlier_distance_scale: drop points far from where rows started; by default none, as every
            fixed point counts for `degree`.
        outlier_q_scale: continue the search from points with an outlying `q`.
        final_q_threshold: keep points with `q` below this.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        keep_unfinished: whether to keep points at which no row came to an end, since iterations or
            progress ran out while `q` was falling. Those whose `q` is no more than rounding, as on
            a line of fixed points, are kept in any case.
        compute_jacobians: whether to fill `J_xstar` and `dFdu`.
        decompose_jacobians: whether to fill the eigenvalues, eigenvectors and `is_stable` as well.
        progress: called with the rows of each round when it is done. If it raises `StopIteration`,
            the search ends there.

    Returns:
        The distinct points, with `hits`; all rows of all rounds; and how the search went.

    Raises:
        ValueError: if an argument has the wrong shape or range, or the model does not map states to
            states.
        TypeError: if an argument is of the wrong kind, or traced.
    """
    caller = "search_until"
    F = _not_traced(caller, F, state_traj, inputs)
    end = _checked_end(caller, coverage, degree, max_rows)
    size = min(arguments.whole(caller, "rows_at_a_time", rows_at_a_time, least=1), end.max_rows)
    check_draw(caller, size, noise_scale)
    max_iters, tol_q, tol_dq, *_ = check_search(caller, solver, max_iters, tol_q, tol_dq)
    rules = {
        "outlier_distance_scale": outlier_distance_scale,
        "outlier_q_scale": outlier_q_scale,
        "final_q_threshold": final_q_threshold,
        "max_n_unique": max_n_unique,
    }
    tol_unique, *checked = check_selection(caller, tol_unique=tol_unique, **rules)
    rules = dict(zip(rules, checked, strict=True))
    rules["keep_unfinished"] = arguments.flag(caller, "keep_unfinished", keep_unfinished)
    arguments.flag(caller, "compute_jacobians", compute_jacobians)
    arguments.flag(caller, "decompose_jacobians", decompose_jacobians)
    arguments.function(caller, "progress", progress)
    F, state_traj, valid_bxt, u = _checked_network(caller, F, state_traj, valid_bxt, inputs)
    key = arguments.random_key(caller, key)
    tol_q = ending_tolerance(solver, tol_q, final_q_threshold)
    search = {"solver": solver, "max_iters": max_iters, "tol_q": tol_q, "tol_dq": tol_dq}

    def searched(starts: Any) -> FixedPoints:
        return optimize_batch(F, starts, u, **search).to_numpy().replace(tol_unique=tol_unique)

    starts = np.asarray(sample_states(key, state_traj, size, noise_scale, valid_bxt))
    rounds = _Search(F, _visited(state_traj, valid_bxt), key, float(tol_unique))
    all_fps, ended_by = _in_rounds(rounds, starts, searched, end, progress)
    fps = select(F, unique(all_fps, tol_unique), all_fps.x_init, **rules, **search)
    if compute_jacobians:
        fps = jacobians(F, fps)
        fps = decompose(fps) if decompose_jacobians else fps
    return fps, all_fps, rounds.told(ended_by, all_fps.n)


# ---- checks --------------------------------------------------------------------------------------


def _not_traced(caller: str, F: Any, state_traj: Any, inputs: Any) -> Transition:
    """Return the transition, after a check that nothing is traced."""
    F = as_transition(F)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, state_traj, inputs))):
        expected = "to be called outside of `jit`"
        arguments.refuse(caller, "state_traj", "is traced", expected, TypeError)
    return F


def _checked_end(caller: str, coverage: Any, degree: Any, max_rows: Any) -> "_End":
    coverage = arguments.number(caller, "coverage", coverage, finite=True)
    if coverage >= 1:
        expected = "a number below 1, since no search is sure to have seen everything"
        arguments.refuse(caller, "coverage", f"is {coverage}", expected, ValueError)
    if degree is not None and (
        isinstance(degree, bool) or not isinstance(degree, (int, np.integer))
    ):
        expected = "a whole number, or None"
        arguments.refuse(caller, "degree", arguments.found(degree), expected, TypeError)
    return _End(coverage, degree, arguments.whole(caller, "max_rows", max_rows, least=1))


def _checked_network(
    caller: str, F: Transition, state_traj: Any, valid_bxt: Any, inputs: Any
) -> tuple[Transition, Any, Any, Any]:
    """Return the network, traced, with the states, which of them count, and the input."""
    state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt, floating=True)
    dtype = jax.dtypes.canonicalize_dtype(state_traj.dtype)
    u = arguments.inputs_of_rows(caller, inputs, 1, "search", dtype)
    F = traced(caller, F, state_traj.shape[2], u.shape[1], dtype, states="state_traj")
    return F, jnp.asarray(state_traj, dtype), valid_bxt, u


# ---- rounds --------------------------------------------------------------------------------------


class _End(NamedTuple):
    """When a search ends."""

    coverage: float
    degree: Any
    max_rows: int

    def reached(self, rounds: "_Search", n_rows: int, is_stopped: bool) -> str | None:
        """Return by what a search ends after so many rows, or `None` if it goes on."""
        sums = rounds.sum_of_signs()
        by_degree = self.degree is not None and sums is not None
        if rounds.coverage() >= self.coverage and (not by_degree or sums == self.degree):
            return "coverage and degree" if by_degree else "coverage"
        if is_stopped:
            return "progress"
        return "max_rows" if n_rows == self.max_rows else None


def _in_rounds(
    rounds: "_Search",
    starts: Float[np.ndarray, "size n_states"],
    searched: Callable[[Any], FixedPoints],
    end: _End,
    progress: Callable[[FixedPoints], None] | None,
) -> tuple[FixedPoints, str]:
    """Search round after round, from these starts at first; return all rows, and what ended it."""
    size, kinds = len(starts), ["trajectories"] * len(starts)
    parts: list[FixedPoints] = []
    while True:
        part = searched(starts)
        parts.append(part)
        is_stopped = _is_stopped(progress, part)
        rounds.learn(part, kinds)
        n_rows = sum(part.n for part in parts)
        ended_by = end.reached(rounds, n_rows, is_stopped)
        if ended_by is not None:
            return FixedPoints.concatenate(parts), ended_by
        starts, kinds = rounds.starts(min(size, end.max_rows - n_rows))


def _is_stopped(progress: Callable[[FixedPoints], None] | None, part: FixedPoints) -> bool:
    """Show the rows of a round to `progress`, and return whether this ends the search."""
    if progress is None:
        return False
    try:
        progress(part)
    except StopIteration:
        return True
    return False


def _visited(state_traj: Any, valid_bxt: Any) -> Float[np.ndarray, "k n_states"]:
    visited = np.asarray(state_traj).reshape(-1, state_traj.shape[-1])
    if valid_bxt is not None:
        visited = visited[np.asarray(valid_bxt).reshape(-1)]
    return visited[np.isfinite(visited).all(axis=1)]


class _Search:
    """What is known after some rounds, and the starts of the next one."""

    def __init__(self, F: Any, visited: Float[np.ndarray, "k n_states"], key: Any, tol: float):
        self._F, self._tol = F, tol
        self._rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        none = np.zeros((0, visited.shape[1]), visited.dtype)
        self._known = Known(visited, none, none, none)
        self._signs = np.zeros(0, int)
        self._n_rows, self._n_new = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        self._score = dict.fromkeys(KINDS, 0.0)
        self._vain: Vain | None = None

    # ---- starts --------------------------------------------------------------------------------

    def starts(self, size: int) -> tuple[Float[np.ndarray, "size n_states"], list[str]]:
        """Return states to start from, and the kind of each."""
        known = self._known
        able = [
            kind
            for kind in KINDS
            if not (kind == "between points" and len(known.points) < 2)
            and not (kind == "parallelograms" and len(known.points) < 3)
            and not (kind == "out of saddles" and len(known.origins) == 0)
        ]
        score = np.array([self._score[kind] for kind in able])
        share = np.full(len(able), 1 / len(able))
        if score.any():
            share = _EVEN * share + (1 - _EVEN) * score / score.sum()
        counts = self._rng.multinomial(size, share).tolist()
        drawn = [KINDS[kind](self._rng, known, n) for kind, n in zip(able, counts, strict=True)]
        kinds = [kind for kind, n in zip(able, counts, strict=True) for _ in range(n)]
        return np.concatenate(drawn).astype(known.visited.dtype), kinds

    # ---- what was found ------------------------------------------------------------------------

    def learn(self, part: FixedPoints, kinds: list[str]) -> None:
        """Take in the rows of a round."""
        is_new = self._is_new(part)
        # All rows are passed on, so that the same program is run in each round.
        finders = np.flatnonzero(unique(part.replace(valid=is_new), self._tol).valid)
        for kind in KINDS:
            self._n_rows[kind] += kinds.count(kind)
            new = sum(kinds[row] == kind for row in finders)
            self._n_new[kind] += new
            self._score[kind] = _MEMORY * self._score[kind] + new
        if finders.size:
            self._add(part[finders])
        # The first round, which is drawn in a way of its own, is no evidence about the later ones.
        self._vain = Vain() if self._vain is None else self._vain.after(part.n, bool(finders.size))

    def _is_new(self, part: FixedPoints) -> Bool[np.ndarray, " n"]:
        is_new = np.asarray(part.status) == Status.FIXED_POINT
        rows, points = np.flatnonzero(is_new), self._known.points
        labels = np.zeros(len(rows)), np.zeros(len(points))
        place, _ = nearest([part.xstar[rows]], [points], self._tol, labels)
        is_new[rows] = place < 0
        return is_new

    def _add(self, new: FixedPoints) -> None:
        # A power of two of rows, and not the smallest ones, so that few sizes are compiled.
        size = max(_LEAST_COMPILED, power_of_two(new.n))
        filled = new[np.arange(size) % new.n].replace(valid=None)
        fps = decompose(jacobians(self._F, filled)).to_numpy()[: new.n]
        self._signs = np.concatenate([self._signs, signs_of(fps)])
        values = fps.eigval_J_xstar
        row, direction = np.nonzero(values.real > 0 if fps.continuous_time else np.abs(values) > 1)
        vectors = fps.eigvec_J_xstar[row, :, direction].real
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        known = self._known
        self._known = known._replace(
            points=np.concatenate([known.points, fps.xstar]),
            origins=np.concatenate([known.origins, fps.xstar[row]]),
            directions=np.concatenate([known.directions, vectors / np.maximum(length, 1e-30)]),
        )

    def coverage(self) -> float:
        """Return a lower bound of the share of starts that would find nothing new."""
        return 0.0 if self._vain is None else self._vain.coverage()

    def sum_of_signs(self) -> int | None:
        """Return the sum of the signs of `det(I - J)`; `None` if one of them is not known."""
        return int(self._signs.sum()) if self._signs.all() else None

    def told(self, ended_by: str, n_rows: int) -> Rounds:
        """Return how the search went."""
        found = {kind: (self._n_rows[kind], self._n_new[kind]) for kind in KINDS}
        return Rounds(ended_by, n_rows, self.coverage(), self.sum_of_signs(), found)
