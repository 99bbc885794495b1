"""What the nonlinear operations of a network return, as variables of their own.

All the rest of a program is linear: with `y` for what its nonlinear operations return, the next
state is `F(x) = a + A x + B y(x)`. Leaky, low-rank and many other networks have few directions in
`B`, or few units that are not linear.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.enclosure import (
    Decision,
    Enclosure,
    NotCovered,
    enclosure_of,
    with_slope,
)
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.rules import RULES
from slowpoints._linear_algebra.signs import inverses

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

_MOST_ENTRIES = 2**24
"""Networks with more slopes than this by what their nonlinear operations return are left to other
methods: some ten arrays of that size, 128 MB each, would be in use at a time."""

_PRODUCTS = ("mul", "dot_general")
"""Operations that are linear if no more than one of their operands depends on the state."""


@dataclasses.dataclass(frozen=True)
class SolvedStates:
    """Where the fixed points of a box are: at `origin + M (y(x) - y_centre)`, but for `rest`.

    `y(x)` is what the network's nonlinear operations return. That follows from `x = F(x)`, whatever
    `A` and `B` are exactly: of `(I - A) (x - c) = F(c) - c + B (y - y_c)`, the left side is solved.

    Attributes:
        box: `[1, n_states]` the box, with the middle `c`.
        origin: `[n_states]`.
        M: `[n_states, n_returned]`.
        rest: `[n_states]` by how much a fixed point may differ from it.
        y: `[n_returned]` what is returned in the box.
        y_centre: `[n_returned]` what is returned at its centre.
    """

    box: Ball
    origin: Ball
    M: Ball
    rest: Float[np.ndarray, " n_states"]
    y: Ball
    y_centre: Ball


def solved_states(program: EnclosedProgram, low: Any, high: Any) -> SolvedStates | None:
    """Return how the fixed points of a box depend on what nonlinear operations return there.

    `None` if that is not known, or for too many numbers.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n_states = low.size
    box = from_bounds(low[None], high[None])
    n_returned = returned(program, depends_on_all(box)).shape[1]
    if not 0 < n_returned <= _MOST_ENTRIES // n_states - n_states:
        return None
    A, B, y = lifted(program, box, n_returned)
    if not all(np.all(ball.is_known) for ball in (A, B, y)):
        return None
    centre, eye = Ball(box.mid), Ball(np.eye(n_states))
    y_centre = returned(program, depends_on_all(centre)).value.map(lambda a: a[0])
    R = Ball(np.nan_to_num(inverses((eye.mid - A.mid)[None])[0]))
    residual = (program.value(centre) - centre).map(lambda a: a[0][:, None])
    origin = Ball(box.mid[0]) + matmul(R, residual).map(lambda a: a[:, 0])
    M, unsolved = matmul(R, B), eye - matmul(R, eye - A)
    if not all(np.all(ball.is_known) for ball in (origin, M, unsolved)):
        return None
    return SolvedStates(box, origin, M, unsolved.magnitude @ box.rad[0], y, y_centre)


def _unchanged(operand: Enclosure) -> Enclosure:
    return operand


def lifted(
    program: EnclosedProgram,
    box: Ball,
    n_returned: int,
    look: Callable[[Enclosure], Enclosure] = _unchanged,
) -> tuple[Ball, Ball, Ball]:
    """Return `A`, `B` and `y` of a network over a box of states.

    For any two states of the box, the next states differ by `A (x - x') + B (y(x) - y(x'))`, for
    some matrices in `A` and `B`.

    Args:
        program: the network, for one row.
        box: `[1, n_states]` the box.
        n_returned: how many numbers the nonlinear operations return.
        look: is given their operands, with slopes by the states and by what is returned.

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
    result = enclosure_of(program.run(Enclosure(box, Ball(slope)), _rules(as_variables, look)))
    slope = with_slope(result, coordinates).map(lambda a: a[0])
    A, B = slope.map(lambda a: a[:, :n_states]), slope.map(lambda a: a[:, n_states:])
    mids, radii = ([getattr(v, name) for v in values] for name in ("mid", "radius"))
    radii = [np.broadcast_to(rad, mid.shape) for mid, rad in zip(mids, radii, strict=True)]
    empty = [np.zeros(0)]
    return A, B, Ball(np.concatenate([*mids, *empty]), np.concatenate([*radii, *empty]))


def operands(program: EnclosedProgram, box: Ball, n_returned: int) -> Ball:
    """Return what nonlinear operations read of the states themselves, `C` `[n_operands, n_states]`.

    An operand is `C x + D y(x) + c`, with what other operations return in `y(x)`. There is a row
    for each number that an operation depends on, in the order in which the program meets them.

    Args:
        program: the network, for one row.
        box: `[1, n_states]` a box of states.
        n_returned: how many numbers the nonlinear operations return.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n_states = box.shape[1]
    read: list[Enclosure] = []

    def look(operand: Enclosure) -> Enclosure:
        slope = with_slope(operand, n_states + n_returned)
        rows = slope.map(lambda a: a.reshape(-1, n_states + n_returned)[:, :n_states])
        read.append(Enclosure(Ball(np.zeros(rows.shape[0])), rows))
        return operand

    lifted(program, box, n_returned, look)
    return with_slope(RULES["concatenate"]({"dimension": 0}, *read), n_states)


