"""The benchmarks count, time and tabulate rightly. No test here depends on how fast anything is."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner

import slowpoints

from . import __main__ as command
from . import (
    branches,
    experiments,
    field,
    figures,
    from_start,
    networks,
    one_process,
    points,
    stored,
    tables,
    timing,
    tools,
)
from .networks import Autonomous, Network

SCALES = np.array([2.0, 0.5])
FIRST = 0.9575040240772688  # tanh(2 x) = x


@pytest.fixture(scope="module")
def three_points():
    """Return a network with the fixed points (-FIRST, 0), (0, 0) and (FIRST, 0), and them."""
    F = Autonomous(jnp.asarray(np.diag(SCALES), jnp.float32))
    states = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    known = np.array([[-FIRST, 0.0], [0.0, 0.0], [FIRST, 0.0]])
    return Network("three points", F, states, n_inputs=1), known


# ---- counting ----------------------------------------------------------------------------------


def test_confirm_counts_each_fixed_point_once(three_points):
    network, known = three_points
    noise = 2e-5 * np.random.default_rng(1).standard_normal((90, 2))
    found = points.confirm(network, np.repeat(known, 30, axis=0) + noise)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], known, atol=1e-12)


def test_confirm_takes_no_row_that_is_no_fixed_point(three_points):
    network, _ = three_points
    rows = [[0.5, 0.0], [np.nan, 0.0], [np.inf, 1.0], [0.9, 0.3], [-0.2, 0.0]]
    assert points.confirm(network, rows).shape == (0, 2)
    assert points.confirm(network, np.empty((0, 2))).shape == (0, 2)


def test_confirm_takes_no_row_that_is_only_slow():
    # The fixed point is 0. Around it, q is below the threshold much farther than Newton may go.
    F = Autonomous(jnp.asarray([[0.9999]], jnp.float32))
    network = Network("slow", F, np.zeros((1, 1)), n_inputs=1)
    assert 0.5 * (0.06 - np.tanh(0.9999 * 0.06)) ** 2 < points.HIGHEST_Q
    assert points.confirm(network, [[0.06]]).size == 0
    assert points.confirm(network, [[0.001]]).shape == (1, 1)


def test_distinct_covers_all_rows():
    x = np.random.default_rng(0).integers(0, 5, (200, 2)) + 1e-5
    kept = points.distinct(x)
    assert len(kept) == 25
    assert points.matched(x, kept).all()


def test_matched_and_union():
    reference = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    found = np.array([[2.0, 5e-4], [0.0, 0.0], [7.0, 0.0]])
    assert points.matched(reference, found).tolist() == [True, False, True]
    assert points.matched(reference, np.empty((0, 2))).tolist() == [False] * 3
    assert len(points.union(reference, found)) == 4


def test_far_points_do_not_belong_to_the_reference():
    starts = np.random.default_rng(0).standard_normal((100, 2))
    kept = points.within_reach(np.array([[0.0, 1.0], [50.0, 0.0]]), starts)
    assert kept.tolist() == [[0.0, 1.0]]


@pytest.mark.slow
def test_reference_finds_what_there_is_and_keeps_it(three_points, tmp_path):
    network, known = three_points
    settings = _tiny(tmp_path)
    reference = experiments.Reference(network, settings)
    assert len(reference.points) == 3
    assert reference.count(known[:2]) == 2
    reference.add(np.array([[0.5, 0.5]]))
    assert len(experiments.Reference(network, settings).points) == 4


def test_a_row_reaches_a_point_that_newton_finds_next_to_it(three_points):
    """However high its `q`, but not from far away: the rule is 0.01 in each unit."""
    network, known = three_points
    near, far = known + np.array([0.0, 0.012]), known[:1] + np.array([0.0, 0.02])
    found = points.reached(network, np.concatenate([near, near, [[np.nan, 0.0]]]))
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], known, atol=1e-12)
    assert points.reached(network, far).shape == (0, 2)
    assert points.reached(network, np.empty((0, 2))).shape == (0, 2)


def test_a_row_reaches_no_point_where_there_is_only_a_slow_one():
    """Where the points of a saddle-node pair have gone, Newton's method goes nowhere."""
    F = networks.Cell(
        *(jnp.asarray(a, jnp.float32) for a in ([[[1.0]]], [[[2.0]]], [[0.0]])), cell="tanh"
    )
    x = [[-0.7041], [-0.7101]]  # on both sides of where tanh(2 x + u) - x has its extremum
    for constant, n in ((0.53283, 2), (0.53285, 0)):
        network = Network("ghost", F, np.zeros((1, 1)), 1, np.float32([constant]))
        assert len(points.reached(network, x)) == n


