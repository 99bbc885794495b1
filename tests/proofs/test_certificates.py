"""Certificates: true ones are given, false ones never, and unique can go by them."""

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    INDEX_COUNTS,
    FlipFlop,
    field_case,
    field_network,
    field_starts,
    found_in,
    henon,
    henon_points,
    newton_polish,
    trained,
)

import slowpoints
from slowpoints import ContinuousTime, FixedPoints, Status, certify, find_fixed_points, unique

FOLD = 0.5328399754
"""Beyond this input, `tanh(2 x + u)` has one fixed point instead of three."""


def points(x, u=None, **fields):
    x = np.asarray(x)
    u = np.zeros((len(x), 1), x.dtype) if u is None else np.asarray(u, x.dtype)
    return FixedPoints(xstar=x, inputs=u, dtype=x.dtype, **fields)


# ---- networks whose points are known -----------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", ["tanh", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("gru", "lstm"))]
)
def test_all_points_of_a_flip_flop_are_certified_and_distinct(cell):
    fps = found_in(cell)
    proven = certify(trained(cell), fps)
    assert len(proven) == 27
    assert proven.is_certified.all() and proven.is_unique.all()
    assert not proven.reason.any()
    assert (proven.are_distinct() | np.eye(27, dtype=bool)).all()
    assert not (proven.are_same() & ~np.eye(27, dtype=bool)).any()
    assert dict(zip(*np.unique(proven.index, return_counts=True), strict=True)) == INDEX_COUNTS
    assert [s is True for s in proven.is_stable] == (proven.index == 0).tolist()
    assert [s is False for s in proven.is_stable] == (proven.index > 0).tolist()
    # The proven balls hold what Newton's method in float64 finds, and are not much larger.
    exact, _ = newton_polish(trained(cell), fps.xstar, fps.inputs)
    distance = np.linalg.norm(exact - np.asarray(fps.xstar, np.float64), axis=1)
    assert (distance <= proven.radius).all()
    assert (proven.radius <= distance + 1e-10).all()
    assert "All of them are proven to be distinct." in str(proven)


@pytest.mark.slow
def test_points_of_networks_as_laboratories_train_them_are_certified_in_one_batch():
    name = "context_gru_128_s12"
    F, u = field_network(name), np.float32(field_case(name)["inputs"][0])
    fps, _ = find_fixed_points(F, field_starts(name), u)
    proven = certify(F, fps)
    assert proven.is_unique.all() and len(proven) == 3
    assert proven.index.tolist() == np.asarray(fps.n_unstable()).tolist()


@pytest.mark.slow
def test_a_model_of_a_framework_is_certified_like_the_function():
    fps = found_in("gru")
    by_model, by_function = certify(FlipFlop("gru"), fps), certify(trained("gru"), fps)
    assert by_model.is_unique.all()
    assert by_model.index.tolist() == by_function.index.tolist()


def one_unit(x, u):
    return jnp.tanh(2 * x + u)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("d", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9])
def test_points_are_certified_up_to_the_fold_and_none_beyond(d):
    # Where the slope is 1: tanh(y)^2 = 1/2, with y = 2 x + u.
    x_fold = -np.sqrt(0.5)
    for u, expected in ((FOLD - d, 2), (FOLD + d, 0)):
        with jax.enable_x64(True):
            reach = min(0.9, 2 * np.sqrt(max(abs(FOLD - u), 1e-8)))
            starts = x_fold + np.linspace(-reach, reach, 21)[:, None]
            rows = slowpoints.optimize_batch(one_unit, starts, np.array([u]))
            near = np.abs(rows.xstar[:, 0] - x_fold) < 0.4
            proven = certify(one_unit, rows[np.asarray(near)])
        groups = proven.are_same()[np.ix_(proven.is_certified, proven.is_certified)]
        n_distinct = len({tuple(group) for group in groups.tolist()})
        assert n_distinct == expected
        if expected:  # a node and a saddle
            assert set(proven.index[proven.is_certified].tolist()) == {0, 1}


def relu_network(W, b):
    return lambda x, u: jax.nn.relu(W @ x + b)


