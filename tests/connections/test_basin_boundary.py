"""`basin_boundary`, `smallest_kick` and `smallest_pulse` where the answers are known."""

import itertools

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from constructed import FOLD_INPUT
from model_checks import fast_compilation as fast_compilation
from networks import DoubleWell, double_well, found_in, trained
from scipy.optimize import brentq

from slowpoints import (
    ContinuousTime,
    Outcome,
    basin_boundary,
    decompose,
    smallest_kick,
    smallest_pulse,
)

NO_INPUT = np.zeros(0, np.float32)


def tanh(x, u):
    return jnp.tanh(2 * x + u)


LOWER = np.float32([-0.9575040240772687])
"""The lower attractor of `tanh(2 x)`; the saddle is at 0."""


def steps(x, u):
    """Attractors at whole numbers, saddles half way between them."""
    return x - 0.4 * jnp.sin(2 * jnp.pi * x) / (2 * jnp.pi)


def turning(x, u):
    """The double well, on whose boundary states alternate between two sides."""
    near = jnp.exp(-4 * x[0] ** 2)
    return jnp.stack([1.5 * x[0] - x[0] ** 3 / 2, 0.01 - 1.5 * near * jnp.tanh(x[1])])


def once(x, u):
    """0 attracts all states but those from 1 to 2, which 1.5 attracts."""
    return jnp.where((x > 1) & (x < 2), 0.75 + x / 2, 0.1 * x)


# ---- the saddle between two attractors ---------------------------------------------------------


@pytest.mark.slow
def test_in_one_dimension_the_saddle_is_where_the_segment_crosses():
    u = 0.3
    roots = [
        brentq(lambda x: np.tanh(2 * x + u) - x, *ends)
        for ends in ((-1.0, -0.7), (-0.7, 0.5), (0.5, 1.0))
    ]
    a, saddle, b = roots
    found = basin_boundary(tanh, np.float32([a]), np.float32([b]), np.float32([u]))
    assert found.is_resolved.all() and found.reason.tolist() == [""]
    u32 = float(np.float32(u))
    saddle = brentq(lambda x: np.tanh(2 * x + u32) - x, -0.7, 0.5, xtol=1e-15)
    np.testing.assert_allclose(found.saddle.xstar, [[saddle]], atol=1e-11)
    np.testing.assert_allclose(found.state, [[saddle]], atol=1e-10)
    assert found.fraction[0] == pytest.approx((saddle - a) / (b - a), abs=1e-6)
    assert 0 < found.width[0] < 2e-11 and found.n_changes[0] == 1
    assert found.saddle.n_unstable().tolist() == [1] and found.saddle.inputs[0, 0] == u32
    assert str(found) == "1 of 1 boundaries are resolved."


@pytest.mark.slow
def test_pairs_are_computed_side_by_side_with_an_input_each():
    u = np.float32([[-0.05], [0.0], [0.05]])
    roots = [np.roots([-0.5, 0, 0.5, float(v[0])]).real for v in u]
    low, middle, high = np.sort(roots, axis=1).T
    a, b = (np.float32(np.stack([x, 0 * x], axis=1)) for x in (low, high))
    found = basin_boundary(DoubleWell(), a, b, u)
    assert found.is_resolved.all() and len(found) == 3
    np.testing.assert_allclose(found.saddle.xstar[:, 0], middle, atol=1e-8)
    turned = basin_boundary(DoubleWell(), b[::-1], a[::-1], u[::-1])
    np.testing.assert_allclose(turned.saddle.xstar, found.saddle.xstar[::-1], atol=1e-10)
    np.testing.assert_allclose(turned.fraction, 1 - found.fraction[::-1], atol=1e-6)
    one = basin_boundary(DoubleWell(), a[0], b[0], u[0])
    np.testing.assert_allclose(one.saddle.xstar, found.saddle.xstar[:1], atol=1e-10)


@pytest.mark.slow
def test_the_memories_of_a_flip_flop_that_differ_in_one_bit_share_a_boundary():
    fps = decompose(found_in("tanh")).to_numpy()
    memories, saddles = fps.xstar[fps.is_stable], fps.xstar[fps.n_unstable() == 1]
    i, j = np.array(list(itertools.combinations(range(8), 2))).T
    found = basin_boundary(trained("tanh"), memories[i], memories[j], np.zeros(3, np.float32))
    cube = networkx.Graph(zip(i[found.is_resolved], j[found.is_resolved], strict=True))
    assert networkx.is_isomorphic(cube, networkx.hypercube_graph(3))
    # Found without any search for saddles, they are the ones of the search.
    distance = np.linalg.norm(found.saddle.xstar[found.is_resolved][:, None] - saddles, axis=2)
    assert distance.min(axis=1).max() < 1e-5
    assert sorted(distance.argmin(axis=1)) == list(range(12))
    assert all(found.reason[~found.is_resolved])
    assert "12 of 28 boundaries are resolved." in str(found)


