"""Public functions on several devices and in several threads at once: none waits for ever.

They run in a process of their own, which is given a time limit.
"""

import faulthandler
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

FOUR_DEVICES = "--xla_force_host_platform_device_count=4"
LIMIT = 240
"""Seconds, of which compilation takes nearly all."""

N_STATES, N_ROWS = 96, 256


# ---- what runs in the other process --------------------------------------------------------------


def functions():
    """Return functions of weights and rows of states, which return arrays with as many rows."""
    import jax
    import jax.numpy as jnp

    import slowpoints as sp

    def network(W):
        return lambda x, u: jnp.tanh(W @ x) + u

    def search(W, x, solver=None, **settings):
        settings = {"max_iters": 40} | settings
        return sp.optimize_batch(network(W), x, jnp.zeros(1), solver=solver, **settings)

    def points(x):
        return sp.FixedPoints(xstar=x, inputs=jnp.zeros((x.shape[0], 1)))

    def linear(W, x):
        return sp.jacobians(network(W), points(x[:4]))

    def gradient(f):
        """Return the gradient for the weights, once for each row."""

        def of_rows(W, x):
            slope = jax.grad(lambda W: jnp.sum(jnp.square(jnp.abs(f(W, x)))))(W)
            return jnp.broadcast_to(jnp.sum(slope), x.shape[:1])

        return of_rows

    def of_four(f):
        def of_rows(W, x):
            return jnp.tile(f(W, x[:4]), (x.shape[0] // 4,) + (1,) * (x.ndim - 1))

        return of_rows

    def eigenvalues(W, x):
        return sp.decompose(linear(W, x)).eigval_J_xstar

    def left(W, x):
        return sp.decompose(linear(W, x)).left_eigenvectors()[:, 0]

    def of_nested_batches(W, x):
        again = jax.vmap(lambda x: sp.decompose(linear(W, x)).eigval_J_xstar)
        return again(x.reshape(-1, 4, N_STATES)[:2]).reshape(-1, N_STATES)[:4]

    smooth = {
        "search": lambda W, x: search(W, x).xstar,
        "levenberg_marquardt": lambda W, x: search(W, x, sp.LevenbergMarquardt()).xstar,
        "newton_krylov": lambda W, x: search(W, x, sp.NewtonKrylov()).xstar,
        "adam": lambda W, x: search(W, x, sp.Adam(joint=False)).xstar,
        "q_fn": lambda W, x: sp.q_fn(network(W), x, jnp.zeros(1)),
        "jacobians": of_four(lambda W, x: linear(W, x).J_xstar[:, 0]),
        "decompose": of_four(eigenvalues),
        "left_eigenvectors": of_four(left),
        "nested batches": of_four(of_nested_batches),
        "low_rank": lambda W, x: x @ sp.low_rank(W, 2).M,
    }
    rough = {
        "decompose k": lambda W, x: sp.decompose(points(x), k=5, F=network(W)).eigval_J_xstar,
        "decompose k of matrices": of_four(
            lambda W, x: sp.decompose(linear(W, x), k=5).eigval_J_xstar
        ),
        "unique": lambda W, x: sp.unique(search(W, x)).xstar,
        "iterate": lambda W, x: sp.iterate(network(W), 3)(x[0], jnp.zeros(1))[None] + x,
        "report": lambda W, x: search(W, x, report=sp.solvers.Report(lambda *_: None, 5)).xstar,
    }
    return smooth | rough | {f"gradient of {name}": gradient(f) for name, f in smooth.items()}


def by_devices(repetitions, way, names):
    """Run the functions of these names on four devices, by `shard_map` or `pmap`, or in threads."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    keys = jax.random.split(jax.random.key(0))
    W = 1.5 * jax.random.normal(keys[0], (N_STATES, N_STATES)) / np.sqrt(N_STATES)
    x = jax.random.normal(keys[1], (N_ROWS, N_STATES))
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    every = functions()
    for name in names:
        f = every[name]
        print(name, flush=True)
        if way == "shard_map":
            specs = {"in_specs": (P(), P("rows")), "out_specs": P("rows"), "check_vma": False}
            run = jax.jit(jax.shard_map(f, mesh=mesh, **specs))
        elif way == "pmap":
            mapped = jax.pmap(f, in_axes=(None, 0))

            def run(W, x, mapped=mapped):
                return mapped(W, x.reshape(4, -1, N_STATES))
        else:
            part = jax.jit(f)

            def run(W, x, part=part):
                return in_threads(lambda i: part(W, x[i::4]))

        for _ in range(repetitions):
            out = jax.block_until_ready(run(W, x))
        assert all(jnp.shape(leaf)[0] for leaf in jax.tree.leaves(out)), name


def in_threads(f):
    out, errors = [None] * 4, []

    def one(i):
        try:
            out[i] = f(i)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return out


def analyses(repetitions, names):
    """Run the analyses of these names, or all, each in four threads at once.

    They are those that take no traced arrays.

    Where a search can be divided among devices, each thread divides its own among all four.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh

    import slowpoints as sp

    def well(x, u):
        return jnp.stack([x[0] + x[0] * (1 - x[0] ** 2) / 2 + u[0], x[1] / 2])

    def line(x, u):
        return jnp.append(x[:1], x[1:] / 2)

    starts = np.random.default_rng(0).uniform(-1.5, 1.5, (64, 2)).astype(np.float32)
    u = np.zeros(1, np.float32)
    fps, _ = sp.find_fixed_points(well, starts, u)
    W = np.random.default_rng(0).standard_normal((40, 40)) / 6
    left, right = np.float32([[-1, 0], [1, 0]])
    along_line = sp.slow_manifold(line, starts, np.zeros(0, np.float32)).points
    weights = np.float32(np.outer([1, -1, 1, -1, 1, -1], [1, -1, 1, -1, 1, -1])) / 3
    units = np.random.default_rng(1).standard_normal((64, 6)).astype(np.float32)
    of_units, _ = sp.find_fixed_points(lambda x, u: jnp.tanh(weights @ x), units, np.zeros(0))
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    key = jax.random.key(0)

    def search():
        with tempfile.TemporaryDirectory() as folder:
            sp.Search(well, starts[None], u, directory=folder, n_inits=64, chunk=32).run()

    calls = {
        "find_fixed_points": lambda: sp.find_fixed_points(well, starts, u),
        "optimize_batch": lambda: sp.optimize_batch(well, starts, u, mesh=mesh),
        "Search": search,
        "search_until": lambda: sp.search_until(well, starts[None], u, coverage=0.9, key=key),
        "find_all": lambda: sp.find_all(well, (-1.5 * np.ones(2), 1.5 * np.ones(2)), u),
        "certify": lambda: sp.certify(well, fps),
        "degree": lambda: sp.degree(well, fps),
        "find_cycles": lambda: sp.find_cycles(well, np.stack([starts, starts], axis=1), u),
        "passage_time": lambda: sp.passage_time(well, fps),
        "linear_modes": lambda: sp.linear_modes(fps),
        "connections": lambda: sp.connections(well, fps),
        "continuation": lambda: sp.continuation(
            sp.along(well, lambda s: jnp.stack([s])), fps, span=(-0.05, 0.05)
        ),
        "low_rank": lambda: sp.low_rank(W, 2),
        "rank_needed": lambda: sp.rank_needed(weights, of_units, jnp.tanh, n_starts=64, key=key),
        "basin_boundary": lambda: sp.basin_boundary(well, left, right, u),
        "smallest_kick": lambda: sp.smallest_kick(well, left, np.ones(2), u, max_amplitude=2),
        "smallest_pulse": lambda: sp.smallest_pulse(well, left, np.ones(1), u, max_amplitude=1),
        "slow_manifold": lambda: sp.slow_manifold(line, starts, np.zeros(0, np.float32)),
        "line_attractor": lambda: sp.line_attractor(along_line),
    }
    for name in names or calls:
        call = calls[name]
        print(name, flush=True)
        for _ in range(repetitions):
            in_threads(lambda i, call=call: call())


# ---- the tests -----------------------------------------------------------------------------------


def run(way, repetitions, limit, *names):
    """Run functions in a process of four devices; all of them if there are no names."""
    here = Path(__file__)
    environment = os.environ | {
        "XLA_FLAGS": FOUR_DEVICES,
        "PYTHONPATH": os.pathsep.join([str(here.parents[1]), *sys.path]),
    }
    command = [sys.executable, str(here), way, str(repetitions), str(limit), *names]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=limit + 60, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-200:]}\n{done.stderr[-3000:]}"


