"""`closed_orbits` against closed forms, published periods and shooting by SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import root

from slowpoints import (
    ContinuousTime,
    Transition,
    as_transition,
    attractors,
    closed_orbits,
)

NO_INPUT = np.zeros(0, np.float32)
ANGLES = 2 * np.pi * np.arange(64) / 64
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def van_der_pol(x, u):
    return jnp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0]])


def stuart_landau(x, u):
    """Grows by `u[0]`, saturates with a shear of `u[1]`: radius, frequency and rate are known."""
    square = jnp.sum(x**2)
    turn = jnp.stack([-x[1], x[0]])
    return (u[0] - square) * x + (1 - u[1] * square) * turn


def rossler(x, u):
    return jnp.stack([-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - u[0])])


class DelayedLogistic(Transition):
    a: jax.Array

    def __call__(self, x, u):
        return jnp.stack([self.a * x[0] * (1 - x[1]), x[0]])


@pytest.mark.slow_cases
@pytest.mark.parametrize("sign, growth", [(1, -1), (-1, 1)])
def test_van_der_pols_period_forwards_and_backwards_in_time(sign, growth):
    flow = ContinuousTime(lambda x, u: sign * van_der_pol(x, u))
    found = closed_orbits(flow, 2 * CIRCLE, NO_INPUT)
    assert found.is_resolved.all() and abs(found.period[0] - 6.6632868594) < 1e-9
    assert found.error[0] < 1e-9 and found.is_stable[0] == (sign == 1)
    assert found.index[0] == (sign == -1)
    own = found.exponents[0][np.abs(found.exponents[0]) > 1e-6]
    assert np.allclose(own, growth * 1.0593769, atol=1e-6)
    assert np.isclose(found.multipliers[0], 1).sum() == 1


@pytest.mark.parametrize("u", [(0.5, 0.0), (0.04, 0.3), (2.0, -0.4)])
def test_the_normal_form_of_a_hopf_point(u):
    found = closed_orbits(ContinuousTime(stuart_landau), CIRCLE, np.array(u, np.float32))
    u = np.float64(np.float32(u))
    assert np.allclose(np.linalg.norm(found.states[0], axis=1), np.sqrt(u[0]), atol=1e-9)
    assert np.isclose(found.period[0], 2 * np.pi / (1 - u[1] * u[0]), rtol=1e-10)
    assert np.allclose(np.sort(found.exponents[0]), [-2 * u[0], 0], atol=1e-8)


@pytest.mark.parametrize("radius, shear", [(1.5, 1.0), (5.0, 3.0)])
def test_time_runs_forwards_where_the_flow_beside_the_orbit_runs_backwards(radius, shear):
    u = np.float32([1, shear])

    def F(x, u):
        square = jnp.sum(x**2)
        turn = (1 + u[1] * (1 - square)) * jnp.stack([-x[1], x[0]])
        return (1 - square) * x + turn

    found = closed_orbits(ContinuousTime(F), radius * CIRCLE, u)
    assert np.isclose(found.period[0], 2 * np.pi, atol=1e-9) and found.is_stable[0]
    assert np.allclose(found.exponents[0], [0, -2], atol=1e-8)
    ahead = found.states[0, 1] - found.states[0, 0]
    assert ahead @ np.asarray(F(jnp.asarray(found.states[0, 0]), u)) > 0


@pytest.mark.slow
def test_exponents_of_directions_that_numbers_hardly_hold():
    """By Liouville's formula, their sum is the mean divergence along the orbit."""

    def F(x, u):
        return jnp.stack([x[1], u[0] * (1 - x[0] ** 2) * x[1] - x[0]])

    def flow(t, x):
        return np.asarray([x[1], 4 * (1 - x[0] ** 2) * x[1] - x[0]])

    times = 40 + 10.2035 * np.arange(200) / 200
    x0 = solve_ivp(flow, (0, 51), [2, 0], rtol=1e-9, atol=1e-9, t_eval=times).y.T
    found = closed_orbits(ContinuousTime(F), x0, np.float32([4]), n_sample=4096)
    divergence = np.mean(4 * (1 - found.states[0, :, 0] ** 2))
    assert np.isclose(found.exponents[0].sum(), divergence, atol=1e-4)


@pytest.mark.slow
def test_a_slow_circle_of_a_map_is_stable():
    def F(x, u):
        return x + 0.02 * jnp.stack([x[1], 3 * (1 - x[0] ** 2) * x[1] - x[0]])

    settled = attractors(F, np.float32([[2, 0]]), NO_INPUT, max_steps=20_000)
    found = closed_orbits(F, settled)
    assert found.is_stable[0] and np.isclose(found.exponents[0, 0], 0, atol=1e-8)


