"""`FixedPointFinder`: the documented class, a thin layer over `find_fixed_points`.

Most of this file says and checks what its 27 arguments may be: hence its length.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Shaped

from slowpoints._completeness.search_until import Rounds, search_until
from slowpoints._core import arguments
from slowpoints._core.programs import Compilations
from slowpoints._core.types import Number, RealArray
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import ModelError, Transition
from slowpoints._network.precision import with_precision
from slowpoints._network.trace import traced
from slowpoints._pipeline.account import Account, account
from slowpoints._pipeline.across_processes import refused_together, searches_together
from slowpoints._pipeline.find_fixed_points import find_fixed_points
from slowpoints._pipeline.parts import are
from slowpoints._pipeline.select import check_selection
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted
from slowpoints._search.optimize_batch import check_search
from slowpoints._search.sample import check_draw, check_trajectories, sample_states
from slowpoints._solvers.adam import Adam
from slowpoints._solvers.base import AbstractSolver, Report
from slowpoints._solvers.bounded_newton import BoundedNewton
from slowpoints._solvers.levenberg_marquardt import LevenbergMarquardt
from slowpoints._solvers.newton_krylov import NewtonKrylov

_CLASS = "FixedPointFinder"

_ELSEWHERE = {
    "sample_inputs_and_states": " Call the functions slowpoints.sample_inputs_and_states and "
    "slowpoints.find_fixed_points.",
}
"""Where to find what Golub & Sussillo's FixedPointFinder has as methods."""

_NO_NOISE = (
    "stable. No noise was added to the starts, and saddles are rarely found without it "
    "(`noise_scale`)."
)

