"""The options of `find`, made from the arguments of `FixedPointFinder` and of its search.

Types, defaults and help are those of the class, so that a new argument is a new option.
"""

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, get_args

import click

from slowpoints._cli.arrays import ARRAY_HELP, ArrayFile, Inputs
from slowpoints._cli.command import Option, in_options
from slowpoints._finder.fixed_point_finder import FixedPointFinder

_ITSELF = ("self", "rnn_model", "progress")
"""Arguments that are no options: the command's own argument, and what the command uses itself."""

_OWN_NAMES = {
    "state_traj": ("--states",),
    "valid_bxt": ("--valid",),
    "verbose": ("--verbose/--quiet", "-v/-q"),
    "random_seed": ("--seed", "--random-seed"),
}
"""Options that are not called as their argument is."""

_LAST = "What to print"
_SECTIONS = {
    "Where to search from": (
        "state_traj",
        "inputs",
        "n_inits",
        "noise_scale",
        "valid_bxt",
        "cond_ids",
        "random_seed",
    ),
    "How to search": (
        "solver",
        "coverage",
        "search_between",
        "max_iters",
        "tol_q",
        "tol_dq",
        "dtype",
    ),
    "Which points to keep": (
        "tol_unique",
        "final_q_threshold",
        "max_n_unique",
        "keep_unfinished",
        "do_exclude_distance_outliers",
        "outlier_distance_scale",
        "do_rerun_q_outliers",
        "outlier_q_scale",
    ),
    "What to compute at the points": ("do_compute_jacobians", "do_decompose_jacobians"),
    "Gradient descent, with --solver adam": (
        "method",
        "lr_init",
        "lr_factor",
        "lr_patience",
        "lr_cooldown",
    ),
    "Devices and memory": ("mesh", "memory_limit", "across_processes"),
    _LAST: ("verbose", "super_verbose", "n_iters_per_print_update"),
}

OWN_HELP = {
    "state_traj": f"The states that the network visits, [trials, time, n_states], or [time, "
    f"n_states] for one trial, in {ARRAY_HELP}.",
    "inputs": "The constant input: numbers with commas between them, such as 0,0; none for a "
    f"network without inputs; or [1, n_inputs] or [n_inits, n_inputs] in {ARRAY_HELP}. By default "
    "zeros, if the network says how many.",
    "valid_bxt": f"Which states may be drawn, [trials, time] of True and False in {ARRAY_HELP}.",
    "cond_ids": f"Condition numbers or names, [n_inits] in {ARRAY_HELP}; the points keep them.",
    "solver": "The method: one of these names, or FILE.py:NAME of a solver of your own.",
    "dtype": "Precision of the search.",
}
"""Help for what is written on the command line in another way than in Python."""


class Number(click.ParamType):
    """A number, such as 5, 1e-8 or inf; or, where the argument may be `None`, the word none."""

    def __init__(self, or_none: bool):
        self.or_none = or_none
        self.name = "number|none" if or_none else "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return a whole number as an `int`; the class says whether that fits."""
        if not isinstance(value, str):
            return value
        if self.or_none and value.lower() == "none":
            return None
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        self.fail(f"{value!r} is not a number{' or none' if self.or_none else ''}.", param, ctx)


