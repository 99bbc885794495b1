"""`closed_orbits`: closed orbits, whether they attract or not, from approximate ones."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from slowpoints._attractors.attractors import Attractors
from slowpoints._attractors.kinds import AttractorKind
from slowpoints._closed_orbits.equations import (
    Equations,
    at_equal,
    at_phases,
    filtered,
    harmonics,
    solved,
)
from slowpoints._closed_orbits.evaluated import NetworkOfOrbits, orbit_units
from slowpoints._closed_orbits.floquet import growth_of
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._connections.refined_points import working_dtype
from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.trace import traced

NOTHING_GIVEN = "no orbit was found beside the one that loses its stability"

_FEWEST_STATES = 5
"""An approximate orbit has at least so many states."""


def closed_orbits(
    F: Any,
    x0: Float[RealArray, "k n_states"] | Float[RealArray, "n k n_states"] | Attractors,
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"] | None = None,
    *,
    period: Number | Float[RealArray, " n"] | None = None,
    tol: Number = 1e-10,
    n_exponents: int = 4,
    n_sample: int = 256,
) -> ClosedOrbits:
    """Find the closed orbits next to approximate ones, whether they attract or not.

    In continuous time, a closed orbit is a limit cycle, or another periodic solution that is not
    one of a family, with the period as an unknown. In a map it is an invariant circle on which
    states turn by the same part of the circle in each step, the rotation number. Both are found as
    Fourier series by Newton's method (the parametrisation method, Haro et al. 2016; harmonic
    balance), in float64 if the network can be evaluated in it, with as many harmonics as `tol`
    takes. The numbers are those of the program: where JAX's x64 is off, constants of a model are
    rounded to float32 when it is traced. No trajectory is followed, so orbits
    that repel are found as well as others.

    Linear equations of up to 4096 unknowns, states times phases, are solved directly. With more,
    GMRES solves them, with the mean of the Jacobians along the orbit as the preconditioner. That
    works if they do not change much along it.

    An invariant circle on which states repeat after some steps (mode locking) is no such series:
    the circle is there, but states do not turn evenly. [`find_cycles`][slowpoints.find_cycles]
    finds its cycles.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x0: `[k, n_states]` or `[n, k, n_states]` approximate orbits: `k` states, at least five,
            that follow one another at about equal distances in time, once round. Or what
            [`attractors`][slowpoints.attractors] returns, whose closed orbits are taken, with their
            periods and inputs.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant inputs.
        period: the approximate period, a number or `[n]`, in steps or units of time. By default it
            follows from how fast states move along the approximate orbit.
        tol: the error to reach, as a part of the orbit's size. An orbit with an error of up to 1e-6
            is resolved even if this is not reached: see `error`.
        n_exponents: how many exponents and multipliers to give, at most one for each entry of the
            state.
        n_sample: how many states of each orbit to give.

    Returns:
        The orbits, in the order of the approximate ones.

    Raises:
        TypeError: if `F` is not of a known kind, or something is traced.
        ValueError: if `F` does not map such states to states, an argument has the wrong shape or
            range, or `inputs` is missing.
    """
    caller = "closed_orbits"
    F = as_transition(F)
    arguments.number(caller, "tol", tol, finite=True)
    n_exponents = arguments.whole(caller, "n_exponents", n_exponents, least=1)
    n_sample = arguments.whole(caller, "n_sample", n_sample)
    x, u, guess = _given(caller, x0, inputs, period)
    F = traced(caller, F, x.shape[2], u.shape[1], u.dtype, states="x0")
    dtype = working_dtype(F, x[:, 0], u)
    x, u = x.astype(dtype), u.astype(dtype)
    return orbits_near(F, x, u, guess, float(tol), n_exponents, n_sample)


def orbits_near(
    F: Transition,
    x: Float[np.ndarray, "n k d"],
    u: Float[np.ndarray, "n m"],
    numbers: list[float | None],
    tol: float,
    n_exponents: int,
    n_sample: int,
) -> ClosedOrbits:
    """Return the closed orbits near approximate ones, in the precision of these.

    Args:
        F: the network, traced.
        x: approximate orbits.
        u: the constant inputs.
        numbers: their rotation numbers or frequencies, as far as they are known.
        tol: the error to reach, as a part of an orbit's size.
        n_exponents: how many exponents and multipliers to give.
        n_sample: how many states of each orbit to give.
    """
    rows = [
        _one(F, one, own, number, tol, n_exponents, n_sample)
        for one, own, number in zip(x, u, numbers, strict=True)
    ]
    k = min(n_exponents, x.shape[2])
    empty = {
        "states": np.zeros((0, n_sample, x.shape[2])),
        "exponents": np.zeros((0, k)),
        "multipliers": np.zeros((0, k), complex),
        "index": np.zeros(0, int),
        "is_stable": np.zeros(0, bool),
        "is_resolved": np.zeros(0, bool),
    }
    fields = ("period", "period_error", "rotation_number", "error", *empty)
    columns = {
        name: np.array([row[name] for row in rows]) if rows else empty.get(name, np.zeros(0))
        for name in fields
    }
    reasons = tuple(row["reason"] for row in rows)
    return ClosedOrbits(**columns, inputs=u, reasons=reasons)


def _given(
    caller: str, x0: Any, inputs: Any, period: Any
) -> tuple[Shaped[np.ndarray, "n k d"], Shaped[np.ndarray, "n m"], list[float | None]]:
    """Return the approximate orbits, their inputs and their periods, as far as they are known."""
    if isinstance(x0, Attractors):
        rows = x0.kind == AttractorKind.CLOSED_ORBIT
        x, u, known = x0.states[rows], x0.inputs[rows], x0.period[rows]
    else:
        axes = (("k", "n_states"), ("n", "k", "n_states"))
        x = np.asarray(arguments.array(caller, "x0", x0, *axes, floating=True, finite=True))
        if x.shape[-2] < _FEWEST_STATES or x.shape[-1] == 0:
            was = f"has shape {tuple(x.shape)}"
            expected = f"at least {_FEWEST_STATES} states for each orbit, each of some numbers"
            arguments.refuse(caller, "x0", was, expected, ValueError)
        x = x[None] if x.ndim == 2 else x
        if (np.ptp(x, axis=1).max(axis=1) == 0).any():
            expected = "states around each orbit"
            arguments.refuse(caller, "x0", "has an orbit of equal states", expected, ValueError)
        arguments.check_precision(caller, "x0", x.dtype)
        if inputs is None:
            arguments.refuse(caller, "inputs", "is None", "the constant inputs", ValueError)
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        u = arguments.inputs_of_rows(caller, inputs, len(x), "orbit of `x0`", dtype)
        u = np.broadcast_to(np.asarray(u), (len(x), u.shape[1]))
        known = None
    if x.shape[1] < _FEWEST_STATES:
        was = f"has {x.shape[1]} states of each attractor"
        expected = f"at least {_FEWEST_STATES}: call `attractors` with a larger `n_sample`"
        arguments.refuse(caller, "x0", was, expected, ValueError)
    if period is not None:
        if getattr(period, "ndim", 0):
            known = np.asarray(arguments.array(caller, "period", period, (len(x),), finite=True))
            if (known <= 0).any():
                was = f"holds {known.min()}"
                arguments.refuse(caller, "period", was, "positive numbers", ValueError)
        else:
            known = np.full(len(x), float(arguments.positive(caller, "period", period)))
    return x, u, [None] * len(x) if known is None else [1 / float(p) for p in known]


def _one(
    F: Transition,
    x: Float[np.ndarray, "k d"],
    u: Float[np.ndarray, " m"],
    number: float | None,
    tol: float,
    n_exponents: int,
    n_sample: int,
) -> dict[str, Any]:
    """Return one row of the result."""
    d = x.shape[1]
    k = min(n_exponents, d)
    nothing = np.full(k, np.nan)
    row: dict[str, Any] = {
        "is_resolved": False,
        "reason": NOTHING_GIVEN,
        "period": np.nan,
        "period_error": np.nan,
        "rotation_number": np.nan,
        "error": np.nan,
        "states": np.full((n_sample, d), np.nan),
        "exponents": nothing,
        "multipliers": nothing.astype(complex),
        "index": -1,
        "is_stable": False,
    }
    if not np.isfinite(x).all():
        return row
    unit = orbit_units(x)
    continuous_time = isinstance(F, ContinuousTime)
    equations = NetworkOfOrbits.of(F, unit, u.dtype).at(u)
    x = at_phases((x / unit).astype(np.float64), 2 * ((len(x) - 1) // 2) + 1)
    x, number = _with_number(equations, x, number)
    orbit = solved(equations, x, number, tol)
    if orbit.reason:
        return row | {"reason": orbit.reason}
    curve, number = _once_round(equations, orbit.x, orbit.number, continuous_time)
    curve, number = _forwards(curve, number, continuous_time)
    growth = growth_of(equations, curve, number, k)
    exponents, multipliers = growth.leading(k)
    return row | {
        "is_resolved": True,
        "reason": "",
        "period": 1 / number,
        "period_error": orbit.number_error / number**2,
        "rotation_number": np.nan if continuous_time else number,
        "error": float(orbit.error * unit.max()),
        "states": unit * at_equal(curve, n_sample),
        "exponents": exponents,
        "multipliers": multipliers,
        "index": growth.index,
        "is_stable": growth.is_stable,
    }


_SILENT = 1e-9
"""Harmonics below this part of the curve's size are not there."""


