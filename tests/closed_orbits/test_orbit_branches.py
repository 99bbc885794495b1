"""Families of closed orbits against closed forms, shooting by SciPy and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, root

from slowpoints import (
    ContinuousTime,
    OrbitEvent,
    as_transition,
    closed_orbits,
    continuation,
    iterate,
    optimize_batch,
)
from slowpoints._closed_orbits.evaluated import NetworkOfOrbits
from slowpoints._closed_orbits.families import _events, _told_apart
from slowpoints._closed_orbits.floquet import Growth
from slowpoints._closed_orbits.following import OrbitPoint, Path, _is_homoclinic

ANGLES = 2 * np.pi * np.arange(64) / 64
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def in_units(f, scale):
    """Return the same network with states in other units."""
    scale = jnp.asarray(scale, jnp.float32)
    return ContinuousTime(lambda x, u: scale * f(x / scale, u))


def bautin(x, u):
    """Orbits of squared radius `1 +- sqrt(1 + u)`, of period `2 pi / (1 + squared radius)`."""
    q = jnp.sum(x**2)
    return (u[0] + 2 * q - q * q) * x + (1 + q) * jnp.stack([-x[1], x[0]])


def rossler(x, u):
    return jnp.stack([-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - u[0])])


def logistic(x, u):
    return jnp.stack([u[0] * x[0] * (1 - x[1]), x[0]])


def points(F, x, s, span):
    """Return the branches of fixed points from one of them."""
    fps = optimize_batch(F, np.asarray([x], np.float32), np.float32([[s]]))
    return continuation(F, fps, span)


def kinds(branches):
    return [event.kind for event in branches.events]


@pytest.mark.slow
def test_a_hopf_point_starts_a_family_that_is_followed_around_its_fold():
    F = ContinuousTime(bautin)
    at_rest = points(F, [0, 0], -0.5, (-1.5, 1))
    first = at_rest.emerging_orbits()
    assert first.is_resolved.all() and np.ptp(first.states) < 0.2
    found = continuation(F, first, (-1.5, 1))
    (branch,) = found.branches
    assert branch.ended_by == ("span", "fixed_point") or branch.ended_by == ("fixed_point", "span")
    (fold,) = found.events
    assert fold.kind == "fold" and np.isclose(fold.s, -1, atol=1e-9)
    assert np.isclose(fold.period, np.pi) and fold.uncertainty < 1e-6
    square = np.sum(branch.states**2, axis=2)
    assert np.allclose(square, square[:, :1])
    assert np.allclose(branch.s, square[:, 0] ** 2 - 2 * square[:, 0], atol=1e-9)
    assert np.allclose(branch.period, 2 * np.pi / (1 + square[:, 0]), rtol=1e-9)
    rate = 4 * square[:, 0] * (1 - square[:, 0])
    assert np.allclose(branch.exponents[:, 0], rate, atol=1e-8)
    clear = np.abs(rate) > 1e-5
    assert np.array_equal(branch.is_stable[clear], rate[clear] < 0)
    both = found.at(-0.5)
    assert both.is_resolved.all() and sorted(both.index) == [0, 1]
    radius = np.linalg.norm(both.states[:, 0], axis=1)
    assert np.allclose(np.sort(radius**2), 1 + np.sqrt([0.5, 0.5]) * [-1, 1], atol=1e-9)
    assert len(found.at(-1.2)) == 0
    assert "fold at s = -1" in "\n".join(found.summary_lines()) and "fold: 1" in repr(found)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("scale", [[1e-6, 1e6], [1e-6, 1e-6], [1e6, 1e6]])
def test_units_change_nothing(scale):
    F = in_units(bautin, scale)
    first = closed_orbits(F, 1.3 * np.float32(scale) * CIRCLE, np.float32([-0.5]))
    found = continuation(F, first, (-1.5, 1))
    assert kinds(found) == ["fold"] and np.isclose(found.events[0].s, -1, atol=1e-9)
    assert set(found.branches[0].ended_by) == {"span", "fixed_point"}


@pytest.mark.slow
def test_orbits_of_one_family_give_one_branch_which_closes():
    def f(x, u):  # squared radius `1 +- sqrt(1/4 - u^2)`
        return ((jnp.sum(x**2) - 1) ** 2 + u[0] ** 2 - 0.25) * x + jnp.stack([-x[1], x[0]])

    F = ContinuousTime(f)
    two = closed_orbits(F, np.stack([1.2 * CIRCLE, 0.7 * CIRCLE]), np.float32([0.1]))
    found = continuation(F, two, (-1, 1))
    assert len(found) == 1 and found.branches[0].rows == (0, 1)
    assert found.branches[0].ended_by == ("closed", "closed")
    assert kinds(found) == ["fold", "fold"]
    assert np.allclose(sorted(event.s for event in found.events), [-0.5, 0.5], atol=1e-9)


@pytest.mark.slow
def test_a_torus_is_told_where_it_branches_off():
    """Langford's system, which is symmetric: the orbit is an equilibrium of its radius and `z`."""

    def square(beta):
        return (0.6 + 0.95 * beta - beta**3 / 3) / (1 + 0.25 * beta)

    def f(x, u):
        r, z = x[0] ** 2 + x[1] ** 2, x[2]
        out = 0.6 + 0.95 * z - z**3 / 3 - r * (1 + 0.25 * z)
        return jnp.stack([(z - u[0]) * x[0] - 3.5 * x[1], 3.5 * x[0] + (z - u[0]) * x[1], out])

    x0 = np.concatenate([np.sqrt(square(0.7)) * CIRCLE, np.full((64, 1), 0.7)], axis=1)
    F = ContinuousTime(f)
    found = continuation(F, closed_orbits(F, x0.astype(np.float32), np.float32([0.7])), (0.3, 1.2))
    (torus,) = found.events
    exact = brentq(lambda beta: 0.95 - beta**2 - 0.25 * square(beta), 0.3, 1.2)
    assert torus.kind == "torus" and np.isclose(torus.s, exact, atol=1e-7)
    assert np.isclose(abs(torus.multiplier), 1) and torus.multiplier.imag > 0
    assert sorted(set(found.branches[0].index)) == [0, 2]


