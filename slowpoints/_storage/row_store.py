"""`RowStore`: all rows of a long search, in an open format that need not fit into memory."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from slowpoints._core.digests import digest_of_arrays
from slowpoints._core.files import open_regular, read_at_most, refuse_links
from slowpoints._core.records import LARGEST_INTEGER, read_json
from slowpoints._points.fixed_points import FixedPoints

_FIELDS = ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq", "n_iters", "valid")
_GROUP = {"zarr_format": 3, "node_type": "group"}

LARGEST_RATIO = 1000
"""In memory, the rows of a chunk may take this many times the bytes of its files and those of the
first chunk, in addition to `SMALL`. Zarr fills up the last chunk and leaves out pieces of zeros,
but initial states hardly compress, so the files of a full chunk are not much smaller than its
rows."""

SMALL = 1 << 26
"""Rows that take up to this many bytes, 64 MiB, are read however small their files are."""

_MOST_PIECES_AHEAD = 10_000  # past the known rows, dropped as a search goes on; Zarr tries each


class RowStore:
    """The Zarr group `rows.zarr` of a search's directory: one array per field, one row per state.

    Rows are written once, from front to back, in pieces that are the group's chunks. Writing the
    same rows again, after an interruption, changes nothing else.

    Zarr runs whatever codecs the metadata name, and some codecs unpickle. So Zarr opens nothing
    before the metadata have been found to be those that are written here, and pieces are read
    without it.

    Args:
        directory: the directory of the search.

    Raises:
        ImportError: if Zarr is not installed.
    """

    def __init__(self, directory: Path):
        try:
            import numcodecs.zstd
            import zarr
            import zarr.codecs
        except ImportError as error:
            raise ImportError(
                "Search: to keep all rows, Zarr is needed; `pip install zarr`, or "
                '`pip install -e ".[zarr]"` in the checkout of slowpoints.'
            ) from error
        self._zarr = zarr
        self._decode = numcodecs.zstd.Zstd().decode
        self._path = directory / "rows.zarr"

    def write(self, first: int, rows: FixedPoints, chunk: int) -> str:
        """Store `rows` from row `first` on, in pieces of `chunk`, and return the digest for `read`.

        If there are fewer rows in all than in a chunk, the only piece is as large as they are.

        Raises:
            ValueError: if what is stored is damaged, or if the rows could not be read back.
        """
        values = {name: np.asarray(getattr(rows, name)) for name in _fields(rows)}
        end = first + rows.n
        piece = chunk if first else min(chunk, rows.n)
        self._check_group(missing_is_fine=True)
        for name, value in values.items():
            there = piece
            if os.path.lexists(self._path / name / "zarr.json"):
                there, n_stored = self._check_array(name, value)
                if there not in (piece, chunk) or first % there:
                    raise self._damaged(f"`{name}` is divided into other pieces")
                if n_stored > end + _MOST_PIECES_AHEAD * there:
                    raise self._damaged(f"`{name}` claims {n_stored} rows, but {end} are known")
            self._size(self._piece_path(name, first // there, value.ndim))  # refuses links
        group = self._zarr.open_group(self._path, mode="a", zarr_format=3)
        for name, value in values.items():
            if name not in group:
                chunks = (piece, *(max(1, size) for size in value.shape[1:]))
                shape = (0, *value.shape[1:])
                codec = self._zarr.codecs.ZstdCodec(level=0, checksum=False)
                group.create_array(
                    name, shape=shape, chunks=chunks, dtype=value.dtype, compressors=codec
                )
            array: Any = group[name]
            array.resize((end, *value.shape[1:]))
            array[first:end] = value
        os.sync()  # Zarr leaves it to the system when its files reach the disk
        digest = digest_of_arrays(*values.values())
        self.read(first, end, digest, like=rows)
        return digest

    def read(self, first: int, end: int, digest: str, like: FixedPoints) -> FixedPoints:
        """Return the rows from `first` to `end`, with the dimensions and settings of `like`.

        Takes at most `SMALL` bytes, and `LARGEST_RATIO` times what is stored.

        Raises:
            ValueError: if they are not what was written.
        """
        self._check_group()
        pieces: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        claimed = stored = 0
        for name in _fields(like):
            value = np.zeros(0, bool) if name == "valid" else np.asarray(getattr(like, name))
            piece, n_stored = self._check_array(name, value)
            if first % piece or not first < end <= min(first + piece, n_stored):
                raise self._damaged(f"`{name}` has no piece of rows {first} to {end}")
            shape = (piece, *value.shape[1:])
            pieces[name] = shape, value.dtype
            claimed += math.prod(shape) * value.dtype.itemsize
            for index in {0, first // piece}:
                stored += self._size(self._piece_path(name, index, value.ndim))
        if claimed > SMALL + LARGEST_RATIO * stored:
            raise self._damaged(
                f"{stored} bytes claim to hold {claimed}. (Where rows are so much alike, make "
                "`chunk` smaller.)"
            )
        values = {
            name: self._read_piece(name, first // shape[0], shape, dtype)[: end - first].copy()
            for name, (shape, dtype) in pieces.items()
        }
        if digest_of_arrays(*values.values()) != digest:
            raise self._damaged(f"rows {first} to {end} are not what was written")
        settings = {name: getattr(like, name) for name in ("tol_unique", "dtype")}
        return FixedPoints(**values, **settings, continuous_time=like.continuous_time)

    def _check_group(self, missing_is_fine: bool = False) -> None:
        path = self._path / "zarr.json"
        metadata = self._metadata(path, missing_is_fine)
        if metadata is not None and _as_text(metadata) != _as_text(_GROUP):
            raise ValueError(f"{str(path)!r} is damaged: it is not what a search writes.")

    def _check_array(self, name: str, value: np.ndarray) -> tuple[int, int]:
        """Check the metadata of an array of such values; return its rows per piece, and in all."""
        path = self._path / name / "zarr.json"
        metadata: Any = self._metadata(path)
        try:
            n_stored = metadata["shape"][0]
            piece = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
            fill_value, codecs = metadata.pop("fill_value"), metadata.pop("codecs")
            if (
                type(n_stored) is type(piece) is int
                and 0 <= n_stored <= LARGEST_INTEGER
                and piece >= 1
                and isinstance(fill_value, (bool, int, float))
                and fill_value == 0
                and _as_text(codecs) in map(_as_text, _codecs(codecs))
                and _as_text(metadata) == _as_text(_array(n_stored, piece, value))
            ):
                return piece, n_stored
        except (KeyError, TypeError, IndexError):
            pass
        raise ValueError(f"{str(path)!r} is damaged: it is not what a search writes.")

    def _metadata(self, path: Path, missing_is_fine: bool = False) -> dict[str, Any] | None:
        refuse_links(path, self._path.parent)
        try:
            metadata = read_json(path)
        except FileNotFoundError as error:
            if missing_is_fine:
                return None
            raise ValueError(f"{str(path)!r} is missing, so the rows are damaged.") from error
        # Versions of Zarr differ in which empty entries they write.
        return {key: value for key, value in metadata.items() if value not in (None, [], {})}

    def _piece_path(self, name: str, index: int, ndim: int) -> Path:
        return self._path.joinpath(name, "c", str(index), *["0"] * (ndim - 1))

    def _size(self, path: Path) -> int:
        """Return the size of a piece; pieces of zeros are not stored."""
        refuse_links(path, self._path.parent)
        try:
            with open_regular(path) as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return 0

    def _read_piece(
        self, name: str, index: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray:
        path = self._piece_path(name, index, len(shape))
        values = np.zeros(shape, dtype.newbyteorder("<"))
        try:
            # What Zstandard cannot compress grows by less than this.
            content = read_at_most(path, values.nbytes + values.nbytes // 128 + 1024)
        except FileNotFoundError:
            return values.astype(dtype, copy=False)
        try:
            # It is refused before it is unpacked if it claims to be larger than `values`.
            self._decode(content, out=values)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}") from error
        if dtype.kind == "b" and values.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"{str(path)!r} is damaged: it holds neither True nor False.")
        return values.astype(dtype, copy=False)

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"{str(self._path)!r} is damaged: {reason}.")


def _fields(rows: FixedPoints) -> tuple[str, ...]:
    """Return which fields of such rows are stored; earlier versions stored no status."""
    return _FIELDS if rows.status is None else (*_FIELDS, "status")


def _array(n_stored: int, piece: int, value: np.ndarray) -> dict[str, Any]:
    """Return the metadata of an array of such values, except for `fill_value` and `codecs`."""
    chunk_shape = [piece, *(max(1, size) for size in value.shape[1:])]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_stored, *value.shape[1:]],
        "data_type": value.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    }


def _codecs(found: Any) -> list[list[dict[str, Any]]]:
    """Return the codecs that Zarr may write: bytes, with or without their order, and Zstandard."""
    level = found[1]["configuration"]["level"]
    if type(level) is not int:
        return []
    zstd = {"name": "zstd", "configuration": {"level": level, "checksum": False}}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    return [[{"name": "bytes"}, zstd], [little, zstd]]


def _as_text(metadata: Any) -> str:
    return json.dumps(metadata, sort_keys=True)  # tells 1 from True and from 1.0