@pytest.mark.slow_cases
@pytest.mark.parametrize("seed", range(4))
def test_piecewise_linear_networks_agree_with_exact_enumeration(seed):
    rng = np.random.default_rng(10 + seed)
    W = np.float32(1.5 * rng.standard_normal((5, 5)))
    root = np.maximum(rng.standard_normal(5), 0)  # which makes one there, up to rounding
    b = np.float32(root - W @ root - (root == 0) * (1 + rng.random(5)))
    roots = []
    for mask in np.array(np.meshgrid(*[[0, 1]] * 5)).reshape(5, -1).T:
        active = mask.astype(bool)
        A = np.eye(5) - np.where(active[:, None], W, 0).astype(np.float64)
        x = np.linalg.solve(A, np.where(active, b, 0).astype(np.float64))
        if np.array_equal(W.astype(np.float64) @ x + b > 0, active):
            roots.append(x)
    assert roots
    roots = np.array(roots)
    proven = certify(relu_network(W, b), points(roots))
    assert proven.is_unique.all()
    assert (proven.radius < 1e-12).all()
    # From other states, it is one of these points or none.
    others = rng.uniform(0, 3, (50, 5))
    proven = certify(relu_network(W, b), points(others))
    for centre, radius in zip(
        proven.centre[proven.is_certified], proven.inner_radius[proven.is_certified], strict=True
    ):
        assert (np.abs(roots - centre).max(axis=1) <= radius + 1e-12).sum() == 1


def test_chaotic_maps_have_certified_saddles():
    with jax.enable_x64(True):
        proven = certify(henon(), points(henon_points() + 1e-7))
    assert proven.is_unique.all() and proven.index.tolist() == [1, 1]
    assert (proven.radius < 1e-6).all()


# ---- no false certificates: ten thousand networks against arb ----------------------------------

FAMILIES = ("tanh", "sigmoid", "softplus")


def family(kind, n):
    """Return `(1 - a) x + a phi(W x + b)` with `a`, `W` and `b` in the input."""
    phi = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus}[kind]

    def F(x, u):
        W, b, a = u[: n * n].reshape(n, n), u[n * n : n * n + n], u[-1]
        return (1 - a) * x + a * phi(W @ x + b)

    return F


def arb_network(kind, n, u, x):
    """Return the next state and the Jacobian in arb, of a box `x` of arb numbers."""
    arb = flint.arb
    W = [[arb(u[i * n + j]) for j in range(n)] for i in range(n)]
    a = arb(u[-1])
    state, J = [], []
    for i in range(n):
        y = arb(u[n * n + i])
        for j in range(n):
            y += W[i][j] * x[j]
        ends = arb(y.lower()), arb(y.upper())
        if kind == "tanh":
            value = y.tanh()
            slopes = [1 - end.tanh() ** 2 for end in ends]
        elif kind == "sigmoid":
            value = 1 / (1 + (-y).exp())
            slopes = [1 / (2 + end.exp() + (-end).exp()) for end in ends]
        else:
            value = (1 + y.exp()).log()
            slopes = [1 / (1 + (-end).exp()) for end in ends]
        slope = slopes[0].union(slopes[1])  # they rise up to 0, and fall beyond
        if kind != "softplus" and y.contains(0):
            slope = slope.union(arb(1 if kind == "tanh" else 0.25))
        state.append((1 - a) * x[i] + a * value)
        J.append([(1 - a) * int(i == j) + a * slope * W[i][j] for j in range(n)])
    return state, J


