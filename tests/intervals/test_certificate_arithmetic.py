"""Ball arithmetic and the rules of certificates, beside exact and multiple-precision arithmetic."""

import contextlib
import inspect
import itertools
from fractions import Fraction
from functools import cache
from operator import mul

import equinox as eqx
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
from slowpoints._intervals import elementary
from slowpoints._intervals.balls import (
    Ball,
    clipped,
    from_bounds,
    hull,
    matmul,
    monotone,
    power,
)
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._intervals.rules import MOVED_BY_JAX, RULES
from slowpoints._proofs.lipschitz_bound import lipschitz_bound, spectral_norm

pytestmark = pytest.mark.fast

quick = settings(max_examples=200, deadline=None)
INF, NAN = np.inf, np.nan


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
    "sinh": lambda x: x.sinh(),
    "logistic": lambda x: x.exp() / (1 + x.exp()) if x < 0 else 1 / (1 + (-x).exp()),
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
    return np.array(
        [
            not np.isfinite(bound)
            or bool(abs(flint.arb(value) - ORACLES[name](flint.arb(at))) <= flint.arb(bound))
            for at, value, bound in zip(x.tolist(), values.tolist(), bounds.tolist(), strict=True)
        ]
    )


def test_each_elementary_function_has_an_oracle():
    functions = {
        name
        for name, value in vars(elementary).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert functions == set(ORACLES)


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
    x = x[np.abs(x) >= 1e-300]
    if name == "log1p":
        x = x[x > -0.9]  # nearer to -1 its bound is that of a logarithm's argument, not its value
    value, bound = getattr(elementary, name)(x)
    tight = bound < 1e-14 * np.abs(value) + 1e-290
    if name in ("log", "sin", "cos"):
        tight |= (bound < 1e-14) & (np.abs(x) < 2.0**20)
    assert x[~tight].tolist() == []


def test_elementary_functions_at_infinity_and_where_they_have_no_value():
    inf, nan = np.inf, np.nan
    ends = np.array([-inf, inf])
    limits = {"exp": (0, inf), "expm1": (-1, inf), "tanh": (-1, 1), "logistic": (0, 1)}
    limits["sinh"] = (-inf, inf)
    for name, limit in limits.items():
        value, bound = getattr(elementary, name)(ends)
        np.testing.assert_array_equal(value, limit)
        np.testing.assert_array_equal(np.isfinite(bound), np.isfinite(limit), err_msg=name)
        assert np.all(bound[np.isfinite(limit)] < 1e-14), name
    outside = {"log": [-1.0, -inf], "log1p": [-1.5, -inf], "sqrt": [-1e-300, -inf], "sin": ends}
    for name in ORACLES:
        value, bound = getattr(elementary, name)(np.array([nan, *outside.get(name, [])]))
        assert not np.any(np.isfinite(value) & np.isfinite(bound)), name
    # The logarithms of 0 are no numbers either.
    for name, zero in (("log", 0.0), ("log", -0.0), ("log1p", -1.0)):
        value, bound = getattr(elementary, name)(np.array([zero]))
        assert not np.any(np.isfinite(value) | np.isfinite(bound)), name


def test_zero_keeps_its_sign():
    for name in ("tanh", "sinh", "expm1", "sqrt", "sin"):
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    np.testing.assert_allclose(low, 0, atol=1e-10)
    np.testing.assert_allclose(high, 81, rtol=1e-10)
    for exponent in (-3, -2, 0, 1, 2, 7):
        ball = power(Ball(np.array([1.7, -2.3])), exponent)
        np.testing.assert_allclose(ball.mid, np.array([1.7, -2.3]) ** exponent, rtol=1e-14)
        assert np.all(ball.radius <= 1e-14 * np.abs(ball.mid))


@pytest.mark.slow
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
    assert not below < low - 1e-11 * (1 + abs(above)) and not above > high + 1e-11


UNKNOWN = Ball(np.array([0.5, NAN, INF, INF, NAN]), np.array([INF, 0.0, 0.0, NAN, NAN]))


def test_what_is_made_of_something_unknown_is_unknown():
    for result in (
        clipped(UNKNOWN, -1.0, 1.0),
        monotone(elementary.tanh, UNKNOWN),
        hull(UNKNOWN, Ball(np.zeros(5))),
        power(UNKNOWN, 2),
        power(UNKNOWN, -3),
        UNKNOWN + Ball(np.float64(1)),
        UNKNOWN * Ball(np.float64(0)),
        UNKNOWN / Ball(np.float64(2)),
        Ball(np.float64(2)) / UNKNOWN,
    ):
        assert not result.is_known.any()
    assert not (UNKNOWN.is_known | UNKNOWN.is_ordered).any()
    exact = Ball(np.array([NAN, INF, -INF, 0.5]))
    assert exact.is_known.tolist() == [False, False, False, True]
    assert exact.is_ordered.tolist() == [False, True, True, True]


@pytest.mark.slow
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


@settings(max_examples=60, deadline=None)
@given(st.lists(balls_and_members(of_ordinary_size(), of_ordinary_size(0.0)), max_size=5))
def test_sums_along_axes_hold_those_of_the_members(terms):
    """Of a matrix of two rows, along each of its axes and both."""
    mid, rad = (
        np.array([[float(part) for part in parts]] * 2)
        for parts in ([ball.mid for ball, _ in terms], [ball.radius for ball, _ in terms])
    )
    for axes in ((0,), (1,), (0, 1)):
        total, exact_total = Ball(mid, rad).sum(axes), Ball(mid).sum(axes)
        for which in (0, -1):
            members = np.array([[members[which] for _, members in terms]] * 2, object)
            all_hold(total, np.sum(members, axes, initial=Fraction(0)))
        middles = np.array([[Fraction(float(a)) for a in row] for row in mid], object)
        all_hold(exact_total, np.sum(middles, axes, initial=Fraction(0)))


def all_hold(ball, exact):
    """Assert that the entries of a ball hold exact numbers of the same shape."""
    exact = np.asarray(exact, object)
    assert ball.shape == exact.shape
    assert [at for at in np.ndindex(exact.shape) if not holds(ball, exact[at], at)] == []


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
        all_hold(product, true)
    if exact == "both":
        scale = np.abs(a_mid) @ np.abs(b_mid)
        assert np.all(product.radius <= 60 * elementary.ROUNDING * scale)


def test_products_of_matrices_hold_what_cancellation_leaves():
    """The sums are nearly zero, and so are their true values: `1e16 + 1 - 1e16` and the like."""
    a = Ball(np.array([[1e16, 1.0, -1e16, 3e-20], [1e150, 1e-150, -1e150, 1e-180]]))
    b = Ball(np.array([[1.0], [1.0], [1.0], [-1.0]]))
    product = matmul(a, b)
    true = members_of(a, 0) @ members_of(b, 0)
    all_hold(product, true)


def test_products_with_numbers_below_the_normal_range_hold_the_true_ones():
    """Of the number `5e-310`, an error relative to it is below all floats, and 0 if rounded."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1e300, 1e305, (20, 1)), rng.uniform(1e-312, 1e-309, (1, 20))
    product = matmul(Ball(a), Ball(b))
    true = members_of(Ball(a), 0) @ members_of(Ball(b), 0)
    all_hold(product, true)
    elementwise = Ball(a) * Ball(b)
    all_hold(elementwise, true)


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
        all_hold(total, true)
    true = members_of(Ball(terms), 0).sum(axis=1)
    all_hold(exact, true)


# ---- programs ----------------------------------------------------------------------------------

N_STATES, N_INPUTS = 4, 3
RADII = (0.0, 1e-10, 1e-3, 1.0)
_rng = np.random.default_rng(0)
W, V = (0.7 * _rng.normal(size=(N_STATES, N_STATES)) for _ in range(2))
B = 0.5 * _rng.normal(size=(N_STATES, N_INPUTS))
GATES = 0.7 * _rng.normal(size=(4, N_STATES, N_STATES))
LSTM_GATES = 0.7 * _rng.normal(size=(4, 2, 2))


def gru(x, u):
    r, z = (jax.nn.sigmoid(GATES[g] @ x + B @ u) for g in (0, 1))
    return (1 - z) * jnp.tanh(GATES[2] @ (r * x) + B @ u) + z * x


def lstm(x, u):
    h, c = jnp.split(x, 2)
    i, f, g, o = (LSTM_GATES[gate] @ h + u[:2] for gate in range(4))
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c])


def layer_norm(x, u):
    centred = x - jnp.mean(x)
    return centred / jnp.sqrt(jnp.mean(centred**2) + 0.1) * u[0] + u[1]


def attention(x, u):
    pairs = x.reshape(2, 2)
    weights = jax.nn.softmax(jnp.einsum("ik,jk->ij", pairs @ V[:2, :2], pairs), axis=-1)
    return jnp.einsum("ij,jk->ik", weights, pairs).ravel()


def scanned(reverse):
    def F(x, u):
        def step(h, xs):
            w, b = xs
            h = jnp.tanh(w @ h + b)
            return h, h[0] * b

        h, parts = lax.scan(step, x, (GATES, u[0] * jnp.arange(4.0)), reverse=reverse)
        return h + parts

    return F


def scanned_over_states(x, u):
    total, sums = lax.scan(lambda c, a: (c + a, jnp.sin(c) * a), 0.0 * x[0], x)
    return total * sums


def counted(x, u):
    """Return three steps of a loop whose length JAX does not know beforehand."""
    steps = jnp.int32(3)
    return lax.while_loop(
        lambda at: at[0] < steps, lambda at: (at[0] + 1, jnp.sin(at[1]) + at[0] * u[0]), (0, x)
    )[1]


def as_often_as_the_input_says(x, u):
    steps = (u[1] > 0).astype(jnp.int32) + 1
    return lax.while_loop(
        lambda at: at[0] < steps, lambda at: (at[0] + 1, 0.5 * jnp.cos(at[1])), (0, x)
    )[1]


@jax.custom_jvp
def with_its_own_derivative(x):
    return jnp.tanh(x) * x


with_its_own_derivative.defjvp(
    lambda x, t: (
        with_its_own_derivative(*x),
        (jnp.tanh(x[0]) + x[0] * (1 - jnp.tanh(x[0]) ** 2)) * t[0],
    )
)


@jax.custom_vjp
def with_its_own_gradient(x):
    return jnp.sin(x) * x


with_its_own_gradient.defvjp(lambda x: (x, None), lambda _, g: (g,))


def energy(x):
    return jnp.sum(jnp.tanh(W @ x) * jnp.sin(x) * x) + 0.5 * x @ V @ x


def picked(x, u):
    """Return states by numbers that are computed from numbers."""
    i = jnp.arange(N_STATES)
    return x[(3 * i + 1) % N_STATES] * (i // 2 - 1) + x[jnp.array([[0, 1], [3, 3]])].ravel()


def piecewise(x, u):
    middle = (x > -0.5) & (x <= 0.7) | ~(x < 1.5)
    return jnp.where(middle, 2 * x, x - 1)


SMOOTH = {
    # sums and products
    "add": lambda x, u: x + x[::-1] + u[0],
    "sub": lambda x, u: 1.5 - x - x[::-1] * u[0],
    "neg": lambda x, u: -x,
    "mul": lambda x, u: x * x[::-1] * u[1] + 0.3 * x * 2,
    "div": lambda x, u: x / (3 + x[::-1]) + 1 / (x + 4) + x / 3 + x / (2 + u[0] ** 2),
    "square": lambda x, u: jnp.square(x) + jnp.square(u[0]),
    "integer_pow": lambda x, u: x**3 + x**4 - (x + 4) ** -2 + x**1 + x**0,
    "pow": lambda x, u: (x + 3) ** 2.5 + (x + 4) ** -0.5 + lax.pow(x, jnp.full_like(x, 3.0)),
    "pow_of_both": lambda x, u: (x + 3) ** x + 2.0**x,
    "matmul": lambda x, u: W @ x + x @ V + B @ u,
    "dot_of_states": lambda x, u: jnp.outer(x, x) @ x + (x @ x) * u[0],
    "einsum_with_batches": lambda x, u: jnp.einsum(
        "bij,bj,bk->bi", GATES[:2, :2, :2], x.reshape(2, 2), x.reshape(2, 2)
    ).ravel(),
    "einsum_of_states": lambda x, u: jnp.einsum(
        "bij,bjk->kbi", x.reshape(2, 2, 1), jnp.tanh(x).reshape(2, 1, 2)
    )[0].ravel(),
    "reduce_sum": lambda x, u: (
        (x.reshape(2, 2).sum(0) + x.reshape(2, 2).sum(1)).repeat(2) - x.sum()
    ),
    "cumsum": lambda x, u: jnp.cumsum(x * x) + jnp.cumsum(u).sum(),
    "cumsum_reversed": lambda x, u: lax.cumsum(jnp.sin(x), reverse=True),
    "add_any": lambda x, u: jax.grad(energy)(x),
    # functions of one number
    "exp": lambda x, u: jnp.exp(x) + jnp.exp(u[0]),
    "exp2": lambda x, u: jnp.exp2(x),
    "expm1": lambda x, u: jnp.expm1(x),
    "log": lambda x, u: jnp.log(x + 3),
    "log1p": lambda x, u: jnp.log1p(x / 4),
    "tanh": lambda x, u: jnp.tanh(W @ x + B @ u),
    "tanh_of_large": lambda x, u: jnp.tanh(300 * x + 1000),
    "logistic": lambda x, u: jax.nn.sigmoid(W @ x + B @ u),
    "logistic_of_large": lambda x, u: jax.nn.sigmoid(300 * x - 1000),
    "sqrt": lambda x, u: jnp.sqrt(x + 3),
    "rsqrt": lambda x, u: lax.rsqrt(x + 3),
    "sin": lambda x, u: jnp.sin(3 * x) + jnp.sin(u).sum(),
    "cos": lambda x, u: jnp.cos(x * x) + jnp.cos(100 * x),
    "tan": lambda x, u: jnp.tan(x / 2),
    "sinh": lambda x, u: jnp.sinh(x),
    "cosh": lambda x, u: jnp.cosh(x - 0.5),
    "silu": lambda x, u: jax.nn.silu(x),
    "gelu": lambda x, u: jax.nn.gelu(x),
    # what layers are made of
    "logsumexp": lambda x, u: x * jax.nn.logsumexp(W @ x),
    "layer_norm": layer_norm,
    "standardize": lambda x, u: jax.nn.standardize(W @ x + B @ u, epsilon=0.1),
    "attention": attention,
    "gru": gru,
    "lstm": lstm,
    # what moves numbers
    "reshape": lambda x, u: x.reshape(2, 2).T.ravel() + x.reshape(1, 4, 1).squeeze(),
    "reshape_by_columns": lambda x, u: lax.reshape(x.reshape(2, 2), (4,), (1, 0)) * x,
    "transpose": lambda x, u: (x.reshape(2, 1, 2).transpose(2, 0, 1) * x[0]).ravel(),
    "broadcast": lambda x, u: (x[:, None] * x[None]).sum(1) + jnp.full(4, x[2]),
    "expand_dims": lambda x, u: lax.expand_dims(x, (0, 2))[0, :, 0],
    "slice": lambda x, u: jnp.concatenate([x[1::2], x[:2]]) + x[-1],
    "rev": lambda x, u: x[::-1] + jnp.flip(x.reshape(2, 2), 1).ravel(),
    "copy": lambda x, u: jnp.array(x, copy=True) + x.astype(jnp.float64),
    "optimization_barrier": lambda x, u: lax.optimization_barrier((x, u))[0],
    "split": lambda x, u: jnp.concatenate([a * a.sum() for a in jnp.split(x, [1, 2])]),
    "concatenate": lambda x, u: jnp.concatenate([u[:1], x[2:], jnp.ones(1)]) * x,
    "pad": lambda x, u: jnp.pad(x, 1, constant_values=2.0)[:4] + jnp.pad(u, 1)[:4],
    "pad_between": lambda x, u: lax.pad(x[:2], 0.5, [(0, 1, 1)]),
    "stack": lambda x, u: (
        jnp.stack([x, u[0] * x[::-1]]).sum(0) + jnp.stack([x[:2], u[:2]], 1).ravel()
    ),
    "unstack": lambda x, u: jnp.concatenate(
        [a * x[0] for a in jnp.unstack(x.reshape(2, 2), axis=1)]
    ),
    "tile": lambda x, u: (
        jnp.tile(x[:2] * x[2:], 2) + jnp.tile(x.reshape(2, 2), (2, 1)).ravel()[2:6]
    ),
    "gather": lambda x, u: x[jnp.array([3, 0, 0, 1])] * x[2],
    "scatter": lambda x, u: x.at[1].set(jnp.sin(x[0])) + x.at[2].set(u[0]) + x.at[-1].set(0),
    "scatter_at_several_places": lambda x, u: (
        (x * x).at[jnp.array([2, 0])].set(x[:2] ** 3, unique_indices=True)
    ),
    "scatter_into_constants": lambda x, u: jnp.ones(4).at[:3].set(x[1:]),
    "dynamic_update_slice": lambda x, u: (
        lax.fori_loop(
            0, 2, lambda i, y: lax.dynamic_update_index_in_dim(y, 2.0 * i, 2 * i, 0), jnp.ones(4)
        )
        * x
    ),
    "dynamic_update_of_states": lambda x, u: lax.fori_loop(
        0, 3, lambda i, y: y.at[i].set(y[i + 1] * x[0]), x
    ),
    "gather_of_a_product": lambda x, u: jnp.outer(x, x)[jnp.arange(4), jnp.array([1, 0, 2, 2])],
    "integer_arithmetic": picked,
    "dynamic_slice": lambda x, u: lax.fori_loop(
        1, 3, lambda i, x: lax.dynamic_index_in_dim(jnp.asarray(GATES), i, keepdims=False) @ x, x
    ),
    "iota": lambda x, u: x * jnp.arange(4) + lax.iota(float, 4),
    "eye": lambda x, u: jnp.eye(4) @ x + jnp.tril(jnp.outer(x, x)).sum(1),
    "input_only": lambda x, u: jnp.tanh(B @ u),
    "constant": lambda x, u: jnp.ones(4),
    "choice_by_input": lambda x, u: jnp.where(u[0] > 0, jnp.sin(x), x * x),
    "cases_by_input": lambda x, u: lax.select_n(
        jnp.full(4, (u[0] > 0).astype(int) + (u[1] > 0)), x, 2 * x, x * x
    ),
    # programs in programs
    "jit": lambda x, u: jax.jit(jnp.tanh)(x) * u[0],
    "checkpoint": lambda x, u: jax.checkpoint(lambda a: jnp.sin(a) * a)(x),
    "custom_jvp": lambda x, u: with_its_own_derivative(W @ x),
    "custom_vjp": lambda x, u: with_its_own_gradient(W @ x),
    "scan": scanned(reverse=False),
    "scan_reversed": scanned(reverse=True),
    "scan_over_states": scanned_over_states,
    "fori_loop": lambda x, u: lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) + 0.1 * i * u[0], x),
    "while": counted,
    "cond": lambda x, u: lax.cond(jnp.bool_(True), jnp.tanh, jnp.sin, x),
    "cond_by_input": lambda x, u: lax.cond(u[0] > 0, jnp.tanh, lambda x: x * u[1], x),
    "switch": lambda x, u: lax.switch(jnp.int32(5), [jnp.sin, jnp.tanh, jnp.cos], x),
    "switch_by_input": lambda x, u: lax.switch(
        (u[0] > 0).astype(int) + (u[1] > 0), [jnp.sin, jnp.tanh, jnp.cos], x
    ),
    "vmap": lambda x, u: jax.vmap(lambda a, w: jnp.tanh(w @ x + a))(x, W),
}
"""Functions without kinks, by what is special in them."""

KINKED = {
    "softmax": lambda x, u: jax.nn.softmax(W @ x),
    "log_softmax": lambda x, u: jax.nn.log_softmax(W @ x),
    "relu": lambda x, u: jax.nn.relu(W @ x),
    "relu6": lambda x, u: jax.nn.relu6(3 * x + 3),
    "abs": lambda x, u: jnp.abs(x) * jnp.abs(u[0]),
    "max": lambda x, u: jnp.maximum(x, W @ x) + jnp.maximum(x, 0.2),
    "min": lambda x, u: jnp.minimum(x, 0.0) + jnp.minimum(u[0], x * x),
    "clip": lambda x, u: jnp.clip(x, -0.5, 0.5),
    "clamp": lambda x, u: lax.clamp(-0.3, x, x[::-1] ** 2 + 1),
    "reduce_max": lambda x, u: x * jnp.max(W @ x) + x.reshape(2, 2).max(0).repeat(2),
    "reduce_min": lambda x, u: x + jnp.min(x) + u.min(),
    "leaky_relu": lambda x, u: jax.nn.leaky_relu(x),
    "elu": lambda x, u: jax.nn.elu(x),
    "selu": lambda x, u: jax.nn.selu(W @ x),
    "softplus": lambda x, u: jax.nn.softplus(x),
    "logaddexp": lambda x, u: jnp.logaddexp(x, x[::-1]),
    "soft_sign": lambda x, u: jax.nn.soft_sign(x),
    "hard_tanh": lambda x, u: jax.nn.hard_tanh(2 * x),
    "hard_sigmoid": lambda x, u: jax.nn.hard_sigmoid(4 * x),
    "relu_network": lambda x, u: V @ jax.nn.relu(W @ x + B @ u),
    "where_finite": lambda x, u: jnp.where(jnp.isfinite(x), jnp.nan_to_num(x), 0.0),
    "while_scaled": lambda x, u: x / jnp.maximum(1.0, jnp.abs(x).max()),
}
"""Continuous functions with kinks, or with a maximum inside, whose slopes are wide at ties."""

JUMPING = {
    "where": lambda x, u: jnp.where(x > 0, 1.0, -1.0) * (x + 2),
    "where_of_two": lambda x, u: jnp.where(x >= 0, jnp.sin(x) + 2, x),
    "sign": lambda x, u: jnp.sign(x) * (x + 3),
    "floor": lambda x, u: jnp.floor(x) + 0.5 * x,
    "ceil": lambda x, u: jnp.ceil(x) + 0.5 * x,
    "round": lambda x, u: jnp.round(x + 0.5) + 0.5 * x,
    "truth_values_as_numbers": lambda x, u: (x > 0) * 1.0 + (x > 0).astype(float) * x,
    "lt": lambda x, u: jnp.where(x < 0, x + 5, x),
    "le": lambda x, u: jnp.where(x <= 0, x, x + 5),
    "not": lambda x, u: jnp.where(~(x > 0), x + 5, x),
    "and": lambda x, u: jnp.where((x > 0) & (x < 2), x + 5, x),
    "or": lambda x, u: jnp.where((x > 0) | (x < -2), x + 5, x),
    "choice_of_choices": lambda x, u: jnp.where(jnp.where(u[0] > 0, x > 0, x < 0), x + 5, x),
    "moved_truth_values": lambda x, u: jnp.where((x > 0)[::-1].reshape(2, 2).ravel()[::-1], 5, x),
    "split_truth_values": lambda x, u: jnp.where(
        jnp.concatenate(jnp.split(x > 0, [1, 3])), x + 5, x
    ),
}
"""Functions with a jump at 0 of each state, in the next state of the same number."""

OTHER_JUMPS = {
    "piecewise": piecewise,
    "eq_and_ne": lambda x, u: jnp.where(x == 0, 1.0, x) + jnp.where(x != x[::-1], x, 0.5),
    "roll": lambda x, u: jnp.roll(x, 1) * (x > 0.1).astype(x.dtype).sum(),
    "truth_values_in_a_scan": lambda x, u: lax.scan(lambda c, a: (c, a > 0), 0, x)[1] * x,
    "steps_of_the_input": lambda x, u: x * jnp.floor(10 * u[0]) + jnp.sign(u[1]),
}
FUNCTIONS = SMOOTH | KINKED | JUMPING | OTHER_JUMPS
WITHOUT_JACOBIAN = (
    "custom_vjp",
    "reduction_over_windows",
    "functions_at_places",
    "function_at_a_place",
)
"""JAX does not take these functions' derivatives forwards."""


def rows():
    """Return boxes of all radii around two states away from 0 and around 0, and inputs."""
    rng = np.random.default_rng(1)
    away = rng.uniform(0.05, 1.2, (2, N_STATES)) * rng.choice([-1, 1], (2, N_STATES))
    centres = np.concatenate([away, np.zeros((1, N_STATES))])
    mid = np.tile(centres, (len(RADII), 1))
    rad = np.broadcast_to(np.repeat(RADII, len(centres))[:, None], mid.shape).copy()
    return Ball(mid, rad), np.tile(rng.normal(size=(3, N_INPUTS)), (len(RADII), 1))


BOXES, INPUTS = rows()
AT_ZERO = np.arange(len(INPUTS)) % 3 == 2
RADIUS = BOXES.rad[:, 0]


@cache
def program(name):
    return EnclosedProgram(as_transition((FUNCTIONS | TREACHEROUS)[name]), BOXES.mid, INPUTS)


def samples(box, n_samples=6, seed=2):
    """Return states `[n, n_samples, n_states]` of each box: its centre, corners, and others."""
    t = np.random.default_rng(seed).uniform(-1, 1, (len(box.mid), n_samples, N_STATES))
    t[:, 0], t[:, 1:3] = 0, np.sign(t[:, 1:3])
    return box.mid[:, None] + t * box.rad[:, None]


STATES = samples(BOXES)


@cache
def next_states(name):
    """Return a function and its Jacobians at `STATES`, in float64; no Jacobians if JAX has none."""
    F = (FUNCTIONS | TREACHEROUS)[name]
    derivative = (lambda x, u: jnp.zeros(0)) if name in WITHOUT_JACOBIAN else jax.jacfwd(F)
    flat = STATES.reshape(-1, N_STATES)
    inputs = np.repeat(INPUTS, STATES.shape[1], axis=0)
    with jax.enable_x64(True):
        results = jax.jit(jax.vmap(lambda x, u: (F(x, u), derivative(x, u))))(flat, inputs)
    return [np.asarray(a).reshape(*STATES.shape[:2], *a.shape[1:]) for a in results]


def outside(ball, x, slack):
    """Return which entries a ball is known not to hold, but for JAX's own rounding."""
    with np.errstate(invalid="ignore"):
        return np.abs(x - ball.mid) > ball.radius + slack


def check(name):
    """Assert that values and slopes over boxes hold those of states in them, and return them."""
    value, slope = program(name).linearised(BOXES)
    assert value.shape == BOXES.shape and slope.shape == (*BOXES.shape, N_STATES)
    x, (y, J) = STATES, next_states(name)
    assert np.isfinite(y).all()
    wide = Ball(value.mid[:, None], np.broadcast_to(value.radius, value.shape)[:, None])
    assert np.argwhere(outside(wide, y, 1e-12 * (1 + np.abs(y)))).tolist() == []
    alone = program(name).value(BOXES)
    wide = Ball(alone.mid[:, None], np.broadcast_to(alone.radius, value.shape)[:, None])
    assert np.argwhere(outside(wide, y, 1e-12 * (1 + np.abs(y)))).tolist() == []

    a, b = (list(side) for side in zip(*itertools.combinations(range(x.shape[1]), 2), strict=True))
    step, change = x[:, a] - x[:, b], y[:, a] - y[:, b]
    rad = np.broadcast_to(slope.radius, slope.shape)
    with np.errstate(invalid="ignore"):
        moved = Ball(
            np.einsum("nij,npj->npi", slope.mid, step),
            np.einsum("nij,npj->npi", rad, np.abs(step)),
        )
        scale = (
            np.abs(y[:, a])
            + np.abs(y[:, b])
            + np.einsum("nij,npj->npi", np.abs(slope.mid), np.abs(step))
        )
    assert np.argwhere(outside(moved, change, 1e-12 * (scale + 1e-3))).tolist() == []
    if name not in WITHOUT_JACOBIAN:
        # Where a function is differentiable, its derivative is the slope of very near states.
        wide = Ball(slope.mid[:, None], rad[:, None])
        assert np.argwhere(outside(wide, J, 1e-11 * (1 + np.abs(J)))).tolist() == []
    return value, slope


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.slow
def test_values_and_slopes_over_a_box_hold_those_of_its_states(name):
    value, slope = check(name)
    if name in JUMPING:
        across = AT_ZERO & (RADIUS > 0)
        diagonal = np.einsum("nii->ni", slope.radius)
        assert not np.isfinite(diagonal[across]).any()
    # Not so wide as to say nothing: none of these functions is steep.
    small = RADIUS <= 1e-10
    if name not in SMOOTH:
        small &= ~AT_ZERO
    assert np.all(np.broadcast_to(value.radius, value.shape)[small] < 1e-5)
    assert np.all(np.broadcast_to(slope.radius, slope.shape)[small] < 1e-5)


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_JACOBIAN])
def test_slopes_at_a_state_are_the_jacobian(name):
    at = np.flatnonzero(~AT_ZERO & (RADIUS == 0))
    x, u = BOXES.mid[at], INPUTS[at]
    value, slope = EnclosedProgram(as_transition(FUNCTIONS[name]), x, u).linearised(Ball(x))
    y, J = (a[at] for a in next_states(name))
    np.testing.assert_allclose(value.mid, y[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope.mid, J[:, 0], rtol=1e-10, atol=1e-10)
    assert np.all(value.radius <= 1e-10 * (1 + np.abs(value.mid)))
    assert np.all(slope.radius <= 1e-10 * (1 + np.abs(slope.mid)))


def test_slopes_of_a_continuous_unit_are_finite_at_its_kink():
    names = ("relu", "abs", "max", "clip", "softplus", "reduce_max", "soft_sign", "relu_network")
    for name in names:
        _, slope = program(name).linearised(BOXES)
        assert np.isfinite(slope.radius[RADIUS < 1]).all(), name


def test_a_stopped_gradient_stops_no_slope():
    F = lambda x, u: lax.stop_gradient(jnp.sin(x)) + x  # noqa: E731
    _, slope = EnclosedProgram(as_transition(F), BOXES.mid[:2], INPUTS[:2]).linearised(
        Ball(BOXES.mid[:2])
    )
    true = [np.diag(np.cos(x) + 1) for x in BOXES.mid[:2]]
    np.testing.assert_allclose(slope.mid, true, rtol=1e-12, atol=1e-12)


def test_numbers_of_a_float32_network_are_those_of_a_search():
    """Those in its code are rounded to float32, and nothing that is computed from them is."""
    x, u = np.float32(BOXES.mid[:2]), np.float32(INPUTS[:2])
    F = lambda x, u: 0.1 * x + np.float64(0.3)  # noqa: E731
    value, slope = EnclosedProgram(as_transition(F), x, u).linearised(Ball(x.astype(np.float64)))
    exact = float(np.float32(0.1)) * x.astype(np.float64) + float(np.float32(0.3))
    np.testing.assert_allclose(value.mid, exact, rtol=1e-15)
    np.testing.assert_allclose(slope.mid, [np.eye(N_STATES) * np.float32(0.1)] * 2, rtol=1e-15)


def test_tracing_does_not_print_the_network(monkeypatch):
    """JAX asks for the text of what it traces if that has no name; of a module it is very long."""
    printed = []
    monkeypatch.setattr(eqx.Module, "__repr__", lambda self: printed.append(self) or "")
    F = as_transition(FUNCTIONS["tanh"])
    EnclosedProgram(F, BOXES.mid[:2], INPUTS[:2])
    assert not printed
    assert repr(F) == "" and printed


# ---- what is covered ---------------------------------------------------------------------------

UNREACHED = {
    "copy_p": "the name of `copy` in other releases of JAX",
    "expand_dims": "JAX writes it as `broadcast_in_dim`",
}
OF_SOME_RELEASES = {"one_minus_square", "stack", "tile", "unstack"}
"""Other releases of JAX write these as several operations."""


def primitives(jaxpr):
    """Return the names of the operations of a program and of those in it."""
    names = set()
    for eqn in jaxpr.eqns:
        names.add(eqn.primitive.name)
        for param in jax.tree.leaves(
            eqn.params, is_leaf=lambda p: isinstance(p, (core.Jaxpr, core.ClosedJaxpr))
        ):
            if isinstance(param, (core.Jaxpr, core.ClosedJaxpr)):
                names |= primitives(getattr(param, "jaxpr", param))
    return names


@pytest.mark.slow
def test_each_rule_is_exercised_by_a_function_of_the_tables(monkeypatch):
    """That is, applied to something that depends on the state."""
    met = set()

    def noted(name, rule):
        def apply(params, *args):
            if any(not isinstance(arg, np.ndarray) for arg in args):
                met.add(name)
            return rule(params, *args)

        return apply

    traced = set()
    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, noted(name, rule))
    for name in FUNCTIONS:
        traced |= primitives(program(name)._program.jaxpr)
        with contextlib.suppress(NotCovered):
            program(name).linearised(BOXES)
    assert set(RULES) - met <= set(UNREACHED) | (OF_SOME_RELEASES - traced)
    inner = {"scan", "cond", "while", "jit", "custom_jvp_call", "custom_vjp_call"}
    assert {*MOVED_BY_JAX, *inner, "iota"} <= traced
    assert traced & {"checkpoint", "remat2"}  # its name depends on the release


