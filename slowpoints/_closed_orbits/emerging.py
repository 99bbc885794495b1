"""Where families of closed orbits begin: at Hopf and Neimark-Sacker points and period doublings.

Beside the state or the orbit that loses its stability there are orbits of another family, in the
direction of the eigenvector that loses it. The first of them is a given distance away in this
direction, at a parameter that follows from that.
"""

import numpy as np
from jaxtyping import Float

from slowpoints._closed_orbits.closed_orbits import orbits_near
from slowpoints._closed_orbits.equations import (
    FEWEST_PHASES,
    at_any,
    at_equal,
    at_phases,
    curve_radius,
)
from slowpoints._closed_orbits.floquet import segments
from slowpoints._closed_orbits.following import N_EXPONENTS, FailedError, OrbitPoint, Path
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._network.base import Transition

_FIRST, _MOST_DISTANCES = 1e-3, 32
"""The first distance to try, in units of states, or as a part of the orbit's size, and how many
distances. The unit of states at the origin is not known."""

_FARTHER = 4.0
"""Distances grow by this factor."""

_FAR, _TOO_FAR = 1e-4, 2e-3
"""An orbit is far enough if the parameter differs by the first part of the span, and too far beyond
the second. With twice the distance, it differs four times as much."""

_OFF = 1 + 1e-9
"""The rotation number of a map's circle is sought from this multiple of what it is at the point:
where that is a sixth, say, harmonics are in resonance, and the equations there are singular."""

_SEGMENTS = 512
"""The period is divided into so many parts for the direction in which it doubles."""

_ASTRAY = 0.5
"""What is found is not of the family if it is farther from where it is expected than this part of
the distance."""


def found_orbits(
    G: Transition, path: Path, guesses: list[OrbitPoint | None], sigmas: list[float]
) -> ClosedOrbits:
    """Return the orbits near what is nearly one; rows with nothing are not resolved.

    Args:
        G: the network, traced.
        path: the equations.
        guesses: what is nearly an orbit.
        sigmas: the parameters to report where there is nothing.
    """
    network = path.network
    d = len(network.unit)
    given = [guess for guess in guesses if guess is not None]
    n = max((len(guess.x) for guess in given), default=FEWEST_PHASES)
    nothing = np.full((n, d), np.nan)
    x = [nothing if g is None else network.unit * at_equal(g.x, n) for g in guesses]
    places = zip(guesses, sigmas, strict=True)
    u = [path.input_at(sigma if g is None else g.sigma) for g, sigma in places]
    return orbits_near(
        G,
        np.reshape(x, (len(x), n, d)).astype(network.dtype),
        np.reshape(u, (len(u), 1)).astype(network.dtype),
        [None if guess is None else guess.number for guess in guesses],
        tol=1e-10,
        n_exponents=min(d, N_EXPONENTS),
        n_sample=256,
    )


def orbit_of_point(
    path: Path, x: Float[np.ndarray, " d"], sigma: float, eigval: complex
) -> OrbitPoint | None:
    """Return a small orbit beside a Hopf or a Neimark-Sacker point, if one is found.

    Args:
        path: the equations.
        x: the state, in its units.
        sigma: the parameter, as a part of the span.
        eigval: the upper one of the pair of eigenvalues.
    """
    equations = path.network.at(path.input_at(sigma))
    values, vectors = np.linalg.eig(equations.slopes(x[None])[0])
    vector = vectors[:, np.argmin(np.abs(values - eigval))]
    turned = eigval.imag if equations.continuous_time else _OFF * float(np.angle(eigval))
    phases = np.arange(FEWEST_PHASES) / FEWEST_PHASES
    direction = np.real(np.exp(2j * np.pi * phases)[:, None] * vector)
    at_rest = np.broadcast_to(x, direction.shape)
    return _aside(path, at_rest, turned / (2 * np.pi), sigma, direction, size=1.0)


def doubled_orbit(path: Path, point: OrbitPoint) -> OrbitPoint | None:
    """Return an orbit of about twice the period beside one whose multiplier is -1, if one is found.

    In the direction in which it doubles, a deviation has changed its sign after one period.
    """
    equations = path.network.at(path.input_at(point.sigma))
    parts = segments(equations, point.x, 1 / point.number, _SEGMENTS)
    through = [np.eye(len(parts[0]))]
    for part in parts:
        through.append(part @ through[-1])
    values, vectors = np.linalg.eig(through[-1])
    vector = np.real(vectors[:, np.argmin(np.abs(values + 1))])
    once = np.stack(through[:-1]) @ vector
    n = 2 * len(point.x) + 1
    direction = at_phases(np.concatenate([once, -once]), n)
    twice = at_any(point.x, 2 * np.arange(n) / n)
    size = curve_radius(point.x)
    return _aside(path, twice, point.number / 2, point.sigma, direction, size)


def _aside(
    path: Path,
    x: Float[np.ndarray, "n d"],
    number: float,
    sigma: float,
    direction: Float[np.ndarray, "n d"],
    size: float,
) -> OrbitPoint | None:
    """Return an orbit aside from a curve, as far as it is found."""
    n = len(x)
    direction = direction / np.sqrt(np.mean(np.sum(np.square(direction), axis=1)))
    row = np.append(direction.ravel() / n, [0, 0])
    amplitude, best = _FIRST * size, None
    for _ in range(_MOST_DISTANCES):
        y = x + amplitude * direction
        guess = OrbitPoint(y, number, sigma, np.append(direction.ravel(), [0, 0]))
        try:
            found = path.solved(guess, row)[0]
        except FailedError:
            return best
        away = abs(found.sigma - sigma)
        if away > _TOO_FAR:
            # The parameter differs in proportion to the square of the distance.
            amplitude *= min(np.sqrt(_FAR / away), 1 / _FARTHER)
            continue
        astray = np.linalg.norm(at_phases(found.x, n) - y) / np.sqrt(n)
        if astray > _ASTRAY * amplitude:
            return best
        best = found
        if away >= _FAR:
            return best
        amplitude *= _FARTHER
    return best
