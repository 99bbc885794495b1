"""`find_all`: every fixed point in a box, proven, mostly by branching and pruning."""

import functools
import warnings
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._core.units import relative_units
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.trace import traced
from slowpoints._network.units import InUnits
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status
from slowpoints._proofs.branch_and_prune import SMALLEST, Parts, SettledParts, branch
from slowpoints._proofs.by_contraction import by_contraction
from slowpoints._proofs.few_dimensions import by_few_dimensions
from slowpoints._proofs.piecewise_linear import by_regions


def find_all(
    F: Any,
    box: tuple[Any, Any],
    inputs: Float[RealArray, " n_inputs"] | None = None,
    *,
    max_boxes: Number = 2**18,
) -> tuple[FixedPoints, bool]:
    """Find every fixed point in a box of states, and prove that there are no others.

    The box is divided until Krawczyk's test (see [`certify`][slowpoints.certify]) proves that each
    part holds either no fixed point or exactly one. Parts are first cut down to what `F` and
    Newton's method leave of them (Neumaier 1990, "Interval methods for systems of equations"). The
    number of parts grows quickly with the number of units, so this is for networks of up to six or
    eight units, or for small boxes. Networks that are piecewise linear, as with `relu` units, with
    up to 16 kinks are solved region by region instead, of which there are up to 65,536.

    Networks may have any number of units, too, if their fixed points lie along few directions, at
    most half as many as there are states, or if what is not linear in them reads few directions of
    the states. So it is with recurrent weights `W` of low rank, whatever the units, both in
    `W phi(x)` and in `phi(W x)`, and with linear units of which few are driven by others. (A gate
    that multiplies the state reads all of it.) Then only these directions are divided: two or three
    take seconds with hundreds of units. Of piecewise linear networks, these are all points in
    polynomial time (Pals et al. 2024). What the other directions hold is bounded, as where weights
    of low rank are stored as one matrix that is rounded, and each point is proven with all units.

    Networks that contract may have any number of units. If a proven bound of the Lipschitz constant
    over the box, in the Euclidean norm, is below 1, there is at most one fixed point (Banach 1922),
    and what is left to prove is where it is. With `tanh` units this is so if the 2-norm of the
    recurrent weights is below 1. The bound of a gated network is less sharp.

    The proof is about the network in real arithmetic with the weights as they are stored, as for
    `certify`, and needs the same operations to be known.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        box: `(low, high)`, the lowest and the highest state, `[n_states]` each; or numbers, if the
            network says how many states it has. The states of `tanh` units are from -1 to 1.
        inputs: `[n_inputs]` the constant input; none or zeros by default.
        max_boxes: the largest number of parts to look at.

    Returns:
        The fixed points, backed by NumPy and in float64, with `xstar`, `F_xstar`, `inputs`, `qstar`
        and `status`; and whether they are proven to be all that there are in the box. Each point is
        proven to be one, and to differ from the others, even if the search is not complete.

    Raises:
        TypeError: if `F` is not of a known kind, or an argument is of the wrong kind or traced.
        ValueError: if the box is empty or not finite, or `F` does not map such states to states, or
            has an operation that is not covered.

    Warns:
        UserWarning: if the search is not complete. The warning says how much of the box is left,
            and why.
    """
    F = as_transition(F)
    F, low, high, u = _checked(F, box, inputs)
    most = arguments.whole("find_all", "max_boxes", max_boxes, least=1, or_infinite=True)
    # Sizes of boxes and their rounding are those of the largest entry of a state.
    unit = relative_units(np.stack([low, high]), silent=0.0)  # powers of two
    in_units = F if np.all(unit == 1) else InUnits(F, unit.astype(u.dtype))
    low, high = low / unit, high / unit
    try:
        found = _search(in_units, low, high, u, most)
    except NotCovered as operation:
        raise ValueError(
            f"find_all: `F` has an operation, {operation}, that proofs do not cover; expected what "
            "`certify` covers."
        ) from operation
    x, fx, is_all = found.refined(low, high)
    is_all = is_all and not found.n_left and not found.n_undecided
    if not is_all:
        warnings.warn(f"find_all: {found.what_is_left(unit)}", stacklevel=2)
    x, fx = x * unit, fx * unit
    fps = FixedPoints(
        xstar=x,
        F_xstar=fx,
        inputs=np.broadcast_to(u.astype(np.float64), (len(x), u.size)),
        qstar=0.5 * np.sum((x - fx) ** 2, axis=1),
        status=np.full(len(x), Status.FIXED_POINT, np.int8),
        dtype=np.float64,
    )
    return fps, is_all


def _search(F: Transition, low: Any, high: Any, u: Any, most: Any) -> Any:
    """Find the points by the first method that the network is fit for."""

    @functools.cache
    def program(n: int) -> EnclosedProgram:
        return EnclosedProgram(F, np.zeros((n, low.size), u.dtype), np.tile(u, (n, 1)))

    side = high - low
    found = SettledParts(program, SMALLEST * np.where(side > 0, side, 1.0), low.size**2)
    found.points = by_contraction(F, u, low, high)
    if found.points is not None:
        return found
    regions = by_regions(F, u, low, high, most, found.smallest)
    if regions is not None:
        found.single, found.given_up = (
            [Parts(*(np.array(ends) for ends in zip(*boxes, strict=True)))] if boxes else []
            for boxes in regions
        )
    elif not by_few_dimensions(program, low, high, most, found):
        branch(found, low, high, most)
    return found


def _checked(F: Transition, box: Any, inputs: Any) -> tuple[Transition, Any, Any, Any]:
    caller = "find_all"
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, box, inputs))):
        arguments.refuse(caller, "F", "is traced", "to be called outside of `jit`", TypeError)
    ends = arguments.box_of_states(caller, box, F.n_states)
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(*ends, np.float32))
    low, high = (np.asarray(end, np.float64) for end in ends)
    if inputs is None:
        inputs = np.zeros(F.n_inputs or 0, dtype)
    u = np.asarray(arguments.array(caller, "inputs", inputs, ("n_inputs",), finite=True), dtype)
    F = traced(caller, F, low.size, u.size, dtype, states="box", inputs="inputs")
    return F, low, high, u
