"""Surfaces of slow states, and what is known of `q` along them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from slowpoints import Status, optimize_batch
from slowpoints._network.as_transition import as_transition
from slowpoints._network.trace import traced
from slowpoints._valleys.reduction import (
    N_DIRECTIONS,
    beside_the_floor,
    falls_along_floor,
    flat_directions,
    reduced_ahead,
    steps_within,
)
from slowpoints._valleys.valleys import ends_of_valleys

NO_INPUT = np.zeros(0, np.float32)
N_STATES = 16


class Torus:
    """States that go round several circles at once, with other units that follow, rotated.

    On the floor, where the other units have no residual, `q` is the sum of `2 sin(speed / 2)**2`
    over the circles.
    """

    def __init__(self, n_angles, seed, sizes):
        rng, self.k = np.random.default_rng(seed), n_angles
        self.rotation = scipy.linalg.hadamard(N_STATES) / np.sqrt(N_STATES)
        self.followed = rng.normal(size=(N_STATES - 2 * n_angles, 2 * n_angles)) / 3
        self.sizes, self.mean = np.asarray(sizes), rng.normal(size=n_angles)
        self.weights, self.phases = rng.normal(size=(2, n_angles, 2))
        self.coupling = rng.normal(size=(n_angles, n_angles)) / 3

    def speeds(self, angles):
        xp = jnp if isinstance(angles, jax.Array) else np
        waves = [
            self.weights[:, j] * xp.cos((j + 1) * angles + 6 * self.phases[:, j]) for j in range(2)
        ]
        return self.sizes * (self.mean + sum(waves) + xp.sin(angles) @ self.coupling)

    def q(self, angles):
        return np.sum(2 * np.sin(self.speeds(angles) / 2) ** 2, axis=-1)

    def __call__(self, x, u):
        R = jnp.asarray(self.rotation, x.dtype)
        y = R @ x
        pairs = y[: 2 * self.k].reshape(self.k, 2)
        r, angles = jnp.hypot(*pairs.T), jnp.arctan2(pairs[:, 1], pairs[:, 0])
        r, angles = (1 + r) / 2, angles + self.speeds(angles)
        first = (r[:, None] * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)).ravel()
        others = y[2 * self.k :] / 2 + jnp.tanh(jnp.asarray(self.followed, x.dtype) @ first)
        return R.T @ jnp.concatenate([first, others])

    def angles(self, x):
        y = (np.asarray(x, float) @ self.rotation.T)[..., : 2 * self.k]
        pairs = y.reshape(*y.shape[:-1], self.k, 2)
        return np.arctan2(pairs[..., 1], pairs[..., 0])

    def at(self, angles):
        """Return states at some angles, on the floor but for how fast they move."""
        pairs = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        first = pairs.reshape(*pairs.shape[:-2], 2 * self.k)
        others = 2 * np.tanh(first @ self.followed.T)
        return np.concatenate([first, others], axis=-1) @ self.rotation

    def still_to_fall(self, angles, h=1e-4):
        """Return by which part a step of Newton's method, of up to 0.1, is predicted to lower q."""
        q, steps = self.q(angles), h * np.eye(self.k)
        g = [self.q(angles + d) - self.q(angles - d) for d in steps]
        g = np.array(g).T / (2 * h * q[:, None])
        H = [
            [
                self.q(angles + d + e)
                - self.q(angles + d - e)
                - self.q(angles - d + e)
                + self.q(angles - d - e)
                for d in steps
            ]
            for e in steps
        ]
        H = np.moveaxis(np.array(H), -1, 0) / (4 * h * h * q[:, None, None])
        w, V = np.linalg.eigh(H)
        along = np.einsum("kij,ki->kj", V, g)
        length = np.minimum(np.abs(along) / np.maximum(w, 1e-9), 0.1)
        return np.sum(np.abs(along) * length - 0.5 * np.maximum(w, 0) * length**2, axis=1)


def place_on(F, x):
    network, u = as_transition(F), jnp.zeros(0)
    at = beside_the_floor(network, u, jnp.asarray(x))
    return reduced_ahead(network, u, at, jnp.zeros_like(at.gradient), jnp.asarray(1.0))


