"""Compiled programs are kept on disk: what the next process finds, and what may go wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import equinox as eqx
import generated_programs as generated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from networks import compilations

import slowpoints
from slowpoints import find_fixed_points
from slowpoints._core import program_folder as program_files
from slowpoints._core import programs
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.text_of_call import text_of_call
from slowpoints._network.comparable import comparable
from slowpoints._network.network import programs_of
from slowpoints._network.trace import traced
from slowpoints._search.search_in_stages import _run_stage

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
import slowpoints
compiled = []
def note(event, _, **more):
    if event.endswith("backend_compile_duration"):
        compiled.append(more.get("fun_name"))
jax.monitoring.register_event_duration_secs_listener(note)
W = np.float32(1.6 * np.random.default_rng(0).normal(size=(6, 6)) / np.sqrt(6))
x = np.float32(np.random.default_rng(1).normal(size=(40, 6)))
factor = float(sys.argv[1]) if sys.argv[1:] else 1.0
def network(x, u):
    return jnp.tanh(W @ x + u)
fps, _ = slowpoints.find_fixed_points(network, factor * x, np.zeros(6, np.float32))
order = np.lexsort(np.round(np.asarray(fps.xstar), 3).T)
values = np.round(np.abs(np.asarray(fps.eigval_J_xstar)[order]), 3)
print(len(compiled), fps.n, np.round(np.asarray(fps.xstar)[order], 3).tolist(), values.tolist())
"""


def run(folder, *arguments, **variables):
    """Run the script in a process of its own, and return what it prints and its warnings."""
    done = start(folder, *arguments, **variables)
    out, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    n_compiled, rest = out.split(" ", 1)
    return int(n_compiled), rest, errors


def start(folder, *arguments, **variables):
    environment = os.environ | {"SLOWPOINTS_CACHE": str(folder), "XLA_FLAGS": ""} | variables
    command = [sys.executable, "-c", SCRIPT, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder that one process has filled, and what this process printed."""
    folder = tmp_path_factory.mktemp("programs") / "new"
    n_compiled, out, errors = run(folder)
    assert n_compiled > 3 and not errors
    return folder, out


def kept(folder):
    return sorted(Path(folder).glob("*.program"))


# ---- the next process --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_next_process_compiles_nothing_and_finds_the_same(filled):
    folder, expected = filled
    names = kept(folder)
    for starts in ("1.0", "1.1"):
        n_compiled, out, errors = run(folder, starts)
        assert n_compiled == 0 and not errors and kept(folder) == names
        assert out == expected or starts != "1.0"


DRAWN_FIRST = """
import jax, numpy as np, slowpoints
W = 2 * jax.random.normal(jax.random.key(0), (8, 8)) / 8**0.5
x = np.asarray(slowpoints.sample_states(jax.random.key(1), np.zeros((2, 5, 8), np.float32), 4, 0.5))
fps = slowpoints.optimize_batch(
    lambda x, u: jax.numpy.tanh(W @ x), x, np.zeros(1, "f"), solver=slowpoints.BoundedNewton()
)
print(np.asarray(fps.status))
"""


@pytest.mark.slow
def test_the_first_program_that_is_read_need_not_be_one_with_lapack(tmp_path):
    """States that are drawn first were read first, before LAPACK's functions were looked up."""
    environment = os.environ | {"SLOWPOINTS_CACHE": str(tmp_path), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", DRAWN_FIRST]
    first, again = (
        subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2)
    )
    assert first.returncode == again.returncode == 0, again.stderr
    assert first.stdout == again.stdout != ""


@pytest.mark.slow
def test_a_damaged_program_is_compiled_again(filled, tmp_path):
    folder, expected = filled
    for path in kept(folder):
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2])
    n_compiled, out, errors = run(tmp_path)
    assert n_compiled == len(kept(folder)) and out == expected and not errors
    assert run(tmp_path)[:2] == (0, expected)


@pytest.mark.slow
def test_off_keeps_nothing(filled):
    n_compiled, out, errors = run("off")
    assert n_compiled == len(kept(filled[0])) and out == filled[1] and not errors
    assert not Path("off").exists()


