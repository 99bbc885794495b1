"""Searches find the same, scaled, whatever unit the states are in, and say what they did not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import Adam, LevenbergMarquardt, NewtonKrylov, Status, optimize_batch
from slowpoints._network.as_transition import as_transition
from slowpoints._network.trace import traced
from slowpoints._search.seen_at_first import Rows, seen_at_first
from slowpoints._search.units_of_states import units_of_states
from slowpoints._search.verdict import judge, judge_on_host
from slowpoints.solvers import End, Report

NO_INPUT = np.zeros(1, np.float32)
SOLVERS = [None, LevenbergMarquardt(), NewtonKrylov()]


def scaled_tanh(scale, n=10, gain=2.0):
    """Return a network whose states are `scale` times those of a random network of tanh units."""
    W = gain * np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(n)
    W, scale = jnp.asarray(W, jnp.float32), jnp.asarray(scale, jnp.float32)
    return lambda x, u: scale * jnp.tanh(W @ (x / scale))


def affine(n, sizes, seed=0):
    """Return an affine map with a fixed point that is not at the origin, and the point."""
    rng = np.random.default_rng(seed)
    J = np.float32(0.7 * rng.standard_normal((n, n)) / np.sqrt(n) * sizes[:, None] / sizes)
    b = np.float32(sizes * rng.standard_normal(n))
    point = np.linalg.solve(np.eye(n) - J.astype(np.float64), b)
    return lambda x, u: J @ x + b, point


def starts(n_rows, n, scale=1.0):
    return np.float32(scale * np.random.default_rng(1).standard_normal((n_rows, n)))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2.0**-20, 1e-6, 1e-3, 1e3, 1e6])
def test_states_of_any_size_lead_to_the_same_points(scale):
    """At 1e-6, 66 of 100 rows were off by more than 1 % of the states' range."""
    fps = optimize_batch(scaled_tanh(scale), starts(100, 10, scale), NO_INPUT)
    alike = optimize_batch(scaled_tanh(1.0), starts(100, 10), NO_INPUT)
    points, expected = (
        np.asarray(rows.xstar)[np.asarray(rows.status) == Status.FIXED_POINT]
        for rows in (fps, alike)
    )
    points = points / scale
    assert len(points) > 40
    distances = np.linalg.norm(points[:, None] - expected, axis=2)
    assert distances.min(axis=1).max() < 1e-5 and distances.min(axis=0).max() < 1e-5
    assert set(np.asarray(fps.status)) <= {Status.FIXED_POINT, Status.SLOW_POINT}


@pytest.mark.slow
def test_in_a_power_of_two_rows_are_the_same_to_the_last_bit():
    """Their starts have a unit of their own, 2**-20, and then 2**-30."""
    rows = [
        optimize_batch(scaled_tanh(scale), starts(50, 10, scale), NO_INPUT)
        for scale in (2.0**-20, 2.0**-30)
    ]
    np.testing.assert_array_equal(rows[0].xstar * 2.0**-10, rows[1].xstar)
    np.testing.assert_array_equal(rows[0].status, rows[1].status)


@pytest.mark.one_in(3)
@pytest.mark.slow_cases
@pytest.mark.parametrize("solver", SOLVERS, ids=["default", "levenberg_marquardt", "newton_krylov"])
@pytest.mark.parametrize("ratio", [1e-6, 3e4, 1e6])
@pytest.mark.parametrize("n", [4, 20])
def test_entries_of_very_different_sizes(ratio, n, solver):
    """A map with one fixed point had slow points instead, with `q` of 0.05 to 1900."""
    sizes = np.where(np.arange(n) % 2, ratio, 1.0)
    F, point = affine(n, sizes)
    fps = optimize_batch(F, starts(8, n, sizes), NO_INPUT, solver=solver)
    assert np.all(fps.status == Status.FIXED_POINT)
    assert np.max(np.abs(np.asarray(fps.xstar) - point) / sizes) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize("ratio", [3e4, 1e6])
