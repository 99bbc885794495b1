"""Programs of all operations that proofs cover, drawn at random: no enclosure is too narrow."""

import generated_programs as generated
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpoints._intervals import interpreter, rules
from slowpoints._intervals.balls import Ball, from_bounds, hull, power
from slowpoints._intervals.enclosure import Decision, Enclosure, chained, enclosure_of
from slowpoints._intervals.rules import MOVED_BY_JAX, RULES

ROWS, MANY_ROWS = 50, 200
"""Programs of the same steps, with boxes and constants of their own; JAX compiles each operation
for so many."""

UNREACHED = {
    "copy_p": "the name of `copy` in other releases of JAX",
    "expand_dims": "JAX writes it as `broadcast_in_dim`",
    "stop_gradient": "JAX writes nothing",
}
OF_SOME_RELEASES = {"one_minus_square", "stack", "tile", "unstack"}

steps = st.lists(
    st.builds(
        generated.Step,
        st.sampled_from(generated.NAMES),
        st.tuples(*[st.integers(0, 5)] * 3),
        st.integers(0, 83),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.integers(0, 2**32 - 1))
def test_each_enclosure_of_a_program_holds_what_xla_computes(steps, seed):
    """2,000 programs; one that fails is made as short as possible."""
    assert generated.check(steps, seed, ROWS).failures == []


def drawn(seed):
    """Return the steps of a program, and what its constants and boxes are drawn from."""
    rng = np.random.default_rng(seed)
    return generated.drawn_steps(rng, int(rng.integers(1, 9))), seed


@pytest.mark.slow
def test_no_enclosure_of_200_000_programs_is_too_narrow():
    met = set()
    for seed in range(200_000 // MANY_ROWS):
        checked = generated.check(*drawn(seed), MANY_ROWS)
        assert checked.failures == [], drawn(seed)
        met |= checked.met
    assert set(RULES) | set(MOVED_BY_JAX) <= met | set(UNREACHED) | OF_SOME_RELEASES


# ---- rules with a mistake ------------------------------------------------------------------------

MOST_STEPS = 400
"""A mistake has to be noticed by programs of so many lists of steps; most take less than fifty."""

_ONE = Ball(np.float64(1))


def rule(name):
    """Return a function that replaces a rule by one that is made of it."""

    def replaced(patch, make):
        patch.setitem(RULES, name, make(RULES[name]))

    return replaced


def unary(name, derivative):
    """Replace the derivative of a function of one number."""

    def make(true):
        def wrong(params, a):
            a = enclosure_of(a)
            return chained(true(params, Enclosure(a.value)).value, (derivative(a.value), a.slope))

        return wrong

    return lambda patch: rule(name)(patch, make)


def replacing(where, name, function):
    return lambda patch: patch.setattr(where, name, function)


def of_rule(name, make):
    return lambda patch: rule(name)(patch, make)


def without_slope(true):
    def wrong(*args):
        result = true(*args)
        return Enclosure(result.value) if isinstance(result, Enclosure) else result

    return wrong


def without_radius(true):
    def wrong(params, *args):
        return true(
            params,
            *(
                Enclosure(Ball(a.value.mid), a.slope) if isinstance(a, Enclosure) else a
                for a in args
            ),
        )

    return wrong


def settled(truth):
    """Decide what is undecided."""

    def make(true):
        def wrong(*args):
            result = true(*args)
            if not isinstance(result, Decision):
                return result
            is_open = ~(result.is_true | result.is_false)
            return result.is_true | is_open if truth else result.is_true

        return wrong

    return make


def slope_times(factor):
    def make(true):
        def wrong(*args):
            result = true(*args)
            if not isinstance(result, Enclosure) or result.slope is None:
                return result
            return Enclosure(result.value, Ball(np.float64(factor)) * result.slope)

        return wrong

    return make


def sum_without_rounding(a, b):
    with np.errstate(all="ignore"):
        return Ball(a.mid + b.mid, a.radius + b.radius)


def product_of_first_order(a, b):
    with np.errstate(all="ignore"):
        rad = np.abs(a.mid) * b.radius + a.radius * np.abs(b.mid)
        return Ball(a.mid * b.mid, rad * (1 + 2.0**-40) + np.abs(a.mid * b.mid) * 2.0**-52)


def product_of_midpoints(a, b):
    with np.errstate(all="ignore"):
        of_a, of_b = (np.broadcast_to(ball.radius, ball.shape) for ball in (a, b))
        return Ball(a.mid @ b.mid, np.abs(a.mid) @ of_b + of_a @ (np.abs(b.mid) + of_b))


def quotient_through_zero(a, b):
    with np.errstate(all="ignore"):
        least = np.abs(np.abs(b.mid) - b.radius)
        mid = a.mid / b.mid
        return Ball(mid, (a.radius + np.abs(mid) * b.radius) / least + np.abs(mid) * 2.0**-50)


def sum_of_midpoints(ball, axes):
    with np.errstate(all="ignore"):
        return Ball(np.sum(ball.mid, axis=axes), np.sum(ball.radius + 0 * ball.mid, axis=axes))


def clipped_to_its_range(x, low, high):
    """This is what it did before it left alone what is unknown."""
    below, above = x.bounds()
    inside = (below >= low) & (above <= high)
    narrow = from_bounds(np.clip(below, low, high), np.clip(above, low, high))
    radius = np.broadcast_to(x.radius, np.shape(x.mid))
    return Ball(np.where(inside, x.mid, narrow.mid), np.where(inside, radius, narrow.rad))


def power_of_ends(true):
    def wrong(x, exponent):
        if exponent < 0 or exponent % 2:
            return true(x, exponent)
        low, high = x.bounds()
        return hull(true(Ball(low), exponent), true(Ball(high), exponent))

    return wrong


def wave_without_radius(function, x):
    value, error = function(x.mid)
    return Ball(value, np.where(np.isfinite(x.radius), error, np.inf))


def choice_without_a_jump(e, jumps):
    return e


def numpy_cast(true):
    def wrong(params, a):
        to = np.dtype(params["new_dtype"])
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and to.kind in "iu":
            with np.errstate(all="ignore"):
                return a.astype(to)
        return true(params, a)

    return wrong


def saturating_cast(true):
    """Of whole numbers, which XLA wraps; and NaN to the least number."""

    def wrong(params, a):
        to = np.dtype(params["new_dtype"])
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and to.kind in "iu":
            a = np.where(np.isnan(a), -1.0, a)
        return true(params, a)

    return wrong


def ignoring(key, value):
    return lambda true: lambda params, *args: true(params | {key: value}, *args)


def min_for_max(true):
    return lambda params, a, b: RULES["min"](params, a, b)


def closed_comparison(true):
    def wrong(params, a, b):
        return RULES["le"](params | {"name": "le"}, a, b) if a is not b else true(params, a, b)

    return wrong


def known_not_to_be_nan(true):
    def wrong(params, a, b):
        return np.ones(a.shape, bool) if a is b else true(params, a, b)

    return wrong


def power_of_the_magnitude(true):
    def wrong(params, a, b):
        return true(params, RULES["abs"](params, a), b)

    return wrong


def slope_of_the_first(true):
    def wrong(params, a, b):
        result = true(params, a, b)
        return (
            Enclosure(result.value, enclosure_of(a).slope) if isinstance(a, Enclosure) else result
        )

    return wrong


MISTAKES = {
    "sign of a slope: `sub`": of_rule("sub", lambda true: lambda p, a, b: Enclosure(
        true(p, a, b).value, RULES["add"](p, a, b).slope)),
    "sign of a slope: `neg`": of_rule("neg", slope_times(-1.0)),
    "sign of a slope: `cos`": of_rule("cos", slope_times(-1.0)),
    "operands of the slope: `mul`": of_rule("mul", lambda true: lambda p, a, b: chained(
        true(p, a, b).value, (enclosure_of(a).value, enclosure_of(a).slope),
        (enclosure_of(b).value, enclosure_of(b).slope))),
    "slope by one operand: `div`": of_rule("div", lambda true: lambda p, a, b: Enclosure(
        true(p, a, b).value, true(p, a, Enclosure(enclosure_of(b).value)).slope)),
    "slope by one operand: `dot_general`": of_rule("dot_general", lambda true: lambda p, a, b: (
        Enclosure(true(p, a, b).value, true(p, a, enclosure_of(b).value.mid).slope))),
    "rounding: sums": replacing(Ball, "__add__", sum_without_rounding),
    "rounding: products of matrices": replacing(rules, "matmul", product_of_midpoints),
    "rounding: sums along axes": replacing(Ball, "sum", sum_of_midpoints),
    "radius: products": replacing(Ball, "__mul__", product_of_first_order),
    "radius: `tanh`": of_rule("tanh", without_radius),
    "radius: `floor`": of_rule("floor", without_radius),
    "radius: `sin` and `cos`": replacing(rules, "_wave", wave_without_radius),
    "derivative: `tanh` at the midpoint": unary("tanh", lambda x: Ball(1 - np.tanh(x.mid) ** 2)),
    "derivative: `sqrt`": of_rule("sqrt", slope_times(2.0)),
    "derivative: `logistic` up to 0.2": unary("logistic", lambda x: from_bounds(
        np.zeros(x.shape), np.full(x.shape, 0.2))),
    "derivative: `log1p`": unary("log1p", lambda x: _ONE / x),
    "derivative: `exp2`": of_rule("exp2", slope_times(1 / np.log(2))),
    "domain: quotients": replacing(Ball, "__truediv__", quotient_through_zero),
    "domain: `pow`": of_rule("pow", power_of_the_magnitude),
    "minimum inside: even powers": replacing(rules, "power", power_of_ends(power)),
    "min for max": of_rule("max", min_for_max),
    "slope of one operand: `max`": of_rule("max", slope_of_the_first),
    "bounds exchanged: `clamp`": of_rule("clamp", lambda true: lambda p, a, b, c: true(p, c, b, a)),
    "forgotten NaN: values in a range": replacing(rules, "clipped", clipped_to_its_range),
    "forgotten NaN: signs and steps": replacing(rules, "known_where", lambda x, where: x),
    "forgotten NaN: comparisons, `max`": lambda patch: patch.setattr(
        Ball, "is_ordered", property(lambda ball: np.ones(ball.shape, bool))),
    "forgotten NaN: `isnan`": of_rule("ne", lambda true: lambda p, a, b: (
        np.zeros(a.shape, bool) if a is b else true(p, a, b))),
    "forgotten NaN: `is_finite`": of_rule("is_finite", settled(True)),
    "ends that touch: `lt`": of_rule("lt", closed_comparison),
    "undecided as true: `eq`": of_rule("eq", settled(True)),
    "undecided as false: `gt`": of_rule("gt", settled(False)),
    "undecided as false: `and`": of_rule("and", settled(False)),
    "no jump: choices and steps": replacing(rules, "with_a_jump", choice_without_a_jump),
    "cast that wraps": of_rule("convert_element_type", numpy_cast),
    "cast of NaN": of_rule("convert_element_type", saturating_cast),
    "case that there is not": replacing(rules, "_number_of_case", lambda which, cases: which),
    "order: `cumsum`": of_rule("cumsum", ignoring("reverse", False)),
    "order: `reshape`": of_rule("reshape", ignoring("dimensions", None)),
    "order: `rev`": of_rule("rev", lambda true: lambda p, a: a),
    "no slope: `gather`": replacing(interpreter, "moved_by_jax", without_slope(rules.moved_by_jax)),
    "no slope: `stop_gradient`, `copy`": of_rule("copy", without_slope),
    "no slope: `reduce_max`": of_rule("reduce_max", without_slope),
}  # fmt: skip
"""Mistakes that a rule might have, of which some were made."""


@pytest.mark.one_in(6)
@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_rule_is_noticed(mistake, monkeypatch):
    MISTAKES[mistake](monkeypatch)
    noticed = (generated.check(*drawn(seed), ROWS).failures for seed in range(MOST_STEPS))
    assert any(noticed)
