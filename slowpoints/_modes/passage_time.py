"""`passage_time`: how long states take to pass a slow point, and how far it is from a fold."""

import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import filled_up, first_rows
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import Number, RealArray
from slowpoints._core.units import units_of
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.linear_dynamics import count_unstable
from slowpoints._modes.kink_passages import ThroughKink, through_kinks
from slowpoints._modes.slow_direction import DEFECTIVE, slow_direction
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.units import InUnits
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._points.traced import traced_for
from slowpoints._solvers.kinks.smooth import may_have_kinks

_ROUNDINGS = 8
"""A curvature of so many units in the last place of the products that it is a sum of, or less, is
zero as far as can be told."""

_APART = 1e3
"""The slow direction is known if the next singular value is so many times what rounding makes of
zero, or more: its direction is then known to a thousandth. In matrices far from normal, there are
several that are no more than rounding, and any direction may seem to be the slow one."""

_FASTER = 10.0
"""A passage through a kink is from where a state is so many times as fast as there until it is
again. Within as many times the narrowest place of a fold, four fifths of a passage are spent."""


@dataclasses.dataclass(frozen=True, eq=False)
class PassageTimes:
    """How states pass each of `n` slow points: see [`passage_time`][slowpoints.passage_time].

    Where `why` names a reason other than that the row is a fixed point, all numbers are NaN.

    Attributes:
        time: `[n]` the time it takes to pass, in steps, or in continuous time in the unit of time
            of `f`. Infinite if the way is blocked, as there are fixed points on it; NaN where
            `why` says that it does not apply. At a kink, from where a state is ten times as fast as
            there until it is again.
        why: `[n]` why there is no time; empty where there is one.
        speed: `[n]` how far a state moves along `v` per step, or unit of time, at the narrowest
            place; negative if the way is blocked. At a kink, the lower of both sides' speeds.
        curvature: `[n]` by how much the speed grows with the square of the distance from there; NaN
            at a kink.
        width: `[n]` half of the time is spent within this distance from the narrowest place. Trust
            the time if this is small compared with the range of the states.
        offset: `[n]` how far along `v` the narrowest place is from `xstar`; 0 to rounding at a slow
            point.
        eigenvalue: `[n]` that of the slow direction; at a kink, behind it.
        n_unstable: `[n]` how many other directions are unstable, -1 if unknown, as where rounding
            moves an eigenvalue as far as to the edge of stability. If there are any, most states
            leave along these before they have passed.
        fold_distance: `[n]` by how much the input has to change along the direction that was given
            to be at the fold, to first order; NaN if none was given, infinite if it has no effect.
        v: `[n, n_states]` the slow direction, of length 1. Away from
            the narrowest place, states move along it, not against it.
        l: `[n, n_states]` the left eigenvector, with `l . v = 1`: `l . (x - xstar)` is how far a
            state has come along `v`.
        kink_rates: `[n, 2]` at what rates, per step or unit of time, states slow down before a kink
            and speed up behind it: the logarithms of the slow eigenvalues on both sides. NaN where
            there is no kink.
        kink_lengths: `[n, 2]` how far before and behind a kink states are twice as fast as at it.
    """

    time: Float[np.ndarray, " n"]
    why: Shaped[np.ndarray, " n"]
    speed: Float[np.ndarray, " n"]
    curvature: Float[np.ndarray, " n"]
    width: Float[np.ndarray, " n"]
    offset: Float[np.ndarray, " n"]
    eigenvalue: Float[np.ndarray, " n"]
    n_unstable: Int[np.ndarray, " n"]
    fold_distance: Float[np.ndarray, " n"]
    v: Float[np.ndarray, "n n_states"] = dataclasses.field(repr=False)
    l: Float[np.ndarray, "n n_states"] = dataclasses.field(repr=False)  # noqa: E741
    kink_rates: Float[np.ndarray, "n 2"] = dataclasses.field(repr=False)
    kink_lengths: Float[np.ndarray, "n 2"] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.time)

    def through(self, distance: Number) -> Float[np.ndarray, " n"]:
        """Return the time from `distance` before the narrowest place to `distance` behind it.

        Distances are along `v`. `time` is the limit of long distances; a passage that starts or
        ends within a few times `width` takes less. Through a kink, a passage of twice the distance
        takes longer, whatever the distance, by up to `log(2)` over both rates.

        Args:
            distance: at least 0.

        Returns:
            `[n]` times, infinite and NaN where `time` is.

        Raises:
            TypeError: if `distance` is not a number.
            ValueError: if it is negative or NaN.
        """
        distance = float(arguments.number("through", "distance", distance))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.arctan(distance / self.width) * 2 / np.pi
            sides = np.log1p(distance / self.kink_lengths) / np.abs(self.kink_rates)
        passed = np.where(np.isnan(self.kink_rates[:, 0]), share * self.time, sides.sum(axis=1))
        return np.where(np.isfinite(self.time), passed, self.time)


