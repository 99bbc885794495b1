"""`search_until`: rounds that find all points, and end when they should."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import Affine, case, trained
from scipy import stats

import slowpoints
from slowpoints import (
    FixedPointFinder,
    FixedPoints,
    LevenbergMarquardt,
    Rounds,
    Status,
    coverage,
    find_fixed_points,
    sample_states,
    search_until,
)
from slowpoints._completeness.rows_in_vain import Vain

N_POINTS = {"tanh": 27, "gru": 27, "lstm": 27, "tanh_4": 27, "tanh_6": 81}
KINDS = ["trajectories", "between points", "parallelograms", "out of saddles", "anywhere"]
NO_INPUT = np.zeros(1, np.float32)


def one_trial(cell):
    """Return the 64 states of one trial, and no input."""
    return case(cell)["traj"][:1], np.zeros(case(cell)["Wi"].shape[1], np.float32)


@cache
def searched(cell, seed=0, **settings):
    """Return what a search from one trial finds, and the rows of each of its rounds."""
    states, u = one_trial(cell)
    rounds = []
    found = search_until(
        trained(cell),
        states,
        u,
        key=jax.random.key(seed),
        compute_jacobians=False,
        progress=rounds.append,
        **settings,
    )
    return *found, rounds


def states_of(n_states, n=64, scale=1.0):
    rng = np.random.default_rng(0)
    return np.float32(scale * rng.uniform(-1, 1, (1, n, n_states)))


def linear(slope):
    """Return `slope x + u`; those of all slopes share their compiled programs."""
    return Affine(jnp.full((1, 1), slope), jnp.ones((1, 1)))


def one_unit(x, u):
    return jnp.tanh(2 * x + u)


def short_search(F, n_states=1, seed=0, inputs=NO_INPUT, **settings):
    """Return a search of a small network, with few rows in each round."""
    settings = {"rows_at_a_time": 16, "max_rows": 4096, "coverage": 0.9} | settings
    key = jax.random.key(seed)
    return search_until(F, states_of(n_states), inputs, key=key, **settings)


# ---- trained networks --------------------------------------------------------------------------


def check_finds_all(cell, seed):
    fps, all_fps, told, _ = searched(cell, seed)
    assert fps.n == N_POINTS[cell]
    assert told.ended_by == "coverage and degree" and told.degree == 1
    assert told.coverage >= 0.99
    assert told.n_rows == all_fps.n < 2**14
    assert np.all(np.asarray(fps.status) == Status.FIXED_POINT)
    at_points = np.sum(np.asarray(all_fps.status) == Status.FIXED_POINT)
    assert np.asarray(fps.hits).sum() == at_points <= told.n_rows
    if "xstar" in case(cell):
        distance = np.linalg.norm(np.asarray(fps.xstar)[:, None] - case(cell)["xstar"], axis=-1)
        assert sorted(distance.argmin(axis=1)) == list(range(fps.n))
        assert distance.min(axis=1).max() < 1e-4


@pytest.mark.parametrize(
    ("cell", "seed"),
    [("tanh", 0), ("tanh_4", 0), ("tanh_6", 0)],
)
@pytest.mark.slow
def test_all_points_are_found_from_one_trial(cell, seed):
    check_finds_all(cell, seed)


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("cell", list(N_POINTS))
def test_all_points_are_found_from_one_trial_whatever_the_key(cell, seed):
    check_finds_all(cell, seed)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("cell", ["tanh", "tanh_6"])
def test_states_of_the_trial_alone_do_not_lead_to_all_points_in_more_rows(cell, noise):
    states, u = one_trial(cell)
    rng = np.random.default_rng(0)
    starts = states[0][rng.integers(0, 64, 8192)]
    starts = np.float32(starts + noise * rng.standard_normal(starts.shape))
    settings = {"outlier_distance_scale": None, "compute_jacobians": False, "mesh": None}
    plain, _ = find_fixed_points(trained(cell), starts, u, **settings)
    fps, _, told, _ = searched(cell)
    assert plain.n < fps.n == N_POINTS[cell]
    assert told.n_rows < len(starts)


# ---- how it ends -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["tanh", "tanh_6"])
def test_the_coverage_is_clopper_and_pearsons_bound_with_a_run_s_part_of_the_error(cell):
    fps, _, told, rounds = searched(cell)
    seen, n, run = set(), 0, 1
    ends = []
    for i, part in enumerate(rounds):
        exact = np.asarray(part.status) == Status.FIXED_POINT
        away = np.linalg.norm(np.asarray(part.xstar)[:, None] - np.asarray(fps.xstar), axis=-1)
        place = np.where(exact, away.argmin(axis=1), -1)
        missed = sum(p >= 0 and p not in seen for p in place)
        n = 0 if missed or i == 0 else n + part.n
        run += bool(missed and i > 0)
        error = 0.05 / (run * (run + 1))
        seen |= set(place[place >= 0].tolist())
        ends.append(1 - stats.beta.ppf(1 - error, 1, n) if n else 0.0)
    np.testing.assert_allclose(told.coverage, ends[-1], rtol=1e-9)
    bound = stats.binomtest(0, n, alternative="less").proportion_ci(1 - error, "exact").high
    np.testing.assert_allclose(told.coverage, 1 - bound, rtol=1e-9)
    assert told.coverage >= 0.99
    # It ends as soon as it may: one round before, the coverage was less, or points were missing.
    assert ends[-2] < 0.99


def wrongly_ended(masses, coverage_of, asked, rounds_of, n_searches=400, most=2**14):
    """Return the share of searches that end with less coverage than was asked for.

    Args:
        masses: the share of starts that leads to each point.
        coverage_of: the lower bound, of the rows in vain that `Vain` describes.
        asked: the coverage at which a search ends.
        rounds_of: the rows of a round.
        n_searches: how many searches there are.
        most: the most rows of a search.
    """
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(n_searches):
        # All rows at once: the round in which each point is first found.
        row = rng.choice(len(masses), size=most, p=masses)
        first = np.full(len(masses), most)
        np.minimum.at(first, row, np.arange(most))
        new = np.bincount(first[first < most] // rounds_of, minlength=most // rounds_of)
        vain = Vain()
        for i in range(1, most // rounds_of):
            vain = vain.after(rounds_of, bool(new[i]))
            if coverage_of(vain) >= asked:
                wrong += masses[first < (i + 1) * rounds_of].sum() < asked
                break
    return wrong / n_searches


ONE_BY_ONE = np.array([0.97] + [0.03 / 600] * 600)
"""Many rare points: hundreds are found while slightly more than 1 % of the starts is unseen."""

MASSES = {
    "one by one": ONE_BY_ONE,
    "half unseen at last": np.array([0.8, 0.1, 0.0895, 0.0105]),
    "halves": np.array([2.0**-k for k in range(1, 12)] + [2.0**-11]),
    "even": np.full(90, 1 / 90),
    "all rare": np.full(5000, 1 / 5000),
}


@pytest.mark.one_in(3)
@pytest.mark.slow_cases
@pytest.mark.parametrize("rounds_of", [pytest.param(16, marks=pytest.mark.slow), 128])
@pytest.mark.parametrize("name", MASSES)
def test_searches_end_with_less_coverage_than_asked_in_no_more_than_5_of_100(name, rounds_of):
    share = wrongly_ended(MASSES[name], Vain.coverage, 0.99, rounds_of)
    # Of 400 searches of which 5 in 100 are wrong, 31 or more are wrong once in a hundred times.
    assert share <= 30 / 400


@pytest.mark.slow
@pytest.mark.parametrize(("rounds_of", "least"), [(16, 0.3), (128, 0.08)])
def test_granting_each_run_the_whole_error_would_be_wrong_more_often(rounds_of, least):
    once = lambda vain: 0.05 ** (1 / vain.n_rows) if vain.n_rows else 0.0  # noqa: E731
    assert wrongly_ended(ONE_BY_ONE, once, 0.99, rounds_of) > least


def test_the_parts_of_the_error_add_up_to_no_more_than_5_in_100():
    parts = [Vain(1, run).coverage() for run in range(1, 10_000)]
    assert 0.0499 < sum(parts) <= 0.05
    assert Vain(0).coverage() == 0.0 and Vain(367).coverage() < 0.99 <= Vain(368).coverage()
    assert Vain(783, run=11).coverage() < 0.99 <= Vain(784, run=11).coverage()


@pytest.mark.slow
def test_less_coverage_takes_fewer_rows():
    states, u = one_trial("tanh")
    rows = []
    for share in (0.5, 0.9, 0.99):
        settings = {"coverage": share, "degree": None, "compute_jacobians": False}
        found = search_until(trained("tanh"), states, u, key=jax.random.key(0), **settings)
        assert found[2].ended_by == "coverage" and found[2].coverage >= share
        rows.append(found[2].n_rows)
    assert rows[0] <= rows[1] < rows[2]


@pytest.mark.slow
def test_the_search_goes_on_until_the_degree_is_right():
    settings = {"coverage": 0.0, "rows_at_a_time": 64, "max_rows": 8192}
    some, _, told, _ = searched("tanh", 0, degree=None, **settings)
    assert told.n_rows == 64 and told.ended_by == "coverage"
    assert told.degree != 1 and some.n < 27  # the states' own 64 rows find nodes, mostly
    more, _, told, _ = searched("tanh", 0, **settings)
    assert told.n_rows > 64 and told.degree == 1 and more.n > some.n
    assert told.ended_by == "coverage and degree"


@pytest.mark.slow
def test_a_network_with_unbounded_states_ends_by_coverage_or_by_its_own_degree():
    for degree, ended_by in ((None, "coverage"), (-1, "coverage and degree")):
        fps, _, told = short_search(linear(2.0), degree=degree)
        assert fps.n == 1 and abs(fps.xstar[0, 0]) < 1e-6
        assert (told.ended_by, told.degree) == (ended_by, -1)
        assert told.n_rows < 4096
    assert np.asarray(fps.is_stable).tolist() == [False]


@pytest.mark.slow
@pytest.mark.parametrize("degree", [1, 0, 2])
def test_a_degree_that_is_never_reached_ends_by_the_budget(degree):
    fps, all_fps, told = short_search(linear(2.0), degree=degree, max_rows=1000)
    assert fps.n == 1
    assert (told.ended_by, told.degree) == ("max_rows", -1)
    assert told.n_rows == all_fps.n == 1000
    assert told.coverage >= 0.9  # which it had long before


@pytest.mark.slow
def test_a_line_of_fixed_points_ends_by_coverage_alone():
    line = lambda x, u: jnp.stack([jnp.clip(x[0], -1, 1), 0.5 * x[1]])  # noqa: E731
    fps, _, told = short_search(line, 2, tol_unique=0.2, max_rows=8192)
    assert (told.ended_by, told.degree) == ("coverage", None)
    assert 5 <= fps.n <= 20
    assert "the sum of signs is not known" in str(told)


@pytest.mark.slow
def test_a_network_without_fixed_points_ends():
    fps, _, told = short_search(linear(1.0), inputs=NO_INPUT + 1, degree=0)
    assert fps.n == 0 and told.ended_by == "coverage and degree" and told.degree == 0
    assert short_search(linear(1.0), inputs=NO_INPUT + 1, max_rows=64)[2].ended_by == "max_rows"


@pytest.mark.slow
def test_a_network_with_few_points_takes_few_rows():
    """0.99 takes 299 rows in a row that find nothing: all three points are in the first round."""
    fps, _, told = search_until(one_unit, states_of(1), NO_INPUT, key=jax.random.key(0))
    assert fps.n == 3 and told.ended_by == "coverage and degree"
    assert told.n_rows <= 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    ("most", "at_a_time", "sizes"),
    [
        (33, 16, [16, 16, 1]),
        (32, 16, [16, 16]),
        (1, 16, [1]),
    ],
)
def test_the_budget_is_kept_exactly(most, at_a_time, sizes):
    rounds = []
    settings = {"rows_at_a_time": at_a_time, "degree": 7, "progress": rounds.append}
    _, all_fps, told = short_search(one_unit, max_rows=most, **settings)
    assert [part.n for part in rounds] == sizes
    assert told.n_rows == all_fps.n == most == sum(rows for rows, _ in told.found.values())
    assert told.ended_by == "max_rows"


def test_how_it_went_is_told_in_words():
    told = Rounds("coverage", 300, 0.98765, 1, {"trajectories": (200, 3), "anywhere": (100, 1)})
    assert str(told) == (
        "Ended by coverage after 300 starts. At least 98.8% of further starts would find nothing "
        "new (95 % sure); the sum of signs is 1. New points by the kind of start: trajectories "
        "3 in 200, anywhere 1 in 100."
    )


# ---- the rows ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["tanh", "tanh_6"])
def test_all_rows_are_returned_in_order_and_progress_is_told_of_each_round(cell):
    _, all_fps, told, rounds = searched(cell)
    assert [part.n for part in rounds] == [128] * (told.n_rows // 128)
    for name in ("x_init", "xstar", "inputs", "qstar", "status"):
        expected = np.concatenate([np.asarray(getattr(part, name)) for part in rounds])
        np.testing.assert_array_equal(np.asarray(getattr(all_fps, name)), expected)


def test_progress_can_end_a_search_early():
    states, u = one_trial("tanh")

    def progress(rows):
        raise StopIteration

    key = jax.random.key(0)
    settings = {"key": key, "compute_jacobians": False, "progress": progress}
    fps, rows, told = search_until(trained("tanh"), states, u, **settings)
    assert told.ended_by == "progress" and told.n_rows == rows.n == 128
    assert 0 < fps.n < 27


@pytest.mark.slow
def test_the_first_round_starts_from_states_of_the_trajectories():
    states, _ = one_trial("tanh")
    _, all_fps, told, _ = searched("tanh")
    first = sample_states(jax.random.key(0), jnp.asarray(states), 128, 0.0)
    np.testing.assert_array_equal(np.asarray(all_fps.x_init)[:128], first)
    away = np.abs(np.asarray(all_fps.x_init)[:, None] - states[0]).max(axis=-1).min(axis=1)
    assert away[:128].max() == 0 and away[128:].min() > 0
    assert list(told.found) == KINDS
    assert all(rows > 0 for rows, _ in told.found.values())
    assert sum(new for _, new in told.found.values()) == 27
    low, high = states[0].min(), states[0].max()
    assert np.all(np.asarray(all_fps.x_init).min() < low)
    assert np.all(np.asarray(all_fps.x_init).max() > high)


@pytest.mark.slow
def test_the_first_round_may_have_noise_and_fewer_states():
    states, key = states_of(1), jax.random.key(3)
    which = np.zeros((1, 64), bool)
    which[0, :4] = True
    settings = {"noise_scale": 0.25, "valid_bxt": which, "max_rows": 16, "rows_at_a_time": 16}
    _, all_fps, _ = search_until(one_unit, states, NO_INPUT, key=key, **settings)
    expected = sample_states(key, jnp.asarray(states), 16, 0.25, jnp.asarray(which))
    np.testing.assert_array_equal(np.asarray(all_fps.x_init), expected)


@pytest.mark.slow
def test_kinds_of_start_that_need_more_points_wait_for_them():
    # One stable point: nothing to be between, and no saddle.
    _, _, told = short_search(linear(0.5))
    rows = {kind: n for kind, (n, _) in told.found.items()}
    assert [rows[kind] for kind in KINDS[1:4]] == [0, 0, 0]
    assert rows["trajectories"] > 16 and rows["anywhere"] > 0
    # One saddle: starts along its unstable direction.
    _, _, told = short_search(linear(2.0), degree=-1)
    rows = {kind: n for kind, (n, _) in told.found.items()}
    assert [rows[kind] for kind in KINDS[1:3]] == [0, 0] and rows["out of saddles"] > 0


@pytest.mark.slow
def test_starts_out_of_saddles_lie_on_their_unstable_lines():
    """The unstable direction is (1, 1), which no other kind of start is on."""
    A = jnp.array([[1.25, 0.75], [0.75, 1.25]])
    states = states_of(2) + np.float32([0.0, 5.0])
    _, all_fps, told = search_until(
        lambda x, u: A @ x, states, NO_INPUT, key=jax.random.key(0), degree=-1, max_rows=256
    )
    starts = np.asarray(all_fps.x_init)[128:]
    on_line = np.abs(starts[:, 0] - starts[:, 1]) < 1e-4
    assert on_line.sum() == told.found["out of saddles"][0] > 10
    assert (starts[on_line, 0] > 0).any() and (starts[on_line, 0] < 0).any()


@pytest.mark.slow
def test_the_same_key_gives_the_same_answer_and_another_one_another():
    a, b = (short_search(one_unit, seed=5) for _ in range(2))
    assert a[2] == b[2]
    for name in ("xstar", "x_init", "hits", "J_xstar"):
        np.testing.assert_array_equal(getattr(a[0], name), getattr(b[0], name))
    np.testing.assert_array_equal(a[1].x_init, b[1].x_init)
    other = short_search(one_unit, seed=6)
    # Not only the states of the first round are drawn otherwise.
    assert not np.isin(np.asarray(other[1].x_init)[16:], np.asarray(a[1].x_init)).any()


@pytest.mark.slow
def test_the_points_are_linearised_as_asked():
    fps = short_search(one_unit)[0]
    assert fps.n == 3 and slowpoints.degree(one_unit, fps) == 1
    assert fps.is_stable is not None and np.asarray(fps.is_stable).sum() == 2
    fps = short_search(one_unit, decompose_jacobians=False)[0]
    assert fps.J_xstar is not None and fps.eigval_J_xstar is None
    fps = short_search(one_unit, compute_jacobians=False)[0]
    assert fps.J_xstar is None
    assert coverage(fps).n_found == 3


@pytest.mark.slow
def test_the_rules_of_selection_hold():
    fps, _, told = short_search(one_unit, max_n_unique=2)
    assert fps.n == 2 and told.degree == 1
    fps, _, _ = short_search(one_unit, solver=LevenbergMarquardt())
    assert fps.n == 3
    far, _, _ = short_search(one_unit, outlier_distance_scale=0.5)
    assert np.abs(np.asarray(far.xstar)).max() < 0.5 and far.n == 1


@pytest.mark.slow
def test_inputs_may_have_one_row_and_count():
    u = np.full((1, 1), 0.25, np.float32)
    settings = {"key": jax.random.key(0), "coverage": 0.9, "rows_at_a_time": 16}
    fps, _, _ = search_until(one_unit, states_of(1), u, **settings)
    same, _, _ = search_until(one_unit, states_of(1), u[0], **settings)
    np.testing.assert_array_equal(fps.xstar, same.xstar)
    x = np.asarray(fps.xstar)
    assert fps.n == 3
    np.testing.assert_allclose(x, np.tanh(2 * x + 0.25), atol=1e-6)


# ---- arguments ---------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"coverage": 1}, ValueError),
        ({"coverage": 1.5}, ValueError),
        ({"coverage": -0.1}, ValueError),
        ({"coverage": np.nan}, ValueError),
        ({"coverage": None}, TypeError),
        ({"degree": 1.5}, TypeError),
        ({"degree": True}, TypeError),
        ({"degree": "1"}, TypeError),
        ({"max_rows": 0}, ValueError),
        ({"max_rows": 10.5}, TypeError),
        ({"max_rows": np.inf}, ValueError),
        ({"rows_at_a_time": 0}, ValueError),
        ({"noise_scale": -1.0}, ValueError),
        ({"key": 0.5}, TypeError),
        ({"progress": 3}, TypeError),
        ({"compute_jacobians": 2}, TypeError),
        ({"tol_unique": -1.0}, ValueError),
        ({"final_q_threshold": -1.0}, ValueError),
        ({"max_iters": 0}, ValueError),
        ({"solver": "adam"}, TypeError),
        ({"valid_bxt": np.ones((1, 3), bool)}, ValueError),
    ],
)
def test_bad_settings_are_refused_by_name(settings, kind):
    name = next(iter(settings))
    with pytest.raises(kind, match=f"`{name}`"):
        search_until(one_unit, states_of(1), NO_INPUT, **{"key": jax.random.key(0)} | settings)


@pytest.mark.checks_input
def test_bad_networks_states_and_inputs_are_refused():
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="int"):
        search_until(3, states_of(1), NO_INPUT, key=key)
    with pytest.raises(ValueError, match=r"search_until: `inputs` has shape \(3, 1\)"):
        search_until(one_unit, states_of(1), np.zeros((3, 1)), key=key)
    with pytest.raises(ValueError, match=r"`inputs`.*NaN"):
        search_until(one_unit, states_of(1), np.full(1, np.nan), key=key)
    with pytest.raises(ValueError, match=r"`state_traj` has shape \(64, 1\)"):
        search_until(one_unit, states_of(1)[0], NO_INPUT, key=key)
    with pytest.raises(ValueError, match="search_until: the model"):
        search_until(trained("tanh"), states_of(3), np.zeros(3), key=key)
    with pytest.raises(TypeError, match=r"is traced; expected to be called outside of `jit`"):
        jax.jit(lambda x: search_until(one_unit, x, NO_INPUT, key=key)[0])(states_of(1))


# ---- the class ---------------------------------------------------------------------------------


def finder_of(cell, **settings):
    return FixedPointFinder(trained(cell), do_decompose_jacobians=False, mesh=None, **settings)


@pytest.mark.slow
def test_the_class_searches_in_rounds_if_it_is_asked_for_coverage(capsys):
    states, u = one_trial("tanh_6")
    finder = finder_of("tanh_6", coverage=0.99)
    fps, all_fps = finder.find_fixed_points(states, u[None], n_inits=8192)
    printed = capsys.readouterr().out
    assert fps.n == 81 and isinstance(fps.xstar, np.ndarray)
    assert all_fps.n < 8192
    assert f"Ended by coverage and degree after {all_fps.n} starts." in printed
    assert "sum to 1, as for a complete set" in printed
    # Without it, from the same trial, it finds the nodes only and says that points are missing.
    finder = finder_of("tanh_6", search_between=False)
    fps, all_fps = finder.find_fixed_points(states, u[None], n_inits=1024)
    printed = capsys.readouterr().out
    assert fps.n < 20 and all_fps.n == 1024 and "Ended by" not in printed


@pytest.mark.slow
def test_the_class_takes_no_more_states_than_it_is_given(capsys):
    settings = {"do_decompose_jacobians": False, "mesh": None}
    finder = FixedPointFinder(one_unit, coverage=0.999, **settings)
    _, all_fps = finder.find_fixed_points(states_of(1), NO_INPUT[None], 200, noise_scale=0.01)
    assert all_fps.n == 200
    assert "Ended by max_rows after 200 starts." in capsys.readouterr().out
    # A finder that says nothing prints nothing.
    quiet = FixedPointFinder(one_unit, coverage=0.5, verbose=False, **settings)
    quiet.find_fixed_points(states_of(1), NO_INPUT[None], 200)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_class_is_as_before_by_default():
    states, u = one_trial("tanh_6")
    finder = finder_of("tanh_6", verbose=False)
    assert finder.coverage is None
    fps, all_fps = finder.find_fixed_points(states, u[None], n_inits=1024)
    key = jax.random.fold_in(jax.random.key(0), 0)
    starts = sample_states(key, jnp.asarray(states), 1024, 0.0)
    settings = {"decompose_jacobians": False, "mesh": None, "search_between": True}
    expected, _ = find_fixed_points(trained("tanh_6"), starts, u[None], **settings)
    np.testing.assert_array_equal(all_fps.x_init, starts)
    np.testing.assert_allclose(fps.xstar, expected.xstar, atol=1e-6)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"coverage": 1.0}, ValueError),
        ({"coverage": -1.0}, ValueError),
        ({"coverage": np.nan}, ValueError),
        ({"coverage": "all"}, TypeError),
        ({"coverage": 0.9, "across_processes": True}, ValueError),
    ],
)
def test_the_class_refuses_bad_coverage(settings, kind):
    with pytest.raises(kind, match="FixedPointFinder: `coverage`"):
        FixedPointFinder(one_unit, **settings)


@pytest.mark.slow
@pytest.mark.checks_input
def test_the_class_in_rounds_takes_one_input_and_no_conditions():
    finder = FixedPointFinder(one_unit, coverage=0.9, verbose=False)
    with pytest.raises(ValueError, match="`inputs` is given for each state; expected one input"):
        finder.find_fixed_points(states_of(1), np.zeros((8, 1)), n_inits=8)
    with pytest.raises(ValueError, match="`cond_ids` is given for each state"):
        finder.find_fixed_points(states_of(1), np.zeros((1, 1)), n_inits=8, cond_ids=np.arange(8))
    assert isinstance(finder.find_fixed_points(states_of(1), NO_INPUT[None], 8)[0], FixedPoints)
