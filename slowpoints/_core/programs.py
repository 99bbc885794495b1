"""Compiled programs: in memory for as long as the process runs, and on disk for the next one.

Most of what a script waits for is compilation. So what this package compiles is kept in the user's
cache folder, under a digest of the program's text and of all that decides what it is compiled to.
"""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import os
import pickle
import platform
import threading
import time
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jaxlib.version
import numpy as np
from jax.core import Tracer
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from slowpoints._core.files import replaced
from slowpoints._core.version import __version__
from slowpoints._core.warn import warn

_VARIABLE = "SLOWPOINTS_CACHE"
"""The environment variable that says where programs are kept, or `off`."""

_OFF = ("", "0", "off", "no", "none", "false")

_MOST_BYTES = 2**29
"""The size of the folder. A program takes 0.1 to 0.5 MB, and a search some 5 of them."""

_MOST_IN_MEMORY = 64
"""So many programs of one function are held; others are read from the disk, or compiled, again.
Each takes several memory maps, of which a process has some 65,000."""

_MAGIC = b"slowpoints program 1\n"

_chosen: list[Path | None] = []  # what `cache_programs` was last told, if it was
_all: "weakref.WeakSet[CompiledOnce]" = weakref.WeakSet()


def cache_programs(folder: str | os.PathLike[str] | None) -> None:
    """Say where compiled programs are kept from now on, or with `None`, that they are not.

    By default, they are in `slowpoints` in the user's cache folder (`~/.cache` on Linux), or where
    the environment variable `SLOWPOINTS_CACHE` says, which may be `off`. They take up to 512 MB;
    then those that were not used for longest make room. Delete the folder to empty it. Where JAX's
    own cache is switched on (`jax_compilation_cache_dir`), programs are kept there instead.

    Args:
        folder: the folder, which need not exist yet. Only what you would run yourself should be in
            it, since the programs are run as they are.

    Raises:
        TypeError: if it is not a path.
    """
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"cache_programs: `folder` is {folder!r}; expected a path, or None for no folder."
        )
    _chosen[:] = [None if folder is None else Path(folder)]


def program_folder() -> Path | None:
    """Return the folder in which compiled programs are kept, or `None` if JAX or nobody does."""
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return None
    if _chosen:
        return _chosen[0]
    told = os.environ.get(_VARIABLE)
    if told is None:
        import platformdirs  # only here, so that importing the package stays quick

        return Path(platformdirs.user_cache_dir("slowpoints", appauthor=False)) / "programs"
    return None if told.lower() in _OFF else Path(told)


