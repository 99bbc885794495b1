"""`find_all`: every fixed point in a box, and no claim that does not hold."""

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    GRUNet,
    TanhNet,
    case,
    double_well,
    henon,
    henon_points,
    in_float64,
    next_states,
    trained,
)

from slowpoints import ContinuousTime, FixedPoints, Status, Transition, certify, find_all
from slowpoints._proofs import piecewise_linear

unchecked = pytest.mark.checks_input
"""For tests of many networks: type checks at run time would take ten times as long as they do."""

NODE = 0.8585596366
"""Where `tanh(1.5 x)` is `x`, besides 0 and minus this."""

FOLDS = (0.124604013, 0.195975548, 0.295615473)
"""At these inputs two of `two_units`' fixed points meet."""


def uncoupled(x, u):
    return jnp.tanh(1.5 * x)


def two_units(x, u):
    W = 1.4 * jnp.eye(2) + 0.1
    return jnp.tanh(x @ W + jnp.concatenate([u, jnp.zeros(1)]))


def cube(n, low=-1.0, high=1.0):
    return np.full(n, low), np.full(n, high)


def all_of(F, box, u=None, **settings):
    """Return all fixed points in a box, which must be complete; each must be certified."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fps, is_all = find_all(F, box, u, **settings)
    assert is_all is True
    check(F, fps)
    return fps


def part_of(F, box, u=None, match="may not be all", **settings):
    """Return fixed points in a box that must not be complete; each must be certified."""
    with pytest.warns(UserWarning, match=f"find_all: .*{match}"):
        fps, is_all = find_all(F, box, u, **settings)
    assert is_all is False
    check(F, fps)
    return fps


def check(F, fps):
    """Check that every point is one, and none is there twice."""
    assert isinstance(fps, FixedPoints) and fps.dtype == np.float64
    for name in ("xstar", "F_xstar", "inputs", "qstar"):
        value = getattr(fps, name)
        assert isinstance(value, np.ndarray) and value.dtype == np.float64
    assert np.all(fps.status == Status.FIXED_POINT)
    assert np.all(fps.qstar < 1e-25)
    np.testing.assert_allclose(fps.qstar, 0.5 * np.sum((fps.xstar - fps.F_xstar) ** 2, axis=1))
    if fps.n:
        proven = certify(F, fps)
        assert proven.is_certified.all() and proven.is_unique.all()
        assert (proven.are_distinct() | np.eye(fps.n, dtype=bool)).all()


def assert_same_points(found, expected, atol=1e-9):
    """Compare two sets of distinct points, whatever their order."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if len(found):
        distance = np.abs(found[:, None] - expected).max(axis=-1)
        assert sorted(distance.argmin(axis=1)) == list(range(len(expected)))
        assert distance.min(axis=1).max() <= atol


# ---- networks whose points are known -----------------------------------------------------------


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_uncoupled_units_have_a_grid_of_points(n):
    """Zeros are on the planes where boxes are divided."""
    fps = all_of(uncoupled, cube(n))
    assert_same_points(fps.xstar, list(itertools.product([-NODE, 0.0, NODE], repeat=n)))


@pytest.mark.parametrize("distance", [1e-3, 1e-5])
@pytest.mark.parametrize(("fold", "before"), [(FOLDS[0], 9), (FOLDS[1], 7), (FOLDS[2], 5)])
@pytest.mark.slow
def test_points_vanish_in_pairs_at_folds(fold, before, distance):
    with jax.enable_x64(True):
        fps = all_of(two_units, cube(2), np.array([fold - distance]))
        assert fps.n == before
        W, drive = 1.4 * np.eye(2) + 0.1, np.array([fold - distance, 0.0])
        np.testing.assert_allclose(np.tanh(fps.xstar @ W + drive), fps.xstar, atol=1e-14)
        assert all_of(two_units, cube(2), np.array([fold + distance])).n == before - 2


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "n"), [("tanh_4", 27), ("tanh_6", 81)])
def test_trained_networks_have_exactly_the_points_that_are_known(cell, n):
    F = trained(cell)
    n_inputs, n_states = case(cell)["Wi"].shape[1:]
    fps = all_of(F, cube(n_states), np.zeros(n_inputs, np.float32))
    assert fps.n == n
    assert_same_points(fps.xstar, case(cell)["xstar"], atol=1e-6)
    # The weights are in float32; the points are those of the network in real arithmetic.
    assert np.abs(next_states(F, fps.xstar, fps.inputs) - fps.xstar).max() < 1e-14
    index = certify(F, fps).index
    np.testing.assert_array_equal(np.bincount(index), np.bincount(case(cell)["index"]))


