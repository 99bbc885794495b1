"""What a search is given is checked: its rows, and its settings."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.arrays import put
from slowpoints._network.base import Transition
from slowpoints._network.trace import traced
from slowpoints._solvers.base import AbstractSolver


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
    if n_states == 0:
        was = f"has shape {tuple(x.shape)}"
        arguments.refuse(caller, "x_init", was, "at least one entry of a state", ValueError)
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
