"""`jacobians` and `decompose` against closed forms, finite differences and the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import CELLS, TanhNet, case, in_float64, trained

from slowpoints import FixedPoints, decompose, jacobians

N_ROWS = 5


def some_points(cell, dtype=np.float64):
    rng = np.random.default_rng(0)
    states = case(cell)["traj"].reshape(-1, case(cell)["traj"].shape[-1])
    x = states[rng.choice(len(states), N_ROWS)].astype(dtype)
    return FixedPoints(xstar=x, inputs=rng.normal(size=(N_ROWS, 3)).astype(dtype))


def central_differences(f, x, step=1e-6):
    """Return the Jacobian of `f` at `x`, one column per element of `x`."""
    moves = step * np.eye(len(x))
    return np.stack([(f(x + move) - f(x - move)) / (2 * step) for move in moves], axis=1)


def with_jacobians(J):
    return FixedPoints(xstar=np.zeros(np.shape(J)[:2]), J_xstar=np.asarray(J))


def random_matrices(n=6, size=7, dtype=np.float64):
    return np.random.default_rng(1).normal(size=(n, size, size)).astype(dtype)


# ---- Jacobians ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_inputs", [0, 2])
def test_more_points_than_are_linearised_at_a_time(monkeypatch, n_inputs):
    """A network without inputs has arrays without elements."""
    monkeypatch.setattr("slowpoints._points.jacobians._MOST_ENTRIES", 2 * 3**2)
    W = jnp.asarray(random_matrices(1, 3, np.float32)[0])
    fps = FixedPoints(xstar=np.zeros((5, 3)), inputs=np.zeros((5, n_inputs)))
    fps = jacobians(lambda x, u: W @ x + jnp.sum(u), fps)
    np.testing.assert_allclose(fps.J_xstar, np.broadcast_to(W, (5, 3, 3)), rtol=1e-6)
    np.testing.assert_array_equal(fps.dFdu, np.ones((5, 3, n_inputs)))


def test_the_jacobians_of_a_tanh_net_are_the_closed_form():
    """`diag(1 - h^2) W^T`, for the state and for the input."""
    fps = some_points("tanh", np.float32)
    done = jacobians(trained("tanh"), fps)
    Wi, Wh, b = (case("tanh")[name][0].astype(float) for name in ("Wi", "Wh", "b"))
    slope = 1 - np.tanh(fps.inputs @ Wi + fps.xstar @ Wh + b) ** 2
    np.testing.assert_allclose(done.J_xstar, slope[:, :, None] * Wh.T, atol=2e-6)
    np.testing.assert_allclose(done.dFdu, slope[:, :, None] * Wi.T, atol=2e-6)


@pytest.mark.slow_cases
@pytest.mark.parametrize("cell", CELLS)
def test_jacobians_are_the_limit_of_differences(cell):
    fps = some_points(cell)
    with jax.enable_x64(True):
        F = in_float64(trained(cell))
        done = jacobians(F, fps)
        step = jax.jit(F.__call__)
        for row, (x, u) in enumerate(zip(fps.xstar, fps.inputs, strict=True)):
            dFdx = central_differences(lambda x, u=u: np.asarray(step(x, u)), x)
            dFdu = central_differences(lambda u, x=x: np.asarray(step(x, u)), u)
            np.testing.assert_allclose(done.J_xstar[row], dFdx, atol=1e-8)
            np.testing.assert_allclose(done.dFdu[row], dFdu, atol=1e-8)


def test_jacobians_fill_two_fields_and_leave_the_rest():
    fps = some_points("tanh", np.float32).replace(cond_id=np.arange(N_ROWS), tol_unique=0.5)
    done = jacobians(trained("tanh"), fps)
    assert done.J_xstar.shape == (N_ROWS, 16, 16) and done.dFdu.shape == (N_ROWS, 16, 3)
    np.testing.assert_array_equal(done.xstar, fps.xstar)
    np.testing.assert_array_equal(done.cond_id, fps.cond_id)
    assert done.tol_unique == 0.5
    assert fps.J_xstar is None and fps.dFdu is None


def test_jacobians_without_inputs():
    fps = FixedPoints(xstar=np.ones((N_ROWS, 2)), inputs=np.zeros((N_ROWS, 0)))
    done = jacobians(lambda x, u: x**2, fps)
    np.testing.assert_allclose(done.J_xstar, np.tile(2 * np.eye(2), (N_ROWS, 1, 1)))
    assert done.dFdu.shape == (N_ROWS, 2, 0)


def test_jacobians_of_no_rows():
    fps = FixedPoints(xstar=np.zeros((0, 16)), inputs=np.zeros((0, 3)))
    done = decompose(jacobians(trained("tanh"), fps))
    assert done.J_xstar.shape == (0, 16, 16) and done.dFdu.shape == (0, 16, 3)
    assert done.eigval_J_xstar.shape == (0, 16) and done.is_stable.shape == (0,)


def test_jacobians_need_points_and_inputs():
    with pytest.raises(ValueError, match="inputs"):
        jacobians(trained("tanh"), FixedPoints(xstar=np.zeros((2, 16))))
    with pytest.raises(ValueError, match="xstar"):
        jacobians(trained("tanh"), FixedPoints(inputs=np.zeros((2, 3))))


# ---- eigenvalues -------------------------------------------------------------------------------


def test_eigenvalues_fall_in_magnitude():
    magnitude = np.abs(decompose(with_jacobians(random_matrices())).eigval_J_xstar)
    assert (np.diff(magnitude, axis=1) <= 1e-6).all()


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_eigenvectors_stand_in_columns_in_the_order_of_the_eigenvalues(dtype, atol):
    J = random_matrices(dtype=dtype)
    with jax.enable_x64(dtype == np.float64):
        fps = decompose(with_jacobians(J))
        values, vectors = np.asarray(fps.eigval_J_xstar), np.asarray(fps.eigvec_J_xstar)
    np.testing.assert_allclose(J @ vectors, values[:, None, :] * vectors, atol=atol)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_eigenvalues_are_numpys():
    J = random_matrices()
    values = np.asarray(decompose(with_jacobians(J)).eigval_J_xstar)
    np.testing.assert_allclose(
        np.sort_complex(values.round(3)), np.sort_complex(np.linalg.eigvals(J).round(3)), atol=2e-3
    )


@pytest.mark.parametrize(
    ("J", "stable"),
    [
        ([[0.5, 0.0], [0.0, -0.9]], True),
        ([[0.5, 9.0], [0.0, -0.9]], True),  # stable, though not a contraction
        ([[0.5, 0.0], [0.0, -1.1]], False),
        ([[0.0, -0.9], [0.9, 0.0]], True),  # a rotation that shrinks
        ([[0.0, -1.1], [1.1, 0.0]], False),
        ([[1.0, 0.0], [0.0, 0.5]], False),  # a line attractor is not stable
    ],
)
def test_a_point_is_stable_if_all_eigenvalues_are_inside_the_unit_circle(J, stable):
    fps = decompose(with_jacobians([J]))
    assert np.asarray(fps.is_stable).tolist() == [stable]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_jacobian_that_is_not_finite_gives_nan_and_counts_as_unstable(bad):
    J = 0.1 * random_matrices()
    clean = decompose(with_jacobians(J))
    J[2, 3, 1] = bad
    fps = decompose(with_jacobians(J))
    others = np.arange(len(J)) != 2
    assert np.isnan(fps.eigval_J_xstar[2]).all() and np.isnan(fps.eigvec_J_xstar[2]).all()
    assert np.asarray(fps.is_stable).tolist() == others.tolist()
    np.testing.assert_array_equal(fps.eigval_J_xstar[others], clean.eigval_J_xstar[others])


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 2])
def test_double_precision_of_numpy_is_kept(k):
    """In float32, an unstable direction that grows by 1e-8 in each step would be a neutral one."""
    J = np.diag([1 + 1e-8, 0.5, 0.2])
    fps = decompose(FixedPoints(xstar=np.zeros((1, 3)), J_xstar=J[None], dtype=np.float64), k=k)
    np.testing.assert_allclose(fps.eigval_J_xstar[0, 0], 1 + 1e-8, rtol=1e-14)
    assert fps.n_unstable().tolist() == [1]


def test_decompose_needs_jacobians():
    with pytest.raises(ValueError, match="J_xstar"):
        decompose(FixedPoints(xstar=np.zeros((2, 2))))


# ---- composition -------------------------------------------------------------------------------


@pytest.mark.slow
def test_jacobians_have_a_gradient_in_the_weights():
    """Against central differences in float64."""
    with jax.enable_x64(True):
        F, fps = in_float64(trained("tanh")), some_points("tanh")

        def size(Wh):
            return jnp.sum(jacobians(TanhNet(F.Wi, Wh, F.b), fps).J_xstar ** 2)

        direction = jnp.cos(jnp.arange(F.Wh.size, dtype=float)).reshape(F.Wh.shape)
        slope = (size(F.Wh + 1e-6 * direction) - size(F.Wh - 1e-6 * direction)) / 2e-6
        gradient = jax.grad(size)(F.Wh)
        assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.slow
def test_the_spectral_radius_has_a_gradient_in_the_weights():
    """Against central differences in float64."""
    with jax.enable_x64(True):
        F, fps = in_float64(trained("tanh")), some_points("tanh")

        def largest(Wh):
            done = decompose(jacobians(TanhNet(F.Wi, Wh, F.b), fps))
            return jnp.sum(jnp.abs(done.eigval_J_xstar[:, 0]))

        direction = jnp.cos(jnp.arange(F.Wh.size, dtype=float)).reshape(F.Wh.shape)
        slope = (largest(F.Wh + 1e-6 * direction) - largest(F.Wh - 1e-6 * direction)) / 2e-6
        gradient = jax.grad(largest)(F.Wh)
        assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(slope), rel=1e-5)


def test_a_slow_stable_point_at_the_origin_is_stable():
    """How close a row came to the origin says nothing about how large states are."""
    fps = FixedPoints(
        xstar=np.full((1, 2), 1e-12),
        x_init=np.ones((1, 2)),
        qstar=np.array([1e-34]),
        J_xstar=(1 - 2e-6) * np.eye(2)[None],
        dtype=np.float64,
    )
    with jax.enable_x64(True):
        assert decompose(fps).is_stable.all()
        fps.decompose_jacobians()
    assert fps.is_stable.all()
