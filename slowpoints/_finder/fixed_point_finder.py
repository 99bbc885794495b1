"""`FixedPointFinder`: the documented class, a thin layer over `find_fixed_points`.

Most of this file says what its 27 arguments may be, and checks them: hence its length.
"""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Shaped

from slowpoints._completeness.search_until import Rounds, search_until
from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._finder.given import N_INITS, Given, checked, vectors
from slowpoints._finder.interrupt import first_interrupt_asks
from slowpoints._finder.printed import (
    all_stable,
    line_on_noise,
    line_on_rows,
    lines_on_points,
    print_update,
)
from slowpoints._finder.progress import Progress, rows_at_a_time
from slowpoints._finder.settled import lines_on_states
from slowpoints._network.as_transition import as_transition
from slowpoints._network.precision import with_precision
from slowpoints._pipeline.account import Account, account
from slowpoints._pipeline.across_processes import refused_together, searches_together
from slowpoints._pipeline.find_fixed_points import find_fixed_points
from slowpoints._pipeline.select import check_selection
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import counted
from slowpoints._search.optimize_batch import check_search
from slowpoints._search.sample import check_draw, check_trajectories, sample_states
from slowpoints._solvers.adam import Adam
from slowpoints._solvers.base import AbstractSolver
from slowpoints._solvers.bounded_newton import BoundedNewton
from slowpoints._solvers.levenberg_marquardt import LevenbergMarquardt
from slowpoints._solvers.newton_krylov import NewtonKrylov
from slowpoints._solvers.report import Report

_CLASS = "FixedPointFinder"

_ELSEWHERE = {
    "sample_inputs_and_states": " Call the functions slowpoints.sample_inputs_and_states and "
    "slowpoints.find_fixed_points.",
}
"""Where to find what Golub & Sussillo's FixedPointFinder has as methods."""

_SEARCH = f"{_CLASS}.find_fixed_points"

_SOLVERS = ("adam", "bounded_newton", "levenberg_marquardt", "newton_krylov")


