"""What single trajectories do, told from long runs of them: cycles, closed orbits, tori, chaos."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from slowpoints._attractors.closed_curves.returning import ALONG, SURELY, closed_orbits_through
from slowpoints._attractors.closed_curves.rotation import (
    FITS,
    Rotation,
    digits_of_averages,
    in_order_of_phase,
    rotation_of,
)
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import Known, nearest
from slowpoints._attractors.lyapunov import spectrum
from slowpoints._attractors.repeating import repeating
from slowpoints._attractors.running import run, trajectories
from slowpoints._network.base import Transition
from slowpoints._network.time_scale import TimeSteps

_HARDLY = 1e-2
"""By so little, relative to its size, something shrinks or grows in all steps that are looked at,
if its exponent counts as zero."""

_FOLDS = 10.0
"""Neighbours have to part by so many powers of e, before this counts as chaos: while a state leaves
a point that is hardly unstable, they part as well."""

_ELSEWHERE = 1.5
"""A trajectory moves on if the means of its halves are this far apart, in units of the larger root
mean square around them. States that move evenly in one direction have 3.5."""

_STATIONARY_DIGITS = 2.5
"""On an orbit on which states have settled, averages of both halves agree to so many digits."""

_MOST_PIECES = 8
"""A closed orbit may consist of so many curves that are visited in turn."""

_RETURNS = 2.0
"""Chaotic states return to where others were to this part of the radius, in the hundreds of
dimensions of a large network as well. States that leave do not return."""

_NEARLY_ON_A_CURVE = 1e-2
"""After the last step this will do, if the second exponent is negative, so that no second frequency
keeps states off the curve, but they are only on their way to it."""

_QUASI_PERIODIC_DIGITS = 4.0
"""Averages that agree to so many digits are not those of chaos, which agree to about two."""

_MOST_STATES = 4096
"""So many states of a trajectory stand for a torus or a chaotic attractor."""

_ON_CURVE_STATES = 1024
"""So many stand for a closed orbit."""

_ALIKE = 0.95
"""This part of an attractor's states is closer than its `gap` to others of it."""

APPROACHING = "still on its way: differences between states shrink on (`max_steps`)"
TOO_SLOW = "too slow to tell: less than ten turns, or beats, in what was examined (`max_steps`)"
LEAVING = "moves on and has not come back in the steps that were examined (`max_steps`)"
NEARLY_REPEATS = "nearly a cycle: in the steps that were examined it has seen little of its curve"
UNCLEAR = "the leading exponent is not told from zero: a torus, weak chaos, or slow (`max_steps`)"
LEFT = "chaotic, or on a torus, for long, until it left for infinity (`max_steps`)"
NOT_YET = "chaotic or on a torus so far"


