"""The files in the directory of a `Search`. What they hold is checked once, as it is read."""

import contextlib
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowpoints._core.records import (
    LARGEST_INTEGER,
    digest_of_file,
    digest_of_record,
    read_record,
    sync_folder,
    write_record,
)
from slowpoints._points.fixed_points import FixedPoints

FORMAT_VERSION = 3
MANIFEST = "search.json"

# The fields that the points of a chunk have, as in the rows they were taken from, and no others.
_FIELDS = ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq", "n_iters", "status")


def chunk_paths(directory: Path, chunk: int) -> tuple[Path, Path]:
    """Return where a chunk's points and its record are."""
    return directory / f"chunk-{chunk:06d}.npz", directory / f"chunk-{chunk:06d}.json"


def count_chunks(directory: Path) -> int:
    """Return how many chunks are done.

    Raises:
        ValueError: if one is missing before the last of them.
    """
    records = sorted(directory.glob("chunk-*.json"))
    for chunk, path in enumerate(sorted(records, key=lambda path: (len(path.name), path.name))):
        expected = chunk_paths(directory, chunk)[1]
        if path != expected:
            raise ValueError(f"{str(expected)!r} is missing, though {path.name!r} is there.")
    return len(records)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a search.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of a later format.
    """
    path = directory / MANIFEST
    manifest = read_record(path)
    version: Any = manifest.get("format")
    if not _is_count(version) or version == 0:
        raise ValueError(f"{str(path)!r} has no format number.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} has format {version}; this version reads up to {FORMAT_VERSION}. "
            "Upgrade slowpoints."
        )
    for name, kinds in (("settings", str), ("digests", str), ("environment", (str, int))):
        part = manifest.get(name)
        if not isinstance(part, dict) or not all(isinstance(v, kinds) for v in part.values()):
            raise ValueError(f"{str(path)!r} is damaged: `{name}` is not what a search writes.")
    return manifest


def begun(directory: Path, manifest: dict[str, Any], *, stacklevel: int) -> dict[str, Any]:
    """Write the manifest of a new search, or compare it with that of the existing search.

    Warns if that was begun in another environment.

    Args:
        directory: that of the search. It is made if there is none.
        manifest: what the search would write.
        stacklevel: that of the warning.

    Returns:
        The manifest that is there, which may be of an earlier format.

    Raises:
        ValueError: if the search that is there is another one, or damaged.
    """
    path = directory / MANIFEST
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if count_chunks(directory):
            raise ValueError(f"Search: {str(path)!r} is missing, though there are chunks.")
        sync_folder(directory.parent)
        write_record(path, manifest)
    there = read_manifest(directory)
    begun_with = {"keep_rows": "False"} | there["settings"]  # format 1 kept none
    if begun_with.get("final_q_threshold") == "0.0":
        begun_with["final_q_threshold"] = "None"  # which means the same
    for name, value in manifest["settings"].items():
        if begun_with.get(name) != value:
            raise ValueError(
                f"Search: `{name}` is {value}, but the search in {str(directory)!r} was begun with "
                f"{begun_with.get(name)}."
            )
    began, now = there["environment"], manifest["environment"]
    changed = {name: (began.get(name), now[name]) for name in now if now[name] != began.get(name)}
    for name, value in manifest["digests"].items():
        if there["digests"].get(name) != value:
            versions = ", or to another version of JAX" if name == "F" and changed else ""
            raise ValueError(
                f"Search: the search in {str(directory)!r} belongs to another `{name}`{versions}."
            )
    if changed:
        differences = "; ".join(f"{k} was {old}, is {new}" for k, (old, new) in changed.items())
        warnings.warn(
            f"The search in {str(directory)!r} continues in another environment, and may round "
            f"differently: {differences}.",
            stacklevel=stacklevel,
        )
    return there


def keeps_rows(manifest: dict[str, Any]) -> bool:
    """Return whether the search stores all rows; format 1 did not."""
    return manifest["settings"].get("keep_rows") == "True"


def has_status(manifest: dict[str, Any]) -> bool:
    """Return whether the search stores how rows ended; formats 1 and 2 did not."""
    return manifest["format"] >= 3


def read_chunk(
    directory: Path, chunk: int, manifest: dict[str, Any]
) -> tuple[FixedPoints, dict[str, Any]]:
    """Return the points and the record of one chunk of the search that has this manifest.

    Raises:
        ValueError: if a file is damaged or missing, or belongs to another search.
    """
    points, path = chunk_paths(directory, chunk)
    record = read_record(path)
    if wrong := _wrong_in(record):
        raise ValueError(f"{str(path)!r} is damaged: `{wrong}` is not what a search writes.")
    if record["search"] != digest_of_record(manifest):
        raise ValueError(f"{str(path)!r} belongs to another search.")
    if not points.exists():
        raise ValueError(f"{str(points)!r} is missing, though {path.name!r} is there.")
    if digest_of_file(points) != record["points_sha256"]:
        raise ValueError(f"{str(points)!r} is damaged: its content is not what was written.")
    fps = FixedPoints.load(points)
    present = {name for name in fps.array_fields if getattr(fps, name) is not None}
    if present != set(_fields(manifest)) or fps.n != record["n_new"]:
        raise ValueError(f"{str(points)!r} does not hold the points of a chunk.")
    if not fps.xstar.shape == fps.F_xstar.shape == fps.x_init.shape:
        raise ValueError(f"{str(points)!r} holds states of several dimensions.")
    return fps, record


def read_chunks(
    directory: Path, n_done: int, manifest: dict[str, Any]
) -> Iterator[tuple[FixedPoints, dict[str, Any]]]:
    """Yield what `read_chunk` returns for each chunk, all of whose points can be joined.

    Raises:
        ValueError: as `read_chunk`, or if points differ in their dimensions, types or settings.
    """
    expected = None
    for chunk in range(n_done):
        fps, record = read_chunk(directory, chunk, manifest)
        stored = [getattr(fps, name) for name in _fields(manifest)]
        layout = [(value.shape[1:], value.dtype) for value in stored]
        layout += [fps.tol_unique, fps.dtype, fps.continuous_time]
        if expected is not None and layout != expected:
            path = chunk_paths(directory, chunk)[0]
            raise ValueError(f"{str(path)!r} holds other points than the chunks before.")
        expected = layout
        yield fps, record


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold a lock, which the system releases however the process ends.

    Raises:
        ValueError: if there is something with the name of the lock that is not a regular file, such
            as a link.
        RuntimeError: if another process holds it.
    """
    import fcntl  # not on every system, and nothing else needs it

    path = directory / "lock"
    # An existing file is not emptied, a link is not followed, and a FIFO is not waited for.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if not path.is_symlink() and not path.is_dir():
            raise
        raise ValueError(f"{str(path)!r} is not a regular file: {error.strerror}.") from error
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{str(path)!r} is not a regular file.")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another process runs the search in {str(directory)!r}.") from error
        yield


def _fields(manifest: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in _FIELDS if name != "status" or has_status(manifest))


def _wrong_in(record: dict[str, Any]) -> str | None:
    """Return the name of an entry that no search would write into a chunk's record, if any."""
    for name in ("search", "points_sha256"):
        if not _is_digest(record.get(name)):
            return name
    if "rows_sha256" in record and not _is_digest(record["rows_sha256"]):
        return "rows_sha256"
    for name in ("first_row", "n_rows", "n_new"):
        if not _is_count(record.get(name)):
            return name
    if not record["n_new"] <= record["n_rows"]:
        return "n_new"
    return None if isinstance(record.get("random_state"), dict) else "random_state"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_INTEGER


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
