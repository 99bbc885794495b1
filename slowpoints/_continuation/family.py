"""The branches that were followed so far, while a continuation goes on."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.arcs import Chain, arcs_from, chains_of, crossings
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import OnCurve, across, on_curve
from slowpoints._arclength.spectra import Spectra, spectra
from slowpoints._continuation.branches import Branch, Branches, Event, Unproven, in_other_units
from slowpoints._continuation.events import events_on
from slowpoints._continuation.refined_curves import refined_curves
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._network.base import Transition
from slowpoints._proofs.branch_and_prune import Parts

_SAME = 1e-5
"""Points at the same `s` that are no farther apart than this, relative to their size, are one."""

_NEAR = 1e-2
"""A known point may be this far from its curve, relative to its size, as float32 leaves it."""

NOT_CONVERGED = "Newton's method does not converge to a fixed point near it"

_BEYOND = 0.05
"""Tubes reach beyond their steps by this part of their length."""

_WIDTHS = (0.3, 1.0, 3.0)
"""Searches start from states of the branches with noise of these standard deviations, in turn,
relative to that of the states: close to what is known, among it, and beyond."""

_LEAST_REACH = 0.1
"""The standard deviation of the states is taken to be at least this, in their units."""


class Family:
    """The curves that were followed so far, backed by NumPy."""

    def __init__(
        self,
        curve: Curve,
        unit: Float[np.ndarray, " d"],
        longest: float,
        most: int,
        n_leading: int,
    ):
        self._curve, self._longest, self._most, self._n_leading = curve, longest, most, n_leading
        self._unit = unit
        self._chains: list[Chain] = []
        self._rows: list[tuple[int, ...]] = []

    def positions(self, x: Any, s: Any) -> Float[np.ndarray, "n d1"]:
        """Return `(x, sigma)`, with the states in their units."""
        sigma = (np.asarray(s, np.float64) - float(self._curve.origin)) / float(self._curve.length)
        y = np.concatenate([x / self._unit, np.clip(sigma, 0, 1)[:, None]], axis=1)
        return y.astype(self._curve.origin.dtype)

    def follow(self, y: Float[np.ndarray, "n d1"], rows: np.ndarray) -> dict[int, str]:
        """Follow the curves through some points; return the rows that are on none, and why."""
        starts, is_good = _onto_curves(self._curve, y)
        why = {int(row): NOT_CONVERGED for row in rows[~is_good]}
        kept, rows_at = _distinct(starts.y, np.flatnonzero(is_good))
        if kept:
            starts = OnCurve(*(part[kept] for part in starts))
            arcs = arcs_from(self._curve, starts, self._longest, self._most)
            for chain in chains_of(arcs):
                self._chains.append(chain)
                on_it = [int(rows[i]) for start in chain.starts for i in rows_at[kept[start]]]
                self._rows.append(tuple(row for row in on_it if row >= 0))
        return why

    def starts(self, n_starts: int, key: Any, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return states to search from, around those of the curves, or else around `x`."""
        seen = [self._unit * chain.y[:, :-1] for chain in self._chains]
        states = np.concatenate(seen) if seen else np.asarray(x, self._curve.origin.dtype)
        pick, noise = jax.random.split(key)
        drawn = np.asarray(jax.random.randint(pick, (n_starts,), 0, len(states)))
        shift = np.asarray(jax.random.normal(noise, (n_starts, states.shape[1]), states.dtype))
        spread = float(np.std(states / self._unit, axis=0).mean())
        reach = max(spread, _LEAST_REACH) * self._unit
        widths = np.array(_WIDTHS)[np.arange(n_starts) % len(_WIDTHS), None]
        return (states[drawn] + widths * reach * shift).astype(states.dtype)

    def told_apart(self, y: Float[np.ndarray, "n d1"]) -> tuple[int, Float[np.ndarray, "k d1"]]:
        """Return how many points at one `s` are on the curves, and those that are not."""
        if len(y) == 0 or not self._chains:
            return 0, y
        near, _ = crossings([(chain.y, chain.tangent) for chain in self._chains], y[0, -1])
        if len(near) == 0:
            return 0, y
        known = on_curve(self._curve, near, across(near))
        known = np.where(known.is_on_curve[:, None], known.y, near)
        distance = np.linalg.norm(y[:, None] - known, axis=2).min(axis=1)
        is_new = distance > _SAME * (1 + np.linalg.norm(y, axis=1))
        return int(np.sum(~is_new)), y[is_new]

    def _is_on_a_step(self, y: Float[np.ndarray, " d1"]) -> bool:
        """Return whether a point is on the straight line of a step, as where steps are short."""
        for chain in self._chains:
            step, off = np.diff(chain.y, axis=0), y - chain.y[:-1]
            length = np.maximum(np.sum(step**2, axis=1), np.finfo(step.dtype).tiny)
            part = np.clip(np.sum(off * step, axis=1) / length, 0, 1)
            distance = np.linalg.norm(off - part[:, None] * step, axis=1)
            if distance.min(initial=np.inf) <= _SAME * (1 + np.linalg.norm(y)):
                return True
        return False

    def branches(
        self,
        G: Transition,
        ends: tuple[float, float],
        not_followed: dict[int, str],
        searched: dict[float, tuple[int, int]],
        certify: bool,
        box: tuple[Any, Any] | None,
    ) -> Branches:
        """Return the curves with their eigenvalues and what happens on them."""
        found = self._refine(0)
        proofs, within, may_hold_others = [None] * len(self._chains), None, None
        if certify:
            proofs, within, may_hold_others = self._prove(box)
            found = self._spectra()
        rate = np.asarray(self._curve.rate)
        branches = tuple(
            Branch(
                s=self._parameter(chain.y[:, -1]),
                xstar=self._unit * chain.y[:, :-1],
                tangent=in_other_units(chain.tangent, self._unit),
                eigvals=values.eigvals * rate,
                index=values.indices,
                ended_by=chain.ended_by,
                rows=rows,
                is_proven=None if proof is None else proof.exists,
            )
            for chain, values, rows, proof in zip(
                self._chains, found, self._rows, proofs, strict=True
            )
        )
        events = tuple(
            Event(
                kind=event.kind,
                s=float(self._parameter(event.y[-1])),
                xstar=self._unit * event.y[:-1],
                branch=event.chain,
                place=event.place,
                eigval=event.eigval * float(rate),
                uncertainty=event.width * abs(float(self._curve.length)),
            )
            for event in events_on(self._curve, self._chains, found, self._n_leading)
        )
        unproven = self._unproven(proofs) if certify else None
        return Branches(
            branches,
            events,
            ends,
            not_followed,
            searched,
            unproven,
            G,
            self._curve,
            self._unit,
            within,
            may_hold_others,
        )

    def _refine(self, first: int) -> list[Spectra]:
        """Insert points into the curves from a number on, until no step is likely to hide events.

        Returns:
            The eigenvalues along these curves.
        """
        chains, found = self._chains[first:], self._spectra(first)
        self._chains[first:], found = refined_curves(self._curve, chains, found, self._n_leading)
        return found

    def _prove(
        self, box: tuple[Any, Any] | None
    ) -> tuple[list[Any], tuple[Any, Any] | None, tuple[Unproven, ...]]:
        """Prove tubes around the curves, and follow all others in a box of states.

        Returns:
            What is proven about the steps of each curve, the box, and the parts of the span in
            which others are not excluded.
        """
        # Only here: most continuations prove nothing.
        from slowpoints._branch_proofs.box_of_points import box_of_points
        from slowpoints._branch_proofs.other_branches import OtherBranches
        from slowpoints._branch_proofs.tubes import Prover, proven

        prover = Prover(self._curve)
        self._chains, proofs = proven(prover, self._chains)
        try:
            if box is None:
                seen = [np.zeros((0, self._unit.size + 1)), *(chain.y for chain in self._chains)]
                parts = box_of_points(prover, np.concatenate(seen))
            else:
                parts = Parts(*(np.asarray(end) / self._unit for end in box))
            search = OtherBranches(prover, parts)
            search.know(self._chains, proofs)
            while not self._is_cut_short() and len(points := search.found()):
                first = len(self._chains)
                for y in points.astype(self._curve.origin.dtype):
                    if not self._is_on_a_step(y):
                        _, new = self.told_apart(y[None])
                        self.follow(new, np.full(len(new), -1))
                if len(self._chains) > first:
                    self._refine(first)
                    self._chains[first:], more = proven(prover, self._chains[first:])
                    proofs += more
                    search.know(self._chains[first:], more)
        except NotCovered as operation:
            why = f"{operation} is not covered"
            return proofs, box, (Unproven(-1, self._ends(0.0, 1.0), why),)
        if self._is_cut_short():
            return proofs, box, (Unproven(-1, self._ends(0.0, 1.0), _CUT_SHORT),)
        within = parts.low * self._unit, parts.high * self._unit
        may_hold_others = (
            Unproven(-1, self._ends(low, high), why) for low, high, why in search.left_open()
        )
        return proofs, within, tuple(may_hold_others)

    def _is_cut_short(self) -> bool:
        """Return whether a curve was not followed to its end."""
        return any("max_steps" in chain.ended_by for chain in self._chains)

    def _unproven(self, proofs: list[Any]) -> tuple[Unproven, ...]:
        """Return what is not proven, in order along each branch; steps in a row are one."""
        from slowpoints._branch_proofs.tubes import LOCAL

        gaps = []
        for number, (chain, proof) in enumerate(zip(self._chains, proofs, strict=True)):
            sigma = np.asarray(chain.y[:, -1], np.float64)
            open_ends = _open_ends(chain.ended_by, sigma)
            if open_ends[0] is not None:
                gaps.append((number, *open_ends[0], _NOT_PROVEN[chain.ended_by[0]]))
            k = 0
            while k < len(proof.exists):
                if proof.passes_once[k]:
                    k += 1
                    continue
                first, why = k, proof.reason[k]
                while k < len(proof.exists) and not proof.passes_once[k] and proof.reason[k] == why:
                    k += 1
                reach = proof.radius[first:k].max() + _BEYOND * np.ptp(sigma[first : k + 1])
                low, high = sigma[first : k + 1].min() - reach, sigma[first : k + 1].max() + reach
                if why not in LOCAL:  # the branch may have gone anywhere
                    at = self._parameter(0.5 * (low + high))
                    low, high, why = 0.0, 1.0, f"{why} near s = {at:.10g}: it may go elsewhere"
                gaps.append((number, max(low, 0.0), min(high, 1.0), why))
            if open_ends[1] is not None:
                gaps.append((number, *open_ends[1], _NOT_PROVEN[chain.ended_by[1]]))
        return tuple(Unproven(n, self._ends(low, high), why) for n, low, high, why in gaps)

    def _spectra(self, first: int = 0) -> list[Spectra]:
        """Return the eigenvalues along the curves from a number on; all are computed together."""
        chains = self._chains[first:]
        if not chains:
            return []
        sizes = np.cumsum([len(chain.y) for chain in chains])[:-1]
        y = np.concatenate([chain.y for chain in chains])
        found = spectra(self._curve, y, self._n_leading)
        parts = (np.split(part, sizes) for part in found)
        return [Spectra(*part) for part in zip(*parts, strict=True)]

    def _ends(self, low: float, high: float) -> tuple[float, float]:
        """Return the lowest and the highest parameter of a part of the span."""
        ends = sorted((float(self._parameter(low)), float(self._parameter(high))))
        return ends[0], ends[1]

    def _parameter(self, sigma: Any) -> Any:
        return float(self._curve.origin) + float(self._curve.length) * sigma


