"""Functions that close over traced values, such as the argument of a loss, as pytrees.

`equinox.filter_closure_convert` would fix the shapes and the precision of the arguments, which are
not known yet, and a search would compile anew for each function that it returns.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer


def close_over(fn: Any) -> Any:
    """Return a function with the traced values that it closes over as leaves.

    Custom rules for derivatives and batches see a function's arguments, but not what it closes
    over. Two functions with the same code that close over similar values have the same structure. A
    function that closes over nothing traced is returned as it is.
    """
    values: list[Any] = []
    structure = _split(fn, values, frozenset())
    return Closure(values, structure) if values else fn


class Closure(eqx.Module):
    """A function without its traced values, together with these values."""

    values: list[Any]
    structure: Any = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Call the function with the values where they were."""
        return self.structure.join(iter(self.values))(*args)


# A function is split into holes (where traced values were), fixed parts, and nodes that join them.


@dataclass(frozen=True)
class _Hole:
    def join(self, values: Iterator[Any]) -> Any:
        return next(values)


class _Fixed:
    def __init__(self, obj: Any):
        self._obj = obj
        simple = isinstance(obj, (bool, int, float, complex, str, bytes, type(None)))
        self._key = (type(obj), obj) if simple else (type(obj), id(obj))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Fixed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def join(self, values: Iterator[Any]) -> Any:
        return self._obj


@dataclass(frozen=True)
class _Tree:
    parts: tuple[Any, ...]
    treedef: Any

    def join(self, values: Iterator[Any]) -> Any:
        return self.treedef.unflatten([part.join(values) for part in self.parts])


@dataclass(frozen=True)
class _Partial:
    parts: Any

    def join(self, values: Iterator[Any]) -> Any:
        fn, args, keywords = self.parts.join(values)
        return partial(fn, *args, **keywords)


@dataclass(frozen=True)
class _Function:
    parts: Any
    code: types.CodeType
    module: _Fixed
    itself: tuple[int, ...]  # the cells that hold the function itself, for recursion

    def join(self, values: Iterator[Any]) -> Any:
        cells, defaults, keyword_defaults = self.parts.join(values)
        scope = self.module.join(values)
        closure = tuple(types.CellType(content) for content in cells)
        fn = types.FunctionType(self.code, scope, self.code.co_name, defaults, closure)
        fn.__kwdefaults__ = keyword_defaults
        for i in self.itself:
            closure[i].cell_contents = fn
        return fn


def _split(obj: Any, values: list[Any], inside: frozenset[int]) -> Any:
    """Return the structure of `obj`, and append what belongs in its holes to `values`."""
    if isinstance(obj, Tracer):
        values.append(obj)
        return _Hole()
    if id(obj) in inside:  # functions that close over each other
        return _Fixed(obj)
    inside, n_before = inside | {id(obj)}, len(values)
    if isinstance(obj, types.FunctionType):
        try:
            cells = [cell.cell_contents for cell in obj.__closure__ or ()]
        except ValueError:  # a cell that is not filled yet
            return _Fixed(obj)
        itself = tuple(i for i, content in enumerate(cells) if content is obj)
        cells = [None if i in itself else content for i, content in enumerate(cells)]
        parts = _split_tree((cells, obj.__defaults__, obj.__kwdefaults__), values, inside)
        structure = _Function(parts, obj.__code__, _Fixed(obj.__globals__), itself)
    elif isinstance(obj, partial):
        structure = _Partial(_split_tree((obj.func, obj.args, obj.keywords), values, inside))
    else:
        structure = _split_tree(obj, values, inside)
    return structure if len(values) > n_before else _Fixed(obj)


def _split_tree(obj: Any, values: list[Any], inside: frozenset[int]) -> Any:
    leaves, treedef = jax.tree.flatten(obj)
    if len(leaves) == 1 and leaves[0] is obj:
        return _Fixed(obj)
    return _Tree(tuple(_split(leaf, values, inside) for leaf in leaves), treedef)
