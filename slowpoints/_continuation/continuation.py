"""`continuation`: follow fixed points through a parameter."""

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, PRNGKeyArray

from slowpoints._arclength.curve import Curve
from slowpoints._closed_orbits.equations import FEWEST_PHASES
from slowpoints._closed_orbits.evaluated import NetworkOfOrbits, orbit_units
from slowpoints._closed_orbits.families import orbit_branches
from slowpoints._closed_orbits.following import Path
from slowpoints._closed_orbits.orbit_branches import OrbitBranches
from slowpoints._closed_orbits.orbits import ClosedOrbits
from slowpoints._connections.refined_points import working_dtype
from slowpoints._continuation.branches import Branches
from slowpoints._continuation.family import NOT_CONVERGED, Family
from slowpoints._continuation.state_sizes import rate_unit, state_units
from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.trace import traced
from slowpoints._network.units import InUnits
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._points.unique import unique
from slowpoints._search.optimize_batch import optimize_batch

_MAX_STEP, _FEW_UNITS = 0.1, 16
"""The longest step by default, for up to 16 units. States of more units are farther apart, by the
square root of their number, and so is the step."""

_MOST_UNITS = 256
"""Networks of up to so many units are followed with Jacobians, and all eigenvalues are computed.
Above, a product with a Jacobian costs so much less than the Jacobian that products do both."""

_LEADING = 16
"""So many eigenvalues are computed of larger networks."""


