"""Whether a network can be evaluated in float64, whatever the global setting."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._transition.base import Transition, shape_of_step


def evaluates_in(F: Transition, x: Array, u: Array, dtype: Any) -> bool:
    """Return whether `F` gives states of `dtype` or finer for such states, without computing any.

    A model that insists on one precision may refuse another in any way of its own. The search is
    then as precise as the model.
    """
    try:
        out = shape_of_step(F, x.shape[1], u.shape[1], dtype, weights_too=True)
    except Exception:  # of the user's code, see above
        return False
    return jnp.finfo(out.dtype).bits >= jnp.finfo(dtype).bits


def low_precision(F: Transition, x: Array, u: Array, dtype: Any) -> Any:
    """Return `dtype`, or that of `x` if the model refuses it."""
    return dtype if evaluates_in(F, x, u, dtype) else x.dtype


def computes_in_float64(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> bool:
    """Return whether `F` computes in float64, and there still runs in `x`'s own type."""
    with jax.enable_x64(True):
        return all(evaluates_in(F, x, u, dtype) for dtype in {x.dtype, np.dtype(np.float64)})