@pytest.mark.slow
def test_jaxs_own_cache_takes_the_place_of_ours(tmp_path):
    ours, jaxs = tmp_path / "ours", tmp_path / "jax"
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(jaxs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    run(ours, **variables)
    assert not ours.exists() and any(jaxs.iterdir())


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told_of_once(filled, tmp_path):
    (tmp_path / "file").write_text("")
    n_compiled, out, errors = run(tmp_path / "file" / "programs")
    assert n_compiled > 3 and out == filled[1]
    assert errors.count("cannot be kept") == 1 and "SLOWPOINTS_CACHE" in errors


@pytest.mark.slow
def test_many_processes_at_once_and_one_that_is_killed(filled, tmp_path):
    """They start on an empty folder; one is killed as soon as something is written."""
    doomed = start(tmp_path)
    others = [start(tmp_path) for _ in range(12)]
    deadline = time.monotonic() + 200
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.001)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    for process in others:
        out, errors = process.communicate(timeout=600)
        assert out.split(" ", 1)[1] == filled[1] and not errors
    assert run(tmp_path)[:2] == (0, filled[1])


# ---- in this process ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    before = list(program_files._chosen)
    slowpoints.cache_programs(tmp_path)
    yield tmp_path
    program_files._chosen[:] = before


def scaled(x, factor):
    return {"y": factor * x}


def test_a_call_says_where_programs_are_kept(folder):
    assert program_files.program_folder() == folder
    CompiledOnce(scaled)(jnp.ones(3), 2.0)
    assert len(kept(folder)) == 1
    slowpoints.cache_programs(None)
    assert program_files.program_folder() is None
    CompiledOnce(scaled)(jnp.ones(3), 4.0)
    assert len(kept(folder)) == 1


@pytest.mark.checks_input
def test_a_folder_is_a_path(folder):
    with pytest.raises(TypeError, match="cache_programs: `folder` is 3; expected a path"):
        slowpoints.cache_programs(3)
    assert program_files.program_folder() == folder


def test_the_default_is_the_users_cache_folder(monkeypatch):
    monkeypatch.setattr(program_files, "_chosen", [])
    monkeypatch.setenv("SLOWPOINTS_CACHE", "off")
    assert program_files.program_folder() is None
    monkeypatch.delenv("SLOWPOINTS_CACHE")
    told = program_files.program_folder()
    assert told is not None and told.parts[-2:] == ("slowpoints", "programs")


