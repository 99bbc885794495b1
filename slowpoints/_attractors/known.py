"""Attractors that are known, and which states have come to them."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.running import run, trajectories
from slowpoints._connections.refined_points import enabled, refined_points, size_of, speeds
from slowpoints._core.arrays import power_of_two
from slowpoints._network.base import Transition
from slowpoints._network.iterate import iterate
from slowpoints._network.time_scale import as_given, length_of_step
from slowpoints._network.units import errors_of_flows
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians

REACH = 1e-3
"""States this close to an attractor, as a part of its own size, may have come to it; at a point, as
a part of the size of states."""

_REACH_AT_REST = 0.05
"""States at rest, to rounding, may be this far from the point if it attracts slowly."""

_SHRUNK = 0.5
"""In the second half of a run, the distance has to have shrunk to this part."""

_LINEAR = 0.1
"""States approach a point as its Jacobian says, to this part, or they go elsewhere."""

_ROUNDINGS = 8
"""A state that moves by at most so many units in the last place is at rest."""

_CLOUD_STATES = 64
"""So many states of a trajectory tell whether it is on a torus or a chaotic attractor."""

_NUMBERS_AT_A_TIME = 2**24
"""The entries of distances or trajectories that are held at a time."""


@dataclasses.dataclass(frozen=True)
class Known:
    """An attractor, in units of states.

    Attributes:
        kind: what it is.
        group: the number of the input under which it exists.
        x: `[k, n_states]` the point; the states of a cycle in their order; states on a closed orbit
            in the order of their phase; or the states of a trajectory.
        exponents: `[n]` the leading Lyapunov exponents.
        errors: `[n]` half the widths of their 95 % intervals.
        period: the number of steps of a return, in the mean.
        period_error: of the period.
        rotation_number: turns per step.
        attracts: whether states may come to it. What does not attract has only those at rest there.
        inverse: of `I - J` at the first state, over as many steps as there are states; `None` if it
            is singular, or of no use for the kind.
        gap: what is the largest distance, nearly, from a state on it to the next one of `x`.
        pieces: of how many closed curves, visited in turn and each of as many states, a closed
            orbit consists.
        stride: after how many steps a state on it hardly tells where it was before.
    """

    kind: AttractorKind
    group: int
    x: Float[np.ndarray, "k n_states"]
    exponents: Float[np.ndarray, " n"]
    errors: Float[np.ndarray, " n"]
    period: float = np.nan
    period_error: float = np.nan
    rotation_number: float = np.nan
    attracts: bool = True
    inverse: Float[np.ndarray, "n_states n_states"] | None = None
    gap: float = np.nan
    stride: int = 1
    pieces: int = 1

    @property
    def radius(self) -> float:
        """The root mean square of the distance of its states from their mean."""
        return float(np.sqrt(np.mean(np.sum(np.square(self.x - self.x.mean(axis=0)), axis=1))))

    @property
    def rests(self) -> bool:
        """Whether it is a point, or a cycle that states repeat exactly."""
        return self.kind in (AttractorKind.FIXED_POINT, AttractorKind.CYCLE)


@dataclasses.dataclass(frozen=True)
class Rows:
    """States on their way.

    Attributes:
        u: `[n, n_inputs]` their inputs.
        group: `[n]` the numbers of these.
        middle: `[n, n_states]` where they were in the middle of the last run.
        end: `[n, n_states]` where they are.
        moved: `[n]` how far they move in the next step.
        rests: `[n]` which of them no longer move, to rounding.
    """

    u: Float[np.ndarray, "n n_inputs"]
    group: Int[np.ndarray, " n"]
    middle: Float[np.ndarray, "n n_states"]
    end: Float[np.ndarray, "n n_states"]
    moved: Float[np.ndarray, " n"]
    rests: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, index: Any) -> "Rows":
        """Select rows by a mask or an index array."""
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Rows(*(value[index] for value in fields))


def rounding_of(F: Transition, x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, " n"]:
    """Return up to which distance states are the same, by rounding or the errors of flows."""
    rounding = _ROUNDINGS * np.finfo(x.dtype).eps * size_of(x)
    return rounding + np.asarray(errors_of_flows(F, x), x.dtype)


def same_distance(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Return up to which distance points that Newton's method refined are the same."""
    return np.sqrt(np.finfo(x.dtype).eps) * size_of(x)


