"""Small programs of all operations that proofs cover, and a check of each of their enclosures.

A program is built from a list of steps, each of which applies an operation to earlier results. It
has a number of rows, each with constants and a box of states of its own. The program's operations
are then evaluated one after another, as enclosures by the rules, and as numbers by XLA. Each
operation is applied to numbers that are in the enclosures of its operands, and its result has to be
in the enclosure that the rule returns, but for the rounding of this one operation; it is moved
there before the next one. So rounding does not add up, and steps and comparisons are comparable.
Of what is unknown, NaN and infinities are tried too.

Multiple-precision arithmetic by `python-flint`, for the operations that it knows, and rational
numbers, for sums, then do without any allowance for rounding.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import flint
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.interpreters import ad

from slowpoints import as_transition
from slowpoints._intervals import interpreter
from slowpoints._intervals.balls import Ball
from slowpoints._intervals.enclosure import Decision, Enclosure, NotCovered, with_slope
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.rules import RULES

N_STATES = 3
INF, NAN = np.inf, np.nan

# ---- programs ----------------------------------------------------------------------------------

EXPONENTS = (2, 3, -1, 0, 1, -2, 5, 4)
REAL_EXPONENTS = (0.5, 2.0, -1.0, 1.5, 0.0, -0.5, 3.0, NAN)
WHOLE = (jnp.uint8, jnp.int8, jnp.int32, jnp.uint32, jnp.int16, jnp.int64, jnp.uint64, jnp.uint16)
WEIGHTS = np.array([[0.5, -1.25, 2.0], [0.0, 0.75, -0.1], [1.0, 3.0, 0.3]])
LITERALS = (0.0, -0.0, 1.0, -1.0, 0.5, NAN, INF, -INF, 5e-324, 300.0, 1e10, -5.0, 2.0, 1e300)
IDENTITY = lax.ScatterDimensionNumbers((), (0,), (0,))


def _round(p, a):
    return lax.round(a, lax.RoundingMethod.TO_NEAREST_EVEN)


def _matmul(p, a):
    return (WEIGHTS @ a, a @ WEIGHTS, jnp.broadcast_to(a @ a, 3), jnp.outer(a, a) @ a)[p % 4]


def _scatter(p, a, b):
    places = jnp.array([[0], [2]])[: 1 + p % 2]
    return lax.scatter(a, places, b[: 1 + p % 2], IDENTITY, unique_indices=True)


def _scanned(p, a, b):
    return lax.scan(lambda c, x: (0.5 * c + x, c * x), b, jnp.stack([a, b]), reverse=bool(p % 2))[0]


def _looped(p, a, b):
    return lax.while_loop(lambda c: c[0] < p % 3, lambda c: (c[0] + 1, c[1] * b), (0, a))[1]


OPERATIONS: dict[str, tuple[str, Callable]] = {
    # sums and products
    "add": ("ff", lambda p, a, b: a + b),
    "add_any": ("ff", lambda p, a, b: ad.add_jaxvals(a, b)),
    "sub": ("ff", lambda p, a, b: a - b),
    "neg": ("f", lambda p, a: -a),
    "mul": ("ff", lambda p, a, b: a * b),
    "div": ("ff", lambda p, a, b: a / b),
    "square": ("f", lambda p, a: lax.square(a)),
    "integer_pow": ("f", lambda p, a: lax.integer_pow(a, EXPONENTS[p % 8])),
    "pow": ("f", lambda p, a: lax.pow(a, jnp.full(3, REAL_EXPONENTS[p % 8]))),
    "pow_of_both": ("ff", lambda p, a, b: lax.pow(a, b)),
    "dot_general": ("f", _matmul),
    "reduce_sum": ("f", lambda p, a: jnp.broadcast_to(a.sum(), 3)),
    "cumsum": ("f", lambda p, a: lax.cumsum(a, reverse=bool(p % 2))),
    # functions of one number
    **{
        name: ("f", lambda p, a, name=name: getattr(lax, name)(a))
        for name in (
            *("abs", "ceil", "cos", "cosh", "exp", "exp2", "expm1", "floor", "log", "log1p"),
            *("logistic", "rsqrt", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
        )
    },
    "round": ("f", _round),
    # comparison and choice
    "max": ("ff", lambda p, a, b: lax.max(a, b)),
    "min": ("ff", lambda p, a, b: lax.min(a, b)),
    "clamp": ("fff", lambda p, a, b, c: lax.clamp(a, b, c)),
    "clip": ("f", lambda p, a: jnp.clip(a, (-1.0, 0.0, -INF)[p % 3], (1.0, 6.0, INF)[p % 3])),
    "reduce_max": ("f", lambda p, a: jnp.broadcast_to(a.max(), 3)),
    "reduce_min": ("f", lambda p, a: jnp.broadcast_to(a.min(), 3)),
    "compare": (
        "ff",
        lambda p, a, b: getattr(lax, ("lt", "le", "gt", "ge", "eq", "ne")[p % 6])(a, b),
    ),
    "isnan": ("f", lambda p, a: (lax.ne(a, a), lax.eq(a, a), lax.le(a, a), lax.lt(a, a))[p % 4]),
    "compare_with": (
        "f",
        lambda p, a: (lax.lt, lax.le, lax.gt, lax.ge, lax.eq, lax.ne)[p % 6](
            a, jnp.full(3, LITERALS[p // 6 % len(LITERALS)])
        ),
    ),
    "is_finite": ("f", lambda p, a: lax.is_finite(a)),
    "not": ("b", lambda p, a: ~a),
    "and": ("bb", lambda p, a, b: a & b),
    "or": ("bb", lambda p, a, b: a | b),
    "same_truth": ("b", lambda p, a: (lax.eq, lax.ne)[p % 2](a, jnp.full(3, bool(p % 4 > 1)))),
    "where": ("bff", lambda p, a, b, c: jnp.where(a, b, c)),
    "where_of_constants": ("b", lambda p, a: jnp.where(a, LITERALS[p % 14], 2.5)),
    "where_of_truths": ("bbb", lambda p, a, b, c: lax.select(a, b, c)),
    "cases": ("iff", lambda p, i, a, b: lax.select_n(i.astype(jnp.int32), a, b, -a)),
    "two_cases": ("iff", lambda p, i, a, b: lax.select_n(i.astype(jnp.int32), a, b)),
    "nan_to_num": ("f", lambda p, a: jnp.nan_to_num(a, posinf=2.0, neginf=-2.0)),
    # other types
    "to_whole": ("f", lambda p, a: a.astype(WHOLE[p % 8])),
    "to_other_whole": ("i", lambda p, a: a.astype(WHOLE[p % 8])),
    "whole_to_float": ("i", lambda p, a: a.astype(jnp.float64)),
    "truth_to_float": ("b", lambda p, a: a.astype(jnp.float64)),
    "truth_to_whole": ("b", lambda p, a: a.astype(WHOLE[p % 8])),
    "to_truth": ("f", lambda p, a: a.astype(bool)),
    "whole_to_truth": ("i", lambda p, a: a.astype(bool)),
    "whole_arithmetic": (
        "ii",
        lambda p, a, b: (lax.add, lax.mul, lax.div, lax.rem, lax.shift_left, lax.max)[p % 6](
            a, b.astype(a.dtype)
        ),
    ),
    # what moves numbers
    "reshape": ("f", lambda p, a: lax.reshape(jnp.outer(a, a + 1), (9,), (p % 2, 1 - p % 2))[:3]),
    "squeeze": ("f", lambda p, a: lax.squeeze(a.reshape(1, 3), (0,))),
    "transpose": ("f", lambda p, a: jnp.stack([a, a + 1, a]).T[p % 3]),
    "broadcast_in_dim": (
        "f",
        lambda p, a: lax.broadcast_in_dim(a, (3, 2, 3), (p % 2 * 2,))[p % 3, 1],
    ),
    "tile": ("f", lambda p, a: jnp.tile(a[:2], 2)[:3]),
    "slice": (
        "f",
        lambda p, a: jnp.concatenate([a[1:], a[:1]]) + lax.slice(a, (0,), (3,), (2,))[1],
    ),
    "rev": ("f", lambda p, a: lax.rev(a, (0,))),
    "copy": ("f", lambda p, a: jnp.array(a, copy=True)),
    "stop_gradient": ("f", lambda p, a: lax.stop_gradient(a)),
    "optimization_barrier": ("f", lambda p, a: lax.optimization_barrier((a, a))[0]),
    "split": ("f", lambda p, a: jnp.concatenate(lax.split(a, (1, 2))[::-1])),
    "concatenate": ("ff", lambda p, a, b: lax.concatenate([a[:1], b[1:]], 0)),
    "moved_truths": ("bb", lambda p, a, b: lax.rev(lax.concatenate([a[:2], b[:1]], 0), (0,))),
    "stack": ("ff", lambda p, a, b: jnp.stack([a, b], p % 2).ravel()[p % 3 : p % 3 + 3]),
    "unstack": ("f", lambda p, a: jnp.stack(jnp.unstack(a.reshape(3, 1))[::-1]).ravel()),
    "pad": ("f", lambda p, a: lax.pad(a[:2], LITERALS[p % 14], [((1, 0, 0), (0, 0, 1))[p % 2]])),
    "gather": ("f", lambda p, a: a[jnp.array(((2, 0, 0), (1, 5, -1))[p % 2])]),
    "gather_or_fill": ("f", lambda p, a: a.at[jnp.array([0, 7, 1])].get(mode="fill")),
    "scatter": ("ff", _scatter),
    "gather_by_input": (
        "fi",
        lambda p, a, i: lax.dynamic_slice(a, (i[0].astype(jnp.int32),), (3,)),
    ),
    "dynamic_slice": ("f", lambda p, a: lax.dynamic_index_in_dim(WEIGHTS, p % 4, 0, False) * a),
    "dynamic_update_slice": (
        "f",
        lambda p, a: lax.dynamic_update_slice(WEIGHTS[0], WEIGHTS[1, :1], (p % 4,)) * a,
    ),
    # programs in programs
    "jit": ("f", lambda p, a: jax.jit(jnp.sinh)(a)),
    "custom_jvp": ("f", lambda p, a: (jax.nn.relu, jax.nn.silu, jax.nn.softplus)[p % 3](a)),
    "scan": ("ff", _scanned),
    "while": ("ff", _looped),
    "cond": ("bff", lambda p, a, b, c: lax.cond(a[0], lambda: b, lambda: c)),
}
"""The kinds of operands, which are floats, truth values or whole numbers; and what is done with
them and a number that chooses among variants."""

NAMES = tuple(OPERATIONS)


class Step(NamedTuple):
    """An operation, numbers that choose its operands, and one that chooses a variant of it."""

    name: str
    operands: tuple[int, int, int]
    variant: int


def transition(steps):
    """Return the program of some steps, `F(x, u)`; it returns the sum of all that is computed."""

    def F(x, u):
        floats = [x, u[:3], u[3:]]
        kinds = {"f": floats, "b": [x > u[:3]], "i": [u[:3].astype(jnp.int32)]}
        for name, operands, variant in steps:
            taken, apply = OPERATIONS[name]
            # From the last results backwards, so that steps build upon each other.
            args = [
                kinds[kind][-1 - number % len(kinds[kind])]
                for kind, number in zip(taken, operands, strict=False)
            ]
            result = apply(variant, *args)
            kind = {"f": "f", "b": "b"}.get(result.dtype.kind, "i")
            kinds[kind].append(result)
        return floats[-1]

    return F


NUMBERS = np.array(
    [
        *[0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1.5, 2.5, 3.5, 1 / 3, np.pi, 0.1],
        *[NAN, INF, -INF, 5e-324, -1e-310, 2.0**-1022, 1e-300, 1e300, -1.7e308],
        *[300.0, -5.0, 200.0, 255.0, 256.0, 1e10, -1.5, 2.0**31, -(2.0**31) - 1, 2.0**32, 65504.0],
        *[2.0**53, 2.0**63, -(2.0**63), 2.0**64, 1e18, 709.0, -745.2, 710.5, 37.0, 1e5],
    ]
)
"""What is special to some operation: the ends of ranges and domains, and what is no number."""

RADII = np.array([0.0, 1e-300, 1e-12, 1e-6, 1e-2, 0.3, 1.0, 3.0, 40.0, 1e8])


def rows(rng, n):
    """Return boxes of states, `[n, 3]`, and inputs, `[n, 6]`, many of them special numbers."""

    def drawn(shape, special):
        ordinary = rng.normal(size=shape) * 10 ** rng.uniform(-2, 1, shape)
        return np.where(rng.random(shape) < special, rng.choice(NUMBERS, shape), ordinary)

    mid = drawn((n, N_STATES), 0.3)
    mid = np.where(np.isfinite(mid), mid, 0.0)
    rad = rng.choice(RADII, (n, 1)) * rng.choice([0.0, 1.0, 1.0, 1.0], (n, N_STATES))
    return Ball(mid, rad), drawn((n, 2 * N_STATES), 0.5)


def drawn_steps(rng, n_steps):
    """Return steps drawn at random, the last ones upon the results of the first."""
    operands = rng.geometric(0.4, (n_steps, 3)) - 1
    variants = rng.integers(0, 84, n_steps)
    names = rng.choice(NAMES, n_steps)
    return [
        Step(str(name), tuple(map(int, of)), int(variant))
        for name, of, variant in zip(names, operands, variants, strict=True)
    ]


# ---- members of enclosures ---------------------------------------------------------------------

ANYTHING = np.array([NAN, NAN, INF, -INF, 0.0, 1.0, -2.5])
"""What may be tried of something unknown."""


def inwards(ball, x):
    """Return numbers, moved into a ball where it is known; its midpoint where they are none."""
    rad = np.broadcast_to(ball.radius, ball.shape)
    with np.errstate(all="ignore"):
        low, high = np.nextafter(ball.mid - rad, INF), np.nextafter(ball.mid + rad, -INF)
        moved = np.where(np.isnan(x), ball.mid, np.clip(x, low, high))
        return np.where(low < high, moved, ball.mid)


def drawn_from(ball, rng, share):
    """Return numbers from the middle of a ball, or all of it, where it is known."""
    with np.errstate(all="ignore"):
        return inwards(ball, ball.mid + share * rng.uniform(-1, 1, ball.shape) * ball.radius)


def members(result, x, rng):
    """Return numbers of an enclosure, as close to `x` as may be, and anything where it is open."""
    if isinstance(result, Decision):
        is_open = ~(result.is_true | result.is_false)
        chosen = np.where(is_open, rng.random(is_open.shape) < 0.5, result.is_true)
        return chosen.astype(x.dtype)
    if not isinstance(result, Enclosure):
        return np.asarray(result, x.dtype)
    ball = result.value
    if ball.rad is None:
        return np.broadcast_to(ball.mid, x.shape).astype(x.dtype)
    other = rng.choice(ANYTHING, x.shape)
    unknown = np.where(rng.random(x.shape) < 0.5, other, x)
    return np.where(ball.is_known, inwards(ball, x), unknown).astype(x.dtype)


# ---- what is not held --------------------------------------------------------------------------

SUMS = ("cumsum", "dot_general", "reduce_sum")
"""Whose rounding is relative to their terms."""

OF_XLA = 1e-12
"""How far off, relative to the result, XLA's functions may be; those of float64 are better."""

