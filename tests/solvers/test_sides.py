"""A network on given sides of its kinks, as it is read from its program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpoints._network.as_transition import as_transition
from slowpoints._network.trace import traced
from slowpoints._solvers.kinks.sides import Sides, has_sides

N = 4
W = np.random.default_rng(0).standard_normal((N, N))


def as_traced(F, n=N):
    return traced("test", as_transition(F), n, 1, np.dtype(np.float64))


def sides_of(F, n=N):
    F = as_traced(F, n)
    return F, Sides(F, jnp.zeros(n), jnp.zeros(1))


def in_scan(x, u):
    """The comparisons in each pass are kinks of their own."""
    return jax.lax.scan(lambda c, _: (0.5 * c + jax.nn.relu(W @ c), c), x, None, length=3)[0]


def backwards(x, u):
    def step(c, w):
        c = 0.5 * c + jnp.maximum(w * c, 0.1)
        return c, c[0]

    last, firsts = jax.lax.scan(step, x, jnp.arange(3.0), reverse=True)
    return last + firsts.sum()


@jax.custom_jvp
def gentle(x):
    return jnp.abs(x)


@gentle.defjvp
def _(primals, tangents):
    (x,) = primals
    return gentle(x), jnp.where(x > 0, 1.0, -1.0) * tangents[0]


NETWORKS = {  # and how many kinks each has
    "relu": (lambda x, u: jax.nn.relu(W @ x + u), N),
    "abs": (lambda x, u: jnp.abs(W @ x), N),
    "min": (lambda x, u: jnp.minimum(W @ x, x), N),
    "clip": (lambda x, u: jnp.clip(W @ x, -0.5, 0.5), 2 * N),
    "clamp": (lambda x, u: jax.lax.clamp(-0.5, W @ x, x + 1), 2 * N),
    "leaky": (lambda x, u: jax.nn.leaky_relu(W @ x), N),
    "where": (lambda x, u: jnp.where(x[0] < 0.1, W @ x, x[0] - 0.1 + W @ x), 1),
    "at most": (lambda x, u: jnp.where(W @ x <= x, W @ x, x), N),
    "crossed": (lambda x, u: jax.lax.clamp(0.5, W @ x, -0.5) + x, 2 * N),
    "sign": (lambda x, u: jnp.sign(W @ x) * x, N),
    "largest": (lambda x, u: jnp.max(W @ x) * jnp.ones(N), N - 1),
    "least of rows": (lambda x, u: jnp.min(jnp.outer(jnp.arange(1.0, 6), x), axis=0), 4 * N),
    "two layers": (lambda x, u: jax.nn.relu(W @ jax.nn.relu(W @ x) - 0.1), 2 * N),
    "scan": (in_scan, 3 * N),
    "backwards": (backwards, 3 * N),
    "custom rule": (lambda x, u: gentle(W @ x), N),
    "vmap": (lambda x, u: jax.vmap(lambda w: jnp.maximum(w @ x, 0))(jnp.asarray(W)), N),
    "jit": (lambda x, u: jax.jit(jax.nn.relu)(W @ x), N),
}


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", NETWORKS)
def test_on_its_own_sides_it_is_the_network(name):
    with jax.enable_x64(True):
        F, sides = sides_of(NETWORKS[name][0])
        assert sides.n == NETWORKS[name][1] and has_sides(F)
        for x in np.random.default_rng(1).standard_normal((20, N)):
            x, u = jnp.asarray(x), jnp.zeros(1)
            natural = sides.natural(x, u)
            F_x, distances = sides.step(x, u, natural)
            np.testing.assert_allclose(F_x, F(x, u), rtol=1e-13, atol=1e-13)
            np.testing.assert_array_equal(distances > 0, natural)


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", NETWORKS)
def test_on_the_sides_of_one_state_it_is_smooth(name):
    """On them, it is what the network is around that state, polynomials of degree one here."""
    with jax.enable_x64(True):
        F, sides = sides_of(NETWORKS[name][0])
        x, u, away = jnp.asarray([0.3, -0.4, 0.2, 0.7]), jnp.zeros(1), jnp.arange(4.0)
        upper = sides.natural(x, u)

        def step(x):
            return sides.step(x, u, upper)[0]

        near = (F(x + 1e-6 * away, u) - F(x, u)) / 1e-6
        np.testing.assert_allclose(step(x + 3 * away) - step(x), 3 * near, rtol=1e-6, atol=1e-6)
        slopes = jax.jvp(step, (x + 3 * away,), (away,))[1]
        np.testing.assert_allclose(slopes, near, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=2 * N, max_size=2 * N), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_each_side_is_the_one_that_is_given(upper, seed):
    with jax.enable_x64(True):
        x = np.random.default_rng(seed).standard_normal(N)
        _, sides = sides_of(NETWORKS["two layers"][0])
        below, above = np.reshape(upper, (2, N))
        F_x, distances = sides.step(jnp.asarray(x), jnp.zeros(1), jnp.asarray(upper))
        first = W @ x
        second = W @ np.where(below, first, 0) - 0.1
        np.testing.assert_allclose(F_x, np.where(above, second, 0), atol=1e-14)
        np.testing.assert_allclose(distances, [*first, *second], atol=1e-14)


def in_while(x, u):
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: jax.nn.relu(c) + 1, x)


def in_branches(x, u):
    return jax.lax.cond(u[0] > 0, jax.nn.relu, jnp.tanh, x)  # the input and 0 are compared


def ordered(x, u):
    return x * jax.lax.reduce(x, 0.0, lambda a, b: a + abs(b), (0,)) + jnp.sort(x)


def compares_itself(x, u):
    return jnp.where(x != x, 0.0, jnp.where(x >= x, jnp.tanh(x), x))


def counts(x, u):
    def step(i, c):
        return jnp.where(i > 1, jnp.tanh(c), c)

    return jax.lax.fori_loop(0, 4, step, x)


@pytest.mark.parametrize(
    ("F", "n"),
    [(in_while, 0), (in_branches, 1), (compares_itself, 0), (counts, 0), (ordered, 0)],
)
def test_what_it_cannot_say_a_side_of_stays_as_it_is(F, n):
    with jax.enable_x64(True):
        F, sides = sides_of(F)
        x, u = jnp.asarray([0.3, -0.4, 0.2, 0.7]), jnp.ones(1)
        upper = sides.natural(x, u)
        np.testing.assert_allclose(sides.step(x, u, upper)[0], F(x, u), rtol=1e-14)
        assert sides.n == n and has_sides(F) == (n > 0)


def test_a_smooth_network_has_none():
    with jax.enable_x64(True):
        F, sides = sides_of(lambda x, u: jnp.tanh(W @ x) + u)
        assert not has_sides(F) and sides.n == 0
        np.testing.assert_allclose(
            sides.step(jnp.ones(N), jnp.ones(1), jnp.zeros(0, bool))[0], F(jnp.ones(N), jnp.ones(1))
        )


def test_a_state_that_is_not_finite_stays_so():
    with jax.enable_x64(True):
        _, sides = sides_of(NETWORKS["relu"][0])
        x = jnp.full(N, jnp.nan)
        F_x, distances = sides.step(x, jnp.zeros(1), jnp.ones(N, bool))
        assert np.all(np.isnan(F_x)) and np.all(np.isnan(distances))


MASK = jnp.array([1.0, 0.0, 1.0, 0.0])
TIES = {
    "of an input": lambda x, u: jnp.where(u >= 0, jax.nn.relu(x), -x),
    "of an input, and another": lambda x, u: jnp.where(u < 0, -x, jax.nn.relu(x)),
    "of a mask": lambda x, u: jnp.where(MASK >= 1, jax.nn.relu(x), x / 2),
    "not above a mask": lambda x, u: jnp.where(MASK <= 0, x / 2, jnp.where(MASK > 1, 5.0, abs(x))),
    "of the largest": lambda x, u: jnp.where(x >= jnp.sort(x)[2], jax.nn.relu(x), 0),
    "infinite": lambda x, u: jnp.where(jnp.exp(1e4 + 0 * x) >= jnp.inf, abs(x), 0),
}


@pytest.mark.parametrize("F", TIES.values(), ids=TIES)
def test_where_equal_numbers_are_compared_it_is_on_the_side_on_which_the_network_is(F):
    with jax.enable_x64(True):
        F, sides = sides_of(F)
        x, u = jnp.asarray([0.3, -0.4, 0.2, 0.7]), jnp.zeros(1)
        np.testing.assert_array_equal(sides.step(x, u, sides.natural(x, u))[0], F(x, u))


@jax.custom_jvp
def root(x):
    """Return `y` with `y + 0.1 y**3 = x`, but at least -0.3."""

    def step(carry):
        y, n = carry
        return y - (y + 0.1 * y**3 - x) / (1 + 0.3 * y**2), n + 1

    return jnp.maximum(jax.lax.while_loop(lambda carry: carry[1] < 40, step, (x, 0))[0], -0.3)


@root.defjvp
def _(primals, tangents):
    y = root(*primals)
    return y, jnp.where(y > -0.3, tangents[0] / (1 + 0.3 * y**2), 0)


@pytest.mark.slow
def test_functions_that_have_derivatives_by_their_rule_alone_keep_the_rule():
    """One of them is smooth, by its rule, although it compares; with the other, a loop does."""

    def F(x, u):
        return jnp.maximum(jnp.logaddexp(x, 0.0) + root(W @ x), 0.1)

    with jax.enable_x64(True):
        F, sides = sides_of(F)
        x, u = jnp.asarray([0.3, -0.4, 0.2, 0.7]), jnp.zeros(1)
        upper = sides.natural(x, u)
        assert sides.n == N
        pulled = jax.grad(lambda x: sides.step(x, u, upper)[0].sum())(x)
        np.testing.assert_allclose(pulled, jax.grad(lambda x: F(x, u).sum())(x), rtol=1e-12)
        assert not has_sides(as_traced(lambda x, u: jax.nn.softplus(x)))
