"""Initial states for a search, drawn from the states that a network visits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from slowpoints.types import RealArray, Scalar


def sample_states(
    key: PRNGKeyArray,
    state_traj: Float[RealArray, "trials time n_states"],
    n_inits: int,
    noise_scale: Scalar = 0.1,
    valid_bxt: Bool[RealArray, "trials time"] | None = None,
) -> Float[Array, "n_inits n_states"]:
    """Draw states from trajectories and add Gaussian noise (Golub & Sussillo 2018).

    States are drawn without replacement, or, if there are fewer than `n_inits` of them, with.

    Args:
        key: a JAX random key.
        state_traj: `[trials, time, n_states]` the states that the network visits.
        n_inits: how many to draw.
        noise_scale: standard deviation of the noise, in the units of the states.
        valid_bxt: `[trials, time]` which states may be drawn; all of them by default.

    Returns:
        `[n_inits, n_states]` the initial states.

    Raises:
        ValueError: if an argument has the wrong shape or range, or no state is valid, or a drawn
            state is not finite. The last two are found only outside `jit`.
    """
    _check(state_traj, n_inits, noise_scale, valid_bxt)
    state_traj = jnp.asarray(state_traj)
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
    positions = jnp.where(n_inits <= n_valid, positions, with_replacement)
    states = state_traj.reshape(n_candidates, n_states)[order[positions]]
    states += noise_scale * jax.random.normal(noise_key, states.shape, states.dtype)

    if not isinstance(states, Tracer) and not bool(jnp.isfinite(states).all()):
        bad = int(jnp.sum(~jnp.isfinite(states).all(axis=1)))
        raise ValueError(
            f"sample_states: {bad} of the {n_inits} states drawn from `state_traj` (shape "
            f"{state_traj.shape}) hold NaN or infinity; mask such states with `valid_bxt`."
        )
    return states


def _check(state_traj: RealArray, n_inits: int, noise_scale: Any, valid_bxt: Any) -> None:
    shape = np.shape(state_traj)
    if len(shape) != 3:
        raise ValueError(
            f"sample_states: `state_traj` has shape {shape}; expected (trials, time, n_states)."
        )
    if 0 in shape:
        raise ValueError(f"sample_states: `state_traj` is empty: its shape is {shape}.")
    if not jnp.issubdtype(state_traj.dtype, jnp.floating):
        raise TypeError(
            f"sample_states: `state_traj` has dtype {state_traj.dtype}; expected a real one."
        )
    if isinstance(n_inits, bool) or not isinstance(n_inits, (int, np.integer)):
        raise TypeError(f"sample_states: `n_inits` must be an integer, but is {n_inits!r}.")
    if n_inits < 1:
        raise ValueError(f"sample_states: `n_inits` must be at least 1, but is {n_inits}.")
    if not isinstance(noise_scale, Tracer) and not (
        np.ndim(noise_scale) == 0 and 0 <= float(noise_scale) < np.inf
    ):
        raise ValueError(
            f"sample_states: `noise_scale` must be finite and not negative, but is {noise_scale}."
        )
    if valid_bxt is None:
        return
    if np.shape(valid_bxt) != shape[:2]:
        raise ValueError(
            f"sample_states: `valid_bxt` has shape {np.shape(valid_bxt)}; expected {shape[:2]}, "
            f"the trials and times of `state_traj`."
        )
    if not isinstance(valid_bxt, Tracer) and not np.asarray(valid_bxt).any():
        raise ValueError("sample_states: `valid_bxt` is False everywhere; no state can be drawn.")
