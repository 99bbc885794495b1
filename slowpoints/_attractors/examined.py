"""What single trajectories do, told from long runs of them: cycles, closed orbits, tori, chaos."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import Known, nearest, points_near, rounding_of
from slowpoints._attractors.lyapunov import spectrum
from slowpoints._attractors.rotation import digits_of_averages, in_order_of_phase, rotation_of
from slowpoints._attractors.running import run, trajectories
from slowpoints._network.base import Transition

_LONGEST_FROM_AFAR = 64
"""Cycles of up to so many steps are found before states have come to them."""

_NEARLY_BACK = 1e-3
"""A state that returns to within this part of its trajectory's radius may be near a cycle."""

_EXACTLY_BACK = 1e-9
"""A state that returns to within this part is on one."""

_COMPARED = 64
"""So many states in a row have to return."""

_SURELY = 2.0
"""An exponent has a sign if it is so many times as large as its error, half a 95 % interval."""

_HARDLY = 1e-2
"""By so little, relative to its size, something shrinks or grows in all steps that are looked at,
if its exponent counts as zero."""

_RETURNS = 2.0
"""Chaotic states return to where others were to this part of the radius, in the hundreds of
dimensions of a large network as well. States that leave do not return."""

_ON_A_CURVE = 1e-4
"""States that match their neighbours in phase to this part of the radius are on a closed curve."""

_NEARLY_ON_A_CURVE = 1e-2
"""The same if the second exponent is negative, so that no second frequency keeps them off it."""

_QUASI_PERIODIC_DIGITS = 4.0
"""Averages that agree to so many digits are not those of chaos, which agree to about two."""

_MOST_STATES = 4096
"""So many states of a trajectory stand for a torus or a chaotic attractor."""

_ON_CURVE_STATES = 1024
"""So many stand for a closed orbit."""

_ALIKE = 0.95
"""This part of an attractor's states is closer than its `gap` to others of it."""

APPROACHING = "still approaching: all exponents are negative, so more steps (`max_steps`) may tell"
TOO_SLOW = "too slow to tell: less than ten turns in the steps that were examined"
LEAVING = "moves away and does not return, so more steps (`max_steps`) may tell whether it escapes"
UNCLEAR = "between a torus and chaos: the leading exponent is not told from zero (`max_steps`)"


