"""`find_fixed_points`: what is kept, in which order it is decided, and what is computed of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import Affine, case, compilations, logistic, trained

from slowpoints import (
    AbstractSolver,
    Adam,
    FixedPoints,
    LevenbergMarquardt,
    decompose,
    find_fixed_points,
    jacobians,
    optimize_batch,
    select,
    unique,
)
from slowpoints.solvers import Found

BROKEN = 1e9
"""An input under which the next state is not finite."""


class Stay(AbstractSolver):
    """Leaves every row where it starts, as if it had been stopped early."""

    def run(self, F, x_init, inputs, stopping, report=None):
        return Found.nothing(x_init)


def constant(x, u):
    """The input is the next state, so that it is the fixed point, and `q = |x - u|^2 / 2`."""
    return jnp.where(u == BROKEN, jnp.nan, u)


def arguments(x, q=0.0, inputs=None, **settings):
    """Return what makes rows stay at `x` with the given `q`, and all filters but `settings` off."""
    x = np.asarray(x, np.float32)
    if inputs is None:
        distance = np.sqrt(2 * np.broadcast_to(q, len(x)))
        inputs = x + np.stack([distance, np.zeros(len(x))], axis=1)
        inputs = np.nan_to_num(inputs, nan=BROKEN)
    settings = {"outlier_distance_scale": None, "final_q_threshold": None} | settings
    settings = {"F": constant, "solver": Stay(), "mesh": None} | settings
    return settings | {"x_init": x, "inputs": np.asarray(inputs, np.float32)}


def find(x, q=0.0, inputs=None, **settings):
    return find_fixed_points(**arguments(x, q, inputs, **settings))


def far_apart(n):
    """Return `n` states in a row, 1 apart."""
    return np.stack([np.arange(n, dtype=float), np.zeros(n)], axis=1)


def kept(fps):
    """Return the first elements of the states, which tell the rows of `far_apart`."""
    return np.asarray(fps.xstar)[:, 0].tolist()


# ---- one row per point -------------------------------------------------------------------------


@pytest.mark.slow
def test_all_rows_come_back_in_order_whatever_is_kept():
    x = np.array([[3.0, 0], [1, 0], [1, 0], [2, 0]])
    fps, all_fps = find(x, max_n_unique=1.0)
    assert fps.n == 1
    np.testing.assert_array_equal(all_fps.xstar, x)
    np.testing.assert_array_equal(all_fps.x_init, x)
    assert all_fps.valid.all()


@pytest.mark.slow
def test_rows_within_the_tolerance_are_one_point():
    x, same = np.array([[0.0, 0], [0.1, 0], [0.3, 0], [1, 0]]), np.zeros((1, 2))
    assert kept(find(x, inputs=same, tol_unique=0.15)[0]) == pytest.approx([0.0, 0.3, 1.0])
    assert find(x, inputs=same, tol_unique=0.05)[0].n == 4


@pytest.mark.slow
def test_distances_between_rows_are_those_of_states_and_inputs_together():
    """The inputs are as far apart as the states: 0.1 in each is 0.14 in both."""
    x = np.array([[0.0, 0], [0.1, 0]])
    assert find(x, tol_unique=0.12)[0].n == 2
    assert find(x, tol_unique=0.15)[0].n == 1


@pytest.mark.slow
def test_the_row_of_lowest_q_stands_for_its_point():
    fps, _ = find(far_apart(4) * 1e-3, [4e-4, 3e-4, 1e-4, 2e-4], tol_unique=0.5)
    assert kept(fps) == pytest.approx([2e-3])


@pytest.mark.slow
def test_rows_of_different_inputs_are_different_points():
    fps, _ = find(np.zeros((3, 2)), inputs=[[0.1, 0], [0.2, 0], [0.1, 0]])
    np.testing.assert_allclose(np.sort(fps.inputs[:, 0]), [0.1, 0.2])


@pytest.mark.slow
def test_condition_numbers_arrive_at_their_rows():
    fps, all_fps = find(far_apart(4)[[0, 2, 2, 1]], cond_id=np.array(list("abcd")))
    assert all_fps.cond_id.tolist() == list("abcd")
    assert dict(zip(kept(fps), fps.cond_id.tolist(), strict=True)) in (
        {0.0: "a", 2.0: "b", 1.0: "d"},
        {0.0: "a", 2.0: "c", 1.0: "d"},
    )


@pytest.mark.slow
def test_devices_share_the_rows_out_and_give_them_back_in_order():
    x = far_apart(6)[[5, 3, 0, 4, 1, 2]]
    fps, all_fps = find(x, inputs=x, cond_id=np.arange(6), mesh="local")
    np.testing.assert_array_equal(all_fps.x_init, x)
    assert all_fps.cond_id.tolist() == list(range(6))
    assert sorted(kept(fps)) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(all_fps.xstar.devices()) == len(fps.J_xstar.devices()) == 1


def test_the_tolerance_stays_with_the_results():
    fps, all_fps = find(far_apart(4), tol_unique=0.25)
    assert fps.tol_unique == all_fps.tol_unique == 0.25


# ---- filters -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
@pytest.mark.parametrize(("scale", "expected"), [(0.5, [4.0]), (1.5, [0.0, 1.0, 4.0])])
def test_points_far_from_the_initial_states_are_dropped(scale, expected):
    """Four states at 0, 1, 4 and 9 have the centroid 3.5 and the mean distance 3."""
    fps, _ = find(far_apart(4) ** 2, outlier_distance_scale=scale)
    assert kept(fps) == expected


@pytest.mark.slow
def test_distances_are_measured_from_the_initial_states():
    """The network takes all rows to 100, which is far from where they start."""
    settings = {"inputs": [[100, 0]], "solver": LevenbergMarquardt()}
    with pytest.warns(UserWarning, match="4 ended at 1 fixed point, far from the initial"):
        fps, all_fps = find(far_apart(4), outlier_distance_scale=10.0, **settings)
    assert all_fps.n == 4 and fps.n == 0
    assert find(far_apart(4), outlier_distance_scale=200.0, **settings)[0].n == 1


@pytest.mark.slow
def test_identical_initial_states_make_no_outliers():
    settings = {"inputs": [[100, 0]], "solver": LevenbergMarquardt()}
    assert find(np.zeros((4, 2)), outlier_distance_scale=10.0, **settings)[0].n == 1


@pytest.mark.parametrize("place", [0.1, -0.4604, 0.7])
def test_identical_initial_states_make_no_outliers_wherever_they_are(place):
    """The sum of many copies of a state rounds, and their mean would be beside all of them."""
    settings = {"inputs": [[100, 0]], "solver": LevenbergMarquardt()}
    fps, _ = find(np.full((100, 2), place), outlier_distance_scale=10.0, **settings)
    assert fps.n == 1


def test_points_with_a_q_at_or_above_the_threshold_are_dropped():
    fps, _ = find(far_apart(4), [2**-9, 2**-7, 2**-9, 0], final_q_threshold=2**-7)
    assert kept(fps) == [0.0, 2.0, 3.0]


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_without_a_threshold_any_q_will_do(threshold):
    assert find(far_apart(4), 0.04, final_q_threshold=threshold)[0].n == 4


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0.0, []),
        (1.0, [2.0]),
        (2.0, [0.0, 2.0]),
        (3.0, [0.0, 2.0, 3.0]),
        (4.0, [0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_at_most_so_many_points_of_lowest_q_are_kept(most, expected):
    fps, _ = find(far_apart(4), [0.02, 0.04, 0.01, 0.03], max_n_unique=most)
    assert sorted(kept(fps)) == expected


def test_a_higher_limit_or_none_keeps_all():
    for most in (5.0, np.inf):
        assert find(far_apart(4), max_n_unique=most)[0].n == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
def test_what_other_filters_drop_takes_no_place_among_the_best():
    """The rows of lowest `q` are one point twice, an outlier, and one that is not finite."""
    x = np.vstack([far_apart(4), [[0.0, 0], [1e3, 0], [1.0, 0]]])
    q = [1e-6, 0.02, 0.03, 0.04, 1e-6, 0.0, np.nan]
    fps, _ = find(x, q, outlier_distance_scale=2.0, max_n_unique=3.0)
    assert sorted(kept(fps)) == [0.0, 1.0, 2.0]


# ---- what is computed --------------------------------------------------------------------------


def test_points_come_with_jacobians_and_spectra():
    A, B = np.array([[0.5, 1.0], [0.0, -2.0]]), np.array([[1.0, 0.0], [1.0, 3.0]])
    F = Affine(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))
    fps, all_fps = find(far_apart(4), inputs=np.zeros((1, 2)), F=F)
    np.testing.assert_allclose(fps.J_xstar, np.tile(A, (4, 1, 1)))
    np.testing.assert_allclose(fps.dFdu, np.tile(B, (4, 1, 1)))
    np.testing.assert_allclose(fps.eigval_J_xstar, [[-2.0, 0.5]] * 4, rtol=1e-6)
    assert not fps.is_stable.any()
    assert all_fps.J_xstar is None and all_fps.is_stable is None


def test_jacobians_without_spectra():
    fps, _ = find(far_apart(4), decompose_jacobians=False)
    assert fps.J_xstar.shape == (4, 2, 2) and not fps.has_decomposed_jacobians


def test_points_without_jacobians():
    fps, _ = find(far_apart(4), compute_jacobians=False)
    assert fps.J_xstar is None and fps.dFdu is None and not fps.has_decomposed_jacobians


@pytest.mark.slow_cases
@pytest.mark.parametrize("n", [1, 3, 4])
def test_every_number_of_points_has_its_jacobians(n):
    """The numbers are padded to a power of two inside; nothing of it shows."""
    x = np.resize(far_apart(n), (4, 2)) / 20
    fps, _ = find(x, inputs=np.zeros((1, 0)), F=lambda x, u: x**2)
    assert (fps.n, fps.valid) == (n, None)
    expected = 2 * np.asarray(fps.xstar)[:, :, None] * np.eye(2)
    np.testing.assert_allclose(fps.J_xstar, expected, rtol=1e-6)


# ---- nothing is found --------------------------------------------------------------------------


def assert_empty(fps, n_states=2, n_inputs=2):
    assert len(fps) == 0
    assert fps.xstar.shape == fps.F_xstar.shape == fps.x_init.shape == (0, n_states)
    assert fps.inputs.shape == (0, n_inputs)
    assert fps.qstar.shape == fps.n_iters.shape == fps.is_stable.shape == (0,)
    assert fps.J_xstar.shape == fps.eigvec_J_xstar.shape == (0, n_states, n_states)
    assert fps.dFdu.shape == (0, n_states, n_inputs)
    assert fps.eigval_J_xstar.shape == (0, n_states)


def test_a_threshold_that_nothing_meets_leaves_no_rows():
    with pytest.warns(UserWarning, match="4 ended unfinished, .* with q = 1, not below .* = 1e-30"):
        fps, all_fps = find(far_apart(4), 1.0, final_q_threshold=1e-30)
    assert_empty(fps)
    assert all_fps.n == 4


@pytest.mark.slow
def test_an_empty_result_says_at_which_rule_each_row_fell():
    x = np.vstack([far_apart(4), [[1e3, 0]]])
    q = [1.0, 4.0, np.nan, np.nan, 0.0]
    with pytest.warns(UserWarning) as caught:
        find(x, q, final_q_threshold=1e-8, outlier_distance_scale=2.0)
    text = str(caught[0].message)
    assert text.startswith(
        "find_fixed_points: No point is kept. Of 5 starts: 1 ended at 1 fixed point, far from"
    )
    assert " 2 ended unfinished, because the solver made no more progress, with q from 1" in text
    assert " 2 are NaN or infinite" in text and "escaped" not in text


@pytest.mark.parametrize("max_n_unique", [np.inf, 2.0])
def test_rows_that_are_not_finite_are_never_found(max_n_unique):
    settings = {"outlier_distance_scale": 10.0, "max_n_unique": max_n_unique}
    with pytest.warns(UserWarning, match="4 are NaN or infinite"):
        fps, all_fps = find(far_apart(4), np.nan, **settings)
    assert_empty(fps)
    assert not all_fps.valid.any()


def test_nothing_is_searched_on_where_nothing_is_found():
    with pytest.warns(UserWarning, match="4 are NaN or infinite"):
        fps, _ = find(far_apart(4), np.nan, outlier_q_scale=10.0, final_q_threshold=1e-8)
    assert_empty(fps)


def test_no_initial_states_are_no_points():
    fps, all_fps = find(np.zeros((0, 2)), inputs=np.zeros((1, 2)))
    assert_empty(fps)
    assert all_fps.n == 0


# ---- inside jit --------------------------------------------------------------------------------


def traced(x, q, **settings):
    """Do what `find` does with everything that can be traced as an argument of `jit`."""
    given = arguments(x, q, **settings)
    x_init, inputs = given.pop("x_init"), given.pop("inputs")
    search = jax.jit(lambda x, u: find_fixed_points(x_init=x, inputs=u, **given))
    return search(x_init, inputs)


@pytest.mark.slow
def test_inside_jit_the_valid_rows_are_those_of_a_plain_call():
    x, q = far_apart(4)[[0, 1, 1, 3]], [1e-4, 2e-4, 1e-4, 0.3]
    settings = {"tol_unique": 0.1, "final_q_threshold": 0.1, "outlier_distance_scale": 10.0}
    plain, _ = find(x, q, **settings)
    jitted, all_fps = traced(x, q, **settings)
    assert jitted.n == all_fps.n == 4
    assert kept(jitted.compact()) == kept(plain) == [0.0, 1.0]
    np.testing.assert_allclose(jitted.compact().J_xstar, plain.J_xstar)


@pytest.mark.slow
def test_inside_jit_a_limit_fixes_the_number_of_rows():
    q = [0.02, 0.04, 0.01, 0.03]
    fps, _ = traced(far_apart(4), q, max_n_unique=3.0, final_q_threshold=0.025)
    assert fps.n == 3
    assert sorted(kept(fps.compact())) == [0.0, 2.0]


# ---- wrong input -------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    "name", ["tol_unique", "outlier_distance_scale", "outlier_q_scale", "max_n_unique"]
)
@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_negative_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value}; expected"):
        find(far_apart(2), **{name: value})


@pytest.mark.checks_input
def test_shapes_are_checked_as_by_the_search():
    with pytest.raises(ValueError, match=r"`inputs` has shape \(3, 2\)"):
        find(far_apart(2), inputs=np.zeros((3, 2)))


def test_two_points_of_the_logistic_map_end_to_end():
    """Defaults: fixed points 0 and 1 - 1/r with slopes r and 2 - r."""
    x = np.linspace(-0.3, 1.2, 8, dtype=np.float32)[:, None]
    fps, _ = find_fixed_points(logistic(2.5), x, np.zeros(0, np.float32), mesh=None)
    order = np.argsort(fps.xstar[:, 0])
    np.testing.assert_allclose(fps.xstar[order, 0], [0.0, 0.6], atol=1e-6)
    np.testing.assert_allclose(fps.J_xstar[order, 0, 0], [2.5, -0.5], atol=1e-5)
    assert np.asarray(fps.is_stable)[order].tolist() == [False, True]


def test_condition_numbers_may_be_strings_on_several_devices():
    names = np.array(list("abcd"))
    assert find(far_apart(4), cond_id=names, mesh="local")[1].cond_id.tolist() == list("abcd")


def one_step(**settings):
    """Take one step of Levenberg-Marquardt each from seven near states and a far one."""
    F = Affine(0.5 * jnp.eye(2), jnp.eye(2))
    u = far_apart(8) / 2  # fixed points 0, 1, 2, ...
    x = far_apart(8) + np.where(np.arange(8) == 5, 4.0, 0.1)[:, None]
    settings = {"solver": LevenbergMarquardt(), "max_iters": 1} | settings
    return find(x, inputs=u, F=F, **settings)


@pytest.mark.slow
def test_points_with_an_outlying_q_are_searched_on():
    without, _ = one_step()
    fps, all_fps = one_step(outlier_q_scale=10.0)
    outlier = np.arange(8) == 5
    assert without.qstar[5] > 10 * np.median(without.qstar)
    assert fps.qstar[5] < 0.1 * without.qstar[5]
    assert fps.n_iters.tolist() == np.where(outlier, 2, 1).tolist()
    np.testing.assert_array_equal(fps.xstar[~outlier], without.xstar[~outlier])
    np.testing.assert_allclose(fps.F_xstar[5], 0.5 * fps.xstar[5] + fps.inputs[5], rtol=1e-6)
    np.testing.assert_array_equal(all_fps.xstar, without.xstar)
    assert all_fps.n_iters.max() == 1


@pytest.mark.slow
def test_points_are_searched_on_by_themselves_whatever_the_method():
    """As documented: a row at a slow point, which never ends, delays no other."""

    def F(x, u):
        return jnp.stack([0.5 * x[0] + u[0], x[1] + x[1] ** 2 + u[1]])

    u = far_apart(8) / 2 - np.array([0.0, 1.0])  # fixed points (0, 1), (1, 1), ...
    u[4, 1] = 0.1  # has none
    x = far_apart(8) + np.array([0.1, 1.1])
    x[5, 0] += 4.0
    settings = {"solver": Adam(lr_init=0.1), "max_iters": 30, "tol_q": 1e-3, "tol_dq": 0.0}
    without, _ = find(x, inputs=u, F=F, **settings)
    fps, _ = find(x, inputs=u, F=F, outlier_q_scale=10.0, **settings)
    assert set(without.n_iters.tolist()) == {30}
    assert 30 < fps.n_iters[5] < 60 and fps.qstar[5] < 1e-3 < without.qstar[5]


@pytest.mark.slow
def test_no_point_is_searched_on_where_none_is_an_outlier():
    fps, _ = one_step(outlier_q_scale=1e12)
    assert fps.n_iters.max() == 1


@pytest.mark.slow
def test_points_are_searched_on_before_the_threshold_decides():
    without, _ = one_step()
    threshold = float(without.qstar[5]) / 2
    assert one_step(final_q_threshold=threshold)[0].n == 7
    assert one_step(final_q_threshold=threshold, outlier_q_scale=10.0)[0].n == 8


@pytest.mark.parametrize("most", [0, 2])
def test_a_limit_is_a_whole_number(most):
    assert find(far_apart(4), max_n_unique=most)[0].n == most


@pytest.mark.slow
def test_all_states_are_fixed_points_of_the_identity():
    fps, all_fps = find_fixed_points(lambda x, u: x, far_apart(4), np.zeros(0))
    assert all_fps.qstar.max() == 0
    assert fps.n == 4


@pytest.mark.slow
def test_rows_that_stop_early_on_the_way_to_a_fixed_point_are_kept():
    """With tolerances to match; a step of Newton's from there ends at the fixed point exactly."""
    x = np.array([[1e-4]], np.float32)
    for solver in (Adam(), LevenbergMarquardt()):
        fps, _ = find_fixed_points(lambda x, u: 0.5 * x, x, np.zeros(0), solver=solver, tol_q=1e-6)
        assert fps.n == 1


