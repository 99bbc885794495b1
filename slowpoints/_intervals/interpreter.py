"""Evaluate a JAX program on enclosures, operation by operation."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Float

from slowpoints._intervals.balls import Ball
from slowpoints._intervals.enclosure import (
    Computed,
    Enclosure,
    NotCovered,
    enclosure_of,
    with_slope,
)
from slowpoints._intervals.rules import MOVED_BY_JAX, RULES, moved_by_jax
from slowpoints._network.base import Transition

Rules = Mapping[str, Callable[..., Any]]
"""What each operation, by its name, does to its operands."""

_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "checkpoint",
    "remat",
    "remat2",
    "composite",
)
"""Operations that apply a program as it is, in this or other versions of JAX."""

_INNER_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""The parameters under which they keep it."""

_ON_UNDECIDED_NUMBERS = (
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "eq",
    "expand_dims",
    "ne",
    "reshape",
    "rev",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
)
"""What may be done with whole numbers that stand for undecided truth values, as in `lax.cond`."""


class EnclosedProgram:
    """A network, for a number of rows at once, as a program that enclosures can pass through.

    It is traced in the precision of the states, so that numbers in the network's code are rounded
    as they are in a search. What follows is in real arithmetic: no result is rounded.
    """

    def __init__(
        self, F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
    ):
        # JAX would narrow float64 otherwise.
        with jax.enable_x64(x.dtype == np.float64):
            self._program = jax.make_jaxpr(jax.vmap(F))(x, u)
        self._u = np.asarray(u, np.float64)

    def free_length(self, least: int) -> int:
        """Return a length, from `least` and 2 upwards, that no axis of any array has.

        In a program for so many rows, the axis of the rows can be told from all others.
        """
        taken = {length for shape in _shapes(self._program.jaxpr) for length in shape}
        return next(n for n in itertools.count(max(2, least)) if n not in taken)

    def value(self, x: Ball) -> Ball:
        """Return what the next states can be, `[n, n_states]`, from states in `x`.

        Args:
            x: `[n, n_states]` a box for each row.

        Raises:
            NotCovered: if the network has an operation that no rule covers.
        """
        return enclosure_of(self.run(Enclosure(x))).value

    def linearised(self, x: Ball) -> tuple[Ball, Ball]:
        """Return what `value` returns, and the slopes over `x`, `[n, n_states, n_states]`.

        Args:
            x: `[n, n_states]` a box for each row.

        Raises:
            NotCovered: if the network has an operation that no rule covers.
        """
        n, n_states = x.shape
        shape = (n, n_states, n_states)
        start = Enclosure(x, Ball(np.broadcast_to(np.eye(n_states), shape)))
        result = enclosure_of(self.run(start))
        return result.value, with_slope(result, n_states)

    def run(self, state: Computed, rules: Rules = RULES) -> Any:
        """Return what rules make of the states, which may be of another kind than enclosures.

        Args:
            state: `[n, n_states]` what the rules take for the states.
            rules: what each operation does.

        Raises:
            NotCovered: if the network has an operation that no rule covers.
        """
        (result,) = _run(self._program.jaxpr, self._program.consts, [state, self._u], rules)
        return result


