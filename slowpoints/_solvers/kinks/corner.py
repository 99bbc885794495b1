"""A corner, where kinks meet that hold a row: what a step along them has to know."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import of_first_rows
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.curvature import residual_and_curvature
from slowpoints._solvers.kinks.sides import Sides

_PARALLEL = 1e-9
"""Kinks are one and the same if the cosine of their normals differs from one by less than this, as
those of the two parts of `relu(x) - 0.1 * relu(-x)`."""

_DEPENDENT = 1e-7
"""A kink is redundant if no more than this part of its normal is outside the span of the others."""

_TORN = 1e-5
"""Of the state's size: the network jumps at a corner if next states on two sides of a kink differ
there by more than this, for which rounding is too small."""

_AT_A_TIME = 8
"""The gradients at so many kinks are computed at a time, since a network may have very many."""

_SPARE = 16
"""There is room for so many more kinks than there are states: some may be one and the same."""

NO_KINK = int(np.iinfo(np.int32).max)
"""What stands in the place of a kink where there is none."""


class Held(NamedTuple):
    """The kinks that hold a row."""

    kink: Int[Array, "*lanes n_slots"]  # by its place among all of the network's, or `NO_KINK`
    upper: Bool[Array, "*lanes n_slots"]  # the side on which the network is taken to be

    @classmethod
    def none(cls, x: Float[Array, "*lanes n_states"]) -> "Held":
        """Return that no kink holds rows, with room for as many as may meet."""
        shape = (*x.shape[:-1], x.shape[-1] + _SPARE)
        return cls(jnp.full(shape, NO_KINK, np.int32), jnp.zeros(shape, bool))

    @property
    def holds(self) -> Bool[Array, "*lanes n_slots"]:
        """Which slots are in use."""
        return self.kink != NO_KINK

    def without(self, dropped: Bool[Array, "*lanes n_slots"]) -> "Held":
        """Return what holds rows without some of the kinks."""
        return self._replace(kink=jnp.where(dropped, NO_KINK, self.kink))

    def sides(self, natural: Bool[Array, " n_kinks"]) -> Bool[Array, " n_kinks"]:
        """Return the sides of all kinks, given on which sides the row is."""
        return natural.at[self.kink].set(self.upper, mode="drop")


class Corner(NamedTuple):
    """A place where kinks hold a row, and what there is on the sides on which it is taken to be.

    If several kinks are one and the same, the first of them leads, and the others do as it does.
    Those that lead come first.
    """

    held: Held
    leads: Bool[Array, " n_states"]
    redundant: Bool[Array, " n_slots"]  # whether it holds the row without a normal of its own
    basis: Float[Array, "n_states n_states"]  # of the normals of those that lead, in columns
    factor: Float[Array, "n_states n_states"]  # triangular: these are `basis @ factor`
    is_torn: Bool[Array, ""]  # whether the network itself jumps
    across: Float[Array, " n_states"]  # the shortest step to all kinks
    r: Float[Array, " n_states"]
    descent: Float[Array, " n_states"]  # minus the gradient of `q`
    hessian: Float[Array, "n_states n_states"]

    @property
    def q(self) -> Float[Array, ""]:
        """Half the squared speed."""
        return half_squared_norm(self.r)

    def along(self, v: Float[Array, "n_states *k"]) -> Float[Array, "n_states *k"]:
        """Return what vectors, in columns, have along the kinks."""
        return v - self.basis @ (self.basis.T @ v)

    def ways_off(self) -> Float[Array, "n_states n_states"]:
        """Return the ways to a distance of 1 from one kink, along all others, in rows."""
        return lapack.solve_triangular(self.factor, self.basis.T)


def corner_at(
    kinks: Sides, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"], held: Held
) -> Corner:
    """Return the corner at `x`."""
    natural = kinks.natural(x, u)

    def distances_from(x: Array) -> Array:
        distances = kinks.step(x, u, held.sides(natural))[1]
        return distances.at[held.kink].get(mode="fill", fill_value=0)

    distances, pull = jax.vjp(distances_from, x)
    eye = jnp.eye(held.kink.size, dtype=x.dtype)
    n_known = jnp.sum(held.kink != NO_KINK, dtype=np.int32)
    (normals,) = of_first_rows(jax.vmap(pull), n_known, (eye,), _AT_A_TIME)
    held, leads, leader, redundant, order = _in_groups(held, normals)
    distances, normals = distances[order], normals[order]
    redundant |= (leader >= x.size) | jnp.pad(leads[x.size :], (x.size, 0))
    leads = leads[: x.size]

    of_leads = jnp.where(leads[:, None], normals[: x.size], 0)
    lengths = jnp.linalg.norm(of_leads, axis=1)
    basis = jnp.where(leads, lapack.basis(of_leads.T), 0)
    factor = jnp.where(leads, jnp.triu(basis.T @ of_leads.T), 0)
    dependent = leads & (jnp.abs(jnp.diag(factor)) <= _DEPENDENT * lengths)
    factor += jnp.diag(~leads | dependent).astype(x.dtype)

    def next_state(x: Array, u: Array) -> Array:
        return kinks.step(x, u, held.sides(natural))[0]

    r, descent, _, hessian = residual_and_curvature(next_state, x, u)

    across = -basis @ lapack.solve_transposed_triangular(
        factor, jnp.where(leads, distances[: x.size], 0)
    )

    def beyond(slot: Array) -> Array:
        """Return the next state of the corner, on the other side of one of its kinks."""
        other = held._replace(upper=held.upper ^ (leader == slot))
        return kinks.step(x + across, u, other.sides(natural))[0]

    none = jnp.full(1, NO_KINK, np.int32)
    slots = jnp.concatenate([none, jnp.arange(x.size, dtype=np.int32)])
    n_slots = 1 + jnp.sum(leads, dtype=np.int32)
    there = of_first_rows(jax.vmap(beyond), n_slots, (slots,), _AT_A_TIME)
    gaps = jnp.linalg.norm(there[1:] - there[0], axis=1)
    is_torn = jnp.any(leads & (gaps > _TORN * (1 + jnp.linalg.norm(x))))
    redundant = redundant.at[: x.size].max(dependent)
    return Corner(held, leads, redundant, basis, factor, is_torn, across, r, descent, hessian)


def _in_groups(
    held: Held, normals: Float[Array, "n_slots n_states"]
) -> tuple[Held, Array, Array, Array, Array]:
    """Return the kinks in order, which lead, who leads each, which have no normal, and the order.

    Those that are led are taken to be on the same side as the one that leads.
    """
    lengths = jnp.linalg.norm(normals, axis=1)
    redundant = held.holds & (lengths == 0)
    holds = held.holds & ~redundant
    units = jnp.where(holds, 1 / jnp.where(holds, lengths, 1), 0)[:, None] * normals
    cosines = units @ units.T
    is_same = jnp.abs(cosines) > 1 - _PARALLEL
    leads = holds & (first(is_same) == jnp.arange(len(holds)))
    order = jax.lax.top_k(leads.astype(np.int32), len(leads))[1]

    held, leads, redundant, holds = jax.tree.map(
        lambda a: a[order], (held, leads, redundant, holds)
    )
    cosines, is_same = (a[order][:, order] for a in (cosines, is_same))
    leader = jnp.where(holds, first(is_same), -1)
    same_way = cosines[jnp.arange(len(holds)), leader] > 0
    upper = jnp.where(holds, held.upper[leader] == same_way, held.upper)
    return held._replace(upper=upper), leads, leader, redundant, order


def first(mask: Bool[Array, "*n m"]) -> Int[Array, "*n"]:
    """Return the first place, along the last axis, at which a mask holds."""
    # `argmax` of numbers cannot be lowered in float64 inside another `jit`.
    return jax.lax.argmax(mask, mask.ndim - 1, np.int32)
