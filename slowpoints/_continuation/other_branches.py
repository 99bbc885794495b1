"""Branches that no known point leads to: found, or proven not to be there.

A box of states, over the whole span, is divided until each part is settled. There is no fixed point
in it, or it is within what surrounds the tube of a known branch, where there is nothing else.
Before a part is divided, it is cut down to what Krawczyk's operator with the parameter leaves of
it. With slopes `S` of `H` over the part, between its middle `m` and any point `y`, a unit vector
`c` along which `H` changes least, and any matrix `C`, where `H(y) = 0`,

    y - m = C (-H(m), c (y - m)) + (I - C M) (y - m),   M = (S, c).

What is left is narrow across the branch, also at folds, and long along it.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import on_curve
from slowpoints._continuation.tubes import Proof, Prover
from slowpoints._core.arrays import power_of_two
from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._linear_algebra.signs import inverses
from slowpoints._network.base import Transition
from slowpoints._proofs.branch_and_prune import Parts, divided, joined, known_ends
from slowpoints._proofs.lifting import solved_states

_FARTHEST = 2.0**10
"""The box is at most so many times as large as the known states. What bounded units, such as those
of `tanh`, leave of it does not depend on this."""

_MOST_SOLUTIONS, _LESS = 8, 0.9
"""So often are the states solved for, each time in the box that the last time left, and as long as
it is smaller by a tenth."""

_SLICES = 0.5, 2.0**-3, 2.0**-5, 2.0**-7
"""Slices of the box as thick as these parts of it are cut off in turn, first coarsely."""

_MOST_CUTS = 500
"""So often at most."""

_MOST_PARTS, _MOST_SLOPES = 2**17, 2**22
"""So many parts are looked at, or fewer of many units, which have no more slopes than this."""

_AT_A_TIME = 2**18
"""Parts are looked at together as long as their slopes have no more entries than this."""

_PAIRS = 2**21
"""Parts are compared with tubes together as long as there are no more entries than this."""

_SLENDER = 0.5
"""What surrounds a step is wide enough if its radius is this part of its reach: parts, which are
about as wide as they are long, get into it."""

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


class Surroundings(NamedTuple):
    """What surrounds the tubes of branches, `k` of them: no fixed point but the branch's is there.

    Attributes:
        middle: `[k, d1]` of the steps.
        along: `[k, d1]` unit vectors along them.
        reach: `[k]` how far it reaches along them from the middle.
        radius: `[k]` how far the entries of what is across them may be from them.
    """

    middle: Float[np.ndarray, "k d1"]
    along: Float[np.ndarray, "k d1"]
    reach: Float[np.ndarray, " k"]
    radius: Float[np.ndarray, " k"]

    def hold(self, parts: Parts) -> Bool[np.ndarray, " n"]:
        """Return which boxes are within one of them."""
        n, d1 = parts.low.shape
        held, (k, _) = np.zeros(n, bool), self.middle.shape
        across = np.abs(np.eye(d1) - self.along[:, :, None] * self.along[:, None])
        at_a_time = max(1, _PAIRS // max(1, k * d1))
        for first in range(0, n, at_a_time):
            some = slice(first, first + at_a_time)
            low, high = parts.low[some, None], parts.high[some, None]
            off, side = 0.5 * (low + high) - self.middle, 0.5 * (high - low)
            rounding = 2.0**-48 * (1 + np.abs(off) + np.abs(self.middle)).max(axis=2)
            shift = np.sum(off * self.along, axis=2)
            far = np.abs(shift) + np.sum(side * np.abs(self.along), axis=2) + rounding
            off = np.abs(off - shift[..., None] * self.along)
            wide = off + np.einsum("nd,ked->nke", side[:, 0], across)
            inside = np.max(wide, axis=2) + rounding <= self.radius
            held[some] = np.any(inside & (far <= self.reach), axis=1)
        return held

    def with_others(self, others: "Surroundings") -> "Surroundings":
        """Return both."""
        return Surroundings(*map(np.concatenate, zip(self, others, strict=True)))


def surroundings(prover: Prover, chains: list[Chain], proofs: list[Proof], d1: int) -> Surroundings:
    """Return what surrounds the tubes that are proven, in `d1` dimensions.

    Where the steps are short, as at folds, so are their tubes, and what surrounds them is narrow.
    Two steps in a row are replaced by one as long as what surrounds that is not much narrower. It
    is around the branch as well: the end of its first step, which is known up to the radius of the
    tube there, is within.
    """
    found = [Surroundings(*np.zeros((2, 0, d1)), *np.zeros((2, 0)))]
    for chain, proof in zip(chains, proofs, strict=True):
        y = np.asarray(chain.y, np.float64)
        first = np.flatnonzero(proof.exists)
        last, least = first + 1, proof.radius[first]
        around = _around(prover, y, first, last)
        while len(first):
            # Pairs of neighbours, starting anywhere: an unpaired one may find another next time.
            i = np.flatnonzero(first[1:] == last[:-1])
            i = i[_every_other(i)]
            longer = _around(prover, y, first[i], last[i + 1])
            narrower = np.minimum(around.radius[i], around.radius[i + 1])
            wide = longer.radius >= np.minimum(narrower, _SLENDER * longer.reach)
            wide &= (longer.reach > 0) & (longer.radius >= least[i])
            if not wide.any():
                break
            i, kept = i[wide], np.ones(len(first), bool)
            for old, new in zip(around, longer, strict=True):
                old[i] = new[wide]
            last[i], kept[i + 1] = last[i + 1], False
            first, last, least = first[kept], last[kept], least[kept]
            around = Surroundings(*(part[kept] for part in around))
        found.append(around)
    return Surroundings(*map(np.concatenate, zip(*found, strict=True)))


def _around(prover: Prover, y: np.ndarray, first: np.ndarray, last: np.ndarray) -> Surroundings:
    """Return what surrounds the steps between some points of a branch and later ones."""
    y0, y1 = y[first], y[last]
    length = np.linalg.norm(y1 - y0, axis=1)
    part, radius = prover.surroundings(y0, y1) if len(y0) else (length, length)
    return Surroundings(0.5 * (y0 + y1), (y1 - y0) / length[:, None], part * length, radius)


def _every_other(i: np.ndarray) -> Bool[np.ndarray, " k"]:
    """Return which of some numbers to take, so that no two of them follow each other."""
    if not len(i):
        return np.zeros(0, bool)
    runs = np.flatnonzero(np.diff(i, prepend=i[0] - 2) > 1)
    place = np.arange(len(i)) - np.repeat(runs, np.diff(np.append(runs, len(i))))
    return place % 2 == 0


class OtherBranches:
    """The search for branches that are not known, within a box of states."""

    def __init__(self, prover: Prover, box: Parts):
        self._prover = prover
        self._d1 = box.low.size + 1
        ends = (np.append(end, sigma)[None] for end, sigma in zip(box, (0.0, 1.0), strict=True))
        self._waiting = [Parts(*ends)]
        self._n_seen = 0
        self._at_a_time = max(1, _AT_A_TIME // self._d1**2)
        self._most = min(_MOST_PARTS, _MOST_SLOPES // self._d1**2)
        self._given_up: list[Parts] = []
        self._smallest = np.append(np.full(box.low.size, _SMALLEST), _SHORTEST)

    def found(self, known: Surroundings) -> Float[np.ndarray, "n d1"]:
        """Divide on, until there are points that may be on branches that are not known.

        Args:
            known: what surrounds the known branches.

        Returns:
            The points. If there are none, all is settled but for what is `open`.
        """
        while parts := [part for part in self._waiting if len(part.low)]:
            boxes = joined(parts, self._d1)
            n = min(self._at_a_time, len(boxes.low), self._most - self._n_seen)
            if n == 0:
                break
            self._n_seen += n
            # Those that wait longest, so that if it is cut short, what is left is hard everywhere.
            self._waiting = [boxes.where(slice(n, None))]
            points = self._look_at(boxes.where(slice(n)), known)
            if len(points):
                return points
        return np.zeros((0, self._d1))

    def open(self) -> list[tuple[float, float, str]]:
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

    def _look_at(self, boxes: Parts, known: Surroundings) -> Float[np.ndarray, "n d1"]:
        """Settle, cut down and divide some boxes; return points that may be on other branches."""
        parts, normal, contraction, spread = self._cut_down(boxes)
        is_open = (parts.low <= parts.high).all(axis=1)
        is_open[is_open] = ~known.hold(parts.where(is_open))
        is_short = parts.high - parts.low <= self._smallest
        is_tiny = is_short.all(axis=1)
        self._given_up.append(parts.where(is_open & is_tiny))
        is_open &= ~is_tiny
        spread = np.maximum(spread, _LEAST_SPREAD * spread.max(axis=1, keepdims=True))
        self._waiting += divided(parts.where(is_open), np.where(is_short, 0, spread)[is_open])
        tried = np.flatnonzero(is_open & (contraction < _ALONE))[:_MOST_TRIES]
        return self._points_in(parts.where(tried), normal[tried], known)

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
            M = Ball(
                np.concatenate([slope.mid, normal[:, None]], axis=1),
                np.concatenate(
                    [np.broadcast_to(slope.radius, slope.shape), np.zeros_like(border.mid)], axis=1
                ),
            )
            C = Ball(np.nan_to_num(inverses(np.nan_to_num(M.mid))))
            side = Ball(np.zeros(box.shape), box.rad).map(_column)
            H = (Ball(np.zeros(1)) - program.value(Ball(box.mid))).map(_column)
            t = matmul(border, side)
            step = Ball(
                np.concatenate([H.mid, t.mid], axis=1),
                np.concatenate([np.broadcast_to(e.radius, e.shape) for e in (H, t)], axis=1),
            )
            rest = Ball(np.eye(d1)) - matmul(C, M)
            moved = matmul(C, step) + matmul(rest, side)
            image = known_ends(Ball(box.mid) + moved.map(lambda a: a[..., 0]))
            values = known_ends(value)
            contraction = np.max(rest.magnitude.sum(axis=2), axis=1)
        low, high = np.maximum(boxes.low, image.low), np.minimum(boxes.high, image.high)
        nowhere = ((values.low > 0) | (values.high < 0)).any(axis=1)
        high[nowhere] = -np.inf
        radius = np.broadcast_to(slope.radius, slope.shape)
        spread = np.max(np.where(np.isfinite(radius), radius, 1e300), axis=1)
        return Parts(low[:n], high[:n]), normal[:n], contraction[:n], spread[:n]

    def _points_in(
        self, boxes: Parts, normal: Float[np.ndarray, "n d1"], known: Surroundings
    ) -> Float[np.ndarray, "n d1"]:
        """Return points of branches in boxes that are not those of known ones."""
        if not len(boxes.low):
            return boxes.low
        dtype = self._prover.curve.origin.dtype
        middle = (0.5 * (boxes.low + boxes.high)).astype(dtype)
        found = on_curve(self._prover.curve, middle, normal.astype(dtype))
        y = np.asarray(found.y, np.float64)
        inside = found.is_on_curve & (y >= boxes.low).all(axis=1) & (y <= boxes.high).all(axis=1)
        y = y[inside]
        return y[~known.hold(Parts(y, y))]


def box_of_points(prover: Prover, y: Float[np.ndarray, "n d1"]) -> Parts:
    """Return a box of states that holds all fixed points around known ones, as far as can be told.

    It is what bounded nonlinear operations leave, which are linear in the states but for what these
    return. Then slices at its sides are cut off as long as there is no fixed point in them.

    Args:
        prover: the equations.
        y: known points.
    """
    d = y.shape[1] - 1
    size = np.abs(y[:, :-1]).max(initial=1.0)
    low, high = _solved(prover.curve, np.full(d, -_FARTHEST * size), np.full(d, _FARTHEST * size))
    program = prover.program(power_of_two(2 * d), d + 1)
    rows = np.minimum(np.arange(power_of_two(2 * d)), 2 * d - 1)
    i, thickness = np.arange(d), 0
    for _ in range(_MOST_CUTS):
        cut = _SLICES[thickness] * (high - low)
        lows, highs = np.tile(low, (2 * d, 1)), np.tile(high, (2 * d, 1))
        highs[i, i], lows[d + i, i] = low + cut, high - cut
        ends = (np.insert(end, d, sigma, axis=1) for end, sigma in ((lows, 0.0), (highs, 1.0)))
        with np.errstate(all="ignore"):
            value = known_ends(program.value(from_bounds(*(end[rows] for end in ends))))
        empty = ((value.low > 0) | (value.high < 0)).any(axis=1)[: 2 * d]
        low, high = np.where(empty[:d], low + cut, low), np.where(empty[d:], high - cut, high)
        if not empty.any():
            thickness += 1
            if thickness == len(_SLICES):
                break
    return Parts(low, high)


class _OfAllParameters(Transition):
    """A map whose fixed points are those of the curve at all parameters of the span."""

    curve: Curve

    def __call__(self, y: Float[Array, " d1"], u: Float[Array, " 0"]) -> Float[Array, " d1"]:
        """Return the next states, and the parameter, as the next last one."""
        y = jnp.append(y[:-1], jnp.clip(y[-1], 0, 1))
        return jnp.append(y[:-1] + self.curve(y), y[-1])


def _solved(curve: Curve, low: np.ndarray, high: np.ndarray) -> Parts:
    """Return what is left of a box where states follow from what nonlinear operations return."""
    d, dtype = low.size, curve.origin.dtype
    program = EnclosedProgram(
        _OfAllParameters(curve), np.zeros((1, d + 1), dtype), np.zeros((1, 0), dtype)
    )
    for _ in range(_MOST_SOLUTIONS):
        with np.errstate(all="ignore"):
            # The parameter may be anything, so that its range is known from the program alone.
            solved = solved_states(program, np.append(low, -1.0), np.append(high, 2.0))
            if solved is None:
                break
            moved = matmul(solved.M, (solved.y - solved.y_centre).map(lambda a: a[:, None]))
            x = solved.origin + moved.map(lambda a: a[:, 0]) + Ball(np.zeros(d + 1), solved.rest)
            ends = known_ends(x)
        before = np.max(high - low)
        low, high = np.maximum(low, ends.low[:d]), np.minimum(high, ends.high[:d])
        if np.any(low > high) or np.max(high - low) > _LESS * before:
            break
    return Parts(low, np.maximum(low, high))


def _along(slope: Float[np.ndarray, "n d d1"]) -> Float[np.ndarray, "n d1"]:
    """Return unit vectors along which slopes are smallest."""
    slope = np.clip(np.nan_to_num(slope), -1e100, 1e100)
    _, vectors = np.linalg.eigh(np.swapaxes(slope, 1, 2) @ slope)
    return vectors[:, :, 0]


def _column(a: np.ndarray) -> np.ndarray:
    return np.asarray(a)[..., None]
