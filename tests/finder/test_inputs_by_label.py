"""Several inputs by their labels, each with starts of its own."""

import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import FixedPointFinder

STATES = np.float32(np.random.default_rng(0).uniform(-2, 2, (20, 10, 2)))
STRENGTHS = {-0.9: [-0.9], 0.0: [0.0], 0.9: [[0.9]]}


def F(x, u):
    """Two states, of which the first is bistable if the input is weak."""
    return jnp.stack([jnp.tanh(2 * x[0] + u[0]), 0.5 * x[1]])


def finder(**settings):
    return FixedPointFinder(F, verbose=False, **settings)


@pytest.mark.slow
def test_each_label_has_its_own_starts_and_its_points():
    fps, all_fps = finder().find_fixed_points(STATES, STRENGTHS, n_inits=32)
    assert all_fps.n == 96
    assert all_fps.cond_id.tolist() == np.repeat(list(STRENGTHS), 32).tolist()
    np.testing.assert_allclose(all_fps.inputs[:, 0], all_fps.cond_id, rtol=1e-6)
    n = {label: int(np.sum(fps.cond_id == label)) for label in STRENGTHS}
    assert n == {-0.9: 1, 0.0: 3, 0.9: 1}
    np.testing.assert_allclose(fps.inputs[:, 0], fps.cond_id, rtol=1e-6)
    one = finder().find_fixed_points(STATES, np.repeat([[-0.9], [0.0], [0.9]], 32, 0), n_inits=96)
    np.testing.assert_array_equal(one[1].xstar, all_fps.xstar)


@pytest.mark.slow
def test_words_are_labels_and_states_that_are_given_start_under_each():
    x = STATES[0]
    inputs = {"weak": np.zeros(1), "strong": np.ones(1)}
    fps, all_fps = finder().find_fixed_points(x, inputs)
    assert all_fps.cond_id.tolist() == ["weak"] * 10 + ["strong"] * 10
    np.testing.assert_array_equal(all_fps.x_init, np.concatenate([x, x]))
    assert set(fps.cond_id) == {"weak", "strong"}


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ({}, {"inputs": {}}, "`inputs` is an empty dict; expected a condition or more"),
        ({}, {"inputs": {"a": [0.0], "b": [0.0, 1.0]}}, "`inputs` has inputs of lengths 1, 2"),
        ({}, {"inputs": {"a": np.zeros((2, 1))}}, r"`inputs\['a'\]` has shape \(2, 1\)"),
        ({}, {"cond_ids": np.zeros(96)}, "`cond_ids` is given; expected None, since `inputs`"),
        ({"coverage": 0.9}, {}, "`inputs` is a dict of conditions; expected one input, since"),
        ({}, {"inputs": {(0, 1): [0.0], (1, 0): [1.0]}}, "words or numbers as labels"),
        ({}, {"inputs": {"a": [np.nan]}}, "`inputs` holds 32 values"),
    ],
)
def test_bad_input_is_named(settings, arguments, words):
    given = {"inputs": STRENGTHS, "n_inits": 32} | arguments
    with pytest.raises(ValueError, match=words):
        finder(**settings).find_fixed_points(STATES, **given)
