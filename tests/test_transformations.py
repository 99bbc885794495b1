"""The core inside `jit`, `vmap`, `pmap` and `shard_map`: the same rows as a plain call gives."""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from model_checks import fast_compilation as fast_compilation
from networks import SOLVERS, Affine, case, compilations, leaves_equal, newton_polish, trained

from slowpoints import (
    Adam,
    FixedPoints,
    LevenbergMarquardt,
    decompose,
    find_fixed_points,
    jacobians,
    optimize_batch,
    unique,
)

N_ROWS, N_STATES = 32, 16


def network():
    return trained("tanh")


def starts():
    return jnp.asarray(case("tanh")["traj"][:N_ROWS, 30])


def inputs():
    """Return four inputs: none, and one too weak to change the number of fixed points."""
    return jnp.asarray([[0, 0, 0], [0.02, 0, 0], [0, -0.02, 0], [0.01, 0.01, 0.01]], jnp.float32)


def a_few_steps(F, x, u):
    """Return where five joint Adam steps lead; more of them amplify rounding."""
    return optimize_batch(F, x, u, solver=Adam(), max_iters=5)


def dense(F, x, u):
    return optimize_batch(F, x, u, solver=LevenbergMarquardt())


def chain(F, x, u):
    return decompose(jacobians(F, unique(dense(F, x, u))))


SEARCHES = {"default": optimize_batch, "levenberg_marquardt": dense, "adam": a_few_steps}
# The default is compared in the tests of the pipeline below, where it is compiled anyway.
others = pytest.mark.parametrize("name", ["levenberg_marquardt", "adam"])


@cache
def plain(name, which=0):
    return SEARCHES[name](network(), starts(), inputs()[which])


@cache
def plain_pipeline():
    return find_fixed_points(network(), starts(), inputs()[0], mesh=None)


def assert_same_rows(fps, expected):
    """Two compilations of one search agree to rounding, which a search ends by magnifying."""
    assert fps.xstar.shape == expected.xstar.shape
    np.testing.assert_allclose(fps.xstar, expected.xstar, atol=2e-4)
    np.testing.assert_allclose(fps.F_xstar, expected.F_xstar, atol=2e-4)
    np.testing.assert_allclose(fps.qstar, expected.qstar, rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(fps.x_init, expected.x_init)
    np.testing.assert_array_equal(fps.inputs, expected.inputs)
    np.testing.assert_array_equal(fps.valid, expected.valid)


# ---- the search --------------------------------------------------------------------------------


@pytest.mark.slow
@others
def test_jit(name):
    assert_same_rows(jax.jit(SEARCHES[name])(network(), starts(), inputs()[0]), plain(name))


@pytest.mark.slow
@others
def test_vmap_over_inputs(name):
    fps = jax.vmap(partial(SEARCHES[name], network(), starts()))(inputs())
    for k in range(4):
        assert_same_rows(jax.tree.map(lambda leaf, k=k: leaf[k], fps), plain(name, k))


@pytest.mark.slow
def test_vmap_over_networks():
    """Weights in a stack, as of an ensemble: one network, and one with its units' signs flipped."""
    F = network()
    flipped = eqx.tree_at(lambda F: (F.Wi, F.b), F, (-F.Wi, -F.b))
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), F, flipped)
    x = jnp.stack([starts(), -starts()])
    fps = jax.vmap(optimize_batch, (0, 0, None))(stack, x, inputs()[0])
    np.testing.assert_allclose(fps.xstar[0], plain("default").xstar, atol=2e-4)
    np.testing.assert_allclose(fps.xstar[1], -plain("default").xstar, atol=2e-4)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("n", [17, 256])
@pytest.mark.slow
def test_gradients_and_batches_of_weights_outside_jit(n):
    """Of numbers of rows that would be filled up, or divided among the cores."""
    A, x, u = 0.5 * jnp.eye(2), jnp.zeros((n, 2)), jnp.ones((1, 1))

    def points(B):
        return optimize_batch(Affine(A, B), x, u).xstar

    gradient = jax.grad(lambda B: points(B).sum())(jnp.ones((2, 1)))
    np.testing.assert_allclose(gradient, np.full((2, 1), 2.0 * n), rtol=1e-4)
    batch = jax.vmap(points)(jnp.arange(1.0, 4.0)[:, None, None] * jnp.ones((3, 2, 1)))
    expected = 2 * np.arange(1, 4)[:, None, None] * np.ones((3, n, 2))
    np.testing.assert_allclose(batch, expected, rtol=1e-5)


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.devices
def test_jacobians_and_spectra_stay_where_the_points_are(n):
    """Of a number of points that is filled up, and of one that is not."""
    device = jax.local_devices()[2]
    x, u = (jax.device_put(jnp.ones((n, size)), device) for size in (2, 1))

    def F(x, u):
        return jnp.tanh(x) * (1 + u)

    fps = decompose(jacobians(F, FixedPoints(xstar=x, inputs=u)))
    for name in ("J_xstar", "dFdu", "eigval_J_xstar", "eigvec_J_xstar", "is_stable"):
        assert getattr(fps, name).devices() == {device} and len(getattr(fps, name)) == n
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    rows = NamedSharding(mesh, P("rows"))
    x, u = (jax.device_put(jnp.ones((6, size)), rows) for size in (2, 1))
    J = jacobians(F, FixedPoints(xstar=x, inputs=u))
    assert len(J.J_xstar.devices()) == 2


