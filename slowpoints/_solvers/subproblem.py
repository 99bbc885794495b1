"""The trust-region problem in few dimensions, solved exactly for many rows and radii at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SECULAR_STEPS = 12
"""Newton's method on the secular equation converges monotonically, and quadratically in the end;
what still exceeds the radius after this many steps is cut off."""


def minimise_within(
    eigenvalues: Float[Array, "lanes m"],
    gradient: Float[Array, "lanes m"],
    radii: Float[Array, "lanes tries"],
) -> tuple[Float[Array, "lanes tries m"], Float[Array, "lanes tries"]]:
    """Minimise `g y + y B y / 2` within `||y|| <= radius`, for each lane's own `B` and radii.

    If the minimum is at the edge, it is `y = -(B + shift I)^-1 g`. Its length equals the radius for
    the `shift` that is the root of the secular equation (Conn, Gould & Toint 2000, ch. 7.3).

    Args:
        eigenvalues: `[lanes, m]` the eigenvalues of `B`, in rising order.
        gradient: `[lanes, m]` `g` in the basis of `B`'s eigenvectors.
        radii: `[lanes, tries]` the radii.

    Returns:
        `y` in that basis, and the shifts, which are zero if the minimum is inside.
    """
    largest = jnp.max(jnp.abs(eigenvalues), axis=-1, keepdims=True)
    tiny = jnp.finfo(eigenvalues.dtype).eps * largest + jnp.finfo(eigenvalues.dtype).tiny
    lowest = eigenvalues[:, :1]
    least = jnp.maximum(tiny - lowest, 0)  # so that B + shift I is positive definite
    least = jnp.broadcast_to(least, radii.shape)
    w, g = eigenvalues[:, None, :], gradient[:, None, :]

    def squares(shift: Array) -> tuple[Array, Array]:
        """Return `||y||^2` and `y (B + shift I)^-1 y`."""
        inverse = 1 / (w + shift[:, :, None])
        y = g * inverse
        return jnp.sum(jnp.square(y), axis=-1), jnp.sum(jnp.square(y) * inverse, axis=-1)

    def body(_: Array, shift: Array) -> Array:
        square, weighted = squares(shift)
        length = jnp.sqrt(square)
        step = square / jnp.maximum(weighted, jnp.finfo(w.dtype).tiny) * (length - radii) / radii
        return jnp.maximum(shift + jnp.maximum(step, 0), least)

    shift = jax.lax.fori_loop(0, _SECULAR_STEPS, body, least)
    y = -g / (w + shift[:, :, None])
    length = jnp.linalg.norm(y, axis=-1)
    y = y * jnp.minimum(1, radii / jnp.maximum(length, jnp.finfo(w.dtype).tiny))[:, :, None]
    return y, shift