def arb_holds_one(kind, n, u, centre, radius):
    """Return whether arb proves that the box has exactly one fixed point, and a box around it."""
    arb = flint.arb
    eye = flint.arb_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])
    x = [arb(c) for c in centre]
    for _ in range(8):  # Newton's method far beyond float64
        value, J = arb_network(kind, n, u, x)
        residual = flint.arb_mat(n, 1, [(x[i] - value[i]).mid() for i in range(n)])
        A = eye - flint.arb_mat([[e.mid() for e in row] for row in J])
        step = A.solve(residual)
        x = [(x[i] - step[i, 0]).mid() for i in range(n)]
    C = flint.arb_mat([[e.mid() for e in row] for row in A.inv().tolist()])

    def contraction(middle, r):
        box = [arb(m, r) for m in middle]
        rest = eye - C * (eye - flint.arb_mat(arb_network(kind, n, u, box)[1]))
        rows = rest.tolist()
        return max(float(sum((abs(e) for e in row), arb(0)).upper()) for row in rows)

    small = 1e-25
    value, _ = arb_network(kind, n, u, x)
    off = C * flint.arb_mat(n, 1, [x[i] - value[i] for i in range(n)])
    largest = max(float(abs(off[i, 0]).upper()) for i in range(n))
    exists = largest + contraction(x, small) * small < small
    return exists and contraction([arb(c) for c in centre], radius) < 1, x


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_certificate_of_a_random_network_is_false(kind, n, count=1112):
    rng = np.random.default_rng(n)
    u = rng.standard_normal((count, n * n + n + 1)) * rng.choice([1, 3, 6], (count, 1))
    u[:, -1] = rng.uniform(0.05, 1, count)
    u = np.float32(u)
    F = family(kind, n)
    fps = slowpoints.optimize_batch(F, np.float32(rng.standard_normal((count, n))), u).to_numpy()
    # A third as found; the others somewhat off, some of which have no point near.
    off = rng.choice([0, 1e-4, 1e-1], (count, 1)) * rng.standard_normal((count, n))
    fps = fps.replace(xstar=np.float32(fps.xstar + off), valid=None)
    proven = certify(F, fps)
    # The status is right, and all but points at folds can be proven.
    exact, as_found = fps.status == Status.FIXED_POINT, (off == 0).all(axis=1)
    assert not proven.is_certified[as_found & ~exact].any()
    assert proven.is_certified[as_found & exact].mean() > 0.99
    flint.ctx.prec = 200
    try:
        for row in np.flatnonzero(proven.is_certified):
            settings = [float(v) for v in u[row]]
            centre, outer = proven.centre[row], proven.outer_radius[row]
            holds, root = arb_holds_one(kind, n, settings, centre, outer)
            assert holds, (row, settings)
            for r, c in zip(root, centre, strict=True):
                assert abs(r - flint.arb(c)) <= proven.inner_radius[row]
            distance = sum((r - float(x)) ** 2 for r, x in zip(root, fps.xstar[row], strict=True))
            assert distance.sqrt() <= proven.radius[row]
            _, J = arb_network(kind, n, settings, root)
            sizes = np.abs(np.linalg.eigvals(np.array([[float(e.mid()) for e in r] for r in J])))
            if np.abs(sizes - 1).min() > 1e-6:
                assert proven.index[row] in (-1, (sizes > 1).sum())
                assert proven.is_stable[row] in (None, sizes.max() < 1)
    finally:
        flint.ctx.prec = 53


# ---- what cannot be certified ------------------------------------------------------------------


def test_an_operation_that_is_not_covered_is_named():
    proven = certify(lambda x, u: jax.scipy.special.erfinv(0.5 * x), points(np.zeros((2, 1))))
    assert not proven.is_certified.any() and np.isinf(proven.radius).all()
    assert proven.reason.tolist() == ["not certified: `erf_inv` is not covered"] * 2
    assert [s is None for s in proven.is_stable] == [True, True]


def test_rows_that_are_not_finite_or_not_valid_leave_the_others_alone():
    x = np.array([[np.nan], [0.0], [np.inf], [0.0]])
    proven = certify(one_unit, points(x, valid=np.array([True, True, True, False])))
    assert proven.is_unique.tolist() == [False, True, False, False]
    assert [reason.split(": ")[-1] for reason in proven.reason] == [
        "the row is not finite",
        "",
        "the row is not finite",
        "the row is not valid",
    ]


