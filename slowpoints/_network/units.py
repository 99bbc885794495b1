"""Networks whose states are given in other units."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.flow import Flow, flows_in


class InUnits(Transition):
    """A map of states in units of `unit`: `y` stands for the state `x = unit * y`.

    Attributes:
        F: the map of the states `x`.
        unit: a power of two, by which numbers are multiplied without rounding, or one for each
            entry of the state.
    """

    F: Transition
    unit: Float[RealArray, ""] | Float[RealArray, " n_states"]

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows, in the same units."""
        unit = jnp.asarray(self.unit, x.dtype)
        return self.F(unit * x, u).astype(x.dtype) / unit


def in_units(F: Transition, unit: Any) -> Transition:
    """Return a network of states in units of `unit`; one in continuous time remains one."""
    if isinstance(F, ContinuousTime):
        return ContinuousTime(InUnits(F.f, unit))
    if isinstance(F, Flow):
        atol = None if F.atol is None else F.atol / unit
        return dataclasses.replace(F, f=InUnits(F.f, unit), atol=atol)
    return InUnits(F, unit)


def errors_of_flows(F: Transition, x: Float[RealArray, "*n n_states"]) -> Any:
    """Return how long the error after each `x` may be by flows in `F`, in the largest unit."""
    if isinstance(F, InUnits):
        return errors_of_flows(F.F, F.unit * x) / F.unit.max()
    return sum(flow.error(x) for flow in flows_in(F))
