"""`coverage`: estimates of what a search has missed, against formulas and simulated searches."""

from functools import cache

import jax
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import case, trained
from scipy import stats

import slowpoints
from slowpoints import FixedPoints, Status, coverage, optimize_batch, unique


def points(hits, **fields):
    hits = np.asarray(hits, np.int32)
    return FixedPoints(xstar=np.arange(hits.size, dtype=float)[:, None], hits=hits, **fields)


# ---- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hits",
    [
        [5, 3, 2, 2, 1, 1, 1],
        [9, 1, 1],
        [2, 2, 2],
        [4, 1],
        [100, 50, 1, 2],
        [1, 1, 1, 2],
        list(range(1, 30)),
    ],
)
def test_estimates_agree_with_the_formulas(hits):
    told = coverage(points(hits))
    n, f1, f2 = sum(hits), hits.count(1), hits.count(2)
    assert (told.n_rows, told.n_found) == (n, len(hits))
    assert (told.n_once, told.n_twice) == (f1, f2)
    # Chao & Jost 2012: 1 - C = f1/n * (n-1) f1 / ((n-1) f1 + 2 f2), with variants without twos.
    if f2:
        expected = f1 / n * ((n - 1) * f1 / ((n - 1) * f1 + 2 * f2))
    else:
        expected = f1 / n * ((n - 1) * (f1 - 1) / ((n - 1) * (f1 - 1) + 2))
    np.testing.assert_allclose(told.p_new, expected, rtol=1e-12)
    # Chao 1984: f1^2 / (2 f2), or f1 (f1 - 1) / 2 without twos, times (n - 1) / n.
    ratio = f1**2 / (2 * f2) if f2 else f1 * (f1 - 1) / 2
    np.testing.assert_allclose(told.n_unseen, (n - 1) / n * ratio, rtol=1e-12)


@pytest.mark.parametrize("hits", [[5, 3, 2, 2, 1, 1, 1], [1] * 20 + [2] * 5 + [30], [40, 1, 1, 1]])
def test_the_interval_of_the_probability_is_poissons_widened_by_estys_variance(hits):
    told = coverage(points(hits))
    n, f1, f2 = sum(hits), hits.count(1), hits.count(2)
    spread = np.sqrt(f1 + 2 * f2)
    low, high = told.p_new_interval
    np.testing.assert_allclose(low, max(0, f1 - stats.norm.ppf(0.975) * spread) / n, rtol=1e-3)
    wider = (f1 + 2 * f2) / f1
    upper = stats.chi2.ppf(0.975, 2 * (f1 / wider + 1)) / 2  # Garwood 1936
    np.testing.assert_allclose(high, min(1, wider * upper / n), rtol=1e-9)


def test_without_twos_the_interval_is_garwoods():
    high = coverage(points([95, 1, 1, 1, 1, 1])).p_new_interval[1]
    np.testing.assert_allclose(high, stats.chi2.ppf(0.975, 12) / 2 / 100, rtol=1e-9)
    high = coverage(points([50, 50])).p_new_interval[1]
    np.testing.assert_allclose(high, stats.chi2.ppf(0.975, 2) / 2 / 100, rtol=1e-9)


def test_the_interval_of_the_unseen_is_lognormal_as_chaos():
    hits = [1] * 40 + [2] * 20 + [10] * 12
    told = coverage(points(hits))
    n, f1, f2 = sum(hits), 40, 20
    k, r = (n - 1) / n, f1 / f2
    variance = f2 * (k * r**2 / 2 + k**2 * r**3 + k**2 * r**4 / 4)
    estimate = k * f1**2 / (2 * f2)
    # The end of what Chao's 97.5 % interval would be, or somewhat below, and never beyond 3 sigma.
    ends = [
        estimate / np.exp(z * np.sqrt(np.log(1 + variance / estimate**2))) for z in (3.0, 1.959)
    ]
    assert np.floor(ends[0]) <= told.n_unseen_interval[0] <= np.floor(ends[1])
    assert told.n_unseen_interval[1] == np.floor(n * told.p_new_interval[1])


# ---- simulated searches ------------------------------------------------------------------------


@cache
def rows_of_a_flip_flop(n=8192):
    """Return the rows of a wide search of a trained network, and the point of each."""
    traj = case("tanh")["traj"]
    rng = np.random.default_rng(0)
    states = traj.reshape(-1, traj.shape[-1])[rng.integers(0, 4096, n)]
    starts = np.float32(states + 0.5 * rng.standard_normal(states.shape))
    rows = optimize_batch(trained("tanh"), starts, np.zeros((1, 3), np.float32), mesh=None)
    rows = rows.to_numpy()
    assert np.all(rows.status == Status.FIXED_POINT)
    kept = unique(rows).compact()
    far = np.linalg.norm(rows.xstar[:, None] - np.asarray(kept.xstar), axis=-1)
    return rows, far.argmin(axis=1)