@pytest.mark.parametrize(
    ("F", "operation"),
    [
        (lambda x, u: jax.scipy.special.erfinv(x / 3), "erf_inv"),
        (lambda x, u: (jnp.linalg.inv(x.reshape(2, 2) + 3 * jnp.eye(2))).ravel(), "lu"),
        (lambda x, u: jax.nn.gelu(x, approximate=False), "erfc"),
        (lambda x, u: jnp.sort(x), "sort"),
        (lambda x, u: x * jnp.prod(x), "reduce_prod"),
        (lambda x, u: x.at[jnp.array([1, 1])].add(x[:2]), "scatter.add"),
        (lambda x, u: x[jnp.argmax(x)] * x, "argmax"),
        (lambda x, u: jnp.arctan(x), "atan"),
        (lambda x, u: x % 0.3, "rem"),
    ],
)
def test_what_no_rule_covers_is_named(F, operation):
    compiled = EnclosedProgram(as_transition(F), BOXES.mid, INPUTS)
    for run in (compiled.value, compiled.linearised):
        with pytest.raises(NotCovered, match=f"`{operation}`"):
            run(BOXES)


# ---- where a rule might do the wrong thing unnoticed -------------------------------------------


BRANCHES = [lambda x: x + 1, lambda x: 0.5 * x, lambda x: -x]
TREACHEROUS = {
    "cond_on_a_state": lambda x, u: lax.cond(x[0] > 0, BRANCHES[0], BRANCHES[1], x),
    "switch_on_states": lambda x, u: lax.switch(
        (x[0] > 0).astype(jnp.int32) + (x[1] > 0), BRANCHES, x
    ),
    "number_of_a_case_from_states": lambda x, u: lax.select_n((x > 0).astype(jnp.int32), x, x + 2),
    "take": lambda x, u: jnp.take(x, jnp.array([1, 0, 9, 3]), mode="clip") * jnp.take(x, 1),
    "functions_at_places": lambda x, u: x.at[jnp.array([0, 2])].apply(jnp.cos, unique_indices=True),
    "function_at_a_place": lambda x, u: x.at[1].apply(jnp.cos),
    "product_at_a_place": lambda x, u: x.at[1].multiply(x[0]),
    "places_given_twice": lambda x, u: x.at[jnp.array([1, 1])].set(2 * x[:2]),
    "places_beyond_the_end": lambda x, u: x.at[jnp.array([1, 7])].set(
        2 * x[:2], unique_indices=True
    ),
    "count_of_truth_values": lambda x, u: x * jnp.sum(x > 0.1) + jnp.mean(x > 0.2),
    "while_by_input": as_often_as_the_input_says,
    "while_a_state_is_large": lambda x, u: lax.while_loop(
        lambda x: x.sum() > 0.5, lambda x: 0.5 * x, x
    ),
    "state_as_an_index": lambda x, u: x[(x > 0).astype(jnp.int32)],
    "quotient_of_whole_numbers": lambda x, u: (
        lax.div((x > 0).astype(jnp.int32), jnp.int32(2)).astype(x.dtype) + x
    ),
    "unsigned_numbers": lambda x, u: ((x > 0).astype(jnp.uint8) - jnp.uint8(1)).astype(float) + x,
    "exclusive_or": lambda x, u: ((x > 0) ^ (x > 1)) * 1.0,
    "one_of_two_constants": lambda x, u: jnp.where(x > 0, 1.0, -1.0),
    "one_of_two_constants_beside_states": lambda x, u: jnp.concatenate(
        [jnp.where(x[:2] > 0, 1.0, -1.0), x[2:]]
    ),
    "one_of_two_constants_in_a_scan": lambda x, u: lax.scan(
        lambda c, a: (a, jnp.where(c > 0, 1.0, -1.0)), x[0], x
    )[1],
    "padded_truth_values": lambda x, u: jnp.pad(x > 0, (1, 0))[1:] * 1.0 + x,
    "places_that_do_not_exist": lambda x, u: x.at[jnp.array([0, 9, 1, 9])].get(
        mode="fill", fill_value=-1.0
    ),
    "places_of_a_product_that_do_not_exist": lambda x, u: (
        jnp.sin(x).at[jnp.array([0, 9, 1, 9])].get(mode="fill", fill_value=-1.0)
    ),
    "reduction_of_its_own": lambda x, u: x * lax.reduce(x, 1.0, lambda a, b: a * b + a, [0]),
    "reduction_over_windows": lambda x, u: lax.reduce_window(
        x, np.float64(1), lambda a, b: a * b + a, (2,), (1,), "SAME"
    ),
    "sums_over_windows": lambda x, u: lax.reduce_window(x, 0.0, lax.add, (2,), (1,), "SAME"),
    "product_of_sums": lambda x, u: jnp.cumprod(x + 2),
}


