"""`input_grid`: every state under every input, and no point of one condition lost to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import Affine

from slowpoints import find_fixed_points, input_grid


def test_every_state_is_paired_with_every_input():
    x0, inputs = np.arange(6.0).reshape(3, 2), np.array([[10.0], [20.0]])
    x, u, cond_id = input_grid(x0, inputs)
    np.testing.assert_array_equal(x, [*x0, *x0])
    assert u[:, 0].tolist() == 3 * [10] + 3 * [20]
    assert cond_id.tolist() == [0, 0, 0, 1, 1, 1]
    for jitted, plain in zip(jax.jit(input_grid)(x0, inputs), (x, u, cond_id), strict=True):
        np.testing.assert_array_equal(jitted, plain)


@pytest.mark.parametrize(("n_inits", "k"), [(0, 2), (3, 0)])
def test_nothing_to_pair_is_no_rows(n_inits, k):
    x, u, cond_id = input_grid(np.zeros((n_inits, 2)), np.zeros((k, 1)))
    assert x.shape == (0, 2) and u.shape == (0, 1) and cond_id.shape == (0,)


@pytest.mark.checks_input
def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"`inputs` has shape \(2,\); expected \(k, n_inputs\)"):
        input_grid(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match=r"`x_init` has shape \(2,\)"):
        input_grid(np.zeros(2), np.zeros((3, 2)))


@pytest.mark.slow
def test_each_input_has_its_own_fixed_point_however_close_the_inputs():
    """Of `x / 2 + u`, which is `2 u`: points and inputs are less than the tolerance apart."""
    F = Affine(jnp.eye(2) / 2, jnp.eye(2))
    inputs = 1e-4 * np.arange(5, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    x0 = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    x, u, cond_id = input_grid(x0, inputs)
    found = {
        within: find_fixed_points(
            F, x, u, cond_id=cond_id, within_conditions=within, compute_jacobians=False, mesh=None
        )[0]
        for within in (True, False)
    }
    assert sorted(found[True].cond_id.tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found[True].xstar, 2 * found[True].inputs, atol=1e-6)
    assert found[False].n < 5  # by definition: the joint distance of states and inputs


@pytest.mark.slow
def test_points_searched_on_stay_within_their_conditions():
    F = Affine(jnp.eye(1) / 2, jnp.eye(1))
    x, u, cond_id = input_grid(np.float32([[0.3], [2.0]]), np.float32([[0.0], [1e-5]]))
    fps, _ = find_fixed_points(
        F, x, u, cond_id=cond_id, within_conditions=True, outlier_q_scale=1.0, mesh=None
    )
    assert sorted(fps.cond_id.tolist()) == [0, 1]
