"""Minima of `q` at kinks, where it has no gradient: they are slow points on which rows agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from scipy.optimize import minimize

from slowpoints import NewtonKrylov, Status, find_fixed_points, optimize_batch, q_fn
from slowpoints._network.as_transition import as_transition
from slowpoints._network.trace import traced
from slowpoints._solvers.base import Found, Stopping
from slowpoints._solvers.kink_newton import KinkNewton, _shortest_combination
from slowpoints._solvers.termination import End

NO_INPUT = np.zeros(1, np.float32)


def starts(n_states, n=40, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, n_states)).astype(np.float32)


def corner(x, u):
    """`q` is lowest where three kinks meet."""
    return x + 0.05 + jnp.abs(x - 0.2) * jnp.array([1.0, 1.0, 2.0])


def ridge(x, u):
    """The kink is curved, and `q` is lowest at one place of it."""
    return jnp.stack(
        [
            x[0] + 0.01 + jnp.abs(x[0] - 0.1 * jnp.sin(x[1])),
            x[1] - 0.3 * (x[1] - 0.5),
            0.2 * x[2],
        ]
    )


def passed(x, u):
    """Units of `relu` that pass a point at which there is none, by less on one side of a kink."""
    return jnp.stack(
        [x[0] + 1e-3 + 0.4 * jax.nn.relu(x[0] - 0.3) + 0.1 * jax.nn.relu(0.3 - x[0]), x[1] / 2]
    )


CLOSED_FORMS = {  # the network, its number of states, where q is lowest, and how low
    "corner": (corner, 3, [0.2, 0.2, 0.2], 3 * 0.05**2 / 2),
    "ridge": (ridge, 3, [0.1 * np.sin(0.5), 0.5, 0.0], 0.01**2 / 2),
    "passed": (passed, 2, [0.3, 0.0], 1e-3**2 / 2),
}


@pytest.mark.slow
def test_a_minimum_at_a_kink_is_one_slow_point():
    F, n_states, place, q = CLOSED_FORMS["ridge"]
    fps, rows = find_fixed_points(F, starts(n_states), NO_INPUT, final_q_threshold=None)
    assert fps.n == 1 and fps.hits.tolist() == [40]
    assert np.all(np.asarray(rows.status) == Status.SLOW_POINT)
    np.testing.assert_allclose(rows.xstar, np.tile(place, (40, 1)), atol=1e-6)
    np.testing.assert_allclose(rows.qstar, q, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.one_in(5)
@pytest.mark.parametrize("way", ["plain", "jit", "vmap", "float64"])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_it_is_found_in_all_ways_of_searching(name, way):
    F, n_states, place, q = CLOSED_FORMS[name]
    x = starts(n_states)
    if way == "float64":
        with jax.enable_x64(True):
            rows = optimize_batch(F, x.astype(np.float64), np.zeros(1))
    elif way == "vmap":
        batches = x.reshape(4, 10, n_states)
        rows = jax.vmap(lambda x: optimize_batch(F, x, jnp.zeros(1)))(batches)
    else:
        search = jax.jit(lambda x: optimize_batch(F, x, jnp.zeros(1)))
        rows = (search if way == "jit" else lambda x: optimize_batch(F, x, NO_INPUT))(x)
    assert np.all(np.asarray(rows.status) == Status.SLOW_POINT)
    found = np.asarray(rows.xstar).reshape(-1, n_states)
    np.testing.assert_allclose(found, np.tile(place, (40, 1)), atol=1e-6)
    np.testing.assert_allclose(np.ravel(rows.qstar), q, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_it_is_found_in_all_units(unit):
    rows = optimize_batch(
        lambda x, u: unit * ridge(x / unit, u), np.float32(unit) * starts(3), NO_INPUT
    )
    settled = np.asarray(rows.status) == Status.SLOW_POINT
    assert settled.mean() > 0.9
    place = CLOSED_FORMS["ridge"][2]
    np.testing.assert_allclose(
        np.asarray(rows.xstar)[settled] / unit, np.tile(place, (settled.sum(), 1)), atol=1e-5
    )


def test_where_q_is_highest_at_a_kink_no_row_stays():
    def F(x, u):
        return jnp.stack([x[0] + 1 - jnp.abs(x[0]), x[1] / 2])

    x = starts(2)
    x[:5, 0] = 0.0
    rows = optimize_batch(F, x, NO_INPUT)
    assert np.all(np.asarray(rows.status) == Status.FIXED_POINT)
    np.testing.assert_allclose(np.abs(rows.xstar[:, 0]), 1, atol=1e-6)


def random_network(kind, n, seed):
    rng = np.random.default_rng([n, seed])
    W = (1.4 / np.sqrt(n) * rng.standard_normal((n, n))).astype(np.float32)
    b = (0.3 * rng.standard_normal(n)).astype(np.float32)
    unit = {"relu": jax.nn.relu, "clip": lambda v: jnp.clip(v, -1, 1), "abs": lambda v: 1 - abs(v)}

    def F(x, u):
        return jnp.asarray(W, x.dtype) @ unit[kind](x + jnp.asarray(b, x.dtype)) + 0.1

    return F


def random_searched(kind, n, seed):
    F = random_network(kind, n, seed)
    return F, optimize_batch(F, 1.5 * starts(n, 64, seed), NO_INPUT).to_numpy()


@pytest.mark.slow
@pytest.mark.one_in(2)
@pytest.mark.parametrize(("kind", "n"), [("abs", 4), ("clip", 4), ("clip", 20), ("abs", 12)])
def test_slow_points_of_random_networks_are_minima(kind, n):
    """No random direction, and no search by Nelder and Mead's simplex, leads down from them."""
    rng, n_slow = np.random.default_rng(0), 0
    for seed in range(3):
        F, rows = random_searched(kind, n, seed)
        slow = np.flatnonzero(rows.status == Status.SLOW_POINT)
        n_slow += slow.size
        with jax.enable_x64(True):
            speed = jax.jit(jax.vmap(lambda x, F=F: q_fn(F, x, jnp.zeros(1))))
            for row in slow[:8]:
                x, q = rows.xstar[row].astype(np.float64), rows.qstar[row]
                away = rng.standard_normal((2000, n))
                away /= np.linalg.norm(away, axis=1, keepdims=True)
                for distance in (1e-4, 1e-3):
                    lowest = speed(jnp.asarray(x + distance * away)).min()
                    assert lowest > q * (1 - 1e-5) - 1e-12
                found = minimize(
                    lambda y, speed=speed: float(speed(jnp.asarray(y[None]))[0]),
                    x,
                    method="Nelder-Mead",
                    options={"maxfev": 300, "initial_simplex": x + 1e-3 * np.eye(n + 1, n)},
                )
                assert found.fun > q * (1 - 1e-4) - 1e-12
    assert n_slow > 10