_N_INITS = 1024

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
            their centroid.
        do_rerun_q_outliers: whether to search on from points with an outlying `q`.
        outlier_q_scale: which: those with `q` above this many times the median.
        max_n_unique: keep at most this many points, those with the lowest `q`.
        final_q_threshold: keep points with `q` below this; `None` or 0 keeps all.
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
            this share of starts would lead to points that are known, such as 0.99, and until signs
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
        outlier_distance_scale: Number = 10.0,
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
            choice = partial(arguments.choice, _CLASS)
            number = partial(arguments.number, _CLASS)
            whole = partial(arguments.whole, _CLASS)
            flag = partial(arguments.flag, _CLASS)
            by_name = isinstance(solver, str)
            numbers = check_search(
                _CLASS, None if by_name else solver, max_iters, tol_q, tol_dq, memory_limit
            )
            self.max_iters, self.tol_q, self.tol_dq, self.memory_limit, _ = numbers
            self.tol_unique, self.final_q_threshold, self.max_n_unique = check_selection(
                _CLASS,
                tol_unique=tol_unique,
                final_q_threshold=final_q_threshold,
                max_n_unique=max_n_unique,
            )
            self.rnn_model = rnn_model
            self.method = choice("method", method, ("joint", "sequential"))
            self.lr_init = number("lr_init", lr_init)
            self.lr_factor = number("lr_factor", lr_factor)
            self.lr_patience = whole("lr_patience", lr_patience, or_infinite=True)
            self.lr_cooldown = whole("lr_cooldown", lr_cooldown)
            self.do_compute_jacobians = flag("do_compute_jacobians", do_compute_jacobians)
            self.do_decompose_jacobians = flag("do_decompose_jacobians", do_decompose_jacobians)
            self.do_exclude_distance_outliers = flag(
                "do_exclude_distance_outliers", do_exclude_distance_outliers
            )
            self.outlier_distance_scale = number("outlier_distance_scale", outlier_distance_scale)
            self.do_rerun_q_outliers = flag("do_rerun_q_outliers", do_rerun_q_outliers)
            self.outlier_q_scale = number("outlier_q_scale", outlier_q_scale)
            self.dtype = choice("dtype", dtype, ("float32", "float64"))
            self.verbose = flag("verbose", verbose)
            self.super_verbose = flag("super_verbose", super_verbose)
            self.n_iters_per_print_update = whole(
                "n_iters_per_print_update", n_iters_per_print_update, least=1
            )
            if isinstance(solver, str) and solver not in _SOLVERS:
                expected = f"one of {_SOLVERS}, or None, which is the default"
                arguments.refuse(_CLASS, "solver", arguments.found(solver), expected, ValueError)
            self.solver = self._solver(solver) if isinstance(solver, str) else solver
            self.random_seed = arguments.seed(_CLASS, "random_seed", random_seed)
            arguments.devices(_CLASS, mesh)
            self.mesh: Mesh | Literal["local"] | None = (
                None if isinstance(mesh, str) and self.super_verbose else mesh
            )
            self.across_processes = flag("across_processes", across_processes)
            self.coverage = number("coverage", coverage, or_none=True)
            if self.coverage is not None and (self.coverage >= 1 or self.across_processes):
                expected = "None, or a number below 1 for a search in one process"
                arguments.refuse(_CLASS, "coverage", f"is {self.coverage}", expected, ValueError)
            self.keep_unfinished = flag("keep_unfinished", keep_unfinished)
            self.search_between = flag("search_between", search_between)
        self.rounds: Rounds | None = None
        self._n_searches = 0
        self._n_draws = 0

    def _solver(self, name: str) -> AbstractSolver:
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
            caller, self._vectors(caller, state_traj), valid_bxt, floating=False
        )
        # Not the numbers that a search draws from.
        key = jax.random.split(jax.random.key(self.random_seed))[1]
        key = jax.random.fold_in(key, self._n_draws)
        with _precision(self.dtype):
            state_traj = jnp.asarray(state_traj, self.dtype)
            states = sample_states(key, state_traj, n_inits, noise_scale, valid_bxt)
        self._n_draws += 1
        return np.asarray(states)

    def find_fixed_points(
        self,
        state_traj: Any,
        inputs: Float[RealArray, "_ n_inputs"],
        n_inits: int = _N_INITS,
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
            inputs: `[1, n_inputs]` or `[n_inits, n_inputs]` the constant input of each row.
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
        """
        together = partial(refused_together, f"{_CLASS}.find_fixed_points", self.across_processes)
        with together():
            F, starts, n_inits, state_traj, valid_bxt, inputs, cond_ids = self._check(
                state_traj, inputs, n_inits, noise_scale, valid_bxt, cond_ids, progress
            )
        self._say(f"\nSearching for fixed points from {n_inits} initial states.")
        started = time.perf_counter()
        every = self.n_iters_per_print_update
        report = Report(_print_update, every) if self.super_verbose else None
        with (
            _precision(self.dtype),
            _Progress(n_inits, self.verbose, self.super_verbose, progress) as bar,
        ):
            F = with_precision(F, self.dtype)
            key = jax.random.fold_in(jax.random.key(self.random_seed), self._n_searches)
            if self.across_processes:
                key = jax.random.fold_in(key, jax.process_index())
            settings: dict[str, Any] = {
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
                "progress": bar.update if self.verbose or self.super_verbose or progress else None,
            }
            state_traj = jnp.asarray(state_traj, self.dtype)
            self.rounds = None
            if self.coverage is None:
                x_init = state_traj[0]
                with together():  # also where nothing is drawn, as other processes may draw
                    if not starts:
                        x_init = sample_states(key, state_traj, n_inits, noise_scale, valid_bxt)
                unique_fps, all_fps = find_fixed_points(
                    F,
                    x_init,
                    inputs,
                    cond_id=cond_ids if self.across_processes else np.arange(n_inits),
                    memory_limit=self.memory_limit,
                    rows_at_a_time=_rows_at_a_time(
                        n_inits, state_traj.shape[2], progress is not None
                    ),
                    report=report,
                    mesh=self.mesh,
                    across_processes=self.across_processes,
                    search_between=self.search_between and self.do_compute_jacobians,
                    **settings,
                )
            else:
                unique_fps, all_fps, self.rounds = search_until(
                    F,
                    state_traj,
                    inputs,
                    coverage=self.coverage,
                    max_rows=n_inits,
                    key=key,
                    noise_scale=noise_scale,
                    valid_bxt=valid_bxt,
                    **settings,
                )
            if report is not None:
                jax.effects_barrier()  # all its lines before the summary
            unique_fps, all_fps = unique_fps.to_numpy(), all_fps.to_numpy()
        self._n_searches += 1
        if not self.across_processes and self.rounds is None:
            # The search carried row numbers, so that condition numbers may be of any type.
            conditions = (lambda rows: None) if cond_ids is None else (lambda rows: cond_ids[rows])
            unique_fps.cond_id = conditions(unique_fps.cond_id)
            all_fps.cond_id = conditions(all_fps.cond_id)
        seconds = time.perf_counter() - started
        self._say_result(F, unique_fps, all_fps, seconds, bar.seconds_of_compilation)
        if self.rounds is not None:
            self._say(f"\t{self.rounds}")
        elif noise_scale == 0 and unique_fps.n and _all_stable(unique_fps):
            one = unique_fps.n == 1
            self._say(f"\t{'The point kept is' if one else 'All points kept are'} {_NO_NOISE}")
        return unique_fps, all_fps

    def _check(
        self,
        state_traj: Any,
        inputs: Any,
        n_inits: int,
        noise_scale: Number,
        valid_bxt: Any,
        cond_ids: Any,
        progress: Any = None,
    ) -> tuple[Transition, bool, int, Any, Any, Any, Any]:
        """Check the arguments of a search; return those that it goes on with, as arrays.

        Comes first: the traced model, and whether the states are those to start from, in a
        trajectory of one trial.
        """
        caller = f"{_CLASS}.find_fixed_points"
        n_inits = check_draw(caller, n_inits, noise_scale)
        state_traj = self._vectors(caller, state_traj)
        starts = self._are_starts(state_traj, n_inits, noise_scale, valid_bxt)
        if starts:
            n_inits, state_traj = len(state_traj), state_traj[None]
        state_traj, valid_bxt = check_trajectories(caller, state_traj, valid_bxt, floating=False)
        row = "of the `n_inits` states"
        inputs = arguments.inputs_of_rows(caller, inputs, n_inits, row, np.dtype(self.dtype))
        cond_ids = arguments.labels(caller, "cond_ids", cond_ids, n_inits, row)
        arguments.function(caller, "progress", progress)
        if self.coverage is not None and (len(inputs) != 1 or cond_ids is not None):
            name = "inputs" if len(inputs) != 1 else "cond_ids"
            was, expected = "is given for each state", "one input, since `coverage` is set"
            arguments.refuse(caller, name, was, expected, ValueError)
        F, sizes = as_transition(self.rnn_model), (state_traj.shape[2], inputs.shape[1])
        # The model runs in the caller's precision, which need not be that of the search.
        dtype = jax.dtypes.canonicalize_dtype(self.dtype)
        try:
            F = traced(caller, F, *sizes, dtype, states="state_traj")
        except ModelError as error:
            if F.n_states is None:
                raise
            hint = arguments.if_transposed(state_traj.shape, F.n_states)
            raise ModelError(f"{error}{hint}") from error
        return F, starts, n_inits, state_traj, valid_bxt, inputs, cond_ids

    def _vectors(self, caller: str, state_traj: Any) -> Any:
        """Return states as vectors that are given in the model's own form."""
        if len(getattr(state_traj, "shape", ())) == 3:
            return state_traj
        own = as_transition(self.rnn_model)
        try:
            return own.flatten(state_traj)
        except ValueError as error:
            words = f"{error} {getattr(own, 'hint', '')}".strip()
            raise ValueError(f"{caller}: `state_traj` does not fit the model: {words}") from error

    def _are_starts(self, states: Any, n_inits: int, noise_scale: Number, valid_bxt: Any) -> bool:
        """Return whether states `[n, n_states]` are meant to be searched from as they are."""
        if len(getattr(states, "shape", ())) != 2 or len(states) == 0:
            return False
        undrawn = n_inits in (_N_INITS, len(states)) and noise_scale == 0 and valid_bxt is None
        return undrawn and self.coverage is None

    def __getattr__(self, name: str) -> Any:
        # Python asks here only if there is no such attribute.
        advice = _ELSEWHERE.get(name, "")
        raise AttributeError(f"FixedPointFinder has no attribute {name!r}.{advice}")

    @property
    def _distance_scale(self) -> Number | None:
        return self.outlier_distance_scale if self.do_exclude_distance_outliers else None

    @property
    def _q_scale(self) -> Number | None:
        return self.outlier_q_scale if self.do_rerun_q_outliers else None

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _say_result(
        self,
        F: Transition,
        fps: FixedPoints,
        all_fps: FixedPoints,
        seconds: float,
        compiled: float,
    ) -> None:
        if not self.verbose:
            return
        q, its = all_fps.qstar, all_fps.n_iters
        before = f"Compiled in {compiled:.2f} s and searched" if compiled > 0 else "Searched"
        print(
            f"\t{before} in {seconds - compiled:.2f} s: iterations median {np.median(its):.0f}, "
            f"most {its.max()}; q median {np.median(q):.2e}, highest {np.max(q):.2e}."
        )
        below = f" with q < {self.final_q_threshold:.1e}" if self.final_q_threshold else ""
        print(f"\tFound {counted(fps.status, 'distinct')}{below}.")
        exact = fps.status == Status.FIXED_POINT
        if fps.is_stable is not None and exact.any():
            n_stable = int(fps.is_stable[exact].sum())
            n_neutral = int((~fps.is_stable & (fps.n_unstable() == 0))[exact].sum())
            them = "them" if exact.all() else "the fixed points"
            neutral = f", {n_neutral} neutral" if n_neutral else ""
            n_unstable = exact.sum() - n_stable - n_neutral
            verb = are(n_stable)
            print(f"\t{n_stable} of {them} {verb} stable, {n_unstable} unstable{neutral}.")
        told = self._account(fps, all_fps, F)
        print("\t" + str(told).replace("\n", "\n\t"))

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


@contextlib.contextmanager
def _precision(dtype: str) -> Iterator[None]:
    """Allow float64 for the time of a search; the caller's global setting comes back."""
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        yield


class _Progress:
    """A progress bar over the rows of a search, and how many of them are at fixed points.

    If `announced`, chunks are told apart in what is printed of their iterations. `then` is called
    with the rows of each chunk.
    """

    def __init__(
        self,
        n_rows: int,
        shown: bool,
        announced: bool = False,
        then: Callable[[FixedPoints], None] | None = None,
    ):
        from tqdm import tqdm  # only here, so that importing the package stays quick

        self._bar = tqdm(total=n_rows, unit=" states", leave=False, disable=not shown)
        self._announced, self._then = announced, then
        self._n_done, self._n_exact = 0, 0
        self._compilations = Compilations(self._begin_to_compile, self._go_on)

    def __enter__(self) -> "_Progress":
        self._compilations.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._compilations.__exit__()
        self._bar.close()

    @property
    def seconds_of_compilation(self) -> float:
        """For how long something was compiled."""
        return self._compilations.seconds

    def _begin_to_compile(self) -> None:
        self._bar.set_description_str("compiling")

    def _go_on(self, seconds: float) -> None:
        if not self._bar.disable:  # a bar that is not shown has no clock
            self._bar.start_t += seconds  # the rate counts running time only
        self._bar.set_description_str("")

    def update(self, fps: FixedPoints) -> None:
        """Count the rows of a chunk that is done."""
        self._n_done += fps.n
        if self._announced and self._n_done < self._bar.total:
            jax.effects_barrier()  # the lines of this chunk come first
            print(f"\tFrom initial state {self._n_done + 1} on:")
        self._n_exact += int(np.sum(np.asarray(fps.status) == Status.FIXED_POINT))
        self._bar.set_postfix_str(f"{self._n_exact} at fixed points", refresh=False)
        self._bar.update(fps.n)
        if self._n_done >= self._bar.total:
            self._bar.close()  # else it is drawn again below each warning
        if self._then is not None:
            self._then(fps)


def _all_stable(fps: FixedPoints) -> bool:
    """Return whether all points are known to be stable."""
    return fps.is_stable is not None and bool(np.all(fps.is_stable))


def _rows_at_a_time(n_rows: int, n_states: int, watched: bool) -> int:
    """Return a number of rows that takes about a second, and enough to keep all lanes at work.

    That is for networks whose points are found easily; others take a hundred times as long. So
    there are fewer rows if somebody is told of each chunk, and may end the search.
    """
    if n_rows <= 512:
        return n_rows
    few, most = (8, 2048) if watched else (1, 16384)
    return int(np.clip(4e8 / n_states**2 / few, 512, most).item())


def _print_update(iteration: Any, q: Any, dq: Any, lr: Any, phase: str) -> None:
    q, dq = np.asarray(q), np.asarray(dq)
    # A row's first iteration has no `dq` yet, and a broken one and a lane without a row no `q`.
    q, dq = (a[np.isfinite(a)] if np.isfinite(a).any() else np.full(1, np.nan) for a in (q, dq))
    line = (
        f"\t{phase}, Iter: {int(iteration)}, q = {np.mean(q):.2e} +/- {np.std(q):.2e}, "
        f"dq = {np.mean(dq):.2e} +/- {np.std(dq):.2e}"
    )
    print(line if lr is None else f"{line}, lr = {float(lr):.2e}")