# ---- timing ------------------------------------------------------------------------------------


def test_measure_repeats_short_searches():
    calls = []
    measured, out = timing.measure(lambda x: calls.append(len(x)) or x, np.zeros((8, 2)), n_runs=4)
    assert measured.n_runs >= 4 and not measured.estimated
    assert set(calls) == {8} and len(out) == 8


def test_measure_predicts_what_would_take_too_long():
    calls = []
    measured, out = timing.measure(
        lambda x: calls.append(len(x)) or x, np.zeros((80, 2)), probe=8, limit=0.0
    )
    assert measured.estimated and measured.n_rows == 8
    assert calls == [8, 8] and len(out) == 8


def test_what_does_not_compile_runs_once():
    calls = []
    measured, _ = timing.measure(lambda x: calls.append(x), np.zeros((8, 2)), compiles=False)
    assert measured.n_runs == 1 and len(calls) == 1 and measured.compile_seconds == 0


def test_searches_take_turns_and_drop_out_when_they_have_taken_long():
    calls = []
    search = lambda name: lambda: (calls.append(name), name)[1]  # noqa: E731
    searches = {"a": search("a"), "b": search("b")}
    turns = timing.in_turn(searches, warm_up={"b": search("first b")}, n_runs=3, a_turn=0)
    assert calls == ["a", "first b", *"ababab"]
    assert [turns[name].out for name in "ab"] == ["a", "b"] and turns["a"].n_runs == 3
    turns = timing.in_turn(searches, n_runs=3, limit=0.0, a_turn=0)
    assert turns["a"].n_runs == turns["b"].n_runs == 1


def test_short_searches_are_repeated_in_their_turns(monkeypatch):
    monkeypatch.setattr(timing, "stopwatch", lambda search: (search(), None))
    turns = timing.in_turn({"short": lambda: 0.1, "long": lambda: 0.5}, n_runs=2, a_turn=0.25)
    assert turns["short"].n_runs == 6 and turns["long"].n_runs == 2


