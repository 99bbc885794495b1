"""`line_attractor`: curves through points, of which the shape and the dynamics are known."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import field_case, field_network, field_starts

from slowpoints import FixedPoints, line_attractor, slow_manifold
from slowpoints._core.units import relative_units

pytestmark = pytest.mark.fast


def embedded(x, d=6):
    """Return points of a plane or space in a rotated one of `d` dimensions, and the rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(d, d)))
    return x @ q[:, : x.shape[1]].T


def points(x, J=None, moved=0.0, **fields):
    d = x.shape[1]
    J = np.tile(np.diag([0.99, *[0.5] * (d - 1)]), (len(x), 1, 1)) if J is None else J
    return FixedPoints(xstar=x, F_xstar=x + moved, J_xstar=J, dtype=np.float64, **fields)


def outer(tangent, size=0.99):
    return size * tangent[:, :, None] * tangent[:, None, :]


def circle(n, noise=0.0, seed=0):
    """Return shuffled points around a circle, and the directions around it, counter-clockwise."""
    rng = np.random.default_rng(seed)
    angle = rng.permutation(2 * np.pi * (np.arange(n) + rng.uniform(-0.2, 0.2, n)) / n)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tangent = np.stack([-x[:, 1], x[:, 0]], axis=1)
    return embedded(x + noise * rng.normal(size=x.shape)), embedded(tangent)


