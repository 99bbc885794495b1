"""Follow curves of fixed points from known points, and put together what was followed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.steps import (
    Curve,
    Lanes,
    beyond_corner,
    corrected,
    follow,
    hermite,
    of_rows,
    values,
)
from slowpoints._core.arrays import put

_ATTEMPTS = 16
"""So many steps are tried before the host looks at where the lanes are."""

_SAME = {8: 1e-8, 4: 1e-3}
"""A curve that comes this close to a point that others start from, in about its direction, goes
through it. Newton's method leaves less than a hundredth of this (in float64 and float32)."""

_SAME_DIRECTION = 0.7
"""Curves that cross elsewhere close by do so at an angle."""

_FIRST_STEP = 0.01
"""Short enough for most networks; it doubles while the steps are easy."""

_BESIDE_CROSSINGS = {8: 5e-5, 4: 5e-2}
"""Points closer than this to where another curve crosses, which are there because steps are short,
are left out: the equations are nearly singular there, and eigenvalues are no more than rounding (in
float64 and float32)."""

Side = int
"""In which direction a curve is followed from a point: 1 along its tangent, or -1."""


class OnCurve(NamedTuple):
    """What `Corrected` holds, backed by NumPy, for `n` rows."""

    y: Float[np.ndarray, "*steps n d1"]
    tangent: Float[np.ndarray, "*steps n d1"]
    orientation: Float[np.ndarray, "*steps n"]
    n_steps: Int[np.ndarray, "*steps n"]
    is_on_curve: Bool[np.ndarray, "*steps n"]


class Port(NamedTuple):
    """One of the two sides of a point that curves are followed from."""

    start: int
    side: Side


class Arc(NamedTuple):
    """A part of a curve, from one point that it was followed from.

    Attributes:
        y: `[k, d + 1]` its points, in order, the first included.
        tangent: `[k, d + 1]` unit tangents in the direction of the order.
        orientation: `[k]` see `Corrected`.
        ended_by: why it ends: see `Branch`; `"joined"` at another such point.
        joined: where it arrived then.
    """

    y: Float[np.ndarray, "k d1"]
    tangent: Float[np.ndarray, "k d1"]
    orientation: Float[np.ndarray, " k"]
    ended_by: str
    joined: Port | None = None

    def reversed(self, ended_by: str, joined: Port | None) -> "Arc":
        """Return the same points in the other order."""
        backwards = self.y[::-1], -self.tangent[::-1], -self.orientation[::-1]
        return Arc(*backwards, ended_by, joined)


class Chain(NamedTuple):
    """Arcs that are one curve: see `Branch`."""

    y: Float[np.ndarray, "k d1"]
    tangent: Float[np.ndarray, "k d1"]
    ended_by: tuple[str, str]
    starts: tuple[int, ...]


def on_curve(
    curve: Curve, guess: Float[np.ndarray, "n d1"], normal: Float[np.ndarray, "n d1"]
) -> OnCurve:
    """Return `corrected` for any number of rows."""
    if len(guess) == 0:
        nothing = np.zeros(0, guess.dtype)
        return OnCurve(guess, guess, nothing, np.zeros(0, int), np.zeros(0, bool))
    return OnCurve(*of_rows(corrected, curve, guess, normal))


def residuals(curve: Curve, y: Float[np.ndarray, "n d1"]) -> Float[np.ndarray, "n d"]:
    """Return `H(y)` of any number of rows."""
    return of_rows(values, curve, y) if len(y) else y[:, :-1]


def across(y: Float[np.ndarray, "n d1"]) -> Float[np.ndarray, "n d1"]:
    """Return the normals of the planes of constant `s` through some points."""
    normal = np.zeros_like(y)
    normal[:, -1] = 1
    return normal


