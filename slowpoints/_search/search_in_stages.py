"""A search outside `jit`: a program for each stage of the solver, for any number of rows."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._core.arrays import beside, first_rows, place_of
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64
from slowpoints._network.units import InUnits
from slowpoints._points.status import Status
from slowpoints._search.seen_at_first import Rows, Seen
from slowpoints._search.units_of_search import (
    as_refined,
    as_told,
    in_own_units,
    in_usual_precision,
    rows_to_judge,
)
from slowpoints._search.verdict import judge_on_host
from slowpoints._solvers.base import AbstractRowSolver, AbstractSolver, Found, Stopping, concerned
from slowpoints._solvers.report import Report

_MOST_ROWS_AT_A_TIME, _LEAST_ROWS_AT_A_TIME = 2**9, 2**6
"""The numbers of rows that programs are compiled for: enough to keep all lanes in work, and so few
that those that only fill up a program, and are copied, take less than 1 ms."""

_ENTRIES_AT_A_TIME, _BYTES_OF_AN_ENTRY = 2**20, 100
"""The number of entries that their states have at most, if that leaves enough rows, and the memory
that each of them takes."""


def search_in_stages(
    stages: tuple[AbstractRowSolver, ...],
    limit: int,
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    report: Report | None,
) -> dict[str, Array]:
    """Return what `search_in_one_program` returns, but without derivatives.

    These are taken inside `jit`. Within `limit` bytes, if `n` rows take no more.
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
    F, y_init, stopping = in_own_units(F, solver, x_init, unit, stopping)
    F, y_init, u = as_refined(solver, F, y_init, inputs)
    known = {} if found is None else stage.start_with(y_init)
    found = Found.nothing(y_init) if found is None else found
    return stage.resume(F, found, u, stopping, asked, report, **known)


@partial(CompiledOnce, runs="briefly")
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
    y, dq = in_usual_precision(solver, found, unit, x_init.dtype)
    F_y, rows = rows_to_judge(F, y, found, x_init, inputs, unit, stopping, n_rows)
    x, F_x = jnp.asarray(unit) * y, jnp.asarray(unit) * F_y
    return as_told(x, F_x, dq, found.n_iters.astype(np.int32)), rows.seen