@pytest.mark.slow
def test_families_that_cross_are_told_from_a_fold():
    def f(x, u):
        q = x[0] ** 2 + x[1] ** 2
        return jnp.stack([x[0] * (1 - q) - x[1], x[1] * (1 - q) + x[0], u[0] * x[2] - x[2] ** 3])

    F = ContinuousTime(f)
    flat = np.concatenate([CIRCLE, np.zeros((64, 1), np.float32)], axis=1)
    found = continuation(F, closed_orbits(F, flat, np.float32([-0.5])), (-1, 1.3))
    assert kinds(found) == ["branch_point"] and abs(found.events[0].s) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.02, 1e-3])
def test_a_family_does_not_jump_to_one_close_by(gap):
    def f(x, u):  # squared radii `1 +- sqrt(u^2 / 4 + gap^2)`
        apart = (jnp.sum(x**2) - 1) ** 2 - u[0] ** 2 / 4 - gap**2
        return -x * apart + jnp.stack([-x[1], x[0]])

    F = ContinuousTime(f)
    upper = np.sqrt(1 + np.sqrt(1 / 16 + gap**2)).astype(np.float32)
    found = continuation(F, closed_orbits(F, upper * CIRCLE, np.float32([-0.5])), (-1, 1))
    assert not found.events and found.branches[0].is_stable.all()
    square = np.sum(found.branches[0].states[:, 0] ** 2, axis=1)
    assert np.allclose(square, 1 + np.sqrt(found.branches[0].s ** 2 / 4 + gap**2), atol=1e-7)


