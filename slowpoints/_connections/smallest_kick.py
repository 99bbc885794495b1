"""`smallest_kick` and `smallest_pulse`: what it takes to leave the basin of an attractor."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._connections.bisection import crossing
from slowpoints._connections.outcome import (
    REACH,
    Outcome,
    Places,
    Starts,
    check_steps,
    run_until_ended,
)
from slowpoints._connections.refined_points import (
    GIVEN,
    enabled,
    refined_points,
    size_of,
    speeds,
    working_dtype,
)
from slowpoints._connections.units_at_rest import units_at_rest
from slowpoints._connections.unstable_points import unstable_points
from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import Number, RealArray
from slowpoints._core.units import unit_of
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.precision import with_precision
from slowpoints._network.time_scale import in_steps, length_of_step
from slowpoints._network.trace import traced
from slowpoints._network.units import in_units
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians

_WIDTH = 1e-13
"""How close the two amplitudes are in the end, as a part of the largest one that is tried."""

_WIDTH_32 = 1e-6
"""The same for networks that compute in float32 only."""

_DIGITS = 7
"""Amplitudes by up to so many digits above these are tried for where trajectories end."""

_PARTS = np.arange(1, 17) / 16
"""In continuous time, a step suits the motion after these parts of the largest amplitude."""


class Smallest(eqx.Module):
    """The smallest amplitude with which a network leaves a basin, and what it leads to.

    Attributes:
        amplitude: the smallest amplitude that was tried and after which the network does not return
            to the attractor; NaN if it returned after all of them.
        returns: the next smaller amplitude that was tried, after which it returns.
        n_changes: how often, on the grid, amplitudes after which it returns and others followed
            each other. If it is more than 1, then also some larger amplitudes do not suffice.
        outcome: how the trajectory with this amplitude ended, in the numbers of
            [`Outcome`][slowpoints.Outcome]; never `ARRIVED`, but for NaN. If it stays at the saddle
            between the basins, to rounding, it is that of the next larger amplitude that does not.
        end: `[n_states]` its last state, which is another attractor if it came to rest
            (`ELSEWHERE`).
    """

    amplitude: float
    returns: float
    n_changes: int
    outcome: Outcome = eqx.field(static=True)
    end: Float[np.ndarray, " n_states"]

    def __str__(self) -> str:
        if np.isnan(self.amplitude):
            return f"The network returns after all amplitudes up to {self.returns:.10g}."
        text = (
            f"The network returns after an amplitude of {self.returns:.10g} and not after "
            f"{self.amplitude:.10g}: {self.outcome}."
        )
        if self.n_changes > 1:
            text += f" On the grid this changes {self.n_changes} times."
        return text


def smallest_kick(
    F: Any,
    a: Float[RealArray, " n_states"],
    direction: Float[RealArray, " n_states"],
    inputs: Float[RealArray, " n_inputs"] | None = None,
    *,
    max_amplitude: Number,
    n_grid: int = 64,
    max_steps: int = 10_000,
) -> Smallest:
    """Find the smallest kick of the state that makes a network leave the basin of an attractor.

    The network is set to `a + amplitude * direction` and follows its own dynamics from there. It
    leaves if it does not return to `a` within `max_steps`.

    All amplitudes of a grid are tried, and the interval before the first one with which it leaves
    is divided until its ends are equal to about twelve digits. It is not assumed that larger
    amplitudes suffice as well: see `n_changes`. It is assumed that between two neighbours on the
    grid that both lead back, every amplitude leads back.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, or a
            [`ContinuousTime`][slowpoints.ContinuousTime].
        a: `[n_states]` an attractor, a stable fixed point. It is refined by Newton's method.
        direction: `[n_states]` what the state is moved by, at an amplitude of 1. It need not be of
            length 1.
        inputs: `[n_inputs]` the constant input; none or zeros by default.
        max_amplitude: the largest amplitude to try.
        n_grid: how many amplitudes to try at first.
        max_steps: how many steps the network has to return, in continuous time of a quarter of the
            time scale on which velocities change, `|f| / |J f|` with the Jacobian `J`: the median
            over trajectories after perturbations, once what is fast is over.

    Returns:
        The amplitude, and where the network ends.

    Raises:
        TypeError: if an argument is of the wrong kind or traced.
        ValueError: if an argument has the wrong shape or range, or `a` is not a fixed point, or `F`
            does not map such states to states.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller = "smallest_kick"
    F = as_transition(F)
    check_steps(caller, F, a=a, direction=direction, inputs=inputs)
    F, a, u = _checked(caller, F, a, inputs)
    way = arguments.array(caller, "direction", direction, (a.size,), finite=True)
    limits = _limits(caller, max_amplitude, n_grid, max_steps)
    moved = limits[0] * np.asarray(way, np.float64)
    kicked = np.asarray(a + _PARTS[:, None] * moved), np.tile(u, (_PARTS.size, 1))
    basin = _Basin.of(caller, F, a, u, limits, moved, kicked)

    def after(amplitude: Float[np.ndarray, " k"]) -> Any:
        return basin.a + amplitude[:, None] * np.asarray(way / basin.unit, basin.a.dtype)

    return _smallest(basin, after, *limits[:2])


