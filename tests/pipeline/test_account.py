"""`account`: what became of the rows of a search, and what is warned of."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import (
    Adam,
    FixedPointFinder,
    FixedPoints,
    LevenbergMarquardt,
    NewtonKrylov,
    Status,
    account,
    degree,
    find_fixed_points,
    select,
    unique,
)
from slowpoints._pipeline.told_apart import ROUNDED
from slowpoints._points.neighbours import nearest, pairs
from slowpoints._points.status import counted

pytestmark = pytest.mark.fast

FIXED, SLOW, WITHIN, UNFINISHED, ESCAPED, BROKEN = Status
NO_INPUT = np.zeros(0, np.float32)
SEARCHES = (account, find_fixed_points, FixedPointFinder)


def rows(*groups, tol_unique=1e-3):
    """Return rows in a plane, from groups of (status, place, number, q)."""
    status, x, q = [], [], []
    for code, place, n, value in groups:
        status += [code] * n
        x += [[place, 0.0]] * n
        q += [value] * n
    status = np.array(status, np.int8)
    x = np.array(x).reshape(-1, 2)
    start = np.random.default_rng(0).uniform(-1, 1, x.shape)
    return FixedPoints(
        xstar=x,
        x_init=start,
        qstar=np.array(q),
        status=status,
        valid=status < Status.ESCAPED,
        tol_unique=tol_unique,
    )


def told(all_fps, kept, **settings):
    """Return the account of a search that kept the points at these places."""
    points = unique(all_fps).compact()
    is_kept = np.isin(np.asarray(points.xstar)[:, 0], kept)
    return account(points[is_kept], all_fps, **settings)


def test_every_row_is_in_one_part():
    all_fps = rows(
        (FIXED, 0.0, 5, 1e-20),
        (FIXED, 0.5, 3, 1e-20),
        (FIXED, 40.0, 1, 1e-20),
        (SLOW, 1.0, 4, 1.2e-7),
        (SLOW, 1.5, 2, 3e-3),
        (WITHIN, 2.0, 2, 1e-13),
        (UNFINISHED, 2.5, 3, 1e-2),
        (ESCAPED, 3.0, 2, 1e-12),
        (BROKEN, np.nan, 1, np.nan),
    )
    found = told(all_fps, [0.0, 0.5, 2.0])
    assert [(p.status, p.dropped_by, p.n_rows, p.n_points) for p in found.parts] == [
        (FIXED, "", 8, 2),
        (FIXED, "outlier_distance_scale", 1, 1),
        (SLOW, "final_q_threshold", 6, 2),
        (WITHIN, "", 2, 1),
        (UNFINISHED, "final_q_threshold", 3, None),
        (ESCAPED, "", 2, None),
        (BROKEN, "", 1, None),
    ]
    assert found.n_rows == sum(part.n_rows for part in found.parts) == all_fps.n
    assert found.parts[2].q_range == (1.2e-7, 3e-3)
    dropped = ["outlier_distance_scale", *["final_q_threshold"] * 6]
    assert found.dropped_by[8:15].tolist() == dropped
    assert set(found.dropped_by[:8]) == {""}
    text = str(found)
    assert "8 ended at 2 fixed points, which are kept." in text
    assert "q = 1.2e-7 (4 starts), q = 0.003 (2 starts)." in text
    assert "final_q_threshold=2e-7 keeps the lowest, final_q_threshold=0.004 all of them" in text
    assert "`max_iters`" in text and "`patience`" in text
    assert "2 escaped" in text and "1 is NaN or infinite" in text


def test_a_row_beside_a_kept_point_is_kept_whatever_its_own_q():
    all_fps = rows((FIXED, 0.0, 2, 1e-20), (SLOW, 5e-4, 1, 1e-7))
    found = told(all_fps, [0.0])
    assert set(found.dropped_by) == {""} and not found.warning


def test_rows_of_several_statuses_at_one_point_count_it_once():
    near = 5e-4  # within `tol_unique`
    all_fps = rows(
        (FIXED, 0.0, 5, 1e-20),
        (FIXED, 0.5, 3, 1e-20),
        (SLOW, near, 1, 1e-7),
        (WITHIN, 0.5 + near, 2, 1e-9),
        (WITHIN, 1.0, 1, 1e-9),
        (UNFINISHED, near, 4, 1e-12),
    )
    found = told(all_fps, [0.0, 0.5, 1.0])
    assert [(p.n_rows, p.n_points, p.n_shared) for p in found.parts] == [
        (8, 2, 0),
        (1, 0, 1),
        (3, 1, 1),
        (4, 0, 1),
    ]
    assert [line.partition(", ")[2] for line in found.lines[1:3]] == [
        "within `tol_unique` of points that are counted above.",
        "at 2 distinct states, of which 1 is kept and 1 is within `tol_unique` of points that are "
        "counted above.",
    ]
    assert found.lines[1].startswith("1 ended at 1 slow point with q = 1e-7, within")
    assert found.lines[3].endswith("with q = 1e-12, at 1 point that is counted above.")


def test_a_row_that_is_not_valid_is_at_no_point():
    all_fps = rows((FIXED, 0.0, 2, 1e-20), (SLOW, 0.5, 2, 1e-9), (FIXED, 1.0, 1, 1e-20))
    all_fps = all_fps.replace(valid=np.arange(5) < 4)
    found = told(all_fps, [0.0, 0.5])
    assert [(p.n_rows, p.n_points, p.n_shared) for p in found.parts] == [(3, 1, 0), (2, 1, 0)]


def test_starts_whose_squares_are_not_finite_are_no_reason_to_warn():
    all_fps = rows((FIXED, 0.0, 2, 1e-20), (FIXED, 40.0, 1, 1e-20))
    large = np.array([[0, 1], [1, 0], [1, 1]], np.float32) * np.float32(1e20)
    all_fps = all_fps.replace(xstar=all_fps.xstar.astype(np.float32), x_init=large)
    assert told(all_fps, [0.0]).n_rows == 3


def test_unfinished_rows_at_points_of_their_own_and_of_others():
    ends = ((FIXED, 0.0, 5, 1e-20), (UNFINISHED, 5e-4, 2, 1e-12))
    line = told(rows(*ends, (UNFINISHED, 1.0, 1, 1e-12)), [0.0, 1.0]).lines[1]
    assert line.endswith(", at 2 points that are kept, of which 1 is counted above.")
    for places in ([0.0], [0.0, 0.5, 1.0], [0.25, 0.5]):
        groups = [(UNFINISHED, x + 5e-4, 1, 1e-12) for x in places]
        all_fps = rows((FIXED, 0.0, 1, 0.0), (FIXED, 0.5, 1, 0.0), *groups)
        found = told(all_fps, [0.0, 0.5, *(x + 5e-4 for x in places)])
        assert sum(p.n_points for p in found.parts) == unique(all_fps).compact().n


def test_points_of_different_conditions_are_not_one():
    all_fps = rows((FIXED, 0.0, 2, 1e-20), (FIXED, 0.0, 2, 1e-3))
    all_fps = all_fps.replace(cond_id=np.array(list("aabb")))
    kept = all_fps[:1]
    assert account(kept, all_fps, within_conditions=False).parts[0].n_rows == 4
    found = account(kept, all_fps, within_conditions=True)
    assert found.dropped_by.tolist() == ["", "", "final_q_threshold", "final_q_threshold"]


def test_what_a_limit_on_the_number_leaves_out_is_said_and_not_warned_of():
    found = told(rows((FIXED, 0.0, 2, 0.0), (FIXED, 0.5, 2, 1e-15)), [0.0], max_n_unique=1)
    assert found.parts[1].dropped_by == "max_n_unique" and not found.warning
    assert "`max_n_unique` = 1 leaves out" in str(found)


def test_the_value_that_it_names_keeps_the_point():
    """Also where `q` itself has one digit."""
    for q in (1.2e-7, 2e-7, 9.9e-7, 9.97e-7, 1e-5, 0.4):
        text = str(told(rows((FIXED, 0.0, 9, 0.0), (SLOW, 1.0, 9, q)), [0.0]))
        value = float(text.split("final_q_threshold=")[1].split()[0])
        assert q < value <= 2.01 * q


# ---- warnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_slow", "q", "expected"),
    [
        (8, 1e-7, True),  # more than one row in twenty
        (1, 1e-7, False),
        (50, 1e-2, False),  # a state is elsewhere within a few steps
    ],
)
def test_dropped_slow_points_are_warned_of_if_they_are_slow_and_not_rare(n_slow, q, expected):
    found = told(rows((FIXED, 0.0, 120 - n_slow, 0.0), (SLOW, 1.0, n_slow, q)), [0.0])
    assert bool(found.warning) == expected
    assert "slow point" in str(found)
    if expected:
        assert "final_q_threshold=2e-7 keeps it" in found.warning


def test_each_of_some_slow_points_that_are_dropped_is_named():
    speeds = [f"{i / 10:.2g}" for i in range(10, 22)]
    groups = [(SLOW, i / 10, 2, float(f"{q}e-7")) for i, q in enumerate(speeds)]
    line = told(rows((FIXED, -5.0, 9, 0.0), *groups), [-5.0]).lines[1]
    assert all(f"q = {q}e-7 (2 starts)" in line for q in speeds)


def test_other_settings_than_those_of_the_search_explain_nothing():
    """Nothing is said to be dropped by a rule that does not drop it."""
    all_fps = rows((FIXED, 0.0, 5, 0.0), (SLOW, 1.0, 3, 1e-7), (UNFINISHED, 0.5, 1, 1e-7))
    for settings in (
        {"final_q_threshold": None},
        {"final_q_threshold": 0},
        {"final_q_threshold": None, "outlier_distance_scale": None},
    ):
        found = told(all_fps, [0.0], **settings)
        assert [part.dropped_by for part in found.parts] == ["", "unknown", "unknown"]
        assert "which is not kept although none of these settings drops it" in found.lines[1]
        assert not found.warning
    same = rows((FIXED, 0.0, 5, 0.0), (SLOW, 1.0, 3, 1e-7))
    same = same.replace(x_init=np.zeros_like(same.xstar))
    assert told(same, [0.0]).parts[1].dropped_by == "final_q_threshold"
    assert told(same, [0.0], final_q_threshold=None).parts[1].dropped_by == "unknown"


@pytest.mark.parametrize(
    ("F", "has_kinks"),
    [
        (lambda x, u: jnp.tanh(x) + 1e-9, False),
        (lambda x, u: jax.nn.sigmoid(x) * jnp.tanh(x @ jnp.ones((2, 2))) - x**2, False),
        (lambda x, u: jax.lax.fori_loop(0, 2, lambda _, x: jnp.sin(x), x), False),
        (lambda x, u: jax.nn.relu(x), True),
        (lambda x, u: jnp.clip(x, -1, 1), True),
        (lambda x, u: x * (x[0] > 0), True),
        (lambda x, u: x * x[jnp.argmax(x)], True),
        (lambda x, u: x + x.astype(int), True),
    ],
)
def test_kinks_are_a_reason_only_where_there_may_be_some(F, has_kinks):
    stuck = rows((FIXED, 0.0, 5, 0.0), (UNFINISHED, 0.5, 1, 1e-9)).replace(
        n_iters=np.full(6, 30), inputs=np.zeros((6, 1))
    )
    points = unique(stuck).compact()
    assert "stay at kinks" in str(account(points, stuck))
    assert ("stay at kinks" in str(account(points, stuck, F=F))) == has_kinks
    assert "more `patience`" in str(account(points, stuck, F=F))


def test_dropped_fixed_points_are_warned_of_however_few():
    for group, setting in (
        ((FIXED, 40.0, 1, 0.0), "outlier_distance_scale=60 keeps it"),
        ((FIXED, 1.0, 1, 1e-7), "final_q_threshold=2e-7 keeps it"),
    ):
        assert setting in told(rows((FIXED, 0.0, 999, 0.0), group), [0.0]).warning


def test_nothing_is_warned_of_where_all_fixed_points_are_kept():
    others = ((UNFINISHED, 1.0, 50, 1e-2), (ESCAPED, 2.0, 50, 1e-9), (BROKEN, np.nan, 50, np.nan))
    assert not told(rows((FIXED, 0.0, 3, 0.0), *others), [0.0]).warning


def test_no_rows_are_no_reason_to_warn():
    found = account(rows(), rows())
    assert (found.n_rows, found.parts, found.warning) == (0, (), "")


# ---- points that are close ---------------------------------------------------------------------


def test_points_that_the_tolerance_merges_are_counted():
    places = ((FIXED, 0.0, 5, 0.0), (FIXED, 2e-4, 3, 1e-20), (FIXED, 5e-4, 3, 1e-20))
    found = told(rows(*places), [0.0])
    assert found.n_merged == 2 and "2 further points may be there" in str(found)
    assert told(rows((FIXED, 0.0, 5, 0.0), (FIXED, 1e-6, 5, 1e-20)), [0.0]).n_merged == 0
    slow = ((FIXED, 0.0, 5, 0.0), (UNFINISHED, 2e-4, 3, 1e-20))
    assert told(rows(*slow), [0.0]).n_merged == 0


def test_kept_points_that_nearly_merged_are_counted():
    found = told(
        rows((FIXED, 0.0, 1, 0.0), (FIXED, 0.002, 1, 0.0), (FIXED, 1.0, 1, 0.0)), [0, 0.002, 1]
    )
    assert found.n_near == 1 and "1 pair of kept points" in str(found)


@pytest.mark.parametrize("n", [0, 1, 50, 5000])
def test_neighbours_are_those_of_all_distances(n):
    rng = np.random.default_rng(n)
    points, others = rng.uniform(size=(n, 3)), rng.uniform(size=(40, 3))
    reach = 0.2
    distance = np.linalg.norm(points[:, None] - others, axis=2)
    row, other, apart = pairs([points[:, :1], points[:, 1:]], [others], reach)
    assert set(zip(row.tolist(), other.tolist(), strict=True)) == set(
        zip(*(a.tolist() for a in np.nonzero(distance <= reach)), strict=True)
    )
    np.testing.assert_allclose(apart, distance[row, other])
    labels = rng.integers(2, size=n), rng.integers(2, size=40)
    distance[labels[0][:, None] != labels[1]] = np.inf
    place, near = nearest([points], [others], reach, labels)
    in_reach = distance.min(axis=1, initial=np.inf) <= reach
    np.testing.assert_array_equal(place[in_reach], distance[in_reach].argmin(axis=1))
    assert (place[~in_reach] == -1).all() and np.isinf(near[~in_reach]).all()


# ---- searches ----------------------------------------------------------------------------------


def saddle_node(x, u):
    """Two fixed points for `u < 0`, and for `u > 0` a slow point at 0 with `q = u^2 / 2`."""
    return x + x**2 + u


def starts(n=40):
    return np.random.default_rng(0).uniform(-0.5, 0.1, (n, 1)).astype(np.float32)


def search(F, x, u=NO_INPUT, **settings):
    settings = {"solver": LevenbergMarquardt(), "mesh": None} | settings
    return find_fixed_points(F, x, np.asarray(u, np.float32), **settings)


@pytest.mark.slow
def test_a_search_that_drops_a_slow_point_warns_and_says_how_to_keep_it():
    u = np.where(np.arange(40) < 20, -0.04, 5e-4)[:, None]
    with pytest.warns(UserWarning, match=r"20 ended at 1 slow point .* q = 1\.3e-7 \(20 starts\)"):
        fps, all_fps = search(saddle_node, starts(), u)
    assert set(np.asarray(fps.status)) == {FIXED}
    assert np.bincount(all_fps.status).tolist() == [0, 20, 20]
    text = str(account(fps, all_fps))
    assert "final_q_threshold=2e-7 keeps it" in text
    fps, all_fps = search(saddle_node, starts(), u, final_q_threshold=2e-7)
    assert sorted(np.asarray(fps.status).tolist()) == [FIXED, FIXED, SLOW]
    assert not account(fps, all_fps, final_q_threshold=2e-7).warning


@pytest.mark.slow
def test_a_root_that_the_distance_rule_drops_is_warned_of():
    x = (10 + 2 * starts()).astype(np.float32)
    with pytest.warns(UserWarning, match=r"40 ended at 1 fixed point, far from the initial sta"):
        fps, all_fps = search(lambda x, u: 2 * x, x)
    text = str(account(fps, all_fps))
    scale = float(text.split("outlier_distance_scale=")[1].split()[0])
    assert search(lambda x, u: 2 * x, x, outlier_distance_scale=scale)[0].n == 1


@pytest.mark.slow
def test_roots_nearer_than_the_tolerance_are_reported():
    x = starts() * 1e-3
    with pytest.warns(UserWarning, match="1 further point may be there, nearer than `tol_unique`"):
        fps, all_fps = search(lambda x, u: x + (x**2 - 1e-8), x)
    assert fps.n == 1 and account(fps, all_fps).n_merged >= 1


@pytest.mark.slow_cases
@pytest.mark.parametrize("unit", [1e-4, 1e-6, 1e-9])
def test_a_tolerance_that_is_too_high_for_the_unit_of_states_is_warned_of(unit):
    """Nine points in units of volts, say, of which one is kept."""
    x = unit * np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    F = lambda x, u: unit * jnp.tanh(1.5 * x / unit)  # noqa: E731
    with pytest.warns(UserWarning, match="8 further points may be there, nearer than `tol_unique`"):
        fps, all_fps = search(F, x)
    found = account(fps, all_fps)
    assert (fps.n, found.n_merged) == (1, 8)
    assert "as for a complete set" not in str(found)
    assert search(F, x, tol_unique=1e-3 * unit)[0].n == 9


@pytest.mark.slow
def test_points_of_a_line_that_the_tolerance_merges_are_no_reason_to_warn():
    x = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    fps, all_fps = search(lambda x, u: jnp.stack([x[0], 0.5 * x[1]]), 0.1 * x)
    found = account(fps, all_fps)
    assert found.n_merged > 0 and not found.warning


@pytest.mark.slow
def test_a_search_without_losses_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fps, all_fps = search(saddle_node, starts(), [-0.04])
    found = account(fps, all_fps)
    assert [part.n_points for part in found.parts] == [2] and found.lines[0].startswith("40 ended")


def test_a_point_has_the_most_certain_status_of_its_rows_in_the_result_and_in_the_account():
    all_fps = rows((UNFINISHED, 5e-4, 79, 1e-16), (SLOW, 0.0, 1, 1e-15))
    fps = unique(all_fps).compact()
    assert fps.status.tolist() == [SLOW] and fps.qstar.tolist() == [np.float32(1e-16)]
    assert [(part.status, part.n_points) for part in account(fps, all_fps).parts] == [
        (SLOW, 1),
        (UNFINISHED, 0),
    ]


def test_points_are_counted_by_their_status():
    codes = np.array([1, 1, 2, 4], np.int8)
    assert (
        counted(codes, "distinct") == "2 distinct fixed points, 1 slow point and 1 unfinished point"
    )
    assert counted(codes[:0], "distinct") == "0 distinct fixed points"
    assert counted(codes[2:3]) == "1 slow point"
    assert counted(np.zeros(2, np.int8)) == "2 unknown rows"


@pytest.fixture(scope="module")
def ring():
    """A ring attractor in float32, and a search of it of which every other row is unfinished.

    Rounding of the weights leaves a few fixed points. Which of the rows reach one differs from
    machine to machine, so the rows that do not are named here.
    """
    n = 80
    preferred = 2 * np.pi * np.arange(n) / n
    W = jnp.asarray((12 * np.cos(preferred[:, None] - preferred) - 6) / n, jnp.float32)

    def F(x, u):
        return 0.8 * x + 0.2 * jax.nn.sigmoid(4 * (W @ x + 0.5))

    heading = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    bumps = np.exp(2 * np.cos(preferred - heading) - 2).astype(np.float32)
    fps, all_fps = find_fixed_points(F, bumps, NO_INPUT)
    assert fps.n == 60
    np.testing.assert_array_equal(fps.x_init, all_fps.x_init)
    status = np.where(np.arange(60) % 2, UNFINISHED, FIXED).astype(np.int8)
    return fps.replace(status=status), all_fps.replace(status=status)


@pytest.mark.slow
def test_on_a_ring_nobody_is_sent_further_along_it(ring):
    fps, all_fps = ring
    found = account(fps, all_fps)
    assert np.asarray(all_fps.qstar).max() < 1e-13
    text = str(found)
    assert "which is no more than rounding" in text and "while q was falling" not in text
    assert "60 points lie on a curve" in text
    assert "30 of these are unfinished, because Newton's steps lead" in text
    assert "max_iters" not in text


@pytest.mark.slow
def test_rows_that_have_farther_to_go_than_rounding_are_told_apart(ring):
    fps, all_fps = ring
    q = np.array(fps.qstar)
    row = np.flatnonzero(np.asarray(fps.status) == UNFINISHED)[0]
    q[row] = 1e-9  # with the same Jacobian
    fps = fps.replace(qstar=q)
    text = str(account(fps, all_fps))
    assert "solver made no more progress" in text and "more than rounding for " in text
    told = int(text.split("more than rounding for ")[1].split(";")[0])
    assert 0 < told < 30 and "More `max_iters`" in text
    text = str(account(fps.replace(J_xstar=None), all_fps))  # nothing is known of directions
    assert "rounding" not in text and "More `max_iters`" in text


def test_a_single_point_at_a_fold_is_said_to_be_singular():
    fps = FixedPoints(
        xstar=np.zeros((1, 1)),
        qstar=np.zeros(1),
        status=np.array([FIXED], np.int8),
        J_xstar=np.ones((1, 1, 1)),
        tol_unique=1e-3,
    )
    told = account(fps, fps).lines[-1]
    assert told.startswith("I - J is singular at 1 fixed point as far as can be told, as at a fold")


def slow_network(x, u):
    """Three fixed points, of a network whose steps are a hundredth of its time constant."""
    drive = jnp.tanh(jnp.roll(x, 1) * jnp.array([1.0, 2.0, 0.5, 1.5]))
    return 0.99 * x + 0.01 * drive + u


@pytest.mark.slow_cases
@pytest.mark.parametrize("tol_unique", [1e-3, 3e-5, 5e-6])
def test_isolated_points_are_no_curve_whatever_tells_them_apart(tol_unique):
    x = np.random.default_rng(0).normal(size=(128, 4)).astype(np.float32)
    fps, all_fps = find_fixed_points(slow_network, x, np.zeros(4), tol_unique=tol_unique)
    assert fps.n == 3 and np.abs(1 - fps.eigval_J_xstar).min() > 1e-3
    assert degree(slow_network, fps) == 1
    told = account(fps, all_fps).lines
    assert len(told) == 2 and "sum to 1, as for a complete set" in told[1]


def singular_points(x, n_states=2, **fields):
    """Return fixed points on the first axis, along which `I - J` vanishes."""
    x = np.asarray(x, np.float32)[:, None] * np.eye(n_states, dtype=np.float32)[0]
    J = np.tile(np.diag([1.0, *[0.5] * (n_states - 1)]).astype(np.float32), (len(x), 1, 1))
    return FixedPoints(
        xstar=x,
        qstar=np.zeros(len(x)),
        status=np.full(len(x), FIXED, np.int8),
        J_xstar=J,
        **({"tol_unique": 1e-6} | fields),
    )


SCATTERED = 1 + 2e-4 * np.linspace(-1, 1, 21)


@pytest.mark.parametrize(
    ("x", "is_curve"),
    [
        ([0.0, 1.0], False),
        ([0.0, 1.0, 2.0], False),
        ([0.0, 1.0, 2.0, 3.0], True),
        (np.linspace(0, 1, 40), True),
        (np.linspace(0, 1, 3000), True),  # closer than the size of the state says anything of
        (SCATTERED, False),  # as at one fold
        ([*SCATTERED, *-SCATTERED], False),  # as at two
    ],
)
def test_points_are_a_curve_if_they_are_many_between_its_ends(x, is_curve):
    fps = singular_points(x)
    line = account(fps, fps).lines[-1]
    assert (f"{fps.n} fixed points lie on a curve" in line) == is_curve
    assert ("too few, too far apart or too close together to tell" in line) != is_curve


def test_points_under_different_inputs_are_no_curve():
    fps = singular_points(np.linspace(0, 1, 12))
    inputs = np.arange(12.0)[:, None]
    line = account(*[fps.replace(inputs=inputs)] * 2).lines[-1]
    assert "I - J is singular at 12 fixed points" in line and "curve" not in line
    inputs = np.repeat(np.arange(2.0), 6)[:, None]
    assert "12 fixed points lie on a curve" in str(account(*[fps.replace(inputs=inputs)] * 2))


# ---- unfinished rows ---------------------------------------------------------------------------

FALLING = "More `max_iters` takes searches further that ended while q was falling."
STALLED = "More `max_iters` changes nothing where the solver made no more progress."


def unfinished(n_iters, q=1e-12, **settings):
    n = len(n_iters)
    all_fps = rows((FIXED, 0.0, 1, 0.0), *((UNFINISHED, 0.1 * k, 1, q) for k in range(1, n + 1)))
    all_fps = all_fps.replace(n_iters=np.array([5000, *n_iters]))
    return told(all_fps, 0.1 * np.arange(n + 1), **settings).lines[1:]


@pytest.mark.parametrize(
    ("n_iters", "max_iters", "why", "advice"),
    [
        ([5000] * 2, 5000, ", while q was falling", [FALLING]),
        ([37, 4999], 5000, ", because the solver made no more progress", [STALLED]),
        ([37, 4999], 37, ", while q was falling", [FALLING]),
        (
            [5000, 60, 5000],
            5000,
            ", 2 while q was falling and 1 because the solver made no more progress",
            [FALLING, STALLED],
        ),
    ],
)
def test_rows_that_were_cut_off_are_told_from_those_without_progress(
    n_iters, max_iters, why, advice
):
    lines = unfinished(n_iters, max_iters=max_iters)
    n = len(n_iters)
    assert lines[0].startswith(f"{n} ended unfinished{why}, with q = 1e-12; {n} points of these")
    assert [line for line in lines if "max_iters" in line] == [
        line for line in lines[1:] if any(line.startswith(x) for x in advice)
    ]
    assert len([line for line in lines if "max_iters" in line]) == len(advice)


def test_the_default_number_of_iterations_is_that_of_the_search():
    defaults = [inspect.signature(f).parameters["max_iters"].default for f in SEARCHES]
    assert defaults == [5000] * len(SEARCHES)
    assert unfinished([4999])[0] == unfinished([4999], max_iters=5000)[0]


def test_rows_at_counted_points_are_not_sent_further():
    all_fps = rows((FIXED, 0.0, 3, 0.0), (UNFINISHED, 5e-4, 1, 1e-15))
    for n_iters in (40, 5000):
        text = str(told(all_fps.replace(n_iters=np.full(4, n_iters)), [0.0]))
        assert "at 1 point that is counted above" in text and "More" not in text


def kinked(x, u):
    """`q = (0.1 + |x|)^2 / 2` has its minimum at the kink."""
    return x + 0.1 + jnp.abs(x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points")
def test_rows_that_stay_at_a_kink_are_not_sent_further():
    fps, all_fps = find_fixed_points(kinked, 10 * starts(), NO_INPUT, solver=NewtonKrylov())
    n_iters = np.asarray(all_fps.n_iters)
    assert (np.asarray(all_fps.status) == UNFINISHED).all() and n_iters.max() < 500
    assert np.abs(all_fps.xstar).max() < 1e-3
    lines = account(fps, all_fps).lines
    assert lines[0].startswith(
        "40 ended unfinished, because the solver made no more progress, with q from 0.005 to "
    )
    assert lines[1].startswith(STALLED) and "may stay at kinks" in lines[1]
    assert "takes" not in lines[1] and len(lines) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points")
def test_a_search_passes_on_how_many_iterations_it_made():
    """In its warning, and in what the class prints."""
    with pytest.warns(UserWarning, match="3 ended unfinished, while q was falling"):
        search(saddle_node, 0.1 + starts(3), [1e-3], max_iters=1)
    with pytest.warns(UserWarning, match="because the solver made no more progress"):
        search(kinked, 10 * starts(3), solver=NewtonKrylov())
    finder = FixedPointFinder(kinked, max_iters=2, verbose=False, mesh=None)
    fps, all_fps = finder.find_fixed_points(np.ones((1, 1, 1)), np.zeros((1, 1)), n_inits=2)
    assert "while q was falling" in str(finder._account(fps, all_fps))


# ---- points that are counted more than once ----------------------------------------------------

TWICE = [0.0, 2e-6, 0.5, 0.7, 0.700003]
"""Three places: in float32, a point near 0 of 16 states is located within 8 * 1.2e-7 * sqrt(16)."""


def test_points_that_rounding_makes_of_one_are_said_to_be_counted_more_than_once():
    for x, told in ((TWICE, "4 of the kept points are at only 2 places"), (TWICE[:3], "2 of")):
        fps = singular_points(x, n_states=16)
        fps.J_xstar[:, 0, 0] = 0.5
        assert told in str(account(fps, fps))
    assert account(fps, fps).lines[1:] == (
        "Rounding leaves a point's place uncertain by about 3.8e-6, and `tol_unique` = 1e-6 is "
        "below that: 2 of the kept points are at only 1 place, so that points are counted more "
        "than once. A higher `tol_unique` counts each once.",
    )


def test_what_else_is_said_of_points_that_are_counted_more_than_once_is_left_out():
    fps = singular_points(TWICE, n_states=16)
    fps.J_xstar[:, 0, 0] = 0.5
    text = str(account(fps, fps))
    assert "missing" not in text and "pairs" not in text


@pytest.mark.parametrize(
    ("x", "fields"),
    [
        ([0.0, 5e-6, 0.5], {}),  # farther apart than rounding
        (TWICE, {"tol_unique": 1e-5}),  # then `NEAR` tells of them
        (TWICE, {"slope": 1.0}),  # on a line of fixed points
        (TWICE, {"status": np.full(5, SLOW, np.int8)}),
        (TWICE, {"cond_id": np.arange(5)}),
    ],
)
def test_points_that_are_not_known_to_be_one_are_not_said_to_be(x, fields):
    slope = fields.pop("slope", 0.5)
    fps = singular_points(x, n_states=16).replace(**fields)
    fps.J_xstar[:, 0, 0] = slope
    text = str(account(fps, fps, within_conditions="cond_id" in fields))
    assert "more than once" not in text


def test_in_float64_points_as_close_as_that_are_told_apart():
    fps = singular_points([0.5, 0.5 + 1e-9], n_states=16, dtype=np.float64, tol_unique=1e-10)
    fps = fps.replace(xstar=np.array([0.5, 0.5 + 1e-9])[:, None] * np.eye(16)[0])
    fps.J_xstar[:, 0, 0] = 0.5
    assert fps.xstar.dtype == np.float64 and "more than once" not in str(account(fps, fps))


def test_rows_at_one_point_are_no_farther_apart_than_that():
    """Many rows at the points of a network of small steps, all of them kept."""
    x = np.random.default_rng(0).normal(size=(128, 4)).astype(np.float32)
    fps, all_fps = find_fixed_points(slow_network, x, np.zeros(4), tol_unique=0.0)
    places = np.asarray(unique(fps, tol=1e-3).compact().xstar)
    assert fps.n > 10 and len(places) == 3
    size = max(2.0, np.linalg.norm(places, axis=1).max())
    apart = np.linalg.norm(np.asarray(fps.xstar)[:, None] - places, axis=2)
    counts = np.bincount(apart.argmin(axis=1))
    apart, shared = apart.min(axis=1), counts > 1
    assert 0 < apart.max() < ROUNDED * np.finfo(np.float32).eps * size
    line = next(x for x in account(fps, all_fps).lines if "more than once" in x)
    n_repeated = counts[shared].sum()
    assert f"{n_repeated} of the kept points are at only {shared.sum()} place" in line


def test_rows_with_little_q_that_were_cut_off_are_sent_further():
    """Where `I - J` is regular, Newton's step is long only because nobody has taken it."""
    fps = FixedPoints(
        xstar=np.zeros((1, 1), np.float32),
        qstar=np.full(1, 1e-15),
        status=np.array([UNFINISHED], np.int8),
        J_xstar=np.full((1, 1, 1), 0.5, np.float32),
        tol_unique=1e-3,
    )
    text = str(account(fps, fps))
    assert "ended unfinished, with q = 1e-15; 1 point" in text  # nobody knows why
    assert "More `max_iters`, or a solver with more `patience`, may take" in text
    assert "rounding" not in text
    fps = fps.replace(n_iters=np.array([5000]))
    assert "while q was falling" in str(account(fps, fps))
    singular = fps.replace(J_xstar=np.ones((1, 1, 1), np.float32))
    assert "no more than rounding" in str(account(singular, singular))


