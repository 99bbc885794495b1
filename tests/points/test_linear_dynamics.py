"""What `FixedPoints` says of its eigenvalues, against the linear dynamics themselves."""

import sys
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import FixedPoints, Status, decompose
from slowpoints._linear_algebra.linear_dynamics import LINE_TOL

pytestmark = pytest.mark.fast


def turning(size, cycles):
    """Return the map that shrinks by `size` and turns by `cycles` in a step, or a flow's rates."""
    angle = 2 * np.pi * cycles
    return size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def spiral_flow(rate, cycles):
    return np.array([[rate, -2 * np.pi * cycles], [2 * np.pi * cycles, rate]])


def points(J, **fields):
    """Return points with these Jacobians, NumPy-backed and decomposed in float64."""
    J = np.asarray(J, np.float64)
    fps = FixedPoints(xstar=np.zeros(J.shape[:2]), J_xstar=J, dtype=np.float64, **fields)
    return fps.decompose_jacobians()


def with_eigenvalues(*rows, n_states=None, **fields):
    """Return points with these eigenvalues, all of them or leading ones."""
    values = np.array(rows, complex)
    n_states = values.shape[1] if n_states is None else n_states
    return FixedPoints(xstar=np.zeros((len(rows), n_states)), eigval_J_xstar=values, **fields)


def random_matrices(n=5, size=6):
    return np.random.default_rng(0).normal(size=(n, size, size))


def matrix_exponential(A, n_terms=60):
    term = total = np.eye(len(A))
    for k in range(1, n_terms):
        term = term @ A / k
        total = total + term
    return total


# ---- time constants and frequencies ------------------------------------------------------------


def test_in_a_time_constant_a_map_shrinks_deviations_by_e():
    J = turning(np.exp(-1 / 7), 0.1)
    tau = points([J]).time_constants()
    np.testing.assert_allclose(tau, [[7, 7]], rtol=1e-12)
    shrunk = np.linalg.matrix_power(J, 7) @ [1, 0]
    assert np.linalg.norm(shrunk) == pytest.approx(1 / np.e)


def test_in_a_period_a_map_turns_deviations_around_once():
    J = turning(0.9, 1 / 12)
    np.testing.assert_allclose(np.sort(points([J]).frequencies()), [[-1 / 12, 1 / 12]], rtol=1e-12)
    back = np.linalg.matrix_power(J, 12) @ [1, 0]
    np.testing.assert_allclose(back, [0.9**12, 0], atol=1e-12)


def test_in_a_time_constant_a_flow_shrinks_deviations_by_e():
    J = spiral_flow(-0.25, 0.5)
    fps = with_eigenvalues([-0.25 + np.pi * 1j, -0.25 - np.pi * 1j], continuous_time=True)
    np.testing.assert_allclose(fps.time_constants(), [[4, 4]])
    np.testing.assert_allclose(fps.frequencies(), [[0.5, -0.5]])
    moved = matrix_exponential(4 * J) @ [1, 0]  # two cycles later
    np.testing.assert_allclose(moved, [1 / np.e, 0], atol=1e-9)


def test_growth_is_a_negative_time_constant_and_no_change_an_infinite_one():
    fps = with_eigenvalues([2, 1, 0.5, 0, -0.5])
    np.testing.assert_allclose(
        fps.time_constants(), [[-1 / np.log(2), np.inf, 1 / np.log(2), 0, 1 / np.log(2)]]
    )
    fps = with_eigenvalues([2, 0, -0.5], continuous_time=True)
    np.testing.assert_allclose(fps.time_constants(), [[-0.5, np.inf, 2]])