@pytest.mark.slow
def test_whatever_a_program_depends_on_tells_it_from_others(folder):
    """A number of Python, a shape, a type, a setting."""
    x = np.ones(3, np.float32)
    calls = [
        lambda: CompiledOnce(scaled)(x, 2.0),
        lambda: CompiledOnce(scaled)(x, 2),
        lambda: CompiledOnce(scaled)(x, True),
        lambda: CompiledOnce(scaled)(np.ones(4, np.float32), 2.0),
        lambda: CompiledOnce(scaled)(x.astype(np.int32), 2.0),
        lambda: CompiledOnce(scaled)(x, x),
        lambda: CompiledOnce(scaled)(jnp.asarray(1.0), 2.0),
        lambda: CompiledOnce(scaled)(jnp.asarray(1), 2.0),
    ]
    first = [np.asarray(call()["y"]) for call in calls]
    with jax.enable_x64(True):
        wide = np.asarray(calls[0]()["y"])
    n = len(kept(folder))
    programs.forget_programs()
    with compilations() as compiled:
        again = [np.asarray(call()["y"]) for call in calls]
    assert not compiled and len(kept(folder)) == n > 5
    for a, b in zip(first, again, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    dtypes = [a.dtype for a in first]
    assert dtypes[4] == dtypes[6] == np.float32 and dtypes[7] == np.float32
    assert [a.ravel()[0] for a in first] == [2, 2, 1, 2, 2, 1, 2, 2] and wide.dtype == np.float32


def test_texts_of_calls_tell_settings_models_and_sources_apart(folder, monkeypatch):
    """What is found by its text is not traced, so all that matters has to be in it."""

    def text(solver, network=lambda x, u: jnp.tanh(2 * x), dtype=np.float32):
        F = traced("test", slowpoints.as_transition(network), 3, 1, np.dtype(np.float32))
        rows = np.ones((4, 3), dtype), np.ones((4, 1), dtype)
        return text_of_call(_run_stage._f, (F, solver, *rows, None))

    default = slowpoints.KrylovTrustRegion()
    known = text(default)
    assert known is not None and text(slowpoints.KrylovTrustRegion()) == known
    assert text(default, lambda x, u: jnp.tanh(2 * x)) == known
    others = {
        text(slowpoints.KrylovTrustRegion(radius=0.2)),
        text(slowpoints.KrylovTrustRegion(polish=False)),
        text(slowpoints.KrylovTrustRegion(dtype=np.float64)),
        text(slowpoints.NewtonKrylov()),
        text(default, lambda x, u: jnp.tanh(3 * x)),
        text(default, lambda x, u: jnp.sin(2 * x)),
        text(default, dtype=np.float64),
    }
    with jax.default_matmul_precision("highest"):
        others.add(text(default))
    with jax.enable_x64(True):
        others.add(text(default))
    source = "slowpoints._core.text_of_call._source"
    monkeypatch.setattr(source, lambda: "another state of the package")
    others.add(text(default))
    assert known not in others and None not in others and len(others) == 10
    device = jax.devices()[0]
    name = programs._digest(known, device, {})
    monkeypatch.setattr(programs, "_machine", lambda: ("another processor",))
    assert programs._digest(known, device, {}) != name


@pytest.mark.slow
def test_a_setting_of_a_solver_is_that_of_the_program_from_the_disk(folder):
    x, u = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.zeros(3, np.float32)
    iters = {}
    for radius in (0.15, 0.01, 0.15, 0.01):
        programs.forget_programs()
        solver = slowpoints.KrylovTrustRegion(radius=radius)
        fps = slowpoints.optimize_batch(lambda x, u: jnp.tanh(2 * x) + u, x, u, solver=solver)
        iters.setdefault(radius, []).append(np.asarray(fps.n_iters).tolist())
    assert iters[0.15][0] == iters[0.15][1] != iters[0.01][0] == iters[0.01][1]


def test_a_program_that_has_no_form_on_disk_is_used_all_the_same(folder, monkeypatch):
    """As XLA says for some devices."""

    def refuses(program):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED")

    monkeypatch.setattr(program_files, "serialize", refuses)
    with pytest.warns(UserWarning, match="cannot be kept.*UNIMPLEMENTED"):
        assert CompiledOnce(scaled)(jnp.ones(3), 7.0)["y"][0] == 7
    assert not kept(folder)


def test_functions_of_the_users_are_told_apart_by_what_they_do(folder):
    """Two functions of one name: their names say nothing about what they do."""

    def applied(f, x):
        return f(x)

    def made(factor):
        def f(x):
            return factor * x

        return f

    x = np.ones(3, np.float32)
    assert text_of_call(applied, (made(2.0), x)) is None
    for factor in (2.0, 3.0, 2.0):
        assert CompiledOnce(applied)(made(factor), x)[0] == factor
    assert len(kept(folder)) == 2


def test_a_rule_for_derivatives_of_the_users_is_part_of_what_a_program_does(folder):
    """The same function with two rules, whose gradients differ."""

    def network(slope):
        @jax.custom_jvp
        def bent(x):
            return jnp.tanh(x)

        @bent.defjvp
        def _(primals, tangents):
            return bent(primals[0]), slope * tangents[0]

        return lambda x, u: 0.5 * bent(x) + u

    points = slowpoints.FixedPoints(xstar=np.zeros((1, 2), np.float32), inputs=np.zeros((1, 2)))
    for slope in (1.0, 3.0, 1.0):
        programs.forget_programs()
        J = slowpoints.jacobians(network(slope), points).J_xstar
        assert np.allclose(J, 0.5 * slope * np.eye(2))


@pytest.mark.slow
def test_programs_that_call_python_are_not_kept(folder):
    """They hold the address of a function in this process."""

    def calling(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: np.float32(2 * x), like, x)

    assert CompiledOnce(calling)(jnp.ones(3))[0] == 2 and not kept(folder)
    told = []
    report = slowpoints.solvers.Report(lambda *_: told.append(1), every=1)
    x, u = np.ones((3, 2), np.float32), np.ones(2, np.float32)
    for n in (1, 2):
        told.clear()
        slowpoints.optimize_batch(lambda x, u: 0.5 * jnp.tanh(x) + u, x, u, report=report)
        jax.effects_barrier()
        assert told, f"call {n}"
        programs.forget_programs()


def test_threads_that_ask_for_one_program_compile_it_once(folder):
    slow = CompiledOnce(lambda x: jnp.linalg.inv(x) @ jnp.sin(x))
    results, x = [], jnp.eye(5)
    threads = [threading.Thread(target=lambda: results.append(slow(x))) for _ in range(4)]
    with compilations() as compiled:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 4 and len(compiled) == 1


def test_what_fails_to_trace_fails_each_time_and_leaves_nothing(folder):
    def fails(x):
        raise ValueError("not today")

    f = CompiledOnce(fails)
    for _ in range(2):
        with pytest.raises(ValueError, match="not today"):
            f(jnp.ones(2))
    assert not f._programs and not kept(folder)


def test_gradients_and_batches_go_through(folder):
    f = CompiledOnce(lambda x, factor: jnp.sum(factor * x**2))
    assert np.allclose(jax.grad(f)(jnp.ones(3), 2.0), 4)
    assert np.allclose(jax.vmap(lambda x: f(x, 2.0))(jnp.ones((4, 3))), 6)
    with jax.disable_jit():
        assert f(jnp.ones(3), 2.0) == 6
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        f(jnp.full(3, jnp.nan), 2.0)


def test_the_folder_is_bounded_and_the_oldest_go_first(folder, monkeypatch):
    f = CompiledOnce(scaled)
    (folder / "killed.program.1234.tmp").write_bytes(bytes(10**6))
    os.utime(folder / "killed.program.1234.tmp", (0, 0))
    for i in range(3):
        f(jnp.ones(3), float(i))
        newest = max(kept(folder), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (1000 * i, 1000 * i))
    sizes = {path: path.stat().st_size for path in kept(folder)}
    oldest = min(sizes, key=lambda path: path.stat().st_mtime)
    most = sum(sizes.values())
    monkeypatch.setattr(program_files, "_MOST_BYTES", most)
    f(jnp.ones(3), 3.0)
    assert not oldest.exists() and set(kept(folder)) - set(sizes)
    assert not list(folder.glob("*.tmp"))
    assert sum(path.stat().st_size for path in kept(folder)) <= most


def test_few_programs_of_one_function_are_held(folder, monkeypatch):
    monkeypatch.setattr(programs, "_MOST_IN_MEMORY", 2)
    f = CompiledOnce(scaled)
    for factor in (1.0, 2.0, 1.0, 3.0):
        assert f(jnp.ones(1), factor)["y"] == factor
    held = {key[1][1][1] for key in f._programs}
    assert held == {1.0, 3.0}


def test_programs_for_two_types_of_an_array_that_is_not_used_are_two(folder):
    """The text of a program leaves such an array out, but a call has to agree with its type."""
    f = CompiledOnce(lambda function, a, unused: function(a))
    for dtype in (np.int32, np.float32):
        assert f(lambda a: 2 * a, np.ones(2, np.float32), np.ones(1, dtype)).tolist() == [2, 2]
    assert len(kept(folder)) == 2


@pytest.mark.slow
def test_a_solver_of_the_users_is_told_apart_by_what_it_does(folder):
    """Two classes of one name, which differ in their code only."""

    def solver(factor):
        class Slower(slowpoints.solvers.AbstractRowSolver):
            lanes: int = 4

            def init(self, x):
                found = slowpoints.solvers.Found.nothing(x)
                return found

            def step(self, F, inputs, state, stopping):
                moved = state.x + factor * (jax.vmap(F)(state.x, inputs) - state.x)
                q = 0.5 * jnp.sum((jax.vmap(F)(moved, inputs) - moved) ** 2, axis=1)
                end = jnp.where(q < 1e-12, slowpoints.solvers.End.ROOT, slowpoints.solvers.End.NONE)
                return state._replace(x=moved, q=q, n_iters=state.n_iters + 1, end=end)

        return Slower()

    x, u = np.ones((3, 2), np.float32), np.ones(2, np.float32)
    steps = {}
    for factor in (1.0, 0.5, 1.0):
        programs.forget_programs()
        fps = slowpoints.optimize_batch(lambda x, u: 0.5 * x + u, x, u, solver=solver(factor))
        assert np.allclose(fps.xstar, 2, atol=1e-4)
        steps.setdefault(factor, set()).add(int(fps.n_iters[0]))
    assert all(len(n) == 1 for n in steps.values()) and max(steps[0.5]) > max(steps[1.0])


@pytest.mark.slow
def test_a_model_whose_weights_change_uses_the_same_programs(folder):
    class Net(eqx.Module):
        W: jax.Array

        def __call__(self, x, u):
            return jnp.tanh(self.W @ x + u)

    x, u = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32), np.zeros(2, np.float32)
    before, after = Net(1.5 * jnp.eye(2)), Net(0.5 * jnp.eye(2))  # a product is compiled as well
    find_fixed_points(before, x, u)
    names = kept(folder)
    programs.forget_programs()
    with compilations() as compiled:
        assert find_fixed_points(after, x, u)[0].n == 1
    assert not compiled and kept(folder) == names


