"""Arrays from files and from the command line."""

import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

ARRAY_HELP = "FILE.npy, or FILE.npz:NAME for one array of several"


class ArrayFile(click.ParamType):
    """An array in a `.npy` file, or in an `.npz` file with one array or `FILE.npz:NAME`."""

    name = "file"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the array, which has no Python objects."""
        if isinstance(value, np.ndarray):
            return value
        path, name = Path(value), None
        if not path.exists() and ".npz:" in value:
            file, _, name = value.rpartition(":")
            path = Path(file)
        try:
            return _read(path, name)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            self.fail(f"{str(path)!r}: {reason or str(error).rstrip('.')}.", param, ctx)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> Any:
        """Complete the names of files."""
        return click.Path().shell_complete(ctx, param, incomplete)


class Inputs(ArrayFile):
    """Numbers with commas between them, `none` for no inputs, or an array in a file."""

    name = "numbers or file"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return `[1, n_inputs]`, or the array in the file."""
        if isinstance(value, np.ndarray):
            return value
        if value == "none":
            return np.zeros((1, 0))
        try:
            return np.array([[float(number) for number in value.split(",")]])
        except ValueError as error:
            if not Path(value).exists() and ".np" not in value:
                self.fail(
                    f"{value!r} is neither numbers with commas between them, such as 0,0, nor a "
                    "file.",
                    param,
                    ctx,
                )
                raise AssertionError from error
        return super().convert(value, param, ctx)


def _read(path: Path, name: str | None) -> np.ndarray:
    """Return an array of a file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not one of NumPy's, or has several arrays or none of this name.
    """
    with open(path, "rb") as file:
        try:
            content = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError("it is not an array of numbers that NumPy saved") from error
        if isinstance(content, np.ndarray):
            if name is not None:
                raise ValueError("it is a single array, which has no name")
            return content
        with content:
            members = content.zip.namelist()
            if members and not any(member.endswith(".npy") for member in members):
                raise ValueError("it is not an array of numbers that NumPy saved")  # but PyTorch
            return _member(content, name, path.name)


def _member(archive: Any, name: str | None, file: str) -> np.ndarray:
    names = archive.files
    if name is None and len(names) == 1:
        name = names[0]
    if not names:
        raise ValueError("it has no arrays")
    if name not in names:
        asked = f"no array {name!r}, but these" if name else "several arrays"
        raise ValueError(
            f"it has {asked}: {', '.join(names)}; write {file}:{names[0]}, for example"
        )
    try:
        return archive[name]
    except Exception as error:  # zipfile and zlib raise errors of ten types for damaged bytes
        raise ValueError(f"{name!r} is not an array of numbers") from error


def trajectories(states: np.ndarray) -> np.ndarray:
    """Return states `[trials, time, n_states]`; `[time, n_states]` are those of one trial."""
    return states[None] if states.ndim == 2 else states
