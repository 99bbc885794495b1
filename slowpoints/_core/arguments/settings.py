"""Checks of settings: numbers, words, functions, paths, and objects of some class."""

import math
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from slowpoints._core.arguments.refusals import found, is_array, refuse
from slowpoints._core.without_torch import without_torch

_MOST_ITERATIONS = 2**31 - 1
"""Counts of iterations and rows are in int32."""


def number(
    caller: str,
    name: str,
    value: Any,
    *,
    least: float = 0,
    is_above: bool = False,
    finite: bool = False,
    or_none: bool = False,
) -> Any:
    """Return a real number as Python has it, and a traced one as it is.

    It is at least `least`, or above it if `is_above`.

    Raises:
        TypeError: if `value` is not a real number.
        ValueError: if it is NaN or out of range.
    """
    bound = f" above {least}" if is_above else f", at least {least}"
    expected = f"a {'finite ' if finite else ''}number{bound}{', or None' if or_none else ''}"
    if (value is None and or_none) or _is_traced_scalar(value, np.floating, np.integer):
        return value
    scalar = _scalar(value)
    if scalar is None:
        refuse(caller, name, found(value), expected, TypeError)
    too_large = scalar > sys.float_info.max and (finite or scalar != np.inf)
    if not scalar >= least or (is_above and scalar == least) or too_large:
        refuse(caller, name, f"is {reprlib.repr(scalar)}", expected, ValueError)
    return scalar


def positive(caller: str, name: str, value: Any) -> Any:
    """Return a finite real number above 0, as Python has it; a traced one as it is.

    Raises:
        TypeError: if `value` is not a real number.
        ValueError: if it is NaN, infinite, 0 or negative.
    """
    return number(caller, name, value, is_above=True, finite=True)


def whole(
    caller: str,
    name: str,
    value: Any,
    *,
    least: int = 0,
    most: int = _MOST_ITERATIONS,
    or_none: bool = False,
    or_infinite: bool = False,
) -> Any:
    """Return a whole number from `least` to `most` as an `int`; a traced one as it is.

    `1024.0` is a whole number, and `True` is not.

    Raises:
        TypeError: if `value` is not a whole number.
        ValueError: if it is out of range.
    """
    # The largest integers of 32 and 64 bits are told only to those who exceed them.
    is_told = most < _MOST_ITERATIONS or (isinstance(value, int) and value > most)
    expected = f"a whole number, at least {least}" + (f", at most {most}" if is_told else "")
    expected += (", or infinity" if or_infinite else "") + (", or None" if or_none else "")
    if (value is None and or_none) or _is_traced_scalar(value, np.integer, np.floating):
        return value
    scalar = _scalar(value)
    if or_infinite and scalar == np.inf:
        return scalar
    if scalar is None:
        refuse(caller, name, found(value), expected, TypeError)
    if isinstance(scalar, float) and math.isfinite(scalar) and scalar != int(scalar):
        refuse(caller, name, f"is {scalar!r}", expected, TypeError)
    if not least <= scalar <= most:
        refuse(caller, name, f"is {reprlib.repr(scalar)}", expected, ValueError)
    return int(scalar)


def flag(caller: str, name: str, value: Any) -> bool:
    """Return a yes or no; 0 and 1 are taken for what they mean.

    Raises:
        TypeError: if `value` is neither.
    """
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, Tracer):
        value = value.item() if value.ndim == 0 else value
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    refuse(caller, name, found(value), "True or False", TypeError)


def choice(caller: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of some words.

    Raises:
        ValueError: if `value` is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        refuse(caller, name, found(value), f"one of {choices}", ValueError)
    return value


def instance(
    caller: str, name: str, value: Any, kind: type | tuple[type, ...], expected: str
) -> Any:
    """Return an object of some class.

    Raises:
        TypeError: if `value` is of another one.
    """
    if not isinstance(value, kind):
        refuse(caller, name, found(value), expected, TypeError)
    return value


def path(caller: str, name: str, value: Any) -> Path:
    """Return the path of a file or folder.

    Raises:
        TypeError: if `value` is neither a string nor a path.
    """
    kinds = (str, os.PathLike)
    return Path(instance(caller, name, value, kinds, "a path, as a str or a pathlib.Path"))


def function(caller: str, name: str, value: Any) -> Callable[..., Any] | None:
    """Return a function to call back, or `None`.

    Raises:
        TypeError: if `value` cannot be called.
    """
    if value is not None and not callable(value):
        refuse(caller, name, found(value), "a function or None", TypeError)
    return value


def devices(caller: str, value: Any, *, or_local: bool = True) -> Any:
    """Return a `mesh`: `None`, a mesh or, where that is allowed, the word `"local"`.

    Raises:
        TypeError: if `value` is none of these.
    """
    local = or_local and isinstance(value, str) and value == "local"
    if value is not None and not local and not isinstance(value, Mesh):
        expected = 'a jax.sharding.Mesh, "local" or None' if or_local else "a Mesh or None"
        refuse(caller, "mesh", found(value), expected, TypeError)
    return value


def seed(caller: str, name: str, value: Any) -> int:
    """Return the seed of a random key.

    Raises:
        TypeError: if `value` is not a whole number.
        ValueError: if it does not fit into 64 bits.
    """
    return whole(caller, name, value, least=-(2**63), most=2**63 - 1)


def random_key(caller: str, value: Any) -> Any:
    """Return one JAX random key, new style or old, or that of a seed.

    Raises:
        TypeError: if `value` is neither.
        ValueError: if it is a number that does not fit into 64 bits.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return jax.random.key(seed(caller, "key", value))
    if isinstance(value, (jax.Array, np.ndarray)):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0:
            return value
        if value.dtype == np.uint32 and value.ndim == 1:
            return jnp.asarray(value)
    expected = "one random key, such as jax.random.key(0), or a whole number as its seed"
    refuse(caller, "key", found(value), expected, TypeError)


def fields(caller: str, fps: Any, kind: type, *names: str) -> None:
    """Check that `fps` are fixed points, of class `kind`, that have some fields.

    Raises:
        TypeError: if `fps` is of another class.
        ValueError: if a field is missing.
    """
    instance(caller, "fps", fps, kind, "a slowpoints.FixedPoints")
    for name in names:
        if getattr(fps, name) is None:
            refuse(caller, f"fps.{name}", "is None", f"the points' {name}", ValueError)


def _is_traced_scalar(value: Any, *kinds: type) -> bool:
    if not isinstance(value, Tracer) or np.ndim(value):
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _scalar(value: Any) -> Any:
    """Return a real number as Python has it; `None` for anything else, such as a boolean."""
    value = without_torch(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not is_array(value) or isinstance(value, Tracer) or np.ndim(value):
        return None
    value = np.asarray(value)
    real = jnp.issubdtype(value.dtype, np.floating) or jnp.issubdtype(value.dtype, np.integer)
    return value.item() if real else None
