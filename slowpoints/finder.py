"""`FixedPointFinder`: the documented class, a thin layer over `find_fixed_points`."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Shaped
from tqdm import tqdm

from slowpoints.fixed_points import FixedPoints
from slowpoints.pipeline import find_fixed_points
from slowpoints.sampling import sample_states
from slowpoints.solvers import AbstractSolver, Adam, LevenbergMarquardt, NewtonKrylov, Report
from slowpoints.transition import as_transition, with_precision
from slowpoints.types import Number, RealArray
from slowpoints.uniqueness import unique

_SOLVERS = ("adam", "levenberg_marquardt", "newton_krylov")


class FixedPointFinder:
    """Finds the fixed points of a recurrent network from the states that it visits.

    Takes the place of the class of the same name that BrainPy's users know: the same arguments,
    in the same places, with the same defaults. What follows the `*` is new.

    Args:
        rnn_model: a `brainpy.DynamicalSystem` with `outputs, h_next = model(inputs, hidden)`, where
            `inputs` is `[n, 1, n_inputs]` and `hidden`, `h_next` are `[n, n_states]`; or anything
            that [`as_transition`][slowpoints.as_transition] takes. It is left as it is.
        method: `'joint'` has one learning rate for all rows, which go on until all have met `tol_q`
            or `tol_dq`; under `'sequential'` each row has its own learning rate and ends by itself.
            This is about the Adam solver; to other solvers the two are the same.
        max_iters: the most iterations of a row.
        tol_q: a row ends when `q = 0.5 * ||x - F(x, u)||^2` falls below this.
        tol_dq: a row ends when `q` changes by less than this (Adam: times the learning rate).
        lr_init: Adam's first learning rate.
        lr_factor: what it is multiplied by on a plateau.
        lr_patience: iterations without a better `q` that make a plateau.
        lr_cooldown: iterations after a reduction in which none are counted.
        do_compute_jacobians: whether to compute `J_xstar` and `dFdu` of the distinct points.
        do_decompose_jacobians: whether to compute their eigenvalues, eigenvectors and stability.
        tol_unique: points at most this far apart, in the joint `(x, u)` space, are one.
        do_exclude_distance_outliers: whether to drop points far from the initial states.
        outlier_distance_scale: how far: this many times the initial states' mean distance from
            their centroid.
        do_rerun_q_outliers: whether to search on from points with an outlying `q`.
        outlier_q_scale: which: those with `q` above this many times the median.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        final_q_threshold: keep points with `q` below this; 0 keeps all.
        dtype: `'float32'` or `'float64'`, whatever the global precision is.
        verbose: whether to print what is done.
        super_verbose: whether to print the state of the search as it goes on: the mean and standard
            deviation of `q` and `dq` over the rows in work. Each solver of the default's phases,
            which the lines name, counts its iterations from 1, and so does each chunk of states.
        n_iters_per_print_update: after how many iterations to print it.
        solver: `None` for the best default, `'adam'` for the documented gradient descent,
            `'levenberg_marquardt'`, `'newton_krylov'`, or a solver with settings of its own.
        random_seed: seeds the draw of the initial states.
        memory_limit: the bytes that a search may take besides its result; by default a quarter of
            the machine's memory.
        mesh: the devices that share a search: `"local"` means all of this process's, except under
            `super_verbose`, where their lines would mix; `None` means one.
        across_processes: whether all processes of a job of `jax.distributed` search together. Each
            draws `n_inits` states of its own, to which `inputs` and `cond_ids` belong, and all end
            with the same distinct points.

    Raises:
        ValueError: if an argument is out of range or none of the choices.
        TypeError: if `rnn_model` or `solver` is of no known kind.
    """

    def __init__(
        self,
        rnn_model: Any,
        method: str = "joint",
        max_iters: int = 5000,
        tol_q: Number = 1e-12,
        tol_dq: Number = 1e-20,
        lr_init: Number = 1.0,
        lr_factor: Number = 0.95,
        lr_patience: int = 5,
        lr_cooldown: int = 0,
        do_compute_jacobians: bool = True,
        do_decompose_jacobians: bool = True,
        tol_unique: Number = 1e-3,
        do_exclude_distance_outliers: bool = True,
        outlier_distance_scale: Number = 10.0,
        do_rerun_q_outliers: bool = False,
        outlier_q_scale: Number = 10.0,
        max_n_unique: Number = np.inf,
        final_q_threshold: Number = 1e-8,
        dtype: str = "float32",
        verbose: bool = True,
        super_verbose: bool = False,
        n_iters_per_print_update: int = 100,
        *,
        solver: AbstractSolver | str | None = None,
        random_seed: int = 0,
        memory_limit: int | None = None,
        mesh: Mesh | Literal["local"] | None = "local",
        across_processes: bool = False,
    ):
        as_transition(rnn_model)  # refuses an unknown model now rather than at the first search
        self.rnn_model = rnn_model
        self.method = _one_of("method", method, ("joint", "sequential"))
        self.max_iters = _at_least("max_iters", max_iters, 1)
        self.tol_q = _at_least("tol_q", tol_q, 0)
        self.tol_dq = _at_least("tol_dq", tol_dq, 0)
        self.lr_init = _at_least("lr_init", lr_init, 0)
        self.lr_factor = _at_least("lr_factor", lr_factor, 0)
        self.lr_patience = _at_least("lr_patience", lr_patience, 0)
        self.lr_cooldown = _at_least("lr_cooldown", lr_cooldown, 0)
        self.do_compute_jacobians = bool(do_compute_jacobians)
        self.do_decompose_jacobians = bool(do_decompose_jacobians)
        self.tol_unique = _at_least("tol_unique", tol_unique, 0)
        self.do_exclude_distance_outliers = bool(do_exclude_distance_outliers)
        self.outlier_distance_scale = _at_least("outlier_distance_scale", outlier_distance_scale, 0)
        self.do_rerun_q_outliers = bool(do_rerun_q_outliers)
        self.outlier_q_scale = _at_least("outlier_q_scale", outlier_q_scale, 0)
        self.max_n_unique = _at_least("max_n_unique", max_n_unique, 0)
        self.final_q_threshold = _at_least("final_q_threshold", final_q_threshold, 0)
        self.dtype = _one_of("dtype", dtype, ("float32", "float64"))
        self.verbose = bool(verbose)
        self.super_verbose = bool(super_verbose)
        self.n_iters_per_print_update = _at_least(
            "n_iters_per_print_update", n_iters_per_print_update, 1
        )
        self.solver = self._as_solver(solver)
        self.random_seed = random_seed
        self.memory_limit = memory_limit
        self.mesh: Mesh | Literal["local"] | None = (
            None if mesh == "local" and self.super_verbose else mesh
        )
        self.across_processes = bool(across_processes)
        self._n_searches = 0

    def _as_solver(self, solver: AbstractSolver | str | None) -> AbstractSolver | None:
        if solver is None or isinstance(solver, AbstractSolver):
            return solver
        if not isinstance(solver, str):
            raise TypeError(
                f"FixedPointFinder: `solver` is {solver!r}; expected None, one of {_SOLVERS}, or "
                "a solver such as slowpoints.LevenbergMarquardt()."
            )
        _one_of("solver", solver, _SOLVERS)
        if solver == "levenberg_marquardt":
            return LevenbergMarquardt()
        if solver == "newton_krylov":
            return NewtonKrylov()
        return Adam(
            joint=self.method == "joint",
            lr_init=self.lr_init,
            lr_factor=self.lr_factor,
            lr_patience=self.lr_patience,
            lr_cooldown=self.lr_cooldown,
        )

    def find_fixed_points(
        self,
        state_traj: Any,
        inputs: Float[RealArray, "_ n_inputs"],
        n_inits: int = 1024,
        noise_scale: Number = 0.0,
        valid_bxt: Bool[RealArray, "trials time"] | None = None,
        cond_ids: Shaped[RealArray, " n_inits"] | None = None,
    ) -> tuple[FixedPoints, FixedPoints]:
        """Search from states drawn from `state_traj`.

        The model's current values are used. Each further search draws other states; a new finder
        with the same seed draws the same ones again.

        Args:
            state_traj: `[trials, time, n_states]` states that the network visits; or states in the
                model's own form, such as a pair `(h, c)` of arrays `[trials, time, n_units]`.
            inputs: `[1, n_inputs]` or `[n_inits, n_inputs]` the constant input of each row.
            n_inits: how many states to draw.
            noise_scale: standard deviation of the Gaussian noise added to them.
            valid_bxt: `[trials, time]` which states may be drawn.
            cond_ids: `[n_inits]` condition numbers, handed through to `cond_id`.

        Returns:
            The distinct fixed points, and all `n_inits` rows in the order of the drawn states. Both
            are backed by NumPy arrays.

        Raises:
            ValueError: if an argument has the wrong shape or range, or a drawn state is NaN, or the
                model does not map states to states.
        """
        if len(getattr(state_traj, "shape", ())) != 3:
            state_traj = as_transition(self.rnn_model).flatten(state_traj)
        state_traj, inputs, cond_ids = self._check_arrays(state_traj, inputs, n_inits, cond_ids)
        self._say(f"\nSearching for fixed points from {n_inits} initial states.")
        started = time.perf_counter()
        progress = _Progress(
            n_inits, self.tol_unique, self.final_q_threshold, self.verbose, self.super_verbose
        )
        every = self.n_iters_per_print_update
        report = Report(_print_update, every) if self.super_verbose else None
        with _precision(self.dtype), progress as bar:
            F = with_precision(as_transition(self.rnn_model), self.dtype)
            key = jax.random.fold_in(jax.random.key(self.random_seed), self._n_searches)
            if self.across_processes:
                key = jax.random.fold_in(key, jax.process_index())
            x_init = sample_states(
                key, jnp.asarray(state_traj, self.dtype), n_inits, noise_scale, valid_bxt
            )
            unique_fps, all_fps = find_fixed_points(
                F,
                x_init,
                jnp.asarray(inputs, self.dtype),
                solver=self.solver,
                max_iters=self.max_iters,
                tol_q=self.tol_q,
                tol_dq=self.tol_dq,
                cond_id=cond_ids if self.across_processes else jnp.arange(n_inits),
                tol_unique=self.tol_unique,
                outlier_distance_scale=self.outlier_distance_scale
                if self.do_exclude_distance_outliers
                else None,
                outlier_q_scale=self.outlier_q_scale if self.do_rerun_q_outliers else None,
                final_q_threshold=self.final_q_threshold,
                max_n_unique=self.max_n_unique,
                compute_jacobians=self.do_compute_jacobians,
                decompose_jacobians=self.do_decompose_jacobians,
                memory_limit=self.memory_limit,
                rows_at_a_time=_rows_for_progress(n_inits, x_init.shape[1])
                if self.verbose
                else None,
                progress=bar.update if self.verbose or self.super_verbose else None,
                report=report,
                mesh=self.mesh,
                across_processes=self.across_processes,
            )
            if report is not None:
                jax.effects_barrier()  # all its lines before the summary
            unique_fps, all_fps = unique_fps.to_numpy(), all_fps.to_numpy()
        self._n_searches += 1
        if not self.across_processes:
            # The search carried row numbers, so that condition numbers may be of any type.
            conditions = (lambda rows: None) if cond_ids is None else (lambda rows: cond_ids[rows])
            unique_fps.cond_id = conditions(unique_fps.cond_id)
            all_fps.cond_id = conditions(all_fps.cond_id)
        self._say_result(unique_fps, all_fps, time.perf_counter() - started)
        return unique_fps, all_fps

    def _check_arrays(
        self, state_traj: Any, inputs: Any, n_inits: Any, cond_ids: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        caller = "FixedPointFinder.find_fixed_points"
        if isinstance(n_inits, bool) or not isinstance(n_inits, (int, np.integer)):
            raise TypeError(f"{caller}: `n_inits` must be an integer, but is {n_inits!r}.")
        state_traj, inputs = np.asarray(state_traj), np.asarray(inputs)
        for name, value in (("state_traj", state_traj), ("inputs", inputs)):
            if value.dtype.kind not in "fiub":
                raise TypeError(f"{caller}: `{name}` has dtype {value.dtype}; expected a real one.")
        if inputs.ndim not in (1, 2):
            raise ValueError(
                f"{caller}: `inputs` has shape {inputs.shape}; expected (1, n_inputs) or "
                f"({n_inits}, n_inputs)."
            )
        if inputs.ndim == 2 and inputs.shape[0] not in (1, n_inits):
            raise ValueError(
                f"{caller}: `inputs` has shape {inputs.shape}; expected (1, n_inputs) or "
                f"({n_inits}, n_inputs), one row for each of the `n_inits` states."
            )
        if not np.isfinite(inputs).all():
            raise ValueError(f"{caller}: `inputs` holds NaN or infinity.")
        if cond_ids is not None:
            cond_ids = np.asarray(cond_ids)
            if cond_ids.shape != (n_inits,):
                raise ValueError(
                    f"{caller}: `cond_ids` has shape {cond_ids.shape}; expected ({n_inits},), one "
                    "for each of the `n_inits` states."
                )
        return state_traj, inputs, cond_ids

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _say_result(self, fps: FixedPoints, all_fps: FixedPoints, seconds: float) -> None:
        if not self.verbose:
            return
        q, its = all_fps.qstar, all_fps.n_iters
        print(
            f"\tSearched in {seconds:.2f} s: iterations median {np.median(its):.0f}, "
            f"most {its.max()}; q median {np.median(q):.2e}, highest {np.max(q):.2e}."
        )
        below = f" with q < {self.final_q_threshold:.1e}" if self.final_q_threshold else ""
        print(f"\tFound {fps.n} distinct fixed points{below}.")
        if fps.is_stable is not None and fps.n > 0:
            n_stable = int(fps.is_stable.sum())
            print(f"\t{n_stable} of them are stable, {fps.n - n_stable} unstable.")


@contextlib.contextmanager
def _precision(dtype: str) -> Iterator[None]:
    """Allow float64 for the time of a search; the caller's global setting comes back."""
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        yield


