"""The distinct points of the chunks of a search: which are new, and all of them together."""

import numpy as np

from slowpoints._core.arrays import power_of_two
from slowpoints._core.types import Number
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.unique import unique


def new_points(
    parts: list[FixedPoints], fps: FixedPoints, final_q_threshold: Number | None
) -> FixedPoints:
    """Return those rows of a chunk that survive `unique` together with all stored points."""
    if final_q_threshold:
        fps = fps.replace(valid=fps.valid & (fps.qstar < final_q_threshold))
    known = _padded(parts, fps)
    survives = np.asarray(unique(FixedPoints.concatenate([known, fps])).valid)
    return fps[survives[known.n :]].replace(valid=None)


def _padded(parts: list[FixedPoints], like: FixedPoints) -> FixedPoints:
    """Join what is stored, padded with invalid rows: few sizes need few compilations."""
    # Most chunks of a long search find nothing new.
    known = FixedPoints.concatenate([like[:0], *(part for part in parts if part.n)])
    n = known.n
    size = max(256, power_of_two(n))
    known = FixedPoints.concatenate([known, like[np.zeros(size - n, int)]])
    return known.replace(valid=np.arange(size) < n)


def merged(parts: list[FixedPoints]) -> FixedPoints:
    """Return the distinct points of all chunks."""
    # Rows that found nothing new are not stored, so the rows at each point cannot be counted.
    return unique(FixedPoints.concatenate(parts)).compact().replace(hits=None)
