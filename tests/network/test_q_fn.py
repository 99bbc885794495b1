"""`q_fn` against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import Affine, TanhNet, henon, henon_points, in_float64, trained

from slowpoints import q_fn

pytestmark = pytest.mark.fast

A = np.array([[0.5, -1.0], [0.25, 2.0]])
B = np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 0.5]])
F = Affine(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))


def test_q_is_half_the_squared_step():
    x, u = np.array([1.0, -2.0]), np.array([0.5, 0.0, -1.0])
    step = A @ x + B @ u - x
    assert float(q_fn(F, x, u)) == pytest.approx(0.5 * step @ step, rel=1e-6)


def test_q_is_zero_at_fixed_points_only():
    F, points = henon(), henon_points()
    assert np.all(q_fn(F, points, np.zeros(0)) < 1e-12)
    assert np.all(q_fn(F, points + 0.1, np.zeros(0)) > 1e-4)


def test_leading_axes_broadcast():
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(5, 1, 2)), rng.normal(size=(4, 3))
    q = q_fn(F, x, u)
    assert q.shape == (5, 4)
    assert float(q[3, 2]) == pytest.approx(float(q_fn(F, x[3, 0], u[2])), rel=1e-6)


def test_one_state_gives_a_scalar():
    assert q_fn(F, np.ones(2), np.ones(3)).shape == ()


def test_no_rows_give_no_values():
    assert q_fn(F, np.zeros((0, 2)), np.zeros((1, 3))).shape == (0,)


def test_a_plain_function_will_do():
    assert float(q_fn(lambda x, u: x + u, np.zeros(2), np.array([3.0, 4.0]))) == 12.5


def test_gradient_is_the_closed_form():
    """For a linear map, `dq/dx = (I - A)^T (x - A x - B u)`."""
    x, u = np.array([1.0, -2.0]), np.array([0.5, 0.0, -1.0])
    expected = (np.eye(2) - A).T @ (x - A @ x - B @ u)
    np.testing.assert_allclose(jax.grad(q_fn, argnums=1)(F, jnp.asarray(x), u), expected, rtol=1e-6)


@pytest.mark.slow
def test_gradient_reaches_the_weights():
    """Against central differences in float64."""
    with jax.enable_x64(True):
        net = in_float64(trained("tanh"))
        x, u = jnp.linspace(-1, 1, 16), jnp.ones(3)
        gradient = jax.grad(q_fn)(net, x, u)
        for name in ("Wi", "Wh", "b"):
            weights = getattr(net, name)
            direction = jnp.cos(jnp.arange(weights.size, dtype=float)).reshape(weights.shape)

            def q_at(step, name=name, weights=weights, direction=direction):
                moved = {k: getattr(net, k) for k in ("Wi", "Wh", "b")}
                moved[name] = weights + step * direction
                return q_fn(TanhNet(**moved), x, u)

            slope = (q_at(1e-6) - q_at(-1e-6)) / 2e-6
            assert float(jnp.vdot(getattr(gradient, name), direction)) == pytest.approx(
                float(slope), rel=1e-7
            )


def test_it_runs_inside_jit_and_vmap():
    x, u = jnp.ones((4, 2)), jnp.arange(12.0).reshape(4, 3)
    plain = q_fn(F, x, u)
    np.testing.assert_allclose(jax.jit(q_fn)(F, x, u), plain, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(q_fn, (None, 0, 0))(F, x, u), plain, rtol=1e-6)


def test_precision_is_that_of_the_states():
    assert q_fn(F, np.ones(2, np.float32), np.ones(3, np.float32)).dtype == np.float32
    with jax.enable_x64(True):
        assert q_fn(in_float64(F), np.ones(2), np.ones(3)).dtype == np.float64
