"""Krylov methods for a batch of linear systems that are known only by their products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._linear_algebra.loops import varying


def gcr(
    matvec: Callable[[Array], Array], b: Float[Array, "lanes d"], n_vectors: int
) -> tuple[Float[Array, "lanes d"], Float[Array, "lanes d"]]:
    """Minimise `||b - A x||` over a Krylov space, for each lane's own `A`.

    The generalised conjugate residual method (Eisenstat, Elman & Schultz 1983): GMRES's iterates
    without its Hessenberg least-squares problem. The images `A p` of the search directions are kept
    orthonormal, so each step lowers every lane's residual, and a lane with no residual left stays
    as it is.

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
    start = varying((jnp.zeros_like(b), b / scale, basis, basis), matvec(b))
    x, r, *_ = jax.lax.fori_loop(0, n_vectors, body, start)
    return x * scale, r * scale


def arnoldi(
    matvec: Callable[[Array], Array], b: Float[Array, "lanes d"], n_vectors: int
) -> tuple[Float[Array, "lanes n_vectors d"], Float[Array, "lanes n_vectors d"]]:
    """Return an orthonormal basis of a Krylov space and its image, for each lane's own `A`.

    This is Arnoldi's process (Saad 2003, ch. 6). The basis is made orthogonal by classical
    Gram-Schmidt done twice, which is as accurate as the precision allows (Giraud, Langou &
    Rozložník 2005) and, unlike modified Gram-Schmidt, consists of products of matrices. If a space
    is exhausted, the rest of its basis is zero.

    Args:
        matvec: `[lanes, d] -> [lanes, d]`, the product with every lane's matrix.
        b: `[lanes, d]` unit vectors that the spaces start from.
        n_vectors: the dimension of the space.

    Returns:
        `V`, whose first row is `b`, and `A V`.
    """
    lanes, d = b.shape
    eps = jnp.finfo(b.dtype).eps

    def body(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        V, AV, v = carry
        V = V.at[:, j].set(v)
        Av = matvec(v)
        w = Av
        for _ in range(2):
            w = w - jnp.einsum("lk,lkd->ld", jnp.einsum("lkd,ld->lk", V, w), V)
        size, norm = jnp.linalg.norm(Av, axis=-1), jnp.linalg.norm(w, axis=-1)
        left = norm > 10 * eps * size
        w = w * jnp.where(left, 1 / jnp.where(left, norm, 1), 0)[:, None]
        return V, AV.at[:, j].set(Av), w

    nothing = jnp.zeros((lanes, n_vectors, d), b.dtype)
    start = varying((nothing, nothing, b), matvec(b))
    V, AV, _ = jax.lax.fori_loop(0, n_vectors, body, start)
    return V, AV
