"""Evaluate a JAX program on enclosures, operation by operation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Float

from slowpoints._certificates.balls import Ball
from slowpoints._certificates.enclosure import Decision, Enclosure, NotCovered, enclosure_of
from slowpoints._certificates.rules import MOVED_BY_JAX, RULES, moved_by_jax
from slowpoints._transition.base import Transition

_INNER_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""The parameters under which JAX's calls (`jit`, `custom_jvp_call`, `checkpoint`) keep programs."""


class Program:
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

    def value(self, x: Ball) -> Ball:
        """Return what the next states can be, `[n, n_states]`, from states in `x`.

        Args:
            x: `[n, n_states]` a box for each row.

        Raises:
            NotCovered: if the network has an operation that no rule covers.
        """
        return self._run(Enclosure(x)).value

    def linearised(self, x: Ball) -> tuple[Ball, Ball]:
        """Return what `value` returns, and the slopes over `x`, `[n, n_states, n_states]`.

        Args:
            x: `[n, n_states]` a box for each row.

        Raises:
            NotCovered: if the network has an operation that no rule covers.
        """
        n, n_states = x.shape
        shape = (n, n_states, n_states)
        result = self._run(Enclosure(x, Ball(np.broadcast_to(np.eye(n_states), shape))))
        return result.value, result.slope or Ball(np.zeros(shape))

    def _run(self, state: Enclosure) -> Enclosure:
        (result,) = _run(self._program.jaxpr, self._program.consts, [state, self._u])
        return enclosure_of(result)


def _run(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    known: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, getattr(atom.aval, "dtype", None))
        return known[atom]

    known.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        results = _apply(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, args: list[Any]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if not any(isinstance(arg, (Enclosure, Decision)) for arg in args) and not any(
        jnp.issubdtype(getattr(var.aval, "dtype", np.float64), np.inexact)
        for var in (*eqn.invars, *eqn.outvars)
    ):
        return _exactly(eqn, args)
    if name == "iota":
        return _exactly(eqn, args)  # whole numbers, which are exact as floats too
    if name in RULES:
        result = RULES[name](params | {"name": name}, *args)
        return result if isinstance(result, list) else [result]
    if name in MOVED_BY_JAX:
        first, *rest = args
        return [moved_by_jax(eqn.primitive, params, enclosure_of(first), *rest)]
    if name == "scan":
        return _scan(params, args)
    if name == "cond":
        return _cond(params, args)
    if name == "while":
        return _while(params, args)
    for key in _INNER_PROGRAMS:
        if key in params:
            return _call(params[key], args)
    raise NotCovered(f"`{name}`")


def _exactly(eqn: Any, args: list[Any]) -> list[Any]:
    """Evaluate an operation on whole numbers or truth values as JAX does."""
    with jax.enable_x64(True):
        out = eqn.primitive.bind(*map(jnp.asarray, args), **eqn.params)
        return [np.asarray(a) for a in (out if eqn.primitive.multiple_results else [out])]


def _call(program: Any, args: list[Any]) -> list[Any]:
    if isinstance(program, core.ClosedJaxpr):
        return _run(program.jaxpr, program.consts, args)
    return _run(program, (), args)


def _scan(params: Any, args: list[Any]) -> list[Any]:
    n_consts, n_carry, length = params["num_consts"], params["num_carry"], params["length"]
    consts, carry = args[:n_consts], args[n_consts : n_consts + n_carry]
    steps = range(length)[:: -1 if params["reverse"] else 1]
    rows: list[list[Any]] = []
    for i in steps:
        xs = [_row(x, i) for x in args[n_consts + n_carry :]]
        out = _call(params["jaxpr"], [*consts, *carry, *xs])
        carry = out[:n_carry]
        rows.append([_with_row_axis(y) for y in out[n_carry:]])
    if not rows:
        raise NotCovered("`scan` of no steps")
    rows = rows[::-1] if params["reverse"] else rows
    stacked = [RULES["concatenate"]({"dimension": 0}, *ys) for ys in zip(*rows, strict=True)]
    return [*carry, *stacked]


def _row(x: Any, i: int) -> Any:
    return x.map(lambda a, extra: a[i]) if isinstance(x, (Enclosure, Decision)) else x[i]


def _with_row_axis(y: Any) -> Any:
    if isinstance(y, (Enclosure, Decision)):
        return y.map(lambda a, extra: np.asarray(a)[None])
    return np.asarray(y)[None]


def _cond(params: Any, args: list[Any]) -> list[Any]:
    which, *operands = args
    if isinstance(which, (Enclosure, Decision)):
        raise NotCovered("`cond` on an undecided comparison")
    branches = params["branches"]
    return _call(branches[int(np.clip(int(which), 0, len(branches) - 1))], operands)


def _while(params: Any, args: list[Any]) -> list[Any]:
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = args[:n_cond], args[n_cond : n_cond + n_body]
    carry = args[n_cond + n_body :]
    while True:
        (goes_on,) = _call(params["cond_jaxpr"], [*of_cond, *carry])
        if isinstance(goes_on, (Enclosure, Decision)):
            raise NotCovered("`while` on an undecided comparison")
        if not goes_on:
            return carry
        carry = _call(params["body_jaxpr"], [*of_body, *carry])
