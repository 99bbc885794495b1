"""Branches that no known point leads to: found, or proven not to be there.

A box of states, over the whole span, is divided until each part is settled. There is no fixed point
in it, or it is within what surrounds the tube of a known branch, where there is nothing else.
Before a part is divided, it is cut down to what Krawczyk's operator with the parameter leaves of
it. With slopes `S` of `H` over the part, between its middle `m` and any point `y`, a unit vector
`c` along which `H` changes least, and any matrix `C`, where `H(y) = 0`,

    y - m = C (-H(m), c (y - m)) + (I - C M) (y - m),   M = (S, c).

What is left is narrow across the branch, also at folds, and long along it.
"""

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.on_curve import on_curve
from slowpoints._branch_proofs.surroundings import nowhere, surroundings
from slowpoints._branch_proofs.tubes import Proof, Prover, stacked
from slowpoints._core.arrays import power_of_two
from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._linear_algebra.signs import inverses
from slowpoints._proofs.branch_and_prune import Parts, column, divided, joined, known_ends

_MOST_PARTS, _MOST_WORK = 2**17, 2**25
"""So many parts are looked at, or fewer of more than five units, whose matrices take no more work
than this together: a part of ten units takes 0.1 ms, and they would be too many."""

_AT_A_TIME = 2**18
"""Parts are looked at together as long as their slopes have no more entries than this."""

_SMALLEST, _SHORTEST = 1e-6, 1e-8
"""Parts of this size are given up, in units of the states, and in those of the span: tubes of
curves that cross end about so far from the crossing, and are told to cross in `s` by its square."""

_LEAST_SPREAD = 0.1
"""Slopes are taken to vary along each side at least by this part of what they do along another:
what they do along one may depend on the length of the other."""

_BESIDE = 1e-5
"""Parts of the span in which something is left open are one if they are no farther apart."""

_CROSSED = (
    f"parts of {_SMALLEST:g} are neither empty nor within what surrounds a branch, as where it is "
    "not proven"
)
_TOO_MANY = "there were too many parts to look at; a smaller `box` may help"

_ALONE = 0.9
"""Where Krawczyk's operator contracts by this, there is one branch, to which Newton's method
leads."""

_MOST_TRIES = 64
"""From so many parts at a time, Newton's method looks for other branches."""


