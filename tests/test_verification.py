"""`escaping`: rows in tails, where `q` is low and falls without end, are told from the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import INDEX_COUNTS, case, index_counts, trained

from slowpoints import FixedPoints, find_fixed_points
from slowpoints.verification import escaping


def judged(F, *states):
    x = jnp.asarray(states, jnp.float32)[:, None]
    return np.asarray(escaping(F, FixedPoints(xstar=x, inputs=jnp.zeros((len(x), 0))))).tolist()


def test_a_tail_leads_nowhere():
    """`x - F(x) = exp(-x)` is nowhere zero; `q` is 2e-11 at 12, and rounded away at 40."""
    assert judged(lambda x, u: x - jnp.exp(-x), 6.0, 12.0, 16.0) == [True] * 3


def test_fixed_points_and_rows_close_to_them_are_kept():
    assert judged(lambda x, u: 0.999 * x, 0.0, 1e-3, 0.05) == [False] * 3


def test_slow_points_are_kept():
    """`q = (x^2 + 1e-5)^2 / 2` has its minimum at 0, where it is 5e-11."""
    assert judged(lambda x, u: x + x**2 + 1e-5, 0.0) == [False]


def test_states_that_all_are_fixed_points_are_kept():
    assert judged(lambda x, u: x, -3.0, 0.0, 1e6) == [False] * 3


def test_inside_jit_the_same_rows_are_told():
    @jax.jit
    def judge(x):
        fps = FixedPoints(xstar=x, inputs=jnp.zeros((2, 0)))
        return escaping(lambda x, u: x - jnp.exp(-x) * (x > 1), fps)

    assert judge(jnp.asarray([[12.0], [0.5]])).tolist() == [True, False]


@pytest.mark.filterwarnings("ignore:find_fixed_points. Of")
@pytest.mark.parametrize(
    ("cell", "n"),
    [
        ("gru", 4096),
        pytest.param("gru", 50_000, marks=pytest.mark.slow),
        pytest.param("lstm", 50_000, marks=pytest.mark.slow),
    ],
)
def test_states_far_outside_lead_to_no_false_points(cell, n):
    """A saturated gate keeps a GRU's state where it is, at values that no trajectory reaches."""
    rng = np.random.default_rng(5)
    visited = case(cell)["traj"].reshape(-1, case(cell)["traj"].shape[-1])
    x = visited[rng.integers(len(visited), size=n)] + rng.normal(0, 2, (n, visited.shape[1]))
    fps, _ = find_fixed_points(trained(cell), x.astype(np.float32), np.zeros(3, np.float32))
    assert index_counts(fps) == INDEX_COUNTS
