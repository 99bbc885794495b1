"""`continuation`: follow fixed points through a parameter."""

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from slowpoints._arclength.arcs import (
    Chain,
    OnCurve,
    across,
    arcs_from,
    chains_of,
    crossings,
    on_curve,
)
from slowpoints._arclength.spectra import Spectra, spectra
from slowpoints._arclength.steps import Curve
from slowpoints._continuation.branches import Branch, Branches, Event, Unproven, in_other_units
from slowpoints._continuation.events import events_on
from slowpoints._continuation.refinement import refined
from slowpoints._continuation.state_sizes import state_units
from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.trace import traced
from slowpoints._network.units import InUnits
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._points.unique import unique
from slowpoints._search.optimize_batch import optimize_batch

_MAX_STEP, _FEW_UNITS = 0.1, 16
"""The longest step by default, for up to 16 units. States of more units are farther apart, by the
square root of their number, and so is the step."""

_MOST_UNITS = 256
"""Networks of up to so many units are followed with Jacobians, and all eigenvalues are computed.
Above, a product with a Jacobian costs so much less than the Jacobian that products do both."""

_LEADING = 16
"""So many eigenvalues are computed of larger networks."""

_SAME = 1e-5
"""Points at the same `s` that are no farther apart than this, relative to their size, are one."""

_NEAR = 1e-2
"""A known point may be this far from its curve, relative to its size, as float32 leaves it."""

_NOT_CONVERGED = "Newton's method does not converge to a fixed point near it"

_BEYOND = 0.05
"""Tubes reach beyond their steps by this part of their length."""

_WIDTHS = (0.3, 1.0, 3.0)
"""Searches start from states of the branches with noise of these standard deviations, in turn,
relative to that of the states: close to what is known, among it, and beyond."""

_LEAST_REACH = 0.1
"""The standard deviation of the states is taken to be at least this, in their units."""


def continuation(
    G: Any,
    fps: FixedPoints,
    span: tuple[Number, Number],
    *,
    max_step: Number | None = None,
    search_at: Sequence[Number] | None = None,
    n_starts: int = 256,
    max_steps: int = 5000,
    n_eigvals: int | None = None,
    certify: bool = False,
    key: PRNGKeyArray | None = None,
) -> Branches:
    """Follow fixed points through a parameter, around folds, in both directions.

    Pseudo-arclength continuation (Keller 1977): the tangent predicts the next point, and Newton's
    method corrects it in the plane across the tangent. Steps adapt to how the branch bends, and
    become shorter where it would change its orientation, as by a jump to a branch close by. Where
    branches really cross, it does so however short the steps are: branches that come closer to each
    other than 2e-5, in the units of `max_step`, are taken to cross. All branches are followed side
    by side. Steps are then divided where eigenvalues, or the direction in `s`, bend as if there
    were two events in one. Where the index changes, the place is found by halving the piece of the
    branch, to about 1e-10 of its length in float64.

    Without `certify`, a branch may still jump, and events may be missed: of those that are closer
    to each other than `Branches.event_resolution`, only such that eigenvalues and directions
    announce by their bends are found.

    It computes in float64 if the network can, whether or not that is enabled.

    Args:
        G: the transition `G(x, [s])` of the states and of one number; or anything that
            [`as_transition`][slowpoints.as_transition] takes, with one input.
            [`along`][slowpoints.along] makes one from a path of inputs. In continuous time `dx/dt`
            is set to 0.
        fps: points of `G`, with `xstar` and `inputs = [[s]]`. All may be at one `s`, or each at its
            own. Invalid rows, and rows whose `status` is not that of a fixed point, are not
            followed.
        span: the two ends of `s`, in any order. The `s` of every point must be in between.
        max_step: the longest step along a branch, where each state is measured in a unit of about
            its size at the given points, and `s` as a fraction of the span; by default 0.1 for up
            to 16 units, and more for larger networks, in proportion to the square root of their
            size. A step never passes more than a twentieth of the span.
        search_at: start new searches at these `s`, for branches that no known point leads to, such
            as closed ones. The searches start around the states of the known branches.
        n_starts: how many states each of these searches starts from.
        max_steps: the largest number of points from a known point to the next, or to the end of a
            branch.
        n_eigvals: how many eigenvalues to compute at each point, the leading ones; by default all
            for up to 256 units, and 16 above. If all of these are outside the unit circle, the
            index is unknown there, and its changes are not found.
        certify: prove the branches: around each of their steps, a tube that holds one branch and no
            other, by Krawczyk's test with the parameter (compare Gameiro, Lessard & Mischaikow
            2008), in ball arithmetic as for [`certify`][slowpoints.certify]. Steps are divided
            until there is one. Where there is none, as where branches cross, `Branches.unproven`
            says so. Events are not proven. The more units, the shorter the tubes: it is meant for
            up to some ten.
        key: a JAX random key, for `search_at`; `jax.random.key(0)` by default.

    Returns:
        The branches and what happens on them. A branch on which several of the points lie appears
        once.

    Raises:
        TypeError: if `G` or an argument is of the wrong kind or traced.
        ValueError: if `fps` has no `xstar` or not one input, the span is empty or does not hold
            the points, or `G` does not map such states to states.

    Warns:
        UserWarning: if points that a search at some `s` found cannot be followed.
    """
    caller = "continuation"
    G = as_transition(G)
    G, x, s, ends = _checked_points(caller, G, fps, span)
    longest = arguments.number(caller, "max_step", max_step, or_none=True)
    if longest is None:
        longest = _MAX_STEP * max(1.0, (fps.n_states / _FEW_UNITS) ** 0.5)
    if longest == 0:
        arguments.refuse(caller, "max_step", "is 0", "a number above 0", ValueError)
    most = arguments.whole(caller, "max_steps", max_steps, least=1)
    n_starts = arguments.whole(caller, "n_starts", n_starts, least=1)
    n_leading = arguments.whole(caller, "n_eigvals", n_eigvals, least=1, or_none=True)
    if n_leading is None:
        n_leading = fps.n_states if fps.n_states <= _MOST_UNITS else _LEADING
    certify = arguments.flag(caller, "certify", certify)
    places = _checked_places(caller, search_at, ends)
    random_key: Any = jax.random.key(0) if key is None else arguments.random_key(caller, key)

    is_double = computes_in_float64(G)
    dtype = np.dtype(np.float64) if is_double else x.dtype
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        G = with_precision(G, dtype)
        f, is_flow = linearised_part(G), isinstance(G, ContinuousTime)
        reasons = _reasons(fps)
        rows = np.flatnonzero([not reason for reason in reasons])
        unit = state_units(f, is_flow, x[rows].astype(dtype), s[rows].astype(dtype), ends)
        curve = Curve(
            InUnits(f, jnp.asarray(unit)),
            jnp.asarray(ends[0], dtype),
            jnp.asarray(ends[1] - ends[0], dtype),
            is_flow,
            fps.n_states > _MOST_UNITS,
        )
        family = _Family(curve, unit, float(longest), most, min(n_leading, fps.n_states))
        not_followed = {row: reason for row, reason in enumerate(reasons) if reason}
        not_followed |= family.follow(family.positions(x[rows], s[rows, 0]), rows)
        searched = {}
        for i, place in enumerate(places):
            x_init = family.starts(n_starts, jax.random.fold_in(random_key, i), x)
            found = _searched(G, x_init, place)
            known, new = family.told_apart(family.positions(found, np.full(len(found), place)))
            lost = family.follow(new, -1 - np.arange(len(new)))  # they are rows of no argument
            searched[place] = (known, len(new) - len(lost))
            if lost:
                warnings.warn(
                    f"{caller}: {len(lost)} of {len(new)} points found at s = {place:.6g} "
                    f"are not followed: {_NOT_CONVERGED}.",
                    stacklevel=2,
                )
        return family.branches(G, ends, not_followed, searched, certify)


