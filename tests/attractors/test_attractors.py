"""`attractors` on maps whose attractors and basins are known."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import field_case, field_network, henon, logistic
from scipy.stats import binomtest

from slowpoints import (
    AttractorKind,
    Transition,
    attractors,
    find_fixed_points,
    flow,
    stroboscopic,
)
from slowpoints._attractors.attractors import _interval
from slowpoints._attractors.examined import LEFT
from slowpoints._attractors.known import points_near

NO_INPUT = np.zeros(0, np.float32)
PUBLISHED = Path(__file__).parents[3] / "shared" / "cases" / "published"


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def kinds(found):
    return [AttractorKind(kind).name for kind in found.kind]


def is_whole(found, n):
    """Check what holds for every result."""
    assert len(found.attractor) == n == found.n_starts.sum()
    assert np.array_equal(np.bincount(found.attractor, minlength=len(found)), found.n_starts)
    low, high = found.share_interval.T
    assert (low <= found.share).all() and (found.share <= high).all()
    for u in np.unique(found.inputs, axis=0):
        assert np.isclose(found.share[(found.inputs == u).all(axis=1)].sum(), 1)


class TwoWells(Transition):
    """Maps the line to itself, with attractors at -1 and 1 and the basins' boundary at `c`."""

    c: jax.Array

    def __call__(self, x, u):
        return jnp.where(x < self.c, -1 + 0.5 * (x + 1), 1 + 0.5 * (x - 1))


@pytest.mark.slow
def test_four_wells_are_the_stable_points_of_a_search():
    W = jnp.eye(2) * 1.5

    def F(x, u):
        return jnp.tanh(W @ x + u)

    x = normal(300, 2)
    found = attractors(F, x, np.zeros(2, np.float32), certify=True)
    is_whole(found, 300)
    assert kinds(found) == ["FIXED_POINT"] * 4 and found.is_certified.all()
    assert (found.period == 1).all() and np.isnan(found.rotation_number).all()
    fps, _ = find_fixed_points(F, x, np.zeros(2, np.float32))
    stable = fps[np.asarray(fps.is_stable)]
    apart = np.linalg.norm(found.x[:, None] - np.asarray(stable.xstar), axis=2)
    assert stable.n == 4 and apart.min(axis=1).max() < 1e-5
    for row, point in enumerate(apart.argmin(axis=1)):
        own = np.log(np.abs(stable.eigval_J_xstar[point]))
        assert np.allclose(found.exponents[row], own, atol=1e-5)
    assert np.array_equal(np.sign(x), np.sign(found.x[found.attractor]))
    assert "fixed point" in str(found)


@pytest.mark.slow_cases
@pytest.mark.parametrize("r, k, exponent", [(3.2, 2, None), (3.5, 4, -0.8725), (3.83, 3, None)])
def test_cycles_of_the_logistic_map(r, k, exponent):
    x = np.random.default_rng(0).uniform(0.01, 0.99, (64, 1)).astype(np.float32)
    found = attractors(logistic(r), x, NO_INPUT)
    is_whole(found, 64)
    assert kinds(found) == ["CYCLE"] and found.period == k
    orbit = found.states[0, :k, 0]
    assert np.allclose(r * orbit * (1 - orbit), np.roll(orbit, -1), atol=1e-6)
    own = np.log(np.abs(r * (1 - 2 * orbit))).mean()
    assert np.isclose(found.exponents[0, 0], own, atol=1e-5)
    assert exponent is None or np.isclose(own, exponent, atol=1e-3)


@pytest.mark.slow
def test_a_cycle_too_long_for_newtons_method_is_found_by_its_return():
    # A rotation by 3/100 turns whose radius settles at 1, with 100 sectors that attract.
    def F(x, u):
        r, angle = jnp.hypot(x[0], x[1]), jnp.arctan2(x[1], x[0])
        angle = angle + 2 * jnp.pi * 0.03 - 0.005 * jnp.sin(100 * angle)
        r = 1 + 0.5 * (r - 1)
        return r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    found = attractors(F, normal(16, 2), NO_INPUT, max_steps=2000)
    is_whole(found, 16)
    assert kinds(found) == ["CYCLE"] and found.period == 100
    assert np.isclose(found.exponents[0, 0], np.log(0.5), atol=1e-4)


