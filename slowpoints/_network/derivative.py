"""`derivative`: how results change with arguments, of which some are whole numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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
