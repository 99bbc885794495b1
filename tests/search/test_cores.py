"""Parts of a search side by side on several cores: the same rows, and no thread waits for ever."""

import os
import subprocess
import sys
import threading
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import SOLVERS, Affine, case, compilations, trained
from threadpoolctl import threadpool_info

from slowpoints import (
    Adam,
    KrylovTrustRegion,
    LevenbergMarquardt,
    NewtonKrylov,
    Status,
    as_transition,
    optimize_batch,
    unique,
)
from slowpoints._core.arrays import rounded_up
from slowpoints._linear_algebra import cores
from slowpoints._linear_algebra.cores import one_thread_for_lapack, side_by_side, usable_cores
from slowpoints._network.trace import traced
from slowpoints._search import optimize_batch as search_module
from slowpoints._search.search_in_stages import _rows_of_program
from slowpoints._solvers.base import Found, stages_of

NO_INPUT = np.zeros(3, np.float32)


def starts(n, dtype=np.float32):
    rng = np.random.default_rng(0)
    states = case("gru")["traj"].reshape(-1, 16)[rng.choice(64 * 64, n)]
    return (states + 0.5 * rng.standard_normal(states.shape)).astype(dtype)


@pytest.fixture
def on_cores(monkeypatch):
    """Return a function that sets how many cores there are, and lists the threads that search."""

    def set_to(n):
        threads = []
        search = search_module.search_in_stages

        def watched(*args):
            threads.append(threading.get_ident())
            return search(*args)

        monkeypatch.setattr(search_module, "search_in_stages", watched)
        monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: range(n), raising=False)
        return threads

    return set_to


def counted(n):
    """Return `usable_cores` of a search of `n` states, as many as the machine may have."""
    return usable_cores(trained("gru"), jnp.asarray(starts(n)))


# ---- the same result ---------------------------------------------------------------------------


