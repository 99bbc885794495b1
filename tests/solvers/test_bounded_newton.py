"""`BoundedNewton` finds fixed points where most rows of other solvers end at slow points."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import case, trained

from slowpoints import (
    BoundedNewton,
    FixedPointFinder,
    Status,
    account,
    as_transition,
    certify,
    find_fixed_points,
    optimize_batch,
)
from slowpoints.solvers import Stopping

NO_INPUT = np.zeros(1, np.float32)


def chaotic(n, gain=3.0, seed=0):
    rng = np.random.default_rng(seed)
    W = jnp.asarray(gain * rng.standard_normal((n, n)) / np.sqrt(n), jnp.float32)
    return lambda x, u: jnp.tanh(W @ x), np.tanh(rng.standard_normal((64, n))).astype(np.float32)


def n_places(fps):
    x = np.asarray(fps.xstar)[np.asarray(fps.status) == Status.FIXED_POINT]
    near = np.linalg.norm(x[:, None] - x, axis=2) < 1e-3
    return int(np.sum(np.argmax(near, axis=1) == np.arange(len(x))))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_finds_many_more_points_of_a_chaotic_network():
    F, x = chaotic(60)
    default, bounded = (
        optimize_batch(F, x, NO_INPUT, solver=solver) for solver in (None, BoundedNewton())
    )
    assert n_places(bounded) > 1.5 * n_places(default) > 10
    assert set(np.asarray(bounded.status)) <= {Status.FIXED_POINT, Status.UNFINISHED}
    points = bounded[np.asarray(bounded.status) == Status.FIXED_POINT][:10]
    assert np.all(certify(F, points).is_certified)


@pytest.mark.slow
def test_it_finds_the_points_of_a_trained_network():
    rng = np.random.default_rng(0)
    x = case("gru")["traj"].reshape(-1, 16)[rng.choice(64 * 64, 256)]
    x = np.float32(x + 0.5 * rng.standard_normal(x.shape))
    zero = np.zeros(3, np.float32)
    rules = {"final_q_threshold": 1e-10, "search_between": True}
    default, _ = find_fixed_points(trained("gru"), x, zero, **rules)
    bounded = optimize_batch(trained("gru"), x, zero, solver=BoundedNewton())
    there = np.asarray(bounded.xstar)[np.asarray(bounded.status) == Status.FIXED_POINT]
    points = np.asarray(default.xstar)
    assert len(points) == 27
    met = np.linalg.norm(points[:, None] - there, axis=2).min(axis=1) < 1e-3
    assert met.sum() >= 24


@pytest.mark.slow
def test_steps_are_no_longer_than_they_may_be():
    F, x = chaotic(20)
    solver, x = BoundedNewton(longest=0.01), jnp.asarray(x[:8])
    none = Stopping(jnp.asarray(100), jnp.asarray(0.0), jnp.asarray(0.0))
    state = solver.step(as_transition(F), jnp.zeros((8, 1)), solver.init(x), none)
    moved = np.linalg.norm(state.place - x, axis=1)
    np.testing.assert_allclose(moved, 0.01 * np.sqrt(20), rtol=1e-4)


@pytest.mark.slow
def test_the_lowest_place_is_kept():
    F, x = chaotic(20)
    x = x[:8]
    first = optimize_batch(F, x, NO_INPUT, solver=BoundedNewton(patience=1))
    later = optimize_batch(F, x, NO_INPUT, solver=BoundedNewton(patience=7))
    np.testing.assert_array_equal(first.xstar, x)
    assert np.all(later.qstar <= first.qstar * (1 + 1e-5))
    assert np.all((later.n_iters == 7) | (later.status == Status.FIXED_POINT))


@pytest.mark.slow
def test_max_iters_ends_rows_before_patience_does():
    F, x = chaotic(20)
    fps = optimize_batch(F, x[:8], NO_INPUT, solver=BoundedNewton(), max_iters=3)
    assert fps.n_iters.max() <= 3


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_alone():
    F, x = chaotic(20)
    x = x[:8].copy()
    x[3] = np.nan
    fps = optimize_batch(F, x, NO_INPUT, solver=BoundedNewton(patience=200))
    assert fps.status[3] == Status.NOT_FINITE and np.any(fps.status == Status.FIXED_POINT)


@pytest.mark.parametrize(
    "setting, error",
    [({"longest": -1}, ValueError), ({"patience": 0}, ValueError), ({"lanes": "4"}, TypeError)],
)
def test_settings_out_of_range_are_refused(setting, error):
    with pytest.raises(error, match=next(iter(setting))):
        BoundedNewton(**setting)


@pytest.mark.slow
def test_the_class_knows_it_by_name():
    finder = FixedPointFinder(lambda x, u: jnp.tanh(2 * x), solver="bounded_newton", verbose=False)
    states = np.float32([[[0.1], [1.0], [-1.0]]])
    fps, _ = finder.find_fixed_points(states, NO_INPUT[None], n_inits=64)
    np.testing.assert_allclose(np.sort(fps.xstar[:, 0]), [-0.9575, 0, 0.9575], atol=1e-4)


@pytest.mark.slow
def test_the_account_says_where_it_may_find_more():
    F, x = chaotic(60)
    with pytest.warns(UserWarning, match="slow points"):
        rows = find_fixed_points(F, x, NO_INPUT)
    assert "`BoundedNewton`" in str(account(*rows))
    rows = find_fixed_points(lambda x, u: jnp.tanh(2 * x), x, NO_INPUT)
    assert "`BoundedNewton`" not in str(account(*rows))
