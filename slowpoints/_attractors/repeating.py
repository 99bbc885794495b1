"""What repeats exactly: cycles that a trajectory is on or comes to, and points where it rests."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import Known, points_near, rounding_of
from slowpoints._attractors.lyapunov import spectrum
from slowpoints._attractors.running import run
from slowpoints._connections.refined_points import size_of
from slowpoints._network.base import Transition
from slowpoints._network.time_scale import TimeSteps

LONGEST_FROM_AFAR = 64
"""Cycles of up to so many steps are found before states have come to them."""

NEARLY_BACK = 1e-3
"""A state that returns to within this part of its trajectory's radius may be near a cycle."""

_EXACTLY_BACK = 1e-9
"""A state that returns to within this part is on one."""

_COMPARED = 64
"""So many states in a row have to return."""

_MOST_TRIED = 3
"""Newton's method is tried for so many periods: others are hardly ever multiples of none of these,
and a program has to be compiled for each."""

_REACH_AT_REST = 1e-6
"""A point may be this far from where a state rests, as a part of its size."""

_GROWN = 16.0
"""A state leaves a point if steps in one of its entries grow to so many times their length in as
many steps as the point's exponent says, nearly, and once more: rounding hardly ever does so."""

_NEARLY = 0.5
"""Nearly: to this part, since an entry may move in several directions."""

_LEAVING_STEPS = 2**14
"""Growth is not waited for longer than this."""

_REACH = 0.05
"""Newton's method goes no farther than this part of the radius to a cycle that states come to."""


def repeating(
    F: Transition,
    states: Float[np.ndarray, "n_steps n_states"],
    u: Float[np.ndarray, " n_inputs"],
    group: int,
    n_exponents: int,
) -> Known | None:
    """Return the cycle that a trajectory is on, or comes to, or the point where it rests."""
    if len(states) < 2 * _COMPARED or not np.isfinite(states).all():
        return None
    last = states[-_COMPARED:]
    radius = np.sqrt(np.mean(np.sum(np.square(last - last.mean(axis=0)), axis=1)))
    rounding = rounding_of(F, last).max()
    if radius <= rounding:
        point = resting_point(F, states[-1], u, group, n_exponents)
        # Whether states stay at one that repels, all that they have done has to tell.
        return point if point is not None and _steps_until_grown(point) is None else None
    if isinstance(F, TimeSteps):
        return None  # what repeats after some steps is a closed orbit
    n_tried = 0
    apart = np.linalg.norm(states[-1] - states[-2::-1], axis=1)  # after 1, 2, ... steps
    for k in 1 + np.flatnonzero(apart[: len(states) - _COMPARED] <= NEARLY_BACK * radius):
        back = np.linalg.norm(last - states[-_COMPARED - k : -k], axis=1).max()
        if back > max(NEARLY_BACK * radius, rounding):
            continue
        if 1 < k <= LONGEST_FROM_AFAR and n_tried < _MOST_TRIED:
            n_tried += 1
            start = states[-1:], u[None], np.array([group])
            point = points_near(F, *start, n_exponents, int(k))[0]
            if point is not None and point.attracts:
                if np.linalg.norm(point.x - states[-1], axis=1).min() <= _REACH * radius:
                    return point
                continue
        if k > 1 and back <= max(_EXACTLY_BACK * radius, rounding):
            n = min(n_exponents, states.shape[1])
            values, errors, _, _ = spectrum(F, states[-1:], u[None], n, len(states), 0)
            orbit = states[-k:]
            known = Known(AttractorKind.CYCLE, group, orbit, values[0], errors[0])
            return dataclasses.replace(known, period=float(k), period_error=0.0)
    return None


def period_of(
    F: Transition, states: Float[np.ndarray, "n n_steps n_states"]
) -> Int[np.ndarray, " n"]:
    """Return after how many steps each trajectory is nearly back, twice; or 0."""
    centred = states - states.mean(axis=1, keepdims=True)
    radius = np.sqrt(np.mean(np.sum(np.square(centred), axis=2), axis=1))
    period = np.zeros(len(states), int)
    n_steps = states.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        limit = np.maximum(NEARLY_BACK * radius, rounding_of(F, states[:, -1]))
        for k in range(min(LONGEST_FROM_AFAR, n_steps // 2 - 1), 0, -1):
            apart = [
                np.linalg.norm(states[:, t] - states[:, t - k], axis=1)
                for t in (n_steps - 1, n_steps // 2)
            ]
            period[np.max(apart, axis=0) <= limit] = k
    return period


def resting_point(
    F: Transition,
    x: Float[np.ndarray, " n_states"],
    u: Float[np.ndarray, " n_inputs"],
    group: int,
    n_exponents: int,
) -> Known | None:
    """Return the fixed point at which a state rests, to rounding, whether it attracts or not."""
    point = points_near(F, x[None], u[None], np.array([group]), n_exponents)[0]
    near = _REACH_AT_REST * size_of(x[None])[0]
    if point is not None and np.linalg.norm(point.x[0] - x) <= near:
        return point
    return None


def leaving(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    point: Known,
) -> Bool[np.ndarray, " n"]:
    """Return which states, at rest to rounding, leave a point that repels.

    Where units are silent at the point, what is left of their activity may be far below the
    rounding of the whole state, and grow all the same. So each entry is looked at alone.
    """
    n_steps = _steps_until_grown(point)
    if n_steps is None:
        return np.zeros(len(x), bool)
    lengths = []
    with np.errstate(invalid="ignore", over="ignore"):
        for _ in range(3):
            lengths.append(np.abs(run(F, x, u, 1) - x))
            x = run(F, x, u, n_steps)
        now, later, last = lengths
        grows = (now > 0) & (later >= _NEARLY * _GROWN * now)
        return (grows & (last >= _NEARLY * _GROWN * later)).any(axis=1)


def _steps_until_grown(point: Known) -> int | None:
    """Return after how many steps deviations from a point have grown, if soon enough to be seen."""
    growth = point.exponents[point.exponents > math.log(_GROWN) / _LEAVING_STEPS]
    if point.attracts or growth.size == 0:
        return None
    return math.ceil(math.log(_GROWN) / growth.min())
