"""How times and memory are taken, and on what machine."""

import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import slowpoints

_PACKAGES = ("jax", "numpy", "brainpy", "optimistix", "scipy", "canns", "torch")
_SHORT = 2.0
"""Runs that take longer than this many seconds are not repeated."""


class Measured(NamedTuple):
    """What a search cost.

    Attributes:
        seconds: a compiled run from all rows: the median, or an estimate from fewer rows.
        n_runs: how many runs the median is of; 0 for an estimate.
        compile_seconds: what a first call took longer than a compiled one.
        n_rows: how many rows were searched.
    """

    seconds: float
    n_runs: int
    compile_seconds: float
    n_rows: int

    @property
    def estimated(self) -> bool:
        """Whether the time is an estimate from fewer rows."""
        return self.n_runs == 0


def stopwatch(f: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Return how long a call took, until all its results are there, and the results."""
    started = time.perf_counter()
    out = jax.block_until_ready(f(*args))
    return time.perf_counter() - started, out


def median_time(f: Callable[..., Any], *args: Any, n_runs: int = 5) -> tuple[float, int, Any]:
    """Return the median time of a call that is compiled, of how many runs, and the results.

    Of at least `n_runs` runs, and more of short ones; but of only one if it takes long.
    """
    seconds, out = stopwatch(f, *args)
    times = [seconds]
    while times[0] < _SHORT and (len(times) < n_runs or (sum(times) < 1 and len(times) < 25)):
        times.append(stopwatch(f, *args)[0])
    return statistics.median(times), len(times), out


def measure(
    search: Callable[[Any], Any],
    x: np.ndarray,
    *,
    probe: int | None = None,
    compiles: bool = True,
    n_runs: int = 5,
    limit: float = np.inf,
) -> tuple[Measured, Any]:
    """Time a search.

    Args:
        search: what to time, a function of the initial states.
        x: `[n, n_states]` the initial states.
        probe: compile, and predict the time, with this many rows; `None` uses all.
        compiles: whether the first call compiles, and so is left out of the median.
        n_runs: the least number of runs of which to take the median.
        limit: searches predicted to take longer are not run. The prediction is returned then.

    Returns:
        The times, and what the last run returned (for fewer rows if the time is an estimate).
    """
    rows = x if probe is None else x[:probe]
    first, out = stopwatch(search, rows)
    if not compiles and probe is None:
        return Measured(first, 1, 0.0, len(x)), out
    if probe is not None:
        again, out = stopwatch(search, rows)
        predicted = again * len(x) / len(rows)
        if predicted > limit:
            return Measured(predicted, 0, first - again, len(rows)), out
    seconds, n, out = median_time(search, x, n_runs=n_runs)
    warm = seconds if probe is None else again
    return Measured(seconds, n, max(first - warm, 0.0), len(x)), out


class Turns(NamedTuple):
    """What a search cost that took turns with others.

    Attributes:
        seconds: the median time of a run after the first.
        n_runs: how many runs the median is of.
        first_seconds: the time of the first run, which compiles.
        out: what the last run returned.
    """

    seconds: float
    n_runs: int
    first_seconds: float
    out: Any


def in_turn(
    searches: dict[str, Callable[[], Any]],
    *,
    warm_up: dict[str, Callable[[], Any]] | None = None,
    n_runs: int = 5,
    limit: float = np.inf,
    a_turn: float = 0.25,
    rest: float = 0.1,
) -> dict[str, Turns]:
    """Time searches one after the other, again and again, so that all meet the same machine.

    Args:
        searches: what to time, by name.
        warm_up: what to run first instead of the search itself, where there is a shorter way to
            compile it.
        n_runs: the most rounds, in each of which a short search runs several times.
        limit: a search that has taken more seconds than this sits out the further rounds.
        a_turn: the fewest seconds of a turn. A short search is repeated, since what ran before it
            has driven its data from the caches, and put threads to sleep.
        rest: the seconds of idleness before each turn. The threads of OpenBLAS spin for some 50 ms
            after a product, and would take a core from whoever is next.
    """
    firsts = searches | (warm_up or {})
    first = {name: stopwatch(firsts[name])[0] for name in searches}
    times: dict[str, list[float]] = {name: [] for name in searches}
    outs = {}
    for _ in range(n_runs):
        for name, search in searches.items():
            if sum(times[name]) <= limit:
                turn = []
                time.sleep(rest)
                while not turn or sum(turn) < a_turn:
                    seconds, outs[name] = stopwatch(search)
                    turn.append(seconds)
                times[name] += turn
    return {
        name: Turns(statistics.median(times[name]), len(times[name]), first[name], outs[name])
        for name in searches
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the `p` of the power law `value ~ size^p` that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes.

    `ru_maxrss` will not do where there is `/proc`: there, a process starts with its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        unit = 1 if platform.system() == "Darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_fresh_process(f: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns in a new Python process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(f, *args).result()


def environment() -> dict[str, Any]:
    """Return what times depend on: machine, versions, date, and what else is running."""
    packages = {"slowpoints": slowpoints.__version__}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        n_cores = len(os.sched_getaffinity(0))
        load = round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        n_cores, load = os.cpu_count(), None
    return {
        "cpu": _cpu(),
        "cores": n_cores,
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "packages": packages,
        "date": datetime.date.today().isoformat(),
        "load_before": load,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
