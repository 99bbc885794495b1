"""NumPy's arrays of double precision that a model reads, such as weights it has as attributes.

From 0.9 on, JAX remembers such an array by its identity, with the type that it had when it was
first seen. A search traces a model with x64 enabled and without, and would fail at the second one.
So each call of a model finds new views of these arrays in their places, and afterwards the arrays
are back. A view has an identity of its own and costs nothing, however large the array.
"""

import contextlib
import functools
import os
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import numpy as np

_FRAMEWORKS = {"brainpy", "brainpy_state", "brainstate", "equinox", "flax", "slowpoints", "types"}
"""A model may be made of objects of these, whose attributes are looked at; their code is not."""


class WideArrays:
    """The places where a model holds arrays of NumPy in double precision, or tuples of them.

    Those are attributes of the model and of its parts, of their classes, what their functions close
    over, and what these take from their modules by name. Installed packages other than the model's
    own are left out. An array is in the same place afterwards. As they are no part of what a model
    computes, all `WideArrays` are equal.
    """

    def __init__(self, model: Any):
        self._places = tuple(_Walk(model).places)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, WideArrays)

    def __hash__(self) -> int:
        return hash(WideArrays)

    def __repr__(self) -> str:
        return "WideArrays()"

    def __reduce__(self) -> tuple[Any, ...]:
        return WideArrays, (None,)  # who copies or pickles the model looks for the places anew

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Put new views in all places."""
        with contextlib.ExitStack() as stack:
            for place in self._places:
                stack.enter_context(_renewed(*place))
            yield


_lock = threading.Lock()
_lent: dict[tuple[int, Any], tuple[Any, Any, int]] = {}
"""The original, its view and the number of calls that use it: models run in several threads."""


@contextlib.contextmanager
def _renewed(holder: Any, key: Any) -> Iterator[None]:
    name = id(holder), key
    with _lock:
        value = _get(holder, key)
        original, view, n_users = _lent.get(name, (value, _view(value), 0))
        _lent[name] = original, view, n_users + 1
        if n_users == 0:
            _set(holder, key, view)
    try:
        yield
    finally:
        with _lock:
            original, view, n_users = _lent[name]
            if n_users > 1:
                _lent[name] = original, view, n_users - 1
            else:
                del _lent[name]
                if _get(holder, key) is view:  # or somebody has put another value there
                    _set(holder, key, original)


def _get(holder: Any, key: Any) -> Any:
    if isinstance(holder, list):
        return holder[key]
    return (holder if isinstance(holder, dict) else vars(holder)).get(key)


def _set(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, dict):
        dict.__setitem__(holder, key, value)  # whatever a subclass does there
    elif isinstance(holder, list):
        list.__setitem__(holder, key, value)
    else:
        setattr(holder, key, value)


def _view(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_view, value))
    return value.view() if _is_wide(value) else value


def _is_wide(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "fiuc" and value.dtype.itemsize > 4


def _has_wide(value: Any) -> bool:
    return any(map(_has_wide, value)) if type(value) is tuple else _is_wide(value)


_ATOMS = (str, bytes, int, float, complex, np.ndarray, type, types.ModuleType, type(None))


class _Walk:
    """One pass over what a model can reach."""

    def __init__(self, model: Any) -> None:
        self.places: list[tuple[Any, Any]] = []
        self._seen: dict[int, Any] = {}  # with the objects, so that no id is used again meanwhile
        self._classes: set[type] = set()
        self._own_roots = set[str]()
        for part in (model, getattr(model, "fn", model)):  # a function is held in another object
            part = getattr(part, "__self__", part)
            is_code = isinstance(part, (types.FunctionType, type))
            self._add_root((part if is_code else type(part)).__module__)
        self._waiting = [model]  # rather than recursion, for lists that are linked a thousandfold
        while self._waiting:
            obj = self._waiting.pop()
            if not isinstance(obj, _ATOMS) and id(obj) not in self._seen:
                self._seen[id(obj)] = obj
                self._visit(_unwrapped(obj))

    def _visit(self, obj: Any) -> None:
        if isinstance(obj, types.FunctionType):
            self._visit_function(obj)
        elif isinstance(obj, types.MethodType):
            self._waiting += [obj.__func__, obj.__self__]
        elif isinstance(obj, functools.partial):
            self._waiting += [obj.func, *obj.args, *obj.keywords.values()]
        elif isinstance(obj, dict):
            self._visit_items(obj, list(obj.items()))
        elif isinstance(obj, list):
            self._visit_items(obj, list(enumerate(obj)))
        elif isinstance(obj, (tuple, set, frozenset)):
            self._waiting += obj
        elif isinstance(getattr(obj, "__dict__", None), dict) and self._is_part(type(obj)):
            self._visit_class(type(obj))
            # The arrays of an Equinox module are leaves, and never of NumPy.
            self._waiting += vars(obj).values() if isinstance(obj, eqx.Module) else [vars(obj)]

    def _visit_items(self, holder: Any, items: list[tuple[Any, Any]]) -> None:
        for key, value in items:
            if _has_wide(value):
                self.places.append((holder, key))
        self._waiting += [value for _, value in items]

    def _visit_class(self, cls: type) -> None:
        for base in cls.__mro__:
            if base in self._classes or not self._is_own(base.__module__):
                continue
            self._classes.add(base)
            self._visit_items(base, [(k, v) for k, v in vars(base).items() if _has_wide(v)])
            for value in vars(base).values():
                method = _unwrapped(value.fget if isinstance(value, property) else value)
                if isinstance(method, types.FunctionType):
                    self._waiting.append(method)

    def _visit_function(self, fn: types.FunctionType) -> None:
        for cell in fn.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell that is not filled yet
                self._waiting.append(cell.cell_contents)
        self._waiting += [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]
        if not self._is_own(fn.__module__):
            return
        scope, names = fn.__globals__, _names_in(fn.__code__)
        for name in names & scope.keys():
            value = scope[name]
            if isinstance(value, types.ModuleType) and self._is_own(value.__name__):
                held = vars(value)
                there = [(k, held[k]) for k in names & held.keys() if _has_wide(held[k])]
                self._visit_items(held, there)
            elif _has_wide(value):
                self._visit_items(scope, [(name, value)])
            else:
                self._waiting.append(value)

    def _is_part(self, cls: type) -> bool:
        """Whether a model may be made of instances of a class."""
        if any(_root_of(base.__module__) in _FRAMEWORKS for base in cls.__mro__):
            self._add_root(cls.__module__)
            return True
        return self._is_own(cls.__module__)

    def _add_root(self, module: str | None) -> None:
        if (root := _root_of(module)) not in _FRAMEWORKS:
            self._own_roots.add(root)

    def _is_own(self, module: str | None) -> bool:
        """Whether a module is a user's: of the model's package, or one that is not installed."""
        root = _root_of(module)
        return root in self._own_roots or not _is_installed(root)


def _unwrapped(value: Any) -> Any:
    """Return the function that a class method, or what `jax.jit` has compiled, is made of."""
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    # A function that wraps another closes over it, and a method leads to its function.
    while not isinstance(value, (types.FunctionType, types.MethodType)):
        held = getattr(value, "__dict__", None)
        if not isinstance(held, dict) or "__wrapped__" not in held:
            break
        value = held["__wrapped__"]
    return value


def _names_in(code: types.CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _root_of(module: str | None) -> str:
    return (module or "").split(".")[0]


@functools.cache
def _is_installed(root: str) -> bool:
    """Whether a top-level module is in Python's library or among the installed packages."""
    if root in _FRAMEWORKS or root in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(file.startswith(f"{folder}{os.sep}") for folder in folders)
