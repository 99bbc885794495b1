"""`plot_account`: bars that add up to all rows, and every row drawn or counted."""

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from slowpoints import FixedPoints, PlotConfig, Status, account, plot_account
from slowpoints._drawing.marks import groups_of
from slowpoints._plots.search_account import _MARKS

matplotlib.use("Agg")


def rows(**changes):
    """Return ten rows: six at two fixed points, two at a slow point, and two lost ones."""
    x = np.float32([[0, 0]] * 3 + [[1, 0]] * 3 + [[0, 1]] * 2 + [[5, 5], [np.nan] * 2])
    fields = {
        "xstar": x,
        "qstar": np.float32([1e-14] * 5 + [0] + [1e-6, 2e-6, 1e-3, np.nan]),
        "n_iters": np.array([3, 4, 5, 6, 7, 0, 30, 40, 5000, 1]),
        "status": np.array([1] * 6 + [2] * 2 + [5, 6], np.int8),
    }
    return FixedPoints(**(fields | changes))


KEPT = FixedPoints(xstar=np.float32([[0, 0], [1, 0]]), status=np.array([1, 1]))


def drawn(all_fps=None, unique_fps=KEPT, **options):
    fig = plot_account(
        unique_fps, rows() if all_fps is None else all_fps, PlotConfig(show=False), **options
    )
    fig.draw_without_rendering()
    return fig


def bars(ax):
    """Return the length of each bar, and the words that belong to it."""
    return dict(
        zip([t.get_text() for t in ax.texts], [p.get_width() for p in ax.patches], strict=True)
    )


def legend(fig):
    (found,) = fig.legends
    return [text.get_text() for text in found.get_texts()]


def marks(ax):
    """Return what was drawn as rows, `[k, 2]` for each kind."""
    kinds = [a for a in ax.collections if isinstance(a, PathCollection)]
    named = {a.get_label(): b for a, b in zip(kinds[::2], kinds[1::2], strict=True)}
    return {label: np.asarray(artist.get_offsets()) for label, artist in named.items()}


def test_bars_are_the_parts_of_the_account():
    fig = drawn()
    left, _ = fig.axes
    assert bars(left) == {
        "6 at 2 fixed points, kept": 6,
        "2 at 1 slow point, dropped by final_q_threshold": 2,
        "1 escaped": 1,
        "1 not finite": 1,
    }
    told = account(KEPT, rows())
    assert [p.get_width() for p in left.patches] == [part.n_rows for part in told.parts]
    assert left.get_xlim() == (0, 10) and left.get_title() == "10 starts, 2 points kept"
    tops = [p.get_y() for p in left.patches]
    assert tops == sorted(tops) and left.yaxis_inverted()
    hatched = [p.get_hatch() is not None for p in left.patches]
    assert hatched == [False, True, False, False]


def test_the_words_for_unfinished_rows_and_for_those_within_tolerance():
    status = np.array([3] * 6 + [4] * 2 + [5, 6], np.int8)
    assert list(bars(drawn(rows(status=status)).axes[0])) == [
        "6 stopped at q < tol_q, at 2 states, kept",
        "2 unfinished, dropped by final_q_threshold",
        "1 escaped",
        "1 not finite",
    ]


def test_rows_at_a_point_that_others_count_are_said_to_be_there():
    fps = rows()
    cut_off = fps[np.array([0])].replace(status=np.array([4], np.int8))
    words = list(bars(drawn(FixedPoints.concatenate([fps, cut_off])).axes[0]))
    assert "1 unfinished, already counted" in words


def test_every_row_is_drawn_or_counted():
    fig = drawn()
    _, right = fig.axes
    shown = marks(right)
    assert set(shown) == {"fixed point (6)", "slow point, dropped (2)", "escaped (1)"}
    np.testing.assert_allclose(shown["slow point, dropped (2)"], [[30, 1e-6], [40, 2e-6]])
    np.testing.assert_allclose(shown["escaped (1)"], [[5000, 1e-3]])
    assert right.get_xscale() == right.get_yscale() == "log"
    zero = 1e-17  # below the power of ten below 1e-14 as float32 has it
    assert shown["fixed point (6)"][-1] == pytest.approx([0.5, zero])
    words = legend(fig)
    assert "q = 0 (1)" in words and "q not finite, not drawn (1)" in words
    assert "no iteration, drawn at 0.5 (1)" in words
    (low, high), (bottom, top) = right.get_xlim(), right.get_ylim()
    for x, q in np.concatenate(list(shown.values())):
        assert low < x < high and bottom < q < top