def shares(name):
    """Return with what probabilities a start leads to each point."""
    rng = np.random.default_rng(7)
    weights = {
        "equal": lambda: np.ones(60),
        "flip-flop": lambda: np.bincount(rows_of_a_flip_flop()[1]),
        "geometric": lambda: 0.8 ** np.arange(60),
        "lognormal": lambda: np.exp(1.5 * rng.standard_normal(100)),
        "dominating": lambda: np.r_[50.0, np.ones(30)],
    }[name]()
    return weights / weights.sum()


KINDS = ("equal", "flip-flop", "geometric", "lognormal", "dominating")
SEARCHES = 500


@cache
def searches(name, n):
    """Return what is told of simulated searches, and the truth of each.

    The truth is the probability of a new point, how many are unseen, and how many of these are such
    that one in `n` starts leads to them.
    """
    p = shares(name)
    rng = np.random.default_rng(n)
    told, truth = [], []
    for hits in rng.multinomial(n, p, SEARCHES):
        told.append(coverage(points(hits[hits > 0])))
        unseen = hits == 0
        truth.append((p[unseen].sum(), unseen.sum(), np.sum(unseen & (p >= 1 / n))))
    return told, truth


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 128, 512])
@pytest.mark.parametrize("name", KINDS)
def test_the_probability_is_in_its_interval_in_95_of_100_searches(name, n):
    told, truth = searches(name, n)
    ends = np.array([t.p_new_interval for t in told])
    p_new = np.array([p for p, *_ in truth])
    inside = (ends[:, 0] <= p_new) & (p_new <= ends[:, 1])
    assert inside.mean() >= 0.93  # 95 % less two standard deviations of 500 searches
    # Nor is it much wider than 500 searches with the same basins vary.
    estimates = np.array([t.p_new for t in told])
    assert np.all((ends[:, 0] <= estimates) & (estimates <= ends[:, 1]))
    width = np.median(ends[:, 1] - ends[:, 0])
    assert width <= 2 * 4 * np.std(estimates - p_new) + 8 / n
    # And the estimate is right on average.
    assert abs(np.mean(estimates - p_new)) <= 0.02 + 0.1 * p_new.mean()


@pytest.mark.slow_cases
@pytest.mark.parametrize("n", [32, 128, 512])
@pytest.mark.parametrize("name", KINDS)
def test_the_number_of_unseen_points_is_bounded_on_both_sides(name, n):
    told, truth = searches(name, n)
    fewest, most = np.array([t.n_unseen_interval for t in told]).T
    unseen, common = np.array([rest for _, *rest in truth]).T
    assert np.mean(fewest <= unseen) >= 0.955
    assert np.mean(common <= most) >= 0.96
    assert np.all(fewest <= [t.n_unseen for t in told])


def test_the_bounds_say_something():
    """Where most points are unseen, the lower end shows it, and the upper one where none are."""
    few, truth = searches("equal", 32)
    assert np.median([t.n_unseen_interval[0] for t in few]) >= 0.2 * np.median(
        [t[1] for t in truth]
    )
    many, truth = searches("equal", 512)
    assert np.median([t.n_unseen_interval[1] for t in many]) <= 8
    assert np.median([t.p_new_interval[1] for t in many]) <= 8 / 512


# ---- real searches -----------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_of_a_real_search_tell_what_the_rest_finds():
    _, place = rows_of_a_flip_flop()
    n_points = place.max() + 1
    assert n_points == 27
    p = np.bincount(place) / place.size
    rng = np.random.default_rng(1)
    inside, above, below = [], [], []
    for _ in range(SEARCHES):
        chosen = rng.choice(place.size, 128, replace=False)
        hits = np.bincount(place[chosen], minlength=n_points)
        told = coverage(points(hits))
        unseen = hits == 0
        low, high = told.p_new_interval
        inside.append(low <= p[unseen].sum() <= high)
        below.append(told.n_unseen_interval[0] <= unseen.sum())
        above.append(np.sum(unseen & (p >= 1 / 128)) <= told.n_unseen_interval[1])
    assert np.mean(inside) >= 0.93
    assert np.mean(below) >= 0.955
    assert np.mean(above) >= 0.96


