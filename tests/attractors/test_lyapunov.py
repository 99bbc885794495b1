"""`lyapunov` against closed forms, published values and its own errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import henon, logistic

from slowpoints import Transition, lyapunov

NO_INPUT = np.zeros(0, np.float32)


def runge_kutta(f, dt):
    """Return a step of a flow as a map."""

    def step(x, u):
        a = f(x)
        b = f(x + dt / 2 * a)
        c = f(x + dt / 2 * b)
        return x + dt / 6 * (a + 2 * b + 2 * c + f(x + dt * c))

    return step


def lorenz(x):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


class Linear(Transition):
    A: jax.Array

    def __call__(self, x, u):
        return self.A @ x


@pytest.mark.slow_cases
@pytest.mark.parametrize("n_states", [3, 12])  # directions one by one, and by LAPACK
def test_a_linear_network_has_the_logarithms_of_its_eigenvalues(n_states):
    rng = np.random.default_rng(0)
    values = np.geomspace(0.9, 0.2, n_states)
    basis = rng.normal(size=(n_states, n_states))
    A = basis @ np.diag(values) @ np.linalg.inv(basis)
    found = lyapunov(Linear(jnp.asarray(A)), np.zeros(n_states, np.float32), NO_INPUT)
    own = np.sort(np.log(np.linalg.eigvals(np.float32(A)).real))[::-1]
    assert np.allclose(found.exponents, own, atol=1e-6)
    assert found.exponents.dtype == np.float64 and (found.errors < 1e-6).all()


def test_henon_has_the_published_exponents_within_its_errors():
    starts = np.random.default_rng(1).uniform(-0.1, 0.1, (400, 2)).astype(np.float32)
    found = lyapunov(henon(), starts, NO_INPUT, n_steps=4000)
    covered = np.abs(found.exponents[:, 0] - 0.41922) <= found.errors[:, 0]
    assert 0.92 <= covered.mean() <= 1
    assert np.allclose(found.exponents.sum(axis=1), np.log(0.3), atol=1e-6)
    together = found.together()
    assert abs(together.exponents[0] - 0.41922) <= together.errors[0] < 0.001
    assert together.n_steps == 400 * 4000
    assert np.allclose(found.dimension.mean(), 1.258, atol=0.002)


def test_the_logistic_map_at_four_doubles_differences():
    found = lyapunov(logistic(4.0), np.array([0.3]), NO_INPUT, n_steps=100_000)
    assert abs(found.exponents[0] - np.log(2)) <= found.errors[0] < 0.01


def test_a_superstable_cycle_loses_its_direction():
    found = lyapunov(logistic(2.0), np.array([0.5]), NO_INPUT)
    assert found.exponents[0] == -np.inf and found.errors[0] == 0


def test_regular_motion_converges_faster_than_any_power():
    def F(x, u):
        return jnp.stack([2.1 * x[0] * (1 - x[1]), x[0]])

    found = lyapunov(F, np.array([0.5, 0.5], np.float32), NO_INPUT)
    assert abs(found.exponents[0]) <= 1e-10 and found.errors[0] <= 1e-10
    assert np.allclose(found.exponents[1], -0.126767, atol=1e-6)


@pytest.mark.slow
def test_lorenz_has_the_published_exponents():
    starts = np.random.default_rng(0).uniform(1, 9, (256, 3)).astype(np.float32)
    found = lyapunov(runge_kutta(lorenz, 0.01), starts, NO_INPUT, n_steps=50_000).together()
    exponents, errors = found.exponents / 0.01, found.errors / 0.01
    assert abs(exponents[0] - 0.9056) <= errors[0] <= 0.001
    assert abs(exponents[1]) <= errors[1] + 1e-4
    assert abs(exponents.sum() + 10 + 1 + 8 / 3) < 1e-3
    assert abs(found.dimension - 2.062) < 0.001


def test_rows_are_taken_together_also_where_directions_are_lost():
    rows = np.full((10, 1), 0.5)
    together = lyapunov(logistic(2.0), rows, NO_INPUT).together()
    assert together.exponents[0] == -np.inf and together.errors[0] == 0
    with pytest.raises(ValueError, match="no rows"):
        lyapunov(logistic(2.0), rows[:0], NO_INPUT).together()


def test_a_trajectory_that_leaves_has_no_exponents_and_others_keep_theirs():
    def F(x, u):
        return x + 0.5 * x**2 - 0.5 * x

    found = lyapunov(F, np.array([[0.1], [9.0]], np.float32), NO_INPUT)
    assert np.allclose(found.exponents[0], np.log(0.5), atol=1e-6)
    assert np.isnan(found.exponents[1]).all() and np.isnan(found.errors[1]).all()


def test_rows_have_inputs_of_their_own_and_leading_exponents_are_those_of_all():
    def F(x, u):
        return u * x

    found = lyapunov(F, np.ones((2, 3), np.float32), np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.1]]))
    assert np.allclose(found.exponents, np.log([[0.5, 0.3, 0.2], [0.4, 0.3, 0.1]]), atol=1e-5)
    leading = lyapunov(F, np.ones(3, np.float32), np.array([0.5, 0.3, 0.2]), 1)
    assert leading.exponents.shape == (1,) and leading.x.shape == (3,)
    assert np.allclose(leading.exponents, np.log(0.5), atol=1e-5)


@pytest.mark.slow
def test_a_dimension_needs_exponents_whose_sum_is_negative():
    found = lyapunov(henon(), np.array([0.1, 0.1], np.float32), NO_INPUT, 1)
    assert np.isnan(found.dimension)
    still = lyapunov(Linear(0.5 * jnp.eye(2)), np.zeros(2, np.float32), NO_INPUT)
    assert still.dimension == 0 and "-0.693147" in str(still)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": np.array([np.nan, 0])}, "`x`"),
        ({"x": np.zeros(0, np.float32)}, "`x`"),
        ({"inputs": np.zeros((3, 2), np.float32)}, "`inputs`"),
        ({"n": 3}, "`n`"),
        ({"n": 0}, "`n`"),
        ({"n_steps": 0}, "`n_steps`"),
        ({"transient": -1}, "`transient`"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"x": np.zeros(2, np.float32), "inputs": NO_INPUT}
    with pytest.raises(ValueError, match=message):
        lyapunov(henon(), **{**good, **change})


def test_traced_states_are_refused():
    with pytest.raises(TypeError, match="outside of `jit`"):
        jax.jit(lambda x: lyapunov(henon(), x, NO_INPUT).exponents)(jnp.zeros(2))
