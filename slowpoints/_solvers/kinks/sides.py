"""`Sides`: a network of which one says on which side of each of its kinks it is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._network.base import Transition
from slowpoints._network.network import Evaluation, alike, programs_of
from slowpoints._network.program import CALLS, Line, Program
from slowpoints._network.read_program import read_program
from slowpoints._solvers.kinks.smooth import SMOOTH


class Sides:
    """A network that stays on the given sides of its kinks, wherever its state is.

    A kink is where the outcome of a comparison changes, such as that of the two operands of a
    maximum, or of a number and zero in `abs`. If all outcomes are given, what is computed has no
    kinks. At a kink, both sides give the same next state, unless the network jumps there.

    Comparisons are read from the network's program, in its loops of a fixed length (`scan`) as
    well. Those in other loops and in branches (`while_loop`, `cond`), and those of operations that
    look up or order numbers (such as `sort`), are left as they are. So are functions with a rule
    for derivatives (`custom_jvp`) that does not compare, or without which they have none.

    Attributes:
        n: how many comparisons there are.
    """

    def __init__(self, F: Transition, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]):
        arrays, rest = eqx.partition(F, eqx.is_array)
        self._leaves, structure = jax.tree.flatten(arrays)

        def step(leaves: list[Array], x: Array, u: Array) -> Array:
            return eqx.combine(jax.tree.unflatten(structure, leaves), rest)(x, u)

        given = jax.tree.map(_like, (self._leaves, x, u))
        self._program, self._consts = read_program(jax.make_jaxpr(step)(*given))
        self._dtype = np.dtype(x.dtype)
        every = jax.eval_shape(lambda x, u: self._evaluated(x, u, None)[1], *given[1:])
        self._shapes, self._structure = jax.tree.flatten(every)
        self.n = sum(shape.size for shape in self._shapes)

    def natural(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Bool[Array, " n"]:
        """Return on which sides a state is: whether on the upper one, or at it if so compared."""
        natural = self._evaluated(x, u, None)[2]
        return self._in_a_row(natural, bool)

    def step(
        self,
        x: Float[Array, " n_states"],
        u: Float[Array, " n_inputs"],
        upper: Bool[Array, " n"],
    ) -> tuple[Float[Array, " n_states"], Float[Array, " n"]]:
        """Return the next state, and how far each comparison is from changing, on the given sides.

        A distance is positive on the upper side.
        """
        ends = np.cumsum([shape.size for shape in self._shapes])[:-1]
        parts = jnp.split(upper, ends) if self._shapes else []
        shaped = [a.reshape(like.shape) for a, like in zip(parts, self._shapes, strict=True)]
        F_x, distances, _ = self._evaluated(x, u, jax.tree.unflatten(self._structure, shaped))
        return F_x, self._in_a_row(distances, self._dtype)

    def _evaluated(self, x: Array, u: Array, upper: Any) -> tuple[Array, Any, Any]:
        evaluation = _OnSides(self._consts, self._dtype, upper)
        (F_x,) = evaluation.results(self._program, [*self._leaves, x, u])
        return F_x, evaluation.distances, evaluation.natural

    def _in_a_row(self, parts: Any, dtype: Any) -> Array:
        return jnp.concatenate([*map(jnp.ravel, jax.tree.leaves(parts)), jnp.zeros(0, dtype)])


def has_sides(F: Transition) -> bool:
    """Return whether a traced transition compares numbers, such that `Sides` reads it."""
    return any(map(_has_comparisons, programs_of(F)))


def _like(a: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(a.shape, a.dtype)


class _OnSides(Evaluation):
    """One pass over a program in which the outcomes of comparisons are given, or noted.

    Args:
        arrays: the program's arrays.
        dtype: the type of all real numbers.
        upper: the outcomes, in the order in which the program compares; `None` takes them as they
            are.
    """

    def __init__(self, arrays: Any, dtype: np.dtype, upper: Any):
        super().__init__(arrays, dtype)
        self._upper = None if upper is None else iter(upper)
        self.distances: list[Any] = []
        """How far each comparison is from changing; those of a loop are in a list of their own."""
        self.natural: list[Any] = []
        """The outcomes as they are, in the same form."""

    def _line(self, line: Line, operands: list[Any]) -> Sequence[Any]:
        name = line.primitive.name
        if _compares(line):
            params = {"axes": line.params["axes"]} if "axes" in line.params else {}
            return [_COMPARING[name](self._is_upper, *alike(operands), **params)]
        entered = _entered(line)
        if not any(map(_has_comparisons, entered)):
            return Evaluation(self.arrays, self.dtype)._line(line, operands)
        if name == "scan":
            return self._scan(line, alike(operands))
        (program,) = entered
        return self.results(program, alike(operands))

    def _is_upper(self, distance: Array, natural: Array | None = None) -> Array:
        natural = distance > 0 if natural is None else natural
        self.distances.append(distance)
        self.natural.append(natural)
        return natural if self._upper is None else next(self._upper)

    def _scan(self, line: Line, operands: list[Any]) -> list[Any]:
        n_consts, n_carry = line.params["n_consts"], line.params["n_carry"]
        consts, rest = operands[:n_consts], operands[n_consts:]

        def body(carry: Any, xs: Any) -> Any:
            given, upper = xs
            inside = _OnSides(self.arrays, self.dtype, upper)
            out = inside.results(line.inner["jaxpr"], [*consts, *carry, *given])
            return out[:n_carry], (out[n_carry:], inside.distances, inside.natural)

        upper = None if self._upper is None else next(self._upper)
        settings = {name: line.params[name] for name in ("length", "reverse", "unroll")}
        start, xs = rest[:n_carry], (rest[n_carry:], upper)
        carry, (ys, distances, natural) = jax.lax.scan(body, start, xs, **settings)
        self.distances.append(distances)
        self.natural.append(natural)
        return [*carry, *ys]


def _entered(line: Line) -> Sequence[Program]:
    """Return the programs that an operation applies, if their comparisons are read."""
    name = line.primitive.name
    if name == "scan":
        return [line.inner["jaxpr"]]
    if name == "custom_jvp_call":
        call, rule = line.inner["call_jaxpr"], line.inner["rule"]
        # The rule does not know of sides, so derivatives are those of the function's own program.
        return [call] if _is_read(call) and isinstance(rule, Program) and _is_kinked(rule) else []
    return list(line.parts()) if name in CALLS else []


def _is_read(program: Program) -> bool:
    """Return whether nothing in a program stands in the way of derivatives, as a loop may."""
    return all(
        line.primitive.name in _READ and all(map(_is_read, line.parts())) for line in program.lines
    )


def _is_kinked(rule: Program) -> bool:
    """Return whether a rule for derivatives compares, but for in the function that it is for."""
    return any(
        _compares(line) or (line.primitive.name in CALLS and any(map(_is_kinked, line.parts())))
        for line in rule.lines
    )


def _has_comparisons(program: Program) -> bool:
    return any(
        _compares(line) or any(map(_has_comparisons, _entered(line))) for line in program.lines
    )


def _compares(line: Line) -> bool:
    """Return whether an operation compares real numbers, and not one with itself, as for NaN."""
    real = all(dtype is not None and jnp.issubdtype(dtype, np.floating) for dtype in line.dtypes)
    return (
        line.primitive.name in _COMPARING
        and real
        and (len(line.operands) == 1 or len(set(line.operands)) > 1)
    )


def _max(is_upper: Callable[..., Array], a: Array, b: Array) -> Array:
    return jnp.where(is_upper(a - b), a, b)


def _min(is_upper: Callable[..., Array], a: Array, b: Array) -> Array:
    return jnp.where(is_upper(a - b), b, a)


def _clamp(is_upper: Callable[..., Array], low: Array, x: Array, high: Array) -> Array:
    return _min(is_upper, _max(is_upper, x, low), high)


def _of_all(
    of_two: Callable[..., Array], is_upper: Callable[..., Array], a: Array, axes: Sequence[int]
) -> Array:
    """Compare all numbers along some axes, two at a time."""
    a = jnp.moveaxis(a, axes, range(len(axes)))
    a = jnp.reshape(a, (-1, *a.shape[len(axes) :]))
    while len(a) > 1:
        half = len(a) // 2
        best = of_two(is_upper, a[:half], a[half : 2 * half])
        a = jnp.concatenate([best, a[2 * half :]])
    return a[0]


_COMPARING: dict[str, Callable[..., Array]] = {
    "max": _max,
    "min": _min,
    "abs": lambda is_upper, a: jnp.where(is_upper(a), a, -a),
    "sign": lambda is_upper, a: jnp.where(is_upper(a), 1, -1).astype(a.dtype),
    "reduce_max": partial(_of_all, _max),
    "reduce_min": partial(_of_all, _min),
    # Equal numbers stay equal where neither depends on the state, such as a mask and 1.
    "gt": lambda is_upper, a, b: is_upper(a - b, a > b),
    "ge": lambda is_upper, a, b: is_upper(a - b, a >= b),
    "lt": lambda is_upper, a, b: ~is_upper(a - b, ~(a < b)),
    "le": lambda is_upper, a, b: ~is_upper(a - b, ~(a <= b)),
    "clamp": _clamp,
}
"""Operations whose outcome, as a function of its operands, has a kink where a comparison changes;
and how it follows from the outcome of that."""

_LOGICAL = ("select_n", "eq", "ne", "and", "or", "not", "xor", "is_finite")
"""Operations that make use of comparisons, or compare what has no sides."""

_READ = frozenset((*SMOOTH, *_COMPARING, *_LOGICAL))
"""Operations that are all differentiated as they are, on given sides."""
