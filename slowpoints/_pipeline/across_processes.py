"""Merging the points that the processes of a job found, each from initial states of its own.

Every process of the job has to call these functions, in the same order, because each call waits for
all the others.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jaxtyping import Float, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.types import RealArray
from slowpoints._pipeline.select import Spread
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.unique import unique


def searches_together(caller: str, across_processes: Any) -> bool:
    """Return whether this process searches with others, as its argument `across_processes` says.

    What is no flag can only mean that they do, and is refused later, with the other processes.
    """
    try:
        return arguments.flag(caller, "across_processes", across_processes)
    except TypeError:
        return True


@contextlib.contextmanager
def refused_together(caller: str, across_processes: bool) -> Iterator[None]:
    """Let an error in the block of one process be an error in all processes.

    At the end of the block the processes tell each other how they got on, so that none goes on to
    wait for one that will never come. The block itself waits for no other process.

    Args:
        caller: the function that the error message names.
        across_processes: whether there are other processes to tell. If not, nothing is done.

    Raises:
        ValueError: if the block of another process raised an error. This one says which, and why.
            A process whose own block raised an error goes on to raise that one.
    """
    if not across_processes:
        yield
        return
    try:
        yield
    except Exception as error:
        _gather_texts(f"{type(error).__name__}: {error}")
        raise
    texts = _gather_texts("")
    refused = [i for i, text in enumerate(texts) if text]
    if refused:
        others = [str(i) for i in refused[1:]]
        also = f"\nSo did {', '.join(others)}, with errors of their own." if others else ""
        raise ValueError(
            f"{caller}: process {refused[0]} refused its input: {texts[refused[0]]}{also}"
        )


def check_agreement(caller: str, **values: str) -> None:
    """Check that all processes were called with the same arguments.

    Args:
        caller: the function that the error message names.
        **values: the arguments that have to agree, as text, by name.

    Raises:
        ValueError: if an argument differs between processes. All of them raise it.
    """
    digests = [hashlib.sha256(value.encode()).digest() for value in values.values()]
    gathered = _gather(np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1))
    for i, name in enumerate(values):
        others = np.flatnonzero((gathered[:, i] != gathered[0, i]).any(axis=1))
        if others.size:
            raise ValueError(
                f"{caller}: `{name}` must be the same in all processes, but differs between "
                f"processes 0 and {others[0]}."
            )


def unique_across_processes(fps: FixedPoints, *, within_conditions: bool = False) -> FixedPoints:
    """Return, in every process, what `unique` would keep of the rows of all processes together.

    Only survivors are sent to the other processes. It can happen that a process drops a row in
    favour of a survivor that is itself dropped in favour of another process's row. Such a row is
    looked at again, so the result is exactly that of `unique`.

    Args:
        fps: the rows of this process. Each field has the same type in all processes, and none holds
            Python objects.
        within_conditions: see `unique`.

    Returns:
        The survivors, without gaps and backed by NumPy. They are the same in all processes.
    """
    choose = partial(unique, within_conditions=within_conditions)
    own = fps.to_numpy().replace(hits=None)
    candidates = gather_rows(choose(own).compact().replace(hits=None))
    while True:
        merged = choose(candidates).compact().replace(hits=None)
        beside = choose(FixedPoints.concatenate([merged, own]))
        missed = gather_rows(own[np.asarray(beside.valid)[merged.n :]].replace(valid=None))
        if missed.n == 0:
            # Every row of this process is now counted at one of the points, and each point itself.
            hits = np.asarray(beside.hits)[: merged.n] - 1
            merged = merged.replace(hits=_gather(hits).sum(axis=0, dtype=np.int32))
            if beside.status is None:
                return merged
            status = np.asarray(beside.status)[: merged.n]
            return merged.replace(status=_gather(status).min(axis=0))
        candidates = FixedPoints.concatenate([candidates, missed])


def spread_across_processes(
    x_init: Float[RealArray, "n n_states"],
) -> Spread:
    """Return where the initial states of all processes are, and how far apart."""
    x = np.asarray(x_init, np.float64)
    # Relative to what all processes know, so that the mean of identical states does not round.
    largest = _gather(x.max(axis=0, initial=-np.inf)).max(axis=0)
    n, *total = _gather(np.array([len(x), *(x - largest).sum(axis=0)])).sum(axis=0)
    n = max(n, 1)
    centroid = largest + np.array(total) / n
    distance = np.linalg.norm(x - centroid, axis=1).sum()
    typical = _gather(np.asarray(distance)).sum() / n
    return Spread(centroid.astype(x_init.dtype), np.asarray(typical, x_init.dtype))


def gather_rows(fps: FixedPoints) -> FixedPoints:
    """Return the rows of all processes, ordered by process."""
    n_rows = _gather(np.array(fps.n))
    names = [name for name in FixedPoints.array_fields if getattr(fps, name) is not None]
    columns = [np.asarray(getattr(fps, name)) for name in names]
    # All fields travel together, as bytes: `[n, width]`.
    widths = [column.dtype.itemsize * math.prod(column.shape[1:]) for column in columns]

    size = power_of_two(int(n_rows.max())) if n_rows.any() else 0
    sent = np.zeros((size, sum(widths)), np.uint8)
    starts = np.cumsum([0, *widths])
    for column, start, width in zip(columns, starts, widths, strict=False):
        part = np.frombuffer(column.tobytes(), np.uint8).reshape(fps.n, width)
        sent[: fps.n, start : start + width] = part
    gathered = _gather(sent)
    received = np.concatenate([part[:n] for part, n in zip(gathered, n_rows, strict=True)])
    rows = {}
    for name, column, start, width in zip(names, columns, starts, widths, strict=False):
        values = np.frombuffer(received[:, start : start + width].tobytes(), column.dtype)
        rows[name] = values.reshape(len(received), *column.shape[1:])
    return fps.replace(**rows)


def _gather_texts(text: str) -> list[str]:
    """Return the texts of all processes."""
    own = np.frombuffer(text.encode(errors="backslashreplace"), np.uint8)

    def gathered() -> list[str]:
        lengths = _gather(np.array(len(own)))
        padded = np.zeros(lengths.max(), np.uint8)
        padded[: len(own)] = own
        return [row[:n].tobytes().decode() for row, n in zip(_gather(padded), lengths, strict=True)]

    # In a thread of its own, which knows nothing of a program that this one may be tracing.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(gathered).result()


def _gather(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "n_processes ..."]:
    """Stack the arrays of all processes, which have the same shape and type."""
    shape = (jax.process_count(), *values.shape)
    if values.size == 0:
        return np.zeros(shape, values.dtype)
    # As bytes, because JAX would narrow 64-bit types and has no strings.
    sent = np.frombuffer(values.tobytes(), np.uint8)
    return np.frombuffer(process_allgather(sent).tobytes(), values.dtype).reshape(shape)