def quietly(fps, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return line_attractor(fps, **settings)


SHAPES = {
    "straight": lambda t: np.stack([2 * t, 0 * t], axis=1),
    "bent": lambda t: np.stack([np.cos(4 * t), np.sin(4 * t)], axis=1),
    "s": lambda t: np.stack([2 * t, np.sin(6 * t) / 2], axis=1),
    "helix": lambda t: np.stack([np.cos(9 * t), np.sin(9 * t), 2 * t], axis=1),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_put_in_order_along_lines_that_bend(shape):
    t = np.random.default_rng(0).permutation(np.linspace(0, 1, 60))
    x, step = SHAPES[shape](t), 1e-6
    tangent = (SHAPES[shape](t + step) - x) / step
    tangent = embedded(tangent / np.linalg.norm(tangent, axis=1, keepdims=True))
    x = embedded(x)
    line = line_attractor(points(x, outer(tangent), 1e-3 * tangent))
    assert line.is_one_dimensional and not line.is_closed and line.is_on_curve.all()
    in_order = t[line.rows]
    assert np.all(np.diff(in_order) > 0) or np.all(np.diff(in_order) < 0)
    np.testing.assert_array_equal(line.points.xstar, x[line.rows])
    forwards = 1 if in_order[-1] > in_order[0] else -1
    np.testing.assert_allclose(
        np.einsum("nd,nd->n", line.tangent, forwards * tangent[line.rows]), 1, atol=2e-2
    )
    assert line.angle.max() < 10 and np.median(line.angle) < 1
    np.testing.assert_allclose(line.drift, forwards * 1e-3, rtol=2e-2)
    np.testing.assert_allclose(line.time_constant, -1 / np.log(0.99), rtol=1e-6)
    np.testing.assert_allclose(line.direction, forwards * tangent[line.rows], atol=1e-6)
    np.testing.assert_allclose(line.selection, line.direction, atol=1e-6)
    fine = SHAPES[shape](np.linspace(0, 1, 10000))
    length = np.linalg.norm(np.diff(fine, axis=0), axis=1).sum()
    assert line.length == pytest.approx(length, rel=0.01)
    assert line.arclength[0] == 0 and line.arclength[-1] == pytest.approx(line.length)
    assert line.residual.max() < 0.01


@pytest.mark.parametrize("n", [10, 30, 200])
def test_a_ring_is_told_from_a_line(n):
    x, tangent = circle(n)
    ring = line_attractor(points(x, outer(tangent), 1e-3 * tangent))
    assert ring.is_closed and ring.is_one_dimensional
    assert ring.length == pytest.approx(2 * np.pi, rel=0.05 if n == 10 else 0.01)
    around = np.einsum("nd,nd->n", ring.tangent, tangent[ring.rows])
    assert np.all(np.abs(around) > 0.97) and abs(np.sign(around).sum()) == n
    np.testing.assert_allclose(np.abs(ring.drift), 1e-3, rtol=0.03)
    # Half of it is a line.
    half = np.argsort(np.arctan2(*x[ring.rows].T[:2]))[: max(n // 2, 5)]
    assert not quietly(points(x[ring.rows][half])).is_closed


def test_a_line_with_one_wide_gap_is_no_ring():
    t = np.array([0, 0.1, 0.2, 1.2, 1.3, 1.4])
    assert not line_attractor(points(embedded(np.stack([t, 0 * t], axis=1)))).is_closed


def test_a_ring_runs_the_same_way_round_whatever_the_order_of_its_rows():
    x, tangent = circle(25)
    one = line_attractor(points(x, outer(tangent)))
    other = line_attractor(points(x[::-1], outer(tangent[::-1])))
    np.testing.assert_allclose(other.points.xstar, one.points.xstar)
    np.testing.assert_allclose(other.tangent, one.tangent, atol=1e-9)
    np.testing.assert_array_equal(other.rows, 24 - one.rows)


def test_a_line_runs_toward_what_it_is_told():
    x = embedded(SHAPES["straight"](np.linspace(0, 1, 9)))
    way = x[-1] - x[0]
    for sign in (1, -1):
        line = line_attractor(points(x), toward=sign * way)
        np.testing.assert_allclose(line.tangent @ way, sign * np.linalg.norm(way), rtol=1e-9)
    by_itself = line_attractor(points(x)).tangent[0]
    assert by_itself[np.abs(by_itself).argmax()] > 0


def test_the_angle_is_that_between_the_line_and_the_slowest_mode():
    x = np.linspace(0, 1, 12)[:, None] * np.array([1.0, 0, 0])
    slow = np.array([np.cos(0.3), np.sin(0.3), 0])
    line = line_attractor(points(x, np.tile(0.9 * np.outer(slow, slow), (12, 1, 1))))
    np.testing.assert_allclose(line.angle, np.degrees(0.3))
    # A plane that holds the line, and one that does not.
    turn = np.array([[0.0, 0.9], [-0.9, 0.0]])
    for rows, angle in (((0, 1), 0), ((1, 2), 90)):
        J = np.zeros((3, 3))
        J[np.ix_(rows, rows)] = turn
        line = line_attractor(points(x, np.tile(J, (12, 1, 1))))
        np.testing.assert_allclose(line.angle, angle, atol=1e-5)
        assert np.isnan(line.selection).all() and np.isfinite(line.direction).all()


def test_dt_scales_times_and_drift():
    x, tangent = circle(20)
    one, ten = (line_attractor(points(x, outer(tangent), tangent), dt=dt) for dt in (1.0, 10.0))
    np.testing.assert_allclose(ten.time_constant, 10 * one.time_constant)
    np.testing.assert_allclose(ten.drift, one.drift / 10)
    np.testing.assert_array_equal(ten.arclength, one.arclength)


def clouds():
    rng = np.random.default_rng(0)
    side = np.arange(8.0)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    yield from (rng.uniform(size=(n, 2)) for n in (20, 40, 150) for _ in range(3))
    yield from (rng.normal(size=(n, d)) for n in (20, 40, 150) for d in (2, 3, 6))
    yield grid


def test_points_of_sheets_and_clouds_are_not_on_a_curve():
    for x in clouds():
        with pytest.warns(UserWarning, match=r"points are not on a curve"):
            line = line_attractor(points(embedded(x)))
        assert not line.is_one_dimensional and line.thickness > 0.13
        assert str(line).startswith("The points are not on a curve.")


def test_a_line_without_a_direction_says_so_and_no_numbers():
    line = line_attractor(points(embedded(np.linspace([0, 0], [1, 0], 9))), dt=0.5)
    assert line.dt == 0.5 and "nan" not in str(line)
    nowhere = eqx.tree_at(lambda a: a.angle, line, np.full(9, np.nan))
    assert str(nowhere).endswith("through 9 of 9 points. Its direction is known at none of these.")
    gap = np.where(np.isin(np.arange(9), [3, 4]), np.nan, line.drift)
    partly = eqx.tree_at(lambda a: (a.angle, a.drift), line, (gap, gap))
    assert "nan" not in str(partly)
    assert str(partly).endswith("(NaN), is not known at 2 of the 9 points.")
    assert "not known" not in str(line)


def test_points_beside_the_path_have_a_place_and_a_direction_of_their_own():
    """Three of them leave the longest path of the tree at one of its points."""
    along = np.arange(31) / 10
    path = np.stack([along, 0 * along], axis=1)
    beside = np.array([[1.48, 0.06], [1.52, -0.06], [1.5, 0.09]])
    x = embedded(np.concatenate([path, beside]))
    toward = embedded(np.array([[1.0, 0.0]]))
    line = line_attractor(points(x, moved=0.01 * toward), toward=toward[0])
    assert np.all(np.diff(line.points.xstar @ toward[0]) > -1e-9)  # two are equally far along
    np.testing.assert_allclose(line.arclength, line.points.xstar @ toward[0], atol=0.1)
    assert np.all(np.diff(line.arclength) > 1e-3)
    assert line.drift.min() > 0.003 and "not known" not in str(line)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [10, 20, 40, 150])
def test_noise_of_three_hundredths_leaves_curves_curves(n, seed):
    x, _ = circle(n, 0.03, seed)
    t = np.random.default_rng(seed).uniform(-1.7, 1.7, n)
    noise = 0.03 * np.random.default_rng(seed + 100).normal(size=(n, 2))
    for curve, is_closed in ((x, True), (embedded(np.stack([t, 0 * t], 1) + noise), False)):
        line = line_attractor(points(curve))
        assert line.is_one_dimensional and line.is_closed == is_closed
        assert line.thickness < 0.1


def test_single_points_off_a_ring_are_named_and_do_not_draw_it_aside():
    x, tangent = circle(30)
    ring = line_attractor(
        points(np.concatenate([x, 0.4 * x[:1]]), outer(np.r_[tangent, tangent[:1]]))
    )
    assert ring.rows[~ring.is_on_curve].tolist() == [30]
    assert ring.residual[ring.is_on_curve].max() < 0.05 and "through 30 of 31 points" in str(ring)


@pytest.mark.parametrize("stray", [(0, 0), (0.5, 0), (3, 0)])
def test_single_points_off_a_ring_add_nothing_to_its_length(stray):
    angle = 2 * np.pi * np.arange(40) / 40
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = quietly(points(np.vstack([ring, stray])))
    assert found.is_closed and found.is_on_curve.sum() == 40
    assert not found.is_on_curve[np.flatnonzero(found.rows == 40)[0]]
    assert abs(found.length - 2 * np.pi) < 0.02
    steps = np.diff(found.arclength[found.is_on_curve])
    np.testing.assert_allclose(steps, 2 * np.pi / 40, rtol=0.05)


def test_rows_at_one_place_and_invalid_rows_do_no_harm():
    x = embedded(SHAPES["s"](np.linspace(0, 1, 30)))
    doubled = np.concatenate([x, x[:10], 100 * x[:5]])
    valid = np.arange(45) < 40
    line = line_attractor(points(doubled, valid=valid))
    assert set(line.rows.tolist()) == set(range(40)) and line.is_one_dimensional
    assert line.length == pytest.approx(line_attractor(points(x)).length, rel=0.02)


@pytest.mark.slow
def test_a_slow_manifold_of_a_context_network_is_a_line_along_its_slow_modes():
    name = "context_leaky_128_s11"
    case = field_case(name)
    found = slow_manifold(field_network(name), field_starts(name, 64), case["inputs"][1])
    readout = case["Wo"][:, 0]
    line = line_attractor(found.points, toward=jnp.asarray(readout))
    assert line.is_one_dimensional and not line.is_closed and line.is_on_curve.all()
    assert np.median(line.angle) < 5 and line.angle.max() < 20
    out = line.points.xstar @ readout
    assert np.corrcoef(out, line.arclength)[0, 1] > 0.99
    # Modes lean: what the slowest one reads of a step may be longer than the step, sqrt(2 q_max).
    assert np.abs(line.drift).max() < 2 * np.sqrt(2e-5)
    # Selection vectors of neighbours are alike.
    unit = line.selection / np.linalg.norm(line.selection, axis=1, keepdims=True)
    assert np.einsum("nd,nd->n", unit[1:], unit[:-1]).min() > 0.8


@pytest.mark.slow_cases
@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_curve_is_the_same_in_all_units(shape, unit):
    """At 1e-6, some of the points are less than 1e-8 apart."""
    t = np.random.default_rng(0).permutation(np.linspace(0, 1, 300))
    x = embedded(SHAPES[shape](t))
    x[1] = x[0] + 1e-3 * (x[1] - x[0])
    moved = 1e-3 * np.random.default_rng(1).normal(size=x.shape)
    line, found = (line_attractor(points(s * x, moved=s * moved)) for s in (1.0, unit))
    assert found.rows.tolist() == line.rows.tolist() and found.is_closed == line.is_closed
    assert found.thickness == pytest.approx(line.thickness, rel=1e-6)
    np.testing.assert_allclose(found.arclength, unit * line.arclength, rtol=1e-9)
    np.testing.assert_allclose(found.tangent, line.tangent, atol=1e-6)
    np.testing.assert_allclose(found.drift, unit * line.drift, atol=1e-9 * unit)


def in_other_units(x, J, moved, unit, **fields):
    unit = unit.astype(x.dtype)
    return points(unit * x, J * unit[:, None] / unit, unit * moved, **fields)


SOME = np.array([2.0**20, 1.0, 2.0**20, 1.0, 2.0**20, 1.0])
"""Units of three of six states, the largest of which are as large as the largest others."""


@pytest.mark.parametrize("unit", [SOME, SOME[::-1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_ring_is_the_same_if_some_states_are_much_larger(unit, dtype):
    x, tangent = (np.asarray(a, dtype) for a in circle(40))
    slow = tangent + 0.3 * x  # not along it
    slow, moved = slow / np.linalg.norm(slow, axis=1, keepdims=True), 1e-3 * tangent
    given = x, outer(slow), moved
    ring = line_attractor(in_other_units(*given, np.ones(6)))
    found = line_attractor(in_other_units(*given, unit))
    assert found.rows.tolist() == ring.rows.tolist() and found.is_closed
    same = {"rtol": 1e-6, "atol": 1e-9}
    for name in ("arclength", "length", "residual", "drift"):
        wanted = unit.max() * np.asarray(getattr(ring, name))
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-6, atol=1e-3, err_msg=name)
    for name in ("thickness", "angle", "time_constant"):
        np.testing.assert_allclose(getattr(found, name), getattr(ring, name), err_msg=name, **same)
    np.testing.assert_allclose(found.curve, unit * ring.curve, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.points.xstar, unit * x[found.rows])
    for name in ("tangent", "direction"):
        expected = unit * getattr(ring, name)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(getattr(found, name), expected, err_msg=name, **same)
    np.testing.assert_allclose(np.sum(found.selection * found.direction, axis=1), 1)


@pytest.mark.parametrize(
    ("sizes", "exponents"),
    [
        ([3, 0.01, 1e-4, 1e-6], [0, 0, 0, 0]),  # in order, no step of more than 1,024
        ([1, 0, 2.0**20], [-20, 0, 0]),  # of what is always zero nothing is known
        ([1, 2.0**20, 2.0**-20], [-20, 0, -40]),
        ([2.0**20, 2.0**19, 1, 0.5], [0, 0, -20, -20]),
        ([1, 1e-9], [0, 0]),  # no more than rounding
        ([0, 0], [0, 0]),
        ([], []),
    ],
)
def test_states_share_a_unit_unless_there_is_a_wide_gap_between_their_sizes(sizes, exponents):
    units = relative_units(np.array([sizes, np.full(len(sizes), np.nan)]))
    assert np.log2(units).tolist() == exponents


def test_a_line_in_a_small_state_runs_toward_what_reads_it():
    x = np.stack([np.cos(np.linspace(0, 3, 20)), np.sin(np.linspace(0, 3, 20)) / 2.0**20], axis=1)
    toward = np.array([1.0, 2.0**21])  # which reads from the second state twice as much
    for sign in (1, -1):
        line = line_attractor(points(x), toward=sign * toward)
        assert sign * np.sum(toward * (line.curve[-1] - line.curve[0])) > 0


def test_states_of_like_size_are_measured_as_they_are():
    """And so are those that are close to zero on the line, if the starts are not."""
    rng = np.random.default_rng(0)
    t, rest = np.linspace(-1, 1, 30), rng.normal(size=30)
    for size in (2.0**-9, 1e-6):
        x = np.stack([t, size * rest], axis=1)
        line = quietly(points(x, x_init=x if size > 1e-5 else np.stack([t, rest], axis=1)))
        assert line.is_one_dimensional and line.length == pytest.approx(2, rel=0.05)
    assert not quietly(points(x)).is_one_dimensional  # nothing says that these are small


@pytest.mark.parametrize("gap", [0.0, 1e-9])
def test_points_next_to_each_other_are_joined_to_each_other(gap):
    """Two that SciPy takes for unconnected: its matrices have no edges below 1e-8."""
    x = np.repeat(np.arange(8.0), 2)[:, None] * np.ones(2)
    x[1::2] += gap
    line = line_attractor(points(x))
    assert line.length == pytest.approx(7 * np.sqrt(2)) and line.is_one_dimensional
    assert np.all(np.diff(line.points.xstar[:, 0]) >= 0)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("x", "fields", "words"),
    [
        (np.full((6, 2), 0.1), {}, "`fps` has all rows at one place, to rounding"),
        (np.repeat([[0.0, 0.0], [1.0, 1.0]], 3, 0), {}, "`fps` has rows at 2 places only"),
        (1e160 * np.eye(6), {}, "`fps.xstar` has states of up to 1e.160"),
        (np.eye(6), {"F_xstar": np.zeros((6, 5))}, "`fps.F_xstar` has shape"),
        (np.eye(6), {"cond_id": np.arange(6)}, "`fps.cond_id` differ; expected points under one"),
    ],
)
def test_points_that_are_on_no_curve_are_refused(x, fields, words):
    with pytest.raises(ValueError, match=words):
        line_attractor(points(x).replace(**fields))


@pytest.mark.checks_input
def test_whole_numbers_are_no_states():
    with pytest.raises(TypeError, match=r"line_attractor: `fps\.xstar` "):
        line_attractor(points(np.arange(12).reshape(6, 2)))


# ---- drift where modes are not orthogonal --------------------------------------------------------

N_UNITS = 20
_RNG = np.random.default_rng(5)
# A slow direction that the other modes drive: its selection vector is 60 to 80 degrees off it.
FAST = np.diag(_RNG.uniform(0.2, 0.7, N_UNITS - 1))
DRIVE = 0.3 * _RNG.standard_normal(N_UNITS - 1)
MIXED = np.linalg.qr(_RNG.standard_normal((N_UNITS, N_UNITS)))[0].astype(np.float32)


def drifting(x, u):
    """A bent line of slow states, on which the state moves by -0.004 sin(3 s) in a step at s."""
    s, rest = (MIXED.T @ x)[0], (MIXED.T @ x)[1:]
    bend = jnp.zeros(N_UNITS - 1).at[0].set(0.3 * s**2)
    next_s = s - 0.004 * jnp.sin(3 * s) + jnp.asarray(DRIVE, x.dtype) @ (rest - bend)
    next_rest = jnp.asarray(FAST, x.dtype) @ (rest - bend)
    next_rest = next_rest + jnp.zeros(N_UNITS - 1).at[0].set(0.3 * next_s**2)
    return MIXED @ jnp.concatenate([next_s[None], next_rest]) + 0 * u.sum()


def relaxed_drift(x):
    """Return the places on the line of which states share the future, and how these move in a step.

    States are run until they are on the line, and from there back along it.
    """
    step = jax.jit(jax.vmap(lambda x: drifting(x, jnp.zeros(1))))
    for _ in range(40):
        x = step(x)
    s = np.asarray(x @ MIXED)[:, 0].astype(np.float64)
    for _ in range(40):
        before = s
        for _ in range(20):
            before = s + 0.004 * np.sin(3 * before)
        s = before
    return s, -0.004 * np.sin(3 * s)


@pytest.mark.slow
@pytest.mark.parametrize("q_max", [1e-6, 1e-5, 1e-4])
def test_the_drift_is_that_of_states_on_the_line_however_the_modes_lean(q_max):
    """By its projection on the tangent it was too small by 2.4 in an LSTM, and of both signs."""
    s = np.linspace(-2.5, 2.5, 120)
    noise = 0.05 * np.random.default_rng(1).standard_normal((120, N_UNITS - 1))
    rest = noise + np.eye(N_UNITS - 1)[0] * (0.3 * s**2)[:, None]
    x0 = (np.column_stack([s, rest]) @ MIXED.T).astype(np.float32)
    found = slow_manifold(drifting, jnp.asarray(x0), jnp.zeros(1), q_max)
    line = line_attractor(found.points, toward=MIXED[:, 0])
    place, expected = relaxed_drift(jnp.asarray(line.points.xstar))
    stretch = np.sqrt(1 + (0.6 * place) ** 2)  # length of the line per change of s
    inner = slice(1, -1)  # the tangent at the ends is a guess
    np.testing.assert_allclose(line.drift[inner], (stretch * expected)[inner], atol=6e-4)
    slope = np.polyfit((stretch * expected)[inner], line.drift[inner], 1)[0]
    assert slope == pytest.approx(1, abs=0.08)
    assert "They come to rest at 3 places along it." in str(line)
    side = np.sign(found.direction @ MIXED[:, 0])
    place, expected = relaxed_drift(jnp.asarray(found.points.xstar))
    stretch = np.sqrt(1 + (0.6 * place) ** 2)
    np.testing.assert_allclose(side * found.drift, stretch * expected, atol=6e-4)


def test_rounding_on_a_line_of_fixed_points_is_no_place_of_rest():
    s = np.float32(np.random.default_rng(0).uniform(-2, 2, (60, 2)) * [1, 0.1])
    halves = jnp.float32([1, 0.5])
    found = slow_manifold(lambda x, u: halves * x + 0 * u.sum(), s, np.zeros(1)).points
    for size, n_places in ((2e-7, 0), (2e-3, found.n // 2)):
        moved = size * (-1.0) ** np.argsort(np.argsort(found.xstar[:, 0]))
        steps = found.xstar + np.float32(moved[:, None] * [1, 0])
        told = str(line_attractor(found.replace(F_xstar=steps)))
        assert ("come to rest at" in told) == (n_places > 0), told


@pytest.mark.parametrize(("beyond", "n_grow"), [(-0.01, 0), (0.004, 3), (2.0**-46, 0)])
def test_modes_that_grow_by_more_than_rounding_are_not_said_to_last(beyond, n_grow):
    x = np.linspace([-1, 1], [1, -1], 8)
    tangent = np.array([1, -1]) / np.sqrt(2)
    slow = np.where(np.arange(8) < 3, 1 + beyond, 0.99)
    J = 0.5 * np.eye(2) + (slow - 0.5)[:, None, None] * np.outer(tangent, tangent)
    told = str(line_attractor(FixedPoints(xstar=x, F_xstar=x, J_xstar=J)))
    if n_grow:
        assert "grow at 3 of 8 points and decay at the others; the median of both kinds" in told
    else:
        assert "These modes last 99.5 (median)" in told and "grow" not in told