@pytest.mark.slow
def test_condition_numbers_may_be_strings_where_outliers_are_dropped():
    labels = np.array(["a", "b", "c"])
    fps, _ = find(far_apart(3), cond_id=labels, outlier_distance_scale=10.0)
    assert fps.cond_id.tolist() == ["a", "b", "c"]


# ---- the stages by hand ------------------------------------------------------------------------


def flip_flop_starts(n=300):
    rng = np.random.default_rng(0)
    states = case("tanh")["traj"].reshape(-1, 16)[rng.choice(64 * 64, n)]
    return (states + 0.5 * rng.standard_normal(states.shape)).astype(np.float32)


RULES = {
    "defaults": {},
    "all rules": {
        "outlier_distance_scale": 0.8,
        "outlier_q_scale": 0.5,
        "final_q_threshold": 1e-13,
        "max_n_unique": 5,
    },
    "none": {"outlier_distance_scale": None, "final_q_threshold": None},
}


@pytest.mark.slow_cases
@pytest.mark.filterwarnings("ignore:find_fixed_points")  # that points are dropped
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_the_stages_by_hand_give_what_the_pipeline_gives(rules):
    F, x, u = trained("tanh"), flip_flop_starts(), np.zeros(3, np.float32)
    by_hand = optimize_batch(F, x, u)
    by_hand = unique(by_hand)
    by_hand = select(F, by_hand, **rules)
    by_hand = jacobians(F, by_hand)
    by_hand = decompose(by_hand)
    fps, _ = find_fixed_points(F, x, u, mesh=None, **rules)
    assert fps.n == by_hand.n > 0
    assert "max_n_unique" not in rules or fps.n == 5
    for name in FixedPoints.array_fields:
        there, here = getattr(by_hand, name), getattr(fps, name)
        assert (there is None) == (here is None), name
        if there is not None:
            np.testing.assert_array_equal(there, here, err_msg=name)


