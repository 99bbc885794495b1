"""`optimize_batch`: from a batch of states to the fixed points and slow points they lead to."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import on_cpu, place_of, put, rounded_up
from slowpoints._core.types import RealArray, Scalar
from slowpoints._linear_algebra.cores import (
    one_thread_for_lapack,
    side_by_side,
    usable_cores,
)
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.precision import computes_in_float64
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._search.again_in_other_units import again_in_other_units
from slowpoints._search.check_search import check_rows, check_search
from slowpoints._search.memory import default_memory_limit, rows_within
from slowpoints._search.search_in_one_program import search_in_one_program
from slowpoints._search.search_in_stages import search_in_stages
from slowpoints._search.units_of_states import units_of_states
from slowpoints._solvers.base import AbstractRowSolver, AbstractSolver, Stopping, stages_of
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion
from slowpoints._solvers.report import Report
from slowpoints._valleys.valleys import along_valleys
from slowpoints._valleys.way_back import back_along_curves


def optimize_batch(
    F: Any,
    x_init: Float[RealArray, "n n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    *,
    solver: AbstractSolver | None = None,
    max_iters: int | Int[Array, ""] = 5000,
    tol_q: Scalar = 1e-12,
    tol_dq: Scalar = 1e-20,
    cond_id: Shaped[RealArray, " n"] | None = None,
    memory_limit: int | None = None,
    rows_at_a_time: int | None = None,
    progress: Callable[[FixedPoints], None] | None = None,
    report: Report | None = None,
    mesh: Mesh | None = None,
) -> FixedPoints:
    """Minimise the speed `q(., u)` from each of a batch of states (Sussillo & Barak 2013).

    A pure function, which runs inside `jit`, `vmap` and `pmap`. Rows do not depend on each other,
    except with `Adam(joint=True)`. Fixed points are differentiable, in forward and reverse mode,
    with respect to the leaves of `F` and to `inputs`, by the implicit function theorem:
    `(I - J) dx = dF`. The derivative of rows that did not converge is zero. A row that ended as
    `WITHIN_TOLERANCE` or `UNFINISHED` counts as converged if Newton's method shows that it is close
    to a fixed point: the step there is at most 1% of the state, and the derivative that of the
    fixed point to a few percent, since the next step is less than 1% of the first.

    States may be in any unit. If those of `x_init` are much smaller than 1, or where entries differ
    by a factor of 1,024 or more, all solvers but `Adam` measure lengths and `q` in units of the
    states' own sizes, entry by entry in the second case. Rows that end at no fixed point, but where
    the states are of another size than their starts were, are searched once more in such units (not
    inside `jit`).

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x_init: `[n, n_states]` the states to start from. Their precision is that of the search.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant input of each row.
        solver: the strategy; by default [`KrylovTrustRegion`][slowpoints.KrylovTrustRegion].
        max_iters: the largest number of iterations that a row may take, in all phases of the solver
            together.
        tol_q: a `q` that is low enough. Rows of `Adam`, and of solvers with `polish=False`, end
            when `q` falls below it; with `Adam(joint=True)`, none ends before all have met this or
            `tol_dq`. The default solver and the other Newton-type solvers continue to the last
            digits: their last steps gain the most.
        tol_dq: a row ends when an iteration changes `q` by less than this (Adam: times the learning
            rate).
        cond_id: `[n]` condition numbers, which are passed on to the result.
        memory_limit: the bytes that the search may take besides its result; by default a quarter of
            the machine's memory. More rows than fit are searched in chunks (not inside `jit`).
        rows_at_a_time: search in chunks of this many rows; by default as many as fit.
        progress: called with the rows of each chunk when it is done. If it raises `StopIteration`,
            the search ends there, and the result holds the rows up to the end of that chunk.
        report: called on the host every few iterations.
        mesh: divide the rows among the devices of this mesh, along all its axes. Each device runs a
            loop of its own, so none waits for another's rows.

    Returns:
        Row `i` is what `x_init[i]` led to, whether it converged or not. It has the fields `xstar`,
        `F_xstar`, `x_init`, `inputs`, `qstar`, `dq`, `n_iters`, `cond_id`; `status`, how it ended,
        in the numbers of [`Status`][slowpoints.Status] and judged alike for every solver; and
        `valid`, false for rows that escaped or are not finite. `F_xstar` and `qstar` belong to
        `xstar` as returned.

    Raises:
        ValueError: if a shape is wrong, or the model does not map states to states.
        TypeError: if `F` or `solver` is not of a known kind.
    """
    F = as_transition(F)
    caller = "optimize_batch"
    settings = check_search(caller, solver, max_iters, tol_q, tol_dq, memory_limit, rows_at_a_time)
    max_iters, tol_q, tol_dq, memory_limit, rows_at_a_time = settings
    arguments.function(caller, "progress", progress)
    arguments.function(caller, "report", report)
    arguments.devices(caller, mesh, or_local=False)
    solver = KrylovTrustRegion() if solver is None else solver
    F, x, u, cond_id = check_rows(
        caller, F, x_init, inputs, cond_id, forward_mode=solver.needs_forward_mode
    )
    n, dtype = x.shape[0], x.dtype
    stopping = Stopping(put(max_iters, int), put(tol_q, dtype), put(tol_dq, dtype))
    if solver.couples_rows:
        mesh = None  # rows that depend on each other stay together
    limit = default_memory_limit() if memory_limit is None else memory_limit
    search = _search_for(F, solver, x, u, stopping, limit, report, mesh)
    if search.is_traced or solver.couples_rows or n == 0:
        fps = search.from_rows((x, u)).replace(cond_id=cond_id)
        if progress is not None and not search.is_traced:
            with contextlib.suppress(StopIteration):  # all rows are done
                progress(fps)
        return fps
    division = _divided(search, x, u, rows_at_a_time)
    return _in_chunks(search, x, u, cond_id, division, progress)


# ---- a search of some rows -----------------------------------------------------------------------


class _Search(NamedTuple):
    """All that is known of a search but its rows.

    Attributes:
        unit: the units in which it computes; `None` inside `jit`, where they are found later.
        stages: the stages of the solver, if each of them is a program of its own.
        limit: the bytes that it may take.
    """

    F: Transition
    solver: AbstractSolver
    stopping: Stopping
    unit: Float[RealArray, " n_states"] | None
    stages: tuple[AbstractRowSolver, ...]
    limit: int
    report: Report | None
    mesh: Mesh | None

    @property
    def is_traced(self) -> bool:
        """Whether it is a part of another program."""
        return self.unit is None

    def from_rows(self, rows: tuple[Any, Any]) -> FixedPoints:
        """Search from states and inputs, and look once more where that is called for."""
        F, unit = self.F, self.unit
        x, u = rows
        # What is traced with x64 enabled must also be lowered so. Inside an outer `jit` it is not,
        # which matters only for operations with an integer result, such as `argmax`.
        wide = computes_in_float64(F)
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            found = self._once(x, u, unit)
            if unit is not None and self.solver.rescales:
                found = again_in_other_units(self._once, F, x, u, unit, found)
            if unit is not None:
                found = back_along_curves(F, x, u, unit, found)
            if unit is not None and self.solver.follows_valleys:
                on = partial(self._on, unit, x)
                found = along_valleys(on, F, x, u, unit, self.stopping, found)
        fps = FixedPoints(x_init=x, inputs=u, dtype=x.dtype)
        return fps.replace(**found, continuous_time=isinstance(F, ContinuousTime))

    def _on(self, unit: RealArray, all_x: Array, x: Any, u: Any, max_iters: int) -> dict[str, Any]:
        """Search on from some states, on the host, with the programs of the search of all."""
        n, given = len(x), self.stopping
        # Of the same type, whatever that of whole numbers is by now: else, all is compiled again.
        stopping = given._replace(max_iters=put(max_iters, given.max_iters.dtype))
        rows = np.resize(np.arange(n), n if self.stages else len(all_x))
        x, u = jax.device_put((x[rows], u[rows]), place_of(all_x))
        found = jax.device_get(self._replace(stopping=stopping)._once(x, u, unit))
        return {name: value[:n] for name, value in found.items()}

    def _once(self, x: Array, u: Array, unit: RealArray | None) -> dict[str, Array]:
        F, solver, stopping, report = self.F, self.solver, self.stopping, self.report
        if unit is not None and self.stages:
            stages, limit = self.stages, self.limit
            return search_in_stages(stages, limit, F, solver, x, u, unit, stopping, report)
        return search_in_one_program(F, solver, x, u, unit, stopping, report, self.mesh)


def _search_for(
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    stopping: Stopping,
    limit: int,
    report: Report | None,
    mesh: Mesh | None,
) -> _Search:
    """Return the search that is to start from these rows."""
    n, n_states = x_init.shape
    traced = any(isinstance(a, Tracer) for a in jax.tree.leaves((F, x_init, inputs, stopping)))
    # Inside a `vmap`, where rows of several searches become those of one, it is found there.
    unit = None if traced else units_of_states(F, x_init, inputs)
    on_one_device = not traced and mesh is None and len(x_init.devices()) == 1
    stages = stages_of(solver, n_states) if n > 0 and on_one_device else ()
    return _Search(F, solver, stopping, unit, stages, limit, report, mesh)


# ---- many rows -----------------------------------------------------------------------------------

_MOST_ROWS = 2**14
"""The most rows of one part, on each core or device: callers are told of rows part by part."""

_LEAST_ROWS, _LEAST_ENTRIES = 32, 2**12
"""The fewest rows, and the fewest entries of their states, that are worth a thread of their own."""


class _Division(NamedTuple):
    """How many rows a chunk has, how many a part of it, and how many parts run side by side."""

    chunk: int
    size: int
    n_cores: int


def _divided(
    search: _Search,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    rows_at_a_time: int | None,
) -> _Division:
    """Return how rows are divided: as memory allows, and among all cores that are of use."""
    (n, n_states), solver, mesh = x_init.shape, search.solver, search.mesh
    # Parts with at least as many rows as lanes compute the same, whatever their number.
    least = max(
        getattr(solver, "lanes", None) or 1, _LEAST_ROWS, _LEAST_ENTRIES // max(1, n_states)
    )
    n_cores = 1
    if solver.may_run_side_by_side and mesh is None and search.report is None and n >= 2 * least:
        n_cores = usable_cores(search.F, x_init)
    sizes = (2 * n, n_states, inputs.shape[1])
    rows, n_cores = rows_within(search.limit, solver, *sizes, n_searches=n_cores, least=least)
    in_parallel = n_cores if mesh is None else mesh.size
    chunk = min(rows, rows_at_a_time or _MOST_ROWS * in_parallel, n)
    if rows_at_a_time is None:
        chunk = -(-n // -(-n // chunk))  # as many, but all of about one size
    n_cores = max(1, min(n_cores, chunk // least))
    size = -(-chunk // n_cores)
    if not search.stages and mesh is None and len(x_init.devices()) == 1:
        size = min(rounded_up(size), rows // n_cores)
        chunk = min(chunk, size * n_cores)
    return _Division(chunk, size, n_cores)


def _in_chunks(
    search: _Search,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    cond_id: Shaped[RealArray, " n"] | None,
    division: _Division,
    progress: Callable[[FixedPoints], None] | None,
) -> FixedPoints:
    """Search chunk by chunk, until all rows are done or `progress` ends it."""
    n = x_init.shape[0]
    chunk, size, n_cores = division
    chunks, n_done = [], 0
    with one_thread_for_lapack() if on_cpu(x_init) else contextlib.nullcontext():
        for start in range(0, n, chunk):
            end = min(start + chunk, n)
            given = _parts(x_init, inputs, start, end, size)
            parts = side_by_side(search.from_rows, given, n_cores)
            labels = cond_id if cond_id is None else cond_id[start:end]
            chunks.append(_joined(parts, end - start).replace(cond_id=labels))
            n_done = end
            if progress is None:
                continue
            try:
                progress(chunks[-1])
            except StopIteration:
                break
    labels = cond_id if cond_id is None else cond_id[:n_done]
    return _joined(chunks, n_done).replace(cond_id=labels)


def _parts(x: Array, u: Array, start: int, end: int, size: int) -> list[tuple[Any, Any]]:
    """Return the rows from `start` to `end` in parts of `size`.

    The last row fills up the last part, so that all compile to the same program.
    """
    if start == 0 and end == size == x.shape[0]:
        return [(x, u)]
    rows = [np.minimum(np.arange(i, i + size), end - 1) for i in range(start, end, size)]
    if len(x.devices()) > 1:
        return [(x[here], u[here]) for here in rows]
    # With NumPy, which need not compile anything for another number of rows.
    on_host = np.asarray(x), np.asarray(u)
    return [jax.device_put(tuple(a[here] for a in on_host), place_of(x)) for here in rows]


def _joined(parts: list[FixedPoints], n: int) -> FixedPoints:
    """Return the first `n` rows of all parts."""
    if len(parts) == 1 and parts[0].n == n:
        return parts[0]
    if len(parts[0].xstar.devices()) > 1:
        return FixedPoints.concatenate(parts)[:n]
    parts = [part.replace(cond_id=None) for part in parts]
    fps = FixedPoints.concatenate([part.to_numpy() for part in parts])[:n]
    return jax.device_put(fps, place_of(parts[0].xstar))
