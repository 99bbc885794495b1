"""How deviations grow along a closed orbit: multipliers in continuous time, exponents in maps.

One direction is known beforehand, that along the orbit. All others are followed in frames that are
orthogonal to it, so the multiplier 1 along the orbit is never confused with one that passes 1.
"""

import dataclasses

import numpy as np
from jaxtyping import Complex, Float

from slowpoints._attractors.closed_curves.rotation import smooth_weights
from slowpoints._closed_orbits.equations import Equations, at_any, at_equal, filtered, harmonics

_FEWEST_SEGMENTS, _MOST_SEGMENTS = 64, 4096
_AGREE = 1e-9
"""The period is divided into twice as many segments until multipliers, as a part of the largest, or
of 1, agree to this. The error of the last ones is a 32nd of that."""

_MOST_ENTRIES = 2**22
"""Matrices of so many numbers at most are solved for side by side: 32 MB."""

_ROUNDS, _SETTLED = 100, 1e-10
"""Exponents of directions that shrink by more than numbers hold are those of a round in which they
are as in the one before, to this part, or are averaged over the last half of so many rounds."""

_TINY = 1e-8
"""Multipliers below this part of the largest are not told from rounding by eigenvalues."""

_FEWEST_STEPS = 4000
_MOST_STEPS = 100_000
_TURNS = 40
"""So many turns, and at least so many steps, along an invariant circle are averaged, after an
eighth as many for directions to turn to where they stay."""

# The method Radau IIA of order 5 (Hairer & Wanner 1996, IV.5): directions that shrink at once do.
_ROOT = np.sqrt(6)
_STAGES = np.array([(4 - _ROOT) / 10, (4 + _ROOT) / 10, 1])
_WEIGHTS = np.array(
    [
        [(88 - 7 * _ROOT) / 360, (296 - 169 * _ROOT) / 1800, (-2 + 3 * _ROOT) / 225],
        [(296 + 169 * _ROOT) / 1800, (88 + 7 * _ROOT) / 360, (-2 - 3 * _ROOT) / 225],
        [(16 - _ROOT) / 36, (16 + _ROOT) / 36, 1 / 9],
    ]
)


_NEUTRAL_IN_TIME, _NEUTRAL = 1e-8, 1e-6
"""Exponents are known to this part of the largest, or of a turn, in continuous time and in maps;
what is closer to zero is neutral."""

