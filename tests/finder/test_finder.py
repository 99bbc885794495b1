"""`FixedPointFinder`, on trained networks and on systems with known answers."""

import inspect
import re
from functools import cache

import brainpy as bp
import brainpy.math as bm
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import (
    CELLS,
    INDEX_COUNTS,
    WELL_POINTS,
    Affine,
    DoubleWell,
    FlipFlop,
    case,
    index_counts,
    newton_polish,
    next_states,
    trained,
)
from tqdm import tqdm

from slowpoints import (
    Adam,
    FixedPointFinder,
    FixedPoints,
    KrylovTrustRegion,
    LevenbergMarquardt,
    PlotConfig,
    cache_programs,
    find_fixed_points,
    load_checkpoint,
    plot_fixed_points_2d,
    plot_fixed_points_3d,
    save_checkpoint,
)
from slowpoints._core import program_folder
from slowpoints._core.programs import forget_programs
from slowpoints._finder import fixed_point_finder as _finder
from slowpoints._search.memory import rows_within

# ---- the documented contract -------------------------------------------------------------------

DEFAULTS = {
    "rnn_model": inspect.Parameter.empty,
    "method": "joint",
    "max_iters": 5000,
    "tol_q": 1e-12,
    "tol_dq": 1e-20,
    "lr_init": 1.0,
    "lr_factor": 0.95,
    "lr_patience": 5,
    "lr_cooldown": 0,
    "do_compute_jacobians": True,
    "do_decompose_jacobians": True,
    "tol_unique": 1e-3,
    "do_exclude_distance_outliers": True,
    "outlier_distance_scale": 10.0,
    "do_rerun_q_outliers": False,
    "outlier_q_scale": 10.0,
    "max_n_unique": np.inf,
    "final_q_threshold": 1e-8,
    "dtype": "float32",
    "verbose": True,
    "super_verbose": False,
    "n_iters_per_print_update": 100,
}


def test_the_constructor_has_the_documented_names_places_and_defaults():
    parameters = inspect.signature(FixedPointFinder).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == list(DEFAULTS.items())


def test_the_search_has_the_documented_names_places_and_defaults():
    parameters = inspect.signature(FixedPointFinder.find_fixed_points).parameters
    empty = inspect.Parameter.empty
    assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    documented = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in documented][1:] == [
        ("state_traj", empty),
        ("inputs", empty),
        ("n_inits", 1024),
        ("noise_scale", 0.0),
        ("valid_bxt", None),
        ("cond_ids", None),
    ]


class SimpleRNN(bp.DynamicalSystem):
    """The documented example's model, with two memories along each of two directions."""

    def __init__(self, n_inputs, n_hidden):
        super().__init__()
        self.w_ih = bm.Variable(0.1 * jnp.ones((n_inputs, n_hidden)))
        self.w_hh = bm.Variable(1.5 * jnp.eye(n_hidden))
        self.b_h = bm.Variable(jnp.zeros(n_hidden))

    def __call__(self, inputs, hidden):
        drive = inputs[:, 0, :] @ self.w_ih.value
        h_next = jnp.tanh(drive + hidden @ self.w_hh.value + self.b_h.value)
        return h_next[:, None, :], h_next


def fixed_states_of_one_unit():
    """Return the roots of `tanh(1.5 x) = x`."""
    x = 1.0
    for _ in range(200):
        x = np.tanh(1.5 * x)
    return np.array([-x, 0.0, x])


def run_documented_example(tmp_path, *settings, **keywords):
    """Do what the documentation of the BrainPy-based class shows, from model to figures."""
    rnn = SimpleRNN(n_inputs=2, n_hidden=4)
    rng = np.random.default_rng(0)
    state_traj = rng.uniform(-1, 1, (16, 20, 4)).astype(np.float32)
    inputs = np.zeros((1, 2), dtype=np.float32)

    finder = FixedPointFinder(rnn, *settings, **keywords)
    unique_fps, all_fps = finder.find_fixed_points(state_traj, inputs, n_inits=128)
    unique_fps.print_summary()

    config = PlotConfig(title="Fixed points", save_path=str(tmp_path / "points.png"), show=False)
    plot_fixed_points_2d(unique_fps, state_traj, config=config)
    plot_fixed_points_3d(unique_fps, state_traj, config=config, plot_batch_idx=[0, 1])
    save_checkpoint(rnn, str(tmp_path / "rnn.msgpack"))
    assert load_checkpoint(SimpleRNN(2, 4), str(tmp_path / "rnn.msgpack"))
    assert (tmp_path / "points.png").stat().st_size > 0
    return unique_fps, all_fps


def assert_points_of_simple_rnn(fps, atol):
    """Every element of every point is one of the three fixed states of a unit."""
    distance = np.abs(fps.xstar[..., None] - fixed_states_of_one_unit()).min(axis=-1)
    assert distance.max() < atol
    unstable = np.sum(np.abs(fps.xstar) < 0.1, axis=1)
    assert np.sum(np.abs(fps.eigval_J_xstar) > 1, axis=1).tolist() == unstable.tolist()
    assert fps.is_stable.tolist() == (unstable == 0).tolist()


@pytest.mark.slow
def test_the_documented_example_runs_as_it_is(tmp_path, capsys):
    fps, all_fps = run_documented_example(tmp_path)
    assert_points_of_simple_rnn(fps, atol=1e-5)
    assert 16 <= fps.n <= 81 and all_fps.n == 128
    out = capsys.readouterr().out
    assert f"Found {fps.n} distinct fixed points" in out
    assert f"Number of fixed points: {fps.n}" in out