@pytest.mark.slow
def test_other_kinds_of_maps_have_their_points():
    assert_same_points(all_of(henon(), cube(2, -2, 2)).xstar, henon_points(), atol=1e-6)
    fps = all_of(double_well(), cube(2, -3, 2.5))
    assert_same_points(fps.xstar, [[-1, 0], [0, 0], [1, 0]])
    flow = ContinuousTime(lambda x, u: jnp.tanh(1.5 * x) - x)
    assert_same_points(all_of(flow, cube(1)).xstar, [[-NODE], [0], [NODE]])


# ---- against other ways to find all points -----------------------------------------------------


@eqx.filter_jit
def newton(F, x, u):
    """Return where thirty steps of Newton's method lead, and how far the last one goes."""

    def step(x):
        J = jax.jacobian(F)(x, u) - jnp.eye(x.size)
        return jnp.linalg.solve(J, F(x, u) - x)

    x = jax.lax.fori_loop(0, 30, lambda _, x: x - jax.vmap(step)(x), x)
    return x, jnp.abs(jax.vmap(step)(x)).max(axis=1)


def roots_from_many_starts(F, n, u, low=-1.0, high=1.0, count=4000):
    """Return the distinct points in a box that Newton's method finds, in float64."""
    with jax.enable_x64(True):
        starts = np.random.default_rng(0).uniform(low, high, (count, n))
        x, off = map(np.asarray, newton(in_float64(F), jnp.asarray(starts), jnp.asarray(u)))
    roots = []
    for row in x[(off < 1e-12) & np.isfinite(x).all(axis=1)]:
        inside = np.all((row >= low) & (row <= high))
        if inside and all(np.abs(row - root).max() > 1e-7 for root in roots):
            roots.append(row)
    return np.array(roots).reshape(-1, n)


def random_network(cls, n, seed, scale):
    rng = np.random.default_rng(1000 * n + seed)
    gates = 3 if cls is GRUNet else 1
    Wi, Wh, b = (rng.standard_normal((gates, *s)) for s in ((1, n), (n, n), (n,)))
    Wh[-1] += np.eye(n)
    return cls(*(jnp.asarray(a, jnp.float32) for a in (Wi, scale * Wh, 0.3 * b)))


@pytest.mark.one_in(2)
@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("n", [2, 3, 4])
def test_random_tanh_networks_have_what_newtons_method_finds(n):
    n_points = []
    for seed in range(6):
        F, u = random_network(TanhNet, n, seed, 1.5), np.float64([0.1 * seed])
        fps = all_of(F, cube(n), np.float32(u))
        assert_same_points(fps.xstar, roots_from_many_starts(F, n, np.float32(u).astype(float)))
        n_points.append(fps.n)
    assert all(k % 2 for k in n_points) and max(n_points) >= 5 and min(n_points) <= 3


@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("n", [2, 3])
def test_random_gated_networks_have_what_newtons_method_finds(n):
    n_points = []
    for seed in range(3):
        F, u = random_network(GRUNet, n, seed, 2.0), np.zeros(1)
        fps = all_of(F, cube(n), np.float32(u))
        assert_same_points(fps.xstar, roots_from_many_starts(F, n, u))
        n_points.append(fps.n)
    assert all(k % 2 for k in n_points) and max(n_points) >= 3


