"""`slowpoints find`."""

import contextlib
import io
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from slowpoints._cli.arrays import trajectories
from slowpoints._cli.command import (
    INTERRUPTED,
    NOTHING_FOUND,
    Command,
    Option,
    check_writable,
    in_options,
    sentence,
    typed,
)
from slowpoints._cli.interrupt import first_interrupt_asks
from slowpoints._cli.model import MODEL_HELP, importable, load_model, load_object
from slowpoints._cli.options import arguments_of_search, finder_options, option_names
from slowpoints._cli.record import as_json, points_as_json, record_of_search, save_with_record
from slowpoints._finder.fixed_point_finder import FixedPointFinder
from slowpoints._pipeline.across_processes import refused_together
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import counted

_HELP = f"""Find the fixed points and slow points of a network, and write them to a file.

{MODEL_HELP}

\b
Examples:
  slowpoints find model.py:net --states states.npy --inputs 0,0 --noise-scale 0.1
  slowpoints find model.py:net --checkpoint net.msgpack --states states.npy \\
      --inputs 0,0,0 --n-inits 4096 --seed 1 --out points.npz
  slowpoints find model.py:net --states states.npy --coverage 0.99 --json

The states are those that the network visits, an array [trials, time, n_states]. Progress goes to
standard error. Ctrl-C ends the search early, and what was found until then is written.
"""


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how to get a network."""
    section = "The network"
    for option in (
        click.option(
            "--signature",
            type=click.Choice(
                ["state_input", "input_state", "scan", "batched", "batched_sequence"]
            ),
            help="How to call the network, if not in the usual way of its framework.",
            section=section,
            cls=Option,
        ),
        click.option(
            "--checkpoint",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with the weights of a BrainPy model, written by save_checkpoint. Without "
            "it, the weights are those that MODEL has.",
            section=section,
            cls=Option,
        ),
    ):
        function = option(function)
    return function


class _Find(Command):
    """The command, of which a mistake on the command line is told to the other processes too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; if they are refused, say so at once, and then in all processes."""
        flags = [arg for arg in args if arg in ("--across-processes", "--no-across-processes")]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if flags[-1:] != ["--across-processes"]:
                raise
            error.show()  # JAX ends this process if the others do not come
            _refuse_together(error)
            ctx.exit(error.exit_code)


@click.command(
    "find",
    cls=_Find,
    help=_HELP,
    short_help="Find the points of a network, and write them.",
    names=option_names(),
)
@click.argument("model")
@model_options
@finder_options
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="fixed_points.npz",
    help="File for the points, with the account of the search.",
    section="What to write",
    cls=Option,
)
@click.option(
    "--all-rows",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for all rows of the search, kept or not, for your own analysis; of the first "
    "process, if there are several.",
    section="What to write",
    cls=Option,
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace files that are there already.",
    section="What to write",
    cls=Option,
)
@click.option("--json", "to_json", is_flag=True, help="Print the result as JSON.", cls=Option)
@click.pass_context
def find(
    context: click.Context,
    model: str,
    checkpoint: Path | None,
    signature: str | None,
    out: Path,
    all_rows: Path | None,
    force: bool,
    to_json: bool,
    **options: Any,
) -> None:
    """Find fixed points, as the help of the command says."""
    search = {name: options.pop(name) for name in arguments_of_search()}
    if options["across_processes"]:
        _join_processes()
    together = partial(refused_together, "find", options["across_processes"])
    with together():
        _check_files(out, all_rows)
        network = load_model(*context.with_resource(importable(model)), checkpoint, signature)
        settings = options | {
            "solver": chosen_solver(context, options["solver"]),
            "mesh": None if options["mesh"] == "none" else options["mesh"],
        }
    try:
        finder = FixedPointFinder(network, **settings)  # tells the other processes by itself
    except (TypeError, ValueError) as error:
        raise click.UsageError(sentence(error, option_names())) from error
    with together():
        _complete(search, network, say=finder.verbose)
        given = finder._check(**search)
        if not force:  # after all else, so that a command with another mistake is not sent twice
            _check_that_new(out, all_rows)

    started = time.perf_counter()
    fps, rows, stopped = _search(finder, search, sys.stderr if to_json else sys.stdout)
    inputs = search["inputs"]
    record = record_of_search(
        finder._account(fps, rows, given.F),
        command=typed(context),
        settings=options | {name: search[name] for name in ("n_inits", "noise_scale")},
        inputs=inputs if len(inputs) == 1 else None,
        interrupted=stopped,
        rounds=finder.rounds and str(finder.rounds),
        seconds=round(time.perf_counter() - started, 3),
        **_processes(options["across_processes"]),
    )
    if record["process"] == 0:
        save_with_record(fps, out, record)
        if all_rows is not None:
            rows.save(all_rows)
        if to_json:
            files = {"out": str(out), "all_rows": all_rows and str(all_rows)}
            click.echo(as_json({**files, **record, "points": points_as_json(fps)}))
        elif finder.verbose:
            show = f"{context.find_root().command_path} show {shlex.quote(str(out))}"
            click.echo(f"\nWritten: {out}. `{show}` prints a table of the points.")
    _exit_unless_found(context, fps, out, f"{rows.n} of {search['n_inits']}" if stopped else None)


def _complete(search: dict[str, Any], network: Any, say: bool) -> None:
    """Read the trajectories, and put in what the command line leaves out."""
    search["state_traj"] = trajectories(search["state_traj"])
    if (valid := search["valid_bxt"]) is not None:
        search["valid_bxt"] = valid[None] if valid.ndim == 1 else valid
    search["inputs"] = inputs_of(network, search["inputs"], say=say)


def _search(
    finder: FixedPointFinder, search: dict[str, Any], to: Any
) -> tuple[FixedPoints, FixedPoints, bool]:
    """Return the points, all rows, and whether Ctrl-C ended the search; print its progress `to`."""
    n_inits, n_done, stopped = search["n_inits"], 0, False
    with first_interrupt_asks(_answer(finder)) as interrupt:

        def progress(rows: FixedPoints) -> None:
            nonlocal n_done, stopped
            n_done += rows.n
            if interrupt.requested and n_done < n_inits:
                stopped = True
                raise StopIteration

        with contextlib.redirect_stdout(_InOptions(to)):
            fps, rows = finder.find_fixed_points(**search, progress=progress)
    return fps, rows, stopped and (finder.rounds is None or finder.rounds.ended_by == "progress")


def _exit_unless_found(
    context: click.Context, fps: FixedPoints, out: Path, searched: str | None
) -> None:
    """Exit with another code than 0 if the search was interrupted, or kept no point.

    `searched` says how many of the states an interrupted search got to.
    """
    if searched is not None:
        click.echo(
            f"Interrupted: {searched} states were searched from, and {out} holds what "
            f"these led to, {counted(fps.status, 'distinct')}.",
            err=True,
        )
        context.exit(INTERRUPTED)
    if fps.n == 0:
        click.echo("No point was kept; the account says why.", err=True)
        context.exit(NOTHING_FOUND)


class _InOptions(io.TextIOBase):
    """Passes text on, with options in place of the names of arguments."""

    def __init__(self, to: Any):
        self._to = to

    def write(self, text: str) -> int:
        self._to.write(in_options(text, option_names()))
        return len(text)

    def flush(self) -> None:
        self._to.flush()


def _files(out: Path, all_rows: Path | None) -> dict[str, Path]:
    return {"--out": out} | ({} if all_rows is None else {"--all-rows": all_rows})


def _check_files(out: Path, all_rows: Path | None) -> None:
    files = _files(out, all_rows)
    for option, file in files.items():
        hint = f"'{option}'"
        if file.suffix != ".npz":
            expected = "expected the name of a file that ends in .npz"
            raise click.BadParameter(f"{str(file)!r}: {expected}.", param_hint=hint)
        check_writable(file, option)
    if len({file.resolve() for file in files.values()}) < len(files):
        raise click.UsageError("--out and --all-rows are the same file.")


def _check_that_new(out: Path, all_rows: Path | None) -> None:
    for option, file in _files(out, all_rows).items():
        if file.exists():
            raise click.BadParameter(
                f"{str(file)!r} is there already; --force replaces it.", param_hint=f"'{option}'"
            )


def inputs_of(network: Any, given: np.ndarray | None, *, say: bool = False) -> np.ndarray:
    """Return the inputs to search under: those given, or zeros.

    Raises:
        click.UsageError: if none are given, and the network does not say how many it takes.
    """
    if given is not None:
        return given if given.ndim == 2 else given[None]
    if network.n_inputs is None:
        raise click.UsageError(
            "Missing option '--inputs': this network does not say how many inputs it takes; write "
            "--inputs 0,0 for two inputs of 0, for example."
        )
    if say:
        click.echo(
            f"Without --inputs, the search is under {network.n_inputs} inputs of 0.", err=True
        )
    return np.zeros((1, network.n_inputs))


def chosen_solver(context: click.Context, name: str) -> Any:
    """Return what the class takes for the value of --solver."""
    if name == "default":
        return None
    if ":" not in name:
        return name
    return load_object(*context.with_resource(importable(name)))


def _answer(finder: FixedPointFinder) -> str:
    """Return what the first Ctrl-C is answered with."""
    again = "Press Ctrl-C again to quit at once, without a result."
    if getattr(finder.solver, "couples_rows", False):
        return f"All states are searched from at the same time, so no part can be kept. {again}"
    return f"Ending the search after the states in work. {again}"


def _join_processes() -> None:
    """Become one of the processes of a job, as the cluster's launcher says."""
    import jax

    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        first_line = str(error).splitlines()[0].rstrip(".")
        raise click.UsageError(
            "--across-processes needs a job of several processes, such as one that srun or mpirun "
            f"started, which JAX did not find here: {first_line}."
        ) from error


def _refuse_together(error: click.UsageError) -> None:
    """Join the job only to tell the other processes that this one refuses its command line."""
    try:
        _join_processes()
    except click.UsageError:
        return  # there are no others
    with (
        contextlib.suppress(click.UsageError),
        refused_together("find", across_processes=True),
    ):
        raise click.UsageError(error.format_message())  # which names the option


def _processes(across: bool) -> dict[str, int]:
    """Return the number of this process, and of all."""
    if not across:
        return {"process": 0, "n_processes": 1}
    import jax

    return {"process": jax.process_index(), "n_processes": jax.process_count()}