@pytest.fixture
def compiled_as_users_do():
    """How a sum is rounded may depend on the number of rows, where little is optimised."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_users_do")
@pytest.mark.parametrize(
    "solver",
    [
        None,
        *(
            pytest.param(solver, marks=pytest.mark.slow)
            for solver in (NewtonKrylov(lanes=32), Adam(joint=False, lanes=32))
        ),
    ],
)
def test_parts_give_the_same_rows_to_the_bit(on_cores, solver):
    """The exact steps as well, which a few of these rows need."""
    n = 800
    rows, iters = (starts(n), NO_INPUT), 30 if isinstance(solver, Adam) else 5000
    on_cores(1)
    alone = optimize_batch(trained("gru"), *rows, solver=solver, max_iters=iters)
    threads = on_cores(3)
    parts = optimize_batch(trained("gru"), *rows, solver=solver, max_iters=iters)
    assert len(threads) == 3 and len(set(threads)) > 1
    assert threading.get_ident() not in threads
    for name in ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq", "n_iters", "status"):
        there, here = getattr(parts, name), getattr(alone, name)
        assert there.dtype == here.dtype and isinstance(there, jax.Array)
        np.testing.assert_array_equal(there, here)


def test_labels_inputs_and_progress_belong_to_their_rows(on_cores):
    on_cores(2)
    n, seen = 300, []
    u = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
    fps = optimize_batch(
        Affine(0.5 * jnp.eye(2), jnp.ones((2, 1))),
        np.zeros((n, 2), np.float32),
        u,
        cond_id=np.arange(n) % 7,
        rows_at_a_time=140,
        progress=seen.append,
    )
    np.testing.assert_allclose(fps.xstar, np.repeat(2 * u, 2, axis=1), atol=1e-5)
    np.testing.assert_array_equal(fps.inputs, u)
    np.testing.assert_array_equal(fps.cond_id, np.arange(n) % 7)
    assert [part.n for part in seen] == [140, 140, 20]
    np.testing.assert_array_equal(np.concatenate([part.cond_id for part in seen]), fps.cond_id)


@pytest.mark.slow
@pytest.mark.devices
def test_parts_stay_where_the_states_are(on_cores):
    """As free to be moved as these, with other arrays, or bound to a device."""
    on_cores(2)
    F, x = trained("gru"), starts(300)
    assert not optimize_batch(F, x, NO_INPUT).xstar.committed
    device = jax.local_devices()[-1]
    fps = optimize_batch(F, jax.device_put(x, device), NO_INPUT)
    assert fps.xstar.committed and fps.xstar.devices() == {device}


@pytest.mark.slow
@pytest.mark.devices
def test_a_mesh_takes_chunks(on_cores):
    on_cores(2)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",))
    F, x = trained("gru"), starts(101)
    fps = optimize_batch(F, x, NO_INPUT, mesh=mesh, rows_at_a_time=40)
    alone = optimize_batch(F, x, NO_INPUT)
    np.testing.assert_array_equal(fps.status, alone.status)
    # How far an escaping row comes depends on rounding, and with it on what is compiled.
    at_points = alone.status != Status.ESCAPED
    assert np.sum(at_points) > 90
    np.testing.assert_allclose(fps.xstar[at_points], alone.xstar[at_points], atol=1e-4)


@pytest.mark.slow
def test_few_rows_are_not_divided(on_cores):
    threads = on_cores(8)
    optimize_batch(trained("gru"), starts(511), NO_INPUT)
    assert threads == [threading.get_ident()]


@pytest.mark.slow
def test_a_bound_on_memory_is_one_for_all_parts_together(on_cores):
    """Two searches would need more memory for their lanes."""
    threads = on_cores(2)
    done = []
    optimize_batch(
        trained("gru"), starts(512), NO_INPUT, memory_limit=1_000_000, progress=done.append
    )
    assert len(done) > 1 and set(threads) == {threading.get_ident()}


def test_what_goes_wrong_in_a_part_is_raised(on_cores):
    on_cores(2)

    def refuses(part):
        if part == 3:
            raise RuntimeError("part 3")
        return part

    with pytest.raises(RuntimeError, match="part 3"):
        side_by_side(refuses, [1, 2, 3, 4], 2)


# ---- the caller's settings ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_callers_precision_holds_in_every_part(on_cores):
    rows = starts(512, np.float64), NO_INPUT
    with jax.enable_x64(True):
        on_cores(1)
        alone = optimize_batch(trained("gru"), *rows)
        threads = on_cores(2)
        fps = optimize_batch(trained("gru"), *rows)
    assert len(threads) == 2 and fps.xstar.dtype == np.float64
    np.testing.assert_array_equal(fps.xstar, alone.xstar)


@pytest.mark.parametrize(
    "setting", [jax.debug_nans(True), jax.numpy_rank_promotion("raise")], ids=["nans", "rank"]
)
def test_settings_that_other_threads_would_not_have_keep_the_search_in_this_one(on_cores, setting):
    on_cores(2)
    assert counted(128) == 2
    with setting:
        assert counted(128) == 1


@pytest.mark.slow
def test_inside_jit_nothing_is_divided(on_cores):
    on_cores(2)
    F, x = trained("gru"), starts(128)
    threads = on_cores(2)
    inside = eqx.filter_jit(lambda x: optimize_batch(F, x, NO_INPUT))(x)
    assert not threads
    outside = optimize_batch(F, x, NO_INPUT)
    np.testing.assert_array_equal(inside.status, outside.status)
    # Other rows end where rounding leaves them.
    exact = outside.status == Status.FIXED_POINT
    assert np.sum(exact) > 100
    np.testing.assert_allclose(inside.xstar[exact], outside.xstar[exact], atol=1e-5)


# ---- networks that may block threads -----------------------------------------------------------


def implicit(x, u):
    """The next state is the solution of linear equations."""
    W = 0.5 * jnp.eye(2) + 0.1 * jnp.outer(x, x)
    return jnp.linalg.solve(jnp.eye(2) + W, jnp.tanh(x))


@jax.custom_jvp
def with_such_a_derivative(x, u):
    return 0.5 * x


@with_such_a_derivative.defjvp
def _rule(primals, tangents):
    eye = jnp.eye(primals[0].size)
    return 0.5 * primals[0], jnp.linalg.solve(2 * eye, tangents[0])


def with_a_callback(x, u):
    return jax.pure_callback(lambda x: np.tanh(x), x, x, vmap_method="broadcast_all")


@pytest.mark.parametrize(
    "network, forward_mode, expected",
    [
        (implicit, True, 1),
        (with_such_a_derivative, True, 1),
        (lambda x, u: 0.5 * x, True, 5),
        (lambda x, u: 0.5 * x, False, 5),
    ],
)
def test_networks_with_factorisations_are_searched_by_one_thread(
    on_cores, network, forward_mode, expected
):
    """Two batches of factorisations at a time can come to wait for each other for ever."""
    on_cores(5)
    x = jnp.zeros((128, 2))
    F = traced("test", as_transition(network), 2, 1, x.dtype, forward_mode=forward_mode)
    assert usable_cores(F, x) == expected


def test_networks_with_callbacks_are_searched_by_one_thread(on_cores):
    @jax.custom_vjp
    def F(x, u):
        return with_a_callback(x, u)

    F.defvjp(lambda x, u: (F(x, u), x), lambda x, g: (g, None))
    on_cores(5)
    x = jnp.zeros((128, 2))
    network = traced("test", as_transition(F), 2, 1, x.dtype, forward_mode=False)
    assert usable_cores(network, x) == 1


def equations_of(jaxpr):
    """Yield the operations of a traced function, and of those that it calls."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        is_jaxpr = lambda value: hasattr(value, "eqns") or hasattr(value, "jaxpr")  # noqa: E731
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from equations_of(value)


