"""Initial states for a search, drawn from the states that a network visits."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from slowpoints.iteration import iterate
from slowpoints.transition import Transition, as_transition, check_transition
from slowpoints.types import RealArray, Scalar


def sample_states(
    key: PRNGKeyArray,
    state_traj: Float[RealArray, "trials time n_states"],
    n_inits: int,
    noise_scale: Scalar = 0.1,
    valid_bxt: Bool[RealArray, "trials time"] | None = None,
    *,
    F: Any = None,
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"] | None = None,
    n_steps: int = 0,
) -> Float[Array, "n_inits n_states"]:
    """Draw states from trajectories and add Gaussian noise (Golub & Sussillo 2018).

    States are drawn without replacement, or, if there are fewer than `n_inits` of them, with.

    If the network's own states are not known, or the noise is large, let it run from the drawn ones
    for some steps: `n_steps`. The steps take off what the network forgets at once, and bring states
    from anywhere to where its dynamics are slow. After many steps only attractors are left.

    Args:
        key: a JAX random key.
        state_traj: `[trials, time, n_states]` the states that the network visits.
        n_inits: how many to draw.
        noise_scale: standard deviation of the noise, in the units of the states.
        valid_bxt: `[trials, time]` which states may be drawn; all of them by default.
        F: the network that runs from the drawn states, or anything that
            [`as_transition`][slowpoints.as_transition] takes. Needed if `n_steps` is above 0.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n_inits, n_inputs]` the constant input under
            which it runs. Needed if `n_steps` is above 0.
        n_steps: for how many steps it runs.

    Returns:
        `[n_inits, n_states]` the initial states. Those that diverge within `n_steps` are not
        finite, and the rows of a search from them not valid.

    Raises:
        ValueError: if an argument has the wrong shape or range or is missing, or no state is valid,
            or a drawn state is not finite. The last two are found only outside `jit`.
        TypeError: if `n_inits` or `n_steps` is no integer, or `F` is of no known kind or in
            continuous time.
    """
    caller = "sample_states"
    _check(caller, state_traj, n_inits, noise_scale, valid_bxt)
    n_steps = _check_steps(caller, F, inputs, n_steps)
    states, _ = _draw(key, jnp.asarray(state_traj), n_inits, noise_scale, valid_bxt)
    _check_drawn(caller, "state_traj", state_traj, states)
    if n_steps == 0:
        return states
    F, u = as_transition(F), _rows_of_inputs(caller, inputs, n_inits, states.dtype)
    check_transition(F, states.shape[1], u.shape[1], states.dtype)
    return _run(iterate(F, n_steps), states, u)


def sample_inputs_and_states(
    key: PRNGKeyArray,
    inputs_traj: Float[RealArray, "trials time n_inputs"],
    state_traj: Float[RealArray, "trials time n_states"],
    n_inits: int,
    noise_scale: Scalar = 0.1,
    valid_bxt: Bool[RealArray, "trials time"] | None = None,
) -> tuple[Float[Array, "n_inits n_inputs"], Float[Array, "n_inits n_states"]]:
    """Draw states as `sample_states` does, each with the input of its own time step.

    For searches under the inputs that the network has when it is in these states (Golub & Sussillo
    2018). The same key draws the same states as `sample_states`.

    Args:
        key: a JAX random key.
        inputs_traj: `[trials, time, n_inputs]` the inputs.
        state_traj: `[trials, time, n_states]` the states, at the same times. Whether the input of
            a time step is the one that led to the state or the one that acts on it next is the
            caller's choice of these arrays.
        n_inits: how many pairs to draw.
        noise_scale: standard deviation of the noise that is added to the states; inputs get none.
        valid_bxt: `[trials, time]` which pairs may be drawn; all of them by default.

    Returns:
        `[n_inits, n_inputs]` the inputs and `[n_inits, n_states]` the initial states.

    Raises:
        ValueError: if an argument has the wrong shape or range, or no pair is valid, or a drawn
            state or input is not finite. The last two are found only outside `jit`.
    """
    caller = "sample_inputs_and_states"
    _check(caller, state_traj, n_inits, noise_scale, valid_bxt)
    expected = np.shape(state_traj)[:2]
    if np.ndim(inputs_traj) != 3 or np.shape(inputs_traj)[:2] != expected:
        raise ValueError(
            f"{caller}: `inputs_traj` has shape {np.shape(inputs_traj)}; expected "
            f"({expected[0]}, {expected[1]}, n_inputs), with the trials and times of `state_traj`."
        )
    states, rows = _draw(key, jnp.asarray(state_traj), n_inits, noise_scale, valid_bxt)
    inputs = jnp.asarray(inputs_traj).reshape(-1, inputs_traj.shape[2])[rows]
    _check_drawn(caller, "state_traj", state_traj, states)
    _check_drawn(caller, "inputs_traj", inputs_traj, inputs)
    return inputs, states


@partial(jax.jit, static_argnames="n_inits")
def _draw(
    key: PRNGKeyArray,
    state_traj: Float[Array, "trials time n_states"],
    n_inits: int,
    noise_scale: Scalar,
    valid_bxt: Bool[RealArray, "trials time"] | None,
) -> tuple[Float[Array, "n_inits n_states"], Int[Array, " n_inits"]]:
    """Return the states with noise, and which rows of all trials' time steps they are."""
    n_trials, n_time, n_states = state_traj.shape
    n_candidates = n_trials * n_time
    choice_key, noise_key = jax.random.split(key)
    valid = (
        jnp.ones(n_candidates, bool)
        if valid_bxt is None
        else jnp.ravel(jnp.asarray(valid_bxt)).astype(bool)
    )

    # A random order of the candidates with the valid ones in front: its first rows are a draw
    # without replacement, and random positions among the valid ones a draw with.
    order = jnp.argsort(jnp.where(valid, jax.random.uniform(choice_key, (n_candidates,)), jnp.inf))
    n_valid = jnp.sum(valid)
    positions = jnp.arange(n_inits)
    with_replacement = jax.random.randint(choice_key, (n_inits,), 0, jnp.maximum(n_valid, 1))
    rows = order[jnp.where(n_inits <= n_valid, positions, with_replacement)]
    states = state_traj.reshape(n_candidates, n_states)[rows]
    states += noise_scale * jax.random.normal(noise_key, states.shape, states.dtype)
    return states, rows


@eqx.filter_jit
def _run(
    steps: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Float[Array, "n n_states"]:
    return jax.vmap(steps)(x, u).astype(x.dtype)


def _check_steps(caller: str, F: Any, inputs: Any, n_steps: Any) -> int:
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)):
        raise TypeError(f"{caller}: `n_steps` must be an integer, but is {n_steps!r}.")
    if n_steps < 0:
        raise ValueError(f"{caller}: `n_steps` must not be negative, but is {n_steps}.")
    if n_steps > 0:
        for name, value in (("F", F), ("inputs", inputs)):
            if value is None:
                raise ValueError(
                    f"{caller}: `{name}` is None; expected the network that takes the {n_steps} "
                    "steps and its constant input, `F` and `inputs`."
                )
    return int(n_steps)


def _rows_of_inputs(
    caller: str, inputs: Any, n_inits: int, dtype: Any
) -> Float[Array, "n_inits n_inputs"]:
    if np.ndim(inputs) not in (1, 2) or (np.ndim(inputs) == 2 and len(inputs) not in (1, n_inits)):
        raise ValueError(
            f"{caller}: `inputs` has shape {np.shape(inputs)}; expected (n_inputs,), "
            f"(1, n_inputs) or ({n_inits}, n_inputs), one row for each of the `n_inits` states."
        )
    u = jnp.atleast_2d(jnp.asarray(inputs, dtype))
    return jnp.broadcast_to(u, (n_inits, u.shape[1]))


def _check_drawn(caller: str, name: str, traj: RealArray, drawn: Array) -> None:
    if not isinstance(drawn, Tracer) and not bool(jnp.isfinite(drawn).all()):
        bad = int(jnp.sum(~jnp.isfinite(drawn).all(axis=1)))
        raise ValueError(
            f"{caller}: {bad} of the {drawn.shape[0]} rows drawn from `{name}` (shape "
            f"{traj.shape}) hold NaN or infinity; mask such rows with `valid_bxt`."
        )


def _check(
    caller: str, state_traj: RealArray, n_inits: int, noise_scale: Any, valid_bxt: Any
) -> None:
    shape = np.shape(state_traj)
    if len(shape) != 3:
        raise ValueError(
            f"{caller}: `state_traj` has shape {shape}; expected (trials, time, n_states)."
        )
    if 0 in shape:
        raise ValueError(f"{caller}: `state_traj` is empty: its shape is {shape}.")
    if not jnp.issubdtype(state_traj.dtype, jnp.floating):
        raise TypeError(
            f"{caller}: `state_traj` has dtype {state_traj.dtype}; expected a real one."
        )
    if isinstance(n_inits, bool) or not isinstance(n_inits, (int, np.integer)):
        raise TypeError(f"{caller}: `n_inits` must be an integer, but is {n_inits!r}.")
    if n_inits < 1:
        raise ValueError(f"{caller}: `n_inits` must be at least 1, but is {n_inits}.")
    if not isinstance(noise_scale, Tracer) and not (
        np.ndim(noise_scale) == 0 and 0 <= float(noise_scale) < np.inf
    ):
        raise ValueError(
            f"{caller}: `noise_scale` must be finite and not negative, but is {noise_scale}."
        )
    if valid_bxt is None:
        return
    if np.shape(valid_bxt) != shape[:2]:
        raise ValueError(
            f"{caller}: `valid_bxt` has shape {np.shape(valid_bxt)}; expected {shape[:2]}, "
            f"the trials and times of `state_traj`."
        )
    if not isinstance(valid_bxt, Tracer) and not np.asarray(valid_bxt).any():
        raise ValueError(f"{caller}: `valid_bxt` is False everywhere; no state can be drawn.")