class SolverName(click.ParamType):
    """The name of a solver, or a place where a solver is."""

    name = "name"
    choices = ("default", "adam", "bounded_newton", "levenberg_marquardt", "newton_krylov")

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the name, or `FILE.py:NAME` as it is."""
        if value not in self.choices and ":" not in value:
            named = ", ".join(self.choices)
            self.fail(f"{value!r} is none of {named}, and not FILE.py:NAME.", param, ctx)
        return value

    def get_metavar(self, param: Any, ctx: Any = None) -> str:
        """Return the names for the help; click 8.1 gives no context."""
        return f"[{'|'.join(self.choices)}|FILE.py:NAME]"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> Any:
        """Complete the names."""
        return click.Choice(self.choices).shell_complete(ctx, param, incomplete)


_OWN_TYPES: dict[str, click.ParamType] = {
    "state_traj": ArrayFile(),
    "inputs": Inputs(),
    "valid_bxt": ArrayFile(),
    "cond_ids": ArrayFile(),
    "method": click.Choice(["joint", "sequential"]),
    "dtype": click.Choice(["float32", "float64"]),
    "mesh": click.Choice(["local", "none"]),
    "solver": SolverName(),
}


def parameters_of_finder() -> dict[str, inspect.Parameter]:
    """Return the arguments of the class and of its search that are options, by name."""
    found: dict[str, inspect.Parameter] = {}
    for function in (FixedPointFinder, FixedPointFinder.find_fixed_points):
        found |= inspect.signature(function).parameters
    return {name: found[name] for name in found if name not in _ITSELF}


def arguments_of_search() -> tuple[str, ...]:
    """Return the arguments of `FixedPointFinder.find_fixed_points` that are options."""
    names = inspect.signature(FixedPointFinder.find_fixed_points).parameters
    return tuple(name for name in names if name not in _ITSELF)


def names_of(argument: str, is_flag: bool = False) -> tuple[str, ...]:
    """Return what the option for an argument is called; the first is its name in messages."""
    if argument in _OWN_NAMES:
        return _OWN_NAMES[argument]
    plain = argument.removeprefix("do_").replace("_", "-")
    return (f"--{plain}/--no-{plain}",) if is_flag else (f"--{plain}",)


def option_names() -> dict[str, str]:
    """Return the option for each argument, for messages."""
    return {name: names_of(name)[0].split("/")[0] for name in parameters_of_finder()}


def documented_arguments() -> dict[str, str]:
    """Return what the docstrings of the class and of its search say of each argument."""
    found: dict[str, str] = {}
    for function in (FixedPointFinder, FixedPointFinder.find_fixed_points):
        text = inspect.cleandoc(function.__doc__ or "")  # there is none under `python -OO`
        part = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
        block = textwrap.dedent(part[1]) if part else ""
        for name, said in re.findall(r"^(\w+): (.*?)(?=^\w|\Z)", block, re.M | re.S):
            found[name] = " ".join(said.split())
    return found


def help_of(argument: str) -> str:
    """Return the help for an argument's option: the docstring in the words of the command line."""
    if argument in OWN_HELP:
        return OWN_HELP[argument]
    text = documented_arguments().get(argument, "")
    text = re.sub(r"\[(`[^`]+`)\]\[[^\]]*\]", r"\1", text)  # links
    text = in_options(text, option_names())
    text = re.sub(r"`None`", "none", text)
    text = re.sub(r"`([^`]*)`", r"\1", text)
    return text[:1].upper() + text[1:]


def finder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the finder, in the order in which the help lists them."""
    parameters = parameters_of_finder()
    sections = {name: title for title, names in _SECTIONS.items() for name in names}
    ordered = [name for name in sections if name in parameters]
    ordered += [name for name in parameters if name not in sections]
    for name in reversed(ordered):
        function = _option(parameters[name], sections.get(name, _LAST))(function)
    return function


def _option(parameter: inspect.Parameter, section: str) -> Any:
    name, default = parameter.name, parameter.default
    is_flag = isinstance(default, bool)
    settings: dict[str, Any] = {"help": help_of(name), "section": section, "cls": Option}
    if is_flag:
        settings["default"] = default
    else:
        or_none = type(None) in get_args(parameter.annotation)
        settings["type"] = _OWN_TYPES.get(name) or Number(or_none)
        if name == "state_traj":
            settings["required"] = True
        elif name == "solver":
            settings["default"] = "default"
        elif default is not inspect.Parameter.empty:
            settings["default"] = default
    return click.option(*names_of(name, is_flag), name, **settings)
