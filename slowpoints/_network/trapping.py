"""`trapping_box`: states that gated units never leave, as they follow from a network's program.

A gated unit, such as that of a GRU, moves from where it is towards a bounded value: `x' = (1 - z) x
+ z n`, with `z` between 0 and 1 and `n` between -1 and 1. So it never leaves the interval from -1
to 1, whatever the weights and the inputs are, and from outside it moves back. No fixed point, cycle
or other attractor has such a unit outside. But `q` is low there, where gates are closed.

This is proven by reading the program once. What a bounded operation returns, such as `tanh`, is a
symbol of which only the range is known. If the next state of a unit is linear in the unit's own
state and in each symbol, it is a mean of its values at the ends of the ranges.
"""

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jaxtyping import Bool, Float

from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.network import Network
from slowpoints._network.precision import Rounded
from slowpoints._network.program import CALLS, Program
from slowpoints._network.units import InUnits

MARGIN = 1e-3
"""The search may leave the box by this fraction of its width, and a row that ends beyond half of it
is outside. Within, rounding of a saturated unit could not be told from a state outside."""

_ROUNDING_OF_STATES = 1e-5
"""And by this fraction of the larger end, since intervals may be narrow and far from zero."""

_MOST_TERMS, _MOST_SYMBOLS = 12, 8
"""Gated units have four terms and two or three symbols. Longer sums count as unknown."""

_ROUNDED = 2e-7
"""The sum of numbers in a program, such as 0.9, 0.1 and -1, may differ from zero by this fraction
of the largest, since they are rounded to float32."""

_GATED = 1e-3
"""A unit is gated if it moves by less than this fraction of what it does with open gates."""

_ENTRIES, _WORK = 16, 100
"""Arrays of more entries than this for each state, such as weights, count as unknown, and so does
all after so many entries of results for each state. A GRU has some ten results a state."""


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
    n_states = program.arguments[0][0][0]
    with jax.enable_x64(True):
        arrays, arguments = (
            tuple(jax.ShapeDtypeStruct(*one) for one in some)
            for some in (program.arrays, program.arguments)
        )
        step = jax.make_jaxpr(lambda arrays, x, u: Network(arrays, program)(x, u))
        traced = step(arrays, *arguments)
    reader = _Reader(n_states)
    given = [*(_unknown(a.shape) for a in arrays), reader.states(), _unknown(arguments[1].shape)]
    anywhere = (-math.inf, math.inf)
    with np.errstate(all="ignore"):
        (found,) = reader.run(traced.jaxpr, traced.consts, given)
        ends = [reader.interval(i, x, continuous_time) or anywhere for i, x in enumerate(found)]
    box = Box(*np.array(ends).T)
    return box if np.isfinite(box.low).any() else None


# ---- sums of products of symbols -----------------------------------------------------------------

_Sum = dict[frozenset[int], float]
"""Coefficients of products of symbols, by the symbols' numbers; the first are the states."""


class _Range(NamedTuple):
    """What a symbol can be; if `is_open`, it is neither of the ends."""

    low: float
    high: float
    is_open: bool


_ANYTHING = _Range(-math.inf, math.inf, True)


def _unknown(shape: tuple[int, ...]) -> Any:
    """Return numbers of which nothing is known, as an array of sums: `None` each."""
    return np.broadcast_to(np.array(None, object), shape)


def _plus(a: _Sum | None, b: _Sum | None) -> _Sum | None:
    if a is None or b is None:
        return None
    total = dict(a)
    for symbols, number in b.items():
        total[symbols] = _sum_of((total.get(symbols, 0.0), number))
    return total if len(total) <= _MOST_TERMS else None


def _times(a: _Sum | None, b: _Sum | None) -> _Sum | None:
    if a is None or b is None:
        return None
    total: _Sum = {}
    for (s, p), (t, r) in itertools.product(a.items(), b.items()):
        if s & t:  # no longer linear in this symbol
            return None
        total[s | t] = total.get(s | t, 0.0) + p * r
    return total if len(total) <= _MOST_TERMS else None


