"""What `continuation(certify=True)` finds besides the given branches, and proves of the rest."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import random_line_of_networks
from scipy.optimize import fsolve

import slowpoints
from slowpoints import FixedPoints
from slowpoints._arclength.arcs import Chain
from slowpoints._branch_proofs.box_of_points import box_of_points
from slowpoints._branch_proofs.other_branches import OtherBranches
from slowpoints._branch_proofs.surroundings import (
    Surroundings,
    _ends_of_proofs,
    _up_to,
    surroundings,
)
from slowpoints._branch_proofs.tubes import Proof, Prover, proven
from slowpoints._proofs.branch_and_prune import Parts


def _points(x, s):
    x = np.atleast_2d(np.asarray(x, np.float64))
    return FixedPoints(xstar=x, inputs=np.full((len(x), 1), s), dtype=np.float64)


def _followed(G, x, s, span, **options):
    options = {"certify": True} | options
    with jax.enable_x64(True):
        return slowpoints.continuation(G, _points(x, s), span, **options)


def _summary(branches):
    return "\n".join(branches.summary_lines())


def _all_points(G, s, box):
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(slowpoints.find_all(G, box, np.array([s]))[0].xstar)


# ---- closed branches -----------------------------------------------------------------------------


def _line_and_circle(x, s, line=2.0, radius=0.2):
    """`x = line`, and a circle around `x = 0, s = 1/2`."""
    return x - 0.2 * (x - line) * (x**2 + (s - 0.5) ** 2 - radius**2)


def test_a_closed_branch_is_found_and_proven():
    branches = _followed(_line_and_circle, 2.0, 0.0, (0, 1))
    assert len(branches) == 2 and branches.may_hold_others == ()
    (circle,) = (b for b in branches.branches if not b.rows)
    assert circle.ended_by == ("closed", "closed") and circle.is_proven.all()
    np.testing.assert_allclose(circle.xstar[:, 0] ** 2 + (circle.s - 0.5) ** 2, 0.04, atol=1e-9)
    folds = sorted(event.s for event in branches.events)
    np.testing.assert_allclose(folds, [0.3, 0.7], atol=1e-9)
    for s, n in ((0.1, 1), (0.29999, 1), (0.30001, 3), (0.5, 3), (0.9, 1)):
        assert branches.at(s).n == n and branches.is_complete_at(s)
    assert not branches.is_complete_at(0.3)  # right at a fold
    low, high = branches.box
    assert low[0] < -0.2 and high[0] > 2.0
    assert "proven to be no other branches in the box of states, from -" in _summary(branches)


def test_without_a_proof_others_may_be_missing():
    branches = _followed(_line_and_circle, 2.0, 0.0, (0, 1), certify=False)
    assert len(branches) == 1 and branches.may_hold_others is branches.box is None
    assert branches.at(0.5).n == 1 and not branches.is_complete_at(0.5)
    assert "may be missing: `search_at` looks for them, `certify` proves it" in _summary(branches)


@pytest.mark.slow
@pytest.mark.parametrize("radius", [1e-2, 1e-3, 1e-4])
def test_small_closed_branches_are_found(radius):
    def G(x, s):
        return _line_and_circle(x, s, radius=radius)

    branches = _followed(G, 2.0, 0.0, (0, 1))
    assert [branches.at(s).n for s in (0.5 - 2 * radius, 0.5)] == [1, 3]
    assert branches.is_complete_at(0.5) and branches.is_complete_at(0.5 - 2 * radius)


@pytest.mark.slow
def test_what_is_too_small_to_be_told_is_not_called_complete():
    for radius in (1e-7, 0.0):
        branches = _followed(lambda x, s, r=radius: _line_and_circle(x, s, radius=r), 2, 0, (0, 1))
        assert not branches.is_complete_at(0.5)
        assert branches.at(0.5).n == 3 or branches.may_hold_others
        assert branches.is_complete_at(0.49) and branches.is_complete_at(0.51)


@pytest.mark.slow
def test_no_closed_branch_is_made_up():
    """The circle has no points if its squared radius is below zero."""

    def G(x, s):
        return x - 0.2 * (x - 2.0) * (x**2 + (s - 0.5) ** 2 + 1e-6)

    branches = _followed(G, 2.0, 0.0, (0, 1))
    assert len(branches) == 1 and branches.may_hold_others == ()
    assert branches.is_complete_at(0.5)


@pytest.mark.slow
def test_branches_are_found_even_if_no_point_is_given():
    with jax.enable_x64(True):
        nothing = FixedPoints(xstar=np.zeros((0, 1)), inputs=np.zeros((0, 1)), dtype=np.float64)
        branches = slowpoints.continuation(_line_and_circle, nothing, (0, 1), certify=True)
    assert len(branches) == 2 and branches.is_complete_at(0.5) and branches.at(0.5).n == 3


@pytest.mark.slow
@pytest.mark.parametrize("span", [(1.0, 0.0), (0, 1)])
@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
def test_others_are_found_in_all_units_and_directions(scale, span):
    def G(x, s):
        return scale * _line_and_circle(x / scale, s)

    branches = _followed(G, 2.0 * scale, span[0], span)
    assert branches.may_hold_others == () and branches.at(0.5).n == 3
    assert branches.is_complete_at(0.5)
    np.testing.assert_array_less(np.abs(np.array(branches.box)), 3 * scale)


@pytest.mark.slow
def test_others_of_a_flow_are_found():
    def f(x, s):
        return -(x - 2.0) * (x**2 + (s - 0.5) ** 2 - 0.04)

    branches = _followed(slowpoints.ContinuousTime(f), 2.0, 0.0, (0, 1))
    assert branches.at(0.5).n == 3 and branches.is_complete_at(0.5)


# ---- against all points at single values ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 2])
def test_a_random_network_is_complete_from_the_points_at_one_end(seed):
    _check_random(seed)


@pytest.mark.one_in(8)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_complete_from_the_points_at_one_end(seed):
    _check_random(seed)


def _check_random(seed):
    """At 20 values, the points are all that `find_all` proves, and no others."""
    G = random_line_of_networks(seed)
    d = G.b.shape[0]
    box = -np.ones(d), np.ones(d)
    branches = _followed(G, _all_points(G, 0.0, box), 0.0, (0, 1))
    for s in np.linspace(0, 1, 20):
        expected = _all_points(G, s, box)
        with jax.enable_x64(True):
            here = branches.at(s)
        assert branches.is_complete_at(s) and here.n == len(expected)
        distance = np.linalg.norm(here.xstar[:, None] - expected, axis=2)
        assert distance.min(axis=0).max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 2, 7, 15])
def test_what_is_cut_off_from_parts_holds_no_points(seed):
    G = random_line_of_networks(seed)
    d = G.b.shape[0]
    branches = _followed(G, _all_points(G, 0.0, (-np.ones(d), np.ones(d))), 0.0, (0, 1))
    y = np.concatenate([branches._positions(branch) for branch in branches.branches])
    rng = np.random.default_rng(seed)
    y = y[rng.integers(0, len(y), 1000)]
    sides = 10.0 ** rng.uniform(-6, 0.3, (1000, 1)) * rng.uniform(0.1, 1, y.shape)
    low = y - sides * rng.uniform(0, 1, y.shape)
    prover = Prover(branches._curve)
    search = OtherBranches(prover, Parts(-np.ones(d), np.ones(d)))
    left, *_ = search._cut_down(Parts(low, low + sides))
    assert np.all(left.low - 1e-10 <= y) and np.all(y <= left.high + 1e-10)
    volume = np.prod((left.high - left.low) / sides, axis=1)
    assert np.mean(volume < 0.9) > 0.2  # a bound that holds everything would be no test


# ---- what is left open ---------------------------------------------------------------------------


@pytest.mark.slow
def test_crossings_are_left_open_and_nothing_else():
    """Only one of the two branches that cross is given."""
    branches = _followed(lambda x, s: jnp.tanh(s * x), 0.0, 0.5, (0.5, 2.0))
    assert len(branches) == 2 and not branches.is_complete_at(1.0)
    for s, n in ((0.6, 1), (0.999, 1), (1.001, 3), (1.9, 3)):
        assert branches.at(s).n == n and branches.is_complete_at(s)
    assert all(0.999 < part.s[0] <= part.s[1] < 1.001 for part in branches.may_hold_others)
    assert {part.branch for part in branches.may_hold_others} == {-1}
    assert "there may be other branches in the box" in _summary(branches)


@pytest.mark.slow
def test_what_is_cut_short_is_said():
    rng = np.random.default_rng(0)
    W = jnp.asarray(rng.normal(size=(10, 10)), jnp.float32)

    def G(x, s):
        return jnp.tanh(s * (W @ x))

    branches = _followed(G, np.zeros(10), 0.0, (0, 1))
    assert not branches.is_complete_at(1.0) and branches.is_proven_at(1.0)
    assert "too many parts to look at; a smaller `box` may help" in _summary(branches)


def test_branches_that_are_cut_short_leave_everything_open():
    """They may be those that others seem to be."""
    branches = _followed(_line_and_circle, 2.0, 0.0, (0, 1), max_steps=3)
    (part,) = branches.may_hold_others
    assert part.s == (0.0, 1.0) and "`max_steps`" in part.reason
    assert not branches.is_complete_at(0.5)


@pytest.mark.slow
def test_operations_that_are_not_covered_leave_everything_open():
    branches = _followed(lambda x, s: jax.lax.erf_inv(0.5 * x), 0.0, 0.0, (0, 1))
    (part,) = branches.may_hold_others
    assert part.s == (0.0, 1.0) and "erf_inv` is not covered" in part.reason
    assert branches.box is None and not branches.is_complete_at(0.5)


# ---- boxes ---------------------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("box", [(1.5, 2.5), ([1.5], np.array([2.5]))])
def test_a_box_limits_what_is_looked_for(box):
    branches = _followed(_line_and_circle, 2.0, 0.0, (0, 1), box=box)
    assert len(branches) == 1 and branches.is_complete_at(0.5)
    np.testing.assert_array_equal(np.ravel(branches.box), [1.5, 2.5])


@pytest.mark.slow
def test_a_box_may_reach_farther_than_by_default():
    """There is a circle around x = 2,000, farther out than 1,024 times the line."""

    def G(x, s):
        circle = (x / 100 - 20) ** 2 + (s - 0.5) ** 2 - 0.04
        return x - 5e-3 * jnp.tanh(x - 1.0) * circle

    near, far = (_followed(G, 1.0, 0.0, (0, 1), box=box) for box in (None, (0.0, 1e4)))
    assert len(near) == 1 and near.is_complete_at(0.5) and near.box[1] < 1900
    assert len(far) == 2 and far.is_complete_at(0.5) and far.at(0.5).n == 3


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (1.0, r"`box` is 1.0; expected a pair \(low, high\) of states"),
        ((1.0, -1.0), r"`box` is from \[1.\] to \[-1.\]; expected finite states, low <= high"),
        ((-np.inf, 1.0), "`box` is from .*; expected finite states"),
        (([0.0, 0.0], [1.0, 1.0]), r"`box\[0\]` has shape \(2,\)"),
    ],
)
def test_bad_boxes_are_refused(box, expected):
    with pytest.raises((TypeError, ValueError), match=f"continuation: {expected}"):
        _followed(_line_and_circle, 2.0, 0.0, (0, 1), box=box)


def test_a_box_without_a_proof_is_refused():
    with pytest.raises(
        ValueError, match=r"continuation: `box` is the tuple \(-1, 1\); expected None"
    ):
        _followed(_line_and_circle, 2.0, 0.0, (0, 1), box=(-1, 1), certify=False)


@pytest.mark.slow
def test_parameters_outside_of_the_span_are_refused():
    branches = _followed(_line_and_circle, 2.0, 0.0, (0, 1))
    for name in ("is_proven_at", "is_complete_at"):
        with pytest.raises(ValueError, match=rf"Branches.{name}: `s` is 2.0; expected a number"):
            getattr(branches, name)(2.0)


def _leaky(leak):
    W = np.array([[1.5, -0.7], [0.6, 1.2]], np.float32)

    def G(x, s):
        return (1 - leak) * x + leak * 3 * jnp.tanh(W @ x + s)

    return G


@pytest.mark.slow
@pytest.mark.parametrize("leak", [1.0, 0.1, 1e-3])
def test_the_box_of_bounded_units_is_theirs(leak):
    """Whatever the leak is: the states of units that return at most 3 are at most 3."""
    start = fsolve(lambda x: _leaky(1.0)(x, 0.0) - x, [3.0, 3.0])
    branches = _followed(_leaky(leak), start, 0.0, (0, 1))
    low, high = branches.box
    assert (low >= -3.01).all() and (high <= 3.01).all()
    for branch in branches.branches:
        assert (low <= branch.xstar).all() and (branch.xstar <= high).all()
    assert branches.is_complete_at(1.0)


# ---- what surrounds branches ---------------------------------------------------------------------


def _proven(branches, number):
    """Return the equations, a branch's points, and what surrounds it."""
    branch = branches.branches[number]
    prover = Prover(branches._curve)
    chain = Chain(branches._positions(branch), branch.tangent, branch.ended_by, ())
    chains, proofs = proven(prover, [chain])
    return prover, chains[0].y, surroundings(prover, chains, proofs)


