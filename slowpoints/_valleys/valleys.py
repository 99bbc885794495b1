"""Rows that are on their way along a valley of low `q`, as around a ring, are taken to its end.

Where a valley bends, a solver's steps are short: each of them leads straight on, up its side. Here,
`q` is minimised on the valley's floor instead, by a trust region, with the derivatives that
`reduction` knows. A valley ends at a fixed point or where `q` is smallest. A tail has no end.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.arrays import beside
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra.loops import of_first_rows_in_turn
from slowpoints._network.base import Transition
from slowpoints._network.trapping.trapping_box import is_outside
from slowpoints._points.status import Status
from slowpoints._solvers.base import Stopping
from slowpoints._solvers.termination import JUDGED_DENSELY
from slowpoints._valleys.reduction import Reduced, beside_the_floor, reduced_ahead, steps_within
from slowpoints._valleys.rows_on_host import rows_in_units, some_at_a_time

_STRIDE = 0.2
"""The longest step, as a part of the size of the state, or of the way from its start if that is
longer: once around a circle takes 32 of them."""

_FIRST_STRIDE = _STRIDE / 4

_SHORTEST = 1e-4
"""A valley that can only be followed in steps shorter than this part of that size leads nowhere. An
end is known as exactly as this, from where the search goes on."""

_SETTLED = 1e-4
"""At the end of a valley, `q` is predicted to fall by less than this part."""

_TO_ROOT = 0.6
"""A step to a root is predicted to lower `q` by all of it, to a double root by two thirds, and in a
tail of `exp` by half."""

_LANDED = 0.01
"""Next to a root, such a step lowers `q` to less than this part, and in a tail to a third."""

_STAYS = 1e-2
"""From the end of a valley, the search goes on next to it if it moves by less than this part of the
state's size."""

_LEAST_STEPS, _MOST_STEPS = 100, 500
"""Once around a circle takes up to 40 steps, and a surface on which states drift 500 times as fast
in one direction as in another takes some 400. Where `max_iters` does not allow for the first number
of steps, no valley is followed."""

_LEFT = 3.0
"""A valley that leads further from the start than so many times that size is a tail."""

_SMALLEST_CHANGE = np.float32(1e-20)
"""`tol_dq` by default. It is there to end rows where `q` changes by rounding, as it does in a flat
valley. Whoever chooses a larger one wants them to end there."""

_KINDS = (Status.UNFINISHED, Status.ESCAPED)
"""Rows that may be on their way along a valley."""

_TRIED = 16
"""So many rows of each kind are followed first. Where none of them comes to an end, as in a tail or
at kinks, the others are not followed, since there may be thousands."""


class Ends(NamedTuple):
    """The ends of the valleys in which some rows are."""

    known: Bool[np.ndarray, " n"]
    at_minimum: Bool[np.ndarray, " n"]  # of `q` along the floor, and next to no root
    x: Float[np.ndarray, "n n_states"]  # next to the end, or as far as the valley was followed
    n_steps: Int[np.ndarray, " n"]


