"""The network that `FILE.py:NAME` or `package.module:NAME` stands for."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from slowpoints._cli.command import place_in_user_code, whole_sentences
from slowpoints._core import arguments
from slowpoints._network.as_transition import as_transition

MODEL_HELP = """\
MODEL is FILE.py:NAME or package.module:NAME. NAME is a network of BrainPy, BrainState, Equinox,
Flax or PyTorch, a function F(x, u) that returns the next state, or a function without arguments
that makes one of these. Dots lead to a part of a network: model.py:net.rnn is its layer `rnn`."""


@contextlib.contextmanager
def importable(spec: str) -> Iterator[tuple[str, str]]:
    """Take `FILE.py:NAME` apart; as long as this lasts, the file can import its neighbours.

    For `package.module:NAME`, packages in the working directory can be imported.

    Yields:
        The file or module, and the name.

    Raises:
        click.BadParameter: if `spec` is not of this form, or there is no such file.
    """
    source, _, name = spec.rpartition(":")
    # Parts of PyTorch's containers have numbers for names.
    if not source or not all(each.isidentifier() or each.isdecimal() for each in name.split(".")):
        is_data = Path(spec).is_file() and Path(spec).suffix != ".py"
        raise click.BadParameter(
            f"{spec!r} is not FILE.py:NAME or package.module:NAME, such as model.py:net."
            + is_data * " Load it in a Python file, and give the name that the network has there.",
            param_hint="'MODEL'",
        )
    folder = Path.cwd()
    if _is_file(source):
        path = Path(source)
        if not path.is_file():
            raise click.BadParameter(f"there is no file {source!r}.", param_hint="'MODEL'")
        folder = path.resolve().parent
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield source, name
    finally:
        sys.path[:] = before


def load_object(source: str, name: str) -> Any:
    """Return what has this name in a file or module, or, if it is a function that makes it, that.

    Raises:
        click.ClickException: if the file cannot be imported, has no such name, or its function
            fails.
    """
    spec = f"{source}:{name}"
    with _errors_of(source, "importing it"), contextlib.redirect_stdout(sys.stderr):
        module = _module_of(source)
    value: Any = module
    parts = name.split(".")
    for depth, part in enumerate(parts):
        if value is not module and not hasattr(value, part) and takes_nothing(value):
            with _errors_of(spec, "calling it"), contextlib.redirect_stdout(sys.stderr):
                value = value()
        if not hasattr(value, part):
            close = _similar(value, part)
            meant = close and f"; did you mean {'.'.join([*parts[:depth], close])!r}?"
            raise click.ClickException(f"{source} has no {name!r}{meant or '.'}")
        value = getattr(value, part)
    if takes_nothing(value):
        with _errors_of(spec, "calling it"), contextlib.redirect_stdout(sys.stderr):
            value = value()
        if value is None:
            raise click.ClickException(f"{spec}() returned None; expected a network.")
    return value


def load_model(source: str, name: str, checkpoint: Path | None, signature: str | None) -> Any:
    """Return a network that a finder takes.

    Args:
        source: the file or module.
        name: the name in it.
        checkpoint: a file with the values of a BrainPy model's Variables.
        signature: see `as_transition`.

    Raises:
        click.ClickException: if there is no such network, or it cannot be used, or the checkpoint
            does not fit it.
    """
    spec = f"{source}:{name}"
    model = load_object(source, name)
    if checkpoint is not None:
        _load_checkpoint(source, spec, model, checkpoint)
    choices: Any = signature
    try:
        return as_transition(model, signature=choices)
    except (TypeError, ValueError) as error:
        text = whole_sentences(str(error).splitlines()[0]).removeprefix("as_transition: ")
        text = re.sub(r"`model((?:\.\w+|\[\d+\])+)`", lambda part: spec + _dotted(part[1]), text)
        raise click.ClickException(text.replace("`model`", spec)) from error


def _dotted(path: str) -> str:
    """Return the way to a part of a network as NAME has it: `.body[0]` is `.body.0`."""
    return re.sub(r"\[(\d+)\]", r".\1", path)


def takes_nothing(value: Any) -> bool:
    """Return whether `value` is a function, or a class, that is called without arguments.

    A function with required arguments, such as `F(x, u)`, is a network itself, and so is one that
    takes any number of them, as the networks of several frameworks do.
    """
    if not callable(value):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # some functions written in C do not say
        return False
    return not any(p.kind is p.VAR_POSITIONAL or _is_required(p) for p in parameters)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _module_of(source: str) -> ModuleType:
    if not _is_file(source):
        return importlib.import_module(source)
    path = Path(source).resolve()
    # By its own name, under which its neighbours may import it, unless that is taken.
    name = path.stem if path.stem not in sys.modules else f"slowpoints model {path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source!r} is not a file of Python; its name should end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _errors_of(what: str, doing: str) -> Iterator[None]:
    """Say in one sentence what went wrong in the user's code, and where."""
    try:
        yield
    except SystemExit as error:
        raise click.ClickException(f"{what} ended the program on {doing} (`sys.exit`).") from error
    except SyntaxError as error:
        raise click.ClickException(
            f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
        ) from error
    except Exception as error:
        first_line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
        place = place_in_user_code(traceback.extract_tb(error.__traceback__))
        raise click.ClickException(
            f"{what} fails on {doing}: {type(error).__name__}: {first_line}"
            f"{f' ({place})' if place else ''}."
        ) from error


def _similar(value: Any, name: str) -> str | None:
    """Return the attribute of `value` whose name is close to this one, if there is one."""
    attributes = getattr(value, "__dict__", {})
    names = [*attributes, *attributes.get("_modules", ())]  # where PyTorch keeps layers
    names = [each for each in names if not each.startswith("_")]
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def _load_checkpoint(source: str, spec: str, model: Any, path: Path) -> None:
    from slowpoints._storage.checkpoints import load_checkpoint

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            loaded = load_checkpoint(model, path)
        except (TypeError, ValueError) as error:
            raise click.ClickException(
                f"--checkpoint is for BrainPy models with Variables, and {spec} "
                f"{arguments.found(model)}; load the weights of other models in {source}."
            ) from error
    if not loaded:
        reasons = [str(warning.message) for warning in caught]
        raise click.ClickException(" ".join(reasons) or f"cannot load {str(path)!r} into {spec}.")
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