def examined(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    group: Int[np.ndarray, " n"],
    n_steps: int,
    n_exponents: int,
) -> list[Known | str]:
    """Return what each row is on, or why it is not known.

    Args:
        F: the network, in units.
        x: the states, in the precision to compute in.
        u: their inputs.
        group: the numbers of these.
        n_steps: how many steps to look at.
        n_exponents: how many exponents to give.
    """
    x = run(F, x, u, n_steps // 2)  # closer to where it settles, and in this precision
    runs = trajectories(F, x, u, n_steps)
    found: list[Any] = [_cycle(F, runs[i], u[i], int(group[i]), n_exponents) for i in range(len(x))]
    moving = np.flatnonzero([one is None for one in found])
    if moving.size:
        n = min(max(n_exponents, 2), x.shape[1])
        values, errors, _, _ = spectrum(F, runs[moving, -1], u[moving], n, n_steps, 0)
        for i, exponents, error in zip(moving, values, errors, strict=True):
            verdict = _what(runs[i], exponents, error, int(group[i]))
            if isinstance(verdict, Known) and verdict.kind != AttractorKind.CLOSED_ORBIT:
                verdict = _seen_for_longer(F, runs[i], u[i], verdict)
            found[i] = verdict
    return [_with_exponents(one, n_exponents) for one in found]


def _with_exponents(one: Known | str, n: int) -> Known | str:
    if isinstance(one, str):
        return one
    return dataclasses.replace(one, exponents=one.exponents[:n], errors=one.errors[:n])


def _cycle(
    F: Transition,
    states: Float[np.ndarray, "n_steps n_states"],
    u: Float[np.ndarray, " n_inputs"],
    group: int,
    n_exponents: int,
) -> Known | None:
    """Return the cycle that a trajectory is on, or comes to."""
    if len(states) < 2 * _COMPARED or not np.isfinite(states).all():
        return None
    last = states[-_COMPARED:]
    radius = np.sqrt(np.mean(np.sum(np.square(last - last.mean(axis=0)), axis=1)))
    rounding = rounding_of(last).max()
    if radius <= rounding:
        return None
    apart = np.linalg.norm(states[-1] - states[-2::-1], axis=1)  # after 1, 2, ... steps
    for k in 1 + np.flatnonzero(apart[: len(states) - _COMPARED] <= _NEARLY_BACK * radius):
        back = np.linalg.norm(last - states[-_COMPARED - k : -k], axis=1).max()
        if back > max(_NEARLY_BACK * radius, rounding):
            continue
        if k <= _LONGEST_FROM_AFAR:
            start = states[-1:], u[None], np.array([group])
            point = points_near(F, *start, n_exponents, int(k))[0]
            if point is None or not point.attracts or k == 1:
                continue
            if np.linalg.norm(point.x[0] - states[-1]) <= _REACH * radius:
                return point
        if back <= max(_EXACTLY_BACK * radius, rounding):
            n = min(n_exponents, states.shape[1])
            values, errors, _, _ = spectrum(F, states[-1:], u[None], n, len(states), 0)
            return Known(
                kind=AttractorKind.CYCLE,
                group=group,
                x=states[-k:],
                exponents=values[0],
                errors=errors[0],
                period=float(k),
                period_error=0.0,
            )
    return None


_REACH = 0.05
"""Newton's method goes no farther than this part of the radius to a cycle that states come to."""


def _what(
    states: Float[np.ndarray, "n_steps n_states"],
    exponents: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    group: int,
) -> Known | str:
    """Return what a trajectory is on that does not repeat, or why it is not known."""
    if not np.isfinite(states).all() or np.isnan(exponents[0]):
        return LEAVING
    settled_on = functools.partial(Known, group=group, exponents=exponents, errors=errors)
    margin = np.maximum(_SURELY * errors, _HARDLY / len(states))
    if exponents[0] < -margin[0]:
        return APPROACHING
    rotation, digits = rotation_of(states), digits_of_averages(states)
    is_chaotic = exponents[0] > margin[0]
    if rotation is not None:
        limit = _ON_A_CURVE
        if len(exponents) < 2 or exponents[1] < -margin[1]:
            limit = _NEARLY_ON_A_CURVE
        turns_on = functools.partial(
            settled_on,
            period=1 / rotation.number,
            period_error=rotation.error / rotation.number**2,
            rotation_number=rotation.number,
        )
        if rotation.mismatch <= limit and not is_chaotic:
            x = in_order_of_phase(states, rotation.number, _ON_CURVE_STATES)
            # Along the orbit, nothing grows or shrinks: what differs from that is an error.
            errors = np.maximum(errors, np.abs(exponents).min())
            return turns_on(AttractorKind.CLOSED_ORBIT, x=x, errors=errors)
        if not is_chaotic and digits >= _QUASI_PERIODIC_DIGITS:
            x, gap = _cloud(states)
            return turns_on(AttractorKind.TORUS, x=x, gap=gap)
    if is_chaotic and digits < _QUASI_PERIODIC_DIGITS:
        x, gap = _cloud(states)
        chaos = settled_on(AttractorKind.CHAOS, x=x, gap=gap)
        return chaos if gap <= _RETURNS * chaos.radius else LEAVING
    return TOO_SLOW if rotation is None and not is_chaotic else UNCLEAR


def _seen_for_longer(
    F: Transition,
    states: Float[np.ndarray, "n_steps n_states"],
    u: Float[np.ndarray, " n_inputs"],
    one: Known,
) -> Known:
    """Return a torus or a chaotic attractor with states from so long a time that they cover it."""
    stride = max(_memory_of(states), _LEAST_STRIDE)
    # At random times: states on a torus at equal ones are a lattice, from which the next ones of
    # the same trajectory may have another distance than those of others.
    apart = -(-_MEMORIES * stride // _MOST_STATES)
    strides = np.random.default_rng(0).integers(1, 2 * apart, _MOST_STATES)
    x, gap = _cloud(trajectories(F, states[-1:], u[None], _MOST_STATES, strides)[0])
    return dataclasses.replace(one, x=x, gap=gap, stride=stride)


_MEMORIES = 512
"""A trajectory that is so many times as long as it remembers where it was, has been everywhere."""

_LEAST_STRIDE = 64
"""It may remember for longer than its correlations tell, as where it stays in one of two lobes."""


def _memory_of(states: Float[np.ndarray, "n_steps n_states"]) -> int:
    """Return after how many steps states are hardly correlated any more."""
    n = len(states)
    waves = np.fft.rfft(states - states.mean(axis=0), 2 * n, axis=0)
    together = np.fft.irfft(np.sum(np.square(np.abs(waves)), axis=1))[:n]
    return int(np.argmax(np.append(together < 0.5 * together[0], True))) or 1


def _cloud(
    states: Float[np.ndarray, "n_steps n_states"],
) -> tuple[Float[np.ndarray, "k n_states"], float]:
    """Return the states that stand for an attractor, and how far others of it are from them."""
    aside = len(states) // 4  # apart in time from the others, but for the first few
    cloud, others = states[:-aside], states[-aside:]
    cloud = cloud[:: -(-len(cloud) // _MOST_STATES)]
    return cloud, float(np.quantile(nearest(others, cloud)[0], _ALIKE))