class CompiledOnce:
    """A function of pytrees that is compiled for each structure and all shapes of its arguments.

    As `equinox.filter_jit`, which takes over inside other programs, on several devices, and where
    JAX is told to look at what programs do. What is no array in the arguments belongs to the
    structure. The result consists of arrays.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self._f = f
        self._inside = eqx.filter_jit(f)
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        functools.update_wrapper(self, f)
        _all.add(self)

    def __call__(self, *args: Any) -> Any:
        """Return `f(*args)`."""
        leaves, structure = jax.tree.flatten(args)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        if any(map(_is_elsewhere, arrays)) or _is_watched():
            return self._inside(*args)
        rest = tuple(None if _is_array(leaf) else (type(leaf), leaf) for leaf in leaves)
        key = structure, rest, tuple(map(_kind, arrays)), _settings()
        with self._lock:
            made = self._programs.get(key)
            if made is None:
                made = self._programs[key] = _Once()
                if len(self._programs) > _MOST_IN_MEMORY:
                    self._programs.popitem(last=False)
            else:
                self._programs.move_to_end(key)
        try:
            program, out = made(lambda: _made(self._f, args, arrays))
        except BaseException:
            with self._lock:
                self._programs.pop(key, None)
            raise
        return jax.tree.unflatten(out, program(*arrays))

    def clear_cache(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


class Compilations:
    """Notes, for as long as it is entered, when this process begins and ends to compile.

    Attributes:
        seconds: for how long something was compiled, so far.
    """

    def __init__(
        self, begins: Callable[[], None] | None = None, ends: Callable[[float], None] | None = None
    ) -> None:
        self.seconds = 0.0
        self._begins, self._ends = begins, ends
        self._n, self._started = 0, 0.0

    def __enter__(self) -> "Compilations":
        with _watching:
            _watchers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _watching:
            _watchers.remove(self)

    def add(self, one: int) -> None:
        """Count a program that is being compiled (1), or is no longer (-1)."""
        self._n += one
        if one == 1 and self._n == 1:
            self._started = time.perf_counter()
            if self._begins is not None:
                self._begins()
        elif one == -1 and self._n == 0:
            seconds = time.perf_counter() - self._started
            self.seconds += seconds
            if self._ends is not None:
                self._ends(seconds)


_watching = threading.Lock()
_watchers: list[Compilations] = []


@contextlib.contextmanager
def _told_of() -> Iterator[None]:
    """Tell all who watch, from whichever thread, one at a time."""
    with _watching:
        told = list(_watchers)
        for watcher in told:
            watcher.add(1)
    try:
        yield
    finally:
        with _watching:
            for watcher in told:
                watcher.add(-1)


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


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_elsewhere(array: Any) -> bool:
    """Return whether an array belongs to an outer program, or is not on one device."""
    return isinstance(array, Tracer) or (isinstance(array, jax.Array) and len(array.devices()) > 1)


def _is_watched() -> bool:
    """Return whether JAX is to look at what programs do, for which it has to run them itself."""
    names = "disable_jit", "debug_nans", "debug_infs", "check_tracer_leaks"
    return any(getattr(jax.config, f"jax_{name}") for name in names)


def _kind(array: Any) -> Any:
    if not isinstance(array, jax.Array):
        return array.shape, array.dtype
    place = array.sharding if array.committed else None
    return array.aval, place


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
    return tuple(_setting(f"jax_{name}") for name in names)


def _setting(name: str) -> Any:
    """Return a setting of JAX, as this thread sees it if it may differ between threads."""
    return getattr(jax.config, name, jax.config.values.get(name))


def _made(f: Callable[..., Any], args: tuple[Any, ...], arrays: list[Any]) -> tuple[Any, Any]:
    """Return the program for such arguments, from arrays to a list of arrays, and what these are.

    It does not hold on to the arrays.
    """
    told = []
    leaves, structure = jax.tree.flatten(args)
    rest = [None if _is_array(leaf) else [leaf] for leaf in leaves]

    def of_arrays(*arrays: Any) -> list[Any]:
        given = iter(arrays)
        leaves = [leaf[0] if leaf else next(given) for leaf in rest]
        out, out_structure = jax.tree.flatten(f(*jax.tree.unflatten(structure, leaves)))
        told[:] = [out_structure]
        return out

    of_arrays.__name__ = of_arrays.__qualname__ = getattr(f, "__name__", "program")
    device = _device_of(arrays)
    folder = program_folder() if jax.process_count() == 1 else None
    path, lowered, made = None, None, None
    if folder is not None:
        text = text_of_call(f, args)
        if text is None:  # but the program itself can be told from others
            with _told_of():
                lowered = jax.jit(of_arrays).lower(*arrays)
            text = lowered.as_text()
        if "callback" not in text:  # which is at an address in this process
            path = folder / f"{_digest(text, device)}.program"
            made = _read(path, len(arrays), device)
    if made is None:
        with _told_of():
            lowered = lowered or jax.jit(of_arrays).lower(*arrays)
            made = lowered.compile(compiler_options=_options(device)), told[0]
        if path is not None:
            _write(path, *made)
    return made


def _device_of(arrays: list[Any]) -> Any:
    for array in arrays:
        if isinstance(array, jax.Array) and array.committed:
            return next(iter(array.devices()))
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return default if isinstance(default, jax.Device) else jax.local_devices(backend=default)[0]


_LEVEL = "xla_backend_optimization_level"


def _options(device: Any) -> dict[str, Any]:
    if device.platform != "cpu":
        return {}
    options: dict[str, Any] = {}
    if jaxlib.version.__version_info__[:2] < (0, 11):  # from then on, there is no such choice
        # Compilation takes 40 % less, and programs run as fast.
        options["xla_cpu_use_fusion_emitters"] = False
    flags = os.environ.get("XLA_FLAGS", "")
    if not (_LEVEL in flags or _setting("jax_disable_most_optimizations")):  # the user's choice
        # Less work for LLVM, which takes most of the time: 10 % less, and programs run as fast.
        options[_LEVEL] = 1
    return options


# ---- what a program is told from others by -----------------------------------------------------


def text_of_call(f: Callable[..., Any], args: tuple[Any, ...]) -> str | None:
    """Return a text that is the same in every process for calls that run the same program.

    `None` if there is something in the arguments of which this cannot be said, such as a function
    of the user's.
    """
    try:
        return f"{_text_of(f)} {_text_of(args)} {_all_settings()} {_source()}"
    except _Untold:
        return None


class _Untold(Exception):
    pass


_NO_MATTER = "cache", "dump", "log", "traceback", "profiler", "coordination", "distributed"


def _all_settings() -> list[tuple[str, str]]:
    """Return all of JAX's settings, as this thread sees them, but for those of no consequence.

    Which of them matter to what is traced depends on the version of JAX.
    """
    names = (name for name in jax.config.values if not any(word in name for word in _NO_MATTER))
    return sorted((name, repr(_setting(name))) for name in names)


def _text_of(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return repr(_kind(value))
    if isinstance(value, bool | int | float | str | None | np.dtype):
        return repr(value)
    if isinstance(value, enum.Enum):
        return str(value)
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, type | types.FunctionType):
        if "<" in name or not name.startswith(("slowpoints.", "numpy.", "jax.")):
            raise _Untold  # another process may know another function by this name
        return name
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if not kind.startswith(("slowpoints.", "builtins.")) or "<" in kind:
        raise _Untold
    if isinstance(value, tuple | list):
        return f"{kind}({', '.join(map(_text_of, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text_of(k)}: {_text_of(v)}' for k, v in value.items())}}}"
    if hasattr(value, "whole_text"):
        text = value.whole_text()
        if " at 0x" in text:  # a function
            raise _Untold
        return text
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return f"{kind}({', '.join(f'{k}={_text_of(getattr(value, k))}' for k in fields)})"
    raise _Untold


@functools.cache
def _source() -> str:
    """Return a digest of this package, of which there may be several states of one version."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# ---- on disk -----------------------------------------------------------------------------------