@pytest.mark.slow
def test_henon_is_chaotic():
    found = attractors(henon(), 0.1 * normal(64, 2), NO_INPUT)
    is_whole(found, 64)
    assert kinds(found) == ["CHAOS"] and np.isnan(found.period).all()
    assert abs(found.exponents[0, 0] - 0.41922) <= found.exponent_errors[0, 0]
    assert np.allclose(found.exponents.sum(), np.log(0.3), atol=1e-6)


def delayed_logistic(a):
    return lambda x, u: jnp.stack([a * x[0] * (1 - x[1]), x[0]])


@pytest.mark.slow
def test_beyond_a_neimark_sacker_point_there_is_a_closed_orbit():
    found = attractors(delayed_logistic(2.1), 0.5 + 0.01 * normal(64, 2), NO_INPUT)
    is_whole(found, 64)
    assert kinds(found) == ["CLOSED_ORBIT"]
    x, angles = np.float64([0.5, 0.5]), []  # an independent rotation number, around the point
    for _t in range(200_000):
        x = np.array([2.1 * x[0] * (1 - x[1]), x[0]])
        angles.append(np.arctan2(x[1] - 1.1 / 2.1, x[0] - 1.1 / 2.1))
    turns = np.unwrap(angles[1000:])
    period = 2 * np.pi * (len(turns) - 1) / abs(turns[-1] - turns[0])
    assert np.isclose(found.period[0], period, atol=1e-3)
    assert np.isclose(found.rotation_number[0] * found.period[0], 1)
    assert abs(found.exponents[0, 0]) <= 1e-9 and found.exponents[0, 1] < -0.1


@pytest.mark.slow
def test_an_oscillator_has_its_period_and_every_state_comes_to_it():
    # Van der Pol's at mu = 1, by steps of Runge and Kutta whose error is 1e-4 of a period.
    def F(x, u, dt=0.1):
        def f(x):
            return jnp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0]])

        a = f(x)
        b = f(x + dt / 2 * a)
        c = f(x + dt / 2 * b)
        return x + dt / 6 * (a + 2 * b + 2 * c + f(x + dt * c))

    found = attractors(F, normal(64, 2), NO_INPUT)
    is_whole(found, 64)
    assert kinds(found) == ["CLOSED_ORBIT"]
    assert np.isclose(0.1 * found.period[0], 6.6632868594, atol=1e-3)
    assert found.period_error[0] < 1e-3
    along = np.linalg.norm(np.diff(found.states[0], axis=0), axis=1)
    assert along.max() < 0.2  # in the order of their phase


@pytest.mark.slow
def test_two_rotators_make_a_torus():
    def F(x, u):
        def rotator(z, turn):
            c, s = np.cos(turn), np.sin(turn)
            z = jnp.asarray([[c, -s], [s, c]], z.dtype) @ z
            return z * (1 + 0.2 * (1 - jnp.sum(z**2)))

        return jnp.concatenate([rotator(x[:2], 0.4), rotator(x[2:], 0.4 * np.sqrt(2))])

    found = attractors(F, normal(32, 4), NO_INPUT)
    is_whole(found, 32)
    assert kinds(found) == ["TORUS"]
    assert np.abs(found.exponents[0, :2]).max() < 1e-6 and found.exponents[0, 2] < -0.1


