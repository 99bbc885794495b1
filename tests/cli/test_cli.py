"""The commands find, show, plot and bench: what they do, and what they say if they cannot.

What the demo does is in `test_demo.py`, and whether the page about the commands is right in
`test_cli_page.py`.
"""

import contextlib
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import click
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from slowpoints import (
    FixedPointFinder,
    FixedPoints,
    Transition,
    save_checkpoint,
)
from slowpoints._cli import find as find_command
from slowpoints._cli import main
from slowpoints._cli.model import importable, load_model, takes_nothing
from slowpoints._cli.options import (
    OWN_HELP,
    documented_arguments,
    help_of,
    names_of,
    parameters_of_finder,
)
from slowpoints._core import arguments
from slowpoints._solvers.kinks.smooth import may_have_kinks
from slowpoints.flipflop import FlipFlopNetwork

pytestmark = pytest.mark.checks_input

ROOT = Path(__file__).parents[2]
# The modules, whose names the commands have as well.
FIND, PLOT, BENCH = (import_module(f"slowpoints._cli.{name}") for name in ("find", "plot", "bench"))
N = 64  # states to search from


class Pair(Transition):
    """Two units by themselves, with fixed points at -0.96, 0 and 0.96 each without input."""

    gain: jax.Array

    def __call__(self, x, u):
        return jnp.tanh(self.gain * x) + u


pair = Pair(jnp.full(2, 2.0))  # one object, so that one compiled search serves all tests
POINTS = 9