@pytest.mark.slow
def test_where_families_cross_the_place_is_known():
    def f(x, u):
        q = jnp.sum(x**2)
        return -x * (q - 1) * (q - 1 - u[0]) + jnp.stack([-x[1], x[0]])

    F = ContinuousTime(f)
    found = continuation(F, closed_orbits(F, CIRCLE, np.float32([-0.5])), (-0.8, 1))
    assert kinds(found) == ["branch_point"] and abs(found.events[0].s) < 1e-4
    assert abs(found.events[0].s) <= found.events[0].uncertainty
    assert np.isclose(found.events[0].multiplier, 1, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("start, s", [(1.2, 0.1), (1.0, 0.5)], ids=["", "at a fold"])
def test_orbits_next_to_a_fold_and_where_a_branch_closes_are_there_once(start, s):
    def f(x, u):
        return ((jnp.sum(x**2) - 1) ** 2 + u[0] ** 2 - 0.25) * x + jnp.stack([-x[1], x[0]])

    F = ContinuousTime(f)
    first = closed_orbits(F, np.float32(start) * CIRCLE, np.float32([s]))
    found = continuation(F, first, (-1, 1))
    assert found.branches[0].ended_by == ("closed", "closed")
    for place in (0.1, -0.3, 0.4999):
        square = np.sort(np.sum(found.at(place).states[:, 0] ** 2, axis=1))
        exact = 1 + np.sqrt(0.25 - place**2) * np.array([-1, 1])
        assert square.shape == (2,) and np.allclose(square, exact, atol=1e-6)


def orbit(radius, number, sigma):
    x = radius * np.float64(CIRCLE[:63])
    return OrbitPoint(x, number, sigma, np.zeros(x.size + 2))


def test_a_period_that_grows_at_one_parameter_is_homoclinic_only_if_the_orbit_stays():
    before = orbit(1.0, 0.1, 0.5)
    assert _is_homoclinic(before, orbit(1.0, 0.09, 0.5 + 1e-12))
    assert not _is_homoclinic(before, orbit(1.05, 0.09, 0.5 + 1e-12))  # a canard
    assert not _is_homoclinic(before, orbit(1.0, 0.09, 0.5 + 1e-6))
    assert not _is_homoclinic(before, orbit(1.0, 0.0999, 0.5 + 1e-12))


def test_where_a_neutral_exponent_changes_its_sign_nothing_happens():
    network = NetworkOfOrbits.of(as_transition(logistic), np.ones(2), np.dtype(np.float64))
    two = [orbit(1.0, 0.1, sigma) for sigma in (0.4, 0.5)]
    unknown = np.full(1, complex(np.nan))
    growths = [Growth(np.array([sign * 1e-12]), unknown, 1.0, 10.0, True) for sign in (1, -1)]
    assert _events(Path(network, (0.0, 1.0)), two, growths, 0) == []


def test_folds_at_one_parameter_are_one_if_the_branch_turns_back_and_none_if_not():
    sigmas = [0.1, 0.5, 0.5, 0.5, 0.5, 0.4, 0.5, 0.3]
    path = [orbit(1.0, 0.1, sigma) for sigma in sigmas]

    def told_apart(*events):
        made = [
            OrbitEvent(kind, 0.0, 1.0, CIRCLE, 0, place, 1 + 0j, 0.0, path[round(place)])
            for kind, place in events
        ]
        return [(event.kind, event.place) for event in _told_apart(made, path)]

    crossing, first, second, third = ("branch_point", 1.2), *(("fold", k + 0.5) for k in (1, 2, 3))
    assert told_apart(crossing, first) == [first]
    assert told_apart(crossing, first, second) == [crossing]
    assert told_apart(first, second, third) == [second]
    assert told_apart(first, second) == []
    apart = ("fold", 2.5), ("fold", 5.9)  # the branch leaves this parameter in between
    assert told_apart(*apart) == [*apart]
    assert told_apart(("torus", 1.5), first) == [("torus", 1.5), first]


def cycle(c, y, period):
    """Return by how much a state, and the period, miss a closed orbit."""

    def flow(t, x):
        return np.asarray([-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - c)])

    end = solve_ivp(flow, (0, period), y, rtol=1e-12, atol=1e-12).y[:, -1]
    return end - y


