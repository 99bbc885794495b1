"""Families of closed orbits from given ones, and what happens on them."""

import dataclasses
from itertools import chain, pairwise

import numpy as np

from slowpoints._closed_orbits.equations import FEWEST_PHASES, at_equal, at_phases
from slowpoints._closed_orbits.floquet import Growth
from slowpoints._closed_orbits.following import (
    FailedError,
    OrbitPoint,
    Path,
    held_parameter,
)
from slowpoints._closed_orbits.orbit_branches import (
    N_SAMPLE,
    OrbitBranch,
    OrbitBranches,
    OrbitEvent,
)
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._network.base import Transition

_LOCATED = 1e-10
"""Events are located to this part of a step."""

_ONE_EVENT = 1e-4
"""What happens within this part of a step is one event: both of a pair pass, or a fold is where a
multiplier passes 1."""

_AT_ONE = 1e-9
"""Orbits whose parameters differ by no more than this part of the span are at one parameter."""

_AT_ONE_MULTIPLIER = ("fold", "branch_point")
"""Events at which a multiplier passes 1."""

_TURNS_BACK, _ASIDE = 1e-2, 0.02
"""A family turns back where its direction has a smaller part along the parameter than the first; it
is then followed from an orbit that is the second aside."""

_REAL = 1e-6
"""A multiplier on the unit circle whose imaginary part is smaller is real."""


def orbit_branches(
    G: Transition, path: Path, orbits: ClosedOrbits, longest: float, max_steps: int
) -> OrbitBranches:
    """Follow closed orbits through the parameter in both directions, each family once."""
    found: list[tuple[list[OrbitPoint], tuple[str, str], list[int]]] = []
    not_followed = {}
    for row in range(len(orbits)):
        if not orbits.is_resolved[row]:
            not_followed[row] = "not resolved"
            continue
        try:
            start = _start(path, orbits, row)
        except FailedError:
            not_followed[row] = "Newton's method does not converge from it"
            continue
        known = [rows for points, _, rows in found if _is_on(path, points, start)]
        if known:
            known[0].append(row)
            continue
        ahead, end = path.followed(start, longest, max_steps)
        behind, beginning = [], end
        if end != "closed":
            back = dataclasses.replace(start, tangent=-start.tangent)
            behind, beginning = path.followed(back, longest, max_steps)
            behind = [dataclasses.replace(p, tangent=-p.tangent) for p in behind[::-1]]
        found.append(([*behind, start, *ahead], (beginning, end), [row]))
    growths = [[path.growth(point) for point in points] for points, _, _ in found]
    events = [
        _events(path, points, own, number)
        for number, ((points, _, _), own) in enumerate(zip(found, growths, strict=True))
    ]
    branches = [_branch(path, *one, own) for one, own in zip(found, growths, strict=True)]
    return OrbitBranches(
        branches=tuple(branches),
        events=tuple(chain.from_iterable(events)),
        span=path.span,
        not_followed=not_followed,
        G=G,
        _path=path,
        _points=tuple(tuple(points) for points, _, _ in found),
    )


