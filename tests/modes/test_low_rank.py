"""`low_rank` and `rank_needed`: reductions that are exact, and ranks of a trained network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import case, found_in

import slowpoints
from slowpoints import FixedPoints, LowRank, RankNeeded, Status, low_rank, rank_needed

N_UNITS, RANK = 40, 3
KEY = jax.random.key(0)


def weights(seed=0, n=N_UNITS, rank=RANK):
    """Return weights `m n^T / n`, `m` and `n` overlapping (Mastrogiuseppe & Ostojic 2018)."""
    rng = np.random.default_rng(seed)
    m = rng.normal(size=(n, rank))
    return m @ (1.8 * m + rng.normal(size=(n, rank))).T / n


def networks(leak=1.0, phi=jnp.tanh):
    """Return a reduced network of exact rank, and the same network without the reduction."""
    W = weights()
    rng = np.random.default_rng(1)
    B, b = rng.normal(size=(N_UNITS, 2)), 0.1 * rng.normal(size=N_UNITS)
    net = low_rank(W, RANK).reduced(phi, B=B, b=b, leak=leak)
    return net, lambda x, u: (1 - leak) * x + leak * phi(W @ x + B @ u + b)


def reduced_points(net, n=64):
    starts = 3 * jax.random.normal(KEY, (n, net.n_states), jnp.float64)
    rows = slowpoints.unique(slowpoints.optimize_batch(net, starts, jnp.array([0.1, -0.05])))
    fps = rows[rows.valid & (rows.status == Status.FIXED_POINT)].replace(valid=None)
    return slowpoints.decompose(slowpoints.jacobians(net, fps))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# ---- the factors -------------------------------------------------------------------------------


@pytest.mark.fast
def test_the_factors_are_the_best_of_their_rank(x64):
    W = np.random.default_rng(0).normal(size=(9, 9))
    s = np.linalg.svd(W, compute_uv=False)
    cut = low_rank(W, 4)
    rest = W - cut.M @ cut.N.T
    assert cut.rank == 4 and cut.M.shape == cut.N.shape == (9, 4)
    np.testing.assert_allclose(cut.singular_values, s, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(rest, 2), cut.error, rtol=1e-12)
    np.testing.assert_allclose(np.sum(rest**2), np.sum(W**2) * (1 - cut.kept), rtol=1e-11)
    np.testing.assert_allclose(cut.N.T @ cut.N, np.eye(4), atol=1e-12)


@pytest.mark.fast
def test_at_full_rank_nothing_is_cut_off(x64):
    W = np.random.default_rng(0).normal(size=(5, 5))
    whole = low_rank(W, 5)
    assert whole.error == 0 and whole.kept == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(whole.M @ whole.N.T, W, atol=1e-13)
    assert low_rank(np.zeros((3, 3)), 1).kept == 1


@pytest.mark.fast
def test_the_factors_and_the_network_pass_through_jit_and_vmap():
    stack = jnp.stack([jnp.asarray(weights(seed), jnp.float32) for seed in (0, 1)])
    cut = jax.jit(jax.vmap(lambda W: low_rank(W, 2)))(stack)
    assert isinstance(cut, LowRank)
    for i in (0, 1):
        one = low_rank(stack[i], 2)
        np.testing.assert_allclose(cut.M[i] @ cut.N[i].T, one.M @ one.N.T, atol=1e-5)
    nets = low_rank(stack[0], 2).reduced(jnp.tanh, leak=0.5)
    stepped = jax.jit(lambda net, x: net(x, jnp.zeros(0)))(nets, jnp.ones(2))
    np.testing.assert_allclose(stepped, nets(jnp.ones(2), jnp.zeros(0)), rtol=1e-5)


# ---- the reduced network -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("leak", [1.0, 0.2])
def test_fixed_points_correspond_one_to_one_with_their_eigenvalues(x64, leak):
    """Those of `D M N^T` are those of `N^T D M`, and 0; with a leak, `1 - leak`."""
    net, F = networks(leak)
    fps = reduced_points(net)
    lifted = net.lift(fps)
    assert fps.n >= 3 and lifted.xstar.shape == (fps.n, N_UNITS)
    u = lifted.inputs
    np.testing.assert_allclose(jax.vmap(F)(lifted.xstar, u), lifted.xstar, atol=1e-13)
    np.testing.assert_allclose(lifted.F_xstar, jax.vmap(F)(lifted.xstar, u), atol=1e-13)
    np.testing.assert_allclose(net.project(lifted.xstar), fps.xstar, atol=1e-12)
    full = slowpoints.decompose(slowpoints.jacobians(F, lifted))
    others = np.full((fps.n, N_UNITS - RANK), 1 - leak)
    expected = np.concatenate([fps.eigval_J_xstar, others], axis=1)
    order = lambda values: np.sort_complex(np.round(values, 9))  # noqa: E731
    np.testing.assert_allclose(order(full.eigval_J_xstar), order(expected), atol=2e-9)
    np.testing.assert_array_equal(full.is_stable, fps.is_stable)


@pytest.mark.slow
def test_a_search_of_all_units_finds_the_lifted_points_and_no_others(x64):
    net, F = networks()
    lifted = net.lift(reduced_points(net))
    starts = 2 * jax.random.normal(KEY, (256, N_UNITS))
    rows = slowpoints.unique(slowpoints.optimize_batch(F, starts, lifted.inputs[0]))
    found = rows[rows.valid & (rows.status == Status.FIXED_POINT)]
    assert found.n == lifted.n
    for row in range(found.n):
        assert np.linalg.norm(lifted.xstar - found.xstar[row], axis=1).min() < 1e-6


class Gain(eqx.Module):
    """A nonlinearity with a parameter."""

    gain: jax.Array

    def __call__(self, x):
        return jax.nn.relu(self.gain * x)


@pytest.mark.fast
@pytest.mark.parametrize("phi", [jnp.tanh, jax.nn.sigmoid, Gain(jnp.float32(0.7))])
@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_the_variables_follow_the_projected_states(phi, leak):
    """Whatever the state: `N^T F(x)` depends on `x` through `N^T x` alone (without a leak)."""
    net, F = networks(leak, phi)
    full = net.full()
    x, u = jax.random.normal(KEY, (N_UNITS,)), jnp.array([0.3, -0.2])
    np.testing.assert_allclose(full(x, u), F(x, u), atol=2e-5)
    np.testing.assert_allclose(net.project(full(x, u)), net(net.project(x), u), atol=2e-5)
    assert (net.n_states, net.n_inputs, full.n_states, full.n_inputs) == (RANK, 2, N_UNITS, 2)


@pytest.mark.fast
def test_lifting_passes_on_what_still_holds():
    net, _ = networks()
    status = np.array([1, 2, 4], np.int8)
    fps = FixedPoints(
        xstar=np.ones((3, RANK), np.float32),
        inputs=np.zeros((3, 2), np.float32),
        valid=np.array([True, False, True]),
        cond_id=np.arange(3),
        hits=np.ones(3, np.int32),
        qstar=np.zeros(3, np.float32),
        status=status,
        tol_unique=1e-4,
    )
    lifted = net.lift(fps)
    assert lifted.status.tolist() == [1, Status.UNFINISHED, 4]
    assert lifted.cond_id is fps.cond_id and lifted.valid is fps.valid and lifted.hits is fps.hits
    assert lifted.tol_unique == 1e-4 and lifted.J_xstar is None
    q = slowpoints.q_fn(net.full(), lifted.xstar, fps.inputs)
    np.testing.assert_allclose(lifted.qstar, q, rtol=1e-4)
    assert (lifted.qstar > 0).all()  # it is that of the full network


@pytest.mark.fast
def test_float64_points_are_lifted_in_float64():
    net, _ = networks()
    fps = FixedPoints(xstar=np.ones((1, RANK)), inputs=np.zeros((1, 2)), dtype=np.float64)
    assert net.lift(fps).xstar.dtype == np.float64


@pytest.mark.fast
def test_inputs_are_of_length_0_unless_there_are_weights():
    net = low_rank(weights(), 2).reduced(jnp.tanh)
    assert net.n_inputs == 0 and net(jnp.ones(2), jnp.zeros(0)).shape == (2,)


@pytest.mark.fast
@pytest.mark.checks_input
def test_wrong_arguments_are_named():
    cut, net = low_rank(weights(), 2), networks()[0]
    for call, error, words in (
        (lambda: low_rank(np.ones((2, 3)), 1), ValueError, "square"),
        (lambda: low_rank(np.ones((2, 2)), 3), ValueError, "`rank`"),
        (lambda: low_rank(np.ones((2, 2)), 0), ValueError, "`rank`"),
        (lambda: low_rank(np.full((2, 2), np.nan), 1), ValueError, "`W`"),
        (lambda: cut.reduced("tanh"), TypeError, "`phi`"),
        (lambda: cut.reduced(jnp.sum), ValueError, "elementwise"),
        (lambda: cut.reduced(np.tanh), TypeError, "`phi` fails on an array of JAX.*such as jnp"),
        (lambda: cut.reduced(jnp.tanh, leak=0.0), ValueError, "`leak`"),
        (lambda: cut.reduced(jnp.tanh, leak=1.5), ValueError, "`leak`"),
        (lambda: cut.reduced(jnp.tanh, B=np.ones((3, 2))), ValueError, "`B`"),
        (lambda: cut.reduced(jnp.tanh, b=np.ones(3)), ValueError, "`b`"),
        (lambda: net.project(np.ones(3)), ValueError, "project"),
        (lambda: net.lift(FixedPoints(xstar=np.ones((1, 2)))), ValueError, "inputs"),
        (
            lambda: net.lift(FixedPoints(xstar=np.ones((1, 2)), inputs=np.ones((1, 2)))),
            ValueError,
            "fps.xstar",
        ),
    ):
        with pytest.raises(error, match=words):
            call()


# ---- the rank that a trained network needs -----------------------------------------------------


def flipflop():
    """Return `W`, `B` and `b` of the trained network, whose weights multiply from the right."""
    arrays = case("tanh")
    return arrays["Wh"][0].T, {"B": arrays["Wi"][0].T, "b": arrays["b"][0]}


@pytest.fixture(scope="module")
def told():
    W, drive = flipflop()
    return rank_needed(W, found_in("tanh"), jnp.tanh, ranks=(16, 3, 10, 11), key=KEY, **drive)


@pytest.mark.slow
def test_the_flip_flop_needs_rank_11(told):
    assert told.rank == 11 and told.n_known == 27
    assert told.ranks.tolist() == [3, 10, 11, 16]
    assert told.n_there[2:].tolist() == [27, 27] and told.n_there[1] < 27
    assert told.n_there[0] < 9
    assert told.n_extra[2:].tolist() == [0, 0]
    assert told.error[-1] == 0 and told.kept[-1] == pytest.approx(1)
    assert np.isfinite(told.distance).sum(axis=1).tolist() == told.n_there.tolist()
    assert str(told).endswith("there at rank 11 and at all higher ones that were tried.")


@pytest.mark.fast
def test_the_text_does_not_say_more_than_was_tried():
    def text(rank, ranks, n_there):
        arrays = {name: np.ones(len(ranks)) for name in ("n_extra", "error", "kept")}
        record = {"distance": np.zeros((len(ranks), 3)), "n_known": 3, "rank": rank, **arrays}
        record |= {"n_extra": np.zeros(len(ranks), int)}
        return str(RankNeeded(ranks=np.array(ranks), n_there=np.array(n_there), **record))

    assert text(2, [1, 2], [0, 3]).endswith("there at rank 2.")
    assert text(1, [1, 2], [3, 2]).endswith("at rank 1 and not at all higher ones that were tried.")
    assert text(None, [1], [2]).endswith("at none of these ranks.")


@pytest.mark.slow
def test_at_full_rank_no_point_moves(told):
    assert told.distance[-1].max() < 1e-4 < told.distance[-2].max()


@pytest.mark.slow
def test_points_of_an_exact_rank_are_there_at_that_rank_and_not_below(x64):
    net, _ = networks()
    fps = net.lift(reduced_points(net))
    rng = np.random.default_rng(1)
    B, b = rng.normal(size=(N_UNITS, 2)), 0.1 * rng.normal(size=N_UNITS)
    search = {"B": B, "b": b, "n_starts": 128, "key": KEY}
    told = rank_needed(weights(), fps, jnp.tanh, tol=1e-6, **search)
    assert told.rank == RANK and told.ranks.tolist() == [1, 2, 3]
    assert told.n_known == fps.n >= 3 and told.n_there.tolist() == [0, 0, fps.n]
    assert told.distance[-1].max() < 1e-10
    with_leak = rank_needed(weights(), fps, jnp.tanh, tol=1e-6, ranks=[3], leak=0.2, **search)
    assert with_leak.rank == RANK


@pytest.mark.fast
@pytest.mark.slow
def test_a_rank_that_does_not_suffice_is_none():
    """A point that must not move at all, and a matrix whose halves count alike."""
    W = np.float32([[2, 0], [0, 2]])
    x = np.float32(optimum := 0.9575040241)
    fps = FixedPoints(xstar=np.float32([[x, x]]), inputs=np.zeros((1, 0), np.float32))
    assert fps.xstar[0, 0] == pytest.approx(np.tanh(2 * optimum), abs=1e-6)
    told = rank_needed(W, fps, jnp.tanh, ranks=[1], tol=0.1, n_starts=8, key=KEY)
    assert told.rank is None and told.n_there.tolist() == [0] and told.n_extra[0] > 0
    assert np.isinf(told.distance).all() and "none" in str(told)


@pytest.mark.slow
def test_copies_of_a_point_are_one():
    W = np.float32([[2, 0], [0, 1.9]])
    rows = np.concatenate([np.zeros((3, 2)), [[1, 1], [1, 1]]]).astype(np.float32)
    x, inputs = (0.9575, 0.9497) * rows, np.zeros((5, 0), np.float32)
    fps = FixedPoints(xstar=np.float32(x), inputs=inputs)
    told = rank_needed(W, fps, jnp.tanh, n_starts=256, key=KEY)
    assert told.n_known == 2 and told.rank == 2, str(told)
    assert np.isfinite(told.distance[-1]).tolist() == [True, False, False, True, False]


@pytest.mark.fast
@pytest.mark.slow
def test_the_index_has_to_be_the_same():
    """With no other point known, any distance is near enough, but not any index."""
    W = np.float32([[2, 0], [0, 1.9]])
    fps = FixedPoints(xstar=np.zeros((1, 2), np.float32), inputs=np.zeros((1, 0), np.float32))
    told = rank_needed(W, fps, jnp.tanh, n_starts=32, key=KEY)
    assert told.ranks.tolist() == [1, 2] and told.n_there.tolist() == [0, 1]


@pytest.mark.fast
@pytest.mark.checks_input
def test_points_of_another_network_are_refused():
    W, drive = flipflop()
    fps = found_in("tanh")
    with pytest.raises(ValueError, match=r"W\.T"):
        rank_needed(W.T, fps, jnp.tanh, key=KEY, **drive)
    for change, error in (
        ({"ranks": []}, TypeError),
        ({"ranks": [0]}, ValueError),
        ({"ranks": [17]}, ValueError),
        ({"tol": -1}, ValueError),
        ({"n_starts": 0}, ValueError),
        ({"key": 0.5}, TypeError),
        ({"B": None}, ValueError),
    ):
        with pytest.raises(error, match="rank_needed"):
            rank_needed(W, fps, jnp.tanh, **({"key": KEY} | drive | change))
    none = fps.replace(valid=np.zeros(fps.n, bool))
    with pytest.raises(ValueError, match="at least one"):
        rank_needed(W, none, jnp.tanh, key=KEY, **drive)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e6, 1e30])
def test_the_share_that_is_kept_does_not_depend_on_the_size_of_the_weights(size):
    """The squares of the first and the last are out of the range of float32."""
    W = np.float32(size * np.diag([3.0, 2.0, 1.0]))
    assert float(low_rank(W, 2).kept) == pytest.approx(13 / 14, rel=1e-6)
    assert float(low_rank(0 * W, 2).kept) == 1


def test_the_share_that_is_kept_of_weights_that_are_not_finite_is_not_known():
    kept = jax.jit(lambda W: low_rank(W, 2).kept)
    assert kept(np.eye(4)) == 0.5
    assert np.isnan(kept(np.diag([np.nan, 3.0, 2.0, 1.0])))


@pytest.mark.slow
def test_points_at_the_origin_do_not_keep_the_search_there():
    v = np.ones(4) / 2
    origin = FixedPoints(xstar=np.zeros((1, 4), np.float32), inputs=np.zeros((1, 0), np.float32))
    told = rank_needed(np.float32(2 * np.outer(v, v)), origin, jnp.tanh, n_starts=64, key=KEY)
    assert told.rank == 1 and told.n_extra.tolist() == [2]


@pytest.mark.slow
@pytest.mark.parametrize("unit", [2.0**-20, 2.0**20])
def test_points_and_ranks_are_the_same_in_all_units(unit, x64):
    W = weights(n=8, rank=2)

    def told(unit):
        phi = lambda z: unit * jnp.tanh(z / unit)  # noqa: E731
        x = unit * np.array(jnp.tanh(jnp.linspace(0.5, 1, 8)))
        for _ in range(300):
            x = np.array(phi(W @ x))
        fps = FixedPoints(xstar=x[None], inputs=np.zeros((1, 0)), tol_unique=1e-3 * unit)
        return rank_needed(W, fps, phi, n_starts=32, ranks=[1, 2], key=KEY)

    found, usual = told(unit), told(1.0)
    assert found.n_there.tolist() == usual.n_there.tolist()
    assert found.n_extra.tolist() == usual.n_extra.tolist() == [1, 1]
    # As exactly as a search finds points in these units.
    np.testing.assert_allclose(found.distance, unit * usual.distance, rtol=2e-2, atol=1e-6 * unit)
    far = np.full((1, 8), unit)
    bad = FixedPoints(xstar=far, inputs=np.zeros((1, 0)), tol_unique=1e-3 * unit)
    with pytest.raises(ValueError, match="not fixed points of this network"):
        rank_needed(W, bad, lambda z: unit * jnp.tanh(z / unit), key=KEY)
