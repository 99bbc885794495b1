"""`passage_time`: compared with simulations, and with folds that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import field_case, field_network, field_starts, in_float64

import slowpoints
from slowpoints import ContinuousTime, FixedPoints, Status, passage_time

FOLD = np.sqrt(2) - np.arctanh(np.sqrt(0.5))
"""At this input, two fixed points of `tanh(2 x + u)` meet, at `x = -1 / sqrt(2)`: 0.53283997."""

ONE = np.ones(1)
NO_INPUT = np.zeros(0)


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def unit(x, u):
    return jnp.tanh(2 * x + u)


def point(x, u=(), **fields):
    fields = {"status": None} | fields
    x, u = (np.asarray(a, np.float64)[None] for a in (x, u))
    return FixedPoints(xstar=x, inputs=u, dtype=np.float64, **fields)


def slow_point(F, x, u):
    """Return where a search from `x` ends, which has to be a slow point."""
    fps = slowpoints.optimize_batch(F, jnp.asarray(x, float)[None], jnp.asarray(u, float))
    assert fps.status[0] == Status.SLOW_POINT
    return fps


def simulated(F, fps, told, distance, most=100_000):
    """Count the steps from `distance` before the slow point to `distance` behind it."""
    x, u = jnp.asarray(fps.xstar[0], float), jnp.asarray(fps.inputs[0], float)
    v, l = told.v[0], told.l[0]  # noqa: E741

    @jax.jit
    def count(start):
        unfinished = lambda s: (l @ (s[0] - x) < distance) & (s[1] < most)  # noqa: E731
        return jax.lax.while_loop(unfinished, lambda s: (F(s[0], u), s[1] + 1), (start, 0))[1]

    return int(count(x - distance * v))


# ---- one unit ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mu", "share", "accuracy"),
    [(1e-2, 0.88, 2e-2), (1e-3, 0.96, 7e-3), (1e-4, 0.987, 1e-3), (1e-6, 0.9988, 3e-4)],
)
def test_the_time_is_that_of_a_simulation_the_more_the_closer_the_fold(mu, share, accuracy):
    """Near a fold nearly all of the time is spent within any fixed distance, such as 0.3."""
    fps = slow_point(unit, [-0.7], [FOLD + mu])
    told = passage_time(unit, fps, ONE)
    n = simulated(unit, fps, told, 0.3)
    assert told.why[0] == "" and told.eigenvalue[0] == pytest.approx(1, abs=1e-7)
    assert share < n / told.time[0] < 1
    assert n == pytest.approx(told.through(0.3)[0], rel=accuracy, abs=1)
    assert told.fold_distance[0] == pytest.approx(-mu, rel=mu)


@pytest.mark.fast
def test_half_of_the_time_is_spent_within_the_width():
    told = passage_time(unit, slow_point(unit, [-0.7], [FOLD + 1e-4]))
    assert told.through(told.width[0])[0] == pytest.approx(told.time[0] / 2)
    assert told.through(np.inf)[0] == pytest.approx(told.time[0])
    assert np.isnan(told.fold_distance[0])  # no direction was given


@pytest.mark.fast
def test_a_state_beside_the_slow_point_tells_the_same():
    fps = slow_point(unit, [-0.7], [FOLD + 1e-4])
    there = passage_time(unit, fps, ONE)
    beside = passage_time(unit, point(fps.xstar[0] + 1e-3, fps.inputs[0]), ONE)
    assert beside.time[0] == pytest.approx(there.time[0], rel=1e-2)
    assert beside.fold_distance[0] == pytest.approx(there.fold_distance[0], rel=2e-2)
    assert beside.offset[0] * beside.v[0, 0] == pytest.approx(-1e-3, rel=1e-2)


@pytest.mark.fast
def test_before_the_fold_the_way_is_blocked():
    told = passage_time(unit, point([-np.sqrt(0.5)], [FOLD - 1e-4]), ONE)
    assert np.isinf(told.time[0]) and np.isinf(told.through(0.1)[0]) and told.why[0] == ""
    assert told.fold_distance[0] == pytest.approx(1e-4, rel=1e-3)
    assert told.speed[0] < 0 < told.curvature[0]


@pytest.mark.fast
@pytest.mark.parametrize("mu", [1e-3, 1e-5])
def test_fixed_points_have_no_time_but_tell_the_distance_of_their_fold(mu):
    starts = jnp.array([[-0.8], [-0.6]])
    fps = slowpoints.optimize_batch(unit, starts, jnp.array([FOLD - mu]))
    assert (fps.status == Status.FIXED_POINT).all()
    told = passage_time(unit, fps, 2 * ONE)
    assert np.isnan(told.time).all() and set(told.why) == {"is a fixed point"}
    np.testing.assert_allclose(told.fold_distance, mu / 2, rtol=3 * np.sqrt(mu))
    assert told.n_unstable.tolist() == [0, 0] and (told.speed < 0).all()


# ---- two units, and many -----------------------------------------------------------------------

A = np.array([[1.6, -0.6], [0.5, 0.4]])


def pair(x, u):
    return jnp.tanh(jnp.asarray(A) @ x + jnp.stack([u[0], 0.2 + 0 * u[0]]))


@pytest.mark.slow
def test_two_units_pass_as_simulated_and_fold_where_expected():
    fps = slow_point(pair, [0.5, 0.5], [0.107])
    told = passage_time(pair, fps, ONE)
    assert simulated(pair, fps, told, 0.1) == pytest.approx(told.through(0.1)[0], rel=0.01)

    def at_fold(z):  # a fixed point with the eigenvalue 1
        x, u = z[:2], z[2:]
        det = jnp.linalg.det(jax.jacobian(pair)(x, u) - jnp.eye(2))
        return jnp.append(pair(x, u) - x, det)

    z = jnp.append(fps.xstar[0], 0.107)
    for _ in range(20):
        z = z - jnp.linalg.solve(jax.jacobian(at_fold)(z), at_fold(z))
    assert jnp.abs(at_fold(z)).max() < 1e-12 and z[2] == pytest.approx(0.1077, abs=1e-4)
    assert told.fold_distance[0] == pytest.approx(float(z[2]) - 0.107, rel=0.02)
    assert told.l[0] @ told.v[0] == pytest.approx(1)


@pytest.mark.slow
def test_the_ghost_of_a_trained_gru_is_passed_in_the_time_expected():
    """103 of 128 starts lead to it. At 1 from it, the speed is no parabola any more."""
    name = "context_gru_128_s12"
    F, u = in_float64(field_network(name)), field_case(name)["inputs"][1]
    starts = jnp.asarray(field_starts(name)[:8])
    with jax.enable_x64(False):
        fps = slowpoints.optimize_batch(field_network(name), starts, u)
    fps = fps[np.flatnonzero(np.asarray(fps.status) == Status.SLOW_POINT)][:1]
    assert fps.n == 1 and fps.qstar[0] == pytest.approx(6.45e-8, rel=0.01)
    told = passage_time(field_network(name), fps)
    assert told.time[0] == pytest.approx(3955, rel=1e-3)
    assert told.eigenvalue[0] == pytest.approx(1, abs=1e-6) and told.n_unstable[0] == 0
    for distance, accuracy in ((0.1, 1), (0.5, 2), (1.0, 10)):
        n = simulated(F, fps, told, distance)
        assert n == pytest.approx(told.through(distance)[0], abs=accuracy)


# ---- continuous time ---------------------------------------------------------------------------


@pytest.mark.fast
def test_in_continuous_time_the_time_is_exact_for_a_parabola():
    """`x' = mu + x^2` takes `pi / sqrt(mu)` from minus to plus infinity."""
    F = ContinuousTime(lambda x, u: u + x**2)
    told = passage_time(F, slow_point(F, [0.1], [1e-4]), ONE)
    assert told.time[0] == pytest.approx(np.pi / 1e-2, rel=1e-12)
    assert told.through(3.0)[0] == pytest.approx(2e2 * np.arctan(3e2), rel=1e-12)
    assert told.fold_distance[0] == pytest.approx(-1e-4) and abs(told.eigenvalue[0]) < 1e-8
    assert (told.speed[0], told.curvature[0]) == pytest.approx((1e-4, 1))


@pytest.mark.fast
def test_directions_beside_the_slow_one_do_not_change_the_time():
    """A decaying one, or an unstable one, which is counted."""
    for rate, n_unstable in ((-1.0, 0), (1.0, 1)):
        F = ContinuousTime(
            lambda x, u, rate=rate: jnp.stack([1e-4 + x[0] ** 2 + x[1], rate * x[1]])
        )
        told = passage_time(F, point([0, 0], []))
        assert told.time[0] == pytest.approx(np.pi / 1e-2) and told.n_unstable[0] == n_unstable
        np.testing.assert_allclose(told.v[0], [1, 0], atol=1e-12)
        np.testing.assert_allclose(told.l[0], [1, 1 / -rate], atol=1e-12)


# ---- where it does not apply -------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(
    ("F", "x", "fields", "why"),
    [
        (lambda x, u: x + 1e-3, [0.0], {}, "no curvature"),
        (lambda x, u: jnp.stack([x[0] - 0.1 * x[1], x[1] + 0.1 * x[0]]), [1, 1], {}, "complex"),
        (lambda x, u: jnp.stack([x[0] + x[1], x[1] + 1e-6 + x[0] ** 2]), [0, 0], {}, "defective"),
        (lambda x, u: jnp.sqrt(x), [-1.0], {}, "not finite"),
        (unit, [0.5], {"valid": np.zeros(1, bool)}, "not valid"),
    ],
)
def test_the_reason_is_told_where_there_is_no_time(F, x, fields, why):
    told = passage_time(F, point(x, [0.0], **fields))
    assert why in told.why[0] and told.n_unstable[0] == -1
    for name in ("time", "speed", "curvature", "width", "offset", "eigenvalue", "v", "l"):
        assert np.isnan(getattr(told, name)).all()
    assert np.isnan(told.through(1.0)).all()


@pytest.mark.fast
def test_a_curvature_of_rounding_is_none():
    """The slow direction is affine, and only the other one is curved, in coordinates that round."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]

    def F(x, u):
        z = Q.T @ x
        return Q @ jnp.stack([z[0] + 1e-3, z[1] / 2 + z[0] ** 2])

    told = passage_time(F, point([0.0, 0.0]))
    assert "no curvature" in told.why[0] and np.isnan(told.time[0])