def test_shares_have_wilsons_intervals():
    for k, n_open, n in [(0, 0, 7), (3, 0, 7), (7, 0, 7), (2, 3, 9), (40, 1, 1000)]:
        low, high = (binomtest(count, n).proportion_ci(0.95, "wilson") for count in (k, k + n_open))
        assert np.allclose(_interval(k, n_open, n), (low.low, high.high), rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_states_leave_and_states_that_are_slow_are_not_called_settled():
    found = attractors(lambda x, u: 1.01 * x, normal(16, 2), NO_INPUT)
    is_whole(found, 16)
    assert kinds(found) == ["ESCAPE"] and np.isnan(found.exponents).all()

    # A ghost: it takes 10,000 steps to pass it.
    def ghost(x, u):
        return jnp.where(x < 1, x + 1e-7 + x**2, 2 + 0.5 * (x - 2))

    x = np.full((8, 1), -0.5)
    with jax.enable_x64(True):
        short = attractors(ghost, x, NO_INPUT, max_steps=1500)
        long = attractors(ghost, x, NO_INPUT, max_steps=30_000)
        mixed = attractors(ghost, np.append(x, [[1.5]] * 8, axis=0), NO_INPUT, max_steps=1500)
    assert kinds(short) == ["UNDECIDED"] and short.reasons[0]
    assert np.allclose(short.share_interval, [[0.675592, 1]], atol=1e-5)
    # What is not known may belong to the basin of the others, or not.
    assert kinds(mixed) == ["FIXED_POINT", "UNDECIDED"] and mixed.share[0] == 0.5
    assert np.allclose(mixed.share_interval[0], [0.279983, 1], atol=1e-4)
    assert kinds(long) == ["FIXED_POINT"] and np.isclose(long.x[0, 0], 2)


@pytest.mark.slow
def test_a_line_of_fixed_points_has_zero_exponents():
    def F(x, u):
        return jnp.stack([x[0], 0.5 * x[1]])

    found = attractors(F, normal(8, 2), NO_INPUT)
    is_whole(found, 8)
    assert kinds(found) == ["FIXED_POINT"] * 8
    assert np.allclose(found.exponents, [0, np.log(0.5)], atol=1e-6)
    assert "line" in str(found)


def test_rows_start_exactly_on_a_saddle():
    def F(x, u):
        return jnp.tanh(2 * x)

    found = attractors(F, np.array([[0.0], [0.1], [-0.1]], np.float32), NO_INPUT)
    is_whole(found, 3)
    assert kinds(found) == ["FIXED_POINT"] * 3
    unstable = found.attractor[0]
    assert np.isclose(found.exponents[unstable, 0], np.log(2), atol=1e-6)


def test_states_that_hardly_leave_a_saddle_as_yet_do_not_rest_there():
    def F(x, u):
        return jnp.array([jnp.tanh(1.1 * x[0]), 0.5 * x[1] + 0.5])

    with jax.enable_x64(True):
        x = np.array([[1e-60, 0.3], [-1e-60, 0.2], [0.0, 0.3]])
        found = attractors(F, x, NO_INPUT)
    is_whole(found, 3)
    end = found.x[found.attractor]
    assert end[0, 0] == -end[1, 0] > 0.5 and end[2, 0] == 0
    assert np.allclose(end[:, 1], 1)


A = np.array([[1.0, 0.8, 1.5], [1.5, 1.0, 0.8], [0.8, 1.5, 1.0]])
"""Three species of which each gives way to the next, ever more slowly (May and Leonard 1975)."""


@pytest.mark.parametrize(
    ("takes_time", "is_double"),
    [
        (False, False),
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, True, marks=pytest.mark.slow),
    ],
)
def test_states_that_leave_one_saddle_for_the_next_rest_at_none(takes_time, is_double):
    def F(x, u):
        return x * jnp.exp(0.5 * (1 - jnp.asarray(A) @ x))

    def f(x, u):
        return x * (1 - jnp.asarray(A) @ x)

    with jax.enable_x64(is_double):
        x = np.random.default_rng(0).uniform(0.1, 0.9, (6, 3))
        x = x.astype(np.float64 if is_double else np.float32)
        found = attractors(flow(f, 0.5) if takes_time else F, x, NO_INPUT)
    is_whole(found, 6)
    assert set(kinds(found)) == {"UNDECIDED"}
    assert any("became too small for its numbers" in reason for reason in found.reasons)


def test_a_state_that_comes_to_a_saddle_exactly_rests_there():
    def F(x, u):
        return 4 * x * (1 - x)

    found = attractors(F, np.array([[0.5]], np.float32), NO_INPUT)
    assert kinds(found) == ["FIXED_POINT"] and found.x[0] == 0
    assert np.isclose(found.exponents[0, 0], np.log(4))


