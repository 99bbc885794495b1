"""`Certificates`: what is proven about states, and how it is proven, on plain arrays."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from slowpoints._core.units import relative_units
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.units import InUnits

_MOST_ENTRIES = 2**21
"""Rows are certified together as long as their Jacobians have no more entries than this; a few
dozen arrays of this size are in use at a time, which makes about a gigabyte."""


@dataclasses.dataclass(frozen=True, eq=False)
class Certificates:
    """What is proven about each of `n` points: see [`certify`][slowpoints.certify].

    Attributes:
        is_certified: `[n]` whether the ball of radius `radius` around `xstar` holds a fixed point,
            and either holds only one or is no larger than `tol_unique`.
        is_unique: `[n]` whether it holds only one.
        radius: `[n]` the radius of that ball, `norm((x - xstar) / unit)`; infinite if there is no
            certificate.
        reason: `[n]` why a point is not certified or not unique; empty if it is both.
        is_stable: `[n]` `True` or `False` where stability of the fixed point is proven or refuted,
            and `None` where neither is.
        index: `[n]` the fixed point's number of unstable directions, -1 if it is not proven.
        centre: `[n, n_states]` a state nearer to the fixed point than `xstar`, in float64.
        inner_radius: `[n]` no entry of the fixed point differs from `centre` by more than this
            times its `unit`.
        outer_radius: `[n]` there is no other fixed point all of whose entries differ from `centre`
            by at most this times their `unit`; 0 if there is no certificate.
        inputs: `[n, n_inputs]` the points' inputs.
        unit: `[n, n_states]` the unit of each entry of the state, a power of two: 1 unless entries
            differ in size by more than a factor of 1024, and the proof is better in such units.
    """

    is_certified: Bool[np.ndarray, " n"]
    is_unique: Bool[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]
    reason: Shaped[np.ndarray, " n"]
    is_stable: Shaped[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "n n_states"] = dataclasses.field(repr=False)
    inner_radius: Float[np.ndarray, " n"] = dataclasses.field(repr=False)
    outer_radius: Float[np.ndarray, " n"] = dataclasses.field(repr=False)
    inputs: Float[np.ndarray, "n n_inputs"] = dataclasses.field(repr=False)
    unit: Float[np.ndarray, "n n_states"] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.is_certified)

    def __getitem__(self, index: Any) -> "Certificates":
        """Select rows by a slice, a mask or an index array."""
        names = [field.name for field in dataclasses.fields(self)]
        return Certificates(**{name: getattr(self, name)[index] for name in names})

    @staticmethod
    def concatenate(parts: Sequence["Certificates"]) -> "Certificates":
        """Join the rows of several objects for networks of one size."""
        names = [field.name for field in dataclasses.fields(Certificates)]
        columns = {name: [getattr(part, name) for part in parts] for name in names}
        return Certificates(**{name: np.concatenate(column) for name, column in columns.items()})

    def are_same(self) -> Bool[np.ndarray, "n n"]:
        """Return which pairs of rows are proven to be at one and the same fixed point."""
        same = np.ones((len(self), len(self)), bool)
        for distance, inner, outer in self._entries():
            # The fixed point of the second row is in the outer box of the first.
            same &= (distance * (1 + 2.0**-50) + inner) * (1 + 2.0**-50) <= outer[:, None]
        same = same & self.is_certified & self.is_certified[:, None] & self._same_input()
        return same | same.T

    def are_distinct(self) -> Bool[np.ndarray, "n n"]:
        """Return which pairs of rows are proven to be at two fixed points."""
        both = self.is_certified & self.is_certified[:, None]
        apart = np.zeros((len(self), len(self)), bool)
        for distance, inner, _ in self._entries():
            apart |= distance * (1 - 2.0**-50) > (inner + inner[:, None]) * (1 + 2.0**-50)
        return both & (apart | ~self._same_input())

    def _same_input(self) -> Bool[np.ndarray, "n n"]:
        _, number = np.unique(self.inputs, axis=0, return_inverse=True)
        number = number.reshape(len(self))
        return number[:, None] == number

    def excludes(
        self, x: Float[np.ndarray, "k n_states"], rows: Int[np.ndarray, " k"]
    ) -> Bool[np.ndarray, " k"]:
        """Return for each state whether it is outside of a row's box without other points.

        Args:
            x: `[k, n_states]` states.
            rows: `[k]` of which row the box is meant.
        """
        off = np.abs(x.astype(np.float64) - self.centre[rows]) / self.unit[rows]
        return off.max(axis=1, initial=0) * (1 + 2.0**-40) > self.outer_radius[rows]

    def _entries(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield for each entry of the state the centres' distances and the boxes' half widths."""
        for state, unit in zip(self.centre.T, self.unit.T, strict=True):
            # Times a power of two, and so without rounding.
            distance = np.abs(state[:, None] - state)
            yield distance, self.inner_radius * unit, self.outer_radius * unit

    def __str__(self) -> str:
        n, n_certified, n_unique = len(self), self.is_certified.sum(), self.is_unique.sum()
        distinct = self.are_distinct() | np.eye(n, dtype=bool) | ~self.is_certified
        n_distinct = int((distinct | ~self.is_certified[:, None]).all(axis=1).sum())
        lines = [
            f"{n_certified} of {n} points are certified: a fixed point is proven within their "
            f"radius, and the only one there for {n_unique} of them."
        ]
        if n_certified:
            all_distinct = n_distinct == n
            known = [sum(x is value for x in self.is_stable) for value in (True, False)]
            lines += [
                "All of them are proven to be distinct."
                if all_distinct
                else "Not all of them are proven to be distinct.",
                f"{known[0]} are proven to be stable, {known[1]} not to be; "
                f"{n_certified - sum(known)} undecided.",
            ]
        reasons, counts = np.unique(self.reason[~self.is_certified], return_counts=True)
        lines += [f"{k}: {reason}" for reason, k in zip(reasons, counts, strict=True)]
        return "\n".join(lines)