def relu_network(W, b):
    return lambda x, u: jax.nn.relu(W @ x + b)


def roots_of_all_regions(W, b):
    """Return the fixed points of `relu(W x + b)`, from each of its `2^n` linear maps."""
    W, b, roots = W.astype(np.float64), b.astype(np.float64), []
    for mask in itertools.product([False, True], repeat=len(b)):
        active = np.array(mask)
        A = np.eye(len(b)) - np.where(active[:, None], W, 0)
        x = np.linalg.solve(A, np.where(active, b, 0))
        drive = W @ x + b
        assert np.abs(drive).min() > 1e-6  # none is at a kink
        if np.array_equal(drive > 0, active):
            roots.append(x)
    return np.array(roots).reshape(-1, len(b))


def check_relu(n, seed, W_of):
    rng = np.random.default_rng(100 * n + seed)
    W, b = (np.float32(a) for a in W_of(rng, n))
    roots = roots_of_all_regions(W, b)
    low, high = -1.0, 4.0
    assert np.abs(roots - high).min(initial=1) > 1e-6
    fps = all_of(relu_network(W, b), cube(n, low, high))
    expected = roots[(roots <= high).all(axis=1)]
    assert_same_points(fps.xstar, expected)
    return fps.n


def random_relu(rng, n):
    return 1.2 * rng.standard_normal((n, n)), rng.standard_normal(n)


def exciting_relu(rng, n):
    """Units that excite themselves: nearly all `2^n` regions have a point."""
    return 1.5 * np.eye(n) + 0.05 * rng.standard_normal((n, n)), -0.5 + 0.1 * rng.random(n)


@unchecked
@pytest.mark.parametrize("n", [3, 4, 5, 6])
@pytest.mark.slow
def test_piecewise_linear_networks_have_the_points_of_all_their_regions(n):
    assert sum(check_relu(n, seed, random_relu) for seed in range(6)) >= 3
    assert check_relu(n, 0, exciting_relu) >= 2 ** (n - 1)


@unchecked
@pytest.mark.slow
def test_larger_piecewise_linear_networks_have_the_points_of_all_their_regions():
    assert sum(check_relu(8, seed, random_relu) for seed in range(8)) >= 3
    assert check_relu(8, 0, exciting_relu) >= 2**7


# ---- boxes -------------------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("low", "high", "n"),
    [
        ([0.5, 0.5], [1, 1], 1),
        ([-0.3, -1], [1, 0.7], 4),
        ([0.1, -1], [0.7, 1], 0),
        ([-0.9, -0.9], [0.9, 0.9], 9),
        ([-0.8585, -1], [0.8585, 1], 3),
        ([-0.8586, -1], [0.8586, 1], 9),
        ([-100, -1], [1000, 1], 9),
        ([0.0, 0.0], [1, 1], 4),  # points are exactly on its edges
        ([-1, -0.5], [0, 0.0], 2),
        ([0.0, -1], [0.0, 1], 3),  # flat
        ([0.0, 0.0], [0.0, 0.0], 1),
        ([0.1, -1], [0.1, 1], 0),
    ],
)
def test_only_the_points_in_the_box_are_returned(low, high, n):
    grid = np.array(list(itertools.product([-NODE, 0.0, NODE], repeat=2)))
    inside = grid[((grid >= low) & (grid <= high)).all(axis=1)]
    assert len(inside) == n
    assert_same_points(all_of(uncoupled, (np.array(low), np.array(high))).xstar, inside)


@pytest.mark.slow
def test_points_on_the_edges_between_boxes_and_at_corners_are_there_once():
    halves = [-1.0, -0.5, 0.0, 0.5, 1.0]
    well = lambda x, u: x - x * (x**2 - 0.25) * (x**2 - 1) / 2  # noqa: E731
    assert_same_points(all_of(well, cube(1)).xstar, np.array(halves)[:, None])
    fps = all_of(well, cube(2))
    assert_same_points(fps.xstar, list(itertools.product(halves, repeat=2)))