def test_inputs_of_their_own_have_attractors_of_their_own():
    def F(x, u):
        return 0.5 * x + u

    inputs = np.repeat(np.array([[0.0], [1.0], [2.0]], np.float32), 5, axis=0)
    found = attractors(F, normal(15, 1), inputs)
    is_whole(found, 15)
    assert np.allclose(found.x, 2 * found.inputs, atol=1e-6) and np.allclose(found.share, 1)
    assert np.allclose(found.inputs[found.attractor], inputs)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_change_nothing(scale):
    unit = jnp.asarray([1.0, scale], jnp.float32)
    rotate = delayed_logistic(2.1)

    def F(x, u):
        return unit * rotate(x / unit, u)

    x = 0.5 + 0.01 * normal(16, 2)
    found, plain = attractors(F, x * np.asarray(unit), NO_INPUT), attractors(rotate, x, NO_INPUT)
    assert kinds(found) == kinds(plain)
    assert np.allclose(found.period, plain.period, rtol=1e-6)
    assert np.allclose(found.exponents, plain.exponents, atol=1e-6)


@pytest.mark.slow
def test_weights_that_change_between_two_calls_count():
    class Net:
        W = 1.5 * np.eye(1, dtype=np.float32)

        def __call__(self, x, u):
            return jnp.tanh(self.W @ x)

    net = Net()
    assert len(attractors(net, normal(16, 1), NO_INPUT)) == 2
    net.W = 0.5 * np.eye(1, dtype=np.float32)
    assert len(attractors(net, normal(16, 1), NO_INPUT)) == 1


@pytest.mark.slow
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        c = np.float32(rng.uniform(-0.9, 0.9))
        x = rng.uniform(-1, 1, (100, 1)).astype(np.float32)
        found = attractors(TwoWells(jnp.asarray(c)), x, NO_INPUT)
        left = [k for k in range(len(found)) if found.x[k, 0] < 0]
        low, high = found.share_interval[left[0]] if left else (0, 0.037)
        held += low <= (c + 1) / 2 <= high
    assert 0.93 <= held / 200 <= 0.97


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
def test_a_trained_network_settles_where_its_search_says():
    case = field_case("context_leaky_128_s11")
    F, u = field_network("context_leaky_128_s11"), case["inputs"][0]
    x = case["traj"].reshape(-1, 128)[::97]
    found = attractors(F, x, u)
    is_whole(found, len(x))
    fps, _ = find_fixed_points(F, x, u)
    stable = np.asarray(fps.xstar)[np.asarray(fps.is_stable)]
    for row in np.flatnonzero(found.kind == AttractorKind.FIXED_POINT):
        assert np.linalg.norm(stable - found.x[row], axis=1).min() < 1e-3
    assert (found.kind == AttractorKind.FIXED_POINT).any()


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="beside the project only")
@pytest.mark.parametrize(
    "inputs, period, exponents",
    [
        ((0, 0, 0.1, 0), 111.551, (0, -0.058, -0.087)),
        ((0, 0, 0, 0.1), 112.667, (0, -0.058, -0.087)),
        ((0, 0, 0, 0), 114.848, (0, -0.057, -0.101)),
    ],
)
def test_a_published_network_of_512_units_runs_on_a_closed_orbit(inputs, period, exponents):
    with np.load(PUBLISHED / "raposo_fr_fig1.npz") as archive:
        W, B, alpha, h0 = (archive[name] for name in ("W", "B", "alpha", "h0"))

    def F(x, u):
        return x + alpha * (-x + W @ jnp.tanh(x) + u @ B)

    found = attractors(F, h0 + normal(32, 512), np.array(inputs, np.float32))
    assert kinds(found) == ["CLOSED_ORBIT"] and found.share == 1
    assert abs(found.period[0] - period) < 0.005
    assert np.allclose(found.exponents[0, :3], exponents, atol=0.002)


def turning(x, u):
    """Turns by `u[0]` turns a step, at a radius that comes to 1."""
    r = jnp.sqrt(jnp.sum(x**2))
    c, s = jnp.cos(2 * jnp.pi * u[0]), jnp.sin(2 * jnp.pi * u[0])
    return (1 + 0.5 * (r - 1)) / r * jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]])