@pytest.mark.slow
def test_a_third_attractor_on_the_way_is_said():
    found = basin_boundary(steps, np.float32([[0], [0]]), np.float32([[2], [1]]))
    assert found.is_resolved.tolist() == [False, True] and found.n_changes.tolist() == [2, 1]
    assert found.reason[0].startswith("beyond the basin of `a` is that of neither")
    assert "at rest elsewhere" in found.reason[0]
    np.testing.assert_allclose(found.saddle.xstar, [[0.5], [0.5]], atol=1e-10)


@pytest.mark.slow
def test_where_four_basins_meet_the_saddle_is_no_boundary_of_two():
    x = np.float32([0.8585596366, 0.8585596366])
    found = basin_boundary(lambda x, u: jnp.tanh(1.5 * x), -x, x)
    assert found.reason.tolist() == [
        "the saddle has 2 unstable directions, and separates more basins"
    ]
    np.testing.assert_allclose(found.saddle.xstar, [[0, 0]], atol=1e-9)


@pytest.mark.slow
def test_an_edge_state_that_does_not_rest_is_said():
    a = np.float32([-1, 0.01 / (1 + 1.5 * np.exp(-4))])
    found = basin_boundary(turning, a, a * np.float32([-1, 1]), max_rounds=20)
    assert found.reason.tolist() == [
        "the state between the basins does not come to rest at a saddle"
    ]


@pytest.mark.slow
def test_what_are_no_two_attractors_is_said():
    a = np.float32([[0, 0], [-1, 0], [-1, 0], [-0.9, 0]])
    b = np.float32([[1, 0], [-1, 0], [0.5, 0], [1, 0]])
    found = basin_boundary(double_well(), a, b)
    assert found.reason.tolist() == [
        "`a` is not a stable fixed point",
        "`a` and `b` are the same point",
        "`b` is not a stable fixed point",
        "`a` is not a stable fixed point",
    ]
    assert not found.saddle.valid.any() and not found.is_resolved.any()


@pytest.mark.slow
def test_too_few_steps_are_said():
    a = np.float32([-1, 0])
    found = basin_boundary(double_well(), a, -a, max_steps=2)
    assert "still moving after `max_steps`" in found.reason[0]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.005, 0.001])
def test_a_saddle_that_is_hardly_unstable_is_found(rate):
    F = lambda x, u: x + rate * (x - x**3)  # noqa: E731
    found = basin_boundary(F, np.float32([-1]), np.float32([1]), max_steps=200_000)
    assert found.is_resolved.all(), found.reason
    np.testing.assert_allclose(found.saddle.xstar, [[0]], atol=1e-9)


@pytest.mark.slow
def test_a_network_that_casts_to_float32_has_a_boundary_too():
    F = lambda x, u: double_well()(x.astype(jnp.float32), u).astype(jnp.float32)  # noqa: E731
    found = basin_boundary(F, np.float32([-1, 0]), np.float32([1, 0]))
    assert found.is_resolved.all() and found.state.dtype == np.float64
    np.testing.assert_allclose(found.saddle.xstar, [[0, 0]], atol=1e-9)


# ---- the smallest kick -------------------------------------------------------------------------


@pytest.mark.fast
def test_a_kick_must_exceed_the_saddle():
    found = smallest_kick(tanh, LOWER, np.ones(1), np.zeros(1), max_amplitude=2)
    exact = -brentq(lambda x: np.tanh(2 * x) - x, -1, -0.5, xtol=1e-15)
    assert found.amplitude == pytest.approx(exact, abs=1e-12)
    assert 0 < found.amplitude - found.returns < 1e-12
    assert found.outcome == Outcome.ELSEWHERE and found.n_changes == 1
    np.testing.assert_allclose(found.end, [exact], atol=1e-12)
    # The unit of amplitudes is the direction.
    half = smallest_kick(tanh, LOWER, np.full(1, 0.5), np.zeros(1), max_amplitude=4)
    assert half.amplitude == pytest.approx(2 * exact, abs=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [0.1, 0.02, 0.005, 0.001])
