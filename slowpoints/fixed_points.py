"""`FixedPoints`: what a search found, one row per point."""

import contextlib
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Int, Shaped

from slowpoints.types import Number

_FORMAT_VERSION = 1


class FixedPoints:
    """Fixed points, slow points or candidates for them: one row per point.

    A registered pytree, backed by NumPy or JAX arrays. `n` rows, `N` state dimensions, `M` input
    dimensions. Every array field is optional.

    Attributes:
        xstar: `[n, N]` the points.
        F_xstar: `[n, N]` their images under one step of the network.
        x_init: `[n, N]` the states the search started from.
        inputs: `[n, M]` the constant input of each row.
        qstar: `[n]` the speed `q = 0.5 * ||x - F(x, u)||^2` at `xstar`.
        dq: `[n]` the absolute change of `q` in the row's last update.
        n_iters: `[n]` the iterations the row took.
        J_xstar: `[n, N, N]` the Jacobian `dF/dx`.
        dFdu: `[n, N, M]` the input Jacobian `dF/du`.
        eigval_J_xstar: `[n, N]` eigenvalues by falling magnitude.
        eigvec_J_xstar: `[n, N, N]` the right eigenvectors, in columns, in the same order.
        is_stable: `[n]` whether the largest `|eigenvalue|` is below 1.
        cond_id: `[n]` the caller's condition numbers.
        valid: `[n]` which rows count; `None` means all of them.
        tol_unique: rows at most this far apart, in the joint `(xstar, inputs)` space, are one.
        dtype: the real NumPy type of the stored values.
    """

    array_fields: ClassVar[tuple[str, ...]] = (
        "xstar",
        "F_xstar",
        "x_init",
        "inputs",
        "qstar",
        "dq",
        "n_iters",
        "J_xstar",
        "dFdu",
        "eigval_J_xstar",
        "eigvec_J_xstar",
        "is_stable",
        "cond_id",
        "valid",
    )
    _ndims: ClassVar[dict[str, int]] = {
        "xstar": 2,
        "F_xstar": 2,
        "x_init": 2,
        "inputs": 2,
        "J_xstar": 3,
        "dFdu": 3,
        "eigval_J_xstar": 2,
        "eigvec_J_xstar": 3,
    }

    def __init__(
        self,
        xstar: Shaped[Any, "n n_states"] | None = None,
        F_xstar: Shaped[Any, "n n_states"] | None = None,
        x_init: Shaped[Any, "n n_states"] | None = None,
        inputs: Shaped[Any, "n n_inputs"] | None = None,
        qstar: Shaped[Any, " n"] | None = None,
        dq: Shaped[Any, " n"] | None = None,
        n_iters: Shaped[Any, " n"] | None = None,
        J_xstar: Shaped[Any, "n n_states n_states"] | None = None,
        dFdu: Shaped[Any, "n n_states n_inputs"] | None = None,
        eigval_J_xstar: Shaped[Any, "n k"] | None = None,
        eigvec_J_xstar: Shaped[Any, "n n_states k"] | None = None,
        is_stable: Shaped[Any, " n"] | None = None,
        cond_id: Shaped[Any, " n"] | None = None,
        tol_unique: Number = 1e-3,
        dtype: Any = np.float32,
        valid: Shaped[Any, " n"] | None = None,
    ):
        """Store the fields; see the class for their shapes.

        Raises:
            ValueError: if a field has the wrong rank, or rows differ in number between fields.
        """
        given = locals()
        rows: dict[str, int] = {}
        for name in self.array_fields:
            value = given[name]
            if value is not None and not hasattr(value, "shape"):
                value = np.asarray(value)
            if value is not None:
                ndim = self._ndims.get(name, 1)
                if len(value.shape) != ndim:
                    raise ValueError(
                        f"FixedPoints: `{name}` must have {ndim} dimension(s), "
                        f"but its shape is {tuple(value.shape)}."
                    )
                rows[name] = value.shape[0]
            setattr(self, name, value)
        if len(set(rows.values())) > 1:
            raise ValueError(f"FixedPoints: the fields differ in their number of rows: {rows}.")
        self.tol_unique = float(tol_unique)
        self.dtype = np.dtype(dtype).type

    # Array fields are set in a loop above; these lines tell readers and type checkers of them.
    xstar: Any
    F_xstar: Any
    x_init: Any
    inputs: Any
    qstar: Any
    dq: Any
    n_iters: Any
    J_xstar: Any
    dFdu: Any
    eigval_J_xstar: Any
    eigvec_J_xstar: Any
    is_stable: Any
    cond_id: Any
    valid: Any

    # ---- size ----------------------------------------------------------------------------------

    @property
    def n(self) -> int:
        """The number of rows, invalid ones included."""
        for name in self.array_fields:
            value = getattr(self, name)
            if value is not None:
                return value.shape[0]
        return 0

    @property
    def n_states(self) -> int:
        """The dimension of the states; 0 if none are stored."""
        for value in (self.xstar, self.x_init, self.F_xstar):
            if value is not None:
                return value.shape[1]
        return 0

    @property
    def n_inputs(self) -> int:
        """The dimension of the inputs; 0 if none are stored."""
        return 0 if self.inputs is None else self.inputs.shape[1]

    @property
    def has_decomposed_jacobians(self) -> bool:
        """Whether the eigenvalues are there."""
        return self.eigval_J_xstar is not None

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        filled = [name for name in self.array_fields if getattr(self, name) is not None]
        return (
            f"FixedPoints(n={self.n}, n_states={self.n_states}, n_inputs={self.n_inputs}, "
            f"dtype={self.dtype.__name__}, fields={filled})"
        )

    # ---- rows ----------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> "FixedPoints":
        """Return a copy with some fields replaced. The arrays themselves are not copied."""
        kwargs = {name: getattr(self, name) for name in self.array_fields}
        kwargs |= {"tol_unique": self.tol_unique, "dtype": self.dtype}
        unknown = set(changes) - set(kwargs)
        if unknown:
            raise TypeError(f"FixedPoints.replace: no such field(s): {sorted(unknown)}.")
        return FixedPoints(**(kwargs | changes))

    def _map_rows(self, fn: Any) -> "FixedPoints":
        present = {k: v for k in self.array_fields if (v := getattr(self, k)) is not None}
        return self.replace(**{name: fn(value) for name, value in present.items()})

    def __getitem__(self, index: Any) -> "FixedPoints":
        """Select rows by an int (which keeps the row axis), a slice, a mask or an index array."""
        if isinstance(index, (np.ndarray, jax.Array)) and index.ndim == 0 and index.dtype != bool:
            index = index[None] if isinstance(index, Tracer) else int(index)
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            row = int(index)
            if not -self.n <= row < self.n:
                raise IndexError(f"row {row} is out of range for {self.n} fixed points")
            row %= self.n
            return self[row : row + 1]
        if not isinstance(index, (slice, jax.Array)):
            index = np.asarray(index)
            index = index.astype(np.int64) if index.size == 0 and index.dtype != bool else index
            if index.dtype == bool and index.shape != (self.n,):
                raise IndexError(f"mask of shape {index.shape}, expected ({self.n},)")
            if (
                index.dtype != bool
                and index.size
                and not (-self.n <= index.min() and index.max() < self.n)
            ):
                raise IndexError(f"row indices out of range for {self.n} fixed points: {index}")
        return self._map_rows(lambda value: value[index])

    def compact(self) -> "FixedPoints":
        """Drop the invalid rows. The number of rows changes, so not inside `jit`."""
        if self.valid is None:
            return self
        return self[np.asarray(self.valid, dtype=bool)].replace(valid=None)

    def to_numpy(self) -> "FixedPoints":
        """Return the same rows, backed by NumPy arrays."""
        return self._map_rows(np.asarray)

    @staticmethod
    def concatenate(fps_seq: Sequence["FixedPoints"]) -> "FixedPoints":
        """Join the rows of several objects that have the same fields.

        Raises:
            ValueError: if the sequence is empty, or a field is present in some only, or
                `tol_unique` or `dtype` differ.
        """
        fps_seq = list(fps_seq)
        if not fps_seq:
            raise ValueError("FixedPoints.concatenate: `fps_seq` is empty.")
        first = fps_seq[0]
        for name in ("tol_unique", "dtype"):
            values = {getattr(fps, name) for fps in fps_seq}
            if len(values) > 1:
                raise ValueError(f"FixedPoints.concatenate: `{name}` differs: {values}.")
        if any(fps.valid is not None for fps in fps_seq):
            fps_seq = [
                fps if fps.valid is not None else fps.replace(valid=np.ones(fps.n, bool))
                for fps in fps_seq
            ]
        joined = {}
        for name in FixedPoints.array_fields:
            values = [getattr(fps, name) for fps in fps_seq]
            present = [value for value in values if value is not None]
            if present and len(present) < len(values):
                raise ValueError(f"FixedPoints.concatenate: `{name}` is missing in some objects.")
            if present:
                numpy_backed = all(isinstance(value, np.ndarray) for value in present)
                joined[name] = (np if numpy_backed else jnp).concatenate(present)
        return first.replace(**joined)

    # ---- comparison ----------------------------------------------------------------------------

    def find(self, fp: "FixedPoints") -> Int[np.ndarray, " matches"]:
        """Return the rows that are, within `tol_unique`, the one fixed point `fp`.

        Distances are Euclidean in the joint `(xstar, inputs)` space. An object of other dimensions
        matches nothing.

        Raises:
            ValueError: if `fp` does not hold exactly one row.
        """
        if not isinstance(fp, FixedPoints):
            return np.zeros(0, dtype=np.int64)
        if fp.n != 1:
            raise ValueError(f"FixedPoints.find: `fp` must hold one row, but holds {fp.n}.")
        if (fp.n_states, fp.n_inputs) != (self.n_states, self.n_inputs) or self.n == 0:
            return np.zeros(0, dtype=np.int64)
        match = np.linalg.norm(_joint(self) - _joint(fp), axis=1) <= self.tol_unique
        if self.valid is not None:
            match &= np.asarray(self.valid)
        return np.flatnonzero(match)

    def __contains__(self, fp: Any) -> bool:
        return self.find(fp).size > 0

    def get_unique(self) -> "FixedPoints":
        """Keep one row per fixed point: see [`slowpoints.unique`][]; duplicates are dropped."""
        from slowpoints.uniqueness import unique

        if self.n == 0:
            return self
        kept = unique(self, tol=self.tol_unique)
        return self[np.asarray(kept.valid)].replace(valid=None)

    # ---- linearised dynamics -------------------------------------------------------------------

    def decompose_jacobians(self, verbose: bool = False) -> "FixedPoints":
        """Fill the eigenvalues, eigenvectors and `is_stable` of this object, and return it.

        Does nothing where the Jacobians are missing or were decomposed before. Rows whose Jacobian
        is not finite get NaN and count as unstable, with a warning.
        """
        from slowpoints.spectra import decompose

        if self.J_xstar is None:
            message = "No Jacobians to decompose."
        elif self.has_decomposed_jacobians:
            message = "Jacobians have already been decomposed."
        else:
            broken = ~np.isfinite(np.asarray(self.J_xstar)).all(axis=(1, 2))
            if broken.any():
                warnings.warn(
                    f"{broken.sum()} of {self.n} Jacobians are not finite (first: row "
                    f"{np.flatnonzero(broken)[0]}); their eigenvalues are NaN.",
                    stacklevel=2,
                )
            # JAX would narrow float64 that NumPy holds.
            wide = np.dtype(self.J_xstar.dtype) == np.float64
            with jax.enable_x64(True) if wide else contextlib.nullcontext():
                done = decompose(self)
            numpy_backed = isinstance(self.J_xstar, np.ndarray)
            for name in ("eigval_J_xstar", "eigvec_J_xstar", "is_stable"):
                value = getattr(done, name)
                setattr(self, name, np.asarray(value) if numpy_backed else value)
            n_stable = int(np.sum(np.asarray(self.is_stable)))
            message = f"Decomposed {self.n} Jacobians: {n_stable} stable, {self.n - n_stable} not."
        if verbose:
            print(message)
        return self

    def transform(
        self, U: Float[Any, "n_states k"], offset: Float[Any, "*k"] | float = 0.0
    ) -> "FixedPoints":
        """Map the states to `x @ U + offset`, such as onto principal components or a readout.

        States (`xstar`, `F_xstar`, `x_init`) are mapped as points, eigenvectors and the columns of
        `dFdu` as directions (`U^T v`). Eigenvalues stay; the Jacobian, an operator on the full
        space, is dropped.

        Args:
            U: `[n_states, k]` the projection, one direction per column.
            offset: `[k]` added to the points.

        Raises:
            ValueError: if `U` does not have `n_states` rows.
        """
        U = np.asarray(U)
        if U.ndim != 2 or U.shape[0] != self.n_states:
            raise ValueError(
                f"FixedPoints.transform: `U` has shape {U.shape}, expected ({self.n_states}, k)."
            )
        changes: dict[str, Any] = {"J_xstar": None}
        for name in ("xstar", "F_xstar", "x_init"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value @ U + offset
        for name in ("eigvec_J_xstar", "dFdu"):
            if (value := getattr(self, name)) is not None:
                changes[name] = U.T @ value
        return self.replace(**changes)

    # ---- reports and files ---------------------------------------------------------------------

    def print_summary(self) -> None:
        """Print how many points there are, their `q`, iterations and stability."""
        print("\n=== Fixed Points Summary ===")
        print(f"Number of fixed points: {self.n}")
        print(f"State dimension: {self.n_states}")
        print(f"Input dimension: {self.n_inputs}")
        if self.n == 0:
            return
        if self.qstar is not None:
            q = np.asarray(self.qstar)
            print(f"\nq values: min={q.min():.2e}, median={np.median(q):.2e}, max={q.max():.2e}")
        if self.n_iters is not None:
            its = np.asarray(self.n_iters)
            print(f"Iterations: min={its.min()}, median={np.median(its):.0f}, max={its.max()}")
        if self.is_stable is not None:
            print(f"\nStable fixed points: {np.sum(np.asarray(self.is_stable))} / {self.n}")
        if self.has_decomposed_jacobians:
            index = np.sum(np.abs(np.asarray(self.eigval_J_xstar)) > 1, axis=1)
            for k, count in zip(*np.unique(index, return_counts=True), strict=True):
                print(f"  {count} with {k} unstable direction(s)")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all fields to `path`, a NumPy `.npz` archive, whatever its suffix.

        The file is written beside its place and then renamed, so an older file is either replaced
        whole or left as it was. Missing folders are made.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = {
            k: np.asarray(v) for k in self.array_fields if (v := getattr(self, k)) is not None
        }
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(
                    file,
                    slowpoints_format=np.array(_FORMAT_VERSION),
                    tol_unique=np.array(self.tol_unique),
                    dtype=np.array(np.dtype(self.dtype).name),
                    fields=np.array(list(data)),
                    allow_pickle=False,
                    **data,
                )
                file.flush()
                os.fsync(file.fileno())  # else a power cut can leave the new name with no content
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FixedPoints":
        """Read what [`save`][slowpoints.FixedPoints.save] wrote. Nothing in the file is executed.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, or not one of ours, or of a later format.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                data = dict(archive)
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            raise ValueError(f"{os.fspath(path)!r} is no readable .npz archive: {error}") from error
        if "slowpoints_format" not in data:
            raise ValueError(f"{os.fspath(path)!r} was not written by FixedPoints.save.")
        try:
            version = int(data.pop("slowpoints_format"))
        except TypeError as error:
            raise ValueError(f"{os.fspath(path)!r} has no readable format number.") from error
        if version > _FORMAT_VERSION:
            raise ValueError(
                f"{os.fspath(path)!r} has format {version}; this version reads up to "
                f"{_FORMAT_VERSION}. Upgrade slowpoints."
            )
        try:
            tol_unique, dtype = float(data.pop("tol_unique")), np.dtype(str(data.pop("dtype")))
            # A damaged list of contents hides arrays that the archive still has.
            if sorted(data.pop("fields").tolist()) != sorted(data):
                raise ValueError("some arrays are missing")
            return cls(**data, tol_unique=tol_unique, dtype=dtype)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} does not hold fixed points: {error}") from error


# What NumPy and zipfile raise for damaged bytes, found by damaging every byte.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def _umask() -> int:
    # The only portable way to read the umask is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _joint(fps: FixedPoints) -> Float[np.ndarray, "n d"]:
    parts = [np.asarray(fps.xstar)]
    if fps.inputs is not None:
        parts.append(np.asarray(fps.inputs))
    return np.concatenate(parts, axis=1).astype(np.float64)


def _flatten(fps: FixedPoints) -> tuple[tuple[Any, ...], Any]:
    children = tuple(getattr(fps, name) for name in FixedPoints.array_fields)
    return children, (fps.tol_unique, fps.dtype)


def _flatten_with_keys(fps: FixedPoints) -> tuple[tuple[Any, ...], Any]:
    children, static = _flatten(fps)
    names = FixedPoints.array_fields
    keyed = [(jax.tree_util.GetAttrKey(k), v) for k, v in zip(names, children, strict=True)]
    return tuple(keyed), static


def _unflatten(static: Any, children: Any) -> FixedPoints:
    # Bypasses the checks: transformations put tracers, batches and placeholders into the fields.
    fps = object.__new__(FixedPoints)
    for name, value in zip(FixedPoints.array_fields, children, strict=True):
        setattr(fps, name, value)
    fps.tol_unique, fps.dtype = static
    return fps


jax.tree_util.register_pytree_with_keys(FixedPoints, _flatten_with_keys, _unflatten, _flatten)