class FixedPointFinder:
    """Finds the fixed points of a recurrent network from the states that it visits.

    A drop-in replacement for the class of the same name in canns: it has the same arguments, in the
    same order and with the same defaults. The arguments after the `*` are new.

    Args:
        rnn_model: a `brainpy.DynamicalSystem` with `outputs, h_next = model(inputs, hidden)`, where
            `inputs` is `[n, 1, n_inputs]` and `hidden`, `h_next` are `[n, n_states]`; or anything
            that [`as_transition`][slowpoints.as_transition] takes. It is left as it is.
        method: `'joint'` has one learning rate for all rows, which continue until all have met
            `tol_q` or `tol_dq`; with `'sequential'`, each row has its own learning rate and ends by
            itself. This applies to the Adam solver; for other solvers the two are the same.
        max_iters: the largest number of iterations of a row.
        tol_q: a `q = 0.5 * ||x - F(x, u)||^2` that is low enough. Rows of Adam, and of solvers with
            `polish=False`, end when `q` falls below it; those of other solvers continue to the last
            digits.
        tol_dq: a row ends when an iteration changes `q` by less than this (Adam: times the learning
            rate).
        lr_init: Adam's first learning rate.
        lr_factor: what it is multiplied by on a plateau.
        lr_patience: iterations without a better `q` that make a plateau.
        lr_cooldown: iterations after a reduction in which none are counted.
        do_compute_jacobians: whether to compute `J_xstar` and `dFdu` of the distinct points.
        do_decompose_jacobians: whether to compute their eigenvalues, eigenvectors and stability.
        tol_unique: points at most this far apart, in the joint `(x, u)` space, are one.
        do_exclude_distance_outliers: whether to drop points far from the initial states.
        outlier_distance_scale: how far: this many times the initial states' mean distance from
            their centroid; `None` for any distance.
        do_rerun_q_outliers: whether to search on from points with an outlying `q`.
        outlier_q_scale: which: those with `q` above this many times the median.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        final_q_threshold: keep points with `q` below this; `None` or 0 for any `q`.
        dtype: `'float32'` or `'float64'`, whatever the global precision is.
        verbose: whether to print what is done, and what became of all rows.
        super_verbose: whether to print the state of the search as it goes on: the mean and standard
            deviation of `q` and `dq` over the rows in work. The default solver searches in one
            subspace and then in another; each of them, which the lines name, counts its iterations
            from 1, and so does each chunk of states.
        n_iters_per_print_update: after how many iterations to print it.
        solver: `None` for the default, `'adam'` for the documented gradient descent,
            `'bounded_newton'`, `'levenberg_marquardt'`, `'newton_krylov'`, or a solver with
            settings of its own.
        random_seed: seeds the draw of the initial states.
        memory_limit: the bytes that a search may take besides its result; by default a quarter of
            the machine's memory.
        mesh: the devices that share a search: `"local"` means all of this process's, except under
            `super_verbose`, where their lines would mix; `None` means one.
        across_processes: whether all processes of a job of `jax.distributed` search together. Each
            draws `n_inits` states of its own, to which `inputs` and `cond_ids` belong, and all end
            with the same distinct points; or all with an error, if one of them does.
        coverage: continue the search in rounds, from other kinds of states as well, until at least
            this share of starts would find nothing new, such as 0.99, and until signs
            sum to 1 where they can: see [`search_until`][slowpoints.search_until]. `None` searches
            from the `n_inits` states only. With `coverage`, `n_inits` is the largest number of
            states that are tried.
        keep_unfinished: whether to keep points at which no row came to an end, since iterations or
            progress ran out while `q` was falling. Those whose `q` is no more than rounding, as on
            a line of fixed points, are kept in any case.
        search_between: whether to search from states between the fixed points that the `n_inits`
            states led to as well, for the saddles among them and for whatever else is there: see
            [`find_fixed_points`][slowpoints.find_fixed_points]. It takes Jacobians. With
            `coverage`, this is one of the other kinds of states.

    Attributes:
        rounds: how the last search with `coverage` went, see
            [`search_until`][slowpoints.search_until]; `None` before, and after other searches.
        interrupted: both results of the last search, of the starts that were searched from, if
            Ctrl-C ended it; else `None`.

    Raises:
        ValueError: if an argument is out of range or not one of the choices.
        TypeError: if `rnn_model` or `solver` is not of a known kind.

    With `across_processes`, all processes make the finder, after `jax.distributed.initialize()`.
    The one that refuses its arguments raises one of these errors, and the others a `ValueError`
    that says which process it was, and why.
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
        outlier_distance_scale: Number | None = 10.0,
        do_rerun_q_outliers: bool = False,
        outlier_q_scale: Number = 10.0,
        max_n_unique: Number = np.inf,
        final_q_threshold: Number | None = 1e-8,
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
        coverage: Number | None = None,
        keep_unfinished: bool = True,
        search_between: bool = True,
    ):
        # Before `jax.distributed` is initialised, to ask for other processes would be to start JAX
        # without them.
        joins = jax.distributed.is_initialized() and searches_together(_CLASS, across_processes)
        with refused_together(_CLASS, joins):
            as_transition(rnn_model)  # refuses an unknown model now rather than at the first search
            self.rnn_model = rnn_model
            by_name = isinstance(solver, str)
            self._set_limits(None if by_name else solver, max_iters, tol_q, tol_dq, memory_limit)
            self._set_selection(tol_unique, final_q_threshold, max_n_unique)
            self._set_descent(method, lr_init, lr_factor, lr_patience, lr_cooldown)
            self._set_analyses(do_compute_jacobians, do_decompose_jacobians)
            self._set_exclusion(do_exclude_distance_outliers, outlier_distance_scale)
            self._set_rerun(do_rerun_q_outliers, outlier_q_scale)
            self._set_output(dtype, verbose, super_verbose, n_iters_per_print_update)
            self.solver = self._solver(solver) if isinstance(solver, str) else solver
            self.random_seed = arguments.seed(_CLASS, "random_seed", random_seed)
            self._set_machines(mesh, across_processes)
            self._set_extent(coverage, keep_unfinished, search_between)
        self.rounds: Rounds | None = None
        self.interrupted: tuple[FixedPoints, FixedPoints] | None = None
        self._n_searches = 0
        self._n_draws = 0

    # ---- the arguments of the class, in their order ----------------------------------------------

    def _set_limits(
        self, solver: Any, max_iters: Any, tol_q: Any, tol_dq: Any, memory_limit: Any
    ) -> None:
        numbers = check_search(_CLASS, solver, max_iters, tol_q, tol_dq, memory_limit)
        self.max_iters, self.tol_q, self.tol_dq, self.memory_limit, _ = numbers

    def _set_selection(self, tol_unique: Any, final_q_threshold: Any, max_n_unique: Any) -> None:
        self.tol_unique, self.final_q_threshold, self.max_n_unique = check_selection(
            _CLASS,
            tol_unique=tol_unique,
            final_q_threshold=final_q_threshold,
            max_n_unique=max_n_unique,
        )

    def _set_descent(
        self, method: Any, lr_init: Any, lr_factor: Any, lr_patience: Any, lr_cooldown: Any
    ) -> None:
        self.method = arguments.choice(_CLASS, "method", method, ("joint", "sequential"))
        self.lr_init = arguments.number(_CLASS, "lr_init", lr_init)
        self.lr_factor = arguments.number(_CLASS, "lr_factor", lr_factor)
        self.lr_patience = arguments.whole(_CLASS, "lr_patience", lr_patience, or_infinite=True)
        self.lr_cooldown = arguments.whole(_CLASS, "lr_cooldown", lr_cooldown)

    def _set_analyses(self, do_compute_jacobians: Any, do_decompose_jacobians: Any) -> None:
        flag = partial(arguments.flag, _CLASS)
        self.do_compute_jacobians = flag("do_compute_jacobians", do_compute_jacobians)
        self.do_decompose_jacobians = flag("do_decompose_jacobians", do_decompose_jacobians)

    def _set_exclusion(self, do_exclude: Any, scale: Any) -> None:
        name = "do_exclude_distance_outliers"
        self.do_exclude_distance_outliers = arguments.flag(_CLASS, name, do_exclude)
        name = "outlier_distance_scale"
        self.outlier_distance_scale = arguments.number(_CLASS, name, scale, or_none=True)

    def _set_rerun(self, do_rerun: Any, scale: Any) -> None:
        self.do_rerun_q_outliers = arguments.flag(_CLASS, "do_rerun_q_outliers", do_rerun)
        self.outlier_q_scale = arguments.number(_CLASS, "outlier_q_scale", scale)

    def _set_output(
        self, dtype: Any, verbose: Any, super_verbose: Any, n_iters_per_print_update: Any
    ) -> None:
        self.dtype = arguments.choice(_CLASS, "dtype", dtype, ("float32", "float64"))
        self.verbose = arguments.flag(_CLASS, "verbose", verbose)
        self.super_verbose = arguments.flag(_CLASS, "super_verbose", super_verbose)
        self.n_iters_per_print_update = arguments.whole(
            _CLASS, "n_iters_per_print_update", n_iters_per_print_update, least=1
        )

    def _solver(self, name: str) -> AbstractSolver:
        """Return the solver of a name; Adam has the settings of the descent."""
        if name not in _SOLVERS:
            expected = f"one of {_SOLVERS}, or None, which is the default"
            arguments.refuse(_CLASS, "solver", arguments.found(name), expected, ValueError)
        if name == "bounded_newton":
            return BoundedNewton()
        if name == "levenberg_marquardt":
            return LevenbergMarquardt()
        if name == "newton_krylov":
            return NewtonKrylov()
        return Adam(
            joint=self.method == "joint",
            lr_init=self.lr_init,
            lr_factor=self.lr_factor,
            lr_patience=self.lr_patience,
            lr_cooldown=self.lr_cooldown,
        )

    def _set_machines(self, mesh: Mesh | Literal["local"] | None, across_processes: Any) -> None:
        arguments.devices(_CLASS, mesh)
        self.mesh: Mesh | Literal["local"] | None = (
            None if isinstance(mesh, str) and self.super_verbose else mesh
        )
        self.across_processes = arguments.flag(_CLASS, "across_processes", across_processes)

    def _set_extent(self, coverage: Any, keep_unfinished: Any, search_between: Any) -> None:
        self.coverage = arguments.number(_CLASS, "coverage", coverage, or_none=True)
        if self.coverage is not None and (self.coverage >= 1 or self.across_processes):
            expected = "None, or a number below 1 for a search in one process"
            arguments.refuse(_CLASS, "coverage", f"is {self.coverage}", expected, ValueError)
        self.keep_unfinished = arguments.flag(_CLASS, "keep_unfinished", keep_unfinished)
        self.search_between = arguments.flag(_CLASS, "search_between", search_between)

    # ---- searches --------------------------------------------------------------------------------

    def sample_states(
        self,
        state_traj: Any,
        n_inits: int,
        valid_bxt: Bool[RealArray, "trials time"] | None = None,
        noise_scale: Number = 0.0,
    ) -> np.ndarray:
        """Draw states to start from, for `find_fixed_points`, as Golub & Sussillo's finder does.

        `find_fixed_points` draws them itself if it is given trajectories.

        Args:
            state_traj: as for `find_fixed_points`.
            n_inits: how many states to draw.
            valid_bxt: `[trials, time]` which states may be drawn.
            noise_scale: standard deviation of the Gaussian noise added to them.

        Returns:
            `[n_inits, n_states]`. Each further call draws different states.

        Raises:
            ValueError: if an argument has the wrong shape or range, or a drawn state is NaN.
        """
        caller = f"{_CLASS}.sample_states"
        n_inits = check_draw(caller, n_inits, noise_scale)
        state_traj, valid_bxt = check_trajectories(
            caller, vectors(caller, self.rnn_model, state_traj), valid_bxt, floating=False
        )
        # Not the numbers that a search draws from.
        key = jax.random.split(jax.random.key(self.random_seed))[1]
        key = jax.random.fold_in(key, self._n_draws)
        with self._precision():
            state_traj = jnp.asarray(state_traj, self.dtype)
            states = sample_states(key, state_traj, n_inits, noise_scale, valid_bxt)
        self._n_draws += 1
        return np.asarray(states)

    def find_fixed_points(
        self,
        state_traj: Any,
        inputs: Any,
        n_inits: int = N_INITS,
        noise_scale: Number = 0.0,
        valid_bxt: Bool[RealArray, "trials time"] | None = None,
        cond_ids: Shaped[RealArray, " n_inits"] | None = None,
        *,
        progress: Callable[[FixedPoints], None] | None = None,
    ) -> tuple[FixedPoints, FixedPoints]:
        """Search from states drawn from `state_traj`.

        The model's current values are used. Each further search draws different states; a new
        finder with the same seed draws the same ones again.

        Args:
            state_traj: `[trials, time, n_states]` states that the network visits; or states in the
                model's own form, such as a pair `(h, c)` of arrays `[trials, time, n_units]`.
                States `[n, n_states]` are searched from as they are, each once, and then
                `n_inits` is their number and no noise is added.
            inputs: `[1, n_inputs]` or `[n_inits, n_inputs]` the constant input of each row; or
                several of them by a label, `{"motion": [0, 1], "colour": [1, 0]}`, each of which
                has `n_inits` rows of its own, with the label as their `cond_id`.
            n_inits: how many states to draw.
            noise_scale: standard deviation of the Gaussian noise added to them.
            valid_bxt: `[trials, time]` which states may be drawn.
            cond_ids: `[n_inits]` condition numbers, handed through to `cond_id`.
            progress: called with the rows of each chunk, of 512 to 2048 rows, when it is done. If
                it raises `StopIteration`, the search ends there, and both results are about the
                rows up to the end of that chunk.

        Returns:
            The distinct points, and all `n_inits` rows in the order of the drawn states, both
            backed by NumPy arrays. `status` says of each row how its search ended, and
            [`account`][slowpoints.account] what was dropped.

        Raises:
            ValueError: if an argument has the wrong shape or range, or a drawn state is NaN, or the
                model does not map states to states.
            KeyboardInterrupt: at Ctrl-C, or the stop button of a notebook, once the starts in work
                are done. `interrupted` then holds what the starts up to there led to. A second
                Ctrl-C raises it at once, and `interrupted` is `None`.
        """
        with refused_together(_SEARCH, self.across_processes):
            given = self._check(
                state_traj=state_traj,
                inputs=inputs,
                n_inits=n_inits,
                noise_scale=noise_scale,
                valid_bxt=valid_bxt,
                cond_ids=cond_ids,
                progress=progress,
            )
        self._say(f"\nSearching for fixed points from {given.n_inits} initial states.")
        started = time.perf_counter()
        with (
            self._precision(),
            Progress(given.n_inits, self.verbose, self.super_verbose, progress) as bar,
            first_interrupt_asks(not self.across_processes) as interrupt,
        ):
            F = with_precision(given.F, self.dtype)
            given = given._replace(F=F, state_traj=jnp.asarray(given.state_traj, self.dtype))
            key = jax.random.fold_in(jax.random.key(self.random_seed), self._n_searches)
            update = interrupt.ends(bar.update)
            self.rounds = self.interrupted = None
            if self.coverage is None:
                unique_fps, all_fps = self._search(given, key, update, progress is not None)
            else:
                unique_fps, all_fps, self.rounds = self._search_until(given, key, update)
            if self.super_verbose:
                jax.effects_barrier()  # all its lines before the summary
            unique_fps, all_fps = unique_fps.to_numpy(), all_fps.to_numpy()
        self._n_searches += 1
        if not self.across_processes and self.rounds is None:
            # The search carried row numbers, so that condition numbers may be of any type.
            for fps in (unique_fps, all_fps):
                fps.cond_id = None if given.cond_ids is None else given.cond_ids[fps.cond_id]
        seconds = time.perf_counter() - started
        if self.verbose:
            self._say_result(given, unique_fps, all_fps, seconds, bar.seconds_of_compilation)
        if interrupt.requested:
            self.interrupted = unique_fps, all_fps
            raise KeyboardInterrupt(
                f"The search was ended after {all_fps.n} of {given.n_inits} starts; the finder's "
                f"`interrupted` holds what these led to, {counted(unique_fps.status, 'distinct')}."
            )
        return unique_fps, all_fps

    def _check(self, **given: Any) -> Given:
        """Check the arguments of a search; return those that it goes on with, as arrays."""
        return checked(_SEARCH, self.rnn_model, self.dtype, self.coverage, **given)

    def _search(
        self, given: Given, key: Any, update: Callable[[FixedPoints], None], watched: bool
    ) -> tuple[FixedPoints, FixedPoints]:
        """Search from all states; `watched` says whether somebody is told of each chunk."""
        across = self.across_processes
        if across:
            key = jax.random.fold_in(key, jax.process_index())
        x_init = given.state_traj[0]
        with refused_together(_SEARCH, across):  # also where nothing is drawn, as others may draw
            if not given.are_starts:
                x_init = sample_states(
                    key, given.state_traj, given.n_inits, given.noise_scale, given.valid_bxt
                )
        every = self.n_iters_per_print_update
        return find_fixed_points(
            given.F,
            x_init,
            given.inputs,
            cond_id=given.cond_ids if across else np.arange(given.n_inits),
            memory_limit=self.memory_limit,
            rows_at_a_time=rows_at_a_time(given.n_inits, given.state_traj.shape[2], watched),
            report=Report(print_update, every) if self.super_verbose else None,
            mesh=self.mesh,
            across_processes=across,
            search_between=self.search_between and self.do_compute_jacobians,
            **self._settings(update),
        )

    def _search_until(
        self, given: Given, key: Any, update: Callable[[FixedPoints], None]
    ) -> tuple[FixedPoints, FixedPoints, Rounds]:
        """Search in rounds, until the coverage is reached."""
        return search_until(
            given.F,
            given.state_traj,
            given.inputs,
            coverage=self.coverage,
            max_rows=given.n_inits,
            key=key,
            noise_scale=given.noise_scale,
            valid_bxt=given.valid_bxt,
            **self._settings(update),
        )

    def _settings(self, update: Callable[[FixedPoints], None]) -> dict[str, Any]:
        """Return the settings that both kinds of searches have."""
        return {
            "solver": self.solver,
            "max_iters": self.max_iters,
            "tol_q": self.tol_q,
            "tol_dq": self.tol_dq,
            "tol_unique": self.tol_unique,
            "outlier_distance_scale": self._distance_scale,
            "outlier_q_scale": self._q_scale,
            "final_q_threshold": self.final_q_threshold,
            "max_n_unique": self.max_n_unique,
            "keep_unfinished": self.keep_unfinished,
            "compute_jacobians": self.do_compute_jacobians,
            "decompose_jacobians": self.do_decompose_jacobians,
            "progress": update,
        }

    @property
    def _distance_scale(self) -> Number | None:
        return self.outlier_distance_scale if self.do_exclude_distance_outliers else None

    @property
    def _q_scale(self) -> Number | None:
        return self.outlier_q_scale if self.do_rerun_q_outliers else None

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Allow float64 for the time of a search; the caller's global setting comes back."""
        return jax.enable_x64(True) if self.dtype == "float64" else contextlib.nullcontext()

    def __getattr__(self, name: str) -> Any:
        # Python asks here only if there is no such attribute.
        advice = _ELSEWHERE.get(name, "")
        raise AttributeError(f"FixedPointFinder has no attribute {name!r}.{advice}")

    # ---- what is said of a search ----------------------------------------------------------------

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _say_result(
        self, given: Given, fps: FixedPoints, all_fps: FixedPoints, seconds: float, compiled: float
    ) -> None:
        print(line_on_rows(all_fps, seconds, compiled))
        for line in lines_on_points(fps, self.final_q_threshold):
            print(line)
        told = self._account(fps, all_fps, given.F)
        print("\t" + str(told).replace("\n", "\n\t"))
        if self.rounds is not None:
            print(f"\t{self.rounds}")
        elif given.noise_scale == 0 and not given.are_starts and all_stable(fps):
            print(line_on_noise(fps))
        if not self.across_processes:
            for line in lines_on_states(given.F, fps, all_fps):
                print(line)

    def _account(self, fps: FixedPoints, all_fps: FixedPoints, F: Any = None) -> Account:
        """Return the account of a search, by this finder's rules; of the network `F`, if given."""
        return account(
            fps,
            all_fps,
            outlier_distance_scale=self._distance_scale,
            outlier_q_scale=self._q_scale,
            final_q_threshold=self.final_q_threshold,
            max_n_unique=self.max_n_unique,
            keep_unfinished=self.keep_unfinished,
            max_iters=self.max_iters,
            F=F,
        )