def test_kicks_and_pulses_end_at_attractors_and_not_at_the_saddle_between_them(leak):
    def F(x, u):
        return (1 - leak) * x + leak * jnp.tanh(2 * x + 0.1 + u)

    lower, upper = (
        brentq(lambda x: np.tanh(2 * x + 0.1) - x, *ends, xtol=1e-15)
        for ends in ((-1.2, -0.7), (0.5, 1.2))
    )
    given = F, np.float32([lower]), np.ones(1), np.zeros(1)
    kick = smallest_kick(*given, max_amplitude=2, max_steps=200_000)
    duration = round(5 / leak)
    pulse = smallest_pulse(*given, max_amplitude=2, duration=duration, max_steps=200_000)
    boundary = basin_boundary(F, *np.float32([[lower], [upper]]), np.zeros(1), max_steps=200_000)
    assert boundary.is_resolved.all(), boundary.reason
    for found in (kick, pulse):
        assert found.outcome == Outcome.ELSEWHERE
        np.testing.assert_allclose(found.end, [upper], atol=1e-4)


@pytest.mark.slow
def test_a_kick_that_leads_to_a_saddle_to_rounding_ends_beyond_it():
    # In the first state, only 0 is between the basins; the second one shrinks to nothing.
    f = ContinuousTime(lambda x, u: jnp.stack([x[0] - x[0] ** 3, x[0] - 2 * x[1]]))
    found = smallest_kick(f, np.float32([-1, -0.5]), np.float32([1, 0]), max_amplitude=2, n_grid=2)
    assert found.amplitude == pytest.approx(1, abs=1e-12)
    assert found.outcome == Outcome.ELSEWHERE
    np.testing.assert_allclose(found.end, [1, 0.5], atol=1e-6)


def test_kicks_that_do_not_suffice_are_reported_as_such():
    found = smallest_kick(tanh, LOWER, -np.ones(1), np.zeros(1), max_amplitude=2)
    assert np.isnan(found.amplitude) and found.returns == 2 and found.outcome == Outcome.ARRIVED
    assert str(found) == "The network returns after all amplitudes up to 2."


@pytest.mark.slow
def test_larger_kicks_may_lead_back():
    found = smallest_kick(once, np.zeros(1, np.float32), np.ones(1), max_amplitude=4)
    assert found.amplitude == pytest.approx(1, abs=1e-12) and found.n_changes == 2
    assert "On the grid this changes 2 times." in str(found)
    np.testing.assert_allclose(found.end, [1.5], atol=1e-12)
    # On a grid that is too coarse, the window is not seen.
    coarse = smallest_kick(once, np.zeros(1, np.float32), np.ones(1), max_amplitude=6, n_grid=2)
    assert np.isnan(coarse.amplitude)


@pytest.mark.slow
def test_a_kick_may_lead_out_of_everything():
    found = smallest_kick(lambda x, u: x * x, np.zeros(1, np.float32), np.ones(1), max_amplitude=9)
    assert found.amplitude == pytest.approx(1, abs=1e-11)
    assert found.outcome in (Outcome.LEFT, Outcome.ELSEWHERE)  # 1 itself stays where it is


# ---- the smallest pulse ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("max_steps", [1000, 10_000])
def test_a_constant_pulse_must_exceed_the_fold(max_steps):
    found = smallest_pulse(
        tanh, LOWER, np.ones(1), np.zeros(1), max_amplitude=1, max_steps=max_steps
    )
    # Beyond the fold by `d`, `x` moves by `d / 2 + sqrt(2) y^2`, which takes `pi / (2^-1/4 d^1/2)`.
    excess = np.sqrt(2) * (np.pi / max_steps) ** 2
    assert found.amplitude - FOLD_INPUT == pytest.approx(excess, rel=0.05)
    assert found.amplitude > found.returns > FOLD_INPUT
    assert max_steps < 10_000 or found.amplitude == pytest.approx(FOLD_INPUT, abs=1e-6)


@pytest.mark.slow
def test_a_pulse_starts_from_an_attractor_in_float64_without_a_warning():
    a = np.array([brentq(lambda x: np.tanh(2 * x) - x, -1, -0.5, xtol=1e-15)])
    found = smallest_pulse(tanh, a, np.ones(1), np.zeros(1), max_amplitude=1)
    assert found.amplitude == pytest.approx(FOLD_INPUT, abs=1e-4)


@pytest.mark.slow_cases
@pytest.mark.parametrize("duration", [1, 5])
def test_a_short_pulse_must_carry_the_state_over_the_saddle(duration):
    a = brentq(lambda x: np.tanh(2 * x) - x, -1, -0.5, xtol=1e-15)

    def after(u):
        x = a
        for _ in range(duration):
            x = np.tanh(2 * x + u)
        return x  # the saddle is at 0

    found = smallest_pulse(tanh, LOWER, np.ones(1), np.zeros(1), max_amplitude=4, duration=duration)
    assert found.amplitude == pytest.approx(brentq(after, 0, 4, xtol=1e-14), abs=1e-11)
    if duration == 1:
        assert found.amplitude == pytest.approx(-2 * a, abs=1e-11)