def test_slow_points_that_are_written_alike_are_listed_once():
    groups = [(SLOW, 0.1 * k, k, 1.8e-7 * (1 + 1e-3 * k)) for k in range(1, 8)]
    all_fps = rows((FIXED, 2.0, 1, 0.0), (SLOW, 1.5, 2, 3e-3), *groups)
    line = told(all_fps, [2.0]).lines[1]
    assert "30 ended at 8 slow points" in line
    assert "q = 1.8e-7 (7 points, 28 starts), q = 3e-3 (2 starts)" in line.replace("0.003", "3e-3")


def test_unfinished_points_beyond_all_starts_are_counted():
    all_fps = rows((FIXED, 0.0, 5, 1e-20), (UNFINISHED, 3.0, 1, 1e-9), (UNFINISHED, 0.5, 1, 1e-9))
    text = str(told(all_fps, [0.0, 3.0, 0.5]))
    assert "1 unfinished point that is kept is farther from the centre of the initial" in text
    assert "`slow_manifold` samples" in text
    broken = all_fps.x_init.copy()
    broken[0] = np.nan  # a start that is no number hides nothing
    assert "1 unfinished point" in str(told(all_fps.replace(x_init=broken), [0.0, 3.0, 0.5]))
    inside = told(all_fps, [0.0, 0.5])
    assert "farther" not in str(inside) and "More `max_iters`" in str(inside)
    both = rows((UNFINISHED, 3.0, 1, 1e-9), (UNFINISHED, -4.0, 1, 1e-9), (FIXED, 0.0, 30, 0.0))
    assert "2 unfinished points that are kept are farther" in str(told(both, [3.0, -4.0, 0.0]))


