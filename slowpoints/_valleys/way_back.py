"""Whether a row that ended far from its start is on a curve of points, and in no tail.

`is_on_a_line` in `questions` knows straight lines, in few operations, for every row. Here,
curves and surfaces are followed back, bend by bend, for the few rows that call for it, once the
search is over.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._core.arrays import place_of
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import of_first_rows_in_turn
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trapping.trapping_box import is_outside
from slowpoints._points.status import Status
from slowpoints._solvers.termination import JUDGED_DENSELY, NEWTON_TOLERANCE
from slowpoints._valleys.reduction import falls_along_floor
from slowpoints._valleys.rows_on_host import rows_in_units, some_at_a_time
from slowpoints._valleys.shortest_step import (
    flattened,
    rounded,
    shortest_step,
    size_of,
    slopes,
)

_STRIDE = 0.2
"""The longest step, as a part of the way: a tail cannot be stepped over, since `q` rises in it at
every place."""

_SHORTEST = 1e-3
"""Steps that have to be shorter than this part of the way, for `q` to stay low, lead nowhere."""

_ARRIVED = 0.01
"""A row is back where what is left of the way to its start leads off the curve but for this part,
or where it has just passed such a place: next to the start."""

_MOST_STEPS = 60
"""Once around a circle takes some 40 steps."""

_RISEN = 1.25
"""A residual that has become larger than at the row by this factor, and than rounding, has risen.
The way back is one to less than half the distance, over which a tail that falls with the third root
of the distance rises by this much, and others by more."""

_RISEN_BY_ROUNDING = 10.0
"""Along a line that weights in float32 would be if they were not rounded, the residual is of the
size of their rounding, and may rise by this factor."""

_CORRECTIONS = 4
"""A step is corrected by so many of Newton's steps: beside a curve, two or three are enough."""


def back_along_curves(
    F: Transition,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    found: dict[str, Array],
) -> dict[str, Array]:
    """Take rows for escaped no longer that came along a curve on which `q` is as low all the way.

    Inside `jit`, where a program for it would be compiled with every search, they stay escaped.
    """
    x, status = found["xstar"], found["status"]
    if not x.is_fully_addressable or x.shape[1] > JUDGED_DENSELY:
        return found
    asked = np.asarray(status) == Status.ESCAPED
    if not np.any(asked):
        return found
    in_units, u, states = rows_in_units(F, unit, inputs, x, x_init, found["F_xstar"])
    y, y_init, F_y = states
    is_small = np.linalg.norm(F_y - y, axis=1) <= NEWTON_TOLERANCE * np.linalg.norm(y, axis=1)
    asked &= is_small & ~is_outside(in_units, y)
    if not np.any(asked):
        return found
    rows = np.flatnonzero(asked)
    eps = float(jnp.finfo(x.dtype).eps)
    led, is_root, falls = came_along_a_curve(in_units, y[rows], y_init[rows], u[rows], eps)
    kept = np.array(status)
    kept[rows[led]] = np.where(falls[led], Status.UNFINISHED, Status.SLOW_POINT)
    kept[rows[led & is_root]] = Status.FIXED_POINT
    told = {"status": kept, "valid": kept < Status.ESCAPED}
    return found | {name: jax.device_put(value, place_of(status)) for name, value in told.items()}


def came_along_a_curve(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    x_init: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    eps: float,
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return for which rows a way leads back next to the start, all along which `q` is as low.

    And which rows are at a fixed point, and for which `q` falls along the curve. On the host. The
    first `False` means that no way was found.

    Args:
        F: the transition, in the precision of the states.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        u: `[n, n_inputs]` their inputs.
        eps: the relative rounding of the search, which is that of the weights as well: along a line
            that would be one without it, residuals are of this size.
    """
    led, is_root, falls = some_at_a_time(partial(_some, eps), F, x, x_init, u)
    return led, is_root, falls


@CompiledOnce
def _some(
    eps: float, F: Transition, n_rows: Any, x: Any, x_init: Any, u: Any
) -> tuple[Array, Array, Array]:
    def one(x: Array, x_init: Array, u: Array) -> tuple[Array, Array, Array]:
        return _leads_back(F, x, x_init, u, eps), _is_root(F, x, u), falls_along_floor(F, x, u)

    return of_first_rows_in_turn(one, n_rows, (x, x_init, u))


def _is_root(F: Transition, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]) -> Array:
    step = shortest_step(F, (x, u, slopes(F, x, u), F(x, u).astype(x.dtype) - x))
    return step <= NEWTON_TOLERANCE * size_of(x)


def _leads_back(
    F: Transition,
    x: Float[Array, " n_states"],
    x_init: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    eps: float,
) -> Bool[Array, ""]:
    def residual(y: Array) -> Array:
        return F(y, u).astype(y.dtype) - y

    whole, q = jnp.linalg.norm(x - x_init), half_squared_norm(residual(x))

    def has_risen(y: Array) -> Array:
        by_rounding = jnp.minimum(2 * eps**2 * (y @ y), _RISEN_BY_ROUNDING**2 * q)
        limit = jnp.maximum(rounded(F, y), jnp.maximum(by_rounding, _RISEN**2 * q))
        return ~(half_squared_norm(residual(y)) <= limit)

    def corrected(y: Array) -> Array:
        def once(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            y, k = carry
            A = slopes(F, y, u)
            factor, _ = flattened(A)
            return y + lapack.cholesky_solve(factor, A.T @ residual(y)), k + 1

        def goes_on(carry: tuple[Array, Array]) -> Array:
            return (carry[1] < _CORRECTIONS) & has_risen(carry[0])

        return jax.lax.while_loop(goes_on, once, (y, jnp.zeros((), np.int32)))[0]

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        y, stride, n_steps, before, _ = carry
        factor, shift = flattened(slopes(F, y, u))
        ways = jnp.stack([x_init - y, before], axis=1)
        for _ in range(3):  # each time, what is not flat shrinks by the factor `shift`
            ways = shift * lapack.cholesky_solve(factor, ways)
        way, still = ways.T
        left = jnp.linalg.norm(way)
        length = jnp.minimum(stride * whole, left)
        ahead = corrected(y + length * way / jnp.where(left > 0, left, 1))
        # Off the curve, the correction may lead to a point somewhere else.
        moved = jnp.linalg.norm(ahead - y)
        fails = has_risen(ahead) | ~(moved <= 2 * length)
        y = jnp.where(fails, y, ahead)
        stride = jnp.where(fails, stride / 2, jnp.minimum(2 * stride, _STRIDE))
        has_arrived = (left <= _ARRIVED * whole) | (way @ before < 0)
        # At the other end of a tail, no direction is flat.
        has_arrived &= jnp.linalg.norm(still) >= jnp.linalg.norm(before) / 2
        return y, stride, n_steps + 1, way, has_arrived

    def goes_on(carry: tuple[Array, ...]) -> Array:
        _, stride, n_steps, _, has_arrived = carry
        return ~has_arrived & (n_steps < _MOST_STEPS) & (stride >= _SHORTEST)

    none = jnp.zeros((), np.int32), jnp.zeros_like(x), jnp.zeros((), bool)
    return jax.lax.while_loop(goes_on, step, (x, jnp.asarray(_STRIDE, x.dtype), *none))[-1]
