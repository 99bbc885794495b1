"""`read_program`: a traced function becomes a `Program`; equal programs become one object."""

import functools
import weakref
from typing import Any

import jax
import numpy as np
from jax.extend.core import (  # pyright: ignore[reportPrivateImportUsage]
    ClosedJaxpr,
    Jaxpr,
    Literal,
    jaxpr_as_fun,
)

from slowpoints._core.arrays import put
from slowpoints._network.comparable import comparable
from slowpoints._network.derivative import derivative, has_tangent
from slowpoints._network.program import Array, Line, Number, Operand, Program, Value

_MOST_RULES = 4
"""So deep are rules of `custom_jvp` read that use other rules, and so high is the order of the
derivatives that are those of the rules. The search takes derivatives of up to the third order."""

_known: "weakref.WeakValueDictionary[Program, Program]" = weakref.WeakValueDictionary()


def read_program(traced: ClosedJaxpr) -> tuple[Program, list[Any]]:
    """Return a traced function as a program, and the arrays that it closes over.

    Arrays of NumPy are copied, as the caller may change them later.
    """
    reader = _Reader()
    program = reader.program(traced.jaxpr, traced.consts)
    arrays = [_as_jax(array) for array in reader.arrays]
    shapes = tuple((tuple(a.shape), a.dtype) for a in arrays)
    program = Program(program.arguments, shapes, program.lines, program.results)
    # Comparing one object with itself takes no time, and compiled programs hold it.
    return _known.setdefault(program, program), arrays


def _as_jax(array: Any) -> Any:
    if isinstance(array, jax.Array):
        return array
    with jax.ensure_compile_time_eval():  # it has a value, whatever is being traced
        return put(array)


class _Reader:
    """Reads a jaxpr, and collects the arrays in it and in those that it calls."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self._places: dict[int, Array] = {}  # by identity, which the list above keeps
        self._rules: list[Any] = []  # what the rules are for that are being read

    def program(self, jaxpr: Any, consts: Any = ()) -> Program:
        known: dict[Any, Operand] = dict(
            zip(jaxpr.constvars, map(self._array, consts), strict=True)
        )
        known.update((var, Value(i)) for i, var in enumerate(jaxpr.invars))
        n_values = len(jaxpr.invars)

        def operand(atom: Any) -> Operand:
            if not isinstance(atom, Literal):
                return known[atom]
            aval: Any = atom.aval
            dtype = np.dtype(aval.dtype)
            return Number(dtype, np.asarray(atom.val, dtype).tobytes())

        lines = []
        for eqn in jaxpr.eqns:
            lines.append(self._line(jaxpr, eqn, tuple(map(operand, eqn.invars))))
            known.update((var, Value(n_values + i)) for i, var in enumerate(eqn.outvars))
            n_values += len(eqn.outvars)
        arguments = tuple((tuple(v.aval.shape), v.aval.dtype) for v in jaxpr.invars)
        return Program(arguments, (), tuple(lines), tuple(map(operand, jaxpr.outvars)))

    def _array(self, const: Any) -> Array:
        if id(const) not in self._places:
            self._places[id(const)] = Array(len(self.arrays))
            self.arrays.append(const)
        return self._places[id(const)]

    def _line(self, jaxpr: Jaxpr, eqn: Any, operands: tuple[Operand, ...]) -> Line:
        params, programs = dict(eqn.params), dict[str, Any]()
        if eqn.primitive.name.startswith("custom_vjp"):
            params = {k: v for k, v in params.items() if _is_program(v)}
        for name, value in eqn.params.items():
            if _is_program(value):
                programs[name] = self._inner(value)
            elif isinstance(value, tuple) and any(map(_is_program, value)):
                parts = (self._inner(part) if _is_program(part) else None for part in value)
                programs[name] = tuple(parts)
        params = {name: value for name, value in params.items() if name not in programs}
        if eqn.primitive.name == "custom_jvp_call":
            params = {}
            programs["rule"] = self._rule(jaxpr, eqn, programs["call_jaxpr"])
        if eqn.primitive.name == "scan":
            params = {name: params[name] for name in ("length", "reverse", "unroll")}
            params |= _sizes_of_scan(eqn)
        return Line(
            eqn.primitive,
            operands,
            tuple(getattr(atom.aval, "dtype", None) for atom in eqn.invars),
            tuple(getattr(var.aval, "dtype", None) for var in eqn.outvars),
            tuple(sorted(programs.items())),
            tuple(sorted(k for k in programs if isinstance(eqn.params.get(k), ClosedJaxpr))),
            tuple((name, comparable(value)) for name, value in sorted(params.items())),
            params,
        )

    def _inner(self, value: Any) -> Program:
        if isinstance(value, ClosedJaxpr):
            return self.program(value.jaxpr, value.consts)
        return self.program(value)

    def _rule(self, jaxpr: Jaxpr, eqn: Any, call: Program) -> Program | int | None:
        """Return a rule of `custom_jvp`, traced now: later the arrays in it may be others.

        The rule of a function may use the function itself, as that of `jax.nn.relu` does; its place
        among the rules that are being read is then returned.
        """
        # Functions that compute the same may have different rules.
        of_rule = getattr(eqn.params["jvp_jaxpr_fun"], "debug_info", None)
        written = call, getattr(of_rule, "func_src_info", None)
        if written in self._rules:
            return self._rules.index(written)
        if len(self._rules) == _MOST_RULES:
            return None
        arguments = getattr(eqn.params["call_jaxpr"], "jaxpr", eqn.params["call_jaxpr"]).invars
        alone = jaxpr.replace(
            constvars=[],
            invars=arguments,
            outvars=eqn.outvars,
            eqns=[eqn.replace(invars=list(arguments))],
        )
        function = functools.partial(derivative, jaxpr_as_fun(ClosedJaxpr(alone, [])))
        specs = [jax.ShapeDtypeStruct(a.aval.shape, a.aval.dtype) for a in arguments]
        changing = [spec for spec in specs if has_tangent(spec.dtype)]
        traced = jax.make_jaxpr(function)(specs, changing)
        self._rules.append(written)
        try:
            return self.program(traced.jaxpr, traced.consts)
        finally:
            self._rules.pop()


def _is_program(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))


def _sizes_of_scan(eqn: Any) -> dict[str, int]:
    """Return how many operands of a `scan` are constant, and how many are carried on.

    What is gone through, and what is stacked, has one axis more outside. Releases of JAX say in
    different ways how many these are.
    """
    inner = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
    n_xs, n_ys = (
        sum(a.aval.ndim != b.aval.ndim for a, b in zip(outer, within, strict=True))
        for outer, within in ((eqn.invars, inner.invars), (eqn.outvars, inner.outvars))
    )
    n_carry = len(eqn.outvars) - n_ys
    return {"n_consts": len(eqn.invars) - n_carry - n_xs, "n_carry": n_carry}
