"""Which distinct fixed points the rows of a search stand for: Newton's method in float64 decides.

Nothing here uses the library: the same rules hold for all tools.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .networks import Network

TOLERANCE = 1e-3
"""Points at most this far apart are one: the documented `tol_unique`."""

HIGHEST_Q = 1e-8
"""Rows with `q` above this are no candidates: the documented `final_q_threshold`."""

FARTHEST = 0.05
"""A candidate that Newton's method takes farther than this was not near the point it led to."""

NEAR = 0.01
"""Where a row's distance from a point is at most this in each unit, in the mean, it reached it."""

_BLOCK = 64


def confirm(network: Network, x: Any) -> np.ndarray:
    """Return the distinct fixed points that rows stand for.

    A row stands for a fixed point if its `q`, in float64, is below `HIGHEST_Q`, and Newton's method
    from there converges without going farther than `FARTHEST`.

    Args:
        network: the network.
        x: `[n, n_states]` where a tool's rows ended.

    Returns:
        `[k, n_states]` in float64, each more than `TOLERANCE` from the others.
    """
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x).all(axis=1)]
    candidates = distinct(x[_newton(network, x, 0)[1] < HIGHEST_Q])
    points, q = _newton(network, candidates, 20)
    near = np.linalg.norm(points - candidates, axis=1) <= FARTHEST
    return distinct(points[near & (q < 1e-24 * (1 + np.sum(points**2, axis=1)))])


def reached(network: Network, x: Any, n_steps: int = 15) -> np.ndarray:
    """Return the distinct fixed points next to which rows ended, whatever their `q`.

    A row reached a fixed point if Newton's method in float64 converges from there without going
    farther than `NEAR` times the root of the number of states: the rule of `tests/cases/README.md`.

    Args:
        network: the network.
        x: `[n, n_states]` where a tool's rows ended.
        n_steps: the most steps of Newton's method.

    Returns:
        `[k, n_states]` in float64, each more than `TOLERANCE` from the others.
    """
    x = np.asarray(x, np.float64)
    starts = points = x[np.isfinite(x).all(axis=1)]
    found = []
    for _ in range(n_steps):
        points, q = _newton(network, points, 1)
        # NaN is not near, and so leaves.
        near = np.linalg.norm(points - starts, axis=1) <= NEAR * np.sqrt(x.shape[1])
        there = q < 1e-24 * (1 + np.sum(points**2, axis=1))
        found.append(points[near & there])
        starts, points = starts[near & ~there], points[near & ~there]
    return distinct(np.concatenate(found))


def distinct(x: np.ndarray) -> np.ndarray:
    """Return rows more than `TOLERANCE` apart, such that each row of `x` is within it of one."""
    kept = []
    while len(x):
        kept.append(x[0])
        x = x[np.linalg.norm(x - x[0], axis=1) > TOLERANCE]
    return np.array(kept).reshape(-1, x.shape[1])


def union(*parts: np.ndarray) -> np.ndarray:
    """Return the distinct points of several sets; the first ones come first, as they are."""
    return distinct(np.concatenate(parts))


def matched(reference: np.ndarray, points: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return `[k]` which of the `k` points of `reference` are among `points`."""
    apart = np.linalg.norm(reference[:, None] - points[None], axis=-1)
    return np.min(apart, axis=1, initial=np.inf) <= tolerance


def within_reach(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the points that are no outliers by the documented rule (10 mean distances)."""
    centroid = starts.mean(axis=0)
    typical = np.linalg.norm(starts - centroid, axis=1).mean()
    return points[np.linalg.norm(points - centroid, axis=1) <= 10 * typical]


def _newton(network: Network, x: np.ndarray, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where Newton's method takes each row in float64, and the `q` there."""
    ends, qs = [np.empty((0, x.shape[1]))], [np.empty(0)]
    with jax.enable_x64(True):
        F = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), network.F)
        u, steps = jnp.asarray(network.u, jnp.float64), jnp.asarray(n_steps)
        for start in range(0, len(x), _BLOCK):
            rows = np.minimum(np.arange(start, start + _BLOCK), len(x) - 1)
            end, q = _newton_block(F, jnp.asarray(x[rows]), u, steps)
            ends.append(np.asarray(end)[: len(x) - start])
            qs.append(np.asarray(q)[: len(x) - start])
    return np.concatenate(ends), np.concatenate(qs)


@eqx.filter_jit
def _newton_block(F: Any, x: Any, u: Any, n_steps: Any) -> tuple[Any, Any]:
    def one(x: Any) -> tuple[Any, Any]:
        def step(_: Any, x: Any) -> Any:
            A = jnp.eye(x.size) - jax.jacfwd(F)(x, u)
            return x + jnp.linalg.solve(A, F(x, u) - x)

        x = jax.lax.fori_loop(0, n_steps, step, x)
        return x, 0.5 * jnp.sum((x - F(x, u)) ** 2)

    return jax.vmap(one)(x)