@pytest.mark.parametrize("flow", [False, True])
def test_time_constants_are_in_the_unit_of_dt(flow):
    fps = with_eigenvalues([-0.9, 0.5], continuous_time=flow)
    np.testing.assert_allclose(fps.time_constants(dt=20), 20 * fps.time_constants())
    for dt in (0, -1):
        with pytest.raises(ValueError, match=rf"time_constants: `dt` is {dt}; .*number above 0"):
            fps.time_constants(dt)
    with pytest.raises(ValueError, match="`eigval_J_xstar` is None; call `decompose` first"):
        points([np.eye(2)]).replace(eigval_J_xstar=None).time_constants(dt=20)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rounding_of_a_flow_is_relative_to_its_fastest_rate(capsys, scale):
    eps = float(np.finfo(np.complex128).eps)
    rates = [[-90 * eps * scale, -scale], [-110 * eps * scale, -scale], [0.0, -scale]]
    lines = summary(capsys, with_eigenvalues(*rates, continuous_time=True))
    shown = [next(x for x in lines if x.startswith(f"  {k}")).split()[-2] for k in range(3)]
    bound = f">{float(f'{1 / (100 * eps * scale):.1g}'):g}"
    assert shown[0] == shown[2] == bound != shown[1]


def test_a_negative_eigenvalue_of_a_map_alternates():
    fps = with_eigenvalues([-0.9, complex(-0.8, -0.0), 0.7, 0])
    assert fps.frequencies().tolist() == [[0.5, 0.5, 0, 0]]


@pytest.mark.parametrize("continuous_time", [False, True])
def test_numbers_are_the_same_inside_jit(continuous_time):
    fps = with_eigenvalues([1.5, 0.5 + 0.25j, 0.5 - 0.25j, -0.1], continuous_time=continuous_time)

    def numbers(fps):
        return fps.time_constants(), fps.frequencies(), fps.n_unstable()

    for inside, outside in zip(jax.jit(numbers)(fps), numbers(fps), strict=True):
        assert isinstance(outside, np.ndarray)
        np.testing.assert_allclose(inside, outside, rtol=1e-6)


def test_numpy_keeps_its_precision():
    fps = points([np.diag([0.5, 1 - 1e-12])])
    assert fps.time_constants()[0, 0] == pytest.approx(1e12, rel=1e-3)


# ---- left eigenvectors -------------------------------------------------------------------------


@pytest.mark.parametrize("xp", [np, jnp])
def test_left_eigenvectors_are_biorthonormal_to_right_ones(xp):
    fps = jax.tree.map(xp.asarray, points(random_matrices()))
    W, V = fps.left_eigenvectors(), fps.eigvec_J_xstar
    atol = 1e-12 if xp is np else 1e-4
    np.testing.assert_allclose(W @ V, np.tile(np.eye(6), (5, 1, 1)), atol=atol)
    np.testing.assert_allclose(W @ fps.J_xstar, fps.eigval_J_xstar[:, :, None] * W, atol=atol)


@pytest.mark.parametrize("xp", [np, jnp])
def test_left_eigenvectors_do_not_depend_on_the_units_of_the_states(xp):
    """Which is what powers of two do not round; a defective Jacobian has none in any of them."""
    unit = 2.0 ** np.array([-20, 20, 0, 0, 20, -20])
    J = np.concatenate([random_matrices(), np.eye(6)[None] * 0.5 + np.eye(6, k=1)])
    x = np.ones((6, 6))
    usual = FixedPoints(xstar=x, F_xstar=x, J_xstar=J, dtype=np.float64)
    scaled = FixedPoints(
        xstar=unit * x, F_xstar=unit * x, J_xstar=unit[:, None] * J / unit, dtype=np.float64
    )
    usual, scaled = (fps.decompose_jacobians() for fps in (usual, scaled))
    expected = usual.left_eigenvectors() / unit
    W = np.asarray(jax.tree.map(xp.asarray, scaled).left_eigenvectors())
    assert np.isnan(W[5]).all() and np.isnan(expected[5]).all()
    rows = lambda W: W[:5] / np.linalg.norm(W[:5] * unit, axis=2, keepdims=True)  # noqa: E731
    atol = 1e-12 if xp is np else 1e-3
    products = np.einsum("nkd,nkd->nk", rows(W) * unit, (rows(expected) * unit).conj())
    np.testing.assert_allclose(np.abs(products), 1, atol=atol)


