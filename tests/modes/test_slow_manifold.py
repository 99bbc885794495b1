"""`slow_manifold`: lines, rings and surfaces of slow points, of which the shape is known."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import Affine, field_case, field_network, field_starts

from slowpoints import ContinuousTime, Status, Transition, q_fn, slow_manifold


class Ring(Transition):
    """A ring of radius 1 in the first two of three dimensions, along which the state creeps."""

    creep: jax.Array  # radians in a step

    def __call__(self, x, u):
        radius = jnp.linalg.norm(x[:2])
        cos, sin = jnp.cos(self.creep), jnp.sin(self.creep)
        turned = jnp.stack([cos * x[0] - sin * x[1], sin * x[0] + cos * x[1]])
        return jnp.append(turned * (1 + (1 - radius) / 2), x[2] / 2)


class Creeping(Transition):
    """A line along the diagonal, along which the state moves by `rate` from the middle outwards."""

    rate: jax.Array

    def __call__(self, x, u):
        along = jnp.full(4, 0.5)
        s = along @ x
        return along * (s + self.rate * jnp.sin(s)) + 0.4 * (x - along * s)


def ring_starts(n=200, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros(n)], axis=1)
    return np.float32(around + 0.1 * rng.normal(size=(n, 3)))


NONE = np.zeros(0, np.float32)


def apart(x):
    distance = np.linalg.norm(x[:, None] - x, axis=-1)
    return distance + np.where(np.eye(len(x)), np.inf, 0)


@pytest.mark.slow
def test_points_are_spread_around_a_ring_with_their_direction_and_drift():
    creep = 1e-3
    found = slow_manifold(Ring(jnp.float32(creep)), ring_starts(), NONE, q_max=1e-5, dt=10.0)
    x = found.points.xstar.astype(float)
    assert found.is_kept.all() and found.rows.n == 200
    assert np.all(q_fn(Ring(jnp.float32(creep)), found.points.xstar, NONE) < 1e-5)
    assert found.spacing == pytest.approx(2 / 40, rel=0.1)
    assert 40 < found.points.n <= 126
    assert np.sort(apart(x), axis=1)[:, 0].min() > found.spacing
    assert np.linalg.norm(x[:, :2], axis=1) == pytest.approx(1, abs=0.02)
    # All around, in one direction.
    angle = np.sort(np.arctan2(x[:, 1], x[:, 0]))
    assert np.diff(angle).max() < 0.3
    tangent = np.stack([-x[:, 1], x[:, 0], 0 * x[:, 0]], axis=1)
    cosine = np.einsum("nd,nd->n", found.direction, tangent)
    assert np.all(np.abs(cosine) > 0.99)
    turning = np.sign(cosine)
    assert abs(turning.sum()) == len(turning)
    np.testing.assert_allclose(found.drift * turning, creep / 10, rtol=0.1)
    # The radius decays by half in each step, so the slowest mode is the way around.
    assert np.all(np.abs(found.time_constant) > 10 * 100)


@pytest.mark.slow
def test_no_point_of_a_creeping_line_is_called_fixed_unless_it_is():
    F = Creeping(jnp.float32(1e-3))
    starts = np.linspace(-3, 3, 101, dtype=np.float32)[:, None] * np.full(4, 0.5, np.float32)
    found = slow_manifold(F, starts + np.float32(0.01), NONE)
    status = found.points.status
    assert np.all(status == Status.WITHIN_TOLERANCE)
    assert found.points.n > 30
    s = found.points.xstar.sum(axis=1) / 2
    assert s.min() < -2.9 and s.max() > 2.9  # nothing has run into the fixed points at 0 and pi
    side = np.sign(found.direction[0, 0])
    np.testing.assert_allclose(found.direction, side * np.full((len(s), 4), 0.5), atol=1e-3)
    np.testing.assert_allclose(side * found.drift, 1e-3 * np.sin(s), atol=2e-6)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(1 / found.time_constant, -1e-3 * np.cos(s), atol=2e-6)
    assert "more than" in str(found) and "0 did not get below" in str(found)
    (n_grow,) = re.findall(rf"\((\d+) of {len(s)} grow\)", str(found))
    least, most = (np.sum(np.cos(s) > rounding) for rounding in (0.02, -0.02))
    assert least <= int(n_grow) <= most


@pytest.mark.slow
def test_rows_keep_what_they_are_in_any_order():
    F, starts = (
        Creeping(jnp.float32(1e-3)),
        np.float32(np.random.default_rng(1).normal(size=(90, 4))),
    )
    one = slow_manifold(F, starts, NONE, spacing=0.2)
    other = slow_manifold(F, starts[::-1], NONE, spacing=0.2)
    a, b = (found.points.xstar[np.lexsort(found.points.xstar.T)] for found in (one, other))
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert one.points.hits.sum() == 90
    everything = slow_manifold(F, starts, NONE, spacing=0.0)
    assert everything.points.n == 90


@pytest.mark.slow
def test_rows_that_stay_fast_are_in_the_result_and_named():
    F = Affine(jnp.eye(2), jnp.ones((2, 1)))
    with pytest.warns(
        UserWarning, match=r"of 5 starts none comes to q < `q_max` = 1e-05; the lowest is 1"
    ):
        found = slow_manifold(F, np.ones((5, 2), np.float32), np.ones(1))
    assert found.points.n == 0 and found.rows.n == 5 and not found.is_kept.any()
    assert found.direction.shape == (0, 2) and "0 points" in str(found)


@pytest.mark.slow
def test_a_low_q_max_is_told_which_one_keeps_the_line():
    """A trained integrator had three points, and nothing said why."""

    def F(x, u):  # a line along the diagonal, with a point at its middle and at each of its ends
        s = x.sum() / 2
        return 0.5 * (s + 0.01 * (jnp.tanh(2 * s) - s)) + 0.4 * (x - 0.5 * s)

    starts = np.linspace(-1.2, 1.2, 101)[:, None] * np.full(4, 0.5)  # states that it visits
    told = r"101 starts led to 3 points only\..* faster than `q_max` = 1e-09: their median q is "
    with pytest.warns(UserWarning, match=told) as caught:
        few = slow_manifold(F, np.float32(starts), NONE, q_max=1e-9)
    assert few.points.n == 3
    proposed = float(re.search(r"try `q_max=(\S+)`", str(caught[0].message))[1])
    more = slow_manifold(F, np.float32(starts), NONE, q_max=proposed)
    assert more.points.n > 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a network that is at its points
        slow_manifold(F, np.zeros((101, 4), np.float32), NONE, q_max=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("F", [lambda x, u: 0.9 * x, lambda x, u: jnp.tanh(0.5 * x[::-1])])
def test_rows_that_ran_to_one_fixed_point_are_one_point(F):
    starts = np.float32(np.random.default_rng(0).normal(size=(60, 3)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*starts led to 1 point only")
        found = slow_manifold(F, starts, np.zeros(0, np.float32), q_max=1e-9)
    assert found.points.n == 1 and np.sum(found.points.hits) == 60
    np.testing.assert_allclose(found.points.xstar, 0, atol=3e-4)
    median = np.median(np.linalg.norm(starts - starts.mean(axis=0), axis=1))
    assert found.spacing == pytest.approx(2e-3 * median, rel=1e-5)


def test_a_plane_of_points_has_time_constants_beyond_measure():
    F = Affine(jnp.diag(jnp.array([1.0, 1.0, 0.5])), jnp.zeros((3, 0)))
    rng = np.random.default_rng(2)
    found = slow_manifold(F, np.float32(rng.uniform(-1, 1, (300, 3))), NONE, spacing=0.3)
    assert 20 < found.points.n < 120
    assert np.all(np.abs(found.time_constant) > 1e6)
    np.testing.assert_allclose(found.direction[:, 2], 0, atol=1e-6)


def test_the_longer_axis_stands_for_the_plane_of_a_pair():
    turn = jnp.array([[0.0, 2.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.1]])
    found = slow_manifold(Affine(turn, jnp.zeros((3, 0))), np.zeros((1, 3), np.float32), NONE)
    np.testing.assert_allclose(np.abs(found.direction), [[1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(np.abs(found.frequency), 0.25)


@pytest.mark.slow
def test_a_flow_moves_by_its_own_f():
    F = ContinuousTime(Affine(jnp.diag(jnp.array([0.0, -1.0])), jnp.array([[1.0], [0.0]])))
    starts = np.float32(np.random.default_rng(3).normal(size=(40, 2)))
    found = slow_manifold(F, starts, np.array([1e-3]), dt=2.0)
    np.testing.assert_allclose(np.abs(found.direction), np.tile([1, 0], (found.points.n, 1)))
    np.testing.assert_allclose(found.drift * found.direction[:, 0], 5e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_trained_network_has_a_slow_line_all_along_its_trajectories():
    name = "context_leaky_128_s11"
    case = field_case(name)
    found = slow_manifold(field_network(name), field_starts(name), case["inputs"][0])
    assert found.is_kept.all() and 20 < found.points.n < 60
    out = (found.points.xstar @ case["Wo"])[:, 0]
    assert out.min() < -0.5 and out.max() > 0.5
    assert np.median(np.abs(found.time_constant)) > 100
    assert np.abs(found.drift).max() < 2 * np.sqrt(2e-5)  # see the drift of a line attractor


class Drifting(Transition):
    """A line along the first state, along which it moves by `rate`, outwards from the middle."""

    rate: jax.Array
    unit: jax.Array

    def __call__(self, x, u):
        y = x / self.unit
        return self.unit * jnp.stack([y[0] + self.rate * jnp.sin(y[0]), y[1] / 2])


def drifting(rate, unit=1.0):
    x = np.random.default_rng(0).uniform(-1, 1, (64, 2)) * [3, 1]
    F = Drifting(jnp.float32(rate), jnp.float32(unit))
    return slow_manifold(F, np.float32(unit * x), NONE, q_max=1e-5 * unit**2)


@pytest.mark.slow_cases
@pytest.mark.parametrize("rate", [-1e-4, 1e-4, 1e-3])
def test_rows_stay_spread_along_a_line_on_which_the_state_drifts(rate):
    still, found = drifting(0.0), drifting(rate)
    assert still.points.n == found.points.n > 20
    # No row has moved along the line, to the fixed points at 0 and pi or past them.
    np.testing.assert_allclose(found.rows.xstar[:, 0], found.rows.x_init[:, 0], atol=1e-2)
    s = found.points.xstar[:, 0]
    drift = found.drift * np.sign(found.direction[:, 0])
    np.testing.assert_allclose(drift, rate * np.sin(s), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [2.0**-20, 1e-3, 1e3, 2.0**20])
def test_a_slow_line_is_the_same_in_all_units(unit):
    usual, found = drifting(1e-4), drifting(1e-4, unit)
    tolerance = 0 if np.log2(unit).is_integer() else 1e-5
    same = {"rtol": tolerance, "atol": tolerance}
    assert found.spacing / unit == pytest.approx(usual.spacing, rel=1e-6)
    np.testing.assert_allclose(found.rows.xstar / unit, usual.rows.xstar, **same)
    np.testing.assert_allclose(found.points.xstar / unit, usual.points.xstar, **same)
    np.testing.assert_allclose(found.direction, usual.direction, **same)
    np.testing.assert_allclose(1 / found.time_constant, 1 / usual.time_constant, atol=2e-7)


class InOtherUnits(Transition):
    """The ring, turned so that all of its states take part, in units of their own."""

    unit: jax.Array

    def __call__(self, x, u):
        return self.unit * (TURN.T @ Ring(jnp.float32(1e-3))(TURN @ (x / self.unit), u))


TURN = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0].astype(np.float32)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("unit", [[2.0**20, 1, 1], [1, 2.0**20, 2.0**20], [1e6, 1, 1e-6]])
@pytest.mark.parametrize("is_flow", [False, True])
def test_a_slow_ring_is_the_same_if_some_states_are_much_larger(unit, is_flow):
    def found(unit):
        F = InOtherUnits(unit)
        flow = ContinuousTime(lambda x, u: F(x, u) - x)
        x0, q_max = unit * (ring_starts() @ TURN), 1e-5 * unit.max() ** 2
        return slow_manifold(flow if is_flow else F, x0, NONE, q_max)

    unit = np.float32(unit)
    usual, found = found(np.ones(3, np.float32)), found(unit)
    # Powers of two next to the sizes need not be the units: sizes are told apart to a factor of 2.
    np.testing.assert_allclose(found.rows.xstar / unit, usual.rows.xstar, atol=0.02)
    assert found.is_kept.all() and 40 < found.points.n < 140
    np.testing.assert_allclose(
        np.linalg.norm(found.points.xstar / unit @ TURN.T, axis=1), 1, atol=0.02
    )
    np.testing.assert_allclose(np.linalg.norm(found.direction, axis=1), 1)
    F_x = found.points.F_xstar.astype(float)
    np.testing.assert_allclose(
        found.points.qstar, np.sum((F_x - found.points.xstar) ** 2, axis=1) / 2, rtol=1e-5
    )
    assert found.points.continuous_time == is_flow


@pytest.mark.checks_input
def test_a_model_that_returns_one_number_is_named_whatever_the_states():
    for x0 in (np.ones((3, 2)), np.array([[1.0, 1e6]])):
        with pytest.raises(ValueError, match="of shape"):
            slow_manifold(lambda x, u: x[0], np.float32(x0), NONE)


@pytest.mark.slow
def test_rows_that_cannot_go_straight_take_other_steps():
    """Rosenbrock's curved valley, along which straight steps get nowhere."""

    def F(x, u):
        return x + jnp.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])

    starts = np.float32([[-1.2, 1.0], [-1.0, 2.0], [1.0, 1.0]])
    found = slow_manifold(F, starts, NONE)
    np.testing.assert_allclose(found.rows.xstar, 1, atol=5e-3)
    assert found.is_kept.all() and found.rows.n_iters.tolist()[2] == 1
    np.testing.assert_array_equal(found.rows.x_init, starts)


def test_rows_that_are_nan_from_the_start_are_named():
    with pytest.warns(UserWarning, match="of 2 starts none comes to q < .* it is finite at none"):
        found = slow_manifold(lambda x, u: x / 2, np.full((2, 1), np.nan, np.float32), NONE)
    assert found.points.n == 0


@pytest.mark.checks_input
def test_states_of_no_length_are_refused():
    with pytest.raises(ValueError, match=r"`x0` has shape \(3, 0\); expected at least one state"):
        slow_manifold(lambda x, u: x, np.zeros((3, 0), np.float32), NONE)