NEARLY_INFINITE = 1e306
"""Beyond this, XLA may have an overflow on the way."""

SMALLEST = 2.0**-1022
"""XLA takes numbers below this for 0, where it likes."""


def is_subnormal(x):
    """Return where an array holds numbers that XLA may take for 0."""
    return (
        (x != 0) & (np.abs(x) < SMALLEST)
        if np.asarray(x).dtype.kind == "f"
        else np.zeros(x.shape, bool)
    )


def violated(name, result, y, scale):
    """Return where a result of XLA is not in an enclosure, but for rounding relative to `scale`."""
    if isinstance(result, Decision):
        return (result.is_true & (y != 1)) | (result.is_false & (y != 0))
    if not isinstance(result, Enclosure):
        result = np.broadcast_to(result, y.shape)
        return ~((result == y) | ((result != result) & (y != y)))
    ball = result.value
    with np.errstate(all="ignore"):
        if ball.rad is None:
            same = (ball.mid == y) | (np.isnan(ball.mid) & np.isnan(y))
            return ~same & ~(np.abs(y - ball.mid) <= OF_XLA * np.abs(y) + 4 * SMALLEST)
        off = np.abs(y - ball.mid)
        size = np.abs(ball.mid) + ball.radius
        near = off <= ball.radius + OF_XLA * (np.abs(y) + scale) + 4 * SMALLEST
        overflow = np.isinf(y) & (size > NEARLY_INFINITE) | ~np.isfinite(scale)
        return ball.is_known & ~near & ~overflow