# ---- unfinished rows -----------------------------------------------------------------------------

FALLING = (FIXED, 0.0, 17, 0.0), (UNFINISHED, 0.5, 2, 1e-9), (UNFINISHED, 0.7, 1, 1e-10)


def test_points_that_are_farther_out_than_all_starts_are_told():
    farther = "farther from the centre of the initial states than any of these"
    all_fps = rows((FIXED, 0.2, 5, 1e-20), (FIXED, 5.0, 1, 1e-20), (SLOW, 3.0, 2, 1e-4))
    centre = np.mean(all_fps.x_init, axis=0)
    farthest = np.linalg.norm(all_fps.x_init - centre, axis=1).max()
    times = np.linalg.norm([5.0, 0.0] - centre) / farthest
    text = str(told(all_fps, [0.2, 5.0]))
    assert f"1 fixed point that is kept is {farther} ({times:.1f} times as far)" in text
    text = str(told(all_fps, [0.2, 5.0, 3.0]))
    both = "1 fixed point and 1 slow point that are kept are"
    assert f"{both} {farther} (up to {times:.1f} times as far)" in text
    assert "`fps.status`" not in text  # which is about unfinished points
    assert farther not in str(told(all_fps, [0.2]))
    # Identical starts have no size to compare with.
    same = all_fps.replace(x_init=np.zeros((8, 2)))
    assert farther not in str(told(same, [0.2, 5.0]))


