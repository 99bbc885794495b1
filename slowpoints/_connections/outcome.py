"""Where trajectories under a constant input end: at a known point, elsewhere, or not at all."""

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from slowpoints._connections.refined_points import SIZE, enabled
from slowpoints._connections.unstable_points import unstable_points
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.flow import Flow, require_diffrax
from slowpoints._network.precision import with_precision


class Outcome(enum.IntEnum):
    """Where a trajectory ended. Printed, an outcome is in words, such as "still moving"."""

    ARRIVED = 1
    """At one of the points that are known."""
    ELSEWHERE = 2
    """At rest to rounding, at a fixed point that is not among those that are known."""
    CYCLE = 3
    """On a cycle of at least two steps: it came back to one of its own states, to rounding."""
    MOVING = 4
    """Still moving after `max_steps`: on a limit cycle that never closes exactly, on a chaotic set,
    or slow."""
    LEFT = 5
    """NaN, infinite, or so far out that it will hardly return; in continuous time, NaN is where the
    integrator gave up: see [`flow`][slowpoints.flow]."""

    def __str__(self) -> str:
        return _WORDS[self]

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


_WORDS = {
    Outcome.ARRIVED: "arrived",
    Outcome.ELSEWHERE: "at rest elsewhere",
    Outcome.CYCLE: "on a cycle",
    Outcome.MOVING: "still moving",
    Outcome.LEFT: "left",
}

REACH = 1e-3
"""The neighbourhood of a point reaches this part of the way to the point next to it. So close to a
stable point the dynamics are linear, unless that other point is just about to merge with it."""

_SHRUNK = 0.5
"""A trajectory has arrived at a stable point if, after it came within reach, its distance shrank to
this part. Getting within reach takes ten times as long, even along the slowest direction."""

_ROUNDINGS = 8
"""A state that moves by at most so many units in the last place is at rest. The last steps towards
a fixed point round by one or two."""

_FAR = 1e6
"""A state farther out than this many times the known points and its start has left."""

_MOST_PASSED = 8
"""A trajectory may seem to be at rest at so many unstable points in turn, or so often at one from
which it departs less than rounding shows."""

_BESIDE = 1e-9
"""What is so close to an unstable point after all steps is called at rest there."""

_DEPARTED = 10
"""A trajectory that starts next to a point has left it when it is so many times as far from it."""


class Places(NamedTuple):
    """Points at which trajectories may end."""

    x: Float[Any, "n n_states"]
    """The points, as exactly as the network's precision allows."""
    group: Int[Any, " n"]
    """A trajectory can end at the points of its own group only."""
    is_stable: Bool[Any, " n"]
    """Which of them are stable."""
    reach: Float[Any, " n"]
    """How far their neighbourhoods reach."""


class Starts(NamedTuple):
    """States from which trajectories start."""

    x: Float[Any, "m n_states"]
    """The states."""
    u: Float[Any, "m n_inputs"]
    """Their constant inputs."""
    group: Int[Any, " m"]
    """The points at which each of them may end."""
    home: Int[Any, " m"]
    """The number of the point next to which it starts, which it has to leave; or -1."""
    part: Float[Any, " m"]
    """To what part of their reach it has to come to points before it may have arrived, from 0 to 1.
    What starts closer than their reach has to be followed as long as what comes from outside."""


class Endings(NamedTuple):
    """Where trajectories ended."""

    x: Float[Any, "m n_states"]
    """The last states."""
    outcome: Int[Any, " m"]
    """Numbers of `Outcome`."""
    place: Int[Any, " m"]
    """The numbers of the points at which they arrived, or -1."""
    n_steps: Int[Any, " m"]
    """How many steps they took."""
    period: Int[Any, " m"]
    """The number of steps of the cycle on which they are, 1 at rest, 0 if neither is known."""


def check_steps(caller: str, F: Transition, **values: Any) -> None:
    """Check that a network can be iterated, on the host.

    Raises:
        TypeError: if it or one of the values is traced.
        ImportError: if it is in continuous time, and diffrax is not installed.
    """
    if isinstance(F, ContinuousTime):
        require_diffrax(caller)
    for name, value in {"F": F, **values}.items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            expected = "to be called outside of `jit`"
            arguments.refuse(caller, name, "is traced", expected, TypeError)


