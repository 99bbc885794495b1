"""Searches across processes: each ends with what one process finds in all their states.

The processes are real ones, on the loopback device, and import this module.
"""

import socket
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.processes import run_processes

from slowpoints import (
    AbstractSolver,
    FixedPointFinder,
    FixedPoints,
    LevenbergMarquardt,
    Transition,
    find_fixed_points,
    unique,
)
from slowpoints.solvers import Found

N_STATES = 40


class Well(Transition):
    """A saddle at `-2 u`, near zero, between two stable points."""

    strength: jax.Array

    def __call__(self, x, u):
        return jnp.stack([x[0] + x[0] * (1 - x[0] ** 2) / 2 + u[0], self.strength * x[1]])


class Stay(AbstractSolver):
    """Leaves every row where it starts."""

    def run(self, F, x_init, inputs, stopping, report=None):
        return Found.nothing(x_init)


def starts():
    return np.random.default_rng(0).uniform(-1.5, 1.5, (N_STATES, 2)).astype(np.float32)


def inputs():
    return np.where(np.arange(N_STATES) % 2, 0.0, 0.05)[:, None].astype(np.float32)


def part(i, n):
    """Return the rows of process `i` of `n`; of unequal numbers, and none for the last of four."""
    bounds = {1: [0, 40], 2: [0, 27, 40], 4: [0, 9, 23, 40, 40]}[n]
    return slice(bounds[i], bounds[i + 1])


def arguments(rows, **settings):
    names = np.array([f"start {k:02d}" for k in range(N_STATES)])
    settings = {"solver": LevenbergMarquardt(), "cond_id": names[rows]} | settings
    return {
        "F": Well(jnp.float32(0.5)),
        "x_init": starts()[rows],
        "inputs": inputs()[rows],
    } | settings


SETTINGS = {
    "default": {},
    # Rows stay where they are, as ranks by `q` would otherwise hang on rounding.
    "best": {"max_n_unique": 5, "tol_unique": 0.3, "solver": Stay(), "final_q_threshold": None},
    # The mean of all states, and their distance from it, differ from those of each part.
    "near": {"outlier_distance_scale": 0.9, "x_init": starts() + 0.5},
    "searched on": {"max_iters": 3, "outlier_q_scale": 2.0, "final_q_threshold": None},
}
"""What `find_fixed_points` is called with besides."""


def find(name, rows=slice(None), **settings):
    given = {
        key: np.asarray(value, np.float32)[rows] if key == "x_init" else value
        for key, value in SETTINGS[name].items()
    }
    return find_fixed_points(**arguments(rows, **given, **settings))


# ---- what runs in the processes ----------------------------------------------------------------


def own_rows():
    return part(jax.process_index(), jax.process_count())


def as_arrays(prefix, fps):
    fields = ((name, getattr(fps, name)) for name in FixedPoints.array_fields)
    return {f"{prefix}/{name}": np.asarray(v) for name, v in fields if v is not None}


def search():
    """Find with each of the settings; before, one process searches for itself."""
    if jax.process_index() == 1:
        assert find("default", slice(0, 8))[0].n >= 2
    out = {}
    for name in SETTINGS:
        fps, all_fps = find(name, own_rows(), across_processes=True)
        out |= as_arrays(name, fps) | as_arrays(f"{name}/all", all_fps)
    return out


def dense():
    """Keep a cover of states that lie much more densely than `tol_unique`."""
    given = arguments(own_rows(), F=lambda x, u: x, solver=Stay(), inputs=np.zeros(0))
    settings = {"tol_unique": 0.4, "compute_jacobians": False}
    fps, _ = find_fixed_points(**given, **settings, across_processes=True)
    return as_arrays("dense", fps)


def facade():
    settings = {"across_processes": True, "verbose": False, "solver": LevenbergMarquardt()}
    finder = FixedPointFinder(Well(jnp.float32(0.5)), **settings)
    ids = 100 * jax.process_index() + np.arange(12)
    traj = starts()[None]
    fps, all_fps = finder.find_fixed_points(traj, np.zeros((1, 1)), n_inits=12, cond_ids=ids)
    return as_arrays("facade", fps) | as_arrays("facade/all", all_fps)


def disagree():
    """Give one process another model, another setting, another type; and see what that is told."""
    last = jax.process_index() == jax.process_count() - 1
    rows = own_rows()
    others = {
        "F": {"F": Well(jnp.float32(0.25 if last else 0.5))},
        "tol_unique": {"tol_unique": 1e-2 if last else 1e-3},
        "type of cond_id": {"cond_id": None if last else np.arange(N_STATES)[rows]},
    }
    out = {}
    for name, settings in others.items():
        with pytest.raises(ValueError, match=f"`{name}` must be the same in all processes") as info:
            find("default", rows, across_processes=True, **settings)
        out[name] = np.array(str(info.value))
    other_devices = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
    with pytest.raises(ValueError, match="`mesh` holds devices of other processes"):
        find("default", rows, mesh=other_devices)
    return out


