"""`find_cycles` against all cycles of piecewise-linear networks, enumerated region by region.

In each region of a network `A x + W relu(x) + h` (Durstewitz 2017) the map is affine, so a sequence
of `k` regions has one candidate for a `k`-cycle, which is one if its points lie in these regions
(Eisenmann et al. 2023).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import compilations, henon, logistic

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    LevenbergMarquardt,
    Status,
    Transition,
    cycles,
    find_cycles,
    find_fixed_points,
    iterate,
)

NO_INPUT = np.zeros(0, np.float32)

# From loops of states drawn at random many rows end on the way, which is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:find_fixed_points. Of")


class PiecewiseLinear(Transition):
    A: jax.Array
    W: jax.Array
    h: jax.Array

    def __call__(self, x, u):
        return self.A * x + self.W @ jax.nn.relu(x) + self.h


def network(n_states, scale, seed):
    rng = np.random.default_rng(seed)
    shape = (n_states, n_states)
    A, W, h = (
        rng.uniform(-0.9, 0.9, n_states),
        scale * rng.normal(size=shape),
        rng.normal(size=n_states),
    )
    return PiecewiseLinear(*(np.float32(a) for a in (A, W, h)))


def enumerate_cycles(F, k):
    """Return all fixed points of the `k`-th iterate, in float64."""
    A, W, h = (np.float64(a) for a in (F.A, F.W, F.h))
    eye = np.eye(len(h))
    signs = np.array(list(itertools.product([False, True], repeat=len(h))))
    found = []
    for regions in itertools.product(signs, repeat=k):
        M, c = eye, 0 * h
        for positive in regions:
            step = np.diag(A) + W * positive
            M, c = step @ M, step @ c + h
        x = first = np.linalg.solve(eye - M, c)
        for positive in regions:
            if ((x > 0) != positive).any():
                break
            x = A * x + W @ np.maximum(x, 0) + h
        else:
            found.append(first)
    return np.array(found).reshape(-1, len(h))


def starts(n, k, n_states):
    return 3 * np.random.default_rng(1).normal(size=(n, k, n_states)).astype(np.float32)


def search(F, k, n=2000, **settings):
    x_init = starts(n, k, F.h.size)
    settings = {"outlier_distance_scale": None, "tol_unique": 1e-4, "mesh": None} | settings
    return find_cycles(F, x_init, NO_INPUT, **settings).to_numpy()


def assert_the_same(x, expected):
    near = np.linalg.norm(expected[:, None] - x, axis=2) < 1e-4 * (1 + np.linalg.norm(x, axis=1))
    assert near.any(axis=1).all(), "some that there are were not found"
    assert near.any(axis=0).all(), "some that were found are none"
    assert len(x) == len(expected)


# Networks with many cycles, out of 60 of each kind.
FLAT = [
    (2, 2.5, 12, 22),
    pytest.param(2, 2.5, 23, 17, marks=pytest.mark.slow),
    pytest.param(2, 2.5, 19, 27, marks=pytest.mark.slow),
    pytest.param(2, 1.5, 40, 13, marks=pytest.mark.slow),
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("n_states", "scale", "seed", "n_points"), FLAT)
@pytest.mark.slow
def test_all_cycles_of_six_steps_are_found(n_states, scale, seed, n_points):
    F = network(n_states, scale, seed)
    expected = enumerate_cycles(F, 6)
    assert len(expected) == n_points
    fps = search(F, 6)
    assert_the_same(fps.xstar, expected)
    assert set(fps.period) <= {1, 2, 3, 6}
    for number in range(fps.cycle_id.max() + 1):
        cycle = fps[fps.cycle_id == number]
        assert cycle.n == cycle.period[0] and len(set(cycle.period)) == 1
        images = np.array([F(x, NO_INPUT) for x in cycle.xstar])
        assert_the_same(images, cycle.xstar)
    for period in (1, 2, 3):
        divided = enumerate_cycles(F, period)
        assert_the_same(fps.xstar[period % fps.period == 0], divided)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "scale", "n_points"), [(2, 2.5, 8), (40, 2.5, 4), (54, 1.5, 6)])
def test_all_fixed_points_and_two_cycles_in_three_dimensions_are_found(seed, scale, n_points):
    F = network(3, scale, seed)
    expected = enumerate_cycles(F, 2)
    assert len(expected) == n_points
    assert_the_same(search(F, 2, 500).xstar, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("n_states", "scale", "seed", "n_points"), FLAT)
def test_the_second_iterate_has_them_too(n_states, scale, seed, n_points):
    F = network(n_states, scale, seed)
    x_init = starts(500, 1, n_states)[:, 0]
    fps, _ = find_fixed_points(
        iterate(F, 2),
        x_init,
        NO_INPUT,
        outlier_distance_scale=None,
        tol_unique=1e-4,
        mesh=None,
    )
    assert_the_same(np.asarray(fps.xstar), enumerate_cycles(F, 2))


@pytest.mark.one_in(8)
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")  # some have none
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_states", "k"), [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 1), (3, 2), (3, 3)]
)
def test_all_cycles_of_random_networks_are_found(n_states, k):
    for seed in range(10):
        F = network(n_states, 1.5, seed)
        fps = search(F, k, tol_unique=1e-3)  # some points are so large that float32 needs it
        assert_the_same(fps.xstar, enumerate_cycles(F, k))


# ---- what comes with the points ----------------------------------------------------------------


@pytest.mark.slow
def test_multipliers_are_those_of_all_steps_of_the_cycle():
    F = network(2, 2.5, 12)
    fps = search(F, 6)
    for x, J, values in zip(fps.xstar, fps.J_xstar, fps.eigval_J_xstar, strict=True):
        product = np.eye(2)
        for _ in range(6):
            product = (np.diag(F.A) + F.W * (x > 0)) @ product
            x = np.asarray(F(x, NO_INPUT))
        np.testing.assert_allclose(J, product, rtol=1e-3, atol=1e-3)
        assert np.prod(values).real == pytest.approx(np.linalg.det(product), rel=1e-2, abs=1e-2)
    np.testing.assert_allclose(fps.F_xstar, fps.xstar, atol=1e-3)


@pytest.mark.slow
def test_condition_numbers_and_inputs_come_with_every_point():
    """Under the input `u` the map `u - x` has the fixed point `u / 2`, and else 2-cycles only."""
    labels = np.array(["a", "b", "a", "b"])
    u = np.float32([[1], [2], [1], [2]])
    x_init = np.float32([[0.1, 0.9], [0.3, 1.7], [0.1, 0.9], [1.0, 1.0]])[:, :, None]
    settings = {"cond_id": labels, "compute_jacobians": False, "mesh": None}
    fps = find_cycles(lambda x, u: u - x, x_init, u, **settings).to_numpy()
    order = np.argsort(fps.xstar[:, 0])
    np.testing.assert_allclose(fps.xstar[order, 0], [0.1, 0.3, 0.9, 1, 1.7], atol=1e-6)
    assert fps.cond_id[order].tolist() == ["a", "b", "a", "b", "b"]
    assert fps.inputs[order, 0].tolist() == [1, 2, 1, 2, 2]
    assert fps.period[order].tolist() == [2, 2, 2, 1, 2]
    first, second, third = (fps.cycle_id[order][i] for i in (0, 1, 3))
    assert fps.cycle_id[order].tolist() == [first, second, first, third, second]
    assert sorted((first, second, third)) == [0, 1, 2]


@pytest.mark.slow
def test_inside_jit_the_valid_rows_are_those_of_a_plain_call():
    F, x_init = network(2, 2.5, 12), starts(200, 2, 2)

    def find(x_init):
        return find_cycles(F, x_init, NO_INPUT, tol_unique=1e-4, mesh=None, max_n_unique=16)

    inside = jax.jit(find)(x_init)
    assert inside.n == 32
    plain, inside = find(x_init), inside.compact()
    assert_the_same(np.asarray(inside.xstar), np.asarray(plain.xstar))
    assert sorted(inside.period.tolist()) == sorted(plain.period.tolist()) == [1, 1, 2, 2]


@pytest.mark.slow
def test_the_cycles_of_the_henon_map():
    """See `test_cycles.py`: besides the fixed points and a 2-cycle, one of 4."""
    x_init = np.random.default_rng(0).uniform(-1.5, 1.5, (500, 4, 2)).astype(np.float32)
    fps = find_cycles(henon(), x_init, NO_INPUT, outlier_distance_scale=None, mesh=None)
    assert sorted(fps.period.tolist()) == [1, 1, 2, 2, 4, 4, 4, 4]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_a_threshold_that_nothing_meets_leaves_no_points():
    fps = search(network(2, 2.5, 12), 6, final_q_threshold=1e-38, max_iters=1)
    assert fps.n == 0 and fps.period.shape == (0,) and fps.J_xstar.shape == (0, 2, 2)


# ---- cycles that lie close together, and those that are none -----------------------------------

WINDOW = 1 + np.sqrt(8)
"""Where the logistic map's two 3-cycles appear, a stable one and an unstable one, in a fold."""


