"""`find_all` of networks that contract, which may have any number of units."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import GRUNet, LeakyNet, TanhNet, next_states

from slowpoints import ContinuousTime, as_transition, certify, find_all
from slowpoints._intervals.balls import Ball, from_bounds
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._proofs import by_contraction as way_by_contraction
from slowpoints._proofs.by_contraction import by_contraction
from slowpoints._proofs.lipschitz_bound import lipschitz_bound

unchecked = pytest.mark.checks_input
"""For tests of many networks: type checks at run time would take ten times as long as they do."""

NO_INPUT = np.zeros(1, np.float32)


def weights(n, norm, seed=0, gates=1):
    """Return weights `[gates, n, n]` of this 2-norm each, in float32."""
    W = np.random.default_rng(1000 * n + seed).standard_normal((gates, n, n))
    return np.float32(norm * W / np.linalg.norm(W, 2, axis=(1, 2))[:, None, None])


A = weights(128, 0.9)[0]


def network(cls, n, norm, seed=0, *more):
    gates = 3 if cls is GRUNet else 1
    rng = np.random.default_rng(seed)
    b, Wi = rng.standard_normal((gates, n)), np.zeros((gates, 1, n))
    arrays = (Wi, weights(n, norm, seed, gates), 0.3 * b, *more)
    return cls(*(jnp.asarray(a, jnp.float32) for a in arrays))


def float64_of(F):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, F)


@eqx.filter_jit
def many_steps(F, x):
    return jax.lax.fori_loop(0, 3000, lambda _, x: F(x, jnp.zeros(1)), x)


def iterated(F, n):
    """Return where a network goes from 0, by its own iteration in float64."""
    with jax.enable_x64(True):
        return np.asarray(many_steps(float64_of(F), jnp.zeros(n)))


def cube(n, low=-1.0, high=1.0):
    return np.full(n, low), np.full(n, high)


def all_of(F, box):
    """Return all fixed points in a box, which must be complete after a look at one box."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fps, is_all = find_all(F, box, NO_INPUT, max_boxes=1)
    assert is_all is True
    assert fps.n == 0 or fps.qstar.max() < 1e-25
    return fps


def bound_of(F, box):
    low, high = box
    program = EnclosedProgram(as_transition(F), np.zeros((1, low.size), np.float32), NO_INPUT[None])
    return lipschitz_bound(program, from_bounds(low[None], high[None]))


def one_point(F, n, box=None):
    fps = all_of(F, box or cube(n))
    assert fps.n == 1
    np.testing.assert_allclose(fps.xstar[0], iterated(F, n), atol=1e-9)
    return fps


# ---- one point ---------------------------------------------------------------------------------


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize("norm", [0.5, 0.9, 0.99])
def test_contracting_networks_of_a_hundred_units_have_one_point(norm):
    F = network(TanhNet, 100, norm)
    fps = one_point(F, 100)
    assert norm <= bound_of(F, cube(100)) * (1 + 1e-6) < norm * (1 + 1e-5)
    proven = certify(F, fps)
    assert proven.is_unique.all() and proven.is_stable.all()


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize(
    ("F", "high"),
    [
        (network(TanhNet, 128, 0.9), 1),
        (network(LeakyNet, 128, 0.95, 0, 0.25), 1),
        (network(GRUNet, 128, 0.1), 1),
        (lambda x, u: jax.nn.relu(A @ x + jnp.linspace(-1, 1, 128)), 5),
        (lambda x, u: jnp.tanh(0.25 * jnp.sin(2 * A @ x) @ (1.5 * A) + 0.125), 1),
        (ContinuousTime(lambda x, u: 0.125 * (jnp.tanh(A @ x + 0.25) - x)), 1),
    ],
    ids=["tanh", "leaky", "gated", "relu", "two_layers", "continuous_time"],
)
def test_contracting_networks_of_many_kinds_have_one_point(F, high):
    one_point(F, 128, cube(128, -1, high))


