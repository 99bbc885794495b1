"""The units and the precision in which a search computes, and what is told of it in usual ones."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.precision import Rounded, computes_in_float64, with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.units import InUnits
from slowpoints._search.seen_at_first import Rows, seen_at_first
from slowpoints._solvers.base import AbstractSolver, Found, Stopping


def in_own_units(
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


def as_refined(
    solver: AbstractSolver,
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
) -> tuple[Transition, Float[Array, "n n_states"], Float[Array, "n n_inputs"]]:
    """Return a search in float64 if the solver refines its rows and the network computes in it."""
    if solver.refines and computes_in_float64(F):
        return with_precision(F, np.float64), x.astype(np.float64), u.astype(np.float64)
    return Rounded(F), x, u


def in_usual_precision(
    solver: AbstractSolver, found: Found, unit: Float[RealArray, " n_states"], dtype: Any
) -> tuple[Float[Array, "n n_states"], Float[Array, " n"]]:
    """Return the states in units, and the changes of `q` in the usual one."""
    y, dq = found.x.astype(dtype), found.dq
    y, dq = (y, dq * jnp.square(jnp.max(unit))) if solver.rescales else (y / unit, dq)
    return y, dq.astype(dtype)


def rows_to_judge(
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


def as_told(
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
