"""`basin_boundary`: the saddle on the boundary between the basins of two attractors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from slowpoints._connections.bisection import SECTIONS, UNKNOWN, crossing
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
from slowpoints._core import arguments
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._core.units import unit_of
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision
from slowpoints._network.time_scale import in_steps
from slowpoints._network.trace import traced
from slowpoints._network.units import in_units
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.status import Status
from slowpoints._search.optimize_batch import optimize_batch

_CLOSE = 2.0**-36
"""Two states on either side of the boundary are brought this close to each other, as a part of the
distance between the attractors. Any closer, states beside a saddle that is hardly unstable, with an
eigenvalue of 1.001, would be at rest there to rounding."""

_CLOSE_32 = 2.0**-13
"""The same for networks that compute in float32 only; the eigenvalue is 1.05 then."""

_APART = 2.0**-18
"""Two trajectories are followed until they are this far apart, and then brought together again. It
is far less than what lies between the boundary and anything else."""

_APART_32 = 2.0**-8
"""The same for networks that compute in float32 only."""

_AT_REST = 1e-4
"""When the edge state moves less than this part of the distance between the attractors in a step,
Newton's method goes on from there."""

_SAME = 1e-2
"""The saddle that Newton's method finds may be this far from the edge state, in the same unit."""

_STEPS_APART = 1000
"""After so many steps the two trajectories are brought together again even if they hardly parted,
as beside a saddle that is hardly unstable."""

_ASIDE = 1e-5
"""How far from the saddle the trajectories start that show what it separates, in the same unit."""


_ON_THE_WAY = np.arange(1, 16) / 16
"""In continuous time, steps suit the motion from these places between the attractors."""


class BasinBoundary(eqx.Module):
    """What separates pairs of attractors: see [`basin_boundary`][slowpoints.basin_boundary].

    Attributes:
        saddle: `n` rows, the saddles, with Jacobians and eigenvalues, backed by NumPy; `valid` is
            False where none was found.
        state: `[n, n_states]` where the segment from `a` to `b` crosses the boundary: the last
            state of those that lead to `a`.
        fraction: `[n]` where on the segment that is, from 0 at `a` to 1 at `b`.
        width: `[n]` how much farther on the segment the first state is that does not lead to `a`.
        n_changes: `[n]` how often the end of the trajectories changes along the segment, on a grid
            of 17 parts. If it is more than 1, there are several crossings, or other attractors.
        is_resolved: `[n]` whether the saddle has one unstable direction, one side of which leads to
            `a` and the other one to `b`.
        reason: `[n]` why a boundary is not resolved; empty if it is.
    """

    saddle: FixedPoints
    state: Float[np.ndarray, "n n_states"]
    fraction: Float[np.ndarray, " n"]
    width: Float[np.ndarray, " n"]
    n_changes: Int[np.ndarray, " n"]
    is_resolved: Bool[np.ndarray, " n"]
    reason: Shaped[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.fraction)

    def __repr__(self) -> str:
        return f"BasinBoundary(n={len(self)}, n_resolved={self.is_resolved.sum()})"

    def __str__(self) -> str:
        lines = [f"{self.is_resolved.sum()} of {len(self)} boundaries are resolved."]
        reasons, counts = np.unique(self.reason[~self.is_resolved], return_counts=True)
        lines += [f"{k}: {reason}" for reason, k in zip(reasons, counts, strict=True)]
        return "\n".join(lines)


