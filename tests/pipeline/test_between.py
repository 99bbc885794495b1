"""`search_between`: fixed points that no start leads to, from states between known ones."""

import itertools
import tracemalloc
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

import slowpoints
from slowpoints import Status

find_fixed_points = partial(slowpoints.find_fixed_points, search_between=True)

SLOPE = 2.0
"""Of a unit `tanh(SLOPE * x)` at 0: it has the fixed points 0 and +-HEIGHT."""
HEIGHT = 0.9575040240772687  # by bisection
NO_INPUT = np.zeros(1, np.float32)


class Bistable(eqx.Module):
    """Units that do not act on each other: `3**n_units` fixed points, of which 2**n are stable."""

    slope: jax.Array

    def __call__(self, x, u):
        return jnp.tanh(self.slope * x + u)


BISTABLE = Bistable(jnp.float32(SLOPE))


def corners(n_units):
    return np.array(list(itertools.product([-HEIGHT, HEIGHT], repeat=n_units)))


def every_point(n_units):
    return np.array(list(itertools.product([-HEIGHT, 0, HEIGHT], repeat=n_units)))


def starts_at(points, n, noise=0.01, seed=0):
    """Return `n` states near these points, each of them in turn."""
    rng = np.random.default_rng(seed)
    chosen = points[np.arange(n) % len(points)]
    return np.float32(chosen + noise * rng.standard_normal(chosen.shape))


def same_set(a, b, tol=1e-3):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) != len(b):
        return False
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return bool((apart.min(axis=0) < tol).all() and (apart.min(axis=1) < tol).all())


@pytest.mark.slow
@pytest.mark.parametrize("n_units", [1, 2, 3])
def test_saddles_are_found_from_starts_at_the_attractors(n_units):
    x = starts_at(corners(n_units), 64)
    fps, all_fps = find_fixed_points(BISTABLE, x, NO_INPUT)
    assert same_set(fps.xstar, every_point(n_units))
    assert slowpoints.degree(BISTABLE, fps) == 1
    # The rows are those of the search, and each of them is counted once.
    assert all_fps.n == 64
    np.testing.assert_array_equal(np.asarray(all_fps.x_init), x)
    hits = np.asarray(fps.hits)
    assert hits.sum() == 64
    assert same_set(np.asarray(fps.xstar)[hits > 0], corners(n_units))
    assert (np.asarray(fps.status) == Status.FIXED_POINT).all()


@pytest.mark.slow
def test_every_field_is_that_of_the_point():
    fps, _ = find_fixed_points(BISTABLE, starts_at(corners(2), 32), NO_INPUT)
    x = np.asarray(fps.xstar)
    F_x = np.tanh(SLOPE * x)
    np.testing.assert_allclose(fps.F_xstar, F_x, atol=1e-6)
    np.testing.assert_allclose(fps.qstar, 0.5 * np.sum((x - np.asarray(fps.F_xstar)) ** 2, axis=1))
    J = np.zeros((9, 2, 2))
    J[:, [0, 1], [0, 1]] = SLOPE * (1 - F_x**2)
    np.testing.assert_allclose(fps.J_xstar, J, atol=1e-4)
    largest = np.abs(fps.eigval_J_xstar).max(axis=1)
    np.testing.assert_allclose(largest, J.max(axis=(1, 2)), atol=1e-4)
    np.testing.assert_array_equal(fps.is_stable, J.max(axis=(1, 2)) < 1)
    assert fps.dFdu.shape == (9, 2, 1)
    # Where a point was found from lies between others.
    between = np.asarray(fps.x_init)[np.asarray(fps.hits) == 0]
    assert np.abs(between).max() <= HEIGHT + 1e-3


@pytest.mark.slow
def test_only_if_asked_for():
    x = starts_at(corners(3), 64)
    fps, _ = slowpoints.find_fixed_points(BISTABLE, x, NO_INPUT)
    assert same_set(fps.xstar, corners(3))


def test_not_without_jacobians_nor_inside_jit():
    x = starts_at(corners(2), 32)
    with pytest.raises(ValueError, match="`search_between` does not work without Jacobians"):
        find_fixed_points(BISTABLE, x, NO_INPUT, compute_jacobians=False)
    with pytest.raises(ValueError, match="`search_between` does not work inside `jit`"):
        jax.jit(lambda x: find_fixed_points(BISTABLE, x, NO_INPUT)[0])(x)
    finder = slowpoints.FixedPointFinder(BISTABLE, verbose=False, do_compute_jacobians=False)
    fps, _ = finder.find_fixed_points(x, NO_INPUT[None])
    assert same_set(fps.xstar, corners(2))


