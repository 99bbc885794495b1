"""Where a search starts: states that a network visits, and each of them under several inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from slowpoints._core import arguments
from slowpoints._core.arrays import beside, first_rows, power_of_two, put, with_library
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray, Scalar
from slowpoints._network.base import Transition
from slowpoints._network.iterate import iterate
from slowpoints._network.trace import traced


def sample_states(
    key: PRNGKeyArray | int,
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

    States are drawn without replacement, or with replacement if there are fewer than `n_inits` of
    them.

    If the network's own states are not known, or the noise is large, let the network run for
    `n_steps` steps from the states that were drawn. The steps remove what the network forgets at
    once, and bring states from anywhere to where its dynamics are slow. After many steps only
    attractors are left.

    Args:
        key: a JAX random key, or a whole number as its seed.
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
        `[n_inits, n_states]` the initial states. States that diverge within `n_steps` steps are not
        finite, and the rows of a search that starts from them are not valid.

    Raises:
        TypeError: if an argument is of the wrong kind, or `F` is in continuous time.
        ValueError: if an argument has the wrong shape or range or is missing, or no state is valid,
            or a valid state is not finite. The last two are found only outside `jit`.
    """
    caller = "sample_states"
    n_inits = check_draw(caller, n_inits, noise_scale)
    n_steps = arguments.whole(caller, "n_steps", n_steps)
    state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt)
    random_key: Any = arguments.random_key(caller, key)
    if n_steps == 0:
        return _draw(random_key, state_traj, n_inits, noise_scale, valid_bxt)[0]
    for name, value in (("F", F), ("inputs", inputs)):
        if value is None:
            expected = f"the network that takes the {n_steps} steps, and its constant input"
            arguments.refuse(caller, name, "is None", expected, ValueError)
    steps = iterate(F, n_steps)
    dtype = jax.dtypes.canonicalize_dtype(state_traj.dtype)
    u = arguments.inputs_of_rows(caller, inputs, n_inits, "of the `n_inits` states", dtype)
    n_states, n_inputs = state_traj.shape[2], u.shape[1]
    steps = traced(
        caller,
        steps,
        n_states,
        n_inputs,
        dtype,
        states="state_traj",
        forward_mode=False,
    )
    states, _ = _draw(random_key, jnp.asarray(state_traj), n_inits, noise_scale, valid_bxt)
    return _run(steps, states, jnp.broadcast_to(jnp.asarray(u), (n_inits, n_inputs)))


def sample_ball(
    key: PRNGKeyArray | int,
    center: Float[RealArray, " n_states"],
    radius: Scalar | Float[RealArray, " n_states"],
    n: int,
) -> Float[Array, "n n_states"]:
    """Draw states evenly from a ball around a state.

    The share of them that returns to an attractor in the centre is its basin stability (Menck et
    al. 2013).

    Args:
        key: a JAX random key, or a whole number as its seed.
        center: `[n_states]` the state in the middle.
        radius: of the ball, in the units of the states; or `[n_states]`, the semi-axes of an
            ellipsoid, for states whose entries have different scales.
        n: how many to draw.

    Returns:
        `[n, n_states]` the states.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or range.
    """
    caller = "sample_ball"
    random_key: Any = arguments.random_key(caller, key)
    center = arguments.array(caller, "center", center, ("n_states",), floating=True, finite=True)
    n = arguments.whole(caller, "n", n, least=1)
    n_states = center.shape[0]
    if n_states == 0:
        arguments.refuse(caller, "center", "has no entries", "at least one state", ValueError)
    if getattr(radius, "ndim", 0) == 0 and not isinstance(radius, (list, tuple)):
        radius = arguments.number(caller, "radius", radius, finite=True)
    else:
        radius = arguments.array(caller, "radius", radius, (n_states,), finite=True)
        if not isinstance(radius, Tracer) and (np.asarray(radius) < 0).any():
            was = f"holds {np.asarray(radius).min()}"
            arguments.refuse(caller, "radius", was, "lengths of at least 0", ValueError)
    center = put(center)
    directions, lengths = jax.random.split(random_key)
    normal = jax.random.normal(directions, (n, n_states), center.dtype)
    normal = normal / jnp.linalg.norm(normal, axis=1, keepdims=True)
    # The part of the volume within a distance rises with its power of the dimension.
    length = jax.random.uniform(lengths, (n, 1), center.dtype) ** (1 / n_states)
    return center + jnp.asarray(radius, center.dtype) * length * normal