@pytest.mark.slow
def test_an_orbit_that_doubled_its_period_is_found_past_it():
    """Compared with shooting, from another start, by SciPy."""

    def shot(c, start, period):
        def flow(t, x):
            return np.asarray([-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - c)])

        def miss(y):
            end = solve_ivp(flow, (0, y[3]), y[:3], rtol=1e-12, atol=1e-12).y[:, -1]
            return np.append(end - y[:3], y[1])  # where y crosses zero

        return root(miss, np.append(start, period), tol=1e-12).x

    times = 5.75 * np.arange(64) / 64
    settled = solve_ivp(lambda t, x: rossler(x, (2.5,)), (0, 200), [1, 1, 0], rtol=1e-8).y[:, -1]
    way = solve_ivp(lambda t, x: rossler(x, (2.5,)), (0, 6), settled, t_eval=times, rtol=1e-9)
    found = closed_orbits(ContinuousTime(rossler), way.y.T.astype(np.float32), np.float32([2.5]))
    assert found.is_stable[0] and np.isclose(found.multipliers[0, 1], -0.7697, atol=1e-3)
    past = closed_orbits(ContinuousTime(rossler), found.states, np.float32([3.5]))
    assert past.is_resolved[0] and past.index[0] == 1 and past.multipliers[0, 0].real < -1.2
    states = past.states[0]
    row = np.flatnonzero((states[:-1, 1] < 0) & (states[1:, 1] >= 0))[0]
    own = shot(3.5, states[row], past.period[0])
    assert np.isclose(own[3], past.period[0], atol=1e-9)
    nearest = np.linalg.norm(states - own[:3], axis=1).min()
    assert nearest < 0.2


@pytest.mark.slow
def test_a_circle_of_a_map_agrees_with_its_trajectories_and_one_that_repels_is_found():
    F = DelayedLogistic(jnp.float32(2.1))
    settled = attractors(F, np.float32([[0.5, 0.5]]), NO_INPUT)
    found = closed_orbits(F, settled)
    assert found.is_resolved.all() and found.is_stable.all()
    assert np.isclose(found.period[0], settled.period[0], atol=1e-9)
    assert np.allclose(found.exponents, settled.exponents, atol=1e-8)
    assert np.isnan(found.multipliers).all()
    # Its states go round: each step is a turn by the rotation number.
    x, turned = found.states[0, 0], [found.states[0, 0]]
    for _ in range(6):
        x = np.array([2.0999999046325684 * x[0] * (1 - x[1]), x[0]])
        turned.append(x)
    fine = closed_orbits(F, settled, n_sample=4096).states[0]
    at = np.round(found.rotation_number[0] * np.arange(7) * 4096).astype(int)
    direct = np.linalg.norm(fine[at % 4096] - turned, axis=1).max()
    mirrored = np.linalg.norm(fine[-at % 4096] - turned, axis=1).max()
    assert min(direct, mirrored) < 1e-3

    def backwards(y, u):  # the inverse of the map, for which the circle repels
        return jnp.stack([y[1], 1 - y[0] / (2.0999999046325684 * y[1])])

    back = closed_orbits(as_transition(backwards), settled.states, NO_INPUT)
    assert back.is_resolved.all() and back.index[0] == 1 and not back.is_stable[0]
    assert np.isclose(back.period[0], found.period[0], atol=1e-8)
    assert np.isclose(back.exponents[0, 0], -found.exponents[0, 1], atol=1e-6)


@pytest.mark.slow
def test_a_curve_that_goes_round_twice_is_one_orbit():
    twice = 2 * np.concatenate([CIRCLE[::2], CIRCLE[::2]])
    found = closed_orbits(ContinuousTime(van_der_pol), twice, NO_INPUT, period=13.3)
    assert np.isclose(found.period[0], 6.6632868594, atol=1e-8)


@pytest.mark.slow
def test_where_there_is_no_orbit_it_says_why():
    spiral = ContinuousTime(lambda x, u: -0.1 * x + jnp.stack([-x[1], x[0]]))
    found = closed_orbits(spiral, CIRCLE, NO_INPUT)
    assert not found.is_resolved[0] and "fixed point" in found.reasons[0]
    assert np.isnan(found.period[0]) and found.index[0] == -1 and "0 of 1" in str(found)
    henon = as_transition(lambda x, u: jnp.stack([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]]))
    found = closed_orbits(henon, CIRCLE, NO_INPUT)
    assert not found.is_resolved[0] and found.reasons[0]
    locked = as_transition(lambda x, u: jnp.stack([x[1], -x[0]]) * (2 - jnp.sum(x**2)))
    found = closed_orbits(locked, CIRCLE * (1 + 0.1 * CIRCLE[:, :1] ** 4), NO_INPUT)
    assert found.is_resolved[0] or found.reasons[0]