@pytest.mark.slow
@pytest.mark.parametrize("asymmetry", [1e-2, 1e-4, 1e-6])
def test_no_other_branch_is_in_what_surrounds_one(asymmetry):
    """Two branches that come as close as the square root of the asymmetry."""

    def G(x, s):
        return x + 0.5 * (s * x - x**2 + asymmetry)

    root = np.sqrt(1 / 4 + asymmetry)
    branches = _followed(G, [[0.5 + root], [0.5 - root]], 1.0, (-1, 1))
    assert len(branches) == 2
    s = np.concatenate([np.linspace(-1, 1, 200), np.linspace(-1, 1, 200) * np.sqrt(asymmetry)])
    upper, lower = (s / 2 + sign * np.sqrt(s**2 / 4 + asymmetry) for sign in (1, -1))
    sigma = (s + 1) / 2
    for number in range(2):
        _, y, around = _proven(branches, number)
        is_upper = y[-1, 0] > 0.5
        for x, is_its_own in ((upper, is_upper), (lower, not is_upper)):
            at = np.stack([x / branches._unit[0], sigma], axis=1)
            held = around.hold(Parts(at, at))
            assert held.all() if is_its_own else not held.any()


def test_what_is_beyond_the_end_of_a_branch_is_not_surrounded():
    """It may come back into the span, and would be taken for known."""
    ends = np.array([0.0, 1.0])
    around = Surroundings(np.array([[0.0, 0.9]]), ends[None], np.array([0.2]), np.array([0.1]))
    for known, reach in ((0.0, 0.1), (0.15, 0.15), (np.inf, 0.2)):
        assert _up_to(around, ends, np.array([known])).reach == pytest.approx(reach)
    # A branch that ends elsewhere does not end in here.
    assert _up_to(around, np.array([0.5, 1.0]), np.zeros(1)).reach == 0.2


