"""Krawczyk's test: boxes that are proven to hold exactly one fixed point.

With `g(x) = x - F(x)` and any matrix `C`, the map `T(x) = x - C g(x)` has the fixed points of `F`
for its own if `C` is regular. Over a box of radius `r` around `c` (in the maximum norm), `T`
contracts by `L = max ||I - C (I - S)||` over the slopes `S` of `F`; so where `L < 1` there is at
most one fixed point, and where also `|C g(c)| + L r <= r` there is one (Krawczyk 1969; Rump 2010,
"Verification methods", section 13). `L < 1` implies that `C` is regular.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import Enclosing
from slowpoints._linear_algebra.signs import inverses

_NEWTON_STEPS = 12
"""From states of a search Newton's method takes two or three steps, and near folds, where each one
halves the distance, some more."""

_FIRST_RADIUS = 1e-3
"""Boxes of this radius, relative to the state, are tried first. Which one does not matter much,
since the next one is chosen by how much that one contracts."""

_LEAST_RADIUS = 1e-12
"""A box of this radius, relative to the state, is wide enough for the rounding of its centre."""

_ROUNDS = 8
"""So many boxes are tried for the largest one that contracts. Each changes the radius by as much as
a factor of 1000, so they get from the first to any radius that float64 can tell from zero."""

_ENOUGH = 0.9
"""The contraction aimed at: half of the rest to 1 is for the box's own rounding errors."""


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Boxes around states, one for each row, and what is proven about them.

    Attributes:
        centre: `[n, n_states]` the states after Newton's method, in float64.
        exists: `[n]` whether each row's inner box holds a fixed point.
        inner: `[n]` the radius of a box that holds it; infinite if there is none.
        outer: `[n]` the radius of a box that holds no other; 0 if there is none.
        slope: `[n, n_states, n_states]` the slopes of `F` over the inner boxes.
        is_singular: `[n]` whether `I - J` is singular as far as float64 can tell.
        is_differentiable: `[n]` whether there is a finite bound of the slopes at the centre.
    """

    centre: Float[np.ndarray, "n n_states"]
    exists: Bool[np.ndarray, " n"]
    inner: Float[np.ndarray, " n"]
    outer: Float[np.ndarray, " n"]
    slope: Ball
    is_singular: Bool[np.ndarray, " n"]
    is_differentiable: Bool[np.ndarray, " n"]


def boxes_around(program: Enclosing, x: Float[np.ndarray, "n n_states"]) -> Boxes:
    """Return boxes around the fixed points that Newton's method reaches from `x`."""
    centre, inverse = _newton(program, x)
    step = _step_size(program, centre, inverse)
    best, best_contraction = _largest_contracting(program, centre, inverse)
    inner = _reach(step, best_contraction, best)
    exists = np.isfinite(inner)
    # Once more in the smaller box, where slopes vary less and less is lost.
    contraction, slope = _contraction(program, centre, inverse, np.where(exists, inner, 0.0))
    with np.errstate(all="ignore"):
        tighter = step / (1 - contraction) * (1 + 2.0**-40)
    inner = np.where(exists & (contraction < 1) & (tighter < inner), tighter, inner)
    return Boxes(
        centre=centre,
        exists=exists,
        inner=inner,
        outer=best,
        slope=slope,
        is_singular=~np.isfinite(inverse).all(axis=(1, 2)),
        is_differentiable=np.isfinite(slope.magnitude).all(axis=(1, 2)),
    )