def _start(path: Path, orbits: ClosedOrbits, row: int) -> OrbitPoint:
    """Return a given orbit as an orbit of a family."""
    x = orbits.states[row] / path.network.unit
    x = at_phases(x, max(FEWEST_PHASES, 2 * ((len(x) - 1) // 4) + 1))
    number = 1 / float(orbits.period[row])
    low, high = path.span
    sigma = (float(orbits.inputs[row, 0]) - low) / (high - low)
    tangent = np.append(np.zeros(x.size + 1), 1.0)
    guess = OrbitPoint(x, number, min(max(sigma, 0.0), 1.0), tangent)
    start = path.solved(guess, held_parameter(guess))[0]
    # Where the family turns back, it passes this parameter only once, and would not be seen to
    # close.
    turns_back = abs(start.tangent[-1]) < _TURNS_BACK
    return path.stepped(start, _ASIDE)[0] if turns_back else start


def _is_on(path: Path, points: list[OrbitPoint], other: OrbitPoint) -> bool:
    return any(path.between_them(a, b, other) for a, b in pairwise(points))


def _branch(
    path: Path,
    points: list[OrbitPoint],
    ended_by: tuple[str, str],
    rows: list[int],
    growths: list[Growth],
) -> OrbitBranch:
    return OrbitBranch(
        s=np.array([_parameter(path, point) for point in points]),
        period=1 / np.array([point.number for point in points]),
        states=np.stack([path.network.unit * at_equal(point.x, N_SAMPLE) for point in points]),
        exponents=np.stack([growth.exponents for growth in growths]),
        multipliers=np.stack([growth.multipliers for growth in growths]),
        index=np.array([growth.index for growth in growths]),
        ended_by=ended_by,
        rows=tuple(rows),
    )


def _parameter(path: Path, point: OrbitPoint) -> float:
    return float(path.input_at(point.sigma)[0])


def _events(
    path: Path, points: list[OrbitPoint], growths: list[Growth], branch: int
) -> list[OrbitEvent]:
    """Return what happens on a branch, in order."""
    found = []
    for k, (a, b) in enumerate(pairwise(points)):
        rows: list[int | None] = [None] if a.tangent[-1] * b.tangent[-1] < 0 else []
        pair = growths[k : k + 2]
        counts = [int(np.sum(growth.exponents > 0)) for growth in pair]
        rows += [
            row
            for row in range(min(counts), max(counts))
            if any(abs(growth.exponents[row]) > growth.margin for growth in pair)
        ]  # of what is neutral at both, the sign is rounding
        places: list[float] = []
        for row in rows:
            try:
                place = _root(path, a, b, row)
                point, uncertainty = path.between(a, b, place), _LOCATED * abs(b.sigma - a.sigma)
            except FailedError:  # close by as it is, that is all that is known
                place, point, uncertainty = 0.5, a, abs(b.sigma - a.sigma)
            if all(abs(place - other) > _ONE_EVENT for other in places):
                places.append(place)
                found.append(_event(path, point, branch, k + place, row, uncertainty))
    return _told_apart(sorted(found, key=lambda event: event.place), points)


def _told_apart(events: list[OrbitEvent], points: list[OrbitPoint]) -> list[OrbitEvent]:
    """Return events of which folds at one parameter, to rounding, are one fold, or none.

    Where orbits change at nearly one parameter, as canards do, rounding turns the direction in `s`
    to and fro. The branch turns back if it does so an odd number of times, and the multiplier that
    passes 1 is then that of the fold.
    """
    groups: list[list[OrbitEvent]] = []
    for event in events:
        if event.kind in _AT_ONE_MULTIPLIER and groups:
            before = groups[-1][-1]
            between = points[int(before.place) : int(event.place) + 2]
            here = event._point.sigma
            at_one = all(abs(point.sigma - here) <= _AT_ONE for point in between)
            if at_one and before.kind in _AT_ONE_MULTIPLIER:
                groups[-1].append(event)
                continue
        groups.append([event])
    kept: list[OrbitEvent] = []
    for group in groups:
        folds = [event for event in group if event.kind == "fold"]
        others = [event for event in group if event.kind != "fold"]
        kept += folds[len(folds) // 2 :][:1] if len(folds) % 2 else others
    return kept


def _root(path: Path, a: OrbitPoint, b: OrbitPoint, row: int | None) -> float:
    """Return at what part of a step an exponent is zero, or the direction in `s` for `None`.

    Raises:
        FailedError: if the orbits between are not found.
    """
    from scipy.optimize import brentq

    def value(part: float) -> float:
        point = a if part == 0 else b if part == 1 else path.between(a, b, part)
        return point.tangent[-1] if row is None else path.growth(point).exponents[row]

    return float(brentq(value, 0, 1, xtol=_LOCATED))  # pyright: ignore[reportArgumentType]


def _event(
    path: Path, point: OrbitPoint, branch: int, place: float, row: int | None, uncertainty: float
) -> OrbitEvent:
    """Return what happens where the direction in `s`, or an exponent, is zero."""
    multiplier = complex(1) if row is None else complex(path.growth(point).multipliers[row])
    if row is None:
        kind = "fold"
    elif np.isnan(multiplier):
        kind = "change_of_stability"
    elif abs(multiplier.imag) > _REAL:
        kind, multiplier = "torus", complex(multiplier.real, abs(multiplier.imag))
    else:
        kind = "branch_point" if multiplier.real > 0 else "period_doubling"
    span = abs(path.span[1] - path.span[0])
    return OrbitEvent(
        kind,
        _parameter(path, point),
        1 / point.number,
        path.network.unit * at_equal(point.x, N_SAMPLE),
        branch,
        place,
        multiplier,
        uncertainty * span,
        point,
    )
