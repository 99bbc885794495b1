"""Networks as laboratories train them, and those of the example that comes with `canns`."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import slowpoints
from slowpoints._points.status import counted

from . import networks, points
from .networks import Network
from .timing import Turns, in_turn, stopwatch
from .tools import Canns, Core, Optimistix, Scipy, Search, Tool, canns_module

if TYPE_CHECKING:
    from .experiments import Settings

Rows = list[dict[str, Any]]

KNOWN = {
    ("context_gru_128_s12", 0): 3,
    ("context_gru_128_s12", 1): 1,
    ("context_leaky_128_s11", 0): 3,
    ("integrate_tanh_100_s13", 0): 3,
    ("pwm_leaky_256_s16", 0): 3,
    ("ring_gru_128_s14", 0): 7,
    ("ring_tanh_256_s17", 0): 6,
    ("sine_tanh_128_s15", 1): 3,
}
"""How many fixed points `tests/cases/README.md` knows of, by network and number of the input."""

FIRST = 32
"""Dense methods search from this many starts, the first ones: all would take them minutes."""

_FROM_ALL = ("slowpoints", "NewtonKrylov")


# ---- the field networks ------------------------------------------------------------------------


class Solver(Core):
    """`optimize_batch` with a solver."""

    def __init__(self, solver: slowpoints.AbstractSolver):
        self.solver, self.name = solver, type(solver).__name__  # type: ignore[misc]
        self.settings = f"`optimize_batch` with `{self.name}()`."  # type: ignore[misc]

    def prepare(self, network: Network) -> Search:
        """Return `optimize_batch` with the solver."""
        F, u = network.F, jnp.asarray(network.u)
        return lambda x: slowpoints.optimize_batch(F, x, u, solver=self.solver)


class ScipyInFloat64(Scipy):
    """SciPy's hybrid Powell method in float64, row by row, until the time is over."""

    settings = (
        "`scipy.optimize.root(method='hybr')` in a loop, with compiled functions for the residual "
        "and its Jacobian (`jacfwd`), in float64."
    )

    def __init__(self, limit: float):
        self.limit = limit

    def prepare(self, network: Network) -> Search:
        """Return a loop over the rows; call it, as this, in float64."""
        import scipy.optimize

        F, u = _in_float64(network)
        # The weights are constants of these functions, which is fastest.
        residual = jax.jit(lambda x: F(x, u) - x)
        jacobian = jax.jit(jax.jacfwd(lambda x: F(x, u) - x))

        def one(x: np.ndarray) -> np.ndarray:
            return scipy.optimize.root(
                lambda x: np.asarray(residual(x)),
                x,
                jac=lambda x: np.asarray(jacobian(x)),
                method="hybr",
            ).x

        return lambda x: np.stack(list(_in_time(one, np.float64(x), self.limit)))


class OptimistixInFloat64(Optimistix):
    """Optimistix's Levenberg-Marquardt in float64, row by row, until the time is over."""

    settings = (
        "`least_squares` with `LevenbergMarquardt(rtol=1e-6, atol=1e-6)` on normal equations by "
        "Cholesky (faster here than QR, its default), at most 64 steps, under `jit`, a row at a "
        "time (faster here than under `vmap`, where rows wait for the slowest), in float64."
    )

    def __init__(self, limit: float):
        self.limit = limit

    def prepare(self, network: Network) -> Search:
        """Return the compiled search; call it, as this, in float64."""
        import lineax
        import optimistix

        F, u = _in_float64(network)
        normal = getattr(lineax, "Normal", None)  # older versions have none
        linear = lineax.QR() if normal is None else normal(lineax.Cholesky())
        solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6, linear_solver=linear)

        def one(x: Any) -> Any:
            residual = lambda x, _: F(x, u) - x  # noqa: E731
            options = {"max_steps": 64, "throw": False}
            return optimistix.least_squares(residual, solver, x, **options).value

        search = jax.jit(one)
        rows = lambda x: _in_time(lambda row: np.asarray(search(row)), x, self.limit)  # noqa: E731
        return lambda x: np.stack(list(rows(np.float64(x))))


def _in_time(
    f: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, limit: float
) -> Iterator[np.ndarray]:
    """Yield what `f` makes of each row, and begin no other once the time is over."""
    started = time.perf_counter()
    for row in rows:
        yield f(row)
        if time.perf_counter() - started > limit:
            return


def _in_float64(network: Network) -> tuple[Any, jax.Array]:
    cast = lambda leaf: jnp.asarray(leaf, jnp.float64)  # noqa: E731
    return jax.tree.map(cast, network.F), cast(network.u)


def field_tools(limit: float) -> list[Tool]:
    """Return the tools that search the field networks, in the order of the table."""
    return [
        Core(),
        Solver(slowpoints.LevenbergMarquardt()),
        Solver(slowpoints.NewtonKrylov()),
        ScipyInFloat64(limit),
        OptimistixInFloat64(limit),
    ]


