"""Attracting closed orbits of a flow, told by a state that returns to itself."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import REACH, Known, rounding_of
from slowpoints._attractors.lyapunov import N_BLOCKS, spectrum
from slowpoints._attractors.running import run, trajectories
from slowpoints._network.time_scale import TimeSteps

_FINER = 16
"""A step is divided into so many: relaxation oscillations take few steps in a turn."""

_NEAR = 0.05
"""Between two of these, what returns passes this close to where it was, as a part of the radius."""

_BACK = 1e-8
"""It is back if it returns to this part of the radius, or to the errors of the flow."""

_MOST_TRIED = 16
"""An orbit may pass so many times near where it began before it is back."""

SURELY = 2.0
"""An exponent has a sign if it is so many times as large as its error, half a 95 % interval."""

ALONG = 0.02
"""The exponent along an orbit is zero to this part of the largest one that is known, or states are
still on their way to it."""

_TURNS = 8
"""Exponents are measured in blocks of so many turns. For two such blocks before, directions turn to
where they stay."""

_ALIGNED = 23.0
"""They do by so many powers of e, or blocks consist of more turns."""

_MOST_TURNS = 64
"""There are no more turns in a block, however slowly directions turn."""

_OTHER_STEPS = (np.sqrt(5) - 1) / 2
"""In steps that are shorter by this part, the integrator's errors are others."""


@dataclasses.dataclass(frozen=True)
class _Section:
    """The plane across the velocity at a state (Poincaré), under an input."""

    x: Float[np.ndarray, " n_states"]
    normal: Float[np.ndarray, " n_states"]
    u: Float[np.ndarray, " n_inputs"]

    def ahead(self, x: Float[np.ndarray, "*n n_states"]) -> Any:
        """Return how far states are in front of the plane."""
        return (x - self.x) @ self.normal


def closed_orbits_through(
    F: TimeSteps,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    group: Int[np.ndarray, " n"],
    n_parts: int,
    n_exponents: int,
) -> list[Known | None]:
    """Return the attracting closed orbits of a flow that states are on, or `None` if none is seen.

    A state returns if it passes the plane across its velocity in the same place again. Where states
    close to it come closer with each turn, there is an orbit next to it.

    Args:
        F: the network, in units, and in steps.
        x: the states, in the precision to compute in.
        u: their inputs.
        group: the numbers of these.
        n_parts: for how many parts of a step they are followed.
        n_exponents: how many exponents to give.
    """
    fine = _lasting(F, F.duration / _FINER)
    runs = trajectories(fine, x, u, n_parts)
    return [_orbit_along(F, fine, runs[i], u[i], int(group[i]), n_exponents) for i in range(len(x))]


