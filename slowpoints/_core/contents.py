"""What a model's objects hold, and how they are put back as they were after a trace.

A step may write to the model, as those of BrainPy write to its `Variable`s. While it is traced,
what it writes stands for no number, and would be of no use to anybody afterwards.
"""

import collections
import contextlib
import functools
import operator
import sys
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

_ATOMS = (str, bytes, int, float, complex, type, types.ModuleType, type(None))
_ATOMS += (np.ndarray, np.generic, jax.Array)


@contextlib.contextmanager
def put_back(model: Any, *, all_of_it: bool = False) -> Iterator[None]:
    """Put back at the end, whatever happens, what a model's objects hold.

    Those are lists, dictionaries and attributes: of the model, of what it is made of, of its class,
    of what its functions close over, and of the globals that these name. Modules, installed classes
    and objects of Python's own library are left alone.

    Args:
        model: the model.
        all_of_it: whether also to put back what holds no traced values now, such as a counter. So
            it is after an error, which may leave anything.
    """
    kept = [(holder, _content(holder)) for holder in objects_in(model) if _is_holder(holder)]
    restores_all = True
    try:
        yield
        restores_all = all_of_it
    finally:
        for holder, content in kept:
            now = _content(holder)
            if not _is_same(now, content) and (restores_all or _is_traced(now)):
                _restore(holder, content)


def objects_in(model: Any) -> list[Any]:
    """Return a model and all objects that it is made of, those of Python's own library excepted."""
    found: list[Any] = []
    seen: dict[int, Any] = {}  # with the objects, so that no id is used again meanwhile
    waiting = [model]  # rather than recursion, for lists that are linked a thousandfold
    while waiting:
        obj = waiting.pop()
        if isinstance(obj, _ATOMS) or id(obj) in seen or getattr(type(obj), "puts_back", False):
            continue
        seen[id(obj)] = obj
        if isinstance(obj, types.FunctionType):
            for cell in obj.__closure__ or ():
                with contextlib.suppress(ValueError):  # a cell that is not filled yet
                    waiting.append(cell.cell_contents)
            waiting += [*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values()]
            waiting += _globals_of(obj)
        elif isinstance(obj, types.MethodType):
            waiting += [obj.__func__, obj.__self__]
        elif isinstance(obj, functools.partial):
            waiting += [obj.func, *obj.args, *obj.keywords.values()]
        elif isinstance(obj, (tuple, set, frozenset)):
            waiting += [part for part in obj if not isinstance(part, _ATOMS)]
        elif isinstance(obj, _CONTAINERS):
            found.append(obj)  # and no more, for a list of a million numbers
            waiting += [part for part in _values(obj) if not isinstance(part, _ATOMS)]
        elif type(obj).__module__.split(".")[0] not in sys.stdlib_module_names:
            found.append(obj)
            for cls in type(obj).__mro__:
                waiting += _attributes_of(cls)
            if isinstance(held := getattr(obj, "__dict__", None), dict):
                waiting.append(held)
            waiting += _slots(obj).values()
    return found


_CONTAINERS = (list, dict, collections.deque)


def _is_holder(obj: Any) -> bool:
    return isinstance(obj, _CONTAINERS) or bool(_slots(obj))


def _is_of_the_users(defined: Any, file: str | None) -> bool:
    """Return whether a class or a function belongs to no package that is installed, nor to us."""
    package = str(defined.__module__).split(".")[0]
    known = package == "slowpoints" or package in sys.stdlib_module_names
    return not known and "site-packages" not in (file or "")


def _attributes_of(cls: type) -> Iterator[Any]:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return iter(vars(cls).values() if _is_of_the_users(cls, file) else ())


def _globals_of(function: types.FunctionType) -> Iterator[Any]:
    """Yield the globals that a function of the user's names."""
    code = function.__code__
    codes = [code] if _is_of_the_users(function, code.co_filename) else []
    while codes:
        code = codes.pop()
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        for name in code.co_names:
            if name in function.__globals__:
                yield function.__globals__[name]


def _slots(obj: Any) -> dict[str, Any]:
    names = {name for base in type(obj).__mro__ for name in vars(base).get("__slots__", ())}
    kinds = types.MemberDescriptorType
    members = {name for name in names if isinstance(getattr(type(obj), name, None), kinds)}
    return {name: getattr(obj, name) for name in members if hasattr(obj, name)}


def _content(holder: Any) -> Any:
    if isinstance(holder, (list, collections.deque)):
        return list(holder)
    return dict(holder) if isinstance(holder, dict) else _slots(holder)


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(operator.is_, a, b))
    return a.keys() == b.keys() and all(a[key] is b[key] for key in a)


def _is_traced(content: Any) -> bool:
    return any(_stands_for_a_value(leaf) for leaf in jax.tree.leaves(list(_values(content))))


def _stands_for_a_value(leaf: Any) -> bool:
    torchs = sys.modules.get("torch._subclasses.fake_tensor")
    return isinstance(leaf, (Tracer, getattr(torchs, "FakeTensor", ())))


def _values(content: Any) -> Any:
    return content.values() if isinstance(content, dict) else content


def _restore(holder: Any, content: Any) -> None:
    # Whatever a subclass does when it is written to.
    if isinstance(holder, dict):
        dict.clear(holder)
        dict.update(holder, content)
    elif isinstance(holder, list):
        list.__setitem__(holder, slice(None), content)
    elif isinstance(holder, collections.deque):
        holder.clear()
        holder.extend(content)
    else:
        for name in _slots(holder).keys() - content.keys():
            object.__delattr__(holder, name)
        for name, value in content.items():
            object.__setattr__(holder, name, value)