def passage_time(
    F: Any, fps: FixedPoints, direction: Float[RealArray, " n_inputs"] | None = None
) -> PassageTimes:
    """Return how long states take to pass slow points, such as the ghosts of fixed points.

    Just past a fold, where two fixed points have met and vanished, states still slow down: the
    ghost of the two. Along the slow direction `v`, the right eigenvector of the eigenvalue nearest
    1, with the left eigenvector `l`, a state at the distance `y = l . (x - xstar)` moves by
    `a + (lambda - 1) y + c y^2`, where `a = l . (F(xstar) - xstar)` and `c` is half of the second
    derivative, `l . D^2F[v, v] / 2`. With the square completed, this is `speed + curvature y^2`
    around the narrowest place, which takes `pi / sqrt(speed * curvature)` steps to pass (Strogatz
    2015, "Nonlinear dynamics and chaos", sec. 4.3). In continuous time, the same holds of `f`, and
    of the eigenvalue nearest 0. At a slow point, the gradient `(J - I)^T (F(x) - x)` of `q` is
    zero, so the eigenvalue is 1, and `l` is along `F(x) - x`.

    At a kink, as of a `relu` unit, there is no curvature: the speed falls linearly before the kink
    and rises linearly behind it, at the rates of the slow eigenvalues on both sides. The states
    come to the kink along the slow direction before it, and leave it along the one behind it. The
    time to come from one distance and get to another grows with their logarithms, without a limit,
    and `through` returns it.

    The other directions are taken to decay quickly compared with the passage. Because `xstar` lies
    beside the slow manifold, and the manifold is curved, the time changes by a fraction of the
    order of `a`, which is neglected: in a GRU of 128 units whose ghost takes 3955 steps, it is
    0.02 %. The time is the leading order for small `a`.

    Everything is computed in float64 if the network can be. A simulation in float32 passes a ghost
    only if its speed is well above rounding, some 1e-7 of the length of the states.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: points with `xstar` and `inputs`. For rows whose `status` is that of a fixed point
            there is no time, but the other numbers are returned, including the distance to a fold.
            Other rows need not be slow points to rounding.
        direction: `[n_inputs]` a direction in the space of inputs. With it, `fold_distance` tells
            by how much the input has to change along it, in multiples of `direction`, for two fixed
            points to meet: `-speed / (l . dF/du direction)`. For another parameter `s` of the
            network, pass a transition whose input is `s`.

    Returns:
        One row for each of `fps`.

    Raises:
        TypeError: if an argument is of the wrong kind, or traced.
        ValueError: if `fps` has no `xstar` or no `inputs`, or these do not fit the model, or
            `direction` has the wrong shape or is not finite.
    """
    caller = "passage_time"
    F = as_transition(F)
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, fps.xstar, fps.inputs))):
        expected = "to be called outside of `jit`"
        arguments.refuse(caller, "fps", "is traced", expected, TypeError)
    F = traced_for(caller, F, fps)
    if fps.n_states == 0:
        was = f"has shape {tuple(fps.xstar.shape)}"
        arguments.refuse(caller, "fps.xstar", was, "at least one state", ValueError)
    along = np.zeros(fps.n_inputs)
    if direction is not None:
        along = arguments.array(caller, "direction", direction, (fps.n_inputs,), finite=True)
    x, u = np.asarray(fps.xstar), np.asarray(fps.inputs)
    unit = units_of(x, fps.x_init)
    wide = computes_in_float64(F)
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        dtype = np.dtype(np.float64) if wide else jax.dtypes.canonicalize_dtype(x.dtype)
        x, u = filled_up(fps.n_states**3, jnp.asarray(x / unit, dtype), jnp.asarray(u, dtype))
        part = InUnits(with_precision(linearised_part(F), dtype), jnp.asarray(unit, dtype))
        continuous = isinstance(F, ContinuousTime)
        found = _passages(part, x, u, jnp.asarray(along, dtype), continuous)
        found = _Passage(*(np.asarray(first_rows(a, fps.n)) for a in found))
        times = _told(_in_units_of_states(found, unit), fps, direction is not None, continuous)
        if not may_have_kinks(F):
            return times
        through = through_kinks(part, x, u, jnp.asarray(along, dtype), continuous)
        through = ThroughKink(*(np.asarray(first_rows(a, fps.n)) for a in through))
    return _with_kinks(times, through, unit, fps, direction is not None, continuous)


