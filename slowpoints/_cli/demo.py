"""`slowpoints demo`."""

import tempfile
from pathlib import Path

import click

from slowpoints._cli.command import Command, Option

_HELP = """Train a flip-flop network and find its fixed points.

The network stores bits: each is set by the sign of the last pulse on its input. One with B bits
should have 3^B fixed points: each bit at one of its two memories or on the ridge between them.
Prints them as a table; writes two figures, the network and the fixed points, and the files with
which the other commands can be tried.

\b
Examples:
  slowpoints demo
  slowpoints demo --cell gru --units 32 --seed 1 --out gru-results
"""


@click.command(
    "demo",
    cls=Command,
    help=_HELP,
    short_help="Train a flip-flop network and find its fixed points.",
)
@click.option(
    "--cell",
    type=click.Choice(["tanh", "gru", "lstm"]),
    default="tanh",
    help="Kind of unit.",
    cls=Option,
)
@click.option(
    "--units", type=click.IntRange(min=1), default=24, help="Number of units.", cls=Option
)
@click.option(
    "--bits", type=click.IntRange(1, 6), default=3, help="Number of bits to store.", cls=Option
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Seed of the weights, the trials and the search.",
    cls=Option,
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=2000, help="Training steps.", cls=Option
)
@click.option(
    "--solver",
    type=click.Choice(["default", "adam"]),
    default="default",
    help="How to search; `adam` is plain gradient descent.",
    cls=Option,
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo-results",
    help="Folder for the results, made if it is not there; those of an earlier demo are replaced.",
    cls=Option,
)
def demo(cell: str, units: int, bits: int, seed: int, steps: int, solver: str, out: Path) -> None:
    """Run the demo, as the help of the command says."""
    _make_writable(out)
    from slowpoints._demo import run

    run(cell, units, bits, seed, out, steps, None if solver == "default" else solver)


def _make_writable(folder: Path) -> None:
    """Make the folder, and find out before any work is done whether results can go there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise click.BadParameter(
            f"cannot write to {str(folder)!r}: {error.strerror}", param_hint="'--out'"
        ) from error