_NOT_PROVEN = {
    "span": "right at a fold, it leaves open whether it goes on within the span",
    "stuck": "no step leads on from its end",
    "max_steps": "it was not followed beyond `max_steps` steps",
}


_CUT_SHORT = "a branch was not followed beyond `max_steps` steps, and may be any of them"


def _open_ends(
    ended_by: tuple[str, str], sigma: Float[np.ndarray, " k"]
) -> list[tuple[float, float] | None]:
    """Return, for each end of a branch that may go on within the span, where it may be."""
    found: list[tuple[float, float] | None] = []
    for why, at in zip(ended_by, (sigma[0], sigma[-1]), strict=True):
        if why == "closed" or (why == "span" and at in (0, 1)):
            found.append(None)
        elif why == "span":  # right at a fold
            edge = float(round(at))
            found.append((min(at, edge), max(at, edge)))
        else:
            found.append((0.0, 1.0))
    return found


def _onto_curves(
    curve: Curve, y: Float[np.ndarray, "n d1"]
) -> tuple[OnCurve, Bool[np.ndarray, " n"]]:
    """Return the points of curves at known points, and which are there."""
    found = on_curve(curve, y, across(y))
    if not found.is_on_curve.all():
        # At a fold, the plane of constant `s` only touches the curve; another one crosses it.
        normal = np.random.default_rng(0).normal(size=y.shape).astype(y.dtype)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        other = on_curve(curve, y, normal)
        found = OnCurve(
            *(
                np.where(found.is_on_curve.reshape(-1, *[1] * (a.ndim - 1)), a, b)
                for a, b in zip(found, other, strict=True)
            )
        )
    moved = np.linalg.norm(found.y - y, axis=1)
    return found, found.is_on_curve & (moved <= _NEAR * (1 + np.linalg.norm(y, axis=1)))


def _distinct(
    y: Float[np.ndarray, "n d1"], rows: Int[np.ndarray, " k"]
) -> tuple[list[int], dict[int, list[int]]]:
    """Return the first row of each point, and for each of these all rows that are this point."""
    kept: list[int] = []
    rows_at: dict[int, list[int]] = {}
    for i in map(int, rows):
        distance = np.linalg.norm(y[kept] - y[i], axis=1)
        close = np.flatnonzero(distance <= _SAME * (1 + np.linalg.norm(y[i])))
        if close.size == 0:
            kept.append(i)
        rows_at.setdefault(kept[close[0]] if close.size else i, []).append(i)
    return kept, rows_at