def examined(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    group: Int[np.ndarray, " n"],
    n_steps: int,
    n_exponents: int,
    is_last: bool,
) -> tuple[list[Known | str], Float[np.ndarray, "n n_states"], Int[np.ndarray, " n"]]:
    """Return what each row is on, or why it is not known; its last state; and the steps it took.

    Chaos and tori are told only after the last step, since they may be transients, and if states
    that are followed for several times as long have not left them.

    Args:
        F: the network, in units.
        x: the states, in the precision to compute in.
        u: their inputs.
        group: the numbers of these.
        n_steps: how many steps to look at.
        n_exponents: how many exponents to give.
        is_last: whether the rows take no further steps.
    """
    x = run(F, x, u, n_steps // 2)  # closer to where it settles, and in this precision
    found: list[Any] = [None] * len(x)
    if isinstance(F, TimeSteps):
        found = list(closed_orbits_through(F, x, u, group, n_steps, n_exponents))
        if all(one is not None for one in found):
            steps = np.full(len(x), n_steps // 2)
            return [_with_exponents(one, n_exponents) for one in found], x, steps
    runs = trajectories(F, x, u, n_steps)
    for i in np.flatnonzero([one is None for one in found]):
        found[i] = repeating(F, runs[i], u[i], int(group[i]), n_exponents)
    ends, steps = runs[:, -1].copy(), np.full(len(x), n_steps // 2 + n_steps)
    moving = np.flatnonzero([one is None for one in found])
    if moving.size:
        n = min(max(n_exponents, 2), x.shape[1])
        values, errors, _, _ = spectrum(F, runs[moving, -1], u[moving], n, n_steps, 0)
        for i, exponents, error in zip(moving, values, errors, strict=True):
            verdict = _what(runs[i], exponents, error, int(group[i]), is_last)
            if isinstance(verdict, Known) and verdict.kind != AttractorKind.CLOSED_ORBIT:
                if is_last:
                    verdict, n_further, ends[i] = _seen_for_longer(F, runs[i], u[i], verdict)
                    steps[i] += n_further
                else:
                    verdict = NOT_YET
            found[i] = verdict
    return [_with_exponents(one, n_exponents) for one in found], ends, steps


def _with_exponents(one: Known | str, n: int) -> Known | str:
    if isinstance(one, str):
        return one
    return dataclasses.replace(one, exponents=one.exponents[:n], errors=one.errors[:n])


def _what(
    states: Float[np.ndarray, "n_steps n_states"],
    exponents: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    group: int,
    is_last: bool,
) -> Known | str:
    """Return what a trajectory is on that does not repeat, or why it is not known."""
    if not np.isfinite(states).all() or np.isnan(exponents[0]) or _moves_on(states):
        return LEAVING
    margin = np.maximum(SURELY * errors, _HARDLY / len(states))
    if exponents[0] < -margin[0]:
        return APPROACHING
    digits = digits_of_averages(states)
    settled_on = functools.partial(Known, group=group, exponents=exponents)
    if exponents[0] > margin[0]:
        if exponents[0] * len(states) < _FOLDS or digits >= _QUASI_PERIODIC_DIGITS:
            return UNCLEAR
        x, gap = _cloud(states)
        chaos = settled_on(AttractorKind.CHAOS, errors=errors, x=x, gap=gap)
        return chaos if gap <= _RETURNS * chaos.radius else LEAVING
    attracts = len(exponents) < 2 or exponents[1] < -margin[1]
    limit = _NEARLY_ON_A_CURVE if attracts and is_last else FITS
    orbit, reason = _closed_orbit(states, limit, digits)
    if orbit is not None:
        if attracts and np.abs(exponents).min() > ALONG * np.abs(exponents).max():
            return APPROACHING
        # Along the orbit, nothing grows or shrinks: what differs from that is an error.
        errors = np.maximum(errors, np.abs(exponents).min())
        return settled_on(AttractorKind.CLOSED_ORBIT, errors=errors, **orbit)
    if attracts or states.shape[1] < 3:
        return reason
    if reason == UNCLEAR and digits >= _QUASI_PERIODIC_DIGITS:
        x, gap = _cloud(states)
        rotation = rotation_of(states)
        turns: dict[str, Any] = {} if rotation is None else _turns(rotation, 1)
        return settled_on(AttractorKind.TORUS, errors=errors, x=x, gap=gap, **turns)
    return reason


def _closed_orbit(
    states: Float[np.ndarray, "n_steps n_states"], limit: float, digits: float
) -> tuple[dict[str, Any] | None, str]:
    """Return the closed orbit that a trajectory is on, or why it is not on one.

    It may consist of several curves that are visited in turn.
    """
    if states.shape[1] < 2:
        return None, UNCLEAR
    reason = TOO_SLOW
    for pieces in range(1, _MOST_PIECES + 1):
        parts = [states[first::pieces] for first in range(pieces)]
        rotation = rotation_of(parts[0], 6 if pieces == 1 else 1)
        if rotation is None:
            continue
        if rotation.mismatch > limit or digits < _STATIONARY_DIGITS:
            if pieces == 1:
                reason = NEARLY_REPEATS if rotation.is_sparse else UNCLEAR
            continue
        curves = [in_order_of_phase(x, rotation.number, _ON_CURVE_STATES) for x in parts]
        if pieces > 1 and not _are_apart(curves[0], curves[1]):
            continue  # one curve, seen at every second step or so
        return {"x": np.concatenate(curves), "pieces": pieces, **_turns(rotation, pieces)}, ""
    return None, reason


def _are_apart(a: Float[np.ndarray, "k n_states"], b: Float[np.ndarray, "k n_states"]) -> bool:
    """Return whether two curves have no point in common."""
    widest = np.linalg.norm(np.diff(a, axis=0), axis=1).max()
    return bool(nearest(b, a)[0].min() > widest)


def _turns(rotation: Rotation, pieces: int) -> dict[str, float]:
    """Return the period and the rotation number of an orbit of so many curves."""
    return {
        "period": pieces / rotation.number,
        "period_error": pieces * rotation.error / rotation.number**2,
        "rotation_number": rotation.number / pieces,
    }


def _moves_on(states: Float[np.ndarray, "n_steps n_states"]) -> bool:
    """Return whether the second half of a trajectory is elsewhere than the first."""
    halves = np.array_split(states, 2)
    first, second = (half.mean(axis=0) for half in halves)
    sizes = [np.mean(np.sum(np.square(half - half.mean(axis=0)), axis=1)) for half in halves]
    return bool(np.linalg.norm(first - second) > _ELSEWHERE * np.sqrt(max(sizes)))


def _seen_for_longer(
    F: Transition,
    states: Float[np.ndarray, "n_steps n_states"],
    u: Float[np.ndarray, " n_inputs"],
    one: Known,
) -> tuple[Known | str, int, Float[np.ndarray, " n_states"]]:
    """Return a torus or a chaotic attractor with states from so long a time that they cover it.

    If a trajectory has left it by then, return what it is on instead, or why that is not known.

    Returns:
        This; how many steps the trajectory took until then; and where it is.
    """
    stride = max(_memory_of(states), _LEAST_STRIDE)
    # At random times: states on a torus at equal ones are a lattice, from which the next ones of
    # the same trajectory may have another distance than those of others.
    apart = -(-min(_MEMORIES * stride, _LONGER * len(states)) // _MOST_STATES)
    strides = np.random.default_rng(0).integers(1, 2 * apart, _MOST_STATES)
    seen = trajectories(F, states[-1:], u[None], _MOST_STATES, strides)[0]
    later = trajectories(F, seen[-1:], u[None], len(states))[0]
    n_steps = int(strides.sum()) + len(later)
    if not np.isfinite(later).all():
        return LEFT, n_steps, later[-1]
    settled = repeating(F, later, u, one.group, len(one.exponents))
    if settled is None and isinstance(F, TimeSteps):
        given = later[-1:], u[None], np.array([one.group]), len(later), len(one.exponents)
        settled = closed_orbits_through(F, *given)[0]
    if settled is not None:
        return settled, n_steps, later[-1]
    x, gap = _cloud(seen)
    return dataclasses.replace(one, x=x, gap=gap, stride=stride), n_steps, later[-1]


_MEMORIES = 512
"""A trajectory that is so many times as long as it remembers where it was, has been everywhere."""

_LONGER = 4
"""It is followed for so many times the steps that were examined, at most."""

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
    if len(cloud) > _MOST_STATES:  # at random: at equal times they may be in one band of several
        cloud = cloud[np.random.default_rng(0).choice(len(cloud), _MOST_STATES, replace=False)]
    return cloud, float(np.quantile(nearest(others, cloud)[0], _ALIKE))
