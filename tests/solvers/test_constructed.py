"""Every solver on networks of 96 units and more, of which the points are known by construction."""

from functools import cache, partial

import numpy as np
import pytest
from constructed import (
    CLEAR,
    N_ROWS,
    NETWORKS,
    NO_INPUT,
    SAME_POINT,
    SIZE,
    SOLVERS,
    around,
    distances,
    fold,
    known,
    pairs,
    parabola,
    patterns,
    search,
    starts,
)
from networks import index_counts

from slowpoints import find_fixed_points, unique

# How much of the size of a state a residual in float32 may be off: a sum of 96 products, each
# rounded by 6e-8, through a gain of up to 20.
ROUNDING = 2e-6
HERE = SAME_POINT * np.sqrt(SIZE)

every_solver = pytest.mark.parametrize("name", SOLVERS)
every_network = pytest.mark.parametrize("network", NETWORKS)


@cache
def found(name, network):
    return search(name, known(network).F, starts(network))


def residual(reference, x):
    return np.sqrt(2 * reference.speed(np.asarray(x, float)))


# ---- what every row of every search must hold --------------------------------------------------


def check_that_q_belongs_to_the_state(reference, fps):
    """`F_xstar` and `qstar` are those of `xstar`, not of the state before the last update."""
    x = np.asarray(fps.xstar, float)
    scale = ROUNDING * (1 + np.linalg.norm(x, axis=1))
    assert np.isfinite(x).all()
    off = np.linalg.norm(np.asarray(fps.F_xstar, float) - reference.next(x), axis=1)
    assert (off <= scale).all()
    assert (
        np.abs(np.sqrt(2 * np.asarray(fps.qstar, float)) - residual(reference, x)) <= scale
    ).all()


@pytest.mark.one_in(3)
@every_network
@every_solver
@pytest.mark.slow
def test_q_belongs_to_the_state_that_is_returned(name, network):
    check_that_q_belongs_to_the_state(known(network).reference, found(name, network))


# A rate of 1 carries Adam away from starts this near a minimum, and 300 iterations do not bring it
# back.
NOT_YET_DOWN = [("adam", network) for network in ("close_roots", "ghost", "random")]


@pytest.mark.slow_cases
@every_network
@every_solver
def test_q_is_not_higher_than_at_the_start(name, network, request):
    if (name, network) in NOT_YET_DOWN:
        reason = "Adam returns the last state of a row, not the best one"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    reference, fps = known(network).reference, found(name, network)
    np.testing.assert_array_equal(fps.x_init, starts(network))
    x = np.asarray(fps.xstar, float)
    slack = ROUNDING * (1 + np.linalg.norm(x, axis=1))
    assert (residual(reference, x) <= residual(reference, fps.x_init) + slack).all()


@pytest.mark.slow_cases
@every_solver
@pytest.mark.parametrize("network", ["three_patterns", "random"])
def test_a_row_takes_no_more_iterations_than_it_may(name, network):
    """Stopped so early, rows are still on their way, and their `q` changes from step to step."""
    fps = search(name, known(network).F, starts(network), max_iters=5)
    assert np.max(fps.n_iters) <= 5
    check_that_q_belongs_to_the_state(known(network).reference, fps)


# ---- fixed points ------------------------------------------------------------------------------

# Those of which every fixed point is known, and the curves of fixed points.
COMPLETE = [
    "one_pattern",
    "pairs",
    "pairs_rotated",
    "before_fold",
    "past_fold",
    "close_roots",
    "ghost",
    "drift",
    "doubling",
    "line",
]


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", COMPLETE)
@every_solver
def test_rows_at_fixed_points_are_at_the_known_ones(name, network):
    case, x = known(network), np.asarray(found(name, network).xstar)
    there = case.reference.at_fixed_point(x, continuum=case.continuum or network == "drift")
    if network in ("ghost", "drift"):
        assert not there.any()
    elif name == "default":
        assert there[: len(case.points)].any()
    assert (case.distance(x[there]) <= HERE).all() if len(case.points) else not there.any()


