"""The cores of a CPU: how many a search may use, and parts of it that run side by side on them.

XLA shares large products out over the cores, and little else: the loop of a search keeps one busy.
Rows do not depend on each other, so that parts of them may as well be searched by a thread each.
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
from threadpoolctl import ThreadpoolController

from slowpoints._transition.base import Structure, Transition, abstract_step, transition_of
from slowpoints._transition.digests import equations_of

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def usable_cores(F: Transition, x: Array, n_inputs: int, *, forward_mode: bool) -> int:
    """Return on how many cores parts of a search may run side by side.

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
    """Return whether an array is on one device, and that is a CPU."""
    return len(x.devices()) == 1 and next(iter(x.devices())).platform == "cpu"


def side_by_side(
    f: Callable[[_Part], _Result], parts: Sequence[_Part], n_cores: int
) -> list[_Result]:
    """Return `f` of each part, computed by a thread for each core."""
    if min(len(parts), n_cores) <= 1:
        return [f(part) for part in parts]
    with ThreadPoolExecutor(n_cores) as pool:
        return list(pool.map(_as_here(lambda part: jax.block_until_ready(f(part))), parts))


# ---- what a thread must have in common with its caller -----------------------------------------


def _as_here(f: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return `f` for other threads, with those settings of JAX that callers often make in a `with`.

    They hold in the thread that made them only.
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
    """Return all settings of JAX, as they are in this thread."""
    names = jax.config.values
    return {name: getattr(jax.config, name) for name in names if hasattr(jax.config, name)}


# ---- networks that have to be searched by one thread -------------------------------------------

_WAITING = {p.name for p in vars(jax.lax.linalg).values() if isinstance(p, Primitive)} | {
    "geqrf",
    "geqp3",
    "ffi_call",
}
"""Operations that share the matrices of a batch out over XLA's threads, and keep one waiting until
all are done. If as many wait as there are threads, they do for ever."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def _waits(
    structure: Structure, forward_mode: bool, arrays: list[Any], x: Array, u: Array
) -> Array:
    """Return an array, for its size: one if a network may keep threads waiting, and zero if not.

    They may by such an operation, in the network or its derivatives, or by a callback to the host.
    Each structure is traced once.
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
    """Keep LAPACK from sharing single factorisations out over the cores.

    OpenBLAS does so from some 200 states on: with one thread it is a fifth faster there, and with a
    thread for each of two parts of a search, more than twice. The setting is that of the process,
    and is restored when the last search is done.
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
def _libraries() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  # whose library JAX calls, once it is loaded

    return ThreadpoolController()