def test_operations_of_the_users_own_are_told_apart_by_what_they_do(folder):
    """Their names say nothing about how they are computed."""

    def network(factor):
        scale = Primitive("scale")
        scale.def_abstract_eval(lambda x: x)
        mlir.register_lowering(scale, mlir.lower_fun(lambda x: factor * x, multiple_results=False))
        batching.primitive_batchers[scale] = lambda args, dims: (scale.bind(*args), dims[0])
        ad.deflinear(scale, lambda t: [factor * t])
        return lambda x, u: scale.bind(x) + u

    points = slowpoints.FixedPoints(xstar=np.ones((1, 2), np.float32), inputs=np.zeros((1, 2)))
    for factor in (0.5, 0.25, 0.5):
        programs.forget_programs()
        F = slowpoints.as_transition(network(factor))
        assert np.allclose(slowpoints.jacobians(F, points).J_xstar, factor * np.eye(2))


def test_settings_that_cannot_be_compared_are_told_apart():
    """An object without equality is another one in another process."""
    one, other = {1}, {1}
    texts = [repr(comparable([value])) for value in (one, other)]
    assert texts[0] != texts[1] and " at 0x" in texts[0]


def test_how_much_to_optimise_is_the_users_choice(monkeypatch):
    device, level = jax.devices("cpu")[0], "xla_backend_optimization_level"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert programs._options(device, "as usual")[level] == 1
    assert programs._options(device, "briefly")[level] == 0
    monkeypatch.setenv("XLA_FLAGS", f"--{level}=3")
    assert level not in programs._options(device, "as usual")
    monkeypatch.setenv("XLA_FLAGS", "")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert level not in programs._options(device, "as usual")
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_programs", [60, pytest.param(600, marks=pytest.mark.exhaustive)], ids=["some", "many"]
)
def test_generated_programs_of_one_text_are_equal(n_programs):
    """Else one of them would be given what was compiled for the other."""
    texts = {}
    for seed in range(n_programs):
        rng = np.random.default_rng(seed)
        F = generated.transition(generated.drawn_steps(rng, 1 + seed % 3))
        with jax.enable_x64(True):
            F = traced("test", slowpoints.as_transition(F), 3, 6, np.dtype(np.float64))
        (program,) = programs_of(F)
        assert texts.setdefault(program.whole_text(), program) == program
    assert sum(" at 0x" not in text for text in texts) > 0.9 * len(texts)
    assert len(set(texts.values())) == len(texts) > n_programs / 2
