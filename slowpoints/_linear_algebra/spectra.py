"""Eigenvalues and eigenvectors of Jacobians, as plain arrays."""

import contextlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slowpoints._core import arguments
from slowpoints._core.arrays import beside, with_library
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.cores import one_thread_for_lapack
from slowpoints._linear_algebra.stability import are_stable


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


def as_fields(
    values: Complex[RealArray, "n k"],
    vectors: Complex[RealArray, "n d k"],
    continuous_time: bool,
    speed: Float[RealArray, " n"] | None,
) -> dict[str, Any]:
    """Return eigenvalues, leading first, and eigenvectors as fields, and which rows are stable."""
    is_stable = beside(are_stable(values, continuous_time, speed), values)
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
    values, vectors = leading_first(values, vectors, continuous_time)
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


def leading_first(
    values: Complex[Array, "*b d"], vectors: Complex[Array, "*b m d"], continuous_time: bool
) -> tuple[Complex[Array, "*b d"], Complex[Array, "*b m d"]]:
    """Return eigenvalues and eigenvectors in order: by real part, or by magnitude."""
    size = values.real if continuous_time else jnp.abs(values)
    order = jnp.argsort(-size, axis=-1, stable=True)
    values = jnp.take_along_axis(values, order, axis=-1)
    return values, jnp.take_along_axis(vectors, order[..., None, :], axis=-1)
