"""How much a network can stretch distances over a box of states: proven, rounding included.

What is known of each intermediate value `y` is how it changes between any two states `a`, `b` of
the box: `y(a) - y(b) = (D + R) (a - b)`, with a diagonal matrix `D` and a bound of the Euclidean
norm of `R`. No matrix of slopes is kept, so this takes little time for any number of units, and
loses little where a matrix of weights is followed by functions of one unit each.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import (
    Computed,
    Enclosure,
    NotCovered,
    enclosure_of,
    with_slope,
)
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.rules import RULES

_COMPARISONS = ("eq", "ge", "gt", "is_finite", "le", "lt", "ne")
"""Whose results, as far as they are decided, are the same over the whole box."""

_UNIT_BY_UNIT = (
    "abs",
    "add",
    "add_any",
    "ceil",
    "clamp",
    "cos",
    "cosh",
    "div",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "integer_pow",
    "log",
    "log1p",
    "logistic",
    "max",
    "min",
    "mul",
    "neg",
    "one_minus_square",
    "pow",
    "round",
    "rsqrt",
    "select_n",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "sub",
    "tan",
    "tanh",
)
"""Operations each of whose results depends on one number of each operand."""

_IN_ORDER = (
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "copy_p",
    "expand_dims",
    "reshape",
    "squeeze",
    "stop_gradient",
)
"""Operations that leave numbers in their order, if they do not repeat them; `reshape` does, unless
it is told an order of its operand's axes."""

_SHORTER = ("pad", "reduce_max", "reduce_min", "rev", "slice", "split", "transpose", "unstack")
"""Operations that never make a difference longer. A maximum changes by no more than the number
that changes most."""

_JOINED = ("concatenate", "stack")