def search_logistic(r, k, n=1000, **settings):
    x_init = np.random.default_rng(0).uniform(0, 1, (n, k, 1)).astype(np.float32)
    return find_cycles(logistic(r), x_init, NO_INPUT, mesh=None, **settings).to_numpy()


def cycles_by_period(fps):
    """Return how many cycles there are of which period, and check that each has all its points."""
    count = {}
    for number in range(fps.cycle_id.max() + 1):
        periods = fps.period[fps.cycle_id == number]
        assert len(periods) == periods[0] and len(set(periods)) == 1
        count[int(periods[0])] = count.get(int(periods[0]), 0) + 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize("r", [3.8285, 3.829])
def test_two_cycles_just_past_their_fold_are_two(r):
    """At 3.8285 their points are as close as 9e-4, and the cycles as wholes 0.008 apart."""
    fps = search_logistic(r, 3)
    assert cycles_by_period(fps) == {1: 2, 3: 2} and fps.n == 8
    three = fps[fps.period == 3]
    stable = [three.is_stable[three.cycle_id == number] for number in set(three.cycle_id)]
    assert sorted(rows.tolist() for rows in stable) == [[False] * 3, [True] * 3]
    for number in set(three.cycle_id):  # the points come in their order along the cycle
        x = three.xstar[three.cycle_id == number, 0]
        np.testing.assert_allclose(r * x * (1 - x), np.roll(x, -1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("below", [3e-6, 3e-5])
def test_just_before_the_fold_there_is_a_slow_cycle_that_says_so(below, capsys):
    fps = search_logistic(WINDOW - below, 3)
    assert cycles_by_period(fps) == {1: 2}
    slow = fps[fps.period == 0]
    assert slow.n == 3 and set(slow.cycle_id) == {-1} and slow.qstar.max() < 1e-8
    assert set(np.asarray(slow.status)) == {Status.SLOW_POINT}
    assert set(np.asarray(fps.status)[np.asarray(fps.period) > 0]) == {Status.FIXED_POINT}
    fps.print_summary()
    assert "slow cycle at most (period 0): 3\n" in capsys.readouterr().out


@pytest.mark.slow
def test_as_points_of_three_steps_the_slow_ones_are_on_no_cycle_either():
    x = np.random.default_rng(0).uniform(0, 1, (500, 1)).astype(np.float32)
    for r, periods in ((WINDOW - 3e-5, {0, 1}), (3.8285, {1, 3})):
        F = logistic(r)
        fps, _ = find_fixed_points(iterate(F, 3), x, NO_INPUT, mesh=None)
        done = cycles(F, fps, 3).to_numpy()
        assert set(done.period) == periods
        assert ((done.cycle_id == -1) == (done.period == 0)).all()
    # Of the two cycles some points are too close for this search, but none is on the other's.
    assert sorted(np.bincount(done.cycle_id[done.period == 3])[-2:]) in ([2, 3], [3, 3])


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "expected"),
    [
        pytest.param(1, {1: 2}, marks=pytest.mark.slow),
        pytest.param(2, {1: 2, 2: 1}, marks=pytest.mark.slow),
        pytest.param(3, {1: 2, 3: 2}, marks=pytest.mark.slow),
        pytest.param(4, {1: 2, 2: 1, 4: 3}, marks=pytest.mark.slow),
        pytest.param(5, {1: 2, 5: 6}, marks=pytest.mark.slow),
        (6, {1: 2, 2: 1, 3: 2, 6: 9}),
    ],
)
def test_all_cycles_of_the_logistic_map_at_4(k, expected):
    """At the default tolerance, though some of their points are 4e-5 apart."""
    fps = search_logistic(4.0, k, n=4000)
    assert cycles_by_period(fps) == expected and fps.n == 2**k