class _Family:
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
        why = {int(row): _NOT_CONVERGED for row in rows[~is_good]}
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

    def branches(
        self,
        G: Transition,
        ends: tuple[float, float],
        not_followed: dict[int, str],
        searched: dict[float, tuple[int, int]],
        certify: bool,
    ) -> Branches:
        """Return the curves with their eigenvalues and what happens on them."""
        proofs = [None] * len(self._chains)
        found = self._spectra()
        self._chains, found = refined(self._curve, self._chains, found, self._n_leading)
        if certify:
            # Only here, so that importing the package stays quick.
            from slowpoints._continuation.tubes import proven

            self._chains, proofs = proven(self._curve, self._chains)
            found = self._spectra()
        branches = tuple(
            Branch(
                s=self._parameter(chain.y[:, -1]),
                xstar=self._unit * chain.y[:, :-1],
                tangent=in_other_units(chain.tangent, self._unit),
                eigvals=values.eigvals,
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
                eigval=event.eigval,
                uncertainty=event.width * abs(float(self._curve.length)),
            )
            for event in events_on(self._curve, self._chains, found, self._n_leading)
        )
        unproven = self._unproven(proofs) if certify else None
        return Branches(
            branches, events, ends, not_followed, searched, unproven, G, self._curve, self._unit
        )

    def _unproven(self, proofs: list[Any]) -> tuple[Unproven, ...]:
        """Return what is not proven, in order along each branch; steps in a row are one."""
        from slowpoints._continuation.tubes import LOCAL

        gaps = []
        for number, (chain, proof) in enumerate(zip(self._chains, proofs, strict=True)):
            sigma = np.asarray(chain.y[:, -1], np.float64)
            open_ends = _open_ends(chain.ended_by, sigma)
            if open_ends[0] is not None:
                gaps.append((number, *open_ends[0], f"it ended by {chain.ended_by[0]!r}"))
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
                gaps.append((number, *open_ends[1], f"it ended by {chain.ended_by[1]!r}"))
        ends = [sorted((self._parameter(low), self._parameter(high))) for _, low, high, _ in gaps]
        return tuple(
            Unproven(number, (float(low), float(high)), why)
            for (number, _, _, why), (low, high) in zip(gaps, ends, strict=True)
        )

    def _spectra(self) -> list[Spectra]:
        """Return the eigenvalues along each curve; all are computed together."""
        if not self._chains:
            return []
        sizes = np.cumsum([len(chain.y) for chain in self._chains])[:-1]
        y = np.concatenate([chain.y for chain in self._chains])
        found = spectra(self._curve, y, self._n_leading)
        parts = (np.split(part, sizes) for part in found)
        return [Spectra(*part) for part in zip(*parts, strict=True)]

    def _parameter(self, sigma: Any) -> Any:
        return float(self._curve.origin) + float(self._curve.length) * sigma


