"""`Program`: the step of a network as a list of operations that can be compared, read and computed.

JAX's own jaxprs are compared by identity. A `Program` is equal to another one if it does the same
to its arrays, whatever they hold, so that networks that differ only in their weights share all that
is compiled for them.
"""

import functools
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive, primitives  # pyright: ignore[reportPrivateImportUsage]

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
