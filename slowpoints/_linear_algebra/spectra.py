"""Eigenvalues and eigenvectors of Jacobians, as plain arrays."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from slowpoints._core import arguments
from slowpoints._core.arrays import beside, with_library
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.cores import one_thread_for_lapack


def square_jacobians(caller: str, J: Any) -> Any:
    """Return the Jacobians `[n, n_states, n_states]` of some points.

    Raises:
        TypeError: if they are in half precision, or not real numbers.
        ValueError: if there are none, or they are not square.
    """
    if J is None:
        raise ValueError(
            f"{caller}: `fps.J_xstar` is None; expected the points' Jacobians: call "
            "`jacobians(F, fps)` first, or give `k` and `F`."
        )
    arguments.check_precision(caller, "fps.J_xstar", J.dtype)
    arguments.array(caller, "fps.J_xstar", J, ("n", "n_states", "n_states"), floating=True)
    if J.shape[1] != J.shape[2]:
        raise ValueError(
            f"{caller}: `fps.J_xstar` has shape {J.shape}; expected square matrices, "
            "(n, n_states, n_states)."
        )
    return J


NEUTRAL_ROUNDINGS = 8
"""Rounding moves the eigenvalue 1 of a line of fixed points by so many units in the last place."""

NEUTRAL_SPEEDS = 4
"""A state beside a line or ring of fixed points, with `|F(x) - x| = r`, is about `r` from it, and
its eigenvalue differs from 1 by some such multiple of `r`, relative to the size of the state."""

MOST_NEUTRAL = 1e-5
"""An eigenvalue that is farther from 1 than this is never taken for 1, however high the speed: what
decays in 100,000 steps or less, does decay."""


def spectra_of(
    J: Float[RealArray, "n d d"], continuous_time: bool, speed: Float[RealArray, " n"] | None
) -> dict[str, Any]:
    """Return the fields of `FixedPoints` that `decompose` fills from the Jacobians.

    `speed` is that of `relative_speed`.
    """
    xp, known = with_library(J)
    if xp is jnp:
        values, vectors = sorted_eig(jnp.asarray(J), continuous_time)
    else:
        values, vectors = (beside(a, J) for a in _eig_on_host(known, continuous_time))
    return as_fields(values, vectors, continuous_time, speed)


def _eig_on_host(
    J: Float[np.ndarray, "n d d"], continuous_time: bool
) -> tuple[Complex[np.ndarray, "n d"], Complex[np.ndarray, "n d d"]]:
    """Return what `sorted_eig` returns. LAPACK runs on the host either way."""
    kind: Any = np.result_type(J.dtype, np.complex64)
    values, vectors = np.full(J.shape[:2], np.nan, kind), np.full(J.shape, np.nan, kind)
    with one_thread_for_lapack():
        for row in np.flatnonzero(np.isfinite(J).all(axis=(1, 2))):
            with contextlib.suppress(np.linalg.LinAlgError):  # it has not converged: NaN
                values[row], vectors[row] = np.linalg.eig(J[row])
    size = values.real if continuous_time else np.abs(values)
    order = np.argsort(-size, axis=-1, stable=True)
    values = np.take_along_axis(values, order, axis=-1)
    return values, np.take_along_axis(vectors, order[:, None], axis=-1)


def relative_speed(
    qstar: Float[RealArray, " n"] | None, *states: Float[RealArray, "n d"] | None
) -> Float[RealArray, " n"] | None:
    """Return the speeds of rows, relative to the largest entries of their states that are known.

    Those are `xstar` and `x_init`: a point at the origin does not tell how large states are.
    """
    if qstar is None:
        return None
    known = [x for x in states if x is not None and x.shape[1] > 0]
    xp, q, *known = with_library(qstar, *known)
    with np.errstate(all="ignore"):  # of rows that are not finite
        speed = xp.sqrt(2 * q)
        if not known:
            return speed
        sizes = xp.stack([xp.max(xp.abs(x), axis=1).astype(speed.dtype) for x in known])
        return xp.where(speed > 0, speed / xp.max(sizes, axis=0), speed)


def as_fields(
    values: Complex[RealArray, "n k"],
    vectors: Complex[RealArray, "n d k"],
    continuous_time: bool,
    speed: Float[RealArray, " n"] | None,
) -> dict[str, Any]:
    """Return eigenvalues, leading first, and eigenvectors as fields, and which rows are stable.

    An eigenvalue that may be 1, as far as rounding and the `relative_speed` tell, is not below it.
    On a line of fixed points it would be on either side by chance.
    """
    xp, known, speed = with_library(values, speed)
    info = jnp.finfo(values.dtype)
    margin = xp.full(values.shape[0], NEUTRAL_ROUNDINGS * info.eps, info.dtype)
    if speed is not None:
        speed = speed.astype(margin.dtype)
        margin += xp.nan_to_num(xp.minimum(NEUTRAL_SPEEDS * speed, MOST_NEUTRAL))
    leading = known[:, :1].real if continuous_time else xp.abs(known[:, :1])
    is_stable = (leading + margin[:, None] < (0 if continuous_time else 1)).all(axis=1)
    is_stable = beside(is_stable, values)
    return {"eigval_J_xstar": values, "eigvec_J_xstar": vectors, "is_stable": is_stable}


@partial(jax.custom_jvp, nondiff_argnums=(1,))
@partial(jax.jit, static_argnums=1)
def sorted_eig(
    J: Float[Array, "n d d"],
    continuous_time: bool,
) -> tuple[Complex[Array, "n d"], Complex[Array, "n d d"]]:
    """Return all eigenvalues, leading first, and the eigenvectors in columns."""
    # LAPACK may not return from a matrix that is not finite.
    finite = jnp.all(jnp.isfinite(J), axis=(1, 2))
    J = jnp.where(finite[:, None, None], J, 0)
    values, vectors = jax.vmap(lapack.eig)(J)
    values, vectors = _leading_first(values, vectors, continuous_time)
    values = jnp.where(finite[:, None], values, jnp.nan)
    return values, jnp.where(finite[:, None, None], vectors, jnp.nan)


@sorted_eig.defjvp
def _(continuous_time: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Perturb simple eigenvalues and their eigenvectors (Magnus 1985); others get zero."""
    values, V = sorted_eig(*primals, continuous_time)
    finite = jnp.isfinite(V).all(axis=(1, 2)) & jnp.isfinite(values).all(axis=1)
    inverse = jax.vmap(lapack.inverse)(jnp.where(finite[:, None, None], V, jnp.eye(V.shape[-1])))
    diagonalisable = finite & jnp.isfinite(inverse).all(axis=(1, 2))
    inverse = jnp.where(diagonalisable[:, None, None], inverse, 0)
    V_safe = jnp.where(finite[:, None, None], V, 0)
    M = inverse @ tangents[0].astype(V.dtype) @ V_safe
    gap = values[:, None, :] - values[:, :, None]
    scale = jnp.abs(values).max(axis=1, initial=0)[:, None, None]
    simple = jnp.abs(gap) > 10 * jnp.finfo(scale.dtype).eps * scale
    dV = V_safe @ jnp.where(simple, M / jnp.where(simple, gap, 1), 0)
    dV = dV - V_safe * jnp.sum(jnp.conj(V_safe) * dV, axis=1, keepdims=True)
    # LAPACK chooses the phase of an eigenvector such that its largest entry is real; keep it real.
    largest = jnp.argmax(jnp.abs(V_safe), axis=1, keepdims=True)
    entry, d_entry = (jnp.take_along_axis(a, largest, axis=1) for a in (V_safe, dV))
    turn = jnp.where(entry.real != 0, d_entry.imag / jnp.where(entry.real != 0, entry.real, 1), 0)
    dV = dV - 1j * turn * V_safe
    return (values, V), (jnp.diagonal(M, axis1=1, axis2=2), dV)


