"""The precision that a network computes in: casts, and checks whether float64 is possible."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._transition.base import ARRAYS, Transition, shape_of_step


def evaluates_in(F: Transition, x: Array, u: Array, dtype: Any) -> bool:
    """Return whether `F` maps states of `dtype` to such or finer ones, without computing any.

    A model that insists on one precision may refuse another with any kind of error. The search is
    then only as precise as the model.
    """
    try:
        out = shape_of_step(F, x.shape[1], u.shape[1], dtype, weights_too=True)
    except Exception:  # the user's code may raise any error, see above
        return False
    return jnp.finfo(out.dtype).bits >= jnp.finfo(dtype).bits


def low_precision(F: Transition, x: Array, u: Array, dtype: Any) -> Any:
    """Return `dtype`, or that of `x` if the model refuses it."""
    return dtype if evaluates_in(F, x, u, dtype) else x.dtype


def computes_in_float64(
    F: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> bool:
    """Return whether `F` computes in float64, and with x64 enabled also in the type of `x`."""
    with jax.enable_x64(True):
        return all(evaluates_in(F, x, u, dtype) for dtype in {x.dtype, np.dtype(np.float64)})


def with_precision(F: Transition, dtype: Any) -> Transition:
    """Return `F` with its real-valued leaves cast to `dtype`."""

    def cast(leaf: Any) -> Any:
        # Keys and integers (such as a counter) are not parameters, and keep their type.
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf, dtype) if real else leaf

    return jax.tree.map(cast, F)


def without_half_precision(F: Transition) -> Transition:
    """Return `F` with those leaves cast to float32 that are coarser than that.

    Otherwise, sums and products of such leaves alone would be rounded to half precision, whatever
    the precision of the state.
    """

    def is_half(leaf: Any) -> bool:
        real = isinstance(leaf, ARRAYS) and jnp.issubdtype(leaf.dtype, np.floating)
        return real and jnp.finfo(leaf.dtype).bits < 32

    if not any(map(is_half, jax.tree.leaves(F))):
        return F
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float32) if is_half(leaf) else leaf, F)
