"""Rows of arrays: what need not be compiled, or not again, and taking some of them."""

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
    """Return the smallest power of two that is at least `n_rows`.

    These are few sizes, and so few compilations, for rows that cost little.
    """
    return 1 << max(n_rows - 1, 0).bit_length()


_LITTLE = 2**27
"""So many operations take less time than compiling a program for another number of rows, which is
0.1 to 0.5 s for Jacobians and spectra."""


def n_filled_up(n_rows: int, work: int, least: int = 1) -> int:
    """Return a power of two that is at least `n_rows`, or `n_rows` if further rows would cost much.

    Args:
        n_rows: how many rows there are.
        work: the number of operations for each row, roughly.
        least: the smallest number of rows to compute something for.
    """
    size = power_of_two(max(n_rows, least))
    return n_rows if (size - n_rows) * work > _LITTLE else size


def filled_up(work: int, *arrays: Any) -> tuple[Any, ...]:
    """Return rows, and after them some again, so that their number is a power of two.

    Traced rows, and rows on several devices, are returned as they are, and so are rows of which
    further ones would cost much.

    Args:
        work: the number of operations for each row, roughly.
        *arrays: `[n, ...]` what the rows consist of.
    """
    n = arrays[0].shape[0]
    size = n_filled_up(n, work)
    if n in (0, size):
        return arrays
    if any(isinstance(array, Tracer) or len(array.devices()) > 1 for array in arrays):
        return arrays
    return tuple(rows_of(array, np.arange(size) % n) for array in arrays)


def in_chunks(program: Any, F: Any, at_a_time: int, *rows: Any) -> Any:
    """Apply a compiled function of a network and rows to a fixed number of rows at a time.

    So nothing is compiled for another number of rows. If the network or rows are traced, or rows on
    several devices, it is applied to all rows at once.

    Args:
        program: from a network and rows to arrays of as many rows.
        F: the network.
        at_a_time: how many rows it is given.
        *rows: `[n, ...]` what they consist of.
    """
    n = rows[0].shape[0]
    traced = any(isinstance(a, Tracer) for a in jax.tree.leaves((F, rows)))
    if traced or n in (0, at_a_time) or any(len(_devices(a)) > 1 for a in rows):
        return program(F, *rows)
    parts = []
    for start in range(0, n, at_a_time):
        here = np.minimum(np.arange(start, start + at_a_time), n - 1)
        parts.append(program(F, *(rows_of(a, here) for a in rows)))

    def joined(*parts: Any) -> Any:
        whole = np.concatenate([np.asarray(part) for part in parts])
        return beside(whole[:n], parts[0])

    return jax.tree.map(joined, *parts)


def first_rows(value: Any, n: int) -> Any:
    """Return the first `n` rows."""
    return value if value.shape[0] == n else rows_of(value, slice(n))


def is_on_host(value: Any) -> bool:
    """Return whether an array of JAX's can be read on the host without being moved."""
    if not isinstance(value, jax.Array) or isinstance(value, Tracer) or len(value.devices()) > 1:
        return False
    return next(iter(value.devices())).platform == "cpu"


def rows_of(value: Any, index: Any) -> Any:
    """Return `value[index]`, by NumPy on the host: JAX would compile a program for each shape."""
    if isinstance(index, Tracer) or not is_on_host(value):
        return value[index]
    rows = np.asarray(value)[np.asarray(index) if isinstance(index, jax.Array) else index]
    if rows.dtype == jax.dtypes.canonicalize_dtype(rows.dtype):
        return jax.device_put(rows, place_of(value))
    with jax.enable_x64(True):  # or float64 would be narrowed
        return jax.device_put(rows, place_of(value))


def with_library(*arrays: Any) -> tuple[Any, ...]:
    """Return NumPy, and the arrays on the host; or JAX's NumPy, and the arrays as they are.

    The latter if some are traced, or on several devices. JAX compiles every operation that is done
    by itself, for every shape, which takes 20 to 50 ms: as long as NumPy takes for a million rows.
    """
    if any(isinstance(a, Tracer) or len(_devices(a)) > 1 for a in arrays):
        return jnp, *arrays
    return np, *(None if a is None else np.asarray(a) for a in arrays)


def put(value: Any, dtype: Any = None) -> Any:
    """Return a value as a JAX array, for which, unlike for `jnp.asarray`, nothing is compiled.

    It is a copy: JAX may go on using the memory of an array that it is given, which the caller may
    write to.
    """
    if isinstance(value, jax.Array):
        return value if dtype is None else jnp.asarray(value, dtype)
    dtype = None if dtype is None else jax.dtypes.canonicalize_dtype(dtype)
    return jax.device_put(np.array(value, dtype))


def beside(value: Any, like: Any) -> Any:
    """Return rows from the host as an array where other rows, `like`, are."""
    if isinstance(like, Tracer):
        return jnp.asarray(value)
    if isinstance(value, np.ndarray) and isinstance(like, jax.Array):
        return jax.device_put(value, place_of(like))
    return value


def _devices(value: Any) -> Any:
    return value.devices() if isinstance(value, jax.Array) else ()


def on_cpu(x: jax.Array) -> bool:
    """Return whether an array lives on a single device, and that device is a CPU."""
    return len(x.devices()) == 1 and next(iter(x.devices())).platform == "cpu"


def place_of(value: jax.Array) -> Any:
    """Return where to put rows that were on the host: `None` is where JAX puts new arrays."""
    return value.sharding if value.committed else None
