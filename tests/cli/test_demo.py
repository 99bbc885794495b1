"""The demo does what it prints, the same every time, and finds what README says."""

import contextlib
import io
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import brainpy as bp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

import slowpoints
from slowpoints import FixedPoints, load_checkpoint
from slowpoints._cli import main
from slowpoints._demo import index_of, stored_bits, table, verdict
from slowpoints._storage.checkpoint_files import read_tree
from slowpoints._storage.checkpoints import OWN_ENTRY
from slowpoints.flipflop import (
    CELLS,
    FlipFlopNetwork,
    expected_counts,
    mean_squared_error,
    train,
    trials,
)

README = (Path(__file__).parents[2] / "README.md").read_text()
UNITS, BITS = 8, 2
SMALL = ("--units", UNITS, "--bits", BITS, "--steps", 420, "--seed", 1)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
BIT_OF = {"-": -1, "0": 0, "+": 1}
cells = pytest.mark.parametrize("cell", CELLS)


def new_network(cell="tanh", n_units=UNITS, n_bits=BITS, seed=0):
    return FlipFlopNetwork(cell, n_units, n_bits, jax.random.key(seed))


def run_demo(folder, *options):
    """Run in this process; return what goes to standard output and to standard error."""
    args = ["demo", *map(str, options), "--out", str(folder)]
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        main.main(args, standalone_mode=False)
    return stdout.getvalue(), stderr.getvalue()


