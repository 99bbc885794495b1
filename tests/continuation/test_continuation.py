"""Branches of fixed points: folds and other events known in closed form, ends, joins and errors."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import found_in, in_float64, trained

import slowpoints
from slowpoints import FixedPoints, PlotConfig, Status
from slowpoints._arclength.arcs import crossings
from slowpoints._continuation import events as branch_events
from slowpoints._continuation.events import _Piece as Piece

_FOLDS = {1.5: 0.2075464553, 2.0: 0.5328399754, 3.0: 1.3032739080}


def _points(x, s):
    x = np.asarray(x, np.float64)
    return FixedPoints(xstar=x, inputs=np.full((len(x), 1), s), dtype=np.float64)


def _events(branches, kind):
    return np.array(sorted(event.s for event in branches.events if event.kind == kind))


def _self_exciting(w):
    return lambda x, s: jnp.tanh(w * x + s)


def _two_units(x, s):
    W = 1.4 * jnp.eye(2, dtype=x.dtype) + 0.1
    return jnp.tanh(x @ W + jnp.array([1.0, 0.0], x.dtype) * s)


@pytest.fixture(scope="module")
def two_units():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
        found, _ = slowpoints.find_fixed_points(_two_units, x, np.zeros((1, 1)))
    return slowpoints.continuation(_two_units, found, (-0.5, 0.5))


# ---- events known in closed form -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("w", _FOLDS)
def test_folds_of_a_unit_that_excites_itself(w):
    branches = slowpoints.continuation(_self_exciting(w), _points([[0.0]], 0.0), (-2, 2))
    assert len(branches) == 1
    np.testing.assert_allclose(_events(branches, "fold"), [-_FOLDS[w], _FOLDS[w]], atol=1.1e-10)
    assert len(branches.events) == 2
    for event in branches.events:
        # A fold is where tanh'(w x + s) w = 1.
        assert w * (1 - np.tanh(w * event.xstar + event.s) ** 2) == pytest.approx(1, abs=1e-6)
        assert abs(event.eigval - 1) < 1e-6 and event.uncertainty < 1e-8
        before = int(event.place)
        indices = branches.branches[event.branch].index[before : before + 2]
        assert set(indices) == {0, 1}
    assert branches.branches[0].ended_by == ("span", "span")
    np.testing.assert_allclose(np.sort(branches.branches[0].s[[0, -1]]), [-2, 2], atol=1e-14)


@pytest.mark.slow
def test_counts_between_the_folds_of_two_units(two_units):
    folds = [0.124604013, 0.195975548, 0.295615473]
    expected = sorted([*folds, *(-fold for fold in folds)])
    np.testing.assert_allclose(_events(two_units, "fold"), expected, atol=1e-9)
    counts = {0.0: 9, 0.1: 9, 0.15: 7, 0.2: 5, 0.29: 5, 0.3: 3, 0.5: 3}
    assert {s: two_units.at(s).n for s in counts} == counts
    assert {s: two_units.at(-s).n for s in counts} == counts
    assert {two_units.sum_of_signs(s) for s in counts} == {1}


@pytest.mark.slow
def test_fold_and_flip_of_the_henon_map():
    b = 0.3

    def henon(x, a):
        return jnp.stack([1 - a[0] * x[0] ** 2 + x[1], b * x[0]])

    x = np.roots([0.5, 1 - b, -1])
    branches = slowpoints.continuation(henon, _points(np.stack([x, b * x], 1), 0.5), (-0.5, 1))
    np.testing.assert_allclose(_events(branches, "fold"), [-((1 - b) ** 2) / 4], atol=1e-9)
    np.testing.assert_allclose(_events(branches, "flip"), [3 * (1 - b) ** 2 / 4], atol=1e-9)
    # At a = 0 one of the points is at infinity, so its two sides are branches of their own.
    assert len(branches) == 2
    assert sum("max_steps" in branch.ended_by for branch in branches.branches) == 2


@pytest.mark.slow
def test_neimark_sacker_point_of_the_delayed_logistic_map():
    def delayed(x, r):
        return jnp.stack([r[0] * x[0] * (1 - x[1]), x[0]])

    x = 1 - 1 / 1.5
    branches = slowpoints.continuation(delayed, _points([[x, x], [0, 0]], 1.5), (0.5, 2.5))
    (event,) = (event for event in branches.events if event.kind == "neimark_sacker")
    assert event.s == pytest.approx(2, abs=1e-9)
    np.testing.assert_allclose(event.eigval, np.exp(1j * np.pi / 3), atol=1e-7)
    # Both branches pass through the origin at r = 1.
    np.testing.assert_allclose(_events(branches, "branch_point"), [1, 1], atol=1e-9)


@pytest.mark.slow
def test_flips_of_the_logistic_map_and_of_its_2_cycles():
    def logistic(x, r):
        return r * x * (1 - x)

    branches = slowpoints.continuation(logistic, _points([[1 - 1 / 2.5]], 2.5), (2, 4))
    np.testing.assert_allclose(_events(branches, "flip"), [3], atol=1e-9)
    r = 3.2
    x = (r + 1 + np.sqrt((r - 3) * (r + 1))) / 2 / r
    twice = slowpoints.iterate(logistic, 2)
    cycle = slowpoints.continuation(twice, _points([[x], [r * x * (1 - x)]], r), (2.9, 3.6))
    assert len(cycle) == 1 and sorted(cycle.branches[0].rows) == [0, 1]
    np.testing.assert_allclose(_events(cycle, "flip"), [1 + np.sqrt(6)] * 2, atol=1e-9)
    np.testing.assert_allclose(_events(cycle, "branch_point"), [3], atol=1e-8)


@pytest.mark.slow
def test_hopf_point_and_fold_in_continuous_time():
    @slowpoints.ContinuousTime
    def spiral(x, s):
        return jnp.stack([s[0] * x[0] - 2 * x[1], 2 * x[0] + s[0] * x[1]]) - x * (x @ x)

    branches = slowpoints.continuation(spiral, _points([[0.0, 0.0]], -0.5), (-1, 1))
    (event,) = branches.events
    assert event.kind == "hopf"
    assert event.s == pytest.approx(0, abs=1e-9) and event.eigval == pytest.approx(2j, abs=1e-8)
    np.testing.assert_array_equal(np.unique(branches.branches[0].index), [0, 2])

    parabola = slowpoints.ContinuousTime(lambda x, s: s - x**2)
    branches = slowpoints.continuation(parabola, _points([[0.5]], 0.25), (-1, 1))
    np.testing.assert_allclose(_events(branches, "fold"), [0], atol=1e-12)
    assert branches.at(0.09).continuous_time
    np.testing.assert_allclose(np.sort(branches.at(0.09).xstar[:, 0]), [-0.3, 0.3], atol=1e-9)


@pytest.mark.slow
def test_pitchfork_seen_from_the_trunk_and_from_its_arms():
    def gain(x, g):
        return jnp.tanh(g * x)

    branches = slowpoints.continuation(gain, _points([[0.0], [0.8585596366]], 1.5), (0.5, 2))
    assert len(branches) == 2
    assert [event.kind for event in branches.events] == ["branch_point"] * 2
    assert {event.branch for event in branches.events} == {0, 1}
    np.testing.assert_allclose(_events(branches, "branch_point"), [1, 1], atol=1e-8)
    assert branches.at(0.9).n == 1 and branches.at(1.5).n == 3


def test_eigenvalues_that_did_not_converge_hide_no_event():
    """Without matrices, all are NaN where none outside is expected, and so next to a flip."""
    y, t = (np.array([0.0, 0.0]), np.array([0.0, 0.1])), (np.array([0.0, 1.0]),) * 2
    values = np.array([-1.2, np.nan], complex), np.full(2, np.nan, complex)
    piece = Piece(0, (0.0, 1.0), y, t, (1, 0), values)
    places = branch_events._where_to_divide([piece], False, False)
    np.testing.assert_allclose(places, [[1 / 3, 2 / 3]])
    assert not piece.is_resolved(1e-10, False)
    event = branch_events._event(piece, False)
    assert event.kind == "flip" and event.eigval == -1.2


def test_an_event_is_not_lost_where_the_direction_is_exactly_zero():
    tangents = [np.array([1.0, d]) for d in (-0.1, 0.0, 0.1)]
    y = [np.array([d, 1.0]) for d in (-0.1, 0.0, 0.1)]
    nothing = np.zeros(1, complex)

    def piece(i, k):
        ends = ((0.0, 1.0), (y[i], y[k]), (tangents[i], tangents[k]), (0, 0), (nothing, nothing))
        return Piece(0, *ends)

    assert piece(0, 2).turns and piece(0, 1).turns != piece(1, 2).turns


# ---- many branches -------------------------------------------------------------------------------


def _all_of_three_units():
    x = 0.8585596366
    return np.array(list(itertools.product([-x, 0, x], repeat=3)))


@pytest.mark.slow
def test_all_points_of_uncoupled_units_are_on_one_branch_if_their_inputs_differ():
    def uncoupled(x, s):
        return jnp.tanh(1.5 * x + s * jnp.array([1.0, 0.7, 0.4], x.dtype))

    branches = slowpoints.continuation(uncoupled, _points(_all_of_three_units(), 0.0), (-1, 1))
    assert len(branches) == 1 and sorted(branches.branches[0].rows) == list(range(27))
    # JAX holds these weights in float32, in which the network is traced.
    folds = [_FOLDS[1.5] / float(np.float32(weight)) for weight in (1.0, 0.7, 0.4)]
    events = _events(branches, "fold")
    assert len(events) == 26 == len(branches.events)
    assert np.abs(np.abs(events)[:, None] - folds).min(axis=1).max() < 1e-9
    assert [branches.at(s).n for s in (0.0, 0.25, 0.4, 0.9)] == [27, 9, 3, 1]
    assert {branches.sum_of_signs(s) for s in (-0.9, 0.0, 0.1, 0.25, 0.4)} == {1}


@pytest.mark.slow
def test_arms_of_a_threefold_pitchfork_are_told_apart():
    branches = slowpoints.continuation(
        lambda x, g: jnp.tanh(g * x), _points(_all_of_three_units(), 1.5), (0.5, 2)
    )
    # The origin, and 13 lines through it, each of which is a branch on both sides.
    assert len(branches) == 14
    assert sorted(row for branch in branches.branches for row in branch.rows) == list(range(27))
    np.testing.assert_allclose([event.s for event in branches.events], 1, atol=1e-6)
    assert {event.kind for event in branches.events} == {"branch_point"}
    assert branches.at(1.8).n == 27 and branches.at(0.7).n == 1


@pytest.mark.slow
def test_points_of_a_trained_network_are_all_there_along_a_path_of_inputs():
    F = trained("tanh")
    push = np.array([0.3, 0.0, 0.0], np.float32)
    G = slowpoints.along(F, np.stack([-push, push]))
    known = found_in("tanh")
    fps = FixedPoints(xstar=np.asarray(known.xstar), inputs=np.full((known.n, 1), 0.5, np.float32))
    branches = slowpoints.continuation(G, fps, (0, 1))
    assert not branches.not_followed
    assert sorted(row for branch in branches.branches for row in branch.rows) == list(range(27))
    at_start = branches.at(0.5)
    assert at_start.n == 27
    for s in (0.1, 0.35, 0.8):
        found = _independent(G, known.xstar, s)
        here = branches.at(s)
        assert found.n >= 9
        nearest = np.linalg.norm(found.xstar[:, None] - here.xstar, axis=2).min(axis=1)
        assert nearest.max() < 1e-4
        assert branches.sum_of_signs(s) == 1


def _independent(G, x, s):
    x = np.repeat(np.asarray(x), 8, axis=0)
    x = x + 0.2 * np.random.default_rng(1).normal(size=x.shape).astype(x.dtype)
    fps = slowpoints.optimize_batch(G, x, np.full((1, 1), s, x.dtype))
    fps = fps.replace(valid=fps.status == Status.FIXED_POINT)
    return slowpoints.unique(fps, tol=1e-2).compact().to_numpy()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_random_networks_have_all_their_points_on_branches(seed):
    rng = np.random.default_rng(seed)
    W, direction = 1.8 * rng.normal(size=(2, 2)), rng.normal(size=2)

    def network(x, s):
        return jnp.tanh(W @ x + direction * s)

    def all_at(s):
        fps, complete = slowpoints.find_all(network, ([-1, -1], [1, 1]), np.array([s]))
        assert complete
        return fps

    starts = [_points(all_at(s).xstar, s) for s in (-1.0, 0.0, 1.0)]
    branches = slowpoints.continuation(network, FixedPoints.concatenate(starts), (-1, 1))
    rows = [row for branch in branches.branches for row in branch.rows]
    assert sorted(rows) == list(range(sum(fps.n for fps in starts)))
    for s in (-1.0, -0.6, -0.25, 0.0, 0.1, 0.45, 0.8, 1.0):
        here, expected = branches.at(s), all_at(s)
        assert here.n == expected.n
        distance = np.linalg.norm(here.xstar[:, None] - expected.xstar, axis=2)
        assert distance.min(axis=1).max() < 1e-6  # find_all computes with weights in float32
        assert branches.sum_of_signs(s) == 1


@pytest.mark.slow
def test_closed_branches_that_no_point_leads_to_are_found_by_searching_anew():
    @slowpoints.ContinuousTime
    def circle_beside_a_line(x, s):
        return (0.25 - (x - 2) ** 2 - s**2) * (x - s)

    start = _points([[0.8]], 0.8)
    alone = slowpoints.continuation(circle_beside_a_line, start, (-1, 1))
    assert len(alone) == 1
    assert alone.sum_of_signs(0.3) == alone.sum_of_signs(0.7)  # which does not show it
    assert "may be missing: `search_at` looks for them" in alone.summary_lines()[-1]
    branches = slowpoints.continuation(circle_beside_a_line, start, (-1, 1), search_at=[0.8, 0.0])
    assert len(branches) == 2
    assert branches.searched == {0.8: (1, 0), 0.0: (1, 2)}
    closed = branches.branches[1]
    assert closed.ended_by == ("closed", "closed") and closed.rows == ()
    assert any(line.endswith(", closed") for line in branches.summary_lines())
    np.testing.assert_allclose(closed.xstar[0], closed.xstar[-1], atol=1e-9)
    radius = np.hypot(closed.xstar[:, 0] - 2, closed.s)
    np.testing.assert_allclose(radius, 0.5, atol=1e-12)
    np.testing.assert_allclose(_events(branches, "fold"), [-0.5, 0.5], atol=1e-9)
    assert branches.at(0.3).n == 3
    assert branches.sum_of_signs(0.3) == alone.sum_of_signs(0.3)
    assert "may be missing: between the searched s" in branches.summary_lines()[-1]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_branches():
    def run(seed):
        key = jax.random.key(seed)
        return slowpoints.continuation(
            _two_units, _points([[0.0, 0.0]], 0.0), (-0.5, 0.5), search_at=[0.0], key=key
        )

    first, again = run(1), run(1)
    assert len(first) == len(again) == 3
    for a, b in zip(first.branches, again.branches, strict=True):
        np.testing.assert_array_equal(a.xstar, b.xstar)


# ---- corners, jumps and ends ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_corner_at_which_a_branch_turns_back_is_passed():
    def relu(x, s):
        return jax.nn.relu(1.5 * x + s) - 0.6 * jax.nn.relu(2 * x - 1)

    branches = slowpoints.continuation(relu, _points([[0.0]], -0.5), (-1, 1))
    assert len(branches) == 1 and branches.branches[0].ended_by == ("span", "span")
    np.testing.assert_allclose(_events(branches, "fold"), [-0.25, 0], atol=1e-8)
    # Below 0 both 0 and -2 s; the third from 0.7 x = s + 0.6.
    np.testing.assert_allclose(
        np.sort(branches.at(-0.2).xstar[:, 0]), [0, 0.4, 0.4 / 0.7], atol=1e-12
    )


@pytest.mark.slow_cases
@pytest.mark.parametrize("rate", [None, 1.0, 1e-6, 1e6], ids=str)
@pytest.mark.parametrize(
    ("slopes", "of_steps", "of_a_flow"),
    [
        ((1.0, 0.0), "fold", "fold"),  # -0.5 becomes 0.5, and two points meet at a right angle
        ((1.0, -1.0), "fold", "fold"),
        ((0.4, -2.0), None, None),  # stable on both sides
        ((-2.0, 0.0), "border_collision", None),  # an eigenvalue of a step jumps to -1.5
    ],
)
def test_at_a_kink_eigenvalues_jump_and_none_is_said_to_pass(slopes, of_steps, of_a_flow, rate):
    """Two states decay by half; where the first is positive, `slopes` are added to its effects."""
    slopes = np.array(slopes)

    def change(x, s):
        return -0.5 * x + slopes * jax.nn.relu(x[0]) + jnp.append(s, 0.0)

    def F(x, s):
        return x + change(x, s)

    if rate is not None:
        F = slowpoints.ContinuousTime(lambda x, s: rate * change(x, s))
    branches = slowpoints.continuation(F, _points([[-1.0, 0.0]], -0.5), (-1, 1))
    kind = of_steps if rate is None else of_a_flow
    assert [event.kind for event in branches.events] == [kind] * (kind is not None)
    for event in branches.events:
        assert abs(event.s) <= event.uncertainty < 1e-5 and np.isnan(event.eigval)
    indices = {int(k) for branch in branches.branches for k in branch.index}
    assert indices == ({0} if kind is None else {0, 1})


@pytest.mark.slow
def test_the_only_eigenvalue_may_jump():
    def F(x, s):
        return 0.5 * x - 2 * jax.nn.relu(x) + s

    (event,) = slowpoints.continuation(F, _points([[-1.0]], -0.5), (-1, 1)).events
    assert event.kind == "border_collision" and np.isnan(event.eigval)


@pytest.mark.slow
def test_a_pair_that_jumps_is_no_neimark_sacker_point():
    def F(x, s):  # the plane turns by 0.4 radians and grows by 1.2 where the third state is > 0
        turn = 1.2 * jnp.array([[jnp.cos(0.4), -jnp.sin(0.4)], [jnp.sin(0.4), jnp.cos(0.4)]])
        plane = jnp.where(x[2] > 0, turn, 0.5 * jnp.eye(2)) @ x[:2]
        return jnp.append(plane, 0.5 * x[2] + s[0])

    start = _points([[0.0, 0.0, -1.0]], -0.5)
    (event,) = slowpoints.continuation(F, start, (-1, 1)).events
    assert event.kind == "border_collision" and abs(event.s) <= event.uncertainty < 1e-5


@pytest.mark.slow
def test_at_a_jump_a_branch_ends_and_says_so():
    def jump(x, s):
        return 0.5 * jnp.sign(x + s)

    branches = slowpoints.continuation(jump, _points([[0.5]], 0.1), (-2, 2))
    (branch,) = branches.branches
    assert sorted(branch.ended_by) == ["span", "stuck"]
    told = branches.summary_lines()[1]
    assert "goes on beyond the span at s = 2" in told and "no step leads on at s = -0.5" in told
    assert branch.s.min() == pytest.approx(-0.5, abs=1e-3) and np.all(branch.xstar == 0.5)


@pytest.mark.slow
def test_a_point_at_a_fold_is_followed_to_both_sides():
    parabola = slowpoints.ContinuousTime(lambda x, s: s - x**2)
    branches = slowpoints.continuation(parabola, _points([[0.0]], 0.0), (-1, 1))
    (branch,) = branches.branches
    assert branch.s[[0, -1]] == pytest.approx([1, 1]) and branch.xstar[0] * branch.xstar[-1] < 0


@pytest.mark.slow
def test_points_at_the_ends_of_the_span_and_spans_in_the_other_order():
    G = _self_exciting(2.0)
    ends = np.float64(0.9575040240772687), np.float64(-0.9575040240772687)
    there = slowpoints.continuation(G, _points([[ends[0]], [ends[1]]], 0.0), (0, 2))
    assert sorted(len(branch.rows) for branch in there.branches) == [1, 1]
    back = slowpoints.continuation(G, _points([[ends[0]]], 0.0), (2, -2))
    assert len(back.branches) == 1 and back.span == (2.0, -2.0)
    assert back.at(0.0).n == 3
    np.testing.assert_allclose(_events(back, "fold"), [-_FOLDS[2.0], _FOLDS[2.0]], atol=1.1e-10)


@pytest.mark.slow
def test_steps_that_run_out_are_reported():
    branches = slowpoints.continuation(
        _self_exciting(2.0), _points([[0.0]], 0.0), (-2, 2), max_steps=5, max_step=0.02
    )
    assert branches.branches[0].ended_by == ("max_steps", "max_steps")


def test_rows_that_are_no_fixed_points_are_not_followed_and_named():
    fps = _points([[0.0], [0.5], [0.957504], [0.957504], [-0.957504]], 0.0)
    status = [Status.FIXED_POINT, Status.FIXED_POINT, *[Status.FIXED_POINT] * 2, Status.SLOW_POINT]
    fps = fps.replace(status=np.array(status, np.int8))
    branches = slowpoints.continuation(_self_exciting(2.0), fps, (-2, 2))
    assert sorted(branches.not_followed) == [1, 4]
    assert "does not converge" in branches.not_followed[1]
    assert "SLOW_POINT" in branches.not_followed[4]
    assert len(branches) == 1 and sorted(branches.branches[0].rows) == [0, 2, 3]
    text = "\n".join(branches.summary_lines())
    assert "row 4 not followed" in text and "fold at s = 0.53283" in text
    assert "s from -2 to 2, index 0, 1, goes on beyond the span at both ends" in text


def test_no_points_give_no_branches():
    branches = slowpoints.continuation(_self_exciting(2.0), _points(np.zeros((0, 1)), 0.0), (-2, 2))
    assert len(branches) == 0 and branches.events == () and branches.at(0.3).n == 0


# ---- what is returned ----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_point_of_a_branch_is_a_fixed_point_with_its_eigenvalues(two_units):
    for branch in two_units.branches:
        with jax.enable_x64(True):
            image = jax.vmap(_two_units)(branch.xstar, branch.s[:, None])
            J = jax.vmap(jax.jacfwd(_two_units))(branch.xstar, branch.s[:, None])
        np.testing.assert_allclose(image, branch.xstar, atol=1e-14)
        eigvals = np.linalg.eigvals(np.asarray(J))
        order = np.argsort(-np.abs(eigvals), axis=1)
        np.testing.assert_allclose(
            branch.eigvals, np.take_along_axis(eigvals, order, 1), atol=1e-12
        )
        np.testing.assert_array_equal(branch.index, (np.abs(eigvals) > 1).sum(axis=1))
        np.testing.assert_array_equal(branch.is_stable, branch.index == 0)
        step = np.hypot(*np.diff(branch.xstar, axis=0).T)
        assert step.max() < 0.13 and np.abs(np.diff(branch.s)).max() < 0.11


@pytest.mark.slow_cases
@pytest.mark.parametrize("distance", np.logspace(-13, -1, 13))
def test_points_next_to_a_fold_are_those_of_the_s_that_was_asked_for(distance):
    """`x + (s - x**2) / 2` has the points `+-sqrt(s)`, and none below 0."""
    branches = slowpoints.continuation(
        lambda x, s: x + (s - x**2) / 2, _points([[1.0]], 1.0), (-1, 1)
    )
    for s in (distance, -distance):
        fps = branches.at(s)
        np.testing.assert_array_equal(fps.inputs, np.full((fps.n, 1), s))
        residual = (s - fps.xstar[:, 0] ** 2) / 2
        np.testing.assert_allclose(fps.F_xstar[:, 0] - fps.xstar[:, 0], residual, atol=1e-15)
        np.testing.assert_allclose(fps.qstar, residual**2 / 2, rtol=1e-6, atol=1e-29)
        found = np.sort(fps.xstar[fps.status == Status.FIXED_POINT, 0])
        assert s > 0 or found.size == 0
        if s > 1e-11:  # closer to the fold, `unique` takes the two points for one
            root, rounding = np.sqrt(s), 1e-14 / np.sqrt(s)
            np.testing.assert_allclose(found, [-root, root], rtol=1e-9, atol=rounding)


def test_crossings_are_at_the_parameter_that_was_asked_for():
    """Also in a step over a fold that is not among the events, which is looked at coarsely."""
    y, tangent = np.array([[-0.1, 0.5], [0.1, 0.5]]), np.array([[1.0, 1], [1, -1]]) / np.sqrt(2)
    rows, numbers = crossings([(y, tangent)], 0.51)
    assert len(rows) == 2 and (numbers == 0).all() and (rows[:, -1] == 0.51).all()


@pytest.mark.slow
def test_points_at_one_s_are_ordinary_fixed_points(two_units):
    fps = two_units.at(0.1)
    assert isinstance(fps.xstar, np.ndarray) and fps.xstar.dtype == np.float64
    np.testing.assert_array_equal(fps.inputs, np.full((9, 1), 0.1))
    assert np.all(fps.status == Status.FIXED_POINT) and fps.qstar.max() < 1e-28
    assert fps.J_xstar.shape == (9, 2, 2) and fps.dFdu.shape == (9, 2, 1)
    np.testing.assert_array_equal(np.bincount(np.asarray(fps.n_unstable())), [4, 4, 1])
    np.testing.assert_array_equal(fps.is_stable, np.asarray(fps.n_unstable()) == 0)


def test_networks_that_cast_to_single_precision_are_followed_in_double():
    def single(x, s):
        return jnp.tanh(jnp.asarray(2 * x + s, np.float32))

    fps = FixedPoints(xstar=np.zeros((1, 1), np.float32), inputs=np.zeros((1, 1), np.float32))
    branches = slowpoints.continuation(single, fps, (-2, 2))
    assert branches.branches[0].xstar.dtype == np.float64
    np.testing.assert_allclose(_events(branches, "fold"), [-_FOLDS[2.0], _FOLDS[2.0]], atol=1e-9)


def test_settings_of_jax_and_points_are_left_as_they_were():
    fps = FixedPoints(xstar=np.zeros((1, 1), np.float32), inputs=np.zeros((1, 1), np.float32))
    slowpoints.continuation(_self_exciting(2.0), fps, (-1, 1)).at(0.1)
    assert not jax.config.jax_enable_x64
    assert fps.xstar.dtype == np.float32 and np.all(fps.xstar == 0)


@pytest.mark.slow
def test_larger_networks_are_followed_by_products_alone():
    n = 300
    rng = np.random.default_rng(0)
    m = rng.normal(size=n)
    W = jnp.asarray(0.5 * rng.normal(size=(n, n)) / np.sqrt(n) + 1.8 * np.outer(m, m) / n)

    class Network(slowpoints.Transition):
        W: jax.Array
        m: jax.Array

        def __call__(self, x, s):
            return jnp.tanh(self.W @ x + s * self.m)

    F = Network(W, jnp.asarray(m))
    with jax.enable_x64(True):
        found = slowpoints.optimize_batch(in_float64(F), np.stack([m, -m, 0 * m]), np.zeros((1, 1)))
    branches = slowpoints.continuation(F, found, (-0.5, 0.5))
    assert not branches.not_followed
    (branch,) = branches.branches
    assert set(branch.index) == {0, 1}
    folds = _events(branches, "fold")
    assert len(folds) == 2
    np.testing.assert_allclose(folds[0], -folds[1], atol=1e-7)  # the network is odd
    assert branch.eigvals.shape[1] == 16
    assert [branches.at(s).n for s in (0.0, 0.4)] == [3, 1]


# ---- paths of inputs -----------------------------------------------------------------------------


def test_along_a_polyline_and_along_a_function():
    F = trained("tanh")
    waypoints = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    G = slowpoints.along(F, waypoints)
    x = jnp.linspace(-1, 1, 16)
    for s, u in ((0, waypoints[0]), (1, waypoints[1]), (1.25, waypoints[1:].T @ [0.75, 0.25])):
        np.testing.assert_allclose(G(x, jnp.array([s], np.float32)), F(x, u), rtol=1e-5, atol=1e-6)
    with_function = slowpoints.along(F, lambda s: s * waypoints[0])
    np.testing.assert_allclose(
        with_function(x, jnp.ones(1)), F(x, waypoints[0]), rtol=1e-5, atol=1e-6
    )
    assert G.n_states == F.n_states and G.n_inputs == 1
    flow = slowpoints.along(slowpoints.ContinuousTime(lambda x, u: u - x), np.eye(2))
    assert isinstance(flow, slowpoints.ContinuousTime)


def test_other_paths_of_the_same_form_do_not_recompile():
    F = trained("tanh")
    traces = []

    @eqx.filter_jit
    def step(G, x, s):
        traces.append(1)
        return G(x, s)

    for seed in range(3):
        path = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
        step(slowpoints.along(F, path), jnp.zeros(16), jnp.zeros(1))
    assert len(traces) == 1


@pytest.mark.checks_input
@pytest.mark.parametrize("path", ["ab", None, {}])
def test_paths_of_no_known_kind_are_refused(path):
    with pytest.raises(TypeError, match=r"along: `path` .*function of s"):
        slowpoints.along(lambda x, u: x, path)


@pytest.mark.checks_input
@pytest.mark.parametrize("path", [np.zeros(3), np.zeros((1, 3)), np.full((2, 3), np.nan)])
def test_paths_of_the_wrong_shape_are_refused(path):
    with pytest.raises(ValueError, match="along: `path`"):
        slowpoints.along(lambda x, u: x, path)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"span": (0, 0)}, ValueError, "span.*two different"),
        ({"span": 3}, TypeError, "span.*pair"),
        ({"span": (0, np.nan)}, ValueError, "span.*finite"),
        ({"span": (1, 2)}, ValueError, "fps.inputs.*within the span"),
        ({"max_step": 0}, ValueError, "max_step.*above 0"),
        ({"max_step": "a"}, TypeError, "max_step"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"n_eigvals": 0}, ValueError, "n_eigvals"),
        ({"n_starts": 0}, ValueError, "n_starts"),
        ({"search_at": [3.0]}, ValueError, "search_at.*within the span"),
        ({"search_at": "x"}, TypeError, "search_at"),
        ({"key": 0.5}, TypeError, "key"),
        ({"fps": 3}, TypeError, "fps"),
        ({"fps": FixedPoints(xstar=np.zeros((1, 1)))}, ValueError, "fps.inputs"),
        (
            {"fps": FixedPoints(xstar=np.zeros((1, 1)), inputs=np.zeros((1, 2)))},
            ValueError,
            "one input.*along",
        ),
        ({"G": 3}, TypeError, "as_transition"),
        ({"G": lambda x, s: x[:0]}, ValueError, "next state"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(change, kind, message):
    given = {"G": _self_exciting(2.0), "fps": _points([[0.0]], 0.0), "span": (-1, 1)} | change
    G, fps, span = given.pop("G"), given.pop("fps"), given.pop("span")
    with pytest.raises(kind, match=message):
        slowpoints.continuation(G, fps, span, **given)


@pytest.mark.slow
def test_points_outside_of_the_span_are_not_extrapolated(two_units):
    with pytest.raises(ValueError, match=r"Branches.at: `s` is 0.7; expected a number in the span"):
        two_units.at(0.7)


def test_continuation_does_not_run_inside_jit():
    with pytest.raises(TypeError, match="traced"):
        jax.jit(
            lambda x: slowpoints.continuation(
                _self_exciting(2.0), FixedPoints(xstar=x, inputs=jnp.zeros((1, 1))), (-1, 1)
            )
        )(jnp.zeros((1, 1)))


# ---- the figure ----------------------------------------------------------------------------------


def test_the_figure_shows_branches_by_stability_and_events(two_units):
    figure = slowpoints.plot_branches(
        two_units, PlotConfig(show=False), projection=np.array([0.0, 1.0])
    )
    (ax,) = figure.axes
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    drawn = {tuple(point) for line in lines for point in line.get_xydata()}
    states = np.concatenate([branch.xstar[:, 1] for branch in two_units.branches])
    s = np.concatenate([branch.s for branch in two_units.branches])
    assert drawn >= set(zip(s, states, strict=True))
    assert {line.get_linestyle() for line in lines} == {"-", "--", "-."}
    (events,) = (line for line in ax.lines if line.get_linestyle() == "None")
    np.testing.assert_array_equal(events.get_xdata(), [event.s for event in two_units.events])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["stable", "index 1", "index 2", "fold (6)"]
    assert ax.get_xlim() == (-0.5, 0.5)


def test_lines_are_smooth_and_change_where_the_events_are():
    at_ends = FixedPoints(
        xstar=jnp.array([[-0.9988], [0.9988]]), inputs=jnp.array([[-1.5], [1.5]], jnp.float32)
    )
    followed = slowpoints.continuation(_self_exciting(2.0), at_ends, (1.5, -1.5))  # backwards
    (ax,) = slowpoints.plot_branches(followed, PlotConfig(show=False)).axes
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    drawn = np.concatenate([line.get_xydata() for line in lines])
    assert len(drawn) > 5 * sum(map(len, followed.branches))
    exact = np.arctanh(drawn[:, 1]) - 2 * drawn[:, 1]
    np.testing.assert_allclose(drawn[:, 0], exact, atol=3e-3)
    # The unstable piece goes from one fold to the other, to an eighth of a step.
    (unstable,) = (line for line in lines if line.get_linestyle() == "--")
    folds = sorted(float(event.xstar[0]) for event in followed.events)
    np.testing.assert_allclose(
        sorted(unstable.get_ydata())[:: len(unstable.get_ydata()) - 1], folds, atol=0.01
    )


def test_the_figure_is_drawn_on_given_axes_and_by_default_along_the_first_component(two_units):
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert slowpoints.plot_branches(two_units, ax=ax) is ax.figure
    assert ax.get_ylabel() == "state, PC 1" and ax.get_title() == ""
    bare = Figure().add_subplot()
    slowpoints.plot_branches(two_units, PlotConfig(show=False, show_legend=False), ax=bare)
    labels = ["stable", "index 1", "index 2", "fold (6)"]  # for a legend of the caller's
    assert bare.get_legend() is None and bare.get_legend_handles_labels()[1] == labels


class Halves:
    """A linear transformer, of (x - 1) to half of it, with the second unit first."""

    def transform(self, X):
        return (X[:, ::-1] - 1) / 2


class Squares(Halves):
    def transform(self, X):
        return X**2


def test_the_projection_may_have_a_name_or_be_a_linear_transformer(two_units):
    config, of_second = PlotConfig(show=False), np.array([0.0, 1.0])
    plain, named, turned = (
        slowpoints.plot_branches(two_units, config, projection=projection).axes[0]
        for projection in (of_second, {"choice": of_second}, Halves())
    )
    assert (named.get_ylabel(), turned.get_ylabel()) == ("choice", "component 1")
    for line, same, half in zip(plain.lines, named.lines, turned.lines, strict=True):
        np.testing.assert_array_equal(same.get_xydata(), line.get_xydata())
        np.testing.assert_allclose(half.get_ydata(), (line.get_ydata() - 1) / 2, atol=1e-12)
    with pytest.raises(ValueError, match="`projection` is a transformer that is not linear"):
        slowpoints.plot_branches(two_units, config, projection=Squares())


def test_a_projection_of_another_length_is_refused(two_units):
    with pytest.raises(ValueError, match=r"plot_branches: `projection` has shape \(3,\)"):
        slowpoints.plot_branches(two_units, PlotConfig(show=False), projection=np.ones(3))
