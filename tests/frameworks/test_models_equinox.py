"""Equinox's cells, and modules made of them, as transitions.

Its GRU applies the reset gate after the product with the recurrent weights, so the trained GRU of
`cases/` has no form in it; and it has no plain tanh cell.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import (
    check_fixed_points,
    check_gradients,
    check_one_compilation,
    check_rows,
    check_steps,
)
from model_checks import fast_compilation as fast_compilation
from networks import case

from slowpoints import FixedPointFinder, as_transition

N_IN, N = 3, 5


class TwoLayers(eqx.Module):
    """Two GRUs with dropout between them: `cell(input, state)`, as Equinox's own."""

    first: eqx.nn.GRUCell
    second: eqx.nn.GRUCell
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        keys = jax.random.split(key)
        self.first = eqx.nn.GRUCell(N_IN, N, key=keys[0])
        self.second = eqx.nn.GRUCell(N, N, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, u, state):
        h = self.first(u, state[0])
        return h, self.second(self.dropout(h), state[1])


PAIR = {"signature": "input_state", "example_state": (jnp.zeros(N), jnp.zeros(N))}
MODELS = {
    "GRUCell": (lambda key: eqx.nn.GRUCell(N_IN, N, key=key), {}),
    "GRUCell, no bias": (lambda key: eqx.nn.GRUCell(N_IN, N, use_bias=False, key=key), {}),
    "LSTMCell": (lambda key: eqx.nn.LSTMCell(N_IN, N, key=key), {}),
    "LSTMCell, no bias": (lambda key: eqx.nn.LSTMCell(N_IN, N, use_bias=False, key=key), {}),
    "two layers": (TwoLayers, PAIR),
}


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("make", "keywords"), MODELS.values(), ids=MODELS)
def test_a_step_is_the_models_own(make, keywords, dtype):
    model = make(jax.random.key(0))
    own = eqx.nn.inference_mode(model)

    def step(state, u):
        cast = jax.tree.map(lambda a: jnp.asarray(a, dtype) if eqx.is_array(a) else a, own)
        return eqx.filter_jit(cast)(u, state)

    check_steps(as_transition(model, **keywords), step, N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize(("make", "keywords"), MODELS.values(), ids=MODELS)
def test_rows_gradients_and_compilations(make, keywords):
    first, second = (
        as_transition(make(key), **keywords) for key in jax.random.split(jax.random.key(1))
    )
    check_rows(first, N_IN)
    check_gradients(first, N_IN)
    check_one_compilation(first, second, N_IN)


def test_states_have_the_cells_own_form():
    gru, lstm = (
        as_transition(MODELS[name][0](jax.random.key(0))) for name in ("GRUCell", "LSTMCell")
    )
    assert gru.n_states == N and gru.unflatten(np.zeros((4, N))).shape == (4, N)
    h, c = lstm.unflatten(np.arange(20.0).reshape(2, 10))
    np.testing.assert_array_equal(h, [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]])
    np.testing.assert_array_equal(c[0], [5, 6, 7, 8, 9])


@pytest.mark.slow
def test_the_trained_lstm_has_the_same_27_fixed_points():
    """Its gates are i, f, g, o as in the case, but nothing is added to the forget gate."""
    W = case("lstm")
    bias = W["b"] + np.array([0, 1, 0, 0], np.float32)[:, None]
    cell = eqx.tree_at(
        lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias),
        eqx.nn.LSTMCell(3, 16, key=jax.random.key(0)),
        (
            jnp.concatenate([w.T for w in W["Wi"]]),
            jnp.concatenate([w.T for w in W["Wh"]]),
            jnp.asarray(bias.ravel()),
        ),
    )
    check_fixed_points(cell, "lstm")


@pytest.mark.slow
def test_two_layers_in_the_finder():
    F = as_transition(TwoLayers(jax.random.key(0)), **PAIR)
    rng = np.random.default_rng(0)
    traj = (rng.normal(size=(2, 4, N)), rng.normal(size=(2, 4, N)))
    finder = FixedPointFinder(F, solver="newton_krylov", verbose=False)
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, N_IN)), n_inits=8)
    h1, h2 = F.unflatten(jnp.asarray(fps.xstar[0]))
    own = eqx.nn.inference_mode(TwoLayers(jax.random.key(0)))
    for expected, found in zip(own(jnp.zeros(N_IN), (h1, h2)), (h1, h2), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_another_module_is_taken_for_a_function_of_state_and_input():
    linear = eqx.nn.Linear(2, 2, key=jax.random.key(0))

    class Net(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, x, u):
            return self.linear(x) - u

    x, u = jnp.ones(2), jnp.array([1.0, 2.0])
    np.testing.assert_allclose(as_transition(Net(linear))(x, u), linear(x) - u)