@pytest.mark.slow
@pytest.mark.checks_input
def test_ends_of_the_box_may_be_lists_whole_numbers_and_numbers():
    expected = all_of(uncoupled, cube(2)).xstar
    for box in (([-1, -1], [1, 1]), (-1, [1, 1]), [np.float32([-1, -1]), 1.0]):
        np.testing.assert_array_equal(all_of(uncoupled, box).xstar, expected)

    class Sized(Transition):
        n_states = 2
        n_inputs = 1

        def __call__(self, x, u):
            return jnp.tanh(1.5 * x + u)

    np.testing.assert_array_equal(all_of(Sized(), (-1, 1)).xstar, expected)
    assert all_of(Sized(), (-1, 1)).inputs.tolist() == [[0.0]] * 9


def test_edges_of_the_box_are_not_rounded_to_float32():
    F = lambda x, u: 0.5 * x + 0.5 * u  # noqa: E731
    point = np.float64(np.float32(0.1))
    for low, n in ((point, 1), (point - 1e-12, 1), (point + 1e-12, 0)):
        assert all_of(F, (np.array([low]), np.array([1.0])), np.float32([0.1])).n == n


# ---- no point, and points that are close -------------------------------------------------------


@pytest.mark.slow
def test_a_map_without_fixed_points_is_complete():
    fps = all_of(lambda x, u: x + 1e-3, cube(1))
    assert fps.n == 0 and fps.xstar.shape == (0, 1) and fps.inputs.shape == (0, 0)
    assert all_of(lambda x, u: x + 0.1, cube(2)).n == 0
    assert all_of(lambda x, u: x + 1 + x**2, cube(3, -2, 2)).n == 0


@pytest.mark.slow_cases
@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-7, 1e-8])
def test_points_that_are_close_are_both_found(distance):
    with jax.enable_x64(True):
        two = lambda x, u: x + 10 * (x**2 - distance**2 / 4)  # noqa: E731
        x = np.sort(all_of(two, cube(1)).xstar[:, 0])
    np.testing.assert_allclose(x, [-distance / 2, distance / 2], rtol=1e-6)
    assert x.size == 2


def test_points_that_are_too_close_are_not_claimed_to_be_none():
    with jax.enable_x64(True):
        fps = part_of(lambda x, u: x + 10 * (x**2 - 1e-28), cube(1), match="too small")
    assert fps.n <= 2


@pytest.mark.slow_cases
@pytest.mark.parametrize("u", [-1e-6, 0.0, 1e-6])
def test_a_fold_is_decided_on_both_sides_and_open_at_it(u):
    F = lambda x, u: x + x**2 + u  # noqa: E731
    if u == 0:
        part_of(F, cube(1), np.zeros(1), match="I - J is singular there, as at a fold")
    else:
        assert all_of(F, cube(1), np.array([u])).n == (2 if u < 0 else 0)


# ---- what cannot be complete -------------------------------------------------------------------


def test_a_line_of_fixed_points_is_not_complete():
    line = lambda x, u: jnp.array([1.0, 0.5]) * x  # noqa: E731
    fps = part_of(line, cube(2), match="boxes were looked at", max_boxes=2000)
    assert fps.n == 0
    fps = part_of(lambda x, u: 1.0 * x, cube(1), max_boxes=2000)
    assert fps.n == 0


@pytest.mark.parametrize("n", [1, 2])
def test_the_identity_is_not_complete(n):
    assert part_of(lambda x, u: x, cube(n), max_boxes=2000).n == 0


def test_lines_in_tiny_boxes_are_given_up_and_said_to_be_singular():
    line = lambda x, u: jnp.array([1.0, 0.5]) * x  # noqa: E731
    box = np.array([0.25, -1.0]), np.array([0.25, 1.0])
    fps = part_of(line, box, match=r"states such as \[.*too small to be divided.*line of fixed")
    assert fps.n == 0


