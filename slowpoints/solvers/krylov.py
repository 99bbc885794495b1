"""Krylov methods for a batch of linear systems that are known only by their products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from slowpoints.solvers.loops import varying
from slowpoints.types import Number


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
    start = varying((jnp.zeros_like(b), b / scale, basis, basis), matvec(b))
    x, r, *_ = jax.lax.fori_loop(0, n_vectors, body, start)
    return x * scale, r * scale


def steihaug(
    matvec: Callable[[Array], Array],
    rmatvec: Callable[[Array], Array],
    b: Float[Array, "lanes d"],
    radius: Float[Array, " lanes"],
    n_vectors: int,
    forcing: Number,
) -> tuple[Float[Array, "lanes d"], Float[Array, "lanes d"], Bool[Array, " lanes"]]:
    """Lower `||b - A x||` within `||x|| <= radius`, for each lane's own `A`.

    Conjugate gradients on the normal equations (Hestenes & Stiefel 1952), ended where they leave
    the region (Steihaug 1983). Each lane rests when it is done, the loop when all are.

    Args:
        matvec: `[lanes, d] -> [lanes, d]`, the product with every lane's matrix.
        rmatvec: the product with the transposed matrices.
        b: `[lanes, d]` the right-hand sides.
        radius: `[lanes]` the longest solutions.
        n_vectors: the most iterations.
        forcing: a lane is done when `||A^T (b - A x)||` has fallen to this part of what it was.

    Returns:
        `x`, the residual `b - A x`, and which lanes ended at the edge of their region.
    """
    radius = radius[:, None]

    def dot(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=-1, keepdims=True)

    def ratio(a: Array, b: Array) -> Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    def going(carry: tuple[Array, ...]) -> Array:
        j, active = carry[0], carry[-2]
        return (j < n_vectors) & jnp.any(active)

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        j, x, r, p, g, active, at_edge = carry
        Ap = matvec(p)
        pp, xp = dot(p, p), dot(x, p)
        # How far it is along `p` to the edge.
        room = ratio(jnp.sqrt(jnp.square(xp) + pp * jnp.maximum(radius**2 - dot(x, x), 0)) - xp, pp)
        alpha = ratio(g, dot(Ap, Ap))
        leaves = alpha >= room
        alpha = jnp.where(active, jnp.minimum(alpha, room), 0)
        x, r = x + alpha * p, r - alpha * Ap
        s = rmatvec(r)
        g_new = dot(s, s)
        p = s + ratio(g_new, g) * p
        at_edge = at_edge | (active & leaves)
        active = active & ~leaves & (g_new > forcing**2 * g_first)
        return j + 1, x, r, p, g_new, active, at_edge

    s = rmatvec(b)
    g_first = dot(s, s)
    no = jnp.zeros(radius.shape, bool)
    carry = varying((jnp.asarray(0), jnp.zeros_like(b), b, s, g_first, ~no, no), (s, radius))
    _, x, r, *_, at_edge = jax.lax.while_loop(going, body, carry)
    return x, r, at_edge[:, 0]
