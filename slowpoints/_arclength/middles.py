"""Points of curves in the middle of their steps."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import on_curve
from slowpoints._arclength.steps import hermite

_MOST_ASTRAY = 0.1
"""A cubic through two points of a curve, with its tangents, is closer to it than this part of their
distance where they are close enough to each other."""


def middles(
    curve: Curve, chains: list[Chain], steps: list[tuple[int, int]]
) -> tuple[Any, Bool[np.ndarray, " n"]]:
    """Return points of curves in the middle of some steps, and which of them can be trusted.

    Args:
        curve: the equations.
        chains: the curves.
        steps: for each step the number of the curve, and of the point where it begins.
    """
    d1 = chains[0].y.shape[1]
    y0, y1, t0, t1 = (
        np.array([getattr(chains[number], name)[k + side] for number, k in steps]).reshape(-1, d1)
        for name in ("y", "tangent")
        for side in (0, 1)
    )
    length = np.linalg.norm(y1 - y0, axis=1)
    chord = (y1 - y0) / length[:, None]
    half = np.full((len(steps), 1), 0.5, y0.dtype)
    guess = hermite(half, (y0, y1), (t0, t1))
    found = on_curve(curve, guess, chord)
    # Where curves come close, Newton's method may end on the other one.
    strays = np.linalg.norm(found.y - guess, axis=1) > _MOST_ASTRAY * length
    turned = (np.sum(found.tangent * t0, axis=1) < 0) | (np.sum(found.tangent * t1, axis=1) < 0)
    return found, found.is_on_curve & ~strays & ~turned