@pytest.mark.parametrize(
    ("F", "x"),
    [
        (lambda x, u: x, [[0.5, 0.25]]),
        (lambda x, u: jnp.array([[1.0, 0.0], [0.0, 0.5]]) @ x, [[0.5, 0.0]]),
        (lambda x, u: x + 1e-9, [[0.0, 0.0]]),
        (lambda x, u: x + x**2, [[0.0, 0.0]]),
        (lambda x, u: 0.5 * jnp.sign(x), [[0.0, 0.0]]),
        (lambda x, u: jnp.where(x > 0, 0.5 * x - 1, 0.5 * x + 1), [[0.0, 0.0]]),
        (lambda x, u: x + jnp.exp(-x), [[30.0, 30.0]]),
        (lambda x, u: x / (x - x), [[1.0, 1.0]]),
        (lambda x, u: 0.5 * x - 0.5 + 1e-6 * jnp.tanh(jnp.log(x)), [[-1.0, -1.0]]),
        (lambda x, u: 0.5 * x - 0.5 + 0 * jnp.sin(jnp.sqrt(x)), [[-1.0, -1.0]]),
        (lambda x, u: 0.5 * x - 0.5 + jnp.clip(1e-6 * jnp.nan, -1, 1), [[-1.0, -1.0]]),
    ],
    ids=["identity", "line", "shift", "double root", "sign", "jump", "tail", "nan",
         "tanh of nan", "sin of nan", "clip of nan"],
)  # fmt: skip
def test_lines_folds_jumps_and_tails_get_no_certificate(F, x):
    proven = certify(F, points(np.array(x)))
    assert not proven.is_certified.any()
    assert proven.reason[0].startswith("not certified: ")
    assert proven.outer_radius[0] == 0 or not proven.is_unique[0]


@pytest.mark.parametrize(
    ("F", "rows", "certified"),
    [
        # There is no fixed point: it would be below 0 on the right, and above 0 on the left.
        (lambda x, u: jax.lax.select_n((x > 0).astype(int), 0.5 * x + 1e-6, 0.5 * x - 1e-6),
         [[1e-7]], [False]),
        # A row that is undecided leaves the others as they are.
        (lambda x, u: jax.lax.cond(x[0] > 0, lambda x: 0.5 * x + 1, lambda x: 0.5 * x + 50, x),
         [[2.0], [0.0]], [True, False]),
        (lambda x, u: 0.5 * x + jnp.where(jnp.isfinite(jnp.array([jnp.inf, 1.0])), 0.0, 1.0),
         [[2.0, 0.0]], [True]),
        (lambda x, u: jnp.where(jnp.isnan(jnp.array([0.0, jnp.nan])), 1.0, 0.5 * x),
         [[0.0, 1.0]], [True]),
        # The sum is -0.5e308, but overflows on the way.
        (lambda x, u: jnp.clip(jnp.array([1, 1, -1.5, -1]) * 1e308 @ x, -1, 1) * jnp.ones(4),
         [[1.0, 1.0, 1.0, 1.0]], [False]),
        (lambda x, u: 1.5 * x + x.at[jnp.array([9])].get(mode="fill", fill_value=-1.0) + 1,
         [[0.0]], [False]),
    ],
    ids=["select_n", "cond", "isfinite", "isnan", "overflow", "fill"],
)  # fmt: skip
def test_traps_give_no_false_certificates(F, rows, certified):
    with jax.enable_x64(True):
        proven = certify(F, points(np.array(rows)))
    assert proven.is_certified.tolist() == certified
    assert (np.abs(proven.centre - rows).max(axis=1)[certified] < 1e-12).all()


def test_networks_without_inputs_are_certified():
    B = jnp.ones((2, 0))
    F = lambda x, u: 0.5 * x + B @ u  # noqa: E731
    fps = points(np.zeros((3, 2)), np.zeros((3, 0)))
    assert certify(F, fps).is_unique.all()


def test_a_row_far_from_its_point_may_be_certified_but_not_unique():
    """Its ball reaches past the point to where another one is."""
    fps = points(np.array([[4e-4]]))
    with jax.enable_x64(True):
        proven = certify(lambda x, u: x + (x**2 - 1e-6), fps)
    assert proven.is_certified[0] and not proven.is_unique[0]
    assert proven.reason[0].startswith("not unique: ")
    np.testing.assert_allclose(proven.centre[0], 1e-3, rtol=1e-9)
    far = certify(lambda x, u: x + (x**2 - 1e-6), fps.replace(tol_unique=1e-4))
    assert not far.is_certified[0] and "farther away than `tol_unique` = 0.0001" in far.reason[0]


# ---- stability ---------------------------------------------------------------------------------


def linear(A):
    return lambda x, u: jnp.asarray(A, x.dtype) @ x


