"""Eigenvalues along curves of fixed points, on the host.

All of them come from Jacobians, or only the leading ones from products with them: of larger
networks, by `_leading`, which forms a Jacobian only where products do not tell.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

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

_NEAR = 1e-2
"""Where an eigenvalue is outside the circle, or inside by no more than this, relative to
`1 + |lambda|`, the rest of the space is searched for others like it: from one start, a Krylov space
has one direction for each eigenvalue, however often it is repeated, as in rings."""

_MOST_PASSES = 24
"""So many spaces are searched at most, the last of which has to have no more."""

_MOST_LOCKED = 64
"""So many directions may be left out of what is searched then; real eigenvalues have one each, and
pairs two."""

_APART = 1e-6
"""Directions that are new by less than this part of their length are none. The imaginary part of a
real eigenvector is 0, and rounding leaves 1e-16 of what is locked already."""

_MOST_DENSE = 2**11
"""Networks of no more units than this have all their eigenvalues computed where the leading ones do
not say how many are outside, which takes a second for a point of 600 units."""

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
    """Return the leading eigenvalues, from products; where these leave the index open, from all."""
    values, indices = found = _from_products(curve, y, n_leading)
    d = y.shape[1] - 1
    at_a_time = max(1, _AT_A_TIME // d**2)
    unknown = np.flatnonzero(indices < 0) if d <= _MOST_DENSE else np.zeros(0, int)
    for first in range(0, len(unknown), at_a_time):
        rows = unknown[first : first + at_a_time]
        every = _all(curve, y[rows], d)
        values[rows], indices[rows] = every.eigvals[:, :n_leading], every.indices
    return found


class _Ritz(NamedTuple):
    """What Krylov spaces say of some points' eigenvalues: see `_ritz_values`."""

    values: Complex[np.ndarray, "k m"]
    converged: Bool[np.ndarray, "k m"]
    vectors: Complex[np.ndarray, "k d m"]
    counts: Bool[np.ndarray, "k m"]
    is_open: Bool[np.ndarray, " k"]


def _from_products(curve: Curve, y: Float[np.ndarray, "k d1"], n_leading: int) -> Spectra:
    """Return the leading Ritz values of Krylov spaces (Saad 2011, ch. 6), if they have converged.

    The index is known if all have that are outside, or that may be by what their residuals say.
    What is found outside, or nearly so, is left out of a further space, until that has no more.
    """
    n, d = len(y), y.shape[1] - 1
    locked = np.zeros((n, _MOST_LOCKED, d), y.dtype)
    rows, is_open = np.arange(n), np.zeros(n, bool)
    passes, converged = [], []
    for number in range(_MOST_PASSES):
        found = _ritz_values(curve, y[rows], locked[rows], number)
        values = np.full((n, found.values.shape[1]), np.nan, found.values.dtype)
        values[rows] = np.where(found.counts, found.values, np.nan) if number else found.values
        passes.append(values)
        converged.append(found.converged if number == 0 else np.isfinite(values))
        is_open[rows] |= found.is_open
        more = found.counts.any(axis=1) & ~found.is_open
        for i in np.flatnonzero(more):
            is_open[rows[i]] |= not _lock(locked[rows[i]], found.vectors[i][:, found.counts[i]])
        rows = rows[more]
        rows = rows[~is_open[rows]]
        if rows.size == 0:
            break
    is_open[rows] = True
    values, known = np.concatenate(passes, axis=1), np.concatenate(converged, axis=1)
    order = np.argsort(-growth(values, curve.is_flow), axis=1, kind="stable")  # NaN is last
    values, known = (np.take_along_axis(part, order, axis=1) for part in (values, known))
    out = growth(values, curve.is_flow) > neutral(values)
    all_out = (values.shape[1] > n_leading) & out[:, :n_leading].all(axis=1)
    indices = np.where(is_open | all_out, -1, out.sum(axis=1))
    return Spectra(np.where(known, values, np.nan)[:, :n_leading], indices)


