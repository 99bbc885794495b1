"""Functions that close over traced values, such as the argument of a loss, as pytrees.

And those that close over NumPy's arrays: see `_Copied`.

`equinox.filter_closure_convert` would fix the shapes and the precision of the arguments, which are
not known yet, and a search would compile anew for each function that it returns.
"""

import contextlib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer


def close_over(fn: Any) -> Any:
    """Return a function with the traced values that it closes over as leaves.

    Custom rules for derivatives and batches see a function's arguments, but not what it closes
    over. Two functions with the same code that close over similar values have the same structure. A
    function that closes over nothing traced is returned as it is, but for arrays that are copied.
    """
    values: list[Any] = []
    structure = _split(fn, values, frozenset())
    return fn if _is_as_it_was(structure) else Closure(values, structure)


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


class _Scope:
    """All names of a module.

    It has no `__dict__`, so that who walks a model's objects (`WideArrays`) does not come upon the
    names that the function has nothing to do with, such as data in a notebook.
    """

    __slots__ = ("_names",)

    def __init__(self, names: dict[str, Any]):
        self._names = names

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Scope) and self._names is other._names

    def __hash__(self) -> int:
        return id(self._names)

    def join(self, values: Iterator[Any]) -> Any:
        return self._names


class _Copied(_Fixed):
    """An array of NumPy in double precision, which each call of the function gets anew.

    From 0.9 on, JAX remembers such an array by its identity, with the type that it had when it was
    first seen: if a function is traced with x64 enabled and without, as a search does, it fails.
    """

    def join(self, values: Iterator[Any]) -> Any:
        return self._obj.copy()


def _is_as_it_was(structure: Any) -> bool:
    return type(structure) is _Fixed


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
    module: _Scope
    names: tuple[tuple[str, _Fixed], ...]  # what it takes from its module by name
    itself: tuple[int, ...]  # the cells that hold the function itself, for recursion

    def join(self, values: Iterator[Any]) -> Any:
        cells, defaults, keyword_defaults, named = self.parts.join(values)
        scope = self.module.join(values)
        scope = scope | named if named else scope
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
    if isinstance(obj, np.ndarray):
        wide = obj.dtype.kind in "fiuc" and obj.dtype.itemsize > 4
        return _Copied(obj) if wide else _Fixed(obj)
    if id(obj) in inside:  # functions that close over each other
        return _Fixed(obj)
    inside = inside | {id(obj)}
    if isinstance(obj, types.FunctionType):
        try:
            cells = [cell.cell_contents for cell in obj.__closure__ or ()]
        except ValueError:  # a cell that is not filled yet
            return _Fixed(obj)
        itself = tuple(i for i, content in enumerate(cells) if content is obj)
        cells = [None if i in itself else content for i, content in enumerate(cells)]
        named = _named(obj, inside)
        parts = (cells, obj.__defaults__, obj.__kwdefaults__, named)
        parts = _split_tree(parts, values, inside)
        taken = tuple((name, _Fixed(value)) for name, value in _taken(obj).items())
        structure = _Function(parts, obj.__code__, _Scope(obj.__globals__), taken, itself)
    elif isinstance(obj, partial):
        structure = _Partial(_split_tree((obj.func, obj.args, obj.keywords), values, inside))
    else:
        return _split_tree(obj, values, inside)
    return _Fixed(obj) if _is_as_it_was(structure.parts) else structure


def _named(fn: types.FunctionType, inside: frozenset[int]) -> dict[str, Any]:
    """Return what a function takes from its module by name, as far as it holds wide arrays."""
    found = {name: fn.__globals__[name] for name in _names(fn)}

    def is_ours(value: Any) -> bool:
        return _is_of_module(fn, value) or isinstance(value, (np.ndarray, dict, list, tuple))

    found = {name: value for name, value in found.items() if is_ours(value)}
    return {
        name: value for name, value in found.items() if not _is_as_it_was(_split(value, [], inside))
    }


def _taken(fn: types.FunctionType) -> dict[str, Any]:
    """Return all that a function takes from its module by name, and what functions in it take.

    Two functions of the same code differ if a name has come to stand for something else, as where
    a notebook's cell that defines weights and the network runs once more.
    """
    found, functions = dict[str, Any](), [fn]
    while functions:
        for name in _names(functions.pop()):
            value = fn.__globals__[name]
            if name not in found and _is_of_module(fn, value):
                functions.append(value)
            found[name] = value
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Names:
    """What functions take from their modules by name. Only for comparison, so never copied."""

    taken: tuple[tuple[str, _Fixed], ...]

    def __deepcopy__(self, memo: Any) -> "Names":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Names, ((),)  # names of another process stand for nothing here


def names_taken(fn: Any) -> Names:
    """Return what a function takes from its module by name, for comparison.

    What the functions take that it closes over, or that it has as defaults, counts as well.
    """
    found, functions, seen = list[tuple[str, Any]](), [fn], set[int]()
    while functions:
        one = functions.pop()
        if isinstance(one, partial):
            functions += [one.func, *one.args, *one.keywords.values()]
        if not isinstance(one, types.FunctionType) or id(one) in seen:
            continue
        seen.add(id(one))
        found += [(name, _Fixed(value)) for name, value in _taken(one).items()]
        for cell in one.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell that is not filled yet
                functions.append(cell.cell_contents)
        functions += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
    return Names(tuple(found))


def _names(fn: types.FunctionType) -> list[str]:
    """Return the names in a function's code that its module defines."""
    codes, names = [fn.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return sorted(name for name in names if name in fn.__globals__)


def _is_of_module(fn: types.FunctionType, value: Any) -> bool:
    return isinstance(value, types.FunctionType) and value.__globals__ is fn.__globals__


def _split_tree(obj: Any, values: list[Any], inside: frozenset[int]) -> Any:
    leaves, treedef = jax.tree.flatten(obj)
    if len(leaves) == 1 and leaves[0] is obj:
        return _Fixed(obj)
    parts = tuple(_split(leaf, values, inside) for leaf in leaves)
    return _Fixed(obj) if all(map(_is_as_it_was, parts)) else _Tree(parts, treedef)