@pytest.mark.slow
def test_period_doublings_follow_one_another_past_where_orbits_are_stable():
    """Compared with shooting by SciPy, on both families where neither is stable."""
    F, span = ContinuousTime(rossler), (2, 4.5)
    settled = solve_ivp(lambda t, x: rossler(x, (2.5,)), (0, 200), [1, 1, 0], rtol=1e-8).y[:, -1]
    times = 5.75 * np.arange(64) / 64
    way = solve_ivp(lambda t, x: rossler(x, (2.5,)), (0, 6), settled, t_eval=times, rtol=1e-9)
    once = continuation(F, closed_orbits(F, way.y.T.astype(np.float32), np.float32([2.5])), span)
    assert kinds(once) == ["period_doubling"]
    assert np.isclose(once.events[0].multiplier, -1, atol=1e-6)
    first = once.emerging_orbits()
    assert first.is_resolved.all() and first.is_stable.all()
    assert np.isclose(first.period[0], 2 * once.events[0].period, rtol=1e-3)
    twice = continuation(F, first, span)
    assert kinds(twice) == ["period_doubling"] and "period_doubling" in twice.branches[0].ended_by
    assert np.isclose(twice.branches[0].s.min(), once.events[0].s, atol=1e-2)
    assert 3.8 < twice.events[0].s < 3.9
    for family in (once, twice):
        orbit = family.at(4.0)
        assert orbit.is_resolved.all() and orbit.index.tolist() == [1]
        x = orbit.states[0]
        row = np.flatnonzero((x[:-1, 1] < 0) & (x[1:, 1] >= 0))[0]
        shot = root(lambda y: np.append(cycle(4.0, y[:3], y[3]), y[1]), [*x[row], *orbit.period])
        assert shot.success and np.isclose(shot.x[3], orbit.period[0], atol=1e-8)


@pytest.mark.slow
def test_a_family_ends_where_its_period_has_no_bound():
    """The homoclinic orbit of a Bogdanov-Takens normal form."""
    F = ContinuousTime(lambda x, u: jnp.stack([x[1], -1 + u[0] * x[1] + x[0] ** 2 + x[0] * x[1]]))
    first = points(F, [-1, 0], 0.5, (0.3, 1.6)).emerging_orbits()
    found = continuation(F, first, (0.3, 1.6))
    (branch,) = found.branches
    assert set(branch.ended_by) == {"homoclinic", "fixed_point"} and not found.events
    assert branch.period.max() > 20 and np.isclose(branch.period.min(), 2 * np.pi / 2**0.5, 1e-3)
    assert branch.s[branch.period.argmax()] < branch.s.min() + 1e-9


@pytest.mark.slow
def test_a_neimark_sacker_point_starts_the_circles_of_a_map():
    F = as_transition(logistic)
    first = points(F, [0.4, 0.4], 1.8, (1.5, 2.12)).emerging_orbits()
    assert first.is_resolved.all() and first.is_stable.all()
    found = continuation(F, first, (1.5, 2.12))
    (branch,) = found.branches
    assert set(branch.ended_by) == {"fixed_point", "span"} and np.isnan(branch.multipliers).all()
    assert np.isclose(branch.s.min(), 2, atol=1e-4) and np.isclose(
        branch.period.min(), 6, atol=1e-4
    )
    (orbit,) = found.at(2.1).states
    direct = closed_orbits(F, orbit.astype(np.float32), np.float32([2.1]))
    assert np.isclose(direct.period[0], found.at(2.1).period[0], atol=1e-5)