def test_a_missing_point_is_found_though_the_signs_sum_to_one():
    # Three attractors and two of the saddles: 3 - 2. The middle is between two attractors.
    known = np.array([[-1, -1], [1, -1], [-1, 1], [0, -1], [-1, 0]]) * HEIGHT
    fps, _ = find_fixed_points(BISTABLE, starts_at(known, 32), NO_INPUT)
    assert np.linalg.norm(fps.xstar, axis=1).min() < 1e-4


def test_nothing_is_searched_for_where_everything_is_known(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a further search")

    import slowpoints._pipeline.between as between

    monkeypatch.setattr(between, "optimize_batch", refuse)
    fps, _ = find_fixed_points(BISTABLE, starts_at(every_point(2), 64), NO_INPUT)
    assert fps.n == 9
    one = Bistable(jnp.float32(0.5))
    fps, _ = find_fixed_points(one, starts_at(corners(2), 64), NO_INPUT)
    assert fps.n == 1


@pytest.mark.slow
def test_nothing_is_searched_for_on_a_line_of_fixed_points(monkeypatch):
    import slowpoints._pipeline.between as between

    monkeypatch.setattr(between, "optimize_batch", None)  # to call it is a `TypeError`

    def F(x, u):
        return x * jnp.array([1.0, 0.5]) + 0 * u

    x = np.float32(np.random.default_rng(0).uniform(-1, 1, (64, 2)))
    fps, _ = find_fixed_points(F, x, NO_INPUT, tol_unique=0.1)
    assert fps.n > 5


def test_more_starts_are_what_is_missing_if_each_row_finds_a_point():
    fps, _ = find_fixed_points(BISTABLE, starts_at(corners(3), 8), NO_INPUT)
    assert same_set(fps.xstar, corners(3))
    fps, _ = find_fixed_points(BISTABLE, starts_at(corners(3), 16), NO_INPUT)
    assert fps.n > 8


@pytest.mark.slow
def test_ways_lead_between_points_under_the_same_input():
    # Under an input of 1, the only fixed point is the one above.
    x = starts_at(np.concatenate([corners(1), [[1.0]]]), 48)
    u = np.float32(np.arange(48) % 3 == 2)[:, None]
    fps, _ = find_fixed_points(BISTABLE, x, u, cond_id=np.arange(48) % 3)
    under_none = np.asarray(fps.inputs)[:, 0] == 0
    assert same_set(np.asarray(fps.xstar)[under_none], every_point(1))
    assert np.sum(~under_none) == 1
    for point, given_input in zip(np.asarray(fps.xstar), np.asarray(fps.inputs), strict=True):
        np.testing.assert_allclose(np.tanh(SLOPE * point + given_input), point, atol=1e-5)


@pytest.mark.slow
def test_points_of_each_condition_are_apart_within_conditions():
    x, labels = starts_at(corners(1), 64), np.array(["left", "right"])[np.arange(64) // 2 % 2]
    fps, _ = find_fixed_points(BISTABLE, x, NO_INPUT, cond_id=labels, within_conditions=True)
    for label in ("left", "right"):
        assert same_set(np.asarray(fps.xstar)[np.asarray(fps.cond_id) == label], every_point(1))
    # Of points that belong to different conditions, no way leads from one to the other.
    labels = np.where(np.arange(64) % 2 == 0, "low", "high")
    fps, _ = find_fixed_points(BISTABLE, x, NO_INPUT, cond_id=labels, within_conditions=True)
    assert same_set(fps.xstar, corners(1))


def test_rules_apply_to_what_is_found():
    x = starts_at(corners(3), 64)
    fps, _ = find_fixed_points(BISTABLE, x, NO_INPUT, max_n_unique=20)
    assert fps.n == 20 and (np.asarray(fps.hits) > 0).sum() == 8
    all_of_them, _ = find_fixed_points(BISTABLE, x, NO_INPUT)
    new, all_new = (np.asarray(f.qstar)[np.asarray(f.hits) == 0] for f in (fps, all_of_them))
    np.testing.assert_array_equal(np.sort(new), np.sort(all_new)[:12])
    # With fewer than were found at first, the sum of signs says nothing.
    fps, _ = find_fixed_points(BISTABLE, x, NO_INPUT, max_n_unique=5)
    assert fps.n == 5 and (np.asarray(fps.hits) > 0).all()


def test_a_search_that_is_ended_by_progress_ends():
    def stop(rows):
        raise StopIteration

    x = starts_at(corners(2), 64)
    for n in (32, 64):
        fps, rows = find_fixed_points(BISTABLE, x, NO_INPUT, progress=stop, rows_at_a_time=n)
        assert rows.n == n and same_set(fps.xstar, corners(2))


@pytest.mark.slow
def test_continuous_time():
    def f(x, u):
        return -x + jnp.tanh(SLOPE * x + u)

    flow = slowpoints.ContinuousTime(f)
    fps, _ = find_fixed_points(flow, starts_at(corners(2), 32), NO_INPUT)
    assert same_set(fps.xstar, every_point(2)) and fps.continuous_time


@pytest.mark.slow
def test_no_inputs():
    fps, _ = find_fixed_points(
        lambda x, u: jnp.tanh(SLOPE * x), starts_at(corners(2), 32), np.zeros(0, np.float32)
    )
    assert same_set(fps.xstar, every_point(2))


@pytest.mark.slow_cases
@pytest.mark.parametrize("sizes", [(0.05, 1.0, 1.0), (1e-3, 1.0, 1e3)])
def test_units_of_different_sizes(sizes):
    size = jnp.float32(sizes)

    def F(x, u):
        return size * jnp.tanh(SLOPE * x / size) + 0 * u

    x = starts_at(corners(3), 64) * np.float32(sizes)
    fps, _ = find_fixed_points(F, x, NO_INPUT, tol_unique=1e-3 * min(sizes))
    assert same_set(np.asarray(fps.xstar) / sizes, every_point(3))


def test_inputs_that_are_alike_are_one():
    x, u = starts_at(corners(2), 64), np.float32(np.arange(64) * 1e-7)[:, None]
    fps, _ = find_fixed_points(BISTABLE, x, u)
    assert same_set(fps.xstar, every_point(2))


@pytest.mark.slow
def test_very_many_inputs_take_no_more_memory_than_their_points():
    n = 4096
    u = np.repeat(np.linspace(-0.05, 0.05, n // 4, dtype=np.float32), 4)[:, None]
    x = np.tile(np.float32([-0.95, 0.95]), n // 2)[:, None]
    tracemalloc.start()
    fps, _ = find_fixed_points(BISTABLE, x, u, tol_unique=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fps.n == 3 * n // 4
    assert peak < 100e6  # all pairs of 2,048 points would be 2 million


@pytest.mark.slow
def test_the_order_of_the_rows_plays_no_part():
    rng = np.random.default_rng(0)
    F = Tanh(jnp.float32(1.8 * np.eye(3) + 0.1 * rng.normal(size=(3, 3))), jnp.zeros(3))
    x, none = F.settled(rng.uniform(-1, 1, (64, 3))), np.zeros(0, np.float32)

    def new_points(x):
        fps, _ = find_fixed_points(F, x, none)
        return np.asarray(fps.xstar)[np.asarray(fps.hits) == 0]

    there = new_points(x)
    assert len(there) > 10
    for _ in range(3):
        np.testing.assert_allclose(new_points(x[rng.permutation(64)]), there, atol=1e-5)


@pytest.mark.slow
def test_points_that_rows_led_to_make_no_room_for_others():
    rng = np.random.default_rng(187)
    F = Tanh(jnp.float32(rng.normal(0, 1, (10, 10))), jnp.float32(rng.normal(0, 0.3, 10)))
    x, none = F.settled(rng.uniform(-1, 1, (64, 10))), np.zeros(0, np.float32)
    at_most = partial(find_fixed_points, F, x, none, outlier_distance_scale=None)
    fps, _ = at_most()
    q, new = np.asarray(fps.qstar), np.asarray(fps.hits) == 0
    assert q[new].min() < q[~new].max()  # or this would say nothing
    fps, _ = at_most(max_n_unique=int(np.sum(~new)))
    assert fps.n == np.sum(~new) and (np.asarray(fps.hits) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_states_of_any_size(size):
    def F(x, u):
        return size * jnp.tanh(SLOPE / size * x) + 0 * u

    x = starts_at(corners(2), 32) * np.float32(size)
    fps, _ = find_fixed_points(F, x, NO_INPUT, tol_unique=1e-3 * size, final_q_threshold=None)
    assert same_set(np.asarray(fps.xstar) / size, every_point(2))


@pytest.mark.slow
def test_float64():
    with jax.enable_x64(True):
        x = starts_at(corners(2), 32).astype(np.float64)
        fps, _ = find_fixed_points(BISTABLE, x, np.zeros(1))
        assert np.asarray(fps.xstar).dtype == np.float64
        assert same_set(fps.xstar, every_point(2), tol=1e-6)


@pytest.mark.slow
def test_a_network_that_is_not_finite_between_its_attractors():
    def F(x, u):
        far = jnp.abs(x[0]) > 0.5
        return jnp.where(far, jnp.tanh(SLOPE * x), jnp.nan) + 0 * u

    fps, _ = find_fixed_points(F, starts_at(corners(2), 32), NO_INPUT)
    assert np.isfinite(fps.xstar).all()
    # The saddles at which the second unit is 0 are where the network is defined.
    assert same_set(fps.xstar, [p for p in every_point(2) if p[0] != 0])


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "solver",
    [slowpoints.NewtonKrylov(), slowpoints.LevenbergMarquardt(), slowpoints.BoundedNewton()],
)
def test_with_other_solvers(solver):
    fps, _ = find_fixed_points(BISTABLE, starts_at(corners(2), 32), NO_INPUT, solver=solver)
    assert same_set(fps.xstar, every_point(2))


def test_the_finder_and_its_account():
    finder = slowpoints.FixedPointFinder(BISTABLE, verbose=False)
    fps, all_fps = finder.find_fixed_points(starts_at(corners(2), 64), NO_INPUT[None])
    assert same_set(fps.xstar, every_point(2))
    told = str(slowpoints.account(fps, all_fps))
    assert "5 further fixed points were found from states between others" in told
    assert "sum to 1" in told
    # The estimate is about starts alone.
    assert slowpoints.coverage(fps).n_found == 4
    finder = slowpoints.FixedPointFinder(BISTABLE, verbose=False, search_between=False)
    fps, all_fps = finder.find_fixed_points(starts_at(corners(2), 64), NO_INPUT[None])
    assert same_set(fps.xstar, corners(2))
    assert "between others" not in str(slowpoints.account(fps, all_fps))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["tanh", "gru"])
def test_flip_flop_from_states_without_noise(cell):
    case = networks.case(cell)
    visited = case["traj"].reshape(-1, case["traj"].shape[-1])
    x = np.float32(visited[np.random.default_rng(0).choice(len(visited), 128)])
    F, u = networks.trained(cell), np.zeros(3, np.float32)
    at_rest, _ = find_fixed_points(F, x, u, search_between=False)
    fps, _ = find_fixed_points(F, x, u)
    assert at_rest.n == 8 and fps.n == 27


@pytest.mark.slow
def test_what_is_found_in_random_networks_is_there():
    n_before = n_after = n_proven = 0
    for seed in range(12):
        # `find_all` proves which fixed points there are, by another method.
        rng = np.random.default_rng(seed)
        W, b = rng.normal(0, 2.5, (3, 3)), rng.normal(0, 0.3, 3)
        F = Tanh(jnp.float32(W), jnp.float32(b))
        box = -np.ones(3, np.float32), np.ones(3, np.float32)
        proven, complete = slowpoints.find_all(F, box, np.zeros(0, np.float32))
        assert complete
        x, u = F.settled(rng.uniform(-1, 1, (64, 3))), np.zeros(0, np.float32)
        options = {"outlier_distance_scale": None, "final_q_threshold": None}
        before, _ = find_fixed_points(F, x, u, search_between=False, **options)
        fps, _ = find_fixed_points(F, x, u, **options)
        before, fps = (p[np.asarray(p.status) == Status.FIXED_POINT] for p in (before, fps))
        apart = np.linalg.norm(np.asarray(fps.xstar)[:, None] - np.asarray(proven.xstar), axis=-1)
        assert (apart.min(axis=1) < 1e-3).all()
        n_before, n_after, n_proven = n_before + before.n, n_after + fps.n, n_proven + proven.n
    # 22, 30 and 30.
    assert n_before < 0.8 * n_proven
    assert n_after > 0.95 * n_proven


class Tanh(eqx.Module):
    """A network of tanh units without inputs."""

    W: jax.Array
    b: jax.Array

    def __call__(self, x, u):
        return jnp.tanh(self.W @ x + self.b)

    def settled(self, x):
        for _ in range(200):
            x = np.tanh(x @ np.asarray(self.W).T + np.asarray(self.b))
        return np.float32(x)