@pytest.mark.parametrize("name", TREACHEROUS)
def test_what_is_not_refused_is_right(name):
    with contextlib.suppress(NotCovered):
        check(name)


def test_steps_of_very_large_numbers_hold_them():
    x = np.array([[1.5e308, -1.5e308, 2.0**53, 1e300]])
    floor = EnclosedProgram(as_transition(lambda x, u: jnp.floor(x)), x, INPUTS[:1])
    with np.errstate(over="ignore", invalid="ignore"):
        value, _ = floor.linearised(Ball(x, np.zeros(x.shape)))
    all_hold(value, np.vectorize(Fraction, otypes=[object])(x))


BEYOND = [jnp.log, jnp.sqrt, lax.rsqrt, lambda x: 1 / x, lambda x: jnp.log1p(x - 1)]
OF_WHAT_IS_NOT_KNOWN = {
    "itself": lambda x: x,
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "cumsum": jnp.cumsum,
    "sum": lambda x: x.sum() * x,
    "matmul": lambda x: W @ x,
    "where": lambda x: jnp.where(x > 0, x, 2 * x),
    "softmax": jax.nn.softmax,
    "gather": lambda x: x[jnp.array([3, 2, 2, 0])],
}


@pytest.mark.parametrize("name", OF_WHAT_IS_NOT_KNOWN)
def test_functions_beyond_their_domain_prove_nothing_and_do_not_warn(name):
    """Of boxes around 0.5 that reach below 0."""
    box = Ball(np.full((1, N_STATES), 0.5), np.full((1, N_STATES), 1.0))
    for beyond in BEYOND:
        F = lambda x, u, f=beyond: OF_WHAT_IS_NOT_KNOWN[name](f(x))  # noqa: E731
        value, slope = EnclosedProgram(as_transition(F), box.mid, INPUTS[:1]).linearised(box)
        assert not value.is_known.any()
        assert not (np.isfinite(slope.mid) & np.isfinite(slope.radius)).all()


