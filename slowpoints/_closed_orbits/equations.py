"""The equations of a closed orbit as a Fourier series, and Newton's method for them.

An orbit is a curve `K` of period 1 in its phase. In a map it obeys `F(K(p)) = K(p + r)`, with the
rotation number `r`; in continuous time `f(K(p)) = r K'(p)`, with the frequency `r`. Both are linear
in `K` but for the network, and diagonal in its Fourier coefficients. So one method solves both: the
curve is known by its values at an odd number of phases, and `r` is one more unknown, for which the
phase is held (parametrisation method: Haro et al. 2016; harmonic balance).

All on the host, in the precision of the states.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

MOST_UNKNOWNS = 4096
"""With more unknowns, linear equations are solved by GMRES: a matrix of 128 MB is factorised in
seconds, but not one of twice the size."""

_MOST_STEPS = 30
FEWEST_PHASES = 31
"""The first attempt has 15 harmonics."""

_MOST_PHASES = 4095
_MOST_NUMBERS = 2**26
"""The Jacobians at all phases have so many entries at most: 512 MB."""

_GIVES_UP = 1e3
"""Newton's method has gone elsewhere if the curve has become so many times as large."""

_COLLAPSED = 1e-4
"""It has found a fixed point if the curve has shrunk to this part."""

COLLAPSED = "Newton's method went to a fixed point"
TOO_LARGE = "too many states for the Jacobians at 31 phases to be held in memory"
DIVERGED = "Newton's method did not converge: too far away, or an orbit of a neutral family"
UNRESOLVED = (
    "its Fourier series does not end: too sharp, or no closed curve (a cycle, a torus, chaos)"
)


@dataclasses.dataclass(frozen=True)
class Equations:
    """What an orbit has to obey.

    Attributes:
        values: from states `[n, n_states]` to the next ones, or to their derivatives in time.
        slopes: from states to the Jacobians `[n, n_states, n_states]` of these.
        continuous_time: which of the two.
    """

    values: Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, "n d"]]
    slopes: Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, "n d d"]]
    continuous_time: bool

    def factors(self, number: float, n: int) -> Complex[np.ndarray, " n"]:
        """Return what each Fourier coefficient is multiplied by on the side of the curve."""
        turns = 2j * np.pi * harmonics(n)
        return number * turns if self.continuous_time else np.exp(number * turns)

    def factors_by_number(self, number: float, n: int) -> Complex[np.ndarray, " n"]:
        """Return the derivatives of these by the rotation number or the frequency."""
        turns = 2j * np.pi * harmonics(n)
        return turns if self.continuous_time else turns * np.exp(number * turns)

    def residual(self, x: Float[np.ndarray, "n d"], number: float) -> Float[np.ndarray, "n d"]:
        """Return by how much the curve fails to obey, at each of its phases."""
        return filtered(self.factors(number, len(x)), x) - self.values(x)


@dataclasses.dataclass(frozen=True)
class Orbit:
    """A closed orbit, in units of states.

    Attributes:
        x: `[n_phases, n_states]` its states at equal distances in phase.
        number: the rotation number, or the frequency.
        error: how far its states are from those of a series of half as many harmonics, at most.
        number_error: the same of the number.
        reason: why it is none; empty if it is one.
    """

    x: Float[np.ndarray, "n_phases n_states"]
    number: float
    error: float = np.inf
    number_error: float = np.inf
    reason: str = ""


def harmonics(n: int) -> Float[np.ndarray, " n"]:
    """Return the numbers of the Fourier coefficients of `n` values, in NumPy's order."""
    return np.fft.fftfreq(n, 1 / n)