class Passing(slowpoints.Transition):
    """A parabola along one direction, and linear dynamics along the others, in mixed states."""

    V: jax.Array  # [n, n] the directions, in columns
    rates: jax.Array  # [n, n] of the others

    def __call__(self, x, u):
        y = jnp.linalg.solve(self.V, x)
        moved = (self.rates @ y).at[0].set(1e-4 + y[0] ** 2)
        return x + self.V @ moved


def test_no_numbers_are_told_where_rounding_hides_the_slow_direction():
    """Directions that feed one another leave several singular values that are rounding."""
    rng = np.random.default_rng(0)
    rates = np.diag(np.r_[0, rng.uniform(-1.8, -0.2, 15)]) + np.triu(10 * np.ones((16, 16)), 1)
    rates[0] = 0
    F = Passing(jnp.asarray(rng.normal(size=(16, 16))), jnp.asarray(rates))
    told = passage_time(F, point(np.zeros(16)))
    assert "as far as can be told" in told.why[0] and np.isnan(told.time[0])
    assert told.n_unstable[0] == -1


def test_instability_that_may_be_rounding_is_not_counted():
    """Four turning directions that feed one another shrink by 0.05 %, and rounding splits them."""
    turn = np.array([[0.0, -0.9995], [0.9995, 0.0]])
    J = np.kron(np.eye(4), turn) + np.kron(np.diag(np.ones(3), 1), 10 * np.eye(2))
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    rates = np.zeros((9, 9))
    rates[1:, 1:] = Q @ (J - np.eye(8)) @ Q.T
    told = passage_time(Passing(jnp.eye(9), jnp.asarray(rates)), point(np.zeros(9)))
    assert told.why[0] == "" and told.n_unstable[0] == -1


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("which", [slice(None), slice(1)])
def test_the_time_is_the_same_in_all_units(scale, which):
    """With one unit in another scale, the two eigenvectors of a direction are nearly orthogonal."""
    D, V = np.ones(3), np.random.default_rng(138).normal(size=(3, 3))
    D[which] = scale
    F = Passing(jnp.asarray(D[:, None] * V), jnp.diag(jnp.array([0.0, -0.5, -0.7])))
    told = passage_time(F, point(D * (V @ np.array([1e-3, 0.0, 0.0]))))
    assert told.why[0] == "" and told.n_unstable[0] == 0
    assert told.time[0] == pytest.approx(np.pi / 1e-2, rel=1e-6)
    v = D * V[:, 0]
    assert told.width[0] == pytest.approx(1e-2 * np.linalg.norm(v), rel=1e-4)
    np.testing.assert_allclose(told.v[0], v / np.linalg.norm(v), rtol=1e-4)


