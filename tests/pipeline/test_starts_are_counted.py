"""Whatever becomes of the starts of a search, its account counts each of them once."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import Adam, FixedPointFinder, Status, account, find_fixed_points

NO_INPUT = np.zeros(1, np.float32)


def coupled(x, u):
    return jnp.tanh(jnp.array([[1.5, 0.1], [0.1, 1.5]]) @ x + jnp.array([0.3, 0.0]) + u)


def rectified(x, u):
    return jax.nn.relu(jnp.array([[0.5, -1.2], [-1.2, 0.5]]) @ x + 1 + u)


def along_a_line(x, u):
    return jnp.stack([x[0] + 1e-3 * x[0] ** 2, x[1] / 2]) + u


def broken_beyond(x, u):
    return jnp.log(1 + x) / 2 + u  # not a number below -1


def running_away(x, u):
    return x + jnp.exp(-x) + u


NETWORKS = (coupled, rectified, along_a_line, broken_beyond, running_away)
SETTINGS = (
    {},
    {"max_n_unique": 1},
    {"max_n_unique": 0},
    {"final_q_threshold": None},
    {"final_q_threshold": 1e-30},
    {"outlier_distance_scale": 0.1},
    {"keep_unfinished": False, "max_iters": 2},
    {"tol_unique": 10.0},
    {"tol_unique": 0.0},
    {"outlier_q_scale": 0.5},
    {"solver": Adam(), "max_iters": 20},
)


def starts(n):
    x = np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
    if n > 3:
        x[1], x[2], x[3] = x[0], np.nan, 1e30
    return x


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("F", NETWORKS, ids=lambda F: F.__name__)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_parts_of_the_account_add_up_to_all_starts(F, settings):
    for n in (1, 100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fps, all_fps = find_fixed_points(F, starts(n), NO_INPUT, **settings)
        rules = {k: v for k, v in settings.items() if k not in ("solver", "tol_unique")}
        told = account(fps, all_fps, F=F, **rules)
        assert all_fps.n == told.n_rows == n == sum(part.n_rows for part in told.parts)
        said = [int(re.match(r"\d+", line)[0]) for line in told.lines[: len(told.parts)]]
        assert said == [part.n_rows for part in told.parts]
        assert str(told).startswith(f"Of {n} start{'s' * (n > 1)}:")
        is_kept = (told.dropped_by == "") & (np.asarray(all_fps.status) < Status.ESCAPED)
        if not {"outlier_q_scale", "tol_unique"} & set(settings):  # which move and merge rows
            assert np.asarray(fps.hits).sum() == is_kept.sum()
        assert "unknown" not in told.dropped_by


@pytest.mark.slow
def test_what_is_too_little_for_a_warning_is_in_the_account():
    """The search drops the slow point of 4 starts in 100, and warns from 5 on."""
    u = np.where(np.arange(100) < 4, 1e-3, -0.01)[:, None].astype(np.float32)

    def saddle_node(x, u):  # without a point if u is above 0
        return x + x**2 + u

    x = np.full((100, 1), -0.2, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fps, all_fps = find_fixed_points(saddle_node, x, u)
    told = account(fps, all_fps)
    assert [(part.status, part.n_rows) for part in told.parts] == [
        (Status.FIXED_POINT, 96),
        (Status.SLOW_POINT, 4),
    ]
    assert told.lines[1].startswith("4 ended at 1 slow point that is not below") and fps.n == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:find_fixed_points")
@pytest.mark.parametrize("n_inits", [1, 3])
def test_a_finder_of_few_starts_counts_them(capsys, n_inits):
    states = np.random.default_rng(0).normal(size=(2, 10, 2)).astype(np.float32)
    finder = FixedPointFinder(coupled)
    _, all_fps = finder.find_fixed_points(states, np.zeros((1, 1)), n_inits)
    told = finder._account(*finder.find_fixed_points(states, np.zeros((1, 1)), n_inits))
    assert all_fps.n == n_inits == sum(part.n_rows for part in told.parts)
    assert f"\tOf {n_inits} start{'s' * (n_inits > 1)}:\n" in capsys.readouterr().out
