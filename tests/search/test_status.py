"""What each row's status says is true, whichever solver says it."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from constructed import (
    CLEAR,
    N_ROWS,
    NETWORKS,
    NO_INPUT,
    SAME_POINT,
    SIZE,
    SOLVERS,
    around,
    distances,
    fold,
    known,
    parabola,
    search,
    starts,
    tail,
)

import slowpoints
from slowpoints import Status, as_transition, find_fixed_points, optimize_batch
from slowpoints._network.trace import traced
from slowpoints._search.seen_at_first import Rows, seen_at_first
from slowpoints._search.verdict import judge, judge_on_host
from slowpoints._solvers.termination import JUDGED_DENSELY, End
from slowpoints._valleys.tails import is_in_a_tail

DEFAULT_CLASS = "KrylovTrustRegion"
"""The name of the default solver's class, for its setting `polish`."""

HERE = SAME_POINT * np.sqrt(SIZE)
# Rounding a state to float32 moves it by up to 6e-8 of its size, and its residual by up to 2.5
# times as much, the norm of `I - J` of most of these networks.
ROUNDING = 1.5e-7

every_solver = pytest.mark.parametrize("name", SOLVERS)
every_network = pytest.mark.parametrize("network", NETWORKS)


@cache
def found(name, network):
    return search(name, known(network).F, starts(network))


def states(fps, status=None):
    """Return the states of all rows in float64, or of those of one status."""
    x = np.asarray(fps.xstar, float)
    return x if status is None else x[named(fps, status)]


def named(fps, status):
    return np.asarray(fps.status) == status


def all_are(fps, status):
    """Return whether all rows have one status, and say which ones they have where not."""
    names = [Status(code).name for code in np.asarray(fps.status).tolist()]
    assert names == [status.name] * len(names)
    return True


def residual(reference, x):
    return np.sqrt(2 * reference.speed(x))


# ---- what each status means --------------------------------------------------------------------


@pytest.mark.one_in(3)
@every_network
@every_solver
@pytest.mark.slow
def test_every_row_has_a_status_that_agrees_with_valid(name, network):
    fps = found(name, network)
    status = np.asarray(fps.status)
    assert status.dtype == np.int8 and status.shape == (N_ROWS,)
    assert set(status.tolist()) <= set(Status)
    invalid = np.isin(status, [Status.ESCAPED, Status.NOT_FINITE])
    np.testing.assert_array_equal(np.asarray(fps.valid), ~invalid)


@pytest.mark.slow_cases
@every_network
@every_solver
def test_at_a_fixed_point_newton_stays(name, network):
    """Plain Newton's method in float64 finds a root next to the row, rounded as it is."""
    case = known(network)
    x = states(found(name, network), Status.FIXED_POINT)
    assert case.reference.at_fixed_point(x, continuum=case.continuum).all()


@pytest.mark.slow_cases
@every_network
@every_solver
def test_at_a_slow_point_there_is_no_root_and_q_does_not_fall(name, network):
    """Levenberg-Marquardt's method in float64 lowers `q` by no more than one percent."""
    case = known(network)
    x = states(found(name, network), Status.SLOW_POINT)
    check_slow_points(case.reference, x)


def check_slow_points(reference, x):
    assert not reference.at_fixed_point(x).any()
    before, after = residual(reference, x), residual(reference, reference.minimise(x))
    # One percent of `q` is half a percent of the residual.
    slack = ROUNDING * (1 + np.linalg.norm(x, axis=1))
    assert (before - after <= 0.005 * before + slack).all()


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", [*CLEAR, "line"])
def test_the_default_search_knows_fixed_points_for_what_they_are(network):
    """All rows are searched from around a point; on the line, each has one of its own."""
    case = known(network)
    assert all_are(search("default", case.F, case.around(N_ROWS, seed=7)), Status.FIXED_POINT)


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", ["default", "levenberg_marquardt", "newton_krylov"])
def test_the_fixed_point_of_a_doubling_map_is_one(name):
    """All eigenvalues are 2, and one Newton step leads to it from everywhere."""
    fps = found(name, "doubling")
    assert all_are(fps, Status.FIXED_POINT)
    assert np.linalg.norm(states(fps), axis=1).max() <= HERE