@pytest.mark.slow
@pytest.mark.one_in(2)
@pytest.mark.parametrize(("kind", "n"), [("relu", 8), ("relu", 40), ("clip", 8), ("abs", 6)])
def test_few_rows_of_random_networks_are_unfinished(kind, n):
    """Before there were steps along kinks, up to half of these were."""
    status = [random_searched(kind, n, seed)[1].status for seed in (3, 4, 5)]
    assert np.mean(np.array(status) == Status.UNFINISHED) < 0.05


@pytest.mark.slow
class TestTheSteps:
    def solver(self):
        return KinkNewton(polish=True)

    def settled(self, F, x, max_iters=100, n_iters=0):
        with jax.enable_x64(True):
            F = traced("test", as_transition(F), x.shape[1], 1, np.dtype(np.float64))
            x = jnp.asarray(x, jnp.float64)
            found = Found.nothing(x)._replace(n_iters=jnp.full(len(x), n_iters))
            stopping = Stopping(jnp.asarray(max_iters), jnp.asarray(1e-12), jnp.asarray(1e-20))
            u, every = jnp.zeros((len(x), 1)), jnp.ones(len(x), bool)
            return jax.device_get(self.solver().resume(F, found, u, stopping, every))

    def test_from_close_by_few_steps_lead_to_a_kink(self):
        near = np.array([[0.1 * np.sin(0.4) + off, 0.4, 0.1] for off in (1e-9, -1e-7)])
        found = self.settled(ridge, near)
        assert found.end.tolist() == [End.KINK] * 2 and found.n_iters.max() <= 8
        np.testing.assert_allclose(found.x, [[0.1 * np.sin(0.5), 0.5, 0]] * 2, atol=1e-7)

    def test_rows_leave_a_kink_on_which_q_falls(self):
        """At the kink of the first state, the second is beside its lowest place, but for a kink."""

        def F(x, u):
            falls = jnp.maximum(x[0], 2 * x[0])  # its slope changes, not its sign
            return jnp.stack([x[0] + 0.5 + falls, x[1] + 0.1 + jnp.abs(x[1])])

        found = self.settled(F, np.array([[0.0, 1e-9], [1e-10, 0.3]]))
        np.testing.assert_allclose(found.x, [[-0.5, 0.0]] * 2, atol=1e-6)
        assert found.end.tolist() == [End.KINK] * 2

    def test_rows_that_are_at_no_kink_stay(self):
        x = np.array([[0.5, 0.4, 0.1], [-0.5, 0.2, 0.1]])
        found = self.settled(ridge, x)
        assert found.end.tolist() == [End.STUCK] * 2
        np.testing.assert_array_equal(found.x, x)

    def test_they_are_counted_and_bounded_as_all_others_are(self):
        near = np.array([[0.1 * np.sin(0.4), 0.4, 0.1]])
        found = self.settled(ridge, near, max_iters=12, n_iters=10)
        assert found.n_iters.tolist() == [12] and found.end.tolist() == [End.STUCK]
        found = self.settled(ridge, near, max_iters=12, n_iters=12)
        np.testing.assert_array_equal(found.x, near)

    def test_rows_that_are_not_finite_end(self):
        found = self.settled(lambda x, u: jnp.sqrt(jnp.abs(x)) / 0, np.ones((2, 2)))
        assert found.end.tolist() == [End.STUCK] * 2

    def test_a_network_without_kinks_does_not_concern_it(self):
        def of(F):
            return self.solver().concerns(traced("t", as_transition(F), 2, 1, np.dtype(np.float32)))

        assert not of(lambda x, u: jnp.tanh(x) + u)
        assert of(lambda x, u: jax.nn.relu(x) + u)

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_the_shortest_combination_is_that_of_scipy(self, k):
        rng = np.random.default_rng(k)
        for shift in (0.0, 0.5, 3.0):
            vectors = rng.standard_normal((12, k)) + shift

            def size(w, vectors=vectors):
                return np.sum((w @ vectors) ** 2)

            known = minimize(
                size,
                np.full(12, 1 / 12),
                bounds=[(0, 1)] * 12,
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            )
            with jax.enable_x64(True):
                found = np.linalg.norm(_shortest_combination(jnp.asarray(vectors)))
            scale = np.linalg.norm(vectors, axis=1).max()
            assert found == pytest.approx(np.sqrt(known.fun), abs=1e-2 * scale)


def test_solvers_of_quick_steps_alone_leave_such_rows_unfinished():
    rows = optimize_batch(ridge, starts(3), NO_INPUT, solver=NewtonKrylov())
    assert np.mean(np.asarray(rows.status) == Status.UNFINISHED) > 0.5
    assert Status.FIXED_POINT not in rows.status
