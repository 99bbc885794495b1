"""`Branches`: families of fixed points, followed through a parameter."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from slowpoints._arclength.arcs import crossings
from slowpoints._arclength.curve import Curve, n_computed
from slowpoints._arclength.on_curve import across, on_curve, residuals
from slowpoints._closed_orbits.emerging import found_orbits, orbit_of_point
from slowpoints._closed_orbits.evaluated import NetworkOfOrbits
from slowpoints._closed_orbits.following import Path
from slowpoints._closed_orbits.orbit_branches import (
    counted_kinds,
    ends_in_words,
    parameter_within,
)
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._core.arrays import n_filled_up
from slowpoints._core.types import Number
from slowpoints._core.units import units_of
from slowpoints._linear_algebra.signs import signs_of
from slowpoints._network.base import Transition
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.status import Status
from slowpoints._points.unique import unique

_MOST_NAMED = 5
"""The summary names so many parts of the span in which there may be other branches."""


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """A family of fixed points, in order along it.

    Attributes:
        s: `[k]` the parameter, which turns back at folds.
        xstar: `[k, n_states]` the points.
        tangent: `[k, n_states + 1]` unit vectors along the branch, of the state and of `s` as a
            part of the span.
        eigvals: `[k, m]` the eigenvalues of the Jacobian, leading first: all of them, or the `m`
            leading ones, of which those that did not converge are NaN.
        index: `[k]` how many eigenvalues are outside the unit circle (in continuous time: right of
            the imaginary axis), or -1 if that is not known.
        ended_by: why it ends at its first and at its last point: `"span"` at an end of the span;
            `"closed"` if it returns to where it begins; `"stuck"` if no step leads on, as at a
            jump, or at a corner that turns back in `s`; or `"max_steps"`.
        rows: the rows of the points it was followed from that lie on it.
        is_proven: `[k - 1]` for each step whether a tube around it is proven to hold this branch
            and no other; `None` without `certify`.
    """

    s: Float[np.ndarray, " k"]
    xstar: Float[np.ndarray, "k n_states"]
    tangent: Float[np.ndarray, "k n_states_and_s"]
    eigvals: Complex[np.ndarray, "k m"]
    index: Int[np.ndarray, " k"]
    ended_by: tuple[str, str]
    rows: tuple[int, ...]
    is_proven: Bool[np.ndarray, " steps"] | None = None

    @property
    def is_stable(self) -> Bool[np.ndarray, " k"]:
        """`[k]` whether no eigenvalue is outside the unit circle."""
        return self.index == 0

    def __len__(self) -> int:
        return len(self.s)


@dataclasses.dataclass(frozen=True, eq=False)
class Event:
    """A point of a branch where its stability changes, or where it turns back.

    Attributes:
        kind: `"fold"`, where two points meet and vanish; `"branch_point"`, where branches cross, as
            at a pitchfork; `"flip"`, where an eigenvalue passes -1; `"neimark_sacker"`, where a
            pair passes the unit circle; in continuous time `"hopf"`, where one passes the imaginary
            axis; `"border_collision"`, a kink, as of a ReLU unit, where eigenvalues jump past the
            circle (Eisenmann et al. 2023). Where points meet and vanish at a kink, that is a
            `"fold"`.
        s: the parameter.
        xstar: `[n_states]` the state.
        branch: the number of the branch.
        place: where it is along the branch: 3.5 is between its points 3 and 4.
        eigval: the eigenvalue that passes; of a pair, the upper one; NaN where eigenvalues jump.
        uncertainty: how far `s` may be off.
    """

    kind: str
    s: float
    xstar: Float[np.ndarray, " n_states"]
    branch: int
    place: float
    eigval: complex
    uncertainty: float

    def __repr__(self) -> str:
        return f"Event({self.kind} at s = {self.s:.10g}, branch {self.branch})"


def in_other_units(
    tangent: Float[np.ndarray, "k n_states_and_s"], unit: Float[np.ndarray, " n_states"]
) -> Float[np.ndarray, "k n_states_and_s"]:
    """Return unit vectors along a branch, whose states are now to be multiplied by `unit`."""
    along = tangent * np.append(unit, 1).astype(tangent.dtype)
    # Not below the smallest numbers, whose squares vanish.
    along = along / np.abs(along).max(axis=1, keepdims=True)
    return along / np.linalg.norm(along, axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Unproven:
    """A part of a branch about which something is not proven.

    Attributes:
        branch: the number of the branch; -1 for branches that may be there besides.
        s: the lowest and the highest parameter there.
        reason: why not.
    """

    branch: int
    s: tuple[float, float]
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Branches:
    """Families of fixed points of `G(x, s)`: see [`continuation`][slowpoints.continuation].

    Attributes:
        branches: the families, each once.
        events: where their stability changes, in order along each branch.
        span: the ends of the span of `s`.
        not_followed: the rows of the points from which no branch could be followed, with the
            reason.
        searched: for each `s` that was searched anew, how many points were found that lie on a
            branch, and how many did not and were followed from there.
        unproven: with `certify`, the parts of branches that are not proven, or not to pass each `s`
            there once; `None` without.
        G: the transition.
        box: with `certify`, the lowest and the highest states, `[n_states]` each, between which all
            branches are followed, whether or not a given point leads to them; `None` without.
        may_hold_others: with `certify`, the parts of the span in which there may be further
            branches in the box; `None` without.
    """

    branches: tuple[Branch, ...]
    events: tuple[Event, ...]
    span: tuple[float, float]
    not_followed: dict[int, str]
    searched: dict[float, tuple[int, int]]
    unproven: tuple[Unproven, ...] | None
    G: Transition
    _curve: Curve = dataclasses.field(repr=False)
    _unit: Float[np.ndarray, " n_states"] = dataclasses.field(repr=False)
    box: tuple[Float[np.ndarray, " n_states"], Float[np.ndarray, " n_states"]] | None = None
    may_hold_others: tuple[Unproven, ...] | None = None

    def __len__(self) -> int:
        return len(self.branches)

    def __repr__(self) -> str:
        return f"Branches(n={len(self)}, span={self.span}, events: {counted_kinds(self.events)})"

    @property
    def event_resolution(self) -> float:
        """The longest step along a branch in `s`: events that are farther apart are told apart.

        Of several events on a branch that are closer to each other than this, all are found if
        eigenvalues and directions change smoothly, since steps are divided where these bend as if
        there were some. Others may be missed: a smaller `max_step` makes this smaller.
        """
        steps = [np.abs(np.diff(branch.s)).max(initial=0) for branch in self.branches]
        return float(max(steps, default=0.0))

    def at(self, s: Number) -> FixedPoints:
        """Return the fixed points of all branches at one `s`.

        Args:
            s: the parameter, within the span.

        Returns:
            Distinct points, backed by NumPy, with `inputs = [[s]]`, speeds, Jacobians, eigenvalues,
            stability and `status`: `FIXED_POINT`, or `UNFINISHED` where Newton's method did not
            converge, as at a fold.

        Raises:
            ValueError: if `s` is not in the span.
        """
        value = parameter_within("Branches.at", s, self.span)
        curve = self._curve
        paths = [self._path_with_folds(number) for number in range(len(self))]
        y, rows = crossings(paths, (value - float(curve.origin)) / float(curve.length))
        with jax.enable_x64(y.dtype == np.float64):
            found = on_curve(curve, y, across(y))
            x = np.where(found.is_on_curve[:, None], found.y, y)[:, :-1]
            inputs = np.full((len(x), 1), value, x.dtype)
            status = np.where(found.is_on_curve, Status.FIXED_POINT, Status.UNFINISHED)
            H = residuals(curve, np.concatenate([x, y[:, -1:]], axis=1)) * np.asarray(curve.rate)
            fps = FixedPoints(
                xstar=x,
                F_xstar=x + H,
                inputs=inputs,
                qstar=0.5 * np.sum(H**2, axis=1),
                status=status.astype(np.int8),
                cond_id=rows,
                tol_unique=1e-6,
                dtype=x.dtype,
                continuous_time=curve.is_flow,
            )
            if fps.n:
                fps = _distinct(fps)
                moved = (fps.F_xstar - fps.xstar) * self._unit
                fps = fps.replace(
                    xstar=fps.xstar * self._unit,
                    F_xstar=fps.F_xstar * self._unit,
                    qstar=0.5 * np.sum(moved**2, axis=1),
                )
                fps = _with_spectra(self.G, fps)
        return fps

    def emerging_orbits(self) -> ClosedOrbits:
        """Return a small closed orbit of each family that begins at a Hopf or Neimark-Sacker point.

        It is as far from the point as the family is where `s` differs by about a thousandth of the
        span, or less. [`continuation`][slowpoints.continuation] follows it.

        Returns:
            A row for each `"hopf"` and `"neimark_sacker"` of `events`, in their order, with `inputs
            = [[s]]`. Where none was found, `reasons` says why: in a map, states may repeat
            after a few steps there (strong resonance).
        """
        events = [event for event in self.events if event.kind in ("hopf", "neimark_sacker")]
        dtype = self._unit.dtype
        path = Path(NetworkOfOrbits.of(self.G, self._unit, dtype), self.span)
        low, high = self.span
        sigmas = [(event.s - low) / (high - low) for event in events]
        guesses = [
            orbit_of_point(path, event.xstar / self._unit, sigma, event.eigval)
            for event, sigma in zip(events, sigmas, strict=True)
        ]
        return found_orbits(self.G, path, guesses, sigmas)

    def is_proven_at(self, s: Number) -> bool:
        """Return whether the points at `s` are proven to be all that the branches have there.

        It is `True` if, with `certify`, no part of a branch that is not proven comes to this `s`:
        each branch then passes it as often as `at` says, and each time in a tube that holds no
        other branch. Other branches are not spoken of: see `is_complete_at`. Where branches cross,
        or come closer than 1e-6, nothing is proven about which of them goes on as which: what lies
        beyond is proven to be a branch. If a branch could have gone anywhere, as from where it is
        `"stuck"`, nothing is proven at any `s`.

        Args:
            s: the parameter, within the span.
        """
        value = parameter_within("Branches.is_proven_at", s, self.span)
        if self.unproven is None:
            return False
        return not any(part.s[0] <= value <= part.s[1] for part in self.unproven)

    def is_complete_at(self, s: Number) -> bool:
        """Return whether the points at `s` are proven to be all fixed points that `box` holds.

        It is `True` if the points of the branches are proven (`is_proven_at`), and there is no
        other branch within the box.

        Args:
            s: the parameter, within the span.
        """
        value = parameter_within("Branches.is_complete_at", s, self.span)
        if self.may_hold_others is None or not self.is_proven_at(value):
            return False
        return not any(part.s[0] <= value <= part.s[1] for part in self.may_hold_others)

    def _positions(self, branch: Branch) -> Float[np.ndarray, "k n_states_and_s"]:
        sigma = (branch.s - float(self._curve.origin)) / float(self._curve.length)
        sigma = sigma[:, None].astype(branch.xstar.dtype)
        return np.concatenate([branch.xstar / self._unit, sigma], axis=1)

    def _path_with_folds(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a branch's points and tangents, in which no step goes over a fold.

        Close to a fold, Newton's method needs to know better than from a step over it where it is.
        """
        branch = self.branches[number]
        y, tangent = self._positions(branch), in_other_units(branch.tangent, 1 / self._unit)
        folds = [e for e in self.events if e.kind == "fold" and e.branch == number]
        for event in sorted(folds, key=lambda event: -event.place):
            k = int(event.place)
            if k < event.place:  # which is not at a point
                sigma = (event.s - float(self._curve.origin)) / float(self._curve.length)
                along = np.append((tangent[k] + tangent[k + 1])[:-1], 0)
                y = np.insert(y, k + 1, np.append(event.xstar / self._unit, sigma), axis=0)
                tangent = np.insert(tangent, k + 1, along / np.linalg.norm(along), axis=0)
        return y, tangent

    def sum_of_signs(self, s: Number) -> int:
        """Return the sum of `sign det(I - J)` over the points at `s`.

        It is the same for all `s` if the states stay bounded and no branch is missing, so where it
        changes, a branch is missing on one side: see [`degree`][slowpoints.degree]. A closed branch
        does not show, since its points come in pairs of opposite signs.
        """
        fps = self.at(s)
        if fps.n == 0:
            return 0
        return int(signs_of(fps, units_of(*(branch.xstar for branch in self.branches))).sum())

    def print_summary(self) -> None:
        """Print the branches and their events, a line each."""
        print("\n".join(self.summary_lines()))

    def summary_lines(self) -> list[str]:
        """Return what `print_summary` prints."""
        lines = [repr(self)]
        for number, branch in enumerate(self.branches):
            indices = ", ".join(map(str, sorted(set(branch.index.tolist()))))
            lines.append(
                f"branch {number}: {len(branch)} point{'s' * (len(branch) != 1)}, "
                f"s from {branch.s.min():.6g} to {branch.s.max():.6g}, index {indices}, "
                f"{ends_in_words(branch.ended_by, branch.s)}"
            )
            lines += [
                f"  {event.kind} at s = {event.s:.10g}"
                for event in self.events
                if event.branch == number
            ]
            if n_unknown := int(np.sum(branch.index < 0)):
                lines.append(
                    f"  the index is not known (-1) at {n_unknown} of its points: only folds are "
                    "found next to these; a larger `n_eigvals` may tell it"
                )
        if self.branches:
            lines.append(
                f"events farther apart than {self.event_resolution:.2g} in s are told apart; "
                "of closer ones some may be missing"
            )
        lines += [
            f"branch {part.branch} is not proven for s from {part.s[0]:.10g} to {part.s[1]:.10g}: "
            f"{part.reason}"
            for part in self.unproven or ()
        ]
        if self.unproven == ():
            lines.append("all branches are proven")
        lines += [f"row {row} not followed: {why}" for row, why in self.not_followed.items()]
        lines += [
            f"searched at s = {s:.6g}: {known} point{'s' * (known != 1)} on known branches, "
            f"{new} new"
            for s, (known, new) in self.searched.items()
        ]
        return [*lines, *self._others_in_words()]

    def _others_in_words(self) -> list[str]:
        """Say what is known of branches that no given point leads to."""
        if self.may_hold_others is None:
            where = "between the searched s" if self.searched else "`search_at` looks for them"
            return [
                "branches that no given point leads to, such as closed ones, may be missing: "
                f"{where}, `certify` proves it"
            ]
        box = "the box"
        if self.box is not None:
            low, high = min(self.box[0]), max(self.box[1])
            box = f"the box of states, from {low:.6g} to {high:.6g}"
        if not self.may_hold_others:
            return [f"there are proven to be no other branches in {box}"]
        first, n = self.may_hold_others[:_MOST_NAMED], len(self.may_hold_others)
        lines = [
            f"there may be other branches in {box}, for s from {part.s[0]:.10g} to "
            f"{part.s[1]:.10g}: {part.reason}"
            for part in first
        ]
        if n > _MOST_NAMED:
            lines.append(f"and for {n - _MOST_NAMED} other parts of the span: `may_hold_others`")
        return lines


# ---- for few different numbers of rows, so that little is compiled -------------------------------


def _distinct(fps: FixedPoints) -> FixedPoints:
    """Return each point once."""
    rows = np.arange(n_computed(fps.n, fps.n_states + 1))
    padded = fps[rows % fps.n].replace(valid=rows < fps.n)
    return unique(padded, tol=1e-6).compact().to_numpy()


def _with_spectra(G: Transition, fps: FixedPoints) -> FixedPoints:
    """Fill the Jacobians, eigenvalues and stability."""
    least, work = n_computed(fps.n, fps.n_states + 1), 10 * fps.n_states**3
    rows = np.arange(n_filled_up(fps.n, work, least))
    padded = decompose(jacobians(G, fps[rows % fps.n]))
    return padded.to_numpy()[: fps.n]
