"""Where eigenvalues pass, interpolated from points on both sides, to the last digits."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Shaped

from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import on_curve
from slowpoints._arclength.spectra import extreme_slopes, growth, spectra

_AROUND = {8: (1e-3, 1e-4, 1e-5), 4: (3e-2, 3e-3)}
"""An event is interpolated from points of the curve up to this arclength from it (in float64 and
float32). Nearer by, where two curves cross, the equations are nearly singular, and points less
precise. Where it is not precise, as next to a kink or another event, closer points are tried."""

_PRECISE = 1e-11
"""An event that is known to this part of the span is not interpolated from closer points."""

_MARGIN = 8
"""What is left to rounding is taken to be larger than it seems by this factor."""

_NODES = np.cos(np.pi * (np.arange(6) + 0.5) / 6)
"""Where these points are, from -1 to 1: the polynomial through them is good to the sixth
power of their distance."""

_DEGREES = 5, 3
"""Of that polynomial, and of another one, which says how precise it is."""

_NEARLY_CROSSES = 1e-2
"""Folds with smaller deficits of rank are looked at more closely."""

_CROSSES = {8: 1e-6, 4: 1e-2}
"""Curves cross where the deficit of rank is below this (in float64 and float32). It is in
proportion to the distance from the crossing, of which the place is known to about 1e-9."""


class StabilityChange(NamedTuple):
    """A change of stability on a curve.

    Attributes:
        kind: `"fold"`, `"branch_point"`, `"flip"`, `"neimark_sacker"`, `"hopf"` or
            `"border_collision"`.
        chain: on which of the curves.
        place: after which of its points, as a number with a fraction.
        y: `[d + 1]` the point.
        eigval: the eigenvalue that crosses; NaN where eigenvalues jump.
        width: by how much `s`, as a part of the span, may be off.
        along: `[d + 1]` the unit vector along the curve.
        turns: whether the curve turns back in `s`.
        indices: the index on both sides.
    """

    kind: str
    chain: int
    place: float
    y: Float[np.ndarray, " d1"]
    eigval: complex
    width: float
    along: Float[np.ndarray, " d1"]
    turns: bool
    indices: tuple[int, int]


def with_precise_places(
    curve: Curve, events: list[StabilityChange], n_leading: int
) -> list[StabilityChange]:
    """Interpolate where an eigenvalue passes, from points of its curve on both sides.

    Pieces are divided where an eigenvalue is outside by more than rounding, not where it passes.
    """
    rows = [i for i, event in enumerate(events) if np.isfinite(event.eigval)]  # not at kinks
    scales = _AROUND[curve.origin.dtype.itemsize]
    found = list(events)
    for i in rows:  # what is known if no interpolation succeeds
        width = max(events[i].width, scales[0] * abs(float(events[i].along[-1])))
        found[i] = events[i]._replace(width=width)
    for around in scales:
        rows = [i for i in rows if found[i].width > _PRECISE]
        if not rows:
            break
        closer = _interpolated_events(curve, [events[i] for i in rows], around, n_leading)
        for i, event in zip(rows, closer, strict=True):
            if event is not None and event.width < found[i].width:
                found[i] = event
    return [event._replace(width=event.width + float(curve.rounding(event.y))) for event in found]


def _interpolated_events(
    curve: Curve, events: list[StabilityChange], around: float, n_leading: int
) -> list[StabilityChange | None]:
    """Return each event as points of its curve up to `around` from it tell, if they do."""
    y = np.array([event.y for event in events])[:, None]
    along = np.array([event.along for event in events])[:, None]
    guess = (y + around * _NODES.astype(y.dtype)[:, None] * along).reshape(-1, y.shape[-1])
    normal = np.broadcast_to(along, (len(y), len(_NODES), y.shape[-1])).reshape(guess.shape)
    nearby = on_curve(curve, guess, normal)
    eigvals = spectra(curve, nearby.y, n_leading).eigvals
    found: list[StabilityChange | None] = []
    for k, event in enumerate(events):
        part = slice(k * len(_NODES), (k + 1) * len(_NODES))
        points = nearby.y[part], nearby.tangent[part], eigvals[part]
        is_known = nearby.is_on_curve[part].all()
        found.append(_interpolated(event, *points, around, curve.is_flow) if is_known else None)
    return found


def _interpolated(
    event: StabilityChange,
    y: Float[np.ndarray, "nodes d1"],
    tangent: Float[np.ndarray, "nodes d1"],
    eigvals: Complex[np.ndarray, "nodes m"],
    around: float,
    is_flow: bool,
) -> StabilityChange | None:
    """Return where all eigenvalues that pass do so, each at one place, or where the curve turns."""
    if event.turns:
        passing, tests = eigvals[:, :0], tangent[:, -1:]
    else:
        passing = eigvals[:, min(event.indices) : max(event.indices)]
        tests = growth(passing, is_flow)
    zeros = [zero for zero in map(_zero_of, tests.T) if zero is not None]
    if not zeros or len(zeros) < tests.shape[1]:
        return None
    low = min(zero - error for zero, error in zeros)
    high = max(zero + error for zero, error in zeros)
    at = 0.5 * (low + high)
    place, other = (_value_at(at, y, degree).astype(y.dtype) for degree in _DEGREES)
    width = 0.5 * (high - low) * around * abs(float(event.along[-1])) + abs(place - other)[-1]
    value = _value_at(at, passing[:, 0], _DEGREES[0]) if passing.size else event.eigval
    eigval = complex(value.real, abs(value.imag))
    return event._replace(y=place, eigval=eigval, width=float(width))


def with_crossings(
    curve: Curve, events: list[StabilityChange], n_leading: int
) -> list[StabilityChange]:
    """Let folds at which the slopes are linearly dependent be branch points.

    Several branches may cross at one point. Next to it, eigenvalues are imprecise, and the index
    may seem to change where a branch turns back, as at a fold.
    """
    folds = [i for i, event in enumerate(events) if event.kind == "fold"]
    if not folds:
        return events
    events = list(events)
    largest, smallest = extreme_slopes(curve, np.array([events[i].y for i in folds])).T
    for i, slope in zip(folds, smallest, strict=True):
        # Where the equations change little, their rounding moves a fold by more.
        rounding = float(curve.rounding(events[i].y) / slope)
        events[i] = events[i]._replace(width=events[i].width + rounding)
    near = np.array(folds)[smallest <= _NEARLY_CROSSES * largest].tolist()
    if not near:
        return events
    as_crossings = [events[i]._replace(kind="branch_point") for i in near]
    as_crossings = with_precise_places(curve, as_crossings, n_leading)
    largest, smallest = extreme_slopes(curve, np.array([event.y for event in as_crossings])).T
    crosses = smallest <= _CROSSES[curve.origin.dtype.itemsize] * largest
    for i, event, is_one in zip(near, as_crossings, crosses, strict=True):
        events[i] = event if is_one else events[i]
    return events


def _zero_of(test: Float[np.ndarray, " nodes"]) -> tuple[float, float] | None:
    """Return where the polynomial through the values at `_NODES` is 0, if at one place.

    And how far off it may be, as a polynomial of a lower degree tells that leaves some freedom to
    them: by as much as its zero is, and as rounding makes of how far it is from the values.
    """
    if not np.isfinite(test).all():
        return None
    fits = [np.polynomial.Chebyshev.fit(_NODES, test, n, domain=[-1, 1]) for n in _DEGREES]
    zeros = [fit.roots() for fit in fits]
    zeros = [roots[np.isreal(roots) & (np.abs(roots) < 1)].real for roots in zeros]
    if [len(roots) for roots in zeros] != [1, 1]:
        return None
    zero, other = (float(roots[0]) for roots in zeros)
    slope = abs(float(fits[1].deriv()(zero)))
    astray = float(np.abs(fits[1](_NODES) - test).max())
    return None if slope == 0 else (zero, abs(zero - other) + _MARGIN * astray / slope)


def _value_at(at: float, values: Shaped[np.ndarray, "nodes *m"], degree: int) -> Any:
    """Return the polynomials of some degree through values at the nodes, at one place."""
    fits = np.polynomial.chebyshev.chebfit(_NODES, values, degree)
    return np.polynomial.chebyshev.chebval(at, fits)


def closest(beyond: np.ndarray) -> Any:
    """Return which value along the last axis is nearest to 0: any if none is known, but all NaN."""
    return np.where(np.isnan(beyond), np.inf, np.abs(beyond)).argmin(axis=-1)


def nearest(values: np.ndarray, is_flow: bool) -> complex:
    """Return the eigenvalue nearest to where stability changes; of a pair the upper one."""
    value = complex(values[closest(growth(values, is_flow))])
    return complex(value.real, abs(value.imag))