@unchecked
def test_symmetric_weights_near_the_limit_have_one_point():
    """All directions are slow here, of which the slowest takes thousands of steps."""
    S = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    W = np.float32(S @ np.diag(np.linspace(0.9, 0.9995, 100)) @ S.T)
    W = (W + W.T) / 2
    fps = all_of(lambda x, u: W @ x + 1e-3, cube(100, -20, 20))
    W = W.astype(np.float64)
    expected = np.linalg.solve(np.eye(100) - W, np.full(100, np.float64(np.float32(1e-3))))
    np.testing.assert_allclose(fps.xstar, expected[None], atol=1e-9)


@unchecked
def test_a_network_may_contract_only_inside_a_small_box():
    """At large drives `tanh` is flat, so even strong weights contract there."""
    n = 60
    W = weights(n, 3.0)[0]
    F = lambda x, u: jnp.tanh(W @ x + 8.0)  # noqa: E731
    near = cube(n, 0.99, 1.0)
    assert bound_of(F, cube(n)) > 2 and bound_of(F, near) < 0.5
    assert by_contraction(as_transition(F), NO_INPUT, *cube(n)) is None
    one_point(F, n, near)


# ---- none, and points at edges -----------------------------------------------------------------


@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("norm", [0.5, 0.99])
def test_a_box_beside_the_point_has_none(norm):
    F, n = network(TanhNet, 100, norm), 100
    x = iterated(F, n)
    for low, high in (cube(n, 0, 1), cube(n, -0.01, 0.01)):
        assert all_of(F, (low, high)).n == 0
    low, high = cube(n)
    for distance in (0.1, 1e-8):
        high[7] = x[7] - distance
        assert all_of(F, (low, high)).n == 0
        high[7] = x[7] + distance
        assert all_of(F, (low, high)).n == 1
    low[3] = high[3] = x[3] + 0.2  # flat
    assert all_of(F, (low, high)).n == 0


def test_a_point_on_the_edge_of_the_box_is_in_it():
    F = lambda x, u: 0.5 * x  # noqa: E731
    for low, high in ((0.0, 1.0), (-1.0, 0.0), (0.0, 0.0)):
        np.testing.assert_array_equal(all_of(F, cube(3, low, high)).xstar, np.zeros((1, 3)))
    for low, high in ((1e-12, 1.0), (-1.0, -1e-12)):
        assert all_of(F, cube(3, low, high)).n == 0


