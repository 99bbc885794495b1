"""The rotation number of a trajectory on a closed curve, and whether it is on one at all.

All on the host, on plain arrays: states of one trajectory, one step apart.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_FEWEST_TURNS = 10
"""With fewer turns than this, neighbouring frequencies are not told apart."""

FITS = 1e-4
"""States that match their neighbours in phase to this part of the radius are on a closed curve."""

_COMPONENTS = 16
"""Frequencies are read from so many principal components. Others are far weaker."""


@dataclasses.dataclass(frozen=True)
class Rotation:
    """The rotation of a trajectory, if it goes round a closed curve.

    Attributes:
        number: turns per step, from 0 to 1/2.
        error: of the number, as shorter and longer windows differ in it.
        mismatch: how far states are from the line between their neighbours in phase, or where these
            are far from them in phase, from a series through all: the root mean square, as a part
            of the `radius`.
        radius: the root mean square of the distance of states from their mean.
        is_sparse: whether phases leave wide gaps.
    """

    number: float
    error: float
    mismatch: float
    radius: float
    is_sparse: bool


def rotation_of(
    states: Float[np.ndarray, "n_steps n_states"], n_harmonics: int = 6
) -> Rotation | None:
    """Return the rotation number with which the trajectory best fits a closed curve.

    The strongest frequency of a closed curve is a harmonic of its rotation number, and nearly
    always the first. So rotation numbers are tried of which it is one, and the first that fits is
    taken: states in the order of their phase are neighbours on the curve. The frequency is as
    precise as the trajectory is smooth: weights that vanish at both ends with all derivatives make
    averages of quasi-periodic motion converge faster than any power (Das et al. 2016).

    Args:
        states: a trajectory that has settled.
        n_harmonics: as which of the harmonics its strongest frequency is tried.

    Returns:
        The rotation; `None` if the trajectory does not move, or in too few turns.
    """
    centred = states - states.mean(axis=0)
    radius = float(np.sqrt(np.mean(np.sum(np.square(centred), axis=1))))
    n = len(states)
    if not (0 < radius < np.inf):
        return None
    waves = _components(centred)
    power = np.sum(np.square(np.abs(np.fft.rfft(waves * np.hanning(n)[:, None], axis=0))), axis=1)
    strongest = int(power.argmax())
    # What is next to 1/2 turns as slowly, seen at every second step.
    if min(strongest, len(power) - 1 - strongest) < _FEWEST_TURNS:
        return None
    frequency = _refined(waves, strongest / n, n // 2)
    error = abs(frequency - _refined(waves, frequency, n // 3)) + n * np.finfo(np.float64).eps
    best: Rotation | None = None
    for harmonic in range(1, n_harmonics + 1):
        for number in _numbers_with(frequency, harmonic):
            if min(number, 0.5 - number) * n < _FEWEST_TURNS:
                if harmonic == 1:
                    return None
                continue
            mismatch, is_sparse = _mismatch(states, number)
            found = Rotation(number, error / harmonic, mismatch / radius, radius, is_sparse)
            if found.mismatch <= (_NEARLY_FITS if harmonic == 1 else FITS):
                return found  # parts of this number fit as well
            best = found if best is None else best
    return best


_NEARLY_FITS = 1e-2
"""While states are on their way to a curve, its number fits to this part at least, and parts of it
may fit better. A number that is none leaves states as far apart as the curve is wide."""


def digits_of_averages(states: Float[np.ndarray, "n_steps n_states"]) -> float:
    """Return to how many digits both halves of a trajectory have the same weighted averages.

    Some two for chaos, however long it is, and many more for quasi-periodic motion, if it makes
    enough turns (Sander & Meiss 2020).
    """
    centred = states - states.mean(axis=0)
    radius = np.sqrt(np.mean(np.sum(np.square(centred), axis=1)))
    if not radius > 0:
        return np.inf
    half = len(states) // 2
    weights = smooth_weights(half)
    # Averages of squares as well, which tell how amplitudes change.
    apart = max(
        np.linalg.norm(weights @ (values[:half] - values[-half:]))
        for values in (centred / radius, np.square(centred / radius))
    )
    return float(-np.log10(max(apart, np.finfo(np.float64).tiny)))


def in_order_of_phase(
    states: Float[np.ndarray, "n_steps n_states"], number: float, n: int
) -> Float[np.ndarray, "n n_states"]:
    """Return `n` states on a closed curve at equal distances in phase, in their order along it."""
    wanted = np.arange(n) / n
    phase, states = _sorted_by_phase(states, number)
    if (series := _series_through(phase, states)) is not None:
        return _waves_of(wanted, len(series) // 2) @ series
    after = np.searchsorted(phase, wanted) % len(phase)
    before = after - 1
    gap = np.mod(phase[after] - phase[before], 1.0)
    part = np.where(gap > 0, np.mod(wanted - phase[before], 1.0) / np.where(gap > 0, gap, 1), 0)
    return states[before] + part[:, None] * (states[after] - states[before])


_WIDE_GAP = 1 / 512
"""Between phases farther apart than this, as where a trajectory nearly repeats after some steps and
takes long to go all the way round, a curve is no straight line."""

_HARMONICS_FOR_GAP = 0.4
"""There, it is a Fourier series of so many harmonics, divided by the gap: fewer than the values at
both ends of the gaps can tell apart."""


def _sorted_by_phase(
    states: Float[np.ndarray, "n d"], number: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
    phase = np.mod(number * np.arange(len(states)), 1.0)
    order = np.argsort(phase)
    return phase[order], states[order]


def _series_through(
    phase: Float[np.ndarray, " n"], states: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "k d"] | None:
    """Return the Fourier series closest to all states; `None` if phases leave no wide gap."""
    widest = np.mod(np.roll(phase, -1) - phase, 1.0).max()
    if widest <= _WIDE_GAP:
        return None
    waves = _waves_of(phase, max(1, int(_HARMONICS_FOR_GAP / widest)))
    return np.linalg.lstsq(waves.T @ waves, waves.T @ states, rcond=None)[0]


def _waves_of(phase: Float[np.ndarray, " n"], n_harmonics: int) -> Float[np.ndarray, "n k"]:
    """Return the constant, the cosines and the sines of a series at some phases."""
    angles = 2 * np.pi * phase[:, None] * np.arange(1, n_harmonics + 1)
    return np.concatenate([np.ones((len(phase), 1)), np.cos(angles), np.sin(angles)], axis=1)


def _components(centred: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """Return the leading principal components."""
    n, d = centred.shape
    if d <= _COMPONENTS:
        return centred
    if d <= n:
        vectors = np.linalg.eigh(centred.T @ centred)[1]
        return centred @ vectors[:, -_COMPONENTS:]
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return (vectors * np.sqrt(np.maximum(values, 0)))[:, -_COMPONENTS:]


def _refined(waves: Float[np.ndarray, "n k"], frequency: float, width: int) -> float:
    """Return a frequency to all its digits, from one known to half a turn.

    Between two windows of this width the wave goes on by the phase that tells what is missing.
    """
    n = len(waves)
    weights = smooth_weights(width)
    steps = np.arange(n)
    for _ in range(_REFINEMENTS):
        turned = waves * np.exp(-2j * np.pi * frequency * steps)[:, None]
        first, last = weights @ turned[:width], weights @ turned[-width:]
        frequency += float(np.angle(np.vdot(first, last))) / (2 * np.pi * (n - width))
    return frequency


_REFINEMENTS = 4
"""Each one gains several digits."""


def smooth_weights(n: int) -> Float[np.ndarray, " n"]:
    """Return weights of sum 1 that vanish at both ends with all their derivatives."""
    s = np.arange(1, n + 1) / (n + 1)
    weights = np.exp(-1 / (s * (1 - s)))
    return weights / weights.sum()


def _numbers_with(frequency: float, harmonic: int) -> list[float]:
    """Return the rotation numbers of which a frequency is this harmonic, apart from direction."""
    turns = np.arange(harmonic + 1)
    numbers = np.concatenate([turns + frequency, turns - frequency]) / harmonic
    inside = np.unique(numbers[(numbers > 0) & (numbers <= 0.5)])
    return inside.tolist()


def _mismatch(states: Float[np.ndarray, "n d"], number: float) -> tuple[float, bool]:
    """Return how far states are from the curve through them, and whether phases have wide gaps."""
    phase, states = _sorted_by_phase(states, number)
    series = _series_through(phase, states)
    if series is not None:
        apart = states - _waves_of(phase, len(series) // 2) @ series
    else:
        before, after = np.roll(states, 1, axis=0), np.roll(states, -1, axis=0)
        to_before = np.mod(phase - np.roll(phase, 1), 1.0)
        gap = to_before + np.mod(np.roll(phase, -1) - phase, 1.0)
        part = np.where(gap > 0, to_before / np.where(gap > 0, gap, 1), 0.5)[:, None]
        apart = states - (before + part * (after - before))
    return float(np.sqrt(np.mean(np.sum(np.square(apart), axis=1)))), series is not None
