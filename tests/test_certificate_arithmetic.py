"""Ball arithmetic and the rules of certificates, beside exact and multiple-precision arithmetic."""

import itertools
from fractions import Fraction
from functools import cache

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend import core

from slowpoints import as_transition
from slowpoints._certificates import elementary
from slowpoints._certificates.balls import (
    Ball,
    clipped,
    from_bounds,
    hull,
    matmul,
    monotone,
    power,
)
from slowpoints._certificates.enclosure import NotCovered
from slowpoints._certificates.interpreter import Program
from slowpoints._certificates.rules import MOVED_BY_JAX, RULES

pytestmark = pytest.mark.fast

quick = settings(max_examples=200, deadline=None)


# ---- elementary functions ----------------------------------------------------------------------


@pytest.fixture
def many_bits():
    before, flint.ctx.prec = flint.ctx.prec, 300
    yield
    flint.ctx.prec = before


ORACLES = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.expm1(),
    "tanh": lambda x: x.tanh(),
    "logistic": lambda x: 1 / (1 + (-x).exp()),
    "log": lambda x: x.log(),
    "log1p": lambda x: x.log1p(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "sqrt": lambda x: x.sqrt(),
}
LOWEST = {"log": np.nextafter(0, 1), "log1p": np.nextafter(-1, 0), "sqrt": 0.0}
"""The least numbers of which there is a value, where not all have one."""


def points():
    """Return numbers of all sizes, and those at which a function's formula changes."""
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(-300, 3, 1500)
    sizes = np.concatenate([sizes, rng.uniform(0, 2, 1000), rng.uniform(0, 50, 1000)])
    k = np.concatenate([np.arange(1, 80), 2 ** np.arange(7, 25)])
    special = [
        *[0.0, 0.35, 0.5, 1.0, 5e-324, 2.0**-1022, 1e-310, 700.0, 1e3, 2000.0, 1e10, 1e300],
        *[708.3964, 709.7827, 709.78271289338397, 709.79, 745.13, 745.1332, 745.14, 1.7976e308],
        *(k * np.log(2) / 2),
        *(k * np.pi / 4),
    ]
    around = [np.nextafter(special, to) for to in (-np.inf, np.inf)]
    positive = np.concatenate([sizes, special, *around])
    return np.concatenate([positive, -positive])


def errors_within_bounds(name, x):
    """Return which values of a function are off by no more than their bounds."""
    values, bounds = getattr(elementary, name)(x)
    assert values.shape == bounds.shape == x.shape
    return np.array([
        not np.isfinite(bound)
        or bool(abs(flint.arb(value) - ORACLES[name](flint.arb(at))) <= flint.arb(bound))
        for at, value, bound in zip(x.tolist(), values.tolist(), bounds.tolist(), strict=True)
    ])


@pytest.mark.parametrize("name", ORACLES)
def test_elementary_functions_are_off_by_no_more_than_their_bounds(name, many_bits):
    x = points()
    x = x[x >= LOWEST.get(name, -np.inf)]
    right = errors_within_bounds(name, x)
    assert x[~right].tolist() == []


@pytest.mark.parametrize("name", ORACLES)
def test_bounds_of_elementary_functions_are_a_few_roundings(name):
    x = points()
    x = x[(x >= LOWEST.get(name, -np.inf)) & (np.abs(x) < 700)]
    if name == "log1p":
        x = x[x > -0.9]  # nearer to -1 its bound is that of a logarithm's argument, not its value
    value, bound = getattr(elementary, name)(x)
    tight = bound < 4e-15 * np.abs(value) + 1e-290
    if name in ("log", "sin", "cos"):
        tight |= (bound < 4e-15) & (np.abs(x) < 2.0**20)
    assert x[~tight].tolist() == []