def _ritz_values(
    curve: Curve, y: Float[np.ndarray, "k d1"], locked: Float[np.ndarray, "k p d"], number: int
) -> _Ritz:
    """Return the eigenvalues of Jacobians in Krylov spaces at right angles to what is locked.

    Args:
        curve: the equations.
        y: `[k, d + 1]` points.
        locked: `[k, p, d]` orthonormal rows that span what the spaces leave out, or zeros.
        number: spaces of other numbers start from other vectors.

    Returns:
        The eigenvalues, if they have converged, and eigenvectors; which of them are outside or near
        it; and whether others may be outside that have not converged.
    """
    first = np.random.default_rng(number).standard_normal(y.shape[1] - 1).astype(y.dtype)
    small, rest, V = of_rows(_krylov_space, curve, y, np.tile(first, (len(y), 1)), locked)
    finite: Any = np.isfinite(small).all(axis=(1, 2))
    values, vectors = np.linalg.eig(np.where(finite[:, None, None], small, 0))
    values, vectors = (part.astype(_complex(y)) for part in (values, vectors))  # real if all are
    whole = np.swapaxes(V, 1, 2) @ np.where(finite[:, None, None], vectors, 0)
    # Where a space is exhausted, the rest of its basis is zero, and no eigenvector.
    exists = (np.linalg.norm(whole, axis=1) > 0.5) & finite[:, None]
    values = np.where(exists, values, np.nan)
    size = 1 + np.abs(values)
    residuals = rest[:, None] * np.abs(vectors[:, -1])
    beyond = growth(values, curve.is_flow)
    converged = exists & (residuals <= _CONVERGED[np.dtype(small.dtype).itemsize] * size)
    is_open = (exists & ~converged & (beyond + residuals > 0)).any(axis=1) | ~finite
    return _Ritz(
        values=values,
        converged=converged,
        vectors=whole,
        counts=converged & (beyond > -_NEAR * size),
        is_open=is_open,
    )


def _lock(locked: Float[np.ndarray, "p d"], vectors: Complex[np.ndarray, "d c"]) -> bool:
    """Add directions to those that are locked, in place; return whether there was room for them."""
    n = int(np.any(locked != 0, axis=1).sum())
    new = np.concatenate([np.real(vectors), np.imag(vectors)], axis=1).T
    new = new - (new @ locked[:n].T) @ locked[:n]
    _, sizes, basis = np.linalg.svd(new, full_matrices=False)
    basis = basis[sizes > _APART]
    if n + len(basis) > len(locked):
        return False
    locked[n : n + len(basis)] = basis
    return True


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
    curve: Curve,
    y: Float[Array, "k d1"],
    first: Float[Array, "k d"],
    locked: Float[Array, "k p d"],
) -> tuple[Float[Array, "k m m"], Float[Array, " k"], Float[Array, "k m d"]]:
    """Return Jacobians in Krylov spaces, how far these are from being invariant, and their bases.

    The spaces are at right angles to `locked`, of which the rows are orthonormal, or zero.
    """
    x, sigma = y[:, :-1], y[:, -1]

    def without_locked(v: Array) -> Array:
        for _ in range(2):
            v = v - jnp.einsum("kp,kpd->kd", jnp.einsum("kpd,kd->kp", locked, v), locked)
        return v

    def product(v: Array) -> Array:
        def one(x: Array, sigma: Array, v: Array) -> Array:
            return jax.jvp(lambda x: _square(curve, jnp.append(x, sigma)), (x,), (v,))[1]

        return without_locked(jax.vmap(one)(x, sigma, v))

    first = without_locked(first)
    first = first / jnp.linalg.norm(first, axis=1, keepdims=True)
    V, AV = arnoldi(product, first, min(_KRYLOV_VECTORS, x.shape[1]))
    last = AV[:, -1]
    outside = last - jnp.einsum("km,kmd->kd", jnp.einsum("kmd,kd->km", V, last), V)
    return jnp.einsum("kmd,kld->kml", V, AV), jnp.linalg.norm(outside, axis=1), V
