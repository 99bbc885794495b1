"""`Interpreter`: what a program makes of states, if numbers are sums of products of symbols."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from slowpoints._network.program import CALLS
from slowpoints._network.trapping.sums import (
    ANYTHING,
    Range,
    Sum,
    elementwise,
    finite_product,
    negative,
    of_numbers,
    plus,
    times,
    unknown,
)

_ENTRIES, _WORK = 16, 100
"""Arrays of more entries than this for each state, such as weights, count as unknown, and so does
all after so many entries of results for each state. A GRU has some ten results a state."""

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


class Interpreter:
    """Reads a program of states whose numbers are those of the first symbols."""

    def __init__(self, n_states: int):
        self.n_states = n_states
        self.ranges = [ANYTHING] * n_states
        self.n_entries = 0
        self.known: dict[Any, list[Any]] = {}  # what operations gave, which are often repeated
        self.kept: list[Any] = []  # their operands, so that no identity is given away again
        self.inverses: dict[Any, Sum] = {}

    def states(self) -> Any:
        """Return the states as sums."""
        return np.array([{frozenset((i,)): 1.0} for i in range(self.n_states)], object)

    def run(self, jaxpr: core.Jaxpr, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """Return what a program makes of sums."""
        known = dict(zip(jaxpr.constvars, map(self._of_array, consts), strict=True))
        known |= dict(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Any) -> Any:
            return of_numbers(atom.val) if isinstance(atom, core.Literal) else known[atom]

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
                found = [unknown(getattr(var.aval, "shape", ())) for var in eqn.outvars]
            self.known[key] = found
            self.kept += operands
        return self.known[key]

    def _of_array(self, value: Any) -> Any:
        is_known = not isinstance(value, Tracer) and np.ndim(value) == 0
        return of_numbers(value) if is_known else unknown(np.shape(value))

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
        return [elementwise(function, *operands)]

    def _function(self, name: str, params: Any) -> Callable[..., Sum | None] | None:
        """Return what an operation does to each entry by itself, or `None`."""
        match name:
            case "add" | "add_any":
                return plus
            case "sub":
                return lambda a, b: plus(a, negative(b))
            case "mul":
                return self._product
            case "neg":
                return negative
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
                return lambda _: self._symbol(Range(-1.0, 1.0, False))
        rises = _MONOTONE.get(name)
        return rises and functools.partial(self._monotone, rises)

    def _symbol(self, known: Range) -> Sum:
        self.ranges.append(known)
        return {frozenset((len(self.ranges) - 1,)): 1.0}

    def _product(self, a: Sum | None, b: Sum | None) -> Sum | None:
        product = times(a, b)
        if product is not None or a is None or b is None:
            return product
        if any(min(s, default=math.inf) < self.n_states for s in (*a, *b)):
            return None
        # Not linear in a symbol, such as the square of a gate; but its range is known.
        of_a, of_b = self._range(a), self._range(b)
        ends = [finite_product(p, r) for p in of_a[:2] for r in of_b[:2]]
        return self._symbol(Range(min(ends), max(ends), False))

    def _quotient(self, a: Sum | None, b: Sum | None) -> Sum | None:
        if b is not None and set(b) == {frozenset()} and b[frozenset()]:
            return times(a, {frozenset(): 1 / b[frozenset()]})
        below = self._range(b)
        if b is None or not below.low > 0:
            return None
        # Such as `1 / (1 + exp(-y))`.
        key = frozenset(b.items())
        if key not in self.inverses:
            known = Range(1 / below.high, 1 / below.low, below.is_open)
            self.inverses[key] = self._symbol(known)
        return self._product(a, self.inverses[key])

    def _monotone(self, function: Callable[[float], float], a: Sum | None) -> Sum:
        known = self._range(a)
        low, high = (float(function(np.float64(end))) for end in known[:2])
        return self._symbol(Range(low, high, known.is_open))

    def _even(self, power: int, a: Sum | None) -> Sum:
        known = self._range(a)
        farthest = np.float64(max(abs(known.low), abs(known.high)))
        return self._symbol(Range(0.0, float(farthest**power), False))

    def _limited(self, name: str, *operands: Sum | None) -> Sum:
        ranges = [self._range(a) for a in operands]
        if name == "clamp":
            least, of_a, most = ranges
            low, high = (min(max(of_a[i], least[i]), most[i]) for i in (0, 1))
        else:
            choose = max if name == "max" else min
            low, high = (choose(known[i] for known in ranges) for i in (0, 1))
        return self._symbol(Range(low, high, False))

    def _range(self, a: Sum | None) -> Range:
        """Return a range that holds all values of a sum."""
        if a is None:
            return ANYTHING
        low = high = 0.0
        for symbols, number in a.items():
            ends = [number]
            for symbol in symbols:
                ends = [finite_product(e, k) for e in ends for k in self.ranges[symbol][:2]]
            low, high = low + min(ends), high + max(ends)
        used = frozenset[int]().union(*a)
        return Range(low, high, bool(used) and all(self.ranges[s].is_open for s in used))


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
