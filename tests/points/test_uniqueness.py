"""`unique` against its definition, on data made to sit on the edges of that definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model_checks import fast_compilation as fast_compilation

from slowpoints._points import covering
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.unique import unique

N_ROWS, SMALL_BLOCK = 21, 8
quick = settings(max_examples=200, deadline=None)


@pytest.fixture(scope="module", params=["host", "program"])
def small_blocks(request):
    """The host, or blocks of 8 rows, so that small examples span several.

    Shapes are those of no other test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covering, "_MOST_ON_HOST", N_ROWS if request.param == "host" else 0)
        patch.setattr(covering, "_BLOCK", SMALL_BLOCK)
        covering._survivors.clear_cache()
        yield
    covering._survivors.clear_cache()


# ---- the definition, in NumPy ------------------------------------------------------------------


def joint(fps):
    parts = [np.asarray(fps.xstar, float)]
    if fps.inputs is not None:
        parts.append(np.asarray(fps.inputs, float))
    return np.concatenate(parts, axis=1)


def speed(fps):
    return np.zeros(fps.n) if fps.qstar is None else np.asarray(fps.qstar, float)


def usable_rows(fps):
    usable = np.isfinite(joint(fps)).all(axis=1) & np.isfinite(speed(fps))
    return usable if fps.valid is None else usable & np.asarray(fps.valid)


def near_pairs(points, tol):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.linalg.norm(points[:, None] - points[None], axis=-1) <= tol


def greedy(fps, tol):
    """Return the survivors where no two rows tie in `qstar`."""
    near, usable, kept = near_pairs(joint(fps), tol), usable_rows(fps), np.zeros(fps.n, bool)
    for row in np.argsort(speed(fps), kind="stable"):
        kept[row] = usable[row] and not (near[row] & kept).any()
    return kept


def assert_defined(fps, tol, survives):
    near, q, usable = near_pairs(joint(fps), tol), speed(fps), usable_rows(fps)
    survives = np.asarray(survives)
    assert survives.dtype == bool and survives.shape == (fps.n,)
    assert not (survives & ~usable).any(), "an unusable row survived"
    assert not np.triu(near[survives][:, survives], 1).any(), "two survivors are the same point"
    covers = near & survives & (q <= q[:, None])
    assert covers[usable].any(axis=1).all(), "a row was dropped without a better survivor near it"


def points_of(fps, survives):
    rows = np.column_stack([joint(fps), speed(fps)])[np.asarray(survives)]
    return rows[np.lexsort(rows.T)]


def make(points, q=None, **fields):
    points = np.asarray(points)
    return FixedPoints(xstar=points, qstar=None if q is None else np.asarray(q), **fields)


# ---- strategies --------------------------------------------------------------------------------


@st.composite
def examples(draw, distinct_q=False):
    """Rows on a lattice or in clusters, some of them invalid or not finite, and a tolerance.

    On the lattice many distances equal the tolerance exactly.
    """
    lattice = draw(hnp.arrays(np.float64, (N_ROWS, 2), elements=st.integers(-2, 2).map(float)))
    if draw(st.booleans()):
        points = 0.25 * lattice
        tol = draw(st.sampled_from([0.0, 0.25, 0.5, 1.25]))
    else:
        noise = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((N_ROWS, 2))
        points = lattice + draw(st.sampled_from([1e-12, 1e-3, 0.3])) * noise
        tol = draw(st.sampled_from([1e-13, 1e-3, 0.3, 1.5]))
    points = points + draw(st.sampled_from([0.0, 1e6]))
    if distinct_q:
        q = np.array(draw(st.permutations(range(N_ROWS))), float)
    else:
        q = draw(hnp.arrays(np.float64, N_ROWS, elements=st.integers(0, 2).map(float)))
    broken = draw(st.lists(st.integers(0, N_ROWS - 1), max_size=3))
    points[broken[:1]], q[broken[1:]] = np.nan, np.inf
    valid = draw(hnp.arrays(bool, N_ROWS, elements=st.integers(0, 5).map(bool)))
    return make(points[:, :1], q, inputs=points[:, 1:], valid=valid), tol


# ---- properties --------------------------------------------------------------------------------


@pytest.mark.slow
@quick
@given(examples())
def test_survivors_satisfy_the_definition(small_blocks, example):
    fps, tol = example
    assert_defined(fps, tol, unique(fps, tol).valid)


