"""Tubes around curves of fixed points, in each of which one curve is proven and no other.

A tube is around a step of a curve, from `y0` to `y1`. Let `m(p)` be the point at the part `p` of
the way, with the middle at 0, and `c` the unit vector along it. For each `p` from `-1/2` to `1/2`,
and a little beyond, Krawczyk's test shows that there is exactly one `z` across the step, `c z = 0`,
with all entries below a radius, such that `H(m(p) + z) = 0`: with an approximate inverse `C` of the
slopes of `H` above `c`, the map `z -> z - C (H(m(p) + z), c z)` contracts by `L` over the tube, and
moves 0 by no more than `q` for any `p`, with `q + L r < r`. So the tube holds one curve, which
leads from its one end to the other (compare Gameiro, Lessard & Mischaikow 2008; Rump 2010). As
steps are given by arclength, folds are places like any other. Where curves cross, there is no such
tube.

Successive tubes overlap, and the curves in them are one if the point in which the first leaves its
tube is inside of the next.

In a tube, the difference of two points of the curve is `M^-1 (0, 1)`, times a number, for some `M`
among the slopes. If the last entry of these vectors has a sign, the curve passes each `s` once.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.middles import middles
from slowpoints._core.arrays import power_of_two
from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._linear_algebra.signs import inverses
from slowpoints._network.base import Transition
from slowpoints._proofs.branch_and_prune import column

MARGIN = 0.05
"""Tubes reach beyond both ends of their steps by this part of their length: they overlap."""

_LEAST_RADIUS = 1e-8
"""Tubes around straight lines are this wide, for rounding."""

_MOST_CONTRACTION = 0.5
"""Steps over which, without any radius, `L` is more than this are divided."""

_WIDENINGS = 3
"""So many radii are tried, each twice the last."""

_PARTS = 1.0, 0.5 + MARGIN
"""What surrounds a step is looked at as far as half its length beyond both its ends, or else as far
as its tube reaches."""

_ROUNDS, _ENOUGH = 12, 0.9
"""So many radii of the surroundings are tried, to contract by so much: a tenth is for what the
contraction is not linear in."""

_SHORTEST = 1e-6
"""Steps of this arclength, for which there is no tube, are not divided further."""

_SHORTEST_AT_FOLDS, _NARROW_AT_FOLDS = 2e-6, 1e-9
"""Steps that may turn back in `s` are divided down to this arclength, or until their tubes take up
no more than this part of the span, about the square of their arclength."""

_BESIDE_CROSSINGS = 1e-4
"""Steps of up to this arclength next to where there is no tube belong to that."""

_MOST_TURNS = 2**11
"""If more steps than this may turn back, it is not a few folds that they do so at, but the curve
leads across `s` all along, and they are not divided further."""

_MOST_STEPS = 2**15
"""So many steps, of all curves together, are looked at."""

_MOST_ENTRIES = 2**20
"""Steps are looked at together as long as their slopes have no more entries than this."""

NO_TUBE = (
    f"no tube, down to a length of {_SHORTEST:g}, holds one branch and no other, as where branches "
    "cross or come as close, or where it turns as sharply"
)
TURNS = "it may turn back there more than once"
TOO_MANY = f"there were more than {_MOST_STEPS} steps to look at"
NOT_REACHED = "no point of the branch between two others is found"
NOT_LINKED = "two tubes are not proven to hold the same branch"
LOCAL = (NO_TUBE, TURNS)
"""What leaves open what happens there, but not where the branch goes on from there."""


class Proof(NamedTuple):
    """What is proven about the steps of a curve, `k` of them.

    Attributes:
        exists: `[k]` whether a tube around the step holds one curve and no other, which is also the
            one in the tube before.
        passes_once: `[k]` whether the curve passes each `s` there once.
        radius: `[k]` of the tube.
        reason: `[k]` why not, or empty.
    """

    exists: Bool[np.ndarray, " k"]
    passes_once: Bool[np.ndarray, " k"]
    radius: Float[np.ndarray, " k"]
    reason: np.ndarray


class _Tubes(NamedTuple):
    """Tubes around steps.

    Attributes:
        exists: whether each is one.
        passes_once: see `Proof`.
        radius: of the tube.
        reach: `[k, 2]` how far the curve's points across the ends of the step are from these.
    """

    exists: Bool[np.ndarray, " k"]
    passes_once: Bool[np.ndarray, " k"]
    radius: Float[np.ndarray, " k"]
    reach: Float[np.ndarray, "k 2"]


def proven(prover: "Prover", chains: list[Chain]) -> tuple[list[Chain], list[Proof]]:
    """Prove tubes around curves, dividing their steps as far as need be.

    Returns:
        The curves, with the points that were inserted, and what is proven about their steps.
    """
    chains = list(chains)
    curve = prover.curve
    tubes = [_nothing(len(chain.y) - 1) for chain in chains]
    reasons = [np.full(len(chain.y) - 1, "", object) for chain in chains]
    is_open = [np.ones(len(chain.y) - 1, bool) for chain in chains]
    n_looked_at = 0
    while True:
        steps = [(i, int(k)) for i, open_ in enumerate(is_open) for k in np.flatnonzero(open_)]
        if not steps:
            break
        numbers, at = np.array(steps).T
        n_looked_at += len(steps)
        y0, y1 = (np.array([chains[i].y[k + side] for i, k in steps], float) for side in (0, 1))
        try:
            found = prover(y0, y1)
        except NotCovered as operation:
            for reason in reasons:
                reason[:] = f"{operation} is not covered"
            break
        length = np.linalg.norm(y1 - y0, axis=1)
        extent = np.abs(y1 - y0)[:, -1] + 2 * found.radius
        is_short = (length <= _SHORTEST_AT_FOLDS) | (extent <= _NARROW_AT_FOLDS)
        may_turn = found.exists & ~found.passes_once
        is_done = found.exists & (~may_turn | is_short | (np.sum(may_turn) > _MOST_TURNS))
        is_short = ~found.exists & (length <= _SHORTEST)
        divides = ~is_done & ~is_short & (n_looked_at < _MOST_STEPS)
        why = np.where(found.exists, np.where(found.passes_once, "", TURNS), NO_TUBE).astype(object)
        why[~is_done & ~is_short & ~divides] = TOO_MANY
        rows = np.flatnonzero(divides)
        is_good = np.zeros(len(steps), bool)
        middle, is_good[rows] = middles(curve, chains, [steps[row] for row in rows])
        why[rows] = np.where(is_good[rows], "", NOT_REACHED)
        for i in np.unique(numbers):
            mine = np.flatnonzero(numbers == i)
            for old, new in zip(tubes[i], found, strict=True):
                old[at[mine]] = new[mine]
            reasons[i][at[mine]] = why[mine]
            is_open[i][:] = False
            split = mine[is_good[mine]]
            if not split.size:
                continue
            k, use = at[split], np.searchsorted(rows, split)
            chains[i] = chains[i]._replace(
                y=np.insert(chains[i].y, k + 1, middle.y[use], axis=0),
                tangent=np.insert(chains[i].tangent, k + 1, middle.tangent[use], axis=0),
            )
            is_open[i][k] = True
            is_open[i] = np.insert(is_open[i], k + 1, True)
            reasons[i] = np.insert(reasons[i], k + 1, "")
            tubes[i] = _Tubes(*(np.insert(part, k + 1, part[k], axis=0) for part in tubes[i]))
    return chains, [_linked(*parts) for parts in zip(chains, tubes, reasons, strict=True)]


def _nothing(n: int) -> _Tubes:
    no = np.zeros(n, bool)
    return _Tubes(no, no.copy(), np.zeros(n), np.full((n, 2), np.inf))


def _linked(chain: Chain, tubes: _Tubes, reason: np.ndarray) -> Proof:
    """Return the tubes that hold the curve of those before them."""
    y = np.asarray(chain.y, np.float64)
    length = np.linalg.norm(np.diff(y, axis=0), axis=1)
    rounding = 16 * np.finfo(np.float64).eps * np.abs(y).max(initial=0)
    room = 0.5 * np.minimum(MARGIN * length, tubes.radius) * tubes.exists
    needed = y.shape[1] * (tubes.reach + rounding)
    holds_ends = tubes.exists & (needed <= room[:, None]).all(axis=1)
    same = needed[:-1, 1] <= room[1:]
    exists = holds_ends & np.concatenate([[True], same])
    if chain.ended_by[0] == "closed" and len(exists):
        gap = np.linalg.norm(y[-1] - y[0])
        exists[0] &= y.shape[1] * (tubes.reach[-1, 1] + gap + rounding) <= room[0]
    why = reason.copy()
    why[~exists & np.isin(why, ("", TURNS))] = NOT_LINKED
    # Right beside a crossing, points are too imprecise for the tubes that are proven there.
    for run in _runs(~exists):
        if np.any(why[run] == NO_TUBE):
            why[run] = np.where(length[run] <= _BESIDE_CROSSINGS, NO_TUBE, why[run])
    return Proof(exists, exists & tubes.passes_once, np.where(exists, tubes.radius, 0), why)


def _runs(mask: Bool[np.ndarray, " k"]) -> list[slice]:
    """Return where the mask is true without a break."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [slice(*ends) for ends in edges.reshape(-1, 2)]