def test_an_input_in_the_direction_of_a_mode_excites_no_other():
    """The modes of `[[0.9, 1], [0, 0.5]]` are (1, 0) and (1, -0.4), by hand."""
    W = points([[[0.9, 1.0], [0.0, 0.5]]]).left_eigenvectors()[0]
    v = np.array([1, -0.4]) / np.hypot(1, 0.4)
    np.testing.assert_allclose(np.abs(W @ v), [0, 1], atol=1e-12)
    np.testing.assert_allclose(np.abs(W @ [1, 0]), [1, 0], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_a_defective_jacobian_has_none_and_leaves_the_others(dtype, seed):
    rng = np.random.default_rng(seed)
    S = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    defective = S @ (np.diag([0.5, 0.5, 0.2, -0.3]) + np.eye(4, k=1) * [0, 1, 0, 0]) @ S.T
    exact = np.diag([0.5, 0.5, 0.2, -0.3]) + np.eye(4, k=1) * [0, 1, 0, 0]
    J = np.stack([defective, 0.1 * random_matrices(1, 4)[0], exact, np.eye(4)]).astype(dtype)
    fps = FixedPoints(xstar=np.zeros((4, 4), dtype), J_xstar=J).decompose_jacobians()
    nan = np.isnan(fps.left_eigenvectors()).all(axis=(1, 2))
    assert nan.tolist() == [True, False, True, False]
    assert np.isfinite(fps.left_eigenvectors()[~nan]).all()


def test_a_jacobian_that_is_not_finite_has_no_left_eigenvectors():
    J = 0.1 * random_matrices()
    J[1, 0, 0] = np.nan
    W = decompose(FixedPoints(xstar=np.zeros((5, 6)), J_xstar=J)).left_eigenvectors()
    assert np.isnan(W).all(axis=(1, 2)).tolist() == [False, True, False, False, False]


@pytest.mark.slow
def test_left_eigenvectors_need_all_right_ones():
    fps = FixedPoints(xstar=np.zeros((5, 6)), J_xstar=random_matrices())
    with pytest.raises(ValueError, match="eigvec_J_xstar"):
        fps.left_eigenvectors()
    with pytest.raises(ValueError, match=r"\(5, 6, 2\).*without `k`"):
        decompose(fps, k=2).left_eigenvectors()
    with pytest.raises(ValueError, match="transform"):
        points(random_matrices()).transform(np.eye(6)[:, :2]).left_eigenvectors()


def test_they_follow_a_change_of_coordinates():
    fps, U = points(random_matrices()), np.random.default_rng(1).normal(size=(6, 6))
    moved = fps.transform(U).left_eigenvectors()
    expected = fps.left_eigenvectors() @ np.linalg.inv(U).T
    np.testing.assert_allclose(moved, expected, rtol=1e-8, atol=1e-10)


# ---- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.9, 0.5], "attractor, node"),
        ([-0.9, 0.5], "attractor, node"),
        ([0.5 + 0.5j, 0.5 - 0.5j, 0.1], "attractor, spiral"),
        ([0.9, 0.1 + 0.1j, 0.1 - 0.1j], "attractor, node"),  # the slowest direction is straight
        ([1.5, 0.5], "saddle of index 1"),
        ([1 + 1j, 1 - 1j, 0.5], "saddle of index 2, spiral"),
        ([1.5, -1.2], "repeller, node"),
        ([1 + 1j, 1 - 1j], "repeller, spiral"),
        ([1.0, 0.5], "attractor, node, 1 line direction"),
        ([1.005, 0.5 + 0.5j, 0.5 - 0.5j], "spiral, 1 line direction (1 growing)"),
        ([1.5, 1.001, 0.999, 0.2], "saddle of index 1, 2 line directions (1 growing)"),
        ([1.0, 1.0], "attractor, 2 line directions"),
        ([1j, -1j], "marginal, spiral"),
        ([-1, 0.5], "marginal, node"),
        ([np.nan, 0.5], "unknown"),
    ],
)
def test_the_type_of_a_fixed_point_of_a_map(values, kind):
    assert with_eigenvalues(values).types() == [kind]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([-0.1, -5], "attractor, node"),
        ([-0.1 + 5j, -0.1 - 5j], "attractor, spiral"),
        ([0.1, -5], "saddle of index 1"),
        ([5, 0.1], "repeller, node"),
        ([2j, -2j], "marginal, spiral"),
        ([0.0, -1 + 1j, -1 - 1j], "attractor, spiral, 1 line direction"),
        ([1.0, -0.5], "saddle of index 1"),  # 1 is nothing special to a flow
    ],
)
def test_the_type_of_an_equilibrium_of_a_flow(values, kind):
    assert with_eigenvalues(values, continuous_time=True).types() == [kind]


