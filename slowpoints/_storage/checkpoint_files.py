"""The files that checkpoints are kept in: BrainPy's msgpack format, read within bounds.

Files are written by BrainPy. They are read here, because BrainPy's reader waits on pipes, lets a
few bytes ask for terabytes, and raises errors of many types when a file is damaged.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from slowpoints._core.files import replaced

__all__ = ["UnusableFileError", "digest_of_tree", "read_tree", "write_tree"]

# BrainPy's msgpack format: what it calls an array, and how it marks arrays it has split, which it
# does above 1 GiB.
ARRAY_TYPE = 1
SPLIT_MARK = "__msgpack_chunked_array__"
# The names of JAX's dtypes. NumPy would also take pointers, strings, and lists it has to parse.
DTYPE_NAMES = re.compile(rb"bool|bfloat16|(u?int|float|complex)[0-9]{1,3}(_[a-z0-9]+)?")
MAX_DIMENSIONS = 64  # NumPy's own limit; also bounds the memory that a list is given in advance
MAX_DEPTH = 8  # no dictionary of ours is deeper than 5; Python gives up at some 1,000


class UnusableFileError(Exception):
    """Why a file cannot be loaded."""


def write_tree(path: str, tree: dict[str, Any]) -> None:
    """Replace the file by one that holds `tree`, nested dictionaries of arrays and strings."""
    import brainpy

    folder = os.path.dirname(path) or os.curdir
    os.makedirs(folder, exist_ok=True)
    # BrainPy falls back to deleting the old file if it cannot rename, hence a folder of our own.
    with tempfile.TemporaryDirectory(prefix=".checkpoint-", dir=folder) as temporary_folder:
        temporary = os.path.join(temporary_folder, "checkpoint")
        brainpy.checkpoints.save_pytree(temporary, tree, verbose=False)
        with open(temporary, "rb") as written, replaced(Path(path)) as file:
            shutil.copyfileobj(written, file)


def read_tree(path: str) -> dict[str, Any]:
    """Return what the file holds: nested dictionaries with string keys, whose leaves may be arrays.

    It takes time and memory in proportion to the file's size, and executes nothing.

    Raises:
        UnusableFileError: there is no such file, or it holds something else.
    """
    import msgpack

    if not os.path.isfile(path):  # a pipe would wait for somebody to write to it
        reason = "it is not a regular file" if os.path.exists(path) else "there is no such file"
        raise UnusableFileError("it is a directory" if os.path.isdir(path) else reason)
    try:
        with open(path, "rb") as file:
            content = file.read(os.fstat(file.fileno()).st_size)
        # BrainPy writes lists as dictionaries. msgpack's own would be given their claimed length.
        tree = msgpack.unpackb(content, ext_hook=_array, max_array_len=0)
        if not isinstance(tree, dict):
            raise ValueError("it does not hold named values")
        return _joined(tree)
    except (OSError, MemoryError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise UnusableFileError(f"cannot read it: {type(error).__name__}: {error}") from error


def digest_of_tree(tree: Any) -> str:
    """Return the SHA-256 of all keys, dtypes, shapes and values, whatever the order of the keys."""
    digest = hashlib.sha256()

    def add(tree: Any) -> None:
        # Each part says its type and length first, so that no two trees give the same bytes.
        if isinstance(tree, dict):
            digest.update(f"dictionary {len(tree)}\n".encode())
            for key in sorted(tree):
                digest.update(f"{key!a}\n".encode())
                add(tree[key])
        elif isinstance(tree, np.ndarray):
            digest.update(f"array {tree.dtype.name} {list(tree.shape)}\n".encode())
            digest.update(np.ascontiguousarray(tree).reshape(-1).view(np.uint8).data)
        else:
            digest.update(f"{type(tree).__name__} {tree!a}\n".encode())

    add(tree)
    return digest.hexdigest()


def _array(code: int, data: bytes) -> np.ndarray:
    """Return an array of the file, which shares memory with what msgpack has read."""
    import msgpack

    if code != ARRAY_TYPE:
        raise ValueError(f"it holds something other than arrays, of type {code}")
    shape, name, content = msgpack.unpackb(data, raw=True, max_array_len=MAX_DIMENSIONS)
    if not isinstance(name, bytes) or not DTYPE_NAMES.fullmatch(name):
        raise ValueError("an array has a dtype that JAX lacks")
    array = np.frombuffer(content, jnp.dtype(name.decode()))
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError("an array holds bytes that are neither True nor False")
    if any(not isinstance(size, int) or size < 0 for size in shape):
        raise ValueError(f"an array has shape {shape}")
    return array.reshape(shape)


def _joined(tree: dict[str, Any], depth: int = 1) -> Any:
    """Return the tree with its split arrays in one piece."""
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if not all(isinstance(key, str) for key in tree):
        raise ValueError("it does not hold named values")
    if SPLIT_MARK not in tree:
        return {
            key: _joined(value, depth + 1) if isinstance(value, dict) else value
            for key, value in tree.items()
        }
    pieces = [tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]
    # Arrays of several dtypes would be joined as one of a larger dtype, maybe 16 times as large.
    dtypes = {piece.dtype if isinstance(piece, np.ndarray) else None for piece in pieces}
    if len(dtypes) != 1 or None in dtypes:
        raise ValueError("the pieces of an array do not fit together")
    return np.concatenate(pieces).reshape(
        [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
    )