def along_valleys(
    search: Callable[[np.ndarray, np.ndarray, int], dict[str, np.ndarray]],
    F: Transition,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    unit: Float[RealArray, " n_states"],
    stopping: Stopping,
    found: dict[str, Array],
) -> dict[str, Array]:
    """Search on from the ends of valleys, for rows that are unfinished or seem to be in a tail.

    Inside `jit`, where a program for it would be compiled with every search, they stay as they are,
    and so do rows that `max_iters` or a `tol_dq` above its default ended.

    Args:
        search: searches from some states and inputs with so many iterations. All on the host.
        F: the transition.
        x_init: `[n, n_states]` where the rows started.
        inputs: `[n, n_inputs]` their inputs.
        unit: the units in which was searched.
        stopping: when a row is done. A step along a valley counts as an iteration.
        found: what was found.
    """
    x = found["xstar"]
    if not x.is_fully_addressable or x.shape[1] > JUDGED_DENSELY:
        return found
    n_iters, status = np.asarray(found["n_iters"]), np.asarray(found["status"])
    max_iters, tol_dq = int(stopping.max_iters), float(stopping.tol_dq)
    asked = np.isin(status, _KINDS) & (n_iters + _LEAST_STEPS < max_iters)
    if np.float32(tol_dq) > _SMALLEST_CHANGE:
        square = np.max(np.asarray(unit, float)) ** 2
        asked &= np.asarray(found["dq"]) > tol_dq * min(square, 1)  # see `Stopping.in_unit`
    if not np.any(asked):
        return found
    in_units, u, (y, y_init) = rows_in_units(F, unit, inputs, x, x_init)
    asked &= ~is_outside(in_units, y)
    known, at_minimum = np.zeros((2, len(y)), bool)
    places, n_steps = np.array(y), np.array(n_iters)

    def follow(rows: Int[np.ndarray, " some"]) -> bool:
        """Fill in what is known of some rows, and return whether an end was found."""
        if rows.size == 0:
            return False
        ends = ends_of_valleys(in_units, y[rows], y_init[rows], u[rows], max_iters - n_iters[rows])
        known[rows], at_minimum[rows], places[rows] = ends.known, ends.at_minimum, ends.x
        n_steps[rows] += ends.n_steps
        return bool(ends.known.any())

    for kind in _KINDS:
        of_kind = np.flatnonzero(asked & (status == kind))
        tried = of_kind[:: max(1, -(-of_kind.size // _TRIED))]
        if follow(tried):
            follow(np.setdiff1d(of_kind, tried))
    rows = np.flatnonzero(known)
    if rows.size == 0:
        return found
    n_steps = n_steps[rows]
    starts = (places[rows] * np.asarray(unit, y.dtype)).astype(x.dtype)
    again = search(starts, np.asarray(inputs)[rows], max_iters - int(n_steps.max()))
    again["n_iters"] = n_steps + again["n_iters"]
    told = _searched_on(found, again, rows, starts, at_minimum[rows])
    return {name: beside(value, found[name]) for name, value in told.items()}


def _searched_on(
    found: dict[str, Array],
    again: dict[str, np.ndarray],
    rows: Int[np.ndarray, " some"],
    starts: Float[np.ndarray, "some n_states"],
    at_minimum: Bool[np.ndarray, " some"],
) -> dict[str, np.ndarray]:
    """Return what was found, with rows of which the search went on from the ends of valleys."""
    told = {name: np.array(value) for name, value in found.items()}
    told["status"][rows], told["valid"][rows] = Status.UNFINISHED, True  # for there is an end
    x = again["xstar"]
    # A solver may have gone elsewhere. At a minimum, `q` is the same but for how it is rounded.
    rounding = 2 * np.finfo(x.dtype).eps * np.linalg.norm(x, axis=1)
    lower = np.sqrt(2 * again["qstar"]) <= 1.01 * np.sqrt(2 * told["qstar"][rows]) + rounding
    for name, value in again.items():
        told[name][rows[lower]] = value[lower]
    # Beside the floor by a rounding, `q` may have no minimum where it has one on the floor.
    moved, size = np.linalg.norm(x - starts, axis=1), np.linalg.norm(starts, axis=1)
    is_slow = rows[lower & at_minimum & (moved <= _STAYS * size)]
    is_slow = is_slow[told["status"][is_slow] == Status.UNFINISHED]
    told["status"][is_slow] = Status.SLOW_POINT
    return told


def ends_of_valleys(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    x_init: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    n_left: Int[np.ndarray, " n"],
) -> Ends:
    """Return where the valleys of rows end, and which ends were found. On the host.

    Args:
        F: the transition, in the precision of the states.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        u: `[n, n_inputs]` their inputs.
        n_left: `[n]` how many steps may be taken, and one more.
    """
    most = np.minimum(n_left - 1, _MOST_STEPS).astype(np.int32)
    few = np.full(len(x), False)
    ends = Ends(*some_at_a_time(_some, F, x, x_init, u, most, few))
    rows = np.flatnonzero(~ends.known)
    if rows.size:  # stiffer directions bend with the valley, and steps along them are short
        again = (a[rows] for a in (x, x_init, u, most, ~few))
        for all_rows, new in zip(ends, some_at_a_time(_some, F, *again), strict=True):
            all_rows[rows] = new
    return ends


@CompiledOnce
def _some(F: Transition, n_rows: Any, *rows: Any) -> tuple[Array, ...]:
    return of_first_rows_in_turn(partial(_end_of_valley, F), n_rows, rows)


class _Path(NamedTuple):
    """How far a valley has been followed, and what is known of its end."""

    at: Reduced
    radius: Float[Array, ""]  # the longest step that is tried
    lands: Bool[Array, ""]  # next to a root
    is_at_end: Bool[Array, ""]
    at_minimum: Bool[Array, ""]
    n_steps: Int[Array, ""]


def _end_of_valley(
    F: Transition,
    x: Float[Array, " n_states"],
    x_init: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    most: Int[Array, ""],
    few: Bool[Array, ""],
) -> tuple[Bool[Array, ""], Bool[Array, ""], Float[Array, " n_states"], Int[Array, ""]]:
    """Return what `Ends` holds of a row."""
    size = jnp.maximum(jnp.linalg.norm(x - x_init), jnp.linalg.norm(x))

    def step(path: _Path) -> _Path:
        at, is_first = path.at, path.n_steps == 0
        radii = jnp.stack([path.radius, _STRIDE * size])
        (step, to_end), (gain, at_most) = steps_within(at, radii)
        at_minimum = at.is_clear(F) & (at_most < _SETTLED * at.q)
        is_near = at.is_clear(F) & (jnp.linalg.norm(to_end) < _SHORTEST * size)
        step, gain = jnp.where(is_first, 0, step), jnp.where(is_first, 0, gain)
        least = jnp.where(is_first, _FIRST_STRIDE, _SHORTEST) * size
        ahead, fits = reduced_ahead(F, u, at, step, least)
        got = at.q - ahead.q
        fits &= got > gain / 4
        lands = at.is_clear(F) & (gain > _TO_ROOT * at.q) & (ahead.q < _LANDED * at.q)
        longer = jnp.where(got > gain / 2, jnp.minimum(2 * path.radius, radii[1]), path.radius)
        shorter = jnp.where(is_first, 0, jnp.minimum(path.radius, jnp.linalg.norm(step)) / 4)
        return _Path(
            jax.tree.map(partial(jnp.where, fits), ahead, at),
            jnp.where(is_first & fits, path.radius, jnp.where(fits, longer, shorter)),
            path.lands | fits & lands,
            at_minimum | is_near,
            at_minimum,
            path.n_steps + 1,
        )

    def goes_on(path: _Path) -> Array:
        leaves = jnp.linalg.norm(path.at.place.x - x_init) > _LEFT * size
        is_long = path.radius >= _SHORTEST * size  # no NaN is
        # Where `q` is rounding, nothing leads anywhere.
        is_open = (path.at.is_clear(F) | (path.n_steps == 0)) & ~path.is_at_end
        return ~leaves & is_long & is_open & (path.n_steps < most)

    first, no = _FIRST_STRIDE * size, jnp.zeros((), bool)
    path = _Path(beside_the_floor(F, u, x, few), first, no, no, no, jnp.zeros((), np.int32))
    path = jax.lax.while_loop(goes_on, step, path)
    return path.is_at_end | path.lands, path.at_minimum, path.at.place.x, path.n_steps