def test_elementary_functions_at_infinity_and_where_they_have_no_value():
    inf, nan = np.inf, np.nan
    ends = np.array([-inf, inf])
    limits = {"exp": (0, inf), "expm1": (-1, inf), "tanh": (-1, 1), "logistic": (0, 1)}
    for name, limit in limits.items():
        value, bound = getattr(elementary, name)(ends)
        np.testing.assert_array_equal(value, limit)
        assert np.all(bound[np.isfinite(limit)] < 1e-15) and not np.isfinite(bound).all() == (
            inf in limit
        ), name
    outside = {"log": [-1.0, -inf], "log1p": [-1.5, -inf], "sqrt": [-1e-300, -inf], "sin": ends}
    for name in ORACLES:
        value, bound = getattr(elementary, name)(np.array([nan, *outside.get(name, [])]))
        assert not np.any(np.isfinite(value) & np.isfinite(bound)), name
    # The logarithms of 0 are no numbers either.
    for name, zero in (("log", 0.0), ("log", -0.0), ("log1p", -1.0)):
        value, bound = getattr(elementary, name)(np.array([zero]))
        assert not np.any(np.isfinite(value) | np.isfinite(bound)), name


def test_zero_keeps_its_sign():
    for name in ("tanh", "expm1", "sqrt", "sin"):
        value, _ = getattr(elementary, name)(np.array([0.0, -0.0]))
        np.testing.assert_array_equal(value, [0, 0])
        if name != "sin":
            np.testing.assert_array_equal(np.signbit(value), [False, True])


# ---- balls -------------------------------------------------------------------------------------


def holds(ball, value, at=()):
    """Return whether an entry of a ball holds a `Fraction`; one that proves nothing holds all."""
    mid, rad = float(ball.mid[at]), float(np.broadcast_to(ball.radius, ball.shape)[at])
    if not np.isfinite(rad):
        return True
    return bool(np.isfinite(mid)) and abs(Fraction(mid) - value) <= Fraction(rad)


def numbers(least=-np.inf, most=np.inf, **kwargs):
    """Return floats of all sizes, or of a range."""
    kwargs = {"allow_nan": False, "allow_infinity": False, **kwargs}
    if np.isfinite(least):
        kwargs["min_value"] = least
    if np.isfinite(most):
        kwargs["max_value"] = most
    return st.floats(**kwargs)


def of_ordinary_size(least=-1e100):
    """Return numbers of which neither products nor their parts over- or underflow, and zero."""
    return numbers(least, 1e100).map(lambda a: a if abs(a) > 1e-100 else 0.0)


@st.composite
def balls_and_members(draw, mids=None, radii=None):
    """Return a ball of no axes, and some of the numbers that it holds; its ends among them."""
    mid = draw(numbers() if mids is None else mids)
    rad = draw(st.none() | (numbers(0.0) if radii is None else radii))
    inner = draw(st.fractions(-1, 1, max_denominator=7))
    # A radius next to the midpoint's size brings the ball's end near zero.
    rad = draw(st.sampled_from([rad, abs(mid), abs(mid) * 0.75, abs(mid) * (1 - 2.0**-53)]))
    if rad is None:
        return Ball(np.float64(mid)), [Fraction(mid)]
    members = [Fraction(mid) + t * Fraction(rad) for t in (-1, 1, 0, inner)]
    return Ball(np.float64(mid), np.float64(rad)), members


pairs = st.tuples(balls_and_members(), balls_and_members())


@quick
@given(pairs)
def test_sums_differences_products_and_quotients_hold_those_of_their_members(both):
    (a, of_a), (b, of_b) = both
    results = (a + b, a - b, a * b, a / b, -a)
    for x, y in itertools.product(of_a, of_b):
        assert holds(results[0], x + y)
        assert holds(results[1], x - y)
        assert holds(results[2], x * y)
        assert y == 0 or holds(results[3], x / y)
        assert holds(results[4], -x)
    if 0 in of_b:
        assert not np.isfinite(results[3].radius)


@quick
@given(pairs)
def test_a_hull_and_bounds_hold_all_members(both):
    (a, of_a), (b, of_b) = both
    for x in (*of_a, *of_b):
        assert holds(hull(a, b), x)
    low, high = a.bounds()
    for x in of_a:
        assert (low == -np.inf or Fraction(float(low)) <= x) and (
            high == np.inf or x <= Fraction(float(high))
        )
    if a.rad is None:
        assert low == high == a.mid


@quick
@given(numbers(), numbers(), st.fractions(0, 1, max_denominator=9))
def test_from_bounds_holds_all_between(one, other, t):
    low, high = sorted([one, other])
    ball = from_bounds(np.float64(low), np.float64(high))
    for value in (0, 1, t):
        assert holds(ball, Fraction(low) + value * (Fraction(high) - Fraction(low)))


