"""`degree`: a sum over fixed points that shows whether some are missing."""

import warnings
from typing import Any

import numpy as np

from slowpoints._core import arguments
from slowpoints._linear_algebra.signs import signs_of
from slowpoints._network.as_transition import as_transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.status import Status


def degree(F: Any, fps: FixedPoints) -> int:
    """Return the sum of `sign det(I - J)` over the fixed points, which is 1 if none is missing.

    This holds for every network whose states stay in a ball, such as networks of `tanh` units,
    GRUs, and LSTMs whose forget gates are below 1: Brouwer's degree of `x - F(x)` is 1 there, and
    it is this sum if all fixed points are simple (Milnor 1965, "Topology from the differentiable
    viewpoint"). Any other value proves that the set is not complete: each point counts as 1 or -1,
    so a sum of -1 means that at least two are missing. A sum of 1 proves nothing, because points
    may be missing in pairs.

    None of this holds for networks whose states can grow without bound, such as those of `relu`
    units or linear ones, nor for networks that jump.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: distinct points with `xstar` and `inputs`, or with `J_xstar`. Rows that are invalid,
            and rows whose `status` is not that of a fixed point, do not count. All should be under
            one input, or else the sum is 1 for each of the inputs.

    Returns:
        The sum.

    Raises:
        TypeError: if `F` is not of a known kind, or `fps` is not a `FixedPoints`.
        ValueError: if `fps` has neither `J_xstar` nor `xstar` and `inputs`, or if `F`, where it is
            needed, does not map such states to states; or if the Jacobians are those of a flow and
            `F` is a map, or the other way round.

    Warns:
        UserWarning: if `I - J` of a point is singular as far as its precision can tell, not finite,
            or jumps at a kink of the network, so that its sign is not known; it counts as 0.
    """
    F = as_transition(F)
    arguments.fields("degree", fps, FixedPoints)
    if fps.J_xstar is None:
        arguments.fields("degree", fps, FixedPoints, "xstar", "inputs")
    elif fps.continuous_time != isinstance(F, ContinuousTime):
        time = "a map" if fps.continuous_time else "in continuous time"
        was = f"is {fps.continuous_time}, and `F` is {time}"
        expected = "Jacobians of `F`: call `jacobians(F, fps)`"
        arguments.refuse("degree", "fps.continuous_time", was, expected, ValueError)
    fps = fps[np.flatnonzero(counted_rows(fps))]
    if fps.n == 0:
        return 0
    if fps.J_xstar is None:
        fps = jacobians(F, fps)
    signs = signs_of(fps)
    if not signs.all():
        warnings.warn(
            f"degree: I - J is singular to rounding at {np.sum(signs == 0)} of {fps.n} points, as "
            f"at a fold or on a line of fixed points{_of_these(fps)}. Their signs are not known, "
            "and count as 0.",
            stacklevel=2,
        )
    return int(signs.sum())


def _of_these(fps: FixedPoints) -> str:
    n = int(np.sum(~np.isfinite(np.asarray(fps.J_xstar)).all(axis=(1, 2))))
    n_at_kinks = 0 if fps.at_kink is None else int(np.sum(fps.at_kink))
    told = f", or not finite ({n} of these)" if n else ""
    return told + (f", or jumps at a kink ({n_at_kinks} of these)" if n_at_kinks else "")


def counted_rows(fps: FixedPoints) -> Any:
    """Return which rows are fixed points, `[n]`."""
    counted = np.ones(fps.n, bool) if fps.valid is None else np.array(fps.valid, bool)
    if fps.status is not None:
        counted &= np.asarray(fps.status) == Status.FIXED_POINT
    return counted