class _Equations(Transition):
    """`H` as a function that programs are made of."""

    curve: Curve

    def __call__(self, y: Float[Array, " d1"], u: Float[Array, " 0"]) -> Float[Array, " d"]:
        """Return `H(y)`."""
        return self.curve(y)


class Prover:
    """Krawczyk's test with the parameter; see the top of this module."""

    def __init__(self, curve: Curve):
        self.curve = curve
        self._dtype = curve.origin.dtype
        self._programs: dict[int, EnclosedProgram] = {}

    def __call__(self, y0: Float[np.ndarray, "k d1"], y1: Float[np.ndarray, "k d1"]) -> _Tubes:
        """Return tubes around steps from `y0` to `y1`."""
        return _Tubes(*self._in_parts(self._tubes, y0, y1))

    def surroundings(
        self, y0: Float[np.ndarray, "k d1"], y1: Float[np.ndarray, "k d1"]
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
        """Return where around steps that have tubes nothing else is but what is in these.

        Returns:
            How far it reaches along the step from its middle, in lengths of the step; how far the
            entries of what is across it may be from it; and whether the curve passes each `s` there
            once.
        """
        return self._in_parts(self._surroundings, y0, y1)

    def program(self, n: int, d1: int) -> EnclosedProgram:
        """Return the equations for so many rows of points."""
        if n not in self._programs:
            y, nothing = np.zeros((n, d1), self._dtype), np.zeros((n, 0), self._dtype)
            self._programs[n] = EnclosedProgram(_Equations(self.curve), y, nothing)
        return self._programs[n]

    def _in_parts(self, function: Any, *ends: Float[np.ndarray, "k d1"]) -> Any:
        """Return what a function makes of steps, of so many at a time as memory allows."""
        k, d1 = ends[0].shape
        at_a_time = max(1, _MOST_ENTRIES // d1**2)
        parts = []
        for first in range(0, k, at_a_time):
            part = slice(first, first + at_a_time)
            n = len(ends[0][part])
            rows = np.arange(power_of_two(n)) % n
            with np.errstate(all="ignore"):
                found = function(*(end[part][rows] for end in ends))
            parts.append([values[:n] for values in found])
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _tubes(self, y0: Float[np.ndarray, "k d1"], y1: Float[np.ndarray, "k d1"]) -> _Tubes:
        steps = _Steps(self.program(*y0.shape), y0, y1)
        exists, radius, contraction, turned = steps.tubes(0.5 + MARGIN)
        passes_once = exists & steps.pass_once(contraction, turned)
        reach = np.full((len(y0), 2), np.inf)
        for side, end in enumerate((y0, y1)):
            off = steps.moved(steps.program.value(Ball(end)).map(column))
            inside = exists & _is_tube(contraction, off, radius)
            reach[:, side] = np.where(inside, off / (1 - contraction) * (1 + 2.0**-40), np.inf)
        return _Tubes(exists, passes_once, radius, reach)

    def _surroundings(self, y0: Float[np.ndarray, "k d1"], y1: Float[np.ndarray, "k d1"]) -> Any:
        steps = _Steps(self.program(*y0.shape), y0, y1)
        part, widest = np.zeros(len(y0)), np.zeros(len(y0))
        passes_once = np.zeros(len(y0), bool)
        for longer in _PARTS:
            exists, radius, contraction, turned = steps.tubes(longer)
            exists &= widest == 0
            passes_once |= exists & steps.pass_once(contraction, turned)
            least, _, _ = steps.over(longer, np.zeros(len(y0)))
            reached = np.where(exists, radius, 0)
            for _ in range(_ROUNDS):
                # The contraction grows about linearly with the radius.
                factor = (_ENOUGH - least) / (contraction - least)
                factor = np.clip(np.nan_to_num(factor, nan=1e-3), 1e-3, 1e3)
                if np.all((factor > 0.8) & (factor < 1.25) | ~exists):
                    break
                radius = np.clip(radius * factor, _LEAST_RADIUS, 1e6)
                contraction, _, _ = steps.over(longer, radius)
                better = exists & (contraction < 1) & (radius > reached)
                reached = np.where(better, radius, reached)
            part, widest = np.where(exists, longer, part), np.where(exists, reached, widest)
        return part, widest, passes_once


class _Steps:
    """Krawczyk's test around steps, `[k]`, from `y0` to `y1`."""

    def __init__(self, program: EnclosedProgram, y0: Any, y1: Any):
        self.program, self._d = program, y0.shape[1] - 1
        self._middle, self._step = 0.5 * (y0 + y1), y1 - y0
        length = np.linalg.norm(self._step, axis=1)
        self._normal = (self._step / length[:, None])[:, None]  # [k, 1, d1]
        self._at_middle, slope = program.linearised(Ball(self._middle))
        self.C = inverses(np.concatenate([slope.mid, self._normal], axis=1))

    def over(self, part: float, radius: Any) -> tuple[Any, Any, Any]:
        """Return `L`, `q`, and by how much directions along the curve differ from `C e`.

        Args:
            part: how far the tubes reach from the middle, in lengths of the step.
            radius: `[k]` of the tubes.
        """
        reach = (part * np.abs(self._step) + radius[:, None]) * (1 + 2.0**-40)
        _, slope = self.program.linearised(Ball(self._middle, reach))
        M = stacked(slope, Ball(self._normal))
        rest = Ball(np.eye(self._d + 1)) - matmul(Ball(self.C), M)
        contraction = np.max(Ball(rest.magnitude).sum((2,)).magnitude, axis=1)
        along = matmul(slope, Ball(self._step[..., None])) * Ball(np.zeros(1), np.full(1, part))
        H = self._at_middle.map(column) + along
        turned = matmul(rest, Ball(self.C[:, :, self._d :])).magnitude[..., 0]
        return contraction, self.moved(H), turned

    def moved(self, H: Ball) -> Any:
        """Return a bound of how far `C` moves, `[k]`, where the equations are off by `H`."""
        return np.max(matmul(Ball(self.C[:, :, : self._d]), H).magnitude, axis=(1, 2))

    def pass_once(self, contraction: Any, turned: Any) -> Any:
        """Return whether the curves in tubes pass each `s` once, from what `over` returns."""
        spread = turned[:, -1] + contraction / (1 - contraction) * turned.max(axis=1)
        return np.abs(self.C[:, -1, -1]) > spread * (1 + 2.0**-40)

    def tubes(self, part: float) -> tuple[Any, Any, Any, Any]:
        """Return which steps have tubes, their radii, and what `over` returns of these."""
        contraction, moved, _ = self.over(part, np.zeros(len(self._step)))
        short = contraction <= _MOST_CONTRACTION
        first = np.where(short, 2 * moved / (1 - contraction), 0)
        radius = np.maximum(first, _LEAST_RADIUS)
        exists = np.zeros(len(radius), bool)
        best = (
            np.zeros(len(radius)),
            np.full(len(radius), np.inf),
            np.full(self._step.shape, np.inf),
        )
        for _ in range(_WIDENINGS):
            contraction, moved, turned = self.over(part, radius)
            proves = short & ~exists & _is_tube(contraction, moved, radius)
            exists |= proves
            mask = proves[:, None]
            best = (
                np.where(proves, radius, best[0]),
                np.where(proves, contraction, best[1]),
                np.where(mask, turned, best[2]),
            )
            if np.all(exists | ~short):
                break
            radius = np.where(exists, radius, 2 * radius)
        return exists, best[0], best[1], best[2]


def stacked(a: Ball, b: Ball) -> Ball:
    """Return the rows of both, `[k, m + n, d1]`."""
    radii = (np.broadcast_to(ball.radius, ball.shape) for ball in (a, b))
    return Ball(np.concatenate([a.mid, b.mid], axis=1), np.concatenate([*radii], axis=1))


def _is_tube(contraction: Any, moved: Any, radius: Any) -> Any:
    return (moved + contraction * radius) * (1 + 2.0**-40) < radius