def test_the_machine_rests_before_each_turn(monkeypatch):
    seen = []
    monkeypatch.setattr(timing.time, "sleep", seen.append)
    timing.in_turn(
        {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, n_runs=1, a_turn=0
    )
    assert seen == ["a", "b", 0.1, "a", 0.1, "b"]  # the first two compile


def test_exponent_of_a_power_law():
    sizes = [64, 256, 1024]
    assert timing.exponent(sizes, [3e-7 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def test_peak_memory_holds_what_is_held():
    held = np.ones(12_500_000)
    assert timing.peak_memory() > held.nbytes


@pytest.mark.slow
def test_a_fresh_process_starts_with_little_memory():
    held = np.ones(150_000_000)
    assert timing.in_fresh_process(timing.peak_memory) < held.nbytes / 2


# ---- tools -------------------------------------------------------------------------------------


def _tools():
    return {tool.name: tool for tool in tools.all_tools(canns_iters=3)}


def _search(name, n=32):
    tool = _tools()[name]
    reason = tool.missing()
    if reason:
        pytest.skip(reason)
    network = networks.load("tanh 16", None)
    x = network.draw(n, seed=0)
    return network, x, tool, tool.rows(tool.prepare(network)(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slowpoints", "SciPy hybr", "dense Newton"])
def test_tool_finds_fixed_points(name):
    network, _, _, rows = _search(name)
    assert 8 <= len(points.confirm(network, rows)) <= 27


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slowpoints, whole pipeline", "Optimistix LM", "BrainPy BFGS"])
def test_tool_that_takes_long_to_compile_finds_fixed_points(name):
    network, _, _, rows = _search(name)
    assert 8 <= len(points.confirm(network, rows)) <= 27


@pytest.mark.slow
def test_canns_searches_from_the_same_states():
    _, x, tool, rows = _search("canns")
    assert rows.shape == x.shape and tool.share == 3 / 5000


def test_torch_needs_a_checkout(tmp_path):
    assert "--fixed-point-finder" in tools.FixedPointFinderTorch().missing()
    assert "FixedPointFinderTorch.py" in tools.FixedPointFinderTorch(tmp_path).missing()


def test_draws_are_reproducible_and_differ_by_seed():
    network = networks.load("LSTM 16", None)
    assert network.draw(5000, seed=1).shape == (5000, 32)
    np.testing.assert_array_equal(network.draw(9, seed=1), network.draw(9, seed=1))
    assert not np.allclose(network.draw(9, seed=1), network.draw(9, seed=2))


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", ["tanh", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("gru", "lstm"))]
)
def test_training_lowers_the_error(cell):
    errors = []
    for n_steps in (1, 300):
        arrays = networks.train(cell, 16, n_steps, n_trials=32, n_time=16)
        n_states = 32 if cell == "lstm" else 16
        assert arrays["traj"].shape == (64, 16, n_states)
        errors.append(arrays["loss"])
    assert errors[1] < 0.8 * errors[0]


# ---- the field ---------------------------------------------------------------------------------


def _tests_loaders():
    """The loaders of the library's own tests, which this folder does without."""
    return importlib.import_module("networks")


@pytest.mark.parametrize(("name", "i"), list(field.KNOWN))
def test_field_networks_and_starts_are_those_of_the_tests(name, i):
    theirs = _tests_loaders()
    network, x = networks.field(name, i)
    np.testing.assert_array_equal(x, theirs.field_starts(name))
    np.testing.assert_array_equal(network.u, theirs.field_case(name)["inputs"][i])
    np.testing.assert_allclose(
        network.F(x[0], network.u), theirs.field_network(name)(x[0], network.u), rtol=1e-6
    )


def test_canns_draws_these_states():
    if importlib.util.find_spec("canns") is None:
        pytest.skip("canns is not installed")
    network, _ = networks.canns_example("flipflop3_tanh_4_s42")
    finder = tools.canns_module("finder").FixedPointFinder(None, verbose=False)
    finder.rng = np.random.RandomState(3)
    for n in (50, len(network.states) + 1):
        finder.rng.seed(3)
        drawn = finder._sample_states(network.states[None], n, None, 0.4)
        np.testing.assert_array_equal(field.draw_as_canns(network.states, n, 3), drawn)


@pytest.mark.parametrize("name", field.EXAMPLES)
def test_the_points_of_the_example_are_its_fixed_points(name):
    network, known = networks.canns_example(name)
    assert len(points.reached(network, known)) == len(known)


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["SciPy hybr", "Optimistix LM"])
def test_peers_reach_points_in_float64_until_the_time_is_over(peer):
    network, x = networks.field("integrate_tanh_100_s13", 0)
    for limit, n_rows in ((np.inf, 2), (0.0, 1)):
        (tool,) = (tool for tool in field.field_tools(limit) if tool.name == peer)
        if tool.missing():
            pytest.skip(tool.missing())
        with jax.enable_x64(True):
            ends = tool.prepare(network)(x[:2])
        assert ends.shape == (n_rows, 100) and ends.dtype == np.float64
        assert len(points.reached(network, ends)) >= 1
        q = 0.5 * np.sum((ends - np.asarray(network.F(ends, network.u))) ** 2, axis=1)
        assert q.max() < 1e-8


@pytest.mark.slow
def test_the_field_is_searched_by_all_tools(tmp_path):
    cases = (("integrate_tanh_100_s13", 0),)
    settings = dataclasses.replace(_tiny(tmp_path), field_cases=cases, field_limit=0.5)
    rows = field.field(settings, _silent)
    assert [row["tool"] for row in rows][:3] == [
        "slowpoints",
        "LevenbergMarquardt",
        "NewtonKrylov",
    ]
    assert {row["known"] for row in rows} == {3}
    assert rows[0]["found"] == rows[0]["kept"] == 3 and rows[0]["ends"] == "128 fixed points"
    n_rows = [row["n_rows"] for row in rows]
    assert n_rows[:3] == [128, 32, 128] and all(1 <= n <= 32 for n in n_rows[3:])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_example_of_canns_is_searched_without_canns(tmp_path):
    rows = field.canns_example(_tiny(tmp_path), _silent)
    assert [row["known"] for row in rows] == [27, 27, 81, 81]
    assert {row["method"] for row in rows} == {"slowpoints", 'slowpoints, `solver="adam"`'}
    assert all(8 <= row["found"][0] <= 32 and row["others"] == [0] for row in rows)


FIELD = [
    {"network": network, "tool": tool, "ours": ours, "seconds_per_row": seconds, "found": found}
    | {"known": 3, "n_rows": 128 if ours else 32, "settings": "None.", "kept": found}
    | {"ends": "128 fixed points", "n_states": 100, "n_runs": 5, "first_seconds": 1.0}
    for network, tool, ours, seconds, found in [
        ("one", "slowpoints", True, 1e-3, 3),
        ("one", "other solver", True, 1e-4, 3),
        ("one", "peer", False, 1e-2, 3),
        ("one", "slow peer", False, 2e-2, 3),
        ("one", "peer that finds nothing", False, 1e-5, 0),
        ("two", "slowpoints", True, 1e-3, 2),
        ("two", "peer", False, 4e-2, 3),
    ]
]
EXAMPLE = [
    {"network": "net", "known": 27, "n_inits": 1024, "method": method, "found": found}
    | {"seconds": [0.2, 0.3, 0.4], "others": [0, others, 0]}
    for method, found, others in (("slowpoints", [25, 27, 26], 0), ("canns", [27, 24, 24], 1))
]


def test_ratios_of_the_field_are_to_the_fastest_peer_that_finds_anything():
    pairs = tables.field_ratios(FIELD)
    assert [pair["peer"]["tool"] for pair in pairs] == ["peer", "peer"]
    assert [pair["ratio"] for pair in pairs] == pytest.approx([10, 40])
    (pair,) = tables.field_ratios(FIELD[:2])
    assert pair["peer"] is None and pair["ratio"] is None


def _section(name, result):
    return tables.section(name, {name: {"result": json.loads(json.dumps(result))}})


def test_the_field_as_a_table():
    text = _section("field", FIELD)
    cells = [cell.strip() for cell in text.split("|")]
    assert "1 ms, 3/3" in cells and "1 ms, 2/3" in cells and "40 ms, 3/3 (32)" in cells
    assert "In the geometric mean, the fastest peer takes 20 x" in text
    assert "at least 10 x, and at most 40 x" in text
    assert "it reaches 2 of 3 on two." in text
    assert "reaches every known point" in _section("field", FIELD[:5])
    assert "geometric mean" not in _section("field", FIELD[:2])


def test_the_example_of_canns_as_a_table():
    text = _section("canns-example", EXAMPLE)
    assert "25, 27, 26; median 26; 300 ms" in text and "27, 24, 24; median 24" in text
    assert "over all seeds: canns 1 on net." in text and "canns was not run" not in text
    text = _section("canns-example", EXAMPLE[:1])
    assert (
        "canns was not run" in text
        and "Everything that these searches returned is a fixed point" in text
    )


# ---- experiments and tables --------------------------------------------------------------------


def _tiny(folder):
    return experiments.Settings(
        folder,
        networks=("tanh 16",),
        n_inits=32,
        n_runs=1,
        n_seeds=1,
        most_inits=64,
        reference_inits=64,
        sizes=(32,),
        rows_per_size=16,
    )


def _row(tool, seconds, found, ours=False, complete=True, package=True):
    row = {"network": "net", "tool": tool, "seconds": seconds, "found": found, "known": 27}
    row |= {"ours": ours, "complete": complete, "package": package, "settings": "None."}
    return row | {"compile_seconds": 1.0, "n_runs": 5, "n_rows": 1024}


COMPARE = [
    _row("slowpoints", 0.1, 25, ours=True),
    _row("slowpoints, whole pipeline", 0.3, 25, ours=True),
    _row("fast but few", 0.01, 12),
    _row("as many", 2.0, 25),
    _row("all", 5.0, 27),
    _row("unfinished", 0.5, 26, complete=False),
    _row("yardstick", 0.02, 27, package=False),
    {"network": "net", "tool": "absent", "ours": False, "package": True, "skipped": "not there"},
]
FULL_RECALL = [
    {
        "network": "net",
        "known": 27,
        "seconds": 0.2,
        "runs": [
            {"seed": 1, "recall": [[1024, 25, 0.1], [2048, 27, 0.2]]}
            | {"seconds": 0.2, "n_inits": 2048}
        ],
    }
]


def test_ratios_are_of_packages_that_find_as_much():
    (row,) = tables.ratios(COMPARE, FULL_RECALL)
    assert row["same"]["tool"] == "as many" and row["same_ratio"] == pytest.approx(20)
    assert row["all"]["tool"] == "all" and row["all_ratio"] == pytest.approx(25)
    assert row["same_to_full"] == pytest.approx(10)


def test_ratios_without_a_peer_or_a_search_for_all():
    (row,) = tables.ratios(COMPARE[:3], [])
    assert row["same"] is None and row["same_ratio"] is None
    assert row["all_ratio"] is None and row["same_to_full"] is None


def test_table_lines_up():
    lines = tables.table(["a", "long header"], [["1", "2"], ["three", "4"]]).splitlines()
    assert lines == [
        "| a     | long header |",
        "| ----- | ----------- |",
        "| 1     | 2           |",
        "| three | 4           |",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01234, "12.3 ms"), (0.0005, "0.5 ms"), (1.234, "1.2 s"), (166.2, "166 s"), (None, "-")],
)
def test_times_are_readable(seconds, text):
    assert tables.in_seconds(seconds) == text


def test_sizes_are_readable():
    assert tables.in_bytes(412e6) == "412 MB" and tables.in_bytes(2.5e9) == "2.50 GB"


BRANCHES = [
    {"network": "net", "tool": tool, "n_points": 52, "n_branches": 3, "n_events": 2}
    | {"seconds_per_point": 1e-3}
    for tool in ("slowpoints", "loop")
]


@pytest.mark.slow
def test_loops_arrive_at_the_points_that_the_library_follows():
    pytest.importorskip("scipy")
    weights = ([[[1.0]]], [[[2.0]]], [[0.0]])
    F = networks.Cell(*(jnp.asarray(a, jnp.float32) for a in weights), cell="tanh")
    path = np.float32([[-0.6], [0.6]])
    at_zero = slowpoints.FixedPoints(xstar=jnp.zeros((1, 1)), inputs=jnp.full((1, 1), 0.5))
    followed = slowpoints.continuation(slowpoints.along(F, path), at_zero, (0.0, 1.0))
    (branch,) = followed.branches
    network = Network("one unit", F, np.zeros((1, 1)), n_inputs=1)
    loops = branches._loops(network, path)
    assert len(loops) == 3
    for loop in loops.values():
        found = np.array(branches._over_steps(loop, followed))
        np.testing.assert_allclose(found[:, :-1], branch.xstar, atol=1e-9)
        np.testing.assert_allclose(found[:, -1], branch.s, atol=1e-9)


FROM_START = [
    {"network": "net, 0", "n_inits": 128, "tool": "slowpoints, first run", "ours": True}
    | {"limit": 60, "seconds": 3.0, "import": 0.8, "first": 2.2, "again": 0.02, "found": 9},
    {"network": "net, 0", "n_inits": 128, "tool": "SciPy hybr", "ours": False}
    | {"limit": 60, "seconds": 2.0, "import": 0.8, "first": 1.2, "again": 1.0, "found": 8},
    {"network": "net, 0", "n_inits": 128, "tool": "slow", "ours": False}
    | {"limit": 60, "seconds": None},
]


def test_whole_processes_as_tables():
    text = _section("from-start", FROM_START)
    assert "| net, 0         | 128    | 3 s, 9                | 2 s, 8     | over 60 s |" in text
    assert "| net, 0         | 128    | first run | 800 ms | 2.2 s      | 20 ms       |" in text


@pytest.mark.parametrize(("name", "i"), [*from_start.CASES, ("field/context_leaky_128_s11", 0)])
def test_a_script_takes_the_step_of_the_other_experiments(name, i):
    path = networks._CASES / f"{name}.npz"
    arrays, u, x = one_process.read(path, i, 4)
    step = one_process.step(jnp, jax.nn.sigmoid, arrays, jnp.asarray(x[0]), jnp.asarray(u))
    if name.startswith("field/"):
        network, _ = networks.field(name.removeprefix("field/"), i)
        np.testing.assert_array_equal(u, network.u)
    else:
        network = networks.load("tanh 16", path.parent)
    np.testing.assert_allclose(step, network.F(x[0], jnp.asarray(u)), atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_whole_processes_are_timed_and_those_that_take_long_are_stopped(tmp_path):
    settings = dataclasses.replace(
        _tiny(tmp_path), start_cases=from_start.CASES[:1], start_counts=(16, 32), start_runs=1
    )
    rows = from_start.from_start(settings, _silent)
    ours = [row for row in rows if row["ours"]]
    assert [row["n_inits"] for row in ours] == [16, 16, 32, 32]
    for row in rows:
        assert row["found"] > 1 and row["seconds"] > row["first"] > 0
    stopped = from_start._run(
        "SciPy hybr",
        *from_start.CASES[0],
        16,
        dataclasses.replace(settings, start_limit=0.2),
        "off",
    )
    assert "found" not in stopped and stopped["seconds"] < 5
    with pytest.raises(RuntimeError, match="no tool failed"):
        from_start._run("no tool", *from_start.CASES[0], 16, settings, "off")


@pytest.mark.slow
def test_experiments_become_tables_and_figures(tmp_path):
    results = {
        "compare": COMPARE,
        "field": FIELD,
        "canns-example": EXAMPLE,
        "full-recall": FULL_RECALL,
        "rate": _rate_result(),
        "unique": experiments.deduplication(_tiny(tmp_path), _silent),
        "size": _size_result(),
        "inits": _inits_result(),
        "branches": BRANCHES,
        "from-start": FROM_START,
    }
    assert [row["found"] for row in results["unique"]] == [100, 27]
    wrapped = {
        name: {"environment": timing.environment(), "result": result}
        for name, result in results.items()
    }
    wrapped = json.loads(json.dumps(wrapped))
    for name in experiments.ALL:
        assert tables.section(name, wrapped).count("|") > 10
    assert "2 s, 25/27" in tables.section("compare", wrapped)
    assert "absent: not run; not there" in tables.section("compare", wrapped)
    assert "$N^{1.50}$" in tables.section("size", wrapped)
    assert "1.50 Gflop/s" in tables.section("rate", wrapped)
    drawn = figures.draw_all(wrapped, tmp_path)
    assert set(drawn) == {"front", "compare", "field", "size", "inits"}
    assert all(path.stat().st_size > 5000 for path in drawn.values())


def marks(ax):
    """Return where the marks of an axes are, sorted."""
    return sorted((*map(float, line.get_xdata()), *line.get_ydata()) for line in _marks(ax))


def _marks(ax):
    return [line for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata()) == 1]


def test_the_front_figure_has_the_default_and_other_packages_and_marks_what_is_missing():
    results = {"compare": {"result": COMPARE}, "field": {"result": FIELD}}
    above, below = figures._front(results).axes
    # Not the pipeline, what is no package, or what did not run. Of 1024 states each.
    times = sorted(1e3 * t / 1024 for t in (0.1, 0.01, 2.0, 5.0, 0.5))
    np.testing.assert_allclose([x for x, _ in marks(above)], times)
    assert sorted(text.get_text() for text in above.texts) == ["12/27", "25/27", "25/27", "26/27"]
    assert sorted(x for x, _ in marks(below)) == [1e-2, 1, 1, 10, 20, 40]
    assert sorted(text.get_text() for text in below.texts) == ["0/3", "2/3"]
    hollow = [line.get_markerfacecolor() == "white" for line in _marks(below)]
    assert sum(hollow) == 2 and above.get_xscale() == "log"
    assert [t.get_text() for t in below.get_yticklabels()] == ["one", "two"]


def test_marks_that_would_hide_each_other_are_drawn_aside():
    assert figures._aside([1.0, 10.0, 12.0, 15.0, 100.0]) == [0.0, -0.16, 0.16, -0.16, 0.0]
    assert figures._name("ring_gru_128_s14, 0", ["ring_gru_128_s14, 0"]) == "ring, GRU 128"
    both = ["context_gru_128_s12, 0", "context_gru_128_s12, 1"]
    assert figures._name(both[1], both) == "context, GRU 128, input 1"
    assert figures._name("tanh 16", ["tanh 16"]) == "tanh 16"


def test_panels_are_in_two_columns_and_memory_has_numbers():
    rows = [row | {"network": f"net {k}"} for k in range(5) for row in COMPARE[:3]]
    fig = figures._recall({"compare": {"result": rows}})
    columns = {round(ax.get_position().x0, 2) for ax in fig.axes}
    assert len(fig.axes) == 6 and len(columns) == 2
    time, memory = figures._size({"size": {"result": _size_result()}}).axes
    assert [len(line.get_xdata()) for line in time.lines] == [2]  # measured, and no fitted line
    assert memory.get_ylim()[0] == 0
    fig.canvas.draw()
    assert sum(label.get_text() != "" for label in memory.get_yticklabels()) >= 3


def test_a_mark_that_would_cover_another_is_small_and_none_is_moved():
    rows = [
        {"seconds": seconds, "found": found, "known": 10}
        for seconds, found in ((1.0, 10), (1.2, 10), (1.3, 10), (1.1, 5))
    ]
    large, small = figures._LARGE, figures._SMALL
    assert figures._sizes(rows[:2]) == [large, small]
    assert figures._sizes([rows[1], rows[0]]) == [small, large]  # the slower one, in any order
    assert figures._sizes([rows[0], rows[2]]) == [large, large]  # far enough from each other
    assert figures._sizes([rows[0], rows[3]]) == [large, large]
    rows = [row | {"tool": "canns", "network": "net", "complete": True} for row in rows]
    ax, _ = figures._recall({"compare": {"result": rows}}).axes
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    assert drawn == [(row["seconds"], 10 * row["found"]) for row in rows]


def test_extrapolated_times_are_marked_by_a_sign_not_by_hollow_marks():
    rows = [COMPARE[0], COMPARE[0] | {"tool": "canns", "seconds": 50.0, "complete": False}]
    ax, legend = figures._recall({"compare": {"result": rows}}).axes
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [("≈", 50.0)]
    assert not any(line.get_markerfacecolor() == "white" for line in ax.lines)
    assert "time extrapolated" in [text.get_text() for text in legend.get_legend().get_texts()]


@pytest.mark.slow
def test_figures_can_be_drawn_from_the_tables_of_a_page(tmp_path, monkeypatch):
    results = {
        "compare": COMPARE,
        "field": FIELD,
        "full-recall": FULL_RECALL,
        "size": _size_result(),
        "inits": _inits_result(),
    }
    wrapped = {
        name: {"environment": timing.environment(), "result": result}
        for name, result in results.items()
    }
    page = tmp_path / "benchmarks.md"
    page.write_text(f"every tool gets the same 1024.\n{tables.START}{tables.END}")
    tables.write_docs(page, wrapped, {})
    read = {name: part["result"] for name, part in stored.read(page).items()}
    assert set(read) == set(results)
    for name in ("compare", "field"):
        ran = [row for row in results[name] if "skipped" not in row]
        for kept, row in zip(read[name], ran, strict=True):
            for key in ("network", "tool", "found", "known"):
                assert kept[key] == row[key]
            time = row.get("seconds_per_row", row.get("seconds"))
            assert kept["seconds"] == pytest.approx(time, rel=0.05)
            assert kept.get("complete") in (None, row.get("complete", True))
    assert {row["n_rows"] for row in read["compare"]} == {1024}
    assert [row["n_rows"] for row in read["field"]] == [128, 128, 32, 32, 32, 128, 32]
    for kept, row in zip(read["size"]["rows"], results["size"]["rows"], strict=True):
        assert kept["n_units"] == row["n_units"]
        assert kept["peak_memory"] == pytest.approx(row["peak_memory"], rel=0.01)
        assert kept["seconds_per_row"] == pytest.approx(row["seconds_per_row"], rel=0.05)
    assert read["size"]["baseline_memory"] == 4e8
    assert read["full-recall"][0]["seconds"] == 0.2
    assert [row["n_inits"] for row in read["inits"]["rows"]] == [1000, 10000]
    monkeypatch.setattr(command, "_PAGE", page)
    CliRunner().invoke(command.main, ["--draw-docs"], catch_exceptions=False)
    assert len(list((tmp_path / "figures").glob("benchmark-*.png"))) == 5


def test_the_tables_of_the_documentation_can_be_read():
    read = stored.read(command._PAGE)
    assert set(read) == set(stored._READERS)
    ours = [row for row in read["field"]["result"] if row["tool"] == "slowpoints"]
    assert len(ours) >= 8 and all(row["n_rows"] == 128 for row in ours)
    assert len({row["network"] for row in read["compare"]["result"]}) >= 5


def _silent(_):
    pass


def _size_result():
    rows = [
        {"n_units": n, "seconds_per_row": 1e-6 * n**1.5, "iterations": 8.0, "fixed": 1.0}
        | {"peak_memory": 4e8 + 8 * n**2, "compile_seconds": 2.0}
        for n in (256, 1024)
    ]
    result = {"rows": rows, "baseline_memory": 4e8, "fitted_from": 256}
    result["memory_above_baseline_exponent"] = None
    return result | {"time_exponent": 1.5, "memory_exponent": 0.02}


def _inits_result():
    rows = [{"n_inits": n, "seconds": 1e-4 * n, "peak_memory": 4e8} for n in (1000, 10000)]
    return {"rows": rows, "time_exponent": 1.0}


def _rate_result():
    row = {"network": "net", "flops_per_iteration": 1e6, "iterations": 9000, "seconds": 6.0}
    row |= {"rate": 1.5e9, "share": 0.01}
    return {"rows": [row], "matrix_product": 1.5e11, "matrix_size": 2048}


@pytest.mark.slow
def test_rate_is_below_that_of_a_matrix_product(tmp_path):
    result = experiments.arithmetic_rate(_tiny(tmp_path), _silent)
    assert [row["network"] for row in result["rows"]] == ["tanh 16", "Hopfield 32"]
    assert all(0 < row["share"] < 1 for row in result["rows"])


@pytest.mark.slow
def test_scaling_runs_in_processes_of_its_own(tmp_path):
    result = experiments.with_size(_tiny(tmp_path), _silent)
    assert [row["n_units"] for row in result["rows"]] == [32]
    assert result["baseline_memory"] > 0 and result["time_exponent"] is None


@pytest.mark.exhaustive
@pytest.mark.slow
def test_full_recall_is_that_of_the_reference(tmp_path):
    (row,) = experiments.full_recall(_tiny(tmp_path), _silent)
    assert 8 <= row["known"] <= 27
    for run in row["runs"]:
        n, count, _ = run["recall"][-1]
        assert (count == row["known"]) == ("seconds" in run)
        assert run.get("n_inits", n) == n


# ---- the command and the page ------------------------------------------------------------------


def test_command_writes_results_and_prints_a_table(tmp_path):
    args = ["--out", str(tmp_path), "unique", "--n-inits", "32", "--n-runs", "1"]
    out = CliRunner().invoke(command.main, args, catch_exceptions=False)
    assert out.exit_code == 0 and "| rows x states" in out.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["unique"]["environment"]["packages"]["slowpoints"]


def test_command_refuses_docs_without_results(tmp_path):
    out = CliRunner().invoke(command.main, ["--out", str(tmp_path), "--write-docs"])
    assert out.exit_code == 1 and "results.json" in out.output


def test_command_puts_results_into_the_page(tmp_path, monkeypatch):
    wrapped = {"size": {"environment": timing.environment(), "result": _size_result()}}
    (tmp_path / "results.json").write_text(json.dumps(wrapped))
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text(f"{tables.START}{tables.END}")
    monkeypatch.setattr(command, "_PAGE", page)
    args = ["--out", str(tmp_path), "--write-docs"]
    CliRunner().invoke(command.main, args, catch_exceptions=False)
    assert "](figures/benchmark-size.png)" in page.read_text()
    assert (page.parent / "figures" / "benchmark-size.png").exists()


def test_results_that_were_not_taken_anew_stay_in_the_page(tmp_path):
    page = tmp_path / "page.md"
    size = f"### {tables.SECTIONS['size'][0]}\n\nold size\n\n#### more of it"
    compare = f"### {tables.SECTIONS['compare'][0]}\n\nold comparison"
    page.write_text(f"{tables.START}\n\n{size}\n\n{compare}\n\n{tables.END}\n")
    wrapped = {"compare": {"environment": timing.environment(), "result": COMPARE}}
    wrapped["canns-example"] = {"environment": timing.environment(), "result": EXAMPLE}
    tables.write_docs(page, wrapped, {})
    text = page.read_text()
    assert size in text and "old comparison" not in text
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    names = ("compare", "canns-example", "size")
    assert titles == [f"### {tables.SECTIONS[name][0]}" for name in names]


def test_docs_are_rewritten_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{tables.START}\nold\n{tables.END}\n\nafter\n")
    wrapped = {"compare": {"environment": timing.environment(), "result": COMPARE}}
    for _ in range(2):
        tables.write_docs(page, wrapped, {"compare": "figures/x.png"})
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\n\nafter\n") and "old" not in text
    assert text.count("### Beside other tools") == 1 and "](figures/x.png)" in text
    with pytest.raises(ValueError, match="has no lines"):
        (tmp_path / "other.md").write_text("nothing")
        tables.write_docs(tmp_path / "other.md", wrapped, {})
