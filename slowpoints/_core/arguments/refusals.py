"""`refuse`: the error that all refusals are, and what a message says of the value."""

import reprlib
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
    """Return a class's name; for those of this package, the one that users import it by."""
    module = kind.__module__.split("._")[0] if kind.__module__[:10] == "slowpoints" else None
    return f"{module or kind.__module__}.{kind.__qualname__}"


def is_array(value: Any) -> bool:
    """Return whether a value is an array of NumPy or JAX, or one number of NumPy."""
    return isinstance(value, (np.ndarray, np.generic, jax.Array))
