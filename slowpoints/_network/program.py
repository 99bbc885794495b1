"""`Program`: the step of a network as a list of operations that can be compared, read and computed.

JAX's own jaxprs are compared by identity. A `Program` is equal to another one if it does the same
to its arrays, whatever they hold, so that networks that differ only in their weights share all that
is compiled for them.
"""

import dataclasses
import functools
import re
import types
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import (  # pyright: ignore[reportPrivateImportUsage]
    ClosedJaxpr,
    Jaxpr,
    Literal,
    Primitive,
    jaxpr_as_fun,
    primitives,
)

from slowpoints._core.arrays import put

CALLS = (
    "pjit",
    "jit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat",
    "remat2",
    "composite",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
)
"""Operations that apply a program as it is, in this or other versions of JAX.

One with a rule of `custom_vjp` is among them: a rule without forward mode is of no use here, and
the program below it has derivatives of its own.
"""

_OF_JAX = {
    primitive
    for module in (primitives, jax.lax, jax.lax.linalg)
    for primitive in vars(module).values()
    if isinstance(primitive, Primitive)
}

_MOST_RULES = 4
"""So deep are rules of `custom_jvp` read that use other rules, and so high is the order of the
derivatives that are those of the rules. The search takes derivatives of up to the third order."""


@dataclass(frozen=True)
class Array:
    """One of the network's arrays, by its place among them."""

    index: int


@dataclass(frozen=True)
class Value:
    """An argument or a result: arguments come first, then the results of each line."""

    index: int


@dataclass(frozen=True)
class Number:
    """A number that is part of the program, as Python's numbers in a network's code are."""

    dtype: np.dtype
    data: bytes

    @property
    def value(self) -> np.ndarray:
        """The number as an array without axes."""
        return np.frombuffer(self.data, self.dtype).reshape(())


Operand = Array | Value | Number


@dataclass(frozen=True)
class Line:
    """One operation, and what it is applied to.

    Attributes:
        primitive: the operation.
        operands: what it is applied to.
        dtypes: the types of the operands as they were traced.
        out_dtypes: the types of the results as they were traced.
        programs: its parameters that are programs, or tuples of programs.
        closed: the names of those that JAX takes together with arrays.
        key: all its other parameters, in a form that can be compared.
        params: the same, as JAX takes them.
    """

    primitive: Primitive
    operands: tuple[Operand, ...]
    dtypes: tuple[Any, ...]
    out_dtypes: tuple[Any, ...]
    programs: tuple[tuple[str, Any], ...]
    closed: tuple[str, ...]
    key: Hashable
    params: Mapping[str, Any] = field(compare=False, repr=False)

    @functools.cached_property
    def inner(self) -> dict[str, Any]:
        """The programs by the names of the parameters."""
        return dict(self.programs)

    def parts(self) -> Iterator["Program"]:
        """Yield the programs one by one."""
        for _, value in self.programs:
            yield from (part for part in _parts(value) if isinstance(part, Program))

    def text(self) -> str:
        """Return a text that is the same for equal lines in every process."""
        return re.sub(r" at 0x\w+", "", self.whole_text())

    def whole_text(self) -> str:
        """Return that text with addresses in memory, if it holds any, such as those of functions.

        And of operations that are none of JAX's, of which only they know what they do.
        """
        name = self.primitive.name
        if self.primitive not in _OF_JAX:
            name = f"{name} at {id(self.primitive):#x}"
        parts = (self.operands, self.dtypes, self.out_dtypes, self.key)
        inner = (
            (name, [p.whole_text() if isinstance(p, Program) else p for p in _parts(value)])
            for name, value in self.programs
        )
        return f"{name} {parts} {list(inner)}"


