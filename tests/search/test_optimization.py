"""What `optimize_batch` promises of every row, whichever solver is at work."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import SOLVERS, Affine, case, in_float64, next_states, trained

from slowpoints import (
    Adam,
    KrylovTrustRegion,
    LevenbergMarquardt,
    NewtonKrylov,
    Status,
    Transition,
    as_transition,
    optimize_batch,
)
from slowpoints._search import optimize_batch as search_module
from slowpoints._search.memory import rows_within
from slowpoints._search.search_in_one_program import search_in_one_program
from slowpoints.solvers import Stopping

N_ROWS, N_STATES, N_INPUTS = 64, 16, 3
FULL = 5000

every_solver = pytest.mark.parametrize("name", SOLVERS)
# Under the joint `Adam` all rows end together: see `test_adam.py`.
each_by_itself = [name for name in SOLVERS if name != "adam"]


def starts():
    rng = np.random.default_rng(0)
    states = case("tanh")["traj"].reshape(-1, N_STATES)[rng.choice(64 * 64, N_ROWS)]
    return (states + 0.5 * rng.standard_normal(states.shape)).astype(np.float32)


def row_inputs():
    return (0.2 * np.random.default_rng(1).standard_normal((N_ROWS, N_INPUTS))).astype(np.float32)


def search(name, max_iters=FULL, **settings):
    """Search a trained network; every call of one solver uses the same compiled program."""
    return optimize_batch(
        trained("tanh"),
        starts(),
        row_inputs(),
        solver=SOLVERS[name],
        max_iters=max_iters,
        cond_id=np.arange(N_ROWS),
        **settings,
    )


# ---- how rows end ----------------------------------------------------------------------------


def saddle_node(x, u):
    """Two fixed points for `u < 0`, and for `u > 0` a slow point at 0 with `q = u^2 / 2`."""
    return x + x**2 + u


def statuses(x, u, **settings):
    fps = optimize_batch(
        saddle_node, np.array(x, np.float32)[:, None], np.array(u, np.float32)[:, None], **settings
    )
    assert fps.status.dtype == np.int8
    usable = np.asarray(fps.status) < Status.ESCAPED
    np.testing.assert_array_equal(fps.valid, usable)
    return [Status(code) for code in np.asarray(fps.status).tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, LevenbergMarquardt()])
def test_each_row_says_how_it_ended(solver):
    found = statuses([0.3, 0.1, np.nan], [-0.04, 1e-3, -0.04], solver=solver)
    assert found == [Status.FIXED_POINT, Status.SLOW_POINT, Status.NOT_FINITE]


@pytest.mark.slow
def test_a_row_that_is_stopped_says_so():
    adam = Adam(joint=False)
    assert statuses([0.3], [-0.04], solver=adam, max_iters=1) == [Status.UNFINISHED]


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_in_chunks_are_the_rows_of_one_search():
    """Also the last ones, of which there are fewer; and they are reported as they are done."""
    done = []
    whole = search("default")
    settings = {"rows_at_a_time": 24, "progress": lambda fps: done.append(fps.n)}
    parts = search("default", **settings)
    assert done == [24, 24, 16]
    np.testing.assert_array_equal(parts.cond_id, whole.cond_id)
    np.testing.assert_array_equal(parts.x_init, whole.x_init)
    np.testing.assert_allclose(parts.xstar, whole.xstar, atol=2e-4)


def stop_after(n_chunks):
    """Return a `progress` that ends the search after some chunks."""
    done = []

    def progress(fps):
        done.append(fps.n)
        if len(done) == n_chunks:
            raise StopIteration

    return progress


@pytest.mark.slow
def test_progress_can_end_a_search_early():
    whole = search("default", rows_at_a_time=24)
    early = search("default", rows_at_a_time=24, progress=stop_after(2))
    assert early.n == 48 < whole.n
    for name in ("cond_id", "x_init", "xstar", "status"):
        np.testing.assert_array_equal(getattr(early, name), getattr(whole, name)[:48])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "adam"])
def test_ending_after_the_last_chunk_changes_nothing(name):
    """Rows under the joint `Adam` are one chunk."""
    whole = search(name, max_iters=50)
    np.testing.assert_array_equal(
        search(name, max_iters=50, progress=stop_after(1)).xstar, whole.xstar
    )


@pytest.mark.slow
def test_many_rows_are_searched_in_loops_of_about_one_size(monkeypatch):
    done = []
    monkeypatch.setattr(search_module, "_MOST_ROWS", 24)
    parts = search("default", progress=lambda fps: done.append(fps.n))
    assert done == [22, 22, 20]
    monkeypatch.undo()
    np.testing.assert_allclose(parts.xstar, search("default").xstar, atol=2e-4)


@pytest.mark.slow
def test_a_bound_on_memory_makes_the_chunks_small():
    done = []
    search("default", memory_limit=600_000, progress=lambda fps: done.append(fps.n))
    assert len(done) > 1 and sum(done) == N_ROWS
    with pytest.raises(ValueError, match=r"`memory_limit` is 100 bytes, but one row of 16 states"):
        search("default", memory_limit=100)


def taken_by_a_chunk(limit, solver, n_states):
    """Return the bytes of as many rows as fit, as the compiler counts them, but for the network."""
    return taken_by(rows_within(limit, solver, 10**7, n_states, 1)[0], solver, n_states)


def taken_by(n, solver, n_states):
    F = Affine(jnp.zeros((n_states, n_states)), jnp.zeros((n_states, 1)))
    rows, zero = [jnp.zeros((n, size)) for size in (n_states, 1)], jnp.zeros(())
    stopping, unit = Stopping(jnp.asarray(100), zero, zero), jnp.ones(n_states)
    with jax.enable_x64(True):
        compiled = (
            search_in_one_program.lower(F, solver, *rows, unit, stopping, None, None)
            .compile()
            .compiled
        )
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_states", [16, *(pytest.param(n, marks=pytest.mark.slow) for n in (128, 300))]
)
def test_a_chunk_takes_no_more_memory_than_the_bound_says(n_states):
    limit = 100_000_000
    assert limit / 20 < taken_by_a_chunk(limit, KrylovTrustRegion(), n_states) < limit


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [NewtonKrylov(), LevenbergMarquardt(), Adam(), Adam(joint=False)]
)
def test_every_solver_says_what_memory_it_takes(solver):
    """`LevenbergMarquardt` holds matrices of every row in work."""
    limit = 20_000_000
    assert limit / 20 < taken_by_a_chunk(limit, solver, n_states=128) < limit


@pytest.mark.slow
@pytest.mark.parametrize("solver", [NewtonKrylov(), LevenbergMarquardt()])
def test_a_single_row_takes_no_more_memory_than_its_refusal_says(solver):
    """Most of it is what judging the row takes."""
    with pytest.raises(ValueError) as refused:
        rows_within(1, solver, 3, 700, 1)
    for_one_row = int(str(refused.value).rstrip(".").split()[-1])
    assert for_one_row / 2 < taken_by(1, solver, 700) < for_one_row


def test_joint_adam_has_all_rows_in_work_and_the_other_one_as_many_as_lanes():
    joint, alone = Adam(), Adam(joint=False, lanes=10)
    assert joint.bytes_to_work(1000, 8) == 1000 * joint.bytes_per_lane(8)
    assert alone.bytes_to_work(1000, 8) == 10 * alone.bytes_per_lane(8)


def test_rows_of_a_solver_of_ones_own_that_needs_more_are_searched_in_more_parts():
    class Hungry(LevenbergMarquardt):
        def bytes_per_lane(self, n_states):
            return 10 * super().bytes_per_lane(n_states)

    few, many = (rows_within(10**8, s, 10**6, 128, 1)[0] for s in (Hungry(), LevenbergMarquardt()))
    assert 8 <= many / few <= 12


# ---- the promises ------------------------------------------------------------------------------


@pytest.mark.slow_cases
@every_solver
@pytest.mark.parametrize("max_iters", [1, 4, FULL])
def test_images_and_speeds_belong_to_the_returned_states(name, max_iters):
    """To the rounding of float32: the states of one update earlier are much farther away."""
    fps = search(name, max_iters)
    x = np.asarray(fps.xstar, float)
    image = next_states(trained("tanh"), x, row_inputs())
    np.testing.assert_allclose(fps.F_xstar, image, atol=2e-6)
    residual = np.linalg.norm(x - image, axis=1)
    np.testing.assert_allclose(np.sqrt(2 * np.asarray(fps.qstar)), residual, atol=4e-6)


@pytest.mark.slow
@every_solver
def test_the_rows_stand_in_the_order_of_the_initial_states(name):
    fps = search(name)
    np.testing.assert_array_equal(fps.x_init, starts())
    np.testing.assert_array_equal(fps.inputs, row_inputs())
    np.testing.assert_array_equal(fps.cond_id, np.arange(N_ROWS))


@pytest.mark.slow
@pytest.mark.parametrize("name", each_by_itself)
def test_rows_need_numbers_of_iterations_of_their_own(name):
    n_iters = np.asarray(search(name).n_iters)
    assert np.issubdtype(n_iters.dtype, np.integer)
    assert n_iters.min() >= 1 and len(set(n_iters)) > 1


@pytest.mark.slow_cases
@every_solver
@pytest.mark.parametrize("max_iters", [1, 4])
def test_no_row_exceeds_the_limit(name, max_iters):
    assert search(name, max_iters).n_iters.max() <= max_iters


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", [name for name in each_by_itself if name != "default"])
def test_the_limit_stops_unfinished_rows_and_no_others(name):
    full = search(name)
    limit = int(np.median(full.n_iters))
    stopped = search(name, limit)
    np.testing.assert_array_equal(stopped.n_iters, np.minimum(full.n_iters, limit))
    finished = np.asarray(full.n_iters) < limit
    np.testing.assert_array_equal(stopped.xstar[finished], full.xstar[finished])
    assert finished.any()


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", ["default", "levenberg_marquardt", "newton_krylov"])
@pytest.mark.parametrize("max_iters", [1, 4, FULL])
def test_q_never_rises(name, max_iters):
    moves = next_states(trained("tanh"), starts(), row_inputs()) - starts()
    q_init = 0.5 * np.sum(moves**2, axis=1)
    assert (np.asarray(search(name, max_iters).qstar) <= q_init * (1 + 1e-5)).all()


@pytest.mark.slow_cases
@every_solver
def test_all_rows_of_a_trained_network_are_valid(name):
    assert search(name).valid.dtype == bool
    assert search(name).valid.all()


@pytest.mark.slow_cases
@every_solver
def test_the_precision_is_that_of_the_initial_states(name):
    fps = search(name)
    fields = ("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq")
    assert {getattr(fps, field).dtype for field in fields} == {np.dtype(np.float32)}
    assert fps.dtype == np.float32


def test_float64_where_it_is_enabled():
    with jax.enable_x64(True):
        F = in_float64(trained("tanh"))
        x, u = starts().astype(float), np.zeros((N_ROWS, N_INPUTS))
        fps = optimize_batch(F, x, u, solver=LevenbergMarquardt(), tol_q=0.0)
        assert fps.xstar.dtype == np.float64 and fps.dtype == np.float64
        image = np.asarray(jax.vmap(F)(fps.xstar, u))
    np.testing.assert_allclose(fps.F_xstar, image, atol=1e-14)
    assert np.median(fps.qstar) < 1e-26  # out of the reach of float32


def test_the_same_search_gives_the_same_result():
    first, second = (search("default") for _ in range(2))
    np.testing.assert_array_equal(first.xstar, second.xstar)


# ---- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(N_INPUTS,), (1, N_INPUTS), (N_ROWS, N_INPUTS)])
def test_one_input_serves_all_rows(shape):
    u = np.broadcast_to(np.array([0.1, -0.2, 0.3], np.float32), shape)
    fps = optimize_batch(trained("tanh"), starts(), u, solver=SOLVERS["adam"], max_iters=20)
    assert fps.inputs.shape == (N_ROWS, N_INPUTS)
    image = next_states(trained("tanh"), fps.xstar, np.tile(u.reshape(-1)[:3], (N_ROWS, 1)))
    np.testing.assert_allclose(fps.F_xstar, image, atol=2e-6)


def test_condition_numbers_may_be_strings():
    names = np.array([f"condition {row}" for row in range(N_ROWS)])
    fps = optimize_batch(
        trained("tanh"), starts(), row_inputs(), solver=SOLVERS["adam"], cond_id=names
    )
    np.testing.assert_array_equal(fps.cond_id, names)


def test_what_is_passed_in_is_left_as_it_is():
    x, u, condition = starts(), row_inputs(), np.arange(N_ROWS)
    for array in (x, u, condition):
        array.flags.writeable = False
    optimize_batch(trained("tanh"), x, u, solver=SOLVERS["adam"], cond_id=condition)
    np.testing.assert_array_equal(x, starts())


class Half(eqx.Module):
    """A callable pytree that is no `Transition`."""

    factor: jax.Array

    def __call__(self, x, u):
        return self.factor * x + u


class HalfTransition(Transition):
    factor: jax.Array

    def __call__(self, x, u):
        return self.factor * x + u


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [Half(jnp.float32(0.5)), HalfTransition(jnp.float32(0.5)), lambda x, u: 0.5 * x + u],
    ids=["equinox", "transition", "function"],
)
def test_any_kind_of_model_will_do(model):
    F = as_transition(model)
    assert isinstance(F, Transition)
    np.testing.assert_allclose(F(jnp.ones(2), jnp.full(2, 3.0)), 3.5)
    fps = optimize_batch(model, np.zeros((2, 2)), np.array([1.0, 2.0]), solver=SOLVERS["adam"])
    np.testing.assert_allclose(fps.xstar, [[2.0, 4.0]] * 2, atol=1e-3)


def test_a_transition_stays_what_it_is():
    F = trained("gru")
    assert as_transition(F) is F


def test_the_leaves_of_a_transition_are_the_parameters():
    assert [leaf.shape for leaf in jax.tree.leaves(as_transition(trained("tanh")))] == [
        (1, 3, 16),
        (1, 16, 16),
        (1, 16),
    ]
    assert jax.tree.leaves(as_transition(Half(jnp.float32(0.5)))) == [0.5]


# ---- wrong input -------------------------------------------------------------------------------


class Counting(Transition):
    """Counts how often it is called, which is how often it is traced."""

    calls: list = eqx.field(static=True, default_factory=list)

    def __call__(self, x, u):
        self.calls.append(x.shape)
        return 0.5 * x


X, U = np.zeros((4, 2), np.float32), np.zeros((1, 3), np.float32)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"x_init": X[0]}, ValueError, ["x_init", "(2,)", "(n, n_states)"]),
        ({"x_init": X[None]}, ValueError, ["x_init", "(1, 4, 2)"]),
        ({"x_init": X.astype(int)}, TypeError, ["x_init", "int"]),
        (
            {"inputs": np.zeros((3, 3))},
            ValueError,
            ["inputs", "(3, 3)", "(1, n_inputs) or (4, n_inputs)"],
        ),
        ({"inputs": np.zeros((1, 1, 3))}, ValueError, ["inputs", "(1, 1, 3)", "(4, n_inputs)"]),
        ({"inputs": np.float32(0)}, ValueError, ["inputs", "()"]),
        ({"cond_id": np.arange(3)}, ValueError, ["cond_id", "(3,)", "(4,)"]),
        ({"cond_id": np.zeros((4, 1))}, ValueError, ["cond_id", "(4, 1)", "(4,)"]),
        ({"max_iters": 0}, ValueError, ["max_iters", "is 0", "at least 1"]),
        ({"tol_q": -1e-3}, ValueError, ["tol_q", "-0.001"]),
        ({"tol_q": np.nan}, ValueError, ["tol_q", "nan"]),
        ({"tol_dq": -1.0}, ValueError, ["tol_dq", "-1.0"]),
        ({"solver": "adam"}, TypeError, ["solver", "'adam'", "LevenbergMarquardt"]),
        ({"F": 3.0}, TypeError, ["model", "float"]),
        ({"F": None}, TypeError, ["model", "NoneType"]),
    ],
)
def test_wrong_input_is_named_before_anything_is_traced(changes, error, words):
    F = Counting()
    with pytest.raises(error) as caught:
        optimize_batch(**({"F": F, "x_init": X, "inputs": U} | changes))
    assert [word for word in words if word not in str(caught.value)] == []
    assert F.calls == []


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("F", "words"),
    [
        (lambda x, u: x[:1], ["(2,)", "(3,)", "shape (1,)"]),
        (lambda x, u: x[None], ["shape (1, 2)"]),
        (lambda x, u: (x, x), ["tuple"]),
        (lambda x, u: jnp.zeros(2, int), ["int32"]),
        (lambda x, u: x + 1j, ["complex64"]),
    ],
)
def test_a_model_that_does_not_map_states_to_states_is_refused(F, words):
    with pytest.raises(ValueError) as caught:
        optimize_batch(F, X, U)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.checks_input
def test_wrong_shapes_are_refused_inside_jit_as_well():
    with pytest.raises(ValueError, match="`inputs` has shape"):
        jax.jit(lambda u: optimize_batch(Counting(), X, u))(jnp.zeros((3, 3)))
