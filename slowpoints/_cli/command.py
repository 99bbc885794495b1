"""What all commands share: errors in one sentence, exit codes, help in sections."""

import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

EXIT_CODES = """\b
Exit codes:
  0    done; for `find`: points were found
  1    error: the model, a file or the search
  2    error: the command line
  3    `find` searched and kept no point
  130  Ctrl-C"""

NOTHING_FOUND, INTERRUPTED = 3, 130
"""Exit codes beside click's own: 0, 1 for errors, and 2 for errors of the command line."""

_TRACEBACK, _TYPED = "slowpoints.traceback", "slowpoints.typed"
_PACKAGE = Path(__file__).parents[1]


class Option(click.Option):
    """An option that is listed under a title of its own in the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command whose errors are one sentence on standard error.

    Args:
        *args: see `click.Command`.
        names: the options that stand for arguments of functions, so that errors about these
            arguments name the options.
        **kwargs: see `click.Command`.
    """

    def __init__(self, *args: Any, names: Mapping[str, str] | None = None, **kwargs: Any):
        kwargs["context_settings"] = {"show_default": True} | kwargs.get("context_settings", {})
        super().__init__(*args, epilog=kwargs.pop("epilog", EXIT_CODES), **kwargs)
        self.names = dict(names or {})
        self.params.append(
            Option(
                ["--traceback"],
                is_flag=True,
                expose_value=False,
                callback=_remember_traceback,
                help="Show where in the code an error was raised.",
                section="Options",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and keep what was typed."""
        ctx.meta[_TYPED] = shlex.join(["slowpoints", str(ctx.info_name), *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors into a sentence and an exit code."""
        try:
            with _short_warnings(self.names):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if ctx.meta.get(_TRACEBACK):
                raise
            raise click.ClickException(sentence(error, self.names)) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        general = sections.pop("Options", [])
        for title, records in (*sections.items(), ("Options", general)):
            with formatter.section(title):
                formatter.write_dl(records)


def _remember_traceback(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.meta[_TRACEBACK] = value


def typed(ctx: click.Context) -> str:
    """Return the command as it was typed."""
    return ctx.meta[_TYPED]


# ---- words ---------------------------------------------------------------------------------------


def sentence(error: BaseException, names: Mapping[str, str]) -> str:
    """Return an error in one sentence, with options in place of arguments.

    The package's own errors say what was wrong and what was expected. Others, such as those of the
    user's code, are given with their type, and the line of the user's file that they come from.
    """
    first_line = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    frames = traceback.extract_tb(error.__traceback__)
    is_own = bool(frames) and _PACKAGE in Path(frames[-1].filename).parents
    # Errors of JAX, whose frames are left out of tracebacks, are derived from Python's own.
    is_own &= type(error).__module__.split(".")[0] in ("builtins", "slowpoints")
    if is_own and isinstance(error, (ValueError, TypeError, ImportError, RuntimeError)):
        return in_options(without_caller(whole_sentences(first_line)), names)
    text = f"{type(error).__name__}: {first_line}".strip().removesuffix(":").rstrip(".")
    place = place_in_user_code(frames)
    return f"{text}{f' ({place})' if place else ''}. --traceback shows where it was raised."


def place_in_user_code(frames: traceback.StackSummary) -> str:
    """Return the last line that belongs to no installed package, such as `model.py, line 3`."""
    installed = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)} | {_PACKAGE}
    for frame in reversed(frames):
        path = Path(frame.filename).resolve()
        if path.is_file() and not installed & set(path.parents):
            return f"{frame.filename}, line {frame.lineno}"
    return ""


def in_options(text: str, names: Mapping[str, str]) -> str:
    """Return a message with options in place of the arguments of functions."""
    text = re.sub(r'`as_transition\(model, signature="(\w+)"\)`', r"--signature \1", text)
    text = re.sub(r"`([\w.]+)`", lambda match: names.get(match[1], match[0]), text)
    # "`tol_q=1e-5`", or without the marks
    return re.sub(
        r"`?\b(\w+)=([\w.+-]*\w)`?",
        lambda match: f"{names[match[1]]} {match[2]}" if match[1] in names else match[0],
        text,
    )


def without_caller(text: str) -> str:
    """Return a message without the name of the function that it begins with."""
    return re.sub(r"^[A-Za-z_][\w.]*: (?=\S)", "", text, count=1)


def whole_sentences(line: str) -> str:
    """Return the line without a last sentence that announces lines which are left out."""
    return line if not line.endswith(":") else f"{line.rpartition('. ')[0] or line[:-1]}."


@contextmanager
def _short_warnings(names: Mapping[str, str]) -> Iterator[None]:
    """Print warnings as one line on standard error, without the place in the code."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        from tqdm import tqdm  # whose bar may be on the line

        text = in_options(without_caller(str(message)), names)
        tqdm.write(f"Warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


# ---- files ---------------------------------------------------------------------------------------


def check_writable(file: Path, option: str) -> None:
    """Find out before any work is done whether a file can be written; make its folder.

    Raises:
        click.BadParameter: if it cannot.
    """
    import tempfile

    try:
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise click.BadParameter(
            f"cannot write to {str(file)!r}: {reason}", param_hint=f"'{option}'"
        ) from error
