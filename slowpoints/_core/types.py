"""Names for the types that signatures share."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Real

RealArray = jax.Array | np.ndarray
"""An array of JAX or NumPy; the core accepts both and returns JAX arrays."""

Number = float | int | np.floating | np.integer
"""A setting that is a real number, however it is written."""

Scalar = Number | Real[RealArray, ""]
"""A `Number`, or one that may be traced."""

TransitionLike = Callable[[jax.Array, jax.Array], jax.Array]
"""Any `F(x: [n_states], u: [n_inputs]) -> [n_states]`, the network's next state."""
