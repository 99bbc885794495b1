"""`attractors`: what many states settle on, and which share of them on what."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._attractors.known import Known
from slowpoints._attractors.running import run
from slowpoints._attractors.settling import Settling
from slowpoints._connections.outcome import check_steps
from slowpoints._connections.refined_points import working_dtype
from slowpoints._core import arguments
from slowpoints._core.types import RealArray
from slowpoints._core.units import units_of
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.time_scale import TimeSteps, in_steps, length_of_step
from slowpoints._network.trace import traced
from slowpoints._network.units import InUnits, in_units
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._proofs.certify import certify as certified

_STEPS_OF_UNITS = 64
"""After so many steps, states are about as large as they will be."""

_LARGER = 1e3
"""States that are so many times as large as most others by then do not count for it: they leave."""

_NORMAL_95 = 1.959963984540054
"""A normal distribution is within so many standard deviations with a probability of 95 %."""

_NEUTRAL = 1e-6
"""A fixed point whose leading exponent is this close to zero counts as one of a line."""


class Attractors(eqx.Module):
    """What states settle on: see [`attractors`][slowpoints.attractors].

    One row for each attractor, those of the largest share first. States that escape, and states of
    which it is not known, have rows of their own, at the end.

    Attributes:
        kind: `[k]` the numbers of [`AttractorKind`][slowpoints.AttractorKind].
        x: `[k, n_states]` a state on it: the fixed point, or one of the states of a cycle or orbit.
        inputs: `[k, n_inputs]` the constant input under which it exists.
        period: `[k]` after how many steps states return: 1 for a fixed point, the number of steps
            of a cycle, the mean time of return of a closed orbit, of a torus that of its strongest
            frequency, and NaN otherwise. In continuous time it is in units of time, and NaN for a
            fixed point.
        period_error: `[k]` by how much the period differs between parts of the trajectory.
        rotation_number: `[k]` turns per step, from 0 to 1/2; NaN where nothing rotates, and in
            continuous time.
        exponents: `[k, n_exponents]` the leading Lyapunov exponents, per step or unit of time; NaN
            where not known.
        exponent_errors: `[k, n_exponents]` half the widths of their 95 % intervals.
        n_starts: `[k]` how many states settled on it.
        share: `[k]` these as a part of all states that started under this input.
        share_interval: `[k, 2]` a 95 % interval of the share of the basin, for the distribution
            that the states were drawn from (Wilson 1927). States of which it is not known count as
            none for the lower end and as all for the upper one.
        states: `[k, n_sample, n_states]` states on it: those of a cycle in turn, those of a closed
            orbit at equal distances in phase, and those of a torus or of chaos at random times.
        is_certified: `[k]` whether it is a fixed point that is proven; `None` if not asked for.
        attractor: `[n]` for each start, the row of what it settled on.
        end: `[n, n_states]` its last state.
        n_steps: `[n]` how many steps it took, with those after `max_steps` in which it settled; in
            continuous time, how much time.
        reasons: `[k]` why it is not known; empty where it is.
    """

    kind: Int[np.ndarray, " k"]
    x: Float[np.ndarray, "k n_states"]
    inputs: Float[np.ndarray, "k n_inputs"]
    period: Float[np.ndarray, " k"]
    period_error: Float[np.ndarray, " k"]
    rotation_number: Float[np.ndarray, " k"]
    exponents: Float[np.ndarray, "k n_exponents"]
    exponent_errors: Float[np.ndarray, "k n_exponents"]
    n_starts: Int[np.ndarray, " k"]
    share: Float[np.ndarray, " k"]
    share_interval: Float[np.ndarray, "k 2"]
    states: Float[np.ndarray, "k n_sample n_states"]
    is_certified: Bool[np.ndarray, " k"] | None
    attractor: Int[np.ndarray, " n"]
    end: Float[np.ndarray, "n n_states"]
    n_steps: Int[np.ndarray, " n"] | Float[np.ndarray, " n"]
    reasons: tuple[str, ...] = eqx.field(static=True)

    def __len__(self) -> int:
        return len(self.kind)

    def print_summary(self, max_rows: int = 30) -> None:
        """Print a table of the attractors.

        Args:
            max_rows: the largest number of lines in it.
        """
        max_rows = arguments.whole("Attractors.print_summary", "max_rows", max_rows)
        print("\n=== Attractors Summary ===")
        for line in self._lines(max_rows):
            print(line)

    def __repr__(self) -> str:
        return f"Attractors(k={len(self)}, n_starts={len(self.attractor)})"

    def __str__(self) -> str:
        return "\n".join(self._lines(len(self)))

    def _lines(self, max_rows: int) -> Iterator[str]:
        if len(self) == 0:
            yield "No states were given."
            return
        yield f"{'row':>3}  {'share (95 %)':<22}  {'kind':<12}  {'period':>10}  leading exponents"
        for row in range(min(len(self), max_rows)):
            low, high = 100 * self.share_interval[row]
            share = f"{100 * self.share[row]:.1f} % ({low:.1f} to {high:.1f})"
            period = "" if np.isnan(self.period[row]) else f"{self.period[row]:.6g}"
            pairs = zip(self.exponents[row], self.exponent_errors[row], strict=True)
            told = ", ".join(f"{e:.3g} ± {d:.1g}" for e, d in pairs if not np.isnan(e))
            told = self.reasons[row] or told
            kind = str(AttractorKind(self.kind[row]))
            yield f"{row:>3}  {share:<22}  {kind:<12}  {period:>10}  {told}".rstrip()
        if len(self) > max_rows:
            yield f"... and {len(self) - max_rows} more"
        neutral = np.abs(self.exponents[:, 0]) <= self.exponent_errors[:, 0] + _NEUTRAL
        if n := np.sum(neutral & (self.kind == AttractorKind.FIXED_POINT)):
            yield (
                f"{n} fixed {'point has' if n == 1 else 'points have'} an exponent of zero: states "
                "rest there, as on a line of fixed points (see line_attractor), and are not drawn "
                "to any one of them."
            )
        repels = self.exponents[:, 0] > self.exponent_errors[:, 0] + _NEUTRAL
        if n := np.sum(repels & (self.kind == AttractorKind.FIXED_POINT)):
            yield (
                f"{n} fixed {'point repels' if n == 1 else 'points repel'}: states rest there in "
                "the precision of the computation, and leave after the least deviation, such as "
                "one that was too small for it."
            )


def attractors(
    F: Any,
    states: Float[RealArray, "n n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    *,
    max_steps: int = 10_000,
    n_exponents: int = 4,
    n_sample: int = 256,
    certify: bool = False,
) -> Attractors:
    """Run many states forward until each has settled, and say on what.

    All states run side by side, in their own precision (float32 unless JAX's x64 is on), and leave
    once they have settled. Whatever is not a point is examined in float64, if the network can be
    evaluated in it.

    - A *fixed point* is found by Newton's method from states that have slowed down. States have
      come to it if they are close, come closer, and move as its Jacobian says. So a state that
      lingers at a ghost or a saddle goes on. States at rest, to rounding, where nothing attracts,
      as on a line of fixed points, count as fixed points with the exponents that they have there:
      zero, or positive if they started on the stable side of a saddle, or so close to it that
      the difference is lost in the precision of the states. The summary names the latter.
    - A *cycle* returns exactly, or is found by Newton's method if it has at most 64 steps.
    - A *closed orbit* has a rotation number with which states, in the order of their phase, follow
      one another on a closed curve, to a ten thousandth of its radius, and no positive exponent. A
      limit cycle is one if time moves in steps. It may consist of up to eight curves that are
      visited in turn.
    - A *torus* has two exponents that are zero, is no such curve, and its averages agree to four
      digits between halves of the trajectory (Sander & Meiss 2020).
    - *Chaos* has a positive leading exponent, by twice the error at least, with which neighbours
      part by ten powers of e in the steps that are looked at, and averages that do not agree. Chaos
      and tori are told after `max_steps` only, and if a state does not leave them in several times
      as many further steps, since they may be transients.
    - States *escape* if they become NaN, infinite, or a million times as large as they were.
    - Everything else is *undecided*, with a reason.

    In continuous time, [`flow`][slowpoints.flow] integrates trajectories, in float64 if the network
    can be evaluated in it. They are looked at in
    steps of a quarter of the time scale on which velocities change, `|f| / |J f|` with the Jacobian
    `J`: the median over trajectories from these states, once what is fast is over. There are no
    cycles of steps then: a limit cycle is a closed orbit, whatever its period. States at which the
    integrator gives up are undecided.

    States count as being on a torus or a chaotic attractor if they move among its states, no
    farther from them than these are from each other. Attractors that are that close together are
    not told apart.

    Runs on the host, not inside `jit`.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, or a
            [`ContinuousTime`][slowpoints.ContinuousTime].
        states: `[n, n_states]` where to start, drawn from the distribution that shares are to refer
            to, such as [`sample_states`][slowpoints.sample_states] or
            [`sample_ball`][slowpoints.sample_ball] give.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` their constant inputs. Attractors
            under different inputs are different ones. For inputs that repeat, see
            [`stroboscopic`][slowpoints.stroboscopic].
        max_steps: how many steps each state may take, in continuous time of the length above. Of
            those that are then on nothing known, up to 64 under each input are examined: these take
            half as many again, or 2,048, before as many are looked at, or 4,096 (but no more than
            16,384). The others are undecided.
        n_exponents: how many Lyapunov exponents to give, at most one for each entry of the state.
        n_sample: how many states of each attractor to keep.
        certify: whether to prove the fixed points, as [`certify`][slowpoints.certify] does.

    Returns:
        The attractors, with the share of the states that settled on each.

    Raises:
        TypeError: if `F` is not of a known kind, or something is traced.
        ValueError: if `F` does not map such states to states, or a number is out of range.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller = "attractors"
    F = as_transition(F)
    check_steps(caller, F, states=states, inputs=inputs)
    states = arguments.array(caller, "states", states, ("n", "n_states"), floating=True)
    arguments.check_precision(caller, "states", states.dtype)
    arguments.check_finite(caller, "states", states)
    max_steps = arguments.whole(caller, "max_steps", max_steps, least=1)
    n_exponents = arguments.whole(caller, "n_exponents", n_exponents, least=1)
    n_sample = arguments.whole(caller, "n_sample", n_sample)
    certify = arguments.flag(caller, "certify", certify)
    x = np.asarray(states)
    n, n_states = x.shape
    if n_states == 0:
        arguments.refuse(caller, "states", "has no columns", "at least one state", ValueError)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    inputs = arguments.inputs_of_rows(caller, inputs, n, "row of `states`", dtype)
    F = traced(caller, F, n_states, inputs.shape[1], dtype, states="states")
    if isinstance(F, ContinuousTime):  # where errors are controlled
        dtype = working_dtype(F, x, inputs)
    x, u = x.astype(dtype), np.broadcast_to(np.asarray(inputs, dtype), (n, inputs.shape[1]))
    u_of, group = np.unique(u, axis=0, return_inverse=True)
    group = group.reshape(-1)
    steps, unit = _in_units(F, x, u)
    settling = Settling(
        steps,
        (x / unit).astype(dtype),
        u,
        group,
        working_dtype(F, x, u),
        min(n_exponents, n_states),
    )
    with np.errstate(over="ignore", invalid="ignore"):  # of states that leave
        settling.run(max_steps)
        found = _result(settling, u_of, group, unit, n_sample)
    if (dt := length_of_step(steps)) is not None:
        found = _in_time(found, dt)
    if certify:
        rows = found.kind == AttractorKind.FIXED_POINT
        is_certified = np.zeros(len(found), bool)
        if rows.any():
            fps = FixedPoints(found.x[rows], inputs=found.inputs[rows], dtype=found.x.dtype.type)
            is_certified[rows] = np.asarray(certified(F, fps).is_certified)
        found = eqx.tree_at(
            lambda a: a.is_certified, found, is_certified, is_leaf=lambda a: a is None
        )
    return found


def _in_units(
    F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
) -> tuple[Transition, Float[np.ndarray, " n_states"]]:
    """Return the network in steps and in units, and these: how large states are.

    Those where they start, and a few steps later.
    """
    continuous_time = isinstance(F, ContinuousTime)
    first = units_of(x) if continuous_time else np.ones(x.shape[1])
    steps = in_steps(in_units(F, first), x / first, u) if continuous_time else F
    with np.errstate(over="ignore", invalid="ignore"):
        later = first * run(steps, (x / first).astype(x.dtype), u, _STEPS_OF_UNITS)
        size = np.linalg.norm(later, axis=1)
        size = np.where(np.isfinite(size), size, np.inf)
        typical = np.median(size) if len(size) else 0.0
    unit = units_of(x, later[size <= _LARGER * typical] if np.isfinite(typical) else later[:0])
    if isinstance(steps, TimeSteps):
        return dataclasses.replace(steps, f=InUnits(linearised_part(F), unit)), unit
    return F if (unit == 1).all() else InUnits(F, unit), unit


def _in_time(found: Attractors, dt: float) -> Attractors:
    """Return what was found in steps of a length in units of time."""
    rests = found.kind == AttractorKind.FIXED_POINT
    return dataclasses.replace(
        found,
        period=np.where(rests, np.nan, found.period * dt),
        period_error=np.where(rests, np.nan, found.period_error * dt),
        rotation_number=np.full(len(found), np.nan),
        exponents=found.exponents / dt,
        exponent_errors=found.exponent_errors / dt,
        n_steps=found.n_steps * dt,
    )


def _result(
    settling: Settling,
    u: Float[np.ndarray, "n_groups n_inputs"],
    group: Int[np.ndarray, " n"],
    unit: Float[np.ndarray, " n_states"],
    n_sample: int,
) -> Attractors:
    """Return one row for each attractor that states settled on, and for those that did not."""
    known, number, reasons = _with_undecided(settling, group)
    counts = np.bincount(number, minlength=len(known))
    of = np.array([one.group for one in known], int)
    is_open = np.array([one.kind == AttractorKind.UNDECIDED for one in known], bool)
    kinds = np.array([one.kind for one in known], np.int8)
    last = kinds >= AttractorKind.ESCAPE
    order = [i for i in np.lexsort((-counts, last, of)) if counts[i]]
    total = np.bincount(group, minlength=len(u))
    n_open = np.bincount(of[is_open], weights=counts[is_open], minlength=len(u)).astype(int)
    place = np.full(len(known), -1)
    place[order] = np.arange(len(order))

    def column(values: list[Any], *shape: int) -> Any:
        return np.array(values, np.float64).reshape(len(order), *shape)

    rows = [known[i] for i in order]
    n_exponents = max((len(one.exponents) for one in known), default=0)
    dtype, n_states = settling.x.dtype, settling.x.shape[1]
    intervals = [
        _interval(counts[i], 0 if is_open[i] else n_open[of[i]], total[of[i]]) for i in order
    ]
    sample = [_sample(one, n_sample) for one in rows]
    return Attractors(
        kind=kinds[order],
        x=(unit * column([one.x[0] for one in rows], n_states)),
        inputs=u[of[order]],
        period=column([one.period for one in rows]),
        period_error=column([one.period_error for one in rows]),
        rotation_number=column([one.rotation_number for one in rows]),
        exponents=column([one.exponents for one in rows], n_exponents),
        exponent_errors=column([one.errors for one in rows], n_exponents),
        n_starts=counts[order],
        share=counts[order] / total[of[order]],
        share_interval=column(intervals, 2),
        states=unit * column(sample, n_sample, n_states),
        is_certified=None,
        attractor=place[number],
        end=(unit * settling.x).astype(dtype),
        n_steps=settling.n_steps,
        reasons=tuple(reasons[i] for i in order),
    )


def _with_undecided(
    settling: Settling, group: Int[np.ndarray, " n"]
) -> tuple[list[Known], Int[np.ndarray, " n"], list[str]]:
    """Return the attractors, and after them one for each reason why states have none."""
    known, number = list(settling.known), settling.attractor.copy()
    reasons = [""] * len(known)
    undecided: dict[tuple[int, str], int] = {}
    for i in np.flatnonzero(number < 0).tolist():
        key = int(group[i]), settling.reason(i)
        if key not in undecided:
            undecided[key] = len(known)
            nothing = np.full(settling.n_exponents, np.nan)
            x = settling.x[i : i + 1]
            known.append(Known(AttractorKind.UNDECIDED, key[0], x, nothing, nothing))
            reasons.append(key[1])
        number[i] = undecided[key]
    return known, number, reasons


def _sample(one: Known, n: int) -> Float[np.ndarray, "n n_states"]:
    """Return some of an attractor's states: spread along an orbit, the first ones of others."""
    if one.kind == AttractorKind.CLOSED_ORBIT:
        return one.x[np.arange(n) * len(one.x) // max(n, 1)]
    return one.x[np.arange(n) % len(one.x)]


def _interval(n_here: Any, n_open: Any, n: Any) -> tuple[float, float]:
    """Return a 95 % interval of a share, if `n_open` further ones may belong to it or not.

    Wilson's, in full: SciPy has it in a module that takes a second to load.
    """
    low, high = n_here / n, (n_here + n_open) / n
    spread = _NORMAL_95**2 / n
    lower, upper = (
        (share + spread / 2 + sign * np.sqrt(spread * (share * (1 - share) + spread / 4)))
        / (1 + spread)
        for share, sign in ((low, -1), (high, 1))
    )
    return float(lower) if low > 0 else 0.0, float(upper) if high < 1 else 1.0