def returned(program: EnclosedProgram, x: Enclosure, added: Enclosure | None = None) -> Enclosure:
    """Return what the nonlinear operations return, `[n, n_returned]`.

    Args:
        program: the network, for `n` rows; `n` is 1 or the length of no other axis of its arrays.
        x: `[n, n_states]` the states, with slopes.
        added: `[n, n_operands]` what is added to the operands, for those of other states than `x`:
            `C` times the difference.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    n = x.shape[0]
    noted: list[Enclosure] = []

    def note(result: Enclosure) -> Enclosure:
        noted.append(result.map(lambda a, extra: _rows_first(np.asarray(a), extra, n)))
        return result

    program.run(x, _rules(note, _unchanged if added is None else _Added(added)))
    slopes = [e.slope for e in (x, added) if e is not None and e.slope is not None]
    length = max([1, *(slope.shape[-1] for slope in slopes)])
    parts = [Enclosure(e.value, with_slope(e, length)) for e in noted]
    if not parts:
        return Enclosure(Ball(np.zeros((n, 0))), Ball(np.zeros((n, 0, length))))
    return RULES["concatenate"]({"dimension": 1}, *parts)


class _Added:
    """Adds to operands, one after the other."""

    def __init__(self, added: Enclosure):
        self._added, self._start = added, 0

    def __call__(self, operand: Enclosure) -> Enclosure:
        n, shape = self._added.shape[0], operand.shape
        some = slice(self._start, self._start + int(np.prod(shape)) // n)
        self._start = some.stop
        part = self._added.map(lambda a, extra: _rows_back(a[:, some], shape, n))
        return RULES["add"]({}, operand, part)


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


def _rows_back(a: np.ndarray, shape: tuple[int, ...], n: int) -> Any:
    """Return rows of numbers as an operand of a shape, in which one axis is that of the rows."""
    tail = a.shape[2:]
    if n == 1:
        return a.reshape(*shape, *tail)
    if shape.count(n) != 1:
        raise NotCovered("an operation whose axis of rows is not known")
    axis = shape.index(n)
    return np.moveaxis(a.reshape(n, *shape[:axis], *shape[axis + 1 :], *tail), 0, axis)


def _rules(
    note: Callable[[Enclosure], Enclosure], look: Callable[[Enclosure], Enclosure] = _unchanged
) -> dict[str, Callable[..., Any]]:
    """Return the rules, with `note` applied to what nonlinear operations return.

    And with `look` applied to those of their operands that depend on the states.
    """
    return {name: _noting(name, rule, note, look) for name, rule in RULES.items()}


def _noting(
    name: str,
    rule: Any,
    note: Callable[[Enclosure], Enclosure],
    look: Callable[[Enclosure], Enclosure],
) -> Callable[..., Any]:
    def noted(result: Any) -> Any:
        if isinstance(result, Enclosure):
            length = 1 if result.slope is None else result.slope.shape[-1]
            return note(Enclosure(result.value, with_slope(result, length)))
        # Whether a comparison is decided differs between boxes, and what is noted must not.
        is_decided = isinstance(result, np.ndarray) and result.dtype == bool
        return Decision(result, ~result) if is_decided else result

    def apply(params: Any, *args: Any) -> Any:
        if _is_linear(name, args):
            return rule(params, *args)
        moves = (isinstance(arg, Enclosure) and arg.slope is not None for arg in args)
        args = tuple(look(arg) if moved else arg for arg, moved in zip(args, moves, strict=True))
        result = rule(params, *args)
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