@pytest.mark.fast
def test_rows_do_not_depend_on_each_other_and_may_be_none():
    x = np.array([[-0.7], [-0.6], [np.nan]])
    fps = FixedPoints(xstar=x, inputs=np.full((3, 1), FOLD + 1e-3), dtype=np.float64)
    together = passage_time(unit, fps)
    for row in range(3):
        np.testing.assert_array_equal(
            passage_time(unit, fps[row]).time, together.time[row : row + 1]
        )
    assert len(passage_time(unit, fps[:0])) == 0


@pytest.mark.fast
@pytest.mark.slow
def test_float32_points_are_expanded_in_float64():
    """The input in float32 is 1e-8 from the one that is meant."""
    with jax.enable_x64(False):
        fps = slowpoints.optimize_batch(unit, jnp.array([[-0.7]]), jnp.array([FOLD + 1e-5]))
        told = passage_time(unit, fps, ONE)
    u = float(fps.inputs[0, 0])
    assert told.fold_distance[0] == pytest.approx(FOLD - u, rel=1e-4)


@pytest.mark.fast
@pytest.mark.checks_input
def test_wrong_arguments_are_named():
    fps = point([0.5], [0.0])
    for change, error, words in (
        ({"direction": [1.0, 2.0]}, ValueError, "`direction`"),
        ({"direction": [np.nan]}, ValueError, "`direction`"),
        ({"fps": FixedPoints(xstar=np.ones((1, 1)))}, ValueError, "inputs"),
        ({"F": 3}, TypeError, "model"),
    ):
        with pytest.raises(error, match=words):
            passage_time(**({"F": unit, "fps": fps} | change))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda x: passage_time(unit, fps.replace(xstar=x)).time)(fps.xstar)
    with pytest.raises(ValueError, match="`distance`"):
        passage_time(unit, fps).through(-1.0)


