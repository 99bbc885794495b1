"""Rows that end far from their starts: on curves of points, or in tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import Status, optimize_batch
from slowpoints._network.as_transition import as_transition
from slowpoints._valleys.way_back import back_along_curves

STARTS = np.random.default_rng(0).standard_normal((32, 2)).astype(np.float32)
TURN = np.float32([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
W = TURN @ np.diag(np.float32([1, 0.5])) @ TURN.T
BASIS = np.linalg.qr(np.random.default_rng(1).standard_normal((32, 32)))[0]
W_32 = BASIS @ np.diag(np.r_[1, 1, np.linspace(0, 0.9, 30)]) @ BASIS.T


def sphere(x, u, centre=30.0, radius=10.0):
    """A circle in two dimensions."""
    way = x - centre * jnp.eye(1, x.size, dtype=x.dtype)[0]
    r = jnp.sqrt(way @ way)
    return x - 0.5 * (r - radius) * way / r + 0 * u[0]


def circle_around_starts(x, u):
    return sphere(x, u, 20.0, 25.0)


def parabola(x, u):
    return jnp.stack([x[0], x[1] - 0.5 * (x[1] - 30 - x[0] ** 2 / 20)]) + 0 * u[0]


def turned_line(x, u):
    """The weights are rounded: there is no line but for that, and states drift."""
    return jnp.asarray(W, x.dtype) @ x + 10 * jnp.asarray(TURN[:, 1], x.dtype) + 0 * u[0]


def turned_plane(x, u):
    W, b = (jnp.asarray(a.astype(np.float32), x.dtype) for a in (W_32, 20 * BASIS[:, 5]))
    return W @ x + b + 0 * u[0]


def status_of(F, x, dtype=np.float32, **settings):
    with jax.enable_x64(dtype == np.float64):
        fps = optimize_batch(F, x.astype(dtype), np.zeros(1, dtype), **settings)
        return np.asarray(fps.status), np.asarray(fps.valid)


CURVES = {
    "a circle": (sphere, STARTS, Status.FIXED_POINT),
    "a circle around the starts": (circle_around_starts, STARTS, Status.FIXED_POINT),
    "a sphere": (sphere, np.tile(STARTS, (1, 3)), Status.FIXED_POINT),
    "a parabola": (parabola, STARTS, Status.FIXED_POINT),
    "a line, but for rounding": (turned_line, STARTS, Status.SLOW_POINT),
    "a plane, but for rounding": (turned_plane, STARTS @ BASIS[:2], Status.SLOW_POINT),
}


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("name", CURVES)
def test_rows_on_a_curve_of_points_have_not_escaped_however_far_it_is(name):
    F, x, expected = CURVES[name]
    status, valid = status_of(F, x)
    assert set(status.tolist()) == {expected} and valid.all()


TAILS = {
    "exp": lambda x, u: x + jnp.exp(-x) / 2 + 0 * u[0],
    "tanh": lambda x, u: jnp.stack([x[0] + 1 - jnp.tanh(x[0]), x[1] / 2]) + 0 * u[0],
    "1 / x**2": lambda x, u: x + 1 / (1 + x**2) + 0 * u[0],
    "along a bend": lambda x, u: (
        jnp.stack([x[0] + jnp.exp(-x[0]), x[1] - 0.5 * (x[1] - jnp.sin(x[0]))]) + 0 * u[0]
    ),
    "with a limit": lambda x, u: jnp.stack([x[0] + jnp.exp(-x[0]), x[1] / 2 + 5]) + 0 * u[0],
}


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", TAILS)
def test_rows_in_tails_have_escaped(name, dtype):
    status, valid = status_of(TAILS[name], np.abs(STARTS), dtype)
    assert set(status.tolist()) == {Status.ESCAPED} and not valid.any()


@pytest.mark.slow
def test_no_point_is_found_past_a_kink():
    """Newton's step from the one side is short, and so is the second, but no other is."""

    def drifts(x, u):
        return jnp.stack([x[0] + jnp.maximum(0, 1 - x[0]) / 10 + 1e-9, x[1] / 2]) + 0 * u[0]

    status, _ = status_of(drifts, STARTS)
    assert not np.any(status == Status.FIXED_POINT)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1e2, 1e4, 1e6])
def test_steep_networks_have_fixed_points_whose_residual_is_many_roundings(gain):
    """Newton's second step is rounding there, and the third is no shorter."""
    rng = np.random.default_rng(0)
    W, b = (np.float32(gain * rng.normal(size=shape)) for shape in ((4, 4), 4))
    x = rng.normal(size=(32, 4))
    status, _ = status_of(lambda x, u: W @ x + b + 0 * u[0], x)
    assert set(status.tolist()) == {Status.FIXED_POINT}


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "slope, status", [(0.0, Status.SLOW_POINT), (1e-8, Status.UNFINISHED)], ids=["even", "falling"]
)
def test_a_row_that_came_along_a_curve_is_a_slow_point_only_where_it_is_slowest(slope, status):
    def drifts(x, u):
        return jnp.stack([x[0] + 1.2e-6 - slope * x[0], x[1] / 2])

    with jax.enable_x64(True):
        F, x = as_transition(drifts), jnp.asarray([[10.0, 0.0]])
        found = {"xstar": x, "F_xstar": drifts(x[0], None)[None]}
        found |= {"status": jnp.full(1, Status.ESCAPED, np.int8), "valid": jnp.full(1, False)}
        told = back_along_curves(F, 0 * x, jnp.zeros((1, 0)), jnp.ones(2), found)
        assert int(told["status"][0]) == status and told["valid"].all()
