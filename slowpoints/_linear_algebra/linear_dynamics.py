"""What eigenvalues and eigenvectors say: time constants, frequencies, selectivity, types of points.

These functions take arrays of NumPy or JAX; the methods of `FixedPoints` call them. A deviation
along an eigenvector grows as `lambda^t` for a map `x_{t+1} = F(x_t)`, and as `exp(lambda t)` for a
flow `dx/dt = f(x)`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Num

from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack

LINE_TOL = 1e-2
"""So far from 1 (in continuous time, from 0) is the eigenvalue of a line direction by default: its
time constant is 100 steps or more."""

_RESOLVED = 100
"""An eigenvalue nearer 1 than this many units in its last place may be at 1 as well. Its time
constant may then be any, of either sign."""

# NumPy-backed points have NumPy-backed spectra, which keeps float64 whatever JAX is set to.


def growth_rates(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Float[RealArray, "*b k"]:
    """Return the rate at which deviations grow: `log|lambda|` per step, or `Re lambda` for a flow.

    A negative rate means decay. If an eigenvalue of a map is 0, its rate is `-inf`.
    """
    xp = _backend(eigval)
    if continuous_time:
        return xp.real(eigval)
    with np.errstate(divide="ignore"):
        return xp.log(xp.abs(eigval))


def time_constants(
    eigval: Num[RealArray, "*b k"], continuous_time: bool
) -> Float[RealArray, "*b k"]:
    """Return how long deviations take to decay by a factor of e: see `FixedPoints`."""
    xp = _backend(eigval)
    rates = growth_rates(eigval, continuous_time)
    with np.errstate(divide="ignore"):
        return xp.where(rates == 0, np.inf, -1 / rates)


def longest_time(
    eigval: Num[np.ndarray, "*b k"], continuous_time: bool, eps: float
) -> Float[np.ndarray, "*b"]:
    """Return how long modes last, at least, that rounding does not tell from neutral ones.

    Args:
        eigval: `[..., k]` eigenvalues; those of a flow say what rates are rounded in.
        continuous_time: whether they belong to a flow rather than a map.
        eps: the precision in which the Jacobians were computed.
    """
    size = np.abs(eigval).max(axis=-1, initial=0.0)
    if not continuous_time:
        size = np.where(np.isnan(size), np.nan, 1.0)
    with np.errstate(divide="ignore"):
        return 1 / (_RESOLVED * eps * size)


def lasting(time: float, longest: float) -> str:
    """Write how long a mode lasts; as a bound if rounding does not tell it from a neutral one."""
    return f"longer than {longest:.2g}" if abs(time) > longest else f"{time:.4g}"


def count_growing(time: Float[np.ndarray, " n"], longest: Float[np.ndarray, " n"]) -> int:
    """Return along how many modes deviations grow, as far as rounding tells that from decay."""
    return int(np.sum((time < 0) & (np.abs(time) <= longest)))


def frequencies(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Float[RealArray, "*b k"]:
    """Return how many times deviations rotate per step or unit of time: see `FixedPoints`."""
    xp = _backend(eigval)
    if continuous_time:
        return xp.imag(eigval) / (2 * np.pi)
    angle = xp.angle(eigval)
    # Deviations alternate along a negative eigenvalue, whatever the sign of its imaginary zero.
    return xp.where(xp.imag(eigval) == 0, xp.abs(angle), angle) / (2 * np.pi)


def left_eigenvectors(
    eigvec: Complex[RealArray, "n d d"], unit: Float[np.ndarray, " d"] | None = None
) -> Complex[RealArray, "n d d"]:
    """Return the inverse of each matrix of right eigenvectors, or NaN for a defective Jacobian.

    In a defective matrix, rounding splits a multiple eigenvalue, and its eigenvectors, by about the
    square root of the machine precision `eps`. Eigenvectors therefore count as independent only up
    to a condition number of `0.5 / sqrt(eps)`.

    Args:
        eigvec: the eigenvectors in columns.
        unit: what the entries of the states are measured in, where that is not the same for all.
            Eigenvectors in these units then tell whether they are independent.
    """
    if unit is not None and not (unit == unit[:1]).all():
        xp, unit = _backend(eigvec), unit.astype(np.finfo(eigvec.dtype).dtype)
        own = eigvec / unit[:, None]
        length = xp.linalg.norm(own, axis=1, keepdims=True)
        return left_eigenvectors(own / length) / length.swapaxes(1, 2) / unit
    xp = _backend(eigvec)
    finite = xp.isfinite(eigvec).all(axis=(1, 2))
    eye = xp.eye(eigvec.shape[1], dtype=eigvec.dtype)
    vectors = xp.where(finite[:, None, None], eigvec, eye)
    if xp is np:
        singular = np.linalg.svd(vectors, compute_uv=False)
    else:
        singular = jax.vmap(lapack.singular_values)(jax.lax.stop_gradient(vectors))
    bound = 2 * float(np.sqrt(np.finfo(eigvec.dtype).eps))
    least, most = (singular.min(axis=1, initial=np.inf), singular.max(axis=1, initial=0))
    independent = (finite & (least > bound * most))[:, None, None]
    regular = xp.where(independent, eigvec, eye)
    inverse = np.linalg.inv(regular) if xp is np else jax.vmap(lapack.inverse)(regular)
    return xp.where(independent, inverse, np.nan)


def slowest(
    eigval: Num[RealArray, "n k"], n_states: int, continuous_time: bool
) -> Int[RealArray, " n"]:
    """Return which mode of each point is the slowest, whether it grows or decays.

    For a map that is the eigenvalue nearest the unit circle, the one of smallest `|log|lambda||`,
    and for a flow the one whose real part is nearest 0. Of a complex pair it is the first.

    Args:
        eigval: `[n, k]` all eigenvalues or the `k` leading ones, leading first.
        n_states: the number of all eigenvalues.
        continuous_time: whether the eigenvalues belong to a flow rather than a map.

    Returns:
        The column of `eigval`; or -1 if it is not known, because an eigenvalue is NaN, or because
        only leading ones are known and all of them grow, so that a slower one may follow.
    """
    xp = _backend(eigval)
    n, k = eigval.shape
    if k == 0:
        return xp.full(n, -1)
    rates = growth_rates(eigval, continuous_time)
    # Those that are not known decay, or grow no faster than the last one that is.
    known = ~xp.isnan(rates).any(axis=1) & (xp.asarray(k == n_states) | (rates[:, -1] <= 0))
    return xp.where(known, xp.argmin(xp.abs(rates), axis=1), -1)


def count_unstable(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Int[RealArray, "*b"]:
    """Return how many eigenvalues make deviations grow, or -1 if one of them is NaN."""
    xp = _backend(eigval)
    count = xp.sum(grow(eigval, continuous_time), axis=-1)
    return xp.where(xp.isnan(eigval).any(axis=-1), -1, count)


def grow(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Bool[RealArray, "*b k"]:
    """Return which eigenvalues make deviations grow."""
    # The sign of the rate will not do, because the logarithm rounds.
    xp = _backend(eigval)
    return xp.real(eigval) > 0 if continuous_time else xp.abs(eigval) > 1


def decay(eigval: Num[RealArray, "*b k"], continuous_time: bool) -> Bool[RealArray, "*b k"]:
    """Return which eigenvalues make deviations decay. A NaN makes them neither grow nor decay."""
    xp = _backend(eigval)
    return xp.real(eigval) < 0 if continuous_time else xp.abs(eigval) < 1


def describe(
    eigval: Num[np.ndarray, " k"], n_states: int, continuous_time: bool, line_tol: float
) -> str:
    """Name the type of one point, as documented in `FixedPoints.types`.

    Args:
        eigval: `[k]` all eigenvalues or the `k` leading ones, with the leading one first.
        n_states: the number of all eigenvalues.
        continuous_time: whether the eigenvalues belong to a flow rather than a map.
        line_tol: how far an eigenvalue may be from 1 (for a flow, from 0) and still count as a
            direction along which the network integrates.
    """
    if not eigval.size or np.isnan(eigval).any():
        return "unknown"
    neutral = np.abs(eigval - (0 if continuous_time else 1)) <= line_tol
    unstable = grow(eigval, continuous_time) & ~neutral
    stable = decay(eigval, continuous_time) & ~neutral
    # Rounding does not tell slower ones from neutral ones, which integrate.
    growth = np.asarray(growth_rates(eigval[None], continuous_time))[0]
    longest = longest_time(eigval[None], continuous_time, float(np.finfo(eigval.dtype).eps))
    n_growing = int(np.sum(neutral & (growth > 1 / longest[0])))
    index, complete = int(np.sum(unstable)), eigval.size == n_states
    if not complete and not stable.any():  # more of them may be unstable
        kind = f"saddle of index {index} or more" if index else "unknown"
    elif index == eigval.size:
        kind = "repeller"
    elif index:
        kind = f"saddle of index {index}"
    else:
        kind = "attractor" if np.all(stable | neutral) else "marginal"
    parts = [] if kind == "attractor" and n_growing else [kind]
    if not neutral.all():
        leading = eigval[~neutral][0]
        if np.abs(np.imag(leading)) > rounded_turn(eigval):
            parts.append("spiral")
        elif not kind.startswith("saddle"):  # a saddle is no node
            parts.append("node")
    if n_lines := int(np.sum(neutral)):
        growing = f" ({n_growing} growing)" if n_growing else ""
        parts.append(f"{n_lines} line direction{'s' if n_lines > 1 else ''}{growing}")
    return ", ".join(parts)


def rounded_turn(eigval: Num[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b"] | np.floating:
    """Return the largest imaginary part that may be no more than rounding, for each point.

    Rounding splits a double eigenvalue by about the square root of the precision.
    """
    return np.sqrt(np.finfo(eigval.dtype).eps) * np.abs(eigval).max(axis=-1)


def _backend(array: Any) -> Any:
    return np if isinstance(array, (np.ndarray, np.generic)) else jnp
