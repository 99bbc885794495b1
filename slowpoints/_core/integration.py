"""`until_one`: what a differential equation does in a unit of time, in adaptive steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.mesh_axes import alike

_MOST_STEPS = 2**14
"""The integrator gives up after so many steps: some thousand time constants."""

_SHORTEST = 16
"""It also gives up where a step would be this many roundings of the duration, or less."""


class _Integration(NamedTuple):
    """How far an integration is, and what its solver and its controller know."""

    y: Float[Array, "k d"]
    t: Float[Array, ""]
    ahead: Float[Array, ""]  # the time after the step that is tried next
    solver: Any
    controller: Any
    n_steps: Int[Array, ""]
    goes_on: Bool[Array, ""]


def until_one(
    rate: Callable[[Array], Array], y: Float[Array, "k d"], tolerance: float, stiff: bool
) -> tuple[Float[Array, "k d"], Bool[Array, ""]]:
    """Integrate `dy/dt = rate(y)` from 0 to 1. Return the end, and whether it was reached.

    With the steps and the step sizes of diffrax, but not by its `diffeqsolve`, whose programs are
    several times as large and take three times as long to compile (diffrax 0.7).

    Args:
        rate: the right-hand side.
        y: the start.
        tolerance: the absolute and the relative error that each step may make in each entry.
        stiff: whether to integrate by the implicit method.
    """
    import diffrax

    def norm(error: Array) -> Array:
        return jnp.max(jnp.abs(error))

    eps = float(jnp.finfo(y.dtype).eps)
    errors: dict[str, Any] = {"rtol": tolerance, "atol": tolerance, "norm": norm}
    # With `force_dtmin`, steps of any error would be taken.
    controller: Any = diffrax.PIDController(**errors, dtmin=_SHORTEST * eps, force_dtmin=False)
    solver: Any = (
        diffrax.Kvaerno5(scan_kind="lax", root_finder=diffrax.VeryChord(**errors))
        if stiff
        else diffrax.Dopri8(scan_kind="lax")
    )
    term = diffrax.ODETerm(lambda _, y, __: rate(y))
    order = solver.error_order(term)

    def step(now: _Integration) -> _Integration:
        span = now.t, now.ahead, now.y
        y, error, _, solver_state, _ = solver.step(term, *span, None, now.solver, False)
        error = jnp.where(jnp.isnan(error), jnp.inf, error)
        keep, t, ahead, _, controller_state, result = controller.adapt_step_size(
            *span, y, None, error, order, now.controller
        )
        y, solver_state = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old), (y, solver_state), (now.y, now.solver)
        )
        # No step is left over that is as short as rounding.
        last = jnp.where(keep, 1, (t + 1) / 2)
        t, ahead = jnp.minimum(t, 1), jnp.where(ahead > 1 - _SHORTEST * eps, last, ahead)
        n_steps = now.n_steps + 1
        # At the end, `t` and `ahead` are 1; where the state or the rate is NaN, so is `ahead`.
        goes_on = (t < ahead) & (n_steps < _MOST_STEPS) & (result == diffrax.RESULTS.successful)
        return _Integration(y, t, ahead, solver_state, controller_state, n_steps, goes_on)

    zero, one = jnp.zeros((), y.dtype), jnp.ones((), y.dtype)
    ahead, controller_state = controller.init(term, zero, one, y, None, None, solver.func, order)
    ahead = jnp.where(ahead <= 1, ahead, one)  # it is NaN where the rate is
    solver_state = solver.init(term, zero, ahead, y, None)
    begun: Any = (y, zero, ahead, solver_state, controller_state, 0, True)
    leaves, treedef = jax.tree.flatten(_Integration(*begun))
    start = jax.tree.unflatten(treedef, alike([jnp.asarray(leaf) for leaf in leaves]))
    end = jax.lax.while_loop(lambda now: now.goes_on, step, start)
    return end.y, end.t >= 1
