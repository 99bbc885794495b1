"""What is measured. Each experiment returns plain lists and dictionaries, for `results.json`."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import slowpoints

from . import branches, field, from_start, networks, points
from .networks import Network
from .timing import exponent, in_fresh_process, measure, median_time, peak_memory, stopwatch
from .tools import Core, Tool, all_tools, canns_module

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured. The defaults are those of the published tables.

    Attributes:
        folder: where results go, and trained networks and references are kept.
        networks: which networks to compare the tools on.
        n_inits: initial states of a search.
        n_runs: the least number of runs of which a time is the median.
        peer_limit: seconds; longer searches of peers are predicted from fewer rows.
        canns_iters: how many of its 5000 iterations `canns` is given.
        fixed_point_finder: a checkout of Golub & Sussillo's FixedPointFinder.
        n_seeds: draws of initial states over which the time to full recall is taken.
        most_inits: the most initial states for full recall.
        reference_inits: initial states of the library's searches for the reference.
        sizes: numbers of units for the scaling with the size of the network.
        rows_per_size: initial states for each.
        counts: numbers of initial states for the scaling with them.
        field_cases: which field networks to search, under which of their inputs.
        field_limit: seconds for which a tool may search one of them; a run that has begun ends.
        run_canns: whether `canns` searches the networks of its example.
        start_cases: which networks, under which of their inputs, to search in whole processes.
        start_counts: from how many initial states.
        start_runs: how many processes of each tool.
        start_limit: seconds after which a process is stopped.
    """

    folder: Path
    networks: tuple[str, ...] = networks.NAMES
    n_inits: int = 1024
    n_runs: int = 5
    peer_limit: float = 45.0
    canns_iters: int = 250
    fixed_point_finder: Path | None = None
    n_seeds: int = 5
    most_inits: int = 65536
    reference_inits: int = 16384
    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    rows_per_size: int = 64
    counts: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    field_cases: tuple[tuple[str, int], ...] = tuple(field.KNOWN)
    field_limit: float = 8.0
    run_canns: bool = False
    start_cases: tuple[tuple[str, int], ...] = from_start.CASES
    start_counts: tuple[int, ...] = (128, 512)
    start_runs: int = 3
    start_limit: float = 120.0

    def tools(self) -> list[Tool]:
        """Return the tools to compare."""
        return all_tools(self.fixed_point_finder, self.canns_iters)


# ---- the fixed points that there are -----------------------------------------------------------


class Reference:
    """The fixed points of a network known so far, kept in the results folder."""

    def __init__(self, network: Network, settings: Settings):
        self._path = settings.folder / f"reference-{network.name.replace(' ', '-').lower()}.npy"
        self._starts = network.draw(1024, seed=0)
        if self._path.exists():
            self.points = np.load(self._path)
        else:
            self.points = np.empty((0, self._starts.shape[1]))
            for found in _many_searches(network, settings.reference_inits):
                self.add(found)

    def add(self, found: np.ndarray) -> None:
        """Add confirmed fixed points, unless they are far from all states that are visited."""
        self.points = points.union(self.points, points.within_reach(found, self._starts))
        np.save(self._path, self.points)

    def count(self, found: np.ndarray) -> int:
        """Return how many of the known points are among `found`."""
        return int(points.matched(self.points, found).sum())