@pytest.mark.slow
def test_the_documented_example_runs_one_row_at_a_time(tmp_path):
    fps, all_fps = run_documented_example(
        tmp_path, method="sequential", solver="adam", verbose=False, lr_init=0.1, lr_patience=50
    )
    assert_points_of_simple_rnn(fps, atol=1e-3)
    assert fps.n >= 8 and len(set(all_fps.n_iters)) > 10


def test_arguments_may_be_given_by_place():
    """All 22 of them, in the documented order, with values that are not the defaults."""
    values = ["sequential", 77, 1e-9, 1e-15, 0.5, 0.9, 7, 3, True, False, 0.01]
    values += [False, 5.0, True, 20.0, 3.0, 1e-6, "float64", False, True, 10]
    finder = FixedPointFinder(DoubleWell(), *values)
    names = list(DEFAULTS)[1:]
    assert {name: getattr(finder, name) for name in names} == dict(zip(names, values, strict=True))


# ---- trained networks --------------------------------------------------------------------------


@cache
def finder_of(cell, dtype, seed):
    """Return a finder with defaults: of the BrainPy model in float32, of the JAX one in float64."""
    model = FlipFlop(cell) if dtype == "float32" else trained(cell)
    return FixedPointFinder(model, dtype=dtype, random_seed=seed, verbose=False)


@cache
def search_trained(cell, dtype="float32", seed=0):
    inputs = np.zeros((1, 3), np.float32)
    return finder_of(cell, dtype, seed).find_fixed_points(
        case(cell)["traj"], inputs, n_inits=1024, noise_scale=0.5
    )


every_search = [
    pytest.mark.parametrize(
        "seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))]
    ),
    pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)]),
    pytest.mark.parametrize("cell", CELLS),
]


def on_every_search(test):
    for mark in every_search:
        test = mark(test)
    return test


@pytest.mark.one_in(4)
@pytest.mark.slow_cases
@on_every_search
def test_the_27_fixed_points_of_a_flip_flop_network(cell, dtype, seed):
    fps, _ = search_trained(cell, dtype, seed)
    assert fps.n == 27
    assert index_counts(fps) == INDEX_COUNTS


@pytest.mark.slow
@on_every_search
def test_they_are_where_newtons_method_in_float64_ends(cell, dtype, seed):
    fps, _ = search_trained(cell, dtype, seed)
    x, q = newton_polish(trained(cell), fps.xstar, fps.inputs)
    assert q.max() < 1e-25
    assert np.linalg.norm(fps.xstar - x, axis=1).max() < 1e-3
    distance = np.linalg.norm(x[:, None] - x, axis=-1) + np.eye(27)
    assert distance.min() > 1e-2  # they are 27 different ones


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_numpys_in_the_precision_that_was_asked_for(dtype):
    for fps in search_trained("tanh", dtype):
        for name in FixedPoints.array_fields:
            value = getattr(fps, name)
            assert value is None or isinstance(value, np.ndarray)
        for name in ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq"):
            assert getattr(fps, name).dtype == dtype
        assert fps.dtype == np.dtype(dtype).type
    fps, _ = search_trained("tanh", dtype)
    assert fps.J_xstar.dtype == fps.dFdu.dtype == dtype
    assert fps.eigval_J_xstar.dtype == ("complex64" if dtype == "float32" else "complex128")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-6), ("float64", 1e-14)])
def test_images_belong_to_the_points(dtype, atol):
    for fps in search_trained("tanh", dtype):
        image = next_states(trained("tanh"), fps.xstar, fps.inputs)
        np.testing.assert_allclose(fps.F_xstar, image, atol=atol)


def test_seeds_find_the_same_points_from_other_states():
    first, second = (search_trained("tanh", "float32", seed) for seed in (0, 1))
    assert not (first[1].x_init == second[1].x_init).all(axis=1).any()
    assert all(fp in second[0] for fp in first[0])


@pytest.mark.slow
def test_far_initial_states_lead_to_the_same_points():
    """With noise a hundred times the size of the states."""
    fps, all_fps = finder_of("tanh", "float32", 0).find_fixed_points(
        case("tanh")["traj"], np.zeros((1, 3), np.float32), n_inits=1024, noise_scale=100.0
    )
    known, _ = search_trained("tanh")
    assert np.abs(all_fps.x_init).max() > 100
    assert 8 <= fps.n <= 27
    assert all(fp in known for fp in fps)


@pytest.mark.slow
def test_gradient_descent_finds_at_least_the_stable_points():
    finder = FixedPointFinder(trained("tanh"), solver="adam", verbose=False)
    fps, _ = finder.find_fixed_points(
        case("tanh")["traj"], np.zeros((1, 3), np.float32), n_inits=1024, noise_scale=0.5
    )
    known, _ = search_trained("tanh")
    found = FixedPoints(xstar=fps.xstar, inputs=fps.inputs, tol_unique=1e-2)
    assert known.is_stable.sum() == 8
    assert all(fp in found for fp in known[known.is_stable])


# ---- a system with known answers ---------------------------------------------------------------

N_INITS = 64
NONE = np.zeros((1, 0), np.float32)


