"""A network as the equations of closed orbits: evaluated by JAX, solved on the host."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._closed_orbits.equations import Equations
from slowpoints._connections.refined_points import enabled
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.units import relative_units, unit_of
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.precision import with_precision
from slowpoints._network.units import InUnits

_SILENT = 2.0**-45
"""Entries of orbits that are smaller than this part of others are rounding of float64."""


def orbit_units(*states: Float[Any, "_ n_states"]) -> Float[np.ndarray, " n_states"]:
    """Return the unit of each entry of the states of orbits, a power of two next to its size."""
    largest = max((float(np.abs(x).max(initial=0)) for x in states), default=0.0)
    return unit_of(largest) * relative_units(*states, silent=_SILENT)


@dataclasses.dataclass(frozen=True)
class NetworkOfOrbits:
    """A network whose closed orbits are looked for.

    Attributes:
        F: the map, or the derivative in time, of states in their units.
        unit: `[n_states]` these units.
        continuous_time: which of the two.
        dtype: the precision in which it is evaluated.
    """

    F: Transition
    unit: Float[np.ndarray, " n_states"]
    continuous_time: bool
    dtype: Any

    @classmethod
    def of(cls, F: Transition, unit: Float[np.ndarray, " d"], dtype: Any) -> "NetworkOfOrbits":
        """Return it for states in these units."""
        with enabled(dtype):
            inner = with_precision(InUnits(linearised_part(F), unit), dtype)
        return cls(inner, unit, isinstance(F, ContinuousTime), dtype)

    def at(self, u: Float[np.ndarray, " n_inputs"]) -> Equations:
        """Return the equations of orbits under a constant input."""

        def evaluated(program: Callable[..., Any]) -> Any:
            return lambda x: self._evaluated(program, x, u)

        return Equations(evaluated(_values), evaluated(_slopes), self.continuous_time)

    def by_input(
        self, x: Float[np.ndarray, "n d"], u: Float[np.ndarray, " n_inputs"]
    ) -> Float[np.ndarray, "n d n_inputs"]:
        """Return the derivatives of the equations' values by the input."""
        return self._evaluated(_slopes_by_input, x, u)

    def _evaluated(self, program: Callable[..., Any], x: Any, u: Any) -> Any:
        with enabled(self.dtype):
            arrays = jnp.asarray(x, self.dtype), jnp.asarray(u, self.dtype)
            return np.asarray(program(self.F, *arrays), np.float64)


@CompiledOnce
def _values(F: Transition, x: Float[Array, "n d"], u: Float[Array, " m"]) -> Float[Array, "n d"]:
    return jax.vmap(lambda x: F(x, u).astype(x.dtype))(x)


@CompiledOnce
def _slopes(F: Transition, x: Float[Array, "n d"], u: Float[Array, " m"]) -> Float[Array, "n d d"]:
    return jax.vmap(jax.jacfwd(lambda x: F(x, u).astype(x.dtype)))(x)


@CompiledOnce
def _slopes_by_input(
    F: Transition, x: Float[Array, "n d"], u: Float[Array, " m"]
) -> Float[Array, "n d m"]:
    return jax.vmap(jax.jacfwd(lambda x, u: F(x, u).astype(x.dtype), argnums=1), (0, None))(x, u)