def run_until_ended(F: Transition, starts: Starts, places: Places, max_steps: int) -> Endings:
    """Iterate the network from all starts side by side, until each trajectory has ended.

    States are in units of their own size.

    A trajectory has arrived at a stable point if it is within reach of it and its distance has
    shrunk since it came there. It has arrived at any other point only if it is at rest there, to
    rounding: near a saddle it may linger for long, and yet pass by. If it seems to be at rest at an
    unstable point that is not known, it goes on from there, as from a point that it has to leave.

    Args:
        F: the network.
        starts: where trajectories start, in the precision to compute in.
        places: where they may end.
        max_steps: how many steps they may take.
    """
    found = _until_ended(F, starts, places, max_steps)
    for _ in range(_MOST_PASSED):
        rows = np.flatnonzero(found.outcome == Outcome.ELSEWHERE)
        x, number = unstable_points(F, found.x[rows], starts.u[rows], max_steps)
        rows, home = rows[number >= 0], len(places.x) + number[number >= 0]
        if rows.size == 0:
            break
        k = len(x)
        passed = Places(x, np.full(k, -1), np.zeros(k, bool), np.zeros(k, places.reach.dtype))
        start = Starts(found.x[rows], starts.u[rows], starts.group[rows], home, starts.part[rows])
        more = Places(*map(np.concatenate, zip(places, passed, strict=True)))
        further = _until_ended(F, start, more, max_steps - int(found.n_steps[rows].min()))
        # What is there to rounding, as on the way into a saddle, stays there.
        apart = np.linalg.norm(further.x - more.x[home], axis=1)
        moves = (further.outcome != Outcome.MOVING) | (apart > _BESIDE * SIZE)
        moves &= (further.x != start.x).any(axis=1)
        if not moves.any():
            break
        further = further._replace(n_steps=found.n_steps[rows] + further.n_steps)
        for whole, part in zip(found, further, strict=True):
            whole[rows[moves]] = part[moves]
    return found


def _until_ended(F: Transition, starts: Starts, places: Places, max_steps: int) -> Endings:
    m, n = len(starts.x), len(places.x)
    if m == 0:
        none = np.zeros(0, np.int32)
        return Endings(np.asarray(starts.x), none, none, none, none)
    dtype = np.dtype(starts.x.dtype)
    # Powers of two, so that few sizes are compiled. What is added repeats what is there.
    rows = np.arange(power_of_two(m)) % m
    with enabled(dtype):
        columns = np.arange(power_of_two(n)) % n
        found = _follow(
            with_precision(F, dtype),
            Starts(*(jnp.asarray(a[rows]) for a in starts)),
            Places(*(jnp.asarray(a[columns]) for a in places)),
            jnp.asarray(max_steps, np.int32),
        )
        return Endings(*(np.array(a)[:m] for a in found))


class _Flight(NamedTuple):
    """The trajectories on their way."""

    x: Array
    outcome: Array
    place: Array
    n_steps: Array
    period: Array
    near: Array  # the point within whose reach each of them is, or -1
    entered: Array  # how far from it they were when they came there
    has_left: Array  # whether they have left the point next to which they started
    saved: Array  # their states at the last step whose number is a power of two (Brent 1980)
    saved_at: Array
    step: Array


