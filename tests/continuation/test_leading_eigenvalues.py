"""Along branches of larger networks, what their leading eigenvalues tell is true of all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import ContinuousTime, FixedPoints, continuation
from slowpoints._arclength import spectra


def origin(n, s, **fields):
    return FixedPoints(xstar=np.zeros((1, n)), inputs=np.full((1, 1), s), **fields)


def orthogonal(n):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]


@pytest.fixture
def products_alone(monkeypatch):
    """As in networks that are too large to compute all eigenvalues."""
    monkeypatch.setattr(spectra, "_MOST_DENSE", 0)


def indices_of(branches):
    (branch,) = branches.branches
    return branch.s, branch.index


@pytest.mark.parametrize(
    ("n", "n_eigvals"), [(40, 6), pytest.param(300, None, marks=pytest.mark.slow)]
)
def test_both_directions_of_a_ring_count(n, n_eigvals, products_alone):
    """Cosine weights have one eigenvalue twice, for the two phases of a bump."""
    angle = 2 * np.pi * np.arange(n) / n
    W = np.cos(angle[:, None] - angle) * 2 / n
    with jax.enable_x64(True):
        weights = jnp.asarray(W)
        branches = continuation(
            lambda x, s: jnp.tanh(s[0] * (weights @ x)),
            origin(n, 0.5, dtype=np.float64),
            (0.5, 1.5),
            n_eigvals=n_eigvals,
        )
    s, index = indices_of(branches)
    away = np.abs(s - 1) > 1e-3
    np.testing.assert_array_equal(index[away], np.where(s > 1, 2, 0)[away])
    assert [event.kind for event in branches.events] == ["branch_point"]
    assert branches.events[0].s == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("copies", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_oscillators_that_are_alike_begin_together(copies, products_alone):
    n, basis = 40, orthogonal(40)[:, : 2 * copies]
    with jax.enable_x64(True):
        Q = jnp.asarray(basis)

        def f(x, s):
            a, b = (Q.T @ x).reshape(copies, 2).T
            grows = s[0] + s[0] ** 2 + 1 - a**2 - b**2
            return Q @ jnp.stack([grows * a - 1.3 * b, 1.3 * a + grows * b], axis=1).reshape(-1) - x

        points = origin(n, -0.5, continuous_time=True, dtype=np.float64)
        branches = continuation(ContinuousTime(f), points, (-0.5, 0.5), n_eigvals=8)
    s, index = indices_of(branches)
    (event,) = branches.events
    assert event.kind == "hopf" and abs(event.s) < 1e-12
    assert event.uncertainty < 1e-11  # as all copies are known on both sides
    np.testing.assert_array_equal(index, np.where(s > 1e-9, 2 * copies, 0))


@pytest.mark.slow
def test_all_eigenvalues_are_computed_where_the_leading_ones_do_not_stand_out():
    n, last = 300, 1.025
    W = np.random.default_rng(0).normal(size=(n, n))
    W /= np.abs(np.linalg.eigvals(W)).max()
    places = sorted({round(1 / size, 9) for size in np.abs(np.linalg.eigvals(W))})
    places = [s for s in places if s < last]
    weights = jnp.asarray(W)
    branches = continuation(
        lambda x, s: jnp.tanh(s[0] * (weights @ x)), origin(n, 0.9), (0.9, last)
    )
    assert len(places) == 4
    np.testing.assert_allclose([event.s for event in branches.events], places, atol=1e-6)
    s, index = indices_of(branches)
    (branch,) = branches.branches
    beyond = index > 0  # where the leading one is known, as all are
    np.testing.assert_allclose(np.abs(branch.eigvals[beyond, 0]), s[beyond], rtol=1e-5)
    outside = (np.abs(np.linalg.eigvals(np.float32(W))) * s[:, None] > 1).sum(axis=1)
    near = np.abs(s[:, None] - places).min(axis=1) < 1e-6
    np.testing.assert_array_equal(index[~near], outside[~near])


@pytest.mark.parametrize(
    ("n_eigvals", "is_open", "indices"),
    [(1, True, {-1}), (2, True, {-1, 1}), (1, False, {1, 2})],
)
def test_folds_are_found_where_the_index_is_not_known(request, n_eigvals, is_open, indices):
    """One eigenvalue is outside the circle all along, and two are between the folds."""
    if is_open:
        request.getfixturevalue("products_alone")
    Q = jnp.asarray(orthogonal(3), jnp.float32)

    def G(x, s):
        y = Q.T @ x
        return x + Q @ jnp.stack([0.1 * (s[0] + y[0] - y[0] ** 3), y[1], -y[2] / 2])

    root = np.roots([1, 0, -1, 1]).real[np.roots([1, 0, -1, 1]).imag == 0]  # of y^3 - y + 1 = 0
    points = FixedPoints(xstar=root * np.asarray(Q)[None, :, 0], inputs=np.full((1, 1), -1.0))
    branches = continuation(G, points, (-1, 1), n_eigvals=n_eigvals)
    found = sorted(event.s for event in branches.events)
    assert [event.kind for event in branches.events] == ["fold", "fold"]
    np.testing.assert_allclose(found, [-2 / np.sqrt(27), 2 / np.sqrt(27)], atol=1e-5)
    told = "\n".join(branches.summary_lines())
    (branch,) = branches.branches
    n_unknown = np.sum(branch.index < 0)
    assert set(branch.index) == indices
    assert (f"index is not known (-1) at {n_unknown} of its points" in told) == is_open
