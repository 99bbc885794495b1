"""`Search`: stopped anywhere and continued, it is the search that nothing stopped."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import WELL_POINTS, Affine, DoubleWell, leaves_equal

from slowpoints import (
    AbstractSolver,
    FixedPoints,
    LevenbergMarquardt,
    Search,
    Status,
    find_fixed_points,
    sample_states,
)
from slowpoints._core.records import read_record, write_record
from slowpoints.solvers import Found

N_INITS, CHUNK = 44, 8  # five chunks, and one of four rows
VERSION_1 = Path(__file__).parents[1] / "cases" / "format_1"


@cache
def trajectories():
    return np.random.default_rng(0).uniform(-1.5, 1.5, (6, 5, 2)).astype(np.float32)


def search(directory, F=None, state_traj=None, inputs=(0.0,), **settings):
    settings = {"n_inits": N_INITS, "chunk": CHUNK, "noise_scale": 0.2} | settings
    settings = {"solver": LevenbergMarquardt(), "mesh": None} | settings
    return Search(
        DoubleWell() if F is None else F,
        trajectories() if state_traj is None else state_traj,
        np.asarray(inputs, np.float32),
        directory=directory,
        **settings,
    )


def stored(directory):
    """Return what each chunk holds, to compare to the bit."""
    return [FixedPoints.load(path) for path in sorted(Path(directory).glob("*.npz"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the directory of a search that nothing stopped. To be copied, not changed."""
    directory = tmp_path_factory.mktemp("whole")
    assert search(directory).run() == 6
    return directory


def copy(directory, to):
    return shutil.copytree(directory, to / "copy")


# ---- what it finds -----------------------------------------------------------------------------


def starts(key=0, n_inits=N_INITS):
    """Return the states that the chunks draw."""
    key = jax.random.key(key)
    sizes = [min(CHUNK, n_inits - first) for first in range(0, n_inits, CHUNK)]
    return jnp.concatenate(
        [
            sample_states(jax.random.fold_in(key, i), trajectories(), size, 0.2)
            for i, size in enumerate(sizes)
        ]
    )


@pytest.mark.slow
def test_it_finds_what_one_search_of_all_states_finds(whole):
    done = search(whole)
    assert done.finished and done.n_done == done.n_chunks == 6
    fps = done.result()
    expected, _ = find_fixed_points(
        DoubleWell(), starts(), np.zeros(1), solver=LevenbergMarquardt(), mesh=None
    )
    order, order_expected = (np.argsort(np.asarray(f.xstar)[:, 0]) for f in (fps, expected))
    np.testing.assert_allclose(fps.xstar[order], WELL_POINTS, atol=1e-5)
    np.testing.assert_allclose(fps.xstar[order], expected.xstar[order_expected], atol=1e-6)
    np.testing.assert_allclose(fps.J_xstar[order], expected.J_xstar[order_expected], atol=1e-5)
    assert np.asarray(fps.is_stable)[order].tolist() == [True, False, True]


def test_points_that_are_known_are_not_stored_again(whole):
    """But for rows of lower `q`, of which there are fewer and fewer."""
    sizes = [fps.n for fps in stored(whole)]
    assert sizes[0] >= 3 and sum(sizes) < 12 < N_INITS


class Stay(AbstractSolver):
    """Leaves every row where it starts."""

    def run(self, F, x_init, inputs, stopping, report=None):
        return Found.nothing(x_init)


@pytest.mark.slow
def test_each_row_found_is_near_a_point_that_is_returned(tmp_path):
    """Where all states are fixed points, they lie more densely than `tol_unique`."""
    done = search(tmp_path, lambda x, u: x, tol_unique=0.3, solver=Stay())
    done.run()
    x = np.asarray(done.result(compute_jacobians=False).xstar)
    between = np.linalg.norm(x[:, None] - x, axis=2)
    assert between[~np.eye(len(x), dtype=bool)].min() > 0.3
    assert np.linalg.norm(starts()[:, None] - x, axis=2).min(axis=1).max() <= 0.6


