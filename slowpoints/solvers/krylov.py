"""A Krylov method for a batch of linear systems that are known only by their products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gcr(
    matvec: Callable[[Array], Array], b: Float[Array, "lanes d"], n_vectors: int
) -> tuple[Float[Array, "lanes d"], Float[Array, "lanes d"]]:
    """Minimise `||b - A x||` over a Krylov space, for each lane's own `A`.

    The generalised conjugate residual method (Eisenstat, Elman & Schultz 1983): GMRES's iterates
    without its Hessenberg least-squares problem. The images `A p` of the search directions are kept
    orthonormal, so each step lowers every lane's residual, and a lane that has none left rests.

    Args:
        matvec: `[lanes, d] -> [lanes, d]`, the product with every lane's matrix.
        b: `[lanes, d]` the right-hand sides.
        n_vectors: the dimension of the Krylov space.

    Returns:
        `x` and the residual `b - A x`.
    """
    lanes, d = b.shape
    scale = jnp.linalg.norm(b, axis=-1, keepdims=True)
    scale = jnp.where(scale > 0, scale, 1)  # keeps squares in range in float32

    def body(j: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        x, r, P, AP = carry
        p, Ap = r, matvec(r)
        coefficient = jnp.einsum("lkd,ld->lk", AP, Ap)
        Ap = Ap - jnp.einsum("lk,lkd->ld", coefficient, AP)
        p = p - jnp.einsum("lk,lkd->ld", coefficient, P)
        norm = jnp.linalg.norm(Ap, axis=-1, keepdims=True)
        inverse = jnp.where(norm > jnp.finfo(b.dtype).tiny, 1 / norm, 0)
        p, Ap = p * inverse, Ap * inverse
        alpha = jnp.sum(r * Ap, axis=-1, keepdims=True)
        return x + alpha * p, r - alpha * Ap, P.at[:, j].set(p), AP.at[:, j].set(Ap)

    basis = jnp.zeros((lanes, n_vectors, d), b.dtype)
    x, r, *_ = jax.lax.fori_loop(0, n_vectors, body, (jnp.zeros_like(b), b / scale, basis, basis))
    return x * scale, r * scale
