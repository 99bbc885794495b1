"""`FixedPoints`: rows, fields, files, and life as a pytree."""

import inspect
import itertools
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import leaves_equal

from slowpoints import FixedPoints, Status, decompose

pytestmark = pytest.mark.fast

N_ROWS, N_STATES, N_INPUTS = 5, 3, 2
SHAPES = {
    "xstar": (N_STATES,),
    "F_xstar": (N_STATES,),
    "x_init": (N_STATES,),
    "inputs": (N_INPUTS,),
    "qstar": (),
    "dq": (),
    "n_iters": (),
    "J_xstar": (N_STATES, N_STATES),
    "dFdu": (N_STATES, N_INPUTS),
    "eigval_J_xstar": (N_STATES,),
    "eigvec_J_xstar": (N_STATES, N_STATES),
    "is_stable": (),
    "cond_id": (),
    "valid": (),
    "period": (),
    "cycle_id": (),
    "status": (),
}
DTYPES = {
    "n_iters": np.int64,
    "eigval_J_xstar": np.complex128,
    "eigvec_J_xstar": np.complex128,
    "is_stable": bool,
    "valid": bool,
    "status": np.int8,
}


def arrays(n=N_ROWS, seed=0):
    """Return a distinct array for every field, none of whose rows repeat (booleans apart)."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in SHAPES.items():
        value = rng.normal(size=(n, *shape))
        dtype = DTYPES.get(name, np.float64)
        if dtype is bool:
            values[name] = value > 0
        elif dtype is np.complex128:
            values[name] = value + 1j * rng.normal(size=value.shape)
        elif dtype is np.int64:
            values[name] = rng.permutation(1000)[:n]
        else:
            values[name] = value
    values["cond_id"] = rng.permutation(1000)[:n]
    values["valid"] = np.arange(n) % 3 != 1
    values["status"] = np.arange(n, dtype=np.int8) % 6 + 1
    return values


def full(n=N_ROWS, seed=0, **fields):
    return FixedPoints(**(arrays(n, seed) | fields))


def jax_backed():
    return jax.tree.map(jnp.asarray, full())


def rows(fps):
    return {name: np.asarray(getattr(fps, name)) for name in SHAPES}


def assert_rows(fps, index):
    """`fps` is `full()` at the given rows, in all fields."""
    for name, value in arrays().items():
        np.testing.assert_array_equal(getattr(fps, name), value[index], err_msg=name)


both_backings = pytest.mark.parametrize("make", [full, jax_backed], ids=["numpy", "jax"])


# ---- construction ------------------------------------------------------------------------------


def test_the_keywords_stand_in_the_documented_order():
    names = list(inspect.signature(FixedPoints).parameters)
    assert names[:15] == [
        "xstar",
        "F_xstar",
        "x_init",
        "inputs",
        "qstar",
        "dq",
        "n_iters",
        "J_xstar",
        "dFdu",
        "eigval_J_xstar",
        "eigvec_J_xstar",
        "is_stable",
        "cond_id",
        "tol_unique",
        "dtype",
    ]
    later = ["valid", "continuous_time", "period", "cycle_id", "status", "hits", "at_kink"]
    assert names[15:] == [*later, "n_modes"]


def test_all_fields_are_optional():
    fps = FixedPoints()
    assert all(getattr(fps, name) is None for name in SHAPES)
    assert (fps.tol_unique, fps.dtype) == (1e-3, np.float32)
    assert (fps.n, fps.n_states, fps.n_inputs, len(fps)) == (0, 0, 0, 0)


def test_fields_are_stored_as_they_are_given():
    given = arrays()
    fps = FixedPoints(**given, tol_unique=0.5, dtype=np.float64)
    assert all(getattr(fps, name) is given[name] for name in SHAPES)
    assert (fps.tol_unique, fps.dtype) == (0.5, np.float64)


def test_the_sizes_are_those_of_the_fields():
    fps = full()
    assert (fps.n, len(fps), fps.n_states, fps.n_inputs) == (N_ROWS, N_ROWS, N_STATES, N_INPUTS)


def test_the_sizes_do_not_need_xstar():
    fps = FixedPoints(x_init=np.zeros((4, 2)))
    assert (fps.n, fps.n_states, fps.n_inputs) == (4, 2, 0)
    assert FixedPoints(qstar=np.zeros(4)).n == 4


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"xstar": np.zeros(3)}, ["xstar", "2 axes", "(3,)"]),
        ({"qstar": np.zeros((3, 1))}, ["qstar", "1 axes", "(3, 1)"]),
        ({"J_xstar": np.zeros((3, 2))}, ["J_xstar", "3 axes", "(3, 2)"]),
        ({"xstar": np.zeros((3, 2)), "qstar": np.zeros(4)}, ["rows", "3", "4"]),
    ],
)
def test_fields_of_wrong_shapes_are_refused(fields, words):
    with pytest.raises(ValueError) as caught:
        FixedPoints(**fields)
    assert [word for word in words if word not in str(caught.value)] == []


def test_replace_changes_a_copy():
    fps = full()
    changed = fps.replace(qstar=np.ones(N_ROWS), tol_unique=0.5)
    assert (changed.qstar == 1).all() and changed.tol_unique == 0.5
    assert_rows(fps, slice(None))
    assert fps.tol_unique == 1e-3


def test_replace_knows_its_fields():
    with pytest.raises(TypeError, match="qsatr"):
        full().replace(qsatr=np.ones(N_ROWS))


# ---- rows --------------------------------------------------------------------------------------


@both_backings
@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0]),
        (3, [3]),
        (-1, [4]),
        (-N_ROWS, [0]),
        (np.int64(2), [2]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [4, 2, 0]),
        (slice(7, None), []),
        ([4, 0, 4], [4, 0, 4]),
        ([-1, 1], [4, 1]),
        ([], []),
        (np.array([2, 2]), [2, 2]),
        (np.zeros(0, int), []),
        (np.array([True, False, True, False, True]), [0, 2, 4]),
        ([False, True, False, False, False], [1]),
        (np.zeros(N_ROWS, bool), []),
        (jnp.array([3, 1]), [3, 1]),
        (jnp.array([False, False, False, True, True]), [3, 4]),
    ],
    ids=str,
)
def test_an_index_selects_rows_of_every_field(make, index, expected):
    selected = make()[index]
    for name, value in rows(make()).items():
        np.testing.assert_array_equal(getattr(selected, name), value[expected], err_msg=name)
    assert selected.n == len(expected)


def test_an_index_keeps_the_settings_and_missing_fields():
    settings = {"tol_unique": 0.5, "dtype": np.float64, "continuous_time": True}
    fps = FixedPoints(xstar=np.zeros((3, 2)), **settings)[1:]
    assert {name: getattr(fps, name) for name in settings} == settings
    assert (fps.qstar, fps.n) == (None, 2)
    assert FixedPoints.concatenate([fps, fps]).replace(qstar=np.ones(4)).continuous_time


@pytest.mark.parametrize(
    ("index", "was"),
    [
        ("a", "is 'a'"),
        (None, "is None"),
        (1.5, "is 1.5"),
        ([0.0, 1.0], r"is the list \[0.0, 1.0\]"),
        (np.zeros(N_ROWS), "is an array of shape .* and dtype float64"),
        (np.zeros((2, 2), int), r"is an array of shape \(2, 2\)"),
    ],
)
def test_an_index_of_another_kind_is_named(index, was):
    with pytest.raises(TypeError, match=f"the index {was}.*; expected an int, a slice, a mask"):
        full()[index]


def test_what_numpys_where_returns_is_an_index():
    chosen = np.arange(N_ROWS) % 2 == 0
    assert leaves_equal(full()[np.where(chosen)], full()[chosen])


@pytest.mark.parametrize(
    "index", [N_ROWS, -N_ROWS - 1, [0, N_ROWS], [-N_ROWS - 1], [True, False], np.ones(6, bool)]
)
def test_an_index_out_of_range_is_an_index_error(index):
    with pytest.raises(IndexError):
        full()[index]


def test_iteration_yields_one_row_at_a_time():
    assert [fp.cond_id.tolist() for fp in full()] == [[k] for k in arrays()["cond_id"]]
    assert list(full()[:0]) == []


@both_backings
def test_compact_drops_invalid_rows(make):
    compact = make().compact()
    np.testing.assert_array_equal(compact.cond_id, arrays()["cond_id"][[0, 2, 3]])
    assert compact.valid is None and compact.n == 3


def test_compact_keeps_all_rows_where_all_are_valid():
    fps = full(valid=None)
    assert fps.compact().n == N_ROWS


def test_to_numpy_keeps_every_value():
    fps = jax_backed().to_numpy()
    assert all(isinstance(getattr(fps, name), np.ndarray) for name in SHAPES)
    assert leaves_equal(fps, jax_backed())


def test_concatenate_joins_rows_in_order():
    joined = FixedPoints.concatenate([full(seed=1), full(3, seed=2), full(0, seed=3)])
    for name in SHAPES:
        expected = np.concatenate([arrays(seed=1)[name], arrays(3, seed=2)[name]])
        np.testing.assert_array_equal(getattr(joined, name), expected, err_msg=name)
        assert isinstance(getattr(joined, name), np.ndarray)


def test_concatenate_undoes_iteration():
    assert leaves_equal(FixedPoints.concatenate(list(full())), full())


def test_concatenate_counts_rows_without_a_mask_as_valid():
    joined = FixedPoints.concatenate([full(), full(2, valid=None)])
    assert joined.valid.tolist() == [*arrays()["valid"], True, True]


@pytest.mark.parametrize(
    ("others", "word"),
    [
        ([full(qstar=None)], "qstar"),
        ([full(tol_unique=0.5)], "tol_unique"),
        ([full(dtype=np.float64)], "dtype"),
        ([full(continuous_time=True)], "continuous_time"),
        ([full().transform(np.eye(N_STATES, 2)).replace(J_xstar=full().J_xstar)], "n_modes"),
        ([full(x_init=np.zeros((N_ROWS, 1)))], "`x_init` has rows of the shapes"),
    ],
)
def test_concatenate_refuses_what_does_not_match(others, word):
    with pytest.raises(ValueError, match=word):
        FixedPoints.concatenate([full(), *others])


def test_concatenate_joins_points_only():
    with pytest.raises(TypeError, match="one of `fps_seq` is 3; expected FixedPoints"):
        FixedPoints.concatenate([full(), 3])


def test_concatenate_needs_something():
    with pytest.raises(ValueError, match="empty"):
        FixedPoints.concatenate([])


# ---- comparison --------------------------------------------------------------------------------


def line_of_points(**fields):
    """Return points at 0, 0.3, 1, 1.2 and 5, with `tol_unique` 0.5."""
    x = np.array([[0.0], [0.3], [1.0], [1.2], [5.0]])
    return FixedPoints(xstar=x, inputs=np.zeros((5, 1)), tol_unique=0.5, **fields)


def one_point(x, u=0.0):
    return FixedPoints(xstar=np.array([[x]]), inputs=np.array([[u]]))


def test_find_returns_the_rows_within_the_tolerance():
    assert line_of_points().find(one_point(0.1)).tolist() == [0, 1]
    assert line_of_points().find(one_point(0.5)).tolist() == [0, 1, 2]  # 0.5 away is the same
    assert line_of_points().find(one_point(3.0)).tolist() == []


def test_find_measures_states_and_inputs_together():
    """0.4 in each is 0.57 in both."""
    assert line_of_points().find(one_point(4.6)).tolist() == [4]
    assert line_of_points().find(one_point(5.0, 0.4)).tolist() == [4]
    assert line_of_points().find(one_point(4.6, 0.4)).tolist() == []


def test_find_passes_over_invalid_rows():
    fps = line_of_points(valid=np.array([False, True, True, True, True]))
    assert fps.find(one_point(0.1)).tolist() == [1]


def test_in_says_whether_there_is_such_a_point():
    assert one_point(1.1) in line_of_points()
    assert one_point(3.0) not in line_of_points()
    assert "something else" not in line_of_points()


def test_points_of_other_dimensions_are_not_in():
    fp = FixedPoints(xstar=np.zeros((1, 2)), inputs=np.zeros((1, 1)))
    assert fp not in line_of_points()


def test_find_takes_one_row():
    with pytest.raises(ValueError, match="one row"):
        line_of_points().find(line_of_points())


def test_get_unique_keeps_the_lowest_q_of_each_point():
    fps = line_of_points(qstar=np.array([2.0, 1.0, 1.0, 2.0, 3.0])).get_unique()
    assert fps.xstar.ravel().tolist() == [0.3, 1.0, 5.0]
    assert fps.valid is None


def test_get_unique_keeps_points_of_different_inputs():
    fps = FixedPoints(xstar=np.zeros((3, 1)), inputs=np.array([[0.0], [1.0], [0.0]]))
    assert sorted(fps.get_unique().inputs.ravel()) == [0.0, 1.0]


# ---- linearised dynamics -----------------------------------------------------------------------


def diagonal_jacobians(xp=np):
    """Return points with eigenvalues (0.5, 0.1), (2, -0.5) and (-3, 2)."""
    J = [np.diag(pair) for pair in ([0.5, 0.1], [-0.5, 2.0], [2.0, -3.0])]
    return FixedPoints(xstar=xp.zeros((3, 2)), J_xstar=xp.asarray(J))


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_decompose_jacobians_fills_the_object_and_returns_it(xp):
    fps = diagonal_jacobians(xp)
    assert not fps.has_decomposed_jacobians
    assert fps.decompose_jacobians() is fps
    assert fps.has_decomposed_jacobians
    np.testing.assert_allclose(fps.eigval_J_xstar, [[0.5, 0.1], [2, -0.5], [-3, 2]])
    assert np.asarray(fps.is_stable).tolist() == [True, False, False]
    assert isinstance(fps.eigval_J_xstar, type(fps.xstar))


def test_jacobians_may_be_assigned_afterwards():
    fps = FixedPoints(xstar=np.zeros((3, 2)))
    fps.J_xstar = diagonal_jacobians().J_xstar
    fps.decompose_jacobians()
    assert fps.is_stable.tolist() == [True, False, False]
    assert fps[1:].eigval_J_xstar.shape == (2, 2)


def test_decompose_jacobians_is_quiet_unless_asked(capsys):
    diagonal_jacobians().decompose_jacobians()
    assert capsys.readouterr().out == ""
    diagonal_jacobians().decompose_jacobians(verbose=True)
    assert "1 stable, 2 not" in capsys.readouterr().out


def test_decompose_jacobians_does_nothing_a_second_time(capsys):
    fps = diagonal_jacobians().decompose_jacobians()
    before = fps.eigval_J_xstar
    fps.decompose_jacobians(verbose=True)
    assert fps.eigval_J_xstar is before
    assert "already" in capsys.readouterr().out


def test_decompose_jacobians_does_nothing_without_jacobians(capsys):
    fps = FixedPoints(xstar=np.zeros((3, 2))).decompose_jacobians(verbose=True)
    assert not fps.has_decomposed_jacobians
    assert "No Jacobians" in capsys.readouterr().out


def test_decompose_jacobians_warns_of_one_that_is_not_finite():
    fps = diagonal_jacobians()
    fps.J_xstar[1, 0, 0] = np.nan
    with pytest.warns(UserWarning, match="1 of 3 Jacobians are not finite.*row 1"):
        fps.decompose_jacobians()
    assert np.isnan(fps.eigval_J_xstar[1]).all() and not np.isnan(fps.eigval_J_xstar[[0, 2]]).any()
    assert fps.is_stable.tolist() == [True, False, False]


@both_backings
def test_transform_maps_points_and_directions(make):
    fps, rng = make(), np.random.default_rng(3)
    U, offset = rng.normal(size=(N_STATES, 2)), rng.normal(size=2)
    moved = fps.transform(U, offset)
    for name in ("xstar", "F_xstar", "x_init"):
        expected = np.asarray(getattr(fps, name)) @ U + offset
        np.testing.assert_allclose(getattr(moved, name), expected, rtol=1e-5, atol=1e-6)
    for name in ("eigvec_J_xstar", "dFdu"):
        expected = np.einsum("dk,ndm->nkm", U, np.asarray(getattr(fps, name)))
        np.testing.assert_allclose(getattr(moved, name), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(moved.eigval_J_xstar, fps.eigval_J_xstar)
    np.testing.assert_array_equal(moved.qstar, fps.qstar)
    assert moved.J_xstar is None and moved.n_states == 2


def test_transform_by_the_identity_changes_nothing():
    moved = full().transform(np.eye(N_STATES)).replace(J_xstar=full().J_xstar)
    assert leaves_equal(moved, full())


@pytest.mark.slow
def test_transform_keeps_what_is_known_of_stability(tmp_path):
    J = np.diag([1.9, 1.5, 1.2, 0.5, 0.4])[None]
    fps = FixedPoints(xstar=np.zeros((1, 5)), J_xstar=J)
    leading, all_of_them = decompose(fps, k=2), decompose(fps)
    assert leading.types() == ["saddle of index 2 or more"]
    assert all_of_them.types() == ["saddle of index 3"]
    for points, k in itertools.product((leading, all_of_them), (2, 5, 7)):
        moved = points.transform(np.eye(5, k) + 0.1)
        moved.save(tmp_path / "moved.npz")
        for same in (moved, FixedPoints.load(tmp_path / "moved.npz"), moved.transform(np.eye(k))):
            assert same.types() == points.types()
            assert same.to_pandas()["type"].tolist() == points.types()
    with pytest.raises(ValueError, match="left_eigenvectors: `eigvec_J_xstar` has shape"):
        leading.transform(np.eye(5, 2)).left_eigenvectors()


def test_transform_needs_a_row_per_state():
    with pytest.raises(ValueError, match=r"`U` has shape \(2, 3\); expected \(3, k\)"):
        full().transform(np.zeros((2, 3)))
    for U, offset, name in ((np.nan, 0.0, "U"), (1.0, np.inf, "offset")):
        with pytest.raises(ValueError, match=f"`{name}` .*finite"):
            full().transform(np.full((N_STATES, 2), U), offset)


def test_the_summary_counts_points_by_their_unstable_directions(capsys):
    fps = diagonal_jacobians().decompose_jacobians()
    fps.qstar, fps.n_iters = np.array([1e-20, 3e-20, 2e-20]), np.array([4, 7, 5])
    fps.print_summary()
    out = capsys.readouterr().out
    assert "Number of fixed points: 3" in out and "State dimension: 2" in out
    assert "median=2.00e-20" in out and "max=7" in out
    assert "Stable fixed points: 1 / 3" in out
    for k in range(3):
        assert f"1 with {k} unstable" in out


def test_the_summary_says_what_hits_and_points_within_tolerance_are(capsys):
    fps = diagonal_jacobians().decompose_jacobians()
    fps.print_summary()
    assert "Hits are" not in capsys.readouterr().out
    status = np.array([Status.FIXED_POINT, Status.SLOW_POINT, Status.WITHIN_TOLERANCE])
    counted = fps.replace(status=status, hits=np.array([3, 2, 1]))
    counted.print_summary()
    told = " ".join(capsys.readouterr().out.split())
    assert "Hits are the starts that ended at the point." in told
    assert "A point within tolerance has a small q, but whether there is a fixed point" in told
    counted[:2].print_summary()
    assert "A point within tolerance" not in " ".join(capsys.readouterr().out.split())


# ---- no rows -----------------------------------------------------------------------------------

NO_ROWS = {
    "of a search": lambda: full(0),
    "selected from some": lambda: full()[[]],
    "without any field": FixedPoints,
}


@pytest.mark.parametrize("make", NO_ROWS.values(), ids=NO_ROWS)
def test_every_method_takes_an_object_without_rows(make, tmp_path):
    fps = make()
    fps.print_summary()
    fps.save(tmp_path / "file")
    U = np.zeros((fps.n_states, 2))
    results = [
        fps,
        fps.get_unique(),
        fps.compact(),
        fps.to_numpy(),
        fps.decompose_jacobians(),
        fps.transform(U),
        fps[:],
        fps[[]],
        fps[np.zeros(0, bool)],
        FixedPoints.concatenate([fps, fps]),
        FixedPoints.load(tmp_path / "file"),
        jax.tree.map(lambda leaf: leaf, fps),
    ]
    assert [len(result) for result in results] == [0] * len(results)
    assert list(fps) == []


def test_nothing_is_found_among_no_rows():
    assert full(0).find(full()[0]).tolist() == []
    assert full()[0] not in full(0)


def test_no_rows_keep_their_shapes():
    for name, shape in SHAPES.items():
        assert getattr(full()[[]], name).shape == (0, *shape)


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fps",
    [
        full(),
        full(tol_unique=0.25, dtype=np.float64),
        full(continuous_time=True),
        jax_backed(),
        full(cond_id=np.array(list("abcdé"))),
        FixedPoints(xstar=np.array([[np.nan, np.inf], [-0.0, 5e-324]])),
        FixedPoints(),
    ],
    ids=["float64", "settings", "flow", "jax", "strings", "special values", "no field"],
)
def test_a_file_holds_every_field_to_the_bit(fps, tmp_path):
    fps.save(tmp_path / "points.npz")
    loaded = FixedPoints.load(tmp_path / "points.npz")
    for name in SHAPES:
        saved, read = getattr(fps, name), getattr(loaded, name)
        if saved is None:
            assert read is None
        else:
            saved = np.asarray(saved)
            assert (read.dtype, read.shape) == (saved.dtype, saved.shape)
            assert read.tobytes() == saved.tobytes()
    assert (loaded.tol_unique, loaded.dtype) == (fps.tol_unique, fps.dtype)
    assert loaded.continuous_time is fps.continuous_time


def test_a_file_of_the_first_format_holds_points_of_a_map(tmp_path):
    np.savez(
        tmp_path / "points.npz",
        slowpoints_format=1,
        tol_unique=0.5,
        dtype="float64",
        fields=["xstar"],
        xstar=np.ones((2, 3)),
    )
    loaded = FixedPoints.load(tmp_path / "points.npz")
    assert (loaded.n, loaded.tol_unique, loaded.dtype) == (2, 0.5, np.float64)
    assert loaded.continuous_time is False


def test_a_file_of_an_earlier_format_has_no_status(tmp_path):
    full(status=None).save(tmp_path / "points.npz")
    with np.load(tmp_path / "points.npz") as file:
        content = dict(file)
    np.savez(tmp_path / "points.npz", **content | {"slowpoints_format": 2})
    loaded = FixedPoints.load(tmp_path / "points.npz")
    assert loaded.status is None and loaded.n == N_ROWS


@pytest.mark.parametrize("codes", [[-1, 1], [1, 7], [300, 1]])
def test_a_file_with_numbers_that_are_no_status_is_refused(tmp_path, codes):
    FixedPoints(status=np.array(codes)).save(tmp_path / "points.npz")
    with pytest.raises(ValueError, match=r"`status` is from .* which no search gives"):
        FixedPoints.load(tmp_path / "points.npz")


def test_a_status_is_printed_in_words():
    assert [int(status) for status in Status] == [1, 2, 3, 4, 5, 6]
    assert f"{Status.SLOW_POINT}, {Status.NOT_FINITE}" == "slow point, not finite"
    assert str(Status(np.int8(3))) == "within tolerance"
    assert f"{Status.ESCAPED:>9}" == "  escaped"


def test_the_status_is_in_the_data_frame_in_words():
    pytest.importorskip("pandas")
    frame = FixedPoints(qstar=np.zeros(3), status=np.array([2, 1, 0], np.int8)).to_pandas()
    assert frame["status"].tolist() == ["slow point", "fixed point", "unknown"]
    assert "status" not in FixedPoints(qstar=np.zeros(3)).to_pandas()


def test_the_summary_calls_a_fixed_point_only_what_is_one(capsys):
    eigval = np.array([[0.5, 0.1], [2.0, 0.1], [1.0, 0.1]])
    fps = FixedPoints(
        xstar=np.zeros((3, 2)),
        eigval_J_xstar=eigval,
        is_stable=eigval[:, 0] < 1,
        status=np.array([1, 1, 2], np.int8),
    )
    fps.print_summary()
    out = capsys.readouterr().out
    assert "Number of fixed points: 2\n" in out and "Stable fixed points: 1 / 2\n" in out
    assert "not known to be fixed points: 1 slow point\n" in out
    assert out.count("fixed point") == 5  # above, and in two rows of the table
    fps[2].print_summary()
    out = capsys.readouterr().out
    assert "Number of fixed points: 0\n" in out and "Fixed Points" not in out
    fps[:2].print_summary()
    assert "status" not in capsys.readouterr().out


def test_the_name_of_the_file_is_kept(tmp_path):
    full().save(str(tmp_path / "new" / "folder" / "points.dat"))
    assert os.listdir(tmp_path / "new" / "folder") == ["points.dat"]
    assert FixedPoints.load(str(tmp_path / "new" / "folder" / "points.dat")).n == N_ROWS


def test_a_file_is_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    full().save(tmp_path / "points")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("points", "other")]
    assert modes[0] == modes[1]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "points.npz"
    full().save(path)

    def full_disk(file, **data):
        file.write(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="no space"):
        full(2).save(path)
    assert os.listdir(tmp_path) == ["points.npz"]
    assert FixedPoints.load(path).n == N_ROWS


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        FixedPoints.load(tmp_path / "points.npz")


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256))])
def test_garbage_is_a_value_error(tmp_path, content):
    (tmp_path / "points.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(tmp_path / "points.npz")


def test_a_file_of_someone_else_is_a_value_error(tmp_path):
    np.savez(tmp_path / "points.npz", xstar=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not written by"):
        FixedPoints.load(tmp_path / "points.npz")


def test_a_pickle_is_not_opened(tmp_path):
    np.savez(tmp_path / "points.npz", xstar=np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(tmp_path / "points.npz")


def test_a_file_of_a_later_format_is_a_value_error(tmp_path):
    np.savez(tmp_path / "points.npz", slowpoints_format=np.array(99))
    with pytest.raises(ValueError, match="format 99"):
        FixedPoints.load(tmp_path / "points.npz")


# ---- as a pytree -------------------------------------------------------------------------------


def test_flattening_and_back_changes_nothing():
    fps = full(tol_unique=0.5, dtype=np.float64)
    leaves, structure = jax.tree.flatten(fps)
    back = jax.tree.unflatten(structure, leaves)
    assert leaves_equal(back, fps)
    assert (back.tol_unique, back.dtype) == (0.5, np.float64)
    assert len(leaves) == len(SHAPES)


def test_missing_fields_are_no_leaves():
    assert len(jax.tree.leaves(FixedPoints(xstar=np.zeros((2, 2))))) == 1


def test_leaves_go_by_the_names_of_the_fields():
    paths, _ = jax.tree_util.tree_flatten_with_path(full())
    assert {jax.tree_util.keystr(path) for path, _ in paths} == {f".{name}" for name in SHAPES}


def test_the_settings_are_part_of_the_structure():
    assert jax.tree.structure(full()) != jax.tree.structure(full(tol_unique=0.5))
    assert jax.tree.structure(full()) != jax.tree.structure(full(continuous_time=True))


def test_it_passes_through_jit():
    fps = jax_backed()
    assert leaves_equal(jax.jit(lambda fps: fps)(fps), fps)
    assert leaves_equal(jax.jit(lambda fps: fps[1:3])(fps), fps[1:3])


def test_it_passes_through_vmap():
    stack = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), jax_backed())
    one_each = jax.vmap(lambda fps: fps[0])(stack)
    np.testing.assert_array_equal(one_each.xstar[:, 0], jax_backed().xstar[jnp.array([0, -1])])


def test_a_traced_function_may_make_one():
    made = jax.jit(lambda x: FixedPoints(xstar=x, qstar=x.sum(axis=1)))(jnp.ones((4, 2)))
    assert made.n == 4 and made.qstar.tolist() == [2.0] * 4


def test_a_truncated_file_is_a_value_error(tmp_path):
    path = tmp_path / "points.npz"
    full().save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"points\.npz"):
            FixedPoints.load(path)


@pytest.mark.slow
def test_a_damaged_file_is_a_value_error_or_harmless(tmp_path):
    """Some bytes of an archive mean nothing; the others must not raise anything else."""
    path = tmp_path / "points.npz"
    full().save(path)
    content = path.read_bytes()
    for place in range(0, len(content), 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            assert leaves_equal(FixedPoints.load(path), full())
        except ValueError as error:
            assert "points.npz" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        {"slowpoints_format": 1},
        {"slowpoints_format": 1, "tol_unique": 1e-3, "dtype": "float32", "unknown": np.ones(2)},
        {"slowpoints_format": 1, "tol_unique": 1e-3, "dtype": "no type"},
        {"slowpoints_format": [1, 2], "tol_unique": 1e-3, "dtype": "float32"},
    ],
)
def test_an_archive_with_other_contents_is_a_value_error(tmp_path, data):
    np.savez(tmp_path / "points.npz", **data)
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(tmp_path / "points.npz")


def test_an_array_file_is_a_value_error(tmp_path):
    with open(tmp_path / "points.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(tmp_path / "points.npz")


@both_backings
def test_an_array_that_is_a_number_keeps_the_row_axis(make):
    """Such as `jnp.argmin` returns."""
    fps = make()
    for index in (np.array(1), jnp.array(1), np.asarray(fps.qstar).argmin(), jnp.argmin(fps.qstar)):
        assert fps[index].n == 1


def test_float64_jacobians_are_decomposed_in_float64():
    """Whatever the global setting: the finder hands them out with x64 off."""
    J = np.array([[[0.5, 1.0], [0.0, 0.5 + 1e-9]]])
    fps = FixedPoints(xstar=np.zeros((1, 2)), J_xstar=J, dtype=np.float64).decompose_jacobians()
    assert fps.eigval_J_xstar.dtype == np.complex128
    np.testing.assert_allclose(fps.eigval_J_xstar[0], [0.5 + 1e-9, 0.5], rtol=1e-12)


# ---- the order of a table ----------------------------------------------------------------------


def out_of_order():
    """Return points of two conditions, of which the last row is not valid."""
    eigval = np.array([[1.5, 1.2], [0.5, 0.1], [1.5, 0.1], [0.4, 0.1], [0.3, 0.1], [0.2, 0.1]])
    return FixedPoints(
        xstar=np.arange(12.0).reshape(6, 2),
        qstar=np.array([1e-9, 3e-9, 1e-9, 2e-9, 1e-9, 0.0]),
        eigval_J_xstar=eigval + 0j,
        is_stable=np.abs(eigval).max(axis=1) < 1,
        cond_id=np.array([7, 7, 7, 7, 2, 2]),
        valid=np.arange(6) < 5,
    )


def test_points_are_sorted_by_condition_stability_index_and_q():
    fps = out_of_order()
    np.testing.assert_array_equal(fps.sorted().xstar, fps.xstar[[4, 3, 1, 2, 0, 5]])
    np.testing.assert_array_equal(fps.sorted().valid, [True] * 5 + [False])
    unlabelled = fps.replace(cond_id=None, valid=None)
    np.testing.assert_array_equal(unlabelled.sorted().xstar, fps.xstar[[5, 4, 3, 1, 2, 0]])
    neither = FixedPoints(xstar=fps.xstar, qstar=fps.qstar)
    np.testing.assert_array_equal(neither.sorted().xstar, fps.xstar[[5, 0, 2, 4, 3, 1]])
    np.testing.assert_array_equal(FixedPoints(xstar=fps.xstar).sorted().xstar, fps.xstar)
    assert FixedPoints().sorted().n == 0


def test_the_table_is_sorted_under_the_numbers_of_the_rows(capsys):
    out_of_order().print_summary(max_rows=4)
    lines = capsys.readouterr().out.splitlines()
    header = next(i for i, line in enumerate(lines) if "|eigenvalue|" in line)
    rows = [line.split()[:2] for line in lines[header + 1 : header + 5]]
    assert rows == [["4", "2"], ["3", "7"], ["1", "7"], ["2", "7"]]
    assert lines[header + 5] == "... and 1 more"