@pytest.mark.slow
def test_hits_of_unique_count_the_rows_at_each_point():
    rows, place = rows_of_a_flip_flop()
    kept = unique(rows).compact()
    counts = np.bincount(place, minlength=27)
    assert sorted(np.asarray(kept.hits).tolist()) == sorted(counts.tolist())
    assert np.asarray(kept.hits).tolist() == counts.tolist()
    told = coverage(kept)
    assert (told.n_rows, told.n_found) == (8192, 27)
    # In one part of the rows, and inside `jit`.
    part = np.random.default_rng(3).choice(rows.n, 128, replace=False)
    few = unique(rows[part])
    counts = np.bincount(place[part], minlength=27)
    expected = (128, np.sum(counts > 0), np.sum(counts == 1), np.sum(counts == 2))
    for fps in (few, few.compact(), unique(rows[part], size=40), jax.jit(unique)(rows[part])):
        told = coverage(fps)
        assert (told.n_rows, told.n_found, told.n_once, told.n_twice) == expected
    assert slowpoints.Coverage is type(told)


@pytest.mark.slow
def test_hits_are_added_when_parts_of_a_search_are_put_together():
    rows, place = rows_of_a_flip_flop()
    parts = [unique(rows[k::2][np.arange(512)]).compact().to_numpy() for k in range(2)]
    both = coverage(unique(FixedPoints.concatenate(parts)))
    assert both.n_rows == 1024
    seen = np.r_[place[::2][:512], place[1::2][:512]]
    counts = np.bincount(seen, minlength=27)
    assert both.n_found == np.sum(counts > 0) and both.n_once == np.sum(counts == 1)


# ---- edges -------------------------------------------------------------------------------------


def test_one_row_says_nothing():
    told = coverage(points([1]))
    assert (told.n_rows, told.n_found, told.n_once, told.n_twice) == (1, 1, 1, 0)
    assert told.p_new_interval == (0.0, 1.0)
    assert told.n_unseen == 0 and told.n_unseen_interval == (0, 1)
    assert 0 <= told.p_new <= 1


def test_points_that_were_all_found_once_leave_nearly_all_unseen():
    told = coverage(points([1] * 50))
    assert 0.9 < told.p_new <= 1
    assert told.p_new_interval[1] == 1.0 and told.p_new_interval[0] > 0.6
    np.testing.assert_allclose(told.n_unseen, 49 / 50 * 50 * 49 / 2)
    assert 50 < told.n_unseen_interval[0] < told.n_unseen
    assert told.n_unseen_interval[1] == 50


def test_rows_that_all_lead_to_one_point_leave_little():
    told = coverage(points([1000]))
    assert told.p_new == 0 and told.n_unseen == 0
    low, high = told.p_new_interval
    assert low == 0 and 3 / 1000 <= high < 5 / 1000
    assert told.n_unseen_interval == (0, 3)


def test_only_valid_rows_at_fixed_points_count():
    hits, status = [4, 1, 2, 7, 0], np.array([1, 1, 2, 1, 1], np.int8)
    told = coverage(points(hits, status=status, valid=np.array([1, 1, 1, 0, 1], bool)))
    assert (told.n_rows, told.n_found, told.n_once, told.n_twice) == (5, 2, 1, 0)
    told = coverage(points(hits, status=status))
    assert (told.n_rows, told.n_found) == (12, 3)
    told = coverage(points(hits))
    assert (told.n_rows, told.n_found, told.n_twice) == (14, 4, 1)


def test_the_estimates_are_told_in_words():
    told = coverage(points([5, 3, 2, 2, 1, 1, 1]))
    first, second, third = str(told).split("\n")
    assert first == ("15 starts led to 7 fixed points, 3 of which were found once and 2 twice.")
    low, high = told.p_new_interval
    assert f"probability of {told.p_new:.2g} (95 %: {low:.2g} to {high:.2g})" in second
    fewest, most = told.n_unseen_interval
    assert f"About {told.n_unseen:.1f} points or more are unseen: at least {fewest}" in third
    assert third.endswith(f"one start in 15 leads to at most {most}.")


@pytest.mark.checks_input
def test_points_without_rows_are_refused():
    with pytest.raises(TypeError, match=r"coverage: `fps`.*slowpoints.FixedPoints"):
        coverage([1, 2])
    with pytest.raises(ValueError, match=r"coverage: `fps.hits` is None"):
        coverage(FixedPoints(xstar=np.zeros((1, 1))))
    for fps in (
        points([]),
        points([0, 0]),
        points([3], valid=np.array([False])),
        points([3], status=np.array([Status.SLOW_POINT], np.int8)),
    ):
        with pytest.raises(ValueError, match="coverage: `fps` has no rows at fixed points"):
            coverage(fps)
    for wrong in (-1, 1.5, np.nan):
        fps = FixedPoints(xstar=np.zeros((2, 1)), hits=np.array([4, wrong]))
        with pytest.raises(ValueError, match=rf"`fps.hits` holds {wrong}.*; expected numbers of"):
            coverage(fps)