def well_states(trials=8, time=16):
    """Return states around the three fixed points of the double well, none of them twice."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1.5, 1.5, (trials, time, 2)).astype(np.float32)


def search_well(inputs=NONE, n_inits=N_INITS, states=None, noise_scale=0.0, **settings):
    arguments = {"verbose": False, "solver": "levenberg_marquardt"} | settings
    call = {k: arguments.pop(k) for k in ("valid_bxt", "cond_ids") if k in arguments}
    finder = FixedPointFinder(DoubleWell(), **arguments)
    states = well_states() if states is None else states
    return finder.find_fixed_points(states, inputs, n_inits, noise_scale, **call)


def by_place(fps):
    return fps[np.argsort(fps.xstar[:, 0])]


@pytest.mark.slow_cases
@pytest.mark.parametrize("method", ["joint", "sequential"])
@pytest.mark.parametrize("solver", ["levenberg_marquardt", "newton_krylov"])
def test_every_solver_finds_the_three_points_of_a_double_well(solver, method):
    fps = by_place(search_well(solver=solver, method=method)[0])
    np.testing.assert_allclose(fps.xstar, WELL_POINTS, atol=1e-4)
    assert fps.is_stable.tolist() == [True, False, True]
    np.testing.assert_allclose(fps.eigval_J_xstar[1], [1.5, 0.5], rtol=1e-5)


def test_a_solver_may_come_with_settings_of_its_own():
    fps = by_place(search_well(solver=LevenbergMarquardt(lanes=7))[0])
    np.testing.assert_allclose(fps.xstar, WELL_POINTS, atol=1e-4)


def test_all_rows_are_in_the_order_of_the_drawn_states():
    _, all_fps = search_well()
    states = well_states().reshape(-1, 2).tolist()
    assert all_fps.n == N_INITS
    assert all(state in states for state in all_fps.x_init.tolist())
    assert len(np.unique(all_fps.x_init, axis=0)) == N_INITS
    # Beyond the wells, every row goes to the well on its own side.
    outside = np.abs(all_fps.x_init[:, 0]) > 1
    np.testing.assert_array_equal(
        np.sign(all_fps.xstar[outside, 0]), np.sign(all_fps.x_init[outside, 0])
    )


def test_only_valid_states_are_drawn():
    valid = np.zeros((8, 16), bool)
    valid[3] = True
    _, all_fps = search_well(valid_bxt=valid)
    states = well_states()[3].tolist()
    assert all(state in states for state in all_fps.x_init.tolist())


def test_noise_is_added_to_the_drawn_states():
    _, quiet = search_well()
    _, noisy = search_well(noise_scale=0.1)
    noise = noisy.x_init - quiet.x_init
    assert 0.07 < noise.std() < 0.13


def row_inputs():
    """Return an input per row: the row's number modulo 4, in steps of 0.05."""
    return (0.05 * (np.arange(N_INITS) % 4)).astype(np.float32)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditions",
    [np.arange(N_INITS) % 4, np.array([f"condition {row % 4}" for row in range(N_INITS)])],
    ids=["numbers", "strings"],
)
def test_inputs_and_conditions_arrive_at_their_rows(conditions):
    fps, all_fps = search_well(row_inputs(), cond_ids=conditions)
    np.testing.assert_array_equal(all_fps.cond_id, conditions)
    np.testing.assert_array_equal(all_fps.inputs, row_inputs())
    image = next_states(DoubleWell(), all_fps.xstar, row_inputs())
    np.testing.assert_allclose(all_fps.F_xstar, image, atol=1e-6)
    for fp in fps:
        assert fp.cond_id[0] == conditions[round(float(fp.inputs[0, 0]) / 0.05)]


@pytest.mark.slow
def test_points_of_different_inputs_are_not_merged():
    """Each of the four inputs has the well's three points, shifted by little."""
    fps, _ = search_well(row_inputs(), tol_unique=1e-3)
    values, counts = np.unique(fps.inputs, return_counts=True)
    assert len(values) == 4 and (counts >= 2).all() and (counts <= 3).all()
    assert search_well(row_inputs(), tol_unique=10.0)[0].n == 1


def test_without_conditions_there_are_none():
    assert [fps.cond_id for fps in search_well()] == [None, None]


def test_the_same_seed_gives_the_same_result():
    (first, first_all), (second, second_all) = (search_well(noise_scale=0.1) for _ in range(2))
    for a, b in ((first, second), (first_all, second_all)):
        for name in FixedPoints.array_fields:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_second_search_draws_other_states():
    finder = FixedPointFinder(DoubleWell(), solver="levenberg_marquardt", verbose=False)
    (_, first), (_, second) = (
        finder.find_fixed_points(well_states(), NONE, N_INITS) for _ in range(2)
    )
    assert set(first.x_init[:, 0]) != set(second.x_init[:, 0])
    np.testing.assert_array_equal(first.x_init, search_well()[1].x_init)


def test_another_seed_draws_other_states():
    first, second = (search_well(random_seed=seed)[1] for seed in (3, 4))
    assert set(first.x_init[:, 0]) != set(second.x_init[:, 0])


@pytest.mark.slow
def test_what_is_passed_in_is_left_as_it_is():
    states, inputs, conditions = well_states(), row_inputs(), np.arange(N_INITS)
    valid = np.ones((8, 16), bool)
    for array in (states, inputs, conditions, valid):
        array.flags.writeable = False
    search_well(inputs, states=states, cond_ids=conditions, valid_bxt=valid, noise_scale=0.1)
    np.testing.assert_array_equal(states, well_states())


@pytest.mark.slow
def test_one_initial_state():
    fps, all_fps = search_well(n_inits=1, solver="adam", lr_init=0.1, do_compute_jacobians=False)
    assert fps.n == all_fps.n == 1


@pytest.mark.checks_input
def test_lists_and_whole_numbers_will_do():
    fps, all_fps = search_well([[]], states=(10 * well_states()).astype(int).tolist())
    assert (all_fps.x_init % 1 == 0).all()
    np.testing.assert_allclose(by_place(fps).xstar[[0, -1]], WELL_POINTS[[0, -1]], atol=1e-4)