def _leading_first(
    values: Complex[Array, "*b d"], vectors: Complex[Array, "*b m d"], continuous_time: bool
) -> tuple[Complex[Array, "*b d"], Complex[Array, "*b m d"]]:
    size = values.real if continuous_time else jnp.abs(values)
    order = jnp.argsort(-size, axis=-1, stable=True)
    values = jnp.take_along_axis(values, order, axis=-1)
    return values, jnp.take_along_axis(vectors, order[..., None, :], axis=-1)


@CompiledOnce
def leading_of_matrices(
    J: Float[Array, "n d d"], k: int, continuous_time: bool
) -> tuple[Complex[Array, "n k"], Complex[Array, "n d k"]]:
    return jax.vmap(lambda J: arnoldi(lambda p: J @ p, J[0], k, continuous_time))(J)


def arnoldi(
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
        V, B = carry  # V: [size + 1, d], rows are the basis; B: [size + 1, size]
        w = product(V[j])
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

    def ritz(B: Complex[Array, "m1 m"]) -> tuple[Array, Array, Bool[Array, " k"]]:
        eig = lapack.eig(jnp.where(jnp.isfinite(B), B, 0)[:size])
        values, Y = _leading_first(*eig, continuous_time)
        rest = jnp.abs(B[size] @ Y[:, :k])
        # Rounding is relative to the largest eigenvalue, which need not lead in continuous time.
        scale = jnp.max(jnp.abs(values)) if continuous_time else jnp.abs(values[:k])
        return values, Y, rest <= tol * jnp.maximum(scale, tol)

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