@pytest.mark.one_in(3)
@pytest.mark.slow
@unchecked
@pytest.mark.parametrize("seed", range(6))
def test_random_boxes_have_the_point_that_is_in_them(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    F = network(TanhNet, n, rng.uniform(0.2, 0.95), seed)
    x = iterated(F, n)
    for _ in range(10):
        wide = rng.uniform(0.05, 1, 2 * n).reshape(2, n)
        shift = rng.choice([0, 0.3], p=[0.5, 0.5]) * rng.standard_normal(n)
        low, high = x + shift - wide[0], x + shift + wide[1]
        assert np.abs(np.concatenate([low - x, high - x])).min() > 1e-6
        fps = all_of(F, (low, high))
        assert fps.n == np.all((low <= x) & (x <= high))


@unchecked
@pytest.mark.parametrize("precise", [None, np.inf])
def test_nothing_is_claimed_from_a_state_that_proves_nothing(precise, monkeypatch):
    """Whatever state it starts from, no point is made up, and none is missed."""
    F = as_transition(lambda x, u: 0.875 * x)
    if precise:  # to see the proof alone
        monkeypatch.setattr(way_by_contraction, "_PRECISE", precise)
    decided = []
    for low, high in ((-1.0, 1.0), (-0.1, 1.0), (0.02, 1.0), (0.5, 0.6)):
        for c in np.linspace(low, high, 8):
            state = np.full((1, 2), c)
            monkeypatch.setattr(way_by_contraction, "_state_kept_inside", lambda *_, x=state: x)
            found = by_contraction(F, NO_INPUT, *cube(2, low, high))
            decided.append(found is not None)
            assert found is None or len(found) == (low < 0)
            assert precise or found is None or len(found) == 0
    assert any(decided) and not all(decided)


# ---- networks that do not contract, or of which that is not known --------------------------------


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize("norm", [1.0001, 1.5])
def test_networks_above_the_limit_are_left_to_the_boxes(norm):
    F = network(TanhNet, 2, norm)
    assert bound_of(F, cube(2)) >= norm * (1 - 1e-6)
    assert by_contraction(as_transition(F), NO_INPUT, *cube(2)) is None
    fps, is_all = find_all(F, cube(2), NO_INPUT)
    assert is_all and fps.n >= 1
    with pytest.warns(UserWarning, match="may not be all"):
        _, is_all = find_all(network(TanhNet, 30, norm), cube(30), NO_INPUT, max_boxes=1)
    assert not is_all


@pytest.mark.parametrize(
    "F",
    [
        lambda x, u: 0.1 * jnp.cumsum(x),  # no bound is known
        lambda x, u: jnp.where(x > 0, 0.5 * x, 0.2 * x),  # a jump, as far as can be told
        lambda x, u: 1.0 * x,
        lambda x, u: -x + 0.1,
    ],
    ids=["not_covered", "seeming_jump", "identity", "reflection"],
)
def test_what_is_not_known_to_contract_is_not_decided(F):
    assert by_contraction(as_transition(F), NO_INPUT, *cube(2)) is None


def test_operations_without_a_bound_are_left_to_the_boxes():
    fps, is_all = find_all(lambda x, u: 0.1 * jnp.cumsum(x) + 0.1, cube(2), NO_INPUT)
    assert is_all
    np.testing.assert_allclose(fps.xstar, [[1 / 9, 10 / 81]], rtol=1e-6)


# ---- the bound -----------------------------------------------------------------------------------


@pytest.mark.slow_cases
@unchecked
@pytest.mark.parametrize("cls", [TanhNet, GRUNet, LeakyNet])
@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_never_below_what_a_network_does(cls, seed):
    rng, n = np.random.default_rng(seed), 8
    more = (0.3,) if cls is LeakyNet else ()
    F = network(cls, n, rng.uniform(0.1, 2), seed, *more)
    centre, radius = rng.uniform(-1, 1, n), 10.0 ** rng.uniform(-3, 0)
    bound = bound_of(F, (centre - radius, centre + radius))
    with jax.enable_x64(True):
        t = rng.uniform(-1, 1, (2, 200, n))
        t[0, :50] = np.sign(t[0, :50])
        a, b = jnp.asarray(centre + radius * t)
        ya, yb = (next_states(F, np.asarray(x), np.zeros((200, 1))) for x in (a, b))
        precise = float64_of(F)
        J = np.asarray(jax.vmap(jax.jacfwd(lambda x: precise(x, jnp.zeros(1))))(a))
    stretch = np.linalg.norm(ya - yb, axis=1) / np.linalg.norm(np.asarray(a - b), axis=1)
    assert max(stretch.max(), np.linalg.norm(J, 2, axis=(1, 2)).max()) <= bound
    assert bound < 10


@unchecked
def test_the_bound_of_a_tiny_box_is_the_norm_of_the_jacobian_of_a_saturating_layer():
    W = weights(20, 0.8)[0]
    F = lambda x, u: jnp.tanh(W @ x)  # noqa: E731
    np.testing.assert_allclose(
        bound_of(F, cube(20, -1e-9, 1e-9)), np.linalg.norm(W.astype(np.float64), 2), rtol=1e-9
    )


@pytest.mark.parametrize("inputs", [np.float32([0.0]), np.float32([3.0])])
def test_the_input_counts(inputs):
    """Units that are driven far are flat."""
    F = lambda x, u: jnp.tanh(1.5 * x + u[0])  # noqa: E731
    program = EnclosedProgram(as_transition(F), np.zeros((1, 2), np.float32), inputs[None])
    bound = lipschitz_bound(program, Ball(np.zeros((1, 2)), np.ones((1, 2))))
    drive = max(0.0, float(inputs[0]) - 1.5)
    np.testing.assert_allclose(bound, 1.5 / np.cosh(drive) ** 2, rtol=1e-9)
