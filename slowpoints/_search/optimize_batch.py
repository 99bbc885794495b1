"""`optimize_batch`: from a batch of states to the fixed points and slow points they lead to."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import (
    beside,
    first_rows,
    place_of,
    put,
    rounded_up,
    rows_of,
    with_library,
)
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray, Scalar
from slowpoints._linear_algebra.cores import (
    on_cpu,
    one_thread_for_lapack,
    side_by_side,
    usable_cores,
)
from slowpoints._linear_algebra.loops import one_after_another
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.precision import Rounded, computes_in_float64, with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trace import traced
from slowpoints._network.trapping import is_outside
from slowpoints._network.units import InUnits, balanced_units, units_of_states
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._search.implicit import differentiable
from slowpoints._search.memory import default_memory_limit, rows_within
from slowpoints._search.verdict import Rows, Seen, judge, judge_on_host, seen_at_first
from slowpoints._search.way_back import came_along_a_curve
from slowpoints._solvers.base import (
    AbstractRowSolver,
    AbstractSolver,
    Found,
    Report,
    Stopping,
    concerned,
    stages_of,
)
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion
from slowpoints._solvers.termination import JUDGED_DENSELY, NEWTON_TOLERANCE


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
    F, x_init, inputs, cond_id = check_rows(
        caller, F, x_init, inputs, cond_id, forward_mode=solver.needs_forward_mode
    )
    n, n_states = x_init.shape
    dtype = x_init.dtype
    stopping = Stopping(put(max_iters, int), put(tol_q, dtype), put(tol_dq, dtype))

    if solver.couples_rows:
        mesh = None  # rows that depend on each other stay together

    # What is traced with x64 enabled must also be lowered so. Inside an outer `jit` it is not,
    # which matters only for operations with an integer result, such as `argmax`.
    wide = computes_in_float64(F)
    traced = any(isinstance(a, Tracer) for a in jax.tree.leaves((F, x_init, inputs, stopping)))
    # Inside a `vmap`, where rows of several searches become those of one, it is found there.
    unit = None if traced else units_of_states(F, x_init, inputs)

    on_one_device = not traced and mesh is None and len(x_init.devices()) == 1
    stages = stages_of(solver, n_states) if n > 0 and on_one_device else ()
    limit = default_memory_limit() if memory_limit is None else memory_limit
    run: Any = partial(_search_in_stages, stages, limit) if stages else _search

    def search(rows: tuple[Any, Any]) -> FixedPoints:
        x, u = rows
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            found = run(F, solver, x, u, unit, stopping, report, mesh)
            if unit is not None and solver.rescales:
                found = _again_in_other_units(
                    run, F, solver, x, u, unit, stopping, report, mesh, found
                )
            if unit is not None:
                found = _back_along_curves(F, x, u, unit, found)
        fps = FixedPoints(x_init=x, inputs=u, dtype=dtype)
        return fps.replace(**found, continuous_time=isinstance(F, ContinuousTime))

    if traced or solver.couples_rows or n == 0:
        fps = search((x_init, inputs)).replace(cond_id=cond_id)
        if progress is not None and not traced:
            with contextlib.suppress(StopIteration):  # all rows are done
                progress(fps)
        return fps
    # Parts with at least as many rows as lanes compute the same, whatever their number.
    least = max(
        getattr(solver, "lanes", None) or 1, _LEAST_ROWS, _LEAST_ENTRIES // max(1, n_states)
    )
    n_cores = 1
    if solver.may_run_side_by_side and mesh is None and report is None and n >= 2 * least:
        n_cores = usable_cores(F, x_init)
    sizes = (2 * n, n_states, inputs.shape[1])
    rows, n_cores = rows_within(limit, solver, *sizes, n_searches=n_cores, least=least)
    in_parallel = n_cores if mesh is None else mesh.size
    chunk = min(rows, rows_at_a_time or _MOST_ROWS * in_parallel, n)
    if rows_at_a_time is None:
        chunk = -(-n // -(-n // chunk))  # as many, but all of about one size
    n_cores = max(1, min(n_cores, chunk // least))
    size = -(-chunk // n_cores)
    if not stages and mesh is None and len(x_init.devices()) == 1:
        size = min(rounded_up(size), rows // n_cores)
        chunk = min(chunk, size * n_cores)
    chunks, n_done = [], 0
    with one_thread_for_lapack() if on_cpu(x_init) else contextlib.nullcontext():
        for start in range(0, n, chunk):
            end = min(start + chunk, n)
            parts = side_by_side(search, _parts(x_init, inputs, start, end, size), n_cores)
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


_MOST_ROWS = 2**14
"""The most rows of one part, on each core or device: callers are told of rows part by part."""

_LEAST_ROWS, _LEAST_ENTRIES = 32, 2**12
"""The fewest rows, and the fewest entries of their states, that are worth a thread of their own."""


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


@eqx.filter_jit
def _search(
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"] | None,
    stopping: Stopping,
    report: Report | None,
    mesh: Mesh | None,
) -> dict[str, Array]:
    parameters, structure = eqx.partition(F, eqx.is_array)

    @jax.custom_batching.custom_vmap
    def search(
        parameters: Any, x_init: Array, inputs: Array, given: Array | None, stopping: Stopping
    ) -> Any:
        F = eqx.combine(parameters, structure)
        wide = computes_in_float64(F)
        # Here as well, because a batch is traced when the outer context has already been left.
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            unit = jnp.asarray(units_of_states(F, x_init, inputs) if given is None else given)
            network, y_init, in_unit = _in_own_units(F, solver, x_init, unit, stopping)
            network, y_init, u = _as_refined(solver, network, y_init, inputs)
            found = solver.run(network, y_init, u, in_unit, report)
            y, dq = _in_usual_precision(solver, found, unit, x_init.dtype)
            _, rows = _rows(F, y, found, x_init, inputs, unit, stopping)
            forward = solver.needs_forward_mode
            status = judge(InUnits(F, unit), rows, forward_mode=forward)
            return unit * y, dq, found.n_iters.astype(np.int32), status

    @search.def_vmap
    def batched_search(axis_size: int, in_batched: Any, *arguments: Any) -> Any:
        # If the model and the settings are the same, a batch of searches becomes one search of more
        # rows, which share the lanes. Otherwise, the searches run one after another: side by side,
        # each would take as long as the slowest.
        parameters_b, x_b, u_b, unit_b, stopping_b = in_batched
        shared = not any(jax.tree.leaves((parameters_b, unit_b, stopping_b)))
        if shared and not solver.couples_rows:
            parameters, x, u, unit, stopping = arguments
            x, u = (
                (a if is_b else jnp.broadcast_to(a, (axis_size, *a.shape))).reshape(-1, a.shape[-1])
                for a, is_b in ((x, x_b), (u, u_b))
            )
            out = search(parameters, x, u, unit, stopping)
            out = jax.tree.map(lambda a: a.reshape(axis_size, -1, *a.shape[1:]), out)
        else:
            out = one_after_another(search, in_batched, arguments)
        return out, jax.tree.map(lambda _: True, out)

    held = jax.lax.stop_gradient((parameters, x_init, inputs, unit, stopping))
    x, dq, n_iters, status = (search if mesh is None else _over_mesh(search, mesh))(*held)
    # Gradient descent may end close enough for the theorem to be as accurate as its points.
    maybe = (status == Status.WITHIN_TOLERANCE) | (status == Status.UNFINISHED)
    x = differentiable(F, x, inputs, status == Status.FIXED_POINT, maybe, held[1])
    told = _as_told(x, jax.vmap(F)(x, inputs).astype(x.dtype), dq, n_iters)
    return told | {"valid": status < Status.ESCAPED, "status": status}


def _in_own_units(
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
) -> tuple[Transition, Float[Array, "n n_states"], Stopping]:
    """Return the network, the starts and the rules for stopping in the units of the search."""
    if solver.rescales:
        return InUnits(F, unit), x_init / unit, stopping.in_unit(jnp.max(unit))
    return F, x_init, stopping


def _as_refined(
    solver: AbstractSolver,
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
) -> tuple[Transition, Float[Array, "n n_states"], Float[Array, "n n_inputs"]]:
    """Return a search in float64 if the solver refines its rows and the network computes in it."""
    if solver.refines and computes_in_float64(F):
        return with_precision(F, np.float64), x.astype(np.float64), u.astype(np.float64)
    return Rounded(F), x, u


def _in_usual_precision(
    solver: AbstractSolver, found: Found, unit: Float[RealArray, " n_states"], dtype: Any
) -> tuple[Float[Array, "n n_states"], Float[Array, " n"]]:
    """Return the states in units, and the changes of `q` in the usual one."""
    y, dq = found.x.astype(dtype), found.dq
    y, dq = (y, dq * jnp.square(jnp.max(unit))) if solver.rescales else (y / unit, dq)
    return y, dq.astype(dtype)


def _rows(
    F: Transition,
    y: Float[Array, "n n_states"],
    found: Found,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    n_rows: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "n n_states"], Rows]:
    """Return the states that follow, and what there is to judge, in units."""
    in_unit = stopping.in_unit(jnp.max(unit))
    tol_q = in_unit.tol_q, jnp.minimum(stopping.tol_q, in_unit.tol_q)
    y_init = x_init / unit
    F_y, seen = seen_at_first(InUnits(F, unit), y, y_init, inputs, found.end, *tol_q, n_rows)
    dtype = np.float64 if computes_in_float64(F) else x_init.dtype
    return F_y, Rows(y.astype(dtype), y_init.astype(dtype), inputs.astype(dtype), seen)


def _as_told(
    x: Float[Array, "n n_states"],
    F_x: Float[Array, "n n_states"],
    dq: Float[Array, " n"],
    n_iters: Int[Array, " n"],
) -> dict[str, Array]:
    """Return the fields of `FixedPoints` that a search fills, but for the statuses."""
    return {
        "xstar": x,
        "F_xstar": F_x,
        "qstar": half_squared_norm(x - F_x),
        "dq": dq,
        "n_iters": n_iters,
    }


def _over_mesh(search: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Give each device its share of the rows, and a loop of its own."""
    rows, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
    mesh = Mesh(mesh.devices, mesh.axis_names)  # the same mesh without explicit axes
    sharded = jax.shard_map(
        search,
        mesh=mesh,
        in_specs=(everywhere, rows, rows, everywhere, everywhere),
        out_specs=rows,
        # A device's loop ends when its own rows do, which the check mistakes for an inconsistency.
        check_vma=False,
    )

    def padded(parameters: Any, x: Array, u: Array, unit: Any, stopping: Stopping) -> Any:
        n = x.shape[0]
        filled = np.minimum(np.arange(-(-n // mesh.size) * mesh.size), n - 1)
        found = sharded(parameters, x[filled], u[filled], unit, stopping)
        return jax.tree.map(lambda a: a[:n], found)

    return padded


# ---- outside `jit`: a program for each stage, for any number of rows -----------------------------


def _search_in_stages(
    stages: tuple[AbstractRowSolver, ...],
    limit: int,
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    report: Report | None,
    _: Mesh | None,
) -> dict[str, Array]:
    """Return what `_search` returns, but for derivatives, for which it is called inside `jit`.

    Within `limit` bytes, if `n` rows take no more.
    """
    n, n_states = x_init.shape
    size = _rows_of_program(n, n_states, limit) if report is None else n
    stages = concerned(stages, F)
    on_host, parts = (np.asarray(x_init), np.asarray(inputs)), []
    for start in range(0, n, size):
        here = np.minimum(np.arange(start, start + size), n - 1)
        x, u = jax.device_put(tuple(a[here] for a in on_host), place_of(x_init))
        n_rows, found = min(size, n - start), None
        there = np.arange(size) < n_rows
        for stage in stages:
            asked = there
            if found is not None:
                asked = there & stage.takes(np.asarray(found.end), np.asarray(found.q))
                if not asked.any():
                    continue
            found = _run_stage(F, solver, stage, found, x, u, unit, stopping, asked, report)
        out = _what_was_found(F, solver, found, x, u, unit, stopping, np.array(n_rows))
        parts.append(jax.tree.map(partial(first_rows, n=n_rows), jax.device_get(out)))
    told, seen = jax.tree.map(lambda *parts: np.concatenate(parts), *parts)
    # In the precision in which rows are judged, exactly: units are powers of two.
    dtype = np.float64 if computes_in_float64(F) else x_init.dtype
    given = (np.asarray(a, dtype) for a in (told["xstar"], *on_host, unit))
    x, start, u, in_unit = given
    rows = Rows(x / in_unit, start / in_unit, u, seen)
    status = judge_on_host(InUnits(F, unit), rows, forward_mode=solver.needs_forward_mode)
    told |= {"valid": status < Status.ESCAPED, "status": status}
    return {name: beside(value, x_init) for name, value in told.items()}


_MOST_ROWS_AT_A_TIME, _LEAST_ROWS_AT_A_TIME = 2**9, 2**6
"""The numbers of rows that programs are compiled for: enough to keep all lanes in work, and so few
that those that only fill up a program, and are copied, take less than 1 ms."""

_ENTRIES_AT_A_TIME, _BYTES_OF_AN_ENTRY = 2**20, 100
"""The number of entries that their states have at most, if that leaves enough rows, and the memory
that each of them takes."""


def _rows_of_program(n: int, n_states: int, limit: int) -> int:
    """Return the number of rows of the programs that search from `n` states.

    It depends on `n` only where filling up would take more than a quarter of `limit`, in bytes.
    """
    most = _ENTRIES_AT_A_TIME // max(1, n_states)
    rows = 1 << min(max(most, _LEAST_ROWS_AT_A_TIME), _MOST_ROWS_AT_A_TIME).bit_length() - 1
    filling = max(0, rows - n) * n_states * _BYTES_OF_AN_ENTRY
    return rows if filling <= limit / 4 else n


@CompiledOnce
def _run_stage(
    F: Transition,
    solver: AbstractSolver,
    stage: AbstractRowSolver,
    found: Found | None,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    asked: Bool[Array, " n"],
    report: Report | None,
) -> Found:
    """Continue with the rows that are asked for, or start with them."""
    F, y_init, stopping = _in_own_units(F, solver, x_init, unit, stopping)
    F, y_init, u = _as_refined(solver, F, y_init, inputs)
    known = {} if found is None else stage.start_with(y_init)
    found = Found.nothing(y_init) if found is None else found
    return stage.resume(F, found, u, stopping, asked, report, **known)


@CompiledOnce
def _what_was_found(
    F: Transition,
    solver: AbstractSolver,
    found: Any,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    n_rows: Any,
) -> tuple[dict[str, Array], Seen]:
    """Return what there is to say of the first rows."""
    y, dq = _in_usual_precision(solver, found, unit, x_init.dtype)
    F_y, rows = _rows(F, y, found, x_init, inputs, unit, stopping, n_rows)
    x, F_x = jnp.asarray(unit) * y, jnp.asarray(unit) * F_y
    return _as_told(x, F_x, dq, found.n_iters.astype(np.int32)), rows.seen


# ---- what follows a search -----------------------------------------------------------------------


def _again_in_other_units(
    search: Callable[..., dict[str, Array]],
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    report: Report | None,
    mesh: Mesh | None,
    found: dict[str, Array],
) -> dict[str, Array]:
    """Search once more for fixed points of rows that came to none, if they call for other units.

    Starts of norm 1 do not tell that the points are at 1e6, or that some entries of them are.
    """
    if not found["xstar"].is_fully_addressable:
        return found
    x, status = found["xstar"], np.asarray(found["status"])
    asked = status < Status.ESCAPED
    other = units_of_states(F, x_init, inputs, x, asked)
    if np.all(other == other[0]) or np.any(unit != unit[0]):
        # Fixed points are as exact as they can be, as their entries are of one size.
        asked = (status == Status.UNFINISHED) | (status == Status.SLOW_POINT)
        other = units_of_states(F, x_init, inputs, x, asked)
    if not np.any(asked):
        return found
    if np.any(other != unit) or np.all(status >= Status.UNFINISHED):
        lowest = np.argmin(np.where(asked, np.asarray(found["qstar"]), np.inf))
        other = balanced_units(F, rows_of(x, lowest), rows_of(inputs, lowest), other)
    if np.all(other == unit):
        return found
    again = search(F, solver, x_init, inputs, other, stopping, report, mesh)
    better = asked & (np.asarray(again["status"]) == Status.FIXED_POINT)
    chosen = {}
    for name, value in found.items():
        xp, new, old = with_library(again[name], value)
        chosen[name] = beside(xp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old), value)
    return chosen


def _back_along_curves(
    F: Transition,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    found: dict[str, Array],
) -> dict[str, Array]:
    """Take rows for escaped no longer that came along a curve on which `q` is as low all the way.

    Inside `jit`, where a program for it would be compiled with every search, they stay escaped.
    """
    x, status = found["xstar"], found["status"]
    if not x.is_fully_addressable or x.shape[1] > JUDGED_DENSELY:
        return found
    asked = np.asarray(status) == Status.ESCAPED
    if not np.any(asked):
        return found
    dtype = np.dtype(np.float64) if computes_in_float64(F) else x.dtype
    in_unit = np.asarray(unit, dtype)
    in_units = InUnits(with_precision(F, dtype), in_unit)
    y, y_init, F_y = (np.asarray(a, dtype) / in_unit for a in (x, x_init, found["F_xstar"]))
    is_small = np.linalg.norm(F_y - y, axis=1) <= NEWTON_TOLERANCE * np.linalg.norm(y, axis=1)
    asked &= is_small & ~is_outside(in_units, y)
    rows, u = np.flatnonzero(asked), np.asarray(inputs, dtype)
    eps = float(jnp.finfo(x.dtype).eps)
    led, is_root = came_along_a_curve(in_units, y[rows], y_init[rows], u[rows], eps)
    kept = np.array(status)
    kept[rows[led]] = np.where(is_root[led], Status.FIXED_POINT, Status.SLOW_POINT)
    told = {"status": kept, "valid": kept < Status.ESCAPED}
    return found | {name: jax.device_put(value, place_of(status)) for name, value in told.items()}


def check_rows(
    caller: str, F: Transition, x: Any, inputs: Any, cond_id: Any, *, forward_mode: bool
) -> tuple[Transition, Float[Array, "n n_states"], Float[Array, "n n_inputs"], Any]:
    """Return the traced `F`, states `[n, n_states]`, inputs `[n, n_inputs]` and labels `[n]`.

    Raises:
        TypeError: if states or inputs are not real numbers.
        ValueError: if a shape is wrong, an input is not finite, or `F` does not map such a state
            under such an input to a state.
    """
    hint, n_axes = "", getattr(x, "ndim", 0)
    if n_axes == 3:
        hint = "; slowpoints.sample_states draws such states from trajectories"
    elif n_axes not in (1, 2):  # by layers, or as a pair
        hint = arguments.TO_VECTORS
    x = arguments.array(caller, "x_init", x, ("n", "n_states"), floating=True, hint=hint)
    arguments.check_precision(caller, "x_init", x.dtype)
    n, n_states = x.shape
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    u = arguments.inputs_of_rows(caller, inputs, n, "row of `x_init`", dtype)
    cond_id = arguments.labels(caller, "cond_id", cond_id, n, "row of `x_init`")
    F = traced(caller, F, n_states, u.shape[1], dtype, forward_mode=forward_mode)
    library = jnp if isinstance(u, jax.Array) else np
    return F, put(x), put(library.broadcast_to(u, (n, u.shape[1]))), cond_id


def check_search(
    caller: str,
    solver: Any,
    max_iters: Any,
    tol_q: Any,
    tol_dq: Any,
    memory_limit: Any = None,
    rows_at_a_time: Any = None,
) -> tuple[Any, Any, Any, int | None, int | None]:
    """Check the settings of a search, for all functions that take them.

    Returns:
        The settings that are numbers, in the order of the arguments, as Python's own types.

    Raises:
        TypeError: if one is of the wrong kind.
        ValueError: if one is out of range.
    """
    if solver is not None:
        expected = "None or a solver such as slowpoints.LevenbergMarquardt()"
        arguments.instance(caller, "solver", solver, AbstractSolver, expected)
    whole = partial(arguments.whole, caller, least=1)
    return (
        whole("max_iters", max_iters),
        arguments.number(caller, "tol_q", tol_q),
        arguments.number(caller, "tol_dq", tol_dq),
        whole("memory_limit", memory_limit, most=2**63 - 1, or_none=True),
        whole("rows_at_a_time", rows_at_a_time, or_none=True),
    )