# ---- folds and ghosts --------------------------------------------------------------------------

DISTANCES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("d", DISTANCES)
def test_before_a_fold_all_rows_are_at_fixed_points(d, rotated):
    case = fold(d, rotated=rotated)
    fps = search("default", case.F, case.around(N_ROWS))
    assert all_are(fps, Status.FIXED_POINT)
    own = case.points[np.arange(N_ROWS) % 3]
    assert np.linalg.norm(states(fps) - own, axis=1).max() <= HERE


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("d", DISTANCES)
@pytest.mark.slow
def test_beyond_a_fold_the_slow_point_is_no_fixed_point(d, rotated):
    """At `d = 1e-6` its `q` is 1.25e-13, below the default `tol_q`."""
    case = fold(-d, rotated=rotated)
    targets = np.concatenate([case.points, case.slow])
    fps = search("default", case.F, around(targets, N_ROWS, noise=0.03))
    to_point, to_slow = distances(states(fps), targets).T
    at_point = to_point < to_slow
    np.testing.assert_array_equal(named(fps, Status.FIXED_POINT), at_point)
    np.testing.assert_array_equal(named(fps, Status.SLOW_POINT), ~at_point)
    # Rows may leave the slow point's basin, whose other side is open; most must not.
    assert at_point.sum() >= N_ROWS // 2 and (~at_point).sum() >= N_ROWS // 4
    check_slow_points(case.reference, states(fps, Status.SLOW_POINT))


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("d", [1e-2, 1e-4, 1e-6])
def test_a_ghost_is_a_slow_point(d, scale):
    case = parabola(d, scale=scale, rotated=True)
    fps = search("default", case.F, around(case.slow, N_ROWS, noise=0.03))
    assert all_are(fps, Status.SLOW_POINT)


@pytest.mark.slow_cases
@every_solver
def test_where_the_speed_is_the_same_everywhere_no_row_is_at_a_fixed_point(name):
    """`x + 1e-5`: a hundred starts have not a hundred fixed points, and none have escaped."""
    case = known("drift")
    fps = search(name, case.F, case.around(N_ROWS))
    assert not named(fps, Status.FIXED_POINT).any()
    if name == "default":
        assert np.asarray(fps.valid).all()


# ---- rows that end without a point -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_rows_in_a_tail_have_escaped():
    """`x + 1 - tanh(x)`: beyond `x = 19`, float64 makes the residual zero."""
    case = tail()
    first = np.linspace(-1, 3, N_ROWS)
    x = np.zeros((N_ROWS, SIZE))
    x[:, 0] = first
    kept, rows = find_fixed_points(case.F, np.float32(x), NO_INPUT, mesh=None)
    assert all_are(rows, Status.ESCAPED)
    assert not np.asarray(rows.valid).any()
    assert kept.n == 0


def line(x, u):
    """Fixed points at all `x[0]`, with `x[1] = 2 u`."""
    return jnp.stack([x[0], x[1] / 2 + u[0]])


def turned_line(x, u):
    R = jnp.asarray([[0.6, 0.8], [-0.8, 0.6]])
    return R @ line(R.T @ x, u)


def plane_in_twenty_dimensions(x, u):
    return jnp.concatenate([x[:10], 0.5 * x[10:] + u[0]])


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n_states, F", [(2, line), (20, plane_in_twenty_dimensions)])
def test_rows_that_land_far_from_their_starts_are_fixed_points(n_states, F, scale):
    """They come from the side, and what they land on does not lead away."""
    x = scale * np.random.default_rng(0).normal(size=(16, n_states)).astype(np.float32)
    fps = optimize_batch(F, x, np.float32([50 * scale]))
    assert all_are(fps, Status.FIXED_POINT)
    np.testing.assert_allclose(fps.xstar[:, -1], 100 * scale, rtol=1e-5)


