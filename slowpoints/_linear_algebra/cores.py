"""The cores of a CPU: how many of them a search may use, and how its parts run on them in parallel.

XLA divides large matrix products among the cores, but little else, so the loop of a search keeps
only one core busy. Because rows are independent of each other, each core can search some of them.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
from jax.extend.core import Primitive
from jaxtyping import Array

from slowpoints._core.arrays import on_cpu
from slowpoints._network.base import Transition
from slowpoints._network.network import programs_of
from slowpoints._network.program import Program

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def usable_cores(F: Transition, x: Array) -> int:
    """Return the number of cores on which parts of a search may run in parallel.

    Args:
        F: the network, traced.
        x: `[n, n_states]` the states to start from.
    """
    if not on_cpu(x):
        return 1
    with ThreadPoolExecutor(1) as pool:
        if pool.submit(_as_here(_settings)).result() != _settings():
            return 1
    if any(map(_waits, programs_of(F))):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    f: Callable[[_Part], _Result], parts: Sequence[_Part], n_cores: int
) -> list[_Result]:
    """Apply `f` to each part, with one thread per core."""
    if min(len(parts), n_cores) <= 1:
        return [f(part) for part in parts]
    with ThreadPoolExecutor(n_cores) as pool:
        return list(pool.map(_as_here(lambda part: jax.block_until_ready(f(part))), parts))


# ---- what a thread must have in common with its caller -----------------------------------------


def _as_here(f: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return `f` for use in other threads, under the settings that hold in this one.

    A setting of JAX that is made in a `with` statement holds only in the thread that made it. The
    settings that callers often make in this way are handed over.
    """
    names = "enable_x64", "default_device", "default_matmul_precision"
    values = {name: getattr(jax.config, f"jax_{name}") for name in names}

    def there(*args: Any) -> _Result:
        with contextlib.ExitStack() as stack:
            for name, value in values.items():
                stack.enter_context(getattr(jax, name)(value))
            return f(*args)

    return there


def _settings() -> dict[str, Any]:
    """Return all of JAX's settings, as this thread sees them."""
    names = jax.config.values
    return {name: getattr(jax.config, name) for name in names if hasattr(jax.config, name)}


# ---- networks that have to be searched by one thread -------------------------------------------

_WAITING = {p.name for p in vars(jax.lax.linalg).values() if isinstance(p, Primitive)} | {
    "geqrf",
    "geqp3",
    "ffi_call",
}
"""Operations that divide the matrices of a batch among XLA's threads and block one thread until all
are done. If all threads are blocked in this way, they wait for ever."""


def _waits(program: Program) -> bool:
    """Return whether a network may block a thread.

    It may if its program, or a rule for derivatives in it, contains one of these operations or
    calls back to the host. The derivative of any other operation contains none of them.
    """
    return bool(program.names & _WAITING) or any("callback" in name for name in program.names)


# ---- LAPACK ------------------------------------------------------------------------------------

_lock, _n_inside, _limiter = threading.Lock(), 0, contextlib.ExitStack()


@contextlib.contextmanager
def one_thread_for_lapack() -> Iterator[None]:
    """Keep LAPACK from dividing a single factorisation among the cores.

    From about 200 states on, OpenBLAS does that. One thread is a fifth faster there, and more than
    twice as fast if two parts of a search run in parallel. The setting belongs to the whole
    process, and is restored when the last search ends.
    """
    global _n_inside
    with _lock:
        _n_inside += 1
        if _n_inside == 1:
            _limiter.enter_context(_libraries().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                _limiter.close()


@functools.cache
def _libraries() -> Any:
    import scipy.linalg.cython_blas  # noqa: F401  # whose library JAX calls, once it is loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
