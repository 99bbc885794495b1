"""A slow place is one point: rows that end there agree on where it is, at a minimum of `q`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from networks import field_case, field_network, field_starts

from slowpoints import Status, as_transition, find_fixed_points, optimize_batch, q_fn, unique
from slowpoints._network.trace import traced
from slowpoints._solvers.base import Found, Stopping
from slowpoints._solvers.minimum_newton import MinimumNewton
from slowpoints._solvers.termination import End

TOL_UNIQUE = 1e-3
"""The default distance below which two rows are at one point."""


def stopping(max_iters=5000, tol_q=0.0):
    return Stopping(jnp.asarray(max_iters), jnp.asarray(tol_q), jnp.asarray(0.0))


def ended_at_minima(x, n_iters=0):
    found = Found.nothing(x)
    end = jnp.full_like(found.end, End.MINIMUM)
    return found._replace(end=end, n_iters=found.n_iters + n_iters)


def settled(F, x, u, n_iters=0, polish=True, **rules):
    """Return rows after the last steps, in float64."""
    with jax.enable_x64(True):
        x, u = jnp.asarray(x, float), jnp.broadcast_to(jnp.asarray(u, float), (len(x), len(u)))
        F = traced("test", as_transition(F), x.shape[1], u.shape[1], x.dtype)
        found, every = ended_at_minima(x, n_iters), jnp.ones(len(x), bool)
        return jax.device_get(MinimumNewton(polish).resume(F, found, u, stopping(**rules), every))


def minimum(F, x, u):
    """Return where SciPy finds the minimum of `q` near `x`, in float64."""
    with jax.enable_x64(True):
        q = lambda x: q_fn(F, jnp.asarray(x), jnp.asarray(u))  # noqa: E731
        derivatives = {"jac": jax.jit(jax.grad(q)), "hess": jax.jit(jax.hessian(q))}
        return scipy.optimize.minimize(q, x, method="trust-exact", tol=1e-12, **derivatives)


def passage(n, seed):
    """Return units one of whose mixtures passes a ghost, and the states at which it does."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    W = 0.4 * rng.normal(size=(n - 1, n - 1)) / np.sqrt(n)

    def F(x, u):
        y = x @ Q
        first = y[0] + 0.1 * (u[0] + y[0] ** 2 + 0.3 * jnp.sum(y[1:] ** 2))
        return Q @ jnp.concatenate([first[None], jnp.tanh(W @ y[1:] + 0.3 * y[0] + 0.2)])

    return F, 0.02 * rng.normal(size=(5, n)) + 0.1


class TestTheLastSteps:
    @pytest.mark.slow
    def test_rows_agree_where_scipy_finds_the_minimum(self):
        F, x = passage(20, 0)
        known = minimum(F, x[0], [0.05])
        assert known.fun > 1e-6
        near = known.x + 1e-3 * x / np.linalg.norm(x, axis=1)[:, None]
        found = settled(F, near, [0.05])
        np.testing.assert_array_equal(found.end, End.MINIMUM)
        np.testing.assert_allclose(found.x, np.tile(known.x, (5, 1)), atol=1e-8)
        assert found.n_iters.max() <= 4

    @pytest.mark.slow
    def test_q_does_not_rise_even_from_where_its_hessian_is_indefinite(self):
        F, x = passage(20, 1)
        x = x - 3 * np.linalg.norm(x, axis=1)[:, None] * x  # far off
        with jax.enable_x64(True):
            before = [float(q_fn(F, jnp.asarray(row), jnp.array([0.05]))) for row in x]
            hessians = [jax.hessian(lambda x: q_fn(F, x, jnp.array([0.05])))(row) for row in x]
        assert min(np.linalg.eigvalsh(H).min() for H in hessians) < 0
        found = settled(F, x, [0.05])
        assert (found.q <= np.array(before)).all()
        assert (found.q < 0.5 * np.array(before)).any()

    @pytest.mark.slow
    def test_a_step_that_goes_too_far_is_taken_back(self):
        """From 0.6 Newton's method leads to -1.5, where `q` is higher, and from there away."""

        def F(x, u):
            return x + jnp.arctan(x) + u

        x = np.array([[0.6, 0.0], [0.0, -0.65]])
        found = settled(F, x, [0.0], max_iters=2)
        np.testing.assert_array_equal(found.x, x)
        np.testing.assert_allclose(settled(F, x, [0.0]).x, 0, atol=1e-6)

    def test_along_a_flat_valley_they_come_to_an_end(self):
        """`q` falls along one direction for ever."""

        def F(x, u):
            return x + jnp.stack([u[0] + jnp.exp(-x[0]), 0 * x[1]]) - jnp.stack([0 * x[0], x[1]])

        found = settled(F, np.array([[2.0, 0.3], [3.0, -0.2]]), [0.1])
        np.testing.assert_array_equal(found.end, End.MINIMUM)
        assert found.n_iters.max() <= 30
        assert np.isfinite(found.x).all() and np.isfinite(found.dq).all()

    @pytest.mark.slow
    def test_they_are_counted_and_bounded_as_all_others_are(self):
        F, x = passage(20, 0)
        found = settled(F, x, [0.05], n_iters=10, max_iters=12)
        np.testing.assert_array_equal(found.n_iters, 12)
        np.testing.assert_array_equal(found.end, End.MINIMUM)
        found = settled(F, x, [0.05], n_iters=12, max_iters=12)
        np.testing.assert_array_equal(found.x, x)

    def test_without_polish_they_end_at_the_tolerance(self):
        F, x = passage(20, 0)
        found = settled(F, x, [0.05], polish=False, tol_q=1.0)
        np.testing.assert_array_equal(found.end, End.TOLERANCE)
        np.testing.assert_array_equal(found.n_iters, 1)

    def test_only_rows_at_minima_take_them(self):
        end = np.array([End.MINIMUM, End.ROOT, End.STUCK, End.MINIMUM])
        taken = MinimumNewton(True).takes(end, np.array([1, 1, 1, np.inf]))
        np.testing.assert_array_equal(taken, [True, False, False, False])


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 16, 17, 40])
def test_rows_of_networks_of_any_size_agree(n):
    F, _ = passage(n, 0)
    x = np.random.default_rng(5).normal(0, 0.4, (48, n)).astype(np.float32)
    rows = optimize_batch(F, x, np.float32([0.05]))
    assert (rows.status == Status.SLOW_POINT).all()
    assert np.linalg.norm(rows.xstar - rows.xstar[0], axis=1).max() < 0.1 * TOL_UNIQUE