def run(*args):
    """Run in this process; return the exit code, standard output and standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main.main([str(arg) for arg in args], prog_name="slowpoints")
            code = 0
        except SystemExit as end:
            code = end.code
    return code, stdout.getvalue(), stderr.getvalue()


def says(*args, code=1):
    """Return the error that a command ends with: one line, after click's usage if `code` is 2."""
    ended_with, stdout, stderr = run(*args)
    assert ended_with == code, (stdout, stderr)
    assert "Traceback" not in stderr
    *usage, message = stderr.rpartition("\r")[2].strip().splitlines()  # after a progress bar
    assert bool(usage) == (code == 2), stderr
    assert message.startswith("Error: ")
    return message.removeprefix("Error: ")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with a network and the states that it visits."""
    monkeypatch.chdir(tmp_path)
    write("model.py", "from test_cli import pair as net")
    rng = np.random.default_rng(0)
    np.save("states.npy", rng.uniform(-1.2, 1.2, (4, 50, 2)).astype(np.float32))
    return tmp_path


def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


MODEL = ("model.py:net", "--states", "states.npy")
SEARCH = ("find", *MODEL, "--inputs", "0,0", "--n-inits", N)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return a file of points, and one of all rows."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("found")
    os.chdir(folder)
    try:
        write("model.py", "from test_cli import pair as net")
        states = np.random.default_rng(0).uniform(-1.2, 1.2, (4, 50, 2))
        np.save("states.npy", states.astype(np.float32))
        assert run(*SEARCH, "--out", "fps.npz", "--all-rows", "rows.npz")[0] == 0
    finally:
        os.chdir(before)
    return folder / "fps.npz", folder / "rows.npz"


# ---- find ----------------------------------------------------------------------------------------


class TestFind:
    @pytest.mark.slow
    def test_writes_the_points_and_says_what_became_of_the_rows(self):
        code, stdout, stderr = run(*SEARCH)
        assert code == 0
        fps = FixedPoints.load("fixed_points.npz")
        assert fps.n == POINTS and fps.is_stable.sum() == 4
        assert set(np.abs(np.round(fps.xstar, 2)).ravel().tolist()) == {0.0, np.float32(0.96)}
        assert f"{N} ended at {POINTS} fixed points, which are kept." in stdout
        assert stdout.endswith("`slowpoints show fixed_points.npz` prints a table of the points.\n")
        assert f"{N}/{N}" in stderr and "states/s" in stderr

    @pytest.mark.slow
    def test_the_account_knows_the_network_and_so_names_kinks_only_where_they_are(
        self, monkeypatch
    ):
        made, account = [], FixedPointFinder._account
        monkeypatch.setattr(
            FixedPointFinder,
            "_account",
            lambda self, *given: made.append(given) or account(self, *given),
        )
        assert run(*SEARCH, "-q")[0] == 0
        assert len(made[0]) == 3 and not may_have_kinks(made[0][2])

    @pytest.mark.slow
    def test_quiet_prints_nothing(self):
        assert run(*SEARCH, "--quiet") == (0, "", "")
        assert FixedPoints.load("fixed_points.npz").n == POINTS

    @pytest.mark.parametrize("quiet", [(), ("--quiet",)])
    def test_json_is_all_that_is_on_standard_output(self, quiet):
        write("model.py", "from test_cli import pair as net; print('made')")
        code, stdout, stderr = run(*SEARCH, "--json", *quiet)
        assert code == 0 and "made" in stderr and ("ended at" in stderr) != bool(quiet)
        told = json.loads(stdout)
        fps = FixedPoints.load("fixed_points.npz")
        assert told["out"] == "fixed_points.npz" and told["interrupted"] is False
        assert told["account"]["n_rows"] == N
        assert [part["n_points"] for part in told["account"]["parts"]] == [POINTS]
        np.testing.assert_allclose([p["xstar"] for p in told["points"]], fps.xstar)
        values = np.array([p["eigenvalues"] for p in told["points"]])
        np.testing.assert_allclose(values[..., 0] + 1j * values[..., 1], fps.eigval_J_xstar)

    def test_the_seed_decides_which_states_are_drawn(self):
        starts = []
        for seed in (0, 0, 1):
            name = f"{len(starts)}.npz"
            run(*SEARCH, "-q", "--seed", seed, "--all-rows", name, "--force")
            starts.append(FixedPoints.load(name).x_init)
        np.testing.assert_array_equal(starts[0], starts[1])
        assert not np.array_equal(starts[0], starts[2])

    def test_all_rows_are_written_if_asked(self, found):
        fps, rows = map(FixedPoints.load, found)
        assert (fps.n, rows.n) == (POINTS, N)
        assert fps.hits.sum() == N and rows.J_xstar is None

    def test_a_search_that_keeps_nothing_ends_with_a_code_of_its_own(self):
        code, stdout, stderr = run(*SEARCH, "--max-n-unique", 0)
        assert code == 3
        assert "which --max-n-unique = 0 leaves out" in stdout
        assert stderr.endswith("No point was kept; the account says why.\n")
        assert FixedPoints.load("fixed_points.npz").n == 0
        code, stdout, _ = run("show", "fixed_points.npz")
        assert code == 0 and "--max-n-unique" in stdout

    @pytest.mark.filterwarnings("default")
    def test_warnings_are_one_line_in_the_words_of_the_command(self):
        code, _, stderr = run(*SEARCH, "--outlier-distance-scale", 0.5)
        assert code == 0
        (line,) = (line for line in stderr.splitlines() if line.startswith("Warning: "))
        assert "--outlier-distance-scale = 0.5 drops" in line
        assert "outlier_distance_scale" not in stderr

    @pytest.mark.filterwarnings("default")
    def test_the_bar_of_a_search_that_is_done_is_not_drawn_again_after_a_warning(self):
        _, _, stderr = run(*SEARCH, "--outlier-distance-scale", 0.5)
        before, _, after = stderr.partition("Warning: ")
        assert f"/{N} " in before and f"/{N} " not in after

    def test_inputs_are_numbers_or_a_file(self):
        inputs = np.linspace(0, 0.1, 2 * N).reshape(N, 2)
        np.save("u.npy", inputs)
        for given, expected in (("-0.1,0.1", [-0.1, 0.1]), ("u.npy", inputs)):
            args = ("find", *MODEL, "--n-inits", N, "--inputs", given, "--all-rows", "all.npz")
            assert run(*args, "--force")[0] == 0
            rows = FixedPoints.load("all.npz")
            np.testing.assert_allclose(rows.inputs, np.broadcast_to(expected, (N, 2)), rtol=1e-6)

    def test_inputs_are_zeros_if_the_network_says_how_many(self):
        class Sized(Pair):
            n_inputs = 2

        network = Sized(pair.gain)
        assert FIND.inputs_of(network, None).tolist() == [[0.0, 0.0]]
        message = says("find", *MODEL, code=2)
        assert message.startswith("Missing option '--inputs'")

    def test_which_states_may_be_drawn_and_their_conditions_come_from_files(self):
        valid = np.zeros((4, 50), bool)
        valid[1, :7] = True
        np.savez("more.npz", valid=valid, names=np.array([f"c{k % 3}" for k in range(N)]))
        files = ("--valid", "more.npz:valid", "--cond-ids", "more.npz:names")
        assert run(*SEARCH, *files, "--all-rows", "all.npz")[0] == 0
        rows = FixedPoints.load("all.npz")
        allowed = np.load("states.npy")[1, :7]
        assert {tuple(x) for x in rows.x_init.tolist()} <= {tuple(x) for x in allowed.tolist()}
        assert rows.cond_id[:4].tolist() == ["c0", "c1", "c2", "c0"]

    def test_the_states_of_one_trial_need_no_axis_for_trials(self):
        np.savez("one.npz", np.load("states.npy")[0])
        args = ("find", "model.py:net", "--states", "one.npz", "--inputs", "0,0", "--n-inits", N)
        np.save("valid.npy", np.arange(50) < 25)
        assert run(*args, "--valid", "valid.npy")[0] == 0

    def test_a_solver_may_come_from_a_file(self):
        write(
            "solvers.py", "from slowpoints import LevenbergMarquardt\nmine = LevenbergMarquardt()"
        )
        assert run(*SEARCH, "--solver", "solvers.py:mine", "--no-compute-jacobians")[0] == 0
        fps = FixedPoints.load("fixed_points.npz")
        assert fps.n == POINTS and fps.J_xstar is None

    @pytest.mark.slow
    def test_rounds_are_told_with_the_coverage(self):
        args = (*SEARCH, "--coverage", 0.5, "--no-compute-jacobians", "--json")
        code, stdout, stderr = run(*args)
        assert code == 0
        told = json.loads(stdout)["rounds"]
        assert told.startswith("Ended by ") and told in stderr
        assert told in run("show", "fixed_points.npz")[1]

    def test_what_is_there_is_replaced_only_if_asked(self):
        write("fixed_points.npz", "mine")
        message = says(*SEARCH, code=2)
        assert "'fixed_points.npz' is there already; --force replaces it." in message
        write("all.npz", "mine too")
        message = says(*SEARCH, "--out", "new.npz", "--all-rows", "all.npz", code=2)
        assert "'all.npz' is there already" in message
        assert Path("fixed_points.npz").read_text() == "mine" and not Path("new.npz").exists()
        assert run(*SEARCH, "--force")[0] == 0
        assert FixedPoints.load("fixed_points.npz").n == POINTS

    def test_of_two_mistakes_a_result_that_is_there_is_told_last(self):
        write("fixed_points.npz", "mine")
        write("broken.py", "net = 3.5")
        assert "net is a builtins.float" in says("find", "broken.py:net", *SEARCH[2:])
        message = says("find", *MODEL, "--inputs", "0,0,0", "--n-inits", N)
        assert "could not be evaluated for a state of shape (2,)" in message
        assert "--noise-scale is -1" in says(*SEARCH, "--noise-scale", -1)
        assert "--max-iters is -1" in says(*SEARCH, "--max-iters", -1, code=2)
        assert Path("fixed_points.npz").read_text() == "mine"

    @pytest.mark.parametrize(
        "out, reason",
        [
            ("file/fps.npz", "cannot write to 'file/fps.npz'"),
            ("folder.npz", "is a directory"),
            ("figure.pdf", "expected the name of a file that ends in .npz"),
        ],
    )
    def test_whether_the_file_can_be_written_is_known_before_the_search(self, out, reason):
        write("file", "mine")
        Path("folder.npz").mkdir()
        write("model.py", "raise AssertionError('too late')")
        assert reason in says(*SEARCH, "--out", out, code=2)

    def test_the_two_files_must_differ(self):
        args = (*SEARCH, "--out", "a.npz", "--all-rows", "./a.npz")
        assert says(*args, code=2) == "--out and --all-rows are the same file."

    def test_a_job_that_is_none_is_refused(self, monkeypatch):
        def fail():
            raise ValueError("coordinator_address should be defined.\nMore.")

        monkeypatch.setattr(jax.distributed, "initialize", fail)
        message = says(*SEARCH, "--across-processes", code=2)
        assert "srun or mpirun" in message and message.endswith("address should be defined.")

    def test_a_mistake_is_told_also_where_there_is_no_job(self, monkeypatch):
        monkeypatch.setattr(jax.distributed, "initialize", lambda: 1 / 0)
        message = says(
            *SEARCH, "--tol-q", "low", "--across-processes", "--no-across-processes", code=2
        )
        assert message == "Invalid value for '--tol-q': 'low' is not a number."

        def fail():
            raise ValueError("coordinator_address should be defined.")

        monkeypatch.setattr(jax.distributed, "initialize", fail)
        assert says(*SEARCH, "--tol-q", "low", "--across-processes", code=2) == message


def run_job(*commands):
    """Return the exit codes and errors of processes that believe that Open MPI started them."""
    job = np.random.default_rng().integers(2**16) * 2**12
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "OMPI_MCA_orte_hnp_uri": f"{job}.0;tcp://127.0.0.1:1",
        "OMPI_COMM_WORLD_SIZE": str(len(commands)),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "slowpoints", *command],
            env=env | {"OMPI_COMM_WORLD_RANK": str(k), "OMPI_COMM_WORLD_LOCAL_RANK": str(k)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for k, command in enumerate(commands)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


@pytest.mark.slow
def test_processes_of_one_job_search_together():
    write("long.py", LONG)
    np.save("x.npy", np.random.default_rng(0).normal(size=(1, 1000, 1)).astype(np.float32))
    command = ["find", "long.py:net", "--states", "x.npy", "--inputs", "0"]
    command += ["--n-inits", str(N), "--across-processes", "--quiet"]
    assert run_job(command, command)[0] == [0, 0]
    fps = FixedPoints.load("fixed_points.npz")
    assert fps.n == 3 and fps.hits.sum() == 2 * N
    assert "These are the starts of the first of 2 processes." in run("show", "fixed_points.npz")[1]


REFUSED = {
    "states of NaN": (["--states", "nan.npy"], [1, 1], "are NaN"),
    "a file that is missing": (["--states", "gone.npy"], [1, 2], "'--states': 'gone.npy': No such"),
    "an option that there is not": (["--tol-p", "1"], [1, 2], "No such option"),
    "a word for a number": (["--tol-q", "low"], [1, 2], "'--tol-q': 'low' is not a number"),
    "a file that cannot be written": (["--out", "x.pdf"], [1, 2], "that ends in .npz"),
    "an option out of range": (["--tol-q", "-1"], [2, 2], "--tol-q is -1"),
}
"""What one process of a job is given, how both end, and what both are told."""


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_of_one_process_ends_the_job(name):
    options, expected, words = REFUSED[name]
    write("long.py", LONG)
    np.save("x.npy", np.zeros((1, 10, 1), np.float32))
    np.save("nan.npy", np.full((1, 10, 1), np.nan, np.float32))
    command = ["find", "long.py:net", "--inputs", "0", "--across-processes", "--states", "x.npy"]
    codes, errors = run_job(command, [*command, *options])
    assert codes == expected, errors
    assert "process 1 refused its input" in errors[0] and words in errors[0]
    assert errors[1].count(words) == 1 and "refused" not in errors[1]
    assert not os.path.exists("fixed_points.npz")


@pytest.mark.slow
def test_a_model_that_one_process_does_not_have_ends_the_job():
    write("long.py", LONG)
    np.save("x.npy", np.zeros((1, 10, 1), np.float32))
    options = ["--inputs", "0", "--across-processes", "--states", "x.npy"]
    codes, errors = run_job(["find", "gone.py:net", *options], ["find", "long.py:net", *options])
    assert codes == [2, 1], errors
    assert "process 0 refused its input" in errors[1]
    assert all("there is no file 'gone.py'" in error for error in errors)


@pytest.mark.slow
def test_processes_with_the_same_mistake_are_told_of_their_own():
    command = ["find", "long.py:net", "--across-processes", "--states", "gone.npy"]
    codes, errors = run_job(command, command)
    assert codes == [2, 2], errors
    assert all("No such file" in error and "refused" not in error for error in errors)


PARAMETERS = {
    name: parameter
    for function in (FixedPointFinder, FixedPointFinder.find_fixed_points)
    for name, parameter in inspect.signature(function).parameters.items()
    if name not in ("self", "rnn_model", "progress")
}
OPTIONS = {option.name: option for option in find_command.params}


@pytest.mark.fast
class TestOptionsOfTheClass:
    def test_each_argument_has_an_option(self):
        assert len(PARAMETERS) > 30
        assert set(PARAMETERS) == set(parameters_of_finder()) <= set(OPTIONS)

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_defaults_are_those_of_the_class(self, name):
        option, default = OPTIONS[name], PARAMETERS[name].default
        given = option.get_default(click.Context(find_command))
        if name == "solver":
            assert (given, default) == ("default", None)
        elif default is inspect.Parameter.empty:
            assert given is None or type(given).__name__ == "Sentinel"
        else:
            assert given == default

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_help_is_that_of_the_class(self, name):
        text = help_of(name)
        assert OPTIONS[name].help == text
        assert (
            text[0] == text[0].upper()
            and text.endswith(".")
            and not re.search(r"`|\]\[|None", text)
        )
        if name not in OWN_HELP:
            first_words = re.findall(r"\w+", documented_arguments()[name])[:3]
            assert [word.lower() for word in re.findall(r"\w+", text)[:3]] == [
                word.lower() for word in first_words
            ]

    @pytest.mark.parametrize("name", ["method", "dtype", "solver"])
    def test_choices_are_those_of_the_class(self, name):
        with pytest.raises(ValueError) as error:
            FixedPointFinder(pair, **{name: "no such"})
        choices = re.findall(r"'(\w+)'", str(error.value).partition("expected")[2])
        offered = list(OPTIONS[name].type.choices)
        assert [choice for choice in offered if choice != "default"] == choices

    def test_every_value_reaches_the_class(self, monkeypatch):
        calls = []

        class Recorder:
            def __init__(self, model, **settings):
                calls.append(settings)
                arguments.refuse("FixedPointFinder", "tol_q", "is enough", "no more", ValueError)

        changed, args = {}, []
        for name, parameter in inspect.signature(FixedPointFinder).parameters.items():
            if name == "rnn_model":
                continue
            if isinstance(parameter.default, bool):
                changed[name] = not parameter.default
                on, _, off = names_of(name, is_flag=True)[0].partition("/")
                args.append(on if changed[name] else off)
                continue
            known = {"method": "sequential", "dtype": "float64", "solver": "adam", "mesh": "none"}
            changed[name] = known.get(name, 7 if isinstance(parameter.default, int) else 0.25)
            args += [names_of(name)[0], str(changed[name])]
        monkeypatch.setattr(FIND, "FixedPointFinder", Recorder)
        monkeypatch.setattr(FIND, "_join_processes", lambda: None)
        assert says(*SEARCH, *args, code=2) == "--tol-q is enough; expected no more."
        assert calls == [changed | {"mesh": None}]

    @pytest.mark.parametrize("text, value", [("none", None), ("inf", np.inf), ("3", 3)])
    def test_numbers_may_be_none_or_infinite(self, text, value):
        kind = OPTIONS["final_q_threshold"].type
        assert kind.convert(text, None, None) == value

    @pytest.mark.parametrize(
        "option, value, message",
        [
            ("--tol-q", "-1", "--tol-q is -1; expected a number, at least 0."),
            ("--tol-q", "low", "Invalid value for '--tol-q': 'low' is not a number."),
            ("--max-iters", "none", "Invalid value for '--max-iters': 'none' is not a number."),
            ("--coverage", "1.5", "--coverage is 1.5; expected None, or a number below 1"),
            ("--coverage", "high", "'high' is not a number or none."),
            ("--method", "other", "Invalid value for '--method': 'other' is not one of"),
            ("--solver", "luck", "'luck' is none of default, adam"),
            ("--seed", "0.5", "--seed is 0.5; expected a whole number"),
            ("--memory-limit", "0", "--memory-limit is 0; expected a whole number"),
            ("--inputs", "a,b", "'a,b' is neither numbers with commas between them"),
        ],
    )
    def test_values_out_of_range_are_refused_by_the_name_of_the_option(
        self, option, value, message
    ):
        assert message in says(*SEARCH, option, value, code=2)

    def test_what_only_the_search_refuses_names_the_option_as_well(self):
        assert says(*SEARCH, "--n-inits", "0") == (
            "--n-inits is 0; expected a whole number, at least 1."
        )
        assert says(*SEARCH, "--inputs", "nan,0").startswith("--inputs holds 1 values that are NaN")


# ---- Ctrl-C --------------------------------------------------------------------------------------

LONG = """
import jax.numpy as jnp

