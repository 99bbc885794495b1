"""Linear systems in the plane across a curve, and tangents of curves, which solve such systems.

The matrix of a system is that of the slopes of `H`, bordered by the normal of the plane as its last
row (Keller 1977).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from slowpoints._arclength.curve import Curve
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.krylov import gcr
from slowpoints._linear_algebra.loops import one_by_one

_REFINEMENTS = 4
"""Each leaves a hundredth of the error of the tangent, or less."""

_MOST_INVERTED = 48
"""Matrices of up to this size are inverted: then all lanes are solved for at once. Of larger ones
the inverse takes three times as long as the factors, which are used lane by lane."""

_KRYLOV_VECTORS, _KRYLOV_RESTARTS = 20, 12
"""Without matrices, the systems are solved in Krylov spaces of so many vectors, anew for the rest
that is left, so many times at most."""

_KRYLOV_REST = 1e-3
"""A system is solved when this part of its right-hand side is left: as each correction starts from
what the last one left, more precision would be wasted."""

Solve = Callable[[Curve, Array, Array, Array], Array]
"""From a curve, points, normals and right-hand sides `[lanes, d + 1]` to solutions."""


def solver_at(curve: Curve, at: Array, normal: Array) -> tuple[Solve, Array]:
    """Return how to solve systems near the points `at`, and the signs of their determinants."""
    if curve.without_matrices:
        return _by_products, jnp.zeros_like(at[:, 0])
    slopes = jax.vmap(jax.jacfwd(curve))(at)  # [lanes, d, d + 1]
    matrices = jnp.concatenate([slopes, normal[:, None]], axis=1)
    few = matrices.shape[1] <= _MOST_INVERTED

    def decomposed(matrix: Array) -> tuple[Any, Array]:
        factors = lapack.lu_factor(matrix)
        eye = jnp.eye(matrix.shape[0], dtype=at.dtype)
        return lapack.lu_solve(factors, eye) if few else factors, _sign(factors)

    parts, signs = one_by_one(decomposed, matrices)

    def solve(curve: Curve, y: Array, normal: Array, b: Array) -> Array:
        if few:
            return jnp.einsum("lij,lj->li", parts, b)
        return one_by_one(lambda lane: lapack.lu_solve(*lane), (parts, b))

    return solve, signs


def _sign(factors: lapack.Factors) -> Array:
    """Return the sign of a determinant, from the factors of the matrix; 0 if it is not known."""
    n_swaps = jnp.sum(factors.pivots != jnp.arange(factors.pivots.size))
    diagonal = jnp.prod(jnp.sign(jnp.diagonal(factors.LU)))
    sign = jnp.where(n_swaps % 2 == 1, -diagonal, diagonal)
    return jnp.where(jnp.isfinite(sign), sign, 0)


def _by_products(curve: Curve, y: Array, normal: Array, b: Array) -> Array:
    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, rest, n = carry
        more, _ = gcr(matvec, rest, min(_KRYLOV_VECTORS, b.shape[1]))
        x = x + more
        return x, b - matvec(x), n + 1

    def matvec(v: Array) -> Array:
        return _product(curve, y, normal, v)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, rest, n = carry
        goal = _KRYLOV_REST * jnp.linalg.norm(b, axis=1)
        return jnp.any(jnp.linalg.norm(rest, axis=1) > goal) & (n < _KRYLOV_RESTARTS)

    start = jnp.zeros_like(b), b, jnp.asarray(0)
    return jax.lax.while_loop(unfinished, again, start)[0]


def _product(curve: Curve, y: Array, normal: Array, v: Array) -> Array:
    """Return the products of the bordered matrices at `y` with `v`."""

    def one(y: Array, normal: Array, v: Array) -> Array:
        return jnp.append(jax.jvp(curve, (y,), (v,))[1], jnp.dot(normal, v))

    return jax.vmap(one)(y, normal, v)


def tangents(curve: Curve, y: Array, normal: Array, solve: Solve) -> Array:
    """Return unit vectors along the curves, on the side of the normals."""
    along = jnp.zeros_like(y).at[:, -1].set(1)
    t = normal
    for _ in range(_REFINEMENTS):  # the systems are not solved exactly, or for a point close by
        t = t + solve(curve, y, normal, along - _product(curve, y, normal, t))
    return t / jnp.linalg.norm(t, axis=1, keepdims=True)