def settled(
    program: Enclosing, candidates: Ball
) -> tuple[Float[np.ndarray, "n n_states"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Decide about boxes of which it is not known how many fixed points they hold.

    Args:
        program: the network, for as many rows as there are candidates.
        candidates: `[n, n_states]` the boxes.

    Returns:
        Where the fixed points are; by how much their entries may differ from that; and the radii of
        boxes around these states that hold no other fixed point and all of the candidate, or 0 for
        candidates that remain open.
    """
    centre, inverse = _newton(program, candidates.mid)
    reach = np.max(np.abs(centre - candidates.mid) + candidates.radius, axis=1, initial=0)
    reach = reach * (1 + 2.0**-40)
    # Twice as large, so that it also holds what Newton's method finds from the boxes next to it.
    outer = np.maximum(2 * reach, _LEAST_RADIUS * (1 + np.abs(centre).max(axis=1, initial=0)))
    contraction, _ = _contraction(program, centre, inverse, outer)
    inner = _reach(_step_size(program, centre, inverse), contraction, outer)
    is_open = ~np.isfinite(inner)
    if is_open.any():
        # A box of another size may do, such as a smaller one where slopes vary much.
        boxes = boxes_around(program, candidates.mid)
        off = np.max(np.abs(boxes.centre - candidates.mid) + candidates.radius, axis=1, initial=0)
        better = is_open & boxes.exists & (off * (1 + 2.0**-40) <= boxes.outer)
        centre = np.where(better[:, None], boxes.centre, centre)
        inner, outer = (
            np.where(better, theirs, own)
            for theirs, own in ((boxes.inner, inner), (boxes.outer, outer))
        )
    return centre, inner, np.where(np.isfinite(inner), outer, 0.0)


def _step_size(
    program: Enclosing,
    centre: Float[np.ndarray, "n n_states"],
    inverse: Float[np.ndarray, "n n_states n_states"],
) -> Float[np.ndarray, " n"]:
    """Return a bound of how far `T` moves the centre, in the maximum norm."""
    there = Ball(centre)
    residual = there - program.value(there)
    step = matmul(Ball(inverse), residual.map(lambda a: np.asarray(a)[..., None]))
    return np.max(step.magnitude, axis=(1, 2))


def _reach(
    step: Float[np.ndarray, " n"],
    contraction: Float[np.ndarray, " n"],
    radius: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Return how far from the centre the fixed point is at most; infinite if none is proven.

    Args:
        step: how far `T` moves the centre.
        contraction: by how much `T` contracts over a box.
        radius: of this radius.
    """
    with np.errstate(all="ignore"):
        inner = step / (1 - contraction) * (1 + 2.0**-40)
        exists = (radius > 0) & ((step + contraction * radius) * (1 + 2.0**-40) < radius)
        return np.where(exists, np.minimum(inner, radius), np.inf)


def _newton(program: Enclosing, x: Float[np.ndarray, "n n_states"]) -> tuple[Any, Any]:
    """Return where Newton's method ends, and approximate inverses of `I - J` there.

    Only a guess: what is proven does not depend on it.
    """
    size = np.linalg.norm(x, axis=1) + 1
    step_size = np.full(len(x), np.inf)
    best, inverse = x, np.zeros((*x.shape, x.shape[1]))
    for _ in range(_NEWTON_STEPS):
        value, slope = program.linearised(Ball(best))
        inverse = inverses(np.eye(x.shape[1]) - slope.mid)
        step = np.einsum("nij,nj->ni", inverse, value.mid - best)
        length = np.linalg.norm(step, axis=1)
        goes_on = (length < step_size) & (length > 1e-15 * size)
        best = np.where(goes_on[:, None], best + step, best)
        step_size = np.where(goes_on, length, step_size)
        if not np.any(goes_on & (length > 1e-9 * size)):
            break
    return best, inverse


def _contraction(
    program: Enclosing,
    centre: Float[np.ndarray, "n n_states"],
    inverse: Float[np.ndarray, "n n_states n_states"],
    radius: Float[np.ndarray, " n"],
) -> tuple[Any, Ball]:
    """Return how much `T` contracts over boxes of this radius, and the slopes of `F` there."""
    eye = Ball(np.eye(centre.shape[1]))
    box = Ball(centre, np.broadcast_to(radius[:, None], centre.shape))
    _, slope = program.linearised(box)
    return _row_sums(eye - matmul(Ball(inverse), eye - slope)), slope


def _largest_contracting(
    program: Enclosing,
    centre: Float[np.ndarray, "n n_states"],
    inverse: Float[np.ndarray, "n n_states n_states"],
) -> tuple[Any, Any]:
    """Return the largest radii found at which `T` contracts, and by how much it does there."""
    least, _ = _contraction(program, centre, inverse, np.zeros(len(centre)))
    radius = _FIRST_RADIUS * (1 + np.abs(centre).max(axis=1))
    best, best_contraction = np.zeros(len(centre)), np.full(len(centre), np.inf)
    for _ in range(_ROUNDS):
        contraction, _ = _contraction(program, centre, inverse, radius)
        better = (contraction < 1) & (radius > best)
        best = np.where(better, radius, best)
        best_contraction = np.where(better, contraction, best_contraction)
        with np.errstate(all="ignore"):
            # The contraction grows about linearly with the radius.
            factor = (_ENOUGH - least) / (contraction - least)
        factor = np.where(np.isfinite(contraction), factor, 1e-3)
        factor = np.clip(np.nan_to_num(factor, nan=1e-3), 1e-3, 1e3)
        if np.all((factor > 0.8) & (factor < 1.25) & (best > 0) | (least >= 1)):
            break
        radius = np.clip(radius * factor, 1e-300, 1e100)
    return best, best_contraction


def _row_sums(ball: Ball) -> Any:
    """Return a bound of the maximum norm of each matrix."""
    sums = Ball(ball.magnitude).sum((2,))
    return np.max(sums.magnitude, axis=1)
