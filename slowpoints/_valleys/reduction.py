"""`q` on the floor of a valley, as a function of as many numbers as the valley has directions.

This is the reduction of Lyapunov and Schmidt (Govaerts 2000, section 6.1). All derivatives are
those of a system with borders, in which what is stiff does not appear: `q` itself is curved by its
rounding alone as much as along a valley in which states drift by 1e-7.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._solvers.subproblem import minimise_within
from slowpoints._valleys.floor import Place, ahead, noise, unknown_place
from slowpoints._valleys.shortest_step import flattened, size_of, slopes

N_DIRECTIONS = 6
"""So many directions are followed at most: rings have one, tori and planes two."""

_FLAT = 0.03
"""A direction leads along a valley if `I - J` shortens it to less than this part of what it makes
of others, in the quadratic mean. Others bend with the valley, and steps along them are short."""

_AS_FLAT = 10.0
"""Or to at most so many times what it makes of the flattest, since in a tail all may be flat."""

_TURNS = 3
"""So many times, any directions are multiplied by what `I - J` shortens most."""

RELATIVE_DECREASE = 1e-3
"""At a slow point, a step of Newton's method for the minimum of `q` is predicted to lower `q` by
less than this fraction: a tenth of what 200 steps of another method may lower it by."""

_NEAR = 1e-3
"""A row is next to a floor if that is not farther than half of this part of its size."""

_HORIZON, _LEAST_PART, _SEEN = 0.1, 1 / 64, 0.1
"""`q` is predicted to fall along a floor for at most this part of the state's size; and it falls if
it does so on one of some parts of the way, by at least a tenth of what is predicted there."""


class Reduced(NamedTuple):
    """A place on a valley's floor, and `q` along the floor around it."""

    place: Place
    gradient: Float[Array, " n_directions"]
    curvature: Float[Array, "n_directions n_directions"]

    @property
    def q(self) -> Float[Array, ""]:
        """`q`, or infinity where nothing is known."""
        drift = self.place.drift
        return jnp.where(self.place.is_known, 0.5 * drift @ drift, jnp.inf)

    def is_clear(self, F: Transition) -> Bool[Array, ""]:
        """Return whether `q` is more than rounding."""
        return jnp.linalg.norm(self.place.drift) > noise(F, self.place.x)


def beside_the_floor(F: Transition, u: Array, x: Array, few: Array | bool = False) -> Reduced:
    """Return a state as a place next to a floor. Nothing is known of `q` along it.

    See `flat_directions` for `few`.
    """
    along = flat_directions(slopes(F, x, u), few)
    # Whatever they are, borders with them make `I - J` regular, and lead to those that belong here.
    off = jnp.asarray(_any_directions(x.size, along.shape[1]), x.dtype)
    place = unknown_place(x, along, jnp.where(jnp.any(along != 0, axis=0), off, 0))
    return Reduced(place, place.drift, place.slope)


def reduced_ahead(
    F: Transition, u: Array, at: Reduced, step: Array, least: Array
) -> tuple[Reduced, Array]:
    """Return the place a step ahead, along each direction, and whether it is on the floor."""
    place, fits = ahead(F, u, at.place, step, least)
    return _reduced(F, u, place), fits


def steps_within(at: Reduced, radii: Float[Array, " n"]) -> tuple[Array, Array]:
    """Return the steps to where `q` is predicted to be smallest within radii, and by how much."""
    eigenvalues, basis = lapack.eigh(at.curvature)
    g = basis.T @ at.gradient
    y = minimise_within(eigenvalues[None], g[None], radii[None])[0][0]
    return y @ basis.T, -(y @ g + 0.5 * jnp.square(y) @ eigenvalues)