def test_the_tolerance_says_what_a_line_is():
    fps = with_eigenvalues([1.05, 0.97, 0.5])
    assert fps.types() == ["saddle of index 1"]
    assert fps.types(line_tol=0.04) == ["saddle of index 1, 1 line direction"]
    assert fps.types(line_tol=0.1) == ["node, 2 line directions (1 growing)"]
    assert with_eigenvalues([1.0, 0.5]).types(line_tol=0) == ["attractor, node, 1 line direction"]


@pytest.mark.parametrize(
    ("leading", "kind", "index"),
    [
        ([0.9, 0.5], "attractor, node", 0),
        ([1.5, 0.5], "saddle of index 1", 1),
        ([1.5, 1.2], "saddle of index 2 or more", 2),  # the third may be 1.1 or 0.1
        ([1.0, 1.0], "unknown, 2 line directions", 0),
        ([1.5, np.nan], "unknown", -1),
    ],
)
def test_leading_eigenvalues_say_no_more_than_they_know(leading, kind, index):
    fps = with_eigenvalues(leading, n_states=10)
    assert fps.types() == [kind]
    assert fps.n_unstable().tolist() == [index]


def test_a_slow_point_is_no_attractor():
    fps = FixedPoints(
        xstar=np.zeros((4, 2)),
        eigval_J_xstar=np.array([[0.9, 0.5], [0.9, 0.5], [0.5 + 0.1j, 0.5 - 0.1j], [1.5, 0.2]]),
        status=np.int8([Status.FIXED_POINT, *[Status.SLOW_POINT] * 3]),
    )
    assert fps.types() == ["attractor, node", "slow, node", "slow, spiral", "saddle of index 1"]


def test_rounding_does_not_make_a_spiral():
    """A double eigenvalue, split into a pair that is complex by the root of the precision."""
    values = np.array([[0.9 + 2e-9j, 0.9 - 2e-9j]])
    assert FixedPoints(xstar=np.zeros((1, 2)), eigval_J_xstar=values).types() == ["attractor, node"]


def test_the_index_counts_unstable_directions():
    fps = with_eigenvalues([3, -2, 0.5], [0.9, 0.5, 0.1], [-1.5, 1, 0], [np.nan, 0.5, 0.1])
    assert fps.n_unstable().tolist() == [2, 0, 1, -1]
    fps = with_eigenvalues([3, 0.5, -2], [-0.1, -0.5, -9], continuous_time=True)
    assert fps.n_unstable().tolist() == [2, 0]


@pytest.mark.parametrize(
    "method", ["time_constants", "frequencies", "left_eigenvectors", "n_unstable", "types"]
)
def test_without_eigenvalues_it_is_said_what_is_missing(method):
    with pytest.raises(ValueError, match=f"{method}.*decompose"):
        getattr(FixedPoints(xstar=np.zeros((2, 2))), method)()