@dataclass(frozen=True)
class Program:
    """Operations one after another.

    Attributes:
        arguments: the shapes and types of the arguments, as they were traced.
        arrays: the shapes and types of the network's arrays; only the outermost program has them.
        lines: the operations.
        results: what is returned.
    """

    arguments: tuple[tuple[tuple[int, ...], Any], ...]
    arrays: tuple[tuple[tuple[int, ...], Any], ...]
    lines: tuple[Line, ...]
    results: tuple[Operand, ...]

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.arguments, self.arrays, self.lines, self.results))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Program({len(self.lines)} operations, {len(self.arrays)} arrays)"

    def all_lines(self) -> Iterator[Line]:
        """Yield all operations, those of inner programs and of rules for derivatives included."""
        for line in self.lines:
            yield line
            for part in line.parts():
                yield from part.all_lines()

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """The places of the arrays that are used."""
        parts = (self, *(part for line in self.all_lines() for part in line.parts()))
        operands = (a for line in self.all_lines() for a in line.operands)
        used = (*operands, *(a for part in parts for a in part.results))
        return tuple(sorted({a.index for a in used if isinstance(a, Array)}))

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(line.primitive.name for line in self.all_lines())

    @functools.cached_property
    def finest(self) -> np.dtype | None:
        """The finest real type that the network can be computed in; `None` if there is no limit.

        There is one where an operation has the types that it was traced with: see `is_fixed`.
        """
        limits = [
            dtype
            for line in self.all_lines()
            if is_fixed(line) and any(map(_is_real, line.dtypes))
            for dtype in line.out_dtypes
            if _is_real(dtype)
        ]
        return min(limits, key=lambda dtype: jnp.finfo(dtype).bits, default=None)

    def text(self) -> str:
        """Return a text that is the same for equal programs in every process."""
        return re.sub(r" at 0x\w+", "", self.whole_text())

    def whole_text(self) -> str:
        """Return that text with addresses in memory, if it holds any."""
        lines = (f"{line.whole_text()}\n" for line in self.lines)
        return f"{self.arguments} {self.arrays}\n{''.join(lines)}{self.results}"


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def is_fixed(line: Line) -> bool:
    """Return whether an operation is defined for the types that it was traced with, and no others.

    Those are calls of code that is not JAX's, and what looks at the bits of a number.
    """
    name = line.primitive.name
    return name in ("bitcast_convert_type", "reduce_precision", "ffi_call") or (
        "callback" in name and bool(line.out_dtypes)
    )


def _is_real(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, np.floating))


# ---- equal programs are one object ---------------------------------------------------------------

_known: "weakref.WeakValueDictionary[Program, Program]" = weakref.WeakValueDictionary()


def read(traced: ClosedJaxpr) -> tuple[Program, list[Any]]:
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


def derivative(function: Callable[..., Any], primals: Any, tangents: Any) -> list[Any]:
    """Return the results of a function, then the changes of those that are not whole numbers.

    Args:
        function: returns a list or a tuple of arrays.
        primals: its arguments.
        tangents: the changes of those arguments that are not whole numbers.
    """
    results, changes = jax.jvp(function, tuple(primals), with_zeros(primals, tangents))
    pairs = zip(results, changes, strict=True)
    return [*results, *(change for result, change in pairs if has_tangent(result.dtype))]


def with_zeros(primals: Any, tangents: Any) -> tuple[Any, ...]:
    """Return a tangent for each of `primals`, given those of all that are not whole numbers."""
    rest = iter(tangents)
    return tuple(
        next(rest) if has_tangent(p.dtype) else np.zeros(p.shape, jax.dtypes.float0)
        for p in primals
    )


def has_tangent(dtype: Any) -> bool:
    """Return whether numbers of a type can change by a little: real and complex ones can."""
    return bool(jnp.issubdtype(dtype, np.inexact))


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


# ---- comparison ----------------------------------------------------------------------------------


class Identity:
    """Equal only to the same object, which it keeps alive."""

    def __init__(self, obj: Any):
        self._obj = obj

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Identity) and self._obj is other._obj

    def __hash__(self) -> int:
        return id(self._obj)

    def __repr__(self) -> str:
        kind = type(self._obj)
        return f"{kind.__module__}.{kind.__qualname__} at {id(self._obj):#x}"


def comparable(value: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Return what is equal for equal numbers, texts, arrays and settings of an operation.

    Functions that are defined inside a step are made anew for each trace of it. They are equal if
    their code is, and all that they close over.

    Args:
        value: the setting.
        inside: functions that it is part of, which may close over themselves.
    """
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, Tracer):
        array = np.asarray(value)
        return "array", array.shape, array.dtype.str, array.tobytes()
    if isinstance(value, (bool, int, float, complex)):
        return type(value).__name__, repr(value)  # 1 is no True, and 0.0 no -0.0
    parts: Any = None
    if isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, dict):
        parts = sorted(value.items(), key=str)
    elif isinstance(value, types.FunctionType) and value not in inside:
        inside = (*inside, value)
        cells = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
        parts = [value.__code__, cells, value.__defaults__, value.__kwdefaults__]
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, one.name) for one in dataclasses.fields(value)]
    if parts is not None:
        return type(value), *(comparable(part, inside) for part in parts)
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return value


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # not assigned yet
        return True
    return False