def decompositions_of_batches(traced):
    """Return the operations that XLA would share out over its threads."""

    def is_one(equation):
        shapes = [value.aval.shape for value in equation.invars]
        has_batch = max(int(np.prod(shape[:-2])) for shape in shapes) > 1 if shapes else False
        return equation.primitive.name in cores._WAITING and has_batch

    return [equation.primitive.name for equation in filter(is_one, equations_of(traced))]


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n_states", [4, 20, 300])
def test_no_solver_decomposes_a_batch(name, n_states):
    """Two threads that do, or two devices, can come to wait for each other for ever."""
    F = as_transition(lambda x, u: jnp.tanh(1.5 * x) + u)
    x, u = jnp.zeros((9, n_states)), jnp.zeros((9, n_states))

    def search(x, u):
        return optimize_batch(F, x, u, solver=SOLVERS[name]).xstar

    assert decompositions_of_batches(jax.make_jaxpr(search)(x, u)) == []


def test_such_a_decomposition_would_be_noticed():
    batch = jnp.ones((5, 3, 3))
    for decompose in (jnp.linalg.cholesky, jnp.linalg.eigh, jax.scipy.linalg.lu_factor):
        assert decompositions_of_batches(jax.make_jaxpr(jax.jit(decompose))(batch))
        mapped = jax.make_jaxpr(partial(jax.lax.map, decompose))(batch)
        assert not decompositions_of_batches(mapped)


@pytest.mark.slow
def test_solvers_of_ones_own_use_one_thread_unless_they_say_otherwise(on_cores):
    class Own(NewtonKrylov):
        may_run_side_by_side = False

    for solver, expected in ((NewtonKrylov(lanes=32), 2), (Own(lanes=32), 1)):
        threads = on_cores(2)
        optimize_batch(trained("gru"), starts(512), NO_INPUT, solver=solver)
        assert len(threads) == expected
    assert not LevenbergMarquardt().may_run_side_by_side


