"""`line_attractor`: a curve through slow points, and the dynamics along it."""

import warnings
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.through_points import (
    LEAST_POINTS,
    Curve,
    Order,
    arclength,
    order_along,
    projected,
    smooth,
)
from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._core.units import relative_units
from slowpoints._linear_algebra.linear_dynamics import count_growing, lasting
from slowpoints._linear_algebra.signs import heard_in_points
from slowpoints._modes.linear_modes import LinearModes, linear_modes
from slowpoints._modes.slow_manifold import slow_part, slowest_axis
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.own_units import directions_of_states, in_units

MOST_POINTS = 4096
"""Of more points, the distances between all of them would take more than a gigabyte."""

THIN = 0.12
"""Points are on a curve if the curve through its neighbours misses a typical point by at most this
fraction of the spread of all points. A sheet, disc or cloud of 20 points or more is missed by 0.14
or more, and a line or ring with noise of 3 % of its spread by up to 0.09."""

_ALONG = 45.0
"""In degrees: a slowest mode that is further from the tangent than this does not lie along it."""

_ROUNDING_OF_DRIFT = 10
"""Steps are known up to so many units in the last place of the states."""

_ROUNDINGS = 2
"""Points are at one place if they differ by so many units in the last place of the states."""


class LineAttractor(eqx.Module):
    """A curve through slow points: see [`line_attractor`][slowpoints.line_attractor].

    `n` points in their order along the curve, `N` states. Times are in units of `dt`. Lengths,
    the angle and the drift are in states of the largest entries if others are smaller by a factor
    of more than 1,024.

    Attributes:
        points: the points, in their order along the curve.
        rows: `[n]` which rows of `fps` these are.
        arclength: `[n]` how far along the curve each point is, from 0.
        length: the length of the curve; of a ring, all around.
        is_closed: whether the curve is a ring. It then starts after its largest gap.
        curve: `[n, N]` the point of the smooth curve that belongs to each point.
        tangent: `[n, N]` the direction of the curve there, of norm 1, towards its end.
        residual: `[n]` the distance of each point from the curve.
        is_on_curve: `[n]` whether that is at most 0.12 times the spread of all points. Single
            points that are not on the curve do not draw it aside.
        direction: `[n, N]` the right eigenvector of the slowest mode, of norm 1, on the side of the
            tangent; of a complex pair, the longer axis of its plane.
        selection: `[n, N]` the selection vector of the slowest mode, with the same sign: what moves
            the state along the line. NaN if the mode is one of a complex pair.
        angle: `[n]` the angle between the tangent and the right eigenvector, or the plane, of the
            slowest mode, in degrees from 0 to 90.
        time_constant: `[n]` of the slowest mode; negative if deviations grow.
        drift: `[n]` how fast the state moves along the curve, in states per unit of time, once the
            faster modes have decayed: what the slowest mode reads of a step (or of `f`), over what
            it reads of the tangent. Where it changes from positive to negative the state comes to
            rest, and where it changes from negative to positive it leaves. Points are next to the
            curve on which states stay, rather than on it. A step first takes them there, and where
            modes are not orthogonal this moves them along the curve as well: the projection of a
            step on the tangent is another number. That is what it is where the angle is above 45
            degrees, and where the slowest mode is defective. NaN where the points near by leave
            open which way the curve goes: `tangent` and `angle` are NaN there, too.
        thickness: by how much the curve through its neighbours misses a typical point, as a
            fraction of the spread of all points (the root mean square of their distances from their
            mean).
        is_one_dimensional: whether that is little, so that the points are on a curve.
        longest: `[n]` how long modes last, at least, that rounding does not tell from neutral ones;
            from the precision of the Jacobians.
        dt: how long a step takes.
    """

    points: FixedPoints
    rows: Int[np.ndarray, " n"]
    arclength: Float[np.ndarray, " n"]
    length: float
    is_closed: bool
    curve: Float[np.ndarray, "n d"]
    tangent: Float[np.ndarray, "n d"]
    residual: Float[np.ndarray, " n"]
    is_on_curve: Bool[np.ndarray, " n"]
    direction: Float[np.ndarray, "n d"]
    selection: Float[np.ndarray, "n d"]
    angle: Float[np.ndarray, " n"]
    time_constant: Float[np.ndarray, " n"]
    drift: Float[np.ndarray, " n"]
    thickness: float
    is_one_dimensional: bool
    longest: Float[np.ndarray, " n"]
    dt: float = 1.0

    def __str__(self) -> str:
        kind = "ring" if self.is_closed else "line"
        text = "" if self.is_one_dimensional else "The points are not on a curve. "
        on = self.is_on_curve.copy() if self.is_on_curve.any() else np.ones(self.points.n, bool)
        text += (
            f"A {kind} of length {self.length:.3g} through {self.is_on_curve.sum()} of "
            f"{self.points.n} points"
        )
        on &= np.isfinite(self.angle)  # through far too few points, a curve has no direction
        if not on.any():
            return f"{text}. Its direction is known at none of these."
        angle = self.angle[on]
        lasts = lasting(float(np.median(np.abs(self.time_constant[on]))), self.longest[on].min())
        n_grow = count_growing(self.time_constant[on], self.longest[on])
        modes = f"These modes last {lasts} (median)"
        if n_grow:
            modes = (
                f"Deviations along these modes grow at {n_grow} of {on.sum()} points and decay at "
                f"the others; the median of both kinds of time constants is {lasts}"
            )
        time = "step" if self.dt == 1 and not self.points.continuous_time else "unit of time"
        text = (
            f"{text}, which are at most {self.residual[on].max():.2g} away from it. Angle "
            f"between its tangent and the slowest mode: median {np.median(angle):.1f} degrees, at "
            f"most {angle.max():.1f}. {modes}. States drift along it by up to "
            f"{np.abs(self.drift[on]).max():.2g} per {time}."
        )
        if n_rests := self._n_rests():
            text += f" They come to rest at {n_rests} place{'s' * (n_rests > 1)} along it."
        unknown = int(np.sum(np.isnan(self.drift)))
        if unknown:
            text += (
                f" The direction of the curve, and with it the angle and the drift (NaN), is not "
                f"known at {unknown} of the {self.points.n} points."
            )
        return text

    def _n_rests(self) -> int:
        """Return at how many places the drift falls through 0, which are memories."""
        known = self.is_on_curve & np.isfinite(self.drift)
        # Less is rounding, as on a line of fixed points.
        eps = float(np.finfo(self.points.xstar.dtype).eps)
        least = _ROUNDING_OF_DRIFT * eps * float(np.abs(self.curve).max(initial=0.0)) / self.dt
        side = np.sign(self.drift[known])[np.abs(self.drift[known]) > least]
        ahead = np.roll(side, -1) if self.is_closed else np.append(side[1:], side[-1:])
        return int(np.sum((side > 0) & (ahead < 0)))


