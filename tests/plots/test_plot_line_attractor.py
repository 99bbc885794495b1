"""`plot_line_attractor`: a curve that is known, its vectors, and what happens along it."""

from dataclasses import replace

import equinox as eqx
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from slowpoints import FixedPoints, PlotConfig, Status, line_attractor, plot_line_attractor

matplotlib.use("Agg")

N = 24
T = np.linspace(-1, 1, N)
# Along a straight line in the plane of the first two of five states, at 45 degrees.
X = np.zeros((N, 5))
X[:, 0] = X[:, 1] = T


def straight(**changes):
    """Return a line along which deviations last, are read by another vector, and drift inwards."""
    r = np.array([1, 1, 0, 0, 0]) / np.sqrt(2)
    reads = np.array([np.sqrt(2), 0, 1, 0, 0])  # reads @ r == 1
    J = np.array([(0.99 if t < 0 else 1.01) * np.outer(r, reads) for t in T])
    J = J + 0.1 * np.diag([0, 0, 0, 1, 1])
    F_x = X - 0.01 * T[:, None] * r
    fields = {"xstar": X, "F_xstar": F_x, "J_xstar": J, "dtype": np.float64}
    return line_attractor(FixedPoints(**(fields | changes)), toward=r)


LINE = straight()


def drawn(line=LINE, **options):
    fig = plot_line_attractor(line, PlotConfig(show=False), **options)
    fig.draw_without_rendering()
    return fig


def panels(fig):
    """Return the axes of the plane, of the drift and of the time constants."""
    by_label = {ax.get_ylabel().split("\n")[0]: ax for ax in fig.axes}
    drift, lasting = by_label.pop("drift"), by_label.pop("time constant")
    (plane,) = by_label.values()
    return plane, drift, lasting


def segments(ax, color):
    return np.array(
        [
            np.stack(a.get_data(), axis=1)
            for a in ax.lines
            if a.get_color() == color and a.get_xdata().size
        ]
    )


def legend(fig):
    (found,) = fig.legends
    return [text.get_text() for text in found.get_texts()]


def points(ax):
    kinds = [a for a in ax.collections if isinstance(a, PathCollection)]
    return {a.get_label(): np.asarray(a.get_offsets()) for a in kinds}


def test_points_without_a_drift_are_counted_and_leave_no_gap():
    drift = np.where(np.arange(N) == 9, np.nan, LINE.drift)
    _, ax, _ = panels(drawn(eqx.tree_at(lambda line: line.drift, LINE, drift)))
    (line,) = (a for a in ax.lines if a.get_marker() == ".")
    assert line.get_xdata().size == N - 1 and np.isfinite(line.get_ydata()).all()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["not known, not drawn (1)"]
    assert panels(drawn())[1].get_legend() is None


ROTATED = np.eye(5)[:, :2]


def test_points_and_the_curve_are_projected():
    plane, _, _ = panels(drawn(projection=ROTATED))
    (shown,) = points(plane).values()
    np.testing.assert_allclose(shown, X[:, :2], atol=1e-12)
    curve = next(a for a in plane.lines if a.get_label() == "curve")
    np.testing.assert_allclose(np.stack(curve.get_data(), axis=1), X[:, :2], atol=1e-6)
    assert plane.get_aspect() == 1 and plane.get_xlabel() == "projection 1"


def test_the_plane_is_that_of_the_principal_components_of_the_points():
    plane, _, _ = panels(drawn())
    (shown,) = points(plane).values()
    np.testing.assert_allclose(np.abs(shown[:, 0]), np.abs(T) * np.sqrt(2), atol=1e-9)
    np.testing.assert_allclose(shown[:, 1], 0, atol=1e-9)
    assert plane.get_xlabel() == "PC 1 (100.0 %)"