@pytest.mark.slow
@pytest.mark.parametrize("number", [0.002, 0.02, 0.0200003, 0.10001, 0.25003, 0.498])
def test_rotations_that_are_slow_or_nearly_repeat_are_one_orbit(number):
    found = attractors(turning, normal(10, 2), np.array([number], np.float32))
    is_whole(found, 10)
    assert kinds(found) == ["CLOSED_ORBIT"]
    assert abs(found.rotation_number[0] - np.float32(number)) < 1e-6


@pytest.mark.slow
def test_a_rotation_of_too_few_turns_is_not_decided():
    found = attractors(turning, normal(4, 2), np.array([0.4999], np.float32))
    assert kinds(found) == ["UNDECIDED"] and "too slow" in found.reasons[0]


@pytest.mark.slow
def test_leaving_an_unstable_point_slowly_is_not_chaos():
    c, s = 1.0001 * np.cos(0.1), 1.0001 * np.sin(0.1)
    spiral = attractors(
        lambda x, u: jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]]), normal(4, 2), NO_INPUT
    )
    assert kinds(spiral) == ["UNDECIDED"]
    wells = attractors(
        lambda x, u: x + 1e-4 * (x - x**3), np.float32([[0.01], [1e-3], [-0.1]]), NO_INPUT
    )
    assert "CHAOS" not in kinds(wells) and "FIXED_POINT" not in kinds(wells)


def test_wells_closer_than_float32_tells_are_not_one():
    def F(x, u):
        y = (x - 1) / 1e-6
        return 1 + (x - 1) - 0.2e-6 * (y**3 - y)

    x = (1 + normal(30, 1, seed=27) * 1.5e-6).astype(np.float32)
    found = attractors(F, x, NO_INPUT)
    stable = found.exponents[found.attractor, 0] < 0
    own = found.x[found.attractor, 0]
    ended = found.end[stable, 0]
    assert (np.sign(own[stable] - 1) == np.sign(ended - 1)).all() and stable.mean() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("r, k", [(3.569, 32), (3.5436, 4), (3.82843, 3)])
def test_cycles_near_a_bifurcation_have_their_least_period_and_are_one(r, k):
    x = np.random.default_rng(1).uniform(0.1, 0.9, (20, 1)).astype(np.float32)
    found = attractors(logistic(r), x, NO_INPUT)
    assert kinds(found) == ["CYCLE"] and found.period == k


