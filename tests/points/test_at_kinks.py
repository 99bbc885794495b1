"""Points at kinks: where slopes jump from side to side, and what is then said of stability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    account,
    degree,
    find_fixed_points,
    jacobians,
)

W = np.array([[1.5, 0.2], [0.2, 1.5]], np.float32)
NO_INPUT = np.zeros((1, 0), np.float32)


def leaky(x, u):
    """Its fixed points are the origin, which is unstable, and (0.998, 0.998)."""
    return 0.8 * x + 0.2 * jax.nn.relu(jnp.tanh(2 * W @ x))


def at_kink(F, x, x_init=None, dtype=np.float32):
    x = np.atleast_2d(np.asarray(x, dtype))
    u = np.zeros((len(x), 0), dtype)
    found = jacobians(F, FixedPoints(xstar=x, inputs=u, x_init=x_init, dtype=dtype)).at_kink
    return None if found is None else np.asarray(found).tolist()


def test_a_point_at_a_kink_is_told_from_one_beside_it():
    x = [[0, 0], [1e-9, 0.5], [0.5, 0.5], [-0.3, 0.1]]
    assert at_kink(lambda x, u: jax.nn.relu(x) + 0 * x[::-1], x) == [True, True, False, False]


def test_smooth_networks_are_not_looked_at():
    assert at_kink(lambda x, u: jnp.tanh(W @ x), [[0, 0]]) is None


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6, np.array([1e-2, 1e3], np.float32)])
def test_the_unit_of_states_does_not_matter(unit):
    def F(x, u):
        return unit * leaky(x / unit, u)

    starts = np.full((3, 2), unit, np.float32)
    x = unit * np.array([[0, 0], [0.9977, 0.9977], [1e-4, -1e-4]])
    assert at_kink(F, x, starts) == [True, False, False]


def test_a_single_unit_that_takes_short_steps_counts():
    rng = np.random.default_rng(0)
    V = (rng.normal(size=(200, 200)) / np.sqrt(200)).astype(np.float32)
    x = rng.normal(size=200).astype(np.float32)
    b = -(V @ x) + 1
    kinked = b.copy()
    kinked[7] -= 1  # that unit is at its threshold
    for bias, expected in ((b, [False]), (kinked, [True])):
        F = lambda x, u, b=bias: 0.99 * x + 0.01 * jax.nn.relu(V @ x + b)  # noqa: E731
        assert at_kink(F, x) == expected


@pytest.mark.parametrize("gain", [1.0, 30.0, 1000.0])
def test_a_bend_is_no_kink_however_sharp(gain):
    # That the other unit has a kink is why it is looked at.
    F = lambda x, u: jnp.stack([jnp.tanh(gain * x[0]), jax.nn.relu(x[1])])  # noqa: E731
    # The last point says how large states are.
    x = [[0, 1], [0.5 / gain, 1], [0, 0], [1, 1]]
    assert at_kink(F, x) == [False, False, True, False]


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_kink_may_run_in_any_direction(sign):
    F = lambda x, u: 0.3 * jax.nn.relu(x[:1] + sign * x[1:]) * jnp.ones(2)  # noqa: E731
    assert at_kink(F, [[1, -sign], [1, 1 + sign]]) == [True, False]


def test_kinks_whose_slopes_are_alike_do_not_count():
    assert at_kink(lambda x, u: 0.5 * (jax.nn.relu(x) - jax.nn.relu(-x)), [[0, 0]]) == [False]


def test_in_continuous_time_and_in_double_precision():
    f = ContinuousTime(lambda x, u: -x + jax.nn.relu(W @ x))
    assert at_kink(f, [[0, 0], [1, 1]]) == [True, False]
    with jax.enable_x64(True):
        assert at_kink(leaky, [[0, 0], [1, 1]], dtype=np.float64) == [True, False]


def test_inside_jit_nothing_is_said():
    fps = FixedPoints(xstar=jnp.zeros((1, 2)), inputs=jnp.zeros((1, 0)))
    assert jax.jit(lambda fps: jacobians(leaky, fps))(fps).at_kink is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_search_says_that_stability_is_that_of_one_side(seed, capsys):
    x = np.random.default_rng(seed).normal(size=(50, 2)).astype(np.float32)
    fps, rows = find_fixed_points(leaky, x, NO_INPUT)
    assert fps.n == 2
    origin = int(np.argmin(np.linalg.norm(fps.xstar, axis=1)))
    assert np.asarray(fps.at_kink).tolist() == [i == origin for i in range(2)]
    assert [kind.endswith(", at a kink") for kind in fps.types()] == fps.at_kink.tolist()
    fps.print_summary()
    summary = capsys.readouterr().out
    assert "  1 at a kink of the network, where this is true of one side\n" in summary
    told = " ".join(account(fps, rows).lines)
    assert "1 fixed point is at a kink of the network, where the Jacobian jumps" in told
    assert "missing, if the network's states stay bounded" not in told
    with pytest.warns(UserWarning, match=r"jumps at a kink \(1 of these\)"):
        assert degree(leaky, fps) == 1


def test_points_at_kinks_are_kept_in_files(tmp_path):
    fps = jacobians(leaky, FixedPoints(xstar=np.zeros((2, 2)), inputs=np.zeros((2, 0))))
    fps.save(tmp_path / "points.npz")
    assert FixedPoints.load(tmp_path / "points.npz").at_kink.tolist() == [True, True]