def arrived(F: Transition, rows: Rows, one: Known, dtype: np.dtype[Any]) -> Bool[np.ndarray, " n"]:
    """Return which rows have come to an attractor.

    Args:
        F: the network, in units.
        rows: the states, all under the input of the attractor.
        one: the attractor.
        dtype: the precision in which small steps are computed.
    """
    if not one.attracts or len(rows) == 0:
        return np.zeros(len(rows), bool)
    if one.rests:
        return _at_points(F, rows, one, dtype)
    if one.kind == AttractorKind.CLOSED_ORBIT:
        return _on_curve(F, rows, one)
    return _in_cloud(F, rows, one)


def _at_points(
    F: Transition, rows: Rows, one: Known, dtype: np.dtype[Any]
) -> Bool[np.ndarray, " n"]:
    """Return which rows approach a point or a cycle as its linearisation says."""
    k = len(one.x)
    before, _ = nearest(rows.middle, one.x)
    now, place = nearest(rows.end, one.x)
    rounding = rounding_of(F, rows.end)
    reach = np.where(rows.rests, _REACH_AT_REST, REACH) * (one.radius if k > 1 else 1.0)
    near = (now <= np.maximum(reach, rounding)) & (now <= np.maximum(_SHRUNK * before, rounding))
    near |= rows.rests & (now <= reach)
    if one.inverse is None:
        return near & (now <= np.maximum(REACH * reach, rounding))
    for first in np.unique(place[near]):
        here = np.flatnonzero(near & (place == first))
        # On to where the first state of the cycle is next.
        x, u = rows.end[here].astype(dtype), rows.u[here].astype(dtype)
        x = run(F, x, u, int(-first % k))
        moved = run(F, x, u, k) - x
        missing = one.x[0] - x
        apart = np.linalg.norm(moved @ one.inverse.T - missing, axis=1)
        agrees = apart <= _LINEAR * np.linalg.norm(missing, axis=1)
        near[here] = agrees | (np.linalg.norm(missing, axis=1) <= rounding_of(F, x))
    return near


def _on_curve(F: Transition, rows: Rows, one: Known) -> Bool[np.ndarray, " n"]:
    """Return which rows have come to a closed curve, or are on their way to it."""
    limit = REACH * one.radius
    before, now = (distance_to_curves(x, one) for x in (rows.middle, rows.end))
    rounding = rounding_of(F, rows.end)
    return (now <= np.maximum(limit, rounding)) & (now <= np.maximum(_SHRUNK * before, limit / 2))