def test_entries_turn_out_to_be_of_very_different_sizes(ratio, n):
    """The starts are of norm 1 in all directions, and the point is not."""
    sizes = np.where(np.arange(n) % 2, ratio, 1.0)
    F, point = affine(n, sizes)
    fps = optimize_batch(F, starts(8, n), NO_INPUT)
    assert np.all(fps.status == Status.FIXED_POINT)
    assert np.max(np.abs(np.asarray(fps.xstar) - point) / sizes) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1e4, 1e5, 1e6])
def test_points_much_further_away_than_the_starts(norm):
    F, point = affine(20, np.full(20, norm))
    fps = optimize_batch(F, starts(16, 20), NO_INPUT)
    assert np.all(fps.status == Status.FIXED_POINT)
    assert np.max(np.abs(np.asarray(fps.xstar) - point)) < 1e-5 * norm


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [16, 24, 40])
def test_starts_on_trajectories_that_grow_do_not_spoil_the_others(n_steps):
    """One unit doubles in each step, so starts reach from 1 to 1e12; the points are of size 1."""

    def F(x, u):
        return jnp.stack([2 * x[0] - 0.3, jnp.tanh(1.5 * x[1] + 0.2 * x[0])])

    x = np.random.default_rng(0).uniform(-1, 1, (8, 2))
    grown = [np.stack([0.3 + (x[:, 0] - 0.3) * 2.0**k, x[:, 1]], axis=1) for k in range(n_steps)]
    fps = optimize_batch(F, np.float32(np.concatenate(grown)), NO_INPUT)
    near = np.asarray(fps.status)[: 4 * len(x)]
    assert np.sum(near != Status.FIXED_POINT) <= 1
    np.testing.assert_allclose(np.asarray(fps.xstar)[: 4 * len(x), 0], 0.3, rtol=1e-6)


@pytest.mark.slow
def test_rows_inside_jit_and_vmap_have_units_too():
    F, x = scaled_tanh(1e-6), starts(30, 10, 1e-6)
    alone = optimize_batch(F, x, NO_INPUT)

    @jax.jit
    @jax.vmap
    def inside(x):
        return optimize_batch(F, x, NO_INPUT).xstar

    found = np.asarray(inside(x.reshape(3, 10, 10))).reshape(30, 10)
    np.testing.assert_allclose(found, alone.xstar, atol=1e-10)


@pytest.mark.slow
def test_tolerances_stay_in_the_units_of_the_states():
    """`Adam` is given them as they are, and its statuses speak of the `q` of the states."""
    scale = 1e-6
    F, x = scaled_tanh(scale), starts(20, 10, scale)
    fps = optimize_batch(F, x, NO_INPUT, solver=Adam(lr_init=1e-8), tol_q=1e-14, max_iters=3000)
    assert np.all(fps.qstar[fps.status == Status.WITHIN_TOLERANCE] < 1.02e-14)
    assert np.any(fps.status == Status.WITHIN_TOLERANCE)
    polished = optimize_batch(F, x, NO_INPUT, solver=LevenbergMarquardt(polish=False), tol_q=1e-20)
    within = np.asarray(polished.status) == Status.WITHIN_TOLERANCE
    assert np.any(within) and np.all(polished.qstar[within] < 1.02e-20)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_rows_on_their_way_have_not_escaped(scale):
    """`q` is never low here, though it is below a `tol_q` that is taken for small states."""
    F, x = lambda x, u: x + 1e-3 * (np.float32(100 * scale) - x), starts(8, 1, scale)
    fps = optimize_batch(F, x, NO_INPUT, max_iters=16)
    assert np.sum(np.abs(fps.xstar - x) > scale + np.abs(x)) >= 4
    assert np.all(fps.status == Status.UNFINISHED)


@pytest.mark.slow
def test_a_report_does_not_change_what_is_found():
    F, _ = affine(20, np.full(20, 1e6))
    told = []
    report = Report(lambda *args, **more: told.append(args[0]), every=1)
    alone = optimize_batch(F, starts(16, 20), NO_INPUT)
    reported = optimize_batch(F, starts(16, 20), NO_INPUT, report=report)
    np.testing.assert_array_equal(reported.status, alone.status)
    assert np.all(alone.status == Status.FIXED_POINT) and told


