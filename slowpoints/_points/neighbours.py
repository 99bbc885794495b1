"""Which points of one set are near which of another, on the host, however many there are."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

_AT_A_TIME = 4096
"""How many points, or pairs of points, have their coordinates in memory in float64 at a time."""


def nearest(
    points: Sequence[Any],
    others: Sequence[Any],
    reach: float,
    labels: tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, " m"]],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return which of the `others` is nearest to each point, and how far it is.

    Args:
        points: arrays `[n, ...]`, whose columns together are the coordinates.
        others: arrays `[m, ...]` with as many columns.
        reach: the largest distance.
        labels: a label for each point and each of the others; only points with equal labels are
            compared.

    Returns:
        `[n]` positions in `others`, -1 if none is within reach; and `[n]` distances, infinite in
        that case.
    """
    place, distance = np.full(len(points[0]), -1), np.full(len(points[0]), np.inf)
    row, other, apart = pairs(points, others, reach)
    same = labels[0][row] == labels[1][other]
    row, other, apart = row[same], other[same], apart[same]
    order = np.lexsort((-apart, row))  # the last one that is written is the nearest
    place[row[order]], distance[row[order]] = other[order], apart[order]
    return place, distance


def pairs(
    points: Sequence[Any], others: Sequence[Any], reach: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return all pairs of a point and one of the others that are at most `reach` apart.

    Points that are close to each other are close along every direction. So the others are sorted
    along one direction, and each point is compared only with the few that are next to it there.

    Args:
        points: as for `nearest`. Coordinates must be finite.
        others: the points that they are compared with, as for `nearest`.
        reach: the largest distance.

    Returns:
        For each pair the positions of both points, and their Euclidean distance.
    """
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    n, there = len(points[0]), _joint(others, slice(None))
    # An irregular direction, along which distinct points rarely coincide.
    direction = np.cos(np.arange(there.shape[1]))
    direction /= np.linalg.norm(direction)
    along = there @ direction
    order = np.argsort(along)
    farthest = np.linalg.norm(there, axis=1).max(initial=0.0)
    for start in range(0, n if len(there) else 0, _AT_A_TIME):
        own = _joint(points, slice(start, start + _AT_A_TIME))
        place = own @ direction
        # For the rounding of the products, those of the others included.
        slack = reach + 1e-9 * (farthest + np.linalg.norm(own, axis=1))
        first = np.searchsorted(along[order], place - slack)
        count = np.searchsorted(along[order], place + slack, "right") - first
        for part in _shares(count):
            row = np.repeat(part, count[part])
            step = np.arange(row.size) - np.repeat(
                np.cumsum(count[part]) - count[part], count[part]
            )
            other = order[first[row] + step]
            apart = np.linalg.norm(own[row] - there[other], axis=1)
            near = apart <= reach
            found.append((start + row[near], other[near], apart[near]))
    rows, places, distances = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(places), np.concatenate(distances)


def _joint(arrays: Sequence[Any], rows: slice) -> Float[np.ndarray, "k d"]:
    return np.concatenate([np.asarray(a[rows], np.float64) for a in arrays], axis=1)


def _shares(count: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " k"]]:
    """Divide the rows that have pairs into shares of about `_AT_A_TIME` pairs each."""
    rows = np.flatnonzero(count)
    share = np.cumsum(count[rows]) // _AT_A_TIME
    yield from np.split(rows, np.flatnonzero(np.diff(share)) + 1) if rows.size else ()