@pytest.mark.slow
def test_q_changes_along_a_surface_as_is_told():
    """Compared with `q` at the places themselves, which are found without any derivative of it."""
    F = Torus(2, seed=1, sizes=[3e-3, 1e-3])
    with jax.enable_x64(True):
        network, u = as_transition(F), jnp.zeros(0)
        here, fits = place_on(F, F.at(np.array([0.4, -1.1])))
        assert fits and np.count_nonzero(np.any(here.place.along, axis=0)) == 2
        step = jax.jit(lambda d: reduced_ahead(network, u, here, d, jnp.asarray(0.1)))
        h, axes = 1e-3, np.eye(len(here.gradient))[np.flatnonzero(np.any(here.place.along, axis=0))]

        def q(*d):
            at, fits = step(jnp.asarray(h * sum(d)))
            assert fits
            return float(at.q)

        gradient = axes @ here.gradient
        np.testing.assert_allclose([(q(d) - q(-d)) / (2 * h) for d in axes], gradient, rtol=1e-4)
        second = [
            [(q(d, e) - q(d, -e) - q(-d, e) + q(-d, -e)) / (4 * h**2) for d in axes] for e in axes
        ]
        np.testing.assert_allclose(second, axes @ here.curvature @ axes.T, rtol=5e-4)


@pytest.mark.parametrize("n_flat", [0, 1, 2, 3, 6])
def test_flat_directions_are_those_of_small_singular_values(n_flat):
    rng = np.random.default_rng(n_flat)
    U, _, Vt = np.linalg.svd(rng.normal(size=(12, 12)))
    s = rng.uniform(0.5, 1.5, 12)
    s[:n_flat] = 1e-4 * np.arange(1, n_flat + 1)
    with jax.enable_x64(True):
        along = np.asarray(flat_directions(jnp.asarray(U * s @ Vt)))
    n_found = np.any(along != 0, axis=0).sum()
    assert n_found == (n_flat or N_DIRECTIONS)  # all are as flat as the flattest
    if n_flat:
        expected = Vt[:n_flat].T
        np.testing.assert_allclose(along @ along.T, expected @ expected.T, atol=1e-6)


@pytest.mark.parametrize(
    "small, n_all, n_few",
    [
        ([1e-5, 1e-2, 2e-2], 3, 1),
        ([1e-5, 2e-5, 1e-2], 3, 2),
        ([1e-3, 2e-3, 3e-3], 3, 3),
        ([1e-5, 1e-3, *[2e-3] * 6], 1, 1),  # more than are followed
        ([*[1e-4] * 7, 1e-3], 6, 6),
    ],
)
def test_directions_that_are_flatter_by_far_are_told_apart(small, n_all, n_few):
    rng = np.random.default_rng(0)
    U, _, Vt = np.linalg.svd(rng.normal(size=(12, 12)))
    s = np.concatenate([small, rng.uniform(0.5, 1.5, 12 - len(small))])
    with jax.enable_x64(True):
        A = jnp.asarray(U * s @ Vt)
        flat = [np.asarray(flat_directions(A, few)) for few in (False, True)]
    assert [np.any(a != 0, axis=0).sum() for a in flat] == [n_all, n_few]


@pytest.mark.slow
def test_a_row_on_a_surface_may_go_down_whatever_direction_is_the_flattest():
    F = Torus(2, seed=3, sizes=[1e-3, 1e-5])
    grid = np.random.default_rng(0).uniform(-np.pi, np.pi, (40, 2))
    part = F.still_to_fall(grid)
    with jax.enable_x64(True):
        one = jax.jit(lambda x: falls_along_floor(as_transition(F), x, jnp.zeros(0)))
        falls = np.array([one(x) for x in F.at(grid)])
    clear = (part > 1e-2) | (part < 1e-4)
    assert clear.sum() > 30
    np.testing.assert_array_equal(falls[clear], part[clear] > 1e-2)


def tails(x, u):
    """Two tails side by side, along both of which another unit bends."""
    a, b, c = x
    return jnp.stack([a + jnp.exp(-a), b + jnp.exp(-b), c / 2 + (jnp.sin(a) + jnp.cos(b)) / 2])


@jax.custom_vjp
def tanh_in_reverse_only(x):
    return jnp.tanh(x)


tanh_in_reverse_only.defvjp(
    lambda x: (jnp.tanh(x), x), lambda x, g: (g * (1 - jnp.square(jnp.tanh(x))),)
)


@pytest.mark.slow
def test_valleys_are_followed_where_the_model_has_no_forward_mode_derivatives():
    def network(tanh):
        return lambda x, u: x + 1e-4 * jnp.stack([1 + tanh(x[0]) ** 2, -tanh(x[1])])

    x = np.stack([np.linspace(-1, 1, 8), np.linspace(0.5, -0.5, 8)], axis=1)
    found = []
    with jax.enable_x64(True):
        for tanh in (jnp.tanh, tanh_in_reverse_only):
            F = traced("test", as_transition(network(tanh)), 2, 0, x.dtype)
            found.append(ends_of_valleys(F, x, x, np.zeros((8, 0)), np.full(8, 1000)))
    assert found[1].known.all() and found[1].at_minimum.all()
    np.testing.assert_allclose(found[1].x, 0, atol=2e-2)
    np.testing.assert_allclose(found[0].x, found[1].x, atol=1e-8)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("n_states", [1, 2, 7])
