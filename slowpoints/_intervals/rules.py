"""What each operation of a JAX program does to enclosures.

A rule takes an operation's parameters and its operands (exact NumPy arrays, enclosures or
decisions) and returns its result, or a list of results. The names are those of JAX's primitives.

A result holds what the operation makes of all that its operands hold, in real arithmetic. Where
that has no result, as for the square root of -1 or the quotient 1/0, XLA returns NaN or an
infinity, and here the result is unknown (see `balls`), which holds both. XLA makes NaN of NaN, and
a rule makes what is unknown of what is unknown, except that

- the power 0 of NaN is 1;
- comparisons with NaN are false, but for `ne`, and those with what is unknown are undecided, unless
  no value at all could make them true;
- a choice is NaN only if the case that is chosen is, and what moves numbers moves NaN among them;
- a conversion to whole numbers makes 0 of NaN, and one to truth values, true.

Maxima and minima, clamps and signs of NaN are NaN in XLA, unlike those of some libraries. Numbers
that are too large for the network's precision are infinite in XLA, and subnormal ones may be 0 to
it: this is rounding, of which there is none in real arithmetic.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._intervals import elementary
from slowpoints._intervals.balls import (
    Ball,
    clipped,
    from_bounds,
    hull,
    known_where,
    matmul,
    monotone,
    power,
)
from slowpoints._intervals.enclosure import (
    Decision,
    Enclosure,
    NotCovered,
    chained,
    chosen,
    enclosure_of,
    hull_of,
    with_a_jump,
    with_slope,
)
from slowpoints._intervals.regions import IN_FORCE

RULES: dict[str, Callable[..., Any]] = {}

_ONE, _TWO = Ball(np.float64(1)), Ball(np.float64(2))


def _rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


# ---- sums and products ---------------------------------------------------------------------------


@_rule("add", "add_any")
def _add(params: Any, a: Any, b: Any) -> Enclosure:
    a, b = enclosure_of(a), enclosure_of(b)
    return chained(a.value + b.value, (_ONE, a.slope), (_ONE, b.slope))


@_rule("sub")
def _sub(params: Any, a: Any, b: Any) -> Enclosure:
    return _add(params, a, _neg(params, b))


@_rule("neg")
def _neg(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    return Enclosure(-a.value, None if a.slope is None else -a.slope)


@_rule("mul")
def _mul(params: Any, a: Any, b: Any) -> Enclosure:
    a, b = enclosure_of(a), enclosure_of(b)
    return chained(a.value * b.value, (b.value, a.slope), (a.value, b.slope))


@_rule("div")
def _div(params: Any, a: Any, b: Any) -> Enclosure:
    a, b = enclosure_of(a), enclosure_of(b)
    ratio = a.value / b.value
    # a/b - a'/b' = (a - a') / b - (a'/b') (b - b') / b
    by_b = None if b.slope is None else -ratio / b.value
    parts = [(_ONE / b.value, a.slope)]
    return chained(ratio, *parts, *([] if by_b is None else [(by_b, b.slope)]))


@_rule("square")
def _square(params: Any, a: Any) -> Enclosure:
    return _integer_pow({"y": 2}, a)


@_rule("one_minus_square")
def _one_minus_square(params: Any, a: Any) -> Enclosure:
    return _sub(params, np.float64(1), _square(params, a))


@_rule("integer_pow")
def _integer_pow(params: Any, a: Any) -> Enclosure:
    a, y = enclosure_of(a), params["y"]
    # The power 0 is 1, that of NaN too, as in XLA.
    slope = Ball(np.float64(y)) * power(a.value, y - 1) if y else Ball(np.float64(0))
    return chained(power(a.value, y), (slope, a.slope))


@_rule("pow")
def _pow(params: Any, a: Any, b: Any) -> Enclosure:
    if not isinstance(b, Enclosure) and np.unique(b).size == 1:
        exponent = float(np.ravel(b)[0])
        if exponent.is_integer() and abs(exponent) < 2**31:
            return _integer_pow({"y": int(exponent)}, a)
    return _exp({}, _mul({}, b, _log({}, a)))


@_rule("dot_general")
def _dot_general(params: Any, a: Any, b: Any) -> Enclosure:
    a, b = enclosure_of(a), enclosure_of(b)
    numbers = params["dimension_numbers"]
    value = _dot(numbers, a.value, b.value)
    slope = None
    if a.slope is not None:
        slope = _dot(numbers, a.slope, b.value, extra_a=1)
    if b.slope is not None:
        term = _dot(numbers, a.value, b.slope, extra_b=1)
        slope = term if slope is None else slope + term
    return Enclosure(value, slope)


def _dot(numbers: Any, a: Ball, b: Ball, *, extra_a: int = 0, extra_b: int = 0) -> Ball:
    """Return the product; the slopes' axis of one of the two comes last in the result."""
    (contract_a, contract_b), (batch_a, batch_b) = numbers
    free_a = [i for i in range(len(a.shape)) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(len(b.shape)) if i not in (*contract_b, *batch_b)]
    batch, rows, columns = (
        [x.shape[i] for i in axes] for x, axes in ((a, batch_a), (a, free_a), (b, free_b))
    )
    count = math.prod(a.shape[i] for i in contract_a)
    n_rows, n_columns = math.prod(rows), math.prod(columns)

    def left(x: Any) -> Any:
        return np.transpose(x, (*batch_a, *free_a, *contract_a)).reshape(*batch, n_rows, count)

    def right(x: Any) -> Any:
        return np.transpose(x, (*batch_b, *contract_b, *free_b)).reshape(*batch, count, n_columns)

    shape = (*batch, *rows, *columns)
    product = matmul(a.map(left), b.map(right)).map(lambda x: x.reshape(shape))
    if extra_a:
        own = len(batch) + len(free_a) - 1
        product = product.map(lambda x: np.moveaxis(x, own, -1))
    return product