@pytest.mark.parametrize("line_tol", [-1, np.nan])
def test_a_tolerance_is_not_negative(line_tol):
    with pytest.raises(ValueError, match="line_tol"):
        with_eigenvalues([0.5]).types(line_tol=line_tol)


def test_no_points_have_no_types():
    none = points(np.zeros((0, 3, 3)))
    assert none.types() == [] and none.n_unstable().shape == (0,)
    assert none.left_eigenvectors().shape == (0, 3, 3) and none.frequencies().shape == (0, 3)


# ---- tables ------------------------------------------------------------------------------------


def some_points(n=3, **fields):
    J = [np.diag([0.5 + 0.1 * row, 0.1]) for row in range(n)]
    q, n_iters = np.linspace(1e-20, 3e-20, n), np.arange(4, 4 + n)
    return points(J, qstar=q, n_iters=n_iters, **fields)


def test_a_data_frame_has_a_row_for_each_point():
    pytest.importorskip("pandas", reason="pandas is not installed (see the extra)")
    frame = some_points(cond_id=np.array(["a", "b", "a"])).to_pandas()
    assert list(frame.columns) == [
        "condition",
        "q",
        "n_iters",
        "is_stable",
        "type",
        "index",
        "leading_eigenvalue",
        "time_constant",
        "frequency",
        "slowest_eigenvalue",
        "slowest_time_constant",
        "slowest_frequency",
    ]
    assert frame["condition"].tolist() == ["a", "b", "a"]
    assert frame["type"].tolist() == 3 * ["attractor, node"]
    np.testing.assert_allclose(frame["time_constant"], -1 / np.log([0.5, 0.6, 0.7]))
    assert frame.groupby("condition")["n_iters"].sum().to_dict() == {"a": 10, "b": 5}


def test_a_data_frame_of_points_that_were_not_linearised():
    pytest.importorskip("pandas", reason="pandas is not installed (see the extra)")
    fps = FixedPoints(xstar=np.zeros((2, 2)), qstar=np.ones(2), valid=np.array([True, False]))
    assert list(fps.to_pandas().columns) == ["q", "valid"]
    assert len(FixedPoints().to_pandas()) == 0


def test_without_pandas_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[pandas\]"'):
        some_points().to_pandas()


def summary(capsys, fps, **keywords):
    fps.print_summary(**keywords)
    return capsys.readouterr().out.splitlines()


def test_the_summary_has_a_line_for_each_point(capsys):
    lines = summary(capsys, some_points(cond_id=np.array([7, 8, 9])))
    header = next(i for i, line in enumerate(lines) if "|eigenvalue|" in line)
    assert lines[header].split() == [
        *("row", "condition", "type", "q", "|eigenvalue|", "constant", "frequency"),
        *("mode", "frequency"),
    ]
    assert lines[header - 1].split() == ["time", "slowest", "its"]  # each above its other half
    assert lines[header - 1].index("time") + 4 == lines[header].index("constant") + 8
    assert lines[header + 2].split() == [
        "1",
        "8",
        "attractor,",
        "node",
        "2.0e-20",
        "0.6",
        *("1.958", "0", "1.958", "0"),
    ]
    assert "are in steps" in " ".join(lines[header + 4 :])
    assert max(map(len, lines[header + 4 :])) <= 80


def row_of(lines, number=0):
    """Return the last four columns of a row of the table: of the leading and the slowest mode."""
    found = next(line for line in lines if line.startswith(f"{number:3d}  "))
    return [float(value) for value in found.split()[-4:]]