def smallest_pulse(
    F: Any,
    a: Float[RealArray, " n_states"],
    direction: Float[RealArray, " n_inputs"],
    inputs: Float[RealArray, " n_inputs"] | None = None,
    *,
    max_amplitude: Number,
    duration: Number | None = None,
    n_grid: int = 64,
    max_steps: int = 10_000,
) -> Smallest:
    """Find the smallest pulse of input that makes a network leave the basin of an attractor.

    From `a`, the input is `inputs + amplitude * direction` for `duration` steps, and `inputs` from
    then on. The network leaves if it does not return to `a` within `max_steps` after the pulse.

    With `duration=None` the pulse lasts until the network has come to rest under it, or has closed
    a cycle, but at most `max_steps`. The threshold is then the fold at which the attractor, as it
    moves with the input, vanishes, if the network does not leave before. Just beyond a fold the
    passage takes a number of steps that grows as the inverse square root of how far beyond it is.
    The amplitude that is found is therefore too large by about `(c / max_steps)**2`, with a `c` of
    a few units for most networks.

    Amplitudes are tried as by [`smallest_kick`][slowpoints.smallest_kick], with the same
    assumption.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, or a
            [`ContinuousTime`][slowpoints.ContinuousTime].
        a: `[n_states]` an attractor, a stable fixed point under `inputs`. It is refined by Newton's
            method.
        direction: `[n_inputs]` what is added to the input, at an amplitude of 1.
        inputs: `[n_inputs]` the input before and after the pulse; zeros by default.
        max_amplitude: the largest amplitude to try.
        duration: how many steps the pulse lasts, or in continuous time, how long; by default as
            long as it takes.
        n_grid: how many amplitudes to try at first.
        max_steps: how many steps the network has to return, in continuous time of a quarter of the
            time scale on which velocities change, `|f| / |J f|` with the Jacobian `J`: the median
            over trajectories after perturbations, once what is fast is over.

    Returns:
        The amplitude, and where the network ends.

    Raises:
        TypeError: if an argument is of the wrong kind or traced.
        ValueError: if an argument has the wrong shape or range, or `a` is not a fixed point, or `F`
            does not map such states to states.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller = "smallest_pulse"
    F = as_transition(F)
    check_steps(caller, F, a=a, direction=direction, inputs=inputs)
    way = arguments.array(caller, "direction", direction, ("n_inputs",), finite=True)
    F, a, u = _checked(caller, F, a, np.zeros(way.shape, np.float32) if inputs is None else inputs)
    way = arguments.array(caller, "direction", direction, (u.size,))
    if duration is not None and isinstance(F, ContinuousTime):
        duration = float(arguments.positive(caller, "duration", duration))
    else:
        duration = arguments.whole(caller, "duration", duration, least=1, or_none=True)
    limits = _limits(caller, max_amplitude, n_grid, max_steps)
    strongest = jnp.asarray(u + limits[0] * way, u.dtype)
    moved = np.asarray(F(jnp.asarray(a), strongest)) - a
    pushed = np.tile(a, (_PARTS.size, 1)), np.asarray(u + limits[0] * _PARTS[:, None] * way)
    basin = _Basin.of(caller, F, a, u, limits, moved, pushed)

    def after(amplitude: Float[np.ndarray, " k"]) -> Any:
        u = basin.u + amplitude[:, None] * np.asarray(way, basin.a.dtype)
        x = np.broadcast_to(basin.a, (len(u), basin.a.size))
        return basin.until_rest(x, u) if duration is None else basin.after(x, u, float(duration))

    return _smallest(basin, after, *limits[:2])


def _checked(caller: str, F: Transition, a: Any, inputs: Any) -> tuple[Transition, Any, Any]:
    """Return the traced `F`, the attractor `[n_states]` and the input `[n_inputs]`."""
    a = arguments.array(caller, "a", a, ("n_states",), floating=True, finite=True)
    arguments.check_precision(caller, "a", a.dtype)
    if a.size == 0:
        arguments.refuse(caller, "a", "has no states", "at least one state", ValueError)
    dtype = jax.dtypes.canonicalize_dtype(a.dtype)
    inputs = np.zeros(F.n_inputs or 0, dtype) if inputs is None else inputs
    u = arguments.array(caller, "inputs", inputs, ("n_inputs",), finite=True)
    F = traced(caller, F, a.size, u.size, dtype, states="a")
    return F, np.asarray(a), np.asarray(u).astype(dtype)


def _limits(caller: str, max_amplitude: Any, n_grid: Any, max_steps: Any) -> tuple[float, int, int]:
    return (
        float(arguments.number(caller, "max_amplitude", max_amplitude, finite=True)),
        arguments.whole(caller, "n_grid", n_grid, least=2),
        arguments.whole(caller, "max_steps", max_steps, least=1),
    )


class _Basin(eqx.Module):
    """An attractor, in the precision of the computation."""

    F: Transition
    """As a map: a flow if the network is in continuous time."""
    dt: float | None
    """How long a step is in continuous time."""
    a: Float[np.ndarray, " n_states"]
    u: Float[np.ndarray, " n_inputs"]
    unit: Float[np.ndarray, " n_states"]
    """What the states of `F` and `a` are given in units of."""
    max_steps: int

    @classmethod
    def of(
        cls,
        caller: str,
        F: Transition,
        a: Any,
        u: Any,
        limits: tuple[float, int, int],
        moved: Float[np.ndarray, " n_states"],
        perturbed: tuple[Float[np.ndarray, "k n_states"], Float[np.ndarray, "k n_inputs"]],
    ) -> "_Basin":
        """Refine the attractor, and check that it is one.

        Args:
            caller: the function that error messages name.
            F: the network.
            a: `[n_states]` the attractor.
            u: `[n_inputs]` the input.
            limits: the largest amplitude, the size of the grid, and the most steps.
            moved: `[n_states]` how far the largest amplitude moves the state.
            perturbed: states and inputs by which it leaves the attractor.
        """
        _, n_grid, max_steps = limits
        relative = units_at_rest(F, a[None], u[None], moved[None])
        lengths = np.linalg.norm([a / relative, moved / relative / n_grid], axis=1)
        unit = relative * unit_of(float(lengths.max()))
        x, u = (a[None] / unit).astype(a.dtype), u[None]
        F = in_units(F, unit)
        work = working_dtype(F, x, u)
        with enabled(work):
            F = with_precision(F, work)
        u = u.astype(work)
        exact = refined_points(F, x.astype(work), u)
        size = float(size_of(exact)[0])
        if not np.linalg.norm(exact - x) <= GIVEN * size:
            was = (
                f"is {np.linalg.norm(unit * (exact - x)):.2g} away from the fixed point next to it"
            )
            arguments.refuse(caller, "a", was, "a fixed point that was found", ValueError)
        speed = speeds(F, exact, u)[0]
        if not speed <= np.sqrt(np.finfo(work).eps) * size:
            with enabled(work):
                moved = np.asarray(F(jnp.asarray(exact[0]), jnp.asarray(u[0]))) - exact[0]
            time = "unit of time" if isinstance(F, ContinuousTime) else "step"
            was = f"moves by {np.linalg.norm(unit * moved):.2g} in one {time}"
            arguments.refuse(caller, "a", was, "a fixed point under `inputs`", ValueError)
        with enabled(work):
            linear = decompose(jacobians(F, FixedPoints(xstar=jnp.asarray(exact), inputs=u)))
        if not linear.is_stable.item():
            eigval = np.asarray(linear.eigval_J_xstar)
            largest = np.abs(eigval).max()
            was = f"is not stable: its largest eigenvalue is {largest:.6g} in magnitude"
            if linear.continuous_time:
                largest = np.real(eigval).max()
                was = f"is not stable: its leading eigenvalue has a real part of {largest:.6g}"
            arguments.refuse(caller, "a", was, "an attractor", ValueError)
        steps = in_steps(F, perturbed[0] / unit, perturbed[1])
        return cls(steps, length_of_step(steps), exact[0], u[0], unit, max_steps)

    def follow(self, x: Float[np.ndarray, "k n_states"], u: Any, group: int) -> Any:
        """Follow trajectories until they end; those of group 0 may end at the attractor."""
        k, x = len(x), x.astype(self.a.dtype)
        # The boundary may be much closer than the attractor is to anything else that is known.
        part = np.minimum(np.linalg.norm(x - self.a, axis=1), 1).astype(x.dtype)
        starts = Starts(x, u, np.full(k, group), np.full(k, -1), part)
        reach = np.full(1, REACH, self.a.dtype)
        here = Places(self.a[None], np.zeros(1, int), np.ones(1, bool), reach)
        return run_until_ended(self.F, starts, here, self.max_steps)

    def until_rest(self, x: Any, u: Any) -> Float[np.ndarray, "k n_states"]:
        """Return the states when they have come to rest."""
        return self.follow(x, u, group=1).x

    def after(self, x: Any, u: Any, duration: float) -> Float[np.ndarray, "k n_states"]:
        """Return the states after some steps, or some time."""
        F, n_steps = self.F, int(duration)
        if self.dt is not None:
            n_steps = math.ceil(duration / self.dt)
            F = eqx.tree_at(lambda F: F.duration, F, np.array(duration / n_steps))
        with enabled(self.a.dtype):
            F, count = with_precision(F, self.a.dtype), jnp.asarray(n_steps, np.int32)
            return np.asarray(_steps(F, jnp.asarray(x), jnp.asarray(u), count))


@CompiledOnce
def _steps(
    F: Transition,
    x: Float[Array, "k n_states"],
    u: Float[Array, "k n_inputs"],
    n_steps: Int[Array, ""],
) -> Float[Array, "k n_states"]:
    step = lambda _, x: jax.vmap(F)(x, u).astype(x.dtype)  # noqa: E731
    return jax.lax.fori_loop(0, n_steps, step, x)


def _smallest(
    basin: _Basin, after: Callable[[Float[np.ndarray, " k"]], Any], most: float, n_grid: int
) -> Smallest:
    """Try amplitudes up to `most`, given the states after perturbations of these amplitudes."""

    def ends(amplitude: Float[np.ndarray, " k"]) -> Any:
        x = after(amplitude)
        u = np.broadcast_to(basin.u, (len(x), basin.u.size))
        return basin.follow(x, u, group=0)

    def labels_of(places: Float[np.ndarray, "1 k"]) -> Int[np.ndarray, "1 k"]:
        return (ends(places[0]).outcome != Outcome.ARRIVED).astype(int)[None]

    last = ends(np.array([most]))
    grid = np.linspace(0, most, n_grid + 1)[1:]
    leaves = ends(grid).outcome != Outcome.ARRIVED
    n_changes = int(np.sum(np.diff(leaves, prepend=False)))
    if not leaves.any():
        end = basin.unit * last.x[0]
        return Smallest(np.nan, most, n_changes, Outcome(last.outcome[0]), end)
    first = int(leaves.argmax())
    low = np.array([grid[first - 1] if first else 0.0])
    width = _WIDTH if basin.a.dtype == np.float64 else _WIDTH_32
    width = min(1.0, width * most / (grid[first] - low[0]))
    found = crossing(labels_of, low, grid[[first]], np.array([1]), width)
    # Close to the boundary, it is a matter of rounding on which side of the saddle states pass.
    beyond = found.high + np.append(0, (found.high - found.low) * 10.0 ** np.arange(_DIGITS))
    end = ends(beyond)
    u = np.broadcast_to(basin.u, (len(beyond), basin.u.size))
    stuck = unstable_points(basin.F, end.x, u, basin.max_steps)[1] >= 0
    stuck &= end.outcome == Outcome.ELSEWHERE
    chosen = int(np.argmin(2 * (end.outcome == Outcome.ARRIVED) + stuck))
    return Smallest(
        amplitude=float(found.high[0]),
        returns=float(found.low[0]),
        n_changes=n_changes,
        outcome=Outcome(end.outcome[chosen]),
        end=basin.unit * end.x[chosen],
    )