def sample_inputs_and_states(
    key: PRNGKeyArray | int,
    inputs_traj: Float[RealArray, "trials time n_inputs"],
    state_traj: Float[RealArray, "trials time n_states"],
    n_inits: int,
    noise_scale: Scalar = 0.1,
    valid_bxt: Bool[RealArray, "trials time"] | None = None,
) -> tuple[Float[Array, "n_inits n_inputs"], Float[Array, "n_inits n_states"]]:
    """Draw states as `sample_states` does, each with the input of its own time step.

    This is for searches under the inputs that the network has when it is in these states (Golub &
    Sussillo 2018). The same key draws the same states as `sample_states`.

    Args:
        key: a JAX random key, or a whole number as its seed.
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
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or range, or no pair is valid, or a valid
            state or input is not finite. The last two are found only outside `jit`.
    """
    caller = "sample_inputs_and_states"
    n_inits = check_draw(caller, n_inits, noise_scale)
    state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt)
    shape = (*state_traj.shape[:2], "n_inputs")
    inputs_traj = arguments.array(caller, "inputs_traj", inputs_traj, shape, floating=True)
    arguments.check_finite(caller, "inputs_traj", inputs_traj, valid_bxt, hint=_WHERE_VALID)
    random_key: Any = arguments.random_key(caller, key)
    states, rows = _draw(random_key, state_traj, n_inits, noise_scale, valid_bxt)
    xp, rows, known = with_library(rows, inputs_traj)
    inputs = xp.reshape(known, (-1, known.shape[2]))[rows]
    return beside(inputs, states), states


def input_grid(
    x_init: Real[RealArray, "n_inits n_states"], inputs: Real[RealArray, "k n_inputs"]
) -> tuple[Real[Array, "rows n_states"], Real[Array, "rows n_inputs"], Int[Array, " rows"]]:
    """Pair each of `n_inits` states with each of `k` inputs, to search under all of them at once.

    Args:
        x_init: `[n_inits, n_states]` the states to start from.
        inputs: `[k, n_inputs]` one constant input per condition.

    Returns:
        The states, the inputs and the condition numbers of `k * n_inits` rows, those of the first
        input first: what [`find_fixed_points`][slowpoints.find_fixed_points] and
        [`optimize_batch`][slowpoints.optimize_batch] take as `x_init`, `inputs` and `cond_id`.

    Raises:
        TypeError: if an argument does not hold real numbers.
        ValueError: if an argument does not have two axes, or an input is not finite.
    """
    x_init = arguments.array("input_grid", "x_init", x_init, ("n_inits", "n_states"))
    inputs = arguments.array("input_grid", "inputs", inputs, ("k", "n_inputs"), finite=True)
    n_inits, k = x_init.shape[0], inputs.shape[0]
    x = jnp.tile(jnp.asarray(x_init), (k, 1))
    u = jnp.repeat(jnp.asarray(inputs), n_inits, axis=0)
    return x, u, jnp.repeat(jnp.arange(k), n_inits)


_SIZES, _MOST_FILLING = (2**9, 2**12), 2**20
"""How many states are drawn, of which some may be left out, and how many of their entries may be:
programs that draw random numbers take a second to compile."""


def _draw(
    key: PRNGKeyArray,
    state_traj: Any,
    n_inits: int,
    noise_scale: Scalar,
    valid_bxt: Bool[RealArray, "trials time"] | None,
) -> tuple[Float[Array, "n_inits n_states"], Int[Array, " n_inits"]]:
    """Return the states with noise, and their row numbers among the time steps of all trials."""
    state_traj = put(state_traj) if isinstance(state_traj, np.ndarray) else state_traj
    noise_scale = jnp.asarray(noise_scale, state_traj.dtype)
    n, size = put(n_inits, np.int32), _n_drawn(key, n_inits, state_traj.shape[2])
    states, rows = _drawn(key, state_traj, n, size, noise_scale, valid_bxt)
    return first_rows(states, n_inits), first_rows(rows, n_inits)