def test_rows_that_left_the_states_of_a_gated_unit_are_counted():
    def F(x, u):
        return x + jax.nn.sigmoid(5 - x) * (jnp.tanh(3 * x) - x)

    all_fps = rows((FIXED, 0.0, 5, 1e-20), (ESCAPED, 3.0, 2, 1e-12), (ESCAPED, 0.9, 1, 1e-9))
    all_fps = all_fps.replace(inputs=np.zeros((8, 0)))
    fps = unique(all_fps).compact()
    left = "left the states that no trajectory leaves"
    text = str(account(fps, all_fps, F=F))
    assert f"3 escaped: 2 {left}; of the others, q falls without end" in text
    assert f"2 escaped: they {left}" in str(account(fps, all_fps[:7], F=F))
    text = str(account(fps, all_fps))  # what the network is, is not known
    assert "3 escaped: no point is there. Either q falls without end" in text
    assert f"or they {left}; `account` with `F` says which" in text


def test_unfinished_rows_are_dropped_if_asked_for():
    found = told(rows(*FALLING), [0.0], keep_unfinished=False)
    assert [part.dropped_by for part in found.parts] == ["", "keep_unfinished"]
    assert found.dropped_by.tolist() == [""] * 17 + ["keep_unfinished"] * 3
    assert "3 ended unfinished, with q from 1e-10 to 1e-9; `keep_unfinished=True` keeps them." in (
        found.lines
    )
    assert found.warning.startswith("Of 20 starts, 3 ended unfinished")
    found = told(rows(*FALLING), [0.0, 0.5, 0.7])
    assert found.parts[1].n_points == 2 and not found.warning


