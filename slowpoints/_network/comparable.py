"""`comparable`: the settings of an operation in a form in which equal ones are equal."""

import dataclasses
import functools
import types
from typing import Any

import jax
import numpy as np
from jax.core import Tracer


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