@pytest.mark.slow_cases
@pytest.mark.parametrize("threshold", [1e-8, 1e-5, None])
def test_the_threshold_is_a_line_and_decides_what_is_dropped(threshold):
    kept = KEPT if threshold == 1e-8 else FixedPoints(xstar=np.float32([[0, 0], [1, 0], [0, 1]]))
    fig = drawn(unique_fps=kept, final_q_threshold=threshold)
    heights = [line.get_ydata()[0] for line in fig.axes[1].lines if line.get_linestyle() == "--"]
    assert heights == ([] if threshold is None else [threshold])
    dropped = any("dropped" in word for word in legend(fig))
    assert dropped == (threshold == 1e-8)


def test_marks_are_those_of_other_figures():
    codes = list(Status)[:4]
    for group in groups_of(FixedPoints(xstar=np.zeros((4, 2)), status=np.array(codes))):
        (row,) = np.flatnonzero(group.rows)
        marker, color = _MARKS[codes[row]]
        if codes[row] == Status.FIXED_POINT:  # of any stability: the mark of stable ones
            assert (marker, color) == ("o", "#0072B2")
        else:
            assert (marker, color) == (group.marker, group.color)
    assert len({marker for marker, _ in _MARKS.values()}) == len(Status)


def test_a_hundred_thousand_rows_are_an_image_and_rare_ones_stay_on_top():
    n = 100_000
    rng = np.random.default_rng(0)
    status = np.where(np.arange(n) % 1000 == 0, 4, 1).astype(np.int8)
    many = FixedPoints(
        xstar=np.zeros((n, 2), np.float32),
        qstar=10.0 ** rng.uniform(-16, -12, n),
        n_iters=rng.integers(3, 30, n),
        status=status,
    )
    one = FixedPoints(xstar=np.zeros((1, 2), np.float32))
    right = drawn(many, one).axes[1]
    kinds = [a for a in right.collections if isinstance(a, PathCollection) and len(a.get_offsets())]
    sizes = {len(a.get_offsets()): a for a in kinds}
    assert set(sizes) == {99_900, 100}
    assert sizes[99_900].get_rasterized() and not sizes[100].get_rasterized()
    assert sizes[100].get_zorder() > sizes[99_900].get_zorder()
    assert to_hex(sizes[100].get_facecolor()[0]) == "#4d4d4d"


@pytest.mark.parametrize(("width", "above"), [(3.3, True), (8.0, False)])
def test_panels_are_side_by_side_where_there_is_room(width, above):
    config = PlotConfig(show=False, figsize=(width, 4), title="T", xlabel="X", ylabel="Y")
    fig = plot_account(KEPT, rows(), config)
    fig.draw_without_rendering()
    first, second = (ax.get_position() for ax in fig.axes)
    assert (second.y1 < first.y0) == above and (second.x0 > first.x1) == (not above)
    assert fig.axes[0].get_title() == "T"
    assert (fig.axes[1].get_xlabel(), fig.axes[1].get_ylabel()) == ("X", "Y")
    assert plot_account(KEPT, rows(), PlotConfig(show=False, show_legend=False)).legends == []


def test_a_search_of_no_rows_has_a_figure():
    none = rows()[:0]
    fig = drawn(none, FixedPoints(xstar=np.zeros((0, 2), np.float32)))
    assert bars(fig.axes[0]) == {} and fig.axes[0].get_title() == "0 starts, 0 points kept"


@pytest.mark.checks_input
def test_bad_input_is_named():
    config = PlotConfig(show=False)
    with pytest.raises(ValueError, match=r"plot_account: `all_fps.n_iters` is None; expected"):
        plot_account(KEPT, rows(n_iters=None), config)
    with pytest.raises(ValueError, match=r"`all_fps.status` is None; expected"):
        plot_account(KEPT, rows(status=None), config)
    with pytest.raises(ValueError, match=r"`final_q_threshold` is -1"):
        plot_account(KEPT, rows(), config, final_q_threshold=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tol_q'"):
        plot_account(KEPT, rows(), config, tol_q=1)
