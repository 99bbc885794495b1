"""Networks that are hard to search: what is found, what is said of it, and what is proven."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import OneOf

from slowpoints import (
    FixedPointFinder,
    FixedPoints,
    Status,
    account,
    certify,
    degree,
    find_fixed_points,
    unique,
)

pytestmark = pytest.mark.slow


def ring(p, x):
    """Every state of norm 1 in the first two units is a fixed point, and so is the origin."""
    turned = x[:2] * (1.5 - 0.5 * jnp.sum(x[:2] ** 2))
    return jnp.concatenate([turned, 0.5 * x[2:]])


MAPS = {
    "line": lambda p, x: x * jnp.array([1.0, 0.5, 0.2]),
    "ring": ring,
    "plane": lambda p, x: x * jnp.array([1.0, 1.0, 0.5]),
    "identity": lambda p, x: x,
    "constant": lambda p, x: 0 * x + 0.25,
    "expanding": lambda p, x: 2 * x,
    "none": lambda p, x: 0.5 * x + jnp.array([0.5, 0, 0]) * x + 1e-3,
    "ghost": lambda p, x: jnp.concatenate([jnp.tanh(2 * x[:1] + 0.6), 0.5 * x[1:]]),
    "jump": lambda p, x: 0.5 * jnp.sign(x),
    "kinks": lambda p, x: jax.nn.relu(1 - 2 * jnp.abs(x)),
    "saturated": lambda p, x: jnp.tanh(40 * x),
    "chaotic": lambda p, x: jnp.array([3.9, 3.8, 3.7]) * x * (1 - x),
    "spiral": lambda p, x: jnp.stack([x[1], -x[0], 0.5 * x[2]]),
}
"""In three dimensions, so that all of them share one compiled search."""


@cache
def searched(name):
    F = OneOf(tuple(MAPS.values()), jnp.int32(list(MAPS).index(name)), jnp.zeros(()))
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    x = np.abs(x) % 1 if name in ("chaotic", "kinks") else x
    settings = {"outlier_distance_scale": None}
    fps, rows = find_fixed_points(F, x, np.zeros(1, np.float32), **settings)
    return F, fps.to_numpy(), rows.to_numpy(), str(account(fps, rows, **settings))


@pytest.mark.filterwarnings("ignore:find_fixed_points")  # that nothing is kept of two of them
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("line", "a curve"),
        ("ring", "a curve"),
        ("plane", "a surface"),
        ("identity", "a set of 3 dimensions"),
    ],
)
def test_continua_are_reported_as_such(name, kind):
    F, fps, _, told = searched(name)
    assert fps.n > 20
    # On a ring, some of them are at `q` of 1e-26 and unfinished: Newton's steps lead along it.
    assert f"points lie on {kind}" in told and "sample a continuum" in told
    assert "missing" not in told and "sum to" not in told
    # Nothing is stable there: a deviation along the continuum stays.
    assert not fps.is_stable.any()
    proven = certify(F, fps)
    assert proven.is_certified.sum() <= 1  # the origin, within the ring


@pytest.mark.filterwarnings("ignore:find_fixed_points")
def test_points_of_a_ring_are_at_its_radius_or_at_the_origin():
    _, fps, rows, _ = searched("ring")
    exact = rows.xstar[rows.status == Status.FIXED_POINT]
    size = np.linalg.norm(exact[:, :2], axis=1)
    assert np.minimum(np.abs(size - 1), size).max() < 1e-5
    assert np.isin(fps.n_unstable(), [0, 2]).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [[0.25, 0.25, 0.25]]),
        ("expanding", [[0.0, 0.0, 0.0]]),
        ("spiral", [[0.0, 0.0, 0.0]]),
    ],
)
def test_single_points_are_found_and_proven(name, expected):
    F, fps, _, _ = searched(name)
    np.testing.assert_allclose(fps.xstar, expected, atol=1e-6)
    proven = certify(F, fps)
    assert proven.is_unique.all() and (fps.status == Status.FIXED_POINT).all()
    assert proven.is_stable[0] is {"constant": True, "expanding": False, "spiral": None}[name]


@pytest.mark.filterwarnings("ignore:find_fixed_points")
@pytest.mark.parametrize(("name", "unit"), [("none", None), ("ghost", 0)])
def test_where_there_is_no_fixed_point_nothing_is_called_one(name, unit):
    F, fps, rows, _ = searched(name)
    if name == "none":
        assert not (rows.status == Status.FIXED_POINT).any()
        assert not (fps.status == Status.FIXED_POINT).any()
    else:  # beyond the fold at 0.5328, a slow point and the one point that is left
        exact = rows.xstar[rows.status == Status.FIXED_POINT, unit]
        assert (exact > 0.9).all() and (rows.status == Status.SLOW_POINT).any()
    proven = certify(F, rows)
    assert not proven.is_certified[rows.status != Status.FIXED_POINT].any()


def test_at_a_jump_the_search_reports_what_the_function_returns_and_the_proof_refuses():
    """`0.5 sign(x)` maps 0 to 0, but no continuous map of that shape has a fixed point there."""
    F, fps, _, _ = searched("jump")
    assert set(np.unique(np.round(fps.xstar, 6))) <= {-0.5, 0.5}
    at_zero = FixedPoints(xstar=np.zeros((1, 3)), inputs=np.zeros((1, 1)))
    proven = certify(F, at_zero)
    assert not proven.is_certified[0] and "no finite bound" in proven.reason[0]
    assert certify(F, fps).is_unique.all()


def test_points_between_kinks_are_proven_and_unstable():
    F, fps, _, _ = searched("kinks")
    assert np.abs(fps.xstar - 1 / 3).max() < 1e-5  # from starts between 0 and 1
    proven = certify(F, fps)
    assert proven.is_unique.all() and (proven.index == 3).all()


def test_saturated_units_have_their_points_at_the_corners_and_zeros_between():
    F, fps, _, _ = searched("saturated")
    assert set(np.unique(np.round(fps.xstar, 4))) <= {-1.0, 0.0, 1.0}
    proven = certify(F, fps)
    assert proven.is_unique.all()
    assert proven.index.tolist() == (np.abs(fps.xstar) < 0.5).sum(axis=1).tolist()


def test_chaotic_maps_have_their_repelling_points():
    F, fps, _, _ = searched("chaotic")
    rates = np.array([3.9, 3.8, 3.7])
    nearest = np.minimum(np.abs(fps.xstar), np.abs(fps.xstar - (1 - 1 / rates)))
    assert nearest.max() < 1e-5
    proven = certify(F, fps)
    assert proven.is_unique.all() and (proven.index == 3).all()
    # Each of the 8 points has det(I - J) of sign (-1)^(number of zeros): no sum is 1 in general.
    zeros = (np.abs(fps.xstar) < 0.1).sum(axis=1)
    assert degree(F, fps) == np.sum((-1.0) ** zeros)


@pytest.mark.filterwarnings("ignore:find_fixed_points")
@pytest.mark.parametrize("name", ["ring", "identity", "jump", "chaotic", "ghost"])
def test_the_same_starts_give_the_same_answer(name):
    F, fps, rows, told = searched(name)
    again, again_rows = find_fixed_points(
        F, rows.x_init, np.zeros(1, np.float32), outlier_distance_scale=None
    )
    for name in ("xstar", "qstar", "status", "hits"):
        np.testing.assert_array_equal(np.asarray(getattr(again, name)), getattr(fps, name))
    assert str(account(again, again_rows, outlier_distance_scale=None)) == told


def test_the_class_counts_neutral_points_apart(capsys):
    finder = FixedPointFinder(lambda x, u: x * jnp.array([1.0, 0.5, 0.2]))
    traj = np.random.default_rng(1).normal(size=(4, 16, 3)).astype(np.float32)
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, 1)), n_inits=64)
    printed = capsys.readouterr().out
    assert f"0 of them are stable, 0 unstable, {fps.n} neutral." in printed
    assert f"{fps.n} fixed points lie on a curve" in printed


def test_rows_along_a_line_are_told_apart_by_distance_even_by_certificate():
    x = np.linspace(0, 1, 11)[:, None] * np.array([[1.0, 0, 0]])
    fps = FixedPoints(xstar=x, inputs=np.zeros((11, 1)))
    kept = unique(fps, 0.15, by="certificate", F=lambda x, u: x * jnp.array([1.0, 0.5, 0.2]))
    assert np.asarray(kept.valid).sum() == 6 and kept.hits.sum() == 11