class _Progress:
    """A progress bar over the rows of a search, with the distinct points so far.

    If `announced`, chunks are told apart in what is printed of their iterations.
    """

    def __init__(
        self, n_rows: int, tol_unique: float, below: float, shown: bool, announced: bool = False
    ):
        self._bar = tqdm(total=n_rows, unit=" states", leave=False, disable=not shown)
        self._tol_unique, self._below = tol_unique, below
        self._announced, self._n_done = announced, 0
        self._distinct: FixedPoints | None = None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, fps: FixedPoints) -> None:
        """Count the rows of a chunk that is done."""
        self._n_done += fps.n
        if self._announced and self._n_done < self._bar.total:
            jax.effects_barrier()  # the lines of this chunk come first
            print(f"\tFrom initial state {self._n_done + 1} on:")
        if self._bar.disable:
            return
        if fps.n == self._bar.total:  # all at once: the summary tells what there is
            self._bar.update(fps.n)
            return
        fps = fps.replace(cond_id=None, tol_unique=self._tol_unique)
        if self._below:
            fps = fps.replace(valid=fps.valid & (fps.qstar < self._below))
        if self._distinct is not None:
            fps = FixedPoints.concatenate([self._distinct, fps])
        n_new = fps.n if self._distinct is None else fps.n - self._distinct.n
        # A fixed size keeps all chunks after the first in one compiled program.
        self._distinct = unique(fps, self._tol_unique, size=_MOST_DISTINCT_SHOWN)
        n_distinct = int(np.sum(np.asarray(self._distinct.valid)))
        more = " or more" if n_distinct == _MOST_DISTINCT_SHOWN else ""
        self._bar.set_postfix_str(f"{n_distinct}{more} distinct", refresh=False)
        self._bar.update(n_new)


