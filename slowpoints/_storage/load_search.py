"""Read what a search has stored, without the model."""

import os

from slowpoints._core import arguments
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._storage.distinct_points import merged
from slowpoints._storage.row_store import RowStore
from slowpoints._storage.search_folder import (
    chunk_paths,
    count_chunks,
    keeps_rows,
    read_chunk,
    read_chunks,
    read_manifest,
)


def load(directory: str | os.PathLike[str]) -> FixedPoints:
    """Read the distinct points: see `Search.load`."""
    directory = arguments.path("Search.load", "directory", directory)
    manifest = read_manifest(directory)
    n_done = count_chunks(directory)
    if n_done == 0:
        raise FileNotFoundError(f"No chunk of {str(directory)!r} is done yet.")
    chunks = read_chunks(directory, n_done, manifest)
    return merged([fps for fps, _ in chunks])


def load_rows(directory: str | os.PathLike[str], chunk: int) -> FixedPoints:
    """Read all rows of one chunk: see `Search.load_rows`."""
    directory = arguments.path("Search.load_rows", "directory", directory)
    chunk = arguments.whole("Search.load_rows", "chunk", chunk)
    manifest = read_manifest(directory)
    if not keeps_rows(manifest):
        raise ValueError(
            f"Search.load_rows: the search in {str(directory)!r} keeps no rows; make it with "
            "`keep_rows=True`."
        )
    n_done = count_chunks(directory)
    if not 0 <= chunk < n_done:
        raise FileNotFoundError(
            f"Search.load_rows: there is no chunk {chunk}; {n_done} chunks of "
            f"{str(directory)!r} are done."
        )
    fps, record = read_chunk(directory, chunk, manifest)
    if "rows_sha256" not in record:
        path = chunk_paths(directory, chunk)[1]
        raise ValueError(f"{str(path)!r} is damaged: it has no `rows_sha256`.")
    first, end = record["first_row"], record["first_row"] + record["n_rows"]
    return RowStore(directory).read(first, end, record["rows_sha256"], like=fps)