@pytest.mark.slow
def test_two_loops_on_one_cycle_are_one_from_whichever_state_they_start():
    """And points that are near each other, of different cycles, are on their own."""
    corners = np.float32([[1, 0], [0, 1], [-1, 0], [0, -1]])
    loops = np.stack([corners, np.roll(corners, 1, axis=0), 1.0005 * corners, 1.01 * corners])
    turn = lambda x, u: jnp.stack([-x[1], x[0]])  # noqa: E731
    for tol, n_cycles in ((1e-4, 3), (5e-3, 2)):  # 0.0005 each makes 0.001 of four states
        fps = find_cycles(
            turn, loops, NO_INPUT, mesh=None, tol_unique=tol, compute_jacobians=False
        ).to_numpy()
        assert cycles_by_period(fps) == {4: n_cycles}


@pytest.mark.parametrize("m", [5, 12])
def test_where_all_states_are_on_cycles_they_count_as_cycles(m):
    """Of a rotation in float32, whose own rounding leaves it a little off a whole number."""
    angle = 2 * np.pi / m
    R = np.float32([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
    fps = FixedPoints(xstar=x, inputs=np.zeros((32, 0), np.float32))
    assert (cycles(lambda x, u: R @ x, fps, m).period == m).all()


@pytest.mark.slow
def test_a_map_that_computes_in_float32_only_has_its_cycles():
    def F(x, u):
        return (3.2 * x * (1 - x)).astype(jnp.float32)

    x_init = np.random.default_rng(0).uniform(0, 1, (64, 2, 1)).astype(np.float32)
    fps = find_cycles(F, x_init, NO_INPUT, mesh=None).to_numpy()
    assert cycles_by_period(fps) == {1: 2, 2: 1}


@pytest.mark.checks_input
def test_wrong_input_is_named():
    F = network(2, 1.5, 40)
    with pytest.raises(ValueError, match=r"`x_init` has shape \(5, 2\); expected \(n, k, n_states"):
        find_cycles(F, np.zeros((5, 2), np.float32), NO_INPUT)
    with pytest.raises(ValueError, match=r"`x_init` has shape \(5, 0, 2\); expected at least"):
        find_cycles(F, np.zeros((5, 0, 2), np.float32), NO_INPUT)
    with pytest.raises(TypeError, match="continuous"):
        find_cycles(ContinuousTime(F), np.zeros((5, 2, 2), np.float32), NO_INPUT)
    with pytest.raises(ValueError, match="cond_id"):
        find_cycles(F, np.zeros((5, 2, 2), np.float32), NO_INPUT, cond_id=jnp.zeros(3))


@pytest.mark.slow
def test_a_batch_of_networks_has_the_cycles_of_each():
    def found(weights):
        F = lambda x, u: jnp.tanh(weights @ x)  # noqa: E731
        x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 2, 2)
        fps = find_cycles(F, x, np.zeros((1, 1)), solver=LevenbergMarquardt(), mesh=None)
        return fps.period, fps.valid

    stack = jnp.asarray([[[1.2, -0.3], [0.3, 1.1]], [[-1.5, 0.0], [0.0, -1.4]]], jnp.float32)
    batched = jax.vmap(found)(stack)
    for k, weights in enumerate(stack):
        period, valid = (np.asarray(leaf[k]) for leaf in batched)
        alone, _ = found(weights)
        assert sorted(period[valid]) == sorted(np.asarray(alone))


@pytest.mark.slow
def test_cycles_are_chosen_without_programs_of_single_operations():
    """Each takes 20 to 50 ms to compile."""
    x = np.random.default_rng(0).uniform(0, 1, (30, 2, 1)).astype(np.float32)

    def compiled_for(n):
        with compilations() as compiled:
            find_cycles(lambda x, u: 3.2 * x * (1 - x), x[:n], np.zeros(0, np.float32), mesh=None)
        return len(compiled)

    # The search, which cycles to keep, where their points lead, and their Jacobians.
    assert compiled_for(30) <= 11
    assert compiled_for(25) == 0
