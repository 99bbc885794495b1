"""Opening files that anybody may have made, and writing files whole or not at all."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter
from pathlib import Path

# Opening a FIFO would wait for its writer. Windows has no such flag, but tells text from binary.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, a device or a FIFO, or cannot be opened.
    """
    try:
        handle = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{os.fspath(path)!r} is not a regular file.")
    return os.fdopen(handle, "rb")


def read_at_most(path: str | os.PathLike[str], largest: int) -> bytes:
    """Return the content of a regular file of up to `largest` bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is larger, or is not a regular file.
    """
    with open_regular(path) as file:
        content = file.read(min(largest, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > largest:
        raise ValueError(f"{os.fspath(path)!r} is damaged: it has more than {largest} bytes.")
    return content


def refuse_links(path: Path, folder: Path) -> None:
    """Check that no symbolic link is on the way from `folder` to `path`, which may not be there.

    Raises:
        ValueError: if there is one.
    """
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), path.relative_to(folder)):
        raise ValueError(f"{str(path)!r} is a symbolic link, or lies behind one.")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BufferedWriter]:
    """Yield a new file, which takes the place of `path` once it is on the disk.

    An older file is either replaced whole or left as it was. No symbolic link is followed.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    # This fails if anything, be it a link, has the name.
    file = open(temporary, "xb")  # noqa: SIM115
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the new name with no content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