def bind(eqn, args):
    """Apply an operation as XLA does."""
    out = eqn.primitive.bind(*map(jnp.asarray, args), **eqn.params)
    return [np.asarray(a) for a in (out if eqn.primitive.multiple_results else [out])]


class Lockstep:
    """A program's enclosures and numbers in them, one operation after another.

    Attributes:
        failures: what is not held, one line each.
        met: the names of all rules that were applied.
        n_compared: how many results were compared.
    """

    def __init__(self, n_rows, seed, rules=RULES):
        self.n_rows, self.rules = n_rows, rules
        self.rng = np.random.default_rng(seed)
        self.failures, self.met, self.n_compared = [], set(), 0

    def run(self, jaxpr, consts, args, xs):
        """Evaluate a program from enclosures `args` and numbers `xs` in them; return both."""
        known = dict(
            zip(jaxpr.constvars, ((np.asarray(c), np.asarray(c)) for c in consts), strict=True)
        )
        known |= dict(zip(jaxpr.invars, zip(args, xs, strict=True), strict=True))

        def read(atom):
            if isinstance(atom, core.Literal):
                value = np.asarray(atom.val, atom.aval.dtype)
                return value, value
            return known[atom]

        for eqn in jaxpr.eqns:
            pairs = [read(atom) for atom in eqn.invars]
            known.update(zip(eqn.outvars, self.apply(eqn, *zip(*pairs, strict=True)), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, eqn, args, xs):
        """Return an operation's enclosures and numbers in them, and note what is not held."""
        name = eqn.primitive.name
        nothing = [(None, None)] * len(eqn.outvars)
        if any(arg is None for arg in args):
            return nothing
        if name in interpreter._CALLS:
            inner = next(
                eqn.params[key] for key in interpreter._INNER_PROGRAMS if key in eqn.params
            )
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), args, xs)
        try:
            results = interpreter._apply(eqn, list(args), self.rules)
        except NotCovered:
            return nothing
        self.met.add(name)
        ys = bind(eqn, xs)
        scales = bind(eqn, [np.abs(x) for x in xs]) if name in SUMS else [0.0] * len(ys)
        skip = self.of_rows([is_subnormal(x) for x in xs])
        out = []
        for result, y, scale in zip(results, ys, scales, strict=True):
            wrong = violated(name, result, y, scale) & ~self.along(skip, y.shape)
            self.n_compared += y.size
            if wrong.any():
                self.note(eqn, "value", args, xs, result, y, np.argwhere(wrong)[0])
            out.append((result, members(result, y, self.rng)))
        self.compare_with_arb(eqn, args, xs, results[0])
        self.compare_sums(eqn, args, xs, results[0])
        self.compare_secants(eqn, args, xs, results)
        return out

    def note(self, eqn, what, args, xs, result, y, at):
        """Add a line on what is not held."""

        def at_row(a):
            a = np.asarray(a)
            axis = self.axis(a.shape)
            row = at[self.axis(np.shape(y))] if self.axis(np.shape(y)) is not None else 0
            return a if axis is None else np.take(a, row, axis)

        def shown(a):
            if isinstance(a, Enclosure):
                rad = np.broadcast_to(a.value.radius, a.shape)
                text = f"{at_row(a.value.mid)} +- {at_row(rad)}"
                if a.slope is not None and what != "value":
                    rad = np.broadcast_to(a.slope.radius, a.slope.shape)
                    text += f" slope {at_row(a.slope.mid)} +- {at_row(rad)}"
                return text
            if isinstance(a, Decision):
                return f"true {at_row(a.is_true)} false {at_row(a.is_false)}"
            return str(at_row(a))

        self.failures.append(
            f"{what} of `{eqn.primitive.name}` at {tuple(map(int, at))}: {eqn.params}\n"
            + "".join(
                f"  of {shown(a)}\n    at {at_row(x)}\n" for a, x in zip(args, xs, strict=True)
            )
            + f"  is {at_row(y)}\n  not in {shown(result)}"
        )

    # ---- rows

    def axis(self, shape):
        """Return the axis of the rows, which no other is as long as; `None` if there is none."""
        return shape.index(self.n_rows) if self.n_rows in shape else None

    def along(self, per_row, shape):
        """Return numbers for each row, in a shape in which they are spread over an array."""
        axis = self.axis(shape)
        if axis is None:
            return np.zeros((), per_row.dtype) if per_row.dtype == bool else np.max(per_row)
        return per_row.reshape([-1 if i == axis else 1 for i in range(len(shape))])

    def by_row(self, a):
        """Return an array with one row for each, and all of its numbers in it."""
        return np.moveaxis(a, self.axis(a.shape), 0).reshape(self.n_rows, -1)

    def of_rows(self, arrays):
        """Return for each row whether something holds of any of its numbers."""
        verdict = np.zeros(self.n_rows, bool)
        for a in arrays:
            alone = self.axis(a.shape) is None
            verdict = verdict | (np.any(a) if alone else self.by_row(a).any(axis=1))
        return verdict

    # ---- slopes, by XLA

    def compare_secants(self, eqn, args, xs, results):
        """Compare slopes with those between two states that are `h` apart, in each row."""
        if not any(isinstance(arg, Enclosure) and arg.slope for arg in args):
            return
        direction = self.rng.integers(0, N_STATES, self.n_rows)
        firsts, slopes = self.freshly_drawn(args, xs), []
        h, size, steepest = np.ones(self.n_rows), np.zeros(self.n_rows), np.zeros(self.n_rows)
        for arg, x in zip(args, firsts, strict=True):
            if not isinstance(arg, Enclosure) or arg.slope is None:
                slopes.append(np.zeros(()))
                continue
            ball = self.in_direction(arg.slope, direction)
            slope = np.where(ball.is_known, drawn_from(ball, self.rng, 1.0), 1.0)
            slope = np.where(arg.value.is_known, slope, 0.0)
            slopes.append(slope)
            with np.errstate(all="ignore"):
                room = np.where(slope != 0, 0.45 * arg.value.radius / np.abs(slope), 1.0)
            h = np.minimum(h, self.by_row(np.nan_to_num(room)).min(axis=1))
            known = np.where(arg.value.is_known, np.abs(x), 0.0)
            size = np.maximum(size, self.by_row(known).max(axis=1))
            steepest = np.maximum(steepest, self.by_row(np.abs(slope)).max(axis=1))
        with np.errstate(all="ignore"):
            seconds = [
                x if np.ndim(s) == 0 else x - s * self.along(h, x.shape)
                for x, s in zip(firsts, slopes, strict=True)
            ]
        good = (h > 0) & ~self.of_rows([is_subnormal(x) for x in (*firsts, *seconds)])
        for result, y, z in zip(results, bind(eqn, firsts), bind(eqn, seconds), strict=True):
            if not isinstance(result, Enclosure) or self.axis(y.shape) is None:
                continue
            step, of_state, of_steps = (self.along(a, y.shape) for a in (h, size, steepest))
            slope = self.in_direction(with_slope(result, N_STATES), direction)
            with np.errstate(all="ignore"):
                secant = (y - z) / step
                # By rounding, the operands change by a little more or less than they should.
                steep = np.maximum(1.0, (np.abs(slope.mid) + slope.radius) / of_steps)
                slack = 10 * OF_XLA * (np.abs(y) + np.abs(z) + of_state * steep) / step
                slack = slack + 1e-9 * np.abs(secant) + SMALLEST / step
                off = np.abs(secant - slope.mid) > slope.radius + slack
            known = slope.is_known & result.value.is_known & np.isfinite(secant)
            wrong = off & known & self.along(good, y.shape)
            self.n_compared += int(good.sum())
            if wrong.any():
                pairs = [np.stack([a, b], -1) for a, b in zip(firsts, seconds, strict=True)]
                self.note(eqn, "slope", args, pairs, result, secant, np.argwhere(wrong)[0])

    def freshly_drawn(self, args, xs):
        """Return numbers inside enclosures, with room around them; equal ones of the same one."""
        drawn = {}
        for arg, x in zip(args, xs, strict=True):
            if isinstance(arg, Enclosure):
                new = np.where(
                    arg.value.is_known, drawn_from(arg.value, self.rng, 0.5), arg.value.mid
                )
            else:
                new = members(arg, x, self.rng)
            drawn.setdefault(id(arg), new)
        return [drawn[id(arg)] for arg in args]

    def in_direction(self, slope, direction):
        """Return the slopes along one direction, another one for each row."""
        shape = slope.shape[:-1]
        which = np.broadcast_to(self.along(direction % slope.shape[-1], shape), shape)[..., None]
        rad = np.broadcast_to(slope.radius, slope.shape)
        return Ball(*(np.take_along_axis(a, which, -1)[..., 0] for a in (slope.mid, rad)))

    # ---- multiple precision

    def compare_sums(self, eqn, args, xs, result):
        """Compare sums of several terms with those in rational numbers."""
        if eqn.primitive.name not in SUMS or not isinstance(result, Enclosure):
            return
        exact = [np.frompyfunc(Fraction, 1, 1)(np.where(np.isfinite(x), x, 0.0)) for x in xs]
        true = IN_FRACTIONS[eqn.primitive.name](eqn.params, *exact)
        finite = ~self.along(self.of_rows([~np.isfinite(x) for x in xs]), result.shape)
        known = np.argwhere(result.value.is_known & finite)
        rad = np.broadcast_to(result.value.radius, result.shape)
        self.n_compared += len(known)
        for at in map(tuple, known):
            if abs(true[at] - Fraction(float(result.value.mid[at]))) > Fraction(float(rad[at])):
                self.note(eqn, "value", args, xs, result, true, at)
                return

    def compare_with_arb(self, eqn, args, xs, result):
        """Compare one number of each row, and its slope, with multiple-precision arithmetic."""
        if eqn.primitive.name not in IN_ARB or not isinstance(result, Enclosure):
            return
        if self.axis(result.shape) is None:
            return
        shape, rng = result.shape, self.rng
        at = tuple(rng.integers(0, length, self.n_rows) for length in shape)
        at = list(at)
        at[self.axis(shape)] = np.arange(self.n_rows)
        at, direction = tuple(at), rng.integers(0, N_STATES, self.n_rows)

        def picked(a):
            return np.broadcast_to(a, shape)[at].astype(np.float64).tolist()

        def steps(ball):
            ball = self.in_direction(
                Ball(ball.mid, np.broadcast_to(ball.radius, ball.shape)), direction
            )
            return picked(np.where(ball.is_known, drawn_from(ball, rng, 1.0), NAN))

        function = IN_ARB[eqn.primitive.name]
        largest = MOST_OF_EXPONENTS if eqn.primitive.name in OF_EXPONENTS else INF
        operands = list(zip(*map(picked, xs), strict=True))
        slopes = [
            steps(a.slope) if isinstance(a, Enclosure) and a.slope is not None else None
            for a in args
        ]
        value = list(
            zip(
                picked(result.value.mid),
                picked(np.broadcast_to(result.value.radius, shape)),
                strict=True,
            )
        )
        if result.slope is not None:
            ball = self.in_direction(result.slope, direction)
            slope = list(zip(picked(ball.mid), picked(ball.radius), strict=True))
        for row, numbers in enumerate(operands):
            if not np.all(np.abs(numbers) < largest):
                continue
            true, *derivatives = function(eqn.params, *map(flint.arb, numbers))
            where = [index[row] for index in at]
            self.n_compared += 1
            if not is_held(true, *value[row]):
                self.note(eqn, "value", args, xs, result, np.full(shape, float(true.mid())), where)
                continue
            if result.slope is None or not derivatives:
                continue
            total = flint.arb(0)
            for derivative, of in zip(derivatives, slopes, strict=True):
                if of is not None:
                    total += derivative * flint.arb(of[row])
            if not is_held(total, *slope[row]):
                self.note(eqn, "slope", args, xs, result, np.full(shape, float(total.mid())), where)


