"""In what units to measure the states of a network, so that steps and thresholds mean the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.arrays import in_chunks
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.units import unit_of
from slowpoints._network.base import Transition

_PROBES = 2.0 ** np.arange(-64, 64, 2)
"""How far from a state the network is looked at."""

_BENT = 0.2
"""A network bends where its derivative has changed by this part."""

_FAR_APART = 2.0**12
"""States share a unit if their sizes, in order, differ by less than this factor from one to the
next: most of those that are small are so at the given points only."""

_BESIDE_ZERO, _OFF = 2.0**-20, 0.1
"""A state that is smaller than the largest one by the first factor, and off its own rest by the
second part of itself, is that of a silent unit, which a search has left beside 0."""

_AT_A_TIME = 16
"""The number of given points that are looked at together, so that any number takes one program."""

_DIRECTIONS = 4
"""So many random vectors tell the size of a Jacobian to within a factor of two."""

_ROUNDS = 3
"""So often is the network looked at, each time in the units found before: the first time, a state
whose unit is far larger than those of the others hardly moves where these already bend."""


def state_units(
    f: Transition,
    is_flow: bool,
    x: Float[np.ndarray, "n d"],
    s: Float[np.ndarray, "n 1"],
    span: tuple[float, float],
) -> Float[np.ndarray, " d"]:
    """Return a power of two for each unit, about as large as its states are.

    They are those of the given points, or of the network's next states (for a flow, of what it is
    given) at the nearest distance from the first point where it bends, if these are larger: a point
    may be the origin.

    Args:
        f: the transition, or the `f` of a flow.
        is_flow: whether it is that.
        x: states, finite.
        s: the parameter at each.
        span: its ends.
    """
    sizes = _sizes_given(f, is_flow, x, s)
    for _ in range(_ROUNDS if len(x) else 0):
        found = _sizes_at_bends(f, is_flow, x[0], s[0], np.asarray(span), _filled_up(sizes))
        sizes = np.maximum(sizes, found)
    return _shared(_filled_up(sizes)).astype(x.dtype)


def rate_unit(
    f: Transition, x: Float[np.ndarray, "n d"], s: Float[np.ndarray, "n 1"]
) -> Float[np.ndarray, ""]:
    """Return a power of two, about as large as the rates at which small changes grow or decay.

    It is the root mean square of the Jacobian's singular values, as its products with a few random
    vectors tell it, at the point where that is largest.

    Args:
        f: the `f` of a flow, of states in their units.
        x: states, in these units.
        s: the parameter at each.
    """
    if len(x) == 0:
        return np.ones((), x.dtype)
    along = np.random.default_rng(0).standard_normal((_DIRECTIONS, x.shape[1]))
    along = jnp.asarray(along / np.linalg.norm(along, axis=1, keepdims=True), x.dtype)
    given = jnp.asarray(x), jnp.asarray(s, x.dtype)
    slopes = np.asarray(in_chunks(_slopes_along, (f, along), _AT_A_TIME, *given), np.float64)
    sizes = np.sqrt(np.mean(np.sum(slopes**2, axis=2), axis=1))
    return unit_of(float(sizes[np.isfinite(sizes)].max(initial=0))).astype(x.dtype)


@CompiledOnce
def _slopes_along(f_and_along: tuple[Transition, Array], x: Array, s: Array) -> Array:
    """Return the Jacobian's products with the vectors, at each state."""
    f, along = f_and_along

    def one(x: Array, s: Array) -> Array:
        product = jax.linearize(lambda x: f(x, s).astype(x.dtype), x)[1]
        return jax.vmap(product)(along)

    return jax.vmap(one)(x, s)


def _sizes_given(
    f: Transition, is_flow: bool, x: Float[np.ndarray, "n d"], s: Float[np.ndarray, "n 1"]
) -> Float[np.ndarray, " d"]:
    """Return the largest size of each state, without those that only say how a 0 was rounded."""
    sizes = np.abs(x)
    small = (sizes > 0) & (sizes <= _BESIDE_ZERO * sizes.max(initial=0))
    if small.any():
        given = jnp.asarray(x), jnp.asarray(s, x.dtype)
        image, slope = map(np.asarray, in_chunks(_own_slopes, f, _AT_A_TIME, *given))
        with np.errstate(all="ignore"):
            step = image / -slope if is_flow else (image - x) / (1 - slope)
        sizes = np.where(small & (np.abs(step) > _OFF * sizes), 0, sizes)
    return sizes.max(axis=0, initial=0)


@CompiledOnce
def _own_slopes(f: Transition, x: Array, s: Array) -> tuple[Array, Array]:
    """Return the images of states, and the derivative of each entry by itself."""

    def one(x: Array, s: Array) -> tuple[Array, Array]:
        slopes = jax.jacfwd(lambda x: f(x, s).astype(x.dtype))(x)
        return f(x, s).astype(x.dtype), jnp.diagonal(slopes)

    return jax.vmap(one)(x, s)


def _shared(sizes: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Return one unit for all states whose sizes are not far apart, that of the largest of them."""
    order = np.argsort(sizes)[::-1]
    units = np.empty(len(sizes))
    for i, before in zip(order, np.concatenate([order[:1], order]), strict=False):
        is_near = i != before and sizes[i] * _FAR_APART >= sizes[before]
        units[i] = units[before] if is_near else unit_of(float(sizes[i]))
    return units


def _filled_up(sizes: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Return sizes in which those that are 0 are the largest, or 1 if all are 0."""
    return np.where(sizes > 0, sizes, sizes.max(initial=0) or 1).astype(sizes.dtype)


def _sizes_at_bends(
    f: Transition,
    is_flow: bool,
    x: Float[np.ndarray, " d"],
    s: Float[np.ndarray, " 1"],
    span: Float[np.ndarray, " 2"],
    sizes: Float[np.ndarray, " d"],
) -> Float[np.ndarray, " d"]:
    """Return how far each unit moves where it first bends, on a way with these proportions.

    A derivative of 0 bends where it is no longer small compared to that of the state itself; for a
    flow, where it has made as much of a difference as the parameter does.
    """
    signs = np.random.default_rng(0).choice([-1, 1], x.size)
    away = (signs * sizes).astype(x.dtype)
    args = (jnp.asarray(part, x.dtype) for part in (x, s, span, away, _PROBES))
    slope, moved, slopes, by_span = (np.asarray(part) for part in _probed(f, *args))
    with np.errstate(all="ignore"):
        other = np.abs(by_span) / _PROBES[:, None] if is_flow else sizes
        least = _BENT * np.maximum(np.maximum(np.abs(slope), np.abs(slopes)), other)
        bends = np.abs(slopes - slope) > least
    first = bends.argmax(axis=0)
    seen = _PROBES[first] * sizes if is_flow else np.abs(moved[first, np.arange(x.size)])
    return np.where(bends.any(axis=0) & np.isfinite(seen), seen, 0)


@CompiledOnce
def _probed(
    f: Transition, x: Array, s: Array, span: Array, away: Array, probes: Array
) -> tuple[Array, Array, Array, Array]:
    """Return the derivative along `away`, how far the image moves, and the derivatives there.

    And how far it moves from the one end of the span to the other.
    """

    def at(distance: Array) -> Any:
        return jax.jvp(lambda x: f(x, s).astype(x.dtype), (x + distance * away,), (away,))

    image, slope = at(jnp.zeros((), x.dtype))
    images, slopes = jax.vmap(at)(probes)
    by_span = f(x, span[1:]) - f(x, span[:1])
    return slope, images - image, slopes, by_span.astype(x.dtype)