@pytest.mark.slow_cases
@pytest.mark.parametrize("k", [4, 8, 12])
def test_a_cycle_of_a_multiple_has_its_least_period(k):
    start = np.full((1, 1), 0.5009), np.zeros((1, 0)), np.zeros(1, int)
    found = points_near(logistic(3.5), *start, 1, k)[0]
    assert found is not None and found.period == 4 and found.x.shape == (4, 1)
    assert np.isclose(found.exponents[0], -0.8725, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("r", [3.587099, 3.653996])
def test_chaos_in_bands_is_one_attractor(r):
    x = np.random.default_rng(1).uniform(0.1, 0.9, (20, 1)).astype(np.float32)
    assert kinds(attractors(logistic(r), x, NO_INPUT)) == ["CHAOS"]


@pytest.mark.slow
def test_transient_chaos_is_over_before_anything_is_said():
    rng = np.random.default_rng(430)
    W = jnp.asarray(rng.normal(size=(30, 30)) * 2.6 / 30**0.5, jnp.float32)
    x = rng.normal(size=(12, 30)).astype(np.float32)
    found = attractors(lambda x, u: jnp.tanh(W @ x), x, NO_INPUT)
    # How long it lasts is a matter of rounding: it may not be over yet.
    assert kinds(found)[0] == "CYCLE" and found.period[0] == 20 and found.share[0] > 0.3
    assert set(kinds(found)[1:]) <= {"UNDECIDED"}


def test_points_that_repel_are_named_in_the_summary():
    def F(x, u):
        return jnp.stack([jnp.tanh(1.1 * x[0]), 0.5 * x[1] + 0.5])

    x = np.array([[0.0, 0.3], [0.1, 0.3]], np.float32)
    found = attractors(F, x, NO_INPUT)
    assert kinds(found) == ["FIXED_POINT"] * 2
    assert "1 fixed point repels: states rest there in the precision" in str(found)
    assert "repel" not in str(attractors(F, x[1:], NO_INPUT))


@pytest.mark.slow_cases
@pytest.mark.parametrize("rests", [True, False])
def test_chaos_that_states_leave_after_the_last_step_is_none(rests):
    # Each step leaves the interval with a probability of 2e-4: hardly any state within `max_steps`,
    # and all of them within the further steps in which chaos is looked at.
    def F(x, u):
        outside = 2 + 0.5 * (x - 2) if rests else 2 * x
        return jnp.where(jnp.abs(x - 0.5) > 0.5, outside, 4 * (1 + 1e-7) * x * (1 - x))

    x = np.random.default_rng(0).uniform(0.1, 0.9, (4, 1)).astype(np.float32)
    found = attractors(F, x, NO_INPUT, max_steps=600)
    assert AttractorKind.CHAOS not in found.kind
    settled = AttractorKind.FIXED_POINT if rests else AttractorKind.ESCAPE
    assert set(found.kind.tolist()) <= {settled, AttractorKind.UNDECIDED}
    assert set(found.reasons) & {LEFT} or rests


@pytest.mark.slow
def test_curves_that_are_visited_in_turn_are_one_orbit():
    c, s = np.cos(2 * np.pi * 0.2137), np.sin(2 * np.pi * 0.2137)

    def F(x, u):
        r = jnp.sqrt(x[0] ** 2 + x[1] ** 2)
        turned = jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]]) / r
        return jnp.append(turned, -3 * jnp.sign(x[2]))

    x = np.concatenate([normal(10, 2), np.ones((10, 1), np.float32)], axis=1)
    found = attractors(F, x, NO_INPUT)
    assert kinds(found) == ["CLOSED_ORBIT"]
    assert np.isclose(found.period[0], 1 / 0.2137, atol=1e-6)
    assert {-3.0, 3.0} == set(np.round(found.states[0, :, 2], 6))


@pytest.mark.slow
def test_many_short_cycles_are_found_at_once():
    x = normal(300, 7)
    found = attractors(lambda x, u: -jnp.tanh(2 * x), x, NO_INPUT)
    signs = np.sign(x) * np.sign(x[:, :1])  # which a step turns all over
    is_whole(found, 300)
    assert set(kinds(found)) == {"CYCLE"} and (found.period == 2).all()
    assert len(found) == len(np.unique(signs, axis=0)) > 50


def test_nothing_given_is_nothing_found():
    found = attractors(henon(), np.zeros((0, 2), np.float32), NO_INPUT)
    assert len(found) == 0 and found.attractor.shape == (0,)
    assert str(found) == "No states were given."


def test_a_network_under_a_periodic_input_falls_into_step():
    def F(x, u):
        return jnp.tanh(0.9 * x + u)

    inputs = np.sin(2 * np.pi * np.arange(10) / 10)[:, None].astype(np.float32)
    found = attractors(stroboscopic(F, inputs), normal(16, 1), NO_INPUT)
    x = np.zeros(1)
    for t in range(1000):
        x = np.tanh(0.9 * x + inputs[t % 10])
    assert kinds(found) == ["FIXED_POINT"] and np.allclose(found.x[0], x, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"states": np.full((2, 2), np.inf, np.float32)}, "`states`"),
        ({"states": np.zeros((2, 0), np.float32)}, "`states`"),
        ({"inputs": np.zeros((3, 2), np.float32)}, "`inputs`"),
        ({"max_steps": 0}, "`max_steps`"),
        ({"n_exponents": 0}, "`n_exponents`"),
        ({"n_sample": -1}, "`n_sample`"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"states": np.zeros((2, 2), np.float32), "inputs": NO_INPUT}
    with pytest.raises(ValueError, match=message):
        attractors(henon(), **{**good, **change})


def test_traced_states_are_refused():
    with pytest.raises(TypeError, match="outside of `jit`"):
        jax.jit(lambda x: attractors(henon(), x, NO_INPUT).x)(jnp.zeros((1, 2)))