@pytest.mark.parametrize("network", CLEAR)
def test_the_default_search_finds_every_point_that_it_starts_around(network):
    case = known(network)
    x = case.around(N_ROWS, seed=7)
    own = case.points[np.arange(N_ROWS) % len(case.points)]
    np.testing.assert_allclose(case.reference.newton(x), own, atol=1e-9)
    fps = search("default", case.F, x)
    assert np.asarray(fps.valid).all()
    assert np.linalg.norm(np.asarray(fps.xstar, float) - own, axis=1).max() <= HERE


@pytest.mark.slow
def test_the_stored_patterns_are_kept_with_their_index():
    """The stored ones are stable, and the origin is not in the three dimensions of their span."""
    case = known("three_patterns")
    fps, rows = find_fixed_points(case.F, case.around(N_ROWS), NO_INPUT, mesh=None)
    assert rows.n == N_ROWS and fps.n == len(case.points) == 7
    assert distances(case.points, fps.xstar).min(axis=1).max() <= HERE
    assert index_counts(fps) == {0: 6, 3: 1}


# ---- folds and ghosts --------------------------------------------------------------------------

DISTANCES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
# Where `q` is within one percent of its minimum beyond a fold. There the residual is
# `d / 2 + sqrt(2) s^2` at a distance `s` from the slow point along the first unit's axis.
ONE_PERCENT = 0.042


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("d", DISTANCES)
def test_before_a_fold_three_points_are_found(d, rotated):
    """Two of them are `1.7 sqrt(d)` apart, which rounding to float32 does not blur."""
    case = fold(d, rotated=rotated)
    fps = search("default", case.F, case.around(N_ROWS))
    own = np.arange(N_ROWS) % 3
    assert np.linalg.norm(np.asarray(fps.xstar) - case.points[own], axis=1).max() <= HERE
    assert int(np.sum(unique(fps, 0.1 * np.sqrt(d)).valid)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("d", DISTANCES)
def test_beyond_a_fold_one_point_is_found_and_one_slow_point(d, rotated):
    case = fold(-d, rotated=rotated)
    targets = np.concatenate([case.points, case.slow])
    x = around(targets, N_ROWS, noise=0.03)
    fps = search("default", case.F, x)
    assert np.asarray(fps.valid).all()
    to_point, to_slow = distances(fps.xstar, targets).T
    # A row may leave the slow point's basin, whose other side is open; most must not.
    at_slow = to_slow < ONE_PERCENT * np.sqrt(d) * np.linalg.norm(drive(case)) + HERE
    assert (at_slow | (to_point <= HERE)).all()
    assert at_slow.sum() >= N_ROWS // 4 and (to_point <= HERE).sum() >= N_ROWS // 2
    q = case.reference.speed(np.asarray(fps.xstar, float))[at_slow]
    floor = 0.5 * (6e-8 * np.linalg.norm(case.slow)) ** 2
    assert (q <= 1.01 * case.reference.speed(case.slow) + 4 * floor).all()


def drive(case):
    """Return how far all units move per move of the first one, with the others at rest."""
    J = case.F.Q.T @ case.reference.jacobian(case.slow[0]) @ case.F.Q
    return np.linalg.solve(np.eye(SIZE) - J * (np.arange(SIZE) > 0)[:, None], np.eye(SIZE)[0])


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("d", [1e-2, 1e-4, 1e-6])
def test_a_ghost_is_found_where_its_speed_is_lowest(d, scale):
    case = parabola(d, scale=scale, rotated=True)
    fps = search("default", case.F, around(case.slow, N_ROWS, noise=0.03))
    assert np.asarray(fps.valid).all()
    # One percent of `q`, which is `(scale (x^2 + d))^2 / 2`, is `0.07 sqrt(d)` away.
    here = 0.07 * np.sqrt(d) * np.linalg.norm(drive(case)) + HERE
    assert distances(fps.xstar, case.slow).max() <= here


def test_two_points_closer_than_tol_unique_are_told_apart_with_a_smaller_one():
    case = known("close_roots")
    assert 2e-4 <= distances(*np.split(case.points, 2)).item() < 3e-4
    fps = search("default", case.F, case.around(N_ROWS))
    assert int(np.sum(unique(fps, 1e-5).valid)) == 2
    assert int(np.sum(unique(fps, 1e-3).valid)) == 1


def test_where_the_speed_is_the_same_everywhere_no_row_runs_away():
    """`x + 1e-5`: from one step to the next, `q` can only change by what the others still have."""
    case = known("drift")
    fps = search("default", case.F, case.around(N_ROWS))
    assert (
        np.linalg.norm(np.asarray(fps.xstar), axis=1).max()
        < 5 * np.linalg.norm(case.slow, axis=1).max()
    )
    np.testing.assert_allclose(case.reference.speed(np.asarray(fps.xstar, float)), 5e-11, rtol=0.01)


# ---- continuous attractors ---------------------------------------------------------------------


@pytest.mark.parametrize("network", ["line", "ring"])
@pytest.mark.parametrize("name", ["default", "levenberg_marquardt"])
def test_rows_stay_apart_on_a_continuous_attractor(name, network):
    """Every row finds a point next to where it starts, and all lie on the curve."""
    case = known(network)
    x = case.around(N_ROWS)
    fps = search(name, case.F, x)
    xstar = np.asarray(fps.xstar, float)
    assert np.asarray(fps.valid).all() and np.asarray(fps.qstar).max() < 1e-12
    # Below `q = 1e-12`, a contraction by 0.7 or stronger leaves at most 5e-6 to the curve.
    assert case.distance(xstar).max() < 1e-5
    assert int(np.sum(unique(fps, 1e-3).valid)) == N_ROWS
    # Noise of 0.01 in each unit moves a row along the curve by about the size of all of it.
    assert np.linalg.norm(xstar - case.points, axis=1).max() < 2 * np.linalg.norm(x - case.points)


# ---- order and chunks --------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", ["three_patterns", "pairs_rotated", "random"])
def test_rows_do_not_depend_on_their_order_or_on_chunks(network):
    """Rounding differs with the place in a batch, and is all that may differ.

    Chunks of as many rows as all other searches have compile nothing new; the last is filled up.
    """
    F, n = known(network).F, 2 * N_ROWS + 5
    x = known(network).around(n, seed=8)
    order = np.random.default_rng(0).permutation(n)
    in_order = search("default", F, x, rows_at_a_time=N_ROWS)
    permuted = search("default", F, x[order], rows_at_a_time=N_ROWS)
    alone = search("default", F, x[10 : 10 + N_ROWS])
    for fps, rows in ((permuted, order), (alone, np.arange(10, 10 + N_ROWS))):
        apart = np.asarray(fps.xstar, float) - np.asarray(in_order.xstar, float)[rows]
        assert np.linalg.norm(apart, axis=1).max() <= HERE
        np.testing.assert_array_equal(fps.valid, np.asarray(in_order.valid)[rows])


# ---- larger networks ---------------------------------------------------------------------------


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    "n_states",
    [192, 256, 300],
)
@pytest.mark.parametrize(
    "make",
    [
        partial(patterns, 3, rotated=True),
        partial(pairs, N_ROWS, rotated=True),
        partial(fold, 1e-4, rotated=True),
        partial(fold, 1e-6),
        partial(parabola, -1e-8),
    ],
    ids=["patterns", "pairs", "fold_1e-4", "fold_1e-6", "close_roots"],
)
def test_the_default_search_finds_every_point_of_larger_networks(make, n_states):
    case = make(n_states=n_states)
    own = case.points[np.arange(N_ROWS) % len(case.points)]
    x = case.around(N_ROWS)
    np.testing.assert_allclose(case.reference.newton(x), own, atol=1e-9)
    fps = search("default", case.F, x)
    assert np.asarray(fps.valid).all()
    here = SAME_POINT * np.sqrt(n_states)
    assert np.linalg.norm(np.asarray(fps.xstar, float) - own, axis=1).max() <= here