def falls_along_floor(F: Transition, x: Array, u: Array) -> Array:
    """Return whether a row next to a valley's floor, or on it, can go down along it.

    Next to the floor, a step of Newton's method for the minimum may be short wherever it starts.
    What is predicted has to be seen on a part of the way, since it neglects how stiff directions
    bend, which counts where states drift fast.
    """
    size = size_of(x)

    def look(carry: tuple[Array, Reduced, Array, Array]) -> tuple[Array, Reduced, Array, Array]:
        part, here, _, _ = carry
        begins = part == 0  # with a step onto the floor
        (way,), _ = steps_within(here, _HORIZON * size[None])
        step = jnp.where(begins, 0, part * way)
        there, fits = reduced_ahead(F, u, here, step, _NEAR * size)
        predicted = -(step @ here.gradient + 0.5 * step @ here.curvature @ step)
        falls = ~begins & fits & (here.q - there.q > _SEEN * predicted)
        here = jax.tree.map(lambda a, b: jnp.where(begins, a, b), there, here)
        _, (gain,) = steps_within(here, _HORIZON * size[None])
        promises = (fits | ~begins) & here.is_clear(F) & (gain > RELATIVE_DECREASE * here.q)
        return jnp.where(begins, 1, part / 8), here, promises, falls

    def goes_on(carry: tuple[Array, Reduced, Array, Array]) -> Array:
        part, _, promises, falls = carry
        return promises & ~falls & ((part == 0) | (part >= _LEAST_PART))

    start = jnp.zeros((), x.dtype), beside_the_floor(F, u, x), jnp.array(True), jnp.array(False)
    return jax.lax.while_loop(goes_on, look, varying(start, (F, x, u)))[3]


def flat_directions(
    A: Float[Array, "n_states n_states"], few: Array | bool = False
) -> Float[Array, "n_states n_directions"]:
    """Return the directions that a matrix makes least of, and zero for those that are not flat.

    Args:
        A: `[n_states, n_states]` the matrix.
        few: only those that are flatter by far than the next. Without it, that holds where there
            are more than are followed.
    """
    n = len(A)
    factor, shift = flattened(A)
    k = min(N_DIRECTIONS + 1, n)

    def turned(_: Array, along: Array) -> Array:
        return lapack.basis(shift * lapack.cholesky_solve(factor, along))

    start = varying(jnp.asarray(_any_directions(n, k), A.dtype), A)
    along = jax.lax.fori_loop(0, _TURNS, turned, start)
    squares, turn = lapack.eigh((A @ along).T @ (A @ along))
    mean_square = jnp.sum(jnp.square(A)) / n
    is_flat = squares <= jnp.maximum(_FLAT**2 * mean_square, _AS_FLAT**2 * squares[0])
    # The widest gap among them, with the first that is not flat.
    ratios = squares[1:] / jnp.maximum(squares[:-1], shift * squares[-1])
    ratios = jnp.append(jnp.where(is_flat[:-1], ratios, 0), 0)
    widest = jnp.max(ratios)
    is_below = jnp.max(jnp.where(np.triu(np.ones((k, k))), ratios, 0), axis=1) == widest
    by_gap = (few | (is_flat[-1] & (n > N_DIRECTIONS))) & (widest > _AS_FLAT**2)
    is_flat &= ~by_gap | is_below
    return jnp.where(is_flat, along @ turn, 0)[:, :N_DIRECTIONS]


def _any_directions(n: int, k: int) -> Float[np.ndarray, "n k"]:
    return np.cos(np.arange(1, k + 1) * np.arange(1, n + 1)[:, None] ** 2)


def _reduced(F: Transition, u: Array, place: Place) -> Reduced:
    x, drift, slope, along = place.x, place.drift, place.slope, place.along
    r = place.off @ drift
    bends = _bends(F, u, x, r, along)
    # The floor turns as well, to where `q` is smallest beside it.
    turns = lapack.lu_solve_transposed(
        place.factors, jnp.concatenate([bends, jnp.zeros_like(slope)])
    )[: x.size]
    curvature = slope.T @ slope + along.T @ bends - turns.T @ turns
    return Reduced(place, slope.T @ drift, (curvature + curvature.T) / 2)


def _bends(
    F: Transition,
    u: Array,
    x: Float[Array, " n_states"],
    r: Float[Array, " n_states"],
    along: Float[Array, "n_states n_directions"],
) -> Float[Array, "n_states n_directions"]:
    """Return how `r @ J` changes along directions."""

    def pull(y: Array) -> Array:
        return jax.grad(lambda y: r @ F(y, u).astype(y.dtype))(y)

    # Forwards over backwards, since loops of unknown length go backwards once at most.
    push = jax.linearize(pull, x)[1]
    return jax.vmap(push, in_axes=1, out_axes=1)(along)