def test_the_summary_shows_the_mode_that_integrates_beside_an_unstable_spiral(capsys):
    spiral = turning(1.5, 0.1)
    J = np.block([[spiral, np.zeros((2, 1))], [np.zeros((1, 2)), np.exp(-1 / 40) * np.eye(1)]])
    fps = points([J])
    leading, cycles, slowest, its_cycles = row_of(summary(capsys, fps))
    assert (leading, cycles) == (pytest.approx(-1 / np.log(1.5), rel=1e-3), pytest.approx(0.1))
    assert (slowest, its_cycles) == (40, 0)
    with_dt = summary(capsys, fps, dt=10)
    np.testing.assert_allclose(row_of(with_dt), [10 * leading, 0.01, 400, 0], rtol=1e-3)
    assert "in the unit of dt, in which one step is 10" in " ".join(with_dt)
    frame = fps.to_pandas()
    assert frame["slowest_eigenvalue"].tolist() == pytest.approx([np.exp(-1 / 40)])
    assert frame["slowest_time_constant"].tolist() == pytest.approx([40])


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_time_constant_that_rounding_decides_is_shown_as_a_bound(capsys, dtype, side):
    eps = float(np.finfo(dtype).eps)
    fps = with_eigenvalues([1 + side * 90 * eps, 0.5], [1 + side * 110 * eps, 0.5])
    fps = fps.replace(eigval_J_xstar=fps.eigval_J_xstar.astype(dtype))
    lines = summary(capsys, fps, dt=2)
    bound = f">{float(f'{2 / (100 * eps):.1g}'):g}"
    unknown, known = (next(x for x in lines if x.startswith(f"  {k}")).split() for k in (0, 1))
    assert unknown[-4] == unknown[-2] == bound
    assert float(known[-2]) == pytest.approx(-side * 2 / (110 * eps), rel=0.02)
    text = " ".join(lines)
    assert f"{bound} is what rounding does not tell from infinity" in text
    assert "A line direction has an eigenvalue within 0.01 of 1; types count it neither" in text
    neutral = with_eigenvalues([1.0, 0.5]).replace(dtype=np.float64)
    exact = next(x for x in summary(capsys, neutral) if x.startswith("  0"))
    assert exact.split()[-2].startswith(">")  # rounding may have made it 1
    plain = " ".join(summary(capsys, with_eigenvalues([0.5, 0.2])))
    assert "rounding" not in plain and "line direction" not in plain


@pytest.mark.parametrize("continuous_time", [False, True])
def test_the_summary_calls_no_point_an_attractor_along_whose_line_directions_something_grows(
    capsys, continuous_time
):
    """The saddles of trained line attractors, whose eigenvalues are like 1.003, once were."""
    spectra = np.array([[1.003, 1.002, 0.5], [1.003, 0.995, 0.5], [0.997, 0.995, 0.5]])
    if continuous_time:
        spectra = spectra - 1
    fps = with_eigenvalues(*spectra, continuous_time=continuous_time)
    lines = summary(capsys, fps)
    told = [next(x for x in lines if x.startswith(f"  {row}  ")) for row in range(3)]
    expected = ("2 line directions (2 growing)", "2 line directions (1 growing)")
    assert all(f"  node, {text}" in line for text, line in zip(expected, told, strict=False))
    assert "attractor, node, 2 line directions  " in told[2]
    assert fps.types()[0] == "node, 2 line directions (2 growing)"
    assert signature(fps.types).parameters["line_tol"].default == LINE_TOL


def test_growth_by_no_more_than_rounding_is_not_called_growth(capsys):
    """On a ring of fixed points, rounding decides on which side of 1 an eigenvalue is."""
    eps = float(np.finfo(np.float32).eps)
    fps = with_eigenvalues([1 + 90 * eps, 0.5], [1 + 110 * eps, 0.5])
    fps = fps.replace(eigval_J_xstar=fps.eigval_J_xstar.astype(np.complex64))
    text = "\n".join(summary(capsys, fps))
    assert "attractor, node, 1 line direction  " in text
    assert text.count("growing") == 1


