"""The command line, `python -m slowpoints`. What only a command needs loads when that runs."""

import tempfile
from pathlib import Path

import click

from slowpoints._core.version import __version__


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slowpoints")
@click.pass_context
def main(context: click.Context) -> None:
    """Find fixed points and slow points of recurrent networks."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command(context_settings={"show_default": True})
@click.option(
    "--cell", type=click.Choice(["tanh", "gru", "lstm"]), default="tanh", help="Kind of unit."
)
@click.option("--units", type=click.IntRange(min=1), default=24, help="Number of units.")
@click.option("--bits", type=click.IntRange(1, 6), default=3, help="Number of bits to store.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Seed of the weights, the trials and the search.",
)
@click.option("--steps", type=click.IntRange(min=1), default=2000, help="Training steps.")
@click.option(
    "--solver",
    type=click.Choice(["default", "adam"]),
    default="default",
    help="How to search; `adam` is plain gradient descent.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo-results",
    help="Folder for the results; made if it is not there.",
)
def demo(cell: str, units: int, bits: int, seed: int, steps: int, solver: str, out: Path) -> None:
    """Train a flip-flop network and find its fixed points.

    The network stores bits: each is set by the sign of the last pulse on its input. One with B bits
    should have 3^B fixed points: each bit at one of its two memories or on the ridge between them.
    Prints them as a table; writes two figures, the network and the fixed points.
    """
    _make_writable(out)
    from slowpoints._demo import run

    try:
        run(cell, units, bits, seed, out, steps, None if solver == "default" else solver)
    except OSError as error:
        raise click.ClickException(str(error)) from error


def _make_writable(folder: Path) -> None:
    """Make the folder, and find out before any work is done whether results can go there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise click.BadParameter(
            f"cannot write to {str(folder)!r}: {error.strerror}", param_hint="'--out'"
        ) from error