def _sum_of(numbers: Sequence[float]) -> float:
    """Return a sum, which is zero if it is nothing but rounding."""
    total = sum(numbers)
    largest = max(map(abs, numbers), default=0.0)
    return 0.0 if abs(total) <= _ROUNDED * largest < math.inf else total


def _negative(a: _Sum | None) -> _Sum | None:
    return _times(a, {frozenset(): -1.0})


def _elementwise(function: Callable[..., Any], *arrays: Any) -> Any:
    shape = np.broadcast_shapes(*(a.shape for a in arrays))  # a number may stand for an array
    parts = (np.broadcast_to(a, shape).ravel() for a in arrays)
    entries = [function(*one) for one in zip(*parts, strict=True)]
    return np.fromiter(entries, object, len(entries)).reshape(shape)


def _of_numbers(values: Any) -> Any:
    """Return numbers that are part of the program as sums."""
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        return _unknown(values.shape)
    return _elementwise(lambda value: {frozenset(): float(value)}, values)


_MONOTONE: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "erf": math.erf,
    "atan": np.arctan,
    "exp": np.exp,
}
"""Operations that rise steadily and never reach the ends of their range."""

_SAME = ("convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier")
"""Operations that change no number, since a network has them all in the precision of its state."""


def _moved(name: str, a: Any, params: Any) -> list[Any] | None:
    """Return the results of an operation that moves entries of one array, or `None`."""
    match name:
        case "reshape" if params.get("dimensions") is None:
            return [a.reshape(params["new_sizes"])]
        case "squeeze":
            return [np.squeeze(a, tuple(params["dimensions"]))]
        case "expand_dims":
            return [np.expand_dims(a, tuple(params["dimensions"]))]
        case "transpose":
            return [a.transpose(params["permutation"])]
        case "rev":
            return [np.flip(a, tuple(params["dimensions"]))]
        case "slice":
            ends = params["start_indices"], params["limit_indices"]
            steps = params["strides"] or (1,) * a.ndim
            return [a[tuple(map(slice, *ends, steps))]]
        case "broadcast_in_dim":
            shape = [1] * len(params["shape"])
            for length, axis in zip(a.shape, params["broadcast_dimensions"], strict=True):
                shape[axis] = length
            return [np.broadcast_to(a.reshape(shape), params["shape"])]
        case "split":
            return np.split(a, np.cumsum(params["sizes"])[:-1], params["axis"])
        case "unstack":
            a = np.moveaxis(a, params["axis"], 0)
            return [a[k : k + 1].reshape(a.shape[1:]) for k in range(len(a))]
    return None