@pytest.mark.slow
@pytest.mark.parametrize("max_boxes", [1, 10, 64])
def test_too_few_boxes_are_not_complete(max_boxes):
    box, u = cube(4), np.zeros(3, np.float32)
    match = r"`max_boxes` boxes were looked at, and \d+, .* % of the whole, were not"
    assert part_of(trained("tanh_4"), box, u, match=match, max_boxes=max_boxes).n < 27
    assert all_of(trained("tanh_4"), box, u, max_boxes=np.inf).n == 27


@pytest.mark.slow
@unchecked
def test_points_that_were_found_before_the_boxes_ran_out_are_right():
    u = np.zeros(4, np.float32)
    counts = []
    for most in (500, 1000, 1500):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fps, is_all = find_all(trained("tanh_6"), cube(6), u, max_boxes=most)
        check(trained("tanh_6"), fps)
        distance = np.abs(fps.xstar[:, None] - case("tanh_6")["xstar"]).max(axis=-1)
        assert distance.min(axis=1).max(initial=0) < 1e-6
        assert is_all == (fps.n == 81)
        counts.append(fps.n)
    assert sorted(counts) == counts


def jump(at, left, right):
    """Return a map that is `left` of `0.5 x` up to a place, and `right` of it beyond."""
    return lambda x, u: jnp.where(x > at, 0.5 * x + right, 0.5 * x + left)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("F", "expected"),
    [
        (jump(0.0, 1.0, -1.0), []),
        (jump(0.0, 1e-6, -1e-6), []),  # it would be on the other side, just beyond
        (jump(0.0, -0.25, 0.25), [-0.5, 0.5]),
        (jump(0.125, -0.375, 0.375), [-0.75, 0.75]),
    ],
    ids=["none", "trap", "two", "shifted"],
)
def test_a_jump_across_the_diagonal_is_open(F, expected):
    assert_same_points(part_of(F, cube(1)).xstar, np.array(expected).reshape(-1, 1))


@pytest.mark.slow
def test_a_jump_elsewhere_does_not_matter():
    assert_same_points(all_of(jump(0.25, 0.0, -0.75), cube(1)).xstar, [[0.0]])
    assert_same_points(all_of(jump(0.0, 0.25, 0.375), cube(1)).xstar, [[0.75]])


@pytest.mark.slow
def test_a_fixed_point_at_a_jump_or_a_kink_is_not_claimed_to_be_missing():
    at_the_jump = lambda x, u: jnp.where(x >= 0, 0.5 * x, 0.5 * x - 1)  # noqa: E731
    part_of(at_the_jump, cube(1))
    part_of(lambda x, u: 0.5 * jnp.sign(x), cube(1, -0.25, 0.25))
    part_of(lambda x, u: jax.nn.relu(2 * x), cube(1), match="kink")
    # Unless the slopes on both sides are such that it is the only one.
    assert_same_points(all_of(lambda x, u: jax.nn.relu(0.5 * x), cube(1)).xstar, [[0.0]])