def continuation(
    G: Any,
    fps: FixedPoints | ClosedOrbits,
    span: tuple[Number, Number],
    *,
    max_step: Number | None = None,
    search_at: Sequence[Number] | None = None,
    n_starts: int = 256,
    max_steps: int = 5000,
    n_eigvals: int | None = None,
    certify: bool = False,
    box: tuple[Any, Any] | None = None,
    key: PRNGKeyArray | int | None = None,
) -> Branches | OrbitBranches:
    """Follow fixed points, or closed orbits, through a parameter, around folds, in both directions.

    Pseudo-arclength continuation (Keller 1977): the tangent predicts the next point, and Newton's
    method corrects it in the plane across the tangent. Steps adapt to how the branch bends, and
    become shorter where it would change its orientation, as by a jump to a branch close by. Where
    branches really cross, it does so however short the steps are: branches that come closer to each
    other than 2e-5, in the units of `max_step`, are taken to cross. All branches are followed side
    by side. Steps are then divided where eigenvalues, or the direction in `s`, bend as if there
    were two events in one. Where the index changes, the piece of the branch is divided, to about
    1e-10 of its length in float64, and the place where an eigenvalue passes is interpolated from
    points on both sides of it.

    Without `certify`, a branch may still jump, and events may be missed: of those that are closer
    to each other than `Branches.event_resolution`, only such that eigenvalues and directions
    announce by their bends are found.

    It computes in float64 if the network can, whether or not that is enabled.

    Closed orbits are followed in the same way, one after another, as Fourier series with their
    periods, or rotation numbers, as unknowns. Of `max_step` and of `max_steps`, the first is then
    measured in sizes of the orbit and its period, and the options after these have no meaning. A
    network in which states run on closed orbits in place of points has them from
    [`closed_orbits`][slowpoints.closed_orbits], or from `emerging_orbits` of the branches of its
    points, which begins at Hopf and Neimark-Sacker points.

    Args:
        G: the transition `G(x, [s])` of the states and of one number; or anything that
            [`as_transition`][slowpoints.as_transition] takes, with one input.
            [`along`][slowpoints.along] makes one from a path of inputs. In continuous time `dx/dt`
            is set to 0.
        fps: points of `G`, with `xstar` and `inputs = [[s]]`. All may be at one `s`, or each at its
            own. Invalid rows, and rows whose `status` is not that of a fixed point, are not
            followed. Or closed orbits of `G`.
        span: the two ends of `s`, in any order. The `s` of every point must be in between.
        max_step: the longest step along a branch, where each state is measured in a unit of about
            its size at the given points, and `s` as a fraction of the span; by default 0.1 for up
            to 16 units, and more for larger networks, in proportion to the square root of their
            size. A step never passes more than a twentieth of the span.
        search_at: start new searches at these `s`, for branches that no known point leads to, such
            as closed ones. The searches start around the states of the known branches.
        n_starts: how many states each of these searches starts from.
        max_steps: the largest number of points from a known point to the next, or to the end of a
            branch.
        n_eigvals: how many eigenvalues to compute at each point, the leading ones; by default all
            for up to 256 units, and 16 above. Where these do not tell the index, as they do not
            stand out from the others, or are all outside the unit circle, all are computed for up
            to 2,048 units. Above, the index is unknown there (-1), and its changes are not found.
        certify: prove the branches: around each of their steps, a tube that holds one branch and no
            other, by Krawczyk's test with the parameter (compare Gameiro, Lessard & Mischaikow
            2008), in ball arithmetic as for [`certify`][slowpoints.certify]. Steps are divided
            until there is one. Where there is none, as where branches cross, `Branches.unproven`
            says so. Events are not proven. The more units, the shorter the tubes: it is meant for
            up to some ten. Other branches, such as closed ones, are followed as well, and proven
            not to be there: a box of states, over the whole span, is divided like that of
            [`find_all`][slowpoints.find_all]. This is for up to some five units; where it is cut
            short, `Branches.may_hold_others` says so.
        box: `(low, high)`, the lowest and the highest states of that box, `[n_states]` each, or
            numbers. By default, it reaches 1,024 times as far as the known branches, but for what
            is proven at once to hold no fixed point: with `tanh` units, some -1 to 1 is left.
        key: a JAX random key, or a whole number as its seed, for `search_at`; 0 by default.

    Returns:
        The branches and what happens on them. A branch on which several of the points lie appears
        once. For closed orbits, [`OrbitBranches`][slowpoints.OrbitBranches].

    Raises:
        TypeError: if `G` or an argument is of the wrong kind or traced.
        ValueError: if `fps` has no `xstar` or not one input, the span is empty or does not hold
            the points, an option for points is given for closed orbits, or `G` does not map such
            states to states.

    Warns:
        UserWarning: if points that a search at some `s` found cannot be followed.
    """
    caller = "continuation"
    G = as_transition(G)
    if isinstance(fps, ClosedOrbits):
        for_points = {
            "search_at": search_at,
            "n_eigvals": n_eigvals,
            "certify": certify,
            "box": box,
            "key": key,
        }
        return _of_orbits(caller, G, fps, span, max_step, max_steps, for_points)
    G, x, s, ends = _checked_points(caller, G, fps, span)
    longest = _checked_longest(caller, max_step, fps.n_states)
    most = arguments.whole(caller, "max_steps", max_steps, least=1)
    n_starts = arguments.whole(caller, "n_starts", n_starts, least=1)
    n_leading = arguments.whole(caller, "n_eigvals", n_eigvals, least=1, or_none=True)
    if n_leading is None:
        n_leading = fps.n_states if fps.n_states <= _MOST_UNITS else _LEADING
    certify = arguments.flag(caller, "certify", certify)
    box = _checked_box(caller, box, fps.n_states, certify)
    places = _checked_places(caller, search_at, ends)
    random_key: Any = arguments.random_key(caller, 0 if key is None else key)

    is_double = computes_in_float64(G)
    dtype = np.dtype(np.float64) if is_double else x.dtype
    with jax.enable_x64(True) if is_double else contextlib.nullcontext():
        G = with_precision(G, dtype)
        reasons = _reasons(fps)
        rows = np.flatnonzero([not reason for reason in reasons])
        curve, unit = _curve_of(G, x[rows].astype(dtype), s[rows].astype(dtype), ends)
        family = Family(curve, unit, float(longest), most, min(n_leading, fps.n_states))
        not_followed = {row: reason for row, reason in enumerate(reasons) if reason}
        not_followed |= family.follow(family.positions(x[rows], s[rows, 0]), rows)
        searched = {}
        for i, place in enumerate(places):
            x_init = family.starts(n_starts, jax.random.fold_in(random_key, i), x)
            known, n_new, n_lost = _search_for_others(family, G, x_init, place)
            searched[place] = (known, n_new - n_lost)
            if n_lost:
                warnings.warn(
                    f"{caller}: {n_lost} of {n_new} points found at s = {place:.6g} "
                    f"are not followed: {NOT_CONVERGED}.",
                    stacklevel=2,
                )
        return family.branches(G, ends, not_followed, searched, certify, box)


