"""`simulate`: the states that a network visits under given inputs."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.trace import traced

_CALLER = "simulate"


def simulate(F: Any, inputs: Any, x0: Any = None) -> Float[np.ndarray, "trials time n_states"]:
    """Run a network under the inputs of trials, and return all states that it visits.

    These are the states that a search starts from. For layers and for pairs such as `(h, c)` they
    are complete, where the output of a module is a part of them only. Noise that a module draws
    while it is trained is off.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        inputs: `[trials, time, n_inputs]` the input of each step, such as that of the task. Swap
            the axes of those for a module that takes time first.
        x0: `[n_states]` the state before the first step, or `[trials, n_states]` that of each
            trial, or such states in the model's own form; `None` for zeros.

    Returns:
        `[trials, time, n_states]` the states after each step. Of several layers, those of the first
        come first, and of an LSTM `h` of all layers before `c`; `as_transition(F).unflatten` turns
        them into the model's own form.

    Raises:
        TypeError: if an argument is of the wrong kind, or `F` is in continuous time.
        ValueError: if an array has the wrong shape or is not finite, or the number of states is not
            known and `x0` is `None`.
    """
    F = as_transition(F)
    if isinstance(F, ContinuousTime):
        was = "is a ContinuousTime"
        expected = "a network in steps; slowpoints.flow(F, duration) makes one of it"
        arguments.refuse(_CALLER, "F", was, expected, TypeError)
    axes = ("trials", "time", "n_inputs")
    inputs = arguments.array(_CALLER, "inputs", inputs, axes, finite=True, nonempty=False)
    dtype = np.result_type(np.float32, inputs.dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if x0 is None and F.n_states is None:
        was = "is None, but it is not known how many states the model has"
        expected = "the state before the first step, such as np.zeros(n_states)"
        arguments.refuse(_CALLER, "x0", was, expected, ValueError)
    n_trials, _, n_inputs = inputs.shape
    if x0 is None:
        x0 = np.zeros(F.n_states or 0, dtype)
    elif len(getattr(x0, "shape", ())) not in (1, 2):
        x0 = F.flatten(x0)
    shapes = ("n_states",), (n_trials, "n_states")
    x0 = np.asarray(arguments.array(_CALLER, "x0", x0, *shapes, finite=True), dtype)
    network = traced(_CALLER, F, x0.shape[-1], n_inputs, dtype, states="x0", inputs="inputs")
    states = _run(
        network,
        np.broadcast_to(x0, (n_trials, x0.shape[-1])),
        np.swapaxes(np.asarray(inputs, dtype), 0, 1),
    )
    return np.swapaxes(np.asarray(states), 0, 1)


def _steps(F: Transition, x0: Float[Array, "trials d"], u: Float[Array, "time trials m"]) -> Any:
    def step(x: Any, u: Any) -> tuple[Any, Any]:
        x = jax.vmap(F)(x, u)
        return x, x

    return jax.lax.scan(step, x0, u)[1]


_run = CompiledOnce(_steps, runs="long")