def test_select_judges_what_is_far_by_all_rows_or_by_given_states():
    """The valid rows alone are spread more than all rows, and the given states less."""
    x = np.array([[0.0], [0.0], [0.0], [0.0], [1.0], [9.0]], np.float32)
    fps = FixedPoints(
        xstar=x, x_init=x, inputs=np.zeros((6, 1), np.float32), qstar=np.zeros(6, np.float32),
        valid=np.array([True, False, False, False, True, True]),
    )  # fmt: skip

    def kept_of(fps, *args):
        return select(lambda x, u: x, fps, *args, outlier_distance_scale=2).xstar[:, 0].tolist()

    assert kept_of(fps) == [0, 1]
    assert kept_of(fps.compact()) == [0, 1, 9]
    assert kept_of(fps.compact(), x) == [0, 1]
    assert kept_of(fps.compact(), np.full((2, 1), 5.0, np.float32)) == [0, 1, 9]
    assert kept_of(fps.compact(), x[:5]) == [0]
    with pytest.raises(ValueError, match=r"`x_init` is None, and so is `fps\.x_init`"):
        kept_of(fps.replace(x_init=None))


def test_select_inside_jit_marks_what_it_keeps_outside():
    F, u = trained("tanh"), np.zeros(3, np.float32)
    fps = unique(optimize_batch(F, flip_flop_starts(), u))
    rules = {"outlier_distance_scale": 0.8, "final_q_threshold": 1e-14}
    outside = select(F, fps, **rules)
    inside = jax.jit(lambda fps: select(F, fps, **rules))(fps)
    assert inside.n == fps.n and 0 < outside.n < np.sum(np.asarray(fps.valid))
    np.testing.assert_array_equal(inside.compact().xstar, outside.xstar)


