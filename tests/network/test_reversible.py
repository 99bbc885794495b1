"""Loops whose length is not known, of which JAX has no derivatives in reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import Status, as_transition, optimize_batch
from slowpoints._network import reversible as of_reversible
from slowpoints._network.reversible import reversible
from slowpoints._network.trace import traced

N = 5


def weights(n=N, gain=1.4):
    return jnp.asarray(gain * np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n))


def passes(n, step, x):
    """Apply a step as often as is known, or as often as a traced number says."""
    if isinstance(n, int):
        return jax.lax.scan(lambda x, _: (step(x), None), x, None, length=n)[0]
    return jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, step(c[1])), (0, x))[1]


def plain(n, W):
    return lambda x, u: passes(n(u), lambda x: 0.6 * x + 0.4 * jnp.tanh(W @ x + u[0]), x)


def in_a_condition(n, W):
    step = plain(n, W)
    return lambda x, u: jax.lax.cond(u[0] > -9, step, lambda x, u: 2 * x, x, u)


def in_a_loop(n, W):
    step = plain(n, W)
    return lambda x, u: jax.lax.scan(lambda x, _: (step(x, u), None), x, None, length=2)[0]


def with_a_rule(n, W):
    """The loop is in a function that has a rule for derivatives, which is not that of the loop."""

    @jax.custom_jvp
    def step(x, u):
        return passes(n(u), lambda x: jnp.sin(x) + W @ x / 9, x)

    @step.defjvp
    def _(primals, tangents):
        (x, u), (dx, du) = primals, tangents
        return step(x, u), dx * jnp.cos(x) + du

    return step


NETWORKS = [plain, in_a_condition, in_a_loop, with_a_rule]


def q(F):
    return lambda x, u: jnp.sum((F(x, u) - x) ** 2) / 2


DERIVATIVES = {
    "forwards": lambda F, x, u: jax.jacfwd(F, argnums=(0, 1))(x, u),
    "backwards": lambda F, x, u: jax.jacrev(F, argnums=(0, 1))(x, u),
    "gradient": lambda F, x, u: jax.jit(jax.grad(q(F)))(x, u),
    "gradients": lambda F, x, u: jax.vmap(jax.grad(q(F)), (0, None))(jnp.stack([x, 2 * x]), u),
    "forwards over backwards": lambda F, x, u: jax.hessian(q(F))(x, u),
    "backwards over forwards": lambda F, x, u: jax.jacrev(jax.jacfwd(F))(x, u),
}


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize("derivatives", DERIVATIVES)
def test_derivatives_are_those_of_the_same_loop_of_a_known_length(network, derivatives):
    with jax.enable_x64(True):
        W, x, u = weights(), jnp.cos(jnp.arange(N) + 0.5), jnp.array([0.1])
        F = traced("test", as_transition(network(lambda u: (u[0] + 4).astype(int), W)), N, 1, "f8")
        known = network(lambda u: 4, W)
        of = DERIVATIVES[derivatives]
        pairs = zip(jax.tree.leaves(of(F, x, u)), jax.tree.leaves(of(known, x, u)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("network", [plain, in_a_condition], ids=lambda f: f.__name__)
def test_derivatives_of_third_order_are_had_backwards(network):
    with jax.enable_x64(True):
        W, x, u = weights(), jnp.cos(jnp.arange(N) + 0.5), jnp.array([0.1])
        F = traced("test", as_transition(network(lambda u: (u[0] + 4).astype(int), W)), N, 1, "f8")
        a, b = (jax.jacrev(jax.jacrev(jax.grad(q(F))))(x, u) for F in (F, network(lambda u: 4, W)))
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_weights_have_gradients():
    def speed(W, n):
        F = traced("test", as_transition(plain(n, W)), N, 1, W.dtype)
        return q(F)(jnp.ones(N), jnp.array([0.1]))

    W = weights()
    in_loops = jax.grad(speed)(W, lambda u: (u[0] + 4).astype(int))
    np.testing.assert_allclose(in_loops, jax.grad(speed)(W, lambda u: 4), rtol=1e-4, atol=1e-6)


def test_a_loop_may_carry_whole_and_complex_numbers():
    def loop(arguments):
        z, k = arguments
        return jax.lax.while_loop(lambda c: c[1] < 5, lambda c: (c[0] * c[0] / 2, c[1] + 1), (z, k))

    z, k = jnp.array([1 + 1j, 0.5 - 2j]), jnp.array(2)
    (out, count), (change, _) = jax.jvp(
        lambda z: reversible(lambda a: list(loop(a)))((z, k)), (z,), (1j * z,)
    )
    assert int(count) == 5
    np.testing.assert_allclose(out, z**8 / 128, rtol=1e-5)
    np.testing.assert_allclose(change, 8 * z**8 / 128 * 1j, rtol=1e-5)


def test_jacobians_that_are_too_large_are_not_made(monkeypatch):
    """Forwards, derivatives are those of JAX then, and backwards there are none, as in JAX."""
    monkeypatch.setattr(of_reversible, "_MOST_DERIVATIVES", N * N - 1)
    W, x = weights(), jnp.cos(jnp.arange(N) + 0.5)

    def F(x):
        return reversible(lambda x: [plain(lambda u: jnp.int32(4), W)(x, jnp.array([0.1]))])(x)[0]

    expected = jax.jacfwd(plain(lambda u: 4, W))(x, jnp.array([0.1]))
    np.testing.assert_allclose(jax.jacfwd(F)(x), expected, atol=1e-6)
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.jacrev(F)(x)


@pytest.mark.slow
def test_a_search_finds_what_it_finds_with_a_loop_of_a_known_length():
    """Rows that end at slow points need derivatives backwards."""
    W = weights(48, 1.8)
    x = 2 * np.random.default_rng(1).normal(size=(64, 48)).astype(np.float32)
    rows = [
        optimize_batch(plain(length, W), x, np.float32([0.3])).to_numpy()
        for length in (lambda u: (u[0] + 4).astype(int), lambda u: 4)
    ]
    assert (rows[0].status == Status.SLOW_POINT).sum() > 4
    assert (rows[0].status == rows[1].status).mean() > 0.95
    same = (rows[0].status == rows[1].status) & (rows[0].status == Status.FIXED_POINT)
    np.testing.assert_allclose(rows[0].xstar[same], rows[1].xstar[same], atol=1e-3)
