"""`cache_programs`: the folder of compiled programs, what is read from it and written to it."""

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from slowpoints._core.files import replaced
from slowpoints._core.warn import warn

_VARIABLE = "SLOWPOINTS_CACHE"
"""The environment variable that says where programs are kept, or `off`."""

_OFF = ("", "0", "off", "no", "none", "false")

_MOST_BYTES = 2**29
"""The size of the folder. A program takes 0.1 to 0.5 MB, and a search some 5 of them."""

_MAGIC = b"slowpoints program 1\n"

_chosen: list[Path | None] = []  # what `cache_programs` was last told, if it was


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
        import platformdirs  # only here, as with `SLOWPOINTS_CACHE` it is not needed

        return Path(platformdirs.user_cache_dir("slowpoints", appauthor=False)) / "programs"
    return None if told.lower() in _OFF else Path(told)


def kept_program(path: Path, n_arrays: int, device: Any) -> tuple[Any, Any] | None:
    """Return a program from the disk and what it returns, or `None` if there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + hashlib.sha256().digest_size
    if content[:head] != _MAGIC + hashlib.sha256(content[head:]).digest():
        return None  # it is not whole, and is replaced
    for do in before_reading:
        do()
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
"""What has to be done before programs from the disk can run. Modules that are loaded later add to
it, so all of it is called before each reading, and what is enough once remembers that."""


def keep_program(path: Path, program: Any, out: Any) -> None:
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
    """Delete the programs that were not used for longest, if all of them take too much."""
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
