"""Every solver on maps whose fixed points and slow points are known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import (
    SOLVERS,
    WELL_POINTS,
    Affine,
    SigmoidNet,
    case,
    double_well,
    fading,
    henon,
    henon_points,
    in_float64,
    logistic,
    sigmoid_extremum,
    square_root,
    trained,
)

from slowpoints import (
    Adam,
    KrylovTrustRegion,
    LevenbergMarquardt,
    NewtonKrylov,
    Status,
    find_fixed_points,
    optimize_batch,
    q_fn,
    unique,
)
from slowpoints.solvers import Report

N_ROWS = 8
NO_INPUT = np.zeros((1, 0), np.float32)
# How far from a hyperbolic fixed point of size one a solver may stop, given its own tolerances.
TOLERANCE = {
    "default": 2e-6,
    "levenberg_marquardt": 1e-4,
    "newton_krylov": 1e-4,
    "adam": 1e-3,
    "adam_sequential": 1e-3,
}

every_solver = pytest.mark.parametrize("name", SOLVERS)
default_and_slow_others = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "default" else pytest.mark.slow) for name in SOLVERS],
)
second_order = pytest.mark.parametrize("name", ["default", "levenberg_marquardt", "newton_krylov"])
robust = pytest.mark.parametrize("name", ["default", "levenberg_marquardt"])
fast = pytest.mark.parametrize("name", ["default", "newton_krylov"])


def starts(n_states, scale=1.0):
    rng = np.random.default_rng(n_states)
    return (scale * rng.standard_normal((N_ROWS, n_states))).astype(np.float32)


def affine(A, B=((0.0,), (0.0,))):
    return Affine(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))


def unit(w=8.0, theta=4.0):
    return SigmoidNet(jnp.full((1, 1), w), jnp.full(1, theta))


def unit_points():
    """Return the three fixed points of `unit()` without input."""
    points = np.array([[0.0], [0.5], [1.0]])
    for _ in range(50):  # Newton's method
        s = 1 / (1 + np.exp(4 - 8 * points))
        points = points - (points - s) / (1 - 8 * s * (1 - s))
    return points


def search(name, F, x, u=NO_INPUT, **settings):
    return optimize_batch(F, x, np.asarray(u, np.float32), solver=SOLVERS[name], **settings)


def distance_to_nearest(states, points):
    states, points = np.asarray(states, float), np.asarray(points, float)
    return np.linalg.norm(states[:, None] - points, axis=-1).min(axis=1)


# ---- linear maps -------------------------------------------------------------------------------

LINEAR = {
    "contraction": [[0.5, 0.2], [0.0, -0.3]],
    "saddle": [[1.5, 0.0], [0.3, 0.2]],
    "repellor": [[-2.0, 1.0], [0.0, 3.0]],
    "rotation": [[0.0, -1.0], [1.0, 0.0]],
    "defective": [[0.5, 1.0], [0.0, 0.5]],
    "constant": [[0.0, 0.0], [0.0, 0.0]],
}


@pytest.mark.slow_cases
@default_and_slow_others
@pytest.mark.parametrize("kind", LINEAR)
def test_the_fixed_point_of_a_linear_map(name, kind):
    B, u = np.array([[1.0], [-0.5]]), np.array([[0.8]])
    fps = search(name, affine(LINEAR[kind], B), starts(2), u)
    expected = np.linalg.solve(np.eye(2) - LINEAR[kind], B @ u[0])
    assert fps.valid.all()
    assert distance_to_nearest(fps.xstar, [expected]).max() < TOLERANCE[name] * 2


@pytest.mark.slow_cases
@every_solver
def test_on_a_line_of_fixed_points_each_row_finds_its_own(name):
    """An eigenvalue of exactly 1: the first dimension stays where it is."""
    x = starts(2)
    fps = search(name, affine([[1.0, 0.0], [0.0, 0.5]]), x, [[0.0]])
    assert fps.valid.all()
    np.testing.assert_allclose(fps.xstar[:, 0], x[:, 0], atol=1e-6)
    np.testing.assert_allclose(fps.xstar[:, 1], 0, atol=TOLERANCE[name])


@every_solver
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
@pytest.mark.slow
def test_a_map_without_fixed_points_gives_none(name):
    """A translation: `q` is the same everywhere."""
    unique_fps, fps = find_fixed_points(
        affine(np.eye(2), [[1.0], [0.0]]), starts(2), np.ones((1, 1)), solver=SOLVERS[name]
    )
    assert unique_fps.n == 0
    np.testing.assert_allclose(fps.qstar, 0.5, rtol=1e-6)


@pytest.mark.slow_cases
@every_solver
def test_every_row_has_the_fixed_point_of_its_own_input(name):
    A, B = np.diag([0.5, -0.5]), np.array([[1.0], [2.0]])
    u = np.linspace(-1, 1, N_ROWS)[:, None]
    fps = search(name, affine(A, B), starts(2), u)
    expected = np.linalg.solve(np.eye(2) - A, (u @ B.T).T).T
    np.testing.assert_allclose(fps.xstar, expected, atol=2 * TOLERANCE[name])
    np.testing.assert_allclose(fps.inputs, u, rtol=1e-6)


@pytest.mark.slow_cases
@second_order
def test_a_start_at_the_fixed_point_stays_there(name):
    fps = search(name, affine(LINEAR["saddle"]), np.zeros((N_ROWS, 2), np.float32), [[0.0]])
    np.testing.assert_array_equal(fps.xstar, 0)
    np.testing.assert_array_equal(fps.qstar, 0)


@pytest.mark.parametrize("name", ["levenberg_marquardt", "newton_krylov", "adam_sequential"])
@pytest.mark.slow
def test_rows_do_not_depend_on_how_many_are_in_work(name):
    solver = dataclasses.replace(SOLVERS[name], lanes=3)
    few_at_a_time = optimize_batch(double_well(), starts(2), NO_INPUT, solver=solver)
    all_at_once = search(name, double_well(), starts(2))
    np.testing.assert_allclose(few_at_a_time.xstar, all_at_once.xstar, atol=1e-5)
    np.testing.assert_array_equal(few_at_a_time.n_iters, all_at_once.n_iters)


# ---- several fixed points ----------------------------------------------------------------------


@pytest.mark.slow
@default_and_slow_others
def test_rows_reach_the_three_points_of_a_double_well(name):
    x = np.array([[-1.2, 1], [-0.9, -2], [-0.8, 0], [-0.05, 1], [0.0, 0.5], [0.1, -1], [0.9, 2]])
    fps = search(name, double_well(), np.vstack([x, [[1.1, 0]]]).astype(np.float32))
    assert distance_to_nearest(fps.xstar, WELL_POINTS).max() < TOLERANCE[name]
    if name == "default":
        assert distance_to_nearest(WELL_POINTS, fps.xstar).max() < TOLERANCE[name]


@fast
@pytest.mark.parametrize("r", [2.5, 3.2, 3.9])
@pytest.mark.slow
def test_rows_reach_the_fixed_points_of_the_logistic_map(name, r):
    x = np.linspace(-0.4, 1.2, N_ROWS, dtype=np.float32)[:, None]
    fps = search(name, logistic(r), x)
    points = np.array([[0.0], [1 - 1 / r]])
    assert fps.valid.all()
    assert distance_to_nearest(fps.xstar, points).max() < TOLERANCE[name]
    assert distance_to_nearest(points, fps.xstar).max() < TOLERANCE[name]


@pytest.mark.slow
@fast
def test_rows_reach_both_saddles_of_the_henon_map(name):
    x = np.array([[-1.5, 0], [-1, -1], [-1, 0], [-0.8, 0.5], [0.5, 0], [1, 1], [0.6, 0], [2, 0]])
    fps = search(name, henon(), x.astype(np.float32))
    assert distance_to_nearest(fps.xstar, henon_points()).max() < TOLERANCE[name]
    assert distance_to_nearest(henon_points(), fps.xstar).max() < TOLERANCE[name]


@pytest.mark.slow
def test_the_default_solver_reaches_the_fixed_point_that_it_starts_near():
    """Whether it is stable or not: these are the three of a bistable unit."""
    points = unit_points()
    x = np.resize(0.98 * points, (N_ROWS, 1)).astype(np.float32)
    fps = search("default", unit(), x, [[0.0]])
    np.testing.assert_allclose(fps.xstar, np.resize(points, (N_ROWS, 1)), atol=2e-6)


# ---- slow points -------------------------------------------------------------------------------

THRESHOLD = 1.0656799507  # the input of `unit()` at which its two lower fixed points meet


def lower_starts():
    return np.linspace(0.0, 0.3, N_ROWS, dtype=np.float32)[:, None]


@pytest.mark.slow_cases
@robust
@pytest.mark.parametrize("excess", [0.01, 0.1, 0.3])
def test_beyond_a_saddle_node_the_slow_point_is_found(name, excess):
    u = THRESHOLD + excess
    x_slow, q_slow = sigmoid_extremum(8.0, 4.0, u)
    fps = search(name, unit(), lower_starts(), [[u]])
    slow = np.asarray(fps.xstar[:, 0]) < 0.5
    assert slow.sum() >= 3
    np.testing.assert_allclose(fps.xstar[slow, 0], x_slow, atol=5e-4)
    np.testing.assert_allclose(fps.qstar[slow], q_slow, rtol=1e-3)
    assert fps.valid.all()


@robust
def test_before_a_saddle_node_two_fixed_points_are_found_instead(name):
    x_between, _ = sigmoid_extremum(8.0, 4.0, THRESHOLD - 0.01)
    fps = search(name, unit(), lower_starts(), [[THRESHOLD - 0.01]])
    x = np.asarray(fps.xstar[:, 0])
    assert (x < x_between).any() and ((x > x_between) & (x < 0.5)).any()
    assert fps.qstar.max() < 1e-12


def test_the_default_solver_knows_a_faint_slow_point_from_a_fixed_point():
    """At `q = 8e-11`, far below the default threshold, all rows agree on the one slow point."""
    x_slow, q_slow = sigmoid_extremum(8.0, 4.0, THRESHOLD + 1e-4)
    fps = search("default", unit(), lower_starts(), [[THRESHOLD + 1e-4]])
    slow = np.asarray(fps.xstar[:, 0]) < 0.5
    assert slow.sum() >= 3
    np.testing.assert_allclose(fps.xstar[slow, 0], x_slow, atol=2e-5)
    np.testing.assert_allclose(fps.qstar[slow], q_slow, rtol=1e-2)


@pytest.mark.slow
def test_at_a_slow_point_of_two_populations_q_is_at_a_minimum():
    """Excitation and inhibition, a little beyond the loss of the state of low activity."""
    F = SigmoidNet(jnp.array([[10.0, -4.0], [6.0, -2.0]]), jnp.array([3.5, 4.0]))
    x, u = 0.1 + 0.03 * starts(2), np.array([0.6, 0.0])
    fps = search("default", F, x, u)
    slow = np.asarray(fps.qstar) > 1e-6
    assert slow.sum() >= 3 and fps.valid.all()
    with jax.enable_x64(True):
        F = in_float64(F)
        for x in np.asarray(fps.xstar, float)[slow]:
            gradient = jax.grad(q_fn, argnums=1)(F, x, u)
            hessian = jax.hessian(q_fn, argnums=1)(F, x, u)
            assert np.linalg.norm(gradient) < 1e-2 * np.linalg.norm(x - F(x, u))
            assert np.linalg.eigvalsh(hessian).min() > 0


@pytest.mark.slow
def test_rows_that_come_to_one_slow_point_of_a_trained_network_are_one():
    """Under a weak input it leaves most of its fixed points as slow points of q up to 1e-2."""
    visited = case("tanh")["traj"].reshape(-1, 16)
    rng = np.random.default_rng(0)
    x = visited[rng.choice(len(visited), 512)] + rng.normal(0, 0.5, (512, 16))
    u = np.float32([0.2, -0.2, 0.1])
    fps = optimize_batch(trained("tanh"), x.astype(np.float32), u)
    slow = fps.replace(valid=fps.valid & (fps.qstar > 1e-8))
    assert slow.valid.sum() > 100
    rows = unique(slow, 1e-3).compact()
    assert rows.n == unique(slow, 1e-2).compact().n > 3
    with jax.enable_x64(True):
        F = in_float64(trained("tanh"))
        gradient = jax.vmap(jax.grad(lambda x: q_fn(F, x, u)))(jnp.asarray(rows.xstar, float))
    assert np.linalg.norm(gradient, axis=1).max() < 1e-3 * np.sqrt(2 * rows.qstar.min())


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [32, 100])
@pytest.mark.parametrize("smallest", [1e-2, 1e-3])
def test_rows_at_ill_conditioned_fixed_points_count(n_states, smallest):
    """Singular values of `I - J` all the way down to `smallest`: ten products resolve few."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n_states, n_states)))[0] for _ in range(2))
    A = left * np.geomspace(1, smallest, n_states) @ right
    F = Affine(jnp.asarray(np.eye(n_states) - A, jnp.float32), jnp.eye(n_states))
    x = rng.normal(size=(N_ROWS, n_states)).astype(np.float32)
    b = (A @ rng.normal(size=n_states)).astype(np.float32)
    fps = optimize_batch(F, x, b)
    exact = np.linalg.solve(np.eye(n_states) - np.float64(F.A), np.float64(b))
    assert fps.valid.all()
    np.testing.assert_allclose(fps.xstar, np.tile(exact, (N_ROWS, 1)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. No point is kept")
def test_q_that_falls_without_end_is_no_fixed_point():
    """`x + exp(-x)`: `q` passes below every threshold on the way to infinity."""
    x = np.linspace(-3, 10, N_ROWS, dtype=np.float32)[:, None]
    fps, _ = find_fixed_points(fading(), x, np.zeros(0))
    assert fps.n == 0


# ---- rows that are not finite ------------------------------------------------------------------


@pytest.mark.slow_cases
@every_solver
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_row_that_is_not_finite_is_invalid_and_alone(name, bad):
    x, others = starts(2), np.arange(N_ROWS) != 5
    undisturbed = search(name, double_well(), x)
    x[5] = bad
    fps = search(name, double_well(), x)
    np.testing.assert_array_equal(fps.valid, others)
    assert distance_to_nearest(fps.xstar[others], WELL_POINTS).max() < TOLERANCE[name]
    if name != "adam":  # whose rows share a learning rate
        np.testing.assert_array_equal(fps.xstar[others], undisturbed.xstar[others])


@pytest.mark.slow
def test_a_map_that_is_nan_in_places_has_its_fixed_points_elsewhere():
    x = np.array([[-1.0], [0.3], [2.0], [-0.1], [5.0], [0.9], [1.0], [30.0]], np.float32)
    fps = search("default", square_root(), x)
    inside = x[:, 0] > 0
    np.testing.assert_array_equal(fps.valid, inside)
    assert distance_to_nearest(fps.xstar[inside], [[0.0], [1.0]]).max() < TOLERANCE["default"]


@pytest.mark.slow_cases
@every_solver
def test_a_map_that_is_nan_everywhere_has_no_valid_row(name):
    B, u = np.full((2, 1), np.nan), np.ones((1, 1))
    fps = search(name, affine(np.eye(2), B), starts(2), u)
    assert not fps.valid.any()


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", ["default", "adam", "adam_sequential"])
def test_one_row_of_one_dimension(name):
    fps = search(name, unit(), np.full((1, 1), 0.9, np.float32), [[0.0]])
    assert fps.n == 1 and fps.n_states == 1
    assert distance_to_nearest(fps.xstar, unit_points()).max() < TOLERANCE[name]


@pytest.mark.parametrize("name", ["default", "adam_sequential"])
def test_no_rows(name):
    fps = search(name, unit(), np.zeros((0, 1), np.float32), [[0.0]])
    assert fps.n == 0 and fps.xstar.shape == (0, 1) and fps.valid.shape == (0,)


@pytest.mark.slow_cases
@second_order
def test_starts_far_away(name):
    """A thousand times farther out than the fixed points are."""
    fps = search(name, double_well(), starts(2, scale=1000.0))
    assert distance_to_nearest(fps.xstar, WELL_POINTS).max() < TOLERANCE[name]


# ---- derivatives -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tol_q, has_one", [(1e-2, False), (1e-5, True), (1e-9, True)])
def test_a_row_within_the_tolerance_has_a_derivative_if_it_is_close(tol_q, has_one):
    """Close to a fixed point, the derivative is that of the point to a few percent."""
    W = jnp.array([[1.4, 0.3], [-0.2, 1.3]])
    x = jax.random.normal(jax.random.key(0), (16, 2))

    def points(u, x, **settings):
        return optimize_batch(lambda x, u: jnp.tanh(W @ x + u), x, u, **settings)

    u, solver = jnp.array([0.1]), KrylovTrustRegion(polish=False)
    rough = points(u, x, solver=solver, tol_q=tol_q)
    slope = jax.jacfwd(lambda u: points(u, x, solver=solver, tol_q=tol_q).xstar)(u)
    within = np.asarray(rough.status) == Status.WITHIN_TOLERANCE
    given = np.abs(slope).max(axis=(1, 2)) > 0
    assert within.sum() >= 8 and given.any() == has_one and not given[~within].any()
    exact = jax.jacfwd(lambda u: points(u, rough.xstar).xstar)(u)
    error = np.linalg.norm((slope - exact)[given], axis=(1, 2))
    assert (error <= 0.05 * np.linalg.norm(np.asarray(exact)[given], axis=(1, 2))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "adam"])
def test_a_fixed_point_has_a_derivative_in_the_parameters_and_in_the_input(name):
    """`x = a x + u` has the solution `u / (1 - a)`."""

    def fixed_point(a, u):
        F = Affine(a * jnp.eye(2), jnp.ones((2, 1)))
        fps = optimize_batch(F, starts(2), jnp.full((1, 1), u), solver=SOLVERS[name])
        return fps.xstar[3, 1]

    da, du = jax.grad(fixed_point, argnums=(0, 1))(0.5, 3.0)
    assert float(da) == pytest.approx(12.0, rel=1e-3)
    assert float(du) == pytest.approx(2.0, rel=1e-3)


# ---- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        Adam(),
        LevenbergMarquardt(polish=False),
        NewtonKrylov(polish=False),
        KrylovTrustRegion(polish=False),
    ],
    ids=lambda solver: type(solver).__name__,
)
@pytest.mark.slow
def test_a_looser_tolerance_ends_earlier_and_is_met(solver):
    def search(tol_q):
        return optimize_batch(double_well(), starts(2), NO_INPUT, solver=solver, tol_q=tol_q)

    loose, tight = search(1e-4), search(1e-12)
    assert loose.qstar.max() < 1e-4
    assert loose.n_iters.sum() < tight.n_iters.sum()


