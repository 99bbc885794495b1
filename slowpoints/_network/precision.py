"""The precision that a network computes in: casts, and checks whether float64 is possible."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.arrays import beside, is_on_host
from slowpoints._network.base import ARRAYS, Transition
from slowpoints._network.network import finest


def computes_in_float64(F: Transition) -> bool:
    """Return whether `F` can be computed in float64.

    A network that calls code outside of JAX is only as precise as that code.
    """
    limit = finest(F)
    return limit is None or limit == np.float64


def with_precision(F: Transition, dtype: Any) -> Transition:
    """Return `F` with its real-valued leaves cast to `dtype`."""

    def cast(leaf: Any) -> Any:
        # Keys and integers (such as a counter) are not parameters, and keep their type.
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, np.floating)
        if not real:
            return leaf
        if is_on_host(leaf):  # where nothing is compiled for it
            return beside(np.asarray(leaf, dtype), leaf)
        return jnp.asarray(leaf, dtype)

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


class Rounded(Transition):
    """A network whose next state has the precision of the state, whatever it computes in."""

    F: Transition

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        return self.F(x, u).astype(x.dtype)