# ---- settings arrive where they belong ---------------------------------------------------------


def test_jacobians_and_spectra_are_computed_if_asked_for():
    full, _ = search_well()
    no_spectra, _ = search_well(do_decompose_jacobians=False)
    neither, _ = search_well(do_compute_jacobians=False)
    assert full.J_xstar.shape == (3, 2, 2) and full.has_decomposed_jacobians
    assert no_spectra.J_xstar.shape == (3, 2, 2) and not no_spectra.has_decomposed_jacobians
    assert neither.J_xstar is None and neither.dFdu is None and neither.is_stable is None


def test_the_tolerance_for_one_point():
    assert search_well(tol_unique=1.5)[0].n == 2
    assert search_well(tol_unique=1.5)[0].tol_unique == 1.5


def test_at_most_so_many_points():
    assert search_well(max_n_unique=2.0)[0].n == 2


def test_outliers_in_distance_are_dropped_if_asked_for():
    """The states are spread around the origin at a mean distance of about 1.1."""
    near = {"outlier_distance_scale": 0.5}
    with pytest.warns(UserWarning, match="ended at 2 fixed points, far from the initial states"):
        fps, _ = search_well(**near)
    np.testing.assert_allclose(fps.xstar, [[0, 0]], atol=1e-4)
    assert search_well(**near, do_exclude_distance_outliers=False)[0].n == 3


@pytest.mark.slow
def test_outliers_in_q_are_searched_on_if_asked_for():
    settings = {"max_iters": 2, "final_q_threshold": 0.0, "tol_unique": 0.0}
    settings |= {"do_exclude_distance_outliers": False, "outlier_q_scale": 2.0}
    settings |= {"do_compute_jacobians": False}
    without, _ = search_well(**settings)
    fps, all_fps = search_well(**settings, do_rerun_q_outliers=True)
    outlier = without.qstar > 2 * np.median(without.qstar)
    assert fps.qstar.sum() < without.qstar.sum()
    assert all_fps.n_iters.max() == 2 < fps.n_iters.max() <= 4
    assert not (fps.n_iters[~outlier] > 2).any() and outlier.any()


@pytest.mark.slow
def test_the_threshold_for_q():
    # This one leaves some of `q`, and does not end its rows by the threshold.
    settings = {"tol_q": 1e-9, "do_compute_jacobians": False, "solver": "adam", "lr_init": 0.1}
    every, _ = search_well(final_q_threshold=0.0, **settings)
    highest = float(every.qstar.max())
    kept, _ = search_well(final_q_threshold=highest, **settings)
    assert 0 < highest < 1e-9
    assert sorted(kept.qstar) == sorted(every.qstar[every.qstar < highest])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
