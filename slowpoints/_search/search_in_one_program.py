"""A search as one program: inside `jit` and `vmap`, on several devices, and with derivatives."""

import contextlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from slowpoints._core.types import RealArray
from slowpoints._linear_algebra.loops import one_after_another
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64
from slowpoints._network.units import InUnits
from slowpoints._points.status import Status
from slowpoints._search.implicit import differentiable
from slowpoints._search.units_of_search import (
    as_refined,
    as_told,
    in_own_units,
    in_usual_precision,
    rows_to_judge,
)
from slowpoints._search.units_of_states import units_of_states
from slowpoints._search.verdict import judge
from slowpoints._solvers.base import AbstractSolver, Stopping
from slowpoints._solvers.report import Report


@eqx.filter_jit
def search_in_one_program(
    F: Transition,
    solver: AbstractSolver,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"] | None,
    stopping: Stopping,
    report: Report | None,
    mesh: Mesh | None,
) -> dict[str, Array]:
    """Return the fields of `FixedPoints` that a search fills.

    If `unit` is `None`, as inside `vmap`, it is found here.
    """
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
            network, y_init, in_unit = in_own_units(F, solver, x_init, unit, stopping)
            network, y_init, u = as_refined(solver, network, y_init, inputs)
            found = solver.run(network, y_init, u, in_unit, report)
            y, dq = in_usual_precision(solver, found, unit, x_init.dtype)
            _, rows = rows_to_judge(F, y, found, x_init, inputs, unit, stopping)
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
    told = as_told(x, jax.vmap(F)(x, inputs).astype(x.dtype), dq, n_iters)
    return told | {"valid": status < Status.ESCAPED, "status": status}


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