# ---- how much distances grow --------------------------------------------------------------------

WITHOUT_LIPSCHITZ_BOUND = (
    "cumsum",
    "cumsum_reversed",
    "dynamic_update_of_states",
    "gather",
    "gather_of_a_product",
    "integer_arithmetic",
    "scatter",
    "scatter_at_several_places",
    "scatter_into_constants",
)
SEEMING_JUMPS = ("elu", "leaky_relu", "selu")
"""Choices between two functions that agree where one passes into the other, which no rule knows."""

LIPSCHITZ_CONSTANTS = {
    "matmul": (lambda x, u: W @ x, np.linalg.norm(W, 2)),
    "matmul_from_the_right": (lambda x, u: x @ W + B @ u, np.linalg.norm(W, 2)),
    "wide_matrix": (lambda x, u: jnp.pad(W[:2] @ x, (0, 2)), np.linalg.norm(W[:2], 2)),
    "batches": (
        lambda x, u: jnp.einsum("bij,bj->bi", GATES[:2, :2, :2], x.reshape(2, 2)).ravel(),
        np.linalg.norm(GATES[:2, :2, :2], 2, axis=(1, 2)).max(),
    ),
    "tanh": (lambda x, u: jax.jit(jnp.tanh)(W @ x), np.linalg.norm(W, 2)),
    "scan": (lambda x, u: lax.scan(lambda x, w: (w * x, 0.0), x, np.float64([2, -3]))[0], 6),
    "rows_of_a_scan": (lambda x, u: lax.scan(lambda x, w: (x, w * x[0]), x, jnp.ones(4))[1], 2),
    "sum": (lambda x, u: jnp.full(4, x.sum()), 4),
    "maximum": (lambda x, u: jnp.full(4, x.max()), 2),
    "kink": (lambda x, u: jax.nn.relu(-3 * x), 3),
    "moved": (lambda x, u: jnp.concatenate(jnp.split(x.reshape(2, 2).T.ravel()[::-1], 1)), 1),
    "by_columns": (lambda x, u: x - lax.reshape(x.reshape(2, 2), (4,), (1, 0)), 2),
    "twice": (lambda x, u: jnp.concatenate([x[:2], x[:2]]), np.sqrt(2)),
    "stacked": (lambda x, u: jnp.stack([x[:2], x[:2]]).ravel(), np.sqrt(2)),
    "tiled": (lambda x, u: jnp.tile(x[:2], 2), np.sqrt(2)),
    "one_of_all": (lambda x, u: x[0] * jnp.ones(4), 2),
    "own_part": (lambda x, u: 2 * x - jnp.squeeze(x.reshape(4, 1), 1) - 0.5 * x, 0.5),
    "leaky": (lambda x, u: x + u[0] ** 2 * (jnp.sin(x) - x), 1),
    "flow": (lambda x, u: x + (0.5 * W @ x - x), 0.5 * np.linalg.norm(W, 2)),
    "product": (lambda x, u: (x + 1) * (2 - x), 1),
    "product_of_states": (
        lambda x, u: (W @ x + 1) * (jnp.eye(4) @ x + 1),
        np.linalg.norm(W, 2) + 1,
    ),
    "constant": (lambda x, u: jnp.tanh(B @ u), 0),
    "jump": (lambda x, u: jnp.where(x > 0, 1.0, -1.0), np.inf),
    "jump_elsewhere": (lambda x, u: jnp.where(x > 1, 3 * x, -x), 1),
}
"""Functions, and how much they stretch near 0."""