def _has_hash(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:  # because of a setting of the operation
        return False
    return True


class _Reader:
    """Reads a program of states whose numbers are those of the first symbols."""

    def __init__(self, n_states: int):
        self.n_states = n_states
        self.ranges = [_ANYTHING] * n_states
        self.n_entries = 0
        self.known: dict[Any, list[Any]] = {}  # what operations gave, which are often repeated
        self.kept: list[Any] = []  # their operands, so that no identity is given away again
        self.inverses: dict[Any, _Sum] = {}

    def states(self) -> Any:
        """Return the states as sums."""
        return np.array([{frozenset((i,)): 1.0} for i in range(self.n_states)], object)

    def run(self, jaxpr: core.Jaxpr, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """Return what a program makes of sums."""
        known = dict(zip(jaxpr.constvars, map(self._of_array, consts), strict=True))
        known |= dict(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Any) -> Any:
            return _of_numbers(atom.val) if isinstance(atom, core.Literal) else known[atom]

        for eqn in jaxpr.eqns:
            results = self._once(eqn, [read(atom) for atom in eqn.invars])
            known |= dict(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _once(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """Return the results of an operation, the same if it is repeated with the same operands."""
        names = (
            repr(a.item()) if a.shape == () and isinstance(a.item(), dict) else id(a)
            for a in operands
        )
        key = eqn.primitive, tuple(names), tuple(eqn.params.items())
        if eqn.effects or not _has_hash(key):
            key = object()  # like no other
        if key not in self.known:
            found = self._line(eqn, operands)
            if found is None:
                found = [_unknown(getattr(var.aval, "shape", ())) for var in eqn.outvars]
            self.known[key] = found
            self.kept += operands
        return self.known[key]

    def _of_array(self, value: Any) -> Any:
        is_known = not isinstance(value, Tracer) and np.ndim(value) == 0
        return _of_numbers(value) if is_known else _unknown(np.shape(value))

    def _line(self, eqn: Any, operands: list[Any]) -> list[Any] | None:
        """Return the results of an operation, or `None` if nothing is known of them."""
        name, params = eqn.primitive.name, eqn.params
        if not all(jnp.issubdtype(var.aval.dtype, np.floating) for var in eqn.outvars):
            return None
        if name in (*CALLS, "custom_jvp_call"):
            inner = next(params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params)
            consts = getattr(inner, "consts", ())
            return self.run(getattr(inner, "jaxpr", inner), consts, operands)
        if name == "concatenate":
            return [np.concatenate(operands, params["dimension"])]
        if name == "stack":
            return [np.stack(operands, params["axis"])]
        if name in _SAME:
            real = all(jnp.issubdtype(var.aval.dtype, np.floating) for var in eqn.invars)
            return operands if real else None
        moved = _moved(name, operands[0], params) if len(operands) == 1 else None
        if moved is not None:
            return moved
        function = self._function(name, params)
        n_entries = max(map(np.size, operands), default=0)
        if function is None or n_entries > _ENTRIES * self.n_states:
            return None
        self.n_entries += n_entries
        if self.n_entries > _WORK * self.n_states:
            return None
        return [_elementwise(function, *operands)]

    def _function(self, name: str, params: Any) -> Callable[..., _Sum | None] | None:
        """Return what an operation does to each entry by itself, or `None`."""
        match name:
            case "add" | "add_any":
                return _plus
            case "sub":
                return lambda a, b: _plus(a, _negative(b))
            case "mul":
                return self._product
            case "neg":
                return _negative
            case "div":
                return self._quotient
            case "max" | "min" | "clamp":
                return functools.partial(self._limited, name)
            case "abs":
                return functools.partial(self._even, 1)
            case "square":
                return functools.partial(self._even, 2)
            case "integer_pow" if params["y"] > 0 and params["y"] % 2 == 0:
                return functools.partial(self._even, params["y"])
            case "sin" | "cos" | "sign":
                return lambda _: self._symbol(_Range(-1.0, 1.0, False))
        rises = _MONOTONE.get(name)
        return rises and functools.partial(self._monotone, rises)

    def _symbol(self, known: _Range) -> _Sum:
        self.ranges.append(known)
        return {frozenset((len(self.ranges) - 1,)): 1.0}

    def _product(self, a: _Sum | None, b: _Sum | None) -> _Sum | None:
        product = _times(a, b)
        if product is not None or a is None or b is None:
            return product
        if any(min(s, default=math.inf) < self.n_states for s in (*a, *b)):
            return None
        # Not linear in a symbol, such as the square of a gate; but its range is known.
        of_a, of_b = self._range(a), self._range(b)
        ends = [_finite_product(p, r) for p in of_a[:2] for r in of_b[:2]]
        return self._symbol(_Range(min(ends), max(ends), False))

    def _quotient(self, a: _Sum | None, b: _Sum | None) -> _Sum | None:
        if b is not None and set(b) == {frozenset()} and b[frozenset()]:
            return _times(a, {frozenset(): 1 / b[frozenset()]})
        below = self._range(b)
        if b is None or not below.low > 0:
            return None
        # Such as `1 / (1 + exp(-y))`.
        key = frozenset(b.items())
        if key not in self.inverses:
            known = _Range(1 / below.high, 1 / below.low, below.is_open)
            self.inverses[key] = self._symbol(known)
        return self._product(a, self.inverses[key])

    def _monotone(self, function: Callable[[float], float], a: _Sum | None) -> _Sum:
        known = self._range(a)
        low, high = (float(function(np.float64(end))) for end in known[:2])
        return self._symbol(_Range(low, high, known.is_open))

    def _even(self, power: int, a: _Sum | None) -> _Sum:
        known = self._range(a)
        farthest = np.float64(max(abs(known.low), abs(known.high)))
        return self._symbol(_Range(0.0, float(farthest**power), False))

    def _limited(self, name: str, *operands: _Sum | None) -> _Sum:
        ranges = [self._range(a) for a in operands]
        if name == "clamp":
            least, of_a, most = ranges
            low, high = (min(max(of_a[i], least[i]), most[i]) for i in (0, 1))
        else:
            choose = max if name == "max" else min
            low, high = (choose(known[i] for known in ranges) for i in (0, 1))
        return self._symbol(_Range(low, high, False))

    def _range(self, a: _Sum | None) -> _Range:
        """Return a range that holds all values of a sum."""
        if a is None:
            return _ANYTHING
        low = high = 0.0
        for symbols, number in a.items():
            ends = [number]
            for symbol in symbols:
                ends = [_finite_product(e, k) for e in ends for k in self.ranges[symbol][:2]]
            low, high = low + min(ends), high + max(ends)
        used = frozenset[int]().union(*a)
        return _Range(low, high, bool(used) and all(self.ranges[s].is_open for s in used))

    def interval(
        self, i: int, next_state: _Sum | None, continuous_time: bool
    ) -> tuple[float, float] | None:
        """Return the ends of the interval that unit `i` never leaves, if its gate may be closed.

        `None` if there is none, as far as can be told. Where each symbol is at an end of its range,
        a unit has to move towards a place, by no more than the way there, or not at all; and not at
        all only where a symbol that never is at its end would be. Elsewhere, its move is a mean of
        these.
        """
        move = next_state if continuous_time else _plus(next_state, {frozenset((i,)): -1.0})
        if move is None:
            return None
        symbols = sorted(frozenset[int]().union(*move) - {i})
        if len(symbols) > _MOST_SYMBOLS or min(symbols, default=math.inf) < self.n_states:
            return None
        # In other words, so that units that are alike are looked at once.
        places = {symbol: place for place, symbol in enumerate(symbols)} | {i: -1}
        terms = ((tuple(sorted(places[s] for s in product)), c) for product, c in move.items())
        ranges = tuple(self.ranges[s] for s in symbols)
        return _interval(tuple(terms), ranges, continuous_time)


@functools.lru_cache(maxsize=1024)
def _interval(
    move: tuple[tuple[tuple[int, ...], float], ...],
    ranges: tuple[_Range, ...],
    continuous_time: bool,
) -> tuple[float, float] | None:
    """Return what `_Reader.interval` does.

    Args:
        move: products of symbols, -1 for the unit's own state, and their coefficients.
        ranges: what the symbols can be.
        continuous_time: whether the unit may move by more than the way there.
    """
    places, slopes, moves = [], [], dict[tuple[float, ...], bool]()
    for ends in itertools.product(*(known[:2] for known in ranges)):
        constants, factors = [0.0], [0.0]
        for product, number in move:
            value = functools.reduce(_finite_product, (ends[s] for s in product if s >= 0), number)
            (factors if product[:1] == (-1,) else constants).append(value)
        constant, slope = _sum_of(constants), _sum_of(factors)
        rests = slope == constant == 0
        if not rests and not (slope < 0 and (continuous_time or slope >= -1 - _ROUNDED)):
            return None
        if not rests:
            places.append(-constant / slope)
        slopes.append(abs(slope))
        reached = zip(ends, ranges, strict=True)
        closed = tuple(end for end, known in reached if not known.is_open)
        moves[closed] = moves.get(closed, False) or not rests
    if not all(moves.values()) or not np.isfinite(places).all():
        return None
    low, high = min(places), max(places)
    return (low, high) if low < high and min(slopes) < _GATED * max(slopes) else None


def _finite_product(a: float, b: float) -> float:
    """Return a product in which zero times infinity is zero: one factor is zero at that end."""
    return 0.0 if a == 0 or b == 0 else a * b
