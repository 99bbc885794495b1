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
from slowpoints._solvers.kinks.kink_newton import KinkNewton
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


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "F",
    [
        lambda x, u: 1e5 + ridge(x - 1e5, u),
        lambda x, u: x + 0.05 + 1e6 * jnp.abs(x - 0.2),
        lambda x, u: x + 0.05 + jnp.max(jnp.stack([x - 0.2, 0.2 - x]), axis=0),
    ],
    ids=["far from zero", "steep", "largest of two"],
)
def test_it_is_found_far_from_zero_and_where_slopes_are_steep(F):
    at = 1e5 + np.array(CLOSED_FORMS["ridge"][2])
    with jax.enable_x64(True):
        far = float(jnp.linalg.norm(F(jnp.asarray(at), None) - at)) < 0.02
        x = starts(3).astype(float) + (1e5 if far else 0)
        rows = optimize_batch(F, x, np.zeros(1)).to_numpy()
    settled = rows.status == Status.SLOW_POINT
    assert settled.mean() > 0.9
    place = at if far else [0.2] * 3
    np.testing.assert_allclose(rows.xstar[settled], np.tile(place, (settled.sum(), 1)), atol=1e-6)


@pytest.mark.slow
def test_a_corner_is_no_minimum_if_q_falls_in_one_sector_only():
    """Off each kink alone, `q` rises there."""

    def F(x, u):
        a, b = 0.8 * x[0] + 0.6 * x[1], 0.8 * x[1] - 0.6 * x[0]
        falls = 0.5 * jax.nn.relu(a - 3 * jnp.abs(b))
        return x + jnp.stack([0.2 + 0.1 * jnp.sum(jnp.abs(x)) - falls, 0])

    rows = optimize_batch(F, starts(2), NO_INPUT).to_numpy()
    assert Status.SLOW_POINT not in rows.status
    assert np.mean(rows.status == Status.FIXED_POINT) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_places_where_the_network_jumps_are_no_slow_points(seed):
    """Units of -1 or 1: `q` jumps where one of them changes, and may be lower beyond that."""
    W = np.random.default_rng(seed).standard_normal((6, 6)) / 2

    def F(x, u):
        return 0.5 * x + 0.4 * jnp.asarray(W, x.dtype) @ jnp.where(x > 0.3, 1.0, -1.0) + 0.1

    status = np.asarray(optimize_batch(F, 2 * starts(6), NO_INPUT).status)
    assert Status.SLOW_POINT not in status


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
def test_no_row_of_random_networks_is_unfinished(kind, n):
    """Before there were steps along kinks, up to half of these were."""
    status = [random_searched(kind, n, seed)[1].status for seed in (3, 4, 5)]
    assert Status.UNFINISHED not in np.array(status)


def many_kinks(n, n_kinks, seed=0):
    """Return a network in which `q` is lowest where all of its kinks meet, and that place.

    `F(x) - x` has its smallest value there in each state.
    """
    rng = np.random.default_rng([n, n_kinks, seed])
    weights = np.abs(rng.standard_normal((n, n_kinks))) / n_kinks
    normals, place = rng.standard_normal((n_kinks, n)), rng.standard_normal(n)

    def F(x, u):
        to_kinks = jnp.asarray(normals, x.dtype) @ (x - jnp.asarray(place, x.dtype))
        return x + 0.1 + jnp.asarray(weights, x.dtype) @ jnp.abs(to_kinks)

    return F, place


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "n_kinks"),
    [
        (24, 24),
        (6, 20),  # more than there are directions
        (2, 30),
    ],
)
def test_it_is_found_where_many_kinks_meet(n, n_kinks):
    F, place = many_kinks(n, n_kinks)
    rows = optimize_batch(F, 2 * starts(n), NO_INPUT).to_numpy()
    assert np.all(rows.status == Status.SLOW_POINT)
    np.testing.assert_allclose(rows.xstar, np.tile(place, (40, 1)), atol=1e-6)


def of_two_layers(W, x):
    return 0.9 * x + 0.1 * W @ jax.nn.relu(W[:, ::-1] @ jax.nn.relu(W @ x - 0.2) - 0.1) + 0.02


def of_two_sides(W, x):
    """Each unit has both of its parts written out, so that two kinks are one and the same."""
    return 0.9 * x + 0.1 * (jax.nn.relu(W @ x) - 0.3 * jax.nn.relu(-(W @ x))) + 0.02


def of_short_steps(W, x):
    def step(x, _):
        return 0.9 * x + 0.1 * jax.nn.relu(W @ x + 0.2), None

    return jax.lax.scan(step, x, None, length=3)[0]


def of_gates(W, x):
    z = jnp.clip(0.5 + 0.2 * W @ x, 0, 1)
    return (1 - z) * x + z * jnp.where(W @ x > 0.3, W @ x, 0.3) - 0.1