# ---- where a network is no number, or takes numbers for others ---------------------------------


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.tanh(jnp.sqrt(x)),
        lambda x: jnp.tanh(jnp.log(x)),
        lambda x: jnp.tanh(jnp.power(x, 0.5)),
        lambda x: jax.nn.sigmoid(jnp.log1p(x - 1)),
        lambda x: jnp.sin(jnp.sqrt(x)),
        lambda x: jnp.sign(jnp.log(x)),
        lambda x: jnp.clip(jnp.sqrt(x), -1, 1),
        lambda x: jnp.maximum(jnp.sqrt(x), jnp.inf),
        lambda x: jnp.tanh(x * jnp.inf - jnp.inf * x),
    ],
    ids=["sqrt", "log", "pow", "log1p", "sin", "sign", "clip", "max", "infinities"],
)
def test_a_function_of_bounded_values_may_be_no_number(f):
    """The fixed point is -1/3, where `f` is NaN; there is none where it is a number."""
    F = lambda x, u: jnp.where(jnp.isnan(f(x)), 0.1 * x - 0.3, 0.1 * x)  # noqa: E731
    assert float(F(jnp.full(1, -1 / 3), None)[0]) == pytest.approx(-1 / 3)
    assert part_of(F, ([-1.0], [-0.05])).n == 0
    below_infinity = lambda x, u: jnp.where(f(x) <= jnp.inf, 0.1 * x, 0.1 * x - 0.3)  # noqa: E731
    assert part_of(below_infinity, ([-1.0], [-0.05])).n == 0


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("number", "kind", "is_taken_for"),
    [
        (300.0, "uint8", 255.0),
        (-5.0, "uint8", 0.0),
        (200.0, "int8", 127.0),
        (1e10, "int32", 2.0**31 - 1),
        (-1.5, "uint32", 0.0),
        (-1.5, "int8", -1.0),
        (1e20, "uint16", 2.0**16 - 1),
        (0.25, "bool", 1.0),
    ],
)
def test_whole_numbers_out_of_range_are_what_jax_makes_of_them(number, kind, is_taken_for):
    F = lambda x, u: 0.5 * x + u[0].astype(kind).astype(jnp.float32)  # noqa: E731
    at = F(jnp.zeros(1), jnp.float32([number]))[0]
    assert float(at) == pytest.approx(is_taken_for)
    fps = all_of(F, cube(1, -1e11, 1e11), np.float32([number]))
    np.testing.assert_allclose(fps.xstar, [[2 * is_taken_for]], rtol=1e-12, atol=1e-9)


def test_what_is_not_a_number_is_taken_for_zero():
    F = lambda x, u: 0.5 * x + (u[0] - jnp.inf + jnp.inf).astype(jnp.int8)  # noqa: E731
    G = lambda x, u: 0.5 * x + jnp.full(1, jnp.nan).astype(jnp.int8) + 1  # noqa: E731
    with pytest.raises(ValueError, match="whole numbers"):
        find_all(F, cube(1), np.float32([1.0]))
    assert_same_points(all_of(G, cube(1, -3, 3)).xstar, [[2.0]])


def test_arrays_are_read_in_the_order_that_the_program_says():
    """With the columns first, which `lax.reshape` can do by itself."""

    def F(x, u):
        pairs = x.reshape(1, 2) * jnp.array([[1.0], [2.0]])
        return 0.5 * x + 0.1 * jax.lax.reshape(pairs, (4,), (1, 0))[:2] + 1

    assert_same_points(all_of(F, cube(2, -9, 9)).xstar, [[2.5, 3.0]], atol=1e-6)
    # The second and the third state change places, so that this is far from a contraction.
    exchanged = lambda x: jax.lax.reshape(x.reshape(2, 2), (4,), (1, 0))  # noqa: E731
    fps = all_of(lambda x, u: jnp.tanh(3 * (x - exchanged(x))), cube(4))
    a = 1.0
    for _ in range(20):
        a = np.tanh(6 * a)
    assert_same_points(fps.xstar, [[0, 0, 0, 0], [0, a, -a, 0], [0, -a, a, 0]], atol=1e-9)


@pytest.mark.slow_cases
@pytest.mark.parametrize("case", [-7, 0, 1, 2, 9])
def test_a_case_that_there_is_not_is_the_first_or_the_last(case):
    F = lambda x, u: jax.lax.select_n(u.astype(int), 0.5 * x, 0.5 * x + 1, 0.5 * x + 2)  # noqa: E731
    fps = all_of(F, cube(1, -9, 9), np.float32([case]))
    assert_same_points(fps.xstar, 2 * (F(np.zeros(1, np.float32), np.float32([case])))[None])


# ---- arguments ---------------------------------------------------------------------------------


