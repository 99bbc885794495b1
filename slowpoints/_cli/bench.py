"""`slowpoints bench`."""

import contextlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from slowpoints._cli.arrays import ARRAY_HELP, ArrayFile, Inputs, trajectories
from slowpoints._cli.command import Command, Option
from slowpoints._cli.find import chosen_solver, inputs_of, model_options
from slowpoints._cli.model import MODEL_HELP, importable, load_model
from slowpoints._cli.options import SolverName, option_names
from slowpoints._cli.record import as_json, plain
from slowpoints._core.version import __version__
from slowpoints._finder.fixed_point_finder import FixedPointFinder
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status

_HELP = f"""Measure how long a search takes on this machine.

Without MODEL, the networks store three bits, as those of `slowpoints demo` do; they are trained
first, briefly, which is not measured. {MODEL_HELP}

\b
Examples:
  slowpoints bench
  slowpoints bench --units 64,128,256 --cell gru
  slowpoints bench model.py:net --states states.npy --inputs 0,0 --n-inits 4096

A line of the table is one network. "first" is the first search in the process, which compiles it
and also linearises the points; "again" is the median of further searches from other states. "per
row" and "rows/s" are about the latter.
"""

_N_BITS, _N_STEPS = 3, 400
"""What the networks learn, and in how many steps: most have their points by then."""

_COLUMNS = {
    "network": "network",
    "states": "n_states",
    "rows": "n_rows",
    "first [s]": "first_seconds",
    "again [s]": "again_seconds",
    "per row [ms]": "milliseconds_per_row",
    "rows/s": "rows_per_second",
    "at fixed points": "n_at_fixed_points",
    "points": "n_points",
}


class _Case(NamedTuple):
    """A network, the states to search from, and the input."""

    name: str
    network: Any
    states: np.ndarray
    inputs: np.ndarray


class Units(click.ParamType):
    """Numbers of units with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the numbers."""
        if not isinstance(value, str):
            return value
        try:
            numbers = [int(number) for number in value.split(",")]
        except ValueError:
            numbers = []
        if not numbers or min(numbers) < 1:
            self.fail(f"{value!r} is not like 64,128.", param, ctx)
        return numbers


@click.command(
    "bench",
    cls=Command,
    help=_HELP,
    short_help="Measure how long searches take here.",
    names=option_names(),
)
@click.argument("model", required=False)
@model_options
@click.option(
    "--states",
    type=ArrayFile(),
    help=f"States that MODEL visits, [trials, time, n_states], in {ARRAY_HELP}.",
    section="The network",
    cls=Option,
)
@click.option(
    "--inputs",
    type=Inputs(),
    help="The input of MODEL, such as 0,0; by default zeros, if it says how many.",
    section="The network",
    cls=Option,
)
@click.option(
    "--units",
    type=Units(),
    default="64,128",
    help="Sizes of the networks, without MODEL.",
    section="The network",
    cls=Option,
)
@click.option(
    "--cell",
    type=click.Choice(["tanh", "gru", "lstm"]),
    default="tanh",
    help="Their kind of unit.",
    section="The network",
    cls=Option,
)
@click.option(
    "--n-inits",
    type=click.IntRange(min=1),
    default=1024,
    help="States to search from.",
    section="The search",
    cls=Option,
)
@click.option(
    "--noise-scale",
    type=click.FloatRange(min=0),
    default=0.1,
    help="Standard deviation of the noise that is added to them.",
    section="The search",
    cls=Option,
)
@click.option(
    "--solver",
    type=SolverName(),
    default="default",
    help="How to search.",
    section="The search",
    cls=Option,
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    help="Searches after the first.",
    section="The search",
    cls=Option,
)
@click.option("--json", "to_json", is_flag=True, help="Print the numbers as JSON.", cls=Option)
@click.pass_context
def bench(
    context: click.Context,
    model: str | None,
    states: np.ndarray | None,
    inputs: np.ndarray | None,
    checkpoint: Path | None,
    signature: str | None,
    units: list[int],
    cell: str,
    to_json: bool,
    **settings: Any,
) -> None:
    """Measure, as the help of the command says."""
    settings["solver"] = chosen_solver(context, settings["solver"])
    if model is None:
        for name, value in (("states", states), ("inputs", inputs), ("checkpoint", checkpoint)):
            if value is not None:
                raise click.UsageError(f"--{name} is about MODEL, which is not given.")
        cases = (_flip_flop(cell, n_units) for n_units in units)
    else:
        if states is None:
            raise click.UsageError("Missing option '--states': MODEL is searched from its states.")
        source, name = context.with_resource(importable(model))
        network = load_model(source, name, checkpoint, signature)
        case = _Case(model, network, trajectories(states), inputs_of(network, inputs))
        cases = iter([case])
    with contextlib.redirect_stdout(sys.stderr):  # of what a network prints
        measured = [_measured(case, **settings) for case in cases]
    machine = _machine()
    if to_json:
        click.echo(as_json(plain({"machine": machine, "searches": measured})))
        return
    click.echo(_table(measured))
    click.echo(
        f"slowpoints {machine['slowpoints']}, JAX {machine['jax']}, {machine['device']}, "
        f"{machine['n_cores']} cores"
    )


