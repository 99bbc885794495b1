"""At which of the points that curves are followed from other curves arrive."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import OnCurve, Trail, on_curve
from slowpoints._arclength.steps import hermite

_SAME = {8: 1e-8, 4: 1e-3}
"""A curve that comes this close to a point that others start from, in about its direction, goes
through it. Newton's method leaves less than a hundredth of this (in float64 and float32)."""

_SAME_DIRECTION = 0.7
"""Curves that cross elsewhere close by do so at an angle."""


class Join(NamedTuple):
    """Where a lane arrives at a point that curves are followed from."""

    n_before: int
    """After how many of its new points it does so."""
    start: int
    """The number of the point."""
    y: Float[np.ndarray, " d1"]
    tangent: Float[np.ndarray, " d1"]
    """The direction of the lane there."""


def joins(
    curve: Curve,
    trails: list[Trail],
    live: Int[np.ndarray, " lanes"],
    path: OnCurve,
    starts: OnCurve,
) -> dict[int, Join]:
    """Return at which of the `starts` lanes arrive, if at any.

    Args:
        curve: the equations.
        trails: what each lane has passed before.
        live: the numbers of the lanes that have moved.
        path: `[steps, lanes, ...]` what these tried to reach.
        starts: the points.

    Returns:
        The first arrival of each lane that arrives, by the place of the lane in `live`.
    """
    segments = _segments(trails, live, path)
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
    first: dict[int, Join] = {}
    for i in sorted(np.flatnonzero(is_there), key=lambda i: (part.n_before[i], theta[i, 0])):
        join = Join(int(part.n_before[i]), int(start[i]), starts.y[start[i]], found.tangent[i])
        first.setdefault(int(part.place[i]), join)
    return first


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
    trails: list[Trail], live: Int[np.ndarray, " lanes"], path: OnCurve
) -> _Segments | None:
    """Return the pieces along the new points of lanes, from the last ones of their trails on."""
    rows = []
    for place, lane in enumerate(live):
        trail, taken = trails[lane], path.is_on_curve[:, place]
        points = [trail.y[-1], *path.y[taken, place]]
        tangents = [trail.tangent[-1], *path.tangent[taken, place]]
        fresh = len(trail.y) == 1
        for k in range(len(points) - 1):
            ends = points[k], points[k + 1], tangents[k], tangents[k + 1]
            rows.append((place, k, *ends, fresh and k == 0))
    if not rows:
        return None
    return _Segments(*(np.array(column) for column in zip(*rows, strict=True)))


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