def line_attractor(
    fps: FixedPoints,
    *,
    toward: Float[RealArray, " n_states"] | None = None,
    dt: Number = 1.0,
) -> LineAttractor:
    """Fit a curve through slow points, and compare it with the dynamics at each of them.

    On a line attractor, the slowest mode points along the line, lasts long, and the state hardly
    drifts (Mante et al. 2013, fig. 5 and 6; Sussillo & Barak 2013). This function measures at each
    point how far this is true.

    Points are ordered along the longest path of their minimum spanning tree, which follows lines
    that bend in any dimension. If its ends are next to each other, the points are on a ring. The
    curve at each point is a parabola that is fitted to its neighbours. Points of the tree's
    branches are at first where their branch leaves the path; then all points are projected onto the
    curve, which is fitted anew in the order that results. Whether the points are on a
    curve at all is measured by how far the curve through its neighbours misses each point.

    Lengths, the angle and the drift are Euclidean. Only entries of the states that are smaller than
    all others by a factor of more than 1,024, by their largest size among the points and their
    `x_init`, are measured in a unit of their own, the power of two in which they are about as
    large, so that lengths are in states of the largest entries. Positions and vectors of norm 1 are
    those of the states as they are given.

    Args:
        fps: slow points with `xstar`, `F_xstar` and `J_xstar`, all under one input, such as
            `slow_manifold(F, x0, u).points`. Invalid rows do not count.
        toward: `[n_states]` what a line runs towards, such as a column of the readout. By default
            the largest entry of the way from its first point to its last is positive. A ring always
            runs counter-clockwise in the plane of its first two principal components, whose largest
            entries are positive.
        dt: how long a step takes (in continuous time, a unit of time of `f`), for times and rates.

    Returns:
        The curve, and at each point its tangent, the slowest mode, the angle between the two, and
        the drift along the curve.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a field is missing or not finite, if there are fewer than 5 valid rows or
            more than 4096, if they are at fewer than 5 places or all at one to rounding, or if they
            differ in their inputs or conditions.

    Warns:
        UserWarning: if the points are not on a curve.
    """
    caller = "line_attractor"
    arguments.fields(caller, fps, FixedPoints, "xstar", "F_xstar", "J_xstar")
    dt = float(arguments.positive(caller, "dt", dt))
    if toward is not None:
        toward = arguments.direction(caller, toward, fps.n_states, fps.n_inputs)
    rows, fps = _checked_rows(caller, fps)
    unit = relative_units(fps.xstar, fps.x_init, heard=heard_in_points(fps))
    toward = None if toward is None else unit * np.asarray(toward, np.float64)
    x = fps.xstar.astype(np.float64) / unit
    spread = _checked_spread(caller, fps, x)
    # Ties between distances are broken by the points, and not by the order of the rows.
    by_value = np.lexsort(x.T)
    rows, fps, x = rows[by_value], fps[by_value], x[by_value]
    thickness, places = _places_along(x, spread)
    curve, is_on_curve = _fitted(x, places, thickness, spread)
    if thickness <= THIN and LEAST_POINTS <= is_on_curve.sum() < len(x):
        places = _places_without(x, ~is_on_curve, spread)
    along, order = _in_our_order(x, places, toward)
    rows, fps, x = rows[along], fps[along], x[along]
    curve, is_on_curve = _fitted(x, order, thickness, spread)
    if thickness > THIN:
        warnings.warn(
            f"{caller}: the {len(rows)} points are not on a curve: one through its neighbours "
            f"misses a typical point by {thickness:.0%} of the spread of all. They may be on a "
            "surface, or too far apart.",
            stacklevel=2,
        )
    return LineAttractor(
        points=fps,
        rows=rows,
        arclength=order.place,
        length=order.length,
        is_closed=order.is_closed,
        curve=unit * curve.position,
        tangent=directions_of_states(curve.tangent, unit)[0],
        residual=_away(x, curve),
        is_on_curve=is_on_curve,
        **_dynamics_along(curve, in_units(fps, unit), unit, dt),
        thickness=thickness,
        is_one_dimensional=thickness <= THIN,
        dt=dt,
    )