@pytest.mark.checks_input
def test_states_of_no_length_are_refused():
    with pytest.raises(ValueError, match=r"`fps.xstar` has shape \(1, 0\); expected at least one"):
        passage_time(unit, point(np.zeros(0), [0.0]))


# ---- kinks -------------------------------------------------------------------------------------


def bent(x, u):
    """A state that slows down at the rate .05 before the kink at `1 - u`, and is fast behind it."""
    away = x + u[:1] - 1.0
    return x + u[1] + 0.08 * jax.nn.relu(away) + 0.05 * jax.nn.relu(-away)


@pytest.mark.parametrize("speed", [1e-2, 1e-4])
@pytest.mark.parametrize("distance", [0.1, 0.5])
def test_the_time_through_a_kink_is_that_of_a_simulation(speed, distance):
    u = [0.2, speed]
    told = passage_time(bent, point([0.8], u), np.array([0.0, 1.0]))
    assert told.why[0] == ""
    x, n = 0.8 - distance, 0
    while x < 0.8 + distance:
        x, n = float(bent(jnp.array([x]), jnp.array(u))[0]), n + 1
    assert n == pytest.approx(told.through(distance)[0], rel=2e-2, abs=2)
    np.testing.assert_allclose(told.kink_rates[0], np.log([0.95, 1.08]), rtol=1e-9)
    np.testing.assert_allclose(told.kink_lengths[0], [speed / 0.05, speed / 0.08], rtol=1e-6)
    assert told.speed[0] == pytest.approx(speed) and np.isnan(told.curvature[0])
    assert told.fold_distance[0] == pytest.approx(-speed)
    assert told.time[0] == pytest.approx(-np.log(10) / np.log(0.95) + np.log(10) / np.log(1.08))
    assert told.v[0].tolist() == [1.0] and told.eigenvalue[0] == pytest.approx(1.08)
    # The kink is where the input says: along the first input, nothing else moves.
    along_the_kink = passage_time(bent, point([0.8], u), np.array([1.0, 0.0])).fold_distance[0]
    assert abs(along_the_kink) > 1e6