def _n_drawn(key: PRNGKeyArray, n_inits: int, n_states: int) -> int:
    """Return how many states to draw, so that the first `n_inits` are the same."""
    # The first of many random numbers are those that fewer of them would be.
    first_are_same = jax.config.jax_threefry_partitionable  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(key, Tracer) or not first_are_same:
        return n_inits
    if not str(jax.random.key_impl(key)).startswith("threefry"):
        return n_inits
    size = next((size for size in _SIZES[::-1] if size * n_states <= _MOST_FILLING), _SIZES[0])
    return size if n_inits <= size else power_of_two(n_inits)


@CompiledOnce
def _drawn(
    key: PRNGKeyArray,
    state_traj: Float[Array, "trials time n_states"],
    n_inits: Int[Array, ""],
    size: int,
    noise_scale: Float[Array, ""],
    valid_bxt: Bool[RealArray, "trials time"] | None,
) -> tuple[Float[Array, "size n_states"], Int[Array, " size"]]:
    n_trials, n_time, n_states = state_traj.shape
    n_candidates = n_trials * n_time
    choice_key, noise_key = jax.random.split(key)
    valid = (
        jnp.ones(n_candidates, bool)
        if valid_bxt is None
        else jnp.ravel(jnp.asarray(valid_bxt)).astype(bool)
    )

    # A random order of the candidates with the valid ones in front: its first rows are a draw
    # without replacement, and random positions among the valid ones are a draw with replacement.
    order = jnp.argsort(jnp.where(valid, jax.random.uniform(choice_key, (n_candidates,)), jnp.inf))
    n_valid = jnp.sum(valid)
    positions = jnp.arange(size)
    with_replacement = jax.random.randint(choice_key, (size,), 0, jnp.maximum(n_valid, 1))
    rows = order[jnp.where(n_inits <= n_valid, positions, with_replacement)]
    states = state_traj.reshape(n_candidates, n_states)[rows]
    noise = jax.random.normal(noise_key, states.shape, states.dtype)
    return states + noise_scale * noise, rows


@CompiledOnce
def _run(
    steps: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> Float[Array, "n n_states"]:
    return jax.vmap(steps)(x, u).astype(x.dtype)


_WHERE_VALID = " wherever states may be drawn; leave others out by `valid_bxt`"


def check_draw(caller: str, n_inits: Any, noise_scale: Any) -> int:
    """Check how many states are to be drawn, and with how much noise; return the number.

    Raises:
        TypeError: if `n_inits` is not a whole number, or `noise_scale` is not a number.
        ValueError: if one of them is out of range.
    """
    arguments.number(caller, "noise_scale", noise_scale, finite=True)
    return arguments.whole(caller, "n_inits", n_inits, least=1)


def check_trajectories(
    caller: str, state_traj: Any, valid_bxt: Any, *, floating: bool = True
) -> tuple[Any, Any]:
    """Return the trajectories `[trials, time, n_states]` and the mask `[trials, time]` or `None`.

    Args:
        caller: named in errors.
        state_traj: see `sample_states`.
        valid_bxt: see `sample_states`.
        floating: whether to refuse states that are whole numbers.

    Raises:
        TypeError: if one of them holds something other than numbers.
        ValueError: if a shape is wrong, no state is valid, or a valid state is not finite.
    """
    state_traj = arguments.trajectories(
        caller,
        "state_traj",
        state_traj,
        if_two_axes="; to search from given states `[n, n_states]`, call "
        "slowpoints.find_fixed_points with them, or the class without `n_inits`, `noise_scale`, "
        "`valid_bxt` and `coverage`",
        floating=floating,
        nonempty=True,
    )
    if valid_bxt is not None:
        valid_bxt = arguments.mask(caller, "valid_bxt", valid_bxt, state_traj.shape[:2])
        if not isinstance(valid_bxt, Tracer) and not np.asarray(valid_bxt).any():
            raise ValueError(
                f"{caller}: `valid_bxt` is False everywhere; expected True for the states that may "
                "be drawn."
            )
    arguments.check_finite(caller, "state_traj", state_traj, valid_bxt, hint=_WHERE_VALID)
    return state_traj, valid_bxt