@pytest.mark.slow
def test_no_row_at_a_turned_line_is_called_escaped():
    """Rounding turns the line, so that some rows cannot be told to be at a point."""
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    fps = optimize_batch(turned_line, x, np.float32([50]))
    assert not named(fps, Status.ESCAPED).any()


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "first, status",
    [
        (lambda x: x + jnp.exp(-x), Status.ESCAPED),
        (lambda x: x + 1 - jnp.tanh(x), Status.ESCAPED),
        (lambda x: 0.5 * x + 100, Status.FIXED_POINT),
        (lambda x: jnp.stack([x[0], 0.5 * x[1] + 50]), Status.FIXED_POINT),
    ],
    ids=["exp", "tanh", "far point", "far line"],
)
def test_tails_of_large_networks(first, status):
    """The other units are those of a random network that rests at zero."""
    n_states = JUDGED_DENSELY + 76
    rng = np.random.default_rng(0)
    W = np.float32(0.8 / np.sqrt(n_states) * rng.normal(size=(n_states, n_states)))
    W[:2] = 0
    x = rng.normal(size=(16, n_states)).astype(np.float32)

    def F(x, u):
        return jnp.tanh(W @ x).at[:2].set(first(x[:2]))

    assert all_are(optimize_batch(F, x, np.zeros(1, np.float32)), status)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "F, x, x_init, in_tail",
    [
        (lambda x: x + jnp.exp(-x), [30.0, 30], [1.0, 1], True),
        (lambda x: x + jnp.exp(-(x**2)), [5.0, 5], [0.0, 0], True),
        (lambda x: jnp.stack([x[0] + jnp.exp(-x[0]), x[1] / 2]), [30.0, 0], [20.0, 120], True),
        (lambda x: x + jnp.exp(-x), [3.0, 3], [-10.0, -10], False),  # not far out yet
        (lambda x: x + jnp.exp(-x), [30.0, 30], [40.0, 40], False),
        (lambda x: x, [30.0, 30], [1.0, 1], False),
        (lambda x: x - 1e-3 * (x - 30) ** 3, [29.0, 29], [1.0, 1], False),
        (lambda x: x + jnp.where(x < 20, 1, 1e-10), [30.0, 30], [1.0, 1], False),
        (lambda x: x + 1e-9 * jnp.maximum(31 - x, 1), [30.0, 30], [1.0, 1], False),
        (lambda x: x * jnp.float32([1, 0.5]), [1.0, 0], [1.0, 20], False),
        (lambda x: 0.5 * x + 10 + 1e-9, [20.0, 20], [1.0, 1], False),
    ],
    ids=[
        "exp",
        "gauss",
        "mostly from the side",
        "steep",
        "from further out",
        "line",
        "rises ahead",
        "rises at once",
        "rises in proportion",
        "line from the side",
        "point",
    ],
)
def test_what_a_tail_is(F, x, x_init, in_tail):
    with jax.enable_x64(True):
        x, x_init, u = (jnp.asarray([a], np.float64) for a in (x, x_init, [0.0]))
        assert is_in_a_tail(as_transition(lambda x, u: F(x)), x, x_init, u).tolist() == [in_tail]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "F",
    [
        lambda x, u: x + jnp.exp(-x),
        lambda x, u: jnp.stack([x[0] + jnp.exp(-x[0]), 0.5 * x[1] + 3]),
        lambda x, u: jnp.stack([x[0] + 1 - jnp.tanh(x[0]), x[1]]),
        lambda x, u: x + 1 / (1 + x**2),
    ],
    ids=["exp", "exp beside a point", "tanh beside a line", "slow"],
)
@pytest.mark.slow
def test_rows_that_run_away_along_a_flat_direction_are_escaped(F):
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    assert all_are(optimize_batch(F, x, np.zeros(1, np.float32)), Status.ESCAPED)