@pytest.mark.fast
def test_through_ten_times_the_speed_is_the_time():
    told = passage_time(bent, point([0.8], [0.2, 1e-3]))
    one_sided = np.log1p(9) / np.abs(told.kink_rates[0])
    assert told.time[0] == pytest.approx(one_sided.sum())
    assert told.through(0.0)[0] == 0 and np.isinf(told.through(np.inf)[0])


def rotated_kink(n, seed, speed, continuous=False):
    """Return a network of `n` units that is `bent` along one direction, and contracts along others.

    All directions are oblique, and the slow directions before and behind the kink differ.
    """
    rng = np.random.default_rng(seed)
    T = rng.standard_normal((n, n)) + 2 * np.eye(n)
    decay = np.diag([0.0, *rng.uniform(0.3, 0.7, n - 1)])
    turned = np.zeros(n)
    turned[1:] = 0.02 * rng.standard_normal(n - 1)
    bias = 0.3 * rng.standard_normal(n)
    T, bias, decay, turned = map(jnp.asarray, (T, bias, decay, turned))
    inverse = jnp.linalg.inv(T)
    first = jnp.eye(n)[0]

    def change(x, u):
        y = inverse @ (x - bias)
        along = first * (speed + 0.06 * jax.nn.relu(y[0]) + 0.04 * jax.nn.relu(-y[0]))
        return T @ (along + turned * jax.nn.relu(y[0]) - decay @ y)

    return ContinuousTime(change) if continuous else lambda x, u: x + change(x, u)


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_slow_directions_may_be_any_and_differ(n, continuous):
    speed = 1e-3
    F = rotated_kink(n, n, speed, continuous)
    dt = 0.1 if continuous else 1.0
    u = jnp.zeros(0)
    step = (lambda x: x + dt * F.f(x, u)) if continuous else (lambda x: F(x, u))
    starts = np.random.default_rng(1).standard_normal((64, n))
    fps, _ = slowpoints.find_fixed_points(F, starts, NO_INPUT, final_q_threshold=None)
    assert fps.n == 1 and fps.status[0] == Status.SLOW_POINT
    told = passage_time(F, fps)
    assert told.why[0] == "" and told.n_unstable[0] == 0
    x_star, v = fps.xstar[0], told.v[0]
    # From far before, along with all that decays, to far behind.
    x = jnp.asarray(x_star - 5.0 * v)
    path = [np.asarray(x)]
    for _ in range(int(1000 / dt)):
        x = jax.jit(step)(x)
        path.append(np.asarray(x))
        if np.linalg.norm(path[-1] - x_star) > 5:
            break
    away = np.linalg.norm(np.array(path) - x_star, axis=1)
    for distance in (0.3, 1.0):
        n_steps = np.sum(away < distance) * dt
        assert n_steps == pytest.approx(told.through(distance)[0], rel=0.05)


@pytest.mark.fast
def test_other_units_at_kinks_have_a_reason():
    at_two = lambda x, u: x + 1e-3 + 0.1 * jnp.abs(x @ jnp.array([[1.0, 0.4], [0.2, 1.0]]))  # noqa: E731
    told = passage_time(at_two, point([0.0, 0.0]))
    assert np.isnan(told.time[0]) and "at kinks" in told.why[0]
    stays = lambda x, u: 0.9 * x - 0.1 * jnp.abs(x) + 1e-3  # noqa: E731
    told = passage_time(stays, point([0.0]))
    assert np.isnan(told.time[0]) and "at kinks" in told.why[0]
    assert np.isnan(told.kink_rates).all() and np.isnan(told.speed[0])


@pytest.mark.fast
def test_a_ghost_of_units_with_kinks_elsewhere_is_one_of_a_fold():
    fps = slow_point(unit, [-0.7], [FOLD + 1e-4])
    kinked = lambda x, u: unit(x, u) + jax.nn.relu(x - 5.0)  # noqa: E731
    told, expected = (passage_time(F, fps, ONE) for F in (kinked, unit))
    assert told.time[0] == pytest.approx(expected.time[0], rel=1e-12)
    assert np.isnan(told.kink_rates).all()