WAYS = ["shard_map", "threads", "analyses", pytest.param("pmap", marks=pytest.mark.exhaustive)]

RISKIEST = ("gradient of search", "decompose", "decompose k", "gradient of decompose")
"""Those that once waited for ever, or whose work is done on the host."""

RISKIEST_ANALYSES = ("find_fixed_points", "Search", "find_all", "connections", "continuation")
"""Those that divide their work among devices, or compile in several places."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.exhaustive
def test_nothing_waits_for_ever(way):
    run(way, 20, 6 * LIMIT)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_what_might_wait_does_not_wait_for_ever(way):
    run(way, 2, LIMIT, *(RISKIEST_ANALYSES if way == "analyses" else RISKIEST))


def run_marked(*marks):
    """Run the tests that are marked as needing four devices."""
    tests = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", " and ".join(marks)]
    files = [path for path in tests.rglob("test_*.py") if "mark.devices" in path.read_text()]
    done = subprocess.run(
        [*command, *map(str, files)],
        cwd=tests.parent,
        env=os.environ | {"SLOWPOINTS_TEST_DEVICES": "4", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]


@pytest.mark.slow
def test_what_needs_four_devices():
    run_marked("devices", "not slow")


@pytest.mark.slow
def test_what_needs_four_devices_and_takes_long():
    run_marked("devices", "slow")


if __name__ == "__main__":
    way, repetitions, limit, names = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    faulthandler.dump_traceback_later(limit, exit=True)
    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # nearly all is compilation
    if way == "analyses":
        analyses(repetitions, names)
    else:
        by_devices(repetitions, way, names or functions())
    faulthandler.cancel_dump_traceback_later()
