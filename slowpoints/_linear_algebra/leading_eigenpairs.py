"""`leading_eigenpairs`: some eigenvalues of a matrix that is known only by its products."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from slowpoints._core.programs import CompiledOnce
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.spectra import leading_first


@CompiledOnce
def leading_of_matrices(
    J: Float[Array, "n d d"], k: int, continuous_time: bool
) -> tuple[Complex[Array, "n k"], Complex[Array, "n d k"]]:
    """Return what `leading_eigenpairs` does, for each of some matrices."""
    return jax.vmap(lambda J: leading_eigenpairs(lambda p: J @ p, J[0], k, continuous_time))(J)


def leading_eigenpairs(
    matvec: Callable[[Array], Array],
    like: Float[Array, " d"],
    k: int,
    continuous_time: bool = False,
    max_restarts: int = 100,
) -> tuple[Complex[Array, " k"], Complex[Array, "d k"]]:
    """Find the `k` leading eigenvalues of a real matrix, from products with it.

    Arnoldi's method keeps `A V = V B + v b^H` with orthonormal `[V, v]`. When the basis is full,
    the span of the leading Ritz vectors is kept and the rest built anew.

    Args:
        matvec: `[d] -> [d]`, the product with the matrix.
        like: `[d]` an array of the size and type of the vectors.
        k: how many eigenvalues.
        continuous_time: whether eigenvalues of largest real part lead, rather than of largest
            magnitude.
        max_restarts: after how many restarts to give up.

    Returns:
        `[k]` eigenvalues, leading first, NaN if not converged, and `[d, k]` eigenvectors.
    """
    d, real = like.shape[0], like.dtype
    size = min(d, max(2 * k + 2, k + 20))
    kept = min(k + (size - k) // 2, size - 1)
    tol = 10 * float(jnp.finfo(real).eps)
    kind = jnp.result_type(real, jnp.complex64)

    def product(v: Complex[Array, " d"]) -> Complex[Array, " d"]:
        re_im = jax.vmap(matvec)(jnp.stack([v.real, v.imag]))
        return jax.lax.complex(re_im[0], re_im[1])

    def extend(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return _with_next_vector(*carry, j, product(carry[0][j]), tol)

    ritz = partial(_ritz_pairs, k=k, continuous_time=continuous_time, tol=tol)

    def restart(carry: Any) -> Any:
        V, B, n_restarts, _ = carry
        _, Y, _ = ritz(B)
        Z = lapack.basis(Y[:, :kept])  # [size, kept]
        V_new = jnp.zeros_like(V).at[:kept].set(Z.T @ V[:size]).at[kept].set(V[size])
        B_new = jnp.zeros_like(B).at[:kept, :kept].set(jnp.conj(Z.T) @ B[:size] @ Z)
        B_new = B_new.at[kept, :kept].set(B[size] @ Z)
        V, B = jax.lax.fori_loop(kept, size, extend, (V_new, B_new))
        return V, B, n_restarts + 1, ritz(B)[2]

    def unfinished(carry: Any) -> Array:
        return ~jnp.all(carry[3]) & (carry[2] < max_restarts)

    first = jax.random.normal(jax.random.key(0), (d,), real).astype(kind)
    V = jnp.zeros((size + 1, d), kind).at[0].set(first / jnp.linalg.norm(first))
    V, B = jax.lax.fori_loop(0, size, extend, (V, jnp.zeros((size + 1, size), kind)))
    carry = (V, B, jnp.asarray(0), ritz(B)[2])
    V, B, _, _ = jax.lax.while_loop(unfinished, restart, carry)
    values, Y, converged = ritz(B)
    vectors = V[:size].T @ Y[:, :k]
    vectors = vectors / jnp.linalg.norm(vectors, axis=0)
    good = converged & jnp.isfinite(B).all()
    return jnp.where(good, values[:k], jnp.nan), jnp.where(good, vectors, jnp.nan)


def _with_next_vector(
    V: Complex[Array, "m1 d"],
    B: Complex[Array, "m1 m"],
    j: Array,
    w: Complex[Array, " d"],
    tol: float,
) -> tuple[Complex[Array, "m1 d"], Complex[Array, "m1 m"]]:
    """Return the basis with one more vector, and `B` with one more column.

    Args:
        V: the basis, in rows.
        B: what `A` does in the basis.
        j: the last row of the basis so far.
        w: the product of `A` and that row.
        tol: below this part of `w`, what is left of it is rounding.
    """
    d, kind, real = V.shape[1], V.dtype, jnp.finfo(V.dtype).dtype
    h = jnp.conj(V) @ w
    rest = w - h @ V
    live = jnp.linalg.norm(rest) > tol * jnp.linalg.norm(w)
    # An invariant subspace is complete: go on from a new direction, for repeated eigenvalues.
    fresh = jax.random.normal(jax.random.fold_in(jax.random.key(1), j), (d,), real)
    rest = jnp.where(live, rest, fresh.astype(kind))
    for _ in range(2):  # once more is enough (Kahan & Parlett); twice for a new direction
        again = jnp.conj(V) @ rest
        rest, h = rest - again @ V, jnp.where(live, h + again, h)
    norm = jnp.linalg.norm(rest)
    room = live | (norm > tol * jnp.sqrt(d))  # none if the basis spans the whole space
    rest = jnp.where(room & (norm > 0), rest / jnp.where(norm > 0, norm, 1), 0)
    h = h.at[j + 1].set(jnp.where(live, norm, 0))
    return V.at[j + 1].set(rest), B.at[:, j].set(h)


def _ritz_pairs(
    B: Complex[Array, "m1 m"], k: int, continuous_time: bool, tol: float
) -> tuple[Array, Array, Bool[Array, " k"]]:
    """Return the eigenvalues and eigenvectors of `B`, and which of the first `k` have converged."""
    size = B.shape[1]
    eig = lapack.eig(jnp.where(jnp.isfinite(B), B, 0)[:size])
    values, Y = leading_first(*eig, continuous_time)
    rest = jnp.abs(B[size] @ Y[:, :k])
    # Rounding is relative to the largest eigenvalue, which need not lead in continuous time.
    scale = jnp.max(jnp.abs(values)) if continuous_time else jnp.abs(values[:k])
    return values, Y, rest <= tol * jnp.maximum(scale, tol)