_INDEX = 16
"""So many exponents of a map, at least, are computed to count those that grow."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """How deviations grow.

    Attributes:
        exponents: per step or unit of time, of directions across the orbit, falling.
        multipliers: over one period, in the same order; NaN in maps.
        along: the multiplier along the orbit, which is 1 but for errors; in maps, over one step.
        period: the mean number of steps of a return; in continuous time, the period.
        is_all: whether these are all directions.
    """

    exponents: Float[np.ndarray, " k"]
    multipliers: Complex[np.ndarray, " k"]
    along: float
    period: float
    is_all: bool

    @property
    def margin(self) -> float:
        """How far from zero an exponent has to be to grow or to shrink."""
        finite = np.abs(self.exponents[np.isfinite(self.exponents)])
        part = _NEUTRAL if self._is_of_map else _NEUTRAL_IN_TIME
        return part * max(finite.max(initial=0.0), 1 / self.period)

    @property
    def _is_of_map(self) -> bool:
        return bool(np.isnan(self.multipliers).all() and len(self.multipliers))

    @property
    def index(self) -> int:
        """The number of directions that grow, or -1 if all those do that were computed."""
        n = int(np.sum(self.exponents > self.margin))
        return n if self.is_all or n < len(self.exponents) else -1

    @property
    def is_stable(self) -> bool:
        """Whether all directions across the orbit shrink."""
        return bool(np.all(self.exponents < -self.margin))

    def leading(self, k: int) -> tuple[Float[np.ndarray, " k"], Complex[np.ndarray, " k"]]:
        """Return the leading exponents and multipliers, with those along the orbit."""
        is_map = self._is_of_map
        along = np.log(self.along) / (1 if is_map else self.period)
        exponents = np.append(self.exponents, along)
        order = np.argsort(-exponents, kind="stable")[:k]
        multipliers = np.append(self.multipliers, np.nan if is_map else self.along)
        return exponents[order], multipliers[order]


def growth_of(
    equations: Equations,
    x: Float[np.ndarray, "n d"],
    number: float,
    k: int,
    fewest_steps: int = _FEWEST_STEPS,
) -> Growth:
    """Return how deviations from an orbit grow: all in continuous time, `k` or more in maps."""
    if equations.continuous_time:
        return growth_in_time(equations, x, 1 / number)
    return growth_in_steps(equations, x, number, max(k, _INDEX), fewest_steps)


def growth_in_time(equations: Equations, x: Float[np.ndarray, "n d"], period: float) -> Growth:
    """Return the Floquet multipliers of a closed orbit in continuous time, and the exponents.

    The multipliers are the eigenvalues of the monodromy matrix, which takes a deviation once round.
    Of those that are tiny beside others, the magnitude comes from the exponents of a QR
    decomposition along the orbit, and the sign is that of rounding.
    """
    n_segments, before = _FEWEST_SEGMENTS, None
    while True:
        parts = _in_frames(segments(equations, x, period, n_segments), x)
        across = _grouped(parts[:, 1:, 1:])
        values = np.linalg.eigvals(_product(across)).astype(complex)
        values = values[np.argsort(-np.abs(values), kind="stable")]
        size = np.abs(values)
        scale = max(1.0, size.max(initial=0))
        along = float(np.prod(parts[:, 0, 0]))
        now = np.append(size, along)
        if before is not None and np.abs(now - before).max() <= _AGREE * scale:
            break
        if n_segments >= _MOST_SEGMENTS or not np.isfinite(now).all():
            break
        n_segments, before = 2 * n_segments, now
    with np.errstate(divide="ignore"):
        exponents = np.log(size) / period
    tiny = size <= _TINY * scale
    if tiny.any():
        exponents[tiny] = np.sort(_by_rounds(across))[::-1][tiny] / period
        phase = values[tiny] / np.where(size[tiny] > 0, size[tiny], 1)
        values[tiny] = np.where(size[tiny] > 0, phase, 1) * np.exp(period * exponents[tiny])
    return Growth(exponents, values, along, period, is_all=True)


def segments(
    equations: Equations, x: Float[np.ndarray, "n d"], period: float, n_segments: int
) -> Float[np.ndarray, "n_segments d d"]:
    """Return the matrices that take deviations through equal parts of the period."""
    d = x.shape[1]
    step = period / n_segments
    # So few numbers of rows that little is compiled: a power of two, and all calls alike.
    at_a_time = min(n_segments, 2 ** int(np.log2(max(1, _MOST_ENTRIES // (9 * d * d)))))
    found = np.empty((n_segments, d, d))
    states = np.stack([at_equal(x, n_segments, c / n_segments) for c in _STAGES], axis=1)
    for start in range(0, n_segments, at_a_time):
        J = equations.slopes(states[start : start + at_a_time].reshape(-1, d))
        J = step * J.reshape(at_a_time, 3, d, d)
        # k_i = J_i (1 + sum_j a_ij k_j) for the three stages, and the last one ends the segment.
        A = np.eye(3 * d) - np.einsum("ij,niab->niajb", _WEIGHTS, J).reshape(-1, 3 * d, 3 * d)
        k = np.linalg.solve(A, J.reshape(at_a_time, 3 * d, d)).reshape(at_a_time, 3, d, d)
        found[start : start + at_a_time] = np.eye(d) + np.einsum("j,njab->nab", _WEIGHTS[-1], k)
    return found


def _in_frames(
    parts: Float[np.ndarray, "n d d"], x: Float[np.ndarray, "n_phases d"]
) -> Float[np.ndarray, "n d d"]:
    """Return the parts between frames whose first direction is that along the orbit."""
    frames = _frames(_unit_vectors(at_equal(_along(x), len(parts))))
    return np.swapaxes(np.roll(frames, -1, axis=0), 1, 2) @ parts @ frames


def _along(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return filtered(2j * np.pi * harmonics(len(x)), x)


def _unit_vectors(x: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _frames(directions: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d d"]:
    """Return orthonormal bases with these first vectors."""
    Q, R = np.linalg.qr(directions[:, :, None], mode="complete")
    Q[:, :, 0] *= np.sign(R[:, :1, 0])
    return Q


def _grouped(parts: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "m d d"]:
    """Return the products of parts that follow one another, of all but a few."""
    while len(parts) > _FEWEST_SEGMENTS:
        parts = parts[1::2] @ parts[::2]
    return parts


def _product(parts: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "d d"]:
    whole = np.eye(parts.shape[1])
    for part in parts:
        whole = part @ whole
    return whole


def _by_rounds(parts: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, " d"]:
    """Return the logarithms of how directions grow in one round."""
    d = parts.shape[1]
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    rounds = np.zeros((_ROUNDS, d))
    for number in range(_ROUNDS):
        for part in parts:
            Q, R = np.linalg.qr(part @ Q)
            with np.errstate(divide="ignore"):
                rounds[number] += np.log(np.abs(np.diagonal(R)))
        if number and np.allclose(rounds[number], rounds[number - 1], rtol=_SETTLED, atol=0):
            return rounds[number]
    return rounds[_ROUNDS // 2 :].mean(axis=0)


def growth_in_steps(
    equations: Equations, x: Float[np.ndarray, "n d"], number: float, k: int, fewest_steps: int
) -> Growth:
    """Return the leading Lyapunov exponents across an invariant circle of a map, `k` at most.

    States are taken from the circle at phases that turn by the rotation number, and not from a
    trajectory, which would leave an orbit that repels.
    """
    d = x.shape[1]
    k = min(k, d - 1)
    slowest = max(min(number % 1, -number % 1), _TURNS / _MOST_STEPS)
    n_steps = max(fewest_steps, int(_TURNS / slowest))
    aligning = n_steps // 8
    phases = number * np.arange(aligning + n_steps)
    ahead = _unit_vectors(at_any(_along(x), phases + number))
    Q = np.random.default_rng(0).normal(size=(d, 1 + k))
    Q[:, 0] = _along(x)[0]
    Q = np.linalg.qr(Q)[0]
    rates = np.zeros((len(phases), 1 + k))
    at_a_time = max(1, 2**22 // d**2)
    for start in range(0, len(phases), at_a_time):
        part = phases[start : start + at_a_time]
        for step, J in enumerate(equations.slopes(at_any(x, part)), start):
            deviations = J @ Q
            # It is along the orbit, but rounding would grow, and leave it.
            deviations[:, 0] = (ahead[step] @ deviations[:, 0]) * ahead[step]
            Q, R = np.linalg.qr(deviations)
            with np.errstate(divide="ignore"):
                rates[step] = np.log(np.abs(np.diagonal(R)))
    means = smooth_weights(n_steps) @ rates[aligning:]
    exponents = np.sort(means[1:])[::-1]
    unknown = np.full(k, complex(np.nan))
    return Growth(exponents, unknown, float(np.exp(means[0])), 1 / number, is_all=k == d - 1)
