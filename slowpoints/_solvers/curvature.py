"""What Newton's method for a minimum of `q` needs at a state: the residual and all derivatives."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._linear_algebra.loops import varying


def residual_and_curvature(
    F: Callable[[Array, Array], Array],
    x: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
) -> tuple[
    Float[Array, " n_states"],
    Float[Array, " n_states"],
    Float[Array, "n_states n_states"],
    Float[Array, "n_states n_states"],
]:
    """Return `F(x) - x`, minus the gradient of `q`, `I - J`, and the Hessian of `q`.

    Together, so that the network is compiled once.
    """

    def image_and_pull(x: Array) -> tuple[Array, Array]:
        F_x, vjp = jax.vjp(lambda x: F(x, u), x)
        return F_x, vjp(jax.lax.stop_gradient(F_x - x))[0]

    eye = jnp.eye(x.size, dtype=x.dtype)
    (F_x, pull), jvp = jax.linearize(image_and_pull, x)
    J, S = jax.vmap(jvp, out_axes=1)(varying(eye, F_x))
    r, A = F_x - x, eye - J
    return r, r - pull, A, A.T @ A + (S + S.T) / 2
