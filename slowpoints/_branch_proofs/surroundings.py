"""What surrounds branches: where there is no other fixed point, farther out than their tubes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.arcs import Chain
from slowpoints._branch_proofs.tubes import MARGIN, Proof, Prover
from slowpoints._proofs.branch_and_prune import Parts

_PAIRS = 2**16
"""Parts are compared with all tubes near them as long as there are no more entries than this; more
are divided by where they are."""

_SLENDER = 0.5
"""What surrounds a step is wide enough if its radius is this part of its reach: parts, which are
about as wide as they are long, get into it."""


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
        if not n:
            return np.zeros(0, bool)
        extent = self.reach[:, None] * np.abs(self.along) + self.radius[:, None]
        low, high = parts.low.min(axis=0), parts.high.max(axis=0)
        near = np.abs(self.middle - 0.5 * (low + high)) <= 0.5 * (high - low) + extent
        here = Surroundings(*(values[near.all(axis=1)] for values in self))
        if n == 1 or n * len(here.radius) * d1 <= _PAIRS:
            return here._hold_all(parts)
        # Fewer are near the parts of either half of the space.
        middle = 0.5 * (parts.low + parts.high)
        axis = np.argmax(np.ptp(middle, axis=0))
        order = np.argsort(middle[:, axis])
        held = np.zeros(n, bool)
        for half in (order[: n // 2], order[n // 2 :]):
            held[half] = here.hold(parts.where(half))
        return held

    def _hold_all(self, parts: Parts) -> Bool[np.ndarray, " n"]:
        """Return the same, from all pairs of both."""
        across = np.abs(np.eye(self.middle.shape[1]) - self.along[:, :, None] * self.along[:, None])
        low, high = parts.low[:, None], parts.high[:, None]
        off, side = 0.5 * (low + high) - self.middle, 0.5 * (high - low)
        rounding = 2.0**-48 * (1 + np.abs(off) + np.abs(self.middle)).max(axis=2)
        shift = np.sum(off * self.along, axis=2)
        far = np.abs(shift) + np.sum(side * np.abs(self.along), axis=2) + rounding
        off = np.abs(off - shift[..., None] * self.along)
        wide = off + np.einsum("nd,ked->nke", side[:, 0], across)
        inside = np.max(wide, axis=2, initial=0) + rounding <= self.radius
        return np.any(inside & (far <= self.reach), axis=1)

    def with_others(self, others: "Surroundings") -> "Surroundings":
        """Return both."""
        return Surroundings(*map(np.concatenate, zip(self, others, strict=True)))


def nowhere(d1: int) -> Surroundings:
    """Return what surrounds no branches, in `d1` dimensions."""
    return Surroundings(*np.zeros((2, 0, d1)), *np.zeros((2, 0)))


def surroundings(prover: Prover, chains: list[Chain], proofs: list[Proof]) -> Surroundings:
    """Return what surrounds the proven tubes of one branch or more.

    Where the steps are short, as at folds, so are their tubes, and what surrounds them is narrow.
    Two steps in a row are replaced by one as long as what surrounds that is not much narrower. It
    is around the branch as well: the end of its first step, which is known up to the radius of the
    tube there, is within. At the ends of the branch, steps are replaced only if it is known what is
    beyond.
    """
    found = []
    for chain, proof in zip(chains, proofs, strict=True):
        y = np.asarray(chain.y, np.float64)
        first = np.flatnonzero(proof.exists)
        last, least = first + 1, proof.radius[first]
        around, once = _around(prover, y, first, last)
        while len(first):
            # Pairs of neighbours, starting anywhere: an unpaired one may find another next time.
            i = np.flatnonzero(first[1:] == last[:-1])
            i = i[_every_other(i)]
            longer, passes_once = _around(prover, y, first[i], last[i + 1])
            narrower = np.minimum(around.radius[i], around.radius[i + 1])
            wide = longer.radius >= np.minimum(narrower, _SLENDER * longer.reach)
            wide &= (longer.reach > 0) & (longer.radius >= least[i])
            wide &= passes_once | (first[i] > 0) & (last[i + 1] < len(y) - 1)
            if not wide.any():
                break
            i, kept = i[wide], np.ones(len(first), bool)
            for old, new in zip((*around, once), (*longer, passes_once), strict=True):
                old[i] = new[wide]
            last[i], kept[i + 1] = last[i + 1], False
            first, last, least = first[kept], last[kept], least[kept]
            around, once = Surroundings(*(part[kept] for part in around)), once[kept]
        # As far as this along them, the branch is known to pass each `s` once.
        is_one = proof.passes_once[first] & (last == first + 1)
        length = np.linalg.norm(y[last] - y[first], axis=1)
        known = np.where(once, np.inf, np.where(is_one, (0.5 + MARGIN) * length, 0))
        for k in _ends_of_proofs(chain, proof):
            leaves = k in (0, len(y) - 1) and y[k, -1] in (0, 1)
            around = _up_to(around, y[k], known if leaves else 0 * length)
        found.append(around)
    return Surroundings(*map(np.concatenate, zip(*found, strict=True)))


def _around(
    prover: Prover, y: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[Surroundings, Bool[np.ndarray, " k"]]:
    """Return what surrounds the steps between some points of a branch and later ones.

    And whether the branch passes each `s` there once.
    """
    y0, y1 = y[first], y[last]
    length = np.linalg.norm(y1 - y0, axis=1)
    none = length, length, length > 0
    part, radius, once = prover.surroundings(y0, y1) if len(y0) else none
    middle, along = 0.5 * (y0 + y1), (y1 - y0) / length[:, None]
    return Surroundings(middle, along, part * length, radius), once


def _ends_of_proofs(chain: Chain, proof: Proof) -> Int[np.ndarray, " m"]:
    """Return the points of a branch at which proven steps end, where it ends or is not proven."""
    exists = proof.exists
    around = exists[[-1, 0]] if chain.ended_by[0] == "closed" else np.zeros(2, bool)
    return np.flatnonzero(np.diff(np.concatenate([around[:1], exists, around[1:]])))


def _up_to(around: Surroundings, end: np.ndarray, known: Float[np.ndarray, " k"]) -> Surroundings:
    """Return what surrounds a branch no farther than its end, unless it is known what is beyond.

    Args:
        around: what surrounds it, and what comes after its end.
        end: `[d1]` where it ends, or where it is not proven to go on as it does.
        known: `[k]` as far as this along them, it is outside of the span beyond its end.
    """
    off = end - around.middle
    shift = np.sum(off * around.along, axis=1)
    across = np.abs(off - shift[:, None] * around.along).max(axis=1)
    # The end is known up to the radius of its tube, which is no wider than what is around it.
    is_in = (across <= 2 * around.radius) & (np.abs(shift) < around.reach)
    farthest = np.minimum(around.reach, np.maximum(np.abs(shift), known))
    return around._replace(reach=np.where(is_in, farthest, around.reach))


def _every_other(i: np.ndarray) -> Bool[np.ndarray, " k"]:
    """Return which of some numbers to take, so that no two of them follow each other."""
    if not len(i):
        return np.zeros(0, bool)
    runs = np.flatnonzero(np.diff(i, prepend=i[0] - 2) > 1)
    place = np.arange(len(i)) - np.repeat(runs, np.diff(np.append(runs, len(i))))
    return place % 2 == 0
