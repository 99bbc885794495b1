"""`linear_modes`: modes and selection vectors, against matrices of which they are known."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import Affine, field_case, field_network, field_starts

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    KrylovTrustRegion,
    jacobians,
    linear_modes,
    optimize_batch,
)

pytestmark = pytest.mark.fast


def points(*J, dFdu=None, **fields):
    J = np.array(J, float)
    if dFdu is not None:
        fields["dFdu"] = np.tile(np.asarray(dFdu, float), (len(J), 1, 1))
    return FixedPoints(xstar=np.zeros(J.shape[:2]), J_xstar=J, dtype=np.float64, **fields)


def unit_columns(V):
    return V / np.linalg.norm(V, axis=0)


def turning(size, cycles):
    angle = 2 * np.pi * cycles
    return size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def block_diag(*blocks):
    return np.asarray(jax.scipy.linalg.block_diag(*(np.asarray(b, np.float32) for b in blocks)))


def mixed(seed, n=6):
    return unit_columns(np.random.default_rng(seed).normal(size=(n, n)))


# ---- left and right eigenvectors ---------------------------------------------------------------


def test_selection_vectors_are_those_of_a_matrix_made_of_known_modes():
    V, values = mixed(0), np.array([0.3, 1.3, -0.8, 0.99, -0.1, 0.5])
    J = V @ np.diag(values) @ np.linalg.inv(V)
    modes = linear_modes(points(J))
    slowest_first = [3, 2, 1, 5, 0, 4]
    np.testing.assert_allclose(modes.eigenvalues[0], values[slowest_first], atol=1e-12)
    V = V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(6)])
    np.testing.assert_allclose(modes.right[0], V[:, slowest_first], atol=1e-12)
    np.testing.assert_allclose(modes.left[0], np.linalg.inv(V)[slowest_first], atol=1e-10)
    assert modes.is_real.tolist() == [True]
    assert modes.direction.dtype == modes.selection.dtype == np.float64
    np.testing.assert_allclose(modes.direction[0], V[:, 3], atol=1e-12)
    np.testing.assert_allclose(modes.selection[0], np.linalg.inv(V)[3], atol=1e-10)
    assert np.isnan(modes.plane).all() and np.isnan(modes.selection_plane).all()


@pytest.mark.parametrize("flow", [False, True])
def test_vectors_of_random_matrices_are_scaled_as_documented(flow):
    J = np.random.default_rng(1).normal(size=(20, 7, 7)) / 2
    modes = linear_modes(points(*J, continuous_time=flow))
    eye = np.tile(np.eye(7), (20, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(modes.right, axis=1), 1)
    np.testing.assert_allclose(modes.left @ modes.right, eye, atol=1e-10)
    np.testing.assert_allclose(J @ modes.right, modes.eigenvalues[:, None] * modes.right, atol=1e-9)
    np.testing.assert_allclose(
        modes.left @ J, modes.eigenvalues[:, :, None] * modes.left, atol=1e-9
    )
    size = np.abs(modes.time_constants)
    assert np.all(size[:, :-1] >= size[:, 1:])
    real = modes.eigenvalues.imag == 0
    for vectors in (np.swapaxes(modes.right, 1, 2), modes.left):
        assert np.all(vectors[real].imag == 0)
    # Of a pair, the second is the conjugate of the first.
    first = np.argwhere(modes.eigenvalues.imag > 0)
    assert len(first) > 20 and 5 < modes.is_real.sum() < 15
    for row, k in first:
        np.testing.assert_allclose(modes.right[row, :, k + 1], modes.right[row, :, k].conj())
        real, imaginary = modes.right[row, :, k].real, modes.right[row, :, k].imag
        assert abs(real @ imaginary) < 1e-12
        assert np.linalg.norm(real) >= np.linalg.norm(imaginary)
        assert real[np.abs(real).argmax()] > 0


def test_toward_chooses_the_side_and_the_largest_entry_does_otherwise():
    V = unit_columns(np.array([[0.6, 1.0], [-0.8, 1.0]]))
    for x in (V, -V):
        J = x @ np.diag([0.9, 0.1]) @ np.linalg.inv(x)
        np.testing.assert_allclose(linear_modes(points(J)).direction, [[-0.6, 0.8]])
        modes = linear_modes(points(J), toward=np.array([1.0, 0.0]))
        np.testing.assert_allclose(modes.direction, [[0.6, -0.8]])
        np.testing.assert_allclose(modes.selection @ modes.direction.T, 1)


def test_neighbours_do_not_flip_if_they_are_told_where_to_point():
    """Two entries of the direction are equal in size at 45 degrees, where the largest changes."""
    angles = np.radians([-46, -45.5, -44.5, -44])
    r = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    J = 0.99 * r[:, :, None] * r[:, None, :]
    flips = linear_modes(points(*J)).direction
    assert np.sum(np.einsum("nd,nd->n", flips[1:], flips[:-1]) < 0) == 1
    steady = linear_modes(points(*J), toward=np.array([1.0, -1.0])).direction
    np.testing.assert_allclose(steady, r, atol=1e-12)


# ---- lines and planes --------------------------------------------------------------------------


def rank_one(m, n):
    """Return the exact line attractor along `m` that integrates what `n` reads."""
    return np.outer(m, n) / (m @ n)


def test_an_exact_line_attractor_integrates_what_its_selection_vector_reads():
    rng = np.random.default_rng(2)
    m, n = rng.normal(size=(2, 8))
    n = n + m
    across = rng.normal(size=8)
    across -= n * (across @ n) / (n @ n)
    B = np.stack([n, across, m, -n], axis=1)
    F = Affine(jnp.asarray(rank_one(m, n), jnp.float32), jnp.asarray(B, jnp.float32))
    fps = FixedPoints(xstar=np.zeros((1, 8), np.float32), inputs=np.zeros((1, 4), np.float32))
    modes = linear_modes(fps, F, readout=m[:, None], toward=m)
    assert abs(modes.time_constants[0, 0]) > 1e6
    assert np.all(np.abs(modes.time_constants[0, 1:]) < 0.1)
    np.testing.assert_allclose(modes.direction[0], m / np.linalg.norm(m), atol=1e-6)
    np.testing.assert_allclose(modes.selection[0], n * np.linalg.norm(m) / (m @ n), rtol=1e-4)
    to_m = np.degrees(np.arccos(n @ m / np.linalg.norm(n) / np.linalg.norm(m)))
    # Where the arc cosine is steep, rounding in float32 is 0.05 degrees.
    np.testing.assert_allclose(modes.input_angle, [[0, 90, to_m, 180]], atol=0.05)
    np.testing.assert_allclose(modes.readout_angle, [[0]], atol=0.05)
    np.testing.assert_allclose(modes.readout_overlap[0, 0, 0], np.linalg.norm(m), rtol=1e-5)
    # The network itself: a pulse leaves the state where the product with the input says.
    for k in range(4):
        x = F(jnp.zeros(8), jnp.eye(4)[k])
        for _ in range(50):
            x = F(x, jnp.zeros(4))
        np.testing.assert_allclose(
            x, modes.direction[0] * modes.input_overlap[0, 0, k].real, atol=1e-4
        )


def test_a_rotation_has_a_plane_and_no_single_vector():
    modes = linear_modes(points(turning(np.exp(-1 / 30), 1 / 12)), dt=2.0)
    np.testing.assert_allclose(modes.time_constants, [[60, 60]])
    np.testing.assert_allclose(modes.frequencies, [[1 / 24, -1 / 24]])
    assert modes.is_real.tolist() == [False]
    assert np.isnan(modes.direction).all() and np.isnan(modes.selection).all()
    np.testing.assert_allclose(modes.selection_plane @ modes.plane, [np.eye(2)], atol=1e-12)
    np.testing.assert_allclose(modes.henrici, 0, atol=1e-7)
    np.testing.assert_allclose(modes.slow_dimension, 2)


def test_the_plane_of_a_pair_turns_and_its_selection_plane_reads_nothing_else():
    V = mixed(3, 5)
    J = V @ block_diag(turning(0.99, 0.07), [[0.5]], turning(0.6, 0.2)) @ np.linalg.inv(V)
    inside, outside = V[:, :2] @ [[0.3], [0.8]], V[:, 2:3]
    modes = linear_modes(points(J, dFdu=np.hstack([inside, outside, 0 * inside])), readout=inside)
    plane, read = modes.plane[0], modes.selection_plane[0]
    np.testing.assert_allclose(read @ plane, np.eye(2), atol=1e-10)
    np.testing.assert_allclose(read @ V[:, 2:], 0, atol=1e-6)
    np.testing.assert_allclose(J @ plane, plane @ (read @ J @ plane), atol=1e-6)
    value = np.linalg.eigvals(read @ J @ plane)
    np.testing.assert_allclose(np.abs(value), 0.99, rtol=1e-6)
    assert abs(plane[:, 0] @ plane[:, 1]) < 1e-12
    assert np.linalg.norm(plane[:, 0]) > np.linalg.norm(plane[:, 1])
    to_plane, none, nothing = modes.input_angle[0]
    basis = np.linalg.qr(read.T)[0]
    expected = np.linalg.norm(basis.T @ inside) / np.linalg.norm(inside)
    np.testing.assert_allclose(np.cos(np.radians(to_plane)), expected, rtol=1e-9)
    assert none == pytest.approx(90, abs=1e-4) and np.isnan(nothing)
    np.testing.assert_allclose(modes.readout_angle, 0, atol=1e-3)


# ---- times, non-normality, dimensions ----------------------------------------------------------


def test_dt_scales_times_and_rates_and_nothing_else():
    J = np.random.default_rng(4).normal(size=(3, 5, 5)) / 3
    for flow in (False, True):
        one, ten = (linear_modes(points(*J, continuous_time=flow), dt=dt) for dt in (1.0, 10.0))
        np.testing.assert_allclose(ten.time_constants, 10 * one.time_constants)
        np.testing.assert_allclose(ten.frequencies, one.frequencies / 10)
        np.testing.assert_allclose(ten.numerical_abscissa, one.numerical_abscissa / 10)
        np.testing.assert_allclose(ten.henrici, one.henrici / (10 if flow else 1))
        for name in ("right", "left", "eigenvalues", "n_slow", "slow_dimension"):
            np.testing.assert_array_equal(getattr(ten, name), getattr(one, name))


@pytest.mark.parametrize("a, b, c", [(0.9, 0.5, 3.0), (0.2, -0.4, 0.1), (0.9, 0.5, 0.0)])
def test_departure_from_normality_of_a_triangular_matrix_is_its_corner(a, b, c):
    J = np.array([[a, c], [0, b]])
    modes = linear_modes(points(J))
    np.testing.assert_allclose(modes.henrici, c, atol=1e-8)
    half, mean = np.hypot((a - b) / 2, c / 2), (a + b) / 2
    np.testing.assert_allclose(modes.numerical_abscissa, mean - 1 + half)
    flow = linear_modes(points(J, continuous_time=True))
    np.testing.assert_allclose(flow.numerical_abscissa, mean + half)
    np.testing.assert_allclose(flow.henrici, c, atol=1e-8)
    # The left eigenvector's norm is the eigenvalue's condition number.
    condition = np.hypot(1, c / (a - b))
    np.testing.assert_allclose(np.linalg.norm(modes.left, axis=2), condition, rtol=1e-10)


def test_dimensions_count_directions_and_not_modes_that_are_alike():
    orthogonal = np.diag([0.99, 0.98, 0.97, 0.2, 1.5, 1.4])
    V = np.eye(6)
    V[:, 1] = unit_columns(np.array([[1], [1e-3], [0], [0], [0], [0]]))[:, 0]
    alike = V @ orthogonal @ np.linalg.inv(V)
    modes = linear_modes(points(orthogonal, alike))
    assert modes.n_slow.tolist() == [3, 3] and modes.n_unstable.tolist() == [2, 2]
    # Two vectors of three are one: singular values 2, 1, 0, and 3^2 / (2^2 + 1).
    np.testing.assert_allclose(modes.slow_dimension, [3, 9 / 5], rtol=1e-5)
    np.testing.assert_allclose(modes.unstable_dimension, [2, 2])
    stricter = linear_modes(points(orthogonal), slow=60.0)
    assert stricter.n_slow.tolist() == [1]
    assert linear_modes(points(0.5 * np.eye(2))).slow_dimension.tolist() == [0]


def test_a_mode_is_slow_from_ten_steps_on():
    J = np.diag([np.exp(-1 / 10.01), np.exp(-1 / 9.99), -np.exp(1 / 10.01)])
    for dt in (1.0, 0.1, 25.0):
        assert linear_modes(points(J), dt=dt).n_slow.tolist() == [2]


# ---- matrices that have no full set of modes ---------------------------------------------------


def test_modes_beside_a_defective_one_keep_their_selection_vectors():
    V = mixed(5, 4)
    jordan = block_diag([[0.95]], [[0.5, 1.0], [0.0, 0.5]], [[0.1]])
    J = V @ jordan @ np.linalg.inv(V)
    fps = points(J)
    assert np.isnan(fps.decompose_jacobians().left_eigenvectors()).all()
    modes = linear_modes(fps)
    side = np.sign(V[:, 0] @ modes.direction[0])
    np.testing.assert_allclose(modes.selection[0], side * np.linalg.inv(V)[0], rtol=1e-5)
    assert np.isnan(modes.left[0, 1:3]).all() and np.isfinite(modes.left[0, [0, 3]]).all()


def test_several_modes_of_one_eigenvalue_are_biorthonormal():
    V = mixed(6, 5)
    J = V @ np.diag([1.0, 1.0, 1.0, 0.3, 0.3]) @ np.linalg.inv(V)
    modes = linear_modes(points(J, np.eye(5)))
    np.testing.assert_allclose(modes.left @ modes.right, np.tile(np.eye(5), (2, 1, 1)), atol=1e-7)


def test_a_jacobian_that_is_not_finite_gives_nan_and_leaves_the_others_alone():
    broken = np.full((2, 2), np.inf)
    modes = linear_modes(points(broken, np.diag([0.9, 0.5]), dFdu=np.eye(2)), readout=np.eye(2))
    alone = linear_modes(points(np.diag([0.9, 0.5]), dFdu=np.eye(2)), readout=np.eye(2))
    for name, value in vars(modes).items():
        np.testing.assert_array_equal(value[1:], getattr(alone, name))
        if value.dtype.kind in "fc":
            assert np.isnan(value[0]).all(), name
    assert (modes.n_slow[0], modes.n_unstable[0], modes.is_real[0]) == (-1, -1, False)
    assert str(modes).splitlines() == [
        "0: the Jacobian is not finite.",
        "1: the slowest mode lasts 9.491; angles to inputs: 0, 90; angles to readouts: 0, 90; "
        "0 slow, 0 unstable.",
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mode_that_rounding_does_not_tell_from_a_neutral_one_is_said_to_last_longer(dtype):
    """Trained integrators were said to last 33554.4 s, or inf."""
    eps = float(np.finfo(dtype).eps)
    J = np.array([np.diag([1 + eps, 0.5]), np.diag([1.0, 0.5]), np.diag([0.9, 0.5])], dtype)
    fps = FixedPoints(xstar=np.zeros((3, 2), dtype), J_xstar=J, dtype=dtype)
    modes = linear_modes(fps, dt=20)
    np.testing.assert_allclose(modes.longest, 20 / (100 * eps))
    lines = str(modes).splitlines()
    assert [f"lasts longer than {0.2 / eps:.2g};" in line for line in lines] == [True, True, False]
    flow = linear_modes(fps.replace(J_xstar=3 * (J - np.eye(2, dtype=dtype)), continuous_time=True))
    np.testing.assert_allclose(flow.longest[1], 1 / (100 * eps * 1.5))


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("toward", "hint"),
    [
        (np.ones(2), "a direction of the inputs moves the states along `fps.dFdu[0] @ toward`"),
        (np.ones(4), "a direction of the outputs is one of states as `readout @ toward`"),
        (np.ones((3, 4)), "the weights of the first output are `toward[:, 0]`"),
        (np.ones((4, 3)), "the weights of the first output are `toward[0]`"),
        (np.ones(7), "expected (3,), such as a column of the readout"),
    ],
)
def test_a_wrong_toward_is_told_what_it_could_be(toward, hint):
    fps = points(np.diag([0.9, 0.5, 0.1]), dFdu=np.ones((3, 2)), inputs=np.zeros((1, 2)))
    with pytest.raises(ValueError, match=re.escape(hint)):
        linear_modes(fps, toward=toward, readout=np.ones((3, 4)))


def test_no_points_have_no_modes():
    modes = linear_modes(points(np.eye(3), dFdu=np.ones((3, 2)))[:0], readout=np.ones((3, 1)))
    assert len(modes) == 0 and modes.input_angle.shape == (0, 2) and str(modes) == "No points."


def test_points_in_float32_are_decomposed_in_float64():
    J = points(mixed(7)).J_xstar
    narrow = jax.tree.map(jnp.asarray, points(*J).replace(dtype=np.float32))
    assert narrow.J_xstar.dtype == jnp.float32
    modes = linear_modes(narrow)
    assert modes.left.dtype == np.complex128
    np.testing.assert_allclose(modes.left @ modes.right, [np.eye(6)], atol=1e-11)


def test_a_flow_is_linearised_from_the_network():
    A = np.array([[-0.1, 1.0], [-1.0, -0.1]], np.float32)
    F = ContinuousTime(Affine(jnp.asarray(A), jnp.eye(2)))
    fps = FixedPoints(xstar=np.zeros((1, 2), np.float32), inputs=np.zeros((1, 2), np.float32))
    modes = linear_modes(fps, F)
    np.testing.assert_allclose(modes.time_constants, [[10, 10]], rtol=1e-6)
    np.testing.assert_allclose(np.abs(modes.frequencies), 1 / (2 * np.pi), rtol=1e-6)


# ---- a trained network -------------------------------------------------------------------------


@pytest.mark.slow
def test_selection_vectors_of_a_context_network_read_the_input_that_counts():
    """Mante et al. 2013, fig. 6: the irrelevant input has no component along the selection."""
    name = "context_leaky_128_s11"
    F, inputs = field_network(name), field_case(name)["inputs"]
    for context in range(2):
        solver = KrylovTrustRegion(polish=False)
        u = inputs[context]
        fps = optimize_batch(F, field_starts(name, 64), u, tol_q=1e-5, solver=solver)
        modes = linear_modes(jacobians(F, fps))
        assert modes.is_real.all() and np.median(np.abs(modes.time_constants[:, 0])) > 100
        off = np.abs(modes.input_angle - 90)
        assert np.median(off[:, context]) > 20
        assert np.median(off[:, 1 - context]) < 2


def test_traced_points_are_refused():
    fps = jax.tree.map(jnp.asarray, points(np.eye(2)).replace(dtype=np.float32))
    with pytest.raises(TypeError, match=r"linear_modes: `fps` is traced; expected"):
        jax.jit(lambda fps: linear_modes(fps).henrici)(fps)


@pytest.mark.checks_input
def test_points_without_states_are_refused():
    with pytest.raises(ValueError, match=r"`fps.J_xstar` has shape \(2, 0, 0\); expected at least"):
        linear_modes(FixedPoints(J_xstar=np.zeros((2, 0, 0))))


def test_instability_that_may_be_rounding_is_not_counted():
    """A chain of units that drive one another is stable, but some eigenvalues seem to exceed 1."""
    n = 64
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    chain = np.diag(np.linspace(-0.9, 0.9, n)) + 3 * np.triu(np.ones((n, n)), 1)
    J = np.stack([Q @ chain @ Q.T, 0.1 * np.eye(n), Q @ (0.4 * np.eye(n)) @ Q.T])
    modes = linear_modes(points(*J))
    assert np.abs(modes.eigenvalues[0]).max() > 1
    assert modes.n_unstable.tolist() == [-1, 0, 0]


def test_defective_modes_that_are_far_from_the_edge_are_counted():
    J = np.array([[[0.5, 1.0], [0.0, 0.5]], [[1.5, 1.0], [0.0, 1.5]], [[1.0, 1.0], [0.0, 1.0]]])
    modes = linear_modes(points(*J))
    assert np.isnan(modes.left).any(axis=(1, 2)).all()
    assert modes.n_unstable.tolist() == [0, 2, -1]