def _with_number(
    equations: Equations, x: Float[np.ndarray, "n d"], number: float | None
) -> tuple[Float[np.ndarray, "n d"], float]:
    """Return the curve in the direction of the motion, and its rotation number or frequency."""
    n = len(x)
    along = filtered(2j * np.pi * harmonics(n), x)
    if equations.continuous_time:
        found = float(np.sum(equations.values(x) * along) / np.sum(along * along))
    else:
        # The shift after which the curve is closest to its image.
        image = np.fft.fft(equations.values(x), axis=0)
        fine = 64 * n
        product = np.sum(image * np.fft.fft(x, axis=0).conj(), axis=1)
        spread = np.zeros(fine, complex)
        side = (n - 1) // 2
        spread[1 : side + 1], spread[-side:] = product[1 : side + 1], product[-side:]
        # `image(p) = x(p + r)` has the coefficients of `x` times `exp(2 pi i k r)`.
        best = int(np.argmax(np.fft.fft(spread).real)) / fine
        found = best if best <= 0.5 else best - 1
    x, found = _forwards(x, found, equations.continuous_time)
    return x, found if number is None else number


def _once_round(
    equations: Equations, x: Float[np.ndarray, "n d"], number: float, continuous_time: bool
) -> tuple[Float[np.ndarray, "m d"], float]:
    """Return the curve once round, if it goes round several times."""
    n = len(x)
    size = np.linalg.norm(np.fft.fft(x, axis=0) / n, axis=1)
    size[0] = 0
    present = np.abs(harmonics(n))[size > _SILENT * size.max()].astype(int)
    times = int(np.gcd.reduce(present)) if present.size else 1
    if times <= 1:
        return x, number
    coefficients = np.fft.fft(x, axis=0) / n
    side = (n - 1) // 2 // times
    kept = np.zeros((2 * side + 1, x.shape[1]), complex)
    kept[: side + 1] = coefficients[: side * times + 1 : times]
    kept[-side:] = coefficients[-side * times :: times][-side:]
    number = times * number if continuous_time else (times * number) % 1.0
    return np.fft.ifft(kept * len(kept), axis=0).real, number


def _forwards(
    x: Float[np.ndarray, "n d"], number: float, continuous_time: bool
) -> tuple[Float[np.ndarray, "n d"], float]:
    """Return the curve in the direction of the motion; in a map, in that of the shorter way."""
    turned = number if continuous_time else (number + 0.5) % 1.0 - 0.5
    return (x, turned) if turned > 0 else (np.roll(x[::-1], 1, axis=0), -turned)