@pytest.mark.parametrize(
    ("ended_by", "expected"), [(("span", "stuck"), [0, 2, 3, 4]), (("closed", "closed"), [2, 3])]
)
def test_branches_are_known_up_to_where_they_are_not_proven(ended_by, expected):
    """Beyond a step that is not proven, they may go elsewhere."""
    exists, zeros = np.array([True, True, False, True]), np.zeros((5, 2))
    proof = Proof(exists, exists, np.zeros(4), np.full(4, ""))
    np.testing.assert_array_equal(
        _ends_of_proofs(Chain(zeros, zeros, ended_by, ()), proof), expected
    )


@pytest.mark.slow_cases
@pytest.mark.parametrize("d1", [2, 4])
def test_what_holds_parts_is_found_by_where_they_are(d1):
    """The same as from all pairs, which there are too many of."""
    rng = np.random.default_rng(d1)
    k, n = 2000, 1000
    along = rng.normal(size=(k, d1))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    sizes = 10.0 ** rng.uniform(-3, -1, (2, k))
    around = Surroundings(rng.uniform(-1, 1, (k, d1)), along, *sizes)
    near = rng.normal(size=(n, d1)) * 10.0 ** rng.uniform(-5, 0, (n, 1))
    middle = around.middle[rng.integers(0, k, n)] + near
    side = 10.0 ** rng.uniform(-6, -1, (n, d1))
    parts = Parts(middle - side, middle + side)
    expected = np.concatenate([around._hold_all(parts.where(slice(i, i + 1))) for i in range(n)])
    np.testing.assert_array_equal(around.hold(parts), expected)
    assert 0.05 < expected.mean() < 0.95
    assert around.hold(parts.where(slice(0))).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [2e-2, 3e-4, 1e-4])