def net(x, u):
    return jnp.tanh(2 * x) + u
"""


# Programs that were started in the background ignore Ctrl-C.
AS_IN_A_TERMINAL = """if True:
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from slowpoints._cli import main
    main()
"""


def started(*args, until):
    """Start a search that takes long; return it when a text was seen on standard error."""
    write("long.py", LONG)
    np.save("x.npy", np.random.default_rng(0).normal(size=(1, 1000, 1)).astype(np.float32))
    command = [sys.executable, "-c", AS_IN_A_TERMINAL, "find", "long.py:net", "--states", "x.npy"]
    process = subprocess.Popen(
        [*command, "--inputs", "0", "--n-inits", "2000000", "--no-compute-jacobians", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    wait_for(process, until)
    return process


def wait_for(process, pattern):
    seen = b""
    while not re.search(pattern, seen):
        part = os.read(process.stderr.fileno(), 4096)
        assert part, seen.decode()
        seen += part


@pytest.mark.skipif(os.name != "posix", reason="sends signals as a terminal of POSIX does")
class TestInterrupt:
    @pytest.mark.slow
    def test_ctrl_c_leaves_what_was_found_so_far(self):
        process = started("--solver", "levenberg_marquardt", until=rb" [1-9]\d*/2000000")
        process.send_signal(signal.SIGINT)
        stdout, stderr = (text.decode() for text in process.communicate(timeout=120))
        assert process.returncode == 130, stderr
        assert "Ending the search after the states in work." in stderr
        assert "Traceback" not in stderr
        told = re.search(r"Interrupted: (\d+) of 2000000 states were searched from", stderr)
        n_rows = int(told[1])
        assert 0 < n_rows < 2000000 and f"Of {n_rows} starts:" in stdout
        fps = FixedPoints.load("fixed_points.npz")
        assert fps.n == 3 and fps.hits.sum() == n_rows
        told = f"The search was interrupted: {n_rows} of 2000000 states were searched from."
        assert told in run("show", "fixed_points.npz")[1]

    @pytest.mark.slow
    def test_a_second_one_quits(self):
        # A search of all states at once that does not end.
        without_end = ("--tol-q", "0", "--tol-dq", "0", "--max-iters", "2000000000")
        process = started("--solver", "adam", *without_end, "--json", until=rb" 0/2000000")
        process.send_signal(signal.SIGINT)
        wait_for(process, rb"no part can be kept. Press Ctrl-C again")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130 and stdout == b""
        assert b"Quit; nothing was written." in stderr
        assert not Path("fixed_points.npz").exists()

    def test_before_the_search_it_ends_at_once(self, monkeypatch):
        write("model.py", "raise KeyboardInterrupt")
        assert run(*SEARCH) == (130, "", "Interrupted.\n")


# ---- the network ---------------------------------------------------------------------------------


def loaded(spec, checkpoint=None, signature=None):
    with importable(spec) as (source, name):
        return load_model(source, name, checkpoint, signature)


STEP = "import jax.numpy as jnp\ndef F(x, u):\n    return jnp.tanh(x) + u\n"


class TestModel:
    @pytest.mark.parametrize(
        "text, name",
        [
            (STEP, "F"),
            (STEP + "def make():\n    return F", "make"),
            (STEP + "def make(n=3, *, seed=0):\n    return F", "make"),
            (STEP + "class Nets:\n    first = staticmethod(F)", "Nets.first"),
            (STEP + "import functools, jax\nG = jax.jit(functools.partial(F))", "G"),
            ("import equinox as eqx, jax\nC = eqx.nn.GRUCell(2, 3, key=jax.random.key(0))", "C"),
            ("from test_cli import pair\nclass Made:\n    def __new__(cls): return pair", "Made"),
            ("from beside import F", "F"),
            ("def make():\n    from beside import F\n    return F", "make"),
        ],
        ids=lambda text: text.splitlines()[-1][:40],
    )
    def test_is_what_as_transition_takes_or_a_function_that_makes_it(self, text, name):
        write("nets/net.py", text)
        write("nets/beside.py", STEP)
        before = list(sys.path)
        assert isinstance(loaded(f"nets/net.py:{name}"), Transition)
        assert sys.path == before
        sys.modules.pop("beside", None)

    def test_may_be_in_a_package_of_the_working_directory(self):
        write("some_package/__init__.py", "")
        write("some_package/nets.py", STEP)
        assert isinstance(loaded("some_package.nets:F"), Transition)

    def test_a_file_does_not_take_the_place_of_a_module_with_its_name(self):
        write("json.py", STEP)
        assert isinstance(loaded("json.py:F"), Transition)
        assert sys.modules["json"] is json

    def test_the_signature_says_how_it_is_called(self):
        write("net.py", "def G(u, x):\n    return 0 * x + u[:1]")
        F = loaded("net.py:G", signature="input_state")
        assert F(jnp.ones(1), jnp.zeros(2)).tolist() == [0.0]

    @pytest.mark.parametrize(
        "value, nothing",
        [
            (lambda: 0, True),
            (lambda x, u: x, False),
            (lambda x, u=0: x, False),
            (lambda n=3: 0, True),
            (lambda *states: 0, False),
            (lambda **settings: 0, True),
            (lambda *, seed: 0, False),
            (Pair, False),
            (pair, False),
            (eqx.nn.Identity(), False),
            (3, False),
        ],
    )
    def test_required_arguments_tell_networks_from_functions_that_make_them(self, value, nothing):
        assert takes_nothing(value) is nothing

    @pytest.mark.parametrize(
        "text, spec, message",
        [
            (STEP, "net.py", "'net.py' is not FILE.py:NAME or package.module:NAME"),
            (STEP, "net.py:", "'net.py:' is not FILE.py:NAME"),
            (STEP, "net.py:F()", "'net.py:F()' is not FILE.py:NAME"),
            (
                STEP,
                "states.npy",
                "such as model.py:net. Load it in a Python file, and give the name",
            ),
            (STEP, "other.py:F", "there is no file 'other.py'"),
        ],
    )
    def test_a_wrong_place_is_an_error_of_the_command_line(self, text, spec, message):
        write("net.py", text)
        assert message in says("find", spec, *SEARCH[2:], code=2)

    @pytest.mark.parametrize(
        "text, spec, message",
        [
            (STEP, "net.py:G", "net.py has no 'G'."),
            (STEP + "network = F", "net.py:netwrok", "no 'netwrok'; did you mean 'network'?"),
            ("net = 3.5", "net.py:net.rnn", "net.py has no 'net.rnn'."),
            ("net = {'W': 1}", "net.py:net", "net.py:net is a builtins.dict; expected a brainpy."),
            ("net = 3.5", "net.py:net", "net.py:net is a builtins.float; expected"),
            ("def net(): pass", "net.py:net", "net.py:net() returned None; expected a network."),
            (
                "def net():\n    return 1 / 0",
                "net.py:net",
                "net.py:net fails on calling it: ZeroDivisionError: division by zero (",
            ),
            ("\nimport no_such_module", "net.py:net", "No module named 'no_such_module' ("),
            ("def net(:\n    pass", "net.py:net", "net.py, line 1: SyntaxError: "),
            ("import sys; sys.exit(3)", "net.py:net", "net.py ended the program on importing it"),
            (
                "class net:\n    def __init__(self, n): pass",
                "net.py:net",
                "the class net; expected",
            ),
            (STEP, "no_such_package.nets:F", "No module named 'no_such_package'"),
            (STEP, "net.py:jnp.no_such", "net.py has no 'jnp.no_such'."),
            (
                "def net(x, u):\n    return x[:1]",
                "net.py:net",
                "the model maps a state of shape (2,) and an input of shape (2,) to shape (1,)",
            ),
            (
                "import jax.numpy as jnp\nW = jnp.ones((3, 3))\ndef net(x, u): return W @ x",
                "net.py:net",
                "--states as many as it has states.",
            ),
            (
                "import numpy as np\ndef net(x, u): return np.tanh(x)",
                "net.py:net",
                "write `jnp.tanh` for `np.tanh`",
            ),
        ],
    )
    def test_one_that_cannot_be_used_is_an_error_in_one_sentence(self, text, spec, message):
        write("net.py", text)
        told = says("find", spec, *SEARCH[2:])
        assert message in told and "?." not in told

    def test_parts_of_a_network_have_dotted_names(self):
        write("parts.py", PARTS)
        for name in ("net.rnn", "make.rnn"):
            assert loaded(f"parts.py:{name}").name == "F"
        for name in ("net.lstm", "make.lstm"):
            assert f"parts.py has no '{name}'." in says("find", f"parts.py:{name}", *SEARCH[2:])
        for name in ("net.rn", "make.rn"):
            meant = f"parts.py has no '{name}'; did you mean '{name}n'?"
            assert says("find", f"parts.py:{name}", *SEARCH[2:]) == meant

    def test_a_whole_module_of_pytorch_is_answered_with_the_name_of_its_layer(self):
        pytest.importorskip("torch", reason="PyTorch is not installed (see the extras)")
        write("net.py", TORCH)
        told = says("find", "net.py:net", *SEARCH[2:])
        assert told == (
            "net.py:net is Net, a torch.nn.Module that has no `forward`; expected one that is "
            "called with an input and a state. Pass net.py:net.body.0.rnn, with inputs of that "
            "layer, or write its step as a method of it, or as a module, and pass that."
        )
        for name in ("net", "make"):
            assert loaded(f"net.py:{name}.body.0.rnn").n_states == 5
        told = says("find", "net.py:cell", *SEARCH[2:])
        assert told.startswith("net.py:cell is Linear, a torch.nn.Module that has `forward(input: ")

    def test_a_layer_of_pytorch_may_be_meant(self):
        pytest.importorskip("torch", reason="PyTorch is not installed (see the extras)")
        write("net.py", TORCH)
        told = says("find", "net.py:net.body.0.rn", *SEARCH[2:])
        assert told == "net.py has no 'net.body.0.rn'; did you mean 'net.body.0.rnn'?"

    def test_errors_say_which_line_of_the_file_they_come_from(self):
        write("net.py", "import os\n\ndef make():\n    return os.no_such_name\n")
        assert says("find", "net.py:make", *SEARCH[2:]).endswith("net.py, line 4).")

    def test_the_traceback_is_there_for_those_who_want_it(self):
        write("net.py", "def net(x, u):\n    return x[:1]")
        with pytest.raises(ValueError, match="the model maps a state"):
            run("find", "net.py:net", *SEARCH[2:], "--traceback")


PARTS = """
from types import SimpleNamespace

