"""Whether a row of a large network is in a tail, where `q` falls without end and no point is.

`x' = x + exp(-x)` has a tail, as have saturating units that hold their own state. Far out, a state
in a tail looks like one on a line of fixed points: `q` is low, and `I - J` takes one direction
nearly to zero. What tells them apart is how `q` changes along that direction. In a tail it rises
steadily on the way back to the start, and does not rise ahead. Along a curve of fixed points it
stays as low as it is; at a degenerate point, or a ghost, it rises on both sides.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._linear_algebra.krylov import gcr
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition

FLAT = 1e-2
"""A direction is flat if `I - J` shortens it to less than this fraction. In the tail of `exp`, that
fraction is the residual itself, which is at most 1.4e-4 where `q` is low enough to be in one."""

RISEN = 1e3
"""On the way back through a tail, the residual grows by this factor at least. Along a line that is
flat but for the rounding of weights, it grows in proportion to the distance, by up to 100, since
Newton's step is at least 1e-2 of the state's size there, or there is a point."""

STEADY = 10.0
"""Before it has risen, the residual is at one of the places at least so many times that of the row.
Where a curve could not be followed, it is larger by far at once."""

_BEHIND = (*(1.6**-k for k in range(7, 0, -1)), 0.8, 0.9, 0.97, 1.0)
"""Where the residual is looked at on the way back, as parts of the way. In tails of `exp` it rises
steadily at the first ones, and in those of `1 / x**2` at the last ones."""

_AHEAD = (-0.1, -0.3, -1.0)
_N_VECTORS = 24
_TURNS = 3
_CORRECTIONS = 2

VECTORS = 2 * _N_VECTORS + 10
"""How many vectors of `n_states` a row holds meanwhile."""


def is_in_a_tail(
    F: Transition,
    x: Float[Array, "lanes n_states"],
    x_init: Float[Array, "lanes n_states"],
    u: Float[Array, "lanes n_inputs"],
) -> Bool[Array, " lanes"]:
    """Return whether each row came from its start through a tail, and is in it.

    It takes products with the Jacobian only. `False` means that this could not be shown.
    """
    way = x - x_init

    def residual(y: Array) -> Array:
        return jax.vmap(F)(y, u).astype(y.dtype) - y

    # The direction turns to the flattest one near the way; then the places along it are corrected
    # for the bends of a curve, each from the one before. It is one loop, to be compiled once.
    def body(carry: tuple[Array, Array], what: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
        (flat, beside), (part, turns, starts) = carry, what
        along = jnp.sum(flat * way, axis=-1, keepdims=True)
        beside = jnp.where(starts, 0, beside)
        r, product = jax.linearize(residual, x - part * along * flat + beside)
        flattened = product(flat)
        d = _step_beside(product, flat, jnp.where(turns, flattened, r))
        flat = jnp.where(turns, _unit(flat + d), flat)
        beside = jnp.where(turns, beside, beside + d)
        return (flat, beside), (jnp.linalg.norm(r, axis=-1), jnp.linalg.norm(flattened, axis=-1))

    places = np.array((0.0, *_BEHIND, *_AHEAD))
    parts = np.append(np.zeros(_TURNS), np.repeat(places, _CORRECTIONS + 1))
    turns = np.arange(parts.size) < _TURNS
    starts = (parts == _AHEAD[0]) & (np.roll(parts, 1) != _AHEAD[0])
    steps = jnp.asarray(parts, x.dtype), jnp.asarray(turns), jnp.asarray(starts)
    carry = varying((_unit(way), jnp.zeros_like(x)), (F, x, x_init, u))
    _, (lengths, shortened) = jax.lax.scan(body, carry, steps)

    found = lengths[_TURNS:].reshape(places.size, _CORRECTIONS + 1, -1)[:, -1]
    # The state's own rounding leaves it beside a curve, which is no residual along it.
    rounding = 100 * jnp.finfo(x.dtype).eps * (1 + jnp.linalg.norm(x, axis=-1))
    times = found[1:] / jnp.maximum(found[0], rounding)
    behind, ahead = times[: len(_BEHIND)], times[len(_BEHIND) :]
    steady = jnp.any((behind >= STEADY) & (behind < RISEN), axis=0)
    rises = jnp.any(behind >= RISEN, axis=0) & jnp.all(ahead < STEADY, axis=0)
    return (shortened[_TURNS] <= FLAT) & steady & rises


def _step_beside(
    product: Callable[[Array], Array],
    flat: Float[Array, "lanes n_states"],
    r: Float[Array, "lanes n_states"],
) -> Float[Array, "lanes n_states"]:
    """Return Newton's step within the states beside a direction: `(I - J) d` is `r` but for it.

    `I - J` is replaced on that direction, which it takes nearly to zero, by the identity. Where the
    step is so long that it is along another flat direction, it is zero.

    Args:
        product: multiplies `J - I` with a vector for each row.
        flat: unit vectors along the direction.
        r: what is to be solved for.
    """

    def beside(p: Array) -> Array:
        return p - jnp.sum(flat * p, axis=-1, keepdims=True) * flat

    d, _ = gcr(lambda p: (p - beside(p)) - product(beside(p)), r, min(_N_VECTORS, r.shape[-1]))
    d = beside(d)
    is_short = FLAT * jnp.linalg.norm(d, axis=-1) <= jnp.linalg.norm(r, axis=-1)  # no NaN is
    return jnp.where(is_short[:, None], d, 0)


def _unit(a: Float[Array, "lanes n_states"]) -> Float[Array, "lanes n_states"]:
    size = jnp.linalg.norm(a, axis=-1, keepdims=True)
    return a / jnp.where(size > 0, size, 1)