def test_a_branch_that_only_dips_into_the_span_is_found(gap):
    """Right beside another, beyond whose end it is: as narrow, it is not called complete."""
    places = np.array([0, 0.1, 0.1 + gap, 0.1 + 2 * gap])

    def G(x, s):
        beyond = 100.0
        for place in places:
            beyond = beyond * (x - place)
        return x - 0.5 * (s - 1 - beyond)

    s = 1 - 0.3 * abs(100 * np.prod(0.1 + 1.5 * gap - places))
    bottom = 1 + 100 * np.prod(0.05 - places)
    branches = _followed(G, 0.05, bottom, (0.99, 1.0))
    assert branches.at(s).n == 4 or not branches.is_complete_at(s)
    assert gap < 1e-2 or branches.is_complete_at(s)


@pytest.mark.slow
def test_steps_at_folds_are_surrounded_like_longer_ones():
    """Steps there are divided down to 1e-6, as they may turn back."""
    branches = _followed(lambda x, s: x + 0.1 * (s - x**2), 1.0, 1.0, (-1, 1))
    _, y, around = _proven(branches, 0)
    assert np.linalg.norm(np.diff(y, axis=0), axis=1).min() < 1e-4
    assert len(around.radius) < 60 and around.radius.min() > 1e-3


@pytest.mark.slow
def test_a_box_that_holds_all_points_at_once():
    with jax.enable_x64(True):
        branches = _followed(lambda x, s: jax.nn.relu(0.5 * x + s), 2.0, 1.0, (0, 1))
        low, high = box_of_points(
            Prover(branches._curve), branches._positions(branches.branches[0])
        )
    assert -1e-6 < low * branches._unit <= 0 and 2 <= high * branches._unit < 2.1
