"""The default search on networks as laboratories train them: see `tests/cases/README.md`."""

from functools import cache

import numpy as np
import pytest
from networks import field_case, field_network, field_starts, newton_polish

from slowpoints import Status, find_fixed_points, optimize_batch

# Some of these networks have slow points that are dropped, which is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:find_fixed_points")

N_STARTS = 128
slow = pytest.mark.slow
# Case, which of its inputs, and how many distinct fixed points there are at least.
KNOWN = [
    pytest.param("context_gru_128_s12", 0, 3, marks=slow),
    pytest.param("context_gru_128_s12", 1, 1, marks=slow),
    pytest.param("context_leaky_128_s11", 0, 3, marks=slow),
    ("integrate_tanh_100_s13", 0, 3),
    pytest.param("pwm_leaky_256_s16", 0, 3, marks=slow),
    pytest.param("ring_gru_128_s14", 0, 7, marks=slow),
    pytest.param("ring_tanh_256_s17", 0, 6, marks=slow),
    pytest.param("sine_tanh_128_s15", 1, 3, marks=slow),
]
SLOW_Q = 6.452e-8
"""`q` at the slow point, by Levenberg-Marquardt's method in NumPy and float64 from five starts."""

# The cases count a point as reached where Newton's method moves the row less than this in each
# unit, in the mean. Those of one case are much farther apart.
REACHED = 0.01
DISTINCT = 1e-3


@cache
def search(name, i):
    u = field_case(name)["inputs"][i]
    x = field_starts(name)
    return find_fixed_points(field_network(name), x, u, compute_jacobians=False, mesh=None)


def true_points(name, i, fps):
    """Return the distinct fixed points `[k, N]` that Newton's method finds next to rows."""
    x = np.asarray(fps.xstar, float)
    u = np.tile(field_case(name)["inputs"][i], (fps.n, 1))
    ends, q = newton_polish(field_network(name), x, u, n_steps=15)
    moved = np.linalg.norm(ends - x, axis=1)
    # A root to float64's rounding, of residuals of `N` numbers of size one.
    ends = ends[(moved < REACHED * np.sqrt(x.shape[1])) & (q < 1e-24)]
    apart = np.linalg.norm(ends[:, None] - ends, axis=-1) > DISTINCT
    return ends[[k for k in range(len(ends)) if apart[k, :k].all()]]


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(("name", "i", "least"), KNOWN)
def test_the_default_search_keeps_all_known_fixed_points(name, i, least):
    fps, rows = search(name, i)
    assert rows.n == N_STARTS
    assert len(true_points(name, i, fps)) >= least


@pytest.mark.slow
def test_most_rows_of_a_context_network_come_to_its_one_slow_point():
    """It is no fixed point, and its `q` is above what is kept by default."""
    _, rows = search("context_gru_128_s12", 1)
    q, x = np.asarray(rows.qstar, float), np.asarray(rows.xstar, float)
    there = np.abs(q / SLOW_Q - 1) < 0.01
    # The others come to the fixed point.
    assert there.sum() > N_STARTS / 2 and np.asarray(rows.valid)[there].all()
    # They agree on where it is as far as `tol_unique` tells points apart, but for a few rows that
    # are still on their way along the direction of the lowest curvature.
    away = np.linalg.norm(x[there] - np.median(x[there], axis=0), axis=1)
    assert np.mean(away < 1e-3) > 0.9
    some = rows[np.flatnonzero(there)[:16]]
    assert len(true_points("context_gru_128_s12", 1, some)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "i"), [("context_leaky_128_s11", 1), ("ring_gru_128_s14", 0)])
def test_hardly_a_row_is_left_unfinished(name, i):
    """In the first, Krylov spaces hold a part of Newton's step; in the second, `q` falls slowly."""
    rng, arrays = np.random.RandomState(0), field_case(name)
    visited = arrays["traj"].reshape(-1, arrays["traj"].shape[-1])
    x = visited[rng.choice(len(visited), 512)]
    x = np.float32(x + 0.1 * rng.randn(*x.shape))
    rows = optimize_batch(field_network(name), x, arrays["inputs"][i])
    # On some processors, one of the 512 rows on the ring stalls at q = 2e-8.
    assert np.sum(np.asarray(rows.status) == Status.UNFINISHED) <= 1