@pytest.mark.parametrize(
    ("A", "is_stable", "index"),
    [
        ([[0.5, 100.0], [0.0, 0.5]], True, 0),  # defective: no basis of eigenvectors
        (np.diag(np.ones(9), 1).tolist(), True, 0),  # nilpotent, as a delay line
        ([[0.5, 0.0], [0.0, 1.0 + 2.0**-20]], False, 1),
        ([[0.5, 0.0], [0.0, -1.0 - 2.0**-20]], False, 1),
        ([[0.5, 0.0], [0.0, -1.0 + 2.0**-20]], True, 0),
        ([[0.5, 0.0], [0.0, -1.0]], None, -1),  # on the circle
        ([[0.0, -1.0], [1.0, 0.0]], None, -1),
        ([[0.0, -1.1], [1.1, 0.0]], False, 2),
        ([[2.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.5]], False, -1),
    ],
)
def test_stability_is_proven_refuted_or_open(A, is_stable, index):
    proven = certify(linear(A), points(np.zeros((1, len(A)))))
    assert proven.is_unique[0]
    assert proven.is_stable[0] is is_stable
    assert proven.index[0] == index


@pytest.mark.parametrize(("rate", "is_stable"), [(-1e-3, True), (1e-3, False)])
def test_in_continuous_time_the_real_part_decides(rate, is_stable):
    F = ContinuousTime(lambda x, u: jnp.array([[rate, -2.0], [2.0, rate]]) @ x)
    proven = certify(F, points(np.zeros((1, 2))))
    assert proven.is_stable[0] is is_stable
    assert proven.index[0] == (0 if is_stable else 2)


# ---- unique by certificate ---------------------------------------------------------------------


def two_roots(x, u):
    """Return a map with fixed points at -1e-4 and 1e-4."""
    return x + 100 * (x**2 - 1e-8)


def test_points_nearer_than_the_tolerance_are_two_if_that_is_proven():
    x = np.array([[1e-4], [-1e-4], [1e-4 + 1e-9]])
    fps = points(x, qstar=np.array([1e-20, 2e-20, 3e-20]))
    assert unique(fps).hits.tolist() == [3, 0, 0]
    kept = unique(fps, by="certificate", F=two_roots)
    assert kept.valid.tolist() == [True, True, False]
    assert kept.hits.tolist() == [2, 1, 0]
    best = unique(fps, by="certificate", F=two_roots, size=3)
    np.testing.assert_array_equal(best.xstar, [[1e-4], [-1e-4], [1e-4]])
    assert best.valid.tolist() == [True, True, False] and best.hits.tolist() == [2, 1, 0]


def test_rows_at_one_point_are_not_proven_to_be_two():
    proven = certify(two_roots, points(np.array([[1e-4], [1e-4 + 1e-9], [-1e-4]])))
    assert proven.are_same().tolist() == [
        [True, True, False],
        [True, True, False],
        [False] * 2 + [True],
    ]
    assert (proven.are_distinct() == ~proven.are_same()).all()
    assert "Not all of them are proven to be distinct." in str(proven)


def test_rows_farther_apart_than_the_tolerance_are_one_if_that_is_proven():
    x = np.array([[0.3], [-0.2], [0.0]])
    fps = points(x, qstar=np.array([2.0, 3.0, 1.0]))
    assert unique(fps).valid.all()
    kept = unique(fps, by="certificate", F=lambda x, u: 0.5 * x)
    assert kept.valid.tolist() == [False, False, True] and kept.hits.tolist() == [0, 0, 3]


def test_where_nothing_is_proven_the_distance_decides():
    x = np.array([[0.0, 1.0], [0.0, 1.0005], [0.0, 2.0], [np.nan, 0.0]])
    kept = unique(points(x), by="certificate", F=lambda x, u: x)
    assert np.asarray(kept.valid).sum() == 2 and kept.hits.sum() == 3
    kept = unique(points(x, cond_id=np.array([0, 1, 0, 0])), by="certificate", F=lambda x, u: x,
                  within_conditions=True)  # fmt: skip
    assert np.asarray(kept.valid).tolist() == [True, True, True, False]


def test_rows_under_other_inputs_are_other_points():
    fps = points(np.zeros((3, 1)), np.array([[0.0], [0.0], [1e-9]]))
    kept = unique(fps, by="certificate", F=lambda x, u: 0.5 * x)
    assert np.asarray(kept.valid).sum() == 2


