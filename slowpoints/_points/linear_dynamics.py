"""What eigenvalues and eigenvectors say: time constants, frequencies, selectivity, kinds of points.

Functions of arrays, of NumPy or JAX, for the methods of `FixedPoints`. Of a map `x_{t+1} = F(x_t)`,
deviations along an eigenvector grow as `lambda^t`; of a flow `dx/dt = f(x)`, as `exp(lambda t)`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Num

from slowpoints._core.types import RealArray

# Spectra are NumPy arrays where the points are, so that float64 is kept whatever JAX's setting.


def growth_rates(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Float[RealArray, "*b k"]:
    """Return the rates at which deviations grow: `log|lambda|` a step, or `Re lambda`.

    Negative rates decay. An eigenvalue 0 of a map has the rate `-inf`.
    """
    xp = _backend(eigval)
    if continuous_time:
        return xp.real(eigval)
    with np.errstate(divide="ignore"):
        return xp.log(xp.abs(eigval))


def time_constants(
    eigval: Num[RealArray, "*b k"], continuous_time: bool
) -> Float[RealArray, "*b k"]:
    """Return the times in which deviations decay by a factor of e: see `FixedPoints`."""
    xp = _backend(eigval)
    rates = growth_rates(eigval, continuous_time)
    with np.errstate(divide="ignore"):
        return xp.where(rates == 0, np.inf, -1 / rates)


def frequencies(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Float[RealArray, "*b k"]:
    """Return in how many cycles a unit of time deviations turn: see `FixedPoints`."""
    xp = _backend(eigval)
    if continuous_time:
        return xp.imag(eigval) / (2 * np.pi)
    angle = xp.angle(eigval)
    # A negative real eigenvalue alternates, whatever the sign of its imaginary zero.
    return xp.where(xp.imag(eigval) == 0, xp.abs(angle), angle) / (2 * np.pi)


def left_eigenvectors(eigvec: Complex[RealArray, "n d d"]) -> Complex[RealArray, "n d d"]:
    """Return the inverses of matrices of right eigenvectors; NaN for a defective Jacobian.

    Rounding splits a multiple eigenvalue of a defective matrix by the root of the precision, and
    the eigenvectors with it: so the columns are taken for independent up to a condition number of
    half of its inverse only.
    """
    xp = _backend(eigvec)
    finite = xp.isfinite(eigvec).all(axis=(1, 2))
    singular = xp.linalg.svd(
        xp.where(finite[:, None, None], eigvec, xp.eye(eigvec.shape[1], dtype=eigvec.dtype)),
        compute_uv=False,
    )
    bound = 2 * float(np.sqrt(np.finfo(eigvec.dtype).eps))
    least, most = (singular.min(axis=1, initial=np.inf), singular.max(axis=1, initial=0))
    independent = (finite & (least > bound * most))[:, None, None]
    eye = xp.eye(eigvec.shape[1], dtype=eigvec.dtype)
    inverse = xp.linalg.inv(xp.where(independent, eigvec, eye))
    return xp.where(independent, inverse, np.nan)


def count_unstable(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Int[RealArray, "*b"]:
    """Return how many of the eigenvalues make deviations grow; -1 where one is NaN."""
    xp = _backend(eigval)
    count = xp.sum(grow(eigval, continuous_time), axis=-1)
    return xp.where(xp.isnan(eigval).any(axis=-1), -1, count)


def grow(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Bool[RealArray, "*b k"]:
    """Return which eigenvalues make deviations grow."""
    # Not by the rate: its logarithm rounds.
    xp = _backend(eigval)
    return xp.real(eigval) > 0 if continuous_time else xp.abs(eigval) > 1


def decay(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Bool[RealArray, "*b k"]:
    """Return which eigenvalues make deviations decay. NaN makes them do neither."""
    xp = _backend(eigval)
    return xp.real(eigval) < 0 if continuous_time else xp.abs(eigval) < 1


def describe(
    eigval: Num[np.ndarray, " k"], n_states: int, continuous_time: bool, line_tol: float
) -> str:
    """Name the type of one point by its eigenvalues, the leading one first: see `FixedPoints`.

    Args:
        eigval: `[k]` all eigenvalues or the `k` leading ones.
        n_states: how many there are in all.
        continuous_time: whether they are of a flow rather than of a map.
        line_tol: how far from 1 (flow: 0) an eigenvalue counts as that of a line attractor.
    """
    if not eigval.size or np.isnan(eigval).any():
        return "unknown"
    neutral = np.abs(eigval - (0 if continuous_time else 1)) <= line_tol
    unstable = grow(eigval, continuous_time) & ~neutral
    stable = decay(eigval, continuous_time) & ~neutral
    index, complete = int(np.sum(unstable)), eigval.size == n_states
    if not complete and not stable.any():  # more of them may be unstable
        kind = f"saddle of index {index} or more" if index else "unknown"
    elif index == eigval.size:
        kind = "repeller"
    elif index:
        kind = f"saddle of index {index}"
    else:
        kind = "attractor" if np.all(stable | neutral) else "marginal"
    parts = [kind]
    if not neutral.all():
        leading = eigval[~neutral][0]
        # Rounding parts a double eigenvalue by the root of the precision.
        turn = np.sqrt(np.finfo(eigval.dtype).eps) * np.abs(eigval).max()
        parts.append("spiral" if np.abs(np.imag(leading)) > turn else "node")
    if n_lines := int(np.sum(neutral)):
        parts.append(f"{n_lines} line direction{'s' if n_lines > 1 else ''}")
    return ", ".join(parts)


def _backend(array: Any) -> Any:
    return np if isinstance(array, (np.ndarray, np.generic)) else jnp