def _flip_flop(cell: str, n_units: int) -> _Case:
    """Train a network, and let it run."""
    import jax
    from tqdm import tqdm

    from slowpoints.flipflop import FlipFlopNetwork, train, trials

    k_weights, k_train, k_test = jax.random.split(jax.random.key(0), 3)
    network = FlipFlopNetwork(cell, n_units, _N_BITS, k_weights)
    name = f"{n_units} {cell} units"
    with tqdm(total=_N_STEPS, desc=f"training {name}", unit="step", leave=False) as bar:
        for n_done, _ in train(network, k_train, _N_STEPS):
            bar.update(n_done)
    pulses, _ = trials(k_test, 64, 64, _N_BITS)
    states = np.asarray(network.states(pulses, network.rest(64)))
    return _Case(name, network, states, np.zeros((1, _N_BITS)))


def _measured(
    case: _Case, n_inits: int, noise_scale: float, solver: Any, repeats: int
) -> dict[str, Any]:
    """Search `1 + repeats` times, each time from other states."""
    finder = FixedPointFinder(case.network, solver=solver, verbose=False)

    def search() -> tuple[float, FixedPoints, FixedPoints]:
        started = time.perf_counter()
        found = finder.find_fixed_points(case.states, case.inputs, n_inits, noise_scale)
        return time.perf_counter() - started, *found

    first, fps, rows = search()
    further = [search()[0] for _ in range(repeats)]
    again = statistics.median(further)
    return {
        "network": case.name,
        "n_states": rows.n_states,
        "n_rows": rows.n,
        "first_seconds": first,
        "again_seconds": again,
        "further_seconds": further,
        "milliseconds_per_row": 1e3 * again / rows.n,
        "rows_per_second": rows.n / again,
        "n_at_fixed_points": int(np.sum(rows.status == Status.FIXED_POINT)),
        "n_points": fps.n,
    }


def _table(measured: list[dict[str, Any]]) -> str:
    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) and value < 1000 else f"{value:.0f}"

    lines = [list(_COLUMNS)]
    for line in measured:
        values = [line[name] for name in _COLUMNS.values()]
        lines.append([value if isinstance(value, str) else text(value) for value in values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _machine() -> dict[str, Any]:
    import jax

    device = jax.local_devices()[0]
    # Where that exists, the cores that this process may use, and not all of the machine's.
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "slowpoints": __version__,
        "jax": jax.__version__,
        "platform": device.platform,
        "device": device.device_kind,
        "n_devices": jax.local_device_count(),
        "n_cores": len(affinity(0)) if affinity else os.cpu_count(),
    }
