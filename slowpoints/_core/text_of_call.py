"""`text_of_call`: what tells the program that a call runs from all others, in every process."""

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slowpoints._core.arguments.refusals import is_array


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
    return sorted((name, repr(setting(name))) for name in names)


def _text_of(value: Any) -> str:
    if is_array(value):
        return repr(kind_of(value))
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


def kind_of(array: Any) -> Any:
    """Return what matters of an array to a program: its shape, its type and its place."""
    if not isinstance(array, jax.Array):
        return array.shape, array.dtype
    place = array.sharding if array.committed else None
    return array.aval, place


def setting(name: str) -> Any:
    """Return a setting of JAX, as this thread sees it if it may differ between threads."""
    return getattr(jax.config, name, jax.config.values.get(name))