def arcs_from(
    curve: Curve,
    starts: OnCurve,
    longest: float,
    most_steps: int,
) -> dict[Port, Arc]:
    """Follow the curves through some points in both directions, until each is known.

    A curve that arrives at another of the points ends there, for it goes on from there anyway.

    Args:
        curve: the equations.
        starts: points on the curves, all different, with their tangents.
        longest: the longest step.
        most_steps: the most points of an arc.

    Returns:
        The arc from each side of each point.
    """
    n = len(starts.y)
    ports = [Port(start, side) for side in (1, -1) for start in range(n)]
    y = np.concatenate([starts.y, starts.y])
    tangent = np.concatenate([starts.tangent, -starts.tangent])
    step = np.full(2 * n, min(_FIRST_STEP, longest), y.dtype)
    orientation = np.concatenate([starts.orientation, -starts.orientation])
    wary = np.zeros(2 * n, int)
    inside = _goes_inside(y, tangent)
    trails = [([y[i].copy()], [tangent[i].copy()], [orientation[i]]) for i in range(2 * n)]
    arcs = {ports[i]: _arc(trails[i], "span") for i in np.flatnonzero(~inside)}
    to_cut: list[Port] = []
    corners = np.zeros(2 * n, int)  # how long each trail was at its last corner
    live = np.flatnonzero(inside)
    while live.size:
        moving = (y, tangent, step, orientation, wary)
        (*moved, on_way), path = _followed(curve, [part[live] for part in moving], longest)
        for part, new in zip(moving, moved, strict=True):
            part[live] = new
        segments = _segments(trails, live, path)
        joins = _joins(curve, segments, starts)
        for place, lane in enumerate(live):
            port, trail = ports[lane], trails[lane]
            if port in arcs:  # the other end of one that arrived here
                continue
            taken = path.is_on_curve[:, place]
            new = path.y[taken, place], path.tangent[taken, place], path.orientation[taken, place]
            if place in joins:
                count, start, at, along = joins[place]
                side = 1 if along @ starts.tangent[start] < 0 else -1
                end = at, along, -side * starts.orientation[start]
                for values, more, last in zip(trail, new, end, strict=True):
                    values.extend([*more[:count], last])
                other = Port(start, side)
                arcs[port] = _arc(trail, "joined", other)
                arcs[other] = arcs[port].reversed("joined", port)
                continue
            for values, more in zip(trail, new, strict=True):
                values.extend(more)
            if on_way[place] and len(trail[0]) < most_steps:
                continue
            if not 0 <= y[lane, -1] <= 1:
                arcs[port] = _arc(trail, "span")
                to_cut.append(port)
            elif len(trail[0]) >= most_steps:
                arcs[port] = _arc(trail, "max_steps")
            else:
                beyond = _beyond_corner(curve, y[lane], tangent[lane])
                if beyond is None or len(trail[0]) == corners[lane]:
                    arcs[port] = _arc(trail, "stuck")
                    continue
                y[lane], tangent[lane] = beyond
                orientation[lane], wary[lane] = 0, 0
                step[lane] = min(_FIRST_STEP, longest)
                for values, value in zip(trail, (*beyond, 0.0), strict=True):
                    values.append(value)
                corners[lane] = len(trail[0])
        live = np.array([i for i in live if ports[i] not in arcs], int)
    return arcs | dict(zip(to_cut, _cut(curve, [arcs[port] for port in to_cut]), strict=True))


def _followed(
    curve: Curve, moving: list[np.ndarray], longest: float
) -> tuple[tuple[np.ndarray, ...], OnCurve]:
    """Return what `follow` makes of any number of lanes, all of them running."""
    most = put(longest, moving[0].dtype)

    def swapped(path: Any) -> Any:
        return jax.tree.map(lambda part: np.swapaxes(part, 0, 1), path)

    def some(curve: Curve, *moving: np.ndarray) -> Any:
        lanes = Lanes(*map(put, moving), running=put(np.ones(len(moving[0]), bool)))
        ends, path = jax.device_get(follow(curve, lanes, most, _ATTEMPTS))
        return ends, swapped(path)

    ends, path = of_rows(some, curve, *moving)
    return ends, OnCurve(*swapped(path))