@pytest.mark.slow
def test_unique_by_certificate_agrees_on_a_trained_network():
    fps = found_in("tanh")
    again = unique(fps, by="certificate", F=trained("tanh"))
    assert np.asarray(again.valid).all() and again.hits.tolist() == np.asarray(fps.hits).tolist()


# ---- arguments ---------------------------------------------------------------------------------


@pytest.mark.checks_input
def test_bad_arguments_are_refused():
    fps = points(np.zeros((1, 1)))
    with pytest.raises(TypeError, match="fps"):
        certify(one_unit, np.zeros((1, 1)))
    with pytest.raises(ValueError, match="inputs"):
        certify(one_unit, FixedPoints(xstar=np.zeros((1, 1))))
    with pytest.raises(TypeError, match=r"certify: `fps` is traced.*outside of `jit`"):
        jax.jit(lambda fps: certify(one_unit, fps).radius)(fps)
    with pytest.raises(ValueError, match=r"has shape \(1, 0\); expected at least one state"):
        certify(lambda x, u: x, points(np.zeros((1, 0))))
    with pytest.raises(ValueError, match="`F` is None"):
        unique(fps, by="certificate")
    with pytest.raises(ValueError, match="by"):
        unique(fps, by="proof", F=one_unit)
    with pytest.raises(TypeError, match="is traced"):
        jax.jit(lambda fps: unique(fps, by="certificate", F=one_unit))(fps)


def test_no_rows_give_no_certificates():
    proven = certify(one_unit, points(np.zeros((0, 2))))
    assert len(proven) == 0 and proven.are_same().shape == (0, 0)
    assert str(proven).startswith("0 of 0 points")
    assert unique(points(np.zeros((0, 2))), by="certificate", F=one_unit).n == 0


@pytest.mark.slow
@pytest.mark.parametrize("unit", [(1e-6, 1.0, 1e6), (1e6, 1e6, 1.0)], ids=str)
def test_states_of_sizes_far_apart_have_boxes_in_units_of_their_own(unit):
    """A box that is as wide for all states would reach over the other points of the smallest."""
    unit = np.float32(unit)
    W = jnp.float32([[1.6, 0.1, -0.1], [0.1, 1.5, 0.1], [-0.1, 0.1, 1.7]])

    def usual(x, u):
        return jnp.tanh(W @ x)

    def scaled(x, u):
        return unit * usual(x / unit, u)

    fps, complete = slowpoints.find_all(usual, (-np.ones(3), np.ones(3)), np.zeros(1))
    assert complete and fps.n == 27
    x = np.float32(fps.xstar)
    fps = FixedPoints(xstar=np.tile(unit * x, (2, 1)), inputs=np.zeros((54, 1), np.float32))
    told = certify(scaled, fps)
    assert told.is_unique.all() and None not in told.is_stable and (told.index >= 0).all()
    # The origin is proven in the usual unit as well.
    assert (told.unit.min(axis=1) < 1).sum() >= 52
    np.testing.assert_array_equal(told.unit, 2.0 ** np.round(np.log2(told.unit)))
    at = np.arange(54) % 27
    np.testing.assert_array_equal(told.are_distinct(), at[:, None] != at)
    np.testing.assert_array_equal(told.are_same(), at[:, None] == at)
    np.testing.assert_array_equal(
        told.index, certify(usual, fps.replace(xstar=fps.xstar / unit)).index
    )
    away = np.linalg.norm((told.centre - fps.xstar) / told.unit, axis=1)
    assert (away <= told.radius).all()
    # The other points are outside of each one's box, of which the corners are inside.
    rows, others = np.nonzero(at[:, None] != at)
    assert told.excludes(told.centre[others], rows).all()
    corner = told.centre + 0.999 * told.outer_radius[:, None] * told.unit
    assert not told.excludes(corner, np.arange(54)).any()
    assert told.excludes(
        corner + 0.002 * told.outer_radius[:, None] * told.unit, np.arange(54)
    ).all()
    # Joined with what was proven in the usual unit, where the two mean other boxes.
    single = certify(scaled, fps[:1].replace(xstar=np.float32(unit) * [[0.0, 0.0, 0.0]]))
    both = slowpoints.Certificates.concatenate([told, single])
    assert both.are_same()[-1].sum() == 3 and both.are_distinct()[-1].sum() == 52
