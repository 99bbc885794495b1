"""The documented gradient descent: one end for all rows, or one for each."""

import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import case, double_well, trained

from slowpoints import Adam, FixedPointFinder, find_fixed_points, optimize_batch

NO_INPUT = np.zeros(0, np.float32)
SETTINGS = {"tol_q": 1e-4, "final_q_threshold": 1e-6, "tol_unique": 1e-2}
"""Those of the flip-flop example of canns 1.5.0: rows that stop at `tol_q` do not count."""


def n_found(fps, known):
    """Return how many of the `known` points are there, and check that nothing else is."""
    near = np.linalg.norm(known[:, None] - np.asarray(fps.xstar), axis=2) < 1e-2
    assert near.any(axis=0).all()
    return int(near.any(axis=1).sum())


# ---- what the documented implementation finds --------------------------------------------------

# What canns 1.5.0 finds from the states that it draws with these seeds, by the network and the
# points that other rounding may cost.
FOUND_BY_CANNS = [
    ("tanh_4", {0: 27, 1: 26, 3: 25}, 1),
    ("tanh_6", {0: 65, 1: 71, 3: 63}, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "by_seed", "spare"), FOUND_BY_CANNS)
def test_the_points_that_canns_finds_from_the_same_states(cell, by_seed, spare):
    known = case(cell)["xstar"]
    states = case(cell)["traj"].reshape(-1, known.shape[1])
    for seed, n in by_seed.items():
        rng = np.random.RandomState(seed)  # what canns draws with
        x = states[rng.choice(len(states), 1024, replace=False)]
        x = x + 0.4 * rng.randn(*x.shape).astype(np.float32)
        u = np.zeros(case(cell)["Wi"].shape[1], np.float32)
        fps, _ = find_fixed_points(
            trained(cell), x, u, solver=Adam(lr_init=0.02), compute_jacobians=False, **SETTINGS
        )
        assert n_found(fps, known) >= n - spare


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "least"), [("tanh_4", 24), ("tanh_6", 60)])
def test_the_documented_call_finds_as_many(cell, least):
    """From the states of our own draw, which differ from those of canns."""
    inputs = np.zeros((1, case(cell)["Wi"].shape[1]), np.float32)
    for seed in range(3):
        finder = FixedPointFinder(
            trained(cell), lr_init=0.02, solver="adam", random_seed=seed, verbose=False, **SETTINGS
        )
        fps, _ = finder.find_fixed_points(case(cell)["traj"], inputs, 1024, noise_scale=0.4)
        assert n_found(fps, case(cell)["xstar"]) >= least


# ---- when rows end -----------------------------------------------------------------------------

# The last row is far out, and so the last to come to a point.
STARTS = np.float32([[-1.2, 1], [-0.9, -2], [0.9, 0.1], [1.0, 0.01], [0.8, -1], [1.3, 4.0]])
TOL_Q = 1e-4


def search(x, joint, **settings):
    settings = {"tol_q": TOL_Q, "tol_dq": 0.0} | settings
    solver = Adam(joint=joint, lr_init=0.02)
    return optimize_batch(double_well(), x, NO_INPUT, solver=solver, **settings).to_numpy()


@pytest.mark.slow
def test_jointly_all_rows_go_on_until_the_last_is_there():
    fps, by_itself = search(STARTS, True), search(STARTS, False)
    assert len(set(by_itself.n_iters)) > 1 and by_itself.n_iters.argmax() == 5
    assert set(fps.n_iters) == {fps.n_iters[5]}
    assert fps.qstar.max() < TOL_Q
    early = by_itself.n_iters < 0.5 * by_itself.n_iters.max()
    assert early.any() and fps.qstar[early].max() < 1e-3 * by_itself.qstar[early].max()


@pytest.mark.slow
def test_jointly_all_rows_have_met_the_rule_in_the_same_iteration():
    """One move earlier at least one row is above the tolerance; the last iteration moves none."""
    fps = search(STARTS, True)
    before = search(STARTS, True, max_iters=int(fps.n_iters[0]) - 2)
    assert fps.qstar.max() < TOL_Q <= before.qstar.max()
    assert set(before.n_iters) == {fps.n_iters[0] - 2}


@pytest.mark.slow
def test_a_row_that_meets_the_rule_by_its_change_holds_up_no_other():
    """On the ridge the gradient vanishes: `q` never changes, and never falls below `tol_q`."""
    x = np.vstack([STARTS, [[0.0, 0.0]]]).astype(np.float32)
    fps = search(x, True, tol_q=0.0, tol_dq=1e-6, max_iters=20_000)
    assert fps.n_iters.max() < 20_000


@pytest.mark.slow
def test_a_row_that_is_not_finite_ends_by_itself_and_holds_up_no_other():
    x = np.vstack([STARTS, [[np.nan, 0.0]]]).astype(np.float32)
    fps, undisturbed = search(x, True), search(STARTS, True)
    assert fps.n_iters.tolist() == [*undisturbed.n_iters, 1]
    assert fps.valid.tolist() == [True] * len(STARTS) + [False]
    np.testing.assert_array_equal(fps.xstar[:-1], undisturbed.xstar)


@pytest.mark.slow
def test_rows_that_are_there_twice_change_nothing_but_the_mean():
    """The rule is about each row, so that copies of rows do not move the end."""
    fps, twice = search(STARTS, True), search(np.vstack([STARTS, STARTS]), True)
    np.testing.assert_array_equal(twice.n_iters, np.tile(fps.n_iters, 2))
    np.testing.assert_allclose(twice.xstar, np.tile(fps.xstar, (2, 1)), atol=1e-5)


def test_one_by_one_a_row_ends_where_it_would_end_alone():
    fps = search(STARTS, False)
    for row in range(len(STARTS)):
        alone = search(STARTS[row : row + 1], False)
        assert alone.n_iters[0] == fps.n_iters[row]
        np.testing.assert_allclose(alone.xstar[0], fps.xstar[row], atol=1e-6)


@pytest.mark.slow
def test_without_patience_the_rate_falls_on_plateaus_only():
    """A row that gets better in every iteration keeps its rate, and so is soon there."""
    quick = Adam(lr_init=0.02, lr_patience=0, lr_factor=0.1)
    fps = optimize_batch(double_well(), STARTS[:3], NO_INPUT, solver=quick, tol_q=TOL_Q)
    assert fps.qstar.max() < TOL_Q
