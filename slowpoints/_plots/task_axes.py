"""`task_axes`: directions along which states change with the variables of a task."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.scene import states_of

_CALLER = "task_axes"

SHARED = 0.9
"""Two axes whose cosine is larger have little left of the second one when they are orthogonal:
less than half of its length."""


def task_axes(
    state_traj: Any,
    variables: Mapping[str, Any],
    *,
    orthogonal: bool = True,
) -> dict[str, Float[np.ndarray, " n_states"]]:
    """Return the directions along which states change with a choice, evidence and the like.

    At each time step, the state of every unit is regressed on all variables together. The axis of a
    variable is the vector of its coefficients at the time step at which this is the longest. In the
    order in which they are given, axes are made orthogonal to those before them. This is the
    targeted dimensionality reduction of Mante et al. (2013), without its denoising by principal
    components.

    Args:
        state_traj: `[trials, time, n_states]` states that the network visits, or a pair or layers
            of them, such as `(h, c)` of an LSTM.
        variables: by name, `[trials]`, what each trial was: `{"choice": choice, "motion":
            coherence}`. An average trajectory for each condition will do as a trial.
        orthogonal: whether axes are made orthogonal. If not, the evidence axis also has what choice
            and evidence share.

    Returns:
        By name, `[n_states]`, a direction of norm 1 along which the variable grows: what the
        figures take as `projection`.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite, if the variables do not differ
            from each other over the trials, or no state changes with one of them.

    Warns:
        UserWarning: if two axes are nearly parallel, as those of a choice and of evidence that has
            become the choice. Then the second one is made of what little they do not share.
    """
    states = states_of(_CALLER, state_traj, None).astype(np.float64)
    arguments.check_finite(_CALLER, "state_traj", states)
    arguments.instance(_CALLER, "variables", variables, Mapping, "a dict of names and values")
    if not variables:
        arguments.refuse(_CALLER, "variables", "is empty", "one or more", ValueError)
    orthogonal = arguments.flag(_CALLER, "orthogonal", orthogonal)
    n_trials, n_time, n_states = states.shape
    columns = [
        arguments.array(_CALLER, f"variables[{name!r}]", given, (n_trials,), finite=True)
        for name, given in variables.items()
    ]
    values = np.stack(columns, axis=1).astype(np.float64)
    values = values - values.mean(axis=0)
    spread = np.linalg.norm(values, axis=0)
    values = values / np.where(spread > 0, spread, 1.0)
    coefficients, _, rank, _ = np.linalg.lstsq(
        values, (states - states.mean(axis=0)).reshape(n_trials, -1)
    )
    if rank < len(variables) or not spread.all():
        was = f"has {len(variables)} variable(s), of which {rank} are independent over the trials"
        expected = "each to differ over the trials, and not as the others do"
        arguments.refuse(_CALLER, "variables", was, expected, ValueError)
    coefficients = coefficients.reshape(len(variables), n_time, n_states)
    longest = np.linalg.norm(coefficients, axis=2).argmax(axis=1)
    axes = coefficients[np.arange(len(variables)), longest]
    found: dict[str, Any] = {}
    for name, axis in zip(variables, axes, strict=True):
        left = axis.copy()
        for other in found.values() if orthogonal else ():
            left -= (left @ other) * other
        # What is left of an axis that lies among those before it is rounding.
        if np.linalg.norm(left) <= 1e-9 * max(np.linalg.norm(axes, axis=1).max(), 1e-300):
            was = f"has {name!r}, with which no state changes" + " by itself" * bool(found)
            arguments.refuse(_CALLER, "variables", was, "variables that states show", ValueError)
        found[name] = left / np.linalg.norm(left)
    if told := _told_of_shared(variables, axes):
        warnings.warn(f"{_CALLER}: {told}", stacklevel=2)
    return found


def _told_of_shared(names: Mapping[str, Any], axes: Float[np.ndarray, "k d"]) -> str:
    """Say which two axes are the most alike, if they are nearly parallel."""
    length = np.linalg.norm(axes, axis=1)
    unit = axes / np.where(length > 0, length, 1.0)[:, None]
    cosines = np.triu(np.abs(unit @ unit.T), 1)
    i, j = np.unravel_index(cosines.argmax(), cosines.shape)
    if cosines[i, j] <= SHARED:
        return ""
    one, other = list(names)[i], list(names)[j]
    return (
        f"before they are made orthogonal, the axes of {one!r} and {other!r} have a cosine of "
        f"{cosines[i, j]:.2f}: states change with both in almost the same way. Pass the part of "
        "the trial in which they differ, such as the first steps of the evidence."
    )