@dataclasses.dataclass(frozen=True)
class Dependent(Computed):
    """A value that depends on the state, and how much it changes with it.

    It is no `Enclosure`, so that no rule that knows nothing of these bounds can drop them.

    Attributes:
        values: what it can be over the box, without slopes.
        own: the diagonal of `D`, in the shape of the values, which are as many as the states then;
            `None` for zeros.
        rest: a bound of the norm of `R`.
    """

    values: Enclosure
    own: Ball | None
    rest: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return self.values.shape

    @property
    def size(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    @property
    def norm(self) -> float:
        """A bound of the norm of `D + R`."""
        return self.rest if self.own is None else _up(self.rest + _largest(self.own))

    def map(self, move: Callable[[Any, int], Any]) -> "Dependent":
        """Apply `move(array, 0)`, which must not repeat any number."""
        return Dependent(self.values.map(move), None, self.norm)


def lipschitz_bound(program: EnclosedProgram, box: Ball) -> float:
    """Return a number `L` with `|F(a) - F(b)| <= L |a - b|` for all states of a box.

    The norm is the Euclidean one. `L` is infinite if there is no bound.

    Args:
        program: the network, for one row.
        box: `[1, n_states]` the states.

    Raises:
        NotCovered: if the network has an operation of which no bound is known here.
    """
    result = program.run(Dependent(Enclosure(box), Ball(np.ones(box.shape)), 0.0), _BOUNDS)
    bound = result.norm if isinstance(result, Dependent) else 0.0
    return math.inf if math.isnan(bound) else bound


def spectral_norm(matrices: Ball) -> float:
    """Return a bound of the largest 2-norm of matrices, which is nearly attained if they are exact.

    For any regular `V` and `M V = P`, and each `x = V y`, `|M x|^2 <= ||P^T P|| |y|^2` and
    `|x|^2 >= (1 - ||I - V^T V||) |y|^2`. With the right singular vectors for `V`, `P^T P` is
    diagonal but for rounding, and so little is lost if the norm of this symmetric matrix is bounded
    by the sums of its rows. Nothing is supposed about how precise these vectors are.

    Args:
        matrices: `[..., m, k]` the matrices. Their radii add their Frobenius norm.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        matrices = matrices.map(_transposed)
    radius = np.broadcast_to(matrices.radius, matrices.shape)
    if not (np.isfinite(matrices.mid).all() and np.isfinite(radius).all()):
        return math.inf
    V = Ball(_transposed(np.linalg.svd(matrices.mid, full_matrices=False)[2]))
    P = matmul(Ball(matrices.mid), V)
    eye = Ball(np.eye(V.shape[-1]))
    error = _row_sums(eye - matmul(V.map(_transposed), V))
    square = _row_sums(matmul(P.map(_transposed), P))
    with np.errstate(all="ignore"):
        square = np.where(error < 1, square / (1 - error) * (1 + 2.0**-40), np.inf)
    spread = (Ball(radius) * Ball(radius)).sum((-2, -1)).magnitude
    return _up(_root(np.max(square, initial=0.0)) + _root(np.max(spread, initial=0.0)))


def euclidean_norm(vector: Ball) -> float:
    """Return a bound of the norm of all numbers together."""
    size = vector.magnitude.ravel()
    return _root((Ball(size) * Ball(size)).sum((0,)).magnitude)


def _bounded(name: str, rule: Callable[..., Any], params: Any, *args: Any) -> Any:
    """Apply a rule to values, and bound by how much the result changes."""
    if name == "optimization_barrier":
        return list(args)
    values = [arg.values if isinstance(arg, Dependent) else arg for arg in args]
    if name in _COMPARISONS or not any(isinstance(arg, Dependent) for arg in args):
        return _without_jumps(rule(params, *values))
    if name in _UNIT_BY_UNIT:
        return _unit_by_unit(rule, params, values, args)
    is_permuted = name == "reshape" and params.get("dimensions") is not None
    if name in _IN_ORDER and not is_permuted:
        return _in_order(rule, params, args)
    if name == "dot_general":
        return Dependent(rule(params, *values), None, _norm_of_product(params, *args))
    if name in _SHORTER or is_permuted:
        factor = 1.0
    elif name in _JOINED:
        factor = None
    elif name == "tile":
        factor = _root(math.prod(params["reps"]))
    elif name == "reduce_sum":
        factor = _root(math.prod(args[0].shape[axis] for axis in params["axes"]))
    else:
        raise NotCovered(f"a bound of the changes of `{name}`")
    norms = [arg.norm for arg in args if isinstance(arg, Dependent)]
    norm = euclidean_norm(Ball(np.array(norms))) if factor is None else _up(norms[0] * factor)
    result = rule(params, *values)
    if isinstance(result, list):
        return [Dependent(part, None, norm) for part in result]
    return Dependent(result, None, norm)


_BOUNDS = {name: partial(_bounded, name, rule) for name, rule in RULES.items()}
"""The same operations, for values that are `Dependent`."""


def _without_jumps(result: Any) -> Any:
    """Return a result of values that do not depend on the state, but for undecided comparisons."""
    if isinstance(result, Enclosure) and result.slope is not None:
        return Dependent(Enclosure(result.value), None, math.inf)
    return result


def _unit_by_unit(
    rule: Callable[..., Any], params: Any, values: list[Any], args: tuple[Any, ...]
) -> Dependent:
    """Return a function of one number of each operand.

    `f(a, b) - f(a', b') = (f(a, b) - f(a', b)) + (f(a', b) - f(a', b'))`, and a rule gives the
    slopes of both: those by one operand, while the other one has any value that it can have.
    """
    result = enclosure_of(rule(params, *values))
    own, rest = None, 0.0
    size = math.prod(result.shape)
    for i, arg in enumerate(args):
        if not isinstance(arg, Dependent):
            continue
        alone = list(values)
        alone[i] = Enclosure(arg.values.value, Ball(np.ones((*arg.shape, 1))))
        slope = with_slope(rule(params, *alone), 1).map(lambda a: a[..., 0])
        if size == arg.size and arg.own is not None:
            term = slope * arg.own.map(lambda a: np.reshape(a, result.shape))
            own = term if own is None else own + term
            norm = arg.rest
        else:
            norm = _up(arg.norm * _root(size / max(arg.size, 1)))  # one number for all units
        rest = _up(rest + _up(_largest(slope) * norm))
    return Dependent(Enclosure(result.value), own, rest)


def _in_order(rule: Callable[..., Any], params: Any, args: tuple[Any, ...]) -> Dependent:
    arg, *others = args
    result = rule(params, arg.values, *others)
    size = math.prod(result.shape)
    if size != arg.size:
        return Dependent(result, None, _up(arg.norm * _root(size / max(arg.size, 1))))
    own = None if arg.own is None else rule(params, Enclosure(arg.own), *others).value
    return Dependent(result, own, arg.rest)


def _norm_of_product(params: Any, a: Any, b: Any) -> float:
    """Return a bound for `A B - A' B' = (A - A') B + A' (B - B')`."""
    contracted, batches = params["dimension_numbers"]
    norm = 0.0
    for changes, other, axes, batch in (
        (a, b, contracted[1], batches[1]),
        (b, a, contracted[0], batches[0]),
    ):
        if isinstance(changes, Dependent):
            matrices = other.values if isinstance(other, Dependent) else enclosure_of(other)
            bound = spectral_norm(_as_matrices(matrices.value, axes, batch))
            norm = _up(norm + _up(changes.norm * bound))
    return norm


def _as_matrices(ball: Ball, contracted: Any, batch: Any) -> Ball:
    """Return an operand of a product as matrices `[n_batches, n_contracted, n_others]`."""
    free = [i for i in range(len(ball.shape)) if i not in (*contracted, *batch)]
    sizes = [math.prod(ball.shape[i] for i in axes) for axes in (batch, contracted, free)]
    return ball.map(lambda a: np.transpose(a, (*batch, *contracted, *free)).reshape(sizes))


def _transposed(matrices: Any) -> Any:
    return np.swapaxes(matrices, -1, -2)


def _row_sums(matrices: Ball) -> Any:
    return np.max(Ball(matrices.magnitude).sum((-1,)).magnitude, axis=-1, initial=0.0)


def _largest(ball: Ball) -> float:
    return float(np.max(ball.magnitude, initial=0.0))


def _root(x: Any) -> float:
    """Return a bound of the square root."""
    return _up(np.sqrt(x))


def _up(x: Any) -> float:
    """Return more than what was rounded to `x`."""
    return float(np.nextafter(x, np.inf))
