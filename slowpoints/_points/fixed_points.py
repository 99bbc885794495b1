"""`FixedPoints`: what a search found, one row per point.

Most of this one class is documentation, hence the length of the file.
"""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, ClassVar, get_args, get_origin

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Complex, Float, Int

from slowpoints._core import arguments
from slowpoints._core.arrays import rows_of
from slowpoints._core.types import Number, RealArray
from slowpoints._linear_algebra import linear_dynamics
from slowpoints._linear_algebra.signs import units_of_points
from slowpoints._linear_algebra.spectra import spectra_of, square_jacobians
from slowpoints._linear_algebra.stability import relative_speed
from slowpoints._points.covering import cover, told_of_survivors
from slowpoints._points.points_file import read_points, write_points
from slowpoints._points.pytree import register_as_pytree
from slowpoints._points.rows import joined_field, row_index
from slowpoints._points.status import Status
from slowpoints._points.summary import columns, lines, order


@dataclasses.dataclass(repr=False, eq=False)
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
        J_xstar: `[n, N, N]` the Jacobian `dF/dx`; in continuous time `df/dx`.
        dFdu: `[n, N, M]` the input Jacobian `dF/du`; in continuous time `df/du`.
        eigval_J_xstar: `[n, N]` eigenvalues by falling magnitude; in continuous time by falling
            real part. `[n, k]` if only the `k` leading ones were computed.
        eigvec_J_xstar: `[n, N, N]` the right eigenvectors, in columns, in the same order.
        is_stable: `[n]` whether the largest `|eigenvalue|` is below 1; in continuous time whether
            the largest real part is below 0.
        cond_id: `[n]` the caller's condition numbers.
        valid: `[n]` which rows count; `None` means all of them.
        period: `[n]` the least period of each point: see [`cycles`][slowpoints.cycles].
        cycle_id: `[n]` the number of the cycle that each point lies on.
        status: `[n]` int8, how the search of each row ended, in the numbers of
            [`Status`][slowpoints.Status], and of a point that stands for several rows the most
            certain of theirs; `None` if the points do not come from a search.
        hits: `[n]` int32, how many rows of the search each point stands for, as
            [`unique`][slowpoints.unique] counts them; 0 for a point that was found from a state
            between others; `None` if they were not counted.
        at_kink: `[n]` whether the point is at a kink of the network, as the rest of `relu` units
            without a bias is: the Jacobian jumps there, so that `J_xstar`, eigenvalues and
            `is_stable` are those of one side; `None` if the network has no kinks, or it was not
            looked at.
        tol_unique: rows at most this far apart, in the joint `(xstar, inputs)` space, count as one
            point.
        dtype: the real NumPy type of the stored values.
        continuous_time: whether the points are equilibria of a flow `dx/dt = f(x, u)` rather than
            fixed points of a map: see [`ContinuousTime`][slowpoints.ContinuousTime].
        n_modes: how many eigenvalues each point has, known or not, if `transform` has mapped the
            states to another dimension; 0 for as many as there are states.

    Raises:
        ValueError: if a field has the wrong rank, or the fields differ in their number of rows.
    """

    # Fields that are annotated with their axes are optional arrays; the others are settings shared
    # by all rows.
    xstar: Annotated[Any, "n n_states"] = None
    F_xstar: Annotated[Any, "n n_states"] = None
    x_init: Annotated[Any, "n n_states"] = None
    inputs: Annotated[Any, "n n_inputs"] = None
    qstar: Annotated[Any, " n"] = None
    dq: Annotated[Any, " n"] = None
    n_iters: Annotated[Any, " n"] = None
    J_xstar: Annotated[Any, "n n_states n_states"] = None
    dFdu: Annotated[Any, "n n_states n_inputs"] = None
    eigval_J_xstar: Annotated[Any, "n k"] = None
    eigvec_J_xstar: Annotated[Any, "n n_states k"] = None
    is_stable: Annotated[Any, " n"] = None
    cond_id: Annotated[Any, " n"] = None
    tol_unique: Any = 1e-3
    dtype: Any = np.float32
    valid: Annotated[Any, " n"] = None
    continuous_time: bool = False
    period: Annotated[Any, " n"] = None
    cycle_id: Annotated[Any, " n"] = None
    status: Annotated[Any, " n"] = None
    hits: Annotated[Any, " n"] = None
    at_kink: Annotated[Any, " n"] = None
    n_modes: int = 0

    array_fields: ClassVar[tuple[str, ...]]
    _settings: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Check the fields; see the class for their shapes."""
        rows: dict[str, int] = {}
        for name, axes in _AXES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not hasattr(value, "shape"):
                value = np.asarray(value)
                setattr(self, name, value)
            if len(value.shape) != len(axes):
                raise ValueError(
                    f"FixedPoints: `{name}` has shape {tuple(value.shape)}; expected "
                    f"{len(axes)} axes, of which the first is the rows."
                )
            rows[name] = value.shape[0]
        if len(set(rows.values())) > 1:
            raise ValueError(f"FixedPoints: the fields differ in their number of rows: {rows}.")
        self.tol_unique = float(arguments.number("FixedPoints", "tol_unique", self.tol_unique))
        self.dtype = np.dtype(self.dtype).type
        self.continuous_time = arguments.flag(
            "FixedPoints", "continuous_time", self.continuous_time
        )
        self.n_modes = arguments.whole("FixedPoints", "n_modes", self.n_modes)

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
    def n_all_modes(self) -> int:
        """The number of eigenvalues that each point has, known or not."""
        return self.n_modes or self.n_states

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
        kwargs |= {name: getattr(self, name) for name in self._settings}
        unknown = set(changes) - set(kwargs)
        if unknown:
            raise TypeError(f"FixedPoints.replace: no such field(s): {sorted(unknown)}.")
        return FixedPoints(**(kwargs | changes))

    def _map_rows(self, fn: Any) -> "FixedPoints":
        present = {k: v for k in self.array_fields if (v := getattr(self, k)) is not None}
        return self.replace(**{name: fn(value) for name, value in present.items()})

    def __getitem__(self, index: Any) -> "FixedPoints":
        """Select rows by an int (which keeps the row axis), a slice, a mask or an index array."""
        rows = row_index(index, self.n)
        return self._map_rows(lambda value: rows_of(value, rows))

    def compact(self) -> "FixedPoints":
        """Drop the invalid rows. Not inside `jit`, because the number of rows changes."""
        if self.valid is None:
            return self
        return self[np.asarray(self.valid, dtype=bool)].replace(valid=None)

    def sorted(self) -> "FixedPoints":
        """Return the rows in the order of a table: by condition, stability, index and `q`.

        Stable points come first, then saddles by their number of unstable directions, and among
        points alike that of the lowest `q`. What is not known does not count, and invalid rows
        come last. Not inside `jit`.
        """
        return self[order(self)]

    def to_numpy(self) -> "FixedPoints":
        """Return the same rows, backed by NumPy arrays."""
        return self._map_rows(np.asarray)

    @staticmethod
    def concatenate(fps_seq: Sequence["FixedPoints"]) -> "FixedPoints":
        """Join the rows of several objects that have the same fields.

        Raises:
            TypeError: if the sequence holds something else.
            ValueError: if the sequence is empty, if a field is present in only some of the objects
                or has rows of another shape in some, or if `tol_unique`, `dtype`,
                `continuous_time` or `n_modes` differ.
        """
        fps_seq = list(fps_seq)
        for one in fps_seq:
            if not isinstance(one, FixedPoints):
                raise TypeError(
                    f"FixedPoints.concatenate: one of `fps_seq` {arguments.found(one)}; expected "
                    "FixedPoints."
                )
        if not fps_seq:
            raise ValueError("FixedPoints.concatenate: `fps_seq` is empty.")
        first = fps_seq[0]
        for name in FixedPoints._settings:
            values = {getattr(fps, name) for fps in fps_seq}
            if len(values) > 1:
                raise ValueError(f"FixedPoints.concatenate: `{name}` differs: {values}.")
        if any(fps.valid is not None for fps in fps_seq):
            fps_seq = [
                fps if fps.valid is not None else fps.replace(valid=np.ones(fps.n, bool))
                for fps in fps_seq
            ]
        joined = {
            name: joined_field(name, [getattr(fps, name) for fps in fps_seq])
            for name in FixedPoints.array_fields
        }
        return first.replace(**joined)

    # ---- comparison ----------------------------------------------------------------------------

    def find(self, fp: "FixedPoints") -> Int[np.ndarray, " matches"]:
        """Return the rows that lie within `tol_unique` of the single fixed point `fp`.

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
        if self.n == 0:
            return self
        arguments.fields("FixedPoints.get_unique", self, FixedPoints, "xstar")
        owner, *_ = cover(self.xstar, self.inputs, self.qstar, self.valid, self.tol_unique)
        survives, hits, status = told_of_survivors(owner, self.hits, self.status)
        if isinstance(self.xstar, np.ndarray):
            hits, status = (a if a is None else np.asarray(a) for a in (hits, status))
        counted = self.replace(hits=hits, status=status)
        return counted[np.asarray(survives)].replace(valid=None)

    # ---- linearised dynamics -------------------------------------------------------------------

    def decompose_jacobians(self, verbose: bool = False) -> "FixedPoints":
        """Fill the eigenvalues, eigenvectors and `is_stable` of this object, and return it.

        Does nothing if the Jacobians are missing or have already been decomposed. Rows whose
        Jacobian is not finite get NaN and count as unstable, with a warning.
        """
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
            # Otherwise, JAX would narrow float64 arrays of NumPy.
            wide = np.dtype(self.J_xstar.dtype) == np.float64
            with jax.enable_x64(True) if wide else contextlib.nullcontext():
                speed = relative_speed(self.qstar, self.xstar, self.x_init)
                J = square_jacobians("FixedPoints.decompose_jacobians", self.J_xstar)
                done = spectra_of(J, self.continuous_time, speed)
            numpy_backed = isinstance(self.J_xstar, np.ndarray)
            for name, value in done.items():
                setattr(self, name, np.asarray(value) if numpy_backed else value)
            n_stable = int(np.sum(np.asarray(self.is_stable)))
            message = f"Decomposed {self.n} Jacobians: {n_stable} stable, {self.n - n_stable} not."
        if verbose:
            print(message)
        return self

    def time_constants(self, dt: Number = 1.0) -> Float[RealArray, "n k"]:
        """Return the time in which a deviation along each eigenvector decays by a factor of e.

        Rounding leaves an eigenvalue uncertain by about a hundred units in its last place. Times
        above 1e5 steps in float32, or 1e14 in float64, are therefore just long, of either sign.

        Args:
            dt: how long a step takes (in continuous time, a unit of time of `f`), such as 10 for
                steps of 10 ms.

        Returns:
            `[n, k]` `-dt / log|lambda|`, or in continuous time `-dt / Re(lambda)`, in the unit of
            `dt`; by default in steps, or in the unit of time of `f`. Negative if deviations grow,
            by a factor of e in the time without its sign; infinite if they neither grow nor decay;
            0 for the eigenvalue 0 of a map.

        Raises:
            TypeError: if `dt` is not a number.
            ValueError: if there are no eigenvalues, or `dt` is not above 0.
        """
        dt = float(arguments.positive("FixedPoints.time_constants", "dt", dt))
        eigval = self._eigenvalues("time_constants")
        return dt * linear_dynamics.time_constants(eigval, self.continuous_time)

    def frequencies(self) -> Float[RealArray, "n k"]:
        """Return how fast a deviation along each eigenvector turns.

        Returns:
            `[n, k]` `angle(lambda) / (2 pi)` in cycles per step, from -1/2 to 1/2; or in continuous
            time `Im(lambda) / (2 pi)` in cycles per unit of time of `f`. 0 for a real positive
            eigenvalue. For a map, a real negative eigenvalue gives 1/2: deviations alternate.

        Raises:
            ValueError: if there are no eigenvalues.
        """
        return linear_dynamics.frequencies(self._eigenvalues("frequencies"), self.continuous_time)

    def left_eigenvectors(self) -> Complex[RealArray, "n d d"]:
        """Return the left eigenvectors: what each mode of the dynamics reads from a deviation.

        A deviation `e` excites mode `i` by `W[i] @ e`, and an input `v` excites it by
        `W[i] @ dFdu @ v` in each step, so `W @ dFdu` is the modes' input selectivity (Mante et
        al. 2013).

        Returns:
            `[n, N, N]` the left eigenvectors in rows, in the order of the eigenvalues. They are the
            inverse of the matrix of right eigenvectors, so `W @ eigvec_J_xstar` is the identity and
            `W @ J` is `diag(eigenvalues) @ W`. NaN for a point whose Jacobian is not finite, or is
            defective (its eigenvectors do not span the space) up to rounding: inside `jit` as the
            vectors are, elsewhere with each state in a unit of its own size.

        Raises:
            ValueError: if there are no eigenvectors, or not all of them, as after
                `decompose(fps, k=...)` or after `transform` to another dimension.
        """
        vectors = self.eigvec_J_xstar
        if vectors is None:
            raise ValueError(
                "FixedPoints.left_eigenvectors: `eigvec_J_xstar` is None; call `decompose` first."
            )
        if vectors.shape[1] != vectors.shape[2] or vectors.shape[2] != self.n_all_modes:
            raise ValueError(
                f"FixedPoints.left_eigenvectors: `eigvec_J_xstar` has shape {vectors.shape}; "
                "expected (n, N, N). The inverse needs all eigenvectors in the full space: "
                "`decompose` without `k`, and before `transform`."
            )
        arrays = [leaf for leaf in jax.tree.leaves(self) if isinstance(leaf, jax.Array)]
        known = all(not isinstance(a, Tracer) and a.is_fully_addressable for a in arrays)
        unit = units_of_points(self) if known and self.xstar is not None else None
        return linear_dynamics.left_eigenvectors(vectors, unit)

    def n_unstable(self) -> Int[RealArray, " n"]:
        """Return each point's number of unstable directions, its index.

        Returns:
            `[n]` how many eigenvalues are outside the unit circle, or in continuous time have a
            positive real part. If only the `k` leading ones are known and all of them are unstable,
            there may be more than these `k`. -1 if an eigenvalue is NaN.

        Raises:
            ValueError: if there are no eigenvalues.
        """
        return linear_dynamics.count_unstable(self._eigenvalues("n_unstable"), self.continuous_time)

    def types(self, line_tol: Number = 1e-2) -> list[str]:
        """Name the type of each point, such as `"attractor, node"`. Not inside `jit`.

        - `"attractor"` if all directions are stable, `"repeller"` if all are unstable, and
          otherwise `"saddle of index i"`, with `i` unstable directions. If only leading eigenvalues
          are known and all of them are unstable, it is `"saddle of index i or more"`. `"marginal"`
          if no deviation grows and some do not decay either, as in a rotation. `"unknown"` if an
          eigenvalue is NaN, or if the leading ones do not decide. A slow point where all directions
          are stable is `"slow"` and no attractor, since states pass it.
        - `"spiral"` if the leading eigenvalue is complex; if it is real, `"node"`, except for
          saddles.
        - `"1 line direction"`, or a higher number: how many eigenvalues are within `line_tol` of 1
          (in continuous time, of 0). Along their eigenvectors the network integrates. They count
          neither as stable nor as unstable, and are never the leading eigenvalue. `"(1 growing)"`
          is how many of them make deviations grow, beyond rounding: such a point is not called an
          attractor.
        - `"at a kink"`: all this is true of one side, and may be another on others.

        Args:
            line_tol: how close such eigenvalues are to 1. An eigenvalue at 1 - 0.01 has a time
                constant of 100 steps. In continuous time it is a rate, in the inverse of the unit
                of time of `f`.

        Returns:
            `n` strings.

        Raises:
            ValueError: if there are no eigenvalues, or `line_tol` is negative or NaN.
        """
        line_tol = arguments.number("FixedPoints.types", "line_tol", line_tol)
        values = np.asarray(self._eigenvalues("types"))
        named = [
            linear_dynamics.describe(row, self.n_all_modes, self.continuous_time, float(line_tol))
            for row in values
        ]
        none = np.zeros(len(named), int)
        is_slow = (none if self.status is None else np.asarray(self.status)) == Status.SLOW_POINT
        at_kink = none if self.at_kink is None else np.asarray(self.at_kink)
        of_each = zip(named, is_slow, at_kink, strict=True)
        return [
            (kind.replace("attractor", "slow") if slow else kind) + ", at a kink" * bool(kinked)
            for kind, slow, kinked in of_each
        ]

    def _eigenvalues(self, caller: str) -> Any:
        if self.eigval_J_xstar is None:
            raise ValueError(
                f"FixedPoints.{caller}: `eigval_J_xstar` is None; call `decompose` first."
            )
        return self.eigval_J_xstar

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
            TypeError: if `U` or `offset` does not hold real numbers.
            ValueError: if `U` does not have `n_states` rows, `offset` does not have `k` entries, or
                one of them is not finite.
        """
        caller = "FixedPoints.transform"
        U = np.asarray(arguments.array(caller, "U", U, (self.n_states, "k"), finite=True))
        shapes = ((), (U.shape[1],))
        offset = np.asarray(arguments.array(caller, "offset", offset, *shapes, finite=True))
        n_modes = 0 if U.shape[1] == self.n_all_modes else self.n_all_modes
        changes: dict[str, Any] = {"J_xstar": None, "n_modes": n_modes}
        for name in ("xstar", "F_xstar", "x_init"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value @ U + offset
        for name in ("eigvec_J_xstar", "dFdu"):
            if (value := getattr(self, name)) is not None:
                changes[name] = U.T @ value
        return self.replace(**changes)

    # ---- reports, figures and files ------------------------------------------------------------

    def print_summary(self, max_rows: int = 30, dt: Number | None = None) -> None:
        """Print how many points there are, their `q`, iterations and stability, and a table.

        The table has one line per point, in the order of [`sorted`][slowpoints.FixedPoints.sorted],
        under the number of its row. It gives the point's type, and the size (in continuous
        time the real part), time constant and frequency of its leading eigenvalue; and the time
        constant and frequency of its slowest mode, the one with the eigenvalue nearest the unit
        circle (in continuous time, of real part nearest 0). The two differ in an integrator in
        which something else is unstable. A slow mode integrates if its frequency is 0.

        Args:
            max_rows: the largest number of lines in the table. Invalid rows are counted, but not
                shown.
            dt: how long a step takes (in continuous time, a unit of time of `f`), such as 10 for
                steps of 10 ms. Time constants are then in the unit of `dt`, and frequencies per
                unit of `dt`, instead of steps.

        Raises:
            TypeError: if an argument is not a number.
            ValueError: if `max_rows` is negative, or `dt` is not above 0.
        """
        max_rows = arguments.whole("FixedPoints.print_summary", "max_rows", max_rows)
        if dt is not None:
            dt = float(arguments.positive("FixedPoints.print_summary", "dt", dt))
        for line in lines(self, max_rows, dt):
            print(line)

    def plot(
        self,
        state_traj: Any = None,
        config: Any = None,
        *,
        dimensions: int = 2,
        **options: Any,
    ) -> Any:
        """Draw the points among trajectories: the short way to two functions.

        Args:
            state_traj: `[trials, time, n_states]` the trajectories, or a pair or layers of them;
                `None` draws the points alone.
            config: the looks, a [`PlotConfig`][slowpoints.PlotConfig].
            dimensions: 2 for [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d], 3 for
                [`plot_fixed_points_3d`][slowpoints.plot_fixed_points_3d].
            **options: the further arguments of that function, such as `eigenvectors="unstable"`.

        Returns:
            The figure.

        Raises:
            ValueError: if `dimensions` is neither 2 nor 3, or as that function does.
        """
        k = arguments.whole("FixedPoints.plot", "dimensions", dimensions, least=2, most=3)
        # Figures are made of points, not points of figures: only this method knows them, by name.
        function = getattr(import_module("slowpoints"), f"plot_fixed_points_{k}d")
        return function(self, state_traj, config, **options)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one row per point, invalid ones included.

        The rows are in the order of the points; `fps.sorted().to_pandas()` sorts them.

        The columns, as far as they are known: `condition`, `status` (in words, such as "fixed
        point"), `period`, `cycle_id`, `q`, `n_iters`, `hits`, `valid`, `is_stable`, `type`,
        `index` (the number of unstable directions, as `n_unstable` gives it),
        `leading_eigenvalue` with its `time_constant` and `frequency`, and the same of the slowest
        mode, `slowest_eigenvalue`, `slowest_time_constant` and `slowest_frequency`, which are NaN
        if only leading eigenvalues are known and all of them are unstable.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "FixedPoints.to_pandas: pandas is not installed; `pip install pandas`, or "
                '`pip install -e ".[pandas]"` in the checkout of slowpoints.'
            ) from error
        return pandas.DataFrame(columns(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all fields to `path`, a NumPy `.npz` archive, whatever its suffix.

        The file is first written under another name in the same folder and then renamed, so an
        older file is either replaced as a whole or left as it was. A symbolic link is replaced, not
        followed. Missing folders are created.

        Raises:
            ValueError: if a field or a setting has a type that these files cannot hold, such as
                states that are not real numbers of NumPy.
            TypeError: if `path` is not a path.
        """
        self._save(path)

    def _save(self, path: str | os.PathLike[str], record: str | None = None) -> None:
        file = arguments.path("FixedPoints.save", "path", path)
        fields = {
            k: np.asarray(v) for k in self.array_fields if (v := getattr(self, k)) is not None
        }
        try:
            write_points(file, fields, {k: getattr(self, k) for k in self._settings}, record)
        except ValueError as error:
            raise ValueError(f"FixedPoints.save: {error}.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FixedPoints":
        """Read what [`save`][slowpoints.FixedPoints.save] wrote. Nothing in the file is executed.

        Uses at most 1032 times the size of the file in memory, which is the most that can be
        compressed into it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, was not written by `save`, has a later format, or is
                not a regular file.
            TypeError: if `path` is not a path.
        """
        content = read_points(arguments.path("FixedPoints.load", "path", path))
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} does not hold fixed points: {error}") from error


_AXES = {
    field.name: get_args(field.type)[1].split()
    for field in dataclasses.fields(FixedPoints)
    if get_origin(field.type) is Annotated
}
FixedPoints.array_fields = tuple(_AXES)
FixedPoints._settings = tuple(
    field.name for field in dataclasses.fields(FixedPoints) if field.name not in _AXES
)


def _joint(fps: FixedPoints) -> Float[np.ndarray, "n d"]:
    parts = [np.asarray(fps.xstar)]
    if fps.inputs is not None:
        parts.append(np.asarray(fps.inputs))
    return np.concatenate(parts, axis=1).astype(np.float64)


register_as_pytree(FixedPoints, FixedPoints.array_fields, FixedPoints._settings)