class Stopped(Exception):
    """What a test's own functions raise."""


def raises(*_):
    raise Stopped("not today")


def in_jit(**given):
    """Search inside of `jit`, which cannot be done across processes."""
    x = given.pop("x_init")
    return jax.jit(lambda x: find_fixed_points(x_init=x, **given))(x)


def finder_given(F=None, settings=None, **given):
    """Search with the class; its settings are those of the arguments that it does not take."""
    own = {"across_processes": True, "verbose": False, "solver": LevenbergMarquardt()}
    model = Well(jnp.float32(0.5)) if F is None else F
    finder = FixedPointFinder(model, **own | (settings or {}))
    given = {"state_traj": starts()[None], "inputs": np.zeros((1, 1)), "n_inits": 8} | given
    return finder.find_fixed_points(**given)


BAD = {
    "shape": ({"x_init": np.zeros(3, np.float32)}, ValueError, r"`x_init` has shape \(3,\)"),
    "states": (
        {"x_init": np.zeros((9, 3), np.float32), "inputs": np.zeros(1), "cond_id": None},
        ValueError,
        "the model",
    ),
    "NaN": ({"inputs": np.full(1, np.nan)}, ValueError, "`inputs`.*NaN"),
    "rows of inputs": ({"inputs": np.zeros((7, 1))}, ValueError, r"`inputs` has shape \(7, 1\)"),
    "rows of cond_id": ({"cond_id": np.zeros(7, int)}, ValueError, "`cond_id`"),
    "text": ({"x_init": "zeros"}, TypeError, "`x_init`"),
    "tol_q": ({"tol_q": "low"}, TypeError, "`tol_q`"),
    "solver": ({"solver": "adam"}, TypeError, "`solver`"),
    "no model": ({"F": 3}, TypeError, "`model` is a builtins.int"),
    "a model that raises": ({"F": raises}, ValueError, "Stopped: not today"),
    "progress": ({"progress": raises}, Stopped, "not today"),
    "objects": ({"cond_id": "objects"}, TypeError, "`cond_id` holds Python objects"),
    "no cond_id": ({"within_conditions": True, "cond_id": None}, ValueError, "`cond_id` is None"),
    "mesh": ({"mesh": "all devices"}, ValueError, "`mesh` holds devices of other processes"),
    "jit": ({"call": in_jit}, ValueError, "does not work inside `jit`"),
    "flag": ({"across_processes": "yes"}, TypeError, "`across_processes`"),
}
"""What one process gives to a search, and the error that it gets."""

BAD_FOR_THE_CLASS = {
    "state_traj": ({"state_traj": np.zeros(3)}, ValueError, r"`state_traj` has shape \(3,\)"),
    "not finite": ({"state_traj": np.full((1, 4, 2), np.nan)}, ValueError, "`state_traj`.*NaN"),
    "n_inits": ({"n_inits": -1}, ValueError, "`n_inits`"),
    "noise": ({"noise_scale": "loud"}, TypeError, "`noise_scale`"),
    "a model that raises": ({"F": raises}, ValueError, "Stopped: not today"),
    # When the finder is made.
    "no model": ({"F": 3}, TypeError, "`model` is a builtins.int"),
    "tol_q": ({"settings": {"tol_q": -1}}, ValueError, "`tol_q` is -1"),
    "solver": ({"settings": {"solver": "best"}}, ValueError, "`solver` is 'best'"),
    "coverage": ({"settings": {"coverage": 0.9}}, ValueError, "`coverage` is 0.9"),
    "flag": ({"settings": {"across_processes": "yes"}}, TypeError, "`across_processes`"),
}


def told(search, bad, culprit, given, kind, words):
    """Return what each process is told if one of them gives `bad` to a search."""
    given = {"call": search} | given | (bad if jax.process_index() == culprit else {})
    if jax.process_index() == culprit:
        with pytest.raises(kind, match=words) as info:
            given.pop("call")(**given)
    else:
        sentence = rf"(?s)process {culprit} refused its input: \w+: .*{words}"
        with pytest.raises(ValueError, match=sentence) as info:
            given.pop("call")(**given)
    return np.array(str(info.value))


