"""Units of states next to fixed points: small entries that follow others, and those that do not."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from model_checks import fast_compilation as fast_compilation

from slowpoints import ContinuousTime, as_transition, basin_boundary, smallest_kick
from slowpoints._connections.units_at_rest import units_at_rest

UNIT = np.float32([1e-6, 1e6])
W = np.float32([[1.8, 0.3], [-0.2, 1.6]])
X = np.float32([[0.9, 0.8], [-0.9, -0.8]])
U = np.zeros((2, 0), np.float32)
NO_INPUT = np.zeros(0, np.float32)


def scaled(x, u):
    return UNIT * jnp.tanh(W @ (x / UNIT))


def at_rest():
    x = X
    for _ in range(200):
        x = np.tanh(x @ W.T)
    return UNIT * x


@pytest.mark.parametrize("is_flow", [False, True])
def test_small_entries_that_follow_large_ones_have_their_own_unit(is_flow):
    F = as_transition(scaled)
    if is_flow:
        F = ContinuousTime(lambda x, u: scaled(x, u) - x)
    found = units_at_rest(F, at_rest(), U)
    assert found.tolist() == [2.0**-20, 2.0**20]
    beside = np.float32([[1.0, 1.0]])  # a state from where it started tells the size as well
    assert units_at_rest(F, at_rest(), U, beside).tolist() == [1.0, 2.0**20]


def test_a_unit_on_its_way_to_zero_has_the_unit_of_the_largest():
    F = as_transition(lambda x, u: jnp.stack([0.5 * x[0], jnp.tanh(2 * x[1])]))
    x = np.float32([[1e-20, 0.9575], [-3e-21, -0.9575]])
    assert units_at_rest(F, x, U).tolist() == [1.0, 1.0]


@pytest.mark.slow
def test_attractors_that_differ_in_small_entries_only():
    """The first unit, of states of 1e-6, does not act on the second one, of 1e6."""

    def F(x, u):
        y = x / UNIT
        return UNIT * jnp.stack([jnp.tanh(2 * y[0] + 0.1 * y[1]), jnp.tanh(2 * y[1])])

    y = np.float32([[0.97, 0.95], [-0.94, 0.95]])
    for _ in range(100):
        y = np.stack([np.tanh(2 * y[:, 0] + 0.1 * y[:, 1]), np.tanh(2 * y[:, 1])], axis=1)
    a, b = UNIT * y
    found = basin_boundary(F, a, b, NO_INPUT)
    assert found.is_resolved.all()
    middle = scipy.optimize.brentq(lambda x: np.tanh(2 * x + 0.1 * y[0, 1]) - x, -0.5, 0.5)
    np.testing.assert_allclose(found.saddle.xstar[0] / UNIT, [middle, y[0, 1]], atol=1e-5)
    kick = smallest_kick(F, a, np.float32([-1e-6, 0.0]), NO_INPUT, max_amplitude=3)
    np.testing.assert_allclose(kick.amplitude, y[0, 0] - middle, rtol=1e-5)  # of the direction
    np.testing.assert_allclose(kick.end / UNIT, y[1], atol=1e-5)