def chains_of(arcs: dict[Port, Arc]) -> list[Chain]:
    """Put arcs together to curves, each of which is there once."""
    left = sorted({port.start for port in arcs})
    chains = []
    while left:
        first = left[0]
        forward, end, on_it = _walk(arcs, Port(first, 1))
        if end == "closed":
            y, tangent = _joined(forward)
            chains.append(Chain(y, tangent, (end, end), tuple(on_it)))
        else:
            backward, other_end, more = _walk(arcs, Port(first, -1))
            parts = [arc.reversed("", None) for arc in reversed(backward)] + forward
            y, tangent = _joined(parts)
            on_it = [*reversed(more[1:]), *on_it]
            chains.append(Chain(y, tangent, (other_end, end), tuple(on_it)))
        left = [start for start in left if start not in on_it]
    return chains


def _walk(arcs: dict[Port, Arc], port: Port) -> tuple[list[Arc], str, list[int]]:
    parts, starts = [], [port.start]
    while True:
        arc = arcs[port]
        parts.append(arc)
        if arc.joined is None:
            return parts, arc.ended_by, starts
        if arc.joined.start in starts:
            return parts, "closed", starts
        starts.append(arc.joined.start)
        port = Port(arc.joined.start, -arc.joined.side)


def _joined(
    parts: list[Arc],
) -> tuple[Float[np.ndarray, "k d1"], Float[np.ndarray, "k d1"]]:
    first, *others = parts  # the others begin where the ones before them end
    y, tangent, orientation = (
        np.concatenate([getattr(first, name), *(getattr(arc, name)[1:] for arc in others)])
        for name in ("y", "tangent", "orientation")
    )
    kept = _away_from_crossings(y, orientation)
    return y[kept], tangent[kept]


def _away_from_crossings(
    y: Float[np.ndarray, "k d1"], orientation: Float[np.ndarray, " k"]
) -> Bool[np.ndarray, " k"]:
    """Return which points of a curve are not right beside where another crosses it."""
    kept = np.ones(len(y), bool)
    beside = _BESIDE_CROSSINGS[y.dtype.itemsize]
    for k in np.flatnonzero(orientation[:-1] * orientation[1:] < 0):
        # In each direction up to the first point that is farther away.
        before = np.linalg.norm(y[1 : k + 1] - y[k], axis=1) > beside
        after = np.linalg.norm(y[k + 1 : -1] - y[k + 1], axis=1) > beside
        first = 1 + (np.flatnonzero(before)[-1] + 1 if before.any() else 0)
        last = k + 1 + (np.flatnonzero(after)[0] if after.any() else len(after))
        kept[first:last] = False
    return kept


# ---- where curves pass a given s -----------------------------------------------------------------

_FINE = np.linspace(0, 1, 65)[:, None]
"""Places at which a step that contains a fold is looked at."""


def crossings(
    paths: Sequence[tuple[np.ndarray, np.ndarray]], sigma: float
) -> tuple[Float[np.ndarray, "n d1"], Int[np.ndarray, " n"]]:
    """Return points at a `sigma` that are near where curves pass it, and the numbers of the curves.

    Args:
        paths: for each curve its points and tangents, `[k, d + 1]` each.
        sigma: from 0 to 1.
    """
    rows, numbers = [], []
    for number, (y, tangent) in enumerate(paths):
        left, right = y[:-1, -1], y[1:, -1]
        rounding = 8 * np.finfo(y.dtype).eps
        passes = np.minimum(left, right) - rounding <= sigma
        passes &= sigma <= np.maximum(left, right) + rounding
        if len(y) == 1 and abs(y[0, -1] - sigma) <= rounding:
            rows.append(np.append(y[:, :-1], [[sigma]], axis=1).astype(y.dtype))
        rows.append(_passing(y, tangent, np.flatnonzero(passes), sigma))
        # A step that contains a fold may reach beyond both of its ends.
        turns = (tangent[:-1, -1] >= 0) != (tangent[1:, -1] >= 0)
        for k in np.flatnonzero(turns & ~passes):
            ends = (y[k], y[k + 1]), (tangent[k], tangent[k + 1])
            cubic = hermite(_FINE, *ends)
            side = cubic[:, -1] - sigma
            near = cubic[:-1][side[:-1] * side[1:] <= 0].astype(y.dtype)
            near[:, -1] = sigma
            rows.append(near)
        numbers += [number] * (sum(map(len, rows)) - len(numbers))
    if not rows:
        return np.zeros((0, 1)), np.zeros(0, np.int32)
    return np.concatenate(rows), np.array(numbers, np.int32)