def _checked_rows(caller: str, fps: FixedPoints) -> tuple[Int[np.ndarray, " n"], FixedPoints]:
    """Return which rows are valid, and these, under one input and with finite numbers."""
    rows = np.arange(fps.n) if fps.valid is None else np.flatnonzero(np.asarray(fps.valid))
    if not LEAST_POINTS <= len(rows) <= MOST_POINTS:
        expected = (
            f"{LEAST_POINTS} to {MOST_POINTS}: `slow_manifold` finds points along a line, and "
            "`unique` with a larger `tol` leaves fewer"
        )
        arguments.refuse(caller, "fps", f"has {len(rows)} valid rows", expected, ValueError)
    fps = fps.to_numpy()[rows]
    arguments.array(caller, "fps.xstar", fps.xstar, ("n", "n_states"), floating=True)
    for name in ("xstar", "F_xstar", "J_xstar"):
        arguments.check_finite(caller, f"fps.{name}", getattr(fps, name))
    arguments.array(caller, "fps.F_xstar", fps.F_xstar, fps.xstar.shape)
    for name in ("inputs", "cond_id"):
        value = getattr(fps, name)
        if value is not None and np.any(value != value[0]):
            expected = "points under one input: one curve each"
            arguments.refuse(caller, f"fps.{name}", "differ", expected, ValueError)
    return rows, fps


def _checked_spread(caller: str, fps: FixedPoints, x: Float[np.ndarray, "n d"]) -> float:
    """Return the root mean square distance of states, in units, from their mean."""
    with np.errstate(over="ignore"):
        spread = float(np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1))))
    if not np.isfinite(spread):
        was = f"has states of up to {np.abs(x).max():.2g}"
        arguments.refuse(caller, "fps.xstar", was, "states whose squares are finite", ValueError)
    rounding = _ROUNDINGS * np.finfo(fps.xstar.dtype).eps * np.linalg.norm(x, axis=1).max()
    if spread <= rounding:
        was = "has all rows at one place, to rounding"
        arguments.refuse(caller, "fps", was, "a line of them", ValueError)
    n_places = len(np.unique(x, axis=0))
    if n_places < LEAST_POINTS:
        was = f"has rows at {n_places} places only"
        arguments.refuse(caller, "fps", was, f"rows at {LEAST_POINTS} or more", ValueError)
    return spread


def _places_along(x: Float[np.ndarray, "n d"], spread: float) -> tuple[float, Order]:
    """Return by how much a curve misses a typical point, in spreads, and where along it all are."""
    first = order_along(x)
    by_length = arclength(smooth(x, first), first)
    curve = smooth(x, by_length)
    # Before points are projected, by which a curve winds its way to those of a sheet, too.
    thickness = float(np.median(_missed(x, curve))) / spread
    onto_curve = projected(x, curve, by_length)
    return thickness, arclength(smooth(x, onto_curve), onto_curve)