def test_inputs_of_the_rows_go_with_their_chunks(tmp_path):
    inputs = np.where(np.arange(N_INITS) < 20, 0.0, 0.1)[:, None]
    done = search(tmp_path, inputs=inputs)
    done.run()
    fps = done.result(compute_jacobians=False)
    assert np.unique(fps.inputs).tolist() == [0.0, np.float32(0.1)]
    np.testing.assert_allclose(jax.vmap(DoubleWell())(fps.xstar, fps.inputs), fps.xstar, atol=1e-5)


@pytest.mark.slow
def test_rows_of_high_q_are_not_stored(tmp_path):
    settings = {"max_iters": 1, "n_inits": CHUNK}
    some, every = (
        search(tmp_path / name, **settings, final_q_threshold=value)
        for name, value in (("some", 1e-4), ("every", None))
    )
    some.run()
    every.run()
    (some_fps,), (every_fps,) = stored(tmp_path / "some"), stored(tmp_path / "every")
    assert 0 < some_fps.n < every_fps.n
    assert some_fps.qstar.max() < 1e-4 < every_fps.qstar.max()


def test_far_points_and_the_number_of_points_are_decided_at_the_end(whole):
    done = search(whole)
    with pytest.warns(
        UserWarning, match="No point is kept: of the 44 starts searched from so far, . dis"
    ):
        assert done.result(outlier_distance_scale=0.6, compute_jacobians=False).n < 3
    best = done.result(max_n_unique=1, decompose_jacobians=False)
    assert best.n == 1 and best.J_xstar is not None and best.is_stable is None


def test_more_states_continue_a_search_of_whole_chunks(tmp_path, whole):
    assert search(tmp_path, n_inits=2 * CHUNK).run() == 2
    assert search(tmp_path).run() == 4
    assert leaves_equal(stored(tmp_path), stored(whole))


@pytest.mark.devices
def test_several_devices_share_a_chunk(tmp_path):
    done = search(tmp_path, mesh="local", n_inits=CHUNK)
    done.run()
    assert (
        json.loads((tmp_path / "search.json").read_text())["content"]["environment"]["n_devices"]
        == jax.local_device_count()
    )
    assert 2 <= done.result(compute_jacobians=False).n <= 3


# ---- stopped and continued ---------------------------------------------------------------------


def test_a_search_in_steps_is_the_same_to_the_bit(tmp_path, whole):
    assert search(tmp_path).run(max_chunks=2) == 2
    assert search(tmp_path).run(max_chunks=0) == 0
    midway = search(tmp_path)
    assert (midway.n_done, midway.finished) == (2, False)
    assert midway.run(max_chunks=1) == 1
    assert midway.run() == 3 and midway.run() == 0
    assert leaves_equal(stored(tmp_path), stored(whole))
    assert leaves_equal(midway.result(), search(whole).result())


class Stopped(BaseException):
    """The process ends here."""