def basin_boundary(
    F: Any,
    a: Float[RealArray, " n_states"] | Float[RealArray, "n n_states"],
    b: Float[RealArray, " n_states"] | Float[RealArray, "n n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"] | None = None,
    *,
    max_steps: int = 10_000,
    max_rounds: int = 50,
) -> BasinBoundary:
    """Find the saddle between two attractors, without any search for saddles.

    The segment from `a` to `b` crosses the boundary of `a`'s basin somewhere. The first crossing is
    found by a scan, and then by dividing the interval that remains. From there two trajectories are
    followed, one on each side of the boundary. Together they stay close to it, and when they part,
    they are brought together again (edge tracking: Skufca, Yorke & Eckhardt 2006). On the boundary
    most states lead to a saddle with one unstable direction. When the two trajectories hardly move
    any more, Newton's method ([`optimize_batch`][slowpoints.optimize_batch]) finds it.

    Pairs of attractors between which there are several crossings have more than one saddle between
    them, or a third attractor. A saddle that is reported need not be the only one that separates
    them.

    In continuous time, [`flow`][slowpoints.flow] integrates trajectories, in steps of a quarter of
    the time scale on which velocities change, `|f| / |J f|` with the Jacobian `J`: the median over
    those from between the attractors, once what is fast is over. `max_steps` counts these.

    Runs on the host, not inside `jit`, in float64 if the network can be evaluated in it.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        a: `[n_states]` or `[n, n_states]` attractors, stable fixed points. They are refined by
            Newton's method.
        b: `[n_states]` or `[n, n_states]` other attractors.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant input; none or zeros
            by default.
        max_steps: how many steps a trajectory may take to arrive at an attractor.
        max_rounds: how many times two trajectories may be brought together again.

    Returns:
        The saddle of each pair, and whether it separates the two.

    Raises:
        TypeError: if an argument is of the wrong kind or traced.
        ValueError: if an argument has the wrong shape or range, or `F` does not map such states to
            states.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller, F = "basin_boundary", as_transition(F)
    check_steps(caller, F, a=a, b=b, inputs=inputs)
    max_steps = arguments.whole(caller, "max_steps", max_steps, least=1)
    max_rounds = arguments.whole(caller, "max_rounds", max_rounds)
    F, a, b, u = _checked(caller, F, a, b, inputs)
    relative = units_at_rest(F, np.concatenate([a, b]), np.concatenate([u, u]))
    apart = np.linalg.norm((a - b) / relative, axis=1)
    unit = relative * unit_of(float(np.median(apart)) if len(a) else 0.0)
    a, b = ((x / unit).astype(x.dtype) for x in (a, b))
    pairs = _Pairs.of(in_units(F, unit), a, b, u, max_steps)
    found = pairs.crossing(pairs.a, pairs.b, np.full(len(a), 1))
    state, high = pairs.between(pairs.a, pairs.b, found)
    low = state
    for _ in range(max_rounds):
        if (speeds(pairs.steps, low, pairs.u) <= _AT_REST * pairs.distance).all():
            break
        low, high = pairs.advance(low, high)
        label = pairs.labels(high)
        # Should rounding have taken a trajectory to the other side, the line has no crossing.
        apart = (pairs.labels(low) == 0) & (label != 0)
        tracked = pairs.crossing(low, high, np.where(apart, label, 1))
        low, high = pairs.between(low, high, tracked)
    saddle, near = pairs.saddle(low)
    reason = pairs.reasons(found, saddle, near)
    return BasinBoundary(
        saddle=_in_units_of_states(saddle, unit),
        state=(unit * state).astype(state.dtype),
        fraction=found.low,
        width=found.high - found.low,
        n_changes=found.n_changes,
        is_resolved=reason == "",
        reason=reason,
    )


def _checked(caller: str, F: Transition, a: Any, b: Any, inputs: Any) -> Any:
    states = {}
    for name, value in (("a", a), ("b", b)):
        shapes = ("n_states",), ("n", "n_states")
        value = arguments.array(caller, name, value, *shapes, floating=True, finite=True)
        arguments.check_precision(caller, name, value.dtype)
        states[name] = np.asarray(value)
    a, b = (np.atleast_2d(x) for x in states.values())
    if a.shape[1] == 0:
        arguments.refuse(caller, "a", "has no states", "at least one state", ValueError)
    if a.shape[1] != b.shape[1] or (len(a) != len(b) and 1 not in (len(a), len(b))):
        expected = f"one that goes with that of `a`, {states['a'].shape}"
        arguments.refuse(caller, "b", f"has shape {states['b'].shape}", expected, ValueError)
    n = max(len(a), len(b)) if len(a) and len(b) else 0
    a, b = (np.broadcast_to(x, (n, a.shape[1])) for x in (a, b))
    dtype = jax.dtypes.canonicalize_dtype(a.dtype)
    inputs = np.zeros(F.n_inputs or 0, dtype) if inputs is None else inputs
    u = np.asarray(arguments.inputs_of_rows(caller, inputs, n, "pair of attractors", dtype))
    F = traced(caller, F, a.shape[1], u.shape[1], dtype, states="a")
    return F, a, b, np.broadcast_to(u, (n, u.shape[1]))


class _Pairs(eqx.Module):
    """Pairs of attractors, in the precision of the computation."""

    F: Transition
    steps: Transition  # `F` as a map: itself, or a flow
    a: Float[np.ndarray, "n n_states"]
    b: Float[np.ndarray, "n n_states"]
    u: Float[np.ndarray, "n n_inputs"]
    distance: Float[np.ndarray, " n"]
    """How far apart they are."""
    flaw: Shaped[np.ndarray, " n"]
    """What is wrong with a pair, or nothing."""
    max_steps: int

    @classmethod
    def of(cls, F: Transition, a: Any, b: Any, u: Any, max_steps: int) -> "_Pairs":
        """Refine the attractors, and see whether they are such."""
        dtype = working_dtype(F, a, u)
        u = u.astype(dtype)
        with enabled(dtype):
            F = with_precision(F, dtype)
        way = np.concatenate([a + part * (b - a) for part in _ON_THE_WAY])
        steps = in_steps(F, way, np.tile(u, (len(_ON_THE_WAY), 1)))
        ends, flaw = [], np.full(len(a), "", object)
        for name, given in (("a", a), ("b", b)):
            x = refined_points(F, given.astype(dtype), u)
            with enabled(dtype):
                fps = decompose(jacobians(F, FixedPoints(xstar=jnp.asarray(x), inputs=u)))
            rounding = np.sqrt(np.finfo(dtype).eps) * size_of(x)
            good = (speeds(steps, x, u) <= rounding) & np.asarray(fps.is_stable)
            good &= np.linalg.norm(x - given, axis=1) <= GIVEN * size_of(x)
            flaw[~good] = f"`{name}` is not a stable fixed point"
            ends.append(x)
        distance = np.linalg.norm(ends[1] - ends[0], axis=1)
        merged = distance <= np.sqrt(np.finfo(dtype).eps) * size_of(ends[0])
        flaw[merged & (flaw == "")] = "`a` and `b` are the same point"
        return cls(
            F=F,
            steps=steps,
            a=ends[0],
            b=ends[1],
            u=u,
            distance=np.where(merged, 1, distance),
            flaw=flaw,
            max_steps=max_steps,
        )

    def labels(self, x: Float[np.ndarray, "n n_states"]) -> Int[np.ndarray, " n"]:
        """Return 0 for states that lead to `a`, 1 for `b`, and others for what is neither."""
        return self.labels_at(x[:, None])[:, 0]

    def labels_at(self, x: Float[np.ndarray, "n k n_states"]) -> Int[np.ndarray, "n k"]:
        """Return the labels of `k` states for each pair."""
        n, k, d = x.shape
        pair = np.repeat(np.arange(n), k)
        x = x.reshape(-1, d)
        starts = Starts(x, self.u[pair], pair, np.full(n * k, -1), np.ones(n * k, x.dtype))
        places = Places(
            np.concatenate([self.a, self.b]),
            np.tile(np.arange(n), 2),
            np.ones(2 * n, bool),
            np.tile(REACH * self.distance, 2).astype(x.dtype),
        )
        found = run_until_ended(self.steps, starts, places, self.max_steps)
        label = np.where(found.outcome == Outcome.MOVING, UNKNOWN, _OTHER + found.outcome)
        arrived = found.outcome == Outcome.ARRIVED
        return np.where(arrived, found.place >= n, label).reshape(n, k)

    def crossing(self, low: Any, high: Any, label: Any) -> Any:
        """Return where on the segments between states the labels change for the first time."""

        def labels_of(places: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n k"]:
            part = places[:, :, None]
            x = (1 - part) * low[:, None] + part * high[:, None]
            return self.labels_at(x.astype(low.dtype))

        zero = np.zeros(len(low))
        length = np.linalg.norm(high - low, axis=1) / self.distance
        close = _CLOSE if low.dtype == np.float64 else _CLOSE_32
        width = min(1.0, float(close / max(length.max(initial=0), close)))
        return crossing(labels_of, zero, zero + 1, label, width, SECTIONS)

    def between(self, low: Any, high: Any, found: Any) -> tuple[Any, Any]:
        """Return the states on either side of a crossing."""
        parts = (found.low[:, None], found.high[:, None])
        first, second = ((1 - part) * low + part * high for part in parts)
        return first.astype(low.dtype), second.astype(low.dtype)

    def advance(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Follow both trajectories until they have parted."""
        apart = _APART if low.dtype == np.float64 else _APART_32
        with enabled(low.dtype):
            arrays = (low, high, self.u, (apart * self.distance).astype(low.dtype))
            found = _advance(self.steps, *map(jnp.asarray, arrays))
            return np.asarray(found[0]), np.asarray(found[1])

    def saddle(self, x: Float[np.ndarray, "n n_states"]) -> tuple[FixedPoints, Any]:
        """Return the fixed points next to the edge states, and how far from them these are."""
        with enabled(x.dtype):
            found = optimize_batch(self.F, jnp.asarray(x), jnp.asarray(self.u))
            found = decompose(jacobians(self.F, found)).to_numpy()
        near = np.linalg.norm(found.xstar - x, axis=1) / self.distance
        known = (found.status == Status.FIXED_POINT) & (near <= _SAME) & (self.flaw == "")
        return found.replace(valid=known, dtype=x.dtype), near

    def reasons(self, found: Any, saddle: FixedPoints, near: Any) -> Shaped[np.ndarray, " n"]:
        """Return why boundaries are not resolved."""
        reason = self.flaw.copy()

        def add(where: Any, text: Any) -> None:
            chosen = (reason == "") & where
            reason[chosen] = text[chosen] if isinstance(text, np.ndarray) else text

        wide = found.high - found.low > _SAME
        add(wide, "trajectories from between the basins are still moving after `max_steps`")
        beyond = np.array([_beyond(label) for label in found.label.tolist()], object)
        add(found.label != 1, beyond)
        at_rest = speeds(self.steps, saddle.x_init, self.u) <= _AT_REST * self.distance
        add(~at_rest, "the state between the basins does not come to rest at a saddle")
        add(~saddle.valid, "no fixed point was found next to the state between the basins")
        index = np.asarray(saddle.n_unstable())
        text = [f"the saddle has {k} unstable directions, and separates more basins" for k in index]
        add(index != 1, np.array(text, object))
        direction = np.real(saddle.eigvec_J_xstar[:, :, 0])
        aside = np.nan_to_num(_ASIDE * self.distance[:, None] * direction)
        x = np.stack([saddle.xstar + aside, saddle.xstar - aside], axis=1)
        sides = np.sort(self.labels_at(x.astype(self.a.dtype)), axis=1)
        add((sides != [0, 1]).any(axis=1), "the saddle's two sides do not lead to `a` and `b`")
        return reason


