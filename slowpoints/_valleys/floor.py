"""The floor of a valley of low `q`, and where on it `q` falls.

On the floor, `F(x) - x` is all in the direction that `I - J` hardly reaches. Beside it, even by so
little as 1e-5 of the state's size, `q` may be curved along the valley as it is not on the floor.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._linear_algebra import lapack
from slowpoints._network.base import Transition
from slowpoints._valleys.shortest_step import rounded, size_of, slopes

RELATIVE_DECREASE = 1e-3
"""At a slow point, a step of Newton's method for the minimum of `q` is predicted to lower `q` by
less than this fraction: a tenth of what 200 steps of another method may lower it by."""

_LOOK_AHEAD = 1e-3
"""How far ahead is looked along a floor, as a part of the state's size: how the drift is curved on
the way tells where it is smallest. The floor is at most half as far from the row."""

_HORIZON = 0.1
"""The drift is predicted to fall for at most this part of the state's size."""

_CORRECTIONS = 3
"""A step is corrected by so many of Newton's steps with the same factors. Where these do not lead
to the floor, a shorter step is tried."""

_TURNS = 2
"""How often a state is corrected with new directions. On a bend, those of the place before make of
its inner side the floor, where the drift may be smallest at another place."""

_BESIDE = 0.05
"""A state is on the floor if what its residual has beside the one direction is at most this part of
what it has along it."""


class Place(NamedTuple):
    """A place on a valley's floor."""

    x: Float[Array, " n_states"]
    drift: Float[Array, ""]  # the length of `F(x) - x`, negative past a fixed point
    slope: Float[Array, ""]  # how the drift changes along the valley
    along: Float[Array, " n_states"]  # the valley's direction, which `I - J` takes nearly to zero
    off: Float[Array, " n_states"]  # the direction that `I - J` hardly reaches
    factors: lapack.Factors  # of `I - J` with borders
    off_solved: Float[Array, " n_states_and_1"]  # by these factors, for `off`


def floor_below(F: Transition, u: Array, x: Array, least: Array) -> tuple[Place, Array]:
    """Return the place on the floor next to a state, and whether there is one.

    Its direction is that in which the drift falls.
    """
    r, factors = _residual(F, x, u), lapack.lu_factor(slopes(F, x, u))
    along = _unit(lapack.lu_solve(factors, r))
    # Inverse iteration. The residual itself would make a floor of wherever the state is.
    off = _unit(lapack.lu_solve_transposed(factors, along))
    off = jnp.where(off @ r < 0, -off, off)
    beside = _place(F, u, x, off @ r, along, off)
    place, fits = ahead(F, u, beside, jnp.zeros_like(r[0]), least)
    # Newton's step may lead on past the end of the valley.
    side = jnp.where(place.slope > 0, -1, 1)
    return place._replace(along=side * place.along, slope=side * place.slope), fits


def falls_along_floor(F: Transition, x: Array, u: Array) -> Array:
    """Return whether a row next to a valley's floor, or on it, can go down along it.

    Next to the floor, a step of Newton's method for the minimum may be short wherever it starts.
    """
    size = size_of(x)
    h = _LOOK_AHEAD * size
    here, is_near = floor_below(F, u, x, h)
    there, fits = ahead(F, u, here, h, h)
    bend = (there.slope - here.slope) / h
    to_minimum = jnp.where(bend > 0, -here.slope / (2 * bend), jnp.inf)
    gain = -here.slope * jnp.minimum(to_minimum, _HORIZON * size)
    falls = (here.drift > noise(here.x)) & (gain > 0.5 * RELATIVE_DECREASE * here.drift)
    return is_near & fits & falls


def ahead(F: Transition, u: Array, place: Place, h: Array, least: Array) -> tuple[Place, Array]:
    """Return the place a step of length `h` ahead, and whether it is on the floor.

    Whoever is led away by more than half of the step, or of `least`, is in another valley.
    """
    predicted = place.x + h * place.along

    def onto_floor(_: Array, carry: tuple[Place, Array]) -> tuple[Place, Array]:
        place, _ = carry
        y, drift, beside = _corrected(F, u, place)
        return _place(F, u, y, drift, place.along, place.off), beside

    start = place._replace(x=predicted)
    there, beside = jax.lax.fori_loop(0, _TURNS, onto_floor, (start, jnp.zeros_like(h)))
    fits = beside <= jnp.maximum(noise(there.x), _BESIDE * jnp.abs(there.drift))
    fits &= jnp.linalg.norm(there.x - predicted) <= jnp.maximum(h, least) / 2
    return there, fits


def _corrected(F: Transition, u: Array, place: Place) -> tuple[Array, Array, Array]:
    """Return the state on the floor, its drift, and the length of what the residual has beside."""

    def once(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        y, drift = carry
        d = lapack.lu_solve(place.factors, jnp.append(_residual(F, y, u), jnp.zeros_like(drift)))
        drift = d[-1] / place.off_solved[-1]
        return y + (d - drift * place.off_solved)[:-1], drift

    y, drift = jax.lax.fori_loop(0, _CORRECTIONS, once, (place.x, place.drift))
    return y, drift, jnp.linalg.norm(_residual(F, y, u) - drift * place.off)


def _place(F: Transition, u: Array, y: Array, drift: Array, along: Array, off: Array) -> Place:
    """Return a place with its two directions, given what they are nearby."""
    row = jnp.append(along, jnp.zeros_like(drift))[None]
    factors = lapack.lu_factor(jnp.block([[slopes(F, y, u), off[:, None]], [row]]))
    last = jnp.zeros_like(row[0]).at[-1].set(1)
    right, left = lapack.lu_solve(factors, last), lapack.lu_solve_transposed(factors, last)
    slope = right[-1] / jnp.linalg.norm(right[:-1])
    off = _unit(left[:-1])
    off_solved = lapack.lu_solve(factors, jnp.append(off, jnp.zeros_like(drift)))
    return Place(y, drift, slope, _unit(right[:-1]), off, factors, off_solved)


def _residual(F: Transition, y: Array, u: Array) -> Array:
    return F(y, u).astype(y.dtype) - y


def noise(y: Array) -> Array:
    """Return how long the residual may be by rounding."""
    return jnp.sqrt(2 * rounded(y))


def _unit(a: Array) -> Array:
    return a / jnp.linalg.norm(a)