@pytest.mark.slow
def test_adam_reduces_its_rate_on_a_plateau():
    """Where `q` is 1/2 everywhere, only the schedule's counters are at work."""
    rates = {}
    optimize_batch(
        affine(np.diag([1.0, 0.0]), [[1.0], [0.0]]),
        np.zeros((N_ROWS, 2), np.float32),
        np.ones((1, 1), np.float32),
        solver=Adam(lr_init=0.8, lr_factor=0.5, lr_patience=3, lr_cooldown=2),
        max_iters=14,
        tol_dq=0.0,
        report=Report(lambda i, q, dq, lr, phase: rates.update({int(i): round(float(lr), 3)}), 1),
    )
    jax.effects_barrier()
    # One iteration sets the best `q`; then 3 without a better one, 2 of rest, 3 more, and so on.
    assert [rates[i] for i in range(1, 15)] == [0.8] * 3 + [0.4] * 5 + [0.2] * 5 + [0.1]


@pytest.mark.one_in(2)
@pytest.mark.slow
@default_and_slow_others
def test_fixed_points_have_a_derivative_in_the_parameters(name):
    """`x = a x + 1` has the solution `1 / (1 - a)`, with the derivative `1 / (1 - a)^2`."""

    def fixed_point(a):
        F = Affine(a * jnp.eye(2), jnp.eye(2))
        u = jnp.ones((1, 2))
        return optimize_batch(F, starts(2), u, solver=SOLVERS[name]).xstar[:, 0]

    np.testing.assert_allclose(jax.jacrev(fixed_point)(0.5), 4.0, rtol=1e-3)


