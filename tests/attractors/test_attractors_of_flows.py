"""`attractors` and `lyapunov` in continuous time: normal forms, van der Pol, Lorenz."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import AttractorKind, ContinuousTime, attractors, flow, lyapunov, stroboscopic
from slowpoints._network import time_scale
from slowpoints._network.time_scale import in_steps
from slowpoints._network.trace import traced

NO_INPUT = np.zeros(0, np.float32)
VAN_DER_POL = 6.6632868594
"""The period for `mu = 1`."""


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def hopf(x, u):
    """A limit cycle of radius 1, angular frequency 3, and the exponent -2 towards it."""
    return x * (1 - x @ x) + 3 * jnp.stack([-x[1], x[0]])


def van_der_pol(x, u):
    return jnp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0]])


def stiff_van_der_pol(x, u):
    return jnp.stack([x[1], 10 * (1 - x[0] ** 2) * x[1] - x[0]])


def damped(x, u):
    return jnp.stack([x[1] - 1e-5 * x[0], -x[0] - 1e-5 * x[1]])


def roessler(c):
    return lambda x, u: jnp.stack([-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - c)])


def lorenz(x, u):
    return jnp.stack([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def in_units(f, units):
    units = np.float32(units)
    return ContinuousTime(lambda x, u: units * f(x / units, u))


@pytest.mark.slow
@pytest.mark.parametrize("units", [(1, 1), (1e-6, 1e-6), (1e6, 1e6), (1e-3, 1e3)])
def test_a_limit_cycle_is_a_closed_orbit_in_units_of_time(units):
    found = attractors(in_units(hopf, units), np.float32(units) * normal(8, 2), NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.CLOSED_ORBIT], str(found)
    assert abs(found.period[0] - 2 * np.pi / 3) < max(1e-7, 3 * found.period_error[0])
    assert np.allclose(found.exponents, [[0, -2]], atol=1e-6)
    assert np.isnan(found.rotation_number).all()
    radius = np.linalg.norm(found.states[0] / units, axis=1)
    assert np.allclose(radius, 1, atol=1e-5)


@pytest.mark.slow
def test_van_der_pol():
    found = attractors(ContinuousTime(van_der_pol), normal(8, 2), NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.CLOSED_ORBIT]
    assert abs(found.period[0] - VAN_DER_POL) < 1e-8


@pytest.mark.slow
def test_a_relaxation_oscillation_is_a_closed_orbit():
    # The period by SciPy at rtol=1e-13; the mean of the divergence along it is the second exponent.
    found = attractors(ContinuousTime(stiff_van_der_pol), normal(4, 2), NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.CLOSED_ORBIT], str(found)
    assert abs(found.period[0] - 19.0783695669) < 1e-9
    assert np.allclose(found.exponents[0], [0, -16.3454334078], atol=1e-8)
    assert (found.period_error < 1e-9).all() and (found.exponent_errors < 1e-8).all()
    assert found.share[0] == 1  # though states at equal times are far apart where it is fast


@pytest.mark.slow
def test_an_orbit_that_repels_out_of_its_plane_is_not_said_to_attract():
    f = ContinuousTime(lambda x, u: jnp.append(hopf(x[:2], u), 0.5 * x[2]))
    x = normal(4, 3) * np.float32([1, 1, 0])
    found = attractors(f, x, NO_INPUT, max_steps=1000)
    assert AttractorKind.CLOSED_ORBIT not in found.kind, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("c, turns", [(3.5, 2), (4.0, 4)])
def test_orbits_that_return_after_several_turns(c, turns):
    found = attractors(ContinuousTime(roessler(c)), 1 + 0.1 * normal(4, 3), NO_INPUT, n_exponents=3)
    assert found.kind.tolist() == [AttractorKind.CLOSED_ORBIT], str(found)
    assert abs(found.period[0] / turns - 5.78) < 0.03
    # Directions take many turns to where they stay: the second exponent is -0.08 at 3.5.
    assert abs(found.exponents[0, 0]) < 1e-9 and found.exponent_errors.max() < 2e-9
    x, period = found.x[0], float(found.period[0])
    with jax.enable_x64():
        f, start, u = ContinuousTime(roessler(c)), jnp.asarray(x), jnp.zeros(0)
        half, back = (np.asarray(flow(f, time)(start, u)) for time in (period / 2, period))
    assert np.linalg.norm(back - x) < 1e-6 and np.linalg.norm(half - x) > 0.1


@pytest.mark.slow
def test_what_is_on_its_way_to_a_point_in_many_turns_is_on_no_orbit():
    found = attractors(ContinuousTime(damped), normal(4, 2), NO_INPUT, max_steps=2000)
    assert found.kind.tolist() == [AttractorKind.UNDECIDED], str(found)


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("parts", [27, 3])
def test_a_cycle_that_is_a_whole_number_of_steps_is_a_closed_orbit(monkeypatch, parts):
    F = traced("test", ContinuousTime(van_der_pol), 2, 0, np.float32)
    x = normal(8, 2)
    own = in_steps(F, x, np.zeros((8, 0)))
    part = time_scale.PART * VAN_DER_POL / parts / float(own.duration)
    monkeypatch.setattr(time_scale, "PART", part)
    found = attractors(ContinuousTime(van_der_pol), x, NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.CLOSED_ORBIT], str(found)
    assert abs(found.period[0] - VAN_DER_POL) < 1e-7


@pytest.mark.slow
def test_lorenz_is_chaotic():
    found = lyapunov(ContinuousTime(lorenz), 10 * normal(3), NO_INPUT, n_steps=20_000)
    assert abs(found.exponents[0] - 0.9056) < found.errors[0]
    assert np.isclose(found.exponents.sum(), -10 - 1 - 8 / 3, atol=1e-6)
    assert abs(found.dimension - 2.062) < 0.01


@pytest.mark.slow
def test_equilibria_have_the_eigenvalues_as_exponents():
    def wells(x, u):
        return jnp.stack([x[0] - x[0] ** 3, -5 * x[1]])

    found = attractors(ContinuousTime(wells), normal(16, 2), NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.FIXED_POINT] * 2
    assert np.allclose(np.sort(found.x[:, 0]), [-1, 1]) and np.isnan(found.period).all()
    assert np.allclose(found.exponents, [[-2, -5]] * 2)


@pytest.mark.slow
def test_a_stiff_network_is_followed_on_its_slow_time_scale():
    def stiff(x, u):
        return jnp.stack([x[0] - x[0] ** 3, -1e4 * (x[1] - x[0])])

    F = traced("test", ContinuousTime(stiff), 2, 0, np.float32)
    steps = in_steps(F, normal(8, 2), np.zeros((8, 0)))
    assert steps.stiff and 0.05 < steps.duration < 1
    found = attractors(ContinuousTime(stiff), normal(8, 2), NO_INPUT)
    assert found.kind.tolist() == [AttractorKind.FIXED_POINT] * 2, str(found)
    assert np.allclose(found.exponents, [[-2, -1e4]] * 2)
    # The fast direction is lost within a step, and is not given a number.
    exponents = lyapunov(ContinuousTime(stiff), np.ones(2, np.float32), NO_INPUT, n_steps=160)
    assert np.isclose(exponents.exponents[0], -2, atol=1e-6)
    assert np.isneginf(exponents.exponents[1])


@pytest.mark.slow
def test_what_leaves_and_where_the_integrator_gives_up():
    leaves = attractors(ContinuousTime(lambda x, u: x * x), np.float32([[1], [2]]), NO_INPUT)
    assert leaves.kind.tolist() == [AttractorKind.ESCAPE]
    lost = attractors(ContinuousTime(lambda x, u: -jnp.sqrt(x)), np.float32([[1], [2]]), NO_INPUT)
    assert lost.kind.tolist() == [AttractorKind.UNDECIDED]
    assert lost.reasons == ("the integrator gave up: see `flow`",)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 1e-5])
def test_an_oscillator_that_its_input_entrains_rests_in_the_map_over_a_period(scale):
    """To the errors of the integrator, which repeat after no number of steps."""
    pytest.importorskip("diffrax")
    n = 8
    inputs = 1.5 * np.cos(2 * np.pi * np.arange(n) / n)[:, None]

    def f(x, u):
        x = x / scale
        return scale * jnp.stack([x[1], 0.5 * (1 - x[0] ** 2) * x[1] - x[0] + u[0]])

    F = stroboscopic(flow(ContinuousTime(f), 6.0 / n), inputs)
    found = attractors(F, np.float32(scale) * normal(6, 2), NO_INPUT, max_steps=3000)
    assert found.kind.tolist() == [AttractorKind.FIXED_POINT] and found.n_steps.max() < 1000
    # By SciPy's DOP853 to 1e-12, from one of these points, and by differences.
    assert np.allclose(found.x[0] / scale, [-1.87322904, 1.44413449], atol=2e-5)
    assert np.allclose(found.exponents, [[-1.87319, -7.07675]], atol=1e-3)
