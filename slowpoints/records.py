"""Small JSON files that are there as a whole or not at all, and that show damage."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write `content` beside its place, and rename it when it is on the disk."""
    record = {"content": content, "sha256": digest_of_record(content)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_record(path: Path) -> dict[str, Any]:
    """Return what `write_record` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not what was written.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        content, expected = record["content"], record["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if digest_of_record(content) != expected:
        raise ValueError(f"{str(path)!r} is damaged: its content is not what was written.")
    return content


def digest_of_record(content: Any) -> str:
    """Return the SHA-256 of a record's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