def test_segments_are_the_eigenvectors_and_the_selection_vectors_of_norm_one():
    plane, _, _ = panels(drawn(projection=ROTATED))
    ways = {}
    for color in ("#E58FBF", "#00573F"):
        ends = segments(plane, color)
        assert ends.shape == (8, 2, 2)
        middle = ends.mean(axis=1)
        away = np.linalg.norm(middle[:, None] - X[:, :2], axis=-1).min(axis=1)
        np.testing.assert_allclose(away, 0, atol=1e-9)  # each through one of the points
        assert np.linalg.norm(middle[0] - middle[-1]) > 2  # and all along the line
        ways[color] = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(ways["#E58FBF"], axis=1)
    np.testing.assert_allclose(length, 0.22 * 2, rtol=1e-6)  # all of it is in the plane
    np.testing.assert_allclose(ways["#E58FBF"][:, 0], ways["#E58FBF"][:, 1], atol=1e-9)
    # (sqrt(2), 0, 1) of norm 1: along the first axis, and a part of it outside the plane.
    np.testing.assert_allclose(ways["#00573F"][:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(ways["#00573F"][:, 0] / length, np.sqrt(2 / 3), rtol=1e-5)


def test_drift_and_time_constants_are_drawn_against_the_place():
    _, drift, lasting = panels(drawn())
    curve = next(a for a in drift.lines if len(a.get_xdata()) == N)
    np.testing.assert_allclose(curve.get_xdata(), LINE.arclength)
    np.testing.assert_allclose(curve.get_ydata(), LINE.drift)
    assert curve.get_ydata()[0] > 0 > curve.get_ydata()[-1]
    decays, grows = (
        next(a for a in lasting.lines if a.get_label() == label) for label in ("decays", "grows")
    )
    np.testing.assert_allclose(decays.get_ydata(), -1 / np.log(0.99), rtol=1e-6)
    np.testing.assert_allclose(grows.get_ydata(), 1 / np.log(1.01), rtol=1e-6)
    assert len(decays.get_xdata()) == len(grows.get_xdata()) == N // 2
    assert grows.get_markerfacecolor() == "white" and lasting.get_yscale() == "log"
    assert drift.get_xlim() == lasting.get_xlim()


def test_points_have_the_marks_of_their_kinds():
    status = np.where(np.arange(N) < 5, Status.FIXED_POINT, Status.SLOW_POINT)
    stable = np.arange(N) < 5
    plane, _, _ = panels(drawn(straight(status=status, is_stable=stable)))
    assert set(points(plane)) == {"stable fixed point (5)", f"slow point ({N - 5})"}


def test_points_off_the_curve_are_ringed_and_left_out_along_it():
    on = np.arange(N) != 3
    line = eqx.tree_at(lambda a: a.is_on_curve, LINE, on)
    fig = drawn(line, projection=ROTATED)
    plane, drift, lasting = panels(fig)
    np.testing.assert_allclose(points(plane)["not on the curve (1)"], X[3:4, :2])
    assert max(len(a.get_xdata()) for a in drift.lines) == N - 1
    assert sum(len(a.get_xdata()) for a in lasting.lines) == N - 1
    curve = next(a for a in plane.lines if a.get_label() == "curve")
    assert len(curve.get_xdata()) == N - 1


def test_where_no_point_is_on_the_curve_all_are_drawn():
    line = eqx.tree_at(lambda a: a.is_on_curve, LINE, np.zeros(N, bool))
    _, drift, _ = panels(drawn(line))
    assert max(len(a.get_xdata()) for a in drift.lines) == N


def test_modes_that_turn_have_no_selection_vector_and_that_is_said():
    selection = LINE.selection.copy()
    selection[: N // 2] = np.nan
    line = eqx.tree_at(lambda a: a.selection, LINE, selection)
    fig = drawn(line)
    assert "selection vector (not of 4 complex pairs)" in legend(fig)
    assert len(segments(panels(fig)[0], "#00573F")) == 4


def test_time_constants_that_are_infinite_are_counted():
    lasts = LINE.time_constant.copy()
    lasts[:3] = np.inf
    _, _, lasting = panels(drawn(eqx.tree_at(lambda a: a.time_constant, LINE, lasts)))
    words = [text.get_text() for text in lasting.get_legend().get_texts()]
    assert "infinite, not drawn (3)" in words


def test_a_ring_is_closed():
    angle = 2 * np.pi * np.arange(30) / 30
    x = np.pad(np.stack([np.cos(angle), np.sin(angle)], axis=1), ((0, 0), (0, 1)))
    J = np.tile(np.diag([0.9, 0.8, 0.1]), (30, 1, 1))
    ring = line_attractor(FixedPoints(xstar=x, F_xstar=x, J_xstar=J))
    fig = drawn(ring)
    plane, _, _ = panels(fig)
    curve = next(a for a in plane.lines if a.get_label() == "curve")
    assert len(curve.get_xdata()) == 31 and curve.get_xdata()[0] == curve.get_xdata()[-1]
    assert plane.get_title().startswith("Ring of length 6.")


# ---- angles along rings --------------------------------------------------------------------------

THETA = 2 * np.pi * np.arange(60) / 60
OMEGA = 0.01 * np.sin(3 * THETA)
"""By how much a step turns the state: it comes to rest at 60, 180 and -60 degrees."""


def ring(center=(0.0, 0.0, 0.0), radius=1.0):
    """Return a ring in the plane of the first two of three states."""
    zero = np.zeros_like(THETA)
    out = np.stack([np.cos(THETA), np.sin(THETA), zero], axis=1)
    tangent = np.stack([-np.sin(THETA), np.cos(THETA), zero], axis=1)
    after = THETA + OMEGA
    F_x = np.stack([np.cos(after), np.sin(after), zero], axis=1)
    J = 0.99 * tangent[:, :, None] * tangent[:, None] + 0.2 * out[:, :, None] * out[:, None]
    x, F_x = (np.array(center) + radius * places for places in (out, F_x))
    return line_attractor(FixedPoints(xstar=x, F_xstar=F_x, J_xstar=J))


def drift_of(fig):
    """Return the places and the drift that are drawn, and the axes."""
    _, ax, lasting = panels(fig)
    (line,) = (a for a in ax.lines if a.get_marker() == ".")
    return line.get_xdata(), line.get_ydata(), ax, lasting


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (30.0, -20.0, 5.0)])
@pytest.mark.parametrize("radius", [1.0, 1e-3])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_along_a_ring_places_and_drift_are_in_degrees(center, radius, is_mirrored):
    line = ring(np.array(center) * radius, radius)
    plane = np.eye(3)[:, [1, 0] if is_mirrored else [0, 1]]
    at, drift, ax, lasting = drift_of(drawn(line, projection=plane))
    angle = np.angle(np.exp(1j * (np.pi / 2 - THETA if is_mirrored else THETA)))
    expected = np.degrees(-OMEGA if is_mirrored else OMEGA)
    for place, value in zip(at, drift, strict=True):
        away = np.angle(np.exp(1j * (np.radians(place) - angle)))
        assert abs(away).min() < 1e-6
        assert value == pytest.approx(expected[abs(away).argmin()], abs=1e-3)
    assert (np.diff(at) > 0).all() and len(at) == 60
    assert ax.get_ylabel() == "drift\n(degrees per step)"
    assert lasting.get_xlabel() == "angle in the plane (degrees)"
    assert ax.get_xlim() == lasting.get_xlim() == (-180, 180)
    (marks,) = (a for a in lasting.lines if a.get_label() == "decays")
    assert len(marks.get_xdata()) == 60


def test_angles_are_those_of_the_plane_that_is_asked_for():
    """The drift in a plane that is not square to the ring is that of the angles there."""
    plane = np.array([[2.0, 0], [0, 1], [0, 0]])
    at, drift, _, _ = drift_of(drawn(ring(), projection=plane))
    turn = np.exp(1j * THETA), np.exp(1j * (THETA + OMEGA))
    now, after = (np.angle(2 * z.real + 1j * z.imag) for z in turn)
    moved = np.degrees(np.angle(np.exp(1j * (after - now))))
    now = (np.degrees(now) + 1) % 360  # all around from -1 degree, whichever end 180 degrees are at
    order = np.argsort((at + 1) % 360)
    np.testing.assert_allclose((at[order] + 1) % 360, np.sort(now), atol=1e-6)
    np.testing.assert_allclose(drift[order], moved[np.argsort(now)], atol=5e-3)


def test_a_ring_that_winds_twice_in_the_plane_has_lengths():
    angle = 2 * np.pi * np.arange(200) / 200
    around = (2 + np.cos(angle))[:, None] * np.stack([np.cos(2 * angle), np.sin(2 * angle)], 1)
    x = np.concatenate([around, np.sin(angle)[:, None]], axis=1)
    J = np.tile(np.diag([0.9, 0.8, 0.1]), (200, 1, 1))
    line = line_attractor(FixedPoints(xstar=x, F_xstar=x, J_xstar=J))
    assert line.is_closed
    at, _, ax, lasting = drift_of(drawn(line, projection=np.eye(3)[:, :2]))
    np.testing.assert_allclose(at, line.arclength)
    assert ax.get_ylabel() == "drift\n(per step)"
    assert lasting.get_xlabel() == "place along the curve"


def test_lines_have_lengths_though_they_go_around_in_the_plane():
    angle = 1.5 * np.pi * np.arange(40) / 39
    x = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    J = np.tile(np.diag([0.9, 0.8, 0.1]), (40, 1, 1))
    line = line_attractor(FixedPoints(xstar=x, F_xstar=x, J_xstar=J))
    assert not line.is_closed
    at, *_ = drift_of(drawn(line))
    np.testing.assert_allclose(at, line.arclength)


# ---- points of a search --------------------------------------------------------------------------


def rests(fig):
    """Return where points are marked at a drift of 0, by colour."""
    ax = panels(fig)[1]
    kinds = [a for a in ax.collections if isinstance(a, PathCollection)]
    return {tuple(a.get_facecolor()[0]): np.asarray(a.get_offsets()) for a in kinds}


def test_points_of_a_search_are_drawn_instead_and_where_the_drift_is_0():
    along = np.array([0.31, -0.47])
    x = np.concatenate([along[:, None] * [1, 1, 0, 0, 0], [[0, 0, 5, 0, 0]]])
    x[0, 3] = 0.01  # next to the line
    found = FixedPoints(xstar=x, is_stable=np.array([True, False, True]))
    fig = drawn(projection=ROTATED, fixed_points=found)
    shown = points(panels(fig)[0])
    assert set(shown) == {"stable fixed point (2)", "unstable fixed point (1)"}
    np.testing.assert_allclose(shown["stable fixed point (2)"], x[[0, 2], :2])
    stable, unstable = rests(fig).values()  # the one that is far from the line has no place on it
    np.testing.assert_allclose(stable, [[np.sqrt(2) * 1.31, 0]], atol=1e-6)
    np.testing.assert_allclose(unstable, [[np.sqrt(2) * 0.53, 0]], atol=1e-6)


def test_without_points_of_a_search_none_are_marked_where_the_drift_is_0():
    assert rests(drawn()) == {}
    fig = drawn(fixed_points=FixedPoints(xstar=np.zeros((0, 5))))
    assert rests(fig) == {} and len(points(panels(fig)[0])) == 1  # the line's own


def test_slow_points_are_in_the_plane_and_not_where_the_drift_is_0():
    x = np.array([[0.3, 0.3, 0, 0, 0], [-0.4, -0.4, 0, 0, 0]])
    found = FixedPoints(xstar=x, status=np.array([Status.FIXED_POINT, Status.SLOW_POINT]))
    fig = drawn(projection=ROTATED, fixed_points=found)
    assert len(points(panels(fig)[0])) == 2
    (marked,) = rests(fig).values()
    np.testing.assert_allclose(marked, [[np.sqrt(2) * 1.3, 0]], atol=1e-6)


def test_points_on_a_ring_are_at_their_angles():
    angle = np.radians([60, 180, -60, 1])
    x = 3 + 2 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    found = FixedPoints(xstar=x, is_stable=np.arange(4) < 3)
    fig = drawn(ring((3.0, 3, 3), 2.0), projection=np.eye(3)[:, :2], fixed_points=found)
    stable, unstable = rests(fig).values()
    at = np.abs(stable[:, 0])
    np.testing.assert_allclose(at, [60, 180, 60], atol=0.05)
    np.testing.assert_allclose(unstable, [[1, 0]], atol=0.05)


# ---- axes that are given, and sizes --------------------------------------------------------------


def test_the_left_panel_is_drawn_on_axes_that_are_given(tmp_path):
    fig = Figure()
    ax = fig.add_subplot(1, 2, 2)
    config = PlotConfig(show=False, save_path=tmp_path / "a.png")
    found = FixedPoints(xstar=X[:2], is_stable=np.ones(2, bool))
    options = {"projection": ROTATED, "fixed_points": found, "ax": ax}
    assert plot_line_attractor(LINE, config, **options) is fig
    assert fig.axes == [ax] and ax.get_title() == "" and list(tmp_path.iterdir()) == []
    np.testing.assert_allclose(points(ax)["stable fixed point (2)"], X[:2, :2])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[:3] == ["curve", "right eigenvector", "selection vector"]
    assert ax.get_xlabel() == "projection 1"
    other = fig.add_subplot(1, 2, 1)
    plot_line_attractor(LINE, PlotConfig(show=False, title="T", show_legend=False), ax=other)
    assert other.get_title() == "T" and other.get_legend() is None


def test_a_column_is_higher_for_three_panels_unless_its_size_is_given():
    column = PlotConfig.for_column(show=False)
    width, height = plot_line_attractor(LINE, column).get_size_inches()
    assert (width, height) == pytest.approx((column.figsize[0], 1.6 * column.figsize[1]))
    given = PlotConfig.for_column(show=False, figsize=(3.3, 3.5))
    assert plot_line_attractor(LINE, given).get_size_inches().tolist() == [3.3, 3.5]


def test_directions_have_their_names_and_pairs_are_states():
    directions = {"choice": np.eye(5)[1], "motion": np.eye(5)[2]}
    traj = np.random.default_rng(0).normal(size=(3, 7, 5))
    pair = (traj[..., :2], traj[..., 2:])
    plane, _, _ = panels(drawn(projection=directions, state_traj=pair))
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("choice", "motion")
    paths = [np.stack(a.get_data(), axis=1) for a in plane.lines if len(a.get_xdata()) == 7]
    np.testing.assert_allclose(paths, traj[..., 1:3])


def test_trajectories_are_drawn_behind():
    traj = np.random.default_rng(0).normal(size=(3, 7, 5))
    plane, _, _ = panels(drawn(projection=ROTATED, state_traj=traj))
    paths = [np.stack(a.get_data(), axis=1) for a in plane.lines if len(a.get_xdata()) == 7]
    np.testing.assert_allclose(paths, traj[..., :2])
    assert plane.lines[0].get_label() == "trajectories (3)"


def test_narrow_figures_have_their_panels_above_each_other():
    config = PlotConfig.for_column(show=False, figsize=(3.35, 6), title="T", xlabel="X", ylabel="Y")
    fig = plot_line_attractor(LINE, config)
    fig.draw_without_rendering()
    drift, plane, lasting = (ax.get_position() for ax in fig.axes)
    assert plane.y0 > drift.y1 > drift.y0 > lasting.y1
    ax = fig.axes[1]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("T", "X", "Y")
    bare = replace(config, show_legend=False, title=None)
    assert plot_line_attractor(LINE, bare).legends == []


@pytest.mark.parametrize(("ratio", "is_long"), [(1.9, False), (2.1, True)])
def test_a_plane_twice_as_long_as_high_is_drawn_across_the_figure(ratio, is_long):
    x = X * [ratio, 1, 0, 0, 0]
    line = straight(xstar=x, F_xstar=x)
    plane, drift, lasting = panels(drawn(line, projection=ROTATED))
    boxes = [ax.get_position() for ax in (plane, drift, lasting)]
    below = [box.y1 < boxes[0].y0 for box in boxes[1:]]
    assert below == [is_long, is_long]
    assert (boxes[1].x1 < boxes[2].x0) == is_long
    assert drift.get_xlabel() == ("place along the curve" if is_long else "")
    # One unit is equally long along both axes.
    box, (left, right), (low, high) = plane.bbox, plane.get_xlim(), plane.get_ylim()
    assert box.width / (right - left) == pytest.approx(box.height / (high - low))


@pytest.mark.parametrize(
    ("lasts", "expected"),
    [((300, 800), (1e2, 1e3)), ((1300, 70000), (1e3, 1e5)), ((500, 20000), None)],
)
def test_time_constants_have_two_powers_of_ten_in_view_and_labels_at_these(lasts, expected):
    line = eqx.tree_at(lambda a: a.time_constant, LINE, np.geomspace(*lasts, N))
    _, _, lasting = panels(drawn(line))
    low, high = lasting.get_ylim()
    if expected is None:
        assert 250 < low < 500 and 2e4 < high < 4e4
    else:
        assert (low, high) == pytest.approx(expected)
    assert not any(label.get_text() for label in lasting.get_yticklabels(minor=True))


def test_the_key_of_time_constants_is_above_their_axes():
    _, _, lasting = panels(drawn())
    assert lasting.get_legend().get_window_extent().y0 >= lasting.bbox.y1


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"line": FixedPoints()},
            r"`line` is a .*FixedPoints; expected a slowpoints.LineAttractor",
        ),
        ({"projection": np.ones((4, 2))}, r"`projection` has shape \(4, 2\); expected \(5, 2\)"),
        ({"projection": np.full((5, 2), np.nan)}, r"`projection` holds 10 values"),
        ({"state_traj": np.ones((2, 3, 4))}, r"`state_traj` has 4 columns, .*; expected 5, the"),
        (
            {"state_traj": np.ones((2, 3, 1, 5))},
            r"expected .*, n_states\); `.*flatten`",
        ),
        (
            {"state_traj": np.full((2, 3, 5), np.nan)},
            "plot_line_attractor: `state_traj`, .*not fin",
        ),
        ({"fixed_points": X}, "`fixed_points` is .*; expected a slowpoints.FixedPoints or None"),
        (
            {"fixed_points": FixedPoints(xstar=np.ones((2, 4)))},
            "`fixed_points` has 4 states; expected 5, as `line` has",
        ),
        ({"ax": 3}, "`ax` is 3; expected Axes of Matplotlib"),
        ({"projection": {"a": np.ones(5)}}, r"`projection` has 1 direction\(s\); expected 2"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plot_line_attractor(**({"line": LINE, "config": PlotConfig(show=False)} | arguments))


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("dt", "continuous_time", "drift", "time"),
    [
        (1.0, False, "per step", "steps"),
        (0.01, False, "per unit of `dt`", "unit of `dt`"),
        (1.0, True, "per unit of time of $f$", "unit of time of $f$"),
        (2.0, True, "per unit of `dt`", "unit of `dt`"),
    ],
)
def test_axes_say_what_times_are_in(dt, continuous_time, drift, time):
    points = LINE.points.replace(continuous_time=continuous_time)
    line = eqx.tree_at(lambda a: (a.points, a.dt), LINE, (points, dt))
    labels = [ax.get_ylabel() for ax in drawn(line).axes]
    assert f"drift\n({drift})" in labels and f"time constant\n({time})" in labels
    labels = [ax.get_ylabel() for ax in drawn(line, unit="ms").axes]
    assert "drift\n(per ms)" in labels and "time constant\n(ms)" in labels