def _in_units_of_states(saddle: FixedPoints, unit: Float[np.ndarray, " n_states"]) -> FixedPoints:
    """Return points that were found in other units."""
    row, column = unit, unit[:, None]
    vectors = column * saddle.eigvec_J_xstar
    found = {name: row * getattr(saddle, name) for name in ("xstar", "F_xstar", "x_init")}
    found |= {
        "J_xstar": column * saddle.J_xstar / row,
        "dFdu": column * saddle.dFdu,
        "eigvec_J_xstar": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "qstar": np.sum((found["F_xstar"] - found["xstar"]) ** 2, axis=1) / 2,
        "dq": unit.max() ** 2 * saddle.dq,
    }
    kinds = {name: getattr(saddle, name).dtype for name in found}
    return saddle.replace(**{name: value.astype(kinds[name]) for name, value in found.items()})


_OTHER = 10
"""Labels of outcomes other than arriving at `a` or `b` are above this."""


def _beyond(label: int) -> str:
    if label <= 1:
        return ""
    return f"beyond the basin of `a` is that of neither: trajectories are {Outcome(label - _OTHER)}"


@CompiledOnce
def _advance(
    F: Transition,
    low: Float[Array, "n n_states"],
    high: Float[Array, "n n_states"],
    u: Float[Array, "n n_inputs"],
    apart: Float[Array, " n"],
) -> tuple[Array, Array]:
    def together(low: Array, high: Array) -> Array:
        return jnp.linalg.norm(high - low, axis=1) < apart

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, n_steps = carry
        on = together(low, high)[:, None]
        new = (jax.vmap(F)(x, u).astype(x.dtype) for x in (low, high))
        low, high = (jnp.where(on, y, x) for x, y in zip((low, high), new, strict=True))
        return low, high, n_steps + 1

    start = (low, high, jnp.zeros((), np.int32))
    low, high, _ = jax.lax.while_loop(
        lambda c: jnp.any(together(c[0], c[1])) & (c[2] < _STEPS_APART), step, start
    )
    return low, high
