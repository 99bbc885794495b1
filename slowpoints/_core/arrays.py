"""Rows of arrays: numbers of them for which programs stay compiled, and taking some of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def rounded_up(n_rows: int) -> int:
    """Return the next of the numbers of rows that programs are compiled for, eight in each octave.

    So few that later calls, with other numbers of rows, find their programs compiled.
    """
    step = 1 << max(n_rows.bit_length() - 4, 0)
    return -(-n_rows // step) * step


def power_of_two(n_rows: int) -> int:
    """Return the least power of two that is no less: few sizes, for rows that cost little."""
    return 1 << max(n_rows - 1, 0).bit_length()


_LITTLE = 2**24
"""Up to so many entries of matrices, compiling a program takes longer than computing with them."""


def filled_up(entries: int, *arrays: Any) -> tuple[Any, ...]:
    """Return rows, and after them some again, so that there is a power of two of them.

    Traced rows, and many or large ones, are returned as they are.

    Args:
        entries: how many entries of matrices are to be computed for each row.
        *arrays: `[n, ...]` what the rows consist of.
    """
    n = arrays[0].shape[0]
    size = power_of_two(n)
    traced = any(isinstance(array, Tracer) for array in arrays)
    if traced or n in (0, size) or size * entries > _LITTLE:
        return arrays
    return tuple(rows_of(array, np.arange(size) % n) for array in arrays)


def first_rows(value: Any, n: int) -> Any:
    """Return the first `n` rows."""
    return value if value.shape[0] == n else rows_of(value, slice(n))


def rows_of(value: Any, index: Any) -> Any:
    """Return `value[index]`, by NumPy on the host: JAX would compile a program for each shape."""
    arrays = (value, index)
    if isinstance(value, np.ndarray) or any(isinstance(a, Tracer) for a in arrays):
        return value[index]
    if any(device.platform != "cpu" for device in value.devices()):
        return value[index]
    rows = np.asarray(value)[np.asarray(index) if isinstance(index, jax.Array) else index]
    with jax.enable_x64(True):  # or float64 would be narrowed
        return jnp.asarray(rows)