def stop_at(instant, monkeypatch, error):
    """Let what writes to the disk raise `error` at its `instant`-th call, and from then on."""
    calls = []

    def failing(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) >= instant:
                raise error
            return function(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    monkeypatch.setattr(np, "savez_compressed", failing(np.savez_compressed))


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("error", [Stopped(), OSError(errno.ENOSPC, "No space left on device")])
def test_stopped_at_any_write_nothing_is_lost_but_the_running_chunk(
    tmp_path, whole, monkeypatch, error
):
    """Temporary files stay behind as well, since `unlink` fails like the rest."""
    n_stopped = 0
    for instant in range(1, 60):
        directory, settings = tmp_path / str(instant), {"n_inits": 2 * CHUNK}
        with monkeypatch.context() as patch:
            stop_at(instant, patch, error)
            try:
                search(directory, **settings).run()
            except (Stopped, OSError):
                n_stopped += 1
            else:
                break
        done = search(directory, **settings)
        done.run()
        assert leaves_equal(stored(directory), stored(whole)[:2]), instant
        assert not list(directory.glob("chunk*.tmp"))
    assert n_stopped > 10


def test_only_one_process_runs_a_search_at_a_time(tmp_path):
    code = f"""
import fcntl, sys
file = open({str(tmp_path / "lock")!r}, "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    waiting = search(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(RuntimeError, match="Another process runs the search"):
            waiting.run(max_chunks=1)
        other.kill()
    assert waiting.run(max_chunks=1) == 1


KILLED = """
import sys
sys.path[:0] = {paths!r}
from test_long_search import search
search({directory!r}, n_inits={n_inits}).run(max_chunks=1)
print("running", flush=True)
search({directory!r}, n_inits={n_inits}).run()
print("finished", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_killed_at_random_instants_it_is_the_same_to_the_bit(tmp_path, n_kills):
    n_inits, draw = 60 * n_kills * CHUNK, random.Random(0)  # far more than these runs can do

    def command_in(name):
        """Return a process of its own: this one compiles without optimisation, and rounds apart."""
        paths = [str(Path(__file__).parents[k]) for k in (0, 1)]
        settings = {"paths": paths, "directory": str(tmp_path / name)}
        return [sys.executable, "-c", KILLED.format(**settings, n_inits=n_inits)]

    # What a run spends on compilation, the next one need not.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | cache
    command = command_in("killed")
    n_done = [0]
    for _ in range(n_kills):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout.readline() == "running\n"
            time.sleep(draw.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            assert process.stdout.read() == "", "it was finished before it was killed"
        n_done.append(search(tmp_path / "killed", n_inits=n_inits).n_done)
        assert n_done[-1] > n_done[-2]
    subprocess.run(command, check=True, timeout=300, env=environment)
    subprocess.run(command_in("whole"), check=True, timeout=300, env=environment)
    assert leaves_equal(stored(tmp_path / "killed"), stored(tmp_path / "whole"))
    results = [search(tmp_path / name, n_inits=n_inits).result() for name in ("killed", "whole")]
    assert leaves_equal(*results)


# ---- refused -----------------------------------------------------------------------------------


def scaled(factor):
    """Return a function that closes over its weights, one of them inside a compiled function."""
    weights = jnp.full((2, 2), 0.1)
    inner = jax.jit(lambda x: factor * np.eye(2, dtype=np.float32) @ x)
    return lambda x, u: weights @ inner(x)


@pytest.mark.parametrize(
    ("F", "other"),
    [
        (Affine(0.5 * jnp.eye(2), jnp.eye(2, 1)), Affine(0.25 * jnp.eye(2), jnp.eye(2, 1))),
        (lambda x, u: 0.5 * x, lambda x, u: 0.25 * x),
        (lambda x, u: 0.5 * jnp.tanh(x), lambda x, u: 0.5 * jnp.sin(x)),
        (scaled(1.0), scaled(2.0)),
    ],
    ids=["leaves", "constants", "operations", "closures"],
)
def test_another_model_is_refused(tmp_path, F, other):
    search(tmp_path, F)
    search(tmp_path, F)
    with pytest.raises(ValueError, match="belongs to another `F`"):
        search(tmp_path, other)


@pytest.mark.slow
def test_a_model_is_the_same_in_another_process(tmp_path):
    """Where functions lie in memory plays no part."""
    code = """
import jax, numpy as np
from slowpoints._network.network import digest_of_network
from slowpoints._network.trace import traced
from slowpoints import as_transition
F = lambda x, u: jax.nn.relu(np.eye(2, dtype=np.float32) @ x) + jax.jit(lambda u: 2 * u)(u)
print(digest_of_network(traced("test", as_transition(F), 2, 2, np.float32)))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and len(outputs.pop()) == 65


def test_other_data_are_refused(tmp_path):
    search(tmp_path)
    with pytest.raises(ValueError, match="belongs to another `inputs`"):
        search(tmp_path, inputs=[0.1])
    with pytest.raises(ValueError, match="belongs to another `state_traj`"):
        search(tmp_path, state_traj=trajectories() + 1)
    with pytest.raises(ValueError, match="belongs to another `state_traj`"):
        search(tmp_path, valid_bxt=np.eye(6, 5, dtype=bool))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunk", 9),
        ("random_seed", 1),
        ("noise_scale", 0.25),
        ("solver", LevenbergMarquardt(damping=0.5)),
        ("max_iters", 100),
        ("tol_q", 1e-10),
        ("tol_dq", 0.0),
        ("tol_unique", 1e-2),
        ("final_q_threshold", None),
    ],
)
def test_other_settings_are_refused(tmp_path, name, value):
    search(tmp_path)
    search(tmp_path, noise_scale=np.float64(0.2), tol_dq=np.float64(1e-20))
    with pytest.raises(ValueError, match=rf"`{name}` is .*, but the search .* begun with"):
        search(tmp_path, **{name: value})


@pytest.mark.parametrize("n_inits", [CHUNK, N_INITS - 1, N_INITS + 1])
def test_a_number_of_states_that_does_not_fit_is_refused(whole, n_inits):
    with pytest.raises(ValueError, match=f"`n_inits` is {n_inits}"):
        search(whole, n_inits=n_inits)


@pytest.mark.slow
def test_every_damaged_file_is_refused(tmp_path, whole):
    directory, draw = copy(whole, tmp_path), random.Random(0)
    files = [path for path in directory.iterdir() if path.name != "lock"]
    assert len(files) == 13
    for path in files:
        original = path.read_bytes()
        damages = [original[: len(original) // 2], b""]
        for _ in range(10):
            damaged = bytearray(original)
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(7)
            damages.append(bytes(damaged))
        for damaged in damages:
            path.write_bytes(damaged)
            try:
                same = json.loads(damaged) == json.loads(original)  # blanks may differ
            except ValueError:
                same = False
            if not same:
                with pytest.raises(ValueError, match=path.stem):
                    search(directory)
                with pytest.raises(ValueError, match=path.stem):
                    Search.load(directory)
        path.write_bytes(original)
    assert search(directory).finished


@pytest.mark.parametrize("name", ["search.json", "chunk-000002.json", "chunk-000002.npz"])
def test_a_missing_file_is_refused(tmp_path, whole, name):
    directory = copy(whole, tmp_path)
    (directory / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}' is missing"):
        search(directory)


def test_a_chunk_of_another_search_is_refused(tmp_path, whole):
    directory = copy(whole, tmp_path)
    search(tmp_path / "other", random_seed=1).run(max_chunks=1)
    for path in (tmp_path / "other").glob("chunk*"):
        shutil.copy(path, directory)
    with pytest.raises(ValueError, match=r"chunk-000000.json' belongs to another search"):
        search(directory)


def test_another_environment_is_warned_of(tmp_path):
    search(tmp_path)
    manifest = read_record(tmp_path / "search.json")
    manifest["environment"]["jax"] = "0.0"
    write_record(tmp_path / "search.json", manifest)
    with pytest.warns(UserWarning, match="another environment.*: jax was 0.0, is"):
        search(tmp_path)
    with pytest.raises(ValueError, match="another `F`, or to another version of JAX"):
        search(tmp_path, lambda x, u: 0.5 * x)


def test_what_was_damaged_meanwhile_is_noticed_by_run(tmp_path):
    running = search(tmp_path)
    running.run(max_chunks=1)
    (tmp_path / "chunk-000000.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        running.run(max_chunks=1)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_inits": 0}, "`n_inits` is 0; expected a whole number, at least 1"),
        ({"chunk": 0}, "`chunk` is 0; expected a whole number, at least 1"),
        ({"tol_unique": -1.0}, "`tol_unique` is -1.0; expected a number, at least 0"),
        ({"final_q_threshold": np.nan}, "`final_q_threshold` is nan; expected"),
        ({"state_traj": np.zeros((3, 2), np.float32)}, r"`state_traj` has shape \(3, 2\)"),
        ({"inputs": np.zeros((3, 1))}, r"`inputs` has shape \(3, 1\)"),
        ({"max_iters": 0}, "Search: `max_iters` is 0; expected"),
        ({"noise_scale": -1.0}, "`noise_scale` is -1.0; expected a finite number"),
        ({"valid_bxt": np.zeros((6, 5), bool)}, "`valid_bxt` is False everywhere"),
        ({"F": lambda x, u: x[:1]}, r"expected the next state, of shape \(2,\)"),
    ],
)
def test_wrong_arguments_are_named_and_leave_no_files(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        search(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.checks_input
def test_wrong_types_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"`chunk` is 2.5; expected a whole number"):
        search(tmp_path, chunk=2.5)
    with pytest.raises(TypeError, match="Search: `solver` is 'adam'; expected None or a solver"):
        search(tmp_path, solver="adam")
    with pytest.raises(TypeError, match="dtype int64"):
        search(tmp_path, state_traj=np.zeros((2, 2, 2), int))


@pytest.mark.checks_input
def test_there_is_no_result_before_a_chunk_is_done(tmp_path, whole):
    with pytest.raises(ValueError, match="no chunk is done yet"):
        search(tmp_path).result()
    with pytest.raises(ValueError, match=r"Search.result: `max_n_unique` is -1; expected"):
        search(whole).result(max_n_unique=-1)


# ---- all rows ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_rows(tmp_path_factory):
    """Return the directory of a search that kept its rows. To be copied, not changed."""
    pytest.importorskip("zarr")
    directory = tmp_path_factory.mktemp("rows")
    search(directory, keep_rows=True).run()
    return directory


@pytest.mark.slow_cases
def test_all_rows_are_those_of_one_search_of_all_states(whole, whole_rows):
    rows = FixedPoints.concatenate([Search.load_rows(whole_rows, k) for k in range(6)])
    _, expected = find_fixed_points(
        DoubleWell(), starts(), np.zeros(1), solver=LevenbergMarquardt(), mesh=None
    )
    assert rows.n == N_INITS
    np.testing.assert_array_equal(rows.x_init, expected.x_init)
    np.testing.assert_allclose(rows.xstar, expected.xstar, atol=1e-6)
    np.testing.assert_allclose(rows.F_xstar, expected.F_xstar, atol=1e-6)
    np.testing.assert_array_equal(rows.valid, expected.valid)
    np.testing.assert_array_equal(rows.n_iters, expected.n_iters)
    assert (rows.tol_unique, rows.dtype) == (1e-3, np.float32)
    for kept, others in zip(stored(whole_rows), stored(whole), strict=True):
        assert leaves_equal(kept, others), "the points do not depend on whether rows are kept"


def test_rows_are_open_to_any_reader_of_zarr(whole_rows):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(whole_rows / "rows.zarr", mode="r")
    assert group["xstar"].shape == (N_INITS, 2) and group["xstar"].chunks == (CHUNK, 2)
    np.testing.assert_array_equal(group["x_init"][CHUNK:], starts()[CHUNK:])


@pytest.mark.slow
def test_rows_of_a_search_in_steps_are_the_same_to_the_bit(tmp_path, whole_rows, monkeypatch):
    """Also where the process ended while it wrote a chunk's rows, or just after."""
    search(tmp_path, keep_rows=True).run(max_chunks=2)
    for name in ("sync", "replace"):
        with monkeypatch.context() as patch:
            stop_at(2 if name == "replace" else 1, patch, Stopped())
            patch.setattr(os, "sync", os.fsync)
            with pytest.raises(Stopped):
                search(tmp_path, keep_rows=True).run()
    assert search(tmp_path, keep_rows=True).n_done == 2
    search(tmp_path, keep_rows=True).run()
    for k in range(6):
        assert leaves_equal(Search.load_rows(tmp_path, k), Search.load_rows(whole_rows, k))


@pytest.mark.slow
def test_damaged_rows_are_refused(tmp_path, whole_rows):
    """Bit by bit in one chunk of each array, and as a whole in what describes the arrays."""
    directory = copy(whole_rows, tmp_path)
    expected = Search.load_rows(whole_rows, 2)
    files = sorted(path for path in (directory / "rows.zarr").rglob("*") if path.is_file())
    files = [path for path in files if path.name == "zarr.json" or "2" in path.parts[-2:]]
    assert len(files) == 1 + 9 + 8  # pieces of zeros, here the inputs, are not stored
    for path in files:
        original = path.read_bytes()
        damages = [b"", original[: len(original) // 2]]
        for bit in range(0, 8 * len(original), 61):
            damaged = bytearray(original)
            damaged[bit // 8] ^= 1 << bit % 8
            damages.append(bytes(damaged))
        for content in damages if path.name != "zarr.json" else damages[:2]:
            path.write_bytes(content)
            try:
                assert leaves_equal(Search.load_rows(directory, 2), expected), path
            except ValueError as error:
                assert "damaged" in str(error)
            else:
                assert path.name != "zarr.json", path
        path.write_bytes(original)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        search(directory, keep_rows=True).run()


def test_rows_that_are_not_there_are_refused(tmp_path, whole, whole_rows):
    with pytest.raises(ValueError, match="keeps no rows; make it with `keep_rows=True`"):
        Search.load_rows(whole, 0)
    with pytest.raises(FileNotFoundError, match="there is no chunk 6; 6 chunks"):
        Search.load_rows(whole_rows, 6)
    with pytest.raises(ValueError, match=r"`keep_rows` is True, but .* begun with False"):
        search(whole, keep_rows=True)
    with pytest.raises(ValueError, match=r"`keep_rows` is False, but .* begun with True"):
        search(whole_rows)


def test_keeping_rows_needs_zarr(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[zarr\]"'):
        search(tmp_path, keep_rows=True)
    assert not list(tmp_path.iterdir())


# ---- files of the past -------------------------------------------------------------------------


def test_a_directory_is_read_without_the_model(whole):
    fps = Search.load(whole)
    np.testing.assert_array_equal(
        np.sort(fps.xstar[:, 0]), np.sort(np.asarray(search(whole).result().xstar)[:, 0])
    )


def test_there_is_nothing_to_load_where_nothing_is_done(tmp_path):
    with pytest.raises(FileNotFoundError):
        Search.load(tmp_path)
    search(tmp_path)
    with pytest.raises(FileNotFoundError, match="No chunk"):
        Search.load(tmp_path)


def test_a_later_format_is_refused(tmp_path, whole):
    directory = copy(whole, tmp_path)
    manifest = read_record(directory / "search.json")
    write_record(directory / "search.json", manifest | {"format": 4})
    for read in (search, Search.load):
        with pytest.raises(ValueError, match="has format 4; this version reads up to 3"):
            read(directory)


@pytest.mark.slow_cases
@pytest.mark.parametrize("keep_rows", [False, True])
def test_a_search_that_was_begun_without_status_goes_on_without(tmp_path, keep_rows, monkeypatch):
    if keep_rows:
        pytest.importorskip("zarr")
    with monkeypatch.context() as patch:
        patch.setattr("slowpoints._storage.search.FORMAT_VERSION", 2)
        search(tmp_path, keep_rows=keep_rows).run(max_chunks=3)
    search(tmp_path, keep_rows=keep_rows).run()
    assert read_record(tmp_path / "search.json")["format"] == 2
    for fps in (Search.load(tmp_path), search(tmp_path, keep_rows=keep_rows).result()):
        assert fps.n == 3 and fps.status is None
    if keep_rows:
        assert Search.load_rows(tmp_path, 5).status is None


def test_a_search_stores_how_its_rows_ended(whole):
    assert (Search.load(whole).status == Status.FIXED_POINT).all()
    assert (search(whole).result().status == Status.FIXED_POINT).all()


def test_version_1_is_readable_for_ever():
    """Files of the first formats: the double well's three points, in two chunks and in one."""
    fps = Search.load(VERSION_1 / "search")
    np.testing.assert_allclose(fps.xstar[np.argsort(fps.xstar[:, 0])], WELL_POINTS, atol=1e-5)
    fps = FixedPoints.load(VERSION_1 / "points.npz")
    order = np.argsort(fps.xstar[:, 0])
    np.testing.assert_allclose(fps.xstar[order], WELL_POINTS, atol=1e-5)
    assert fps.is_stable[order].tolist() == [True, False, True]
    missing = {name for name in FixedPoints.array_fields if getattr(fps, name) is None}
    assert missing == {"valid", "period", "cycle_id", "status", "hits", "at_kink"}