class _Passage(NamedTuple):
    """The expansion along the slow direction, a row for each point."""

    is_finite: Any
    is_real: Any
    is_simple: Any
    is_curved: Any
    a: Any
    rate: Any  # lambda - 1, in continuous time lambda
    c: Any  # half of the second derivative
    slope: Any  # of `a`, along the direction of inputs
    n_unstable: Any
    v: Any
    l: Any  # noqa: E741


@CompiledOnce
def _passages(
    F: Transition,
    x: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    along: Float[Array, " n_inputs"],
    continuous_time: bool,
) -> _Passage:
    eps = jnp.finfo(x.dtype).eps

    def one(point: tuple[Array, Array]) -> _Passage:
        x, u = point

        def moved(x: Array) -> Array:  # how far a state moves per step or unit of time
            return F(x, u) - (0 if continuous_time else x)

        J = jax.jacfwd(moved)(x)
        is_finite = jnp.isfinite(J).all() & jnp.isfinite(moved(x)).all()
        J = jnp.where(is_finite, J, 0)  # LAPACK may not return from a matrix that is not finite
        rates, vectors, is_slowest, rate, v, l, overlap, sizes = slow_direction(J)  # noqa: E741
        eye = jnp.eye(x.size, dtype=x.dtype)
        rounding_of_J = eps * jnp.linalg.norm(J if continuous_time else J + eye)
        a = l @ moved(x)
        bend = jax.jvp(lambda x: jax.jvp(moved, (x,), (v,))[1], (x,), (v,))[1]
        # The curvature is positive along `v`, and so is the speed unless the way is blocked.
        side = jnp.where(l @ bend < 0, -1, 1).astype(x.dtype)
        a, v, l = side * a, side * v, side * l  # noqa: E741
        c = l @ bend / 2
        rounding = _ROUNDINGS * eps * jnp.linalg.norm(l) * jnp.linalg.norm(bend)
        slope = l @ jax.jvp(lambda u: F(x, u), (u,), (along,))[1]
        others = jnp.where(is_slowest, -0.5, rates)  # which is stable
        unstable = count_unstable(others if continuous_time else 1 + others, continuous_time)
        # Rounding moves an eigenvalue by its condition number times what it does to the matrix.
        inverse = lapack.inverse(vectors)
        condition = jnp.linalg.norm(inverse, axis=1) * jnp.linalg.norm(vectors, axis=0)
        growth = others.real if continuous_time else jnp.abs(1 + others) - 1
        is_known = (jnp.abs(growth) > condition * rounding_of_J) | is_slowest
        unstable = jnp.where(is_known.all(), unstable, -1)
        is_simple = jnp.abs(overlap) > DEFECTIVE * jnp.sqrt(eps)
        is_simple &= (sizes[:-1] > _APART * rounding_of_J).all()
        is_real, is_curved = jnp.all(~is_slowest | (rates.imag == 0)), jnp.abs(c) > rounding
        told = (is_finite, is_real, is_simple, is_curved)
        return _Passage(*told, a, rate, c, slope, unstable, v, l)

    return jax.lax.map(one, (x, u))


def _in_units_of_states(found: _Passage, unit: Float[np.ndarray, " n_states"]) -> _Passage:
    """Return an expansion in other units as one of the states themselves, with `v` of length 1."""
    v, l = found.v * unit, found.l / unit  # noqa: E741
    length = np.linalg.norm(v, axis=1)
    return found._replace(
        a=found.a * length,
        c=found.c / length,
        slope=found.slope * length,
        v=v / length[:, None],
        l=l * length[:, None],
    )