def filtered(
    factors: Complex[np.ndarray, " n"], x: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n d"]:
    """Return a curve whose Fourier coefficients are multiplied by factors."""
    return np.fft.ifft(factors[:, None] * np.fft.fft(x, axis=0), axis=0).real


def at_phases(x: Float[np.ndarray, "n d"], n: int) -> Float[np.ndarray, "m d"]:
    """Return a curve at another number of phases."""
    old, kept = len(x), min(len(x), n)
    coefficients = np.zeros((n, x.shape[1]), complex)
    side = (kept - 1) // 2
    given = np.fft.fft(x, axis=0) / old
    coefficients[: side + 1] = given[: side + 1]
    if side:
        coefficients[-side:] = given[-side:]
    return np.fft.ifft(coefficients * n, axis=0).real


def at_any(
    x: Float[np.ndarray, "n d"], phases: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "k d"]:
    """Return the states of a curve at any phases, in turns."""
    turns = 2j * np.pi * harmonics(len(x))
    return (np.exp(turns * phases[:, None]) @ (np.fft.fft(x, axis=0) / len(x))).real


def at_equal(x: Float[np.ndarray, "n d"], n: int, first: float = 0.0) -> Float[np.ndarray, "m d"]:
    """Return the states of a curve at `n` phases at equal distances, from a first one on."""
    k = harmonics(len(x))
    given = np.exp(2j * np.pi * k * first)[:, None] * np.fft.fft(x, axis=0) / len(x)
    coefficients = np.zeros((n, x.shape[1]), complex)
    np.add.at(coefficients, k.astype(int) % n, given)
    return np.fft.ifft(coefficients * n, axis=0).real


def solved(equations: Equations, x: Float[np.ndarray, "n d"], number: float, tol: float) -> Orbit:
    """Return the closed orbit near a curve, with as many harmonics as it takes.

    Args:
        equations: what it has to obey.
        x: the curve at equal distances in phase, in units of states.
        number: the rotation number, or the frequency.
        tol: the error that is asked for, as a part of the curve's size.
    """
    given, size, before = (x, number), curve_radius(x), None
    if next(phase_counts(x.shape[1]), None) is None:
        return Orbit(x, number, reason=TOO_LARGE)
    for n in phase_counts(x.shape[1]):
        now = _newton(equations, at_phases(x, n), number, size)
        if now.reason and before is not None and n <= 4 * FEWEST_PHASES + 3:
            # A curve that is too coarse may lead to what is no orbit.
            now, before = _newton(equations, at_phases(given[0], n), given[1], size), None
        if not now.reason and curve_radius(now.x) < _COLLAPSED * size:
            return dataclasses.replace(now, reason=COLLAPSED)
        if now.reason:
            if before is not None or n > 2 * FEWEST_PHASES + 1:
                return now
            continue  # a curve that is too coarse may fail where a finer one does not
        x, number = now.x, now.number
        if before is not None:
            error = np.linalg.norm(at_phases(x, len(before.x)) - before.x, axis=1).max()
            now = dataclasses.replace(
                now, error=float(error), number_error=abs(number - before.number)
            )
            if error <= tol * curve_radius(x):
                return now
        before = now
    if before is None or before.error > _ENOUGH * curve_radius(x):
        return Orbit(x, number, reason=UNRESOLVED)
    return before


_ENOUGH = 1e-6
"""An orbit with an error of this part of its size is one, even if less was asked for."""


def phase_counts(n_states: int, fewest: int = FEWEST_PHASES) -> Iterator[int]:
    """Return the numbers of phases to try, each with twice the harmonics of the one before."""
    n = fewest
    while n <= _MOST_PHASES and n * n_states**2 <= _MOST_NUMBERS:
        yield n
        n = 2 * n + 1


def curve_radius(x: Float[np.ndarray, "n d"]) -> float:
    """Return the root mean square of the distance of a curve's states from their mean."""
    return float(np.sqrt(np.mean(np.sum(np.square(x - x.mean(axis=0)), axis=1))))


def _newton(equations: Equations, x: Float[np.ndarray, "n d"], number: float, size: float) -> Orbit:
    """Run Newton's method, with shorter steps where a whole one does not lower the residual."""
    rounding = np.finfo(x.dtype).eps
    residual = equations.residual(x, number)
    for _ in range(_MOST_STEPS):
        try:
            change, by_number = _newton_step(equations, x, number, residual)
        except np.linalg.LinAlgError:
            return Orbit(x, number, reason=DIVERGED)
        before, part = np.linalg.norm(residual), 1.0
        while True:
            new, new_number = x + part * change, number + part * by_number
            after = equations.residual(new, new_number)
            if np.linalg.norm(after) < before or part < 1 / 64:
                break
            part /= 2
        moved = part * np.linalg.norm(change, axis=1).max()
        scale = np.abs(new).max() if np.isfinite(new).all() else np.inf
        if not np.isfinite(after).all() or curve_radius(new) > _GIVES_UP * size:
            return Orbit(x, number, reason=DIVERGED)
        small = moved <= np.sqrt(rounding) * scale  # the next one would be as small as its square
        if small and not np.linalg.norm(after) < before:
            return Orbit(x, number)  # no better, to rounding
        x, number, residual = new, new_number, after
        if small:
            return Orbit(x, number)
    return Orbit(x, number, reason=DIVERGED)


def _newton_step(
    equations: Equations, x: Float[np.ndarray, "n d"], number: float, residual: Any
) -> tuple[Float[np.ndarray, "n d"], float]:
    """Return by how much to change the curve and its number; along the curve, it stays."""
    n = len(x)
    by_number = filtered(equations.factors_by_number(number, n), x).reshape(-1, 1)
    along = np.append(filtered(2j * np.pi * harmonics(n), x).ravel(), 0)[None]
    target = np.append(-residual.ravel(), 0.0)
    found, _ = solve_bordered(equations, number, equations.slopes(x), by_number, along, target)
    found = found[0]
    return found[:-1].reshape(x.shape), float(found[-1])


def solve_bordered(
    equations: Equations,
    number: float,
    J: Float[np.ndarray, "n d d"],
    columns: Float[np.ndarray, "n_times_d k"],
    rows: Float[np.ndarray, "k n_times_d_plus_k"],
    *targets: Float[np.ndarray, " n_times_d_plus_k"],
) -> tuple[list[Float[np.ndarray, " n_times_d_plus_k"]], float]:
    """Solve the linear equations of a curve together with `k` others and `k` more unknowns.

    Returns:
        The solutions for each of several right-hand sides, and the sign of the determinant; 0 if it
        is not known.

    Raises:
        numpy.linalg.LinAlgError: if they have no solution, or GMRES does not find it.
    """
    from scipy.linalg.lapack import (  # Pyright does not see its functions
        dgetrf,  # pyright: ignore[reportAttributeAccessIssue]
        dgetrs,  # pyright: ignore[reportAttributeAccessIssue]
    )

    n, d, _ = J.shape
    if n * d > MOST_UNKNOWNS:
        return [_by_gmres(equations, number, J, columns, rows, t) for t in targets], 0.0
    size = n * d
    A = np.zeros((size + len(rows), size + len(rows)))
    A[:size, :size] = np.kron(_matrix(equations.factors(number, n)), np.eye(d))
    place = np.arange(size).reshape(n, d)
    A[place[:, :, None], place[:, None, :]] -= J
    A[:size, size:] = columns
    A[size:] = rows
    factors, pivots, singular = dgetrf(A)
    diagonal = np.diagonal(factors)
    if singular or not np.isfinite(diagonal).all():
        raise np.linalg.LinAlgError("Singular matrix")
    swaps = np.sum(pivots != np.arange(len(pivots)))
    sign = float(np.prod(np.sign(diagonal)) * (-1) ** swaps)
    found = dgetrs(factors, pivots, np.stack(targets, axis=1))[0]
    return list(found.T), sign


def _matrix(factors: Complex[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
    """Return the matrix that multiplies values by factors of their Fourier coefficients."""
    return filtered(factors, np.eye(len(factors)))


def _by_gmres(
    equations: Equations, number: float, J: Any, columns: Any, rows: Any, target: Any
) -> Float[np.ndarray, " k"]:
    """Solve by GMRES, with the mean Jacobian, which is diagonal in the harmonics, in place of all.

    The few other equations are taken as they are (Schur's complement).
    """
    from scipy.sparse.linalg import LinearOperator, gmres

    n, d, _ = J.shape
    size = n * d
    factors = equations.factors(number, n)
    values, vectors = np.linalg.eig(J.mean(axis=0))
    back = np.linalg.inv(vectors)
    apart = factors[:, None] - values

    def product(v: Any) -> Any:
        y = v[:size].reshape(n, d)
        image = filtered(factors, y) - (J @ y[:, :, None])[:, :, 0]
        return np.append(image.ravel() + columns @ v[size:], rows @ v)

    def by_mean(v: Any) -> Any:
        y = np.fft.fft(v.reshape(n, d), axis=0) @ back.T
        return np.fft.ifft((y / apart) @ vectors.T, axis=0).real.ravel()

    solved_columns = np.stack([by_mean(column) for column in columns.T], axis=1)
    complement = rows[:, size:] - rows[:, :size] @ solved_columns

    def nearly_solved(v: Any) -> Any:
        y = by_mean(v[:size])
        others = np.linalg.solve(complement, v[size:] - rows[:, :size] @ y)
        return np.append(y - solved_columns @ others, others)

    shape = (len(target), len(target))
    A = LinearOperator(shape, matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    M = LinearOperator(shape, matvec=nearly_solved, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    found, failed = gmres(A, target, M=M, rtol=1e-9, restart=100, maxiter=4)
    if failed and np.linalg.norm(product(found) - target) > 0.1 * np.linalg.norm(target):
        raise np.linalg.LinAlgError("GMRES did not converge")
    return found