def _dot_in_fractions(params, a, b):
    (of_a, of_b), (batch_a, batch_b) = params["dimension_numbers"]
    names_a, names_b = [*"abcdef"[: a.ndim]], [*"uvwxyz"[: b.ndim]]
    for i, j in (*zip(of_a, of_b, strict=True), *zip(batch_a, batch_b, strict=True)):
        names_b[j] = names_a[i]
    shared = [names_a[i] for i in batch_a]
    summed = [names_a[i] for i in of_a]
    free = [name for name in (*names_a, *names_b) if name not in (*shared, *summed)]
    return np.einsum(f"{''.join(names_a)},{''.join(names_b)}->{''.join((*shared, *free))}", a, b)


def _cumsum_in_fractions(params, a):
    flip = (lambda a: np.flip(a, params["axis"])) if params["reverse"] else lambda a: a
    return flip(np.cumsum(flip(a), axis=params["axis"], dtype=object))


IN_FRACTIONS = {
    "cumsum": _cumsum_in_fractions,
    "dot_general": _dot_in_fractions,
    "reduce_sum": lambda params, a: np.sum(a, axis=tuple(params["axes"])),
}


def is_held(true, mid, rad):
    """Return whether a ball holds a number of `arb`; if that is none, the ball must be unknown."""
    if not (np.isfinite(mid) and np.isfinite(rad)):
        return True
    return true.is_finite() and not bool(abs(true - flint.arb(mid)) > flint.arb(rad))