def _of_orbits(
    caller: str,
    G: Transition,
    orbits: ClosedOrbits,
    span: Any,
    max_step: Any,
    max_steps: Any,
    for_points: dict[str, Any],
) -> OrbitBranches:
    """Follow closed orbits."""
    for name, value in for_points.items():
        if value is not None and value is not False:
            was = arguments.found(value)
            arguments.refuse(caller, name, was, "None for closed orbits", ValueError)
    if orbits.inputs.shape[1] != 1:
        was = f"has shape {orbits.inputs.shape}"
        arguments.refuse(caller, "fps.inputs", was, _ONE_INPUT, ValueError)
    ends = _checked_span(caller, span)
    s = orbits.inputs[orbits.is_resolved, 0]
    _check_within(caller, s, ends)
    longest = arguments.number(caller, "max_step", max_step, or_none=True)
    longest = _MAX_STEP if longest is None else arguments.positive(caller, "max_step", longest)
    most = arguments.whole(caller, "max_steps", max_steps, least=1)
    states = orbits.states
    if states.shape[1] < FEWEST_PHASES:
        was = f"has {states.shape[1]} states of each orbit"
        expected = f"at least {FEWEST_PHASES}: call `closed_orbits` with a larger `n_sample`"
        arguments.refuse(caller, "fps.states", was, expected, ValueError)
    dtype = jax.dtypes.canonicalize_dtype(states.dtype)
    G = traced(caller, G, states.shape[2], 1, dtype, states="fps.states", inputs="fps.inputs")
    dtype = working_dtype(G, states[:, 0].astype(dtype), orbits.inputs.astype(dtype))
    unit = orbit_units(np.zeros((1, states.shape[2])), *states[orbits.is_resolved])
    path = Path(NetworkOfOrbits.of(G, unit, dtype), ends)
    return orbit_branches(G, path, orbits, float(longest), most)


def _curve_of(
    G: Transition,
    x: Float[np.ndarray, "n d"],
    s: Float[np.ndarray, "n 1"],
    ends: tuple[float, float],
) -> tuple[Curve, Float[np.ndarray, " d"]]:
    """Return the equations of the branches, in units of the states, and these units."""
    f, is_flow, d = linearised_part(G), isinstance(G, ContinuousTime), x.shape[1]
    unit = state_units(f, is_flow, x, s, ends)
    origin, length = jnp.asarray(ends[0], x.dtype), jnp.asarray(ends[1] - ends[0], x.dtype)
    scaled = InUnits(f, jnp.asarray(unit))
    rate = rate_unit(scaled, x / unit, s) if is_flow else np.ones((), x.dtype)
    return Curve(scaled, origin, length, jnp.asarray(rate), is_flow, d > _MOST_UNITS), unit


def _search_for_others(
    family: Family, G: Transition, x_init: Float[np.ndarray, "n d"], s: float
) -> tuple[int, int, int]:
    """Search at `s`, and follow what is on no branch yet.

    Returns:
        How many points are on known branches, how many are not, and how many of these cannot be
        followed.
    """
    found = _searched(G, x_init, s)
    known, new = family.told_apart(family.positions(found, np.full(len(found), s)))
    lost = family.follow(new, -1 - np.arange(len(new)))  # they are rows of no argument
    return known, len(new), len(lost)


def _searched(
    G: Transition, x_init: Float[np.ndarray, "n d"], s: float
) -> Float[np.ndarray, "k d"]:
    """Return the distinct fixed points that a search at `s` finds."""
    fps = optimize_batch(G, jnp.asarray(x_init), jnp.full((1, 1), s, x_init.dtype))
    fps = fps.replace(valid=jnp.asarray(fps.status) == Status.FIXED_POINT)
    return np.asarray(unique(fps).compact().xstar)


