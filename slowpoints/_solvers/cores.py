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
import jax.numpy as jnp
from jax.extend.core import Primitive
from jaxtyping import Array

from slowpoints._transition.base import Structure, Transition, abstract_step, transition_of
from slowpoints._transition.digests import equations_of
from slowpoints._transition.environment import Environment

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def usable_cores(F: Transition, x: Array, n_inputs: int, *, forward_mode: bool) -> int:
    """Return the number of cores on which parts of a search may run in parallel.

    Args:
        F: the network.
        x: `[n, n_states]` the states to start from.
        n_inputs: the length of an input.
        forward_mode: whether the search takes forward-mode derivatives.
    """
    if not on_cpu(x):
        return 1
    with ThreadPoolExecutor(1) as pool:
        if pool.submit(_as_here(_settings)).result() != _settings():
            return 1
    step = abstract_step(F, x.shape[1], n_inputs, x.dtype)
    if _waits.eval_shape(step[0], forward_mode, *step[1:]).size:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cpu(x: Array) -> bool:
    """Return whether an array lives on a single device, and that device is a CPU."""
    return len(x.devices()) == 1 and next(iter(x.devices())).platform == "cpu"


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
    settings that callers often make in this way are handed over, and so are those of BrainPy and
    BrainState, which hold only in their thread however they are made.
    """
    names = "enable_x64", "default_device", "default_matmul_precision"
    values = {name: getattr(jax.config, f"jax_{name}") for name in names}
    environment = Environment()

    def there(*args: Any) -> _Result:
        with contextlib.ExitStack() as stack:
            stack.enter_context(environment.restored())
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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _waits(
    structure: Structure, forward_mode: bool, arrays: list[Any], x: Array, u: Array
) -> Array:
    """Return an array of size one if the network may block a thread, and of size zero if it cannot.

    It may if the network or its derivative contains one of these operations or calls back to the
    host. Each structure is traced only once.
    """
    F = transition_of(structure, arrays)

    def step_and_derivatives(x: Array, u: Array) -> Any:
        if forward_mode:
            return jax.jvp(lambda x: F(x, u), (x,), (x,))
        out, pull_back = jax.vjp(lambda x: F(x, u), x)
        return out, pull_back(out)

    traced = jax.make_jaxpr(step_and_derivatives)(x, u)
    names = {equation.primitive.name for equation in equations_of(traced)}
    return jnp.zeros(int(bool(names & _WAITING) or any("callback" in name for name in names)))


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
