"""`jacobians`: the linearised dynamics at each point."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.arrays import in_chunks, put
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._points.at_kinks import at_kinks
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for
from slowpoints._solvers.kinks.smooth import may_have_kinks

_MOST_ENTRIES = 2**24
"""How many entries of Jacobians are computed at a time, inside `jit`."""

_ENTRIES_AT_A_TIME, _MOST_AT_A_TIME = 2**20, 16
"""How many entries, and of how many points at most, are computed at a time outside of it, where
whatever fills up the last part is computed in vain."""


def jacobians(F: Any, fps: FixedPoints) -> FixedPoints:
    """Fill the Jacobians `J_xstar` (`dF/dx`) and `dFdu` at every point.

    To first order, `F(xstar + e, u + v) = F(xstar, u) + J_xstar @ e + dFdu @ v`. For a
    [`ContinuousTime`][slowpoints.ContinuousTime] they are `df/dx` and `df/du`.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: points with `xstar` and `inputs`.

    Returns:
        `fps` with `J_xstar` `[n, n_states, n_states]` and `dFdu` `[n, n_states, n_inputs]`, and
        `continuous_time` set according to `F`. If the network may have kinks, as of `relu` units,
        with `at_kink` `[n]` too, except inside `jit` or if other processes hold some of the points.

    Raises:
        TypeError: if `F` is not of a known kind, `fps` is not a `FixedPoints`, or `xstar` is in
            half precision.
        ValueError: if `fps` has no `xstar` or no `inputs`, or `F` does not map such states to
            states.
    """
    F = as_transition(F)
    arguments.fields("jacobians", fps, FixedPoints, "xstar", "inputs")
    F = traced_for("jacobians", F, fps)
    x = put(fps.xstar)
    at_a_time = min(max(1, _ENTRIES_AT_A_TIME // max(1, fps.n_states**2)), _MOST_AT_A_TIME)
    u = put(fps.inputs, x.dtype)
    f = linearised_part(F)
    J, dFdu = in_chunks(_jacobians, f, at_a_time, x, u)
    is_known = not any(isinstance(a, Tracer) for a in jax.tree.leaves((F, fps)))
    looked_at = is_known and x.is_fully_addressable and fps.n > 0 and may_have_kinks(f)
    return fps.replace(
        J_xstar=J,
        dFdu=dFdu,
        at_kink=at_kinks(f, fps, x, u) if looked_at else None,
        continuous_time=isinstance(F, ContinuousTime),
    )


@CompiledOnce
def _jacobians(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> tuple[Float[Array, "n n_states n_states"], Float[Array, "n n_states n_inputs"]]:
    def one(point: tuple[Array, Array]) -> tuple[Array, Array]:
        return jax.jacfwd(F, argnums=(0, 1))(*point)

    # A few points at a time: the products take several times the memory of the Jacobians
    # themselves.
    at_a_time = max(1, _MOST_ENTRIES // max(1, x.shape[1] ** 2))
    if x.shape[0] <= at_a_time:
        return jax.vmap(lambda x, u: one((x, u)))(x, u)
    if u.shape[1] == 0:  # `lax.map` does not divide arrays without elements
        J = jax.lax.map(lambda x: one((x, u[0]))[0], x, batch_size=at_a_time)
        return J, jnp.zeros((*x.shape, 0), J.dtype)
    return jax.lax.map(one, (x, u), batch_size=at_a_time)
