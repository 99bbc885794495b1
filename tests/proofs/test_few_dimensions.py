"""`find_all` of many units that are driven along few directions: all points, no false proof."""

import itertools
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from test_find_all import all_of, assert_same_points, cube, part_of

import slowpoints
from slowpoints import ContinuousTime, as_transition, find_all
from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._proofs.branch_and_prune import SMALLEST, SettledParts
from slowpoints._proofs.few_dimensions import by_few_dimensions
from slowpoints._proofs.lifting import depends_on_all, lifted, returned

unchecked = pytest.mark.checks_input
"""For tests of many networks: type checks at run time would take ten times as long as they do."""

PUBLISHED = Path(__file__).parents[3] / "shared" / "cases" / "published"


def weights(n, rank, seed, gain=2.0, noise=1.0):
    """Return how units are driven and read in a network of low rank, and their biases."""
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((n, rank))
    read = gain * m + noise * rng.standard_normal((n, rank))
    return np.float32(m), np.float32(read / n), np.float32(0.3 * rng.standard_normal(n))


def network(phi, m, read, b, leak=0.5):
    """Return a network that keeps what is driven in its state, before the nonlinearity."""
    m, read, b = map(jnp.asarray, (m, read, b))
    return lambda x, u: (1 - leak) * x + leak * (phi(x + b) @ read @ m.T)


def as_one_matrix(phi, m, read, b, leak=0.5):
    W = jnp.asarray((m @ read.T).astype(np.float32))
    b = jnp.asarray(b)
    return lambda x, u: (1 - leak) * x + leak * (W @ phi(x + b))


def rates(phi, m, read, b, leak=0.5):
    """Return a network whose state is what units return: it reads few directions of that."""
    m, read, b = map(jnp.asarray, (m, read, b))
    return lambda x, u: (1 - leak) * x + leak * phi(m @ (x @ read) + b)


def rates_by_one_matrix(phi, m, read, b, leak=0.5):
    W, b = jnp.asarray((m @ read.T).astype(np.float32)), jnp.asarray(b)
    return lambda x, u: (1 - leak) * x + leak * phi(W @ x + b)


def assert_has(found, expected, atol):
    """Check that all of some points are there, once each. Others are certified to be points."""
    assert len(found) >= len(expected)
    for x in expected:
        assert np.sum(np.abs(found - x).max(axis=1) <= atol) == 1


def roots(phi, m, read, b, starts):
    """Return the fixed points from SciPy's method from many starts, in as many variables as ranks.

    With `x = m z`, they are those of `z = read^T phi(m z + b)`.
    """
    m, read, b = (a.astype(np.float64) for a in (m, read, b))
    found = []
    for start in starts:
        solved = scipy.optimize.root(lambda z: z - read.T @ phi(m @ z + b), start, tol=1e-13)
        error = np.abs(solved.x - read.T @ phi(m @ solved.x + b)).max()
        if error < 1e-10 and not any(np.abs(solved.x - z).max() < 1e-6 for z in found):
            found.append(solved.x)
    return np.array(found).reshape(-1, m.shape[1]) @ m.T


def rectified_roots(m, read, b, bound):
    """Return the fixed points with `relu`, from the regions of very many states.

    Each region is that of the signs of `m z + b`, in which `z = read^T diag(signs) (m z + b)`.
    """
    m, read, b = (a.astype(np.float64) for a in (m, read, b))
    rng = np.random.default_rng(0)
    rank = m.shape[1]
    z = rng.uniform(-bound, bound, (20_000, rank)) * rng.uniform(0, 1, (20_000, 1))
    found = []
    for active in {row.tobytes(): row for row in z @ m.T + b > 0}.values():
        A = read.T @ (active[:, None] * m)
        there = np.linalg.solve(np.eye(rank) - A, read.T @ (active * b))
        drive = m @ there + b
        if np.array_equal(drive > 0, active):
            assert np.abs(drive).min() > 1e-6  # none is at a kink
            found.append(there)
    return np.array(found).reshape(-1, rank) @ m.T


