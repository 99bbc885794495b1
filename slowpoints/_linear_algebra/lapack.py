"""Decompositions of matrices, one after another: also where a batch of them is asked for.

On a CPU, XLA divides a batch of matrices among its threads, and one of them waits until the others
are done. If the loops of two devices, or the searches of two threads, do this at the same time, all
threads can end up waiting, for ever. So no other module decomposes matrices by JAX. A batch made by
`jax.vmap`, at whatever depth, becomes a loop here, which takes as long: LAPACK decomposes one
matrix at a time either way. Other devices decompose the batch.

Without a note, a function has no derivative in reverse mode.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import linalg
from jaxtyping import Array, Complex, Float, Int, Num

from slowpoints._core.program_folder import before_reading
from slowpoints._linear_algebra.loops import one_after_another

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Factors(NamedTuple):
    """The factors `P A = L U`.

    JAX's own functions keep the pivots alone, and find the order of the rows anew, pivot by pivot,
    each time that they solve, which takes as long as solving.

    Attributes:
        LU: `[d, d]` `U`, and below its diagonal `L` without the ones on its own.
        pivots: `[d]` with which later row, or itself, each row was exchanged in turn.
        order: `[d]` which row of `A` each row of `L U` is.
    """

    LU: Num[Array, "d d"]
    pivots: Int[Array, " d"]
    order: Int[Array, " d"]


def _one_after_another_in_batches(f: _Function) -> _Function:
    """Return `f`, of which a batch becomes a loop."""
    alone: Any = jax.custom_batching.custom_vmap(f)

    @alone.def_vmap
    def _(axis_size: int, in_batched: Any, *arguments: Any) -> Any:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        out = jax.lax.platform_dependent(
            arguments,
            cpu=lambda arguments: one_after_another(alone, in_batched, arguments),
            default=lambda arguments: jax.vmap(f, axes)(*arguments),
        )
        return out, jax.tree.map(lambda _: True, out)

    return alone


@functools.cache
def _know_lapack() -> None:
    """Have JAX look up LAPACK's functions, as it does when it first lowers a call of one.

    A program from the disk calls them without asking.
    """
    jax.jit(jnp.linalg.cholesky).lower(np.eye(1, dtype=np.float32))


before_reading.append(_know_lapack)


@_one_after_another_in_batches
def eig(A: Num[Array, "d d"]) -> tuple[Complex[Array, " d"], Complex[Array, "d d"]]:
    """Return the eigenvalues, and the right eigenvectors in columns."""
    values, vectors = jnp.linalg.eig(A)
    return values, vectors


@_one_after_another_in_batches
def eigvals(A: Num[Array, "d d"]) -> Complex[Array, " d"]:
    """Return the eigenvalues."""
    return jnp.linalg.eigvals(A)


@_one_after_another_in_batches
def eigh(A: Float[Array, "d d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Return the rising eigenvalues of a symmetric matrix, and the eigenvectors in columns."""
    values, vectors = jnp.linalg.eigh(A)
    return values, vectors


@_one_after_another_in_batches
def basis(A: Num[Array, "d _"]) -> Num[Array, "d _"]:
    """Return an orthonormal basis of the columns' span, in columns, by a QR decomposition."""
    return jnp.linalg.qr(A)[0]


@_one_after_another_in_batches
def singular_values(A: Num[Array, "d d"]) -> Float[Array, " d"]:
    """Return the singular values, falling."""
    return jnp.linalg.svd(A, compute_uv=False)


@_one_after_another_in_batches
def _svd(A: Float[Array, "d d"]) -> tuple[Array, Array, Array]:
    U, s, Vt = jnp.linalg.svd(A)
    return U, s, Vt


@jax.custom_jvp
def svd(
    A: Float[Array, "d d"],
) -> tuple[Float[Array, "d d"], Float[Array, " d"], Float[Array, "d d"]]:
    """Return `U, s, Vt`, with `A = U diag(s) Vt` and falling `s`. It has all derivatives.

    Within a group of equal singular values, vectors are arbitrary, and do not turn.
    """
    return _svd(A)