def F(x, u):
    return x + u

net = SimpleNamespace(rnn=F)

def make():
    return net
"""

TORCH = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.ModuleDict({"rnn": torch.nn.GRU(3, 5)}))

net, cell = Net(), torch.nn.Linear(3, 3)

def make():
    return net
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("checkpoint") / "net.msgpack"
    save_checkpoint(FlipFlopNetwork("tanh", 3, 2, jax.random.key(1)), file)
    return file


class TestCheckpoint:
    NET = (
        "import jax\nfrom slowpoints.flipflop import FlipFlopNetwork\n"
        "net = FlipFlopNetwork('tanh', {n}, 2, jax.random.key({seed}))\n"
    )

    @pytest.mark.slow_cases
    def test_its_weights_are_used(self, checkpoint):
        for n, seed in ((3, 0), (4, 1)):
            write(f"net{n}.py", self.NET.format(n=n, seed=seed))
        write("saved.py", self.NET.format(n=3, seed=1))
        x, u = jnp.ones(3), jnp.zeros(2)
        expected = loaded("saved.py:net")(x, u)
        assert not np.array_equal(loaded("net3.py:net")(x, u), expected)
        np.testing.assert_array_equal(loaded("net3.py:net", checkpoint)(x, u), expected)

    def test_one_that_does_not_fit_or_is_damaged_is_an_error(self, checkpoint):
        write("net.py", self.NET.format(n=4, seed=0))
        args = ("find", "net.py:net", *SEARCH[2:], "--checkpoint")
        assert "cannot load the checkpoint" in says(*args, checkpoint)
        write("damaged.msgpack", "no checkpoint")
        assert "cannot load the checkpoint 'damaged.msgpack'" in says(*args, "damaged.msgpack")
        assert "'no.msgpack' does not exist" in says(*args, "no.msgpack", code=2)

    def test_other_models_have_none(self, checkpoint):
        message = says(*SEARCH, "--checkpoint", checkpoint)
        assert message == (
            "--checkpoint is for BrainPy models with Variables, and model.py:net is a "
            "test_cli.Pair; load the weights of other models in model.py."
        )


# ---- arrays --------------------------------------------------------------------------------------


class TestStates:
    @pytest.mark.parametrize(
        "name, message",
        [
            ("no.npy", "'no.npy': No such file or directory."),
            ("no.npz:x", "'no.npz': No such file or directory."),
            ("text.npy", "'text.npy': it is not an array of numbers that NumPy saved."),
            ("empty.npy", "'empty.npy': it is not an array of numbers that NumPy saved."),
            ("cut.npz", "'cut.npz': it is not an array of numbers that NumPy saved."),
            ("objects.npy", "'objects.npy': it is not an array of numbers that NumPy saved."),
            ("objects.npz", "'objects.npz': 'x' is not an array of numbers."),
            ("two.npz", "it has several arrays: a, b; write two.npz:a, for example."),
            ("net.pt", "'net.pt': it is not an array of numbers that NumPy saved."),
            ("net.pt:net/data.pkl", "'net.pt:net/data.pkl': No such file or directory."),
            ("two.npz:c", "'two.npz': it has no array 'c', but these: a, b; write two.npz:a"),
            (".", "'.': Is a directory."),
        ],
    )
    def test_a_file_that_is_no_array_is_an_error_of_the_command_line(self, name, message):
        write("text.npy", "1 2 3")
        write("empty.npy", "")
        Path("cut.npz").write_bytes(b"PK\x03\x04 and no more")
        np.save("objects.npy", np.array([{}]))
        np.savez("objects.npz", x=np.array([{}]))
        np.savez("two.npz", a=np.zeros(2), b=np.zeros(2))
        with zipfile.ZipFile("net.pt", "w") as archive:  # as torch.save writes
            archive.writestr("net/data.pkl", b"")
            archive.writestr("net/data/0", bytes(64))
        args = ("find", "model.py:net", "--states", name, "--inputs", "0,0")
        assert message in says(*args, code=2)

    @pytest.mark.parametrize(
        "states, message",
        [
            (np.zeros(3), "--states has shape (3,); expected (trials, time, n_states)"),
            (np.zeros((0, 4, 2)), "--states is empty: its shape is (0, 4, 2)"),
            (np.full((1, 4, 2), np.nan), "--states holds 8 values that are NaN or infinite"),
            (np.array([["a", "b"]]), "--states"),
            (np.zeros((2, 2), complex), "--states"),
        ],
    )
    def test_an_array_of_another_shape_or_kind_is_an_error_in_one_sentence(self, states, message):
        np.save("x.npy", states)
        told = says("find", "model.py:net", "--states", "x.npy", "--inputs", "0,0")
        assert told.startswith(message) and "`state_traj`" not in told

    def test_valid_states_have_the_shape_of_the_trajectories(self):
        np.save("valid.npy", np.ones((3, 50), bool))
        message = says(*SEARCH, "--valid", "valid.npy")
        assert message.startswith("--valid has shape (3, 50); expected (4, 50)")

    def test_conditions_are_one_for_each_state(self):
        np.save("ids.npy", np.arange(3))
        assert says(*SEARCH, "--cond-ids", "ids.npy").startswith("--cond-ids has shape (3,)")


# ---- show ----------------------------------------------------------------------------------------


class TestShow:
    def test_prints_the_summary_and_the_account(self, found):
        code, stdout, stderr = run("show", found[0])
        assert (code, stderr) == (0, "")
        assert f"Number of fixed points: {POINTS}" in stdout
        assert f"Of {N} starts:\n  {N} ended at {POINTS} fixed points, which are kept." in stdout
        assert stdout.rstrip().endswith(
            "slowpoints find model.py:net --states states.npy --inputs 0,0 --n-inits 64 --out "
            "fps.npz --all-rows rows.npz"
        )

    def test_the_table_has_as_many_lines_as_asked_for(self, found):
        _, stdout, _ = run("show", found[0], "--max-rows", 2)
        assert f"... and {POINTS - 2} more" in stdout

    def test_times_are_in_the_unit_of_dt(self, found):
        _, plain, _ = run("show", found[0], "--json")
        _, scaled, _ = run("show", found[0], "--json", "--dt", 10)
        plain, scaled = (json.loads(text)["points"] for text in (plain, scaled))
        assert len(plain) == POINTS
        for a, b in zip(plain, scaled, strict=True):
            assert b["time_constant"] == pytest.approx(10 * a["time_constant"])
            assert b["frequency"] == pytest.approx(a["frequency"] / 10)
            assert b["leading_eigenvalue"] == a["leading_eigenvalue"]
        assert "the unit of dt" in run("show", found[0], "--dt", 10)[1]

    def test_json_has_the_points_and_the_account(self, found):
        told = json.loads(run("show", found[0], "--json")[1])
        assert told["account"]["lines"][0] == f"{N} ended at {POINTS} fixed points, which are kept."
        assert told["settings"]["n_inits"] == N
        assert sorted(p["index"] for p in told["points"]) == [0] * 4 + [1] * 4 + [2]

    def test_numbers_that_json_lacks_are_null(self):
        one = np.ones((1, 1))
        FixedPoints(xstar=one, qstar=np.array([np.nan]), eigval_J_xstar=one).save("one.npz")
        (point,) = json.loads(run("show", "one.npz", "--json")[1])["points"]
        assert point["q"] is None and point["time_constant"] is None

    def test_says_where_there_is_no_account(self, found):
        FixedPoints.load(found[0]).save("plain.npz")
        code, stdout, _ = run("show", "plain.npz")
        assert code == 0 and "There is no account of the search" in stdout
        assert json.loads(run("show", "plain.npz", "--json")[1])["account"] is None

    def test_makes_the_account_of_all_rows(self, found):
        FixedPoints.load(found[0]).save("plain.npz")
        _, stdout, _ = run("show", "plain.npz", "--all-rows", found[1])
        assert "The account, as far as the search had the default settings:" in stdout
        assert f"Of {N} starts:\n  {N} ended at {POINTS} fixed points, which are kept." in stdout

    def test_shows_rows_as_well(self, found):
        code, stdout, _ = run("show", found[1])
        assert code == 0 and f"Number of fixed points: {N}" in stdout

    @pytest.mark.parametrize(
        "name, code, message",
        [
            ("no.npz", 2, "'no.npz' does not exist"),
            ("text.npz", 1, "'text.npz' is not a readable .npz archive"),
            ("other.npz", 1, "'other.npz' was not written by FixedPoints.save."),
            ("states.npy", 1, "'states.npy' is not a readable .npz archive"),
            ("record.npz", 1, "'record.npz' has a record of its search that cannot be read"),
            ("later.npz", 1, "its format is 99, and this version reads 1"),
        ],
    )
    def test_what_is_no_such_file_is_an_error(self, name, code, message):
        write("text.npz", "no archive")
        np.savez("other.npz", x=np.zeros(2))
        for file, record in (("record.npz", "{}"), ("later.npz", '{"format": 99}')):
            FixedPoints(xstar=np.zeros((1, 2)))._save(file, record)
        assert message in says("show", name, code=code)

    def test_dt_is_above_zero(self, found):
        assert "Invalid value for '--dt'" in says("show", found[0], "--dt", 0, code=2)


# ---- plot ----------------------------------------------------------------------------------------

MAGIC = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


class TestPlot:
    @pytest.mark.slow_cases
    @pytest.mark.parametrize("suffix", MAGIC)
    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_writes_a_figure_in_the_format_of_the_suffix(self, found, suffix, dimensions):
        args = ("plot", found[0], "--states", "states.npy", "--dimensions", dimensions)
        code, stdout, _ = run(*args, "-o", f"made/figure.{suffix}")
        assert (code, stdout) == (0, f"Written: made/figure.{suffix}\n")
        assert Path(f"made/figure.{suffix}").read_bytes().startswith(MAGIC[suffix])

    @pytest.fixture
    def drawn(self, monkeypatch):
        """Collect what the function that draws is called with."""
        calls = []
        monkeypatch.setattr(PLOT, "draw", lambda *args, **kw: calls.append((args, kw)))
        return calls

    def test_options_are_arguments_of_the_figure(self, found, drawn):
        np.save("readout.npy", np.eye(2))
        np.save("labels.npy", np.arange(4))
        args = ("--projection", "readout.npy", "--color-by", "labels.npy", "--title", "T")
        args += ("--trials", "0:2", "--start-time", 3, "--eigenvectors", "slow", "--dpi", 50)
        assert run("plot", found[0], "--states", "states.npy", *args, "-o", "f.png")[0] == 0
        ((fps, states, config, dimensions, animated), given) = drawn[0]
        assert fps.n == POINTS and dimensions == 2 and not animated
        np.testing.assert_array_equal(states, np.load("states.npy"))
        assert (config.title, config.save_dpi, config.show) == ("T", 50, False)
        assert str(config.save_path) == "f.png"
        np.testing.assert_array_equal(given.pop("projection"), np.eye(2))
        np.testing.assert_array_equal(given.pop("color_by"), np.arange(4))
        assert given == {"plot_batch_idx": [0, 1], "plot_start_time": 3, "eigenvectors": "slow"}

    @pytest.mark.parametrize(
        "args, expected",
        [
            (("--color-by", "time"), {"color_by": "time"}),
            (("--color-by", "cond_id"), {"color_by": "cond_id"}),
            (("--trials", "3,1"), {"plot_batch_idx": [3, 1]}),
            (("--title", ""), {}),
            ((), {}),
        ],
    )
    def test_what_is_not_given_is_left_to_the_figure(self, found, drawn, args, expected):
        assert run("plot", found[0], "-o", "figure.pdf", *args)[0] == 0
        ((_, states, config, *_), given) = drawn[0]
        assert given == expected and states is None
        assert config.title == (None if "--title" in args else "")

    def test_a_page_has_the_figure_in_three_dimensions(self, found, drawn):
        assert run("plot", found[0], "-o", "figure.html")[0] == 0
        ((*_, dimensions, _), given) = drawn[0]
        assert dimensions == 3 and given == {"interactive": True}
        args = ("plot", found[0], "-o", "figure.html", "--dimensions", "2")
        assert "--dimensions 2 and .html do not go together" in says(*args, code=2)

    @pytest.mark.parametrize("dimensions", [2, 3])
    @pytest.mark.slow
    def test_an_animation_has_a_frame_for_each_time_step(self, found, dimensions):
        from PIL import Image

        args = ("--states", "states.npy", "--dimensions", dimensions, "--dpi", 30, "--trials", "0")
        code, stdout, stderr = run("plot", found[0], *args, "--start-time", 1, "-o", "f.GIF")
        assert (code, stdout) == (0, "Written: f.GIF\n"), stderr
        with Image.open("f.GIF") as image:
            assert image.n_frames == np.load("states.npy").shape[1] - 1

    def test_an_animation_without_ffmpeg_says_what_to_write_instead(self, found, monkeypatch):
        from matplotlib.animation import writers

        monkeypatch.setattr(writers, "is_available", lambda name: name != "ffmpeg")
        message = says("plot", found[0], "--states", "states.npy", "-o", "f.mp4")
        assert "--out is 'f.mp4', and FFmpeg" in message and ".gif needs nothing else" in message

    @pytest.mark.slow
    def test_a_figure_that_is_there_is_replaced(self, found):
        write("figure.png", "old")
        assert run("plot", found[0], "--states", "states.npy", "-o", "figure.png")[0] == 0
        assert Path("figure.png").read_bytes().startswith(MAGIC["png"])

    @pytest.mark.parametrize(
        "args, code, message",
        [
            (("-o", "figure.docx"), 2, "'figure.docx': expected a name that ends in one of .pdf,"),
            (("-o", "figure"), 2, "'figure': expected a name that ends in one of .pdf,"),
            (("-o", "states.npy/figure.png"), 2, "cannot write to 'states.npy/figure.png'"),
            ((), 2, "Missing option '-o' / '--out'."),
            (("-o", "f.gif", "--eigenvectors", "slow"), 2, "--eigenvectors and .gif do not go"),
            (("-o", "f.gif", "--color-by", "time"), 1, "--color-by is 'time'; expected None"),
            (("-o", "f.png", "--trials", "a"), 2, "'a' is neither like 0,3,5 nor like 0:10."),
            (("-o", "f.png", "--trials", "9"), 1, "--trials is from 9 to 9; expected at most 3"),
            (("-o", "f.png", "--start-time", "99"), 1, "--start-time is 99; expected"),
            (
                ("-o", "f.png", "--states", "wide.npy"),
                1,
                "--states has 3 columns, its last axis; expected 2, the number of states of the "
                "points in FILE.",
            ),
            (("-o", "f.png", "--color-by", "cond_id"), 1, "but cond_id in FILE is None; expected"),
            (("-o", "f.png", "--color-by", "speed"), 2, "'speed': No such file or directory."),
        ],
    )
    def test_wrong_options_are_errors(self, found, args, code, message):
        np.save("wide.npy", np.zeros((5, 2, 3)))
        assert message in says("plot", found[0], "--states", "states.npy", *args, code=code)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "args",
        [
            ("--preset", "column", "-o", "f.pdf"),
            ("--preset", "slide", "-o", "f.png"),
            ("--projection", "readout.npy", "--eigenvectors", "unstable", "-o", "f.png"),
            ("--projection", "readout.npy", "--color-by", "labels.npy", "-o", "f.png"),
            ("--color-by", "time", "--dimensions", "3", "-o", "f.png"),
        ],
    )
    def test_all_options_work_together_with_the_figures(self, found, args):
        np.save("readout.npy", np.eye(2))
        np.save("labels.npy", np.arange(4))
        code, _, stderr = run("plot", found[0], "--states", "states.npy", *args)
        assert code == 0, stderr
        assert Path(args[-1]).stat().st_size > 1000

    def test_points_may_be_drawn_alone_but_do_not_move(self, found):
        assert run("plot", found[0], "-o", "f.png")[0] == 0
        message = says("plot", found[0], "-o", "f.gif", code=2)
        assert ".gif needs --states: an animation shows trajectories." in message

    def test_a_missing_plotly_is_an_error_in_one_sentence(self, found, monkeypatch):
        monkeypatch.setitem(sys.modules, "plotly", None)
        message = says("plot", found[0], "--states", "states.npy", "-o", "figure.html")
        assert 'pip install -e ".[plotly]"' in message


# ---- bench ---------------------------------------------------------------------------------------


class TestBench:
    def test_measures_a_network_of_ones_own(self):
        args = ("bench", *MODEL, "--inputs", "0,0", "--n-inits", N, "--noise-scale", 0.1)
        code, stdout, _ = run(*args, "--repeats", 2)
        assert code == 0
        header, line, machine = stdout.splitlines()
        assert header.split()[:3] == ["network", "states", "rows"]
        assert line.split()[:3] == ["model.py:net", "2", str(N)]
        assert line.split()[-2:] == [str(N), str(POINTS)]
        assert machine.startswith(f"slowpoints {slowpoints_version()}, JAX {jax.__version__}, cpu")

    def test_json_has_the_numbers_of_the_table(self):
        write("model.py", "from test_cli import pair as net; print('made')")
        args = ("bench", *MODEL, "--inputs", "0,0", "--n-inits", N, "--repeats", 3, "--json")
        code, stdout, _ = run(*args)
        told = json.loads(stdout)
        (search,) = told["searches"]
        assert code == 0 and search["n_points"] == POINTS and len(search["further_seconds"]) == 3
        assert search["again_seconds"] == sorted(search["further_seconds"])[1] > 0
        assert search["rows_per_second"] == pytest.approx(N / search["again_seconds"])
        assert told["machine"]["n_cores"] >= 1

    def test_trains_networks_of_the_sizes_that_it_is_given(self, monkeypatch):
        made = []

        def flip_flop(cell, n_units):
            made.append((cell, n_units))
            states, inputs = np.load("states.npy"), np.zeros((1, 2))
            return BENCH._Case(f"{n_units} {cell} units", pair, states, inputs)

        monkeypatch.setattr(BENCH, "_flip_flop", flip_flop)
        args = ("--units", "3,5", "--cell", "gru", "--n-inits", N, "--repeats", 1)
        code, stdout, _ = run("bench", *args)
        assert code == 0 and made == [("gru", 3), ("gru", 5)]
        assert "3 gru units" in stdout and "5 gru units" in stdout

    @pytest.mark.slow
    def test_its_network_stores_bits(self, monkeypatch):
        monkeypatch.setattr(BENCH, "_N_STEPS", 50)
        case = BENCH._flip_flop("tanh", 4)
        assert case.states.shape == (64, 64, 4) and case.inputs.shape == (1, 3)

    @pytest.mark.parametrize(
        "args, message",
        [
            (("--units", "0"), "'0' is not like 64,128."),
            (("--units", "many"), "'many' is not like 64,128."),
            (("--states", "states.npy"), "--states is about MODEL, which is not given."),
            (("model.py:net",), "Missing option '--states'"),
            (MODEL, "Missing option '--inputs'"),
        ],
    )
    def test_wrong_options_are_errors(self, args, message):
        assert message in says("bench", *args, code=2)


# ---- the command itself --------------------------------------------------------------------------


def slowpoints_version():
    return import_module("slowpoints").__version__


COMMANDS = ("demo", "find", "show", "plot", "bench")


class TestCommand:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_has_examples_and_exit_codes(self, name):
        code, stdout, _ = run(name, "--help")
        assert code == 0 and f"  slowpoints {name}" in stdout
        assert "Examples:" in stdout and "Exit codes:" in stdout and "--traceback" in stdout
        assert "\\b" not in stdout  # click's sign for lines that stay as they are
        example = stdout.partition("Examples:\n")[2].splitlines()[0]
        assert example.strip() == f"slowpoints {name}" or f"slowpoints {name} " in example

    def test_the_help_of_all_lists_each_command(self):
        stdout = run("--help")[1]
        assert sorted(main.commands) == sorted(COMMANDS)
        assert all(re.search(rf"^  {name}  +\S.*\.$", stdout, re.M) for name in COMMANDS)

    def test_an_error_of_the_package_is_one_sentence(self, monkeypatch, found):
        def fail(*args):
            raise RuntimeError("something\nof several lines")

        monkeypatch.setattr(FixedPoints, "load", fail)
        message = says("show", found[0])
        assert message.startswith("RuntimeError: something (")
        assert message.endswith("--traceback shows where it was raised.")

    def test_the_script_is_this_command(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        module, _, name = project["scripts"]["slowpoints"].partition(":")
        assert getattr(import_module(module), name) is main

    @pytest.mark.slow
    def test_as_a_module_it_has_the_name_that_it_was_called_by(self):
        done = subprocess.run(
            [sys.executable, "-m", "slowpoints", "show"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: python -m slowpoints show [OPTIONS] FILE\n")

    def test_shells_can_complete_it(self):
        for kind in (BashComplete, ZshComplete, FishComplete):
            assert (
                "_SLOWPOINTS_COMPLETE"
                in kind(main, {}, "slowpoints", "_SLOWPOINTS_COMPLETE").source()
            )
        shell = BashComplete(main, {}, "slowpoints", "_SLOWPOINTS_COMPLETE")

        def complete(args, incomplete):
            return [item.value for item in shell.get_completions(args, incomplete)]

        assert complete([], "b") == ["bench"]
        assert "--solver" in complete(["find", "model.py:net"], "--so")
        assert complete(["find", "model.py:net", "--solver"], "new") == ["newton_krylov"]
        assert complete(["find", "model.py:net", "--dtype"], "") == ["float32", "float64"]
