"""`decompose`: eigenvalues, eigenvectors and stability."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from slowpoints.fixed_points import FixedPoints


def decompose(fps: FixedPoints) -> FixedPoints:
    """Fill the eigenvalues and right eigenvectors of the Jacobians, and the points' stability.

    Args:
        fps: points with `J_xstar`.

    Returns:
        `fps` with `eigval_J_xstar` `[n, n_states]`, by falling magnitude, `eigvec_J_xstar`
        `[n, n_states, n_states]`, right eigenvectors of norm 1 in columns of the same order, and
        `is_stable` `[n]`, whether the largest `|eigenvalue|` is below 1. A row whose Jacobian is
        not finite gets NaN and counts as unstable.

    Raises:
        ValueError: if `fps` has no Jacobians.
    """
    if fps.J_xstar is None:
        raise ValueError("decompose: `fps.J_xstar` is None; call `jacobians(F, fps)` first.")
    values, vectors = _sorted_eig(jnp.asarray(fps.J_xstar))
    is_stable = jnp.max(jnp.abs(values), axis=1, initial=0) < 1
    return fps.replace(eigval_J_xstar=values, eigvec_J_xstar=vectors, is_stable=is_stable)


@jax.jit
def _sorted_eig(
    J: Float[Array, "n d d"],
) -> tuple[Complex[Array, "n d"], Complex[Array, "n d d"]]:
    # LAPACK may not return from a matrix that is not finite.
    finite = jnp.all(jnp.isfinite(J), axis=(1, 2))
    values, vectors = jnp.linalg.eig(jnp.where(finite[:, None, None], J, 0))
    order = jnp.argsort(-jnp.abs(values), axis=1, stable=True)
    values = jnp.take_along_axis(values, order, axis=1)
    vectors = jnp.take_along_axis(vectors, order[:, None, :], axis=2)
    values = jnp.where(finite[:, None], values, jnp.nan)
    return values, jnp.where(finite[:, None, None], vectors, jnp.nan)