@svd.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Differentiate `U^T A V = diag(s)` (Townsend 2016)."""
    U, s, Vt = svd(*primals)
    M = U.T @ tangents[0] @ Vt.T
    # Not of squares: in one instruction of a CPU, one is rounded and the other is not.
    apart = (s[None, :] - s[:, None]) * (s[None, :] + s[:, None])
    turn = jnp.where(apart == 0, 0, 1 / jnp.where(apart == 0, 1, apart))
    left = turn * (M * s[None, :] + s[:, None] * M.T)
    right = turn * (s[:, None] * M + M.T * s[None, :])
    return (U, s, Vt), (U @ left, jnp.diagonal(M), (Vt.T @ right).T)


@_one_after_another_in_batches
def _inverse(A: Num[Array, "d d"]) -> Num[Array, "d d"]:
    return jnp.linalg.inv(A)


@jax.custom_jvp
def inverse(A: Num[Array, "d d"]) -> Num[Array, "d d"]:
    """Return the inverse, which is not finite for a singular matrix. It has all derivatives."""
    return _inverse(A)


@inverse.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    inv = inverse(*primals)
    return inv, -inv @ tangents[0] @ inv


_triangular_solve = functools.partial(jax.lax.linalg.triangular_solve, left_side=True)


@_one_after_another_in_batches
def lu_factor(A: Num[Array, "d d"]) -> Factors:
    """Return the factors `P A = L U`."""
    return Factors(*jax.lax.linalg.lu(A))


@_one_after_another_in_batches
def lu_solve(factors: Factors, b: Num[Array, "d *k"]) -> Num[Array, "d *k"]:
    """Return the solution of `A x = b`, given the factors of `A`."""
    columns = b[factors.order].reshape(len(b), -1)
    columns = _triangular_solve(factors.LU, columns, lower=True, unit_diagonal=True)
    return _triangular_solve(factors.LU, columns, lower=False).reshape(b.shape)


@_one_after_another_in_batches
def lu_solve_transposed(factors: Factors, b: Num[Array, "d *k"]) -> Num[Array, "d *k"]:
    """Return the solution of `A^T x = b`, given the factors of `A`."""
    columns = b.reshape(len(b), -1)
    columns = _triangular_solve(factors.LU, columns, lower=False, transpose_a=True)
    columns = _triangular_solve(
        factors.LU, columns, lower=True, unit_diagonal=True, transpose_a=True
    )
    return columns[jnp.argsort(factors.order)].reshape(b.shape)


@_one_after_another_in_batches
def cholesky(A: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Return `L` with `A = L L^T`; NaN if the matrix is not positive definite."""
    return jnp.linalg.cholesky(A)


@_one_after_another_in_batches
def cholesky_solve(L: Float[Array, "d d"], b: Float[Array, "d *k"]) -> Float[Array, "d *k"]:
    """Return the solution of `L L^T x = b`."""
    return linalg.cho_solve((L, True), b)


@_one_after_another_in_batches
def solve_triangular(R: Float[Array, "d d"], b: Float[Array, "d *k"]) -> Float[Array, "d *k"]:
    """Return the solution of `R x = b` for an upper triangular matrix."""
    return linalg.solve_triangular(R, b)


@_one_after_another_in_batches
def solve_transposed_triangular(
    R: Float[Array, "d d"], b: Float[Array, "d *k"]
) -> Float[Array, "d *k"]:
    """Return the solution of `R^T x = b` for an upper triangular matrix."""
    return linalg.solve_triangular(R, b, trans=1)


def solve(
    A: Float[Array, "d d"], b: Float[Array, " d"], factors: Factors | None = None
) -> Float[Array, " d"]:
    """Return the solution of `A x = b`. It has all derivatives.

    Args:
        A: `[d, d]` the matrix.
        b: `[d]` the right-hand side.
        factors: those of `A`, if they are known.
    """
    known = lu_factor(jax.lax.stop_gradient(A)) if factors is None else factors
    known = jax.lax.stop_gradient(known)
    return jax.lax.custom_linear_solve(
        lambda x: A @ x,
        b,
        solve=lambda _, b: lu_solve(known, b),
        transpose_solve=lambda _, b: lu_solve_transposed(known, b),
    )