@pytest.mark.slow
@pytest.mark.parametrize(
    "network, expected",
    [
        (lambda x, u: 0.5 * x + 1, Status.UNFINISHED),
        (lambda x, u: x + 0.1 + x**2, Status.SLOW_POINT),
    ],
    ids=["contraction", "ghost"],
)
def test_a_minimum_is_none_where_newtons_step_leads_down(network, expected):
    """A solver's word is taken where this step, too, shows no way down."""
    F = traced("test", as_transition(network), 4, 1, np.dtype(np.float32), forward_mode=True)
    x, u, low = jnp.zeros((2, 4)), jnp.zeros((2, 1)), jnp.asarray(1e-12)
    with jax.enable_x64(True):
        _, seen = seen_at_first(F, x, x, u, jnp.full(2, End.MINIMUM), low, low)
        rows = Rows(*(a.astype(np.float64) for a in (x, x, u)), seen)
        assert np.all(judge(F, rows) == expected)
        assert np.all(judge_on_host(F, jax.device_get(rows), forward_mode=True) == expected)


# ---- drifts that are small beside other rounding ----------------------------------------------


def drifts(x, u):
    return jnp.stack([x[0] + 1e-9, jnp.tanh(2 * x[1] + 0.1)])


def nearly_meets(x, u):
    return jnp.stack([x[0] + x[0] ** 4 + 1e-12, jnp.tanh(2 * x[1] + 0.1)])


def holds(x, u):
    return jnp.stack([x[0], jnp.tanh(2 * x[1] + 0.1)])


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_a_drift_smaller_than_rounding_in_another_direction_is_no_fixed_point(x64):
    """45 of 64 rows were called fixed points in float32."""
    with jax.enable_x64(x64):
        x = np.random.default_rng(0).standard_normal((64, 2)).astype(float if x64 else np.float32)
        status = np.asarray(optimize_batch(drifts, x, np.zeros(1, x.dtype)).status)
        assert np.all(status == Status.SLOW_POINT)
        status = np.asarray(optimize_batch(nearly_meets, x, np.zeros(1, x.dtype)).status)
        assert not np.any(status == Status.FIXED_POINT)
        status = np.asarray(optimize_batch(holds, x, np.zeros(1, x.dtype)).status)
        assert np.all(status == Status.FIXED_POINT)


# ---- the units ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([1.0, 0.01, 0.3], [1, 1, 1]),  # of usual sizes
        ([50.0, 30.0, 1e4], [1, 1, 1]),  # large, perhaps on their way to points that are not
        ([1.0, 1e-6, 0.0], [1 / 2, 2.0**-21, 1 / 2]),
        ([1e-6, 1e-6, 2e-6], [2.0**-20] * 3),
        ([0.0, 0.0, 0.0], [1, 1, 1]),
        ([1e-15, 1.0, 1e4], [2.0**-51, 1 / 2, 2.0**12]),
    ],
)
def test_units_are_powers_of_two_next_to_the_sizes(sizes, expected):
    F = as_transition(lambda x, u: 0.5 * x)
    x = jnp.asarray(np.float32(sizes) * np.float32([[1], [-1], [np.nan], [1]]))
    unit = units_of_states(F, x, jnp.zeros((4, 1)))
    np.testing.assert_array_equal(unit, np.float32(expected))
    inside = jax.jit(lambda x: units_of_states(F, x, jnp.zeros((4, 1))))(x)
    np.testing.assert_array_equal(inside, unit)


def test_a_row_that_has_gone_astray_does_not_count():
    F = as_transition(lambda x, u: 0.5 * x)
    x = jnp.ones((5, 3)).at[2, 1].set(1e30)
    assert np.all(units_of_states(F, x, jnp.zeros((5, 1))) == 1)


def test_small_starts_of_a_network_of_usual_size_have_its_unit():
    F = as_transition(lambda x, u: jnp.tanh(x + 1))
    assert np.all(units_of_states(F, jnp.full((4, 2), 1e-6), jnp.zeros((4, 1))) == 1)