def rows_of(stdout):
    """Return the table's rows: index, stability, q, largest |eigenvalue|, memory."""
    pattern = r"^ *(\d+) +(stable|unstable) +(\S+) +(\S+) +([-0+ ]+)$"
    return re.findall(pattern, stdout, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "made" / "by the demo"


@pytest.fixture(scope="module")
def outputs(folder):
    return run_demo(folder, *SMALL)


@pytest.fixture(scope="module")
def stdout(outputs):
    return outputs[0]


@pytest.fixture
def fps(folder, stdout):
    return FixedPoints.load(folder / "fixed_points.npz")


@pytest.fixture
def network(folder, stdout):
    model = new_network(seed=99)
    assert load_checkpoint(model, folder / "network.msgpack") is True
    return model


def written(folder):
    """Return the content of the files, and of the weights' file what does not name instances."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    del files["network.msgpack"]  # BrainPy numbers the instances of a process
    weights = read_tree(str(folder / "network.msgpack"))
    own = weights.pop(OWN_ENTRY)
    (values,) = weights.values()
    (paths,) = own["paths"].values()
    return files | {path: values[name].tobytes() for name, path in paths.items()}


@pytest.mark.slow
class TestDemo:
    def test_shows_a_progress_bar_that_reaches_the_end(self, outputs):
        stdout, stderr = outputs
        assert "420/420" in stderr
        assert "420/420" not in stdout

    def test_writes_what_it_names_and_nothing_else(self, folder, stdout):
        written = {path.name for path in folder.iterdir()}
        assert written == set(re.findall(r"^  (\S+\.\S+) ", stdout, flags=re.MULTILINE))
        assert f"Results are in {folder}:" in stdout

    def test_the_command_that_it_names_finds_the_same_points(self, folder, stdout, fps):
        (line,) = re.findall(r"^To search again .*: (slowpoints .*)$", stdout, re.M)
        _, *args = shlex.split(line)
        again = folder.parent / "again.npz"
        main.main([*args, "--out", str(again), "--quiet"], standalone_mode=False)
        found = FixedPoints.load(again)
        assert found.n == fps.n
        assert all(found.find(point).size == 1 for point in fps)

    @pytest.mark.parametrize("name", ["fixed_points_2d.png", "fixed_points_3d.png"])
    def test_the_figures_are_png_files(self, folder, stdout, name):
        assert (folder / name).read_bytes().startswith(PNG_MAGIC)

    def test_finds_the_points_that_the_task_calls_for(self, fps):
        assert np.bincount(index_of(fps)).tolist() == expected_counts(BITS) == [4, 4, 1]

    def test_the_points_are_fixed_points_of_the_saved_network(self, fps, network):
        _, h_next = network(jnp.zeros((fps.n, 1, BITS)), jnp.asarray(fps.xstar))
        np.testing.assert_allclose(h_next, fps.xstar, atol=1e-6)

    def test_the_table_has_the_saved_points_in_their_order(self, stdout, fps):
        index, stability, q, largest, _ = zip(*rows_of(stdout), strict=True)
        modulus = np.abs(fps.eigval_J_xstar)
        assert np.sum(modulus > 1, axis=1).tolist() == list(map(int, index))
        assert fps.is_stable.tolist() == [name == "stable" for name in stability]
        np.testing.assert_allclose(fps.qstar, np.array(q, float), rtol=0.06)
        np.testing.assert_allclose(modulus.max(axis=1), np.array(largest, float), atol=6e-5)

    def test_the_memories_are_the_outputs_of_the_saved_network(self, stdout, fps, network):
        shown = [[BIT_OF[sign] for sign in row[-1].split()] for row in rows_of(stdout)]
        outputs = np.asarray(network.readout(jnp.asarray(fps.xstar)))
        assert np.clip(np.rint(outputs), -1, 1).tolist() == shown

    def test_a_point_has_as_many_bits_on_a_ridge_as_unstable_directions(self, stdout):
        for index, stability, _, _, memory in rows_of(stdout):
            assert memory.count("0") == int(index)
            assert (stability == "stable") == (index == "0")

    def test_each_memory_has_its_point(self, stdout):
        shown = {tuple(row[-1].split()) for row in rows_of(stdout)}
        assert shown == set(itertools.product("+0-", repeat=BITS))

    def test_is_sorted_by_index_and_then_by_memory(self, stdout):
        keys = [(int(row[0]), ["+0-".index(s) for s in row[-1].split()]) for row in rows_of(stdout)]
        assert keys == sorted(keys)

    def test_says_what_was_expected_and_what_was_found(self, stdout):
        counts = "4 of index 0, 4 of index 1, 1 of index 2."
        assert f"Expected 3^2 = 9 fixed points: {counts}\nFound 9: {counts}\n" in stdout
        assert "differ" not in stdout

    def test_is_the_same_every_time(self, folder, stdout):
        before = written(folder)
        again, _ = run_demo(folder, *SMALL)
        assert again == stdout
        assert written(folder) == before


class TestReport:
    def test_of_no_points(self):
        fps = FixedPoints(
            xstar=np.zeros((0, UNITS)),
            qstar=np.zeros(0),
            eigval_J_xstar=np.zeros((0, UNITS), complex),
            is_stable=np.zeros(0, bool),
        )
        indices, memories = index_of(fps), stored_bits(new_network(), fps)
        assert len(table(fps, indices, memories).splitlines()) == 1
        assert "\nFound none.\n" in verdict(indices, BITS)

    def test_names_what_is_no_fixed_point(self):
        eigval = np.zeros((2, 1))
        fps = FixedPoints(
            xstar=np.zeros((2, 1)),
            qstar=np.zeros(2),
            eigval_J_xstar=eigval,
            is_stable=np.ones(2, bool),
            status=np.array([1, 2], np.int8),
        )
        lines = table(fps, np.zeros(2, int), np.zeros((2, BITS), int)).splitlines()
        assert lines[0].endswith("status") and lines[2].endswith("slow point")
        text = verdict(np.zeros(2, int), 1, "1 fixed point and 1 slow point")
        assert "Found 1 fixed point and 1 slow point: 2 of index 0" in text

    @pytest.mark.parametrize("indices", [[], [0, 0, 1], [0, 0, 1, 1], [0, 1, 1], [0, 0, 2]])
    def test_says_so_if_another_number_was_found(self, indices):
        expects_these = sorted(indices) == [0, 0, 1]
        assert ("differ" in verdict(np.array(indices, int), 1)) != expects_these

    @pytest.mark.parametrize("n_bits", [1, 2, 3, 4])
    def test_expects_a_point_for_each_state_of_the_bits(self, n_bits):
        on_ridge = [state.count(0) for state in itertools.product((-1, 0, 1), repeat=n_bits)]
        assert expected_counts(n_bits) == np.bincount(on_ridge).tolist()
        assert sum(expected_counts(n_bits)) == 3**n_bits


class TestFlipFlop:
    def test_bits_are_the_signs_of_the_last_pulses(self):
        pulses, bits = map(np.asarray, trials(jax.random.key(0), 5, 40, 2, p_pulse=0.1))
        assert set(np.unique(pulses)) == {-1, 0, 1}
        assert 0.05 < np.mean(pulses != 0) < 0.15
        for n, t, k in np.ndindex(*pulses.shape):
            given = [p for p in pulses[n, : t + 1, k] if p != 0]
            assert bits[n, t, k] == (given[-1] if given else 0)

    def test_the_error_counts_from_the_first_pulse_on(self):
        bits = jnp.array([[[0.0], [1.0], [-1.0]]])
        assert mean_squared_error(jnp.array([[[7.0], [0.5], [-1.0]]]), bits) == 0.125
        assert mean_squared_error(jnp.ones((1, 3, 1)), jnp.zeros((1, 3, 1))) == 0

    @pytest.mark.slow
    @cells
    def test_a_network_is_called_as_the_finder_calls_its_models(self, cell):
        model = new_network(cell)
        assert isinstance(model, bp.DynamicalSystem)
        pulses, _ = trials(jax.random.key(1), 3, 6, BITS)
        outputs, h_last = model(pulses, model.rest(3))
        assert outputs.shape == (3, 6, BITS)
        assert h_last.shape == (3, model.n_states) == (3, UNITS * (2 if cell == "lstm" else 1))
        states = model.states(pulses, model.rest(3))
        hidden = model.rest(3)
        for t in range(6):
            output, hidden = model(pulses[:, t : t + 1], hidden)
            np.testing.assert_allclose(hidden, states[:, t], atol=1e-6)
            np.testing.assert_allclose(output[:, 0], outputs[:, t], atol=1e-6)
        np.testing.assert_allclose(h_last, states[:, -1])

    @pytest.mark.slow
    def test_training_takes_the_steps_it_is_told_and_learns(self):
        model = new_network("lstm", n_units=6, n_bits=1)
        reports = list(train(model, jax.random.key(1), 220, n_trials=16, n_time=16))
        steps, errors = zip(*reports, strict=True)
        assert sum(steps) == 220
        assert errors[-1] < 0.5 * errors[0]


class TestCommandLine:
    @pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["demo", "--help"]])
    def test_help(self, args):
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        assert "demo" in result.output

    def test_version(self):
        result = CliRunner().invoke(main, ["--version"])
        assert result.exit_code == 0
        assert slowpoints.__version__ in result.output

    def test_offers_all_cells(self):
        (option,) = (p for p in main.commands["demo"].params if p.name == "cell")
        assert list(option.type.choices) == list(CELLS)

    @pytest.mark.slow
    def test_help_loads_no_framework_for_models_or_figures(self):
        code = (
            "import sys; from slowpoints._cli import main\n"
            "main(['demo', '--help'], standalone_mode=False)\n"
            "print([m for m in ('brainpy', 'matplotlib', 'sklearn') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.endswith("\n[]\n"), done.stderr

    @pytest.mark.parametrize(
        "option, value",
        [
            ("--cell", "rnn"),
            ("--units", "0"),
            ("--units", "many"),
            ("--bits", "0"),
            ("--bits", "-1"),
            ("--seed", "-1"),
            ("--steps", "0"),
            ("--solver", "luck"),
        ],
    )
    def test_refuses_bad_values(self, tmp_path, option, value):
        folder = tmp_path / "results"
        result = CliRunner().invoke(main, ["demo", "--out", str(folder), option, value])
        assert result.exit_code == 2
        assert f"Invalid value for '{option}'" in result.output
        assert not folder.exists()

    @pytest.mark.parametrize("path", ["file", "file/folder"])
    def test_refuses_a_folder_that_cannot_be_written_before_it_trains(self, tmp_path, path):
        (tmp_path / "file").write_text("mine")
        result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / path)])
        assert result.exit_code == 2
        assert "Invalid value for '--out'" in result.output
        assert "Training" not in result.output
        assert (tmp_path / "file").read_text() == "mine"

    def test_reports_a_failure_to_write_without_a_traceback(self, tmp_path, monkeypatch):
        def fail(*args):
            raise OSError(28, "No space left on device", "network.msgpack")

        monkeypatch.setattr("slowpoints._demo.run", fail)
        result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
        assert result.exit_code == 1
        assert re.fullmatch(r"Error: .*No space left on device.*\n", result.output)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "command", re.findall(r"`python -m slowpoints (demo --cell \w+)` \| 27 ", README)
)
def test_the_demo_finds_what_readme_says(tmp_path, command):
    args = [sys.executable, "-W", "error", "-m", "slowpoints", *command.split()]
    done = subprocess.run([*args, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Found 27: 8 of index 0, 12 of index 1, 6 of index 2, 1 of index 3." in done.stdout
    shown = {tuple(row[-1].split()) for row in rows_of(done.stdout)}
    assert shown == set(itertools.product("+0-", repeat=3))
    assert FixedPoints.load(tmp_path / "fixed_points.npz").n == 27