def phi_of(name):
    return {
        "tanh": (jnp.tanh, np.tanh),
        "softplus": (jax.nn.softplus, lambda x: np.logaddexp(x, 0)),
        "sigmoid": (jax.nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        "tanh of a sum": (lambda x: jnp.tanh(x + 0.1 * x**2), lambda x: np.tanh(x + 0.1 * x**2)),
    }[name]


# ---- against independent computations ------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.slow
@unchecked
@pytest.mark.parametrize(
    ("rank", "n", "stored"),
    [(1, 20, network), (2, 40, as_one_matrix), (2, 90, network)],
)
def test_rectified_networks_have_the_points_of_their_regions(rank, n, stored):
    total = 0
    for seed in range(2):
        m, read, b = weights(n, rank, seed, gain=1.6, noise=2.0)
        expected = rectified_roots(m, read, b, 20.0)
        fps = all_of(stored(jax.nn.relu, m, read, b), cube(n, -100.0, 100.0))
        # What float32 makes of the product of weights.
        assert_has(fps.xstar, expected, 1e-9 if stored is network else 1e-3)
        total += len(expected)
    assert total >= 1


@pytest.mark.one_in(2)
@unchecked
@pytest.mark.parametrize(
    ("name", "rank", "n"),
    [
        ("tanh", 2, 100),
        pytest.param("tanh", 1, 300, marks=pytest.mark.slow),
        pytest.param("tanh", 3, 60, marks=pytest.mark.slow),
        pytest.param("softplus", 2, 60, marks=pytest.mark.slow),
        pytest.param("sigmoid", 2, 60, marks=pytest.mark.slow),
        pytest.param("tanh of a sum", 2, 60, marks=pytest.mark.slow),
    ],
)
def test_smooth_networks_have_what_scipy_finds(name, rank, n):
    phi, in_numpy = phi_of(name)
    m, read, b = weights(n, rank, 5, gain={"sigmoid": 12.0, "softplus": 0.8}.get(name, 2.0))
    rng = np.random.default_rng(1)
    expected = roots(in_numpy, m, read, b, rng.uniform(-4, 4, (400, rank)))
    fps = all_of(network(phi, m, read, b), cube(n, -40.0, 40.0))
    assert_has(fps.xstar, expected[np.abs(expected).max(axis=1) < 40], 1e-8)
    assert len(expected) >= (3 if name.startswith("tanh") else 1)


@pytest.mark.one_in(2)
@unchecked
@pytest.mark.parametrize(
    ("name", "rank", "stored", "leak"),
    [
        ("tanh", 1, rates_by_one_matrix, 1.0),
        pytest.param("tanh", 2, rates, 0.5, marks=pytest.mark.slow),
        pytest.param("tanh", 2, rates_by_one_matrix, 0.1, marks=pytest.mark.slow),
        pytest.param("softplus", 2, rates, 1.0, marks=pytest.mark.slow),
        pytest.param("sigmoid", 2, rates_by_one_matrix, 0.5, marks=pytest.mark.slow),
        pytest.param("tanh of a sum", 2, rates, 1.0, marks=pytest.mark.slow),
        pytest.param("tanh of a sum", 1, rates_by_one_matrix, 0.3, marks=pytest.mark.slow),
    ],
)
def test_networks_of_rates_have_what_scipy_finds(name, rank, stored, leak):
    """With `z = read^T x`, points are at `x = phi(m z + b)`, for the `z` of the other form."""
    phi, in_numpy = phi_of(name)
    n = 60
    m, read, b = weights(n, rank, 5, gain={"sigmoid": 12.0, "softplus": 0.8}.get(name, 2.0))
    rng = np.random.default_rng(1)
    driven = roots(in_numpy, m, read, b, rng.uniform(-4, 4, (400, rank)))
    expected = in_numpy(driven + b.astype(np.float64))
    expected = expected[np.abs(expected).max(axis=1) < 40]
    fps = all_of(stored(phi, m, read, b, leak), cube(n, -40.0, 40.0))
    # What float32 makes of the product of weights.
    assert_has(fps.xstar, expected, 1e-8 if stored is rates else 1e-4)
    assert len(fps.xstar) == len(expected) >= (3 if name == "tanh" else 1)


@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("seed", range(3))
def test_rectified_rates_have_the_points_of_the_other_form(seed):
    """A network that keeps what drives its units has the same points, before the nonlinearity."""
    m, read, b = weights(40, 2, seed, gain=1.6, noise=2.0)
    driven = all_of(network(jax.nn.relu, m, read, b), cube(40, -100.0, 100.0)).xstar
    fps = all_of(rates(jax.nn.relu, m, read, b), cube(40, -1.0, 100.0))
    assert_same_points(fps.xstar, np.maximum(driven + b, 0), 1e-7)


@pytest.mark.slow
@unchecked
def test_rates_as_a_flow_under_an_input():
    m, read, b = weights(30, 1, 8)
    rate = lambda x, u: -x + jnp.tanh(m @ (x @ read) + b + u)  # noqa: E731
    u = np.linspace(-0.2, 0.2, 30, dtype=np.float32)
    starts = np.random.default_rng(0).uniform(-3, 3, (60, 1))
    driven = roots_with_input(m, read, b, u, starts) + b
    fps = all_of(ContinuousTime(rate), cube(30, -1.0, 1.0), u)
    assert_same_points(fps.xstar, np.tanh(driven.astype(np.float64)), 1e-7)


@pytest.mark.slow
@unchecked
def test_a_box_with_one_point_is_narrowed_down_as_long_as_it_takes():
    """The first box has one point, and its images are smaller by a little only."""
    rng = np.random.default_rng(340)
    rng.integers(1, 3)
    m, read = np.float32(2 * rng.normal(size=(4, 1))), np.float32(rng.normal(size=(4, 1)) / 2)
    b = np.float32(0.4 * rng.normal(size=4))
    fps = all_of(rates(jnp.tanh, m, read, b, 0.1), (np.full(4, -2.3), np.full(4, 2.1)))
    a = [x.astype(np.float64) for x in (m[:, 0], read[:, 0], b)]
    z = scipy.optimize.brentq(lambda z: z - a[1] @ np.tanh(a[0] * z + a[2]), -9, 9, xtol=1e-14)
    np.testing.assert_allclose(fps.xstar, [np.tanh(a[0] * z + a[2])], atol=1e-7)


@pytest.mark.slow
@unchecked
def test_two_nonlinear_layers_read_through_few_directions():
    """What the second layer reads follows from the first, which reads one direction."""
    rng = np.random.default_rng(3)
    read = np.float32(rng.standard_normal((24, 1)) / 12)
    V = np.float32(rng.standard_normal((24, 24)) / 5)
    c = np.float32(rng.standard_normal(24))
    F = lambda x, u: jnp.tanh(V @ jax.nn.sigmoid(3 * c * (x @ read)[0]) + 0.1 * c)  # noqa: E731

    def back(z):
        h = 1 / (1 + np.exp(-3 * c.astype(float) * z))
        return np.tanh(V.astype(float) @ h + 0.1 * c.astype(float))

    grid = np.linspace(-2.5, 2.5, 100_001)
    values = np.array([back(z) @ read[:, 0].astype(float) - z for z in grid])
    assert is_of_few_dimensions(F, 24)
    n_roots = int(np.sum(np.sign(values[1:]) != np.sign(values[:-1])))
    fps = all_of(F, cube(24, -1.0, 1.0))
    assert len(fps.xstar) == n_roots >= 1
    np.testing.assert_allclose(fps.xstar, np.stack([back((x @ read)[0]) for x in fps.xstar]))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs networks that are beside the project")
@pytest.mark.parametrize("n", [60, pytest.param(128, marks=pytest.mark.slow)])
@unchecked
@pytest.mark.slow
def test_published_rectified_networks_have_17_points(n):
    a = np.load(PUBLISHED / f"reach_relu_{n}.npz")
    m, read, b = (jnp.asarray(a[name], jnp.float32) for name in ("m", "n", "b"))
    F = lambda x, u: 0.9 * x + 0.1 * (jax.nn.relu(x + b) @ read.T @ m.T / n)  # noqa: E731
    fps = all_of(F, cube(n, -100.0, 100.0))
    fps = slowpoints.decompose(slowpoints.jacobians(F, fps))
    assert np.bincount(fps.n_unstable()).tolist() == [8, 8, 1]


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs networks that are beside the project")
@pytest.mark.slow
@unchecked
def test_a_published_network_of_500_units_has_nine_points():
    a = np.load(PUBLISHED / "dms_rank2_500.npz")
    W = jnp.asarray(a["m"] @ a["n"].T / 500, jnp.float32)
    alpha = float(a["alpha"])
    F = lambda x, u: x + alpha * (-x + W @ jnp.tanh(x))  # noqa: E731
    fps = all_of(F, cube(500, -20.0, 20.0))
    fps = slowpoints.decompose(slowpoints.jacobians(F, fps))
    assert np.bincount(fps.n_unstable()).tolist() == [4, 4, 1]


# ---- what the box, the input and the kind of network have to do with it --------------------------


@unchecked
@pytest.mark.slow
def test_only_the_points_in_the_box_are_returned():
    m, read, b = weights(40, 2, 3)
    F = network(jnp.tanh, m, read, b)
    whole = all_of(F, cube(40, -20.0, 20.0)).xstar
    assert len(whole) > 2
    middle = float(np.median(whole[:, 0])) + 1e-3
    low, high = cube(40, -20.0, 20.0)
    low[0] = middle
    assert_same_points(all_of(F, (low, high)).xstar, whole[whole[:, 0] > middle])


@unchecked
@pytest.mark.slow
def test_the_input_and_continuous_time_are_as_elsewhere():
    m, read, b = weights(30, 1, 8)
    rate = lambda x, u: -x + jnp.tanh(x + b) @ read @ m.T + u  # noqa: E731
    for u in (np.zeros(30, np.float32), np.linspace(-0.2, 0.2, 30, dtype=np.float32)):
        starts = np.random.default_rng(0).uniform(-3, 3, (60, 1))
        z = roots_with_input(m, read, b, u, starts)
        fps = all_of(ContinuousTime(rate), cube(30, -30.0, 30.0), u)
        assert_same_points(fps.xstar, z, 1e-8)


def roots_with_input(m, read, b, u, starts):
    m, read, b, u = (a.astype(np.float64) for a in (m, read, b, u))
    found = []
    for start in starts:
        solved = scipy.optimize.root(
            lambda z: z - read.T @ np.tanh(m @ z + u + b), start, tol=1e-13
        )
        if solved.success and not any(np.abs(solved.x - z).max() < 1e-6 for z in found):
            found.append(solved.x)
    return np.array(found) @ m.T + u


@pytest.mark.slow
@unchecked
def test_states_in_units_that_differ_by_a_million_have_the_same_points():
    m, read, b = weights(30, 2, 4)
    F = network(jnp.tanh, m, read, b)
    expected = all_of(F, cube(30, -20.0, 20.0)).xstar
    unit = np.where(np.arange(30) % 2, 2.0**20, 2.0**-20).astype(np.float32)
    scaled = lambda x, u: F(x / unit, u) * unit  # noqa: E731
    fps, is_all = find_all(scaled, (-20.0 * unit, 20.0 * unit))
    assert is_all
    assert_same_points(fps.xstar / unit, expected, 1e-8)


@pytest.mark.slow
@unchecked
def test_units_that_are_not_linear_beside_others_that_are():
    """Sixty units, of which two are not linear: two directions, whatever the other weights are."""
    rng = np.random.default_rng(2)
    W = np.float32(0.9 * rng.standard_normal((60, 60)) / np.sqrt(60))
    drive = np.float32(rng.standard_normal((60, 2)))
    read = np.float32(rng.standard_normal((60, 2)) / 5)
    F = lambda x, u: W @ x + jnp.tanh(x @ read) @ drive.T  # noqa: E731
    solved = np.linalg.solve(np.eye(60) - W.astype(np.float64), drive.astype(np.float64))
    reads = read.T.astype(np.float64) @ solved
    found = []
    for start in rng.uniform(-10, 10, (300, 2)):
        z = scipy.optimize.root(lambda z: z - np.tanh(reads @ z), start, tol=1e-13)
        if z.success and not any(np.abs(z.x - other).max() < 1e-7 for other in found):
            found.append(z.x)
    fps = all_of(F, cube(60, -100.0, 100.0))
    assert len(found) >= 3
    assert_has(fps.xstar, np.array(found) @ solved.T, 1e-7)


def is_of_few_dimensions(F, n, low=-1.0, high=1.0, most=2**14):
    def program(k):
        return EnclosedProgram(
            as_transition(F), np.zeros((k, n), np.float32), np.zeros((k, 0), np.float32)
        )

    ends = cube(n, low, high)
    found = SettledParts(program, np.full(n, SMALLEST), n * n)
    return by_few_dimensions(program, *ends, most, found)


@pytest.mark.slow
def test_networks_of_full_rank_and_integrators_are_left_to_other_methods():
    rng = np.random.default_rng(0)
    W = np.float32(rng.standard_normal((12, 12)) / 3)
    assert not is_of_few_dimensions(lambda x, u: jnp.tanh(W @ x), 12)
    assert not is_of_few_dimensions(lambda x, u: W @ x, 12)  # nothing is not linear
    assert not is_of_few_dimensions(lambda x, u: x.at[0].set(jnp.tanh(x[0])), 12)  # I - A singular
    assert not is_of_few_dimensions(lambda x, u: jnp.sqrt(x) @ W[:, :1] @ W[:1], 12)  # NaN below 0
    assert not is_of_few_dimensions(lambda x, u: x[::-1] + jax.lax.erf_inv(x[0]), 12)  # not covered
    huge = lambda x, u: jnp.exp(700 * (x @ W[:, :1])) @ W[:1]  # noqa: E731
    assert not is_of_few_dimensions(huge, 12)
    assert is_of_few_dimensions(lambda x, u: jnp.tanh(x @ W[:, :1]) @ W[:1] + 0.5 * x, 12)


@pytest.mark.slow
def test_what_is_read_has_to_be_known_from_few_directions_alone():
    rng = np.random.default_rng(0)
    W = np.float32(rng.standard_normal((12, 12)) / 3)
    h = lambda x: W[:, :1] @ (W[:1] @ x)  # noqa: E731
    assert is_of_few_dimensions(lambda x, u: jnp.tanh(h(x)), 12)
    assert not is_of_few_dimensions(lambda x, u: x * jax.nn.sigmoid(h(x)), 12)  # as in a gate
    assert not is_of_few_dimensions(lambda x, u: jnp.tanh(h(x) + 0.1 * jnp.tanh(x)), 12)
    both = lambda x, u: jnp.tanh(h(x) + jnp.sin(h(x)) - jnp.cos(h(x)))  # noqa: E731
    assert is_of_few_dimensions(both, 12)
    assert not is_of_few_dimensions(lambda x, u: jnp.tanh(h(x)) + 0.2 * x[::-1] ** 2, 12)
    assert not is_of_few_dimensions(lambda x, u: x + jnp.tanh(h(x)), 12)  # I - A singular


# ---- what cannot be decided is said --------------------------------------------------------------


@pytest.mark.slow
@unchecked
def test_a_ring_of_fixed_points_is_not_complete():
    """`z' = z (2 - |z|^2)`, at rest on a circle, and at 0."""
    drive = np.kron(np.eye(2), np.ones((8, 1)) / 8).astype(np.float32)  # whose sums do not round

    def F(x, u):
        z = jnp.sum(x.reshape(2, 8), axis=1)
        return 0.5 * x + 0.5 * drive @ (z * (2 - z @ z))

    fps = part_of(F, cube(16, -0.3, 0.3), match="of the whole, were not|undecided", max_boxes=2**10)
    assert np.abs(fps.xstar).max(initial=0) < 1e-9


@pytest.mark.slow
@unchecked
def test_a_fold_is_decided_on_both_sides_and_open_at_it():
    m = np.float32(np.ones(16) / 16)
    F = lambda x, u: 0.5 * x + 0.5 * m * (u[0] - jnp.sum(x) ** 2)  # noqa: E731
    for u, n in ((-0.2501, 0), (-0.2499, 2)):
        assert all_of(F, cube(16, -0.9, 0.9), np.float32([u])).n == n
    part_of(F, cube(16, -0.9, 0.9), np.float32([-0.25]))


@pytest.mark.one_in(2)
@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_direction_that_is_not_divided_along_may_decide_at_a_fold(sign):
    """`s = u - s^2 + 1e-5 tanh(10 s)`, whose last term alone drives the second direction.

    The fold is at `u = -1/4`, but for the last term, which moves it by 1e-5.
    """
    m, a = np.float32(np.ones(16) / 16), np.float32(np.resize([1, -1], 16))

    def F(x, u):
        s = jnp.sum((1 + a) * x)
        return 0.5 * x + 0.5 * m * (u[0] - s**2) + sign * 0.5e-5 * (a / 16) * jnp.tanh(10 * s)

    for share, n in ((-3.0, 0), (0.5, 0 if sign > 0 else 2), (3.0, 2)):
        u = np.float32([-0.25 + sign * share * 1e-5 if abs(share) < 1 else -0.25 + share * 1e-5])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fps, is_all = find_all(F, cube(16, -0.9, 0.9), u, max_boxes=2**12)
        assert fps.n == n if is_all else fps.n <= n


@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_direction_that_is_hardly_read_may_decide_at_a_fold(sign):
    """`s = u - s^2`, but for what the units read besides `s`, which moves the fold by 1.4e-6."""
    a = np.resize([1.0, -1.0], 16).astype(np.float32)
    c = (1 + a / 2) / 16

    def F(x, u):
        h = jnp.sum(x) + sign * 1e-6 * a * (a @ x)
        return 0.5 * x + 0.5 * (c * (u[0] - h**2) + 3 * a / 16)

    def away(x, u):  # in float64, from x = c (u - h^2) + 3 a / 16
        a64, c64 = a.astype(float), c.astype(float)
        h = x.sum() + sign * float(np.float32(1e-6)) * a64 * (a64 @ x)
        return c64 * (u - h**2) + 3 * a64 / 16 - x

    for share in (-3.0, -0.5, 0.5, 3.0):
        u = np.float32([-0.25 + share * 1.4e-6])
        n = 2 if share * 1.4e-6 > -sign * 1.4e-6 else 0
        assert is_of_few_dimensions(lambda x, _, u=u: F(x, u), 16, -0.9, 0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fps, is_all = find_all(F, cube(16, -0.9, 0.9), u, max_boxes=2**12)
        assert fps.n == n if is_all else fps.n <= n
        for x in fps.xstar:
            np.testing.assert_allclose(away(x, float(u[0])), 0, atol=1e-12)


@unchecked
def test_too_few_boxes_are_not_complete():
    m, read, b = weights(30, 2, 1)
    F = network(jnp.tanh, m, read, b)
    part_of(F, cube(30, -20.0, 20.0), match="of the whole, were not", max_boxes=3)


@unchecked
@pytest.mark.parametrize("at", [0.0, 0.3])
def test_a_fixed_point_at_a_kink_is_proven_or_open_but_not_missing(at):
    """`z = relu(z - at) / 2 + c`, whose fixed point is exactly where the unit becomes active."""
    m = np.float32(np.ones(8) / 8)
    F = lambda x, u: 0.5 * m * jax.nn.relu(jnp.sum(x) - at) + m * np.float32(at)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fps, is_all = find_all(F, cube(8, -3.0, 3.0))
    assert fps.n == 1 or not is_all


@pytest.mark.slow
@unchecked
def test_a_jump_is_not_claimed_to_be_none():
    """`z = 1 - step(z)` has no fixed point, but a sign change; `z = step(z - 1/2)` has two."""
    m = np.float32(np.ones(8) / 8)
    none = lambda x, u: m * jnp.where(jnp.sum(x) > 0.5, 0.0, 1.0)  # noqa: E731
    two = lambda x, u: m * jnp.where(jnp.sum(x) > 0.5, 1.0, 0.0)  # noqa: E731
    part_of(none, cube(8, -3.0, 3.0), max_boxes=2**12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fps, is_all = find_all(two, cube(8, -3.0, 3.0), max_boxes=2**12)
    assert fps.n == 2 or not is_all


# ---- the parts -----------------------------------------------------------------------------------


def some_programs():
    rng = np.random.default_rng(3)
    W, V = (np.float32(rng.standard_normal((4, 4)) / 2) for _ in range(2))
    return {
        "tanh": lambda x, u: W @ jnp.tanh(V @ x),
        "relu": lambda x, u: 0.5 * x + W @ jax.nn.relu(V @ x + 0.1),
        "leaky relu": lambda x, u: W @ jax.nn.leaky_relu(V @ x),
        "softplus": lambda x, u: W @ jax.nn.softplus(x),
        "gates": lambda x, u: jax.nn.sigmoid(V @ x) * x + W @ jnp.tanh(x),
        "products": lambda x, u: (x @ W @ x) * x + x / (1 + x**2),
        "two layers": lambda x, u: W @ jnp.tanh(V @ jax.nn.relu(W @ x) + x),
        "choices": lambda x, u: jnp.where(x > 0.2, W @ x, jnp.minimum(x, 0.3)),
        "sorted": lambda x, u: jnp.concatenate([jnp.max(x)[None], x[1:] ** 3]) + jnp.cumsum(x),
        "steps": lambda x, u: jax.lax.fori_loop(0, 3, lambda _, x: 0.5 * x + W @ jnp.sin(x), x),
    }


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize("name", some_programs())
def test_states_differ_by_what_is_linear_and_what_is_returned(name):
    """`F(a) - F(b)` is in `A (a - b) + B (y(a) - y(b))`, for any two states of the box."""
    F = as_transition(some_programs()[name])
    rng = np.random.default_rng(4)
    for low, high in ((-1.0, 1.0), (0.25, 0.3), (-0.4, 2.0)):
        one = EnclosedProgram(F, np.zeros((1, 4), np.float32), np.zeros((1, 0), np.float32))
        box = from_bounds(np.full((1, 4), low), np.full((1, 4), high))
        n_returned = returned(one, depends_on_all(box)).shape[1]
        A, B, y = lifted(one, box, n_returned)
        n = 7  # the length of no other axis
        rows = EnclosedProgram(F, np.zeros((n, 4), np.float32), np.zeros((n, 0), np.float32))
        x = rng.uniform(low, high, (n, 4))
        y_x = returned(rows, depends_on_all(Ball(x))).value
        below, above = y.bounds()
        assert y_x.shape == (n, B.shape[1]) and y.shape == (B.shape[1],)
        assert np.all(y_x.mid >= below - 1e-9) and np.all(y_x.mid <= above + 1e-9)
        Fx = rows.value(Ball(x)).mid
        for i, j in itertools.combinations(range(n), 2):
            off = np.abs(A.mid) @ np.abs(x[i] - x[j]) * 1e-12 + 1e-9
            linear = matmul(A, Ball((x[i] - x[j])[:, None])) + matmul(
                B, Ball((y_x.mid[i] - y_x.mid[j])[:, None])
            )
            error = np.abs(Fx[i] - Fx[j] - linear.mid[:, 0])
            assert np.all(~np.isfinite(linear.rad[:, 0]) | (error <= linear.rad[:, 0] + off))
