"""Small JSON files that are there as a whole or not at all, and that show damage."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NoReturn

from slowpoints._core.files import open_regular, read_at_most, replaced

LARGEST_INTEGER = 2**63 - 1
"""What NumPy counts rows with."""

LARGEST_JSON = 1 << 20
"""The most bytes that are read of a JSON file. Those of a search have about a thousand."""


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write `content` beside its place, and rename it when it is on the disk."""
    record = {"content": content, "sha256": digest_of_record(content)}
    with replaced(path) as file:
        file.write(json.dumps(record, indent=1).encode())
    sync_folder(path.parent)


def read_record(path: Path) -> dict[str, Any]:
    """Return what `write_record` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not what was written.
    """
    record = read_json(path)
    content = record.get("content")
    if not isinstance(content, dict) or digest_of_record(content) != record.get("sha256"):
        raise ValueError(f"{str(path)!r} is damaged: its content is not what was written.")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds, which has no numbers but finite ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something else, or is larger than `LARGEST_JSON`.
    """
    content = read_at_most(path, LARGEST_JSON)
    try:
        value = json.loads(content.decode(), parse_constant=_refuse)
        json.dumps(value, allow_nan=False)  # so that later nothing is too deep, or infinite
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{str(path)!r} is damaged: it holds no object.")
    return value


def digest_of_record(content: Any) -> str:
    """Return the SHA-256 of a record's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")
