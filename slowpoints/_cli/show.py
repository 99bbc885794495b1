"""`slowpoints show`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from slowpoints._cli.command import Command, Option, in_options
from slowpoints._cli.options import option_names
from slowpoints._cli.record import as_json, load_record, points_as_json, record_of_search
from slowpoints._pipeline.account import account
from slowpoints._points.fixed_points import FixedPoints

_HELP = """Print the points in a file, and what became of all rows of the search.

\b
Examples:
  slowpoints show fixed_points.npz
  slowpoints show fixed_points.npz --dt 10 --max-rows 100
  slowpoints show fixed_points.npz --json | jq '.points[] | select(.is_stable) | .xstar'

FILE is what `slowpoints find`, `slowpoints demo` or FixedPoints.save wrote. The table has one line
per point; time constants are in steps, or in the unit of --dt. The account tells how the search of
each row ended, and which rule dropped points. `find` stores it in FILE.
"""


@click.command(
    "show",
    cls=Command,
    help=_HELP,
    short_help="Print the points in a file.",
    names={"max_rows": "--max-rows", "dt": "--dt"},
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--dt",
    type=click.FloatRange(min=0, min_open=True),
    help="How long a step takes, such as 10 for 10 ms; times are then in this unit.",
    cls=Option,
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=0),
    default=30,
    help="The most lines of the table.",
    cls=Option,
)
@click.option(
    "--all-rows",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with all rows, for the account of points that FixedPoints.save wrote.",
    cls=Option,
)
@click.option("--json", "to_json", is_flag=True, help="Print all of it as JSON.", cls=Option)
def show(file: Path, dt: float | None, max_rows: int, all_rows: Path | None, to_json: bool) -> None:
    """Print the points and the account, as the help of the command says."""
    fps = FixedPoints.load(file)
    record = load_record(file)
    if record is None and all_rows is not None:
        told = account(fps, FixedPoints.load(all_rows))
        record = record_of_search(told, settings=None)
    if to_json:
        points = points_as_json(fps, 1.0 if dt is None else dt)
        click.echo(as_json({**(record or {"account": None}), "points": points}))
        return
    fps.print_summary(max_rows=max_rows, dt=dt)
    click.echo()
    for line in _account_lines(record):
        click.echo(in_options(line, option_names()))


def _account_lines(record: dict[str, Any] | None) -> Iterator[str]:
    if record is None:
        yield (
            "There is no account of the search, as `slowpoints find` did not write this file. "
            "--all-rows takes a file with all rows."
        )
        return
    told, settings = record["account"], record["settings"]
    if settings is None:
        yield "The account, as far as the search had the default settings:"
    yield f"Of {told['n_rows']} start{'s' * (told['n_rows'] != 1)}:"
    yield from (f"  {line}" for line in told["lines"])
    if settings is not None and record["interrupted"]:
        yield (
            f"The search was interrupted: {told['n_rows']} of {settings['n_inits']} states were "
            "searched from."
        )
    if (n_processes := record.get("n_processes", 1)) > 1:
        yield f"These are the starts of the first of {n_processes} processes."
    if record.get("rounds"):
        yield record["rounds"]
    if "command" in record:
        versions = record["versions"]
        yield (
            f"Found by slowpoints {versions['slowpoints']} and JAX {versions['jax']} in "
            f"{record['seconds']:.1f} s: {record['command']}"
        )
