"""`InUnits`: a network whose states are given in other units, so that thresholds mean the same."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.types import RealArray
from slowpoints._transition.base import Transition


class InUnits(Transition):
    """A map of states in units of `unit`: `y` stands for the state `x = unit * y`.

    Attributes:
        F: the map of the states `x`.
        unit: a power of two, by which numbers are multiplied without rounding; or one for each
            state.
    """

    F: Transition
    unit: Float[RealArray, ""] | Float[RealArray, " n_states"]

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows, in the same units."""
        unit = jnp.asarray(self.unit, x.dtype)
        return self.F(unit * x, u).astype(x.dtype) / unit


def unit_of(size: float) -> Float[np.ndarray, ""]:
    """Return the power of two next to a size, or 1 if it is zero or not finite."""
    if not (0 < size < math.inf):
        return np.array(1.0)
    return np.array(2.0 ** round(min(max(math.log2(size), -1000), 1000)))
