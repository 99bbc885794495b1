"""Connections, boundaries, kicks and pulses in continuous time, where the answers are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import compilations
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    Outcome,
    basin_boundary,
    connections,
    smallest_kick,
    smallest_pulse,
)

NO_INPUT = np.zeros(0, np.float32)
X = np.float32([[-1, 0], [0, 0], [1, 0]])


def double_well(units=(1.0, 1.0), rate=1.0, fast=2.0):
    """`x' = x - x**3` and a second state that decays, in units of states and of time."""
    units = np.float32(units)

    def f(x, u):
        y = x / units
        return units * rate * jnp.stack([y[0] - y[0] ** 3, -fast * (y[1] - 0.2 * (y[0] ** 2 - 1))])

    return ContinuousTime(f)


def points(x):
    return FixedPoints(np.float32(x), inputs=np.zeros((len(x), 0), np.float32))


@pytest.mark.slow
def test_both_sides_of_a_saddle_lead_to_their_wells():
    x = X.copy()
    x[1, 1] = -0.2
    found = connections(double_well(), points(x), n_path=16)
    edges = found.edges
    assert edges.attractor.tolist() == [2, 0] and (edges.outcome == Outcome.ARRIVED).all()
    assert found.points.continuous_time and found.index.tolist() == [0, 1, 0]
    assert np.allclose(found.points.eigval_J_xstar[1], [1, -2])
    assert not edges.splits.any() and not edges.alternates.any() and (edges.period == 0).all()
    # From `near` to within a thousandth of the well, and half of that: `exp(t)` and `exp(-2 t)`.
    near = np.finfo(np.float64).eps ** (1 / 3)
    assert np.allclose(edges.n_steps, -np.log(near) + np.log(1e3) / 2, atol=1)
    assert np.allclose(edges.path[0, -1], x[2], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("units", "rate"), [((1e-6, 1e-6), 1.0), ((1e6, 1e6), 1.0), ((1e-3, 1e3), 1e3)]
)
def test_units_of_states_and_of_time_do_not_matter(units, rate):
    x = X * np.float32(units)
    x[1, 1] = -0.2 * units[1]
    edges = connections(double_well(units, rate), points(x)).edges
    plain = connections(double_well(), points([[-1, 0], [0, -0.2], [1, 0]])).edges
    assert edges.attractor.tolist() == plain.attractor.tolist() == [2, 0]
    # Distances are in one unit of both states, or in one for each, so steps may differ by a few.
    assert np.allclose(rate * edges.n_steps, plain.n_steps, atol=1)
    assert np.allclose(edges.end / units, plain.end, atol=2e-3)


@pytest.mark.slow
def test_a_stiff_network_has_the_same_connections():
    x = [[-1, 0], [0, -0.2], [1, 0]]
    edges = connections(double_well(fast=1e4), points(x)).edges
    assert edges.attractor.tolist() == [2, 0] and (edges.n_steps < 50).all()


@pytest.mark.slow
def test_states_on_a_limit_cycle_are_still_moving():
    def hopf(x, u):
        return x * (1 - x @ x) + 3 * jnp.stack([-x[1], x[0]])

    edges = connections(
        ContinuousTime(hopf), points([[0, 0]]), max_steps=2000, n_directions=0
    ).edges
    assert (edges.outcome == Outcome.MOVING).all()
    assert np.allclose(np.linalg.norm(edges.end, axis=1), 1, atol=1e-8)


@pytest.mark.slow
def test_the_saddle_of_a_boundary_and_new_weights_compile_nothing():
    class Tilted(eqx.Module):
        tilt: jax.Array

        def __call__(self, x, u):
            return jnp.stack([x[0] - x[0] ** 3 + self.tilt, x[0] - 2 * x[1]])

    def boundary(tilt):
        roots = np.sort(np.roots([-1, 0, 1, tilt]).real)
        a, b = (np.float32([r, r / 2]) for r in roots[[0, 2]])
        found = basin_boundary(ContinuousTime(Tilted(jnp.float32(tilt))), a, b, NO_INPUT)
        return found, np.array([roots[1], roots[1] / 2]), 1 - 3 * roots[1] ** 2

    found, saddle, rate = boundary(0.1)
    assert found.is_resolved.all(), found
    assert np.allclose(found.saddle.xstar[0], saddle, atol=1e-6)
    assert np.allclose(found.saddle.eigval_J_xstar[0], [rate, -2], atol=1e-5)
    assert found.saddle.continuous_time and found.n_changes.tolist() == [1]
    with compilations() as made:
        found, saddle, _ = boundary(0.15)
    assert found.is_resolved.all() and not made
    assert np.allclose(found.saddle.xstar[0], saddle, atol=1e-6)


@pytest.mark.slow
def test_the_smallest_kick_ends_on_the_boundary():
    # The boundary is the line `x[0] = 0`, at a distance of 1 along the first state.
    F = double_well()
    found = smallest_kick(F, X[0], np.float32([1.75, 0.5]), max_amplitude=2.0)
    assert np.isclose(found.amplitude, 1 / 1.75, atol=1e-12) and found.returns < 1 / 1.75
    assert found.outcome == Outcome.ELSEWHERE and np.allclose(found.end, [1, 0], atol=1e-6)
    away = smallest_kick(F, X[0], np.float32([-1.75, 0.5]), max_amplitude=2.0)
    assert np.isnan(away.amplitude)


@pytest.mark.slow
def test_the_smallest_pulse_of_a_duration_and_of_any():
    F, time = ContinuousTime(lambda x, u: x - x**3 + u), 2.5
    a, way = np.float32([-1]), np.float32([1])
    found = smallest_pulse(F, a, way, max_amplitude=3.0, duration=time)

    def end(amplitude):
        rate = lambda t, x: x - x**3 + amplitude  # noqa: E731
        return solve_ivp(rate, (0, time), [-1.0], rtol=1e-12, atol=1e-12).y[0, -1]

    assert np.isclose(found.amplitude, brentq(end, 0.4, 3, xtol=1e-13), atol=1e-8)
    # Beyond the fold, at `2 / sqrt(27)`, the well is gone.
    endless = smallest_pulse(F, a, way, max_amplitude=1.0)
    assert np.isclose(endless.amplitude, 2 / np.sqrt(27), atol=1e-5)