@pytest.mark.slow
@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [of_two_layers, of_two_sides, of_short_steps, of_gates])
def test_minima_of_other_networks_are_none_of_which_a_descent_leads_down(kind):
    """From next to a slow point, BFGS comes to nothing lower unless it passes over what is higher.

    BFGS gets along kinks almost always (Lewis & Overton 2013).
    """
    n, n_slow = 14, 0
    with jax.enable_x64(True):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            W = jnp.asarray(1.6 * rng.standard_normal((n, n)) / np.sqrt(n))

            def F(x, u, W=W):
                return kind(W, x)

            rows = optimize_batch(F, 2 * rng.standard_normal((64, n)), np.zeros(1)).to_numpy()
            assert np.mean(rows.status == Status.UNFINISHED) <= 1 / 64
            slow = np.flatnonzero(rows.status == Status.SLOW_POINT)
            n_slow += len(slow)
            speed = jax.jit(jax.value_and_grad(lambda x, F=F: q_fn(F, x, jnp.zeros(1))))
            for row in slow[:6]:
                x, q = rows.xstar[row], rows.qstar[row]
                near = x + 1e-5 * rng.standard_normal(n)
                found = minimize(
                    lambda y, speed=speed: jax.device_get(speed(y)), near, jac=True, method="BFGS"
                )
                way = x + np.linspace(0, 1, 1001)[:, None] * (found.x - x)
                barrier = max(float(speed(y)[0]) for y in way)
                assert found.fun > q * (1 - 1e-4) - 1e-12 or barrier > q * (1 + 1e-4)
    assert n_slow > 10


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

    def test_rows_come_to_a_kink_from_afar(self):
        found = self.settled(ridge, np.array([[0.5, 0.4, 0.1], [-0.5, 0.2, 0.1]]))
        assert found.end.tolist() == [End.KINK] * 2
        np.testing.assert_allclose(found.x, [[0.1 * np.sin(0.5), 0.5, 0]] * 2, atol=1e-7)

    def test_rows_at_a_minimum_off_all_kinks_end_as_others_do(self):
        """So they do where steps go on without an end, and no kink is in sight."""

        def F(x, u):
            return jnp.stack([x[0] + 0.1 + x[0] ** 2 + 0.1 * jax.nn.relu(x[0] - 50), x[1] / 2])

        def tail(x, u):
            return jnp.stack([x[0] + 1 / x[0], x[1] / 2 + jax.nn.relu(-1 - x[1])])

        found = self.settled(F, np.array([[0.3, 0.1], [0.0, 0.0]]))
        assert found.end.tolist() == [End.STUCK] * 2
        np.testing.assert_allclose(found.x, np.zeros((2, 2)), atol=1e-6)
        found = self.settled(tail, np.array([[1.0, 0.1]]), max_iters=1000)
        assert found.end.tolist() == [End.STUCK] and found.n_iters[0] <= 40

    def test_they_are_counted_and_bounded_as_all_others_are(self):
        near = np.array([[0.1 * np.sin(0.4), 0.4, 0.1]])
        found = self.settled(ridge, near, max_iters=12, n_iters=10)
        assert found.n_iters.tolist() == [12] and found.end.tolist() == [End.STUCK]
        found = self.settled(ridge, near, max_iters=12, n_iters=12)
        np.testing.assert_array_equal(found.x, near)

    @pytest.mark.parametrize("slope", [0.3, 1e5])
    def test_where_the_network_jumps_there_is_no_minimum(self, slope):
        """`q` gets as low as `0.05**2 / 2` from one side, where it is `0.1**2 / 2` at the jump."""

        def jumps(x, u):
            away = slope * jnp.abs(x - 0.2)
            return x + jnp.where(x > 0.2, 0.05 + away, 0.1 + away)

        def meets(x, u):
            away = slope * jnp.abs(x - 0.2)
            return x + jnp.where(x > 0.2, 0.1 + 0.5 * away, 0.1 + away)

        x = np.linspace(-0.5, 1, 12)[:, None]
        assert self.settled(jumps, x).end.tolist() == [End.STUCK] * 12
        assert self.settled(meets, x).end.tolist() == [End.KINK] * 12

    def test_rows_that_are_not_finite_end(self):
        found = self.settled(lambda x, u: jnp.sqrt(jnp.abs(x)) / 0, np.ones((2, 2)))
        assert found.end.tolist() == [End.STUCK] * 2

    def test_a_network_without_kinks_does_not_concern_it(self):
        def of(F):
            return self.solver().concerns(traced("t", as_transition(F), 2, 1, np.dtype(np.float32)))

        assert not of(lambda x, u: jnp.tanh(x) + u)
        assert of(lambda x, u: jax.nn.relu(x) + u)


@pytest.mark.slow
def test_solvers_of_quick_steps_alone_leave_such_rows_unfinished():
    rows = optimize_batch(ridge, starts(3), NO_INPUT, solver=NewtonKrylov())
    assert np.mean(np.asarray(rows.status) == Status.UNFINISHED) > 0.5
    assert Status.FIXED_POINT not in rows.status
