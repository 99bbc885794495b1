"""How many eigenvalues of a matrix are outside the unit circle: proven, rounding included."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._linear_algebra.signs import inverses

_DOUBLINGS = 12
"""Norms of powers are tried up to the power 2^12: more only helps if the largest eigenvalue is
within about 1e-3 of the circle, where matrices are seldom so far from normal."""


class Complex(NamedTuple):
    """A ball of complex matrices, by its real and its imaginary part."""

    real: Ball
    imag: Ball

    def __matmul__(self, other: "Complex") -> "Complex":
        return Complex(
            matmul(self.real, other.real) - matmul(self.imag, other.imag),
            matmul(self.real, other.imag) + matmul(self.imag, other.real),
        )

    def magnitude(self) -> Any:
        """Return a bound of the absolute values."""
        return np.hypot(self.real.magnitude, self.imag.magnitude) * (1 + 2.0**-40)


def count_unstable(
    J: Ball, continuous_time: bool
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Enclose the eigenvalues of matrices, and count those outside the unit circle.

    With eigenvectors `V` and `W`, an approximate inverse of it, `V^-1 J V = (I - R)^-1 W J V` for
    `R = I - W V`. This is diagonal but for rounding, and by Gershgorin's theorem each connected
    group of discs holds as many eigenvalues as discs. If that does not prove stability, norms of
    powers may: the spectral radius of `J` to the power `k` is at most `||J^k||`.

    Args:
        J: `[n, n_states, n_states]` balls of matrices. Where a unit is at a kink, a ball holds the
            matrices on both sides of it, and what is proven holds for each of them.
        continuous_time: whether to count positive real parts instead.

    Returns:
        `[n]` which are proven to be stable, `[n]` which are proven not to be, and `[n]` the number
        of eigenvalues outside, -1 if it is not proven.
    """
    n = J.shape[0]
    stable, unstable, index = np.zeros(n, bool), np.zeros(n, bool), np.full(n, -1)
    radius = np.broadcast_to(J.radius, J.shape)
    rows = np.flatnonzero((np.isfinite(J.mid) & np.isfinite(radius)).all(axis=(1, 2)))
    if rows.size == 0:
        return stable, unstable, index
    J = Ball(J.mid[rows], radius[rows])
    centre, radius = _discs(J)
    with np.errstate(all="ignore"):
        if continuous_time:
            low, high, edge = centre.real - radius, centre.real + radius, 0.0
        else:
            size = np.abs(centre)
            # Computing the size may round it by this much.
            low = size * (1 - 2.0**-50) - radius
            high, edge = size * (1 + 2.0**-50) + radius, 1.0
        inside, outside = high < edge, low > edge
    stable[rows] = inside.all(axis=1)
    decided = (inside | outside).all(axis=1)
    index[rows] = np.where(decided, outside.sum(axis=1), -1)
    unstable[rows] = [
        _has_group_outside(middle, reach, of_row)
        for middle, reach, of_row in zip(centre, radius, outside, strict=True)
    ]
    if not continuous_time:
        left = np.flatnonzero(~(stable | unstable)[rows])
        if left.size:
            proven = _powers_shrink(Ball(J.mid[left], J.rad[left]))
            stable[rows[left]] = proven
            index[rows[left]] = np.where(proven, 0, index[rows[left]])
    return stable, unstable, index


def _discs(J: Ball) -> tuple[Any, Any]:
    """Return the centres and the radii of Gershgorin's discs, `[n, n_states]`."""
    n_states = J.shape[1]
    with np.errstate(all="ignore"):
        V: Any = _eigenvectors(J.mid)
        W: Any = inverses(V)  # NaN if there is none, and then no disc is known
        right = Complex(Ball(V.real), Ball(V.imag))
        left = Complex(Ball(W.real), Ball(W.imag))
        product = left @ Complex(matmul(J, right.real), matmul(J, right.imag))
        identity = left @ right
        off = Complex(Ball(np.eye(n_states)) - identity.real, -identity.imag)
        error = _norm(off.magnitude())
        error = np.where(error < 1, error / (1 - error), np.inf) * _norm(product.magnitude())
        mid = product.real.mid + 1j * product.imag.mid
        centre = np.einsum("nii->ni", mid)
        own = np.einsum("nii->ni", product.real.radius + product.imag.radius)
        others = product.magnitude()
        np.einsum("nii->ni", others)[:] = 0.0
        radius = own + _upper_sum(others) + error[:, None]
        return centre, radius * (1 + 2.0**-40)


def _eigenvectors(matrices: Float[np.ndarray, "n d d"]) -> Any:
    """Return approximate eigenvectors of each matrix; NaN where LAPACK does not find them."""
    try:
        return np.linalg.eig(matrices)[1]
    except np.linalg.LinAlgError:
        found = np.full(matrices.shape, np.nan, complex)
        for i, matrix in enumerate(matrices):
            try:
                found[i] = np.linalg.eig(matrix)[1]
            except np.linalg.LinAlgError:
                continue
        return found


def _has_group_outside(
    centre: Any, radius: Float[np.ndarray, " d"], outside: Bool[np.ndarray, " d"]
) -> bool:
    """Return whether some connected group of discs is outside as a whole."""
    from scipy.sparse.csgraph import connected_components

    if not outside.any() or not np.isfinite(radius).all():
        return False
    distance = np.abs(centre[:, None] - centre) * (1 - 2.0**-50)
    overlap = ~(distance > (radius[:, None] + radius) * (1 + 2.0**-50))
    _, group = connected_components(overlap, directed=False)
    return bool(set(group[outside]) - set(group[~outside]))


def _powers_shrink(J: Ball) -> Bool[np.ndarray, " n"]:
    shrinks = np.zeros(J.shape[0], bool)
    power = J
    for _ in range(_DOUBLINGS):
        shrinks |= _norm(power.magnitude) < 1
        if shrinks.all():
            break
        power = matmul(power, power)
    return shrinks


def _norm(magnitude: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, " n"]:
    """Return a bound of the maximum norm of each matrix."""
    return np.max(_upper_sum(magnitude), axis=1)


def _upper_sum(terms: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "n d"]:
    with np.errstate(over="ignore"):
        return np.sum(terms, axis=2) * (1 + terms.shape[2] * 2.0**-52)
