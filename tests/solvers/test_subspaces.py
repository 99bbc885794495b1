"""The linear algebra of the solvers, beside dense algebra in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints._linear_algebra.krylov import arnoldi, gcr
from slowpoints._solvers.radius import first_radius, longest_radius
from slowpoints._solvers.subproblem import minimise_within
from slowpoints._solvers.subspaces import gradient_krylov_space, slow_space, whole_space

pytestmark = pytest.mark.fast

LANES, N = 3, 40
# Of float32: the errors of some 40 operations, relative to numbers of size one.
ROUNDING = 2e-5


def matrices(n=N, slow=()):
    """Return `I - J` of a network with a few slow directions, and the singular vectors of those."""
    rng = np.random.default_rng(n)
    values = np.concatenate([slow, np.linspace(0.5, 2, n - len(slow))])
    left, right = (np.linalg.qr(rng.normal(size=(LANES, n, n)))[0] for _ in range(2))
    return (left * values) @ np.swapaxes(right, 1, 2), np.swapaxes(right, 1, 2)[:, : len(slow)]


def linear(A):
    """Return the network `x - A x` of a lane, which its input chooses."""
    A = jnp.asarray(A, jnp.float32)
    return lambda x, u: x - A[u[0].astype(int)] @ x


LANE = jnp.arange(LANES, dtype=jnp.float32)[:, None]


def residuals(n=N):
    r = np.random.default_rng(1).normal(size=(LANES, n))
    return np.float32(r / np.linalg.norm(r, axis=1, keepdims=True))


def orthonormal(V):
    return np.abs(V @ np.swapaxes(V, 1, 2) - np.eye(V.shape[1])).max() < ROUNDING


def within(v, V):
    """Return how far unit vectors `v [lanes, n]` are from the span of the rows of `V`."""
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    part = np.einsum("lmd,ld->lm", V, v)
    return np.linalg.norm(v - np.einsum("lm,lmd->ld", part, V), axis=1).max()


def test_arnoldi_spans_the_powers():
    A, _ = matrices()
    r = residuals()
    V, AV = (np.asarray(a, float) for a in arnoldi(product_with(A), jnp.asarray(r), 6))
    assert V.shape == (LANES, 6, N) and orthonormal(V)
    assert np.abs(AV - V @ np.swapaxes(A, 1, 2)).max() < ROUNDING
    power = r.astype(float)
    for _ in range(6):
        assert within(power, V) < 1e-3
        power = np.einsum("lij,lj->li", A, power)
    assert within(power, V) > 0.1  # the next one is not in the span of these six


def test_arnoldi_stops_at_an_invariant_space():
    """Here the residual has a part along two eigenvectors only."""
    A = np.tile(np.diag(np.linspace(1, 2, N)), (LANES, 1, 1))
    r = np.zeros((LANES, N), np.float32)
    r[:, [3, 20]] = np.sqrt(0.5)
    V, _ = (np.asarray(a) for a in arnoldi(product_with(A), jnp.asarray(r), 6))
    norms = np.linalg.norm(V, axis=2)
    np.testing.assert_allclose(norms, [[1, 1, 0, 0, 0, 0]] * LANES, atol=ROUNDING)


def product_with(A):
    A = jnp.asarray(A, jnp.float32)
    return lambda p: jnp.einsum("lij,lj->li", A, p)


def test_gcr_minimises_the_residual_over_its_space():
    A, _ = matrices()
    b = residuals()
    x, rest = (np.asarray(a, float) for a in gcr(product_with(A), jnp.asarray(b), 8))
    for lane in range(LANES):
        powers = [b[lane].astype(float)]
        for _ in range(7):
            powers.append(A[lane] @ powers[-1])
        basis = np.linalg.qr(np.array(powers).T)[0]
        best = basis @ np.linalg.lstsq(A[lane] @ basis, b[lane], rcond=None)[0]
        assert np.abs(x[lane] - best).max() < 1e-3
        assert np.abs(rest[lane] - (b[lane] - A[lane] @ x[lane])).max() < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, N, 200])
def test_the_slow_space_holds_newtons_step_the_gradient_and_the_slow_directions(n):
    slow = np.array([1e-4, 1e-3, 1e-2])[: n - 2]
    A, directions = matrices(n, slow)
    r = residuals(n)
    space = slow_space(linear(A), jnp.zeros((LANES, n)), LANE, jnp.asarray(r), 5)
    V, AV = np.asarray(space.V, float), np.asarray(space.AV, float)
    assert V.shape == (LANES, min(n, 8), n) and orthonormal(V)
    assert np.abs(AV - V @ np.swapaxes(A, 1, 2)).max() < ROUNDING
    # float32 resolves a direction of relative size 1e-4 to 1e-3.
    assert within(np.linalg.solve(A, r[..., None])[..., 0], V) < 5e-3
    assert within(np.einsum("lij,li->lj", A, r), V) < 1e-3
    # One inverse iteration leaves the other directions with the square of their ratio to it.
    for k, value in enumerate(slow):
        assert within(directions[:, k], V) < 5e-3 + 3 * np.sqrt(n) * (value / 0.5) ** 2


def test_the_whole_space_leaves_nothing_outside():
    A, _ = matrices()
    space = whole_space(linear(A), jnp.zeros((LANES, N)), LANE)
    np.testing.assert_array_equal(space.V, np.broadcast_to(np.eye(N), A.shape))
    assert np.abs(np.asarray(space.AV) - np.swapaxes(A, 1, 2)).max() < ROUNDING
    b = residuals()[:, None]
    d, left = space.outside(jnp.asarray(b))
    assert not np.any(d)
    np.testing.assert_array_equal(left, b)


def test_outside_the_slow_space_right_hand_sides_are_solved():
    """With what is left for the space, they are solved as a whole."""
    A, _ = matrices(N, [1e-3, 1e-2])
    r = residuals()
    space = slow_space(linear(A), jnp.zeros((LANES, N)), LANE, jnp.asarray(r), 5)
    b = np.random.default_rng(2).normal(size=(LANES, 3, N)).astype(np.float32)
    d, left = (np.asarray(a, float) for a in space.outside(jnp.asarray(b)))
    V, AV = np.asarray(space.V, float), np.asarray(space.AV, float)
    assert np.abs(np.einsum("lmd,lkd->lkm", V, d)).max() < 1e-2  # of solutions of length 1e3
    assert np.abs(np.einsum("lij,lkj->lki", A, d) + left - b).max() < 1e-2
    for lane in range(LANES):
        coefficients = np.linalg.lstsq(AV[lane].T, left[lane].T, rcond=None)[0]
        assert np.abs(AV[lane].T @ coefficients - left[lane].T).max() < 1e-3


def test_a_singular_jacobian_leaves_an_orthonormal_basis():
    A, directions = matrices(N, [0.0])
    space = slow_space(linear(A), jnp.zeros((LANES, N)), LANE, jnp.asarray(residuals()), 5)
    V = np.asarray(space.V, float)
    assert np.isfinite(V).all() and orthonormal(V)
    assert within(directions[:, 0], V) < 1e-2


def test_the_gradient_is_added_to_the_krylov_space():
    """In the Krylov space of a shift of the coordinates, the gradient takes them back."""
    shift = np.tile(np.roll(np.eye(N), 1, axis=0), (LANES, 1, 1))
    r = np.zeros((LANES, N), np.float32)
    r[:, 10] = 1
    arguments = (linear(shift), jnp.zeros((LANES, N)), LANE, jnp.asarray(r))
    space = gradient_krylov_space(*arguments, 6)
    V, AV = np.asarray(space.V, float), np.asarray(space.AV, float)
    assert V.shape == (LANES, 7, N) and orthonormal(V)
    gradient = np.einsum("lij,li->lj", shift, r)
    assert within(gradient, V[:, :6]) > 0.99 and within(gradient, V) < ROUNDING
    assert np.abs(AV - V @ np.swapaxes(shift, 1, 2)).max() < ROUNDING
    b = np.random.default_rng(2).normal(size=(LANES, 2, N)).astype(np.float32)
    d, left = (np.asarray(a, float) for a in space.outside(jnp.asarray(b)))
    assert np.abs(np.einsum("lmd,lkd->lkm", V, d)).max() < ROUNDING
    np.testing.assert_allclose(d + left, b, atol=ROUNDING)


def test_no_second_vector_is_added_where_the_space_holds_the_gradient():
    """That of a symmetric matrix is in the Krylov space."""
    A, _ = matrices()
    A = A @ np.swapaxes(A, 1, 2)
    arguments = (linear(A), jnp.zeros((LANES, N)), LANE, jnp.asarray(residuals()))
    V = np.asarray(gradient_krylov_space(*arguments, 2).V, float)
    lengths = np.linalg.norm(V, axis=2)
    np.testing.assert_allclose(lengths[:, :2], 1, atol=ROUNDING)
    # What rounding leaves of it is no direction, or one of length one.
    assert np.all((lengths[:, 2] < ROUNDING) | (np.abs(lengths[:, 2] - 1) < ROUNDING))


@pytest.mark.parametrize("lowest", [0.5, 1e-6, 0.0, -0.3])
def test_the_small_problem_is_solved_exactly(lowest):
    """Beside the lowest of many points of the ball, and the conditions of a minimum."""
    rng = np.random.default_rng(0)
    m, radii = 4, np.array([[5.0, 1.0, 0.01]])
    w = np.sort(np.concatenate([[lowest], rng.uniform(0.5, 3, m - 1)]))[None]
    g = rng.normal(size=(1, m))
    with jax.enable_x64(True):
        y, shift = minimise_within(jnp.asarray(w), jnp.asarray(g), jnp.asarray(radii))
    y, shift = np.asarray(y), np.asarray(shift)

    def model(y):
        return y @ g[0] + 0.5 * np.square(y) @ w[0]

    for k, radius in enumerate(radii[0]):
        length = np.linalg.norm(y[0, k])
        assert length <= radius * (1 + 1e-9)
        assert shift[0, k] >= max(0, -w[0, 0])
        np.testing.assert_allclose((w[0] + shift[0, k]) * y[0, k], -g[0], rtol=1e-6, atol=1e-9)
        if shift[0, k] > 0:
            assert length == pytest.approx(radius, rel=1e-6)
        others = rng.normal(size=(20_000, m))
        others *= (
            radius * rng.uniform(size=(20_000, 1)) / np.linalg.norm(others, axis=1, keepdims=True)
        )
        assert model(y[0, k]) <= model(others).min() + 1e-12


def test_first_radii_depend_on_the_row_alone_and_spread_over_their_range():
    x = np.random.default_rng(0).normal(size=(1000, 25)).astype(np.float32)
    radii = np.asarray(first_radius(jnp.asarray(x), 0.3))
    order = np.random.default_rng(1).permutation(1000)
    np.testing.assert_array_equal(first_radius(jnp.asarray(x[order]), 0.3), radii[order])
    part = np.log(radii / (0.3 * 5))
    assert -1 <= part.min() < -0.95 and 0.95 < part.max() <= 1
    assert np.histogram(part, 10, (-1, 1))[0].min() > 60  # of 100 where they are uniform


def test_radii_may_grow_with_the_state():
    x = jnp.stack([jnp.zeros(16), jnp.full(16, 0.5), jnp.full(16, 5.0)])
    np.testing.assert_allclose(longest_radius(x), [1, 1, 5])