class OtherBranches:
    """The search for branches that are not known, within a box of states."""

    def __init__(self, prover: Prover, box: Parts):
        self._prover = prover
        self._d1 = box.low.size + 1
        ends = (np.append(end, sigma)[None] for end, sigma in zip(box, (0.0, 1.0), strict=True))
        self._waiting = [Parts(*ends)]
        self._given_up: list[Parts] = []
        self._n_seen = 0
        self._at_a_time = max(1, _AT_A_TIME // self._d1**2)
        self._most = min(_MOST_PARTS, _MOST_WORK // self._d1**3)
        self._smallest = np.append(np.full(box.low.size, _SMALLEST), _SHORTEST)
        self._around = nowhere(self._d1)
        self._not_yet: list[tuple[list[Chain], list[Proof]]] = []

    def know(self, chains: list[Chain], proofs: list[Proof]) -> None:
        """Take branches as known, and what is proven about their steps."""
        if chains:
            self._not_yet.append((chains, proofs))

    def found(self) -> Float[np.ndarray, "n d1"]:
        """Divide on, until there are points that may be on branches that are not known.

        Returns:
            The points. If there are none, all is settled but for what is `left_open`.
        """
        while parts := [part for part in self._waiting if len(part.low)]:
            boxes = joined(parts, self._d1)
            n = min(self._at_a_time, len(boxes.low), self._most - self._n_seen)
            if n <= 0:
                break
            self._n_seen += n
            # Those that wait longest, so that if it is cut short, what is left is hard everywhere.
            self._waiting = [boxes.where(slice(n, None))]
            points = self._look_at(boxes.where(slice(n)))
            if len(points):
                return points
        return np.zeros((0, self._d1))

    def left_open(self) -> list[tuple[float, float, str]]:
        """Return where along the span other branches are not excluded, in order, and why."""
        spans: list[tuple[float, float, str]] = []
        for parts, why in ((self._given_up, _CROSSED), (self._waiting, _TOO_MANY)):
            boxes = joined(parts, self._d1)
            for low, high in sorted(zip(boxes.low[:, -1], boxes.high[:, -1], strict=True)):
                if spans and spans[-1][2] == why and low <= spans[-1][1] + _BESIDE:
                    spans[-1] = (spans[-1][0], max(spans[-1][1], float(high)), why)
                else:
                    spans.append((float(low), float(high), why))
        return sorted(spans)

    def _look_at(self, boxes: Parts) -> Float[np.ndarray, "n d1"]:
        """Settle, cut down and divide some boxes; return points that may be on other branches."""
        parts, normal, contraction, spread = self._cut_down(boxes)
        is_open = np.all(parts.low <= parts.high, axis=1)
        may_be_around = is_open & (contraction < 1)  # of what is around a branch, few are not
        is_open[may_be_around] = ~self._surrounded(parts.where(may_be_around))
        is_short = parts.high - parts.low <= self._smallest
        is_tiny = is_short.all(axis=1)
        self._given_up.append(parts.where(is_open & is_tiny))
        is_open &= ~is_tiny
        spread = np.maximum(spread, _LEAST_SPREAD * spread.max(axis=1, keepdims=True))
        self._waiting += divided(parts.where(is_open), np.where(is_short, 0, spread)[is_open])
        tried = np.flatnonzero(is_open & (contraction < _ALONE))[:_MOST_TRIES]
        return self._points_in(parts.where(tried), normal[tried])

    def _surrounded(self, parts: Parts) -> Bool[np.ndarray, " n"]:
        """Return which boxes are within what surrounds a known branch."""
        if not len(parts.low):
            return np.zeros(0, bool)
        for chains, proofs in self._not_yet:  # only now: it takes longer than all that is before
            self._around = self._around.with_others(surroundings(self._prover, chains, proofs))
        self._not_yet = []
        return self._around.hold(parts)

    def _cut_down(self, boxes: Parts) -> tuple[Parts, np.ndarray, np.ndarray, np.ndarray]:
        """Return what is left of boxes, directions along branches, contractions, and spreads."""
        n, d1 = boxes.low.shape
        rows = np.minimum(np.arange(power_of_two(n)), n - 1)
        boxes = boxes.where(rows)
        box, program = from_bounds(*boxes), self._prover.program(rows.size, d1)
        with np.errstate(all="ignore"):
            value, slope = program.linearised(box)
            normal = _along(slope.mid)
            border = Ball(normal[:, None])
            M = stacked(slope, border)
            C = Ball(np.nan_to_num(inverses(np.nan_to_num(M.mid))))
            side = Ball(np.zeros(box.shape), box.rad).map(column)
            H = (Ball(np.zeros(1)) - program.value(Ball(box.mid))).map(column)
            rest = Ball(np.eye(d1)) - matmul(C, M)
            moved = matmul(C, stacked(H, matmul(border, side))) + matmul(rest, side)
            image = known_ends(Ball(box.mid) + moved.map(lambda a: a[..., 0]))
            values = known_ends(value)
            contraction = np.max(rest.magnitude.sum(axis=2), axis=1)
        low, high = np.maximum(boxes.low, image.low), np.minimum(boxes.high, image.high)
        is_empty = np.any((values.low > 0) | (values.high < 0), axis=1)
        high[is_empty] = -np.inf
        radius = np.broadcast_to(slope.radius, slope.shape)
        spread = np.max(np.where(np.isfinite(radius), radius, 1e300), axis=1)
        return Parts(low[:n], high[:n]), normal[:n], contraction[:n], spread[:n]

    def _points_in(
        self, boxes: Parts, normal: Float[np.ndarray, "n d1"]
    ) -> Float[np.ndarray, "k d1"]:
        """Return points of branches in boxes that are not those of known ones."""
        if not len(boxes.low):
            return boxes.low
        dtype = self._prover.curve.origin.dtype
        middle = (0.5 * (boxes.low + boxes.high)).astype(dtype)
        found = on_curve(self._prover.curve, middle, normal.astype(dtype))
        y = np.asarray(found.y, np.float64)
        inside = found.is_on_curve & (y >= boxes.low).all(axis=1) & (y <= boxes.high).all(axis=1)
        y = y[inside]
        return y[~self._surrounded(Parts(y, y))]


def _along(slope: Float[np.ndarray, "n d d1"]) -> Float[np.ndarray, "n d1"]:
    """Return unit vectors along which slopes are smallest."""
    slope = np.clip(np.nan_to_num(slope), -1e100, 1e100)
    _, vectors = np.linalg.eigh(np.swapaxes(slope, 1, 2) @ slope)
    return vectors[:, :, 0]