@pytest.mark.slow
def test_searches_of_several_threads_come_to_an_end():
    """More threads than there are cores, and most rows take exact steps, with factorisations."""
    rng, done = np.random.default_rng(0), []
    W = jnp.asarray(3 * rng.standard_normal((40, 40)) / np.sqrt(40), jnp.float32)
    x = rng.standard_normal((128, 40)).astype(np.float32)

    def search():
        done.append(optimize_batch(lambda x, u: jnp.tanh(W @ x), x, NO_INPUT))

    threads = [threading.Thread(target=search, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(done) == 4
    assert (np.asarray(done[0].n_iters) > 5).sum() > 64


# ---- LAPACK ------------------------------------------------------------------------------------


def threads_of_lapack():
    """Return the threads of the libraries that were there at the first search, by their paths."""
    there = {lib.filepath for lib in cores._libraries().lib_controllers if lib.user_api == "blas"}
    return {
        lib["filepath"]: lib["num_threads"] for lib in threadpool_info() if lib["filepath"] in there
    }


def test_lapack_has_its_threads_back_when_the_last_search_is_done():
    before = threads_of_lapack()
    assert before
    first, second = one_thread_for_lapack(), one_thread_for_lapack()
    first.__enter__()
    second.__enter__()
    assert set(threads_of_lapack().values()) == {1}
    first.__exit__(None, None, None)
    assert set(threads_of_lapack().values()) == {1}
    second.__exit__(None, None, None)
    assert threads_of_lapack() == before


def test_lapack_has_its_threads_back_after_an_error():
    before = threads_of_lapack()
    with pytest.raises(KeyError), one_thread_for_lapack():
        raise KeyError
    assert threads_of_lapack() == before


# ---- threads of the user's own -----------------------------------------------------------------


TWO_THREADS = """if True:
    import os, threading, jax.numpy as jnp, numpy as np, slowpoints

    rng = np.random.default_rng(0)
    x = rng.choice([-0.8585596366, 0.0, 0.8585596366], (64, 16))  # points of tanh(1.5 x)
    fps = slowpoints.FixedPoints(jnp.asarray(x, jnp.float32), inputs=jnp.zeros((64, 1)))

    G = lambda x, s: jnp.tanh(1.5 * x + 0.1 * s)

    def follow():
        slowpoints.continuation(G, fps, (-1.0, 1.0), max_steps=20)

    def often():
        for _ in range(100):
            follow()

    follow()  # compiles
    threads = [threading.Thread(target=often, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("done")
"""


@pytest.mark.slow
def test_calls_in_two_threads_do_not_wait_for_each_other_for_ever():
    """They did: XLA's threads all waited for parts of a factorisation that none was left to do.

    In a process of its own, which can be ended, and where XLA has no more threads than cores.
    """
    command = [sys.executable, "-c", TWO_THREADS]
    settings = {**os.environ, "XLA_FLAGS": ""}
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=150)
    assert "done" in ended.stdout, ended.stderr


# ---- sizes that stay compiled ------------------------------------------------------------------


def test_there_are_eight_sizes_in_each_octave():
    sizes = {rounded_up(n) for n in range(513, 1025)}
    assert len(sizes) == 8 and 1024 in sizes
    for n in [*range(1, 3000), 10**6 + 1]:
        assert n <= rounded_up(n) <= 1.13 * n + 1


@pytest.mark.slow
def test_another_number_of_states_does_not_compile_the_search_again(on_cores):
    on_cores(2)
    F = trained("gru")
    for n in (1000, 970, 1, 4096):
        with compilations() as compiled:
            fps = optimize_batch(F, starts(n), NO_INPUT)
            assert unique(fps, 1e-3).valid.shape == (n,)
        assert n == 1000 or not compiled


def test_programs_are_of_few_sizes_and_stay_within_the_memory():
    sizes = _rows_of_program
    large = 2**40
    for n_states, expected in ((1, 512), (2048, 512), (2049, 256), (4096, 256), (10**5, 64)):
        assert {sizes(n, n_states, large) for n in (1, 63, 511, 512, 4096)} == {expected}
    assert sizes(10, 1000, 10**6) == 10 and sizes(600, 1000, 10**6) == 512


@pytest.mark.slow
def test_a_run_of_ones_own_takes_the_place_of_the_stages_of_the_class_below():
    """Of any class, and outside `jit` as well as inside."""
    for below in (KrylovTrustRegion, NewtonKrylov, partial(Adam, joint=False)):
        kind = getattr(below, "func", below)

        class Own(kind):
            def run(self, F, x_init, inputs, stopping, report=None):
                return Found.nothing(x_init + 1)

        own = Own(**getattr(below, "keywords", {}))
        x = np.zeros((3, 2), np.float32)
        for search in (optimize_batch, eqx.filter_jit(optimize_batch)):
            fps = search(lambda x, u: 0.5 * x, x, np.zeros(1, np.float32), solver=own)
            np.testing.assert_array_equal(fps.xstar, x + 1)
        assert stages_of(below(), 3) == below().stages(3) != ()