def row_of_points(n=6, **fields):
    x = np.arange(n, dtype=np.float32)[:, None]
    q = np.arange(n, dtype=np.float32)[::-1] * 1e-3
    return FixedPoints(xstar=x, inputs=x, qstar=q, **fields)


def identity(x, u):
    return x


OFF = {"outlier_distance_scale": None, "final_q_threshold": None}


def test_select_inside_jit_needs_no_marks():
    fps = row_of_points()
    inside = jax.jit(lambda fps: select(identity, fps, **OFF, max_n_unique=2))(fps)
    assert inside.xstar[:, 0].tolist() == [5, 4] and inside.valid.all()


@pytest.mark.checks_input
def test_select_takes_traced_states_and_scales():
    """The points themselves are not traced."""
    fps, x = row_of_points(), np.array([[2.0], [3.0]], np.float32)
    rules = {"final_q_threshold": None}
    outside = select(identity, fps, x, outlier_distance_scale=4, **rules)
    assert outside.xstar[:, 0].tolist() == [1, 2, 3, 4]
    inside = jax.jit(lambda x: select(identity, fps, x, outlier_distance_scale=4, **rules).valid)
    assert inside(x).tolist() == [False, True, True, True, True, False]
    scales = jnp.array([2.0, 4.0, 10.0])
    valid = jax.vmap(lambda s: select(identity, fps, x, outlier_distance_scale=s, **rules).valid)
    assert valid(scales).sum(axis=1).tolist() == [2, 4, 6]