def test_few_unfinished_rows_are_not_warned_of():
    found = told(rows((FIXED, 0.0, 97, 0.0), *FALLING[1:]), [0.0], keep_unfinished=False)
    assert not found.warning and "3 ended unfinished" in found.lines[1]


@pytest.mark.slow
def test_a_search_that_is_cut_off_keeps_what_it_is_told_to():
    def F(x, u):
        return jnp.tanh(2 * x + u)

    x, u = np.float32([[0.3], [0.5], [-0.4]]), np.zeros(1, np.float32)
    settings = {"solver": Adam(lr_init=0.01), "max_iters": 2, "final_q_threshold": None}
    with pytest.warns(UserWarning, match="3 ended unfinished.* `keep_unfinished=True` keeps them"):
        fps, all_fps = find_fixed_points(F, x, u, keep_unfinished=False, **settings)
    assert fps.n == 0 and np.asarray(all_fps.valid).all()
    fps, _ = find_fixed_points(F, x, u, **settings)
    assert fps.n == 3 and (np.asarray(fps.status) == UNFINISHED).all()


def test_points_whose_q_is_rounding_are_kept_in_any_case():
    """As on a line or ring of fixed points, where rows may be unfinished for ever."""
    all_fps = rows((UNFINISHED, 0.5, 2, 1e-16), (UNFINISHED, 0.7, 1, 1e-10))
    x = np.float32(all_fps.xstar)
    all_fps = all_fps.replace(xstar=x, x_init=np.float32(all_fps.x_init), inputs=x[:, :0])
    fps = select(lambda x, u: x, unique(all_fps), keep_unfinished=False)
    assert np.asarray(fps.xstar)[:, 0].tolist() == [0.5]
    found = account(fps, all_fps, keep_unfinished=False)
    assert found.dropped_by.tolist() == ["", "", "keep_unfinished"]


@pytest.mark.slow
def test_a_line_of_fixed_points_is_kept():
    def F(x, u):
        return x * jnp.array([1.0, 0.5]) + 0 * u

    x = np.float32(np.random.default_rng(0).uniform(-1, 1, (32, 2)))
    fps, _ = find_fixed_points(F, x, np.zeros(1, np.float32), keep_unfinished=False)
    assert fps.n > 25
