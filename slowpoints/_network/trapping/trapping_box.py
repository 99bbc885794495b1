"""`trapping_box`: states that gated units never leave, as they follow from a network's program.

A gated unit, such as that of a GRU, moves from where it is towards a bounded value: `x' = (1 - z) x
+ z n`, with `z` between 0 and 1 and `n` between -1 and 1. So it never leaves the interval from -1
to 1, whatever the weights and the inputs are, and from outside it moves back. No fixed point, cycle
or other attractor has such a unit outside. But `q` is low there, where gates are closed.

This is proven by reading the program once. What a bounded operation returns, such as `tanh`, is a
symbol of which only the range is known. If the next state of a unit is linear in the unit's own
state and in each symbol, it is a mean of its values at the ends of the ranges.
"""

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.network import Network
from slowpoints._network.precision import Rounded
from slowpoints._network.program import Program
from slowpoints._network.trapping.gated_interval import gated_interval
from slowpoints._network.trapping.interpreter import Interpreter
from slowpoints._network.trapping.sums import unknown
from slowpoints._network.units import InUnits

MARGIN = 1e-3
"""The search may leave the box by this fraction of its width, and a row that ends beyond half of it
is outside. Within, rounding of a saturated unit could not be told from a state outside."""

_ROUNDING_OF_STATES = 1e-5
"""And by this fraction of the larger end, since intervals may be narrow and far from zero."""


class Box(NamedTuple):
    """An interval for each gated unit that no trajectory leaves, and to which those outside move.

    Units without gates are not among them. Some have such an interval too, but a search that leaves
    it comes back by itself, since `q` is high outside.

    Attributes:
        low: `[n_states]` the lower ends; `-inf` for other units.
        high: `[n_states]` the upper ends.
    """

    low: Float[RealArray, " n_states"]
    high: Float[RealArray, " n_states"]


def trapping_box(F: Transition) -> Box | None:
    """Return the box that a traced transition never leaves, or `None` if no unit has an interval.

    It is the same whatever the network's arrays and its inputs are, so it is known inside `jit`.
    """
    if isinstance(F, InUnits):
        box = trapping_box(F.F)
        return box and Box(box.low / F.unit, box.high / F.unit)
    if isinstance(F, Rounded):
        return trapping_box(F.F)
    if isinstance(F, ContinuousTime) and isinstance(F.f, Network):
        return _box_of(F.f.program, True)
    return _box_of(F.program, False) if isinstance(F, Network) else None


def kept_inside(F: Transition) -> Callable[[Any], Any]:
    """Return a function that moves states `[..., n_states]` into the box, but for the margin."""
    box = trapping_box(F)
    if box is None:
        return lambda x: x
    low, high = (jnp.asarray(end) for end in _widened(box, 1.0))
    return lambda x: jnp.clip(x, low.astype(x.dtype), high.astype(x.dtype))


def is_outside(F: Transition, x: Float[RealArray, "n n_states"]) -> Bool[Any, " n"]:
    """Return which states are outside of the box, by more than rounding explains."""
    xp = np if isinstance(x, np.ndarray) else jnp
    box = trapping_box(F)
    if box is None:
        return xp.zeros(x.shape[0], bool)
    low, high = (xp.asarray(end, x.dtype) for end in _widened(box, 0.5))
    return xp.any((x < low) | (x > high), axis=1)


def _widened(box: Box, part: float) -> Box:
    """Return the box with a part of the margin on both sides."""
    largest = abs(box.low) + abs(box.high)
    margin = part * (MARGIN * (box.high - box.low) + _ROUNDING_OF_STATES * largest)
    return Box(box.low - margin, box.high + margin)


_boxes: "weakref.WeakKeyDictionary[Program, dict[bool, Box | None]]" = weakref.WeakKeyDictionary()


def _box_of(program: Program, continuous_time: bool) -> Box | None:
    """Return the box of a network, whose program gives the next state or `dx/dt`."""
    known = _boxes.setdefault(program, {})
    if continuous_time not in known:
        known[continuous_time] = _read_box(program, continuous_time)
    return known[continuous_time]


def _read_box(program: Program, continuous_time: bool) -> Box | None:
    """Return the box, from the sums that the program makes of the states."""
    n_states = program.arguments[0][0][0]
    with jax.enable_x64(True):
        arrays, arguments = (
            tuple(jax.ShapeDtypeStruct(*one) for one in some)
            for some in (program.arrays, program.arguments)
        )
        step = jax.make_jaxpr(lambda arrays, x, u: Network(arrays, program)(x, u))
        traced = step(arrays, *arguments)
    interpreter = Interpreter(n_states)
    given = [*(unknown(a.shape) for a in arrays), interpreter.states(), unknown(arguments[1].shape)]
    anywhere = (-math.inf, math.inf)
    with np.errstate(all="ignore"):
        (found,) = interpreter.run(traced.jaxpr, traced.consts, given)
        ends = [
            gated_interval(i, x, interpreter.ranges, n_states, continuous_time) or anywhere
            for i, x in enumerate(found)
        ]
    box = Box(*np.array(ends).T)
    return box if np.isfinite(box.low).any() else None
