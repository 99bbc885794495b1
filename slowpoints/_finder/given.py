"""`Given`: what a search by a finder is given, checked, as arrays."""

from typing import Any, NamedTuple

import jax
import numpy as np

from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import ModelError, Transition
from slowpoints._network.trace import traced
from slowpoints._search.sample import check_draw, check_trajectories

N_INITS = 1024
"""So many states are drawn by default."""


class Given(NamedTuple):
    """The arguments of a search, checked."""

    F: Transition
    """The traced model."""
    state_traj: Any
    """`[trials, time, n_states]`"""
    are_starts: bool
    """Whether these are the states to start from, in a trajectory of one trial."""
    inputs: Any
    n_inits: int
    noise_scale: Number
    valid_bxt: Any
    cond_ids: Any


def checked(
    caller: str,
    model: Any,
    dtype: str,
    coverage: Number | None,
    state_traj: Any,
    inputs: Any,
    n_inits: int,
    noise_scale: Number,
    valid_bxt: Any,
    cond_ids: Any,
    progress: Any = None,
) -> Given:
    """Check the arguments of a search by a finder of these settings."""
    n_inits = check_draw(caller, n_inits, noise_scale)
    state_traj = vectors(caller, model, state_traj)
    are_starts = coverage is None and _are_starts(state_traj, n_inits, noise_scale, valid_bxt)
    if are_starts:
        n_inits, state_traj = len(state_traj), state_traj[None]
    state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt, floating=False)
    row = "of the `n_inits` states"
    inputs = arguments.inputs_of_rows(caller, inputs, n_inits, row, np.dtype(dtype))
    cond_ids = arguments.labels(caller, "cond_ids", cond_ids, n_inits, row)
    arguments.function(caller, "progress", progress)
    if coverage is not None and (len(inputs) != 1 or cond_ids is not None):
        name = "inputs" if len(inputs) != 1 else "cond_ids"
        was, expected = "is given for each state", "one input, since `coverage` is set"
        arguments.refuse(caller, name, was, expected, ValueError)
    F, sizes = as_transition(model), (state_traj.shape[2], inputs.shape[1])
    # The model runs in the caller's precision, which need not be that of the search.
    own_dtype = jax.dtypes.canonicalize_dtype(dtype)
    try:
        F = traced(caller, F, *sizes, own_dtype, states="state_traj")
    except ModelError as error:
        if F.n_states is None:
            raise
        hint = arguments.if_transposed(state_traj.shape, F.n_states)
        raise ModelError(f"{error}{hint}") from error
    return Given(F, state_traj, are_starts, inputs, n_inits, noise_scale, valid_bxt, cond_ids)


def vectors(caller: str, model: Any, state_traj: Any) -> Any:
    """Return states as vectors that are given in the model's own form."""
    if len(getattr(state_traj, "shape", ())) == 3:
        return state_traj
    own = as_transition(model)
    try:
        return own.flatten(state_traj)
    except ValueError as error:
        words = f"{error} {getattr(own, 'hint', '')}".strip()
        raise ValueError(f"{caller}: `state_traj` does not fit the model: {words}") from error


def _are_starts(states: Any, n_inits: int, noise_scale: Number, valid_bxt: Any) -> bool:
    """Return whether states `[n, n_states]` are meant to be searched from as they are."""
    if len(getattr(states, "shape", ())) != 2 or len(states) == 0:
        return False
    return n_inits in (N_INITS, len(states)) and noise_scale == 0 and valid_bxt is None
