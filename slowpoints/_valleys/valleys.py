"""Rows that are on their way along a valley of low `q`, as around a ring, are taken to its end.

Where a valley bends, a solver's steps are short: each of them leads straight on, up its side. Here,
its floor is followed as branches are in continuation: a step along the direction that `I - J` takes
nearly to zero, and Newton's steps back to where `F(x) - x` is all in the direction that `I - J`
hardly reaches, with bordered matrices (Govaerts 2000, section 3.2). A valley ends at a fixed point,
where `F(x) - x` changes its sign, or where `q` is smallest. A tail has no end.
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
from slowpoints._linear_algebra.loops import of_first_rows
from slowpoints._network.base import Transition
from slowpoints._network.trapping.trapping_box import is_outside
from slowpoints._points.status import Status
from slowpoints._solvers.base import Stopping
from slowpoints._solvers.termination import JUDGED_DENSELY
from slowpoints._valleys.floor import Place, ahead, floor_below, noise
from slowpoints._valleys.rows_on_host import rows_in_units, some_at_a_time

_STRIDE = 0.2
"""The longest step, as a part of the size of the state, or of the way from its start if that is
longer: once around a circle takes 32 of them."""

_FIRST_STRIDE = _STRIDE / 4

_SHORTEST = 1e-4
"""A valley that can only be followed in steps shorter than this part of that size leads nowhere. An
end is known as exactly as this, from where the search goes on."""

_MOST_STEPS = 100

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
    asked = np.isin(status, _KINDS) & (n_iters + _MOST_STEPS < max_iters)
    if np.float32(tol_dq) > _SMALLEST_CHANGE:
        square = np.max(np.asarray(unit, float)) ** 2
        asked &= np.asarray(found["dq"]) > tol_dq * min(square, 1)  # see `Stopping.in_unit`
    if not np.any(asked):
        return found
    in_units, u, (y, y_init) = rows_in_units(F, unit, inputs, x, x_init)
    asked &= ~is_outside(in_units, y)
    known, places, n_steps = np.zeros(len(y), bool), np.array(y), np.array(n_iters)

    def follow(rows: Int[np.ndarray, " some"]) -> bool:
        """Fill in what is known of some rows, and return whether an end was found."""
        if rows.size == 0:
            return False
        ends = ends_of_valleys(in_units, y[rows], y_init[rows], u[rows])
        known[rows], places[rows] = ends.known, ends.x
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
    told = {name: np.array(value) for name, value in found.items()}
    told["status"][rows], told["valid"][rows] = Status.UNFINISHED, True  # for there is an end
    # A solver may have gone elsewhere. At a minimum, `q` is the same but for how it is rounded.
    rounding = 2 * np.finfo(x.dtype).eps * np.linalg.norm(again["xstar"], axis=1)
    lower = np.sqrt(2 * again["qstar"]) <= 1.01 * np.sqrt(2 * told["qstar"][rows]) + rounding
    for name, value in again.items():
        told[name][rows[lower]] = value[lower]
    return {name: beside(value, found[name]) for name, value in told.items()}


def ends_of_valleys(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    x_init: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
) -> Ends:
    """Return where the valleys of rows end, and which ends were found. On the host.

    Args:
        F: the transition, in the precision of the states.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        u: `[n, n_inputs]` their inputs.
    """
    return Ends(*some_at_a_time(_some, F, x, x_init, u))


@CompiledOnce
def _some(F: Transition, n_rows: Any, x: Any, x_init: Any, u: Any) -> tuple[Array, ...]:
    one = jax.vmap(partial(_end_of_valley, F))
    return of_first_rows(one, n_rows, (x, x_init, u), at_a_time=1)


class _Path(NamedTuple):
    """How far a valley has been followed, and what is known of its end."""

    at: Place
    beyond: Place  # a place past the end, if there is one
    to_beyond: Float[Array, ""]  # the length of the step there, or infinity
    longest: Float[Array, ""]  # the longest step that is tried
    n_steps: Int[Array, ""]


def _end_of_valley(
    F: Transition,
    x: Float[Array, " n_states"],
    x_init: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
) -> tuple[Bool[Array, ""], Float[Array, " n_states"], Int[Array, ""]]:
    """Return whether the end was found, a state next to it, and the number of steps."""
    size = jnp.maximum(jnp.linalg.norm(x - x_init), jnp.linalg.norm(x))

    def step(path: _Path) -> _Path:
        h = jnp.minimum(path.longest, _to_end(path))
        place, fits = ahead(F, u, path.at, h, _FIRST_STRIDE * size)
        is_beyond = fits & _is_past_end(place)
        moves = fits & ~is_beyond
        left = jnp.where(moves, path.to_beyond - h, path.to_beyond)
        return _Path(
            _either(moves, place, path.at),
            _either(is_beyond, place, path.beyond),
            jnp.where(is_beyond, h, left),
            jnp.where(fits, jnp.minimum(2 * path.longest, _STRIDE * size), h / 4),
            path.n_steps + 1,
        )

    def goes_on(path: _Path) -> Array:
        leaves = jnp.linalg.norm(path.at.x - x_init) > _LEFT * size
        is_short = jnp.minimum(path.longest, path.to_beyond) < _SHORTEST * size
        return ~leaves & ~is_short & (path.n_steps < _MOST_STEPS)

    start, fits = floor_below(F, u, x, _FIRST_STRIDE * size)
    begins = fits & (start.drift > noise(start.x)) & (start.slope < 0)
    first = jnp.where(begins, _FIRST_STRIDE * size, 0)
    unknown = jnp.full_like(first, jnp.inf)
    path = _Path(start, start, unknown, first, jnp.zeros((), np.int32))
    path = jax.lax.while_loop(goes_on, step, path)
    return jnp.isfinite(path.to_beyond), path.at.x, path.n_steps


def _is_past_end(place: Place) -> Array:
    """Return whether the drift has changed its sign, or grows, and is more than rounding."""
    rounding = noise(place.x)
    return (place.drift < -rounding) | (place.drift > rounding) & (place.slope >= 0)


def _to_end(path: _Path) -> Array:
    """Return how long the step to the end is by the chord to a place beyond, or infinity."""
    at, beyond = path.at, path.beyond
    is_past = beyond.drift < 0
    here = jnp.where(is_past, at.drift, at.slope)
    there = jnp.where(is_past, beyond.drift, beyond.slope)
    part = here / (here - there)
    part = jnp.where(jnp.isfinite(part), jnp.clip(part, 0.1, 0.9), 0.5)
    return part * path.to_beyond


def _either(condition: Array, new: Place, old: Place) -> Place:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