@pytest.mark.checks_input
@pytest.mark.parametrize("name", ["final_q_threshold", "max_n_unique"])
def test_what_decides_the_program_may_not_be_traced(name):
    with pytest.raises(TypeError, match=f"`{name}` is traced"):
        jax.jit(lambda value: select(identity, row_of_points(), **{**OFF, name: value}))(3.0)


@pytest.mark.slow
def test_points_that_move_on_lose_what_was_computed_of_them():
    fps = FixedPoints(
        xstar=np.array([[0.0], [0.3]], np.float32),
        inputs=np.zeros((2, 1), np.float32),
        qstar=np.array([0.0, 0.01], np.float32),
        J_xstar=np.zeros((2, 1, 1), np.float32),
        period=np.ones(2, int),
    )
    moved = select(lambda x, u: 0.5 * x, fps, **OFF, outlier_q_scale=1.0)
    assert moved.n == 1 and moved.J_xstar is None and moved.period is None
    still = select(lambda x, u: 0.5 * x, fps, **OFF)
    assert still.n == 2 and still.J_xstar is not None


@pytest.mark.slow
def test_a_first_search_compiles_no_programs_of_single_operations():
    """Each takes 20 to 50 ms to compile, for every number of rows and of states."""
    W = np.float32(1.5 * np.random.default_rng(0).normal(size=(7, 7)) / np.sqrt(7))
    x = np.random.default_rng(1).normal(size=(37, 7)).astype(np.float32)
    u = np.zeros(7, np.float32)
    with compilations() as compiled:
        find_fixed_points(lambda x, u: jnp.tanh(W @ x + u), x, u, mesh=None)
    # Quick steps, exact steps, what they found, four questions about it, and the Jacobians.
    assert len(compiled) <= 8
    with compilations() as compiled:
        for n in (1, 2, 36, 100, 513):
            x = np.random.default_rng(n).normal(size=(n, 7)).astype(np.float32)
            find_fixed_points(
                lambda x, u: jnp.tanh(W @ x + u), x, np.zeros(7, np.float32), mesh=None
            )
    assert not compiled


def test_a_result_does_not_change_with_the_array_that_the_search_started_from():
    """JAX may use the memory of an array of NumPy that begins where 64 bytes do."""
    memory = np.zeros(64 * 2 + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    x = memory[first : first + 64 * 2].reshape(64, 2)
    x[:] = 0.1
    fps, all_fps = find_fixed_points(lambda x, u: x / 2, x, np.zeros(0, np.float32), mesh=None)
    x[:] = 7
    assert np.all(np.asarray(all_fps.x_init) == np.float32(0.1)) and fps.n == 1
