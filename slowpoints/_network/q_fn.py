"""The speed `q` of a state, the function whose zeros and minima are fixed and slow points."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.types import RealArray, TransitionLike
from slowpoints._network.base import Transition
from slowpoints._network.precision import without_half_precision


def q_fn(
    F: TransitionLike, x: Float[RealArray, "*#b n_states"], u: Float[RealArray, "*#b n_inputs"]
) -> Float[Array, "*b"]:
    """Return the speed `q(x, u) = 0.5 * ||x - F(x, u)||^2` (Sussillo & Barak 2013).

    Args:
        F: the transition function.
        x: `[..., n_states]` states.
        u: `[..., n_inputs]` inputs. The leading axes of `x` and `u` broadcast.

    Returns:
        `[...]` the speed at each state, which is zero at a fixed point, and a positive local
        minimum at a slow point.

    Raises:
        TypeError: if `x` or `u` does not hold real numbers.
        ValueError: if one of them is a single number.
    """
    if not callable(F):
        expected = "a function F(x, u) -> next x"
        arguments.refuse("q_fn", "F", arguments.found(F), expected, TypeError)
    x, u = (
        arguments.as_array("q_fn", name, value, floating=False, expected="real numbers")
        for name, value in (("x", x), ("u", u))
    )
    for name, value, axes in (("x", x, "(..., n_states)"), ("u", u, "(..., n_inputs)")):
        if np.ndim(value) == 0:
            arguments.refuse("q_fn", name, "has shape ()", axes, ValueError)

    F = without_half_precision(F) if isinstance(F, Transition) else F

    def q(x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]) -> Float[Array, ""]:
        return half_squared_norm(x - F(x, u))

    return jnp.vectorize(q, signature="(n),(m)->()")(x, u)


def half_squared_norm(r: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """Return `0.5 * ||r||^2` along the last axis."""
    return 0.5 * jnp.sum(jnp.square(r), axis=-1)