def field(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Time all tools in turn on each field network, and count the true points they reach.

    The table is about time a row, so that tools may search different numbers of rows.
    """
    out = []
    for name, i in settings.field_cases:
        network, x = networks.field(name, i)
        rows, finds = [], []
        tools = [tool for tool in field_tools(settings.field_limit) if tool.missing() is None]
        for tool, turns in zip(tools, _take_turns(tools, network, x, settings), strict=True):
            ends = tool.rows(turns.out)
            n_rows = len(turns.out.xstar) if tool.ours else len(ends)
            found = points.reached(network, ends)
            row = {"network": network.name, "n_states": x.shape[1], "tool": tool.name}
            row |= {"ours": tool.ours, "settings": tool.settings, "n_runs": turns.n_runs}
            row |= {"n_rows": n_rows, "seconds_per_row": turns.seconds / n_rows}
            row |= {"first_seconds": turns.first_seconds, "found": len(found)}
            if tool.name == "slowpoints":
                row |= {"ends": counted(np.asarray(turns.out.status))}
                row |= {"kept": len(points.reached(network, _kept(network, x)))}
            say(
                f"  {network.name}, {tool.name}: {1e3 * row['seconds_per_row']:.3g} ms a row, "
                f"{len(found)} points from {n_rows} rows"
            )
            rows.append(row)
            finds.append(found)
        known = max(KNOWN[name, i], len(points.union(*finds)))
        out += [row | {"known": known} for row in rows]
    return out


def _take_turns(
    tools: list[Tool], network: Network, x: np.ndarray, settings: Settings
) -> list[Turns]:
    searches, warm_up = {}, {}
    F, u = network.F, jnp.asarray(network.u)
    for tool in tools:
        with jax.enable_x64(not tool.ours):
            search = tool.prepare(network)
        rows = x if tool.name in _FROM_ALL else x[:FIRST]
        searches[tool.name] = _call(search, rows, not tool.ours)
        if not tool.ours:
            warm_up[tool.name] = _call(search, x[:1], True)
        else:  # the same program, for any number of iterations
            options = {"solver": getattr(tool, "solver", None), "max_iters": 1}
            warm_up[tool.name] = partial(slowpoints.optimize_batch, F, rows, u, **options)
    turns = in_turn(searches, warm_up=warm_up, n_runs=settings.n_runs, limit=settings.field_limit)
    return [turns[tool.name] for tool in tools]


def _call(search: Search, x: np.ndarray, in_float64: bool) -> Callable[[], Any]:
    def call() -> Any:
        with jax.enable_x64(in_float64):
            return search(x)

    return call


def _kept(network: Network, x: np.ndarray) -> np.ndarray:
    """Return the points that `find_fixed_points` keeps at its defaults."""
    fps, _ = slowpoints.find_fixed_points(
        network.F, x, jnp.asarray(network.u), compute_jacobians=False, mesh=None
    )
    return np.asarray(fps.xstar)


# ---- the example of canns ----------------------------------------------------------------------

EXAMPLES = ("flipflop3_tanh_4_s42", "flipflop4_tanh_6_s42")
SCRIPT = {"tol_q": 1e-4, "final_q_threshold": 1e-6, "tol_unique": 1e-2}
"""What the flip-flop example of canns 1.5.0 sets, besides `lr_init=0.02`."""

_NOISE = 0.4


def draw_as_canns(states: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the states `[n, n_states]` that canns draws from those of a trajectory, by a seed.

    It draws without replacement where there are enough.
    """
    rng = np.random.RandomState(seed)
    many = n <= len(states)
    rows = rng.choice(len(states), n, replace=False) if many else rng.randint(len(states), size=n)
    x = np.float32(states[rows])
    return x + _NOISE * rng.randn(*x.shape).astype(np.float32)


def canns_example(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Count the points that are found in the flip-flop example of `canns`, from the same states."""
    methods = {
        "slowpoints": _example_search(None),
        'slowpoints, `solver="adam"`': _example_search(slowpoints.Adam(lr_init=0.02)),
    }
    if settings.run_canns and Canns().missing() is None:
        methods["canns"] = _canns_search
    out = []
    for name in EXAMPLES:
        network, known = networks.canns_example(name)
        rows: Rows = [
            {"network": name, "known": len(known), "n_inits": settings.n_inits, "method": method}
            | {"found": [], "others": [], "seconds": []}
            for method in methods
        ]
        for row in rows:
            for seed in range(settings.n_seeds):
                x = draw_as_canns(network.states, settings.n_inits, seed)
                search = methods[row["method"]]
                if seed == 0 and row["method"] != "canns":
                    search(network, x)  # compiles
                seconds, found = stopwatch(search, network, x)
                tolerance = SCRIPT["tol_unique"]
                row["found"].append(int(points.matched(known, found, tolerance).sum()))
                row["others"].append(int((~points.matched(found, known, tolerance)).sum()))
                row["seconds"].append(seconds)
            say(
                f"  {name}, {row['method']}: {row['found']} of {len(known)} points, "
                f"{statistics.median(row['seconds']):.3g} s"
            )
        out += rows
    return out


def _example_search(
    solver: slowpoints.AbstractSolver | None,
) -> Callable[[Network, np.ndarray], np.ndarray]:
    def search(network: Network, x: np.ndarray) -> np.ndarray:
        u = jnp.asarray(network.u)
        options = SCRIPT | {"solver": solver, "compute_jacobians": False, "mesh": None}
        fps, _ = slowpoints.find_fixed_points(network.F, x, u, **options)
        return np.asarray(fps.xstar)

    return search


def _canns_search(network: Network, x: np.ndarray) -> np.ndarray:
    """Search with `canns` from given states, by its documented call."""
    import brainpy as bp

    u = jnp.asarray(network.u)

    class Model(bp.DynamicalSystem):
        def __call__(self, inputs: Any, hidden: Any) -> Any:
            hidden = jax.vmap(network.F, in_axes=(0, None))(hidden, u)
            return hidden[:, None], hidden

    finder = canns_module("finder").FixedPointFinder(
        Model(), lr_init=0.02, do_compute_jacobians=False, verbose=False, **SCRIPT
    )
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)  # it advises against more than 1000 rows
        return np.asarray(finder.find_fixed_points(x[None], network.u[None], len(x))[0].xstar)
