"""`Given`: what a search by a finder is given, checked, as arrays."""

from collections.abc import Mapping
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
    if isinstance(inputs, Mapping):
        inputs, cond_ids = _each(caller, inputs, n_inits, coverage, cond_ids)
        if are_starts:
            repeats = len(cond_ids) // n_inits
            state_traj = np.tile(np.asarray(state_traj), (1, repeats, 1))
        n_inits = len(cond_ids)
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


def _each(
    caller: str, inputs: Mapping[Any, Any], n: int, coverage: Number | None, cond_ids: Any
) -> tuple[Any, Any]:
    """Return the inputs and the labels of `n` rows for each of several conditions."""
    if coverage is not None:
        was, expected = "is a dict of conditions", "one input, since `coverage` is set"
        arguments.refuse(caller, "inputs", was, expected, ValueError)
    if cond_ids is not None:
        was, expected = "is given", "None, since `inputs` is a dict of conditions"
        arguments.refuse(caller, "cond_ids", was, expected, ValueError)
    if not inputs:
        arguments.refuse(caller, "inputs", "is an empty dict", "a condition or more", ValueError)
    rows = [
        np.asarray(
            arguments.array(caller, f"inputs[{label!r}]", u, ("n_inputs",), (1, "n_inputs"))
        ).reshape(-1)
        for label, u in inputs.items()
    ]
    if len({row.size for row in rows}) > 1:
        was = f"has inputs of lengths {', '.join(str(row.size) for row in rows)}"
        arguments.refuse(caller, "inputs", was, "one length", ValueError)
    labels = np.array(list(inputs))
    if labels.shape != (len(rows),) or labels.dtype.kind not in "biufU":
        was, expected = f"has the labels {list(inputs)}", "words or numbers as labels"
        arguments.refuse(caller, "inputs", was, expected, ValueError)
    return np.repeat(np.stack(rows), n, axis=0), np.repeat(labels, n)


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