def _passing(
    y: Float[np.ndarray, "k d1"],
    tangent: Float[np.ndarray, "k d1"],
    steps: Int[np.ndarray, " m"],
    sigma: float,
) -> Float[np.ndarray, "m d1"]:
    """Return, by bisection, where the cubics through some steps pass `sigma`."""
    ends = (y[steps], y[steps + 1]), (tangent[steps], tangent[steps + 1])
    low, high = np.zeros((len(steps), 1)), np.ones((len(steps), 1))
    rises = y[steps + 1, -1:] >= y[steps, -1:]
    for _ in range(50):
        middle = 0.5 * (low + high)
        before = (hermite(middle, *ends)[:, -1:] < sigma) == rises
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    guess = hermite(0.5 * (low + high), *ends).astype(y.dtype)
    guess[:, -1] = sigma
    return guess


# ---- what the host looks at ----------------------------------------------------------------------


class _Segments(NamedTuple):
    """Pieces between successive points of lanes."""

    place: Int[np.ndarray, " m"]
    """Which of the lanes it is in, and after how many new points it begins."""
    n_before: Int[np.ndarray, " m"]
    left: Float[np.ndarray, "m d1"]
    right: Float[np.ndarray, "m d1"]
    tangent_left: Float[np.ndarray, "m d1"]
    tangent_right: Float[np.ndarray, "m d1"]
    is_first: Bool[np.ndarray, " m"]
    """Whether it begins where the lane does."""


def _segments(
    trails: list[tuple[list, list, list]],
    live: Int[np.ndarray, " lanes"],
    path: OnCurve,
) -> _Segments | None:
    rows = []
    for place, lane in enumerate(live):
        points, tangents = ([part[-1]] for part in trails[lane][:2])
        taken = path.is_on_curve[:, place]
        points = [*points, *path.y[taken, place]]
        tangents = [*tangents, *path.tangent[taken, place]]
        fresh = len(trails[lane][0]) == 1
        for k in range(len(points) - 1):
            ends = points[k], points[k + 1], tangents[k], tangents[k + 1]
            rows.append((place, k, *ends, fresh and k == 0))
    if not rows:
        return None
    return _Segments(*(np.array(column) for column in zip(*rows, strict=True)))


def _joins(
    curve: Curve, segments: _Segments | None, starts: OnCurve
) -> dict[int, tuple[int, int, np.ndarray, np.ndarray]]:
    """Return at which of the `starts` lanes arrive, if at any.

    Returns:
        For a lane by its place: after how many new points, the number of the start, the point, and
        the tangent of the lane there.
    """
    if segments is None:
        return {}
    which, start = _close_by(segments, starts.y)
    if which.size == 0:
        return {}
    part = _Segments(*(a[which] for a in segments))
    target, chord = starts.y[start], part.right - part.left
    theta = np.sum((target - part.left) * chord, axis=1) / np.sum(chord**2, axis=1)
    theta = theta[:, None]
    guess = hermite(theta, (part.left, part.right), (part.tangent_left, part.tangent_right))
    normal = chord / np.linalg.norm(chord, axis=1, keepdims=True)
    guess = guess + normal * np.sum(normal * (target - guess), axis=1, keepdims=True)
    found = on_curve(curve, guess, normal)
    same = _SAME[target.dtype.itemsize]
    scale = 1 + np.linalg.norm(target, axis=1)
    is_there = found.is_on_curve & (np.linalg.norm(found.y - target, axis=1) <= same * scale)
    cosine = np.sum(found.tangent * starts.tangent[start], axis=1)
    is_there &= np.abs(cosine) >= _SAME_DIRECTION
    # A lane does not arrive where it starts, unless it has been elsewhere.
    is_there &= ~(part.is_first & (np.linalg.norm(part.left - target, axis=1) <= same * scale))
    joins: dict[int, tuple[int, int, np.ndarray, np.ndarray]] = {}
    for i in sorted(np.flatnonzero(is_there), key=lambda i: (part.n_before[i], theta[i, 0])):
        joins.setdefault(
            int(part.place[i]),
            (int(part.n_before[i]), int(start[i]), starts.y[start[i]], found.tangent[i]),
        )
    return joins


