"""What the nonlinear operations of a network return, as variables of their own.

All the rest of a program is linear: with `y` for what its nonlinear operations return, the next
state is `F(x) = a + A x + B y(x)`. Leaky, low-rank and many other networks have few directions in
`B`, or few units that are not linear.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from slowpoints._intervals.balls import Ball
from slowpoints._intervals.enclosure import (
    Decision,
    Enclosure,
    NotCovered,
    enclosure_of,
    with_slope,
)
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.rules import RULES

_LINEAR = (
    "add",
    "add_any",
    "sub",
    "neg",
    "reduce_sum",
    "cumsum",
    "reshape",
    "squeeze",
    "expand_dims",
    "transpose",
    "broadcast_in_dim",
    "tile",
    "slice",
    "rev",
    "copy",
    "copy_p",
    "stop_gradient",
    "optimization_barrier",
    "split",
    "concatenate",
    "stack",
    "unstack",
    "pad",
    "convert_element_type",
)
"""Operations that are linear in all their operands, besides those that JAX itself moves numbers by.
"""

_PRODUCTS = ("mul", "dot_general")
"""Operations that are linear if no more than one of their operands depends on the state."""


def lifted(program: EnclosedProgram, box: Ball, n_returned: int) -> tuple[Ball, Ball, Ball]:
    """Return `A`, `B` and `y` of a network over a box of states.

    For any two states of the box, the next states differ by `A (x - x') + B (y(x) - y(x'))`, for
    some matrices in `A` and `B`.

    Args:
        program: the network, for one row.
        box: `[1, n_states]` the box.
        n_returned: how many numbers the nonlinear operations return.

    Returns:
        `A` `[n_states, n_states]`, `B` `[n_states, n_returned]`, and what the nonlinear operations
        return `[n_returned]`, in the order in which the program meets them.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n_states = box.shape[1]
    coordinates = n_states + n_returned
    values: list[Ball] = []
    seen = itertools.count(n_states)

    def as_variables(result: Enclosure) -> Enclosure:
        values.append(result.value.map(np.ravel))
        rows = np.zeros((int(np.prod(result.shape)), coordinates))
        for row in rows:
            row[next(seen)] = 1.0
        value = Ball(result.value.mid, np.broadcast_to(result.value.radius, result.shape))
        return Enclosure(value, Ball(rows.reshape(*result.shape, coordinates)))

    slope = np.eye(n_states, coordinates)[None]
    result = enclosure_of(program.run(Enclosure(box, Ball(slope)), _rules(as_variables)))
    slope = with_slope(result, coordinates).map(lambda a: a[0])
    A, B = slope.map(lambda a: a[:, :n_states]), slope.map(lambda a: a[:, n_states:])
    mids, radii = ([getattr(v, name) for v in values] for name in ("mid", "radius"))
    radii = [np.broadcast_to(rad, mid.shape) for mid, rad in zip(mids, radii, strict=True)]
    empty = [np.zeros(0)]
    return A, B, Ball(np.concatenate([*mids, *empty]), np.concatenate([*radii, *empty]))


def returned(program: EnclosedProgram, x: Enclosure) -> Enclosure:
    """Return what the nonlinear operations return, `[n, n_returned]`.

    Args:
        program: the network, for `n` rows; `n` is 1 or the length of no other axis of its arrays.
        x: `[n, n_states]` the states, with slopes.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n = x.shape[0]
    noted: list[Enclosure] = []

    def note(result: Enclosure) -> Enclosure:
        noted.append(result.map(lambda a, extra: _rows_first(np.asarray(a), extra, n)))
        return result

    program.run(x, _rules(note))
    length = 1 if x.slope is None else x.slope.shape[-1]
    parts = [Enclosure(e.value, with_slope(e, length)) for e in noted]
    if not parts:
        return Enclosure(Ball(np.zeros((n, 0))), Ball(np.zeros((n, 0, length))))
    return RULES["concatenate"]({"dimension": 1}, *parts)


def depends_on_all(x: Ball) -> Enclosure:
    """Return states whose slopes say no more than that all of them are states."""
    return Enclosure(x, Ball(np.ones((*x.shape, 1))))


def _rows_first(a: np.ndarray, extra: int, n: int) -> Any:
    """Return an array as one row of numbers for each row of the program."""
    shape, tail = a.shape[: a.ndim - extra], a.shape[a.ndim - extra :]
    if n > 1:
        if shape.count(n) != 1:
            raise NotCovered("an operation whose axis of rows is not known")
        a = np.moveaxis(a, shape.index(n), 0)
    return a.reshape(n, -1, *tail)


def _rules(note: Callable[[Enclosure], Enclosure]) -> dict[str, Callable[..., Any]]:
    """Return the rules, with `note` applied to what nonlinear operations return."""
    return {name: _noting(name, rule, note) for name, rule in RULES.items()}


def _noting(name: str, rule: Any, note: Callable[[Enclosure], Enclosure]) -> Callable[..., Any]:
    def noted(result: Any) -> Any:
        if isinstance(result, Enclosure):
            length = 1 if result.slope is None else result.slope.shape[-1]
            return note(Enclosure(result.value, with_slope(result, length)))
        # Whether a comparison is decided differs between boxes, and what is noted must not.
        is_decided = isinstance(result, np.ndarray) and result.dtype == bool
        return Decision(result, ~result) if is_decided else result

    def apply(params: Any, *args: Any) -> Any:
        result = rule(params, *args)
        if _is_linear(name, args):
            return result
        return list(map(noted, result)) if isinstance(result, list) else noted(result)

    return apply


def _is_linear(name: str, args: tuple[Any, ...]) -> bool:
    """Return whether an operation is linear in what depends on the state."""
    if name in _LINEAR:
        return not any(isinstance(arg, Decision) for arg in args)
    if name in _PRODUCTS:
        return sum(map(_depends, args)) <= 1
    if name == "div":
        return not _depends(args[1])
    if name == "select_n":
        return not _depends(args[0])
    return not any(map(_depends, args))


def _depends(value: Any) -> bool:
    return isinstance(value, Decision) or (isinstance(value, Enclosure) and value.slope is not None)
