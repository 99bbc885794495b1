"""`ContinuousTime`: equilibria with closed forms, or found by bisection in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import Affine

import slowpoints
from slowpoints import ContinuousTime, FixedPointFinder, FixedPoints, decompose, jacobians

ATOL = 1e-6


def search(f, starts, u=(), **keywords):
    """Return the equilibria of `f`, found in float64 and sorted by their first coordinate."""
    with jax.enable_x64(True):
        starts, u = jnp.asarray(starts, jnp.float64), jnp.asarray(u, jnp.float64)
        F = ContinuousTime(f)
        fps, _ = slowpoints.find_fixed_points(F, starts, u, mesh=None, **keywords)
        fps = fps.to_numpy()
    return fps[np.lexsort(fps.xstar.T[::-1].round(6))]


def uniform(n, n_states, low, high):
    return np.random.default_rng(0).uniform(low, high, (n, n_states))


class OneFlow(eqx.Module):
    """One of several flows `f(p, x, u)`, by its number, so that all share one compiled search."""

    which: jax.Array
    p: jax.Array

    def __call__(self, x, u):
        return jax.lax.switch(self.which, (wilson_cowan, fitzhugh_nagumo, ghost), self.p, x, u)


def flow(which, *p):
    with jax.enable_x64(True):
        p = jnp.asarray((*p, 0.0, 0.0, 0.0)[:3], jnp.float64)
        return OneFlow(jnp.int32(which), p)


# ---- Wilson & Cowan (1972) ---------------------------------------------------------------------

EE, EI, IE, II = 10.0, 6.0, 8.0, 2.0
TAU = np.array([10.0, 20.0])  # ms


def wilson_cowan(p, x, u):
    """Rates of excitatory and inhibitory units, with logistic responses."""
    drive = jnp.stack([EE * x[0] - EI * x[1], IE * x[0] - II * x[1]]) + u - 4
    return (jax.nn.sigmoid(drive) - x) / TAU


def wilson_cowan_equilibria(u):
    """Put the E nullcline, `I(E)`, into the I equation, and bisect wherever that changes sign."""

    def inhibition(E):
        return (EE * E + u[0] - 4 - np.log(E / (1 - E))) / EI

    def mismatch(E):
        drive = IE * E - II * inhibition(E) + u[1] - 4
        return 1 / (1 + np.exp(-drive)) - inhibition(E)

    grid = np.linspace(1e-6, 1 - 1e-6, 20001)
    values = mismatch(grid)
    roots = []
    for low, high, sign in zip(grid[:-1], grid[1:], np.sign(values[:-1]), strict=True):
        if sign * mismatch(high) >= 0:
            continue
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if sign * mismatch(middle) > 0 else (low, middle)
        roots.append((low, inhibition(low)))
    return np.array(roots)


@pytest.mark.slow
def test_equilibria_of_wilson_and_cowans_equations():
    u = np.array([1.0, 0.0])
    fps = search(flow(0), uniform(100, 2, 0, 1), u)
    expected = wilson_cowan_equilibria(u)
    assert len(expected) == 3
    np.testing.assert_allclose(fps.xstar, expected, atol=ATOL)
    of_points = (fps.xstar, fps.J_xstar, fps.eigval_J_xstar, fps.is_stable, fps.time_constants())
    for x, J, values, stable, tau in zip(*of_points, strict=True):
        slope = (x * (1 - x))[:, None]  # of the logistic function, by its value
        weights = np.array([[EE, -EI], [IE, -II]])
        exact = (slope * weights - np.eye(2)) / TAU[:, None]
        np.testing.assert_allclose(J, exact, atol=ATOL)
        real = np.sort(np.linalg.eigvals(exact).real)[::-1]
        np.testing.assert_allclose(values.real, real, atol=ATOL)
        assert stable == (real < 0).all()
        np.testing.assert_allclose(tau, -1 / real, rtol=1e-5)  # in ms
    assert fps.continuous_time
    assert fps.types() == ["attractor, spiral", "saddle of index 1", "repeller, spiral"]


# ---- FitzHugh & Nagumo -------------------------------------------------------------------------


def fitzhugh_nagumo(p, x, u):
    """`v' = v - v^3 / 3 - w + u`, `w' = e (v + a - b w)`."""
    a, b, e = p
    v, w = x
    return jnp.stack([v - v**3 / 3 - w + u[0], e * (v + a - b * w)])


class FitzHughNagumo(eqx.Module):
    p: jax.Array

    def __call__(self, x, u):
        return fitzhugh_nagumo(self.p, x, u)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b", "u", "n_expected"),
    [(0.7, 0.8, 0.0, 1), (0.7, 0.8, 0.5, 1), (0.2, 2.0, 0.1, 3)],
    ids=["resting", "spiking", "bistable"],
)
def test_equilibria_of_fitzhugh_and_nagumos_equations(a, b, u, n_expected):
    e = 0.08
    roots = np.roots([1 / 3, 0, 1 / b - 1, a / b - u])
    v = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
    assert len(v) == n_expected
    fps = search(flow(1, a, b, e), uniform(100, 2, -2, 2), [u, 0])
    np.testing.assert_allclose(fps.xstar, np.stack([v, (v + a) / b], axis=1), atol=ATOL)
    trace, determinant = 1 - v**2 - e * b, e * (1 - b * (1 - v**2))
    root = np.sqrt((trace**2 / 4 - determinant).astype(complex))
    leading = trace / 2 + root
    np.testing.assert_allclose(fps.eigval_J_xstar[:, 0].real, leading.real, atol=ATOL)
    np.testing.assert_array_equal(fps.is_stable, (trace < 0) & (determinant > 0))
    np.testing.assert_allclose(fps.time_constants()[:, 0], -1 / leading.real, rtol=1e-5)
    frequency = np.abs(leading.imag) / (2 * np.pi)
    np.testing.assert_allclose(np.abs(fps.frequencies()[:, 0]), frequency, atol=ATOL)


@pytest.mark.slow
def test_types_of_fitzhugh_and_nagumos_equilibria():
    """At rest a stable spiral; with a current, one that is unstable: spikes."""
    f, starts = flow(1, 0.7, 0.8, 0.08), uniform(100, 2, -2, 2)
    assert search(f, starts, [0.0, 0]).types() == ["attractor, spiral"]
    assert search(f, starts, [0.5, 0]).types() == ["repeller, spiral"]


@pytest.mark.slow
def test_equilibria_are_differentiable_in_parameters_and_inputs():
    """Of `v - v^3 / 3 - (v + a) / b + u = 0`, `dv/du = 1 / (v^2 - 1 + 1 / b) = -b dv/da`."""
    with jax.enable_x64(True):

        def v(p, u):
            start = jnp.array([[-1.0, -0.5]])
            F = ContinuousTime(FitzHughNagumo(p))
            return slowpoints.optimize_batch(F, start, u).xstar[0, 0]

        p, u = jnp.array([0.7, 0.8, 0.08]), jnp.zeros(2)
        at = float(v(p, u))
        exact = 1 / (at**2 - 1 + 1 / 0.8)
        in_p, in_u = jax.grad(v, argnums=(0, 1))(p, u)
        assert float(in_u[0]) == pytest.approx(exact, rel=1e-6)
        assert float(in_p[0]) == pytest.approx(-exact / 0.8, rel=1e-6)
        assert float(in_p[2]) == pytest.approx(0, abs=1e-6)  # a matter of speed only


# ---- Hopfield (1984) ---------------------------------------------------------------------------

N, BETA = 8, 1.5
PATTERNS = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, -1, -1, 1, 1, -1, -1]])
WEIGHTS = BETA / N * PATTERNS.T @ PATTERNS


def hopfield(x, u):
    return -x + jnp.asarray(WEIGHTS, x.dtype) @ jnp.tanh(x)


def hopfield_equilibria():
    """For orthogonal patterns, units of each half obey `s = beta tanh(s)` on their own."""
    m = 1.0
    for _ in range(500):
        m = BETA * np.tanh(m)
    sums, differences = np.meshgrid([-m, 0, m], [-m, 0, m])
    a = np.stack([(sums + differences).ravel(), (sums - differences).ravel()], axis=1) / 2
    return a @ PATTERNS


def energy_curvature(x):
    """Return the least eigenvalue of the Hessian of the energy in `g = tanh(x)`.

    The energy is `-g W g / 2 + sum of the integral of atanh`, and `dx/dt = -dE/dg`.
    """
    g = np.tanh(x)
    return np.linalg.eigvalsh(-WEIGHTS + np.diag(1 / (1 - g**2))).min()


@pytest.mark.slow
def test_stable_points_of_hopfields_equations_are_the_minima_of_the_energy():
    fps = search(hopfield, uniform(400, N, -2, 2))
    expected = hopfield_equilibria()
    expected = expected[np.lexsort(expected.T[::-1].round(6))]
    assert fps.n == len(expected) == 9
    np.testing.assert_allclose(fps.xstar, expected, atol=ATOL)
    minima = np.array([energy_curvature(x) > 0 for x in fps.xstar])
    assert fps.is_stable.tolist() == minima.tolist() and minima.sum() == 4
    assert sorted(fps.n_unstable().tolist()) == [0] * 4 + [1] * 4 + [2]
    m = np.abs(expected).max()
    rate = BETA * (1 - np.tanh(m) ** 2) - 1  # of both patterns' amplitudes, at a pattern
    np.testing.assert_allclose(fps.eigval_J_xstar[minima][:, :2], rate, atol=ATOL)
    np.testing.assert_allclose(fps.eigval_J_xstar[minima][:, 2:], -1, atol=ATOL)


@pytest.mark.slow
def test_the_finder_takes_networks_in_continuous_time():
    finder = FixedPointFinder(ContinuousTime(hopfield), dtype="float64", verbose=False, mesh=None)
    traj = uniform(400, N, -2, 2)[None].astype(np.float32)
    fps, all_fps = finder.find_fixed_points(traj, np.zeros((1, 0)), n_inits=400)
    assert fps.n == 9 and fps.is_stable.sum() == 4
    assert fps.continuous_time and all_fps.continuous_time


# ---- what is minimised -------------------------------------------------------------------------


def test_the_speed_is_that_of_the_flow():
    x, u = uniform(5, N, -1, 1).astype(np.float32), np.zeros(0, np.float32)
    q = slowpoints.q_fn(ContinuousTime(hopfield), x, u)
    rate = -x + np.tanh(x) @ WEIGHTS
    np.testing.assert_allclose(q, 0.5 * np.sum(rate**2, axis=1), rtol=1e-4)


def ghost(p, x, u):
    return jnp.stack([p[0] + x[0] ** 2, -x[1]])


@pytest.mark.slow
def test_a_ghost_is_a_slow_point():
    """`dx/dt = 0.01 + x^2` passes 0 with the speed 0.01 and never stops."""
    starts = uniform(100, 2, -1, 1)
    fps = search(flow(2, 0.01), starts, np.zeros(2), final_q_threshold=1e-4)
    assert fps.n == 1
    np.testing.assert_allclose(fps.xstar, [[0, 0]], atol=1e-4)
    np.testing.assert_allclose(fps.qstar, 0.5e-4, rtol=1e-6)


# ---- linearisation -----------------------------------------------------------------------------


def test_jacobians_are_those_of_the_flow():
    A, B = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    fps = FixedPoints(xstar=np.zeros((2, 3)), inputs=np.zeros((2, 3)))
    done = decompose(jacobians(ContinuousTime(Affine(A, B)), fps))
    np.testing.assert_allclose(done.J_xstar, [A, A])
    np.testing.assert_allclose(done.dFdu, [B, B])
    assert done.continuous_time
    back = jacobians(Affine(A, B), done)
    assert not back.continuous_time and back.J_xstar.shape == (2, 3, 3)


def test_eigenvalues_are_sorted_by_their_real_parts():
    J = np.diag([-3.0, 0.5, -0.1])
    fps = decompose(FixedPoints(xstar=np.zeros((1, 3)), J_xstar=J[None], continuous_time=True))
    np.testing.assert_allclose(fps.eigval_J_xstar, [[0.5, -0.1, -3]])
    np.testing.assert_allclose(np.abs(fps.eigvec_J_xstar[0]), np.eye(3)[:, [1, 2, 0]])
    assert np.asarray(fps.is_stable).tolist() == [False]


@pytest.mark.parametrize(
    ("values", "stable"),
    [([-3.0, -0.1], True), ([0.5, -3.0], False), ([0.0, -1.0], False), ([np.nan, -1.0], False)],
)
def test_stable_is_a_largest_real_part_below_zero(values, stable):
    fps = FixedPoints(xstar=np.zeros((1, 2)), J_xstar=np.diag(values)[None], continuous_time=True)
    assert np.asarray(decompose(fps).is_stable).tolist() == [stable]


def random_flows(size, n=3):
    """Return Jacobians of random networks, whose fastest modes are not their leading ones."""
    rng = np.random.default_rng(2)
    J = 0.7 * rng.normal(size=(n, size, size)) / np.sqrt(size) - np.eye(size)
    J[:, 0] *= 5  # a fast unit: the eigenvalue of largest magnitude is far on the left
    return J


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("size", "k", "from_products"), [(6, 3, False), (80, 4, False), (80, 4, True)]
)
def test_leading_eigenvalues_are_those_of_largest_real_part(size, k, from_products):
    J = random_flows(size)
    exact = np.linalg.eigvals(J)
    exact = np.take_along_axis(exact, np.argsort(-exact.real, axis=1), axis=1)
    assert (np.abs(exact[:, 0]) < np.abs(exact).max(axis=1)).all()
    with jax.enable_x64(True):
        if from_products:
            F = ContinuousTime(lambda x, u: jnp.asarray(J)[u[0].astype(int)] @ x)
            inputs = np.arange(3.0)[:, None]
            fps = decompose(FixedPoints(xstar=np.zeros((3, size)), inputs=inputs), k=k, F=F)
            assert fps.continuous_time
        else:
            fps = FixedPoints(xstar=np.zeros((3, size)), J_xstar=J, continuous_time=True)
            fps = decompose(fps, k=k)
        found, vectors = np.asarray(fps.eigval_J_xstar), np.asarray(fps.eigvec_J_xstar)
    np.testing.assert_allclose(found.real, exact[:, :k].real, atol=1e-10)
    np.testing.assert_allclose(np.abs(found.imag), np.abs(exact[:, :k].imag), atol=1e-10)
    np.testing.assert_allclose(J @ vectors, found[:, None] * vectors, atol=1e-10)
    assert np.asarray(fps.is_stable).tolist() == (exact[:, 0].real < 0).tolist()


@pytest.mark.slow
def test_the_leading_eigenvalue_of_a_flow_has_a_gradient():
    """That of `[[p, 1], [-4, p]]` is `p + 2i`."""

    def leading(p):
        J = jnp.array([[[p, 1.0], [-4.0, p]]])
        fps = FixedPoints(xstar=jnp.zeros((1, 2)), J_xstar=J, continuous_time=True)
        return decompose(fps).eigval_J_xstar[0, 0].real

    assert float(jax.grad(leading)(-0.5)) == pytest.approx(1, abs=1e-5)


# ---- models ------------------------------------------------------------------------------------


def test_the_parameters_are_leaves_and_a_function_has_none():
    assert len(jax.tree.leaves(ContinuousTime(flow(0)))) == 2
    assert jax.tree.leaves(ContinuousTime(hopfield)) == []


@pytest.mark.slow
def test_states_keep_the_models_own_form():
    state = {"v": np.zeros(2, np.float32), "w": np.zeros(3, np.float32)}
    f = slowpoints.as_transition(lambda s, u: jax.tree.map(lambda a: 1 - a, s), example_state=state)
    F = ContinuousTime(f)
    assert F.n_states == 5
    fps = slowpoints.optimize_batch(F, jnp.zeros((2, 5)), jnp.zeros(0))
    assert F.unflatten(fps.xstar)["w"].shape == (2, 3)
    np.testing.assert_allclose(F.flatten(F.unflatten(fps.xstar)), np.ones((2, 5)))


@pytest.mark.checks_input
@pytest.mark.parametrize("bad", [lambda x, u: x.sum(), lambda x, u: x[:1], lambda x, u: (x, x)])
def test_a_rate_of_another_shape_is_refused(bad):
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        slowpoints.optimize_batch(ContinuousTime(bad), jnp.zeros((2, 3)), jnp.zeros(1))


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="expected"):
        ContinuousTime(3)
    with pytest.raises(TypeError, match="already"):
        ContinuousTime(ContinuousTime(hopfield))
