"""`degree`, and what the account says of signs: sums over fixed points that show missing ones."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import INDEX_COUNTS, case, found_in, trained

import slowpoints
from slowpoints import (
    ContinuousTime,
    FixedPointFinder,
    FixedPoints,
    Status,
    account,
    degree,
    jacobians,
)


def one_unit(x, u):
    return jnp.tanh(2 * x + u)


def unit_points(u):
    """Return all fixed points of `one_unit`, by bisection between where its slope is 1."""
    bend = np.arccosh(np.sqrt(2)) / 2
    turns = [-1.0 - abs(u), (-bend - u / 2), (bend - u / 2), 1.0 + abs(u)]
    roots = []
    for low, high in pairwise(turns):
        below, above = (np.tanh(2 * x + u) - x for x in (low, high))
        if below * above > 0:
            continue
        for _ in range(100):
            middle = (low + high) / 2
            value = np.tanh(2 * middle + u) - middle
            low, high = (middle, high) if value * below > 0 else (low, middle)
        roots.append(low)
    return np.array(roots)[:, None]


def points(x, u=0.0, dtype=np.float32, **fields):
    x = np.asarray(x, dtype)
    u = np.broadcast_to(np.asarray(u, dtype), (len(x), 1)).copy()
    return FixedPoints(xstar=x, inputs=u, dtype=dtype, **fields)


def with_jacobians(slopes, dtype=np.float32, **fields):
    """Return points of one unit with these slopes."""
    J = np.asarray(slopes, dtype)[:, None, None]
    return points(np.arange(len(J))[:, None], dtype=dtype, J_xstar=J, **fields)


# ---- networks whose points are known -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_a_complete_set_of_a_flip_flop_has_degree_one_and_each_point_counts(cell):
    fps = found_in(cell)
    assert fps.n == 27
    assert degree(trained(cell), fps) == 1
    index = np.sum(np.abs(np.linalg.eigvals(np.float64(fps.J_xstar))) > 1, axis=1)
    assert dict(zip(*np.unique(index, return_counts=True), strict=True)) == INDEX_COUNTS
    # In all of these networks the unstable eigenvalues are beyond 1, and each turns the sign.
    for row in range(27):
        others = fps[np.arange(27) != row]
        assert degree(trained(cell), others) == 1 - (-1) ** index[row]
    assert degree(trained(cell), fps[index == 0]) == 8
    assert degree(trained(cell), fps[index == 1]) == -12


@pytest.mark.parametrize(("u", "n"), [(0.0, 3), (0.5, 3), (0.56, 1), (-1.0, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_unit_has_degree_one_with_one_point_and_with_three(u, n, dtype):
    roots = unit_points(u)
    assert len(roots) == n
    with jax.enable_x64(dtype == np.float64):
        fps = points(roots, u, dtype)
        assert degree(one_unit, fps) == 1
        assert degree(one_unit, fps[np.arange(n) != n // 2]) == (2 if n == 3 else 0)
        assert degree(one_unit, fps[np.arange(n) > 0]) == 0
        assert isinstance(degree(one_unit, fps), int)


def test_jacobians_are_computed_if_they_are_missing():
    fps = points(unit_points(0.25), 0.25)
    full = jacobians(one_unit, fps)
    assert degree(one_unit, fps) == degree(one_unit, full) == 1
    for rows in ([0], [1], [2], [0, 1], [0, 2]):
        assert degree(one_unit, fps[np.array(rows)]) == degree(one_unit, full[np.array(rows)])
    # Those that are there are taken as they are.
    assert degree(one_unit, full.replace(J_xstar=np.full((3, 1, 1), 5.0, np.float32))) == -3


@pytest.mark.parametrize("present", [False, True])
def test_in_continuous_time_the_jacobian_is_that_of_the_flow(present):
    flow = ContinuousTime(lambda x, u: jnp.tanh(2 * x + u) - x)
    fps = points(unit_points(0.25), 0.25)
    fps = jacobians(flow, fps) if present else fps
    assert degree(flow, fps) == 1
    assert [degree(flow, fps[np.array([row])]) for row in range(3)] == [1, -1, 1]


@pytest.mark.parametrize("continuous_time", [False, True])
def test_jacobians_of_the_other_time_are_refused(continuous_time):
    fps = with_jacobians([0.5], continuous_time=continuous_time)
    F = one_unit if continuous_time else ContinuousTime(one_unit)
    with pytest.raises(ValueError, match=r"`fps.continuous_time` is .*, and `F` is"):
        degree(F, fps)


def test_jacobians_that_are_not_finite_are_named():
    fps = with_jacobians([0.5, np.nan, 1.0])
    with pytest.warns(UserWarning, match=r"at 2 of 3 points.*not finite \(1 of these\)"):
        assert degree(one_unit, fps) == 1


@pytest.mark.parametrize("rate", [1e-6, 1e6])
def test_the_sign_of_a_flow_does_not_depend_on_its_unit_of_time(rate):
    J = np.float32(rate * np.array([[-1.0, 0.3], [0.2, 0.7]]))[None]
    fps = points(np.ones((1, 2)), J_xstar=J, continuous_time=True)
    assert degree(ContinuousTime(one_unit), fps) == -1


def test_turning_and_flipping_directions_do_not_change_the_sign():
    spirals = np.array([[[0.0, -3.0], [3.0, 0.0]], [[-5.0, 0.0], [0.0, 0.5]], [[2.0, 1], [0, 3.0]]])
    fps = FixedPoints(
        xstar=np.zeros((3, 2)), inputs=np.zeros((3, 0)), J_xstar=spirals, dtype=np.float64
    )
    assert [degree(one_unit, fps[np.array([row])]) for row in range(3)] == [1, 1, 1]


def test_under_several_inputs_each_complete_set_adds_one():
    sets = [points(unit_points(u), u) for u in (0.0, 0.25, 1.0)]
    assert degree(one_unit, FixedPoints.concatenate(sets)) == 3
    assert degree(one_unit, FixedPoints.concatenate(sets[:2])) == 2


# ---- what counts -------------------------------------------------------------------------------


def test_only_valid_rows_at_fixed_points_count():
    slopes = [0.5, 2.0, 0.5, 0.5, 0.5, 0.5]
    status = np.array([1, 1, 2, 3, 4, 5], np.int8)
    assert degree(one_unit, with_jacobians(slopes)) == 4
    assert degree(one_unit, with_jacobians(slopes, status=status)) == 0
    assert degree(one_unit, with_jacobians(slopes, valid=np.array([1, 0, 1, 0, 0, 1], bool))) == 3
    both = with_jacobians(slopes, status=status, valid=np.array([1, 0, 1, 1, 1, 1], bool))
    assert degree(one_unit, both) == 1
    assert degree(one_unit, both.replace(status=status + 1)) == 0
    assert Status.FIXED_POINT == 1


def test_rows_of_a_search_that_do_not_count_may_be_nan():
    fps = with_jacobians([0.5, np.nan], valid=np.array([True, False]))
    assert degree(one_unit, fps) == 1
    missing = points([[0.0], [np.nan]], valid=np.array([True, False]))
    assert degree(one_unit, missing) == -1


@pytest.mark.parametrize("keep", [[], [False, False, False]])
def test_no_points_have_degree_zero(keep):
    fps = points(np.zeros((len(keep), 1)), valid=np.array(keep, bool))
    assert degree(one_unit, fps) == 0


@pytest.mark.parametrize(
    ("slopes", "dtype", "expected", "n"),
    [
        ([1.0, 0.5, 2.0, 0.5], np.float32, 1, 1),
        ([1.0, 1.0, 2.0], np.float64, -1, 2),
        ([1 + 2.0**-22, 0.5], np.float32, 1, 1),
        ([1 - 2.0**-22, 2.0], np.float32, -1, 1),
        ([1 + 2.0**-51, 0.5], np.float64, 1, 1),
        ([np.nan, 0.5], np.float32, 1, 1),
        ([np.inf, 0.5], np.float32, 1, 1),
    ],
)
def test_points_whose_sign_is_not_known_count_as_zero_with_a_warning(slopes, dtype, expected, n):
    fps = with_jacobians(slopes, dtype)
    with pytest.warns(UserWarning, match=f"degree: .* at {n} of {len(slopes)} points"):
        assert degree(one_unit, fps) == expected


def test_signs_are_known_as_far_as_the_precision_goes():
    just = 2.0**-19
    assert degree(one_unit, with_jacobians([1 + just, 1 + just, 1 - just])) == -1
    just = 2.0**-48
    assert degree(one_unit, with_jacobians([1 + just, 1 + just, 1 - just], np.float64)) == -1


@pytest.mark.parametrize("tol_unique", [0.0, 1e-6, 1e-3, 1.0])
def test_a_sign_is_known_if_the_point_is_located_well_whatever_tells_points_apart(tol_unique):
    def degree_of(slope, speed, x=0.0):
        fps = with_jacobians([slope], qstar=np.float32([speed**2 / 2]), tol_unique=tol_unique)
        return degree(one_unit, fps.replace(xstar=np.float32([[x]])))

    assert degree_of(1 + 1e-3, 1e-7) == -1 and degree_of(1 - 1e-3, 1e-7) == 1
    assert degree_of(1 + 1e-4, 0.0) == -1  # of which rounding hides 6e-8
    # The step to the point, of speed / 1e-5, is longer than a thousandth of the state's size.
    for slope, speed, x in ((1 + 1e-4, 3e-7, 0.0), (1 + 1e-4, 3e-6, 10.0), (1 - 3e-5, 0.0, 0.0)):
        with pytest.warns(UserWarning, match="signs are not known"):
            assert degree_of(slope, speed, x) == 0
    assert degree_of(1 + 1e-4, 3e-7, 10.0) == -1


def test_a_point_on_a_line_is_singular_in_each_of_the_times():
    line = np.diag([1.0, 0.5])[None]
    fps = FixedPoints(xstar=np.zeros((1, 2)), inputs=np.zeros((1, 0)), J_xstar=line)
    with pytest.warns(UserWarning, match="on a line"):
        assert degree(one_unit, fps) == 0
    fps = fps.replace(J_xstar=np.diag([0.0, -0.5])[None], continuous_time=True)
    with pytest.warns(UserWarning, match="on a line"):
        assert degree(ContinuousTime(one_unit), fps) == 0


def test_points_with_jacobians_need_no_states():
    fps = FixedPoints(J_xstar=np.array([0.5, 2.0, 0.5], np.float32)[:, None, None])
    assert degree(one_unit, fps) == 1


# ---- arguments ---------------------------------------------------------------------------------


@pytest.mark.checks_input
def test_bad_arguments_are_refused():
    fps = points([[0.0]])
    with pytest.raises(TypeError, match=r"degree: `fps`.*slowpoints.FixedPoints"):
        degree(one_unit, np.zeros((1, 1)))
    with pytest.raises(TypeError, match="int"):
        degree(3, fps)
    with pytest.raises(ValueError, match=r"degree: `fps.xstar` is None"):
        degree(one_unit, FixedPoints(inputs=np.zeros((1, 1))))
    with pytest.raises(ValueError, match=r"degree: `fps.inputs` is None"):
        degree(one_unit, FixedPoints(xstar=np.zeros((1, 1))))
    with pytest.raises(ValueError, match="state"):
        degree(trained("tanh"), fps)


# ---- the account -------------------------------------------------------------------------------


def search_of(slopes, inputs=None, status=Status.FIXED_POINT, n_rows=4, **fields):
    """Return the kept points, and all rows, of a search that found points with these slopes."""
    n = len(slopes)
    inputs = np.zeros((n, 1)) if inputs is None else np.asarray(inputs, float)[:, None]
    kept = FixedPoints(
        xstar=np.arange(n, dtype=float)[:, None],
        inputs=inputs,
        qstar=np.full(n, 1e-20),
        status=np.broadcast_to(np.int8(status), n).copy(),
        J_xstar=np.asarray(slopes, float)[:, None, None],
        dtype=np.float64,
        **fields,
    )
    rows = kept[np.repeat(np.arange(n), n_rows)]
    return kept, rows.replace(J_xstar=None, valid=None)


def line_about_signs(kept, rows, **settings):
    lines = [x for x in account(kept, rows, **settings).lines if "signs" in x]
    assert len(lines) <= 1
    return lines[0] if lines else None


def test_the_account_says_that_a_sum_of_one_is_right():
    told = line_about_signs(*search_of([0.5, 2.0, 0.5]))
    assert told == (
        "The signs of det(I - J) at the fixed points sum to 1, as for a complete set of a network "
        "whose states stay bounded."
    )


@pytest.mark.parametrize(
    ("slopes", "total", "missing"),
    [
        ([0.5, 0.5], 2, "1 point is missing"),
        ([0.5, 2.0], 0, "1 point is missing"),
        ([2.0], -1, "2 points are missing"),
        ([0.5] * 5, 5, "4 points are missing"),
    ],
)
def test_the_account_says_how_many_points_are_missing_at_least(slopes, total, missing):
    told = line_about_signs(*search_of(slopes))
    assert f"sum to {total}, not 1: at least {missing}, if" in told


def test_the_account_adds_the_signs_under_each_input():
    slopes, inputs = [0.5, 2.0, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0]
    told = line_about_signs(*search_of(slopes, inputs))
    assert told.endswith("sum to 1 under each of 2 inputs, as for complete sets.")
    told = line_about_signs(*search_of([*slopes, 2.0, 2.0], [*inputs, 1.0, 2.0]))
    assert "another number than 1 under 2 of 3 inputs: points are missing there" in told
    # A sum of 2 over all that comes from one point too many and one too few is still seen.
    told = line_about_signs(*search_of([0.5, 0.5, 0.5, 2.0, 0.5, 2.0], [0, 0, 0, 1, 1, 1]))
    assert "under 2 of 2 inputs" in told


def test_slow_points_beside_fixed_points_do_not_count():
    status = np.array([1, 1, 1, 2], np.int8)
    told = line_about_signs(*search_of([0.5, 2.0, 0.5, 0.5], status=status))
    assert "sum to 1, as" in told


def test_the_account_is_silent_where_signs_say_nothing():
    assert line_about_signs(*search_of([0.5, 0.5], status=Status.SLOW_POINT)) is None
    assert line_about_signs(*search_of([0.5, 1.0, 0.5])) is None  # singular
    kept, rows = search_of([0.5, 2.0, 0.5])
    assert line_about_signs(kept.replace(J_xstar=None), rows) is None
    assert line_about_signs(kept[np.arange(2)], rows, max_n_unique=2) is None  # one is dropped
    assert line_about_signs(kept[np.zeros(3, bool)], rows, max_n_unique=0) is None


def test_the_account_of_rows_that_are_dropped_for_other_reasons_goes_on():
    """Slow points that are dropped are no fixed points, and so the sum stays what it is."""
    kept, rows = search_of([0.5, 2.0, 0.5, 0.5], status=np.array([1, 1, 1, 2], np.int8))
    rows.qstar[rows.status == 2] = 1e-3
    assert "sum to 1, as" in line_about_signs(kept[np.arange(3)], rows)


def test_the_account_in_continuous_time_takes_the_jacobian_of_the_flow():
    told = line_about_signs(*search_of([-0.5, 1.0, -0.5], continuous_time=True))
    assert "sum to 1, as" in told


@pytest.mark.slow
def test_the_class_prints_how_many_points_are_missing(capsys):
    settings = {"do_decompose_jacobians": False, "random_seed": 0, "mesh": None}
    finder = FixedPointFinder(trained("tanh_6"), search_between=False, **settings)
    fps, _ = finder.find_fixed_points(case("tanh_6")["traj"], np.zeros((1, 4)), n_inits=512)
    printed = capsys.readouterr().out
    total = degree(trained("tanh_6"), fps)
    assert total == 16 and fps.n < 81
    assert "sum to 16, not 1: at least 15 points are missing" in printed
    quiet = FixedPointFinder(trained("tanh_6"), do_compute_jacobians=False, mesh=None)
    quiet.find_fixed_points(case("tanh_6")["traj"], np.zeros((1, 4)), n_inits=512)
    assert "signs" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_class_prints_a_sum_of_one_for_a_complete_set(capsys):
    finder = FixedPointFinder(
        lambda x, u: jnp.tanh(2 * x + u), do_decompose_jacobians=False, mesh=None
    )
    traj = np.linspace(-1, 1, 64).reshape(1, 64, 1)
    fps, _ = finder.find_fixed_points(traj, np.full((1, 1), 0.25), n_inits=128)
    assert fps.n == 3 and slowpoints.degree(one_unit, fps) == 1
    assert "sum to 1, as for a complete set" in capsys.readouterr().out


@pytest.mark.slow
def test_points_that_were_dropped_are_not_said_to_be_missing():
    fps = found_in("tanh")
    rows = fps.replace(x_init=fps.xstar, tol_unique=1e-3)
    assert "sum to 1" in str(account(fps, rows))
    assert "sum to" not in str(account(fps[:20], rows, max_n_unique=20))


def test_beside_a_ring_of_fixed_points_the_speed_says_that_signs_are_not_known():
    """In float64, states beside the ring have an eigenvalue below 1 by more than rounding."""
    angle, size = np.linspace(0, 6, 12), 1 + 1e-7
    x = size * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    with jax.enable_x64(True):
        fps = FixedPoints(xstar=x, inputs=np.zeros((12, 1)), qstar=np.full(12, 5e-15))
        with pytest.warns(UserWarning, match="signs are not known"):
            assert degree(lambda x, u: x * (1.5 - 0.5 * jnp.sum(x**2)), fps) == 0