@pytest.mark.devices
def test_pmap_over_four_devices():
    """Rows of row-wise solvers do not depend on each other, so devices share them out."""
    shards = starts().reshape(4, N_ROWS // 4, N_STATES)
    fps = jax.pmap(lambda x: optimize_batch(network(), x, inputs()[0]))(shards)
    assert len({shard.device for shard in fps.xstar.addressable_shards}) == 4
    fps = jax.tree.map(lambda leaf: leaf.reshape(N_ROWS, *leaf.shape[2:]), fps)
    assert_same_rows(fps, plain("default"))


@pytest.mark.devices
def test_shard_map_over_four_devices():
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    search = jax.shard_map(
        lambda x: dense(network(), x, inputs()[0]),
        mesh=mesh,
        in_specs=P("rows"),
        out_specs=P("rows"),
        check_vma=False,
    )
    fps = jax.jit(search)(starts())
    assert_same_rows(fps, plain("levenberg_marquardt"))
    assert len({shard.device for shard in fps.xstar.addressable_shards}) == 4


@pytest.mark.devices
def test_rows_laid_out_over_devices():
    """Automatic parallelism: the layout of the states is all that the caller says."""
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    x = jax.device_put(starts(), NamedSharding(mesh, P("rows")))
    assert_same_rows(dense(network(), x, inputs()[0]), plain("levenberg_marquardt"))


# ---- the chain and the pipeline ----------------------------------------------------------------


def test_the_points_of_these_searches_are_fixed_points():
    """What all comparisons above rest on."""
    x, q = newton_polish(network(), plain("default").xstar, plain("default").inputs)
    np.testing.assert_allclose(plain("default").xstar, x, atol=1e-5)
    assert q.max() < 1e-25


@pytest.mark.slow
def test_jit_of_the_chain():
    fps = jax.jit(chain)(network(), starts(), inputs()[0])
    expected = chain(network(), starts(), inputs()[0])
    assert 8 <= int(fps.valid.sum()) <= 27
    assert_same_rows(fps, expected)
    np.testing.assert_allclose(fps.J_xstar, expected.J_xstar, atol=1e-3)
    np.testing.assert_allclose(
        np.abs(fps.eigval_J_xstar), np.abs(expected.eigval_J_xstar), atol=2e-3
    )
    np.testing.assert_array_equal(fps.is_stable, expected.is_stable)


@pytest.mark.slow
def test_jit_of_the_pipeline_marks_what_a_plain_call_returns():
    found, all_fps = jax.jit(find_fixed_points)(network(), starts(), inputs()[0])
    expected, expected_all = plain_pipeline()
    assert found.n == N_ROWS and expected.n == int(found.valid.sum())
    assert_same_rows(found.compact().replace(valid=None), expected)
    assert_same_rows(all_fps, expected_all)
    np.testing.assert_allclose(found.compact().J_xstar, expected.J_xstar, atol=1e-3)
    np.testing.assert_array_equal(found.compact().is_stable, expected.is_stable)


@pytest.mark.slow
def test_vmap_of_the_pipeline_over_inputs():
    found, all_fps = jax.vmap(partial(find_fixed_points, network(), starts()))(inputs())
    for k in range(4):
        assert_same_rows(jax.tree.map(lambda leaf, k=k: leaf[k], all_fps), plain("default", k))
    first = jax.tree.map(lambda leaf: leaf[0], found).compact().xstar
    expected = plain_pipeline()[0].xstar
    # Rounding decides which row stands for a point, and so in which order points come.
    distance = np.linalg.norm(np.asarray(first)[:, None] - np.asarray(expected), axis=2)
    assert first.shape == expected.shape
    assert distance.min(axis=0).max() < 1e-3 and distance.min(axis=1).max() < 1e-3
    assert (found.valid.sum(axis=1) >= 8).all()


@pytest.mark.slow
def test_vmap_of_the_pipeline_over_networks():
    """An ensemble, as a stack of weights, gives the rows of a Python loop."""
    scales, x, u = (0.5, -1.0, 2.0), jnp.ones((4, 2)), jnp.ones((1, 2))
    find = partial(find_fixed_points, x_init=x, inputs=u, solver=LevenbergMarquardt(), mesh=None)
    networks = [Affine(a * jnp.eye(2), jnp.eye(2)) for a in scales]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    found, all_fps = jax.vmap(find)(stack)
    for k, F in enumerate(networks):
        expected, expected_all = find(F)
        row = jax.tree.map(lambda leaf, k=k: leaf[k], found).compact()
        np.testing.assert_allclose(row.xstar, expected.xstar, atol=1e-5)
        np.testing.assert_allclose(row.eigval_J_xstar, expected.eigval_J_xstar, atol=1e-6)
        np.testing.assert_array_equal(row.is_stable, expected.is_stable)
        np.testing.assert_allclose(all_fps.xstar[k], expected_all.xstar, atol=1e-5)


# ---- compilation -------------------------------------------------------------------------------


def find_one(A, u, name, **settings):
    """Return the fixed point of `A x + u` as a search for all of them finds it."""
    F = Affine(A * jnp.eye(2), jnp.eye(2))
    x, u = np.ones((4, 2), np.float32), np.full((1, 2), u)
    fps, _ = find_fixed_points(F, x, u, solver=SOLVERS[name], mesh=None, **settings)
    return fps.xstar[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "levenberg_marquardt"])