def _close_by(
    segments: _Segments, y: Float[np.ndarray, "n d1"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Return the pairs of a segment and a point that it may lead through."""
    length = np.linalg.norm(segments.right - segments.left, axis=1)
    pairs = []
    at_a_time = max(1, 2**22 // max(1, len(y)))
    for first in range(0, len(length), at_a_time):
        part = slice(first, first + at_a_time)
        left, right, reach = segments.left[part], segments.right[part], length[part, None]
        near = np.ones((len(left), len(y)), bool)
        for end in (left, right):
            squared = np.sum(end**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * end @ y.T
            near &= squared <= (1.1 * reach) ** 2 + 1e-9 * (1 + squared)
        chord = right - left
        theta = (chord @ y.T - np.sum(chord * left, axis=1)[:, None]) / reach**2
        near &= (theta > 0) & (theta <= 1)
        which, start = np.nonzero(near)
        pairs.append((which + first, start))
    which, start = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return which, start


def _goes_inside(
    y: Float[np.ndarray, "lanes d1"], tangent: Float[np.ndarray, "lanes d1"]
) -> Bool[np.ndarray, " lanes"]:
    """Return which lanes do not leave the span at once, as from its ends."""
    outwards = ((y[:, -1] <= 0) & (tangent[:, -1] < 0)) | ((y[:, -1] >= 1) & (tangent[:, -1] > 0))
    return ~outwards


def _arc(trail: tuple[list, list, list], ended_by: str, joined: Port | None = None) -> Arc:
    y, tangent, orientation = map(np.array, trail)
    return Arc(y, tangent, orientation, ended_by, joined)


def _beyond_corner(
    curve: Curve, y: np.ndarray, tangent: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    found = beyond_corner(curve, put(y[None]), put(tangent[None]))
    if not found.is_on_curve[0]:
        return None
    return np.asarray(found.y)[0], np.asarray(found.tangent)[0]


def _cut(curve: Curve, arcs: list[Arc]) -> list[Arc]:
    """Let arcs that left the span in their last steps end where they do so."""
    if not arcs:
        return []
    left, right = (np.array([arc.y[k] for arc in arcs]) for k in (-2, -1))
    along_left, along_right = (np.array([arc.tangent[k] for arc in arcs]) for k in (-2, -1))
    end = np.clip(right[:, -1:], 0, 1)
    theta = (end - left[:, -1:]) / (right[:, -1:] - left[:, -1:])
    guess = hermite(theta, (left, right), (along_left, along_right))
    guess[:, -1:] = end
    last = on_curve(curve, guess, across(guess))
    cut = []
    for k, arc in enumerate(arcs):
        y, tangent, orientation = arc.y[:-1], arc.tangent[:-1], arc.orientation[:-1]
        if last.is_on_curve[k]:  # it is not where there is a fold right at the end
            along = last.tangent[k] * np.sign(last.tangent[k] @ arc.tangent[-1])
            y, tangent = np.concatenate([y, last.y[[k]]]), np.concatenate([tangent, along[None]])
            orientation = arc.orientation
        cut.append(Arc(y, tangent, orientation, arc.ended_by))
    return cut
