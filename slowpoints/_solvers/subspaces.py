"""The few directions in which a row may still have far to go."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.krylov import arnoldi
from slowpoints._linear_algebra.loops import one_by_one


class Subspace(NamedTuple):
    """A subspace of directions, and what to do about all others.

    Attributes:
        V: `[lanes, m, n_states]` an orthonormal basis, in rows; rows beyond the subspace's
            dimension are zero.
        AV: `[lanes, m, n_states]` the products of `I - J` with it.
        outside: maps right-hand sides `b [lanes, k, n_states]` to approximate solutions that are
            orthogonal to the subspace, and to the part of `b` that is left for the subspace to
            solve.
    """

    V: Float[Array, "lanes m n_states"]
    AV: Float[Array, "lanes m n_states"]
    outside: Callable[[Float[Array, "lanes k n_states"]], tuple[Array, Array]]


def whole_space(
    F: Callable[[Array, Array], Array],
    x: Float[Array, "lanes n_states"],
    inputs: Float[Array, "lanes n_inputs"],
) -> Subspace:
    """Return the whole space, with nothing left outside of it.

    Args:
        F: the network in the precision of the linear algebra.
        x: `[lanes, n_states]` states.
        inputs: `[lanes, n_inputs]` inputs.
    """
    A = _jacobians(F, x, inputs)
    V = jnp.broadcast_to(jnp.eye(x.shape[1], dtype=x.dtype), A.shape)
    return Subspace(V, jnp.swapaxes(A, 1, 2), lambda b: (jnp.zeros_like(b), b))


def slow_space(
    F: Callable[[Array, Array], Array],
    x: Float[Array, "lanes n_states"],
    inputs: Float[Array, "lanes n_inputs"],
    r: Float[Array, "lanes n_states"],
    n_slow: int,
) -> Subspace:
    """Return Newton's step, the gradient of `q`, and the directions in which `I - J` is smallest.

    These directions are found by inverse iteration on `(I - J)^T (I - J)` with the factorised
    Jacobian (Golub & Van Loan 2013, ch. 8.2). A step is bounded in the directions in which the
    network is slow. In all others, in which the network is linear enough, it is Newton's.

    Args:
        F: the network in the precision of the linear algebra.
        x: `[lanes, n_states]` states.
        inputs: `[lanes, n_inputs]` inputs.
        r: `[lanes, n_states]` the residuals `F(x) - x`, scaled to length one.
        n_slow: how many slow directions.
    """
    n_states = x.shape[1]
    A = _jacobians(F, x, inputs)
    some = jnp.asarray(np.random.RandomState(0).randn(n_states, n_slow), x.dtype)

    def one(lane: tuple[Array, Array]) -> tuple[Array, Any]:
        A, r = lane
        factors = lapack.lu_factor(A)
        forth = _columns_of_length_one(lapack.lu_solve_transposed(factors, some))
        slow = lapack.lu_solve(factors, jnp.column_stack([forth, r]))
        vectors = jnp.column_stack([slow, r, A.T @ r])
        return lapack.basis(_columns_of_length_one(vectors)).T, factors

    V, factors = one_by_one(one, (A, r))

    AV = jnp.einsum("lij,lkj->lki", A, V)

    def outside(b: Float[Array, "lanes k n_states"]) -> tuple[Array, Array]:
        d = one_by_one(lambda lane: lapack.lu_solve(lane[0], lane[1].T).T, (factors, b))
        d = jnp.where(jnp.isfinite(d), d, 0)
        part = jnp.einsum("lmd,lkd->lkm", V, d)
        return d - jnp.einsum("lkm,lmd->lkd", part, V), jnp.einsum("lkm,lmd->lkd", part, AV)

    return Subspace(V, AV, outside)


def gradient_krylov_space(
    F: Callable[[Array, Array], Array],
    x: Float[Array, "lanes n_states"],
    inputs: Float[Array, "lanes n_inputs"],
    r: Float[Array, "lanes n_states"],
    n_vectors: int,
) -> Subspace:
    """Return a Krylov space and the gradient of `q`, which it need not contain.

    Outside of this space the network forgets at once, so right-hand sides are nearly their own
    solutions.

    Args:
        F: the network, as for `slow_space`; so are the next three arguments.
        x: states.
        inputs: inputs.
        r: residuals.
        n_vectors: the dimension of the Krylov space.
    """
    _, jvp = jax.linearize(lambda x: jax.vmap(F)(x, inputs), x)
    vjp = jax.linear_transpose(jvp, x)
    V, AV = arnoldi(lambda p: p - jvp(p), r, min(n_vectors, x.shape[-1]))
    g = r - vjp(r)[0]
    size = jnp.linalg.norm(g, axis=-1, keepdims=True)
    for _ in range(2):
        g = g - jnp.einsum("lk,lkd->ld", jnp.einsum("lkd,ld->lk", V, g), V)
    norm = jnp.linalg.norm(g, axis=-1, keepdims=True)
    left = norm > 10 * jnp.finfo(x.dtype).eps * size
    g = g * jnp.where(left, 1 / jnp.where(left, norm, 1), 0)
    V = jnp.concatenate([V, g[:, None]], axis=1)
    AV = jnp.concatenate([AV, (g - jvp(g))[:, None]], axis=1)

    def outside(b: Float[Array, "lanes k n_states"]) -> tuple[Array, Array]:
        inside = jnp.einsum("lkm,lmd->lkd", jnp.einsum("lmd,lkd->lkm", V, b), V)
        return b - inside, inside

    return Subspace(V, AV, outside)


def _jacobians(
    F: Callable[[Array, Array], Array],
    x: Float[Array, "lanes n_states"],
    inputs: Float[Array, "lanes n_inputs"],
) -> Float[Array, "lanes n_states n_states"]:
    """Return `I - J` of each lane."""
    return jnp.eye(x.shape[1], dtype=x.dtype) - jax.vmap(jax.jacfwd(F))(x, inputs)


def _columns_of_length_one(vectors: Float[Array, "d m"]) -> Float[Array, "d m"]:
    # If `I - J` is singular, its solutions are not finite.
    vectors = jnp.where(jnp.isfinite(vectors), vectors, 0)
    largest = jnp.max(jnp.abs(vectors), axis=0)
    vectors = vectors / jnp.where(largest > 0, largest, 1)
    norm = jnp.linalg.norm(vectors, axis=0)
    return vectors / jnp.where(norm > 0, norm, 1)