def refuse():
    """Give one process bad input: all of them are told, and none waits for ever."""
    jax.config.update("jax_disable_most_optimizations", True)
    own = arguments(own_rows(), cond_id=np.arange(N_STATES)[own_rows()], across_processes=True)
    out = {}
    for name, (bad, kind, words) in BAD.items():
        if name == "objects":
            bad = {"cond_id": np.array([object()] * len(own["x_init"]))}
        if name == "mesh":
            bad = {"mesh": jax.sharding.Mesh(np.array(jax.devices()), ("rows",))}
        for culprit in range(jax.process_count()):
            out[f"{name}/{culprit}"] = told(find_fixed_points, bad, culprit, own, kind, words)
    for name, (bad, kind, words) in BAD_FOR_THE_CLASS.items():
        out[f"class/{name}"] = told(finder_given, bad, 1, {}, kind, words)
    # Several at once: each gets its own error.
    given = own | {"inputs": np.full(1, np.nan)}
    with pytest.raises(ValueError, match=r"^find_fixed_points: `inputs`.*NaN"):
        find_fixed_points(**given)
    with pytest.raises(ValueError, match=r"^FixedPointFinder: `tol_q` is -1"):
        finder_given(settings={"tol_q": -1})
    # One process has states to start from, where the other draws its own.
    if jax.process_index() == 0:
        _, rows = finder_given(state_traj=starts()[:5], n_inits=5)
    else:
        _, rows = finder_given()
    assert rows.n == (8 if jax.process_index() else 5)
    # The processes are still in step with each other.
    fps, _ = find_fixed_points(**own)
    return out | as_arrays("in step", fps)


def differ():
    """Give the last process valid input that does not go with that of the others."""
    jax.config.update("jax_disable_most_optimizations", True)
    last = jax.process_index() == jax.process_count() - 1
    own = arguments(own_rows(), cond_id=np.arange(N_STATES)[own_rows()], across_processes=True)
    half = {"F": lambda x, u: x / 2, "inputs": np.zeros(0)}
    others = {
        "number of states": half | {"x_init": np.zeros((9, 3 if last else 2)), "cond_id": None},
        "number of inputs": half | {"inputs": np.zeros(2 if last else 1)},
        "within_conditions": {"within_conditions": last},
        "final_q_threshold": {"final_q_threshold": 1e-3 if last else None},
        "max_iters": {"max_iters": 10 if last else 11},
        "solver": {"solver": Stay() if last else LevenbergMarquardt()},
    }
    out = {}
    for name, settings in others.items():
        with pytest.raises(ValueError, match=f"`{name}` must be the same in all processes") as info:
            find_fixed_points(**own | settings)
        out[name] = np.array(str(info.value))
    # Different numbers of rows are no mistake.
    fps, rows = find_fixed_points(**own)
    assert fps.n >= 3 and rows.n == len(own["x_init"])
    return out


def everything():
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time is compilation
    return search() | dense() | facade() | disagree()


# ---- the tests ---------------------------------------------------------------------------------


@cache
def results(n):
    return run_processes("test_distribution:everything", n, n_devices=2 if n == 2 else 1)


def slow_in_several(test):
    two = pytest.param(2, marks=pytest.mark.exhaustive)
    return pytest.mark.slow(pytest.mark.parametrize("n", [4, two])(test))


@pytest.mark.one_in(4)
@pytest.mark.filterwarnings("ignore:find_fixed_points")  # of what a small distance drops
@slow_in_several
@pytest.mark.parametrize("name", SETTINGS)
def test_every_process_ends_with_what_one_process_finds(n, name):
    expected, expected_all = (fps.to_numpy() for fps in find(name, mesh=None))
    order = np.lexsort((expected.xstar[:, 0], expected.inputs[:, 0]))
    for i, found in enumerate(results(n)):
        got = {key: found[f"{name}/{key}"] for key in ("xstar", "inputs", "qstar", "cond_id")}
        same = np.lexsort((got["xstar"][:, 0], got["inputs"][:, 0]))
        assert len(same) == expected.n
        np.testing.assert_allclose(got["xstar"][same], expected.xstar[order], atol=1e-4)
        np.testing.assert_array_equal(got["inputs"][same], expected.inputs[order])
        np.testing.assert_allclose(
            found[f"{name}/J_xstar"][same], expected.J_xstar[order], atol=1e-3
        )
        np.testing.assert_array_equal(found[f"{name}/is_stable"][same], expected.is_stable[order])
        # The rows are this process's own.
        np.testing.assert_array_equal(found[f"{name}/all/x_init"], expected_all.x_init[part(i, n)])
        np.testing.assert_array_equal(
            found[f"{name}/all/cond_id"], expected_all.cond_id[part(i, n)]
        )
    assert 0 < expected.n < N_STATES


@slow_in_several
def test_every_process_ends_with_the_same_bits(n):
    first, *others = results(n)
    for other in others:
        for key, value in first.items():
            if "/all/" not in key:
                assert value.tobytes() == other[key].tobytes(), key


