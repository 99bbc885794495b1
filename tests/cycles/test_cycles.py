"""`iterate` and `cycles` on maps whose cycles are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import LSTMNet, henon, logistic, trained

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    LevenbergMarquardt,
    Transition,
    as_transition,
    cycles,
    find_fixed_points,
    iterate,
    optimize_batch,
)

NO_INPUT = np.zeros(0, np.float32)


def search(F, k, starts, **settings):
    """Return the points of `k`-cycles with their periods, NumPy-backed."""
    starts = np.asarray(starts, np.float32)
    fps, _ = find_fixed_points(iterate(F, k), starts, NO_INPUT, mesh=None, **settings)
    return cycles(F, fps, k).to_numpy()


def uniform(n, low, high):
    return np.random.default_rng(0).uniform(low, high, n)


def sizes(fps):
    """Return the sorted (period, number of points) of the cycles found."""
    return sorted(
        (int(fps.period[rows][0]), int(rows.sum()))
        for rows in (fps.cycle_id == number for number in np.unique(fps.cycle_id))
    )


# ---- several steps as one ----------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_iterating_is_stepping_several_times(k):
    F, u = trained("lstm"), jnp.array([1.0, 0.0, -1.0])
    x = expected = jnp.asarray(np.random.default_rng(0).normal(size=32).astype(np.float32))
    for _ in range(k):
        expected = F(expected, u)
    np.testing.assert_allclose(iterate(F, k)(x, u), expected, atol=1e-6)


def test_the_network_stands_once_in_the_program_of_several_steps():
    F = iterate(lambda x, u: jnp.tanh(x + u), 5)
    x = jnp.zeros(2)
    assert str(jax.make_jaxpr(lambda x: F(x, x))(x)).count("tanh") == 1


def test_steps_may_be_in_another_precision_than_the_first_state():
    x = jnp.array([0.3, -1.2])
    F = iterate(lambda x, u: jnp.tanh(x + u).astype(jnp.bfloat16), 3)
    y = x
    for _ in range(3):
        y = jnp.tanh(y + x).astype(jnp.bfloat16)
    assert F(x, x).dtype == jnp.bfloat16 and np.array_equal(F(x, x), y)


def test_the_model_stays_what_it_is():
    F = trained("lstm")
    assert isinstance(F, LSTMNet)
    assert len(jax.tree.leaves(iterate(F, 3))) == len(jax.tree.leaves(F))
    cell = as_transition(
        lambda state, u: {"h": -state["h"]}, example_state={"h": np.zeros(2, np.float32)}
    )
    twice = iterate(cell, 2)
    assert twice.n_states == 2 and twice.unflatten(np.ones((5, 2)))["h"].shape == (5, 2)
    np.testing.assert_array_equal(twice.flatten({"h": np.ones(2)}), np.ones(2))


@pytest.mark.checks_input
@pytest.mark.parametrize("function", [iterate, lambda F, k: cycles(F, points_of([0.5]), k)])
def test_wrong_numbers_of_steps_are_named(function):
    for k, error in ((0, ValueError), (-2, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="`k`"):
            function(logistic(3.2), k)
    with pytest.raises(TypeError, match="continuous"):
        function(ContinuousTime(lambda x, u: -x), 2)


# ---- the logistic map --------------------------------------------------------------------------


VISITED = np.sin(np.linspace(0.01, np.pi / 2 - 0.01, 1000))[:, None] ** 2
"""States as the map with `r = 4` visits them: most near 0 and 1."""


@pytest.mark.slow
def test_the_two_cycle_of_the_logistic_map():
    """Its points are `(r + 1 +- sqrt((r - 3) (r + 1))) / 2 r`, its multiplier `4 + 2 r - r^2`.

    Searched for as a cycle of six steps, which go around it three times.
    """
    r = 3.2
    fps = search(logistic(r), 6, VISITED)
    root = np.sqrt((r - 3) * (r + 1))
    expected = np.sort([0, 1 - 1 / r, (r + 1 - root) / (2 * r), (r + 1 + root) / (2 * r)])
    order = np.argsort(fps.xstar[:, 0])
    np.testing.assert_allclose(fps.xstar[order, 0], expected, atol=1e-6)
    assert fps.period[order].tolist() == [1, 2, 1, 2]
    assert sizes(fps) == [(1, 1), (1, 1), (2, 2)]
    multipliers = fps.eigval_J_xstar[order, 0].real
    two = (4 + 2 * r - r**2) ** 3
    np.testing.assert_allclose(multipliers, [r**6, two, (2 - r) ** 6, two], rtol=1e-3)
    assert fps.is_stable[order].tolist() == [False, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "expected"),
    [
        pytest.param(3, {1: 2, 3: 2}, marks=pytest.mark.slow),
        pytest.param(4, {1: 2, 2: 1, 4: 3}, marks=pytest.mark.slow),
        (6, {1: 2, 2: 1, 3: 2, 6: 9}),
    ],
)
def test_all_cycles_of_the_logistic_map_at_4(k, expected):
    """`sin^2(pi t / (2^k - 1))` and `sin^2(pi t / (2^k + 1))`; cycles are counted as necklaces."""
    fps = search(logistic(4.0), k, VISITED, tol_unique=2e-5)  # two are 4e-5 apart
    t = np.arange(2 ** (k - 1))
    points = np.concatenate([t / (2**k - 1), t[1:] / (2**k + 1), [2 ** (k - 1) / (2**k + 1)]])
    exact = np.sort(np.sin(np.pi * points) ** 2)
    assert len(exact) == 2**k
    np.testing.assert_allclose(np.sort(fps.xstar[:, 0]), exact, atol=1e-5)
    found = sizes(fps)
    assert all(period == size for period, size in found)
    assert {d: sum(period == d for period, _ in found) for d in expected} == expected
    assert len(found) == sum(expected.values())


# ---- the Hénon map -----------------------------------------------------------------------------


# Besides its two fixed points it has, up to period 6, one cycle of 2, one of 4 and two of 6 (Biham
# & Wenzel 1989; one of the fixed points is not on the attractor).


@pytest.mark.slow
def test_the_cycles_of_the_henon_map():
    """The sum and the product of the 2-cycle's `x` follow from `(1 - b) x1 = 1 - a x2^2`."""
    a, b = 1.4, 0.3
    starts = uniform((1000, 2), -1.5, 1.5)
    fps = search(henon(a, b), 4, starts, outlier_distance_scale=None)
    assert sizes(fps) == [(1, 1), (1, 1), (2, 2), (4, 4)]
    total = (1 - b) / a
    product = (total**2 - (2 - (1 - b) * total) / a) / 2
    x = np.sort(np.roots([1, -total, product]).real)
    two = fps[fps.period == 2]
    order = np.argsort(two.xstar[:, 0])
    np.testing.assert_allclose(two.xstar[order], np.stack([x, b * x[::-1]], 1), atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_longer_cycles_of_the_henon_map():
    starts = uniform((1000, 2), -1.5, 1.5)
    fps = search(henon(), 6, starts, outlier_distance_scale=None)
    assert sizes(fps) == [(1, 1), (1, 1), (2, 2), (6, 6), (6, 6)]


# ---- telling and grouping ----------------------------------------------------------------------


def points_of(x, **fields):
    x = np.asarray(x, np.float32).reshape(len(x), -1)
    return FixedPoints(**({"xstar": x, "inputs": np.zeros((len(x), 1), np.float32)} | fields))


def turn(x, u):
    """Turn by a quarter: the origin is fixed, and all other points are on 4-cycles."""
    return jnp.stack([-x[1], x[0]])


CORNERS = [[1, 0], [0, 1], [-1, 0], [0, -1]]


def test_points_are_grouped_in_the_order_of_their_first_rows():
    x = [[2, 0], *CORNERS, [0, 0], [0, 2]]
    done = cycles(turn, points_of(x), 4)
    assert done.period.tolist() == [4, 4, 4, 4, 4, 1, 4]
    assert done.cycle_id.tolist() == [0, 1, 1, 1, 1, 2, 0]


def test_points_under_different_inputs_are_on_different_cycles():
    u = np.float32([[0], [1e-5], [0], [1e-5]])
    done = cycles(turn, points_of(CORNERS, inputs=u), 4)
    assert done.cycle_id.tolist() == [0, 1, 0, 1]


def test_a_multiple_of_the_period_changes_nothing():
    done = cycles(turn, points_of([*CORNERS, [0, 0]]), 12)
    assert done.period.tolist() == [4, 4, 4, 4, 1] and done.cycle_id.tolist() == [0, 0, 0, 0, 1]


def test_rows_that_do_not_return_are_on_no_cycle():
    done = cycles(turn, points_of([*CORNERS, [0, 0], [np.nan, 0]]), 2)
    assert done.period.tolist() == [0, 0, 0, 0, 1, 0]
    assert done.cycle_id.tolist() == [-1, -1, -1, -1, 0, -1]


def test_invalid_rows_are_on_no_cycle_and_link_none():
    valid = np.array([False, True, True, True])
    done = cycles(turn, points_of(CORNERS, valid=valid), 4)
    assert done.period.tolist() == [0, 4, 4, 4] and done.cycle_id.tolist() == [-1, 0, 0, 0]


def test_the_tolerance_is_that_of_the_points_unless_given():
    fps = points_of([[1e-4, 0], [1, 0]], tol_unique=1e-3)
    assert cycles(turn, fps, 4).period.tolist() == [1, 4]
    assert cycles(turn, fps, 4, tol=1e-5).period.tolist() == [4, 4]


def test_points_may_be_missing():
    done = cycles(turn, points_of([CORNERS[0], CORNERS[2]]), 4)
    assert done.period.tolist() == [4, 4] and done.cycle_id.tolist() == [0, 0]


def test_no_rows_are_no_cycles():
    done = cycles(turn, FixedPoints(xstar=np.zeros((0, 2)), inputs=np.zeros((0, 1))), 4)
    assert done.period.shape == done.cycle_id.shape == (0,)


@pytest.mark.slow
def test_inside_jit_and_vmap_all_is_the_same():
    fps = points_of([*CORNERS, [0, 0]])
    plain = cycles(turn, fps, 4)
    stack = jax.tree.map(lambda a: jnp.stack([jnp.asarray(a)] * 2), fps)
    jitted = jax.jit(jax.vmap(lambda fps: cycles(turn, fps, 4)))(stack)
    for name in ("period", "cycle_id"):
        np.testing.assert_array_equal(getattr(jitted, name), [getattr(plain, name)] * 2)


@pytest.mark.slow
def test_float64_points_are_followed_in_float64():
    """Whatever the global setting: the map doubles angles, and so errors, 30 times."""
    F = lambda x, u: (2 * x) % 1  # noqa: E731
    fps = points_of([1 / 3]).replace(xstar=np.array([[1 / 3]]), tol_unique=1e-4)
    assert cycles(F, fps, 30).period.tolist() == [2]


def test_points_and_inputs_are_needed():
    with pytest.raises(ValueError, match="inputs"):
        cycles(turn, FixedPoints(xstar=np.zeros((2, 2))), 2)
    with pytest.raises(ValueError, match="xstar"):
        cycles(turn, FixedPoints(inputs=np.zeros((2, 2))), 2)


@pytest.mark.slow
def test_the_summary_tells_periods(capsys):
    fps = search(logistic(3.2), 6, VISITED)
    fps.print_summary()
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "|eigenvalue|" in line)
    assert header.split()[:4] == ["row", "period", "cycle", "type"]