@pytest.mark.slow
@quick
@given(examples(distinct_q=True))
def test_survivors_are_the_greedy_ones(small_blocks, example):
    fps, tol = example
    np.testing.assert_array_equal(unique(fps, tol).valid, greedy(fps, tol))


@pytest.mark.slow
@quick
@given(examples(), st.permutations(range(N_ROWS)), st.booleans())
def test_order_of_rows_does_not_matter(small_blocks, example, permutation, drop_q):
    fps, tol = example
    fps = fps.replace(qstar=None) if drop_q else fps
    moved = fps[np.array(permutation)]
    np.testing.assert_array_equal(
        points_of(fps, unique(fps, tol).valid), points_of(moved, unique(moved, tol).valid)
    )


@pytest.mark.slow
@quick
@given(examples())
def test_dropping_duplicates_twice_changes_nothing(small_blocks, example):
    fps, tol = example
    once = unique(fps, tol)
    np.testing.assert_array_equal(unique(once, tol).valid, once.valid)


# ---- blocks, at their real size ----------------------------------------------------------------

BLOCK = covering._BLOCK


@pytest.mark.slow_cases
@pytest.mark.parametrize("n", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("n_distinct", [1, 27, None])
def test_block_boundaries(n, n_distinct):
    rng = np.random.default_rng(n)
    centres = rng.standard_normal((n_distinct or n, 5))
    labels = np.arange(n) % len(centres)
    points = (centres[labels] + 1e-5 * rng.standard_normal((n, 5))).astype(np.float32)
    fps = make(points, rng.permutation(n))
    survives = np.asarray(unique(fps, 1e-3).valid)
    assert survives.sum() == min(n, len(centres))
    np.testing.assert_array_equal(survives, greedy(fps, 1e-3))


@pytest.mark.parametrize("tie", [True, False])
def test_chain_with_links_just_under_tol(tie):
    # Each row is near its two neighbours only; n spans several blocks.
    n, tol = 3 * BLOCK - 5, 1e-3
    points = 0.999 * tol * np.arange(n)[:, None]
    fps = make(points, np.zeros(n) if tie else np.arange(n))
    survives = np.asarray(unique(fps, tol).valid)
    assert_defined(fps, tol, survives)
    if not tie:
        np.testing.assert_array_equal(survives, np.arange(n) % 2 == 0)


def test_lattice_whose_neighbours_are_exactly_tol_apart():
    axes = np.meshgrid(*[np.arange(9.0)] * 3)
    points = 0.5 * np.stack(axes, axis=-1).reshape(-1, 3)
    fps = make(points, np.random.default_rng(0).permutation(len(points)))
    for tol in (0.5, np.nextafter(0.5, 0), 0.0):
        np.testing.assert_array_equal(unique(fps, tol).valid, greedy(fps, tol))
    assert unique(fps, np.nextafter(0.5, 0)).valid.all()


def test_memory_does_not_grow_with_the_square_of_the_rows():
    n = 50_000
    shape = jax.ShapeDtypeStruct((n, 2), jnp.float32)
    compiled = jax.jit(lambda x: unique(FixedPoints(xstar=x)).valid).lower(shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200 * n


# ---- single edges of the definition ------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e6, -(2.0**40)])
@pytest.mark.parametrize("scale", [1.0, 2.0**-10, 2.0**12])
def test_distance_of_exactly_tol_is_the_same_point(offset, scale):
    points = offset + scale * np.array([[0.0, 0.0], [3.0, 4.0]])
    tol = 5 * scale
    assert unique(make(points, [0, 1]), tol).valid.tolist() == [True, False]
    assert unique(make(points, [0, 1]), np.nextafter(tol, 0)).valid.tolist() == [True, True]


def test_zero_tol_merges_equal_points_only():
    points = np.array([[1.0, 0.0], [1.0, -0.0], [np.nextafter(1, 2), 0.0], [1.0, 1e-45]])
    survives = unique(make(points, [1, 0, 2, 3]), 0.0).valid
    assert survives.tolist() == [False, True, True, True]


def test_infinite_tol_keeps_the_best_row():
    fps = make([[0.0], [1e300], [-5.0]], [2.0, 3.0, 1.0])
    assert unique(fps, np.inf).valid.tolist() == [False, False, True]


@pytest.mark.parametrize("q", [None, np.zeros(5), np.full(5, -1)])
def test_equal_duplicates_leave_one(q):
    assert unique(make(np.ones((5, 3)), q)).valid.sum() == 1


def test_inputs_separate_equal_states():
    fps = make(np.zeros((4, 2)), [0, 1, 2, 3], inputs=np.array([[0.0], [3.0], [0.0], [3.0]]))
    assert unique(fps, 2.9).valid.tolist() == [True, True, False, False]
    assert unique(fps, 3.0).valid.tolist() == [True, False, False, False]


def test_distance_is_joint_over_states_and_inputs():
    fps = make([[0.0], [3.0]], [0, 1], inputs=np.array([[0.0], [4.0]]))
    assert unique(fps, 4.99).valid.all()
    assert not unique(fps, 5.0).valid.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["xstar", "inputs", "qstar"])
def test_rows_that_are_not_finite_neither_survive_nor_drop_others(bad, field):
    fields = {"xstar": np.zeros((3, 2)), "inputs": np.zeros((3, 1)), "qstar": np.arange(3.0)}
    fields[field][0] = bad
    assert unique(FixedPoints(**fields)).valid.tolist() == [False, True, False]


def test_invalid_rows_neither_survive_nor_drop_others():
    fps = make(np.zeros((3, 2)), [0, 1, 2], valid=np.array([False, True, True]))
    assert unique(fps).valid.tolist() == [False, True, False]


def test_no_usable_row():
    assert not unique(make(np.full((3, 2), np.nan), [0, 1, 2])).valid.any()


def test_large_coordinates_in_float64():
    rng = np.random.default_rng(1)
    points = 1e6 + 1e-3 * rng.integers(0, 4, (200, 3)) + 1e-5 * rng.standard_normal((200, 3))
    fps = make(points, rng.permutation(200))
    for tol in (3e-4, 1e-3, 1.5e-3):
        np.testing.assert_array_equal(unique(fps, tol).valid, greedy(fps, tol))


@pytest.mark.parametrize("far", [1e9, 1e30, 1e200])
@pytest.mark.parametrize("q_far", [0, 99])
def test_diverged_rows_do_not_blur_the_others(far, q_far):
    rng = np.random.default_rng(2)
    points = 1e-3 * rng.standard_normal((60, 3))
    points[:5] = far * np.array([1, 1, 2, -1, 1])[:, None]
    q = rng.permutation(60)
    q[:5] += q_far
    fps = make(points, 60 * q + np.arange(60))
    np.testing.assert_array_equal(unique(fps, 1e-3).valid, greedy(fps, 1e-3))


def test_integer_points_and_narrow_types():
    for dtype in (np.int32, np.float16, np.float32):
        fps = make(np.array([[0], [1], [3]], dtype), np.array([0, 1, 2], dtype))
        assert unique(fps, 1).valid.tolist() == [True, False, True]


# ---- transformations ---------------------------------------------------------------------------


def lanes():
    """Three sets of rows whose pairs lie around 1e-3 apart, closer to it than float32 resolves."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 40, 4)).astype(np.float32)
    x[:, 20:] = x[:, :20]
    x[:, 20:, 0] += rng.uniform(0.99e-3, 1.01e-3, (3, 20)).astype(np.float32)
    valid = rng.random((3, 40)) > np.array([[0.0], [0.1], [0.9]])
    return FixedPoints(
        xstar=jnp.asarray(x[0]), qstar=jnp.arange(40.0), valid=jnp.asarray(valid[0])
    ), jax.tree.map(
        jnp.asarray,
        [
            FixedPoints(xstar=x[i], qstar=rng.permutation(40).astype(np.float32), valid=valid[i])
            for i in range(3)
        ],
    )


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@pytest.mark.slow
def test_jit_equals_eager():
    fps, _ = lanes()
    expected = greedy(fps, 1e-3)
    assert 0 < expected.sum() < 40
    np.testing.assert_array_equal(unique(fps, 1e-3).valid, expected)
    np.testing.assert_array_equal(jax.jit(unique)(fps).valid, expected)
    np.testing.assert_array_equal(jax.jit(unique)(fps, np.float64(1e-3)).valid, expected)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.vmap(f),
        lambda f: jax.jit(jax.vmap(f)),
        lambda f: jax.vmap(jax.jit(f)),
        lambda f: jax.jit(jax.vmap(jax.jit(f))),
    ],
    ids=["vmap", "jit-vmap", "vmap-jit", "jit-vmap-jit"],
)
def test_vmap_equals_a_loop(transform):
    _, each = lanes()
    together = transform(unique)(stack(each))
    assert together.xstar.dtype == jnp.float32
    for i, fps in enumerate(each):
        np.testing.assert_array_equal(together.valid[i], greedy(fps, 1e-3))


def test_vmap_with_size_equals_a_loop():
    _, each = lanes()
    together = jax.vmap(lambda fps: unique(fps, size=30))(stack(each))
    for i, fps in enumerate(each):
        alone = unique(fps, size=30)
        jax.tree.map(lambda t, a, i=i: np.testing.assert_array_equal(t[i], a), together, alone)


@pytest.mark.slow
def test_tol_may_be_traced_and_mapped():
    fps = make(np.array([[0.0], [1.0], [3.0]], np.float32), [0, 1, 2])
    tols = jnp.array([0.5, 1.0, 2.0, 3.0, -1.5])
    counts = jax.vmap(lambda tol: unique(fps, tol).valid.sum())(tols)
    assert counts.tolist() == [3, 2, 2, 1, 3]
    assert jax.jit(unique)(fps, 1.0).tol_unique == fps.tol_unique


@pytest.mark.slow
def test_a_mapped_tol_takes_rows_that_are_not_traced():
    """17 rows are no number that they are filled up to."""
    fps = make(np.arange(17, dtype=np.float32)[:, None], np.arange(17.0))
    tols = jnp.array([0.5, 1.0, 20.0])
    assert jax.vmap(lambda tol: unique(fps, tol).valid.sum())(tols).tolist() == [17, 9, 1]
    sized = jax.vmap(lambda tol: unique(fps, tol, size=10).valid.sum())(tols)
    assert sized.tolist() == [10, 9, 1]


@pytest.mark.slow
def test_gradients_pass_through_the_fields():
    x = jnp.array([[0.0], [1e-4], [1.0]])

    def loss(x, size):
        fps = unique(FixedPoints(xstar=x, qstar=jnp.array([1.0, 0.0, 2.0])), size=size)
        return jnp.sum(
            jnp.where(fps.valid[:, None], jnp.array([[1.0], [2.0], [3.0]]) * fps.xstar, 0)
        )

    assert jax.grad(loss)(x, None).ravel().tolist() == [0, 2, 3]
    assert jax.grad(loss)(x, 3).ravel().tolist() == [0, 1, 2]


def test_a_second_call_does_not_trace_again(monkeypatch):
    monkeypatch.setattr(covering, "_MOST_ON_HOST", 0)
    traces, original = [], covering._order
    monkeypatch.setattr(covering, "_order", lambda *a: traces.append(1) or original(*a))
    rng = np.random.default_rng(4)
    for tol in (1e-3, 0.5, np.float64(2.0), 3):
        for tol_unique in (1e-3, 1e-2):
            points = jnp.asarray(rng.standard_normal((53, 3)), jnp.float32)
            unique(FixedPoints(xstar=points, tol_unique=tol_unique), tol)
            unique(FixedPoints(xstar=points, tol_unique=tol_unique), tol, size=5)
    assert len(traces) == 1


# ---- what is returned --------------------------------------------------------------------------


def full(xp=np):
    """Five rows of which 4 and 1 survive, in that order, every field filled."""
    rng = np.random.default_rng(5)
    fields = {name: rng.standard_normal(5) for name in ("dq", "qstar")}
    fields |= {name: rng.standard_normal((5, 2)) for name in ("F_xstar", "x_init", "inputs")}
    fields |= {name: rng.standard_normal((5, 2, 2)) for name in ("J_xstar", "dFdu")}
    fields |= {
        "xstar": np.array([[0.0, 0], [1, 0], [0, 0], [1, 0], [0, 0]]),
        "inputs": np.zeros((5, 2)),
        "qstar": np.array([4e-12, 2e-12, 3e-12, 5e-12, 1e-12]),
        "eigval_J_xstar": rng.standard_normal((5, 2)) + 1j,
        "eigvec_J_xstar": rng.standard_normal((5, 2, 2)) + 1j,
        "is_stable": rng.random(5) < 0.5,
        "n_iters": np.arange(5, dtype=np.int64),
        "cond_id": np.arange(5, dtype=np.int8),
        "period": np.ones(5, np.int32),
        "cycle_id": np.arange(5, dtype=np.int32),
        "status": np.arange(1, 6, dtype=np.int8),
        "at_kink": rng.random(5) < 0.5,
    }
    return FixedPoints(**{k: xp.asarray(v) for k, v in fields.items()}, dtype=np.float64)


OTHERS = [name for name in FixedPoints.array_fields if name not in ("valid", "hits", "status")]


def test_other_fields_are_passed_through_untouched():
    for fps in (full(), make(np.ones((2, 2)))):
        kept = unique(fps)
        assert all(getattr(kept, name) is getattr(fps, name) for name in OTHERS)
        assert kept.dtype is fps.dtype and fps.valid is None
    assert unique(full()).valid.tolist() == [False, True, False, False, True]


def brute_force_owners(points, q, tol):
    """Return the row that stands for each row: the best of the kept ones that it is near."""
    kept, owner = [], np.zeros(len(points), int)
    for row in np.argsort(q, kind="stable"):
        near = [k for k in kept if np.linalg.norm(points[row] - points[k]) <= tol]
        kept += [] if near else [row]
        owner[row] = near[0] if near else row
    return owner


@pytest.mark.slow_cases
@pytest.mark.parametrize("n", [1, 7, 300, 700])
def test_hits_count_the_rows_of_each_point_and_its_status_is_the_most_certain(n):
    rng = np.random.default_rng(n)
    points, q = rng.standard_normal((n, 2)), rng.random(n)
    valid = rng.random(n) < 0.9
    status = rng.integers(1, 7, n).astype(np.int8)
    fps = FixedPoints(xstar=points, inputs=np.zeros((n, 1)), qstar=q, valid=valid, status=status)
    kept = unique(fps, 0.5)
    owner = np.full(n, -1)
    owner[valid] = np.flatnonzero(valid)[brute_force_owners(points[valid], q[valid], 0.5)]
    expected = np.array([np.sum(owner == row) for row in range(n)])
    certain = [min(status[owner == row], default=status[row]) for row in range(n)]
    inside = jax.jit(lambda fps: unique(fps, 0.5))(fps)
    for found in (kept, inside):
        assert found.hits.tolist() == expected.tolist()
        assert found.status.tolist() == certain and found.status.dtype == np.int8
        assert np.array_equal(np.asarray(found.valid), expected > 0)
    alone = fps.replace(tol_unique=0.5).get_unique()
    assert alone.status.tolist() == np.array(certain)[expected > 0].tolist()
    best = unique(fps, 0.5, size=n + 1)
    assert best.hits.tolist() == [*(expected[np.argsort(q)][expected[np.argsort(q)] > 0])] + [0] * (
        n + 1 - np.sum(expected > 0)
    )


def test_hits_of_rows_that_stand_for_several_are_summed():
    points = np.array([[0.0], [0.1], [5.0]])
    fps = FixedPoints(xstar=points, qstar=np.array([2e-9, 1e-9, 3e-9]), hits=np.array([3, 4, 5]))
    assert unique(fps, 0.5).hits.tolist() == [0, 7, 5]
    assert fps.replace(tol_unique=0.5).get_unique().hits.tolist() == [7, 5]


def test_a_number_that_is_no_status_is_the_least_certain():
    points, q = np.array([[0.0], [0.1], [5.0]]), np.array([2e-9, 1e-9, 3e-9])
    fps = FixedPoints(xstar=points, qstar=q, status=np.array([4, 0, 0], np.int8))
    for made in (unique, jax.jit(unique, static_argnums=1)):
        assert made(fps, 0.5).status.tolist() == [4, 4, 0]


def test_tol_unique_is_carried():
    fps = make(np.ones((2, 2)), tol_unique=0.25)
    assert unique(fps).tol_unique == 0.25
    assert unique(fps, 0.5).tol_unique == 0.5
    assert unique(fps, 0.5, size=1).tol_unique == 0.5


def test_default_tol_is_that_of_the_object():
    points = [[0.0], [0.2]]
    assert unique(make(points, tol_unique=0.25)).valid.sum() == 1
    assert unique(make(points, tol_unique=0.1)).valid.sum() == 2


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 9])
def test_size_gives_the_best_rows_first(size):
    fps = full()
    kept = unique(fps, size=size)
    rows = np.array([4, 1] + [4] * 7)[:size]
    assert kept.n == size
    assert kept.valid.tolist() == [i < 2 for i in range(size)]
    for name in OTHERS:
        value, expected = getattr(kept, name), getattr(fps, name)[rows]
        assert isinstance(value, np.ndarray) and value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def test_size_keeps_float64_inside_jit():
    fps = full()
    kept = jax.jit(lambda: unique(fps, size=3))()
    assert kept.xstar.dtype == np.float64
    np.testing.assert_array_equal(kept.J_xstar, fps.J_xstar[[4, 1, 4]])


def test_size_of_jax_arrays_gives_jax_arrays():
    kept = unique(full(jnp), size=3)
    assert all(isinstance(getattr(kept, name), jax.Array) for name in OTHERS)
    assert kept.xstar.dtype == jnp.float32


def test_size_without_survivors():
    kept = unique(make(np.full((2, 2), np.nan)), size=3)
    assert kept.n == 3 and not kept.valid.any()


@pytest.mark.parametrize("xp", [np, jnp])
def test_no_rows(xp):
    fps = FixedPoints(xstar=xp.zeros((0, 3)), qstar=xp.zeros(0))
    assert unique(fps).n == 0
    kept = unique(fps, size=2)
    assert kept.xstar.shape == (2, 3) and kept.qstar.shape == (2,)
    assert kept.xstar.dtype == fps.xstar.dtype and type(kept.xstar) is type(fps.xstar)
    assert kept.valid.tolist() == [False, False]


def test_global_precision_is_left_alone():
    before = jax.config.read("jax_enable_x64")
    assert unique(full(), size=2).xstar.dtype == np.float64
    assert jax.config.read("jax_enable_x64") == before
    assert jnp.ones(2).dtype == (jnp.float64 if before else jnp.float32)


def test_works_with_x64_on():
    fps, _ = lanes()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.jit(unique)(fps).valid, greedy(fps, 1e-3))


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize("tol", [-1e-9, np.nan, -np.inf])
def test_bad_tol_is_named(tol):
    with pytest.raises(ValueError, match="`tol`"):
        unique(make(np.ones((2, 2))), tol)


@pytest.mark.checks_input
def test_bad_default_tol_is_named():
    with pytest.raises(ValueError, match=r"`tol_unique` is -1.0"):
        unique(make(np.ones((2, 2)), tol_unique=-1.0))


@pytest.mark.checks_input
def test_missing_points_are_named():
    with pytest.raises(ValueError, match="xstar"):
        unique(FixedPoints(qstar=np.zeros(3)))


@pytest.mark.checks_input
def test_negative_size_is_named():
    with pytest.raises(ValueError, match="`size`"):
        unique(make(np.ones((2, 2))), size=-1)


# ---- conditions --------------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("labels", [["b", "a", "c"], [7, -1, 3], [0.5, 1.5, 1.25]], ids=str)
@pytest.mark.parametrize("xp", [np, jnp])
def test_within_conditions_each_keeps_what_it_would_keep_alone(labels, xp):
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, (300, 2)) + 0.1 * rng.normal(size=(300, 2))
    condition = np.array(labels)[rng.integers(0, 3, 300)]
    if condition.dtype.kind != "U":
        condition = xp.asarray(condition)
    fps = make(points, rng.permutation(300).astype(float), cond_id=condition)
    kept = np.asarray(unique(fps, 0.3, within_conditions=True).valid)
    for label in labels:
        rows = np.asarray(condition) == label
        alone = np.asarray(unique(fps[rows], 0.3).valid)
        assert alone.sum() >= 16
        np.testing.assert_array_equal(kept[rows], alone)
    assert kept.sum() > np.asarray(unique(fps, 0.3).valid).sum()


def test_without_the_word_conditions_do_not_matter():
    """The distance is that of states and inputs alone."""
    fps = make([[0.0], [0.0]], [1.0, 2.0], inputs=np.array([[0.0], [1e-4]]), cond_id=np.arange(2))
    assert np.asarray(unique(fps, 1e-3).valid).tolist() == [True, False]
    kept = jax.jit(lambda fps: unique(fps, 1e-3, within_conditions=True))(fps)
    assert np.asarray(kept.valid).tolist() == [True, True]


def test_missing_conditions_are_named():
    with pytest.raises(ValueError, match="cond_id"):
        unique(make([[0.0]]), within_conditions=True)