def certificates_of(
    F: Transition,
    x: Float[np.ndarray, "n n_states"],
    inputs: Float[np.ndarray, "n n_inputs"],
    tol: float,
    valid: Bool[np.ndarray, " n"] | None = None,
) -> Certificates:
    """Prove of each state that there is one fixed point near it, and no other.

    Args:
        F: the network, as a program.
        x: `[n, n_states]` the states, at least one entry each.
        inputs: `[n, n_inputs]` their inputs, in the same precision.
        tol: states at most so far apart count as one point.
        valid: `[n]` which states are to be proven; all by default.

    Returns:
        What is proven, row by row.
    """
    # Only here and in `_Proven.add`, so that a search loads nothing that proves.
    from slowpoints._intervals.enclosure import NotCovered

    found = _Proven(x, inputs)
    valid = np.ones(len(x), bool) if valid is None else valid
    finite = np.isfinite(x).all(axis=1) & np.isfinite(inputs).all(axis=1)
    found.reason[~finite] = "not certified: the row is not finite"
    found.reason[~valid] = "not certified: the row is not valid"
    rows = np.flatnonzero(valid & finite)
    n_states = x.shape[1]
    usual, own = np.ones(n_states), relative_units(x[rows], silent=0.0)
    for unit in [usual] if np.all(own == usual) else [usual, own]:
        for some in _chunks(rows, n_states):
            try:
                found.add(F, some, tol, unit)
            except NotCovered as operation:
                found.reason[some] = f"not certified: {operation} is not covered"
                rows = np.setdiff1d(rows, some)
        # What is proven already is as good in the usual unit.
        rows = rows[found.worth[rows] < _ALL_PROVEN]
    return found.certificates()


