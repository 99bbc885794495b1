"""`Search`: a search of any number of states, in chunks that are stored as they are done."""

import os
import warnings
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from slowpoints._core import arguments
from slowpoints._core.digests import digest_of_arrays, setting_as_text
from slowpoints._core.records import digest_of_file, digest_of_record, sync_folder, write_record
from slowpoints._core.types import Number, RealArray
from slowpoints._core.version import __version__
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.network import digest_of_network
from slowpoints._network.trace import traced
from slowpoints._pipeline.select import check_selection, ending_tolerance, select
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._search.check_search import check_search
from slowpoints._search.optimize_batch import optimize_batch
from slowpoints._search.sample import check_trajectories
from slowpoints._solvers.base import AbstractSolver
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion
from slowpoints._storage.chunks import Chunks
from slowpoints._storage.distinct_points import merged, new_points
from slowpoints._storage.load_search import load, load_rows
from slowpoints._storage.row_store import RowStore
from slowpoints._storage.search_folder import (
    FORMAT_VERSION,
    alone_in,
    begun,
    chunk_paths,
    count_chunks,
    has_status,
    read_chunks,
)


class Search:
    """A search that can be stopped at any instant and continued by another process.

    It goes through its initial states in chunks. Each chunk draws states of its own, with
    `fold_in(key(random_seed), chunk)`, searches from them, and stores what is new. These are the
    rows that survive `unique` together with everything stored before: points that were not known
    yet, and rows with a lower `q` than the known row of their point. So memory and files grow only
    with the number of points, and not with the number of states. With `keep_rows`, all rows are
    stored as well, in files that do grow with the number of states, while memory does not.

    A chunk is stored whole or not at all. Whatever stops the search (`kill -9`, a full disk, a
    power cut) loses the running chunk at most. On the same kind of machine, a search that is
    continued gives the same result, to the bit, as one that was never stopped. `Search` needs a
    POSIX system.

    To continue, make a `Search` with the same arguments. `n_inits` may be larger than before if its
    earlier value is a multiple of `chunk`. The search is refused if the model, the trajectories,
    the inputs or a setting has changed, or if a file is damaged or missing. Other versions and
    other devices are accepted, but they round differently, and a warning says so.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        state_traj: `[trials, time, n_states]` the states that the network visits. Their precision
            is that of the search.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n_inits, n_inputs]` the constant input of each
            initial state.
        directory: where to store the search. It is created if it does not exist.
        n_inits: how many states to search from.
        chunk: how many of them to search from at a time; the last chunk may be smaller.
        random_seed: seeds the draw of the states.
        noise_scale: standard deviation of the noise, see
            [`sample_states`][slowpoints.sample_states].
        valid_bxt: `[trials, time]` which states may be drawn.
        solver: see [`optimize_batch`][slowpoints.optimize_batch], also for the next three
            arguments.
        max_iters: the largest number of iterations of a row.
        tol_q: a `q` that is low enough; rows of most solvers go on below it unless told otherwise.
        tol_dq: a row ends when an iteration changes `q` by less than this (Adam: times the learning
            rate).
        tol_unique: points at most this far apart, in the joint `(x, u)` space, count as one.
        final_q_threshold: store points with `q` below this; `None` or 0 stores all.
        keep_rows: whether to store every row as well (in `find_fixed_points`, these are `all_fps`),
            in the Zarr group `rows.zarr` of the directory: see
            [`load_rows`][slowpoints.Search.load_rows]. Needs Zarr, `pip install zarr`.
        mesh: the devices that share a chunk's rows, as in
            [`find_fixed_points`][slowpoints.find_fixed_points].

    Raises:
        ValueError: if an argument has the wrong shape or range, or if what the directory holds is
            damaged or belongs to another search; the message says which file or which argument.
        TypeError: if `F` or `solver` is not of a known kind.
        ImportError: if `keep_rows` is set and Zarr is not installed.
    """

    def __init__(
        self,
        F: Any,
        state_traj: Float[RealArray, "trials time n_states"],
        inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
        *,
        directory: str | os.PathLike[str],
        n_inits: int,
        chunk: int = 4096,
        random_seed: int = 0,
        noise_scale: Number = 0.1,
        valid_bxt: Bool[RealArray, "trials time"] | None = None,
        solver: AbstractSolver | None = None,
        max_iters: int = 5000,
        tol_q: Number = 1e-12,
        tol_dq: Number = 1e-20,
        tol_unique: Number = 1e-3,
        final_q_threshold: Number | None = 1e-8,
        keep_rows: bool = False,
        mesh: Mesh | Literal["local"] | None = "local",
    ):
        caller = "Search"
        self.F = as_transition(F)
        self.directory = arguments.path(caller, "directory", directory)
        noise_scale = arguments.number(caller, "noise_scale", noise_scale, finite=True)
        self.n_inits = arguments.whole(caller, "n_inits", n_inits, least=1, most=2**63 - 1)
        self.chunk = arguments.whole(caller, "chunk", chunk, least=1)
        max_iters, tol_q, tol_dq, *_ = check_search(caller, solver, max_iters, tol_q, tol_dq)
        tol_unique, final_q_threshold = check_selection(
            caller, tol_unique=tol_unique, final_q_threshold=final_q_threshold
        )
        random_seed = arguments.seed(caller, "random_seed", random_seed)
        keep_rows = arguments.flag(caller, "keep_rows", keep_rows)
        arguments.devices(caller, mesh)
        self.F, state_traj, valid_bxt, inputs = _checked_network(
            caller, self.F, state_traj, valid_bxt, inputs, self.n_inits, solver
        )
        key = jax.random.key(random_seed)
        self._chunks = Chunks(
            self.n_inits, self.chunk, state_traj, valid_bxt, inputs, noise_scale, key
        )
        self._tol_unique, self._final_q_threshold = float(tol_unique), final_q_threshold
        self._settings: dict[str, Any] = {
            "solver": KrylovTrustRegion() if solver is None else solver,
            "max_iters": max_iters,
            "tol_q": ending_tolerance(solver, tol_q, final_q_threshold),
            "tol_dq": tol_dq,
        }
        self._mesh = _local_devices() if mesh == "local" else mesh
        settings = self._settings | {
            "chunk": self.chunk,
            "random_seed": random_seed,
            "noise_scale": noise_scale,
            "tol_unique": tol_unique,
            "final_q_threshold": final_q_threshold or None,
            "keep_rows": keep_rows,
        }
        self._rows = RowStore(self.directory) if keep_rows else None
        self._manifest = begun(self.directory, self._manifest_now(settings), stacklevel=3)
        self._read_chunks()

    # ---- how far it is -------------------------------------------------------------------------

    @property
    def n_chunks(self) -> int:
        """How many chunks there are in all."""
        return self._chunks.n

    @property
    def n_done(self) -> int:
        """How many chunks are stored."""
        return len(self._parts)

    @property
    def finished(self) -> bool:
        """Whether all chunks are stored."""
        return self.n_done == self.n_chunks

    def __repr__(self) -> str:
        return f"Search({str(self.directory)!r}, {self.n_done} of {self.n_chunks} chunks done)"

    # ---- searching -----------------------------------------------------------------------------

    def run(self, max_chunks: int | None = None) -> int:
        """Continue the search after the last stored chunk, and store each chunk when it is done.

        Args:
            max_chunks: stop after this many chunks; by default, when the search is finished.

        Returns:
            How many chunks this call has done.

        Raises:
            ValueError: if a file was damaged in the meantime.
            OSError: if a chunk cannot be stored (a full disk). What was stored before remains
                intact.
            RuntimeError: if another process runs a search in this directory.
        """
        max_chunks = arguments.whole("Search.run", "max_chunks", max_chunks, or_none=True)
        with alone_in(self.directory):
            for left_over in self.directory.glob("*.tmp"):
                if left_over.is_file() or left_over.is_symlink():
                    left_over.unlink()
            self._read_chunks()
            for chunk in range(self.n_done if self._rows is not None else 0):
                Search.load_rows(self.directory, chunk)  # raises an error if it is damaged
            first = self.n_done
            end = self.n_chunks if max_chunks is None else min(first + max_chunks, self.n_chunks)
            for chunk in range(first, end):
                self._store(chunk, self._search(chunk))
        return end - first

    def _search(self, chunk: int) -> FixedPoints:
        """Return all rows of a chunk."""
        starts, inputs = self._chunks.starts(chunk), self._chunks.inputs_of(chunk)
        fps = optimize_batch(self.F, starts, inputs, mesh=self._mesh, **self._settings)
        fps = fps.to_numpy().replace(tol_unique=self._tol_unique)
        # A search that was begun by a version without `status` goes on without it.
        return fps if has_status(self._manifest) else fps.replace(status=None)

    # ---- what was found ------------------------------------------------------------------------

    def result(
        self,
        *,
        outlier_distance_scale: Number | None = 10.0,
        max_n_unique: Number = np.inf,
        compute_jacobians: bool = True,
        decompose_jacobians: bool = True,
    ) -> FixedPoints:
        """Return the distinct points of the chunks that are stored, with Jacobians and spectra.

        They are what [`find_fixed_points`][slowpoints.find_fixed_points] returns for all the states
        at once, with three exceptions. There are no `hits`. Only the first chunk's initial states
        decide which points are far. And if points are closer together than twice `tol_unique`, as
        on a line attractor, other points may represent them: each row that was found is within that
        distance of one that is returned.

        Args:
            outlier_distance_scale: see `find_fixed_points`, also for the other arguments.
            max_n_unique: keep at most this many points, those with the lowest `q`.
            compute_jacobians: whether to fill `J_xstar` and `dFdu`.
            decompose_jacobians: whether to fill the eigenvalues, eigenvectors and `is_stable`.
        """
        caller = "Search.result"
        check_selection(
            caller, outlier_distance_scale=outlier_distance_scale, max_n_unique=max_n_unique
        )
        arguments.flag(caller, "compute_jacobians", compute_jacobians)
        arguments.flag(caller, "decompose_jacobians", decompose_jacobians)
        if self.n_done == 0:
            raise ValueError("Search.result: no chunk is done yet; call `run` first.")
        fps = jax.tree.map(jnp.asarray, merged(self._parts))
        fps = select(
            self.F,
            fps,
            self._chunks.starts(0),
            outlier_distance_scale=outlier_distance_scale,
            final_q_threshold=self._final_q_threshold,
            max_n_unique=max_n_unique,
        )
        if fps.n == 0 and max_n_unique > 0:
            below = self._final_q_threshold or np.inf
            n_searched = self._chunks.rows_of(self.n_done - 1)[1]
            warnings.warn(
                f"{caller}: No point is kept: of the {n_searched} starts searched from so far, "
                f"{sum(part.n for part in self._parts)} distinct ones ended with q < "
                f"{below:.1e}, and these are far from the initial states or lead nowhere.",
                stacklevel=2,
            )
        if compute_jacobians:
            fps = jacobians(self.F, fps)
            fps = decompose(fps) if decompose_jacobians else fps
        return fps

    @staticmethod
    def load(directory: str | os.PathLike[str]) -> FixedPoints:
        """Read the distinct points that are stored so far, without the model.

        Use this to look at a search while it runs, or from another machine. No points are dropped,
        whether for being far or for another reason, and there are no Jacobians. Nothing in the
        files is executed.

        Raises:
            FileNotFoundError: if the directory holds no search, or no chunk is done yet.
            ValueError: if a file is damaged or missing, or of a later format.
        """
        return load(directory)

    @staticmethod
    def load_rows(directory: str | os.PathLike[str], chunk: int) -> FixedPoints:
        """Read all rows of one chunk, in the order of their initial states, without the model.

        A search with `keep_rows` stores its rows in the Zarr group `rows.zarr` in its directory,
        with an array for each field, divided along the rows into the search's chunks. This serves
        results that outgrow memory, and readers in other languages. Nothing in the files is
        executed.

        Args:
            directory: the directory of the search.
            chunk: the number of the chunk, from 0 to `n_done - 1`.

        Raises:
            FileNotFoundError: if the directory holds no search, or the chunk is not done.
            ValueError: if the search does not keep rows, or a file is damaged or missing.
            ImportError: if Zarr is not installed.
        """
        return load_rows(directory, chunk)

    # ---- files ---------------------------------------------------------------------------------

    def _manifest_now(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest of a search that begins now."""
        chunks = self._chunks
        return {
            "format": FORMAT_VERSION,
            "settings": {name: setting_as_text(value) for name, value in settings.items()},
            "digests": {
                "F": digest_of_network(self.F),
                "state_traj": digest_of_arrays(chunks.state_traj, chunks.valid_bxt),
                "inputs": digest_of_arrays(chunks.inputs),
            },
            "environment": self._environment(),
        }

    def _environment(self) -> dict[str, Any]:
        device = jax.local_devices()[0] if self._mesh is None else self._mesh.devices.flat[0]
        return {
            "slowpoints": __version__,
            "jax": jax.__version__,
            "platform": device.platform,
            "device": device.device_kind,
            "n_devices": 1 if self._mesh is None else self._mesh.size,
        }

    def _store(self, chunk: int, rows: FixedPoints) -> None:
        first, end = self._chunks.rows_of(chunk)
        points, path = chunk_paths(self.directory, chunk)
        fps = new_points(self._parts, rows, self._final_q_threshold)
        fps.save(points)
        sync_folder(self.directory)
        record = {
            "search": digest_of_record(self._manifest),
            "first_row": first,
            "n_rows": end - first,
            "random_state": self._chunks.random_state(chunk),
            "n_new": fps.n,
            "points_sha256": digest_of_file(points),
        }
        if self._rows is not None:
            record["rows_sha256"] = self._rows.write(first, rows, self.chunk)
        write_record(path, record)  # as soon as this file is there, the chunk is done
        self._parts.append(fps)

    def _read_chunks(self) -> None:
        """Read the chunks that are stored, and check that they belong to this search."""
        n_done = count_chunks(self.directory)
        if n_done > self.n_chunks:
            raise ValueError(
                f"Search: `n_inits` is {self.n_inits}, which is {self.n_chunks} chunks, but "
                f"{str(self.directory)!r} holds {n_done}."
            )
        self._parts: list[FixedPoints] = []
        for chunk, (fps, record) in enumerate(read_chunks(self.directory, n_done, self._manifest)):
            self._chunks.check(self.directory, chunk, record)
            self._parts.append(fps)


def _checked_network(
    caller: str,
    F: Transition,
    state_traj: Any,
    valid_bxt: Any,
    inputs: Any,
    n_inits: int,
    solver: AbstractSolver | None,
) -> tuple[Transition, Any, Any, Any]:
    """Return the network, traced, with the states, which of them may be drawn, and the inputs."""
    state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt)
    arguments.check_precision(caller, "state_traj", state_traj.dtype)
    dtype = jax.dtypes.canonicalize_dtype(state_traj.dtype)
    inputs = arguments.inputs_of_rows(caller, inputs, n_inits, "of the `n_inits` states", dtype)
    n_states, n_inputs = state_traj.shape[2], inputs.shape[1]
    F = traced(
        caller,
        F,
        n_states,
        n_inputs,
        dtype,
        states="state_traj",
        forward_mode=solver is None or solver.needs_forward_mode,
    )
    return F, jnp.asarray(state_traj), valid_bxt, jnp.asarray(inputs)


def _local_devices() -> Mesh | None:
    """Return all devices of this process, or `None` if there is one only."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("rows",)) if len(devices) > 1 else None
