"""`task_axes`: directions that are known, recovered from states that move along them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slowpoints import plot_fixed_points_2d, task_axes
from slowpoints._drawing.config import PlotConfig
from slowpoints._plots.task_axes import SHARED
from slowpoints._points.fixed_points import FixedPoints

pytestmark = pytest.mark.fast

TIME = 15
RAMP, BUMP = np.linspace(0, 1, TIME), np.sin(np.linspace(0, np.pi, TIME))


def orthonormal(n_states, k, seed=0):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(n_states, k)))[0].T


def states_along(directions, values, courses, noise=0.0, seed=0):
    """Return states that each variable moves along its direction, in the course of a trial."""
    rng = np.random.default_rng(seed)
    states = np.einsum("kn,kt,kd->ntd", values, courses, directions)
    mean = rng.normal(size=(1, states.shape[1], states.shape[2]))  # what all trials share
    return states + mean + noise * rng.normal(size=states.shape)


def task(n_states=6, n_trials=40, noise=0.0, seed=0):
    rng = np.random.default_rng(seed + 100)
    choice = np.where(rng.random(n_trials) < 0.5, -1.0, 1.0)
    motion = rng.choice([-0.5, -0.15, 0.15, 0.5], n_trials)
    directions = orthonormal(n_states, 2, seed)
    courses = np.stack([2 * RAMP, 3 * BUMP])
    states = states_along(directions, np.stack([choice, motion]), courses, noise, seed)
    return states, {"choice": choice, "motion": motion}, directions


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_directions_of_known_courses_are_recovered_with_their_signs(seed, n_states):
    states, variables, directions = task(n_states, seed=seed)
    axes = task_axes(states, variables)
    assert list(axes) == ["choice", "motion"]
    np.testing.assert_allclose(list(axes.values()), directions, atol=1e-9)


def test_noise_turns_axes_by_little():
    states, variables, directions = task(20, 400, noise=0.1)
    axes = np.stack(list(task_axes(states, variables).values()))
    cosines = np.sum(axes * directions, axis=1)
    assert (cosines > 0.99).all() and (cosines < 1).all()


def oblique(cosine=0.6):
    """Return states that two variables move along directions with this cosine."""
    _, variables, (a, b) = task()
    directions = np.stack([a, cosine * a + np.sqrt(1 - cosine**2) * b])
    values = np.stack(list(variables.values()))
    return states_along(directions, values, np.stack([RAMP, BUMP])), variables, directions, b


def test_axes_are_orthogonal_to_those_before_them_or_as_they_are():
    states, variables, (first, second), beside = oblique()
    axes = task_axes(states, variables)
    np.testing.assert_allclose(axes["choice"], first, atol=1e-9)
    np.testing.assert_allclose(axes["motion"], beside, atol=1e-9)
    both = task_axes(states, variables, orthogonal=False)
    np.testing.assert_allclose(list(both.values()), [first, second], atol=1e-9)
    turned = task_axes(states, dict(reversed(variables.items())))
    assert list(turned) == ["motion", "choice"]
    np.testing.assert_allclose(turned["motion"], second, atol=1e-9)
    assert abs(turned["choice"] @ second) < 1e-9


def test_the_axis_is_that_of_the_step_at_which_most_is_told():
    """Early on states move along one direction, and further along another one later."""
    choice = np.array([-1.0, 1, -1, 1])
    early, late = np.eye(3)[:2]
    states = np.zeros((4, 8, 3))
    states[:, :4] = choice[:, None, None] * early
    states[:, 5] = 1.5 * choice[:, None] * late
    np.testing.assert_allclose(task_axes(states, {"choice": choice})["choice"], late, atol=1e-12)
    first = task_axes(states[:, :5], {"choice": choice})["choice"]
    np.testing.assert_allclose(first, early, atol=1e-12)


def test_variables_are_told_apart_though_they_go_together():
    rng = np.random.default_rng(3)
    motion = rng.normal(size=60)
    choice = np.sign(motion + 0.3 * rng.normal(size=60))
    assert np.corrcoef(motion, choice)[0, 1] > 0.6
    directions = orthonormal(5, 2)
    states = states_along(directions, np.stack([choice, motion]), np.stack([RAMP, BUMP]))
    axes = task_axes(states, {"choice": choice, "motion": motion})
    np.testing.assert_allclose(list(axes.values()), directions, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
@pytest.mark.parametrize("of", ["states", "motion", "choice"])
def test_axes_have_no_units(unit, of):
    states, variables, directions = task()
    if of == "states":
        states = unit * states
    else:
        variables = variables | {of: unit * variables[of] + 3 * unit}
    axes = task_axes(states, variables)
    np.testing.assert_allclose(list(axes.values()), directions, atol=1e-7)


def test_float32_whole_numbers_and_truth_are_variables():
    states, variables, directions = task()
    given = {"choice": variables["choice"] > 0, "motion": np.round(20 * variables["motion"])}
    given["motion"] = given["motion"].astype(int)
    axes = task_axes(states.astype(np.float32), given)
    np.testing.assert_allclose(list(axes.values()), directions, atol=1e-5)
    assert all(axis.dtype == np.float64 for axis in axes.values())
    lists = {name: value.tolist() for name, value in given.items()}
    np.testing.assert_allclose(list(task_axes(states, lists).values()), directions, atol=1e-9)


def test_pairs_are_states():
    states, variables, directions = task()
    pair = (states[..., :2], states[..., 2:].reshape(40, TIME, 2, 2))
    axes = task_axes(pair, variables)
    np.testing.assert_allclose(list(axes.values()), directions, atol=1e-9)


def test_figures_take_them_as_their_axes():
    states, variables, _ = task()
    axes = task_axes(states, variables)
    config = PlotConfig(show=False)
    (ax,) = plot_fixed_points_2d(FixedPoints(), states, config, [0], projection=axes).axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("choice", "motion")
    drawn = np.stack(ax.lines[0].get_data())
    np.testing.assert_allclose(drawn, np.stack([states[0] @ a for a in axes.values()]))


@pytest.mark.parametrize("cosine", [SHARED - 0.02, SHARED + 0.02, -SHARED - 0.02])
def test_axes_that_are_nearly_parallel_are_told_of(cosine):
    states, variables, _, beside = oblique(cosine)
    if abs(cosine) < SHARED:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            axes = task_axes(states, variables)
    else:
        message = rf"task_axes: .* axes of 'choice' and 'motion' have a cosine of {abs(cosine):.2f}"
        with pytest.warns(UserWarning, match=message):
            axes = task_axes(states, variables)
    np.testing.assert_allclose(axes["motion"], beside, atol=1e-8)


STATES, VARIABLES, _ = task()


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state_traj": STATES[0]}, r"`state_traj` has shape \(15, 6\); expected \(trials, time"),
        ({"state_traj": STATES * np.nan}, "task_axes: `state_traj` holds 3600 values that are NaN"),
        ({"variables": np.ones(40)}, "`variables` is an array .*; expected a dict of names"),
        ({"variables": {}}, "`variables` is empty; expected one or more"),
        ({"variables": {"choice": np.ones(39)}}, r"`variables\['choice'\]` has shape \(39,\)"),
        ({"variables": {"choice": np.full(40, np.nan)}}, r"`variables\['choice'\]` holds 40"),
        ({"variables": {"choice": ["left"] * 40}}, r"`variables\['choice'\]` .*real numbers"),
        (
            {"variables": VARIABLES | {"again": 2 * VARIABLES["motion"] - 1}},
            r"has 3 variable\(s\), of which 2 are independent",
        ),
        ({"variables": {"choice": np.ones(40)}}, "of which 0 are independent over the trials"),
        (
            {"state_traj": np.ones((40, 2, 3))},
            "`variables` has 'choice', with which no state changes; expected",
        ),
        (
            {
                "state_traj": np.repeat(VARIABLES["choice"][:, None, None], 3, axis=1),
                "variables": {"choice": VARIABLES["choice"], "motion": VARIABLES["motion"]},
            },
            "`variables` has 'motion', with which no state changes by itself",
        ),
        ({"orthogonal": "no"}, "`orthogonal` is 'no'; expected"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        task_axes(**({"state_traj": STATES, "variables": VARIABLES} | arguments))