@slow_in_several
def test_a_dense_set_is_covered_as_by_one_process(n):
    """Where what one process drops depends on what another one keeps."""
    rows = FixedPoints(xstar=starts(), qstar=np.zeros(N_STATES, np.float32))
    expected = np.asarray(unique(rows, 0.4).compact().xstar)
    parts = [unique(rows[part(i, n)], 0.4).compact() for i in range(n)]
    merged = unique(FixedPoints.concatenate(parts), 0.4).compact()
    in_order = lambda x: np.asarray(x)[np.lexsort(np.asarray(x).T)]  # noqa: E731
    if n == 4:
        assert not np.array_equal(in_order(merged.xstar), in_order(expected)), "too easy"
    for found in results(n):
        np.testing.assert_array_equal(in_order(found["dense/xstar"]), in_order(expected))


@slow_in_several
def test_the_class_draws_other_states_in_each_process(n):
    found = results(n)
    drawn = np.concatenate([out["facade/all/x_init"] for out in found])
    assert len(drawn) == 12 * n and not np.array_equal(drawn[:12], drawn[12:24])
    for i, out in enumerate(found):
        x = np.sort(out["facade/xstar"][:, 0])
        np.testing.assert_allclose(x, [-1, 0, 1], atol=1e-4)
        assert out["facade/all/cond_id"].tolist() == (100 * i + np.arange(12)).tolist()
        assert out["facade/cond_id"].dtype == np.int64
        ids = out["facade/cond_id"]
        origin = drawn[12 * (ids // 100) + ids % 100]
        np.testing.assert_array_equal(out["facade/x_init"], origin)


@slow_in_several
def test_processes_that_disagree_are_told_so(n):
    for out in results(n):
        for name in ("F", "tol_unique", "type of cond_id"):
            assert str(out[name]).endswith(f"differs between processes 0 and {n - 1}.")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points")
def test_if_a_process_refuses_its_input_all_are_told_and_none_waits_for_ever():
    found = run_processes("test_distribution:refuse", 2, timeout=300)
    for i, out in enumerate(found):
        assert len(out["in step/xstar"]) > 3
        for name in BAD:
            for culprit in (0, 1):
                is_told_of_another = f"process {culprit} refused" in str(out[f"{name}/{culprit}"])
                assert is_told_of_another == (i != culprit)


@pytest.mark.slow
def test_processes_that_do_not_go_together_are_told_by_the_name_of_what_differs():
    for out in run_processes("test_distribution:differ", 2, timeout=300):
        for message in out.values():
            assert str(message).endswith("differs between processes 0 and 1.")


# ---- one process is all there is ---------------------------------------------------------------


@pytest.mark.slow
def test_a_job_of_one_process_is_a_plain_search():
    with pytest.warns(UserWarning, match="fixed points, far from the initial states"):
        plain, plain_all = find("near", mesh=None)
    with pytest.warns(UserWarning, match="fixed points, far from the initial states"):
        alone, alone_all = find("near", mesh=None, across_processes=True)
    assert plain.n == alone.n > 0
    np.testing.assert_allclose(alone.xstar, plain.xstar)
    np.testing.assert_allclose(alone.J_xstar, plain.J_xstar)
    np.testing.assert_array_equal(alone.cond_id, plain.cond_id)
    np.testing.assert_array_equal(alone.hits, plain.hits)
    np.testing.assert_array_equal(alone_all.xstar, plain_all.xstar)


def before_the_job():
    """Make a finder, and only then become a job; of one process."""
    finder = FixedPointFinder(lambda x, u: x / 2, across_processes=True, verbose=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jax.distributed.initialize(f"127.0.0.1:{port}", 1, 0)
    fps, _ = finder.find_fixed_points(starts(), np.zeros((1, 0)), n_inits=N_STATES)
    jax.distributed.shutdown()
    return as_arrays("late", fps)


@pytest.mark.slow
def test_a_finder_may_be_made_before_the_job():
    (out,) = run_processes("test_distribution:before_the_job", 1)
    assert len(out["late/xstar"]) == 1


@pytest.mark.checks_input
def test_what_cannot_be_sent_is_refused():
    ids = np.array([object()] * N_STATES)
    with pytest.raises(TypeError, match="`cond_id` holds Python objects"):
        find("default", cond_id=ids, mesh=None, across_processes=True)


def test_it_does_not_work_inside_jit():
    def inside(x):
        given = arguments(slice(None), cond_id=None) | {"x_init": x}
        return find_fixed_points(**given, across_processes=True)

    with pytest.raises(ValueError, match="does not work inside `jit`"):
        jax.jit(inside)(starts())
