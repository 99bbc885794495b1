"""`OrbitBranches`: families of closed orbits, followed through a parameter."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from slowpoints._closed_orbits.emerging import doubled_orbit, found_orbits
from slowpoints._closed_orbits.following import OrbitPoint, Path, part_of_the_way
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._network.base import Transition

_AT_FOLD = 1e-3
"""An orbit is at a fold if the direction of its family has, along the parameter, no more than this
part of what that of its neighbour has."""

_IN_FULL = 1e-8
"""An event is printed with its uncertainty if that is more than this part of the span."""

N_SAMPLE = 64
"""So many states of each orbit are given."""


@dataclasses.dataclass(frozen=True, eq=False)
class OrbitBranch:
    """A family of closed orbits, in order along it.

    Attributes:
        s: `[k]` the parameter, which turns back at folds.
        period: `[k]` the period; in maps, the mean number of steps of a return.
        states: `[k, 64, n_states]` states of each orbit at equal distances in phase.
        exponents: `[k, m]` the Lyapunov exponents across the orbit, per step or unit of time,
            falling; that along it, which is zero, is left out. In maps the 16 leading ones.
        multipliers: `[k, m]` the Floquet multipliers in the same order; NaN in maps.
        index: `[k]` the number of directions that grow, or -1 if all those do that were computed.
        ended_by: why it ends at its first and at its last orbit: `"span"` at an end of the span;
            `"closed"` if it returns to where it begins; `"fixed_point"` if it shrinks to one, as at
            a Hopf point; `"period_doubling"` if it becomes an orbit of half the period, from which
            it branches off; `"homoclinic"` if its period grows without bound at one `s`, as where
            it meets a saddle; `"unresolved"` if its Fourier series takes too many harmonics;
            `"stuck"` if no step leads on; or `"max_steps"`.
        rows: the rows of the orbits it was followed from that lie on it.
    """

    s: Float[np.ndarray, " k"]
    period: Float[np.ndarray, " k"]
    states: Float[np.ndarray, "k n_sample n_states"]
    exponents: Float[np.ndarray, "k m"]
    multipliers: Complex[np.ndarray, "k m"]
    index: Int[np.ndarray, " k"]
    ended_by: tuple[str, str]
    rows: tuple[int, ...]

    @property
    def is_stable(self) -> Bool[np.ndarray, " k"]:
        """`[k]` whether no direction grows."""
        return self.index == 0

    def __len__(self) -> int:
        return len(self.s)


@dataclasses.dataclass(frozen=True, eq=False)
class OrbitEvent:
    """An orbit of a family where its stability changes, or where it turns back.

    Attributes:
        kind: `"fold"`, where two orbits meet and vanish; `"branch_point"`, where families cross;
            `"period_doubling"`, where a multiplier passes -1; `"torus"`, where a pair passes the
            unit circle; in maps, which have no multipliers, `"change_of_stability"`.
        s: the parameter.
        period: the period there.
        states: `[64, n_states]` states of the orbit at equal distances in phase.
        branch: the number of the branch.
        place: where it is along the branch: 3.5 is between its orbits 3 and 4.
        multiplier: the multiplier that passes; of a pair, the upper one; NaN in maps.
        uncertainty: how far `s` may be off.
    """

    kind: str
    s: float
    period: float
    states: Float[np.ndarray, "n_sample n_states"]
    branch: int
    place: float
    multiplier: complex
    uncertainty: float
    _point: OrbitPoint = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        return f"OrbitEvent({self.kind} at s = {self.s:.10g}, branch {self.branch})"


@dataclasses.dataclass(frozen=True, eq=False)
class OrbitBranches:
    """Families of closed orbits of `G(x, s)`: see [`continuation`][slowpoints.continuation].

    Attributes:
        branches: the families, each once.
        events: where their stability changes, in order along each branch.
        span: the ends of the span of `s`.
        not_followed: the rows of the orbits from which no branch could be followed, with the
            reason.
        G: the transition.
    """

    branches: tuple[OrbitBranch, ...]
    events: tuple[OrbitEvent, ...]
    span: tuple[float, float]
    not_followed: dict[int, str]
    G: Transition
    _path: Path = dataclasses.field(repr=False)
    _points: tuple[tuple[OrbitPoint, ...], ...] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.branches)

    def __repr__(self) -> str:
        return (
            f"OrbitBranches(n={len(self)}, span={self.span}, events: {counted_kinds(self.events)})"
        )

    def at(self, s: Number) -> ClosedOrbits:
        """Return the closed orbits of all branches at one `s`.

        Args:
            s: the parameter, within the span.

        Returns:
            The orbits, in the order of the branches and along them, with `inputs = [[s]]`. Where
            Newton's method did not converge, as at a fold, `is_resolved` is false.

        Raises:
            ValueError: if `s` is not in the span.
        """
        value = parameter_within("OrbitBranches.at", s, self.span)
        sigma = (value - self.span[0]) / (self.span[1] - self.span[0])
        paths = [self._with_folds(number) for number in range(len(self))]
        guesses = [
            guess
            for points, branch in zip(paths, self.branches, strict=True)
            for guess in _passing(points, sigma, branch.ended_by[0] == "closed")
        ]
        return found_orbits(self.G, self._path, [*guesses], [sigma] * len(guesses))

    def _with_folds(self, number: int) -> list[OrbitPoint]:
        """Return a branch's orbits, and those at folds, so that no step goes over one."""
        points = [*self._points[number]]
        for event in reversed(self.events):
            if event.kind != "fold" or event.branch != number or not self._is_located(event):
                continue
            points.insert(int(event.place) + 1, event._point)
        return points

    def emerging_orbits(self) -> ClosedOrbits:
        """Return an orbit of each family that branches off at a period doubling.

        Its period is about twice that of the orbit that doubles, and its `s` differs by about a
        thousandth of the span from that of the event, or less.
        [`continuation`][slowpoints.continuation] follows these families in turn.

        Returns:
            A row for each `"period_doubling"` of `events`, in their order, with `inputs = [[s]]`.
            Where none was found, `reasons` says why.
        """
        events = [event for event in self.events if event.kind == "period_doubling"]
        guesses = [doubled_orbit(self._path, event._point) for event in events]
        return found_orbits(self.G, self._path, guesses, [e._point.sigma for e in events])

    def print_summary(self) -> None:
        """Print the branches and their events, a line each."""
        print("\n".join(self.summary_lines()))

    def summary_lines(self) -> list[str]:
        """Return what `print_summary` prints."""
        lines = [repr(self)]
        for number, branch in enumerate(self.branches):
            indices = ", ".join(map(str, sorted(set(branch.index.tolist()))))
            sigma = [point.sigma for point in self._with_folds(number)]
            low, high = sorted(float(self._path.input_at(s)[0]) for s in (min(sigma), max(sigma)))
            lines.append(
                f"branch {number}: {len(branch)} orbit{'s' * (len(branch) != 1)}, "
                f"s from {low:.6g} to {high:.6g}, period from "
                f"{branch.period.min():.6g} to {branch.period.max():.6g}, index {indices}, "
                f"{ends_in_words(branch.ended_by, branch.s)}"
            )
            lines += [
                f"  {event.kind} at s = {self._place(event)}, period {event.period:.10g}"
                for event in self.events
                if event.branch == number
            ]
        lines += [f"row {row} not followed: {why}" for row, why in self.not_followed.items()]
        return [
            *lines,
            "of events within one step, and of families that no given orbit leads to, some may be "
            "missing",
        ]

    def _is_located(self, event: OrbitEvent) -> bool:
        return event.uncertainty <= _IN_FULL * abs(self.span[1] - self.span[0])

    def _place(self, event: OrbitEvent) -> str:
        if self._is_located(event):
            return f"{event.s:.10g}"
        return f"{event.s:.6g} ± {event.uncertainty:.1g}"