def lipschitz_bounds(name):
    """Return a bound for the boxes of each radius, for each box."""
    boxes = [Ball(BOXES.mid, np.full(BOXES.shape, radius)) for radius in RADII]
    return np.repeat([lipschitz_bound(program(name), box) for box in boxes], 3)


def check_lipschitz_bounds(name):
    """Assert that no two states of a box are stretched by more, nor a direction at one state."""
    bounds = lipschitz_bounds(name)
    x, (y, J) = STATES, next_states(name)
    a, b = (list(side) for side in zip(*itertools.combinations(range(x.shape[1]), 2), strict=True))
    step, change = (np.linalg.norm(of[:, a] - of[:, b], axis=-1) for of in (x, y))
    with np.errstate(invalid="ignore"):
        too_far = change > bounds[:, None] * step + 1e-12 * (1 + np.abs(y).max())
    assert np.argwhere(too_far).tolist() == []
    if name not in WITHOUT_JACOBIAN:
        stretch = np.linalg.norm(J, 2, axis=(-2, -1))
        assert np.argwhere(stretch > bounds[:, None] + 1e-12 * (1 + stretch)).tolist() == []
    return bounds


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [*FUNCTIONS, *TREACHEROUS])
@pytest.mark.slow
def test_no_distance_over_a_box_grows_by_more_than_the_lipschitz_bound(name):
    try:
        bounds = check_lipschitz_bounds(name)
    except NotCovered:
        # Some releases of JAX take `x[-1]` by a `dynamic_slice`.
        assert name in (*WITHOUT_LIPSCHITZ_BOUND, "slice") or name in TREACHEROUS
        return
    if name in JUMPING:
        assert np.isinf(bounds[AT_ZERO & (RADIUS > 0)]).all()
    elif name not in OTHER_JUMPS and name not in TREACHEROUS and name not in SEEMING_JUMPS:
        assert np.isfinite(bounds[RADIUS < 1]).all()