@pytest.mark.parametrize("name", ["default", pytest.param("newton_krylov", marks=pytest.mark.slow)])
def test_a_model_may_make_arrays_of_its_own(name):
    """Of the default precision, which is float64 where that is enabled."""

    def F(x, u):
        return jax.lax.fori_loop(0, 1, lambda i, c: 0.5 * x, jnp.zeros(2))

    with jax.enable_x64(True):
        fps = optimize_batch(F, starts(2).astype(float), np.zeros((1, 0)), solver=SOLVERS[name])
    np.testing.assert_allclose(fps.xstar, 0, atol=1e-6)


@pytest.mark.slow
def test_a_callback_need_not_ask_for_the_phase():
    rates = []
    settings = {
        "solver": Adam(),
        "max_iters": 4,
        "report": Report(lambda i, q, dq, lr: rates.append(lr), 2),
    }
    jax.block_until_ready(optimize_batch(double_well(), starts(2), np.zeros(0), **settings).xstar)
    jax.effects_barrier()
    assert len(rates) == 2


@pytest.mark.slow
def test_a_row_starts_with_the_networks_own_step_only_if_that_lowers_q():
    """Here it leads away, threefold, and a row that has been led astray ends."""
    x = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    fps = optimize_batch(lambda x, u: 3 * x, x, np.zeros(0, np.float32), solver=NewtonKrylov())
    assert np.all(np.asarray(fps.status) == Status.FIXED_POINT)
    assert np.abs(np.asarray(fps.xstar)).max() < 1e-6
