"""`RowStore`: all rows of a long search, in an open format that need not fit into memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from slowpoints.digests import digest_of_arrays
from slowpoints.fixed_points import FixedPoints

_FIELDS = ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq", "n_iters", "valid")


class RowStore:
    """The Zarr group `rows.zarr` of a search's directory: one array a field, one row a state.

    Rows are written once, from front to back, in pieces that are the group's chunks. Writing the
    same rows again, after an interruption, changes nothing else.

    Args:
        directory: that of the search.

    Raises:
        ImportError: if Zarr is not installed.
    """

    def __init__(self, directory: Path):
        try:
            import zarr
        except ImportError as error:
            raise ImportError(
                "Search: to keep all rows, Zarr is needed; `pip install zarr`, or "
                "`pip install slowpoints[zarr]`."
            ) from error
        self._zarr = zarr
        self._path = directory / "rows.zarr"

    def write(self, first: int, rows: FixedPoints, piece: int) -> str:
        """Store `rows` from row `first` on, in pieces of `piece`, and return `read`'s digest."""
        group = self._zarr.open_group(self._path, mode="a", zarr_format=3)
        end = first + rows.n
        values = [np.asarray(getattr(rows, name)) for name in _FIELDS]
        for name, value in zip(_FIELDS, values, strict=True):
            if name not in group:
                chunks = (piece, *(max(1, size) for size in value.shape[1:]))
                shape = (0, *value.shape[1:])
                group.create_array(name, shape=shape, chunks=chunks, dtype=value.dtype)
            array: Any = group[name]
            array.resize((end, *value.shape[1:]))
            array[first:end] = value
        os.sync()  # Zarr leaves it to the system when its files are on the disk
        return digest_of_arrays(*values)

    def read(self, first: int, end: int, digest: str, like: FixedPoints) -> FixedPoints:
        """Return the rows from `first` to `end`, with the settings of `like`.

        Raises:
            ValueError: if they are not what was written.
        """
        try:
            group: Any = self._zarr.open_group(self._path, mode="r")
            values = [np.asarray(group[name][first:end]) for name in _FIELDS]
        except Exception as error:  # of any codec, on damaged bytes
            raise ValueError(f"{str(self._path)!r} is damaged: {error!r}") from error
        if digest_of_arrays(*values) != digest:
            raise ValueError(
                f"{str(self._path)!r} is damaged: rows {first} to {end} are not what was written."
            )
        settings = {name: getattr(like, name) for name in ("tol_unique", "dtype")}
        rows = dict(zip(_FIELDS, values, strict=True))
        return FixedPoints(**rows, **settings, continuous_time=like.continuous_time)