@CompiledOnce
def _follow(F: Transition, starts: Starts, places: Places, max_steps: Int[Array, ""]) -> Endings:
    """Iterate the network until each trajectory has ended: see `run_until_ended`."""
    x, u, group, home, part = starts
    eps = jnp.finfo(x.dtype).eps
    centre = jnp.mean(places.x, axis=0)
    points = places.x - centre
    squared = jnp.sum(points * points, axis=1)
    size = jnp.max(jnp.linalg.norm(places.x, axis=1))
    far = _FAR * (SIZE + jnp.maximum(size, jnp.linalg.norm(x, axis=1)))
    barred = jnp.asarray(group)[:, None] != places.group
    from_home = jnp.linalg.norm(x - places.x[home], axis=1)

    def step(flight: _Flight) -> _Flight:
        before = flight.x
        moved = _moved(F, flight, u).astype(x.dtype)
        is_out = ~jnp.isfinite(moved).all(axis=1) | ~(jnp.linalg.norm(moved, axis=1) <= far)
        step, norm = flight.step + 1, jnp.linalg.norm(moved, axis=1)
        still = _ROUNDINGS * eps * (SIZE + norm)
        # Products tell which point is the nearest; the distance itself they would round.
        closeness = jnp.where(barred, jnp.inf, squared - 2 * (moved - centre) @ points.T)
        nearest = jnp.argmin(closeness, axis=1).astype(np.int32)
        distance = jnp.linalg.norm(moved - places.x[nearest], axis=1)
        has_left = flight.has_left | (
            jnp.linalg.norm(moved - places.x[home], axis=1) > _DEPARTED * from_home
        )
        reach = jnp.maximum(part * places.reach[nearest], 2 * still)
        within = (distance <= reach) & ~jnp.all(barred, axis=1)
        stays = within & (nearest == flight.near)
        entered = jnp.where(stays, flight.entered, distance)
        settled = places.is_stable[nearest] & stays & (distance <= _SHRUNK * entered)
        rests = has_left & (jnp.linalg.norm(moved - before, axis=1) <= still)
        returns = has_left & (jnp.linalg.norm(moved - flight.saved, axis=1) <= still)
        arrived = settled | (rests & within)

        outcome = _outcomes(returns, rests, arrived, is_out)
        period = jnp.where(returns, step - flight.saved_at, 0)
        period = jnp.where(arrived | rests, 1, period).astype(np.int32)
        saves = step & (step - 1) == 0

        on = flight.outcome == 0
        return _Flight(
            x=jnp.where(on[:, None], moved, before),
            outcome=jnp.where(on, outcome, flight.outcome),
            place=jnp.where(on & (outcome == Outcome.ARRIVED), nearest, flight.place),
            n_steps=jnp.where(on, step, flight.n_steps),
            period=jnp.where(on & ~is_out, period, flight.period),
            near=jnp.where(within, nearest, -1),
            entered=entered,
            has_left=has_left,
            saved=jnp.where(saves, moved, flight.saved),
            saved_at=jnp.where(saves, step, flight.saved_at),
            step=step,
        )

    end = jax.lax.while_loop(
        lambda flight: jnp.any(flight.outcome == 0) & (flight.step < max_steps),
        step,
        _begun(x, home),
    )
    outcome = jnp.where(end.outcome == 0, np.int32(Outcome.MOVING), end.outcome)
    return Endings(end.x, outcome, end.place, end.n_steps, end.period)


def _moved(F: Transition, flight: _Flight, u: Float[Array, "m n_inputs"]) -> Array:
    """Return the next states; NaN in a flow where a state has left, on which it would try hard."""
    has_left = flight.outcome[:, None] == Outcome.LEFT
    x = jnp.where(has_left, jnp.nan, flight.x) if isinstance(F, Flow) else flight.x
    return jax.vmap(F)(x, u)


def _begun(x: Float[Array, "m n_states"], home: Int[Array, " m"]) -> _Flight:
    """Return the trajectories before their first step."""
    m, zero = x.shape[0], jnp.zeros(x.shape[0], np.int32)
    return _Flight(
        x=x,
        outcome=zero,
        place=zero - 1,
        n_steps=zero,
        period=zero,
        near=zero - 1,
        entered=jnp.full(m, jnp.inf, x.dtype),
        has_left=jnp.asarray(home) < 0,
        saved=x,
        saved_at=jnp.zeros((), np.int32),
        step=jnp.zeros((), np.int32),
    )


def _outcomes(returns: Array, rests: Array, arrived: Array, is_out: Array) -> Int[Array, " m"]:
    """Return how each trajectory has ended, by the last of these that is so; 0 if none is."""
    outcome = jnp.where(returns, Outcome.CYCLE, 0)
    outcome = jnp.where(rests, Outcome.ELSEWHERE, outcome)
    outcome = jnp.where(arrived, Outcome.ARRIVED, outcome)
    return jnp.where(is_out, Outcome.LEFT, outcome).astype(np.int32)
