"""The floor of a valley is where it is, and slow points are where `q` is smallest on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from slowpoints import Status, optimize_batch
from slowpoints._network.as_transition import as_transition
from slowpoints._valleys.reduction import beside_the_floor, falls_along_floor, reduced_ahead

NO_INPUT = np.zeros(0, np.float32)


class Winding:
    """States that go round a circle by `speed(angle)`, with other units that follow, rotated.

    On the floor, the other units have no residual, so that `q` is that of the circle, where it is
    `2 sin(speed / 2)**2` at any angle.
    """

    def __init__(self, n, speed, seed, rate=0.5):
        rng = np.random.default_rng(seed)
        self.rotation = scipy.linalg.hadamard(n) / np.sqrt(n)
        self.followed = rng.normal(size=(n - 2, 2)) / 3
        self.speed, self.rate = speed, rate

    def __call__(self, x, u):
        R = jnp.asarray(self.rotation, x.dtype)
        y = R @ x
        r, angle = jnp.linalg.norm(y[:2]), jnp.arctan2(y[1], y[0])
        r, angle = 1 + self.rate * (r - 1), angle + self.speed(angle)
        y_new = r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        others = y[2:] / 2 + jnp.tanh(jnp.asarray(self.followed, x.dtype) @ y_new)
        return R.T @ jnp.concatenate([y_new, others])

    def angles(self, x):
        y = np.asarray(x, float) @ self.rotation.T
        return np.arctan2(y[..., 1], y[..., 0])

    def at(self, angles):
        """Return states at some angles, on the floor but for how fast they move."""
        y = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        others = 2 * np.tanh(y @ self.followed.T)
        return np.concatenate([y, others], axis=-1) @ self.rotation


def slowest_at_pi(angle):
    return 1e-4 * (1.2 + jnp.cos(angle))


@pytest.mark.slow_cases
@pytest.mark.parametrize("stride", [0.01, 0.2, 0.6])
def test_the_floor_is_where_it_is_whatever_step_led_there(stride):
    F = Winding(16, slowest_at_pi, seed=0)
    with jax.enable_x64(True):
        rng, network, u = np.random.default_rng(1), as_transition(F), jnp.zeros(0)
        x = jnp.asarray(F.at(0.3) + 1e-3 * rng.normal(size=16))
        step = jax.jit(lambda at, step: reduced_ahead(network, u, at, step, jnp.asarray(0.1)))
        at, fits = step(beside_the_floor(network, u, x), np.zeros(6))
        assert fits
        down = -np.sign(at.gradient)  # in the one direction that there is
        places = [at]
        for _ in range(4):
            at, fits = step(places[-1], stride * down)
            assert fits
            places.append(at)
    places = jax.device_get(places)
    q, x = np.array([at.q for at in places]), np.array([at.place.x for at in places])
    angles = F.angles(x)
    np.testing.assert_allclose(np.sqrt(2 * q), 1e-4 * (1.2 + np.cos(angles)), rtol=1e-5)
    assert np.all(np.diff(angles) > 0)  # where the drift falls
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), stride, rtol=0.1)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "speed, angles, falls",
    [
        (
            slowest_at_pi,
            [np.pi, np.pi - 0.005, np.pi - 0.05, np.pi + 0.05, np.pi + 0.3, 0.01],
            [False, False, True, True, True, True],
        ),
        (lambda a: 1e-4 * jnp.sin(a), [1.0, -1.0], [True, True]),
        (lambda a: 1e-4 + 0 * a, [1.0, 2.0], [False, False]),
        (lambda a: a + jnp.nan, [1.0], [False]),
    ],
    ids=["slowest at one place", "fixed points", "as slow everywhere", "NaN"],
)
def test_a_row_may_go_down_along_the_floor_or_not(speed, angles, falls):
    F, rng = Winding(16, speed, seed=0), np.random.default_rng(2)
    with jax.enable_x64(True):
        one = jax.jit(lambda x: falls_along_floor(as_transition(F), x, jnp.zeros(0)))
        for beside in [0, 1e-7, 1e-5, 1e-4]:
            x = F.at(np.array(angles)) + beside * rng.normal(size=(len(angles), 16))
            assert [bool(one(row)) for row in x] == falls


@pytest.mark.slow
def test_at_a_minimum_with_fast_states_around_nothing_falls():
    """On the way along the flat direction, stiff ones bend by more than `q` is predicted to fall.

    Where states drift slowly, as is usual on a floor, that is of no account.
    """
    rng = np.random.default_rng(0)
    n = 12
    W, b = 1.6 * rng.normal(size=(n, n)) / np.sqrt(n), 0.3 * rng.normal(size=n)

    def F(x, u):
        return 0.8 * x + 0.2 * (jnp.asarray(W) @ jax.nn.softplus(x) + jnp.asarray(b))

    with jax.enable_x64(True):
        speed = jax.jit(jax.value_and_grad(lambda x: 0.5 * jnp.sum((F(x, None) - x) ** 2)))
        near = scipy.optimize.minimize(
            lambda x: jax.device_get(speed(x)), np.zeros(n), jac=True, tol=1e-14
        )
        least = near.x
        hessian = np.asarray(jax.jit(jax.hessian(lambda x: speed(x)[0]))(least))
        assert np.linalg.norm(near.jac) < 1e-7 and np.linalg.eigvalsh(hessian)[0] > 0
        falls = jax.jit(lambda x: falls_along_floor(as_transition(F), x, jnp.zeros(0)))
        assert not any(falls(least + off * rng.normal(size=n)) for off in (0, 1e-8, 1e-7))


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 11, 60])
def test_slow_points_are_at_minima_along_rings_of_random_drift(seed):
    """In float32, states are beside the floor, where `q` is curved along it as it is not on it."""
    rng = np.random.default_rng(seed)
    size, k = 10.0 ** rng.uniform(-5, -3), np.arange(1, 4)
    weights, phases = rng.normal(size=3), rng.uniform(0, 2 * np.pi, 3)
    mean = rng.normal()

    def speed(angle):
        waves = [w * jnp.cos(j * angle + p) for w, j, p in zip(weights, k, phases, strict=True)]
        return size * (mean + sum(waves))

    F = Winding(32, speed, seed, rate=rng.uniform(0.2, 0.8))
    x = F.at(rng.uniform(0, 2 * np.pi, 64)) + 0.05 * rng.normal(size=(64, 32))
    rows = optimize_batch(F, np.float32(x), NO_INPUT)
    status = np.asarray(rows.status)
    assert (status <= Status.SLOW_POINT).all()
    grid = np.linspace(0, 2 * np.pi, 20001)[:-1]
    with jax.enable_x64(True):
        pace = np.abs(np.asarray(speed(grid)))
    is_least = (pace < np.roll(pace, 1)) & (pace < np.roll(pace, -1))
    apart = np.abs(np.exp(1j * F.angles(rows.xstar))[:, None] - np.exp(1j * grid[is_least]))
    assert apart.min(axis=1).max() < 0.05
