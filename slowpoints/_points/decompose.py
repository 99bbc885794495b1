"""`decompose`: eigenvalues, eigenvectors and stability."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra.leading_eigenpairs import leading_eigenpairs, leading_of_matrices
from slowpoints._linear_algebra.spectra import as_fields, spectra_of, square_jacobians
from slowpoints._linear_algebra.stability import relative_speed
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for


def decompose(fps: FixedPoints, *, k: int | None = None, F: Any = None) -> FixedPoints:
    """Fill the eigenvalues and right eigenvectors of the Jacobians, and the points' stability.

    With `k`, only the `k` eigenvalues of largest magnitude are computed, from products with the
    Jacobian (the Krylov-Schur form of thick-restarted Arnoldi: Stewart 2002). Together with `F`, no
    Jacobian is needed or formed, so this works for thousands of units.

    In continuous time (if `fps.continuous_time` is set or `F` is a
    [`ContinuousTime`][slowpoints.ContinuousTime]), the real part takes the place of the magnitude:
    eigenvalues are sorted by it, the `k` leading ones are those of largest real part, and a point
    is stable if its largest real part is below 0. If the leading eigenvalues are close together
    compared with the width of the spectrum, as in stiff systems, Arnoldi's method may not find
    them. They are then NaN; to get them, compute all eigenvalues of the Jacobians, without `k`.

    Args:
        fps: points with `J_xstar`; or, given `k` and `F`, with `xstar` and `inputs`.
        k: how many eigenvalues; all of them by default.
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.

    Returns:
        `fps` with `eigval_J_xstar` `[n, k]`, by falling magnitude, `eigvec_J_xstar`
        `[n, n_states, k]`, right eigenvectors of norm 1 in columns of the same order, and
        `is_stable` `[n]`, whether the largest `|eigenvalue|` is below 1, by more than rounding and
        the speed at the point explain (at most 1e-5, so that all points of a line attractor count
        as not stable). If the Jacobian of a row
        is not finite, or an eigenvalue did not converge, the result is NaN, and the row counts as
        unstable if this concerns its largest eigenvalue.

    Raises:
        ValueError: if `fps` has no Jacobians and `F` is not given, or `k` is out of range.
    """
    arguments.fields("decompose", fps, FixedPoints)
    speed = relative_speed(fps.qstar, fps.xstar, fps.x_init)
    if k is None:
        J = square_jacobians("decompose", fps.J_xstar)
        return fps.replace(**spectra_of(J, fps.continuous_time, speed))
    F = None if F is None else as_transition(F)
    if F is not None:
        fps = fps.replace(continuous_time=isinstance(F, ContinuousTime))
    return fps.replace(**as_fields(*_leading(fps, k, F), fps.continuous_time, speed))


# ---- the leading eigenvalues, from products ------------------------------------------------------


def _leading(
    fps: FixedPoints, k: Any, F: Transition | None
) -> tuple[Complex[RealArray, "n k"], Complex[RealArray, "n d k"]]:
    if F is None:
        J = square_jacobians("decompose", fps.J_xstar)
        k = arguments.whole("decompose", "k", k, least=1, most=J.shape[1])
        if not isinstance(J, np.ndarray):
            return leading_of_matrices(J, k, fps.continuous_time)
        # Otherwise, JAX would narrow float64 arrays of NumPy.
        with jax.enable_x64(True) if J.dtype == np.float64 else contextlib.nullcontext():
            values, vectors = leading_of_matrices(jnp.asarray(J), k, fps.continuous_time)
        return np.asarray(values), np.asarray(vectors)
    arguments.fields("decompose", fps, FixedPoints, "xstar", "inputs")
    k = arguments.whole("decompose", "k", k, least=1, most=fps.n_states)
    F = traced_for("decompose", F, fps)
    x = jnp.asarray(fps.xstar)
    u = jnp.asarray(fps.inputs, x.dtype)
    return _leading_of_jacobians(linearised_part(F), x, u, k, fps.continuous_time)


@CompiledOnce
def _leading_of_jacobians(
    F: Transition,
    x: Float[Array, "n d"],
    u: Float[Array, "n n_inputs"],
    k: int,
    continuous_time: bool,
) -> tuple[Complex[Array, "n k"], Complex[Array, "n d k"]]:
    def one(x: Array, u: Array) -> tuple[Array, Array]:
        _, jvp = jax.linearize(lambda x: F(x, u), x)
        return leading_eigenpairs(jvp, x, k, continuous_time)

    return jax.vmap(one)(x, u)