@pytest.mark.parametrize("name", LIPSCHITZ_CONSTANTS)
def test_lipschitz_bounds_of_simple_functions_are_close(name):
    F, expected = LIPSCHITZ_CONSTANTS[name]
    around_zero = Ball(np.zeros((1, N_STATES)), np.full((1, N_STATES), 1e-12))
    bound = lipschitz_bound(
        EnclosedProgram(as_transition(F), BOXES.mid[:1], INPUTS[:1]), around_zero
    )
    np.testing.assert_allclose(bound, expected, rtol=1e-10)


def matrices(kind):
    rng = np.random.default_rng(0)
    return {
        "square": rng.normal(size=(8, 8)),
        "stack": rng.normal(size=(3, 2, 5, 7)),
        "wide": rng.normal(size=(3, 9)),
        "tall": rng.normal(size=(9, 3)),
        "ill_scaled": rng.normal(size=(8, 8)) * 10.0 ** rng.uniform(-12, 12, (8, 1)),
        "of_rank_one": np.outer(np.arange(1, 7), np.arange(2, 8)).astype(float),
        "orthogonal": np.array([[1.0, 1.0], [1.0, -1.0]]),
        "one": np.full((1, 1), -0.1),
        "zero": np.zeros((4, 4)),
        "small": 1e-100 * rng.normal(size=(5, 5)),
        "many": rng.normal(size=(300, 300)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["square", "stack", "wide", "tall", "ill_scaled", "of_rank_one", "orthogonal", "one", "zero"],
)
def test_no_vector_is_stretched_by_more_than_the_spectral_norm(kind):
    """Of exact matrices the vector that is stretched most is stretched by nearly as much."""
    stack = matrices(kind)
    bound = Fraction(spectral_norm(Ball(stack)))
    most = Fraction(0)
    for M in stack.reshape(-1, *stack.shape[-2:]):
        x = list(map(Fraction, np.linalg.svd(M)[2][0].tolist()))
        y = [sum(map(mul, map(Fraction, row), x)) for row in M.tolist()]
        most = max(most, sum(a * a for a in y) / sum(a * a for a in x))
    assert most <= bound**2 <= most * (1 + Fraction(1, 10**10)) + Fraction(1, 10**200)


@pytest.mark.parametrize("kind", ["small", "many"])
def test_the_spectral_norm_loses_little(kind):
    M = matrices(kind)
    expected = np.linalg.norm(M, 2)
    assert expected <= spectral_norm(Ball(M)) <= expected * (1 + 1e-8)


def test_the_spectral_norm_takes_in_radii_and_does_not_trust_lapack(monkeypatch):
    M, radius = matrices("square"), np.abs(matrices("square")[::-1])
    bound = spectral_norm(Ball(M, radius))
    rng = np.random.default_rng(1)
    for sign in (np.sign(M), *np.sign(rng.normal(size=(20, *M.shape)))):
        assert np.linalg.norm(M + sign * radius, 2) <= bound
    assert bound < np.linalg.norm(M, 2) + np.linalg.norm(radius) + 1e-9
    for entry in (np.nan, np.inf):
        assert spectral_norm(Ball(np.full((2, 2), entry))) == np.inf
        assert spectral_norm(Ball(np.ones((2, 2)), np.full((2, 2), entry))) == np.inf
    assert spectral_norm(Ball(np.full((2, 2), 1e300))) == np.inf  # its square is too large
    assert spectral_norm(Ball(np.zeros((0, 3)))) < 1e-100
    V, most = np.linalg.svd(M)[2], np.linalg.norm(M, 2)
    for scale in (0.9, 1.001, 1.1):  # vectors that are too short, or long, or not orthogonal at all
        for wrong in (scale * V, scale * np.eye(8), scale * np.linalg.qr(M)[0]):
            monkeypatch.setattr(np.linalg, "svd", lambda *_, wrong=wrong, **__: (None, None, wrong))
            assert spectral_norm(Ball(M)) >= most
    monkeypatch.setattr(np.linalg, "svd", lambda *_, **__: (None, None, np.ones((8, 8))))
    assert spectral_norm(Ball(M)) == np.inf
