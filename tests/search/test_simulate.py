"""The states that a network visits under given inputs."""

import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import ContinuousTime, Transition, as_transition, simulate

pytestmark = pytest.mark.fast

W = np.float32([[0.9, -0.4], [0.3, 0.8]])
INPUTS = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)


def F(x, u):
    return jnp.tanh(W @ x + u)


def by_numpy(x):
    states = []
    for t in range(7):
        x = np.tanh(x @ W.T + INPUTS[:, t])
        states.append(x)
    return np.stack(states, 1)


@pytest.mark.parametrize("x0", [np.zeros(2), np.float32([[0.1, 0], [1, -1], [0.5, 0.5]])])
def test_states_are_those_of_single_steps(x0):
    states = simulate(F, INPUTS, x0)
    assert isinstance(states, np.ndarray) and states.dtype == np.float32
    np.testing.assert_allclose(states, by_numpy(np.broadcast_to(x0, (3, 2))), atol=1e-6)


class Pair(Transition):
    """Its state is a pair in the model's own form."""

    n_states = 2
    n_inputs = 2

    def flatten(self, state):
        return jnp.stack([state["a"], state["b"]], -1)

    def __call__(self, x, u):
        return F(x, u)


def test_states_start_at_zero_or_from_what_is_given_in_the_models_own_form():
    np.testing.assert_allclose(simulate(Pair(), INPUTS), by_numpy(np.zeros((3, 2))), atol=1e-6)
    x0 = {"a": np.float32([1, 2, 3]), "b": np.float32([0, 0, 1])}
    expected = by_numpy(np.stack([x0["a"], x0["b"]], -1))
    np.testing.assert_allclose(simulate(Pair(), INPUTS, x0), expected, atol=1e-6)


def test_no_trials_and_no_steps_are_no_reason_to_fail():
    assert simulate(Pair(), INPUTS[:0]).shape == (0, 7, 2)
    assert simulate(Pair(), INPUTS[:, :0]).shape == (3, 0, 2)


def test_whole_numbers_and_float64_keep_what_they_can(monkeypatch):
    assert simulate(Pair(), np.ones((1, 2, 2), int)).dtype == np.float32
    with __import__("jax").enable_x64(True):
        assert simulate(F, INPUTS.astype(np.float64), np.zeros(2)).dtype == np.float64


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": INPUTS[0]}, r"simulate: `inputs` has shape \(7, 2\); expected \(trials, time"),
        ({"inputs": INPUTS * np.nan}, "`inputs` holds"),
        ({"x0": np.zeros(3)}, "`x0` has 3"),
        ({"x0": np.zeros((2, 2))}, r"`x0` has shape \(2, 2\); expected \(n_states,\) or \(3, n_st"),
        ({"F": as_transition(F)}, "`x0` is None, but it is not known how many states"),
        ({"F": ContinuousTime(F)}, "expected a network in steps; slowpoints.flow"),
    ],
)
def test_bad_input_is_named(arguments, words):
    given = {"F": Pair(), "inputs": INPUTS} | arguments
    with pytest.raises((ValueError, TypeError), match=words):
        simulate(**given)
