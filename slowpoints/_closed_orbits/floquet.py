"""How deviations grow along a closed orbit: multipliers in continuous time, exponents in maps."""

from itertools import pairwise

import numpy as np
from jaxtyping import Complex, Float

from slowpoints._attractors.rotation import smooth_weights
from slowpoints._closed_orbits.equations import Equations, harmonics

_TOLERANCE = 1e-12
"""Of the deviations, relative to their own size."""

_SEGMENTS = 64
"""Deviations are integrated over so many parts of the period, and orthogonalised in between."""

_ROUNDS = 50
"""Exponents of directions that shrink by more than numbers hold are averaged over so many rounds,
after as many for directions to turn to where they stay."""

_TINY = 1e-8
"""Multipliers below this part of the largest are not told from rounding by eigenvalues."""

_FEWEST_STEPS = 4000
_MOST_STEPS = 100_000
_TURNS = 40
"""So many turns, and at least so many steps, along an invariant circle are averaged, after an
eighth as many for directions to turn to where they stay."""


def multipliers_of_cycle(
    equations: Equations, x: Float[np.ndarray, "n d"], period: float
) -> tuple[Complex[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return the Floquet multipliers of a closed orbit in continuous time, and the exponents.

    The multipliers are the eigenvalues of the monodromy matrix, which takes a deviation once round.
    Of those that are tiny beside others, the magnitude comes from the exponents of a QR
    decomposition along the orbit, and the sign is that of rounding.

    Returns:
        Both by falling magnitude.
    """
    from scipy.integrate import solve_ivp

    n, d = x.shape
    coefficients = np.fft.fft(x, axis=0) / n
    turns = 2j * np.pi * harmonics(n)

    def change(phase: float, flat: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        state = (np.exp(turns * phase) @ coefficients).real
        return (period * equations.slopes(state[None])[0] @ flat.reshape(d, d)).ravel()

    ends = np.linspace(0, 1, _SEGMENTS + 1)
    parts, how = [], {"method": "DOP853", "rtol": _TOLERANCE, "atol": _TOLERANCE}
    for span in pairwise(ends.tolist()):
        way = solve_ivp(change, span, np.eye(d).ravel(), **how)
        parts.append(way.y[:, -1].reshape(d, d))
    whole = np.eye(d)
    for part in parts:
        whole = part @ whole
    values = np.linalg.eigvals(whole).astype(complex)
    values = values[np.argsort(-np.abs(values), kind="stable")]
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        exponents = np.log(size) / period
    tiny = size <= _TINY * max(1.0, size[0])
    if tiny.any():
        exponents[tiny] = np.sort(_by_rounds(parts, d))[::-1][tiny] / period
        phase = values[tiny] / np.where(size[tiny] > 0, size[tiny], 1)
        values[tiny] = np.where(size[tiny] > 0, phase, 1) * np.exp(period * exponents[tiny])
    return values, exponents


def _by_rounds(parts: list[Float[np.ndarray, "d d"]], d: int) -> Float[np.ndarray, " d"]:
    """Return the logarithms of how directions grow in one round."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    total = np.zeros(d)
    with np.errstate(divide="ignore"):
        for number in range(2 * _ROUNDS):
            for part in parts:
                Q, R = np.linalg.qr(part @ Q)
                if number >= _ROUNDS:
                    total += np.log(np.abs(np.diagonal(R)))
    return total / _ROUNDS


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
    slowest = max(min(number % 1, -number % 1), _TURNS / _MOST_STEPS)
    n_steps = max(_FEWEST_STEPS, int(_TURNS / slowest))
    aligning = n_steps // 8
    phases = number * np.arange(aligning + n_steps)
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
    return np.sort(smooth_weights(n_steps) @ rates[aligning:])[::-1]
