"""The floor of a valley of low `q`, and steps along it.

A few directions lead along a valley, and `I - J` takes them nearly to zero: one where it is a
curve, two where it is a surface. On the floor, `F(x) - x` is all in as many directions that `I - J`
hardly reaches. Beside it, even by so little as 1e-5 of the state's size, `q` may be curved along
the valley as it is not on the floor. As in continuation, Newton's steps with bordered matrices lead
there (Govaerts 2000, section 3.2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._valleys.shortest_step import rounded, slopes

_CORRECTIONS = 3
"""A step is corrected by so many of Newton's steps with the same factors. Where these do not lead
to the floor, a shorter step is tried."""

_TURNS = 2
"""How often a state is corrected with new directions. On a bend, those of the place before make of
its inner side the floor, where the drift may be smallest at another place."""

_BESIDE = 0.05
"""A state is on the floor if what its residual has beside those directions is at most this part of
what it has in them."""


class Place(NamedTuple):
    """A place on a valley's floor. Directions that are not there are zero in `along` and `off`."""

    x: Float[Array, " n_states"]
    drift: Float[Array, " n_directions"]  # what `F(x) - x` has of `off`
    slope: Float[Array, "n_directions n_directions"]  # how the drift changes along the valley
    along: Float[Array, "n_states n_directions"]  # of length 1, at right angles
    off: Float[Array, "n_states n_directions"]  # what `I - J` hardly reaches, likewise
    factors: lapack.Factors  # of `I - J` with borders
    back: Float[Array, "n_states n_directions"]  # what turns their solutions to those for `off`
    is_known: Bool[Array, ""]  # else it is a state, and about what its directions are


def unknown_place(
    x: Float[Array, " n"], along: Float[Array, "n k"], off: Float[Array, "n k"]
) -> Place:
    """Return a state as a place to begin with, given about what its directions are.

    A step ahead of no length leads to the floor.
    """
    n, k = along.shape
    in_order = jnp.arange(n + k, dtype=jnp.int32)
    factors = lapack.Factors(jnp.eye(n + k, dtype=x.dtype), in_order, in_order)
    none = jnp.zeros((k, k), x.dtype)
    return Place(x, none[0], none, along, off, factors, jnp.zeros_like(along), jnp.array(False))


def ahead(F: Transition, u: Array, place: Place, step: Array, least: Array) -> tuple[Place, Array]:
    """Return the place a step ahead, along each direction, and whether it is on the floor.

    Whoever is led away by more than half of the step, or of `least`, is in another valley.
    """
    predicted = place.x + place.along @ step

    def onto_floor(carry: tuple[Array, Place]) -> tuple[Array, Place]:
        turn, place = carry
        y = jnp.where(place.is_known, _corrected(F, u, place), place.x)
        there = _place(F, u, y, place.along, place.off)
        return turn + place.is_known, there._replace(is_known=place.is_known | True)

    start = varying((jnp.zeros((), jnp.int32), place._replace(x=predicted)), (F, u))
    _, there = jax.lax.while_loop(lambda carry: carry[0] < _TURNS, onto_floor, start)
    beside = jnp.linalg.norm(_residual(F, there.x, u) - there.off @ there.drift)
    fits = beside <= jnp.maximum(noise(F, there.x), _BESIDE * jnp.linalg.norm(there.drift))
    longest = jnp.maximum(jnp.linalg.norm(step), least)
    fits &= jnp.linalg.norm(there.x - predicted) <= longest / 2
    return there, fits


def _place(F: Transition, u: Array, x: Array, along: Array, off: Array) -> Place:
    """Return a place with its directions, given what they are nearby."""
    n, k = along.shape
    missing = jnp.diag(jnp.where(jnp.any(along != 0, axis=0), 0, 1).astype(x.dtype))
    A = slopes(F, x, u)
    factors = lapack.lu_factor(jnp.block([[A, off], [along.T, missing]]))
    last = jnp.eye(n + k, dtype=x.dtype)[:, n:]
    right, left = lapack.lu_solve(factors, last), lapack.lu_solve_transposed(factors, last)
    to_along = _to_right_angles(right[:n], missing)
    new_off = left[:n] @ _to_right_angles(left[:n], missing)
    slope = new_off.T @ off @ right[n:] @ to_along
    solved = lapack.lu_solve(factors, jnp.concatenate([new_off, missing]))
    root = _to_right_angles(solved[n:])
    back = solved[:n] @ (root @ root.T @ solved[n:].T)
    drift, along = new_off.T @ _residual(F, x, u), right[:n] @ to_along
    return Place(x, drift, slope, along, new_off, factors, back, jnp.array(True))


def _corrected(F: Transition, u: Array, place: Place) -> Float[Array, " n_states"]:
    """Return the state on the floor."""
    n, k = place.along.shape

    def once(_: Array, y: Array) -> Array:
        d = lapack.lu_solve(place.factors, jnp.pad(_residual(F, y, u), (0, k)))
        return y + d[:n] - place.back @ d[n:]

    return jax.lax.fori_loop(0, _CORRECTIONS, once, place.x)


def _to_right_angles(a: Array, missing: Array | float = 0.0) -> Array:
    """Return what makes of columns directions at right angles to each other, and turns none round.

    It is `(a.T @ a)^(-1/2)`.
    """
    squares, basis = lapack.eigh(a.T @ a + missing)
    return basis / jnp.sqrt(squares) @ basis.T


def _residual(F: Transition, y: Array, u: Array) -> Array:
    return F(y, u).astype(y.dtype) - y


def noise(F: Transition, y: Array) -> Array:
    """Return how long the residual may be by rounding."""
    return jnp.sqrt(2 * rounded(F, y))
