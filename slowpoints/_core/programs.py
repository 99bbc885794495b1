"""Compiled programs: in memory for as long as the process runs, and on disk for the next one.

Most of what a script waits for is compilation. So what this package compiles is kept in the user's
cache folder, under a digest of the program's text and of all that decides what it is compiled to.
`text_of_call` writes that text, and `program_folder` keeps the programs on disk.
"""

import functools
import hashlib
import os
import platform
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jaxlib.version
import numpy as np
from jax.core import Tracer

from slowpoints._core.arguments.refusals import is_array
from slowpoints._core.compilations import compiling
from slowpoints._core.program_folder import keep_program, kept_program, program_folder
from slowpoints._core.text_of_call import kind_of, setting, text_of_call
from slowpoints._core.version import __version__

_MOST_IN_MEMORY = 64
"""So many programs of one function are held; others are read from the disk, or compiled, again.
Each takes several memory maps, of which a process has some 65,000."""

Runs = Literal["briefly", "as usual", "long"]

_all: "weakref.WeakSet[CompiledOnce]" = weakref.WeakSet()


class CompiledOnce:
    """A function of pytrees that is compiled for each structure and all shapes of its arguments.

    As `equinox.filter_jit`, which takes over inside other programs, on several devices, and where
    JAX is told to look at what programs do. What is no array in the arguments belongs to the
    structure. The result consists of arrays.
    """

    def __init__(self, f: Callable[..., Any], *, runs: Runs = "as usual") -> None:
        """Make a function that is compiled once.

        Args:
            f: the function.
            runs: how long a program of it runs: much longer than it is compiled, as simulations do,
                so that XLA takes its time for it; or for some hundredths of that time, as for a few
                points, so that it is compiled as it stands.
        """
        self._f = f
        self._runs: Runs = runs
        self._inside = eqx.filter_jit(f)
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        functools.update_wrapper(self, f)
        _all.add(self)

    def __call__(self, *args: Any) -> Any:
        """Return `f(*args)`."""
        leaves, structure = jax.tree.flatten(args)
        arrays = [leaf for leaf in leaves if is_array(leaf)]
        if any(map(_is_elsewhere, arrays)) or _is_watched():
            return self._inside(*args)
        rest = tuple(None if is_array(leaf) else (type(leaf), leaf) for leaf in leaves)
        key = structure, rest, tuple(map(kind_of, arrays)), _settings()
        with self._lock:
            made = self._programs.get(key)
            if made is None:
                made = self._programs[key] = _Once()
                if len(self._programs) > _MOST_IN_MEMORY:
                    self._programs.popitem(last=False)
            else:
                self._programs.move_to_end(key)
        try:
            program, out = made(lambda: _made(self._f, args, arrays, self._runs))
        except BaseException:
            with self._lock:
                self._programs.pop(key, None)
            raise
        return jax.tree.unflatten(out, program(*arrays))

    def clear_cache(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


def forget_programs() -> None:
    """Forget all programs in memory, as `jax.clear_caches` does with others."""
    for function in list(_all):
        function.clear_cache()


class _Once:
    """A value that is computed once, however many threads ask for it."""

    def __init__(self) -> None:
        self._lock, self._value = threading.Lock(), None

    def __call__(self, compute: Callable[[], Any]) -> Any:
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._value = compute()
        return self._value


def _is_elsewhere(array: Any) -> bool:
    """Return whether an array belongs to an outer program, or is not on one device."""
    return isinstance(array, Tracer) or (isinstance(array, jax.Array) and len(array.devices()) > 1)


def _is_watched() -> bool:
    """Return whether JAX is to look at what programs do, for which it has to run them itself."""
    names = "disable_jit", "debug_nans", "debug_infs", "check_tracer_leaks"
    return any(getattr(jax.config, f"jax_{name}") for name in names)


def _settings() -> tuple[Any, ...]:
    """Return JAX's settings on which a program depends."""
    names = (
        "enable_x64",
        "default_device",
        "default_matmul_precision",
        "numpy_dtype_promotion",
        "numpy_rank_promotion",
        "default_prng_impl",
        "threefry_partitionable",
        "disable_most_optimizations",
    )
    return tuple(setting(f"jax_{name}") for name in names)


def _made(
    f: Callable[..., Any], args: tuple[Any, ...], arrays: list[Any], runs: Runs
) -> tuple[Any, Any]:
    """Return the program for such arguments, from arrays to a list of arrays, and what these are.

    It does not hold on to the arrays.
    """
    told = []
    leaves, structure = jax.tree.flatten(args)
    rest = [None if is_array(leaf) else [leaf] for leaf in leaves]

    def of_arrays(*arrays: Any) -> list[Any]:
        given = iter(arrays)
        leaves = [leaf[0] if leaf else next(given) for leaf in rest]
        out, out_structure = jax.tree.flatten(f(*jax.tree.unflatten(structure, leaves)))
        told[:] = [out_structure]
        return out

    of_arrays.__name__ = of_arrays.__qualname__ = getattr(f, "__name__", "program")
    device = _device_of(arrays)
    options = _options(device, runs)
    folder = program_folder() if jax.process_count() == 1 else None
    path, lowered, made = None, None, None
    if folder is not None:
        text = text_of_call(f, args)
        if text is None:  # but the program itself can be told from others
            with compiling():
                lowered = jax.jit(of_arrays).lower(*arrays)
            # Which does not show the types of arrays that are not used, but calls depend on them.
            text = f"{lowered.as_text()} {list(map(kind_of, arrays))}"
        if "callback" not in text:  # which is at an address in this process
            path = folder / f"{_digest(text, device, options)}.program"
            made = kept_program(path, len(arrays), device)
    if made is None:
        with compiling():
            lowered = lowered or jax.jit(of_arrays).lower(*arrays)
            made = lowered.compile(compiler_options=options), told[0]
        if path is not None:
            keep_program(path, *made)
    return made


def _device_of(arrays: list[Any]) -> Any:
    for array in arrays:
        if isinstance(array, jax.Array) and array.committed:
            return next(iter(array.devices()))
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return default if isinstance(default, jax.Device) else jax.local_devices(backend=default)[0]


_LEVEL = "xla_backend_optimization_level"


def _options(device: Any, runs: Runs) -> dict[str, Any]:
    if device.platform != "cpu":
        return {}
    options: dict[str, Any] = {}
    # From JAX 0.11 on, there is no such choice.
    if jaxlib.version.__version_info__[:2] < (0, 11) and runs != "long":
        # Compilation takes 30 to 40 % less, and searches run as fast, to a tenth or two. But steps
        # of many states side by side take 2.4 times as long.
        options["xla_cpu_use_fusion_emitters"] = False
    flags = os.environ.get("XLA_FLAGS", "")
    if not (_LEVEL in flags or setting("jax_disable_most_optimizations")):  # the user's choice
        # Less work for LLVM, which takes most of the time: a tenth less at level 1, where programs
        # run as fast, and nearly half less at level 0, where loops may take three times as long.
        options[_LEVEL] = 0 if runs == "briefly" else 1
    return options


# ---- what a program is called on disk ---------------------------------------------------------


def _digest(text: str, device: Any, options: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    by = device.platform, device.device_kind, device.client.platform_version
    for part in (text, repr(options), *_machine(), *by):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


@functools.cache
def _machine() -> tuple[str, ...]:
    """Return what a program is compiled for, and by what."""
    packages = jax, jaxlib.version, eqx, np
    versions = __version__, platform.python_version(), *(p.__version__ for p in packages)
    flags = os.environ.get("XLA_FLAGS", "")
    return *versions, flags, platform.platform(), platform.processor(), _features()


def _features() -> str:
    """Return which instructions the processor has: another one may share the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux, where a user's computers hardly share a folder
        return ""
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))