def _open_ends(
    ended_by: tuple[str, str], sigma: Float[np.ndarray, " k"]
) -> list[tuple[float, float] | None]:
    """Return, for each end of a branch that may go on within the span, where it may be."""
    found: list[tuple[float, float] | None] = []
    for why, at in zip(ended_by, (sigma[0], sigma[-1]), strict=True):
        if why == "closed" or (why == "span" and at in (0, 1)):
            found.append(None)
        elif why == "span":  # right at a fold
            found.append((min(at, round(at)), max(at, round(at))))
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


def _searched(
    G: Transition, x_init: Float[np.ndarray, "n d"], s: float
) -> Float[np.ndarray, "k d"]:
    """Return the distinct fixed points that a search at `s` finds."""
    fps = optimize_batch(G, jnp.asarray(x_init), jnp.full((1, 1), s, x_init.dtype))
    fps = fps.replace(valid=jnp.asarray(fps.status) == Status.FIXED_POINT)
    return np.asarray(unique(fps).compact().xstar)


def _reasons(fps: FixedPoints) -> list[str]:
    """Return for each row why it is not followed, or nothing if it is."""
    valid = np.ones(fps.n, bool) if fps.valid is None else np.asarray(fps.valid, bool)
    status = fps.status if fps.status is not None else np.full(fps.n, Status.FIXED_POINT)
    return [
        "not valid"
        if not is_valid
        else ""
        if code == Status.FIXED_POINT
        else f"its status is {Status(int(code)).name}, not FIXED_POINT"
        for is_valid, code in zip(valid, np.asarray(status), strict=True)
    ]


# ---- checks --------------------------------------------------------------------------------------


def _checked_points(
    caller: str, G: Transition, fps: FixedPoints, span: Any
) -> tuple[Transition, Any, Any, tuple[float, float]]:
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((G, fps, span))):
        arguments.refuse(caller, "fps", "is traced", "to be called outside of `jit`", TypeError)
    x = arguments.array(caller, "fps.xstar", fps.xstar, ("n", "n_states"), floating=True)
    arguments.check_precision(caller, "fps.xstar", x.dtype)
    if fps.n_inputs != 1:
        expected = "one input, the parameter s: `along(F, path)` makes one of several"
        was = f"has shape {tuple(fps.inputs.shape)}"
        arguments.refuse(caller, "fps.inputs", was, expected, ValueError)
    s = arguments.array(caller, "fps.inputs", fps.inputs, ("n", 1), finite=True)
    ends = _checked_span(caller, span)
    x, s = np.asarray(x), np.asarray(s, x.dtype)
    low, high = sorted(ends)
    rounding = 4 * np.finfo(s.dtype).eps * max(abs(low), abs(high))
    outside = (s < low - rounding) | (s > high + rounding)
    if outside.any():
        was = f"are from {s.min():.6g} to {s.max():.6g}"
        arguments.refuse(
            caller, "fps.inputs", was, f"parameters within the span {ends}", ValueError
        )
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    G = traced(caller, G, x.shape[1], 1, dtype, states="fps.xstar", inputs="fps.inputs")
    return G, x, s, ends


def _checked_span(caller: str, span: Any) -> tuple[float, float]:
    def refuse(expected: str, kind: type[Exception]) -> NoReturn:
        arguments.refuse(caller, "span", arguments.found(span), expected, kind)

    if not isinstance(span, (tuple, list, np.ndarray)) or len(span) != 2:
        refuse("a pair of numbers", TypeError)
    ends = [arguments.as_array(caller, "span", e, floating=False, expected="numbers") for e in span]
    if any(np.ndim(end) for end in ends):
        refuse("a pair of numbers", TypeError)
    low, high = (float(end) for end in ends)
    if not (np.isfinite(low) and np.isfinite(high)) or low == high:
        refuse("two different finite numbers", ValueError)
    return low, high


def _checked_places(caller: str, search_at: Any, ends: tuple[float, float]) -> list[float]:
    if search_at is None:
        return []
    places = np.atleast_1d(arguments.array(caller, "search_at", search_at, ("k",), (), finite=True))
    low, high = sorted(ends)
    if np.any((places < low) | (places > high)):
        was = arguments.found(search_at)
        arguments.refuse(caller, "search_at", was, f"numbers within the span {ends}", ValueError)
    return [float(place) for place in places]
