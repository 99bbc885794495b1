"""Rows of `FixedPoints`, on plain arrays: which rows an index means, and joining rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from slowpoints._core import arguments


def row_index(index: Any, n: int) -> Any:
    """Return what `FixedPoints.__getitem__` was given as what arrays are indexed by.

    Args:
        index: an int, a slice, a mask or an array of ints; of JAX, it may be traced.
        n: the number of rows.

    Returns:
        A slice or an array, so that the row axis stays.

    Raises:
        TypeError: if the index is of another kind.
        IndexError: if it is out of range, or a mask of another length.
    """
    if isinstance(index, tuple) and len(index) == 1:  # as `np.where(mask)` returns it
        (index,) = index
    if isinstance(index, (np.ndarray, jax.Array)) and index.ndim == 0 and index.dtype != bool:
        index = index[None] if isinstance(index, Tracer) else int(index)
    if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
        row = int(index)
        if not -n <= row < n:
            raise IndexError(f"row {row} is out of range for {n} fixed points")
        row %= n
        return slice(row, row + 1)
    if isinstance(index, (slice, jax.Array)):
        return index
    return _host_index(index, n)


def _host_index(given: Any, n: int) -> np.ndarray:
    """Return a mask or row numbers that are known, as an array of NumPy."""
    index = np.asarray(given)
    index = index.astype(np.int64) if index.size == 0 and index.dtype != bool else index
    if index.dtype.kind not in "biu" or (index.dtype != bool and index.ndim != 1):
        raise TypeError(
            f"FixedPoints: the index {arguments.found(given)}; expected an int, a slice, a "
            f"mask ({n},) or an array of ints."
        )
    if index.dtype == bool and index.shape != (n,):
        raise IndexError(f"mask of shape {index.shape}, expected ({n},)")
    if index.dtype != bool and index.size and not (-n <= index.min() and index.max() < n):
        raise IndexError(f"row indices out of range for {n} fixed points: {index}")
    return index


def joined_field(name: str, values: list[Any]) -> Any:
    """Return one field of several objects, joined; `None` if none of them has it."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if len(present) < len(values):
        raise ValueError(f"FixedPoints.concatenate: `{name}` is missing in some objects.")
    if len(shapes := {tuple(value.shape[1:]) for value in present}) > 1:
        raise ValueError(
            f"FixedPoints.concatenate: `{name}` has rows of the shapes {sorted(shapes)}; expected "
            "the same in all objects."
        )
    numpy_backed = all(isinstance(value, np.ndarray) for value in present)
    return (np if numpy_backed else jnp).concatenate(present)