def two_variables(n, seed):
    """Return a network of rank two beside random weights, and states around its plane."""
    rng = np.random.default_rng(seed)
    m, noise, b = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), rng.normal(size=n)
    W = 0.8 * rng.normal(size=(n, n)) / np.sqrt(n) + m @ (2 * m + noise).T / n
    W, b = np.float32(W), np.float32(b + 0.5 * m[:, 0])
    rng = np.random.default_rng(9)
    x = 1.2 * rng.normal(size=(64, 2)) @ m.T + 0.3 * rng.normal(size=(64, n))
    return lambda x, u: x + 0.2 * (-x + W @ jnp.tanh(x) + b * u[0]), np.float32(x)


def check_slow_places(F, x, u):
    """Check that no row is unfinished, and that slow points are minima, each of them once."""
    fps, rows = find_fixed_points(F, x, u, final_q_threshold=None)
    assert (rows.status != Status.UNFINISHED).all()
    slow = rows[np.flatnonzero(rows.status == Status.SLOW_POINT)]
    points = fps[np.flatnonzero(fps.status == Status.SLOW_POINT)].xstar
    assert len(points) > 0
    apart = np.linalg.norm(np.asarray(slow.xstar)[:, None] - np.asarray(points), axis=-1)
    size = 1 + np.linalg.norm(points, axis=1).max()
    assert apart.min(axis=1).max() < max(0.1 * TOL_UNIQUE, 8 * np.finfo(np.float32).eps * size)
    # With a hundred times the tolerance, they are as many.
    assert unique(slow, 100 * TOL_UNIQUE).compact().n == len(points)
    for point in np.asarray(points, float):
        known = minimum(F, point, u)
        assert np.linalg.norm(known.x - point) < 0.1 * TOL_UNIQUE
    return len(points)


@pytest.mark.one_in(5)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "seed", "u"), [(300, 0, 0.3), (300, 0, 1.0), (300, 1, 0.6), (300, 1, 0.3), (512, 2, 0.6)]
)
def test_slow_places_of_hundreds_of_units_are_one_point_each(n, seed, u):
    F, x = two_variables(n, seed)
    assert check_slow_places(F, x, np.float32([u])) <= 3


@pytest.mark.one_in(2)
@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("pwm_leaky_256_s16", 4),
        ("sine_tanh_128_s15", 13),
        ("ring_gru_128_s14", 1),
        ("context_leaky_128_s11", 1),
    ],
)
def test_slow_places_of_trained_networks_are_one_point_each(name, most):
    x, u = field_starts(name), field_case(name)["inputs"][0]
    assert check_slow_places(field_network(name), x, u) <= most