def _passing(points: list[OrbitPoint], sigma: float, is_closed: bool) -> list[OrbitPoint]:
    """Return about where a branch passes a parameter, each time once."""
    found = []
    for a, b in pairwise(points):
        if a.sigma == sigma:
            found.append(a)
        elif (a.sigma - sigma) * (b.sigma - sigma) < 0:
            part = (sigma - a.sigma) / (b.sigma - a.sigma)
            # Next to a fold, the parameter changes as the square of the distance from it.
            if abs(a.tangent[-1]) < _AT_FOLD * abs(b.tangent[-1]):
                part = np.sqrt(part)
            elif abs(b.tangent[-1]) < _AT_FOLD * abs(a.tangent[-1]):
                part = 1 - np.sqrt(1 - part)
            found.append(dataclasses.replace(part_of_the_way(a, b, part), sigma=sigma))
    last = points[-1:] if not is_closed else []
    return found + [point for point in last if point.sigma == sigma]


def parameter_within(caller: str, s: Any, span: tuple[float, float]) -> float:
    """Return a parameter, which has to be in the span of branches."""
    value = float(arguments.number(caller, "s", s, least=-np.inf, finite=True))
    low, high = sorted(span)
    if not low <= value <= high:
        expected = f"a number in the span {span}"
        arguments.refuse(caller, "s", f"is {value}", expected, ValueError)
    return value


def counted_kinds(events: Iterable[Any]) -> str:
    """Say how many events of each kind there are."""
    kinds = Counter(event.kind for event in events)
    return ", ".join(f"{kind}: {n}" for kind, n in kinds.items()) or "none"


_ENDS = {
    "span": "goes on beyond the span",
    "fixed_point": "shrinks to a fixed point",
    "period_doubling": "becomes an orbit of half the period",
    "homoclinic": "its period grows without bound",
    "unresolved": "its Fourier series takes too many harmonics",
    "stuck": "no step leads on",
    "max_steps": "not followed beyond `max_steps` steps",
}


def ends_in_words(ended_by: tuple[str, str], s: Float[np.ndarray, " k"]) -> str:
    """Say what is at the ends of a branch, of points or of orbits: see `ended_by` of both."""
    first, last = ended_by
    if first == "closed":
        return "closed"
    if first == last:
        return f"{_ENDS[first]} at both ends"
    return f"{_ENDS[first]} at s = {s[0]:.6g}, {_ENDS[last]} at s = {s[-1]:.6g}"