@pytest.mark.slow
def test_doubled_cycles_of_a_map_are_followed_past_where_they_are_stable():
    """Of the logistic map, where the cycle of two steps is known."""
    F = iterate(as_transition(lambda x, u: u[0] * x * (1 - x)), 2)
    found = points(F, [0.8], 3.2, (2.5, 4.0))
    flip = [event for event in found.events if event.kind == "flip"]
    assert [round(event.s, 6) for event in flip] == [round(1 + 6**0.5, 6)] * len(flip)
    x = np.sort(found.at(3.9).xstar[:, 0])
    s = 3.9
    upper = (s + 1 + np.sqrt((s - 3) * (s + 1))) / (2 * s)
    assert np.abs(x - upper).min() < 1e-6


@pytest.mark.slow
def test_what_cannot_be_followed_is_said():
    F = ContinuousTime(lambda x, u: jnp.stack([x[1], -jnp.sin(x[0])]) + 0 * u[0])
    neutral = closed_orbits(F, CIRCLE, np.float32([0.1]))
    found = continuation(F, neutral, (-1, 1))
    assert len(found) == 0 and found.not_followed == {0: "not resolved"}
    assert "row 0 not followed: not resolved" in found.summary_lines()
    assert len(found.at(0.0)) == 0 and len(found.emerging_orbits()) == 0


@pytest.fixture(scope="module")
def orbits_of_bautin():
    return closed_orbits(ContinuousTime(bautin), 1.3 * CIRCLE, np.float32([-0.5]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"span": (0, 1)}, "`fps.inputs`"),
        ({"span": (1, 1)}, "`span`"),
        ({"max_step": 0.0}, "`max_step`"),
        ({"max_steps": 0}, "`max_steps`"),
        ({"search_at": [0.0]}, "`search_at`"),
        ({"certify": True}, "`certify`"),
        ({"n_eigvals": 2}, "`n_eigvals`"),
        ({"key": jax.random.key(0)}, "`key`"),
    ],
)
def test_bad_arguments_are_named(change, message, orbits_of_bautin):
    with pytest.raises(ValueError, match=message):
        continuation(ContinuousTime(bautin), **{"fps": orbits_of_bautin, "span": (-1, 1), **change})


@pytest.mark.slow
def test_a_parameter_beyond_the_branches_is_refused(orbits_of_bautin):
    branches = continuation(ContinuousTime(bautin), orbits_of_bautin, (-0.5, -0.4))
    with pytest.raises(ValueError, match="`s` is 3"):
        branches.at(3)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 1e-3, 1e3])
def test_a_family_emerges_where_another_state_follows_it(scale):
    """Of squared radius `u`, with a third state that is the square: its size is not known at 0."""

    def f(x, u):
        x = x / scale
        square = x[0] ** 2 + x[1] ** 2
        along = u[0] * x[:2] + 2 * jnp.stack([-x[1], x[0]]) - square * x[:2]
        return scale * jnp.append(along, square - x[2])

    first = points(ContinuousTime(f), [0, 0, 0], -0.3, (-0.5, 0.5)).emerging_orbits()
    assert first.is_resolved.all() and 0 < first.inputs[0, 0] <= 2e-3
    assert np.allclose(first.period, np.pi)
    assert np.allclose(first.states[0, :, 2], scale * first.inputs[0, 0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-3, 1e-1, 10])
def test_an_orbit_that_emerges_is_close_to_where_it_does(size):
    """However small orbits are beside the states around which they run."""

    def f(x, u):
        x = (x - 1) / size
        return size * (u[0] * x + 2 * jnp.stack([-x[1], x[0]]) - jnp.sum(x**2) * x)

    F = ContinuousTime(f)
    first = points(F, [1, 1], -0.3, (-0.5, 0.5)).emerging_orbits()
    assert first.is_resolved.all() and 0 < first.inputs[0, 0] <= 2e-3
    assert len(continuation(F, first, (-0.5, 0.5))) == 1
