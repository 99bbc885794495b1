"""Eigenvalues along curves of fixed points, on the host."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from slowpoints._arclength.curve import Curve, of_rows
from slowpoints._core.programs import CompiledOnce
from slowpoints._linear_algebra.cores import one_thread_for_lapack, side_by_side
from slowpoints._linear_algebra.krylov import arnoldi

_AT_A_TIME = 2**22
"""Jacobians of several points are computed together if they have no more entries than this."""

_KRYLOV_VECTORS = 100
"""Eigenvalues that stand out converge in Krylov spaces of so many vectors; those within the bulk of
many, which would take more, do not stand out."""

_CONVERGED = {8: 1e-9, 4: 1e-4}
"""Residuals of this size, relative to `1 + |lambda|`, are those of eigenvalues (in float64 and in
float32). Errors of eigenvalues are much smaller yet, unless the Jacobian is far from normal."""

_MUCH = 2**20
"""For fewer operations than this, roughly, threads cost more than they save."""

_NEUTRAL = 1e-10
"""An eigenvalue counts as outside the circle if it is so by more than this: on a curve along which
an eigenvalue is exactly 1, rounding puts it on either side. At a fold this moves `s` by about its
square. In float32 it is `1e-4`."""


class Spectra(NamedTuple):
    """Eigenvalues at points of a curve.

    Attributes:
        eigvals: `[k, m]` all eigenvalues, or the `m` leading ones, leading first; NaN where they
            did not converge.
        indices: `[k]` how many eigenvalues are outside the unit circle (for a flow, right of the
            imaginary axis); -1 if that is not known, as where all of the `m` leading ones are.
    """

    eigvals: Complex[np.ndarray, "k m"]
    indices: Int[np.ndarray, " k"]


def spectra(curve: Curve, y: Float[np.ndarray, "k d1"], n_leading: int) -> Spectra:
    """Return the eigenvalues at points of a curve.

    Args:
        curve: its equations.
        y: `[k, d + 1]` the points.
        n_leading: how many eigenvalues; all of them, by way of the Jacobians, if there are no more
            than these.
    """
    n, d = len(y), y.shape[1] - 1
    find, entries = (_all, d) if n_leading >= d else (_leading, min(_KRYLOV_VECTORS, d))
    at_a_time = max(1, _AT_A_TIME // (d * entries))
    parts = [Spectra(np.zeros((0, min(n_leading, d)), _complex(y)), np.zeros(0, int))]
    for first in range(0, n, at_a_time):
        part = y[first : first + at_a_time]
        parts.append(find(curve, part, n_leading))
    return Spectra(*map(np.concatenate, zip(*parts, strict=True)))


def _all(curve: Curve, y: Float[np.ndarray, "k d1"], n_leading: int) -> Spectra:
    values = _eigenvalues(of_rows(_jacobians, curve, y)[:, :, :-1])
    beyond = growth(values, curve.is_flow)
    values = np.take_along_axis(values, np.argsort(-beyond, axis=1, kind="stable"), axis=1)
    indices = (beyond > neutral(values)).sum(axis=1)
    return Spectra(values, np.where(np.isnan(values).any(axis=1), -1, indices))


def _leading(curve: Curve, y: Float[np.ndarray, "k d1"], n_leading: int) -> Spectra:
    """Return the leading Ritz values of a Krylov space (Saad 2011, ch. 6), if they have converged.

    The index is known if all have that are outside, or that may be by what their residuals say.
    """
    small, rest = of_rows(_krylov_space, curve, y)
    finite: Any = np.isfinite(small).all(axis=(1, 2))
    values, vectors = np.linalg.eig(np.where(finite[:, None, None], small, 0))
    residuals = rest[:, None] * np.abs(vectors[:, -1])
    beyond = growth(values, curve.is_flow)
    order = np.argsort(-beyond, axis=1, kind="stable")
    values, residuals, beyond = (
        np.take_along_axis(part, order, axis=1) for part in (values, residuals, beyond)
    )
    converged = residuals <= _CONVERGED[np.dtype(small.dtype).itemsize] * (1 + np.abs(values))
    open_question = (~converged & (beyond + residuals > 0)).any(axis=1) | ~finite
    out = beyond > neutral(values)
    all_out = (values.shape[1] > n_leading) & out[:, :n_leading].all(axis=1)
    indices = np.where(open_question | all_out, -1, out.sum(axis=1))
    values = np.where(converged & finite[:, None], values, np.nan)[:, :n_leading]
    return Spectra(values.astype(_complex(small)), indices)


def neutral(values: Complex[np.ndarray, "..."]) -> float:
    """Return by how much an eigenvalue has to be outside the circle to count as outside."""
    return _NEUTRAL if values.dtype == np.complex128 else 1e-4


def _complex(values: np.ndarray) -> Any:
    return np.result_type(values.dtype, np.complex64)


def _eigenvalues(J: Float[np.ndarray, "k d d"]) -> Complex[np.ndarray, "k d"]:
    """Return all eigenvalues, or NaN for matrices that are not finite, on all cores."""
    finite: Any = np.isfinite(J).all(axis=(1, 2))
    J = np.where(finite[:, None, None], J, 0)
    # LAPACK takes the matrices one after another, and divides large ones at a loss.
    n_cores = (os.cpu_count() or 1) if J.size * J.shape[1] > _MUCH else 1
    parts = np.array_split(J, min(n_cores, len(J)))
    with one_thread_for_lapack():
        values: Any = np.concatenate(side_by_side(np.linalg.eigvals, parts, n_cores))
    # NumPy returns real numbers if all are.
    return np.where(finite[:, None], values.astype(np.result_type(J, np.complex64)), np.nan)


def growth(values: Any, is_flow: bool) -> Any:
    """Return how far eigenvalues are outside the unit circle, or right of the imaginary axis."""
    return np.real(values) if is_flow else np.abs(values) - 1


def _square(curve: Curve, y: Array) -> Array:
    """Return the next state as a function of `x`, at the `s` of `y`; for a flow, `dx/dt`."""
    return curve(y) if curve.is_flow else curve(y) + y[:-1]


def extreme_slopes(curve: Curve, y: Float[np.ndarray, "k d1"]) -> Float[np.ndarray, "k 2"]:
    """Return the largest and the smallest singular value of the slopes of `H` along `x` and `s`.

    The smallest is 0 where curves cross, and not at a fold. NaN where the slopes are not finite.
    """
    if len(y) == 0:
        return np.zeros((0, 2))
    slopes = np.array(of_rows(_jacobians, curve, y))  # which may be written to
    if not curve.is_flow:
        slopes[:, :, :-1] -= np.eye(slopes.shape[1], dtype=slopes.dtype)
    finite: Any = np.isfinite(slopes).all(axis=(1, 2))
    with one_thread_for_lapack():
        values = np.linalg.svd(np.where(finite[:, None, None], slopes, 0), compute_uv=False)
    extreme = np.maximum(values[:, [0, -1]], np.finfo(values.dtype).tiny)
    return np.where(finite[:, None], extreme, np.nan)


@CompiledOnce
def _jacobians(curve: Curve, y: Float[Array, "k d1"]) -> Float[Array, "k d d1"]:
    """Return the derivatives of the next states (for a flow, of `dx/dt`) by `x` and `sigma`."""
    return jax.vmap(jax.jacfwd(lambda y: _square(curve, y)))(y)


@CompiledOnce
def _krylov_space(
    curve: Curve, y: Float[Array, "k d1"]
) -> tuple[Float[Array, "k m m"], Float[Array, " k"]]:
    """Return the Jacobians in Krylov spaces, and how far these are from being invariant."""
    x, sigma = y[:, :-1], y[:, -1]

    def product(v: Array) -> Array:
        def one(x: Array, sigma: Array, v: Array) -> Array:
            return jax.jvp(lambda x: _square(curve, jnp.append(x, sigma)), (x,), (v,))[1]

        return jax.vmap(one)(x, sigma, v)

    first = jax.random.normal(jax.random.key(0), (x.shape[1],), x.dtype)
    first = jnp.broadcast_to(first / jnp.linalg.norm(first), x.shape)
    V, AV = arnoldi(product, first, min(_KRYLOV_VECTORS, x.shape[1]))
    last = AV[:, -1]
    outside = last - jnp.einsum("km,kmd->kd", jnp.einsum("kmd,kd->km", V, last), V)
    return jnp.einsum("kmd,kld->kml", V, AV), jnp.linalg.norm(outside, axis=1)
