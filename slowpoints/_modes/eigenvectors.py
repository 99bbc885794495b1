"""Eigenvalues and eigenvectors of Jacobians on both sides, slowest first."""

import numpy as np
from jaxtyping import Bool, Complex, Float

from slowpoints._linear_algebra import linear_dynamics

CIRCLE = 1e-8
"""If the real and imaginary parts of an eigenvector of norm 1 are as long as each other, and at a
right angle, up to this, the ellipse on which the state turns is a circle, which has no axes."""

INDEPENDENT = 1e-6
"""A left eigenvector is that of one mode if it reads others by at most this fraction of its norm.
In float64, simple eigenvalues give less; those of a defective matrix give about the square root of
the precision, 1e-8, of a vector that is itself as large as 1e8."""

ROUNDINGS = 10
"""The QR algorithm gives the eigenvalues of a matrix that differs by a few units in the last place
of its norm."""

_MOST_PLACES = 16
"""For so many defective modes, the slowest ones, it is asked whether they may be neutral. Each
takes a decomposition."""


def modes_of(
    J: Float[np.ndarray, "n d d"],
    unit: Float[np.ndarray, " d"],
    toward: Float[np.ndarray, " d"] | None,
    flow: bool,
) -> tuple[
    Complex[np.ndarray, "n d"],
    Complex[np.ndarray, "n d d"],
    Complex[np.ndarray, "n d d"],
    Bool[np.ndarray, " n"],
]:
    """Return eigenvalues, right and left eigenvectors, and whether some may be neutral.

    Args:
        J: finite Jacobians.
        unit: what each entry of the states is measured in: whether modes are independent then does
            not depend on how states are given.
        toward: what right eigenvectors point towards.
        flow: whether the Jacobians are those of a flow.
    """
    scaled = J * (unit / unit[:, None])
    values, right = _slowest_first(scaled, flow)
    left = _left(scaled, values, right)
    may_be_neutral = _may_be_neutral(scaled, values, left, flow)
    return values, *_of_states(values, right, left, unit, toward), may_be_neutral


def _slowest_first(
    J: Float[np.ndarray, "n d d"], flow: bool
) -> tuple[Complex[np.ndarray, "n d"], Complex[np.ndarray, "n d d"]]:
    values, right = (a.astype(np.complex128) for a in np.linalg.eig(J))
    # Both of a pair have the same rate to the bit, so they stay next to each other.
    rates = np.asarray(linear_dynamics.growth_rates(values, flow))
    order = np.argsort(np.abs(rates), axis=1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(right, order[:, None], 2)


def _of_states(
    values: Complex[np.ndarray, "n d"],
    right: Complex[np.ndarray, "n d d"],
    left: Complex[np.ndarray, "n d d"],
    unit: Float[np.ndarray, " d"],
    toward: Float[np.ndarray, " d"] | None,
) -> tuple[Complex[np.ndarray, "n d d"], Complex[np.ndarray, "n d d"]]:
    """Return eigenvectors in units as those of states, of the documented length, phase and sign."""
    right = unit[:, None] * right
    length = np.linalg.norm(right, axis=1)
    right = right / length[:, None, :]
    phase = _phases(values, right, toward)
    left = left / unit * (length / phase)[:, :, None]
    left = np.where(np.imag(values)[:, :, None] == 0, np.real(left), left)  # the inverse rounds
    return right * phase[:, None, :], left


def _phases(
    values: Complex[np.ndarray, "n d"],
    right: Complex[np.ndarray, "n d d"],
    toward: Float[np.ndarray, " d"] | None,
) -> Complex[np.ndarray, "n d"]:
    """Return by which factors of size 1 the eigenvectors get the documented phase and sign."""
    # The real part and the imaginary part are half-axes if the square of the vector is positive.
    square = np.sum(right * right, axis=1)
    turns = (np.imag(values) != 0) & (np.abs(square) > CIRCLE)
    phase = np.where(turns, np.exp(-0.5j * np.angle(square)), 1.0)
    real = np.real(right * phase[:, None, :])
    if toward is None:
        largest = np.argmax(np.abs(real), axis=1)[:, None]
        side = np.take_along_axis(real, largest, 1)[:, 0]
    else:
        side = np.einsum("d,ndk->nk", toward, real)
    return np.where(side < 0, -phase, phase)


def _left(
    J: Float[np.ndarray, "n d d"],
    values: Complex[np.ndarray, "n d"],
    right: Complex[np.ndarray, "n d d"],
) -> Complex[np.ndarray, "n d d"]:
    """Return left eigenvectors in rows, biorthonormal to the right ones.

    They are the inverse of these. If some modes are defective, so that there is no inverse, the
    other modes still have theirs, which are then found as eigenvectors of the transpose.
    """
    left = np.array(linear_dynamics.left_eigenvectors(right))
    rows = np.flatnonzero(np.isnan(left).any(axis=(1, 2)))
    if rows.size == 0:
        return left
    others, vectors = (a.astype(np.complex128) for a in np.linalg.eig(np.swapaxes(J[rows], 1, 2)))
    nearest = np.argmin(np.abs(values[rows][:, :, None] - others[:, None, :]), axis=2)
    found = np.take_along_axis(np.swapaxes(vectors, 1, 2), nearest[:, :, None], 1)
    products = found @ right[rows]
    own = np.diagonal(products, axis1=1, axis2=2)
    rest = np.abs(products - own[:, :, None] * np.eye(own.shape[1])).max(axis=2)
    simple = (np.abs(own) > np.sqrt(np.finfo(np.float64).eps)) & (rest <= INDEPENDENT)
    scaled = found / np.where(simple, own, 1)[:, :, None]
    left[rows] = np.where(simple[:, :, None], scaled, np.nan)
    return left


def _may_be_neutral(
    J: Float[np.ndarray, "n d d"],
    values: Complex[np.ndarray, "n d"],
    left: Complex[np.ndarray, "n d d"],
    flow: bool,
) -> Bool[np.ndarray, " n"]:
    """Return for which points a defective mode may be on the other side of the edge of stability.

    An eigenvalue may be at `z` if a change of `J` by rounding makes `J - z I` singular: if `z` is
    in the pseudospectrum of that size (Trefethen & Embree 2005, ch. 2). For each defective mode,
    `z` is the place on the unit circle, or the imaginary axis, next to its eigenvalue.
    """
    found = np.zeros(len(J), bool)
    eye = np.eye(J.shape[1])
    for row in np.flatnonzero(np.isfinite(values).all(axis=1)):
        own = values[row, np.isnan(left[row]).any(axis=1)]
        own = own[np.imag(own) >= 0][:_MOST_PLACES]  # the slowest ones; the others are mirrored
        with np.errstate(all="ignore"):
            places = 1j * np.imag(own) if flow else own / np.abs(own)
        rounding = ROUNDINGS * np.finfo(np.float64).eps * np.linalg.norm(J[row])
        for z in places[np.isfinite(places)]:
            smallest = np.linalg.svd(J[row] - z * eye, compute_uv=False)[-1]
            found[row] |= smallest <= rounding
    return found
