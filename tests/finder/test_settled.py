"""What the finder says of states if no point that it keeps is stable."""

import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import ContinuousTime, FixedPointFinder

NO_INPUT = np.zeros((1, 1), np.float32)


def turning(x, u):
    r = jnp.sqrt(1e-12 + jnp.sum(x**2))
    c, s = np.cos(0.5), np.sin(0.5)
    return (1 + 0.5 * (1 - r)) * jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]]) + u[0]


def said(capsys, F, x, inputs=NO_INPUT, **settings):
    FixedPointFinder(F, **settings).find_fixed_points(x, inputs)
    return capsys.readouterr().out


def states(n=24, d=2):
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


@pytest.mark.slow
def test_a_closed_orbit_is_named(capsys):
    told = said(capsys, turning, states())
    assert "No stable point is kept. Of 16 initial states" in told
    assert "16 run on a closed orbit of 12.57 steps." in told
    assert "come to" not in told


@pytest.mark.slow
def test_only_inputs_without_a_stable_point_are_looked_at(capsys):
    inputs = np.repeat(np.float32([[0], [10]]), 12, axis=0)

    def F(x, u):
        return jnp.where(u[0] > 5, 0.5 * x, turning(x, 0 * u))

    told = said(capsys, F, states(), inputs)
    assert "under some of the inputs. Of 12 initial states" in told
    assert "12 run on a closed orbit" in told


@pytest.mark.slow
def test_nothing_is_said_where_a_point_is_stable_or_stability_is_not_known(capsys):
    assert "No stable point" not in said(capsys, lambda x, u: jnp.tanh(2 * x), states())
    assert "No stable point" not in said(
        capsys, turning, states(), do_decompose_jacobians=False, do_compute_jacobians=False
    )


@pytest.mark.slow
def test_continuous_time_is_followed_in_units_of_time(capsys):
    flow = ContinuousTime(lambda x, u: x - x**3 + jnp.stack([-x[1], x[0]]))
    told = said(capsys, flow, states())
    assert "run on a closed orbit of 6.851 units of time" in told


@pytest.mark.slow
def test_where_to_search_for_a_stable_point_that_was_not_found_is_said(capsys):
    near_the_saddle = np.linspace(0.01, 0.02, 8, dtype=np.float32)[:, None]
    told = said(capsys, lambda x, u: x + 0.2 * (x - x**3), near_the_saddle)
    assert "8 come to a fixed point. What these come to is not among the points" in told
    assert "sum to -1, not 1" in told and "(`simulate`)" in told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
def test_chaos_and_escape_are_named(capsys):
    A = jnp.asarray(2.5 * np.random.default_rng(1).normal(size=(40, 40)) / 40**0.5, jnp.float32)
    told = said(capsys, lambda x, u: jnp.tanh(A @ x), states(24, 40))
    assert "move on a chaotic attractor" in told
    told = said(capsys, lambda x, u: 1.5 * x, states())
    assert "leave for infinity" in told