@quick
@given(balls_and_members(of_ordinary_size(), of_ordinary_size(0.0)))
def test_magnitudes_bound_the_members(ball_and_members):
    ball, members = ball_and_members
    assert max(map(abs, members)) <= Fraction(float(ball.magnitude))


@quick
@given(balls_and_members(), st.sampled_from([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 8, 13]))
def test_powers_hold_those_of_the_members(ball_and_members, exponent):
    ball, members = ball_and_members
    result = power(ball, exponent)
    for x in members:
        assert (x == 0 and exponent < 0) or holds(result, x**exponent)
    if exponent < 0 and 0 in members:
        assert not np.isfinite(result.radius)


def test_powers_are_tight():
    """An even one of a ball around zero ends there, and those of points are a few roundings off."""
    low, high = power(Ball(np.array([1.0, -1.0]), np.array([2.0, 2.0])), 4).bounds()
    np.testing.assert_allclose(low, 0, atol=1e-12)
    np.testing.assert_allclose(high, 81, rtol=1e-12)
    for exponent in (-3, -2, 0, 1, 2, 7):
        ball = power(Ball(np.array([1.7, -2.3])), exponent)
        np.testing.assert_allclose(ball.mid, np.array([1.7, -2.3]) ** exponent, rtol=1e-14)
        assert np.all(ball.radius <= 1e-14 * np.abs(ball.mid))


@quick
@given(balls_and_members(), st.sampled_from([(0.0, np.inf), (-1.0, 1.0), (0.0, 0.25)]))
def test_what_is_clipped_holds_all_members_in_range(ball_and_members, limits):
    ball, members = ball_and_members
    low, high = limits
    result = clipped(ball, low, high)
    for x in members:
        inside = x >= Fraction(low) and (high == np.inf or x <= Fraction(high))
        assert not inside or holds(result, x)
    below, above = result.bounds()
    assert not below < low - 1e-15 and not above > high + 1e-15


@quick
@given(balls_and_members(numbers(-50, 50), numbers(0.0, 50)))
def test_monotone_functions_hold_the_values_of_the_members(ball_and_members):
    ball, members = ball_and_members
    flint.ctx.prec = 300
    rising = monotone(elementary.tanh, ball)
    falling = monotone(lambda x: elementary.exp(-x), ball, rising=False)
    for x in members:
        at = flint.arb(flint.fmpq(x.numerator, x.denominator))
        for result, true in ((rising, at.tanh()), (falling, (-at).exp())):
            assert np.isfinite(result.radius)
            error = abs(true - flint.arb(float(result.mid)))
            assert not bool(error > flint.arb(float(result.radius)))
    flint.ctx.prec = 53


def test_monotone_functions_beyond_their_domain_prove_nothing():
    for function in (elementary.log, elementary.sqrt):
        ball = monotone(function, Ball(np.array([0.5]), np.array([1.0])))
        assert not np.isfinite(ball.radius).any()


@quick
@given(st.lists(balls_and_members(of_ordinary_size(), of_ordinary_size(0.0)), max_size=7))
def test_sums_along_axes_hold_those_of_the_members(terms):
    """Of a matrix, along each of its axes and both."""
    (a, of_a), (b, of_b) = _as_matrices(terms)
    for members in (of_a, of_b):
        for ball in (a, b) if members is of_a else (b,):
            for axes in ((0,), (1,), (0, 1)):
                total = ball.sum(axes)
                exact = _sums(members, axes)
                assert total.shape == np.shape(exact)
                assert all(holds(total, exact[at], at) for at in np.ndindex(total.shape))


def _as_matrices(terms):
    """Return two rows of which the second one is exact, or a ball, with members of each."""
    mid = np.array([[float(ball.mid) for ball, _ in terms]] * 2)
    rad = np.array([[float(ball.radius) for ball, _ in terms]] * 2)
    ends = np.array([[members[0] for _, members in terms]] * 2, object)
    middle = np.array([[Fraction(float(ball.mid)) for ball, _ in terms]] * 2, object)
    return (Ball(mid, rad), middle), (Ball(mid, rad), ends)


