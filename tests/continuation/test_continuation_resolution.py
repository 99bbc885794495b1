"""Branches that come close, events that come close, and what `certify=True` proves of both."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import LineOfNetworks, compilations, random_line_of_networks
from scipy.optimize import brentq

import slowpoints
from slowpoints import FixedPoints, Transition
from slowpoints._arclength.arcs import Chain
from slowpoints._branch_proofs.tubes import NOT_LINKED, _linked, _Tubes
from slowpoints._continuation.refined_curves import _may_change_sign_unseen
from slowpoints._continuation.state_sizes import _shared, state_units


def _points(x, s):
    x = np.asarray(x, np.float64)
    return FixedPoints(xstar=x, inputs=np.full((len(x), 1), s), dtype=np.float64)


def _events(branches, kind):
    return np.array(sorted(event.s for event in branches.events if event.kind == kind))


# Numbers that tests vary are leaves, so that they need not compile anew.


class _NearPitchfork(Transition):
    """Two units that inhibit each other; `asymmetry` tells them apart."""

    asymmetry: jax.Array

    def __call__(self, x, s):
        W = jnp.array([[1.0, -0.5], [-0.5, 1.0]], x.dtype)
        return jnp.tanh(s * (W @ x) + self.asymmetry * jnp.array([1.0, -1.0], x.dtype))


class _NearTranscritical(Transition):
    asymmetry: jax.Array

    def __call__(self, x, s):
        return x + 0.5 * (s * x - x**2 - self.asymmetry)


class _Cusp(Transition):
    width: jax.Array

    def __call__(self, x, s):
        return x + 0.5 * (s + self.width * x - x**3)


class _Flips(Transition):
    """The origin is unstable between `first` and `first + apart`."""

    first: jax.Array
    apart: jax.Array

    def __call__(self, x, s):
        return -(1 - (s - self.first) * (s - self.first - self.apart)) * x


class _NeimarkSackers(Transition):
    """The origin is unstable between `first` and `first + apart`."""

    first: jax.Array
    apart: jax.Array

    def __call__(self, x, s):
        r = 1 - (s[0] - self.first) * (s[0] - self.first - self.apart)
        turned = jnp.stack([3 * x[0] - 4 * x[1], 4 * x[0] + 3 * x[1]]) / 5
        return r * turned - 0.1 * x * jnp.sum(x**2)


def _newton(G, x, s):
    with jax.enable_x64(True):
        x, s = jnp.asarray(x, jnp.float64), jnp.array([s], jnp.float64)
        for _ in range(40):
            slope = jax.jacfwd(lambda x: G(x, s) - x)(x)
            x = x - jnp.linalg.solve(slope, G(x, s) - x)
    return np.asarray(x)


def _number(value):
    """Return a leaf; it is kept in float32, and computed with in float64."""
    return jnp.asarray(value, jnp.float32)


# ---- branches that come close --------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("asymmetry", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
def test_branches_of_a_near_pitchfork_do_not_jump(asymmetry, certify):
    """From the arm that ends in a fold, and from the one that does not."""
    asymmetry = float(np.float32(asymmetry))
    G = _NearPitchfork(_number(asymmetry))
    right, wrong = _newton(G, [0.8, -0.8], 1.2), _newton(G, [-0.8, 0.8], 1.2)
    branches = slowpoints.continuation(G, _points([right, wrong], 1.2), (0.4, 1.2), certify=certify)
    assert [event.kind for event in branches.events] == ["fold"]
    # With x = (-a, a), artanh(a) = 1.5 s a - asymmetry, and 1.5 s (1 - a^2) = 1 at the fold.
    a = brentq(lambda a: np.arctanh(a) - a / (1 - a**2) + asymmetry, 1e-5, 0.9)
    fold = 1 / (1.5 * (1 - a**2))
    np.testing.assert_allclose(_events(branches, "fold"), fold, atol=1e-9)
    assert len(branches) == 2
    places = 0.5, 2 / 3, fold + 1e-5, 1.1
    smooth = next(branch for branch in branches.branches if len(set(branch.index)) == 1)
    assert smooth.s.min() == pytest.approx(0.4) and np.all(smooth.xstar[:, 0] > 0)
    assert [branches.at(s).n for s in places] == [1, 1, 3, 3]
    if certify:
        assert all(branches.is_proven_at(s) for s in places)
        assert all(abs(np.subtract(*part.s)) < 1e-6 for part in branches.unproven)


@pytest.mark.one_in(3)
@pytest.mark.slow_cases
@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("asymmetry", [1e-2, 1e-4, 1e-6, 1e-8])
def test_a_near_transcritical_point_is_two_folds(asymmetry, certify):
    asymmetry = float(np.float32(asymmetry))
    G, root = _NearTranscritical(_number(asymmetry)), np.sqrt(1 / 4 - asymmetry)
    known = FixedPoints.concatenate([_points([[0.5 + root]], 1.0), _points([[-0.5 + root]], -1.0)])
    branches = slowpoints.continuation(G, known, (-1, 1), certify=certify)
    assert [event.kind for event in branches.events] == ["fold"] * 2
    fold = 2 * np.sqrt(asymmetry)
    np.testing.assert_allclose(_events(branches, "fold"), [-fold, fold], atol=1e-9)
    assert [branches.at(s).n for s in (-0.5, 0.0, 1.01 * fold)] == [2, 0, 2]
    assert not certify or branches.is_proven_at(0.0)


@pytest.mark.slow
def test_branches_that_cross_still_do():
    """Also where the asymmetry is below what rounding does to a crossing."""
    for asymmetry in (0.0, 1e-18):
        G = _NearTranscritical(_number(asymmetry))
        branches = slowpoints.continuation(G, _points([[0.0], [1.0]], 1.0), (-1, 1), certify=True)
        assert {event.kind for event in branches.events} == {"branch_point"}
        np.testing.assert_allclose(_events(branches, "branch_point"), 0, atol=1e-8)
        # Neither is in a tube there, and this is said.
        assert not branches.is_proven_at(0.0) and branches.is_proven_at(0.01)
        assert {part.branch for part in branches.unproven} == {0, 1}
        assert all(-1e-3 < part.s[0] <= 0 <= part.s[1] < 1e-3 for part in branches.unproven)
        assert "cross" in "\n".join(branches.summary_lines())


@pytest.mark.slow_cases
@pytest.mark.parametrize("top", [1e2, 1e4, 1e6])
def test_a_pitchfork_at_the_very_beginning_of_a_wide_span(top):
    start = _points([[0.0], [0.9575040240772687], [-0.9575040240772687]], 2.0)
    branches = slowpoints.continuation(lambda x, s: jnp.tanh(s * x), start, (1e-3, top))
    assert [event.kind for event in branches.events] == ["branch_point"] * 2
    np.testing.assert_allclose(_events(branches, "branch_point"), 1, atol=1e-12 * top + 1e-7)
    assert [branches.at(s).n for s in (0.5, 1.5, top / 2)] == [1, 3, 3]


# ---- events that come close ----------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.slow_cases
@pytest.mark.parametrize("apart", [0.2, 0.05, 2e-2, 2e-3, 2e-4])
@pytest.mark.parametrize(
    ("kind", "network"), [("flip", _Flips), ("neimark_sacker", _NeimarkSackers)]
)
def test_two_events_within_a_step_are_both_found(kind, network, apart):
    apart = float(np.float32(apart))
    for first in (1.0, 0.734375):
        G = network(_number(first), _number(apart))
        x = np.zeros((1, 1 if kind == "flip" else 2))
        branches = slowpoints.continuation(G, _points(x, 0.5), (0, 2))
        np.testing.assert_allclose(_events(branches, kind), [first, first + apart], atol=1e-6)
        assert len(branches.events) == 2


@pytest.mark.slow_cases
@pytest.mark.parametrize("width", [0.1, 1e-2, 1e-3, 1e-4])
def test_both_folds_of_a_cusp_are_found(width):
    branches = slowpoints.continuation(
        _Cusp(_number(width)), _points([[1.0]], 1.0 - width), (-1, 1)
    )
    fold = 2 * (float(np.float32(width)) / 3) ** 1.5
    np.testing.assert_allclose(_events(branches, "fold"), [-fold, fold], rtol=1e-6, atol=1e-11)
    assert len(branches.events) == 2 and branches.at(0.0).n == 3


@pytest.mark.slow
def test_what_the_steps_resolve_is_said():
    def bump(x, s):
        """Unstable for less than a step, by nothing that shows before or after."""
        return -(0.9 + 0.2 * jnp.exp(-(((s - 1.0371) / 3e-3) ** 2))) * x

    coarse = slowpoints.continuation(bump, _points([[0.0]], 0.5), (0, 2))
    steps = [np.abs(np.diff(branch.s)).max() for branch in coarse.branches]
    assert coarse.event_resolution == max(steps) > 5e-3
    said = f"events farther apart than {coarse.event_resolution:.2g} in s are told apart"
    assert said in "\n".join(coarse.summary_lines())
    fine = slowpoints.continuation(bump, _points([[0.0]], 0.5), (0, 2), max_step=2e-3)
    assert fine.event_resolution < 5e-3
    width = 3e-3 * np.sqrt(np.log(2))
    np.testing.assert_allclose(_events(fine, "flip"), [1.0371 - width, 1.0371 + width], atol=1e-6)


def test_steps_in_which_functions_may_change_sign_twice():
    """A parabola with two zeros, with none near by, and a line; at places 0, 1, 2 and 3."""
    x = np.arange(4.0)
    tests = np.stack([(x - 1.2) * (x - 1.8), (x - 1.5) ** 2 + 1, x - 1.5], axis=1)
    unseen = _may_change_sign_unseen(tests, np.ones(3))
    np.testing.assert_array_equal(unseen[:, 0], [False, True, False])
    assert not unseen[:, 1:].any()


# ---- units ---------------------------------------------------------------------------------------


class _InOtherUnits(Transition):
    G: Transition
    scale: jax.Array

    def __call__(self, x, s):
        return self.scale * self.G(x / self.scale, s)


_SCALES = [2.0**-40, 2.0**-20, 2.0**-10, 2.0**10, 2.0**20, (2.0**20, 1.0), (1.0, 2.0**-20)]


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("scale", _SCALES)
@pytest.mark.parametrize("certify", [False, True])
def test_branches_are_the_same_in_all_units_of_the_states(certify, scale):
    """Powers of two, so that even rounding is the same up to them."""
    G = _NearPitchfork(_number(1e-5))
    x = np.array([_newton(G, start, 1.2) for start in ([0.8, -0.8], [-0.8, 0.8])])

    def followed(scale):
        scaled = _InOtherUnits(G, jnp.asarray(scale, jnp.float32) * jnp.ones(2, jnp.float32))
        return slowpoints.continuation(scaled, _points(x * scale, 1.2), (0.4, 1.2), certify=certify)

    plain, scaled = followed(1.0), followed(np.asarray(scale))
    assert [e.kind for e in scaled.events] == [e.kind for e in plain.events] == ["fold"]
    assert scaled.events[0].s == pytest.approx(plain.events[0].s, abs=1e-9)
    np.testing.assert_allclose(scaled.events[0].xstar / scale, plain.events[0].xstar, atol=1e-4)
    for a, b in zip(scaled.branches, plain.branches, strict=True):
        assert a.ended_by == b.ended_by and a.rows == b.rows
        np.testing.assert_allclose(np.linalg.norm(a.tangent, axis=1), 1)
        if (
            np.ndim(scale) == 0
        ):  # otherwise the units, and so the steps, may differ by a factor of 2
            assert len(a) == len(b)
            np.testing.assert_allclose(a.xstar / scale, b.xstar, atol=1e-6)
            np.testing.assert_allclose(a.s, b.s, atol=1e-6)
    for s in (0.5, 0.7, 1.0):
        here, there = scaled.at(s), plain.at(s)
        np.testing.assert_allclose(here.xstar / scale, there.xstar, atol=1e-9)
        np.testing.assert_array_equal(here.status, there.status)
        assert scaled.is_proven_at(s) == plain.is_proven_at(s) == certify


@pytest.mark.parametrize("scale", _SCALES)
def test_units_of_branches_from_the_origin_are_those_of_the_network(scale):
    """At the origin itself, states have no size."""
    G = _InOtherUnits(
        LineOfNetworks(
            *(
                jnp.asarray(a, jnp.float32)
                for a in ([[2.0, 0.5], [-0.5, 1.5]], np.zeros((2, 2)), [0.0, 0.0])
            )
        ),
        jnp.asarray(scale, jnp.float32) * jnp.ones(2, jnp.float32),
    )
    span = 0.0, 1.0
    with jax.enable_x64(True):
        units = state_units(G, False, np.zeros((1, 2)), np.zeros((1, 1)), span)
    assert np.all(units >= np.asarray(scale) / 4) and np.all(units <= np.asarray(scale) * 4)


def test_states_share_a_unit_unless_their_sizes_are_far_apart():
    units = _shared(np.array([1e-3, 1.0, 3e6, 0.7, 0.05]))
    np.testing.assert_array_equal(units, [1, 1, 2.0**22, 1, 1])
    np.testing.assert_array_equal(_shared(np.array([2.0**-40, 1.0])), [2.0**-40, 1])


@pytest.mark.parametrize("is_flow", [False, True])
@pytest.mark.parametrize("left", [1e-7, 1e-12, -1e-33])
def test_what_a_search_leaves_of_a_silent_unit_is_not_its_size(left, is_flow):
    def f(x, s):
        after = jax.nn.relu(jnp.array([0.5 - x[1], 1 - 0.5 * x[0] - s[0]]))
        return after - x if is_flow else after

    F, others = slowpoints.as_transition(f), (np.zeros((1, 1)), (-1.0, 1.0))
    with jax.enable_x64(True):
        units, expected = (
            state_units(F, is_flow, np.array([[of_silent, 1.0]]), *others)
            for of_silent in (left, 0)
        )
    assert units.tolist() == expected.tolist() and 1 <= units.min() <= units.max() <= 4


@pytest.mark.parametrize("is_flow", [False, True])
@pytest.mark.parametrize("size", [2.0**-24, 2.0**-40])
def test_a_small_state_that_is_at_rest_in_itself_has_its_own_unit(size, is_flow):
    unit = jnp.array([size, 1.0])

    def f(x, s):
        after = unit * jnp.tanh(1.5 * x / unit)
        return after - x if is_flow else after

    given = np.array([[0.8586 * size, 0.8586]]), np.zeros((1, 1)), (-1.0, 1.0)
    with jax.enable_x64(True):
        units = state_units(slowpoints.as_transition(f), is_flow, *given)
    assert 1 / 4 <= units[0] / size <= 4 and units[1] == 1


@pytest.mark.slow_cases
@pytest.mark.parametrize("left", [0, 1e-8, -1e-17, 9e-33])
def test_a_unit_that_is_silent_but_for_rounding_is_followed(left):
    """One ReLU unit is off at the given point, and on from `s = 0.5`."""

    def F(x, s):
        return jax.nn.relu(jnp.array([0.5 - x[1], 1 - 0.5 * x[0] - s[0]]))

    given = FixedPoints(xstar=np.array([[left, 1]], np.float32), inputs=np.zeros((1, 1)))
    branches = slowpoints.continuation(F, given, (-1, 1))
    assert not branches.not_followed
    assert [branches.at(s).n for s in (-0.5, 0.4, 0.6, 0.9)] == [1, 1, 1, 1]


def test_units_of_a_flow_at_a_fold_are_those_of_what_the_parameter_does():
    def parabola(x, s):
        return s - 1e-4 * x**2

    f = slowpoints.as_transition(parabola)
    with jax.enable_x64(True):
        units = state_units(f, True, np.zeros((1, 1)), np.zeros((1, 1)), (-1.0, 1.0))
    assert 16 <= units[0] <= 256  # x is up to 100


# ---- tubes ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_circle_is_proven_to_be_closed():
    circle = slowpoints.ContinuousTime(lambda x, s: 0.25 - (x - 2) ** 2 - s**2)
    branches = slowpoints.continuation(circle, _points([[2.5]], 0.0), (-1, 1), certify=True)
    (branch,) = branches.branches
    assert branch.ended_by == ("closed", "closed") and branch.is_proven.all()
    assert branch.is_proven.shape == (len(branch) - 1,)
    folds = sorted(np.mean(part.s) for part in branches.unproven)
    np.testing.assert_allclose(folds, [-0.5, 0.5], atol=1e-6)
    assert all("turn back" in part.reason for part in branches.unproven)
    assert branches.is_proven_at(0.4999) and branches.at(0.4999).n == 2
    assert not branches.is_proven_at(0.5)


@pytest.mark.slow
def test_what_cannot_be_proven_is_said():
    def not_covered(x, s):
        return 0.5 * jax.lax.erf_inv(0.5 * jnp.tanh(x)) + s

    def jump(x, s):
        return 0.5 * jnp.sign(x + s)

    branches = slowpoints.continuation(jump, _points([[0.5]], 0.1), (-2, 2), certify=True)
    assert not branches.is_proven_at(0.0)
    assert any("no step leads on" in part.reason for part in branches.unproven)
    plain = slowpoints.continuation(jump, _points([[0.5]], 0.1), (-2, 2))
    assert plain.unproven is None and not plain.is_proven_at(0.0)
    assert plain.branches[0].is_proven is None
    of_it = slowpoints.continuation(not_covered, _points([[0.0]], 0.0), (-1, 1), certify=True)
    assert "erf_inv` is not covered" in of_it.unproven[0].reason
    assert not of_it.is_proven_at(0.5) and not of_it.branches[0].is_proven.any()


@pytest.mark.one_in(6)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_branches_of_random_networks_have_the_points_that_there_are(seed):
    """All that `find_all` proves, and no others, at 20 values."""
    G, places = random_line_of_networks(seed), np.linspace(0, 1, 20)
    d = G.b.shape[0]
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = [
            np.asarray(slowpoints.find_all(G, (-np.ones(d), np.ones(d)), np.array([s]))[0].xstar)
            for s in places
        ]
    known = [_points(x, s) for x, s in zip(expected, places, strict=True)]
    with jax.enable_x64(True):
        branches = slowpoints.continuation(G, FixedPoints.concatenate(known), (0, 1), certify=True)
    assert not branches.not_followed
    for s, x in zip(places, expected, strict=True):
        with jax.enable_x64(True):
            here = branches.at(s)
        assert branches.is_proven_at(s) and here.n == len(x)
        distance = np.linalg.norm(here.xstar[:, None] - x, axis=2)
        assert distance.min(axis=0).max() < 1e-9 and distance.min(axis=1).max() < 1e-9


@pytest.mark.slow
def test_other_weights_and_other_numbers_of_points_do_not_recompile():
    def followed(gain, certify):
        W = gain * (1.4 * np.eye(2) + 0.1)
        G = LineOfNetworks(*map(jnp.asarray, (W, -np.eye(2), np.zeros(2))))
        fps, _ = slowpoints.find_all(G, (-np.ones(2), np.ones(2)), np.zeros(1))
        assert fps.n == 9
        return slowpoints.continuation(G, _points(fps.xstar, 0.0), (0, 1), certify=certify)

    with jax.enable_x64(True):
        for certify in (False, True):
            followed(1.0, certify).at(0.0)
            with compilations() as compiled:
                other = followed(1.001, certify)
                assert [other.at(s).n for s in (0.1, 0.45, 0.8)] == [9, 3, 1]
            assert not compiled


@pytest.mark.slow
@pytest.mark.parametrize("n_units", [20, 70])
def test_any_number_of_curves_is_followed_by_the_programs_of_one(n_units):
    """In networks of these sizes, a few rows are computed at a time."""
    uncoupled = 2.0 * np.eye(n_units) * (np.arange(n_units) < 3)
    G = LineOfNetworks(*map(jnp.asarray, (uncoupled, -np.eye(n_units), np.zeros(n_units))))
    x = 0.957504024  # tanh(2 x) = x
    points = [
        np.pad(corner, (0, n_units - 3)) for corner in itertools.product([-x, 0, x], repeat=3)
    ]
    with jax.enable_x64(True):
        one = slowpoints.continuation(G, _points(np.stack(points[:1]), 0.0), (0, 0.1))
        assert len(one.branches) == 1
        with compilations() as compiled:
            all_of_them = slowpoints.continuation(G, _points(np.stack(points), 0.0), (0, 0.1))
        assert len(all_of_them.branches) == 27 and not compiled
        again = slowpoints.continuation(G, _points(np.stack(points), 0.0), (0, 0.1))
        for branch, same in zip(all_of_them.branches, again.branches, strict=True):
            np.testing.assert_array_equal(branch.xstar, same.xstar)


@pytest.mark.slow
def test_every_combination_of_units_is_proven():
    """Three units that do not know of each other: 27 points on one branch."""
    x = 0.8585596366
    start = np.array(list(itertools.product([-x, 0, x], repeat=3)))

    def uncoupled(x, s):
        return jnp.tanh(1.5 * x + s * jnp.array([1.0, 0.7, 0.4], x.dtype))

    branches = slowpoints.continuation(uncoupled, _points(start, 0.0), (-1, 1), certify=True)
    assert len(branches) == 1
    for s, n in {0.0: 27, 0.25: 9, 0.4: 3, 0.9: 1}.items():
        assert branches.at(s).n == n and branches.is_proven_at(s)


@pytest.mark.parametrize(
    "at, expected, why",
    [
        (None, [True, True], ["", ""]),
        ((0, 1), [False, False], [NOT_LINKED, NOT_LINKED]),  # the first leaves its own tube
        ((1, 0), [True, False], ["", NOT_LINKED]),
    ],
    ids=["linked", "end of the first", "start of the second"],
)
def test_tubes_are_one_only_if_the_branch_is_proven_to_lead_from_each_into_the_next(
    at, expected, why
):
    y = np.stack([np.zeros(3), np.linspace(0, 1, 3)], axis=1)
    chain = Chain(y, np.tile([0.0, 1.0], (3, 1)), ("span", "span"), ())
    reach = np.full((2, 2), 1e-6)
    if at is not None:
        reach[at] = 1e-2
    yes = np.ones(2, bool)
    proof = _linked(chain, _Tubes(yes, yes, np.full(2, 1e-3), reach), np.array(["", ""], object))
    assert proof.exists.tolist() == expected and proof.passes_once.tolist() == expected
    assert proof.reason.tolist() == why


def test_a_closed_branch_has_to_come_back_into_its_first_tube():
    t = np.linspace(0, 2 * np.pi, 9)
    y = np.stack([np.cos(t), np.sin(t)], axis=1)
    tubes = _Tubes(np.ones(8, bool), np.zeros(8, bool), np.full(8, 1e-3), np.full((8, 2), 1e-6))
    reason = np.full(8, "", object)
    for gap, expected in ((0.0, True), (1e-2, False)):
        y[-1, 1] = gap
        proof = _linked(Chain(y, y, ("closed", "closed"), ()), tubes, reason)
        assert proof.exists[0] == expected