def _places_without(
    x: Float[np.ndarray, "n d"], aside: Bool[np.ndarray, " n"], spread: float
) -> Order:
    """Return where points are along a curve that does not pass through those aside of it.

    Each of these is where the nearest other point is.
    """
    _, places = _places_along(x[~aside], spread)
    place = np.empty(len(x))
    place[~aside] = places.place
    apart = np.linalg.norm(x[aside][:, None] - x[~aside], axis=2)
    place[aside] = places.place[apart.argmin(axis=1)]
    return places._replace(place=place)


def _in_our_order(
    x: Float[np.ndarray, "n d"], places: Order, toward: Float[RealArray, " d"] | None
) -> tuple[Int[np.ndarray, " n"], Order]:
    """Return the numbers of the points in order along the curve, and their places in this order."""
    along = np.argsort(places.place, kind="stable")
    if _runs_backwards(x[along], places.is_closed, toward):
        along = along[::-1]
        places = places._replace(place=places.place.max() - places.place)
    return along, places._replace(place=places.place[along])


def _fitted(
    x: Float[np.ndarray, "n d"], order: Order, thickness: float, spread: float
) -> tuple[Curve, Bool[np.ndarray, " n"]]:
    """Return the curve through points in order, and which of them are on it."""
    curve = smooth(x, order)
    is_on_curve = _away(x, curve) <= THIN * spread
    if thickness <= THIN and not is_on_curve.all():
        curve = smooth(x, order, is_on_curve)  # not drawn aside by single points
        is_on_curve = _away(x, curve) <= THIN * spread
    return curve, is_on_curve


def _dynamics_along(
    curve: Curve, own: FixedPoints, unit: Float[np.ndarray, " d"], dt: float
) -> dict[str, Any]:
    """Return the fields of `LineAttractor` that compare a curve with the dynamics at its points."""
    modes = linear_modes(own, dt=dt)
    direction = slowest_axis(modes)
    side = np.where(np.einsum("nd,nd->n", direction, curve.tangent) < 0, -1.0, 1.0)[:, None]
    basis, _ = np.linalg.qr(np.where(modes.is_real[:, None, None], 0, modes.plane))
    in_plane = np.linalg.norm(np.einsum("ndk,nd->nk", basis, curve.tangent), axis=1)
    cosine = np.where(
        modes.is_real, np.abs(np.einsum("nd,nd->n", direction, curve.tangent)), in_plane
    )
    angle = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    direction, longer = directions_of_states(side * direction, unit)
    return {
        "direction": direction,
        "selection": side * modes.selection / unit / longer,
        "angle": angle,
        "time_constant": modes.time_constants[:, 0],
        "longest": modes.longest,
        "drift": _drift(own, modes, curve.tangent, angle) / dt,
    }


def _drift(
    own: FixedPoints,
    modes: LinearModes,
    tangent: Float[np.ndarray, "n d"],
    angle: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Return how far a step moves along the curve what is left of it when faster modes are gone."""
    moved = own.F_xstar.astype(np.float64) - own.xstar
    of_step, of_tangent = (slow_part(modes, vectors) for vectors in (moved, tangent))
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.sum(of_step * of_tangent, axis=1) / np.sum(of_tangent**2, axis=1)
    on_tangent = np.einsum("nd,nd->n", moved, tangent)
    # Across the curve, the mode reads next to nothing of the tangent, and the ratio says nothing.
    return np.where((angle > _ALONG) | ~np.isfinite(along), on_tangent, along)


def _away(x: Float[np.ndarray, "n d"], curve: Curve) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(x - curve.position, axis=1)


def _missed(x: Float[np.ndarray, "n d"], curve: Curve) -> Float[np.ndarray, " n"]:
    """Return how far the curve would be from each point if this had not drawn it to itself."""
    return _away(x, curve) / np.maximum(1 - curve.own_weight, np.finfo(float).eps)


def _runs_backwards(
    x: Float[np.ndarray, "n d"], is_closed: bool, toward: Float[RealArray, " d"] | None
) -> bool:
    """Return whether points that are in order along a curve are in the opposite of our order."""
    if is_closed:
        _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        axes = axes[:2]
        largest = np.argmax(np.abs(axes), axis=1)
        axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
        a, b = ((x - x.mean(axis=0)) @ axes.T).T
        return bool(np.sum(a * np.roll(b, -1) - b * np.roll(a, -1)) < 0)  # twice the area
    way = x[-1] - x[0]
    return bool((way[np.argmax(np.abs(way))] if toward is None else way @ toward) < 0)
