"""Whether a network can be evaluated in float64, whatever the global setting."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from slowpoints.transition import Transition, with_precision


def computes_in_float64(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> bool:
    """Return whether `F` gives float64 states for float64 states, and still runs in `x`'s type.

    Nothing is computed.
    """
    with jax.enable_x64(True):
        for dtype in (x.dtype, np.float64):
            shapes = (jax.ShapeDtypeStruct(a.shape[1:], dtype) for a in (x, u))
            try:
                out = eqx.filter_eval_shape(with_precision(F, dtype), *shapes)
            except Exception:
                # A model that insists on one precision may refuse another in any way of its own.
                # The search is then as precise as the model.
                return False
    return out.dtype == np.float64