@_rule("reduce_sum")
def _reduce_sum(params: Any, a: Any) -> Enclosure:
    a, axes = enclosure_of(a), tuple(map(int, params["axes"]))
    return Enclosure(a.value.sum(axes), None if a.slope is None else a.slope.sum(axes))


@_rule("cumsum")
def _cumsum(params: Any, a: Any) -> Enclosure:
    a, axis = enclosure_of(a), params["axis"]
    steps = range(a.shape[axis])
    parts = [a.map(lambda x, extra, i=i: np.take(x, [i], axis)) for i in steps]
    order = list(reversed(parts)) if params.get("reverse") else parts
    sums = [order[0]] if order else []
    for part in order[1:]:
        sums.append(_add({}, sums[-1], part))
    sums = sums[::-1] if params.get("reverse") else sums
    return _concatenate({"dimension": axis}, *sums) if sums else a


# ---- functions of one number ---------------------------------------------------------------------


@_rule("exp")
def _exp(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = clipped(monotone(elementary.exp, a.value), 0.0, np.inf)
    return chained(value, (value, a.slope))


@_rule("exp2")
def _exp2(params: Any, a: Any) -> Enclosure:
    return _exp({}, _mul({}, Enclosure(Ball(*elementary.log(2.0))), a))


@_rule("expm1")
def _expm1(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    return chained(
        monotone(elementary.expm1, a.value), (_exp({}, Enclosure(a.value)).value, a.slope)
    )


@_rule("log")
def _log(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = monotone(elementary.log, a.value)
    # The quotient exists below zero too, where it is no slope.
    return chained(value, (known_where(_ONE / a.value, value.is_known), a.slope))


@_rule("log1p")
def _log1p(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = monotone(elementary.log1p, a.value)
    slope = known_where(_ONE / (_ONE + a.value), value.is_known)  # see `_log`
    return chained(value, (slope, a.slope))


@_rule("tanh")
def _tanh(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = clipped(monotone(elementary.tanh, a.value), -1.0, 1.0)
    derivative = clipped(_ONE - power(value, 2), 0.0, 1.0)
    return chained(value, (derivative, a.slope))


@_rule("logistic")
def _logistic(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = clipped(monotone(elementary.logistic, a.value), 0.0, 1.0)
    # s (1 - s) = 1/4 - (s - 1/2)^2, which names s only once
    derivative = Ball(np.float64(0.25)) - power(value - Ball(np.float64(0.5)), 2)
    return chained(value, (clipped(derivative, 0.0, 0.25), a.slope))


@_rule("sqrt")
def _sqrt(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = monotone(elementary.sqrt, a.value)
    return chained(value, (_ONE / (_TWO * value), a.slope))


@_rule("rsqrt")
def _rsqrt(params: Any, a: Any) -> Enclosure:
    return _div({}, np.float64(1), _sqrt({}, a))


@_rule("sin")
def _sin(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    return chained(_wave(elementary.sin, a.value), (_wave(elementary.cos, a.value), a.slope))


@_rule("cos")
def _cos(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    return chained(_wave(elementary.cos, a.value), (-_wave(elementary.sin, a.value), a.slope))


def _wave(function: Any, x: Ball) -> Ball:
    """Return a sine, which changes by no more than its argument; that of infinity is unknown."""
    value, error = function(x.mid)
    with np.errstate(all="ignore"):
        return clipped(Ball(value, (error + x.radius) * (1 + 2.0**-40)), -1.0, 1.0)


@_rule("tan")
def _tan(params: Any, a: Any) -> Enclosure:
    return _div({}, _sin({}, a), _cos({}, a))


@_rule("sinh")
def _sinh(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    value = monotone(elementary.sinh, a.value)
    return chained(value, (_cosh({}, Enclosure(a.value)).value, a.slope))


@_rule("cosh")
def _cosh(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    rising, falling = (_exp({}, Enclosure(x)).value for x in (a.value, -a.value))
    value = clipped(Ball(np.float64(0.5)) * (rising + falling), 1.0, np.inf)
    return chained(value, (monotone(elementary.sinh, a.value), a.slope))


@_rule("abs")
def _abs(params: Any, a: Any) -> Enclosure:
    result = _max(params, a, _neg(params, a))
    if IN_FORCE.get() is not None:
        return result  # beyond the region that is supposed, it is negative
    return Enclosure(clipped(result.value, 0.0, np.inf), result.slope)


@_rule("sign")
def _sign(params: Any, a: Any) -> Any:
    return _steps(a, np.sign)


@_rule("floor")
def _floor(params: Any, a: Any) -> Any:
    return _steps(a, np.floor)


@_rule("ceil")
def _ceil(params: Any, a: Any) -> Any:
    return _steps(a, np.ceil)


@_rule("round")
def _round(params: Any, a: Any) -> Any:
    if params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise NotCovered("`round` away from zero")
    return _steps(a, np.rint)


def _steps(a: Any, function: Callable[[Any], Any]) -> Any:
    """Return a monotone function that is constant between jumps, and NaN for NaN."""
    a = enclosure_of(a)
    low, high = map(function, a.value.bounds())
    value = known_where(from_bounds(low, high), a.value.is_ordered)
    if a.slope is None:
        return Enclosure(value)
    flat = Enclosure(value, a.slope.map(np.zeros_like))
    return with_a_jump(flat, low != high)


# ---- comparison and choice -----------------------------------------------------------------------


@_rule("max")
def _max(params: Any, a: Any, b: Any) -> Enclosure:
    a, b = _alike(a, b)
    regions = IN_FORCE.get()
    if regions is not None:
        difference = _sub({}, a, b)
        if difference.slope is not None:
            supposed = regions.maximum(a, b, difference.value)
            # Of NaN and a number neither is the larger.
            value = known_where(supposed.value, difference.value.is_known)
            return Enclosure(value, supposed.slope)
    (a_low, a_high), (b_low, b_high) = a.value.bounds(), b.value.bounds()
    either = hull_of(a, b)
    # Unknown if one of the two is, since it has no upper end then.
    value = from_bounds(np.maximum(a_low, b_low), np.maximum(a_high, b_high))
    either = Enclosure(value, either.slope)
    # NaN is the maximum of NaN and infinity, as in XLA.
    first = (a_low >= b_high) & b.value.is_ordered
    second = (b_low >= a_high) & a.value.is_ordered
    return chosen(first, a, chosen(second, b, either))


@_rule("min")
def _min(params: Any, a: Any, b: Any) -> Enclosure:
    return _neg(params, _max(params, _neg(params, a), _neg(params, b)))


@_rule("clamp")
def _clamp(params: Any, low: Any, a: Any, high: Any) -> Enclosure:
    return _min(params, _max(params, a, low), high)


@_rule("reduce_max")
def _reduce_max(params: Any, a: Any) -> Enclosure:
    a = enclosure_of(a)
    for axis in sorted(params["axes"], reverse=True):
        size = a.shape[axis]
        if size == 0:
            raise NotCovered("a maximum of nothing")
        parts = [a.map(lambda x, extra, i=i, axis=axis: np.take(x, i, axis)) for i in range(size)]
        a = reduce(lambda a, b: _max({}, a, b), parts)
    return a


@_rule("reduce_min")
def _reduce_min(params: Any, a: Any) -> Enclosure:
    return _neg(params, _reduce_max(params, _neg(params, a)))


@_rule("lt", "le", "gt", "ge", "eq", "ne")
def _compare(params: Any, a: Any, b: Any) -> Any:
    name = params["name"]
    if not isinstance(a, (Enclosure, Decision)) and not isinstance(b, (Enclosure, Decision)):
        return _EXACTLY[name](a, b)
    if isinstance(a, Decision) or isinstance(b, Decision):
        return _compare_decision(name, a, b)
    if a is b:  # so JAX asks whether a number is NaN, which only what is unknown can be
        known = _is_finite(params, a)
        holds = name in ("le", "ge", "eq")
        return known if holds else _not(params, known)
    if name in ("gt", "ge"):
        a, b = b, a
        name = {"gt": "lt", "ge": "le"}[name]
    a, b = enclosure_of(a), enclosure_of(b)
    (a_low, a_high), (b_low, b_high) = a.value.bounds(), b.value.bounds()
    if name == "lt":
        return Decision(a_high < b_low, a_low >= b_high).settled()
    if name == "le":
        # Every number is at most infinity, but NaN is not.
        ordered = a.value.is_ordered & b.value.is_ordered
        return Decision((a_high <= b_low) & ordered, a_low > b_high).settled()
    same = (a_low == a_high) & (b_low == b_high) & (a_low == b_low)
    apart = (a_high < b_low) | (b_high < a_low)
    return Decision(*((same, apart) if name == "eq" else (apart, same))).settled()


def _compare_decision(name: str, a: Any, b: Any) -> Any:
    """Compare undecided truth values, taken as 0 and 1, with known numbers, as `lax.cond` does."""
    if isinstance(b, Decision):
        a, b = b, a
    if (
        not isinstance(a, Decision)
        or isinstance(b, (Enclosure, Decision))
        or name not in ("eq", "ne")
    ):
        raise NotCovered(f"`{name}` of undecided comparisons")
    equal = Decision(
        np.where(b == 1, a.is_true, (b == 0) & a.is_false),
        np.where(b == 1, a.is_false, (b != 0) | a.is_true),
    )
    return (equal if name == "eq" else Decision(equal.is_false, equal.is_true)).settled()


_EXACTLY = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


@_rule("not")
def _not(params: Any, a: Any) -> Any:
    return Decision(a.is_false, a.is_true) if isinstance(a, Decision) else np.logical_not(a)


@_rule("and")
def _and(params: Any, a: Any, b: Any) -> Any:
    a, b = _decision(a), _decision(b)
    return Decision(a.is_true & b.is_true, a.is_false | b.is_false).settled()


@_rule("or")
def _or(params: Any, a: Any, b: Any) -> Any:
    return _not(params, _and(params, _not(params, a), _not(params, b)))


def _decision(a: Any) -> Decision:
    if isinstance(a, Decision):
        return a
    if np.asarray(a).dtype != bool:
        raise NotCovered("bitwise arithmetic")
    return Decision(np.asarray(a), ~np.asarray(a))


@_rule("is_finite")
def _is_finite(params: Any, a: Any) -> Any:
    if not isinstance(a, Enclosure):
        return np.isfinite(a)
    # What has no finite bound may be a number, or not be defined.
    known = np.isfinite(a.value.mid) & np.isfinite(a.value.radius)
    return Decision(known, np.zeros_like(known)).settled()


@_rule("select_n")
def _select_n(params: Any, which: Any, *cases: Any) -> Any:
    if isinstance(which, Enclosure):
        raise NotCovered("a choice by a whole number that is computed")
    if not any(isinstance(case, (Enclosure, Decision)) for case in cases):
        if not isinstance(which, Decision):
            return _choose_exactly(np.asarray(which), cases)
        if np.asarray(cases[0]).dtype.kind == "b":
            cases = tuple(map(_decision, cases))
    if isinstance(which, Decision):
        cases = cases[:2]  # a truth value as a whole number is the number of one of these
    if any(isinstance(case, Decision) for case in cases):
        if len(cases) != 2:
            raise NotCovered("a choice among many undecided comparisons")
        no, yes = map(_decision, cases)
        picks = _or({}, _and({}, which, yes), _and({}, _not({}, which), no))
        return picks
    if not isinstance(which, Decision):
        result, which = enclosure_of(cases[0]), _number_of_case(which, cases)
        for number, case in enumerate(cases[1:], start=1):
            result = chosen(which == number, *_alike(case, result))
        return result
    no, yes = _alike(*cases)
    # It is not known that the two agree at the threshold.
    undecided = ~(which.is_true | which.is_false)
    either = with_a_jump(Enclosure(hull(no.value, yes.value), hull_of(no, yes).slope), undecided)
    return chosen(which.is_true, yes, chosen(which.is_false, no, either))


def _choose_exactly(which: Any, cases: tuple[Any, ...]) -> Any:
    result, which = np.asarray(cases[0]), _number_of_case(which, cases)
    for number, case in enumerate(cases[1:], start=1):
        result = np.where(which == number, case, result)
    return result


def _number_of_case(which: Any, cases: tuple[Any, ...]) -> Any:
    """Return which case is chosen; as in XLA, the first or the last if there is none so far off."""
    return np.clip(np.asarray(which).astype(np.int64), 0, len(cases) - 1)


def _mid(a: Any) -> Any:
    if isinstance(a, Decision):
        return a.is_true
    return a.value.mid if isinstance(a, Enclosure) else a


def _alike(a: Any, b: Any) -> tuple[Enclosure, Enclosure]:
    """Return two operands of one shape."""
    a, b = enclosure_of(a), enclosure_of(b)
    shape = np.broadcast_shapes(a.shape, b.shape)

    def widened(e: Enclosure) -> Enclosure:
        if e.shape == shape:
            return e
        return e.map(lambda x, extra: np.broadcast_to(x, (*shape, *x.shape[x.ndim - extra :])))

    return widened(a), widened(b)


# ---- operations that only move numbers -----------------------------------------------------------


def _moves(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Register `move(array, extra, params)` for operations of one operand."""

    def register(move: Callable[..., Any]) -> Any:
        def rule(params: Any, a: Any, *rest: Any) -> Any:
            if any(np.size(r) for r in rest):
                raise NotCovered(f"`{name}` to a shape that is not fixed")
            if isinstance(a, (Enclosure, Decision)):
                return a.map(lambda x, extra: move(x, extra, params))
            return move(np.asarray(a), 0, params)

        RULES[name] = rule
        return move

    return register


@_moves("reshape")
def _reshape(x: Any, extra: int, params: Any) -> Any:
    if params.get("dimensions") is not None:
        x = _transpose(x, extra, {"permutation": params["dimensions"]})
    return x.reshape(*params["new_sizes"], *x.shape[x.ndim - extra :])


@_moves("squeeze")
def _squeeze(x: Any, extra: int, params: Any) -> Any:
    return np.squeeze(x, tuple(params["dimensions"]))


@_moves("expand_dims")
def _expand_dims(x: Any, extra: int, params: Any) -> Any:
    return np.expand_dims(x, tuple(params["dimensions"]))


@_moves("transpose")
def _transpose(x: Any, extra: int, params: Any) -> Any:
    order = tuple(params["permutation"])
    return np.transpose(x, order + ((len(order),) if extra else ()))


@_moves("broadcast_in_dim")
def _broadcast_in_dim(x: Any, extra: int, params: Any) -> Any:
    shape, axes = params["shape"], params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for size, axis in zip(x.shape, axes, strict=False):
        spread[axis] = size
    tail = x.shape[x.ndim - extra :]
    return np.broadcast_to(x.reshape(*spread, *tail), (*shape, *tail))


@_moves("tile")
def _tile(x: Any, extra: int, params: Any) -> Any:
    return np.tile(x, (*params["reps"], *(1,) * extra))


@_moves("slice")
def _slice(x: Any, extra: int, params: Any) -> Any:
    strides = params["strides"] or (1,) * len(params["start_indices"])
    cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*cut) for cut in cuts)]


@_moves("rev")
def _rev(x: Any, extra: int, params: Any) -> Any:
    return np.flip(x, tuple(params["dimensions"]))


@_moves("copy")
@_moves("copy_p")
@_moves("stop_gradient")
def _as_it_is(x: Any, extra: int, params: Any) -> Any:
    return x


@_rule("optimization_barrier")
def _barrier(params: Any, *args: Any) -> Any:
    return list(args)


@_rule("split")
def _split(params: Any, a: Any) -> Any:
    sizes, axis = params["sizes"], params["axis"]
    ends = np.cumsum(sizes)
    parts = []
    for start, end in zip(ends - sizes, ends, strict=True):
        cut = (slice(None),) * axis + (slice(int(start), int(end)),)
        moved = isinstance(a, (Enclosure, Decision))
        parts.append(a.map(lambda x, extra, cut=cut: x[cut]) if moved else np.asarray(a)[cut])
    return parts


@_rule("concatenate")
def _concatenate(params: Any, *parts: Any) -> Any:
    axis = params["dimension"]
    if not any(isinstance(part, (Enclosure, Decision)) for part in parts):
        return np.concatenate(parts, axis)
    if any(isinstance(part, Decision) for part in parts):
        both = [_decision(part) for part in parts]
        sides = zip(*((d.is_true, d.is_false) for d in both), strict=True)
        return Decision(*(np.concatenate(side, axis) for side in sides))
    known = [enclosure_of(part) for part in parts]

    def join(balls: list[Ball]) -> Ball:
        mid = np.concatenate([ball.mid for ball in balls], axis)
        if all(ball.rad is None for ball in balls):
            return Ball(mid)
        radii = [np.broadcast_to(ball.radius, ball.shape) for ball in balls]
        return Ball(mid, np.concatenate(radii, axis))

    lengths = [e.slope.shape[-1] for e in known if e.slope is not None]
    value = join([e.value for e in known])
    if not lengths:
        return Enclosure(value)
    return Enclosure(value, join([with_slope(e, max(lengths)) for e in known]))


@_rule("stack")
def _stack(params: Any, *parts: Any) -> Any:
    axis = params["axis"]
    rows = [RULES["expand_dims"]({"dimensions": (axis,)}, part) for part in parts]
    return _concatenate({"dimension": axis}, *rows)


@_rule("unstack")
def _unstack(params: Any, a: Any) -> Any:
    axis = params["axis"]
    parts = _split({"sizes": (1,) * np.shape(_mid(a))[axis], "axis": axis}, a)
    return [RULES["squeeze"]({"dimensions": (axis,)}, part) for part in parts]


@_rule("pad")
def _pad(params: Any, a: Any, fill: Any) -> Any:
    config = params["padding_config"]
    if any(min(low, high) < 0 for low, high, _ in config) or isinstance(
        fill, (Enclosure, Decision)
    ):
        raise NotCovered("`pad` that cuts, or with a value that is computed")
    if isinstance(a, Decision):
        raise NotCovered("`pad` of an undecided comparison")
    fill = np.asarray(fill)

    def pad(x: Any, fill: Any) -> Any:
        shape = list(x.shape)
        inner = [slice(None)] * x.ndim
        for axis, (low, high, between) in enumerate(config):
            length = shape[axis] + max(shape[axis] - 1, 0) * between
            shape[axis] = low + length + high
            inner[axis] = slice(low, low + length, between + 1)
        padded = np.full(shape, fill, x.dtype)
        padded[tuple(inner)] = x
        return padded

    if not isinstance(a, Enclosure):
        return pad(np.asarray(a), fill)
    rad = None if a.value.rad is None else pad(a.value.rad, 0.0)
    slope = None if a.slope is None else a.slope.map(lambda s: pad(s, 0.0))
    return Enclosure(Ball(pad(a.value.mid, fill.astype(np.float64)), rad), slope)


@_rule("convert_element_type")
def _convert_element_type(params: Any, a: Any) -> Any:
    to = np.dtype(params["new_dtype"])
    if isinstance(a, Enclosure):
        if not jnp.issubdtype(to, np.floating):
            raise NotCovered("conversion of what is computed to whole numbers or truth values")
        return a  # the certificate is for real numbers, which are not rounded
    if isinstance(a, Decision):
        if to.kind in "biu":
            return a  # as 0 and 1, of which only choices are made
        return _select_n({}, a, *_alike(np.zeros(a.is_true.shape), np.ones(a.is_true.shape)))
    a = np.asarray(a)
    if jnp.issubdtype(to, np.floating):
        return a if jnp.issubdtype(a.dtype, np.floating) else enclosure_of(a).value.mid
    if to.kind == "b":
        return a != 0  # so it is of NaN
    # XLA moves what is out of range to the end of the range, and NumPy to anywhere.
    with jax.enable_x64(True):
        return np.asarray(jax.lax.convert_element_type(jnp.asarray(a), to))


MOVED_BY_JAX = {
    "gather": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "scatter": (0, 2),
}
"""Operations of which `moved_by_jax` takes care, and which of their operands hold numbers; the
others hold places."""


def moved_by_jax(primitive: Any, params: Any, *args: Any) -> Enclosure:
    """Apply an operation that only moves numbers, such as `gather`, as JAX itself does."""
    name, holders = primitive.name, MOVED_BY_JAX[primitive.name]
    places = [arg for i, arg in enumerate(args) if i not in holders]
    if any(isinstance(value, (Enclosure, Decision)) for value in places):
        raise NotCovered(f"`{name}` at places that are computed")
    fill = params.get("fill_value")  # NaN is as good as none: it proves nothing
    if fill is not None and not np.isnan(fill):
        raise NotCovered(f"`{name}` with a value to fill in")
    if name == "scatter" and (not params["unique_indices"] or _computes(params["update_jaxpr"])):
        raise NotCovered(f"`{name}` at places that may coincide, or of a function")
    held = [enclosure_of(args[i]) for i in holders]

    def move(*arrays: Any) -> Any:
        filled = list(map(jnp.asarray, args_without_numbers))
        for i, array in zip(holders, arrays, strict=True):
            filled[i] = array
        return primitive.bind(*filled, **params)

    args_without_numbers = [0 if i in holders else arg for i, arg in enumerate(args)]
    lengths = [e.slope.shape[-1] for e in held if e.slope is not None]
    with jax.enable_x64(True):
        value = _moved([e.value for e in held], move)
        if not lengths:
            return Enclosure(value)
        slopes = [with_slope(e, max(lengths)) for e in held]
        return Enclosure(value, _moved(slopes, jax.vmap(move, in_axes=-1, out_axes=-1)))


def _computes(update: Any) -> bool:
    """Return whether a scattered number is more than put in its place."""
    return update is not None and bool(update.eqns)


def _moved(balls: list[Ball], move: Callable[..., Any]) -> Ball:
    mid = np.asarray(move(*(jnp.asarray(ball.mid) for ball in balls)))
    if all(ball.rad is None for ball in balls):
        return Ball(mid)
    radii = (jnp.asarray(np.broadcast_to(ball.radius, ball.shape)) for ball in balls)
    return Ball(mid, np.asarray(move(*radii)))