_MOST_DISTINCT_SHOWN = 1024


def _rows_for_progress(n_rows: int, n_states: int) -> int:
    """Return a number of rows that takes about a second, and enough to keep all lanes at work."""
    return int(np.clip(4e8 / n_states**2, 512, 16384).item()) if n_rows > 512 else n_rows


def _print_update(iteration: Any, q: Any, dq: Any, lr: Any, phase: str) -> None:
    q, dq = np.asarray(q), np.asarray(dq)
    # A row's first iteration has no `dq` yet, and a broken one and a lane without a row no `q`.
    q, dq = (a[np.isfinite(a)] if np.isfinite(a).any() else np.full(1, np.nan) for a in (q, dq))
    line = (
        f"\t{phase}, Iter: {int(iteration)}, q = {np.mean(q):.2e} +/- {np.std(q):.2e}, "
        f"dq = {np.mean(dq):.2e} +/- {np.std(dq):.2e}"
    )
    print(line if lr is None else f"{line}, lr = {float(lr):.2e}")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"FixedPointFinder: `{name}` is {value!r}; expected one of {choices}.")
    return value


def _at_least(name: str, value: Any, least: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"FixedPointFinder: `{name}` must be a number, but is {value!r}.")
    if not value >= least:
        raise ValueError(f"FixedPointFinder: `{name}` must be at least {least}, but is {value}.")
    return value