def test_networks_of_the_same_structure_share_a_compiled_search(name):
    assert find_one(0.5, 1.0, name) == pytest.approx([2.0, 2.0], abs=1e-5)
    with compilations() as compiled:
        assert find_one(0.75, 1.0, name) == pytest.approx([4.0, 4.0], abs=1e-5)
        assert find_one(-1.0, 3.0, name) == pytest.approx([1.5, 1.5], abs=1e-5)
        find_one(0.5, 1.0, name, max_iters=77, tol_q=1e-9, tol_dq=0.0)
    assert compiled == []


@pytest.mark.slow
def test_a_model_is_traced_once_for_each_search():
    """And twice for the first one, which shows whether it is random."""
    traces = []

    def F(x, u):
        traces.append(None)
        return 0.5 * x + u

    def search():
        traces.clear()
        optimize_batch(F, starts(), jnp.zeros((1, N_STATES)), solver=Adam())
        return len(traces)

    assert [search() for _ in range(3)] == [2, 1, 1]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["default", "levenberg_marquardt", "newton_krylov", "adam"])
@pytest.mark.slow
@pytest.mark.devices
def test_shard_map_with_its_own_checks(name):
    """As `jax.shard_map` is called by default, with `check_vma=True`; each part is a search."""
    solver = Adam(joint=False) if name == "adam" else SOLVERS[name]
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))

    def search(x):
        fps = optimize_batch(network(), x, inputs()[0], solver=solver, max_iters=10)
        return decompose(jacobians(network(), fps))

    sharded = jax.jit(jax.shard_map(search, mesh=mesh, in_specs=P("rows"), out_specs=P("rows")))
    assert leaves_equal(sharded(starts()).xstar, jax.jit(search)(starts()).xstar)


@pytest.mark.slow
def test_gradient_descent_on_the_weights_moves_a_time_constant():
    """That of the trained network's memories, from 1.5 steps to 3; and they hardly move."""
    fps, _ = plain_pipeline()
    memories, u = fps[np.asarray(fps.is_stable)].xstar, inputs()[0]

    def time_constants(F, x):
        fps = decompose(jacobians(F, optimize_batch(F, x, u)))
        return -1 / jnp.log(jnp.abs(fps.eigval_J_xstar[:, 0])), fps.xstar

    def loss(F, x):
        tau, xstar = time_constants(F, x)
        moved = jnp.sum((xstar - memories) ** 2, axis=1)
        return jnp.mean(jnp.log(tau / 3) ** 2 + 0.1 * moved), (tau, xstar)

    @jax.jit
    def descend(F, x):
        gradient, (tau, xstar) = jax.grad(loss, has_aux=True)(F, x)
        return jax.tree.map(lambda w, dw: w - 1e-3 * dw, F, gradient), xstar, tau

    F, x, taus = network(), memories, []
    for _ in range(150):
        F, x, tau = descend(F, x)
        taus.append(tau)
    assert len(memories) == 8
    assert taus[0].max() < 1.6
    np.testing.assert_allclose(taus[-1], 3.0, rtol=0.02)
    np.testing.assert_allclose(jax.vmap(F, (0, None))(x, u), x, atol=2e-3)  # one step behind
    assert jnp.linalg.norm(x - memories, axis=1).max() < 0.3