def test_too_many_states_are_said_to_be_that():
    x0 = np.zeros((8, 1500), np.float32)
    x0[:, :2] = CIRCLE[::8]
    found = closed_orbits(ContinuousTime(lambda x, u: -x), x0, NO_INPUT)
    assert not found.is_resolved[0] and "too many states" in found.reasons[0]


@pytest.mark.slow_cases
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_change_nothing(scale):
    F = ContinuousTime(lambda x, u: scale * van_der_pol(x / scale, u))
    found = closed_orbits(F, np.float32(scale) * 2 * CIRCLE, NO_INPUT)
    assert np.isclose(found.period[0], 6.6632868594, atol=1e-9)
    assert found.error[0] < 1e-9 * scale


@pytest.mark.slow
def test_a_network_of_many_units_is_solved_by_gmres():
    N, leak, turn = 100, 0.2, 0.8
    rng = np.random.default_rng(0)
    m, _ = np.linalg.qr(rng.normal(size=(N, 2)))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    W = jnp.asarray(2 * m @ rotation @ m.T + 0.6 * rng.normal(size=(N, N)) / 10, jnp.float32)
    F = as_transition(lambda x, u: (1 - leak) * x + leak * W @ jnp.tanh(x))
    settled = attractors(F, rng.normal(size=(4, N)).astype(np.float32), NO_INPUT)
    found = closed_orbits(F, settled)
    assert found.is_resolved.all() and found.is_stable.all()
    assert np.allclose(found.period, settled.period, atol=1e-6)
    assert np.allclose(found.exponents[:, :2], settled.exponents[:, :2], atol=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x0": CIRCLE[:3]}, "`x0`"),
        ({"x0": np.full((8, 2), np.nan, np.float32)}, "`x0`"),
        ({"x0": np.ones((8, 2), np.float32)}, "`x0` has an orbit of equal states"),
        ({"inputs": None}, "`inputs`"),
        ({"period": -1.0}, "`period`"),
        ({"period": np.array([0.0])}, "`period`"),
        ({"tol": -1.0}, "`tol`"),
        ({"n_exponents": 0}, "`n_exponents`"),
        ({"n_sample": -1}, "`n_sample`"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"x0": CIRCLE, "inputs": NO_INPUT}
    with pytest.raises(ValueError, match=message):
        closed_orbits(ContinuousTime(van_der_pol), **{**good, **change})


@pytest.mark.slow
def test_a_forced_pendulum_whose_force_is_an_oscillator():
    """Compared with shooting by SciPy, which knows the force as a function of time."""
    damping, strength, turn = 0.3, 0.8, 0.7

    def f(x, u):
        angle, speed, drive = x[0], x[1], x[2:]
        pull = -damping * speed - jnp.sin(angle) + strength * drive[0]
        turned = turn * jnp.stack([-drive[1], drive[0]])
        return jnp.concatenate([jnp.stack([speed, pull]), drive * (1 - jnp.sum(drive**2)) + turned])

    period = 2 * np.pi / turn

    def forced(t, x):
        pull = -damping * x[1] - np.sin(x[0]) + strength * np.cos(turn * t)
        return np.asarray([x[1], pull])

    def after(x):
        return solve_ivp(forced, (0, period), x, rtol=1e-12, atol=1e-12).y[:, -1]

    settled = solve_ivp(forced, (0, 20 * period), [0, 0], rtol=1e-8).y[:, -1]
    exact = root(lambda x: after(x) - x, settled, tol=1e-12).x
    times = period * np.arange(64) / 64
    way = solve_ivp(forced, (0, period), exact, t_eval=times, rtol=1e-9).y.T
    start = np.concatenate([way, np.cos(turn * times)[:, None], np.sin(turn * times)[:, None]], 1)
    found = closed_orbits(ContinuousTime(f), start.astype(np.float32), NO_INPUT)
    assert found.is_stable[0] and np.isclose(found.period[0], period, atol=1e-6)
    states = found.states[0]
    begins = np.argmax(states[:, 2])  # where the force is largest, as at time 0
    assert np.allclose(states[begins, :2], exact, atol=0.05)
    monodromy = np.stack(
        [(after(exact + 1e-6 * e) - after(exact - 1e-6 * e)) / 2e-6 for e in np.eye(2)], axis=1
    )
    own = np.sort_complex(np.linalg.eigvals(monodromy))
    apart = np.abs(found.multipliers[0][:, None] - own).min(axis=0)
    assert (apart < 1e-5).all()
