"""The command line, `python -m tests.benchmarks`."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import click

from . import figures, networks, stored, tables
from .experiments import ALL, Settings
from .timing import environment

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("parts", type=click.Choice(list(ALL)), nargs=-1)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmark-results"),
    help="Folder for results.json and the figures. Trained networks and the sets of known fixed "
    "points are kept there, and used again.",
)
@click.option(
    "--networks",
    "names",
    type=click.Choice(networks.NAMES),
    multiple=True,
    help="Compare the tools on this network; may be repeated. All by default.",
)
@click.option(
    "--n-inits", type=click.IntRange(min=2), default=Settings.n_inits, help="Initial states."
)
@click.option(
    "--n-runs", type=click.IntRange(min=1), default=Settings.n_runs, help="Runs of short searches."
)
@click.option(
    "--peer-limit",
    type=float,
    default=Settings.peer_limit,
    help="Seconds; peers that would take longer are timed on fewer states.",
)
@click.option(
    "--canns-iters",
    type=click.IntRange(1, 5000),
    default=Settings.canns_iters,
    help="How many of its 5000 iterations canns is given.",
)
@click.option(
    "--fixed-point-finder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of Golub & Sussillo's FixedPointFinder, to be compared as well.",
)
@click.option(
    "--run-canns",
    is_flag=True,
    help="In canns-example, run canns as well: up to two minutes for each of ten searches.",
)
@click.option("--write-docs", is_flag=True, help="Run nothing; put the results into the docs.")
@click.option(
    "--draw-docs",
    is_flag=True,
    help="Run nothing; draw the figures of the docs anew, from the tables that are there.",
)
def main(
    parts: tuple[str, ...],
    out: Path,
    names: tuple[str, ...],
    n_inits: int,
    n_runs: int,
    peer_limit: float,
    canns_iters: int,
    fixed_point_finder: Path | None,
    run_canns: bool,
    write_docs: bool,
    draw_docs: bool,
) -> None:
    """Measure how fast and how complete searches are, beside other tools.

    Takes some twenty minutes on two cores that do nothing else; PARTS runs only these. Prints
    tables, and writes them as results.json, with figures.
    """
    if draw_docs:
        _draw_docs()
        return
    out.mkdir(parents=True, exist_ok=True)
    if write_docs:
        _write_docs(out)
        return
    settings = Settings(
        folder=out,
        networks=names or networks.NAMES,
        n_inits=n_inits,
        n_runs=n_runs,
        peer_limit=peer_limit,
        canns_iters=canns_iters,
        fixed_point_finder=fixed_point_finder,
        run_canns=run_canns,
    )
    for name, experiment in ALL.items():
        if parts and name not in parts:
            continue
        click.echo(f"{tables.SECTIONS[name][0]} ({name})")
        before, started = environment(), time.perf_counter()
        result = experiment(settings, click.echo)
        seconds = time.perf_counter() - started
        results = _read(out)
        results[name] = {"environment": before, "seconds": seconds, "result": result}
        (out / "results.json").write_text(json.dumps(results, indent=1))
        click.echo(f"\n{tables.section(name, results)}\n\n{name} took {seconds:.0f} s.\n")
    for path in figures.draw_all(_read(out), out).values():
        click.echo(f"Wrote {path}.")


def _read(out: Path) -> tables.Results:
    path = out / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _write_docs(out: Path) -> None:
    results = _read(out)
    if not results:
        raise click.ClickException(f"there is no results.json in {out}")
    folder = _PAGE.parent / "figures"
    folder.mkdir(exist_ok=True)
    addresses = {}
    for name, path in figures.draw_all(results, out).items():
        shutil.copy(path, folder)
        addresses[name] = f"figures/{path.name}"
    tables.write_docs(_PAGE, results, addresses)
    click.echo(f"Wrote {_PAGE}.")
    _draw_docs(only=("front",))  # of which one part may be older than these results


def _draw_docs(only: Sequence[str] | None = None) -> None:
    folder = _PAGE.parent / "figures"
    folder.mkdir(exist_ok=True)
    for path in figures.draw_all(stored.read(_PAGE), folder, only).values():
        click.echo(f"Wrote {path}.")


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks")
