"""States along trajectories, for figures."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._connections.outcome import Starts
from slowpoints._connections.refined_points import enabled
from slowpoints._core.arrays import power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision


def paths(
    F: Transition,
    starts: Starts,
    n_steps: Int[np.ndarray, " m"],
    stride: Int[np.ndarray, " m"],
    n_path: int,
) -> Float[np.ndarray, "m n_path n_states"]:
    """Return states of each trajectory, the first and the last ones included, evenly along it.

    Args:
        F: the network.
        starts: where the trajectories start.
        n_steps: how many steps they take.
        stride: 2 for those of which only every second state counts, else 1.
        n_path: how many states.
    """
    m, dtype = len(starts.x), np.dtype(starts.x.dtype)
    if m == 0 or n_path == 0:
        return np.zeros((m, n_path, starts.x.shape[1]), dtype)
    rows = np.arange(power_of_two(m)) % m
    with enabled(dtype):
        x, u = (jnp.asarray(a[rows]) for a in (starts.x, starts.u))
        steps, every = (jnp.asarray(a[rows], np.int32) for a in (n_steps, stride))
        return np.asarray(_paths(with_precision(F, dtype), x, u, steps, every, n_path))[:m]


@CompiledOnce
def _paths(
    F: Transition,
    x: Float[Array, "m n_states"],
    u: Float[Array, "m n_inputs"],
    n_steps: Int[Array, " m"],
    stride: Int[Array, " m"],
    n_path: int,
) -> Float[Array, "m n_path n_states"]:
    most, row = jnp.max(n_steps), jnp.arange(x.shape[0])

    def advance(t: Array, x: Array, last: Array) -> tuple[Array, Array, Array]:
        x = jax.vmap(F)(x, u).astype(x.dtype)
        counts = (t <= n_steps) & (t % stride == 0) & jnp.isfinite(x).all(axis=1)
        last_new = jnp.where(counts[:, None], x, last)
        return x, last_new, jnp.linalg.norm(last_new - last, axis=1)

    def measure(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        t, x, last, length = carry
        x, last, way = advance(t, x, last)
        return t + 1, x, last, length + way

    zero, one = jnp.zeros(x.shape[0], x.dtype), jnp.ones((), np.int32)
    *_, length = jax.lax.while_loop(lambda c: c[0] <= most, measure, (one, x, x, zero))

    def record(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        t, x, last, way_so_far, kept = carry
        x, last, way = advance(t, x, last)
        way = way_so_far + way
        part = way / jnp.where(length > 0, length, 1)
        slot = jnp.clip(jnp.ceil(part * (n_path - 1)).astype(np.int32), 0, n_path - 1)
        return t + 1, x, last, way, kept.at[row, slot].set(last)

    empty = jnp.full((x.shape[0], n_path, x.shape[1]), jnp.nan, x.dtype).at[:, 0].set(x)
    start = (one, x, x, zero, empty)
    *_, kept = jax.lax.while_loop(lambda c: c[0] <= most, record, start)

    def fill(previous: Array, states: Array) -> tuple[Array, Array]:
        # Steps that are longer than the intervals leave some of these without a state.
        states = jnp.where(jnp.isnan(states), previous, states)
        return states, states

    _, filled = jax.lax.scan(fill, x, jnp.moveaxis(kept, 1, 0))
    return jnp.moveaxis(filled, 0, 1)