@pytest.mark.parametrize("continuous_time", [False, True])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_frequency_that_is_no_more_than_rounding_is_shown_as_zero(capsys, dtype, continuous_time):
    turn = 0.5 * np.sqrt(float(np.finfo(dtype).eps))  # for eigenvalues of size 0.5
    real = -0.5 if continuous_time else 0.5
    spectra = [[complex(real, part * turn), real] for part in (0, -0.9, 0.9, 1.1)]
    fps = with_eigenvalues(*spectra, continuous_time=continuous_time)
    fps = fps.replace(eigval_J_xstar=fps.eigval_J_xstar.astype(dtype))
    lines = summary(capsys, fps)
    shown = [row_of(lines, row)[1] for row in range(4)]
    assert shown[:3] == [0, 0, 0] and shown[3] > 0
    assert fps.frequencies()[2, 0] > 0  # the digits are there, if anybody wants them


def test_a_mode_that_changes_its_sign_has_half_a_cycle_per_step(capsys):
    assert row_of(summary(capsys, with_eigenvalues([-0.9, 0.5])))[1] == 0.5


def test_the_slowest_mode_may_grow_and_of_a_flow_its_real_part_decides(capsys):
    fps = with_eigenvalues([1.01, 0.97], [1.2, -0.999], [2, 0])
    frame = fps.to_pandas()
    assert frame["slowest_eigenvalue"].tolist() == [1.01, -0.999, 2]
    fps = with_eigenvalues([1, -0.1 + 3j, -0.1 - 3j], continuous_time=True)
    assert fps.to_pandas()["slowest_eigenvalue"].tolist() == [-0.1 + 3j]
    assert row_of(summary(capsys, fps, dt=2))[2:] == [20, pytest.approx(0.239)]


def test_the_slowest_of_leading_eigenvalues_is_known_only_if_one_of_them_decays():
    fps = with_eigenvalues([1.5, 1.2], [1.5, 0.5], [np.nan, 0.5], [1.5, 1.0], n_states=10)
    found = fps.to_pandas()["slowest_eigenvalue"].to_numpy()
    np.testing.assert_array_equal(found, [np.nan, 1.5, np.nan, 1])
    complete = with_eigenvalues([1.5, 1.2]).to_pandas()["slowest_eigenvalue"]
    assert complete.tolist() == [1.2]


def test_a_long_summary_is_cut(capsys):
    lines = summary(capsys, some_points(4), max_rows=2)
    assert [line.split()[0] for line in lines if "node" in line] == ["0", "1"]
    assert "... and 2 more" in lines


def test_the_summary_leaves_invalid_rows_out(capsys):
    fps = some_points(4, valid=np.array([True, False, False, True]))
    lines = summary(capsys, fps)
    assert "Number of fixed points: 2" in lines
    assert any("not valid" in line and line.endswith(" 2") for line in lines)
    assert [line.split()[0] for line in lines if "node" in line] == ["0", "3"]


def test_the_summary_of_a_flow_speaks_of_real_parts(capsys):
    fps = with_eigenvalues([-0.5, -1], continuous_time=True)
    text = "\n".join(summary(capsys, fps))
    assert "Re eigenvalue" in text and "units of time" in text and " -0.5 " in text


def test_a_summary_of_leading_eigenvalues_says_what_they_leave_open(capsys):
    fps = with_eigenvalues([1.5, 1.2], [1.5, 0.5], [np.nan, 0.5], n_states=10)
    lines = summary(capsys, fps)
    assert "  1 with 2 or more unstable direction(s)" in lines
    assert "  1 with 1 unstable direction(s)" in lines
    assert "  1 with an unknown number of unstable direction(s)" in lines


def test_points_that_were_not_linearised_have_no_table(capsys):
    lines = summary(capsys, FixedPoints(xstar=np.zeros((2, 2)), qstar=np.ones(2)))
    assert lines[-1].startswith("q values")
