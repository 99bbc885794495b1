"""All fixed points of a piecewise-linear network, region by region."""

from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.krawczyk import settled
from slowpoints._intervals.regions import Regions
from slowpoints._linear_algebra.signs import inverses
from slowpoints._network.base import Transition

_MOST_KINKS = 16
"""2^16 regions take a few seconds."""

_MOST_SLOPES = 2**20
"""Regions are looked at in chunks with no more slopes than this, of 8 MB. The interpreter holds
some thirty such arrays at a time."""

_LINEAR = 1e-9
"""Slopes that vary less than this over a whole box, with each unit on one side of its kink, are
those of an affine map, but for rounding."""


def by_regions(
    F: Transition, u: Float[np.ndarray, " n_inputs"], low: Any, high: Any, most: Any, margin: Any
) -> tuple[list[Any], list[Any]] | None:
    """Find all fixed points in a box, if the network is piecewise linear with few kinks.

    In each region, where no unit crosses its kink, the network is affine and has one fixed point,
    which counts if it is in the region.

    Args:
        F: the network.
        u: `[n_inputs]` the input.
        low: `[n_states]` the lowest state.
        high: `[n_states]` the highest.
        most: look at no more regions than this.
        margin: `[n_states]` by how much boxes reach beyond what is known of the fixed point.

    Returns:
        Boxes, as pairs of ends `[n_states]`, with one fixed point each; and boxes of which that is
        not known. `None` if the network is not piecewise linear, or has too many kinks.
    """
    n_states = low.size
    one_row = EnclosedProgram(F, np.zeros((1, n_states), u.dtype), u[None])

    def prepared(n_rows: int) -> tuple[EnclosedProgram, Ball]:
        program = EnclosedProgram(F, np.zeros((n_rows, n_states), u.dtype), np.tile(u, (n_rows, 1)))
        return program, from_bounds(np.tile(low, (n_rows, 1)), np.tile(high, (n_rows, 1)))

    n_rows = one_row.free_length(1)
    probe = Regions(np.zeros((n_rows, 0), bool))
    program, box = prepared(n_rows)
    try:
        with probe.in_force():
            _, slope = program.linearised(box)
    except NotCovered:
        return None
    n_kinks = probe.n_kinks
    if not 0 < n_kinks <= _MOST_KINKS or 2**n_kinks > most:
        return None
    if not np.all(slope.radius < _LINEAR):
        return None
    n_rows = one_row.free_length(min(2**n_kinks, _MOST_SLOPES // n_states**2))
    program, box = prepared(n_rows)
    single, open_boxes = [], []
    for start in range(0, 2**n_kinks, n_rows):
        numbers = np.minimum(np.arange(start, start + n_rows), 2**n_kinks - 1)
        regions = Regions((numbers[:, None] >> np.arange(n_kinks)) % 2 == 0)
        with regions.in_force():
            _, slope = program.linearised(box)
        if not np.all(slope.radius < _LINEAR):
            return None
        image = _fixed_points(box, slope, program, regions)
        first = start + np.arange(n_rows) < 2**n_kinks
        # With a margin in which the fixed point can be computed by other means as well.
        image = Ball(image.mid, image.rad + margin)
        ends = image.bounds()
        known = np.isfinite(image.mid).all(axis=1) & np.isfinite(image.radius).all(axis=1)
        away = np.any((ends[1] < low) | (ends[0] > high), axis=1)
        if not known.all():
            return None  # I - J is singular in a whole region
        with regions.in_force():
            program.linearised(image)  # to see on which side of its kinks each unit is
        holds, fails = regions.verdict()
        for row in np.flatnonzero(first & ~away & holds):
            single.append((ends[0][row], ends[1][row]))
        doubtful = np.flatnonzero(first & ~away & ~holds & ~fails)
        candidates = Ball(image.mid[doubtful], image.rad[doubtful])
        single_too, still_open = _at_kinks(F, u, candidates)
        single += single_too
        open_boxes += still_open
    return single, open_boxes


def _fixed_points(box: Ball, slope: Ball, program: EnclosedProgram, regions: Regions) -> Ball:
    """Return where the fixed point of each region's affine map is."""
    n_states = box.shape[1]
    centre, eye = Ball(box.mid), Ball(np.eye(n_states))
    with regions.in_force():
        there, _ = program.linearised(centre)
    C = Ball(inverses(eye.mid - slope.mid))
    residual = (centre - there).map(lambda a: np.asarray(a)[..., None])
    step = matmul(C, residual)
    # T contracts by L over the box, and a fixed point x in it is within |step| L / (1 - L) of T(c).
    rest = eye - matmul(C, eye - slope)
    L = np.max(np.sum(rest.magnitude, axis=2), axis=1) * (1 + 2.0**-40)
    with np.errstate(all="ignore"):
        size = np.max(step.magnitude, axis=(1, 2))
        reach = np.where(L < 1, size * L / (1 - L) * (1 + 2.0**-40), np.nan)
    end = centre - step.map(lambda a: a[..., 0])
    return Ball(end.mid, (end.rad + reach[:, None]) * (1 + 2.0**-40))


def _at_kinks(F: Transition, u: Any, candidates: Ball) -> tuple[list[Any], list[Any]]:
    """Decide about candidates on the edge between regions, with the slopes of both sides."""
    single, left = [], []
    x = candidates.mid
    if len(x):
        program = EnclosedProgram(F, x.astype(u.dtype), np.tile(u, (len(x), 1)))
        centre, _, outer = settled(program, candidates)
        for state, radius, middle in zip(centre, outer, x, strict=True):
            (single if radius > 0 else left).append(
                (state - radius, state + radius) if radius > 0 else (middle, middle)
            )
    return single, left
