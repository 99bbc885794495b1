"""What every kind of model must hold as a transition, for the tests of the frameworks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import case, newton_polish, trained

from slowpoints import FixedPointFinder
from slowpoints._network.precision import with_precision
from slowpoints._network.trace import traced

TOLERANCES = {"float32": 2e-6, "float64": 1e-12}


@pytest.fixture(autouse=True, scope="module")
def fast_compilation():
    """For modules that import it: what they compile, they run a few times on small networks."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def check_steps(F, own_step, n_inputs, dtype, n_steps=8):
    """Step the transition and the model itself along a trajectory, and compare every state.

    `own_step(state, u)` is the model's own step, from a state in its own form to the next.
    """
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        F = with_precision(F, dtype)
        x = jnp.asarray(rng.normal(size=F.n_states), dtype)
        for u in rng.normal(size=(n_steps, n_inputs)).astype(dtype):
            u = jnp.asarray(u)
            expected = F.flatten(own_step(F.unflatten(x), u))
            x = eqx.filter_jit(F)(x, u)
            assert x.dtype == expected.dtype == dtype
            np.testing.assert_allclose(x, expected, rtol=0, atol=TOLERANCES[dtype])


def check_rows(F, n_inputs):
    """A batch under `vmap` is the rows one by one, and `flatten` inverts `unflatten`."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(4, F.n_states)), jnp.float32)
    u = jnp.asarray(rng.normal(size=(4, n_inputs)), jnp.float32)
    rows = jnp.stack([F(*row) for row in zip(x, u, strict=True)])
    np.testing.assert_allclose(jax.vmap(F)(x, u), rows, atol=1e-6)
    np.testing.assert_array_equal(F.flatten(F.unflatten(x)), x)


def check_gradients(F, n_inputs):
    """Gradients reach every parameter that takes part in a step, and are right."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        F = with_precision(F, np.float64)
        # Of several states at least one makes a rectified unit speak.
        x = jnp.asarray(rng.normal(size=(8, F.n_states)))
        u = jnp.asarray(rng.normal(size=(8, n_inputs)))
        parameters, structure = eqx.partition(F, eqx.is_inexact_array)
        leaves, treedef = jax.tree.flatten(parameters)
        directions = [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves]

        @jax.jit
        def speed(leaves):
            F = eqx.combine(jax.tree.unflatten(treedef, leaves), structure)
            return 0.5 * jnp.sum((jax.vmap(F)(x, u) - x) ** 2)

        def moved(h):
            return [leaf + h * d for leaf, d in zip(leaves, directions, strict=True)]

        gradient = jax.grad(speed)(leaves)
        assert all(np.abs(g).max() > 0 for g in gradient)
        slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, directions, strict=True))
        difference = (speed(moved(1e-6)) - speed(moved(-1e-6))) / 2e-6
        np.testing.assert_allclose(slope, difference, rtol=1e-6)


def check_one_compilation(first, second, n_inputs):
    """Two models of one structure, with other weights, are one program."""
    sizes = first.n_states, n_inputs, np.float32
    first, second = (traced("test", F, *sizes) for F in (first, second))
    traces = []

    @eqx.filter_jit
    def step(F, x, u):
        traces.append(None)
        return F(x, u)

    x, u = jnp.ones(first.n_states), jnp.ones(n_inputs)
    assert not np.allclose(step(first, x, u), step(second, x, u))
    assert len(traces) == 1


def check_fixed_points(model, cell, to_own=lambda x: x, to_case=lambda x: x):
    """The finder finds the trained network's 27 points in a framework's form of it.

    `to_own` and `to_case` reorder states from the case's order to the model's and back. The points
    of the case are those to which Newton's method takes the found ones, on the case's formulas.
    """
    finder = FixedPointFinder(model, verbose=False, do_compute_jacobians=False)
    traj = to_own(case(cell)["traj"])
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, 3)), n_inits=1024, noise_scale=0.5)
    found = to_case(fps.xstar)
    points, q = newton_polish(trained(cell), found, np.zeros((fps.n, 3)))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert q.max() < 1e-25
    assert fps.n == 27
    assert distances[~np.eye(27, dtype=bool)].min() > 0.1
    assert np.linalg.norm(found - points, axis=1).max() < 1e-4