def test_an_operation_that_is_not_covered_is_named():
    with pytest.raises(ValueError, match="find_all: `F` has an operation, `erf_inv`, that proofs"):
        find_all(lambda x, u: jax.scipy.special.erfinv(0.5 * x), cube(1))


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("box", "kind", "match"),
    [
        ((-1.0, 1.0), ValueError, "the network does not say how many states"),
        (np.zeros((2, 1)), TypeError, "a pair"),
        ((np.zeros(1),), TypeError, "a pair"),
        (1.0, TypeError, "a pair"),
        ((np.zeros(1), np.ones(2)), ValueError, r"has shape \(1,\)"),
        ((np.zeros((1, 1)), np.ones(1)), ValueError, r"has shape \(1, 1\)"),
        ((np.zeros(1), np.array([np.nan])), ValueError, "finite"),
        ((np.array([-np.inf]), np.zeros(1)), ValueError, "finite"),
        ((-np.inf, np.zeros(1)), ValueError, "finite"),
        ((np.array([0.0, 1.0]), np.array([1.0, 0.5])), ValueError, "low <= high"),
        ((np.array(["a"]), np.ones(1)), TypeError, "box"),
        ((np.zeros(0), np.zeros(0)), ValueError, "find_all"),
    ],
)
def test_bad_boxes_are_refused(box, kind, match):
    with pytest.raises(kind, match=match):
        find_all(uncoupled, box)