def _told(
    found: _Passage, fps: FixedPoints, has_direction: bool, continuous_time: bool
) -> PassageTimes:
    """Complete the square, and say where there is no time, and why."""
    why = np.full(fps.n, "", dtype=object)
    for is_so, reason in (
        (found.is_curved, "its speed has no curvature along the slow direction"),
        (
            found.is_simple,
            "its slow direction is defective: eigenvalues coincide as far as can be told",
        ),
        (found.is_real, "the eigenvalue of its slowest direction is complex"),
        (found.is_finite, "the state or its Jacobian is not finite"),
        (np.ones(fps.n, bool) if fps.valid is None else fps.valid, "the row is not valid"),
    ):
        why[~np.asarray(is_so, bool)] = reason
    applies = why == ""
    status = np.zeros(fps.n) if fps.status is None else np.asarray(fps.status)
    is_fixed = applies & (status == Status.FIXED_POINT)
    why[is_fixed] = "is a fixed point"

    def where_it_applies(values: Any) -> Any:
        mask = applies if np.ndim(values) == 1 else applies[:, None]
        return np.where(mask, values, np.nan)

    c = where_it_applies(found.c)
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = -found.rate / (2 * c)
        speed = found.a - found.rate**2 / (4 * c)
        product = speed * c
        time = np.where(product > 0, np.pi / np.sqrt(np.abs(product)), np.inf)
        fold = -speed / found.slope if has_direction else np.full(fps.n, np.nan)
        width = np.sqrt(np.abs(speed / c))
    return PassageTimes(
        time=where_it_applies(np.where(is_fixed, np.nan, time)),
        why=why,
        speed=speed,
        curvature=c,
        width=width,
        offset=offset,
        eigenvalue=where_it_applies(found.rate + (0 if continuous_time else 1)),
        n_unstable=np.where(applies, found.n_unstable, -1),
        fold_distance=fold,
        v=where_it_applies(found.v),
        l=where_it_applies(found.l),
        kink_rates=np.full((fps.n, 2), np.nan),
        kink_lengths=np.full((fps.n, 2), np.nan),
    )


def _with_kinks(
    times: PassageTimes,
    found: ThroughKink,
    unit: Float[np.ndarray, " n_states"],
    fps: FixedPoints,
    has_direction: bool,
    continuous_time: bool,
) -> PassageTimes:
    """Return the times with those of passages through kinks, and the reasons why there are none."""
    status = np.full(fps.n, -1) if fps.status is None else np.asarray(fps.status)
    asked = found.is_at_kink & (status != Status.FIXED_POINT)
    if fps.valid is not None:
        asked &= np.asarray(fps.valid, bool)
    here, why = asked & found.is_passage, times.why.copy()
    why[here] = ""
    why[asked & ~found.is_passage] = (
        "it is at kinks, through which no slow direction leads, or several at once"
    )
    v, l = found.v * unit, found.l / unit  # noqa: E741
    scale = np.linalg.norm(v, axis=2)
    v, l = v[:, 1] / scale[:, 1:], l[:, 1] * scale[:, 1:]  # noqa: E741
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = found.length * scale
        rates = found.rate if continuous_time else np.log1p(found.rate)
        time = np.sum(np.log(_FASTER) / np.abs(rates), axis=1)
        speed = np.min(np.abs(found.rate) * lengths, axis=1)
    # Half of the time on each side is spent from where a state is the root of that as fast.
    width = (np.sqrt(_FASTER) - 1) * lengths.mean(axis=1)

    def instead(values: Any, of_kinks: Any) -> Any:
        chosen, refused = here, asked & ~here
        if np.ndim(values) > 1:
            chosen, refused = chosen[:, None], refused[:, None]
        return np.where(chosen, of_kinks, np.where(refused, np.nan, values))

    fold = found.fold_distance if has_direction else np.full(fps.n, np.nan)
    return PassageTimes(
        time=instead(times.time, time),
        why=why,
        speed=instead(times.speed, speed),
        curvature=instead(times.curvature, np.nan),
        width=instead(times.width, width),
        offset=instead(times.offset, 0.0),
        eigenvalue=instead(times.eigenvalue, found.rate[:, 1] + (0 if continuous_time else 1)),
        n_unstable=np.where(here, found.n_unstable, np.where(asked, -1, times.n_unstable)),
        fold_distance=instead(times.fold_distance, fold),
        v=instead(times.v, v),
        l=instead(times.l, l),
        kink_rates=instead(times.kink_rates, rates),
        kink_lengths=instead(times.kink_lengths, lengths),
    )