def _arb_pow(params, a, b):
    if b.is_integer():
        return (a ** int(float(b)),) if a != 0 or b >= 0 else (flint.arb("nan"),)
    if not a > 0:
        return (flint.arb(0) if a == 0 and b > 0 else flint.arb("nan"),)
    power = (a.log() * b).exp()
    return power, b * power / a, a.log() * power


def _arb_integer_pow(params, a):
    y = params["y"]
    return a**y, (y * a ** (y - 1) if y else flint.arb(0))


def _arb_step(function):
    return lambda params, a: (function(a),)


IN_ARB = {
    "add": lambda params, a, b: (a + b, flint.arb(1), flint.arb(1)),
    "add_any": lambda params, a, b: (a + b, flint.arb(1), flint.arb(1)),
    "sub": lambda params, a, b: (a - b, flint.arb(1), flint.arb(-1)),
    "neg": lambda params, a: (-a, flint.arb(-1)),
    "mul": lambda params, a, b: (a * b, b, a),
    "div": lambda params, a, b: (a / b, 1 / b, -a / b / b),
    "square": lambda params, a: (a * a, 2 * a),
    "integer_pow": _arb_integer_pow,
    "pow": _arb_pow,
    "exp": lambda params, a: (a.exp(), a.exp()),
    "exp2": lambda params, a: (
        (a * flint.arb(2).log()).exp(),
        (a * flint.arb(2).log()).exp() * flint.arb(2).log(),
    ),
    "expm1": lambda params, a: (a.expm1(), a.exp()),
    "log": lambda params, a: (a.log(), 1 / a),
    "log1p": lambda params, a: (a.log1p(), 1 / (1 + a)),
    "tanh": lambda params, a: (a.tanh(), a.sech() ** 2),
    "logistic": lambda params, a: (1 / (1 + (-a).exp()), (a / 2).sech() ** 2 / 4),
    "sqrt": lambda params, a: (a.sqrt(), 1 / (2 * a.sqrt())),
    "rsqrt": lambda params, a: (a.rsqrt(), -a.rsqrt() / (2 * a)),
    "sin": lambda params, a: (a.sin(), a.cos()),
    "cos": lambda params, a: (a.cos(), -a.sin()),
    "tan": lambda params, a: (a.tan(), a.sec() ** 2),
    "sinh": lambda params, a: (a.sinh(), a.cosh()),
    "cosh": lambda params, a: (a.cosh(), a.sinh()),
    "abs": _arb_step(abs),
    "max": lambda params, a, b: (a if a > b else b,),
    "min": lambda params, a, b: (a if a < b else b,),
    "sign": _arb_step(lambda a: a.sgn()),
    "floor": _arb_step(lambda a: a.floor()),
    "ceil": _arb_step(lambda a: a.ceil()),
}
"""Values and derivatives by each operand, of operations of which `arb` knows them."""

OF_EXPONENTS = ("cosh", "exp", "exp2", "expm1", "logistic", "pow", "sinh", "tanh")
MOST_OF_EXPONENTS = 1e15
"""Exponents of which `arb` can compute a power."""


def check(steps, seed, n_rows, rules=RULES):
    """Return the checks of a program, with rows of boxes and constants of its own.

    No other axis is as long as there are rows.
    """
    box, u = rows(np.random.default_rng(seed), n_rows)
    lockstep = Lockstep(n_rows, seed + 1, rules)
    before, flint.ctx.prec = flint.ctx.prec, 200
    try:
        with jax.enable_x64(True):
            jaxpr = EnclosedProgram(as_transition(transition(steps)), box.mid, u)._program
            slope = Ball(np.broadcast_to(np.eye(N_STATES), (n_rows, N_STATES, N_STATES)))
            x = drawn_from(box, lockstep.rng, 1.0)
            lockstep.run(jaxpr.jaxpr, jaxpr.consts, [Enclosure(box, slope), u], [x, u])
    finally:
        flint.ctx.prec = before
    return lockstep