@pytest.mark.slow
def test_rows_in_a_far_tail_end_long_before_their_patience_does():
    """`q` is low there from the start, but fades: each step lowers it by a tenth."""
    patience = slowpoints.KrylovTrustRegion().patience
    x = np.linspace(5, 20, 8, dtype=np.float32)[:, None]
    fps = optimize_batch(lambda x, u: x + 1e-4 * x**-0.25, x, NO_INPUT, tol_q=0)
    assert all_are(fps, Status.ESCAPED)
    assert fps.n_iters.max() < patience / 2


@pytest.mark.slow
@every_solver
def test_rows_that_are_not_finite_say_so(name):
    case, bad = known("three_patterns"), [3, 8]
    x = case.around(N_ROWS)
    x[bad[0], 5], x[bad[1], 50] = np.nan, np.inf
    fps = search(name, case.F, x)
    np.testing.assert_array_equal(np.flatnonzero(named(fps, Status.NOT_FINITE)), bad)
    np.testing.assert_array_equal(np.flatnonzero(~np.asarray(fps.valid)), bad)


# So few iterations that rows from anywhere are still on their way, and then more.
FEW, MORE = {"adam": 20, "default": 1}, {"adam": 300}


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", ["three_patterns", "random"])
@every_solver
def test_unfinished_rows_get_further_with_more_iterations(name, network):
    F, x = known(network).F, starts(network)
    few = search(name, F, x, max_iters=FEW.get(name, 2))
    more = search(name, F, x, max_iters=MORE.get(name, 40))
    assert np.max(few.n_iters) <= FEW.get(name, 2) and np.max(more.n_iters) <= MORE.get(name, 40)
    rows = named(few, Status.UNFINISHED)
    # All that start far from any point need more than that.
    assert rows[N_ROWS // 2 :].sum() >= N_ROWS // 4
    assert np.asarray(few.valid)[rows].all()
    q_few, q_more = (np.asarray(fps.qstar, float)[rows] for fps in (few, more))
    if name == "adam":  # whose `q` does not fall in every iteration
        assert np.median(q_more) < np.median(q_few)
    elif name == "newton_krylov":  # which gives rows up where no step length lowers `q`
        assert (q_more <= q_few).all() and (q_more < q_few).any()
    else:
        assert (q_more < q_few).all()
        assert rows.sum() > named(more, Status.UNFINISHED).sum()


# ---- rows that end as soon as `q` is low enough ------------------------------------------------

LOOSE = 1e-5


def default_without_polish():
    return getattr(slowpoints, DEFAULT_CLASS)(polish=False)


@pytest.mark.parametrize("network", ["three_patterns", "ghost", "line", "ring"])
@pytest.mark.slow
def test_without_polish_rows_end_within_the_tolerance(network):
    """On a slow manifold, that samples it instead of running along it."""
    case = known(network)
    points = case.points if case.slow is None else np.concatenate([case.points, case.slow])
    x = around(points, N_ROWS, noise=0.05)
    assert residual(case.reference, np.float64(x)).min() > np.sqrt(2 * LOOSE)
    fps = optimize_batch(case.F, x, NO_INPUT, solver=default_without_polish(), tol_q=LOOSE)
    assert all_are(fps, Status.WITHIN_TOLERANCE)
    assert np.asarray(fps.valid).all() and np.asarray(fps.qstar).max() < LOOSE
    polished = search("default", case.F, x)
    assert np.sum(fps.n_iters) < np.sum(polished.n_iters)
    assert not named(polished, Status.WITHIN_TOLERANCE).any()


@pytest.mark.slow
def test_gradient_descent_ends_within_the_tolerance():
    case = known("three_patterns")
    fps = search("adam", case.F, case.around(N_ROWS), tol_q=LOOSE, max_iters=2000)
    assert np.asarray(fps.qstar).max() < LOOSE
    assert all_are(fps, Status.WITHIN_TOLERANCE)


# ---- order and chunks --------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("network", ["three_patterns", "past_fold", "random"])
def test_the_status_does_not_depend_on_order_or_on_chunks(network):
    """Chunks have as many rows as other searches, which compiles nothing new."""
    case, n = known(network), 2 * N_ROWS + 5
    x = case.around(n, seed=8)
    order = np.random.default_rng(0).permutation(n)
    in_order = search("default", case.F, x, rows_at_a_time=N_ROWS)
    permuted = search("default", case.F, x[order], rows_at_a_time=N_ROWS)
    np.testing.assert_array_equal(permuted.status, np.asarray(in_order.status)[order])
    apart = states(permuted) - states(in_order)[order]
    # Rows at a slow point are where `q` is lowest up to rounding, which its square root magnifies.
    here = np.where(named(permuted, Status.SLOW_POINT), 1e-4, HERE)
    assert (np.linalg.norm(apart, axis=1) <= here).all()


# ---- two ways to judge rows --------------------------------------------------------------------


def tanh_network(n, gain):
    rng = np.random.default_rng(n)
    W = np.float32(gain * rng.normal(size=(n, n)) / np.sqrt(n))
    return lambda x, u: jnp.tanh(W @ x + 0.1) + 0 * u[0]


JUDGED = {
    "tanh": (tanh_network(5, 2.0), 5),
    "many tanh": (tanh_network(30, 1.5), 30),
    "tail": (lambda x, u: x + jnp.exp(-x), 2),
    "ghost": (lambda x, u: x + 0.1 + x**2, 2),
    "cubic": (lambda x, u: x - 0.3 * x**3, 2),
    "line": (lambda x, u: jnp.stack([x[0], 0.5 * x[1]]), 2),
    "circle": (lambda x, u: x * (1 + 0.2 * (1 - x @ x)), 2),
    "kink": (lambda x, u: x + jnp.maximum(0, 1 - x) / 10 + 1e-9, 2),
    "drift": (lambda x, u: jnp.stack([x[0] + 1e-9, jnp.tanh(2 * x[1] + 0.1)]), 2),
    "root of negative numbers": (lambda x, u: 0.9 * jnp.sqrt(x), 2),
    "steep": (lambda x, u: 100 * x + 1, 2),
}


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGED)
def test_rows_are_judged_alike_on_the_host_and_in_one_program(name):
    """Where rows ended, beside these places, far away, and whatever the solver said."""
    network, n_states = JUDGED[name]
    rng = np.random.default_rng(0)
    starts = np.float32(3 * rng.normal(size=(20, n_states)))
    x = np.asarray(optimize_batch(network, starts, np.zeros(1, np.float32)).xstar)
    noise = [np.float32(size * rng.normal(size=x.shape)) for size in (1e-8, 1e-6, 1e-4, 1e-2)]
    x = np.concatenate([x, *(x + added for added in noise), 1e5 * noise[-1]])
    starts, u = np.tile(starts, (6, 1)), np.zeros((len(x), 1), np.float32)
    # A solver is believed that a row is at a kink, and two rows at one place may not differ there.
    end = rng.integers(0, End.KINK, len(x))
    F = traced("test", as_transition(network), n_states, 1, x.dtype, forward_mode=True)
    with jax.enable_x64(True):
        low = jnp.float32(1e-12)
        _, seen = eqx.filter_jit(seen_at_first)(F, x, starts, u, end, low, low)
        rows = Rows(*(np.float64(a) for a in (x, starts, u)), jax.device_get(seen))
        together = eqx.filter_jit(judge)(F, rows)
        for forward_mode in (True, False):
            alone = judge_on_host(F, rows, forward_mode=forward_mode)
            # At a kink, what is at a place depends on which of its rows is asked.
            assert np.sum(alone != together) <= (4 if name == "kink" else 0)
