"""The command line, `slowpoints` or `python -m slowpoints`; each command has a file of its own.

BrainPy, Matplotlib and scikit-learn load only if a command that runs needs them.
"""

import click

from slowpoints._cli.bench import bench
from slowpoints._cli.command import EXIT_CODES
from slowpoints._cli.demo import demo
from slowpoints._cli.find import find
from slowpoints._cli.plot import plot
from slowpoints._cli.show import show
from slowpoints._core.version import __version__

_HELP = """Find fixed points and slow points of recurrent networks.

\b
Examples:
  slowpoints demo
  slowpoints find model.py:net --states states.npy --inputs 0,0 --out fps.npz
  slowpoints show fps.npz
  slowpoints plot fps.npz --states states.npy -o figure.pdf

`slowpoints COMMAND --help` describes each command.
"""


@click.group(
    invoke_without_command=True,
    help=_HELP,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="slowpoints")
@click.pass_context
def main(context: click.Context) -> None:
    """Print the help if no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (demo, find, show, plot, bench):
    main.add_command(_command)