def _reasons(fps: FixedPoints) -> list[str]:
    """Return for each row why it is not followed, or nothing if it is."""
    valid = np.ones(fps.n, bool) if fps.valid is None else np.asarray(fps.valid, bool)
    status = fps.status if fps.status is not None else np.full(fps.n, Status.FIXED_POINT)
    return [
        "not valid"
        if not is_valid
        else ""
        if code == Status.FIXED_POINT
        else f"its status is {Status(int(code)).name}, not FIXED_POINT"
        for is_valid, code in zip(valid, np.asarray(status), strict=True)
    ]


# ---- checks --------------------------------------------------------------------------------------


_ONE_INPUT = "one input, the parameter s: `along(F, path)` makes one of several"


def _checked_points(
    caller: str, G: Transition, fps: FixedPoints, span: Any
) -> tuple[Transition, Any, Any, tuple[float, float]]:
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((G, fps, span))):
        arguments.refuse(caller, "fps", "is traced", "to be called outside of `jit`", TypeError)
    x = arguments.array(caller, "fps.xstar", fps.xstar, ("n", "n_states"), floating=True)
    arguments.check_precision(caller, "fps.xstar", x.dtype)
    if fps.n_inputs != 1:
        was = f"has shape {tuple(fps.inputs.shape)}"
        arguments.refuse(caller, "fps.inputs", was, _ONE_INPUT, ValueError)
    s = arguments.array(caller, "fps.inputs", fps.inputs, ("n", 1), finite=True)
    ends = _checked_span(caller, span)
    x, s = np.asarray(x), np.asarray(s, x.dtype)
    _check_within(caller, s, ends)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    G = traced(caller, G, x.shape[1], 1, dtype, states="fps.xstar", inputs="fps.inputs")
    return G, x, s, ends


def _check_within(caller: str, s: Float[np.ndarray, "..."], ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    rounding = 4 * np.finfo(s.dtype).eps * max(abs(low), abs(high))
    if ((s < low - rounding) | (s > high + rounding)).any():
        was = f"are from {s.min():.6g} to {s.max():.6g}"
        expected = f"parameters within the span {ends}"
        arguments.refuse(caller, "fps.inputs", was, expected, ValueError)


def _checked_span(caller: str, span: Any) -> tuple[float, float]:
    def refuse(expected: str, kind: type[Exception]) -> NoReturn:
        arguments.refuse(caller, "span", arguments.found(span), expected, kind)

    if not isinstance(span, (tuple, list, np.ndarray)) or len(span) != 2:
        refuse("a pair of numbers", TypeError)
    ends = [arguments.as_array(caller, "span", e, floating=False, expected="numbers") for e in span]
    if any(np.ndim(end) for end in ends):
        refuse("a pair of numbers", TypeError)
    low, high = (float(end) for end in ends)
    if not (np.isfinite(low) and np.isfinite(high)) or low == high:
        refuse("two different finite numbers", ValueError)
    return low, high


def _checked_longest(caller: str, max_step: Any, n_states: int) -> Number:
    """Return the longest step, which depends on the number of states if it is not given."""
    longest = arguments.number(caller, "max_step", max_step, or_none=True)
    if longest is None:
        longest = _MAX_STEP * max(1.0, (n_states / _FEW_UNITS) ** 0.5)
    if longest == 0:
        arguments.refuse(caller, "max_step", "is 0", "a number above 0", ValueError)
    return longest


def _checked_box(caller: str, box: Any, n_states: int, certify: bool) -> tuple[Any, Any] | None:
    if box is None:
        return None
    if not certify:
        expected = "None without `certify=True`, which it is for"
        arguments.refuse(caller, "box", arguments.found(box), expected, ValueError)
    return arguments.box_of_states(caller, box, n_states)


def _checked_places(caller: str, search_at: Any, ends: tuple[float, float]) -> list[float]:
    if search_at is None:
        return []
    places = np.atleast_1d(arguments.array(caller, "search_at", search_at, ("k",), (), finite=True))
    low, high = sorted(ends)
    if np.any((places < low) | (places > high)):
        was = arguments.found(search_at)
        arguments.refuse(caller, "search_at", was, f"numbers within the span {ends}", ValueError)
    return [float(place) for place in places]
