"""How deviations grow along a closed orbit: multipliers in continuous time, exponents in maps."""

import numpy as np
from jaxtyping import Complex, Float

from slowpoints._closed_orbits.equations import Equations, harmonics

_TOLERANCE = 1e-12
"""Of the deviations, relative to their own size."""

_STEPS = 4000
"""So many steps along an invariant circle are averaged, after an eighth as many for directions to
turn to where they stay."""


def multipliers_of_cycle(
    equations: Equations, x: Float[np.ndarray, "n d"], period: float
) -> Complex[np.ndarray, " d"]:
    """Return the Floquet multipliers of a closed orbit in continuous time, the largest first.

    They are the eigenvalues of the monodromy matrix, which takes a deviation once round.
    """
    from scipy.integrate import solve_ivp

    n, d = x.shape
    coefficients = np.fft.fft(x, axis=0) / n
    turns = 2j * np.pi * harmonics(n)

    def change(phase: float, flat: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        state = (np.exp(turns * phase) @ coefficients).real
        return (period * equations.slopes(state[None])[0] @ flat.reshape(d, d)).ravel()

    way = solve_ivp(
        change, (0, 1), np.eye(d).ravel(), method="DOP853", rtol=_TOLERANCE, atol=_TOLERANCE
    )
    values = np.linalg.eigvals(way.y[:, -1].reshape(d, d)).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]


def exponents_of_circle(
    equations: Equations, x: Float[np.ndarray, "n d"], number: float, k: int
) -> Float[np.ndarray, " k"]:
    """Return the leading Lyapunov exponents of an invariant circle of a map.

    States are taken from the circle at phases that turn by the rotation number, and not from a
    trajectory, which would leave an orbit that repels.
    """
    n, d = x.shape
    coefficients = np.fft.fft(x, axis=0) / n
    turns = 2j * np.pi * harmonics(n)
    aligning = _STEPS // 8
    phases = number * np.arange(aligning + _STEPS)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(d, k)))[0]
    rates = np.zeros((len(phases), k))
    at_a_time = max(1, 2**22 // d**2)
    for start in range(0, len(phases), at_a_time):
        part = phases[start : start + at_a_time]
        states = (np.exp(turns * part[:, None]) @ coefficients).real
        for step, J in enumerate(equations.slopes(states), start):
            Q, R = np.linalg.qr(J @ Q)
            with np.errstate(divide="ignore"):
                rates[step] = np.log(np.abs(np.diagonal(R)))
    s = (np.arange(_STEPS) + 0.5) / _STEPS
    weights = np.exp(-1 / (s * (1 - s)))
    return np.sort(weights @ rates[aligning:] / weights.sum())[::-1]