def _run(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], rules: Rules) -> list[Any]:
    known: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, getattr(atom.aval, "dtype", None))
        return known[atom]

    known.update(zip(jaxpr.constvars, map(_exact, consts), strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        results = _apply(eqn, [read(atom) for atom in eqn.invars], rules)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _shapes(jaxpr: core.Jaxpr) -> Iterator[tuple[int, ...]]:
    for atom in (*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars):
        yield getattr(atom.aval, "shape", ())
    for eqn in jaxpr.eqns:
        for atom in (*eqn.invars, *eqn.outvars):
            yield getattr(atom.aval, "shape", ())
        for param in eqn.params.values():
            for inner in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(inner, "jaxpr", inner)
                if isinstance(inner, core.Jaxpr):
                    yield from _shapes(inner)


def _exact(const: Any) -> Any:
    is_key = isinstance(const, jax.Array) and jnp.issubdtype(const.dtype, jax.dtypes.extended)
    return const if is_key else np.asarray(const)


def _apply(eqn: Any, args: list[Any], rules: Rules) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
        return _call(next(params[key] for key in _INNER_PROGRAMS if key in params), args, rules)
    dtypes = [getattr(var.aval, "dtype", None) for var in (*eqn.invars, *eqn.outvars)]
    if any(jnp.issubdtype(dtype, jax.dtypes.extended) for dtype in dtypes if dtype):
        raise NotCovered(f"`{name}` of random keys")
    computed = any(isinstance(arg, Computed) for arg in args)
    if name not in _CONTROL_FLOW and not computed:
        if not any(jnp.issubdtype(dtype, np.inexact) for dtype in dtypes if dtype):
            return _exactly(eqn, args)
        if name == "iota":
            return _exactly(eqn, args)  # whole numbers, which are exact as floats too
    takes_numbers = computed and name not in _CONTROL_FLOW and name not in _ON_UNDECIDED_NUMBERS
    if takes_numbers and any(jnp.issubdtype(d, np.integer) for d in _dtypes_of_numbers(eqn)):
        # In ball arithmetic, division would leave no remainder, and large numbers not wrap.
        raise NotCovered(f"`{name}` of whole numbers that are computed")
    if name in rules:
        result = rules[name](params | {"name": name}, *args)
        return result if isinstance(result, list) else [result]
    if name in MOVED_BY_JAX:
        return [moved_by_jax(eqn.primitive, params, *args)]
    if name in _CONTROL_FLOW:
        return _CONTROL_FLOW[name](eqn, args, rules)
    raise NotCovered(f"`{name}`")


def _dtypes_of_numbers(eqn: Any) -> list[Any]:
    """Return the types of an operation's operands and results, except for operands of places."""
    operands = eqn.invars
    if eqn.primitive.name in MOVED_BY_JAX:
        operands = [operands[i] for i in MOVED_BY_JAX[eqn.primitive.name]]
    return [var.aval.dtype for var in (*operands, *eqn.outvars)]


def _exactly(eqn: Any, args: list[Any]) -> list[Any]:
    """Evaluate an operation on whole numbers or truth values as JAX does."""
    with jax.enable_x64(True):
        out = eqn.primitive.bind(*map(jnp.asarray, args), **eqn.params)
        return [np.asarray(a) for a in (out if eqn.primitive.multiple_results else [out])]


def _call(program: Any, args: list[Any], rules: Rules) -> list[Any]:
    if isinstance(program, core.ClosedJaxpr):
        return _run(program.jaxpr, program.consts, args, rules)
    return _run(program, (), args, rules)


def _scan(eqn: Any, args: list[Any], rules: Rules) -> list[Any]:
    params, length = eqn.params, eqn.params["length"]
    inner = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
    # What is gone through, and what is stacked, has one axis more outside. (Releases of JAX say in
    # different ways how many these are.)
    n_xs, n_ys = (
        sum(a.aval.ndim != b.aval.ndim for a, b in zip(outer, within, strict=True))
        for outer, within in ((eqn.invars, inner.invars), (eqn.outvars, inner.outvars))
    )
    n_carry = len(eqn.outvars) - n_ys
    n_consts = len(args) - n_carry - n_xs
    consts, carry = args[:n_consts], args[n_consts : n_consts + n_carry]
    steps = range(length)[:: -1 if params["reverse"] else 1]
    rows: list[list[Any]] = []
    for i in steps:
        xs = [_row(x, i) for x in args[n_consts + n_carry :]]
        out = _call(params["jaxpr"], [*consts, *carry, *xs], rules)
        carry = out[:n_carry]
        rows.append([_with_row_axis(y) for y in out[n_carry:]])
    if not rows:
        raise NotCovered("`scan` of no steps")
    rows = rows[::-1] if params["reverse"] else rows
    stacked = [rules["concatenate"]({"dimension": 0}, *ys) for ys in zip(*rows, strict=True)]
    return [*carry, *stacked]


def _row(x: Any, i: int) -> Any:
    return x.map(lambda a, extra: a[i]) if isinstance(x, Computed) else x[i]


def _with_row_axis(y: Any) -> Any:
    if isinstance(y, Computed):
        return y.map(lambda a, extra: np.asarray(a)[None])
    return np.asarray(y)[None]


def _cond(eqn: Any, args: list[Any], rules: Rules) -> list[Any]:
    which, *operands = args
    if isinstance(which, Computed):
        raise NotCovered("`cond` on an undecided comparison")
    branches = eqn.params["branches"]
    return _call(branches[int(np.clip(int(which), 0, len(branches) - 1))], operands, rules)


def _while(eqn: Any, args: list[Any], rules: Rules) -> list[Any]:
    params = eqn.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = args[:n_cond], args[n_cond : n_cond + n_body]
    carry = args[n_cond + n_body :]
    while True:
        (goes_on,) = _call(params["cond_jaxpr"], [*of_cond, *carry], rules)
        if isinstance(goes_on, Computed):
            raise NotCovered("`while` on an undecided comparison")
        if np.ndim(goes_on):
            raise NotCovered("`while` with a number of steps of its own for each row")
        if not goes_on:
            return carry
        carry = _call(params["body_jaxpr"], [*of_body, *carry], rules)


_CONTROL_FLOW = {"scan": _scan, "cond": _cond, "while": _while}
