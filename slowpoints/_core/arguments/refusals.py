"""`refuse`: the error that all refusals are, and what a message says of the value."""

import reprlib
import sys
from typing import Any, NoReturn

import jax
import numpy as np


def refuse(caller: str, name: str, was: str, expected: str, kind: type[Exception]) -> NoReturn:
    """Raise the error that all refusals are."""
    raise kind(f"{caller}: `{name}` {was}; expected {expected}.")


def found(value: Any) -> str:
    """Return what a value was, for a message: `is 'a'`, or `is an array of shape (2,) ...`."""
    if is_array(value) and np.ndim(value):
        return f"is an array of shape {value.shape} and dtype {value.dtype}"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return f"is {reprlib.repr(value)}"
    if isinstance(value, (list, tuple, dict, set)):
        return f"is the {type(value).__name__} {reprlib.repr(value)}"
    return f"is a {name_of(type(value))}"


def name_of(kind: type) -> str:
    """Return a class's name; for a public one of this package, that which users import it by."""
    if kind.__module__.split(".")[0] == "slowpoints":
        package = sys.modules["slowpoints"]
        for public in (package, package.solvers):
            if getattr(public, kind.__qualname__, None) is kind:
                return f"{public.__name__}.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def is_array(value: Any) -> bool:
    """Return whether a value is an array of NumPy or JAX, or one number of NumPy."""
    return isinstance(value, (np.ndarray, np.generic, jax.Array))
