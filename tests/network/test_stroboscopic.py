"""`stroboscopic` against steps in NumPy, and with the functions that take a transition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import (
    ContinuousTime,
    Transition,
    certify,
    continuation,
    find_fixed_points,
    stroboscopic,
)
from slowpoints._network.base import ModelError

INPUTS = np.stack([np.cos(np.arange(12) * np.pi / 6), 0.1 * np.arange(12)], axis=1)
INPUTS = INPUTS.astype(np.float32)


class Network(Transition):
    W: jax.Array
    B: jax.Array

    def __call__(self, x, u):
        return jnp.tanh(self.W @ x + self.B @ u)


def network(n=8, gain=1.2, seed=0):
    rng = np.random.default_rng(seed)
    W, B = gain * rng.normal(size=(n, n)) / np.sqrt(n), rng.normal(size=(n, 2))
    return Network(jnp.asarray(W, jnp.float32), jnp.asarray(B, jnp.float32))


def run(F, x, inputs):
    W, B = np.float64(F.W), np.float64(F.B)
    for u in inputs:
        x = np.tanh(W @ x + B @ u)
    return x


@pytest.mark.parametrize("constant", [np.zeros(0), np.zeros(2), np.array([0.3, -0.2])])
def test_it_takes_the_steps_of_one_period(constant):
    F, x = network(), np.linspace(-1, 1, 8)
    end = stroboscopic(F, INPUTS)(jnp.asarray(x, jnp.float32), jnp.asarray(constant, jnp.float32))
    assert np.allclose(end, run(F, x, INPUTS + (constant if constant.size else 0)), atol=1e-5)


def test_the_network_stands_once_in_the_program_of_a_period():
    F = stroboscopic(lambda x, u: jnp.tanh(x + u), INPUTS)
    assert str(jax.make_jaxpr(F)(jnp.zeros(2), jnp.zeros(0))).count("tanh") == 1


def test_states_within_a_period_may_be_in_another_precision():
    F = lambda x, u: jnp.tanh(x + u).astype(jnp.bfloat16)  # noqa: E731
    x = jnp.array([0.3, -1.2])
    end = stroboscopic(F, INPUTS)(x, jnp.zeros(0))
    for u in INPUTS:
        x = F(x, jnp.asarray(u).astype(x.dtype))
    assert end.dtype == jnp.bfloat16 and np.allclose(end.astype(float), x.astype(float), rtol=0.02)


@pytest.mark.slow
def test_its_fixed_points_repeat_after_a_period_and_have_floquet_multipliers():
    F = network()
    fps, _ = find_fixed_points(
        stroboscopic(F, INPUTS), np.random.default_rng(1).normal(size=(32, 8)), np.zeros(0)
    )
    assert fps.n >= 1
    for x, values in zip(np.float64(fps.xstar), fps.eigval_J_xstar, strict=True):
        assert np.allclose(run(F, x, INPUTS), x, atol=1e-5)
        J, W = np.eye(8), np.float64(F.W)
        for u in INPUTS:
            x = np.tanh(W @ x + np.float64(F.B) @ u)
            J = np.diag(1 - x**2) @ W @ J
        own = np.linalg.eigvals(J)
        assert np.allclose(np.sort(np.abs(own)), np.sort(np.abs(values)), atol=1e-5)
    assert certify(stroboscopic(F, INPUTS), fps).is_certified.all()


@pytest.mark.slow
def test_oscillations_are_followed_in_the_amplitude():
    F = network(gain=0.8)
    G = stroboscopic(F, lambda s: s * INPUTS)
    fps, _ = find_fixed_points(G, np.zeros((4, 8), np.float32), np.array([0.5], np.float32))
    found = continuation(G, fps, span=(0.0, 1.0)).at(1.0)
    x = np.zeros(8)
    for _ in range(300):
        x = run(F, x, INPUTS)
    assert found.n == 1 and np.allclose(found.xstar[0], x, atol=1e-5)


def test_parameters_are_leaves_and_gradients_reach_the_inputs():
    F = network()

    def end(inputs):
        return stroboscopic(F, inputs)(jnp.zeros(8), jnp.zeros(0)).sum()

    slope = jax.grad(end)(jnp.asarray(INPUTS))
    assert slope.shape == INPUTS.shape and np.isfinite(slope).all() and np.any(slope != 0)


def test_lists_are_arrays():
    G = stroboscopic(lambda x, u: 0.5 * x + u, [[1.0], [2.0]])
    assert np.allclose(G(jnp.zeros(1), jnp.zeros(0)), 2.5)


@pytest.mark.parametrize(
    "inputs, error",
    [
        (np.zeros(3), ValueError),
        (np.zeros((0, 2)), ValueError),
        (np.full((2, 2), np.nan), ValueError),
        (None, TypeError),
        ("sine", TypeError),
    ],
)
def test_bad_inputs_are_named(inputs, error):
    with pytest.raises(error, match="`inputs_of_one_period`"):
        stroboscopic(network(), inputs)


def test_a_constant_input_has_to_fit_and_functions_have_to_return_inputs():
    with pytest.raises(ModelError, match=r"has shape \(3,\); expected \(2,\)"):
        stroboscopic(network(), INPUTS)(jnp.zeros(8), jnp.zeros(3))
    with pytest.raises(ModelError, match=r"returns an array of shape \(2,\)"):
        stroboscopic(network(), lambda s: s * INPUTS[0])(jnp.zeros(8), jnp.zeros(1))
    with pytest.raises(TypeError, match="`F` is in continuous time"):
        stroboscopic(ContinuousTime(lambda x, u: -x), INPUTS)