def _in_cloud(F: Transition, rows: Rows, one: Known) -> Bool[np.ndarray, " n"]:
    """Return which rows go on among the states of an attractor, no farther from them than it is."""
    inside = np.zeros(len(rows), bool)
    n_states = rows.end.shape[1]
    at_a_time = max(1, _NUMBERS_AT_A_TIME // (_CLOUD_STATES * n_states))
    for start in range(0, len(rows), at_a_time):
        part = slice(start, start + at_a_time)
        states = trajectories(F, rows.end[part], rows.u[part], _CLOUD_STATES, one.stride)
        apart = nearest(states.reshape(-1, n_states), one.x)[0].reshape(len(states), -1)
        inside[part] = np.median(apart, axis=1) <= one.gap
    return inside


def is_same(known: Known, new: Known) -> bool:
    """Return whether an attractor is one that is known.

    What was seen of it for long tells more than the states of a row on its way, which may linger at
    a saddle within the attractor.
    """
    if known is new:
        return True
    if known.kind != new.kind or known.group != new.group:
        return False
    if known.rests:
        apart = np.linalg.norm(known.x - new.x[0], axis=1).min()
        return len(known.x) == len(new.x) and bool(apart <= same_distance(known.x[:1])[0])
    if known.kind == AttractorKind.CLOSED_ORBIT:
        apart = distance_to_curves(new.x, known).max()
        return known.pieces == new.pieces and bool(apart <= 2 * REACH * known.radius)
    if known.kind == AttractorKind.ESCAPE:
        return True
    return bool(np.median(nearest(new.x, known.x)[0]) <= known.gap)


def nearest(
    x: Float[np.ndarray, "n d"], points: Float[np.ndarray, "k d"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the distance from each state to the nearest point, and the number of that point."""
    centre = points.mean(axis=0)
    near = points - centre
    squared = np.sum(np.square(near), axis=1)
    number = np.zeros(len(x), int)
    at_a_time = max(1, _NUMBERS_AT_A_TIME // len(points))
    for start in range(0, len(x), at_a_time):
        part = slice(start, start + at_a_time)
        # Products tell which is the nearest; the distance itself they would round.
        number[part] = np.argmin(squared - 2 * (x[part] - centre) @ near.T, axis=1)
    return np.linalg.norm(x - points[number], axis=1), number


def distance_to_curves(x: Float[np.ndarray, "n d"], one: Known) -> Float[np.ndarray, " n"]:
    """Return the distance to a closed orbit."""
    curves = np.split(one.x, one.pieces)
    return np.min([_distance_to_curve(x, curve) for curve in curves], axis=0)


def _distance_to_curve(
    x: Float[np.ndarray, "n d"], curve: Float[np.ndarray, "k d"]
) -> Float[np.ndarray, " n"]:
    """Return the distance to a closed curve, which is straight between the states that follow."""
    best, number = nearest(x, curve)
    for step in (-1, 1):
        line = curve[(number + step) % len(curve)] - curve[number]
        length = np.sum(np.square(line), axis=1)
        ahead = np.sum((x - curve[number]) * line, axis=1)
        part = np.clip(ahead / np.where(length > 0, length, 1), 0, 1)
        foot = curve[number] + part[:, None] * line
        best = np.minimum(best, np.linalg.norm(x - foot, axis=1))
    return best


# ---- points and cycles ---------------------------------------------------------------------------


def points_near(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, "n n_inputs"],
    group: Int[np.ndarray, " n"],
    n_exponents: int,
    k: int = 1,
) -> list[Known | None]:
    """Return the fixed point, or the cycle of `k` steps, that Newton's method finds from each row.

    Args:
        F: the network, in units.
        x: the states to start from, in the precision to compute in.
        u: their inputs.
        group: the numbers of these.
        n_exponents: how many exponents to give.
        k: the period.

    Returns:
        For each row what was found, equal ones as one object, with its least period, which divides
        `k`; `None` if Newton's method does not arrive.
    """
    F_k = as_given(F) if k == 1 else iterate(F, k)
    start, x = x, refined_points(F_k, x, u)
    speed = (length_of_step(F) or 1) * speeds(F_k, x, u)
    with np.errstate(invalid="ignore"):
        moved = np.minimum(size_of(x), np.linalg.norm(x - start, axis=1))
        negligible = np.sqrt(np.finfo(x.dtype).eps) * moved
        is_point = speed <= np.maximum(negligible, rounding_of(F, x))
    copy_of = _copies(x, group, is_point)
    firsts = np.unique(copy_of[is_point])
    made = _with_spectra(F_k, F, x[firsts], u[firsts], group[firsts], n_exponents, k)
    made = [
        _of_least_period(F, one, u[i], n_exponents) for one, i in zip(made, firsts, strict=True)
    ]
    found = dict(zip(firsts.tolist(), made, strict=True))
    return [found[int(copy_of[i])] if is_point[i] else None for i in range(len(x))]


def _of_least_period(
    F: Transition, one: Known, u: Float[np.ndarray, " n_inputs"], n_exponents: int
) -> Known:
    """Return a cycle that repeats earlier as one of fewer steps."""
    k, limit = len(one.x), same_distance(one.x)
    for d in (d for d in range(1, k) if k % d == 0):
        if (np.linalg.norm(one.x - np.roll(one.x, -d, axis=0), axis=1) <= limit).all():
            start = one.x[:1], u[None], np.array([one.group])
            return points_near(F, *start, n_exponents, d)[0] or one
    return one


def _copies(
    x: Float[np.ndarray, "n d"], group: Int[np.ndarray, " n"], counts: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Return for each row the first one that is the same point."""
    first = np.arange(len(x))
    for i in np.flatnonzero(counts):
        others = np.flatnonzero(counts[:i] & (group[:i] == group[i]))
        same = np.linalg.norm(x[others] - x[i], axis=1) <= same_distance(x[i : i + 1])
        if same.any():
            first[i] = first[others[same][0]]
    return first


def _with_spectra(
    F_k: Transition,
    F: Transition,
    x: Float[np.ndarray, "n d"],
    u: Float[np.ndarray, "n m"],
    group: Int[np.ndarray, " n"],
    n_exponents: int,
    k: int,
) -> list[Known]:
    if len(x) == 0:
        return []
    rows = np.arange(power_of_two(len(x))) % len(x)
    with enabled(x.dtype):
        fps = FixedPoints(xstar=jnp.asarray(x[rows]), inputs=jnp.asarray(u[rows]))
        fps = decompose(jacobians(F_k, fps)).to_numpy()
    orbits = x[:, None] if k == 1 else _orbits(F, x, u, k)
    dt = length_of_step(F)
    return [
        _known_point(
            fps.J_xstar[i], fps.eigval_J_xstar[i], bool(fps.is_stable[i]), orbit, g, n_exponents, dt
        )
        for i, (orbit, g) in enumerate(zip(orbits, group.tolist(), strict=True))
    ]


def _orbits(
    F: Transition, x: Float[np.ndarray, "n d"], u: Float[np.ndarray, "n m"], k: int
) -> Float[np.ndarray, "n k d"]:
    later = trajectories(F, x, u, k - 1)
    return np.concatenate([x[:, None], later], axis=1)


def _known_point(
    J: Float[np.ndarray, "d d"],
    eigval: Any,
    is_stable: bool,
    orbit: Float[np.ndarray, "k d"],
    group: int,
    n_exponents: int,
    dt: float | None,
) -> Known:
    k, d = orbit.shape
    size = np.abs(eigval)
    rounding = d * np.finfo(J.dtype).eps * np.linalg.norm(J, 2)
    if dt is None:
        with np.errstate(divide="ignore", invalid="ignore"):
            exponents = (np.log(size) / k)[:n_exponents]
            errors = np.where(size > 0, rounding / size / k, 0.0)[:n_exponents]
    else:
        from scipy.linalg import expm  # only here, so that others load no SciPy

        exponents = (eigval.real * dt)[:n_exponents]
        errors = np.full(len(exponents), rounding * dt)
        J = expm(dt * J)
    away = np.eye(d) - J
    regular = np.isfinite(J).all() and np.linalg.cond(away) < 1 / np.sqrt(np.finfo(J.dtype).eps)
    return Known(
        kind=AttractorKind.FIXED_POINT if k == 1 else AttractorKind.CYCLE,
        group=group,
        x=orbit,
        exponents=exponents,
        errors=errors,
        period=float(k),
        period_error=0.0,
        attracts=is_stable,
        inverse=np.linalg.inv(away) if regular else None,
    )