def _chunks(rows: Int[np.ndarray, " k"], n_states: int) -> Iterator[Int[np.ndarray, " m"]]:
    at_a_time = max(1, _MOST_ENTRIES // max(1, n_states**2))
    for start in range(0, rows.size, at_a_time):
        yield rows[start : start + at_a_time]


_ALL_PROVEN = 4
"""That there is a fixed point, that it is the only one, whether it is stable, and its index."""


class _Proven:
    """The certificates, filled in row by row."""

    def __init__(self, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]):
        n = len(x)
        self.x, self.u = x, u
        self.centre = x.astype(np.float64)
        self.is_certified, self.is_unique = np.zeros(n, bool), np.zeros(n, bool)
        self.radius, self.inner, self.outer = np.full(n, np.inf), np.full(n, np.inf), np.zeros(n)
        self.is_stable, self.index = np.full(n, None, object), np.full(n, -1)
        self.reason = np.full(n, "", object)
        self.unit = np.ones(x.shape)
        self.worth = np.full(n, -1)
        """How much is proven of each row, up to `_ALL_PROVEN`."""

    def add(
        self,
        F: Transition,
        rows: Int[np.ndarray, " k"],
        tol: float,
        unit: Float[np.ndarray, " n_states"],
    ) -> None:
        """Certify some rows in some units; points at most `tol` apart count as one.

        Rows about which no more is proven in these units than before keep what they have.
        """
        from slowpoints._intervals.balls import Ball
        from slowpoints._intervals.interpreter import EnclosedProgram
        from slowpoints._intervals.krawczyk import boxes_around
        from slowpoints._intervals.stability import count_unstable

        x = (self.x[rows] / unit).astype(self.x.dtype)  # by powers of two
        in_units = F if np.all(unit == 1) else InUnits(F, unit.astype(self.x.dtype))
        boxes = boxes_around(EnclosedProgram(in_units, x, self.u[rows]), x.astype(np.float64))
        # The centre and its box within a ball around `xstar`, and that in the outer box.
        moved = np.abs(boxes.centre - x)
        radius = _around(moved, boxes.inner, np.ones(x.shape[1]))
        with np.errstate(invalid="ignore"):
            reach = (moved.max(axis=1, initial=0) + radius) * (1 + 2.0**-40)
        single = reach <= boxes.outer
        # Newton's method may have gone anywhere, such as from a slow point to a fixed point far
        # away, of whose existence this row is no sign.
        exists = boxes.exists & (single | (_around(moved, boxes.inner, unit) <= tol))
        J = boxes.slope
        if isinstance(F, ContinuousTime):
            J = J - Ball(np.eye(x.shape[1]))
        stable, unstable, index = count_unstable(J, isinstance(F, ContinuousTime))
        worth = exists * (1 + single + (stable | unstable) + (index >= 0))
        reason = _reasons(boxes)
        reason[boxes.exists & ~exists] = (
            "not certified: the fixed point that Newton's method reaches is farther away than "
            f"`tol_unique` = {tol:g}, and may be another one"
        )
        reason[exists & ~single] = (
            "not unique: the ball around `xstar` reaches beyond the box in which only one fixed "
            "point is proven to be"
        )
        better = worth > self.worth[rows]
        new = rows[better]
        self.worth[new], self.reason[new] = worth[better], reason[better]
        proves = better & exists
        proven = rows[proves]
        self.unit[proven] = unit
        self.centre[proven] = boxes.centre[proves] * unit
        self.inner[proven], self.outer[proven] = boxes.inner[proves], boxes.outer[proves]
        self.is_certified[proven], self.radius[proven] = True, radius[proves]
        self.is_unique[proven], self.index[proven] = single[proves], index[proves]
        for row, holds, refuted in zip(proven, stable[proves], unstable[proves], strict=True):
            self.is_stable[row] = True if holds else False if refuted else None

    def certificates(self) -> Certificates:
        """Return what is proven."""
        return Certificates(
            is_certified=self.is_certified,
            is_unique=self.is_unique,
            radius=self.radius,
            reason=self.reason,
            is_stable=self.is_stable,
            index=self.index,
            centre=self.centre,
            inner_radius=self.inner,
            outer_radius=self.outer,
            inputs=self.u.astype(np.float64),
            unit=self.unit,
        )


def _around(
    moved: Float[np.ndarray, "k n_states"],
    inner: Float[np.ndarray, " k"],
    unit: Float[np.ndarray, " n_states"],
) -> Float[np.ndarray, " k"]:
    """Return a radius around `xstar` within which a box is, `moved` away, in units of `unit`."""
    with np.errstate(invalid="ignore"):
        # Unlike a sum of squares, `hypot` neither over- nor underflows on the way.
        away, diagonal = np.hypot.reduce(moved * unit, axis=1), np.hypot.reduce(unit) * inner
        return (away + diagonal) * (1 + len(unit) * 2.0**-50) * (1 + 2.0**-40)


def _reasons(boxes: Any) -> Shaped[np.ndarray, " k"]:
    reasons = np.full(len(boxes.exists), "", object)
    nothing = "not certified: no box around the row is proven to hold a fixed point"
    for i in np.flatnonzero(~boxes.exists):
        if not boxes.is_differentiable[i]:
            reasons[i] = "not certified: the Jacobian at the row has no finite bound"
        elif boxes.is_singular[i]:
            reasons[i] = "not certified: I - J is singular, as on a line of fixed points"
        elif boxes.outer[i] == 0:
            reasons[i] = (
                f"{nothing}, since I - J is nearly singular there, as near a fold or on a line of "
                "fixed points, or a unit is at a kink"
            )
        else:
            reasons[i] = f"{nothing}, since F(x) and x are too far apart"
    return reasons