def test_the_tolerances_and_the_limit_of_a_search():
    assert search_well(max_iters=2)[1].n_iters.max() == 2
    early = search_well(tol_q=1e-3, solver=KrylovTrustRegion(polish=False))
    assert early[1].n_iters.sum() < search_well()[1].n_iters.sum()
    assert search_well(tol_dq=1e-2)[1].n_iters.sum() < search_well()[1].n_iters.sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_the_learning_rate_of_the_documented_method():
    """Adam's first step has the length of the learning rate in every direction."""
    _, all_fps = search_well(solver="adam", lr_init=0.125, max_iters=1)
    step = np.abs(all_fps.xstar - all_fps.x_init)
    assert np.median(step) == pytest.approx(0.125, rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_the_schedule_of_the_documented_method(capsys):
    """On `x + u` no state is better than another, so the rate falls as fast as it may."""
    finder = FixedPointFinder(
        Affine(jnp.eye(2), jnp.eye(2)),
        solver="adam",
        max_iters=12,
        tol_dq=0.0,
        lr_init=0.5,
        lr_factor=0.5,
        lr_patience=2,
        lr_cooldown=1,
        verbose=False,
        super_verbose=True,
        n_iters_per_print_update=3,
    )
    finder.find_fixed_points(well_states(), np.ones((1, 2), np.float32), N_INITS)
    lines = capsys.readouterr().out.splitlines()
    rates = [float(line.split("lr = ")[1]) for line in lines if "lr = " in line]
    # 1 iteration to set the best `q`, 2 without a better one, then 1 of rest and 2 more each time.
    assert rates == pytest.approx([0.25, 0.125, 0.0625, 0.03125], rel=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_one_schedule_for_all_rows_or_one_for_each():
    """A row goes the way that it goes by itself under a schedule of its own, and only then."""
    settings = {"solver": "adam", "max_iters": 60, "lr_patience": 1, "lr_factor": 0.5}
    _, sequential = search_well(method="sequential", **settings)
    _, joint = search_well(method="joint", **settings)
    row = int(np.argmax(np.abs(joint.xstar - sequential.xstar).max(axis=1)))
    alone = np.broadcast_to(joint.x_init[row], (8, 16, 2)).copy()
    _, by_itself = search_well(states=alone, method="sequential", **settings)
    np.testing.assert_allclose(by_itself.xstar[0], sequential.xstar[row], atol=1e-4)
    assert np.abs(joint.xstar[row] - sequential.xstar[row]).max() > 1e-3


# ---- precision ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_float64_is_more_precise_and_leaves_the_global_setting_off():
    assert not jax.config.jax_enable_x64
    fps, _ = search_trained("tanh", "float64")
    assert not jax.config.jax_enable_x64
    assert jnp.ones(1).dtype == np.float32
    x, _ = newton_polish(trained("tanh"), fps.xstar, fps.inputs)
    coarse, _ = search_trained("tanh", "float32")
    x_coarse, _ = newton_polish(trained("tanh"), coarse.xstar, coarse.inputs)
    error = np.abs(fps.xstar - x).max()
    assert error < 1e-7 and error < 0.5 * np.abs(coarse.xstar - x_coarse).max()


def test_float64_leaves_the_global_setting_off_after_an_error():
    def fails(x, u):
        raise RuntimeError("no next state")

    finder = FixedPointFinder(fails, dtype="float64", verbose=False)
    with pytest.raises(ValueError, match="RuntimeError: no next state"):
        finder.find_fixed_points(case("tanh")["traj"], NONE, n_inits=1024, noise_scale=0.5)
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_float32_is_float32_where_float64_is_enabled():
    with jax.enable_x64(True):
        fps, all_fps = search_well(solver=None)
        assert jax.config.jax_enable_x64
    np.testing.assert_allclose(by_place(fps).xstar, WELL_POINTS, atol=1e-6)
    assert fps.xstar.dtype == all_fps.qstar.dtype == fps.J_xstar.dtype == np.float32


# ---- output ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_verbose_false_prints_nothing(capfd):
    search_well()
    search_well(solver="adam", max_iters=5)
    assert capfd.readouterr() == ("", "")


def test_verbose_tells_what_was_found(capsys):
    search_well(verbose=True)
    out = capsys.readouterr().out
    assert f"{N_INITS} initial states" in out
    assert "Found 3 distinct fixed points" in out
    assert "2 of them are stable, 1 unstable" in out
    assert f"Of {N_INITS} starts:\n\t  {N_INITS} ended at 3 fixed points, which are kept.\n" in out
    assert "Iter:" not in out


@pytest.mark.slow
def test_stable_points_from_starts_without_noise_are_told_to_be_so(capsys):
    told = "stable. No noise was added to the starts, and saddles are rarely found without it"

    def printed(at, **settings):
        states = np.broadcast_to(WELL_POINTS[at], (4, len(at), 2)).astype(np.float32)
        fps, _ = search_well(states=states, verbose=True, **settings)
        return fps.n, capsys.readouterr().out

    n, out = printed([0, 2], search_between=False)
    assert n == 2 and f"\tAll points kept are {told} (`noise_scale`).\n" in out
    n, out = printed([2])
    assert n == 1 and f"\tThe point kept is {told} (`noise_scale`).\n" in out
    for at, settings in (
        ([0, 1, 2], {}),  # with the saddle
        ([0, 2], {}),  # it is found, from between the other two
        ([0, 2], {"noise_scale": 1e-3}),
        ([0, 2], {"do_decompose_jacobians": False}),  # whether they are stable is not known
        ([0, 2], {"max_n_unique": 0}),
        ([0, 2], {"coverage": 0.5}),  # which starts from other states as well
    ):
        n, out = printed(at, **settings)
        assert "No noise was added" not in out
        assert n == 3 or settings.keys() & {"max_n_unique", "coverage"}
    # Noise may have been added to states before they were given to start from.
    given = np.tile(WELL_POINTS[[2]], (4, 1)).astype(np.float32)
    fps, _ = FixedPointFinder(DoubleWell()).find_fixed_points(given, np.zeros((1, 1)))
    assert fps.n == 1 and "No noise was added" not in capsys.readouterr().out


@pytest.mark.slow
def test_warnings_are_about_the_line_that_calls():
    finder = FixedPointFinder(DoubleWell(), final_q_threshold=1e-30, max_iters=1, verbose=False)
    searches = (
        lambda: finder.find_fixed_points(well_states(), NONE, N_INITS),
        lambda: find_fixed_points(DoubleWell(), well_states()[0], NONE[0], final_q_threshold=1e-30),
    )
    for search in searches:
        with pytest.warns(UserWarning, match="^find_fixed_points: ") as caught:
            search()
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.checks_input
def test_several_inputs_are_answered_with_the_function_that_pairs_them():
    said = (
        r"has shape \(3, 2\); expected .*, one row for each of the `n_inits` states; to search "
        r"under each of several inputs, see slowpoints.input_grid, or pass a finder a dict"
    )
    with pytest.raises(ValueError, match=said):
        search_well(inputs=np.zeros((3, 2)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
@pytest.mark.parametrize("method", ["joint", "sequential"])
def test_super_verbose_prints_as_the_search_goes_on(capsys, method):
    search_well(
        solver="adam",
        method=method,
        max_iters=20,
        super_verbose=True,
        n_iters_per_print_update=5,
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "Iter:" in line]
    iterations = [int(line.split("Iter: ")[1].split(",")[0]) for line in lines]
    assert iterations[:4] == [5, 10, 15, 20]
    assert all("q = " in line and "dq = " in line for line in lines)


def printed_updates(capsys):
    """Return the (phase, iteration, mean of `q`) of each line that tells of an iteration."""
    spread = r"(\S+) \+/- \S+"
    line = re.compile(rf"\t(\w+), Iter: (\d+), q = {spread}, dq = {spread}(?:, lr = \S+)?$")
    lines = [text for text in capsys.readouterr().out.splitlines() if "Iter:" in text]
    parts = [line.match(text).groups() for text in lines]
    return [(phase, int(iteration), float(q)) for phase, iteration, q, _ in parts]


@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
@pytest.mark.parametrize(
    ("solver", "method", "phases"),
    [
        (None, "joint", ["NewtonKrylov", "SubspaceTrustRegion"]),
        ("levenberg_marquardt", "joint", ["LevenbergMarquardt"]),
        ("adam", "joint", ["Adam"]),
        ("adam", "sequential", ["Adam"]),
    ],
)
@pytest.mark.slow
def test_super_verbose_prints_no_iteration_of_a_phase_twice(capsys, solver, method, phases):
    """Each phase counts its own iterations."""
    finder = FixedPointFinder(
        lambda x, u: x + 0.1 + x**2,  # no fixed point, but a slow point at 0
        method=method,
        solver=solver,
        max_iters=20,
        verbose=False,
        super_verbose=True,
        n_iters_per_print_update=1,
    )
    finder.find_fixed_points(well_states()[..., :1], NONE, 8)
    updates = printed_updates(capsys)
    assert list(dict.fromkeys(phase for phase, _, _ in updates)) == phases
    for phase in phases:
        iterations = [iteration for name, iteration, _ in updates if name == phase]
        assert iterations == list(range(1, len(iterations) + 1))


@pytest.mark.slow
def test_super_verbose_tells_of_the_rows_at_work_only(capsys):
    """One row of two is at its point at once; what is told later is the `q` of the other."""
    finder = FixedPointFinder(
        lambda x, u: x + 0.1 * (x - 1.0) * (x - 2.0),
        solver=Adam(joint=False, lr_init=0.01),
        max_iters=9,
        verbose=False,
        super_verbose=True,
        n_iters_per_print_update=1,
    )
    states = np.array([[[3.0], [1.0]]])
    _, all_fps = finder.find_fixed_points(states, NONE, 2)
    assert sorted(all_fps.n_iters) == [1, 9]
    updates = printed_updates(capsys)
    q_start = 0.5 * (0.1 * 2 * 1) ** 2
    assert updates[0][2] == pytest.approx(q_start / 2, rel=0.01)
    assert updates[1][2] == pytest.approx(q_start, rel=0.1)


@pytest.mark.slow
def test_super_verbose_tells_chunks_apart(capsys):
    with pytest.raises(ValueError) as refused:
        rows_within(1, LevenbergMarquardt(), 3, 2, 0)
    for_one_row = int(re.findall(r"\d+", str(refused.value))[-1])
    finder = FixedPointFinder(
        DoubleWell(),
        solver="levenberg_marquardt",
        verbose=False,
        super_verbose=True,
        n_iters_per_print_update=1,
        memory_limit=for_one_row,
    )
    finder.find_fixed_points(well_states(), NONE, 3)
    lines = capsys.readouterr().out.splitlines()
    chunks = [i for i, line in enumerate(lines) if "Iter: 1," in line]
    assert len(chunks) == 3
    assert [lines[i - 1] for i in chunks[1:]] == [f"\tFrom initial state {i} on:" for i in (2, 3)]


@pytest.mark.slow
def test_verbose_changes_nothing_but_what_is_printed(monkeypatch, capsys):
    calls, search = [], _finder.find_fixed_points

    def watched(F, x_init, inputs, **settings):
        calls.append(settings)
        return search(F, x_init, inputs, **settings)

    monkeypatch.setattr(_finder, "find_fixed_points", watched)
    n, results = 600, []  # states of a size of which 512 are searched at a time
    for verbose in (True, False):
        finder = FixedPointFinder(
            lambda x, u: 0.5 * x + 0.5, do_compute_jacobians=False, verbose=verbose
        )
        results.append(finder.find_fixed_points(np.ones((1, 1, 900)), NONE, n, 0.1))
        assert ("Searching" in capsys.readouterr().out) == verbose
    loud, quiet = (call | {"progress": None, "cond_id": None} for call in calls)
    assert loud == quiet and loud["rows_at_a_time"] == 512
    np.testing.assert_array_equal(results[0][1].xstar, results[1][1].xstar)


@pytest.mark.slow
def test_the_bar_counts_rows_at_fixed_points(monkeypatch):
    texts = []
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda bar, text, refresh: texts.append(text))
    finder = FixedPointFinder(lambda x, u: 0.5 * x + 0.5, do_compute_jacobians=False)
    finder.find_fixed_points(np.ones((1, 1, 900)), NONE, 600, 0.1)
    assert texts == ["512 at fixed points", "600 at fixed points"]


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_progress_can_end_a_search_early(verbose, capsys):
    done = []

    def progress(rows):
        done.append(rows.n)
        raise StopIteration

    settings = {"do_compute_jacobians": False, "do_exclude_distance_outliers": False}
    finder = FixedPointFinder(lambda x, u: 0.5 * x + u, verbose=verbose, **settings)
    inputs, labels = np.linspace(0, 1, 600)[:, None], np.arange(600)[::-1]
    fps, rows = finder.find_fixed_points(
        np.ones((1, 1, 900)), inputs, 600, 0.1, cond_ids=labels, progress=progress
    )
    assert done == [512] and rows.n == 512
    np.testing.assert_array_equal(rows.cond_id, labels[:512])
    np.testing.assert_allclose(rows.inputs, inputs[:512], rtol=1e-6)
    np.testing.assert_allclose(fps.xstar[:, 0], 2 * fps.inputs[:, 0], atol=1e-5)
    assert ("Of 512 starts:" in capsys.readouterr().out) == verbose


# ---- nothing is found --------------------------------------------------------------------------


@cache
def empty_results():
    """Return results without rows: a threshold nothing meets, and a map without fixed points."""
    with pytest.warns(UserWarning, match="No point is kept"):
        too_strict, _ = search_well(final_q_threshold=1e-300, max_iters=1)
    translation = FixedPointFinder(Affine(jnp.eye(2), jnp.eye(2)), solver="adam", verbose=False)
    with pytest.warns(UserWarning, match="No point is kept"):
        nowhere, _ = translation.find_fixed_points(well_states(), np.ones((1, 2)), N_INITS)
    return {"threshold": too_strict, "translation": nowhere}


every_empty = pytest.mark.parametrize("which", ["threshold", "translation"])


@pytest.mark.slow
@every_empty
def test_an_empty_result_keeps_its_shapes(which):
    fps = empty_results()[which]
    N, M = 2, {"threshold": 0, "translation": 2}[which]
    assert (len(fps), fps.n_states, fps.n_inputs) == (0, N, M)
    assert fps.xstar.shape == fps.eigval_J_xstar.shape == (0, N)
    assert fps.J_xstar.shape == (0, N, N) and fps.dFdu.shape == (0, N, M)
    assert fps.qstar.shape == fps.n_iters.shape == fps.is_stable.shape == (0,)


@pytest.mark.slow
@every_empty
def test_every_method_takes_an_empty_result(which, tmp_path, capsys):
    fps = empty_results()[which]
    fps.print_summary()
    assert "Number of fixed points: 0" in capsys.readouterr().out
    fps.save(tmp_path / "empty.npz")
    loaded = FixedPoints.load(tmp_path / "empty.npz")
    joined = FixedPoints.concatenate([fps, loaded])
    one = FixedPoints(xstar=np.zeros((1, 2)), inputs=np.zeros((1, fps.n_inputs)))
    selected = [fps[:], fps[[]], fps[np.zeros(0, bool)], fps[np.zeros(0, int)], *fps]
    others = [fps.get_unique(), fps.decompose_jacobians(), fps.transform(np.eye(2)), fps.compact()]
    assert all(len(result) == 0 for result in [loaded, joined, *selected, *others])
    assert one not in fps and fps.find(one).size == 0
    with pytest.raises(IndexError):
        fps[0]


@pytest.mark.slow
@every_empty
@pytest.mark.parametrize("plot", [plot_fixed_points_2d, plot_fixed_points_3d])
def test_plots_take_an_empty_result(which, plot, tmp_path):
    fps = empty_results()[which]
    figure = plot(fps, well_states(), PlotConfig(show=False, save_path=tmp_path / "figure.png"))
    assert figure.axes and (tmp_path / "figure.png").stat().st_size > 0


def test_an_empty_result_is_told(capsys):
    with pytest.warns(
        UserWarning, match=f"No point is kept. Of {N_INITS} starts: {N_INITS} ended unfinished"
    ):
        search_well(final_q_threshold=1e-300, max_iters=1, verbose=True)
    out = capsys.readouterr().out
    assert "Found 0 distinct fixed points" in out
    assert f"Of {N_INITS} starts:\n\t  {N_INITS} ended unfinished" in out


# ---- wrong input -------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"method": "both"}, ValueError, ["method", "'both'", "joint", "sequential"]),
        ({"method": None}, ValueError, ["method", "None"]),
        ({"dtype": "float16"}, ValueError, ["dtype", "'float16'", "float32", "float64"]),
        ({"solver": "newton"}, ValueError, ["solver", "'newton'", "newton_krylov"]),
        (
            {"solver": "default"},
            ValueError,
            ["'default'", "'adam'", "or None, which is the default"],
        ),
        ({"solver": 3}, TypeError, ["solver", "3", "LevenbergMarquardt"]),
        ({"rnn_model": 3}, TypeError, ["model", "int", "F(x, u)"]),
        ({"rnn_model": "net"}, TypeError, ["model", "str"]),
        ({"max_iters": 0}, ValueError, ["max_iters", "at least 1", "0"]),
        ({"max_iters": "many"}, TypeError, ["max_iters", "'many'", "number"]),
        ({"tol_q": -1.0}, ValueError, ["tol_q", "at least 0", "-1.0"]),
        ({"tol_dq": np.nan}, ValueError, ["tol_dq", "nan"]),
        ({"lr_init": -0.1}, ValueError, ["lr_init", "-0.1"]),
        ({"lr_patience": -1}, ValueError, ["lr_patience", "-1"]),
        ({"tol_unique": -1e-3}, ValueError, ["tol_unique", "-0.001"]),
        ({"outlier_distance_scale": -1}, ValueError, ["outlier_distance_scale", "-1"]),
        ({"outlier_q_scale": None}, TypeError, ["outlier_q_scale", "None"]),
        ({"max_n_unique": -1}, ValueError, ["max_n_unique", "-1"]),
        ({"final_q_threshold": -1}, ValueError, ["final_q_threshold", "-1"]),
        ({"n_iters_per_print_update": 0}, ValueError, ["n_iters_per_print_update", "at least 1"]),
    ],
)
def test_wrong_settings_are_named(settings, error, words):
    with pytest.raises(error) as caught:
        FixedPointFinder(**({"rnn_model": DoubleWell()} | settings))
    assert [word for word in words if word not in str(caught.value)] == []


WRONG_CALLS = [
    ({"state_traj": np.zeros((5, 2))}, ValueError, ["state_traj", "(5, 2)", "(trials, time"]),
    ({"state_traj": np.zeros((0, 5, 2))}, ValueError, ["state_traj", "(0, 5, 2)"]),
    ({"state_traj": np.full((2, 5, 2), np.nan)}, ValueError, ["state_traj", "NaN"]),
    ({"state_traj": np.full((2, 5, 2), "a")}, TypeError, ["state_traj", "<U1"]),
    ({"inputs": np.zeros((3, 1))}, ValueError, ["inputs", "(3, 1)", "(8, n_inputs)"]),
    ({"inputs": np.zeros((1, 1, 1))}, ValueError, ["inputs", "(1, 1, 1)"]),
    ({"inputs": np.array([[np.nan]])}, ValueError, ["inputs", "NaN"]),
    ({"inputs": np.array([[1j]])}, TypeError, ["inputs", "complex"]),
    ({"n_inits": 0}, ValueError, ["n_inits", "at least 1", "0"]),
    ({"n_inits": 2.5}, TypeError, ["n_inits", "2.5"]),
    ({"noise_scale": -0.1}, ValueError, ["noise_scale", "-0.1"]),
    ({"valid_bxt": np.zeros((2, 5), bool)}, ValueError, ["valid_bxt", "False"]),
    ({"valid_bxt": np.ones((5, 2), bool)}, ValueError, ["valid_bxt", "(5, 2)", "(2, 5)"]),
    ({"cond_ids": np.arange(7)}, ValueError, ["cond_ids", "(7,)", "(8,)"]),
    ({"cond_ids": np.zeros((8, 1))}, ValueError, ["cond_ids", "(8, 1)", "(8,)"]),
]


@pytest.mark.checks_input
@pytest.mark.parametrize(("changes", "error", "words"), WRONG_CALLS)
def test_wrong_arguments_are_named_before_the_model_is_traced(changes, error, words):
    calls = []

    def F(x, u):
        calls.append(None)
        return x / 2

    finder = FixedPointFinder(F, verbose=False)
    arguments = {"state_traj": np.zeros((2, 5, 2)), "inputs": np.zeros((1, 1)), "n_inits": 8}
    with pytest.raises(error) as caught:
        finder.find_fixed_points(**(arguments | changes))
    assert [word for word in words if word not in str(caught.value)] == []
    assert calls == []


@pytest.mark.checks_input
def test_a_model_that_returns_another_shape_is_refused():
    finder = FixedPointFinder(lambda x, u: x[:1], verbose=False)
    with pytest.raises(ValueError, match=r"state of shape \(2,\).*shape \(1,\); expected"):
        finder.find_fixed_points(np.zeros((2, 5, 2)), np.zeros((1, 1)), 4)


@pytest.mark.checks_input
def test_inputs_of_a_wrong_number_are_refused():
    with pytest.raises(ValueError, match=r"find_fixed_points: .* an input of shape \(5,\)"):
        FixedPointFinder(trained("tanh"), verbose=False).find_fixed_points(
            case("tanh")["traj"], np.zeros((1, 5)), 4
        )


@pytest.mark.checks_input
def test_states_with_their_axes_transposed_are_told_so():
    finder = FixedPointFinder(eqx.nn.GRUCell(3, 7, key=jax.random.key(0)), verbose=False)
    said = r"`state_traj` has 9 columns; expected 7, since GRUCell has 7 states\."
    hint = r" Another of its axes has 7: expected is \[trials, time, n_states\], and these axes"
    with pytest.raises(ValueError, match=said + hint):
        finder.find_fixed_points(np.zeros((5, 7, 9)), np.zeros((1, 3)), 4)
    with pytest.raises(ValueError, match=said + "$"):
        finder.find_fixed_points(np.zeros((5, 6, 9)), np.zeros((1, 3)), 4)


@pytest.mark.checks_input
def test_a_failed_search_does_not_count_as_one():
    """The next draw is the one that the failed search would have made."""
    finder = FixedPointFinder(DoubleWell(), solver="levenberg_marquardt", verbose=False)
    with pytest.raises(ValueError, match="inputs"):
        finder.find_fixed_points(well_states(), np.zeros((3, 0)), N_INITS)
    _, all_fps = finder.find_fixed_points(well_states(), NONE, N_INITS)
    np.testing.assert_array_equal(all_fps.x_init, search_well()[1].x_init)


@pytest.mark.slow
@pytest.mark.parametrize("n_inits", [61, 64])
@pytest.mark.devices
def test_the_mesh_does_not_change_what_is_found(n_inits):
    meshes = [None, "local", jax.make_mesh((2,), ("rows",), devices=jax.devices()[:2])]
    results = [search_well(solver=None, n_inits=n_inits, mesh=mesh) for mesh in meshes]
    for other in results[1:]:  # whose batches are of other sizes, and are rounded otherwise
        for one_of_all, same in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one_of_all.status, same.status)
            np.testing.assert_allclose(one_of_all.xstar, same.xstar, atol=1e-6)


@pytest.mark.slow
def test_compiling_is_shown_as_such_and_not_as_searching(capsys):
    """The bar says so, its rate leaves it out, and the summary tells how long each took."""
    forget_programs()
    before = program_folder._chosen[:]
    cache_programs(None)
    W = np.float32(1.6 * np.random.default_rng(0).normal(size=(5, 5)) / np.sqrt(5))
    states = np.random.default_rng(1).normal(size=(1, 60, 5)).astype(np.float32)
    try:
        for verbose in (True, False):
            finder = FixedPointFinder(lambda x, u: jnp.tanh(W @ x + u), verbose=verbose)
            finder.find_fixed_points(states, np.zeros((1, 5), np.float32), n_inits=40)
            told = capsys.readouterr()
            assert ("compiling" in told.err, "Compiled in" in told.out) == (verbose, verbose)
            forget_programs()
        finder.verbose = True
        finder.find_fixed_points(states, np.zeros((1, 5), np.float32), n_inits=40)
        assert "compiling" in capsys.readouterr().err
        finder.find_fixed_points(states, np.zeros((1, 5), np.float32), n_inits=50)
        told = capsys.readouterr()
        assert "compiling" not in told.err and "\tSearched in" in told.out
    finally:
        program_folder._chosen[:] = before