class Logistic(Transition):
    r: jax.Array

    def __call__(self, x, u):
        return self.r * x * (1 - x)


@pytest.mark.slow
def test_cycles_are_differentiable_in_the_parameters():
    """`x = (r + 1 + sqrt((r - 3) (r + 1))) / 2 r` for the upper point of the 2-cycle."""

    def upper(r):
        F = iterate(Logistic(r), 2)
        return optimize_batch(F, jnp.array([[0.8]]), NO_INPUT).xstar[0, 0]

    def exact(r):
        return (r + 1 + np.sqrt((r - 3) * (r + 1))) / (2 * r)

    slope = (exact(3.2 + 1e-6) - exact(3.2 - 1e-6)) / 2e-6
    assert float(jax.grad(upper)(3.2)) == pytest.approx(slope, rel=1e-4)


# ---- batches and derivatives -------------------------------------------------------------------

WEIGHTS = jnp.asarray([[1.2, -0.3], [0.3, 1.1]])
STARTS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)


def net(weights):
    return lambda x, u: jnp.tanh(weights @ x + u[:1])


def periods(weights):
    fps = optimize_batch(net(weights), STARTS, np.zeros((1, 1)), solver=LevenbergMarquardt())
    return cycles(net(weights), fps, 2)


@pytest.mark.slow
def test_a_batch_of_networks_has_the_periods_of_each():
    """Newton's method decides in float64, in a program that is otherwise in float32."""
    stack = jnp.stack([WEIGHTS, 0.5 * WEIGHTS])
    for batched in (jax.vmap(periods), jax.jit(jax.vmap(periods))):
        found = batched(stack).period
        for row, weights in zip(found, stack, strict=True):
            np.testing.assert_array_equal(row, periods(weights).period)