def test_networks_may_have_as_few_states_as_directions(n_states):
    def F(x, u):
        return x + 1e-3 * (1 + 0.1 * x**2)

    x = np.full((8, n_states), 0.5, np.float32) * np.linspace(-1, 1, 8)[:, None]
    rows = optimize_batch(F, np.float32(x), NO_INPUT)
    assert (np.asarray(rows.status) == Status.SLOW_POINT).all()
    assert np.abs(rows.xstar).max() < 0.02
    x = np.linspace(0, 3, 8)[:, None] + np.zeros(n_states)
    rows = optimize_batch(lambda x, u: x + jnp.exp(-x), np.float32(x), NO_INPUT)
    assert (np.asarray(rows.status) == Status.ESCAPED).all()


@pytest.mark.parametrize("b", [9.0, 12.0, 15.0])
def test_two_tails_at_once_have_no_end(b):
    x = np.array([[12.0, b, np.sin(12.0) + np.cos(b)]])
    with jax.enable_x64(True):
        found = ends_of_valleys(as_transition(tails), x, 0 * x, np.zeros((1, 0)), np.array([5000]))
    assert not found.known and not found.at_minimum


@pytest.mark.slow
def test_a_long_step_is_no_longer_than_the_radius():
    F = Torus(2, seed=1, sizes=[3e-3, 1e-3])
    with jax.enable_x64(True):
        here, _ = place_on(F, F.at(np.array([0.4, -1.1])))
        steps, gains = map(np.asarray, steps_within(here, jnp.array([1e-3, 1e-2, 0.1])))
    lengths = np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(lengths, [1e-3, 1e-2, 0.1], rtol=1e-3)
    assert np.all(np.diff(gains) > 0) and gains[0] > 0


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "n_angles, seed, sizes",
    [
        (2, 0, [8e-4, 6e-5]),
        (2, 4, [7e-3, 3e-4]),
        (2, 10, [7e-3, 4e-5]),
        (3, 1, [3e-4, 7e-3, 3e-5]),
        (4, 2, [6e-5, 8e-5, 3e-3, 2e-5]),
    ],
)
def test_all_rows_on_a_torus_come_to_an_end(n_angles, seed, sizes):
    F, rng = Torus(n_angles, seed, sizes), np.random.default_rng(seed)
    x = F.at(rng.uniform(-np.pi, np.pi, (64, n_angles))) + 0.05 * rng.normal(size=(64, N_STATES))
    rows = optimize_batch(F, np.float32(x), NO_INPUT)
    status = np.asarray(rows.status)
    assert (status <= Status.SLOW_POINT).all()
    slow = F.angles(rows.xstar)[status == Status.SLOW_POINT]
    if len(slow):
        part = F.still_to_fall(slow)
        assert part.max() < 2e-3


@pytest.mark.slow
def test_directions_of_slow_units_are_left_out_where_they_are_in_the_way():
    """Half of the units that follow a ring of slow states do so a hundred times more slowly."""
    rng = np.random.default_rng(2)
    size, weights, phases = 10.0 ** rng.uniform(-5, -3), rng.normal(size=3), rng.uniform(0, 6.28, 2)
    followed = rng.normal(size=(14, 2)) / 2
    rates = np.where(np.arange(14) < 7, 10.0 ** rng.uniform(-2.3, -1.5, 14), 0.5)
    rotation = scipy.linalg.hadamard(16) / 4

    def F(x, u):
        R = jnp.asarray(rotation, x.dtype)
        y = R @ x
        r, angle = jnp.hypot(y[0], y[1]), jnp.arctan2(y[1], y[0])
        waves = [
            w * jnp.cos(k * angle + p) for k, w, p in zip((1, 2), weights[1:], phases, strict=True)
        ]
        r, angle = (1 + r) / 2, angle + size * (weights[0] + sum(waves))
        first = r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        to_others = jnp.tanh(jnp.asarray(followed, x.dtype) @ first) - y[2:]
        return R.T @ jnp.concatenate([first, y[2:] + jnp.asarray(rates, x.dtype) * to_others])

    angles = rng.uniform(0, 6.28, 64)
    y = 0.05 * rng.normal(size=(64, 16))
    y[:, 0] += np.cos(angles)
    y[:, 1] += np.sin(angles)
    rows = optimize_batch(F, np.float32(y @ rotation), NO_INPUT)
    assert (np.asarray(rows.status) <= Status.SLOW_POINT).all()
