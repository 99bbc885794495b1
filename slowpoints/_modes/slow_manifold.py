"""`slow_manifold`: states spread along lines, rings and surfaces on which a network is slow."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from slowpoints._arclength.through_points import LEAST_POINTS, same_side
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.types import Number, RealArray
from slowpoints._core.units import heard_entries, relative_units, small_entries
from slowpoints._linear_algebra.cores import one_thread_for_lapack
from slowpoints._linear_algebra.linear_dynamics import count_growing, lasting
from slowpoints._modes.linear_modes import SLOW_STEPS, LinearModes, linear_modes
from slowpoints._modes.shortest_steps import ShortestSteps
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.q_fn import q_fn
from slowpoints._network.trace import traced
from slowpoints._network.units import InUnits
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.own_units import directions_of_states, in_units
from slowpoints._points.unique import unique
from slowpoints._search.optimize_batch import optimize_batch
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion

FEW = 0.1
"""Another `q_max` is proposed if there are fewer points than this fraction of the rows, and fewer
than make a curve: the rows have run along the manifold to where it is slowest."""

_LOOKED_AT = 16
"""At so many starts, spread over all, it is seen which small entries are no rounding."""

PARTS = 40
"""Unless told otherwise, points are this fraction of the manifold's extent apart, or more: a line
then has up to 40 points and a ring up to 126, which shows their shape and costs little."""

_ONE_PLACE = 1e-3
"""Rows that are this close, relative to the extent of the starts, are at one place. Those that ran
to one fixed point differ by what `q_max` leaves of their way, which is no manifold."""


class SlowManifold(eqx.Module):
    """Points on a slow manifold: see [`slow_manifold`][slowpoints.slow_manifold].

    `n` points, `N` states. Times are in units of `dt`. Distances and the drift are in states of the
    largest entries if others are smaller by a factor of more than 1,024.

    Attributes:
        points: the points, with Jacobians, eigenvalues and `hits`, the number of rows that each
            stands for. `status` is `WITHIN_TOLERANCE` for states on the manifold where the search
            stopped, and `SLOW_POINT` or `FIXED_POINT` only for what was found to be one.
        direction: `[n, N]` the right eigenvector of each point's slowest mode, of norm 1. The signs
            agree from each point to its neighbours. If the slowest mode is one of a complex pair,
            this is the longer axis of its plane.
        drift: `[n]` how fast the state moves along the direction, in states per unit of time, once
            the faster modes have decayed: what the slowest mode reads of `F(x) - x`, in continuous
            time of `f(x)`. Of a complex pair, and of a defective mode, the product of these with
            the direction.
        time_constant: `[n]` of the slowest mode; negative if deviations grow.
        frequency: `[n]` of the slowest mode, in cycles per unit of time; not 0 if it is one of a
            complex pair.
        spacing: points are more than this far apart, and each row that was kept is within it of
            one of them.
        rows: every row of the search, in the order of `x0`.
        is_kept: which rows are on the manifold, valid and with `q < q_max`.
        longest: `[n]` how long modes last, at least, that rounding does not tell from neutral ones;
            from the precision of the Jacobians.
    """

    points: FixedPoints
    direction: Float[np.ndarray, "n d"]
    drift: Float[np.ndarray, " n"]
    time_constant: Float[np.ndarray, " n"]
    frequency: Float[np.ndarray, " n"]
    spacing: float
    rows: FixedPoints
    is_kept: Bool[np.ndarray, " n_rows"]
    longest: Float[np.ndarray, " n"]

    def __str__(self) -> str:
        n_dropped = int(np.sum(~self.is_kept))
        text = (
            f"{self.points.n} points, more than {self.spacing:.2g} apart, for "
            f"{self.is_kept.sum()} starts; {n_dropped} did not get below `q_max`."
        )
        if self.points.n:
            lasts = lasting(float(np.abs(self.time_constant).min()), self.longest.min())
            n_grow = count_growing(self.time_constant, self.longest)
            also = f" ({n_grow} of {self.points.n} grow)" if n_grow else ""
            text += (
                f" The time constants of the slowest modes are {lasts} or more{also}; drift up to "
                f"{np.abs(self.drift).max():.2g}."
            )
        return text


def slow_manifold(
    F: Any,
    x0: Float[RealArray, "n n_states"],
    u: Float[RealArray, " n_inputs"] | Float[RealArray, "1 n_inputs"],
    q_max: Number = 1e-5,
    *,
    spacing: Number | None = None,
    max_iters: int = 5000,
    dt: Number = 1.0,
) -> SlowManifold:
    """Spread points along the lines, rings and surfaces on which a network hardly moves.

    A search for fixed points slides along a line attractor until it reaches one of a few points.
    Here, each row ends as soon as `q < q_max` (Sussillo & Barak 2013, on slow points), near where
    it reached the manifold, so rows that start along the whole manifold cover it: start from states
    that the network visits. Steps leave out the directions in which the network is slow, along
    which Newton's step would lead to a fixed point, if there is one. Rows that do not get below
    `q_max` in this way are searched by [`KrylovTrustRegion`][slowpoints.KrylovTrustRegion] with
    `polish=False`, and may slide along the manifold. Then the rows are thinned out to points that
    are some distance apart, those of lowest `q` first, whatever the order of the rows.

    Lengths and speeds are Euclidean. Only entries of the states that are smaller than all others in
    `x0` by a factor of more than 1,024 are measured in a unit of their own, the power of two in
    which they are about as large, so that `q_max`, `spacing` and the drift are in states of the
    largest entries. Positions, their `qstar` and directions of norm 1 are those of the states as
    they are given.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x0: `[n, n_states]` the states to start from.
        u: `[n_inputs]` or `[1, n_inputs]` the constant input.
        q_max: the speed `q` below which a state counts as slow. A state with `q = 1e-5` moves by
            0.0045 in a step.
        spacing: the distance between points; by default a fortieth of the extent of the rows, twice
            the largest distance from their mean, but no less than a thousandth of the extent of the
            starts, twice the median distance: rows that ran to one fixed point are one point. 0
            keeps all rows that differ.
        max_iters: the largest number of iterations of a row.
        dt: how long a step takes (in continuous time, a unit of time of `F`), for times and rates.

    Returns:
        The points, with their local direction, drift and time constant, and all rows.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape or range, or the model does not map states to
            states.

    Warns:
        UserWarning: if no row gets below `q_max`; or if many rows end at fewer than five points,
            although half of `x0` are slow, but faster than `q_max`. It says which one to try.
    """
    caller = "slow_manifold"
    F = as_transition(F)
    x0 = arguments.array(caller, "x0", x0, ("n", "n_states"), floating=True)
    arguments.check_precision(caller, "x0", x0.dtype)
    if x0.shape[1] == 0:
        was = f"has shape {tuple(x0.shape)}"
        arguments.refuse(caller, "x0", was, "at least one state", ValueError)
    u = arguments.array(caller, "u", u, ("n_inputs",), (1, "n_inputs"), finite=True)
    q_max = arguments.positive(caller, "q_max", q_max)
    spacing = arguments.number(caller, "spacing", spacing, finite=True, or_none=True)
    max_iters = arguments.whole(caller, "max_iters", max_iters, least=1)
    dt = float(arguments.positive(caller, "dt", dt))
    unit = relative_units(x0, heard=_heard(F, x0, u))
    part, y0 = _in(unit, F, x0, u)
    rows = _rows(part, y0, u, {"max_iters": max_iters, "tol_q": q_max})
    is_kept = _is_slow(rows, q_max)
    q, kept, rows = rows.qstar, rows[is_kept], _from_units(rows, unit)
    if spacing is None:
        begun = 2 * float(np.median(_from_mean(np.asarray(y0)))) if len(y0) else 0.0
        spacing = 2 * float(_from_mean(kept.xstar).max(initial=0.0)) / PARTS
        spacing = max(spacing, _ONE_PLACE * begun)
    points = _from_units(unique(kept, spacing).compact().to_numpy(), unit)
    with one_thread_for_lapack():  # as for the modes
        points = decompose(jacobians(F, points)).to_numpy()
    if told := _few(part, y0, u, float(q_max), q, kept.n, points.n):
        warnings.warn(f"{caller}: {told}", stacklevel=2)
    own = in_units(points, unit)
    modes = linear_modes(own, dt=dt)
    direction = slowest_axis(modes)
    if points.n:
        direction = direction * same_side(own.xstar, direction, 0)[:, None]
    moved = own.F_xstar.astype(np.float64) - own.xstar
    slowly = np.where(modes.is_real[:, None], slow_part(modes, moved), moved)
    slowly = np.where(np.isfinite(slowly), slowly, moved)
    return SlowManifold(
        points,
        directions_of_states(direction, unit)[0],
        np.einsum("nd,nd->n", slowly, direction) / dt,
        modes.time_constants[:, 0],
        modes.frequencies[:, 0],
        float(spacing),
        rows,
        is_kept,
        modes.longest,
    )


def _from_mean(x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(x - x.mean(axis=0), axis=1) if len(x) else np.zeros(0)


def _few(
    F: Transition, x0: Any, u: Any, q_max: float, q: np.ndarray, n_kept: int, n_points: int
) -> str:
    """Say if there is no point; or if rows ran to few, which `q_max` keeps them where they are."""
    if n_kept == 0:
        known = q[np.isfinite(q)]
        lowest = f"the lowest is {known.min():.2g}" if known.size else "it is finite at none"
        told = f"of {len(q)} starts none comes to q < `q_max` = {q_max:.2g}"
        return f"{told}; {lowest if len(q) else 'there are none'}."
    if n_points >= LEAST_POINTS or n_points > FEW * n_kept:
        return ""
    typical = float(np.median(q_fn(F, jnp.asarray(x0), jnp.asarray(u, x0.dtype))))
    spread = _from_mean(np.asarray(x0)).mean()
    # In so many steps, a slow state does not come as far as states are from their mean.
    if typical <= q_max or not SLOW_STEPS * np.sqrt(2 * typical) <= spread:
        return ""
    return (
        f"{n_kept} starts led to {n_points} point{'s' * (n_points != 1)} only. The states in `x0` "
        f"are faster than `q_max` = {q_max:.2g}: their median q is {typical:.2g}. If they lie on a "
        f"line, a ring or a surface, try `q_max={typical:.1g}`: rows then stay where they start."
    )


def _heard(F: Transition, x0: Any, u: Any) -> Bool[np.ndarray, " n_states"] | None:
    """Return which entries are small and yet no rounding: the starts need not be at rest."""
    if not small_entries(x0).any():
        return None
    some = np.unique(np.linspace(0, len(x0) - 1, _LOOKED_AT).astype(int))
    x = np.asarray(x0)[some]
    inputs = np.broadcast_to(u, (len(x), u.shape[-1]))
    linear = jacobians(_traced(F, x0, u), FixedPoints(xstar=x, inputs=inputs))
    return heard_entries(x, linear.to_numpy().J_xstar)


def _traced(F: Transition, x0: Any, u: Any) -> Transition:
    dtype = jax.dtypes.canonicalize_dtype(x0.dtype)
    return traced("slow_manifold", F, x0.shape[1], u.shape[-1], dtype, states="x0", inputs="u")


def _in(
    unit: Float[np.ndarray, " n_states"], F: Transition, x0: Any, u: Any
) -> tuple[Transition, Any]:
    """Return the network and its states in these units."""
    if (unit == 1).all():
        return F, x0
    dtype = jax.dtypes.canonicalize_dtype(x0.dtype)
    # Here, as a model that returns a single number would be spread out by the units.
    F = _traced(F, x0, u)
    part = InUnits(linearised_part(F), jnp.asarray(unit, dtype))
    F = ContinuousTime(part) if isinstance(F, ContinuousTime) else part
    return F, x0 / unit.astype(dtype)


def _from_units(fps: FixedPoints, unit: Float[np.ndarray, " n_states"]) -> FixedPoints:
    """Return rows that were found in units as states, with the `q` of states."""
    return in_units(fps, 1 / unit)


def _rows(F: Transition, x0: Any, u: Any, stopping: dict[str, Any]) -> FixedPoints:
    """Take each row the shortest way to a slow state, or if that fails by steps of any length."""
    rows = optimize_batch(F, x0, u, solver=ShortestSteps(), **stopping).to_numpy()
    left = np.flatnonzero(~_is_slow(rows, stopping["tol_q"]) & np.isfinite(rows.qstar))
    if left.size == 0:
        return rows
    # Powers of two, so that few sizes are compiled. What is added repeats what is there.
    some = left[np.arange(power_of_two(left.size)) % left.size]
    solver = KrylovTrustRegion(polish=False)
    again = optimize_batch(F, x0[some], u, solver=solver, **stopping).to_numpy()
    found = {name: np.array(getattr(rows, name)) for name in rows.array_fields if name in _FOUND}
    for name, values in found.items():
        values[left] = getattr(again, name)[: left.size]
    return rows.replace(**found)


_FOUND = ("xstar", "F_xstar", "qstar", "dq", "n_iters", "status", "valid")
"""What a search tells of a row."""


def _is_slow(rows: FixedPoints, q_max: Number) -> Bool[np.ndarray, " n"]:
    return rows.valid & np.isfinite(rows.qstar) & (rows.qstar < q_max)


def slowest_axis(modes: LinearModes) -> Float[np.ndarray, "n d"]:
    """Return the direction of each slowest mode, of norm 1: of a pair, its plane's longer axis."""
    axis = modes.plane[:, :, 0]
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    return np.where(modes.is_real[:, None], modes.direction, axis)


def slow_part(modes: LinearModes, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return the part of vectors that is in the slowest mode, or in its plane; NaN if defective."""
    of_mode = modes.direction * np.einsum("nd,nd->n", modes.selection, vectors)[:, None]
    of_pair = np.einsum("ndk,nkj,nj->nd", modes.plane, modes.selection_plane, vectors)
    return np.where(modes.is_real[:, None], of_mode, of_pair)