@pytest.mark.slow
def test_gradients_pass_through():
    def total(weights):
        return periods(weights).xstar.sum()

    step = 1e-2 * jnp.eye(2)
    expected = (total(WEIGHTS + step) - total(WEIGHTS - step)) / 2
    found = jnp.sum(jax.grad(total)(WEIGHTS) * step)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-4)


@pytest.mark.slow
def test_a_batch_of_maps_on_both_sides_of_a_fold_tells_cycles_from_slow_ones():
    """Two 3-cycles of the logistic map appear at 1 + sqrt(8), and below is a slow one."""

    def period(r, x):
        points = FixedPoints(xstar=x[None, None], inputs=jnp.zeros((1, 0)))
        return cycles(lambda x, u: r * x * (1 - x), points, 3, tol=1e-2).period[0]

    maps = jnp.asarray([3.835, 3.828]), jnp.asarray([0.167205, 0.159954])
    assert [int(period(r, x)) for r, x in zip(*maps, strict=True)] == [3, 0]
    assert jax.vmap(period)(*maps).tolist() == [3, 0]
    assert jax.jit(jax.vmap(period))(*maps).tolist() == [3, 0]


@pytest.mark.slow_cases
@pytest.mark.parametrize("unit", [2.0**-20, 1e-3, 1e3, 2.0**20])
def test_slow_cycles_are_told_from_cycles_in_all_units(unit):
    """Just before three cycles of three steps appear, and just behind that."""
    for r, expected in ((3.8284, 0), (3.8285, 3)):

        def F(x, u):
            y = x / unit
            return unit * r * y * (1 - y)  # noqa: B023

        x = np.full((1, 1), 0.51)
        for _ in range(3000 if expected else 0):
            x = r * x * (1 - x)
        with jax.enable_x64(True):
            fps = FixedPoints(xstar=unit * x, inputs=np.zeros((1, 0)), dtype=np.float64)
            assert cycles(F, fps, 3, tol=5e-3 * unit).period.tolist() == [expected]