def _digest(text: str, device: Any) -> str:
    digest = hashlib.sha256()
    by = device.platform, device.device_kind, device.client.platform_version
    for part in (text, repr(_options(device)), *_machine(), *by):
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


def _read(path: Path, n_arrays: int, device: Any) -> tuple[Any, Any] | None:
    """Return a program from the disk and what it returns, or `None` if there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + hashlib.sha256().digest_size
    if content[:head] != _MAGIC + hashlib.sha256(content[head:]).digest():
        return None  # it is not whole, and is replaced
    _prepare()
    try:
        told, executable = pickle.loads(content[head:])
        out = jax.tree.structure(told)
        trees = jax.tree.structure(((0,) * n_arrays, {})), jax.tree.structure([0] * out.num_leaves)
        program = deserialize_and_load(
            executable, *trees, backend=device.client, execution_devices=[device]
        )
    except Exception as error:  # whatever XLA raises, the program can be compiled
        warn(f"slowpoints: {str(path)!r} cannot be loaded, and is compiled again: {error}")
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was used
    return program, out


before_reading: list[Callable[[], object]] = []
"""What has to be done once before programs from the disk can run."""


@functools.cache
def _prepare() -> None:
    for do in before_reading:
        do()


def _write(path: Path, program: Any, out: Any) -> None:
    """Keep a program, and delete others if there is no room for all."""
    try:
        executable, _, _ = serialize(program)
        content = pickle.dumps((jax.tree.unflatten(out, range(out.num_leaves)), executable))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replaced(path) as file:
            file.write(_MAGIC + hashlib.sha256(content).digest() + content)
        _make_room(path.parent)
    except Exception as error:  # XLA has no form for programs of some devices, or no room
        _tell_once(str(path.parent), f"{type(error).__name__}: {error}")


def _make_room(folder: Path) -> None:
    files = []
    for path in folder.glob("*.program*"):  # and what processes left that were killed meanwhile
        try:
            status = path.stat()
        except FileNotFoundError:  # another process has deleted it
            continue
        files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - _MOST_BYTES
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


@functools.cache
def _tell_once(folder: str, error: str) -> None:
    warn(
        f"slowpoints: compiled programs cannot be kept in {folder!r} ({error}), so the next "
        f"process compiles them again. Set the environment variable {_VARIABLE} to another folder, "
        "or to 'off', or call slowpoints.cache_programs."
    )