def _sums(members, axes):
    return np.sum(members, axis=axes, initial=Fraction(0))


def ill_scaled(shape, decades, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * 10 ** rng.uniform(-decades, decades, shape)


def members_of(ball, seed):
    """Return an array of exact numbers in a ball, more than half of them at its ends."""
    t = np.random.default_rng(seed).choice([-1, 1, 0, 0.5], ball.shape, p=[0.3, 0.3, 0.2, 0.2])
    exact = np.vectorize(Fraction, otypes=[object])
    if ball.rad is None:
        return exact(ball.mid)
    return exact(ball.mid) + exact(t) * exact(np.broadcast_to(ball.rad, ball.shape))


@pytest.mark.parametrize("decades", [0, 8, 120])
@pytest.mark.parametrize("exact", ["neither", "left", "right", "both"])
def test_products_of_matrices_hold_those_of_their_members(decades, exact):
    shape_a, shape_b = (2, 3, 40), (2, 40, 3)
    a_mid, b_mid = ill_scaled(shape_a, decades, 0), ill_scaled(shape_b, decades, 1)
    a_rad, b_rad = (np.abs(ill_scaled(s, decades, 2)) * 1e-9 for s in (shape_a, shape_b))
    a = Ball(a_mid, None if exact in ("left", "both") else a_rad)
    b = Ball(b_mid, None if exact in ("right", "both") else b_rad)
    product = matmul(a, b)
    assert product.shape == (2, 3, 3) and np.isfinite(product.radius).all()
    for seed in range(3):
        true = members_of(a, seed) @ members_of(b, seed + 10)
        assert all(holds(product, true[at], at) for at in np.ndindex(product.shape))
    if exact == "both":
        scale = np.abs(a_mid) @ np.abs(b_mid)
        assert np.all(product.radius <= 60 * elementary.ROUNDING * scale)


def test_products_of_matrices_hold_what_cancellation_leaves():
    """The sums are nearly zero, and so are their true values: `1e16 + 1 - 1e16` and the like."""
    a = Ball(np.array([[1e16, 1.0, -1e16, 3e-20], [1e150, 1e-150, -1e150, 1e-180]]))
    b = Ball(np.array([[1.0], [1.0], [1.0], [-1.0]]))
    product = matmul(a, b)
    true = members_of(a, 0) @ members_of(b, 0)
    assert all(holds(product, true[at], at) for at in np.ndindex(product.shape))


def test_products_with_numbers_below_the_normal_range_hold_the_true_ones():
    """Of the number `5e-310`, an error relative to it is below all floats, and 0 if rounded."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1e300, 1e305, (20, 1)), rng.uniform(1e-312, 1e-309, (1, 20))
    product = matmul(Ball(a), Ball(b))
    true = members_of(Ball(a), 0) @ members_of(Ball(b), 0)
    assert all(holds(product, true[at], at) for at in np.ndindex(product.shape))
    elementwise = Ball(a) * Ball(b)
    assert all(holds(elementwise, true[at], at) for at in np.ndindex(product.shape))


def test_sums_and_products_of_matrices_that_overflow_prove_nothing():
    """Their partial sums are too large for float64; the true sum is 0."""
    terms = np.array([1.7e308, 1.7e308, -1.7e308, -1.7e308])
    with np.errstate(over="ignore", invalid="ignore"):
        total = Ball(terms).sum((0,))
        product = matmul(Ball(np.ones((1, 4))), Ball(terms[:, None]))
    assert holds(total, Fraction(0))
    assert holds(product, Fraction(0), (0, 0))


def test_sums_of_many_terms_hold_the_true_ones():
    terms = ill_scaled((3, 2000), 8, 0)
    terms = np.concatenate([terms, -terms[:, ::-1] * (1 + 2.0**-40)], axis=1)
    ball = Ball(terms, np.abs(terms) * 1e-14)
    total, exact = ball.sum((1,)), Ball(terms).sum((1,))
    for seed in range(2):
        true = members_of(ball, seed).sum(axis=1)
        assert all(holds(total, true[at], at) for at in np.ndindex(total.shape))
    true = members_of(Ball(terms), 0).sum(axis=1)
    assert all(holds(exact, true[at], at) for at in np.ndindex(exact.shape))