@pytest.mark.slow
def test_a_pulse_starts_from_the_input_that_is_given():
    u = np.float32([0.2])
    a = brentq(lambda x: np.tanh(2 * x + float(u[0])) - x, -1, -0.7)
    found = smallest_pulse(tanh, np.float32([a]), np.ones(1), u, max_amplitude=1)
    assert found.amplitude == pytest.approx(FOLD_INPUT - float(u[0]), abs=1e-6)
    # No input means zeros, as many as the direction has.
    assert smallest_pulse(tanh, LOWER, np.ones(1), max_amplitude=1).amplitude == pytest.approx(
        FOLD_INPUT, abs=1e-6
    )


# ---- units -------------------------------------------------------------------------------------


UNITS = [2.0**-20, 1e-3, 1e3, 2.0**20]


def in_units(unit):
    """Return two units that excite themselves, with states in other units, and three attractors."""
    W = jnp.float32([[1.8, 0.3], [-0.2, 1.6]])

    def F(x, u):
        return unit * jnp.tanh(W @ (x / unit) + u)

    attractors = []
    for signs in ([1, 1], [-1, -1], [-1, 1]):
        x = unit * jnp.float32(signs)
        for _ in range(300):
            x = F(x, jnp.zeros(2))
        attractors.append(np.asarray(x))
    return F, attractors


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_kicks_pulses_and_boundaries_are_the_same_in_all_units(unit):
    way, no_input = np.float32([-1, -0.3]), np.zeros(2, np.float32)

    def results(unit):
        F, (a, b, c) = in_units(np.float32(unit))
        kick = smallest_kick(F, a, way, no_input, max_amplitude=3 * unit)
        pulse = smallest_pulse(F, a, way, max_amplitude=3)
        boundary = basin_boundary(F, np.stack([a, a]), np.stack([b, c]), no_input)
        assert kick.outcome == pulse.outcome == Outcome.ELSEWHERE
        return [
            [kick.amplitude / unit, kick.returns / unit, pulse.amplitude, pulse.returns],
            *(x / unit for x in (kick.end, pulse.end, boundary.state, boundary.saddle.xstar)),
            boundary.saddle.F_xstar / unit,
            boundary.fraction,
            boundary.is_resolved,
            boundary.saddle.J_xstar,
            boundary.saddle.dFdu / unit,
        ]

    for found, expected in zip(results(unit), results(1.0), strict=True):
        # In powers of two all digits are the same, but for those of the unit.
        tolerance = 0 if np.log2(unit).is_integer() else 1e-5
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("a", [0.0, 1.0])
def test_a_boundary_right_beside_an_attractor_is_not_overlooked(a):
    """There are attractors at `a` and 2e-5 above it, and the boundary is at 1e-5."""

    def F(x, u):
        y = 1e5 * (x - a)
        return x - 0.3 * (x - a) * (1 - y) * (1 - y / 2) / (1 + y**2)

    kick = smallest_kick(F, np.full(1, a), np.ones(1), max_amplitude=4e-3)
    assert kick.amplitude == pytest.approx(1e-5, rel=1e-6)
    assert kick.outcome == Outcome.ELSEWHERE


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize("function", [smallest_kick, smallest_pulse])
def test_kicks_and_pulses_start_from_attractors(function):
    def call(a, F=tanh):
        return function(F, np.float32(a), np.ones(1), np.zeros(1), max_amplitude=1)

    with pytest.raises(ValueError, match=r"`a` is 0.11 away from the fixed point next to it"):
        call([-0.85])
    with pytest.raises(ValueError, match=r"`a` is not stable: its largest eigenvalue is 2 in mag"):
        call([0.0])
    with pytest.raises(ValueError, match=r"`a` moves by 1 in one step; expected a fixed point"):
        call([0.0], lambda x, u: x + 1 + 0 * u)
    with pytest.raises(ValueError, match="its leading eigenvalue has a real part of 1"):
        call([0.0], ContinuousTime(lambda x, u: x))
    with pytest.raises(TypeError, match="`a` is traced; expected to be called outside of `jit`"):
        jax.jit(lambda a: function(tanh, a, np.ones(1), np.zeros(1), max_amplitude=1))(LOWER)


@pytest.mark.checks_input
def test_a_boundary_is_between_states_of_one_length():
    with pytest.raises(ValueError, match=r"`b` has shape \(3,\); expected one that goes with"):
        basin_boundary(double_well(), np.zeros(2, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"`a` has no states; expected at least one"):
        basin_boundary(lambda x, u: x, NO_INPUT, NO_INPUT)