def _many_searches(network: Network, n: int) -> Iterable[np.ndarray]:
    """Search with each solver, other seeds, and narrow and wide draws of initial states."""
    n_states = network.states.shape[1]
    n_dense = n if n_states <= 32 else n // 8
    for seed, (solver, n_rows, noise) in enumerate(
        (
            (None, n, 0.5),
            (None, n // 2, 1.0),
            (slowpoints.LevenbergMarquardt(), n_dense, 0.5),
            (slowpoints.LevenbergMarquardt(damping=1.0, max_step=0.1), n_dense, 1.0),
            (slowpoints.NewtonKrylov(n_vectors=min(30, n_states), n_lengths=6), n // 4, 0.5),
            (slowpoints.KrylovTrustRegion(radius=0.1), n // 4, 0.5),
        )
    ):
        x = network.draw(n_rows, 1000 + seed, noise)
        fps = slowpoints.optimize_batch(network.F, x, network.u, solver=solver, max_iters=150)
        yield points.confirm(network, fps.xstar)


# ---- beside other tools ------------------------------------------------------------------------


def compare(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Time each tool on each network, and count the distinct fixed points that it finds."""
    out = []
    for name in settings.networks:
        network = networks.load(name, settings.folder)
        reference = Reference(network, settings)
        x = network.draw(settings.n_inits, seed=0)
        finds, rows = [], []
        for tool in settings.tools():
            row, found = _try(tool, network, x, settings)
            if found is not None:
                reference.add(found)
                say(f"  {name}, {tool.name}: {row['seconds']:.3g} s, {len(found)} points")
            else:
                say(f"  {name}, {tool.name}: {row['skipped']}")
            rows.append(row)
            finds.append(found)
        for row, found in zip(rows, finds, strict=True):
            if found is not None:
                row |= {"found": reference.count(found), "known": len(reference.points)}
        out += rows
    return out


def _try(
    tool: Tool, network: Network, x: np.ndarray, settings: Settings
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return what a search with a tool cost, and the points that it found, if it ran."""
    row: dict[str, Any] = {"network": network.name, "tool": tool.name}
    row |= {"ours": tool.ours, "package": tool.package, "settings": tool.settings}
    reason = tool.missing()
    if reason:
        return {**row, "skipped": reason}, None
    try:
        measured, result = measure(
            tool.prepare(network),
            x,
            probe=tool.probe,
            compiles=tool.compiles,
            n_runs=settings.n_runs,
            limit=np.inf if tool.ours else settings.peer_limit,
        )
        found = points.confirm(network, tool.rows(result))
    except Exception as error:
        if tool.ours:
            raise
        # Another version of a peer may work differently; the rest is worth having all the same.
        return {**row, "skipped": f"failed: {type(error).__name__}: {error}"}, None
    row |= measured._asdict()
    row |= {"seconds": measured.seconds / tool.share, "share": tool.share}
    row["complete"] = tool.share == 1 and not measured.estimated
    return row, found


def full_recall(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Find how long a search takes that finds every known point.

    The number of initial states is doubled, starting from `n_inits`, until a search finds all of
    them. This is done for several draws of states; what counts is the last search alone.
    """
    out = []
    for name in settings.networks:
        network = networks.load(name, settings.folder)
        reference = Reference(network, settings)
        F, u = network.F, jnp.asarray(network.u)
        tool = Core()

        def search(x: np.ndarray, F: Any = F, u: Any = u, **options: Any) -> Any:
            # In chunks of one size, so that there is one program for all numbers of states.
            chunk = settings.n_inits
            return slowpoints.optimize_batch(F, x, u, rows_at_a_time=chunk, **options)

        runs: Rows = [{"seed": seed, "recall": []} for seed in range(1, settings.n_seeds + 1)]
        n = settings.n_inits
        while n <= settings.most_inits:
            left = [run for run in runs if "seconds" not in run]
            if not left:
                break
            search(network.draw(n, seed=0), max_iters=1)  # compiles
            for run in left:
                seconds, fps = stopwatch(search, network.draw(n, run["seed"]))
                count = reference.count(points.confirm(network, tool.rows(fps)))
                run["recall"].append([n, count, seconds])
                if count == len(reference.points):
                    run |= {"seconds": seconds, "n_inits": n}
            n *= 2
        seconds = [run.get("seconds", np.inf) for run in runs]
        median = statistics.median(seconds)
        row = {"network": name, "known": len(reference.points), "runs": runs}
        row["seconds"] = median if np.isfinite(median) else None
        out.append(row)
        say(f"  {name}: {median:.3g} s, {[run.get('n_inits') for run in runs]} states")
    return out


# ---- scaling -----------------------------------------------------------------------------------


def with_size(settings: Settings, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Time a search, and take its peak memory, against the number of units."""
    baseline = in_fresh_process(_search_hopfield, 16, settings.rows_per_size, 1)["peak_memory"]
    rows = []
    for n_units in settings.sizes:
        rows.append(
            in_fresh_process(_search_hopfield, n_units, settings.rows_per_size, settings.n_runs)
        )
        row = rows[-1]
        say(f"  {n_units} units: {1e3 * row['seconds_per_row']:.3g} ms a row")
    fitted = [row for row in rows if row["n_units"] >= 256] or rows
    sizes = [row["n_units"] for row in fitted]
    # What compilation takes varies by tens of MB, and hides what a small network takes.
    large = [row for row in fitted if row["peak_memory"] - baseline > 1e8]
    above = [row["peak_memory"] - baseline for row in large]
    return {
        "rows": rows,
        "baseline_memory": baseline,
        "fitted_from": sizes[0],
        "time_exponent": _exponent(sizes, [row["seconds_per_row"] for row in fitted]),
        "memory_exponent": _exponent(sizes, [row["peak_memory"] for row in fitted]),
        "memory_above_baseline_exponent": _exponent([row["n_units"] for row in large], above),
    }


def _search_hopfield(n_units: int, n_rows: int, n_runs: int) -> dict[str, Any]:
    network = networks.hopfield(n_units)
    x, u = network.draw(n_rows, seed=0, noise=0.3), jnp.asarray(network.u)
    first, _ = stopwatch(lambda: slowpoints.optimize_batch(network.F, x, u, max_iters=1))
    seconds, n, fps = median_time(slowpoints.optimize_batch, network.F, x, u, n_runs=n_runs)
    return {
        "n_units": n_units,
        "n_rows": n_rows,
        "seconds_per_row": seconds / n_rows,
        "n_runs": n,
        "compile_seconds": first,
        "peak_memory": peak_memory(),
        "iterations": float(np.mean(np.asarray(fps.n_iters))),
        "fixed": float(np.mean(np.asarray(fps.qstar) < points.HIGHEST_Q)),
    }


def with_inits(settings: Settings, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Time a search of the GRU with 16 units, and take its peak memory, against its rows."""
    rows = []
    for n in settings.counts:
        rows.append(in_fresh_process(_search_gru, settings.folder, n, settings.n_runs))
        say(f"  {n} states: {rows[-1]['seconds']:.3g} s")
    seconds = [row["seconds"] for row in rows]
    return {"rows": rows, "time_exponent": _exponent(settings.counts, seconds)}


def _search_gru(folder: Path, n: int, n_runs: int) -> dict[str, Any]:
    network = networks.load("GRU 16", folder)
    x, u = network.draw(n, seed=0), jnp.asarray(network.u)
    first, _ = stopwatch(lambda: slowpoints.optimize_batch(network.F, x, u, max_iters=1))
    seconds, n_runs, _ = median_time(slowpoints.optimize_batch, network.F, x, u, n_runs=n_runs)
    return {
        "n_inits": n,
        "seconds": seconds,
        "n_runs": n_runs,
        "compile_seconds": first,
        "peak_memory": peak_memory(),
    }


def _exponent(sizes: Any, values: Any) -> float | None:
    return exponent(sizes, values) if len(sizes) > 1 and min(values) > 0 else None


# ---- how well the machine is used --------------------------------------------------------------


def arithmetic_rate(settings: Settings, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Compare a search's rate of floating-point operations with that of one matrix product.

    Counted is what `NewtonKrylov` needs: per row and iteration the evaluations of the network, the
    products with its Jacobian, and the dot products of the Krylov space. XLA counts the first two,
    on the compiled functions (without `tanh` and `exp`). Idle lanes and bookkeeping take time, and
    count nothing.
    """
    size = 2048
    A = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
    seconds, _, _ = median_time(jax.jit(jnp.matmul), A, A, n_runs=settings.n_runs)
    best = 2 * size**3 / seconds
    rows = []
    for name in (*settings.networks, f"Hopfield {min(1024, max(settings.sizes))}"):
        if name.startswith("Hopfield"):
            network, n = networks.hopfield(int(name.split()[1])), settings.rows_per_size
        else:
            network, n = networks.load(name, settings.folder), settings.n_inits
        rows.append({"network": name, **_rate(network, n, settings.n_runs)})
        rows[-1]["share"] = rows[-1]["rate"] / best
        say(f"  {name}: {rows[-1]['rate'] / 1e9:.3g} Gflop/s of {best / 1e9:.3g}")
    return {"rows": rows, "matrix_product": best, "matrix_size": size}


def _rate(network: Network, n: int, n_runs: int) -> dict[str, Any]:
    solver = slowpoints.NewtonKrylov()
    per_iteration = _flops_of_newton_krylov(network, solver)
    with jax.enable_x64(True):  # as in the default: states and residuals in float64
        F = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), network.F)
        x, u = jnp.asarray(network.draw(n, seed=0), jnp.float64), jnp.asarray(network.u, float)

        def search() -> Any:
            options = {"max_iters": 50, "tol_q": 0.0, "tol_dq": 0.0}
            return slowpoints.optimize_batch(F, x, u, solver=solver, **options)

        search()
        seconds, _, fps = median_time(search, n_runs=n_runs)
    n_iters = int(np.sum(np.asarray(fps.n_iters)))
    return {
        "flops_per_iteration": per_iteration,
        "iterations": n_iters,
        "seconds": seconds,
        "rate": n_iters * per_iteration / seconds,
    }


def _flops_of_newton_krylov(network: Network, solver: slowpoints.NewtonKrylov) -> float:
    """Return the floating-point operations of one iteration of one row."""
    x = jnp.asarray(network.draw(1, seed=0))
    F = jax.vmap(lambda x: network.F(x, jnp.asarray(network.u)))
    value, jvp = jax.linearize(F, x)
    n_vectors, n_states = min(solver.n_vectors, x.size), x.size
    evaluations = 2 + solver.n_lengths  # residual, linearisation, trial states
    krylov = 8 * n_vectors**2 * n_states  # four sums over the basis for each vector
    return evaluations * _flops(F, x) + n_vectors * _flops(jvp, value) + krylov


def _flops(f: Callable[..., Any], x: jax.Array) -> float:
    cost = jax.jit(f).lower(x).compile().cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost)["flops"])


# ---- deduplication -----------------------------------------------------------------------------


def deduplication(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Time `unique` beside `get_unique` of `canns`."""
    rows = []
    for n, n_distinct in ((20_000, 10_000), (100_000, 27)):
        if settings.n_inits < 1024:
            n, n_distinct = n // 100, min(n_distinct, n // 200)
        x, q = _copies(n, n_distinct)
        row: dict[str, Any] = {"n": n, "n_states": 64, "n_distinct": n_distinct}
        fps = slowpoints.FixedPoints(xstar=jnp.asarray(x), qstar=jnp.asarray(q))
        first, _ = stopwatch(slowpoints.unique, fps)
        seconds, row["n_runs"], out = median_time(slowpoints.unique, fps, n_runs=settings.n_runs)
        row |= {"seconds": seconds, "compile_seconds": first - seconds}
        row["found"] = int(np.sum(np.asarray(out.valid)))
        try:
            theirs = canns_module("fixed_points").FixedPoints(xstar=x, qstar=q)
        except ImportError as error:
            row["canns_skipped"] = str(error)
        else:
            row["canns_seconds"], out = stopwatch(theirs.get_unique)
            row["canns_found"] = out.n
        rows.append(row)
        say(f"  {n} rows, {n_distinct} distinct: {seconds:.3g} s, found {row['found']}")
    return rows


def _copies(n: int, n_distinct: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` rows of 64 states that are copies of distinct points up to 1e-4, and their q."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_distinct, 64))[rng.permutation(n) % n_distinct]
    x += 1e-4 / 16 * rng.uniform(-1, 1, x.shape)
    return x.astype(np.float32), rng.uniform(0, 1e-10, n).astype(np.float32)


ALL: dict[str, Callable[..., Any]] = {
    "from-start": from_start.from_start,
    "compare": compare,
    "field": field.field,
    "canns-example": field.canns_example,
    "full-recall": full_recall,
    "size": with_size,
    "inits": with_inits,
    "rate": arithmetic_rate,
    "unique": deduplication,
    "branches": branches.along_inputs,
}
"""The experiments by the names that the command line has for them, in their order."""