@pytest.mark.checks_input
def test_other_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="int"):
        find_all(3, cube(1))
    with pytest.raises(ValueError, match="find_all: the model"):
        find_all(trained("tanh_4"), cube(3), np.zeros(3))
    with pytest.raises(ValueError, match="find_all: the model"):
        find_all(trained("tanh_4"), cube(4), np.zeros(2))
    with pytest.raises(ValueError, match=r"`inputs` has shape \(1, 3\)"):
        find_all(trained("tanh_4"), cube(4), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`inputs` holds 1 value"):
        find_all(trained("tanh_4"), cube(4), np.array([0, np.nan, 0]))
    for most in (0, -1, np.nan):
        with pytest.raises(ValueError, match="max_boxes"):
            find_all(uncoupled, cube(1), max_boxes=most)
    with pytest.raises(TypeError, match="max_boxes"):
        find_all(uncoupled, cube(1), max_boxes=1.5)
    with pytest.raises(TypeError, match=r"find_all: `F` is traced; expected .*outside of `jit`"):
        jax.jit(lambda low: find_all(uncoupled, (low, jnp.ones(1)))[0].xstar)(jnp.zeros(1))


# ---- piecewise-linear networks, region by region -----------------------------------------------


def units_of_relu(W, b):
    return lambda x, u: jax.nn.relu(W @ x + b)


@unchecked
def test_twelve_units_of_relu_have_the_points_of_their_4096_regions():
    rng = np.random.default_rng(1)
    W = np.float32(1.5 / np.sqrt(12) * rng.standard_normal((12, 12)))
    b = np.float32(0.3 * rng.standard_normal(12))
    active = (np.arange(2**12)[:, None] >> np.arange(12)) % 2 == 1
    A = np.eye(12) - np.where(active[:, :, None], W, 0).astype(np.float64)
    x = np.linalg.solve(A, np.where(active, b, 0)[:, :, None].astype(np.float64))[..., 0]
    drive = x @ W.T.astype(np.float64) + b
    expected = x[((drive > 0) == active).all(axis=1)]
    expected = expected[(expected < 10).all(axis=1)]
    fps, complete = find_all(units_of_relu(W, b), (np.zeros(12), np.full(12, 10.0)))
    assert complete and fps.n == len(expected) > 0
    order, known = np.lexsort(fps.xstar.T), np.lexsort(expected.T)
    np.testing.assert_allclose(fps.xstar[order], expected[known], atol=1e-12)


@pytest.mark.slow
@unchecked
def test_a_point_at_the_kinks_of_all_units_is_found_or_left_open():
    """Without biases, the origin is on the edge of every region."""
    W = np.float32([[0.5, -0.25], [0.25, 0.5]])
    fps, complete = find_all(units_of_relu(W, 0.0), (-np.ones(2), np.ones(2)))
    assert complete and fps.n == 1 and np.abs(fps.xstar).max() < 1e-12
    with pytest.warns(UserWarning, match="may not be all"):  # a line from the origin
        fps, complete = find_all(
            units_of_relu(np.eye(2, dtype=np.float32), 0.0), (-1.0, np.ones(2))
        )
    assert not complete


def mostly_linear(n, n_kinks):
    """Return a network of which few units have kinks, so that its regions are few."""
    rng = np.random.default_rng(0)
    A = jnp.asarray(0.5 * rng.standard_normal((n, n)) / np.sqrt(n), jnp.float32)
    W = jnp.asarray(rng.standard_normal((n, n_kinks)) / np.sqrt(n), jnp.float32)
    B = jnp.asarray(rng.standard_normal((n_kinks, n)), jnp.float32)
    return lambda x, u: A @ x + 2 * jax.nn.relu(x @ W - 0.1) @ B + 0.5


# 37 and 2053 were once the only lengths that no other axis may have.
@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_kinks"), [(2, 1), (3, 2), (4, 2), (5, 6), (37, 2)])
@unchecked
def test_the_points_of_few_regions_whatever_the_number_of_units(n, n_kinks, monkeypatch):
    F = mostly_linear(n, n_kinks)
    fps, complete = find_all(F, (-50 * np.ones(n), 50 * np.ones(n)), max_boxes=2**n_kinks)
    assert complete
    x = np.asarray(fps.xstar)
    np.testing.assert_allclose(jax.vmap(lambda x: F(x, None))(x), x, atol=1e-5)
    # Divided into as many chunks as can be.
    monkeypatch.setattr(piecewise_linear, "_MOST_SLOPES", 1)
    again, complete = find_all(F, (-50 * np.ones(n), 50 * np.ones(n)), max_boxes=2**n_kinks)
    assert complete and again.n == fps.n
    np.testing.assert_allclose(again.xstar, fps.xstar, rtol=1e-12)


_MEMORY_OF_TWO_REGIONS = """
import resource
import numpy as np
from slowpoints import find_all
from test_find_all import mostly_linear

F, box = mostly_linear(160, 1), (-50 * np.ones(160), 50 * np.ones(160))
find_all(mostly_linear(2, 1), (-50 * np.ones(2), 50 * np.ones(2)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fps, complete = find_all(F, box)
assert complete and fps.n == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_two_regions_of_many_units_take_little_memory():
    """All rows of 2,053 took 5 GB."""
    command = [sys.executable, "-c", _MEMORY_OF_TWO_REGIONS]
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    kilobytes = int(done.stdout.split()[-1])
    assert kilobytes < 200_000


@unchecked
@pytest.mark.slow
def test_kinks_among_smooth_units_are_left_to_the_boxes():
    def mixed(x, u):
        return jnp.concatenate([jax.nn.relu(jnp.tanh(2 * x[:1])), 0.5 * x[1:]])

    # The point at 0 is at the kink, where the slope is from 0 to 2.
    with pytest.warns(UserWarning, match="or a unit is at a kink"):
        fps, complete = find_all(mixed, (np.array([-1.0, -1]), np.ones(2)))
    assert not complete
    assert np.abs(np.max(fps.xstar[:, 0]) - 0.9575040240772687) < 1e-12


@unchecked
def test_absolute_values_and_clips_have_regions_too():
    fps, complete = find_all(lambda x, u: 1 - 1.5 * jnp.abs(x), (-2 * np.ones(2), np.ones(2)))
    expected = {(0.4, 0.4), (0.4, -2.0), (-2.0, 0.4), (-2.0, -2.0)}
    assert complete and {tuple(np.round(x, 9)) for x in fps.xstar} == expected
    fps, complete = find_all(lambda x, u: jnp.clip(3 * x, -1, 1), (-2.0, 2 * np.ones(1)))
    assert complete and sorted(np.round(fps.xstar[:, 0], 9)) == [-1, 0, 1]
