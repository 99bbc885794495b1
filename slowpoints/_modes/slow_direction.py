"""The direction along which states move most slowly, from the Jacobian of how far they move."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from slowpoints._linear_algebra import lapack

DEFECTIVE = 2.0
"""An eigenvalue is defective, as far as can be told, if its `overlap` is at most this many times
the square root of the precision, by about which a double eigenvalue is split."""


class SlowDirection(NamedTuple):
    """The eigenvalue nearest 0 of a matrix, and its eigenvectors.

    Attributes:
        rates: `[n]` all eigenvalues.
        vectors: `[n, n]` their right eigenvectors, in columns.
        is_slowest: `[n]` which of them is nearest 0.
        rate: the real part of that one.
        v: `[n]` its right eigenvector, of length 1, accurate even if others are defective.
        l: `[n]` its left eigenvector, with `l . v = 1`.
        overlap: of both at length 1; 0 where the eigenvalue is defective.
        sizes: `[n]` the singular values of the matrix less `rate`.
    """

    rates: Complex[Array, " n"]
    vectors: Complex[Array, "n n"]
    is_slowest: Bool[Array, " n"]
    rate: Float[Array, ""]
    v: Float[Array, " n"]
    l: Float[Array, " n"]  # noqa: E741
    overlap: Float[Array, ""]
    sizes: Float[Array, " n"]


def slow_direction(J: Float[Array, "n n"]) -> SlowDirection:
    """Return the slow direction of a matrix that is finite."""
    rates, vectors = lapack.eig(J)
    slowest = jnp.argmin(jnp.abs(rates))
    rate = rates[slowest].real
    left, sizes, right = lapack.svd(J - rate * jnp.eye(len(J), dtype=J.dtype))
    v, overlap = right[-1], left[:, -1] @ right[-1]
    l = left[:, -1] / jnp.where(overlap == 0, 1, overlap)  # noqa: E741
    is_slowest = jnp.arange(len(J)) == slowest
    return SlowDirection(rates, vectors, is_slowest, rate, v, l, overlap, sizes)