def _orbit_along(
    F: TimeSteps,
    fine: TimeSteps,
    states: Float[np.ndarray, "n_parts n_states"],
    u: Float[np.ndarray, " n_inputs"],
    group: int,
    n_exponents: int,
) -> Known | None:
    """Return the orbit that one trajectory is on, given in parts of a step."""
    n_parts, n_states = states.shape
    if n_states < 2 or not np.isfinite(states).all():
        return None
    radius = np.sqrt(np.mean(np.sum(np.square(states - states.mean(axis=0)), axis=1)))
    limit = max(_BACK * radius, float(rounding_of(F, states).max()))
    moves = np.diff(states, axis=0)
    length = np.linalg.norm(moves, axis=1)
    # Where the motion is neither fast, so that states are far apart, nor slow.
    first = int(np.argsort(length[: n_parts // 2])[n_parts // 4])
    if not limit < min(length[first], _NEAR * radius):
        return None
    section = _Section(states[first], moves[first] / length[first], u)
    for k in _nearly_back(section, states[first:], _NEAR * radius)[:_MOST_TRIED].tolist():
        part, back = _crossing(fine, states[first + k], section)
        apart = float(np.linalg.norm(back - section.x))
        if apart <= limit:
            period = (k + part) * float(fine.duration)
            n = min(max(n_exponents, 2), n_states)
            values, errors = _exponents(F, section, period, n)
            if not values[1] < -max(SURELY * errors[1], abs(values[0]) / ALONG):
                return None
            # What remains of a distance after one turn tells how far the orbit is from here.
            distance = apart / -math.expm1(values[1] * period)
            if distance > REACH * radius:
                return None
            error = _error(fine, section, period) + distance / length[first] * fine.duration
            per_step = float(F.duration)
            return Known(
                AttractorKind.CLOSED_ORBIT,
                group,
                _states(F, section, period, n_parts),
                per_step * values,
                per_step * errors,
                period=period / per_step,
                period_error=float(error / per_step),
            )
    return None


def _lasting(F: TimeSteps, duration: Any) -> TimeSteps:
    return dataclasses.replace(F, duration=np.asarray(duration))


def _nearly_back(
    section: _Section, states: Float[np.ndarray, "n n_states"], limit: float
) -> Int[np.ndarray, " k"]:
    """Return after how many steps the next one passes the plane, close to the first state."""
    ahead = section.ahead(states)
    before = 1 + np.flatnonzero((ahead[1:-1] < 0) & (ahead[2:] >= 0))
    part = ahead[before] / (ahead[before] - ahead[before + 1])
    place = states[before] + part[:, None] * (states[before + 1] - states[before])
    return before[np.linalg.norm(place - section.x, axis=1) <= limit]


def _crossing(
    F: TimeSteps, x: Float[np.ndarray, " n_states"], section: _Section
) -> tuple[float, Float[np.ndarray, " n_states"]]:
    """Return after how many steps a state passes the plane, and where; NaN if not in two."""
    from scipy.optimize import brentq  # only here, so that others load no SciPy

    def after(part: float) -> Float[np.ndarray, " n_states"]:
        shorter = _lasting(F, part * F.duration)
        return run(shorter, x[None], section.u[None], 1)[0] if part > 0 else x

    ahead = lambda part: float(section.ahead(after(part)))  # noqa: E731
    if not ahead(0.0) < 0 < ahead(2.0):
        return np.nan, np.full_like(x, np.nan)
    part: Any = brentq(ahead, 0.0, 2.0, xtol=1e-14)
    return part, after(part)


def _exponents(
    F: TimeSteps, section: _Section, period: float, n: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the exponents of an orbit and their errors, per unit of time, from whole turns."""
    values, errors = _over_turns(F, section, period, n, _TURNS, 1)
    n_turns = math.ceil(
        _ALIGNED / 2 / max(period * (values[0] - values[1]), _ALIGNED / _MOST_TURNS)
    )
    if n_turns > _TURNS:
        values, errors = _over_turns(F, section, period, n, n_turns, 1)
    if (lost := np.isneginf(values)).any():
        # What shrinks so fast is still there after shorter steps, and turns where it stays at once.
        short = _over_turns(F, section, period, n, 1, _FINER)
        values, errors = (
            np.where(lost, *pair) for pair in zip(short, (values, errors), strict=True)
        )
    # Along the orbit, nothing grows or shrinks: what differs from that is an error.
    return values, np.maximum(errors, np.abs(values).min())


def _over_turns(
    F: TimeSteps, section: _Section, period: float, n: int, n_turns: int, parts: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the same from blocks of so many turns, in steps that are divided into so many."""
    per_turn = math.ceil(parts * period / float(F.duration))
    steps = _lasting(F, period / per_turn)
    x, u = section.x[None], section.u[None]
    values, errors, _, _ = spectrum(steps, x, u, n, N_BLOCKS * n_turns * per_turn, 0)
    # In each step, the integrator's errors allow directions to grow by so much.
    rounding = np.where(np.isneginf(values[0]), 0, F.relative_error(x.dtype))
    return values[0] / float(steps.duration), (errors[0] + rounding) / float(steps.duration)


def _error(F: TimeSteps, section: _Section, period: float) -> float:
    """Return the error of a period, as it differs in steps of another length."""
    other = _lasting(F, _OTHER_STEPS * F.duration)
    n_before = max(0, math.floor(period / float(other.duration) - 0.5))
    x = run(other, section.x[None], section.u[None], n_before)[0]
    part, _ = _crossing(other, x, section)
    return 2 * abs((n_before + part) * float(other.duration) - period)


def _states(
    F: TimeSteps, section: _Section, period: float, n: int
) -> Float[np.ndarray, "n n_states"]:
    """Return states at `n` equal distances in phase."""
    return trajectories(_lasting(F, period / n), section.x[None], section.u[None], n)[0]
