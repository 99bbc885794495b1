"""`flow` against closed forms: matrix exponentials, blow-up in finite time, stiff relaxation."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    Status,
    attractors,
    decompose,
    find_fixed_points,
    flow,
    jacobians,
    optimize_batch,
    stroboscopic,
)

A = np.random.default_rng(0).normal(size=(4, 4)) - 1.5 * np.eye(4)
B = np.random.default_rng(1).normal(size=(4, 2))
TIME = 1.7
AFTER = expm(np.block([[A, B], [np.zeros((2, 6))]]) * TIME)
"""The map of a state and a constant input to the later state, and of the input to itself."""

NO_INPUT = np.zeros(0, np.float32)


class Linear(eqx.Module):
    A: jax.Array
    B: jax.Array

    def __call__(self, x, u):
        return self.A @ x + self.B @ u


def linear(dtype=np.float64):
    return Linear(jnp.asarray(A, dtype), jnp.asarray(B, dtype))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-10), (np.float32, 2e-5)])
def test_a_linear_network_has_the_matrix_exponential(dtype, error):
    with jax.enable_x64(dtype == np.float64):
        x, u = np.arange(1.0, 5, dtype=dtype), np.array([0.5, -1], dtype)
        F = flow(linear(dtype), TIME)
        y, (by_x, by_u) = jax.jit(lambda x, u: (F(x, u), jax.jacfwd(F, (0, 1))(x, u)))(x, u)
    assert y.dtype == dtype
    assert np.allclose(y, AFTER[:4] @ np.r_[x, u], rtol=error, atol=error)
    assert np.allclose(np.c_[by_x, by_u], AFTER[:4], rtol=error, atol=error)


@pytest.mark.slow
def test_derivatives_are_right_at_an_equilibrium_where_nothing_moves():
    # The state's own errors are zero there, whatever the steps.
    with jax.enable_x64(True):
        F, x, u = flow(linear(), TIME), jnp.zeros(4), jnp.zeros(2)
        forward, backward = jax.jit(lambda x: (jax.jacfwd(F)(x, u), jax.jacrev(F)(x, u)))(x)
    assert np.allclose(forward, AFTER[:4, :4], atol=1e-10)
    assert np.allclose(backward, forward, atol=1e-15)


@pytest.mark.slow
def test_derivatives_with_respect_to_weights_and_time():
    change = np.random.default_rng(2).normal(size=(4, 4))
    with jax.enable_x64(True):
        x = jnp.ones(4)

        def end(A, time):
            F = flow(Linear(A, jnp.asarray(B)), TIME)
            return eqx.tree_at(lambda F: F.duration, F, time)(x, jnp.zeros(2))

        at = jnp.asarray(A), jnp.asarray(TIME)
        _, by_weights = jax.jvp(lambda A: end(A, at[1]), at[:1], (jnp.asarray(change),))
        _, by_time = jax.jvp(lambda time: end(at[0], time), at[1:], (jnp.ones(()),))
    either = [expm((A + step * change) * TIME) @ np.ones(4) for step in (1e-5, -1e-5)]
    assert np.allclose(by_weights, (either[0] - either[1]) / 2e-5, atol=1e-8)
    assert np.allclose(by_time, A @ expm(A * TIME) @ np.ones(4), atol=1e-9)


@pytest.mark.slow
def test_failures_are_no_numbers():
    # `dx/dt = x**2` is infinite at `1 / x(0)`, and `-sqrt(x)` has no value once `x` is negative.
    starts = jnp.float32([[1.0], [-1.0], [0.3], [jnp.nan]])
    ends = jax.jit(jax.vmap(lambda x: flow(lambda x, u: x * x, 2.0)(x, jnp.zeros(0))))(starts)
    assert np.isposinf(ends[0]) and np.isnan(ends[3])
    assert np.allclose(ends[1:3, 0], [-1 / 3, 0.75], rtol=1e-4)
    below = jax.jit(lambda x: flow(lambda x, u: -jnp.sqrt(x), 3.0)(x, jnp.zeros(0)))
    assert np.isnan(below(jnp.ones(1))).all()


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("units", "atol"),
    [([1e-6, 1e-6], None), ([1e6, 1e6], None), ([1e-6, 1e6], [1e-12, 1.0])],
)
def test_units_of_states_do_not_matter(units, atol):
    units = np.float32(units)

    def turning(x, u):
        return units * jnp.stack([x[1] / units[1], -x[0] / units[0]])

    F = flow(turning, 1.0, atol=None if atol is None else np.float32(atol))
    y = np.asarray(jax.jit(lambda x: F(x, jnp.zeros(0)))(units)) / units
    assert np.allclose(y, [np.cos(1) + np.sin(1), np.cos(1) - np.sin(1)], atol=1e-5)


@pytest.mark.slow
def test_the_implicit_method_takes_long_steps_in_stiff_networks():
    def stiff(x, u):
        return jnp.stack([-x[0], -1e6 * (x[1] - jnp.cos(x[0]))])

    with jax.enable_x64(True):
        x = jnp.ones(2)
        y = jax.jit(lambda x: flow(stiff, 2.0, stiff=True)(x, jnp.zeros(0)))(x)
        gave_up = jax.jit(lambda x: flow(stiff, 2.0)(x, jnp.zeros(0)))(x)
    first = np.exp(-2)
    assert np.allclose(y, [first, np.cos(first)], atol=1e-6)
    assert np.isnan(gave_up).all()  # after 16,384 steps of about 6e-6


@pytest.mark.slow
def test_fixed_points_are_equilibria_with_multipliers():
    F = flow(lambda x, u: x - x**3 - u, 0.5)
    fps = FixedPoints(np.float32([[-1], [0], [1]]), inputs=np.zeros((3, 1), np.float32))
    found = decompose(jacobians(F, fps))
    expected = np.exp(0.5 * np.array([-2, 1, -2]))
    assert np.allclose(np.ravel(found.eigval_J_xstar), expected, rtol=1e-4)
    assert np.asarray(found.is_stable).tolist() == [True, False, True]
    # `dF/du` of a linear rate `a`: `-(exp(a t) - 1) / a`.
    assert np.allclose(np.ravel(found.dFdu)[1], 1 - np.exp(0.5), rtol=1e-4)


@pytest.mark.slow
def test_a_flow_is_a_step_of_a_periodic_input():
    # `dx/dt = u - x` with inputs 1, 0 and 2 for 0.5 each, over and over.
    F = stroboscopic(flow(lambda x, u: u - x, 0.5), np.float32([[1], [0], [2]]))
    start = np.float32([[0.3]])
    fps, _ = find_fixed_points(F, start, np.zeros((1, 0), np.float32))
    kept = np.exp(-0.5)
    x = (1 - kept) * (kept**2 + 2) / (1 - kept**3)
    assert fps.n == 1 and np.allclose(fps.xstar, x, atol=1e-5)
    # The errors of flows in float64 are some hundred times as long as rounding.
    rows = optimize_batch(F, np.float32([[0.3], [0.2], [1.5], [-2]]), np.zeros(0, np.float32))
    assert (np.asarray(rows.status) == Status.FIXED_POINT).all()


@pytest.mark.slow_cases
@pytest.mark.parametrize("start", [1, np.nan, np.inf])
def test_rates_and_states_that_are_no_numbers_take_few_steps(start):
    calls = []

    def rate(x, u):
        jax.debug.callback(lambda: calls.append(0))
        return jnp.log(x - 2)

    end = flow(rate, 1.0)(jnp.full(1, start, jnp.float32), jnp.zeros(0))
    jax.effects_barrier()
    assert not np.isfinite(end).any() and 0 < len(calls) < 1000


@pytest.mark.parametrize(("atol", "unit"), [(None, 1.0), (None, 1e-6), (1e-7, 1e-6)])
def test_a_flow_knows_how_long_its_error_may_be(atol, unit):
    with jax.enable_x64(True):
        F = flow(linear(), TIME, atol=atol, rtol=1e-9)
        x = unit * jnp.arange(1.0, 5)
        error = np.linalg.norm(F(x, jnp.zeros(2)) - AFTER[:4, :4] @ x)
        assert error < F.error(x) < 3e-8 * unit + 2 * (atol or 0)
        # There are as many digits as are asked for, and not many more.
        assert error > 1e-4 * F.error(x)


@pytest.mark.slow
def test_the_ghost_of_a_flow_is_a_slow_point():
    """An integrator's steps, whose number is not known beforehand, go backwards once at most."""
    x = np.linspace(-0.3, 0.1, 16, dtype=np.float32)[:, None]
    rows = optimize_batch(flow(lambda x, u: 1e-3 + x**2, 0.5), x, NO_INPUT)
    assert (np.asarray(rows.status) == Status.SLOW_POINT).all()
    np.testing.assert_allclose(rows.xstar, 0, atol=2e-3)


@pytest.mark.checks_input
def test_diffrax_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"flow: .*`pip install diffrax`, or .*\[flows\]"):
        flow(lambda x, u: -x, 1.0)
    with pytest.raises(ImportError, match="attractors: continuous time needs diffrax"):
        attractors(ContinuousTime(lambda x, u: -x), np.zeros((1, 1), np.float32), NO_INPUT)


@pytest.mark.checks_input
def test_a_flow_of_a_flow_is_refused():
    with pytest.raises(TypeError, match="`F` is a flow already; expected dx/dt"):
        flow(flow(lambda x, u: -x, 1.0), 1.0)
    with pytest.raises(ValueError, match=r"`atol` holds 0.0; expected positive numbers"):
        flow(lambda x, u: -x, 1.0, atol=np.array([1.0, 0.0]))
    for F in (lambda x, u: -x, ContinuousTime(lambda x, u: -x)):
        wrong = flow(F, 1.0, atol=np.ones(3))
        with pytest.raises(ValueError, match=r"flow: `atol` has shape \(3,\);.* each of 2 states"):
            find_fixed_points(wrong, np.zeros((4, 2), np.float32), NO_INPUT)
